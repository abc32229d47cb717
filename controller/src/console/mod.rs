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

use berth_schemas::controller::{ConsoleStatus, PlanConsole};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use crate::failure::{Doing, Outcome, Step};

use log::Log;
use relay::Console;
use viewer::{Line, Mode};

/// All consoles.
#[derive(Debug)]
pub struct Consoles {
    /// In the order of the plan.
    pub list: Vec<Console>,
    /// Tells when a program opens or closes a slave of a host PTY.
    pub watcher: OwnedFd,
    watches: Vec<i32>,
    next_viewer: u64,
}

impl Consoles {
    /// Makes them, without a container yet.
    pub fn make(plan: &[PlanConsole]) -> Outcome<Self> {
        let doing = |operation| Doing::new(Step::Consoles, operation);
        let watcher = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(|e| doing("inotify_init").failed(e))?;
        let mut list = Vec::with_capacity(plan.len());
        let mut watches = Vec::with_capacity(plan.len());
        for console in plan {
            let most = u64::try_from(console.log_max_bytes).unwrap_or(0);
            let keep = u32::try_from(console.log_keep).unwrap_or(0);
            let log = Log::open(&console.log_path, most, keep)
                .map_err(|e| doing("open").path(&console.log_path).failed(e))?;
            let console = Console::new(&console.device, log).map_err(|e| doing("openpty").failed(e))?;
            // On the slave: opening and closing is not to be seen at the master while we hold a slave, and without
            // one the master is hung up all the time.
            let watch = inotify::add_watch(
                &watcher,
                &*console.host.path,
                WatchFlags::OPEN | WatchFlags::CLOSE_WRITE | WatchFlags::CLOSE_NOWRITE,
            );
            watches.push(watch.map_err(|e| doing("inotify_add_watch").path(&console.host.path).failed(e))?);
            list.push(console);
        }
        Ok(Self { list, watcher, watches, next_viewer: 0 })
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

    /// Reads who has opened or closed host PTYs.
    pub fn host_ptys_changed(&mut self) {
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut changes = Vec::new();
        let mut reader = Reader::new(&self.watcher, &mut buffer);
        while let Ok(event) = reader.next() {
            changes.push((event.wd(), event.events()));
        }
        for (watch, events) in changes {
            if let Some(index) = self.watches.iter().position(|w| *w == watch) {
                self.host_pty_changed(index, events);
            }
        }
    }

    fn host_pty_changed(&mut self, index: usize, events: ReadFlags) {
        let before = self.list[index].host_opened;
        let opened = events.contains(ReadFlags::OPEN);
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
                let _ =
                    rustix::termios::tcflush(&console.host.slave, rustix::termios::QueueSelector::IOFlush);
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
