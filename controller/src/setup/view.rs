//! The container's own view of /proc and of its processors: a FUSE file system, and the program that serves it.
//!
//! The controller holds the connection for as long as the container runs and answers nothing itself. Each run of the
//! program has a descriptor of its own of that connection, so that what it owes when it dies ends with an error, and
//! what nobody has read waits for the next. Does not know what is in the files.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Instant;

use berth_schemas::controller::LaunchPlan;
use berth_sys::exec::{Image, exec};
use berth_sys::fuse::clone_device;
use berth_sys::process::{Cloned, clone, exit_now, send_signal};
use rustix::fs::{MemfdFlags, Mode, OFlags, ResolveFlags, memfd_create, open};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, UnmountFlags, unmount};
use rustix::process::{Signal, WaitId, WaitIdOptions, chdir, fchdir, getpid, getppid, waitid};
use rustix::time::{ClockId, clock_gettime};

use crate::failure::{Doing, Outcome, Step};

use super::rootfs::Inside;
use super::{cgroup, inside, mounts, resolve};

const DEVICE: &str = "/dev/fuse";

/// What is put over what is there of /proc. In the file system a point stands for the slash.
const FILES: &[&str] = &[
    "meminfo",
    "cpuinfo",
    "stat",
    "uptime",
    "loadavg",
    "swaps",
    "diskstats",
    "pressure/cpu",
    "pressure/memory",
    "pressure/io",
];

/// The view of a running container. The end of it is the end of the connection, and of who serves it.
#[derive(Debug)]
pub struct View {
    /// The connection.
    pub device: OwnedFd,
    /// What outlives a run of the program.
    state: OwnedFd,
    /// When the container started: CLOCK_BOOTTIME in nanoseconds.
    started: i64,
    /// Pidfd of the program, while it runs.
    pub server: Option<OwnedFd>,
    /// Since when.
    pub since: Instant,
    /// How often it has failed in a row.
    pub failures: u32,
    /// When it is looked at next, and whether it was stopped at the last look.
    pub look: (Instant, bool),
}

impl View {
    /// Makes the file system and has it served. Answers it with a mount of it that is mounted nowhere yet.
    pub fn make(plan: &LaunchPlan, descriptors: &[OwnedFd]) -> Outcome<Option<(Self, OwnedFd)>> {
        if plan.view_program.is_none() {
            return Ok(None);
        }
        let failed = |operation| move |e| Doing::new(Step::View, operation).path(DEVICE).failed(e);
        let device = open_device().map_err(failed("open"))?;
        let number = device.as_raw_fd().to_string();
        let options = [
            ("source", "berth-view"),
            ("fd", &number),
            ("rootmode", "40000"),
            ("user_id", "0"),
            ("group_id", "0"),
            ("allow_other", ""),
            ("default_permissions", ""),
            ("ro", ""),
        ];
        let attributes = mounts::data_only() | MountAttrFlags::MOUNT_ATTR_RDONLY;
        let mount = mounts::make("fuse", &options, attributes).map_err(failed("mount"))?;
        let state = memfd_create(c"berth-view-state", MemfdFlags::CLOEXEC).map_err(failed("memfd_create"))?;
        let now = clock_gettime(ClockId::Boottime);
        let started = now.tv_sec * 1_000_000_000 + now.tv_nsec;
        let mut view = Self {
            device,
            state,
            started,
            server: None,
            since: Instant::now(),
            failures: 0,
            look: (Instant::now(), false),
        };
        view.serve(plan, descriptors)?;
        Ok(Some((view, mount)))
    }

    /// Runs the program.
    pub fn serve(&mut self, plan: &LaunchPlan, descriptors: &[OwnedFd]) -> Outcome<()> {
        let failed = |operation| move |e| Doing::new(Step::View, operation).path("berth-view").failed(e);
        let program = inside::descriptor(Step::View, descriptors, plan.view_program.unwrap_or(-1))?;
        let device = open_device().map_err(failed("open"))?;
        clone_device(self.device.as_fd(), device.as_fd()).map_err(failed("clone the connection"))?;
        let own = CString::new(format!("/proc/self/fd/{}", program.as_raw_fd())).unwrap_or_default();
        let words = [String::from("berth-view"), format!("started={}", self.started)];
        let words = words.iter().chain(&plan.view_arguments).map(|w| CString::new(w.as_str()));
        let words = words.collect::<Result<Vec<_>, _>>().map_err(|_| failed("run")(Errno::INVAL))?;
        let group = cgroup::open_own(&plan.cgroups)?;
        let ourselves = getpid();
        // Not in the container's group, where it would stop with it, and not among its processes.
        let made = clone(0, Some(group.as_fd())).or_else(|_| clone(0, None));
        match made.map_err(failed("clone3"))? {
            Cloned::Parent { pidfd, .. } => {
                self.server = Some(pidfd);
                self.since = Instant::now();
                self.look = (self.since, false);
                Ok(())
            }
            Cloned::Child => {
                let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
                if getppid() == Some(ourselves)
                    && let Ok(report) = rustix::io::dup(&device)
                {
                    let descriptors = [device.as_fd(), self.state.as_fd(), rustix::stdio::stderr()];
                    let image =
                        Image { path: &own, arguments: &words, environment: &[], descriptors: &descriptors };
                    let _ = exec(&image, report);
                }
                exit_now(127)
            }
        }
    }

    /// Ends the program if it runs, and with it whatever somebody waits for.
    pub fn stop(&self) {
        if let Some(server) = &self.server {
            let _ = send_signal(server.as_fd(), Signal::KILL.as_raw());
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.stop();
        if let Some(server) = &self.server {
            let _ = waitid(WaitId::PidFd(server.as_fd()), WaitIdOptions::EXITED);
        }
    }
}

fn open_device() -> Result<OwnedFd, Errno> {
    open(DEVICE, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
}

/// Puts each of its files over the one that is there. Only what is mounted somewhere can be taken in parts, so the whole
/// is over /proc meanwhile.
pub fn put(inside: &Inside<'_>, view: &OwnedFd) -> Outcome<()> {
    let doing = |operation| Doing::new(Step::View, operation);
    let flags = ResolveFlags::NO_SYMLINKS;
    let find = |path| {
        resolve::open_inside(inside.root(), path, OFlags::PATH, flags)
            .map_err(|e| doing("open").path(path).failed(e))
    };
    let (proc, cpus) = (find("/proc")?, find("/sys/devices/system/cpu")?);
    mounts::attach(view.as_fd(), proc.as_fd()).map_err(|e| doing("move_mount").target("/proc").failed(e))?;
    let cover = |name: &str, point: &OwnedFd| {
        let from = resolve::open_inside(view, name, OFlags::PATH, flags)?;
        mounts::attach(mounts::clone_tree(from.as_fd(), false)?.as_fd(), point.as_fd())
    };
    for path in FILES {
        let point = match resolve::open_inside(&proc, path, OFlags::PATH, flags) {
            // This kernel does not have it.
            Err(Errno::NOENT) => continue,
            point => point.map_err(|e| doing("open").path(path).failed(e))?,
        };
        cover(&path.replace('/', "."), &point).map_err(|e| doing("cover").path(path).failed(e))?;
    }
    cover("cpu", &cpus).map_err(|e| doing("cover").path("cpu").failed(e))?;
    fchdir(view).and_then(|()| unmount(".", UnmountFlags::DETACH)).map_err(|e| doing("umount").failed(e))?;
    chdir("/").map_err(|e| doing("chdir").path("/").failed(e))
}
