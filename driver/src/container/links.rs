//! The host ends of a domain's interfaces, at the start, while it runs and at the end.
//!
//! Does not know how a link is made, nor when a domain starts or ends.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use berth_domain::Domain;
use berth_domain::model::{DirectMode, Interface, InterfaceSource};
use berth_schemas::controller::StepFailure;
use uuid::Uuid;

use crate::engine::Engine;
use crate::host::borrowed::is_on_host;
use crate::host::links::spec::{LinkKind, LinkSpec, spec};
use crate::host::links::{Link, LinkError, inside_names, lent_to, names_of_hostdevs};
use crate::network::{Claim, Connection, Door, Port};

/// Whose links they are.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// Name of the domain.
    pub name: &'a str,
    /// Its uuid.
    pub uuid: Uuid,
    /// Its definition, where links are made: ports of the host that lead to it are in there.
    pub domain: Option<&'a Domain>,
}

/// The step of a start that makes links.
pub const STEP: &str = "links";

/// How often another name is looked for when somebody was faster.
pub const TRIES: usize = 100;

/// What failed, as a step of a start.
pub fn failure(error: &LinkError) -> StepFailure {
    StepFailure {
        step: STEP.into(),
        operation: error.operation.into(),
        path: Some(error.name.clone()),
        target: None,
        errno: error.errno.map(i64::from),
        detail: error.detail.clone(),
    }
}

/// Names for all interfaces of a domain.
pub async fn name_all(engine: &Engine, domain: &Domain) -> Result<Vec<Link>, LinkError> {
    for lent in lent_to(domain) {
        check_lent(engine, &lent.host)?;
    }
    let interfaces: Vec<&Interface> = domain.devices.interfaces.iter().collect();
    let inside = inside_names(&interfaces, &names_of_hostdevs(domain));
    let mut links = Vec::new();
    for (interface, inside) in interfaces.into_iter().zip(inside) {
        links.push(engine.links.name(interface, inside).await?);
    }
    Ok(links)
}

/// Whether an interface of the host is one to be handed over: the end of another that a running domain has is not, nor one
/// that such a domain has itself.
pub fn check_lent(engine: &Engine, name: &str) -> Result<(), LinkError> {
    let end = || {
        let other = user_of(engine, None, name)?;
        Some(format!("it is the end on the host of one of the running domain '{other}'"))
    };
    let lent = || {
        let other = borrower_of(engine, name).filter(|_| !is_on_host(name))?;
        Some(format!("the running domain '{other}' has it"))
    };
    match end().or_else(lent) {
        None => Ok(()),
        detail => Err(LinkError {
            operation: "hand over the interface",
            name: name.to_owned(),
            errno: None,
            detail,
        }),
    }
}

/// The running domain that an interface of the host is lent to.
fn borrower_of(engine: &Engine, name: &str) -> Option<String> {
    let has = |s: &crate::engine::snapshot::Snapshot| {
        s.run.as_ref().is_some_and(|run| lent_to(&run.live).iter().any(|lent| lent.host == name))
    };
    engine.registry.all().into_iter().find(|s| has(s)).map(|s| s.name.to_string())
}

/// Names for one interface more.
pub async fn name_one(
    engine: &Engine,
    interface: &Interface,
    domain: &Domain,
    links: &[Link],
) -> Result<Link, LinkError> {
    let mut taken = names_of_hostdevs(domain);
    taken.extend(links.iter().map(|l| l.inside.clone()));
    let inside = inside_names(&[interface], &taken).pop().unwrap_or_default();
    engine.links.name(interface, inside).await
}

/// Another name for one whose name somebody else has taken meanwhile; not if the document gives that.
pub async fn rename(engine: &Engine, interface: &Interface, link: &mut Link) -> Result<bool, LinkError> {
    if interface.target.is_some() {
        return Ok(false);
    }
    link.host = engine.links.free_name(interface).await?;
    Ok(true)
}

/// What an interface has to be on the host, where its end is `host`. One of a network has a port of that from then on.
pub async fn resolve(
    engine: &Engine,
    owner: Owner<'_>,
    interface: &Interface,
    host: &str,
    claim: Claim,
) -> Result<LinkSpec, LinkError> {
    let InterfaceSource::Network { network, portgroup } = &interface.source else {
        return Ok(spec(interface, None));
    };
    let port = Port { end: Some(host.to_owned()), ..port_of(owner, interface) };
    let connection = engine.networks.plug(network, portgroup.as_deref(), &port, claim).await;
    let connection = connection.map_err(|e| LinkError {
        operation: "take a port of the network",
        name: network.clone(),
        errno: None,
        detail: Some(e.to_string()),
    })?;
    let asked = [
        ("<vlan>", interface.vlan.is_some()),
        ("<port isolated='yes'>", interface.isolated == Some(true)),
        ("<virtualport>", interface.virtualport.is_some()),
        ("<bandwidth>", interface.bandwidth.is_some()),
    ];
    let too_much = asked.into_iter().find(|(_, asked)| *asked);
    if let (Connection::Direct { .. }, Some((element, _))) = (&connection, too_much) {
        return Err(LinkError {
            operation: "make a port of the network",
            name: network.clone(),
            errno: None,
            detail: Some(format!("its ports are macvlans, which can have no {element}")),
        });
    }
    Ok(spec(interface, Some(&connection)))
}

/// Makes the link of one interface, its end in the container's network namespace where that is there.
pub async fn make(
    engine: &Engine,
    owner: Owner<'_>,
    interface: &Interface,
    link: &mut Link,
    network: Option<BorrowedFd<'_>>,
) -> Result<(), LinkError> {
    if let Some(other) = user_of(engine, Some(owner.uuid), &link.host) {
        return Err(LinkError {
            operation: "make the interface",
            name: link.host.clone(),
            errno: None,
            detail: Some(format!("the running domain '{other}' has it")),
        });
    }
    let spec = resolve(engine, owner, interface, &link.host, Claim::New).await?;
    engine.links.make(link, &spec, owner.uuid, network).await?;
    note_kind(link, &spec);
    Ok(())
}

/// The running domain, other than one, that a host end belongs to, as far as we know: making it anew would take it away
/// there.
fn user_of(engine: &Engine, but: Option<Uuid>, host: &str) -> Option<String> {
    let has = |s: &crate::engine::snapshot::Snapshot| {
        Some(s.uuid) != but && s.run.as_ref().is_some_and(|r| r.links.iter().any(|l| l.host == host))
    };
    engine.registry.all().into_iter().find(|s| has(s)).map(|s| s.name.to_string())
}

/// Makes a link that is there what an interface has to be now.
pub async fn change(
    engine: &Engine,
    owner: Owner<'_>,
    interface: &Interface,
    link: &mut Link,
) -> Result<(), LinkError> {
    change_by(engine, owner, interface, link, Claim::New).await
}

/// The same after a change that another daemon has begun.
pub async fn change_again(
    engine: &Engine,
    owner: Owner<'_>,
    interface: &Interface,
    link: &mut Link,
) -> Result<(), LinkError> {
    change_by(engine, owner, interface, link, Claim::Again).await
}

async fn change_by(
    engine: &Engine,
    owner: Owner<'_>,
    interface: &Interface,
    link: &mut Link,
    claim: Claim,
) -> Result<(), LinkError> {
    let spec = resolve(engine, owner, interface, &link.host, claim).await?;
    engine.links.change(link, &spec).await?;
    note_kind(link, &spec);
    Ok(())
}

/// What a link is and where, once that is known.
pub fn note_kind(link: &mut Link, spec: &LinkSpec) {
    match &spec.kind {
        LinkKind::Pair(pair) => {
            link.bridge = pair.port.as_ref().map(|p| p.bridge.clone());
            link.switch = pair.port.as_ref().is_some_and(|p| p.switch.is_some());
            link.given = pair.given.clone();
        }
        LinkKind::Macvlan { mode, .. } => link.passthrough = *mode == DirectMode::Passthrough,
    }
}

/// Removes links, and gives ports of networks back. Answers what is left.
pub async fn release(engine: &Engine, owner: Owner<'_>, links: &[Link]) -> Vec<String> {
    let left = engine.links.remove(links).await;
    for link in links {
        if let Some(network) = &link.network {
            engine.networks.unplug(network, &port(owner, &link.mac)).await;
        }
    }
    left
}

/// Takes the ports of networks again that a domain that runs has had, and puts ends on the host back on their bridges:
/// the daemon was away, or the network. Only those of one network if one is given; none is started for it. Answers whether
/// anything was changed.
pub async fn take_again(
    engine: &Engine,
    owner: Owner<'_>,
    domain: &Domain,
    links: &mut [Link],
    only: Option<&str>,
) -> bool {
    let mut changed = false;
    for interface in &domain.devices.interfaces {
        let InterfaceSource::Network { network, .. } = &interface.source else { continue };
        let link = links.iter_mut().find(|l| l.mac == interface.mac);
        let Some(link) = link.filter(|_| only.is_none_or(|only| only == network)) else { continue };
        match connect_again(engine, owner, interface, link).await {
            Ok(connected) => changed |= connected,
            Err(e) => {
                tracing::warn!("domain '{}': the port of network '{network}' is lost: {e}", owner.name);
            }
        }
    }
    changed
}

/// Takes the port of one interface again. Answers whether its end on the host was on no bridge, or on another one.
pub async fn connect_again(
    engine: &Engine,
    owner: Owner<'_>,
    interface: &Interface,
    link: &mut Link,
) -> Result<bool, LinkError> {
    let spec = resolve(engine, owner, interface, &link.host, Claim::Again).await?;
    if engine.links.is_connected(link, &spec).await? {
        return Ok(false);
    }
    engine.links.change(link, &spec).await?;
    note_kind(link, &spec);
    match owner.name {
        "" => tracing::info!("interface '{}' is connected again", link.host),
        name => tracing::info!("domain '{name}': interface '{}' is connected again", link.host),
    }
    Ok(true)
}

/// A port by what tells it from others.
fn port(owner: Owner<'_>, mac: &str) -> Port {
    let (domain, name, mac) = (owner.uuid, owner.name.to_owned(), mac.to_owned());
    Port { domain, name, mac, ..Port::default() }
}

/// The port of an interface, with all that the definition says about it.
fn port_of(owner: Owner<'_>, interface: &Interface) -> Port {
    let v4 = |address: IpAddr| if let IpAddr::V4(address) = address { Some(address) } else { None };
    let v6 = |address: IpAddr| if let IpAddr::V6(address) = address { Some(address) } else { None };
    let forwards = owner.domain.map(|d| (d.forwarded_interface(), d.forwards()));
    // One that is being plugged in is not in the definition that runs.
    let leads_here = |first: Option<&Interface>| first.is_none_or(|first| first.mac == interface.mac);
    let doors = match forwards {
        Some((first, forwards)) if leads_here(first) => forwards.iter().map(Door::from).collect(),
        _ => Vec::new(),
    };
    let address = interface.ip.addresses.iter().find_map(|a| v4(a.address));
    let address6 = interface.ip.addresses.iter().find_map(|a| v6(a.address));
    let is_first = |a: &IpAddr| address.map(IpAddr::V4) == Some(*a) || address6.map(IpAddr::V6) == Some(*a);
    let others = interface.ip.addresses.iter().map(|a| a.address).filter(|a| !is_first(a)).collect();
    Port { address, address6, others, isolated: interface.isolated, doors, ..port(owner, &interface.mac) }
}

/// The interface of a definition that has a hardware address.
pub fn interface_of<'a>(domain: &'a Domain, mac: &str) -> Option<&'a Interface> {
    domain.devices.interfaces.iter().find(|i| i.mac == mac)
}
