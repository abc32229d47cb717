//! One console: what the container prints goes to the ring, the log and the viewers; what one of them types goes in.
//!
//! Rules: init never waits for a reader but for a moment ([`super::viewer::PATIENCE`]); typed bytes are never lost
//! silently; one viewer types at a time; whatever happens to a viewer happens to that viewer only.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use berth_sys::poll::{OUT, PollSet};
use rustix::io::Errno;
use rustix::termios::{QueueSelector, Winsize, tcflush, tcgetwinsize, tcsetwinsize};

use crate::setup::dev::open_slave;

use super::host_pty::{HostPty, Side, make};
use super::log::Log;
use super::ring::{Ring, SIZE};
use super::viewer::{BEHIND, Line, Mode, Viewer};

/// Most bytes of one console in one turn of the loop, so that the others get theirs.
const TURN: usize = 256 * 1024;

/// What is collected before it is passed on, if the container keeps printing.
const BATCH: u64 = 16 * 1024;

/// Typed bytes that the container has not taken yet.
const INPUT: usize = 4096;

/// Less than this at once is the echo of something typed.
const KEYSTROKES: usize = 64;

/// How long such an echo may wait to be logged. The viewer that was just woken runs where we run, as soon as we sleep:
/// a write to a file before that is a third of the time from key to echo.
const LOG_DELAY: Duration = Duration::from_millis(2);

/// A console.
#[derive(Debug)]
pub struct Console {
    /// "console0" and so on.
    pub device: String,
    /// The PTY on the host.
    pub host: HostPty,
    /// Its slave, held so that the master is not hung up all the time; not held where nobody tells us that a program
    /// opens it, because then the hang-up is the only sign of it.
    host_slave: Option<OwnedFd>,
    /// How many programs have its slave open.
    pub host_opened: u32,
    /// Everybody who looks.
    pub viewers: Vec<Viewer>,
    ring: Ring,
    log: Log,
    logged: u64,
    /// Since when something waits to be logged.
    unlogged_since: Option<Instant>,
    /// The container's side; none between two runs. The slave is held so that the last program that closes it does
    /// not hang us up.
    terminal: Option<(OwnedFd, Option<OwnedFd>)>,
    writer: Option<u64>,
    input: Vec<u8>,
    size: Option<Winsize>,
    waiting_since: Option<Instant>,
}

impl Console {
    /// A console without a container yet.
    pub fn new(device: &str, log: Log) -> Result<Self, Errno> {
        let (host, slave) = make(Side::Master)?;
        Ok(Self {
            device: device.to_owned(),
            host,
            host_slave: Some(slave),
            host_opened: 0,
            viewers: Vec::new(),
            ring: Ring::default(),
            log,
            logged: 0,
            unlogged_since: None,
            terminal: None,
            writer: None,
            input: Vec::with_capacity(INPUT),
            size: None,
            waiting_since: None,
        })
    }

    /// Lets the host PTY hang up while no program has it open.
    pub fn release_host_slave(&mut self) {
        self.host_slave = None;
    }

    /// Forgets what nobody has read at the host PTY.
    pub fn flush_host(&self) {
        // Opened for the moment only where nobody is told that it was.
        let opened = if self.host_slave.is_none() { open_slave(&self.host.master).ok() } else { None };
        if let Some(slave) = self.host_slave.as_ref().or(opened.as_ref()) {
            let _ = tcflush(slave, QueueSelector::IOFlush);
        }
    }

    /// Bytes printed so far.
    pub fn printed(&self) -> u64 {
        self.ring.head()
    }

    /// The container's side, to be waited for.
    pub fn master(&self) -> Option<&OwnedFd> {
        self.terminal.as_ref().map(|t| &t.0)
    }

    /// Connects the container of a new run.
    pub fn connect(&mut self, master: OwnedFd, slave: OwnedFd) {
        if let Some(size) = self.size {
            let _ = tcsetwinsize(&master, size);
        }
        self.terminal = Some((master, Some(slave)));
        self.input.clear();
    }

    /// Takes what is left of the container that has ended, and lets its terminal go.
    pub fn disconnect(&mut self) {
        self.drain();
        self.write_log();
        self.terminal = None;
        self.input.clear();
    }

    /// Relays all that the container has printed, waiting for viewers no longer than while it ran.
    fn drain(&mut self) {
        let mut set = PollSet::default();
        self.waiting_since = None;
        loop {
            let before = self.ring.head();
            self.relay();
            self.write_log();
            self.tick(Instant::now());
            match self.timeout() {
                None if self.ring.head() == before => return,
                None => {}
                Some(moment) => {
                    set.clear();
                    for viewer in self.viewers.iter().filter(|v| v.has_pending(&self.ring)) {
                        set.add(viewer, OUT, ());
                    }
                    if set.wait(Some(moment)).is_err() {
                        return;
                    }
                    self.flush_viewers();
                }
            }
        }
    }

    /// Whether the container is to wait a moment for a viewer.
    pub fn is_waiting(&self) -> bool {
        self.viewers.iter().any(|v| v.behind(&self.ring) >= BEHIND)
    }

    /// When [`Console::tick`] must be called, if nothing else happens.
    pub fn timeout(&self) -> Option<Duration> {
        let late = self.viewers.iter().filter(|v| v.behind(&self.ring) >= BEHIND);
        let unlogged = self.unlogged_since.map(|_| LOG_DELAY);
        late.map(Viewer::patience_left).chain(unlogged).min()
    }

    /// Counts the time that the container waits for viewers, and logs what has waited long enough. Called once in each
    /// turn of the loop.
    pub fn tick(&mut self, now: Instant) {
        if self.unlogged_since.is_some_and(|since| now.saturating_duration_since(since) >= LOG_DELAY) {
            self.write_log();
        }
        if let Some(since) = self.waiting_since.take() {
            for viewer in &mut self.viewers {
                if viewer.behind(&self.ring) >= BEHIND {
                    viewer.add_wait(now.saturating_duration_since(since));
                }
            }
        }
        if self.is_waiting() {
            self.waiting_since = Some(now);
        }
    }

    /// How much may be read without overwriting what a viewer still gets.
    fn room(&self) -> usize {
        let behind = self.viewers.iter().map(|v| v.behind(&self.ring)).max().unwrap_or(0);
        let behind = behind.max(self.ring.head() - self.logged);
        if behind >= BEHIND { 0 } else { SIZE - behind as usize }
    }

    /// Reads what the container has printed and passes it on at once.
    pub fn relay(&mut self) {
        let mut budget = TURN;
        let mut hung_up = 0;
        let mut passed = self.ring.head();
        while let Some((master, _)) = &self.terminal {
            let room = self.room().min(budget);
            if room == 0 {
                break;
            }
            match rustix::io::read(master, self.ring.spare(room)) {
                Ok(0) | Err(Errno::IO) => {
                    // Once more is enough, and twice is somebody who does nothing else.
                    hung_up += 1;
                    if hung_up > 2 || !self.reopen_slave() {
                        break;
                    }
                }
                Ok(n) => {
                    self.ring.advance(n);
                    budget -= n;
                    if n < KEYSTROKES && budget == TURN - n {
                        // The echo of a key: whoever typed it waits, and nothing else does.
                        self.flush_viewers();
                        self.unlogged_since.get_or_insert_with(Instant::now);
                        return;
                    }
                    if self.ring.head() - passed >= BATCH {
                        self.pass_on();
                        passed = self.ring.head();
                    }
                }
                Err(Errno::INTR) => {}
                Err(_) => {
                    // Nothing there now. After some passing on there may be: cheaper to look than to wait for it.
                    if passed == self.ring.head() {
                        return;
                    }
                    self.pass_on();
                    passed = self.ring.head();
                }
            }
        }
        self.pass_on();
    }

    /// All slaves were closed: somebody used vhangup(2), as login programs do. Ours, too, is dead then.
    fn reopen_slave(&mut self) -> bool {
        let Some((master, slave)) = &mut self.terminal else { return false };
        // First the new one, or the master would be without any again.
        *slave = open_slave(master).ok();
        if slave.is_none() {
            self.terminal = None;
            return false;
        }
        true
    }

    fn pass_on(&mut self) {
        self.flush_viewers();
        self.write_log();
    }

    /// Logs what has not been logged yet.
    fn write_log(&mut self) {
        self.unlogged_since = None;
        while self.logged < self.ring.head() {
            let part = self.ring.since(self.logged);
            if part.is_empty() {
                self.logged = self.ring.tail();
                continue;
            }
            self.log.write(part);
            self.logged += part.len() as u64;
        }
    }

    /// Whether a viewer has something to take.
    pub fn has_pending(&self, viewer: &Viewer) -> bool {
        viewer.has_pending(&self.ring)
    }

    /// Whether typed bytes wait for the container.
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Writes typed bytes as far as the container takes them.
    pub fn push_input(&mut self) {
        while let (Some((master, _)), false) = (&self.terminal, self.input.is_empty()) {
            match rustix::io::write(master, &self.input) {
                Ok(0) | Err(Errno::AGAIN) => return,
                Ok(n) => drop(self.input.drain(..n)),
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.input.clear();
                    return;
                }
            }
        }
    }

    /// Adds a viewer; answers whether it may type.
    pub fn attach(&mut self, id: u64, line: Line, mode: Mode, replay: bool) -> bool {
        let offset = if replay { self.ring.tail() } else { self.ring.head() };
        // Looking at the host's PTY takes the keyboard from nobody: it is taken by the first key.
        let is_host = matches!(line, Line::Host(_));
        self.viewers.push(Viewer::new(id, line, mode, offset));
        if mode == Mode::Force || (mode == Mode::Shared && self.writer.is_none() && !is_host) {
            self.writer = Some(id);
        }
        self.writer == Some(id)
    }

    /// Lets a viewer have these bytes before anything the console prints.
    pub fn greet(&mut self, id: u64, greeting: Vec<u8>) {
        if let Some(viewer) = self.viewers.iter_mut().find(|v| v.id == id) {
            viewer.greeting = greeting;
        }
    }

    /// Writes to a viewer what it takes now.
    pub fn flush_viewer(&mut self, id: u64) {
        if let Some(viewer) = self.viewers.iter_mut().find(|v| v.id == id) {
            viewer.flush(&self.ring);
        }
        self.remove_gone();
    }

    /// Writes to all viewers what they take now.
    pub fn flush_viewers(&mut self) {
        for viewer in &mut self.viewers {
            viewer.flush(&self.ring);
        }
        self.remove_gone();
    }

    /// Ends all viewers. What they have typed is read first: a socket that is closed over unread bytes is an error to
    /// the other side, and this is a proper end.
    pub fn drop_viewers(&mut self) {
        let mut buffer = [0; INPUT];
        for viewer in self.viewers.drain(..) {
            for _ in 0..16 {
                if !matches!(viewer.read(&mut buffer), Ok(1..)) {
                    break;
                }
            }
        }
    }

    /// Adds typed bytes of a viewer if it may type. They are few: what came along with the request.
    pub fn add_early(&mut self, id: u64, bytes: &[u8]) {
        if self.may_type(id) {
            self.input.extend_from_slice(bytes);
            self.push_input();
        }
    }

    fn may_type(&mut self, id: u64) -> bool {
        let Some(viewer) = self.viewers.iter().find(|v| v.id == id) else { return false };
        if viewer.mode != Mode::View && self.writer.is_none() {
            self.writer = Some(id);
        }
        self.writer == Some(id)
    }

    /// Whether a viewer is to be read from: not while what it typed before has not been taken.
    pub fn wants_input(&self, viewer: &Viewer) -> bool {
        let typist = self.writer.is_none_or(|w| w == viewer.id) && viewer.mode != Mode::View;
        !viewer.input_ended && (!typist || self.input.len() < INPUT)
    }

    /// Reads what a viewer has typed.
    pub fn read_viewer(&mut self, id: u64) {
        let Some(index) = self.viewers.iter().position(|v| v.id == id) else { return };
        let mut buffer = [0; INPUT];
        let most =
            if self.writer == Some(id) { INPUT.saturating_sub(self.input.len()).max(1) } else { INPUT };
        let viewer = &mut self.viewers[index];
        match viewer.read(&mut buffer[..most]) {
            Ok(0) if matches!(viewer.line, Line::Socket(_)) => viewer.input_ended = true,
            Ok(0) => viewer.gone = true,
            Ok(n) => {
                if self.may_type(id) {
                    self.take_size_of(index);
                    self.input.extend_from_slice(&buffer[..n]);
                    self.push_input();
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => viewer.gone = true,
        }
        self.remove_gone();
    }

    /// A terminal of a client has a size, which changes without a word: looked at whenever something is typed.
    fn take_size_of(&mut self, index: usize) {
        let Line::Pty(slave) = &self.viewers[index].line else { return };
        match tcgetwinsize(slave) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => self.set_size(size),
            _ => {}
        }
    }

    /// Sets the window size, if it is another: the container's foreground programs get SIGWINCH.
    pub fn set_size(&mut self, size: Winsize) {
        let same = self.size.is_some_and(|s| s.ws_col == size.ws_col && s.ws_row == size.ws_row);
        if !same && let Some((master, _)) = &self.terminal {
            let _ = tcsetwinsize(master, size);
        }
        self.size = Some(size);
    }

    /// Whether this viewer is the one that types.
    pub fn is_writer(&self, id: u64) -> bool {
        self.writer == Some(id)
    }

    /// Marks a viewer as gone.
    pub fn hang_up(&mut self, id: u64) {
        if let Some(viewer) = self.viewers.iter_mut().find(|v| v.id == id) {
            viewer.gone = true;
        }
        self.remove_gone();
    }

    fn remove_gone(&mut self) {
        if let Some(writer) = self.writer
            && self.viewers.iter().any(|v| v.id == writer && v.gone)
        {
            self.writer = None;
        }
        self.viewers.retain(|v| !v.gone);
    }
}
