//! All domains together: which there are, what is kept, what everybody sees, and how they are asked.
//!
//! Does not know how requests arrive.

mod abandoned;
mod addresses;
mod borrowing;
pub mod controls;
pub mod disks;
pub mod history;
mod ids;
mod interfaces;
pub mod lending;
pub mod metadata;
mod pending;
pub mod publish;
pub mod reads;
mod reconnect;
pub mod record;
pub mod recover;
pub mod registry;
pub mod snapshot;
pub mod stats;
pub mod store;
pub mod story;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use berth_domain::{Diagnostic, Domain};
use berth_schemas::domain::Affect;
use berth_schemas::name::DomainName;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::account::Meters;
use crate::config::Config;
use crate::container::hotplug::{Act, DeviceChange};
use crate::container::task::{Answer, Birth, Event, Request, Response, StartOptions, Task};
use crate::engine::history::{History, Past};
use crate::engine::publish::{Publisher, blocking};
use crate::engine::registry::{Entry, Reference, Registry};
use crate::engine::store::{Store, StoreError};
use crate::failure::Failure;
use crate::host::apparmor::Profiles;
use crate::host::cgroups::Cgroups;
use crate::host::idmap::{IdRanges, Pool};
use crate::host::link::Sockets;
use crate::host::links::Links;
use crate::host::program::Program;
use crate::host::systemd::Systemd;
use crate::journal::domain_span;
use crate::network::Networks;
use crate::paths::Layout;

/// Everything that requests need.
#[derive(Debug)]
pub struct Engine {
    /// Files and folders.
    pub layout: Layout,
    /// Settings, which can be read again while the daemon runs.
    config: RwLock<Arc<Config>>,
    /// What documents need to know of the host.
    pub host: berth_domain::Host,
    /// The controller program.
    pub controller: Arc<Program>,
    /// The program that serves containers' own views.
    pub view: Program,
    /// Control groups.
    pub cgroups: Cgroups,
    /// Where controllers listen.
    pub sockets: Sockets,
    /// Definitions on disk.
    pub store: Store,
    /// Domains.
    pub registry: Registry,
    /// What everybody sees.
    pub publisher: Publisher,
    /// How domains ended.
    pub history: Arc<History>,
    /// Ranges of ids.
    pub ids: Arc<IdRanges>,
    /// The service manager, where systemd runs the host.
    pub systemd: Option<Arc<Systemd>>,
    /// Profiles of containers.
    pub profiles: Profiles,
    /// What domains use.
    pub meters: Meters,
    /// Host ends of interfaces.
    pub links: Links,
    /// Virtual networks.
    pub networks: Networks,
    /// Interfaces of networks that are no domain's.
    pub lending: lending::Lending,
    /// Interfaces of the host that domains have.
    borrowing: borrowing::Borrowing,
}

/// A run that ends with the client that started it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tie {
    /// The domain.
    pub uuid: Uuid,
    /// Its id in that run.
    pub id: i32,
    /// Who the client is, in the words of the log.
    pub client: String,
}

/// What came of a definition.
#[derive(Debug)]
pub struct Defined {
    /// The domain.
    pub snapshot: Arc<snapshot::Snapshot>,
    /// Whether it was there before.
    pub updated: bool,
    /// Remarks.
    pub warnings: Vec<Diagnostic>,
}

impl Engine {
    /// The settings as they are now.
    pub fn config(&self) -> Arc<Config> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes other settings, for what begins from now on. The pool of ids is that of the daemon's start.
    pub fn set_config(&self, config: Config) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    /// Asks one domain.
    pub async fn ask(&self, reference: &Reference, request: Request) -> Result<Answer, Failure> {
        let entry = self.registry.find(reference)?;
        match ask_entry(&entry, request).await {
            Some(Response::Done(answer)) => answer,
            Some(Response::Vanished(_)) => Err(Failure::NoSuchDomain(reference.text())),
            None => Err(Failure::Failed(format!("the task of domain '{}' failed", entry.name))),
        }
    }

    /// Asks a domain that may be new. `request` is made again if the domain vanishes meanwhile.
    async fn ask_new(self: &Arc<Self>, domain: &Domain, mut request: Request) -> Result<Answer, Failure> {
        for _ in 0..100 {
            let born = || Task::spawn(self, &domain.name, domain.uuid, Birth::Fresh);
            let entry = self.registry.claim(&domain.name, domain.uuid, born)?;
            match ask_entry(&entry, request).await {
                Some(Response::Done(answer)) => return answer,
                Some(Response::Vanished(back)) => request = back,
                None => return Err(Failure::Failed(format!("the task of domain '{}' failed", entry.name))),
            }
        }
        Err(Failure::Failed(format!("domain '{}' is being removed again and again", domain.name)))
    }

    /// Reads a document; one without a uuid gets that of the domain with its name.
    fn parse(&self, xml: &str) -> Result<berth_domain::Parsed, Failure> {
        let mut parsed =
            berth_domain::parse(xml, &self.host).map_err(|e| Failure::InvalidDocument(e.diagnostics))?;
        if let Some(uuid) = self.registry.uuid_of(parsed.domain.name.as_str())
            && uuid != parsed.domain.uuid
            && !names_uuid(xml)
        {
            parsed.domain.uuid = uuid;
        }
        // What has no hardware address keeps the one that was made up for it.
        if let Ok(entry) = self.registry.find(&Reference::by_name(parsed.domain.name.as_str()))
            && let Some(before) = entry.snapshot().next.as_ref().or(entry.snapshot().current())
        {
            parsed.domain.keep_macs(&parsed.made_up_macs, before);
        }
        count_vcpus(&mut parsed);
        for warning in &parsed.warnings {
            tracing::warn!("domain '{}': {warning}", parsed.domain.name);
        }
        Ok(parsed)
    }

    /// Keeps a definition, or only checks it.
    pub async fn define(self: &Arc<Self>, xml: &str, dry_run: bool) -> Result<Defined, Failure> {
        let berth_domain::Parsed { domain, warnings, .. } = self.parse(xml)?;
        if dry_run {
            let there = self.registry.check(&domain.name, domain.uuid)?.map(|e| e.snapshot());
            let updated = there.as_ref().is_some_and(|s| s.next.is_some());
            let snapshot = there.filter(|s| !s.hidden).unwrap_or_else(|| Arc::new(would_be(domain)));
            return Ok(Defined { snapshot, updated, warnings });
        }
        match self.ask_new(&domain, Request::Define(Box::new(domain.clone()))).await? {
            Answer::Defined(snapshot, updated) => Ok(Defined { snapshot, updated, warnings }),
            Answer::Done | Answer::Status(_) => {
                Err(Failure::Failed(format!("the definition of domain '{}' was not kept", domain.name)))
            }
        }
    }

    /// Attaches, detaches or updates one device, given as its element.
    pub async fn change_device(
        &self,
        reference: &Reference,
        act: Act,
        xml: &str,
        affect: Option<Vec<Affect>>,
    ) -> Result<(), Failure> {
        let parsed = berth_domain::parse_device(xml, &self.host)
            .map_err(|e| Failure::InvalidDocument(e.diagnostics))?;
        for warning in &parsed.warnings {
            tracing::warn!("device of domain '{}': {warning}", reference.text());
        }
        let change = DeviceChange { act, device: parsed.device, affect: affect.unwrap_or_default() };
        self.ask(reference, Request::ChangeDevice(Box::new(change))).await.map(drop)
    }

    /// Starts a document.
    pub async fn create(self: &Arc<Self>, xml: &str, options: StartOptions) -> Result<Defined, Failure> {
        let berth_domain::Parsed { domain, warnings, .. } = self.parse(xml)?;
        match self.ask_new(&domain, Request::Create(Box::new(domain.clone()), options)).await? {
            Answer::Status(snapshot) => Ok(Defined { snapshot, updated: false, warnings }),
            Answer::Done | Answer::Defined(..) => {
                Err(Failure::Failed(format!("domain '{}' was not started", domain.name)))
            }
        }
    }

    /// Starts a defined domain.
    pub async fn start(
        &self,
        reference: &Reference,
        options: StartOptions,
    ) -> Result<Arc<snapshot::Snapshot>, Failure> {
        match self.ask(reference, Request::Start(options)).await? {
            Answer::Status(snapshot) => Ok(snapshot),
            Answer::Done | Answer::Defined(..) => {
                Err(Failure::Failed(format!("domain '{}' was not started", reference.text())))
            }
        }
    }

    /// Ends runs whose clients are gone. `why`: what became of those, for the log.
    pub async fn end_with_client(&self, runs: Vec<Tie>, why: &str) {
        for Tie { uuid, id, client } in runs {
            let reference = Reference { uuid: Some(uuid.to_string()), ..Reference::default() };
            let there = self.registry.find(&reference).ok();
            // Not of one that has ended before, nor of a later run.
            if let Some(entry) = there.filter(|e| e.snapshot().run.as_ref().is_some_and(|run| run.id == id)) {
                let name = &entry.name;
                domain_span(name, uuid)
                    .in_scope(|| tracing::info!("domain '{name}': ends with its client ({client}), {why}"));
            }
            match self.ask(&reference, Request::Destroy(Some(id))).await {
                Ok(_) => {}
                // It ended before its client did.
                Err(Failure::NoSuchDomain(_) | Failure::InvalidState { .. }) => {}
                Err(e) => tracing::warn!("autodestroy of domain '{uuid}': {e}"),
            }
        }
    }

    /// Host pid of a running domain's init.
    pub fn init_pid(&self, reference: &Reference) -> Option<i32> {
        let snapshot = self.registry.find(reference).ok()?.snapshot();
        i32::try_from(snapshot.run.as_ref()?.init_pid?).ok()
    }

    /// Writes a definition.
    pub async fn keep(&self, domain: &Domain) -> Result<(), Failure> {
        let (store, name, xml) = (self.store.clone(), domain.name.clone(), domain.to_xml());
        self.stored(move || store.write(name.as_str(), &xml)).await
    }

    /// Removes a definition.
    pub async fn unkeep(&self, name: &DomainName) -> Result<(), Failure> {
        let (store, name) = (self.store.clone(), name.clone());
        self.stored(move || store.remove(name.as_str())).await
    }

    /// Makes or removes the autostart link.
    pub async fn keep_autostart(&self, name: &DomainName, on: bool) -> Result<(), Failure> {
        let (store, name) = (self.store.clone(), name.clone());
        self.stored(move || store.set_autostart(name.as_str(), on)).await
    }

    /// Notes how a domain ended, for the next daemon.
    pub async fn remember(&self, uuid: uuid::Uuid, past: Option<Past>) {
        let history = self.history.clone();
        if let Err(e) = blocking(move || history.note(uuid, past)).await {
            // Only the next daemon will not know it.
            tracing::warn!("cannot note how domain '{uuid}' ended: {e}");
        }
    }

    async fn stored(
        &self,
        work: impl FnOnce() -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), Failure> {
        let done = blocking(move || Ok(work())).await;
        match done {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(Failure::Failed(e.to_string())),
            Err(e) => Err(Failure::Failed(e.to_string())),
        }
    }
}

/// Sends a request to a task and waits. None if the task failed.
async fn ask_entry(entry: &Entry, request: Request) -> Option<Response> {
    let (reply, answer) = oneshot::channel();
    if let Err(unsent) = entry.mailbox().send(Event::Request(request, reply)).await {
        return match unsent.0 {
            Event::Request(request, _) => Some(Response::Vanished(request)),
            _ => None,
        };
    }
    answer.await.ok()
}

/// A document that does not say how many CPUs is not limited, and says so from now on.
fn count_vcpus(parsed: &mut berth_domain::Parsed) {
    if !parsed.says_vcpus {
        let count = &mut parsed.domain.vcpu.count;
        *count = crate::host::node::cpus().max(*count);
    }
}

/// Whether a document has a uuid of its own.
fn names_uuid(xml: &str) -> bool {
    let tree = berth_domain::tree::parse_tree(xml);
    tree.is_ok_and(|root| root.elements().any(|e| e.name == "uuid"))
}

fn would_be(domain: Domain) -> snapshot::Snapshot {
    let mut snapshot = snapshot::Snapshot::hidden(domain.name.clone(), domain.uuid);
    snapshot.hidden = false;
    snapshot.next = Some(Arc::new(domain));
    snapshot
}

/// What an engine is made of.
#[derive(Debug)]
pub struct Parts {
    /// Files and folders.
    pub layout: Layout,
    /// Settings.
    pub config: Config,
    /// The controller program.
    pub controller: PathBuf,
    /// Whether control groups and links are only pretended.
    pub pretend_cgroups: bool,
}

impl Engine {
    /// Puts an engine together, without any domain.
    pub fn new(parts: Parts) -> io::Result<Arc<Self>> {
        let Parts { layout, config, controller, pretend_cgroups } = parts;
        let (run, tag) = (layout.run(), layout.tag());
        let cgroups = if pretend_cgroups { Cgroups::pretend(run, tag) } else { Cgroups::find(run, tag) };
        let links = if pretend_cgroups { Links::pretend(run.join("links"))? } else { Links::default() };
        let pool = Pool::new(&host_file("/etc/subuid"), &host_file("/etc/subgid"), config.idmap.pool);
        let (ids, remark) = IdRanges::open(layout.id_ranges(), pool);
        if let Some(remark) = remark {
            tracing::warn!("{remark}");
        }
        let host = berth_domain::Host {
            arch: crate::host::node::arch(),
            emulator: controller.display().to_string(),
        };
        let view = Program::new(controller.with_file_name("berth-view"));
        let controller = Arc::new(Program::new(controller));
        // Now, not at the first start: a package may be upgraded meanwhile.
        for (program, outcome) in [
            (&*controller, "no container can be started"),
            (&view, "containers see the host's memory and processors"),
        ] {
            if let Err(e) = program.to_run() {
                tracing::warn!("{outcome}: cannot run '{}': {e}", program.path().display());
            }
        }
        let engine = Arc::new(Self {
            host,
            cgroups: cgroups.map_err(io::Error::other)?,
            sockets: Sockets::open(&layout.controllers())?,
            store: Store::new(layout.domains(), layout.autostart()),
            registry: Registry::default(),
            publisher: Publisher::new(&layout, crate::host::process::boot_id()?)?,
            history: Arc::new(History::new(layout.run().join("ended"))?),
            ids: Arc::new(ids),
            systemd: Systemd::find(tag).map(Arc::new),
            profiles: Profiles::find(tag),
            meters: Meters::default(),
            links,
            networks: Networks::new(&layout, crate::host::process::boot_id()?),
            lending: lending::Lending::default(),
            borrowing: borrowing::Borrowing::default(),
            controller,
            view,
            config: RwLock::new(Arc::new(config)),
            layout,
        });
        let itself = Arc::downgrade(&engine);
        engine.networks.ask_about_macs(move |mac| {
            let has =
                |domain: &Domain| domain.devices.interfaces.iter().any(|i| i.mac.eq_ignore_ascii_case(mac));
            itself
                .upgrade()
                .is_some_and(|e| e.registry.all().iter().any(|s| s.next.as_deref().is_some_and(has)))
        });
        Ok(engine)
    }
}

/// A file of the host that may not be there, and without which everything works.
fn host_file(path: &str) -> String {
    match std::fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => {
            tracing::warn!("cannot read '{path}': {e}");
            String::new()
        }
    }
}
