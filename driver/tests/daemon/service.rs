//! What the service manager is told and asks for.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::Test;
use crate::harness::{Daemon, wait};

pub const TESTS: &[Test] = &[
    ("service::is_told_that_the_daemon_is_ready_and_lives", told),
    ("service::settings_are_read_again", reloaded),
    ("service::a_descriptor_that_cannot_serve_is_refused", no_socket),
];

fn told() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("bound");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    let next = || {
        let mut bytes = [0; 256];
        let count = socket.recv(&mut bytes).expect("news");
        String::from_utf8_lossy(&bytes[..count]).trim().to_owned()
    };
    let mut daemon = Daemon::start();
    daemon.kill();
    daemon.environment.push(("NOTIFY_SOCKET".into(), path.display().to_string()));
    daemon.environment.push(("WATCHDOG_USEC".into(), "300000".into()));
    daemon.launch();
    assert_eq!(next(), "READY=1");
    for _ in 0..3 {
        assert_eq!(next(), "WATCHDOG=1");
    }
    // Neither goes on to a container's controller, which is fake here and ends if it has an environment.
    daemon.begin("web");
    daemon.stop();
    wait("the last news", || Some(next()).filter(|n| n == "STOPPING=1"));
}

/// Before it says that it is ready: nobody would ever reach it.
fn no_socket() {
    let folder = tempfile::tempdir().expect("folder");
    let output = std::process::Command::new("sh")
        .args(["-c", "exec 3</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" --root \"$1\""])
        .arg(env!("CARGO_BIN_EXE_berthd"))
        .arg(folder.path())
        .output()
        .expect("run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("it is not a unix stream socket that listens"), "{said}");
    assert!(!said.contains("ready"), "{said}");
}

fn reloaded() {
    let daemon = Daemon::start();
    let settings = daemon.path("etc/berth/berthd.toml");
    let reload = |text: &str, says: &str| {
        std::fs::write(&settings, text).expect("written");
        let pid = rustix::process::Pid::from_raw(daemon.pid().cast_signed()).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("signalled");
        wait(says, || daemon.log().contains(says).then_some(()));
    };
    reload("[console-log]\nkeep = 1\n", "settings were read again");
    // A mistake does not end the daemon.
    reload("kepp = 1\n", "settings stay as they were: '");
    assert!(daemon.log().contains("berthd.toml', line 1: unknown field `kepp`"), "{}", daemon.log());
    daemon.begin("web");
}
