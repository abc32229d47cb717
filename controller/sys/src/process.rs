//! Making processes, namespaces and the first moments of our own.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Result, check, last_errno};

/// Namespaces as bits of clone(2), unshare(2) and setns(2).
pub mod namespace {
    /// Mounts.
    pub const MOUNT: i32 = libc::CLONE_NEWNS;
    /// Process ids.
    pub const PID: i32 = libc::CLONE_NEWPID;
    /// Host and domain name.
    pub const UTS: i32 = libc::CLONE_NEWUTS;
    /// System V IPC and POSIX message queues.
    pub const IPC: i32 = libc::CLONE_NEWIPC;
    /// Network.
    pub const NET: i32 = libc::CLONE_NEWNET;
    /// Control groups.
    pub const CGROUP: i32 = libc::CLONE_NEWCGROUP;
    /// Clocks that begin with the machine; of children and of the next program: time_namespaces(7).
    pub const TIME: i32 = libc::CLONE_NEWTIME;
    /// User and group ids, and what they may do.
    pub const USER: i32 = libc::CLONE_NEWUSER;
}

/// Who we are after [`clone`].
#[derive(Debug)]
pub enum Cloned {
    /// The new process.
    Child,
    /// The one that called.
    Parent {
        /// The new process as we see it.
        pid: i32,
        /// Its pidfd, close-on-exec.
        pidfd: OwnedFd,
    },
}

/// `CLONE_INTO_CGROUP` of linux/sched.h, which the libc crate lacks.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// `struct clone_args` of clone3(2), as of Linux 5.7.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// clone3(2) of ourselves, as fork(2) does it, into new `namespaces` and, if given, into a v2 control group.
///
/// Refused with `EBUSY` in a process of several threads: the child would have locks that nobody opens.
pub fn clone(namespaces: i32, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned> {
    let mut args = CloneArgs {
        flags: u64::from(namespaces as u32),
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(group) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = group.as_raw_fd() as u64;
    }
    clone_with(args)
}

/// The same, but the new process is a child of our parent: it is reaped there, and tells its end as we would.
pub fn clone_sibling(namespaces: i32) -> Result<Cloned> {
    let flags = u64::from(namespaces as u32) | libc::CLONE_PARENT as u64;
    clone_with(CloneArgs { flags, ..CloneArgs::default() })
}

fn clone_with(mut args: CloneArgs) -> Result<Cloned> {
    if !single_threaded() {
        return Err(rustix::io::Errno::BUSY);
    }
    let mut pidfd: RawFd = -1;
    args.flags |= libc::CLONE_PIDFD as u64;
    args.pidfd = (&raw mut pidfd) as u64;
    // SAFETY: `args` is a whole clone_args of the size told and outlives the call, `pidfd` likewise. Without CLONE_VM
    // the child has its own copy of all memory, and as we have one thread only, all of it is in a consistent state.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match pid {
        -1 => Err(last_errno()),
        0 => Ok(Cloned::Child),
        // SAFETY: the kernel has stored a new descriptor there (CLONE_PIDFD), which nobody else knows.
        pid => Ok(Cloned::Parent { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } }),
    }
}

/// Whether this process has one thread only; link count of the task directory: ".", ".." and one for each.
fn single_threaded() -> bool {
    use std::os::linux::fs::MetadataExt;
    static KNOWN: AtomicBool = AtomicBool::new(false);
    // Threads are only made by ourselves, so one look is enough; and without /proc nobody can have started us well.
    KNOWN.load(Ordering::Relaxed) || {
        let one = std::fs::metadata("/proc/self/task").is_ok_and(|m| m.st_nlink() == 3);
        KNOWN.store(one, Ordering::Relaxed);
        one
    }
}

/// unshare(2).
pub fn unshare(namespaces: i32) -> Result<()> {
    // SAFETY: only integers go in. None of the namespaces of ours changes memory or descriptors (CLONE_FILES and
    // CLONE_VM are not among the constants, and the kernel refuses the latter).
    check(unsafe { libc::unshare(namespaces) }).map(drop)
}

/// setns(2): joins the namespaces of a namespace descriptor or a pidfd.
pub fn setns(fd: BorrowedFd<'_>, namespaces: i32) -> Result<()> {
    // SAFETY: only integers go in, and the descriptor is open as it is borrowed.
    check(unsafe { libc::setns(fd.as_raw_fd(), namespaces) }).map(drop)
}

/// pidfd_send_signal(2) with any signal number, the real-time ones too.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: only integers and a null pointer go in; null means the fields that kill(2) would fill.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    check(result as libc::c_int).map(drop)
}

/// personality(2).
pub fn set_personality(persona: u64) -> Result<()> {
    // SAFETY: only an integer goes in. Flags that make null addresses valid (MMAP_PAGE_ZERO) change later exec only.
    check(unsafe { libc::personality(persona as libc::c_ulong) }).map(drop)
}

/// `PER_LINUX32` of linux/personality.h: uname(2) tells a 32-bit machine.
pub const LINUX32: u64 = 0x0008;

/// How memory is spread over the nodes of a host: `MPOL_PREFERRED` and `MPOL_INTERLEAVE` of linux/mempolicy.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum MemoryPolicy {
    /// From one node while that has some.
    Preferred = 1,
    /// From each node in turn.
    Interleave = 3,
}

/// set_mempolicy(2) for the calling thread and what it starts. The nodes are the bits that are set. Those that the host has
/// not, or that the control group does not allow, are left out; EINVAL where none is left.
pub fn set_memory_policy(policy: MemoryPolicy, nodes: &[u64]) -> Result<()> {
    // One more than there are bits: the kernel takes the number for that of the first bit that is not there.
    let bits = nodes.len() * 64 + 1;
    // SAFETY: the kernel reads `bits - 1` bits of the slice, which is alive during the call.
    let done = unsafe { libc::syscall(libc::SYS_set_mempolicy, policy as libc::c_int, nodes.as_ptr(), bits) };
    check(done as libc::c_int).map(drop)
}

/// _exit(2): ends the process without anything that the parent has registered.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: does not return, touches no memory.
    unsafe { libc::_exit(status) }
}

/// Takes descriptor 0 over and closes all others from 3 on. `None` at a second call.
pub fn take_inherited() -> Option<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return None;
    }
    // SAFETY: only integers go in. This is the first thing the program does, once: nothing is owned from 3 on yet.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
    // So that 0 may be given another meaning.
    copy_inherited(0).ok()
}

/// A copy of a descriptor that this program was started with, above all standard ones. The one itself stays open.
pub fn copy_inherited(number: i32) -> Result<OwnedFd> {
    // SAFETY: only integers go in.
    let copy = check(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: the descriptor is new, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Makes standard descriptor `number` (0, 1 or 2) a copy of another.
pub fn set_standard(fd: BorrowedFd<'_>, number: i32) -> Result<()> {
    if !(0..=2).contains(&number) {
        return Err(rustix::io::Errno::BADF);
    }
    // SAFETY: only integers go in. Nobody owns the standard descriptors; they stay open, with another file.
    check(unsafe { libc::dup2(fd.as_raw_fd(), number) }).map(drop)
}

/// Closes everything from 3 on but `keep`, in a process that uses nothing else any more and ends.
pub fn close_others(keep: &[BorrowedFd<'_>]) -> Result<()> {
    let mut from = 3;
    while from < libc::c_uint::MAX {
        // The next one to keep. They are few, and a sort would be three kilobytes of code.
        let kept =
            keep.iter().map(|fd| fd.as_raw_fd() as libc::c_uint).filter(|number| *number >= from).min();
        let end = kept.unwrap_or(libc::c_uint::MAX);
        if end > from {
            // SAFETY: only integers go in. The caller's other owned descriptors dangle from here on; each further use
            // of them fails with EBADF, and those opened afterwards are owned by their openers.
            check(unsafe { libc::syscall(libc::SYS_close_range, from, end - 1, 0) } as libc::c_int)?;
        }
        from = end.saturating_add(1);
    }
    Ok(())
}

/// Closes everything from 3 on but `keep`, in a process that does nothing but its task with it and ends.
pub fn close_all_but(keep: OwnedFd) -> Result<OwnedFd> {
    let at = keep.as_raw_fd() as libc::c_uint;
    // SAFETY: only integers go in. The caller's other owned descriptors dangle from here on; each further use of them
    // fails with EBADF, and none can hit another file, as the only one opened afterwards is owned by its opener.
    unsafe {
        if at > 3 {
            libc::syscall(libc::SYS_close_range, 3, at - 1, 0);
        }
        check(libc::syscall(libc::SYS_close_range, at + 1, libc::c_uint::MAX, 0) as libc::c_int)?;
    }
    Ok(keep)
}
