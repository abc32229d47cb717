//! Berth's own settings of a network, below `<metadata>` where libvirt lets applications keep theirs:
//! `<berth:settings xmlns:berth='urn:berth:network:1'>`.
//!
//! Does not know what a setting does.

use std::net::{IpAddr, Ipv4Addr};

use super::{Network, Unread};
use crate::metadata::namespace_of;
use crate::model::closed;
use crate::settings::{Remarks, local};
use crate::tree::{Element, Pos};
use crate::{Diagnostic, printable};

/// Namespace of `<berth:settings>` of a network.
pub const NETWORK_SETTINGS: &str = "urn:berth:network:1";
/// Most forwarded ports of one network.
pub(crate) const MAX_FORWARDS: usize = 1024;
/// Where the settings are.
const PATH: &str = "network/metadata/berth:settings";

closed! {
    /// Protocol of a forwarded port.
    Protocol { Tcp = "tcp", Udp = "udp" }
}

/// `<berth:forward>`: what comes to a port of the host goes to a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortForward {
    /// Protocol.
    pub protocol: Protocol,
    /// Address of the host; none is any.
    pub host_address: Option<Ipv4Addr>,
    /// Port of the host.
    pub host_port: u16,
    /// The guest: a name of a domain, or an address.
    pub guest: String,
    /// Port of the guest.
    pub port: u16,
}

impl PortForward {
    /// The guest's address, where the document says one.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.guest.parse().ok()
    }

    /// Whether both want the same port of the host.
    pub fn meets(&self, other: &Self) -> bool {
        other.protocol == self.protocol
            && other.host_port == self.host_port
            && (other.host_address == self.host_address
                || other.host_address.is_none()
                || self.host_address.is_none())
    }
}

impl Network {
    /// Ports of the host that are forwarded to guests.
    pub fn forwards(&self) -> Vec<PortForward> {
        let forwards = self.settings().into_iter().flat_map(Element::elements);
        forwards.filter(|e| local(e) == "forward").filter_map(|e| read_forward(e, None).ok()).collect()
    }

    /// Whether the network is started when a domain needs it.
    pub fn starts_on_demand(&self) -> bool {
        let mut all = self.settings().into_iter().flat_map(Element::elements);
        all.any(|e| local(e) == "start" && e.value("mode") == Some("on-demand"))
    }

    fn settings(&self) -> Option<&Element> {
        let metadata = self.metadata.as_ref()?;
        let outer = &self.extra.attrs;
        metadata.elements().find(|e| namespace_of(e, Some(metadata), outer) == Some(NETWORK_SETTINGS))
    }

    /// Checks all settings.
    pub(super) fn settings_remarks(&self, unread: Unread) -> Remarks {
        let mut remarks = Remarks::default();
        let Some(settings) = self.settings() else { return remarks };
        if local(settings) != "settings" {
            let message = format!("the setting '{}' is unknown", printable(settings.name.clone()));
            remarks.warnings.push(Diagnostic::new(settings.pos, PATH, message));
            return remarks;
        }
        let mut seen: Vec<PortForward> = Vec::new();
        for element in settings.elements() {
            match local(element) {
                "forward" => match read_forward(element, None) {
                    Ok(forward) => {
                        self.check_port_forward(element.pos, forward, &mut seen, &mut remarks, unread);
                    }
                    Err(message) => remarks.errors.push(at(element.pos, "berth:forward", message)),
                },
                "start" if element.value("mode") == Some("on-demand") => {}
                "start" => {
                    let message = "the attribute 'mode' must be 'on-demand'";
                    remarks.errors.push(at(element.pos, "berth:start", message.into()));
                }
                other => {
                    let message = format!("the setting '{}' is unknown", printable(other.to_owned()));
                    remarks.warnings.push(Diagnostic::new(element.pos, PATH, message));
                }
            }
        }
        remarks
    }

    fn check_port_forward(
        &self,
        pos: Pos,
        forward: PortForward,
        seen: &mut Vec<PortForward>,
        remarks: &mut Remarks,
        unread: Unread,
    ) {
        let mut say = |message: String| remarks.errors.push(at(pos, "berth:forward", message));
        if seen.iter().any(|other| other.meets(&forward)) {
            say(format!("the port {}/{} is forwarded already", forward.host_port, forward.protocol));
        }
        if seen.len() == MAX_FORWARDS {
            say(format!("there are more than {MAX_FORWARDS} forwarded ports"));
        }
        let has_address = unread.ip || self.ips.iter().any(|ip| ip.address.is_ipv4());
        if !self.has_own_bridge() || !has_address {
            say("ports are only forwarded to a network with an IPv4 address of the host".into());
        }
        if let Some(address) = forward.address()
            && !unread.ip
            && !self.ips.iter().any(|ip| ip.contains(IpAddr::V4(address)))
        {
            say(format!("the address '{address}' is not of this network"));
        }
        seen.push(forward);
    }
}

fn at(pos: Pos, element: &str, message: String) -> Diagnostic {
    Diagnostic::new(pos, format!("{PATH}/{element}"), message)
}

/// Reads a forwarded port; `guest` is who it is for, where the element does not say that itself.
pub(crate) fn read_forward(element: &Element, guest: Option<&str>) -> Result<PortForward, String> {
    const KNOWN: [&str; 4] = ["proto", "host-address", "host-port", "port"];
    let known = |name: &str| KNOWN.contains(&name) || (name == "guest" && guest.is_none());
    if let Some(odd) = element.attrs.iter().find(|a| !known(&a.name) && !a.name.contains("xmlns")) {
        return Err(format!("the attribute '{}' is unknown", odd.name));
    }
    let port = |name: &str| match element.value(name).map(str::parse::<u16>) {
        Some(Ok(port)) if port > 0 => Ok(port),
        Some(_) => Err(format!("{name} '{}' is not a port", element.value(name).unwrap_or_default())),
        None => Err(format!("the attribute '{name}' is missing")),
    };
    let protocol = match element.value("proto") {
        None | Some("tcp") => Protocol::Tcp,
        Some("udp") => Protocol::Udp,
        Some(other) => return Err(format!("proto '{other}' is not one of tcp, udp")),
    };
    let host_address = match element.value("host-address").filter(|a| !a.is_empty()) {
        None => None,
        Some(text) => match text.parse::<Ipv4Addr>() {
            Ok(address) => Some(address).filter(|a| !a.is_unspecified()),
            Err(_) => return Err(format!("host-address '{text}' is not an IPv4 address")),
        },
    };
    let host_port = port("host-port")?;
    let guest = guest.or_else(|| element.value("guest")).filter(|g| !g.is_empty());
    let guest = guest.ok_or("the attribute 'guest' is missing")?;
    let inner = if element.value("port").is_some() { port("port")? } else { host_port };
    Ok(PortForward { protocol, host_address, host_port, guest: guest.to_owned(), port: inner })
}
