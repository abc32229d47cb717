//! How fast it answers: the processor time of answers counts for nobody's quota, so there is a share of it that it does not
//! go beyond.
//!
//! What it has not used is saved up to some seconds' worth. It does not know the time, nor what it is spent on.

use std::time::Duration;

/// The share is one part in so many of one processor. A thousand reads a second of the longest file take a sixth at most.
const PARTS: u64 = 4;

/// What can be saved up, in nanoseconds. A program that has begun has it: nobody has asked for longer than it takes to save it.
const MOST: u64 = 1_000_000_000;

/// The longest debt, so that nobody waits for more than a second because of a single answer.
const LEAST: u64 = 250_000_000;

/// Processor time that may be spent yet.
#[derive(Debug, Default)]
pub struct Pace {
    /// When it was looked at last, and what had been spent of it then.
    last: Option<(u64, u64)>,
    /// Above a debt of [`LEAST`].
    saved: u64,
}

impl Pace {
    /// How long to wait before the next answer. `now`: any time that goes forward; `spent`: processor time of the program so
    /// far; both in nanoseconds.
    pub fn wait(&mut self, now: u64, spent: u64) -> Duration {
        match self.last.replace((now, spent)) {
            None => self.saved = LEAST + MOST,
            Some((then, before)) => {
                let saved = self.saved.saturating_add(now.saturating_sub(then) / PARTS).min(LEAST + MOST);
                self.spend_from(saved, spent.saturating_sub(before));
            }
        }
        Duration::from_nanos(LEAST.saturating_sub(self.saved) * PARTS)
    }

    /// Counts what somebody else spends on an answer.
    pub fn spend(&mut self, nanoseconds: u64) {
        self.spend_from(self.saved, nanoseconds);
    }

    fn spend_from(&mut self, saved: u64, nanoseconds: u64) {
        self.saved = saved.saturating_sub(nanoseconds);
    }
}

#[cfg(test)]
mod test {
    use super::*;

    const MILLISECOND: u64 = 1_000_000;

    /// What it spends within ten seconds if it does nothing but answer, and the longest wait.
    fn spent(answer: u64, beside: u64) -> (u64, Duration) {
        let (mut pace, mut longest) = (Pace::default(), Duration::ZERO);
        let (mut now, mut spent, mut others) = (5, 3, 0);
        while now < 10_000 * MILLISECOND {
            let wait = pace.wait(now, spent);
            longest = longest.max(wait);
            now += wait.as_nanos() as u64;
            if wait.is_zero() {
                pace.spend(beside);
                others += beside;
                now += answer + beside;
                spent += answer;
            }
        }
        (spent + others, longest)
    }

    #[test]
    fn it_takes_its_share_and_what_was_saved() {
        let most = 10_000 * MILLISECOND / PARTS + MOST;
        for (answer, beside) in
            [(MILLISECOND / 10, 0), (MILLISECOND / 10, MILLISECOND / 5), (40 * MILLISECOND, 0)]
        {
            let (all, longest) = spent(answer, beside);
            assert!(all > most - 100 * MILLISECOND && all < most + 100 * MILLISECOND, "{all} of {most}");
            assert!(longest <= Duration::from_nanos((answer + beside) * PARTS), "{longest:?}");
        }
    }

    #[test]
    fn debts_are_limited_and_savings_too() {
        let mut pace = Pace::default();
        assert_eq!(pace.wait(0, 0), Duration::ZERO);
        assert_eq!(pace.wait(1, 9_000 * MILLISECOND), Duration::from_secs(1));
        // An hour later it has what can be saved up, and no more.
        let hour = 3_600_000 * MILLISECOND;
        assert_eq!(pace.wait(hour, 9_000 * MILLISECOND), Duration::ZERO);
        assert_eq!(pace.wait(hour, 10_000 * MILLISECOND), Duration::ZERO);
        assert_eq!(pace.wait(hour, 10_010 * MILLISECOND), Duration::from_millis(10 * PARTS));
    }
}
