//! The running controller: one loop over everything that can happen.
//!
//! [`Controller`] is the whole state. What follows from an end is in [`life`], asking init to end in [`shutdown`],
//! and the calls of clients in [`crate::serve::dispatch`].

pub mod asking;
pub mod calls;
pub mod cpu_times;
pub mod history;
pub mod initctl;
pub mod life;
pub mod oom;
pub mod policy;
pub mod ready;
pub mod record;
pub mod shutdown;
pub mod view;

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use berth_schemas::controller::{ControllerState, ControllerStatus, LaunchPlan};
use berth_sys::poll::{ERR, HUP, IN, OUT, PRI, PollSet};
use rustix::process::Signal;

use crate::console::Consoles;
use crate::hotplug::Hotplug;
use crate::serve::connection::Connection;
use crate::serve::{MOST, accept};
use crate::setup::{cgroup, handshake::Created, held::Held, view::View};

use cpu_times::CpuTimes;
use history::History;
use life::{Init, Phase};
use oom::OomWatch;
use policy::Brake;
use ready::Ready;
use shutdown::Asking;

/// Everything there is.
#[derive(Debug)]
pub struct Controller {
    pub(crate) plan: LaunchPlan,
    pub(crate) consoles: Consoles,
    pub(crate) connections: Vec<Connection>,
    pub(crate) history: History,
    pub(crate) phase: Phase,
    pub(crate) init: Option<Init>,
    pub(crate) asking: Vec<Asking>,
    pub(crate) hotplug: Hotplug,
    descriptors: Vec<OwnedFd>,
    signals: OwnedFd,
    next_connection: u64,
    /// Kept open so that a restarted container has the network that the daemon has furnished.
    pub(crate) network: Option<OwnedFd>,
    /// The user namespace that the kept network belongs to, if the container has ids of its own.
    pub(crate) user: Option<OwnedFd>,
    /// Until the end; a mount of an image must be gone before the image's device.
    pub(crate) root_lock: Option<OwnedFd>,
    pub(crate) created: Vec<Created>,
    /// What of the host's the container has.
    pub(crate) held: Held,
    /// Its own view of the machine.
    view: Option<View>,
    /// Whether init has said that it is ready.
    ready: Ready,
    brake: Brake,
    restarts: i64,
    started_u_sec: i64,
    oom: OomWatch,
    /// If the plan wants them.
    pub(crate) cpu_times: Option<CpuTimes>,
    /// Whether it has moved into its own control group.
    moved: bool,
}

/// What a descriptor in the poll set is.
#[derive(Debug, Clone, Copy)]
enum Token {
    Signals,
    Listener,
    Init,
    Payload,
    Oom,
    View,
    Call,
    Answer,
    Writer,
    Ready,
    HostPtys,
    Asking(usize),
    Hotplug,
    Connection(u64),
    Master(usize),
    Viewer(usize, u64),
}

/// Whether there is anything to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Calm {
    No,
    /// Nothing for a while: what could wait is done before the next wait.
    Coming,
    Here,
}

/// After so long without anything to do a controller gives its code's memory back: most of them are idle mostly.
const SETTLE: Duration = Duration::from_secs(1);

impl Controller {
    /// Serves a connection from now on.
    pub fn adopt(&mut self, connection: Connection) {
        let id = connection.id;
        self.connections.push(connection);
        self.serve(id);
    }

    /// The status.
    pub fn status(&self) -> ControllerStatus {
        ControllerStatus {
            name: self.plan.name.clone(),
            uuid: self.plan.uuid.clone(),
            pid: i64::from(rustix::process::getpid().as_raw_nonzero().get()),
            init_pid: self.init.as_ref().map(|i| i64::from(i.pid)),
            state: match self.phase {
                Phase::Running => ControllerState::Running,
                Phase::Emptying(ref e) if e.is_restart() => ControllerState::Restarting,
                Phase::Waiting { .. } => ControllerState::Restarting,
                Phase::Emptying(_) | Phase::Over => ControllerState::Stopping,
            },
            started_u_sec: self.started_u_sec,
            restarts: self.restarts,
            consoles: self.consoles.status(),
            ready: self.ready.said(),
            sequence: self.history.sequence(),
        }
    }

    /// Runs until the container has ended. Answers the exit status.
    pub fn run(mut self) -> i32 {
        crate::setup::reach(&self.plan, crate::failure::Step::Running);
        let mut set = PollSet::default();
        let mut calm = Calm::No;
        while !matches!(self.phase, Phase::Over) {
            let now = Instant::now();
            for console in &mut self.consoles.list {
                console.tick(now);
            }
            let look = self.consoles.look_at_host_ptys(now).map(|at| at.saturating_duration_since(now));
            set.clear();
            self.fill(&mut set);
            let quiet = (calm == Calm::No).then_some(SETTLE);
            if calm == Calm::Coming {
                // The last thing before the wait: what runs in between would come back into memory at once.
                self.settle();
                calm = Calm::Here;
            }
            if set.wait(self.timeout(now).into_iter().chain(look).chain(quiet).min()).is_err() {
                // Only EINVAL or ENOMEM are left: nothing can be waited for any more.
                self.destroy();
            }
            let mut happened = false;
            for index in 0..set.len() {
                if let Some((token, events)) = set.happened(index) {
                    happened = true;
                    self.handle(token, events);
                }
            }
            if happened {
                calm = Calm::No;
            } else if calm == Calm::No && now.elapsed() >= SETTLE {
                calm = Calm::Coming;
            }
            self.timers(Instant::now());
            self.connections.retain(|c| !c.gone);
        }
        self.flush_all(Duration::from_millis(200));
        0
    }

    /// What can wait until there is nothing else to do.
    fn settle(&mut self) {
        if !self.moved {
            // Once, whether or not it works: the group is for accounting, and one more way to be killed.
            self.moved = true;
            if let Err(e) = cgroup::settle(&self.plan.cgroups) {
                crate::note(&format!("cannot move the controller into its group, ignoring: {e}"));
            }
        }
        berth_sys::memory::forget_code();
    }

    fn fill(&self, set: &mut PollSet<Token>) {
        set.add(&self.signals, IN, Token::Signals);
        set.add(&self.descriptors[self.plan.listen_file_descriptor as usize], IN, Token::Listener);
        if let Some(watcher) = &self.consoles.watcher {
            set.add(watcher, IN, Token::HostPtys);
        }
        if let Some(init) = &self.init {
            set.add(&init.pidfd, IN, Token::Init);
        }
        if let Phase::Emptying(emptying) = &self.phase
            && let Some(events) = &emptying.events
        {
            set.add(events, PRI, Token::Payload);
        }
        if let Some((fd, events)) = self.oom.polled() {
            set.add(fd, events, Token::Oom);
        }
        if let Some(view) = self.view.as_ref().filter(|_| matches!(self.phase, Phase::Running)) {
            for (fd, token) in [
                (view.waits_for(), Token::View),
                (view.calls_come_from(), Token::Call),
                (view.socket.as_ref(), Token::Answer),
                (view.writer(), Token::Writer),
            ] {
                if let Some(fd) = fd {
                    set.add(fd, IN, token);
                }
            }
        }
        if let Some(socket) = self.ready.listens_on() {
            set.add(socket, IN, Token::Ready);
        }
        for (index, asking) in self.asking.iter().enumerate() {
            set.add(&asking.helper, IN, Token::Asking(index));
        }
        if let Some(handshake) = self.hotplug.waits_for() {
            set.add(handshake, IN, Token::Hotplug);
        }
        for connection in &self.connections {
            let input = if connection.wants_input() { IN } else { 0 };
            let output = if connection.has_pending() { OUT } else { 0 };
            set.add(connection, input | output, Token::Connection(connection.id));
        }
        for (index, console) in self.consoles.list.iter().enumerate() {
            if let Some(master) = console.master().filter(|_| !console.is_waiting()) {
                set.add(master, if console.has_input() { IN | OUT } else { IN }, Token::Master(index));
            }
            for viewer in &console.viewers {
                let input = if console.wants_input(viewer) { IN } else { 0 };
                let output = if console.has_pending(viewer) { OUT } else { 0 };
                // Whose typing waits for the container is left alone even if gone by now: it was typed.
                if input | output != 0 || viewer.input_ended {
                    set.add(viewer, input | output, Token::Viewer(index, viewer.id));
                }
            }
        }
    }

    fn timeout(&self, now: Instant) -> Option<Duration> {
        let due = self.phase.deadline().into_iter().chain(self.oom.deadline()).chain(self.ready.deadline());
        let phase = due.map(|at| at.saturating_duration_since(now));
        let asking = self.asking.iter().map(|a| a.deadline.saturating_duration_since(now));
        let hotplug = self.hotplug.deadline().map(|at| at.saturating_duration_since(now));
        let consoles = self.consoles.list.iter().filter_map(|c| c.timeout());
        let view = self.view.as_ref().and_then(View::deadline).map(|at| at.saturating_duration_since(now));
        phase.chain(view).chain(asking).chain(hotplug).chain(consoles).min()
    }

    fn handle(&mut self, token: Token, events: i16) {
        match token {
            Token::Signals => {
                while let Some(signal) = berth_sys::signal::next_signal(self.signals.as_fd()) {
                    if signal == Signal::URG.as_raw() { self.ask_by_itself() } else { self.destroy() }
                }
            }
            Token::Listener => {
                self.next_connection += 1;
                let listener = &self.descriptors[self.plan.listen_file_descriptor as usize];
                let room = self.connections.len() < MOST;
                if let Some(connection) = accept(listener, self.next_connection, room) {
                    self.connections.push(connection);
                }
            }
            Token::Init => self.init_ended(),
            Token::Payload => self.look_at_payload(),
            Token::Oom => self.oom_woken(),
            Token::View => self.view_woken(events),
            Token::Call if events & IN != 0 => self.calls_wait(),
            // Nobody is left who could call.
            Token::Call => {}
            Token::Answer => self.call_answered(),
            Token::Writer => self.call_written(),
            Token::Ready => self.look_for_ready(),
            Token::HostPtys => self.consoles.host_ptys_changed(),
            Token::Asking(index) => self.asked(index),
            Token::Hotplug => self.hotplug_news(),
            Token::Connection(id) => {
                if let Some(connection) = self.connections.iter_mut().find(|c| c.id == id) {
                    if events & OUT != 0 {
                        connection.flush();
                    }
                    if events & (IN | HUP | ERR) != 0 {
                        connection.read();
                        connection.gone |= events & ERR != 0;
                    }
                }
                self.serve(id);
            }
            Token::Master(index) => {
                let console = &mut self.consoles.list[index];
                if events & OUT != 0 {
                    console.push_input();
                }
                if events & (IN | HUP | ERR) != 0 {
                    console.relay();
                }
            }
            Token::Viewer(index, id) => self.handle_viewer(index, id, events),
        }
    }

    fn handle_viewer(&mut self, index: usize, id: u64, events: i16) {
        let console = &mut self.consoles.list[index];
        if events & OUT != 0 {
            console.flush_viewer(id);
        }
        if events & IN != 0 {
            console.read_viewer(id);
        }
        if events & (HUP | ERR) != 0 && events & IN == 0 {
            console.hang_up(id);
        }
    }

    /// Gives everybody a moment to take what is left.
    fn flush_all(&mut self, moment: Duration) {
        let end = Instant::now() + moment;
        let mut set = PollSet::default();
        loop {
            set.clear();
            for connection in self.connections.iter().filter(|c| c.has_pending()) {
                set.add(connection, OUT, ());
            }
            for console in &self.consoles.list {
                for viewer in console.viewers.iter().filter(|v| console.has_pending(v)) {
                    set.add(viewer, OUT, ());
                }
            }
            let left = end.saturating_duration_since(Instant::now());
            if set.is_empty() || left.is_zero() || set.wait(Some(left)).is_err() {
                break;
            }
            for connection in &mut self.connections {
                connection.flush();
            }
            self.connections.retain(|c| !c.gone);
            for console in &mut self.consoles.list {
                console.flush_viewers();
            }
        }
        for console in &mut self.consoles.list {
            console.drop_viewers();
        }
    }
}
