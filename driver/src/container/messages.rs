//! Sentences about starts that failed, one form for every step, with a hint where one is known.
//!
//! Pure. Does not know how a step works.

use berth_schemas::controller::StepFailure;
use nix::errno::Errno;

use crate::failure::StartFailure;

/// What the kernel means, without a number behind it.
fn errno_text(errno: i64) -> String {
    match i32::try_from(errno) {
        Ok(raw) => Errno::from_raw(raw).desc().to_owned(),
        Err(_) => format!("error {errno}"),
    }
}

/// The sentence for a device that could not be attached or detached: what was tried and why it failed.
pub fn device_failed(failure: &StepFailure) -> String {
    let mut what = failure.operation.clone();
    if let Some(path) = &failure.path {
        what.push_str(&format!(" '{path}'"));
    }
    if let Some(target) = &failure.target {
        what.push_str(&format!(" on '{target}'"));
    }
    let cause = match (&failure.errno, &failure.detail) {
        (Some(errno), Some(detail)) => format!(": {detail}: {}", errno_text(*errno)),
        (Some(errno), None) => format!(": {}", errno_text(*errno)),
        (None, Some(detail)) => format!(": {detail}"),
        (None, None) => String::new(),
    };
    format!("cannot {what}{cause}")
}

/// The sentence for a step that failed in the controller or in the daemon.
pub fn start_failed(name: &str, failure: &StepFailure) -> StartFailure {
    let step = &failure.step;
    StartFailure {
        message: format!("cannot start domain '{name}': step '{step}': {}", device_failed(failure)),
        step: step.clone(),
        path: failure.path.clone(),
        errno: failure.errno,
        hint: hint(failure),
    }
}

/// The failure of a step that is not the kernel's.
pub fn plain(step: &str, operation: &str, detail: String) -> StepFailure {
    StepFailure {
        step: step.into(),
        operation: operation.into(),
        path: None,
        target: None,
        errno: None,
        detail: Some(detail),
    }
}

/// The same for an error of the daemon's own.
pub fn step_failed(
    step: &str,
    operation: &str,
    path: Option<&std::path::Path>,
    cause: &std::io::Error,
) -> StepFailure {
    let errno = cause.raw_os_error().map(i64::from);
    StepFailure {
        step: step.into(),
        operation: operation.into(),
        path: path.map(|p| p.display().to_string()),
        target: None,
        errno,
        detail: if errno.is_none() { Some(cause.to_string()) } else { None },
    }
}

fn hint(failure: &StepFailure) -> Option<String> {
    let errno = failure.errno.and_then(|e| i32::try_from(e).ok()).map(Errno::from_raw);
    let path = failure.path.as_deref().unwrap_or_default();
    let text = match (failure.step.as_str(), errno) {
        ("root", Some(Errno::ENOENT)) => {
            format!("make the folder '{path}' or correct <source dir='...'/> of the root")
        }
        ("root", Some(Errno::ENOTDIR)) => format!("'{path}' must be a folder"),
        ("filesystems", Some(Errno::ENOENT)) => {
            format!("make '{path}' or correct the <filesystem> that names it")
        }
        ("init" | "exec", Some(Errno::ENOENT)) => {
            format!(
                "there is no '{path}' inside the container: correct <init>, or its interpreter or loader is missing"
            )
        }
        ("init" | "exec", Some(Errno::EACCES)) => format!("make '{path}' executable inside the container"),
        ("init" | "exec", Some(Errno::ENOEXEC)) => {
            format!("'{path}' is a program for another architecture, or a script without '#!'")
        }
        ("sources", Some(Errno::EINVAL | Errno::EPERM)) if failure.operation == "map the ids of" => {
            "put it on a file system that can (ext4, xfs, btrfs, tmpfs since Linux 6.3), or give the domain an <idmap> \
             and its files to the ids of that, or let root inside be root outside: <berth:idmap mode='none'/> in <berth:settings>"
                .into()
        }
        ("nodes", Some(Errno::ENOENT)) => format!(
            "make '{path}' or correct the <disk> or <hostdev> that names it; a driver of the host may not be loaded"
        ),
        ("nodes", Some(Errno::EEXIST)) => "another device of the container has this name".into(),
        ("nodes" | "sources", None) if failure.operation == "use" => {
            "correct the <disk>, <hostdev> or <filesystem> that names it".into()
        }
        ("sources", None) if failure.operation == "mount" => {
            format!("make a file system on it, for example with mkfs.ext4, if there is nothing on '{path}' to keep")
        }
        ("sources", Some(Errno::EROFS)) if failure.operation == "mount" => {
            "a file system that was not unmounted cannot be mounted read-only: leave out <readonly/> once".into()
        }
        (_, Some(Errno::EBUSY)) if failure.operation == "mount" => {
            format!("'{path}' may be mounted on the host, or in another container: see findmnt")
        }
        (_, Some(Errno::ENOENT | Errno::ENODEV | Errno::ENXIO)) if path == "/dev/loop-control" => {
            "the host has no loop devices: modprobe loop".into()
        }
        (_, None) if failure.operation == "serve by qemu-nbd" => match failure.detail.as_deref() {
            Some(cause) if cause.contains("installed") => {
                "install it: package qemu-utils (Debian, Ubuntu) or qemu-img (Fedora), and start the domain again".into()
            }
            Some(cause) if cause.contains("in use") => "more of them: modprobe nbd nbds_max=64".into(),
            Some(cause) if cause.contains("no '/dev/nbd0'") => "load the driver: modprobe nbd".into(),
            _ => return None,
        },
        ("links", Some(Errno::ENODEV)) => {
            "make it, or correct the <source> of the <interface>: see ip link".into()
        }
        ("links", Some(Errno::EEXIST)) => {
            "another one has this name: leave out <target>, or choose another".into()
        }
        ("links", Some(Errno::EOPNOTSUPP)) => {
            "the kernel has no such interfaces: modprobe veth, macvlan, ifb, sch_tbf or act_mirred".into()
        }
        ("links", None) if failure.detail.as_deref().is_some_and(|d| d.contains("filter virtual LANs")) => {
            format!("ip link set {path} type bridge vlan_filtering 1")
        }
        ("interfaces", Some(Errno::ENODEV)) => "see ip link; another container may have it".into(),
        ("rules", _) => {
            "without device rules root inside could open every device of the host: give the domain ids of its own, or \
             see to it that the kernel has CONFIG_CGROUP_BPF or the v1 controller 'devices'"
                .into()
        }
        ("ids", None) => "more ids: /etc/subuid and /etc/subgid of the user 'berth', or [idmap] pool in berthd.toml".into(),
        ("spawn", Some(Errno::ENOENT)) => {
            "the controller is not installed: berthd looks beside its own program, or where --controller says"
                .into()
        }
        ("profile", _) if failure.operation.starts_with("use ") => {
            "load it with apparmor_parser, or let Berth choose one: <seclabel type='dynamic' model='apparmor'/>".into()
        }
        ("profile", _) => "a domain runs without a profile with <seclabel type='none' model='apparmor'/>".into(),
        ("clone" | "ids", Some(Errno::ENOSPC)) => "raise a limit in /proc/sys/user/max_*_namespaces".into(),
        ("clone" | "spawn", Some(Errno::EAGAIN)) => {
            "too many processes: see /proc/sys/kernel/pid_max and pids.max".into()
        }
        (_, Some(Errno::ENOSPC)) => "the file system is full".into(),
        (_, Some(Errno::EMFILE | Errno::ENFILE)) => "raise the limit of open files".into(),
        (_, Some(Errno::ENOMEM)) => "the host is out of memory".into(),
        (_, Some(Errno::EPERM)) => "berthd must run as root, with all capabilities".into(),
        _ => return None,
    };
    Some(text)
}

#[cfg(test)]
mod test {
    use super::*;

    fn failure(step: &str, operation: &str, errno: Option<i64>) -> StepFailure {
        StepFailure {
            step: step.into(),
            operation: operation.into(),
            path: Some("/srv/x".into()),
            target: None,
            errno,
            detail: None,
        }
    }

    #[test]
    fn one_sentence_with_cause_last() {
        let with_target =
            StepFailure { target: Some("/data".into()), ..failure("filesystems", "mount", Some(2)) };
        let text = start_failed("web", &with_target);
        assert_eq!(
            text.message,
            "cannot start domain 'web': step 'filesystems': cannot mount '/srv/x' on '/data': No such file or directory"
        );
        assert_eq!(text.hint.as_deref(), Some("make '/srv/x' or correct the <filesystem> that names it"));
        let detail = StepFailure { detail: Some("it is a link".into()), ..failure("root", "open", None) };
        assert_eq!(
            start_failed("web", &detail).message,
            "cannot start domain 'web': step 'root': cannot open '/srv/x': it is a link"
        );
    }

    #[test]
    fn steps_that_are_not_known_still_make_a_sentence() {
        let odd = StepFailure { path: None, ..failure("new-step", "frobnicate", Some(9999)) };
        let text = start_failed("web", &odd);
        assert!(text.message.starts_with("cannot start domain 'web': step 'new-step': cannot frobnicate: "));
        assert_eq!(text.hint, None);
    }
}
