//! What the bus is told of networks: events with libvirt's numbers, and properties that have changed.
//!
//! Follows at a distance, like the signals of domains, and tells a bus that comes late, or comes again, first what it missed.

use std::collections::HashMap;
use std::sync::Arc;

use berth_schemas::dbus;
use tokio::sync::broadcast::error::RecvError;
use uuid::Uuid;
use zbus::ObjectPath;

use super::{properties, reference};
use crate::api::dbus::bus::Bus;
use crate::api::dbus::objects::{CONNECT, network_path};
use crate::api::dbus::signals::{all, changed, forgotten, signal};
use crate::network::Snapshot;
use crate::network::events::{Happened, Kind};

/// Tells until the connection ends.
pub async fn tell(bus: Arc<Bus>) {
    let events = bus.engine.networks.events();
    let mut shown = events.watch();
    let mut seen: HashMap<Uuid, Arc<Snapshot>> =
        bus.engine.networks.all().into_iter().map(|s| (s.uuid, s)).collect();
    bus.named().await;
    let told = bus.told.networks.last();
    let mut events = events.since(told);
    if let Some(count) = forgotten(&events, told) {
        tracing::warn!("the bus was away: {count} events of networks are not remembered and not told");
    }
    for event in &events.backlog {
        bus.named().await;
        happened(&bus, event).await;
    }
    loop {
        bus.named().await;
        tokio::select! {
            biased;
            uuid = shown.recv() => match uuid {
                Ok(uuid) => look(&bus, &mut seen, uuid).await,
                // Whose changes were missed is not known.
                Err(RecvError::Lagged(count)) => {
                    tracing::debug!("the bus is slow: {count} changes were missed, and all networks are looked at");
                    for uuid in all(&seen, bus.engine.networks.all().iter().map(|s| s.uuid)) {
                        look(&bus, &mut seen, uuid).await;
                    }
                }
                Err(RecvError::Closed) => return,
            },
            event = events.coming.recv() => match event {
                Ok(event) => happened(&bus, &event).await,
                Err(RecvError::Lagged(count)) => tracing::warn!("the bus is slow: {count} events not told"),
                Err(RecvError::Closed) => return,
            },
        }
    }
}

async fn look(bus: &Bus, seen: &mut HashMap<Uuid, Arc<Snapshot>>, uuid: Uuid) {
    let Ok(now) = bus.engine.networks.find(&reference(uuid)) else {
        seen.remove(&uuid);
        return;
    };
    let Some(before) = seen.insert(uuid, now.clone()) else { return };
    changed(bus, &network_path(uuid), dbus::NETWORK, &properties(&before), properties(&now)).await;
}

async fn happened(bus: &Bus, event: &Happened) {
    // virNetworkEventLifecycleType
    let number = match event.kind {
        Kind::Defined => 0,
        Kind::Undefined => 1,
        Kind::Started => 2,
        Kind::Stopped => 3,
    };
    match ObjectPath::try_from(network_path(event.uuid)) {
        Ok(network) => {
            if let Some(message) = signal(CONNECT, dbus::CONNECT.name, "NetworkEvent", &(network, number)) {
                bus.send_last_of(&bus.told.networks, event.sequence, message).await;
            }
        }
        Err(e) => tracing::warn!("network '{}' has no path on the bus: {e}", event.name),
    }
}
