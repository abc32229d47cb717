//! Which ids the domains have, put together from their documents and from what was chosen.
//!
//! Does not know how ranges are kept; that is in `host::idmap`.

use std::collections::HashSet;

use berth_domain::Domain;
use uuid::Uuid;

use super::Engine;
use crate::container::plan::{WantedIds, asked_ids, wanted_ids};
use crate::engine::publish::blocking;
use crate::engine::record::Record;
use crate::host::idmap::{IdError, Range};

impl Engine {
    /// Takes the ids for a domain that starts; the range if one is chosen for it.
    pub async fn ids_for(&self, domain: &Domain) -> Result<Option<Range>, String> {
        let (ids, uuid) = (self.ids.clone(), domain.uuid);
        let mine: Vec<Range> = asked_ids(domain).collect();
        let wanted = wanted_ids(domain, self.config().idmap.default);
        let asked = if wanted == WantedIds::Chosen { self.asked_by_others(uuid) } else { Vec::new() };
        let taken = blocking(move || {
            Ok(match wanted {
                WantedIds::Host => Ok(None),
                WantedIds::Explicit => ids.claim(uuid, &mine).map(|()| None),
                WantedIds::Chosen => ids.take(uuid, &asked).map(Some),
            })
        })
        .await;
        taken.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }

    /// What the documents of all other domains ask for.
    fn asked_by_others(&self, uuid: Uuid) -> Vec<Range> {
        let others = self.registry.all().into_iter().filter(|s| s.uuid != uuid);
        let documents = others.flat_map(|s| [s.run.as_ref().map(|r| r.live.clone()), s.next.clone()]);
        documents.flatten().flat_map(|d| asked_ids(&d).collect::<Vec<_>>()).collect()
    }

    /// A domain does not run any more; `gone`: and is not known any more.
    pub async fn give_back_ids(&self, uuid: Uuid, gone: bool) {
        if !gone {
            return self.ids.release(uuid);
        }
        let ids = self.ids.clone();
        report(blocking(move || Ok(ids.forget(uuid))).await);
    }

    /// A domain was found running.
    pub(super) async fn adopt_ids(&self, record: &Record, live: &Domain) {
        let (ids, uuid, chosen) = (self.ids.clone(), record.uuid, record.ids);
        let explicit: Vec<Range> = asked_ids(live).collect();
        let adopted = blocking(move || {
            Ok(match chosen {
                Some(range) => ids.adopt(uuid, range.first),
                None => ids.claim(uuid, &explicit),
            })
        });
        report(adopted.await);
    }

    /// Forgets the ids of domains that are no more.
    pub(super) async fn sweep_ids(&self) {
        let known: HashSet<Uuid> = self.registry.entries().iter().map(|e| e.uuid).collect();
        let ids = self.ids.clone();
        report(blocking(move || Ok(ids.keep(|uuid| known.contains(&uuid)))).await);
    }
}

/// What cannot be written now is in the records of what runs, and chosen anew for what does not.
fn report(done: std::io::Result<Result<(), IdError>>) {
    match done {
        Ok(Ok(())) => {}
        Ok(Err(e)) => tracing::warn!("{e}"),
        Err(e) => tracing::warn!("cannot note ids: {e}"),
    }
}
