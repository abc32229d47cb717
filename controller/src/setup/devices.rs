//! /dev inside: the prepared tmpfs and devpts, shared memory, message queues, and the consoles.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Gid, OFlags, ResolveFlags, Uid, fchown, fstat, fstatfs, major};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::process::{ioctl_tiocsctty, setsid};

use crate::failure::{Doing, Outcome, Step};

use super::dev::{console_names, open_slave};
use super::inside::Prepared;
use super::rootfs::Inside;
use super::user::Identity;
use super::{mounts, resolve};

/// `DEVPTS_SUPER_MAGIC` of linux/magic.h.
const DEVPTS: i64 = 0x1cd1;

/// Mounts it all; answers the slaves of the consoles.
pub fn mount(inside: &Inside<'_>, p: &Prepared<'_>) -> Outcome<Vec<OwnedFd>> {
    let doing = |operation| Doing::new(Step::Devices, operation);
    let point = inside.plain_directory(Step::Devices, "/dev")?;
    mounts::attach(p.dev.as_fd(), point.as_fd()).map_err(|e| doing("move_mount").target("/dev").failed(e))?;
    put(p, "pts", &p.devpts)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let shm = mounts::make("tmpfs", &[("mode", "1777")], attributes)
        .map_err(|e| doing("mount").path("tmpfs").target("/dev/shm").failed(e))?;
    put(p, "shm", &shm)?;
    match mounts::make("mqueue", &[], mounts::data_only()) {
        Ok(queues) => put(p, "mqueue", &queues)?,
        // A kernel without CONFIG_POSIX_MQUEUE.
        Err(Errno::NODEV) => {}
        Err(e) => return Err(doing("mount").path("mqueue").target("/dev/mqueue").failed(e)),
    }
    let mut slaves = Vec::with_capacity(p.terminals.len());
    for (index, terminal) in p.terminals.iter().enumerate() {
        slaves.push(bind_console(p, index, &terminal.master)?);
    }
    Ok(slaves)
}

fn open_in_dev(p: &Prepared<'_>, name: &str) -> Result<OwnedFd, Errno> {
    resolve::open_inside(&p.dev, name, OFlags::PATH, ResolveFlags::NO_SYMLINKS)
}

fn put(p: &Prepared<'_>, name: &str, mount: &OwnedFd) -> Outcome<()> {
    let doing = |operation| Doing::new(Step::Devices, operation).target(name);
    let point = open_in_dev(p, name).map_err(|e| doing("open").failed(e))?;
    mounts::attach(mount.as_fd(), point.as_fd()).map_err(|e| doing("move_mount").failed(e))
}

/// Binds the slave of a master over the console's files, by descriptor, after a look at what it is (CVE-2025-52565).
fn bind_console(p: &Prepared<'_>, index: usize, master: &OwnedFd) -> Outcome<OwnedFd> {
    let names = console_names(index);
    let doing = |operation| Doing::new(Step::Devices, operation).path(&names[0]);
    let slave = open_slave(master).map_err(|e| doing("TIOCGPTPEER").failed(e))?;
    let stat = fstat(&slave).map_err(|e| doing("stat").failed(e))?;
    let filesystem = fstatfs(&slave).map_err(|e| doing("statfs").failed(e))?;
    let is_ours = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && (136..144).contains(&major(stat.st_rdev))
        && filesystem.f_type as i64 == DEVPTS;
    if !is_ours {
        return Err(doing("stat").refused("the console is not a terminal of the container's devpts"));
    }
    for name in &names {
        let tree = mounts::clone_tree(slave.as_fd(), false).map_err(|e| doing("open_tree").failed(e))?;
        put(p, name, &tree)?;
    }
    Ok(slave)
}

/// Opens the consoles where the future init sees them, after a look whether they are the terminals that were made.
pub fn open_consoles(inside: &Inside<'_>, p: &Prepared<'_>) -> Outcome<Vec<OwnedFd>> {
    let mut slaves = Vec::with_capacity(p.terminals.len());
    for terminal in &p.terminals {
        let path = format!("/dev/pts/{}", terminal.number);
        let doing = |operation| Doing::new(Step::Terminal, operation).path(&path);
        let flags = OFlags::RDWR | OFlags::NOCTTY;
        let slave = resolve::open_inside(inside.root(), &path, flags, ResolveFlags::NO_SYMLINKS)
            .map_err(|e| doing("open").failed(e))?;
        let identity = |fd: &OwnedFd| fstat(fd).map(|s| (s.st_dev, s.st_ino, s.st_rdev));
        let ours = identity(&terminal.slave).map_err(|e| doing("stat").failed(e))?;
        if identity(&slave) != Ok(ours) {
            return Err(doing("stat").refused("it is not the console that was made"));
        }
        slaves.push(slave);
    }
    Ok(slaves)
}

/// A new session with the first console as its controlling terminal (invariant I7), owned by the user that init
/// becomes, so that it can open /dev/console. `None` without consoles.
pub fn take_terminal(slaves: Vec<OwnedFd>, identity: &Identity) -> Outcome<Option<OwnedFd>> {
    let doing = |operation| Doing::new(Step::Terminal, operation);
    setsid().map_err(|e| doing("setsid").failed(e))?;
    for slave in slaves.iter().filter(|_| identity.uid != 0) {
        fchown(slave, Some(Uid::from_raw(identity.uid)), None::<Gid>)
            .map_err(|e| doing("chown").failed(e))?;
    }
    let Some(first) = slaves.into_iter().next() else { return Ok(None) };
    ioctl_tiocsctty(&first).map_err(|e| doing("TIOCSCTTY").path("console").failed(e))?;
    Ok(Some(first))
}
