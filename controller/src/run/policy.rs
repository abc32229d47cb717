//! What an end means and what follows from it: pure values.

use std::time::Duration;

use berth_schemas::controller::{ControllerExit, LaunchPlan, PlanAction};

/// How init ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It asked for a restart: reboot(2).
    Reboot,
    /// It asked for the machine to be switched off or halted: reboot(2).
    Poweroff,
    /// It exited with a status.
    Exited(i32),
    /// A signal killed it.
    Signaled(i32),
    /// The kernel killed it for want of memory.
    Oom,
    /// It was told to.
    Destroyed,
}

/// SIGHUP, SIGINT and SIGKILL as numbers, the same on all architectures of Linux.
const HUP: i32 = 1;
const INT: i32 = 2;
const KILL: i32 = 9;

impl End {
    /// The end from what wait told. In a pid namespace reboot(2) is an end by SIGHUP or SIGINT, and neither signal can
    /// otherwise end its pid 1 (reboot(2), "Behavior inside PID namespaces").
    pub fn of(status: Option<i32>, signal: Option<i32>, out_of_memory: bool) -> Self {
        match (status, signal) {
            (_, Some(HUP)) => Self::Reboot,
            (_, Some(INT)) => Self::Poweroff,
            (_, Some(KILL)) if out_of_memory => Self::Oom,
            (_, Some(signal)) => Self::Signaled(signal),
            (status, None) => Self::Exited(status.unwrap_or(0)),
        }
    }

    /// As it is told.
    pub fn exit(self, at_u_sec: i64) -> ControllerExit {
        let (kind, status, signal) = match self {
            Self::Reboot => ("reboot", None, None),
            Self::Poweroff => ("poweroff", None, None),
            Self::Exited(status) => ("exited", Some(status), None),
            Self::Signaled(signal) => ("signaled", None, Some(signal)),
            Self::Oom => ("oom", None, Some(KILL)),
            Self::Destroyed => ("destroyed", None, None),
        };
        ControllerExit {
            kind: kind.to_owned(),
            status: status.map(i64::from),
            signal: signal.map(i64::from),
            at_u_sec,
        }
    }

    /// What the plan wants then.
    pub fn action(self, plan: &LaunchPlan) -> PlanAction {
        match self {
            Self::Reboot => plan.on_reboot,
            Self::Poweroff | Self::Exited(0) => plan.on_poweroff,
            Self::Exited(_) | Self::Signaled(_) | Self::Oom => plan.on_crash,
            Self::Destroyed => PlanAction::Destroy,
        }
    }
}

/// Keeps an init that ends at once from being started all the time.
#[derive(Debug, Default)]
pub struct Brake {
    /// Lives of less than [`SHORT`] in a row.
    in_a_row: u32,
}

/// A life so short that something is wrong.
const SHORT: Duration = Duration::from_secs(1);

/// So many short lives in a row are the last.
const MOST: u32 = 8;

impl Brake {
    /// How long to wait before the next start after a life of this length; `None`: give up.
    pub fn wait(&mut self, lived: Duration) -> Option<Duration> {
        if lived >= SHORT {
            self.in_a_row = 0;
            return Some(Duration::ZERO);
        }
        self.in_a_row += 1;
        (self.in_a_row < MOST).then(|| Duration::from_secs(1 << (self.in_a_row - 1).min(5)).min(MAX_WAIT))
    }
}

/// Longest wait.
const MAX_WAIT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn ends_are_what_the_kernel_means() {
        assert_eq!(End::of(Some(0), None, false), End::Exited(0));
        assert_eq!(End::of(Some(3), None, true), End::Exited(3));
        assert_eq!(End::of(None, Some(1), false), End::Reboot);
        assert_eq!(End::of(None, Some(2), false), End::Poweroff);
        assert_eq!(End::of(None, Some(9), true), End::Oom);
        assert_eq!(End::of(None, Some(9), false), End::Signaled(9));
        assert_eq!(End::of(None, Some(11), true), End::Signaled(11));
    }

    #[test]
    fn the_brake_waits_longer_each_time_and_gives_up() {
        let mut brake = Brake::default();
        let waits: Vec<_> =
            (0..8).map(|_| brake.wait(Duration::from_millis(10)).map(|d| d.as_secs())).collect();
        assert_eq!(waits, [Some(1), Some(2), Some(4), Some(8), Some(16), Some(30), Some(30), None]);
        assert_eq!(brake.wait(Duration::from_secs(2)), Some(Duration::ZERO));
        assert_eq!(brake.wait(Duration::ZERO), Some(Duration::from_secs(1)));
    }
}
