//! What a domain may use, as libvirt's typed parameters: of memory, CPU time, block I/O and NUMA nodes.
//!
//! Does not decide anything.

use std::collections::HashMap;
use std::sync::Arc;

use berth_schemas::domain::{Affect, BlkioDevice, ResourceChange, Resources};
use uuid::Uuid;
use zbus::OwnedVariant;

use crate::api::dbus::call::{Answer, Call};
use crate::api::dbus::domain::ask;
use crate::api::dbus::error::Refusal;
use crate::api::dbus::numbers::{affect, affects};
use crate::api::dbus::typed::{In, Out};
use crate::container::task::Request;
use crate::container::tune::Tuning;
use crate::engine::publish::blocking;
use crate::engine::snapshot::Snapshot;

/// VIR_DOMAIN_MEMORY_PARAM_UNLIMITED, in KiB
const UNLIMITED: i64 = 9_007_199_254_740_991;

/// VIR_TYPED_PARAM_STRING_OKAY: texts are always possible here.
pub const STRING_OKAY: u32 = 4;

/// VIR_DOMAIN_MEM_MAXIMUM, VIR_DOMAIN_VCPU_MAXIMUM
const MAXIMUM: u32 = 4;

/// VIR_DOMAIN_VCPU_HOTPLUGGABLE: every CPU of a container is.
const HOTPLUGGABLE: u32 = 16;

/// virDomainNumatuneMemMode, by number.
const NUMA_MODES: &[&str] = &["strict", "preferred", "interleave", "restrictive"];

/// Devices that one list names at most.
const MAX_DEVICES: usize = 256;

/// What a domain may use.
pub async fn resources(c: &Call<'_>, snapshot: Arc<Snapshot>, affect: Affect) -> Result<Resources, Refusal> {
    let engine = c.bus.engine.clone();
    Ok(blocking(move || Ok(engine.resources(&snapshot, affect))).await??)
}

async fn asked(c: &Call<'_>, snapshot: Arc<Snapshot>, function: &str) -> Result<Resources, Refusal> {
    let affect = affect(c.parameters()?, STRING_OKAY, function)?;
    resources(c, snapshot, affect).await
}

/// `GetMemoryParameters`
pub async fn memory(c: &Call<'_>, snapshot: Arc<Snapshot>) -> Answer {
    let now = asked(c, snapshot, "virDomainGetMemoryParameters").await?;
    let mut out = Out::default();
    for (name, value) in [
        ("hard_limit", now.hard_limit_ki_b),
        ("soft_limit", now.soft_limit_ki_b),
        ("swap_hard_limit", now.swap_hard_limit_ki_b),
    ] {
        out.figure(name, Some(value.unwrap_or(UNLIMITED)));
    }
    c.answer(out.map())
}

/// `GetSchedulerParameters`
pub async fn scheduler(c: &Call<'_>, snapshot: Arc<Snapshot>) -> Answer {
    let now = asked(c, snapshot, "virDomainGetSchedulerParametersFlags").await?;
    let mut out = Out::default();
    out.figure("cpu_shares", Some(now.cpu_shares.unwrap_or(1024)));
    out.figure("vcpu_period", Some(now.cpu_period.unwrap_or(100_000)));
    out.put("vcpu_quota", now.cpu_quota.unwrap_or(-1));
    c.answer(out.map())
}

/// `GetNumaParameters`
pub async fn numa(c: &Call<'_>, snapshot: Arc<Snapshot>) -> Answer {
    let now = asked(c, snapshot, "virDomainGetNumaParameters").await?;
    let mode = now.numa_mode.as_deref().and_then(|mode| NUMA_MODES.iter().position(|m| *m == mode));
    let mut out = Out::default();
    out.put("numa_nodeset", now.nodeset.unwrap_or_default());
    out.put("numa_mode", i32::try_from(mode.unwrap_or(0)).unwrap_or(0));
    c.answer(out.map())
}

/// A limit of a block device.
type Limit = fn(&mut BlkioDevice) -> &mut Option<i64>;

/// Name of the list, and which limit it is.
const LISTS: &[(&str, Limit)] = &[
    ("device_weight", |d| &mut d.weight),
    ("device_read_iops_sec", |d| &mut d.read_iops_sec),
    ("device_write_iops_sec", |d| &mut d.write_iops_sec),
    ("device_read_bytes_sec", |d| &mut d.read_bytes_sec),
    ("device_write_bytes_sec", |d| &mut d.write_bytes_sec),
];

/// `GetBlockIOParameters`
pub async fn block_io(c: &Call<'_>, snapshot: Arc<Snapshot>) -> Answer {
    let mut now = asked(c, snapshot, "virDomainGetBlkioParameters").await?;
    let mut out = Out::default();
    out.put("weight", now.blkio_weight.and_then(|w| u32::try_from(w).ok()).unwrap_or(0));
    for (name, limit) in LISTS {
        let limited = now.blkio_devices.iter_mut().filter_map(|d| {
            let value = (*limit(d))?;
            Some(format!("{},{value}", d.path))
        });
        out.put(*name, limited.collect::<Vec<_>>().join(","));
    }
    c.answer(out.map())
}

/// `GetVcpus`
pub async fn vcpus(c: &Call<'_>, snapshot: Arc<Snapshot>) -> Answer {
    let flags: u32 = c.parameters()?;
    let affect = affect(flags, MAXIMUM, "virDomainGetVcpusFlags")?;
    let now = resources(c, snapshot, affect).await?;
    let count = if flags & MAXIMUM == 0 { now.vcpus } else { now.max_vcpus };
    c.answer(&u32::try_from(count).unwrap_or(u32::MAX))
}

/// Changes it.
pub async fn tune(c: &Call<'_>, uuid: Uuid, change: ResourceChange, affect: Vec<Affect>) -> Answer {
    // A list without a device.
    if change == ResourceChange::default() {
        return c.done();
    }
    ask(c, uuid, Request::Tune(Box::new(Tuning { change, affect }))).await
}

fn given(c: &Call<'_>, function: &str) -> Result<(In, Vec<Affect>), Refusal> {
    let (parameters, flags): (HashMap<String, OwnedVariant>, u32) = c.parameters()?;
    Ok((In::of_call(parameters, function)?, affects(flags, 0, function)?))
}

/// `SetMemoryParameters`
pub async fn set_memory(c: &Call<'_>, uuid: Uuid) -> Answer {
    let (mut given, affect) = given(c, "virDomainSetMemoryParameters")?;
    let mut limit = |name: &str| {
        let number = given.limit(name)?;
        Ok::<_, Refusal>(number.map(|n| if n >= UNLIMITED { -1 } else { n }))
    };
    let change = ResourceChange {
        hard_limit_ki_b: limit("hard_limit")?,
        soft_limit_ki_b: limit("soft_limit")?,
        swap_hard_limit_ki_b: limit("swap_hard_limit")?,
        ..ResourceChange::default()
    };
    given.finish()?;
    tune(c, uuid, change, affect).await
}

/// `SetSchedulerParameters`
pub async fn set_scheduler(c: &Call<'_>, uuid: Uuid) -> Answer {
    let (mut given, affect) = given(c, "virDomainSetSchedulerParametersFlags")?;
    let change = ResourceChange {
        cpu_shares: given.amount("cpu_shares")?,
        cpu_period: given.amount("vcpu_period")?,
        cpu_quota: given.exact("vcpu_quota")?,
        ..ResourceChange::default()
    };
    given.finish()?;
    tune(c, uuid, change, affect).await
}

/// `SetNumaParameters`
pub async fn set_numa(c: &Call<'_>, uuid: Uuid) -> Answer {
    let (mut given, affect) = given(c, "virDomainSetNumaParameters")?;
    let mode = given.exact("numa_mode")?.map(|n| {
        let mode = usize::try_from(n).ok().and_then(|n| NUMA_MODES.get(n));
        mode.map(|m| (*m).to_owned()).ok_or_else(|| Refusal::invalid(format!("unsupported numa_mode: '{n}'")))
    });
    let change = ResourceChange {
        numa_mode: mode.transpose()?,
        nodeset: given.text("numa_nodeset")?,
        ..ResourceChange::default()
    };
    given.finish()?;
    tune(c, uuid, change, affect).await
}

/// `SetBlockIOParameters`
pub async fn set_block_io(c: &Call<'_>, uuid: Uuid) -> Answer {
    let (mut given, affect) = given(c, "virDomainSetBlkioParameters")?;
    let weight = given.amount("weight")?.map(|n| if n == 0 { -1 } else { n });
    let mut devices = Vec::new();
    for (name, limit) in LISTS {
        if let Some(list) = given.text(name)? {
            read_list(name, &list, *limit, &mut devices)?;
        }
    }
    given.finish()?;
    let change = ResourceChange {
        blkio_weight: weight,
        blkio_devices: (!devices.is_empty()).then_some(devices),
        ..ResourceChange::default()
    };
    tune(c, uuid, change, affect).await
}

/// Reads `/path/to/device,value,...` into the devices.
fn read_list(name: &str, list: &str, limit: Limit, devices: &mut Vec<BlkioDevice>) -> Result<(), Refusal> {
    let bad = || Refusal::invalid(format!("unable to parse blkio device '{name}' '{list}'"));
    if list.is_empty() {
        return Ok(());
    }
    let words: Vec<&str> = list.split(',').take(2 * MAX_DEVICES + 1).collect();
    let (pairs, rest) = words.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(bad());
    }
    for [path, value] in pairs {
        let value: u32 = value.parse().map_err(|_| bad())?;
        let at = devices.iter().position(|d| d.path == *path);
        let at = at.unwrap_or_else(|| {
            devices.push(BlkioDevice {
                path: (*path).to_owned(),
                weight: None,
                read_bytes_sec: None,
                write_bytes_sec: None,
                read_iops_sec: None,
                write_iops_sec: None,
            });
            devices.len() - 1
        });
        if let Some(device) = devices.get_mut(at) {
            *limit(device) = Some(value.into());
        }
    }
    Ok(())
}

/// `SetMemory`, in KiB
pub async fn set_memory_size(c: &Call<'_>, uuid: Uuid) -> Answer {
    let (kib, flags): (u64, u32) = c.parameters()?;
    let affect = affects(flags, MAXIMUM, "virDomainSetMemoryFlags")?;
    let size = Some(i64::try_from(kib).map_err(|_| Refusal::invalid("memory is too large"))?);
    let change = match flags & MAXIMUM {
        0 => ResourceChange { memory_ki_b: size, ..ResourceChange::default() },
        _ => ResourceChange { max_memory_ki_b: size, ..ResourceChange::default() },
    };
    tune(c, uuid, change, affect).await
}

/// `SetVcpus`
pub async fn set_vcpus(c: &Call<'_>, uuid: Uuid) -> Answer {
    let (count, flags): (u32, u32) = c.parameters()?;
    let affect = affects(flags, MAXIMUM | HOTPLUGGABLE, "virDomainSetVcpusFlags")?;
    let count = Some(i64::from(count));
    let change = match flags & MAXIMUM {
        0 => ResourceChange { vcpus: count, ..ResourceChange::default() },
        _ => ResourceChange { max_vcpus: count, ..ResourceChange::default() },
    };
    tune(c, uuid, change, affect).await
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn lists_of_devices() {
        let mut devices = Vec::new();
        read_list("w", "/dev/a,300,/dev/b,0", |d| &mut d.weight, &mut devices).expect("good");
        read_list("r", "/dev/b,7", |d| &mut d.read_iops_sec, &mut devices).expect("good");
        assert_eq!(devices.len(), 2);
        assert_eq!((devices[1].weight, devices[1].read_iops_sec), (Some(0), Some(7)));
        let long = "/dev/a,1,".repeat(300);
        for bad in ["/dev/a", "/dev/a,x", "/dev/a,-1", "/dev/a,1,", long.as_str()] {
            assert!(read_list("w", bad, |d| &mut d.weight, &mut devices).is_err(), "{bad}");
        }
    }
}
