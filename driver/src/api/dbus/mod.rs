//! D-Bus: the interfaces of libvirt-dbus at `/org/libvirt/LXC`, for desktop tools, and a few of our own beside them.
//!
//! A bus is a convenience: nothing waits for it, and that it is away, started anew or full is no concern of a domain.
//! Does not know what a domain may do when.

mod access;
mod bus;
mod call;
mod connect;
mod console;
mod domain;
mod error;
mod link;
mod methods;
mod network;
mod numbers;
mod objects;
mod parts;
mod properties;
mod signals;
mod stats;
mod ties;
mod tuning;
mod turns;
mod typed;

use std::ffi::OsStr;
use std::sync::Arc;

use serde::Deserialize;

use crate::engine::Engine;

/// This door, in the log.
const DOOR: &str = "D-Bus";

/// The name on the bus.
pub const NAME: &str = "org.libvirt";

/// Names the address of the system's bus.
const VARIABLE: &str = "DBUS_SYSTEM_BUS_ADDRESS";

/// The address of the system's bus where nothing else is said: D-Bus specification, "Well-known Message Bus Instances".
const SYSTEM: &str = "unix:path=/var/run/dbus/system_bus_socket";

/// Which bus.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Address {
    /// The system's, or the one that `DBUS_SYSTEM_BUS_ADDRESS` names.
    System,
    /// A certain one, in the form of the D-Bus specification: `unix:path=/run/bus`.
    At(String),
    /// None.
    None,
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "system" => Ok(Self::System),
            "none" => Ok(Self::None),
            at if at.contains(':') && at.parse::<zbus::Address>().is_ok() => Ok(Self::At(text)),
            _ => Err(format!("'{text}' is neither 'system', 'none', nor the address of a bus")),
        }
    }
}

impl Address {
    /// The bus of a daemon: what the settings say, else the system's; but a daemon with its files under a folder of its
    /// own goes there only if it is told so by `DBUS_SYSTEM_BUS_ADDRESS`.
    pub fn choose(settings: Option<&Self>, has_root: bool) -> Self {
        Self::choose_by(settings, has_root, std::env::var_os(VARIABLE).as_deref())
    }

    /// The same with the value of the variable; an empty one says nothing.
    fn choose_by(settings: Option<&Self>, has_root: bool, variable: Option<&OsStr>) -> Self {
        let is_empty = variable.is_some_and(OsStr::is_empty);
        let chosen = match settings {
            Some(address) => address.clone(),
            None if has_root && (is_empty || variable.is_none()) => Self::None,
            None => Self::System,
        };
        // The library takes an empty variable for an address.
        if chosen == Self::System && is_empty { Self::At(SYSTEM.to_owned()) } else { chosen }
    }
}

/// Serves on the bus until the daemon ends, from whenever the bus is there.
pub fn start(engine: Arc<Engine>, address: Address) {
    if address != Address::None {
        tokio::spawn(link::run(engine, address));
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn addresses() {
        let read = |text: &str| Address::try_from(text.to_owned());
        assert_eq!(read("system"), Ok(Address::System));
        assert_eq!(read("none"), Ok(Address::None));
        assert_eq!(read("unix:path=/run/bus"), Ok(Address::At("unix:path=/run/bus".into())));
        for bad in ["", "yes", "/run/bus"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_daemon_of_a_folder_goes_to_no_bus_by_itself() {
        let at = Address::At("unix:path=/x".into());
        assert_eq!(Address::choose(Some(&at), true), at);
        assert_eq!(Address::choose(Some(&Address::None), false), Address::None);
        let empty = Some(OsStr::new(""));
        assert_eq!(Address::choose_by(None, true, empty), Address::None);
        assert_eq!(Address::choose_by(None, false, empty), Address::At(SYSTEM.into()));
        assert_eq!(Address::choose_by(Some(&Address::System), true, empty), Address::At(SYSTEM.into()));
        assert_eq!(Address::choose_by(Some(&Address::None), false, empty), Address::None);
        assert_eq!(Address::choose_by(None, true, Some(OsStr::new("unix:path=/x"))), Address::System);
        if std::env::var_os("DBUS_SYSTEM_BUS_ADDRESS").is_none() {
            assert_eq!(Address::choose(None, true), Address::None);
            assert_eq!(Address::choose(None, false), Address::System);
        }
    }
}
