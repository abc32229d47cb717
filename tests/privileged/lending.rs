//! Interfaces of networks for users who may do nothing else: in namespaces of their own, as many as they may, and gone
//! with those.

use std::fs;

use berth_tests::daemon::{Daemon, NOBODY, Printed};
use berth_tests::host::in_own_network;
use berth_tests::lab::{Machine, run};
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, wait_for};

pub const TESTS: &[Test] = &[
    ("lending::to_whom_and_how_many", || in_own_network(rules)),
    ("lending::is_whole_or_nothing_after_a_kill", || in_own_network(killed)),
    ("lending::nobody_has_what_cannot_be_counted", || in_own_network(macvlans)),
];

const NETWORK: &str = "<network><name>lab</name><bridge name='lab0'/><ip address='10.13.0.1' prefix='24'><dhcp>\
                       <range start='10.13.0.10' end='10.13.0.20'/></dhcp></ip></network>";

/// A container that a user has made without us.
fn rootless() -> Result<Machine, String> {
    Machine::by(&[NOBODY, &["unshare", "--user", "--map-root-user", "--net"]].concat())
}

/// `virsh-lite` as the user, where `prefix` leads.
fn as_nobody(daemon: &Daemon, prefix: &[&str], words: &[&str]) -> Result<Printed, String> {
    daemon.virsh_by(&[prefix, NOBODY].concat(), words)
}

fn daemon_with_rows() -> Result<Daemon, String> {
    let mut daemon = Daemon::start()?;
    daemon.kill();
    let rows = "[[network-access]]\nnetwork = 'lab'\nuser = 'nobody'\ninterfaces = 1\n";
    fs::write(daemon.root().join("etc/berth/berthd.toml"), rows).map_err(|e| e.to_string())?;
    daemon.launch()?;
    let file = daemon.file("lab.xml", NETWORK)?;
    daemon.ok(&["net-define", &file])?;
    daemon.ok(&["net-start", "lab"])?;
    Ok(daemon)
}

/// The ends on the host.
fn ends() -> Result<Vec<String>, String> {
    let text = run(&["ip", "-o", "link", "show", "type", "veth"])?;
    Ok(text.lines().filter_map(|l| Some(l.split_once(": ")?.1.split('@').next()?.to_owned())).collect())
}

fn denied(network: &str) -> String {
    format!(
        "error: Failed to add an interface of network {network}\n\
         error: you may not have interfaces of network '{network}' in this namespace\n\
         hint: a row of network-access in berthd.toml allows it, in a user namespace that you made yourself\n"
    )
}

fn rules() -> Outcome {
    let mut daemon = daemon_with_rows()?;
    let first = rootless()?;
    let first_pid = first.pid().to_string();
    let links = || first.run(&["ip", "-o", "link"]);
    let mac = "52:54:00:00:13:01";
    let out = as_nobody(&daemon, &[], &["net-plug", "lab", "--pid", &first_pid, "--mac", mac])?.ok()?;
    ensure_eq!(out, format!("Interface eth0 ({mac}) added as vnet0 on the host\n\n"), "the first");
    ensure!(links()?.contains(mac), "not inside: {}", links()?);
    ensure!(daemon.ok(&["net-dumpxml", "lab"])?.contains("<network connections='1'>"), "the port");
    // It works.
    let inside = |words: &[&str]| first.run(words);
    inside(&["ip", "addr", "add", "10.13.0.99/24", "dev", "eth0"])?;
    inside(&["ip", "link", "set", "eth0", "up"])?;
    inside(&["ping", "-c", "1", "-W", "5", "10.13.0.1"])?;
    // No more, nowhere else, in no other network.
    let error = as_nobody(&daemon, &[], &["net-plug", "lab", "--pid", &first_pid, "--interface", "eth1"])?;
    let most = "error: Failed to add an interface of network lab\n\
                error: you have 1 interfaces of network 'lab', as many as you may\n";
    ensure_eq!(error.fails()?, most.to_owned(), "one too many");
    let other = as_nobody(&daemon, &[], &["net-plug", "default", "--pid", &first_pid])?.fails()?;
    ensure_eq!(other, denied("default"), "a network without a row");
    let roots = Machine::new()?;
    let enter = ["nsenter", "-t", &roots.pid().to_string(), "-n", "--"];
    ensure_eq!(as_nobody(&daemon, &enter, &["net-plug", "lab"])?.fails()?, denied("lab"), "root's namespace");
    let own = as_nobody(&daemon, &[], &["net-plug", "lab"])?.fails()?;
    ensure!(own.ends_with("error: the namespace is the host's own\n"), "{own}");
    let error = as_nobody(&daemon, &[], &["net-define", "/dev/null"])?.fails()?;
    ensure!(error.contains("denied"), "{error}");
    let pid = roots.pid().to_string();
    let error = daemon.virsh(&["-r", "net-plug", "lab", "--pid", &pid])?.fails()?;
    ensure!(error.starts_with(&denied("lab")), "a connection for reading: {error}");
    // Root has no limit, in any namespace but the host's.
    daemon.ok(&["net-plug", "lab", "--pid", &pid])?;
    daemon.ok(&["net-plug", "lab", "--pid", &pid, "--interface", "nic1"])?;
    let error = daemon.virsh(&["net-plug", "lab", "--pid", &pid, "--interface", "nic1"])?.fails()?;
    ensure!(error.contains("has an interface 'nic1' already"), "a name that is taken: {error}");
    ensure_eq!(ends()?.len(), 3, "ends on the host");
    // A restarted daemon knows them.
    daemon.restart()?;
    ensure!(daemon.ok(&["net-dumpxml", "lab"])?.contains("<network connections='3'>"), "the ports");
    let error = as_nobody(&daemon, &[], &["net-unplug", "vnet1"])?.fails()?;
    let none = "error: Failed to remove interface vnet1\n\
                error: Requested operation is not valid: no interface 'vnet1' was added to a network\n";
    ensure_eq!(error, none.to_owned(), "somebody else's");
    as_nobody(&daemon, &[], &["net-unplug", "vnet0"])?.ok()?;
    ensure!(!links()?.contains("eth0"), "removed");
    // With the namespace it is gone, and may be had again.
    as_nobody(&daemon, &[], &["net-plug", "lab", "--pid", &first_pid])?.ok()?;
    drop(first);
    wait_for("the end with the namespace", 10, || ends().ok().filter(|e| e.len() == 2))?;
    wait_for("the port with the end", 5, || {
        daemon.ok(&["net-dumpxml", "lab"]).ok()?.contains("<network connections='2'>").then_some(())
    })?;
    let second = rootless()?;
    as_nobody(&daemon, &[], &["net-plug", "lab", "--pid", &second.pid().to_string()])?.ok()?;
    ensure!(daemon.ok(&["net-dumpxml", "lab"])?.contains("<network connections='3'>"), "the ports");
    daemon.ok(&["net-destroy", "lab"]).map(drop)
}

fn killed() -> Outcome {
    let mut daemon = daemon_with_rows()?;
    let files = |daemon: &Daemon| fs::read_dir(daemon.root().join("run/berth/lent")).map(Iterator::count);
    let machine = Machine::new()?;
    let pid = machine.pid().to_string();
    for step in ["lent-noted", "lent-made"] {
        daemon.kill();
        daemon.set_environment(&[("BERTH_KILL_AT", &format!("daemon:{step}"))]);
        daemon.launch()?;
        daemon.virsh(&["net-plug", "lab", "--pid", &pid])?.fails()?;
        daemon.wait_dead(10).map_err(|e| format!("{step}: {e}"))?;
        ensure_eq!(files(&daemon).map_err(|e| e.to_string())?, 1, "{step}: written down");
        daemon.set_environment(&[]);
        daemon.launch()?;
        ensure_eq!(ends()?, Vec::<String>::new(), "{step}");
        ensure_eq!(files(&daemon).map_err(|e| e.to_string())?, 0, "{step}: files");
        ensure!(!daemon.ok(&["net-dumpxml", "lab"])?.contains("connections"), "{step}: the port");
    }
    daemon.ok(&["net-plug", "lab", "--pid", &pid])?;
    daemon.restart()?;
    ensure!(machine.run(&["ip", "-o", "link"])?.contains("eth0"), "after a restart");
    daemon.ok(&["net-destroy", "lab"]).map(drop)
}

/// Of a macvlan nothing stays on the host: whoever could have one could have any number.
fn macvlans() -> Outcome {
    let mut daemon = daemon_with_rows()?;
    run(&["ip", "link", "add", "par0", "type", "veth", "peer", "name", "par1"])?;
    run(&["ip", "link", "set", "par0", "up"])?;
    let rows = "[[network-access]]\nnetwork = 'mv'\nuser = 'nobody'\ninterfaces = 2\n";
    fs::write(daemon.root().join("etc/berth/berthd.toml"), rows).map_err(|e| e.to_string())?;
    daemon.restart()?;
    let machine = rootless()?;
    let pid = machine.pid().to_string();
    let links = || machine.run(&["ip", "-o", "link"]);
    let before = links()?;
    for mode in ["bridge", "private", "vepa", "passthrough"] {
        let forward = format!("<forward mode='{mode}'><interface dev='par0'/></forward>");
        let file = daemon.file("mv.xml", &format!("<network><name>mv</name>{forward}</network>"))?;
        daemon.ok(&["net-create", &file])?;
        for error in [
            as_nobody(&daemon, &[], &["net-plug", "mv", "--pid", &pid])?.fails()?,
            daemon.virsh(&["net-plug", "mv", "--pid", &pid])?.fails()?,
        ] {
            ensure!(error.contains("network 'mv' gives macvlans"), "{mode}: {error}");
        }
        ensure_eq!(links()?, before, "{mode}: inside");
        let lent = fs::read_dir(daemon.root().join("run/berth/lent")).map(Iterator::count);
        ensure_eq!(lent.map_err(|e| e.to_string())?, 0, "{mode}: written down");
        daemon.ok(&["net-destroy", "mv"])?;
    }
    daemon.ok(&["net-destroy", "lab"]).map(drop)
}
