//! Becoming another program.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use crate::{check, last_errno};

/// What to become.
#[derive(Debug)]
pub struct Image<'a> {
    /// Path of the program.
    pub path: &'a CStr,
    /// All arguments.
    pub arguments: &'a [CString],
    /// The whole environment.
    pub environment: &'a [CString],
    /// What the program gets as descriptors 0, 1, 2 and so on; all others are closed.
    pub descriptors: &'a [BorrowedFd<'a>],
}

/// Becomes the program of `image`. Only comes back on failure, with the error and a copy of `report`, which is the
/// only other descriptor that may still be used: most others have been overwritten.
pub fn exec(image: &Image<'_>, report: OwnedFd) -> (Errno, OwnedFd) {
    let pointers = |strings: &[CString]| {
        strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>()
    };
    let (arguments, environment) = (pointers(image.arguments), pointers(image.environment));
    let high = match lift(report.as_raw_fd(), image.descriptors.len()) {
        Ok(fd) => fd,
        Err(e) => return (e, report),
    };
    // Not dropped: its number may be one of those that the program gets.
    std::mem::forget(report);
    // SAFETY: `lift` made the descriptor, and only this value owns it.
    let report = unsafe { OwnedFd::from_raw_fd(high) };
    if let Err(e) = place(image.descriptors) {
        return (e, report);
    }
    let first = image.descriptors.len() as libc::c_uint;
    // SAFETY: only integers go in; the descriptors stay open until the program is really replaced.
    if unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) }
        == -1
    {
        return (last_errno(), report);
    }
    // SAFETY: the path is a C string; both arrays end with null and their strings live in `image`.
    unsafe { libc::execve(image.path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    (last_errno(), report)
}

/// Copies all descriptors above the range first, then down to their places: so no order of numbers can hurt.
fn place(descriptors: &[BorrowedFd<'_>]) -> crate::Result<()> {
    let mut lifted = Vec::with_capacity(descriptors.len());
    for fd in descriptors {
        lifted.push(lift(fd.as_raw_fd(), descriptors.len())?);
    }
    for (number, fd) in lifted.iter().enumerate() {
        // SAFETY: only integers go in. The process is about to become another program: whoever owned the number
        // does not run again, as the only way back is the error path, which ends the process.
        check(unsafe { libc::dup2(*fd, number as RawFd) })?;
    }
    Ok(())
}

/// A close-on-exec copy with a number of at least `floor`.
fn lift(fd: RawFd, floor: usize) -> crate::Result<RawFd> {
    // SAFETY: only integers go in.
    check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, floor as libc::c_int) })
}
