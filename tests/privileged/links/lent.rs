//! Interfaces of the host that a container has for a while: what root inside does to them does not stay.

use std::fs;

use berth_tests::daemon::domain_xml;
use berth_tests::host::{in_own_network, ip, run};
use berth_tests::lab::Machine;
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, wait_for};

use super::Lan;

pub const TESTS: &[Test] = &[
    ("lent::an_interface_comes_back_as_it_was", || in_own_network(settings)),
    ("lent::a_reboot_from_inside_forgets_nothing", || in_own_network(reboot)),
    ("lent::names_that_others_have_on_the_host_lose_nothing", || in_own_network(names)),
    ("lent::no_other_interface_comes_back_in_its_place", || in_own_network(impostor)),
    ("lent::namespaces_of_the_container_keep_nothing", || in_own_network(nested)),
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
fn settings_of(name: &str) -> Result<String, String> {
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
