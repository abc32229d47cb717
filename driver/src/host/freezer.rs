//! The freezer: stops every process of a container where it is, and lets all of them go on.
//!
//! It is part of the v2 tree itself and is there on every host, whatever hierarchies the limits live in. Frozen is the
//! group with a domain's limits, which holds the container's and nothing else; the controller beside it goes on. Not the
//! container's own: root with the host's ids can write that, so it could freeze itself in the name of the host, and a
//! descriptor that it passed to somebody outside could end what the host has frozen. What a container does to itself there,
//! or with the freezer of version 1, is its own matter until the host lets it go on. Sources: cgroup-v2.rst,
//! "cgroup.freeze" and "cgroup.events"; cgroup-v1/freezer-subsystem.rst. Does not know whose groups these are. All
//! functions block.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::cgroups::{Groups, PAYLOAD};

/// How long the processes of a container may take to stand still.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How long a container may take to be held still for a change. What waits in the kernel meanwhile changes nothing.
const SHORT: Duration = Duration::from_secs(1);

/// How often it is looked for what stands still by the freezer of version 1.
const LOOK: Duration = Duration::from_millis(100);

/// How many of the processes that do not stand still are named.
const NAMED: usize = 3;

/// Why a container was not frozen, or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// The kernel refused.
    #[error("cannot {operation} '{}': {cause}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// Some process does not stand still. All go on again.
    #[error("not all processes stop within {} s{}", .within.as_secs(), busy_text(.busy))]
    Busy {
        /// How long was waited.
        within: Duration,
        /// Those that wait in the kernel, by name and number.
        busy: Vec<String>,
    },
}

fn busy_text(busy: &[String]) -> String {
    if busy.is_empty() {
        return String::new();
    }
    format!(": waiting in the kernel for a device or a file system: {}", busy.join(", "))
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FreezeError {
    let path = path.to_owned();
    move |cause| FreezeError::File { operation, path, cause }
}

/// Freezes a container and waits until everything in it stands. If that takes longer than `patience` it goes on again, and
/// the error says what could not be stopped. `init`: its process, as far as it is known.
pub fn freeze(groups: &Groups, init: Option<i32>, patience: Duration) -> Result<(), FreezeError> {
    let group = &groups.limited;
    set(group, "1")?;
    // What stands by the freezer of version 1 is not seen to stand.
    for brake in brakes(groups, init).iter().filter(|b| b.legacy) {
        brake.release()?;
    }
    let done = wait_still(groups, patience);
    if let Ok(true) = done {
        return Ok(());
    }
    let busy = waiting_processes(groups);
    set(group, "0")?;
    done?;
    Err(FreezeError::Busy { within: patience, busy })
}

/// Lets a frozen container go on, also if it has frozen itself. Its processes run when this comes back.
pub fn thaw(groups: &Groups, init: Option<i32>) -> Result<(), FreezeError> {
    set(&groups.limited, "0")?;
    for brake in brakes(groups, init) {
        brake.release()?;
    }
    let payload = groups.limited.join(PAYLOAD);
    if payload.exists() {
        // The kernel does it at once; the file follows.
        wait(&payload, "frozen 0", PATIENCE)?;
    }
    Ok(())
}

/// Whether the host has frozen a container, or told it to stand still. `before`: it had when it was looked at last, and a
/// daemon that knew no better did it in the container's own group.
pub fn is_frozen(groups: &Groups, before: bool) -> bool {
    has(&groups.limited.join("cgroup.freeze"))
        || before && has(&groups.limited.join(PAYLOAD).join("cgroup.freeze"))
}

/// Whether a container has frozen its init by itself, or all that it has.
pub fn froze_itself(groups: &Groups, init: Option<i32>) -> bool {
    brakes(groups, init).iter().any(Brake::is_on)
}

/// A container that is held still for a moment.
#[derive(Debug)]
pub struct Hold(Option<PathBuf>);

/// Holds the container in a group with limits still, as far as that can be had soon, until the answer is dropped.
pub fn hold(limited: &Path) -> Hold {
    if has(&limited.join("cgroup.freeze")) {
        return Hold(None);
    }
    let held = set(limited, "1").and_then(|()| wait(limited, "frozen 1", SHORT));
    if let Err(e) = held {
        tracing::debug!("a container is not held still: {e}");
    }
    Hold(Some(limited.to_owned()))
}

/// Ends what a daemon that died while it held a container has left.
pub fn release(limited: &Path) {
    drop(Hold(Some(limited.to_owned())));
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(limited) = &self.0
            && let Err(e) = set(limited, "0")
        {
            tracing::warn!("a container does not go on: {e}");
        }
    }
}

/// What can keep init from running in a group that the container may write.
#[derive(Debug)]
struct Brake {
    group: PathBuf,
    legacy: bool,
}

impl Brake {
    fn is_on(&self) -> bool {
        has(&self.group.join(if self.legacy { "freezer.self_freezing" } else { "cgroup.freeze" }))
    }

    fn release(&self) -> Result<(), FreezeError> {
        if !self.is_on() {
            return Ok(());
        }
        let (file, value) = if self.legacy { ("freezer.state", "THAWED") } else { ("cgroup.freeze", "0") };
        put(&self.group.join(file), value)
    }
}

/// The groups from the container's own down to that of its init, in both versions. Others below are for the container to
/// freeze: whatever manages containers inside does.
fn brakes(groups: &Groups, init: Option<i32>) -> Vec<Brake> {
    let text =
        init.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()).unwrap_or_default();
    let mut all = Vec::new();
    let mut add = |top: &Path, line: Option<&str>, legacy: bool| {
        let mut group = top.join(PAYLOAD);
        all.push(Brake { group: group.clone(), legacy });
        let below = line.and_then(|l| below_payload(l, &groups.unified)).unwrap_or_default();
        for name in below.split('/').filter(|name| !name.is_empty()) {
            group.push(name);
            all.push(Brake { group: group.clone(), legacy });
        }
    };
    add(&groups.limited, text.lines().find(|l| l.starts_with("0::")), false);
    if let Some(top) = groups.legacy_of("freezer") {
        let has_freezer =
            |l: &&str| l.split(':').nth(1).is_some_and(|c| c.split(',').any(|c| c == "freezer"));
        add(top, text.lines().find(has_freezer), true);
    }
    all
}

/// What comes behind the container's own group in a line of proc_pid_cgroup(5), if it is about a group of that domain.
fn below_payload<'a>(line: &'a str, domain: &Path) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("/{}/", domain.file_name()?.to_str()?))?;
    let (_, below) = rest.split_once(&format!("{PAYLOAD}/"))?;
    Some(below)
}

/// Whether a file of a freezer says yes.
fn has(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.trim() == "1")
}

fn set(group: &Path, value: &str) -> Result<(), FreezeError> {
    put(&group.join("cgroup.freeze"), value)
}

fn put(path: &Path, value: &str) -> Result<(), FreezeError> {
    let written = OpenOptions::new().write(true).open(path).and_then(|mut f| f.write_all(value.as_bytes()));
    written.map_err(failed("write", path))
}

/// Waits for a line of `cgroup.events`; false if it does not come in time.
fn wait(group: &Path, line: &str, patience: Duration) -> Result<bool, FreezeError> {
    let path = group.join("cgroup.events");
    let file = File::open(&path).map_err(failed("open", &path))?;
    let end = Instant::now() + patience;
    loop {
        // A look through the polled descriptor makes the poll wait for the next change.
        let mut text = [0; 256];
        let length = file.read_at(&mut text, 0).map_err(failed("read", &path))?;
        if text[..length].split(|b| *b == b'\n').any(|l| l == line.as_bytes()) {
            return Ok(true);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        // Not longer at once: the wait costs little, and a change that was missed nothing more than this.
        let nap = left.min(Duration::from_millis(50));
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(nap.subsec_nanos()) };
        let mut set = [PollFd::from_borrowed_fd(file.as_fd(), PollFlags::PRI)];
        match poll(&mut set, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(failed("wait for", &path)(e.into())),
        }
    }
}

/// Waits until all tasks of a container stand, be it that the container has frozen some of them by version 1: those never
/// come to where version 2 counts them, and the group is not "frozen" with them in it. They get there when they are let
/// go, and run nothing before.
fn wait_still(groups: &Groups, patience: Duration) -> Result<bool, FreezeError> {
    let Some(legacy) = groups.legacy_of("freezer") else {
        return wait(&groups.limited, "frozen 1", patience);
    };
    let end = Instant::now() + patience;
    let mut before = None;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if wait(&groups.limited, "frozen 1", left.min(LOOK))? {
            return Ok(true);
        }
        // What was made while the first look went on is in the second.
        let now = still(&groups.limited, &frozen_by_legacy(legacy));
        if now.is_some() && now == before {
            return Ok(true);
        }
        before = now;
        if left.is_zero() {
            return Ok(false);
        }
    }
}

/// The tasks in groups that the container has frozen by version 1.
fn frozen_by_legacy(top: &Path) -> HashSet<String> {
    let mut tasks = HashSet::new();
    each_group(top.join(PAYLOAD), |group| {
        if fs::read_to_string(group.join("freezer.state")).is_ok_and(|state| state.trim() == "FROZEN") {
            let text = fs::read_to_string(group.join("tasks")).unwrap_or_default();
            tasks.extend(text.lines().map(str::to_owned));
        }
        true
    });
    tasks
}

/// The tasks of a group that is told to freeze, if all of them stand though it is not "frozen": because some of them are
/// `frozen` otherwise. Of the others those stand that sleep, or are stopped: whoever is told to freeze is woken, and sleeps
/// interruptibly again only where it stays.
fn still(group: &Path, frozen: &HashSet<String>) -> Option<HashSet<String>> {
    if frozen.is_empty() {
        return None;
    }
    let (mut tasks, mut all_stand) = (HashSet::new(), true);
    each_group(group.to_owned(), |group| {
        for pid in fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines() {
            for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let stat = fs::read(task.path().join("stat")).unwrap_or_default();
                let id = task.file_name().to_string_lossy().into_owned();
                let state =
                    state_and_name(&String::from_utf8_lossy(&stat)).map(|(state, _)| state.to_owned());
                all_stand &= frozen.contains(&id) || !matches!(state.as_deref(), Some("R" | "D"));
                tasks.insert(id);
            }
        }
        all_stand
    });
    all_stand.then_some(tasks)
}

/// Processes in uninterruptible sleep: what they wait for cannot be stopped.
fn waiting_processes(groups: &Groups) -> Vec<String> {
    let frozen = groups.legacy_of("freezer").map(frozen_by_legacy).unwrap_or_default();
    let mut found = Vec::new();
    each_group(groups.limited.clone(), |group| {
        for pid in fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines() {
            let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
            if let Some(("D", name)) = state_and_name(&String::from_utf8_lossy(&stat))
                && !frozen.contains(pid)
            {
                found.push(format!("{pid} ({name})"));
            }
        }
        found.len() < NAMED
    });
    found.truncate(NAMED);
    found
}

/// Looks at a group and at those below it, until `look` has seen enough.
fn each_group(top: PathBuf, mut look: impl FnMut(&Path) -> bool) {
    let mut folders = vec![top];
    while let Some(folder) = folders.pop() {
        if !look(&folder) {
            return;
        }
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        folders.extend(entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
}

/// State and name of a process in its `stat` (proc_pid_stat(5)). The name is its own choice.
fn state_and_name(stat: &str) -> Option<(&str, String)> {
    let (front, back) = stat.rsplit_once(')')?;
    let name = front.split_once('(')?.1.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    Some((back.split_whitespace().next()?, name))
}

#[cfg(test)]
mod test {
    use super::*;

    /// Folders that look like groups, with what `cgroup.events` says.
    fn groups(events: &str) -> (tempfile::TempDir, Groups) {
        let dir = tempfile::tempdir().expect("folder");
        let unified = dir.path().join("x.berth");
        let limited = unified.join("container");
        for group in [limited.clone(), limited.join("payload")] {
            fs::create_dir_all(&group).expect("made");
            fs::write(group.join("cgroup.freeze"), "0").expect("written");
            fs::write(group.join("cgroup.events"), events).expect("written");
        }
        let legacy = dir.path().join("freezer");
        fs::create_dir_all(legacy.join("payload")).expect("made");
        fs::write(legacy.join("payload/freezer.self_freezing"), "0").expect("written");
        fs::write(legacy.join("payload/freezer.state"), "FROZEN").expect("written");
        let (legacy, controllers) = (vec![legacy], vec![vec!["freezer".into()]]);
        (dir, Groups { unified, limited, legacy, controllers, memory: None })
    }

    #[test]
    fn what_stands_is_frozen() {
        let (_dir, groups) = groups("populated 1\nfrozen 1\n");
        freeze(&groups, None, PATIENCE).expect("frozen");
        assert!(is_frozen(&groups, false));
        assert!(!froze_itself(&groups, None), "that is not the container's doing");
    }

    #[test]
    fn what_does_not_stand_goes_on() {
        let (_dir, groups) = groups("populated 1\nfrozen 0\n");
        let error = freeze(&groups, None, Duration::from_millis(20)).expect_err("busy");
        assert!(matches!(error, FreezeError::Busy { .. }), "{error}");
        assert_eq!(error.to_string(), "not all processes stop within 0 s");
        assert!(!is_frozen(&groups, false));
        thaw(&groups, None).expect("it never stood");
    }

    /// Stands for a task that version 1 has frozen: it would run, and must not be asked.
    #[test]
    fn what_the_container_has_frozen_by_version_1_stands() {
        let (_dir, groups) = groups("populated 1\nfrozen 0\n");
        let started = |command: &mut std::process::Command| command.spawn().expect("started");
        let mut all = [
            started(std::process::Command::new("sh").args(["-c", "while :; do :; done"])),
            started(std::process::Command::new("sleep").arg("1000")),
        ];
        let [runs, sleeps] = [all[0].id(), all[1].id()];
        let inner = groups.limited.join("payload/a");
        let legacy = groups.legacy[0].join("payload/a");
        for folder in [&inner, &legacy] {
            fs::create_dir(folder).expect("made");
        }
        fs::write(inner.join("cgroup.procs"), format!("{sleeps}\n{runs}\n")).expect("written");
        fs::write(legacy.join("tasks"), format!("{runs}\n")).expect("written");
        let freeze_with = |state: &str| {
            fs::write(legacy.join("freezer.state"), state).expect("written");
            freeze(&groups, None, Duration::from_millis(500))
        };
        let results = [freeze_with("FREEZING\n"), freeze_with("FROZEN\n")];
        for child in &mut all {
            child.kill().expect("killed");
            child.wait().expect("ended");
        }
        assert!(results[0].is_err(), "not all of that group stand");
        results[1].as_ref().expect("frozen");
        assert!(is_frozen(&groups, false));
        assert_eq!(fs::read_to_string(legacy.join("freezer.state")).expect("read"), "FROZEN\n", "is left");
    }

    #[test]
    fn what_froze_itself_is_not_frozen_by_the_host_and_goes_on_all_the_same() {
        let (_dir, groups) = groups("populated 1\nfrozen 0\n");
        let own = groups.limited.join("payload/cgroup.freeze");
        fs::write(&own, "1\n").expect("written");
        assert!(froze_itself(&groups, None) && !is_frozen(&groups, false));
        assert!(is_frozen(&groups, true), "an older daemon froze it there");
        let legacy = groups.legacy[0].join("payload");
        fs::write(legacy.join("freezer.self_freezing"), "1\n").expect("written");
        thaw(&groups, None).expect("thawed");
        assert!(fs::read_to_string(own).expect("read").starts_with('0'));
        assert_eq!(fs::read_to_string(legacy.join("freezer.state")).expect("read"), "THAWED");
        assert!(!is_frozen(&groups, true));
    }

    #[test]
    fn the_groups_on_the_way_to_init_are_those_of_the_domain() {
        let domain = Path::new("/sys/fs/cgroup/machine/x.berth");
        for (line, below) in [
            ("0::/machine/x.berth/container/payload/init.scope/a", Some("init.scope/a")),
            ("6:freezer:/machine/x.berth/payload/a", Some("a")),
            ("6:freezer:/machine/x.berth/payload", None),
            ("0::/machine/y.berth/container/payload/a", None),
        ] {
            assert_eq!(below_payload(line, domain), below, "{line}");
        }
    }

    #[test]
    fn a_hold_ends_and_leaves_what_was_frozen_before() {
        let (_dir, groups) = groups("populated 1\nfrozen 1\n");
        let held = hold(&groups.limited);
        assert!(is_frozen(&groups, false));
        drop(hold(&groups.limited));
        assert!(is_frozen(&groups, false), "the outer one goes on");
        drop(held);
        assert!(!is_frozen(&groups, false));
    }

    #[test]
    fn a_group_that_is_gone_is_an_error() {
        let (dir, groups) = groups("");
        fs::remove_dir_all(dir.path()).expect("removed");
        let error = freeze(&groups, None, PATIENCE).expect_err("nothing there").to_string();
        assert!(error.starts_with("cannot write '") && error.ends_with("(os error 2)"), "{error}");
        assert!(!is_frozen(&groups, true));
    }

    #[test]
    fn the_name_of_a_process_proves_nothing() {
        assert_eq!(state_and_name("7 (a) D (b\n) D 1"), Some(("D", "a) D (b?".to_owned())));
        assert_eq!(state_and_name("7 (sleep) S 1"), Some(("S", "sleep".to_owned())));
        assert_eq!(state_and_name("7"), None);
    }
}
