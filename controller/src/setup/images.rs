//! File systems of devices and images, mounted nowhere yet: with the type that is found on them, without device files.
//!
//! This module does not know where in the container they are seen.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

use crate::failure::{Doing, Outcome, Step};

use super::host_device::HostDevice;
use super::superblock::{self, Found};

/// A file system.
#[derive(Debug)]
pub struct Image {
    /// Its top.
    pub fd: OwnedFd,
    /// Its type.
    pub kind: &'static str,
}

/// Mounts what is on a device; `source` is what the document calls it. Programs inside may be set-user-id: roots need
/// that.
pub fn mount(device: &HostDevice, source: &str, readonly: bool) -> Outcome<Image> {
    let doing = |operation| Doing::new(Step::Sources, operation).path(source);
    let mut start = vec![0; superblock::LENGTH];
    let length = device.read_start(&mut start).map_err(|e| doing("read").failed(e))?;
    let kind = match superblock::detect(&start[..length]) {
        Found::FileSystem(kind) => kind,
        Found::Other(what) => return Err(doing("mount").refused(format!("it is {what}, and no file system"))),
        Found::Nothing => return Err(doing("mount").refused("no file system is found on it")),
    };
    let fd = match make(kind, device, readonly) {
        // A kernel without a driver of their own for the older ones.
        Err((Errno::NODEV, _)) if kind.starts_with("ext") => make("ext4", device, readonly),
        made => made,
    };
    let fd = fd.map_err(|(errno, said)| match (errno, said) {
        (Errno::NODEV, _) => doing("mount").failed_because(errno, format!("the kernel knows no '{kind}'")),
        (Errno::BUSY, _) => doing("mount")
            .failed_because(errno, "it is held by something else, or mounted elsewhere with other rights"),
        (_, said) if said.is_empty() => doing("mount").failed_because(errno, format!("as '{kind}'")),
        (_, said) => doing("mount").failed_because(errno, format!("as '{kind}': {said}")),
    })?;
    Ok(Image { fd, kind })
}

/// The tree, or the error and what the kernel has said about it.
fn make(kind: &str, device: &HostDevice, readonly: bool) -> Result<OwnedFd, (Errno, String)> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(|e| (e, String::new()))?;
    configure(context.as_fd(), device, readonly).map_err(|e| (e, said(&context)))
}

fn configure(context: BorrowedFd<'_>, device: &HostDevice, readonly: bool) -> Result<OwnedFd, Errno> {
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NODEV;
    fsconfig_set_string(context, "source", &*device.path)?;
    if readonly {
        // The file system, and the mount.
        fsconfig_set_flag(context, "ro")?;
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    fsconfig_create(context)?;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// The first message of a context: "e " or "w ", and a text; see fsconfig(2).
fn said(context: &OwnedFd) -> String {
    let mut text = [0; 256];
    let length = rustix::io::read(context, &mut text).unwrap_or(0);
    String::from_utf8_lossy(text[..length].get(2..).unwrap_or_default()).trim_end().to_owned()
}
