//! Init's working directory.

use berth_schemas::controller::LaunchPlan;
use rustix::fs::{OFlags, ResolveFlags};
use rustix::process::fchdir;

use crate::failure::{Doing, Outcome, Step};

use super::resolve::open_inside;
use super::rootfs::Inside;

/// Goes there, as the user that init is: no magic link, so /proc/self/fd leads nowhere (CVE-2024-21626).
pub fn enter(inside: &Inside<'_>, plan: &LaunchPlan) -> Outcome<()> {
    let path = plan.init.directory.as_deref().unwrap_or("/");
    let doing = Doing::new(Step::Directory, "chdir").path(path);
    open_inside(inside.root(), path, OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::empty())
        .and_then(fchdir)
        .map_err(|e| doing.failed(e))
}
