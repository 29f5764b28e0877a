//! Files of the kernel's that read differently for 32-bit programs (personality(2)).

use std::fs;
use std::io;
use std::path::Path;
use std::thread;

use crate::sys::personality::become_linux32;

/// Whether `/proc/cpuinfo` does: on arm64 only (arch/arm64/kernel/cpuinfo.c), where
/// `Features` then has the names of 32-bit ARM and each record a `model name`.
pub(super) const CPUINFO_DIFFERS: bool = cfg!(target_arch = "aarch64");

/// `PER_LINUX32`, and the bits of a personality that tell of it.
const PER_LINUX32: u32 = 0x0008;
const PER_MASK: u32 = 0x00ff;

/// Whether the content of `/proc/TID/personality` is that of a 32-bit program.
pub(super) fn is_linux32(text: &str) -> bool {
    u32::from_str_radix(text.trim(), 16).is_ok_and(|bits| bits & PER_MASK == PER_LINUX32)
}

/// Reads a file as a 32-bit program finds it.
///
/// # Errors
/// What personality(2), open(2) and read(2) say.
pub(super) fn read_as_linux32(path: &Path) -> io::Result<Vec<u8>> {
    // The personality is one thread's own, and ends with it.
    thread::scope(|scope| {
        let reader = thread::Builder::new().spawn_scoped(scope, || {
            become_linux32()?;
            fs::read(path)
        })?;
        reader
            .join()
            .unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_32_bit_programs_from_others() {
        assert!(is_linux32("00000008\n"));
        assert!(is_linux32("00040008\n"));
        for text in ["00000000\n", "00040000\n", "00000018\n", "", "x\n"] {
            assert!(!is_linux32(text), "{text:?}");
        }
    }

    #[test]
    fn the_file_is_read_as_a_32_bit_program_would() {
        let path = Path::new("/proc/thread-self/personality");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        assert!(is_linux32(&text(read_as_linux32(path).unwrap())));
        assert!(!is_linux32(&text(fs::read(path).unwrap())));
        assert!(read_as_linux32(Path::new("/proc/no-such-file")).is_err());
    }
}
