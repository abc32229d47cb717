//! The daemon's start: definitions and records are read, the living are adopted, the dead are buried, leftovers go.
//!
//! Recovery is the start path: a daemon that was killed and one that starts with the host do the same. Does not know
//! how a domain goes on from there; that is for its task.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use berth_domain::Domain;
use berth_schemas::domain::Reason;
use berth_schemas::name::DomainName;
use uuid::Uuid;

use crate::container::adoption::{self, Alive};
use crate::container::ending::{remove_groups, remove_profile};
use crate::container::links::{self, Owner};
use crate::container::task::{Birth, Found, Request, StartOptions, Task};
use crate::engine::disks;
use crate::engine::history::Past;
use crate::engine::publish::blocking;
use crate::engine::record::{self, Record, RecordPhase};
use crate::engine::registry::Reference;
use crate::engine::store::{Loaded, Stored};
use crate::engine::{Engine, count_vcpus, names_uuid};
use crate::files;
use crate::host::freezer;
use crate::host::limits::Limits;
use crate::host::limits::devices::{self, Numbers, device_number};
use crate::host::process::{self, Process};
use crate::paths::Layout;

/// What was found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Definitions.
    pub defined: usize,
    /// Files that were set aside.
    pub set_aside: usize,
    /// Containers that go on.
    pub adopted: usize,
    /// Containers that ended while no daemon ran.
    pub ended: usize,
}

type Definitions = HashMap<Uuid, (Arc<Domain>, bool)>;

impl Engine {
    /// Finds everything again.
    pub async fn recover(self: &Arc<Self>) -> io::Result<Report> {
        let mut report = Report::default();
        // Before the domains that have ports of them.
        self.networks.recover().await?;
        let layout = self.layout.clone();
        let (records, bad) = blocking(move || record::read_all(&layout)).await?;
        let ran = records.iter().map(|r| (r.name.clone(), r.uuid)).collect();
        let mut definitions = self.read_definitions(ran, &mut report).await?;
        for path in bad {
            tracing::warn!("removed the status record '{path}', which is not readable");
        }
        let mut pasts = self.read_history(&definitions).await?;
        let mut finding = Vec::new();
        for record in records {
            let next = definitions.remove(&record.uuid);
            let engine = self.clone();
            finding.push(tokio::spawn(async move { engine.find_again(record, next).await }));
        }
        let mut settling = Vec::new();
        for task in finding {
            let (birth, autodestroy) = match task.await {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(e) => return Err(io::Error::other(e)),
            };
            if let Some(request) = self.revive(birth, autodestroy, &mut report) {
                settling.push(request);
            }
        }
        for (uuid, (domain, autostart)) in definitions {
            let past = pasts.remove(&uuid);
            self.bear(Birth::Defined(domain, autostart, past));
        }
        self.settle(settling).await;
        self.sweep().await?;
        self.sweep_ids().await;
        let mut owners: HashSet<Uuid> =
            self.registry.all().into_iter().filter(|s| s.run.is_some()).map(|s| s.uuid).collect();
        owners.extend(self.recover_lent().await?);
        for network in self.networks.all().iter().filter(|n| n.active()) {
            self.reconnect_lent(network.name.as_str()).await;
        }
        self.networks.keep_ports(&owners).await;
        self.watch_lent();
        self.reconnect_guests();
        Ok(report)
    }

    async fn read_history(self: &Arc<Self>, known: &Definitions) -> io::Result<HashMap<Uuid, Past>> {
        let (engine, known): (_, HashSet<Uuid>) = (self.clone(), known.keys().copied().collect());
        blocking(move || {
            let mut all = engine.history.load()?;
            all.retain(|uuid, _| known.contains(uuid));
            engine.history.keep(&all)?;
            Ok(all)
        })
        .await
    }

    /// Reads all definitions. What somebody has put there by hand may lack what the next daemon must find again: its
    /// uuid, which is that of its run if there is one, and hardware addresses. It is written back with them.
    async fn read_definitions(
        &self,
        ran: HashMap<String, Uuid>,
        report: &mut Report,
    ) -> io::Result<Definitions> {
        let (store, host) = (self.store.clone(), self.host.clone());
        let read = move |text: &str| -> Result<(DomainName, (Domain, bool)), String> {
            let mut parsed = berth_domain::parse(text, &host).map_err(|e| e.to_string())?;
            let is_whole = parsed.is_whole() && names_uuid(text);
            if let Some(uuid) = ran.get(parsed.domain.name.as_str())
                && !names_uuid(text)
            {
                parsed.domain.uuid = *uuid;
            }
            count_vcpus(&mut parsed);
            Ok((parsed.domain.name.clone(), (parsed.domain, is_whole)))
        };
        let loaded: Loaded<Domain> = blocking(move || {
            let loaded = store.load(&read).map_err(io::Error::other)?;
            let keep = |stored: Stored<(Domain, bool)>| {
                let (domain, is_whole) = stored.domain;
                if !is_whole && let Err(e) = store.write(domain.name.as_str(), &domain.to_xml()) {
                    tracing::warn!("domain '{}' gets a new uuid at each start: {e}", domain.name);
                }
                Stored { domain, autostart: stored.autostart }
            };
            let domains = loaded.domains.into_iter().map(keep).collect();
            Ok(Loaded { domains, set_aside: loaded.set_aside })
        })
        .await?;
        for file in &loaded.set_aside {
            let (from, to, why) = (file.file.display(), file.now.display(), &file.why);
            tracing::warn!("'{from}' is not a definition and was set aside as '{to}': {why}");
        }
        report.set_aside = loaded.set_aside.len();
        let mut definitions = Definitions::new();
        for stored in loaded.domains {
            let (name, uuid) = (stored.domain.name.clone(), stored.domain.uuid);
            if let Some((other, _)) = definitions.get(&uuid) {
                tracing::warn!("'{name}' has the uuid of '{}', ignoring it", other.name);
                continue;
            }
            definitions.insert(uuid, (Arc::new(stored.domain), stored.autostart));
        }
        report.defined = definitions.len();
        Ok(definitions)
    }

    /// Finds out what became of one run. None if nothing of it is left to know.
    async fn find_again(
        self: Arc<Self>,
        mut record: Record,
        next: Option<(Arc<Domain>, bool)>,
    ) -> Option<(Birth, bool)> {
        let same_boot = record.boot_id == self.publisher.boot_id();
        let held = record.process.filter(|_| same_boot).and_then(|p| Process::adopt(p.pid, p.start).ok());
        if record.phase == RecordPhase::Starting {
            self.abandon_start(&record, held).await;
            return next.map(|(domain, auto)| (Birth::Defined(domain, auto, past(record)), false));
        }
        let Some(live) = self.live_document(&record, next.as_ref()) else {
            tracing::warn!("domain '{}' runs something that cannot be read any more", record.name);
            self.abandon_start(&record, held).await;
            return next.map(|(domain, auto)| (Birth::Defined(domain, auto, past(record)), false));
        };
        let autodestroy = record.autodestroy;
        let mut alive = match held {
            Some(process) => adoption::begin(&self, &record, process).await,
            None => None,
        };
        let (mut live, mut next) = (live, next);
        if let Some(alive) = &alive {
            let init = match alive {
                Alive::Answers(_, adopted) => adopted.status.init_pid,
                Alive::Silent(process, _) => init_of(&record, process),
            };
            self.hold_network_of(record.uuid, init).await;
            self.adopt_ids(&record, &live).await;
            let mut ends = std::mem::take(&mut record.links);
            let owner = Owner { name: &record.name, uuid: record.uuid, domain: Some(&live) };
            links::take_again(&self, owner, &live, &mut ends, None).await;
            record.links = ends;
            // What became of a change that was under way, one that is silent tells later.
            if let Alive::Answers(_, adopted) = alive {
                let before = live.clone();
                (live, next) = self.settle_pending(&mut record, adopted.devices.as_ref(), live, next).await;
                let counted = record.pending.take().map(|p| p.counted).unwrap_or_default();
                let (change, id) = ((Some(before), live.clone()), record.process.map_or(0, |p| p.pid));
                record.disks = disks::note(&record.disks, change, id, counted, None).await;
            }
            if record.tuning {
                // A container that was held still for the change is not suspended.
                if record.reason != Reason::User {
                    let groups = self.cgroups.of(&record.name, record.scope.as_deref().or(live.partition()));
                    let released = blocking(move || {
                        freezer::release(&groups.limited);
                        Ok(())
                    });
                    drop(released.await);
                }
                self.settle_tuning(&live, record.scope.clone(), record.io_numbers.clone()).await;
            }
            let (cgroups, all) = (self.cgroups.clone(), record.tuning);
            let groups = cgroups.of(&record.name, record.scope.as_deref().or(live.partition()));
            let said = blocking(move || {
                cgroups.mirror(&groups, all);
                Ok(())
            });
            drop(said.await);
        }
        let unpublished = match (&mut alive, record.process) {
            (Some(Alive::Answers(_, adopted)), _) => {
                adopted.events.up_to(record.sequence, adopted.status.sequence).await
            }
            (None, Some(process)) => {
                let (layout, uuid) = (self.layout.clone(), record.uuid);
                let left = blocking(move || Ok(record::read_exit(&layout, uuid, process.pid))).await;
                left.ok().flatten().map(|r| r.events).unwrap_or_default()
            }
            _ => Vec::new(),
        };
        let groups = self.cgroups.of(&record.name, record.scope.as_deref().or(live.partition()));
        let before = record.reason == Reason::User;
        let frozen = blocking(move || Ok(freezer::is_frozen(&groups, before))).await.unwrap_or_default();
        let paused = alive.is_some() && frozen;
        let found = Found { record, live, next, alive, paused, unpublished };
        Some((Birth::Found(Box::new(found)), autodestroy))
    }

    fn live_document(&self, record: &Record, next: Option<&(Arc<Domain>, bool)>) -> Option<Arc<Domain>> {
        let parsed = record.document.as_ref().and_then(|d| berth_domain::parse(d, &self.host).ok());
        let fitting = parsed.map(|p| p.domain).filter(|d| d.uuid == record.uuid);
        match (fitting, next) {
            (Some(live), Some((next, _))) if live == **next => Some(next.clone()),
            (Some(live), _) => Some(Arc::new(live)),
            (None, Some((next, _))) => Some(next.clone()),
            (None, None) => None,
        }
    }

    /// A change of limits was under way: they become what the document says, which was to change last.
    async fn settle_tuning(&self, live: &Arc<Domain>, scope: Option<String>, known: Numbers) {
        let (cgroups, live) = (self.cgroups.clone(), live.clone());
        let settled = blocking(move || {
            let groups = cgroups.of(live.name.as_str(), scope.as_deref().or(live.partition()));
            let numbers = devices::of_running(&live, &known, &device_number);
            let limits = Limits::of(&live, &numbers).map_err(io::Error::other)?;
            for error in cgroups.enforce(&groups, &limits) {
                tracing::warn!("domain '{}': {error}", live.name);
            }
            Ok(())
        });
        if let Err(e) = settled.await {
            tracing::warn!("cannot look after limits: {e}");
        }
    }

    /// Takes down a start that a daemon did not finish: as if it had never begun.
    async fn abandon_start(&self, record: &Record, process: Option<Process>) {
        if let Some(process) = process {
            drop(process.kill());
            process.ended_within(std::time::Duration::from_secs(5)).await;
        }
        let mut residue = remove_groups(self, &self.cgroups.of(&record.name, record.scope.as_deref())).await;
        let owner = Owner { name: &record.name, uuid: record.uuid, domain: None };
        residue.extend(links::release(self, owner, &record.links).await);
        self.give_back(record.uuid, &record.name, None).await;
        if residue.is_empty() {
            residue.extend(remove_profile(self, record.label.as_ref()).await);
        }
        for path in [self.layout.record(record.uuid), self.layout.exit_record(record.uuid)] {
            residue.extend(record::remove(&path).err().map(|e| format!("'{}': {e}", path.display())));
        }
        let socket = Layout::socket_name(record.uuid);
        residue.extend(self.sockets.remove(&socket).err().map(|e| format!("'{socket}': {e}")));
        for left in residue {
            tracing::warn!("domain '{}': {left}", record.name);
        }
    }

    /// Makes the task of something that was found, and says whether it must settle first.
    fn revive(
        self: &Arc<Self>,
        birth: Birth,
        autodestroy: bool,
        report: &mut Report,
    ) -> Option<(Reference, Request)> {
        let (mut wait, mut hurry) = (None, true);
        if let Birth::Found(found) = &birth {
            let reference = Reference::by_name(&found.record.name);
            if found.alive.is_none() {
                report.ended += 1;
                wait = Some((reference, Request::Settle));
            } else if !autodestroy {
                report.adopted += 1;
                wait = Some((reference, Request::Settle));
            } else {
                report.ended += 1;
                wait = Some((reference, Request::Destroy(None)));
            }
            // Nobody waits for one that stands still.
            if let (true, Some(Alive::Silent(..))) = (autodestroy, &found.alive) {
                hurry = false;
            }
        }
        // A name that is taken is no reason to leave all others alone.
        let wait = if self.bear(birth) { wait } else { None };
        if hurry {
            return wait;
        }
        let engine = self.clone();
        tokio::spawn(async move { engine.settle(wait.into_iter().collect()).await });
        None
    }

    /// Answers false, and says why, if its name or its uuid is another's.
    fn bear(self: &Arc<Self>, birth: Birth) -> bool {
        let (name, uuid) = match &birth {
            Birth::Fresh => return true,
            Birth::Defined(domain, ..) => (domain.name.clone(), domain.uuid),
            Birth::Found(found) => (found.live.name.clone(), found.live.uuid),
        };
        let shown = self.registry.claim(&name, uuid, || {
            let snapshot = Task::snapshot_of_birth(&name, uuid, &birth);
            let entry = Task::spawn(self, &name, uuid, birth);
            if let Some(snapshot) = snapshot {
                entry.set_snapshot(Arc::new(snapshot));
            }
            entry
        });
        match shown {
            Ok(entry) => {
                self.registry.show(&entry, entry.snapshot());
                true
            }
            Err(e) => {
                tracing::warn!("ignoring what was found of '{name}' with uuid {uuid}: {e}");
                false
            }
        }
    }

    /// Waits until what ended meanwhile is cleaned up and told, in no order.
    async fn settle(self: &Arc<Self>, waiting: Vec<(Reference, Request)>) {
        let mut tasks = Vec::new();
        for (reference, request) in waiting {
            let engine = self.clone();
            tasks.push(tokio::spawn(async move { engine.ask(&reference, request).await }));
        }
        for task in tasks {
            // A transient domain is gone afterwards, and that is an error to whoever asks; a failure was logged there.
            drop(task.await);
        }
    }

    /// Removes what belongs to nobody.
    async fn sweep(self: &Arc<Self>) -> io::Result<()> {
        let engine = self.clone();
        let running: HashMap<String, Uuid> = (engine.registry.all().iter())
            .filter(|s| s.run.is_some())
            .map(|s| (s.name.to_string(), s.uuid))
            .collect();
        let swept = blocking(move || {
            let runs = |uuid| running.values().any(|u| *u == uuid);
            engine.sweep_files(&runs)?;
            let swept = engine.cgroups.sweep(&|name| running.contains_key(name));
            match engine.profiles.sweep(runs) {
                Ok(uuids) => uuids
                    .iter()
                    .for_each(|u| tracing::warn!("removed the profile of '{u}', which does not run")),
                Err(e) => tracing::warn!("cannot look for profiles of containers that do not run: {e}"),
            }
            Ok(swept)
        })
        .await?;
        for name in swept {
            tracing::warn!("removed what was left of a container called '{name}'");
        }
        Ok(())
    }

    fn sweep_files(&self, owned: &dyn Fn(Uuid) -> bool) -> io::Result<()> {
        for (folder, extension) in [(self.layout.controllers(), "sock"), (self.layout.state(), "exit")] {
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                let uuid = path.file_stem().and_then(|s| s.to_str()).and_then(|s| Uuid::parse_str(s).ok());
                let ours = path.extension().is_some_and(|e| e == extension);
                if ours && !uuid.is_some_and(owned) {
                    record::remove(&path)?;
                }
            }
        }
        Ok(())
    }

    /// Starts what starts with the host, once in each boot. Answers how many were tried.
    pub async fn autostart(self: &Arc<Self>) -> io::Result<usize> {
        let marker = self.layout.run().join("autostarted");
        let boot = self.publisher.boot_id().to_owned();
        let first = blocking(move || {
            if files::read_text(&marker).is_ok_and(|text| text.trim() == boot) {
                return Ok(false);
            }
            files::overwrite(&marker, &format!("{boot}\n"))?;
            Ok(true)
        })
        .await?;
        if !first {
            return Ok(0);
        }
        self.networks.autostart().await;
        let wanted: Vec<_> =
            self.registry.all().into_iter().filter(|s| s.autostart && s.run.is_none()).collect();
        let count = wanted.len();
        let limit = Arc::new(tokio::sync::Semaphore::new(self.config().autostart_parallel));
        for snapshot in wanted {
            let (engine, limit) = (self.clone(), limit.clone());
            tokio::spawn(async move {
                let _permit = limit.acquire_owned().await;
                let reference = Reference::by_name(snapshot.name.as_str());
                if let Err(e) = engine.start(&reference, StartOptions::default()).await {
                    tracing::error!("autostart: {e}");
                }
            });
        }
        Ok(count)
    }
}

/// Init by the record, if that is so still: the number may be somebody else's.
fn init_of(record: &Record, controller: &Process) -> Option<i64> {
    let is_init = |pid: i32| process::parent(pid).is_ok_and(|parent| parent == controller.pid());
    record.init_pid.filter(|pid| i32::try_from(*pid).is_ok_and(is_init))
}

fn past(record: Record) -> Option<Past> {
    let reason = record.reason;
    record.last_exit.map(|exit| Past { exit, reason })
}
