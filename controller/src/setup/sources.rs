//! The root and the mounted host paths as detached trees, made on the host, so that an error names the host's path.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_schemas::controller::{LaunchPlan, PlanFilesystemKind, PlanIdMap};
use rustix::fs::{
    FileType, FlockOperation, Mode, OFlags, StatVfsMountFlags, flock, fstat, fstatvfs, open, openat,
};
use rustix::io::Errno;

use crate::failure::{Doing, Outcome, Step};

use super::held::Held;
use super::host_device::HostDevice;
use super::{idmap, images, mounts, resolve};

/// All that comes from the host.
#[derive(Debug)]
pub struct Sources {
    /// The root.
    pub root: OwnedFd,
    /// Whether the root is to be made read-only once its mount points are there.
    pub root_readonly_later: bool,
    /// For each filesystem of the plan of kind mount or image: its tree.
    pub filesystems: Vec<Option<Tree>>,
}

/// A detached tree.
#[derive(Debug)]
pub struct Tree {
    /// It.
    pub fd: OwnedFd,
    /// Whether its top is a directory.
    pub directory: bool,
}

/// The lock on the root directory that is held, shared, as long as a container lives in it. Of an image, it is the top of
/// a mount that nobody else sees.
pub fn lock_root(plan: &LaunchPlan, held: &Held) -> Outcome<OwnedFd> {
    let doing = Doing::new(Step::Sources, "open").path(&plan.root.source);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = match &held.root {
        Some(device) => {
            let image = images::mount(device, &plan.root.source, plan.root.readonly)?;
            openat(&image.fd, ".", flags, Mode::empty())
        }
        None => open(&*plan.root.source, flags, Mode::empty()),
    };
    let directory = opened.map_err(|e| match e {
        Errno::NOTDIR => doing.failed_because(e, "the root is not a directory"),
        e => doing.failed(e),
    })?;
    // A lock that cannot be had (a filesystem without locks) only means that no mount point is removed at the end.
    let _ = flock(&directory, FlockOperation::NonBlockingLockShared);
    Ok(directory)
}

/// Clones all trees, with the ids of the user namespace if there is one.
pub fn open_all(plan: &LaunchPlan, held: &Held, user: Option<BorrowedFd<'_>>) -> Outcome<Sources> {
    let ids = plan.id_map.as_ref().zip(user);
    let wanted = &plan.root;
    let (root, root_readonly_later) = match &held.root {
        // An image that is read-only is so as a whole: it has its mount points, or they cannot be made.
        Some(device) => (mount_image(device, &wanted.source, wanted.readonly, ids)?.fd, false),
        None => {
            let root = clone_host_path(&wanted.source, wanted.readonly || wanted.host, ids)?.fd;
            let later = wanted.readonly && !wanted.host && make_top_writable(&root, &wanted.source)?;
            (root, later)
        }
    };
    let mut filesystems = Vec::with_capacity(plan.filesystems.len());
    for (index, filesystem) in plan.filesystems.iter().enumerate() {
        let device = held.filesystems.get(index).and_then(Option::as_ref);
        filesystems.push(match (&filesystem.source, filesystem.kind, device) {
            (Some(source), PlanFilesystemKind::Mount, _) => {
                Some(clone_host_path(source, filesystem.readonly, ids)?)
            }
            (Some(source), PlanFilesystemKind::Image, Some(device)) => {
                Some(mount_image(device, source, filesystem.readonly, ids)?)
            }
            _ => None,
        });
    }
    Ok(Sources { root, root_readonly_later, filesystems })
}

/// Mounts what is on a device, with the ids of the user namespace if there is one.
pub fn mount_image(device: &HostDevice, source: &str, readonly: bool, ids: Option<Ids<'_>>) -> Outcome<Tree> {
    let image = images::mount(device, source, readonly)?;
    if let Some((map, user)) = ids {
        let owner = fstat(&image.fd).map_err(|e| Doing::new(Step::Sources, "stat").path(source).failed(e))?;
        if !(map.keep_shifted && idmap::is_mapped(&map.uids, owner.st_uid)) {
            berth_sys::mount::set_id_map(image.fd.as_fd(), true, user)
                .map_err(|e| idmap::refused(e, source, image.kind))?;
        }
    }
    Ok(Tree { fd: image.fd, directory: true })
}

/// A read-only root still gets the mount points that it lacks: only its top is writable until they are there. Not
/// if the host has it read-only itself.
fn make_top_writable(tree: &OwnedFd, source: &str) -> Outcome<bool> {
    let doing = Doing::new(Step::Sources, "open").path(source);
    let host = open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|e| doing.failed(e))?;
    let flags = fstatvfs(&host).map_err(|e| doing.failed(e))?.f_flag;
    if flags.contains(StatVfsMountFlags::RDONLY) {
        return Ok(false);
    }
    berth_sys::mount::set_attributes(tree.as_fd(), false, 0, berth_sys::mount::RDONLY)
        .map_err(|e| Doing::new(Step::Sources, "mount_setattr").path(source).failed(e))?;
    Ok(true)
}

/// The map of the plan, and the user namespace that has it.
pub type Ids<'a> = (&'a PlanIdMap, BorrowedFd<'a>);

/// Clones the tree at a path of the host, with the ids of the user namespace if there is one.
pub fn clone_host_path(path: &str, readonly: bool, ids: Option<Ids<'_>>) -> Outcome<Tree> {
    let doing = |operation| Doing::new(Step::Sources, operation).path(path);
    let host =
        open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|e| doing("open").failed(e))?;
    let directory = resolve::kind(&host).map_err(|e| doing("stat").failed(e))? == FileType::Directory;
    let fd = mounts::clone_tree(host.as_fd(), true).map_err(|e| doing("open_tree").failed(e))?;
    berth_sys::mount::set_private(fd.as_fd()).map_err(|e| doing("mount_setattr").failed(e))?;
    if let Some((map, user)) = ids {
        let owner = fstat(&host).map_err(|e| doing("stat").failed(e))?.st_uid;
        if !(map.keep_shifted && idmap::is_mapped(&map.uids, owner)) {
            idmap::apply(fd.as_fd(), path, user)?;
        }
    }
    if readonly {
        berth_sys::mount::set_attributes(fd.as_fd(), true, berth_sys::mount::RDONLY, 0)
            .map_err(|e| doing("mount_setattr").failed_because(e, "cannot be made read-only"))?;
    }
    Ok(Tree { fd, directory })
}
