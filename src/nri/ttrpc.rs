//! Calls over a connection: ttrpc, as containerd speaks it. A message has a header of length
//! and stream, four bytes each with the highest first, type, and flags.

use std::io;

use super::wire::{Fields, Malformed, Message};

/// Size of a header.
pub const HEADER_BYTES: usize = 10;
/// Most bytes in a message behind its header.
pub const MOST_BYTES: u32 = 4 << 20;

const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;

/// Codes of [`Status`], which are gRPC's.
pub mod code {
    /// The call cannot be understood.
    pub const INVALID_ARGUMENT: u64 = 3;
    /// There is no such method.
    pub const UNIMPLEMENTED: u64 = 12;
}

/// A whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Tells calls apart that are under way at the same time.
    pub stream: u32,
    kind: u8,
    body: Vec<u8>,
}

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
pub enum Call {
    /// A method is to be called.
    Request {
        /// Such as `nri.pkg.api.v1alpha1.Plugin`.
        service: String,
        /// Such as `Configure`.
        method: String,
        /// The argument.
        payload: Vec<u8>,
    },
    /// What a call has come to.
    Response(Result<Vec<u8>, Status>),
    /// Part of a stream, of which NRI has none.
    Other,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// One of gRPC's codes.
    pub code: u64,
    /// A sentence.
    pub message: String,
}

impl Envelope {
    /// What it says.
    ///
    /// # Errors
    /// [`Malformed`] if it says nothing.
    pub fn open(&self) -> Result<Call, Malformed> {
        match self.kind {
            REQUEST => self.request(),
            RESPONSE => self.response(),
            _ => Ok(Call::Other),
        }
    }

    fn request(&self) -> Result<Call, Malformed> {
        let (mut service, mut method, mut payload) = (String::new(), String::new(), Vec::new());
        for field in Fields::of(&self.body) {
            match field? {
                (1, value) => service = value.text().into_owned(),
                (2, value) => method = value.text().into_owned(),
                (3, value) => payload = value.bytes().to_vec(),
                _ => {}
            }
        }
        Ok(Call::Request {
            service,
            method,
            payload,
        })
    }

    fn response(&self) -> Result<Call, Malformed> {
        let (mut status, mut payload) = (None, Vec::new());
        for field in Fields::of(&self.body) {
            match field? {
                (1, value) => status = Some(parse_status(value.bytes())?),
                (2, value) => payload = value.bytes().to_vec(),
                _ => {}
            }
        }
        let failed = status.filter(|status| status.code != 0);
        Ok(Call::Response(failed.map_or(Ok(payload), Err)))
    }
}

fn parse_status(bytes: &[u8]) -> Result<Status, Malformed> {
    let mut status = Status {
        code: 0,
        message: String::new(),
    };
    for field in Fields::of(bytes) {
        match field? {
            (1, value) => status.code = value.number(),
            (2, value) => status.message = value.text().into_owned(),
            _ => {}
        }
    }
    Ok(status)
}

/// The bytes of a request. Streams of callers have odd numbers.
#[must_use]
pub fn request(stream: u32, service: &str, method: &str, payload: &[u8]) -> Vec<u8> {
    let body = Message::default()
        .text(1, service)
        .text(2, method)
        .bytes(3, payload);
    message(stream, REQUEST, body)
}

/// The bytes of a response to a request with the same number of stream.
#[must_use]
pub fn response(stream: u32, result: &Result<Vec<u8>, Status>) -> Vec<u8> {
    let body = match result {
        Ok(payload) => Message::default().bytes(2, payload),
        Err(status) => {
            let status = Message::default()
                .number(1, status.code)
                .text(2, &status.message);
            Message::default().message(1, status)
        }
    };
    message(stream, RESPONSE, body)
}

fn message(stream: u32, kind: u8, body: Message) -> Vec<u8> {
    let body = body.into_bytes();
    // What a plugin says is far below four gigabytes.
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(&[kind, 0]);
    bytes.extend_from_slice(&body);
    bytes
}

/// Puts the messages of one connection together from the pieces in which they come.
#[derive(Debug, Default)]
pub struct Pieces(Vec<u8>);

impl Pieces {
    /// Adds what came.
    pub fn add(&mut self, piece: &[u8]) {
        self.0.extend_from_slice(piece);
    }

    /// Takes the next message, if all of it is there.
    ///
    /// # Errors
    /// `InvalidData` if it is longer than any message may be.
    pub fn next(&mut self) -> io::Result<Option<Envelope>> {
        let Some((header, rest)) = self.0.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let [l0, l1, l2, l3, s0, s1, s2, s3, kind, _flags] = *header;
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        if length > MOST_BYTES {
            let text = format!("a message of {length} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let Some(body) = rest.get(..length as usize) else {
            return Ok(None);
        };
        let envelope = Envelope {
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            kind,
            body: body.to_vec(),
        };
        self.0.drain(..HEADER_BYTES + envelope.body.len());
        Ok(Some(envelope))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn opened(bytes: &[u8]) -> (u32, Call) {
        let mut pieces = Pieces::default();
        pieces.add(bytes);
        let envelope = pieces.next().unwrap().expect("a message");
        assert_eq!(pieces.next().unwrap(), None);
        (envelope.stream, envelope.open().unwrap())
    }

    #[test]
    fn a_request_has_the_form_that_containerd_sends() {
        let bytes = request(1, "s", "m", b"p");
        assert_eq!(
            bytes,
            *b"\x00\x00\x00\x09\x00\x00\x00\x01\x01\x00\x0a\x01s\x12\x01m\x1a\x01p"
        );
        let call = Call::Request {
            service: "s".to_owned(),
            method: "m".to_owned(),
            payload: b"p".to_vec(),
        };
        assert_eq!(opened(&bytes), (1, call));
    }

    #[test]
    fn responses_carry_a_result_or_a_status() {
        let good = Ok(b"abc".to_vec());
        assert_eq!(
            opened(&response(3, &good)),
            (3, Call::Response(good.clone()))
        );
        let bad = Err(Status {
            code: code::UNIMPLEMENTED,
            message: "no such method".to_owned(),
        });
        assert_eq!(opened(&response(5, &bad)), (5, Call::Response(bad.clone())));
        // An empty status means success, and flags and other types mean nothing to us.
        let fine = b"\0\0\0\x02\0\0\0\x01\x02\x00\x0a\x00";
        assert_eq!(opened(fine), (1, Call::Response(Ok(vec![]))));
        let data = b"\0\0\0\x01\0\0\0\x01\x03\x07x";
        assert_eq!(opened(data), (1, Call::Other));
    }

    #[test]
    fn a_message_that_is_too_long_is_refused_at_its_header() {
        let mut pieces = Pieces::default();
        pieces.add(b"\x00\x40\x00\x01\0\0\0\x01\x01\x00");
        assert_eq!(
            pieces.next().unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }

    #[test]
    fn a_body_that_is_no_message_is_malformed() {
        let mut pieces = Pieces::default();
        pieces.add(b"\0\0\0\x02\0\0\0\x01\x01\x00\x0a\x09");
        let envelope = pieces.next().unwrap().unwrap();
        assert_eq!(envelope.open(), Err(Malformed));
    }

    proptest! {
        #[test]
        fn messages_come_out_whole_however_they_are_cut(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..5),
            size in 1usize..50,
        ) {
            let bytes: Vec<u8> = payloads
                .iter()
                .zip(1..)
                .flat_map(|(payload, stream)| response(stream, &Ok(payload.clone())))
                .collect();
            let mut pieces = Pieces::default();
            let mut out = Vec::new();
            for piece in bytes.chunks(size) {
                pieces.add(piece);
                while let Some(envelope) = pieces.next().unwrap() {
                    prop_assert_eq!(envelope.stream as usize, out.len() + 1);
                    match envelope.open() {
                        Ok(Call::Response(Ok(payload))) => out.push(payload),
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
            }
            prop_assert_eq!(out, payloads);
        }

        #[test]
        fn garbage_comes_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut pieces = Pieces::default();
            pieces.add(&bytes);
            while let Ok(Some(envelope)) = pieces.next() {
                let _ = envelope.open();
            }
        }
    }
}
