//! sysinfo(2) inside: it tells what the files of the view do, and nobody who calls it hangs, whoever is killed or stopped.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use berth_tests::daemon::{Daemon, dist, domain_xml};
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, patient, wait_for};
use nix::sys::signal::Signal;

use crate::console;
use crate::view::{HOST_IDS, Inside, number, send};

pub const TESTS: &[Test] = &[
    ("view::sysinfo_tells_what_the_files_do", || tells("t-so", "")),
    ("view::and_so_it_does_with_the_hosts_ids", || tells("t-sh", HOST_IDS)),
    ("view::sysinfo_can_be_the_hosts", hosts),
    ("view::a_denied_sysinfo_stays_denied", denied),
    ("view::calls_outlive_killed_servers", killed),
    ("view::calls_wait_for_a_server_that_may_not_start_yet", held),
    ("view::calls_without_end_have_a_share", share),
    ("view::a_stopped_server_is_not_waited_for", stopped),
    ("view::calls_into_a_file_of_the_view_hold_up_nobody", into_a_file),
    ("view::calls_hold_up_no_destroy", destroyed),
    ("view::a_flood_of_calls_starves_nobody", flood),
    ("view::sysinfo_outlives_reboots_daemons_and_connections", outlives),
    ("view::an_aborted_connection_leaves_sysinfo", unmounted),
];

const PROBE: &str = "/tmp/berth-probe --sysinfo";

/// 64 MiB.
const TOTAL: u64 = 64 << 20;

fn start(name: &'static str, settings: &str) -> Result<Inside, String> {
    let inside = Inside::start(name, settings)?;
    fs::copy(dist()?.join("berth-probe"), inside.root.join("tmp/berth-probe")).map_err(|e| e.to_string())?;
    Ok(inside)
}

/// A figure of what the probe tells.
fn figure(text: &str, name: &str) -> Option<u64> {
    text.split_once(&format!("{name} "))?.1.split_whitespace().next()?.parse().ok()
}

impl Inside {
    /// How much memory sysinfo(2) tells.
    fn total(&self) -> Result<u64, String> {
        let text = self.run(PROBE)?;
        figure(&text, "total").ok_or(text)
    }

    /// Lets as many call as there are numbers, until [`Inside::stop`].
    fn flood(&self, callers: u32) -> Outcome {
        self.begin(&format!(
            "rm -f /tmp/stop; for n in $(seq {callers}); do {PROBE} flood /tmp/stop & done; wait; rm /tmp/stop"
        ))
    }

    /// Ends the callers. What they were told, and how often.
    fn stop(&self) -> Result<Vec<(u64, String)>, String> {
        fs::write(self.root.join("tmp/stop"), "").map_err(|e| e.to_string())?;
        let out = self.root.join("tmp/out");
        let text = wait_for("the callers to end", 30, || fs::read_to_string(&out).ok())?;
        fs::remove_file(out).map_err(|e| e.to_string())?;
        let line = |l: &str| l.split_once(' ').and_then(|(n, what)| Some((n.parse().ok()?, what.to_owned())));
        text.lines().map(|l| line(l).ok_or_else(|| text.clone())).collect()
    }
}

/// How often something was told, and how often anything else.
fn count(told: &[(u64, String)], wanted: u64) -> (u64, u64) {
    let wanted = wanted.to_string();
    told.iter().fold(
        (0, 0),
        |(good, other), (times, what)| {
            if *what == wanted { (good + times, other) } else { (good, other + times) }
        },
    )
}

fn tells(name: &'static str, settings: &str) -> Outcome {
    let inside = start(name, settings)?;
    let text = inside.run(&format!("{PROBE}; cat /proc/meminfo /proc/uptime /proc/loadavg"))?;
    let of = |name| figure(&text, name).unwrap_or(u64::MAX);
    let file = |name| number(&text, name).map_or(0, |kib| kib * 1024);
    ensure_eq!(of("total"), TOTAL, "memory");
    ensure_eq!(of("total"), file("MemTotal:"), "memory of the file");
    ensure!(of("free").abs_diff(file("MemFree:")) < 8 << 20, "free memory: {text}");
    ensure!(of("shared").abs_diff(file("Shmem:")) < 1 << 20 && of("buffers") == 0, "other memory: {text}");
    ensure_eq!((of("swap"), of("freeswap")), (file("SwapTotal:"), file("SwapFree:")), "swap");
    ensure!(of("up") <= patient(60).as_secs(), "uptime: {text}");
    let mut last = text.lines().rev();
    let (load, uptime) = (last.next().unwrap_or_default(), last.next().unwrap_or_default());
    let threads = load.split_once('/').and_then(|(_, l)| l.split(' ').next()?.parse().ok()).unwrap_or(0);
    ensure!(of("procs") >= 1 && of("procs").abs_diff(threads) < 3, "threads: {text}");
    let word = |line: &str| line.split(' ').next().and_then(|w| w.parse::<f64>().ok()).unwrap_or(-1.0);
    ensure!((of("up") as f64 - word(uptime)).abs() < 3.0, "uptime: {text}");
    ensure!((of("loads") as f64 / 65536.0 - word(load)).abs() < 1.0, "load: {text}");
    ensure_eq!(inside.run("free -k | awk '/^Mem/ {print $2}'")?, "65536\n", "free of busybox");
    inside.daemon.ok(&["setmem", name, "32M", "--live"])?;
    ensure_eq!(inside.total()?, 32 << 20, "less memory");
    #[cfg(target_arch = "x86_64")]
    {
        let text = inside.run(&format!("{PROBE} i386"))?;
        ensure!(figure(&text, "total") == Some(32 << 20) && !text.contains("beyond"), "i386: {text}");
    }
    let bad = inside.run(&format!("{PROBE} bad"))?;
    for line in bad.lines() {
        let good =
            line == "good: Ok(0)" || !line.starts_with("good") && line.ends_with(": Err(\"Bad address\")");
        ensure!(good, "{bad}");
    }
    ensure_eq!(bad.lines().count(), 8, "addresses");
    // There can be one who listens.
    let listens = inside.run(&format!("{PROBE} listen"))?;
    ensure!(listens.contains("busy"), "a second listener: {listens}");
    println!("{}", inside.run(&format!("{PROBE} time 1000"))?);
    inside.destroy()
}

fn hosts() -> Outcome {
    let host = fs::read_to_string("/proc/meminfo").map_err(|e| e.to_string())?;
    let host = number(&host, "MemTotal:").map(|kib| kib * 1024);
    for (name, settings) in [("t-sm", "<b:view sysinfo='host'/>"), ("t-sn", "<b:view mode='none'/>")] {
        let inside = start(name, settings)?;
        ensure_eq!(Some(inside.total()?), host, "the host's memory");
        let file = inside.run("cat /proc/meminfo")?;
        let own = settings.contains("sysinfo");
        let file = number(&file, "MemTotal:").map(|kib| kib * 1024);
        ensure_eq!(file, if own { Some(TOTAL) } else { host }, "memory of the file");
        ensure_eq!(inside.run(&format!("{PROBE} listen"))?, "listens\n", "a listener of its own");
        println!("{}", inside.run(&format!("{PROBE} time 1000"))?);
        inside.destroy()?;
    }
    Ok(())
}

fn denied() -> Outcome {
    let inside = start("t-sd", "<b:seccomp><b:deny>sysinfo</b:deny></b:seccomp>")?;
    ensure_eq!(inside.run(PROBE)?, "Operation not permitted\n", "what is denied");
    ensure_eq!(inside.run(&format!("{PROBE} listen"))?, "listens\n", "a listener of its own");
    ensure!(inside.woken().is_ok(), "the files");
    inside.destroy()
}

fn killed() -> Outcome {
    const KILLS: u64 = 12;
    let inside = start("t-sk", "")?;
    inside.flood(8)?;
    let mut killed = 0;
    let until = Instant::now() + patient(30);
    while killed < KILLS && Instant::now() < until {
        let server = wait_for("a server", 10, || inside.server())?;
        send(server, Signal::SIGKILL)?;
        killed += 1;
        wait_for("another server", 10, || inside.server().filter(|s| *s != server))?;
        // Longer than what counts as a failure in a row.
        sleep(Duration::from_millis(if killed % 4 == 3 { 1100 } else { 30 }));
    }
    sleep(Duration::from_millis(1500));
    let told = inside.stop()?;
    let (good, other) = count(&told, TOTAL);
    println!("{KILLS} servers killed under 8 callers: {good} answers of ours, {other} others");
    ensure!(good > 100, "{told:?}");
    // Of a call over which three have died the kernel tells. None is an error.
    ensure!(told.iter().all(|(_, what)| what.parse::<u64>().is_ok()), "{told:?}");
    ensure_eq!(inside.total()?, TOTAL, "memory");
    inside.destroy()
}

/// Kills who serves, soon after each start, until the next one is started only after some seconds.
fn exhaust(inside: &Inside) -> Outcome {
    let mut pause = Duration::ZERO;
    for _ in 0..60 {
        let server = wait_for("a server", 20, || inside.server())?;
        // It has answered something meanwhile, and has not run for long.
        sleep(Duration::from_millis(300));
        send(server, Signal::SIGKILL)?;
        if pause > Duration::from_secs(1) {
            return Ok(());
        }
        let begin = Instant::now();
        wait_for("another server", 20, || inside.server().filter(|s| *s != server))?;
        pause = begin.elapsed();
    }
    Err(format!("the last pause was {pause:?}"))
}

fn held() -> Outcome {
    let inside = start("t-sp", "")?;
    inside.run(&format!("for n in 1 2 3 4; do {PROBE} flood /tmp/stop >/tmp/told$n & done"))?;
    exhaust(&inside)?;
    let begin = Instant::now();
    // Who waits is free to go, and to be told something by a signal.
    ensure_eq!(inside.run(&format!("{PROBE} timer 1"))?, "interrupted 1\n", "a signal");
    let killed = format!("{PROBE} & sleep 0.2; kill -9 $!; wait; echo killed");
    ensure!(inside.run(&killed)?.ends_with("killed\n"), "who is killed");
    println!("signals took {:?}", begin.elapsed());
    ensure!(begin.elapsed() < patient(1), "signals took {:?}", begin.elapsed());
    ensure_eq!(inside.total()?, TOTAL, "memory");
    println!("the answer came after {:?}", begin.elapsed());
    ensure!(begin.elapsed() > Duration::from_secs(1), "the answer came after {:?}", begin.elapsed());
    fs::write(inside.root.join("tmp/stop"), "").map_err(|e| e.to_string())?;
    let told = wait_for("the callers to end", 30, || {
        let one = |n| {
            fs::read_to_string(inside.root.join(format!("tmp/told{n}"))).ok().filter(|t| t.ends_with('\n'))
        };
        (1..=4).map(one).collect::<Option<String>>()
    })?;
    ensure!(told.lines().all(|line| line.ends_with(&format!(" {TOTAL}"))), "what was told: {told}");
    inside.run(&format!("rm /tmp/stop; {PROBE} flood /tmp/stop >/tmp/told & "))?;
    exhaust(&inside)?;
    let begin = Instant::now();
    inside.daemon.ok(&["destroy", inside.name])?;
    println!("destroy took {:?}", begin.elapsed());
    ensure!(begin.elapsed() < patient(1), "destroy took {:?}", begin.elapsed());
    inside.ends_without_residue()
}

fn share() -> Outcome {
    let inside = start("t-sq", "")?;
    inside.run(&format!("for n in 1 2 3 4; do {PROBE} flood /tmp/stop >/tmp/told$n & done"))?;
    let [view, controller] = inside.share_of_answers()?;
    ensure!(view > 1.0, "the view uses {view} %");
    // Who is received cannot be interrupted any more, and waits for the others only then.
    let told = inside.run(&format!("{PROBE} timer 500"))?;
    println!("of 500 calls beside four callers, {told}");
    ensure!(figure(&told, "interrupted").is_some_and(|times| times < 50), "of 500 calls: {told}");
    // An answer is counted with a quarter of a millisecond for the controller: as long as it takes there.
    ensure!(
        view <= 34.0 && view + controller < 48.0,
        "the view uses {view} %, and the controller {controller} %"
    );
    inside.destroy()
}

fn stopped() -> Outcome {
    let inside = start("t-sz", "")?;
    let server = inside.woken()?;
    send(server, Signal::SIGSTOP)?;
    let begin = Instant::now();
    ensure_eq!(inside.total()?, TOTAL, "memory, from another server");
    println!("the answer took {:?}", begin.elapsed());
    ensure!(begin.elapsed() < patient(8), "the answer took {:?}", begin.elapsed());
    // Callers who are killed while they wait leave nothing behind.
    let server = inside.woken()?;
    send(server, Signal::SIGSTOP)?;
    let script =
        format!("for n in 1 2 3 4; do {PROBE} & done; sleep 0.3; kill -9 $(jobs -p); wait; echo killed");
    let begin = Instant::now();
    ensure!(inside.run(&script)?.ends_with("killed\n"), "callers");
    ensure!(begin.elapsed() < Duration::from_secs(2) * patient(1).as_secs() as u32, "{:?}", begin.elapsed());
    ensure_eq!(inside.total()?, TOTAL, "memory");
    inside.destroy()
}

/// Who writes an answer there waits for the server, who may have to be started meanwhile.
fn into_a_file() -> Outcome {
    let inside = start("t-si", "")?;
    inside.run(&format!("{PROBE} into /proc/meminfo /tmp/stop > /tmp/into 2>&1 &"))?;
    for _ in 0..8 {
        let server = wait_for("a server", 10, || inside.server())?;
        send(server, Signal::SIGKILL)?;
        sleep(Duration::from_millis(150));
    }
    // The controller does its work, once a server is due again, and no process waits in the kernel.
    wait_for("our memory", 20, || inside.total().ok().filter(|total| *total == TOTAL))?;
    inside.daemon.ok(&["suspend", inside.name])?;
    inside.daemon.ok(&["resume", inside.name])?;
    fs::write(inside.root.join("tmp/stop"), "").map_err(|e| e.to_string())?;
    let times = wait_for("its end", 20, || {
        fs::read_to_string(inside.root.join("tmp/into")).ok()?.trim().parse::<u64>().ok()
    })?;
    ensure!(times > 10, "{times} calls");
    inside.destroy()
}

fn destroyed() -> Outcome {
    for name in ["t-se", "t-sr"] {
        let inside = start(name, "")?;
        inside.flood(20)?;
        let server = wait_for("a server", 10, || inside.server())?;
        send(server, Signal::SIGSTOP)?;
        sleep(Duration::from_millis(300));
        if name == "t-sr" {
            send(inside.controller()?, Signal::SIGKILL)?;
            inside.daemon.wait_state(name, "shut off (crashed)", 10)?;
        } else {
            let begin = Instant::now();
            inside.daemon.ok(&["destroy", name])?;
            println!("destroy took {:?}", begin.elapsed());
            ensure!(begin.elapsed() < patient(1), "destroy took {:?}", begin.elapsed());
        }
        inside.ends_without_residue()?;
    }
    Ok(())
}

fn flood() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-sf")?;
    fs::copy(dist()?.join("berth-probe"), root.join("tmp/berth-probe")).map_err(|e| e.to_string())?;
    daemon.define("t-sf", &domain_xml("t-sf", &root, &["/bin/sh"], ""))?;
    daemon.ok(&["start", "t-sf"])?;
    let mut terminal = console::open(&daemon, &["t-sf"])?;
    terminal.say("\r")?;
    let begin = format!("for n in $(seq 50); do {PROBE} flood /tmp/stop >/tmp/told$n & done");
    console::run(&mut terminal, &begin)?;
    let mut longest = Duration::ZERO;
    for _ in 0..10 {
        let begin = Instant::now();
        ensure_eq!(console::run(&mut terminal, "echo $((6*7))")?, "42\n".to_owned(), "the console");
        longest = longest.max(begin.elapsed());
        daemon.ok(&["dominfo", "t-sf"])?;
    }
    println!("under 50 callers the console answers within {longest:?}");
    ensure!(longest < patient(2), "the console took {longest:?}");
    // Who is suspended calls later; who has called is answered.
    for _ in 0..3 {
        daemon.ok(&["suspend", "t-sf"])?;
        daemon.ok(&["resume", "t-sf"])?;
    }
    fs::write(root.join("tmp/stop"), "").map_err(|e| e.to_string())?;
    console::run(&mut terminal, "wait")?;
    let told =
        console::run(&mut terminal, "cat /tmp/told* | awk '{n[$2]+=$1} END {for (w in n) print n[w], w}'")?;
    let whole = (256_u64 << 20).to_string();
    let lines: Vec<&str> = told.lines().collect();
    ensure!(lines.len() == 1 && lines[0].ends_with(&whole), "what they were told: {told}");
    println!("{told}");
    daemon.ok(&["destroy", "t-sf"]).map(drop)
}

fn outlives() -> Outcome {
    let mut inside = start("t-sb", "")?;
    ensure_eq!(inside.total()?, TOTAL, "memory");
    inside.daemon.kill();
    ensure_eq!(inside.total()?, TOTAL, "memory without a daemon");
    inside.daemon.launch()?;
    ensure_eq!(inside.total()?, TOTAL, "memory with another daemon");
    let init = inside.daemon.pid_of(inside.name, "initPid")?;
    inside.begin("rm /tmp/go; reboot -f")?;
    wait_for("another init", 20, || {
        inside.daemon.pid_of(inside.name, "initPid").ok().filter(|pid| *pid != init)
    })?;
    let text = inside.run(PROBE)?;
    ensure_eq!(figure(&text, "total"), Some(TOTAL), "memory after a reboot");
    ensure!(figure(&text, "up") <= Some(patient(20).as_secs()), "uptime after a reboot: {text}");
    let number = inside.abort()?;
    ensure_eq!(inside.total()?, TOTAL, "memory while the connection is dead");
    wait_for("another connection", 30, || inside.connection("/proc/meminfo").ok().filter(|n| *n != number))?;
    ensure_eq!(inside.total()?, TOTAL, "memory with another connection");
    inside.destroy()
}

/// Where nobody sees the files any more, and their connection is dead, calls are answered yet.
fn unmounted() -> Outcome {
    let settings = format!("{HOST_IDS}<b:apparmor profile='unconfined'/>");
    let inside = start("t-su", &settings)?;
    inside.woken()?;
    let off = "for f in /proc/*info /proc/stat /proc/uptime /proc/loadavg /proc/swaps /proc/diskstats \
        /proc/pressure/* /sys/devices/system/cpu; do while umount $f; do :; done; done 2>/dev/null; grep -c berth-view /proc/mounts";
    ensure_eq!(inside.run(off)?, "0\n", "mounts of the view");
    wait_for("the server to leave", 20, || inside.server().is_none().then_some(()))?;
    sleep(Duration::from_secs(1));
    for _ in 0..3 {
        ensure_eq!(inside.total()?, TOTAL, "memory");
    }
    // Nobody stays, and nobody is started again and again.
    wait_for("the server to leave", 20, || inside.server().is_none().then_some(()))?;
    inside.destroy()
}
