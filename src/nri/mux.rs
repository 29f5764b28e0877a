//! Several connections over one socket, as NRI does it: frames of connection number and
//! length, each four bytes with the highest first, and the payload.

use std::io::{self, ErrorKind, Read, Write};

use super::ttrpc;

/// The connection on which the runtime calls the plugin.
pub const PLUGIN: u32 = 1;
/// The connection on which the plugin calls the runtime.
pub const RUNTIME: u32 = 2;

const HEADER_BYTES: usize = 8;
/// No peer sends more in a frame than one message with its header.
const MOST_READ: usize = ttrpc::HEADER_BYTES + ttrpc::MOST_BYTES as usize;
/// What is sent in one frame. The peer reads through a buffer of this size, and a frame that
/// does not fit ends the connection.
const MOST_WRITTEN: usize = 4096;

/// Part of what is sent on one of the connections.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// Which connection.
    pub connection: u32,
    /// The bytes.
    pub payload: Vec<u8>,
}

/// The next frame; `None` at the end of the socket.
///
/// # Errors
/// `UnexpectedEof` if the end comes within a frame, `InvalidData` if it is longer than any
/// message, and what read(2) says.
pub fn read(socket: &mut impl Read) -> io::Result<Option<Frame>> {
    let mut connection = [0; 4];
    let mut length = [0; 4];
    if !filled(socket, &mut connection)? {
        return Ok(None);
    }
    socket.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length as usize > MOST_READ {
        let text = format!("a frame of {length} bytes");
        return Err(io::Error::new(ErrorKind::InvalidData, text));
    }
    let mut payload = Vec::new();
    // Room is made as bytes come, not as they are announced.
    let read = socket.take(length.into()).read_to_end(&mut payload)?;
    if read < length as usize {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(Frame {
        connection: u32::from_be_bytes(connection),
        payload,
    }))
}

/// Fills `bytes`; false at the end, if that comes before the first of them.
fn filled(socket: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    let mut first = [0];
    loop {
        match socket.read(&mut first) {
            Ok(0) => return Ok(false),
            Ok(_) => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if let Some((byte, rest)) = bytes.split_first_mut() {
        *byte = first[0];
        socket.read_exact(rest)?;
    }
    Ok(true)
}

/// Sends one message on a connection.
///
/// # Errors
/// What write(2) says.
pub fn write(socket: &mut impl Write, connection: u32, message: &[u8]) -> io::Result<()> {
    for payload in message.chunks(MOST_WRITTEN) {
        let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
        let mut frame = Vec::with_capacity(HEADER_BYTES + payload.len());
        frame.extend_from_slice(&connection.to_be_bytes());
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(payload);
        socket.write_all(&frame)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(mut bytes: &[u8]) -> io::Result<Vec<Frame>> {
        std::iter::from_fn(|| read(&mut bytes).transpose()).collect()
    }

    #[test]
    fn a_long_message_goes_in_frames_that_fit_the_peers_buffer() {
        let message = [7; 10_000];
        let mut sent = Vec::new();
        write(&mut sent, RUNTIME, &message).unwrap();
        let frames = read_all(&sent).unwrap();
        assert!(frames.iter().all(|frame| frame.connection == RUNTIME));
        let lengths: Vec<_> = frames.iter().map(|frame| frame.payload.len()).collect();
        assert_eq!(lengths, [4096, 4096, 1808]);
        assert_eq!(sent[..8], [0, 0, 0, 2, 0, 0, 16, 0]);
    }

    #[test]
    fn a_frame_that_is_cut_off_is_no_end() {
        let mut sent = Vec::new();
        write(&mut sent, PLUGIN, b"hello").unwrap();
        assert_eq!(read_all(&sent).unwrap().len(), 1);
        for length in 1..sent.len() {
            let error = read_all(&sent[..length]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{length} bytes");
        }
    }

    #[test]
    fn no_room_is_made_for_a_length_that_cannot_be() {
        let error = read_all(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        let mut longest = [0, 0, 0, 1].to_vec();
        longest.extend_from_slice(&u32::try_from(MOST_READ).unwrap().to_be_bytes());
        let error = read_all(&longest).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    }

    proptest! {
        #[test]
        fn garbage_comes_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = read_all(&bytes);
        }
    }
}
