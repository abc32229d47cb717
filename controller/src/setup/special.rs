//! /proc, /sys and /run.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::failure::{Doing, Outcome, Step};
use crate::files::write_all;

use super::inside::Prepared;
use super::rootfs::Inside;
use super::{credentials, mounts, notify, resolve};

/// The container's own procfs: /proc/sys read-only, but not what belongs to a network of its own.
pub fn mount_proc(inside: &Inside<'_>, own_network: bool) -> Outcome<()> {
    let point = inside.plain_directory(Step::Proc, "/proc")?;
    let doing = |operation| Doing::new(Step::Proc, operation);
    let proc = mounts::make("proc", &[], mounts::data_only())
        .map_err(|e| doing("mount").path("proc").target("/proc").failed(e))?;
    mounts::attach(proc.as_fd(), point.as_fd())
        .map_err(|e| doing("move_mount").path("proc").target("/proc").failed(e))?;
    let net = if own_network { Some(part_of(&proc, "sys/net", false)?) } else { None };
    let sys = part_of(&proc, "sys", true)?;
    put_over(&proc, "sys", sys.as_fd())?;
    match net {
        // Looked up from the new read-only mount, as a lookup does not follow what is mounted on its start.
        Some(net) => put_over(&sys, "net", net.as_fd()),
        None => Ok(()),
    }
}

fn part_of(proc: &OwnedFd, path: &str, readonly: bool) -> Outcome<OwnedFd> {
    let doing = |operation| Doing::new(Step::Proc, operation).path(path);
    let from = open_plain(proc, path).map_err(|e| doing("open").failed(e))?;
    let tree = mounts::clone_tree(from.as_fd(), false).map_err(|e| doing("open_tree").failed(e))?;
    if readonly {
        berth_sys::mount::set_attributes(tree.as_fd(), false, berth_sys::mount::RDONLY, 0)
            .map_err(|e| doing("mount_setattr").failed(e))?;
    }
    Ok(tree)
}

fn put_over(at: &OwnedFd, path: &str, tree: BorrowedFd<'_>) -> Outcome<()> {
    let doing = |operation| Doing::new(Step::Proc, operation).path(path);
    let point = open_plain(at, path).map_err(|e| doing("open").failed(e))?;
    mounts::attach(tree, point.as_fd()).map_err(|e| doing("move_mount").failed(e))
}

fn open_plain(at: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    resolve::open_inside(at, path, OFlags::PATH, ResolveFlags::NO_SYMLINKS)
}

/// sysfs, read-only, and the v2 control groups from the container's own group on. Only those: with the v1 hierarchies
/// of a hybrid host beside them a current systemd does not boot.
pub fn mount_sys(inside: &Inside<'_>) -> Outcome<()> {
    let point = inside.plain_directory(Step::Sys, "/sys")?;
    let doing = |operation| Doing::new(Step::Sys, operation);
    let sys = mounts::make("sysfs", &[], mounts::data_only() | MountAttrFlags::MOUNT_ATTR_RDONLY)
        .map_err(|e| doing("mount").path("sysfs").target("/sys").failed(e))?;
    mounts::attach(sys.as_fd(), point.as_fd())
        .map_err(|e| doing("move_mount").path("sysfs").target("/sys").failed(e))?;
    let groups = mounts::make("cgroup2", &[], mounts::data_only())
        .map_err(|e| doing("mount").path("cgroup2").target("/sys/fs/cgroup").failed(e))?;
    let point = open_plain(&sys, "fs/cgroup").map_err(|e| doing("open").path("/sys/fs/cgroup").failed(e))?;
    mounts::attach(groups.as_fd(), point.as_fd())
        .map_err(|e| doing("move_mount").path("cgroup2").target("/sys/fs/cgroup").failed(e))
}

/// A tmpfs at /run, if the root has that directory, with what systemd's container interface wants to be told there.
pub fn mount_run(inside: &Inside<'_>, p: &Prepared<'_>) -> Outcome<()> {
    let found = resolve::open_inside(inside.root(), "/run", OFlags::PATH, ResolveFlags::NO_SYMLINKS);
    let point = found.ok().filter(|point| resolve::kind(point).ok() == Some(FileType::Directory));
    let doing = |operation| Doing::new(Step::Run, operation);
    let Some(point) = point else {
        let wanted = !p.plan.credentials.is_empty();
        let refused = || doing("open").path("/run").refused("credentials need such a directory");
        return if wanted { Err(refused()) } else { Ok(()) };
    };
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let run = mounts::make("tmpfs", &[("mode", "0755")], attributes)
        .map_err(|e| doing("mount").path("tmpfs").target("/run").failed(e))?;
    mounts::attach(run.as_fd(), point.as_fd())
        .map_err(|e| doing("move_mount").path("tmpfs").target("/run").failed(e))?;
    let failed = |operation| move |e| doing(operation).path("/run/host").failed(e);
    mkdirat(&run, "host", Mode::from_raw_mode(0o755)).map_err(failed("mkdir"))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let host = openat(&run, "host", flags, Mode::empty()).map_err(failed("open"))?;
    let told = [
        ("container-manager", Some("lxc-libvirt\n")),
        ("container-uuid", Some(p.plan.uuid.as_str())),
        ("os-release", p.plan.host_release.as_deref()),
    ];
    for (name, text) in told {
        let Some(text) = text else { continue };
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        openat(&host, name, flags, Mode::from_raw_mode(0o444))
            .and_then(|file| write_all(&file, text.as_bytes()))
            .map_err(|e| doing("write").path(name).target("/run/host").failed(e))?;
    }
    credentials::mount(p.plan, p.descriptors, host.as_fd())?;
    notify::bind_in(inside, host.as_fd(), p.notify.as_fd())
}
