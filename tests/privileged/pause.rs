//! Suspend and resume of real containers.

use std::time::{Duration, Instant};

use berth_tests::daemon::{Daemon, domain_xml};
use berth_tests::host::{Traces, alive};
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, wait_for};

pub const TESTS: &[Test] = &[
    ("pause::a_paused_container_stands_and_goes_on", stands),
    ("pause::a_hundred_over_a_restart_of_the_daemon", hundred),
    ("pause::a_paused_domain_ends_as_any_other", ends),
    ("pause::the_controller_of_a_paused_domain_is_killed", killed),
];

/// Counts up in a file, so that standing still can be seen.
const COUNTER: &str = "n=0; while :; do n=$((n+1)); echo $n > /tmp/n; sleep 0.01; done";

fn counter(daemon: &Daemon, name: &str) -> Result<std::path::PathBuf, String> {
    let root = daemon.busybox(name)?;
    daemon.define(name, &domain_xml(name, &root, &["/bin/sh", "-c", COUNTER], ""))?;
    daemon.ok(&["start", name])?;
    let file = root.join("tmp/n");
    wait_for("the first number", 10, || std::fs::read_to_string(&file).ok().filter(|t| !t.is_empty()))?;
    Ok(file)
}

fn number(file: &std::path::Path) -> u64 {
    std::fs::read_to_string(file).ok().and_then(|t| t.trim().parse().ok()).unwrap_or_default()
}

fn stands() -> Outcome {
    let daemon = Daemon::start()?;
    let file = counter(&daemon, "t-ps")?;
    let out = daemon.ok(&["suspend", "t-ps"])?;
    ensure_eq!(out, "Domain 't-ps' suspended\n\n", "suspend");
    let before = number(&file);
    std::thread::sleep(Duration::from_millis(300));
    ensure_eq!(number(&file), before, "what a paused container counts");
    ensure_eq!(daemon.ok(&["domstate", "t-ps", "--reason"])?, "paused (user)\n\n", "the state");
    ensure!(daemon.ok(&["dominfo", "t-ps"])?.contains("State:          paused"), "dominfo");
    let begin = Instant::now();
    let refused = daemon.virsh(&["shutdown", "t-ps"])?.fails()?;
    ensure!(refused.contains("domain is paused"), "{refused}");
    ensure!(begin.elapsed() < Duration::from_secs(2), "a refusal took {:?}", begin.elapsed());
    // The controller stands by: consoles can be looked at.
    daemon.ok(&["ttyconsole", "t-ps"])?;
    ensure_eq!(daemon.ok(&["resume", "t-ps"])?, "Domain 't-ps' resumed\n\n", "resume");
    wait_for("the container to go on", 5, || (number(&file) > before).then_some(()))?;
    let refused = daemon.virsh(&["resume", "t-ps"])?.fails()?;
    ensure!(refused.contains("domain is already running"), "{refused}");
    daemon.ok(&["destroy", "t-ps"]).map(drop)
}

fn hundred() -> Outcome {
    const COUNT: usize = 100;
    let mut daemon = Daemon::start()?;
    let root = daemon.busybox("t-ph")?;
    let mut inits = Vec::new();
    for n in 0..COUNT {
        let name = format!("t-ph{n}");
        daemon.define(&name, &domain_xml(&name, &root, &["/bin/sleep", "100000"], ""))?;
        daemon.ok(&["start", &name])?;
        inits.push(daemon.pid_of(&name, "initPid")?);
    }
    let begin = Instant::now();
    daemon.ok(&["suspend", "t-ph*"])?;
    println!("{COUNT} domains were suspended in {:?}", begin.elapsed());
    let paused = daemon.ok(&["list", "--all"])?;
    ensure_eq!(paused.matches(" paused").count(), COUNT, "paused domains in {paused}");
    daemon.restart()?;
    ensure_eq!(daemon.ok(&["list", "--all"])?, paused, "the list of the next daemon");
    ensure!(inits.iter().all(|p| alive(*p)), "an init is gone");
    let begin = Instant::now();
    daemon.ok(&["resume", "t-ph*"])?;
    println!("{COUNT} domains were resumed in {:?}", begin.elapsed());
    let running = daemon.ok(&["list"])?;
    ensure_eq!(running.matches(" running").count(), COUNT, "running domains in {running}");
    // Half of them end paused.
    daemon.ok(&["suspend", "t-ph?", "t-ph4*"])?;
    daemon.ok(&["destroy", "t-ph*"])?;
    let left = Traces::of("t-ph", &daemon.root().join("run"))
        .difference(&Traces::of("t-none", &daemon.root().join("run")));
    ensure_eq!(left, Vec::<String>::new(), "residue");
    Ok(())
}

fn ends() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-pe")?;
    let xml = domain_xml("t-pe", &root, &["/bin/sleep", "100000"], "");
    daemon.define("t-pe", &xml)?;
    let before = Traces::of("t-pe", daemon.work());
    let mut took = Vec::new();
    for paused in [false, true, false, true] {
        daemon.ok(&["start", "t-pe"])?;
        if paused {
            daemon.ok(&["suspend", "t-pe"])?;
        }
        let begin = Instant::now();
        daemon.ok(&["destroy", "t-pe"])?;
        took.push(begin.elapsed());
        ensure_eq!(daemon.state("t-pe")?, "shut off (destroyed)", "the end");
    }
    println!("destroy, running and paused in turns: {took:?}");
    ensure!(took.iter().all(|t| *t < Duration::from_secs(1)), "destroy took {took:?}");
    ensure_eq!(Traces::of("t-pe", daemon.work()).difference(&before), Vec::<String>::new(), "residue");
    Ok(())
}

fn killed() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-pk")?;
    daemon.define("t-pk", &domain_xml("t-pk", &root, &["/bin/sleep", "100000"], ""))?;
    let before = Traces::of("t-pk", daemon.work());
    daemon.ok(&["start", "t-pk"])?;
    daemon.ok(&["suspend", "t-pk"])?;
    let (controller, init) = (daemon.pid_of("t-pk", "id")?, daemon.pid_of("t-pk", "initPid")?);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(controller), nix::sys::signal::Signal::SIGKILL)
        .map_err(|e| e.to_string())?;
    wait_for("the end of a frozen init", 2, || (!alive(init)).then_some(()))?;
    daemon.wait_state("t-pk", "shut off (crashed)", 5)?;
    ensure_eq!(Traces::of("t-pk", daemon.work()).difference(&before), Vec::<String>::new(), "residue");
    Ok(())
}
