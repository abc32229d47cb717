//! The consoles of one container and everybody who looks at them.
//!
//! They outlive the container: at a restart the same consoles get a new terminal inside, and viewers stay.

pub mod host_pty;
pub mod log;
pub mod relay;
pub mod ring;
pub mod viewer;

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use berth_schemas::controller::{ConsoleStatus, PlanConsole};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use crate::failure::{Doing, Outcome, Step};
use crate::setup::idmap::Owner;
use crate::setup::mapped::act_as;

use log::Log;
use relay::Console;
use viewer::{Line, Mode};

/// All consoles.
#[derive(Debug)]
pub struct Consoles {
    /// In the order of the plan.
    pub list: Vec<Console>,
    /// Tells when a program opens or closes a slave of a host PTY. None where the user has no inotify instance left
    /// (128 by default, inotify(7)): then [`Consoles::look_at_host_ptys`] has to look from time to time.
    pub watcher: Option<OwnedFd>,
    watches: Vec<i32>,
    next_viewer: u64,
    next_look: Instant,
}

/// How often to look where nobody tells.
const LOOK: Duration = Duration::from_secs(1);

/// Watches the slaves: opening and closing is not to be seen at the master while we hold a slave, and without one the
/// master is hung up all the time.
fn watch(watcher: OwnedFd, list: &[Console]) -> Result<(OwnedFd, Vec<i32>), Errno> {
    let events = WatchFlags::OPEN | WatchFlags::CLOSE_WRITE | WatchFlags::CLOSE_NOWRITE;
    let add = |console: &Console| inotify::add_watch(&watcher, &*console.host.path, events);
    let watches = list.iter().map(add).collect::<Result<_, _>>()?;
    Ok((watcher, watches))
}

/// An inotify instance that counts for `owner`, so that many containers leave the host's root some.
fn watcher_of(owner: Option<Owner>) -> Outcome<Result<OwnedFd, Errno>> {
    let make = || inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
    let Some(owner) = owner else { return Ok(make()) };
    let made = act_as(owner).map_err(|(_, e)| e).and_then(|()| make());
    let failed = |operation, e| Doing::new(Step::Consoles, operation).failed(e);
    act_as(Owner::HOST).map_err(|(operation, e)| failed(operation, e))?;
    // A change of user makes us as dumpable as `fs.suid_dumpable` says: proc_sys_fs(5).
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|e| failed("PR_SET_DUMPABLE", e))?;
    Ok(made)
}

impl Consoles {
    /// Makes them, without a container yet. `owner` has the ids of the container, if nobody else has them.
    pub fn make(plan: &[PlanConsole], owner: Option<Owner>) -> Outcome<Self> {
        let doing = |operation| Doing::new(Step::Consoles, operation);
        let mut list = Vec::with_capacity(plan.len());
        for console in plan {
            let most = u64::try_from(console.log_max_bytes).unwrap_or(0);
            let keep = u32::try_from(console.log_keep).unwrap_or(0);
            let log = Log::open(&console.log_path, most, keep)
                .map_err(|e| doing("open").path(&console.log_path).failed(e))?;
            list.push(Console::new(&console.device, log).map_err(|e| doing("openpty").failed(e))?);
        }
        let (watcher, watches) = match watcher_of(owner)?.and_then(|watcher| watch(watcher, &list)) {
            Ok((watcher, watches)) => (Some(watcher), watches),
            // EMFILE, ENOSPC: limits per user, which are no reason not to start.
            Err(_) => {
                list.iter_mut().for_each(Console::release_host_slave);
                (None, Vec::new())
            }
        };
        Ok(Self { list, watcher, watches, next_viewer: 0, next_look: Instant::now() })
    }

    /// The number for a new viewer.
    pub fn number(&mut self) -> u64 {
        self.next_viewer += 1;
        self.next_viewer
    }

    /// Position of a console by its name; the first if there is none.
    pub fn position(&self, device: Option<&str>) -> Option<usize> {
        match device {
            Some(name) => self.list.iter().position(|c| c.device == name),
            None => (!self.list.is_empty()).then_some(0),
        }
    }

    /// Looks whether host PTYs are open, where nobody tells. Answers when to look again.
    pub fn look_at_host_ptys(&mut self, now: Instant) -> Option<Instant> {
        if self.watcher.is_some() || self.list.is_empty() {
            return None;
        }
        if now < self.next_look {
            return Some(self.next_look);
        }
        for index in 0..self.list.len() {
            let open = !self.list[index].host.is_hung_up();
            if open != (self.list[index].host_opened > 0) {
                self.host_pty_changed(index, open);
            }
        }
        self.next_look = now + LOOK;
        Some(self.next_look)
    }

    /// Reads who has opened or closed host PTYs.
    pub fn host_ptys_changed(&mut self) {
        let Some(watcher) = &self.watcher else { return };
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut changes = Vec::new();
        let mut reader = Reader::new(watcher, &mut buffer);
        while let Ok(event) = reader.next() {
            changes.push((event.wd(), event.events().contains(ReadFlags::OPEN)));
        }
        for (watch, opened) in changes {
            if let Some(index) = self.watches.iter().position(|w| *w == watch) {
                self.host_pty_changed(index, opened);
            }
        }
    }

    fn host_pty_changed(&mut self, index: usize, opened: bool) {
        let before = self.list[index].host_opened;
        self.list[index].host_opened = if opened { before + 1 } else { before.saturating_sub(1) };
        match (before, self.list[index].host_opened) {
            (0, 1) => {
                let id = self.number();
                let console = &mut self.list[index];
                if let Ok(master) = console.host.master.try_clone() {
                    console.attach(id, Line::Host(master), Mode::Shared, true);
                    console.flush_viewer(id);
                }
            }
            (1, 0) => {
                let console = &mut self.list[index];
                let host = console.viewers.iter().find(|v| matches!(v.line, Line::Host(_))).map(|v| v.id);
                if let Some(id) = host {
                    console.hang_up(id);
                }
                // What nobody has read is not for the next one, who gets the replay.
                console.flush_host();
            }
            _ => {}
        }
    }

    /// What the status says about them.
    pub fn status(&self) -> Vec<ConsoleStatus> {
        let viewers =
            |c: &Console| c.viewers.iter().filter(|v| !matches!(v.line, Line::Host(_))).count() as i64;
        self.list
            .iter()
            .map(|c| ConsoleStatus {
                device: c.device.clone(),
                host_path: c.host.path.clone(),
                viewers: viewers(c),
                printed: c.printed() as i64,
            })
            .collect()
    }
}
