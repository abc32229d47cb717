//! Time of processors that a control group had: perf_event_open(2).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::{Result, last_errno};

/// Numbers of linux/perf_event.h.
const TYPE_SOFTWARE: u32 = 1;
const SOFTWARE_CPU_CLOCK: u64 = 0;
const FLAG_PID_CGROUP: libc::c_ulong = 1 << 2;
const FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;

/// The first form of `struct perf_event_attr` (`PERF_ATTR_SIZE_VER0`), which every kernel takes.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    config1: u64,
}

/// Counts for how long one processor has run what is in a control group of the v2 tree, or below it, from now on. `group`
/// is its folder, open for reading; the descriptor answers eight bytes, nanoseconds.
///
/// # Errors
/// `ENODEV` or `EINVAL` for a processor that is not online, `EACCES` or `EPERM` without CAP_PERFMON, `ENOENT` or `EBADF`
/// where the controller perf_event is on a v1 hierarchy, `ENOSYS` where the kernel has no such events.
pub fn count_processor_time(group: BorrowedFd<'_>, processor: i32) -> Result<OwnedFd> {
    let attributes = Attributes {
        kind: TYPE_SOFTWARE,
        size: size_of::<Attributes>() as u32,
        config: SOFTWARE_CPU_CLOCK,
        ..Attributes::default()
    };
    // SAFETY: the attributes are of the size that they tell and outlive the call, which only reads them.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            group.as_raw_fd(),
            processor,
            -1 as libc::c_int,
            FLAG_PID_CGROUP | FLAG_FD_CLOEXEC,
        )
    };
    if fd < 0 {
        return Err(last_errno());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}
