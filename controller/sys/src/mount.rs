//! mount_setattr(2).

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::{Result, check};

/// Read-only mount.
pub const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
/// No set-user-id bits.
pub const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
/// No device nodes.
pub const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
/// No programs.
pub const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;

/// Sets and clears attributes of the mount that `fd` is the root of.
pub fn set_attributes(fd: BorrowedFd<'_>, recursive: bool, set: u64, clear: u64) -> Result<()> {
    set_all(fd, recursive, libc::mount_attr { attr_set: set, attr_clr: clear, propagation: 0, userns_fd: 0 })
}

/// Gives a mount that is mounted nowhere yet the ids of a user namespace: what belongs to an id of the disk belongs to
/// what that namespace makes of it.
pub fn set_id_map(fd: BorrowedFd<'_>, recursive: bool, user_namespace: BorrowedFd<'_>) -> Result<()> {
    let userns_fd = user_namespace.as_raw_fd() as u64;
    let attr_set = libc::MOUNT_ATTR_IDMAP;
    set_all(fd, recursive, libc::mount_attr { attr_set, attr_clr: 0, propagation: 0, userns_fd })
}

/// Makes the mounts of a tree private: nothing that is mounted on them goes elsewhere, nothing comes in.
pub fn set_private(fd: BorrowedFd<'_>) -> Result<()> {
    let propagation = libc::MS_PRIVATE;
    set_all(fd, true, libc::mount_attr { attr_set: 0, attr_clr: 0, propagation, userns_fd: 0 })
}

fn set_all(fd: BorrowedFd<'_>, recursive: bool, attributes: libc::mount_attr) -> Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a C string, the attributes are a whole mount_attr of the size told; both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result as libc::c_int).map(drop)
}
