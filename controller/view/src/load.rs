//! Load averages of the container.
//!
//! The kernel's averages decay by exp(-t/1 min) and so on (kernel/sched/loadavg.c). The kernel counts every five seconds;
//! here somebody counts only while somebody reads. In between the counters of the group tell how many were active on
//! average: processor time that was used, and from the pressure files, time for which somebody waited for a processor
//! or for a disk. How many waited is not known, and is taken to be as many as wait now.
//!
//! Pure. Does not know who counts.

/// The minutes of the three averages, in seconds.
const MINUTES: [f64; 3] = [60.0, 300.0, 900.0];

/// How often the averages move, in nanoseconds.
pub const STEP: u64 = 5_000_000_000;

/// Over a longer time than this the count of now says little.
const GAP: u64 = 2 * STEP;

/// What is known at a moment. All times are nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Moment {
    /// Since the container started.
    pub at: u64,
    /// Processor time used so far.
    pub used: u64,
    /// Time so far in which somebody waited for a processor.
    pub waited: u64,
    /// Time so far in which somebody waited for a disk.
    pub blocked: u64,
    /// Threads that run or want to, or wait for a disk, if somebody could count them.
    pub active: Option<u32>,
    /// Processors.
    pub cpus: u32,
}

/// The averages.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    /// Over 1, 5 and 15 minutes.
    pub averages: [f64; 3],
    /// When they moved last, with the counters of then. None: they have not begun.
    pub last: Option<Moment>,
}

impl Load {
    /// Whether it is time to count.
    pub fn is_due(&self, at: u64) -> bool {
        self.last.is_none_or(|last| at.saturating_sub(last.at) >= STEP)
    }

    /// Moves the averages.
    pub fn add(&mut self, now: Moment) {
        let Some(last) = self.last.replace(now) else { return };
        let passed = now.at.saturating_sub(last.at);
        if passed == 0 {
            return;
        }
        let share = |now: u64, last: u64| now.saturating_sub(last) as f64 / passed as f64;
        let used = share(now.used, last.used);
        let waited = share(now.waited, last.waited).min(1.0);
        let blocked = share(now.blocked, last.blocked).min(1.0);
        let active = now.active.map(f64::from);
        let active = match active {
            Some(active) if passed <= GAP => active,
            _ => {
                let waiting = active.map_or(1.0, |a| (a - f64::from(now.cpus)).max(1.0));
                used + waited * waiting + blocked
            }
        };
        for (average, minutes) in self.averages.iter_mut().zip(MINUTES) {
            let kept = (-(passed as f64) / 1e9 / minutes).exp();
            *average = *average * kept + active * (1.0 - kept);
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn averages_are_the_kernels_while_somebody_counts() {
        let mut load = Load::default();
        for step in 0..=12 {
            load.add(Moment { at: step * STEP, active: Some(2), cpus: 1, ..Moment::default() });
        }
        // After a minute: 2 * (1 - 1/e), and less for the longer ones.
        assert!((load.averages[0] - 2.0 * (1.0 - (-1.0_f64).exp())).abs() < 0.001, "{load:?}");
        assert!((load.averages[1] - 2.0 * (1.0 - (-0.2_f64).exp())).abs() < 0.001, "{load:?}");
        assert!(!load.is_due(60 * SECOND) && load.is_due(65 * SECOND));
    }

    #[test]
    fn gaps_are_bridged_by_the_counters() {
        let busy = |active| {
            let mut load = Load::default();
            load.add(Moment { cpus: 1, ..Moment::default() });
            let at = 3600 * SECOND;
            load.add(Moment { at, used: at, waited: at, blocked: 0, active, cpus: 1 });
            load.averages
        };
        // Four loops on one processor, for an hour.
        for average in busy(Some(4)) {
            assert!((average - 4.0).abs() < 0.1, "{average}");
        }
        for average in busy(None) {
            assert!((average - 2.0).abs() < 0.1, "{average}");
        }
        let mut idle = Load { averages: [4.0; 3], last: Some(Moment::default()) };
        idle.add(Moment { at: 3600 * SECOND, active: Some(0), cpus: 1, ..Moment::default() });
        assert!(idle.averages[0] < 0.01 && idle.averages[2] < 0.1, "{idle:?}");
    }
}
