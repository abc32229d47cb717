//! Devices that come and go while the container runs: calls, deadlines, and what is remembered.
//!
//! Whatever touches a path of the container is done by a child (invariant I4), one change at a time, while the loop goes
//! on. The plan follows each change, so that a restarted container has what this one had. In the same way a new connection
//! gets where the container's view was.

mod child;
mod device;
mod interface;
mod lock;
mod mounting;

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use berth_schemas::controller::{
    AttachDeviceIn, AttachDeviceOut, DetachDeviceIn, DetachDeviceOut, Error, ListDevicesOut, PlanFilesystem,
    StepFailure,
};
use berth_schemas::service::ServiceError;
use berth_sys::process::send_signal;
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, waitid};

use crate::failure::{Doing, Failure, Outcome, Step};
use crate::run::{Controller, life::Phase, shutdown::NOBODY};
use crate::serve::call;
use crate::setup::handshake::{Created, Handshake, News};
use crate::setup::held::take_image;
use crate::setup::host_device::HostDevice;
use crate::setup::mount_points;

use child::{Job, Task};

/// Longest time for a child: the container may hold it up, and a source may be on a dead network file system.
const DEADLINE: Duration = Duration::from_secs(10);

/// `Err` are the bytes of an error; `Ok(None)`: answered later.
type Handled = Result<Option<Vec<u8>>, Vec<u8>>;

/// What is under way, and what has been done.
#[derive(Debug, Default)]
pub struct Hotplug {
    work: Option<Work>,
    mounts: Vec<Mount>,
}

/// A file system that was attached to the running container.
#[derive(Debug)]
struct Mount {
    target: String,
    /// Number of its mount.
    id: u64,
    /// Mount points that were made for it.
    made: Vec<Created>,
}

/// A change that a child works on.
#[derive(Debug)]
struct Work {
    helper: OwnedFd,
    handshake: Handshake,
    deadline: Instant,
    expired: bool,
    /// The container has ended meanwhile.
    abandoned: bool,
    connection: u64,
    oneway: bool,
    change: Change,
    /// The device that an image is on.
    image: Option<HostDevice>,
    /// What the child has told.
    id: Option<u64>,
    made: Vec<Created>,
    failure: Option<Failure>,
}

#[derive(Debug)]
enum Change {
    Attach { filesystem: PlanFilesystem, replace: bool },
    Detach { target: String },
    Mend { view: OwnedFd },
}

impl Change {
    fn target(&self) -> &str {
        match self {
            Self::Attach { filesystem, .. } => &filesystem.target,
            Self::Detach { target } => target,
            Self::Mend { .. } => "/proc",
        }
    }
}

impl Hotplug {
    /// What to wait for.
    pub fn waits_for(&self) -> Option<&Handshake> {
        self.work.as_ref().map(|w| &w.handshake)
    }

    /// When the child is killed.
    pub fn deadline(&self) -> Option<Instant> {
        self.work.as_ref().map(|w| w.deadline)
    }
}

/// Whether two absolute paths are the same but for doubled slashes and dots.
fn same_path(a: &str, b: &str) -> bool {
    let parts = |path: &'_ str| -> Vec<String> {
        path.split('/').filter(|p| !p.is_empty() && *p != ".").map(str::to_owned).collect()
    };
    parts(a) == parts(b)
}

fn invalid(parameter: &str) -> Vec<u8> {
    call::service_error(&ServiceError::InvalidParameter(parameter.to_owned()))
}

fn state(message: &str) -> Vec<u8> {
    call::error(&Error::InvalidState { message: message.into() })
}

fn failed(failure: StepFailure) -> Vec<u8> {
    call::error(&Error::DeviceFailed { failure })
}

impl Controller {
    /// What the container has.
    pub fn list_devices(&self) -> Vec<u8> {
        let plan = &self.plan;
        call::good(&ListDevicesOut {
            filesystems: plan.filesystems.clone(),
            devices: plan.devices.clone(),
            host_interfaces: plan.host_interfaces.clone(),
        })
    }

    /// Whether something can be changed now.
    pub fn can_change(&self) -> Result<(), Vec<u8>> {
        if !matches!(self.phase, Phase::Running) || self.init.is_none() {
            return Err(state("init is not running"));
        }
        if self.hotplug.work.is_some() {
            return Err(state("another device is being attached or detached"));
        }
        Ok(())
    }

    fn has_filesystem(&self, target: &str) -> bool {
        self.plan.filesystems.iter().any(|f| same_path(&f.target, target))
    }

    /// A device, a file system or an interface more.
    pub fn attach_device(&mut self, id: u64, wanted: AttachDeviceIn, oneway: bool) -> Handled {
        let replace = wanted.replace.unwrap_or(false);
        match (wanted.filesystem, wanted.device, wanted.host_interface) {
            (Some(filesystem), None, None) => {
                let absolute = |path: &str| path.starts_with('/') && !path.contains('\0');
                if !absolute(&filesystem.target) || same_path(&filesystem.target, "/") {
                    return Err(invalid("filesystem"));
                }
                if filesystem.source.as_deref().is_some_and(|s| !absolute(s)) {
                    return Err(invalid("filesystem"));
                }
                self.can_change()?;
                self.check_presence(self.has_filesystem(&filesystem.target), replace, &filesystem.target)?;
                self.begin(id, oneway, Change::Attach { filesystem, replace })
            }
            (None, Some(device), None) => self.attach_file(device, replace),
            (None, None, Some(interface)) => self.attach_interface(interface, replace),
            _ => Err(invalid("filesystem")),
        }
    }

    fn check_presence(&self, there: bool, wanted: bool, name: &str) -> Result<(), Vec<u8>> {
        match (there, wanted) {
            (true, false) => {
                Err(call::error(&Error::DeviceExists { message: format!("'{name}' is there already") }))
            }
            (false, true) => {
                Err(call::error(&Error::NoSuchDevice { message: format!("there is no '{name}'") }))
            }
            _ => Ok(()),
        }
    }

    /// One of them less.
    pub fn detach_device(&mut self, id: u64, wanted: DetachDeviceIn, oneway: bool) -> Handled {
        let if_there = wanted.if_there.unwrap_or(false);
        match (wanted.filesystem, wanted.device, wanted.host_interface) {
            (Some(target), None, None) => {
                self.can_change()?;
                let there = self.has_filesystem(&target);
                if !there && if_there {
                    return Ok(Some(call::good(&DetachDeviceOut {})));
                }
                self.check_presence(there, true, &target)?;
                self.begin(id, oneway, Change::Detach { target })
            }
            (None, Some(name), None) => self.detach_file(&name, if_there),
            (None, None, Some(name)) => self.detach_interface(&name, if_there),
            _ => Err(invalid("filesystem")),
        }
    }

    /// Has the view mounted where there is one of a connection that was aborted.
    pub fn begin_mending(&mut self, view: OwnedFd) -> Result<(), Vec<u8>> {
        self.begin(NOBODY, true, Change::Mend { view }).map(drop)
    }

    fn begin(&mut self, connection: u64, oneway: bool, change: Change) -> Handled {
        let image = match &change {
            Change::Attach { filesystem, .. } => self.image_of(filesystem).map_err(|f| failed(*f))?,
            _ => None,
        };
        let Some(init) = &self.init else { return Err(state("init is not running")) };
        let known = self.hotplug.mounts.iter().find(|m| same_path(&m.target, change.target())).map(|m| m.id);
        let task = match &change {
            Change::Attach { filesystem, replace } => Task::Attach { filesystem, replace: *replace, known },
            Change::Detach { target } => Task::Detach { target, known },
            Change::Mend { view } => Task::Mend(view),
        };
        let user = self.user.as_ref().map(AsFd::as_fd);
        let job = Job { task, init: init.pidfd.as_fd(), plan: &self.plan, user, image: image.as_ref() };
        let (helper, handshake) =
            child::start(&job).map_err(|e| failed(*Doing::new(Step::Filesystems, "clone3").failed(e)))?;
        let deadline = Instant::now() + DEADLINE;
        self.hotplug.work = Some(Work {
            helper,
            handshake,
            deadline,
            expired: false,
            abandoned: false,
            connection,
            oneway,
            change,
            image,
            id: None,
            made: Vec::new(),
            failure: None,
        });
        self.set_busy(connection, true);
        Ok(None)
    }

    /// Takes hold of the device of a file system that is on one.
    fn image_of(&self, filesystem: &PlanFilesystem) -> Outcome<Option<HostDevice>> {
        match (&filesystem.image, &filesystem.source) {
            (Some(image), Some(source)) => {
                take_image(&self.plan, image, source, filesystem.readonly).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The child tells something.
    pub fn hotplug_news(&mut self) {
        let Some(work) = &mut self.hotplug.work else { return };
        match work.handshake.next() {
            Ok(Some(News::Created(made))) => work.made.push(made),
            Ok(Some(News::Mounted(id))) => work.id = Some(id),
            Ok(Some(News::Failed(failure))) => work.failure = Some(failure),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => self.finish_hotplug(),
        }
    }

    /// Kills a child that takes too long; its end is noticed as any other.
    pub fn expire_hotplug(&mut self, now: Instant) {
        if let Some(work) = self.hotplug.work.as_mut().filter(|w| w.deadline <= now) {
            let _ = send_signal(work.helper.as_fd(), Signal::KILL.as_raw());
            work.expired = true;
            // One that hangs in the kernel is not killed each turn of the loop.
            work.deadline = now + DEADLINE;
        }
    }

    /// The container ends: what is under way is given up, and all mounts go with the container.
    pub fn abandon_hotplug(&mut self) {
        self.hotplug.mounts.clear();
        if let Some(work) = &mut self.hotplug.work {
            let _ = send_signal(work.helper.as_fd(), Signal::KILL.as_raw());
            work.abandoned = true;
        }
    }

    /// The controller ends: who still waits gets an answer.
    pub fn finish_hotplug_now(&mut self) {
        if let Some(work) = self.hotplug.work.take() {
            self.created.extend(work.made);
            self.answer_later(work.connection, work.oneway, state("the container ended"));
        }
    }

    /// The child has ended.
    fn finish_hotplug(&mut self) {
        let Some(mut work) = self.hotplug.work.take() else { return };
        let status = waitid(WaitId::PidFd(work.helper.as_fd()), WaitIdOptions::EXITED);
        let failure = match status {
            Ok(Some(s)) if s.exit_status() == Some(0) => None,
            _ => Some(work.failure.take().unwrap_or_else(|| {
                let doing = Doing::new(Step::Filesystems, "change the mount").target(work.change.target());
                match work.expired {
                    true => doing.failed_because(Errno::TIMEDOUT, "it took too long"),
                    false => doing.refused("the process that does it was killed"),
                }
            })),
        };
        let bytes = if work.abandoned {
            self.remove_points(&work.made);
            state("the container ended")
        } else if let Change::Mend { .. } = work.change {
            return self.view_mended(work.id.is_some(), failure);
        } else if let Some(failure) = failure {
            self.remove_points(&work.made);
            let target = work.change.target();
            if let (Change::Attach { replace: true, .. }, Some(id)) = (&work.change, work.id) {
                // What was there before is there again, as another mount.
                let made = self.forget_mount(target);
                self.hotplug.mounts.push(Mount { target: target.to_owned(), id, made });
            }
            failed(*failure)
        } else {
            self.remember(work.change, work.id, work.made, work.image)
        };
        self.answer_later(work.connection, work.oneway, bytes);
    }

    /// Forgets the mount at a target. Answers the mount points that were made for it.
    fn forget_mount(&mut self, target: &str) -> Vec<Created> {
        let at = self.hotplug.mounts.iter().position(|m| same_path(&m.target, target));
        at.map(|at| self.hotplug.mounts.swap_remove(at).made).unwrap_or_default()
    }

    /// What was done becomes part of the plan. Answers the reply.
    fn remember(
        &mut self,
        change: Change,
        id: Option<u64>,
        made: Vec<Created>,
        image: Option<HostDevice>,
    ) -> Vec<u8> {
        let target = change.target().to_owned();
        let place = self.plan.filesystems.iter().position(|f| same_path(&f.target, &target));
        let mut before = self.forget_mount(&target);
        match change {
            Change::Attach { filesystem, .. } => {
                match place {
                    Some(at) => {
                        self.plan.filesystems[at] = filesystem;
                        self.held.filesystems[at] = image;
                    }
                    None => {
                        self.plan.filesystems.push(filesystem);
                        self.held.filesystems.push(image);
                    }
                }
                self.created.extend(made.iter().cloned());
                before.extend(made);
                self.hotplug.mounts.extend(id.map(|id| Mount { target, id, made: before }));
                call::good(&AttachDeviceOut {})
            }
            Change::Detach { .. } | Change::Mend { .. } => {
                if let Some(at) = place {
                    self.plan.filesystems.remove(at);
                    self.held.filesystems.remove(at);
                }
                self.remove_points(&before);
                call::good(&DetachDeviceOut {})
            }
        }
    }

    /// Removes mount points that nobody needs any more, innermost first; those that others need stay to be removed at
    /// the end.
    fn remove_points(&mut self, made: &[Created]) {
        let gone =
            self.root_lock.as_ref().map(|root| mount_points::remove_now(root, made)).unwrap_or_default();
        self.created.retain(|c| !gone.contains(c));
        let missing: Vec<Created> =
            made.iter().filter(|m| !gone.contains(m) && !self.created.contains(m)).cloned().collect();
        self.created.extend(missing);
    }

    fn answer_later(&mut self, id: u64, oneway: bool, bytes: Vec<u8>) {
        self.set_busy(id, false);
        if let Some(connection) = self.connections.iter_mut().find(|c| c.id == id && !oneway) {
            connection.send(bytes, None);
        }
        self.serve(id);
    }
}

#[cfg(test)]
mod test {
    use super::same_path;

    #[test]
    fn paths_are_compared_by_what_they_mean() {
        assert!(same_path("/a//b/./", "/a/b"));
        assert!(same_path("//", "/"));
        assert!(!same_path("/a/b", "/a"));
        assert!(!same_path("/a/../b", "/b"));
    }
}
