//! The child that changes a mount of the running container: born, stripped of what it does not need, and told what to do.
//!
//! With ids of its own the container's root does the work, with the container's rights, once the source is there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_schemas::controller::{LaunchPlan, PlanFilesystem, PlanFilesystemKind};
use berth_sys::process::{Cloned, clone, close_others, exit_now, namespace, setns, unshare};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::failure::{Doing, Outcome, Step};
use crate::setup::filesystems::make_ram;
use crate::setup::handshake::{Handshake, News};
use crate::setup::host_device::HostDevice;
use crate::setup::idmap::Owner;
use crate::setup::mapped::become_root_of;
use crate::setup::rootfs::{self, open_root};
use crate::setup::sources::{Tree, clone_host_path, mount_image};
use crate::setup::view;

use super::lock;
use super::mounting::{self, Inside};

/// What is to be done.
#[derive(Debug)]
pub enum Task<'a> {
    /// Mount it.
    Attach {
        /// What.
        filesystem: &'a PlanFilesystem,
        /// In the place of what is mounted there.
        replace: bool,
        /// Number of the mount that is there, if it was attached before.
        known: Option<u64>,
    },
    /// Take it off.
    Detach {
        /// Where it is.
        target: &'a str,
        /// Number of its mount, if it was attached before.
        known: Option<u64>,
    },
    /// Put this over what is left of the container's view.
    Mend(&'a OwnedFd),
}

/// A task, and the container it is about.
#[derive(Debug)]
pub struct Job<'a> {
    /// What is to be done.
    pub task: Task<'a>,
    /// Pidfd of init.
    pub init: BorrowedFd<'a>,
    /// The plan.
    pub plan: &'a LaunchPlan,
    /// The container's user namespace, if it has ids of its own.
    pub user: Option<BorrowedFd<'a>>,
    /// The device that an image is on.
    pub image: Option<&'a HostDevice>,
}

/// Starts the child. Its exit status is 0 if everything is done; what failed comes over the socket before its end.
pub fn start(job: &Job<'_>) -> Result<(OwnedFd, Handshake), Errno> {
    let (ours, theirs) = Handshake::pair()?;
    match clone(0, None)? {
        Cloned::Parent { pidfd, .. } => Ok((pidfd, ours)),
        Cloned::Child => {
            let source = match job.task {
                Task::Mend(view) => Some(view.as_fd()),
                _ => job.image.map(AsFd::as_fd),
            };
            let keep: Vec<BorrowedFd<'_>> =
                [theirs.as_fd(), job.init].into_iter().chain(job.user).chain(source).collect();
            // Viewers and clients of the controller must see its end of their connections close when it does that.
            if close_others(&keep).is_err() {
                exit_now(1);
            }
            let _ = set_parent_process_death_signal(Some(Signal::KILL));
            rustix::process::umask(Mode::from_raw_mode(0o022));
            if let Err(failure) = work(job, &theirs) {
                let _ = theirs.tell(&News::Failed(failure));
                exit_now(1);
            }
            exit_now(0)
        }
    }
}

fn work(job: &Job<'_>, handshake: &Handshake) -> Outcome<()> {
    let doing = |operation| Doing::new(Step::Filesystems, operation);
    // The host's, and of this process: the container's /proc knows neither.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let process =
        open("/proc/self", flags, Mode::empty()).map_err(|e| doing("open").path("/proc/self").failed(e))?;
    let mut view = Vec::new();
    let source = match job.task {
        Task::Attach { filesystem, .. } => source(job, filesystem)?,
        Task::Detach { .. } => None,
        Task::Mend(whole) => {
            // Where nobody sees it.
            unshare(namespace::MOUNT).map_err(|e| doing("unshare").failed(e))?;
            rootfs::attach(whole)?;
            view = view::take_apart(whole)?;
            None
        }
    };
    let source = match (job.user, source) {
        (Some(user), Some(tree)) => Some(lock::lock(&tree, user)?),
        (Some(user), None) => {
            become_root_of(user).map_err(|(operation, e)| doing(operation).failed(e))?;
            None
        }
        (None, source) => source,
    };
    // Root and working directory become the container's.
    setns(job.init, namespace::MOUNT).map_err(|e| doing("setns").failed(e))?;
    let root = open_root().map_err(|e| doing("open").path("/").failed(e))?;
    let inside = Inside { root, process, handshake };
    match job.task {
        Task::Attach { filesystem, replace, known } => {
            let tree = match source {
                Some(tree) => tree,
                None => mounting::bind_source(&inside, filesystem)?,
            };
            match replace {
                true => mounting::replace(&inside, filesystem, &tree, known),
                false => mounting::attach(&inside, filesystem, &tree),
            }
        }
        Task::Detach { target, known } => mounting::detach(&inside, target, known),
        Task::Mend(_) => view::put_again(&inside.root, &view, handshake),
    }
}

/// What comes from the host, or is made: as a detached tree. None for what is inside already.
fn source(job: &Job<'_>, filesystem: &PlanFilesystem) -> Outcome<Option<Tree>> {
    let refused =
        |detail: &str| Doing::new(Step::Filesystems, "mount").target(&filesystem.target).refused(detail);
    let ids = job.plan.id_map.as_ref().zip(job.user);
    match filesystem.kind {
        PlanFilesystemKind::Mount => {
            let source = filesystem.source.as_deref().ok_or_else(|| refused("a mount needs a source"))?;
            clone_host_path(source, filesystem.readonly, ids).map(Some)
        }
        PlanFilesystemKind::Ram => {
            let fd = make_ram(filesystem, Owner::of(job.plan)?)?;
            Ok(Some(Tree { fd, directory: true }))
        }
        PlanFilesystemKind::Bind => Ok(None),
        PlanFilesystemKind::Image => {
            let (Some(device), Some(source)) = (job.image, &filesystem.source) else {
                return Err(refused("an image needs a source"));
            };
            mount_image(device, source, filesystem.readonly, ids).map(Some)
        }
    }
}
