//! Paths inside that nobody is to see or to change.
//!
//! Files are covered by /dev/null of our own tmpfs, by descriptor and after a look at what it is (CVE-2025-31133);
//! directories by an empty read-only tmpfs. Each is looked at again afterwards (invariant I3).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_schemas::controller::LaunchPlan;
use rustix::fs::{FileType, OFlags, ResolveFlags, StatVfsMountFlags, fstat, fstatvfs, makedev};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::failure::{Doing, Outcome, Step};

use super::rootfs::Inside;
use super::{mounts, resolve};

/// Does both lists.
pub fn hide(inside: &Inside<'_>, plan: &LaunchPlan, dev: BorrowedFd<'_>) -> Outcome<()> {
    for path in &plan.masked_paths {
        if let Some(point) = find(inside, path)? {
            mask(inside, path, &point, dev)?;
        }
    }
    for path in &plan.readonly_paths {
        if let Some(point) = find(inside, path)? {
            make_readonly(inside, path, &point)?;
        }
    }
    Ok(())
}

fn doing<'a>(path: &'a str, operation: &'static str) -> Doing<'a> {
    Doing::new(Step::Hide, operation).target(path)
}

/// The path, unless it is not there: then there is nothing to hide.
fn find(inside: &Inside<'_>, path: &str) -> Outcome<Option<OwnedFd>> {
    match resolve::find(inside.root(), path) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(e) => Err(doing(path, "open").failed(e)),
    }
}

fn mask(inside: &Inside<'_>, path: &str, point: &OwnedFd, dev: BorrowedFd<'_>) -> Outcome<()> {
    let directory = resolve::kind(point).map_err(|e| doing(path, "stat").failed(e))? == FileType::Directory;
    let cover = if directory {
        let attributes = mounts::data_only() | MountAttrFlags::MOUNT_ATTR_RDONLY;
        mounts::make("tmpfs", &[("mode", "0555"), ("size", "4k"), ("nr_inodes", "2")], attributes)
            .map_err(|e| doing(path, "mount").path("tmpfs").failed(e))?
    } else {
        let null = resolve::open_inside(dev, "null", OFlags::PATH, ResolveFlags::NO_SYMLINKS)
            .map_err(|e| doing(path, "open").path("/dev/null").failed(e))?;
        check_null(path, &null)?;
        mounts::clone_tree(null.as_fd(), false)
            .map_err(|e| doing(path, "open_tree").path("/dev/null").failed(e))?
    };
    mounts::attach(cover.as_fd(), point.as_fd()).map_err(|e| doing(path, "move_mount").failed(e))?;
    let now = verify(inside, path)?;
    if directory { check_readonly(path, &now) } else { check_null(path, &now) }
}

fn make_readonly(inside: &Inside<'_>, path: &str, point: &OwnedFd) -> Outcome<()> {
    let tree = mounts::clone_tree(point.as_fd(), true).map_err(|e| doing(path, "open_tree").failed(e))?;
    berth_sys::mount::set_attributes(tree.as_fd(), true, berth_sys::mount::RDONLY, 0)
        .map_err(|e| doing(path, "mount_setattr").failed(e))?;
    mounts::attach(tree.as_fd(), point.as_fd()).map_err(|e| doing(path, "move_mount").failed(e))?;
    check_readonly(path, &verify(inside, path)?)
}

fn verify(inside: &Inside<'_>, path: &str) -> Outcome<OwnedFd> {
    resolve::find(inside.root(), path).map_err(|e| doing(path, "verify").failed(e))
}

fn check_null(path: &str, fd: &OwnedFd) -> Outcome<()> {
    let stat = fstat(fd).map_err(|e| doing(path, "stat").failed(e))?;
    let is_null =
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == makedev(1, 3);
    is_null.then_some(()).ok_or_else(|| doing(path, "verify").refused("what hides it is not the null device"))
}

fn check_readonly(path: &str, fd: &OwnedFd) -> Outcome<()> {
    let flags = fstatvfs(fd).map_err(|e| doing(path, "verify").failed(e))?.f_flag;
    let readonly = flags.contains(StatVfsMountFlags::RDONLY);
    readonly.then_some(()).ok_or_else(|| doing(path, "verify").refused("it is still writable"))
}
