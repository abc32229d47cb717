//! Virtual networks on hosts of their own: what is made and taken away, who reaches whom, and kills at every step.

pub mod forwards;
pub mod names;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use berth_tests::daemon::{Daemon, domain_xml};
use berth_tests::host::{Traces, alive, command_line, in_own_network, pids};
use berth_tests::lab::{self, Machine, outside, run};
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, roots, wait_for};

pub const TESTS: &[Test] = &[
    ("networks::come_and_go", || in_own_network(round)),
    ("networks::guests_get_out_and_nobody_gets_in", || in_own_network(nat)),
    ("networks::isolated_guests_have_each_other", || in_own_network(isolated)),
    ("networks::both_families_are_routed", || in_own_network(routed)),
    ("networks::what_cannot_be_started_leaves_nothing", || in_own_network(refused)),
    ("networks::daemon_killed_at_each_step", || in_own_network(daemon_killed)),
    ("networks::a_killed_dnsmasq_is_started_again", || in_own_network(server_killed)),
    ("networks::who_calls_itself_dnsmasq_is_not_it", || in_own_network(impostor)),
    ("networks::a_bridge_keeps_its_mtu", || in_own_network(mtu)),
    ("networks::a_name_of_a_bridge_can_be_a_template", || in_own_network(template)),
    ("networks::rules_that_cannot_be_removed_are_removed_later", || in_own_network(rules_left)),
    ("networks::a_guest_cannot_take_all_addresses", || in_own_network(starvation)),
    ("networks::guests_ask_only_in_their_own_names", || in_own_network(own_names)),
    ("networks::a_name_of_a_domain_can_be_its_own_before_it_asks", || in_own_network(names_kept)),
    ("networks::who_knows_its_guests_reads_its_files_again", || in_own_network(known_again)),
    ("networks::a_dnsmasq_that_ends_of_reading_is_back_at_once", || in_own_network(ended_of_reading)),
    ("networks::guests_that_are_gone_keep_no_address_from_others", || in_own_network(given_up)),
    ("networks::who_waits_for_an_address_gets_that_of_who_goes", || in_own_network(waiting)),
    ("networks::a_change_is_kept_or_not_made", || in_own_network(all_or_nothing)),
];

/// The steps of a start, and of an end.
const STARTING: &[&str] =
    &["network-noted", "network-bridge", "network-rules", "network-server", "network-started"];

/// Everything of networks on this host and under the folder of a test.
#[derive(Debug, PartialEq)]
struct Picture {
    traces: Traces,
    host: BTreeSet<String>,
}

impl Picture {
    fn take(daemon: &Daemon) -> Result<Self, String> {
        let mut host = BTreeSet::new();
        let lines = [
            run(&["ip", "-o", "link"])?,
            run(&["ip", "-o", "addr"])?,
            run(&["ip", "route", "show", "table", "all"])?,
            run(&["nft", "list", "ruleset"])?,
        ];
        for line in lines.concat().lines() {
            // How long something is still valid counts down.
            let line = line.split(" valid_lft ").next().unwrap_or_default().trim();
            // Numbers of links go up.
            let line =
                line.split_once(": ").filter(|(n, _)| n.parse::<u32>().is_ok()).map_or(line, |(_, l)| l);
            // A bridge notices only after a while that nobody is there.
            let line = ["linkdown", "NO-CARRIER,", "state DOWN", "state UNKNOWN", "state UP"]
                .into_iter()
                .fold(line.to_owned(), |line, word| line.replace(word, ""));
            host.insert(line.trim().to_owned());
        }
        host.extend(servers(daemon.work()).into_iter().map(|pid| format!("{:?}", command_line(pid))));
        Ok(Self { traces: Traces::of("t-none", daemon.work()), host })
    }

    fn same(daemon: &Daemon, before: &Self, when: &str) -> Outcome {
        let now = Self::take(daemon)?;
        // What guests were given is kept.
        let odd = now.traces.difference(&before.traces).into_iter().filter(|t| !t.ends_with(".leases"));
        ensure_eq!(odd.collect::<Vec<_>>(), Vec::<String>::new(), "{when}");
        ensure_eq!(now.host, before.host, "{when}");
        Ok(())
    }
}

/// The dnsmasq processes of the daemon under a folder.
fn servers(work: &Path) -> Vec<i32> {
    let work = work.to_string_lossy().into_owned();
    let ours = |pid: &i32| {
        let words = command_line(*pid);
        words.first().is_some_and(|w| w.ends_with("dnsmasq")) && words.iter().any(|w| w.contains(&work))
    };
    pids().into_iter().filter(ours).collect()
}

/// A machine with a cable into a bridge that has asked for an address.
struct Guest(Machine);

impl Guest {
    fn new(daemon: &Daemon, bridge: &str, name: &str) -> Result<Self, String> {
        Self::with(daemon, bridge, name, None)
    }

    /// One with a hardware address.
    fn with(daemon: &Daemon, bridge: &str, name: &str, mac: Option<&str>) -> Result<Self, String> {
        Self::asking(daemon, bridge, name, mac, "10")
    }

    /// One that gives up after as many tries of a second each.
    fn asking(
        daemon: &Daemon,
        bridge: &str,
        name: &str,
        mac: Option<&str>,
        tries: &str,
    ) -> Result<Self, String> {
        let machine = Machine::new()?;
        machine.cable(name, "eth0")?;
        if let Some(mac) = mac {
            machine.run(&["ip", "link", "set", "eth0", "address", mac])?;
        }
        run(&["ip", "link", "set", name, "master", bridge])?;
        let script = daemon.work().join("udhcpc");
        if !script.exists() {
            let text = "[ \"$1\" = bound ] || exit 0
                ip addr add $ip/$mask dev $interface
                [ -z \"$router\" ] || ip route add default via $router";
            roots::script(daemon.work(), "udhcpc", text)?;
        }
        let script = script.to_string_lossy().into_owned();
        let busybox = roots::busybox().ok_or("no busybox")?.to_string_lossy().into_owned();
        let hostname = format!("hostname:{name}");
        let words = [&busybox, "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", tries, "-T", "1"];
        machine.run(&[&words[..], &["-s", &script, "-x", &hostname]].concat())?;
        Ok(Self(machine))
    }

    /// Its address.
    fn address(&self) -> Result<String, String> {
        let text = self.0.run(&["ip", "-4", "-o", "addr", "show", "eth0"])?;
        let address = text.split_whitespace().nth(3).and_then(|a| a.split_once('/'));
        address.map(|(a, _)| a.to_owned()).ok_or_else(|| format!("no address in {text}"))
    }

    /// The address of a name, as the network's server tells it.
    fn looks_up(&self, name: &str, server: &str) -> Result<String, String> {
        let busybox = roots::busybox().ok_or("no busybox")?.to_string_lossy().into_owned();
        self.0.run(&[&busybox, "nslookup", "-type=a", name, server])
    }
}

fn define(daemon: &Daemon, name: &str, inner: &str) -> Outcome {
    let xml = format!("<network><name>{name}</name>{inner}</network>");
    let file = daemon.file(&format!("{name}.xml"), &xml)?;
    daemon.ok(&["net-define", &file]).map(drop)
}

/// In a network that knows its guests, one has one address, whatever it says that it is.
fn starvation() -> Outcome {
    let daemon = Daemon::start()?;
    let settings = "<metadata><b:settings xmlns:b='urn:berth:network:1'><b:dhcp guests='known'/></b:settings></metadata>";
    let inner = "<bridge name='few0'/><ip address='10.9.0.1' prefix='24'><dhcp>
        <range start='10.9.0.2' end='10.9.0.5'/></dhcp></ip>";
    define(&daemon, "few", &format!("{settings}{inner}"))?;
    daemon.ok(&["net-start", "few"])?;
    let interface = "<interface type='network'><source network='few'/></interface>";
    for name in ["t-bad", "t-good"] {
        let root = daemon.busybox(name)?;
        daemon.define(name, &domain_xml(name, &root, &["/bin/sleep", "1000"], interface))?;
        daemon.ok(&["start", name])?;
    }
    roots::script(daemon.work(), "udhcpc", "[ \"$1\" = bound ] && echo got $ip; true")?;
    let script = daemon.work().join("udhcpc").to_string_lossy().into_owned();
    let busybox = roots::busybox().ok_or("no busybox")?.to_string_lossy().into_owned();
    let asks = |name: &str, id: &str, tries: &str| -> Result<String, String> {
        let pid = daemon.pid_of(name, "initPid")?.to_string();
        let client =
            [&busybox, "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", tries, "-T", "1", "-s", &script];
        let id = format!("0x3d:{id}");
        let text = run(&[&["nsenter", "-t", &pid, "-n"], &client[..], &["-x", &id]].concat())?;
        let got = text.lines().find_map(|l| l.strip_prefix("got "));
        got.map(str::to_owned).ok_or_else(|| format!("no address: {text}"))
    };
    let own = asks("t-bad", "01aa", "10")?;
    for id in ["01bb", "01cc", "01dd", "01ee"] {
        ensure_eq!(asks("t-bad", id, "5")?, own, "the address of '{id}'");
    }
    let pid = daemon.pid_of("t-bad", "initPid")?.to_string();
    for n in 0..3 {
        let mac = format!("02:00:00:00:00:0{n}");
        run(&["nsenter", "-t", &pid, "-n", "ip", "link", "set", "eth0", "address", &mac])?;
        ensure!(asks("t-bad", "01ff", "2").is_err(), "'{mac}' gets an address");
    }
    let leases = daemon.ok(&["net-dhcp-leases", "few"])?;
    ensure_eq!(leases.matches("10.9.0.").count(), 1, "leases: {leases}");
    ensure!(asks("t-good", "01aa", "10")? != own, "two guests have one address");
    Ok(())
}

/// What a network is told while it runs reaches its dnsmasq, which goes on after it has given addresses to guests it knows.
fn known_again() -> Outcome {
    let daemon = Daemon::start()?;
    let settings = "<metadata><b:settings xmlns:b='urn:berth:network:1'><b:dhcp guests='known'/></b:settings></metadata>";
    let inner = "<bridge name='few0'/><ip address='10.9.0.1' prefix='24'><dhcp>
        <range start='10.9.0.2' end='10.9.0.9'/>
        <host mac='02:00:00:00:09:01' name='said'/><host name='named' ip='10.9.0.8'/></dhcp></ip>";
    define(&daemon, "few", &format!("{settings}{inner}"))?;
    daemon.ok(&["net-start", "few"])?;
    let guest = Guest::with(&daemon, "few0", "ga", Some("02:00:00:00:09:01"))?;
    guest.address()?;
    let server = servers(daemon.work());
    for (number, host) in ["h1", "h2", "h3"].into_iter().enumerate() {
        let xml = format!("<host ip='10.9.0.{}'><hostname>{host}</hostname></host>", 200 + number);
        daemon.ok(&["net-update", "few", "add", "dns-host", &xml, "--live"])?;
        wait_for("the new name", 5, || {
            let answer = guest.looks_up(host, "10.9.0.1");
            answer.is_ok_and(|t| t.contains(&format!("10.9.0.{}", 200 + number))).then_some(())
        })?;
        ensure_eq!(servers(daemon.work()), server, "the dnsmasq after '{host}'");
    }
    let is_refused = |name| Guest::asking(&daemon, "few0", name, None, "3").is_err();
    ensure!(is_refused("gb"), "who is not known gets an address");
    ensure!(is_refused("named"), "who says a name that is known gets an address");
    Guest::with(&daemon, "few0", "gc", Some("02:00:00:00:09:01"))?;
    ensure_eq!(servers(daemon.work()), server, "the dnsmasq at the end");
    daemon.ok(&["net-destroy", "few"]).map(drop)
}

/// The address that a domain gets by DHCP, if it does within as many tries of a second each.
fn asks(daemon: &Daemon, name: &str, tries: &str) -> Result<String, String> {
    roots::script(daemon.work(), "udhcpc", "[ \"$1\" = bound ] && echo got $ip; true")?;
    let script = daemon.work().join("udhcpc").to_string_lossy().into_owned();
    let busybox = roots::busybox().ok_or("no busybox")?.to_string_lossy().into_owned();
    let pid = daemon.pid_of(name, "initPid")?.to_string();
    let client = [&busybox, "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", tries, "-T", "1", "-s", &script];
    let text = run(&[&["nsenter", "-t", &pid, "-n"], &client[..]].concat())?;
    let got = text.lines().find_map(|l| l.strip_prefix("got "));
    got.map(str::to_owned).ok_or_else(|| format!("no address: {text}"))
}

/// More domains than addresses, all at once: those without one get it when others end, without any that starts.
fn waiting() -> Outcome {
    let daemon = Daemon::start()?;
    let inner = "<bridge name='few0'/><ip address='10.9.0.1' prefix='24'><dhcp>
        <range start='10.9.0.2' end='10.9.0.3'/></dhcp></ip>";
    define(&daemon, "few", inner)?;
    daemon.ok(&["net-start", "few"])?;
    let root = daemon.busybox("t-w")?;
    let interface = "<interface type='network'><source network='few'/></interface>";
    for name in ["t-w1", "t-w2", "t-w3", "t-w4"] {
        let xml = domain_xml(name, &root, &["/bin/sleep", "1000"], interface);
        daemon.ok(&["create", &daemon.file(&format!("{name}.xml"), &xml)?])?;
    }
    let had = [asks(&daemon, "t-w1", "8")?, asks(&daemon, "t-w2", "8")?];
    ensure!(asks(&daemon, "t-w3", "2").is_err(), "there is an address for three");
    daemon.ok(&["destroy", "t-w1"])?;
    ensure_eq!(asks(&daemon, "t-w3", "8")?, had[0].clone(), "the address of the first that went");
    daemon.ok(&["destroy", "t-w2"])?;
    ensure_eq!(asks(&daemon, "t-w4", "8")?, had[1].clone(), "the address of the second that went");
    daemon.ok(&["net-destroy", "few"]).map(drop)
}

/// More transient domains than addresses, one after the other; a defined one keeps its own meanwhile.
fn given_up() -> Outcome {
    let daemon = Daemon::start()?;
    let inner = "<bridge name='few0'/><ip address='10.9.0.1' prefix='24'><dhcp>
        <range start='10.9.0.2' end='10.9.0.4'/></dhcp></ip>";
    define(&daemon, "few", inner)?;
    daemon.ok(&["net-start", "few"])?;
    let asks = |name: &str| asks(&daemon, name, "8");
    let interface = "<interface type='network'><source network='few'/></interface>";
    let init = ["/bin/sleep", "1000"];
    let root = daemon.busybox("t-kept")?;
    daemon.define("t-kept", &domain_xml("t-kept", &root, &init, interface))?;
    daemon.ok(&["start", "t-kept"])?;
    let kept = asks("t-kept")?;
    daemon.ok(&["destroy", "t-kept"])?;
    for number in 1..=5 {
        let name = format!("t-gone{number}");
        let file = daemon.file(&format!("{name}.xml"), &domain_xml(&name, &root, &init, interface))?;
        daemon.ok(&["create", &file])?;
        let got = asks(&name).map_err(|e| format!("number {number}: {e}"))?;
        ensure!(got != kept, "number {number} has the address of the defined one");
        daemon.ok(&["destroy", &name])?;
    }
    daemon.ok(&["start", "t-kept"])?;
    ensure_eq!(asks("t-kept")?, kept, "the address of the defined one");
    Ok(())
}

/// Where names are those of known guests, nobody has that of a domain that runs and has no address yet.
fn names_kept() -> Outcome {
    let daemon = Daemon::start()?;
    let settings =
        "<metadata><b:settings xmlns:b='urn:berth:network:1'><b:dhcp names='known'/></b:settings></metadata>";
    let inner = "<bridge name='few0'/><ip address='10.9.0.1' prefix='24'><dhcp>
        <range start='10.9.0.2' end='10.9.0.9'/></dhcp></ip>";
    define(&daemon, "few", &format!("{settings}{inner}"))?;
    daemon.ok(&["net-start", "few"])?;
    let root = daemon.busybox("t-own")?;
    let interface = "<interface type='network'><source network='few'/></interface>";
    daemon.define("t-own", &domain_xml("t-own", &root, &["/bin/sleep", "1000"], interface))?;
    daemon.ok(&["start", "t-own"])?;
    let other = Guest::new(&daemon, "few0", "t-own")?;
    let theirs = other.address()?;
    let found = other.looks_up("t-own", "10.9.0.1").unwrap_or_default();
    ensure!(!found.contains(&theirs), "a stranger has the name: {found}");
    let own = asks(&daemon, "t-own", "8")?;
    ensure!(other.looks_up("t-own", "10.9.0.1")?.contains(&own), "the domain's own name");
    daemon.ok(&["net-destroy", "few"]).map(drop)
}

/// What a guest says by DHCP of another one's address: 4 that somebody else has it, 7 that it is given back.
fn says(daemon: &Daemon, from: &str, kind: u8, mac: &str, address: &str) -> Outcome {
    let pid = u32::try_from(daemon.pid_of(from, "initPid")?).map_err(|e| e.to_string())?;
    let octets = |text: &str| -> Result<[u8; 4], String> {
        Ok(text.parse::<std::net::Ipv4Addr>().map_err(|e| e.to_string())?.octets())
    };
    let (own, server) = (octets(address)?, octets("10.9.0.1")?);
    let mut message = vec![1, 1, 6, 0, 7, 7, 7, kind, 0, 0, 0, 0];
    message.extend(if kind == 7 { own } else { [0; 4] });
    message.extend([0; 12]);
    for octet in mac.split(':') {
        message.push(u8::from_str_radix(octet, 16).map_err(|e| e.to_string())?);
    }
    message.resize(236, 0);
    message.extend([99, 130, 83, 99, 53, 1, kind, 54, 4]);
    message.extend(server);
    if kind == 4 {
        message.extend([50, 4]);
        message.extend(own);
    }
    message.push(255);
    message.resize(300, 0);
    lab::inside(pid, move || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:68").map_err(|e| e.to_string())?;
        socket.send_to(&message, (std::net::Ipv4Addr::from(server), 67)).map(drop).map_err(|e| e.to_string())
    })
}

/// No guest gives back an address of another, nor says that it is in use: also after the rules were flushed, and by the
/// next daemon.
fn own_names() -> Outcome {
    let mut daemon = Daemon::start()?;
    let inner = "<bridge name='few0'/><ip address='10.9.0.1' prefix='24'><dhcp>
        <range start='10.9.0.2' end='10.9.0.9'/><host mac='52:54:00:77:00:01' ip='10.9.0.30'/></dhcp></ip>";
    define(&daemon, "few", inner)?;
    daemon.ok(&["net-start", "few"])?;
    let (good, bad) = ("52:54:00:77:00:01", "52:54:00:77:00:02");
    for (name, mac) in [("t-good", good), ("t-bad", bad)] {
        let root = daemon.busybox(name)?;
        let interface =
            format!("<interface type='network'><source network='few'/><mac address='{mac}'/></interface>");
        daemon.define(name, &domain_xml(name, &root, &["/bin/sleep", "1000"], &interface))?;
        daemon.ok(&["start", name])?;
        let pid = daemon.pid_of(name, "initPid")?.to_string();
        let last = &mac[mac.len() - 1..];
        run(&[
            "nsenter",
            "-t",
            &pid,
            "-n",
            "ip",
            "addr",
            "add",
            &format!("10.9.0.10{last}/24"),
            "dev",
            "eth0",
        ])?;
    }
    let guarded = || run(&["nft", "list", "table", "bridge", "berth-few0"]);
    let has_lease = |daemon: &Daemon, mac: &str| -> Result<bool, String> {
        Ok(daemon.ok(&["net-dhcp-leases", "few"])?.contains(mac))
    };
    for round in ["at first", "after a flush", "after a restart"] {
        match round {
            "after a flush" => drop(run(&["nft", "flush", "ruleset"])?),
            "after a restart" => {
                daemon.stop()?;
                run(&["nft", "flush", "ruleset"])?;
                daemon.launch()?;
            }
            _ => {}
        }
        let both = |text: &String| text.contains("0x525400770001") && text.contains("0x525400770002");
        wait_for("rules for both guests", 5, || guarded().ok().filter(both))
            .map_err(|e| format!("{e}: {:?}\n{}", guarded(), daemon.log()))?;
        ensure_eq!(asks(&daemon, "t-good", "8")?, "10.9.0.30".to_owned(), "{round}");
        for kind in [7, 4] {
            says(&daemon, "t-bad", kind, good, "10.9.0.30")?;
        }
        // Answered after what it said before.
        let own = asks(&daemon, "t-bad", "8")?;
        ensure!(has_lease(&daemon, good)?, "{round}: the lease was given back by another guest");
        ensure_eq!(asks(&daemon, "t-good", "8")?, "10.9.0.30".to_owned(), "{round}: its address afterwards");
        says(&daemon, "t-bad", 7, bad, &own)?;
        wait_for("the end of its own lease", 5, || {
            has_lease(&daemon, bad).is_ok_and(|has| !has).then_some(())
        })?;
        // What it calls itself by its hardware address is its own business, but for those of others.
        let pid = daemon.pid_of("t-bad", "initPid")?.to_string();
        for (mac, gets) in [("02:00:00:00:00:07", true), (good, false), (bad, true)] {
            run(&["nsenter", "-t", &pid, "-n", "ip", "link", "set", "eth0", "address", mac])?;
            ensure_eq!(asks(&daemon, "t-bad", "3").is_ok(), gets, "{round}: an address for '{mac}'");
        }
    }
    // What it says itself is heard.
    says(&daemon, "t-good", 4, good, "10.9.0.30")?;
    ensure!(asks(&daemon, "t-good", "8")? != "10.9.0.30", "it has the address that it said is in use");
    daemon.ok(&["destroy", "t-good", "t-bad"])?;
    wait_for("the end of the rules", 5, || guarded().is_err().then_some(()))?;
    daemon.ok(&["net-destroy", "few"]).map(drop)
}

/// An end that a change of ours has caused is no reason to wait, however often.
fn ended_of_reading() -> Outcome {
    let daemon = Daemon::start()?;
    daemon.ok(&["net-start", "default"])?;
    let began = std::time::Instant::now();
    for round in 1..=4_u8 {
        let xml = format!("<host ip='10.150.150.{}'><hostname>h{round}</hostname></host>", 200 + round);
        daemon.ok(&["net-update", "default", "add", "dns-host", &xml, "--live"])?;
        // One that is just starting is two processes: after the change it is not any more.
        let old = servers(daemon.work());
        run(&["kill", "-9", &old.iter().map(i32::to_string).collect::<String>()])?;
        wait_for(&format!("dnsmasq number {round}"), 5, || {
            let new = servers(daemon.work());
            (new.len() == 1 && new != old && alive(new[0])).then_some(())
        })?;
    }
    // Twice as long each time would be 0 + 1 + 2 + 4 s.
    ensure!(began.elapsed() < std::time::Duration::from_secs(6), "four times took {:?}", began.elapsed());
    daemon.ok(&["net-destroy", "default"]).map(drop)
}

fn round() -> Outcome {
    let daemon = Daemon::start()?;
    // A host has rules of its own, which stay as they are.
    run(&[
        "nft",
        "add table inet others; add chain inet others forward { type filter hook forward priority 5 ; }",
    ])?;
    let before = Picture::take(&daemon)?;
    let out = daemon.ok(&["net-list", "--all"])?;
    let row = " default   inactive   no          yes\n";
    ensure!(out.ends_with(&format!("{row}\n")), "{out}");
    for _ in 0..2 {
        ensure_eq!(daemon.ok(&["net-start", "default"])?, "Network default started\n\n".to_owned(), "start");
        ensure!(run(&["ip", "-o", "addr", "show", "berth0"])?.contains(" 10.150.150.1/24 "), "the address");
        ensure!(run(&["nft", "list", "tables"])?.contains("table inet berth-berth0"), "the rules");
        ensure_eq!(servers(daemon.work()).len(), 1, "dnsmasq processes");
        let again = daemon.virsh(&["net-start", "default"])?.fails()?;
        let expected = "error: Failed to start network default\n\
                        error: Requested operation is not valid: network is already active\n";
        ensure!(again.starts_with(expected), "{again}");
        ensure_eq!(
            daemon.ok(&["net-destroy", "default"])?,
            "Network default destroyed\n\n".to_owned(),
            "end"
        );
        Picture::same(&daemon, &before, "after the end")?;
    }
    Ok(())
}

fn nat() -> Outcome {
    let daemon = Daemon::start()?;
    let outside = outside("10.150.150.0/24")?;
    daemon.ok(&["net-start", "default"])?;
    let (a, b) = (Guest::new(&daemon, "berth0", "ga")?, Guest::new(&daemon, "berth0", "gb")?);
    let (at_a, at_b) = (a.address()?, b.address()?);
    let leases = daemon.ok(&["net-dhcp-leases", "default"])?;
    for (address, name) in [(&at_a, "ga"), (&at_b, "gb")] {
        let row = leases.lines().find(|l| l.contains(&format!(" {address}/24 ")));
        ensure!(row.is_some_and(|r| r.contains(&format!(" {name} "))), "'{name}' is not in {leases}");
    }
    ensure!(a.looks_up("gb", "10.150.150.1")?.contains(&at_b), "the name of the other one");
    b.0.answers(80, "b")?;
    ensure_eq!(a.0.hears(&format!("{at_b}:80"))?, format!("b {at_a}"), "a neighbour");
    ensure_eq!(
        a.0.hears("192.0.2.2:80")?,
        "outside 192.0.2.1".to_owned(),
        "the world, behind the host's address"
    );
    ensure!(outside.hears(&format!("{at_b}:80")).is_err(), "the world reaches a guest");
    ensure_eq!(lab::hears(&format!("{at_b}:80"))?, "b 10.150.150.1".to_owned(), "the host");
    // A range may have the host's own address in it: nobody is given that.
    let whole = "<bridge name='whole0'/><ip address='10.9.0.1' prefix='24'><dhcp>\
                 <range start='10.9.0.1' end='10.9.0.3'/></dhcp></ip>";
    define(&daemon, "whole", whole)?;
    daemon.ok(&["net-start", "whole"])?;
    let (first, second) = (Guest::new(&daemon, "whole0", "wa")?, Guest::new(&daemon, "whole0", "wb")?);
    let mut given = [first.address()?, second.address()?];
    given.sort();
    ensure_eq!(given, ["10.9.0.2".to_owned(), "10.9.0.3".to_owned()], "the addresses of the range");
    daemon.ok(&["net-destroy", "whole"])?;
    // A forwarded port, for which nothing is started again.
    let server = servers(daemon.work());
    let xml = daemon.ok(&["net-dumpxml", "default", "--inactive"])?;
    let forward = format!("<berth:forward host-port='8080' guest='{at_b}' port='80'/></berth:settings>");
    let file = daemon.file("forward.xml", &xml.replace("</berth:settings>", &forward))?;
    daemon.ok(&["net-destroy", "default"])?;
    daemon.ok(&["net-define", &file])?;
    daemon.ok(&["net-start", "default"])?;
    run(&["ip", "link", "set", "gb", "master", "berth0"])?;
    ensure!(servers(daemon.work()) != server, "the old dnsmasq");
    ensure_eq!(
        outside.hears("192.0.2.1:8080")?,
        "b 192.0.2.2".to_owned(),
        "the forwarded port from the world"
    );
    ensure!(lab::hears("127.0.0.1:8080")?.starts_with("b "), "the forwarded port from the host");
    ensure!(outside.hears(&format!("{at_b}:80")).is_err(), "the world reaches a guest beside the forward");
    daemon.ok(&["net-destroy", "default"]).map(drop)
}

fn isolated() -> Outcome {
    let daemon = Daemon::start()?;
    let outside = outside("10.7.0.0/24")?;
    run(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])?;
    let ip = "<bridge name='iso0'/><domain name='lab.test'/><ip address='10.7.0.1' prefix='24'><dhcp>\
              <range start='10.7.0.10' end='10.7.0.20'/></dhcp></ip>";
    define(&daemon, "iso", ip)?;
    daemon.ok(&["net-start", "iso"])?;
    let (a, b) = (Guest::new(&daemon, "iso0", "ga")?, Guest::new(&daemon, "iso0", "gb")?);
    let at_b = b.address()?;
    b.0.answers(80, "b")?;
    ensure!(a.0.hears(&format!("{at_b}:80"))?.starts_with("b "), "a neighbour");
    ensure!(a.looks_up("gb.lab.test", "10.7.0.1")?.contains(&at_b), "the name of the other one");
    ensure!(!a.0.run(&["ip", "route"])?.contains("default"), "there is a way out");
    a.0.run(&["ip", "route", "add", "default", "via", "10.7.0.1"])?;
    b.0.run(&["ip", "route", "add", "default", "via", "10.7.0.1"])?;
    ensure!(a.0.hears("192.0.2.2:80").is_err(), "a guest gets out");
    ensure!(outside.hears(&format!("{at_b}:80")).is_err(), "the world gets in");
    daemon.ok(&["net-destroy", "iso"]).map(drop)
}

fn routed() -> Outcome {
    let daemon = Daemon::start()?;
    let outside = outside("10.8.0.0/24")?;
    run(&["ip", "addr", "add", "2001:db8:1::1/64", "dev", "wan0", "nodad"])?;
    outside.run(&["ip", "addr", "add", "2001:db8:1::2/64", "dev", "eth0", "nodad"])?;
    outside.run(&["ip", "route", "add", "2001:db8:8::/64", "via", "2001:db8:1::1"])?;
    let inner = "<forward mode='route'/><bridge name='rou0'/><ip address='10.8.0.1' prefix='24'><dhcp>\
                 <range start='10.8.0.10' end='10.8.0.20'/></dhcp></ip>\
                 <ip family='ipv6' address='2001:db8:8::1' prefix='64'/>";
    define(&daemon, "rou", inner)?;
    daemon.ok(&["net-start", "rou"])?;
    let guest = Guest::new(&daemon, "rou0", "ga")?;
    let address = guest.address()?;
    guest.0.answers(80, "guest")?;
    ensure_eq!(outside.hears(&format!("{address}:80"))?, "guest 192.0.2.2".to_owned(), "in");
    ensure_eq!(guest.0.hears("192.0.2.2:80")?, format!("outside {address}"), "out, under its own address");
    // The guest makes its address of the prefix that it is told.
    wait_for("an address of IPv6 and a way out", 10, || {
        let addresses = guest.0.run(&["ip", "-6", "-o", "addr", "show", "eth0"]).ok()?;
        let routes = guest.0.run(&["ip", "-6", "route"]).ok()?;
        (addresses.contains("2001:db8:8:") && !addresses.contains("tentative") && routes.contains("default"))
            .then_some(())
    })?;
    guest.0.run(&["ping", "-6", "-c", "1", "-W", "2", "2001:db8:1::2"])?;
    daemon.ok(&["net-destroy", "rou"]).map(drop)
}

fn refused() -> Outcome {
    let daemon = Daemon::start()?;
    run(&["ip", "link", "add", "taken0", "type", "veth", "peer", "name", "taken1"])?;
    // Addresses that they make themselves come some time later.
    for end in ["taken0", "taken1"] {
        run(&["ip", "link", "set", end, "addrgenmode", "none"])?;
    }
    run(&["ip", "link", "set", "taken1", "up"])?;
    run(&["ip", "addr", "add", "10.9.0.1/24", "dev", "taken0"])?;
    run(&["ip", "link", "set", "taken0", "up"])?;
    let dhcp = |net: &str| {
        format!(
            "<ip address='{net}.1' prefix='24'><dhcp><range start='{net}.10' end='{net}.20'/></dhcp></ip>"
        )
    };
    define(&daemon, "name", &format!("<bridge name='taken0'/>{}", dhcp("10.11.0")))?;
    define(&daemon, "range", &format!("<bridge name='br9'/>{}", dhcp("10.9.0")))?;
    define(&daemon, "good", &format!("<forward/><bridge name='br10'/>{}", dhcp("10.10.0")))?;
    let before = Picture::take(&daemon)?;
    for (name, message) in [
        ("name", "the name 'taken0' is taken by an interface that is not of network 'name'"),
        ("range", "the addresses '10.9.0.1/24' of network 'range' are already in use by 'taken0'"),
    ] {
        let error = daemon.virsh(&["net-start", name])?.fails()?;
        ensure_eq!(error, format!("error: Failed to start network {name}\nerror: {message}\n"), "{name}");
        Picture::same(&daemon, &before, name)?;
    }
    // Without the programs.
    let mut daemon = daemon;
    let empty = daemon.work().join("empty");
    fs::create_dir(&empty).map_err(|e| e.to_string())?;
    daemon.kill();
    daemon.set_environment(&[("PATH", &empty.to_string_lossy())]);
    daemon.launch()?;
    let before = Picture::take(&daemon)?;
    let error = daemon.virsh(&["net-start", "good"])?.fails()?;
    let message = "network 'good' needs the program 'nft', which is not installed (package nftables)";
    ensure_eq!(error, format!("error: Failed to start network good\nerror: {message}\n"), "without nft");
    Picture::same(&daemon, &before, "without nft")
}

fn daemon_killed() -> Outcome {
    let mut daemon = Daemon::start()?;
    let inner = "<forward mode='nat'/><bridge name='kil0'/><ip address='10.12.0.1' prefix='24'><dhcp>\
                 <range start='10.12.0.10' end='10.12.0.20'/></dhcp></ip>";
    define(&daemon, "kil", inner)?;
    // One round first: switches of the kernel stay.
    daemon.ok(&["net-start", "kil"])?;
    let running = Picture::take(&daemon)?;
    daemon.ok(&["net-destroy", "kil"])?;
    let stopped = Picture::take(&daemon)?;
    for step in STARTING {
        daemon.kill();
        daemon.set_environment(&[("BERTH_KILL_AT", &format!("daemon:{step}"))]);
        daemon.launch()?;
        daemon.virsh(&["net-start", "kil"])?.fails()?;
        daemon.wait_dead(10).map_err(|e| format!("{step}: {e}"))?;
        daemon.set_environment(&[]);
        daemon.launch()?;
        if *step == "network-started" {
            Picture::same(&daemon, &running, step)?;
            daemon.ok(&["net-destroy", "kil"])?;
        }
        Picture::same(&daemon, &stopped, step)?;
    }
    daemon.kill();
    daemon.set_environment(&[("BERTH_KILL_AT", "daemon:network-stopping")]);
    daemon.launch()?;
    daemon.ok(&["net-start", "kil"])?;
    daemon.virsh(&["net-destroy", "kil"])?.fails()?;
    daemon.wait_dead(10)?;
    daemon.set_environment(&[]);
    daemon.launch()?;
    Picture::same(&daemon, &stopped, "network-stopping")?;
    // One that runs goes on, and so does its dnsmasq; what was taken away meanwhile is made again.
    daemon.ok(&["net-start", "kil"])?;
    let server = servers(daemon.work());
    daemon.restart()?;
    ensure_eq!(servers(daemon.work()), server, "dnsmasq after a restart");
    Picture::same(&daemon, &running, "a restart")?;
    daemon.kill();
    run(&["nft", "delete", "table", "inet", "berth-kil0"])?;
    run(&["kill", "-9", &server.iter().map(i32::to_string).collect::<String>()])?;
    daemon.launch()?;
    Picture::same(&daemon, &running, "a restart after a loss")?;
    daemon.ok(&["net-destroy", "kil"])?;
    Picture::same(&daemon, &stopped, "the end")
}

fn server_killed() -> Outcome {
    let daemon = Daemon::start()?;
    daemon.ok(&["net-start", "default"])?;
    let guest = Guest::new(&daemon, "berth0", "ga")?;
    let (address, leases) = (guest.address()?, daemon.ok(&["net-dhcp-leases", "default"])?);
    let old = servers(daemon.work());
    run(&["kill", "-9", &old.iter().map(i32::to_string).collect::<String>()])?;
    wait_for("another dnsmasq", 10, || {
        let new = servers(daemon.work());
        (new.len() == 1 && new != old && alive(new[0])).then_some(())
    })?;
    ensure_eq!(daemon.ok(&["net-dhcp-leases", "default"])?, leases, "leases");
    wait_for("an answer", 10, || {
        guest.looks_up("ga", "10.150.150.1").is_ok_and(|t| t.contains(&address)).then_some(())
    })?;
    ensure_eq!(servers(daemon.work()).len(), 1, "dnsmasq processes");
    daemon.ok(&["net-destroy", "default"]).map(drop)
}

fn mtu() -> Outcome {
    let mut daemon = Daemon::start()?;
    for (name, size) in [("big", 9000), ("usual", 1500), ("small", 1000)] {
        define(&daemon, name, &format!("<bridge name='{name}0'/><mtu size='{size}'/>"))?;
        daemon.ok(&["net-start", name])?;
        let bridge = format!("{name}0");
        let now = || -> Result<String, String> {
            let text = run(&["ip", "-o", "link", "show", &bridge])?;
            let size = text.split_whitespace().skip_while(|w| *w != "mtu").nth(1);
            Ok(size.unwrap_or_default().to_owned())
        };
        ensure_eq!(now()?, size.to_string(), "{name}");
        run(&["ip", "link", "add", "port0", "mtu", "1400", "type", "veth", "peer", "name", "port1"])?;
        run(&["ip", "link", "set", "port0", "master", &bridge])?;
        ensure_eq!(now()?, size.to_string(), "{name} with a port of 1400");
        run(&["ip", "link", "del", "port0"])?;
        ensure_eq!(now()?, size.to_string(), "{name} after that");
        // Another daemon finds it good, and makes the rest again.
        daemon.kill();
        run(&["nft", "flush", "ruleset"])?;
        daemon.launch()?;
        ensure!(run(&["nft", "list", "tables"])?.contains(&format!("berth-{name}0")), "{name}: no rules");
        ensure_eq!(now()?, size.to_string(), "{name} with another daemon");
        daemon.ok(&["net-destroy", name])?;
    }
    Ok(())
}

fn template() -> Outcome {
    let daemon = Daemon::start()?;
    run(&["ip", "link", "add", "vy1", "type", "veth", "peer", "name", "vy1p"])?;
    for (name, bridge) in [("one", "vy0"), ("two", "vy2")] {
        define(&daemon, name, "<bridge name='vy%d'/>")?;
        let xml = daemon.ok(&["net-dumpxml", name])?;
        ensure!(xml.contains(&format!("<bridge name='{bridge}' ")), "{xml}");
        daemon.ok(&["net-start", name])?;
        run(&["ip", "link", "show", bridge])?;
    }
    // Defined again, it stays what it is.
    let uuid = daemon.ok(&["net-uuid", "two"])?;
    define(&daemon, "two", &format!("<uuid>{}</uuid><bridge name='vy%d'/>", uuid.trim()))?;
    ensure!(daemon.ok(&["net-dumpxml", "two", "--inactive"])?.contains("'vy2'"), "another bridge");
    for name in ["one", "two"] {
        daemon.ok(&["net-destroy", name])?;
    }
    let left = run(&["ip", "-o", "link", "show", "type", "bridge"])?;
    ensure_eq!(left, "", "bridges that are left");
    Ok(())
}

/// A change of what runs and of the definition is one of both.
fn all_or_nothing() -> Outcome {
    let daemon = Daemon::start()?;
    define(&daemon, "whole", "<bridge name='who0'/><ip address='10.13.0.1' prefix='24'/>")?;
    daemon.ok(&["net-start", "whole"])?;
    let host = "<host ip='10.13.0.9'><hostname>nine</hostname></host>";
    let words = ["net-update", "whole", "add", "dns-host", host, "--live", "--config"];
    let busybox = roots::busybox().ok_or("no busybox")?.to_string_lossy().into_owned();
    let told = |what: &str, wanted: bool| -> Outcome {
        for kind in [&["net-dumpxml", "whole"][..], &["net-dumpxml", "whole", "--inactive"]] {
            ensure_eq!(daemon.ok(kind)?.contains("nine"), wanted, "{what}: {kind:?}");
        }
        let found = run(&[&busybox, "nslookup", "-type=a", "nine", "10.13.0.1"]);
        ensure_eq!(found.is_ok_and(|t| t.contains("10.13.0.9")), wanted, "{what}: the name");
        Ok(())
    };
    // Where the new document would be written is a folder.
    let hinder = daemon.root().join("etc/berth/networks/.whole.xml.new");
    fs::create_dir(&hinder).map_err(|e| e.to_string())?;
    let error = daemon.virsh(&words)?.fails()?;
    ensure!(error.contains(".whole.xml.new"), "{error}");
    told("a change that cannot be kept", false)?;
    fs::remove_dir(&hinder).map_err(|e| e.to_string())?;
    daemon.ok(&words)?;
    told("a change that can", true)?;
    daemon.ok(&["net-destroy", "whole"]).map(drop)
}

fn rules_left() -> Outcome {
    let mut daemon = Daemon::start()?;
    let programs = daemon.work().join("programs");
    fs::create_dir(&programs).map_err(|e| e.to_string())?;
    let has_table = || run(&["nft", "list", "tables"]).map(|t| t.contains("inet berth-berth0"));
    let lose = |daemon: &mut Daemon| -> Outcome {
        daemon.ok(&["net-start", "default"])?;
        daemon.kill();
        daemon.set_environment(&[("PATH", &programs.to_string_lossy())]);
        daemon.launch()?;
        let cannot = "error: Failed to destroy network default\n\
                      error: the rules of bridge 'berth0' (table 'inet berth-berth0') cannot be removed without the \
                      program 'nft', which is not installed (package nftables)\n";
        ensure_eq!(daemon.virsh(&["net-destroy", "default"])?.fails()?, cannot.to_owned(), "without nft");
        ensure!(has_table()?, "the table is gone without nft");
        let list = daemon.ok(&["net-list", "--all"])?;
        ensure!(list.contains(" default   inactive "), "it runs still: {list}");
        ensure!(run(&["ip", "link", "show", "berth0"]).is_err(), "the bridge is there still");
        // One that still has none keeps it in mind.
        daemon.restart()?;
        ensure!(has_table()?, "the table is gone without nft");
        Ok(())
    };
    lose(&mut daemon)?;
    daemon.kill();
    daemon.set_environment(&[]);
    daemon.launch()?;
    ensure!(!has_table()?, "the table is there after another start of the daemon");
    lose(&mut daemon)?;
    // Installed while the daemon runs: the next start of the network, on another bridge.
    for program in ["nft", "dnsmasq"] {
        let path = run(&["sh", "-c", &format!("PATH=$PATH:/usr/sbin:/sbin; command -v {program}")])?;
        std::os::unix::fs::symlink(path.trim(), programs.join(program)).map_err(|e| e.to_string())?;
    }
    let xml = daemon.ok(&["net-dumpxml", "default", "--inactive"])?;
    let file = daemon.file("other.xml", &xml.replace("'berth0'", "'berth7'"))?;
    daemon.ok(&["net-define", &file])?;
    daemon.ok(&["net-start", "default"])?;
    ensure!(!has_table()?, "the table is there after another start of the network");
    daemon.ok(&["net-destroy", "default"])?;
    ensure_eq!(run(&["nft", "list", "tables"])?, "", "tables at the end");
    Ok(())
}

/// What this program is called when it is to look like dnsmasq.
const IMPOSTOR: &str = "dnsmasq";

/// If this process is to look like dnsmasq, does so for ever.
pub fn pretend() {
    if std::env::args_os().next().is_some_and(|own| own == IMPOSTOR) {
        // Not longer than the test.
        let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
        loop {
            std::thread::park();
        }
    }
}

/// Everybody can see the arguments of dnsmasq, and give a process of theirs the same.
fn impostor() -> Outcome {
    use std::os::unix::process::CommandExt;
    let mut daemon = Daemon::start()?;
    let uuid = daemon.ok(&["net-uuid", "default"])?.trim().to_owned();
    let config = daemon.root().join(format!("run/berth/networks/{uuid}.conf"));
    let claim = format!("--conf-file={}", config.display());
    let mut crowd = Vec::new();
    for _ in 0..6 {
        let mut command = std::process::Command::new("/proc/self/exe");
        command.arg0(IMPOSTOR).arg(&claim);
        crowd.push(command.spawn().map_err(|e| format!("cannot run an impostor: {e}"))?);
    }
    wait_for("the impostors", 5, || (servers(daemon.work()).len() == crowd.len()).then_some(()))?;
    let real = |daemon: &Daemon| -> Vec<i32> {
        let is_it =
            |pid: &i32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("dnsmasq"));
        servers(daemon.work()).into_iter().filter(is_it).collect()
    };
    let seen = (|| {
        daemon.ok(&["net-start", "default"])?;
        ensure_eq!(real(&daemon).len(), 1, "dnsmasq processes");
        // One that ends is missed, and one that a daemon before has started is found again.
        let first = real(&daemon)[0];
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), nix::sys::signal::Signal::SIGKILL)
            .map_err(|e| e.to_string())?;
        // It becomes another process while it starts, and writes which one.
        let noted = || fs::read_to_string(config.with_extension("pid")).ok()?.trim().parse::<i32>().ok();
        let second = wait_for("another dnsmasq", 15, || {
            noted().filter(|pid| *pid != first && real(&daemon) == [*pid])
        })?;
        daemon.kill();
        daemon.launch()?;
        ensure_eq!(real(&daemon), vec![second], "the same dnsmasq");
        daemon.ok(&["net-destroy", "default"])?;
        ensure_eq!(real(&daemon), Vec::<i32>::new(), "dnsmasq processes that are left");
        ensure!(crowd.iter_mut().all(|c| matches!(c.try_wait(), Ok(None))), "others were ended");
        Ok(())
    })();
    for mut one in crowd {
        let _ = one.kill();
        let _ = one.wait();
    }
    seen
}
