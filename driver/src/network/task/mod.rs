//! The owner of one network: one task, which answers one request after the other and watches the network's dnsmasq.
//!
//! Does not know how anything is made on the host; that is in `making`. Its ports are in [`ports`], and what becomes of
//! its rules in [`rules`].

mod ports;
mod rules;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_domain::network::{Network, Service};
use berth_schemas::name::DomainName;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::events::Kind;
use super::lifecycle::{Ask, Denial, Lifecycle};
use super::making::{self, Plan};
use super::record::{self, Phase, Record, Taken};
use super::watch;
use super::{Affected, Claim, Connection, Entry, NetworkError, PartChange, Port, Shared, Snapshot};
use crate::engine::publish::blocking;
use crate::host::process::Process;
use crate::killpoint;
use rules::Rules;

/// Requests that may wait.
const MAILBOX: usize = 256;
/// The longest time until a dnsmasq that ends again and again is started once more, and rules that are changed again and
/// again are made.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// One that lived so long is started again at once.
const GOOD_LIFE: Duration = Duration::from_secs(10);
/// One that ends so soon after it was told to read its files again ended of that.
const OF_READING: Duration = Duration::from_secs(2);

/// What a network is asked.
#[derive(Debug)]
pub(super) enum Request {
    /// Keep a definition.
    Define(Box<Network>),
    /// Forget it.
    Undefine,
    /// Start a document.
    Create(Box<Network>),
    /// Start the definition.
    Start,
    /// End.
    Destroy,
    /// Start with the host, or do not.
    SetAutostart(bool),
    /// Change one part.
    Update(Box<PartChange>),
    /// Take a port.
    Plug {
        /// In which group.
        portgroup: Option<String>,
        /// Whose.
        port: Port,
        /// Why.
        claim: Claim,
    },
    /// Give it back.
    Unplug(Port),
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Answer {
    /// Nothing to tell.
    Done,
    /// The network; whether it was defined before.
    Status(Arc<Snapshot>, bool),
    /// What a port is connected to.
    Connection(Connection),
}

type Reply = oneshot::Sender<Result<Answer, NetworkError>>;

/// What a task hears.
#[derive(Debug)]
pub(super) enum Event {
    /// Somebody asks.
    Request(Box<Request>, Reply),
    /// The dnsmasq with that number ended.
    ServerEnded(u64),
    /// It is time to start it again.
    StartServer(u64),
    /// The rules have to be there.
    MakeRules {
        /// Whether somebody asks for it, rather than the time of it has come.
        asked: bool,
    },
    /// The rules about what guests ask by DHCP have to be those of the ports that there are now.
    Guard,
}

/// What a task begins with.
#[derive(Debug)]
pub(super) enum Birth {
    /// Nothing.
    Fresh,
    /// What was found when the daemon started.
    Found {
        /// The definition.
        next: Option<Box<Network>>,
        /// Whether it starts with the host.
        autostart: bool,
        /// What a former daemon left, with its document.
        left: Option<(Record, Box<Network>)>,
    },
}

impl Birth {
    /// Name and uuid.
    pub(super) fn identity(&self) -> Option<(DomainName, Uuid)> {
        let Self::Found { next, left, .. } = self else { return None };
        let network = next.as_ref().or(left.as_ref().map(|(_, n)| n))?;
        Some((network.name.clone(), network.uuid))
    }
}

/// Asks a task.
pub(super) async fn ask(entry: &Entry, request: Request) -> Result<Answer, NetworkError> {
    let (reply, answer) = oneshot::channel();
    let gone = || NetworkError::NotFound(entry.name.to_string());
    entry.mailbox().send(Event::Request(Box::new(request), reply)).await.map_err(|_| gone())?;
    answer.await.map_err(|_| gone())?
}

/// A task for a network; the answer tells when it has found out what runs.
pub(super) fn spawn(
    shared: &Arc<Shared>,
    name: &DomainName,
    uuid: Uuid,
    birth: Birth,
) -> (Arc<Entry>, oneshot::Receiver<()>) {
    let (mailbox, events) = mpsc::channel(MAILBOX);
    let entry = Entry::new(name.clone(), uuid, mailbox);
    let (settled, wait) = oneshot::channel();
    let task = Task {
        shared: shared.clone(),
        entry: entry.clone(),
        live: None,
        next: None,
        autostart: false,
        ports: Vec::new(),
        fixed: BTreeMap::new(),
        process: None,
        server: 0,
        server_since: Instant::now(),
        server_told: None,
        wait: Duration::ZERO,
        rules: Rules::new(),
    };
    tokio::spawn(task.run(events, birth, settled));
    (entry, wait)
}

struct Task {
    shared: Arc<Shared>,
    entry: Arc<Entry>,
    live: Option<Arc<Network>>,
    next: Option<Arc<Network>>,
    autostart: bool,
    ports: Vec<Taken>,
    fixed: BTreeMap<String, Ipv4Addr>,
    /// The dnsmasq.
    process: Option<Arc<Process>>,
    /// Counts the dnsmasq processes of this network.
    server: u64,
    server_since: Instant,
    /// When it was last told to read its files again.
    server_told: Option<Instant>,
    /// How long the next start of dnsmasq waits.
    wait: Duration,
    rules: Rules,
}

impl Task {
    async fn run(mut self, mut events: mpsc::Receiver<Event>, birth: Birth, settled: oneshot::Sender<()>) {
        let entry = self.entry.clone();
        self.begin(birth).await;
        // Nobody waits for a new one.
        let _ = settled.send(());
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                () = entry.touched().notified() => {
                    self.rules_touched().await;
                    continue;
                }
            };
            let Some(event) = event else { return };
            match event {
                Event::Request(request, reply) => {
                    let answer = self.answer(*request).await;
                    // Who asked may be gone.
                    drop(reply.send(answer));
                    if !self.lifecycle().known() {
                        self.shared.registry.forget(&self.entry);
                        return;
                    }
                }
                Event::ServerEnded(number) if number == self.server && self.live.is_some() => {
                    self.server_ended().await;
                }
                Event::StartServer(number) if number == self.server && self.live.is_some() => {
                    self.start_server().await;
                }
                Event::ServerEnded(_) | Event::StartServer(_) => {}
                Event::MakeRules { asked } => self.make_due_rules(asked).await,
                Event::Guard => self.guard().await,
            }
        }
    }

    async fn begin(&mut self, birth: Birth) {
        let Birth::Found { next, autostart, left } = birth else { return };
        self.next = next.map(|n| Arc::new(*n));
        self.autostart = autostart;
        if let Some((record, network)) = left {
            self.adopt(record, *network).await;
        }
        self.publish();
        self.tell_others();
        if !self.lifecycle().known() {
            self.shared.registry.forget(&self.entry);
        }
    }

    /// Goes on with what a former daemon left, or ends it.
    async fn adopt(&mut self, record: Record, network: Network) {
        let name = self.entry.name.clone();
        if record.boot_id != self.shared.boot_id {
            self.forget_record().await;
            return;
        }
        if record.phase != Phase::Running {
            match self.undo(&record, &network).await {
                Ok(()) => tracing::info!("network '{name}' was half {:?}: it is undone", record.phase),
                Err(_) => tracing::warn!("network '{name}' was half {:?}, and is still", record.phase),
            }
            return;
        }
        watch::begin(&self.shared);
        self.live = Some(Arc::new(network));
        (self.ports, self.fixed) = (record.ports, record.fixed);
        match self.plan() {
            Some(plan) => match plan.make().await {
                Ok(process) => self.watch(process),
                // What goes through it may still work.
                Err(e) => tracing::error!("network '{name}' is not as it should be: {e}"),
            },
            None => tracing::debug!("network '{name}' has nothing on the host"),
        }
        self.guard_soon();
    }

    fn lifecycle(&self) -> Lifecycle {
        Lifecycle { active: self.live.is_some(), persistent: self.next.is_some(), autostart: self.autostart }
    }

    fn decide(&self, ask: Ask) -> Result<(), NetworkError> {
        let name = &self.entry.name;
        self.lifecycle().decide(ask).map_err(|denial| match denial {
            Denial::Absent => NetworkError::NotFound(name.to_string()),
            Denial::NotActive => NetworkError::InvalidState(format!("network '{name}' is not active")),
            Denial::Active => NetworkError::InvalidState(match ask {
                // Whoever asks with a document has named none.
                Ask::Create => format!("network is already active as '{name}'"),
                _ => "network is already active".into(),
            }),
            Denial::Transient => NetworkError::InvalidState(match ask {
                Ask::SetAutostart => "cannot set autostart for transient network".into(),
                Ask::Undefine => "cannot undefine transient network".into(),
                _ => "cannot change persistent config of a transient network".into(),
            }),
        })
    }

    fn publish(&self) {
        self.entry.show(Snapshot {
            name: self.entry.name.clone(),
            uuid: self.entry.uuid,
            live: self.live.clone(),
            next: self.next.clone(),
            autostart: self.autostart,
            ports: self.ports.clone(),
        });
        self.shared.events.show(self.entry.uuid);
    }

    fn tell(&self, kind: Kind) {
        self.shared.events.tell(kind, self.entry.name.as_str(), self.entry.uuid);
    }

    fn status(&self, updated: bool) -> Answer {
        Answer::Status(self.entry.snapshot(), updated)
    }

    async fn answer(&mut self, request: Request) -> Result<Answer, NetworkError> {
        match request {
            Request::Define(network) => self.define(*network).await,
            Request::Undefine => self.undefine().await,
            Request::Create(network) => {
                self.decide(Ask::Create)?;
                self.start(*network).await
            }
            Request::Start => {
                self.decide(Ask::Start)?;
                let network = self.next.clone().ok_or(NetworkError::NotFound(self.entry.name.to_string()))?;
                self.start((*network).clone()).await
            }
            Request::Destroy => self.destroy().await,
            Request::SetAutostart(on) => {
                self.decide(Ask::SetAutostart)?;
                let name = self.entry.name.clone();
                self.stored(move |s| s.set_autostart(name.as_str(), on)).await?;
                self.autostart = on;
                self.publish();
                Ok(Answer::Done)
            }
            Request::Update(change) => self.update(*change).await,
            Request::Plug { portgroup, port, claim } => self.plug(portgroup.as_deref(), port, claim).await,
            Request::Unplug(port) => self.unplug(&port).await,
        }
    }

    async fn stored(
        &self,
        work: impl FnOnce(&crate::engine::store::Store) -> Result<(), crate::engine::store::StoreError>
        + Send
        + 'static,
    ) -> Result<(), NetworkError> {
        let store = self.shared.store.clone();
        match blocking(move || Ok(work(&store))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(NetworkError::Failed(e.to_string())),
            Err(e) => Err(NetworkError::Failed(e.to_string())),
        }
    }

    async fn keep(&self, network: &Network) -> Result<(), NetworkError> {
        let (name, xml) = (self.entry.name.clone(), network.to_xml());
        self.stored(move |s| s.write(name.as_str(), &xml)).await
    }

    async fn define(&mut self, network: Network) -> Result<Answer, NetworkError> {
        self.decide(Ask::Define)?;
        self.keep(&network).await?;
        let updated = self.next.replace(Arc::new(network)).is_some();
        self.publish();
        self.tell(Kind::Defined);
        Ok(self.status(updated))
    }

    async fn undefine(&mut self) -> Result<Answer, NetworkError> {
        self.decide(Ask::Undefine)?;
        let name = self.entry.name.clone();
        self.stored(move |s| s.remove(name.as_str())).await?;
        (self.next, self.autostart) = (None, false);
        self.publish();
        self.tell(Kind::Undefined);
        if self.live.is_none() {
            self.forget_leases().await;
        }
        Ok(Answer::Done)
    }

    /// Of a network that is no more.
    async fn forget_leases(&self) {
        let path = self.shared.files(self.entry.uuid).leases;
        let removed = blocking(move || std::fs::remove_file(path)).await;
        if let Err(e) = removed
            && e.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!("cannot remove the leases of network '{}': {e}", self.entry.name);
        }
    }

    fn plan_of(&self, network: &Network) -> Option<Plan> {
        let bridge = network.bridge.as_ref()?.name.clone().filter(|_| network.has_own_bridge())?;
        Some(Plan {
            network: network.clone(),
            bridge,
            ports: self.ports.iter().map(|t| t.port.clone()).collect(),
            fixed: self.fixed.clone(),
            services: self.services(network),
            files: self.shared.files(self.entry.uuid),
            made: self.rules.made(),
        })
    }

    /// What the host answers at the addresses of all networks that run, and of this one.
    fn services(&self, own: &Network) -> Vec<Service> {
        let others = self.others().into_iter().filter_map(|s| s.live.clone());
        let others: Vec<Service> = others.flat_map(|n| n.services()).collect();
        own.services().into_iter().chain(others).collect()
    }

    /// Ports that lead to guests of other networks are none of what the host answers at the addresses of this one, which they
    /// did not know.
    fn tell_others(&self) {
        let Some(live) = &self.live else { return };
        let services = live.services();
        for entry in self.shared.registry.entries().into_iter().filter(|e| e.uuid != self.entry.uuid) {
            let forwards = entry.snapshot().forwards();
            if services.iter().any(|s| forwards.iter().any(|f| s.is_met(f))) {
                // That task may be waiting for this one.
                tokio::spawn(async move {
                    // The network is gone.
                    let _ = entry.mailbox().send(Event::MakeRules { asked: true }).await;
                });
            }
        }
    }

    /// Of what runs; none where nothing is made on the host.
    fn plan(&self) -> Option<Plan> {
        self.plan_of(self.live.as_deref()?)
    }

    fn record_of(&self, network: &Network, phase: Phase) -> Record {
        let own = network.has_own_bridge();
        Record {
            uuid: self.entry.uuid,
            boot_id: self.shared.boot_id.clone(),
            phase,
            bridge: network.bridge.as_ref().filter(|_| own).and_then(|b| b.name.clone()),
            xml: network.to_xml(),
            ports: self.ports.clone(),
            fixed: self.fixed.clone(),
        }
    }

    async fn write_record(&self, record: Record) -> Result<(), NetworkError> {
        let folder = self.shared.records();
        let written = blocking(move || record::write(&folder, &record)).await;
        written.map_err(|e| {
            NetworkError::Failed(format!("cannot write the state of network '{}': {e}", self.entry.name))
        })
    }

    /// What runs, as it is now.
    async fn note(&self) {
        let Some(live) = &self.live else { return };
        if let Err(e) = self.write_record(self.record_of(live, Phase::Running)).await {
            // Only the next daemon will not know it.
            tracing::error!("{e}");
        }
    }

    async fn forget_record(&self) {
        self.forget_record_of(self.entry.uuid).await;
    }

    async fn forget_record_of(&self, uuid: Uuid) {
        let folder = self.shared.records();
        if let Err(e) = blocking(move || record::remove(&folder, uuid)).await {
            tracing::error!("cannot remove the state of network '{}': {e}", self.entry.name);
        }
    }

    /// Takes away all that there is of a run. What cannot be is told and noted, for the next start of the daemon or of
    /// the network; this is the first of it.
    async fn undo(&self, record: &Record, network: &Network) -> Result<(), String> {
        let errors = match &record.bridge {
            Some(bridge) => {
                let forwards = || record.ports.iter().any(|t| !t.port.doors.is_empty());
                let rules =
                    crate::network::rules::needed(network, !network.forwards().is_empty() || forwards());
                let guests: Vec<String> = record.ports.iter().map(|t| t.port.mac.clone()).collect();
                making::unmake(bridge, record.uuid, &self.shared.files(record.uuid), rules, &guests).await
            }
            None => Vec::new(),
        };
        errors.iter().for_each(|e| tracing::error!("network '{}': {e}", self.entry.name));
        match errors.into_iter().next() {
            Some(first) => Err(first),
            None => {
                self.forget_record_of(record.uuid).await;
                Ok(())
            }
        }
    }

    /// Takes away what is left of former runs: of this network, and of one that is no more and had the same bridge.
    async fn undo_former(&self, bridge: Option<&str>) -> Result<(), NetworkError> {
        let folder = self.shared.records();
        let loaded = blocking(move || record::load(&folder)).await;
        let (records, _) =
            loaded.map_err(|e| NetworkError::Failed(format!("cannot read the states of networks: {e}")))?;
        let is_of =
            |r: &Record| r.uuid == self.entry.uuid || (bridge.is_some() && r.bridge.as_deref() == bridge);
        let left = |r: &Record| r.boot_id == self.shared.boot_id && r.phase != Phase::Running && is_of(r);
        for record in records.into_iter().filter(left) {
            if let Ok(parsed) = berth_domain::network::parse_network(&record.xml) {
                self.undo(&record, &parsed.network).await.map_err(NetworkError::Failed)?;
            }
        }
        Ok(())
    }

    async fn start(&mut self, network: Network) -> Result<Answer, NetworkError> {
        let problems = network.start_problems();
        if !problems.is_empty() {
            return Err(NetworkError::Unsupported(problems));
        }
        self.ports.clear();
        self.check_services(&network)?;
        self.check_forwards(&network, network.forwards()).await?;
        let plan = self.plan_of(&network);
        self.undo_former(plan.as_ref().map(|p| p.bridge.as_str())).await?;
        if let Some(plan) = &plan {
            making::check(&network, &plan.bridge).await.map_err(NetworkError::Failed)?;
        }
        watch::begin(&self.shared);
        let record = self.record_of(&network, Phase::Starting);
        self.write_record(record.clone()).await?;
        killpoint::reached("network-noted");
        let made = match &plan {
            Some(plan) => plan.make().await,
            None => Ok(None),
        };
        let process = match made {
            Ok(process) => process,
            Err(e) => {
                // What is left was told.
                drop(self.undo(&record, &network).await);
                return Err(NetworkError::Failed(e));
            }
        };
        self.live = Some(Arc::new(network));
        self.watch(process);
        self.note().await;
        killpoint::reached("network-started");
        self.publish();
        self.tell_others();
        // Nobody looked for it while it was not known to run.
        self.entry.touched().notify_one();
        self.tell(Kind::Started);
        Ok(self.status(false))
    }

    async fn destroy(&mut self) -> Result<Answer, NetworkError> {
        self.decide(Ask::Destroy)?;
        let Some(live) = self.live.take() else { return Ok(Answer::Done) };
        let record = self.record_of(&live, Phase::Stopping);
        // What cannot be noted is undone all the same.
        if let Err(e) = self.write_record(record.clone()).await {
            tracing::error!("{e}");
        }
        // Its end is expected from now on.
        self.server += 1;
        self.process = None;
        let undone = self.undo(&record, &live).await;
        self.rules.made().settle(self.entry.name.as_str(), &[]).await;
        self.ports.clear();
        self.publish();
        self.tell(Kind::Stopped);
        if self.next.is_none() {
            self.forget_leases().await;
        }
        undone.map(|()| Answer::Done).map_err(NetworkError::Failed)
    }

    /// Hears of the end of a dnsmasq; of the one that is held already it does so anyway.
    fn watch(&mut self, process: Option<Arc<Process>>) {
        if let (Some(new), Some(held)) = (&process, &self.process)
            && Arc::ptr_eq(new, held)
        {
            self.server_told = Some(Instant::now());
            return;
        }
        self.server += 1;
        self.server_since = Instant::now();
        self.server_told = None;
        self.process.clone_from(&process);
        let Some(process) = process else { return };
        let (number, mailbox) = (self.server, self.entry.mailbox().clone());
        tokio::spawn(async move {
            process.ended().await;
            // The network is gone.
            let _ = mailbox.send(Event::ServerEnded(number)).await;
        });
    }

    async fn server_ended(&mut self) {
        self.process = None;
        if self.server_since.elapsed() >= GOOD_LIFE {
            self.wait = Duration::ZERO;
        }
        tracing::warn!("the dnsmasq of network '{}' ended: it is started again", self.entry.name);
        // What we did ourselves is no reason to wait: the next one reads the files as it starts.
        if self.server_told.take().is_some_and(|told| told.elapsed() < OF_READING) {
            self.start_server().await;
        } else {
            self.start_server_later();
        }
    }

    fn start_server_later(&mut self) {
        let (number, mailbox, wait) = (self.server, self.entry.mailbox().clone(), self.wait);
        self.wait = (self.wait * 2).clamp(Duration::from_secs(1), LONGEST_WAIT);
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            // The network is gone.
            let _ = mailbox.send(Event::StartServer(number)).await;
        });
    }

    async fn start_server(&mut self) {
        let Some(plan) = self.plan() else { return };
        match plan.serve(self.process.clone()).await {
            Ok(process) => self.watch(process),
            Err(e) => {
                tracing::error!("network '{}': {e}", self.entry.name);
                self.start_server_later();
            }
        }
    }

    async fn update(&mut self, change: PartChange) -> Result<Answer, NetworkError> {
        let active = self.live.is_some();
        let affected = change.affected.unwrap_or(Affected { live: active, config: !active });
        if affected.live {
            self.decide(Ask::EditLive)?;
        }
        if affected.config {
            self.decide(Ask::EditNext)?;
        }
        if affected.live {
            self.check_unused(&change)?;
        }
        let changed = |network: &Option<Arc<Network>>, wanted: bool| {
            let Some(network) = network.as_ref().filter(|_| wanted) else { return Ok(None) };
            let updated = network.updated(change.change, &change.part, change.parent);
            updated.map(Some).map_err(|e| match e {
                berth_domain::network::UpdateError::Impossible(message) => {
                    NetworkError::InvalidState(message)
                }
                berth_domain::network::UpdateError::Bad(e) => NetworkError::InvalidDocument(e.diagnostics),
            })
        };
        let (live, next) = (changed(&self.live, affected.live)?, changed(&self.next, affected.config)?);
        if let Some(live) = &live {
            let problems = live.start_problems();
            if !problems.is_empty() {
                return Err(NetworkError::Unsupported(problems));
            }
            let before = self.live.as_ref().map(|n| n.forwards()).unwrap_or_default();
            let new = live.forwards().into_iter().filter(|f| !before.contains(f)).collect();
            self.check_forwards(live, new).await?;
        }
        // First what cannot be written at all; both change, or neither.
        if let Some(next) = &next {
            self.keep(next).await?;
        }
        if let Some(live) = live {
            let before = self.live.replace(Arc::new(live));
            if let Err(e) = self.refresh().await {
                self.live = before;
                // As it was before; what does not work now did not then.
                if let Err(again) = self.refresh().await {
                    tracing::error!("network '{}': {again}", self.entry.name);
                }
                if let (Some(_), Some(kept)) = (&next, self.next.clone())
                    && let Err(again) = self.keep(&kept).await
                {
                    tracing::error!(
                        "the definition of network '{}' has what it cannot do: {again}",
                        self.entry.name
                    );
                }
                return Err(NetworkError::Failed(e));
            }
            self.note().await;
        }
        if let Some(next) = next {
            self.next = Some(Arc::new(next));
        }
        // As with libvirt this is no event: the definition is as much one as before, and who wants to know reads it.
        self.publish();
        Ok(Answer::Done)
    }

    /// Brings dnsmasq and the rules up to date.
    async fn refresh(&mut self) -> Result<(), String> {
        let Some(plan) = self.plan() else { return Ok(()) };
        plan.apply_rules().await?;
        let process = plan.serve(self.process.clone()).await?;
        self.watch(process);
        self.guard_soon();
        Ok(())
    }
}
