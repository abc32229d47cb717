//! Devices that are attached, detached and updated: in what runs, in what is kept, in both or in neither.

use serde_json::{Value, json};

use crate::Test;
use crate::client::Client;
use crate::harness::{Daemon, signal, wait, xml};

pub const TESTS: &[Test] = &[
    ("hotplug::of_the_definition_alone", config),
    ("hotplug::of_what_runs_alone", live),
    ("hotplug::of_both_or_of_neither", both),
    ("hotplug::requests_that_do_not_fit", denied),
    ("hotplug::a_lost_answer_is_asked_for_again", lost),
    ("hotplug::others_wait_and_the_end_does_not", meanwhile),
    ("hotplug::a_killed_daemon_finds_what_was_done", killed),
    ("hotplug::a_change_is_settled_when_a_silent_controller_answers", silent),
];

fn data(source: &str) -> String {
    format!("<filesystem type='mount'><source dir='{source}'/><target dir='/data'/></filesystem>")
}

fn ask(name: &str, device: &str, affect: &[&str]) -> Value {
    json!({ "name": name, "xml": device, "affect": affect })
}

/// The sources in the live and in the kept document.
fn sources(client: &mut Client, name: &str) -> (Vec<String>, Vec<String>) {
    let mut of = |inactive: bool| {
        let out = client.good("GetXML", &json!({ "name": name, "inactive": inactive }));
        let text = out["xml"].as_str().expect("a document").to_owned();
        let lines = text.lines().filter_map(|l| l.trim().strip_prefix("<source dir='")?.strip_suffix("'/>"));
        lines.skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    (of(false), of(true))
}

fn config() {
    let mut daemon = Daemon::start();
    daemon.define("cfg");
    let mut client = daemon.client();
    client.good("AttachDevice", &ask("cfg", &data("/a"), &[]));
    let text = std::fs::read_to_string(daemon.path("etc/berth/domains/cfg.xml")).expect("kept");
    assert!(text.contains("<source dir='/a'/>"), "{text}");
    let refused = client.bad("AttachDevice", &ask("cfg", &data("/b"), &["config"]));
    assert_eq!(refused, ("DeviceExists".into(), "target /data already exists".into()));
    client.good("UpdateDevice", &ask("cfg", &data("/b"), &["current"]));
    daemon.restart();
    let mut client = daemon.client();
    assert_eq!(sources(&mut client, "cfg").1, ["/b"]);
    client.good("DetachDevice", &ask("cfg", &data("/whatever"), &["config"]));
    assert_eq!(client.bad("DetachDevice", &ask("cfg", &data("/b"), &["config"])).0, "NoSuchDevice");
    assert!(sources(&mut client, "cfg").1.is_empty());
}

fn live() {
    let mut daemon = Daemon::start();
    daemon.begin("run");
    let mut listener = daemon.listener();
    let mut client = daemon.client();
    client.good("AttachDevice", &ask("run", &data("/a"), &["live"]));
    let event = listener.event();
    assert_eq!((&event["kind"], &event["detail"]), (&json!("deviceAdded"), &json!("/data")));
    assert_eq!(sources(&mut client, "run"), (vec!["/a".into()], vec![]));
    assert_eq!(daemon.status("run")["pendingChange"], json!(true));
    client.good("UpdateDevice", &ask("run", &data("/b"), &[]));
    daemon.restart();
    let mut client = daemon.client();
    assert_eq!(sources(&mut client, "run"), (vec!["/b".into()], vec![]));
    let mut listener = daemon.listener();
    client.good("DetachDevice", &ask("run", &data("/b"), &["live"]));
    let event = listener.event();
    assert_eq!((&event["kind"], &event["detail"]), (&json!("deviceRemoved"), &json!("/data")));
    assert_eq!(daemon.status("run")["pendingChange"], json!(false));
    // A live change lasts until the domain ends.
    client.good("AttachDevice", &ask("run", &data("/a"), &["live"]));
    client.good("Destroy", &json!({ "name": "run" }));
    client.good("Start", &json!({ "name": "run" }));
    assert_eq!(sources(&mut client, "run"), (vec![], vec![]));
}

fn both() {
    let daemon = Daemon::start();
    daemon.begin("both");
    let mut client = daemon.client();
    let (error, message) = client.bad("AttachDevice", &ask("both", &data("/refused"), &["live", "config"]));
    assert_eq!(error, "Failed");
    assert_eq!(message, "cannot mount '/refused' on '/data': Not a directory");
    assert_eq!(sources(&mut client, "both"), (vec![], vec![]));
    client.good("AttachDevice", &ask("both", &data("/a"), &["live", "config"]));
    assert_eq!(sources(&mut client, "both"), (vec!["/a".into()], vec!["/a".into()]));
    client.good("DetachDevice", &ask("both", &data("/a"), &["config"]));
    // Checked in both before anything is done in either.
    assert_eq!(client.bad("DetachDevice", &ask("both", &data("/a"), &["live", "config"])).0, "NoSuchDevice");
    assert_eq!(sources(&mut client, "both"), (vec!["/a".into()], vec![]));
    // What runs is changed back when the definition cannot be kept.
    let folder = daemon.path("etc/berth/domains");
    let aside = daemon.path("etc/berth/aside");
    std::fs::rename(&folder, &aside).expect("moved");
    let other = data("/c").replace("/data", "/other");
    let (error, _) = client.bad("AttachDevice", &ask("both", &other, &["live", "config"]));
    std::fs::rename(&aside, &folder).expect("moved back");
    assert_eq!(error, "Failed");
    assert_eq!(sources(&mut client, "both"), (vec!["/a".into()], vec![]));
    client.good("AttachDevice", &ask("both", &other, &["live"]));
}

fn denied() {
    let daemon = Daemon::start();
    daemon.define("off");
    let mut client = daemon.client();
    let text = client.bad("AttachDevice", &ask("off", &data("/a"), &["live"]));
    assert_eq!(text, ("InvalidState".into(), "domain is not running".into()));
    let text = client.bad("AttachDevice", &ask("off", &data("/a"), &["live", "config"]));
    assert_eq!(text, ("InvalidState".into(), "domain is not running".into()));
    client.good("Create", &json!({ "xml": xml("short") }));
    let text = client.bad("AttachDevice", &ask("short", &data("/a"), &["config"]));
    assert_eq!(text, ("InvalidState".into(), "cannot change persistent config of a transient domain".into()));
    let text = client.bad("AttachDevice", &ask("short", &data("/a"), &["live", "config"]));
    assert_eq!(text.0, "InvalidState");
    client.good("AttachDevice", &ask("short", &data("/a"), &[]));
    let text = client.bad("AttachDevice", &ask("off", "<channel type='pty'/>", &[]));
    assert_eq!(text.0, "InvalidDocument");
    assert!(text.1.contains("<channel>: a device of this kind"), "{}", text.1);
    assert_eq!(client.bad("AttachDevice", &ask("nobody", &data("/a"), &[])).0, "NoSuchDomain");
    let root = "<filesystem type='mount'><source dir='/x'/><target dir='/'/></filesystem>";
    let text = client.bad("DetachDevice", &ask("short", root, &["live"]));
    assert_eq!(text.1, "the root of a running container cannot be changed");
    let text = client.bad("DetachDevice", &ask("off", root, &["config"]));
    assert_eq!(text.0, "InvalidDocument");
}

fn lost() {
    let daemon = Daemon::start();
    daemon.begin("lost");
    let mut client = daemon.client();
    client.good("AttachDevice", &ask("lost", &data("/lost"), &["live"]));
    assert_eq!(sources(&mut client, "lost").0, ["/lost"]);
}

fn meanwhile() {
    let daemon = Daemon::start();
    daemon.begin("waits");
    let (mut first, mut second) = (daemon.client(), daemon.client());
    first.send_call("io.berth.Domain.AttachDevice", &ask("waits", &data("/slow"), &["live"]), "");
    wait("the change to begin", || {
        let state = daemon.path("run/berth/state");
        let files = std::fs::read_dir(state).ok()?.flatten().map(|e| std::fs::read_to_string(e.path()));
        files.flatten().any(|t| t.contains("\"pending\":{")).then_some(())
    });
    // The second waits for the first, and finds what it did.
    assert_eq!(second.bad("AttachDevice", &ask("waits", &data("/b"), &["live"])).0, "DeviceExists");
    assert!(first.reply().get("error").is_none());
    let other = data("/slow").replace("/data", "/other");
    first.send_call("io.berth.Domain.AttachDevice", &ask("waits", &other, &["live"]), "");
    std::thread::sleep(std::time::Duration::from_millis(100));
    let begin = std::time::Instant::now();
    second.good("Destroy", &json!({ "name": "waits" }));
    assert!(begin.elapsed().as_millis() < 1000, "the end waited for the change");
    assert!(first.reply()["error"].is_string());
    second.good("Start", &json!({ "name": "waits" }));
    assert_eq!(sources(&mut second, "waits"), (vec![], vec![]));
}

fn killed() {
    for (point, there) in [("plugging", false), ("plugged", true)] {
        let mut daemon = Daemon::start();
        daemon.begin("kill");
        daemon.kill();
        daemon.environment = vec![("BERTH_KILL_AT".into(), format!("daemon:{point}"))];
        daemon.launch();
        let mut client = daemon.client();
        client.send_call("io.berth.Domain.AttachDevice", &ask("kill", &data("/a"), &["live", "config"]), "");
        daemon.wait_dead();
        daemon.environment.clear();
        daemon.launch();
        let want: Vec<String> = if there { vec!["/a".into()] } else { Vec::new() };
        let mut client = daemon.client();
        assert_eq!(sources(&mut client, "kill"), (want.clone(), want), "killed at '{point}'");
        let act = if there { "DetachDevice" } else { "AttachDevice" };
        client.good(act, &ask("kill", &data("/a"), &["live", "config"]));
    }
}

/// The next daemons cannot ask what became of the change, as the controller stands still.
fn silent() {
    use rustix::process::Signal;

    // With `other`, the definition is replaced before the controller goes on.
    for (point, there, other) in
        [("plugging", false, false), ("plugged", true, false), ("plugged", true, true)]
    {
        let mut daemon = Daemon::start();
        let pid = daemon.begin("kill")["id"].as_i64().expect("id");
        daemon.kill();
        daemon.environment = vec![("BERTH_KILL_AT".into(), format!("daemon:{point}"))];
        daemon.launch();
        let mut client = daemon.client();
        client.send_call("io.berth.Domain.AttachDevice", &ask("kill", &data("/a"), &["live", "config"]), "");
        daemon.wait_dead();
        daemon.environment.clear();
        signal(pid, Signal::STOP);
        daemon.launch();
        if other {
            daemon.define("kill");
        }
        daemon.restart();
        let mut client = daemon.client();
        assert_eq!(sources(&mut client, "kill"), (Vec::new(), Vec::new()), "not known yet");
        assert_eq!(client.bad("AttachDevice", &ask("kill", &data("/b"), &["live"])).0, "TimedOut");
        signal(pid, Signal::CONT);
        wait("the controller", || daemon.log().contains(", answers").then_some(()));
        let want = |there: bool| if there { vec!["/a".to_owned()] } else { Vec::new() };
        wait("what became of it", || {
            (sources(&mut client, "kill") == (want(there), want(there && !other))).then_some(())
        });
        let act = if there { "DetachDevice" } else { "AttachDevice" };
        client.good(act, &ask("kill", &data("/a"), &["live"]));
        daemon.restart();
        assert_eq!(sources(&mut daemon.client(), "kill").0, want(!there), "killed at '{point}'");
    }
}
