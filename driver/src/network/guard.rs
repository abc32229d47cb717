//! The rules that keep guests of one network from asking for addresses in each other's names, for nftables in its JSON
//! form: a table of the family `bridge`, which sees what comes from each port.
//!
//! Pure. A guest may have machines behind it, with hardware addresses that nobody here knows: those ask as they like. Does
//! not know the client identifiers and DUIDs that are in what guests ask, which have no place of their own there.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Port;
use super::rules::table;

/// The family of its table.
pub const FAMILY: &str = "bridge";

/// Port of a server of DHCP.
const SERVER: u16 = 67;
/// Bits of the field of IPv4 that only a fragment has any of: all but "do not fragment".
const FRAGMENT: u16 = 0x3fff;
/// What the rules come before: whatever somebody else filters on bridges (`NF_BR_PRI_FILTER_BRIDGED`).
const PRIORITY: i32 = -210;

/// Takes the table away; none there is no error.
pub fn removal(bridge: &str) -> [Value; 2] {
    let table = json!({ "table": { "family": FAMILY, "name": table(bridge) } });
    [json!({ "add": table }), json!({ "delete": table })]
}

/// A hardware address as the number that it is where it is no field that nft knows.
fn number(mac: &str) -> Option<u64> {
    let octets: Vec<&str> = mac.split(':').collect();
    let octet = |n: u64, octet: &&str| Some((n << 8) | u64::from(u8::from_str_radix(octet, 16).ok()?));
    octets.iter().try_fold(0, octet).filter(|_| octets.len() == 6)
}

/// All rules, in one transaction that replaces those that were there; none where there is no port that any could be about.
/// A domain may ask by one of its interfaces for another one: it can have a bridge of them.
pub fn ruleset(bridge: &str, ports: &[Port]) -> Option<Value> {
    let known: Vec<(&Port, &str, u64)> =
        ports.iter().filter_map(|p| Some((p, p.end.as_deref()?, number(&p.mac)?))).collect();
    if known.is_empty() {
        return None;
    }
    let ends: BTreeSet<&str> = known.iter().map(|(_, end, _)| *end).collect();
    let theirs: BTreeSet<u64> = known.iter().map(|(_, _, mac)| *mac).collect();
    let of_one = |(p, end, _): &(&Port, &str, u64)| {
        let own = known.iter().filter(|(other, ..)| other.domain == p.domain);
        own.map(|(_, _, mac)| ((*end).to_owned(), *mac)).collect::<Vec<_>>()
    };
    let own: BTreeSet<(String, u64)> = known.iter().flat_map(of_one).collect();
    let own: Vec<Value> =
        own.iter().map(|(end, mac)| json!([{ "concat": [end, mac] }, { "return": null }])).collect();

    let name = table(bridge);
    let end = json!({ "meta": { "key": "iifname" } });
    // The client's hardware address, after the header of UDP.
    let client = json!({ "payload": { "base": "th", "offset": (8 + 28) * 8, "len": 48 } });
    let matches =
        |op: &str, left: Value, right: Value| json!({ "match": { "op": op, "left": left, "right": right } });
    let rule = |chain: &str, expressions: Value| json!({ "add": { "rule": { "family": FAMILY, "table": name, "chain": chain, "expr": expressions } } });
    let asked = json!({ "payload": { "protocol": "udp", "field": "dport" } });
    let fragment = json!({ "&": [{ "payload": { "protocol": "ip", "field": "frag-off" } }, FRAGMENT] });
    let mut commands = removal(bridge).to_vec();
    commands.extend([
        json!({ "add": { "table": { "family": FAMILY, "name": name } } }),
        json!({ "add": { "chain": { "family": FAMILY, "table": name, "name": "ports", "type": "filter",
            "hook": "prerouting", "prio": PRIORITY, "policy": "accept" } } }),
        json!({ "add": { "chain": { "family": FAMILY, "table": name, "name": "dhcp" } } }),
        rule(
            "ports",
            json!([
                matches("==", asked, json!(SERVER)),
                matches("==", end.clone(), json!({ "set": ends })),
                { "jump": { "target": "dhcp" } }
            ]),
        ),
        // The address would be in another fragment, if not in this one. Nobody asks with so much.
        rule("dhcp", json!([matches("!=", fragment, json!(0)), { "drop": null }])),
        rule(
            "dhcp",
            json!([{ "vmap": { "key": { "concat": [end, client.clone()] }, "data": { "set": own } } }]),
        ),
        rule("dhcp", json!([matches("==", client, json!({ "set": theirs })), { "drop": null }])),
    ]);
    Some(json!({ "nftables": commands }))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn rules_are_about_ports_whose_ends_are_known() {
        let port = |domain: u128, end: Option<&str>, n: u8| Port {
            domain: uuid::Uuid::from_u128(domain),
            mac: format!("52:54:00:00:00:{n:02x}"),
            end: end.map(str::to_owned),
            ..Port::default()
        };
        assert_eq!(ruleset("b0", &[]), None);
        assert_eq!(ruleset("b0", &[port(1, None, 1)]), None);
        let ports = [
            port(1, Some("vnet0"), 1),
            port(1, Some("vnet1"), 2),
            port(2, Some("vnet2"), 3),
            port(3, None, 4),
        ];
        let text = ruleset("b0", &ports).expect("rules").to_string();
        let first = 0x5254_0000_0001_u64;
        for (end, macs) in [("vnet0", &[0, 1][..]), ("vnet1", &[0, 1]), ("vnet2", &[2])] {
            for n in 0..4 {
                let own = text.contains(&format!("{{\"concat\":[\"{end}\",{}]}}", first + n));
                assert_eq!(own, macs.contains(&n), "{end} {n}: {text}");
            }
        }
        assert!(!text.contains(&(first + 3).to_string()), "{text}");
    }

    #[test]
    fn hardware_addresses_are_numbers() {
        assert_eq!(number("52:54:00:aa:bb:0c"), Some(0x5254_00aa_bb0c));
        for bad in ["", "52:54:00:aa:bb", "52:54:00:aa:bb:0c:00", "52:54:00:aa:bb:xx"] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }
}
