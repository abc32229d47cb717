//! Confinement of containers: which profile a domain gets on this host, and that it is in the kernel while it is needed.
//!
//! Does not know what profiles say, nor when a domain starts or stops. Where the host has no AppArmor, nothing is
//! confined, and only who names a profile is told.

use berth_apparmor::load::{Host, LoadError};
use berth_apparmor::render::{self, Profile};
use berth_apparmor::{Variant, name};
use berth_domain::Domain;
use berth_domain::apparmor::{ApparmorProfile, Confinement, MODEL};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What the kernel calls no profile at all.
const UNCONFINED: &str = "unconfined";

/// Environment variable of tests: a folder that is the kernel's interface, with a parser in it; empty for no AppArmor.
const PRETEND: &str = "BERTH_TEST_PRETEND_APPARMOR";

/// What a container runs under.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// The profile's name.
    pub name: String,
    /// Whether what it does not allow is refused.
    pub enforcing: bool,
    /// Loaded for this domain, and to be removed.
    pub own: bool,
}

/// Why a domain has no label.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// The document names one, and the host has no AppArmor.
    #[error("the host has no AppArmor, or it is switched off")]
    NoAppArmor,
    /// The document names one that nobody has loaded.
    #[error("no such profile is loaded")]
    NotLoaded,
    /// A template of ours.
    #[error("{0}")]
    Template(String),
    /// Loading or asking.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Profiles of this daemon's containers.
#[derive(Debug, Clone)]
pub struct Profiles {
    host: Option<Host>,
    tag: String,
}

impl Profiles {
    /// Looks at the host. `tag` tells the daemons of a host apart.
    pub fn find(tag: &str) -> Self {
        let pretended = std::env::var_os(PRETEND).map(std::path::PathBuf::from);
        let host = match pretended {
            Some(folder) if folder.as_os_str().is_empty() => None,
            Some(folder) => Some(Host::at(&folder, &folder.join("parser"))),
            None => Host::find(),
        };
        Self { host, tag: tag.to_owned() }
    }

    /// The name of the security module, if the host has it.
    pub fn model(&self) -> Option<&'static str> {
        self.host.as_ref().map(|_| MODEL)
    }

    /// What a domain is to run under; none where the host has no AppArmor. Blocks.
    pub fn choose(&self, domain: &Domain) -> Result<Option<Label>, ConfineError> {
        let wanted = domain.confinement();
        let Some(host) = &self.host else {
            return match wanted {
                Confinement::Label(_) => Err(ConfineError::NoAppArmor),
                Confinement::Profile(_) => Ok(None),
            };
        };
        Ok(Some(match wanted {
            Confinement::Label(name) => {
                let mode = host.mode_of(&name)?.ok_or(ConfineError::NotLoaded)?;
                Label { name, enforcing: matches!(mode.as_str(), "enforce" | "kill"), own: false }
            }
            Confinement::Profile(ApparmorProfile::Unconfined) => {
                Label { name: UNCONFINED.into(), enforcing: false, own: false }
            }
            Confinement::Profile(_) => {
                let name = name::of_container(&self.tag, &domain.uuid.to_string());
                Label { name, enforcing: true, own: true }
            }
        }))
    }

    /// Loads the profile of a domain, if it has one of its own. `host_ids`: root inside is root outside. Blocks.
    pub fn load(&self, domain: &Domain, label: &Label, host_ids: bool) -> Result<(), ConfineError> {
        let variant = match domain.confinement() {
            Confinement::Profile(ApparmorProfile::Default) => Variant::Default,
            Confinement::Profile(ApparmorProfile::Nesting) => Variant::Nesting,
            Confinement::Profile(ApparmorProfile::Mounting) => Variant::Mounting,
            Confinement::Profile(ApparmorProfile::Unconfined) | Confinement::Label(_) => return Ok(()),
        };
        let Some(host) = self.host.as_ref().filter(|_| label.own) else { return Ok(()) };
        let profile = Profile { name: &label.name, variant, host_ids };
        let text = render::container(&profile).map_err(ConfineError::Template)?;
        Ok(host.load(&label.name, &text)?)
    }

    /// Removes the profile of a domain whose processes are gone. Blocks.
    pub fn remove(&self, label: &Label) -> Result<(), LoadError> {
        match &self.host {
            Some(host) if label.own => host.remove(&label.name),
            _ => Ok(()),
        }
    }

    /// Removes profiles of this daemon's containers that do not run; their uuids. Blocks.
    pub fn sweep(&self, runs: impl Fn(Uuid) -> bool) -> Result<Vec<Uuid>, LoadError> {
        let Some(host) = &self.host else { return Ok(Vec::new()) };
        let mut swept = Vec::new();
        for profile in host.loaded()? {
            let uuid = name::container_of(&self.tag, &profile.name).and_then(|u| Uuid::parse_str(u).ok());
            if let Some(uuid) = uuid.filter(|u| !runs(*u)) {
                host.remove(&profile.name)?;
                swept.push(uuid);
            }
        }
        Ok(swept)
    }
}
