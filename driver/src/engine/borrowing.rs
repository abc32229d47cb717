//! Interfaces of the host that domains have: what they were is written down before, and what they lost is given back to
//! them however a domain ends.
//!
//! The network namespace of a domain that has one is held open: of a controller that is killed, the kernel would remove a
//! virtual interface with it, and give a real one to the first network namespace. Does not know how an interface is moved; that
//! is the controller's.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use crate::container::links::Owner;
use crate::engine::Engine;
use crate::engine::publish::blocking;
use crate::engine::record;
use crate::files;
use crate::host::borrowed::{Borrowed, Held, is_own};
use crate::host::links::LentName;
use crate::host::namespaces;

/// What domains have.
#[derive(Debug, Default)]
pub struct Borrowing {
    /// Whose turn it is to change what is written down.
    turn: tokio::sync::Mutex<()>,
    /// Network namespaces that have to stay.
    held: Mutex<BTreeMap<Uuid, Held>>,
}

impl Borrowing {
    fn held(&self) -> std::sync::MutexGuard<'_, BTreeMap<Uuid, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &Path) -> Vec<Borrowed> {
    let read = files::read_text(path).and_then(|text| Ok(serde_json::from_str(&text)?));
    read.unwrap_or_else(|e: io::Error| {
        if e.kind() != io::ErrorKind::NotFound {
            tracing::warn!("what is known of lent interfaces is lost: cannot read '{}': {e}", path.display());
        }
        Vec::new()
    })
}

fn write(path: &Path, all: &[Borrowed]) -> io::Result<()> {
    if all.is_empty() {
        return record::remove(path);
    }
    files::replace(path, &serde_json::to_string(all)?)
}

impl Engine {
    fn borrowed_file(&self, domain: Uuid) -> PathBuf {
        self.layout.borrowed().join(format!("{domain}.json"))
    }

    /// Remembers interfaces that a domain is about to get. One that is not there is for others to complain about.
    pub async fn borrow(&self, domain: Uuid, lent: Vec<LentName>) -> io::Result<()> {
        if lent.is_empty() || !self.links.want_namespace() {
            return Ok(());
        }
        let _turn = self.borrowing.turn.lock().await;
        let path = self.borrowed_file(domain);
        blocking(move || {
            let mut all = read(&path);
            for LentName { host, inside } in lent {
                if let Some(mut one) = Borrowed::remember(&host)? {
                    if let Some(line) = Borrowed::missed(&host) {
                        tracing::warn!("{line}");
                    }
                    one.inside = Some(inside).filter(|inside| *inside != host);
                    all.retain(|other| other.name != host);
                    all.push(one);
                }
            }
            write(&path, &all)
        })
        .await
    }

    /// Remembers under which name a domain has an interface from now on.
    pub async fn note_renamed(&self, owner: Owner<'_>, lent: LentName) {
        let _turn = self.borrowing.turn.lock().await;
        let (path, host) = (self.borrowed_file(owner.uuid), lent.host.clone());
        let noted = blocking(move || {
            let mut all = read(&path);
            let Some(one) = all.iter_mut().find(|one| one.name == lent.host) else { return Ok(()) };
            one.inside = Some(lent.inside).filter(|inside| *inside != lent.host);
            write(&path, &all)
        });
        if let Err(e) = noted.await {
            tracing::warn!("domain '{}': what is known of '{host}' is not up to date: {e}", owner.name);
        }
    }

    /// Keeps a domain's network namespace from going with its last process.
    pub fn hold_network(&self, domain: Uuid, network: OwnedFd) {
        if !is_own(&network) {
            self.borrowing.held().entry(domain).or_default().own = Some(Arc::new(network));
        }
    }

    /// Keeps the network namespace by way of which a controller was giving interfaces back.
    pub fn hold_between(&self, domain: Uuid, network: OwnedFd) {
        self.borrowing.held().entry(domain).or_default().between = Some(Arc::new(network));
    }

    /// The same as [`Engine::hold_network`] for one that runs, if it has an interface of the host.
    pub async fn hold_network_of(&self, domain: Uuid, init: Option<i64>) {
        let path = self.borrowed_file(domain);
        let Some(init) = init.and_then(|pid| i32::try_from(pid).ok()) else { return };
        let opened = blocking(move || {
            if !path.exists() {
                return Ok(None);
            }
            namespaces::of_process(init, "net").map(Some)
        });
        match opened.await {
            Ok(Some(network)) => self.hold_network(domain, network),
            Ok(None) => {}
            Err(e) => tracing::warn!("cannot hold the network of process {init}: {e}"),
        }
    }

    /// Gives interfaces back what they had, all or the one of a name; what cannot be done is a line of the log.
    pub async fn give_back(&self, domain: Uuid, name: &str, only: Option<&str>) {
        let _turn = self.borrowing.turn.lock().await;
        let path = self.borrowed_file(domain);
        let at = path.clone();
        let (all, kept): (Vec<Borrowed>, Vec<Borrowed>) = blocking(move || Ok(read(&at)))
            .await
            .unwrap_or_default()
            .into_iter()
            .partition(|one| only.is_none_or(|only| one.name == only));
        let held = match kept.is_empty() {
            true => self.borrowing.held().remove(&domain),
            false => self.borrowing.held().get(&domain).cloned(),
        };
        if all.is_empty() {
            return;
        }
        let held = held.unwrap_or_default();
        for one in all {
            for line in one.give_back(held.clone()).await {
                tracing::warn!("domain '{name}': {line}");
            }
        }
        if let Err(e) = blocking(move || write(&path, &kept)).await {
            tracing::warn!("domain '{name}': what is known of lent interfaces is not up to date: {e}");
        }
    }
}
