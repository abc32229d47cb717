//! Limits and link states that are set one after the other, at the same time, and on top of those of a portgroup.

use std::process::Stdio;

use berth_tests::host::{in_own_network, run};
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq};

use super::{Lan, bridged};

pub const TESTS: &[Test] = &[
    ("links::a_limit_is_all_that_changes_in_a_definition", || in_own_network(own)),
    ("links::changes_of_one_interface_at_once_are_all_there", || in_own_network(at_once)),
    ("links::limits_of_a_portgroup_are_shown_and_stay_its_own", || in_own_network(portgroup)),
];

/// The lines of the first interface of a document.
fn interface(lan: &Lan, name: &str, options: &[&str]) -> Result<String, String> {
    let words: Vec<&str> = ["dumpxml", name].into_iter().chain(options.iter().copied()).collect();
    let text = lan.daemon.ok(&words)?;
    let found = text.split_once("<interface").and_then(|(_, rest)| rest.split_once("</interface>"));
    found.map(|(inside, _)| inside.to_owned()).ok_or_else(|| format!("no interface in {text}"))
}

fn own() -> Outcome {
    let lan = Lan::new()?;
    let rest = "<model type='virtio'/><target dev='own0'/><bandwidth><outbound average='300'/></bandwidth>";
    lan.start("t-own", &bridged(2, rest))?;
    let other = "<target dev='own0'/><link state='down'/>";
    lan.plug("update-device", "t-own", &bridged(2, other), &["--live"])?.ok()?;
    let set = ["domiftune", "t-own", "own0", "--inbound", "100", "--live", "--config"];
    ensure_eq!(lan.daemon.ok(&set)?, "\n", "the answer");
    let (live, kept) = (interface(&lan, "t-own", &[])?, interface(&lan, "t-own", &["--inactive"])?);
    let inbound = "<inbound average='100'/>";
    ensure!(live.contains(inbound) && kept.contains(inbound), "{live}{kept}");
    ensure!(
        live.contains("state='down'") && !live.contains("virtio") && !live.contains("outbound"),
        "{live}"
    );
    ensure!(!kept.contains("<link") && kept.contains("virtio"), "{kept}");
    ensure!(kept.contains("<outbound average='300'/>"), "{kept}");
    // Both or neither: one that only what runs has.
    lan.plug("attach-device", "t-own", &bridged(3, "<target dev='own1'/>"), &["--live"])?.ok()?;
    let both = ["domiftune", "t-own", "own1", "--inbound", "100", "--live", "--config"];
    let error = lan.daemon.virsh(&both)?.fails()?;
    ensure!(error.contains("Can't find device own1"), "{error}");
    ensure!(!run("tc qdisc show dev own1")?.contains("tbf"), "one of two was changed");
    // Nonsense changes nothing.
    for (limit, message) in [
        ("200,100", "inbound.peak 100 is below the average 200"),
        ("4294967296", "inbound rate larger than maximum 4294967295"),
    ] {
        let words = ["domiftune", "t-own", "own0", "--inbound", limit, "--live", "--config"];
        let error = lan.daemon.virsh(&words)?.fails()?;
        ensure!(error.contains(message), "{error}");
        ensure!(interface(&lan, "t-own", &[])?.contains(inbound), "{limit}: it changed");
    }
    lan.daemon.ok(&["domiftune", "t-own", "own0", "--inbound", "0,0,0", "--live"])?;
    ensure!(!interface(&lan, "t-own", &[])?.contains("bandwidth"), "it is still limited");
    ensure!(!run("tc qdisc show dev own0")?.contains("tbf"), "it is still limited");
    lan.daemon.ok(&["destroy", "t-own"]).map(drop)
}

fn at_once() -> Outcome {
    let lan = Lan::new()?;
    lan.start("t-once", &bridged(2, "<target dev='once0'/>"))?;
    for round in 0..10 {
        lan.daemon.ok(&["domif-setlink", "t-once", "once0", "up"])?;
        let (inbound, outbound) = (format!("{}", 100 + round), format!("{}", 200 + round));
        let commands = [
            &["domiftune", "t-once", "once0", "--inbound", &inbound, "--live"][..],
            &["domiftune", "t-once", "once0", "--outbound", &outbound, "--live"],
            &["domif-setlink", "t-once", "once0", "down"],
        ];
        let mut running = Vec::new();
        for words in commands {
            let child = lan.daemon.command()?.args(words).stdout(Stdio::null()).spawn();
            running.push(child.map_err(|e| e.to_string())?);
        }
        for mut child in running {
            let status = child.wait().map_err(|e| e.to_string())?;
            ensure!(status.success(), "round {round}: {status}");
        }
        let live = interface(&lan, "t-once", &[])?;
        for part in [
            format!("<inbound average='{inbound}'/>"),
            format!("<outbound average='{outbound}'/>"),
            "<link state='down'/>".into(),
        ] {
            ensure!(live.contains(&part), "round {round}: no {part} in {live}");
        }
    }
    let kept = interface(&lan, "t-once", &["--inactive"])?;
    ensure!(!kept.contains("bandwidth") && !kept.contains("<link"), "{kept}");
    lan.daemon.ok(&["destroy", "t-once"]).map(drop)
}

/// What `domiftune` prints of both averages.
fn averages(lan: &Lan, options: &[&str]) -> Result<[String; 2], String> {
    let words: Vec<&str> =
        ["domiftune", "t-slow", "slow0"].into_iter().chain(options.iter().copied()).collect();
    let text = lan.daemon.ok(&words)?;
    let number = |name: &str| {
        let line = text.lines().find_map(|l| l.strip_prefix(&format!("{name}.average: ")));
        line.map(str::to_owned).ok_or_else(|| format!("no {name} in {text}"))
    };
    Ok([number("inbound")?, number("outbound")?])
}

fn portgroup() -> Outcome {
    let mut lan = Lan::new()?;
    let inner = "<forward mode='bridge'/><bridge name='tbr0'/><portgroup name='slow'><bandwidth>\
                 <inbound average='1000' peak='2000'/><outbound average='500'/></bandwidth></portgroup>";
    lan.network("grp", inner)?;
    let element = "<interface type='network'><source network='grp' portgroup='slow'/><target dev='slow0'/>\
                   <mac address='52:54:00:77:00:02'/></interface>";
    lan.start("t-slow", element)?;
    let limited = |what: &str| -> Outcome {
        let qdisc = run("tc qdisc show dev slow0")?;
        ensure!(qdisc.contains("tbf"), "{what}: {qdisc}");
        ensure!(run("ip -o link show type ifb")?.lines().count() == 1, "{what}: outbound");
        Ok(())
    };
    limited("at the start")?;
    ensure_eq!(averages(&lan, &[])?, ["1000", "500"], "what is shown");
    ensure_eq!(averages(&lan, &["--config"])?, ["0", "0"], "of the definition");
    let live = interface(&lan, "t-slow", &[])?;
    ensure!(live.contains("<inbound average='1000' peak='2000'/>"), "{live}");
    ensure!(!interface(&lan, "t-slow", &["--inactive"])?.contains("bandwidth"), "the definition has them");
    // One direction is its own; the other stays.
    lan.daemon.ok(&["domiftune", "t-slow", "slow0", "--inbound", "900", "--live", "--config"])?;
    limited("one of its own")?;
    ensure_eq!(averages(&lan, &[])?, ["900", "500"], "one of its own");
    ensure_eq!(averages(&lan, &["--config"])?, ["900", "0"], "in the definition");
    lan.daemon.restart()?;
    ensure_eq!(averages(&lan, &[])?, ["900", "500"], "after a restart");
    ensure_eq!(averages(&lan, &["--config"])?, ["900", "0"], "in the definition, after a restart");
    lan.daemon.ok(&["domiftune", "t-slow", "slow0", "--inbound", "0", "--live", "--config"])?;
    limited("none of its own")?;
    ensure_eq!(averages(&lan, &[])?, ["1000", "500"], "none of its own");
    lan.daemon.ok(&["domif-setlink", "t-slow", "slow0", "up", "--persistent"])?;
    // What runs, as it is shown, makes nothing the interface's own.
    let shown = format!("<interface{}</interface>", interface(&lan, "t-slow", &[])?);
    lan.plug("update-device", "t-slow", &shown, &["--live", "--config"])?.ok()?;
    ensure!(!interface(&lan, "t-slow", &["--inactive"])?.contains("bandwidth"), "the definition has them");
    lan.daemon.restart()?;
    ensure_eq!(averages(&lan, &[])?, ["1000", "500"], "after another restart");
    let group = "<portgroup name='slow'><bandwidth><outbound average='400'/></bandwidth></portgroup>";
    lan.daemon.ok(&["net-update", "grp", "modify", "portgroup", group, "--live"])?;
    ensure_eq!(averages(&lan, &[])?, ["1000", "500"], "a portgroup that is changed");
    lan.daemon.ok(&["domif-setlink", "t-slow", "slow0", "up"])?;
    ensure_eq!(averages(&lan, &[])?, ["0", "400"], "taken with the next change");
    ensure!(!run("tc qdisc show dev slow0")?.contains("tbf"), "it is still limited");
    lan.daemon.ok(&["destroy", "t-slow"]).map(drop)
}
