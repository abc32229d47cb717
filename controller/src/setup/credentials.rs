//! What services inside are told in confidence: files that root inside may read, and nobody may change.
//!
//! In a ramfs, which is never swapped out. Source: systemd's container interface, "Credentials".

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_schemas::controller::LaunchPlan;
use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::{Errno, pread};

use crate::failure::{Doing, Outcome, Step};
use crate::files::write_all;

use super::inside::descriptor;
use super::mounts;

/// Where they are inside.
pub const PATH: &str = "/run/host/credentials";

/// Mounts them in the directory `host`, which is /run/host. Nothing is there without any.
pub fn mount(plan: &LaunchPlan, descriptors: &[OwnedFd], host: BorrowedFd<'_>) -> Outcome<()> {
    if plan.credentials.is_empty() {
        return Ok(());
    }
    let failed = |operation| move |e| Doing::new(Step::Run, operation).path(PATH).failed(e);
    let memory = mounts::make("ramfs", &[("mode", "0500")], mounts::data_only()).map_err(failed("mount"))?;
    for credential in &plan.credentials {
        let from = descriptor(Step::Run, descriptors, credential.file_descriptor)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&memory, credential.name.as_str(), flags, Mode::from_raw_mode(0o400))
            .and_then(|to| copy(from, &to))
            .map_err(|e| Doing::new(Step::Run, "write").path(&credential.name).target(PATH).failed(e))?;
    }
    berth_sys::mount::set_attributes(memory.as_fd(), false, berth_sys::mount::RDONLY, 0)
        .map_err(failed("mount_setattr"))?;
    mkdirat(host, "credentials", Mode::from_raw_mode(0o500)).map_err(failed("mkdir"))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let point = openat(host, "credentials", flags, Mode::empty()).map_err(failed("open"))?;
    mounts::attach(memory.as_fd(), point.as_fd()).map_err(failed("move_mount"))
}

/// From the beginning, whoever has read it before: a container that is started again gets the same.
fn copy(from: BorrowedFd<'_>, to: &OwnedFd) -> Result<(), Errno> {
    let mut buffer = [0; 4096];
    let mut at = 0;
    loop {
        let length = pread(from, &mut buffer[..], at)?;
        if length == 0 {
            return Ok(());
        }
        write_all(to, &buffer[..length])?;
        at += length as u64;
    }
}
