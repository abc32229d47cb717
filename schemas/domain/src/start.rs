//! What this version accepts, keeps, and cannot run yet.
//!
//! One line of [`TABLE`] per category: whoever makes a category run deletes its line. This module does not know the
//! host: what is missing there is for the start itself to find.

use crate::Diagnostic;
use crate::model::{ClockOffset, Domain, FsKind, Interface, InterfaceSource, NumaMode, SeclabelKind};
use crate::tree::Pos;

type Found = Vec<(Pos, String)>;

/// Path of the element, and what finds it.
type Category = (&'static str, fn(&Domain) -> Found);

const TABLE: &[Category] = &[
    ("domain/devices/interface", interfaces),
    ("domain/devices/filesystem", |d| filesystems(d, FsKind::Template)),
    ("domain/devices/filesystem", |d| filesystems(d, FsKind::Volume)),
    ("domain/seclabel", seclabels),
    ("domain/numatune", policy),
    ("domain/clock", timers),
];

impl Domain {
    /// What keeps this definition from being started by this version, each with its position in the document.
    pub fn start_problems(&self) -> Vec<Diagnostic> {
        let mut problems: Vec<Diagnostic> = Vec::new();
        for (element, find) in TABLE {
            for (pos, what) in find(self) {
                let message = format!("{what} cannot be started yet by this version of berth");
                problems.push(Diagnostic::new(pos, *element, message));
            }
        }
        for root in self.devices.filesystems.iter().filter(|f| f.is_root()) {
            let kind = root.source.kind();
            if !matches!(kind, FsKind::Mount | FsKind::File | FsKind::Block) {
                let message = format!("a file system of type '{kind}' cannot be the root of a container");
                let mut problem = Diagnostic::new(root.pos, "domain/devices/filesystem", message);
                problem.hint =
                    Some("for the host's own root: <filesystem type='mount'> with <source dir='/'/>".into());
                problems.push(problem);
            }
        }
        self.check_drivers(&mut problems);
        problems.extend(self.devices.interfaces.iter().flat_map(impossible));
        if let (Some(map), Some(_)) = (&self.idmap, self.shares_namespaces()) {
            let message = "a domain that shares namespaces cannot have ids of its own";
            let mut problem = Diagnostic::new(map.pos, "domain/idmap", message);
            problem.hint = Some("leave out <idmap> or <lxc:namespace>".into());
            problems.push(problem);
        }
        problems.sort_by_key(|d| (d.line, d.column));
        problems
    }
}

impl Domain {
    /// The partition that its control groups are in, if it is not the usual one.
    pub fn partition(&self) -> Option<&str> {
        let partition = self.resource.as_ref()?.partition.as_deref()?;
        (partition != "/machine").then_some(partition)
    }

    /// Where it asks for a namespace of somebody else, if it does.
    pub fn shares_namespaces(&self) -> Option<Pos> {
        self.namespace.as_ref().filter(|n| !n.shares.is_empty()).map(|n| n.pos)
    }
}

fn interfaces(d: &Domain) -> Found {
    d.devices
        .interfaces
        .iter()
        .flat_map(|i| {
            let kind = matches!(i.source, InterfaceSource::Other(_));
            let kind = kind.then(|| format!("an interface of type '{}'", i.source.kind()));
            let filter = i.filterref.as_ref().map(|f| format!("an interface with the filter '{}'", f.filter));
            let floor = i.bandwidth.iter().flat_map(|b| &b.inbound).any(|r| r.floor.is_some());
            let floor = floor.then(|| "an interface with a floor of its bandwidth".to_owned());
            [kind, filter, floor].into_iter().flatten().map(|what| (i.pos, what))
        })
        .collect()
}

/// What an interface cannot have, whatever the version.
fn impossible(interface: &Interface) -> Vec<Diagnostic> {
    let in_bridge =
        matches!(interface.source, InterfaceSource::Bridge { .. } | InterfaceSource::Network { .. });
    let direct = matches!(interface.source, InterfaceSource::Direct { .. });
    let port = interface.virtualport.as_ref();
    let wrong = [
        (direct && interface.bandwidth.is_some(), "no <bandwidth>"),
        (!in_bridge && interface.vlan.is_some(), "no <vlan>"),
        (!in_bridge && interface.isolated == Some(true), "no isolated <port>"),
        (
            port.is_some_and(|p| !in_bridge || p.kind.as_deref().is_some_and(|k| k != "openvswitch")),
            "no <virtualport> but one of Open vSwitch in a bridge",
        ),
    ];
    let kind = interface.source.kind();
    let say = |what: &str| {
        let message = format!("an interface of type '{kind}' can have {what}");
        Diagnostic::new(interface.pos, "domain/devices/interface", message)
    };
    wrong.iter().filter(|(is, _)| *is).map(|(_, what)| say(what)).collect()
}

fn filesystems(d: &Domain, kind: FsKind) -> Found {
    let those = d.devices.filesystems.iter().filter(|f| f.source.kind() == kind);
    those.map(|f| (f.pos, format!("a file system of type '{kind}'"))).collect()
}

/// Labels of AppArmor are applied; whether the host has it is for the start itself to find.
fn seclabels(d: &Domain) -> Found {
    let other = |model: &String| model != crate::apparmor::MODEL;
    let those = d.seclabels.iter().filter(|s| s.kind != SeclabelKind::None);
    let mut found = Found::new();
    for label in those {
        if let Some(model) = label.model.as_ref().filter(|m| other(m)) {
            found.push((label.pos, format!("a domain with a security label of the model '{model}'")));
        } else if label.baselabel.is_some() {
            found.push((label.pos, "a domain with a base label, which AppArmor has none of,".to_owned()));
        }
    }
    found
}

/// A preference is for one node.
fn policy(d: &Domain) -> Found {
    let several = |set: &String| set.contains([',', '-']);
    let soft = d.numatune.iter().filter(|n| n.mode == NumaMode::Preferred);
    let many = soft.filter(|n| n.nodeset.as_ref().is_some_and(several));
    many.map(|n| (n.pos, "a domain that prefers the memory of several NUMA nodes".to_owned())).collect()
}

fn timers(d: &Domain) -> Found {
    let local = d.clock.offset == ClockOffset::Localtime;
    let wanted = d.clock.timers.iter().filter(|t| t.present == Some(true) || (local && t.present.is_none()));
    wanted.map(|t| (t.pos, format!("a clock with the timer '{}'", t.name))).collect()
}
