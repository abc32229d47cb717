//! Whether the parts of a network fit together, and what of it this version cannot do.
//!
//! Does not know the host.

use std::net::IpAddr;

use super::model::{Dhcp, DhcpRange, ForwardMode, MacTableManager, Network, NetworkIp};
use super::{Unread, network_address, same_network};
use crate::Diagnostic;
use crate::model::Bandwidth;
use crate::tree::Pos;

/// The least size of the largest packet of IPv6 (RFC 8200, section 5).
const LEAST_IPV6: u32 = 1280;

type Problems = Vec<Diagnostic>;

fn say(problems: &mut Problems, pos: Pos, element: &str, message: impl Into<String>) {
    problems.push(Diagnostic::new(pos, format!("network{element}"), message));
}

impl Network {
    /// What makes this a definition that no version could run; empty if it is one.
    pub fn validate(&self) -> Vec<Diagnostic> {
        self.validate_read(Unread::default())
    }

    /// The same of a document that could not be read as a whole.
    pub(super) fn validate_read(&self, unread: Unread) -> Vec<Diagnostic> {
        let mut problems = Vec::new();
        if !unread.mode {
            self.check_forward(unread, &mut problems);
        }
        self.check_bridge(&mut problems);
        self.check_addresses(unread, &mut problems);
        self.check_portgroups(&mut problems);
        problems
    }

    /// Why an address can be none of a guest of this network; none if it can.
    pub fn no_guest(&self, address: IpAddr) -> Option<String> {
        let Some(ip) = self.ips.iter().find(|ip| ip.contains(address)) else {
            return Some(format!("the address '{address}' is not of this network"));
        };
        if ip.address == address {
            Some(format!("the address '{address}' is the host's own"))
        } else if is_edge(address, ip.prefix_length()) {
            Some(format!("the address '{address}' is that of the network, or of all its guests"))
        } else {
            None
        }
    }

    /// What keeps this definition from being started by this version, each with its position in the document.
    pub fn start_problems(&self) -> Vec<Diagnostic> {
        let mut problems = Vec::new();
        let mut refuse = |pos: Pos, element: &str, what: &str| {
            let message = format!("{what} cannot be started by this version of berth");
            say(&mut problems, pos, element, message);
        };
        if let Some(forward) = &self.forward {
            if forward.mode == ForwardMode::Hostdev {
                refuse(forward.pos, "/forward", "a network of devices that are handed to guests");
            }
            for child in forward.extra.children.iter().filter(|c| c.name == "pf" || c.name == "address") {
                refuse(child.pos, &format!("/forward/{}", child.name), "a network of virtual functions");
            }
        }
        for ip in &self.ips {
            if ip.tftp.is_some() {
                refuse(ip.pos, "/ip/tftp", "a network with a TFTP server");
            }
            if let Some(dhcp) = ip.dhcp.as_ref().filter(|d| d.bootp.is_some()) {
                refuse(dhcp.pos, "/ip/dhcp/bootp", "a network that guests boot from");
            }
        }
        // dnsmasq has no ranges of larger networks.
        for ip in self.ips.iter().filter(|ip| ip.address.is_ipv6() && ip.prefix_length() < 64) {
            let gives = |d: &&Dhcp| !d.ranges.is_empty() || !d.hosts.is_empty();
            if let Some(dhcp) = ip.dhcp.as_ref().filter(gives) {
                refuse(dhcp.pos, "/ip/dhcp", "a network that gives addresses of IPv6 with a prefix under 64");
            }
        }
        if let Some(bridge) = &self.bridge {
            if bridge.mac_table_manager == Some(MacTableManager::Libvirt) {
                refuse(bridge.pos, "/bridge", "a bridge whose table of addresses is filled by hand");
            }
            if bridge.zone.is_some() {
                refuse(bridge.pos, "/bridge", "a bridge in a zone of firewalld");
            }
        }
        if self.has_own_bridge() && self.vlan.is_some() {
            refuse(self.vlan_pos, "/vlan", "a virtual network with <vlan>");
        }
        if self.has_own_bridge() && self.virtualport.is_some() {
            refuse(self.virtualport_pos, "/virtualport", "a virtual network with <virtualport>");
        }
        let floor = |b: &Option<Bandwidth>| {
            b.iter().flat_map(|b| [&b.inbound, &b.outbound]).flatten().any(|rate| rate.floor.is_some())
        };
        if floor(&self.bandwidth) {
            refuse(self.bandwidth_pos, "/bandwidth", "a network with a floor of its bandwidth");
        }
        for group in self.portgroups.iter().filter(|g| floor(&g.bandwidth)) {
            refuse(group.pos, "/portgroup", "a portgroup with a floor of its bandwidth");
        }
        for child in self.extra.children.iter().filter(|c| c.name == "dnsmasq:options") {
            refuse(child.pos, "/dnsmasq:options", "a network with options of dnsmasq's own");
        }
        problems.sort_by_key(|d| (d.line, d.column));
        problems
    }

    /// What of this definition is not meant as it stands, each with its position in the document.
    pub(super) fn remarks(&self) -> Vec<Diagnostic> {
        let mut remarks = Vec::new();
        for ip in &self.ips {
            let own = |range: &&DhcpRange| (range.start..=range.end).contains(&ip.address);
            for DhcpRange { start, end, pos, .. } in ip.dhcp.iter().flat_map(|d| &d.ranges).filter(own) {
                let message = format!(
                    "the range {start} - {end} has the host's own address {} in it, which no guest is given",
                    ip.address
                );
                say(&mut remarks, *pos, "/ip/dhcp/range", message);
            }
        }
        remarks
    }

    fn check_forward(&self, unread: Unread, problems: &mut Problems) {
        let Some(forward) = &self.forward else { return };
        let mode = forward.mode;
        let mut wrong = |message: String| say(problems, forward.pos, "/forward", message);
        if forward.nat.is_some() && mode != ForwardMode::Nat {
            wrong(format!("<nat> is only possible with the mode 'nat', not with '{mode}'"));
        }
        if let Some(nat) = &forward.nat {
            if nat.addresses.is_some_and(|(first, last)| first > last) {
                wrong("the last address is before the first".into());
            }
            if nat.ports.is_some_and(|(first, last)| first > last || first == 0) {
                wrong("the last port is before the first, or the first is 0".into());
            }
        }
        if mode.has_own_bridge() && forward.interfaces.len() > 1 {
            wrong(format!("the mode '{mode}' can have only one <interface>"));
        }
        if mode == ForwardMode::Open && forward.dev.is_some() {
            wrong("the mode 'open' has no device: it has no rules at all".into());
        }
        let needs_address = matches!(mode, ForwardMode::Nat | ForwardMode::Route);
        if needs_address && self.ips.is_empty() && !unread.ip {
            wrong(format!("the mode '{mode}' needs an <ip>"));
        }
        let direct = matches!(mode, ForwardMode::Private | ForwardMode::Vepa | ForwardMode::Passthrough);
        let devices = !forward.interfaces.is_empty();
        if direct && !devices && !forward.extra.children.iter().any(|c| c.name == "pf") {
            wrong(format!("the mode '{mode}' needs an <interface>"));
        }
        if mode == ForwardMode::Bridge {
            let bridge = self.bridge.as_ref().is_some_and(|b| b.name.is_some());
            if bridge == devices {
                wrong("the mode 'bridge' needs a <bridge> or an <interface>, and not both".into());
            }
        }
    }

    fn check_bridge(&self, problems: &mut Problems) {
        let Some(bridge) = &self.bridge else { return };
        match self.forward.as_ref().map(|f| f.mode) {
            Some(
                mode @ (ForwardMode::Private
                | ForwardMode::Vepa
                | ForwardMode::Passthrough
                | ForwardMode::Hostdev),
            ) => {
                say(problems, bridge.pos, "/bridge", format!("the mode '{mode}' has no bridge"));
            }
            Some(ForwardMode::Bridge) if bridge.stp.is_some() || bridge.delay.is_some() => {
                say(
                    problems,
                    bridge.pos,
                    "/bridge",
                    "a bridge of the host is set up by the host: no 'stp', no 'delay'",
                );
            }
            _ => {}
        }
        if let Some(mtu) = self.mtu {
            let pos = self.mtu_pos.unwrap_or(self.pos);
            let v6 = self.ipv6 == Some(true) || self.ips.iter().any(|ip| ip.address.is_ipv6());
            if !(68..=65521).contains(&mtu) {
                say(problems, pos, "/mtu", format!("the size {mtu} is not one from 68 to 65521"));
            } else if v6 && mtu < LEAST_IPV6 && self.has_own_bridge() {
                let message = format!("the size {mtu} is too small for IPv6, which needs {LEAST_IPV6}");
                say(problems, pos, "/mtu", message);
            }
        }
        if bridge.delay.is_some_and(|d| d > 30) {
            say(problems, bridge.pos, "/bridge", "the delay is over 30 seconds");
        }
    }

    fn check_addresses(&self, unread: Unread, problems: &mut Problems) {
        if !self.has_own_bridge() {
            let what = [
                (!self.ips.is_empty(), "<ip>"),
                (!self.routes.is_empty(), "<route>"),
                (self.dns.is_some(), "<dns>"),
                (self.domain.is_some(), "<domain>"),
            ];
            for (_, what) in what.iter().filter(|(there, _)| *there) {
                let message = format!("{what} is not possible: this network is not made by the host");
                say(problems, self.pos, "", message);
            }
        }
        for (index, ip) in self.ips.iter().enumerate() {
            self.check_ip(ip, problems);
            let family = |other: &&NetworkIp| other.address.is_ipv6() == ip.address.is_ipv6();
            let before = &self.ips[..index];
            if before.iter().any(|o| o.contains(ip.address) || ip.contains(o.address)) {
                say(problems, ip.pos, "/ip", "another address is of the same network");
            }
            if ip.dhcp.is_some() && before.iter().filter(family).any(|o| o.dhcp.is_some()) {
                say(problems, ip.pos, "/ip/dhcp", "only one address of a family can have <dhcp>");
            }
        }
        for route in &self.routes {
            let length = route.prefix_length();
            if network_address(route.address, length) != route.address {
                let message =
                    format!("'{}' is not the address of a network with the prefix {length}", route.address);
                say(problems, route.pos, "/route", message);
            }
            if !unread.ip && !self.ips.iter().any(|ip| ip.contains(route.gateway)) {
                let message = format!("the gateway '{}' is not of this network", route.gateway);
                say(problems, route.pos, "/route", message);
            }
        }
    }

    fn check_ip(&self, ip: &NetworkIp, problems: &mut Problems) {
        let length = ip.prefix_length();
        let bad = match ip.address {
            IpAddr::V4(a) => a.is_unspecified() || a.is_loopback() || a.is_multicast() || a.is_broadcast(),
            IpAddr::V6(a) => a.is_unspecified() || a.is_loopback() || a.is_multicast(),
        };
        if bad || length == 0 {
            say(
                problems,
                ip.pos,
                "/ip",
                format!("'{}/{length}' cannot be an address of a network", ip.address),
            );
        }
        if ip.local_ptr == Some(true) && !ptr_possible(ip.address, length) {
            let step = if ip.address.is_ipv6() { 4 } else { 8 };
            let message = format!("localPtr needs a prefix that is a multiple of {step}");
            say(problems, ip.pos, "/ip", message);
        }
        if let Some(dhcp) = &ip.dhcp {
            self.check_dhcp(ip, dhcp, problems);
        }
    }

    fn check_dhcp(&self, ip: &NetworkIp, dhcp: &Dhcp, problems: &mut Problems) {
        let length = ip.prefix_length();
        let outside = |a: IpAddr| !ip.contains(a);
        for (index, range) in dhcp.ranges.iter().enumerate() {
            let mut wrong = |message: String| say(problems, range.pos, "/ip/dhcp/range", message);
            let (start, end) = (range.start, range.end);
            if outside(start) || outside(end) {
                wrong(format!("the range {start} - {end} is not of the network {}/{length}", ip.address));
            } else if start > end {
                wrong(format!("the range {start} - {end} ends before it begins"));
            }
            if is_edge(start, length) || is_edge(end, length) {
                wrong(format!(
                    "the range {start} - {end} has the address of the network, or that of all guests, in it"
                ));
            }
            if dhcp.ranges[..index].iter().any(|o| o.start <= end && start <= o.end) {
                wrong(format!("the range {start} - {end} overlaps another"));
            }
        }
        for (index, host) in dhcp.hosts.iter().enumerate() {
            let mut wrong = |message: String| say(problems, host.pos, "/ip/dhcp/host", message);
            if let Some(address) = host.ip {
                if outside(address) {
                    wrong(format!("the address '{address}' is not of the network {}/{length}", ip.address));
                } else if address == ip.address {
                    wrong(format!("the address '{address}' is the host's own"));
                } else if is_edge(address, length) {
                    wrong(format!("the address '{address}' is that of the network, or of all its guests"));
                }
            }
            let before = &dhcp.hosts[..index];
            if host.mac.is_some() && before.iter().any(|o| o.mac == host.mac) {
                wrong(format!("there already is a host with mac='{}'", host.mac.clone().unwrap_or_default()));
            }
            if host.ip.is_some() && before.iter().any(|o| o.ip == host.ip) {
                wrong("there already is a host with this address".into());
            }
            if host.name.is_some()
                && before.iter().any(|o| o.name == host.name && o.mac.is_none() == host.mac.is_none())
            {
                wrong(format!(
                    "there already is a host with name='{}'",
                    host.name.clone().unwrap_or_default()
                ));
            }
        }
    }

    fn check_portgroups(&self, problems: &mut Problems) {
        for (index, group) in self.portgroups.iter().enumerate() {
            let before = &self.portgroups[..index];
            if before.iter().any(|o| o.name == group.name) {
                let message = format!("there already is a portgroup with name='{}'", group.name);
                say(problems, group.pos, "/portgroup", message);
            }
            if group.default == Some(true) && before.iter().any(|o| o.default == Some(true)) {
                say(problems, group.pos, "/portgroup", "only one portgroup can be the default");
            }
        }
    }
}

/// Whether the zone of reverse names of a network is one zone.
fn ptr_possible(address: IpAddr, length: u8) -> bool {
    let step = if address.is_ipv6() { 4 } else { 8 };
    length.is_multiple_of(step) && length > 0
}

/// Whether an address is the first or the last of an IPv4 network that has such.
fn is_edge(address: IpAddr, length: u8) -> bool {
    let IpAddr::V4(v4) = address else { return false };
    if length >= 31 {
        return false;
    }
    let last = u32::from(v4) | u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
    network_address(address, length) == address
        || (last == u32::from(v4) && same_network(address, address, length))
}
