//! `org.libvirt.Network`, and what `org.libvirt.Connect` has of networks: decode, ask the networks, encode.
//!
//! Does not decide anything.

pub mod signals;

use std::sync::Arc;

use berth_domain::network::{Change, PartKind, parse_part};
use berth_schemas::domain::Affect;
use uuid::Uuid;
use zbus::{ObjectPath, Variant};

use crate::api::dbus::call::{Answer, Call};
use crate::api::dbus::error::Refusal;
use crate::api::dbus::methods::Network;
use crate::api::dbus::numbers::{affects, chosen, only};
use crate::api::dbus::objects::network_path;
use crate::api::dbus::properties::Map;
use crate::engine::Engine;
use crate::network::leases::Lease;
use crate::network::{Affected, NetworkError, NetworkRef, PartChange, Snapshot};

/// virNetworkXMLFlags
const XML_INACTIVE: u32 = 1;

/// All of virConnectListAllNetworksFlags.
const LISTED: u32 = 0x3f;

/// How a network is asked for.
pub fn reference(uuid: Uuid) -> NetworkRef {
    NetworkRef { uuid: Some(uuid.to_string()), name: None }
}

/// A network that there is.
pub fn find(engine: &Engine, uuid: Uuid) -> Result<Arc<Snapshot>, Refusal> {
    let nobody = || Refusal::Said(format!("Network not found: no network with matching uuid '{uuid}'"));
    engine.networks.find(&reference(uuid)).map_err(|_| nobody())
}

/// What is seen of a network.
pub fn properties(snapshot: &Snapshot) -> Map {
    Map::from([
        ("Active", Variant::from(snapshot.active())),
        ("Autostart", Variant::from(snapshot.autostart)),
        ("Name", Variant::from(snapshot.name.to_string())),
        ("Persistent", Variant::from(snapshot.next.is_some())),
        ("UUID", Variant::from(snapshot.uuid.to_string())),
    ])
}

fn path(c: &Call<'_>, snapshot: &Snapshot) -> Answer {
    c.answer(&ObjectPath::try_from(network_path(snapshot.uuid))?)
}

/// `ListNetworks`
pub fn list(c: &Call<'_>) -> Answer {
    let flags: u32 = c.parameters()?;
    only(flags, LISTED, "virConnectListAllNetworks")?;
    let all = c.bus.engine.networks.all();
    let listed = all.iter().filter(|s| is_listed(flags, s));
    let paths: Result<Vec<_>, _> = listed.map(|s| ObjectPath::try_from(network_path(s.uuid))).collect();
    c.answer(&paths?)
}

/// virConnectListAllNetworksFlags
fn is_listed(flags: u32, network: &Snapshot) -> bool {
    let (active, persistent) = (network.active(), network.next.is_some());
    chosen(
        flags,
        &[
            &[(1, !active), (2, active)],
            &[(4, persistent), (8, !persistent)],
            &[(16, network.autostart), (32, !network.autostart)],
        ],
    )
}

/// `NetworkDefineXML`
pub async fn define(c: &Call<'_>) -> Answer {
    let xml: String = c.parameters()?;
    let defined = c.bus.engine.networks.define(&xml, false).await?;
    path(c, &defined.snapshot)
}

/// `NetworkCreateXML`
pub async fn create(c: &Call<'_>) -> Answer {
    let xml: String = c.parameters()?;
    let created = c.bus.engine.networks.create(&xml).await?;
    path(c, &created.snapshot)
}

/// `NetworkLookupByName`
pub fn by_name(c: &Call<'_>) -> Answer {
    let name: String = c.parameters()?;
    path(c, &*c.bus.engine.networks.find(&NetworkRef::by_name(&name))?)
}

/// `NetworkLookupByUUID`
pub fn by_uuid(c: &Call<'_>) -> Answer {
    let uuid: String = c.parameters()?;
    Refusal::unless_uuid(&uuid, "virNetworkLookupByUUIDString")?;
    let nobody = |_| Refusal::Said(format!("Network not found: no network with matching uuid '{uuid}'"));
    let reference = NetworkRef { uuid: Some(uuid.clone()), name: None };
    let found = c.bus.engine.networks.find(&reference).map_err(nobody)?;
    path(c, &found)
}

/// Answers one call of `org.libvirt.Network`.
pub async fn call(c: &Call<'_>, method: Network, uuid: Uuid) -> Answer {
    let networks = &c.bus.engine.networks;
    let (snapshot, reference) = (find(&c.bus.engine, uuid)?, reference(uuid));
    match method {
        Network::Create => {
            c.nothing()?;
            networks.start(&reference).await?;
            c.done()
        }
        Network::Destroy => {
            c.nothing()?;
            networks.destroy(&reference).await?;
            c.done()
        }
        Network::GetDHCPLeases => {
            let (mac, flags): (String, u32) = c.parameters()?;
            only(flags, 0, "virNetworkGetDHCPLeases")?;
            let all = networks.leases_of(&reference, Some(&*mac).filter(|m| !m.is_empty())).await?;
            c.answer(&all.into_iter().map(|l| row(l, &snapshot)).collect::<Vec<_>>())
        }
        Network::GetXMLDesc => {
            let flags: u32 = c.parameters()?;
            only(flags, XML_INACTIVE, "virNetworkGetXMLDesc")?;
            c.answer(&snapshot.xml(flags & XML_INACTIVE != 0).unwrap_or_default().as_str())
        }
        Network::Undefine => {
            c.nothing()?;
            networks.undefine(&reference).await?;
            c.done()
        }
        Network::Update => update(c, &reference).await,
    }
}

/// Bridge, end in seconds since 1970, virIPAddrType, hardware address, identity association, address, prefix, name and
/// client id; a text that there is not is empty.
type Row = (String, i64, i32, String, String, String, u32, String, String);

fn row(lease: Lease, snapshot: &Snapshot) -> Row {
    let bridge = snapshot.bridges().into_iter().next().unwrap_or_default();
    let prefix = snapshot.prefix_of(lease.ip).into();
    let text = |text: Option<String>| text.unwrap_or_default();
    (
        bridge,
        lease.expiry,
        i32::from(lease.ip.is_ipv6()),
        text(lease.mac),
        text(lease.iaid),
        lease.ip.to_string(),
        prefix,
        text(lease.hostname),
        text(lease.client_id),
    )
}

async fn update(c: &Call<'_>, reference: &NetworkRef) -> Answer {
    let (command, section, parent, xml, flags): (u32, u32, i32, String, u32) = c.parameters()?;
    let affect = affects(flags, 0, "virNetworkUpdate")?;
    // virNetworkUpdateCommand
    let change = match command {
        1 => Change::Modify,
        2 => Change::Delete,
        3 => Change::AddLast,
        4 => Change::AddFirst,
        other => return Err(Refusal::invalid(format!("unrecognized update command {other}"))),
    };
    // virNetworkUpdateSection: those whose parts can be changed on their own.
    let kind = match section {
        4 => PartKind::DhcpHost,
        5 => PartKind::DhcpRange,
        7 => PartKind::ForwardInterface,
        9 => PartKind::Portgroup,
        10 => PartKind::DnsHost,
        11 => PartKind::DnsTxt,
        12 => PartKind::DnsSrv,
        other => return Err(Refusal::invalid(format!("can't update network section {other}"))),
    };
    let part = parse_part(&xml, kind).map_err(|e| NetworkError::InvalidDocument(e.diagnostics))?;
    // -1 stands for the first that fits.
    let parent = usize::try_from(parent).ok();
    let affected = (!affect.is_empty())
        .then(|| Affected { live: affect.contains(&Affect::Live), config: affect.contains(&Affect::Config) });
    c.bus.engine.networks.update(reference, PartChange { change, part, parent, affected }).await?;
    c.done()
}
