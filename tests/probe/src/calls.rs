//! System calls that a container may be refused, each with arguments that fail harmlessly behind the refusal.

use crate::raw::{call, text};
use crate::verdict::Verdict;

/// A number that is no descriptor, no command and no flag of any call here.
const BAD: u64 = 0xffff_ffff;
/// An address that nobody has.
const FAULT: u64 = 1;

/// Name, number, arguments.
type Probe = (&'static str, libc::c_long, [u64; 6]);

/// Of every machine.
const CALLS: &[Probe] = &[
    // Too many segments; none would unload the one that is loaded.
    ("kexec_load", libc::SYS_kexec_load, [0, 0xffff, 0, 0, 0, 0]),
    ("init_module", libc::SYS_init_module, [0, 0, 0, 0, 0, 0]),
    ("finit_module", libc::SYS_finit_module, [BAD, FAULT, 0, 0, 0, 0]),
    ("delete_module", libc::SYS_delete_module, [0, 0, 0, 0, 0, 0]),
    ("bpf", libc::SYS_bpf, [0xffff, 0, 0, 0, 0, 0]),
    ("perf_event_open", libc::SYS_perf_event_open, [0, 0, BAD, BAD, 0, 0]),
    ("userfaultfd", libc::SYS_userfaultfd, [BAD, 0, 0, 0, 0, 0]),
    ("io_uring_setup", libc::SYS_io_uring_setup, [0, 0, 0, 0, 0, 0]),
    ("io_uring_enter", libc::SYS_io_uring_enter, [BAD, 0, 0, 0, 0, 0]),
    ("io_uring_register", libc::SYS_io_uring_register, [BAD, BAD, 0, 0, 0, 0]),
    ("open_by_handle_at", libc::SYS_open_by_handle_at, [BAD, 0, 0, 0, 0, 0]),
    ("name_to_handle_at", libc::SYS_name_to_handle_at, [BAD, 0, 0, 0, BAD, 0]),
    ("add_key", libc::SYS_add_key, [0, 0, 0, 0, 0, 0]),
    ("request_key", libc::SYS_request_key, [0, 0, 0, 0, 0, 0]),
    ("keyctl", libc::SYS_keyctl, [0xffff, 0, 0, 0, 0, 0]),
    ("swapon", libc::SYS_swapon, [FAULT, 0, 0, 0, 0, 0]),
    ("swapoff", libc::SYS_swapoff, [FAULT, 0, 0, 0, 0, 0]),
    // Null would turn accounting off.
    ("acct", libc::SYS_acct, [FAULT, 0, 0, 0, 0, 0]),
    ("quotactl", libc::SYS_quotactl, [BAD, 0, 0, 0, 0, 0]),
    ("quotactl_fd", libc::SYS_quotactl_fd, [BAD, BAD, 0, 0, 0, 0]),
    ("settimeofday", libc::SYS_settimeofday, [FAULT, 0, 0, 0, 0, 0]),
    ("clock_settime", libc::SYS_clock_settime, [0, FAULT, 0, 0, 0, 0]),
    ("clock_adjtime", libc::SYS_clock_adjtime, [0, FAULT, 0, 0, 0, 0]),
    ("adjtimex", libc::SYS_adjtimex, [FAULT, 0, 0, 0, 0, 0]),
    // How large the kernel's log is.
    ("syslog", libc::SYS_syslog, [10, 0, 0, 0, 0, 0]),
    ("personality", libc::SYS_personality, [0x40_0000, 0, 0, 0, 0, 0]),
    ("lookup_dcookie", 212 + OLD, [0, 0, 0, 0, 0, 0]),
    ("kcmp", libc::SYS_kcmp, [1, 1, 1, 0, 0, 0]),
    ("vhangup", libc::SYS_vhangup, [0, 0, 0, 0, 0, 0]),
    ("reboot", libc::SYS_reboot, [0, 0, 0, 0, 0, 0]),
    ("reboot_kexec", libc::SYS_reboot, [0, 0, 0x4558_4543, 0, 0, 0]),
    ("tiocsti", libc::SYS_ioctl, [BAD, 0x5412, 0, 0, 0, 0]),
    ("tiocsti_upper_half", libc::SYS_ioctl, [BAD, 0x1_0000_5412, 0, 0, 0, 0]),
    ("tioclinux", libc::SYS_ioctl, [BAD, 0x541c, 0, 0, 0, 0]),
    ("tioccons", libc::SYS_ioctl, [BAD, 0x541d, 0, 0, 0, 0]),
    ("fifreeze", libc::SYS_ioctl, [BAD, 0xc004_5877, 0, 0, 0, 0]),
    ("setns", libc::SYS_setns, [BAD, 0, 0, 0, 0, 0]),
    ("unshare", libc::SYS_unshare, [0, 0, 0, 0, 0, 0]),
    ("clone3", libc::SYS_clone3, [0, 0, 0, 0, 0, 0]),
    ("pivot_root", libc::SYS_pivot_root, [FAULT, FAULT, 0, 0, 0, 0]),
    ("chroot", libc::SYS_chroot, [FAULT, 0, 0, 0, 0, 0]),
    ("mount", libc::SYS_mount, [FAULT, FAULT, FAULT, 0, 0, 0]),
    ("umount2", libc::SYS_umount2, [FAULT, 0x1000, 0, 0, 0, 0]),
    ("fsopen", libc::SYS_fsopen, [FAULT, 0, 0, 0, 0, 0]),
    ("fsmount", libc::SYS_fsmount, [BAD, 0, 0, 0, 0, 0]),
    ("fspick", libc::SYS_fspick, [BAD, FAULT, 0, 0, 0, 0]),
    ("fsconfig", libc::SYS_fsconfig, [BAD, 0xff, 0, 0, 0, 0]),
    ("open_tree", libc::SYS_open_tree, [BAD, FAULT, 0, 0, 0, 0]),
    ("move_mount", libc::SYS_move_mount, [BAD, FAULT, BAD, FAULT, 0, 0]),
    ("mount_setattr", libc::SYS_mount_setattr, [BAD, FAULT, 0, 0, 0, 0]),
    ("ptrace", libc::SYS_ptrace, [0xffff, 0, 0, 0, 0, 0]),
    ("process_vm_readv", libc::SYS_process_vm_readv, [1, 0, 0, 0, 0, BAD]),
    ("process_vm_writev", libc::SYS_process_vm_writev, [1, 0, 0, 0, 0, BAD]),
    ("pidfd_getfd", libc::SYS_pidfd_getfd, [BAD, BAD, 0, 0, 0, 0]),
    ("sethostname", libc::SYS_sethostname, [FAULT, 1000, 0, 0, 0, 0]),
    ("fanotify_init", libc::SYS_fanotify_init, [BAD, 0, 0, 0, 0, 0]),
    ("move_pages", libc::SYS_move_pages, [0, 0, 0, 0, 0, BAD]),
    ("mbind", libc::SYS_mbind, [FAULT, 0, BAD, 0, 0, BAD]),
    ("set_mempolicy", libc::SYS_set_mempolicy, [BAD, 0, 0, 0, 0, 0]),
    ("io_setup", libc::SYS_io_setup, [0, 0, 0, 0, 0, 0]),
    ("future_call", 470, [0, 0, 0, 0, 0, 0]),
];

/// `lookup_dcookie` is 212 on x86_64 and 18 in the common table.
const OLD: libc::c_long = if cfg!(target_arch = "x86_64") { 0 } else { 18 - 212 };

/// Of x86_64 alone.
#[cfg(target_arch = "x86_64")]
const X86: &[Probe] = &[
    ("kexec_file_load", libc::SYS_kexec_file_load, [BAD, BAD, 0, 0, 0, 0]),
    // No more rights than before: does nothing.
    ("iopl", libc::SYS_iopl, [0, 0, 0, 0, 0, 0]),
    ("ioperm", libc::SYS_ioperm, [0, 1, 0, 0, 0, 0]),
    ("modify_ldt", libc::SYS_modify_ldt, [0, 0, 0, 0, 0, 0]),
    ("uselib", libc::SYS_uselib, [FAULT, 0, 0, 0, 0, 0]),
    ("ustat", libc::SYS_ustat, [0, FAULT, 0, 0, 0, 0]),
    ("sysfs", libc::SYS_sysfs, [3, 0, 0, 0, 0, 0]),
    ("x32_getpid", 0x4000_0000 + 39, [0, 0, 0, 0, 0, 0]),
];

/// Name, number and arguments in the table of i386.
#[cfg(target_arch = "x86_64")]
const I386: &[(&str, u32, [u32; 4])] = &[
    ("kexec_load", 283, [0, 0xffff, 0, 0]),
    ("init_module", 128, [0, 0, 0, 0]),
    ("finit_module", 350, [u32::MAX, 1, 0, 0]),
    ("delete_module", 129, [0, 0, 0, 0]),
    ("bpf", 357, [0xffff, 0, 0, 0]),
    ("perf_event_open", 336, [0, 0, u32::MAX, u32::MAX]),
    ("userfaultfd", 374, [u32::MAX, 0, 0, 0]),
    ("io_uring_setup", 425, [0, 0, 0, 0]),
    ("open_by_handle_at", 342, [u32::MAX, 0, 0, 0]),
    ("add_key", 286, [0, 0, 0, 0]),
    ("request_key", 287, [0, 0, 0, 0]),
    ("keyctl", 288, [0xffff, 0, 0, 0]),
    ("swapon", 87, [1, 0, 0, 0]),
    ("swapoff", 115, [1, 0, 0, 0]),
    ("acct", 51, [1, 0, 0, 0]),
    ("settimeofday", 79, [1, 0, 0, 0]),
    ("stime", 25, [1, 0, 0, 0]),
    ("clock_settime", 264, [0, 1, 0, 0]),
    ("clock_settime64", 404, [0, 1, 0, 0]),
    ("iopl", 110, [0, 0, 0, 0]),
    ("ioperm", 101, [0, 1, 0, 0]),
    ("vm86", 166, [0xffff, 0, 0, 0]),
    ("uselib", 86, [1, 0, 0, 0]),
    ("kcmp", 349, [1, 1, 1, 0]),
    ("syslog", 103, [10, 0, 0, 0]),
    ("personality", 136, [0x40_0000, 0, 0, 0]),
    ("tiocsti", 54, [u32::MAX, 0x5412, 0, 0]),
    ("socket_vsock", 359, [40, 1, 0, 0]),
    ("mount", 21, [1, 1, 1, 0]),
    ("unshare", 310, [0, 0, 0, 0]),
    ("setns", 346, [u32::MAX, 0, 0, 0]),
    ("pivot_root", 217, [1, 1, 0, 0]),
    ("ptrace", 26, [0xffff, 0, 0, 0]),
    ("clone3", 435, [0, 0, 0, 0]),
    // A socket of a family that there is not, with arguments in memory.
    ("socketcall", 102, [1, 0, 0, 0]),
];

/// All of them.
pub fn all(run: &mut dyn FnMut(String, &dyn Fn() -> Verdict)) {
    for (name, number, arguments) in CALLS {
        run(format!("call_{name}"), &|| Verdict::of_call(call(*number, *arguments)));
    }
    #[cfg(target_arch = "x86_64")]
    {
        for (name, number, arguments) in X86 {
            run(format!("call_{name}"), &|| Verdict::of_call(call(*number, *arguments)));
        }
        for (name, number, arguments) in I386 {
            run(format!("i386_{name}"), &|| Verdict::of_call(crate::raw::call_i386(*number, *arguments)));
        }
    }
    run("call_mknod_device".into(), &|| {
        // The memory of the host; nobody opens it.
        let made = call(libc::SYS_mknodat, [BAD, text(c"/tmp/.berth-probe"), 0o020_600, 0x0101, 0, 0]);
        let _ = std::fs::remove_file("/tmp/.berth-probe");
        Verdict::of_call(made)
    });
}
