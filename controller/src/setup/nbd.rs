//! Images in formats that only qemu-nbd(8) reads: one server process for each, as a child of the controller.
//!
//! The server ends with the controller, in whatever way that ends. This module does not know what is in the image.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use berth_sys::exec::{Image, exec};
use berth_sys::poll::{IN, PollSet};
use berth_sys::process::{Cloned, clone, exit_now, send_signal};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Signal, WaitId, WaitIdOptions, waitid};

use crate::failure::{Doing, Outcome};

use super::cgroup;
use super::host_device::Wanted;

/// Where the kernel shows block devices.
const BLOCK: &str = "/sys/block";

/// Longest time until a server serves, and until it ends when it is asked to.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running qemu-nbd. Ends when it is dropped.
#[derive(Debug)]
pub struct Server {
    /// Path of the device.
    pub device: String,
    process: OwnedFd,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It writes what it still has.
        let _ = send_signal(self.process.as_fd(), Signal::TERM.as_raw());
        if !ended(&self.process, PATIENCE) {
            let _ = send_signal(self.process.as_fd(), Signal::KILL.as_raw());
        }
        let _ = waitid(WaitId::PidFd(self.process.as_fd()), WaitIdOptions::EXITED);
    }
}

/// Whether a process ends within a time. It is not reaped.
fn ended(process: &OwnedFd, time: Duration) -> bool {
    let mut set = PollSet::default();
    set.add(process, IN, ());
    set.wait(Some(time)).is_ok() && set.happened(0).is_some()
}

/// A number in a file of a device's folder in sysfs.
fn number(device: &str, file: &str) -> Option<u64> {
    std::fs::read_to_string(format!("{BLOCK}/{device}/{file}")).ok()?.trim().parse().ok()
}

/// The first device that serves nothing.
fn find_free() -> Option<String> {
    let names = (0..).map(|n| format!("nbd{n}"));
    let mut there = names.take_while(|name| Path::new(BLOCK).join(name).exists());
    there.find(|name| number(name, "size") == Some(0) && number(name, "pid").is_none())
}

/// Serves an image as a device.
pub fn serve(wanted: &Wanted<'_>) -> Outcome<Server> {
    let doing = Doing::new(wanted.step, "serve by qemu-nbd").path(wanted.source);
    let Some(program) = wanted.qemu_nbd else {
        return Err(doing.refused("qemu-nbd is not installed"));
    };
    if !Path::new(BLOCK).join("nbd0").exists() {
        return Err(doing.refused("the kernel has no '/dev/nbd0'"));
    }
    let Some(name) = find_free() else { return Err(doing.refused("all devices '/dev/nbdN' are in use")) };
    let device = format!("/dev/{name}");
    let process = run(wanted, program, &device)?;
    let server = Server { device, process };
    let deadline = Instant::now() + PATIENCE;
    while number(&name, "size").unwrap_or(0) == 0 {
        if ended(&server.process, Duration::from_millis(20)) {
            return Err(doing.refused("qemu-nbd has ended; what it said is in the controller's log"));
        }
        if Instant::now() > deadline {
            return Err(doing.refused(format!("'{}' is still empty after 10 s", server.device)));
        }
    }
    Ok(server)
}

/// Its arguments. With `--verbose` it stays in the foreground, and says on standard error what it does.
fn arguments(wanted: &Wanted<'_>, program: &str, device: &str) -> Vec<String> {
    let mut all = vec![program.to_owned(), "--verbose".into(), format!("--connect={device}")];
    all.extend(wanted.format.map(|format| format!("--format={format}")));
    all.extend(wanted.readonly.then(|| "--read-only".to_owned()));
    all.extend(["--".to_owned(), wanted.source.to_owned()]);
    all
}

fn run(wanted: &Wanted<'_>, program: &str, device: &str) -> Outcome<OwnedFd> {
    let doing = |operation| Doing::new(wanted.step, operation).path(program);
    let words =
        arguments(wanted, program, device).into_iter().map(CString::new).collect::<Result<Vec<_>, _>>();
    let words = words.map_err(|_| doing("run").refused("an argument has a zero byte"))?;
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Doing::new(wanted.step, "open").path("/dev/null").failed(e))?;
    let ourselves = rustix::process::getpid();
    // There from the beginning: AppArmor makes it forget that it is to end with us (apparmor_bprm_committing_creds of the
    // kernel), and then it ends with the group.
    let group = cgroup::make_own(wanted.groups)?;
    let made = clone(0, Some(group.as_fd())).or_else(|_| clone(0, None));
    match made.map_err(|e| doing("clone3").failed(e))? {
        Cloned::Parent { pidfd, .. } => Ok(pidfd),
        Cloned::Child => {
            // Asked politely: it may have something to write.
            let _ = rustix::process::set_parent_process_death_signal(Some(Signal::TERM));
            if rustix::process::getppid() != Some(ourselves) {
                // The controller died before that call.
                exit_now(127);
            }
            let _ = rustix::process::setsid();
            // The controller reads signals from a descriptor; this one must get them, or it would never end.
            berth_sys::signal::reset();
            let log = rustix::stdio::stderr();
            let descriptors = [null.as_fd(), log, log];
            let environment = [c"PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_owned()];
            let Ok(report) = rustix::io::dup(&null) else { exit_now(127) };
            let image = Image {
                path: &words[0],
                arguments: &words,
                environment: &environment,
                descriptors: &descriptors,
            };
            let (errno, _) = exec(&image, report);
            crate::note(&format!("cannot run '{program}': {errno}"));
            exit_now(127)
        }
    }
}

#[cfg(test)]
mod test {
    use berth_schemas::controller::{PlanBacking, PlanCgroups, PlanDeviceKind};

    use super::*;
    use crate::failure::Step;

    static GROUPS: PlanCgroups =
        PlanCgroups { unified: String::new(), legacy: Vec::new(), legacy_memory: None };

    fn wanted(qemu_nbd: Option<&'static str>) -> Wanted<'static> {
        Wanted {
            step: Step::Nodes,
            kind: PlanDeviceKind::Block,
            source: "/srv/-disk",
            backing: PlanBacking::Nbd,
            format: Some("qcow2"),
            readonly: true,
            qemu_nbd,
            groups: &GROUPS,
        }
    }

    #[test]
    fn the_image_is_no_option() {
        assert_eq!(
            arguments(&wanted(None), "/usr/bin/qemu-nbd", "/dev/nbd3"),
            [
                "/usr/bin/qemu-nbd",
                "--verbose",
                "--connect=/dev/nbd3",
                "--format=qcow2",
                "--read-only",
                "--",
                "/srv/-disk"
            ]
        );
    }

    #[test]
    fn what_is_missing_is_said() {
        let failure = serve(&wanted(None)).expect_err("no program");
        assert_eq!(failure.detail.as_deref(), Some("qemu-nbd is not installed"));
        if !Path::new("/sys/block/nbd0").exists() {
            let failure = serve(&wanted(Some("/bin/false"))).expect_err("no device");
            assert_eq!(failure.detail.as_deref(), Some("the kernel has no '/dev/nbd0'"));
        }
    }
}
