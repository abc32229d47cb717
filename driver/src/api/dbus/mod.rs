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
mod properties;
mod signals;
mod stats;
mod tuning;
mod turns;
mod typed;

use std::sync::Arc;

use serde::Deserialize;

use crate::engine::Engine;

/// The name on the bus.
pub const NAME: &str = "org.libvirt";

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
        let told = std::env::var_os("DBUS_SYSTEM_BUS_ADDRESS").is_some();
        match settings {
            Some(address) => address.clone(),
            None if has_root && !told => Self::None,
            None => Self::System,
        }
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
        if std::env::var_os("DBUS_SYSTEM_BUS_ADDRESS").is_none() {
            assert_eq!(Address::choose(None, true), Address::None);
            assert_eq!(Address::choose(None, false), Address::System);
        }
    }
}
