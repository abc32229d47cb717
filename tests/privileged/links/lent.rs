//! Interfaces of the host that a container has for a while: what root inside does to them does not stay.

use std::fs;
use std::time::Duration;

use berth_tests::daemon::domain_xml;
use berth_tests::host::{in_own_network, ip, run};
use berth_tests::lab::Machine;
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Lan;

pub const TESTS: &[Test] = &[
    ("lent::an_interface_comes_back_as_it_was", || in_own_network(settings)),
    ("lent::an_interface_has_another_name_inside", || in_own_network(renamed)),
    ("lent::a_reboot_from_inside_forgets_nothing", || in_own_network(reboot)),
    ("lent::names_that_others_have_on_the_host_lose_nothing", || in_own_network(names)),
    ("lent::no_other_interface_comes_back_in_its_place", || in_own_network(impostor)),
    ("lent::the_other_end_may_be_anywhere", || in_own_network(elsewhere)),
    ("lent::namespaces_of_the_container_keep_nothing", || in_own_network(nested)),
    ("lent::addresses_and_routes_come_back", || in_own_network(addressing)),
    ("lent::a_source_of_ipv6_is_the_same_afterwards", || in_own_network(sources)),
    ("lent::routes_of_all_kinds_and_of_others_come_back", || in_own_network(routes)),
    ("lent::the_secret_of_its_addresses_comes_back", || in_own_network(secret)),
    ("lent::qdiscs_that_do_not_come_back_are_said", || in_own_network(qdiscs)),
    ("lent::who_has_an_interface_is_named", || in_own_network(of_another)),
    ("lent::a_killed_controller_loses_nothing", || in_own_network(killed)),
    ("lent::a_controller_that_stands_still_loses_nothing", || in_own_network(still)),
    ("lent::a_controller_killed_on_the_way_back_loses_nothing", || in_own_network(killed_at_the_end)),
    ("lent::a_daemon_killed_during_a_change_loses_nothing", || in_own_network(killed_changing)),
    ("lent::guests_exchange_interfaces", || in_own_network(exchanged)),
    ("lent::what_cannot_be_given_back_is_said", || in_own_network(taken)),
    ("lent::the_end_of_another_domain_is_nobody_elses", || in_own_network(end_of_another)),
];

/// A pair of the host, of which "hd0" is to be lent, with settings of its own.
fn pair() -> Outcome {
    ip("link add hd0 type veth peer name hdp")?;
    ip("link set hdp up")?;
    ip("link set hd0 mtu 1400 txqueuelen 777 address 4e:8d:00:00:00:01 alias mynic group 5 allmulticast on")?;
    ip("link set hd0 gso_max_size 30000")?;
    ip("link property add dev hd0 altname hd-of-the-host")?;
    Ok(())
}

/// What an interface of the host is, but for its number and how its packets wait.
pub(super) fn settings_of(name: &str) -> Result<String, String> {
    let text = ip(&format!("-d -o link show dev {name}"))?;
    let text =
        text.split_once(": ").map_or(text.as_str(), |(_, rest)| rest).replace("qdisc noqueue", "qdisc noop");
    Ok(text.trim().to_owned())
}

fn element(name: &str) -> String {
    format!(
        "<hostdev mode='capabilities' type='net'><source><interface>{name}</interface></source></hostdev>"
    )
}

fn log(lan: &Lan, name: &str) -> String {
    fs::read_to_string(lan.daemon.root().join(format!("var/log/berth/{name}.log"))).unwrap_or_default()
}

/// All that root inside may do to an interface.
fn spoil(lan: &Lan, name: &str) -> Outcome {
    let inside = |line: &str| lan.inside(name, line);
    inside("ip link add top link hd0 type macvlan")?;
    inside("ip link set hd0 mtu 1300 address 02:00:00:00:00:66 txqueuelen 5 alias bad group 7")?;
    inside("ip link set hd0 gso_max_size 20000 gso_max_segs 7")?;
    inside("ip link set hd0 allmulticast off promisc on multicast off arp off")?;
    inside("ip link property add dev hd0 altname hdp")?;
    inside("ip link property del dev hd0 altname hd-of-the-host")?;
    // More than fits into most answers.
    for group in 0..10 {
        let names: String = (0..40).map(|n| format!(" altname {}-{group}-{n}", "long".repeat(28))).collect();
        inside(&format!("ip link property add dev hd0{names}"))?;
    }
    inside("tc qdisc add dev hd0 clsact")?;
    inside("ip link set hd0 down")?;
    inside("ip link set hd0 name innocent").map(drop)
}

fn settings() -> Outcome {
    let lan = Lan::new()?;
    pair()?;
    let before = settings_of("hd0")?;
    lan.start("t-lent", &element("hd0"))?;
    spoil(&lan, "t-lent")?;
    lan.daemon.ok(&["destroy", "t-lent"])?;
    ensure_eq!(settings_of("hd0")?, before, "after destroy: {}", log(&lan, "t-lent"));
    let programs = run("tc qdisc show dev hd0")?;
    ensure!(!programs.contains("clsact"), "what the container has attached to it: {programs}");
    // The same while the container goes on.
    lan.daemon.ok(&["start", "t-lent"])?;
    spoil(&lan, "t-lent")?;
    lan.plug("detach-device", "t-lent", &element("hd0"), &["--live"])?.ok()?;
    ensure_eq!(settings_of("hd0")?, before, "after detach-device: {}", log(&lan, "t-lent"));
    let left = lan.inside("t-lent", "ip -o link")?;
    ensure!(!left.contains("top@"), "something is still on top of it: {left}");
    lan.plug("attach-device", "t-lent", &element("hd0"), &["--live"])?.ok()?;
    lan.inside("t-lent", "ip link add br8 type bridge")?;
    lan.inside("t-lent", "ip link set hd0 master br8")?;
    lan.inside("t-lent", "ip link set hd0 address 02:00:00:00:00:67")?;
    lan.plug("detach-device", "t-lent", &element("hd0"), &["--live"])?.ok()?;
    ensure_eq!(settings_of("hd0")?, before, "out of a bridge: {}", log(&lan, "t-lent"));
    ensure_eq!(log(&lan, "t-lent").trim(), "", "the log");
    Ok(())
}

/// The daemon that destroys the domain has never had an answer of its controller.
fn still() -> Outcome {
    let mut lan = Lan::new()?;
    pair()?;
    let before = settings_of("hd0")?;
    lan.start("t-lent", &element("hd0"))?;
    let controller = lan.daemon.pid_of("t-lent", "id")?;
    lan.daemon.kill();
    kill(Pid::from_raw(controller), Signal::SIGSTOP).map_err(|e| e.to_string())?;
    lan.daemon.launch()?;
    lan.daemon.ok(&["destroy", "t-lent"])?;
    ensure_eq!(settings_of("hd0")?, before, "after destroy: {}", log(&lan, "t-lent"));
    Ok(())
}

/// A name inside that the document gives, and the host's own at every end; also of one that only its name tells.
fn renamed() -> Outcome {
    let mut lan = Lan::new()?;
    pair()?;
    ip("link add hd1 link hdp type macvlan")?;
    ip("link set hd1 mtu 1234")?;
    let all = || Ok::<_, String>((settings_of("hd0")?, settings_of("hd1")?));
    let before: Result<_, String> = all();
    ensure!(before.is_ok(), "{before:?}");
    let named = |name: &str, guest: &str| {
        element(name).replace("</hostdev>", &format!("<guest dev='{guest}'/></hostdev>"))
    };
    // The made one has the first name that is free.
    let both = format!("{}{}{}", named("hd0", "eth0"), named("hd1", "wan"), super::bridged(3, ""));
    lan.define("t-lguest", &both)?;
    let is_inside = |lan: &Lan, names: &[&str]| -> Outcome {
        let links = lan.inside("t-lguest", "ip -o link")?;
        let mut found: Vec<&str> =
            links.lines().filter_map(|l| l.split([':', '@']).nth(1)).map(str::trim).collect();
        found.retain(|name| *name != "lo");
        found.sort_unstable();
        ensure_eq!(found, names, "inside: {links}");
        Ok(())
    };
    for how in ["destroy", "kill -9", "with another daemon, kill -9"] {
        lan.daemon.ok(&["start", "t-lguest"])?;
        is_inside(&lan, &["eth0", "eth1", "wan"])?;
        let live = lan.daemon.ok(&["dumpxml", "t-lguest"])?;
        ensure!(live.contains("<guest dev='wan'/>"), "{live}");
        if how == "destroy" {
            lan.daemon.ok(&["destroy", "t-lguest"])?;
        } else {
            if how.starts_with("with") {
                lan.daemon.kill();
                lan.daemon.launch()?;
            }
            run(&format!("kill -9 {}", lan.daemon.pid_of("t-lguest", "id")?))?;
            lan.daemon.wait_state("t-lguest", "shut off (crashed)", 5)?;
        }
        ensure_eq!(all(), before, "{how}: {:?}", warnings(&lan));
    }
    // Plugged, with another name, and unplugged by what it is on the host.
    lan.start("t-lguest", "")?;
    lan.plug("attach-device", "t-lguest", &named("hd1", "wan"), &["--live"])?.ok()?;
    is_inside(&lan, &["wan"])?;
    lan.plug("update-device", "t-lguest", &named("hd1", "dmz"), &["--live"])?.ok()?;
    is_inside(&lan, &["dmz"])?;
    lan.plug("detach-device", "t-lguest", &element("hd1"), &["--live"])?.ok()?;
    ensure_eq!(all(), before, "unplugged: {:?}", warnings(&lan));
    // The last name is what counts when nobody but the daemon is there.
    lan.plug("attach-device", "t-lguest", &named("hd1", "wan"), &["--live"])?.ok()?;
    lan.plug("update-device", "t-lguest", &named("hd1", "dmz"), &["--live"])?.ok()?;
    run(&format!("kill -9 {}", lan.daemon.pid_of("t-lguest", "id")?))?;
    lan.daemon.wait_state("t-lguest", "shut off (crashed)", 5)?;
    ensure_eq!(all(), before, "killed after an update: {:?} {}", warnings(&lan), log(&lan, "t-lguest"));
    // What is called so inside already is said.
    lan.start("t-lguest", "")?;
    lan.inside("t-lguest", "ip link add own0 type bridge")?;
    let error = lan.plug("attach-device", "t-lguest", &named("hd1", "own0"), &["--live"])?.fails()?;
    ensure!(error.contains("File exists"), "{error}");
    ensure_eq!(all(), before, "after a plug that failed: {}", log(&lan, "t-lguest"));
    ensure_eq!(warnings(&lan), Vec::<String>::new(), "the log");
    Ok(())
}

fn reboot() -> Outcome {
    let lan = Lan::new()?;
    pair()?;
    let before = settings_of("hd0")?;
    let script = "test -e /tmp/again && exec sleep 1000; touch /tmp/again
        ip link set hd0 down; ip link set hd0 mtu 1300; ip link set hd0 address 02:00:00:00:00:66; reboot -f";
    lan.define_with("t-lagain", &["/bin/sh", "-c", script], &element("hd0"))?;
    lan.daemon.ok(&["start", "t-lagain"])?;
    wait_for("the second run", 10, || {
        let events = lan.inside("t-lagain", "ip -o link show dev hd0").ok()?;
        (events.contains("mtu 1300") && events.contains(",UP")).then_some(())
    })?;
    lan.daemon.ok(&["destroy", "t-lagain"])?;
    ensure_eq!(settings_of("hd0")?, before, "after destroy");
    Ok(())
}

fn names() -> Outcome {
    let lan = Lan::new()?;
    pair()?;
    let before = settings_of("hd0")?;
    for command in ["destroy", "detach-device"] {
        lan.start("t-lname", &element("hd0"))?;
        ip("link add hd0 type bridge")?;
        ip("link property add dev hd0 altname hd-of-the-host")?;
        ip("link property add dev hd0 altname hd0-1")?;
        if command == "destroy" {
            lan.daemon.ok(&["destroy", "t-lname"])?;
        } else {
            lan.plug("detach-device", "t-lname", &element("hd0"), &["--live"])?.ok()?;
        }
        let text = settings_of("hd0-2")?;
        ensure!(text.contains("mtu 1400") && text.contains("4e:8d:00:00:00:01"), "{text}");
        let said = log(&lan, "t-lname") + &lan.daemon.log();
        for line in [
            "the interface 'hd0' is the host's again as 'hd0-2'",
            "the interface 'hd0-2' has not got its name 'hd-of-the-host' again",
        ] {
            ensure!(said.contains(line), "'{line}' is not said after {command}: {said}");
        }
        ip("link del hd0")?;
        ip("link set hd0-2 name hd0")?;
        ip("link property add dev hd0 altname hd-of-the-host")?;
        ensure_eq!(settings_of("hd0")?, before, "by hand");
    }
    // An update gives it back and takes it again, whatever it is called meanwhile.
    lan.daemon.ok(&["destroy", "t-lname"])?;
    lan.start("t-lname", &element("hd0"))?;
    ip("link add hd0 type bridge")?;
    let address =
        element("hd0").replace("</hostdev>", "<ip address='192.0.2.5' family='ipv4' prefix='25'/></hostdev>");
    lan.plug("update-device", "t-lname", &address, &["--live"])?.ok()?;
    let inside = lan.inside("t-lname", "ip -o addr show dev hd0")?;
    ensure!(inside.contains("192.0.2.5/25"), "{inside}");
    lan.daemon.ok(&["destroy", "t-lname"])?;
    ensure!(settings_of("hd0-1")?.contains("mtu 1400"), "it is not back");
    Ok(())
}

/// Another interface that root inside has made, in the place of the one that it has moved on.
fn impostor() -> Outcome {
    let lan = Lan::new()?;
    pair()?;
    lan.start("t-limp", &element("hd0"))?;
    let text = lan.inside("t-limp", "ip -o link show dev hd0")?;
    let index = text.split(':').next().unwrap_or_default();
    let other = Machine::new()?;
    lan.inside("t-limp", &format!("ip link set hd0 netns {}", other.pid()))?;
    lan.inside("t-limp", &format!("ip link add hd0 index {index} type veth peer name spy"))?;
    lan.plug("detach-device", "t-limp", &element("hd0"), &["--live"])?.ok()?;
    ensure!(ip("link show dev hd0").is_err(), "an interface of the container is the host's");
    let said = log(&lan, "t-limp");
    ensure!(said.contains("the interface 'hd0' is not in the container's network any more"), "{said}");
    ip("link del hdp")?;
    lan.inside("t-limp", "ip link del hd0")?;
    // What has its name on the host by now is not meant, and what is gone can be detached.
    pair()?;
    lan.plug("attach-device", "t-limp", &element("hd0"), &["--live"])?.ok()?;
    lan.inside("t-limp", "ip link del hd0")?;
    pair()?;
    let address =
        element("hd0").replace("</hostdev>", "<ip address='192.0.2.5' family='ipv4' prefix='25'/></hostdev>");
    let error = lan.plug("update-device", "t-limp", &address, &["--live"])?.fails()?;
    ensure!(error.contains("it is not in the container's network any more"), "{error}");
    lan.plug("detach-device", "t-limp", &element("hd0"), &["--live"])?.ok()?;
    settings_of("hd0").map(drop)
}

/// The other end is in a third network namespace, as for each daemon that is in a container itself, and its number there is
/// that of another pair here.
fn elsewhere() -> Outcome {
    let lan = Lan::new()?;
    let far = Machine::new()?;
    let (index, here) = (4747, nix::unistd::gettid());
    run(&format!(
        "nsenter -t {} -n ip link add far index {index} type veth peer name hd0 netns {here}",
        far.pid()
    ))?;
    ip("link set hd0 mtu 1400 address 4e:8d:00:00:00:01")?;
    let before = settings_of("hd0")?;
    ip(&format!("link add by0 index {index} type veth peer name by1 netns {}", far.pid()))?;
    for command in ["destroy", "detach-device"] {
        lan.start("t-lelse", &element("hd0"))?;
        // Kernels before 6.2 rename only what is down.
        lan.inside("t-lelse", "ip link set hd0 down")?;
        lan.inside("t-lelse", "ip link set hd0 name innocent")?;
        if command == "destroy" {
            lan.daemon.ok(&["destroy", "t-lelse"])?;
        } else {
            lan.plug("detach-device", "t-lelse", &element("hd0"), &["--live"])?.ok()?;
        }
        ensure_eq!(settings_of("hd0")?, before, "after {command}: {}", log(&lan, "t-lelse"));
    }
    // What root inside puts in its place is not the host's, wherever the other end of that is.
    let other = Machine::new()?;
    for place in [String::new(), format!(" netns {}", other.pid())] {
        lan.plug("attach-device", "t-lelse", &element("hd0"), &["--live"])?.ok()?;
        let text = lan.inside("t-lelse", "ip -o link show dev hd0")?;
        let own = text.split(':').next().unwrap_or_default();
        lan.inside("t-lelse", &format!("ip link set hd0 netns {}", other.pid()))?;
        lan.inside("t-lelse", &format!("ip link add hd0 index {own} type veth peer name spy{place}"))?;
        lan.plug("detach-device", "t-lelse", &element("hd0"), &["--live"])?.ok()?;
        ensure!(ip("link show dev hd0").is_err(), "an interface of the container is the host's: {place}");
        lan.inside("t-lelse", "ip link del hd0")?;
        run(&format!("nsenter -t {} -n ip link set hd0 netns {here}", other.pid()))?;
    }
    lan.daemon.ok(&["destroy", "t-lelse"])?;
    ensure_eq!(lan.daemon.log().matches("is gone with").count(), 2, "the log: {}", lan.daemon.log());
    Ok(())
}

fn end_of_another() -> Outcome {
    let lan = Lan::new()?;
    let end = "<interface type='bridge'><source bridge='tbr0'/><target dev='endof1'/></interface>";
    lan.start("t-lend1", end)?;
    lan.start("t-lend2", "")?;
    let message = "'endof1': it is the end on the host of one of the running domain 't-lend1'";
    let error = lan.plug("attach-device", "t-lend2", &element("endof1"), &["--live"])?.fails()?;
    ensure!(error.contains(message), "plugged: {error}");
    lan.define_with("t-lend3", &["/bin/sleep", "1000"], &element("endof1"))?;
    let error = lan.daemon.virsh(&["start", "t-lend3"])?.fails()?;
    ensure!(error.contains(message), "started: {error}");
    ensure!(ip("-o link show dev endof1")?.contains("master tbr0"), "the end is no more where it was");
    // Afterwards it is not there at all.
    lan.daemon.ok(&["destroy", "t-lend1"])?;
    let error = lan.daemon.virsh(&["start", "t-lend3"])?.fails()?;
    ensure!(!error.contains(message), "{error}");
    Ok(())
}

fn of_another() -> Outcome {
    let lan = Lan::new()?;
    pair()?;
    lan.start("t-lhas1", &element("hd0"))?;
    lan.start("t-lhas2", "")?;
    let message = "'hd0': the running domain 't-lhas1' has it";
    let error = lan.plug("attach-device", "t-lhas2", &element("hd0"), &["--live"])?.fails()?;
    ensure!(error.contains(message), "plugged: {error}");
    lan.define_with("t-lhas3", &["/bin/sleep", "1000"], &element("hd0"))?;
    let error = lan.daemon.virsh(&["start", "t-lhas3"])?.fails()?;
    ensure!(error.contains(message), "started: {error}");
    // Another one that the host has by that name is nobody's.
    ip("link add hd0 type veth peer name hdq")?;
    lan.daemon.ok(&["start", "t-lhas3"]).map(drop)
}

fn nested() -> Outcome {
    let lan = Lan::new()?;
    pair()?;
    let before = settings_of("hd0")?;
    let script = "unshare -n sleep 1000 & exec sleep 1000";
    let root = lan.daemon.busybox("t-lnest")?;
    let xml = domain_xml("t-lnest", &root, &["/bin/sh", "-c", script], &element("hd0"));
    lan.daemon.define("t-lnest", &xml)?;
    for command in ["destroy", "detach-device"] {
        lan.daemon.ok(&["start", "t-lnest"])?;
        let init = lan.daemon.pid_of("t-lnest", "initPid")?;
        let space = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let child = wait_for("a network inside", 10, || {
            let children = fs::read_to_string(format!("/proc/{init}/task/{init}/children")).ok()?;
            let child = children.split_whitespace().next()?.to_owned();
            (space(&child)? != space(&init.to_string())?).then_some(child)
        })?;
        lan.inside("t-lnest", &format!("ip link set hd0 netns {child}"))?;
        run(&format!("nsenter -t {child} -n ip link set hd0 name deep mtu 1200"))?;
        if command == "destroy" {
            lan.daemon.ok(&["destroy", "t-lnest"])?;
        } else {
            lan.plug("detach-device", "t-lnest", &element("hd0"), &["--live"])?.ok()?;
        }
        ensure_eq!(settings_of("hd0")?, before, "after {command}: {}", log(&lan, "t-lnest"));
    }
    lan.daemon.ok(&["destroy", "t-lnest"])?;
    ensure_eq!(log(&lan, "t-lnest").trim(), "", "the log");
    Ok(())
}

/// Gives the pair what a host has on an interface.
fn furnish() -> Outcome {
    for line in [
        "link set hd0 up",
        "addr add 198.51.100.7/24 dev hd0",
        "addr add 198.51.100.8/24 dev hd0",
        "addr add 10.9.9.1 peer 10.9.9.2 dev hd0",
        "addr add 2001:db8:7::7/64 dev hd0 nodad",
        // One that a DHCP client has asked for is left to that.
        "addr add 203.0.113.9/24 dev hd0 valid_lft 5000 preferred_lft 5000",
        "route add 192.0.2.0/24 via 198.51.100.1 dev hd0 metric 77 mtu 1300",
        "route add 203.0.113.128/25 dev hd0 src 198.51.100.8",
        "route add 192.0.3.0/24 via 198.51.100.1 dev hd0 table 77",
        "route append 192.0.3.0/24 via 198.51.100.2 dev hd0 table 77",
        "route append 192.0.2.0/24 via 198.51.100.3 dev hd0 metric 77",
        "-6 route add 2001:db8:8::/48 via 2001:db8:7::1 dev hd0",
    ] {
        ip(line)?;
    }
    run("sysctl -qw net.ipv4.conf.hd0.arp_ignore=2 net.ipv6.conf.hd0.accept_ra=0").map(drop)
}

/// All addresses and routes of an interface that last, and switches.
pub(super) fn addressing_of(name: &str) -> Result<String, String> {
    let mut all = Vec::new();
    for line in [
        format!("-o addr show dev {name} permanent scope global"),
        format!("route show dev {name} table all proto boot"),
        format!("-6 route show dev {name} table all proto boot"),
    ] {
        let mut lines: Vec<String> = ip(&line)?
            .lines()
            // Numbers of interfaces, and the carrier, which takes a moment.
            .map(|l| l.split_once(": ").map_or(l, |(_, rest)| rest).replace(" linkdown", ""))
            .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        lines.sort();
        all.extend(lines);
    }
    all.push(run(&format!("sysctl -n net.ipv4.conf.{name}.arp_ignore net.ipv6.conf.{name}.accept_ra"))?);
    all.push(ip(&format!("-o link show dev {name} up"))?.contains(",UP").to_string());
    Ok(all.join("\n"))
}

/// What the daemon has said about interfaces.
fn warnings(lan: &Lan) -> Vec<String> {
    lan.daemon.log().lines().filter(|l| l.contains("interface 'hd0")).map(str::to_owned).collect()
}

fn addressing() -> Outcome {
    let mut lan = Lan::new()?;
    pair()?;
    furnish()?;
    let before = addressing_of("hd0")?;
    for expected in
        ["198.51.100.8/24", "peer 10.9.9.2", "192.0.2.0/24", "table 77", "2001:db8:8::/48", "true"]
    {
        ensure!(before.contains(expected), "'{expected}' is not there at first: {before}");
    }
    let same = |what: &str| -> Outcome {
        ensure_eq!(addressing_of("hd0")?, before, "{what}");
        ensure!(!ip("addr show dev hd0")?.contains("203.0.113.9"), "{what}: what a DHCP client had");
        Ok(())
    };
    lan.start("t-laddr", &element("hd0"))?;
    spoil(&lan, "t-laddr")?;
    lan.daemon.ok(&["destroy", "t-laddr"])?;
    same("after destroy")?;
    // By another daemon.
    lan.daemon.ok(&["start", "t-laddr"])?;
    lan.daemon.kill();
    lan.daemon.launch()?;
    lan.plug("detach-device", "t-laddr", &element("hd0"), &["--live"])?.ok()?;
    same("after detach-device")?;
    lan.plug("attach-device", "t-laddr", &element("hd0"), &["--live"])?.ok()?;
    let address =
        element("hd0").replace("</hostdev>", "<ip address='192.0.2.5' family='ipv4' prefix='25'/></hostdev>");
    lan.plug("update-device", "t-laddr", &address, &["--live"])?.ok()?;
    // It ends while there is no daemon.
    let pid = lan.daemon.pid_of("t-laddr", "id")?;
    lan.daemon.kill();
    run(&format!("kill -TERM {pid}"))?;
    wait_for("the end", 10, || (!berth_tests::host::alive(pid)).then_some(()))?;
    lan.daemon.launch()?;
    wait_for("the addresses", 5, || same("after an end without a daemon").ok())?;
    // A start that fails, and a plug.
    let root = lan.daemon.work().join("t-laddr.root");
    lan.daemon.define("t-laddr", &domain_xml("t-laddr", &root, &["/no-such-init"], &element("hd0")))?;
    lan.daemon.virsh(&["start", "t-laddr"])?.fails()?;
    same("after a start that failed")?;
    lan.start("t-laddr", "")?;
    let wrong = "<route family='ipv4' address='0.0.0.0' prefix='0' gateway='203.0.113.200'/></hostdev>";
    let wrong = element("hd0").replace("</hostdev>", wrong);
    lan.plug("attach-device", "t-laddr", &wrong, &["--live"])?.fails()?;
    same("after a plug that failed")?;
    lan.daemon.ok(&["destroy", "t-laddr"])?;
    ensure_eq!(warnings(&lan), Vec::<String>::new(), "the log");
    let known = lan.daemon.root().join("run/berth/borrowed");
    let left = fs::read_dir(known).map_err(|e| e.to_string())?.count();
    ensure_eq!(left, 0, "what is known of interfaces that are lent");
    Ok(())
}

/// What the host says from, and a route that names an address.
fn sources() -> Outcome {
    let lan = Lan::new()?;
    pair()?;
    ip("link set hd0 up")?;
    for n in [1, 2, 3] {
        ip(&format!("addr add 2001:db8:2::{n}/64 dev hd0"))?;
    }
    let settled =
        || ip("-6 addr show dev hd0 tentative").is_ok_and(|text| text.trim().is_empty()).then_some(());
    wait_for("the end of the search for duplicates", 10, settled)?;
    ip("-6 route add default via 2001:db8:2::ff dev hd0 src 2001:db8:2::1")?;
    let told = || -> Result<[String; 3], String> {
        // In the order of the kernel.
        let addresses: Vec<String> = ip("-o -6 addr show dev hd0 scope global")?
            .lines()
            .map(|l| l.split_whitespace().skip(3).collect::<Vec<_>>().join(" "))
            .collect();
        let source = ip("-6 route get 2001:db8:2::99")?;
        let source = source.split(" src ").nth(1).unwrap_or_default().to_owned();
        Ok([addresses.join("\n"), source, ip("-6 route show default")?])
    };
    let before = told()?;
    ensure!(before[0].contains("2001:db8:2::3/64") && before[2].contains("src 2001:db8:2::1"), "{before:?}");
    lan.define("t-lsrc", &element("hd0"))?;
    for time in 1..=2 {
        lan.daemon.ok(&["start", "t-lsrc"])?;
        lan.daemon.ok(&["destroy", "t-lsrc"])?;
        ensure_eq!(told()?, before, "after lending it {time} times");
    }
    ensure_eq!(warnings(&lan), Vec::<String>::new(), "the log");
    Ok(())
}

fn routes() -> Outcome {
    let lan = Lan::new()?;
    pair()?;
    furnish()?;
    ip("link add other type veth peer name otherp")?;
    ip("link set other up")?;
    ip("link set otherp up")?;
    ip("addr add 192.0.4.1/24 dev other")?;
    ip("addr add 2001:db8:4::1/64 dev other nodad")?;
    for line in [
        "route add local 10.77.0.0/16 dev hd0 table 77",
        "route add local 10.76.0.0/16 dev hd0 table local",
        "route add broadcast 10.78.0.255 dev hd0 table 77",
        "route add multicast 239.1.0.0/16 dev hd0 table 77",
        "-6 route add multicast ff05::/16 dev hd0 table 77",
        "-6 route add anycast 2001:db8:9::/128 dev hd0 table 77",
        "-6 route add local 2001:db8:a::/48 dev hd0 table 77",
        "route add 192.0.5.0/24 via 192.0.4.9 dev other src 198.51.100.7",
        "route add 192.0.6.0/24 via 192.0.4.9 dev other",
        "-6 route add 2001:db8:5::/48 via 2001:db8:4::9 dev other src 2001:db8:7::7",
        "-6 route add 2001:db8:6::/48 via 2001:db8:4::9 dev other",
    ] {
        ip(line)?;
    }
    let told = || -> Result<String, String> {
        let mut all = Vec::new();
        for line in ["route show table all proto boot", "-6 route show table all proto boot"] {
            let text = ip(line)?.replace(" linkdown", "");
            all.extend(text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
        all.sort();
        Ok(all.join("\n"))
    };
    let before = told()?;
    lan.define("t-lroute", &element("hd0"))?;
    for time in 1..=2 {
        lan.daemon.ok(&["start", "t-lroute"])?;
        ensure!(!told()?.contains("src 198.51.100.7"), "the kernel has not removed what it should");
        lan.daemon.ok(&["destroy", "t-lroute"])?;
        ensure_eq!(told()?, before, "after lending it {time} times: {:?}", warnings(&lan));
    }
    ensure_eq!(warnings(&lan), Vec::<String>::new(), "the log");
    Ok(())
}

fn secret() -> Outcome {
    let lan = Lan::new()?;
    pair()?;
    let secret = "2001:0db8:0000:0000:0123:4567:89ab:cdef";
    let told = || run("sysctl -n net.ipv6.conf.hd0.stable_secret net.ipv6.conf.hd0.addr_gen_mode");
    lan.define("t-lsecret", &element("hd0"))?;
    for mode in [2, 0] {
        run(&format!(
            "sysctl -qw net.ipv6.conf.hd0.stable_secret={secret} net.ipv6.conf.hd0.addr_gen_mode={mode}"
        ))?;
        let before = told()?;
        ensure!(before.contains(secret) && before.contains(&format!("\n{mode}")), "{before}");
        lan.daemon.ok(&["start", "t-lsecret"])?;
        lan.daemon.ok(&["destroy", "t-lsecret"])?;
        ensure_eq!(told()?, before, "with mode {mode}");
    }
    let said = lan.daemon.log();
    ensure!(!said.contains("cdef") && !said.contains("addr_gen_mode"), "the log: {said}");
    Ok(())
}

fn qdiscs() -> Outcome {
    let lan = Lan::new()?;
    pair()?;
    lan.define("t-lqdisc", &element("hd0"))?;
    let mut lines = Vec::new();
    for (qdisc, what) in [
        ("", None),
        ("root pfifo_fast", None),
        ("clsact", Some("'clsact'")),
        ("root tbf rate 1mbit burst 10k latency 50ms", Some("'tbf'")),
        ("handle ffff: ingress", Some("'ingress'")),
    ] {
        if !qdisc.is_empty() {
            run(&format!("tc qdisc add dev hd0 {qdisc}"))?;
        }
        lan.daemon.ok(&["start", "t-lqdisc"])?;
        lan.daemon.ok(&["destroy", "t-lqdisc"])?;
        lines.extend(what.map(|what| format!("the interface 'hd0' will come back without its {what} (see")));
        let said = warnings(&lan);
        ensure_eq!(said.len(), lines.len(), "{qdisc}: {said:?}");
        ensure!(said.iter().zip(&lines).all(|(said, line)| said.contains(line)), "{qdisc}: {said:?}");
    }
    Ok(())
}

fn killed() -> Outcome {
    let mut lan = Lan::new()?;
    pair()?;
    furnish()?;
    let (before, settings) = (addressing_of("hd0")?, settings_of("hd0")?);
    lan.define("t-lkill", &element("hd0"))?;
    for restarted in [false, true] {
        for plugged in [false, true] {
            let what = format!("the daemon restarted: {restarted}, plugged: {plugged}");
            if plugged {
                lan.define("t-lkill", "")?;
            }
            lan.daemon.ok(&["start", "t-lkill"])?;
            if plugged {
                lan.plug("attach-device", "t-lkill", &element("hd0"), &["--live"])?.ok()?;
            }
            spoil(&lan, "t-lkill")?;
            if restarted {
                lan.daemon.kill();
                lan.daemon.launch()?;
            }
            run(&format!("kill -9 {}", lan.daemon.pid_of("t-lkill", "id")?))?;
            lan.daemon.wait_state("t-lkill", "shut off (crashed)", 5)?;
            ensure_eq!(addressing_of("hd0")?, before, "{what}");
            ensure_eq!(settings_of("hd0")?, settings, "{what}");
            lan.define("t-lkill", &element("hd0"))?;
        }
    }
    ensure_eq!(warnings(&lan), Vec::<String>::new(), "the log");
    Ok(())
}

/// One that only its name tells, and one of a pair with addresses: the daemon is killed at each step of a change, and
/// afterwards the controller.
fn killed_changing() -> Outcome {
    let mut lan = Lan::new()?;
    pair()?;
    furnish()?;
    ip("link add hd1 link hdp type macvlan")?;
    ip("link set hd1 mtu 1234")?;
    let all = || Ok::<_, String>((settings_of("hd0")?, addressing_of("hd0")?, settings_of("hd1")?));
    let before: Result<_, String> = all();
    ensure!(before.is_ok(), "{before:?}");
    let named = |name: &str, guest: &str| {
        element(name).replace(
            "</hostdev>",
            &format!("<guest dev='{guest}'/><ip address='192.0.2.5' family='ipv4' prefix='25'/></hostdev>"),
        )
    };
    let again = |lan: &mut Lan, step: Option<&str>| -> Outcome {
        lan.daemon.kill();
        let environment: Vec<(&str, &str)> = step.iter().map(|s| ("BERTH_KILL_AT", *s)).collect();
        lan.daemon.set_environment(&environment);
        lan.daemon.launch()
    };
    lan.define("t-lchange", "")?;
    for name in ["hd0", "hd1"] {
        for command in ["attach-device", "update-device", "detach-device"] {
            for step in ["plugging", "plug-asked", "plugged"] {
                let what = format!("{command} of {name}, killed at '{step}'");
                lan.daemon.ok(&["start", "t-lchange"])?;
                if command != "attach-device" {
                    lan.plug("attach-device", "t-lchange", &named(name, "wan"), &["--live"])?.ok()?;
                }
                again(&mut lan, Some(&format!("daemon:{step}")))?;
                let guest = if command == "update-device" { "dmz" } else { "wan" };
                let printed = lan.plug(command, "t-lchange", &named(name, guest), &["--live"])?;
                ensure!(printed.status != 0, "not killed: {what}");
                lan.daemon.wait_dead(5)?;
                again(&mut lan, None)?;
                let live = lan.daemon.ok(&["dumpxml", "t-lchange"])?.contains(&format!("{name}</interface>"));
                ensure_eq!(live, ip(&format!("link show dev {name}")).is_err(), "{what}: the document");
                run(&format!("kill -9 {}", lan.daemon.pid_of("t-lchange", "id")?))?;
                lan.daemon.wait_state("t-lchange", "shut off (crashed)", 5)?;
                ensure_eq!(all(), before, "{what}: {:?} {}", warnings(&lan), log(&lan, "t-lchange"));
            }
        }
    }
    ensure_eq!(warnings(&lan), Vec::<String>::new(), "the log");
    let known = lan.daemon.root().join("run/berth/borrowed");
    let left = fs::read_dir(known).map_err(|e| e.to_string())?.count();
    ensure_eq!(left, 0, "what is known of interfaces that are lent");
    Ok(())
}

/// Two guests that run give each other their interfaces; one is paused and destroyed, the other restarted from inside and
/// killed, and each interface is what it was. Other interfaces with limits, addresses and routes stand beside them.
fn exchanged() -> Outcome {
    let mut lan = Lan::new()?;
    pair()?;
    furnish()?;
    ip("link add he0 type veth peer name hep")?;
    ip("link set hep up")?;
    ip("link set he0 mtu 1280 up")?;
    ip("addr add 192.0.7.1/24 dev he0")?;
    ip("route add 192.0.8.0/24 via 192.0.7.9 dev he0")?;
    let all = || {
        let settings = (settings_of("hd0")?, settings_of("he0")?);
        Ok::<_, String>((settings, addressing_of("hd0")?, addressing_of("he0")?))
    };
    let before: Result<_, String> = all();
    ensure!(before.is_ok(), "{before:?}");
    let named = |name: &str, number: u8| {
        let inner = format!(
            "<guest dev='lan'/><ip address='203.0.113.{number}' family='ipv4' prefix='24'/>
             <route family='ipv4' address='0.0.0.0' prefix='0' gateway='203.0.113.254'/></hostdev>"
        );
        element(name).replace("</hostdev>", &inner)
    };
    let limits = "<bandwidth><inbound average='4096'/><outbound average='4096'/></bandwidth>";
    for restarted in [false, true] {
        lan.start("t-lex1", &format!("{}{}", named("hd0", 1), super::bridged(2, limits)))?;
        lan.start("t-lex2", &format!("{}{}", named("he0", 2), super::bridged(3, limits)))?;
        for name in ["t-lex1", "t-lex2"] {
            lan.inside(name, "ip link set lan down")?;
            lan.inside(name, "ip link set lan mtu 1290 name odd")?;
        }
        if restarted {
            lan.daemon.kill();
            lan.daemon.launch()?;
        }
        lan.plug("detach-device", "t-lex1", &named("hd0", 1), &["--live"])?.ok()?;
        lan.plug("detach-device", "t-lex2", &named("he0", 2), &["--live"])?.ok()?;
        ensure_eq!(all(), before, "between, restarted: {restarted}: {:?}", warnings(&lan));
        lan.plug("attach-device", "t-lex1", &named("he0", 1), &["--live"])?.ok()?;
        lan.plug("attach-device", "t-lex2", &named("hd0", 2), &["--live"])?.ok()?;
        if restarted {
            lan.daemon.kill();
            lan.daemon.launch()?;
        }
        lan.inside("t-lex1", "ip link set lan down")?;
        lan.inside("t-lex1", "ip link set lan name hd0")?;
        lan.daemon.ok(&["suspend", "t-lex1"])?;
        lan.daemon.ok(&["destroy", "t-lex1"])?;
        ensure_eq!(settings_of("he0")?, before.clone()?.0.1, "paused and destroyed: {:?}", warnings(&lan));
        run(&format!("kill -9 {}", lan.daemon.pid_of("t-lex2", "id")?))?;
        lan.daemon.wait_state("t-lex2", "shut off (crashed)", 5)?;
        ensure_eq!(all(), before, "at the end, restarted: {restarted}: {:?}", warnings(&lan));
    }
    ensure_eq!(warnings(&lan), Vec::<String>::new(), "the log");
    Ok(())
}

/// The controller is killed after init has ended: at all times up to its own end.
fn killed_at_the_end() -> Outcome {
    let lan = Lan::new()?;
    pair()?;
    let before = settings_of("hd0")?;
    lan.define("t-llast", &element("hd0"))?;
    for millis in 0..40 {
        lan.daemon.ok(&["start", "t-llast"])?;
        let (init, controller) =
            (lan.daemon.pid_of("t-llast", "initPid")?, lan.daemon.pid_of("t-llast", "id")?);
        let kill = |pid: i32| kill(Pid::from_raw(pid), Signal::SIGKILL);
        kill(init).map_err(|e| e.to_string())?;
        std::thread::sleep(Duration::from_millis(millis));
        // It may have come to its end.
        let _ = kill(controller);
        let off =
            || lan.daemon.ok(&["domstate", "t-llast"]).is_ok_and(|s| s.contains("shut off")).then_some(());
        wait_for("the end", 5, off)?;
        wait_for("the interface", 5, || settings_of("hd0").ok())?;
        ensure_eq!(settings_of("hd0")?, before, "killed after {millis} ms: {:?}", warnings(&lan));
    }
    ensure_eq!(warnings(&lan), Vec::<String>::new(), "the log");
    Ok(())
}

fn taken() -> Outcome {
    let mut lan = Lan::new()?;
    pair()?;
    furnish()?;
    lan.start("t-ltake", &element("hd0"))?;
    // The host has found another way meanwhile.
    ip("route add 192.0.2.0/24 dev tbr0 metric 77")?;
    lan.daemon.ok(&["destroy", "t-ltake"])?;
    let said = warnings(&lan).join("\n");
    let line = "the interface 'hd0' has not got its route to 192.0.2.0/24 by 198.51.100.1 again: File exists";
    ensure!(said.contains(line), "{said}");
    ensure!(ip("addr show dev hd0")?.contains("198.51.100.7/24"), "the addresses");
    // Nobody is there to save it.
    lan.daemon.ok(&["start", "t-ltake"])?;
    let pid = lan.daemon.pid_of("t-ltake", "id")?;
    lan.daemon.kill();
    run(&format!("kill -9 {pid}"))?;
    wait_for("the end of the pair", 10, || ip("link show dev hdp").is_err().then_some(()))?;
    pair()?;
    lan.daemon.launch()?;
    lan.daemon.wait_state("t-ltake", "shut off (crashed)", 5)?;
    ensure!(!ip("addr show dev hd0")?.contains("198.51.100.7/24"), "another interface has the addresses");
    let said = warnings(&lan).join("\n");
    ensure!(said.contains("the interface 'hd0' is gone with the container's network"), "{said}");
    Ok(())
}
