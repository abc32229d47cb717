//! What everybody may see of a domain: a value that the domain's task publishes and that readers share.
//!
//! Does not know how it came about.

use std::sync::Arc;

use berth_domain::Domain;
use berth_domain::model::InterfaceSource;
use berth_schemas::domain::{Exit, Reason, State};
use berth_schemas::name::DomainName;
use uuid::Uuid;

use crate::engine::disks::Noted;
use crate::host::apparmor::Label;
use crate::host::idmap::Range;
use crate::host::limits::devices::Numbers;
use crate::host::links::Link;

/// One console of a running domain.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ConsoleInfo {
    /// "console0" and so on.
    pub device: String,
    /// Its PTY on the host.
    pub path: String,
}

/// What an active domain has and another has not.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Process id of the controller: the domain's id.
    pub id: i32,
    /// Process id of init on the host.
    pub init_pid: Option<i64>,
    /// When init was started, in microseconds of CLOCK_REALTIME.
    pub started_usec: i64,
    /// Restarts since the start.
    pub restarts: i64,
    /// Whether init has said that it is ready; none where it cannot.
    pub ready: Option<bool>,
    /// In the order of the definition.
    pub consoles: Vec<ConsoleInfo>,
    /// What runs.
    pub live: Arc<Domain>,
    /// The ids that were chosen for it.
    pub ids: Option<Range>,
    /// What it runs under, where the host has AppArmor.
    pub label: Option<Label>,
    /// The control group of its scope, where the service manager has made one.
    pub scope: Option<String>,
    /// What its interfaces have on the host.
    pub links: Vec<Link>,
    /// The block devices that are limited, as they were found.
    pub io_numbers: Numbers,
    /// The devices of its disks.
    pub disks: Noted,
}

impl Run {
    /// The name of an interface's end on the host; none of a macvlan, of which the host has nothing, and what is called like it
    /// there is another one.
    pub fn host_end<'a>(&self, link: &'a Link) -> Option<&'a str> {
        let mut all = self.live.devices.interfaces.iter();
        let is_pair = link.bridge.is_some()
            || all.any(|i| i.mac == link.mac && matches!(i.source, InterfaceSource::Ethernet { .. }));
        is_pair.then_some(&link.host)
    }

    /// Where its control groups are, unless that is the usual place.
    pub fn partition(&self) -> Option<&str> {
        self.scope.as_deref().or(self.live.partition())
    }
}

/// One domain at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Its name.
    pub name: DomainName,
    /// Its uuid.
    pub uuid: Uuid,
    /// Not yet, or no longer, known to anybody.
    pub hidden: bool,
    /// What it does.
    pub state: State,
    /// Why.
    pub reason: Reason,
    /// Whether it starts with the host.
    pub autostart: bool,
    /// While it is active.
    pub run: Option<Run>,
    /// The definition that is kept; none if the domain is transient.
    pub next: Option<Arc<Domain>>,
    /// How it ended last time.
    pub last_exit: Option<Exit>,
}

impl Snapshot {
    /// A domain nobody knows yet.
    pub fn hidden(name: DomainName, uuid: Uuid) -> Self {
        Self {
            name,
            uuid,
            hidden: true,
            state: State::Shutoff,
            reason: Reason::Unknown,
            autostart: false,
            run: None,
            next: None,
            last_exit: None,
        }
    }

    /// The running definition, or the kept one.
    pub fn current(&self) -> Option<&Arc<Domain>> {
        self.run.as_ref().map(|r| &r.live).or(self.next.as_ref())
    }

    /// Whether the next start uses something else than what runs.
    pub fn pending_change(&self) -> bool {
        matches!((&self.run, &self.next), (Some(run), Some(next)) if run.live != *next)
    }
}
