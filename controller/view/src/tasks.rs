//! How many threads of the container there are, and how many of them are active: by walking them, a few times a minute
//! at most, and only so many of them.
//!
//! On version 2 of control groups the kernel has no count of its own. Does not know what the count is for.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::BorrowedFd;

use rustix::fs::{Dir, FileType, Mode, OFlags, openat};

/// The most groups that are looked into.
const MOST_GROUPS: usize = 512;

/// The most threads that are looked at. Of more it is taken that they are like these.
const MOST_THREADS: usize = 512;

/// Threads in a group and in all below it, and how many of them run, want to, or wait for a disk. None if nobody may
/// look. By a descriptor: the groups above are for root alone to pass through.
pub fn count(group: BorrowedFd<'_>) -> Option<(u64, u32)> {
    let mut threads = Vec::new();
    let mut groups = vec![".".to_owned()];
    let mut seen = 0;
    while let Some(path) = groups.pop() {
        seen += 1;
        if let Some(text) = text(group, &format!("{path}/cgroup.threads")) {
            threads.extend(text.lines().filter_map(|l| l.parse::<u32>().ok()));
        }
        if seen + groups.len() < MOST_GROUPS {
            groups.extend(below(group, &path));
        }
    }
    let states: Vec<bool> = threads.iter().take(MOST_THREADS).filter_map(|t| is_active(*t)).collect();
    if states.is_empty() {
        return None;
    }
    let active = states.iter().filter(|s| **s).count();
    let scaled = active as u64 * threads.len() as u64 / threads.len().min(MOST_THREADS) as u64;
    Some((threads.len() as u64, u32::try_from(scaled).unwrap_or(u32::MAX)))
}

fn text(group: BorrowedFd<'_>, path: &str) -> Option<String> {
    let file = openat(group, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = String::new();
    File::from(file).read_to_string(&mut text).ok().map(|_| text)
}

fn below(group: BorrowedFd<'_>, path: &str) -> Vec<String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(group, path, flags, Mode::empty());
    let Some(entries) = folder.ok().and_then(|f| Dir::read_from(f).ok()) else { return Vec::new() };
    let folders = entries.flatten().filter(|e| e.file_type() == FileType::Directory);
    let names = folders.filter_map(|e| e.file_name().to_str().ok().map(str::to_owned));
    names.filter(|n| n != "." && n != "..").map(|n| format!("{path}/{n}")).take(MOST_GROUPS).collect()
}

/// Whether a thread is in state R or D: proc_pid_stat(5). None if it has gone.
fn is_active(thread: u32) -> Option<bool> {
    let text = fs::read(format!("/proc/{thread}/stat")).ok()?;
    // The name in parentheses may have any bytes.
    let end = text.iter().rposition(|b| *b == b')')?;
    Some(matches!(text.get(end + 2)?, b'R' | b'D'))
}

#[cfg(test)]
mod test {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn threads_of_all_groups_are_counted_from_a_descriptor() {
        let dir = std::env::temp_dir().join(format!("berth-tasks-{}", std::process::id()));
        fs::create_dir_all(dir.join("a/b")).expect("made");
        let own = std::process::id();
        // Ours, twice, and one that there cannot be.
        for (group, threads) in
            [(".", format!("{own}\n")), ("a", String::new()), ("a/b", format!("{own}\n0\n"))]
        {
            fs::write(dir.join(group).join("cgroup.threads"), threads).expect("written");
        }
        let group = File::open(&dir).expect("opened");
        let counted = count(group.as_fd());
        fs::remove_dir_all(&dir).expect("removed");
        assert!(counted.is_some_and(|(threads, active)| threads == 3 && active <= 3), "{counted:?}");
        assert_eq!(count(group.as_fd()), None, "a group that has gone");
    }
}
