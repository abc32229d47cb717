//! Starts, ends, and what a controller reports in between.
//!
//! Does not know how a start or an end is done; that is in `start` and `stop`.

use std::io;
use std::sync::Arc;

use berth_domain::Domain;
use berth_schemas::controller::{ConsoleStatus, ControllerEvent, ControllerEventKind, ControllerStatus};
use berth_schemas::domain::{EventKind, ExitKind, Reason};
use tokio::sync::oneshot;
use tracing::Instrument;

use super::pressure::Watches;
use super::{Active, Answer, Event, Reply, StartOptions, Starting, Task, answer};
use crate::container::active;
use crate::container::lifecycle::{Fact, Phase};
use crate::container::messages;
use crate::container::start::{self, Launched, Spec, StartError, Undone};
use crate::container::stop::{self, How, Outcome, Remains};
use crate::engine::Engine;
use crate::engine::disks::Noted;
use crate::engine::history::Past;
use crate::engine::publish::{Draft, now_usec};
use crate::engine::record::Record;
use crate::engine::registry::Entry;
use crate::engine::snapshot::{ConsoleInfo, Run};
use crate::failure::Failure;
use crate::host::apparmor::Label;
use crate::host::idmap::Range;
use crate::host::limits::devices::Numbers;
use crate::host::link::Events;
use crate::host::links::Link;
use crate::host::process::Process;
use crate::host::systemd::Machine;
use crate::journal::operation_span;

impl Task {
    pub(super) async fn begin_start(&mut self, domain: Arc<Domain>, options: StartOptions, reply: Reply) {
        let problems = domain.start_problems();
        if let Some(first) = problems.first() {
            let message = format!("cannot start domain '{}': {first}", self.entry.name);
            answer(reply, Err(Failure::Unsupported { message, diagnostics: problems }));
            return;
        }
        self.lifecycle = self.lifecycle.after(Fact::StartBegan);
        let (cancel, cancelled) = oneshot::channel();
        let autodestroy = options.autodestroy;
        let record = Record { autodestroy, document: Some(domain.to_xml()), ..self.blank_record() };
        let spec = Spec { domain: domain.clone(), descriptors: options.descriptors, record };
        self.starting =
            Some(Starting { domain, autodestroy, reply, cancel: Some(cancel), destroyers: Vec::new() });
        let (engine, mailbox) = (self.engine.clone(), self.entry.mailbox().clone());
        let starting = async move {
            let started = start::run(&engine, spec, cancelled).await.map(Box::new);
            // The mailbox is open as long as a start is under way.
            drop(mailbox.send(Event::Started(started)).await);
        };
        tokio::spawn(starting.instrument(operation_span("start")));
    }

    pub(super) async fn started(&mut self, launched: Launched) {
        let Some(starting) = self.starting.take() else { return };
        self.lifecycle = self.lifecycle.after(Fact::Started);
        self.reason = Reason::Booted;
        let Launched {
            process,
            process_record,
            status,
            events,
            ids,
            label,
            scope,
            links,
            io_numbers,
            disks,
            pressure,
        } = launched;
        let process = Arc::new(process);
        let given = Given { ids, label, scope, links, io_numbers, disks };
        let run = run_of(&status, process.pid(), starting.domain, given);
        self.active = Some(Active {
            run,
            process: Some(process.clone()),
            process_record,
            sequence: 0,
            replayed: 0,
            autodestroy: starting.autodestroy,
            shutdown_asked: false,
            destroyed: false,
            ended: None,
            pressure: Watches::default(),
            silence: None,
        });
        self.run += 1;
        self.watch_pressure(pressure);
        let told = self.show(vec![Draft::new(EventKind::Started, "booted")]);
        let shown = told.instrument(operation_span("start")).await;
        self.register();
        tokio::spawn(watch((self.engine.clone(), self.entry.clone()), self.run, process, events));
        self.destroyers = starting.destroyers;
        match shown {
            Ok(()) => answer(starting.reply, Ok(Answer::Status(self.entry.snapshot()))),
            Err(e) => self.refuse_started(starting.reply, &e),
        }
        if !self.destroyers.is_empty() {
            self.begin_stop(How::Ask);
        }
        self.unpark().await;
    }

    /// The record on disk is that of a start that is under way: the next daemon would end what runs. Its end is waited
    /// for, and then the start has failed.
    fn refuse_started(&mut self, reply: Reply, error: &io::Error) {
        let message = format!("cannot start domain '{}': cannot write its status: {error}", self.entry.name);
        operation_span("start").in_scope(|| tracing::error!("{message}"));
        let (ended, end) = oneshot::channel();
        self.destroyers.push(ended);
        tokio::spawn(async move {
            // However that ends.
            drop(end.await);
            answer(reply, Err(Failure::Failed(message)));
        });
    }

    pub(super) async fn start_failed(&mut self, undone: Undone) {
        let Some(starting) = self.starting.take() else { return };
        operation_span("start").in_scope(|| {
            for left in &undone.residue {
                tracing::warn!("domain '{}': {left}", self.entry.name);
            }
        });
        self.lifecycle = self.lifecycle.after(Fact::StartFailed);
        self.give_back_ids().await;
        self.publish(Vec::new()).await;
        let failure = match undone.error {
            StartError::Step(step) => {
                Failure::StartFailed(Box::new(messages::start_failed(self.entry.name.as_str(), &step)))
            }
            StartError::Cancelled => Failure::Failed(format!(
                "cannot start domain '{}': it was destroyed meanwhile",
                self.entry.name
            )),
        };
        answer(starting.reply, Err(failure));
        for reply in starting.destroyers {
            answer(reply, Ok(Answer::Done));
        }
        self.unpark().await;
    }

    pub(super) async fn reported(&mut self, event: ControllerEvent) {
        let Some(active) = self.active.as_mut() else { return };
        if event.sequence <= active.sequence {
            return;
        }
        active.sequence = event.sequence;
        match event.kind {
            ControllerEventKind::Restarted => {
                let exit = active::exit_of(&event);
                if event.sequence > active.replayed {
                    active.run.restarts += 1;
                    active.run.init_pid = event.init_pid;
                    active.run.started_usec = now_usec();
                    active.run.ready = active.run.ready.map(|_| false);
                }
                active.shutdown_asked = false;
                // It was made anew, and runs.
                if self.lifecycle.phase() == Phase::Paused {
                    self.lifecycle = self.lifecycle.after(Fact::Resumed);
                }
                let (drafts, reason) = active::restart_drafts(&exit);
                self.reason = reason;
                self.last_exit = Some(exit);
                self.publish(drafts).await;
                // It has another init.
                self.register();
            }
            ControllerEventKind::OomKilled => self.publish(vec![active::oom_draft(&event)]).await,
            ControllerEventKind::Ready => {
                if event.sequence > active.replayed {
                    active.run.ready = Some(true);
                }
                self.publish(vec![Draft::blank(EventKind::Ready)]).await;
            }
            ControllerEventKind::Ended => {
                active.ended = Some(active::ended_event(&event));
                operation_span("stop").in_scope(|| {
                    for left in &event.residue {
                        tracing::warn!("domain '{}': controller: {left}", self.entry.name);
                    }
                });
                self.begin_stop(How::Over);
            }
        }
    }

    /// Shows the container to the host's tools, where there are such. Nothing waits for that, and nothing depends on it.
    pub(super) fn register(&self) {
        let (Some(systemd), Some(active)) = (self.engine.systemd.clone(), self.active.as_ref()) else {
            return;
        };
        // One that is in no scope of its own would be shown as the daemon's unit, and stopped with it.
        let Some(init) = active.run.init_pid.filter(|_| active.run.scope.is_some()) else { return };
        let Ok(init) = u32::try_from(init) else { return };
        let interfaces = active.run.links.iter().map(|l| l.host.clone()).collect();
        let machine =
            Machine { domain: self.entry.name.to_string(), uuid: self.entry.uuid, init, interfaces };
        let registering = async move {
            match systemd.register(&machine).await {
                Ok(true) => {}
                Ok(false) => tracing::debug!("domain '{}' is not registered: no machined", machine.domain),
                Err(e) => tracing::warn!("cannot register domain '{}' with machined: {e}", machine.domain),
            }
        };
        tokio::spawn(registering.instrument(operation_span("register")));
    }

    pub(super) fn shutdown_asked(&mut self) {
        if let Some(active) = self.active.as_mut() {
            active.shutdown_asked = true;
        }
    }

    pub(super) fn destroy(&mut self, only: Option<i32>, reply: Reply) {
        if let Some(starting) = self.starting.as_mut() {
            if let Some(cancel) = starting.cancel.take() {
                // The start may be over already; then it is ended as soon as that is known here.
                let _ = cancel.send(());
            }
            starting.destroyers.push(reply);
            return;
        }
        if only.is_some_and(|id| self.active.as_ref().is_some_and(|a| a.run.id != id)) {
            answer(reply, Ok(Answer::Done));
            return;
        }
        if let Some(active) = self.active.as_mut() {
            active.destroyed = true;
        }
        self.destroyers.push(reply);
        self.begin_stop(How::Ask);
    }

    pub(super) fn begin_stop(&mut self, how: How) {
        if !matches!(self.lifecycle.phase(), Phase::Running | Phase::Switching | Phase::Paused) {
            return;
        }
        let Some(active) = &self.active else { return };
        self.lifecycle = self.lifecycle.after(Fact::StopBegan);
        let remains = Remains {
            name: self.entry.name.clone(),
            uuid: self.entry.uuid,
            groups: self.groups(),
            pid: active.run.id,
            label: active.run.label.clone(),
            links: active.run.links.iter().chain(self.plugging_link()).cloned().collect(),
            process: active.process.clone(),
        };
        let (engine, mailbox) = (self.engine.clone(), self.entry.mailbox().clone());
        let stopping = async move {
            let outcome = stop::run(&engine, remains, how).await;
            // The mailbox is open as long as an end is under way.
            drop(mailbox.send(Event::Stopped(outcome)).await);
        };
        tokio::spawn(stopping.instrument(operation_span("stop")));
    }

    pub(super) async fn stopped(&mut self, outcome: Outcome) {
        let Some(active) = self.active.take() else { return };
        // What is taken up afterwards has operations of its own.
        let residue = self.wind_up(active, outcome).instrument(operation_span("stop")).await;
        for reply in std::mem::take(&mut self.destroyers) {
            let done = match residue.first() {
                None => Ok(Answer::Done),
                Some(left) => {
                    Err(Failure::Failed(format!("something of domain '{}' is left: {left}", self.entry.name)))
                }
            };
            answer(reply, done);
        }
        self.unpark().await;
    }

    /// Tells how a run ended and forgets it; what is left of it.
    async fn wind_up(&mut self, active: Active, outcome: Outcome) -> Vec<String> {
        let mut drafts = Vec::new();
        for event in outcome.record.iter().flat_map(|r| &r.events) {
            match event.kind {
                _ if event.sequence <= active.sequence => {}
                ControllerEventKind::Restarted => {
                    drafts.extend(active::restart_drafts(&active::exit_of(event)).0);
                }
                ControllerEventKind::OomKilled => drafts.push(active::oom_draft(event)),
                ControllerEventKind::Ready => drafts.push(Draft::blank(EventKind::Ready)),
                ControllerEventKind::Ended => {}
            }
        }
        let recorded = outcome.record.as_ref().and_then(active::ended);
        let kind = if active.destroyed { ExitKind::Destroyed } else { ExitKind::ControllerLost };
        let ended = active.ended.or(recorded);
        let failure = ended.as_ref().and_then(|e| e.failure.clone());
        let exit = ended.map_or_else(|| active::unreported(kind, now_usec()), |e| e.exit);
        self.reason = active::reason(&exit, active.shutdown_asked, failure.is_some());
        if let Some(failure) = &failure {
            let text = messages::start_failed(self.entry.name.as_str(), failure);
            tracing::warn!("the restart failed: {}", text.message);
        }
        drafts.extend(active::stop_drafts(&exit, self.reason));
        self.lifecycle = self.lifecycle.after(Fact::Stopped);
        self.give_back_ids().await;
        if self.lifecycle.persistent() {
            let past = Past { exit: exit.clone(), reason: self.reason };
            self.engine.remember(self.entry.uuid, Some(past)).await;
        }
        self.last_exit = Some(exit);
        self.publish(drafts).await;
        self.abandon_plug();
        // Not before: who still sees the run may ask, and open what is not there any more.
        self.engine.meters.forget(self.entry.uuid);
        let mut residue = outcome.residue;
        residue.extend(stop::forget(&self.engine, self.entry.uuid).await);
        for left in &residue {
            tracing::warn!("domain '{}': {left}", self.entry.name);
        }
        residue
    }
}

pub(super) fn consoles_of(status: &ControllerStatus) -> Vec<ConsoleInfo> {
    let info = |c: &ConsoleStatus| ConsoleInfo { device: c.device.clone(), path: c.host_path.clone() };
    status.consoles.iter().map(info).collect()
}

/// What a run was given.
pub(super) struct Given {
    pub(super) ids: Option<Range>,
    pub(super) label: Option<Label>,
    pub(super) scope: Option<String>,
    pub(super) links: Vec<Link>,
    pub(super) io_numbers: Numbers,
    pub(super) disks: Noted,
}

pub(super) fn run_of(status: &ControllerStatus, id: i32, live: Arc<Domain>, given: Given) -> Run {
    Run {
        id,
        init_pid: status.init_pid,
        started_usec: status.started_u_sec,
        restarts: status.restarts,
        ready: status.ready,
        consoles: consoles_of(status),
        live,
        ids: given.ids,
        label: given.label,
        scope: given.scope,
        links: given.links,
        io_numbers: given.io_numbers,
        disks: given.disks,
    }
}

/// Passes on what a controller reports, and its end. What it reported before its end is passed on first.
pub(super) async fn watch(
    (engine, entry): (Arc<Engine>, Arc<Entry>),
    run: u64,
    process: Arc<Process>,
    mut events: Events,
) {
    let mailbox = entry.mailbox();
    while let Some(event) = events.next().await {
        drop(mailbox.send(Event::Controller(run, event)).await);
    }
    if let Some(between) = events.between() {
        engine.hold_between(entry.uuid, between);
    }
    // The connection ends with the controller. If only the connection broke, the controller is of no use any more.
    process.ended_within(std::time::Duration::from_secs(1)).await;
    drop(mailbox.send(Event::ControllerGone(run)).await);
}
