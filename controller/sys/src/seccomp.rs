//! Filters of system calls, and the calls that wait until somebody outside has answered them: seccomp_unotify(2).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::{Result, check};

/// One instruction of a filter, as the kernel has it (`struct sock_filter` of linux/filter.h).
#[derive(Debug, Clone, Copy)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// Distance of the jump if a test holds.
    pub jt: u8,
    /// Distance of the jump if it does not.
    pub jf: u8,
    /// The constant.
    pub k: u32,
}

/// seccomp(2): all later system calls of this process and what comes from it go through `program`. The kernel checks
/// the program, and that we may: with `CAP_SYS_ADMIN` or without new privileges.
pub fn set_filter(program: &[Instruction]) -> Result<()> {
    set(program, 0).map(drop)
}

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER` of linux/seccomp.h.
const LISTENER: libc::c_ulong = 1 << 3;
/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`: a signal that does not kill leaves a call alone that was received. Linux 5.19.
const UNDISTURBED: libc::c_ulong = 1 << 5;

/// The same, and answers where calls are received for which the program says so. `EBUSY`: a filter that this process has
/// already has somebody listening, of whom there can be one; `EINVAL`: the kernel cannot do it.
pub fn set_filter_and_listen(program: &[Instruction]) -> Result<OwnedFd> {
    let listener = match set(program, LISTENER | UNDISTURBED) {
        Err(Errno::INVAL) => set(program, LISTENER),
        set => set,
    }?;
    // SAFETY: with this flag the kernel answers a new descriptor, which nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(listener) })
}

fn set(program: &[Instruction], flags: libc::c_ulong) -> Result<libc::c_int> {
    let mut filter: Vec<libc::sock_filter> =
        program.iter().map(|i| libc::sock_filter { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect();
    let len = u16::try_from(filter.len()).map_err(|_| Errno::INVAL)?;
    let whole = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
    // SAFETY: `whole` and the instructions it points to outlive the call, which copies them, and `len` is their number.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const whole) };
    check(result as libc::c_int)
}

/// A call that waits for an answer: `struct seccomp_notif`, with `struct seccomp_data` as its end.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
pub struct Call {
    /// Number of this question.
    pub id: u64,
    /// The thread that calls, as we see it; 0 if we do not.
    pub thread: u32,
    flags: u32,
    /// Number of the call.
    pub number: i32,
    /// `AUDIT_ARCH` of the table that it is a number of.
    pub arch: u32,
    at: u64,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Answer {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// `SECCOMP_IOCTL_NOTIF_RECV`, `_SEND` and `_ID_VALID`.
const RECEIVE: libc::c_ulong = 0xc050_2100;
const SEND: libc::c_ulong = 0xc018_2101;
const IS_VALID: libc::c_ulong = 0x4008_2102;
/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE`.
const CONTINUE: u32 = 1;

/// Takes the next call. Waits for one; `ENOENT` if the one that there was has gone.
pub fn receive(listener: BorrowedFd<'_>) -> Result<Call> {
    let mut call = Call::default();
    // SAFETY: `call` has the layout and, as part of the number, the size that the kernel writes, and is zero as it wants.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE as _, &raw mut call) })?;
    Ok(call)
}

/// Whether a call still waits: as long as it does its thread is the one that has called.
pub fn is_waiting(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the kernel reads the number, which is alive during the call.
    unsafe { libc::ioctl(listener.as_raw_fd(), IS_VALID as _, &raw const id) == 0 }
}

/// Answers a call: that it is done, or that the kernel is to do it as if nobody had been asked.
pub fn answer(listener: BorrowedFd<'_>, id: u64, done: bool) -> Result<()> {
    let answer = Answer { id, value: 0, error: 0, flags: if done { 0 } else { CONTINUE } };
    // SAFETY: `answer` has the layout and size that the kernel reads.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), SEND as _, &raw const answer) }).map(drop)
}
