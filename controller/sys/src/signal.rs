//! Signals as descriptors, and their state for a new program.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::{Result, check};

/// Blocks `signals` and makes a descriptor from which they are read: signalfd(2), non-blocking, close-on-exec.
pub fn signal_descriptor(signals: &[i32]) -> Result<OwnedFd> {
    // SAFETY: a sigset_t is plain data that sigemptyset fills whole; signal numbers are checked by sigaddset; the set
    // outlives the calls; the descriptor made is new and so ours.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()))?;
        let fd = check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Number of the next signal that waits in the descriptor.
pub fn next_signal(fd: BorrowedFd<'_>) -> Option<i32> {
    let mut bytes = [0_u8; size_of::<libc::signalfd_siginfo>()];
    // SAFETY: the buffer is as long as told. A signalfd gives whole records or nothing.
    let got = unsafe { libc::read(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
    // ssi_signo is the first member, 32 bits: signalfd(2).
    (got == bytes.len() as isize).then(|| i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// Ignores a signal.
pub fn ignore(signal: i32) {
    // SAFETY: SIG_IGN installs no code of ours.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// All signals back to what a new program expects: default actions and nothing blocked.
pub fn reset() {
    // SAFETY: SIG_DFL installs no code of ours; numbers that cannot be changed (SIGKILL, SIGSTOP and the two that the
    // C library keeps) are refused without effect. The set is filled whole by sigemptyset.
    unsafe {
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// alarm(2): SIGALRM, which ends a process that does not expect it, in so many seconds; 0 is never.
pub fn alarm(seconds: u32) {
    // SAFETY: only an integer goes in.
    unsafe { libc::alarm(seconds) };
}
