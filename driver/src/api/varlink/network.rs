//! `io.berth.Network`, one arm for each method: decode, ask the networks, encode.
//!
//! Does not decide anything.

use berth_domain::network::{Change, Part, PartKind, parse_part};
use berth_schemas::network::{
    AddInterfaceIn, AddInterfaceOut, Affect, Command, CreateIn, CreateOut, DefineIn, DefineOut, DestroyIn,
    DestroyOut, Diagnostic, Error, Event, EventKind, GetLeasesIn, GetLeasesOut, GetXMLIn, GetXMLOut, Lease,
    ListIn, ListOut, Method, NetworkStatus, RemoveInterfaceIn, RemoveInterfaceOut, Section, SetAutostartIn,
    SetAutostartOut, StartIn, StartOut, SubscribeIn, SubscribeOut, UndefineIn, UndefineOut, UpdateIn,
    UpdateOut,
};
use berth_schemas::node::Role;
use berth_schemas::service::ServiceError;
use berth_schemas::wire::Parameters;
use tokio::sync::broadcast::error::RecvError;

use crate::api::access;
use crate::api::audit::About;
use crate::api::varlink::connection::{Call, Connection};
use crate::api::varlink::reply::CallError;
use crate::engine::lending::{Borrower, Refusal, Wish};
use crate::engine::publish::blocking;
use crate::host::links::Link;
use crate::network::events::{Happened, Kind};
use crate::network::{Affected, NetworkError, NetworkRef, PartChange, Snapshot, leases};

fn bad(parameter: &str) -> CallError {
    ServiceError::InvalidParameter(parameter.into()).into()
}

/// The reference of a call; one must be given.
fn reference(name: Option<String>, uuid: Option<String>) -> Result<NetworkRef, CallError> {
    if name.is_none() && uuid.is_none() {
        return Err(bad("name"));
    }
    Ok(NetworkRef { name, uuid })
}

/// Answers one call.
pub async fn call(c: &mut Connection, method: Method, call: Call) -> Result<(), CallError> {
    match method {
        Method::List => list(c, call).await,
        Method::Define => {
            let p = DefineIn::from_value(call.parameters)?;
            let dry_run = p.dry_run.unwrap_or(false);
            let defined = c.engine.networks.define(&p.xml, dry_run).await?;
            c.about = Some(About::other(defined.snapshot.name.to_string()));
            c.changed_nothing = dry_run;
            let warnings = defined.warnings.iter().map(diagnostic).collect();
            let network = status(&defined.snapshot);
            c.out.good(&DefineOut { network, updated: defined.updated, warnings }, false);
            Ok(())
        }
        Method::Create => {
            let p = CreateIn::from_value(call.parameters)?;
            let created = c.engine.networks.create(&p.xml).await?;
            c.about = Some(About::other(created.snapshot.name.to_string()));
            let warnings = created.warnings.iter().map(diagnostic).collect();
            c.out.good(&CreateOut { network: status(&created.snapshot), warnings }, false);
            Ok(())
        }
        Method::Start => {
            let p = StartIn::from_value(call.parameters)?;
            let started = c.engine.networks.start(&reference(p.name, p.uuid)?).await?;
            c.out.good(&StartOut { network: status(&started) }, false);
            Ok(())
        }
        Method::Destroy => {
            let p = DestroyIn::from_value(call.parameters)?;
            c.engine.networks.destroy(&reference(p.name, p.uuid)?).await?;
            c.out.good(&DestroyOut {}, false);
            Ok(())
        }
        Method::Undefine => {
            let p = UndefineIn::from_value(call.parameters)?;
            c.engine.networks.undefine(&reference(p.name, p.uuid)?).await?;
            c.out.good(&UndefineOut {}, false);
            Ok(())
        }
        Method::GetXML => {
            let p = GetXMLIn::from_value(call.parameters)?;
            let snapshot = c.engine.networks.find(&reference(p.name, p.uuid)?)?;
            let xml = snapshot.xml(p.inactive.unwrap_or(false)).unwrap_or_default();
            c.out.good(&GetXMLOut { xml }, false);
            Ok(())
        }
        Method::SetAutostart => {
            let p = SetAutostartIn::from_value(call.parameters)?;
            c.engine.networks.set_autostart(&reference(p.name, p.uuid)?, p.autostart).await?;
            c.out.good(&SetAutostartOut {}, false);
            Ok(())
        }
        Method::Update => update(c, call).await,
        Method::GetLeases => get_leases(c, call).await,
        Method::AddInterface => add_interface(c, call).await,
        Method::RemoveInterface => {
            let p = RemoveInterfaceIn::from_value(call.parameters)?;
            let uid = match (c.role, c.peer) {
                (Role::Admin, _) => None,
                (Role::Reader, Some(peer)) => Some(peer.uid),
                (Role::Reader, None) => return Err(ServiceError::PermissionDenied.into()),
            };
            c.engine.remove_interface(uid, &p.device).await.map_err(refused)?;
            c.out.good(&RemoveInterfaceOut {}, false);
            Ok(())
        }
        Method::Subscribe => subscribe(c, call).await,
    }
}

async fn add_interface(c: &mut Connection, mut call: Call) -> Result<(), CallError> {
    let p = AddInterfaceIn::from_value(call.parameters)?;
    let network = reference(p.name, p.uuid)?;
    let index = usize::try_from(p.namespace).ok().filter(|i| *i < call.descriptors.len());
    let namespace = call.descriptors.swap_remove(index.ok_or_else(|| bad("namespace"))?);
    let borrower = borrower(c, &network).await?;
    let wish = Wish { network, namespace, interface: p.interface, mac: p.mac };
    let lent = c.engine.add_interface(borrower, wish).await.map_err(refused)?;
    let Link { host, inside, mac, .. } = lent.link;
    c.out.good(&AddInterfaceOut { device: host, interface: inside, mac }, false);
    Ok(())
}

/// Who asks for an interface, and how many of this network they may have.
async fn borrower(c: &Connection, network: &NetworkRef) -> Result<Borrower, CallError> {
    let Some(peer) = c.peer else { return Err(ServiceError::PermissionDenied.into()) };
    if c.role == Role::Admin {
        return Ok(Borrower { uid: peer.uid, most: None });
    }
    let name = c.engine.networks.find(network)?.name.to_string();
    let config = c.engine.config();
    let most =
        blocking(move || Ok(access::interfaces(&config.network_access, peer.uid, peer.gid, &name))).await;
    Ok(Borrower { uid: peer.uid, most: Some(most.unwrap_or(0)) })
}

fn refused(refusal: Refusal) -> CallError {
    match refusal {
        Refusal::Denied => ServiceError::PermissionDenied.into(),
        Refusal::Bad(parameter) => bad(parameter),
        Refusal::Failed(error) => error.into(),
    }
}

async fn list(c: &mut Connection, call: Call) -> Result<(), CallError> {
    let p = ListIn::from_value(call.parameters)?;
    if p.name.is_some() || p.uuid.is_some() {
        let found = c.engine.networks.find(&reference(p.name, p.uuid)?)?;
        c.out.good(&ListOut { network: status(&found) }, false);
        return Ok(());
    }
    if !call.more {
        return Err(ServiceError::ExpectedMore.into());
    }
    let all = c.engine.networks.all();
    let Some((last, others)) = all.split_last() else {
        // A stream of nothing cannot be said otherwise in this protocol.
        return Err(NetworkError::Nobody.into());
    };
    for snapshot in others {
        c.out.good(&ListOut { network: status(snapshot) }, true);
        c.out.flush_if_much(&mut c.channel).await?;
    }
    c.out.good(&ListOut { network: status(last) }, false);
    Ok(())
}

async fn update(c: &mut Connection, call: Call) -> Result<(), CallError> {
    let p = UpdateIn::from_value(call.parameters)?;
    let kind = match p.section {
        Section::IpDhcpRange => PartKind::DhcpRange,
        Section::IpDhcpHost => PartKind::DhcpHost,
        Section::ForwardInterface => PartKind::ForwardInterface,
        Section::Portgroup => PartKind::Portgroup,
        Section::DnsHost => PartKind::DnsHost,
        Section::DnsTxt => PartKind::DnsTxt,
        Section::DnsSrv => PartKind::DnsSrv,
    };
    let part: Part = parse_part(&p.xml, kind).map_err(|e| NetworkError::InvalidDocument(e.diagnostics))?;
    let change = match p.command {
        Command::AddFirst => Change::AddFirst,
        Command::AddLast => Change::AddLast,
        Command::Delete => Change::Delete,
        Command::Modify => Change::Modify,
    };
    let parent = match p.parent_index {
        None => None,
        Some(index) => Some(usize::try_from(index).map_err(|_| bad("parentIndex"))?),
    };
    let affect = p.affect.unwrap_or_default();
    let has = |wanted: Affect| affect.contains(&wanted);
    let affected = (!affect.is_empty() && !has(Affect::Current))
        .then(|| Affected { live: has(Affect::Live), config: has(Affect::Config) });
    let reference = reference(p.name, p.uuid)?;
    c.engine.networks.update(&reference, PartChange { change, part, parent, affected }).await?;
    c.out.good(&UpdateOut {}, false);
    Ok(())
}

async fn get_leases(c: &mut Connection, call: Call) -> Result<(), CallError> {
    let p = GetLeasesIn::from_value(call.parameters)?;
    let reference = reference(p.name, p.uuid)?;
    let snapshot = c.engine.networks.find(&reference)?;
    let all = c.engine.networks.leases_of(&reference, p.mac.as_deref()).await?;
    let leases = all.iter().map(|l| lease(l, &snapshot)).collect();
    c.out.good(&GetLeasesOut { leases }, false);
    Ok(())
}

fn lease(from: &leases::Lease, snapshot: &Snapshot) -> Lease {
    Lease {
        address: from.ip.to_string(),
        prefix: snapshot.prefix_of(from.ip).into(),
        mac: from.mac.clone(),
        iaid: from.iaid.clone(),
        hostname: from.hostname.clone(),
        client_id: from.client_id.clone(),
        expiry_u_sec: (from.expiry > 0).then(|| from.expiry.saturating_mul(1_000_000)),
    }
}

async fn subscribe(c: &mut Connection, call: Call) -> Result<(), CallError> {
    let p = SubscribeIn::from_value(call.parameters)?;
    if !call.more {
        return Err(ServiceError::ExpectedMore.into());
    }
    let only = match (p.name, p.uuid) {
        (None, None) => None,
        (name, uuid) => Some(c.engine.networks.find(&reference(name, uuid)?)?.uuid),
    };
    let mut coming = c.engine.networks.events().listen();
    c.out.good(&SubscribeOut { event: None }, true);
    loop {
        c.out.flush(&mut c.channel).await?;
        tokio::select! {
            event = coming.recv() => match event {
                Ok(happened) if only.is_none_or(|uuid| uuid == happened.uuid) => {
                    c.out.good(&SubscribeOut { event: Some(event_of(&happened)) }, true);
                }
                Ok(_) => {}
                // Too slow, or the daemon ends.
                Err(RecvError::Lagged(_) | RecvError::Closed) => return Err(CallError::Gone),
            },
            () = c.channel.watch() => return Err(CallError::Gone),
        }
    }
}

fn event_of(from: &Happened) -> Event {
    let kind = match from.kind {
        Kind::Defined => EventKind::Defined,
        Kind::Undefined => EventKind::Undefined,
        Kind::Started => EventKind::Started,
        Kind::Stopped => EventKind::Stopped,
    };
    Event { at_u_sec: from.at_usec, kind, name: from.name.clone(), uuid: from.uuid.to_string() }
}

/// One network.
fn status(snapshot: &Snapshot) -> NetworkStatus {
    let network = snapshot.current();
    NetworkStatus {
        name: snapshot.name.to_string(),
        uuid: snapshot.uuid.to_string(),
        active: snapshot.active(),
        persistent: snapshot.next.is_some(),
        autostart: snapshot.autostart,
        bridge: network.and_then(|n| n.bridge.as_ref()?.name.clone()),
        forward: network.and_then(|n| n.forward.as_ref()).map(|f| f.mode.to_string()),
        ports: i64::try_from(snapshot.ports.len()).unwrap_or(i64::MAX),
    }
}

fn diagnostic(from: &berth_domain::Diagnostic) -> Diagnostic {
    Diagnostic {
        line: from.line.into(),
        column: from.column.into(),
        element: from.element.clone(),
        message: from.message.clone(),
        hint: from.hint.clone(),
    }
}

/// The error on the wire.
pub fn wire_error(error: &NetworkError) -> Error {
    let message = match error {
        NetworkError::NotFound(name) => format!("no network with matching name '{name}'"),
        other => other.to_string(),
    };
    let wire = |all: &[berth_domain::Diagnostic]| all.iter().map(diagnostic).collect();
    match error {
        NetworkError::NotFound(_) | NetworkError::Nobody => Error::NoSuchNetwork { message },
        NetworkError::Exists(_) => Error::NetworkExists { message },
        NetworkError::InvalidState(_) => Error::InvalidState { message },
        NetworkError::InvalidDocument(all) => Error::InvalidDocument { message, diagnostics: wire(all) },
        NetworkError::Unsupported(all) => Error::Unsupported { message, diagnostics: wire(all) },
        NetworkError::InvalidMac(_) | NetworkError::Failed(_) => Error::Failed { message },
    }
}
