//! What happened to networks, to whoever listens.
//!
//! Remembered for a while and numbered from the start of the daemon on; what happened before is not known.

use std::sync::Arc;

use tokio::sync::broadcast;
use uuid::Uuid;

use crate::engine::publish::now_usec;
use crate::engine::story::{Numbered, REMEMBERED, Story, Subscription};

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
    /// Counts up by one; the first of a daemon is 1.
    pub sequence: i64,
    /// When, in microseconds of CLOCK_REALTIME.
    pub at_usec: i64,
    /// What.
    pub kind: Kind,
    /// To which.
    pub name: String,
    /// To which.
    pub uuid: Uuid,
}

impl Numbered for Happened {
    fn sequence(&self) -> i64 {
        self.sequence
    }
}

/// Where events come from.
#[derive(Debug)]
pub struct Events {
    story: Story<Happened>,
    shown: broadcast::Sender<Uuid>,
}

impl Default for Events {
    fn default() -> Self {
        Self { story: Story::after(0), shown: broadcast::channel(REMEMBERED).0 }
    }
}

impl Events {
    /// Tells everybody.
    pub fn tell(&self, kind: Kind, name: &str, uuid: Uuid) {
        let name = name.to_owned();
        self.story.tell(|sequence| Happened { sequence, at_usec: now_usec(), kind, name, uuid });
    }

    /// Those that come.
    pub fn listen(&self) -> broadcast::Receiver<Arc<Happened>> {
        self.story.subscribe(None).coming
    }

    /// Listens from an earlier event on.
    pub fn since(&self, sequence: i64) -> Subscription<Happened> {
        self.story.subscribe(Some(sequence))
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
