//! Joining control groups, then making and joining namespaces, in the order in which the one needs the other.

use berth_schemas::controller::{LaunchPlan, PlanNamespaceKind};
use berth_sys::process::{LINUX32, namespace, set_personality, setns, unshare};

use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::{MountPropagationFlags, mount_change};

use crate::failure::{Doing, Outcome, Step};

use super::inside::{Prepared, descriptor};
use super::{cgroup, procfs};

fn is_shared(plan: &LaunchPlan, kind: PlanNamespaceKind) -> bool {
    plan.shared_namespaces.iter().any(|n| n.kind == kind)
}

/// Whether the container has a network of its own.
pub fn has_own_network(plan: &LaunchPlan) -> bool {
    !is_shared(plan, PlanNamespaceKind::Net)
}

/// The namespaces to make at clone. The one of control groups comes later: its root is where its maker is.
pub fn to_make(plan: &LaunchPlan, network_is_kept: bool) -> i32 {
    let mut flags = namespace::MOUNT | namespace::PID;
    if !is_shared(plan, PlanNamespaceKind::Uts) {
        flags |= namespace::UTS;
    }
    if !is_shared(plan, PlanNamespaceKind::Ipc) {
        flags |= namespace::IPC;
    }
    if has_own_network(plan) && !network_is_kept {
        flags |= namespace::NET;
    }
    flags
}

fn flag(kind: PlanNamespaceKind) -> i32 {
    match kind {
        PlanNamespaceKind::Net => namespace::NET,
        PlanNamespaceKind::Ipc => namespace::IPC,
        PlanNamespaceKind::Uts => namespace::UTS,
    }
}

/// Joins everything.
pub fn join(p: &Prepared<'_>, join_payload: bool) -> Outcome<()> {
    let groups = &p.plan.cgroups;
    if join_payload {
        cgroup::join(Step::Namespaces, &cgroup::payload(groups))?;
    }
    for group in &groups.legacy {
        cgroup::join(Step::Namespaces, &cgroup::legacy_payload(group))?;
    }
    unshare(namespace::CGROUP)
        .map_err(|e| Doing::new(Step::Namespaces, "unshare").path("cgroup").failed(e))?;
    for shared in &p.plan.shared_namespaces {
        let fd = descriptor(Step::Namespaces, p.descriptors, shared.file_descriptor)?;
        setns(fd, flag(shared.kind))
            .map_err(|e| Doing::new(Step::Namespaces, "setns").path(shared.kind.as_str()).failed(e))?;
    }
    if let Some(network) = p.kept_network {
        setns(network, namespace::NET)
            .map_err(|e| Doing::new(Step::Namespaces, "setns").path("net").failed(e))?;
    }
    leave_time(p.plan);
    Ok(())
}

/// With ids of its own: it was born into its groups and most namespaces, and shares none.
pub fn join_mapped(p: &Prepared<'_>) -> Outcome<()> {
    if let Some(network) = p.kept_network {
        setns(network, namespace::NET)
            .map_err(|e| Doing::new(Step::Namespaces, "setns").path("net").failed(e))?;
    }
    leave_time(p.plan);
    unshare(namespace::CGROUP).map_err(|e| Doing::new(Step::Namespaces, "unshare").path("cgroup").failed(e))
}

/// The oldest kernel on which Debian 13 was seen to come up in a namespace of clocks; on 6.1 it hangs.
const CLOCKS: (u32, u32) = (6, 18);

/// Whether the container gets clocks of its own.
fn has_clocks(plan: &LaunchPlan) -> bool {
    if plan.view_program.is_none() {
        return false;
    }
    let release = rustix::system::uname();
    let release = release.release().to_str().unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= CLOCKS
}

/// A namespace of clocks for what this process becomes by exec and for its children. A kernel without has the container's
/// uptime in /proc/uptime alone.
fn leave_time(plan: &LaunchPlan) {
    if has_clocks(plan) {
        let _ = unshare(namespace::TIME);
    }
}

/// The container's clock of the time since boot begins with the birth of `pid`, the future init, our child, which has just
/// left ours: written by us, as the right to is asked of who writes (time_namespaces(7)). Not later, as init would have
/// started before time began, which no program expects. The monotonic clock stays.
pub fn begin_time(plan: &LaunchPlan, pid: i32) {
    if !has_clocks(plan) {
        return;
    }
    let Ok(proc) = procfs::private(Step::Namespaces) else { return };
    let file =
        |name: &str, flags| openat(&proc, format!("{pid}/{name}"), flags | OFlags::CLOEXEC, Mode::empty());
    // Without: see above.
    let Ok(stat) = file("stat", OFlags::RDONLY).map(std::fs::File::from).map(std::io::read_to_string) else {
        return;
    };
    let Some(offset) = stat.ok().and_then(|stat| birth_offset(&stat)) else {
        return;
    };
    let _ = file("timens_offsets", OFlags::WRONLY)
        .and_then(|file| rustix::io::write(&file, format!("boottime {offset}").as_bytes()));
}

/// USER_HZ, the unit of times in /proc: the same on all architectures of ours.
const TICKS: u64 = 100;

/// What has to be added to the time since boot for the birth of a process to be its begin, as seconds and nanoseconds of
/// timens_offsets. Ticks are rounded down (field 22 of proc_pid_stat(5)), so that it is born at 0 or right after.
fn birth_offset(stat: &str) -> Option<String> {
    let rest = stat.rsplit_once(')')?.1;
    let ticks: u64 = rest.split_whitespace().nth(19)?.parse().ok()?;
    let (seconds, nanoseconds) = (ticks / TICKS, ticks % TICKS * (1_000_000_000 / TICKS));
    Some(match nanoseconds {
        0 => format!("-{seconds} 0"),
        _ => format!("-{} {}", seconds + 1, 1_000_000_000 - nanoseconds),
    })
}

/// Goes to a mount namespace of our own user namespace, with the same mounts.
pub fn copy_mounts() -> Outcome<()> {
    unshare(namespace::MOUNT).map_err(|e| Doing::new(Step::Namespaces, "unshare").path("mnt").failed(e))
}

/// Lets what is mounted inside reach the mount namespaces that are made inside. So far nothing goes anywhere, not even to the
/// host, and that stays: the group is the container's own. An init that is told to be in a container leaves this to
/// whoever made it, and without it a service of systemd gets none of its credentials: systemd's container interface,
/// "Execution Environment".
pub fn share_mounts() -> Outcome<()> {
    mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC)
        .map_err(|e| Doing::new(Step::Namespaces, "make shared").path("/").failed(e))
}

/// Host name and personality.
pub fn set_identity(plan: &LaunchPlan) -> Outcome<()> {
    if let Some(name) = plan.hostname.as_ref().filter(|_| !is_shared(plan, PlanNamespaceKind::Uts)) {
        rustix::system::sethostname(name.as_bytes())
            .map_err(|e| Doing::new(Step::Hostname, "sethostname").path(name).failed(e))?;
    }
    match plan.personality.as_deref() {
        None => Ok(()),
        Some("linux32") => set_personality(LINUX32)
            .map_err(|e| Doing::new(Step::Hostname, "personality").path("linux32").failed(e)),
        Some(other) => {
            Err(Doing::new(Step::Hostname, "personality").path(other).refused("unknown personality"))
        }
    }
}

#[cfg(test)]
mod test {
    use super::birth_offset;

    #[test]
    fn time_begins_with_the_birth_of_init() {
        let stat =
            |ticks: &str| format!("7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 {ticks} 9 9");
        for (ticks, offset) in
            [("1234", "-13 660000000"), ("1200", "-12 0"), ("0", "-0 0"), ("1", "-1 990000000")]
        {
            assert_eq!(birth_offset(&stat(ticks)).as_deref(), Some(offset), "{ticks}");
        }
        for odd in ["", "7 (a) S 1", &stat("x")] {
            assert_eq!(birth_offset(odd), None, "{odd}");
        }
    }
}
