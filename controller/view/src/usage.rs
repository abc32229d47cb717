//! Processor time of the container, by processor, since it started.
//!
//! Pure. What the kernel counts is added up here in differences, so that nothing ever goes back: not when the container
//! gets other processors, and not when the kernel has no figures by processor (version 2 of control groups). All times are nanoseconds. Does
//! not know where figures come from.

use crate::cpus::Cpus;

/// What one processor did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// For programs.
    pub user: u64,
    /// In the kernel for them.
    pub system: u64,
    /// Nothing.
    pub idle: u64,
}

/// What the kernel has counted up to a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// Since the container started.
    pub at: u64,
    /// All processors.
    pub user: u64,
    /// The same.
    pub system: u64,
    /// By the host's number: user and system. Empty where the kernel does not tell.
    pub by_cpu: Vec<(u32, u64, u64)>,
}

/// The sums.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// By the number inside; may have more than there are now.
    pub cpus: Vec<Spent>,
    /// The last sample.
    pub last: Option<Sample>,
}

impl Usage {
    /// Adds what has come since the last sample. The first is where counting begins.
    pub fn add(&mut self, cpus: &Cpus, now: Sample) {
        let count = cpus.count();
        if self.cpus.len() < count {
            self.cpus.resize(count, Spent::default());
        }
        let Some(last) = &self.last else {
            self.last = Some(now);
            return;
        };
        let passed = now.at.saturating_sub(last.at);
        let (user, system) = (now.user.saturating_sub(last.user), now.system.saturating_sub(last.system));
        // What each did by itself, as far as that is known; the rest is everybody's alike.
        let mut own = vec![(0, 0); count];
        for (cpu, user, system) in &now.by_cpu {
            let before = last.by_cpu.iter().find(|b| b.0 == *cpu);
            if let (Some(inside), Some((_, u, s))) = (cpus.number(*cpu), before) {
                own[inside as usize] = (user.saturating_sub(*u), system.saturating_sub(*s));
            }
        }
        let known = own.iter().fold((0_u64, 0_u64), |sum, o| (sum.0 + o.0, sum.1 + o.1));
        let rest = (user.saturating_sub(known.0), system.saturating_sub(known.1));
        let part =
            |all: u64, index: usize| all / count as u64 + u64::from((all % count as u64) > index as u64);
        for (index, (spent, own)) in self.cpus.iter_mut().zip(&own).enumerate() {
            let (user, system) = (own.0 + part(rest.0, index), own.1 + part(rest.1, index));
            spent.user += user;
            spent.system += system;
            spent.idle += passed.saturating_sub(user + system);
        }
        self.last = Some(now);
    }

    /// All processors together.
    pub fn total(&self) -> Spent {
        self.cpus.iter().fold(Spent::default(), |sum, c| Spent {
            user: sum.user + c.user,
            system: sum.system + c.system,
            idle: sum.idle + c.idle,
        })
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn sample(at: u64, user: u64, system: u64, by_cpu: &[(u32, u64, u64)]) -> Sample {
        Sample { at, user, system, by_cpu: by_cpu.to_vec() }
    }

    #[test]
    fn time_is_where_it_was_spent_or_everywhere() {
        let cpus = Cpus::new(vec![1, 3], None);
        let mut usage = Usage::default();
        usage.add(&cpus, sample(0, 50, 50, &[(1, 50, 50), (3, 0, 0)]));
        assert_eq!(usage.total(), Spent::default());
        // 40 on one, 10 on the other, and 10 where the container was before.
        usage.add(&cpus, sample(100, 110, 50, &[(1, 90, 50), (3, 10, 0), (0, 10, 0)]));
        assert_eq!(usage.cpus[0], Spent { user: 45, system: 0, idle: 55 });
        assert_eq!(usage.cpus[1], Spent { user: 15, system: 0, idle: 85 });
        // Without figures by processor.
        usage.add(&cpus, sample(200, 141, 70, &[]));
        assert_eq!(usage.cpus[0], Spent { user: 61, system: 10, idle: 129 });
        assert_eq!(usage.cpus[1], Spent { user: 30, system: 10, idle: 160 });
    }

    #[test]
    fn nothing_goes_back() {
        let mut usage = Usage::default();
        let mut before = Spent::default();
        for (step, count) in [4, 1, 2, 1, 8, 1].into_iter().enumerate() {
            let cpus = Cpus::new((0..count).collect(), None);
            // A counter that begins anew, too.
            let user = if step == 4 { 5 } else { step as u64 * 30 };
            usage.add(&cpus, sample(step as u64 * 100, user, 0, &[]));
            let now = usage.total();
            assert!(now.user >= before.user && now.idle >= before.idle, "{now:?}");
            before = now;
        }
    }
}
