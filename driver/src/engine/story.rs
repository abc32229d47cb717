//! What happened, numbered, remembered for a while, and told to whoever listens.
//!
//! Does not know what happens.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

/// Events that are remembered, and how far a listener may fall behind.
pub const REMEMBERED: usize = 1024;

/// An event with a number.
pub trait Numbered {
    /// Counts up by one.
    fn sequence(&self) -> i64;
}

/// What a new listener gets.
#[derive(Debug)]
pub struct Subscription<T> {
    /// Remembered events after the one that was asked for.
    pub backlog: Vec<Arc<T>>,
    /// The last one so far.
    pub sequence: i64,
    /// Some of those asked for are no longer remembered.
    pub lost: bool,
    /// Those that come.
    pub coming: broadcast::Receiver<Arc<T>>,
}

#[derive(Debug)]
struct Memory<T> {
    events: VecDeque<Arc<T>>,
    sequence: i64,
}

/// Events of one kind.
#[derive(Debug)]
pub struct Story<T> {
    memory: Mutex<Memory<T>>,
    sender: broadcast::Sender<Arc<T>>,
}

impl<T: Numbered> Story<T> {
    /// Goes on counting after a number.
    pub fn after(sequence: i64) -> Self {
        let memory = Memory { events: VecDeque::new(), sequence };
        Self { memory: Mutex::new(memory), sender: broadcast::channel(REMEMBERED).0 }
    }

    fn memory(&self) -> MutexGuard<'_, Memory<T>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everybody of an event, which is made with its number.
    pub fn tell(&self, event: impl FnOnce(i64) -> T) {
        let mut memory = self.memory();
        memory.sequence += 1;
        let event = Arc::new(event(memory.sequence));
        if memory.events.len() == REMEMBERED {
            memory.events.pop_front();
        }
        memory.events.push_back(event.clone());
        // Nobody listening is not an error. Sent with the lock held, so that listeners see the order of the numbers.
        drop(self.sender.send(event));
    }

    /// Listens, from now on or from an earlier event on.
    pub fn subscribe(&self, since: Option<i64>) -> Subscription<T> {
        let memory = self.memory();
        let sequence = memory.sequence;
        let after = since.unwrap_or(sequence);
        let backlog: Vec<_> = memory.events.iter().filter(|e| e.sequence() > after).cloned().collect();
        let oldest = backlog.first().map_or(sequence + 1, |e| e.sequence());
        let lost = since.is_some_and(|s| s > sequence || s + 1 < oldest);
        Subscription { backlog, sequence, lost, coming: self.sender.subscribe() }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    impl Numbered for i64 {
        fn sequence(&self) -> i64 {
            *self
        }
    }

    #[test]
    fn what_happened_is_remembered_for_a_while() {
        let story = Story::after(10);
        for _ in 0..REMEMBERED + 2 {
            story.tell(|number| number);
        }
        let of = |since| {
            let told = story.subscribe(since);
            (told.backlog.first().map(|n| **n), told.backlog.len(), told.lost)
        };
        assert_eq!(of(Some(10)), (Some(13), REMEMBERED, true));
        assert_eq!(of(Some(12)), (Some(13), REMEMBERED, false));
        let last = 12 + REMEMBERED as i64;
        assert_eq!(of(Some(last - 1)), (Some(last), 1, false));
        assert_eq!(of(None), (None, 0, false));
        assert_eq!(of(Some(last + 1)), (None, 0, true), "of another count");
    }
}
