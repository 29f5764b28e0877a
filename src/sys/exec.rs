//! Programs that are started with fds at agreed numbers, as a service manager does it
//! (man: sd_listen_fds(3)).

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{ForkResult, Pid, execve, getpid, getppid};

/// The number of the first fd that is handed over.
const FIRST_FD: RawFd = 3;
/// The fds to hand over lie here before, out of the way of their later numbers.
const PARKED_FD: RawFd = 100;

/// Exit code of a child that could not become the program (as shells have it).
const CANNOT_EXECUTE: i32 = 126;

const LISTEN_PID: &str = "LISTEN_PID=";
/// Variables that belong to the process that was given them.
const OWN_VARIABLES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// An fd with the name by which the program knows it.
#[derive(Debug)]
pub struct Named {
    /// Letters, digits, `-` and `_`.
    pub name: String,
    /// The fd.
    pub fd: OwnedFd,
}

/// A program with all that is needed to start it, made ready beforehand: starting it takes
/// no memory of this process's own.
#[derive(Debug)]
pub struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    fds: Vec<OwnedFd>,
}

impl Program {
    /// The program at `path`. It gets copies of `fds`, and this process's environment but
    /// for the variables named in `without`, and with those in `with`.
    ///
    /// # Errors
    /// `EMFILE`, or `EINVAL` for an argument with a NUL.
    pub fn new(
        path: &OsStr,
        arguments: &[OsString],
        without: &[&str],
        with: &[(&str, &OsStr)],
        fds: &[Named],
    ) -> io::Result<Self> {
        let text = |bytes: &[u8]| CString::new(bytes).map_err(io::Error::from);
        let names: Vec<&str> = fds.iter().map(|named| named.name.as_str()).collect();
        let mut environment = Vec::new();
        for (key, value) in std::env::vars_os() {
            let replaced = with.iter().map(|(name, _)| name);
            let mut skipped = OWN_VARIABLES.iter().chain(without).chain(replaced);
            if !skipped.any(|name| key == **name) {
                let pair = [key.as_bytes(), b"=", value.as_bytes()].concat();
                environment.push(text(&pair)?);
            }
        }
        let (count, names) = (fds.len().to_string(), names.join(":"));
        let of_fds = [
            ("LISTEN_FDS", count.as_ref()),
            ("LISTEN_FDNAMES", names.as_ref()),
        ];
        for (name, value) in of_fds.iter().chain(with) {
            let pair = [name.as_bytes(), b"=", value.as_bytes()].concat();
            environment.push(text(&pair)?);
        }
        let parked = fds.iter().map(|named| park(&named.fd));
        Ok(Self {
            path: text(path.as_bytes())?,
            arguments: arguments
                .iter()
                .map(|argument| text(argument.as_bytes()))
                .collect::<io::Result<_>>()?,
            environment,
            fds: parked.collect::<io::Result<_>>()?,
        })
    }

    /// Starts it as a child that is killed when this process ends. None of its signals are
    /// blocked. This process must have no other threads.
    ///
    /// # Errors
    /// What fork(2) says. That the program cannot be executed shows in the child's exit
    /// code, 126.
    pub fn spawn(&self) -> Result<Pid, Errno> {
        let parent = getpid();
        // SAFETY: this process has one thread, so the child is as consistent as its parent.
        match unsafe { nix::unistd::fork() }? {
            ForkResult::Parent { child } => Ok(child),
            ForkResult::Child => {
                let tied = SigSet::empty()
                    .thread_set_mask()
                    .and_then(|()| prctl::set_pdeathsig(Signal::SIGKILL));
                if tied.is_ok() && getppid() == parent {
                    self.execute();
                }
                // SAFETY: _exit takes any code and does not return.
                unsafe { libc::_exit(CANNOT_EXECUTE) }
            }
        }
    }

    /// Becomes the program. Only returns if that fails. Fds from number 3 on are then not
    /// what they were: all that is left is to become another program, or to end.
    pub fn execute(&self) -> Errno {
        for (number, fd) in (FIRST_FD..).zip(&self.fds) {
            // SAFETY: nothing in this process owns numbers from FIRST_FD on once it is about
            // to become another program.
            if let Err(errno) = Errno::result(unsafe { libc::dup2(fd.as_raw_fd(), number) }) {
                return errno;
            }
        }
        let Ok(pid) = CString::new(format!("{LISTEN_PID}{}", getpid())) else {
            return Errno::EINVAL;
        };
        let environment: Vec<&CStr> = self
            .environment
            .iter()
            .map(CString::as_c_str)
            .chain([pid.as_c_str()])
            .collect();
        match execve(&self.path, &self.arguments, &environment) {
            Ok(never) => match never {},
            Err(errno) => errno,
        }
    }
}

/// The path that the kernel was told to execute this program by (`AT_EXECFN`, man:
/// getauxval(3)). The dynamic linker, if it was started itself, puts the program's there.
pub fn executed_path() -> Option<PathBuf> {
    // SAFETY: the call reads the auxiliary vector of this process.
    let pointer = unsafe { libc::getauxval(libc::AT_EXECFN) } as *const libc::c_char;
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the entry is the address of a string that ends with a NUL and lives as long as
    // the process.
    let path = unsafe { CStr::from_ptr(pointer) };
    Some(OsStr::from_bytes(path.to_bytes()).into())
}

fn park(fd: &OwnedFd) -> io::Result<OwnedFd> {
    let number = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(PARKED_FD))?;
    // SAFETY: the kernel just made this fd for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The fds that this process was started with. To be called once, before any other fd is
/// opened.
///
/// # Errors
/// What is wrong with the variables.
pub fn inherited() -> io::Result<Vec<Named>> {
    let mut all = Vec::new();
    if sd_notify::listen_fds()?.len() == 0 {
        // The names may still be there, for the fds of whoever started us.
        return Ok(all);
    }
    for (number, name) in sd_notify::listen_fds_with_names()? {
        // SAFETY: whoever started us handed the fd over to us, and this is called once.
        let fd = unsafe { OwnedFd::from_raw_fd(number) };
        all.push(Named { name, fd });
    }
    Ok(all)
}

/// The fd of this number, which whoever started this program says that it handed over. To
/// be called once.
///
/// # Errors
/// `EBADF` if there is none.
pub fn handed_over(number: RawFd) -> Result<OwnedFd, Errno> {
    if number < FIRST_FD {
        return Err(Errno::EBADF);
    }
    // SAFETY: the request changes a flag, of a file that is open or else nothing.
    Errno::result(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: the fd is open, and nobody else in this process knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
