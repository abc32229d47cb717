//! Documents of networks, and changes of their parts.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::path::PathBuf;

use berth_domain::network::{Change, Network, NetworkLive, PartKind, parse_network, parse_part};
use common::{corpus, documents};
use proptest::prelude::*;

fn networks() -> PathBuf {
    corpus().with_file_name("networks")
}

/// `NAME.xml` comes back as `NAME.out.xml`, or as itself; `NAME.warnings` lists its warnings, `NAME.start` what keeps it
/// from being started.
#[test]
fn documents_come_back() {
    let folder = networks();
    let documents = documents(&folder);
    assert!(documents.len() >= 9, "only {} documents in {}", documents.len(), folder.display());
    for path in documents {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let parsed = parse_network(&text).unwrap_or_else(|e| panic!("{name}: {e}: {:#?}", e.diagnostics));
        let expected = fs::read_to_string(path.with_extension("out.xml")).unwrap_or_else(|_| text.clone());
        assert_eq!(parsed.network.to_xml(), expected, "{name}");
        let lines =
            |all: &[berth_domain::Diagnostic]| all.iter().map(|w| format!("{w}\n")).collect::<String>();
        let listed = |kind: &str| fs::read_to_string(path.with_extension(kind)).unwrap_or_default();
        assert_eq!(lines(&parsed.warnings), listed("warnings"), "{name}");
        assert_eq!(lines(&parsed.network.start_problems()), listed("start"), "{name}");
        let again = parse_network(&expected).unwrap_or_else(|e| panic!("{name}, read again: {e}"));
        assert_eq!(again.network.to_xml(), expected, "{name}, read again");
    }
}

/// Whoever only defines a network hears of all that keeps it from being started, and of each once.
#[test]
fn a_definition_that_cannot_be_started_says_so() {
    let ip = "<ip address='10.1.1.1' prefix='24'><tftp root='/srv'/><dhcp><bootp file='pxe.0'/></dhcp></ip>";
    for (inner, expected) in [
        (
            "<forward mode='hostdev'>\n<pf dev='eth1'/></forward>",
            &[(1, "devices"), (2, "virtual functions")][..],
        ),
        (ip, &[(1, "TFTP"), (1, "boot from")]),
        ("<ip address='10.1.1.1' prefix='24'/>", &[]),
    ] {
        let parsed = parse_network(&format!("<network><name>x</name>{inner}</network>")).unwrap();
        let all = parsed.all_warnings();
        assert_eq!(all.len(), expected.len(), "{all:#?}");
        for (warning, (line, words)) in all.iter().zip(expected) {
            assert!(warning.line == *line && warning.message.contains(words), "{warning}");
            assert!(warning.message.ends_with("cannot be started by this version of berth"), "{warning}");
        }
    }
}

/// `bad/NAME.xml` is refused, and the first thing said about it is `bad/NAME.txt`.
#[test]
fn bad_documents_are_refused_with_a_place() {
    let documents = documents(&networks().join("bad"));
    assert!(documents.len() >= 30, "only {} documents", documents.len());
    for path in documents {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let error = match parse_network(&fs::read_to_string(&path).unwrap()) {
            Ok(_) => panic!("{name} was accepted"),
            Err(error) => error,
        };
        let expected = fs::read_to_string(path.with_extension("txt")).unwrap_or_default();
        assert_eq!(format!("{}\n", error.diagnostics[0]), expected, "{name}");
    }
}

fn lab() -> Network {
    parse_network(&fs::read_to_string(networks().join("nat.xml")).unwrap()).unwrap().network
}

/// The change of a part of the lab; the error in words.
fn change(change: Change, kind: PartKind, xml: &str) -> Result<String, String> {
    let part = parse_part(xml, kind).map_err(|e| e.to_string())?;
    lab().updated(change, &part, None).map(|n| n.to_xml()).map_err(|e| e.to_string())
}

#[test]
fn parts_are_added_changed_and_removed() {
    let host = "<host mac='52:54:00:00:00:09' name='db' ip='10.20.0.12'/>";
    let added = change(Change::AddLast, PartKind::DhcpHost, host).unwrap();
    let (before, after) =
        (added.find("52:54:00:00:00:02").unwrap(), added.find("52:54:00:00:00:09").unwrap());
    assert!(before < after);
    let first = change(Change::AddFirst, PartKind::DhcpHost, host).unwrap();
    assert!(first.find("52:54:00:00:00:09").unwrap() < first.find("52:54:00:00:00:01").unwrap());
    let modified =
        change(Change::Modify, PartKind::DhcpHost, "<host mac='52:54:00:00:00:01' ip='10.20.0.77'/>");
    assert!(modified.unwrap().contains("<host mac='52:54:00:00:00:01' ip='10.20.0.77'/>"));
    for (kind, xml, gone) in [
        (PartKind::DhcpHost, "<host mac='52:54:00:00:00:01'/>", "ip='10.20.0.10'"),
        (PartKind::DhcpHost, "<host ip='fd00:20::10'/>", "ip='fd00:20::10'"),
        (PartKind::DhcpRange, "<range start='10.20.0.100' end='10.20.0.199'/>", "10.20.0.100"),
        (PartKind::DnsHost, "<host ip='10.20.0.9'/>", "printer"),
        (PartKind::DnsHost, "<host><hostname>printer</hostname></host>", "10.20.0.9"),
        (PartKind::DnsTxt, "<txt name='info'/>", "a lab"),
        (PartKind::DnsSrv, "<srv service='ldap'/>", "ldap"),
    ] {
        let without = change(Change::Delete, kind, xml).unwrap_or_else(|e| panic!("{xml}: {e}"));
        assert!(!without.contains(gone), "{xml}: {without}");
    }
    for (kind, xml, message) in [
        (Change::Delete, "<host/>", "line 1, column 1: <host>: an address or a name is missing"),
        (
            Change::Delete,
            "<host><hostname>nobody</hostname></host>",
            "couldn't locate a matching DNS HOST record in network 'lab'",
        ),
        (Change::AddLast, "<host><hostname>new</hostname></host>", "the attribute 'ip' is missing"),
        (Change::Modify, "<host><hostname>printer</hostname></host>", "the attribute 'ip' is missing"),
    ] {
        assert_eq!(change(kind, PartKind::DnsHost, xml), Err(message.to_owned()), "{xml}");
    }
    let group = "<portgroup name='new'><port isolated='yes'/></portgroup>";
    assert!(change(Change::AddLast, PartKind::Portgroup, group).unwrap().contains("<portgroup name='new'>"));
}

#[test]
fn records_of_dns_are_modified() {
    let modify = |kind, xml: &str| change(Change::Modify, kind, xml);
    let host = modify(PartKind::DnsHost, "<host ip='10.20.0.9'><hostname>scanner</hostname></host>").unwrap();
    assert!(host.contains("<hostname>scanner</hostname>") && !host.contains("printer"), "{host}");
    let moved =
        modify(PartKind::DnsHost, "<host ip='10.20.0.8'><hostname>printer</hostname></host>").unwrap();
    assert!(moved.contains("<host ip='10.20.0.8'>") && !moved.contains("10.20.0.9"), "{moved}");
    let txt = modify(PartKind::DnsTxt, "<txt name='info' value='the lab'/>").unwrap();
    assert!(txt.contains("<txt name='info' value='the lab'/>") && !txt.contains("a lab"), "{txt}");
    let srv =
        "<srv service='ldap' protocol='tcp' domain='lab.example' target='other' port='390' priority='2'/>";
    let changed = modify(PartKind::DnsSrv, srv).unwrap();
    assert!(changed.contains(srv) && !changed.contains("port='389'"), "{changed}");
    for (kind, xml, what) in [
        (PartKind::DnsHost, "<host ip='10.20.0.7'><hostname>new</hostname></host>", "DNS HOST record"),
        (PartKind::DnsTxt, "<txt name='new' value='x'/>", "DNS TXT record"),
        (PartKind::DnsSrv, "<srv service='ldap' protocol='tcp' target='dir'/>", "DNS SRV record"),
    ] {
        let error = modify(kind, xml).unwrap_err();
        assert_eq!(error, format!("couldn't locate an existing {what} in network 'lab'"), "{xml}");
    }
    // Of two hosts with one service the one that is named is meant; without a name it could be either.
    let two = lab().to_xml().replace(
        "<host ip='10.20.0.9'>",
        "<srv service='ldap' protocol='tcp' domain='lab.example' target='spare'/><host ip='10.20.0.9'>",
    );
    let two = parse_network(&two).unwrap().network;
    let modify = |target: &str| {
        let xml = format!(
            "<srv service='ldap' protocol='tcp' domain='lab.example' target='{target}' port='1' weight='1'/>"
        );
        let part = parse_part(&xml, PartKind::DnsSrv).unwrap();
        two.updated(Change::Modify, &part, None).map(|n| n.to_xml()).map_err(|e| e.to_string())
    };
    let spare = modify("spare").unwrap();
    assert!(spare.contains("target='spare' port='1' weight='1'/>"), "{spare}");
    assert!(spare.contains("target='dir' port='389'"), "{spare}");
    assert_eq!(modify("third").unwrap_err(), "multiple matching DNS SRV records were found in network 'lab'");
}

#[test]
fn a_guest_is_found_in_whichever_dhcp_it_is() {
    let xml = "<network><name>lab</name><bridge name='b0'/>\
        <ip family='ipv6' address='fd00::1' prefix='64'><dhcp><host name='both' ip='fd00::5'/></dhcp></ip>\
        <ip address='10.0.0.1' prefix='24'><dhcp><host mac='52:54:00:00:05:06' ip='10.0.0.6'/>\
        <host name='both' ip='10.0.0.5'/></dhcp></ip>\
        <ip address='10.0.1.1' prefix='24'/></network>";
    let network = parse_network(xml).unwrap().network;
    let change = |change, xml: &str, parent| {
        let part = parse_part(xml, PartKind::DhcpHost).unwrap();
        network.updated(change, &part, parent).map(|n| n.to_xml()).map_err(|e| e.to_string())
    };
    let mac = "<host mac='52:54:00:00:05:06'/>";
    assert!(!change(Change::Delete, mac, None).unwrap().contains("05:06"));
    let nobody = "couldn't locate a matching dhcp host entry in network 'lab'";
    assert_eq!(change(Change::Delete, mac, Some(0)).unwrap_err(), nobody);
    assert_eq!(change(Change::Delete, "<host mac='52:54:00:00:05:07'/>", None).unwrap_err(), nobody);
    assert_eq!(
        change(Change::Delete, "<host name='both'/>", None).unwrap_err(),
        "multiple matching dhcp host entries were found in network 'lab'"
    );
    let named = "<host mac='52:54:00:00:05:06' name='six'/>";
    assert!(change(Change::Modify, named, None).unwrap().contains("name='six'"));
    // The place would be one of the definition.
    assert_eq!(
        change(Change::AddLast, "<host mac='52:54:00:00:05:08' ip='10.0.1.8'/>", Some(2)).unwrap_err(),
        "<dhcp>: only one address of a family can have <dhcp>"
    );
}

#[test]
fn whether_a_domain_is_registered_is_kept() {
    let xml = "<network><name>n</name><domain name='d.test' localOnly='yes' register='no'/>\
        <ip address='10.0.0.1' prefix='24'/></network>";
    let parsed = parse_network(xml).unwrap();
    assert_eq!(parsed.warnings, Vec::new());
    let again = parsed.network.to_xml();
    assert!(again.contains("<domain name='d.test' localOnly='yes' register='no'/>"), "{again}");
}

#[test]
fn changes_that_cannot_be_say_why() {
    let say = |c, kind, xml: &str| change(c, kind, xml).unwrap_err();
    let host = PartKind::DhcpHost;
    assert_eq!(
        say(Change::AddLast, host, "<host mac='52:54:00:00:00:01' ip='10.20.0.50'/>"),
        "there is an existing dhcp host entry in network 'lab' that matches"
    );
    assert_eq!(
        say(Change::Delete, host, "<host mac='52:54:00:00:00:77'/>"),
        "couldn't locate a matching dhcp host entry in network 'lab'"
    );
    assert_eq!(
        say(Change::Modify, PartKind::DhcpRange, "<range start='10.20.0.100' end='10.20.0.150'/>"),
        "a dhcp range entry cannot be modified, only added or deleted"
    );
    assert!(
        say(Change::AddLast, host, "<host mac='52:54:00:00:00:78' ip='10.99.0.50'/>")
            .contains("is not of the network")
    );
    assert!(
        say(Change::AddLast, host, "<range start='10.20.0.2' end='10.20.0.3'/>")
            .contains("has elements 'host'")
    );
    assert!(say(Change::AddLast, host, "<host/>").contains("must be there"));
    assert!(
        say(Change::AddLast, PartKind::ForwardInterface, "<interface dev='eth0'/>")
            .contains("has no interfaces")
    );
    assert!(say(Change::AddLast, PartKind::DnsTxt, "<txt name='x'/>").contains("'value' is missing"));
}

#[test]
fn what_runs_counts_its_ports() {
    let pool = fs::read_to_string(networks().join("pool.xml")).unwrap();
    let network = parse_network(&pool).unwrap().network;
    let xml = network.to_live_xml(&NetworkLive { connections: 3, interfaces: vec![2, 1] });
    assert!(xml.starts_with("<network connections='3'>"), "{xml}");
    assert!(xml.contains("<interface dev='eth10' connections='2'/>"), "{xml}");
    assert_eq!(parse_network(&xml).unwrap().network.to_xml(), pool);
}

#[test]
fn a_network_without_a_mac_gets_one_that_stays() {
    let first = parse_network("<network><name>x</name></network>").unwrap().network;
    assert!(first.mac.as_ref().is_some_and(|m| m.starts_with("52:54:00:")));
    assert_eq!(parse_network(&first.to_xml()).unwrap().network.mac, first.mac);
}

/// A TXT record may have no text, which is not the same as having no value.
#[test]
fn a_text_can_be_empty() {
    let network = |txt: &str| {
        let text =
            format!("<network><name>x</name><dns>{txt}</dns><ip address='10.1.1.1' prefix='24'/></network>");
        parse_network(&text).map(|parsed| parsed.network)
    };
    let empty = network("<txt name='t' value=''/>").unwrap();
    assert!(empty.to_xml().contains("<txt name='t' value=''/>"), "{}", empty.to_xml());
    let missing = network("<txt name='t'/>").unwrap_err();
    assert_eq!(missing.diagnostics[0].message, "the attribute 'value' is missing");
    let part = parse_part("<txt name='info' value=''/>", PartKind::DnsTxt).unwrap();
    let changed = lab().updated(Change::Modify, &part, None).unwrap().to_xml();
    assert!(changed.contains("<txt name='info' value=''/>"), "{changed}");
}

/// What only follows from an error is none.
#[test]
fn one_mistake_is_one_error() {
    let forward = "<metadata><berth:settings xmlns:berth='urn:berth:network:1'>\
                   <berth:forward host-port='80' guest='10.1.1.2'/></berth:settings></metadata>";
    let nat = |ip: &str| format!("{forward}<forward mode='nat'/>{ip}");
    let route = "<route address='10.9.0.0' prefix='16' gateway='10.1.1.9'/>";
    let inside = |dns: &str, dhcp: &str| {
        format!("<dns>{dns}</dns><ip address='10.1.1.1' prefix='24'><dhcp>{dhcp}</dhcp></ip>")
    };
    for (inner, message) in [
        (nat("<ip address='10.1.1.300' prefix='24'/>"), "address '10.1.1.300' is not an address"),
        (nat(&format!("<ip prefix='24'/>{route}")), "the attribute 'address' is missing"),
        ("<forward mode='teleport'/>".into(), "mode 'teleport' is not one of"),
        (inside("<forwarder addr='10.1.1.x'/>", ""), "addr '10.1.1.x' is not an address"),
        (inside("", "<host mac='52:54:00:00:00:01' ip='10.1.1.x'/>"), "ip '10.1.1.x' is not an address"),
        (
            "<forward mode='nat'><nat><port start='1' end='x'/></nat></forward>\
             <ip address='10.1.1.1' prefix='24'/>"
                .into(),
            "end 'x' is not a number",
        ),
    ] {
        let error = parse_network(&format!("<network><name>x</name>{inner}</network>")).unwrap_err();
        let messages: Vec<&str> = error.diagnostics.iter().map(|d| d.message.as_str()).collect();
        assert!(messages.len() == 1 && messages[0].starts_with(message), "{inner}: {messages:#?}");
    }
}

/// Nobody can have the first and the last address of a network of IPv4.
#[test]
fn a_host_is_no_edge_of_its_network() {
    let host = |address: &str| format!("<host mac='52:54:00:00:00:01' ip='{address}'/>");
    let dhcp = |address: &str| {
        let dhcp = format!("<dhcp>{}</dhcp>", host(address));
        let ip = format!("<ip address='10.1.1.1' prefix='24'>{dhcp}</ip>");
        parse_network(&format!("<network><name>x</name>{ip}</network>")).map_err(|e| e.to_string())
    };
    for address in ["10.1.1.255", "10.1.1.0"] {
        let error = dhcp(address).unwrap_err();
        let message = format!("the address '{address}' is that of the network, or of all its guests");
        assert!(error.contains(&message), "{error}");
        let part = parse_part(&host(address), PartKind::DhcpHost).unwrap();
        let update = dhcp("10.1.1.254").unwrap().network.updated(Change::Modify, &part, None);
        assert!(update.unwrap_err().to_string().contains(&message));
    }
}

/// libvirt prints the device of a network with a bridge of its own twice.
#[test]
fn the_way_out_is_said_in_any_of_libvirts_forms() {
    let forms = |forward: &str| {
        let text = format!(
            "<network><name>out</name>{forward}<ip address='10.1.1.1' netmask='255.255.255.0'/></network>"
        );
        parse_network(&text).map(|parsed| parsed.network)
    };
    let both = "<forward dev='eth1' mode='nat'>\n    <interface dev='eth1'/>\n  </forward>";
    for forward in [
        both,
        "<forward mode='nat' dev='eth1'/>",
        "<forward mode='nat'><interface dev='eth1'/></forward>",
        "<forward mode='nat' dev='eth1'><interface dev='eth1' connections='1'/></forward>",
    ] {
        let network = forms(forward).unwrap();
        assert_eq!(network.forward.as_ref().unwrap().dev.as_deref(), Some("eth1"), "{forward}");
        assert!(network.to_xml().contains(both), "{}", network.to_xml());
    }
    let says = |forward: &str| forms(forward).unwrap_err().diagnostics[0].message.clone();
    assert_eq!(
        says("<forward mode='nat' dev='eth1'><interface dev='eth2'/></forward>"),
        "the first interface 'eth2' is not the 'eth1' of <forward>"
    );
    assert_eq!(
        says("<forward mode='route'><interface dev='eth1'/><interface dev='eth2'/></forward>"),
        "the mode 'route' can have only one <interface>"
    );
}

/// What is the first interface is said at `<forward>` too.
#[test]
fn an_interface_that_goes_is_gone_from_the_whole_element() {
    let pool = parse_network(&fs::read_to_string(networks().join("pool.xml")).unwrap()).unwrap().network;
    let update = |network: &Network, change, dev: &str| {
        let part = parse_part(&format!("<interface dev='{dev}'/>"), PartKind::ForwardInterface).unwrap();
        network.updated(change, &part, None).map_err(|e| e.to_string())
    };
    let without = update(&pool, Change::Delete, "eth10").unwrap();
    assert!(without.to_xml().contains("<forward dev='eth11' mode='private'>"), "{}", without.to_xml());
    assert!(!without.to_xml().contains("eth10"), "{}", without.to_xml());
    let first = update(&pool, Change::AddFirst, "eth9").unwrap();
    assert!(first.to_xml().contains("<forward dev='eth9' mode='private'>"), "{}", first.to_xml());
}

proptest! {
    /// No text makes the parser fail in any other way than by saying so, and what it takes comes back the same.
    #[test]
    fn any_mutilation_is_survived(at in 0..2000_usize, length in 0..80_usize, by in "[ -~]{0,12}") {
        let text = lab().to_xml();
        let start = at.min(text.len());
        let end = (start + length).min(text.len());
        let mutilated = format!("{}{by}{}", &text[..start], &text[end..]);
        if let Ok(parsed) = parse_network(&mutilated) {
            let once = parsed.network.to_xml();
            prop_assert_eq!(parse_network(&once).unwrap().network.to_xml(), once);
        }
    }
}

/// What dnsmasq takes for something else than a name is none of a bridge that it serves.
#[test]
fn a_name_of_a_bridge_is_one_for_dnsmasq_too() {
    let bridge = |inner: &str, name: &str| {
        let text = format!("<network><name>x</name>{inner}\n <bridge name='{name}'/></network>");
        match parse_network(&text) {
            Ok(_) => String::new(),
            Err(e) => e.diagnostics.iter().map(|d| format!("{}: {}\n", d.line, d.message)).collect(),
        }
    };
    for (name, odd) in [("br*", '*'), ("b*%d", '*'), ("br,0", ','), ("br&quot;0", '"'), ("br\\0", '\\')] {
        let told = bridge("<forward mode='open'/>", name);
        assert!(told.starts_with("2: '") && told.ends_with(&format!("there is a {odd} in it\n")), "{told}");
        let host = bridge("<forward mode='bridge'/>", if name.contains('%') { "br*" } else { name });
        assert_eq!(host, "", "a bridge of the host has the name that it has");
    }
    for good in ["br#0", "br=0", "br'0".replace('\'', "&apos;").as_str(), "br!", "br(0)", "-br0"] {
        assert_eq!(bridge("<forward mode='open'/>", good), "", "{good}");
    }
    for bad in ["br 0", "br/0", "br:0"] {
        let why = "(no blanks, slashes, colons, percent signs; not '.' or '..')";
        assert_eq!(bridge("", bad), format!("2: '{bad}' is not a name of an interface {why}\n"));
    }
    let long = bridge("", "a-name-of-16-byt");
    assert_eq!(long, "2: 'a-name-of-16-byt' is not a name of an interface (1 to 15 bytes)\n");
}

#[test]
fn the_last_interface_of_macvlans_stays() {
    let text = "<network><name>mv</name><forward mode='bridge'><interface dev='a0'/></forward></network>";
    let network = parse_network(text).unwrap().network;
    let delete = |network: &Network, dev: &str| {
        let part = parse_part(&format!("<interface dev='{dev}'/>"), PartKind::ForwardInterface).unwrap();
        network.updated(Change::Delete, &part, None).map_err(|e| e.to_string())
    };
    let last = "it is the last interface, and the mode 'bridge' needs one";
    assert_eq!(delete(&network, "a0").unwrap_err(), last);
    let more = parse_part("<interface dev='a1'/>", PartKind::ForwardInterface).unwrap();
    let two = network.updated(Change::AddLast, &more, None).unwrap();
    assert!(!delete(&two, "a0").unwrap().to_xml().contains("a0"));
}

/// dnsmasq reads a line only so far, and takes the rest for another one.
#[test]
fn records_are_no_longer_than_a_line() {
    let say = |dns: &str, dhcp: &str| {
        let text = format!(
            "<network><name>x</name><dns>{dns}</dns><ip address='10.1.1.1' prefix='24'><dhcp>{dhcp}</dhcp></ip></network>"
        );
        parse_network(&text).map(drop).map_err(|e| e.diagnostics[0].message.clone())
    };
    let txt = |text: &str, n: usize| say(&format!("<txt name='t' value='{}'/>", text.repeat(n)), "");
    assert_eq!(txt("x", 999), Ok(()));
    assert!(txt("x", 1000).unwrap_err().contains("1001 bytes"));
    assert_eq!((txt("\\", 499), txt("&quot;", 499)), (Ok(()), Ok(())));
    assert!(txt("\\", 500).is_err() && txt("&quot;", 500).is_err());
    let srv = |n: usize| {
        let name = "x".repeat(n);
        say(&format!("<srv service='s' protocol='tcp' domain='{name}' target='{}'/>", "t".repeat(253)), "")
    };
    assert_eq!(srv(243), Ok(()));
    assert!(srv(244).unwrap_err().contains("longer together than a name"));
    let host = |n: usize| say("", &format!("<host id='{}' name='h'/>", "a".repeat(n)));
    assert_eq!(host(600), Ok(()));
    assert!(host(601).unwrap_err().contains("is not an id"));
}
