//! What guests were given: dnsmasq's file of leases.
//!
//! Does not know networks.

use std::collections::HashMap;
use std::net::IpAddr;

/// Most lines that are read.
const MAX_LEASES: usize = 100_000;

/// An address that a guest was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// End, in seconds since 1970; 0 is never.
    pub expiry: i64,
    /// Hardware address in lower case; for IPv6 it is told by the DUID, where that has one, or by the guest's lease of IPv4.
    pub mac: Option<String>,
    /// Identity association, for IPv6.
    pub iaid: Option<String>,
    /// The address.
    pub ip: IpAddr,
    /// Name.
    pub hostname: Option<String>,
    /// Client id, or DUID.
    pub client_id: Option<String>,
}

/// Reads the file. A line that cannot be read says nothing.
pub fn parse(text: &str) -> Vec<Lease> {
    let mut all: Vec<Lease> = text.lines().take(MAX_LEASES).filter_map(line).collect();
    tell_macs(&mut all);
    all
}

/// The file without the lease of an address.
pub fn without(text: &str, address: IpAddr) -> String {
    let is_it =
        |line: &str| line.split_ascii_whitespace().nth(2).and_then(|w| w.parse().ok()) == Some(address);
    text.lines().filter(|line| !is_it(line)).map(|line| format!("{line}\n")).collect()
}

/// A guest that names itself as RFC 4361 wants it (systemd-networkd does) is the same by both families.
fn tell_macs(all: &mut [Lease]) {
    let known: HashMap<String, String> = all
        .iter()
        .filter(|lease| lease.ip.is_ipv4())
        .filter_map(|lease| Some((lease.client_id.clone()?.to_ascii_lowercase(), lease.mac.clone()?)))
        .collect();
    for lease in all.iter_mut().filter(|lease| lease.mac.is_none()) {
        lease.mac = lease.client_id_of_v4().and_then(|id| known.get(&id)).cloned();
    }
}

impl Lease {
    /// How the guest of a lease of IPv6 would name itself by IPv4: type 255, identity association, DUID.
    fn client_id_of_v4(&self) -> Option<String> {
        // Those of temporary addresses have a letter before the number.
        let iaid: u32 = self.iaid.as_deref()?.trim_start_matches('T').parse().ok()?;
        let [a, b, c, d] = iaid.to_be_bytes();
        let duid = self.client_id.as_deref()?.to_ascii_lowercase();
        Some(format!("ff:{a:02x}:{b:02x}:{c:02x}:{d:02x}:{duid}"))
    }
}

fn line(line: &str) -> Option<Lease> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [expiry, hardware, ip, hostname, client] = words.as_slice() else { return None };
    let there = |word: &str| (word != "*").then(|| word.to_owned());
    let ip: IpAddr = ip.parse().ok()?;
    let client_id = there(client);
    let mac = if ip.is_ipv4() {
        // Other kinds of hardware have their number before a hyphen.
        Some(hardware.rsplit('-').next()?.to_ascii_lowercase())
    } else {
        client_id.as_deref().and_then(mac_of_duid)
    };
    Some(Lease {
        expiry: expiry.parse().ok()?,
        mac,
        iaid: ip.is_ipv6().then(|| (*hardware).to_owned()),
        ip,
        hostname: there(hostname),
        client_id,
    })
}

/// The hardware address in a DUID of the kinds 1 (with a time) and 3 of RFC 8415, section 11, for Ethernet.
fn mac_of_duid(duid: &str) -> Option<String> {
    let octets: Vec<&str> = duid.split(':').collect();
    let ethernet = octets.get(2..4)? == ["00", "01"];
    let mac = match octets.get(0..2)? {
        ["00", "01"] if octets.len() == 14 => octets.get(8..)?,
        ["00", "03"] if octets.len() == 10 => octets.get(4..)?,
        _ => return None,
    };
    ethernet.then(|| mac.join(":").to_ascii_lowercase())
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn both_families_are_read_and_nonsense_is_not() {
        let text = "1764100000 52:54:00:AA:bb:cc 10.1.2.7 web 01:52:54:00:aa:bb:cc\n\
                    0 52:54:00:aa:bb:cd 10.1.2.8 * *\n\
                    duid 00:01:00:01:30:b2:f3:e4:52:54:00:00:00:01\n\
                    1764100001 5505792 fd00::5 db 00:01:00:01:30:b2:f3:e4:52:54:00:00:00:02\n\
                    1764100001 5505793 fd00::6 * 00:03:00:01:52:54:00:00:00:03\n\
                    nonsense\nx 52:54:00:aa:bb:cd 10.1.2.8 * *\n1 2 3 4 5 6\n";
        let leases = parse(text);
        assert_eq!(leases.len(), 4, "{leases:?}");
        assert_eq!(leases[0].mac.as_deref(), Some("52:54:00:aa:bb:cc"));
        assert_eq!((leases[1].expiry, &leases[1].hostname, &leases[1].client_id), (0, &None, &None));
        assert_eq!(leases[2].mac.as_deref(), Some("52:54:00:00:00:02"));
        assert_eq!(leases[2].iaid.as_deref(), Some("5505792"));
        assert_eq!(leases[3].mac.as_deref(), Some("52:54:00:00:00:03"));
    }

    #[test]
    fn one_lease_is_taken_out() {
        let text = "0 52:54:00:aa:bb:cc 10.1.2.7 web *\n0 52:54:00:aa:bb:cd 10.1.2.70 * *\nduid 00:01\n";
        let left = "0 52:54:00:aa:bb:cd 10.1.2.70 * *\nduid 00:01\n";
        assert_eq!(without(text, IpAddr::from([10, 1, 2, 7])), left);
    }

    #[test]
    fn a_guest_of_both_families_is_one_guest() {
        let text = "1795747766 52:54:00:89:cf:b6 10.1.2.7 d1 ff:4a:26:e4:cb:00:02:00:00:ab:11:d5:8c:24:af\n\
                    1795747766 52:54:00:89:cf:b7 10.1.2.8 d1 ff:4a:26:e4:cc:00:02:00:00:ab:11:d5:8c:24:af\n\
                    1795830567 1244062923 fd00::5 d1 00:02:00:00:AB:11:d5:8c:24:af\n\
                    1795830567 T1244062924 fd00::6 d1 00:02:00:00:ab:11:d5:8c:24:af\n\
                    1795830567 1244062925 fd00::7 d1 00:02:00:00:ab:11:d5:8c:24:af\n";
        let macs: Vec<Option<String>> = parse(text).into_iter().skip(2).map(|lease| lease.mac).collect();
        let mac = |last: &str| Some(format!("52:54:00:89:cf:{last}"));
        assert_eq!(macs, [mac("b6"), mac("b7"), None]);
    }
}
