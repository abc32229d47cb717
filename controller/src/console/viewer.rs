//! Somebody who looks at a console: a socket or a terminal, and how far they have got.
//!
//! This module does not know other viewers or who may type.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::ring::Ring;

/// What a viewer may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Type while nobody else does.
    Shared,
    /// Type, whoever does.
    Force,
    /// Look only.
    View,
}

impl Mode {
    /// The mode as it is on the wire.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "shared" => Some(Self::Shared),
            "force" => Some(Self::Force),
            "view" => Some(Self::View),
            _ => None,
        }
    }
}

/// What the viewer sits at.
#[derive(Debug)]
pub enum Line {
    /// The client's own connection. Its flags are shared with whoever handed it over, so they are never changed.
    Socket(OwnedFd),
    /// The slave of a PTY whose master a client has: ends with the master.
    Pty(OwnedFd),
    /// The master of the console's host PTY: ends when the last program closes the slave, which is noticed elsewhere.
    Host(OwnedFd),
}

/// How far a viewer may fall behind before the console waits for it.
pub const BEHIND: u64 = 48 * 1024;

/// How long the console waits for one viewer in all, until that has caught up.
pub const PATIENCE: Duration = Duration::from_millis(100);

/// How much of the patience comes back with each [`BEHIND`] bytes that are taken. A viewer that takes less than about
/// 5 MB/s runs out of it: it must not hold a container to its own pace for as long as it likes.
const REGAINED: Duration = Duration::from_millis(10);

/// A viewer.
#[derive(Debug)]
pub struct Viewer {
    /// Number, unique in this controller.
    pub id: u64,
    /// What it sits at.
    pub line: Line,
    /// What it may do.
    pub mode: Mode,
    /// It has stopped writing, but still reads.
    pub input_ended: bool,
    /// It is to be removed.
    pub gone: bool,
    /// It did not keep up: it loses what it does not take, until it has caught up.
    slow: bool,
    /// What goes out before anything the console printed.
    pub greeting: Vec<u8>,
    offset: u64,
    waited: Duration,
    taken_meanwhile: u64,
}

impl Viewer {
    /// A viewer that has seen everything before `offset`.
    pub fn new(id: u64, line: Line, mode: Mode, offset: u64) -> Self {
        Self {
            id,
            line,
            mode,
            input_ended: false,
            gone: false,
            slow: false,
            greeting: Vec::new(),
            offset,
            waited: Duration::ZERO,
            taken_meanwhile: 0,
        }
    }

    /// Whether something waits to be taken.
    pub fn has_pending(&self, ring: &Ring) -> bool {
        !self.greeting.is_empty() || self.offset < ring.head()
    }

    /// How much of the ring must not be overwritten for its sake.
    pub fn behind(&self, ring: &Ring) -> u64 {
        if self.slow || self.gone { 0 } else { ring.head() - self.offset }
    }

    /// Adds time that the console waited for it. At the end of patience it is slow.
    pub fn add_wait(&mut self, time: Duration) {
        self.waited += time;
        self.slow |= self.waited >= PATIENCE;
    }

    /// What is left of the patience with it.
    pub fn patience_left(&self) -> Duration {
        PATIENCE.saturating_sub(self.waited)
    }

    /// Writes as much as it takes now.
    pub fn flush(&mut self, ring: &Ring) {
        while !self.greeting.is_empty() && !self.gone {
            match self.write(&self.greeting) {
                Ok(n) => drop(self.greeting.drain(..n)),
                Err(Errno::AGAIN) => return,
                Err(_) => self.gone = true,
            }
        }
        self.offset = self.offset.max(ring.tail());
        while !self.gone {
            let part = ring.since(self.offset);
            if part.is_empty() {
                (self.slow, self.waited, self.taken_meanwhile) = (false, Duration::ZERO, 0);
                return;
            }
            match self.write(part) {
                Ok(n) => self.took(n as u64),
                Err(Errno::AGAIN) => return,
                Err(_) => self.gone = true,
            }
        }
    }

    fn took(&mut self, n: u64) {
        self.offset += n;
        self.taken_meanwhile += n;
        // A terminal that is a little slower than the container is waited for; one that is much slower is not.
        if self.taken_meanwhile >= BEHIND {
            self.waited = self.waited.saturating_sub(REGAINED);
            self.taken_meanwhile -= BEHIND;
        }
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match &self.line {
            Line::Socket(fd) => send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            Line::Pty(fd) | Line::Host(fd) => rustix::io::write(fd, bytes),
        }
    }

    /// Reads what was typed; `Ok(0)` is the end of input.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match &self.line {
            Line::Socket(fd) => recv(fd, buffer, RecvFlags::DONTWAIT).map(|(n, _)| n),
            Line::Pty(fd) | Line::Host(fd) => rustix::io::read(fd, buffer),
        }
    }
}

impl AsFd for Viewer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.line {
            Line::Socket(fd) | Line::Pty(fd) | Line::Host(fd) => fd.as_fd(),
        }
    }
}
