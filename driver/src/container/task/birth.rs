//! How a task comes into the world: new, with a definition, or with a run that was found again.
//!
//! Does not know where definitions and runs were found.

use std::collections::VecDeque;
use std::sync::Arc;

use berth_schemas::domain::{Reason, State};
use berth_schemas::name::DomainName;
use tokio::sync::mpsc;
use tracing::Instrument;
use uuid::Uuid;

use super::pressure::Watches;
use super::runs::{Given, run_of, watch};
use super::silence::{Silence, listen};
use super::{Active, Birth, Event, Found, Task};
use crate::container::adoption::Alive;
use crate::container::lifecycle::{Fact, Lifecycle};
use crate::engine::Engine;
use crate::engine::history::Past;
use crate::engine::record::ProcessRecord;
use crate::engine::registry::Entry;
use crate::engine::snapshot::{Run, Snapshot};
use crate::journal::domain_span;
use berth_domain::Domain;

impl Task {
    /// Makes a task and lets it run. What it begins with is visible when this comes back.
    pub fn spawn(engine: &Arc<Engine>, name: &DomainName, uuid: Uuid, birth: Birth) -> Arc<Entry> {
        let (sender, mailbox) = mpsc::channel(64);
        let entry = Entry::new(name.clone(), uuid, sender);
        let mut task = Self {
            before: Vec::new(),
            engine: engine.clone(),
            entry: entry.clone(),
            mailbox,
            lifecycle: Lifecycle::ABSENT,
            next: None,
            active: None,
            starting: None,
            plugging: None,
            destroyers: Vec::new(),
            parked: VecDeque::new(),
            reason: Reason::Unknown,
            last_exit: None,
            run: 0,
            unwritten: false,
            gone: false,
        };
        task.be_born(birth);
        tokio::spawn(task.run().instrument(domain_span(name, uuid)));
        entry
    }

    pub(super) fn be_born(&mut self, birth: Birth) {
        match birth {
            Birth::Fresh => {}
            Birth::Defined(domain, autostart, past) => {
                self.adopt_definition(domain, autostart);
                if let Some(Past { exit, reason }) = past {
                    self.last_exit = Some(exit);
                    self.reason = reason;
                }
            }
            Birth::Found(found) => {
                if let Some((domain, autostart)) = found.next.clone() {
                    self.adopt_definition(domain, autostart);
                }
                self.lifecycle = self.lifecycle.after(Fact::StartBegan).after(Fact::Started);
                self.resume(*found);
            }
        }
    }

    pub(super) fn adopt_definition(&mut self, domain: Arc<Domain>, autostart: bool) {
        self.next = Some(domain);
        self.lifecycle = self.lifecycle.after(Fact::Defined).after(Fact::Autostart(autostart));
    }

    /// What a domain looks like at first; the publisher shows it ever after.
    pub fn snapshot_of_birth(name: &DomainName, uuid: Uuid, birth: &Birth) -> Option<Snapshot> {
        let mut snapshot = Snapshot::hidden(name.clone(), uuid);
        snapshot.hidden = false;
        match birth {
            Birth::Fresh => return None,
            Birth::Defined(domain, autostart, past) => {
                snapshot.next = Some(domain.clone());
                snapshot.autostart = *autostart;
                if let Some(Past { exit, reason }) = past {
                    snapshot.last_exit = Some(exit.clone());
                    snapshot.reason = *reason;
                }
            }
            Birth::Found(found) => {
                snapshot.next = found.next.as_ref().map(|(domain, _)| domain.clone());
                snapshot.autostart = found.next.as_ref().is_some_and(|(_, autostart)| *autostart);
                snapshot.last_exit = found.record.last_exit.clone();
                snapshot.state = State::Running;
                snapshot.reason = found.record.reason;
                if found.record.reason == Reason::User {
                    snapshot.state = State::Paused;
                }
                snapshot.run = Some(found_run(found));
            }
        }
        Some(snapshot)
    }

    /// Takes up a run that was found again: what it reported and nobody published comes first, as if it came now.
    pub(super) fn resume(&mut self, found: Found) {
        let run = found_run(&found);
        let process_record = found.record.process.unwrap_or(ProcessRecord { pid: 0, start: 0 });
        let (process, adopted, asking) = match found.alive {
            Some(Alive::Answers(process, adopted)) => (Some(Arc::new(process)), Some(*adopted), None),
            Some(Alive::Silent(process, asking)) => (Some(Arc::new(process)), None, Some(asking)),
            None => (None, None, None),
        };
        let silence = asking.is_some().then(|| Silence::of(found.record.pending, self.next.clone()));
        self.reason = found.record.reason;
        self.last_exit = found.record.last_exit;
        self.run += 1;
        self.active = Some(Active {
            run,
            process: process.clone(),
            process_record,
            sequence: found.record.sequence,
            replayed: adopted.as_ref().map_or(0, |a| a.status.sequence),
            autodestroy: found.record.autodestroy,
            shutdown_asked: false,
            destroyed: false,
            ended: None,
            pressure: Watches::default(),
            silence,
        });
        if self.reason == Reason::User {
            self.lifecycle = self.lifecycle.after(Fact::Paused);
        }
        self.before = found.unpublished.into_iter().map(|e| Event::Controller(self.run, e)).collect();
        if process.is_some() {
            // What was restarted meanwhile runs, whatever the record says: this comes behind it.
            self.before.push(Event::FoundChanged(found.paused));
            self.before.push(Event::Rearm);
        }
        let whose = (self.engine.clone(), self.entry.clone());
        match (process, adopted, asking) {
            (Some(process), Some(adopted), _) => {
                tokio::spawn(watch(whose, self.run, process, adopted.events));
                // It may have been restarted, or machined, while nobody looked.
                self.register();
            }
            (Some(process), None, Some(asking)) => {
                tokio::spawn(listen(self.entry.clone(), self.run, process, asking));
            }
            _ => self.before.push(Event::ControllerGone(self.run)),
        }
    }
}

fn found_run(found: &Found) -> Run {
    let record = &found.record;
    let id = record.process.map_or(0, |p| p.pid);
    match &found.alive {
        Some(Alive::Answers(_, adopted)) => {
            let (ids, label, links) = (record.ids, record.label.clone(), record.links.clone());
            let (scope, io_numbers) = (record.scope.clone(), record.io_numbers.clone());
            let given = Given { ids, label, scope, links, io_numbers, disks: record.disks.clone() };
            run_of(&adopted.status, id, found.live.clone(), given)
        }
        // All that is known until it answers, if it lives.
        Some(Alive::Silent(..)) | None => Run {
            id,
            init_pid: record.init_pid,
            started_usec: record.started_usec,
            restarts: record.restarts,
            ready: record.ready.filter(|_| found.alive.is_some()),
            consoles: record.consoles.clone(),
            live: found.live.clone(),
            ids: record.ids,
            label: record.label.clone(),
            scope: record.scope.clone(),
            links: record.links.clone(),
            io_numbers: record.io_numbers.clone(),
            disks: record.disks.clone(),
        },
    }
}
