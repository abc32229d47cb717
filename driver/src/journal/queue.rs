//! What is told, on its way to whoever keeps the log.
//!
//! Nobody waits for the log. What it takes at once is given to it at once, so that it is there when a call is answered and
//! when we are killed; the rest waits here for a thread that does nothing else. There is room for so much, and what has
//! none is counted. The less it says, the less of the room it may fill: a daemon that is asked to tell all must not lose
//! who did what. Does not know what entries look like.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most bytes that wait.
const MOST: usize = 2 << 20;

/// What an entry takes beside its bytes.
const OVERHEAD: usize = 64;

/// How often a loss is told at most: a log that takes an entry now and then is not to be filled with that.
const PAUSE: Duration = Duration::from_secs(1);

/// What an outlet made of an entry.
#[derive(Debug)]
pub enum Taken {
    /// It is there.
    Yes,
    /// That would take time.
    Later,
    /// It never will be.
    No,
}

/// Whoever keeps the log.
pub trait Outlet: Send + Sync {
    /// Gives it an entry if that takes no time.
    fn at_once(&self, entry: &[u8]) -> Taken;
    /// Gives it an entry, however long that takes.
    fn wait(&self, entry: &[u8]) -> io::Result<()>;
}

/// How much of the room an entry may fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Half of it: what only somebody who looks for a fault wants to know.
    Detail,
    /// Three quarters: what goes on.
    Ordinary,
    /// All of it: what goes wrong, and who did what.
    Record,
    /// More than there is: it tells of what was lost.
    Loss,
}

impl Share {
    fn of(self, room: usize) -> usize {
        match self {
            Self::Detail => room / 2,
            Self::Ordinary => room / 4 * 3,
            Self::Record => room,
            Self::Loss => usize::MAX,
        }
    }
}

#[derive(Debug)]
struct Entry {
    bytes: Vec<u8>,
    /// How many are lost with it.
    of: u64,
}

impl Entry {
    fn size(&self) -> usize {
        self.bytes.len().saturating_add(OVERHEAD)
    }
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Entry>,
    /// The size of all that waits.
    size: usize,
    /// Whether the thread has one in hand.
    writing: bool,
    /// How many were lost and not told of.
    lost: u64,
    /// How many are being told of.
    telling: u64,
    /// When that was done last.
    told: Option<Instant>,
    /// Whether the last entry was refused. Who refuses is not told of losses: that would be one more.
    refused: bool,
    /// Whether somebody waits for the end.
    ending: bool,
}

impl State {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && !self.writing
    }

    /// After how long a loss is to be told; none if there is none.
    fn due(&self) -> Option<Duration> {
        (self.lost > 0 && !self.refused).then(|| match self.told {
            Some(told) if !self.ending => PAUSE.saturating_sub(told.elapsed()),
            _ => Duration::ZERO,
        })
    }

    fn is_done(&mut self, of: u64, done: bool) {
        self.refused = !done;
        if !done {
            self.lost = self.lost.saturating_add(of);
        }
    }
}

/// See the module.
pub struct Queue {
    outlet: Box<dyn Outlet>,
    state: Mutex<State>,
    changed: Condvar,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Queue {
    /// With a thread that tells of a loss by `tell`, which pushes one entry with the share of that.
    pub fn start(outlet: Box<dyn Outlet>, tell: fn(&Self, u64)) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self { outlet, state: Mutex::default(), changed: Condvar::new() });
        let mine = queue.clone();
        std::thread::Builder::new().name("log".into()).spawn(move || mine.run(tell))?;
        Ok(queue)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an entry in no time.
    pub fn push(&self, share: Share, bytes: Vec<u8>) {
        let mut state = self.lock();
        let of = if share == Share::Loss { mem::take(&mut state.telling) } else { 1 };
        let entry = Entry { bytes, of };
        if state.is_empty() {
            match self.outlet.at_once(&entry.bytes) {
                Taken::Yes => state.is_done(of, true),
                Taken::No => state.is_done(of, false),
                Taken::Later => self.keep(&mut state, share, entry),
            }
        } else {
            self.keep(&mut state, share, entry);
        }
        if !state.waiting.is_empty() || state.due().is_some() {
            self.changed.notify_all();
        }
    }

    fn keep(&self, state: &mut State, share: Share, entry: Entry) {
        let size = state.size.saturating_add(entry.size());
        if size > share.of(MOST) {
            state.lost = state.lost.saturating_add(entry.of);
            return;
        }
        state.size = size;
        state.waiting.push_back(entry);
    }

    fn run(&self, tell: fn(&Self, u64)) {
        let mut state = self.lock();
        loop {
            let due = state.due();
            if due == Some(Duration::ZERO) {
                state.telling = mem::take(&mut state.lost);
                state.told = Some(Instant::now());
                let lost = state.telling;
                drop(state);
                tell(self, lost);
                state = self.lock();
                // Nobody listens.
                state.telling = 0;
            } else if let Some(entry) = state.waiting.pop_front() {
                state.size = state.size.saturating_sub(entry.size());
                state.writing = true;
                drop(state);
                let written = self.outlet.wait(&entry.bytes);
                state = self.lock();
                state.writing = false;
                state.is_done(entry.of, written.is_ok());
                self.changed.notify_all();
            } else {
                let waited = self.changed.wait_timeout(state, due.unwrap_or(Duration::MAX));
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    /// Waits until all has been taken and every loss told, but no longer than that.
    pub fn finish(&self, limit: Duration) {
        let mut state = self.lock();
        state.ending = true;
        self.changed.notify_all();
        let busy = |state: &mut State| !state.is_empty() || state.telling > 0 || state.due().is_some();
        drop(self.changed.wait_timeout_while(state, limit, busy));
    }
}

#[cfg(test)]
mod test {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Takes an entry when it is allowed to.
    struct Slow {
        allowed: Mutex<Receiver<bool>>,
        taken: Sender<String>,
    }

    impl Outlet for Slow {
        fn at_once(&self, _: &[u8]) -> Taken {
            Taken::Later
        }

        fn wait(&self, entry: &[u8]) -> io::Result<()> {
            if !self.allowed.lock().expect("allowed").recv().expect("a word") {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let text = String::from_utf8_lossy(entry);
            self.taken.send(text.chars().take(20).collect()).map_err(io::Error::other)
        }
    }

    fn tell(queue: &Queue, lost: u64) {
        queue.push(Share::Loss, format!("{lost} lost").into_bytes());
    }

    fn slow() -> (Arc<Queue>, Sender<bool>, Receiver<String>) {
        let ((allow, allowed), (sender, taken)) = (channel(), channel());
        let slow = Slow { allowed: Mutex::new(allowed), taken: sender };
        (Queue::start(Box::new(slow), tell).expect("a queue"), allow, taken)
    }

    fn entry(text: &str) -> Vec<u8> {
        format!("{text:1000}").into_bytes()
    }

    fn next(taken: &Receiver<String>) -> String {
        taken.recv_timeout(Duration::from_secs(20)).expect("an entry").trim_end().to_owned()
    }

    #[test]
    fn nobody_waits_and_a_loss_is_told_when_there_is_room() {
        let (queue, allow, taken) = slow();
        for n in 0..5000 {
            queue.push(Share::Record, entry(&n.to_string()));
        }
        let lost = queue.lock().lost;
        let kept = 5000 - lost;
        assert!(lost > 0 && queue.lock().size <= MOST, "{lost} were lost");
        assert!(queue.lock().size > MOST - 2000, "there was room");
        allow.send(true).expect("allowed");
        assert_eq!(next(&taken), "0");
        for _ in 0..3000 {
            allow.send(true).expect("allowed");
        }
        for n in 1..kept {
            assert_eq!(next(&taken), n.to_string());
        }
        assert_eq!(next(&taken), format!("{lost} lost"));
        queue.push(Share::Record, entry("later"));
        assert_eq!(next(&taken), "later");
    }

    #[test]
    fn details_make_room_for_records() {
        let (queue, _allow, _taken) = slow();
        let mut kept = Vec::new();
        for share in [Share::Detail, Share::Ordinary, Share::Record, Share::Detail] {
            for _ in 0..3000 {
                queue.push(share, entry("x"));
            }
            kept.push(queue.lock().size * 8 / MOST);
        }
        assert_eq!(kept, [3, 5, 7, 7]);
    }

    #[test]
    fn what_is_refused_is_told_of_when_it_is_not() {
        let (queue, allow, taken) = slow();
        for word in [false, false, true, true, true] {
            allow.send(word).expect("allowed");
        }
        queue.push(Share::Record, entry("1"));
        queue.push(Share::Record, entry("2"));
        queue.push(Share::Record, entry("3"));
        assert_eq!(next(&taken), "3");
        assert_eq!(next(&taken), "2 lost");
    }

    #[test]
    fn a_loss_that_is_lost_is_told_again() {
        let (queue, allow, taken) = slow();
        for word in [false, true, false, true, true] {
            allow.send(word).expect("allowed");
        }
        queue.push(Share::Record, entry("1"));
        queue.push(Share::Record, entry("2"));
        assert_eq!(next(&taken), "2");
        // Until that one was lost is refused.
        let begin = Instant::now();
        let is_refused = || {
            let state = queue.lock();
            state.told.is_some() && state.refused
        };
        while !is_refused() {
            assert!(begin.elapsed() < Duration::from_secs(20), "the loss was not told");
            std::thread::sleep(Duration::from_millis(1));
        }
        queue.push(Share::Record, entry("3"));
        assert_eq!(next(&taken), "3");
        assert_eq!(next(&taken), "1 lost");
    }

    #[test]
    fn the_end_waits_for_the_log_but_not_for_ever() {
        let (queue, allow, taken) = slow();
        queue.push(Share::Record, entry("1"));
        let begin = Instant::now();
        queue.finish(Duration::from_millis(50));
        assert!(begin.elapsed() >= Duration::from_millis(50));
        allow.send(true).expect("allowed");
        queue.finish(Duration::from_secs(20));
        assert!(begin.elapsed() < Duration::from_secs(20));
        assert_eq!(taken.try_recv().expect("an entry").trim_end(), "1");
    }
}
