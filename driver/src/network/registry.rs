//! Which networks there are: by name and uuid, each with its mailbox and its published snapshot.
//!
//! Does not know what a network does. No lock is held across an await.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use berth_domain::network::{Network, NetworkLive, PortForward};
use berth_schemas::name::DomainName;
use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

use super::record::Taken;
use super::task::Event;
use super::{NetworkError, NetworkRef};

/// What everybody sees of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Name.
    pub name: DomainName,
    /// UUID.
    pub uuid: Uuid,
    /// What runs.
    pub live: Option<Arc<Network>>,
    /// What the next start uses.
    pub next: Option<Arc<Network>>,
    /// Whether it starts with the host.
    pub autostart: bool,
    /// Its ports.
    pub ports: Vec<Taken>,
}

impl Snapshot {
    /// A network nobody knows yet.
    pub fn hidden(name: DomainName, uuid: Uuid) -> Self {
        Self { name, uuid, live: None, next: None, autostart: false, ports: Vec::new() }
    }

    /// One that is only defined.
    pub fn defined(network: Network) -> Self {
        let hidden = Self::hidden(network.name.clone(), network.uuid);
        Self { next: Some(Arc::new(network)), ..hidden }
    }

    /// Whether it runs.
    pub fn active(&self) -> bool {
        self.live.is_some()
    }

    /// Whether anybody knows it.
    pub fn known(&self) -> bool {
        self.live.is_some() || self.next.is_some()
    }

    /// What runs, else the definition.
    pub fn current(&self) -> Option<&Arc<Network>> {
        self.live.as_ref().or(self.next.as_ref())
    }

    /// Its bridges, of what runs and of the definition.
    pub fn bridges(&self) -> Vec<String> {
        let all = self.live.iter().chain(&self.next);
        all.filter_map(|n| n.bridge.as_ref()?.name.clone()).collect()
    }

    /// Networks of addresses, of what runs and of the definition.
    pub fn subnets(&self) -> Vec<(IpAddr, u8)> {
        let all = self.live.iter().chain(&self.next);
        all.flat_map(|n| n.ips.iter().map(|ip| (ip.address, ip.prefix_length()))).collect()
    }

    /// Ports of the host that lead to guests of what runs.
    pub fn forwards(&self) -> Vec<PortForward> {
        let own = self.live.iter().flat_map(|n| n.forwards());
        own.chain(self.ports.iter().flat_map(|t| t.port.forwards())).collect()
    }

    /// Length of the prefix of the network of addresses that one is in; all of it where there is none.
    pub fn prefix_of(&self, address: IpAddr) -> u8 {
        let ip = self.current().and_then(|n| n.ips.iter().find(|ip| ip.contains(address)));
        ip.map_or(if address.is_ipv6() { 128 } else { 32 }, |ip| ip.prefix_length())
    }

    /// The document of what runs, or of the next start.
    pub fn xml(&self, inactive: bool) -> Option<String> {
        if inactive {
            return self.next.as_ref().or(self.live.as_ref()).map(|n| n.to_xml());
        }
        let Some(live) = &self.live else { return self.next.as_ref().map(|n| n.to_xml()) };
        let interfaces = live.forward.iter().flat_map(|f| &f.interfaces);
        let count = |dev: &String| self.ports.iter().filter(|p| p.dev.as_ref() == Some(dev)).count();
        let live_of =
            NetworkLive { connections: self.ports.len(), interfaces: interfaces.map(count).collect() };
        Some(live.to_live_xml(&live_of))
    }
}

/// One network as seen from outside its task.
#[derive(Debug)]
pub struct Entry {
    /// Its name, which never changes.
    pub name: DomainName,
    /// Its uuid, which never changes.
    pub uuid: Uuid,
    mailbox: mpsc::Sender<Event>,
    /// Its rules were touched, by whomever.
    touched: Notify,
    snapshot: RwLock<Arc<Snapshot>>,
}

impl Entry {
    /// A network nobody knows yet.
    pub(super) fn new(name: DomainName, uuid: Uuid, mailbox: mpsc::Sender<Event>) -> Arc<Self> {
        let snapshot = RwLock::new(Arc::new(Snapshot::hidden(name.clone(), uuid)));
        Arc::new(Self { name, uuid, mailbox, touched: Notify::new(), snapshot })
    }

    /// Where its task reads.
    pub(super) fn mailbox(&self) -> &mpsc::Sender<Event> {
        &self.mailbox
    }

    /// Told when somebody has touched its rules; once for any number of times.
    pub(super) fn touched(&self) -> &Notify {
        &self.touched
    }

    /// What was published last.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Publishes. Only the network's task does this.
    pub(super) fn show(&self, snapshot: Snapshot) {
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }
}

/// All networks, by name.
#[derive(Debug, Default)]
pub struct Registry(Mutex<BTreeMap<String, Arc<Entry>>>);

impl Registry {
    fn map(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Entry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All entries, also those nobody knows yet.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        self.map().values().cloned().collect()
    }

    /// All networks that anybody knows, by name.
    pub fn all(&self) -> Vec<Arc<Snapshot>> {
        self.map().values().map(|e| e.snapshot()).filter(|s| s.known()).collect()
    }

    /// The network with that uuid.
    pub fn by_uuid(&self, uuid: Uuid) -> Option<Arc<Entry>> {
        self.map().values().find(|e| e.uuid == uuid).cloned()
    }

    /// The uuid behind a name.
    pub fn uuid_of(&self, name: &str) -> Option<Uuid> {
        self.map().get(name).map(|e| e.uuid)
    }

    /// The network that is meant.
    pub fn find(&self, reference: &NetworkRef) -> Result<Arc<Entry>, NetworkError> {
        let nobody = || NetworkError::NotFound(reference.text());
        let by_name = reference.name.as_ref().map(|n| self.map().get(n).cloned());
        let by_uuid = reference.uuid.as_ref().map(|u| Uuid::parse_str(u).ok().and_then(|u| self.by_uuid(u)));
        let mut found: Option<Arc<Entry>> = None;
        for way in [by_name, by_uuid].into_iter().flatten() {
            let entry = way.ok_or_else(nobody)?;
            if found.as_ref().is_some_and(|f| f.uuid != entry.uuid) {
                return Err(nobody());
            }
            found = Some(entry);
        }
        found.filter(|e| e.snapshot().known()).ok_or_else(nobody)
    }

    /// The entry for a definition, new if nobody has the name and the uuid. `born` is called with the lock held.
    pub fn claim(
        &self,
        name: &DomainName,
        uuid: Uuid,
        born: impl FnOnce() -> Arc<Entry>,
    ) -> Result<Arc<Entry>, NetworkError> {
        let mut map = self.map();
        if let Some(there) = conflict(&map, name, uuid)? {
            return Ok(there);
        }
        let entry = born();
        map.insert(name.to_string(), entry.clone());
        Ok(entry)
    }

    /// Whether a definition is possible.
    pub fn check(&self, name: &DomainName, uuid: Uuid) -> Result<(), NetworkError> {
        conflict(&self.map(), name, uuid).map(drop)
    }

    /// Forgets a network.
    pub(super) fn forget(&self, entry: &Entry) {
        self.map().remove(entry.name.as_str());
    }
}

fn conflict(
    map: &BTreeMap<String, Arc<Entry>>,
    name: &DomainName,
    uuid: Uuid,
) -> Result<Option<Arc<Entry>>, NetworkError> {
    if let Some(there) = map.get(name.as_str()) {
        if there.uuid == uuid {
            return Ok(Some(there.clone()));
        }
        let message = format!("network '{name}' already exists with uuid {}", there.uuid);
        return Err(NetworkError::Exists(message));
    }
    match map.values().find(|e| e.uuid == uuid) {
        Some(other) => {
            let message = format!("network '{}' is already defined with uuid {uuid}", other.name);
            Err(NetworkError::Exists(message))
        }
        None => Ok(None),
    }
}
