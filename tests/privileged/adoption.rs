//! The daemon dies; the containers do not notice, and the next daemon knows everything.

use std::time::{Duration, Instant};

use berth_tests::daemon::{Daemon, domain_xml};
use berth_tests::host::{Traces, alive};
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, patient, wait_for};
use serde_json::json;

pub const TESTS: &[Test] = &[
    ("adoption::two_hundred_within_a_second", many),
    ("adoption::what_happened_meanwhile_is_told", meanwhile),
    ("adoption::a_dead_controller_is_swept", dead_controller),
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
