//! The control socket: the daemon's end and the client's.
//!
//! Only root may ask. One client is served at a time and has little time: whoever is slow waits
//! for nobody, and nobody who reads a file waits for it.

use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::protocol::{Answer, Question, Request, VERSION};
use super::show;
use super::status::{self, Facts};
use crate::fs::Views;

/// The socket in the runtime directory.
const NAME: &str = "lxcfs.sock";

/// How long a client may take for a line, and the daemon for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Longest question.
const MOST_QUESTION_BYTES: u64 = 64 << 10;

/// Longest answer: all files of a machine with thousands of CPUs.
const MOST_ANSWER_BYTES: u64 = 256 << 20;

/// Where the daemon with this runtime directory answers.
#[must_use]
pub fn path(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join(NAME)
}

/// The daemon's socket at `path`, where an earlier server may have left one.
///
/// # Errors
/// `EADDRINUSE` if another daemon answers there; what bind(2) says.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    if UnixStream::connect(path).is_ok() {
        return Err(Errno::EADDRINUSE.into());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Takes the socket at `path` away if nobody answers there.
pub fn remove(path: &Path) {
    let is_dead = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if UnixStream::connect(path).is_err_and(is_dead) {
        let _ = fs::remove_file(path);
    }
}

/// Answers clients for as long as the process lives.
pub fn serve(listener: &UnixListener, views: &Views, facts: &Facts) {
    for client in listener.incoming() {
        let served = client.and_then(|client| answer_client(&client, views, facts));
        if let Err(error) = served {
            log::debug!("control socket: {error}");
            // A full table of fds is no reason to spin.
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn answer_client(client: &UnixStream, views: &Views, facts: &Facts) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    if getsockopt(client, PeerCredentials)?.uid() != 0 {
        return send(client, &refusal("only root may ask"));
    }
    let mut line = Vec::new();
    BufReader::new(client.take(MOST_QUESTION_BYTES)).read_until(b'\n', &mut line)?;
    let answered = catch_unwind(AssertUnwindSafe(|| answer(&line, views, facts)));
    match answered {
        Ok(Ok(value)) => send(
            client,
            &Answer {
                version: VERSION,
                ok: Some(value),
                error: None,
            },
        ),
        Ok(Err(error)) => send(client, &refusal(&format!("{error:#}"))),
        Err(_) => send(
            client,
            &refusal("the daemon failed by a defect; see its log"),
        ),
    }
}

fn answer(line: &[u8], views: &Views, facts: &Facts) -> anyhow::Result<serde_json::Value> {
    let question: Question =
        serde_json::from_slice(line).context("the daemon does not understand the question")?;
    ensure!(
        question.version == VERSION,
        "the daemon speaks version {VERSION} of the protocol, not {}",
        question.version
    );
    Ok(match question.request {
        Request::Show(request) => serde_json::to_value(show::show(views, &request)?)?,
        Request::Status(_) => serde_json::to_value(status::status(views, facts))?,
    })
}

fn refusal(sentence: &str) -> Answer<()> {
    Answer {
        version: VERSION,
        ok: None,
        error: Some(sentence.to_owned()),
    }
}

fn send(mut client: &UnixStream, answer: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    client.write_all(&line)
}

/// Asks the daemon at `socket`. `None` if there is none.
///
/// # Errors
/// Its own sentence if it refuses; one about the socket if it does not answer.
pub fn ask<T: DeserializeOwned>(socket: &Path, request: Request) -> anyhow::Result<Option<T>> {
    let shown = socket.display();
    let mut daemon = match UnixStream::connect(socket) {
        Ok(daemon) => daemon,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error).with_context(|| format!("cannot ask lxcfs at {shown}")),
    };
    // Whoever can write to the directory could have put a socket there.
    ensure!(
        getsockopt(&daemon, PeerCredentials)?.uid() == 0,
        "{shown} belongs to another user; no daemon of this host answers there"
    );
    daemon.set_read_timeout(Some(PATIENCE))?;
    daemon.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(&Question {
        version: VERSION,
        request,
    })?;
    line.push(b'\n');
    let mut text = Vec::new();
    daemon
        .write_all(&line)
        .and_then(|()| BufReader::new(daemon.take(MOST_ANSWER_BYTES)).read_until(b'\n', &mut text))
        .with_context(|| format!("lxcfs does not answer at {shown}"))?;
    let answer: Answer<T> = serde_json::from_slice(&text)
        .with_context(|| format!("what lxcfs answers at {shown} is not understood"))?;
    match (answer.ok, answer.error) {
        (Some(value), _) => Ok(Some(value)),
        (None, Some(sentence)) => bail!(sentence),
        (None, None) => bail!("what lxcfs answers at {shown} is empty"),
    }
}
