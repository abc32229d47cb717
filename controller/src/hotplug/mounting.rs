//! Mounting and unmounting in the running container, whose processes may change every path meanwhile: whatever they do
//! happens in their own tree, and to nobody but them.
//!
//! This module does not know where a tree came from.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use berth_schemas::controller::PlanFilesystem;
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxAttributes, StatxFlags, openat, readlinkat, statx,
};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::fchdir;

use crate::failure::{Doing, Outcome, Step};
use crate::setup::filesystems::check_kinds_match;
use crate::setup::handshake::{Created, Handshake, News};
use crate::setup::sources::Tree;
use crate::setup::{mounts, resolve};

/// The container as the child sees it.
#[derive(Debug)]
pub struct Inside<'a> {
    /// Its root.
    pub root: OwnedFd,
    /// /proc/self of the host.
    pub process: OwnedFd,
    /// Where to tell what was made.
    pub handshake: &'a Handshake,
}

fn doing<'a>(filesystem: &'a PlanFilesystem, operation: &'static str) -> Doing<'a> {
    let doing = Doing::new(Step::Filesystems, operation).target(&filesystem.target);
    filesystem.source.as_deref().map_or(doing, |source| doing.path(source))
}

/// Number of a mount that no other has before the next boot (`STATX_MNT_ID_UNIQUE` of statx(2), Linux 6.8), or the
/// number that is used again. Never asks a server about the file.
fn number(fd: BorrowedFd<'_>, name: &str) -> Result<(u64, bool), Errno> {
    const UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC;
    let found = statx(fd, name, flags, StatxFlags::MNT_ID | UNIQUE)?;
    Ok((found.stx_mnt_id, found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)))
}

/// A tree of a path inside.
pub fn bind_source(inside: &Inside<'_>, filesystem: &PlanFilesystem) -> Outcome<Tree> {
    let doing = |operation| doing(filesystem, operation);
    let source =
        filesystem.source.as_deref().ok_or_else(|| doing("mount").refused("a bind needs a source"))?;
    let from = resolve::find(&inside.root, source).map_err(|e| doing("open").failed(e))?;
    let directory = resolve::kind(&from).map_err(|e| doing("stat").failed(e))? == FileType::Directory;
    let fd = mounts::clone_tree(from.as_fd(), true).map_err(|e| doing("open_tree").failed(e))?;
    if filesystem.readonly {
        berth_sys::mount::set_attributes(fd.as_fd(), true, berth_sys::mount::RDONLY, 0)
            .map_err(|e| doing("mount_setattr").failed(e))?;
    }
    Ok(Tree { fd, directory })
}

/// Mounts a tree on the file system's target, which is made if it is missing.
pub fn attach(inside: &Inside<'_>, filesystem: &PlanFilesystem, tree: &Tree) -> Outcome<()> {
    let root = inside.root.as_fd();
    let root_mount = resolve::mount_id(root).map_err(|e| doing(filesystem, "statx").failed(e))?;
    let mut made = Vec::new();
    let point = resolve::find_or_make(root, &filesystem.target, tree.directory, &mut made)
        .map_err(|e| doing(filesystem, "make mount point").failed(e));
    // Also of one that could not be made to its end. What was made in a volume stays: nobody knows who else uses that.
    for made in made.into_iter().filter(|m| m.mount == root_mount) {
        let created = Created { path: made.path, directory: made.directory };
        let _ = inside.handshake.tell(&News::Created(created));
    }
    put(inside, filesystem, tree, &point?)
}

fn put(inside: &Inside<'_>, filesystem: &PlanFilesystem, tree: &Tree, point: &OwnedFd) -> Outcome<()> {
    check_kinds_match(filesystem, point, tree.directory)?;
    // Told before, so that nothing is left to do behind the mount.
    let (id, _) = number(tree.fd.as_fd(), "").map_err(|e| doing(filesystem, "statx").failed(e))?;
    let _ = inside.handshake.tell(&News::Mounted(id));
    mounts::attach(tree.fd.as_fd(), point.as_fd()).map_err(|e| doing(filesystem, "mount").failed(e))
}

/// Mounts a tree in the place of what is mounted there, which comes back if that fails.
pub fn replace(
    inside: &Inside<'_>,
    filesystem: &PlanFilesystem,
    tree: &Tree,
    known: Option<u64>,
) -> Outcome<()> {
    let target = &*filesystem.target;
    let find = || resolve::find(&inside.root, target);
    let before = find()
        .and_then(|at| {
            let directory = resolve::kind(&at)? == FileType::Directory;
            Ok(Tree { fd: mounts::clone_tree(at.as_fd(), true)?, directory })
        })
        .map_err(|e| doing(filesystem, "open").failed(e))?;
    detach(inside, target, known)?;
    let result = find()
        .map_err(|e| doing(filesystem, "open").failed(e))
        .and_then(|point| put(inside, filesystem, tree, &point));
    if result.is_err() {
        // With the number of the one that is there again, which is another mount now.
        if let Ok(point) = find() {
            let _ = put(inside, filesystem, &before, &point);
        }
    }
    result
}

/// Takes off exactly the mount at `target`: of the number `known`, or one that was there from the start.
pub fn detach(inside: &Inside<'_>, target: &str, known: Option<u64>) -> Outcome<()> {
    let doing = |operation| Doing::new(Step::Filesystems, operation).path(target);
    let at = resolve::find(&inside.root, target).map_err(|e| doing("open").failed(e))?;
    let (id, is_top) = number(at.as_fd(), "").map_err(|e| doing("statx").failed(e))?;
    if !is_top {
        return Err(doing("unmount").refused("nothing is mounted there any more"));
    }
    if known.is_some_and(|known| known != id) {
        return Err(doing("unmount").refused("something else is mounted over it inside"));
    }
    let (parent, name) = canonical(inside, &at).map_err(|e| doing("find").failed(e))?;
    // Held open it would be in use.
    drop(at);
    if number(parent.as_fd(), &name) != Ok((id, true)) {
        return Err(doing("unmount").refused("it is being moved inside"));
    }
    fchdir(&parent).map_err(|e| doing("fchdir").failed(e))?;
    match unmount(&*name, UnmountFlags::NOFOLLOW) {
        // What came with the source below it cannot be taken off by itself.
        Err(Errno::BUSY) if has_mounts_below(inside, &parent, &name) => {
            unmount(&*name, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
                .map_err(|e| doing("unmount").failed(e))
        }
        Err(Errno::BUSY) => Err(doing("unmount").failed_because(Errno::BUSY, "it is in use inside")),
        Err(Errno::INVAL) => Err(doing("unmount")
            .refused("it was mounted when the container started, and is locked until that ends")),
        done => done.map_err(|e| doing("unmount").failed(e)),
    }
}

/// The directory that a mount point is in, and its name there, without a link on the way.
fn canonical(inside: &Inside<'_>, at: &OwnedFd) -> Result<(OwnedFd, String), Errno> {
    let path = readlinkat(&inside.process, format!("fd/{}", at.as_raw_fd()), Vec::new())?;
    let path = path.into_string().map_err(|_| Errno::ILSEQ)?;
    let (parent, name) = path.rsplit_once('/').filter(|(_, name)| !name.is_empty()).ok_or(Errno::BUSY)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let parent = resolve::open_inside(&inside.root, parent, flags, ResolveFlags::NO_SYMLINKS)?;
    Ok((parent, name.to_owned()))
}

/// Whether other mounts are on a mount: proc_pid_mountinfo(5).
fn has_mounts_below(inside: &Inside<'_>, parent: &OwnedFd, name: &str) -> bool {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC;
    let Ok(found) = statx(parent, name, flags, StatxFlags::MNT_ID) else { return false };
    let id = found.stx_mnt_id.to_string();
    let file = openat(&inside.process, "mountinfo", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let text = file.ok().and_then(|file| std::io::read_to_string(std::fs::File::from(file)).ok());
    text.unwrap_or_default().lines().any(|line| line.split(' ').nth(1) == Some(&*id))
}
