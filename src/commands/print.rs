//! What commands print for people.

use std::io::{self, ErrorKind, Write};

/// Writes to standard output.
///
/// # Errors
/// What writing fails with, unless somebody has read as much as he wanted to.
pub fn print(text: impl AsRef<[u8]>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let printed = out.write_all(text.as_ref()).and_then(|()| out.flush());
    unless_enough(printed)
}

/// A reader that wants no more, such as head(1), is no failure of what is printed.
///
/// # Errors
/// All other failures.
pub fn unless_enough(printed: io::Result<()>) -> io::Result<()> {
    match printed {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
