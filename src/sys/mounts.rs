//! Mounts as file descriptors (man: open_tree(2), move_mount(2), mount_setattr(2)).

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

/// Options of one mount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `ro`.
    pub read_only: bool,
    /// `nosuid`.
    pub no_suid: bool,
    /// `nodev`.
    pub no_devices: bool,
    /// `noexec`.
    pub no_programs: bool,
}

/// Where a mount is put that [`attach`] is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// Over what is there.
    Above,
    /// Under the topmost mount that is there (since Linux 6.5).
    Beneath,
}

/// A mount that shows what `file` stands for, attached nowhere. It is gone when the fd is
/// closed before [`attach`].
///
/// # Errors
/// What open_tree(2) says: `ENOSYS` before Linux 5.2.
pub fn detached_copy(file: impl AsFd) -> Result<OwnedFd, Errno> {
    open_tree(file, 0)
}

/// The same with all that is mounted below.
///
/// # Errors
/// As [`detached_copy`].
pub fn detached_tree(file: impl AsFd) -> Result<OwnedFd, Errno> {
    open_tree(file, libc::AT_RECURSIVE as libc::c_uint)
}

fn open_tree(file: impl AsFd, flags: libc::c_uint) -> Result<OwnedFd, Errno> {
    let empty_path = libc::AT_EMPTY_PATH as libc::c_uint;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | empty_path | flags;
    // SAFETY: the path is a string, and the fd is open.
    let fd = Errno::result(unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            file.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
        )
    })?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel just made this fd for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets those `attributes` that are true, clears none, and lets no mount in or below this
/// one propagate to or from others.
///
/// # Errors
/// What mount_setattr(2) says: `ENOSYS` before Linux 5.12.
pub fn restrict(mount: impl AsFd, attributes: Attributes) -> Result<(), Errno> {
    let wanted = [
        (attributes.read_only, libc::MOUNT_ATTR_RDONLY),
        (attributes.no_suid, libc::MOUNT_ATTR_NOSUID),
        (attributes.no_devices, libc::MOUNT_ATTR_NODEV),
        (attributes.no_programs, libc::MOUNT_ATTR_NOEXEC),
    ];
    let set = wanted.into_iter().filter(|(wanted, _)| *wanted);
    let change = libc::mount_attr {
        attr_set: set.fold(0, |all, (_, bit)| all | bit),
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    // SAFETY: the path is a string, and the struct is as long as told; both live until the
    // call returns.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const change,
            size_of::<libc::mount_attr>(),
        )
    })?;
    Ok(())
}

/// Puts a detached mount on the place that `target` stands for.
///
/// # Errors
/// What move_mount(2) says.
pub fn attach(mount: impl AsFd, target: impl AsFd, layer: Layer) -> Result<(), Errno> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    let layer = match layer {
        Layer::Above => 0,
        Layer::Beneath => libc::MOVE_MOUNT_BENEATH,
    };
    // SAFETY: both paths are strings, and both fds are open.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            target.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags | layer,
        )
    })?;
    Ok(())
}
