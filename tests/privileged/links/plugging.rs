//! Interfaces that come, go and change while a container runs.

use berth_tests::host::{in_own_network, ip, links};
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, wait_for};

use super::{Lan, bridged, direct, parent};

pub const TESTS: &[Test] = &[
    ("links::every_type_comes_changes_and_goes", || in_own_network(kinds)),
    ("links::which_interface_goes_is_clear", || in_own_network(clear)),
    ("links::a_bridge_is_changed_under_a_container", || in_own_network(bridges)),
    ("links::what_came_is_there_after_a_reboot", || in_own_network(reboot)),
];

fn kinds() -> Outcome {
    parent()?;
    let lan = Lan::new()?;
    lan.define("t-plug", "")?;
    let before = lan.traces("t-plug");
    lan.daemon.ok(&["start", "t-plug"])?;
    let running = lan.traces("t-plug");
    let ethernet = "<interface type='ethernet'><mac address='52:54:00:79:00:02'/>
        <source><ip address='10.79.0.1' prefix='24'/></source><ip address='10.79.0.2' prefix='24'/></interface>";
    for (xml, address) in [
        (bridged(2, ""), "10.77.0.1"),
        (direct(2, "bridge", ""), "10.78.0.1"),
        (direct(2, "passthrough", ""), "10.78.0.1"),
        (ethernet.to_owned(), "10.79.0.1"),
    ] {
        lan.plug("attach-device", "t-plug", &xml, &["--live"])?.ok()?;
        ensure!(lan.reaches("t-plug", address), "{xml}: {address} is not reached");
        let error = lan.plug("attach-device", "t-plug", &xml, &["--live"])?.fails()?;
        ensure!(error.contains("already exists"), "{error}");
        // Down and up again; what else it is stays.
        let down = xml.replace("</interface>", "<link state='down'/></interface>");
        lan.plug("update-device", "t-plug", &down, &["--live"])?.ok()?;
        let state = lan.inside("t-plug", "ip -o link show dev eth0")?;
        ensure!(!state.contains("LOWER_UP"), "{xml}: it is up: {state}");
        lan.plug("update-device", "t-plug", &xml, &["--live"])?.ok()?;
        wait_for("the carrier", 5, || lan.reaches("t-plug", address).then_some(()))?;
        let other = xml.replace("</interface>", "<mtu size='1300'/></interface>");
        let error = lan.plug("update-device", "t-plug", &other, &["--live"])?.fails()?;
        ensure!(error.contains("cannot change the mtu of a running interface"), "{error}");
        lan.plug("detach-device", "t-plug", &xml, &["--live"])?.ok()?;
        ensure!(lan.inside("t-plug", "ip link show dev eth0").is_err(), "{xml}: it is still inside");
        ensure_eq!(lan.traces("t-plug").difference(&running), Vec::<String>::new(), "{xml}: what is left");
    }
    // What cannot come leaves nothing.
    lan.inside("t-plug", "ip link add own0 type bridge")?;
    let of_host = |name: &str| {
        format!(
            "<hostdev mode='capabilities' type='net'><source><interface>{name}</interface></source></hostdev>"
        )
    };
    let stays = "an interface of this kind cannot leave the host's network namespace: Invalid argument";
    let on_host =
        "<interface type='ethernet'><target dev='tpair'/><source><ip address='10.79.0.1' prefix='24'/>
        <route address='10.80.0.0' prefix='16' gateway='10.99.0.2'/></source></interface>";
    for (xml, message) in [
        (bridged(2, "").replace("tbr0", "tbr9"), "cannot add interface to bridge 'tbr9': No such device".to_owned()),
        (bridged(2, "<guest dev='lo'/>"), "no interface can be called 'lo'".to_owned()),
        // The container has made one of that name by itself.
        (bridged(2, "<guest dev='own0'/>"), "File exists".to_owned()),
        (
            bridged(2, "<route address='10.1.0.0' prefix='16' gateway='10.99.0.1'/>"),
            "cannot add the route '10.1.0.0/16 via 10.99.0.1' on 'eth0': Network is unreachable".into(),
        ),
        (
            on_host.to_owned(),
            "cannot add a route through 'tpair': to 10.80.0.0/16 by the gateway '10.99.0.2': Network is unreachable"
                .into(),
        ),
        (of_host("tbr0"), format!("cannot move the interface 'tbr0': {stays}")),
        (of_host("lo"), format!("cannot move the interface 'lo': {stays}")),
    ] {
        let error = lan.plug("attach-device", "t-plug", &xml, &["--live"])?.fails()?;
        ensure!(error.contains(&message), "{xml}: not '{message}' but {error}");
        ensure_eq!(lan.traces("t-plug").difference(&running), Vec::<String>::new(), "{xml}: what is left");
    }
    // One that is there when the container ends goes with it.
    lan.plug("attach-device", "t-plug", &bridged(2, ""), &["--live"])?.ok()?;
    lan.plug("attach-device", "t-plug", &direct(2, "bridge", ""), &["--live"])?.ok()?;
    lan.daemon.ok(&["destroy", "t-plug"])?;
    lan.nothing_left("t-plug", &before)
}

fn clear() -> Outcome {
    let lan = Lan::new()?;
    lan.start("t-det", "")?;
    let attach = |rest: &[&str]| -> Result<String, String> {
        let words = ["attach-interface", "t-det", "bridge", "tbr0", "--live", "--config"];
        lan.daemon.ok(&words.into_iter().chain(rest.iter().copied()).collect::<Vec<_>>())
    };
    let rates = ["--mac", "52:54:00:77:00:21", "--target", "tatt0", "--inbound", "1000,2000,100"];
    ensure_eq!(attach(&rates)?, "Interface attached successfully\n\n", "the answer");
    attach(&["--mac", "52:54:00:77:00:22"])?;
    let tune = lan.daemon.ok(&["domiftune", "t-det", "tatt0"])?;
    ensure!(
        tune.starts_with("inbound.average: 1000\ninbound.peak   : 2000\ninbound.burst  : 100\n"),
        "{tune}"
    );
    let plain = "<interface type='bridge'><source bridge='tbr0'/></interface>";
    let error = lan.plug("detach-device", "t-det", plain, &["--live"])?.fails()?;
    ensure!(error.contains("multiple matching network devices found"), "{error}");
    let error = lan.daemon.virsh(&["detach-interface", "t-det", "bridge"])?.fails()?;
    ensure!(
        error.contains("Domain has 2 interfaces. Please specify which one to detach using --mac"),
        "{error}"
    );
    let mac = ["detach-interface", "t-det", "bridge", "--mac", "52:54:00:77:00:22", "--live", "--config"];
    ensure_eq!(lan.daemon.ok(&mac)?, "Interface detached successfully\n\n", "the answer");
    ensure!(
        lan.inside("t-det", "ip -o link show dev eth0")?.contains("52:54:00:77:00:21"),
        "the wrong one is gone"
    );
    for inactive in [&[][..], &["--inactive"]] {
        let words: Vec<&str> = ["domiflist", "t-det"].into_iter().chain(inactive.iter().copied()).collect();
        let list = lan.daemon.ok(&words)?;
        ensure!(list.contains("77:00:21") && !list.contains("77:00:22"), "{list}");
    }
    lan.daemon.ok(&["detach-interface", "t-det", "bridge", "--persistent"])?;
    ensure!(lan.inside("t-det", "ip link show dev eth0").is_err(), "it is still inside");
    ensure_eq!(links(), ["lo", "tbr0"], "what the host has");
    lan.daemon.ok(&["destroy", "t-det"]).map(drop)
}

fn bridges() -> Outcome {
    let lan = Lan::new()?;
    ip("link add tbr1 type bridge")?;
    ip("addr add 10.88.0.9/24 dev tbr1")?;
    ip("link set tbr1 up")?;
    let both = bridged(2, "<ip address='10.88.0.2' prefix='24'/>");
    lan.start("t-br", &both)?;
    ensure!(lan.reaches("t-br", "10.77.0.1"), "the first bridge is not reached");
    let other = both.replace("tbr0", "tbr1");
    lan.plug("update-device", "t-br", &other, &["--live", "--config"])?.ok()?;
    wait_for("the second bridge", 5, || lan.reaches("t-br", "10.88.0.9").then_some(()))?;
    ensure!(lan.does_not_reach("t-br", "10.77.0.1"), "the first bridge is still reached");
    let missing = both.replace("tbr0", "tbr9");
    let error = lan.plug("update-device", "t-br", &missing, &["--live"])?.fails()?;
    ensure!(error.contains("cannot add interface to bridge 'tbr9': No such device"), "{error}");
    ensure!(lan.reaches("t-br", "10.88.0.9"), "a change that failed changed something");
    lan.daemon.ok(&["destroy", "t-br"]).map(drop)
}

fn reboot() -> Outcome {
    let lan = Lan::new()?;
    let script = "while [ ! -e /tmp/go ]; do sleep 0.05; done; rm /tmp/go; reboot -f";
    lan.define_with("t-boot", &["/bin/sh", "-c", script], &bridged(2, "<target dev='tboot0'/>"))?;
    let before = lan.traces("t-boot");
    lan.daemon.ok(&["start", "t-boot"])?;
    lan.plug("attach-device", "t-boot", &bridged(3, "<target dev='tboot1'/>"), &["--live"])?.ok()?;
    let number = || ip("-o link show dev tboot0").map(|t| t.split(':').next().map(str::to_owned));
    let first = number()?;
    for (round, before) in ["a reboot", "another one"].into_iter().enumerate() {
        let go = lan.daemon.work().join("t-boot.root/tmp/go");
        std::fs::write(&go, "").map_err(|e| e.to_string())?;
        wait_for(before, 10, || {
            let restarts = lan.daemon.status("t-boot").ok()?["restarts"].as_u64()?;
            (restarts > round as u64).then_some(())
        })?;
        ensure_eq!(number()?, first, "the link after {before}");
        for (dev, address) in [("eth0", "10.77.0.2/24"), ("eth1", "10.77.0.3/24")] {
            let text = lan.inside("t-boot", &format!("ip -o addr show dev {dev}"))?;
            ensure!(text.contains(address), "{before}: {text}");
        }
        ensure!(lan.reaches("t-boot", "10.77.0.1"), "the host is not reached after {before}");
    }
    lan.daemon.ok(&["destroy", "t-boot"])?;
    lan.nothing_left("t-boot", &before)
}
