//! Network interfaces.
//!
//! Does not know which networks, bridges and devices there are.

use std::net::IpAddr;

use super::{Extra, closed};
use crate::network::network_address;
use crate::tree::Pos;

closed! {
    /// The value of `type` of an interface.
    InterfaceKind {
        User = "user",
        Ethernet = "ethernet",
        Vhostuser = "vhostuser",
        Server = "server",
        Client = "client",
        Mcast = "mcast",
        Network = "network",
        Bridge = "bridge",
        Internal = "internal",
        Direct = "direct",
        Hostdev = "hostdev",
        Udp = "udp",
        Vdpa = "vdpa",
        Null = "null",
        Vds = "vds",
    }
}

closed! {
    /// How a direct interface talks to its neighbours.
    DirectMode { Vepa = "vepa", Bridge = "bridge", Private = "private", Passthrough = "passthrough" }
}

/// What the host end is attached to.
#[derive(Clone, Debug, PartialEq)]
pub enum InterfaceSource {
    /// A network of libvirt's.
    Network {
        /// Name.
        network: String,
        /// Group of ports.
        portgroup: Option<String>,
    },
    /// A bridge of the host.
    Bridge {
        /// Name.
        bridge: String,
    },
    /// Nothing: a pair whose host end may have addresses of its own.
    Ethernet {
        /// Addresses and routes of the host end.
        host: IpConfig,
    },
    /// An interface of the host.
    Direct {
        /// Name.
        dev: String,
        /// How it talks to its neighbours.
        mode: DirectMode,
    },
    /// A type that exists in libvirt and not for containers; its `<source>` is kept as unknown.
    Other(InterfaceKind),
}

impl InterfaceSource {
    /// The value of `type`.
    pub fn kind(&self) -> InterfaceKind {
        match self {
            Self::Network { .. } => InterfaceKind::Network,
            Self::Bridge { .. } => InterfaceKind::Bridge,
            Self::Ethernet { .. } => InterfaceKind::Ethernet,
            Self::Direct { .. } => InterfaceKind::Direct,
            Self::Other(kind) => *kind,
        }
    }
}

/// `<interface>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Interface {
    /// What the host end is attached to.
    pub source: InterfaceSource,
    /// Hardware address in lower case; made up at parse where the document has none.
    pub mac: String,
    /// Virtual LANs.
    pub vlan: Option<Vlan>,
    /// Port of a switch.
    pub virtualport: Option<VirtualPort>,
    /// Limits of throughput.
    pub bandwidth: Option<Bandwidth>,
    /// `<port isolated>`.
    pub isolated: Option<bool>,
    /// Addresses and routes inside.
    pub ip: IpConfig,
    /// Name of the host end.
    pub target: Option<String>,
    /// Name inside.
    pub guest: Option<String>,
    /// Model; without effect.
    pub model: Option<String>,
    /// Filter.
    pub filterref: Option<Filterref>,
    /// Link state.
    pub link_up: Option<bool>,
    /// Largest packet.
    pub mtu: Option<u32>,
    /// A name given by the user, which begins with `ua-`.
    pub alias: Option<String>,
    /// Where it stood.
    pub pos: Pos,
    /// What is unknown inside.
    pub extra: Extra,
}

/// Addresses and routes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IpConfig {
    /// Addresses.
    pub addresses: Vec<IpAddress>,
    /// Routes.
    pub routes: Vec<Route>,
}

/// Most addresses, and most routes, of one interface.
pub const MAX_ADDRESSES: usize = 256;

/// `<ip>`.
#[derive(Clone, Debug, PartialEq)]
pub struct IpAddress {
    /// Address.
    pub address: IpAddr,
    /// Length of the network's prefix; never 0.
    pub prefix: Option<u8>,
    /// Address of the other end.
    pub peer: Option<IpAddr>,
    /// What is unknown inside.
    pub extra: Extra,
}

/// `<route>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Network.
    pub address: IpAddr,
    /// Netmask, instead of a prefix.
    pub netmask: Option<IpAddr>,
    /// Length of the network's prefix.
    pub prefix: Option<u8>,
    /// Where to.
    pub gateway: IpAddr,
    /// Preference; never 0.
    pub metric: Option<u32>,
    /// What is unknown inside.
    pub extra: Extra,
}

impl Route {
    /// Length of the prefix. Without one it is the usual one, or the whole where that would leave bits of a host: the
    /// kernel takes no route to such a network, and an address of a host is what the document has.
    pub fn prefix_length(&self) -> u8 {
        if let Some(said) = self.prefix.or_else(|| self.netmask.map(bits)) {
            return said;
        }
        match usual_prefix(self.address) {
            usual if network_address(self.address, usual) == self.address => usual,
            _ if self.address.is_ipv6() => 128,
            _ => 32,
        }
    }
}

/// Of an address without one, as libvirt has it: the whole for "all addresses", the class of old for IPv4, 64 for IPv6.
pub fn usual_prefix(address: IpAddr) -> u8 {
    match address {
        any if any.is_unspecified() => 0,
        IpAddr::V4(v4) => match v4.octets()[0] {
            0..=127 => 8,
            128..=191 => 16,
            _ => 24,
        },
        IpAddr::V6(_) => 64,
    }
}

/// Bits of the network in a mask.
pub fn bits(mask: IpAddr) -> u8 {
    let ones = match mask {
        IpAddr::V4(v4) => v4.to_bits().leading_ones(),
        IpAddr::V6(v6) => v6.to_bits().leading_ones(),
    };
    u8::try_from(ones).unwrap_or(u8::MAX)
}

/// `<bandwidth>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bandwidth {
    /// Into the container.
    pub inbound: Option<Rate>,
    /// Out of the container.
    pub outbound: Option<Rate>,
    /// What is unknown inside.
    pub extra: Extra,
}

/// A limit of throughput in KiB per second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// On average.
    pub average: Option<u64>,
    /// At most.
    pub peak: Option<u64>,
    /// At least; only inbound.
    pub floor: Option<u64>,
    /// KiB that may go at peak rate.
    pub burst: Option<u64>,
}

closed! {
    /// How an untagged packet is treated.
    VlanMode { Tagged = "tagged", Untagged = "untagged" }
}

/// `<vlan>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Vlan {
    /// Several networks on one port.
    pub trunk: Option<bool>,
    /// Networks.
    pub tags: Vec<VlanTag>,
    /// What is unknown inside.
    pub extra: Extra,
}

/// One network of a `<vlan>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VlanTag {
    /// Number, 0 to 4095.
    pub id: u16,
    /// How an untagged packet is treated.
    pub native_mode: Option<VlanMode>,
}

/// `<virtualport>`.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualPort {
    /// Kind of switch.
    pub kind: Option<String>,
    /// Attributes of `<parameters>`.
    pub parameters: Vec<(String, String)>,
    /// What is unknown inside.
    pub extra: Extra,
}

/// `<filterref>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Filterref {
    /// Name of the filter.
    pub filter: String,
    /// Its parameters: name and value.
    pub parameters: Vec<(String, String)>,
    /// What is unknown inside.
    pub extra: Extra,
}
