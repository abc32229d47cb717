//! What a network is: everything in the document that libvirt's network driver gives a meaning to, and the rest as
//! [`Extra`] at its place.
//!
//! The model holds values that have been checked one by one; that they fit together is `validate`'s matter. It does not
//! know XML syntax, the host, or what can be run.

use std::net::{IpAddr, Ipv4Addr};

use berth_schemas::name::DomainName;
use uuid::Uuid;

use crate::model::{Bandwidth, Extra, VirtualPort, Vlan, closed};
use crate::tree::{Element, Pos};

/// Most elements of one kind, such as `<host>`, in one network.
pub const MAX_ENTRIES: usize = 4096;
/// Most `<ip>`, `<route>`, `<portgroup>` and `<interface>` elements.
pub const MAX_PARTS: usize = 256;

/// A network's definition.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Name.
    pub name: DomainName,
    /// UUID; made up at parse where the document has none.
    pub uuid: Uuid,
    /// Whether guests may speak IPv6 to each other without an address of the host.
    pub ipv6: Option<bool>,
    /// Whether guests choose what their host end receives; kept, without effect.
    pub trust_guest_rx_filters: Option<bool>,
    /// One line about the network.
    pub title: Option<String>,
    /// More about it.
    pub description: Option<String>,
    /// `<metadata>` as it stands.
    pub metadata: Option<Element>,
    /// How it reaches the world; none is not at all.
    pub forward: Option<Forward>,
    /// The bridge.
    pub bridge: Option<Bridge>,
    /// Largest packet.
    pub mtu: Option<u32>,
    /// Where that stood.
    pub mtu_pos: Option<Pos>,
    /// Hardware address of the bridge in lower case; made up at parse where a bridge of ours has none.
    pub mac: Option<String>,
    /// DNS domain of the guests.
    pub domain: Option<DnsDomain>,
    /// Names.
    pub dns: Option<Dns>,
    /// Virtual LANs of all ports.
    pub vlan: Option<Vlan>,
    /// Where they stood.
    pub vlan_pos: Pos,
    /// Limits of throughput: of the network as a whole.
    pub bandwidth: Option<Bandwidth>,
    /// Where they stood.
    pub bandwidth_pos: Pos,
    /// `<port isolated>`.
    pub isolated: Option<bool>,
    /// Addresses of the host, and what is given to guests.
    pub ips: Vec<NetworkIp>,
    /// Routes of the host through this network.
    pub routes: Vec<NetworkRoute>,
    /// Port of a switch.
    pub virtualport: Option<VirtualPort>,
    /// Where that stood.
    pub virtualport_pos: Pos,
    /// Classes of interfaces.
    pub portgroups: Vec<Portgroup>,
    /// Where the document began.
    pub pos: Pos,
    /// What is unknown inside.
    pub extra: Extra,
}

closed! {
    /// How a network reaches the world.
    ForwardMode {
        Nat = "nat",
        Route = "route",
        Open = "open",
        Bridge = "bridge",
        Private = "private",
        Vepa = "vepa",
        Passthrough = "passthrough",
        Hostdev = "hostdev",
    }
}

/// `<forward>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// How.
    pub mode: ForwardMode,
    /// The first of the interfaces: where the network has a bridge of its own, the only one that packets may use.
    pub dev: Option<String>,
    /// `managed`, which only means something for devices of the host.
    pub managed: Option<bool>,
    /// What is translated to what.
    pub nat: Option<Nat>,
    /// Interfaces of the host that ports are made on; at most one where they are made in a bridge of the network's own.
    pub interfaces: Vec<String>,
    /// Where it stood.
    pub pos: Pos,
    /// What is unknown inside.
    pub extra: Extra,
}

/// `<nat>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Nat {
    /// Whether IPv6 is translated too.
    pub ipv6: Option<bool>,
    /// Source addresses, the first and the last.
    pub addresses: Option<(Ipv4Addr, Ipv4Addr)>,
    /// Source ports, the first and the last.
    pub ports: Option<(u16, u16)>,
    /// What is unknown inside.
    pub extra: Extra,
}

closed! {
    /// Who fills the bridge's table of addresses.
    MacTableManager { Kernel = "kernel", Libvirt = "libvirt" }
}

/// `<bridge>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bridge {
    /// Name; none is one that is free.
    pub name: Option<String>,
    /// Zone of a firewall; kept, without effect.
    pub zone: Option<String>,
    /// Spanning tree; on where the document says nothing.
    pub stp: Option<bool>,
    /// Seconds until a port forwards.
    pub delay: Option<u32>,
    /// Who fills the table of addresses.
    pub mac_table_manager: Option<MacTableManager>,
    /// Where it stood.
    pub pos: Pos,
    /// What is unknown inside.
    pub extra: Extra,
}

/// `<domain>` of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct DnsDomain {
    /// Name.
    pub name: String,
    /// Whether names in it that nobody has are not asked for elsewhere.
    pub local_only: Option<bool>,
    /// Whether libvirt tells systemd-resolved of it; kept only.
    pub register: Option<bool>,
    /// What is unknown inside.
    pub extra: Extra,
}

/// `<dns>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dns {
    /// Whether there is a server.
    pub enable: Option<bool>,
    /// Whether names without a dot are asked for elsewhere.
    pub forward_plain_names: Option<bool>,
    /// Whom to ask.
    pub forwarders: Vec<Forwarder>,
    /// TXT records.
    pub txts: Vec<DnsTxt>,
    /// SRV records.
    pub srvs: Vec<DnsSrv>,
    /// Addresses with names.
    pub hosts: Vec<DnsHost>,
    /// What is unknown inside.
    pub extra: Extra,
}

/// `<forwarder>`; at least one of both is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Forwarder {
    /// Server; none asks those of the host.
    pub addr: Option<IpAddr>,
    /// Only for names in this domain.
    pub domain: Option<String>,
    /// What is unknown inside.
    pub extra: Extra,
}

/// `<txt>`.
#[derive(Clone, Debug, PartialEq)]
pub struct DnsTxt {
    /// Name.
    pub name: String,
    /// Text.
    pub value: Option<String>,
    /// What is unknown inside.
    pub extra: Extra,
}

/// The target of a service that is not to be had.
pub const NOWHERE: &str = ".";

/// `<srv>`.
#[derive(Clone, Debug, PartialEq)]
pub struct DnsSrv {
    /// Service, without the underscore.
    pub service: String,
    /// Protocol, without the underscore.
    pub protocol: String,
    /// Domain.
    pub domain: Option<String>,
    /// Host.
    pub target: Option<String>,
    /// Port; never 0.
    pub port: Option<u16>,
    /// The lowest is tried first.
    pub priority: Option<u16>,
    /// Share among those of one priority.
    pub weight: Option<u16>,
    /// What is unknown inside.
    pub extra: Extra,
}

/// `<host>` of `<dns>`.
#[derive(Clone, Debug, PartialEq)]
pub struct DnsHost {
    /// Address; none only where one is to be taken away that has one of the names.
    pub ip: Option<IpAddr>,
    /// Its names; none only where one is to be taken away.
    pub hostnames: Vec<String>,
    /// What is unknown inside.
    pub extra: Extra,
}

/// `<ip>` of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkIp {
    /// Whether the document names the family.
    pub says_family: bool,
    /// Address of the host.
    pub address: IpAddr,
    /// Netmask, instead of a prefix.
    pub netmask: Option<Ipv4Addr>,
    /// Length of the network's prefix.
    pub prefix: Option<u8>,
    /// Whether addresses of the network that nobody has are not asked for elsewhere.
    pub local_ptr: Option<bool>,
    /// Folder of a TFTP server.
    pub tftp: Option<String>,
    /// What guests are given.
    pub dhcp: Option<Dhcp>,
    /// Where it stood.
    pub pos: Pos,
    /// What is unknown inside.
    pub extra: Extra,
}

impl NetworkIp {
    /// Length of the prefix; where the document has none, that of the address's class, or 64.
    pub fn prefix_length(&self) -> u8 {
        if let Some(prefix) = self.prefix {
            return prefix;
        }
        if let Some(mask) = self.netmask {
            return u8::try_from(u32::from(mask).leading_ones()).unwrap_or(32);
        }
        match self.address {
            IpAddr::V4(a) => match a.octets()[0] {
                0..128 => 8,
                128..192 => 16,
                _ => 24,
            },
            IpAddr::V6(_) => 64,
        }
    }

    /// Whether an address is of this network.
    pub fn contains(&self, other: IpAddr) -> bool {
        super::same_network(self.address, other, self.prefix_length())
    }
}

/// `<dhcp>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dhcp {
    /// Addresses to give.
    pub ranges: Vec<DhcpRange>,
    /// Guests with an address of their own.
    pub hosts: Vec<DhcpHost>,
    /// What to boot from a network: file and server.
    pub bootp: Option<(String, Option<String>)>,
    /// Where it stood.
    pub pos: Pos,
    /// What is unknown inside.
    pub extra: Extra,
}

/// `<range>`.
#[derive(Clone, Debug, PartialEq)]
pub struct DhcpRange {
    /// The first.
    pub start: IpAddr,
    /// The last.
    pub end: IpAddr,
    /// For how long.
    pub lease: Option<Lease>,
    /// Where it stood.
    pub pos: Pos,
    /// What is unknown inside.
    pub extra: Extra,
}

/// `<host>` of `<dhcp>`. A document of a part may have fewer members than a network needs.
#[derive(Clone, Debug, PartialEq)]
pub struct DhcpHost {
    /// Hardware address in lower case.
    pub mac: Option<String>,
    /// Client id, or DUID.
    pub id: Option<String>,
    /// Name.
    pub name: Option<String>,
    /// Address.
    pub ip: Option<IpAddr>,
    /// For how long.
    pub lease: Option<Lease>,
    /// Where it stood.
    pub pos: Pos,
    /// What is unknown inside.
    pub extra: Extra,
}

closed! {
    /// Unit of a lease's length.
    LeaseUnit { Seconds = "seconds", Minutes = "minutes", Hours = "hours" }
}

/// `<lease>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// How many; 0 is for ever.
    pub expiry: u32,
    /// Of what.
    pub unit: LeaseUnit,
}

/// `<route>` of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkRoute {
    /// Whether the document names the family.
    pub says_family: bool,
    /// Network.
    pub address: IpAddr,
    /// Netmask, instead of a prefix.
    pub netmask: Option<Ipv4Addr>,
    /// Length of the network's prefix.
    pub prefix: Option<u8>,
    /// Where to.
    pub gateway: IpAddr,
    /// Preference; never 0.
    pub metric: Option<u32>,
    /// Where it stood.
    pub pos: Pos,
    /// What is unknown inside.
    pub extra: Extra,
}

impl NetworkRoute {
    /// Length of the prefix; where the document has none, that of the address's class, or 64.
    pub fn prefix_length(&self) -> u8 {
        if self.prefix.is_none() && self.netmask.is_none() && self.address.is_unspecified() {
            return 0;
        }
        let ip = NetworkIp {
            says_family: false,
            address: self.address,
            netmask: self.netmask,
            prefix: self.prefix,
            local_ptr: None,
            tftp: None,
            dhcp: None,
            pos: self.pos,
            extra: Extra::default(),
        };
        ip.prefix_length()
    }
}

/// `<portgroup>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Portgroup {
    /// Name.
    pub name: String,
    /// Whether interfaces that name none are in it.
    pub default: Option<bool>,
    /// As for the network.
    pub trust_guest_rx_filters: Option<bool>,
    /// Virtual LANs.
    pub vlan: Option<Vlan>,
    /// Port of a switch.
    pub virtualport: Option<VirtualPort>,
    /// Limits of throughput.
    pub bandwidth: Option<Bandwidth>,
    /// `<port isolated>`.
    pub isolated: Option<bool>,
    /// Where it stood.
    pub pos: Pos,
    /// What is unknown inside.
    pub extra: Extra,
}
