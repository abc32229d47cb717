//! What is different between two documents of one domain that runs: its devices, and its share of the processors.
//!
//! Pure. Does not know why anything changed, nor who wants to know.

use std::collections::BTreeSet;

use berth_domain::Domain;
use berth_domain::model::{Hostdev, HostdevSource};
use berth_schemas::domain::{EventKind, Tunable};

use crate::engine::publish::Draft;
use crate::engine::snapshot::Snapshot;

/// What a device is called in signals: the alias that its user gave it, else what tells it from the others of its kind,
/// as it stands in the document: the target of a disk or file system, the hardware address of an interface, the source
/// of a host device.
fn devices(domain: &Domain) -> BTreeSet<String> {
    let all = &domain.devices;
    let disks = all.disks.iter().map(|d| (&d.alias, d.target.clone()));
    let filesystems = all.filesystems.iter().map(|f| (&f.alias, f.target.clone()));
    let interfaces = all.interfaces.iter().map(|i| (&i.alias, i.mac.clone()));
    let hostdevs = all.hostdevs.iter().map(|h| (&h.alias, source(h)));
    let named = disks.chain(filesystems).chain(interfaces).chain(hostdevs);
    named.map(|(alias, name)| alias.clone().unwrap_or(name)).collect()
}

fn source(device: &Hostdev) -> String {
    match &device.source {
        HostdevSource::Usb { address: Some(a), .. } => format!("usb:{}:{}", a.bus, a.device),
        HostdevSource::Usb { id: Some(id), .. } => format!("usb:{:04x}:{:04x}", id.vendor, id.product),
        HostdevSource::Usb { id: None, address: None } => "usb".into(),
        HostdevSource::Storage { block: path } | HostdevSource::Misc { char: path } => path.clone(),
        HostdevSource::Net { interface, .. } => interface.clone(),
    }
}

/// Shares, period and quota, as `GetSchedulerParameters` tells them, by the names of libvirt's event of tunables.
fn scheduler(domain: &Domain) -> [Tunable; 3] {
    let tune = domain.cputune.as_ref();
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    [
        ("cputune.cpu_shares", number(tune.and_then(|t| t.shares).unwrap_or(1024))),
        ("cputune.vcpu_period", number(tune.and_then(|t| t.period).unwrap_or(100_000))),
        ("cputune.vcpu_quota", tune.and_then(|t| t.quota).unwrap_or(-1)),
    ]
    .map(|(name, value)| Tunable { name: name.to_owned(), value })
}

/// What is told about a run that goes on as another than before.
pub fn drafts(before: &Snapshot, now: &Snapshot) -> Vec<Draft> {
    let (Some(old), Some(new)) = (&before.run, &now.run) else { return Vec::new() };
    if old.id != new.id || old.live == new.live {
        return Vec::new();
    }
    let (had, has) = (devices(&old.live), devices(&new.live));
    let added = has.difference(&had).map(|d| Draft::new(EventKind::DeviceAdded, d));
    let removed = had.difference(&has).map(|d| Draft::new(EventKind::DeviceRemoved, d));
    let mut drafts: Vec<Draft> = added.chain(removed).collect();
    let tunables = tunables(&old.live, &new.live);
    if !tunables.is_empty() {
        drafts.push(Draft { tunables, ..Draft::blank(EventKind::Tunable) });
    }
    drafts
}

/// What has another value, of what a container has of libvirt's tunables.
fn tunables(before: &Domain, now: &Domain) -> Vec<Tunable> {
    let old = scheduler(before);
    scheduler(now).into_iter().filter(|tunable| !old.contains(tunable)).collect()
}

#[cfg(test)]
mod test {
    use super::*;
    use berth_domain::Host;

    fn domain(inside: &str, devices: &str) -> Domain {
        let xml = format!(
            "<domain type='lxc'><name>d</name><memory>65536</memory>{inside}<os><type>exe</type>\
             <init>/bin/sh</init></os><devices><filesystem type='mount'><source dir='/srv'/><target dir='/'/>\
             </filesystem>{devices}</devices></domain>"
        );
        berth_domain::parse(&xml, &Host { arch: "x86_64".into(), emulator: "/x".into() })
            .expect("a domain")
            .domain
    }

    #[test]
    fn devices_have_a_name_each() {
        let all = domain(
            "",
            "<disk type='block'><source dev='/dev/x'/><target dev='sda'/></disk>\
             <disk type='block'><source dev='/dev/y'/><target dev='sdb'/><alias name='ua-data'/></disk>\
             <interface type='bridge'><source bridge='br0'/><mac address='52:54:00:00:00:01'/></interface>\
             <hostdev mode='capabilities' type='misc'><source><char>/dev/kvm</char></source></hostdev>",
        );
        let wanted = ["/", "/dev/kvm", "52:54:00:00:00:01", "sda", "ua-data"];
        assert_eq!(devices(&all).into_iter().collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn only_what_changed_is_told() {
        let with = |quota: i64| domain(&format!("<cputune><quota>{quota}</quota></cputune>"), "");
        assert_eq!(tunables(&with(5000), &with(5000)), []);
        let told = Tunable { name: "cputune.vcpu_quota".into(), value: 5000 };
        assert_eq!(tunables(&domain("", ""), &with(5000)), [told]);
    }
}
