//! The freezer: stops every process of a container where it is, and lets all of them go on.
//!
//! It is part of the v2 tree itself and is there on every host, whatever hierarchies the limits live in. Frozen is the
//! group that the container is born into; the controller beside it goes on. Source: cgroup-v2.rst, "cgroup.freeze" and
//! "cgroup.events". Does not know whose groups these are. All functions block.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long the processes of a container may take to stand still.
pub const PATIENCE: Duration = Duration::from_secs(5);

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

fn payload(limited: &Path) -> PathBuf {
    limited.join("payload")
}

/// Freezes the container in the group with a domain's limits and waits until everything in it stands. If that takes longer than
/// `patience` it goes on again, and the error says what could not be stopped.
pub fn freeze(limited: &Path, patience: Duration) -> Result<(), FreezeError> {
    let group = payload(limited);
    set(&group, "1")?;
    let done = wait(&group, "frozen 1", patience);
    if let Ok(true) = done {
        return Ok(());
    }
    let busy = waiting_processes(&group);
    set(&group, "0")?;
    done?;
    Err(FreezeError::Busy { within: patience, busy })
}

/// Lets a frozen container go on. Its processes run when this comes back.
pub fn thaw(limited: &Path) -> Result<(), FreezeError> {
    let group = payload(limited);
    set(&group, "0")?;
    // The kernel does it at once; the file follows.
    wait(&group, "frozen 0", PATIENCE).map(drop)
}

/// Whether a container is frozen, or was told to be.
pub fn is_frozen(limited: &Path) -> bool {
    fs::read_to_string(payload(limited).join("cgroup.freeze")).is_ok_and(|text| text.trim() == "1")
}

fn set(group: &Path, value: &str) -> Result<(), FreezeError> {
    let path = group.join("cgroup.freeze");
    let written = OpenOptions::new().write(true).open(&path).and_then(|mut f| f.write_all(value.as_bytes()));
    written.map_err(failed("write", &path))
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

/// Processes in uninterruptible sleep: what they wait for cannot be stopped.
fn waiting_processes(group: &Path) -> Vec<String> {
    let (mut found, mut folders) = (Vec::new(), vec![group.to_owned()]);
    while let Some(folder) = folders.pop() {
        for pid in fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default().lines() {
            let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
            if found.len() < NAMED
                && let Some(("D", name)) = state_and_name(&String::from_utf8_lossy(&stat))
            {
                found.push(format!("{pid} ({name})"));
            }
        }
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        folders.extend(entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
    found
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

    /// A folder that looks like a group, with what `cgroup.events` says.
    fn group(events: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("folder");
        let payload = dir.path().join("payload");
        fs::create_dir(&payload).expect("made");
        fs::write(payload.join("cgroup.freeze"), "0").expect("written");
        fs::write(payload.join("cgroup.events"), events).expect("written");
        dir
    }

    #[test]
    fn what_stands_is_frozen() {
        let dir = group("populated 1\nfrozen 1\n");
        freeze(dir.path(), PATIENCE).expect("frozen");
        assert!(is_frozen(dir.path()));
    }

    #[test]
    fn what_does_not_stand_goes_on() {
        let dir = group("populated 1\nfrozen 0\n");
        let error = freeze(dir.path(), Duration::from_millis(20)).expect_err("busy");
        assert!(matches!(error, FreezeError::Busy { .. }), "{error}");
        assert_eq!(error.to_string(), "not all processes stop within 0 s");
        assert!(!is_frozen(dir.path()));
        thaw(dir.path()).expect("it never stood");
    }

    #[test]
    fn a_group_that_is_gone_is_an_error() {
        let dir = tempfile::tempdir().expect("folder");
        let error = freeze(dir.path(), PATIENCE).expect_err("nothing there").to_string();
        assert!(error.starts_with("cannot write '") && error.ends_with("(os error 2)"), "{error}");
        assert!(!is_frozen(dir.path()));
    }

    #[test]
    fn the_name_of_a_process_proves_nothing() {
        assert_eq!(state_and_name("7 (a) D (b\n) D 1"), Some(("D", "a) D (b?".to_owned())));
        assert_eq!(state_and_name("7 (sleep) S 1"), Some(("S", "sleep".to_owned())));
        assert_eq!(state_and_name("7"), None);
    }
}
