//! How many threads of the container there are, and how many of them are active: by walking them, a few times a minute
//! at most, and only so many of them.
//!
//! On version 2 of control groups the kernel has no count of its own. Does not know what the count is for.

use std::fs;
use std::path::Path;

/// The most groups that are looked into.
const MOST_GROUPS: usize = 512;

/// The most threads that are looked at. Of more it is taken that they are like these.
const MOST_THREADS: usize = 512;

/// Threads in a group and in all below it, and how many of them run, want to, or wait for a disk. None if nobody may
/// look.
pub fn count(group: &str) -> Option<(u64, u32)> {
    let mut threads = Vec::new();
    let mut groups = vec![group.to_owned()];
    let mut seen = 0;
    while let Some(group) = groups.pop() {
        seen += 1;
        if let Ok(text) = fs::read_to_string(format!("{group}/cgroup.threads")) {
            threads.extend(text.lines().filter_map(|l| l.parse::<u32>().ok()));
        }
        if seen + groups.len() < MOST_GROUPS {
            groups.extend(below(Path::new(&group)));
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

fn below(group: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(group) else { return Vec::new() };
    let folders = entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
    folders.filter_map(|e| e.path().to_str().map(str::to_owned)).take(MOST_GROUPS).collect()
}

/// Whether a thread is in state R or D: proc_pid_stat(5). None if it has gone.
fn is_active(thread: u32) -> Option<bool> {
    let text = fs::read(format!("/proc/{thread}/stat")).ok()?;
    // The name in parentheses may have any bytes.
    let end = text.iter().rposition(|b| *b == b')')?;
    Some(matches!(text.get(end + 2)?, b'R' | b'D'))
}
