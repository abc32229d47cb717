//! Asking a System V init over its fifo, from inside: a child enters the container's mount namespace, writes and ends.
//!
//! The controller itself never opens a path of the container (invariant I4; libvirt's CVE-2013-6456 was this).

use std::os::fd::{AsFd, OwnedFd};

use berth_sys::process::{Cloned, clone, close_all_but, exit_now, namespace, setns};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open};
use rustix::io::Errno;

use crate::setup::mapped::become_root_of;
use crate::setup::{mounts, resolve};

/// Where the fifo is, by init: sysvinit 2.88 and later, before, and on other systems.
const PATHS: &[&str] = &["/run/initctl", "/dev/initctl", "/etc/.initctl"];

/// `INIT_MAGIC`, and `INIT_CMD_RUNLVL` of initreq.h.
const MAGIC: i32 = 0x0309_1969;
const RUNLEVEL: i32 = 1;

/// Size of `struct init_request`.
const LENGTH: usize = 384;

/// A request to go to runlevel 0 (off) or 6 (restart): magic, command, runlevel, seconds between SIGTERM and SIGKILL.
fn request(restart: bool) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    let level = i32::from(if restart { b'6' } else { b'0' });
    for (at, value) in [MAGIC, RUNLEVEL, level, 0].into_iter().enumerate() {
        bytes[at * 4..at * 4 + 4].copy_from_slice(&value.to_ne_bytes());
    }
    bytes
}

/// Starts the child. Its exit status is 0 if init has been asked, 1 if there is no fifo with a reader.
///
/// `mapped`: the container has ids of its own, and the child gives up the host's.
pub fn start(init: &OwnedFd, mapped: bool, restart: bool) -> Result<OwnedFd, Errno> {
    let init = init.try_clone().map_err(|_| Errno::MFILE)?;
    match clone(0, None)? {
        Cloned::Parent { pidfd, .. } => Ok(pidfd),
        Cloned::Child => {
            let asked = close_all_but(init).and_then(|init| ask(&init, mapped, restart));
            exit_now(i32::from(asked.is_err()));
        }
    }
}

fn ask(init: &OwnedFd, mapped: bool, restart: bool) -> Result<(), Errno> {
    // Root and working directory become those of the container. Nothing of the host is open in this process, and
    // it cannot be traced (PR_SET_DUMPABLE is 0 since the controller's birth).
    if mapped {
        become_root_of(init.as_fd()).map_err(|(_, e)| e)?;
    }
    setns(init.as_fd(), namespace::MOUNT)?;
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY;
    let root = open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let view = mounts::view_without_devices(root.as_fd())?;
    for path in PATHS {
        let Ok(fifo) = resolve::open_inside(&view, path, flags, ResolveFlags::empty()) else { continue };
        if FileType::from_raw_mode(fstat(&fifo)?.st_mode) == FileType::Fifo {
            // Less than PIPE_BUF: written whole or not at all.
            return rustix::io::write(&fifo, &request(restart)).map(drop);
        }
    }
    Err(Errno::NOENT)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_request_is_sysvinits() {
        let bytes = request(true);
        assert_eq!(&bytes[..4], &0x0309_1969_i32.to_ne_bytes());
        assert_eq!(bytes[4..12], [1, 0, 0, 0, b'6', 0, 0, 0]);
        assert_eq!(request(false)[8], b'0');
        assert!(bytes[16..].iter().all(|b| *b == 0));
    }
}
