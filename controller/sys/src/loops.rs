//! Loop devices: loop(4).

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::{Result, check};

/// Numbers of linux/loop.h.
const CTL_GET_FREE: libc::c_ulong = 0x4C82;
const CONFIGURE: libc::c_ulong = 0x4C0A;
const GET_STATUS64: libc::c_ulong = 0x4C05;
const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;

/// `struct loop_info64`.
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// Number of a loop device that is free at this moment; `control` is /dev/loop-control.
pub fn free(control: BorrowedFd<'_>) -> Result<u32> {
    // SAFETY: this request takes no argument.
    check(unsafe { libc::ioctl(control.as_raw_fd(), CTL_GET_FREE as _) }).map(|n| n as u32)
}

/// Makes `device`, a free loop device, one of `file`, until nobody has it open or mounted any more. `EBUSY`: somebody
/// was faster. Of `name` as much as fits is shown by losetup(8).
pub fn configure(device: BorrowedFd<'_>, file: BorrowedFd<'_>, readonly: bool, name: &str) -> Result<()> {
    // SAFETY: all fields are integers or arrays of them, for which zero is a valid value.
    let mut config: Config = unsafe { std::mem::zeroed() };
    config.fd = file.as_raw_fd() as u32;
    config.info.flags = AUTOCLEAR | if readonly { READ_ONLY } else { 0 };
    // The last byte stays zero: the kernel wants a terminated text.
    for (to, from) in config.info.file_name[..63].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: the argument is a whole loop_config, which outlives the call and is only read.
    check(unsafe { libc::ioctl(device.as_raw_fd(), CONFIGURE as _, &raw const config) }).map(drop)
}

/// What a loop device is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Device and inode of its file, as stat(2) has them, where that file system's numbers are such.
    pub file: (u64, u64),
    /// The beginning of the name that it was given: at most 63 bytes.
    pub name: Vec<u8>,
}

/// What `device` is of; `ENXIO` if it is free.
pub fn status(device: BorrowedFd<'_>) -> Result<Status> {
    // SAFETY: all fields are integers or arrays of them, for which zero is a valid value.
    let mut info: Info = unsafe { std::mem::zeroed() };
    // SAFETY: the argument is a whole loop_info64, which outlives the call and is written by it.
    check(unsafe { libc::ioctl(device.as_raw_fd(), GET_STATUS64 as _, &raw mut info) })?;
    let name = info.file_name.iter().copied().take_while(|byte| *byte != 0).collect();
    Ok(Status { file: (info.device, info.inode), name })
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn layouts_are_the_kernels() {
        assert_eq!(size_of::<Info>(), 232);
        assert_eq!(size_of::<Config>(), 304);
    }
}
