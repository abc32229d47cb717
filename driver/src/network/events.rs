//! What happened to networks, to whoever listens.
//!
//! Nothing is remembered: who was not there does not hear of it.

use tokio::sync::broadcast;
use uuid::Uuid;

use crate::engine::publish::now_usec;

/// How far a listener may fall behind.
const WAITING: usize = 1024;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A definition was kept.
    Defined,
    /// It was forgotten.
    Undefined,
    /// It runs.
    Started,
    /// It does no more.
    Stopped,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// When, in microseconds of CLOCK_REALTIME.
    pub at_usec: i64,
    /// What.
    pub kind: Kind,
    /// To which.
    pub name: String,
    /// To which.
    pub uuid: Uuid,
}

/// Where events come from.
#[derive(Debug)]
pub struct Events {
    happened: broadcast::Sender<Happened>,
    shown: broadcast::Sender<Uuid>,
}

impl Default for Events {
    fn default() -> Self {
        Self { happened: broadcast::channel(WAITING).0, shown: broadcast::channel(WAITING).0 }
    }
}

impl Events {
    /// Tells everybody.
    pub fn tell(&self, kind: Kind, name: &str, uuid: Uuid) {
        // Nobody listening is not an error.
        drop(self.happened.send(Happened { at_usec: now_usec(), kind, name: name.to_owned(), uuid }));
    }

    /// Those that come.
    pub fn listen(&self) -> broadcast::Receiver<Happened> {
        self.happened.subscribe()
    }

    /// A network looks different from now on.
    pub fn show(&self, uuid: Uuid) {
        drop(self.shown.send(uuid));
    }

    /// Networks that look different, or are gone, as it happens.
    pub fn watch(&self) -> broadcast::Receiver<Uuid> {
        self.shown.subscribe()
    }
}
