//! The daemon dies; the containers do not notice, and the next daemon knows everything.

use std::time::{Duration, Instant};

use berth_tests::daemon::{Daemon, domain_xml};
use berth_tests::host::{Traces, alive};
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, patient, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

pub const TESTS: &[Test] = &[
    ("adoption::two_hundred_within_a_second", many),
    ("adoption::what_happened_meanwhile_is_told", meanwhile),
    ("adoption::a_dead_controller_is_swept", dead_controller),
    ("adoption::a_controller_that_stands_still_keeps_its_container", still),
    ("adoption::transient_domains_are_adopted", transient),
    ("adoption::killed_again_and_again", again),
];

fn many() -> Outcome {
    const COUNT: usize = 200;
    let mut daemon = Daemon::start()?;
    let root = daemon.busybox("t-many")?;
    let mut inits = Vec::new();
    for n in 0..COUNT {
        let name = format!("t-many{n}");
        daemon.define(&name, &domain_xml(&name, &root, &["/bin/sleep", "100000"], ""))?;
        daemon.ok(&["start", &name])?;
        inits.push(daemon.pid_of(&name, "initPid")?);
    }
    let before = daemon.ok(&["list", "--all"])?;
    daemon.kill();
    let begin = Instant::now();
    daemon.launch()?;
    let after = daemon.ok(&["list", "--all"])?;
    let took = begin.elapsed();
    println!("{COUNT} running domains were adopted in {took:?}");
    ensure_eq!(after, before, "the list");
    ensure!(took < patient(1), "adoption of {COUNT} took {took:?}");
    ensure!(inits.iter().all(|p| alive(*p)), "an init is gone");
    // They are really ours again: each can be ended, and nothing is left.
    daemon.ok(&["destroy", "t-many*"])?;
    ensure!(!inits.iter().any(|p| alive(*p)), "an init is still there");
    let left: Vec<String> = Traces::of("t-many", &daemon.root().join("run"))
        .difference(&Traces::of("t-none", &daemon.root().join("run")));
    ensure_eq!(left, Vec::<String>::new(), "residue");
    Ok(())
}

fn meanwhile() -> Outcome {
    let mut daemon = Daemon::start()?;
    let root = daemon.busybox("t-mw")?;
    for (name, script) in
        [("t-mw0", "read x; poweroff -f"), ("t-mw1", "read x; exit 9"), ("t-mw2", "read x; exit 0")]
    {
        // They wait for a file, since nobody can type while the daemon is away.
        let script = script.replace("read x", "while [ ! -e /tmp/go ]; do sleep 0.05; done");
        daemon.define(name, &domain_xml(name, &root, &["/bin/sh", "-c", &script], ""))?;
        daemon.ok(&["start", name])?;
    }
    let pids: Vec<i32> =
        ["t-mw0", "t-mw1", "t-mw2"].iter().map(|n| daemon.pid_of(n, "id")).collect::<Result<_, _>>()?;
    daemon.kill();
    std::fs::write(root.join("tmp/go"), "").map_err(|e| e.to_string())?;
    wait_for("the controllers to end", 10, || (!pids.iter().any(|p| alive(*p))).then_some(()))?;
    daemon.launch()?;
    for (name, state, kind, status) in [
        ("t-mw0", "shut off (shutdown)", "poweroff", None),
        ("t-mw1", "shut off (crashed)", "exited", Some(9)),
        ("t-mw2", "shut off (shutdown)", "exited", Some(0)),
    ] {
        daemon.wait_state(name, state, 5)?;
        let exit = daemon.status(name)?["lastExit"].clone();
        ensure_eq!((&exit["kind"], exit["status"].as_i64()), (&json!(kind), status), "{name}");
    }
    let left = Traces::of("t-mw", &daemon.root().join("run"))
        .difference(&Traces::of("t-none", &daemon.root().join("run")));
    ensure_eq!(left, Vec::<String>::new(), "residue");
    Ok(())
}

fn dead_controller() -> Outcome {
    let mut daemon = Daemon::start()?;
    let root = daemon.busybox("t-dc")?;
    daemon.define("t-dc", &domain_xml("t-dc", &root, &["/bin/sleep", "1000"], ""))?;
    let before = Traces::of("t-dc", daemon.work());
    daemon.ok(&["start", "t-dc"])?;
    let (controller, init) = (daemon.pid_of("t-dc", "id")?, daemon.pid_of("t-dc", "initPid")?);
    daemon.kill();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(controller), nix::sys::signal::Signal::SIGKILL)
        .map_err(|e| e.to_string())?;
    // Even without a daemon the container does not outlive its controller.
    wait_for("the end of init", 1, || (!alive(init)).then_some(()))?;
    daemon.launch()?;
    daemon.wait_state("t-dc", "shut off (crashed)", 5)?;
    ensure_eq!(Traces::of("t-dc", daemon.work()).difference(&before), Vec::<String>::new(), "residue");
    Ok(())
}

/// Four controllers are stopped, as a debugger or a frozen group does it, and the daemon is started twice meanwhile.
fn still() -> Outcome {
    const NAMES: [&str; 4] = ["t-still0", "t-still1", "t-still2", "t-still3"];
    let mut daemon = Daemon::start()?;
    let root = daemon.busybox("t-still")?;
    let script = "trap 'exit 0' TERM; echo it is up; while :; do sleep 1000 & wait $!; done";
    for name in NAMES.into_iter().chain(["t-other"]) {
        daemon.define(name, &domain_xml(name, &root, &["/bin/sh", "-c", script], ""))?;
    }
    let before = Traces::of("t-still", daemon.work());
    for name in NAMES.into_iter().chain(["t-other"]) {
        daemon.ok(&["start", name])?;
        let log = || daemon.ok(&["console", name, "--log"]).ok().filter(|t| t.contains("it is up"));
        wait_for("the first line", 10, log)?;
    }
    daemon.ok(&["suspend", "t-still1"])?;
    let signal = |pid: i32, signal| kill(Pid::from_raw(pid), signal).map_err(|e| e.to_string());
    let ids: Vec<i32> = NAMES.iter().map(|n| daemon.pid_of(n, "id")).collect::<Result<_, _>>()?;
    let inits: Vec<i32> = NAMES.iter().map(|n| daemon.pid_of(n, "initPid")).collect::<Result<_, _>>()?;
    let list = daemon.ok(&["list", "--all"])?;
    daemon.kill();
    for id in &ids {
        signal(*id, Signal::SIGSTOP)?;
    }
    for _ in 0..2 {
        daemon.kill();
        let begin = Instant::now();
        daemon.launch()?;
        ensure_eq!(daemon.ok(&["list", "--all"])?, list, "the list");
        let took = begin.elapsed();
        println!("four controllers that stand still: list after {took:?}");
        ensure!(took < Duration::from_secs(4), "everybody waited for {took:?}");
        ensure!(inits.iter().all(|p| alive(*p)), "an init is gone");
    }
    // Others are served, and so are they, but for what only the controller can do.
    daemon.ok(&["destroy", "t-other"])?;
    daemon.ok(&["resume", "t-still1"])?;
    daemon.ok(&["suspend", "t-still0"])?;
    daemon.ok(&["domstats", "t-still0"])?;
    let refused = daemon.virsh(&["shutdown", "t-still2"])?.fails()?;
    ensure!(refused.contains(&format!("(process {})", ids[2])), "a shutdown: {refused}");
    // One is killed, one is destroyed, and two go on.
    signal(ids[3], Signal::SIGKILL)?;
    daemon.wait_state("t-still3", "shut off (crashed)", 10)?;
    ensure_eq!(daemon.status("t-still3")?["lastExit"]["kind"], json!("controllerLost"), "the end");
    daemon.ok(&["destroy", "t-still2"])?;
    ensure!(![inits[2], inits[3]].iter().any(|p| alive(*p)), "an init is still there");
    for id in &ids[..2] {
        signal(*id, Signal::SIGCONT)?;
    }
    wait_for("both", 10, || (daemon.log().matches(", answers").count() == 2).then_some(()))?;
    ensure_eq!(daemon.state("t-still0")?, "paused (user)", "what was suspended meanwhile");
    daemon.ok(&["resume", "t-still0"])?;
    for name in &NAMES[..2] {
        ensure!(daemon.ok(&["console", name, "--log"])?.contains("it is up"), "the log of its console");
        daemon.ok(&["shutdown", name])?;
        daemon.wait_state(name, "shut off (shutdown)", 10)?;
        daemon.ok(&["start", name])?;
        daemon.ok(&["destroy", name])?;
    }
    let left = Traces::of("t-still", daemon.work()).difference(&before);
    ensure_eq!(left, Vec::<String>::new(), "residue");
    Ok(())
}

fn transient() -> Outcome {
    let mut daemon = Daemon::start()?;
    let root = daemon.busybox("t-ta")?;
    let file = daemon.file("t-ta.xml", &domain_xml("t-ta", &root, &["/bin/sleep", "1000"], ""))?;
    daemon.ok(&["create", &file])?;
    let xml = daemon.ok(&["dumpxml", "t-ta"])?;
    daemon.restart()?;
    ensure_eq!(daemon.ok(&["dumpxml", "t-ta"])?, xml, "the document");
    ensure!(daemon.ok(&["dominfo", "t-ta"])?.contains("Persistent:     no"), "it became persistent");
    daemon.ok(&["destroy", "t-ta"])?;
    ensure_eq!(daemon.virsh(&["dominfo", "t-ta"])?.status, 1, "it is still there");
    Ok(())
}

fn again() -> Outcome {
    let mut daemon = Daemon::start()?;
    let root = daemon.busybox("t-ag")?;
    daemon.define("t-ag", &domain_xml("t-ag", &root, &["/bin/sleep", "100000"], ""))?;
    daemon.ok(&["start", "t-ag"])?;
    let init = daemon.pid_of("t-ag", "initPid")?;
    let list = daemon.ok(&["list", "--all"])?;
    for n in 0..20 {
        daemon.kill();
        // Some of these daemons are killed again while they are still adopting.
        daemon.spawn()?;
        std::thread::sleep(Duration::from_millis(n * 2));
        daemon.kill();
    }
    daemon.launch()?;
    ensure_eq!(daemon.ok(&["list", "--all"])?, list, "the list");
    ensure!(alive(init), "init is gone");
    daemon.ok(&["destroy", "t-ag"]).map(drop)
}
