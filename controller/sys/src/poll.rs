//! poll(2) over a set that is filled anew each time, without a new allocation.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use crate::{Result, last_errno};

/// Something to read, or a peer that has hung up.
pub const IN: i16 = libc::POLLIN;
/// Something urgent: the event of a control group's file.
pub const PRI: i16 = libc::POLLPRI;
/// Room to write.
pub const OUT: i16 = libc::POLLOUT;
/// The peer will write no more.
pub const RDHUP: i16 = libc::POLLRDHUP;
/// Hung up; reported without being asked for.
pub const HUP: i16 = libc::POLLHUP;
/// Error; reported without being asked for.
pub const ERR: i16 = libc::POLLERR;

/// Descriptors to wait for, each with what it means to the caller.
#[derive(Debug)]
pub struct PollSet<T> {
    descriptors: Vec<libc::pollfd>,
    tokens: Vec<T>,
}

impl<T> Default for PollSet<T> {
    fn default() -> Self {
        Self { descriptors: Vec::new(), tokens: Vec::new() }
    }
}

impl<T: Copy> PollSet<T> {
    /// Empties the set.
    pub fn clear(&mut self) {
        self.descriptors.clear();
        self.tokens.clear();
    }

    /// Adds a descriptor. It is only looked at in the next [`PollSet::wait`]: one that was closed before is reported
    /// by the kernel as invalid, and left out of the result.
    pub fn add(&mut self, fd: &impl AsFd, events: i16, token: T) {
        self.descriptors.push(libc::pollfd { fd: fd.as_fd().as_raw_fd(), events, revents: 0 });
        self.tokens.push(token);
    }

    /// Waits until something happens or `timeout` is over (`None`: no end). An interruption is an empty result.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<()> {
        // Rounded up: a wait that ends a little early would spin until the deadline is really over.
        let ms = timeout.map_or(-1, |t| i32::try_from(t.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
        let count = self.descriptors.len() as libc::nfds_t;
        // SAFETY: the array has `count` whole elements, which the kernel only writes `revents` of.
        if unsafe { libc::poll(self.descriptors.as_mut_ptr(), count, ms) } == -1 {
            for d in &mut self.descriptors {
                d.revents = 0;
            }
            let errno = last_errno();
            return if errno == rustix::io::Errno::INTR { Ok(()) } else { Err(errno) };
        }
        Ok(())
    }

    /// How many descriptors are in the set.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// What has happened to descriptor `index`, unless nothing.
    pub fn happened(&self, index: usize) -> Option<(T, i16)> {
        let events = self.descriptors.get(index)?.revents & !libc::POLLNVAL;
        (events != 0).then(|| (self.tokens[index], events))
    }
}
