//! Start, end and restart of the container.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use berth_schemas::controller::{
    ControllerEvent, ControllerExit, DestroyOut, ExitRecord, LaunchPlan, PlanAction, PlanCgroups, StepFailure,
};
use berth_sys::poll::{PRI, PollSet};
use berth_sys::process::send_signal;
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, waitid};
use rustix::time::{ClockId, clock_gettime};

use crate::console::Consoles;
use crate::failure::{Outcome, Step};
use crate::hotplug::Hotplug;
use crate::serve::call;
use crate::setup::held::Held;
use crate::setup::idmap::Owner;
use crate::setup::interfaces;
use crate::setup::network::Early;
use crate::setup::{self, Request, Started, cgroup, mount_points, reach, sources};

use super::cpu_times::CpuTimes;
use super::history::History;
use super::oom::OomWatch;
use super::policy::{Brake, End};
use super::ready::Ready;
use super::{Controller, record};

/// Longest time that killed processes may take to go, if they hang in the kernel; then the container counts as ended, with them as residue.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running init.
#[derive(Debug)]
pub struct Init {
    /// Its pid on the host.
    pub pid: i32,
    /// Its pidfd.
    pub pidfd: OwnedFd,
    since: Instant,
    oom_kills: u64,
}

/// Where the container is.
#[derive(Debug)]
pub enum Phase {
    /// Init runs.
    Running,
    /// Init has ended; the rest is killed and waited for.
    Emptying(Emptying),
    /// A restart waits, because init ended too fast.
    Waiting {
        /// Until then.
        until: Instant,
        /// How it ended.
        exit: ControllerExit,
    },
    /// Nothing is left.
    Over,
}

impl Phase {
    /// When something must be done, if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Emptying(e) => Some(e.deadline),
            Self::Waiting { until, .. } => Some(*until),
            Self::Running | Self::Over => None,
        }
    }
}

/// The rest is going.
#[derive(Debug)]
pub struct Emptying {
    /// The file that tells when nobody is left.
    pub events: Option<OwnedFd>,
    exit: ControllerExit,
    /// How long to wait before the next start; none if there is none.
    restart_after: Option<Duration>,
    deadline: Instant,
}

impl Emptying {
    /// Whether it will be started again.
    pub fn is_restart(&self) -> bool {
        self.restart_after.is_some()
    }
}

/// Now, as events tell it.
pub fn now_u_sec() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}

impl Controller {
    /// Launches the container. When that fails nothing of it is left.
    pub fn launch(
        plan: LaunchPlan,
        descriptors: Vec<OwnedFd>,
        signals: OwnedFd,
        early: Option<Early>,
    ) -> Outcome<Self> {
        let mut held = Held::take(&plan)?;
        let root_lock = sources::lock_root(&plan, &held)?;
        let consoles = Consoles::make(&plan.consoles, Owner::exclusive(plan.id_map.as_ref())?)?;
        let mut created = Vec::new();
        let oom_kills = cgroup::oom_kills(&plan.cgroups);
        // Before there is anything to count.
        let cpu_times = plan.count_cpu_times.then(|| CpuTimes::begin(&plan.cgroups)).transpose()?;
        let request = Request {
            plan: &plan,
            descriptors: &descriptors,
            is_linked: early.is_some(),
            kept_network: early.as_ref().map(|e| e.network.as_fd()),
            kept_user: early.as_ref().and_then(|e| e.user.as_ref()).map(AsFd::as_fd),
            signals: signals.as_fd(),
        };
        let started = match setup::start(&request, &mut held, &mut created) {
            Ok(started) => started,
            Err(mut failure) => {
                // Whatever was waited for then has ended for this.
                let killed = cgroup::oom_kills(&plan.cgroups) > oom_kills;
                let refused = failure.errno == Some(Errno::NOMEM.raw_os_error().into());
                if killed || refused && cgroup::met_limit(&plan.cgroups) {
                    let how = if killed { "killed, " } else { "" };
                    failure.detail =
                        Some(format!("{how}out of memory: the limit of memory is too small to start"));
                    failure.errno = None;
                }
                empty_now(&plan.cgroups);
                let mut left = cgroup::remove(&plan.cgroups);
                left.extend(mount_points::remove(&root_lock, &mut created));
                drop(root_lock);
                interfaces::note_all(held.give_back(berth_lent::new_namespace().ok()));
                for residue in left {
                    crate::note(&format!("left behind: {residue}"));
                }
                return Err(failure);
            }
        };
        let oom = OomWatch::new(&plan.cgroups);
        let mut controller = Self {
            plan,
            consoles,
            connections: Vec::new(),
            history: History::default(),
            phase: Phase::Running,
            init: None,
            asking: Vec::new(),
            hotplug: Hotplug::default(),
            descriptors,
            signals,
            next_connection: 0,
            network: None,
            user: early.and_then(|e| e.user),
            root_lock: Some(root_lock),
            created,
            held,
            view: None,
            ready: Ready::default(),
            brake: Brake::default(),
            restarts: 0,
            started_u_sec: 0,
            oom,
            cpu_times,
            moved: false,
        };
        controller.started(started, oom_kills);
        Ok(controller)
    }

    fn started(&mut self, started: Started, oom_kills: u64) {
        for (console, terminal) in self.consoles.list.iter_mut().zip(started.terminals) {
            console.connect(terminal.master, terminal.slave);
        }
        if started.network.is_some() {
            self.network = started.network;
        }
        if started.user.is_some() {
            self.user = started.user;
        }
        self.view = started.view;
        self.ready = Ready::of(started.notify);
        self.init = Some(Init { pid: started.pid, pidfd: started.pidfd, since: Instant::now(), oom_kills });
        self.started_u_sec = now_u_sec();
        self.phase = Phase::Running;
    }

    /// Kills everything; what follows comes by itself.
    pub fn destroy(&mut self) {
        if matches!(self.phase, Phase::Over) {
            return;
        }
        reach(&self.plan, Step::Stop);
        self.held.keep_nested(&self.plan.cgroups);
        cgroup::kill(&self.plan.cgroups);
        if let Some(init) = &self.init {
            // Also if it has left its group: its end is the end of its pid namespace.
            let _ = send_signal(init.pidfd.as_fd(), Signal::KILL.as_raw());
        }
        let exit = End::Destroyed.exit(now_u_sec());
        match &mut self.phase {
            Phase::Running => self.begin_emptying(exit, None),
            Phase::Waiting { .. } => self.end(exit, None),
            Phase::Emptying(emptying) => {
                emptying.restart_after = None;
                emptying.exit = exit;
            }
            Phase::Over => {}
        }
    }

    fn begin_emptying(&mut self, exit: ControllerExit, restart_after: Option<Duration>) {
        self.abandon_hotplug();
        self.ready = Ready::default();
        if let Some(view) = &self.view {
            // Who waits for an answer cannot be killed before that has ended.
            view.stop();
        }
        let events = cgroup::open_events(&self.plan.cgroups);
        let deadline = Instant::now() + PATIENCE;
        self.phase = Phase::Emptying(Emptying { events, exit, restart_after, deadline });
        self.look_at_payload();
    }

    /// Init has ended: why, and what then.
    pub fn init_ended(&mut self) {
        let Some(init) = self.init.take() else { return };
        let status =
            match waitid(WaitId::PidFd(init.pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
                Ok(None) => {
                    self.init = Some(init);
                    return;
                }
                Ok(Some(status)) => Some(status),
                Err(_) => None,
            };
        if matches!(self.phase, Phase::Emptying(_)) {
            // It was killed, and why is known.
            return self.look_at_payload();
        }
        self.look_for_oom(Instant::now(), true);
        let out_of_memory = cgroup::oom_kills(&self.plan.cgroups) > init.oom_kills;
        let (code, signal) = status.map_or((None, None), |s| (s.exit_status(), s.terminating_signal()));
        let end = End::of(code, signal, out_of_memory);
        let restart_after = match end.action(&self.plan) {
            PlanAction::Restart => self.brake.wait(init.since.elapsed()),
            PlanAction::Destroy => None,
        };
        cgroup::kill(&self.plan.cgroups);
        self.begin_emptying(end.exit(now_u_sec()), restart_after);
    }

    /// Goes on if nobody is left in the payload's group.
    pub fn look_at_payload(&mut self) {
        let Phase::Emptying(emptying) = &self.phase else { return };
        // Looked at in any case: until then the poll reports the same change again and again.
        let populated = cgroup::is_populated(emptying.events.as_ref());
        if self.init.is_some() {
            return;
        }
        if populated {
            // Once more: without cgroup.kill somebody may have forked meanwhile.
            cgroup::kill(&self.plan.cgroups);
            return;
        }
        self.emptied();
    }

    fn emptied(&mut self) {
        let Phase::Emptying(emptying) = std::mem::replace(&mut self.phase, Phase::Over) else { return };
        for console in &mut self.consoles.list {
            console.disconnect();
        }
        self.view = None;
        match emptying.restart_after {
            None => self.end(emptying.exit, None),
            Some(delay) if delay.is_zero() => self.restart(emptying.exit),
            Some(delay) => {
                self.phase = Phase::Waiting { until: Instant::now() + delay, exit: emptying.exit };
            }
        }
    }

    /// What is due.
    pub fn timers(&mut self, now: Instant) {
        self.give_up_asking(now);
        self.expire_hotplug(now);
        self.look_for_oom(now, false);
        self.ready.wake(now);
        if let Some(view) = &mut self.view {
            view.look(now);
            self.mend_view(now);
            self.go_on_with_calls();
        }
        if self.phase.deadline().is_none_or(|at| now < at) {
            return;
        }
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Waiting { exit, .. } => self.restart(exit),
            Phase::Emptying(emptying) => self.end(emptying.exit, None),
            other => self.phase = other,
        }
    }

    /// Runs the set-up again, with the network and the consoles of before.
    fn restart(&mut self, exit: ControllerExit) {
        reach(&self.plan, Step::Restart);
        // What the container made in its groups would otherwise be there before its init is.
        cgroup::remove(&self.plan.cgroups);
        cgroup::unfreeze(&self.plan.cgroups);
        let oom_kills = cgroup::oom_kills(&self.plan.cgroups);
        let request = Request {
            plan: &self.plan,
            descriptors: &self.descriptors,
            is_linked: false,
            kept_network: self.network.as_ref().map(AsFd::as_fd),
            kept_user: self.user.as_ref().map(AsFd::as_fd),
            signals: self.signals.as_fd(),
        };
        match setup::start(&request, &mut self.held, &mut self.created) {
            Ok(started) => {
                self.restarts += 1;
                let pid = started.pid;
                self.started(started, oom_kills);
                let event = self.history.restarted(exit, pid);
                self.publish(&event);
            }
            Err(failure) => {
                crate::note(&crate::birth::describe(&failure));
                empty_now(&self.plan.cgroups);
                self.end(exit, Some(*failure));
            }
        }
    }

    /// Takes down what is left, tells everybody, and is over.
    fn end(&mut self, exit: ControllerExit, failure: Option<StepFailure>) {
        reach(&self.plan, Step::Ended);
        self.phase = Phase::Over;
        for console in &mut self.consoles.list {
            console.disconnect();
        }
        self.finish_asking();
        self.finish_hotplug_now();
        let mut residue = cgroup::remove(&self.plan.cgroups);
        if let Some(root) = self.root_lock.take() {
            residue.extend(mount_points::remove(&root, &mut self.created));
        }
        // Devices that were made of images go, now that nothing is mounted from them.
        let between = self.between();
        residue.extend(self.held.give_back(between));
        residue.extend(
            self.init
                .take()
                .map(|init| format!("init, pid {}, has been killed and is still there", init.pid)),
        );
        let event = self.history.ended(exit, residue, failure);
        let record = ExitRecord {
            uuid: self.plan.uuid.clone(),
            pid: self.status().pid,
            events: self.history.since(0).cloned().collect(),
        };
        if let Err(e) = record::write(&self.plan.exit_record, &record) {
            crate::note(&format!("cannot write '{}': {e}", self.plan.exit_record));
        }
        self.publish(&event);
        // Closing an inotify instance waits for a grace period of SRCU, 13 ms here: most of the time of a destroy, if
        // we did it before our end. Whoever asked for the end closes it when it likes.
        let mut watcher = self.consoles.watcher.take();
        for connection in self.connections.iter_mut().filter(|c| c.wants_end) {
            connection.send(call::good(&DestroyOut {}), watcher.take());
        }
    }

    /// The network namespace by way of which interfaces are given back, if there are any. Whoever listens has it before
    /// one is in there: if we are killed, it is held there.
    pub fn between(&mut self) -> Option<OwnedFd> {
        if !interfaces::any_lent(&self.held.interfaces) {
            return None;
        }
        let between = berth_lent::new_namespace().ok()?;
        self.pass(Some(&between));
        Some(between)
    }

    /// Hands everybody who listens that network namespace, or says that nothing is in it any more.
    pub fn pass(&mut self, between: Option<&OwnedFd>) {
        let bytes = crate::serve::dispatch::no_event_bytes(self.history.sequence());
        for connection in self.connections.iter_mut().filter(|c| c.subscribed) {
            connection.send(bytes.clone(), between.and_then(|between| between.try_clone().ok()));
        }
    }

    /// Tells everybody who listens.
    pub fn publish(&mut self, event: &ControllerEvent) {
        let bytes = crate::serve::dispatch::event_bytes(event);
        for connection in self.connections.iter_mut().filter(|c| c.subscribed) {
            connection.send(bytes.clone(), None);
        }
    }
}

/// Kills what a failed set-up has left and waits, a second at most, until it has gone.
fn empty_now(groups: &PlanCgroups) {
    let events = cgroup::open_events(groups);
    let end = Instant::now() + Duration::from_secs(1);
    let mut set = PollSet::default();
    while cgroup::is_populated(events.as_ref()) && Instant::now() < end {
        cgroup::kill(groups);
        set.clear();
        if let Some(events) = &events {
            set.add(events, PRI, ());
        }
        let _ = set.wait(Some(end.saturating_duration_since(Instant::now())));
    }
}
