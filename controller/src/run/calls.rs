//! sysinfo(2) inside: received from the kernel, asked of who serves the view one after the other, and written to who has called.
//!
//! Whatever goes wrong, the kernel answers the call as if nobody had been asked: then it tells about the host, and what is
//! wrong about the call itself is told by it too. Does not know what the answer says.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use berth_sys::poll::{IN, PollSet};
use berth_sys::process::{Cloned, clone, close_all_but, exit_now, send_signal};
use berth_sys::seccomp::{answer, is_waiting, receive};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, pwrite, read, write};
use rustix::process::{Signal, WaitId, WaitIdOptions, set_parent_process_death_signal, waitid};

use super::Controller;
use super::life::Phase;
use crate::birth::describe;
use crate::failure::Step;
use crate::setup::procfs;
use crate::setup::view::{Call, View};

/// Longest time for an answer. A program that has stopped is replaced before, and its follower asked.
const PATIENCE: Duration = Duration::from_secs(6);

/// How many programs are asked about one call.
const TRIES: u32 = 3;

/// How many calls are received before they are asked about. Until it is received, any signal ends a call, and then it cannot be
/// stopped, either: not more than are answered in a moment.
const MOST: usize = 64;

/// `AUDIT_ARCH_I386`: there the answer is shorter.
const I386: u32 = 0x4000_0003;

/// Sizes of `struct sysinfo`.
const SIZE: usize = 112;
const SIZE_I386: usize = 64;

impl View {
    /// Where the next call comes from, if it may come.
    pub fn calls_come_from(&self) -> Option<&OwnedFd> {
        let room = self.calls.others.len() < MOST && self.held_until().is_none();
        self.calls.listener.as_ref().filter(|_| room)
    }

    /// Until when calls wait because nobody may be started. Those that are not received can be ended by any signal meanwhile.
    pub fn held_until(&self) -> Option<Instant> {
        let pause = self.pause();
        let held = self.server.is_none() && !self.calls.hopeless && pause > Instant::now();
        held.then_some(pause)
    }

    /// Whose end says that the answer is written.
    pub fn writer(&self) -> Option<&OwnedFd> {
        self.calls.writer.as_ref()
    }

    /// Takes a call. Answers whether there was one.
    fn receive(&mut self) -> bool {
        let Some(listener) = self.calls_come_from() else { return false };
        // Without one the kernel would wait for it, and we for the container. What we have heard of may have been another
        // listener: there is a new one after a restart.
        let mut set = PollSet::default();
        set.add(listener, IN, ());
        let heard =
            set.wait(Some(Duration::ZERO)).is_ok() && set.happened(0).is_some_and(|(_, e)| e & IN != 0);
        let Some(Ok(call)) = heard.then(|| receive(listener.as_fd())) else { return false };
        self.calls.others.push_back(Call {
            id: call.id,
            thread: call.thread,
            address: call.arguments[0],
            size: if call.arch == I386 { SIZE_I386 } else { SIZE },
            deadline: Instant::now(),
            tries: TRIES,
        });
        true
    }

    /// Whether there is a call to be asked about: the next one, or one that has waited for the end of a pause.
    fn next(&mut self) -> bool {
        if self.held_until().is_some() {
            return false;
        }
        if self.calls.open.is_some() {
            return self.server.is_none() && self.calls.writer.is_none();
        }
        let Some(mut call) = self.calls.others.pop_front() else { return false };
        call.deadline = Instant::now() + PATIENCE;
        if self.calls.hopeless {
            call.tries = 1;
        }
        self.calls.open = Some(call);
        true
    }

    /// Asks about the call that is open, if there is one: the number of the call, and the size of the answer.
    pub fn ask(&mut self) {
        let Some(call) = self.calls.open.as_mut().filter(|_| self.calls.writer.is_none()) else { return };
        let mut question = [0; 9];
        question[..8].copy_from_slice(&call.id.to_ne_bytes());
        question[8] = call.size as u8;
        let left = call.tries;
        call.tries = left.saturating_sub(1);
        let asked = self.socket.as_ref().map(|socket| write(socket, &question));
        // One that has just ended: as soon as that is told, another is asked.
        let ended = matches!(asked, None | Some(Err(Errno::PIPE | Errno::CONNRESET)));
        if left == 0 || !ended && !matches!(asked, Some(Ok(_))) {
            self.pass();
        }
    }

    /// Nobody can answer the call that is open.
    pub fn despair(&mut self) {
        self.calls.hopeless = true;
        self.pass();
    }

    /// Leaves the call that is open to the kernel.
    pub fn pass(&mut self) {
        if let Some(call) = self.calls.open.take() {
            self.end_call(&call, false);
        }
    }

    fn end_call(&self, call: &Call, done: bool) {
        if let Some(listener) = &self.calls.listener {
            // Who has called may be gone: then nobody waits.
            let _ = answer(listener.as_fd(), call.id, done);
        }
    }

    /// Who serves has said something, or hung up.
    fn answered(&mut self) {
        let mut bytes = [0; 8 + SIZE];
        let length = match self.socket.as_ref().map(|socket| read(socket, &mut bytes)) {
            Some(Err(Errno::AGAIN | Errno::INTR)) => return,
            Some(Ok(length)) if length >= 8 => length,
            // It ends, of which we hear elsewhere.
            _ => return self.socket = None,
        };
        let (id, text) = bytes[..length].split_at(8);
        // Something else is an answer that came too late.
        let asked = |call: &Call| call.id.to_ne_bytes() == id;
        if let Some(call) = self.calls.open.filter(asked).filter(|_| self.calls.writer.is_none()) {
            self.calls.hopeless = false;
            if text.len() == call.size {
                self.calls.writer = self.fill(&call, text);
            }
            if self.calls.writer.is_none() {
                self.pass();
            }
        }
    }

    /// Has the memory of who has called written to: of nobody else, as what was opened stays the memory of that process, and
    /// it was that one if the call still waits. By a process of its own, as the address may be in a file that is mapped, and
    /// who writes there waits for whoever has the file: a server of FUSE inside, or the program of the view, which is ours to
    /// start. Answers who writes.
    fn fill(&mut self, call: &Call, text: &[u8]) -> Option<OwnedFd> {
        if self.calls.procfs.is_none() {
            self.calls.procfs = procfs::private(Step::View).ok();
        }
        let path = format!("{}/mem", call.thread);
        let memory =
            openat(self.calls.procfs.as_ref()?, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        let memory = memory.ok()?;
        let waits = is_waiting(self.calls.listener.as_ref()?.as_fd(), call.id);
        match waits.then(|| clone(0, None))?.ok()? {
            Cloned::Child => {
                let _ = set_parent_process_death_signal(Some(Signal::KILL));
                // Nothing of the controller's must stay open for as long as this takes.
                let written = close_all_but(memory).and_then(|memory| pwrite(&memory, text, call.address));
                exit_now(i32::from(written != Ok(text.len())))
            }
            Cloned::Parent { pidfd, .. } => Some(pidfd),
        }
    }

    /// Who writes has ended.
    fn written(&mut self) {
        let Some(writer) = self.calls.writer.take() else { return };
        let end = waitid(WaitId::PidFd(writer.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        let done = end.is_ok_and(|status| status.is_some_and(|s| s.exit_status() == Some(0)));
        if let Some(call) = self.calls.open.take() {
            self.end_call(&call, done);
        }
    }

    /// Kills who writes. It may wait for something that only the end of the container ends.
    pub fn stop_writer(&self) {
        if let Some(writer) = &self.calls.writer {
            let _ = send_signal(writer.as_fd(), Signal::KILL.as_raw());
        }
    }

    /// Gives up on who does not answer in time.
    pub fn look_at_call(&mut self, now: Instant) {
        if self.calls.open.is_some_and(|call| now >= call.deadline) {
            match self.calls.writer {
                Some(_) => {
                    self.pass();
                    self.stop_writer();
                }
                None => {
                    self.despair();
                    self.stop();
                }
            }
        }
    }
}

impl Controller {
    /// Calls wait to be received.
    pub fn calls_wait(&mut self) {
        while self.view.as_mut().is_some_and(View::receive) {}
    }

    /// Asks about the next call, unless another one is open.
    pub fn go_on_with_calls(&mut self) {
        while matches!(self.phase, Phase::Running) && self.view.as_mut().is_some_and(View::next) {
            self.ask_about_call();
        }
    }

    /// Asks about the call that is open, and starts who is asked if that is not there.
    pub fn ask_about_call(&mut self) {
        let Some(view) = &mut self.view else { return };
        let held = view.held_until();
        if view.calls.writer.is_some() {
            // One that cannot be ended: nobody else waits for it.
            view.pass();
        } else if view.server.is_some() {
            view.ask();
        } else if view.calls.open.is_some_and(|call| call.tries == 0) {
            view.despair();
        } else if let Some((call, until)) = view.calls.open.as_mut().zip(held) {
            // It has its time yet when somebody may be started.
            call.deadline += until.saturating_duration_since(Instant::now());
        } else if Instant::now() < view.pause() {
            view.pass();
        } else {
            self.serve_view();
        }
    }

    /// Starts who serves the view.
    pub fn serve_view(&mut self) {
        let Some(view) = &mut self.view else { return };
        if let Err(failure) = view.serve(&self.plan, &self.descriptors) {
            crate::note(&describe(&failure));
            view.failed();
        }
    }

    /// The answer to a call is written, or cannot be.
    pub fn call_written(&mut self) {
        if let Some(view) = &mut self.view {
            view.written();
        }
    }

    /// Who serves the view has answered, or hung up.
    pub fn call_answered(&mut self) {
        if let Some(view) = &mut self.view {
            view.answered();
        }
    }
}
