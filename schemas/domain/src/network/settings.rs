//! Berth's own settings of a network, below `<metadata>` where libvirt lets applications keep theirs:
//! `<berth:settings xmlns:berth='urn:berth:network:1'>`.
//!
//! Does not know what a setting does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::model::NetworkIp;
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
/// Port of name servers.
const DNS: u16 = 53;
/// Port of servers of DHCP.
const DHCP_V4: u16 = 67;
/// Likewise for IPv6.
const DHCP_V6: u16 = 547;
/// Where the settings are.
const PATH: &str = "network/metadata/berth:settings";

closed! {
    /// Protocol of a forwarded port.
    Protocol { Tcp = "tcp", Udp = "udp" }
}

/// `<berth:forward>`: what comes to a port of the host, or to some in a row, goes to a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortForward {
    /// Protocol.
    pub protocol: Protocol,
    /// Address of the host; none is any of the guest's family, and so is the unspecified one of IPv6.
    pub host_address: Option<IpAddr>,
    /// Port of the host, the first where there are more.
    pub host_port: u16,
    /// The last one of the host.
    pub last_host_port: u16,
    /// The guest: a name of a domain, or an address.
    pub guest: String,
    /// Port of the guest that the first one leads to; those behind it lead to those behind it.
    pub port: u16,
}

impl PortForward {
    /// The guest's address, where the document says one.
    pub fn address(&self) -> Option<IpAddr> {
        self.guest.parse().ok()
    }

    /// Whether it is for connections by IPv6. A name alone does not make it so.
    pub fn is_ipv6(&self) -> bool {
        self.host_address.or_else(|| self.address()).is_some_and(|a| a.is_ipv6())
    }

    /// The one address of the host that it is for.
    pub fn one_host_address(&self) -> Option<IpAddr> {
        self.host_address.filter(|a| !a.is_unspecified())
    }

    /// The last port of the guest.
    pub fn last_port(&self) -> u16 {
        self.port.saturating_add(self.last_host_port - self.host_port)
    }

    /// The ports of the host, for messages: `80/tcp`, or `8000-8010/tcp`.
    pub fn host_ports(&self) -> String {
        format!("{}/{}", row(self.host_port, self.last_host_port), self.protocol)
    }

    /// The first port of the host that both want, for messages: rows of ports may have only some in common.
    pub fn common_port(&self, other: &Self) -> String {
        format!("{}/{}", self.host_port.max(other.host_port), self.protocol)
    }

    /// Whether both want the same port of the host.
    pub fn meets(&self, other: &Self) -> bool {
        let (own, others) = (self.one_host_address(), other.one_host_address());
        other.protocol == self.protocol
            && other.host_port <= self.last_host_port
            && self.host_port <= other.last_host_port
            && other.is_ipv6() == self.is_ipv6()
            && (others == own || others.is_none() || own.is_none())
    }
}

/// What the host itself answers at an address of a network's bridge: the network's name server, or its DHCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Protocol.
    pub protocol: Protocol,
    /// Address of the bridge.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
}

impl Service {
    /// Whether a forward is for it too.
    pub fn is_met(&self, forward: &PortForward) -> bool {
        forward.protocol == self.protocol
            && forward.is_ipv6() == self.address.is_ipv6()
            && (forward.host_port..=forward.last_host_port).contains(&self.port)
            && forward.one_host_address().is_none_or(|host| host == self.address)
    }

    /// Whether a forward is for its very address.
    pub fn is_meant(&self, forward: &PortForward) -> bool {
        self.is_met(forward) && forward.one_host_address().is_some()
    }
}

impl Network {
    /// What the host answers at the addresses of the network's own bridge.
    pub fn services(&self) -> Vec<Service> {
        if !self.has_own_bridge() {
            return Vec::new();
        }
        let names = self.dns.as_ref().is_none_or(|dns| dns.enable != Some(false));
        let of = |ip: &NetworkIp| {
            let address = ip.address;
            let service = move |protocol, port| Service { protocol, address, port };
            let dhcp = if address.is_ipv6() { DHCP_V6 } else { DHCP_V4 };
            let dns = [Protocol::Udp, Protocol::Tcp].map(|protocol| service(protocol, DNS));
            let dns = dns.into_iter().filter(move |_| names);
            dns.chain(ip.dhcp.is_some().then(|| service(Protocol::Udp, dhcp)))
        };
        self.ips.iter().flat_map(of).collect()
    }

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

    /// Whether only guests that are known by their hardware address get addresses by DHCP.
    pub fn serves_known_guests(&self) -> bool {
        let mut all = self.settings().into_iter().flat_map(Element::elements);
        all.any(|e| local(e) == "dhcp" && e.value("guests") == Some("known"))
    }

    /// Whether nobody has a name but by the document, and domains their own.
    pub fn names_known_guests(&self) -> bool {
        let mut all = self.settings().into_iter().flat_map(Element::elements);
        all.any(|e| local(e) == "dhcp" && e.value("names") == Some("known"))
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
                "dhcp" => {
                    let names = element.value("names");
                    let is_said = |value: Option<&str>| matches!(value, Some("known" | "all"));
                    let wrong = match element.value("guests") {
                        None if names.is_some() => None,
                        guests => (!is_said(guests)).then_some("guests"),
                    };
                    let wrong = wrong.or(names.is_some_and(|n| !is_said(Some(n))).then_some("names"));
                    if let Some(attribute) = wrong {
                        let message = format!("the attribute '{attribute}' must be 'known' or 'all'");
                        remarks.errors.push(at(element.pos, "berth:dhcp", message));
                    }
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
            say(format!("the port {} is forwarded already", forward.host_ports()));
        }
        if seen.len() == MAX_FORWARDS {
            say(format!("there are more than {MAX_FORWARDS} forwarded ports"));
        }
        let v6 = forward.is_ipv6();
        let has_address = unread.ip || self.ips.iter().any(|ip| ip.address.is_ipv6() == v6);
        if !self.has_own_bridge() || !has_address {
            let family = if v6 { "IPv6" } else { "IPv4" };
            say(format!("ports are only forwarded to a network with an {family} address of the host"));
        }
        if v6 && forward.address().is_none() {
            let guest = &forward.guest;
            say(format!(
                "with IPv6 the guest must be an address, or forward the port itself: '{guest}' is a name"
            ));
        }
        if let Some(service) = self.services().iter().find(|s| s.is_meant(&forward)).filter(|_| !unread.ip) {
            let (port, protocol, address) = (service.port, service.protocol, service.address);
            say(format!(
                "the port {port}/{protocol} of {address} is that of the network's own name server or DHCP"
            ));
        }
        let guest = forward.address().filter(|_| !unread.ip);
        if let Some(why) = guest.and_then(|address| self.no_guest(address)) {
            say(why);
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
    let ports = |name: &str| {
        let text = element.value(name).ok_or_else(|| format!("the attribute '{name}' is missing"))?;
        ports(text)
            .ok_or_else(|| format!("{name} '{text}' is not a port, nor a range of ports such as 8000-8010"))
    };
    let protocol = match element.value("proto") {
        None | Some("tcp") => Protocol::Tcp,
        Some("udp") => Protocol::Udp,
        Some(other) => return Err(format!("proto '{other}' is not one of tcp, udp")),
    };
    let host_address = match element.value("host-address").filter(|a| !a.is_empty()) {
        None => None,
        Some(text) => match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) => None,
            Ok(IpAddr::V6(Ipv6Addr::LOCALHOST)) => {
                return Err(
                    "host-address '::1' does not work: the kernel gives no answers of guests to it; the host's own \
                     programs reach a guest by 127.0.0.1, or by another IPv6 address of the host"
                        .into()
                );
            }
            Ok(address) if is_of_host(address) => Some(address),
            Ok(_) => return Err(format!("host-address '{text}' cannot be an address of the host")),
            Err(_) => return Err(format!("host-address '{text}' is not an IP address")),
        },
    };
    let (host_port, last_host_port) = ports("host-port")?;
    let guest = guest.or_else(|| element.value("guest")).filter(|g| !g.is_empty());
    let guest = guest.ok_or("the attribute 'guest' is missing")?;
    let (port, last) =
        if element.value("port").is_some() { ports("port")? } else { (host_port, last_host_port) };
    let (wanted, there) = (u32::from(last_host_port - host_port) + 1, u32::from(last - port) + 1);
    if wanted != there {
        let named = |count| if count == 1 { "port" } else { "ports" };
        return Err(format!(
            "host-port '{}' is {wanted} {}, and port '{}' is {there} {}",
            row(host_port, last_host_port),
            named(wanted),
            row(port, last),
            named(there)
        ));
    }
    let said = element.value("host-address").and_then(|a| a.parse::<IpAddr>().ok());
    if let (Some(host), Ok(address)) = (said, guest.parse::<IpAddr>())
        && host.is_ipv6() != address.is_ipv6()
    {
        return Err(format!("host-address '{host}' and guest '{address}' are of two families"));
    }
    Ok(PortForward { protocol, host_address, host_port, last_host_port, guest: guest.to_owned(), port })
}

/// One port, or the first and the last of a row.
fn ports(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    // Not the signs that a number may have elsewhere.
    let port =
        |text: &str| text.parse().ok().filter(|port| *port > 0 && text.bytes().all(|b| b.is_ascii_digit()));
    Some((port(first)?, port(last)?)).filter(|(first, last)| first <= last)
}

fn row(first: u16, last: u16) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

fn is_of_host(address: IpAddr) -> bool {
    // They are no address of one host, or each of its links may have the same.
    let v6 = match address {
        IpAddr::V4(v4) => return !v4.is_multicast() && !v4.is_broadcast() && v4.octets()[0] != 0,
        IpAddr::V6(v6) => v6,
    };
    v6.to_ipv4_mapped().is_none() && !v6.is_multicast() && !v6.is_unicast_link_local()
}

#[cfg(test)]
mod test {
    use crate::network::parse_network;

    fn forward(attributes: &str, ips: &str) -> Result<Vec<bool>, String> {
        let xml = format!(
            "<network><name>n</name><metadata><b:settings xmlns:b='urn:berth:network:1'>\
             <b:forward host-port='1' {attributes}/></b:settings></metadata><bridge name='b0'/>{ips}</network>"
        );
        match parse_network(&xml) {
            Ok(parsed) => Ok(parsed.network.forwards().iter().map(|f| f.is_ipv6()).collect()),
            Err(e) => Err(e.diagnostics.into_iter().map(|d| d.message).collect::<Vec<_>>().join(", ")),
        }
    }

    fn rows(forwards: &[&str]) -> Result<Vec<String>, String> {
        let all: String = forwards.iter().map(|f| format!("<b:forward guest='10.0.0.5' {f}/>")).collect();
        let xml = format!(
            "<network><name>n</name><metadata><b:settings xmlns:b='urn:berth:network:1'>{all}</b:settings>\
             </metadata><bridge name='b0'/><ip address='10.0.0.1' prefix='24'/></network>"
        );
        let told = |f: &super::PortForward| format!("{} {}-{}", f.host_ports(), f.port, f.last_port());
        match parse_network(&xml) {
            Ok(parsed) => Ok(parsed.network.forwards().iter().map(told).collect()),
            Err(e) => Err(e.diagnostics.into_iter().map(|d| d.message).collect::<Vec<_>>().join(", ")),
        }
    }

    #[test]
    fn who_gets_an_address() {
        let read = |guests: &str| {
            let xml = format!(
                "<network><name>n</name><metadata><b:settings xmlns:b='urn:berth:network:1'><b:dhcp {guests}/>\
                 </b:settings></metadata><bridge name='b0'/></network>"
            );
            let parsed = parse_network(&xml).map_err(|e| e.diagnostics[0].message.clone())?;
            assert!(parsed.warnings.is_empty());
            Ok::<_, String>((parsed.network.serves_known_guests(), parsed.network.names_known_guests()))
        };
        assert_eq!((read("guests='known'"), read("guests='all'")), (Ok((true, false)), Ok((false, false))));
        assert_eq!(read("names='known'"), Ok((false, true)));
        assert_eq!(read("guests='known' names='all'"), Ok((true, false)));
        assert_eq!(read("names='mine'"), Err("the attribute 'names' must be 'known' or 'all'".to_owned()));
        let wrong = Err("the attribute 'guests' must be 'known' or 'all'".to_owned());
        assert_eq!((read(""), read("guests='mine'")), (wrong.clone(), wrong));
    }

    #[test]
    fn ports_in_a_row() {
        let good =
            |forward: &str, told: &str| assert_eq!(rows(&[forward]), Ok(vec![told.to_owned()]), "{forward}");
        good("host-port='80'", "80/tcp 80-80");
        good("host-port='80-80'", "80/tcp 80-80");
        good("host-port='8000-8010'", "8000-8010/tcp 8000-8010");
        good("host-port='8000-8010' port='80-90' proto='udp'", "8000-8010/udp 80-90");
        good("host-port='1-65535'", "1-65535/tcp 1-65535");
        good("host-port='65000-65535' port='1-536'", "65000-65535/tcp 1-536");
        let bad =
            |forward: &str, message: &str| assert_eq!(rows(&[forward]), Err(message.to_owned()), "{forward}");
        for text in
            ["0", "65536", "8010-8000", "-80", "80-", "+80", "80-+90", "0-5", "", "80-90-100", "http", " 80"]
        {
            let message = format!("host-port '{text}' is not a port, nor a range of ports such as 8000-8010");
            bad(&format!("host-port='{text}'"), &message);
        }
        bad("host-port='8000-8010' port='80'", "host-port '8000-8010' is 11 ports, and port '80' is 1 port");
        bad("host-port='80' port='80-81'", "host-port '80' is 1 port, and port '80-81' is 2 ports");
        for (one, other) in
            [("80-90", "90-95"), ("80-90", "70-80"), ("80-90", "85"), ("85", "80-90"), ("1-9", "1-9")]
        {
            let told = rows(&[&format!("host-port='{one}'"), &format!("host-port='{other}'")]);
            assert_eq!(told, Err(format!("the port {other}/tcp is forwarded already")), "{one} and {other}");
        }
        assert!(rows(&["host-port='80-90'", "host-port='91-95'", "host-port='80-90' proto='udp'"]).is_ok());
    }

    #[test]
    fn rows_have_a_first_port_in_common() {
        let row = |first, last| super::PortForward {
            protocol: super::Protocol::Tcp,
            host_address: None,
            host_port: first,
            last_host_port: last,
            guest: "10.0.0.5".into(),
            port: first,
        };
        for (one, other, common) in [
            ((80, 90), (85, 95), 85),
            ((80, 90), (70, 80), 80),
            ((80, 90), (85, 85), 85),
            ((5, 5), (1, 9), 5),
        ] {
            let (one, other) = (row(one.0, one.1), row(other.0, other.1));
            assert!(one.meets(&other));
            assert_eq!(one.common_port(&other), format!("{common}/tcp"));
            assert_eq!(other.common_port(&one), format!("{common}/tcp"));
        }
    }

    #[test]
    fn a_forwarded_port_is_of_one_family() {
        let v4 = "<ip address='10.0.0.1' prefix='24'/>";
        let v6 = "<ip family='ipv6' address='fd00::1' prefix='64'/>";
        let both = &format!("{v4}{v6}");
        for attributes in ["guest='web'", "guest='10.0.0.5'", "guest='web' host-address='0.0.0.0'"] {
            assert_eq!(forward(attributes, both), Ok(vec![false]), "{attributes}");
        }
        for attributes in ["", "host-address='::'", "host-address='2001:db8::1'"] {
            let attributes = format!("guest='fd00::5' {attributes}");
            assert_eq!(forward(&attributes, both), Ok(vec![true]), "{attributes}");
        }
        let name = "with IPv6 the guest must be an address, or forward the port itself: 'web' is a name";
        for (attributes, ips, message) in [
            ("guest='fd00::5'", v4, "ports are only forwarded to a network with an IPv6 address of the host"),
            ("guest='web'", v6, "ports are only forwarded to a network with an IPv4 address of the host"),
            ("guest='fd01::5'", v6, "the address 'fd01::5' is not of this network"),
            ("guest='10.0.0.1'", v4, "the address '10.0.0.1' is the host's own"),
            ("guest='fd00::1'", v6, "the address 'fd00::1' is the host's own"),
            ("guest='10.0.0.0'", v4, "the address '10.0.0.0' is that of the network, or of all its guests"),
            (
                "guest='10.0.0.255'",
                v4,
                "the address '10.0.0.255' is that of the network, or of all its guests",
            ),
            ("guest='web' host-address='::'", both, name),
            (
                "guest='fd00::5' host-address='192.0.2.1'",
                both,
                "host-address '192.0.2.1' and guest 'fd00::5' are of two families",
            ),
            (
                "guest='fd00::5' host-address='0.0.0.0'",
                both,
                "host-address '0.0.0.0' and guest 'fd00::5' are of two families",
            ),
            (
                "guest='10.0.0.5' host-address='::'",
                both,
                "host-address '::' and guest '10.0.0.5' are of two families",
            ),
            ("guest='fd00::5' host-address='::1'", both, "host-address '::1' does not work: "),
            (
                "guest='fd00::5' host-address='fe80::1'",
                both,
                "host-address 'fe80::1' cannot be an address of the host",
            ),
            (
                "guest='10.0.0.5' host-address='224.0.0.1'",
                v4,
                "host-address '224.0.0.1' cannot be an address of the host",
            ),
            (
                "guest='10.0.0.5' host-address='255.255.255.255'",
                v4,
                "host-address '255.255.255.255' cannot be an address of the host",
            ),
            (
                "guest='10.0.0.5' host-address='0.0.0.7'",
                v4,
                "host-address '0.0.0.7' cannot be an address of the host",
            ),
        ] {
            let told = forward(attributes, ips);
            assert!(told.as_ref().is_err_and(|e| e.starts_with(message)), "{attributes}: {told:?}");
        }
    }
}
