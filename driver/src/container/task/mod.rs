//! The task that owns one domain: it takes one event after the other and never waits for a controller.
//!
//! Does not know clients, and does no I/O but through `start`, `stop`, the store and the publisher.

mod birth;
mod edit;
mod pause;
mod plugging;
mod pressure;
mod runs;
mod silence;
mod tuning;

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use berth_domain::Domain;
use berth_schemas::controller::ControllerEvent;
use berth_schemas::domain::{Exit, PressureStats, Reason, State};
use tokio::sync::{mpsc, oneshot};

use crate::container::active::{self, Ended};
use crate::container::adoption::Alive;
use crate::container::changes;
use crate::container::hotplug::{DeviceChange, targets};
use crate::container::lifecycle::{Ask, Denial, Lifecycle, Phase, Verdict};
use crate::container::plug::Plugged;
use crate::container::start::{Launched, Undone};
use crate::container::stop::{How, Outcome};
use crate::container::task::pause::Changed;
use crate::container::task::pressure::Watches;
use crate::container::task::silence::Silence;
use crate::container::tune::Tuning;
use crate::container::tune_interface::InterfaceTuning;
use crate::engine::Engine;
use crate::engine::disks::Noted;
use crate::engine::history::Past;
use crate::engine::metadata::MetadataChange;
use crate::engine::publish::Draft;
use crate::engine::record::{Pending, ProcessRecord, Record, RecordPhase};
use crate::engine::registry::Entry;
use crate::engine::snapshot::{Run, Snapshot};
use crate::failure::Failure;
use crate::host::cgroups::Groups;
use crate::host::limits::devices::Numbers;
use crate::host::link::Adopted;
use crate::host::process::Process;

/// When a record that could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(2);

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
    /// A controller that a former daemon has left answers at last; the number is that of the run.
    Adopted(u64, Box<Adopted>),
    /// A controller is gone.
    ControllerGone(u64),
    /// Tasks wait for a resource; the number is that of the run.
    Pressure(u64, Box<PressureStats>),
    /// A change of devices is over; the number is that of the run.
    Plugged(u64, Box<Plugged>),
    /// A suspend (true) or resume is over.
    Changed(Box<Changed>),
    /// Pressure is to be watched as its definition says.
    Rearm,
    /// A run that was found again was suspended (true) or resumed, and nobody has told it.
    FoundChanged(bool),
    /// An end is over.
    Stopped(Outcome),
    /// A record that could not be written is to be.
    WriteRecord,
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
    /// Init is going to be asked to power off, or to restart.
    NoteShutdown {
        /// To restart.
        restart: bool,
    },
    /// Init is going to get a signal.
    NoteSignal,
    /// Stop its processes.
    Suspend,
    /// Let them go on.
    Resume,
    /// End it; only the run with that id, if one is given.
    Destroy(Option<i32>),
    /// Start it with the host.
    SetAutostart(bool),
    /// Change title, description or metadata.
    SetMetadata(Box<MetadataChange>),
    /// Attach, detach or update a device.
    ChangeDevice(Box<DeviceChange>),
    /// Change limits and link state of an interface.
    TuneInterface(Box<InterfaceTuning>),
    /// Change what it may use.
    Tune(Box<Tuning>),
    /// Connect interfaces of a network that runs again.
    Reconnect(String),
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
    pub alive: Option<Alive>,
    /// Whether the kernel has stopped its processes.
    pub paused: bool,
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
    /// Tells of pressure.
    pressure: Watches,
    /// What is not known yet, as its controller has not answered since this daemon started.
    silence: Option<Silence>,
}

#[derive(Debug)]
struct Starting {
    domain: Arc<Domain>,
    autodestroy: bool,
    reply: Reply,
    cancel: Option<oneshot::Sender<()>>,
    destroyers: Vec<Reply>,
}

#[derive(Debug)]
struct Plugging {
    reply: Reply,
    pending: Pending,
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
    /// A change of devices that is under way.
    plugging: Option<Plugging>,
    destroyers: Vec<Reply>,
    parked: VecDeque<(Request, Reply)>,
    reason: Reason,
    last_exit: Option<Exit>,
    /// Counts the runs, so that a late report of one is not taken for the next one's.
    run: u64,
    /// Whether the record is to be written once more.
    unwritten: bool,
    gone: bool,
}

impl Task {
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
            Event::Pressure(run, stats) if run == self.run => self.pressed(*stats).await,
            Event::Adopted(run, adopted) if run == self.run => self.adopted(*adopted).await,
            Event::Controller(..) | Event::ControllerGone(_) | Event::Adopted(..) | Event::Pressure(..) => {}
            Event::Plugged(run, plugged) => self.plugged(run, *plugged).await,
            Event::Changed(changed) => self.changed(*changed).await,
            Event::Rearm => self.rearm_pressure().await,
            Event::FoundChanged(paused) => self.found_changed(paused).await,
            Event::Stopped(outcome) => self.stopped(outcome).await,
            Event::WriteRecord => self.write_record().await,
        }
    }

    async fn request(&mut self, request: Request, reply: Reply) {
        if self.gone {
            let _ = reply.send(Response::Vanished(request));
            return;
        }
        match self.lifecycle.decide(self.ask_of(&request)) {
            Verdict::Accept
                if matches!(request, Request::NoteShutdown { .. } | Request::NoteSignal)
                    && self.froze_itself().await =>
            {
                answer(reply, Err(self.denial(Denial::FrozeItself)));
            }
            // Whoever manages the domain has a way out, whatever the container does to itself.
            Verdict::Deny(Denial::NotPaused) if self.froze_itself().await => self.begin_change(false, reply),
            Verdict::Accept if self.needs_answer(&request) => answer(reply, Err(self.no_answer())),
            Verdict::Accept => self.fulfil(request, reply).await,
            Verdict::Wait => self.parked.push_back((request, reply)),
            Verdict::Already if matches!(request, Request::Destroy(_)) => self.destroyers.push(reply),
            Verdict::Already => answer(reply, Ok(Answer::Done)),
            // Whoever asks with a document has named none.
            Verdict::Deny(Denial::Active) if matches!(request, Request::Create(..)) => {
                let message = format!("domain '{}' is already active", self.entry.name);
                answer(reply, Err(Failure::InvalidState { message, state: self.state() }));
            }
            Verdict::Deny(denial) => answer(reply, Err(self.denial(denial))),
        }
    }

    fn ask_of(&self, request: &Request) -> Ask {
        match request {
            Request::Define(_) => Ask::Define,
            Request::Undefine => Ask::Undefine,
            Request::Create(..) => Ask::Create,
            Request::Start(_) => Ask::Start,
            Request::NoteShutdown { .. } => Ask::Shutdown,
            Request::NoteSignal => Ask::Signal,
            Request::Suspend => Ask::Suspend,
            Request::Resume => Ask::Resume,
            Request::Destroy(_) => Ask::Destroy,
            Request::SetAutostart(on) => Ask::SetAutostart(*on),
            Request::SetMetadata(change) if change.wants_live(self.active.is_some()) => Ask::EditLive,
            Request::SetMetadata(_) => Ask::EditNext,
            Request::ChangeDevice(change) if targets(&change.affect, self.active.is_some()).0 => {
                Ask::EditLive
            }
            Request::TuneInterface(tuning) if targets(&tuning.affect, self.active.is_some()).0 => {
                Ask::EditLive
            }
            Request::Tune(tuning) if targets(&tuning.affect, self.active.is_some()).0 => Ask::EditLive,
            Request::Reconnect(_) => Ask::EditLive,
            Request::ChangeDevice(_) | Request::TuneInterface(_) | Request::Tune(_) => Ask::EditNext,
            Request::Settle => Ask::Settle,
        }
    }

    fn denial(&self, denial: Denial) -> Failure {
        let message = match denial {
            Denial::Absent => return Failure::NoSuchDomain(self.entry.name.to_string()),
            Denial::NotRunning => "domain is not running",
            Denial::Active => "Domain is already active",
            Denial::NotPaused => "domain is already running",
            Denial::Paused => "domain is paused: resume it before init is asked, or destroy it",
            Denial::FrozeItself => {
                "the container has frozen itself: resume the domain before init is asked, or destroy it"
            }
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
            Request::NoteShutdown { restart } => {
                if !restart {
                    self.shutdown_asked();
                }
                answer(reply, Ok(Answer::Done));
            }
            Request::NoteSignal => answer(reply, Ok(Answer::Done)),
            Request::Suspend => self.begin_change(true, reply),
            Request::Resume => self.begin_change(false, reply),
            Request::Destroy(run) => self.destroy(run, reply),
            Request::SetAutostart(on) => {
                let done = self.set_autostart(on).await;
                answer(reply, done);
            }
            Request::SetMetadata(change) => {
                let done = self.set_metadata(&change).await;
                answer(reply, done);
            }
            Request::ChangeDevice(change) => self.change_device(*change, reply).await,
            Request::TuneInterface(tuning) => self.tune_interface(&tuning, reply).await,
            Request::Tune(tuning) => {
                let done = self.tune(&tuning).await;
                answer(reply, done);
            }
            Request::Reconnect(network) => {
                self.reconnect(&network).await;
                answer(reply, Ok(Answer::Done));
            }
            Request::Settle => answer(reply, Ok(Answer::Done)),
        }
        self.vanish_if_absent();
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
        match (&self.active, self.reason) {
            (None, _) => State::Shutoff,
            // Not the phase: what is shown changes when the change is over.
            (Some(_), Reason::User) => State::Paused,
            (Some(_), _) => State::Running,
        }
    }

    /// Shows everybody how it is. What the next daemon would not find so is written as soon as that can be.
    async fn publish(&mut self, drafts: Vec<Draft>) {
        if let Err(e) = self.show(drafts).await {
            let again = if self.unwritten { "" } else { ", trying again" };
            tracing::error!("cannot write the status of domain '{}'{again}: {e}", self.entry.name);
            self.write_record_later();
        }
    }

    fn write_record_later(&mut self) {
        if std::mem::replace(&mut self.unwritten, true) {
            return;
        }
        let mailbox = self.entry.mailbox().clone();
        tokio::spawn(async move {
            tokio::time::sleep(AGAIN).await;
            // Who is gone has nothing to write.
            drop(mailbox.send(Event::WriteRecord).await);
        });
    }

    async fn write_record(&mut self) {
        self.unwritten = false;
        match self.engine.publisher.write(self.entry.uuid, self.record()).await {
            Ok(()) => tracing::info!("domain '{}': its status is written", self.entry.name),
            Err(e) => {
                tracing::debug!("cannot write the status of domain '{}': {e}", self.entry.name);
                self.write_record_later();
            }
        }
    }

    /// Like [`publish`](Self::publish), but whoever asks has to see to it that the next daemon finds the right thing.
    async fn show(&mut self, mut drafts: Vec<Draft>) -> io::Result<()> {
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
        drafts.extend(changes::drafts(&self.entry.snapshot(), &snapshot));
        for draft in &drafts {
            tracing::info!("domain '{}': {}", self.entry.name, active::line(draft));
        }
        let record = self.record();
        self.engine.publisher.publish(&self.engine.registry, &self.entry, snapshot, record, drafts).await
    }

    /// Control groups of what runs.
    fn groups(&self) -> Groups {
        let partition = self.active.as_ref().and_then(|a| a.run.partition());
        self.engine.cgroups.of(self.entry.name.as_str(), partition)
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
            ready: None,
            reason: self.reason,
            sequence: 0,
            consoles: Vec::new(),
            document: None,
            ids: None,
            pending: None,
            label: None,
            scope: None,
            links: Vec::new(),
            io_numbers: Numbers::new(),
            disks: Noted::default(),
            tuning: false,
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
            ready: active.run.ready,
            sequence: active.sequence,
            consoles: active.run.consoles.clone(),
            ids: active.run.ids,
            pending: self.plugging.as_ref().map(|p| p.pending.clone()).or_else(|| self.unsettled()),
            label: active.run.label.clone(),
            scope: active.run.scope.clone(),
            links: active.run.links.clone(),
            io_numbers: active.run.io_numbers.clone(),
            disks: active.run.disks.clone(),
            document: Some(active.run.live.to_xml()),
            ..self.blank_record()
        })
    }
}

/// A receiver that is gone has lost interest; the work is done all the same.
fn answer(reply: Reply, result: Result<Answer, Failure>) {
    let _ = reply.send(Response::Done(result));
}
