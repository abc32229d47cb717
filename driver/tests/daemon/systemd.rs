//! What is asked of a service manager that runs the host, and that nothing depends on it.

use serde_json::json;

use crate::Test;
use crate::fake_systemd::{Bus, Seen};
use crate::harness::{Daemon, wait};

pub const TESTS: &[Test] = &[
    ("systemd::domains_are_in_scopes_and_registered", scopes),
    ("systemd::a_restart_of_the_daemon_registers_nothing_twice", restarted),
    ("systemd::killed_with_a_scope_and_nothing_in_it", killed),
    ("systemd::without_machined_and_without_a_bus", without),
    ("systemd::a_bus_that_hangs_holds_up_one_start_for_seconds", hanging),
];

fn daemon(bus: &Bus) -> Daemon {
    daemon_at(&bus.address)
}

fn daemon_at(address: &str) -> Daemon {
    let mut daemon = Daemon::start();
    daemon.kill();
    daemon.environment.push(("BERTH_TEST_PRETEND_SYSTEMD".into(), "1".into()));
    daemon.environment.push(("DBUS_SYSTEM_BUS_ADDRESS".into(), address.to_owned()));
    daemon.launch();
    daemon
}

/// Name and leader of the only machine.
fn machine(seen: &Seen) -> Option<(String, u32)> {
    seen.machines.iter().next().map(|(name, leader)| (name.clone(), *leader))
}

fn scopes() {
    let bus = Bus::start();
    let daemon = daemon(&bus);
    let web = daemon.begin("web");
    let (name, leader) = wait("the machine", || machine(&bus.seen()));
    // Daemons with files of their own tell theirs apart.
    assert!(name.starts_with("web-"), "{name}");
    assert_eq!(json!(leader), web["initPid"]);
    let (scope, (slice, pid)) = bus.seen().scopes.into_iter().next().expect("a scope");
    assert_eq!((slice.as_str(), json!(pid)), ("machine.slice", web["id"].clone()));
    assert_eq!(scope, format!("machine-{}.scope", name.replace('-', "\\x2d")));
    let group = daemon.path(&format!("run/berth/cgroup/machine.slice/{scope}"));
    assert_eq!(std::fs::read_dir(&group).expect("made").count(), 1);
    // What the container does by itself is a reboot here: another init.
    daemon.client().good("Reboot", &json!({ "name": "web" }));
    let again = daemon.wait_state("web", "running", "rebooted");
    wait("the new leader", || machine(&bus.seen()).filter(|(_, l)| json!(l) == again["initPid"]));
    daemon.client().good("Destroy", &json!({ "name": "web" }));
    assert_eq!(std::fs::read_dir(&group).expect("the scope is not ours").count(), 0);
    assert_eq!(daemon.residue(), Vec::<String>::new());
    // The next start waits until the scope of the last is gone.
    std::thread::scope(|threads| {
        let next = threads.spawn(|| daemon.client().good("Start", &json!({ "name": "web" })));
        std::thread::sleep(std::time::Duration::from_millis(200));
        assert!(!next.is_finished());
        bus.forget(&scope);
        next.join().expect("started");
    });
}

fn restarted() {
    let bus = Bus::start();
    let mut daemon = daemon(&bus);
    let web = daemon.begin("web");
    wait("the machine", || machine(&bus.seen()));
    daemon.restart();
    assert_eq!(daemon.status("web"), web);
    // A second one is registered after the look at the first.
    daemon.begin("other");
    wait("both", || (bus.seen().machines.len() == 2).then_some(()));
    assert_eq!(bus.seen().registered, (2, 0));
    daemon.client().good("Destroy", &json!({ "name": "web" }));
    daemon.client().good("Destroy", &json!({ "name": "other" }));
    let left = |scope: &String| daemon.path(&format!("run/berth/cgroup/machine.slice/{scope}"));
    for scope in bus.seen().scopes.keys() {
        assert_eq!(std::fs::read_dir(left(scope)).expect("there").count(), 0);
    }
}

fn killed() {
    let bus = Bus::start();
    for step in ["spawned", "scope", "cgroup"] {
        let mut daemon = daemon(&bus);
        daemon.define("web");
        daemon.kill();
        daemon.environment.push(("BERTH_KILL_AT".into(), format!("daemon:{step}")));
        daemon.launch();
        daemon.client().send_call("io.berth.Domain.Start", &json!({ "name": "web" }), "");
        daemon.wait_dead();
        daemon.environment.pop();
        daemon.launch();
        assert_eq!(daemon.status("web")["state"], json!("shutoff"), "{step}");
        let slice = daemon.path("run/berth/cgroup/machine.slice");
        for scope in std::fs::read_dir(slice).into_iter().flatten().flatten() {
            assert_eq!(std::fs::read_dir(scope.path()).expect("there").count(), 0, "{step}");
        }
        assert_eq!(daemon.residue(), Vec::<String>::new(), "{step}");
    }
}

fn without() {
    let mut bus = Bus::start();
    bus.serve(false);
    let daemon = daemon(&bus);
    daemon.begin("web");
    assert_eq!(bus.seen().scopes.len(), 1);
    wait("the answer", || daemon.log().contains("'web' is not registered: no machined").then_some(()));
    // No bus any more: the usual groups.
    drop(bus);
    daemon.client().good("Destroy", &json!({ "name": "web" }));
    daemon.begin("later");
    assert!(daemon.log().contains("domain 'later' has no scope: "), "{}", daemon.log());
    assert_eq!(daemon.residue().len(), 3, "socket, record and group: {:?}", daemon.residue());
    assert!(!daemon.log().contains("cannot register"), "{}", daemon.log());
}

/// It takes connections and says nothing.
fn hanging() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("bus");
    let _bus = std::os::unix::net::UnixListener::bind(&path).expect("bound");
    let daemon = daemon_at(&format!("unix:path={}", path.display()));
    for (name, least, most) in [("web", 4, 8), ("next", 0, 2)] {
        let begin = std::time::Instant::now();
        daemon.begin(name);
        let took = begin.elapsed().as_secs();
        assert!((least..=most).contains(&took), "{name}: {took} s");
        assert!(daemon.log().contains(&format!("domain '{name}' has no scope: ")), "{}", daemon.log());
    }
}
