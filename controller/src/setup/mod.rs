//! Setting one container up from one plan: the controller's half.
//!
//! [`start`] prepares on the host, makes the future init, and listens to it until it has become init ([`inside`]).
//! This module does not know consoles' viewers, connections or what happens afterwards.

pub mod apparmor;
pub mod caps;
pub mod cgroup;
pub mod credentials;
pub mod dev;
pub mod device_program;
pub mod devices;
pub mod directory;
pub mod exec;
pub mod filesystems;
pub mod handshake;
pub mod held;
pub mod hide;
pub mod host_device;
pub mod idmap;
pub mod images;
pub mod inside;
pub mod interfaces;
pub mod limits;
pub mod loops;
pub mod mapped;
pub mod mount_points;
pub mod mounts;
pub mod namespaces;
pub mod nbd;
pub mod nested;
pub mod network;
pub mod nodes;
pub mod notify;
pub mod passwd;
pub mod procfs;
pub mod resolve;
pub mod rootfs;
pub mod rules;
pub mod seccomp;
pub mod sources;
pub mod special;
pub mod superblock;
pub mod user;
pub mod view;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use berth_schemas::controller::LaunchPlan;
use berth_sys::poll::{IN, PollSet};
use berth_sys::process::{Cloned, clone, send_signal};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, getpid, kill_process, waitid};

use crate::failure::{Doing, Failure, Outcome, Step};

use dev::Terminal;
use handshake::{Created, Handshake, News};
use held::Held;
use idmap::Owner;
use inside::Prepared;
use rules::Rules;

/// Longest time from clone to exec: a source on a dead network filesystem must not hold the daemon's call for ever.
const DEADLINE: Duration = Duration::from_secs(30);

/// What a set-up works on.
#[derive(Debug)]
pub struct Request<'a> {
    /// The plan.
    pub plan: &'a LaunchPlan,
    /// The descriptors that came with it.
    pub descriptors: &'a [OwnedFd],
    /// Network namespace of the run before, at a restart, or the one that was made for this start.
    pub kept_network: Option<BorrowedFd<'a>>,
    /// The kept network was made for this start, and what the daemon has made for the container is in it.
    pub is_linked: bool,
    /// User namespace that the kept network belongs to.
    pub kept_user: Option<BorrowedFd<'a>>,
    /// The controller's signals: one of them ends the set-up.
    pub signals: BorrowedFd<'a>,
}

/// A running init.
#[derive(Debug)]
pub struct Started {
    /// Its pid on the host.
    pub pid: i32,
    /// Its pidfd.
    pub pidfd: OwnedFd,
    /// The masters of its consoles.
    pub terminals: Vec<Terminal>,
    /// Its network namespace, if that is its own.
    pub network: Option<OwnedFd>,
    /// Its user namespace, if that was made now.
    pub user: Option<OwnedFd>,
    /// Its own view of the machine, if it has one.
    pub view: Option<view::View>,
    /// Where it says that it is ready, if it can reach that.
    pub notify: Option<OwnedFd>,
}

/// Kills this process if a test wants it to end at this step.
pub fn reach(plan: &LaunchPlan, step: Step) {
    if plan.kill_at_step.as_deref() == Some(step.name()) {
        let _ = kill_process(getpid(), Signal::KILL);
    }
}

/// Sets the container up with what it holds. Mount points that were made are added to `created`, also when it fails.
pub fn start(request: &Request<'_>, held: &mut Held, created: &mut Vec<Created>) -> Outcome<Started> {
    let plan = request.plan;
    reach(plan, Step::Cgroup);
    let owner = Owner::of(plan)?;
    cgroup::prepare(&plan.cgroups, owner)?;
    let view = view::View::make(plan, request.descriptors)?;
    reach(plan, Step::Ids);
    let new_user = match &plan.id_map {
        Some(map) if request.kept_user.is_none() => Some(idmap::make_namespace(map)?),
        _ => None,
    };
    let user = new_user.as_ref().map(AsFd::as_fd).or(request.kept_user);
    reach(plan, Step::Consoles);
    let devpts = dev::make_devpts(owner)?;
    let make_terminal = |_| dev::make_terminal(devpts.as_fd(), owner);
    let terminals = plan.consoles.iter().map(make_terminal).collect::<Outcome<Vec<_>>>()?;
    reach(plan, Step::Dev);
    let dev = dev::make_dev(plan.consoles.len(), owner)?;
    reach(plan, Step::Nodes);
    held.make_files(&dev, owner)?;
    reach(plan, Step::Sources);
    let sources = sources::open_all(plan, held, user)?;
    reach(plan, Step::Rules);
    held.rules = begin_rules(plan, held)?;
    cgroup::prepare_legacy(&plan.cgroups, owner)?;
    let (mut view, mount) = view.unzip();
    let server = view.as_ref().and_then(|v: &view::View| v.server.as_ref()).map(AsFd::as_fd);
    let prepared = Prepared {
        plan,
        view: mount,
        server,
        descriptors: request.descriptors,
        sources,
        dev,
        devpts,
        terminals,
        kept_network: request.kept_network,
        user,
        profile: apparmor::door(plan)?,
        notify: notify::make()?,
    };
    reach(plan, Step::Clone);
    let (pid, pidfd, handshake) = match user {
        None => make_init(&prepared)?,
        Some(user) => mapped::make_init(&prepared, user)?,
    };
    match attend(request, &prepared, held, pid, &pidfd, &handshake, created) {
        Ok(Attended { network, listening, calls }) => {
            held.dev = Some(prepared.dev);
            let (terminals, notify) = (prepared.terminals, listening.then_some(prepared.notify));
            if let Some(view) = &mut view {
                view.calls.listener = calls;
            }
            Ok(Started { pid, pidfd, terminals, network, user: new_user, view, notify })
        }
        Err(failure) => {
            // Who waits for an answer ends no sooner.
            drop(view);
            let _ = send_signal(pidfd.as_fd(), Signal::KILL.as_raw());
            let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
            Err(failure)
        }
    }
}

/// Puts the rules for devices in force. Root inside that is root outside could open every device without them; with ids
/// of its own it can make no device file.
fn begin_rules(plan: &LaunchPlan, held: &Held) -> Outcome<Rules> {
    let protected = held.devices.iter().any(|d| d.readonly && !d.host.is_readonly_itself());
    match Rules::begin(&plan.cgroups, held.rules()) {
        Err(failure) if plan.id_map.is_some() && !protected => {
            crate::note(&format!("devices are not ruled: {}", crate::birth::describe(&failure)));
            Ok(Rules::default())
        }
        begun => begun,
    }
}

/// Makes the future init, in its v2 group from birth where the kernel can do that.
fn make_init(p: &Prepared<'_>) -> Outcome<(i32, OwnedFd, Handshake)> {
    let plan = p.plan;
    let failed = |operation| move |e| Doing::new(Step::Clone, operation).failed(e);
    let (ours, theirs) = Handshake::pair().map_err(failed("socketpair"))?;
    let namespaces = namespaces::to_make(plan, p.kept_network.is_some());
    let (cloned, join_payload) = clone_into_payload(plan, namespaces)?;
    match cloned {
        Cloned::Child => {
            drop(ours);
            inside::become_init(p, join_payload, theirs)
        }
        Cloned::Parent { pid, pidfd } => {
            drop(theirs);
            Ok((pid, pidfd, ours))
        }
    }
}

/// Clones into the payload group. Where the kernel does not do that, the second value says that the child has to join by
/// itself, for which it waits much longer: see [`cgroup::settle`].
fn clone_into_payload(plan: &LaunchPlan, namespaces: i32) -> Outcome<(Cloned, bool)> {
    let failed = |e| Doing::new(Step::Clone, "clone3").failed(e);
    let group = cgroup::open_payload(&plan.cgroups)?;
    match clone(namespaces, Some(group.as_fd())) {
        // A group that takes no members that way, or no such flag.
        Err(Errno::BUSY | Errno::OPNOTSUPP | Errno::INVAL | Errno::TOOBIG | Errno::ACCESS) => {
            Ok((clone(namespaces, None).map_err(failed)?, true))
        }
        result => Ok((result.map_err(failed)?, false)),
    }
}

/// What the future init has told.
#[derive(Debug)]
struct Attended {
    /// Its network namespace, if that is its own.
    network: Option<OwnedFd>,
    /// It will find the socket of [`notify`].
    listening: bool,
    /// Where system calls of its are received that wait for an answer.
    calls: Option<OwnedFd>,
}

/// Listens to the future init until it has become init.
fn attend(
    request: &Request<'_>,
    prepared: &Prepared<'_>,
    held: &mut Held,
    pid: i32,
    pidfd: &OwnedFd,
    handshake: &Handshake,
    created: &mut Vec<Created>,
) -> Outcome<Attended> {
    let plan = request.plan;
    let mut step = Step::Clone;
    let mut ready = false;
    let mut network = None;
    let mut listening = false;
    let mut calls = None;
    let deadline = Instant::now() + DEADLINE;
    handshake.go().map_err(|e| Doing::new(Step::Clone, "handshake").failed(e))?;
    loop {
        wait_for_news(request, prepared, handshake, step, deadline)?;
        match handshake.next().map_err(|e| Doing::new(step, "handshake").failed(e))? {
            Some(News::Enter(next)) => step = next,
            Some(News::Joined) => {
                reach(plan, Step::Limits);
                limits::allow(plan, pid)?;
                namespaces::begin_time(plan, pid);
                // Its pid cannot be another's: it is our child, and not reaped.
                if namespaces::has_own_network(plan) {
                    let opened = open_network(pid)?;
                    reach(plan, Step::Interfaces);
                    held.move_interfaces(plan, &opened, request.is_linked)?;
                    network = Some(opened);
                }
                if prepared.user.is_some() {
                    build(request, prepared, pidfd, deadline, created)?;
                }
                handshake.go().map_err(|e| Doing::new(step, "handshake").failed(e))?;
            }
            Some(News::Created(made)) => created.push(made),
            Some(News::Failed(failure)) => return Err(failure),
            Some(News::KillMe) => {
                let _ = send_signal(pidfd.as_fd(), Signal::KILL.as_raw());
            }
            Some(News::Ready) => ready = true,
            Some(News::FoundNotify) => listening = true,
            Some(News::Calls(listener)) => calls = listener,
            Some(News::Born(_) | News::Mounted(_)) => {}
            None if ready => {
                apparmor::verify(plan, prepared.profile.as_ref(), pid)?;
                return Ok(Attended { network, listening, calls });
            }
            None => return Err(died(step, pidfd)),
        }
    }
}

/// Has the mounts made for a future init with ids of its own, which waits.
fn build(
    request: &Request<'_>,
    prepared: &Prepared<'_>,
    init: &OwnedFd,
    deadline: Instant,
    created: &mut Vec<Created>,
) -> Outcome<()> {
    let (builder, handshake) = mapped::make_builder(prepared, init)?;
    let result = attend_builder(request, prepared, &builder, init, &handshake, deadline, created);
    if result.is_err() {
        let _ = send_signal(builder.as_fd(), Signal::KILL.as_raw());
    }
    let _ = waitid(WaitId::PidFd(builder.as_fd()), WaitIdOptions::EXITED);
    result
}

fn attend_builder(
    request: &Request<'_>,
    prepared: &Prepared<'_>,
    builder: &OwnedFd,
    init: &OwnedFd,
    handshake: &Handshake,
    deadline: Instant,
    created: &mut Vec<Created>,
) -> Outcome<()> {
    let mut step = Step::Namespaces;
    loop {
        wait_for_news(request, prepared, handshake, step, deadline)?;
        match handshake.next().map_err(|e| Doing::new(step, "handshake").failed(e))? {
            Some(News::Enter(next)) => step = next,
            Some(News::Created(made)) => created.push(made),
            Some(News::Failed(failure)) => return Err(failure),
            // The end of the future init is the end of everybody in its pid namespace.
            Some(News::KillMe) => {
                let _ = send_signal(init.as_fd(), Signal::KILL.as_raw());
            }
            Some(
                News::Joined
                | News::Ready
                | News::FoundNotify
                | News::Calls(_)
                | News::Born(_)
                | News::Mounted(_),
            ) => {}
            None => {
                let status =
                    waitid(WaitId::PidFd(builder.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
                let done = matches!(status, Ok(Some(s)) if s.exit_status() == Some(0));
                return if done { Ok(()) } else { Err(died(step, builder)) };
            }
        }
    }
}

fn wait_for_news(
    request: &Request<'_>,
    prepared: &Prepared<'_>,
    handshake: &Handshake,
    step: Step,
    deadline: Instant,
) -> Outcome<()> {
    let doing = Doing::new(step, "wait");
    let mut server = prepared.server;
    let mut set = PollSet::default();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(doing.failed_because(Errno::TIMEDOUT, "the set-up takes too long"));
        }
        set.clear();
        set.add(handshake, IN, true);
        set.add(&request.signals, IN, false);
        if let Some(server) = &server {
            set.add(server, IN, false);
        }
        set.wait(Some(left)).map_err(|e| doing.failed(e))?;
        if set.happened(0).is_some() {
            return Ok(());
        }
        if set.happened(1).is_some() {
            return Err(doing.failed_because(Errno::CANCELED, "the controller was told to end"));
        }
        if let Some(pidfd) = server.take_if(|_| set.happened(2).is_some()) {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            // It leaves by itself only when all has been put in its place. Otherwise whoever looks at a file of the view
            // would wait for ever.
            if !matches!(waitid(WaitId::PidFd(pidfd), options), Ok(Some(s)) if s.exit_status() == Some(0)) {
                return Err(doing.failed_because(Errno::PIPE, "berth-view has ended"));
            }
        }
    }
}

fn open_network(pid: i32) -> Outcome<OwnedFd> {
    let path = format!("/proc/{pid}/ns/net");
    open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Doing::new(Step::Namespaces, "open").path(&path).failed(e))
}

/// The future init ended without a word.
fn died(step: Step, pidfd: &OwnedFd) -> Failure {
    let status = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    let how = match status {
        Ok(Some(status)) => match (status.terminating_signal(), status.exit_status()) {
            (Some(signal), _) => format!("killed by signal {signal}"),
            (_, Some(code)) => format!("exited with status {code}"),
            _ => "ended".to_owned(),
        },
        _ => "ended".to_owned(),
    };
    Doing::new(step, "wait").refused(format!("the future init was {how} in this step"))
}
