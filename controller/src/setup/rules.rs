//! Which devices the container may open, and how the kernel is told: an exact list (invariant I3).
//!
//! In the v2 tree a program on the payload group, in a v1 hierarchy lines of the domain's group; both where both are.
//! This module does not know what the devices are for. Sources: cgroup-v1/devices.rst, bpf(2).

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use berth_schemas::controller::PlanCgroups;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::failure::{Doing, Outcome, Step};

use super::{cgroup, device_program};

/// A device, or all of a major number, that may be opened for reading, and for writing if it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// A block device, else a character device.
    pub block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number; all of them without one.
    pub minor: Option<u32>,
    /// Also for writing.
    pub write: bool,
}

/// Character devices that every container may open (admin-guide/devices.txt): null, zero, full, random, urandom, tty,
/// ptmx, and all terminals of a devpts.
const STANDARD: &[(u32, Option<u32>)] = &[
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(2)),
    (136, None),
];

/// What every container may open.
pub fn standard() -> Vec<Rule> {
    STANDARD.iter().map(|&(major, minor)| Rule { block: false, major, minor, write: true }).collect()
}

/// What is in force.
#[derive(Debug, Default)]
#[allow(dead_code, reason = "for devices that come and go while the container runs")]
pub struct Rules {
    /// The program on the payload group, which is named when another takes its place.
    program: Option<OwnedFd>,
    /// Whether the v1 group follows the list.
    legacy: bool,
    list: Vec<Rule>,
}

impl Rules {
    /// Puts a list in force for a container that is about to be made. An error if neither way works; what only one of
    /// them refused is noted.
    pub fn begin(groups: &PlanCgroups, list: Vec<Rule>) -> Outcome<Self> {
        let unified = load(groups, &list, None);
        let legacy = begin_legacy(groups, &list);
        match (&unified, &legacy) {
            (Err(failure), None | Some(Err(_))) => return Err(failure.clone()),
            (Err(failure), _) | (_, Some(Err(failure))) => {
                crate::note(&format!("only one of two: {}", crate::birth::describe(failure)));
            }
            _ => {}
        }
        Ok(Self { program: unified.ok(), legacy: matches!(legacy, Some(Ok(()))), list })
    }

    #[allow(dead_code, reason = "for devices that come and go while the container runs")]
    /// Whether opening devices is decided by the list.
    pub fn in_force(&self) -> bool {
        self.legacy || self.program.is_some()
    }

    #[allow(dead_code, reason = "for devices that come and go while the container runs")]
    /// Changes the list of a running container: what is allowed first, what is taken away last. Without rules in force
    /// there is nothing to change.
    pub fn replace(&mut self, groups: &PlanCgroups, list: Vec<Rule>) -> Outcome<()> {
        if let Some(old) = &self.program {
            self.program = Some(load(groups, &list, Some(old))?);
        }
        if let Some(group) = legacy_group(groups).filter(|_| self.legacy) {
            for rule in list.iter().filter(|r| !self.list.contains(r)) {
                write(group, "devices.allow", &line(rule))?;
            }
            let gone: Vec<Rule> = self.list.iter().filter(|r| !list.contains(r)).copied().collect();
            for rule in &gone {
                write(group, "devices.deny", &line(rule))?;
            }
            // What another rule for the same device allows has gone with it.
            for rule in list.iter().filter(|r| gone.iter().any(|g| g.major == r.major)) {
                write(group, "devices.allow", &line(rule))?;
            }
        }
        self.list = list;
        Ok(())
    }

    #[allow(dead_code, reason = "for devices that come and go while the container runs")]
    /// The list in force.
    pub fn list(&self) -> &[Rule] {
        &self.list
    }
}

/// Attaches the program of a list to the payload group.
fn load(groups: &PlanCgroups, list: &[Rule], replaced: Option<&OwnedFd>) -> Outcome<OwnedFd> {
    let path = cgroup::payload(groups);
    let doing = |operation| Doing::new(Step::Rules, operation).path(&path);
    let group = open(&path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| doing("open").failed(e))?;
    let program = berth_sys::bpf::load_device_program(&device_program::assemble(list))
        .map_err(|e| doing("load the program of device rules for").failed(e))?;
    berth_sys::bpf::attach_device_program(group.as_fd(), program.as_fd(), replaced.map(AsFd::as_fd))
        .map_err(|e| doing("attach the program of device rules to").failed(e))?;
    Ok(program)
}

/// The domain's group in the hierarchy of the devices controller, if there is one.
fn legacy_group(groups: &PlanCgroups) -> Option<&str> {
    groups.legacy.iter().map(|g| &**g).find(|group| Path::new(group).join("devices.deny").exists())
}

fn begin_legacy(groups: &PlanCgroups, list: &[Rule]) -> Option<Outcome<()>> {
    let group = legacy_group(groups)?;
    Some(replace_legacy(group, list))
}

fn replace_legacy(group: &str, list: &[Rule]) -> Outcome<()> {
    write(group, "devices.deny", "a")?;
    for rule in list {
        write(group, "devices.allow", &line(rule))?;
    }
    // Making a device file is a matter of capabilities: see the program.
    write(group, "devices.allow", "c *:* m")?;
    write(group, "devices.allow", "b *:* m")
}

/// A rule as the v1 controller reads it.
fn line(rule: &Rule) -> String {
    let kind = if rule.block { 'b' } else { 'c' };
    let minor = rule.minor.map_or_else(|| "*".to_owned(), |m| m.to_string());
    let access = if rule.write { "rw" } else { "r" };
    format!("{kind} {}:{minor} {access}", rule.major)
}

fn write(group: &str, name: &str, text: &str) -> Outcome<()> {
    let path = format!("{group}/{name}");
    let written = open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|file| rustix::io::write(&file, text.as_bytes()));
    written.map(drop).map_err(|e: Errno| Doing::new(Step::Rules, "write").path(&path).failed_because(e, text))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn lines_are_as_the_controller_reads_them() {
        let rule = Rule { block: true, major: 7, minor: Some(3), write: false };
        assert_eq!(line(&rule), "b 7:3 r");
        let lines: Vec<String> = standard().iter().map(line).collect();
        assert_eq!(lines[0], "c 1:3 rw");
        assert_eq!(lines.last().map(String::as_str), Some("c 136:* rw"));
    }
}
