//! Telling an operator that a container started without the views.

use std::os::unix::net::UnixDatagram;

/// The socket of syslog(3), which the journal has too.
const SYSLOG: &str = "/dev/log";

/// Facility `daemon`, level `warning`.
const PRIORITY: u32 = 3 * 8 + 4;

/// Writes `sentence` to the system log, under the name `lxcfs`: engines show what a hook or
/// a runtime writes to standard error only if it fails. Returns whether there is a system log
/// that took it.
pub fn log(sentence: &str) -> bool {
    let sentence = sentence.replace(char::is_control, " ");
    let line = format!("<{PRIORITY}>lxcfs[{}]: {sentence}", std::process::id());
    let sent = UnixDatagram::unbound().and_then(|socket| {
        socket.set_nonblocking(true)?;
        socket.send_to(line.as_bytes(), SYSLOG)
    });
    sent.inspect_err(|error| log::debug!("{SYSLOG}: {error}"))
        .is_ok()
}
