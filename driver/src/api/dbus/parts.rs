//! One part of a domain: the limits of an interface, and the host's CPUs that its own are taken from.
//!
//! Does not decide anything.

use std::collections::HashMap;
use std::sync::Arc;

use berth_schemas::domain::{Affect, Bandwidth, ResourceChange, Resources};
use uuid::Uuid;
use zbus::OwnedVariant;

use crate::api::dbus::call::{Answer, Call};
use crate::api::dbus::domain::ask;
use crate::api::dbus::error::Refusal;
use crate::api::dbus::numbers::{affect, affects};
use crate::api::dbus::tuning::{STRING_OKAY, resources, tune};
use crate::api::dbus::typed::{In, Out};
use crate::container::hotplug::targets;
use crate::container::task::Request;
use crate::container::tune_interface::InterfaceTuning;
use crate::engine::publish::blocking;
use crate::engine::snapshot::Snapshot;
use crate::failure::Failure;
use crate::host::limits::cpus;
use crate::host::node_stats;

/// A device that is not there, in libvirt's words.
fn missing(failure: Failure, device: &str) -> Refusal {
    match failure {
        Failure::NoSuchDevice(_) => Refusal::invalid(format!("Can't find device {device}")),
        other => other.into(),
    }
}

/// `GetInterfaceParameters`
pub fn interface(c: &Call<'_>, snapshot: &Snapshot) -> Answer {
    let (device, flags): (String, u32) = c.parameters()?;
    let affect = affect(flags, STRING_OKAY, "virDomainGetInterfaceParameters")?;
    let limits = c.bus.engine.bandwidth(snapshot, &device, affect).map_err(|e| missing(e, &device))?;
    let (inbound, outbound) = (limits.0.unwrap_or_default(), limits.1.unwrap_or_default());
    let mut out = Out::default();
    for (name, value) in [
        ("inbound.average", inbound.average),
        ("inbound.peak", inbound.peak),
        ("inbound.burst", inbound.burst),
        ("inbound.floor", inbound.floor),
        ("outbound.average", outbound.average),
        ("outbound.peak", outbound.peak),
        ("outbound.burst", outbound.burst),
    ] {
        out.put(name, u32::try_from(value.unwrap_or(0)).unwrap_or(u32::MAX));
    }
    c.answer(out.map())
}

/// The limit of one direction; none where nothing is said of it. To libvirt a peak or a burst alone says nothing, so one
/// of 0 does not take a limit away; another is for the engine to refuse.
fn limits(given: &mut In, direction: &str, floor: bool) -> Result<Option<Bandwidth>, Refusal> {
    let mut number = |name: &str| given.exact(&format!("{direction}.{name}"));
    let (average, peak, burst) = (number("average")?, number("peak")?, number("burst")?);
    let floor = if floor { number("floor")? } else { None };
    let says = average.is_some() || floor.is_some();
    let asks = [peak, burst].iter().flatten().any(|n| *n != 0);
    Ok((says || asks).then_some(Bandwidth { average, peak, burst, floor }))
}

/// `SetInterfaceParameters`
pub async fn set_interface(c: &Call<'_>, uuid: Uuid) -> Answer {
    const FUNCTION: &str = "virDomainSetInterfaceParameters";
    let (device, parameters, flags): (String, HashMap<String, OwnedVariant>, u32) = c.parameters()?;
    let mut given = In::of_call(parameters, FUNCTION)?;
    let affect = affects(flags, 0, FUNCTION)?;
    let inbound = limits(&mut given, "inbound", true)?;
    // A floor is only possible inbound.
    let outbound = limits(&mut given, "outbound", false)?;
    given.finish()?;
    let tuning = InterfaceTuning::new(device.clone(), inbound.as_ref(), outbound.as_ref(), None, affect)?;
    match ask(c, uuid, Request::TuneInterface(Box::new(tuning))).await {
        Err(Refusal::Failure(failure)) => Err(missing(failure, &device)),
        answer => answer,
    }
}

/// The host's CPUs of a domain, one place for each that the host has.
fn map(now: &Resources, places: usize) -> Vec<bool> {
    match now.cpus.as_ref().or(now.cpuset.as_ref()) {
        Some(set) => {
            let set = cpus::parse(set);
            (0..places).map(|n| u32::try_from(n).is_ok_and(|n| set.binary_search(&n).is_ok())).collect()
        }
        None => vec![true; places],
    }
}

/// `GetVcpuPinInfo`: a container has one set for all.
pub async fn pinned(c: &Call<'_>, snapshot: Arc<Snapshot>) -> Answer {
    let affect = affect(c.parameters()?, 0, "virDomainGetVcpuPinInfo")?;
    let now = resources(c, snapshot, affect).await?;
    let host = blocking(|| Ok(node_stats::cpu_map())).await?;
    let one = map(&now, host.len());
    c.answer(&vec![one; usize::try_from(now.vcpus).unwrap_or(0)])
}

/// The set that a map of CPUs stands for; an empty one is all of the host's, of which there are so many.
fn set(map: &[bool], places: usize) -> Result<String, Refusal> {
    if map.is_empty() {
        return Err(Refusal::invalid("cpumap in virDomainPinVcpuFlags must not be NULL"));
    }
    let used = map.iter().zip(0..).filter(|(used, _)| **used).map(|(_, n)| n);
    let used: Vec<u32> = used.collect();
    if used.is_empty() {
        return Err(Refusal::invalid("Empty cpu list for pinning"));
    }
    let all = map.len() >= places && map.iter().take(places).all(|used| *used);
    Ok(if all { String::new() } else { cpus::show(&used) })
}

/// `PinVcpu`: whichever CPU is named, the set is that of the domain.
pub async fn pin(c: &Call<'_>, uuid: Uuid, snapshot: &Snapshot) -> Answer {
    let (vcpu, map, flags): (u32, Vec<bool>, u32) = c.parameters()?;
    let affect = affects(flags, 0, "virDomainPinVcpuFlags")?;
    let host = blocking(|| Ok(node_stats::cpu_map())).await?;
    let cpuset = set(&map, host.len())?;
    let (live, next) = targets(&affect, snapshot.run.is_some());
    for (_, definition, which) in
        [(live, Affect::Live, "live"), (next, Affect::Config, "persistent")].iter().filter(|(is, ..)| *is)
    {
        let most = c.bus.engine.definition(snapshot, *definition)?.vcpu.count;
        if vcpu >= most {
            let message = format!("vcpu {vcpu} is out of range of {which} cpu count {most}");
            return Err(Refusal::invalid(message));
        }
    }
    tune(c, uuid, ResourceChange { cpuset: Some(cpuset), ..ResourceChange::default() }, affect).await
}

#[cfg(test)]
mod test {
    use zbus::Variant;

    use super::*;

    fn given(values: &[(&str, u32)]) -> In {
        let value = |n: u32| Variant::from(n).try_into_owned().expect("owned");
        let all = values.iter().map(|(name, n)| ((*name).to_owned(), value(*n)));
        In::of_call(all.collect(), "f").expect("some")
    }

    #[test]
    fn a_direction_is_changed_by_an_average_or_a_floor() {
        let of = |values: &[(&str, u32)]| limits(&mut given(values), "inbound", true).expect("numbers");
        assert_eq!(of(&[("outbound.average", 1)]), None);
        assert_eq!(of(&[("inbound.peak", 0)]), None);
        assert!(of(&[("inbound.peak", 2)]).is_some(), "which the engine refuses");
        let taken = of(&[("inbound.average", 0)]).expect("a change");
        assert_eq!((taken.average, taken.peak, taken.floor), (Some(0), None, None));
        let mut outbound = given(&[("outbound.floor", 1)]);
        assert_eq!(limits(&mut outbound, "outbound", false), Ok(None));
        assert!(outbound.finish().is_err(), "what nobody has taken");
    }

    #[test]
    fn maps_are_sets() {
        assert_eq!(set(&[true, false, true], 3), Ok("0,2".into()));
        assert_eq!(set(&[true, true], 4), Ok("0-1".into()));
        assert_eq!(set(&[true, true], 2), Ok(String::new()));
        assert_eq!(set(&[true, true, true], 2), Ok(String::new()));
        assert!(set(&[], 2).is_err() && set(&[false, false], 2).is_err());
    }
}
