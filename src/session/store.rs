//! The service manager's fd store: what keeps the connection when the holder itself dies
//! (man: sd_pid_notify_with_fds(3)).

use std::io;
use std::os::fd::AsFd;

use sd_notify::NotifyState;

use super::held::Held;

/// Puts copies into the store. Gives whether there is one to put them into.
///
/// # Errors
/// What the socket of the service manager says.
pub fn put(held: &Held) -> io::Result<bool> {
    if !is_there() {
        return Ok(false);
    }
    for named in held.copies()? {
        let state = [NotifyState::FdStore, NotifyState::FdName(&named.name)];
        sd_notify::notify_with_fds(&state, &[named.fd.as_fd()])?;
    }
    Ok(true)
}

/// Takes them out again, so that nothing keeps the connection.
///
/// # Errors
/// What the socket of the service manager says.
pub fn clear(held: &Held) -> io::Result<()> {
    for named in held.copies()? {
        let state = [NotifyState::FdStoreRemove, NotifyState::FdName(&named.name)];
        sd_notify::notify(&state)?;
    }
    Ok(())
}

/// Whether the service manager keeps fds for this service. Since systemd 254 it says so by
/// this variable; for earlier ones the unit file does.
fn is_there() -> bool {
    let is_set = |name| std::env::var_os(name).is_some();
    is_set("NOTIFY_SOCKET") && is_set("FDSTORE")
}
