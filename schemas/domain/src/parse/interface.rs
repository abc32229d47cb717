//! `<interface>`, and the addresses that a host device may have too.
//!
//! Does not know which networks, bridges and names are taken.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use uuid::Uuid;

use super::alias;
use crate::model::interface::MAX_ADDRESSES;
use crate::model::{
    Bandwidth, DirectMode, Filterref, Interface, InterfaceKind, InterfaceSource, IpAddress, IpConfig, Rate,
    Route, VirtualPort, Vlan, VlanTag, bits,
};
use crate::network::network_address;
use crate::tree::Element;
use crate::walk::Walk;

/// Most tags of a `<vlan>`, and most parameters of a filter.
const MAX_PARAMETERS: usize = 256;
/// What the kernel takes as the largest packet of a pair (`ETH_MIN_MTU`, `ETH_MAX_MTU`).
const MTU: std::ops::RangeInclusive<u32> = 68..=65535;
/// Folders of /proc/sys/net/ipv4/conf that are not of an interface: the kernel makes none of these names.
const RESERVED: [&str; 2] = ["all", "default"];
/// The most that libvirt's interface takes of a limit, which its documents go beyond.
pub const MAX_RATE: u64 = u32::MAX as u64;
/// Longest name of a network interface (`IFNAMSIZ` minus the final zero).
const MAX_IFNAME: usize = 15;

/// The interfaces of a document that have no address, so that one is made up.
pub(super) fn without_mac(root: &Element) -> Vec<usize> {
    let devices = root.elements().filter(|e| e.name == "devices");
    let interfaces = devices.flat_map(|d| d.elements().filter(|e| e.name == "interface"));
    interfaces.enumerate().filter(|(_, e)| !has_mac(e)).map(|(index, _)| index).collect()
}

/// Whether an interface says its address.
pub(crate) fn has_mac(interface: &Element) -> bool {
    interface.elements().any(|e| e.name == "mac")
}

pub(crate) fn interface(mut w: Walk<'_>) -> Interface {
    w.need("type");
    let kind = w.closed("type").unwrap_or(InterfaceKind::Null);
    if let Some(script) = w.one("script") {
        script.error_hint(
            "scripts are not possible on interfaces of containers",
            "name a <target dev> and set it up after start",
        );
        script.finish();
    }
    let source = source(&mut w, kind);
    let model = attribute_of(&mut w, "model", "type");
    let link_up = w.one("link").and_then(|mut link| {
        let state = link.switch("state", "up", "down");
        let extra = link.finish();
        w.keep("link", 0, extra);
        state
    });
    let isolated = w.one("port").and_then(|mut port| {
        let isolated = port.yes_no("isolated");
        let extra = port.finish();
        w.keep("port", 0, extra);
        isolated
    });
    let mtu = w.one("mtu").and_then(|mut mtu| {
        // As libvirt has it, 0 says nothing.
        let size = mtu.number("size").filter(|size| *size != 0);
        if let Some(size) = size.filter(|size| !MTU.contains(size)) {
            let (least, most) = (MTU.start(), MTU.end());
            mtu.error_at("size", format!("the mtu {size} is not one from {least} to {most}"));
        }
        let extra = mtu.finish();
        w.keep("mtu", 0, extra);
        size
    });
    Interface {
        source,
        mac: mac(&mut w),
        vlan: w.one("vlan").map(vlan),
        virtualport: w.one("virtualport").map(virtualport),
        bandwidth: w.one("bandwidth").map(bandwidth),
        isolated,
        ip: ip_config(&mut w),
        target: device_name(&mut w, "target"),
        guest: device_name(&mut w, "guest"),
        model,
        filterref: w.one("filterref").and_then(filterref),
        link_up,
        mtu,
        alias: alias(&mut w),
        pos: w.pos(),
        extra: w.finish(),
    }
}

fn source(w: &mut Walk<'_>, kind: InterfaceKind) -> InterfaceSource {
    if let InterfaceKind::Ethernet = kind {
        let host = w.one("source").map(|mut child| {
            let host = ip_config(&mut child);
            let extra = child.finish();
            w.keep("source", 0, extra);
            host
        });
        return InterfaceSource::Ethernet { host: host.unwrap_or_default() };
    }
    let attribute = match kind {
        InterfaceKind::Network => "network",
        InterfaceKind::Bridge => "bridge",
        InterfaceKind::Direct => "dev",
        other => return InterfaceSource::Other(other),
    };
    let Some(mut child) = w.one("source") else {
        w.error(format!("an interface of type '{kind}' needs a <source {attribute}='...'/>"));
        return InterfaceSource::Other(kind);
    };
    let value = child.get(attribute).filter(|v| !v.is_empty());
    if value.is_none() {
        let message = format!("the attribute '{attribute}' is missing, which type '{kind}' needs");
        match child.el.attrs.iter().find(|a| ["network", "bridge", "dev"].contains(&a.name.as_str())) {
            Some(other) if other.name != attribute => {
                child.error_hint(message, format!("did you mean <source {attribute}='{}'/>?", other.value));
            }
            _ => child.error(message),
        }
    }
    let value = value.unwrap_or_default();
    if kind != InterfaceKind::Network && !value.is_empty() {
        check_name(&child, attribute, &value);
    }
    let source = match kind {
        InterfaceKind::Network => {
            // A port and a bridge that a running domain got.
            child.get("portid");
            child.get("bridge");
            InterfaceSource::Network { network: value, portgroup: child.get("portgroup") }
        }
        InterfaceKind::Bridge => InterfaceSource::Bridge { bridge: value },
        _ => {
            let mode = child.closed("mode").unwrap_or(DirectMode::Vepa);
            InterfaceSource::Direct { dev: value, mode }
        }
    };
    let extra = child.finish();
    w.keep("source", 0, extra);
    source
}

/// The address, or a made-up one with libvirt's prefix, so that it stays the same over all starts.
fn mac(w: &mut Walk<'_>) -> String {
    let fresh = || {
        let random = Uuid::new_v4().into_bytes();
        format!("52:54:00:{:02x}:{:02x}:{:02x}", random[0], random[1], random[2])
    };
    let Some(mut child) = w.one("mac") else { return fresh() };
    let given = child.need("address");
    let mac = given.clone().unwrap_or_else(fresh).to_ascii_lowercase();
    let parts: Vec<Option<u8>> = mac.split(':').map(octet).collect();
    if parts.len() != 6 || parts.contains(&None) {
        child.error_at("address", format!("'{}' is not a hardware address", mac.escape_debug()));
    } else if parts[0].is_some_and(|first| first & 1 == 1) {
        child.error_at(
            "address",
            format!("'{mac}' is an address for many, an interface needs one of its own"),
        );
    } else if parts.iter().all(|p| *p == Some(0)) {
        child.error_at("address", "the hardware address is all zeros");
    }
    let extra = child.finish();
    w.keep("mac", 0, extra);
    let full: Vec<String> = parts.iter().flatten().map(|octet| format!("{octet:02x}")).collect();
    full.join(":")
}

/// A hardware address as documents have it, with two digits of lower case in each part; none where it is not one.
pub fn canonical_mac(text: &str) -> Option<String> {
    let parts: Option<Vec<u8>> = text.split(':').map(octet).collect();
    let parts = parts.filter(|p| p.len() == 6)?;
    Some(parts.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().join(":"))
}

pub(crate) fn octet(text: &str) -> Option<u8> {
    let digits = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    if digits { u8::from_str_radix(text, 16).ok() } else { None }
}

/// Whether the kernel takes it as the name of an interface. In one with a `%` it would put a number.
fn check_name(w: &Walk<'_>, attribute: &str, name: &str) {
    let bad = |c: char| matches!(c, '/' | ':' | '%') || c.is_whitespace() || c.is_control();
    if name.len() > MAX_IFNAME || name == "." || name == ".." || name.contains(bad) {
        let message =
            format!("'{}' is not a name of an interface (1 to {MAX_IFNAME} bytes)", name.escape_debug());
        w.error_at(attribute, message);
    } else if RESERVED.contains(&name) {
        w.error_at(attribute, format!("no interface can be called '{name}': the kernel keeps that name"));
    }
}

/// Whether a host name came from a running domain, and says nothing.
fn is_generated(name: &str) -> bool {
    let rest = ["vnet", "macvlan"].into_iter().find_map(|prefix| name.strip_prefix(prefix));
    rest.is_some_and(|rest| rest.parse::<u32>().is_ok())
}

/// The `dev` of `<target>` or `<guest>`.
pub(super) fn device_name(w: &mut Walk<'_>, element: &str) -> Option<String> {
    let mut child = w.one(element)?;
    // The name that a running domain got.
    child.get("actual");
    let name = child.get("dev").filter(|n| !n.is_empty());
    if let Some(name) = &name {
        check_name(&child, "dev", name);
        // On either side it is there already.
        if name == "lo" {
            child.error_at("dev", "no interface can be called 'lo': that is the loopback interface");
        }
    }
    let extra = child.finish();
    w.keep(element, 0, extra);
    name.filter(|n| element != "target" || !is_generated(n))
}

fn attribute_of(w: &mut Walk<'_>, element: &str, attribute: &str) -> Option<String> {
    let mut child = w.one(element)?;
    let value = child.get(attribute).filter(|v| !v.is_empty());
    let extra = child.finish();
    w.keep(element, 0, extra);
    value
}

pub(super) fn ip_config(w: &mut Walk<'_>) -> IpConfig {
    IpConfig {
        addresses: w.all("ip", MAX_ADDRESSES).into_iter().filter_map(address).collect(),
        routes: w.all("route", MAX_ADDRESSES).into_iter().filter_map(route).collect(),
    }
}

pub(crate) fn ip(w: &mut Walk<'_>, name: &str) -> Option<IpAddr> {
    let text = w.get(name)?;
    let found = text.parse().ok();
    if found.is_none() {
        w.error_at(name, format!("{name} '{}' is not an address", text.escape_debug()));
    }
    found
}

/// `family` says nothing that the address does not, but must not contradict it.
fn family(w: &mut Walk<'_>, address: IpAddr) {
    if let Some(v6) = w.switch("family", "ipv6", "ipv4")
        && v6 != address.is_ipv6()
    {
        w.error_at("family", format!("the address '{address}' is not of that family"));
    }
}

pub(crate) fn prefix(w: &mut Walk<'_>, address: IpAddr) -> Option<u8> {
    let prefix = w.number::<u8>("prefix")?;
    let most = if address.is_ipv6() { 128 } else { 32 };
    if prefix > most {
        w.error_at("prefix", format!("the prefix {prefix} is over {most}"));
    }
    Some(prefix)
}

fn address(mut w: Walk<'_>) -> Option<IpAddress> {
    w.need("address")?;
    let address = ip(&mut w, "address")?;
    family(&mut w, address);
    let prefix = prefix(&mut w, address).filter(|p| *p > 0);
    let peer = ip(&mut w, "peer");
    Some(IpAddress { address, prefix, peer, extra: w.finish() })
}

/// The mask of all bits, of the same family.
fn whole(mask: IpAddr) -> IpAddr {
    if mask.is_ipv6() { Ipv6Addr::from(u128::MAX).into() } else { Ipv4Addr::BROADCAST.into() }
}

fn route(mut w: Walk<'_>) -> Option<Route> {
    w.need("address")?;
    w.need("gateway")?;
    let address = ip(&mut w, "address")?;
    let gateway = ip(&mut w, "gateway")?;
    family(&mut w, address);
    let netmask = ip(&mut w, "netmask");
    let prefix = prefix(&mut w, address);
    if netmask.is_some() && prefix.is_some() {
        w.error("a route has a netmask or a prefix, not both");
    }
    if [Some(gateway), netmask].into_iter().flatten().any(|other| other.is_ipv6() != address.is_ipv6()) {
        w.error("the addresses of a route must be of one family");
    }
    let mask = netmask.filter(|mask| mask.is_ipv6() == address.is_ipv6());
    if let Some(mask) = mask.filter(|mask| network_address(whole(*mask), bits(*mask)) != *mask) {
        w.error_at("netmask", format!("'{mask}' is not a netmask"));
    } else if let Some(said) = prefix.or_else(|| mask.map(bits))
        && network_address(address, said) != address
    {
        w.error_at("address", format!("'{address}' is not the address of a network with the prefix {said}"));
    }
    let metric = w.number("metric").filter(|m| *m > 0);
    Some(Route { address, netmask, prefix, gateway, metric, extra: w.finish() })
}

pub(crate) fn bandwidth(mut w: Walk<'_>) -> Bandwidth {
    let mut rate = |element: &str| {
        let mut child = w.one(element)?;
        let rate = Rate {
            average: child.number("average"),
            peak: child.number("peak"),
            floor: child.number("floor"),
            burst: child.number("burst"),
        };
        if rate.average.is_none() && rate.floor.is_none() {
            child.error("the attribute 'average' is missing");
        }
        if let (Some(peak), Some(average)) = (rate.peak.filter(|p| *p > 0), rate.average)
            && peak < average
        {
            child.warn_at(
                "peak",
                format!("the peak {peak} is below the average {average}, and without effect"),
            );
        }
        for (name, value) in
            [("average", rate.average), ("peak", rate.peak), ("floor", rate.floor), ("burst", rate.burst)]
        {
            if value.is_some_and(|v| v > MAX_RATE) {
                child.warn_at(
                    name,
                    format!("the {name} is over {MAX_RATE}, the most that can be set in what runs"),
                );
            }
        }
        if rate.floor.is_some() && element == "outbound" {
            child.error_at("floor", "a floor is only possible inbound");
        }
        let extra = child.finish();
        w.keep(element, 0, extra);
        Some(rate)
    };
    let (inbound, outbound) = (rate("inbound"), rate("outbound"));
    Bandwidth { inbound, outbound, extra: w.finish() }
}

pub(crate) fn vlan(mut w: Walk<'_>) -> Vlan {
    let mut tags = Vec::new();
    let trunk = w.yes_no("trunk");
    for mut child in w.all("tag", MAX_PARAMETERS) {
        child.need("id");
        let id = child.number::<u16>("id").unwrap_or(0);
        if id > 4095 {
            child.error_at("id", format!("the id {id} is over 4095"));
        }
        let native_mode = child.closed("nativeMode");
        let extra = child.finish();
        w.keep("tag", tags.len(), extra);
        tags.push(VlanTag { id, native_mode });
    }
    if tags.is_empty() {
        w.error("the element 'tag' is missing");
    }
    // libvirt calls several networks a trunk, said or not.
    let trunk = trunk.filter(|t| *t).or((tags.len() > 1).then_some(true));
    Vlan { trunk, tags, extra: w.finish() }
}

pub(crate) fn virtualport(mut w: Walk<'_>) -> VirtualPort {
    let kind = w.get("type");
    let mut parameters = Vec::new();
    if let Some(mut child) = w.one("parameters") {
        let names: Vec<String> =
            child.el.attrs.iter().map(|a| a.name.clone()).filter(|n| !n.contains(':')).collect();
        for name in names {
            let value = child.get(&name).unwrap_or_default();
            parameters.push((name, value));
        }
        let extra = child.finish();
        w.keep("parameters", 0, extra);
    }
    VirtualPort { kind, parameters, extra: w.finish() }
}

fn filterref(mut w: Walk<'_>) -> Option<Filterref> {
    let filter = w.need("filter")?;
    let mut parameters = Vec::new();
    for mut child in w.all("parameter", MAX_PARAMETERS) {
        let pair = (child.need("name"), child.need("value"));
        let extra = child.finish();
        if let (Some(name), Some(value)) = pair {
            w.keep("parameter", parameters.len(), extra);
            parameters.push((name, value));
        }
    }
    Some(Filterref { filter, parameters, extra: w.finish() })
}
