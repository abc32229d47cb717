//! Limits that belong to processes and not to control groups: getrlimit(2) and proc_pid_oom_score_adj(5).
//!
//! Does not know the limits of the domain's control groups, which the daemon sets. Only the host's own rights raise a
//! hard limit or lower a score, so the controller does that to the future init, which waits; what is left, it does
//! itself at the very end, as a small limit would be in the way of the set-up.

use berth_schemas::controller::{LaunchPlan, PlanRlimit};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

use crate::failure::{Doing, Outcome, Step};

const NAMES: &[(&str, Resource)] = &[
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

fn resource(limit: &PlanRlimit) -> Outcome<Resource> {
    let found = NAMES.iter().find(|(name, _)| *name == limit.name).map(|(_, resource)| *resource);
    found.ok_or_else(|| Doing::new(Step::Limits, "find the limit").path(&limit.name).refused("it is unknown"))
}

fn number(value: Option<i64>) -> Option<u64> {
    value.map(i64::cast_unsigned)
}

/// What only the host may do: raises hard limits of the future init, and sets its score. `pid` is our child.
pub fn allow(plan: &LaunchPlan, pid: i32) -> Outcome<()> {
    let target = Pid::from_raw(pid);
    for limit in &plan.rlimits {
        let resource = resource(limit)?;
        // The future init has the controller's, as nobody has changed them since.
        let now = getrlimit(resource);
        let wanted = number(limit.hard);
        if wanted.unwrap_or(u64::MAX) > now.maximum.unwrap_or(u64::MAX) {
            let raised = Rlimit { current: now.current, maximum: wanted };
            prlimit(target, resource, raised)
                .map_err(|e| Doing::new(Step::Limits, "raise the hard limit").path(&limit.name).failed(e))?;
        }
    }
    if let Some(score) = plan.oom_score_adj {
        let path = format!("/proc/{pid}/oom_score_adj");
        let file = open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        file.and_then(|file| rustix::io::write(&file, score.to_string().as_bytes()))
            .map_err(|e| Doing::new(Step::Limits, "write").path(&path).failed(e))?;
    }
    Ok(())
}

/// Sets the limits of the calling process, which is about to become init.
pub fn take(plan: &LaunchPlan) -> Outcome<()> {
    for limit in &plan.rlimits {
        let wanted = Rlimit { current: number(limit.soft), maximum: number(limit.hard) };
        setrlimit(resource(limit)?, wanted)
            .map_err(|e| Doing::new(Step::Limits, "set the limit").path(&limit.name).failed(e))?;
    }
    Ok(())
}
