//! A network's model into a tree in libvirt's form: its order, its defaults, its spelling.
//!
//! Does not know how text is written.

use super::NetworkLive;
use super::model::{
    Bridge, Dhcp, DhcpHost, DhcpRange, Dns, DnsDomain, DnsHost, DnsSrv, DnsTxt, Forward, Forwarder, Lease,
    Nat, Network, NetworkIp, NetworkRoute, Portgroup,
};
use crate::format::devices::{bandwidth, virtualport, vlan};
use crate::format::yes_no;
use crate::model::Extra;
use crate::tree::Element;

fn family(v6: bool) -> &'static str {
    if v6 { "ipv6" } else { "ipv4" }
}

pub(super) fn network(n: &Network, live: Option<&NetworkLive>) -> Element {
    let x = &n.extra;
    Element::new("network")
        .opt("connections", live.map(|l| l.connections).filter(|c| *c > 0))
        .opt("ipv6", n.ipv6.map(yes_no))
        .opt("trustGuestRxFilters", n.trust_guest_rx_filters.map(yes_no))
        .leaf("name", Some(&n.name), x)
        .leaf("uuid", Some(n.uuid), x)
        .leaf("title", n.title.as_ref(), x)
        .leaf("description", n.description.as_ref(), x)
        .maybe(n.metadata.clone())
        .maybe(n.forward.as_ref().map(|f| forward(f, live)))
        .maybe(n.bridge.as_ref().map(|b| bridge(b, n.has_own_bridge())))
        .with("mtu", "size", n.mtu, x)
        .with("mac", "address", n.mac.as_ref(), x)
        .maybe(n.domain.as_ref().map(dns_domain))
        .maybe(n.dns.as_ref().map(dns).filter(|d| !d.is_bare()))
        .maybe(n.vlan.as_ref().map(vlan))
        .maybe(n.bandwidth.as_ref().map(bandwidth))
        .with("port", "isolated", n.isolated.map(yes_no), x)
        .each(n.ips.iter().map(ip))
        .each(n.routes.iter().map(route))
        .maybe(n.virtualport.as_ref().map(virtualport))
        .each(n.portgroups.iter().map(portgroup))
        .extra(x)
}

fn forward(f: &Forward, live: Option<&NetworkLive>) -> Element {
    let mut element = Element::new("forward")
        .opt("dev", f.dev.as_ref())
        .attr("mode", f.mode)
        .opt("managed", f.managed.map(yes_no))
        .maybe(f.nat.as_ref().map(nat));
    for (index, dev) in f.interfaces.iter().enumerate() {
        let connections = live.and_then(|l| l.interfaces.get(index)).copied().filter(|c| *c > 0);
        let child = Element::new("interface").attr("dev", dev).opt("connections", connections);
        element = element.child(child.extra_of(&f.extra, "interface", index));
    }
    element.extra(&f.extra)
}

fn nat(n: &Nat) -> Element {
    let pair = |name: &str, start: String, end: String| {
        Element::new(name).attr("start", start).attr("end", end).extra_of(&n.extra, name, 0)
    };
    Element::new("nat")
        .opt("ipv6", n.ipv6.map(yes_no))
        .maybe(n.addresses.map(|(a, b)| pair("address", a.to_string(), b.to_string())))
        .maybe(n.ports.map(|(a, b)| pair("port", a.to_string(), b.to_string())))
        .extra(&n.extra)
}

/// A bridge of ours has what libvirt writes for one that it makes.
fn bridge(b: &Bridge, ours: bool) -> Element {
    let on_off = |on: bool| if on { "on" } else { "off" };
    Element::new("bridge")
        .opt("name", b.name.as_ref())
        .opt("zone", b.zone.as_ref())
        .opt("stp", b.stp.or(ours.then_some(true)).map(on_off))
        .opt("delay", b.delay.or(ours.then_some(0)))
        .opt("macTableManager", b.mac_table_manager)
        .extra(&b.extra)
}

fn dns_domain(d: &DnsDomain) -> Element {
    Element::new("domain")
        .attr("name", &d.name)
        .opt("localOnly", d.local_only.map(yes_no))
        .opt("register", d.register.map(yes_no))
        .extra(&d.extra)
}

fn dns(d: &Dns) -> Element {
    Element::new("dns")
        .opt("enable", d.enable.map(yes_no))
        .opt("forwardPlainNames", d.forward_plain_names.map(yes_no))
        .each(d.forwarders.iter().map(forwarder))
        .each(d.txts.iter().map(txt))
        .each(d.srvs.iter().map(srv))
        .each(d.hosts.iter().map(dns_host))
        .extra(&d.extra)
}

fn forwarder(f: &Forwarder) -> Element {
    Element::new("forwarder").opt("domain", f.domain.as_ref()).opt("addr", f.addr).extra(&f.extra)
}

fn txt(t: &DnsTxt) -> Element {
    Element::new("txt").attr("name", &t.name).opt("value", t.value.as_ref()).extra(&t.extra)
}

fn srv(s: &DnsSrv) -> Element {
    Element::new("srv")
        .attr("service", &s.service)
        .attr("protocol", &s.protocol)
        .opt("domain", s.domain.as_ref())
        .opt("target", s.target.as_ref())
        .opt("port", s.port)
        .opt("priority", s.priority)
        .opt("weight", s.weight)
        .extra(&s.extra)
}

fn dns_host(h: &DnsHost) -> Element {
    let mut element = Element::new("host").opt("ip", h.ip);
    for (index, name) in h.hostnames.iter().enumerate() {
        let child = Element::new("hostname").body(name);
        element = element.child(child.extra_of(&h.extra, "hostname", index));
    }
    element.extra(&h.extra)
}

fn ip(i: &NetworkIp) -> Element {
    Element::new("ip")
        .opt("family", i.says_family.then(|| family(i.address.is_ipv6())))
        .attr("address", i.address)
        .opt("netmask", i.netmask)
        .opt("prefix", i.prefix)
        .opt("localPtr", i.local_ptr.map(yes_no))
        .with("tftp", "root", i.tftp.as_ref(), &i.extra)
        .maybe(i.dhcp.as_ref().map(dhcp).filter(|d| !d.is_bare()))
        .extra(&i.extra)
}

fn dhcp(d: &Dhcp) -> Element {
    let bootp = d.bootp.as_ref().map(|(file, server)| {
        let element = Element::new("bootp").attr("file", file).opt("server", server.as_ref());
        element.extra_of(&d.extra, "bootp", 0)
    });
    Element::new("dhcp")
        .each(d.ranges.iter().map(range))
        .each(d.hosts.iter().map(dhcp_host))
        .maybe(bootp)
        .extra(&d.extra)
}

fn range(r: &DhcpRange) -> Element {
    Element::new("range")
        .attr("start", r.start)
        .attr("end", r.end)
        .maybe(r.lease.map(|l| lease(l, &r.extra)))
        .extra(&r.extra)
}

fn lease(l: Lease, extra: &Extra) -> Element {
    let element = Element::new("lease").attr("expiry", l.expiry);
    let element = if l.expiry > 0 { element.attr("unit", l.unit) } else { element };
    element.extra_of(extra, "lease", 0)
}

fn dhcp_host(h: &DhcpHost) -> Element {
    Element::new("host")
        .opt("mac", h.mac.as_ref())
        .opt("id", h.id.as_ref())
        .opt("name", h.name.as_ref())
        .opt("ip", h.ip)
        .maybe(h.lease.map(|l| lease(l, &h.extra)))
        .extra(&h.extra)
}

fn route(r: &NetworkRoute) -> Element {
    Element::new("route")
        .opt("family", r.says_family.then(|| family(r.address.is_ipv6())))
        .attr("address", r.address)
        .opt("netmask", r.netmask)
        .opt("prefix", r.prefix)
        .attr("gateway", r.gateway)
        .opt("metric", r.metric)
        .extra(&r.extra)
}

fn portgroup(p: &Portgroup) -> Element {
    Element::new("portgroup")
        .attr("name", &p.name)
        .opt("default", p.default.map(yes_no))
        .opt("trustGuestRxFilters", p.trust_guest_rx_filters.map(yes_no))
        .maybe(p.vlan.as_ref().map(vlan))
        .maybe(p.virtualport.as_ref().map(virtualport))
        .maybe(p.bandwidth.as_ref().map(bandwidth))
        .with("port", "isolated", p.isolated.map(yes_no), &p.extra)
        .extra(&p.extra)
}
