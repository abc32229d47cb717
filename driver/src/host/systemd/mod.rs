//! systemd as the host's service manager, and machined as its register of containers.
//!
//! Where systemd runs the host, each domain gets a scope of its own in a slice: the host's tools show and stop it, and
//! its controller is in no unit of the daemon's. Where it does not, or does not answer, nothing here is used and
//! containers run all the same. Every call has a deadline. Does not know what a domain is, nor what is in its groups.

mod machine;
mod names;
mod scope;

use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use uuid::Uuid;

pub use scope::ScopeError;

/// The folder that is there if systemd is the first process: sd_booted(3).
const BOOTED: &str = "/run/systemd/system";

/// Environment variable of tests: systemd is taken to run the host, if this is set.
const PRETEND: &str = "BERTH_TEST_PRETEND_SYSTEMD";

/// Longest time that one question may take.
const CALL: Duration = Duration::from_secs(5);

/// Longest time that a start waits for its scope, and a registration for machined, whatever it is that hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long no scopes are asked for after one that took too long: the starts after it need not wait as well.
const PAUSE: Duration = Duration::from_secs(30);

/// The service manager of the host.
#[derive(Debug)]
pub struct Systemd {
    tag: String,
    /// Made when it is first needed, and again when the bus was restarted.
    connection: Mutex<Option<zbus::Connection>>,
    /// When systemd last took too long.
    late: std::sync::Mutex<Option<Instant>>,
}

/// A container as the host's tools show it.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Its domain.
    pub domain: String,
    /// Its uuid.
    pub uuid: Uuid,
    /// Its init on the host.
    pub init: u32,
    /// Names of the host ends of its interfaces.
    pub interfaces: Vec<String>,
}

impl Systemd {
    /// The service manager, if systemd runs this host. A daemon with files of its own uses the system's bus only where
    /// it is told which that is. `tag` tells the machines of several daemons apart.
    pub fn find(tag: &str) -> Option<Self> {
        let booted = Path::new(BOOTED).is_dir() || std::env::var_os(PRETEND).is_some();
        let wanted = tag.is_empty() || std::env::var_os("DBUS_SYSTEM_BUS_ADDRESS").is_some();
        (booted && wanted).then(|| Self {
            tag: tag.to_owned(),
            connection: Mutex::default(),
            late: std::sync::Mutex::default(),
        })
    }

    /// The connection to the system's bus.
    async fn bus(&self) -> zbus::Result<zbus::Connection> {
        let mut held = self.connection.lock().await;
        if let Some(connection) = held.as_ref().filter(|c| !c.is_closed()) {
            return Ok(connection.clone());
        }
        let making = zbus::connection::Builder::system().method_timeout(CALL).build();
        let made = match tokio::time::timeout(CALL, making).await {
            Ok(made) => made?,
            Err(_) => {
                let late = format!("the bus did not answer within {} s", CALL.as_secs());
                return Err(zbus::Error::Failure(late));
            }
        };
        *held = Some(made.clone());
        Ok(made)
    }

    /// Registers a container with machined. The one of the same name before it, whose init has ended, goes first.
    /// Answers false where there is no machined.
    pub async fn register(&self, machine: &Machine) -> zbus::Result<bool> {
        let name = names::machine(&machine.domain, machine.uuid, &self.tag);
        let registering = async { machine::register(&self.bus().await?, &name, machine).await };
        let late = || Err(zbus::Error::Failure(format!("it did not answer within {} s", PATIENCE.as_secs())));
        tokio::time::timeout(PATIENCE, registering).await.unwrap_or_else(|_| late())
    }

    /// Makes the scope of a domain with one process in it, and answers where its control group is.
    pub async fn make_scope(
        &self,
        domain: &str,
        uuid: Uuid,
        partition: Option<&str>,
        pid: i32,
    ) -> Result<String, ScopeError> {
        let name = names::scope(&names::machine(domain, uuid, &self.tag), partition);
        let late = || self.late.lock().unwrap_or_else(PoisonError::into_inner);
        if late().is_some_and(|at| at.elapsed() < PAUSE) {
            return Err(ScopeError::NotAsked);
        }
        let begin = Instant::now();
        let making = async { scope::make(&self.bus().await?, &name, domain, pid).await };
        let made = tokio::time::timeout(PATIENCE, making).await.unwrap_or(Err(ScopeError::TimedOut));
        let waited = begin.elapsed() >= CALL && !matches!(made, Ok(_) | Err(ScopeError::Exists(_)));
        *late() = waited.then(Instant::now);
        made
    }
}
