//! What the daemon and a service manager tell each other; the service manager is a socket of the test's own.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use berth_tests::daemon::Daemon;
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, patient};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub const TESTS: &[Test] = &[
    ("service::a_reload_is_told_from_its_begin_to_its_end", reload),
    ("service::no_reload_ends_a_daemon_that_begins", early),
];

/// A service manager that is told things.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Result<Self, String> {
        let socket = UnixDatagram::bind(path).map_err(|e| format!("cannot listen: {e}"))?;
        socket.set_read_timeout(Some(patient(10))).map_err(|e| e.to_string())?;
        Ok(Self(socket))
    }

    /// The next thing that it is told, but that the daemon lives.
    fn told(&self) -> Result<String, String> {
        let mut buffer = [0; 4096];
        let count = self.0.recv(&mut buffer).map_err(|e| format!("the daemon tells nothing: {e}"))?;
        Ok(String::from_utf8_lossy(&buffer[..count]).into_owned())
    }
}

fn hang_up(daemon: &Daemon) -> Outcome {
    kill(Pid::from_raw(daemon.pid()), Signal::SIGHUP).map_err(|e| format!("SIGHUP: {e}"))
}

fn reload() -> Outcome {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let path = folder.path().join("notify");
    let manager = Manager::at(&path)?;
    let mut daemon = Daemon::start_with(&[("NOTIFY_SOCKET", &path.display().to_string())])?;
    ensure_eq!(manager.told()?, "READY=1\n", "at the start");
    let settings = daemon.root().join("etc/berth/berthd.toml");
    let mut last = 0;
    for (text, says) in [
        ("", "settings were read again"),
        ("nonsense = 1\n", "settings stay as they were: "),
        ("[console_log]\nkeep = \"x\n", "settings stay as they were: "),
        ("# good\n", "settings were read again"),
    ] {
        fs::write(&settings, text).map_err(|e| format!("cannot write the settings: {e}"))?;
        hang_up(&daemon)?;
        let begin = manager.told()?;
        let time = begin.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|t| t.trim_end().parse().ok());
        let time: u64 = time.ok_or_else(|| format!("no begin and its time: {begin}"))?;
        ensure!(time > last, "the clock went from {last} to {time}");
        last = time;
        let end = manager.told()?;
        ensure!(end.starts_with(&format!("READY=1\nSTATUS={says}")), "the end with '{text}': {end}");
        ensure_eq!(end.lines().count(), 2, "the lines of {end}");
        let reason = end.contains(&settings.display().to_string());
        ensure_eq!(reason, says.contains("stay"), "whether a file is named in {end}");
    }
    daemon.stop()?;
    ensure_eq!(manager.told()?, "STOPPING=1\n", "at the end");
    Ok(())
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
