//! Whether init has said that it is ready. It can say so once in its life.

use std::os::fd::OwnedFd;

use crate::setup::notify;

use super::Controller;

/// What is known.
#[derive(Debug, Default)]
pub enum Ready {
    /// There is no init, or it has no way to say it.
    #[default]
    Unknown,
    /// It has not said it.
    No(OwnedFd),
    /// It has. Nobody listens any more, so that nobody inside can keep us busy.
    Yes,
}

impl Ready {
    /// Of an init that has just been started.
    pub fn of(socket: Option<OwnedFd>) -> Self {
        socket.map_or(Self::Unknown, Self::No)
    }

    /// What is told about it.
    pub fn said(&self) -> Option<bool> {
        match self {
            Self::Unknown => None,
            Self::No(_) => Some(false),
            Self::Yes => Some(true),
        }
    }

    /// What to poll.
    pub fn listens_on(&self) -> Option<&OwnedFd> {
        match self {
            Self::No(socket) => Some(socket),
            Self::Unknown | Self::Yes => None,
        }
    }
}

impl Controller {
    /// Somebody inside has said something.
    pub fn look_for_ready(&mut self) {
        if self.ready.listens_on().is_some_and(notify::is_ready) {
            self.ready = Ready::Yes;
            let event = self.history.ready();
            self.publish(&event);
        }
    }
}
