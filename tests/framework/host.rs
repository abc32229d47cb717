//! What of a domain can be found on the host: processes, control groups, mounts, loop devices, links, files.
//!
//! Everything is looked for by the name of the domain or the folder of the test, because other tests run beside.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Everything that could be left behind, in words; two of them are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traces(BTreeSet<String>);

impl Traces {
    /// Looks for traces of domains whose names begin with `prefix` and of mounts and files under `work`. Logs, and the
    /// daemon's own counters, may change.
    pub fn of(prefix: &str, work: &Path) -> Self {
        let mut found = BTreeSet::new();
        cgroups(Path::new("/sys/fs/cgroup"), prefix, 0, &mut found);
        processes(prefix, &mut found);
        let work_text = work.to_string_lossy().into_owned();
        for line in fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines() {
            if line.contains(&work_text) {
                found.insert(format!("mount {line}"));
            }
        }
        // In the network that all tests share others make links meanwhile.
        if has_own_network() {
            for name in links() {
                found.insert(format!("link {name}"));
            }
        }
        for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
            let file = fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
            if file.contains(&work_text) {
                found.insert(format!("loop device of {}", file.trim()));
            }
        }
        files(work, work, &mut found);
        Self(found)
    }

    /// What is here and was not there before, and what was and is no more.
    pub fn difference(&self, before: &Self) -> Vec<String> {
        let new = self.0.difference(&before.0).map(|t| format!("left behind: {t}"));
        let lost = before.0.difference(&self.0).map(|t| format!("lost: {t}"));
        new.chain(lost).collect()
    }
}

fn cgroups(dir: &Path, prefix: &str, depth: usize, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|t| t.is_dir()) {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(prefix) && name.contains(".berth") {
            found.insert(format!("cgroup {}", entry.path().display()));
        } else if depth < 3 {
            cgroups(&entry.path(), prefix, depth + 1, found);
        }
    }
}

fn processes(prefix: &str, found: &mut BTreeSet<String>) {
    for pid in pids() {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let words = command_line(pid);
        let controller = words.first().is_some_and(|w| w.ends_with("berth-controller"))
            && words.get(1).is_some_and(|w| w.starts_with(prefix));
        // A zombie has no command line and is still a trace, by its group; but not the orphan of a daemon that was
        // killed, which is for the host's init to reap.
        if zombie_of_init(pid) {
            continue;
        }
        if controller || groups.contains(&format!("/{prefix}")) {
            found.insert(format!("process {words:?}"));
        }
    }
}

fn files(dir: &Path, work: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = path.strip_prefix(work).unwrap_or(&path).display().to_string();
        // The ends of domains are history, and which parents of groups are ours to remove is known until the last
        // daemon on this host lets go of them.
        // A domain keeps its ids as long as it is defined, and who has which must outlive the daemon.
        let books =
            ["run/berth/sequence", "run/berth/ended", "run/berth/cgroup-parents", "lib/berth/idmap.json"]
                .iter()
                .any(|f| name.ends_with(f));
        let volatile = books || name.contains("var/log/berth") || name == "berthd.log";
        if !volatile {
            found.insert(format!("file {name}"));
        }
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            files(&path, work, found);
        }
    }
}

fn zombie_of_init(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let mut words = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    words.next() == Some("Z") && words.next() == Some("1")
}

/// All pids.
pub fn pids() -> Vec<i32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect()
}

/// The words of a process's command line.
pub fn command_line(pid: i32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes
        .split(|b| *b == 0)
        .filter(|w| !w.is_empty())
        .map(|w| String::from_utf8_lossy(w).into_owned())
        .collect()
}

/// A line of `/proc/PID/smaps_rollup`, `Pss` for example, in KiB.
pub fn memory(pid: i32, what: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find(|l| l.starts_with(&format!("{what}:")))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Nanoseconds that a process has run, to the tick; 0 if there is none: proc_pid_stat(5), utime and stime.
pub fn processor_time(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let words: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |n: usize| words.get(n).and_then(|w| w.parse::<u64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) * 10_000_000
}

/// How many descriptors a process has.
pub fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Whether a process is there and not a zombie.
pub fn alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|s| s.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X'])))
}

/// Whether this thread is in another network namespace than the other tests.
fn has_own_network() -> bool {
    let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
    of("self") != of("thread-self")
}

/// Names of the links of this thread's network namespace.
pub fn links() -> Vec<String> {
    let text = fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    text.lines().skip(2).filter_map(|l| l.split(':').next()).map(|n| n.trim().to_owned()).collect()
}

/// A program among those of the host, for as long as this lives: daemons that are confined run no others.
#[derive(Debug)]
pub struct Tool {
    _alone: MutexGuard<'static, ()>,
}

/// There is one folder for all tests that run beside each other.
static FOLDER: Mutex<()> = Mutex::new(());

impl Tool {
    /// Where it is.
    const FOLDER: &str = "/usr/local/bin";

    /// Makes it of a script. Only the mount namespace of the tests has it.
    pub fn new(name: &str, script: &str) -> Result<Self, String> {
        let guard = FOLDER.lock().unwrap_or_else(PoisonError::into_inner);
        fs::create_dir_all(Self::FOLDER).map_err(|e| format!("cannot make '{}': {e}", Self::FOLDER))?;
        run(&format!("mount -t tmpfs -o mode=755 tool {}", Self::FOLDER))?;
        let tool = Self { _alone: guard };
        let path = Path::new(Self::FOLDER).join(name);
        fs::write(&path, script)
            .and_then(|()| fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)))
            .map_err(|e| format!("cannot write '{}': {e}", path.display()))?;
        Ok(tool)
    }

    /// The path on which it is found.
    pub fn path() -> String {
        format!("{}:{}", Self::FOLDER, std::env::var("PATH").unwrap_or_default())
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        // Whoever still runs it keeps it.
        let _ = run(&format!("umount -l {}", Self::FOLDER));
    }
}

/// Runs a test in a network namespace of its own, in which nothing is up but the loopback interface.
pub fn in_own_network(test: fn() -> crate::Outcome) -> crate::Outcome {
    let run = move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).map_err(|e| format!("unshare: {e}"))?;
        ip("link set lo up")?;
        test()
    };
    std::thread::spawn(run).join().map_err(|_| "the test panicked".to_owned())?
}

/// Runs a command, whose words are separated by blanks, and answers what it printed.
pub fn run(line: &str) -> Result<String, String> {
    crate::lab::run(&line.split_whitespace().collect::<Vec<_>>())
}

/// Runs ip(8).
pub fn ip(words: &str) -> Result<String, String> {
    run(&format!("ip {words}"))
}
