//! The new mount interface in the three forms that the set-up needs: make a filesystem, clone a tree, attach by
//! descriptor. No path string is ever followed here.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

/// nosuid, nodev, noexec: for everything that only holds data of the kernel.
pub fn data_only() -> MountAttrFlags {
    MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC
}

/// Makes a filesystem that is mounted nowhere yet. An option without a value is a flag.
pub fn make(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> Result<OwnedFd, Errno> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        match *value {
            "" => fsconfig_set_flag(context.as_fd(), *key)?,
            value => fsconfig_set_string(context.as_fd(), *key, value)?,
        }
    }
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Clones the mount under a descriptor, from that file on, with everything mounted below it.
pub fn clone_tree(from: BorrowedFd<'_>, below: bool) -> Result<OwnedFd, Errno> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if below {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(from, "", flags)
}

/// All mounts below a root once more, mounted nowhere, and no device can be opened through it. What is opened to be read
/// or written could be exchanged for a device until the last moment, and there are devices for which the open alone does
/// something: a watchdog that nobody feeds afterwards resets the host.
pub fn view_without_devices(root: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let view = clone_tree(root, true)?;
    berth_sys::mount::set_attributes(view.as_fd(), true, berth_sys::mount::NODEV, 0)?;
    Ok(view)
}

/// Attaches a mount that is mounted nowhere at the file of a descriptor.
pub fn attach(mount: BorrowedFd<'_>, at: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", at, "", flags)
}
