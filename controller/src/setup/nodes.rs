//! Files of devices in the tmpfs that is the container's /dev: made and removed by the controller, which holds that
//! tmpfs, also while the container runs.
//!
//! The container may have changed it: names are made in directories that were opened without following any link.

use std::os::fd::{AsFd, OwnedFd};

use berth_schemas::controller::PlanDeviceKind;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, mkdirat, mknodat, unlinkat,
};
use rustix::io::Errno;

use crate::failure::{Doing, Outcome, Step};

use super::host_device::HostDevice;
use super::idmap::Owner;
use super::resolve;

/// Makes the file `name` of a device, with the directories that it lacks, and gives it to the container's root.
/// `exists` is an error of the caller's plan, or of the container, which got there first.
pub fn make(dev: &OwnedFd, name: &str, device: &HostDevice, owner: Owner) -> Outcome<()> {
    // The modes below are meant as they are written.
    let umask = rustix::process::umask(Mode::empty());
    let made = make_at(dev, name, device, owner);
    rustix::process::umask(umask);
    made.map_err(|e| {
        Doing::new(Step::Nodes, "make the device file").path(&device.path).target(name).failed(e)
    })
}

fn make_at(dev: &OwnedFd, name: &str, device: &HostDevice, owner: Owner) -> Result<(), Errno> {
    let mut parts: Vec<&str> = name.split('/').collect();
    let last = parts.pop().filter(|p| !p.is_empty()).ok_or(Errno::INVAL)?;
    let mut so_far = String::new();
    let mut parent = open_plain(dev, "")?;
    for part in parts {
        so_far.push_str(part);
        match mkdirat(&parent, part, Mode::from_raw_mode(0o755)) {
            Ok(()) => give(&parent, part, owner)?,
            Err(Errno::EXIST) => {}
            Err(e) => return Err(e),
        }
        parent = open_plain(dev, &so_far)?;
        so_far.push('/');
    }
    let kind = match device.kind {
        PlanDeviceKind::Block => FileType::BlockDevice,
        PlanDeviceKind::Char => FileType::CharacterDevice,
    };
    // At least the container's root can use what it was given.
    mknodat(&parent, last, kind, Mode::from_raw_mode(device.mode | 0o600), device.number)?;
    give(&parent, last, owner)
}

/// A directory of the tmpfs itself: no link is followed, and nothing that is mounted on it is entered.
fn open_plain(dev: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    resolve::open_inside(dev, name, flags, ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV)
}

fn give(parent: &OwnedFd, name: &str, owner: Owner) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

/// Removes the file of a device if it still is one of it, and the directories that are empty then.
#[allow(dead_code, reason = "for devices that come and go while the container runs")]
pub fn remove(dev: &OwnedFd, name: &str, number: u64) -> Result<(), Errno> {
    let (folder, last) = name.rsplit_once('/').unwrap_or(("", name));
    let parent = match open_plain(dev, folder) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = match rustix::fs::openat(parent.as_fd(), last, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        opened => rustix::fs::fstat(opened?)?,
    };
    if found.st_rdev != number {
        return Ok(());
    }
    unlinkat(&parent, last, AtFlags::empty())?;
    let mut folder = folder;
    while !folder.is_empty() {
        let (above, name) = folder.rsplit_once('/').unwrap_or(("", folder));
        // Not empty: others are there.
        if unlinkat(open_plain(dev, above)?, name, AtFlags::REMOVEDIR).is_err() {
            break;
        }
        folder = above;
    }
    Ok(())
}
