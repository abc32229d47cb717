//! A private bus with a service manager and a machined that only note what they are asked.
//!
//! They know what berthd may ask and answer as systemd 252 does. Scopes and machines are names here.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use zbus::object_server::SignalEmitter;
use zbus::{OwnedObjectPath, OwnedVariant};

/// What was asked.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// Scopes with their slice and their first process.
    pub scopes: BTreeMap<String, (String, u32)>,
    /// Machines with their leader.
    pub machines: BTreeMap<String, u32>,
    /// How often one was registered, and taken off.
    pub registered: (usize, usize),
}

type Shared = Arc<Mutex<Seen>>;

/// The bus; it ends with this.
pub struct Bus {
    daemon: Child,
    pub address: String,
    seen: Shared,
    runtime: tokio::runtime::Runtime,
    services: Option<zbus::Connection>,
}

impl Bus {
    pub fn start() -> Self {
        let mut daemon = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--nopidfile", "--print-address=1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("dbus-daemon (package dbus)");
        let mut address = String::new();
        let out = daemon.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut address).expect("an address");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let mut bus = Self {
            daemon,
            address: address.trim().to_owned(),
            seen: Shared::default(),
            runtime: runtime.expect("runtime"),
            services: None,
        };
        bus.serve(true);
        bus
    }

    /// Serves; without machined if that is not installed.
    pub fn serve(&mut self, machined: bool) {
        self.services = None;
        let (address, seen) = (self.address.clone(), self.seen.clone());
        let made = self.runtime.block_on(async move {
            let systemd = Systemd { seen: seen.clone(), jobs: 0 };
            let builder = zbus::connection::Builder::address(address.as_str())
                .serve_at("/org/freedesktop/systemd1", systemd)
                .serve_at("/org/freedesktop/machine1", Machined(seen))
                .name("org.freedesktop.systemd1");
            let builder = if machined { builder.name("org.freedesktop.machine1") } else { builder };
            builder.build().await
        });
        self.services = Some(made.expect("services"));
    }

    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    /// The service manager is done with a scope.
    pub fn forget(&self, scope: &str) {
        lock(&self.seen).scopes.remove(scope);
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn lock(seen: &Shared) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.freedesktop.systemd1")]
enum SystemdError {
    #[zbus(error)]
    ZBus(zbus::Error),
    UnitExists(String),
}

struct Systemd {
    seen: Shared,
    jobs: u32,
}

type Properties = Vec<(String, OwnedVariant)>;

fn path(text: String) -> OwnedObjectPath {
    OwnedObjectPath::try_from(text).expect("a path")
}

#[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
impl Systemd {
    async fn start_transient_unit(
        &mut self,
        name: String,
        mode: String,
        properties: Properties,
        _aux: Vec<(String, Properties)>,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
        #[zbus(object_server)] server: &zbus::ObjectServer,
    ) -> Result<OwnedObjectPath, SystemdError> {
        assert_eq!(mode, "fail");
        let get = |key: &str| {
            let found = properties.iter().find(|(k, _)| k == key);
            found.unwrap_or_else(|| panic!("{key} is missing")).1.try_clone().expect("cloned")
        };
        let slice = String::try_from(get("Slice")).expect("a text");
        let pids = Vec::<u32>::try_from(get("PIDs")).expect("pids");
        assert!(bool::try_from(get("Delegate")).expect("a bool"));
        assert_eq!(i32::try_from(get("KillSignal")).expect("a signal"), 23);
        if lock(&self.seen).scopes.contains_key(&name) {
            return Err(SystemdError::UnitExists(format!("Unit {name} already exists.")));
        }
        let group = format!("/{slice}/{name}");
        lock(&self.seen).scopes.insert(name.clone(), (slice, pids[0]));
        self.jobs += 1;
        drop(server.at(unit(&name), Scope(group)).await.map_err(SystemdError::ZBus)?);
        let job = path(format!("/org/freedesktop/systemd1/job/{}", self.jobs));
        // Of others' jobs first, more than a connection holds before somebody takes them.
        for _ in 0..200 {
            let other = path("/org/freedesktop/systemd1/job/999999".into());
            Self::job_removed(&emitter, 999_999, other, "x.service".into(), "failed".into()).await?;
        }
        Self::job_removed(&emitter, self.jobs, job.clone(), name, "done".into()).await?;
        Ok(job)
    }

    async fn get_unit(&self, name: String) -> OwnedObjectPath {
        path(unit(&name))
    }

    #[zbus(signal)]
    async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: OwnedObjectPath,
        unit: String,
        result: String,
    ) -> zbus::Result<()>;
}

fn unit(name: &str) -> String {
    let name: String =
        name.bytes().map(|b| if b.is_ascii_alphanumeric() { b as char } else { '_' }).collect();
    format!("/org/freedesktop/systemd1/unit/{name}")
}

struct Scope(String);

#[zbus::interface(name = "org.freedesktop.systemd1.Scope")]
impl Scope {
    #[zbus(property)]
    async fn control_group(&self) -> String {
        self.0.clone()
    }
}

#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.freedesktop.machine1")]
enum MachinedError {
    #[zbus(error)]
    ZBus(zbus::Error),
    MachineExists(String),
}

struct Machined(Shared);

#[zbus::interface(name = "org.freedesktop.machine1.Manager")]
impl Machined {
    #[expect(clippy::too_many_arguments, reason = "they are machined's")]
    async fn register_machine_with_network(
        &self,
        name: String,
        id: Vec<u8>,
        service: String,
        class: String,
        leader: u32,
        _root: String,
        _interfaces: Vec<i32>,
        #[zbus(object_server)] server: &zbus::ObjectServer,
    ) -> Result<OwnedObjectPath, MachinedError> {
        assert_eq!((id.len(), service.as_str(), class.as_str()), (16, "berth", "container"));
        {
            let mut seen = lock(&self.0);
            if seen.machines.contains_key(&name) {
                return Err(MachinedError::MachineExists(format!("Machine '{name}' already exists")));
            }
            seen.machines.insert(name.clone(), leader);
            seen.registered.0 += 1;
        }
        let at = machine(&name);
        let _ = server.remove::<Registered, _>(at.as_str()).await;
        server.at(at.as_str(), Registered(leader)).await?;
        Ok(path(at))
    }

    async fn unregister_machine(&self, name: String) {
        let mut seen = lock(&self.0);
        seen.machines.remove(&name);
        seen.registered.1 += 1;
    }

    async fn get_machine(&self, name: String) -> OwnedObjectPath {
        path(machine(&name))
    }
}

fn machine(name: &str) -> String {
    unit(name).replace("systemd1/unit", "machine1/machine")
}

struct Registered(u32);

#[zbus::interface(name = "org.freedesktop.machine1.Machine")]
impl Registered {
    #[zbus(property)]
    async fn leader(&self) -> u32 {
        self.0
    }
}
