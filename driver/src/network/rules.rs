//! The rules of one network for nftables, in its JSON form (libnftables-json(5)): one table for each network, replaced
//! as a whole.
//!
//! Pure. Does not know nft, nor other tables: what those drop stays dropped.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use berth_domain::network::{ForwardMode, Network, PortForward, Protocol, Service, network_address};
use serde_json::{Value, json};

/// Where the addresses are that are valid on one link only (RFC 4291, section 2.5.6).
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);

/// A forwarded port with the guest's address.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// As the document has it.
    pub forward: PortForward,
    /// The guest.
    pub address: IpAddr,
}

/// Name of a network's table. A bridge can have a name that nft(8) could not be given back; it is told in hexadecimal then,
/// and longer than any bridge's, so that no two bridges have one table.
pub fn table(bridge: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if bridge.bytes().all(plain) {
        return format!("berth-{bridge}");
    }
    let digits = bridge.bytes().fold(String::new(), |text, b| format!("{text}{b:02x}"));
    format!("berth-{digits:0<32}")
}

/// Whether a network with or without forwarded ports needs any rule.
pub fn needed(network: &Network, forwards: bool) -> bool {
    let open = network.forward.as_ref().is_some_and(|f| f.mode == ForwardMode::Open);
    network.has_own_bridge() && (!open || forwards)
}

/// Whether forwarded ports must be reached from the host's own loopback addresses. With IPv6 they cannot: the kernel finds no
/// way to ::1 for answers that come by another interface.
pub fn from_loopback<'a>(mut forwards: impl Iterator<Item = &'a PortForward>) -> bool {
    forwards.any(|f| !f.is_ipv6() && f.one_host_address().is_none_or(|a| a.is_loopback()))
}

/// The family of its table.
pub const FAMILY: &str = "inet";

/// Takes the table away; none there is no error.
pub fn removal(bridge: &str) -> Value {
    json!({ "nftables": forget(bridge) })
}

fn forget(bridge: &str) -> Vec<Value> {
    let table = json!({ "table": { "family": "inet", "name": table(bridge) } });
    vec![json!({ "add": table }), json!({ "delete": table })]
}

fn meta(key: &str, value: &str) -> Value {
    json!({ "match": { "op": "==", "left": { "meta": { "key": key } }, "right": value } })
}

/// `ip saddr` and the like; `op` is `==` or `!=`.
fn address(field: &str, op: &str, (network, prefix): (IpAddr, u8)) -> Value {
    let protocol = family(network);
    let right = json!({ "prefix": { "addr": network_address(network, prefix).to_string(), "len": prefix } });
    json!({ "match": { "op": op, "left": { "payload": { "protocol": protocol, "field": field } }, "right": right } })
}

fn one_address(field: &str, value: IpAddr) -> Value {
    json!({ "match": { "op": "==", "left": { "payload": { "protocol": family(value), "field": field } },
        "right": value.to_string() } })
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv6() { "ip6" } else { "ip" }
}

fn ct(key: &str, values: Value) -> Value {
    json!({ "match": { "op": "in", "left": { "ct": { "key": key } }, "right": values } })
}

fn translated() -> Value {
    ct("status", json!("dnat"))
}

/// Of a connection, what comes from who began it (`original`), or from who was asked (`reply`).
fn direction(which: &str) -> Value {
    json!({ "match": { "op": "==", "left": { "ct": { "key": "direction" } }, "right": which } })
}

fn asked_port(protocol: Protocol) -> Value {
    json!({ "payload": { "protocol": protocol.as_str(), "field": "dport" } })
}

fn compare(op: &str, left: &Value, right: u16) -> Value {
    json!({ "match": { "op": op, "left": left, "right": right } })
}

/// A port, or any of some in a row. Not as a range: nft(8) reads one as names where it does not know the protocol.
fn one_of_row(left: &Value, first: u16, last: u16) -> Vec<Value> {
    match first == last {
        true => vec![compare("==", left, first)],
        false => vec![compare(">=", left, first), compare("<=", left, last)],
    }
}

/// Where a forwarded port goes.
fn destination(Resolved { forward, address }: &Resolved) -> Value {
    let mut to = json!({ "family": family(*address), "addr": address.to_string() });
    if forward.host_port == forward.last_host_port {
        to["port"] = json!(forward.port);
    } else if forward.host_port != forward.port {
        // With a range the kernel would take any of them that is free.
        let pairs = (forward.host_port..=forward.last_host_port).zip(forward.port..=forward.last_port());
        let pairs: Vec<Value> = pairs.map(|(asked, to)| json!([asked, to])).collect();
        to["port"] = json!({ "map": { "key": asked_port(forward.protocol), "data": { "set": pairs } } });
    }
    json!({ "dnat": to })
}

/// What was translated for the sake of a forwarded port, on its way to the guest; what another program translates is not.
fn forwarded(Resolved { forward, address }: &Resolved) -> Vec<Value> {
    let original = json!({ "ct": { "key": "proto-dst", "dir": "original" } });
    let asked = one_of_row(&original, forward.host_port, forward.last_host_port);
    let to = one_address("daddr", *address);
    let port = one_of_row(&asked_port(forward.protocol), forward.port, forward.last_port());
    // Of another address of the host it may have been a forward that is gone.
    let host = forward.one_host_address().map(|host| {
        let original = json!({ "ct": { "key": format!("{} daddr", family(host)), "dir": "original" } });
        json!({ "match": { "op": "==", "left": original, "right": host.to_string() } })
    });
    [vec![translated(), direction("original"), to], port, asked, host.into_iter().collect()].concat()
}

/// Of no connection that another one has announced (`IPS_EXPECTED`), as that for the data of FTP.
fn unexpected() -> Value {
    json!({ "match": { "op": "==", "left": { "&": [{ "ct": { "key": "status" } }, 1] }, "right": 0 } })
}

fn accept() -> Value {
    json!({ "accept": null })
}

fn reject() -> Value {
    json!({ "reject": { "type": "icmpx", "expr": "port-unreachable" } })
}

/// Collects the rules of one table.
struct Table {
    name: String,
    commands: Vec<Value>,
}

impl Table {
    fn chain(&mut self, name: &str, kind: &str, hook: &str, priority: i32) {
        self.commands.push(json!({ "add": { "chain": { "family": "inet", "table": self.name, "name": name,
            "type": kind, "hook": hook, "prio": priority, "policy": "accept" } } }));
    }

    fn rule(&mut self, chain: &str, expressions: Vec<Value>) {
        self.commands.push(json!({ "add": { "rule": { "family": "inet", "table": self.name, "chain": chain,
            "expr": expressions } } }));
    }
}

/// How many rules there are, in a transaction that makes them or in a list of those that are there.
pub fn count(text: &Value) -> usize {
    let all = text.get("nftables").and_then(Value::as_array).into_iter().flatten();
    all.filter(|v| v.get("add").unwrap_or(v).get("rule").is_some()).count()
}

/// All rules, in one transaction that replaces those that were there. `isolated`, where guests may have to be kept from each
/// other, has the hardware addresses of all; `services` is what the host answers at the addresses of all networks.
pub fn ruleset(
    network: &Network,
    bridge: &str,
    forwards: &[Resolved],
    isolated: Option<&BTreeSet<String>>,
    services: &[Service],
) -> Value {
    let mut commands = forget(bridge);
    let name = table(bridge);
    commands.push(json!({ "add": { "table": { "family": "inet", "name": name } } }));
    let mut t = Table { name, commands };
    filter(&mut t, network, bridge, forwards, isolated);
    nat(&mut t, network, bridge, forwards, services);
    json!({ "nftables": t.commands })
}

/// What goes through the host.
fn filter(
    t: &mut Table,
    network: &Network,
    bridge: &str,
    forwards: &[Resolved],
    isolated: Option<&BTreeSet<String>>,
) {
    let mode = network.forward.as_ref().map(|f| f.mode);
    if mode == Some(ForwardMode::Open) {
        return;
    }
    let dev = network.forward.as_ref().and_then(|f| f.dev.as_deref());
    let with = |first: Vec<Value>, other: &str| {
        let mut all = first;
        all.extend(dev.map(|dev| meta(other, dev)));
        all
    };
    t.chain("forward", "filter", "forward", 0);
    let between = || vec![meta("iifname", bridge), meta("oifname", bridge)];
    if isolated.is_none() {
        t.rule("forward", [between(), vec![accept()]].concat());
    }
    for forward in forwards {
        t.rule("forward", [vec![meta("oifname", bridge)], forwarded(forward), vec![accept()]].concat());
    }
    if !forwards.is_empty() {
        // Only what answers: a guest that asks may ask for what somebody translates too, and gets no further by that.
        t.rule("forward", vec![meta("iifname", bridge), direction("reply"), translated(), accept()]);
        // And what the way there has to say about the answers, such as that they are too large.
        // ICMP of both families, by number: a host without /etc/protocols does not know their names.
        let errors = json!({ "match": { "op": "==", "left": { "meta": { "key": "l4proto" } },
            "right": { "set": [1, 58] } } });
        let about = vec![meta("oifname", bridge), translated(), ct("state", json!("related")), errors];
        t.rule("forward", [about, vec![accept()]].concat());
    }
    if let Some(guests) = isolated {
        // The bridge keeps them from each other, but not from going by the host's address. Where the host filters what a
        // bridge passes on (br_netfilter), that comes here too, and is for another's hardware address.
        let ether = json!({ "payload": { "protocol": "ether", "field": "daddr" } });
        let kind = json!({ "meta": { "key": "pkttype" } });
        for (left, set) in [(ether, json!(guests)), (kind, json!(["broadcast", "multicast"]))] {
            if set.as_array().is_some_and(|set| !set.is_empty()) {
                let passed = json!({ "match": { "op": "==", "left": left, "right": { "set": set } } });
                t.rule("forward", [between(), vec![passed, accept()]].concat());
            }
        }
        t.rule("forward", [between(), vec![reject()]].concat());
    }
    for ip in network.ips.iter().filter(|_| mode.is_some()) {
        let subnet = (ip.address, ip.prefix_length());
        let hidden = translates(network, ip.address);
        let mut inward = with(vec![meta("oifname", bridge)], "iifname");
        inward.push(address("daddr", "==", subnet));
        if hidden {
            // The kernel goes on with what came by a forwarded port that is gone, and somebody else may have the address.
            let gone = [inward.clone(), vec![direction("original"), translated(), unexpected()]].concat();
            t.rule("forward", [gone, vec![json!({ "drop": null })]].concat());
            inward.push(ct("state", json!(["established", "related"])));
        }
        inward.push(accept());
        t.rule("forward", inward);
        let mut outward = with(vec![meta("iifname", bridge)], "oifname");
        outward.push(address("saddr", "==", subnet));
        outward.push(accept());
        t.rule("forward", outward);
    }
    // Guests of a routed network may have networks of their own behind them.
    for route in network.routes.iter().filter(|_| mode == Some(ForwardMode::Route)) {
        let subnet = (route.address, route.prefix_length());
        for (own, other, field) in [("oifname", "iifname", "daddr"), ("iifname", "oifname", "saddr")] {
            let mut rule = with(vec![meta(own, bridge)], other);
            rule.extend([address(field, "==", subnet), accept()]);
            t.rule("forward", rule);
        }
    }
    t.rule("forward", vec![meta("iifname", bridge), reject()]);
    t.rule("forward", vec![meta("oifname", bridge), reject()]);
}

/// Whether guests' addresses of that family are hidden behind the host's.
fn translates(network: &Network, address: IpAddr) -> bool {
    let Some(forward) = network.forward.as_ref().filter(|f| f.mode == ForwardMode::Nat) else { return false };
    address.is_ipv4() || forward.nat.as_ref().is_some_and(|n| n.ipv6 == Some(true))
}

/// Addresses that are changed on the way.
fn nat(t: &mut Table, network: &Network, bridge: &str, forwards: &[Resolved], services: &[Service]) {
    let hidden: Vec<(IpAddr, u8)> = network
        .ips
        .iter()
        .filter(|ip| translates(network, ip.address))
        .map(|ip| (ip.address, ip.prefix_length()))
        .collect();
    if hidden.is_empty() && forwards.is_empty() {
        return;
    }
    t.chain("postrouting", "nat", "postrouting", 100);
    for forward in forwards {
        if network.forward.is_none() {
            // Guests of an isolated network know no way to anybody but the host.
            let rule = [vec![meta("oifname", bridge)], forwarded(forward)].concat();
            t.rule("postrouting", [rule, vec![json!({ "masquerade": null })]].concat());
            continue;
        }
        // Answers of a guest to its neighbour, or to the host's loopback address, must come back by the host.
        let to = one_address("daddr", forward.address);
        let v6 = forward.address.is_ipv6();
        let own = (IpAddr::V4(Ipv4Addr::LOCALHOST), 8);
        let subnets = network.ips.iter().filter(|ip| ip.address.is_ipv6() == v6);
        let from = subnets.map(|ip| (ip.address, ip.prefix_length())).chain((!v6).then_some(own));
        for subnet in from {
            let rule =
                vec![meta("oifname", bridge), address("saddr", "==", subnet), to.clone(), translated()];
            t.rule("postrouting", [rule, vec![json!({ "masquerade": null })]].concat());
        }
    }
    for subnet in hidden {
        for rule in masquerade(network, subnet) {
            t.rule("postrouting", rule);
        }
    }
    if forwards.is_empty() {
        return;
    }
    if from_loopback(forwards.iter().map(|r| &r.forward)) {
        // The host's loopback address is let through to the bridge for the sake of forwarded ports; nobody there may
        // reach what listens on it, or pass for the host itself.
        t.chain("guard", "filter", "prerouting", -300);
        for field in ["daddr", "saddr"] {
            let loopback = address(field, "==", (IpAddr::V4(Ipv4Addr::LOCALHOST), 8));
            t.rule("guard", vec![meta("iifname", bridge), loopback, json!({ "drop": null })]);
        }
    }
    t.chain("prerouting", "nat", "prerouting", -100);
    t.chain("output", "nat", "output", -100);
    // Guests of all networks keep their name servers and DHCP, whatever is forwarded.
    for service in services.iter().filter(|s| forwards.iter().any(|r| s.is_met(&r.forward))) {
        let port = compare("==", &asked_port(service.protocol), service.port);
        let rule = vec![one_address("daddr", service.address), port, json!({ "return": null })];
        for chain in ["prerouting", "output"] {
            t.rule(chain, rule.clone());
        }
    }
    for resolved @ Resolved { forward, address: guest } in forwards {
        let to_address = forward.one_host_address().map(|host| one_address("daddr", host));
        // An address that the host does not have, or not yet, is another machine's: what is for that goes there.
        let to_host = json!({ "match": { "op": "==", "left": { "fib": { "result": "type", "flags": ["daddr"] } },
            "right": "local" } });
        let port = one_of_row(&asked_port(forward.protocol), forward.host_port, forward.last_host_port);
        let to = destination(resolved);
        let protocol = meta("nfproto", if guest.is_ipv6() { "ipv6" } else { "ipv4" });
        // From there nobody gets an answer.
        let not_loopback = guest.is_ipv6().then(|| address("daddr", "!=", (Ipv6Addr::LOCALHOST.into(), 128)));
        // The kernel forwards nothing for who asks at an address of the link, and guests may ask their name server there.
        let all_v6 = guest.is_ipv6() && to_address.is_none();
        let not_on_link = all_v6.then(|| address("daddr", "!=", (LINK_LOCAL.into(), 10)));
        let tests =
            [Some(protocol), to_address, Some(to_host), not_loopback, not_on_link].into_iter().flatten();
        let rule: Vec<Value> = tests.chain(port).chain([to]).collect();
        for chain in ["prerouting", "output"] {
            t.rule(chain, rule.clone());
        }
    }
}

/// The rules that hide one network; broadcasts and what is for many stays as it is.
fn masquerade(network: &Network, subnet: (IpAddr, u8)) -> Vec<Vec<Value>> {
    let forward = network.forward.as_ref();
    let nat = forward.and_then(|f| f.nat.as_ref());
    let from = address("saddr", "==", subnet);
    let out = address("daddr", "!=", subnet);
    let dev = forward.and_then(|f| f.dev.as_deref()).map(|dev| meta("oifname", dev));
    let many: (IpAddr, u8) = match subnet.0 {
        IpAddr::V4(_) => (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 24),
        IpAddr::V6(_) => (IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0)), 16),
    };
    let mut rules = vec![vec![from.clone(), address("daddr", "==", many), json!({ "return": null })]];
    if subnet.0.is_ipv4() {
        let everybody = one_address("daddr", Ipv4Addr::BROADCAST.into());
        rules.push(vec![from.clone(), everybody, json!({ "return": null })]);
    }
    let (first, last) = nat.and_then(|n| n.ports).unwrap_or((1024, 65535));
    let ports = json!({ "range": [first, last] });
    let addresses = nat.and_then(|n| n.addresses).filter(|_| subnet.0.is_ipv4()).map(|(a, b)| {
        let range = json!({ "range": [a.to_string(), b.to_string()] });
        if a == b { json!(a.to_string()) } else { range }
    });
    let translate = |with_ports: bool| match &addresses {
        Some(addresses) if with_ports => {
            json!({ "snat": { "family": "ip", "addr": addresses, "port": ports } })
        }
        Some(addresses) => json!({ "snat": { "family": "ip", "addr": addresses } }),
        None if with_ports => json!({ "masquerade": { "port": ports } }),
        None => json!({ "masquerade": null }),
    };
    let protocols = json!({ "match": { "op": "==", "left": { "meta": { "key": "l4proto" } },
        "right": { "set": ["tcp", "udp"] } } });
    let mut rule = vec![from, out];
    rule.extend(dev);
    rules.push([rule.clone(), vec![protocols, translate(true)]].concat());
    rules.push([rule, vec![translate(false)]].concat());
    rules
}

#[cfg(test)]
mod test {
    use serde_json::Value;

    use super::{Resolved, ruleset, table};

    #[test]
    fn a_port_of_an_address_is_one_of_the_host() {
        let settings = |attributes: &str| {
            format!(
                "<network><name>n</name><metadata><b:settings xmlns:b='urn:berth:network:1'><b:forward \
                 host-port='9003' {attributes}/></b:settings></metadata><bridge name='b0'/>\
                 <ip address='10.0.0.1' prefix='24'/><ip family='ipv6' address='fd00::1' prefix='64'/></network>"
            )
        };
        for (attributes, host) in [
            ("guest='10.0.0.5'", None),
            ("guest='fd00::5' host-address='::'", None),
            ("guest='10.0.0.5' host-address='203.0.113.77'", Some("203.0.113.77")),
            ("guest='fd00::5' host-address='2001:db8::77'", Some("2001:db8::77")),
        ] {
            let parsed = berth_domain::network::parse_network(&settings(attributes)).expect("good");
            let resolve = |forward: berth_domain::network::PortForward| Resolved {
                address: forward.address().expect("an address"),
                forward,
            };
            let forwards: Vec<Resolved> = parsed.network.forwards().into_iter().map(resolve).collect();
            let all = ruleset(&parsed.network, "b0", &forwards, None, &[]);
            for chain in ["prerouting", "output"] {
                let commands = all["nftables"].as_array().expect("commands");
                let rules = commands.iter().map(|c| &c["add"]["rule"]).filter(|r| r["chain"] == chain);
                let rules: Vec<&Value> = rules.collect();
                assert_eq!(rules.len(), 1, "{attributes}: {rules:?}");
                let tests: Vec<&Value> = rules[0]["expr"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|e| &e["match"])
                    .filter(|m| m["op"] == "==")
                    .collect();
                let local =
                    tests.iter().any(|m| m["left"]["fib"]["result"] == "type" && m["right"] == "local");
                assert!(local, "{attributes}: {rules:?}");
                let address = tests.iter().find(|m| m["left"]["payload"]["field"] == "daddr");
                assert_eq!(address.and_then(|m| m["right"].as_str()), host, "{attributes}");
                let text = rules[0].to_string();
                let spared = text.contains("fe80::");
                assert_eq!(spared, attributes.contains("'::'"), "{attributes}: {text}");
            }
        }
    }

    #[test]
    fn what_came_by_a_forward_that_is_gone_is_no_answer() {
        let text = "<network><name>n</name><forward/><bridge name='b0'/><ip address='10.0.0.1' prefix='24'/></network>";
        let parsed = berth_domain::network::parse_network(text).expect("good");
        let all = ruleset(&parsed.network, "b0", &[], None, &[]);
        let commands = all["nftables"].as_array().expect("commands");
        let rules = commands.iter().map(|c| c["add"]["rule"]["expr"].to_string());
        let rules: Vec<String> = rules.collect();
        let has = |words: &[&str]| rules.iter().position(|r| words.iter().all(|w| r.contains(w)));
        let dropped = has(&["\"original\"", "\"dnat\"", "\"drop\""]);
        let answers = has(&["\"established\"", "\"accept\""]);
        assert!(dropped.is_some() && dropped < answers, "{rules:#?}");
    }

    #[test]
    fn each_bridge_has_a_table_of_its_own() {
        assert_eq!(table("virbr0"), "berth-virbr0");
        let names = [
            "br_1",
            "br.1",
            "br-1",
            "br:1",
            "\u{fc}",
            "\u{f6}",
            "62722e31",
            "abcdefghijklmn.",
            "a.",
            "a.\u{7f}",
        ];
        let mut tables: Vec<String> = names.iter().map(|n| table(n)).collect();
        assert!(
            tables.iter().all(|t| t.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))),
            "{tables:?}"
        );
        tables.sort_unstable();
        tables.dedup();
        assert_eq!(tables.len(), names.len(), "{tables:?}");
    }
}
