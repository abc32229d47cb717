//! Limits that belong to processes and not to control groups: getrlimit(2), proc_pid_oom_score_adj(5) and
//! set_mempolicy(2).
//!
//! Does not know the limits of the domain's control groups, which the daemon sets. Only the host's own rights raise a
//! hard limit or lower a score, so the controller does that to the future init, which waits; what is left, it does
//! itself at the very end, as a small limit would be in the way of the set-up.

use berth_schemas::controller::{LaunchPlan, PlanMemoryMode, PlanRlimit};
use berth_sys::process::{MemoryPolicy, set_memory_policy};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

use crate::failure::{Doing, Failure, Outcome, Step};

/// As many as a kernel can have: `MAX_NUMNODES` where CONFIG_NODES_SHIFT is 10, its highest value.
const MAX_NODES: usize = 1024;

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
            prlimit(target, resource, raised).map_err(|e| {
                unprivileged(Doing::new(Step::Limits, "raise the hard limit").path(&limit.name), e)
            })?;
        }
    }
    if let Some(score) = plan.oom_score_adj {
        let path = format!("/proc/{pid}/oom_score_adj");
        let file = open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        file.and_then(|file| rustix::io::write(&file, score.to_string().as_bytes())).map_err(|e| {
            unprivileged(Doing::new(Step::Limits, "write <berth:limits oom-score> to").path(&path), e)
        })?;
    }
    Ok(())
}

/// The kernel says EACCES of a score and EPERM of a limit.
fn unprivileged(doing: Doing<'_>, errno: Errno) -> Failure {
    match errno {
        Errno::ACCESS | Errno::PERM => doing.failed_because(errno, "that needs CAP_SYS_RESOURCE"),
        errno => doing.failed(errno),
    }
}

/// Sets the memory policy of the calling process, which is about to become init: processes inherit it, and keep it over
/// execve(2).
pub fn spread_memory(plan: &LaunchPlan) -> Outcome<()> {
    let Some(wanted) = &plan.memory_policy else { return Ok(()) };
    let policy = match wanted.mode {
        PlanMemoryMode::Preferred => MemoryPolicy::Preferred,
        PlanMemoryMode::Interleave => MemoryPolicy::Interleave,
    };
    let shown = wanted.nodes.iter().map(i64::to_string).collect::<Vec<_>>().join(",");
    let doing = Doing::new(Step::Limits, "set the memory policy for the nodes").path(&shown);
    let mut mask = [0u64; MAX_NODES / 64];
    for node in &wanted.nodes {
        let node = usize::try_from(*node).ok().filter(|n| *n < MAX_NODES);
        let node = node.ok_or_else(|| doing.refused("no host has such a node"))?;
        mask[node / 64] |= 1 << (node % 64);
    }
    set_memory_policy(policy, &mask).map_err(|e| match e {
        Errno::INVAL => doing.failed_because(e, "the host or the control group has no such node"),
        e => doing.failed(e),
    })
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
