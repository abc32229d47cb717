//! dnsmasq's file of leases, in which guests chose their names and ids.

use berth_driver::network::leases::parse;

/// Reads `data` as the file.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let leases = parse(&text);
    assert!(leases.len() <= text.lines().count());
    for lease in leases {
        // They are columns of a table, and matched with what a document says.
        let words = [&lease.mac, &lease.iaid, &lease.hostname, &lease.client_id];
        for word in words.into_iter().flatten() {
            assert!(!word.contains(|c: char| c.is_ascii_whitespace()), "{word:?}");
        }
        assert_eq!(lease.iaid.is_some(), lease.ip.is_ipv6());
    }
}
