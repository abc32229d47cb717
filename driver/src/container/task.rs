//! The task that owns one domain: it takes one event after the other and never waits for a controller.
//!
//! Does not know clients, and does no I/O but through `start`, `stop`, the store and the publisher.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use berth_domain::Domain;
use berth_schemas::controller::{ControllerEvent, ControllerEventKind, ControllerStatus};
use berth_schemas::domain::{EventKind, Exit, ExitKind, Reason, State};
use berth_schemas::name::DomainName;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::container::active::{self, Ended};
use crate::container::lifecycle::{Ask, Denial, Fact, Lifecycle, Phase, Verdict};
use crate::container::messages;
use crate::container::start::{self, Launched, Spec, StartError, Undone};
use crate::container::stop::{self, How, Outcome, Remains};
use crate::engine::Engine;
use crate::engine::history::Past;
use crate::engine::metadata::MetadataChange;
use crate::engine::publish::{Draft, now_usec};
use crate::engine::record::{ProcessRecord, Record, RecordPhase};
use crate::engine::registry::Entry;
use crate::engine::snapshot::{ConsoleInfo, Run, Snapshot};
use crate::failure::Failure;
use crate::host::link::Events;
use crate::host::process::Process;

/// Where an answer goes.
pub type Reply = oneshot::Sender<Response>;

/// What comes back for a request.
#[derive(Debug)]
pub enum Response {
    /// The answer.
    Done(Result<Answer, Failure>),
    /// The domain was removed before the request had its turn: here it is back.
    Vanished(Request),
}

/// Everything that can happen to a domain.
#[derive(Debug)]
pub enum Event {
    /// Somebody wants something.
    Request(Request, Reply),
    /// A start is over.
    Started(Result<Box<Launched>, Undone>),
    /// A controller reports; the number is that of the run.
    Controller(u64, ControllerEvent),
    /// A controller is gone.
    ControllerGone(u64),
    /// An end is over.
    Stopped(Outcome),
}

/// What can be asked.
#[derive(Debug)]
pub enum Request {
    /// Keep a definition.
    Define(Box<Domain>),
    /// Forget it.
    Undefine,
    /// Start a document.
    Create(Box<Domain>, StartOptions),
    /// Start the definition.
    Start(StartOptions),
    /// Init was asked to power off.
    NoteShutdown,
    /// End it; only the run with that id, if one is given.
    Destroy(Option<i32>),
    /// Start it with the host.
    SetAutostart(bool),
    /// Change title, description or metadata.
    SetMetadata(Box<MetadataChange>),
    /// Answer when nothing is under way.
    Settle,
}

/// What belongs to a start.
#[derive(Debug, Default)]
pub struct StartOptions {
    /// What init gets as 3, 4, and so on.
    pub descriptors: Vec<OwnedFd>,
    /// It ends with a client.
    pub autodestroy: bool,
}

/// A good answer.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Nothing to say.
    Done,
    /// The domain as it is now.
    Status(Arc<Snapshot>),
    /// The domain, and whether there was a definition before.
    Defined(Arc<Snapshot>, bool),
}

/// What a task begins with.
#[derive(Debug)]
pub enum Birth {
    /// Nothing.
    Fresh,
    /// A definition, whether it starts with the host, and how it ended last time.
    Defined(Arc<Domain>, bool, Option<Past>),
    /// A run that was found again.
    Found(Box<Found>),
}

/// A run that was found again.
#[derive(Debug)]
pub struct Found {
    /// What was written about it.
    pub record: Record,
    /// What runs.
    pub live: Arc<Domain>,
    /// The definition that is kept, and whether it starts with the host.
    pub next: Option<(Arc<Domain>, bool)>,
    /// The controller, unless it is dead.
    pub alive: Option<(Process, ControllerStatus, Events)>,
    /// What a dead one reported before its end and nobody published.
    pub unpublished: Vec<ControllerEvent>,
}

#[derive(Debug)]
struct Active {
    run: Run,
    process: Option<Arc<Process>>,
    process_record: ProcessRecord,
    /// Last controller event that was published.
    sequence: i64,
    /// Events up to this one are in `run` already.
    replayed: i64,
    autodestroy: bool,
    shutdown_asked: bool,
    destroyed: bool,
    ended: Option<Ended>,
}

#[derive(Debug)]
struct Starting {
    domain: Arc<Domain>,
    autodestroy: bool,
    reply: Reply,
    cancel: Option<oneshot::Sender<()>>,
    destroyers: Vec<Reply>,
}

/// The task.
#[derive(Debug)]
pub struct Task {
    /// What happened before anybody could ask.
    before: Vec<Event>,
    engine: Arc<Engine>,
    entry: Arc<Entry>,
    mailbox: mpsc::Receiver<Event>,
    lifecycle: Lifecycle,
    next: Option<Arc<Domain>>,
    active: Option<Active>,
    starting: Option<Starting>,
    destroyers: Vec<Reply>,
    parked: VecDeque<(Request, Reply)>,
    reason: Reason,
    last_exit: Option<Exit>,
    /// Counts the runs, so that a late report of one is not taken for the next one's.
    run: u64,
    gone: bool,
}

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
            destroyers: Vec::new(),
            parked: VecDeque::new(),
            reason: Reason::Unknown,
            last_exit: None,
            run: 0,
            gone: false,
        };
        task.be_born(birth);
        tokio::spawn(task.run());
        entry
    }

    fn be_born(&mut self, birth: Birth) {
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

    fn adopt_definition(&mut self, domain: Arc<Domain>, autostart: bool) {
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
                snapshot.run = Some(found_run(found));
            }
        }
        Some(snapshot)
    }

    async fn run(mut self) {
        for event in std::mem::take(&mut self.before) {
            self.handle(event).await;
        }
        while !self.gone {
            let Some(event) = self.mailbox.recv().await else { return };
            self.handle(event).await;
        }
        self.mailbox.close();
        while let Some(event) = self.mailbox.recv().await {
            if let Event::Request(request, reply) = event {
                self.request(request, reply).await;
            }
        }
    }

    async fn handle(&mut self, event: Event) {
        match event {
            Event::Request(request, reply) => self.request(request, reply).await,
            Event::Started(Ok(launched)) => self.started(*launched).await,
            Event::Started(Err(undone)) => self.start_failed(undone).await,
            Event::Controller(run, event) if run == self.run => self.reported(event).await,
            Event::ControllerGone(run) if run == self.run => self.begin_stop(How::Over),
            Event::Controller(..) | Event::ControllerGone(_) => {}
            Event::Stopped(outcome) => self.stopped(outcome).await,
        }
    }

    async fn request(&mut self, request: Request, reply: Reply) {
        if self.gone {
            let _ = reply.send(Response::Vanished(request));
            return;
        }
        match self.lifecycle.decide(self.ask_of(&request)) {
            Verdict::Accept => self.fulfil(request, reply).await,
            Verdict::Wait => self.parked.push_back((request, reply)),
            Verdict::Already if matches!(request, Request::Destroy(_)) => self.destroyers.push(reply),
            Verdict::Already => answer(reply, Ok(Answer::Done)),
            Verdict::Deny(denial) => answer(reply, Err(self.denial(denial))),
        }
    }

    fn ask_of(&self, request: &Request) -> Ask {
        match request {
            Request::Define(_) => Ask::Define,
            Request::Undefine => Ask::Undefine,
            Request::Create(..) => Ask::Create,
            Request::Start(_) => Ask::Start,
            Request::NoteShutdown => Ask::Shutdown,
            Request::Destroy(_) => Ask::Destroy,
            Request::SetAutostart(on) => Ask::SetAutostart(*on),
            Request::SetMetadata(change) if change.wants_live(self.active.is_some()) => Ask::EditLive,
            Request::SetMetadata(_) => Ask::EditNext,
            Request::Settle => Ask::Settle,
        }
    }

    fn denial(&self, denial: Denial) -> Failure {
        let message = match denial {
            Denial::Absent => return Failure::NoSuchDomain(self.entry.name.to_string()),
            Denial::NotRunning => "domain is not running",
            Denial::Active => "Domain is already active",
            Denial::UndefineTransient => "cannot undefine transient domain",
            Denial::AutostartTransient => "cannot set autostart for transient domain",
            Denial::EditTransient => "cannot change persistent config of a transient domain",
        };
        Failure::InvalidState { message: message.into(), state: self.state() }
    }

    async fn fulfil(&mut self, request: Request, reply: Reply) {
        match request {
            Request::Define(domain) => {
                let done = self.define(*domain).await;
                answer(reply, done);
            }
            Request::Undefine => {
                let done = self.undefine().await;
                answer(reply, done);
            }
            Request::Create(domain, options) => self.begin_start(Arc::new(*domain), options, reply).await,
            Request::Start(options) => match self.next.clone() {
                Some(domain) => self.begin_start(domain, options, reply).await,
                None => answer(reply, Err(self.denial(Denial::Absent))),
            },
            Request::NoteShutdown => {
                self.shutdown_asked();
                answer(reply, Ok(Answer::Done));
            }
            Request::Destroy(run) => self.destroy(run, reply),
            Request::SetAutostart(on) => {
                let done = self.set_autostart(on).await;
                answer(reply, done);
            }
            Request::SetMetadata(change) => {
                let done = self.set_metadata(&change).await;
                answer(reply, done);
            }
            Request::Settle => answer(reply, Ok(Answer::Done)),
        }
        self.vanish_if_absent();
    }

    async fn define(&mut self, domain: Domain) -> Result<Answer, Failure> {
        self.engine.keep(&domain).await?;
        let updated = self.lifecycle.persistent();
        self.next = Some(Arc::new(domain));
        self.lifecycle = self.lifecycle.after(Fact::Defined);
        let detail = if updated { "updated" } else { "added" };
        self.publish(vec![Draft::new(EventKind::Defined, detail)]).await;
        Ok(Answer::Defined(self.entry.snapshot(), updated))
    }

    async fn undefine(&mut self) -> Result<Answer, Failure> {
        self.engine.unkeep(&self.entry.name).await?;
        self.next = None;
        self.lifecycle = self.lifecycle.after(Fact::Undefined);
        if self.lifecycle.phase() == Phase::Absent {
            self.engine.remember(self.entry.uuid, None).await;
        }
        self.publish(vec![Draft::new(EventKind::Undefined, "removed")]).await;
        Ok(Answer::Done)
    }

    async fn set_autostart(&mut self, on: bool) -> Result<Answer, Failure> {
        self.engine.keep_autostart(&self.entry.name, on).await?;
        self.lifecycle = self.lifecycle.after(Fact::Autostart(on));
        self.publish(Vec::new()).await;
        Ok(Answer::Done)
    }

    async fn set_metadata(&mut self, change: &MetadataChange) -> Result<Answer, Failure> {
        let (live, next) = change.targets(self.active.is_some());
        if next && !self.lifecycle.persistent() {
            return Err(self.denial(Denial::EditTransient));
        }
        // Everything that can fail comes first, so that nothing is half done.
        let new_live = match &self.active {
            Some(active) if live => Some(change.apply(&active.run.live)?),
            _ => None,
        };
        let new_next = match &self.next {
            Some(domain) if next => Some(change.apply(domain)?),
            _ => None,
        };
        if let Some(domain) = &new_next {
            self.engine.keep(domain).await?;
        }
        if let (Some(domain), Some(active)) = (new_live, self.active.as_mut()) {
            active.run.live = Arc::new(domain);
        }
        if let Some(domain) = new_next {
            self.next = Some(Arc::new(domain));
        }
        let draft = Draft { kind: EventKind::Metadata, detail: change.uri.clone(), exit: None };
        self.publish(vec![draft]).await;
        Ok(Answer::Done)
    }

    async fn begin_start(&mut self, domain: Arc<Domain>, options: StartOptions, reply: Reply) {
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
        tokio::spawn(async move {
            let started = start::run(&engine, spec, cancelled).await.map(Box::new);
            // The mailbox is open as long as a start is under way.
            drop(mailbox.send(Event::Started(started)).await);
        });
    }

    async fn started(&mut self, launched: Launched) {
        let Some(starting) = self.starting.take() else { return };
        self.lifecycle = self.lifecycle.after(Fact::Started);
        self.reason = Reason::Booted;
        let Launched { process, process_record, status, events } = launched;
        let process = Arc::new(process);
        let run = run_of(&status, process.pid(), starting.domain);
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
        });
        self.run += 1;
        self.publish(vec![Draft::new(EventKind::Started, "booted")]).await;
        tokio::spawn(watch(self.entry.mailbox().clone(), self.run, process, events));
        answer(starting.reply, Ok(Answer::Status(self.entry.snapshot())));
        if !starting.destroyers.is_empty() {
            self.destroyers = starting.destroyers;
            self.begin_stop(How::Ask);
        }
        self.unpark().await;
    }

    async fn start_failed(&mut self, undone: Undone) {
        let Some(starting) = self.starting.take() else { return };
        for left in &undone.residue {
            tracing::warn!("domain '{}': {left}", self.entry.name);
        }
        self.lifecycle = self.lifecycle.after(Fact::StartFailed);
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

    /// Takes up a run that was found again: what it reported and nobody published comes first, as if it came now.
    fn resume(&mut self, found: Found) {
        let run = found_run(&found);
        let process_record = found.record.process.unwrap_or(ProcessRecord { pid: 0, start: 0 });
        let (process, status, events) = match found.alive {
            Some((process, status, events)) => (Some(Arc::new(process)), Some(status), Some(events)),
            None => (None, None, None),
        };
        self.reason = found.record.reason;
        self.last_exit = found.record.last_exit;
        self.run += 1;
        self.active = Some(Active {
            run,
            process: process.clone(),
            process_record,
            sequence: found.record.sequence,
            replayed: status.map_or(0, |s| s.sequence),
            autodestroy: found.record.autodestroy,
            shutdown_asked: false,
            destroyed: false,
            ended: None,
        });
        self.before = found.unpublished.into_iter().map(|e| Event::Controller(self.run, e)).collect();
        match (process, events) {
            (Some(process), Some(events)) => {
                tokio::spawn(watch(self.entry.mailbox().clone(), self.run, process, events));
            }
            _ => self.before.push(Event::ControllerGone(self.run)),
        }
    }

    async fn reported(&mut self, event: ControllerEvent) {
        let Some(active) = self.active.as_mut() else { return };
        if event.sequence <= active.sequence {
            return;
        }
        active.sequence = event.sequence;
        match event.kind {
            ControllerEventKind::Restarted => {
                let exit = active::exit(&event.exit);
                if event.sequence > active.replayed {
                    active.run.restarts += 1;
                    active.run.init_pid = event.init_pid;
                    active.run.started_usec = now_usec();
                }
                active.shutdown_asked = false;
                let (drafts, reason) = active::restart_drafts(&exit);
                self.reason = reason;
                self.last_exit = Some(exit);
                self.publish(drafts).await;
            }
            ControllerEventKind::Ended => {
                active.ended = Some(active::ended_event(&event));
                for left in &event.residue {
                    tracing::warn!("domain '{}': controller: {left}", self.entry.name);
                }
                self.begin_stop(How::Over);
            }
        }
    }

    fn shutdown_asked(&mut self) {
        if let Some(active) = self.active.as_mut() {
            active.shutdown_asked = true;
        }
    }

    fn destroy(&mut self, only: Option<i32>, reply: Reply) {
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

    fn begin_stop(&mut self, how: How) {
        if self.lifecycle.phase() != Phase::Running {
            return;
        }
        let Some(active) = &self.active else { return };
        self.lifecycle = self.lifecycle.after(Fact::StopBegan);
        let remains = Remains {
            name: self.entry.name.clone(),
            uuid: self.entry.uuid,
            pid: active.run.id,
            process: active.process.clone(),
        };
        let (engine, mailbox) = (self.engine.clone(), self.entry.mailbox().clone());
        tokio::spawn(async move {
            let outcome = stop::run(&engine, remains, how).await;
            // The mailbox is open as long as an end is under way.
            drop(mailbox.send(Event::Stopped(outcome)).await);
        });
    }

    async fn stopped(&mut self, outcome: Outcome) {
        let Some(active) = self.active.take() else { return };
        let mut drafts = Vec::new();
        for event in outcome.record.iter().flat_map(|r| &r.events) {
            if event.kind == ControllerEventKind::Restarted && event.sequence > active.sequence {
                drafts.extend(active::restart_drafts(&active::exit(&event.exit)).0);
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
        if self.lifecycle.persistent() {
            let past = Past { exit: exit.clone(), reason: self.reason };
            self.engine.remember(self.entry.uuid, Some(past)).await;
        }
        self.last_exit = Some(exit);
        self.publish(drafts).await;
        let mut residue = outcome.residue;
        residue.extend(stop::forget(&self.engine, self.entry.uuid).await);
        for left in &residue {
            tracing::warn!("domain '{}': {left}", self.entry.name);
        }
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

    /// Takes up what waited for the end of something.
    async fn unpark(&mut self) {
        self.vanish_if_absent();
        for (request, reply) in std::mem::take(&mut self.parked) {
            Box::pin(self.request(request, reply)).await;
        }
    }

    fn vanish_if_absent(&mut self) {
        if self.lifecycle.phase() == Phase::Absent && !self.gone {
            self.gone = true;
            self.engine.registry.forget(&self.entry);
        }
    }

    fn state(&self) -> State {
        if self.active.is_some() { State::Running } else { State::Shutoff }
    }

    async fn publish(&mut self, drafts: Vec<Draft>) {
        let snapshot = Snapshot {
            name: self.entry.name.clone(),
            uuid: self.entry.uuid,
            hidden: self.lifecycle.phase() == Phase::Absent,
            state: self.state(),
            reason: self.reason,
            autostart: self.lifecycle.autostart(),
            run: self.active.as_ref().map(|a| a.run.clone()),
            next: self.next.clone(),
            last_exit: self.last_exit.clone(),
        };
        let record = self.record();
        self.engine.publisher.publish(&self.engine.registry, &self.entry, snapshot, record, drafts).await;
    }

    fn blank_record(&self) -> Record {
        Record {
            boot_id: self.engine.publisher.boot_id().to_owned(),
            name: self.entry.name.to_string(),
            uuid: self.entry.uuid,
            phase: RecordPhase::Starting,
            persistent: self.lifecycle.persistent(),
            autodestroy: false,
            process: None,
            init_pid: None,
            started_usec: 0,
            restarts: 0,
            reason: self.reason,
            sequence: 0,
            consoles: Vec::new(),
            document: None,
            last_exit: self.last_exit.clone(),
        }
    }

    fn record(&self) -> Option<Record> {
        let active = self.active.as_ref()?;
        Some(Record {
            phase: RecordPhase::Running,
            autodestroy: active.autodestroy,
            process: Some(active.process_record),
            init_pid: active.run.init_pid,
            started_usec: active.run.started_usec,
            restarts: active.run.restarts,
            sequence: active.sequence,
            consoles: active.run.consoles.clone(),
            document: Some(active.run.live.to_xml()),
            ..self.blank_record()
        })
    }
}

/// A receiver that is gone has lost interest; the work is done all the same.
fn answer(reply: Reply, result: Result<Answer, Failure>) {
    let _ = reply.send(Response::Done(result));
}

fn run_of(status: &ControllerStatus, id: i32, live: Arc<Domain>) -> Run {
    let consoles = status
        .consoles
        .iter()
        .map(|c| ConsoleInfo { device: c.device.clone(), path: c.host_path.clone() })
        .collect();
    Run {
        id,
        init_pid: status.init_pid,
        started_usec: status.started_u_sec,
        restarts: status.restarts,
        consoles,
        live,
    }
}

fn found_run(found: &Found) -> Run {
    let record = &found.record;
    let id = record.process.map_or(0, |p| p.pid);
    match &found.alive {
        Some((_, status, _)) => run_of(status, id, found.live.clone()),
        None => Run {
            id,
            init_pid: record.init_pid,
            started_usec: record.started_usec,
            restarts: record.restarts,
            consoles: record.consoles.clone(),
            live: found.live.clone(),
        },
    }
}

/// Passes on what a controller reports, and its end. What it reported before its end is passed on first.
async fn watch(mailbox: mpsc::Sender<Event>, run: u64, process: Arc<Process>, mut events: Events) {
    while let Some(event) = events.next().await {
        drop(mailbox.send(Event::Controller(run, event)).await);
    }
    // The connection ends with the controller. If only the connection broke, the controller is of no use any more.
    process.ended_within(std::time::Duration::from_secs(1)).await;
    drop(mailbox.send(Event::ControllerGone(run)).await);
}
