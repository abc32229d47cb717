//! Suspend and resume, with a plain folder in place of the group: the test is the kernel.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::Test;
use crate::client::Client;
use crate::harness::{Daemon, alive, kill, wait};

pub const TESTS: &[Test] = &[
    ("pause::suspended_and_resumed", round),
    ("pause::what_a_paused_domain_refuses", refusals),
    ("pause::processes_that_do_not_stop", busy),
    ("pause::a_change_that_nobody_has_told", untold),
    ("pause::the_end_of_a_paused_domain", ended),
    ("pause::a_restart_is_no_longer_paused", restarted),
    ("pause::kills_for_want_of_memory_are_told", oom),
];

/// The group with the limits of the only domain, with what the kernel would say in it; the container's own in it goes on.
fn group(daemon: &Daemon, events: &str) -> PathBuf {
    let machine = daemon.path("run/berth/cgroup/machine");
    let group =
        std::fs::read_dir(machine).expect("groups").flatten().next().expect("one").path().join("container");
    let payload = group.join("payload");
    std::fs::create_dir_all(&payload).expect("made");
    for (group, events) in [(&group, events), (&payload, "populated 1\nfrozen 0\n")] {
        std::fs::write(group.join("cgroup.freeze"), "0").expect("written");
        std::fs::write(group.join("cgroup.events"), events).expect("written");
    }
    group
}

/// Plain files are in the way where a folder is removed; the kernel's are not.
fn unmake(group: &std::path::Path) {
    std::fs::remove_dir_all(group).expect("removed");
}

const BOTH: &str = "populated 1\nfrozen 1\nfrozen 0\n";

fn freeze_file(group: &std::path::Path) -> String {
    std::fs::read_to_string(group.join("cgroup.freeze")).expect("there")
}

fn state(daemon: &Daemon) -> (Value, Value) {
    let status = daemon.status("web");
    (status["state"].clone(), status["reason"].clone())
}

fn kinds(client: &mut Client, count: usize) -> Vec<Value> {
    (0..count).map(|_| client.reply()["parameters"]["event"]["kind"].clone()).collect()
}

fn round() {
    let daemon = Daemon::start();
    daemon.begin("web");
    let group = group(&daemon, BOTH);
    let mut listener = daemon.listener();
    let mut client = daemon.client();
    client.good("Suspend", &json!({ "name": "web" }));
    assert_eq!(freeze_file(&group), "1");
    assert_eq!(state(&daemon), (json!("paused"), json!("user")));
    // Once more is no error and no event.
    client.good("Suspend", &json!({ "name": "web" }));
    client.good("Resume", &json!({ "name": "web" }));
    assert_eq!(freeze_file(&group), "0");
    assert_eq!(state(&daemon), (json!("running"), json!("unpaused")));
    assert_eq!(kinds(&mut listener, 2), [json!("suspended"), json!("resumed")]);
}

fn refusals() {
    let daemon = Daemon::start();
    daemon.begin("web");
    let group = group(&daemon, BOTH);
    let mut client = daemon.client();
    let web = json!({ "name": "web" });
    let invalid = |message: &str| ("InvalidState".to_owned(), message.to_owned());
    assert_eq!(client.bad("Resume", &web), invalid("domain is already running"));
    client.good("Suspend", &web);
    let paused = invalid("domain is paused: resume it before init is asked, or destroy it");
    assert_eq!(client.bad("Shutdown", &web), paused);
    assert_eq!(client.bad("Reboot", &web), paused);
    let signal = json!({ "name": "web", "pid": 1, "signal": 15 });
    assert_eq!(client.bad("SendProcessSignal", &signal), paused);
    assert_eq!(client.bad("Start", &web), invalid("Domain is already active"));
    unmake(&group);
    client.good("Destroy", &web);
    assert_eq!(client.bad("Suspend", &web), invalid("domain is not running"));
    assert_eq!(client.bad("Resume", &web), invalid("domain is not running"));
    assert_eq!(daemon.residue(), Vec::<String>::new());
}

fn busy() {
    let daemon = Daemon::start();
    daemon.begin("web");
    let group = group(&daemon, "populated 1\nfrozen 0\n");
    let mut waiting = daemon.client();
    waiting.send_call("Suspend", &json!({ "name": "web" }), "");
    wait("the freeze to begin", || (freeze_file(&group) == "1").then_some(()));
    // What is shown changes when it is done.
    assert_eq!(state(&daemon), (json!("running"), json!("booted")));
    let reply = waiting.reply();
    assert_eq!(reply["error"], json!("io.berth.Domain.Failed"));
    let message = reply["parameters"]["message"].as_str().expect("a message");
    assert_eq!(message, "cannot suspend domain 'web': not all processes stop within 5 s");
    assert_eq!(freeze_file(&group), "0");
    assert_eq!(state(&daemon), (json!("running"), json!("booted")));
    // An end does not wait for a freeze.
    waiting.send_call("Suspend", &json!({ "name": "web" }), "");
    wait("the freeze to begin", || (freeze_file(&group) == "1").then_some(()));
    unmake(&group);
    let begin = std::time::Instant::now();
    daemon.client().good("Destroy", &json!({ "name": "web" }));
    assert!(begin.elapsed().as_secs() < 3, "{:?}", begin.elapsed());
    let reply = waiting.reply();
    assert_eq!(reply["parameters"]["message"], json!("cannot suspend domain 'web': it ended meanwhile"));
}

fn untold() {
    let mut daemon = Daemon::start();
    daemon.begin("web");
    let group = group(&daemon, BOTH);
    daemon.client().good("Suspend", &json!({ "name": "web" }));
    daemon.restart();
    assert_eq!(state(&daemon), (json!("paused"), json!("user")));
    daemon.client().good("Resume", &json!({ "name": "web" }));
    // The kernel is right, whatever the record says.
    for (kernel, expected) in [("1", ("paused", "user")), ("0", ("running", "unpaused"))] {
        daemon.kill();
        std::fs::write(group.join("cgroup.freeze"), kernel).expect("written");
        daemon.launch();
        daemon.wait_state("web", expected.0, expected.1);
    }
    daemon.kill();
    daemon.environment.push(("BERTH_KILL_AT".into(), "daemon:frozen".into()));
    daemon.launch();
    daemon.client().send_call("Suspend", &json!({ "name": "web" }), "");
    daemon.wait_dead();
    daemon.environment.clear();
    daemon.launch();
    daemon.wait_state("web", "paused", "user");
    let mut client = daemon.client();
    client.send_call("Subscribe", &json!({ "since": 0 }), "more");
    client.reply();
    assert_eq!(kinds(&mut client, 1), [json!("suspended")]);
}

fn ended() {
    let daemon = Daemon::start();
    let pid = daemon.begin("web")["id"].as_i64().expect("id");
    let group = group(&daemon, BOTH);
    daemon.client().good("Suspend", &json!({ "name": "web" }));
    unmake(&group);
    kill(pid);
    daemon.wait_state("web", "shutoff", "crashed");
    assert!(!alive(pid));
    assert_eq!(daemon.residue(), Vec::<String>::new());
    assert_eq!(daemon.client().good("Start", &json!({ "name": "web" }))["domain"]["state"], json!("running"));
}

fn oom() {
    let daemon = Daemon::start();
    daemon.begin("web");
    let mut listener = daemon.listener();
    let uuid = daemon.status("web")["uuid"].as_str().expect("uuid").to_owned();
    std::fs::write(daemon.path(&format!("run/berth/state/{uuid}.exit.sign")), "oom").expect("written");
    let event = listener.event();
    assert_eq!(
        (&event["kind"], &event["count"], &event["exit"]),
        (&json!("oomKilled"), &json!(2), &Value::Null)
    );
    assert_eq!(state(&daemon), (json!("running"), json!("booted")));
}

fn restarted() {
    let daemon = Daemon::start();
    daemon.begin("web");
    group(&daemon, BOTH);
    daemon.client().good("Suspend", &json!({ "name": "web" }));
    let uuid = daemon.status("web")["uuid"].as_str().expect("uuid").to_owned();
    std::fs::write(daemon.path(&format!("run/berth/state/{uuid}.exit.sign")), "reboot").expect("written");
    daemon.wait_state("web", "running", "rebooted");
    daemon.client().good("Suspend", &json!({ "name": "web" }));
}
