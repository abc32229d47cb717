//! /proc/stat.

use std::fmt::Write;

use super::ticks;
use crate::usage::{Spent, Usage};

/// What is not processor time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rest {
    /// When the container started, in seconds since 1970.
    pub started: u64,
    /// Threads that are active.
    pub active: u32,
}

fn line(out: &mut String, name: &str, spent: Spent) {
    // user nice system idle iowait irq softirq steal guest guest_nice
    let (user, system, idle) = (ticks(spent.user), ticks(spent.system), ticks(spent.idle));
    let _ = writeln!(out, "{name} {user} 0 {system} {idle} 0 0 0 0 0 0");
}

/// The text, for the first `count` processors. What the kernel counts for the whole machine alone
/// (interrupts, changes of context, forks) is 0.
pub fn text(usage: &Usage, count: usize, rest: &Rest) -> String {
    let mut out = String::with_capacity(256 + 64 * count);
    // Two spaces, as the kernel has them.
    line(&mut out, "cpu ", usage.total());
    for (number, spent) in usage.cpus.iter().take(count).enumerate() {
        line(&mut out, &format!("cpu{number}"), *spent);
    }
    let _ = write!(
        out,
        "intr 0\nctxt 0\nbtime {}\nprocesses 0\nprocs_running {}\nprocs_blocked 0\nsoftirq 0 0 0 0 0 0 0 0 0 0 0\n",
        rest.started,
        rest.active.max(1)
    );
    out
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn lines_are_the_kernels() {
        let second = 1_000_000_000_u64;
        let spent = |user: u64, system: u64, idle: u64| Spent {
            user: user * second,
            system: system * second,
            idle: idle * second,
        };
        // One more than there are now, from before.
        let usage = Usage { cpus: vec![spent(3, 2, 5), spent(1, 1, 8), spent(0, 0, 7)], last: None };
        let rest = Rest { started: 1_700_000_000, active: 0 };
        assert_eq!(
            text(&usage, 2, &rest),
            "cpu  400 0 300 2000 0 0 0 0 0 0\ncpu0 300 0 200 500 0 0 0 0 0 0\ncpu1 100 0 100 800 0 0 0 0 0 0\n\
             intr 0\nctxt 0\nbtime 1700000000\nprocesses 0\nprocs_running 1\nprocs_blocked 0\n\
             softirq 0 0 0 0 0 0 0 0 0 0 0\n"
        );
    }
}
