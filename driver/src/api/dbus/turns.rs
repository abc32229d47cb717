//! Calls of clients, each in its turn: some of one client at once, and the others wait in order.
//!
//! Programs written for other daemons send a hundred calls and wait for all answers. Does not know what any call means.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Calls under way of one client, and of all.
const MOST_OF_ONE: usize = 64;
const MOST: usize = 512;

/// Calls that wait or are under way, of one client and of all; beyond these they are refused.
const KNOWN_OF_ONE: usize = 1024;
const KNOWN: usize = 4096;

/// Bytes of their messages, likewise.
const BYTES_OF_ONE: usize = 8 << 20;
const BYTES: usize = 32 << 20;

/// All calls there are.
#[derive(Debug)]
pub struct Turns {
    clients: Mutex<HashMap<String, Client>>,
    all: Arc<Semaphore>,
}

/// Those of one client.
#[derive(Debug)]
struct Client {
    calls: usize,
    bytes: usize,
    turns: Arc<Semaphore>,
}

/// A call that is known, until this is dropped.
#[derive(Debug)]
pub struct Place {
    turns: Arc<Turns>,
    client: String,
    bytes: usize,
    own: Arc<Semaphore>,
}

/// A call that is under way, until this is dropped.
#[derive(Debug)]
pub struct Turn(
    #[expect(dead_code, reason = "given back by being dropped")] [Option<OwnedSemaphorePermit>; 2],
);

impl Default for Turns {
    fn default() -> Self {
        Self { clients: Mutex::default(), all: Arc::new(Semaphore::new(MOST)) }
    }
}

impl Turns {
    fn clients(&self) -> MutexGuard<'_, HashMap<String, Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a call of a client, of so many bytes; none if there are too many.
    pub fn place(self: &Arc<Self>, client: &str, bytes: usize) -> Option<Place> {
        let mut clients = self.clients();
        let (calls, sum) = clients.values().fold((0, 0), |(n, b), c| (n + c.calls, b + c.bytes));
        if calls >= KNOWN || sum.saturating_add(bytes) > BYTES {
            return None;
        }
        let entry = clients.entry(client.to_owned()).or_insert_with(|| Client {
            calls: 0,
            bytes: 0,
            turns: Arc::new(Semaphore::new(MOST_OF_ONE)),
        });
        if entry.calls >= KNOWN_OF_ONE || entry.bytes.saturating_add(bytes) > BYTES_OF_ONE {
            return None;
        }
        entry.calls += 1;
        entry.bytes += bytes;
        Some(Place { turns: self.clone(), client: client.to_owned(), bytes, own: entry.turns.clone() })
    }
}

impl Place {
    /// Waits until it is its turn: first among its client's, so that those of one client take no place from others while
    /// they wait.
    pub async fn turn(&self) -> Turn {
        // Nobody closes them.
        let own = self.own.clone().acquire_owned().await.ok();
        Turn([own, self.turns.all.clone().acquire_owned().await.ok()])
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut clients = self.turns.clients();
        if let Some(client) = clients.get_mut(&self.client) {
            client.calls -= 1;
            client.bytes -= self.bytes;
            if client.calls == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    fn now(place: &Place) -> Option<Turn> {
        match Box::pin(place.turn()).as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    #[test]
    fn calls_of_one_client_wait_and_those_of_others_do_not() {
        let turns = Arc::new(Turns::default());
        let places: Vec<Place> = (0..2000).map_while(|_| turns.place(":1.1", 100)).collect();
        assert_eq!(places.len(), KNOWN_OF_ONE);
        let mut under_way: Vec<Turn> = places.iter().map_while(now).collect();
        assert_eq!(under_way.len(), MOST_OF_ONE);
        let other = turns.place(":1.2", 100).expect("a place");
        assert!(now(&other).is_some());
        // One ends, and the next one goes on.
        under_way.pop();
        assert!(now(&places[MOST_OF_ONE]).is_some());
        drop((under_way, places, other));
        assert!(turns.clients().is_empty());
    }

    #[test]
    fn what_waits_has_an_end() {
        let turns = Arc::new(Turns::default());
        let large: Vec<Place> = (0..100).map_while(|_| turns.place(":1.1", 2 << 20)).collect();
        assert_eq!(large.len(), BYTES_OF_ONE / (2 << 20));
        let mut all = large;
        for client in 2..100 {
            all.extend((0..100).map_while(|_| turns.place(&format!(":1.{client}"), 2 << 20)));
        }
        assert_eq!(all.len(), BYTES / (2 << 20));
        drop(all);
        let small: usize = (0..100)
            .map(|client| {
                (0..100).map_while(|_| turns.place(&format!(":1.{client}"), 0)).map(std::mem::forget).count()
            })
            .sum();
        assert_eq!(small, KNOWN);
    }
}
