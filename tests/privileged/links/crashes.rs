//! SIGKILL of the daemon, of the controller and of init, at each step at which there are links. Nothing may be left, and
//! what runs goes on.

use berth_tests::host::{Traces, alive, in_own_network, links, run};
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, wait_for};

use super::{Lan, bridged, direct, parent};

pub const TESTS: &[Test] = &[
    ("links::a_daemon_killed_at_each_step_of_a_start", || in_own_network(daemon)),
    ("links::a_start_that_is_given_up_gives_interfaces_back", || in_own_network(given_up)),
    ("links::a_controller_killed_at_each_step", || in_own_network(controller)),
    ("links::a_daemon_killed_while_something_is_plugged", || in_own_network(plugging)),
    ("links::two_hundred_containers_come_and_go", || in_own_network(many)),
];

/// A pair with everything that it can have, whose host end has a name of its own, and a macvlan.
fn interfaces() -> String {
    let limits = "<bandwidth><outbound average='4096'/></bandwidth><target dev='tfix0'/>";
    format!("{}{}", bridged(2, limits), direct(2, "bridge", ""))
}

struct Victim {
    lan: Lan,
    before: Traces,
}

impl Victim {
    fn new(name: &str) -> Result<Self, String> {
        parent()?;
        let lan = Lan::new()?;
        lan.define(name, &interfaces())?;
        lan.daemon.ok(&["start", name])?;
        lan.daemon.ok(&["destroy", name])?;
        let before = lan.traces(name);
        Ok(Self { lan, before })
    }

    fn again(&mut self, step: Option<&str>) -> Outcome {
        self.lan.daemon.kill();
        let environment: Vec<(&str, &str)> = step.iter().map(|s| ("BERTH_KILL_AT", *s)).collect();
        self.lan.daemon.set_environment(&environment);
        self.lan.daemon.launch()
    }
}

fn daemon() -> Outcome {
    let mut victim = Victim::new("t-lk")?;
    for step in
        ["profile", "cgroup", "linking", "linked", "spawned", "launched", "published", "stopping", "cleaned"]
    {
        let stops = ["stopping", "cleaned"].contains(&step);
        if stops {
            victim.lan.daemon.ok(&["start", "t-lk"])?;
        }
        victim.again(Some(&format!("daemon:{step}")))?;
        let command = if stops { "destroy" } else { "start" };
        ensure!(victim.lan.daemon.virsh(&[command, "t-lk"])?.status != 0, "not killed at '{step}'");
        victim.lan.daemon.wait_dead(5)?;
        victim.again(None)?;
        let lan = &victim.lan;
        if lan.daemon.state("t-lk")?.starts_with("running") {
            ensure!(alive(lan.daemon.pid_of("t-lk", "initPid")?), "'{step}': init is not there");
            ensure!(lan.reaches("t-lk", "10.77.0.1"), "'{step}': the host is not reached");
            lan.daemon.ok(&["destroy", "t-lk"])?;
        }
        lan.nothing_left("t-lk", &victim.before).map_err(|e| format!("a kill at '{step}': {e}"))?;
        // The name that the document gives is free.
        lan.daemon.ok(&["start", "t-lk"])?;
        lan.daemon.ok(&["destroy", "t-lk"])?;
    }
    Ok(())
}

/// A virtual interface of the host would be gone with the network namespace of a controller that is killed.
fn given_up() -> Outcome {
    let mut victim = Victim::new("t-lg")?;
    run("ip link add tgiv0 type veth peer name tgiv1")?;
    let hostdev =
        "<hostdev mode='capabilities' type='net'><source><interface>tgiv1</interface></source></hostdev>";
    victim.lan.define("t-lg", &format!("{hostdev}{}", bridged(2, "")))?;
    let before = victim.lan.traces("t-lg");
    for step in ["linked", "launched", "published"] {
        victim.again(Some(&format!("daemon:{step}")))?;
        ensure!(victim.lan.daemon.virsh(&["start", "t-lg"])?.status != 0, "not killed at '{step}'");
        victim.lan.daemon.wait_dead(5)?;
        ensure_eq!(links().contains(&"tgiv1".to_owned()), step == "linked", "'{step}': on the host");
        victim.again(None)?;
        if victim.lan.daemon.state("t-lg")?.starts_with("running") {
            victim.lan.daemon.ok(&["destroy", "t-lg"])?;
        }
        wait_for(&format!("the interface, '{step}'"), 5, || {
            links().contains(&"tgiv1".to_owned()).then_some(())
        })?;
        victim.lan.nothing_left("t-lg", &before).map_err(|e| format!("a kill at '{step}': {e}"))?;
    }
    // The same for one that is destroyed while it starts, at whatever point that is.
    for delay in (4..60).step_by(4) {
        let lan = &victim.lan;
        std::thread::scope(|scope| {
            let starting = scope.spawn(|| lan.daemon.virsh(&["start", "t-lg"]).map(drop));
            std::thread::sleep(std::time::Duration::from_millis(delay));
            lan.daemon.virsh(&["destroy", "t-lg"])?;
            starting.join().map_err(|_| "the start has panicked".to_owned())?
        })?;
        if lan.daemon.state("t-lg")?.starts_with("running") {
            lan.daemon.ok(&["destroy", "t-lg"])?;
        }
        wait_for("the interface", 5, || links().contains(&"tgiv1".to_owned()).then_some(()))
            .map_err(|e| format!("destroyed after {delay} ms: {e}"))?;
        lan.nothing_left("t-lg", &before)?;
    }
    Ok(())
}

fn controller() -> Outcome {
    let mut victim = Victim::new("t-lc")?;
    for step in ["plan", "clone", "namespaces", "interfaces", "root", "network", "exec"] {
        victim.again(Some(step))?;
        victim.lan.daemon.virsh(&["start", "t-lc"])?.fails().map_err(|e| format!("{step}: {e}"))?;
        victim.lan.nothing_left("t-lc", &victim.before).map_err(|e| format!("a kill at '{step}': {e}"))?;
    }
    victim.again(None)?;
    for (whose, reason) in [("id", "crashed"), ("initPid", "crashed")] {
        // Killed and started at once: the kernel is still taking the namespace down.
        for _ in 0..3 {
            victim.lan.daemon.ok(&["start", "t-lc"])?;
            run(&format!("kill -9 {}", victim.lan.daemon.pid_of("t-lc", whose)?))?;
            victim.lan.daemon.wait_state("t-lc", &format!("shut off ({reason})"), 5)?;
        }
        victim.lan.nothing_left("t-lc", &victim.before).map_err(|e| format!("a kill of '{whose}': {e}"))?;
    }
    // With the daemon dead, too.
    victim.lan.daemon.ok(&["start", "t-lc"])?;
    let pid = victim.lan.daemon.pid_of("t-lc", "id")?;
    victim.lan.daemon.kill();
    run(&format!("kill -9 {pid}"))?;
    victim.again(None)?;
    victim.lan.daemon.wait_state("t-lc", "shut off (crashed)", 5)?;
    victim.lan.nothing_left("t-lc", &victim.before)
}

fn plugging() -> Outcome {
    let mut victim = Victim::new("t-lp")?;
    let xml = bridged(7, "<bandwidth><outbound average='4096'/></bandwidth><target dev='tplug0'/>");
    let slow = xml.replace("4096", "2048");
    victim.lan.daemon.ok(&["start", "t-lp"])?;
    for (command, step) in [
        ("attach-device", "plugging"),
        ("attach-device", "plug-linked"),
        ("attach-device", "plugged"),
        ("update-device", "plugging"),
        ("update-device", "plugged"),
        ("detach-device", "plugging"),
        ("detach-device", "unplugged"),
        ("detach-device", "plugged"),
    ] {
        victim.again(None)?;
        let has = |victim: &Victim| -> Result<bool, String> {
            Ok(victim.lan.daemon.ok(&["domiflist", "t-lp"])?.contains("tplug0"))
        };
        let (there, wanted) = (has(&victim)?, command != "attach-device");
        if there != wanted {
            let mend = if wanted { "attach-device" } else { "detach-device" };
            victim.lan.plug(mend, "t-lp", &xml, &["--live"])?.ok()?;
        }
        victim.again(Some(&format!("daemon:{step}")))?;
        let element = if command == "update-device" { &slow } else { &xml };
        let printed = victim.lan.plug(command, "t-lp", element, &["--live"])?;
        ensure!(printed.status != 0, "{command}: not killed at '{step}'");
        victim.lan.daemon.wait_dead(5)?;
        victim.again(None)?;
        // Either it is done, or it is not, on the host, inside and in the document.
        let what = format!("{command}, a kill at '{step}'");
        let there = has(&victim)?;
        let inside = victim.lan.inside("t-lp", "ip -o link")?.contains("52:54:00:77:00:07");
        ensure_eq!(inside, there, "{what}: inside");
        ensure_eq!(links().contains(&"tplug0".to_owned()), there, "{what}: on the host");
        if there {
            victim.lan.inside("t-lp", "ping -c 1 -W 3 10.77.0.1").map_err(|e| format!("{what}: {e}"))?;
            let rate = run("tc qdisc show")?.matches("tbf").count();
            ensure_eq!(rate, 2, "{what}: limits");
        }
    }
    victim.lan.daemon.ok(&["destroy", "t-lp"])?;
    victim.lan.nothing_left("t-lp", &victim.before)
}

/// Two hundred in all, ten at a time.
fn many() -> Outcome {
    const ROUNDS: u32 = 20;
    let lan = Lan::new()?;
    let names: Vec<String> = (0..10).map(|n| format!("t-many{n}")).collect();
    for (number, name) in (10..).zip(&names) {
        lan.define(name, &bridged(number, ""))?;
    }
    let before = lan.traces("t-many");
    let began = std::time::Instant::now();
    for round in 0..ROUNDS {
        for command in ["start", "destroy"] {
            let mut words = vec![command];
            words.extend(names.iter().map(String::as_str));
            lan.daemon.ok(&words).map_err(|e| format!("round {round}: {e}"))?;
        }
    }
    println!("200 starts and ends: {:?} each", began.elapsed() / (ROUNDS * 10));
    wait_for("the end", 5, || lan.nothing_left("t-many", &before).ok())
}
