//! Pauses between attempts to reach a daemon that has hung up: most likely it is about to start anew.
//!
//! Does not know how a connection is made, or what is asked over it.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// The first pause; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(100);

/// The longest pause: an attempt may be an ssh to another host.
const LONGEST: Duration = Duration::from_secs(2);

/// The pauses of one loss.
#[derive(Debug)]
pub struct Pauses {
    deadline: Instant,
    next: Duration,
}

impl Pauses {
    /// For attempts that go on until then.
    pub fn until(deadline: Instant) -> Self {
        Self { deadline, next: FIRST }
    }

    /// Waits until another attempt is due; false if the time is over. The last attempt is at the very end.
    pub fn pause(&mut self) -> bool {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        sleep(self.next.min(left));
        self.next = (self.next * 2).min(LONGEST);
        true
    }

    /// The daemon has answered: what comes is another loss.
    pub fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn pauses_grow_and_end_with_the_time() {
        let begin = Instant::now();
        let mut pauses = Pauses::until(begin + Duration::from_millis(250));
        assert!(pauses.pause() && begin.elapsed() >= FIRST);
        assert_eq!(pauses.next, 2 * FIRST);
        pauses.reset();
        assert_eq!(pauses.next, FIRST);
        while pauses.pause() {}
        assert!(begin.elapsed() >= Duration::from_millis(250));
    }
}
