//! The end of groups: what is in them is killed, and they are removed. Does not know whose they are.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{PidfdFlags, Signal};

use super::{CgroupError, children, failed, write};

/// How long a killed group may take to become empty.
const PATIENCE: Duration = Duration::from_secs(5);

/// Kills everything in a v2 group and waits until it is empty. What stands by the freezer of version 1, in the `stopped`
/// group or below, cannot end before it goes on: root with the host's ids may have stopped itself.
pub(super) fn kill(group: &Path, stopped: Option<&Path>) -> Result<(), CgroupError> {
    let end = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(200);
    let file = group.join("cgroup.kill");
    loop {
        match write(&file, "1") {
            Ok(()) => {}
            // Kernels before 5.14. A fork may escape one round, so there are rounds until the group is empty.
            Err(e) if e.kind() == io::ErrorKind::NotFound => kill_each(group),
            Err(e) => return Err(failed("write", &file)(e)),
        }
        while Instant::now() < end {
            if !populated(group) {
                return Ok(());
            }
            // After the signal: whoever goes on does nothing more.
            stopped.into_iter().for_each(thaw);
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
            if !file.exists() {
                break;
            }
        }
        if Instant::now() >= end {
            let cause = io::Error::new(io::ErrorKind::TimedOut, "processes do not end");
            return Err(failed("empty", group)(cause));
        }
    }
}

/// Lets everything in a group of the v1 freezer go on. What cannot be written is gone.
fn thaw(group: &Path) {
    let mut folders = vec![group.to_owned()];
    while let Some(folder) = folders.pop() {
        drop(write(&folder.join("freezer.state"), "THAWED"));
        folders.extend(children(&folder));
    }
}

fn kill_each(group: &Path) {
    let mut folders = vec![group.to_owned()];
    while let Some(folder) = folders.pop() {
        let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        for pid in text.lines().filter_map(|l| l.parse().ok()).filter_map(rustix::process::Pid::from_raw) {
            if let Ok(fd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
                let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
                // Still in the group while we hold it: it is not another process with the same number.
                if text.lines().any(|l| l == pid.as_raw_nonzero().to_string()) {
                    let _ = rustix::process::pidfd_send_signal(fd, Signal::KILL);
                }
            }
        }
        folders.extend(children(&folder));
    }
}

fn populated(group: &Path) -> bool {
    fs::read_to_string(group.join("cgroup.events")).is_ok_and(|t| t.lines().any(|l| l == "populated 1"))
}

/// Removes a group and those in it, waiting a little for processes that are on their way out.
pub(super) fn remove_tree(path: &Path) -> Result<(), CgroupError> {
    for child in children(path) {
        remove_tree(&child)?;
    }
    let end = Instant::now() + Duration::from_secs(2);
    let mut pause = Duration::from_micros(100);
    loop {
        match fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy && Instant::now() < end => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            Err(e) => return Err(failed("remove", path)(e)),
        }
    }
}
