//! What the program gives up once it has its files open: every right, and nearly every system call.
//!
//! What it reads from then on anybody may read: figures of processors in /sys, and states of processes in /proc.

use berth_sys::seccomp::{Instruction, set_filter};
use rustix::process::{DumpableBehavior, Gid, Resource, Rlimit, Signal, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// A user and group whom nothing belongs to: "nobody" of most systems.
const NOBODY: u32 = 65534;

/// Memory for everything. A container with a thousand processors needs a tenth of it.
const MEMORY: u64 = 256 << 20;

/// Goes on without any right. Ends with the controller, whose child it is.
pub fn confine() -> Result<(), String> {
    let failed = |what: &'static str| move |e: rustix::io::Errno| format!("cannot {what}: {e}");
    let parent = rustix::process::getppid();
    rustix::thread::set_name(c"berth-view").map_err(failed("set the name"))?;
    for (resource, most) in [
        (Resource::As, MEMORY),
        (Resource::Core, 0),
        (Resource::Nofile, 256),
        // The accounts are the only file that is written.
        (Resource::Fsize, 16 << 20),
    ] {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        rustix::process::setrlimit(resource, limit).map_err(failed("set a limit"))?;
    }
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    rustix::thread::set_thread_groups(&[]).map_err(failed("give up groups"))?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(failed("change the group"))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(failed("change the user"))?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets).map_err(failed("give up capabilities"))?;
    rustix::thread::set_no_new_privs(true).map_err(failed("give up new privileges"))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(failed("become undumpable"))?;
    // The change of user has cleared it: prctl(2).
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(failed("follow the controller"))?;
    if rustix::process::getppid() != parent {
        return Err("the controller has ended".into());
    }
    set_filter(&filter()).map_err(failed("set the filter of system calls"))
}

/// The system calls that are left. Of open(2) only for reading.
const CALLS: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_ftruncate,
    libc::SYS_close,
    libc::SYS_lseek,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_getdents64,
    libc::SYS_ppoll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    libc::SYS_setitimer,
    libc::SYS_clock_gettime,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_gettid,
    libc::SYS_tkill,
    libc::SYS_sigaltstack,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Calls that open, and where their flags are in seccomp_data.
const OPENING: &[(libc::c_long, u32)] = &[
    (libc::SYS_openat, 32),
    // The C library has this one still.
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, 24),
];

/// AUDIT_ARCH of linux/audit.h.
const ARCH: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };

/// The program, in the language of linux/filter.h: any other call ends the process.
fn filter() -> Vec<Instruction> {
    let (load, equal, set, back) = (0x20, 0x15, 0x45, 0x06);
    let (allow, kill) = (0x7fff_0000, 0x8000_0000);
    let step = |code, jt, jf, k| Instruction { code, jt, jf, k };
    // Offsets of seccomp_data: number 0, architecture 4, arguments from 16 on.
    let mut program =
        vec![step(load, 0, 0, 4), step(equal, 1, 0, ARCH), step(back, 0, 0, kill), step(load, 0, 0, 0)];
    for call in CALLS {
        program.push(step(equal, 0, 1, *call as u32));
        program.push(step(back, 0, 0, allow));
    }
    // openat(2) and open(2): the flags, without anything that writes or makes.
    let writing = (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC) as u32;
    for (call, flags) in OPENING {
        program.push(step(equal, 0, 4, *call as u32));
        program.push(step(load, 0, 0, *flags));
        program.push(step(set, 1, 0, writing));
        program.push(step(back, 0, 0, allow));
        program.push(step(back, 0, 0, kill));
    }
    program.push(step(back, 0, 0, kill));
    program
}
