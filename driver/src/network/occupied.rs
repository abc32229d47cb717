//! Whether an address that a guest has by its document is somebody else's.
//!
//! Pure. Does not know what becomes of the guest, nor how an address is taken back.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use berth_domain::network::Network;

use super::Port;
use super::leases::Lease;

/// Who there is besides.
#[derive(Debug, Clone, Copy)]
pub struct Others<'a> {
    /// Ports of the network.
    pub ports: &'a [&'a Port],
    /// Addresses that were chosen for guests, by hardware address.
    pub fixed: &'a BTreeMap<String, Ipv4Addr>,
    /// What was given by DHCP.
    pub leases: &'a [Lease],
    /// Seconds since 1970.
    pub now: i64,
}

/// Which addresses of a port's document must be taken back from somebody who does not use them, or why it cannot have one of
/// them. Those that are not of the network are not its business.
pub fn check(network: &Network, port: &Port, others: Others<'_>) -> Result<Vec<IpAddr>, String> {
    let of_network = |a: &IpAddr| network.ips.iter().any(|ip| ip.contains(*a));
    let mut back = Vec::new();
    for address in port.addresses().filter(of_network) {
        if let Some(why) = network.no_guest(address) {
            return Err(why);
        }
        if let Some(other) =
            others.ports.iter().find(|o| is_other(port, o) && has(network, o, address, others))
        {
            return Err(format!("the address '{address}' is that of {}", who(other)));
        }
        let leased =
            others.leases.iter().filter(|l| l.ip == address && (l.expiry == 0 || l.expiry > others.now));
        for mac in leased.filter_map(|l| l.mac.as_ref()).filter(|mac| **mac != port.mac) {
            let holder = others.ports.iter().find(|o| o.mac == *mac && is_other(port, o));
            // One that has another address by now does not use it.
            if let Some(holder) = holder.filter(|h| fixed(network, h, address.is_ipv6(), others).is_none()) {
                return Err(format!("the address '{address}' was given to {} by DHCP", who(holder)));
            }
            back.push(address);
        }
    }
    Ok(back)
}

/// A domain that starts uses no address of a former run.
fn is_other(port: &Port, other: &Port) -> bool {
    other.domain != port.domain
}

fn has(network: &Network, port: &Port, address: IpAddr, others: Others<'_>) -> bool {
    port.addresses().any(|a| a == address) || fixed(network, port, address.is_ipv6(), others) == Some(address)
}

/// The address that a guest always has, by whatever says so.
fn fixed(network: &Network, port: &Port, v6: bool, others: Others<'_>) -> Option<IpAddr> {
    let hosts = network.ips.iter().filter_map(|ip| ip.dhcp.as_ref()).flat_map(|d| &d.hosts);
    let said = hosts.filter(|h| h.mac.as_ref() == Some(&port.mac)).filter_map(|h| h.ip);
    let chosen = others.fixed.get(&port.mac).map(|a| IpAddr::V4(*a));
    let own = port.addresses().filter(|a| network.ips.iter().any(|ip| ip.contains(*a)));
    own.chain(said).chain(chosen).find(|a| a.is_ipv6() == v6)
}

/// An interface that is no domain's has no name.
fn who(port: &Port) -> String {
    match port.name.as_str() {
        "" => format!("the interface {} of net-plug", port.mac),
        name => format!("the running domain '{name}'"),
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn port(name: &str, last: u8, address: &str) -> Port {
        Port {
            domain: uuid::Uuid::from_u128(last.into()),
            name: name.into(),
            mac: format!("52:54:00:00:00:{last:02x}"),
            address: address.parse().ok(),
            ..Port::default()
        }
    }

    #[test]
    fn an_address_is_of_one_guest() {
        let text = "<network><name>n</name><ip address='10.1.2.1' prefix='24'><dhcp>\
            <range start='10.1.2.2' end='10.1.2.9'/><host mac='52:54:00:00:00:05' ip='10.1.2.15'/></dhcp></ip>\
            <ip family='ipv6' address='fd12::1' prefix='64'/></network>";
        let network = berth_domain::network::parse_network(text).expect("good").network;
        let leases = super::super::leases::parse(
            "0 52:54:00:00:00:02 10.1.2.2 b *\n900 52:54:00:00:00:03 10.1.2.3 * *\n\
             0 66:00:00:00:00:01 10.1.2.4 * *\n900 66:00:00:00:00:02 10.1.2.6 * *\n0 52:54:00:00:00:09 10.1.2.9 me *\n",
        );
        let six = Port {
            address6: "fd12::7".parse().ok(),
            others: vec!["10.1.2.17".parse().expect("one")],
            ..port("", 7, "10.1.2.7")
        };
        let here = [port("b", 2, ""), port("c", 3, "10.1.2.13"), port("e", 5, ""), port("f", 6, ""), six];
        let here: Vec<&Port> = here.iter().collect();
        let fixed = BTreeMap::from([("52:54:00:00:00:06".to_owned(), Ipv4Addr::new(10, 1, 2, 16))]);
        let ask = |port: &Port, now: i64| {
            check(&network, port, Others { ports: &here, fixed: &fixed, leases: &leases, now })
        };
        let v4 = |address: &str| ask(&port("me", 9, address), 100);
        let why = |address: &str| v4(address).err().unwrap_or_default();
        for (address, expected) in [
            ("10.1.2.1", "is the host's own"),
            ("10.1.2.0", "is that of the network, or of all its guests"),
            ("10.1.2.255", "is that of the network, or of all its guests"),
            ("10.1.2.13", "is that of the running domain 'c'"),
            ("10.1.2.15", "is that of the running domain 'e'"),
            ("10.1.2.16", "is that of the running domain 'f'"),
            ("10.1.2.7", "is that of the interface 52:54:00:00:00:07 of net-plug"),
            ("10.1.2.17", "is that of the interface 52:54:00:00:00:07 of net-plug"),
            ("10.1.2.2", "was given to the running domain 'b' by DHCP"),
        ] {
            assert_eq!(why(address), format!("the address '{address}' {expected}"));
        }
        let v6 = |address: &str| ask(&Port { address6: address.parse().ok(), ..port("me", 9, "") }, 100);
        assert!(v6("fd12::1").is_err() && v6("fd12::7").is_err());
        assert_eq!((v6("fd12::8"), v6("fd13::1")), (Ok(vec![]), Ok(vec![])));
        for address in ["10.1.2.9", "10.1.2.10", "10.1.3.1", ""] {
            assert_eq!(v4(address), Ok(vec![]), "{address}");
        }
        // From who is not here, or has another address.
        for address in ["10.1.2.3", "10.1.2.4", "10.1.2.6"] {
            assert_eq!(v4(address), Ok(vec![address.parse().expect("address")]), "{address}");
        }
        assert_eq!(ask(&port("me", 9, "10.1.2.6"), 1000), Ok(vec![]), "a lease that has ended");
        // Further addresses count, and a domain is not in its own way.
        let second = Port { others: vec!["10.1.2.1".parse().expect("one")], ..port("me", 9, "10.9.9.9") };
        assert!(ask(&second, 100).is_err());
        let own = Port { mac: "52:54:00:00:00:0a".into(), ..port("c", 3, "10.1.2.13") };
        assert_eq!(ask(&own, 100), Ok(vec![]));
    }
}
