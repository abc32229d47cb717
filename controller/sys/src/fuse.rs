//! More descriptors of one FUSE connection: fuse(4).

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::{Result, check};

/// FUSE_DEV_IOC_CLONE of linux/fuse.h.
const CLONE: libc::c_ulong = 0x8004_e500;

/// Makes `new`, a fresh descriptor of /dev/fuse, one more of the connection of `old`. What was read through it and not answered
/// ends with an error when it is closed, while the connection goes on.
pub fn clone_device(old: BorrowedFd<'_>, new: BorrowedFd<'_>) -> Result<()> {
    let number = old.as_raw_fd() as u32;
    // SAFETY: the argument is the number of a descriptor, which is only read.
    check(unsafe { libc::ioctl(new.as_raw_fd(), CLONE as _, &raw const number) }).map(drop)
}
