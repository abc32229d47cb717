//! Whether init has said that it is ready. It can say so once in its life.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::setup::notify::{self, Heard};

use super::Controller;

/// How many messages are read without a pause in a life of init: more than any init sends until it is ready.
const PLENTY: u32 = 64;

/// The pause after each look once there were more: who talks all the time does so on account of the container.
const REST: Duration = Duration::from_millis(20);

/// What is known.
#[derive(Debug, Default)]
pub enum Ready {
    /// There is no init, or it has no way to say it.
    #[default]
    Unknown,
    /// It has not said it.
    No(Listener),
    /// It has. Nobody listens any more, so that nobody inside can keep us busy; the socket is there still.
    Yes { _kept: Option<OwnedFd> },
}

/// The socket of an init that is not ready.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
    /// Messages that were something else.
    others: u32,
    /// Until when nothing is read.
    rests: Option<Instant>,
}

impl Ready {
    /// Of an init that has just been started.
    pub fn of(socket: Option<OwnedFd>) -> Self {
        socket.map_or(Self::Unknown, |socket| Self::No(Listener { socket, others: 0, rests: None }))
    }

    /// What is told about it.
    pub fn said(&self) -> Option<bool> {
        match self {
            Self::Unknown => None,
            Self::No(_) => Some(false),
            Self::Yes { .. } => Some(true),
        }
    }

    /// What to poll.
    pub fn listens_on(&self) -> Option<&OwnedFd> {
        match self {
            Self::No(listener) if listener.rests.is_none() => Some(&listener.socket),
            Self::No(_) | Self::Unknown | Self::Yes { .. } => None,
        }
    }

    /// When to poll again.
    pub fn deadline(&self) -> Option<Instant> {
        if let Self::No(listener) = self { listener.rests } else { None }
    }

    /// Listens again when the pause is over.
    pub fn wake(&mut self, now: Instant) {
        if let Self::No(listener) = self {
            listener.rests = listener.rests.filter(|at| now < *at);
        }
    }

    /// Reads what was said. Answers whether init has just become ready.
    fn hear(&mut self) -> bool {
        let mut listener = match std::mem::take(self) {
            Self::No(listener) => listener,
            other => {
                *self = other;
                return false;
            }
        };
        for _ in 0..PLENTY {
            match notify::hear(&listener.socket) {
                Heard::Ready => {
                    *self = Self::Yes { _kept: notify::stop_listening(listener.socket) };
                    return true;
                }
                Heard::Other => listener.others = listener.others.saturating_add(1),
                Heard::Nothing => break,
            }
        }
        if listener.others >= PLENTY {
            listener.rests = Some(Instant::now() + REST);
        }
        *self = Self::No(listener);
        false
    }
}

impl Controller {
    /// Somebody inside has said something.
    pub fn look_for_ready(&mut self) {
        if self.ready.hear() {
            let event = self.history.ready();
            self.publish(&event);
        }
    }
}
