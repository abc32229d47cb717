//! Namespaces and mounts, each tried by a process that ends right after it: nothing of it stays.

use std::ffi::CStr;
use std::ptr::null;

use crate::files::knob;
use crate::verdict::{Verdict, check};

const WORK: &CStr = c"/tmp";

fn unshare(flags: i32) -> Result<(), i32> {
    // SAFETY: only an integer goes in.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

fn mount(kind: &CStr, target: &CStr, flags: libc::c_ulong, data: Option<&CStr>) -> Result<(), i32> {
    let data = data.map_or(null(), CStr::as_ptr);
    // SAFETY: all pointers are live C strings, or null where mount(2) allows it.
    let result = unsafe { libc::mount(c"none".as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.cast()) };
    check(result).map(drop)
}

/// Mounts of our own, which nobody else sees.
fn alone() -> Result<(), i32> {
    unshare(libc::CLONE_NEWNS)?;
    mount(c"none", c"/", libc::MS_REC | libc::MS_PRIVATE, None)
}

fn fresh(kind: &CStr, data: Option<&CStr>) -> Result<(), i32> {
    alone()?;
    mount(kind, WORK, 0, data)
}

fn then_knob(done: Result<(), i32>, path: &str) -> Verdict {
    match done {
        Ok(()) => knob(path),
        Err(_) => Verdict::of_success(done),
    }
}

/// All of them.
pub fn all(run: &mut dyn FnMut(String, &dyn Fn() -> Verdict)) {
    for (name, flag) in [
        ("user", libc::CLONE_NEWUSER),
        ("mount", libc::CLONE_NEWNS),
        ("net", libc::CLONE_NEWNET),
        ("pid", libc::CLONE_NEWPID),
        ("cgroup", libc::CLONE_NEWCGROUP),
    ] {
        run(format!("unshare_{name}"), &|| Verdict::of_success(unshare(flag)));
    }
    for (name, kind, data) in [
        ("tmpfs", c"tmpfs", None),
        ("proc", c"proc", None),
        ("sysfs", c"sysfs", None),
        ("cgroup2", c"cgroup2", None),
        ("cgroup1", c"cgroup", Some(c"none,name=berth-probe")),
        ("devtmpfs", c"devtmpfs", None),
        ("debugfs", c"debugfs", None),
        ("tracefs", c"tracefs", None),
        ("securityfs", c"securityfs", None),
        ("bpffs", c"bpf", None),
        ("binfmt_misc", c"binfmt_misc", None),
    ] {
        run(format!("mount_{name}"), &|| Verdict::of_success(fresh(kind, data)));
    }
    run("nested_mount".into(), &|| {
        let inside = unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS);
        Verdict::of_success(inside.and_then(|()| mount(c"tmpfs", WORK, 0, None)))
    });
    run("remount_proc_sys".into(), &|| {
        let again = libc::MS_REMOUNT | libc::MS_BIND;
        then_knob(
            alone().and_then(|()| mount(c"none", c"/proc/sys", again, None)),
            "/proc/sys/kernel/core_pattern",
        )
    });
    run("remount_sys".into(), &|| {
        let done = alone().and_then(|()| mount(c"none", c"/sys", libc::MS_REMOUNT | libc::MS_BIND, None));
        then_knob(done, "/sys/kernel/mm/transparent_hugepage/enabled")
    });
    run("umount_mask".into(), &|| {
        // SAFETY: the path is a live C string.
        let off = || check(unsafe { libc::umount2(c"/proc/kallsyms".as_ptr(), libc::MNT_DETACH) }).map(drop);
        Verdict::of_success(alone().and_then(|()| off()))
    });
    run("fresh_proc_knob".into(), &|| then_knob(fresh(c"proc", None), "/tmp/sys/kernel/core_pattern"));
    run("fresh_sys_knob".into(), &|| {
        then_knob(fresh(c"sysfs", None), "/tmp/kernel/mm/transparent_hugepage/enabled")
    });
}
