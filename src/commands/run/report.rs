//! How the container's init tells the front process why there is no command: one byte
//! when the container is set up, then nothing, or an exit code and a sentence.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, anyhow};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::commands::Failure;

const SET_UP: u8 = 0;

/// Both ends, before it is clear which is whose.
#[derive(Debug)]
pub struct ReportPipe {
    from_init: OwnedFd,
    to_front: OwnedFd,
}

impl ReportPipe {
    pub fn new() -> Result<Self> {
        let (from_init, to_front) = pipe2(OFlag::O_CLOEXEC).context("cannot make a pipe")?;
        Ok(Self {
            from_init,
            to_front,
        })
    }

    /// The end of init.
    pub fn into_sender(self) -> Report {
        Report(self.to_front.into())
    }

    /// Reads what init has to say, until its end is closed.
    pub fn receive(self) -> Result<(), Failure> {
        drop(self.to_front);
        let mut bytes = Vec::new();
        File::from(self.from_init)
            .read_to_end(&mut bytes)
            .context("cannot hear from the container")?;
        let failure = match bytes.split_first() {
            Some((&SET_UP, rest)) => rest.split_first(),
            None => {
                let cause = "the container was killed before its command started; is its memory limit too low?";
                return Err(anyhow!(cause).into());
            }
            failure => failure,
        };
        failure.map_or(Ok(()), |(code, sentence)| {
            Err(Failure {
                exit_code: *code,
                cause: anyhow!(String::from_utf8_lossy(sentence).into_owned()),
            })
        })
    }
}

/// The end of init; closed by the exec of the command.
#[derive(Debug)]
pub struct Report(File);

impl Report {
    /// The container is set up.
    pub fn set_up(&mut self) {
        self.send(&[SET_UP]);
    }

    /// The command could not be started.
    pub fn failure(&mut self, exit_code: u8, sentence: &str) {
        self.send(&[&[exit_code], sentence.as_bytes()].concat());
    }

    fn send(&mut self, bytes: &[u8]) {
        // The reader is the front process; without it nobody wants to know.
        let _ = self.0.write_all(bytes);
    }
}
