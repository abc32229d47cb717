//! Locking a tree: after this its read-only, nosuid, nodev and noexec flags cannot be cleared by the container's root.
//!
//! The kernel sets such locks in one place only, when a mount namespace is copied into another user namespace
//! (mount_namespaces(7)). So the tree is mounted in a namespace of the host's for a moment, that is copied, and the copy
//! is cloned out of it. See docs/decisions/0005-mounts-are-locked.md.

use std::os::fd::{AsFd, BorrowedFd};

use berth_sys::process::{namespace, unshare};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::fchdir;

use crate::failure::{Doing, Outcome, Step};
use crate::setup::mapped::become_root_of;
use crate::setup::mounts::{self, data_only};
use crate::setup::rootfs::open_root;
use crate::setup::sources::Tree;

/// Its name in the namespace in between.
const NAME: &str = "tree";

/// Locks a detached tree for the root of a user namespace. The calling process is that root afterwards, in a mount
/// namespace of its own, and has no rights of the host any more.
pub fn lock(tree: &Tree, user: BorrowedFd<'_>) -> Outcome<Tree> {
    lock_it(tree, user).map_err(|(operation, e)| Doing::new(Step::Filesystems, operation).failed(e))
}

fn lock_it(tree: &Tree, user: BorrowedFd<'_>) -> Result<Tree, (&'static str, Errno)> {
    unshare(namespace::MOUNT).map_err(|e| ("unshare", e))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(|e| ("make private", e))?;
    // A place that is there whatever the host has, for a file as for a directory.
    let place = mounts::make("tmpfs", &[("mode", "0755")], data_only()).map_err(|e| ("mount", e))?;
    open_root()
        .and_then(|root| mounts::attach(place.as_fd(), root.as_fd()))
        .map_err(|e| ("move_mount", e))?;
    let mode = Mode::from_raw_mode(0o700);
    let made = if tree.directory {
        mkdirat(&place, NAME, mode)
    } else {
        openat(&place, NAME, OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC, mode).map(drop)
    };
    made.map_err(|e| ("make a mount point", e))?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let point = openat(&place, NAME, flags, Mode::empty()).map_err(|e| ("open", e))?;
    mounts::attach(tree.fd.as_fd(), point.as_fd()).map_err(|e| ("move_mount", e))?;
    // The copy is found by the working directory, which goes along; the descriptors stay in the original.
    fchdir(&place).map_err(|e| ("fchdir", e))?;
    become_root_of(user)?;
    unshare(namespace::MOUNT).map_err(|e| ("unshare", e))?;
    let copy = openat(CWD, NAME, flags, Mode::empty()).map_err(|e| ("open", e))?;
    let fd = mounts::clone_tree(copy.as_fd(), true).map_err(|e| ("open_tree", e))?;
    Ok(Tree { fd, directory: tree.directory })
}
