//! What dnsmasq is told about one network: its configuration, and the two files that it reads again on SIGHUP.
//!
//! Pure. Does not know the process.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use berth_domain::network::model::{DhcpHost, DhcpRange, Lease, NetworkIp};
use berth_domain::network::{NOWHERE, Network, network_address};
use berth_schemas::name::DomainName;

use super::Port;

/// Names that no guest gets, with any domain: programs trust whoever has one. Browsers ask *wpad* which proxy to use (CERT
/// VU#598349), and Windows *isatap* for a way to IPv6; *localhost* and what distributions call it besides is who asks
/// (RFC 6761, 6.3), and *invalid* is known to be nobody (6.4).
const NOBODYS: [&str; 8] =
    ["invalid", "ip6-localhost", "ip6-loopback", "isatap", "localhost", "localhost4", "localhost6", "wpad"];
/// What dnsmasq marks guests with that ask for one of them.
const NOBODY: &str = "nobodys";
/// Seconds of a lease of IPv6 where the document does not say: guests that are made anew have a new name for themselves
/// each time, and leave the address of the old one behind.
const LEASE_V6: u32 = 3600;
/// What dnsmasq itself marks guests with that have a line among the hosts. Marks of our own in those lines are not to be
/// had: dnsmasq 2.90 crashes when it is told to read the file again after it has answered such a guest.
const KNOWN: &str = "known";

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Places<'a> {
    /// Where it writes its number.
    pub pid: &'a Path,
    /// What guests were given.
    pub leases: &'a Path,
    /// Guests with a name or an address of their own.
    pub hosts: &'a Path,
    /// Addresses with names.
    pub names: &'a Path,
    /// As whom it runs.
    pub user: &'a str,
    /// With which group.
    pub group: &'a str,
}

/// Whether a network needs dnsmasq at all.
pub fn needed(network: &Network) -> bool {
    let answers = network.dns.as_ref().is_none_or(|d| d.enable != Some(false));
    network.has_own_bridge()
        && !network.ips.is_empty()
        && (answers || network.ips.iter().any(|ip| ip.dhcp.is_some() || ip.address.is_ipv6()))
}

/// The configuration.
pub fn config(network: &Network, bridge: &str, places: &Places<'_>) -> String {
    let mut out = String::from("# Written by berthd for one network; a change here is lost.\n");
    let mut put = |line: String| {
        out.push_str(&line);
        out.push('\n');
    };
    put("strict-order".into());
    put("no-hosts".into());
    put(format!("user={}", places.user));
    put(format!("group={}", places.group));
    put(format!("pid-file={}", places.pid.display()));
    put("except-interface=lo".into());
    put("bind-dynamic".into());
    put(format!("interface={bridge}"));
    if let Some(domain) = &network.domain {
        if domain.local_only == Some(true) {
            put(format!("local=/{}/", domain.name));
        }
        put(format!("domain={}", domain.name));
        put("expand-hosts".into());
    }
    names(network, &mut put);
    let isolated = network.forward.is_none();
    let dhcp: Vec<&NetworkIp> = network.ips.iter().filter(|ip| ip.dhcp.is_some()).collect();
    if isolated {
        // There is no way out: no router, and nobody to ask about the world's names.
        put("dhcp-option=3".into());
        put("no-resolv".into());
        if network.ips.iter().any(|ip| ip.address.is_ipv6()) {
            // Announced without a life as a router: guests with another way out must not come here.
            put("ra-param=*,0,0".into());
        }
    }
    if let Some(mtu) = network.mtu {
        put(format!("dhcp-option=option:mtu,{mtu}"));
    }
    for ip in &dhcp {
        ranges(ip, &mut put);
    }
    for ip in network.ips.iter().filter(|ip| ip.address.is_ipv6()) {
        if ip.dhcp.is_none() {
            put(format!("dhcp-range={},ra-only", network_address(ip.address, ip.prefix_length())));
        }
    }
    if network.ips.iter().any(|ip| ip.address.is_ipv6()) {
        put("enable-ra".into());
    }
    if !dhcp.is_empty() {
        put("dhcp-no-override".into());
        put("dhcp-authoritative".into());
        // It would ask for three seconds whether an address is taken, and answer no other guest meanwhile. Those that
        // documents give are told it below.
        put("no-ping".into());
        for name in NOBODYS {
            // It is compared with what the guest sends, which may be with a domain.
            put(format!("dhcp-name-match=set:{NOBODY},{name}"));
            put(format!("dhcp-name-match=set:{NOBODY},{name}.*"));
        }
        put(format!("dhcp-ignore-names=tag:{NOBODY}"));
        if network.names_known_guests() {
            // Nobody has the name of a domain that has not asked yet, but that domain. One whose own name cannot be said
            // in a line has none, nor have its further interfaces: they would not be held to a name.
            put(format!("dhcp-ignore-names=tag:!{KNOWN}"));
        }
        if network.serves_known_guests() {
            // One guest has one address, whatever it calls itself.
            put(format!("dhcp-ignore=tag:!{KNOWN}"));
            put("dhcp-ignore-clid".into());
        }
        put(format!("dhcp-lease-max={}", most_leases(&dhcp)));
        put(format!("dhcp-leasefile={}", places.leases.display()));
        put(format!("dhcp-hostsfile={}", places.hosts.display()));
    }
    put(format!("addn-hosts={}", places.names.display()));
    out
}

fn names(network: &Network, put: &mut impl FnMut(String)) {
    if network.dns.as_ref().is_some_and(|d| d.enable == Some(false)) {
        put("port=0".into());
        return;
    }
    for ip in network.ips.iter().filter(|ip| ip.local_ptr == Some(true)) {
        put(format!("local=/{}/", reverse_zone(ip.address, ip.prefix_length())));
    }
    // Guests without a list of their own ask here. What else is asked of these names is nobody's either.
    for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        put(format!("address=/localhost/{address}"));
    }
    for name in ["localhost", "invalid"] {
        put(format!("local=/{name}/"));
    }
    let Some(dns) = &network.dns else { return };
    if dns.forward_plain_names == Some(false) {
        put("domain-needed".into());
        // Those that nobody here has are not asked for elsewhere.
        put("local=//".into());
    }
    if dns.forwarders.iter().any(|f| f.domain.is_none()) {
        put("no-resolv".into());
    }
    for forwarder in &dns.forwarders {
        let addr = forwarder.addr.map(|a| a.to_string());
        match (&forwarder.domain, addr) {
            (Some(domain), Some(addr)) => put(format!("server=/{domain}/{addr}")),
            (Some(domain), None) => put(format!("server=/{domain}/#")),
            (None, Some(addr)) => put(format!("server={addr}")),
            (None, None) => {}
        }
    }
    for txt in &dns.txts {
        let value = quoted(txt.value.as_deref().unwrap_or_default());
        put(format!("txt-record={},{value}", txt.name));
    }
    for srv in &dns.srvs {
        let mut line = format!("srv-host=_{}._{}", srv.service, srv.protocol);
        if let Some(domain) = &srv.domain {
            let _ = write!(line, ".{domain}");
        }
        // A service that is not to be had is a record without a target here, and one with the root's name in DNS.
        if let Some(target) = srv.target.as_ref().filter(|t| *t != NOWHERE) {
            let (port, priority, weight) =
                (srv.port.unwrap_or(1), srv.priority.unwrap_or(0), srv.weight.unwrap_or(0));
            let _ = write!(line, ",{target},{port},{priority},{weight}");
        }
        put(line);
    }
}

/// Text of which nothing has a meaning of its own in the configuration.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The zone of the names of a network's addresses; its prefix is a whole number of labels.
fn reverse_zone(address: IpAddr, prefix: u8) -> String {
    match address {
        IpAddr::V4(a) => {
            let labels = a.octets().into_iter().take(usize::from(prefix / 8));
            let labels: Vec<String> = labels.map(|o| o.to_string()).rev().collect();
            format!("{}.in-addr.arpa", labels.join("."))
        }
        IpAddr::V6(a) => {
            let nibbles = a.octets().into_iter().flat_map(|o| [o >> 4, o & 15]);
            let labels: Vec<String> =
                nibbles.take(usize::from(prefix / 4)).map(|n| format!("{n:x}")).collect();
            let reversed: Vec<String> = labels.into_iter().rev().collect();
            format!("{}.ip6.arpa", reversed.join("."))
        }
    }
}

fn ranges(ip: &NetworkIp, put: &mut impl FnMut(String)) {
    let Some(dhcp) = &ip.dhcp else { return };
    let length = ip.prefix_length();
    let end = match ip.address {
        IpAddr::V4(_) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            Ipv4Addr::from(mask).to_string()
        }
        IpAddr::V6(_) => length.to_string(),
    };
    for DhcpRange { start, end: last, lease, .. } in &dhcp.ranges {
        let lease = lease.map(|l| format!(",{}", lease_text(l)));
        // Left to itself, dnsmasq gives addresses of IPv6 for a day, and those of IPv4 for an hour.
        let lease = lease.or_else(|| start.is_ipv6().then(|| format!(",{LEASE_V6}"))).unwrap_or_default();
        put(format!("dhcp-range={start},{last},{end}{lease}"));
    }
    if dhcp.ranges.is_empty() && !dhcp.hosts.is_empty() {
        let network = network_address(ip.address, length);
        put(match ip.address {
            IpAddr::V4(_) => format!("dhcp-range={network},static,{end}"),
            IpAddr::V6(_) => format!("dhcp-range={network},static,{end}"),
        });
    }
}

fn lease_text(lease: Lease) -> String {
    if lease.expiry == 0 { "infinite".into() } else { lease.seconds().to_string() }
}

/// As many as there are addresses, in reason.
fn most_leases(ips: &[&NetworkIp]) -> u64 {
    let ranges = ips.iter().filter_map(|ip| ip.dhcp.as_ref()).flat_map(|d| &d.ranges);
    let size = |r: &DhcpRange| match (r.start, r.end) {
        (IpAddr::V4(a), IpAddr::V4(b)) => u64::from(u32::from(b).saturating_sub(u32::from(a))) + 1,
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            u64::try_from(u128::from(b).saturating_sub(u128::from(a))).unwrap_or(u64::MAX).saturating_add(1)
        }
        _ => 0,
    };
    let hosts = ips.iter().filter_map(|ip| ip.dhcp.as_ref()).map(|d| d.hosts.len() as u64).sum::<u64>();
    ranges.map(size).fold(hosts, u64::saturating_add).clamp(16, 65_536)
}

/// What a guest is called; none where its name is no name of DNS, or nobody's.
fn dns_name(port: &Port) -> Option<String> {
    let name = DomainName::parse(&port.name).ok()?.hostname();
    (!is_nobodys(&name) && name.len() <= 63).then_some(name)
}

fn is_nobodys(name: &str) -> bool {
    NOBODYS.iter().any(|other| name.eq_ignore_ascii_case(other))
}

/// What a guest is called where it gets its address; none where its name is none that can be said there.
pub fn guest_name(port: &Port) -> Option<String> {
    dns_name(port).filter(|name| !is_word(name))
}

/// The address of a guest's document that is one of the network.
fn own_address(network: &Network, port: &Port) -> Option<Ipv4Addr> {
    port.address.filter(|a| is_within(network, (*a).into()))
}

/// Likewise of either family.
fn own_addresses(network: &Network, port: &Port) -> Vec<IpAddr> {
    let v6 = port.address6.map(IpAddr::V6).filter(|a| is_within(network, *a));
    own_address(network, port).map(IpAddr::V4).into_iter().chain(v6).collect()
}

fn is_within(network: &Network, address: IpAddr) -> bool {
    network.ips.iter().any(|ip| ip.contains(address))
}

/// Whether dnsmasq takes a name in a line of a host for something else: a word, the time of a lease, or an address
/// (dnsmasq(8), "dhcp-host"). There is no way to say that it is a name.
fn is_word(name: &str) -> bool {
    let time = name.strip_suffix(|c: char| "smhdwSMHDW".contains(c)).unwrap_or(name);
    let is_time = !time.is_empty() && time.bytes().all(|b| b.is_ascii_digit());
    is_time || name.parse::<IpAddr>().is_ok() || ["ignore", "infinite", "deprecated"].contains(&name)
}

/// Whether a guest of the document is known by its name alone.
fn is_name_alone(host: &DhcpHost) -> bool {
    host.mac.is_none() && host.id.is_none()
}

/// Guests with a name or an address of their own: the document's, and those that have a port. `fixed` are addresses
/// that were chosen, by hardware address.
pub fn hosts(network: &Network, ports: &[Port], fixed: &BTreeMap<String, Ipv4Addr>) -> String {
    let mut out = String::new();
    let mut seen: Vec<String> = Vec::new();
    let all = network.ips.iter().filter_map(|ip| ip.dhcp.as_ref()).flat_map(|d| &d.hosts);
    let said: Vec<&DhcpHost> = all.collect();
    let has_own_line = |port: &Port| said.iter().any(|h| h.mac.as_ref() == Some(&port.mac));
    let guests: Vec<&Port> = ports.iter().filter(|p| !has_own_line(p)).collect();
    let only_known = network.serves_known_guests();
    for host in &said {
        // A name is nothing that tells one guest from others: nobody is known by it alone.
        if only_known && is_name_alone(host) {
            continue;
        }
        // The line of the guest with that name has what is said of it: dnsmasq takes the first of several.
        let is_here = |p: &&Port| guest_name(p).is_some() && guest_name(p) == host.name;
        let is_taken = said.iter().any(|o| !is_name_alone(o) && o.name == host.name);
        if is_name_alone(host) && !is_taken && guests.iter().any(is_here) {
            continue;
        }
        let port = ports.iter().find(|p| host.mac.as_ref() == Some(&p.mac));
        let name = host.name.clone().filter(|n| !is_word(n)).or_else(|| port.and_then(guest_name));
        seen.extend(name.clone());
        let id = host.id.as_ref().map(|id| format!("id:{id}"));
        let ip = host.ip.map(|ip| if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() });
        let lease = host.lease.map(lease_text);
        let words: Vec<String> = [host.mac.clone(), id, ip, name, lease].into_iter().flatten().collect();
        out.push_str(&words.join(","));
        out.push('\n');
    }
    for port in guests {
        // The second interface of a domain must not take the name from the first.
        let name = guest_name(port).filter(|name| !seen.contains(name));
        seen.extend(name.clone());
        let of_name = |h: &&&DhcpHost| is_name_alone(h) && name.is_some() && h.name == name;
        let hosts: Vec<&&DhcpHost> = said.iter().filter(of_name).collect();
        let of_family = |v6: bool| hosts.iter().filter_map(|h| h.ip).find(|ip| ip.is_ipv6() == v6);
        let own = own_address(network, port).or_else(|| fixed.get(&port.mac).copied()).map(IpAddr::V4);
        let ip = own.or_else(|| of_family(false)).map(|ip| ip.to_string());
        if name.is_none() && ip.is_none() && !only_known {
            continue;
        }
        let v6 = of_family(true).map(|ip| format!("[{ip}]"));
        let lease = hosts.iter().find_map(|h| h.lease).map(lease_text);
        let words: Vec<String> =
            [Some(port.mac.clone()), ip, v6, name, lease].into_iter().flatten().collect();
        out.push_str(&words.join(","));
        out.push('\n');
    }
    out
}

/// Addresses with names: the document's, and those of guests that may never ask for one.
pub fn addresses(network: &Network, ports: &[Port]) -> String {
    let said = network.dns.iter().flat_map(|d| &d.hosts);
    let with_address = said.clone().filter_map(|h| Some((h.ip?, h)));
    let mut out: String = with_address.map(|(ip, h)| format!("{ip}\t{}\n", h.hostnames.join("\t"))).collect();
    let mut line = |ip: IpAddr, name: &str| {
        let _ = writeln!(out, "{ip}\t{name}");
    };
    // Names of guests that cannot be said where they get their addresses.
    let guests = network.ips.iter().filter_map(|ip| ip.dhcp.as_ref()).flat_map(|d| &d.hosts);
    for host in guests.clone() {
        if let (Some(ip), Some(name)) = (host.ip, host.name.as_ref().filter(|n| is_word(n))) {
            line(ip, name);
        }
    }
    // A domain does not take the name that the document gives to somebody else.
    let mut seen: Vec<String> = said.flat_map(|h| &h.hostnames).map(|n| n.to_ascii_lowercase()).collect();
    for port in ports {
        let Some(name) = dns_name(port) else { continue };
        let own = own_addresses(network, port);
        let differs = |ip: IpAddr| own.iter().any(|o| o.is_ipv6() == ip.is_ipv6() && *o != ip);
        let is_other = |h: &&DhcpHost| !is_name_alone(h) || h.ip.is_some_and(differs);
        let others = guests.clone().filter(|h| h.mac.as_ref() != Some(&port.mac)).filter(is_other);
        let taken = others.filter_map(|h| h.name.as_ref()).any(|n| n.eq_ignore_ascii_case(&name));
        if taken || seen.contains(&name.to_ascii_lowercase()) {
            continue;
        }
        // The document calls it otherwise: it is known by both names, and its address by the document's.
        let is_first = ports.iter().find(|p| p.name == port.name).is_some_and(|p| p.mac == port.mac);
        let said_of_it = guests.clone().filter(|h| is_first && h.mac.as_ref() == Some(&port.mac));
        let otherwise = |h: &&DhcpHost| h.name.as_ref().is_some_and(|n| !n.eq_ignore_ascii_case(&name));
        let also: Vec<(IpAddr, &str)> = said_of_it
            .filter(otherwise)
            .filter(|h| h.name.as_ref().is_some_and(|n| !is_nobodys(n)))
            .filter_map(|h| Some((h.ip?, h.name.as_deref()?)))
            .filter(|(ip, _)| !own.iter().any(|o| o.is_ipv6() == ip.is_ipv6()))
            .collect();
        if own.is_empty() && also.is_empty() {
            continue;
        }
        own.into_iter().for_each(|address| line(address, &name));
        for (ip, other) in also {
            let is_known = is_word(other) || seen.contains(&other.to_ascii_lowercase());
            line(ip, &if is_known { name.clone() } else { format!("{other}\t{name}") });
        }
        seen.push(name.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod test {
    use super::*;

    fn network(inner: &str) -> Network {
        let text = format!("<network><name>n</name>{inner}</network>");
        berth_domain::network::parse_network(&text).expect("good").network
    }

    fn lines(inner: &str) -> Vec<String> {
        let path = Path::new("/x");
        let places = Places { pid: path, leases: path, hosts: path, names: path, user: "u", group: "g" };
        config(&network(inner), "br", &places).lines().map(str::to_owned).collect()
    }

    #[test]
    fn reverse_names_are_asked_nobody_else() {
        let ip = "<ip address='10.9.8.1' prefix='24' localPtr='yes'/>";
        let zone = "local=/8.9.10.in-addr.arpa/".to_owned();
        for dns in ["", "<dns/>", "<dns><host ip='10.9.8.2'><hostname>h</hostname></host></dns>"] {
            assert!(lines(&format!("{dns}{ip}")).contains(&zone), "{dns}");
        }
        let none = lines(&format!("<dns enable='no'/>{ip}"));
        assert!(none.contains(&"port=0".to_owned()) && !none.contains(&zone), "{none:?}");
    }

    #[test]
    fn a_service_can_be_said_to_be_nowhere() {
        let srv = |rest: &str| {
            let dns = format!("<dns><srv service='ldap' protocol='tcp' domain='d.test' {rest}/></dns>");
            let all = lines(&format!("{dns}<ip address='10.9.8.1' prefix='24'/>"));
            all.into_iter().find(|l| l.starts_with("srv-host=")).unwrap_or_default()
        };
        assert_eq!(srv("target='.' port='1024' priority='10' weight='10'"), "srv-host=_ldap._tcp.d.test");
        assert_eq!(srv("target='a.test' port='389'"), "srv-host=_ldap._tcp.d.test,a.test,389,0,0");
    }

    #[test]
    fn a_text_is_what_it_is() {
        let txt = |value: &str| {
            let all = lines(&format!(
                "<dns><txt name='p' value='{value}'/></dns><ip address='10.9.8.1' prefix='24'/>"
            ));
            all.into_iter().find(|l| l.starts_with("txt-record=")).unwrap_or_default()
        };
        assert_eq!(txt("v=1, # x"), r#"txt-record=p,"v=1, # x""#);
        assert_eq!(txt(r"C:\temp \\srv"), r#"txt-record=p,"C:\\temp \\\\srv""#);
        assert_eq!(txt(r"a &quot;q&quot;\"), r#"txt-record=p,"a \"q\"\\""#);
    }

    #[test]
    fn some_names_are_nobodys() {
        let all = lines(
            "<domain name='d.test'/><ip address='10.9.8.1' prefix='24'><dhcp><range start='10.9.8.2' \
             end='10.9.8.9'/></dhcp></ip>",
        );
        for name in NOBODYS {
            for asked in [name.to_owned(), format!("{name}.*")] {
                let line = format!("dhcp-name-match=set:nobodys,{asked}");
                assert!(all.contains(&line), "{line}");
            }
        }
        for line in ["dhcp-ignore-names=tag:nobodys", "address=/localhost/::1", "local=/invalid/"] {
            assert!(all.contains(&line.to_owned()), "{line}");
        }
        let none = lines("<dns enable='no'/><ip address='10.9.8.1' prefix='24'/>");
        assert!(!none.iter().any(|l| l.contains("localhost")), "{none:?}");
        // Nor a domain's, where it gets its address.
        for name in ["wpad", "Isatap", "localhost", "ip6_localhost"] {
            let port = Port { name: name.into(), mac: "52:54:00:00:00:01".into(), ..Port::default() };
            assert_eq!(guest_name(&port), None, "{name}");
        }
    }

    #[test]
    fn names_are_no_words_of_dnsmasq() {
        for word in ["ignore", "infinite", "101", "2d", "45M", "10.1.1.1"] {
            assert!(is_word(word), "{word}");
        }
        for name in ["web", "d2", "2x", "ignored", "1-2", "m", "a.1"] {
            assert!(!is_word(name), "{name}");
        }
        let port = |name: &str| Port {
            domain: uuid::Uuid::nil(),
            name: name.into(),
            mac: "52:54:00:00:00:01".into(),
            ..Port::default()
        };
        assert_eq!((guest_name(&port("ignore")), guest_name(&port("2d"))), (None, None));
        assert_eq!(guest_name(&port("web")).as_deref(), Some("web"));
        let lan = network(
            "<ip address='10.77.0.1' prefix='24'><dhcp><host mac='52:54:00:00:00:02' name='ignore' ip='10.77.0.7'/>\
             </dhcp></ip>",
        );
        assert_eq!(hosts(&lan, &[port("ignore")], &BTreeMap::new()), "52:54:00:00:00:02,10.77.0.7\n");
        assert_eq!(addresses(&lan, &[]), "10.77.0.7\tignore\n");
    }

    #[test]
    fn a_guest_with_an_address_of_its_own_has_a_name() {
        let port = |name: &str, address: &str, n: u8| Port {
            domain: uuid::Uuid::nil(),
            name: name.into(),
            mac: format!("52:54:00:00:00:{n:02x}"),
            address: address.parse().ok(),
            ..Port::default()
        };
        let lan = network(
            "<dns><host ip='10.77.0.5'><hostname>Printer</hostname></host></dns>\
             <ip address='10.77.0.1' prefix='24'><dhcp>\
             <host mac='52:54:00:00:00:99' name='db' ip='10.77.0.7'/>\
             <host mac='52:54:00:00:00:08' name='mail' ip='10.77.0.8'/></dhcp></ip>",
        );
        let said = "10.77.0.5\tPrinter\n";
        let named = |ports: &[Port]| addresses(&lan, ports).strip_prefix(said).map(str::to_owned);
        let web = port("web", "10.77.0.9", 9);
        assert_eq!(named(std::slice::from_ref(&web)).as_deref(), Some("10.77.0.9\tweb\n"));
        // Of both families, if the network has both.
        let both = Port { address6: "fd77::9".parse().ok(), ..web.clone() };
        assert_eq!(named(std::slice::from_ref(&both)).as_deref(), Some("10.77.0.9\tweb\n"));
        let two =
            network("<ip address='10.77.0.1' prefix='24'/><ip family='ipv6' address='fd77::1' prefix='64'/>");
        assert_eq!(addresses(&two, std::slice::from_ref(&both)), "10.77.0.9\tweb\nfd77::9\tweb\n");
        assert_eq!(addresses(&two, &[Port { address: None, ..both }]), "fd77::9\tweb\n");
        // Only the first interface, none outside the network, and nobody else's name.
        let second = port("web", "10.77.0.10", 10);
        assert_eq!(named(&[web, second]).as_deref(), Some("10.77.0.9\tweb\n"));
        for (name, address) in
            [("web", "10.78.0.9"), ("web", ""), ("db", "10.77.0.9"), ("printer", "10.77.0.9")]
        {
            assert_eq!(named(&[port(name, address, 9)]).as_deref(), Some(""), "{name} {address}");
        }
        for name in ["wpad", "WPAD", "localhost", "Localhost"] {
            assert_eq!(named(&[port(name, "10.77.0.9", 9)]).as_deref(), Some(""), "{name}");
        }
        assert_eq!(named(&[port("mail", "10.77.0.8", 8)]).as_deref(), Some("10.77.0.8\tmail\n"));
        // Names that cannot be said where addresses are given can be said here.
        assert_eq!(named(&[port("101", "10.77.0.9", 9)]).as_deref(), Some("10.77.0.9\t101\n"));
    }

    #[test]
    fn a_guest_that_the_document_calls_otherwise_has_both_names() {
        let port = |name: &str, n: u8| Port {
            name: name.into(),
            mac: format!("52:54:00:00:00:{n:02x}"),
            ..Port::default()
        };
        let lan = |dns: &str, name: &str| {
            network(&format!(
                "{dns}<ip address='10.77.0.1' prefix='24'><dhcp><host mac='52:54:00:00:00:07' {name} ip='10.77.0.7'/>\
                 </dhcp></ip><ip family='ipv6' address='fd77::1' prefix='64'><dhcp>\
                 <host id='0:1' name='six' ip='fd77::7'/></dhcp></ip>"
            ))
        };
        let told = |dns: &str, name: &str, ports: &[Port]| addresses(&lan(dns, name), ports);
        let guest = port("g1", 7);
        assert_eq!(told("", "name='one'", std::slice::from_ref(&guest)), "10.77.0.7\tone\tg1\n");
        // It has the name by DHCP, or nobody knows it.
        for name in ["", "name='g1'", "name='G1'", "name='wpad'"] {
            assert_eq!(told("", name, std::slice::from_ref(&guest)), "", "{name}");
        }
        assert_eq!(told("", "name='one'", &[]), "");
        assert_eq!(told("", "name='101'", std::slice::from_ref(&guest)), "10.77.0.7\t101\n10.77.0.7\tg1\n");
        // The name is that of the first interface, and of nobody whom the document calls so.
        assert_eq!(told("", "name='one'", &[port("g1", 5), guest.clone()]), "");
        assert_eq!(told("", "name='one'", &[guest, port("g1", 5)]), "10.77.0.7\tone\tg1\n");
        assert_eq!(told("", "name='one'", &[port("six", 7)]), "");
        let dns = "<dns><host ip='10.77.0.9'><hostname>one</hostname></host></dns>";
        assert_eq!(told(dns, "name='one'", &[port("g1", 7)]), "10.77.0.9\tone\n10.77.0.7\tg1\n");
    }

    #[test]
    fn leases_of_both_families_are_short() {
        let ranges = |lease: &str| {
            lines(&format!(
                "<ip address='10.9.8.1' prefix='24'><dhcp><range start='10.9.8.2' end='10.9.8.9'/></dhcp></ip>\
                 <ip family='ipv6' address='fd00:9::1' prefix='64'><dhcp><range start='fd00:9::2' end='fd00:9::9'>{lease}\
                 </range></dhcp></ip>"
            ))
        };
        for (lease, told) in [("", "3600"), ("<lease expiry='2' unit='hours'/>", "7200")] {
            let all = ranges(lease);
            assert!(all.contains(&"dhcp-range=10.9.8.2,10.9.8.9,255.255.255.0".to_owned()), "{all:?}");
            assert!(all.contains(&format!("dhcp-range=fd00:9::2,fd00:9::9,64,{told}")), "{all:?}");
        }
    }

    #[test]
    fn an_isolated_network_is_no_way_out() {
        let ips = "<ip address='10.9.8.1' prefix='24'/><ip family='ipv6' address='fd00:9::1' prefix='64'/>";
        let router = "ra-param=*,0,0".to_owned();
        assert!(lines(ips).contains(&router));
        assert!(!lines(&format!("<forward mode='nat'/>{ips}")).contains(&router));
        assert!(!lines("<ip address='10.9.8.1' prefix='24'/>").contains(&router));
    }

    #[test]
    fn who_has_no_port_gets_no_address_where_guests_are_known() {
        let settings = |guests: &str| {
            format!(
                "<metadata><b:settings xmlns:b='urn:berth:network:1'><b:dhcp guests='{guests}'/></b:settings></metadata>\
                 <ip address='10.77.0.1' prefix='24'><dhcp><range start='10.77.0.2' end='10.77.0.9'/>\
                 <host mac='52:54:00:00:00:08' ip='10.77.0.8'/><host name='anybody' ip='10.77.0.7'/></dhcp></ip>"
            )
        };
        let ignored = "dhcp-ignore=tag:!known".to_owned();
        let lan = |guests: &str| lines(&settings(guests));
        assert!(lan("known").contains(&ignored) && lan("known").contains(&"dhcp-ignore-clid".to_owned()));
        assert!(!lan("all").contains(&ignored) && !lan("all").contains(&"dhcp-ignore-clid".to_owned()));
        // Also one whose name cannot be said.
        let ports = [("web", 1), ("ignore", 2)].map(|(name, n)| Port {
            name: name.into(),
            mac: format!("52:54:00:00:00:{n:02x}"),
            ..Port::default()
        });
        assert_eq!(
            hosts(&network(&settings("known")), &ports, &BTreeMap::new()),
            "52:54:00:00:00:08,10.77.0.8\n52:54:00:00:00:01,web\n52:54:00:00:00:02\n"
        );
        // Who is known by name alone has what is said of it where a domain is it.
        let anybody = Port { name: "anybody".into(), mac: "52:54:00:00:00:03".into(), ..Port::default() };
        assert_eq!(
            hosts(&network(&settings("known")), &[anybody], &BTreeMap::new()),
            "52:54:00:00:00:08,10.77.0.8\n52:54:00:00:00:03,10.77.0.7,anybody\n"
        );
    }

    #[test]
    fn who_has_no_port_gets_no_name_where_names_are_those_of_known_guests() {
        let lan = |names: &str| {
            format!(
                "<metadata><b:settings xmlns:b='urn:berth:network:1'><b:dhcp names='{names}'/></b:settings></metadata>\
                 <ip address='10.77.0.1' prefix='24'><dhcp><range start='10.77.0.2' end='10.77.0.9'/></dhcp></ip>"
            )
        };
        let line = "dhcp-ignore-names=tag:!known".to_owned();
        assert!(lines(&lan("known")).contains(&line) && !lines(&lan("all")).contains(&line));
        let ports = [("ignore", 1), ("web", 2), ("web", 3)].map(|(name, n)| Port {
            name: name.into(),
            mac: format!("52:54:00:00:00:{n:02x}"),
            ..Port::default()
        });
        let told = hosts(&network(&lan("known")), &ports, &BTreeMap::new());
        assert_eq!(told, "52:54:00:00:00:02,web\n", "nobody is known who has no name in a line");
    }

    #[test]
    fn guests_are_known_by_name_alone() {
        let lan = network(
            "<ip address='10.77.0.1' prefix='24'><dhcp><host name='onlyname' ip='10.77.0.7'/></dhcp></ip>",
        );
        assert_eq!(hosts(&lan, &[], &BTreeMap::new()), "10.77.0.7,onlyname\n");
    }

    #[test]
    fn a_domain_is_the_guest_that_is_known_by_its_name() {
        let port = |name: &str, n: u8| Port {
            name: name.into(),
            mac: format!("52:54:00:00:00:{n:02x}"),
            ..Port::default()
        };
        let lan = network(
            "<ip address='10.66.0.1' prefix='24'><dhcp><range start='10.66.0.2' end='10.66.0.9'/></dhcp></ip>\
             <ip family='ipv6' address='fd66::1' prefix='64'><dhcp><host name='six2' ip='fd66::222'/>\
             <host id='0:3' name='six3' ip='fd66::333'/></dhcp></ip>",
        );
        let told = |ports: &[Port], fixed: &[(&str, Ipv4Addr)]| {
            let fixed = fixed.iter().map(|(mac, ip)| ((*mac).to_owned(), *ip)).collect();
            hosts(&lan, ports, &fixed)
        };
        let six3 = "id:0:3,[fd66::333],six3\n";
        assert_eq!(
            told(&[port("other", 1)], &[]),
            format!("[fd66::222],six2\n{six3}52:54:00:00:00:01,other\n")
        );
        let line = |rest: &str| format!("{six3}52:54:00:00:00:02,{rest}\n");
        assert_eq!(told(&[port("six2", 2)], &[]), line("[fd66::222],six2"));
        let fixed = [("52:54:00:00:00:02", Ipv4Addr::new(10, 66, 0, 9))];
        assert_eq!(told(&[port("six2", 2), port("six2", 3)], &fixed), line("10.66.0.9,[fd66::222],six2"));
        // Not where the document says who has the name.
        let both = network(
            "<ip address='10.66.0.1' prefix='24'><dhcp><host mac='52:54:00:00:00:09' name='six2'/></dhcp></ip>\
             <ip family='ipv6' address='fd66::1' prefix='64'><dhcp><host name='six2' ip='fd66::222'/></dhcp></ip>",
        );
        let lines = "52:54:00:00:00:09,six2\n[fd66::222],six2\n";
        assert_eq!(hosts(&both, &[port("six2", 2)], &BTreeMap::new()), lines);
        // Where its address is only in its own document, too.
        let own = |name: &str, v6: &str| {
            addresses(
                &lan,
                &[Port { address: "10.66.0.7".parse().ok(), address6: v6.parse().ok(), ..port(name, 2) }],
            )
        };
        assert_eq!(own("six2", ""), "10.66.0.7\tsix2\n");
        assert_eq!(own("six2", "fd66::222"), "10.66.0.7\tsix2\nfd66::222\tsix2\n");
        assert_eq!((own("six2", "fd66::5"), own("six3", "")), (String::new(), String::new()));
    }
}
