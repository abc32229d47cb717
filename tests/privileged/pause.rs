//! Suspend and resume of real containers.

use std::time::{Duration, Instant};

use berth_tests::daemon::{Daemon, domain_xml};
use berth_tests::host::{Traces, alive};
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, wait_for};

use crate::limits::limited;

pub const TESTS: &[Test] = &[
    ("pause::a_paused_container_stands_and_goes_on", stands),
    ("pause::a_hundred_over_a_restart_of_the_daemon", hundred),
    ("pause::a_paused_domain_ends_as_any_other", ends),
    ("pause::what_froze_itself_is_not_paused_and_goes_on_when_it_is_resumed", itself),
    ("pause::nobody_but_the_host_ends_a_suspend", nobody_but_the_host),
    ("pause::a_paused_container_that_is_made_anew_runs", anew),
    ("pause::what_an_older_daemon_froze_is_adopted", older),
    ("pause::what_stopped_itself_by_version_1_ends", stopped),
    ("pause::what_is_frozen_by_version_1_inside_is_left_so", left_frozen),
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

/// Counts, and does what is in a file meanwhile. With the host's ids.
fn counter_that_obeys(daemon: &Daemon, name: &str, more: &str) -> Result<std::path::PathBuf, String> {
    let root = daemon.busybox(name)?;
    let script = "n=0; while :; do n=$((n+1)); echo $n > /tmp/n; sleep 0.01; if [ -e /do ]; then mv /do /done; \
                  . /done; fi; done";
    let settings =
        "<metadata><b:settings xmlns:b='urn:berth:domain:1'><b:idmap mode='none'/></b:settings></metadata>";
    let xml = domain_xml(name, &root, &["/bin/sh", "-c", script], "");
    daemon.define(name, &xml.replace("  <os>", &format!("  {settings}{more}<os>")))?;
    daemon.ok(&["start", name])?;
    let file = root.join("tmp/n");
    wait_for("the first number", 10, || std::fs::read_to_string(&file).ok().filter(|t| !t.is_empty()))?;
    Ok(root)
}

fn obey(root: &std::path::Path, script: &str) -> Outcome {
    let new = root.join("new");
    std::fs::write(&new, script).map_err(|e| e.to_string())?;
    std::fs::rename(&new, root.join("do")).map_err(|e| e.to_string())?;
    wait_for("obedience", 10, || root.join("done").exists().then_some(()))
}

fn goes_on(root: &std::path::Path) -> Outcome {
    let before = number(&root.join("tmp/n"));
    wait_for("the container to go on", 5, || (number(&root.join("tmp/n")) > before).then_some(()))
}

fn reads(path: &std::path::Path, text: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|t| t.lines().any(|l| l == text))
}

fn itself() -> Outcome {
    let mut daemon = Daemon::start()?;
    for (name, script) in [
        ("t-pi", "echo 1 > /sys/fs/cgroup/cgroup.freeze"),
        (
            "t-pj",
            "mkdir -p /sys/fs/cgroup/a; echo 1 > /sys/fs/cgroup/a/cgroup.procs; echo 1 > /sys/fs/cgroup/a/cgroup.freeze",
        ),
    ] {
        let root = counter_that_obeys(&daemon, name, "")?;
        let payload = limited(&daemon, name)?.join("payload");
        obey(&root, script)?;
        let frozen = || ["", "a"].iter().any(|g| reads(&payload.join(g).join("cgroup.events"), "frozen 1"));
        wait_for("the freeze", 10, || frozen().then_some(()))?;
        for round in ["before", "after"] {
            let state = daemon.ok(&["domstate", name])?;
            ensure_eq!(state, "running\n\n", "the state {round} the restart");
            let refused = daemon.virsh(&["shutdown", name])?.fails()?;
            ensure!(refused.contains("the container has frozen itself: resume the domain"), "{refused}");
            daemon.restart()?;
        }
        daemon.ok(&["resume", name])?;
        goes_on(&root)?;
        ensure!(
            daemon.virsh(&["resume", name])?.fails()?.contains("domain is already running"),
            "a second time"
        );
        // What froze itself can be suspended, and one resume ends both.
        std::fs::remove_file(root.join("done")).map_err(|e| e.to_string())?;
        obey(&root, script)?;
        wait_for("the freeze", 10, || frozen().then_some(()))?;
        daemon.ok(&["suspend", name])?;
        ensure_eq!(daemon.ok(&["domstate", name, "--reason"])?, "paused (user)\n\n", "the state");
        daemon.ok(&["resume", name])?;
        goes_on(&root)?;
        daemon.ok(&["destroy", name])?;
    }
    Ok(())
}

/// A descriptor of the container's own file may be anywhere: what is written there does not end a suspend.
fn nobody_but_the_host() -> Outcome {
    let mut daemon = Daemon::start()?;
    let root = counter_that_obeys(&daemon, "t-pn", "")?;
    let group = limited(&daemon, "t-pn")?;
    daemon.ok(&["suspend", "t-pn"])?;
    let before = number(&root.join("tmp/n"));
    std::fs::write(group.join("payload/cgroup.freeze"), "0").map_err(|e| e.to_string())?;
    std::thread::sleep(Duration::from_millis(300));
    ensure_eq!(number(&root.join("tmp/n")), before, "what a paused container counts");
    ensure!(reads(&group.join("../controller/cgroup.events"), "frozen 0"), "the controller stands");
    daemon.restart()?;
    ensure_eq!(daemon.ok(&["domstate", "t-pn", "--reason"])?, "paused (user)\n\n", "the state");
    daemon.ok(&["resume", "t-pn"])?;
    goes_on(&root)?;
    daemon.ok(&["destroy", "t-pn"]).map(drop)
}

fn anew() -> Outcome {
    let daemon = Daemon::start()?;
    let root = counter_that_obeys(&daemon, "t-pa", "<on_crash>restart</on_crash>")?;
    daemon.ok(&["suspend", "t-pa"])?;
    let init = daemon.pid_of("t-pa", "initPid")?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(init), nix::sys::signal::Signal::SIGKILL)
        .map_err(|e| e.to_string())?;
    wait_for("another init", 20, || daemon.pid_of("t-pa", "initPid").ok().filter(|pid| *pid != init))?;
    daemon.wait_state("t-pa", "running (restarted)", 5)?;
    goes_on(&root)?;
    daemon.ok(&["destroy", "t-pa"]).map(drop)
}

fn older() -> Outcome {
    let mut daemon = Daemon::start()?;
    let root = counter_that_obeys(&daemon, "t-po", "")?;
    let group = limited(&daemon, "t-po")?;
    daemon.ok(&["suspend", "t-po"])?;
    // As one did it that froze the container's own group.
    for (file, value) in [("payload/cgroup.freeze", "1"), ("cgroup.freeze", "0")] {
        std::fs::write(group.join(file), value).map_err(|e| e.to_string())?;
    }
    daemon.restart()?;
    ensure_eq!(daemon.ok(&["domstate", "t-po", "--reason"])?, "paused (user)\n\n", "the state");
    daemon.ok(&["resume", "t-po"])?;
    goes_on(&root)?;
    daemon.ok(&["destroy", "t-po"]).map(drop)
}

/// The freezer of version 1 holds even what is killed.
fn stopped() -> Outcome {
    const BEGIN: &str = "mkdir -p /tmp/f; mount -t cgroup -o freezer none /tmp/f || touch /none; \
        mkdir -p /tmp/f/a; echo 1 > /tmp/f/a/cgroup.procs; echo FROZEN > /tmp/f";
    let daemon = Daemon::start()?;
    for (end, group) in [("resume", "/a"), ("suspend", ""), ("destroy", "/a"), ("kill", "")] {
        let name = &format!("t-pv{end}");
        let root = counter_that_obeys(&daemon, name, "")?;
        let controller = daemon.pid_of(name, "id")?;
        // Once it is written nothing more is.
        obey(&root, &format!("{BEGIN}{group}/freezer.state"))?;
        if root.join("none").exists() {
            println!("the host has no freezer of version 1");
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
        ensure_eq!(daemon.ok(&["domstate", name])?, "running\n\n", "the state");
        let begin = Instant::now();
        match end {
            "kill" => {
                let pid = nix::unistd::Pid::from_raw(controller);
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).map_err(|e| e.to_string())?;
                daemon.wait_state(name, "shut off (crashed)", 5)?;
                continue;
            }
            "suspend" => {
                daemon.ok(&["suspend", name])?;
                daemon.ok(&["resume", name])?;
                goes_on(&root)?;
            }
            "resume" => {
                daemon.ok(&["resume", name])?;
                goes_on(&root)?;
            }
            _ => {}
        }
        daemon.ok(&["destroy", name])?;
        println!("{end}: {:?}", begin.elapsed());
        ensure!(begin.elapsed() < Duration::from_secs(3), "it took {:?}", begin.elapsed());
    }
    Ok(())
}

/// What manages containers inside has one of them frozen.
fn left_frozen() -> Outcome {
    let daemon = Daemon::start()?;
    let root = counter_that_obeys(&daemon, "t-pl", "")?;
    let script = "mkdir -p /tmp/f; mount -t cgroup -o freezer none /tmp/f || touch /none; mkdir -p /tmp/f/a; \
        sh -c 'while :; do date +%N > /tmp/inner; sleep 0.01; done' & echo $! > /tmp/f/a/cgroup.procs; sleep 0.1; \
        echo FROZEN > /tmp/f/a/freezer.state";
    obey(&root, script)?;
    if root.join("none").exists() {
        println!("the host has no freezer of version 1");
        return Ok(());
    }
    let state = || std::fs::read_to_string(root.join("tmp/inner")).unwrap_or_default();
    goes_on(&root)?;
    let inner = state();
    let begin = Instant::now();
    daemon.ok(&["suspend", "t-pl"])?;
    ensure!(begin.elapsed() < Duration::from_secs(2), "it took {:?}", begin.elapsed());
    let before = number(&root.join("tmp/n"));
    std::thread::sleep(Duration::from_millis(300));
    ensure_eq!(number(&root.join("tmp/n")), before, "what a paused container counts");
    daemon.ok(&["resume", "t-pl"])?;
    goes_on(&root)?;
    ensure_eq!(state(), inner, "what was frozen inside");
    std::fs::remove_file(root.join("done")).map_err(|e| e.to_string())?;
    obey(&root, "echo THAWED > /tmp/f/a/freezer.state")?;
    wait_for("the inner one to go on", 5, || (state() != inner).then_some(()))?;
    daemon.ok(&["destroy", "t-pl"]).map(drop)
}
