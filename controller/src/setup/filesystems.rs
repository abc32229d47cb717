//! The plan's filesystems, in their order.

use std::os::fd::{AsFd, OwnedFd};

use berth_schemas::controller::{PlanFilesystem, PlanFilesystemKind};
use rustix::fs::FileType;
use rustix::mount::MountAttrFlags;

use crate::failure::{Doing, Outcome, Step};

use super::idmap::Owner;
use super::inside::Prepared;
use super::rootfs::Inside;
use super::{mounts, resolve};

/// Mounts all.
pub fn mount_all(inside: &Inside<'_>, p: &Prepared<'_>) -> Outcome<()> {
    for (index, filesystem) in p.plan.filesystems.iter().enumerate() {
        let (tree, directory) = match filesystem.kind {
            PlanFilesystemKind::Mount | PlanFilesystemKind::Image => match p.sources.filesystems.get(index) {
                Some(Some(tree)) => (None, tree.directory),
                _ => return Err(doing(filesystem, "mount").refused("it needs a source")),
            },
            PlanFilesystemKind::Bind => bind_source(inside, filesystem)?,
            PlanFilesystemKind::Ram => (Some(make_ram(filesystem, Owner::of(p.plan)?)?), true),
        };
        let point = inside.mount_point(Step::Filesystems, &filesystem.target, directory)?;
        check_kinds_match(filesystem, &point, directory)?;
        let prepared = p.sources.filesystems.get(index).and_then(|s| s.as_ref()).map(|s| &s.fd);
        let Some(tree) = tree.as_ref().or(prepared) else { continue };
        mounts::attach(tree.as_fd(), point.as_fd()).map_err(|e| doing(filesystem, "mount").failed(e))?;
    }
    Ok(())
}

fn doing<'a>(filesystem: &'a PlanFilesystem, operation: &'static str) -> Doing<'a> {
    let doing = Doing::new(Step::Filesystems, operation).target(&filesystem.target);
    filesystem.source.as_deref().map_or(doing, |source| doing.path(source))
}

/// A directory on a directory, a file on a file: the kernel says no more than ENOTDIR about it.
pub fn check_kinds_match(filesystem: &PlanFilesystem, point: &OwnedFd, directory: bool) -> Outcome<()> {
    let kind = resolve::kind(point).map_err(|e| doing(filesystem, "stat").failed(e))?;
    match (directory, kind == FileType::Directory) {
        (true, false) => Err(doing(filesystem, "mount")
            .failed_because(rustix::io::Errno::NOTDIR, "the source is a directory, and the target is not")),
        (false, true) => Err(doing(filesystem, "mount")
            .failed_because(rustix::io::Errno::ISDIR, "the target is a directory, and the source is not")),
        _ => Ok(()),
    }
}

fn bind_source(inside: &Inside<'_>, filesystem: &PlanFilesystem) -> Outcome<(Option<OwnedFd>, bool)> {
    let doing = |operation| doing(filesystem, operation);
    let Some(source) = &filesystem.source else {
        return Err(doing("mount").refused("a bind needs a source"));
    };
    let from = resolve::find(inside.root(), source).map_err(|e| doing("open").failed(e))?;
    let directory = resolve::kind(&from).map_err(|e| doing("stat").failed(e))? == FileType::Directory;
    let tree = mounts::clone_tree(from.as_fd(), true).map_err(|e| doing("open_tree").failed(e))?;
    if filesystem.readonly {
        berth_sys::mount::set_attributes(tree.as_fd(), true, berth_sys::mount::RDONLY, 0)
            .map_err(|e| doing("mount_setattr").failed(e))?;
    }
    Ok((Some(tree), directory))
}

/// A tmpfs, whose top belongs to the container's root whoever makes it.
pub fn make_ram(filesystem: &PlanFilesystem, owner: Owner) -> Outcome<OwnedFd> {
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    if filesystem.readonly {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    let size = filesystem.size_bytes.map(|s| s.to_string());
    let (uid, gid) = (owner.uid.to_string(), owner.gid.to_string());
    let mut options = vec![("mode", "0755"), ("uid", &*uid), ("gid", &*gid)];
    options.extend(size.as_deref().map(|s| ("size", s)));
    mounts::make("tmpfs", &options, attributes).map_err(|e| doing(filesystem, "mount").failed(e))
}
