//! Limits in control groups that are only pretended: what is written where, in what runs, in what is kept, in both.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::Test;
use crate::client::Client;
use crate::harness::Daemon;

pub const TESTS: &[Test] = &[
    ("limits::of_the_document_are_written_at_the_start", start),
    ("limits::change_in_what_runs_or_in_what_is_kept", change),
    ("limits::of_a_change_that_was_cut_short_are_the_documents", cut_short),
];

fn file(daemon: &Daemon, name: &str, file: &str) -> Option<String> {
    let folder = daemon.path("run/berth/cgroup/machine");
    let group: PathBuf = std::fs::read_dir(folder)
        .expect("the groups")
        .flatten()
        .map(|e| e.path())
        .find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&format!("{name}.berth"))))
        .expect("the group");
    std::fs::read_to_string(group.join("container").join(file)).ok()
}

fn resources(client: &mut Client, name: &str, affect: &str) -> Value {
    client.good("GetResources", &json!({ "name": name, "affect": affect }))["resources"].clone()
}

fn ask(name: &str, change: Value, affect: &[&str]) -> Value {
    json!({ "name": name, "change": change, "affect": affect })
}

fn start() {
    let daemon = Daemon::start();
    daemon.begin("web");
    let mut client = daemon.client();
    let kib = resources(&mut client, "web", "live")["memoryKiB"].as_i64().expect("memory");
    assert_eq!(file(&daemon, "web", "memory.max"), Some((kib * 1024).to_string()));
    // What limits nothing is not written.
    assert_eq!(file(&daemon, "web", "cpu.max"), None);
    assert_eq!(file(&daemon, "web", "pids.max"), None);
    client.good("Destroy", &json!({ "name": "web" }));
    assert!(daemon.residue().is_empty(), "{:?}", daemon.residue());
}

fn change() {
    let mut daemon = Daemon::start();
    daemon.begin("web");
    let mut listener = daemon.listener();
    let mut client = daemon.client();
    client.good("SetResources", &ask("web", json!({ "pids": 9, "cpuQuota": 50_000 }), &["live"]));
    let event = listener.event();
    let quota = json!([{ "name": "cputune.vcpu_quota", "value": 50_000 }]);
    assert_eq!((&event["kind"], &event["tunables"]), (&json!("tunable"), &quota));
    assert_eq!(file(&daemon, "web", "pids.max").as_deref(), Some("9"));
    assert_eq!(file(&daemon, "web", "cpu.max").as_deref(), Some("50000 100000"));
    assert_eq!(resources(&mut client, "web", "config")["pids"], Value::Null);
    client.good("SetResources", &ask("web", json!({ "cpuShares": 2048 }), &["config"]));
    assert_eq!(file(&daemon, "web", "cpu.weight"), None);
    client.good("SetResources", &ask("web", json!({ "pids": 8 }), &["live", "config"]));
    daemon.restart();
    let mut client = daemon.client();
    let (live, kept) = (resources(&mut client, "web", "live"), resources(&mut client, "web", "config"));
    assert_eq!(
        (&live["pids"], &live["cpuQuota"], &live["cpuShares"]),
        (&json!(8), &json!(50_000), &Value::Null)
    );
    assert_eq!(
        (&kept["pids"], &kept["cpuQuota"], &kept["cpuShares"]),
        (&json!(8), &Value::Null, &json!(2048))
    );
    let refused = client.bad("SetResources", &ask("web", json!({ "memoryKiB": 1_i64 << 40 }), &["live"]));
    assert_eq!(refused, ("InvalidValue".into(), "cannot set memory higher than max memory".into()));
    let reply = client.call("SetResources", &ask("web", json!({ "memoryKiB": 0 }), &["live"]));
    assert_eq!(reply["error"], json!("io.berth.Domain.InvalidValue"), "{reply}");
    let says = json!({ "parameter": "memoryKiB", "message": "memory must be more than 0" });
    assert_eq!(reply["parameters"], says);
    client.good("Destroy", &json!({ "name": "web" }));
    assert_eq!(client.bad("SetResources", &ask("web", json!({ "pids": 7 }), &["live"])).0, "InvalidState");
    client.good("Start", &json!({ "name": "web" }));
    assert_eq!(file(&daemon, "web", "pids.max").as_deref(), Some("8"));
    assert_eq!(file(&daemon, "web", "cpu.weight").as_deref(), Some("200"));
    assert_eq!(file(&daemon, "web", "cpu.max"), None);
}

fn cut_short() {
    let mut daemon = Daemon::start();
    daemon.begin("web");
    daemon.kill();
    daemon.environment = vec![("BERTH_KILL_AT".into(), "daemon:tuned".into())];
    daemon.launch();
    let mut client = daemon.client();
    client.send_call("SetResources", &ask("web", json!({ "pids": 9 }), &["live"]), "");
    daemon.wait_dead();
    assert_eq!(file(&daemon, "web", "pids.max").as_deref(), Some("9"));
    daemon.environment.clear();
    daemon.launch();
    let mut client = daemon.client();
    assert_eq!(resources(&mut client, "web", "live")["pids"], Value::Null);
    assert_eq!(file(&daemon, "web", "pids.max").as_deref(), Some("max"));
}
