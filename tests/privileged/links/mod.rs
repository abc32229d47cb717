//! Interfaces of every type: who reaches whom, with which names and addresses, and what is left on the host.
//!
//! Each test has a network namespace of its own that stands for the host, with its bridge or device in it; what is in a
//! container is looked at from inside its network namespace.

pub mod crashes;
pub mod lent;
pub mod nic;
pub mod plugging;
pub mod tuning;

use std::path::Path;

use berth_tests::daemon::{Daemon, Printed, domain_xml};
use berth_tests::host::{Tool, Traces, in_own_network, ip, links, run};
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, wait_for};

pub const TESTS: &[Test] = &[
    ("links::containers_on_a_bridge_stand_beside_the_host", || in_own_network(bridge)),
    ("links::macvlans_in_four_modes", || in_own_network(macvlans)),
    ("links::a_device_for_one_macvlan_lends_it_its_address", || in_own_network(passthrough)),
    ("links::a_pair_without_a_bridge", || in_own_network(ethernet)),
    ("links::isolated_ports_and_link_states", || in_own_network(isolated)),
    ("links::a_carrier_that_goes_and_comes_costs_the_guest_no_route", || in_own_network(carrier)),
    ("links::who_took_the_name_of_a_lost_interface_is_left_alone", || in_own_network(taken)),
    ("links::virtual_lans_of_a_port", || in_own_network(vlans)),
    ("links::throughput_is_as_the_document_says", || in_own_network(throughput)),
    ("links::what_is_missing_is_named_and_nothing_is_left", || in_own_network(missing)),
    ("links::addresses_are_kept_over_definitions", || in_own_network(addresses)),
    ("links::a_port_of_open_vswitch", || in_own_network(switch)),
];

const WAIT: &[&str] = &["/bin/sh", "-c", "while :; do sleep 1000; done"];

/// A daemon on a host with a bridge "tbr0".
struct Lan {
    daemon: Daemon,
}

impl Lan {
    fn new() -> Result<Self, String> {
        ip("link add tbr0 type bridge")?;
        ip("addr add 10.77.0.1/24 dev tbr0")?;
        ip("addr add fd77::1/64 dev tbr0 nodad")?;
        ip("link set tbr0 up")?;
        Ok(Self { daemon: Daemon::start()? })
    }

    fn define(&self, name: &str, interfaces: &str) -> Outcome {
        self.define_with(name, WAIT, interfaces)
    }

    fn define_with(&self, name: &str, init: &[&str], interfaces: &str) -> Outcome {
        let root = self.daemon.work().join(format!("{name}.root"));
        if !root.exists() {
            self.daemon.busybox(name)?;
        }
        self.daemon.define(name, &domain_xml(name, &root, init, interfaces))
    }

    fn start(&self, name: &str, interfaces: &str) -> Outcome {
        self.define(name, interfaces)?;
        self.daemon.ok(&["start", name]).map(drop)
    }

    /// Runs a command of the host in the network of a container.
    fn inside(&self, name: &str, line: &str) -> Result<String, String> {
        run(&format!("nsenter -t {} -n {line}", self.daemon.pid_of(name, "initPid")?))
    }

    fn reaches(&self, name: &str, address: &str) -> bool {
        // A new address of IPv6 is first looked for in the network, for a second or two.
        wait_for("an answer", 6, || self.inside(name, &format!("ping -c 1 -W 1 {address}")).ok()).is_ok()
    }

    fn does_not_reach(&self, name: &str, address: &str) -> bool {
        self.inside(name, &format!("ping -c 1 -W 1 {address}")).is_err()
    }

    /// Attaches, detaches or updates with an element.
    fn plug(&self, command: &str, name: &str, xml: &str, options: &[&str]) -> Result<Printed, String> {
        let file = self.daemon.file("device.xml", xml)?;
        let words: Vec<&str> = [command, name, &file].into_iter().chain(options.iter().copied()).collect();
        let printed = self.daemon.virsh(&words);
        std::fs::remove_file(file).map_err(|e| e.to_string())?;
        printed
    }

    /// A virtual network that is there.
    fn network(&self, name: &str, forward: &str) -> Outcome {
        let xml = format!("<network><name>{name}</name>{forward}</network>");
        let file = self.daemon.file("network.xml", &xml)?;
        self.daemon.ok(&["net-define", &file])?;
        self.daemon.ok(&["net-start", name]).map(drop)
    }

    fn traces(&self, name: &str) -> Traces {
        Traces::of(name, self.daemon.work())
    }

    fn nothing_left(&self, name: &str, before: &Traces) -> Outcome {
        let left = self.traces(name).difference(before);
        ensure_eq!(left, Vec::<String>::new(), "what is left of '{name}'");
        Ok(())
    }
}

/// An interface in the bridge, with addresses whose last number is given.
fn bridged(number: u8, rest: &str) -> String {
    format!(
        "<interface type='bridge'><source bridge='tbr0'/><mac address='52:54:00:77:00:{number:02x}'/>
         <ip address='10.77.0.{number}' prefix='24'/><ip address='fd77::{number:x}' family='ipv6' prefix='64'/>
         {rest}</interface>"
    )
}

fn bridge() -> Outcome {
    let lan = Lan::new()?;
    let routes = "<route address='0.0.0.0' prefix='0' gateway='10.77.0.1' metric='7'/>
        <route family='ipv6' address='::' prefix='0' gateway='fd77::1'/>";
    let before = lan.traces("t-l1");
    lan.define("t-l1", &bridged(2, &format!("<mtu size='1400'/>{routes}")))?;
    lan.start("t-l2", &bridged(3, "<target dev='myhost'/><guest dev='lan'/>"))?;
    let defined = lan.traces("t-l1");
    lan.daemon.ok(&["start", "t-l1"])?;
    // With the definition the daemon has got its names.
    ensure_eq!(
        lan.daemon.ok(&["domiflist", "t-l1"])?,
        " Interface   Type     Source   Model   MAC\n----------------------------------------------------------\n \
         vnet0       bridge   tbr0     -       52:54:00:77:00:02\n\n",
        "the list"
    );
    let list = lan.daemon.ok(&["domiflist", "t-l2"])?;
    ensure!(list.contains(" myhost      bridge   tbr0"), "{list}");
    let xml = lan.daemon.ok(&["dumpxml", "t-l2"])?;
    ensure!(xml.contains("<guest dev='lan' actual='lan'/>"), "the live document: {xml}");
    let xml = lan.daemon.ok(&["dumpxml", "--inactive", "t-l1"])?;
    ensure!(!xml.contains("vnet") && !xml.contains("actual"), "the definition: {xml}");
    // Up, with addresses, routes and the size of packets that the document says, without being asked.
    let text = lan.inside("t-l1", "ip -o addr show dev eth0")?;
    ensure!(text.contains("10.77.0.2/24") && text.contains("fd77::2/64"), "the addresses: {text}");
    let text = lan.inside("t-l1", "ip -o link show dev eth0")?;
    ensure!(text.contains("mtu 1400") && text.contains("UP") && text.contains("52:54:00:77:00:02"), "{text}");
    let text = lan.inside("t-l1", "ip route")?;
    ensure!(text.contains("default via 10.77.0.1 dev eth0 proto static metric 7"), "the routes: {text}");
    let text = lan.inside("t-l1", "ip -6 route")?;
    ensure!(text.contains("default via fd77::1 dev eth0"), "the routes: {text}");
    for (name, address) in [
        ("t-l1", "10.77.0.1"),
        ("t-l1", "10.77.0.3"),
        ("t-l2", "10.77.0.2"),
        ("t-l2", "fd77::1"),
        ("t-l1", "fd77::3"),
    ] {
        ensure!(lan.reaches(name, address), "'{name}' does not reach {address}");
    }
    run("ping -c 1 -W 3 10.77.0.2")?;
    // The bridge keeps an address of its own: those of host ends are higher.
    let text = ip("-o link show dev vnet0")?;
    ensure!(text.contains("link/ether fe:54:00:77:00:02"), "the host end: {text}");
    // Counters, by every name that it has.
    for name in ["eth0", "vnet0", "52:54:00:77:00:02"] {
        let text = lan.daemon.ok(&["domifstat", "t-l1", name])?;
        let packets = text.lines().find_map(|l| l.strip_prefix(&format!("{name} tx_packets ")));
        ensure!(packets.and_then(|p| p.parse::<u64>().ok()) > Some(0), "'{name}': {text}");
    }
    // Also when the container calls it otherwise, and something else as it was called.
    lan.inside("t-l2", "ip link set lan down")?;
    lan.inside("t-l2", "ip link set lan name own")?;
    lan.inside("t-l2", "ip link add lan type bridge")?;
    for name in ["own", "myhost", "52:54:00:77:00:03"] {
        let text = lan.daemon.ok(&["domifstat", "t-l2", name])?;
        let packets = text.lines().find_map(|l| l.strip_prefix(&format!("{name} tx_packets ")));
        ensure!(packets.and_then(|p| p.parse::<u64>().ok()) > Some(0), "'{name}': {text}");
    }
    // What was dropped each end counts for itself: the host still sends to an interface that is down.
    let passed = |name: &str| -> Result<Vec<String>, String> {
        let text = lan.daemon.ok(&["domifstat", "t-l2", name])?;
        let lines = text.lines().filter(|l| l.contains("_bytes") || l.contains("_packets"));
        Ok(lines.filter_map(|l| l.strip_prefix(name)).map(str::to_owned).collect())
    };
    let own = passed("own")?;
    ensure_eq!(own.len(), 4, "the counters of one end");
    ensure_eq!(passed("myhost")?, own, "the counters of both ends");
    ensure!(lan.daemon.ok(&["domiflist", "t-l2"])?.contains(" myhost      bridge   tbr0"), "the list");
    lan.inside("t-l2", "ip link del lan")?;
    lan.inside("t-l2", "ip link set own name lan")?;
    lan.inside("t-l2", "ip link set lan up")?;
    // Addresses, as the container has them, and as the host has heard of them.
    let text = lan.daemon.ok(&["domifaddr", "t-l1", "--source", "guest", "--full"])?;
    ensure!(text.contains(" eth0       52:54:00:77:00:02    ipv4         10.77.0.2/24\n"), "{text}");
    ensure!(text.contains(" eth0       52:54:00:77:00:02    ipv6         fd77::2/64\n"), "{text}");
    ensure!(text.contains(" lo "), "{text}");
    let text = lan.daemon.ok(&["domifaddr", "t-l1", "--source", "arp", "--interface", "vnet0"])?;
    ensure!(text.contains(" vnet0      52:54:00:77:00:02    ipv4         10.77.0.2/0\n"), "{text}");
    let text = lan.daemon.ok(&["domifaddr", "t-l1"])?;
    ensure!(text.contains("10.77.0.2/24"), "{text}");
    lan.daemon.ok(&["destroy", "t-l1"])?;
    lan.nothing_left("t-l1", &defined)?;
    ensure!(links().contains(&"myhost".into()), "the other one's is gone too");
    lan.daemon.ok(&["destroy", "t-l2"])?;
    ensure_eq!(links(), ["lo", "tbr0"], "what the host has");
    drop(before);
    Ok(())
}

fn direct(number: u8, mode: &str, rest: &str) -> String {
    format!(
        "<interface type='direct'><source dev='tpar0' mode='{mode}'/><mac address='52:54:00:78:00:{number:02x}'/>
         <ip address='10.78.0.{number}' prefix='24'/>{rest}</interface>"
    )
}

/// A device "tpar0" for macvlans, whose cable ends at a machine with the address 10.78.0.1.
fn parent() -> Outcome {
    ip("link add tpar0 type veth peer name tout0")?;
    ip("link set tpar0 up")?;
    ip("link set tout0 up")?;
    ip("addr add 10.78.0.1/24 dev tout0").map(drop)
}

fn macvlans() -> Outcome {
    parent()?;
    let lan = Lan::new()?;
    for (mode, kernels, neighbours) in [
        ("bridge", "bridge", true),
        ("vepa", "vepa", false),
        ("private", "private", false),
        ("passthrough", "passthru", false),
    ] {
        lan.define("t-mv1", &direct(2, mode, ""))?;
        lan.define("t-mv2", &direct(3, mode, "<guest dev='wan0'/>"))?;
        let before = lan.traces("t-mv");
        lan.daemon.ok(&["start", "t-mv1"])?;
        let text = lan.inside("t-mv1", "ip -o -d link show dev eth0")?;
        ensure!(text.contains(&format!("macvlan mode {kernels}")), "{mode}: {text}");
        ensure!(text.contains("UP") && text.contains("LOWER_UP"), "{mode}: {text}");
        ensure!(lan.reaches("t-mv1", "10.78.0.1"), "{mode}: outside is not reached");
        if mode == "passthrough" {
            let error = lan.daemon.virsh(&["start", "t-mv2"])?.fails()?;
            ensure!(error.contains("cannot make a macvlan of 'tpar0': it has another macvlan"), "{error}");
            // One that is killed is on its way out while the next one wants the device.
            let pid = lan.daemon.pid_of("t-mv1", "id")?;
            run(&format!("kill -9 {pid}"))?;
            lan.daemon.wait_state("t-mv1", "shut off (crashed)", 5)?;
            lan.daemon.ok(&["start", "t-mv1"])?;
        } else {
            lan.daemon.ok(&["start", "t-mv2"])?;
            ensure!(lan.inside("t-mv2", "ip -o link show dev wan0").is_ok(), "{mode}: the name inside");
            let met = match neighbours {
                true => lan.reaches("t-mv2", "10.78.0.2"),
                false => !lan.does_not_reach("t-mv2", "10.78.0.2"),
            };
            ensure_eq!(met, neighbours, "{mode}: whether containers meet");
            let list = lan.daemon.ok(&["domiflist", "t-mv2"])?;
            // The host has nothing of it.
            let row = list.lines().find(|l| l.contains("direct   tpar0")).unwrap_or_default();
            ensure!(row.starts_with(" - ") && row.ends_with("52:54:00:78:00:03"), "{list}");
            for word in ["52:54:00:78:00:03", "wan0"] {
                for command in ["domifstat", "domif-getlink", "domiftune"] {
                    lan.daemon.ok(&[command, "t-mv2", word])?;
                }
            }
            // What the host has heard of it, also where another interface of the host has such a name.
            let address = "10.78.0.3 lladdr 52:54:00:78:00:03 dev tout0";
            ip(&format!("neigh replace {address} nud permanent"))?;
            for words in [&[][..], &["--interface", "52:54:00:78:00:03"]] {
                let ask = [&["domifaddr", "t-mv2", "--source", "arp"][..], words].concat();
                let text = lan.daemon.ok(&ask)?;
                let row = text.lines().find(|l| l.contains("10.78.0.3")).unwrap_or_default();
                ensure!(row.starts_with(" -  ") && !text.contains("macvlan"), "{text}");
            }
            ip("neigh del 10.78.0.3 dev tout0")?;
            let error = lan.daemon.virsh(&["domifstat", "t-mv2", "macvlan0"])?.fails()?;
            ensure!(error.contains("the domain has no interface 'macvlan0'"), "{error}");
            lan.inside("t-mv2", "ip link set wan0 down name other0")?;
            let error = lan.daemon.virsh(&["domifstat", "t-mv2", "52:54:00:78:00:03"])?.fails()?;
            ensure!(error.contains("it is not called 'wan0' inside any more"), "{error}");
            lan.daemon.ok(&["destroy", "t-mv2"])?;
        }
        lan.daemon.ok(&["destroy", "t-mv1"])?;
        lan.nothing_left("t-mv", &before)?;
    }
    // Down until it is told otherwise.
    lan.start("t-mv1", &direct(2, "bridge", "<link state='down'/>"))?;
    let state = || lan.inside("t-mv1", "ip -o link show dev eth0");
    ensure!(!state()?.contains("LOWER_UP"), "it is up: {}", state()?);
    lan.daemon.ok(&["domif-setlink", "t-mv1", "52:54:00:78:00:02", "up"])?;
    ensure!(state()?.contains("LOWER_UP"), "it is down: {}", state()?);
    ensure!(lan.reaches("t-mv1", "10.78.0.1"), "outside is not reached");
    lan.daemon.ok(&["destroy", "t-mv1"]).map(drop)
}

/// The macvlan has the address of the document, which the device has meanwhile; its own is back however the container ends.
fn passthrough() -> Outcome {
    parent()?;
    let mut lan = Lan::new()?;
    let address = || -> Result<String, String> {
        let text = ip("-o link show dev tpar0")?;
        let found =
            text.split_once("link/ether ").and_then(|(_, rest)| rest.split(' ').next().map(str::to_owned));
        found.ok_or(text)
    };
    let own = address()?;
    let wanted = "52:54:00:78:00:02";
    lan.network("tpass", "<forward mode='passthrough'><interface dev='tpar0'/></forward>")?;
    let of_network = format!(
        "<interface type='network'><source network='tpass'/><mac address='{wanted}'/>
         <ip address='10.78.0.2' prefix='24'/></interface>"
    );
    let is_there = |lan: &Lan, what: &str| -> Outcome {
        let text = lan.inside("t-pt", "ip -o link show dev eth0")?;
        ensure!(text.contains(wanted), "{what}: another address than the document's: {text}");
        ensure_eq!(address()?, wanted, "{what}: the device");
        ensure!(lan.reaches("t-pt", "10.78.0.1"), "{what}: outside is not reached");
        Ok(())
    };
    let is_back = |what: &str| wait_for(what, 5, || address().ok().filter(|a| *a == own)).map(drop);
    for (kind, xml) in [("direct", direct(2, "passthrough", "")), ("network", of_network)] {
        for end in ["destroy", "the controller is killed", "both are killed"] {
            let what = format!("{kind}, {end}");
            lan.start("t-pt", &xml)?;
            is_there(&lan, &what)?;
            let pid = lan.daemon.pid_of("t-pt", "id")?;
            match end {
                "destroy" => drop(lan.daemon.ok(&["destroy", "t-pt"])?),
                "the controller is killed" => drop(run(&format!("kill -9 {pid}"))?),
                _ => {
                    lan.daemon.kill();
                    run(&format!("kill -9 {pid}"))?;
                    is_back(&what)?;
                    lan.daemon.launch()?;
                }
            }
            is_back(&what)?;
            wait_for("the end", 5, || lan.daemon.state("t-pt").ok().filter(|s| s.starts_with("shut off")))?;
        }
        lan.start("t-pt", "")?;
        lan.plug("attach-device", "t-pt", &xml, &["--live"])?.ok()?;
        is_there(&lan, &format!("{kind}, plugged"))?;
        lan.plug("detach-device", "t-pt", &xml, &["--live"])?.ok()?;
        is_back(&format!("{kind}, unplugged"))?;
        lan.daemon.ok(&["destroy", "t-pt"])?;
    }
    Ok(())
}

fn ethernet() -> Outcome {
    let lan = Lan::new()?;
    lan.define(
        "t-eth",
        "<interface type='ethernet'><mac address='52:54:00:79:00:02'/>
           <source><ip address='10.79.0.1' prefix='24'/><ip address='fd79::1' family='ipv6' prefix='64'/>
             <route address='10.80.0.0' prefix='16' gateway='10.79.0.2' metric='5'/></source>
           <ip address='10.79.0.2' prefix='24'/>
           <route address='0.0.0.0' prefix='0' gateway='10.79.0.1'/><target dev='tpair'/></interface>
         <interface type='ethernet'><mac address='52:54:00:79:00:03'/>
           <source><ip address='10.81.0.1' prefix='32' peer='10.81.0.2'/></source>
           <ip address='10.81.0.2' prefix='32' peer='10.81.0.1'/></interface>",
    )?;
    let before = lan.traces("t-eth");
    lan.daemon.ok(&["start", "t-eth"])?;
    let text = ip("-o addr show dev tpair")?;
    ensure!(text.contains("10.79.0.1/24") && text.contains("fd79::1/64"), "the host's addresses: {text}");
    let text = ip("route")?;
    ensure!(text.contains("10.80.0.0/16 via 10.79.0.2 dev tpair"), "the host's routes: {text}");
    ensure!(lan.reaches("t-eth", "10.79.0.1"), "the host is not reached");
    ensure!(lan.reaches("t-eth", "10.81.0.1"), "the host is not reached by the second pair");
    // Whatever a router inside announces.
    for name in ["tpair", "vnet0"] {
        for switch in ["accept_ra", "autoconf"] {
            ensure_eq!(ipv6(name, switch)?, "0", "{switch} of '{name}'");
        }
    }
    lan.daemon.ok(&["destroy", "t-eth"])?;
    lan.nothing_left("t-eth", &before)?;
    ensure!(!ip("route")?.contains("10.80"), "the route is left");
    Ok(())
}

/// A switch of IPv6 of an interface of the host.
fn ipv6(name: &str, switch: &str) -> Result<String, String> {
    let path = format!("/proc/sys/net/ipv6/conf/{name}/{switch}");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    Ok(text.trim().to_owned())
}

/// Root inside can remove an interface, and then its name on the host is free for anybody.
fn taken() -> Outcome {
    let mut lan = Lan::new()?;
    lan.network("ttak", "<bridge name='ttak0'/>")?;
    let port = |n: u8| {
        format!(
            "<interface type='network'><source network='ttak'/><mac address='52:54:00:77:00:{n:02x}'/>
             <target dev='ttak{n}'/></interface>"
        )
    };
    lan.start("t-tak1", &port(1))?;
    lan.start("t-tak2", &port(2))?;
    lan.inside("t-tak1", "ip link del eth0")?;
    wait_for("the end of the host end", 5, || ip("link show dev ttak1").is_err().then_some(()))?;
    ip("link add ttak1 type veth peer name tother")?;
    ip("link set ttak1 master tbr0")?;
    ip("link set ttak1 up")?;
    ip("link set tother up")?;
    let theirs = || Ok::<_, String>(ip("-o link show dev ttak1")? + &run("tc qdisc show dev ttak1")?);
    wait_for("the port", 10, || theirs().ok()?.contains("state UP").then_some(()))?;
    let before = theirs()?;
    let gone = "the container has removed its end of the interface";
    for words in [
        &["domif-setlink", "t-tak1", "ttak1", "down"][..],
        &["domiftune", "t-tak1", "ttak1", "--live", "--inbound", "1000"],
    ] {
        let error = lan.daemon.virsh(words)?.fails()?;
        ensure_eq!(theirs()?, before, "after {words:?}");
        ensure!(error.contains(gone), "{words:?}: {error}");
    }
    lan.daemon.ok(&["net-destroy", "ttak"])?;
    lan.daemon.ok(&["net-start", "ttak"])?;
    // Who comes after it is connected again.
    let connected = || ip("-o link show master ttak0").ok()?.contains("ttak2").then_some(());
    wait_for("the other port", 10, connected)?;
    ensure_eq!(theirs()?, before, "after another start of the network");
    lan.daemon.restart()?;
    connected().ok_or("the other port is lost")?;
    ensure_eq!(theirs()?, before, "after another start of the daemon");
    for name in ["t-tak1", "t-tak2"] {
        lan.daemon.ok(&["destroy", name])?;
    }
    ensure_eq!(theirs()?, before, "after the end");
    lan.daemon.ok(&["net-destroy", "ttak"]).map(drop)
}

fn isolated() -> Outcome {
    let lan = Lan::new()?;
    lan.start("t-i1", &bridged(2, "<port isolated='yes'/>"))?;
    lan.start("t-i2", &bridged(3, "<port isolated='yes'/>"))?;
    lan.start("t-i3", &bridged(4, "<link state='down'/><target dev='down0'/>"))?;
    ensure!(lan.reaches("t-i1", "10.77.0.1"), "the host is not reached");
    ensure!(lan.does_not_reach("t-i1", "10.77.0.3"), "two isolated ports meet");
    // Without a carrier, whatever root inside does about it.
    let state = || lan.inside("t-i3", "ip -o link show dev eth0");
    ensure!(state()?.contains("NO-CARRIER"), "there is a carrier: {}", state()?);
    ensure!(lan.does_not_reach("t-i3", "10.77.0.1"), "without a carrier the host is reached");
    ensure_eq!(lan.daemon.ok(&["domif-getlink", "t-i3", "down0"])?, "down0 down\n\n", "the state");
    ensure_eq!(
        lan.daemon.ok(&["domif-setlink", "t-i3", "down0", "up"])?,
        "Device updated successfully\n\n",
        "the answer"
    );
    ensure!(state()?.contains("LOWER_UP"), "there is no carrier: {}", state()?);
    wait_for("the host", 5, || lan.reaches("t-i3", "10.77.0.1").then_some(()))?;
    ensure_eq!(lan.daemon.ok(&["domif-getlink", "t-i3", "down0"])?, "down0 up\n\n", "the state");
    // Over a restart of the daemon, and only what runs.
    ensure_eq!(
        lan.daemon.ok(&["domif-getlink", "--config", "t-i3", "down0"])?,
        "down0 down\n\n",
        "the state"
    );
    lan.daemon.ok(&["domif-setlink", "t-i3", "down0", "down"])?;
    ensure!(state()?.contains("NO-CARRIER"), "there is a carrier: {}", state()?);
    let error = lan.daemon.virsh(&["domif-setlink", "t-i3", "no-such", "up"])?.fails()?;
    ensure!(error.contains("error: interface (dev: no-such) not found."), "{error}");
    // An isolated port becomes an ordinary one.
    lan.plug("update-device", "t-i1", &bridged(2, ""), &["--live"])?.ok()?;
    ensure!(lan.reaches("t-i1", "10.77.0.3"), "an ordinary port does not meet an isolated one");
    for name in ["t-i1", "t-i2", "t-i3"] {
        lan.daemon.ok(&["destroy", name])?;
    }
    Ok(())
}

/// Of a port of a network with a bridge, too, the carrier is switched: what the guest has configured stays.
fn carrier() -> Outcome {
    let lan = Lan::new()?;
    lan.network("tcar", "<forward mode='bridge'/><bridge name='tbr0'/>")?;
    let port = |rest: &str| {
        format!(
            "<interface type='network'><source network='tcar'/><mac address='52:54:00:77:00:05'/>
             <target dev='tcar0'/>{rest}</interface>"
        )
    };
    let set = |state: &str| lan.daemon.ok(&["domif-setlink", "t-car", "tcar0", state]).map(drop);
    let state = || lan.inside("t-car", "ip -o link show dev eth0");
    for (how, rest) in
        [("a start", ""), ("a start without a carrier", "<link state='down'/>"), ("a plug", "")]
    {
        if how == "a plug" {
            lan.start("t-car", "")?;
            lan.plug("attach-device", "t-car", &port("<link state='down'/>"), &["--live"])?.ok()?;
        } else {
            lan.start("t-car", &port(rest))?;
        }
        set("up")?;
        wait_for("the carrier", 5, || state().ok().filter(|s| s.contains("LOWER_UP")))?;
        // As a client of DHCP does it.
        lan.inside("t-car", "ip addr add 10.77.0.5/24 dev eth0")?;
        lan.inside("t-car", "ip route add default via 10.77.0.1")?;
        set("down")?;
        ensure!(state()?.contains("NO-CARRIER,BROADCAST"), "{how}: not the carrier: {}", state()?);
        set("up")?;
        let routes = lan.inside("t-car", "ip route")?;
        ensure!(routes.contains("default via 10.77.0.1"), "{how}: the route is gone: {routes}");
        lan.daemon.ok(&["destroy", "t-car"])?;
    }
    // Also of one that has been without a carrier from the start, it is up inside.
    lan.start("t-car", &port("<link state='down'/>"))?;
    ensure!(state()?.contains("NO-CARRIER,BROADCAST,MULTICAST,UP"), "without a carrier: {}", state()?);
    lan.daemon.ok(&["destroy", "t-car"]).map(drop)
}

fn vlans() -> Outcome {
    let lan = Lan::new()?;
    lan.define("t-v1", &bridged(2, "<vlan><tag id='42'/></vlan>"))?;
    let before = lan.traces("t-v");
    let error = lan.daemon.virsh(&["start", "t-v1"])?.fails()?;
    ensure!(error.contains("bridge 'tbr0': it does not filter virtual LANs"), "{error}");
    ensure!(error.contains("hint: ip link set tbr0 type bridge vlan_filtering 1"), "{error}");
    lan.nothing_left("t-v", &before)?;
    // A kernel without CONFIG_BRIDGE_VLAN_FILTERING goes no further than that; the virtual machine's has it.
    if ip("link set tbr0 type bridge vlan_filtering 1").is_err() {
        return Ok(());
    }
    let trunk = "<vlan trunk='yes'><tag id='42' nativeMode='untagged'/><tag id='43'/></vlan>";
    lan.start("t-v2", &bridged(3, trunk))?;
    lan.start("t-v3", &bridged(4, "<vlan><tag id='43'/></vlan>"))?;
    lan.daemon.ok(&["start", "t-v1"])?;
    ensure!(lan.reaches("t-v1", "10.77.0.3"), "two of one virtual LAN do not meet");
    ensure!(lan.does_not_reach("t-v1", "10.77.0.4"), "two virtual LANs meet");
    ensure!(lan.does_not_reach("t-v1", "10.77.0.1"), "the host is in the virtual LAN");
    let ports = run("bridge vlan show")?;
    ensure!(
        !ports.contains("vnet0\t\t1") && !ports.contains("vnet0             1 "),
        "VLAN 1 stays: {ports}"
    );
    lan.inside("t-v2", "ip link add link eth0 name eth0.43 type vlan id 43")?;
    // A network of its own: answers within that of eth0 would leave by eth0.
    lan.inside("t-v2", "ip addr add 10.78.0.3/24 dev eth0.43")?;
    lan.inside("t-v2", "ip link set eth0.43 up")?;
    lan.inside("t-v3", "ip addr add 10.78.0.4/24 dev eth0")?;
    lan.inside("t-v3", "ping -c 1 -W 3 10.78.0.3")?;
    // Another one while it runs.
    lan.plug("update-device", "t-v1", &bridged(2, "<vlan><tag id='43'/></vlan>"), &["--live"])?.ok()?;
    wait_for("the other LAN", 5, || lan.reaches("t-v1", "10.77.0.4").then_some(()))?;
    for name in ["t-v1", "t-v2", "t-v3"] {
        lan.daemon.ok(&["destroy", name])?;
    }
    Ok(())
}

/// Bytes per second that iperf3 gets through from the container, or (reverse) to it, in two seconds after one that does
/// not count.
fn measure(lan: &Lan, options: &str) -> Result<f64, String> {
    measure_for(lan, &format!("-t 2 -O 1 {options}"))
}

fn measure_for(lan: &Lan, options: &str) -> Result<f64, String> {
    let pid = lan.daemon.pid_of("t-bw", "initPid")?;
    let mut server = std::process::Command::new("iperf3")
        .args(["-s", "-1", "-B", "10.77.0.1"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .map_err(|e| format!("cannot run iperf3: {e}"))?;
    let line = format!("nsenter -t {pid} -n iperf3 -c 10.77.0.1 -J {options}");
    let text = wait_for("the server", 5, || run(&line).ok().filter(|t| !t.contains("\"error\"")));
    let _ = server.kill();
    let _ = server.wait();
    let report: serde_json::Value = serde_json::from_str(&text?).map_err(|e| e.to_string())?;
    let end = &report["end"];
    let received = end["sum_received"]["bits_per_second"].as_f64().filter(|b| *b > 0.0);
    // Of UDP the receiver's part is what was sent less what was lost.
    let lost = end["sum"]["lost_percent"].as_f64().unwrap_or_default();
    let sent = end["sum"]["bits_per_second"].as_f64().map(|b| b * (100.0 - lost) / 100.0);
    let bits = if options.contains("-u") { sent.or(received) } else { received };
    bits.map(|b| b / 8.0).ok_or_else(|| format!("no figure in {report}"))
}

fn throughput() -> Outcome {
    let lan = Lan::new()?;
    let limits = "<bandwidth><inbound average='8192'/><outbound average='4096' burst='128'/></bandwidth><target dev='bw0'/>";
    lan.define("t-bw", &bridged(2, limits))?;
    let before = lan.traces("t-bw");
    lan.daemon.ok(&["start", "t-bw"])?;
    let near = |what: &str, options: &str, kib: f64| -> Outcome {
        let got = measure(&lan, options)? / 1024.0;
        println!("{what}: {got:.0} of {kib:.0} KiB/s");
        ensure!((got / kib - 1.0).abs() < 0.1, "{what}: {got:.0} KiB/s, not {kib:.0}");
        Ok(())
    };
    near("inbound TCP", "-R", 8192.0)?;
    near("outbound TCP", "", 4096.0)?;
    near("inbound UDP", "-R -u -b 200M", 8192.0)?;
    near("outbound UDP", "-u -b 200M", 4096.0)?;
    let shown = lan.daemon.ok(&["domiftune", "t-bw", "bw0"])?;
    ensure_eq!(
        shown,
        "inbound.average: 8192\ninbound.peak   : 0\ninbound.burst  : 0\ninbound.floor  : 0\noutbound.average: 4096\n\
         outbound.peak  : 0\noutbound.burst : 128\n\n",
        "what is shown"
    );
    // Other limits while it runs; those of the definition stay.
    lan.daemon.ok(&["domiftune", "t-bw", "bw0", "--inbound", "2048", "--outbound", "0", "--live"])?;
    near("inbound TCP, less", "-R", 2048.0)?;
    ensure!(measure_for(&lan, "-t 1")? > 20.0 * 1048576.0, "outbound is still limited");
    let kept = lan.daemon.ok(&["domiftune", "t-bw", "bw0", "--config"])?;
    ensure!(kept.contains("inbound.average: 8192\n"), "the definition: {kept}");
    lan.daemon.ok(&["domiftune", "t-bw", "bw0", "--inbound", "0", "--live"])?;
    ensure!(measure_for(&lan, "-t 1 -R")? > 20.0 * 1048576.0, "inbound is still limited");
    lan.daemon.ok(&["domiftune", "t-bw", "bw0", "--outbound", "1024,2048,64", "--live", "--config"])?;
    near("outbound TCP, again", "", 1024.0)?;
    lan.daemon.ok(&["destroy", "t-bw"])?;
    lan.nothing_left("t-bw", &before)?;
    let kept = lan.daemon.ok(&["domiftune", "t-bw", "bw0"])?;
    ensure!(kept.contains("outbound.peak  : 2048\noutbound.burst : 64\n"), "the definition: {kept}");
    Ok(())
}

fn missing() -> Outcome {
    parent()?;
    let lan = Lan::new()?;
    let refused = |interface: &str, message: &str, hint: &str| -> Outcome {
        lan.define("t-miss", &format!("{}{interface}", bridged(2, "")))?;
        let before = lan.traces("t-miss");
        let error = lan.daemon.virsh(&["start", "t-miss"])?.fails()?;
        ensure!(error.contains(message), "not '{message}' but {error}");
        ensure!(error.contains(hint), "not the hint '{hint}' but {error}");
        lan.nothing_left("t-miss", &before)
    };
    refused(
        "<interface type='bridge'><source bridge='br9'/></interface>",
        "step 'links': cannot add interface to bridge 'br9': No such device",
        "hint: make it, or correct the <source> of the <interface>: see ip link",
    )?;
    refused(
        "<interface type='bridge'><source bridge='tout0'/></interface>",
        "cannot add interface to bridge 'tout0': it is not a bridge",
        "",
    )?;
    refused(
        "<interface type='direct'><source dev='eno9' mode='bridge'/></interface>",
        "cannot make a macvlan of 'eno9': No such device",
        "hint: make it",
    )?;
    for mode in ["bridge", "passthrough"] {
        refused(
            &direct(4, mode, "<mtu size='9000'/>"),
            "cannot make a macvlan of 'tpar0': its packets are not as large as the mtu 9000",
            "",
        )?;
    }
    refused(
        "<interface type='bridge'><source bridge='tbr0'/><target dev='tout0'/></interface>",
        "cannot make the interface 'tout0': File exists",
        "hint: another one has this name: leave out <target>, or choose another",
    )?;
    // Where it is installed its daemon does not run, and says that itself.
    let installed = run("which ovs-vsctl").is_ok();
    refused(
        "<interface type='bridge'><source bridge='tbr0'/><virtualport type='openvswitch'/></interface>",
        if installed { "cannot add interface to the switch 'tbr0'" } else { "ovs-vsctl is not installed" },
        "",
    )?;
    refused(
        "<interface type='network'><source network='no-such'/></interface>",
        "cannot take a port of the network 'no-such': network 'no-such' not found",
        "",
    )?;
    ensure_eq!(links(), ["lo", "tout0", "tpar0", "tbr0"], "what the host has");
    Ok(())
}

fn addresses() -> Outcome {
    let lan = Lan::new()?;
    let plain = "<interface type='bridge'><source bridge='tbr0'/></interface>";
    lan.define("t-mac", plain)?;
    let mac = |inactive: &[&str]| -> Result<String, String> {
        let words: Vec<&str> = ["domiflist", "t-mac"].into_iter().chain(inactive.iter().copied()).collect();
        let text = lan.daemon.ok(&words)?;
        text.split_whitespace().find(|w| w.starts_with("52:54:00:")).map(str::to_owned).ok_or(text)
    };
    let first = mac(&[])?;
    lan.define("t-mac", plain)?;
    ensure_eq!(mac(&[])?, first, "the address after a definition without one");
    lan.daemon.ok(&["start", "t-mac"])?;
    ensure_eq!(mac(&[])?, first, "the address of what runs");
    ensure!(lan.inside("t-mac", "ip link show eth0")?.contains(&first), "the address inside");
    lan.define("t-mac", plain)?;
    ensure_eq!(mac(&["--inactive"])?, first, "the address after a definition while it runs");
    lan.daemon.ok(&["destroy", "t-mac"]).map(drop)
}

/// A switch that writes down what it is told.
const SWITCH: &str = "#!/bin/sh
echo \"$@\" >> WORK/asked
case \"$*\" in *add-port*broken*) echo 'ovs-vsctl: no bridge named broken' >&2; exit 1;; esac
case \"$*\" in *'get Interface'*) cat WORK/owner;; esac
";

fn switch() -> Outcome {
    let mut daemon = Daemon::start()?;
    let work = tempfile::tempdir().map_err(|e| e.to_string())?;
    let _tool = Tool::new("ovs-vsctl", &SWITCH.replace("WORK", &work.path().display().to_string()))?;
    daemon.set_environment(&[("PATH", &Tool::path())]);
    daemon.restart()?;
    let lan = Lan { daemon };
    let asked = |work: &Path| -> Result<Vec<String>, String> {
        let text = std::fs::read_to_string(work.join("asked")).map_err(|e| e.to_string())?;
        std::fs::remove_file(work.join("asked")).map_err(|e| e.to_string())?;
        Ok(text.lines().map(str::to_owned).collect())
    };
    let port = |bridge: &str| {
        format!(
            "<interface type='bridge'><source bridge='{bridge}'/><mac address='52:54:00:77:00:09'/><target dev='tovs0'/>
             <vlan><tag id='9'/></vlan><virtualport type='openvswitch'><parameters interfaceid='0-1'/></virtualport>
             </interface>"
        )
    };
    lan.define("t-ovs", &port("broken"))?;
    let before = lan.traces("t-ovs");
    let error = lan.daemon.virsh(&["start", "t-ovs"])?.fails()?;
    ensure!(
        error.contains("cannot add interface to the switch 'broken': ovs-vsctl: no bridge named broken"),
        "{error}"
    );
    lan.nothing_left("t-ovs", &before)?;
    asked(work.path())?;
    lan.start("t-ovs", &port("ovs0"))?;
    let uuid = lan.daemon.ok(&["domuuid", "t-ovs"])?;
    ensure_eq!(
        asked(work.path())?,
        [format!(
            "--timeout=5 -- --if-exists del-port tovs0 -- add-port ovs0 tovs0 tag=9 -- set Interface tovs0 \
             external-ids:attached-mac=\"52:54:00:77:00:09\" external-ids:vm-id=\"{}\" \
             external-ids:iface-status=\"active\" external-ids:iface-id=\"0-1\"",
            uuid.trim()
        )],
        "what the switch was told"
    );
    ensure_eq!(ipv6("tovs0", "disable_ipv6")?, "1", "IPv6 is off");
    let question = "--timeout=5 --if-exists get Interface tovs0 external-ids:attached-mac";
    let owner = work.path().join("owner");
    for (mac, told) in [
        ("52:54:00:77:00:09", &[question, "--timeout=5 -- --if-exists del-port tovs0"][..]),
        // A port of the same name that somebody has made since stays.
        ("52:54:00:77:00:0a", &[question]),
    ] {
        if !lan.daemon.ok(&["domstate", "t-ovs"])?.starts_with("running") {
            lan.daemon.ok(&["start", "t-ovs"])?;
            asked(work.path())?;
        }
        std::fs::write(&owner, format!("\"{mac}\"\n")).map_err(|e| e.to_string())?;
        lan.daemon.ok(&["destroy", "t-ovs"])?;
        ensure_eq!(asked(work.path())?, told, "what the switch was told at the end, with {mac}");
    }
    lan.nothing_left("t-ovs", &before)
}
