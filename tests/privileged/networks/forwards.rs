//! Ports of the host that lead to guests: who gets where by them, and what becomes of the rules that somebody changes.

use std::fs;
use std::net::UdpSocket;
use std::time::Duration;

use berth_tests::daemon::{Daemon, domain_xml};
use berth_tests::host::in_own_network;
use berth_tests::lab::{self, Machine, outside, run};
use berth_tests::roots;
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, wait_for};

use super::{Guest, define};

pub const TESTS: &[Test] = &[
    ("networks::ports_of_an_isolated_network_let_nobody_out", || in_own_network(isolated_with_ports)),
    ("networks::ports_lead_to_guests_without_a_way_out", || in_own_network(ports_of_isolated)),
    ("networks::rules_that_somebody_changes_are_made_again", || in_own_network(rules_changed)),
    ("networks::ports_lead_to_guests_by_ipv6", || in_own_network(ports_by_ipv6)),
    ("networks::ports_lead_a_guest_to_itself_and_its_neighbours", || in_own_network(hairpin)),
    ("networks::ports_of_a_domain_lead_it_to_itself", || in_own_network(hairpin_of_domain)),
    ("networks::ports_in_a_row_lead_to_others_in_a_row", || in_own_network(rows)),
    ("networks::a_port_that_leads_nowhere_any_more_leads_nobody", || in_own_network(gone)),
    ("networks::guests_keep_their_name_server", || in_own_network(name_server)),
    ("networks::guests_keep_their_name_server_on_the_link", || in_own_network(name_server_on_link)),
    ("networks::a_port_that_the_host_listens_on_is_not_taken", || in_own_network(in_use)),
    ("networks::nobody_on_a_bridge_passes_for_the_host_itself", || in_own_network(from_loopback)),
];

const UUID: &str = "<uuid>5e8fa5b1-7ad7-4d9c-9c1b-6d0a6f6a5f01</uuid>";

/// A machine with a cable into a bridge and these addresses, and no way out.
fn neighbour(bridge: &str, name: &str, addresses: &[&str]) -> Result<Machine, String> {
    let machine = Machine::new()?;
    machine.cable(name, "eth0")?;
    run(&["ip", "link", "set", name, "master", bridge])?;
    for address in addresses {
        let nodad: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
        machine.run(&[&["ip", "addr", "add", address, "dev", "eth0"], nodad].concat())?;
    }
    Ok(machine)
}

/// A network's settings with forwarded ports.
fn settings(forwards: &str) -> String {
    format!("<metadata><b:settings xmlns:b='urn:berth:network:1'>{forwards}</b:settings></metadata>")
}

/// Forwarded ports of a network make nothing of it that others translate, nor what its guests ask for.
fn isolated_with_ports() -> Outcome {
    let daemon = Daemon::start()?;
    let outside = outside("10.7.0.0/24")?;
    let forward = settings("<b:forward host-port='8080' guest='10.7.0.5' port='80'/>");
    define(&daemon, "iso", &format!("{forward}<bridge name='iso0'/><ip address='10.7.0.1' prefix='24'/>"))?;
    let forward = settings("<b:forward host-port='8090' guest='10.8.0.5' port='80'/>");
    let nat = "<forward/><bridge name='nat0'/><ip address='10.8.0.1' prefix='24'/>";
    define(&daemon, "nat", &format!("{forward}{nat}"))?;
    daemon.ok(&["net-start", "iso"])?;
    daemon.ok(&["net-start", "nat"])?;
    run(&[
        "nft",
        "add table ip others; add chain ip others pre { type nat hook prerouting priority -101 ; }",
    ])?;
    run(&["nft", "add rule ip others pre tcp dport 9001 dnat to 192.0.2.2:80"])?;
    run(&["nft", "add rule ip others pre tcp dport 9002 dnat to 10.7.0.5:81"])?;
    run(&["nft", "add rule ip others pre tcp dport 9003 dnat to 10.7.0.6:80"])?;
    let a = neighbour("iso0", "ga", &["10.7.0.5/24"])?;
    let b = neighbour("iso0", "gb", &["10.7.0.6/24"])?;
    let c = neighbour("nat0", "gc", &["10.8.0.5/24"])?;
    for (machine, gateway) in [(&a, "10.7.0.1"), (&b, "10.7.0.1"), (&c, "10.8.0.1")] {
        machine.run(&["ip", "route", "add", "default", "via", gateway])?;
    }
    a.answers(80, "a")?;
    a.answers(81, "a, another port")?;
    b.answers(80, "b")?;
    c.answers(80, "c")?;
    ensure!(outside.hears("192.0.2.1:8080")?.starts_with("a "), "the forwarded port");
    ensure!(outside.hears("192.0.2.1:8090")?.starts_with("c "), "the forwarded port of the other network");
    ensure!(b.hears("10.7.0.1:8080")?.starts_with("a "), "the forwarded port from a neighbour");
    for (address, what) in [
        ("10.7.0.1:9001", "by what another program translates"),
        ("192.0.2.2:80", "by itself"),
        ("10.7.0.1:8090", "by a forwarded port of another network"),
    ] {
        let heard = a.hears(address);
        ensure!(heard.is_err(), "a guest of an isolated network gets out {what}: {heard:?}");
    }
    for port in [9002, 9003] {
        let heard = outside.hears(&format!("192.0.2.1:{port}"));
        ensure!(heard.is_err(), "the world gets in by what another program translates: {heard:?}");
    }
    daemon.ok(&["net-destroy", "nat"])?;
    daemon.ok(&["net-destroy", "iso"]).map(drop)
}

/// Guests of an isolated network have no default route, and are reached by forwarded ports all the same.
fn ports_of_isolated() -> Outcome {
    let daemon = Daemon::start()?;
    let outside = outside("10.7.0.0/24")?;
    let forward = settings("<b:forward host-port='8080' guest='10.7.0.5' port='80'/>");
    define(&daemon, "iso", &format!("{forward}<bridge name='iso0'/><ip address='10.7.0.1' prefix='24'/>"))?;
    daemon.ok(&["net-start", "iso"])?;
    let a = neighbour("iso0", "ga", &["10.7.0.5/24"])?;
    let b = neighbour("iso0", "gb", &["10.7.0.6/24"])?;
    a.answers(80, "a")?;
    let heard = [
        ("the world", outside.hears("192.0.2.1:8080")),
        ("the host by an address of its own", lab::hears("192.0.2.1:8080")),
        ("the host by that of the bridge", lab::hears("10.7.0.1:8080")),
        ("the host by 127.0.0.1", lab::hears("127.0.0.1:8080")),
        ("a neighbour", b.hears("10.7.0.1:8080")),
    ];
    for (who, heard) in heard {
        ensure_eq!(heard, Ok("a 10.7.0.1".to_owned()), "{who}");
    }
    daemon.ok(&["net-destroy", "iso"]).map(drop)
}

fn ports_by_ipv6() -> Outcome {
    without_search_for_duplicates()?;
    let daemon = Daemon::start()?;
    let outside = outside("10.8.0.0/24")?;
    run(&["ip", "addr", "add", "2001:db8:1::1/64", "dev", "wan0", "nodad"])?;
    outside.run(&["ip", "addr", "add", "2001:db8:1::2/64", "dev", "eth0", "nodad"])?;
    outside.run(&["ip", "route", "add", "fd00::/8", "via", "2001:db8:1::1"])?;
    let forwards = settings(
        "<b:forward host-port='8080' guest='fd00:8::5' port='80'/><b:forward host-port='8080' guest='10.8.0.5' port='81'/>",
    );
    let ips = "<ip address='10.8.0.1' prefix='24'/><ip family='ipv6' address='fd00:8::1' prefix='64'/>";
    define(
        &daemon,
        "nat",
        &format!("{forwards}<forward><nat ipv6='yes'/></forward><bridge name='nat0'/>{ips}"),
    )?;
    let forwards =
        settings("<b:forward host-address='2001:db8:1::1' host-port='8081' guest='fd00:9::5' port='80'/>");
    let ip = "<ip family='ipv6' address='fd00:9::1' prefix='64'/>";
    define(&daemon, "iso", &format!("{forwards}<bridge name='iso0'/>{ip}"))?;
    daemon.ok(&["net-start", "nat"])?;
    daemon.ok(&["net-start", "iso"])?;
    let a = neighbour("nat0", "ga", &["10.8.0.5/24", "fd00:8::5/64"])?;
    a.run(&["ip", "-6", "route", "replace", "default", "via", "fd00:8::1"])?;
    a.run(&["ip", "route", "add", "default", "via", "10.8.0.1"])?;
    let b = neighbour("nat0", "gb", &["fd00:8::6/64"])?;
    let c = neighbour("iso0", "gc", &["fd00:9::5/64"])?;
    a.answers(80, "a")?;
    a.answers(81, "a, by IPv4")?;
    c.answers(80, "c")?;
    // Only when the bridge's own address of the link is known to be nobody else's, does the host look for guests.
    for port in [8080, 8081] {
        let address = format!("[2001:db8:1::1]:{port}");
        wait_for("a way by IPv6", 10, || outside.hears(&address).ok())?;
    }
    for (who, heard, expected) in [
        ("the world", outside.hears("[2001:db8:1::1]:8080"), "a 2001:db8:1::2"),
        ("the world by IPv4", outside.hears("192.0.2.1:8080"), "a, by IPv4 192.0.2.2"),
        ("the host by an address of its own", lab::hears("[2001:db8:1::1]:8080"), "a 2001:db8:1::1"),
        ("the host by that of the bridge", lab::hears("[fd00:8::1]:8080"), "a fd00:8::1"),
        ("a neighbour", b.hears("[fd00:8::1]:8080"), "a fd00:8::1"),
        ("the world, an isolated network", outside.hears("[2001:db8:1::1]:8081"), "c fd00:9::1"),
        ("the host, an isolated network", lab::hears("[2001:db8:1::1]:8081"), "c fd00:9::1"),
    ] {
        ensure_eq!(heard, Ok(expected.to_owned()), "{who}");
    }
    ensure!(lab::hears("[fd00:9::1]:8081").is_err(), "a port of another address of the host");
    // What the kernel does not give answers to is what it was before: refused at once, so that whoever means "localhost"
    // goes on to 127.0.0.1.
    let began = std::time::Instant::now();
    let refused = lab::hears("[::1]:8080");
    ensure!(refused.as_ref().is_err_and(|e| e.contains("refused")), "nobody listens at ::1: {refused:?}");
    ensure!(began.elapsed() < std::time::Duration::from_millis(500), "it took {:?}", began.elapsed());
    ensure_eq!(
        lab::hears("127.0.0.1:8080"),
        Ok("a, by IPv4 10.8.0.1".to_owned()),
        "the other loopback address"
    );
    lab::answers(8080, "the host")?;
    ensure_eq!(lab::hears("[::1]:8080"), Ok("the host ::1".to_owned()), "the loopback address");
    ensure!(outside.hears("[fd00:8::5]:80").is_err(), "the world reaches a guest");
    ensure!(outside.hears("[fd00:9::5]:80").is_err(), "the world reaches a guest of an isolated network");
    daemon.ok(&["net-destroy", "iso"])?;
    daemon.ok(&["net-destroy", "nat"]).map(drop)
}

/// New interfaces of this host have their addresses of IPv6 at once: to look for duplicates first takes two seconds.
fn without_search_for_duplicates() -> Outcome {
    run(&["sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0"]).map(drop)
}

/// By each address of the host, in every kind of network that has a way to it.
fn hairpin() -> Outcome {
    without_search_for_duplicates()?;
    let daemon = Daemon::start()?;
    let _outside = outside("10.7.0.0/24")?;
    run(&["ip", "addr", "add", "2001:db8:1::1/64", "dev", "wan0", "nodad"])?;
    let forwards = settings(
        "<b:forward host-port='8080' guest='10.7.0.5' port='80'/><b:forward host-port='8080' guest='fd00:7::5' port='80'/>",
    );
    let inner = "<bridge name='net0'/><dns enable='no'/><ip address='10.7.0.1' prefix='24'/><ip family='ipv6' address='fd00:7::1' prefix='64'/>";
    run(&["sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0", "net.bridge.bridge-nf-call-ip6tables=0"])?;
    for (what, kind, isolated) in [
        ("nat", "<forward><nat ipv6='yes'/></forward>", false),
        ("nat of one family", "<forward/>", false),
        ("guests kept from each other", "<forward/><port isolated='yes'/>", true),
        ("route", "<forward mode='route'/>", false),
        ("open", "<forward mode='open'/>", false),
    ] {
        define(&daemon, "net", &format!("{UUID}{forwards}{kind}{inner}"))?;
        daemon.ok(&["net-start", "net"])?;
        let a = neighbour("net0", "ga", &["10.7.0.5/24", "fd00:7::5/64"])?;
        let b = neighbour("net0", "gb", &["10.7.0.6/24", "fd00:7::6/64"])?;
        for machine in [&a, &b] {
            machine.run(&["ip", "route", "add", "default", "via", "10.7.0.1"])?;
            machine.run(&["ip", "-6", "route", "replace", "default", "via", "fd00:7::1"])?;
        }
        if isolated {
            for port in ["ga", "gb"] {
                run(&["ip", "link", "set", "dev", port, "type", "bridge_slave", "isolated", "on"])?;
            }
        }
        a.answers(80, "a")?;
        wait_for("a way by IPv6", 10, || lab::hears("[2001:db8:1::1]:8080").ok())?;
        for (who, machine) in [("itself", &a), ("a neighbour", &b)] {
            for (host, seen) in [
                ("192.0.2.1", "10.7.0.1"),
                ("10.7.0.1", "10.7.0.1"),
                ("[2001:db8:1::1]", "fd00:7::1"),
                ("[fd00:7::1]", "fd00:7::1"),
            ] {
                let heard = machine.hears(&format!("{host}:8080"));
                ensure_eq!(heard, Ok(format!("a {seen}")), "{what}: {who} by {host}");
            }
        }
        if isolated {
            ensure!(b.hears("10.7.0.5:80").is_err(), "an isolated guest is reached by itself");
        }
        daemon.ok(&["net-destroy", "net"])?;
        drop((a, b));
        for port in ["ga", "gb"] {
            // The machine has gone with it, but not at once.
            let _ = run(&["ip", "link", "del", port]);
        }
    }
    Ok(())
}

/// Also where the host has bridges filter: the bridge translates by itself then, and sends nothing back by itself.
fn hairpin_of_domain() -> Outcome {
    without_search_for_duplicates()?;
    let daemon = Daemon::start()?;
    let outside = outside("10.7.0.0/24")?;
    run(&["ip", "addr", "add", "2001:db8:1::1/64", "dev", "wan0", "nodad"])?;
    let inner = "<forward/><bridge name='net0'/><dns enable='no'/><ip address='10.7.0.1' prefix='24'/>
        <ip family='ipv6' address='fd00:7::1' prefix='64'/>";
    let forwards = |ports: &str| {
        format!("<metadata><b:settings xmlns:b='urn:berth:domain:1'>{ports}</b:settings></metadata><devices>")
    };
    let guest = |number: u8| {
        format!(
            "<interface type='network'><source network='net'/><mac address='52:54:00:77:00:{number:02x}'/>
             <ip address='10.7.0.{number}' family='ipv4' prefix='24'/><ip address='fd00:7::{number}' family='ipv6' prefix='64'/>
             <route family='ipv4' address='0.0.0.0' prefix='0' gateway='10.7.0.1'/>
             <route family='ipv6' address='::' prefix='0' gateway='fd00:7::1'/></interface>"
        )
    };
    let init = ["/bin/sh", "-c", "while :; do sleep 1000; done"];
    for (name, number, ports) in [
        (
            "t-web",
            5,
            "<b:forward host-port='8080' port='80'/><b:forward host-address='::' host-port='8080' port='80'/>",
        ),
        ("t-other", 6, ""),
    ] {
        let root = daemon.busybox(name)?;
        let xml = domain_xml(name, &root, &init, &guest(number));
        daemon.define(name, &xml.replacen("<devices>", &forwards(ports), 1))?;
    }
    for filters in ["0", "1"] {
        for switch in ["iptables", "ip6tables"] {
            run(&["sysctl", "-qw", &format!("net.bridge.bridge-nf-call-{switch}={filters}")])?;
        }
        define(&daemon, "net", &format!("{UUID}{inner}"))?;
        daemon.ok(&["net-start", "net"])?;
        daemon.ok(&["start", "t-web", "t-other"])?;
        let init = |name: &str| -> Result<u32, String> {
            u32::try_from(daemon.pid_of(name, "initPid")?).map_err(|e| e.to_string())
        };
        let pid = init("t-web")?;
        lab::inside(pid, || lab::answers(80, "web"))?;
        wait_for("a way by IPv6", 10, || lab::hears("[2001:db8:1::1]:8080").ok())?;
        let reached = |what: &str| -> Outcome {
            for (who, pid) in [("itself", pid), ("a neighbour", init("t-other")?)] {
                for host in ["192.0.2.1", "10.7.0.1", "[2001:db8:1::1]", "[fd00:7::1]"] {
                    let address = format!("{host}:8080");
                    let what = format!("{what}, bridges filter: {filters}: {who} by {host}");
                    // Addresses of IPv6 are first looked for in the network.
                    let heard = wait_for(&what, 6, || {
                        let address = address.clone();
                        lab::inside(pid, move || lab::hears(&address)).ok()
                    })?;
                    ensure!(heard.starts_with("web "), "{what}: {heard}");
                }
            }
            Ok(())
        };
        reached("its own document")?;
        ensure!(outside.hears("192.0.2.1:8080")?.starts_with("web "), "from outside");
        daemon.ok(&["destroy", "t-web"])?;
        daemon.ok(&["net-destroy", "net"])?;
        daemon.ok(&["destroy", "t-other"])?;
    }
    Ok(())
}

fn rows() -> Outcome {
    let daemon = Daemon::start()?;
    let outside = outside("10.7.0.0/24")?;
    let forwards = settings(
        "<b:forward host-port='8000-8002' guest='10.7.0.5' port='80-82'/><b:forward host-port='9000-9001' guest='10.7.0.6'/>",
    );
    define(
        &daemon,
        "nat",
        &format!("{forwards}<forward/><bridge name='nat0'/><ip address='10.7.0.1' prefix='24'/>"),
    )?;
    daemon.ok(&["net-start", "nat"])?;
    let a = neighbour("nat0", "ga", &["10.7.0.5/24"])?;
    let b = neighbour("nat0", "gb", &["10.7.0.6/24"])?;
    for machine in [&a, &b] {
        machine.run(&["ip", "route", "add", "default", "via", "10.7.0.1"])?;
    }
    for (port, word) in [(80, "80"), (81, "81"), (82, "82"), (83, "83"), (8000, "8000")] {
        a.answers(port, word)?;
    }
    b.answers(9000, "9000")?;
    b.answers(9001, "9001")?;
    for (port, word) in [(8000, "80"), (8001, "81"), (8002, "82"), (9000, "9000"), (9001, "9001")] {
        ensure_eq!(outside.hears(&format!("192.0.2.1:{port}"))?, format!("{word} 192.0.2.2"), "port {port}");
        ensure!(lab::hears(&format!("127.0.0.1:{port}"))?.starts_with(word), "port {port} from the host");
    }
    for port in [7999, 8003, 8999, 9002] {
        let heard = outside.hears(&format!("192.0.2.1:{port}"));
        ensure!(heard.is_err(), "port {port} leads somewhere: {heard:?}");
    }
    // Rules are as they were made, so nothing makes them again and again.
    std::thread::sleep(std::time::Duration::from_millis(300));
    ensure_eq!(complaints(&daemon), 0, "complaints about its own rules");
    daemon.ok(&["net-destroy", "nat"]).map(drop)
}

fn in_use() -> Outcome {
    let daemon = Daemon::start()?;
    let outside = outside("10.7.0.0/24")?;
    lab::answers(8080, "the host")?;
    let network = |forward: &str| {
        let inner = "<forward/><bridge name='nat0'/><ip address='10.7.0.1' prefix='24'/>";
        define(&daemon, "nat", &format!("{UUID}{}{inner}", settings(forward)))
    };
    let refused = "port 8080/tcp cannot be forwarded: a program of the host listens";
    for ports in ["8080", "8000-8100"] {
        network(&format!("<b:forward host-port='{ports}' guest='10.7.0.5'/>"))?;
        let error = daemon.virsh(&["net-start", "nat"])?.fails()?;
        ensure!(error.contains(refused), "{error}");
    }
    ensure!(outside.hears("192.0.2.1:8080")?.starts_with("the host"), "the host's port is taken away");
    // One address goes before all.
    network("<b:forward host-port='8080' host-address='192.0.2.1' guest='10.7.0.5'/>")?;
    daemon.ok(&["net-start", "nat"])?;
    let a = neighbour("nat0", "ga", &["10.7.0.5/24"])?;
    a.run(&["ip", "route", "add", "default", "via", "10.7.0.1"])?;
    a.answers(8080, "a")?;
    ensure!(outside.hears("192.0.2.1:8080")?.starts_with("a "), "the forwarded port");
    ensure!(lab::hears("127.0.0.1:8080")?.starts_with("the host"), "another address of the host");
    daemon.ok(&["net-destroy", "nat"]).map(drop)
}

/// What the daemon has logged about rules that somebody else has changed.
fn complaints(daemon: &Daemon) -> usize {
    daemon.log().lines().filter(|l| l.contains("somebody else has changed its rules")).count()
}

fn rules_changed() -> Outcome {
    let mut daemon = Daemon::start()?;
    let outside = outside("10.7.0.0/24")?;
    let forward = settings("<b:forward host-port='8080' guest='10.7.0.5' port='80'/>");
    let inner = "<forward/><bridge name='nat0'/><dns enable='no'/><ip address='10.7.0.1' prefix='24'/>";
    let programs = daemon.work().join("programs");
    fs::create_dir(&programs).map_err(|e| e.to_string())?;
    let path = run(&["sh", "-c", "PATH=$PATH:/usr/sbin:/sbin; command -v nft"])?;
    let nft = programs.join("nft");
    let install = || std::os::unix::fs::symlink(path.trim(), &nft).map_err(|e| e.to_string());
    install()?;
    daemon.kill();
    daemon.set_environment(&[("PATH", &programs.to_string_lossy())]);
    daemon.launch()?;
    define(&daemon, "nat", &format!("{forward}{inner}"))?;
    daemon.ok(&["net-start", "nat"])?;
    let guest = neighbour("nat0", "ga", &["10.7.0.5/24"])?;
    guest.run(&["ip", "route", "add", "default", "via", "10.7.0.1"])?;
    guest.answers(80, "guest")?;
    let rules = || run(&["nft", "list", "ruleset"]);
    let open = || run(&["cat", "/proc/sys/net/ipv4/conf/nat0/route_localnet"]).map(|t| t.trim() == "1");
    let works = || -> Outcome {
        ensure_eq!(outside.hears("192.0.2.1:8080")?, "guest 192.0.2.2".to_owned(), "the forwarded port");
        ensure!(lab::hears("127.0.0.1:8080")?.starts_with("guest "), "the forwarded port from the host");
        ensure_eq!(guest.hears("192.0.2.2:80")?, "outside 192.0.2.1".to_owned(), "the way out");
        Ok(())
    };
    let before = rules()?;
    works()?;
    // What the daemon does itself is nobody else's.
    std::thread::sleep(std::time::Duration::from_millis(300));
    ensure_eq!(complaints(&daemon), 0, "complaints about its own rules");
    let again = |what: &str, seconds: u64| {
        wait_for(what, seconds, || rules().is_ok_and(|r| r == before).then_some(()))?;
        wait_for("the loopback address", 2, || open().is_ok_and(|open| open).then_some(()))
    };
    run(&["nft", "flush", "ruleset"])?;
    again("the rules after all were removed", 2)?;
    works()?;
    ensure_eq!(complaints(&daemon), 1, "complaints");
    // Others' rules are theirs; any part of ours is ours. By and by it takes longer.
    run(&["nft", "add table inet others"])?;
    run(&["nft", "delete", "table", "inet", "others"])?;
    run(&["nft", "flush", "chain", "inet", "berth-nat0", "guard"])?;
    wait_for("a closed loopback address", 1, || open().is_ok_and(|open| !open).then_some(()))?;
    again("the rules after a chain was emptied", 4)?;
    run(&["nft", "insert rule inet berth-nat0 forward accept"])?;
    again("the rules after one was added", 6)?;
    ensure_eq!(complaints(&daemon), 3, "complaints");
    // Somebody who goes on is not fought with.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(3);
    while std::time::Instant::now() < deadline {
        run(&["nft", "flush", "ruleset"])?;
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    ensure!(complaints(&daemon) <= 5, "complaints: {}", daemon.log());
    ensure!(!open()?, "the loopback address while there are no rules");
    // Who asks for them need not wait.
    run(&["kill", "-HUP", &daemon.pid().to_string()])?;
    again("the rules after SIGHUP", 2)?;
    works()?;
    // Rules that cannot be made.
    fs::remove_file(&nft).map_err(|e| e.to_string())?;
    run(&["nft", "flush", "ruleset"])?;
    wait_for("a closed loopback address", 2, || open().is_ok_and(|open| !open).then_some(()))?;
    install()?;
    run(&["kill", "-HUP", &daemon.pid().to_string()])?;
    again("the rules when there is a program for them", 2)?;
    works()?;
    let complained = complaints(&daemon);
    daemon.ok(&["net-destroy", "nat"])?;
    ensure_eq!(run(&["nft", "list", "tables"])?, "", "tables at the end");
    ensure_eq!(complaints(&daemon), complained, "complaints about the end");
    Ok(())
}

/// For the sake of a forwarded port the kernel takes loopback addresses from a bridge; guests have no use of that.
fn from_loopback() -> Outcome {
    let daemon = Daemon::start()?;
    let outside = outside("10.7.0.0/24")?;
    let forward = settings("<b:forward host-port='8080' guest='10.7.0.5' port='80'/>");
    let inner = "<forward/><bridge name='nat0'/><dns enable='no'/><ip address='10.7.0.1' prefix='24'/>\
                 <ip family='ipv6' address='fd00:7::1' prefix='64'/>";
    define(&daemon, "nat", &format!("{forward}{inner}"))?;
    daemon.ok(&["net-start", "nat"])?;
    let guest = neighbour("nat0", "ga", &["10.7.0.5/24", "fd00:7::5/64"])?;
    guest.run(&["ip", "route", "add", "default", "via", "10.7.0.1"])?;
    guest.answers(80, "guest")?;
    ensure!(lab::hears("127.0.0.1:8080")?.starts_with("guest "), "the forwarded port from the host");
    ensure!(outside.hears("192.0.2.1:8080")?.starts_with("guest "), "the forwarded port from outside");
    // Its own kernel lets it send from there.
    guest.run(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet"])?;
    let four = UdpSocket::bind(("0.0.0.0", 9999)).map_err(|e| e.to_string())?;
    let six = UdpSocket::bind(("fd00:7::1", 9999)).map_err(|e| e.to_string())?;
    let say = |from: &'static str, to: &'static str| {
        guest.inside(move || {
            let socket = UdpSocket::bind((from, 0)).map_err(|e| format!("{from}: {e}"))?;
            socket.send_to(from.as_bytes(), to).map(drop).map_err(|e| format!("{from} to {to}: {e}"))
        })
    };
    for to in ["10.7.0.1:9999", "192.0.2.1:9999"] {
        for from in ["127.0.0.5", "127.255.0.9"] {
            say(from, to)?;
        }
    }
    say("::1", "[fd00:7::1]:9999")?;
    // What it sends from its own address comes, and nothing before.
    for (socket, from, to) in [(four, "10.7.0.5", "10.7.0.1:9999"), (six, "fd00:7::5", "[fd00:7::1]:9999")] {
        say(from, to)?;
        let mut buffer = [0; 64];
        socket.set_read_timeout(Some(Duration::from_secs(5))).map_err(|e| e.to_string())?;
        let (length, _) = socket.recv_from(&mut buffer).map_err(|e| format!("from {from}: {e}"))?;
        ensure_eq!(String::from_utf8_lossy(&buffer[..length]), from, "what the host hears");
    }
    daemon.ok(&["net-destroy", "nat"]).map(drop)
}

/// Answers all that comes to a port of UDP with a word, until the test ends.
fn answers_datagrams(port: u16, word: &'static str) -> Outcome {
    let socket = UdpSocket::bind(("0.0.0.0", port)).map_err(|e| format!("cannot listen: {e}"))?;
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(word.as_bytes(), from);
        }
    });
    Ok(())
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_millis(200);

/// A socket of a machine that asks the same port of the host again and again.
struct Asker(UdpSocket);

impl Asker {
    fn new(machine: &Machine, own_port: u16) -> Result<Self, String> {
        let socket =
            machine.inside(move || UdpSocket::bind(("0.0.0.0", own_port)).map_err(|e| e.to_string()))?;
        socket.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
        Ok(Self(socket))
    }

    /// What it hears next; nothing if that takes too long.
    fn hears(&self, port: u16) -> Option<String> {
        let mut buffer = [0; 64];
        self.0.send_to(b"?", ("192.0.2.1", port)).ok()?;
        let length = self.0.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    /// Asks for a while and expects one word, or that nobody answers.
    fn expects(&self, port: u16, word: Option<&str>, what: &str) -> Outcome {
        while self.0.recv(&mut [0; 64]).is_ok() {}
        match word {
            Some(word) => wait_for(what, 5, || (self.hears(port).as_deref() == Some(word)).then_some(())),
            None => {
                // What comes late is heard at the end.
                let mut heard = Vec::new();
                for wait in [50, 50, 50, 50, 50, 50, 50, 250] {
                    let wait = Some(Duration::from_millis(wait));
                    self.0.set_read_timeout(wait).map_err(|e| e.to_string())?;
                    heard.extend(self.hears(port));
                }
                self.0.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
                ensure_eq!(heard, Vec::<String>::new(), "{what}");
                Ok(())
            }
        }
    }
}

/// Who has come by a forwarded port reaches nobody when that is gone, whoever has the guest's address then; and who goes on
/// asking reaches whoever the port leads to next.
fn gone() -> Outcome {
    let daemon = Daemon::start()?;
    let outside = outside("10.7.0.0/24")?;
    let roots = ["t-web", "t-cl", "t-other"].map(|name| (name, daemon.busybox(name)));
    for (what, kind) in [("nat", "<forward/>"), ("isolated", ""), ("route", "<forward mode='route'/>")] {
        let inner = format!(
            "{UUID}{kind}<bridge name='net0'/><dns enable='no'/><ip address='10.7.0.1' prefix='24'/>"
        );
        define(&daemon, "net", &inner)?;
        daemon.ok(&["net-start", "net"])?;
        let start = |name: &str, number: u8, ports: &str, word: &'static str| -> Outcome {
            let root = roots.iter().find(|(n, _)| *n == name).ok_or("no root")?.1.clone()?;
            let interface = format!(
                "<interface type='network'><source network='net'/><ip address='10.7.0.{number}' family='ipv4' prefix='24'/>
                 <route family='ipv4' address='0.0.0.0' prefix='0' gateway='10.7.0.1'/></interface>"
            );
            let settings = format!(
                "<metadata><b:settings xmlns:b='urn:berth:domain:1'>{ports}</b:settings></metadata><devices>"
            );
            let xml = domain_xml(name, &root, &["/bin/sleep", "1000"], &interface);
            daemon.define(name, &xml.replacen("<devices>", &settings, 1))?;
            daemon.ok(&["start", name])?;
            let pid = u32::try_from(daemon.pid_of(name, "initPid")?).map_err(|e| e.to_string())?;
            lab::inside(pid, move || answers_datagrams(53, word))
        };
        let forward = "<b:forward proto='udp' host-port='7777' port='53'/>";
        let asker = Asker::new(&outside, 5555)?;
        asker.expects(7777, None, &format!("{what}: before there is a forward"))?;
        start("t-web", 5, forward, "web")?;
        asker.expects(7777, Some("web"), &format!("{what}: the forwarded port"))?;
        daemon.ok(&["destroy", "t-web"])?;
        start("t-cl", 5, "", "cl")?;
        asker.expects(7777, None, &format!("{what}: the next one with the address"))?;
        start("t-other", 6, forward, "other")?;
        asker.expects(7777, Some("other"), &format!("{what}: who the port leads to next"))?;
        daemon.ok(&["destroy", "t-cl", "t-other"])?;
        daemon.ok(&["net-destroy", "net"])?;
        // Those that answer have the networks of guests; no later round is to find them.
        drop(asker);
    }
    Ok(())
}

/// A network can forward the ports of name servers and DHCP: those of the networks themselves stay what they are, in
/// whichever order they start.
fn name_server() -> Outcome {
    let daemon = Daemon::start()?;
    let outside = outside("10.7.0.0/24")?;
    // None that gets an address by DHCP has that of the guest that has one without.
    let dhcp = |net: u8| {
        format!(
            "<ip address='10.{net}.0.1' prefix='24'><dhcp><range start='10.{net}.0.20' end='10.{net}.0.29'/></dhcp></ip>"
        )
    };
    let host = |net: u8| format!("<dns><host ip='10.{net}.0.77'><hostname>hh{net}</hostname></host></dns>");
    let forwards = settings(
        "<b:forward proto='udp' host-port='53' guest='10.7.0.5'/><b:forward host-port='53' guest='10.7.0.5'/>
         <b:forward proto='udp' host-port='67' guest='10.7.0.5'/>",
    );
    define(&daemon, "a", &format!("{forwards}<forward/><bridge name='net7'/>{}{}", host(7), dhcp(7)))?;
    define(&daemon, "b", &format!("<forward/><bridge name='net8'/>{}{}", host(8), dhcp(8)))?;
    let own = settings("<b:forward proto='udp' host-address='10.8.0.1' host-port='53' guest='10.9.0.5'/>");
    define(&daemon, "c", &format!("{own}<bridge name='net9'/>{}", dhcp(9)))?;
    for (round, order) in [["a", "b"], ["b", "a"]].into_iter().enumerate() {
        for name in order {
            daemon.ok(&["net-start", name])?;
        }
        let guest = neighbour("net7", &format!("ga{round}"), &["10.7.0.5/24"])?;
        guest.run(&["ip", "route", "add", "default", "via", "10.7.0.1"])?;
        guest.inside(|| answers_datagrams(53, "forwarded"))?;
        guest.answers(53, "forwarded")?;
        for net in [7, 8] {
            let one = Guest::new(&daemon, &format!("net{net}"), &format!("g{net}{round}"))?;
            one.address()?;
            let server = format!("10.{net}.0.1");
            wait_for(&format!("the name server of {net}, round {round}"), 5, || {
                one.looks_up(&format!("hh{net}"), &server).is_ok_and(|t| t.contains(".0.77")).then_some(())
            })?;
        }
        let asker = Asker::new(&outside, 5556)?;
        asker.expects(53, Some("forwarded"), "the forwarded port")?;
        ensure!(outside.hears("192.0.2.1:53")?.starts_with("forwarded "), "the forwarded port by TCP");
        daemon.ok(&["net-destroy", "a"])?;
        let error = daemon.virsh(&["net-start", "c"])?.fails()?;
        ensure!(error.contains("port 53/udp of 10.8.0.1 cannot be forwarded"), "{error}");
        daemon.ok(&["net-destroy", "b"])?;
    }
    daemon.ok(&["net-start", "c"])?;
    let error = daemon.virsh(&["net-start", "b"])?.fails()?;
    ensure!(error.contains("cannot answer at port 53/udp of 10.8.0.1"), "{error}");
    Ok(())
}

/// The bridge's own address of the link is none that a forward of all addresses is for.
fn name_server_on_link() -> Outcome {
    let daemon = Daemon::start()?;
    let outside = outside("10.7.0.0/24")?;
    run(&["ip", "addr", "add", "2001:db8:1::1/64", "dev", "wan0", "nodad"])?;
    outside.run(&["ip", "addr", "add", "2001:db8:1::2/64", "dev", "eth0", "nodad"])?;
    let forwards = settings(
        "<b:forward proto='udp' host-address='::' host-port='53' guest='fd00:7::5'/>
         <b:forward host-address='::' host-port='53' guest='fd00:7::5'/>",
    );
    let dns = "<dns><host ip='10.7.0.77'><hostname>hh7</hostname></host></dns>";
    let ip = "<ip family='ipv6' address='fd00:7::1' prefix='64'/>";
    let nat = format!("{forwards}<forward><nat ipv6='yes'/></forward><bridge name='net7'/>{dns}{ip}");
    define(&daemon, "a", &nat)?;
    daemon.ok(&["net-start", "a"])?;
    let guest = neighbour("net7", "ga", &["fd00:7::5/64"])?;
    guest.run(&["ip", "-6", "route", "replace", "default", "via", "fd00:7::1"])?;
    guest.answers(53, "forwarded")?;
    let on_link = wait_for("the bridge's address of the link", 10, || {
        let all = run(&["ip", "-6", "-o", "addr", "show", "dev", "net7", "scope", "link"]).ok()?;
        let known = !all.contains("tentative");
        let address = all.split_whitespace().find(|w| w.starts_with("fe80:"))?.split('/').next()?.to_owned();
        known.then_some(address)
    })?;
    let busybox = roots::busybox().ok_or("no busybox")?.to_string_lossy().into_owned();
    let server = format!("{on_link}%eth0");
    wait_for("the name server on the link", 10, || {
        let text = guest.run(&[&busybox, "nslookup", "-type=a", "hh7", &server]);
        text.is_ok_and(|t| t.contains("10.7.0.77")).then_some(())
    })?;
    let forwarded = wait_for("the forwarded port", 10, || outside.hears("[2001:db8:1::1]:53").ok())?;
    ensure!(forwarded.starts_with("forwarded "), "the forwarded port: {forwarded}");
    daemon.ok(&["net-destroy", "a"]).map(drop)
}
