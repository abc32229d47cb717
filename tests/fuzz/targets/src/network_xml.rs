//! Documents of networks: what is accepted is written so that it reads the same, and no text in it can be more than the
//! one line that dnsmasq is to read of it.

use std::collections::BTreeMap;
use std::path::Path;

use berth_domain::network::{Network, parse_network};
use berth_driver::network::dnsmasq::{Places, addresses, config, hosts};

use crate::domain_xml::{calm, refused};

/// What a line of the configuration may begin with.
const OPTIONS: &[&str] = &[
    "addn-hosts",
    "address",
    "bind-dynamic",
    "dhcp-authoritative",
    "dhcp-hostsfile",
    "dhcp-ignore",
    "dhcp-ignore-clid",
    "dhcp-ignore-names",
    "dhcp-lease-max",
    "dhcp-leasefile",
    "dhcp-name-match",
    "dhcp-no-override",
    "dhcp-option",
    "dhcp-range",
    "domain",
    "domain-needed",
    "enable-ra",
    "except-interface",
    "expand-hosts",
    "group",
    "interface",
    "local",
    "no-hosts",
    "no-ping",
    "no-resolv",
    "pid-file",
    "port",
    "ra-param",
    "server",
    "srv-host",
    "strict-order",
    "txt-record",
    "user",
];

/// Reads `data` as a document.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let first = match parse_network(text) {
        Ok(first) => first,
        Err(error) => return refused(&error),
    };
    calm(&first.warnings);
    let network = first.network;
    calm(&network.start_problems());
    let written = network.to_xml();
    match parse_network(&written) {
        // Not the same model: defaults are written that a document need not say.
        Ok(second) if second.says_uuid => assert_eq!(second.network.to_xml(), written, "not a fixed point"),
        Ok(_) => panic!("written without a uuid\n{written}"),
        Err(e) => panic!("own output refused: {e}\n{written}"),
    }
    if network.start_problems().is_empty() {
        told(&network);
    }
}

/// What dnsmasq would be told.
fn told(network: &Network) {
    let at = Path::new("/run/x");
    let places = Places { pid: at, leases: at, hosts: at, names: at, user: "nobody", group: "nogroup" };
    for line in config(network, "br0", &places).lines().skip(1) {
        let option = line.split('=').next().unwrap_or_default();
        assert!(OPTIONS.contains(&option), "{line:?}");
        assert!(!line.contains(char::is_control), "{line:?}");
    }
    let given: usize = network.ips.iter().filter_map(|ip| ip.dhcp.as_ref()).map(|d| d.hosts.len()).sum();
    let lines = hosts(network, &[], &BTreeMap::new());
    assert_eq!(lines.lines().count(), given, "{lines:?}");
    assert!(!lines.contains(|c: char| c.is_control() && c != '\n'), "{lines:?}");
    let named: usize = network.dns.iter().map(|d| d.hosts.len()).sum();
    let lines = addresses(network, &[]);
    // Besides, a guest whose name dnsmasq cannot be told where it is given its address.
    let count = lines.lines().count();
    assert!((named..=named + given).contains(&count), "{count} for {named} and {given}: {lines:?}");
    assert!(!lines.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\t')), "{lines:?}");
}
