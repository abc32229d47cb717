//! Control groups as files: making ours, joining, killing, counting, removing.
//!
//! This module knows the paths of the plan and nothing about where the hierarchies are mounted. Sources: cgroup-v2.rst
//! and cgroup-v1/memory.rst of the kernel's documentation.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use berth_schemas::controller::PlanCgroups;

use crate::failure::{Doing, Outcome, Step};

use super::idmap::Owner;

/// The group of the container below the domain's.
pub fn payload(groups: &PlanCgroups) -> String {
    format!("{}/payload", groups.unified)
}

/// The controller's own group, beside the one with the limits. In there it would be a candidate when memory runs out, and
/// mostly the best one: what fills a tmpfs is no process's.
fn own(groups: &PlanCgroups) -> String {
    let domain = groups.unified.rsplit_once('/').map_or("", |(domain, _)| domain);
    format!("{domain}/controller")
}

/// The container's group in a v1 hierarchy. With the host's ids, root inside can mount the hierarchy from its own group
/// on and write everything there, limits and device rules too: so its own is one below the domain's (invariant I11).
/// With ids of its own it can write none, and no group more has to be made.
pub fn legacy_payload(group: &str) -> String {
    format!("{group}/payload")
}

/// Makes the container's group in a v1 hierarchy. A v1 cpuset without processors and memory nodes takes nobody.
fn make_legacy_payload(group: &str) -> Outcome<()> {
    let payload = legacy_payload(group);
    make(&payload)?;
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let Ok(value) = fs::read_to_string(format!("{group}/{file}")) else { continue };
        let path = format!("{payload}/{file}");
        let file = open(&*path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        file.and_then(|file| rustix::io::write(&file, value.trim().as_bytes()))
            .map_err(|e| Doing::new(Step::Cgroup, "write").path(&path).failed(e))?;
    }
    Ok(())
}

fn make(path: &str) -> Outcome<()> {
    match fs::create_dir(path) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => {
            Err(Doing::new(Step::Cgroup, "mkdir").path(path).failed(errno(&e)))
        }
        _ => Ok(()),
    }
}

/// What a container may change in its own group: cgroup-v2.rst, "Model of Delegation".
const DELEGATED: &[&str] = &["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"];

/// Gives the payload group to the container's root, so that it can make groups below. The domain's group, which has
/// the limits, and the v1 groups stay the host's (invariant I11).
fn delegate(groups: &PlanCgroups, owner: Owner) -> Outcome<()> {
    let payload = payload(groups);
    for name in DELEGATED {
        let path = format!("{payload}/{name}");
        std::os::unix::fs::lchown(&path, Some(owner.uid), Some(owner.gid))
            .map_err(|e| Doing::new(Step::Cgroup, "chown").path(&path).failed(errno(&e)))?;
    }
    Ok(())
}

/// The limits of version 2 that programs look up in their own group: how large a heap may get, how many threads to start.
const MIRRORED: &[&str] = &["memory.max", "memory.swap.max", "cpu.max"];

/// Says the limits, which are one level above, in the payload group too, the topmost that can be seen inside. Nothing
/// hangs on it: what is there does not limit more than what counts.
fn mirror(groups: &PlanCgroups, payload: &str) {
    for file in MIRRORED {
        let (from, to) = (format!("{}/{file}", groups.unified), format!("{payload}/{file}"));
        // The daemon changes the limit first and then what is said: looked at again, the later one stays.
        let mut said = String::new();
        while let Ok(value) = fs::read_to_string(&from)
            && value != said
        {
            let _ = write(&to, value.trim_end());
            said = value;
        }
    }
    // With what it did not use of one period for the next it is never the first to be out of time: that is the group
    // above, where it is counted. Linux 5.14; without a quota there is none to save.
    let quota = fs::read_to_string(format!("{payload}/cpu.max")).unwrap_or_default();
    let _ = write(&format!("{payload}/cpu.max.burst"), quota.split(' ').next().unwrap_or_default());
}

/// Makes the payload group and the controller's own. The controller moves there when it has time: [`settle`].
pub fn prepare(groups: &PlanCgroups, owner: Owner) -> Outcome<()> {
    let payload = payload(groups);
    for path in [&payload, &own(groups)] {
        make(path)?;
    }
    mirror(groups, &payload);
    // Users inside look into their part of it; the folders above are nowhere to be seen there.
    fs::set_permissions(&payload, fs::Permissions::from_mode(0o755))
        .map_err(|e| Doing::new(Step::Cgroup, "chmod").path(&payload).failed(errno(&e)))?;
    if owner == Owner::HOST { Ok(()) } else { delegate(groups, owner) }
}

/// Makes the container's groups in the v1 hierarchies, where it has some. After the device rules: a v1 group takes no
/// new list when there are groups below it, and a group that is made gets that of its parent.
pub fn prepare_legacy(groups: &PlanCgroups, owner: Owner) -> Outcome<()> {
    if owner == Owner::HOST {
        groups.legacy.iter().try_for_each(|group| make_legacy_payload(group))?;
    }
    Ok(())
}

/// Moves the controller into its own group. The kernel lets a grace period of RCU go by before it moves a process
/// (cgroup_threadgroup_rwsem; 8 to 12 ms here), in which nobody on the host can fork: most of the time that a start
/// would take. So it is done once, when the controller has nothing else to do; until then it is found by its pidfd.
pub fn settle(groups: &PlanCgroups) -> Result<(), Errno> {
    write(&format!("{}/cgroup.procs", own(groups)), "0")
}

/// The payload group as a descriptor for CLONE_INTO_CGROUP.
pub fn open_payload(groups: &PlanCgroups) -> Outcome<OwnedFd> {
    open_group(&payload(groups))
}

/// The controller's own group likewise.
pub fn open_own(groups: &PlanCgroups) -> Outcome<OwnedFd> {
    open_group(&own(groups))
}

/// Makes that, which may be there, for what is to be in it before all else.
pub fn make_own(groups: &PlanCgroups) -> Outcome<OwnedFd> {
    make(&own(groups))?;
    open_own(groups)
}

fn open_group(path: &str) -> Outcome<OwnedFd> {
    open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Doing::new(Step::Cgroup, "open").path(path).failed(e))
}

/// Moves the calling process, which has one thread, into a group. In v1 hierarchies by "tasks": a thread that moves
/// itself takes no lock that others could hold or wait for (see [`settle`]).
pub fn join(step: Step, group: &str) -> Outcome<()> {
    let tasks = format!("{group}/tasks");
    if write(&tasks, "0").is_ok() {
        return Ok(());
    }
    let procs = format!("{group}/cgroup.procs");
    write(&procs, "0").map_err(|e| Doing::new(step, "write").path(&procs).failed(e))
}

fn write(path: &str, value: &str) -> Result<(), Errno> {
    let file = open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, value.as_bytes()).map(drop)
}

/// Kills everything in the payload group: at once where the kernel can (5.14), else one by one.
pub fn kill(groups: &PlanCgroups) {
    let payload = payload(groups);
    if write(&format!("{payload}/cgroup.kill"), "1").is_err() {
        kill_one_by_one(Path::new(&payload));
    }
    // What root with the host's ids has stopped by the freezer of version 1 cannot end before it goes on.
    groups.legacy.iter().for_each(|group| thaw(Path::new(group)));
}

/// Lets everything in a group of the v1 freezer go on; of other hierarchies there is no such file.
fn thaw(group: &Path) {
    if write(&format!("{}/freezer.state", group.display()), "THAWED").is_ok() {
        children(group).iter().for_each(|child| thaw(child));
    }
}

/// Lets a container that is made anew run, also if that of before was frozen with the domain's group.
pub fn unfreeze(groups: &PlanCgroups) {
    let _ = write(&format!("{}/cgroup.freeze", groups.unified), "0");
}

/// Kills what is in a group and in all below it. What is forked meanwhile is met by the next call.
fn kill_one_by_one(group: &Path) {
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
    let members = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for pid in members.lines().filter_map(|l| l.parse().ok()).filter_map(Pid::from_raw) {
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        // The number may belong to another process by now: only a member may be killed (invariant I13).
        if is_member(group, pid.as_raw_nonzero().get()) {
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }
    for child in children(group) {
        kill_one_by_one(&child);
    }
}

/// Pids of the processes of the payload and of all groups below it.
pub fn members(groups: &PlanCgroups) -> Vec<i32> {
    let mut pids = Vec::new();
    let mut left = vec![PathBuf::from(payload(groups))];
    while let Some(group) = left.pop() {
        let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        pids.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()));
        left.extend(children(&group));
    }
    pids
}

fn is_member(group: &Path, pid: i32) -> bool {
    fs::read_to_string(group.join("cgroup.procs"))
        .is_ok_and(|text| text.lines().any(|l| l.parse() == Ok(pid)))
}

/// The file that tells, and wakes a poll for POLLPRI, when the last process of the payload has gone.
pub fn open_events(groups: &PlanCgroups) -> Option<OwnedFd> {
    let path = format!("{}/cgroup.events", payload(groups));
    open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// Whether the payload has a process, by the descriptor of [`open_events`]: only a look through the descriptor that
/// is polled makes the poll wait for the next change. Without the file there is no group, so nobody in it.
pub fn is_populated(events: Option<&OwnedFd>) -> bool {
    let mut text = [0; 256];
    let Some(length) = events.and_then(|e| rustix::io::pread(e, &mut text, 0).ok()) else { return false };
    counter(&String::from_utf8_lossy(&text[..length]), "populated") != Some(0)
}

/// How often the kernel has killed in the domain's group for want of memory.
pub fn oom_kills(groups: &PlanCgroups) -> u64 {
    let unified = format!("{}/memory.events", groups.unified);
    // A v1 hierarchy tells it to the group of the process alone.
    let legacy = groups.legacy_memory.iter().flat_map(|g| [g.clone(), legacy_payload(g)]);
    std::iter::once(unified)
        .chain(legacy.map(|g| format!("{g}/memory.oom_control")))
        .filter_map(|path| fs::read_to_string(path).ok())
        .filter_map(|text| counter(&text, "oom_kill"))
        .sum()
}

/// Whether the group's limit of memory has been met, by somebody whom the kernel could refuse instead of killing. Version 2
/// alone: it charges what groups are made of, too.
pub fn met_limit(groups: &PlanCgroups) -> bool {
    let events = fs::read_to_string(format!("{}/memory.events", groups.unified)).unwrap_or_default();
    counter(&events, "max").is_some_and(|count| count > 0)
}

/// A number in a file of lines "name number".
fn counter(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Removes the payload group and all that the container has made. Answers what is left.
///
/// Also done before a restart, which makes the payload group again: up to Linux 6.18 at least, a process that is made
/// into a group (CLONE_INTO_CGROUP) is killed if cgroup.kill was ever used on that and not on its parent's.
pub fn remove(groups: &PlanCgroups) -> Vec<String> {
    let mut left = Vec::new();
    let payload = payload(groups);
    remove_below(Path::new(&payload), &mut left);
    remove_one(Path::new(&payload), &mut left);
    for group in &groups.legacy {
        remove_below(Path::new(group), &mut left);
    }
    left
}

fn remove_below(group: &Path, left: &mut Vec<String>) {
    for child in children(group) {
        remove_below(&child, left);
        remove_one(&child, left);
    }
}

fn remove_one(group: &Path, left: &mut Vec<String>) {
    match fs::remove_dir(group) {
        Err(e) if e.kind() != ErrorKind::NotFound => left.push(format!("{}: {e}", group.display())),
        _ => {}
    }
}

fn children(group: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(group) else { return Vec::new() };
    entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

fn errno(e: &std::io::Error) -> Errno {
    Errno::from_io_error(e).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_containers_own_group_says_the_limits() {
        let dir = std::env::temp_dir().join(format!("berth-mirror-{}", std::process::id()));
        let groups =
            PlanCgroups { unified: dir.display().to_string(), legacy: Vec::new(), legacy_memory: None };
        let payload = payload(&groups);
        fs::create_dir_all(&payload).expect("made");
        for (file, limit, said) in [
            ("memory.max", "4096\n", "max\n"),
            ("memory.high", "2048\n", "max\n"),
            ("cpu.max", "50000 100000\n", "max 100000\n"),
        ] {
            fs::write(dir.join(file), limit).expect("written");
            fs::write(dir.join("payload").join(file), said).expect("written");
        }
        fs::write(dir.join("payload/cpu.max.burst"), "0").expect("written");
        mirror(&groups, &payload);
        let said = |file: &str| fs::read_to_string(dir.join("payload").join(file)).ok();
        let all = ["memory.max", "memory.high", "cpu.max", "cpu.max.burst", "memory.swap.max"].map(said);
        fs::remove_dir_all(&dir).expect("removed");
        let expected = ["4096", "max\n", "50000 100000", "50000"].map(|text| Some(text.to_owned()));
        assert_eq!((&all[..4], &all[4]), (&expected[..], &None));
    }

    #[test]
    fn counters_are_found_by_whole_name() {
        let text = "oom 1\noom_kill 7\noom_group_kill 2\n";
        assert_eq!(counter(text, "oom_kill"), Some(7));
        assert_eq!(counter(text, "oom"), Some(1));
        assert_eq!(counter(text, "kill"), None);
        assert_eq!(counter("populated 0\nfrozen 0\n", "populated"), Some(0));
    }
}
