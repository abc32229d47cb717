//! Virtual networks: what an interface of `type='network'` becomes.
//!
//! Does not know how interfaces are made, nor who owns a container.

use berth_domain::model::{Bandwidth, DirectMode, VirtualPort, Vlan};
use uuid::Uuid;

/// All virtual networks of one daemon.
#[derive(Debug, Default)]
pub struct Networks {}

/// One interface of one running domain, as a network knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Port {
    /// Whose it is.
    pub domain: Uuid,
    /// Name of the domain: what other guests may know it by.
    pub name: String,
    /// Hardware address in lower case.
    pub mac: String,
}

/// What the interface of a port has to be connected to. What the interface's own element says goes before.
#[derive(Debug, Clone, PartialEq)]
pub enum Connection {
    /// A pair whose host end is in a bridge.
    Bridge(Box<BridgePort>),
    /// A macvlan of an interface of the host.
    Direct {
        /// Name of that interface.
        dev: String,
        /// How it talks to its neighbours.
        mode: DirectMode,
    },
}

/// A port of a bridge.
#[derive(Debug, Clone, PartialEq)]
pub struct BridgePort {
    /// Name of the bridge.
    pub bridge: String,
    /// Largest packet.
    pub mtu: Option<u32>,
    /// Whether isolated ports cannot talk to each other.
    pub isolated: Option<bool>,
    /// Virtual LANs.
    pub vlan: Option<Vlan>,
    /// Limits of throughput.
    pub bandwidth: Option<Bandwidth>,
    /// Port of a switch.
    pub virtualport: Option<VirtualPort>,
}

/// Why a port cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// No network of that name.
    #[error("network '{0}' not found")]
    NotFound(String),
}

impl Networks {
    /// Takes a port of a network, which is started if it is one that starts when needed. The same port taken again is
    /// the same port: a restarted daemon takes the ports of all domains that run.
    pub async fn plug(
        &self,
        network: &str,
        _portgroup: Option<&str>,
        _port: &Port,
    ) -> Result<Connection, NetworkError> {
        Err(NetworkError::NotFound(network.to_owned()))
    }

    /// Gives a port back. One that is not there is no error.
    pub async fn unplug(&self, _network: &str, _port: &Port) {}
}
