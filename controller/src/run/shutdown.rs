//! Asking init to power off or to restart.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use berth_schemas::controller::{Error, ShutdownOut};
use berth_sys::poll::{IN, PollSet};
use berth_sys::process::send_signal;
use rustix::process::{Signal, WaitId, WaitIdOptions, waitid};

use crate::serve::call;

use super::asking::Init;
use super::{Controller, initctl};

/// A way to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// By a signal that this init has a meaning for.
    Signal,
    /// By the fifo of System V's init.
    Initctl,
}

/// Longest time for the helper that writes to the fifo.
const DEADLINE: Duration = Duration::from_secs(2);

/// How long the end of a container waits for them.
const FINISH: Duration = Duration::from_secs(1);

/// A request that a helper works on.
#[derive(Debug)]
pub struct Asking {
    /// The helper's pidfd.
    pub helper: OwnedFd,
    /// When it is killed.
    pub deadline: Instant,
    connection: u64,
    oneway: bool,
    restart: bool,
    /// What is tried if it does not work.
    rest: Vec<Mode>,
}

/// No connection has this number: the first is 0, and it is the daemon's.
pub const NOBODY: u64 = u64::MAX;

impl Controller {
    /// The host's service manager stops the container's scope. One that cannot be asked is ended.
    pub fn ask_by_itself(&mut self) {
        if self.init.is_some() {
            self.ask(NOBODY, true, false, &[Mode::Signal, Mode::Initctl]);
        }
    }

    /// Tries the ways one after the other; answers on the connection, now or when a helper is done.
    pub fn ask(&mut self, connection: u64, oneway: bool, restart: bool, modes: &[Mode]) {
        for (index, mode) in modes.iter().enumerate() {
            let Some(init) = &self.init else { break };
            match mode {
                Mode::Signal => {
                    let Some(ask) = look(init.pid).choose(restart) else { continue };
                    if send_signal(init.pidfd.as_fd(), ask.signal).is_ok() {
                        return self.answer_asked(connection, oneway, Some(ask.name));
                    }
                }
                Mode::Initctl => {
                    let Ok(helper) = initctl::start(&init.pidfd, self.plan.id_map.is_some(), restart) else {
                        continue;
                    };
                    let deadline = Instant::now() + DEADLINE;
                    let rest = modes[index + 1..].to_vec();
                    self.asking.push(Asking { helper, deadline, connection, oneway, restart, rest });
                    self.set_busy(connection, true);
                    return;
                }
            }
        }
        self.answer_asked(connection, oneway, None);
    }

    /// A helper has ended.
    pub fn asked(&mut self, index: usize) {
        if index >= self.asking.len() {
            return;
        }
        let asking = self.asking.remove(index);
        let status = waitid(WaitId::PidFd(asking.helper.as_fd()), WaitIdOptions::EXITED);
        let done = matches!(status, Ok(Some(s)) if s.exit_status() == Some(0));
        self.set_busy(asking.connection, false);
        if done {
            self.answer_asked(asking.connection, asking.oneway, Some("initctl"));
        } else {
            self.ask(asking.connection, asking.oneway, asking.restart, &asking.rest);
        }
        self.serve(asking.connection);
    }

    /// Answers those who still wait for a helper when the container ends: init may be faster than who has asked it.
    pub fn finish_asking(&mut self) {
        let end = Instant::now() + FINISH;
        let mut set = PollSet::default();
        while let Some(asking) = self.asking.first() {
            set.clear();
            set.add(&asking.helper, IN, ());
            let left = end.saturating_duration_since(Instant::now());
            if set.wait(Some(left)).is_err() || (set.happened(0).is_none() && left.is_zero()) {
                return;
            }
            if set.happened(0).is_some() {
                self.asked(0);
            }
        }
    }

    /// Kills helpers that take too long; their end is noticed as any other.
    pub fn give_up_asking(&mut self, now: Instant) {
        for asking in self.asking.iter_mut().filter(|a| a.deadline <= now) {
            let _ = send_signal(asking.helper.as_fd(), Signal::KILL.as_raw());
            // One that hangs in the kernel is not killed each turn of the loop.
            asking.deadline = now + DEADLINE;
        }
    }

    /// Whether a call of a connection is being worked on: its next one waits.
    pub fn set_busy(&mut self, id: u64, busy: bool) {
        if let Some(connection) = self.connections.iter_mut().find(|c| c.id == id) {
            connection.busy = busy;
        }
    }

    fn answer_asked(&mut self, id: u64, oneway: bool, asked: Option<&str>) {
        if id == NOBODY {
            if asked.is_none() {
                self.destroy();
            }
            return;
        }
        let bytes = match asked {
            Some(asked) => call::good(&ShutdownOut { asked: asked.to_owned() }),
            None => call::error(&Error::NotAnswering {
                message: format!(
                    "init '{}' handles none of the signals that would ask it, and has no initctl fifo: 'destroy' ends it",
                    self.plan.init.path
                ),
            }),
        };
        if let Some(connection) = self.connections.iter_mut().find(|c| c.id == id && !oneway) {
            connection.send(bytes, None);
        }
    }
}

/// What the kernel knows about init. Its pid is not another's: we have not reaped it.
fn look(pid: i32) -> Init {
    // Init chose its name, which need not be UTF-8.
    let status = std::fs::read(format!("/proc/{pid}/status")).unwrap_or_default();
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    Init::from_proc(
        &String::from_utf8_lossy(&status),
        &program.to_string_lossy(),
        &String::from_utf8_lossy(&arguments),
    )
}
