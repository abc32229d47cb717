//! Whether the parts of a model fit together.
//!
//! A value that is wrong on its own never reaches the model. This module does not know the host or what this version
//! can run: see `start`.

use crate::Diagnostic;
use crate::model::devices::normal_path;
use crate::model::{Domain, IdRange, NamespaceKind};
use crate::tree::Pos;

impl Domain {
    /// What makes this a definition that no version could run; empty if it is one.
    pub fn validate(&self) -> Vec<Diagnostic> {
        let mut problems = Vec::new();
        self.check_filesystems(&mut problems);
        self.check_idmap(&mut problems);
        self.check_seclabels(&mut problems);
        self.check_apparmor(&mut problems);
        self.check_names(&mut problems);
        self.check_devices(&mut problems);
        self.check_namespace(&mut problems);
        self.check_memory(&mut problems);
        problems.extend(self.seccomp().err().unwrap_or_default());
        problems
    }

    fn check_filesystems(&self, problems: &mut Vec<Diagnostic>) {
        let mut seen: Vec<String> = Vec::new();
        for fs in &self.devices.filesystems {
            let target = normal_path(&fs.target);
            if seen.contains(&target) {
                let message = format!("another file system already has the target '{target}'");
                problems.push(Diagnostic::new(fs.pos, "domain/devices/filesystem", message));
            }
            seen.push(target);
        }
        if !seen.iter().any(|target| target == "/") {
            let mut problem =
                Diagnostic::new(self.devices.pos, "domain/devices", "no file system has the target '/'");
            problem.hint = Some(
                "name the container's root: <filesystem type='mount'><source dir='...'/><target dir='/'/></filesystem>"
                    .into(),
            );
            problems.push(problem);
        }
    }

    /// Memory and swap together are no less than memory alone.
    fn check_memory(&self, problems: &mut Vec<Diagnostic>) {
        let Some(tune) = &self.memtune else { return };
        let (memory, of) = match tune.hard_limit {
            Some(hard) => (hard, "hard_limit"),
            None => (self.current_memory_kib, "memory of the domain"),
        };
        if let Some(both) = tune.swap_hard_limit.filter(|both| *both < memory) {
            let message = format!(
                "the swap_hard_limit, {both} KiB, is of memory and swap together, and less than the {of}, {memory} KiB"
            );
            problems.push(Diagnostic::new(tune.pos, "domain/memtune/swap_hard_limit", message));
        }
    }

    fn check_idmap(&self, problems: &mut Vec<Diagnostic>) {
        let Some(map) = &self.idmap else { return };
        if map.uids.is_empty() || map.gids.is_empty() {
            problems.push(Diagnostic::new(map.pos, "domain/idmap", "both <uid> and <gid> must be there"));
        }
        for (name, ranges) in [("uid", &map.uids), ("gid", &map.gids)] {
            check_ranges(name, map.pos, ranges, problems);
        }
    }

    fn check_seclabels(&self, problems: &mut Vec<Diagnostic>) {
        for (index, label) in self.seclabels.iter().enumerate() {
            if self.seclabels[..index].iter().any(|other| other.model == label.model) {
                let message = match &label.model {
                    Some(model) => format!("there already is a security label for the model '{model}'"),
                    None => "there already is a security label without a model".into(),
                };
                problems.push(Diagnostic::new(label.pos, "domain/seclabel", message));
            }
        }
    }

    /// Names that must differ: of interfaces on either end, of hardware addresses, of disks.
    fn check_names(&self, problems: &mut Vec<Diagnostic>) {
        let interfaces = &self.devices.interfaces;
        let element = "domain/devices/interface";
        let pick = |what: &'static str, name: fn(&crate::model::Interface) -> Option<&String>| {
            let names: Vec<(Pos, &String)> =
                interfaces.iter().filter_map(|i| name(i).map(|name| (i.pos, name))).collect();
            (what, names)
        };
        let mut sets = vec![(element, pick("the host name", |i| i.target.as_ref()))];
        sets.push((element, pick("the guest name", |i| i.guest.as_ref())));
        sets.push((element, pick("the hardware address", |i| Some(&i.mac))));
        let disks = self.devices.disks.iter().map(|d| (d.pos, &d.target)).collect();
        sets.push(("domain/devices/disk", ("the target", disks)));
        for (element, (what, names)) in sets {
            for (index, (pos, name)) in names.iter().enumerate() {
                if names[..index].iter().any(|(_, other)| other == name) {
                    let message = format!("another one already has {what} '{name}'");
                    problems.push(Diagnostic::new(*pos, element, message));
                }
            }
        }
    }

    fn check_namespace(&self, problems: &mut Vec<Diagnostic>) {
        let Some(namespace) = &self.namespace else { return };
        let shares_net = namespace.shares.iter().any(|s| s.kind == NamespaceKind::Net);
        if shares_net && (self.features.privnet || !self.devices.interfaces.is_empty()) {
            let message = "a shared network excludes <privnet> and interfaces";
            problems.push(Diagnostic::new(namespace.pos, "domain/lxc:namespace", message));
        }
    }
}

fn check_ranges(name: &str, map: Pos, ranges: &[IdRange], problems: &mut Vec<Diagnostic>) {
    let path = format!("domain/idmap/{name}");
    if !ranges.is_empty() && !ranges.iter().any(|r| r.start == 0) {
        let mut problem =
            Diagnostic::new(map, "domain/idmap", format!("no <{name}> maps the id 0 of the container"));
        problem.hint = Some(format!("one <{name}> must have start='0'"));
        problems.push(problem);
    }
    for (index, range) in ranges.iter().enumerate() {
        let mut say = |message: String| problems.push(Diagnostic::new(range.pos, path.clone(), message));
        if range.count == 0 {
            say("the count is 0".into());
            continue;
        }
        // The last id of all, 2^32-1, means "no id".
        let end = |first: u32| u64::from(first) + u64::from(range.count);
        if end(range.start) > u64::from(u32::MAX) || end(range.target) > u64::from(u32::MAX) {
            say("the range goes beyond the last id".into());
        }
        let meets = |a: u32, b: u32, other: &IdRange| {
            u64::from(a) < u64::from(b) + u64::from(other.count)
                && u64::from(b) < u64::from(a) + u64::from(range.count)
        };
        for other in &ranges[..index] {
            if meets(range.start, other.start, other) {
                say(format!("overlaps the range that starts at {} inside", other.start));
            }
            if meets(range.target, other.target, other) {
                say(format!("overlaps the range that starts at {} on the host", other.target));
            }
        }
    }
}
