//! The container's devpts, the masters of its consoles, and the tmpfs that becomes /dev: made outside, mounted nowhere.
//!
//! The list of what is in /dev is exact (invariant I3). Nodes are made out here because a container with ids of its own
//! could not make them; everything is given to its root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat, fchown, makedev, mkdirat, mknodat, openat, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, ptsname, unlockpt};

use crate::failure::{Doing, Outcome, Step};

use super::idmap::Owner;
use super::mounts;

/// A pair of which the container gets the slave.
#[derive(Debug)]
pub struct Terminal {
    /// Our side, non-blocking.
    pub master: OwnedFd,
    /// The container's, opened by us too: as long as somebody has it open, the master is not hung up.
    pub slave: OwnedFd,
    /// Number in the container's devpts.
    pub number: u32,
}

/// Character devices: name, major, minor (admin-guide/devices.txt).
const NODES: &[(&str, u32, u32)] =
    &[("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Symbolic links: name and where to.
const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// A devpts instance of its own: group 5 is "tty" everywhere (the value that libvirt and systemd use).
pub fn make_devpts(owner: Owner) -> Outcome<OwnedFd> {
    let tty = owner.tty.to_string();
    let options = [("gid", &*tty), ("mode", "0620"), ("ptmxmode", "0666")];
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let devpts = mounts::make("devpts", &options, attributes)
        .map_err(|e| Doing::new(Step::Consoles, "mount").path("devpts").failed(e))?;
    for name in ["", "ptmx"] {
        give(&devpts, name, owner)
            .map_err(|e| Doing::new(Step::Consoles, "chown").path("devpts").failed(e))?;
    }
    Ok(devpts)
}

/// Gives what we made to the container's root; an empty name is the directory itself.
fn give(directory: &OwnedFd, name: &str, owner: Owner) -> Result<(), Errno> {
    if owner == Owner::HOST {
        return Ok(());
    }
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    chownat(directory, name, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)), flags)
}

/// The next terminal of a devpts instance.
pub fn make_terminal(devpts: BorrowedFd<'_>, owner: Owner) -> Outcome<Terminal> {
    open_terminal(devpts, owner).map_err(|e| Doing::new(Step::Consoles, "open").path("pts/ptmx").failed(e))
}

fn open_terminal(devpts: BorrowedFd<'_>, owner: Owner) -> Result<Terminal, Errno> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let master = openat(devpts, "ptmx", flags, Mode::empty())?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let number = name.to_str().ok().and_then(|n| n.rsplit('/').next()?.parse().ok()).ok_or(Errno::IO)?;
    let slave = open_slave(&master)?;
    if owner != Owner::HOST {
        // The group is that of the mount.
        fchown(&slave, Some(Uid::from_raw(owner.uid)), None::<Gid>)?;
    }
    Ok(Terminal { master, slave, number })
}

/// Opens the slave of a master by the master alone: no path that somebody could have changed (TIOCGPTPEER,
/// ioctl_tty(2)).
pub fn open_slave(master: &OwnedFd) -> Result<OwnedFd, Errno> {
    ioctl_tiocgptpeer(master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
}

/// Names of the device files of console `index`: /dev/tty1 and so on, as libvirt has them, and the first is
/// /dev/console too.
pub fn console_names(index: usize) -> Vec<String> {
    let first = (index == 0).then(|| "console".to_owned());
    first.into_iter().chain([format!("tty{}", index + 1)]).collect()
}

/// The tmpfs of /dev with everything in it; the consoles are empty files that the terminals are bound over.
pub fn make_dev(consoles: usize, owner: Owner) -> Outcome<OwnedFd> {
    let options = [("mode", "0755"), ("size", "64k"), ("nr_inodes", "1024")];
    let dev = mounts::make("tmpfs", &options, MountAttrFlags::MOUNT_ATTR_NOSUID)
        .map_err(|e| Doing::new(Step::Dev, "mount").path("tmpfs").target("/dev").failed(e))?;
    // The modes below are meant as they are written.
    let umask = rustix::process::umask(Mode::empty());
    let filled = fill(&dev, consoles).and_then(|()| give_all(&dev, consoles, owner));
    rustix::process::umask(umask);
    filled.map(|()| dev)
}

fn give_all(dev: &OwnedFd, consoles: usize, owner: Owner) -> Outcome<()> {
    let consoles: Vec<String> = (0..consoles).flat_map(console_names).collect();
    let names = NODES.iter().map(|n| n.0).chain(LINKS.iter().map(|l| l.0));
    let names = names.chain(["", "pts", "shm", "mqueue"]).chain(consoles.iter().map(|c| &**c));
    for name in names {
        give(dev, name, owner).map_err(|e| Doing::new(Step::Dev, "chown").path(name).failed(e))?;
    }
    Ok(())
}

fn fill(dev: &OwnedFd, consoles: usize) -> Outcome<()> {
    for (name, major, minor) in NODES {
        mknodat(dev, *name, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(*major, *minor))
            .map_err(|e| Doing::new(Step::Dev, "mknod").path(name).failed(e))?;
    }
    for (name, to) in LINKS {
        symlinkat(*to, dev, *name)
            .map_err(|e| Doing::new(Step::Dev, "symlink").path(name).target(to).failed(e))?;
    }
    for name in ["pts", "shm", "mqueue"] {
        mkdirat(dev, name, Mode::from_raw_mode(0o755))
            .map_err(|e| Doing::new(Step::Dev, "mkdir").path(name).failed(e))?;
    }
    for name in (0..consoles).flat_map(console_names) {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        openat(dev.as_fd(), &name, flags, Mode::from_raw_mode(0o600))
            .map_err(|e| Doing::new(Step::Dev, "create").path(&name).failed(e))?;
    }
    Ok(())
}
