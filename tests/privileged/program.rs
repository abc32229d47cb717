//! What of ours a container's processes could ever lay hands on: the controller's program (invariant I5).

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;

use berth_tests::daemon::{Daemon, domain_xml};
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};

pub const TESTS: &[Test] = &[
    ("program::the_controller_runs_from_sealed_memory", sealed),
    ("program::an_upgrade_below_the_daemon_does_not_matter", upgraded),
];

fn sealed() -> Outcome {
    let mut daemon = Daemon::start()?;
    let root = daemon.busybox("t-i5")?;
    daemon.define("t-i5", &domain_xml("t-i5", &root, &["/bin/sh"], ""))?;
    daemon.ok(&["start", "t-i5"])?;
    let pid = daemon.pid_of("t-i5", "id")?;
    let exe = format!("/proc/{pid}/exe");
    let link = fs::read_link(&exe).map_err(|e| e.to_string())?;
    ensure!(link.to_string_lossy().starts_with("/memfd:berth-controller"), "{}", link.display());
    let program = File::open(&exe).map_err(|e| e.to_string())?;
    let seals = fcntl(&program, FcntlArg::F_GET_SEALS).map_err(|e| e.to_string())?;
    let all =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    ensure_eq!(SealFlag::from_bits_truncate(seals), all, "the seals");
    // By the way that CVE-2019-5736 went: the program is opened again for writing, with all rights of root.
    let again = File::options().write(true).open(format!("/proc/self/fd/{}", program.as_raw_fd()));
    ensure!(again.and_then(|mut f| f.write(b"#!")).is_err(), "the running program could be written to");
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).map_err(|e| e.to_string())?;
    ensure_eq!(name.trim_end(), "berth-controlle", "the name in ps");
    daemon.ok(&["destroy", "t-i5"])?;
    daemon.stop()
}

/// Whether the copy is made when the daemon starts: what lies on disk afterwards is not run.
fn upgraded() -> Outcome {
    let mut daemon = Daemon::start()?;
    let root = daemon.busybox("t-up")?;
    daemon.define("t-up", &domain_xml("t-up", &root, &["/bin/sh"], ""))?;
    daemon.stop()?;
    let program = daemon.work().join("berth-controller");
    fs::copy(berth_tests::daemon::dist()?.join("berth-controller"), &program).map_err(|e| e.to_string())?;
    daemon.set_controller(&program);
    daemon.launch()?;
    fs::remove_file(&program).map_err(|e| e.to_string())?;
    fs::write(&program, "no program").map_err(|e| e.to_string())?;
    daemon.ok(&["start", "t-up"])?;
    daemon.ok(&["destroy", "t-up"])?;
    daemon.stop()
}
