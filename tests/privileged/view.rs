//! The container's own view of /proc and /sys: what it says, and that it goes on whoever is killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use berth_tests::daemon::{Daemon, domain_xml};
use berth_tests::host::{Traces, alive, pids};
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, patient, wait_for};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub const TESTS: &[Test] = &[
    ("view::a_container_sees_its_own_machine", || sees("t-vo", "")),
    ("view::and_so_does_one_with_the_hosts_ids", || sees("t-vh", HOST_IDS)),
    ("view::it_can_be_turned_off", off),
    ("view::a_killed_server_is_replaced_under_readers", replaced),
    ("view::a_new_server_counts_threads_at_once", counts),
    ("view::nothing_goes_back_when_a_server_is_killed", forward),
    ("view::requests_to_disks_count_from_the_start_of_init", disks),
    ("view::it_goes_on_without_the_daemon", without_daemon),
    ("view::a_stopped_server_is_replaced", stopped),
    ("view::an_aborted_connection_is_made_anew", || aborted("t-va", "")),
    ("view::and_so_it_is_with_the_hosts_ids", || aborted("t-vb", HOST_IDS)),
    ("view::what_the_container_mounts_over_it_stays", covered),
    ("view::what_cannot_be_mended_is_told", beyond),
    ("view::nobody_serves_who_is_not_asked", idle),
    ("view::a_server_that_stands_holds_up_no_destroy", stands),
    ("view::the_controller_is_killed_while_readers_wait", controller),
    ("view::readers_can_do_no_harm", harm),
    ("view::readers_without_end_have_a_share", share),
];

pub const HOST_IDS: &str = "<b:idmap mode='none'/>";

/// The same, and may mount and write where a profile of AppArmor knows only sysfs.
const UNCONFINED: &str = "<b:idmap mode='none'/><b:apparmor profile='unconfined'/>";

/// Runs what is put into /tmp/go.
const INIT: &str = "while :; do if [ -f /tmp/go ]; then sh /tmp/go >/tmp/o 2>&1; rm /tmp/go; mv /tmp/o /tmp/out; fi; sleep 0.02; done";

/// A container with 64 MiB and one processor.
pub struct Inside {
    pub daemon: Daemon,
    pub name: &'static str,
    pub root: PathBuf,
    /// Before it was started.
    before: Traces,
}

impl Inside {
    pub fn start(name: &'static str, settings: &str) -> Result<Self, String> {
        Self::start_with(name, settings, "")
    }

    fn start_with(name: &'static str, settings: &str, devices: &str) -> Result<Self, String> {
        let daemon = Daemon::start()?;
        let root = daemon.busybox(name)?;
        let ids = if crate::limits::maps_tmpfs() || settings.starts_with(HOST_IDS) { "" } else { HOST_IDS };
        let settings = format!(
            "<metadata><b:settings xmlns:b='urn:berth:domain:1'>{ids}{settings}</b:settings></metadata>"
        );
        let xml = domain_xml(name, &root, &["/bin/sh", "-c", INIT], devices)
            .replace("<memory unit='MiB'>256", &format!("{settings}<memory unit='MiB'>64"))
            .replace("  <os>", "  <vcpu>1</vcpu>\n  <os>");
        daemon.define(name, &xml)?;
        let before = Traces::of(name, daemon.work());
        daemon.ok(&["start", name])?;
        Ok(Self { daemon, name, root, before })
    }

    /// What a script prints inside.
    pub fn run(&self, script: &str) -> Result<String, String> {
        self.begin(script)?;
        let out = self.root.join("tmp/out");
        let text = wait_for(&format!("the end of '{script}'"), 30, || fs::read_to_string(&out).ok())?;
        fs::remove_file(out).map_err(|e| e.to_string())?;
        Ok(text)
    }

    pub fn begin(&self, script: &str) -> Outcome {
        let (beside, file) = (self.root.join("tmp/go.new"), self.root.join("tmp/go"));
        fs::write(&beside, script).and_then(|()| fs::rename(&beside, &file)).map_err(|e| e.to_string())
    }

    pub fn controller(&self) -> Result<i32, String> {
        self.daemon.pid_of(self.name, "id")
    }

    /// Who serves it now.
    pub fn server(&self) -> Option<i32> {
        server_of(self.controller().ok()?)
    }

    /// Asks, so that somebody serves, and answers who.
    pub fn woken(&self) -> Result<i32, String> {
        ensure_eq!(self.run("head -n 1 /proc/meminfo")?, "MemTotal:          65536 kB\n", "memory");
        self.server().ok_or_else(|| "nobody serves".into())
    }

    /// How much of a processor the view and the controller use for those who ask without end: each in percent, of which 7 may have
    /// been saved up before.
    pub fn share_of_answers(&self) -> Result<[f64; 2], String> {
        let server = wait_for("a server", 10, || self.server())?;
        let all = [server, self.controller()?];
        let (begin, before) = (Instant::now(), all.map(used));
        sleep(Duration::from_secs(15));
        let took = begin.elapsed().as_secs_f64();
        let [view, controller] = [0, 1].map(|n| (used(all[n]) - before[n]) / took * 100.0);
        println!("the view uses {view:.1} % of a processor, and the controller {controller:.1} %");
        ensure_eq!(self.server(), Some(server), "who serves");
        Ok([view, controller])
    }

    pub fn ends_without_residue(&self) -> Outcome {
        let left = wait_for("nothing to be left", 10, || {
            let left = Traces::of(self.name, self.daemon.work()).difference(&self.before);
            left.iter().all(|l| l.contains(".root/tmp")).then_some(())
        });
        left.map_err(|_| format!("{:?}", Traces::of(self.name, self.daemon.work()).difference(&self.before)))
    }

    pub fn destroy(&self) -> Outcome {
        self.daemon.ok(&["destroy", self.name])?;
        self.ends_without_residue()
    }
}

fn server_of(controller: i32) -> Option<i32> {
    pids().into_iter().find(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let (name, rest) = stat.rsplit_once(") ").unwrap_or_default();
        let mut words = rest.split(' ');
        let state = words.next().unwrap_or_default();
        name.ends_with("(berth-view") && state != "Z" && words.next() == Some(&controller.to_string())
    })
}

/// Seconds of processor time of a process, and of its children that have ended.
fn used(pid: i32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let words = stat.rsplit_once(") ").unwrap_or_default().1.split(' ');
    words.skip(11).take(4).filter_map(|w| w.parse::<f64>().ok()).sum::<f64>() / 100.0
}

pub fn send(pid: i32, signal: Signal) -> Outcome {
    kill(Pid::from_raw(pid), signal).map_err(|e| format!("cannot signal {pid}: {e}"))
}

pub fn number(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}

fn sees(name: &'static str, settings: &str) -> Outcome {
    let inside = Inside::start(name, settings)?;
    let memory = inside.run("cat /proc/meminfo")?;
    ensure_eq!(number(&memory, "MemTotal:"), Some(65536), "memory");
    let (free, available) = (number(&memory, "MemFree:"), number(&memory, "MemAvailable:"));
    ensure!(free > Some(32 << 10) && free < Some(65536) && available >= free, "memory: {memory}");
    // Read in pieces, and by sendfile(2), which busybox copies with.
    let pieces = inside.run("dd if=/proc/meminfo bs=100 2>/dev/null | wc -l; cat /proc/meminfo | wc -l")?;
    let lines = memory.lines().count();
    ensure_eq!(pieces, format!("{lines}\n{lines}\n"), "lines of memory");
    // What a process takes is seen at once; what it is taken for the kernel adds up from its processors within seconds.
    let used =
        inside.run("dd if=/dev/zero of=/tmp/cache bs=1M count=8 2>/dev/null; sync; cat /proc/meminfo")?;
    ensure!(number(&used, "MemFree:") < free.map(|free| free - (6 << 10)), "memory in use: {memory}{used}");
    let mut seen = used;
    let cached = wait_for("the page cache", 5, || {
        seen = inside.run("cat /proc/meminfo").ok()?;
        (number(&seen, "Cached:") > number(&memory, "Cached:")).then_some(())
    });
    cached.map_err(|e| format!("{e}: {memory}{seen}"))?;
    inside.run("rm /tmp/cache")?;
    ensure_eq!(inside.run("grep -c ^processor /proc/cpuinfo; nproc")?, "1\n1\n", "processors");
    ensure_eq!(
        inside.run("cd /sys/devices/system/cpu; cat online possible present; ls -d cpu*")?,
        "0\n0\n0\ncpu0\n",
        "/sys"
    );
    let blocks = inside.run(
        "cat /sys/devices/system/memory/block_size_bytes 2>/dev/null || ls /sys/devices/system/memory",
    )?;
    ensure_eq!(blocks, "", "blocks of the host's memory");
    let stat = inside.run("cat /proc/stat")?;
    ensure!(stat.starts_with("cpu  ") && stat.contains("\ncpu0 ") && !stat.contains("\ncpu1 "), "{stat}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let started = number(&stat, "btime ").unwrap_or(0);
    ensure!(started <= now && now - started < patient(60).as_secs(), "it started at {started}, now is {now}");
    let uptime = inside.run("cat /proc/uptime")?;
    let up: f64 = uptime.split(' ').next().and_then(|w| w.parse().ok()).unwrap_or(-1.0);
    ensure!(up > 0.0 && up < patient(60).as_secs_f64(), "uptime: {uptime}");
    let load = inside.run("cat /proc/loadavg")?;
    ensure_eq!(load.split_whitespace().count(), 5, "fields of {load}");
    let threads = load.split(' ').nth(3).and_then(|w| w.split_once('/')).unwrap_or_default();
    let (active, all) = (threads.0.parse::<u64>().unwrap_or(0), threads.1.parse::<u64>().unwrap_or(0));
    ensure!(active >= 1 && active <= all, "threads: {load}");
    // Init was not born before its time began.
    let born = inside.run("cut -d' ' -f22 /proc/1/stat")?;
    let host = fs::read_to_string("/proc/uptime").map_err(|e| e.to_string())?;
    let host: f64 = host.split(' ').next().and_then(|w| w.parse().ok()).unwrap_or(0.0);
    ensure!(
        born.trim().parse::<u64>().is_ok_and(|b| b <= (host * 100.0) as u64),
        "init was born at tick {born}"
    );
    ensure!(inside.run("cat /proc/swaps")?.starts_with("Filename"), "swaps");
    let rest = inside.run(
        "cat /proc/diskstats >/dev/null && for f in /proc/pressure/*; do read line <$f && echo $line; done",
    )?;
    let kinds = rest.lines().filter(|l| l.starts_with("some avg10=")).count();
    ensure_eq!(kinds, rest.lines().count(), "pressure: {rest}");
    // A live change is seen by the next reader; for one whose file is open, from its beginning on.
    inside.daemon.ok(&["setmem", name, "32M", "--live"])?;
    ensure_eq!(inside.run("head -n 1 /proc/meminfo")?, "MemTotal:          32768 kB\n", "less memory");
    if settings.is_empty() && crate::limits::maps_tmpfs() {
        let refused = inside.run("umount /proc/meminfo || umount /sys/devices/system/cpu || echo locked")?;
        ensure!(refused.ends_with("locked\n"), "{refused}");
    }
    inside.destroy()
}

/// Readers of bytes, which are a request each, and one who asks now and then.
fn share() -> Outcome {
    let inside = Inside::start("t-vq", "")?;
    let readers = "for n in 1 2 3 4; do while [ ! -f /tmp/stop ]; do read line </proc/meminfo; done & done";
    inside.run(readers)?;
    let [view, controller] = inside.share_of_answers()?;
    ensure!(
        view > 1.0 && view <= 34.0 && controller < 3.0,
        "the view uses {view} %, the controller {controller} %"
    );
    let begin = Instant::now();
    inside.woken()?;
    println!("a file is read within {:?} beside them", begin.elapsed());
    ensure!(begin.elapsed() < patient(2), "a file took {:?}", begin.elapsed());
    fs::write(inside.root.join("tmp/stop"), "").map_err(|e| e.to_string())?;
    inside.destroy()
}

fn off() -> Outcome {
    let inside = Inside::start("t-vn", "<b:view mode='none'/>")?;
    let host = fs::read_to_string("/proc/meminfo").map_err(|e| e.to_string())?;
    let memory = inside.run("cat /proc/meminfo; grep -c berth-view /proc/mounts")?;
    ensure_eq!(number(&memory, "MemTotal:"), number(&host, "MemTotal:"), "the host's memory");
    ensure!(memory.ends_with("\n0\n") && inside.server().is_none(), "{memory}");
    inside.destroy()
}

/// A loop that reads until /tmp/stop is there, and says how often it failed.
const READERS: &str = "rm -f /tmp/stop /tmp/bad*; for n in 1 2 3 4 5 6 7 8; do (bad=0; good=0; while [ ! -f /tmp/stop ]; do \
    if head -n 1 /proc/meminfo 2>/dev/null | grep -q ' 65536 kB'; then good=$((good+1)); else bad=$((bad+1)); fi; done; \
    echo $good $bad >/tmp/bad$n) & done; wait; cat /tmp/bad*; rm /tmp/bad* /tmp/stop";

fn replaced() -> Outcome {
    const KILLS: u64 = 12;
    let inside = Inside::start("t-vk", "")?;
    inside.woken()?;
    inside.begin(READERS)?;
    let mut killed = 0;
    let until = Instant::now() + patient(30);
    while killed < KILLS && Instant::now() < until {
        if let Some(server) = inside.server() {
            send(server, Signal::SIGKILL)?;
            killed += 1;
            wait_for("another server", 10, || inside.server().filter(|s| *s != server))?;
        }
        // Longer than what counts as a failure in a row.
        sleep(Duration::from_millis(if killed % 4 == 3 { 1100 } else { 30 }));
    }
    ensure_eq!(killed, KILLS, "servers killed");
    sleep(Duration::from_millis(1500));
    fs::write(inside.root.join("tmp/stop"), "").map_err(|e| e.to_string())?;
    let out = inside.root.join("tmp/out");
    let text = wait_for("the readers to end", 20, || fs::read_to_string(&out).ok())?;
    fs::remove_file(out).map_err(|e| e.to_string())?;
    let sum = |index: usize| -> u64 {
        text.lines().filter_map(|l| l.split(' ').nth(index)?.parse::<u64>().ok()).sum()
    };
    println!("{KILLS} servers killed under 8 readers: {} answers, {} errors", sum(0), sum(1));
    ensure_eq!(text.lines().count(), 8, "readers that came back: {text}");
    ensure!(sum(0) > 100, "only {} good answers", sum(0));
    // One request at a time is in the server's hands.
    ensure!(sum(1) <= KILLS, "{} errors of {KILLS} kills", sum(1));
    ensure!(inside.daemon.state(inside.name)?.starts_with("running"), "the container has ended");
    inside.woken()?;
    inside.destroy()
}

/// Reads idle time until /tmp/stop is there, and says when it went back.
/// `read` of a shell takes byte after byte, and what was read before an error of a killed server would count as the whole: `cat` takes
/// all at once, and says when it could not.
const CLOCK: &str = "rm -f /tmp/stop; last=0; n=0; while [ ! -f /tmp/stop ]; do text=$(cat /proc/uptime) || continue; \
    idle=${text#* }; now=${idle%.*}${idle#*.}; [ \"$now\" -ge $last ] || echo back from $last to \"$now\"; \
    last=$now; n=$((n+1)); done 2>/dev/null; [ $n -gt 20 ] && echo read; rm /tmp/stop";

fn forward() -> Outcome {
    let inside = Inside::start("t-vf", "")?;
    inside.woken()?;
    inside.begin(CLOCK)?;
    for _ in 0..6 {
        sleep(Duration::from_millis(700));
        let server = wait_for("a server", 10, || inside.server())?;
        send(server, Signal::SIGKILL)?;
    }
    sleep(Duration::from_millis(500));
    fs::write(inside.root.join("tmp/stop"), "").map_err(|e| e.to_string())?;
    let out = inside.root.join("tmp/out");
    let text = wait_for("the reader to end", 20, || fs::read_to_string(&out).ok())?;
    ensure_eq!(text, "read\n".to_owned(), "idle time");
    inside.destroy()
}

/// A reboot from inside begins with nothing, and whoever serves after that goes on.
fn disks() -> Outcome {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let image = folder.path().join("image");
    fs::write(&image, vec![b'd'; 4 << 20]).map_err(|e| e.to_string())?;
    let own = crate::devices::Loop::of(&image)?;
    let device = format!("<disk type='block'><source dev='{}'/><target dev='vdx'/></disk>", own.0);
    let inside = Inside::start_with("t-vrd", "", &device)?;
    let node = own.0.trim_start_matches("/dev/").to_owned();
    // Sectors read and written, by the container's own file.
    let seen = || -> Result<(u64, u64), String> {
        let text = inside.run("cat /proc/diskstats")?;
        let line = text.lines().find(|l| l.split_whitespace().nth(2) == Some(node.as_str()));
        let field = |n: usize| line.and_then(|l| l.split_whitespace().nth(n)?.parse().ok()).unwrap_or(0);
        Ok((field(5), field(9)))
    };
    inside.run("dd if=/dev/vdx of=/dev/null bs=64k 2>/dev/null")?;
    let first = seen()?;
    // What the host has looked at is in the page cache.
    ensure!(first.0 > 4096, "{first:?} in the first life");
    let told = inside.daemon.ok(&["domblkstat", inside.name, "vdx"])?;
    ensure!(told.contains(&format!("vdx rd_bytes {}\n", first.0 * 512)), "{first:?} is not in {told}");
    for life in 1..3 {
        let init = inside.daemon.pid_of(inside.name, "initPid")?;
        // It ends the script that would take it away.
        inside.begin("rm /tmp/go; reboot -f")?;
        wait_for("the reboot", 20, || {
            inside.daemon.pid_of(inside.name, "initPid").ok().filter(|pid| *pid != init)
        })?;
        ensure_eq!(seen()?, (0, 0), "after reboot {life}");
        inside.run("dd if=/dev/zero of=/dev/vdx bs=64k count=2 conv=fsync 2>/dev/null")?;
        let written = seen()?.1;
        ensure!(written >= 256, "{written} sectors written after reboot {life}");
        for _ in 0..3 {
            if let Some(server) = inside.server() {
                send(server, Signal::SIGKILL)?;
                wait_for("the end of the server", 10, || (!alive(server)).then_some(()))?;
            }
            ensure_eq!(seen()?.1, written, "with another server");
        }
    }
    inside.destroy()
}

fn without_daemon() -> Outcome {
    let mut inside = Inside::start("t-vd", "")?;
    let (controller, first) = (inside.controller()?, inside.woken()?);
    let up = |inside: &Inside| -> Result<f64, String> {
        let text = inside.run("cat /proc/uptime")?;
        text.split(' ').next().and_then(|w| w.parse().ok()).ok_or(text)
    };
    let before = up(&inside)?;
    inside.daemon.kill();
    send(first, Signal::SIGKILL)?;
    ensure_eq!(
        inside.run("head -n 1 /proc/meminfo")?,
        "MemTotal:          65536 kB\n",
        "memory without a daemon"
    );
    let second = server_of(controller).ok_or("nobody serves")?;
    ensure!(second != first, "the killed server lives");
    ensure!(up(&inside)? >= before, "time went back");
    inside.daemon.launch()?;
    ensure_eq!(inside.woken()?, second, "who serves with another daemon");
    // Suspended, it is not asked; and who serves is not suspended.
    inside.daemon.ok(&["suspend", inside.name])?;
    send(second, Signal::SIGKILL)?;
    wait_for("the server to end", 5, || (!alive(second)).then_some(()))?;
    inside.daemon.ok(&["resume", inside.name])?;
    inside.woken()?;
    inside.destroy()
}

/// Nobody but the controller can end one that is stopped. And where somebody is stopped, the kernel hangs up on a process group that the
/// end of another process leaves without its session: the end of the daemon is none of the container's business.
fn stopped() -> Outcome {
    let mut inside = Inside::start("t-vz", "")?;
    let first = inside.woken()?;
    send(first, Signal::SIGSTOP)?;
    let begin = Instant::now();
    let second = inside.woken()?;
    println!("the answer took {:?}", begin.elapsed());
    ensure!(second != first && !alive(first), "the stopped server is there");
    for who in ["the server", "the controller"] {
        let controller = inside.controller()?;
        let pid = if who == "the server" { inside.woken()? } else { controller };
        send(pid, Signal::SIGSTOP)?;
        inside.daemon.kill();
        sleep(Duration::from_millis(300));
        ensure!(alive(controller), "{who} was stopped, and the controller ended with the daemon");
        send(pid, Signal::SIGCONT)?;
        inside.daemon.launch()?;
        ensure_eq!(inside.controller()?, controller, "who has the container, after {who} was stopped");
    }
    send(inside.controller()?, Signal::SIGHUP)?;
    inside.woken()?;
    inside.destroy()
}

/// Where the connections of the kernel are, mounted if they are not yet: in the mount namespace of the tests.
const CONNECTIONS: &str = "/sys/fs/fuse/connections";

impl Inside {
    /// The lines of its mounts that are of the view.
    fn mounts(&self) -> Result<Vec<String>, String> {
        let init = self.daemon.pid_of(self.name, "initPid")?;
        let text = fs::read_to_string(format!("/proc/{init}/mountinfo")).map_err(|e| e.to_string())?;
        Ok(text.lines().filter(|l| l.contains(" - fuse berth-view ")).map(str::to_owned).collect())
    }

    /// The connection of what is mounted over a file: its number.
    pub fn connection(&self, path: &str) -> Result<String, String> {
        let mounts = self.mounts()?;
        let line = mounts.iter().rfind(|l| l.split(' ').nth(4) == Some(path));
        let device =
            line.and_then(|l| l.split(' ').nth(2)?.split_once(':')).map(|(_, minor)| minor.to_owned());
        device.ok_or_else(|| format!("nothing is over {path}: {mounts:?}"))
    }

    /// Aborts the connection, as root of the host can.
    pub fn abort(&self) -> Result<String, String> {
        let number = self.connection("/proc/meminfo")?;
        let file = Path::new(CONNECTIONS).join(&number).join("abort");
        if !file.exists() {
            let none: Option<&str> = None;
            // Another test may have been faster: that it is not there is told by the next step.
            let flags = nix::mount::MsFlags::empty();
            let _ = nix::mount::mount(Some("none"), CONNECTIONS, Some("fusectl"), flags, none);
        }
        fs::write(&file, "1").map_err(|e| format!("{}: {e}", file.display()))?;
        Ok(number)
    }

    fn log(&self) -> String {
        let log = self.daemon.root().join(format!("var/log/berth/{}.log", self.name));
        fs::read_to_string(log).unwrap_or_default()
    }
}

/// Each file of the view, and one of a processor: what cannot be read is told.
const READ_ALL: &str = "for f in meminfo cpuinfo stat uptime loadavg swaps diskstats; do cat /proc/$f >/dev/null || echo $f; done; \
    for f in /proc/pressure/*; do read line <$f || echo $f; done; cat /sys/devices/system/cpu/online";

fn aborted(name: &'static str, settings: &str) -> Outcome {
    let inside = Inside::start(name, settings)?;
    inside.woken()?;
    let up = |inside: &Inside| -> Result<f64, String> {
        let text = inside.run("cat /proc/uptime")?;
        text.split(' ').next().and_then(|w| w.parse().ok()).ok_or(text)
    };
    let (before, mounts) = (up(&inside)?, inside.mounts()?.len());
    // A mount namespace that gets what is mounted in the container, as services have them.
    inside.run("unshare -m --propagation slave sh -c 'while :; do if [ -f /tmp/ask ]; then head -n 1 /proc/meminfo >/tmp/seen 2>&1; rm /tmp/ask; fi; sleep 0.1; done' >/dev/null 2>&1 & echo")?;
    // With somebody who serves, and then while nobody does.
    for round in ["served", "unserved"] {
        if round == "unserved" {
            wait_for("the server to leave", 20, || inside.server().is_none().then_some(()))?;
        }
        let begin = Instant::now();
        let number = inside.abort()?;
        wait_for("another connection", 30, || {
            inside.connection("/proc/meminfo").ok().filter(|n| *n != number)
        })?;
        println!("{name}, {round}: another connection after {:?}", begin.elapsed());
        wait_for("everything to be read", 5, || (inside.run(READ_ALL).ok()? == "0\n").then_some(()))?;
        inside.woken()?;
    }
    ensure!(up(&inside)? >= before, "time went back");
    inside.run("touch /tmp/ask; while [ -f /tmp/ask ]; do sleep 0.1; done")?;
    let seen = fs::read_to_string(inside.root.join("tmp/seen")).map_err(|e| e.to_string())?;
    ensure_eq!(seen, "MemTotal:          65536 kB\n", "what a service reads");
    // What is locked stays under what was put over it, and only that.
    let now = inside.mounts()?.len();
    let mapped = settings != HOST_IDS && crate::limits::maps_tmpfs();
    ensure_eq!(now, if mapped { 2 * mounts } else { mounts }, "mounts");
    // Told once.
    ensure_eq!(inside.log().matches("aborted").count(), 1, "lines in the log: {}", inside.log());
    inside.destroy()
}

/// What the container has put over a file of the view or taken off is its own business, and so is where it has moved one.
fn covered() -> Outcome {
    let inside = Inside::start("t-vm", UNCONFINED)?;
    inside.woken()?;
    let begin = "echo own >/tmp/own; mount -o bind /tmp/own /proc/uptime; umount /proc/swaps; \
        mount -t tmpfs none /sys/devices/system; mkdir /sys/devices/system/cpu && echo good";
    ensure_eq!(inside.run(begin)?, "good\n", "the container's own mounts");
    let number = inside.abort()?;
    wait_for("another connection", 30, || inside.connection("/proc/meminfo").ok().filter(|n| *n != number))?;
    inside.woken()?;
    let end = "cat /proc/uptime; ls /sys/devices/system/cpu | wc -l; grep -c ' /sys/devices/system/cpu ' /proc/mounts; \
        grep -c ' /proc/swaps ' /proc/mounts";
    wait_for("what the container has", 5, || (inside.run(end).ok()? == "own\n0\n1\n0\n").then_some(()))
        .map_err(|_| inside.run(end).unwrap_or_default())?;
    // All of it taken off: nobody serves what nobody sees, and nobody complains.
    let off = "umount /proc/uptime /sys/devices/system; for f in /proc/*info /proc/stat /proc/uptime /proc/loadavg /proc/diskstats \
        /proc/pressure/* /sys/devices/system/cpu; do while umount $f; do :; done; done 2>/dev/null; grep -c berth-view /proc/mounts";
    ensure_eq!(inside.run(off)?, "0\n", "mounts of the view");
    wait_for("the server to leave", 20, || inside.server().is_none().then_some(()))?;
    ensure_eq!(inside.log().lines().count(), 1, "lines in the log: {}", inside.log());
    inside.destroy()
}

/// In a thread of its own, whose mounts and its daemon's are nobody else's.
fn beyond() -> Outcome {
    std::thread::spawn(without_device).join().map_err(|_| "the thread has panicked".to_owned())?
}

fn without_device() -> Outcome {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).map_err(|e| format!("unshare: {e}"))?;
    let inside = Inside::start("t-vg", "")?;
    inside.woken()?;
    let none: Option<&str> = None;
    nix::mount::mount(Some("/dev/null"), "/dev/fuse", none, nix::mount::MsFlags::MS_BIND, none)
        .map_err(|e| format!("cannot hide /dev/fuse: {e}"))?;
    inside.abort()?;
    let log = wait_for("a line in the log", 60, || Some(inside.log()).filter(|log| !log.is_empty()))?;
    println!("{log}");
    ensure!(log.contains("aborted") && log.contains("a restart of the container heals it"), "{log}");
    ensure!(inside.daemon.state(inside.name)?.starts_with("running"), "the container has ended");
    // No more is tried, and no more told.
    sleep(Duration::from_secs(20));
    ensure_eq!(inside.log(), log, "the log");
    inside.destroy()
}

fn idle() -> Outcome {
    let inside = Inside::start("t-vi", "")?;
    inside.woken()?;
    let begin = Instant::now();
    wait_for("the server to leave", 20, || inside.server().is_none().then_some(()))?;
    let log = inside.daemon.root().join(format!("var/log/berth/{}.log", inside.name));
    println!("it left after {:?}", begin.elapsed());
    ensure_eq!(fs::read_to_string(log).unwrap_or_default().matches("berth-view").count(), 0, "complaints");
    let begin = Instant::now();
    ensure_eq!(inside.run("cat /proc/uptime >/dev/null && echo good")?, "good\n", "the next question");
    println!("the next question and its answer took {:?}", begin.elapsed());
    inside.destroy()
}

fn wait_for_readers(inside: &Inside) -> Outcome {
    let server = inside.woken()?;
    send(server, Signal::SIGSTOP)?;
    inside.begin("for n in 1 2 3 4; do cat /proc/meminfo & done; wait")?;
    wait_for("readers that wait", 10, || {
        let waiting = pids().into_iter().filter(|pid| {
            let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            let at = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            group.contains(&format!("/{}.berth", inside.name)) && at == "cat\n"
        });
        (waiting.count() >= 4).then_some(())
    })
}

fn stands() -> Outcome {
    let inside = Inside::start("t-vs", "")?;
    wait_for_readers(&inside)?;
    let begin = Instant::now();
    inside.daemon.ok(&["destroy", inside.name])?;
    let took = begin.elapsed();
    println!("destroy took {took:?}");
    ensure!(took < patient(1), "destroy took {took:?}");
    inside.ends_without_residue()
}

fn controller() -> Outcome {
    let inside = Inside::start("t-vc", "")?;
    wait_for_readers(&inside)?;
    send(inside.controller()?, Signal::SIGKILL)?;
    inside.daemon.wait_state(inside.name, "shut off (crashed)", 10)?;
    inside.ends_without_residue()
}

fn harm() -> Outcome {
    let inside = Inside::start("t-vx", "")?;
    let refused = inside.run(
        "echo x 2>/dev/null >/proc/meminfo || echo 1; chmod 777 /proc/uptime 2>/dev/null || echo 2; \
         touch /sys/devices/system/cpu/x 2>/dev/null || echo 3; mv /proc/stat /tmp 2>/dev/null || echo 4; \
         cat /sys/devices/system/cpu/cpu1/online 2>/dev/null || echo 5; \
         cat /sys/devices/system/cpu/$(printf '%0300d' 0) 2>/dev/null || echo 6; \
         cat /sys/devices/system/cpu/../../../../etc/shadow 2>/dev/null || echo 7",
    )?;
    ensure_eq!(refused, "1\n2\n3\n4\n5\n6\n7\n", "what is refused");
    // Offsets behind the end, single bytes, everything there is, and more open files than texts are kept of.
    let script = "dd if=/proc/stat bs=1 count=20 2>/dev/null | wc -c; dd if=/proc/stat bs=1M skip=4095 2>/dev/null | wc -c; \
        find /sys/devices/system/cpu -type f -exec cat {} + >/dev/null 2>&1; find /sys/devices/system/cpu | wc -l; \
        for n in $(seq 1 300); do sleep 3 </proc/meminfo & done; head -n 1 /proc/meminfo; wait";
    let text = inside.run(script)?;
    let lines: Vec<&str> = text.lines().collect();
    ensure!(lines.len() == 4 && lines[0] == "20" && lines[1] == "0", "{text}");
    ensure!(lines[2].parse::<u32>().unwrap_or(0) > 5 && lines[3] == "MemTotal:          65536 kB", "{text}");
    let log = inside.daemon.root().join(format!("var/log/berth/{}.log", inside.name));
    ensure_eq!(fs::read_to_string(log).unwrap_or_default(), "", "complaints");
    let server = inside.woken()?;
    check_rights(server)?;
    inside.destroy()
}

/// Also where the averages have moved a moment ago, and are not to move again.
fn counts() -> Outcome {
    let inside = Inside::start("t-vt", "")?;
    inside.run("cat /proc/loadavg")?;
    for file in ["loadavg", "stat"] {
        // With this it is kept that they were counted.
        inside.run("cat /proc/uptime")?;
        send(inside.woken()?, Signal::SIGKILL)?;
        let script = format!(
            "sleep 20 & yes >/dev/null & yes >/dev/null & sleep 0.2; cat /proc/{file}; kill %1 %2 %3"
        );
        let text = inside.run(&script)?;
        if file == "stat" {
            ensure!(number(&text, "procs_running ") >= Some(2), "{text}");
            continue;
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        let threads = words.get(3).and_then(|w| w.split_once('/')).unwrap_or_default();
        // Two shells, one that sleeps, two that do not, and the reader.
        let (active, all) = (threads.0.parse::<u32>().unwrap_or(0), threads.1.parse::<u32>().unwrap_or(0));
        ensure!(active >= 2 && all >= 5, "{text}");
    }
    inside.destroy()
}

/// Nobody without capabilities, with a filter, in the controller's group, from memory that nobody writes to.
fn check_rights(server: i32) -> Outcome {
    let status = fs::read_to_string(Path::new("/proc").join(server.to_string()).join("status"))
        .map_err(|e| e.to_string())?;
    for line in
        ["Uid:\t65534\t65534\t65534\t65534", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"]
    {
        ensure!(status.contains(line), "no '{line}' in {status}");
    }
    let program = fs::File::open(format!("/proc/{server}/exe")).map_err(|e| e.to_string())?;
    let seals = fcntl(&program, FcntlArg::F_GET_SEALS).map_err(|e| e.to_string())?;
    ensure!(SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_WRITE), "it can be written to");
    let groups = fs::read_to_string(format!("/proc/{server}/cgroup")).map_err(|e| e.to_string())?;
    let unified = groups.lines().find(|l| l.starts_with("0::")).unwrap_or_default();
    ensure!(unified.ends_with("/controller"), "it is in '{unified}'");
    Ok(())
}
