//! What a service manager asks of the daemon.

use std::fs;

use berth_tests::daemon::Daemon;
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub const TESTS: &[Test] = &[("service::no_reload_ends_a_daemon_that_begins", early)];

fn hang_up(daemon: &Daemon) -> Outcome {
    kill(Pid::from_raw(daemon.pid()), Signal::SIGHUP).map_err(|e| format!("SIGHUP: {e}"))
}

/// Whether a process waits for a signal, by its line in `/proc/PID/status`.
fn waits_for(status: &str, signal: Signal) -> bool {
    let caught = status.lines().find_map(|l| l.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    caught & (1 << (signal as u64 - 1)) != 0
}

/// From when on it ends in order it also takes a SIGHUP.
fn early() -> Outcome {
    let mut daemon = Daemon::start()?;
    for _ in 0..5 {
        daemon.stop()?;
        daemon.spawn()?;
        let path = format!("/proc/{}/status", daemon.pid());
        let status = loop {
            let status = fs::read_to_string(&path).map_err(|e| format!("the daemon: {e}"))?;
            if waits_for(&status, Signal::SIGTERM) {
                break status;
            }
        };
        ensure!(waits_for(&status, Signal::SIGHUP), "a SIGHUP would end it: {status}");
        hang_up(&daemon)?;
        berth_tests::wait_for("the reload", 15, || {
            daemon.log().contains("settings were read again").then_some(())
        })?;
        fs::write(daemon.work().join("berthd.log"), "").map_err(|e| e.to_string())?;
    }
    Ok(())
}
