//! CPUs, limits, placement and id ranges. An element that says nothing at all is as good as none.
//!
//! Does not know how much the host has, nor whether id ranges overlap: see `validate`.

use super::absolute;
use crate::model::resources::{MAX_BLKIO_DEVICES, MAX_ID_RANGES};
use crate::model::{
    BlkioDevice, Blkiotune, Cputune, Extra, IdMap, IdRange, Memtune, NumaMode, Numatune, Placement, Resource,
    Vcpu,
};
use crate::units::{MAX_KIB, kib, set};
use crate::walk::Walk;

/// Most CPUs of a domain.
const MAX_VCPUS: u32 = 16_384;

pub(super) fn vcpu(walk: Option<Walk<'_>>) -> Vcpu {
    let mut vcpu = Vcpu {
        count: 1,
        current: None,
        placement: Placement::Static,
        cpuset: None,
        pos: Default::default(),
        extra: Extra::default(),
    };
    let Some(mut w) = walk else { return vcpu };
    let text = w.text();
    let shown = text.trim();
    if !shown.is_empty() {
        match shown.parse::<u32>() {
            Ok(count) if (1..=MAX_VCPUS).contains(&count) => vcpu.count = count,
            _ => w.error(format!("'{}' is not a number from 1 to {MAX_VCPUS}", shown.escape_debug())),
        }
    }
    vcpu.current = w.number("current");
    if vcpu.current.is_some_and(|n| n == 0 || n > vcpu.count) {
        w.error_at("current", format!("current must be from 1 to {}", vcpu.count));
    }
    vcpu.current = vcpu.current.filter(|n| *n != vcpu.count);
    vcpu.cpuset = number_set(&mut w, "cpuset");
    vcpu.placement = w.closed("placement").unwrap_or(Placement::Static);
    if vcpu.placement == Placement::Auto {
        // libvirt drops it too: the two exclude each other.
        vcpu.cpuset = None;
    }
    vcpu.pos = w.pos();
    vcpu.extra = w.finish();
    vcpu
}

fn number_set(w: &mut Walk<'_>, name: &str) -> Option<String> {
    let text = w.get(name)?;
    match set(&text) {
        Ok(set) => Some(set),
        Err(message) => {
            w.error_at(name, message);
            None
        }
    }
}

pub(super) fn memtune(mut w: Walk<'_>) -> Option<Memtune> {
    let memtune = Memtune {
        hard_limit: limit(&mut w, "hard_limit"),
        soft_limit: limit(&mut w, "soft_limit"),
        min_guarantee: limit(&mut w, "min_guarantee"),
        swap_hard_limit: limit(&mut w, "swap_hard_limit"),
        pos: w.pos(),
        extra: w.finish(),
    };
    let limits = [memtune.hard_limit, memtune.soft_limit, memtune.min_guarantee, memtune.swap_hard_limit];
    (limits.iter().any(Option::is_some) || !memtune.extra.is_empty()).then_some(memtune)
}

fn limit(w: &mut Walk<'_>, name: &str) -> Option<u64> {
    let mut child = w.one(name)?;
    let unit = child.get("unit").unwrap_or_else(|| "KiB".into());
    let found = kib(&child.text(), &unit);
    if let Err(message) = &found {
        child.error(message.clone());
    }
    if found == Ok(0) && matches!(name, "hard_limit" | "swap_hard_limit") {
        child.error(format!("{name} must be more than 0; without one there is no limit"));
    }
    let extra = child.finish();
    w.keep(name, 0, extra);
    // The largest amount there is means "no limit".
    found.ok().filter(|n| *n < MAX_KIB)
}

pub(super) fn blkiotune(mut w: Walk<'_>) -> Option<Blkiotune> {
    let weight = w.leaf_number("weight", 10, 1000);
    let devices: Vec<_> = w.all("device", MAX_BLKIO_DEVICES).into_iter().map(blkio_device).collect();
    let (pos, extra) = (w.pos(), w.finish());
    let said = weight.is_some() || !devices.is_empty() || !extra.is_empty();
    said.then_some(Blkiotune { weight, devices, pos, extra })
}

fn blkio_device(mut w: Walk<'_>) -> BlkioDevice {
    let path = match w.leaf("path") {
        Some(leaf) => leaf.text,
        None => {
            w.error("the element 'path' is missing or empty");
            "/".into()
        }
    };
    absolute(&w, "path", &path);
    BlkioDevice {
        path,
        weight: w.leaf_number("weight", 0, 1000),
        read_iops_sec: w.leaf_number("read_iops_sec", 0, u32::MAX),
        write_iops_sec: w.leaf_number("write_iops_sec", 0, u32::MAX),
        read_bytes_sec: w.leaf_number("read_bytes_sec", 0, u64::MAX),
        write_bytes_sec: w.leaf_number("write_bytes_sec", 0, u64::MAX),
        extra: w.finish(),
    }
}

pub(super) fn cputune(mut w: Walk<'_>) -> Option<Cputune> {
    let shares = w.leaf_number("shares", 2, 262_144);
    // A period or quota of 0 is none, as in libvirt: management programs write them so.
    let period = w.leaf_number_or_0("period", 1000, 1_000_000);
    let quota = w.leaf("quota").and_then(|leaf| match leaf.text.trim().parse::<i64>() {
        Ok(0) => None,
        Ok(quota) if quota < 0 || (1000..=17_592_186_044_415).contains(&quota) => Some(quota),
        _ => {
            let shown = leaf.text.trim().escape_debug();
            w.error_leaf(&leaf, format!("'{shown}' is neither negative nor from 1000 to 17592186044415"));
            None
        }
    });
    let (pos, extra) = (w.pos(), w.finish());
    let said = shares.is_some() || period.is_some() || quota.is_some() || !extra.is_empty();
    said.then_some(Cputune { shares, period, quota, pos, extra })
}

pub(super) fn numatune(mut w: Walk<'_>) -> Option<Numatune> {
    let pos = w.pos();
    let mut numatune = Numatune {
        mode: NumaMode::Strict,
        placement: Placement::Static,
        nodeset: None,
        pos,
        extra: Extra::default(),
    };
    if let Some(mut memory) = w.one("memory") {
        numatune.mode = memory.closed("mode").unwrap_or(NumaMode::Strict);
        numatune.nodeset = number_set(&mut memory, "nodeset");
        let placement = memory.closed("placement");
        let default = if numatune.nodeset.is_some() { Placement::Static } else { Placement::Auto };
        numatune.placement = placement.unwrap_or(default);
        if numatune.placement == Placement::Static && numatune.nodeset.is_none() {
            memory.error("the attribute 'nodeset' is missing or bad");
        }
        if numatune.placement == Placement::Auto {
            numatune.nodeset = None;
        }
        let extra = memory.finish();
        w.keep("memory", 0, extra);
        numatune.extra = w.finish();
        return Some(numatune);
    }
    w.error("the element 'memory' is missing");
    None
}

pub(super) fn resource(mut w: Walk<'_>) -> Option<Resource> {
    let partition = w.leaf("partition").map(|leaf| {
        if !leaf.text.starts_with('/') {
            w.error_leaf(&leaf, format!("the partition '{}' must begin with '/'", leaf.text.escape_debug()));
        }
        if leaf.text.split('/').any(|part| part == ".." || part == ".") {
            w.error_leaf(
                &leaf,
                format!("the partition '{}' has a '.' or '..' in it", leaf.text.escape_debug()),
            );
        }
        if leaf.text.contains(".berth") {
            let message = format!(
                "the partition '{}' has the name of a domain's group in it",
                leaf.text.escape_debug()
            );
            w.error_leaf(&leaf, message);
        }
        leaf.text
    });
    let (pos, extra) = (w.pos(), w.finish());
    (partition.is_some() || !extra.is_empty()).then_some(Resource { partition, pos, extra })
}

pub(super) fn idmap(mut w: Walk<'_>) -> Option<IdMap> {
    let uids = ranges(&mut w, "uid");
    let gids = ranges(&mut w, "gid");
    let (pos, extra) = (w.pos(), w.finish());
    let said = !uids.is_empty() || !gids.is_empty() || !extra.is_empty();
    said.then_some(IdMap { uids, gids, pos, extra })
}

fn ranges(w: &mut Walk<'_>, name: &str) -> Vec<IdRange> {
    let mut ranges = Vec::new();
    for (index, mut child) in w.all(name, MAX_ID_RANGES).into_iter().enumerate() {
        let mut number = |attribute: &str| {
            child.need(attribute)?;
            child.number::<u32>(attribute)
        };
        let (start, target, count) = (number("start"), number("target"), number("count"));
        if let (Some(start), Some(target), Some(count)) = (start, target, count) {
            ranges.push(IdRange { start, target, count, pos: child.pos() });
        } else {
            // Keeps the list from looking empty as well.
            ranges.push(IdRange { start: 0, target: 0, count: 1, pos: child.pos() });
        }
        let extra = child.finish();
        w.keep(name, index, extra);
    }
    ranges
}
