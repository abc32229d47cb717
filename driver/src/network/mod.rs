//! Virtual networks: what an interface of `type='network'` becomes.
//!
//! One task owns one network ([`task`]); what it makes on the host is in [`making`]. Does not know how interfaces of
//! containers are made, nor who owns a container.

pub mod bridge;
mod choose;
mod conntrack;
pub mod dnsmasq;
pub mod events;
mod guard;
pub mod leases;
pub mod lifecycle;
mod making;
mod nft;
mod occupied;
mod record;
mod registry;
pub mod rules;
mod server;
pub mod sysctl;
mod task;
mod watch;

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use berth_domain::model::{Bandwidth, DirectMode, VirtualPort, Vlan};
use berth_domain::network::{Change, Network, Part, PortForward, Protocol, parse_network};
use berth_domain::{Diagnostic, canonical_mac};
use berth_schemas::name::DomainName;
use berth_schemas::words::shown;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::engine::publish::blocking;
use crate::engine::store::{Read, Store};
use crate::paths::Layout;
use events::Events;
use leases::Lease;
use making::Files;
pub use making::is_direct;
pub use registry::{Entry, Registry, Snapshot};
use task::{Answer, Birth, Request};

/// Name of the network that a fresh installation has.
const DEFAULT: &str = "default";

/// All virtual networks of one daemon.
#[derive(Debug)]
pub struct Networks(Arc<Shared>);

/// What all networks have in common.
#[derive(Debug)]
struct Shared {
    layout: Layout,
    boot_id: String,
    store: Store,
    registry: Registry,
    events: Events,
    /// One bridge is named at a time.
    naming: tokio::sync::Mutex<()>,
    /// Whether changes of rules are heard of.
    watching: std::sync::Once,
    definitions: OnceLock<Definitions>,
}

/// Tells whether a hardware address is in a definition of a domain.
struct Definitions(Box<dyn Fn(&str) -> bool + Send + Sync>);

impl std::fmt::Debug for Definitions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Definitions")
    }
}

impl Shared {
    fn records(&self) -> PathBuf {
        self.layout.network_state()
    }

    fn files(&self, uuid: Uuid) -> Files {
        making::files_of(&self.records(), &self.layout.network_hosts(), &self.layout.leases(), uuid)
    }

    /// Gives a network that needs a bridge and names none, or gives a template, a name for it.
    async fn name_bridge(&self, network: &mut Network) -> Result<(), NetworkError> {
        let name = network.bridge.as_ref().and_then(|b| b.name.clone());
        if !network.has_own_bridge() || name.as_deref().is_some_and(|n| !choose::is_template(n)) {
            return Ok(());
        }
        let template = name;
        let fits = |bridge: &String| template.as_ref().is_none_or(|t| choose::is_made_from(bridge, t));
        let taken: BTreeSet<String> = self
            .registry
            .entries()
            .iter()
            .filter(|e| e.uuid != network.uuid)
            .flat_map(|e| e.snapshot().bridges())
            .collect();
        let before = self.registry.by_uuid(network.uuid).map(|e| e.snapshot());
        let kept = before.and_then(|s| s.bridges().into_iter().find(|b| fits(b) && !taken.contains(b)));
        let name = match kept {
            Some(name) => name,
            None => making::free_bridge(template.as_deref(), taken).await.map_err(NetworkError::Failed)?,
        };
        network.bridge.get_or_insert_default().name = Some(name);
        Ok(())
    }
}

/// One interface of one running domain, as a network knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Port {
    /// Whose it is.
    pub domain: Uuid,
    /// Name of the domain: what other guests may know it by.
    pub name: String,
    /// Hardware address in lower case.
    pub mac: String,
    /// Name of its end on the host, where that is a pair's; a daemon that did not write it did not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// The address that it has by its document.
    #[serde(default)]
    pub address: Option<Ipv4Addr>,
    /// Likewise of IPv6.
    #[serde(default)]
    pub address6: Option<Ipv6Addr>,
    /// Those that it has besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<IpAddr>,
    /// Whether it is kept from other isolated ones, where its own element says so.
    #[serde(default)]
    pub isolated: Option<bool>,
    /// Ports of the host that lead to it.
    #[serde(default)]
    pub doors: Vec<Door>,
}

/// A port of the host that leads to a guest; a `PortForward` of its document.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Door {
    /// UDP instead of TCP.
    pub udp: bool,
    /// Address of the host; none is any of IPv4.
    pub host_address: Option<IpAddr>,
    /// Port of the host.
    pub host_port: u16,
    /// The last one, where there are more in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_host_port: Option<u16>,
    /// Port of the guest.
    pub port: u16,
}

impl Port {
    /// All addresses that it has by its document.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.address.map(IpAddr::V4).into_iter();
        v4.chain(self.address6.map(IpAddr::V6)).chain(self.others.iter().copied())
    }

    /// What leads to it, as a network's document would have it.
    pub fn forwards(&self) -> impl Iterator<Item = PortForward> {
        self.doors.iter().map(|door| PortForward {
            protocol: if door.udp { Protocol::Udp } else { Protocol::Tcp },
            host_address: door.host_address,
            host_port: door.host_port,
            last_host_port: door.last_host_port.unwrap_or(door.host_port).max(door.host_port),
            guest: self.name.clone(),
            port: door.port,
        })
    }
}

impl From<&PortForward> for Door {
    fn from(from: &PortForward) -> Self {
        Self {
            udp: from.protocol == Protocol::Udp,
            host_address: from.host_address,
            host_port: from.host_port,
            last_host_port: Some(from.last_host_port).filter(|last| *last != from.host_port),
            port: from.port,
        }
    }
}

/// Why a port is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// An interface is made, or is to be another one.
    New,
    /// The interface is there: the daemon was away, or the network.
    Again,
}

/// What the interface of a port has to be connected to. What the interface's own element says goes before.
#[derive(Debug, Clone, PartialEq)]
pub enum Connection {
    /// A pair whose host end is in a bridge.
    Bridge(Box<BridgePort>),
    /// A macvlan of an interface of the host.
    Direct {
        /// Name of that interface.
        dev: String,
        /// How it talks to its neighbours.
        mode: DirectMode,
    },
}

/// A port of a bridge.
#[derive(Debug, Clone, PartialEq)]
pub struct BridgePort {
    /// Name of the bridge.
    pub bridge: String,
    /// Largest packet.
    pub mtu: Option<u32>,
    /// Whether isolated ports cannot talk to each other.
    pub isolated: Option<bool>,
    /// Whether guests may have to reach themselves by a port of the host, which the bridge has to do.
    pub reflects: bool,
    /// Virtual LANs.
    pub vlan: Option<Vlan>,
    /// Limits of throughput.
    pub bandwidth: Option<Bandwidth>,
    /// Port of a switch.
    pub virtualport: Option<VirtualPort>,
}

/// Why something cannot be done with a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// No network of that name.
    #[error("network '{}' not found", shown(.0))]
    NotFound(String),
    /// There is none at all.
    #[error("there are no networks")]
    Nobody,
    /// The name or the uuid is taken.
    #[error("{}", shown(.0))]
    Exists(String),
    /// Not now.
    #[error("{}", shown(.0))]
    InvalidState(String),
    /// The document is bad.
    #[error("{}", first(.0))]
    InvalidDocument(Vec<Diagnostic>),
    /// The document is good but this version cannot run it.
    #[error("{}", first(.0))]
    Unsupported(Vec<Diagnostic>),
    /// What is no hardware address.
    #[error("invalid MAC address: {}", shown(&.0.escape_debug().to_string()))]
    InvalidMac(String),
    /// Anything else that went wrong.
    #[error("{}", shown(.0))]
    Failed(String),
}

fn first(diagnostics: &[Diagnostic]) -> String {
    match diagnostics {
        [] => "the document was refused".into(),
        [one] => one.to_string(),
        [one, rest @ ..] => format!("{one} (and {} more)", rest.len()),
    }
}

/// How a caller names a network. Those that are given must all fit.
#[derive(Debug, Clone, Default)]
pub struct NetworkRef {
    /// By name.
    pub name: Option<String>,
    /// By uuid.
    pub uuid: Option<String>,
}

impl NetworkRef {
    /// By name alone.
    pub fn by_name(name: &str) -> Self {
        Self { name: Some(name.to_owned()), uuid: None }
    }

    /// What the caller said, for messages.
    pub fn text(&self) -> String {
        self.name.clone().or_else(|| self.uuid.clone()).unwrap_or_default()
    }
}

/// What came of a definition.
#[derive(Debug)]
pub struct Defined {
    /// The network.
    pub snapshot: Arc<Snapshot>,
    /// Whether it was there before.
    pub updated: bool,
    /// Remarks.
    pub warnings: Vec<Diagnostic>,
}

/// Which definitions a change is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Affected {
    /// What runs.
    pub live: bool,
    /// What the next start uses.
    pub config: bool,
}

/// A change of one part.
#[derive(Debug, Clone, PartialEq)]
pub struct PartChange {
    /// What to do.
    pub change: Change,
    /// With what.
    pub part: Part,
    /// Number of the `<ip>` element it is in.
    pub parent: Option<usize>,
    /// In which definitions; none is what runs, or the definition of a network that does not run.
    pub affected: Option<Affected>,
}

impl Networks {
    /// Knows no network yet.
    pub fn new(layout: &Layout, boot_id: String) -> Self {
        Self(Arc::new(Shared {
            store: Store::new(layout.networks(), layout.network_autostart()),
            layout: layout.clone(),
            boot_id,
            registry: Registry::default(),
            events: Events::default(),
            naming: tokio::sync::Mutex::default(),
            watching: std::sync::Once::new(),
            definitions: OnceLock::new(),
        }))
    }

    /// Has somebody tell whether a hardware address is in a definition of a domain; the first one who is named does.
    pub fn ask_about_macs(&self, is_defined: impl Fn(&str) -> bool + Send + Sync + 'static) {
        self.0.definitions.get_or_init(|| Definitions(Box::new(is_defined)));
    }

    /// What happens from now on.
    pub fn events(&self) -> &Events {
        &self.0.events
    }

    /// All networks by name.
    pub fn all(&self) -> Vec<Arc<Snapshot>> {
        self.0.registry.all()
    }

    /// One network.
    pub fn find(&self, reference: &NetworkRef) -> Result<Arc<Snapshot>, NetworkError> {
        self.0.registry.find(reference).map(|e| e.snapshot())
    }

    /// Reads everything there is: definitions, and what a former daemon left running.
    pub async fn recover(&self) -> io::Result<()> {
        let store = self.0.store.clone();
        let loaded =
            blocking(move || store.load::<Box<Network>>(&*reader()).map_err(io::Error::other)).await?;
        for bad in &loaded.set_aside {
            tracing::error!(
                "'{}' is no network and is now '{}': {}",
                bad.file.display(),
                bad.now.display(),
                bad.why
            );
        }
        let folder = self.0.records();
        let (records, bad) = blocking(move || record::load(&folder)).await?;
        for bad in bad {
            tracing::error!("cannot read the state of a network: {bad}");
        }
        let mut records: Vec<_> = records
            .into_iter()
            .filter_map(|record| match parse_network(&record.xml) {
                Ok(parsed) => Some((record, Box::new(parsed.network))),
                Err(e) => {
                    tracing::error!("cannot read the state of network '{}': {e}", record.uuid);
                    None
                }
            })
            .collect();
        let mut waits = Vec::new();
        for stored in loaded.domains {
            let found = records.iter().position(|(r, _)| r.uuid == stored.domain.uuid);
            let left = found.map(|index| records.swap_remove(index));
            let birth = Birth::Found { next: Some(stored.domain), autostart: stored.autostart, left };
            waits.extend(self.spawn(birth));
        }
        for left in records {
            waits.extend(self.spawn(Birth::Found { next: None, autostart: false, left: Some(left) }));
        }
        for wait in waits {
            // The task failed: it said so.
            let _ = wait.await;
        }
        if let Err(e) = self.make_default().await {
            tracing::warn!("there is no default network: {e}");
        }
        Ok(())
    }

    fn spawn(&self, birth: Birth) -> Option<tokio::sync::oneshot::Receiver<()>> {
        let (name, uuid) = birth.identity()?;
        let (entry, settled) = task::spawn(&self.0, &name, uuid, birth);
        match self.0.registry.claim(&name, uuid, || entry) {
            Ok(_) => Some(settled),
            Err(e) => {
                tracing::error!("network '{name}' is left out: {e}");
                None
            }
        }
    }

    /// Starts those that start with the host.
    pub async fn autostart(&self) {
        for snapshot in self.all() {
            if snapshot.autostart
                && !snapshot.active()
                && let Err(e) = self.start(&NetworkRef::by_name(snapshot.name.as_str())).await
            {
                tracing::error!("cannot start network '{}' with the host: {e}", snapshot.name);
            }
        }
    }

    /// Makes the default network where there never was one: who undefined it does not get it again.
    async fn make_default(&self) -> Result<(), String> {
        let mark = self.0.layout.default_network_mark();
        if mark.exists() {
            return Ok(());
        }
        if self.find(&NetworkRef::by_name(DEFAULT)).is_err() {
            let netlink = bridge::Netlink::open()?;
            let routes = netlink.routes().await?;
            drop(netlink);
            let others: Vec<_> = self.all().iter().flat_map(|s| s.subnets()).collect();
            let subnet = choose::default_subnet(&routes, &others).ok_or("no range of addresses is free")?;
            let document = choose::default_document(subnet);
            let defined = self.define(&document, false).await.map_err(|e| e.to_string())?;
            let ip = subnet.octets();
            tracing::info!(
                "made the network '{}' with the addresses {}.{}.{}.0/24",
                defined.snapshot.name,
                ip[0],
                ip[1],
                ip[2]
            );
        }
        blocking(move || crate::files::overwrite(&mark, "made\n"))
            .await
            .map_err(|e| format!("cannot note that it was made: {e}"))
    }

    /// Makes the rules of all networks that run once more, whatever has become of them.
    pub async fn make_rules_again(&self) {
        for entry in self.0.registry.entries() {
            // One whose task has ended has none.
            let _ = entry.mailbox().send(task::Event::MakeRules { asked: true }).await;
        }
    }

    async fn ask(&self, entry: &Entry, request: Request) -> Result<Answer, NetworkError> {
        task::ask(entry, request).await
    }

    async fn ask_new(&self, network: &Network, request: Request) -> Result<Answer, NetworkError> {
        let born = || task::spawn(&self.0, &network.name, network.uuid, Birth::Fresh).0;
        let entry = self.0.registry.claim(&network.name, network.uuid, born)?;
        self.ask(&entry, request).await
    }

    /// Reads a document; one without a uuid gets that of the network with its name.
    fn parse(&self, xml: &str) -> Result<berth_domain::network::ParsedNetwork, NetworkError> {
        let mut parsed = parse_network(xml).map_err(|e| NetworkError::InvalidDocument(e.diagnostics))?;
        if !parsed.says_uuid
            && let Some(uuid) = self.0.registry.uuid_of(parsed.network.name.as_str())
        {
            parsed.network.uuid = uuid;
        }
        Ok(parsed)
    }

    /// Keeps a definition, or only checks it.
    pub async fn define(&self, xml: &str, dry_run: bool) -> Result<Defined, NetworkError> {
        let parsed = self.parse(xml)?;
        let warnings = parsed.all_warnings();
        let mut network = parsed.network;
        if dry_run {
            self.0.registry.check(&network.name, network.uuid)?;
            let updated = self.0.registry.by_uuid(network.uuid).is_some_and(|e| e.snapshot().next.is_some());
            let snapshot = Arc::new(Snapshot::defined(network));
            return Ok(Defined { snapshot, updated, warnings });
        }
        let _one = self.0.naming.lock().await;
        self.0.registry.check(&network.name, network.uuid)?;
        self.0.name_bridge(&mut network).await?;
        self.check_bridge(&network)?;
        match self.ask_new(&network, Request::Define(Box::new(network.clone()))).await? {
            Answer::Status(snapshot, updated) => Ok(Defined { snapshot, updated, warnings }),
            _ => Err(NetworkError::Failed(format!(
                "the definition of network '{}' was not kept",
                network.name
            ))),
        }
    }

    /// Starts a document.
    pub async fn create(&self, xml: &str) -> Result<Defined, NetworkError> {
        let parsed = self.parse(xml)?;
        let mut network = parsed.network;
        let _one = self.0.naming.lock().await;
        self.0.registry.check(&network.name, network.uuid)?;
        self.0.name_bridge(&mut network).await?;
        self.check_bridge(&network)?;
        match self.ask_new(&network, Request::Create(Box::new(network.clone()))).await? {
            Answer::Status(snapshot, _) => {
                Ok(Defined { snapshot, updated: false, warnings: parsed.warnings })
            }
            _ => Err(NetworkError::Failed(format!("network '{}' was not started", network.name))),
        }
    }

    /// Two networks never have one bridge.
    fn check_bridge(&self, network: &Network) -> Result<(), NetworkError> {
        let name = network.bridge.as_ref().and_then(|b| b.name.as_ref());
        let Some(name) = name.filter(|_| network.has_own_bridge()) else { return Ok(()) };
        let other = self.all().into_iter().find(|s| s.uuid != network.uuid && s.bridges().contains(name));
        match other {
            Some(other) => {
                let message = format!("bridge name '{name}' already in use by network '{}'", other.name);
                Err(NetworkError::Failed(message))
            }
            None => Ok(()),
        }
    }

    /// Starts a defined network.
    pub async fn start(&self, reference: &NetworkRef) -> Result<Arc<Snapshot>, NetworkError> {
        let entry = self.0.registry.find(reference)?;
        match self.ask(&entry, Request::Start).await? {
            Answer::Status(snapshot, _) => Ok(snapshot),
            _ => Err(NetworkError::Failed(format!("network '{}' was not started", entry.snapshot().name))),
        }
    }

    /// Ends a network.
    pub async fn destroy(&self, reference: &NetworkRef) -> Result<(), NetworkError> {
        let entry = self.0.registry.find(reference)?;
        self.ask(&entry, Request::Destroy).await.map(drop)
    }

    /// Forgets a definition.
    pub async fn undefine(&self, reference: &NetworkRef) -> Result<(), NetworkError> {
        let entry = self.0.registry.find(reference)?;
        self.ask(&entry, Request::Undefine).await.map(drop)
    }

    /// Whether a network starts with the host.
    pub async fn set_autostart(&self, reference: &NetworkRef, on: bool) -> Result<(), NetworkError> {
        let entry = self.0.registry.find(reference)?;
        self.ask(&entry, Request::SetAutostart(on)).await.map(drop)
    }

    /// Changes one part.
    pub async fn update(&self, reference: &NetworkRef, change: PartChange) -> Result<(), NetworkError> {
        let entry = self.0.registry.find(reference)?;
        self.ask(&entry, Request::Update(Box::new(change))).await.map(drop)
    }

    /// What guests of a network were given, or only the one with this hardware address.
    pub async fn leases_of(
        &self,
        reference: &NetworkRef,
        mac: Option<&str>,
    ) -> Result<Vec<Lease>, NetworkError> {
        let snapshot = self.find(reference)?;
        let full = |mac: &str| canonical_mac(mac).ok_or_else(|| NetworkError::InvalidMac(mac.to_owned()));
        let mac = mac.map(full).transpose()?;
        let mut all = read_leases(&self.0, snapshot.uuid).await;
        if let Some(mac) = mac {
            all.retain(|lease| lease.mac.as_ref() == Some(&mac));
        }
        Ok(all)
    }

    /// Takes a port of a network, which is started for a new one if it starts when needed. The same port taken again is
    /// the same port: a restarted daemon takes the ports of all domains that run, but starts nothing that was ended.
    pub async fn plug(
        &self,
        network: &str,
        portgroup: Option<&str>,
        port: &Port,
        claim: Claim,
    ) -> Result<Connection, NetworkError> {
        let entry = self.0.registry.find(&NetworkRef::by_name(network))?;
        let request = Request::Plug { portgroup: portgroup.map(str::to_owned), port: port.clone(), claim };
        match self.ask(&entry, request).await? {
            Answer::Connection(connection) => Ok(connection),
            _ => Err(NetworkError::Failed(format!("network '{network}' gave no port"))),
        }
    }

    /// Gives a port back. One that is not there is no error.
    pub async fn unplug(&self, network: &str, port: &Port) {
        if let Ok(entry) = self.0.registry.find(&NetworkRef::by_name(network))
            && let Err(e) = self.ask(&entry, Request::Unplug(port.clone())).await
        {
            tracing::warn!("network '{network}' could not take back a port of domain '{}': {e}", port.name);
        }
    }

    /// Gives back all ports but those of these owners.
    pub async fn keep_ports(&self, owners: &HashSet<Uuid>) {
        for snapshot in self.all() {
            for taken in snapshot.ports.iter().filter(|t| !owners.contains(&t.port.domain)) {
                self.unplug(snapshot.name.as_str(), &taken.port).await;
            }
        }
    }
}

async fn read_leases(shared: &Shared, uuid: Uuid) -> Vec<Lease> {
    let path = shared.files(uuid).leases;
    let text = blocking(move || crate::files::read_text(&path)).await;
    // None was given yet where there is no file.
    text.map(|t| leases::parse(&t)).unwrap_or_default()
}

fn reader() -> Box<Read<Box<Network>>> {
    Box::new(|text: &str| {
        let parsed = parse_network(text).map_err(|e| e.to_string())?;
        let name: DomainName = parsed.network.name.clone();
        Ok((name, Box::new(parsed.network)))
    })
}
