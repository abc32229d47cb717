//! The root: attached, made the root directory, and everything of the host left behind.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_schemas::controller::LaunchPlan;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, open};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::process::{chdir, fchdir, pivot_root};

use crate::failure::{Doing, Outcome, Step};

use super::handshake::{Created, Handshake, News};
use super::inside::Prepared;
use super::resolve::Made;
use super::{mounts, resolve};

/// Attaches the tree over the host's root of this mount namespace.
pub fn attach(tree: &OwnedFd) -> Outcome<()> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(|e| Doing::new(Step::Root, "make private").path("/").failed(e))?;
    let host = open_root().map_err(|e| Doing::new(Step::Root, "open").path("/").failed(e))?;
    mounts::attach(tree.as_fd(), host.as_fd())
        .map_err(|e| Doing::new(Step::Root, "move_mount").target("/").failed(e))
}

/// The root directory of this process.
pub fn open_root() -> Result<OwnedFd, Errno> {
    open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Makes the attached tree the root and unmounts the host's mounts, all of them: pivot_root(2), "pivot_root(".", ".")".
pub fn pivot(tree: &OwnedFd) -> Outcome<OwnedFd> {
    let doing = |operation| Doing::new(Step::Pivot, operation);
    let host = open_root().map_err(|e| doing("open").path("/").failed(e))?;
    fchdir(tree).map_err(|e| doing("fchdir").failed(e))?;
    pivot_root(".", ".").map_err(|e| match e {
        Errno::INVAL => {
            doing("pivot_root").failed_because(e, "the host itself runs from its initial ramdisk")
        }
        e => doing("pivot_root").failed(e),
    })?;
    fchdir(&host).map_err(|e| doing("fchdir").failed(e))?;
    unmount(".", UnmountFlags::DETACH).map_err(|e| doing("umount").path("/").failed(e))?;
    chdir("/").map_err(|e| doing("chdir").path("/").failed(e))?;
    open_root().map_err(|e| doing("open").path("/").failed(e))
}

/// Makes the root read-only where that had to wait for its mount points.
pub fn make_readonly(inside: &Inside<'_>, p: &Prepared<'_>) -> Outcome<()> {
    if !p.sources.root_readonly_later {
        return Ok(());
    }
    berth_sys::mount::set_attributes(inside.root(), false, berth_sys::mount::RDONLY, 0)
        .map_err(|e| Doing::new(Step::Readonly, "mount_setattr").path("/").failed(e))
}

/// The container's root, and the making of mount points in it.
#[derive(Debug)]
pub struct Inside<'a> {
    root: OwnedFd,
    handshake: &'a Handshake,
    /// Number of the root's mount.
    mount: u64,
}

impl<'a> Inside<'a> {
    /// The root.
    pub fn new(root: OwnedFd, plan: &LaunchPlan, handshake: &'a Handshake) -> Outcome<Self> {
        let id = resolve::mount_id(root.as_fd())
            .map_err(|e| Doing::new(Step::Pivot, "statx").path(&plan.root.source).failed(e))?;
        Ok(Self { root, handshake, mount: id })
    }

    /// Descriptor of the root.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The mount point at `path`, made if it is missing.
    pub fn mount_point(&self, step: Step, path: &str, directory: bool) -> Outcome<OwnedFd> {
        let mut made = Vec::new();
        let point = resolve::find_or_make(self.root(), path, directory, &mut made).map_err(|e| {
            let doing = Doing::new(step, "make mount point").path(path);
            match e {
                Errno::ROFS => doing.failed_because(e, "it is missing, and cannot be made"),
                Errno::EXIST => doing.failed_because(e, "a symbolic link in it leads nowhere"),
                e => doing.failed(e),
            }
        });
        // Also of one that could not be made to its end.
        for made in made {
            self.tell_created(made);
        }
        point
    }

    /// What was made in the root is removed when the container ends. What was made in a volume stays: nobody knows who
    /// else uses that, and removing a directory takes the mounts of others off it.
    fn tell_created(&self, made: Made) {
        if made.mount == self.mount {
            let created = Created { path: made.path, directory: made.directory };
            let _ = self.handshake.tell(&News::Created(created));
        }
    }

    /// A directory in the root itself, no symlink, made if it is missing: what is mounted there must be where every
    /// program looks for it, and a link could hide that it is not (CVE-2019-19921, CVE-2023-27561).
    pub fn plain_directory(&self, step: Step, path: &str) -> Outcome<OwnedFd> {
        let doing = Doing::new(step, "open").path(path);
        if self.is_link(path) {
            return Err(doing.refused("it is a symbolic link, and must be a directory"));
        }
        drop(self.mount_point(step, path, true)?);
        let fd = resolve::open_inside(self.root(), path, OFlags::PATH, ResolveFlags::NO_SYMLINKS).map_err(
            |e| match e {
                Errno::LOOP => doing.failed_because(e, "it is a symbolic link, and must be a directory"),
                e => doing.failed(e),
            },
        )?;
        match resolve::kind(&fd).map_err(|e| doing.failed(e))? {
            FileType::Directory => Ok(fd),
            _ => Err(doing.failed_because(Errno::NOTDIR, "it must be a directory")),
        }
    }

    fn is_link(&self, path: &str) -> bool {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        resolve::open_inside(self.root(), path, flags, ResolveFlags::empty())
            .and_then(resolve::kind)
            .is_ok_and(|k| k == FileType::Symlink)
    }
}
