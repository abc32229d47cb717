//! What a namespace says about itself: ioctl_ns(2).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::{Result, check};

/// `NS_GET_USERNS`
const USER_NAMESPACE: libc::c_ulong = 0xb701;
/// `NS_GET_OWNER_UID`
const OWNER: libc::c_ulong = 0xb704;

/// The user namespace that a namespace belongs to; `EPERM` where that is none below the caller's.
///
/// To be asked only of a descriptor that is known to be one of a namespace: any other file may understand the request
/// as it likes.
pub fn user_namespace(namespace: BorrowedFd<'_>) -> Result<OwnedFd> {
    // SAFETY: the request takes no argument; what it answers is a new descriptor or -1.
    let fd = check(unsafe { libc::ioctl(namespace.as_raw_fd(), USER_NAMESPACE as _) })?;
    // SAFETY: the kernel has made this descriptor for us just now, nobody else has it. It is closed on exec(2).
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The user who made a user namespace, as the caller's own user namespace numbers them.
pub fn maker(user_namespace: BorrowedFd<'_>) -> Result<u32> {
    let mut uid: libc::uid_t = 0;
    // SAFETY: the kernel writes one uid_t through the pointer, which lives as long as the call.
    check(unsafe { libc::ioctl(user_namespace.as_raw_fd(), OWNER as _, &raw mut uid) })?;
    Ok(uid)
}
