//! Loop devices of images. Each goes by itself when its last descriptor is closed and its last mount is gone: also when
//! the controller is killed.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, fstat, makedev, mknodat, open, openat};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::failure::{Doing, Outcome, Step};

use super::host_device::reopen;
use super::mounts;

/// Major number of loop devices (admin-guide/devices.txt).
const MAJOR: u32 = 7;

/// How often another process may be faster.
const TRIES: usize = 100;

/// Makes a loop device of an image, of which `file` is a descriptor of O_PATH. Answers it and its path.
pub fn make(step: Step, image: &str, file: &OwnedFd, readonly: bool) -> Outcome<(OwnedFd, String)> {
    let access = if readonly { OFlags::RDONLY } else { OFlags::RDWR };
    let file = reopen(file, access).map_err(|e| Doing::new(step, "open").path(image).failed(e))?;
    let control = open("/dev/loop-control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Doing::new(step, "open").path("/dev/loop-control").failed(e))?;
    let doing = Doing::new(step, "make a loop device of").path(image);
    for _ in 0..TRIES {
        let number = berth_sys::loops::free(control.as_fd()).map_err(|e| doing.failed(e))?;
        let (device, path) = open_device(number, access).map_err(|e| doing.failed(e))?;
        match berth_sys::loops::configure(device.as_fd(), file.as_fd(), readonly, image) {
            // Somebody took it in between.
            Err(Errno::BUSY) => {}
            done => return done.map(|()| (device, path)).map_err(|e| doing.failed(e)),
        }
    }
    Err(doing.failed_because(Errno::BUSY, "others take all that are free"))
}

/// Opens loop device `number`, also where nobody has made its file in /dev.
fn open_device(number: u32, access: OFlags) -> Result<(OwnedFd, String), Errno> {
    let path = format!("/dev/loop{number}");
    match open(&*path, access | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => {}
        opened => {
            let device = opened?;
            let right = fstat(&device)?.st_rdev == makedev(MAJOR, number);
            return if right { Ok((device, path)) } else { Err(Errno::NODEV) };
        }
    }
    let private = mounts::make("tmpfs", &[("size", "4k")], MountAttrFlags::empty())?;
    let mode = Mode::from_raw_mode(0o600);
    mknodat(&private, "loop", FileType::BlockDevice, mode, makedev(MAJOR, number))?;
    let device = openat(&private, "loop", access | OFlags::CLOEXEC, Mode::empty())?;
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&device));
    Ok((device, path))
}
