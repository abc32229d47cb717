//! Which domains there are: by name, uuid and id, each with its mailbox and its published snapshot.
//!
//! Does not know what a domain does. No lock is held across an await.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use berth_schemas::name::DomainName;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::container::task::Event;
use crate::engine::snapshot::Snapshot;
use crate::failure::Failure;

/// One domain as seen from outside its task.
#[derive(Debug)]
pub struct Entry {
    /// Its name, which never changes.
    pub name: DomainName,
    /// Its uuid, which never changes.
    pub uuid: Uuid,
    mailbox: mpsc::Sender<Event>,
    snapshot: RwLock<Arc<Snapshot>>,
}

impl Entry {
    /// A domain nobody knows yet.
    pub fn new(name: DomainName, uuid: Uuid, mailbox: mpsc::Sender<Event>) -> Arc<Self> {
        let snapshot = RwLock::new(Arc::new(Snapshot::hidden(name.clone(), uuid)));
        Arc::new(Self { name, uuid, mailbox, snapshot })
    }

    /// Where its task reads.
    pub fn mailbox(&self) -> &mpsc::Sender<Event> {
        &self.mailbox
    }

    /// What was published last.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is seen of it before anything was published.
    pub fn set_snapshot(&self, snapshot: Arc<Snapshot>) {
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }
}

/// How a caller names a domain. Those that are given must all fit.
#[derive(Debug, Clone, Default)]
pub struct Reference {
    /// By name.
    pub name: Option<String>,
    /// By uuid.
    pub uuid: Option<String>,
    /// By id.
    pub id: Option<i64>,
}

impl Reference {
    /// By name alone.
    pub fn by_name(name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..Self::default() }
    }

    /// Whether nothing is given.
    pub fn is_empty(&self) -> bool {
        self.name.is_none() && self.uuid.is_none() && self.id.is_none()
    }

    /// What the caller said, for messages.
    pub fn text(&self) -> String {
        match (&self.name, &self.uuid, self.id) {
            (Some(text), _, _) | (None, Some(text), _) => text.clone(),
            (None, None, id) => id.map_or_else(String::new, |id| id.to_string()),
        }
    }
}

#[derive(Debug, Default)]
struct Maps {
    names: BTreeMap<String, Arc<Entry>>,
    uuids: HashMap<Uuid, Arc<Entry>>,
    ids: HashMap<i64, Uuid>,
}

/// All domains.
#[derive(Debug, Default)]
pub struct Registry {
    maps: RwLock<Maps>,
}

impl Registry {
    fn read(&self) -> RwLockReadGuard<'_, Maps> {
        self.maps.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Maps> {
        self.maps.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The domain that is meant.
    pub fn find(&self, reference: &Reference) -> Result<Arc<Entry>, Failure> {
        let nobody = || Failure::NoSuchDomain(reference.text());
        let maps = self.read();
        let mut found: Option<&Arc<Entry>> = None;
        let by_name = reference.name.as_ref().map(|n| maps.names.get(n.as_str()));
        let by_uuid =
            reference.uuid.as_ref().map(|u| Uuid::parse_str(u).ok().and_then(|u| maps.uuids.get(&u)));
        let by_id = reference.id.map(|id| maps.ids.get(&id).and_then(|u| maps.uuids.get(u)));
        for way in [by_name, by_uuid, by_id].into_iter().flatten() {
            let entry = way.ok_or_else(nobody)?;
            if found.is_some_and(|f| f.uuid != entry.uuid) {
                return Err(nobody());
            }
            found = Some(entry);
        }
        found.filter(|e| !e.snapshot().hidden).cloned().ok_or_else(nobody)
    }

    /// All domains that anybody knows, by name.
    pub fn all(&self) -> Vec<Arc<Snapshot>> {
        let maps = self.read();
        maps.names.values().map(|e| e.snapshot()).filter(|s| !s.hidden).collect()
    }

    /// All entries, also those nobody knows yet.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        self.read().names.values().cloned().collect()
    }

    /// The uuid behind a name.
    pub fn uuid_of(&self, name: &str) -> Option<Uuid> {
        self.read().names.get(name).map(|e| e.uuid)
    }

    /// The entry for a definition, new if nobody has the name and the uuid. `born` is called with the lock held.
    pub fn claim(
        &self,
        name: &DomainName,
        uuid: Uuid,
        born: impl FnOnce() -> Arc<Entry>,
    ) -> Result<Arc<Entry>, Failure> {
        let mut maps = self.write();
        if let Some(there) = conflict(&maps, name, uuid)? {
            return Ok(there);
        }
        let entry = born();
        maps.names.insert(name.to_string(), entry.clone());
        maps.uuids.insert(uuid, entry.clone());
        Ok(entry)
    }

    /// Whether a definition would be new, an update, or is not possible.
    pub fn check(&self, name: &DomainName, uuid: Uuid) -> Result<Option<Arc<Entry>>, Failure> {
        conflict(&self.read(), name, uuid)
    }

    /// Makes a snapshot the visible one. Only the publisher does this.
    pub fn show(&self, entry: &Entry, snapshot: Arc<Snapshot>) {
        let id = |s: &Snapshot| s.run.as_ref().map(|r| i64::from(r.id));
        let (old, new) = (id(&entry.snapshot()), id(&snapshot));
        let mut maps = self.write();
        if let Some(old) = old
            && old != new.unwrap_or(0)
            && maps.ids.get(&old) == Some(&entry.uuid)
        {
            maps.ids.remove(&old);
        }
        if let Some(new) = new {
            maps.ids.insert(new, entry.uuid);
        }
        entry.set_snapshot(snapshot);
    }

    /// Forgets a domain.
    pub fn forget(&self, entry: &Entry) {
        let mut maps = self.write();
        maps.names.remove(entry.name.as_str());
        maps.uuids.remove(&entry.uuid);
        maps.ids.retain(|_, uuid| *uuid != entry.uuid);
    }
}

fn conflict(maps: &Maps, name: &DomainName, uuid: Uuid) -> Result<Option<Arc<Entry>>, Failure> {
    if let Some(there) = maps.names.get(name.as_str()) {
        if there.uuid == uuid {
            return Ok(Some(there.clone()));
        }
        let message = format!("domain '{name}' already exists with uuid {}", there.uuid);
        return Err(Failure::DomainExists(message));
    }
    match maps.uuids.get(&uuid) {
        Some(other) => {
            let message = format!("domain '{}' is already defined with uuid {uuid}", other.name);
            Err(Failure::DomainExists(message))
        }
        None => Ok(None),
    }
}
