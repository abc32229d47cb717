//! What is chosen where a document leaves it open: names of bridges, the default network's addresses, guests' addresses.
//!
//! Pure. Does not know where the candidates' rivals were found.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use berth_domain::network::model::{DhcpHost, DhcpRange, Network};
use berth_domain::network::same_network;

use super::Port;
use super::bridge::HostRoute;
use super::leases::Lease;

/// How the names of our bridges begin; libvirt's are `virbr`.
const PREFIX: &str = "berth";

/// What stands for a number in the name of a bridge.
const NUMBER: &str = "%d";

/// Longest name of an interface (`IFNAMSIZ` minus the final zero).
const LONGEST: usize = 15;

/// Whether the name of a bridge is one that a number goes into.
pub fn is_template(name: &str) -> bool {
    name.contains(NUMBER)
}

/// Whether a bridge could have its name from a template.
pub fn is_made_from(name: &str, template: &str) -> bool {
    let number = template
        .split_once(NUMBER)
        .and_then(|(before, after)| name.strip_prefix(before)?.strip_suffix(after));
    number.is_some_and(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit()))
}

/// A name for a bridge that nobody has, by a template if there is one.
pub fn bridge_name(template: Option<&str>, taken: &BTreeSet<String>) -> Option<String> {
    let (before, after) = template.and_then(|t| t.split_once(NUMBER)).unwrap_or((PREFIX, ""));
    let mut names = (0..10_000).map(|n| format!("{before}{n}{after}"));
    names.find(|name| name.len() <= LONGEST && !taken.contains(name))
}

/// Whether two networks have an address in common.
fn overlap(a: (IpAddr, u8), b: (IpAddr, u8)) -> bool {
    same_network(a.0, b.0, a.1.min(b.1))
}

/// A network of 254 addresses for the default network, which nobody on the host uses.
pub fn default_subnet(routes: &[HostRoute], others: &[(IpAddr, u8)]) -> Option<Ipv4Addr> {
    // Away from what home routers, Docker, libvirt and LXD take first.
    let candidates = (150..250)
        .map(|n| Ipv4Addr::new(10, 150, n, 0))
        .chain((130..250).map(|n| Ipv4Addr::new(192, 168, n, 0)))
        .chain((0..250).map(|n| Ipv4Addr::new(172, 31, n, 0)));
    let free = |candidate: &Ipv4Addr| {
        let own = (IpAddr::V4(*candidate), 24);
        // The default route leads everywhere.
        let routed = routes.iter().any(|r| r.prefix > 0 && overlap(own, (r.address, r.prefix)));
        !routed && !others.iter().any(|o| overlap(own, *o))
    };
    let mut candidates = candidates;
    candidates.find(free)
}

/// The document of the default network.
pub fn default_document(subnet: Ipv4Addr) -> String {
    let [a, b, c, _] = subnet.octets();
    format!(
        "<network>\n  <name>default</name>\n  <metadata>\n    \
         <berth:settings xmlns:berth=\"urn:berth:network:1\">\n      <berth:start mode=\"on-demand\"/>\n    \
         </berth:settings>\n  </metadata>\n  <forward mode='nat'/>\n  \
         <domain name='berth' localOnly='yes'/>\n  \
         <ip address='{a}.{b}.{c}.1' netmask='255.255.255.0'>\n    <dhcp>\n      \
         <range start='{a}.{b}.{c}.2' end='{a}.{b}.{c}.254'/>\n    </dhcp>\n  </ip>\n</network>\n"
    )
}

/// What a network would take from the host's routes: a route to the same network, or into it, by another interface.
pub fn collision(
    network: &Network,
    routes: &[HostRoute],
    own: Option<u32>,
) -> Option<(IpAddr, u8, HostRoute)> {
    let subnets = network
        .ips
        .iter()
        .map(|ip| (ip.address, ip.prefix_length()))
        .chain(network.routes.iter().map(|r| (r.address, r.prefix_length())));
    for (address, prefix) in subnets {
        let link_local = |r: &HostRoute| matches!(r.address, IpAddr::V6(a) if a.is_unicast_link_local());
        let taken = routes.iter().find(|r| {
            r.prefix >= prefix
                && Some(r.interface) != own
                && !link_local(r)
                && same_network(r.address, address, prefix)
        });
        if let Some(route) = taken {
            return Some((address, prefix, *route));
        }
    }
    None
}

/// An address for a guest that ports are forwarded to: the one that it has, else the last one that is free, else one that
/// only somebody has who is no guest of the network now. `ports` are the guests.
pub fn guest_address(
    network: &Network,
    mac: &str,
    fixed: &BTreeMap<String, Ipv4Addr>,
    leases: &[Lease],
    ports: &[&Port],
) -> Option<Ipv4Addr> {
    let dhcp = network.ips.iter().filter(|ip| ip.address.is_ipv4()).find_map(|ip| ip.dhcp.as_ref())?;
    if let Some(host) = dhcp.hosts.iter().find(|h| h.mac.as_deref() == Some(mac))
        && let Some(IpAddr::V4(address)) = host.ip
    {
        return Some(address);
    }
    if let Some(address) = fixed.get(mac) {
        return Some(*address);
    }
    let said = dhcp.hosts.iter().filter_map(|h| h.ip);
    // Ranges may have the host's own address in them.
    let own = network.ips.iter().map(|ip| ip.address);
    let theirs = ports.iter().flat_map(|p| p.addresses());
    let always: BTreeSet<IpAddr> = said.chain(own).chain(theirs).collect();
    let mut reserved = always.clone();
    reserved.extend(fixed.values().map(|a| IpAddr::V4(*a)));
    let has = leases.iter().find(|l| l.mac.as_deref() == Some(mac) && l.ip.is_ipv4());
    if let Some(IpAddr::V4(address)) = has.map(|l| l.ip).filter(|ip| !reserved.contains(ip)) {
        return Some(address);
    }
    reserved.extend(leases.iter().map(|l| l.ip));
    // A guest can have itself given all addresses, by as many hardware addresses: that keeps no other from its own.
    let here = |mac: &str| ports.iter().any(|p| p.mac == mac);
    let of_guests = leases.iter().filter(|l| l.mac.as_deref().is_some_and(here)).map(|l| l.ip);
    let kept = fixed.iter().filter(|(mac, _)| here(mac)).map(|(_, a)| IpAddr::V4(*a));
    let in_use = always.into_iter().chain(of_guests).chain(kept).collect();
    last_free(&dhcp.ranges, &reserved).or_else(|| last_free(&dhcp.ranges, &in_use))
}

/// The addresses that are taken back from who is no guest now, so that there is one of each family for each guest that
/// will ask; none where there is, or where nobody gives one up. First goes the oldest of those that no definition has
/// (`is_defined`). Who is `heard` on the bridge without being a guest keeps what it has, and so does who does not tell its
/// hardware address by IPv6: it may be here.
pub fn given_up(
    network: &Network,
    guests: &[&Port],
    fixed: &BTreeMap<String, Ipv4Addr>,
    leases: &[Lease],
    heard: &BTreeSet<String>,
    is_defined: impl Fn(&str) -> bool,
) -> Vec<IpAddr> {
    let of_family = |v6: bool| given_up_of(network, v6, guests, fixed, leases, heard, &is_defined);
    [of_family(false), of_family(true)].concat()
}

fn given_up_of(
    network: &Network,
    v6: bool,
    guests: &[&Port],
    fixed: &BTreeMap<String, Ipv4Addr>,
    leases: &[Lease],
    heard: &BTreeSet<String>,
    is_defined: &impl Fn(&str) -> bool,
) -> Vec<IpAddr> {
    let dhcp = network.ips.iter().filter(|ip| ip.address.is_ipv6() == v6).find_map(|ip| ip.dhcp.as_ref());
    let Some(dhcp) = dhcp else { return Vec::new() };
    let is_of = |h: &&DhcpHost, p: &Port| match &h.mac {
        Some(mac) => *mac == p.mac,
        None => h.name.as_ref() == Some(&p.name),
    };
    let is_said = |p: &Port| {
        dhcp.hosts.iter().filter(|h| is_of(h, p)).any(|h| h.ip.is_some_and(|ip| ip.is_ipv6() == v6))
    };
    let is_leased = |p: &Port| leases.iter().any(|l| l.ip.is_ipv6() == v6 && l.mac.as_ref() == Some(&p.mac));
    let has_own = |p: &Port| match v6 {
        true => p.address6.is_some(),
        false => p.address.is_some() || fixed.contains_key(&p.mac),
    };
    let wanted = guests.iter().filter(|p| !has_own(p) && !is_said(p) && !is_leased(p)).count();
    let said = dhcp.hosts.iter().filter_map(|h| h.ip);
    let own = network.ips.iter().map(|ip| ip.address);
    let theirs = guests.iter().flat_map(|p| p.addresses().chain(fixed.get(&p.mac).map(|a| IpAddr::V4(*a))));
    let kept: BTreeSet<IpAddr> = said.chain(own).chain(theirs).collect();
    let leased: BTreeSet<IpAddr> = leases.iter().map(|l| l.ip).collect();
    // A range of IPv6 can be endless, but what is taken in it is not.
    let free = dhcp.ranges.iter().flat_map(addresses_of).filter(|a| !kept.contains(a) && !leased.contains(a));
    let missing = wanted - free.take(wanted).count();
    if missing == 0 {
        return Vec::new();
    }
    let is_here = |mac: &str| heard.contains(mac) || guests.iter().any(|p| p.mac == mac);
    let is_given =
        |ip: IpAddr| dhcp.ranges.iter().any(|r| r.start <= ip && ip <= r.end) && !kept.contains(&ip);
    let gone = leases.iter().filter(|l| l.ip.is_ipv6() == v6 && is_given(l.ip));
    let gone = gone.filter_map(|l| Some((l, l.mac.as_deref()?))).filter(|(_, mac)| !is_here(mac));
    let end = |l: &Lease| if l.expiry == 0 { i64::MAX } else { l.expiry };
    let mut gone: Vec<(bool, i64, IpAddr)> = gone.map(|(l, mac)| (is_defined(mac), end(l), l.ip)).collect();
    gone.sort();
    gone.into_iter().take(missing).map(|(_, _, ip)| ip).collect()
}

/// The addresses of a range.
fn addresses_of(range: &DhcpRange) -> Box<dyn Iterator<Item = IpAddr>> {
    match (range.start, range.end) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            Box::new((u32::from(first)..=u32::from(last)).map(|n| Ipv4Addr::from(n).into()))
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            Box::new((u128::from(first)..=u128::from(last)).map(|n| Ipv6Addr::from(n).into()))
        }
        _ => Box::new(std::iter::empty()),
    }
}

/// The last address of IPv4 that is not taken.
fn last_free(ranges: &[DhcpRange], taken: &BTreeSet<IpAddr>) -> Option<Ipv4Addr> {
    ranges.iter().rev().find_map(|range| {
        let (IpAddr::V4(first), IpAddr::V4(last)) = (range.start, range.end) else { return None };
        let mut all = (u32::from(first)..=u32::from(last)).rev().map(Ipv4Addr::from);
        all.find(|a| !taken.contains(&IpAddr::V4(*a)))
    })
}

#[cfg(test)]
mod test {
    use super::*;

    fn route(text: &str, prefix: u8) -> HostRoute {
        HostRoute { address: text.parse().expect("address"), prefix, interface: 3, from_router: false }
    }

    #[test]
    fn who_is_gone_gives_its_address_up() {
        let text = "<network><name>n</name><bridge name='b'/><ip address='10.0.0.1' prefix='24'><dhcp>\
                    <range start='10.0.0.1' end='10.0.0.4'/></dhcp></ip></network>";
        let network = berth_domain::network::parse_network(text).expect("good").network;
        let mac = |n: u8| format!("52:54:00:00:00:0{n}");
        let lease = |n: u8, expiry: i64| Lease {
            expiry,
            mac: Some(mac(n)),
            iaid: None,
            ip: IpAddr::from([10, 0, 0, n]),
            hostname: None,
            client_id: None,
        };
        let port = |n: u8| Port { mac: mac(n), name: format!("d{n}"), ..Port::default() };
        let all_told = |guests: &[Port], leases: &[Lease], heard: &[u8], defined: &[u8]| {
            let guests: Vec<&Port> = guests.iter().collect();
            let heard = heard.iter().map(|n| mac(*n)).collect();
            let is_defined = |m: &str| defined.iter().any(|n| mac(*n) == m);
            let told = given_up(&network, &guests, &BTreeMap::new(), leases, &heard, is_defined);
            let last = |a: &IpAddr| if let IpAddr::V4(a) = a { a.octets()[3] } else { 0 };
            told.iter().map(last).collect::<Vec<u8>>()
        };
        let told = |guests: &[Port], leases: &[Lease], heard: &[u8], defined: &[u8]| {
            let told = all_told(guests, leases, heard, defined);
            assert!(told.len() < 2, "{told:?}");
            told.first().copied()
        };
        let all = [lease(2, 300), lease(3, 100), lease(4, 200)];
        let new = [port(9)];
        assert_eq!(told(&new, &all, &[], &[]), Some(3), "the oldest");
        assert_eq!(told(&new, &all, &[], &[3]), Some(4), "not that of a definition");
        assert_eq!(told(&new, &all, &[], &[2, 3, 4]), Some(3), "but where there is no other");
        assert_eq!(told(&new, &all, &[3], &[2, 4]), Some(4), "nor that of who is heard");
        assert_eq!(told(&new, &all, &[2, 3, 4], &[]), None, "nobody is gone");
        assert_eq!(told(&new, &all[..2], &[], &[]), None, "one is free");
        assert_eq!(told(&[port(8), port(9)], &all[..2], &[], &[]), Some(3), "one is free for two");
        assert_eq!(told(&[port(2), port(9)], &all[..2], &[], &[]), None, "one has it already");
        assert_eq!(told(&[port(2)], &all, &[], &[]), None, "nobody asks");
        let two = [port(8), port(9)];
        assert_eq!(all_told(&two, &all, &[], &[]), [3, 4], "one for each who asks");
        assert_eq!(all_told(&two, &all, &[], &[4]), [3, 2]);
        assert_eq!(all_told(&two, &all, &[3, 4], &[]), [2], "as many as are given up");
    }

    #[test]
    fn who_is_gone_gives_up_addresses_of_ipv6() {
        let text = |end: &str| {
            let text = format!(
                "<network><name>n</name><bridge name='b'/><ip family='ipv6' address='fd66::1' prefix='64'><dhcp>\
                 <range start='fd66::1' end='{end}'/></dhcp></ip></network>"
            );
            berth_domain::network::parse_network(&text).expect("good").network
        };
        let leases = crate::network::leases::parse(
            "300 1 fd66::2 * 00:03:00:01:52:54:00:00:00:02\n200 1 fd66::3 * 00:03:00:01:52:54:00:00:00:03\n\
             100 1 fd66::4 * 00:02:00:00:ab:11:d5:8c:24:af\n",
        );
        let port = |n: u8| Port { mac: format!("52:54:00:00:00:0{n}"), ..Port::default() };
        let told = |network: &Network, guests: &[Port], heard: &[u8]| {
            let guests: Vec<&Port> = guests.iter().collect();
            let heard = heard.iter().map(|n| port(*n).mac).collect();
            let told = given_up(network, &guests, &BTreeMap::new(), &leases, &heard, |_| false);
            told.iter().map(IpAddr::to_string).collect::<Vec<_>>()
        };
        let full = text("fd66::4");
        assert_eq!(told(&full, &[port(9)], &[]), ["fd66::3"], "the oldest of those who tell who they are");
        assert_eq!(told(&full, &[port(8), port(9)], &[]), ["fd66::3", "fd66::2"]);
        assert_eq!(told(&full, &[port(9)], &[3]), ["fd66::2"], "not that of who is heard");
        assert!(told(&full, &[port(2)], &[]).is_empty(), "it has one");
        let said = Port { address6: "fd66::7".parse().ok(), ..port(9) };
        assert!(told(&full, &[said], &[]).is_empty(), "it has its own");
        assert!(told(&text("fd66::5"), &[port(9)], &[]).is_empty(), "one is free");
        assert!(told(&text("fd66::ffff:ffff:ffff:ffff"), &[port(9)], &[]).is_empty(), "many are");
    }

    #[test]
    fn the_default_network_is_where_nobody_is() {
        assert_eq!(default_subnet(&[route("0.0.0.0", 0)], &[]), Some(Ipv4Addr::new(10, 150, 150, 0)));
        assert_eq!(default_subnet(&[route("10.150.150.64", 26)], &[]), Some(Ipv4Addr::new(10, 150, 151, 0)));
        let vpn = [route("10.0.0.0", 8), route("192.168.130.0", 24)];
        assert_eq!(default_subnet(&vpn, &[]), Some(Ipv4Addr::new(192, 168, 131, 0)));
        let other = ("192.168.131.1".parse().expect("address"), 24);
        assert_eq!(default_subnet(&vpn, &[other]), Some(Ipv4Addr::new(192, 168, 132, 0)));
        assert_eq!(default_subnet(&[route("0.0.0.0", 1), route("128.0.0.0", 1)], &[]), None);
        let text = default_document(Ipv4Addr::new(10, 150, 150, 0));
        let parsed = berth_domain::network::parse_network(&text).expect("a good document");
        assert!(parsed.warnings.is_empty() && parsed.network.starts_on_demand());
    }

    #[test]
    fn names_of_bridges_are_free_ones() {
        let taken = ["berth0", "berth1", "berth3"].map(str::to_owned).into_iter().collect();
        assert_eq!(bridge_name(None, &taken).as_deref(), Some("berth2"));
        let taken = BTreeSet::from(["vy0".to_owned(), "vy0x".into()]);
        assert_eq!(bridge_name(Some("vy%d"), &taken).as_deref(), Some("vy1"));
        assert_eq!(bridge_name(Some("vy%dx"), &taken).as_deref(), Some("vy1x"));
        let taken = (0..10).map(|n| format!("a-long-bridge-{n}")).collect();
        assert_eq!(bridge_name(Some("a-long-bridge-%d"), &taken), None, "sixteen bytes");
        assert!(is_made_from("vy12x", "vy%dx"));
        for other in ["vyx", "vy1", "vy-1x", "y1x"] {
            assert!(!is_made_from(other, "vy%dx"), "{other}");
        }
    }

    #[test]
    fn an_address_is_kept_and_never_given_twice() {
        let text = "<network><name>n</name><ip address='10.1.2.1' netmask='255.255.255.0'><dhcp>\
            <range start='10.1.2.1' end='10.1.2.4'/><host mac='52:54:00:00:00:09' name='s' ip='10.1.2.9'/>\
            </dhcp></ip></network>";
        let network = berth_domain::network::parse_network(text).expect("good").network;
        let leases = super::super::leases::parse("0 52:54:00:00:00:01 10.1.2.4 a *\n");
        let mut fixed = BTreeMap::new();
        let port = |last: u8| Port { mac: format!("52:54:00:00:00:{last:02x}"), ..Port::default() };
        let ports = [1, 2, 3].map(port);
        let ports: Vec<&Port> = ports.iter().collect();
        let ask = |mac: &str, fixed: &BTreeMap<_, _>| guest_address(&network, mac, fixed, &leases, &ports);
        assert_eq!(ask("52:54:00:00:00:09", &fixed), Some(Ipv4Addr::new(10, 1, 2, 9)));
        assert_eq!(ask("52:54:00:00:00:01", &fixed), Some(Ipv4Addr::new(10, 1, 2, 4)));
        assert_eq!(ask("52:54:00:00:00:02", &fixed), Some(Ipv4Addr::new(10, 1, 2, 3)));
        fixed.insert("52:54:00:00:00:02".to_owned(), Ipv4Addr::new(10, 1, 2, 3));
        assert_eq!(ask("52:54:00:00:00:02", &fixed), Some(Ipv4Addr::new(10, 1, 2, 3)));
        assert_eq!(ask("52:54:00:00:00:03", &fixed), Some(Ipv4Addr::new(10, 1, 2, 2)));
        fixed.insert("52:54:00:00:00:03".to_owned(), Ipv4Addr::new(10, 1, 2, 2));
        assert_eq!(ask("52:54:00:00:00:05", &fixed), None);
    }

    #[test]
    fn who_is_no_guest_keeps_no_address_from_one() {
        let text = "<network><name>n</name><ip address='10.1.2.1' prefix='24'><dhcp>\
            <range start='10.1.2.2' end='10.1.2.5'/></dhcp></ip></network>";
        let network = berth_domain::network::parse_network(text).expect("good").network;
        let leases = super::super::leases::parse(
            "0 52:54:00:00:00:01 10.1.2.5 a *\n0 66:00:00:00:00:01 10.1.2.4 * *\n0 66:00:00:00:00:02 10.1.2.3 * *\n",
        );
        let guest = Port { mac: "52:54:00:00:00:01".into(), ..Port::default() };
        let other = Port { mac: "52:54:00:00:00:02".into(), ..Port::default() };
        let said = Port { address: Some(Ipv4Addr::new(10, 1, 2, 4)), ..other.clone() };
        let former = BTreeMap::from([("52:54:00:00:00:08".to_owned(), Ipv4Addr::new(10, 1, 2, 2))]);
        let ask = |fixed: &BTreeMap<_, _>, ports: &[&Port]| {
            guest_address(&network, "52:54:00:00:00:09", fixed, &leases, ports)
        };
        assert_eq!(ask(&BTreeMap::new(), &[&guest]), Some(Ipv4Addr::new(10, 1, 2, 2)), "a free one first");
        assert_eq!(ask(&former, &[&guest]), Some(Ipv4Addr::new(10, 1, 2, 4)));
        assert_eq!(ask(&former, &[&guest, &said]), Some(Ipv4Addr::new(10, 1, 2, 3)));
        let fixed =
            [(&other, 4), (&guest, 3)].map(|(p, last)| (p.mac.clone(), Ipv4Addr::new(10, 1, 2, last)));
        assert_eq!(ask(&BTreeMap::from(fixed), &[&guest, &other]), Some(Ipv4Addr::new(10, 1, 2, 2)));
    }

    #[test]
    fn a_network_takes_no_route_away() {
        let text = "<network><name>n</name><ip address='10.1.2.1' netmask='255.255.255.0'/></network>";
        let network = berth_domain::network::parse_network(text).expect("good").network;
        for (address, prefix, bad) in [
            ("10.1.2.0", 24, true),
            ("10.1.2.128", 25, true),
            ("10.0.0.0", 8, false),
            ("10.1.3.0", 24, false),
        ] {
            assert_eq!(
                collision(&network, &[route(address, prefix)], None).is_some(),
                bad,
                "{address}/{prefix}"
            );
        }
        assert_eq!(collision(&network, &[route("10.1.2.0", 24)], Some(3)), None);
    }
}
