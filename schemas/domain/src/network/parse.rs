//! A network's tree into the model.
//!
//! Does not know which bridges, interfaces and other networks there are.

use std::net::{IpAddr, Ipv4Addr};

use berth_schemas::name::DomainName;
use uuid::Uuid;

use super::model::{
    Bridge, Dhcp, DhcpHost, DhcpRange, Dns, DnsDomain, DnsHost, DnsSrv, DnsTxt, Forward, ForwardMode,
    Forwarder, Lease, LeaseUnit, MAX_ENTRIES, MAX_PARTS, NOWHERE, Nat, Network, NetworkIp, NetworkRoute,
    Portgroup,
};
use super::{Part, PartKind};
use crate::model::Closed;
use crate::parse::interface::{bandwidth, octet, prefix, virtualport, vlan};
use crate::parse::{identity, metadata, name, title};
use crate::tree::Pos;
use crate::walk::Walk;

/// Longest name of a network interface (`IFNAMSIZ` minus the final zero).
const MAX_IFNAME: usize = 15;
/// What has a meaning of its own in the configuration of dnsmasq.
const NOT_FOR_DNSMASQ: [char; 4] = ['*', ',', '"', '\\'];
/// How long a name and the text of its record can be together: dnsmasq reads 1024 bytes of a line.
const MAX_RECORD: usize = 1000;
/// Longest id of a client. One of IPv6 is of 130 bytes at most, which are written in two digits and a colon each.
const MAX_ID: usize = 600;
/// Longest name of DNS.
const MAX_NAME: usize = 253;
/// Names below `/proc/sys/net/ipv4/conf` that are none of an interface, which the kernel lets none have.
const KERNELS_NAMES: [&str; 2] = ["all", "default"];

pub(super) fn network(mut w: Walk<'_>) -> Option<Network> {
    // Of a network that runs: how many ports it has.
    w.get("connections");
    let found = name(&mut w);
    let forward = w.one("forward").map(forward);
    let ours = forward.as_ref().is_none_or(|f| f.mode.has_own_bridge());
    let bridge = w.one("bridge").map(|b| bridge(b, ours));
    let (mtu, mtu_pos) = mtu(&mut w).unzip();
    let (mut vlan_pos, mut virtualport_pos, mut bandwidth_pos) = <(Pos, Pos, Pos)>::default();
    Some(Network {
        name: found.or_else(|| DomainName::parse("unnamed").ok())?,
        uuid: identity(&mut w, "uuid").unwrap_or_else(Uuid::new_v4),
        ipv6: w.yes_no("ipv6"),
        trust_guest_rx_filters: w.yes_no("trustGuestRxFilters"),
        title: title(&mut w),
        description: w.leaf("description").map(|l| l.text),
        metadata: metadata(&mut w),
        bridge: bridge.or_else(|| ours.then(Bridge::default)),
        mtu,
        mtu_pos,
        mac: bridge_mac(&mut w).or_else(|| ours.then(fresh_mac)),
        forward,
        domain: w.one("domain").and_then(dns_domain),
        dns: w.one("dns").map(dns),
        vlan: w.one("vlan").inspect(|c| vlan_pos = c.pos()).map(vlan),
        vlan_pos,
        bandwidth: w.one("bandwidth").inspect(|c| bandwidth_pos = c.pos()).map(bandwidth),
        bandwidth_pos,
        isolated: isolated(&mut w),
        ips: w.all("ip", MAX_PARTS).into_iter().filter_map(ip).collect(),
        routes: w.all("route", MAX_PARTS).into_iter().filter_map(route).collect(),
        virtualport: w.one("virtualport").inspect(|c| virtualport_pos = c.pos()).map(virtualport),
        virtualport_pos,
        portgroups: w.all("portgroup", MAX_PARTS).into_iter().filter_map(portgroup).collect(),
        pos: w.pos(),
        extra: w.finish(),
    })
}

/// One element that `net-update` adds, changes or takes away.
pub(super) fn part(mut w: Walk<'_>, kind: PartKind) -> Option<Part> {
    match kind {
        PartKind::DhcpRange => range(w).map(Part::DhcpRange),
        PartKind::DhcpHost => Some(Part::DhcpHost(dhcp_host(w, true))),
        PartKind::ForwardInterface => {
            let dev = w.need("dev");
            w.get("connections");
            w.finish();
            dev.map(Part::ForwardInterface)
        }
        PartKind::Portgroup => portgroup(w).map(|g| Part::Portgroup(Box::new(g))),
        PartKind::DnsHost => dns_host(w, true).map(Part::DnsHost),
        PartKind::DnsTxt => txt(w, true).map(Part::DnsTxt),
        PartKind::DnsSrv => srv(w, true).map(Part::DnsSrv),
    }
}

/// The size, and where it stood.
fn mtu(w: &mut Walk<'_>) -> Option<(u32, Pos)> {
    let mut child = w.one("mtu")?;
    let (size, pos) = (child.number("size"), child.pos());
    let extra = child.finish();
    w.keep("mtu", 0, extra);
    size.map(|size| (size, pos))
}

fn isolated(w: &mut Walk<'_>) -> Option<bool> {
    let mut child = w.one("port")?;
    let isolated = child.yes_no("isolated");
    let extra = child.finish();
    w.keep("port", 0, extra);
    isolated
}

/// Name of an interface.
fn device(w: &mut Walk<'_>, attribute: &str) -> Option<String> {
    let name = w.get(attribute).filter(|n| !n.is_empty())?;
    check_device(w, attribute, &name);
    Some(name)
}

/// Name of a bridge; one that is made for the network may have one `%d` for a number that is chosen.
fn bridge_name(w: &mut Walk<'_>, ours: bool) -> Option<String> {
    let name = w.get("name").filter(|n| !n.is_empty())?;
    let plain = if ours { name.replacen("%d", "0", 1) } else { name.clone() };
    if plain.contains('%') {
        let what = if ours { "only '%d' may be in it, once" } else { "there is a '%' in it" };
        w.error_at("name", format!("'{}' is not a name of a bridge: {what}", name.escape_debug()));
    } else {
        check_device(w, "name", &plain);
    }
    // It has to be told to dnsmasq, which reads these as something else: with '*' it serves other bridges too.
    if let Some(odd) = name.chars().find(|c| ours && NOT_FOR_DNSMASQ.contains(c)) {
        let shown = name.escape_debug();
        w.error_at(
            "name",
            format!("'{shown}' is not a name of a bridge of this network: there is a {odd} in it"),
        );
    }
    Some(name)
}

/// The kernel takes a name with a `%` for a template.
fn check_device(w: &Walk<'_>, attribute: &str, name: &str) {
    let bad = |c: char| c == '/' || c == '%' || c == ':' || c.is_whitespace() || c.is_control();
    if name.len() > MAX_IFNAME || name == "." || name == ".." || name.contains(bad) {
        let why = if name.len() > MAX_IFNAME {
            format!("(1 to {MAX_IFNAME} bytes)")
        } else {
            "(no blanks, slashes, colons, percent signs; not '.' or '..')".into()
        };
        w.error_at(attribute, format!("'{}' is not a name of an interface {why}", name.escape_debug()));
    }
    if KERNELS_NAMES.contains(&name) {
        w.error_at(
            attribute,
            format!("'{name}' is not a name of an interface: the kernel has it for all of them"),
        );
    }
}

fn fresh_mac() -> String {
    let random = Uuid::new_v4().into_bytes();
    format!("52:54:00:{:02x}:{:02x}:{:02x}", random[0], random[1], random[2])
}

fn hardware_address(w: &Walk<'_>, attribute: &str, given: &str) -> String {
    let mac = given.to_ascii_lowercase();
    let parts: Vec<Option<u8>> = mac.split(':').map(octet).collect();
    if parts.len() != 6 || parts.contains(&None) {
        w.error_at(attribute, format!("'{}' is not a hardware address", given.escape_debug()));
    } else if parts[0].is_some_and(|first| first & 1 == 1) {
        w.error_at(attribute, format!("'{mac}' is an address for many"));
    }
    let full: Vec<String> = parts.iter().flatten().map(|octet| format!("{octet:02x}")).collect();
    full.join(":")
}

fn bridge_mac(w: &mut Walk<'_>) -> Option<String> {
    let mut child = w.one("mac")?;
    let mac = child.need("address").map(|given| hardware_address(&child, "address", &given));
    let extra = child.finish();
    w.keep("mac", 0, extra);
    mac
}

fn forward(mut w: Walk<'_>) -> Forward {
    let mode = w.closed("mode").unwrap_or(ForwardMode::Nat);
    let dev = device(&mut w, "dev");
    let mut interfaces = Vec::new();
    // libvirt writes the first one twice, whatever the mode.
    for mut child in w.all("interface", MAX_PARTS) {
        // Of a network that runs: how many ports are made on it.
        child.get("connections");
        let name = device(&mut child, "dev");
        if name.is_none() {
            child.error("the attribute 'dev' is missing");
        }
        if let (Some(dev), Some(name), true) = (&dev, &name, interfaces.is_empty())
            && dev != name
        {
            child.error_at("dev", format!("the first interface '{name}' is not the '{dev}' of <forward>"));
        }
        let extra = child.finish();
        w.keep("interface", interfaces.len(), extra);
        interfaces.extend(name);
    }
    if interfaces.is_empty() {
        interfaces.extend(dev);
    }
    Forward {
        mode,
        dev: interfaces.first().cloned(),
        managed: w.yes_no("managed"),
        nat: w.one("nat").map(nat),
        interfaces,
        pos: w.pos(),
        extra: w.finish(),
    }
}

fn nat(mut w: Walk<'_>) -> Nat {
    let addresses = w.one("address").and_then(|mut child| {
        let first: Option<Ipv4Addr> = need(&mut child, "start");
        let last = need(&mut child, "end").or(first);
        let extra = child.finish();
        w.keep("address", 0, extra);
        first.zip(last)
    });
    let ports = w.one("port").and_then(|mut child| {
        let pair = child.number("start").zip(child.number("end"));
        if !(says(&child, "start") && says(&child, "end")) {
            child.error("the attributes 'start' and 'end' must be there");
        }
        let extra = child.finish();
        w.keep("port", 0, extra);
        pair
    });
    Nat { ipv6: w.yes_no("ipv6"), addresses, ports, extra: w.finish() }
}

fn bridge(mut w: Walk<'_>, ours: bool) -> Bridge {
    Bridge {
        name: bridge_name(&mut w, ours),
        zone: w.get("zone").filter(|z| !z.is_empty()),
        stp: w.switch("stp", "on", "off"),
        delay: w.number("delay"),
        mac_table_manager: w.closed("macTableManager"),
        pos: w.pos(),
        extra: w.finish(),
    }
}

fn dns_domain(mut w: Walk<'_>) -> Option<DnsDomain> {
    let name = w.need("name");
    if let Some(name) = &name {
        check_name(&w, "name", name);
    }
    let (local_only, register) = (w.yes_no("localOnly"), w.yes_no("register"));
    let extra = w.finish();
    name.map(|name| DnsDomain { name, local_only, register, extra })
}

/// A name of DNS: what is written into a file of another program has no line breaks, commas or spaces.
fn check_name(w: &Walk<'_>, attribute: &str, name: &str) {
    let good = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if name.len() > MAX_NAME || !name.chars().all(good) || name.starts_with(['-', '.']) {
        let shown = name.escape_debug();
        w.error_at(
            attribute,
            format!("'{shown}' is not a name: letters, digits, '-', '_' and dots, at most 253 bytes"),
        );
    }
}

/// Text that is written into a file of another program.
fn check_text(w: &Walk<'_>, attribute: &str, text: &str) {
    if text.len() > 1024 || text.contains(|c: char| c.is_control() || c == '"') {
        w.error_at(
            attribute,
            format!("'{}' has a quote or a control character, or is too long", text.escape_debug()),
        );
    }
}

/// The text of a record. dnsmasq is told of quotes and backslashes with one more backslash each.
fn check_record(w: &Walk<'_>, name: &str, value: &str) {
    if value.contains(char::is_control) {
        return check_text(w, "value", value);
    }
    let length = name.len() + value.len() + value.matches(['"', '\\']).count();
    if length > MAX_RECORD {
        w.error_at(
            "value",
            format!(
                "the record is too long: its name and its text are {length} bytes, where quotes and backslashes count \
                 twice, and may be {MAX_RECORD}"
            ),
        );
    }
}

fn dns(mut w: Walk<'_>) -> Dns {
    let mut forwarders = Vec::new();
    for mut child in w.all("forwarder", MAX_ENTRIES) {
        let addr = get(&mut child, "addr");
        let domain = child.get("domain").filter(|d| !d.is_empty());
        if let Some(domain) = &domain {
            check_name(&child, "domain", domain);
        }
        if !says(&child, "addr") && domain.is_none() {
            child.error("one of the attributes 'addr' and 'domain' must be there");
        }
        forwarders.push(Forwarder { addr, domain, extra: child.finish() });
    }
    Dns {
        enable: w.yes_no("enable"),
        forward_plain_names: w.yes_no("forwardPlainNames"),
        forwarders,
        txts: w.all("txt", MAX_ENTRIES).into_iter().filter_map(|c| txt(c, false)).collect(),
        srvs: w.all("srv", MAX_ENTRIES).into_iter().filter_map(|c| srv(c, false)).collect(),
        hosts: w.all("host", MAX_ENTRIES).into_iter().filter_map(|c| dns_host(c, false)).collect(),
        extra: w.finish(),
    }
}

fn txt(mut w: Walk<'_>, partial: bool) -> Option<DnsTxt> {
    let name = w.need("name");
    let value = w.get("value");
    if value.is_none() && !partial {
        w.error("the attribute 'value' is missing");
    }
    if let Some(name) = &name {
        check_name(&w, "name", name);
    }
    if let Some(value) = &value {
        check_record(&w, name.as_deref().unwrap_or_default(), value);
    }
    let extra = w.finish();
    Some(DnsTxt { name: name?, value, extra })
}

fn srv(mut w: Walk<'_>, partial: bool) -> Option<DnsSrv> {
    let mut word = |attribute: &str| {
        let word = if partial { w.get(attribute).or(Some(String::new())) } else { w.need(attribute) };
        if let Some(word) = &word {
            check_name(&w, attribute, word);
        }
        word
    };
    let (service, protocol) = (word("service"), word("protocol"));
    let domain = w.get("domain").filter(|d| !d.is_empty());
    let target = w.get("target").filter(|t| !t.is_empty());
    for (attribute, text) in [("domain", &domain), ("target", &target)] {
        if let Some(text) = text.as_ref().filter(|t| attribute != "target" || *t != NOWHERE) {
            check_name(&w, attribute, text);
        }
    }
    let parts = [service.as_ref(), protocol.as_ref(), domain.as_ref()].into_iter().flatten();
    if parts.map(|part| part.len() + 2).sum::<usize>() > MAX_NAME {
        w.error(format!("service, protocol and domain are longer together than a name, of {MAX_NAME} bytes"));
    }
    let (port, priority, weight) = (w.number("port"), w.number("priority"), w.number("weight"));
    if port == Some(0) {
        w.error_at("port", "the port 0 is none");
    }
    if target.is_none() && (port.is_some() || priority.is_some() || weight.is_some()) && !partial {
        w.error("a port, a priority or a weight needs a target");
    }
    let extra = w.finish();
    Some(DnsSrv { service: service?, protocol: protocol?, domain, target, port, priority, weight, extra })
}

fn dns_host(mut w: Walk<'_>, partial: bool) -> Option<DnsHost> {
    let ip = if partial { get(&mut w, "ip") } else { need(&mut w, "ip") };
    let mut hostnames = Vec::new();
    for child in w.all("hostname", MAX_PARTS) {
        let index = hostnames.len();
        if let Some(leaf) = w.take_leaf("hostname", index, child) {
            let name = leaf.text.trim().to_owned();
            check_name(&w, "hostname", &name);
            hostnames.push(name);
        }
    }
    if hostnames.is_empty() && !partial {
        w.error("the element 'hostname' is missing");
    }
    if partial && hostnames.is_empty() && ip.is_none() && !says(&w, "ip") {
        w.error("an address or a name is missing");
    }
    let extra = w.finish();
    Some(DnsHost { ip, hostnames, extra })
}

/// An attribute that can be read from a string.
fn get<T: std::str::FromStr>(w: &mut Walk<'_>, attribute: &str) -> Option<T> {
    let text = w.get(attribute).filter(|t| !t.is_empty())?;
    let found = text.parse().ok();
    if found.is_none() {
        w.error_at(attribute, format!("{attribute} '{}' is not an address", text.escape_debug()));
    }
    found
}

/// Whether an attribute is there, be it good or bad.
fn says(w: &Walk<'_>, attribute: &str) -> bool {
    w.el.value(attribute).is_some_and(|text| !text.is_empty())
}

fn need<T: std::str::FromStr>(w: &mut Walk<'_>, attribute: &str) -> Option<T> {
    w.need(attribute)?;
    get(w, attribute)
}

/// Whether the document names the family, which must not contradict the address.
fn family(w: &mut Walk<'_>, address: IpAddr) -> bool {
    let said = w.switch("family", "ipv6", "ipv4");
    if said.is_some_and(|v6| v6 != address.is_ipv6()) {
        w.error_at("family", format!("the address '{address}' is not of that family"));
    }
    said.is_some()
}

/// Netmask or prefix, of which only one may be there.
fn mask(w: &mut Walk<'_>, address: IpAddr) -> (Option<Ipv4Addr>, Option<u8>) {
    let netmask: Option<Ipv4Addr> = get(w, "netmask");
    let prefix = prefix(w, address);
    if let Some(mask) = netmask {
        let bits = u32::from(mask);
        if address.is_ipv6() {
            w.error_at("netmask", "an IPv6 address has a prefix and no netmask");
        } else if bits.leading_ones() + bits.trailing_zeros() != 32 && bits != 0 {
            w.error_at("netmask", format!("'{mask}' is not a netmask"));
        }
        if prefix.is_some() {
            w.error("an address has a netmask or a prefix, not both");
        }
    }
    (netmask, prefix)
}

fn ip(mut w: Walk<'_>) -> Option<NetworkIp> {
    let address: Option<IpAddr> = need(&mut w, "address");
    let Some(address) = address else {
        w.finish();
        return None;
    };
    let says_family = family(&mut w, address);
    let (netmask, prefix) = mask(&mut w, address);
    let tftp = w.one("tftp").and_then(|mut child| {
        let root = child.get("root");
        let extra = child.finish();
        w.keep("tftp", 0, extra);
        root
    });
    Some(NetworkIp {
        says_family,
        address,
        netmask,
        prefix,
        local_ptr: w.yes_no("localPtr"),
        tftp,
        dhcp: w.one("dhcp").map(dhcp),
        pos: w.pos(),
        extra: w.finish(),
    })
}

fn dhcp(mut w: Walk<'_>) -> Dhcp {
    let bootp = w.one("bootp").and_then(|mut child| {
        let file = child.need("file");
        let server = child.get("server").filter(|s| !s.is_empty());
        for (attribute, text) in [("file", &file), ("server", &server)] {
            if let Some(text) = text {
                check_text(&child, attribute, text);
            }
        }
        let extra = child.finish();
        w.keep("bootp", 0, extra);
        file.map(|file| (file, server))
    });
    Dhcp {
        ranges: w.all("range", MAX_PARTS).into_iter().filter_map(range).collect(),
        hosts: w.all("host", MAX_ENTRIES).into_iter().map(|h| dhcp_host(h, false)).collect(),
        bootp,
        pos: w.pos(),
        extra: w.finish(),
    }
}

fn range(mut w: Walk<'_>) -> Option<DhcpRange> {
    let (start, end) = (need(&mut w, "start"), need(&mut w, "end"));
    let lease = lease(&mut w);
    let pos = w.pos();
    let extra = w.finish();
    Some(DhcpRange { start: start?, end: end?, lease, pos, extra })
}

/// A lease; one that is for ever has no unit, and at least two minutes otherwise, which is all that dnsmasq can do.
fn lease(w: &mut Walk<'_>) -> Option<Lease> {
    let mut child = w.one("lease")?;
    child.need("expiry");
    let lease = child
        .number("expiry")
        .map(|expiry| Lease { expiry, unit: child.closed("unit").unwrap_or(LeaseUnit::Minutes) });
    if lease.is_some_and(|l| l.expiry > 0 && l.seconds() < 120) {
        child.error_at("expiry", "a lease must be for at least 120 seconds, or 0 for ever");
    }
    let extra = child.finish();
    w.keep("lease", 0, extra);
    lease
}

fn dhcp_host(mut w: Walk<'_>, partial: bool) -> DhcpHost {
    let mac = w.get("mac").filter(|m| !m.is_empty()).map(|given| hardware_address(&w, "mac", &given));
    let id = w.get("id").filter(|i| !i.is_empty());
    let name = w.get("name").filter(|n| !n.is_empty());
    if let Some(name) = &name {
        check_name(&w, "name", name);
    }
    if let Some(id) = &id
        && (id.len() > MAX_ID || !id.chars().all(|c| c.is_ascii_alphanumeric() || ":-._".contains(c)))
    {
        w.error_at("id", format!("'{}' is not an id of a client", id.escape_debug()));
    }
    let ip: Option<IpAddr> = get(&mut w, "ip");
    if !partial {
        if mac.is_none() && id.is_none() && name.is_none() {
            w.error("one of the attributes 'mac', 'name' and 'id' must be there");
        }
        if !says(&w, "ip") && name.is_none() {
            w.error("one of the attributes 'ip' and 'name' must be there");
        }
    } else if mac.is_none() && id.is_none() && name.is_none() && !says(&w, "ip") {
        w.error("one of the attributes 'mac', 'id', 'name' and 'ip' must be there");
    }
    let lease = lease(&mut w);
    DhcpHost { mac, id, name, ip, lease, pos: w.pos(), extra: w.finish() }
}

fn route(mut w: Walk<'_>) -> Option<NetworkRoute> {
    let address: Option<IpAddr> = need(&mut w, "address");
    let gateway: Option<IpAddr> = need(&mut w, "gateway");
    let (Some(address), Some(gateway)) = (address, gateway) else {
        w.finish();
        return None;
    };
    let says_family = family(&mut w, address);
    let (netmask, prefix) = mask(&mut w, address);
    if gateway.is_ipv6() != address.is_ipv6() {
        w.error("the addresses of a route must be of one family");
    }
    let metric = w.number("metric").filter(|m| *m > 0);
    let pos = w.pos();
    Some(NetworkRoute { says_family, address, netmask, prefix, gateway, metric, pos, extra: w.finish() })
}

fn portgroup(mut w: Walk<'_>) -> Option<Portgroup> {
    let name = w.need("name");
    let portgroup = Portgroup {
        name: name.clone().unwrap_or_default(),
        default: w.yes_no("default"),
        trust_guest_rx_filters: w.yes_no("trustGuestRxFilters"),
        vlan: w.one("vlan").map(vlan),
        virtualport: w.one("virtualport").map(virtualport),
        bandwidth: w.one("bandwidth").map(bandwidth),
        isolated: isolated(&mut w),
        pos: w.pos(),
        extra: w.finish(),
    };
    name.map(|_| portgroup)
}

impl Lease {
    /// How long.
    pub fn seconds(self) -> u64 {
        let factor = match self.unit {
            LeaseUnit::Seconds => 1,
            LeaseUnit::Minutes => 60,
            LeaseUnit::Hours => 3600,
        };
        u64::from(self.expiry) * factor
    }
}

impl ForwardMode {
    /// Whether the network has a bridge that is made for it.
    pub fn has_own_bridge(self) -> bool {
        matches!(self, Self::Nat | Self::Route | Self::Open)
    }

    /// The value with that spelling.
    pub fn from_name(text: &str) -> Option<Self> {
        Self::find(text)
    }
}
