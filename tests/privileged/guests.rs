//! Containers on virtual networks, on hosts of their own: addresses, names, ways out and in, and what kills leave.

use berth_tests::bus::Bus;
use berth_tests::daemon::{Daemon, domain_xml};
use berth_tests::host::{Traces, in_own_network};
use berth_tests::lab::{self, Machine, outside, run};
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, roots, wait_for};

pub const TESTS: &[Test] = &[
    ("guests::of_the_default_network", || in_own_network(default)),
    ("guests::of_an_isolated_network", || in_own_network(isolated)),
    ("guests::of_networks_on_the_hosts_interfaces", || in_own_network(direct)),
    ("guests::survive_kills_of_everybody_else", || in_own_network(killed)),
    ("guests::find_their_network_when_it_runs_again", || in_own_network(reconnected)),
    ("guests::start_no_network_that_was_ended", || in_own_network(ended)),
    ("guests::have_no_address_of_somebody_else", || in_own_network(occupied)),
    ("guests::get_nowhere_without_their_network", || in_own_network(cut_off)),
    ("guests::addresses_are_told_on_the_bus", || in_own_network(bus)),
    ("guests::have_ports_of_the_host", || in_own_network(ports)),
    ("guests::have_ports_of_the_host_by_ipv6", || in_own_network(ports_by_ipv6)),
    ("guests::never_reach_the_hosts_loopback_address", || in_own_network(loopback)),
    ("guests::have_what_their_portgroup_says", || in_own_network(portgroups)),
    ("guests::start_where_another_took_all_addresses", || in_own_network(crowded)),
];

/// Asks for an address, then tells its name to whoever connects.
const INIT: &str =
    "udhcpc -i eth0 -n -q -f -t 30 -T 1 -s /lease; while :; do echo $(hostname) | nc -l -p 80; done";

const LEASE: &str = "[ \"$1\" = bound ] || exit 0
ip addr add $ip/$mask dev $interface
[ -z \"$router\" ] || ip route add default via $router
";

fn interface(network: &str, rest: &str) -> String {
    format!("<interface type='network'><source network='{network}'/>{rest}</interface>")
}

fn define(daemon: &Daemon, name: &str, interfaces: &str) -> Outcome {
    let root = daemon.work().join(format!("{name}.root"));
    if !root.exists() {
        daemon.busybox(name)?;
        roots::script(&root, "lease", LEASE)?;
    }
    daemon.define(name, &domain_xml(name, &root, &["/bin/sh", "-c", INIT], interfaces))
}

fn network(daemon: &Daemon, name: &str, inner: &str) -> Outcome {
    let file =
        daemon.file(&format!("{name}.net"), &format!("<network><name>{name}</name>{inner}</network>"))?;
    daemon.ok(&["net-define", &file]).map(drop)
}

/// The address that the daemon says a guest has, by what was leased; it must be inside too.
fn address(daemon: &Daemon, name: &str) -> Result<String, String> {
    let told = |source: &str| {
        let text = daemon.ok(&["domifaddr", name, "--source", source]).ok()?;
        let line = text.lines().find(|l| l.contains(" ipv4 "))?;
        Some(line.split_whitespace().nth(3)?.to_owned())
    };
    let leased: String = wait_for("a lease", 15, || told("lease"))?;
    let mut last = Ok(String::new());
    wait_for("the same address inside", 10, || {
        last = daemon.ok(&["domifaddr", name, "--source", "guest"]);
        last.as_ref().is_ok_and(|text| text.contains(&format!(" {leased}"))).then_some(())
    })
    .map_err(|e| {
        let console = daemon.root().join(format!("var/log/berth/{name}.console.log"));
        let console = std::fs::read_to_string(console).unwrap_or_default();
        format!("'{name}' has leased {leased}; {e}: {last:?}\n{console}")
    })?;
    Ok(leased.split('/').next().unwrap_or_default().to_owned())
}

/// Does something in the network of a guest.
fn inside<T: Send + 'static>(
    daemon: &Daemon,
    name: &str,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let pid = daemon.pid_of(name, "initPid")?;
    lab::inside(u32::try_from(pid).map_err(|e| e.to_string())?, work)
}

fn hears(daemon: &Daemon, name: &str, address: &str) -> Result<String, String> {
    let address = address.to_owned();
    // The one who answers takes one connection after the other.
    let mut last = String::new();
    wait_for("an answer", 4, || {
        let address = address.clone();
        match inside(daemon, name, move || lab::hears(&address)) {
            Ok(text) => Some(text.trim().to_owned()),
            Err(e) => {
                last = e;
                None
            }
        }
    })
    .map_err(|e| format!("{e}: {last}"))
}

fn lookup(daemon: &Daemon, name: &str, wanted: &'static str, server: &'static str) -> Result<String, String> {
    let busybox = roots::busybox().ok_or("no busybox")?.to_string_lossy().into_owned();
    inside(daemon, name, move || run(&[&busybox, "nslookup", "-type=a", wanted, server]))
}

fn default() -> Outcome {
    let daemon = Daemon::start()?;
    let outside = outside("10.150.150.0/24")?;
    let xml = daemon.ok(&["net-dumpxml", "default", "--inactive"])?;
    let forward = "<berth:forward host-port='8080' guest='t-gb' port='80'/></berth:settings>";
    let file = daemon.file("forward.xml", &xml.replace("</berth:settings>", forward))?;
    daemon.ok(&["net-define", &file])?;
    let before = Traces::of("t-g", daemon.work());
    for name in ["t-ga", "t-gb"] {
        define(&daemon, name, &interface("default", ""))?;
        // The first one starts the network.
        daemon.ok(&["start", name])?;
    }
    let (at_a, at_b) = (address(&daemon, "t-ga")?, address(&daemon, "t-gb")?);
    ensure!(at_a != at_b && at_a.starts_with("10.150.150."), "{at_a} {at_b}");
    let list = daemon.ok(&["domiflist", "t-ga"])?;
    ensure!(list.contains(" network   default "), "{list}");
    let leases = daemon.ok(&["net-dhcp-leases", "default"])?;
    for (address, name) in [(&at_a, " t-ga "), (&at_b, " t-gb ")] {
        let row = leases.lines().find(|l| l.contains(&format!(" {address}/24 ")));
        ensure!(row.is_some_and(|r| r.contains(name)), "'{name}' is not in {leases}");
    }
    let name = daemon.ok(&["domhostname", "t-ga", "--source", "lease"])?;
    ensure_eq!(name.trim(), "t-ga", "the host name of the lease");
    ensure!(lookup(&daemon, "t-ga", "t-gb", "10.150.150.1")?.contains(&at_b), "the name of the other one");
    let full = lookup(&daemon, "t-ga", "t-gb.berth", "10.150.150.1")?;
    ensure!(full.contains(&at_b), "its name in the network's domain: {full}");
    let busybox = roots::busybox().ok_or("no busybox")?.to_string_lossy().into_owned();
    ensure!(
        run(&[&busybox, "nslookup", "-type=a", "t-ga", "10.150.150.1"])?.contains(&at_a),
        "from the host"
    );
    ensure_eq!(hears(&daemon, "t-ga", &format!("{at_b}:80"))?, "t-gb", "a neighbour");
    ensure_eq!(
        hears(&daemon, "t-ga", "192.0.2.2:80")?,
        "outside 192.0.2.1",
        "the world, behind the host's address"
    );
    ensure!(outside.hears(&format!("{at_b}:80")).is_err(), "the world reaches a guest");
    let forwarded = wait_for("the forward", 5, || outside.hears("192.0.2.1:8080").ok())?;
    ensure_eq!(forwarded.trim(), "t-gb", "the forwarded port");
    let forwarded = wait_for("the forward from the host", 5, || lab::hears("127.0.0.1:8080").ok())?;
    ensure_eq!(forwarded.trim(), "t-gb", "the forwarded port from the host");
    ensure_eq!(hears(&daemon, "t-ga", "10.150.150.1:8080")?, "t-gb", "the forwarded port from a neighbour");
    // Another start has the same address.
    daemon.ok(&["destroy", "t-gb"])?;
    daemon.ok(&["start", "t-gb"])?;
    ensure_eq!(address(&daemon, "t-gb")?, at_b, "the address after another start");
    for name in ["t-ga", "t-gb"] {
        daemon.ok(&["destroy", name])?;
    }
    ensure!(!daemon.ok(&["net-dumpxml", "default"])?.contains("connections"), "ports that are left");
    daemon.ok(&["net-destroy", "default"])?;
    for name in ["t-ga", "t-gb"] {
        daemon.ok(&["undefine", name])?;
    }
    let left = Traces::of("t-g", daemon.work()).difference(&before);
    // Roots and documents are the test's, leases are kept.
    let odd = |t: &&String| !t.ends_with(".leases") && !t.contains(".root") && !t.ends_with(".xml");
    let left: Vec<&String> = left.iter().filter(odd).collect();
    ensure_eq!(left, Vec::<&String>::new(), "what is left");
    Ok(())
}

fn isolated() -> Outcome {
    let daemon = Daemon::start()?;
    let outside = outside("10.21.0.0/24")?;
    run(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])?;
    let ip = "<bridge name='iso1'/><ip address='10.21.0.1' prefix='24'><dhcp>\
              <range start='10.21.0.10' end='10.21.0.20'/></dhcp></ip>";
    network(&daemon, "iso", ip)?;
    define(&daemon, "t-ia", &interface("iso", ""))?;
    let error = daemon.virsh(&["start", "t-ia"])?.fails()?;
    ensure!(
        error.contains("network 'iso' is not active"),
        "a network that is not to be started on demand: {error}"
    );
    daemon.ok(&["net-start", "iso"])?;
    define(&daemon, "t-ib", &interface("iso", ""))?;
    for name in ["t-ia", "t-ib"] {
        daemon.ok(&["start", name])?;
    }
    address(&daemon, "t-ia")?;
    let at_b = address(&daemon, "t-ib")?;
    ensure_eq!(hears(&daemon, "t-ia", &format!("{at_b}:80"))?, "t-ib", "a neighbour");
    for name in ["t-ia", "t-ib"] {
        inside(&daemon, name, || run(&["ip", "route", "add", "default", "via", "10.21.0.1"]))?;
    }
    let out = inside(&daemon, "t-ia", || lab::hears("192.0.2.2:80"));
    ensure!(out.is_err(), "a guest gets out: {out:?}");
    ensure!(outside.hears(&format!("{at_b}:80")).is_err(), "the world gets in");
    // Who has an address by the document and asks for none is known by name too, as long as it runs.
    let root = daemon.busybox("t-ic")?;
    let own = interface("iso", "<ip address='10.21.0.50' prefix='24'/>");
    daemon.define("t-ic", &domain_xml("t-ic", &root, &["/bin/sleep", "1000"], &own))?;
    daemon.ok(&["start", "t-ic"])?;
    let known = || lookup(&daemon, "t-ia", "t-ic", "10.21.0.1").is_ok_and(|text| text.contains("10.21.0.50"));
    wait_for("the name of a guest that asks for no address", 5, || known().then_some(()))?;
    daemon.ok(&["destroy", "t-ic"])?;
    wait_for("the end of the name", 5, || (!known()).then_some(()))?;
    for name in ["t-ia", "t-ib"] {
        daemon.ok(&["destroy", name])?;
    }
    daemon.ok(&["net-destroy", "iso"]).map(drop)
}

fn direct() -> Outcome {
    let daemon = Daemon::start()?;
    // A LAN with the host's device and a machine in it, which gives no addresses.
    let machine = Machine::new()?;
    machine.cable("lan0", "eth0")?;
    machine.run(&["ip", "addr", "add", "10.22.0.1/24", "dev", "eth0"])?;
    run(&["ip", "link", "add", "lbr0", "type", "bridge"])?;
    run(&["ip", "link", "set", "lbr0", "up"])?;
    network(&daemon, "macs", "<forward mode='bridge'><interface dev='lan0'/></forward>")?;
    network(&daemon, "lbr", "<forward mode='bridge'/><bridge name='lbr0'/>")?;
    let with = |net: &str, n: u8| interface(net, &format!("<ip address='10.22.0.{n}' prefix='24'/>"));
    for net in ["macs", "lbr"] {
        daemon.ok(&["net-start", net])?;
    }
    define(&daemon, "t-da", &with("macs", 2))?;
    define(&daemon, "t-db", &with("macs", 3))?;
    define(&daemon, "t-dc", &with("lbr", 4))?;
    for name in ["t-da", "t-db", "t-dc"] {
        daemon.ok(&["start", name])?;
    }
    let ping = |name: &str, to: &'static str| {
        inside(&daemon, name, move || run(&["ping", "-c", "1", "-W", "4", to])).map(drop)
    };
    ping("t-da", "10.22.0.1")?;
    ping("t-da", "10.22.0.3")?;
    let bridged = run(&["ip", "-o", "link", "show", "master", "lbr0"])?;
    ensure!(bridged.contains("vnet"), "the port of the bridge: {bridged}");
    ensure!(daemon.ok(&["net-dumpxml", "macs"])?.contains("connections='2'"), "the ports");
    // An interface that ports are made on stays as long as they do.
    let update = |change: &str, kind: &str, part: &str| {
        daemon.virsh(&["net-update", "macs", change, kind, part, "--live"])
    };
    update("add-last", "forward-interface", "<interface dev='lan9'/>")?.ok()?;
    let error = update("delete", "forward-interface", "<interface dev='lan0'/>")?.fails()?;
    ensure!(
        error.contains("interface 'lan0' of network 'macs' is in use: 2 ports are made on it"),
        "{error}"
    );
    let floor = "<portgroup name='f'><bandwidth><inbound floor='1'/></bandwidth></portgroup>";
    let error = update("add", "portgroup", floor)?.fails()?;
    ensure!(error.contains("a floor of its bandwidth cannot be started"), "{error}");
    // What macvlans cannot have is refused, whoever asks for it.
    for (rest, element) in [
        ("<vlan><tag id='42'/></vlan>", "<vlan>"),
        ("<port isolated='yes'/>", "<port isolated='yes'>"),
        ("<bandwidth><inbound average='100'/></bandwidth>", "<bandwidth>"),
    ] {
        define(&daemon, "t-dd", &interface("macs", rest))?;
        let error = daemon.virsh(&["start", "t-dd"])?.fails()?;
        ensure!(error.contains(&format!("its ports are macvlans, which can have no {element}")), "{error}");
    }
    for name in ["t-da", "t-db", "t-dc"] {
        daemon.ok(&["destroy", name])?;
    }
    update("delete", "forward-interface", "<interface dev='lan0'/>")?.ok()?;
    let xml = daemon.ok(&["net-dumpxml", "macs"])?;
    ensure!(xml.contains("<forward dev='lan9' mode='bridge'>") && !xml.contains("lan0"), "{xml}");
    daemon.ok(&["net-destroy", "macs"])?;
    define(&daemon, "t-dd", &interface("macs", ""))?;
    for (inner, element) in [
        ("<vlan><tag id='42'/></vlan>", "<vlan>"),
        ("<bandwidth><inbound average='100'/></bandwidth>", "<bandwidth>"),
        ("<mtu size='1400'/>", "<mtu>"),
        ("<portgroup name='g' default='yes'><vlan><tag id='42'/></vlan></portgroup>", "<vlan>"),
    ] {
        network(
            &daemon,
            "macs",
            &format!("<forward mode='bridge'><interface dev='lan0'/></forward>{inner}"),
        )?;
        daemon.ok(&["net-start", "macs"])?;
        let error = daemon.virsh(&["start", "t-dd"])?.fails()?;
        ensure!(error.contains(&format!("gives macvlans, which can have no {element}")), "{error}");
        daemon.ok(&["net-destroy", "macs"])?;
    }
    network(&daemon, "macs", "<forward mode='bridge'><interface dev='lan0'/></forward>")?;
    daemon.ok(&["net-start", "macs"])?;
    ensure_eq!(run(&["ip", "-o", "link", "show", "master", "lbr0"])?, "", "ports that are left");
    for net in ["macs", "lbr"] {
        daemon.ok(&["net-destroy", net])?;
    }
    ensure!(run(&["ip", "link", "show", "lbr0"]).is_ok(), "the host's own bridge is gone");
    Ok(())
}

fn killed() -> Outcome {
    let mut daemon = Daemon::start()?;
    let _outside = outside("10.150.150.0/24")?;
    define(&daemon, "t-ka", &interface("default", ""))?;
    define(&daemon, "t-kb", &interface("default", ""))?;
    daemon.ok(&["start", "t-ka"])?;
    daemon.ok(&["start", "t-kb"])?;
    let (at_a, at_b) = (address(&daemon, "t-ka")?, address(&daemon, "t-kb")?);
    // The daemon.
    let init = daemon.pid_of("t-ka", "initPid")?;
    daemon.kill();
    let pid = u32::try_from(init).map_err(|e| e.to_string())?;
    lab::inside(pid, || lab::hears("192.0.2.2:80")).map_err(|e| format!("without the daemon: {e}"))?;
    daemon.launch()?;
    ensure_eq!(daemon.pid_of("t-ka", "initPid")?, init, "init");
    ensure!(daemon.ok(&["net-dumpxml", "default"])?.contains("connections='2'"), "the ports");
    ensure_eq!(address(&daemon, "t-ka")?, at_a, "the lease");
    ensure_eq!(hears(&daemon, "t-ka", &format!("{at_b}:80"))?, "t-kb", "a neighbour");
    // A controller.
    let controller = daemon.pid_of("t-kb", "id")?.to_string();
    run(&["kill", "-9", &controller])?;
    daemon.wait_state("t-kb", "shut off (crashed)", 10)?;
    wait_for("the port to be given back", 10, || {
        daemon.ok(&["net-dumpxml", "default"]).ok()?.contains("connections='1'").then_some(())
    })?;
    let links = run(&["ip", "-o", "link", "show", "type", "veth"])?;
    ensure_eq!(links.lines().filter(|l| l.contains("vnet")).count(), 1, "links: {links}");
    daemon.ok(&["start", "t-kb"])?;
    ensure_eq!(address(&daemon, "t-kb")?, at_b, "the lease of who was killed");
    // A controller and the daemon, so that nobody is there to clean up.
    let controller = daemon.pid_of("t-kb", "id")?.to_string();
    daemon.kill();
    run(&["kill", "-9", &controller])?;
    daemon.launch()?;
    daemon.wait_state("t-kb", "shut off (crashed)", 10)?;
    ensure!(daemon.ok(&["net-dumpxml", "default"])?.contains("connections='1'"), "the ports at the end");
    let links = run(&["ip", "-o", "link", "show", "type", "veth"])?;
    ensure_eq!(links.lines().filter(|l| l.contains("vnet")).count(), 1, "links: {links}");
    // The network, under the guest: it is cut off, and connected again with the next start of both.
    daemon.ok(&["net-destroy", "default"])?;
    daemon.ok(&["destroy", "t-ka"])?;
    daemon.ok(&["start", "t-ka"])?;
    ensure_eq!(address(&daemon, "t-ka")?, at_a, "the lease of another start");
    daemon.ok(&["destroy", "t-ka"])?;
    daemon.ok(&["net-destroy", "default"]).map(drop)
}

/// A network that ends under its guests takes them back when it runs again, by whomever it is started, and a daemon that
/// starts finds those that it does not know to be lost.
fn reconnected() -> Outcome {
    let mut daemon = Daemon::start()?;
    network(
        &daemon,
        "again",
        "<bridge name='br-again'/><ip address='10.24.0.1' prefix='24'><dhcp><range start='10.24.0.2' end='10.24.0.9'/></dhcp></ip>",
    )?;
    daemon.ok(&["net-start", "again"])?;
    let limited = interface("again", "<bandwidth><inbound average='1000'/></bandwidth>");
    define(&daemon, "t-ra", &interface("again", ""))?;
    define(&daemon, "t-rb", &limited)?;
    daemon.ok(&["start", "t-ra"])?;
    daemon.ok(&["start", "t-rb"])?;
    let (at_a, at_b) = (address(&daemon, "t-ra")?, address(&daemon, "t-rb")?);
    ensure_eq!(hears(&daemon, "t-ra", &format!("{at_b}:80"))?, "t-rb", "a neighbour");
    // A cable that is pulled and put back leaves the guest its routes.
    let within = |words: &'static [&'static str]| inside(&daemon, "t-ra", move || run(words));
    within(&["ip", "route", "add", "10.99.0.0/16", "via", "10.24.0.1"])?;
    let mac = daemon.ok(&["domiflist", "t-ra"])?;
    let mac = mac
        .lines()
        .find(|l| l.contains("again"))
        .and_then(|l| l.split_whitespace().last())
        .unwrap_or_default();
    daemon.ok(&["domif-setlink", "t-ra", mac, "down"])?;
    let state = within(&["ip", "-o", "link", "show", "dev", "eth0"])?;
    ensure!(state.contains("NO-CARRIER") && state.contains(",UP"), "without a cable: {state}");
    daemon.ok(&["domif-setlink", "t-ra", mac, "up"])?;
    let routes = within(&["ip", "route"])?;
    ensure!(routes.contains("10.99.0.0/16 via 10.24.0.1"), "routes: {routes}");
    daemon.ok(&["net-destroy", "again"])?;
    ensure!(hears(&daemon, "t-ra", &format!("{at_b}:80")).is_err(), "a neighbour without a network");
    daemon.ok(&["net-start", "again"])?;
    ensure_eq!(hears(&daemon, "t-ra", &format!("{at_b}:80"))?, "t-rb", "the neighbour again");
    ensure_eq!(
        wait_for("the host", 4, || lab::hears(&format!("{at_a}:80")).ok())?.trim(),
        "t-ra",
        "from the host"
    );
    let ports = || run(&["ip", "-o", "link", "show", "master", "br-again"]);
    let both = |text: &str| text.lines().filter(|l| l.contains("vnet")).count() == 2;
    ensure!(both(&ports()?), "ports of the bridge: {}", ports()?);
    ensure!(daemon.ok(&["net-dumpxml", "again"])?.contains("connections='2'"), "the ports of the network");
    // Somebody has pulled the cable while nobody was looking.
    let first = ports()?.split(": ").nth(1).and_then(|n| n.split('@').next()).unwrap_or_default().to_owned();
    daemon.kill();
    run(&["ip", "link", "set", &first, "nomaster"])?;
    daemon.launch()?;
    ensure!(both(&ports()?), "ports of the bridge after a restart: {}", ports()?);
    // The whole bridge, with an interface that is no domain's.
    let machine = Machine::new()?;
    let plug = ["net-plug", "again", "--pid", &machine.pid().to_string()];
    let plugged = daemon.ok(&plug)?;
    let taken = "error: Failed to add an interface of network again\n\
                 error: the namespace has an interface 'eth0' already: give another name as 'interface'\n";
    ensure_eq!(daemon.virsh(&plug)?.fails()?, taken.to_owned(), "a second one of that name");
    let plugged = plugged.split_whitespace().find(|w| w.starts_with("vnet")).unwrap_or_default();
    daemon.kill();
    run(&["ip", "link", "del", "br-again"])?;
    daemon.launch()?;
    let three = |text: &str| text.lines().filter(|l| l.contains("vnet")).count() == 3;
    ensure!(three(&ports()?), "ports of another bridge after a restart: {}", ports()?);
    ensure_eq!(hears(&daemon, "t-ra", &format!("{at_b}:80"))?, "t-rb", "the neighbour after that");
    daemon.ok(&["net-unplug", plugged])?;
    daemon.ok(&["destroy", "t-ra"])?;
    daemon.ok(&["destroy", "t-rb"])?;
    ensure!(!daemon.ok(&["net-dumpxml", "again"])?.contains("connections"), "ports that are left");
    daemon.ok(&["net-destroy", "again"]).map(drop)
}

/// A network that ends leaves its guests' ends on the host: they are no interfaces by which the host can be reached.
/// A network that is started when needed, and was ended while a guest runs, is not started for that guest.
fn ended() -> Outcome {
    let mut daemon = Daemon::start()?;
    define(&daemon, "t-ea", &interface("default", ""))?;
    define(&daemon, "t-eb", &interface("default", ""))?;
    daemon.ok(&["start", "t-ea"])?;
    let at_a = address(&daemon, "t-ea")?;
    let runs = |daemon: &Daemon| Ok::<_, String>(daemon.ok(&["net-list", "--name"])?.contains("default"));
    // A daemon that was killed while it ran finds it and its ports.
    daemon.restart()?;
    ensure!(runs(&daemon)?, "a network that ran does not after a kill");
    ensure!(daemon.ok(&["net-dumpxml", "default"])?.contains("connections='1'"), "the port after a kill");
    daemon.ok(&["net-destroy", "default"])?;
    daemon.restart()?;
    ensure!(!runs(&daemon)?, "a network that was ended runs after a restart");
    ensure!(run(&["ip", "-o", "link", "show", "berth0"]).is_err(), "its bridge is there");
    // Somebody who needs it starts it, for all.
    daemon.ok(&["start", "t-eb"])?;
    ensure!(runs(&daemon)?, "a network that is needed does not run");
    let heard = wait_for("the guest that ran", 10, || lab::hears(&format!("{at_a}:80")).ok())?;
    ensure_eq!(heard.trim(), "t-ea", "from the host");
    ensure!(daemon.ok(&["net-dumpxml", "default"])?.contains("connections='2'"), "the ports");
    daemon.ok(&["destroy", "t-ea"])?;
    daemon.ok(&["destroy", "t-eb"])?;
    daemon.ok(&["net-destroy", "default"]).map(drop)
}

/// An address of a document is the guest's alone.
fn occupied() -> Outcome {
    let mut daemon = Daemon::start()?;
    network(
        &daemon,
        "own",
        "<bridge name='own0'/><ip address='10.26.0.1' prefix='24'><dhcp><range start='10.26.0.2' end='10.26.0.20'/></dhcp></ip>",
    )?;
    daemon.ok(&["net-start", "own"])?;
    let with = |ip: &str, n: u8| interface("own", &format!("<mac address='52:54:00:26:00:{n:02x}'/>{ip}"));
    let ip = |address: &str| format!("<ip address='{address}' prefix='24'/>");
    define(&daemon, "t-oa", &with("", 2))?;
    define(&daemon, "t-ob", &with(&ip("10.26.0.30"), 3))?;
    daemon.ok(&["start", "t-oa"])?;
    daemon.ok(&["start", "t-ob"])?;
    let leased = address(&daemon, "t-oa")?;
    let refused = |address: &str, why: &str| -> Outcome {
        define(&daemon, "t-oc", &with(&format!("{}{}", ip("10.99.0.1"), ip(address)), 4))?;
        let error = daemon.virsh(&["start", "t-oc"])?.fails()?;
        let message = format!("a guest of network 'own' cannot have its <ip>: the address '{address}' {why}");
        ensure!(error.contains(&message), "{address}: {error}");
        Ok(())
    };
    refused("10.26.0.1", "is the host's own")?;
    refused("10.26.0.255", "is that of the network, or of all its guests")?;
    refused("10.26.0.30", "is that of the running domain 't-ob'")?;
    refused(&leased, "was given to the running domain 't-oa' by DHCP")?;
    // Nor by an interface that is attached; the address of a domain that has ended is free.
    define(&daemon, "t-od", "")?;
    daemon.ok(&["start", "t-od"])?;
    let file = daemon.file("oc.interface", &with(&ip("10.26.0.30"), 5))?;
    let error = daemon.virsh(&["attach-device", "t-od", &file, "--live"])?.fails()?;
    ensure!(error.contains("is that of the running domain 't-ob'"), "attached: {error}");
    daemon.ok(&["destroy", "t-ob"])?;
    daemon.ok(&["attach-device", "t-od", &file, "--live"])?;
    // A lease of one that has ended is taken back.
    daemon.ok(&["destroy", "t-oa"])?;
    let has = |text: &str| text.lines().any(|l| l.contains(&format!(" {leased}/24 ")));
    ensure!(has(&daemon.ok(&["net-dhcp-leases", "own"])?), "no lease before");
    define(&daemon, "t-oc", &with(&ip(&leased), 4))?;
    daemon.ok(&["start", "t-oc"])?;
    ensure!(
        !daemon.ok(&["net-dhcp-leases", "own", "52:54:00:26:00:02"])?.contains("ipv4"),
        "the lease is there"
    );
    daemon.ok(&["start", "t-oa"])?;
    ensure!(address(&daemon, "t-oa")? != leased, "two guests have {leased}");
    // Who runs keeps what it has, whatever the network becomes.
    daemon.ok(&["net-destroy", "own"])?;
    let text = daemon.ok(&["net-dumpxml", "own", "--inactive"])?.replace("10.26.0.1'", &format!("{leased}'"));
    let file = daemon.file("own.net", &text)?;
    daemon.ok(&["net-define", &file])?;
    daemon.ok(&["net-start", "own"])?;
    wait_for("the ports", 5, || {
        daemon.ok(&["net-dumpxml", "own"]).ok()?.contains("connections='3'").then_some(())
    })?;
    ensure!(daemon.log().contains("with an <ip> that it cannot have"), "no remark: {}", daemon.log());
    daemon.restart()?;
    ensure!(daemon.ok(&["net-dumpxml", "own"])?.contains("connections='3'"), "the ports after a restart");
    for name in ["t-oa", "t-oc", "t-od"] {
        daemon.ok(&["destroy", name])?;
    }
    daemon.ok(&["net-destroy", "own"]).map(drop)
}

fn cut_off() -> Outcome {
    let daemon = Daemon::start()?;
    let _outside = outside("10.25.0.0/24")?;
    run(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])?;
    let ip = "<bridge name='cut0'/><ip address='10.25.0.1' prefix='24'><dhcp>\
              <range start='10.25.0.10' end='10.25.0.20'/></dhcp></ip>\
              <ip family='ipv6' address='fd25::1' prefix='64'/>";
    network(&daemon, "cut", ip)?;
    daemon.ok(&["net-start", "cut"])?;
    define(&daemon, "t-cd", &interface("cut", "<target dev='cutd'/>"))?;
    let own = "<target dev='cuts'/><ip address='10.25.0.2' prefix='24'/>\
               <ip family='ipv6' address='fd25::2' prefix='64'/>\
               <route address='10.99.0.0' prefix='16' gateway='10.25.0.1'/>\
               <route family='ipv6' address='fd99::' prefix='64' gateway='fd25::1'/>";
    let down = "<target dev='cutn'/><link state='down'/>";
    for (name, rest) in [("t-cs", own), ("t-cn", down)] {
        let root = daemon.busybox(name)?;
        let xml = domain_xml(name, &root, &["/bin/sleep", "1000"], &interface("cut", rest));
        daemon.define(name, &xml)?;
    }
    for name in ["t-cd", "t-cs", "t-cn"] {
        daemon.ok(&["start", name])?;
    }
    address(&daemon, "t-cd")?;
    inside(&daemon, "t-cd", || run(&["ip", "route", "add", "10.99.0.0/16", "via", "10.25.0.1"]))?;
    let has = |name: &str| -> Result<Vec<String>, String> {
        let shown = ["addr show dev eth0", "route show dev eth0", "-6 route show dev eth0"];
        let mut all = Vec::new();
        for words in shown {
            let words: Vec<&str> = ["ip", "-o"].into_iter().chain(words.split(' ')).collect();
            let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
            let text =
                inside(&daemon, name, move || run(&words.iter().map(String::as_str).collect::<Vec<_>>()))?;
            // What comes from a router counts down, and one without a carrier has its routes for later.
            let lines = text.lines().map(|l| l.split("valid_lft").next().unwrap_or_default());
            let lines =
                lines.map(|l| l.split(" expires").next().unwrap_or_default().replace("linkdown ", ""));
            all.extend(lines.map(|l| l.trim().to_owned()));
        }
        Ok(all)
    };
    let before = wait_for("addresses, also those by the router, that are not tentative", 20, || {
        let both = (has("t-cs").ok()?, has("t-cd").ok()?);
        let whole = |all: &Vec<String>| {
            all.iter().any(|l| l.contains("fd25::") && l.contains("dynamic"))
                && !all.iter().any(|l| l.contains("tentative"))
        };
        (whole(&both.0) && whole(&both.1)).then_some(both)
    })?;
    ensure!(before.0.iter().any(|l| l.contains("fd99::/64 via fd25::1")), "routes: {:?}", before.0);
    let state = |name: &str| run(&["ip", "-o", "link", "show", "dev", name]);
    let is_up = |name: &str| Ok::<_, String>(state(name)?.contains(",UP"));
    daemon.ok(&["net-destroy", "cut"])?;
    ensure_eq!((has("t-cs")?, has("t-cd")?), before.clone(), "what the guests have");
    let told = state("cuts")?;
    let mac =
        told.split_whitespace().skip_while(|w| *w != "link/ether").nth(1).unwrap_or_default().to_owned();
    inside(&daemon, "t-cs", move || {
        run(&["ip", "neigh", "replace", "10.25.0.1", "lladdr", &mac, "nud", "permanent", "dev", "eth0"])?;
        run(&["ip", "route", "add", "192.0.2.0/24", "via", "10.25.0.1"])
    })?;
    // A way back: the machine outside knows one, and the host can have one if the end is up.
    run(&["ip", "route", "add", "10.25.0.2/32", "dev", "cuts"]).or_else(|e| match e.contains("not up") {
        true => Ok(String::new()),
        false => Err(e),
    })?;
    let out = inside(&daemon, "t-cs", || lab::hears("192.0.2.2:80"));
    ensure!(out.is_err(), "a guest gets out: {out:?}");
    for name in ["cutd", "cuts", "cutn"] {
        ensure!(!is_up(name)?, "an interface of the host: {}", state(name)?);
        ensure_eq!(ipv6_is_off(name)?, "1", "whether IPv6 of '{name}' is off");
    }
    inside(&daemon, "t-cs", || {
        run(&["ip", "route", "del", "192.0.2.0/24"])?;
        run(&["ip", "neigh", "del", "10.25.0.1", "dev", "eth0"])
    })?;
    daemon.ok(&["net-start", "cut"])?;
    wait_for("the guests", 5, || (is_up("cutd").ok()? && is_up("cuts").ok()?).then_some(()))?;
    wait_for("the third one", 5, || state("cutn").ok()?.contains("master cut0").then_some(()))?;
    ensure!(!is_up("cutn")?, "one that is to have no carrier has: {}", state("cutn")?);
    ensure_eq!((has("t-cs")?, has("t-cd")?), before, "what the guests have at the end");
    inside(&daemon, "t-cs", || run(&["ping", "-c", "1", "-W", "4", "10.25.0.1"]))?;
    for name in ["t-cd", "t-cs", "t-cn"] {
        daemon.ok(&["destroy", name])?;
    }
    daemon.ok(&["net-destroy", "cut"]).map(drop)
}

/// Whether an interface of the host has no IPv6.
fn ipv6_is_off(name: &str) -> Result<String, String> {
    let path = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    Ok(text.trim().to_owned())
}

fn bus() -> Outcome {
    let mut daemon = Daemon::start()?;
    let bus = Bus::start(daemon.work())?;
    daemon.kill();
    daemon.set_environment(&[("DBUS_SYSTEM_BUS_ADDRESS", &bus.address())]);
    daemon.launch()?;
    define(&daemon, "t-bus", &interface("default", "<mac address='52:54:00:24:00:01'/>"))?;
    let path = wait_for("the domain on the bus", 15, || bus.domain("t-bus").ok())?;
    let ask = |source: &str| bus.call(&path, "Domain", "InterfaceAddresses", &["uu", source, "0"]);
    ensure!(ask("0").is_err_and(|e| e.contains("domain is not running")), "one that does not run");
    daemon.ok(&["start", "t-bus"])?;
    let address = address(&daemon, "t-bus")?;
    let leased = serde_json::json!([[["vnet0", "52:54:00:24:00:01", [[0, address, 24]]]]]);
    ensure_eq!(ask("0")?, leased, "by lease");
    let inside = ask("1")?;
    let all = inside[0].as_array().ok_or("no list")?;
    let eth0 = all.iter().find(|i| i[0] == "eth0").ok_or_else(|| format!("no eth0 in {inside}"))?;
    ensure!(eth0[1] == "52:54:00:24:00:01" && eth0[2].to_string().contains(&address), "inside: {inside}");
    ensure!(ask("9").is_err_and(|e| e.contains("unknown IP address data source 9")), "an unknown source");
    daemon.ok(&["destroy", "t-bus"])?;
    daemon.ok(&["net-destroy", "default"]).map(drop)
}

fn portgroups() -> Outcome {
    let daemon = Daemon::start()?;
    let inner = "<bridge name='grp0'/><mtu size='1400'/>\
                 <bandwidth><inbound average='4096'/><outbound average='2048'/></bandwidth><ip address='10.23.0.1' prefix='24'/>\
                 <portgroup name='alone'><port isolated='yes'/></portgroup>\
                 <portgroup name='slow' default='yes'><bandwidth><inbound average='1024'/></bandwidth></portgroup>";
    network(&daemon, "grp", inner)?;
    daemon.ok(&["net-start", "grp"])?;
    for (name, group, n) in [("t-pa", "alone", 2), ("t-pb", "alone", 3), ("t-pc", "", 4)] {
        let group = if group.is_empty() { String::new() } else { format!(" portgroup='{group}'") };
        let xml = format!(
            "<interface type='network'><source network='grp'{group}/><target dev='h{n}'/>\
             <ip address='10.23.0.{n}' prefix='24'/></interface>"
        );
        define(&daemon, name, &xml)?;
        daemon.ok(&["start", name])?;
    }
    let ping = |name: &str, to: &'static str| {
        inside(&daemon, name, move || run(&["ping", "-c", "1", "-W", "2", to])).is_ok()
    };
    ensure!(ping("t-pa", "10.23.0.1") && ping("t-pa", "10.23.0.4"), "an isolated port reaches nobody");
    ensure!(!ping("t-pa", "10.23.0.3"), "an isolated port reaches another");
    // Nor by the host, which passes packets on.
    run(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])?;
    for (name, other) in [("t-pa", "10.23.0.3"), ("t-pb", "10.23.0.2")] {
        inside(&daemon, name, move || {
            run(&["ip", "route", "add", &format!("{other}/32"), "via", "10.23.0.1"])
        })?;
    }
    ensure!(!ping("t-pa", "10.23.0.3"), "an isolated port reaches another by the host");
    ensure!(ping("t-pa", "10.23.0.4"), "an isolated port reaches nobody any more");
    let inside_mtu = inside(&daemon, "t-pc", || run(&["ip", "-o", "link", "show", "eth0"]))?;
    ensure!(inside_mtu.contains(" mtu 1400 "), "{inside_mtu}");
    ensure!(run(&["tc", "qdisc", "show", "dev", "h4"])?.contains("tbf"), "the limit of the default group");
    ensure!(!run(&["tc", "qdisc", "show", "dev", "h2"])?.contains("tbf"), "a limit of another group");
    ensure!(run(&["tc", "qdisc", "show", "dev", "grp0"])?.contains("tbf"), "the limit of the network");
    let shapers = run(&["ip", "-o", "link", "show", "type", "ifb"])?;
    ensure_eq!(shapers.lines().count(), 1, "what limits the other way: {shapers}");
    // A class that ports are of stays.
    for (group, ports) in [("alone", "2 ports are of it"), ("slow", "1 port is of it")] {
        let part = format!("<portgroup name='{group}'/>");
        let error = daemon.virsh(&["net-update", "grp", "delete", "portgroup", &part, "--live"])?.fails()?;
        let message = format!("portgroup '{group}' of network 'grp' is in use: {ports}");
        ensure!(error.contains(&message), "{error}");
    }
    for command in ["add", "delete"] {
        daemon.ok(&["net-update", "grp", command, "portgroup", "<portgroup name='none'/>", "--live"])?;
    }
    let error = daemon.virsh(&["net-destroy", "grp"])?;
    ensure_eq!(error.status, 0, "{error:?}");
    // By the interface's own element, which may change.
    network(&daemon, "own", "<bridge name='own0'/><ip address='10.25.0.1' prefix='24'/>")?;
    daemon.ok(&["net-start", "own"])?;
    let guarded = || run(&["nft", "list", "table", "inet", "berth-own0"]).map(|t| t.contains("pkttype"));
    let with = |isolated: &str| {
        interface("own", &format!("<mac address='52:54:00:25:00:01'/><port isolated='{isolated}'/>"))
    };
    define(&daemon, "t-pd", &with("yes"))?;
    ensure!(!guarded()?, "a network without isolated ports");
    daemon.ok(&["start", "t-pd"])?;
    ensure!(guarded()?, "with one");
    for isolated in ["no", "yes"] {
        let file = daemon.file("own.interface", &with(isolated))?;
        daemon.ok(&["update-device", "t-pd", &file, "--live"])?;
        ensure_eq!(guarded()?, isolated == "yes", "isolated='{isolated}'");
    }
    daemon.ok(&["destroy", "t-pd"])?;
    ensure!(!guarded()?, "when it is gone");
    daemon.ok(&["net-destroy", "own"])?;
    for name in ["t-pa", "t-pb", "t-pc"] {
        daemon.ok(&["destroy", name])?;
    }
    let left = run(&["ip", "-o", "link"])?;
    let odd = left.lines().filter(|l| ["vnet", "grp0", ": h", ": b"].iter().any(|n| l.contains(n)));
    ensure_eq!(odd.collect::<Vec<_>>(), Vec::<&str>::new(), "interfaces that are left");
    Ok(())
}

/// A document with ports of the host that lead to the domain.
fn define_with_ports(daemon: &Daemon, name: &str, ports: &str, interfaces: &str) -> Outcome {
    define(daemon, name, interfaces)?;
    let settings = format!(
        "<metadata><berth:settings xmlns:berth='urn:berth:domain:1'>{ports}</berth:settings></metadata><memory"
    );
    let xml = daemon.ok(&["dumpxml", "--inactive", name])?.replacen("<memory", &settings, 1);
    daemon.define(name, &xml)
}

fn ports() -> Outcome {
    let mut daemon = Daemon::start()?;
    let outside = outside("10.150.150.0/24")?;
    let web = "<berth:forward host-port='8081' port='80'/>";
    define_with_ports(&daemon, "t-w1", web, &interface("default", ""))?;
    define_with_ports(&daemon, "t-w2", web, &interface("default", ""))?;
    daemon.ok(&["start", "t-w1"])?;
    address(&daemon, "t-w1")?;
    let hears = |what: &str| -> Result<String, String> {
        let heard = wait_for(what, 5, || outside.hears("192.0.2.1:8081").ok())?;
        Ok(heard.trim().to_owned())
    };
    ensure_eq!(hears("the forward")?, "t-w1", "from the world");
    let local = wait_for("the forward from the host", 5, || lab::hears("127.0.0.1:8081").ok())?;
    ensure_eq!(local.trim(), "t-w1", "from the host");
    let before = Traces::of("t-w2", daemon.work());
    let error = daemon.virsh(&["start", "t-w2"])?.fails()?;
    ensure!(error.contains("port 8081/tcp is forwarded to 't-w1' already"), "{error}");
    ensure_eq!(Traces::of("t-w2", daemon.work()).difference(&before), Vec::<String>::new(), "a failed start");
    // Nor does a network take it away from a guest, when it starts or later.
    let thief = |port: u16| {
        format!(
            "<metadata><b:settings xmlns:b='urn:berth:network:1'><b:forward host-port='{port}' guest='10.26.0.5' port='80'/>\
             </b:settings></metadata><bridge name='th0'/><ip address='10.26.0.1' prefix='24'/>"
        )
    };
    network(&daemon, "thief", &thief(8081))?;
    let error = daemon.virsh(&["net-start", "thief"])?.fails()?;
    ensure!(error.contains("port 8081/tcp is forwarded to 't-w1' already"), "{error}");
    network(&daemon, "thief", &thief(8082))?;
    daemon.ok(&["net-start", "thief"])?;
    daemon.ok(&["net-destroy", "thief"])?;
    ensure_eq!(hears("the forward still")?, "t-w1", "from the world");
    // Over a restart of the daemon, and of what it finds taken away.
    daemon.kill();
    run(&["nft", "delete", "table", "inet", "berth-berth0"])?;
    daemon.launch()?;
    ensure_eq!(hears("the forward after a restart")?, "t-w1", "from the world");
    daemon.ok(&["destroy", "t-w1"])?;
    ensure!(outside.hears("192.0.2.1:8081").is_err(), "a port of nobody");
    daemon.ok(&["start", "t-w2"])?;
    address(&daemon, "t-w2")?;
    ensure_eq!(hears("the other one")?, "t-w2", "from the world");
    daemon.ok(&["destroy", "t-w2"])?;
    daemon.ok(&["net-destroy", "default"])?;
    // Without DHCP and without a way out, by the address of the document; not by a macvlan.
    network(&daemon, "st", "<bridge name='st0'/><ip address='10.24.0.1' prefix='24'/>")?;
    network(&daemon, "mv", "<forward mode='bridge'><interface dev='wan0'/></forward>")?;
    daemon.ok(&["net-start", "st"])?;
    daemon.ok(&["net-start", "mv"])?;
    define_with_ports(&daemon, "t-w1", web, &interface("st", "<ip address='10.24.0.2' prefix='24'/>"))?;
    define_with_ports(&daemon, "t-w2", web, &interface("mv", ""))?;
    let error = daemon.virsh(&["start", "t-w2"])?.fails()?;
    ensure!(error.contains("network 'mv' has no bridge with an IPv4 address of its own"), "{error}");
    define_with_ports(&daemon, "t-w2", web, &interface("st", ""))?;
    let error = daemon.virsh(&["start", "t-w2"])?.fails()?;
    ensure!(error.contains("network 'st' has no address left to forward ports to"), "{error}");
    daemon.ok(&["start", "t-w1"])?;
    let local =
        wait_for("the forward to an address of the document", 40, || lab::hears("127.0.0.1:8081").ok())?;
    ensure_eq!(local.trim(), "t-w1", "from the host");
    daemon.ok(&["destroy", "t-w1"])?;
    for net in ["st", "mv"] {
        daemon.ok(&["net-destroy", net])?;
    }
    Ok(())
}

/// A neighbour that has itself given all addresses keeps no domain with a port of the host from starting.
fn crowded() -> Outcome {
    let daemon = Daemon::start()?;
    let range = "<dhcp><range start='10.27.0.10' end='10.27.0.11'/></dhcp>";
    network(
        &daemon,
        "tiny",
        &format!("<bridge name='ty0'/><ip address='10.27.0.1' prefix='24'>{range}</ip>"),
    )?;
    daemon.ok(&["net-start", "tiny"])?;
    let neighbour = Machine::new()?;
    neighbour.cable("many", "eth0")?;
    run(&["ip", "link", "set", "many", "master", "ty0"])?;
    let busybox = roots::busybox().ok_or("no busybox")?.to_string_lossy().into_owned();
    let asks = |n: u8, rest: &[&str]| {
        neighbour.run(&["ip", "link", "set", "eth0", "address", &format!("66:00:00:00:00:0{n}")])?;
        let words =
            [&busybox, "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "10", "-T", "1", "-s", "/bin/true"];
        neighbour.run(&[&words[..], rest].concat())
    };
    asks(1, &[])?;
    asks(2, &[])?;
    let leases = || daemon.ok(&["net-dhcp-leases", "tiny"]);
    let of_neighbour = |line: &&str| line.contains(" 66:00:00:00:00:0");
    ensure_eq!(leases()?.lines().filter(of_neighbour).count(), 2, "what the neighbour has");
    let web = "<berth:forward host-port='8081' port='80'/>";
    define_with_ports(&daemon, "t-ty", web, &interface("tiny", ""))?;
    daemon.ok(&["start", "t-ty"])?;
    ensure_eq!(address(&daemon, "t-ty")?, "10.27.0.11", "the address of the domain");
    let local = wait_for("the forward", 5, || lab::hears("127.0.0.1:8081").ok())?;
    ensure_eq!(local.trim(), "t-ty", "from the host");
    // Nor does the neighbour get it back.
    for n in [1, 2] {
        drop(asks(n, &["-r", "10.27.0.11"]));
    }
    let told = leases()?;
    let theirs = told.lines().filter(of_neighbour).any(|l| l.contains("10.27.0.11/"));
    ensure!(!theirs && told.contains("10.27.0.11/"), "{told}");
    // Ports lead to guests of the network only.
    for (address, why) in [
        ("192.168.99.5", "is not of this network"),
        ("10.27.0.1", "is the host's own"),
        ("10.27.0.255", "is that of the network, or of all its guests"),
    ] {
        let ip = format!("<ip address='{address}' prefix='24'/>");
        define_with_ports(
            &daemon,
            "t-tz",
            "<berth:forward host-port='8082' port='80'/>",
            &interface("tiny", &ip),
        )?;
        let error = daemon.virsh(&["start", "t-tz"])?.fails()?;
        let message =
            format!("cannot be forwarded to a guest of network 'tiny': the address '{address}' {why}");
        ensure!(error.contains(&message), "{error}");
    }
    daemon.ok(&["destroy", "t-ty"])?;
    daemon.ok(&["net-destroy", "tiny"]).map(drop)
}

fn ports_by_ipv6() -> Outcome {
    let mut daemon = Daemon::start()?;
    let ips = "<ip address='10.24.0.1' prefix='24'/><ip family='ipv6' address='fd00:24::1' prefix='64'/>";
    network(&daemon, "six", &format!("<bridge name='six0'/>{ips}"))?;
    network(&daemon, "four", "<bridge name='four0'/><ip address='10.25.0.1' prefix='24'/>")?;
    daemon.ok(&["net-start", "six"])?;
    daemon.ok(&["net-start", "four"])?;
    let web = "<berth:forward host-address='::' host-port='8081' port='81'/>";
    let own = "<ip family='ipv6' address='fd00:24::5' prefix='64'/>";
    define_with_ports(&daemon, "t-w6", web, &interface("four", own))?;
    let error = daemon.virsh(&["start", "t-w6"])?.fails()?;
    ensure!(error.contains("network 'four' has no bridge with an IPv6 address of its own"), "{error}");
    define_with_ports(&daemon, "t-w6", web, &interface("six", own))?;
    daemon.ok(&["start", "t-w6"])?;
    inside(&daemon, "t-w6", || lab::answers(81, "guest"))?;
    for when in ["from the host", "with another daemon"] {
        let heard = wait_for(when, 5, || lab::hears("[fd00:24::1]:8081").ok())?;
        ensure_eq!(heard, "guest fd00:24::1", "{when}");
        daemon.restart()?;
    }
    ensure!(lab::hears("127.0.0.1:8081").is_err(), "the same port of the other family");
    daemon.ok(&["destroy", "t-w6"])?;
    ensure!(lab::hears("[fd00:24::1]:8081").is_err(), "a port of nobody");
    daemon.ok(&["net-destroy", "four"])?;
    daemon.ok(&["net-destroy", "six"]).map(drop)
}

/// Whether packets for the host's loopback addresses are let in from the default network, and whether they are dropped
/// there.
fn loopback_of_default() -> Result<(bool, bool), String> {
    let open = run(&["cat", "/proc/sys/net/ipv4/conf/berth0/route_localnet"])?;
    let guard = run(&["nft", "list", "chain", "inet", "berth-berth0", "guard"]);
    Ok((open.trim() == "1", guard.is_ok_and(|text| text.contains("127.0.0.0/8 drop"))))
}

fn loopback() -> Outcome {
    const CLOSED: (bool, bool) = (false, false);
    const GUARDED: (bool, bool) = (true, true);
    // Between the two, in both directions.
    const BETWEEN: (bool, bool) = (false, true);
    let mut daemon = Daemon::start()?;
    let xml = daemon.ok(&["net-dumpxml", "default", "--inactive"])?;
    let forward = "<berth:forward host-port='8080' guest='t-nobody' port='80'/></berth:settings>";
    let file = daemon.file("forward.xml", &xml.replace("</berth:settings>", forward))?;
    daemon.ok(&["net-define", &file])?;
    let web = "<berth:forward host-port='8082' port='80'/>";
    define_with_ports(&daemon, "t-lo", web, &interface("default", ""))?;
    daemon.ok(&["net-start", "default"])?;
    ensure_eq!(loopback_of_default()?, CLOSED, "a port of a guest that is not there");
    for round in ["a guest", "a guest again"] {
        daemon.ok(&["start", "t-lo"])?;
        ensure_eq!(loopback_of_default()?, GUARDED, "{round}");
        daemon.restart()?;
        ensure_eq!(loopback_of_default()?, GUARDED, "{round}, another daemon");
        daemon.ok(&["destroy", "t-lo"])?;
        ensure_eq!(loopback_of_default()?, CLOSED, "{round}, gone");
    }
    // What a former daemon has left open.
    daemon.kill();
    run(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/berth0/route_localnet"])?;
    daemon.launch()?;
    ensure_eq!(loopback_of_default()?, CLOSED, "left open");
    // Rules that are lost, without and with what could make them again.
    daemon.ok(&["start", "t-lo"])?;
    daemon.kill();
    run(&["nft", "delete", "table", "inet", "berth-berth0"])?;
    let empty = daemon.work().join("empty");
    std::fs::create_dir(&empty).map_err(|e| e.to_string())?;
    daemon.set_environment(&[("PATH", &empty.to_string_lossy())]);
    daemon.launch()?;
    ensure_eq!(loopback_of_default()?, CLOSED, "rules that cannot be made");
    daemon.kill();
    daemon.set_environment(&[]);
    daemon.launch()?;
    ensure_eq!(loopback_of_default()?, GUARDED, "rules that are made again");
    // A daemon that is killed between the two.
    daemon.kill();
    daemon.set_environment(&[("BERTH_KILL_AT", "daemon:network-closed")]);
    daemon.launch()?;
    daemon.virsh(&["destroy", "t-lo"])?;
    daemon.wait_dead(10)?;
    ensure_eq!(loopback_of_default()?, BETWEEN, "the way in goes first");
    daemon.set_environment(&[]);
    daemon.launch()?;
    daemon.virsh(&["destroy", "t-lo"])?;
    ensure_eq!(loopback_of_default()?, CLOSED, "after that");
    daemon.kill();
    daemon.set_environment(&[("BERTH_KILL_AT", "daemon:network-guarded")]);
    daemon.launch()?;
    daemon.virsh(&["start", "t-lo"])?.fails()?;
    daemon.wait_dead(10)?;
    ensure_eq!(loopback_of_default()?, BETWEEN, "the rules come first");
    daemon.set_environment(&[]);
    daemon.launch()?;
    ensure_eq!(loopback_of_default()?, CLOSED, "a start that is undone");
    daemon.ok(&["net-destroy", "default"]).map(drop)
}
