//! What the bus is told: events with libvirt's numbers and with our own words, and properties that have changed.
//!
//! Follows the publisher at a distance: whoever reads too slowly here or on the bus misses something, and the publisher
//! never waits. A bus that comes late, or comes again, is told first what it missed, as far as that is remembered. Does not
//! know why anything happened.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use berth_schemas::dbus::{self, Interface};
use berth_schemas::domain::{EventKind, MetadataKind, PressureStats, Tunable};
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use uuid::Uuid;
use zbus::wire::DynamicType;
use zbus::{Message, ObjectPath, Variant};

use crate::api::dbus::bus::Bus;
use crate::api::dbus::numbers;
use crate::api::dbus::objects::{CONNECT, domain_path, domain_reference};
use crate::api::dbus::properties::{Map, of_domain};
use crate::api::dbus::typed::Out;
use crate::engine::publish::Happened;
use crate::engine::snapshot::Snapshot;
use crate::engine::story::{Numbered, Subscription};

/// Tells until the connection ends.
pub async fn tell(bus: Arc<Bus>) {
    // Before anybody can ask by the name: whoever reads a property then is told when it changes.
    let mut shown = bus.engine.publisher.watch();
    let mut seen: HashMap<Uuid, Arc<Snapshot>> =
        bus.engine.registry.all().into_iter().map(|s| (s.uuid, s)).collect();
    bus.named().await;
    let told = bus.told.domains.last();
    let mut events = bus.engine.publisher.subscribe(Some(told));
    if let Some(count) = forgotten(&events, told) {
        tracing::warn!("the bus was away: {count} events are not remembered and not told");
    }
    for event in &events.backlog {
        bus.named().await;
        happened(&bus, event).await;
    }
    loop {
        bus.named().await;
        tokio::select! {
            // A domain is first seen, and then told about.
            biased;
            uuid = shown.recv() => match uuid {
                Ok(uuid) => look(&bus, &mut seen, uuid).await,
                // Whose changes were missed is not known.
                Err(RecvError::Lagged(count)) => {
                    tracing::debug!("the bus is slow: {count} changes were missed, and all domains are looked at");
                    for uuid in all(&seen, bus.engine.registry.all().iter().map(|s| s.uuid)) {
                        look(&bus, &mut seen, uuid).await;
                    }
                }
                Err(RecvError::Closed) => return,
            },
            event = events.coming.recv() => match event {
                Ok(event) => {
                    let event: &Happened = &event;
                    happened(&bus, event).await;
                }
                Err(RecvError::Lagged(count)) => tracing::warn!("the bus is slow: {count} events not told"),
                Err(RecvError::Closed) => return,
            },
        }
    }
}

/// How many events after one are not remembered any more.
pub fn forgotten<T: Numbered>(events: &Subscription<T>, told: i64) -> Option<i64> {
    let first = events.backlog.first().map_or(events.sequence + 1, |e| e.sequence());
    events.lost.then_some(first - told - 1)
}

/// Whose changes may have been missed: all that were seen before, and all that there are now.
pub fn all<T>(seen: &HashMap<Uuid, T>, now: impl Iterator<Item = Uuid>) -> BTreeSet<Uuid> {
    seen.keys().copied().chain(now).collect()
}

/// Sends one signal.
pub async fn emit<B: Serialize + DynamicType>(bus: &Bus, path: &str, interface: &str, name: &str, body: &B) {
    if let Some(message) = signal(path, interface, name, body) {
        bus.send(message).await;
    }
}

/// A signal.
pub fn signal<B: Serialize + DynamicType>(
    path: &str,
    interface: &str,
    name: &str,
    body: &B,
) -> Option<Message> {
    let built = Message::signal(path, interface, name).build(body);
    built.inspect_err(|e| tracing::warn!("cannot tell the bus of '{name}': {e}")).ok()
}

/// Tells which properties are different.
pub async fn changed(bus: &Bus, path: &str, interface: Interface, old: &Map, mut new: Map) {
    new.retain(|name, value| old.get(name) != Some(value));
    if !new.is_empty() {
        let none: &[&str] = &[];
        let body = (interface.name, new, none);
        emit(bus, path, dbus::PROPERTIES.name, "PropertiesChanged", &body).await;
    }
}

/// Tells what is different since a domain was looked at last.
async fn look(bus: &Bus, seen: &mut HashMap<Uuid, Arc<Snapshot>>, uuid: Uuid) {
    let Ok(entry) = bus.engine.registry.find(&domain_reference(uuid)) else {
        seen.remove(&uuid);
        return;
    };
    let now = entry.snapshot();
    let path = domain_path(uuid);
    let Some(before) = seen.insert(uuid, now.clone()) else { return };
    changed(bus, &path, dbus::DOMAIN, &of_domain(&before), of_domain(&now)).await;
}

/// With the types that libvirt gives them: a quota can be negative.
fn tuned(tunables: &[Tunable]) -> Out {
    let mut out = Out::default();
    for tunable in tunables {
        match tunable.name.as_str() {
            "cputune.vcpu_quota" => out.put(tunable.name.as_str(), tunable.value),
            name => out.put(name, number(tunable.value)),
        }
    }
    out
}

fn number(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// How long tasks waited, under the names of varlink.
fn waiting(pressure: &PressureStats) -> impl Iterator<Item = (&'static str, Variant<'static>)> + use<> {
    let some = [
        ("someAvg10", Some(pressure.some_avg10)),
        ("someAvg60", Some(pressure.some_avg60)),
        ("someAvg300", Some(pressure.some_avg300)),
        ("fullAvg10", pressure.full_avg10),
        ("fullAvg60", pressure.full_avg60),
        ("fullAvg300", pressure.full_avg300),
    ];
    let times = [("someUSec", Some(pressure.some_u_sec)), ("fullUSec", pressure.full_u_sec)];
    let some = some.into_iter().filter_map(|(name, share)| Some((name, Variant::from(share?))));
    some.chain(times.into_iter().filter_map(|(name, usec)| Some((name, Variant::from(number(usec?))))))
}

async fn happened(bus: &Bus, event: &Happened) {
    let path = domain_path(event.uuid);
    if let Some((number, detail)) = numbers::event(event.kind, event.detail.as_deref()) {
        match ObjectPath::try_from(path.as_str()) {
            Ok(domain) => {
                emit(bus, CONNECT, dbus::CONNECT.name, "DomainEvent", &(domain, number, detail)).await;
            }
            Err(e) => tracing::warn!("'{path}' is no path of an object: {e}"),
        }
    }
    match (event.kind, &event.detail) {
        (EventKind::Rebooted, _) => emit(bus, &path, dbus::DOMAIN.name, "Reboot", &()).await,
        (EventKind::Metadata, uri) => {
            // virDomainMetadataType
            let part = match event.metadata {
                Some(MetadataKind::Description) => 0,
                Some(MetadataKind::Title) => 1,
                Some(MetadataKind::Element) | None => 2,
            };
            let body = (part, uri.as_deref().unwrap_or_default());
            emit(bus, &path, dbus::DOMAIN.name, "MetadataChange", &body).await;
        }
        (EventKind::DeviceAdded, Some(device)) => {
            emit(bus, &path, dbus::DOMAIN.name, "DeviceAdded", &device.as_str()).await;
        }
        (EventKind::DeviceRemoved, Some(device)) => {
            emit(bus, &path, dbus::DOMAIN.name, "DeviceRemoved", &device.as_str()).await;
        }
        (EventKind::Tunable, _) => {
            emit(bus, &path, dbus::DOMAIN.name, "Tunable", tuned(&event.tunables).map()).await;
        }
        _ => {}
    }
    let mut more: BTreeMap<&str, Variant<'_>> =
        BTreeMap::from([("name", Variant::from(event.name.as_str()))]);
    if let Some(exit) = &event.exit {
        more.insert("exit", Variant::from(exit.kind.as_str()));
        if let Some(status) = exit.status {
            more.insert("exitStatus", Variant::from(status));
        }
        if let Some(signal) = exit.signal {
            more.insert("exitSignal", Variant::from(signal));
        }
    }
    if let Some(count) = event.count {
        more.insert("count", Variant::from(count));
    }
    if let Some(part) = event.metadata {
        more.insert("metadata", Variant::from(part.as_str()));
    }
    if let Some(pressure) = &event.pressure {
        for (name, value) in waiting(pressure) {
            more.insert(name, value);
        }
    }
    let detail = event.detail.as_deref().unwrap_or_default();
    let body = (number(event.sequence), number(event.at_usec), event.kind.as_str(), detail, more);
    if let Some(message) = signal(&path, dbus::BERTH_DOMAIN.name, "Event", &body) {
        bus.send_last_of(&bus.told.domains, event.sequence, message).await;
    }
}
