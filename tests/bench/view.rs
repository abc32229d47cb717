//! What the container's own view costs: a start, memory while nobody asks, and each read beside LXCFS.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use berth_tests::daemon::{Daemon, domain_xml};
use berth_tests::{host, wait_for};

use crate::figures::{Row, apart, median};

/// The word with which this program calls itself as the reader of [`read_as`].
pub const READER: &str = "read-as";

/// Files that both have, and how often each is read in a round.
const FILES: &[&str] = &["meminfo", "cpuinfo", "stat", "uptime", "loadavg", "diskstats"];
const READS: usize = 300;
const ROUNDS: usize = 9;

/// Rows for starts, memory and reads.
pub fn all(runs: usize) -> Result<Vec<Row>, String> {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("view")?;
    let init = ["/bin/sleep", "100000"];
    let settings =
        "<metadata><b:settings xmlns:b='urn:berth:domain:1'><b:view mode='none'/></b:settings></metadata>";
    let with = domain_xml("with", &root, &init, "");
    let without =
        domain_xml("without", &root, &init, "").replace("  <memory", &format!("  {settings}\n  <memory"));
    daemon.define("with", &with)?;
    daemon.define("without", &without)?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    // In turn, so that both see the same machine; the first round is not counted.
    for round in 0..=runs {
        for (name, times) in [("with", &mut with), ("without", &mut without)] {
            let start = apart(|| daemon.ok(&["start", name]).map(drop))?;
            daemon.ok(&["destroy", name])?;
            if round > 0 {
                times.push(start);
            }
        }
    }
    let mut rows = vec![Row::against("start with the view", "without it", &with, &without, 1.5)];
    rows.extend(reads(&daemon)?);
    Ok(rows)
}

/// What the controller holds when somebody has asked and gone, and what reads cost.
fn reads(daemon: &Daemon) -> Result<Vec<Row>, String> {
    daemon.ok(&["start", "with"])?;
    let (init, controller) = (daemon.pid_of("with", "initPid")?, daemon.pid_of("with", "id")?);
    let ours = PathBuf::from(format!("/proc/{init}/root/proc"));
    let peer = Lxcfs::start(daemon.work())?;
    let mut rows = Vec::new();
    for file in FILES {
        let (mut mine, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            mine.push(read_as(init, &ours.join(file))?);
            if let Some(peer) = &peer {
                theirs.push(read_as(init, &peer.proc().join(file))?);
            }
        }
        rows.push(Row::against(&format!("read of /proc/{file}"), "lxcfs", &mine, &theirs, 2.0));
    }
    drop(peer);
    let children = format!("/proc/{controller}/task/{controller}/children");
    wait_for("the server to leave", 15, || fs::read_to_string(&children).ok().filter(|c| one(c)))?;
    sleep(Duration::from_millis(2500));
    let pss = host::memory(controller, "Pss").ok_or("no smaps")?;
    rows.push(Row::figure("controller, PSS after reads", pss as f64, "KiB", 600.0));
    daemon.ok(&["destroy", "with"])?;
    Ok(rows)
}

/// Whether the only child is the container's init.
fn one(children: &str) -> bool {
    children.split_whitespace().count() == 1
}

/// The time of one read of a file, from its opening to its end, by a process in the control groups of another, in
/// seconds: LXCFS answers by who asks.
fn read_as(process: i32, file: &Path) -> Result<f64, String> {
    let this = std::env::current_exe().map_err(|e| e.to_string())?;
    let output = Command::new(this)
        .args([READER, &process.to_string()])
        .arg(file)
        .output()
        .map_err(|e| format!("cannot run the reader: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .parse()
        .map_err(|_| format!("'{}': {}", file.display(), String::from_utf8_lossy(&output.stderr)))
}

/// What the reader does: `PID FILE`.
pub fn reader(words: &[String]) -> Result<(), String> {
    let [process, file] = words else { return Err(format!("usage: {READER} PID FILE")) };
    join_groups(process)?;
    let mut buffer = vec![0; 64 << 10];
    let mut times = Vec::with_capacity(READS);
    for _ in 0..READS {
        let begin = Instant::now();
        let mut open = fs::File::open(file).map_err(|e| e.to_string())?;
        // Which may be at once: a container without a request to a disk has no line in diskstats.
        while open.read(&mut buffer).map_err(|e| e.to_string())? > 0 {}
        times.push(begin.elapsed().as_secs_f64());
    }
    println!("{}", median(&times));
    Ok(())
}

/// Goes into all groups of a process, but for hierarchies that are mounted nowhere.
fn join_groups(process: &str) -> Result<(), String> {
    let groups = fs::read_to_string(format!("/proc/{process}/cgroup")).map_err(|e| e.to_string())?;
    for line in groups.lines() {
        let mut words = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (words.next(), words.next()) else { continue };
        let name = controllers.strip_prefix("name=").unwrap_or(controllers);
        let mounted = if name.is_empty() { ["unified", ""] } else { [name, name] };
        let places = mounted.map(|m| Path::new("/sys/fs/cgroup").join(m).join(path.trim_start_matches('/')));
        let Some(place) = places.iter().map(|p| p.join("cgroup.procs")).find(|p| p.exists()) else {
            continue;
        };
        fs::write(&place, "0").map_err(|e| format!("cannot go into '{}': {e}", place.display()))?;
    }
    Ok(())
}

/// LXCFS on a folder of its own.
struct Lxcfs {
    process: Child,
    folder: PathBuf,
}

impl Lxcfs {
    /// `None` where it is not installed.
    fn start(work: &Path) -> Result<Option<Self>, String> {
        let folder = work.join("lxcfs");
        fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        let spawned = Command::new("lxcfs")
            .args(["--foreground", "--enable-loadavg", "--pidfile"])
            .arg(work.join("lxcfs.pid"))
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(process) = spawned else { return Ok(None) };
        let peer = Self { process, folder };
        wait_for("lxcfs", 10, || peer.proc().join("meminfo").exists().then_some(()))?;
        Ok(Some(peer))
    }

    fn proc(&self) -> PathBuf {
        self.folder.join("proc")
    }
}

impl Drop for Lxcfs {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.folder, nix::mount::MntFlags::MNT_DETACH);
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
