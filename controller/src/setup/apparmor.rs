//! The change to the container's AppArmor profile, and the look whether it happened.
//!
//! The future init changes by itself, when all mounts are made, and before it gives up new privileges: the kernel
//! afterwards takes a confined program only to a profile within its own, and the controller may be one
//! (`apparmor_bprm_creds_for_exec`, Documentation/userspace-api/no_new_privs.rst). What is left of the set-up needs
//! nothing that a profile refuses. This module does not know what profiles say, nor who loads them.

use std::os::fd::OwnedFd;

use berth_schemas::controller::LaunchPlan;
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, pread, write};

use crate::failure::{Doing, Outcome, Step};

use super::procfs;

/// What the kernel calls no profile at all.
const NONE: &str = "unconfined";

fn doing(operation: &'static str) -> Doing<'static> {
    Doing::new(Step::Profile, operation)
}

/// Through which the change is made: a procfs of the host's pids, if there is a change to make.
pub fn door(plan: &LaunchPlan) -> Outcome<Option<OwnedFd>> {
    plan.apparmor_profile.as_ref().map(|_| procfs::private(Step::Profile)).transpose()
}

/// Changes to the profile.
pub fn enter(plan: &LaunchPlan, door: Option<&OwnedFd>) -> Outcome<()> {
    let (Some(name), Some(door)) = (&plan.apparmor_profile, door) else { return Ok(()) };
    let own = "thread-self/attr/apparmor/current";
    let file = open(door, own, OFlags::RDWR)?;
    if name == NONE && label(&file, own)? == NONE {
        return Ok(());
    }
    // The kernel takes it only in one write, of the thread that has opened the file.
    let failed = |e| {
        let doing = doing("change to").path(name);
        match e {
            Errno::NOENT => doing.failed_because(e, "no such profile is loaded"),
            Errno::ACCESS => doing.failed_because(e, "the controller's own profile does not allow it"),
            e => doing.failed(e),
        }
    };
    write(&file, format!("changeprofile {name}").as_bytes()).map_err(failed)?;
    expect(name, &label(&file, own)?, |label| label == name)
}

/// Looks from outside at what init runs under. Its profile may have sent it on to a child of its own.
pub fn verify(plan: &LaunchPlan, door: Option<&OwnedFd>, pid: i32) -> Outcome<()> {
    let (Some(name), Some(door)) = (&plan.apparmor_profile, door) else { return Ok(()) };
    let path = format!("{pid}/attr/apparmor/current");
    let found = label(&open(door, &path, OFlags::RDONLY)?, &path)?;
    expect(name, &found, |label| {
        label.strip_prefix(name.as_str()).is_some_and(|r| r.is_empty() || r.starts_with("//"))
    })
}

fn open(door: &OwnedFd, path: &str, access: OFlags) -> Outcome<OwnedFd> {
    openat(door, path, access | OFlags::CLOEXEC, Mode::empty()).map_err(|e| match e {
        Errno::NOENT => doing("open").path(path).failed_because(e, "the kernel has no AppArmor"),
        e => doing("open").path(path).failed(e),
    })
}

/// The label without the mode behind it.
fn label(file: &OwnedFd, path: &str) -> Outcome<String> {
    let mut bytes = [0; 1024];
    let count = pread(file, &mut bytes, 0).map_err(|e| doing("read").path(path).failed(e))?;
    Ok(without_mode(&String::from_utf8_lossy(&bytes[..count])).to_owned())
}

/// `NAME (enforce)`, or only `unconfined`, with a line's end.
fn without_mode(text: &str) -> &str {
    let text = text.trim_end_matches(['\n', '\0']);
    text.rsplit_once(" (").filter(|(_, mode)| mode.ends_with(')')).map_or(text, |(name, _)| name)
}

fn expect(name: &str, found: &str, fits: impl Fn(&str) -> bool) -> Outcome<()> {
    if fits(found) {
        return Ok(());
    }
    Err(doing("change to").path(name).refused(format!("init runs under '{found}'")))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn labels_come_with_a_mode_or_without() {
        assert_eq!(without_mode("berth-x (enforce)\n"), "berth-x");
        assert_eq!(without_mode("unconfined\n"), "unconfined");
        assert_eq!(without_mode("a (b) (complain)\0"), "a (b)");
    }

    #[test]
    fn another_label_is_told() {
        let failure = expect("berth-x", "unconfined", |l| l == "berth-x").expect_err("another label");
        assert_eq!((failure.step.as_str(), failure.path.as_deref()), ("profile", Some("berth-x")));
        assert_eq!(failure.detail.as_deref(), Some("init runs under 'unconfined'"));
        assert!(expect("a", "a", |l| l == "a").is_ok());
    }
}
