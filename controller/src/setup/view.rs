//! The container's own view of /proc and of its processors: a FUSE file system, and the program that serves it.
//!
//! The controller holds the connection for as long as the container runs and answers nothing itself. Each run of the
//! program has a descriptor of its own of that connection, so that what it owes when it dies ends with an error, and
//! what nobody has read waits for the next. Does not know what is in the files.
//!
//! The program is also asked, over a socket, what sysinfo(2) is to tell inside.

use std::collections::VecDeque;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Instant;

use berth_schemas::controller::LaunchPlan;
use berth_sys::exec::{Image, exec};
use berth_sys::fuse::clone_device;
use berth_sys::process::{Cloned, clone, exit_now, send_signal};
use rustix::fs::{MemfdFlags, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fstatfs, memfd_create, open};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, UnmountFlags, unmount};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Signal, WaitId, WaitIdOptions, chdir, fchdir, getpid, getppid, waitid};
use rustix::time::{ClockId, clock_gettime};

use crate::failure::{Doing, Outcome, Step};

use super::handshake::{Handshake, News};
use super::rootfs::Inside;
use super::{cgroup, inside, mounts, resolve};

const DEVICE: &str = "/dev/fuse";

/// What is in the file system, and what each is put over.
const FILES: &[(&str, &str)] = &[
    ("meminfo", "/proc/meminfo"),
    ("cpuinfo", "/proc/cpuinfo"),
    ("stat", "/proc/stat"),
    ("uptime", "/proc/uptime"),
    ("loadavg", "/proc/loadavg"),
    ("swaps", "/proc/swaps"),
    ("diskstats", "/proc/diskstats"),
    ("pressure.cpu", "/proc/pressure/cpu"),
    ("pressure.memory", "/proc/pressure/memory"),
    ("pressure.io", "/proc/pressure/io"),
    ("cpu", "/sys/devices/system/cpu"),
];

/// Type of the other file system that some of them are over: `SYSFS_MAGIC` of linux/magic.h.
const SYSFS: rustix::fs::FsWord = 0x6265_6572;

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
    /// Whether the connection was aborted, and what is done about it.
    pub mending: Mending,
    /// Where the program is asked about a call, while it runs.
    pub socket: Option<OwnedFd>,
    /// Calls inside that wait for an answer.
    pub calls: Calls,
}

/// System calls inside that are answered by what the program says.
#[derive(Debug, Default)]
pub struct Calls {
    /// Where they come from, if they do.
    pub listener: Option<OwnedFd>,
    /// The one that is asked about.
    pub open: Option<Call>,
    /// Those that were received after it, oldest first. More than these wait in the kernel.
    pub others: VecDeque<Call>,
    /// Nobody was able to answer the last one: until somebody is, nothing waits for who cannot be started now.
    pub hopeless: bool,
    /// Who writes the answer. It is left over where that takes longer than anybody waits.
    pub writer: Option<OwnedFd>,
    /// Where the memory of who calls is found, once somebody has called.
    pub procfs: Option<OwnedFd>,
}

/// A call that was received.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// Its number: who asks about it gets that back.
    pub id: u64,
    /// Who calls, as we see it.
    pub thread: u32,
    /// Where the answer goes in the memory of that one.
    pub address: u64,
    /// And how long it is: by that the program knows which of its forms is wanted.
    pub size: usize,
    /// When the kernel answers it, if nobody else has.
    pub deadline: Instant,
    /// How often it is asked about yet.
    pub tries: u32,
}

/// How a connection that was aborted is made good.
#[derive(Debug, Default)]
pub struct Mending {
    /// When it is tried next. Until then nobody looks at the connection.
    pub due: Option<Instant>,
    /// When it was tried last.
    pub begun: Option<Instant>,
    /// When the log was told last.
    pub told: Option<Instant>,
    /// Tries that have failed in a row, with one that is under way.
    pub tries: u32,
    /// Nobody sees it any more: there is nothing to be tried.
    pub over: bool,
}

impl View {
    /// Makes the file system and has it served. Answers it with a mount of it that is mounted nowhere yet.
    pub fn make(plan: &LaunchPlan, descriptors: &[OwnedFd]) -> Outcome<Option<(Self, OwnedFd)>> {
        if plan.view_program.is_none() {
            return Ok(None);
        }
        let (device, mount) = connect()?;
        let state = memfd_create(c"berth-view-state", MemfdFlags::CLOEXEC)
            .map_err(|e| Doing::new(Step::View, "memfd_create").failed(e))?;
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
            mending: Mending::default(),
            socket: None,
            calls: Calls::default(),
        };
        view.serve(plan, descriptors)?;
        Ok(Some((view, mount)))
    }

    /// Makes another connection, and has that served. Answers a mount of it that is mounted nowhere yet.
    pub fn renew(&mut self, plan: &LaunchPlan, descriptors: &[OwnedFd]) -> Outcome<OwnedFd> {
        self.end();
        let (device, mount) = connect()?;
        self.device = device;
        self.serve(plan, descriptors)?;
        Ok(mount)
    }

    /// Runs the program.
    pub fn serve(&mut self, plan: &LaunchPlan, descriptors: &[OwnedFd]) -> Outcome<()> {
        let failed = |operation| move |e| Doing::new(Step::View, operation).path("berth-view").failed(e);
        let program = inside::descriptor(Step::View, descriptors, plan.view_program.unwrap_or(-1))?;
        let device = open_device().map_err(failed("open"))?;
        clone_device(self.device.as_fd(), device.as_fd()).map_err(failed("clone the connection"))?;
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .map_err(failed("socketpair"))?;
        let own = CString::new(format!("/proc/self/fd/{}", program.as_raw_fd())).unwrap_or_default();
        let words = [String::from("berth-view"), format!("started={}", self.started)];
        let words = words.iter().chain(&plan.view_arguments).map(|w| CString::new(w.as_str()));
        let words = words.collect::<Result<Vec<_>, _>>().map_err(|_| failed("run")(Errno::INVAL))?;
        let group = cgroup::open_own(&plan.cgroups)?;
        // Before it is there: it ends at once if there is no question and the connection has ended.
        self.socket = Some(ours);
        self.ask();
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
                    let stderr = rustix::stdio::stderr();
                    let descriptors = [device.as_fd(), self.state.as_fd(), stderr, theirs.as_fd()];
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

    /// Ends it, and waits for that.
    fn end(&mut self) {
        self.stop();
        self.stop_writer();
        self.socket = None;
        if let Some(server) = self.server.take() {
            let _ = waitid(WaitId::PidFd(server.as_fd()), WaitIdOptions::EXITED);
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.end();
    }
}

/// A new connection, and a mount of it.
fn connect() -> Outcome<(OwnedFd, OwnedFd)> {
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
    Ok((device, mount))
}

fn open_device() -> Result<OwnedFd, Errno> {
    open(DEVICE, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
}

fn doing<'a>(operation: &'static str, path: &'a str) -> Doing<'a> {
    Doing::new(Step::View, operation).path(path)
}

/// A tree of each of its files. Only what is mounted somewhere can be taken in parts.
pub fn take_apart(view: &OwnedFd) -> Outcome<Vec<OwnedFd>> {
    let mut trees = Vec::with_capacity(FILES.len());
    for (name, _) in FILES {
        let tree = resolve::open_inside(view, name, OFlags::PATH, ResolveFlags::NO_SYMLINKS)
            .and_then(|from| mounts::clone_tree(from.as_fd(), false));
        trees.push(tree.map_err(|e| doing("open_tree", name).failed(e))?);
    }
    Ok(trees)
}

/// Puts each of its files over the one that is there. The whole is over /proc for a moment.
pub fn put(inside: &Inside<'_>, view: &OwnedFd) -> Outcome<()> {
    let find = |path| resolve::open_inside(inside.root(), path, OFlags::PATH, ResolveFlags::NO_SYMLINKS);
    find("/proc")
        .and_then(|proc| mounts::attach(view.as_fd(), proc.as_fd()))
        .map_err(|e| doing("move_mount", "/proc").failed(e))?;
    let trees = take_apart(view)?;
    fchdir(view)
        .and_then(|()| unmount(".", UnmountFlags::DETACH))
        .and_then(|()| chdir("/"))
        .map_err(|e| doing("umount", "/proc").failed(e))?;
    for ((_, path), tree) in FILES.iter().zip(&trees) {
        match find(path) {
            // This kernel does not have it.
            Err(Errno::NOENT) => Ok(()),
            point => point.and_then(|point| mounts::attach(tree.as_fd(), point.as_fd())),
        }
        .map_err(|e| doing("cover", path).failed(e))?;
    }
    Ok(())
}

/// Puts each of its files over the one of a connection that was aborted, in a container that runs and may change everything
/// meanwhile. Whatever else is there is the container's own business, and left alone. Tells when there was one.
pub fn put_again(root: &OwnedFd, trees: &[OwnedFd], handshake: &Handshake) -> Outcome<()> {
    let mut result = Ok(());
    for ((_, path), tree) in FILES.iter().zip(trees) {
        match replace(root, path, tree) {
            Ok(true) => drop(handshake.tell(&News::Mounted(0))),
            Ok(false) => {}
            Err(e) => result = Err(doing("cover", path).failed(e)),
        }
    }
    result
}

/// Answers whether there was something to replace.
fn replace(root: &OwnedFd, path: &str, tree: &OwnedFd) -> Result<bool, Errno> {
    let (folder, name) = path.rsplit_once('/').unwrap_or_default();
    let find = |at: &OwnedFd, path| resolve::open_inside(at, path, OFlags::PATH, ResolveFlags::NO_SYMLINKS);
    let found = find(root, folder).and_then(|folder| Ok((find(&folder, name)?, folder)));
    let (point, folder) = match found {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
        found => found?,
    };
    if what(&folder) != Some(false) || what(&point) != Some(true) {
        return Ok(false);
    }
    // In a container with ids of its own what was there from the start is locked, and stays under the new one.
    fchdir(&folder)?;
    let _ = unmount(name, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH);
    let point = find(&folder, name)?;
    if what(&point).is_none() {
        return Ok(false);
    }
    mounts::attach(tree.as_fd(), point.as_fd())?;
    Ok(true)
}

/// What a file is of: the kernel's own file systems (`false`), or a connection that has ended (`true`).
fn what(file: &OwnedFd) -> Option<bool> {
    match fstatfs(file) {
        Ok(found) => matches!(found.f_type, PROC_SUPER_MAGIC | SYSFS).then_some(false),
        Err(e) => (e == Errno::NOTCONN).then_some(true),
    }
}
