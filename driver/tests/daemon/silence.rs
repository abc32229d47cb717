//! A controller stands still while the daemon is started anew: its container is kept, and nobody else waits for it.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::Test;
use crate::harness::{Daemon, alive, kill, signal, wait, xml};

pub const TESTS: &[Test] = &[
    ("silence::a_controller_that_stands_still_is_taken_over_when_it_goes_on", goes_on),
    ("silence::one_that_is_killed_while_it_stands_still_is_buried", killed),
    ("silence::a_domain_whose_controller_stands_still_is_destroyed", destroyed),
    ("silence::autodestroy_holds_up_nobody", autodestroy),
];

const STOP: rustix::process::Signal = rustix::process::Signal::STOP;
const CONT: rustix::process::Signal = rustix::process::Signal::CONT;

/// Kills the daemon and stops these controllers; starts the daemon, which must not wait for one after the other.
fn restart_without(daemon: &mut Daemon, stopped: &[i64]) {
    daemon.kill();
    stopped.iter().for_each(|pid| signal(*pid, STOP));
    let begin = Instant::now();
    daemon.launch();
    let taken = begin.elapsed();
    assert!(taken < Duration::from_secs(4), "nobody was served for {taken:?}");
}

fn goes_on() {
    let mut daemon = Daemon::start();
    daemon.begin("other");
    let names = ["still0", "still1", "still2", "still3"];
    let pids: Vec<i64> = names.iter().map(|n| daemon.begin(n)["id"].as_i64().expect("id")).collect();
    let before: Vec<_> = names.iter().map(|n| daemon.status(n)).collect();
    // The second of them finds what the first one knew.
    for _ in 0..2 {
        restart_without(&mut daemon, &pids);
        assert_eq!(names.iter().map(|n| daemon.status(n)).collect::<Vec<_>>(), before);
    }
    let told = format!("the controller, process {}, does not answer", pids[0]);
    assert!(daemon.log().contains(&told), "{}", daemon.log());
    let mut client = daemon.client();
    client.good("Destroy", &json!({ "name": "other" }));
    // It is a running domain for whoever asks, but for what only the controller can do.
    assert_eq!(client.bad("Start", &json!({ "name": "still0" })).0, "InvalidState");
    client.good("Undefine", &json!({ "name": "still0" }));
    client.good("Define", &json!({ "xml": xml("still0") }));
    let device = "<filesystem type='mount'><source dir='/a'/><target dir='/data'/></filesystem>";
    let attach = json!({ "name": "still0", "xml": device, "affect": ["live"] });
    let (error, text) = client.bad("AttachDevice", &attach);
    assert_eq!(error, "TimedOut");
    assert!(text.contains(&told), "{text}");
    let (error, text) = client.bad("SendProcessSignal", &json!({ "name": "still1", "pid": 1, "signal": 10 }));
    assert_eq!(error, "TimedOut");
    assert!(text.contains(&format!("(process {})", pids[1])), "{text}");

    let mut listener = daemon.listener();
    let sign = daemon.path(&format!("run/berth/state/{}.exit.sign", before[0]["uuid"].as_str().unwrap()));
    std::fs::write(&sign, "reboot").expect("written");
    pids.iter().for_each(|pid| signal(*pid, CONT));
    assert_eq!(daemon.wait_state("still0", "running", "rebooted")["restarts"], json!(1));
    assert_eq!(listener.event()["kind"], json!("rebooted"));
    wait("all of them", || (daemon.log().matches(", answers").count() == names.len()).then_some(()));
    client.good("AttachDevice", &attach);
    // Every one is really ours again, also for the next daemon.
    daemon.restart();
    assert_eq!(daemon.status("still0")["restarts"], json!(1));
    daemon.client().good("Shutdown", &json!({ "name": "still2" }));
    for name in ["still0", "still1", "still3"] {
        daemon.client().good("Destroy", &json!({ "name": name }));
    }
    assert!(!pids.iter().any(|pid| alive(*pid)), "a controller lives on");
}

fn killed() {
    let mut daemon = Daemon::start();
    let pid = daemon.begin("still")["id"].as_i64().expect("id");
    restart_without(&mut daemon, &[pid]);
    assert_eq!(daemon.status("still")["state"], json!("running"));
    kill(pid);
    let status = daemon.wait_state("still", "shutoff", "crashed");
    assert_eq!(status["lastExit"]["kind"], json!("controllerLost"));
    assert_eq!(daemon.residue(), Vec::<String>::new());
    daemon.client().good("Start", &json!({ "name": "still" }));
    daemon.client().good("Destroy", &json!({ "name": "still" }));
}

fn destroyed() {
    let mut daemon = Daemon::start();
    let pid = daemon.begin("still")["id"].as_i64().expect("id");
    restart_without(&mut daemon, &[pid]);
    daemon.client().good("Destroy", &json!({ "name": "still" }));
    assert_eq!(daemon.status("still")["reason"], json!("destroyed"));
    assert!(!alive(pid), "the controller lives on");
    assert_eq!(daemon.residue(), Vec::<String>::new());
}

fn autodestroy() {
    let mut daemon = Daemon::start();
    daemon.define("auto");
    let mut client = daemon.client();
    let started = client.good("Start", &json!({ "name": "auto", "autodestroy": true }));
    let pid = started["domain"]["id"].as_i64().expect("id");
    restart_without(&mut daemon, &[pid]);
    daemon.wait_state("auto", "shutoff", "destroyed");
    assert!(!alive(pid), "the controller lives on");
}
