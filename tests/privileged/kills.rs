//! SIGKILL at every named step: of the daemon, the controller, and the future init. Nothing may be left.

use std::path::PathBuf;

use berth_tests::daemon::{Daemon, domain_xml};
use berth_tests::host::{Traces, alive};
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, wait_for};

pub const TESTS: &[Test] = &[
    ("kills::controller_and_future_init_at_each_step_of_start", start),
    ("kills::controller_at_each_step_of_run_and_stop", run_and_stop),
    ("kills::daemon_at_each_step_of_start", daemon_start),
    ("kills::daemon_at_each_step_of_stop", daemon_stop),
    ("kills::init_at_any_moment", init),
];

/// The steps of a start: in the controller up to `clone`, then in the future init, then in the controller again.
/// `controller/src/failure.rs` has the table; the test of it there keeps these names.
const START: &[&str] = &[
    "plan",
    "descriptors",
    "cgroup",
    "ids",
    "consoles",
    "dev",
    "nodes",
    "sources",
    "rules",
    "clone",
    "namespaces",
    "limits",
    "interfaces",
    "root",
    "pivot",
    "proc",
    "sys",
    "devices",
    "run",
    "filesystems",
    "readonly",
    "hide",
    "network",
    "hostname",
    "user",
    "terminal",
    "capabilities",
    "profile",
    "system-calls",
    "directory",
    "exec",
];

struct Victim {
    daemon: Daemon,
    name: String,
    before: Traces,
    root: PathBuf,
}

impl Victim {
    fn new(name: &str, script: &str) -> Result<Self, String> {
        let daemon = Daemon::start()?;
        let root = daemon.busybox(name)?;
        let devices =
            "    <filesystem type='ram'><source usage='64'/><target dir='/mnt/made'/></filesystem>\n";
        daemon.define(name, &domain_xml(name, &root, &["/bin/sh", "-c", script], devices))?;
        // One whole round first: after it, everything that is made once and kept is there.
        let victim = Self { before: Traces::of(name, daemon.work()), name: name.to_owned(), daemon, root };
        victim.daemon.ok(&["start", name])?;
        victim.daemon.ok(&["destroy", name])?;
        victim.nothing_left("a round without a kill")?;
        Ok(victim)
    }

    /// A new daemon that kills at a step.
    fn kill_at(&mut self, step: &str) -> Outcome {
        self.daemon.kill();
        self.daemon.set_environment(&[("BERTH_KILL_AT", step)]);
        self.daemon.launch()
    }

    /// A new daemon that kills nowhere.
    fn calm(&mut self) -> Outcome {
        self.daemon.kill();
        self.daemon.set_environment(&[]);
        self.daemon.launch()
    }

    fn nothing_left(&self, after: &str) -> Outcome {
        // A mount point that a killed controller had made cannot be told from the user's own any more.
        let left: Vec<String> = Traces::of(&self.name, self.daemon.work())
            .difference(&self.before)
            .into_iter()
            .filter(|t| !t.contains(".root/mnt"))
            .collect();
        ensure_eq!(left, Vec::<String>::new(), "residue after {after}");
        Ok(())
    }

    fn still_works(&self, after: &str) -> Outcome {
        let name = self.name.as_str();
        self.daemon.ok(&["start", name]).map_err(|e| format!("after {after}: {e}"))?;
        self.daemon.ok(&["destroy", name]).map_err(|e| format!("after {after}: {e}"))?;
        self.nothing_left(after)
    }
}

const WAIT: &str = "while :; do sleep 1000; done";

fn start() -> Outcome {
    let mut victim = Victim::new("t-k1", WAIT)?;
    for step in START {
        victim.kill_at(step)?;
        let error = victim.daemon.virsh(&["start", "t-k1"])?.fails().map_err(|e| format!("{step}: {e}"))?;
        ensure!(error.starts_with("error: Failed to start domain 't-k1'\nerror: "), "{step}: {error}");
        victim.nothing_left(&format!("a kill at '{step}'"))?;
        ensure!(victim.daemon.state("t-k1")?.starts_with("shut off"), "{step}: the state");
    }
    victim.calm()?;
    victim.still_works("all kills")
}

fn run_and_stop() -> Outcome {
    let mut victim =
        Victim::new("t-k2", "while [ ! -e /tmp/go ]; do sleep 0.05; done; rm /tmp/go; reboot -f")?;
    // As soon as init runs. Whether the daemon has heard of the launch by then is open: either the start failed and the
    // state is the one before, or it succeeded and the domain crashed.
    victim.kill_at("running")?;
    let before = victim.daemon.state("t-k2")?;
    let started = victim.daemon.virsh(&["start", "t-k2"])?.status == 0;
    let expected = if started { "shut off (crashed)" } else { before.as_str() };
    victim.daemon.wait_state("t-k2", expected, 5)?;
    victim.nothing_left("a kill at 'running'")?;
    // While it restarts.
    victim.kill_at("restart")?;
    victim.daemon.ok(&["start", "t-k2"])?;
    std::fs::write(victim.root.join("tmp/go"), "").map_err(|e| e.to_string())?;
    victim.daemon.wait_state("t-k2", "shut off (crashed)", 10)?;
    let _ = std::fs::remove_file(victim.root.join("tmp/go"));
    victim.nothing_left("a kill at 'restart'")?;
    // While it is stopped.
    for step in ["stop", "ended"] {
        victim.kill_at(step)?;
        victim.daemon.ok(&["start", "t-k2"])?;
        let _ = victim.daemon.virsh(&["destroy", "t-k2"])?;
        wait_for("the end", 5, || victim.daemon.state("t-k2").ok().filter(|s| s.starts_with("shut off")))?;
        victim.nothing_left(&format!("a kill at '{step}'"))?;
    }
    victim.calm()?;
    victim.still_works("all kills")
}

fn daemon_start() -> Outcome {
    let mut victim = Victim::new("t-k3", WAIT)?;
    for step in ["prepared", "profile", "cgroup", "spawned", "launched", "published"] {
        victim.kill_at(&format!("daemon:{step}"))?;
        let printed = victim.daemon.virsh(&["start", "t-k3"])?;
        ensure!(printed.status != 0, "the daemon was not killed at '{step}'");
        victim.daemon.wait_dead(5)?;
        victim.calm()?;
        // Either it is running and ours, or it never was: both are right, nothing between is.
        let state = victim.daemon.state("t-k3")?;
        if state.starts_with("running") {
            ensure!(alive(victim.daemon.pid_of("t-k3", "initPid")?), "'{step}': init is not there");
            victim.daemon.ok(&["destroy", "t-k3"])?;
        } else {
            ensure!(state.starts_with("shut off"), "'{step}': the state is {state}");
        }
        victim.nothing_left(&format!("a kill of the daemon at '{step}'"))?;
    }
    victim.still_works("all kills")
}

fn daemon_stop() -> Outcome {
    let mut victim = Victim::new("t-k4", WAIT)?;
    for step in ["stopping", "cleaned"] {
        victim.daemon.ok(&["start", "t-k4"])?;
        victim.kill_at(&format!("daemon:{step}"))?;
        let printed = victim.daemon.virsh(&["destroy", "t-k4"])?;
        ensure!(printed.status != 0, "the daemon was not killed at '{step}'");
        victim.daemon.wait_dead(5)?;
        victim.calm()?;
        victim.daemon.wait_state("t-k4", "shut off (destroyed)", 5).map_err(|e| format!("'{step}': {e}"))?;
        victim.nothing_left(&format!("a kill of the daemon at '{step}'"))?;
    }
    victim.still_works("all kills")
}

fn init() -> Outcome {
    let victim = Victim::new("t-k5", WAIT)?;
    for pause in [0, 1, 2, 5, 20] {
        victim.daemon.ok(&["start", "t-k5"])?;
        std::thread::sleep(std::time::Duration::from_millis(pause));
        let pid = nix::unistd::Pid::from_raw(victim.daemon.pid_of("t-k5", "initPid")?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).map_err(|e| e.to_string())?;
        victim.daemon.wait_state("t-k5", "shut off (crashed)", 5)?;
        victim.nothing_left("a kill of init")?;
    }
    Ok(())
}
