//! Which system a thread takes itself to run on (personality(2)).

use std::io;

use nix::errno::Errno;

/// Makes the calling thread a 32-bit one as far as the kernel's files go.
///
/// # Errors
/// What personality(2) says.
pub fn become_linux32() -> io::Result<()> {
    const PER_LINUX32: libc::c_ulong = 0x0008;
    // SAFETY: the call takes a number and changes the calling thread only.
    Errno::result(unsafe { libc::personality(PER_LINUX32) })?;
    Ok(())
}
