//! What the host end of an interface has to be: from its element, and from what its network answers. Pure.
//!
//! Does not know which names are taken, nor how anything is made.

use std::net::IpAddr;

use berth_domain::model::{
    Bandwidth, DirectMode, Interface, InterfaceSource, IpConfig, Rate, VirtualPort, Vlan, VlanMode, VlanTag,
    usual_prefix,
};

use super::bandwidth::{Bucket, Given};
use crate::network::Connection;

/// A hardware address.
pub type Mac = [u8; 6];

/// A link to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkSpec {
    /// Hardware address of the container's end.
    pub mac: Mac,
    /// Largest packet; none leaves it to the bridge or the device.
    pub mtu: Option<u32>,
    /// Whether it has a carrier.
    pub up: bool,
    /// What it is.
    pub kind: LinkKind,
}

/// Kinds of links.
#[derive(Debug, Clone, PartialEq)]
pub enum LinkKind {
    /// A pair.
    Pair(Box<Pair>),
    /// A macvlan of a device of the host.
    Macvlan {
        /// Name of the device.
        dev: String,
        /// How it talks to its neighbours.
        mode: DirectMode,
    },
}

/// The host end of a pair.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pair {
    /// The bridge that it is in.
    pub port: Option<Port>,
    /// Its addresses, lengths of prefixes and addresses of other ends.
    pub addresses: Vec<(IpAddr, u8, Option<IpAddr>)>,
    /// Routes through it.
    pub routes: Vec<HostRoute>,
    /// Limit into the container.
    pub inbound: Option<Bucket>,
    /// Limit out of the container.
    pub outbound: Option<Bucket>,
    /// What of these limits, or of others that its own have replaced, its network gives.
    pub given: Option<Box<Given>>,
}

/// A route of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostRoute {
    /// Network.
    pub network: IpAddr,
    /// Bits of it.
    pub prefix: u8,
    /// Where to.
    pub gateway: IpAddr,
    /// Preference.
    pub metric: Option<u32>,
}

/// A port of a bridge.
#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    /// Name of the bridge.
    pub bridge: String,
    /// Whether it reaches no other isolated port.
    pub isolated: bool,
    /// Whether a guest may have its own packets back, when they were translated for it.
    pub reflects: bool,
    /// Virtual LANs; none leaves the port as the bridge makes it.
    pub vlan: Option<Vlan>,
    /// The port of Open vSwitch that it is, instead of one of a bridge of the kernel.
    pub switch: Option<VirtualPort>,
}

/// One virtual LAN of a port of a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortVlan {
    /// Its number.
    pub id: u16,
    /// What comes without a tag belongs to it.
    pub native: bool,
    /// It leaves without a tag.
    pub untagged: bool,
}

/// What the interface of a domain needs on the host. `connection` is the answer of its network, if it is one of a
/// network.
pub fn spec(interface: &Interface, connection: Option<&Connection>) -> LinkSpec {
    let mut mtu = interface.mtu;
    let kind = match (&interface.source, connection) {
        (InterfaceSource::Direct { dev, mode }, _) => LinkKind::Macvlan { dev: dev.clone(), mode: *mode },
        (_, Some(Connection::Direct { dev, mode })) => LinkKind::Macvlan { dev: dev.clone(), mode: *mode },
        (_, Some(Connection::Bridge(port))) => {
            mtu = mtu.or(port.mtu);
            let own = Port {
                bridge: port.bridge.clone(),
                isolated: interface.isolated.or(port.isolated).unwrap_or(false),
                reflects: port.reflects,
                vlan: interface.vlan.clone().or_else(|| port.vlan.clone()),
                switch: interface.virtualport.clone().or_else(|| port.virtualport.clone()),
            };
            pair(Some(own), None, interface.bandwidth.as_ref(), port.bandwidth.as_ref())
        }
        (InterfaceSource::Bridge { bridge }, None) => {
            let own = Port {
                bridge: bridge.clone(),
                isolated: interface.isolated.unwrap_or(false),
                reflects: false,
                vlan: interface.vlan.clone(),
                switch: interface.virtualport.clone(),
            };
            pair(Some(own), None, interface.bandwidth.as_ref(), None)
        }
        (InterfaceSource::Ethernet { host }, None) => {
            pair(None, Some(host), interface.bandwidth.as_ref(), None)
        }
        (InterfaceSource::Network { .. } | InterfaceSource::Other(_), None) => {
            pair(None, None, interface.bandwidth.as_ref(), None)
        }
    };
    LinkSpec { mac: mac(&interface.mac), mtu, up: interface.link_up != Some(false), kind }
}

/// A pair. A direction that its own element does not limit has the limit of the network's class of ports, if that has one.
fn pair(
    port: Option<Port>,
    host: Option<&IpConfig>,
    own: Option<&Bandwidth>,
    given: Option<&Bandwidth>,
) -> LinkKind {
    let rate = |of: fn(&Bandwidth) -> Option<&Rate>| {
        own.and_then(of).or_else(|| given.and_then(of)).and_then(Bucket::of)
    };
    let address = |a: &berth_domain::model::IpAddress| {
        (a.address, a.prefix.unwrap_or_else(|| usual_prefix(a.address)), a.peer)
    };
    let route = |r: &berth_domain::model::Route| HostRoute {
        network: r.address,
        prefix: r.prefix_length(),
        gateway: r.gateway,
        metric: r.metric,
    };
    LinkKind::Pair(Box::new(Pair {
        port,
        addresses: host.iter().flat_map(|h| &h.addresses).map(address).collect(),
        routes: host.iter().flat_map(|h| &h.routes).map(route).collect(),
        inbound: rate(|b| b.inbound.as_ref()),
        outbound: rate(|b| b.outbound.as_ref()),
        given: Given::of(given),
    }))
}

/// The number of an address as text, which was checked when the document was read.
pub fn mac(text: &str) -> Mac {
    let mut mac = Mac::default();
    for (byte, part) in mac.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(part, 16).unwrap_or_default();
    }
    mac
}

/// A hardware address as documents have it.
pub fn mac_text(mac: &[u8]) -> String {
    mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// The address of the host end: as libvirt has it, so high that no bridge takes it for its own.
pub fn host_mac(mac: Mac) -> Mac {
    let mut host = mac;
    host[0] = if mac[0] == 0xfe { 0xfa } else { 0xfe };
    host
}

/// The virtual LANs of a port. One without `trunk` is that of an access port: everything of it is untagged outside.
pub fn port_vlans(vlan: &Vlan) -> Vec<PortVlan> {
    let access = vlan.trunk != Some(true) && vlan.tags.len() == 1;
    let one = |tag: &VlanTag| PortVlan {
        id: tag.id,
        native: access || tag.native_mode.is_some(),
        untagged: access || tag.native_mode == Some(VlanMode::Untagged),
    };
    vlan.tags.iter().map(one).collect()
}

/// Why an interface of a running domain cannot become another one, if it cannot: only what is on the host can change.
pub fn obstacle(before: &Interface, after: &Interface) -> Option<&'static str> {
    let kinds = (before.source.kind(), after.source.kind());
    let hosts = match (&before.source, &after.source) {
        (InterfaceSource::Ethernet { host: a }, InterfaceSource::Ethernet { host: b }) => a == b,
        (InterfaceSource::Direct { dev: a, mode: m }, InterfaceSource::Direct { dev: b, mode: n }) => {
            (a, m) == (b, n)
        }
        (InterfaceSource::Network { network: a, .. }, InterfaceSource::Network { network: b, .. }) => a == b,
        _ => true,
    };
    let checks = [
        (kinds.0 == kinds.1, "the type"),
        (hosts, "the source"),
        (before.mac == after.mac, "the hardware address"),
        (before.target == after.target, "the host name"),
        (before.guest == after.guest, "the guest name"),
        (before.ip == after.ip, "addresses and routes"),
        (before.mtu == after.mtu, "the mtu"),
        (before.virtualport == after.virtualport, "the virtual port"),
    ];
    checks.into_iter().find(|(same, _)| !same).map(|(_, what)| what)
}

#[cfg(test)]
mod test {
    use super::*;

    fn tags(trunk: Option<bool>, tags: &[(u16, Option<VlanMode>)]) -> Vlan {
        let tags = tags.iter().map(|(id, native_mode)| VlanTag { id: *id, native_mode: *native_mode });
        Vlan { trunk, tags: tags.collect(), extra: Default::default() }
    }

    #[test]
    fn the_host_end_has_an_address_of_its_own() {
        let inside = mac("52:54:00:0a:0b:0c");
        assert_eq!(inside, [0x52, 0x54, 0, 10, 11, 12]);
        assert_eq!(host_mac(inside), [0xfe, 0x54, 0, 10, 11, 12]);
        assert_ne!(host_mac(mac("fe:54:00:0a:0b:0c"))[0], 0xfe);
    }

    #[test]
    fn one_tag_is_an_access_port_and_several_are_a_trunk() {
        let vlan = |id, native, untagged| PortVlan { id, native, untagged };
        assert_eq!(port_vlans(&tags(None, &[(42, None)])), [vlan(42, true, true)]);
        assert_eq!(port_vlans(&tags(Some(true), &[(42, None)])), [vlan(42, false, false)]);
        let trunk = [(1, Some(VlanMode::Untagged)), (2, None), (3, Some(VlanMode::Tagged))];
        let expected = [vlan(1, true, true), vlan(2, false, false), vlan(3, true, false)];
        assert_eq!(port_vlans(&tags(Some(true), &trunk)), expected);
    }
}
