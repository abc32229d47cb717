//! A start, in phases that are types: each takes the one before, and each can be undone.
//!
//! ```text
//! Prepared (plan, socket; a controller that waits) -> Confined (record, profile; with systemd scope)
//!     -> Grouped (control groups) -> Linked (interfaces) -> Launched
//! ```
//!
//! Does not know whether the domain may be started, nor who asked.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use berth_domain::apparmor::Confinement;
use berth_domain::model::NamespaceKind;
use berth_domain::{Domain, PressureSettings};
use berth_schemas::controller::{ControllerStatus, LaunchPlan, StepFailure};
use tokio::sync::oneshot;

use crate::container::ending::{end, give_up, remove_groups, remove_profile};
use crate::container::handed;
use crate::container::links::{self, Owner};
use crate::container::messages::{plain, step_failed};
use crate::container::plan::{HostFacts, host_interfaces, plan, plan_groups};
use crate::container::plan_devices::needs_usb;
use crate::container::stop;
use crate::engine::Engine;
use crate::engine::disks::{Counted, Noted, note};
use crate::engine::record::{ProcessRecord, Record};
use crate::host::apparmor::Label;
use crate::host::cgroups::{CgroupError, Groups};
use crate::host::idmap::Range;
use crate::host::limits::Limits;
use crate::host::limits::devices::{self, Numbers, device_number};
use crate::host::link::{self, CallError, Events, LaunchError, Newborn};
use crate::host::links::{Link, lent_to};
use crate::host::node;
use crate::host::pressure::Trigger;
use crate::host::process::{self, Process};
use crate::host::program::Program;
use crate::host::resources::LimitError;
use crate::host::usb;
use crate::killpoint;
use crate::paths::Layout;

/// What is to be started.
#[derive(Debug)]
pub struct Spec {
    /// The definition.
    pub domain: Arc<Domain>,
    /// What init gets as 3, 4, and so on.
    pub descriptors: Vec<OwnedFd>,
    /// The status record of a start that is under way.
    pub record: Record,
}

/// A container that runs.
#[derive(Debug)]
pub struct Launched {
    /// Its controller.
    pub process: Process,
    /// The same, as it is found again.
    pub process_record: ProcessRecord,
    /// What the controller says about it.
    pub status: ControllerStatus,
    /// What the controller will say.
    pub events: Events,
    /// The ids that were chosen for it.
    pub ids: Option<Range>,
    /// What it runs under.
    pub label: Option<Label>,
    /// The control group of its scope.
    pub scope: Option<String>,
    /// What its interfaces have on the host.
    pub links: Vec<Link>,
    /// The block devices that are limited.
    pub io_numbers: Numbers,
    /// The devices of its disks.
    pub disks: Noted,
    /// What tells of pressure.
    pub pressure: Vec<Trigger>,
}

/// Why nothing runs.
#[derive(Debug)]
pub enum StartError {
    /// A step failed.
    Step(StepFailure),
    /// Somebody wanted it destroyed meanwhile.
    Cancelled,
}

/// Why nothing runs, and what could not be undone.
#[derive(Debug)]
pub struct Undone {
    /// The cause.
    pub error: StartError,
    /// Leftovers, normally none.
    pub residue: Vec<String>,
}

/// Starts a domain, or leaves everything as it was.
pub async fn run(engine: &Engine, spec: Spec, cancel: oneshot::Receiver<()>) -> Result<Launched, Undone> {
    let prepared = match Prepared::make(engine, &spec).await {
        Ok(prepared) => prepared,
        Err(failure) => return Err(Undone { error: StartError::Step(failure), residue: Vec::new() }),
    };
    killpoint::reached("prepared");
    let confined = match prepared.confine(engine, spec.record).await {
        Ok(confined) => confined,
        Err((prepared, failure)) => {
            return Err(Undone { error: StartError::Step(failure), residue: prepared.undo(engine).await });
        }
    };
    killpoint::reached("profile");
    let confined = match confined.place(engine).await {
        Ok(confined) => confined,
        Err((confined, failure)) => {
            return Err(Undone { error: StartError::Step(failure), residue: confined.undo(engine).await });
        }
    };
    let grouped = match confined.group(engine).await {
        Ok(grouped) => grouped,
        Err((confined, failure)) => {
            return Err(Undone { error: StartError::Step(failure), residue: confined.undo(engine).await });
        }
    };
    killpoint::reached("cgroup");
    let mut linked = match grouped.link(engine).await {
        Ok(linked) => linked,
        Err((linked, failure)) => {
            return Err(Undone { error: StartError::Step(failure), residue: linked.undo(engine).await });
        }
    };
    killpoint::reached("linked");
    let launched = tokio::select! {
        launched = linked.launch(engine) => launched.map_err(StartError::Step),
        Ok(()) = cancel => Err(StartError::Cancelled),
    };
    match launched {
        Ok(status) => {
            killpoint::reached("launched");
            linked.confirm(engine, status).await
        }
        Err(error) => Err(Undone { error, residue: linked.undo(engine).await }),
    }
}

/// What a start is going to do, as far as it can be known before anything is there.
#[derive(Debug)]
struct Planned {
    groups: Groups,
    limits: Limits,
    io_numbers: Numbers,
    plan: LaunchPlan,
    descriptors: Vec<OwnedFd>,
    ids: Option<Range>,
    label: Option<Label>,
    links: Vec<Link>,
}

/// What needs nothing of the host yet but a socket, and a controller that waits for its plan.
#[derive(Debug)]
struct Prepared {
    name: String,
    domain: Arc<Domain>,
    socket: String,
    groups: Groups,
    limits: Limits,
    io_numbers: Numbers,
    pressure: PressureSettings,
    plan: LaunchPlan,
    descriptors: Vec<OwnedFd>,
    ids: Option<Range>,
    label: Option<Label>,
    links: Vec<Link>,
    newborn: Newborn,
    process: ProcessRecord,
}

impl Planned {
    async fn make(engine: &Engine, spec: &Spec) -> Result<Self, StepFailure> {
        let domain = &spec.domain;
        let ids = engine.ids_for(domain).await.map_err(|e| plain("ids", "choose ids", e))?;
        let label = choose_label(engine, domain).await?;
        let groups = engine.cgroups.of(domain.name.as_str(), domain.partition());
        let links = links::name_all(engine, domain).await.map_err(|e| links::failure(&e))?;
        let io_numbers = devices::of(domain, &device_number).map_err(|e| plain("limits", "set limits", e))?;
        let limits = Limits::of(domain, &io_numbers).map_err(|e| plain("limits", "set limits", e))?;
        check_pids(domain, ids.is_some()).map_err(|e| plain("limits", "set <berth:limits pids>", e))?;
        let usb = if needs_usb(domain) {
            let sysfs = Path::new("/sys");
            usb::list(sysfs).map_err(|e| step_failed("plan", "list USB devices in", Some(sysfs), &e))?
        } else {
            Vec::new()
        };
        let qemu_nbd = process::find_program("qemu-nbd");
        let release = node::release();
        let view = if domain.has_view() { handed::view_program(engine, domain) } else { None };
        let facts = HostFacts {
            view: view.is_some(),
            usb: &usb,
            qemu_nbd: qemu_nbd.as_deref(),
            release: release.as_deref(),
            layout: &engine.layout,
            groups: &groups,
            arch: &engine.host.arch,
            log_max_bytes: engine.config().console_log.max_bytes,
            log_keep: engine.config().console_log.keep,
            kill_at: killpoint::of_controller(),
            init_descriptors: spec.descriptors.len(),
            ids,
            profile: label.as_ref().map(|l| l.name.as_str()),
            links: &links,
        };
        let plan = plan(domain, &facts).map_err(|e| plain("plan", "make a plan", e.to_string()))?;
        let mut descriptors = handed::descriptors(engine, spec).map_err(|e| *e)?;
        descriptors.extend(view);
        Ok(Self { groups, limits, io_numbers, plan, descriptors, ids, label, links })
    }

    fn with(
        self,
        spec: &Spec,
        (socket, listener): (String, OwnedFd),
        (newborn, process): (Newborn, ProcessRecord),
    ) -> Prepared {
        let Self { groups, limits, io_numbers, plan, mut descriptors, ids, label, links } = self;
        descriptors.insert(0, listener);
        let domain = spec.domain.clone();
        let (name, pressure) = (domain.name.to_string(), domain.pressure_settings());
        Prepared {
            name,
            domain,
            socket,
            groups,
            limits,
            io_numbers,
            pressure,
            plan,
            descriptors,
            ids,
            label,
            links,
            newborn,
            process,
        }
    }
}

impl Prepared {
    /// The controller is spawned while the plan is made: it takes as long to come up. Until it is noted, it is ended by the
    /// loss of its connection, also if the daemon is killed.
    async fn make(engine: &Engine, spec: &Spec) -> Result<Self, StepFailure> {
        let (program, name) = (engine.controller.clone(), spec.domain.name.to_string());
        let log = engine.layout.controller_log(&name);
        let spawning = tokio::task::spawn_blocking(move || spawn(&program, &name, &log));
        let planned = Planned::make(engine, spec).await;
        let spawned = match spawning.await {
            Ok(spawned) => spawned.map_err(|failure| *failure),
            Err(e) => Err(plain("spawn", "run the controller", e.to_string())),
        };
        killpoint::reached("spawned");
        let (failure, newborn) = match (planned, spawned) {
            (Ok(planned), Ok((newborn, process))) => {
                let socket = Layout::socket_name(spec.domain.uuid);
                match engine.sockets.listen(&socket) {
                    Ok(listener) => return Ok(planned.with(spec, (socket, listener), (newborn, process))),
                    Err(e) => {
                        let path = engine.layout.controllers().join(&socket);
                        (step_failed("socket", "listen on", Some(&path), &e), newborn)
                    }
                }
            }
            (Err(failure), Ok((newborn, _))) => (failure, newborn),
            (Err(failure), Err(_)) | (Ok(_), Err(failure)) => return Err(failure),
        };
        for left in end(&newborn.process).await {
            tracing::warn!("domain '{}': {left}", spec.domain.name);
        }
        Err(failure)
    }

    async fn undo(self, engine: &Engine) -> Vec<String> {
        let mut residue = end(&self.newborn.process).await;
        if let Err(e) = engine.sockets.remove(&self.socket) {
            residue.push(format!("cannot remove the socket '{}': {e}", self.socket));
        }
        residue
    }

    /// The record comes first: a daemon that dies right behind it finds in there what to remove.
    async fn confine(self, engine: &Engine, mut record: Record) -> Result<Confined, (Self, StepFailure)> {
        record.label = self.label.clone();
        record.links.clone_from(&self.links);
        record.io_numbers.clone_from(&self.io_numbers);
        record.process = Some(self.process);
        if let Err(e) = engine.publisher.note(record.clone()).await {
            let path = engine.layout.record(record.uuid);
            return Err((self, step_failed("record", "write", Some(&path), &e)));
        }
        let Some(label) = self.label.clone() else { return Ok(Confined { prepared: self, record }) };
        let (profiles, host_ids, name) =
            (engine.profiles.clone(), self.plan.id_map.is_none(), label.name.clone());
        let domain = self.domain.clone();
        let loaded = tokio::task::spawn_blocking(move || profiles.load(&domain, &label, host_ids)).await;
        let failure = match loaded {
            Ok(Ok(())) => return Ok(Confined { prepared: self, record }),
            Ok(Err(e)) => profile_failed("load", &name, e.to_string()),
            Err(e) => profile_failed("load", &name, e.to_string()),
        };
        // The parser may have come as far as the kernel before it failed.
        drop(remove_profile(engine, self.label.as_ref()).await);
        Err((self, failure))
    }
}

/// What the domain is to run under.
async fn choose_label(engine: &Engine, domain: &Arc<Domain>) -> Result<Option<Label>, StepFailure> {
    let (profiles, domain) = (engine.profiles.clone(), domain.clone());
    let wanted = match domain.confinement() {
        Confinement::Label(name) => name,
        Confinement::Profile(profile) => profile.to_string(),
    };
    match tokio::task::spawn_blocking(move || profiles.choose(&domain)).await {
        Ok(Ok(label)) => Ok(label),
        Ok(Err(e)) => Err(profile_failed("use", &wanted, e.to_string())),
        Err(e) => Err(profile_failed("use", &wanted, e.to_string())),
    }
}

fn profile_failed(operation: &str, name: &str, detail: String) -> StepFailure {
    let operation = format!("{operation} the AppArmor profile");
    StepFailure { path: Some(name.to_owned()), ..plain("profile", &operation, detail) }
}

/// The profile is in the kernel, and the record says that a start is under way.
#[derive(Debug)]
struct Confined {
    prepared: Prepared,
    record: Record,
}

impl Confined {
    async fn undo(self, engine: &Engine) -> Vec<String> {
        let label = self.prepared.label.clone();
        // The controller ends first: what ran under the profile is gone then.
        let mut residue = self.prepared.undo(engine).await;
        residue.extend(remove_profile(engine, label.as_ref()).await);
        residue
    }

    /// Where systemd runs the host, a scope is made, with the controller as its first process, and the control groups
    /// will be in there. Where it cannot be had, they are where they always are.
    async fn place(mut self, engine: &Engine) -> Result<Self, (Self, StepFailure)> {
        let Some(systemd) = &engine.systemd else { return Ok(self) };
        let (domain, pid) = (&self.prepared.domain, self.prepared.process.pid);
        let made = systemd.make_scope(domain.name.as_str(), domain.uuid, domain.partition(), pid).await;
        match made {
            Ok(group) => {
                self.prepared.groups = engine.cgroups.of(&self.prepared.name, Some(&group));
                self.prepared.plan.cgroups = plan_groups(&self.prepared.groups);
                self.record.scope = Some(group);
            }
            Err(e) => tracing::warn!("domain '{}' has no scope: {e}", self.prepared.name),
        }
        // Before there is a group in it: a daemon that dies finds here where to look.
        if let Err(e) = engine.publisher.note(self.record.clone()).await {
            let path = engine.layout.record(self.record.uuid);
            return Err((self, step_failed("record", "write", Some(&path), &e)));
        }
        killpoint::reached("scope");
        Ok(self)
    }

    async fn group(self, engine: &Engine) -> Result<Grouped, (Self, StepFailure)> {
        let prepared = &self.prepared;
        let (cgroups, groups, limits) =
            (engine.cgroups.clone(), prepared.groups.clone(), prepared.limits.clone());
        let pressure = prepared.pressure;
        let policy = prepared.plan.memory_policy.as_ref().and(prepared.domain.numatune.as_ref());
        let policy = policy.and_then(|numa| numa.nodeset.clone());
        let member = self.record.scope.as_ref().and(self.record.process).map(|p| p.pid);
        let made = tokio::task::spawn_blocking(move || {
            cgroups.create(&groups, member).map_err(|e| Box::new(group_failure(&e)))?;
            let policy = policy.map_or(Ok(()), |nodes| check_policy(&groups, &nodes));
            let limited = policy.and_then(|()| {
                let armed = cgroups.limit(&groups, &limits);
                let armed = armed.and_then(|r| Ok((r, cgroups.arm_pressure(&groups, pressure)?)));
                armed.map_err(|e| Box::new(limit_failure(&e)))
            });
            // The groups are not yet anybody's to undo; what is left is met by the next start.
            limited.inspect_err(|_| drop(cgroups.remove(&groups)))
        });
        match made.await {
            Ok(Ok((remarks, triggers))) => {
                for remark in remarks {
                    tracing::warn!("domain '{}': {remark}", self.prepared.name);
                }
                Ok(Grouped { prepared: self.prepared, record: self.record, triggers })
            }
            Ok(Err(failure)) => Err((self, *failure)),
            Err(e) => Err((self, plain("cgroup", "make control groups", e.to_string()))),
        }
    }
}

fn group_failure(error: &CgroupError) -> StepFailure {
    step_failed("cgroup", error.operation, Some(&error.path), &error.cause)
}

fn limit_failure(error: &LimitError) -> StepFailure {
    let operation = format!("set <{}>: write '{}' to", error.element, error.value);
    step_failed("limits", &operation, Some(&error.path), &error.cause)
}

/// The first process of a container with ids of its own is made while another one holds these: the kernel would only say
/// "try again". What runs may be limited to one.
fn check_pids(domain: &Domain, own_ids: bool) -> Result<(), String> {
    match domain.limit_settings().pids {
        Some(pids) if own_ids && pids < 2 => {
            Err(format!("a container with ids of its own needs 2 to start, and it may have {pids}"))
        }
        _ => Ok(()),
    }
}

/// A memory policy of processes is set by init itself, by a call that leaves out what is not there.
fn check_policy(groups: &Groups, nodes: &str) -> Result<(), Box<StepFailure>> {
    let Some(missing) = groups.missing_nodes(nodes) else { return Ok(()) };
    let operation = format!("set the memory policy for the nodes '{nodes}' of <numatune>");
    Err(Box::new(plain("limits", &operation, missing)))
}

/// Control groups are there.
#[derive(Debug)]
struct Grouped {
    prepared: Prepared,
    record: Record,
    triggers: Vec<Trigger>,
}

impl Grouped {
    async fn undo(self, engine: &Engine) -> Vec<String> {
        let mut residue = remove_groups(engine, &self.prepared.groups).await;
        let Self { prepared, record, .. } = self;
        if residue.is_empty() {
            residue.extend(Confined { prepared, record }.undo(engine).await);
        } else {
            // Something may still run in there: not without its profile.
            residue.extend(prepared.undo(engine).await);
        }
        residue
    }

    /// What fails, fails with all that may be there by then.
    async fn link(mut self, engine: &Engine) -> Result<Linked, (Linked, StepFailure)> {
        let domain = self.prepared.domain.clone();
        let network = match self.network(engine).await {
            Ok(network) => network,
            Err(failure) => return Err((Linked { grouped: self }, failure)),
        };
        if let Err(failure) = self.borrow(engine, &domain, network.as_ref()).await {
            return Err((Linked { grouped: self }, failure));
        }
        for index in 0..self.prepared.links.len() {
            if let Err(failure) = self.link_one(engine, &domain, index, network.as_ref()).await {
                return Err((Linked { grouped: self }, failure));
            }
            killpoint::reached("linking");
        }
        self.prepared.plan.host_interfaces = host_interfaces(&domain, &self.prepared.links);
        Ok(Linked { grouped: self })
    }

    /// The container's network namespace, if links are to be made in it: moving one there takes longer than the rest of a
    /// start. Its controller makes it.
    async fn network(&mut self, engine: &Engine) -> Result<Option<OwnedFd>, StepFailure> {
        let prepared = &mut self.prepared;
        let none = prepared.links.is_empty() && lent_to(&prepared.domain).is_empty();
        if none || !engine.links.want_namespace() || shares_network(&prepared.domain) {
            return Ok(None);
        }
        let made = prepared.newborn.prepare_network(prepared.plan.id_map.clone()).await;
        made.map(Some).map_err(|e| prepared.refused(engine, e))
    }

    /// What interfaces of the host are is known before they are the container's, whose network namespace stays as long as it
    /// has them.
    async fn borrow(
        &self,
        engine: &Engine,
        domain: &Domain,
        network: Option<&OwnedFd>,
    ) -> Result<(), StepFailure> {
        let (lent, uuid) = (lent_to(domain), self.record.uuid);
        if lent.is_empty() {
            return Ok(());
        }
        let failed = |e| step_failed(links::STEP, "remember interfaces of", Some(Path::new("the host")), &e);
        engine.borrow(uuid, lent).await.map_err(failed)?;
        if let Some(network) = network {
            engine.hold_network(uuid, network.try_clone().map_err(failed)?);
        }
        Ok(())
    }

    async fn link_one(
        &mut self,
        engine: &Engine,
        domain: &Domain,
        index: usize,
        network: Option<&OwnedFd>,
    ) -> Result<(), StepFailure> {
        let Self { prepared, record, .. } = self;
        let owner = Owner { name: &prepared.name, uuid: record.uuid, domain: Some(domain) };
        let Some(interface) = links::interface_of(domain, &prepared.links[index].mac) else { return Ok(()) };
        let link = &mut prepared.links[index];
        for _ in 0..links::TRIES {
            match links::make(engine, owner, interface, link, network.map(AsFd::as_fd)).await {
                Ok(()) => return Ok(()),
                Err(e) if e.is_taken() => {
                    if !links::rename(engine, interface, link).await.map_err(|e| links::failure(&e))? {
                        return Err(links::failure(&e));
                    }
                }
                Err(e) => return Err(links::failure(&e)),
            }
            record.links[index] = link.clone();
            if let Err(e) = engine.publisher.note(record.clone()).await {
                return Err(step_failed("record", "write", Some(&engine.layout.record(record.uuid)), &e));
            }
        }
        let operation = format!("find a name for the interface '{}'", link.mac);
        Err(plain(links::STEP, &operation, "others were always faster".into()))
    }
}

/// The host ends of interfaces are there.
#[derive(Debug)]
struct Linked {
    grouped: Grouped,
}

impl Linked {
    async fn undo(self, engine: &Engine) -> Vec<String> {
        let (prepared, uuid) = (&self.grouped.prepared, self.grouped.record.uuid);
        let owner = Owner { name: &prepared.name, uuid, domain: None };
        // It may be at work with all of this.
        let lends = prepared.plan.host_interfaces.iter().any(|i| i.made != Some(true));
        let process = &prepared.newborn.process;
        let mut residue = if lends { give_up(process).await } else { end(process).await };
        residue.extend(links::release(engine, owner, &prepared.links).await);
        let name = prepared.name.clone();
        residue.extend(self.grouped.undo(engine).await);
        engine.give_back(uuid, &name, None).await;
        // One that was ready already has told how it ended.
        residue.extend(stop::forget(engine, uuid).await);
        residue
    }

    async fn launch(&mut self, engine: &Engine) -> Result<ControllerStatus, StepFailure> {
        let prepared = &mut self.grouped.prepared;
        let descriptors = link::borrow(&prepared.descriptors);
        let launched = prepared.newborn.launch(prepared.plan.clone(), &descriptors).await;
        launched.map_err(|e| prepared.refused(engine, e))
    }

    async fn confirm(mut self, engine: &Engine, status: ControllerStatus) -> Result<Launched, Undone> {
        if let Err(e) = self.grouped.prepared.newborn.subscribe().await {
            let error = StartError::Step(self.grouped.prepared.lost(engine, &e));
            return Err(Undone { error, residue: self.undo(engine).await });
        }
        let Grouped { prepared, record, triggers: pressure } = self.grouped;
        let Prepared { domain, ids, label, links, newborn, process: process_record, .. } = prepared;
        if shares_network(&domain) {
            engine.hold_network_of(record.uuid, status.init_pid).await;
        }
        let change = (None, domain.clone());
        let disks = note(&Noted::default(), change, process_record.pid, Counted::new(), None).await;
        let (process, events) = newborn.grown_up();
        let (scope, io_numbers) = (record.scope, record.io_numbers);
        Ok(Launched {
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
        })
    }
}

/// Whether its network namespace is another's too.
fn shares_network(domain: &Domain) -> bool {
    domain.namespace.iter().flat_map(|n| &n.shares).any(|share| share.kind == NamespaceKind::Net)
}

/// Runs a controller. Without a plan it ends by itself when the connection is dropped. Blocks until it has been executed.
fn spawn(program: &Program, name: &str, log: &Path) -> Result<(Newborn, ProcessRecord), Box<StepFailure>> {
    let newborn = link::spawn(program, name, log)
        .map_err(|e| Box::new(step_failed("spawn", "run", Some(program.path()), &e)))?;
    let pid = newborn.process.pid();
    let start = process::start_time(pid)
        .map_err(|e| Box::new(step_failed("spawn", "look at the controller", None, &e)))?;
    Ok((newborn, ProcessRecord { pid, start }))
}

impl Prepared {
    fn refused(&self, engine: &Engine, error: LaunchError) -> StepFailure {
        match error {
            LaunchError::Step(failure) => failure,
            LaunchError::Call(e) => self.lost(engine, &e),
        }
    }

    fn lost(&self, engine: &Engine, error: &CallError) -> StepFailure {
        let log = engine.layout.controller_log(&self.name);
        let mut failure = plain("controller", "set up the container", error.to_string());
        failure.detail = Some(format!("{error} (see '{}')", log.display()));
        failure
    }
}
