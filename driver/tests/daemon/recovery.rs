//! The daemon dies at any moment, and the next one knows everything.

use serde_json::json;

use crate::Test;
use crate::harness::{Daemon, alive, kill, wait, xml, xml_with};

pub const TESTS: &[Test] = &[
    ("recovery::running_domains_are_adopted", adopted),
    ("recovery::a_polite_end_leaves_containers_alone", polite),
    ("recovery::what_happened_meanwhile_is_told", meanwhile),
    ("recovery::killed_at_each_step_of_a_start", killed_starting),
    ("recovery::killed_at_each_step_of_an_end", killed_stopping),
    ("recovery::killed_while_defining", killed_defining),
    ("recovery::bad_files_are_set_aside", set_aside),
    ("recovery::a_definition_put_there_by_hand_keeps_its_uuid", by_hand),
    ("recovery::a_second_daemon_is_refused", second),
    ("recovery::another_boot_has_no_processes", other_boot),
    ("recovery::autodestroy_does_not_outlive_the_daemon", autodestroy),
];

fn adopted() {
    let mut daemon = Daemon::start();
    daemon.begin("kept");
    daemon.client().good("Create", &json!({ "xml": xml("transient") }));
    let before = (daemon.status("kept"), daemon.status("transient"));
    let live = daemon.client().good("GetXML", &json!({ "name": "transient" }));
    for _ in 0..3 {
        daemon.restart();
        assert_eq!((daemon.status("kept"), daemon.status("transient")), before);
    }
    assert_eq!(daemon.client().good("GetXML", &json!({ "name": "transient" })), live);
    // They are really ours again.
    daemon.client().good("Reboot", &json!({ "name": "kept" }));
    assert_eq!(daemon.wait_state("kept", "running", "rebooted")["restarts"], json!(1));
    daemon.client().good("Destroy", &json!({ "name": "transient" }));
    kill(daemon.status("kept")["id"].as_i64().expect("id"));
    daemon.wait_state("kept", "shutoff", "crashed");
}

fn polite() {
    let mut daemon = Daemon::start();
    let pid = daemon.begin("kept")["id"].as_i64().expect("id");
    daemon.stop();
    assert!(alive(pid));
    daemon.launch();
    assert_eq!(daemon.status("kept")["id"], json!(pid));
}

fn meanwhile() {
    let mut daemon = Daemon::start();
    let names = ["reboot", "crash", "poweroff", "lost"];
    for name in names {
        daemon.begin(name);
    }
    let uuid = |name: &str| daemon.status(name)["uuid"].as_str().unwrap().to_owned();
    let signs: Vec<_> =
        names.iter().map(|n| (n, uuid(n), daemon.status(n)["id"].as_i64().unwrap())).collect();
    daemon.kill();
    for (name, uuid, pid) in &signs {
        match **name {
            "lost" => kill(*pid),
            what => {
                let sign = daemon.path(&format!("run/berth/state/{uuid}.exit.sign"));
                std::fs::write(&sign, what).expect("written");
                wait("the sign to be seen", || (!sign.exists()).then_some(()));
            }
        }
        wait("the end", || (*name == &"reboot" || !alive(*pid)).then_some(()));
    }
    daemon.launch();
    // Told before anybody is served.
    let status = daemon.status("crash");
    assert_eq!((&status["reason"], &status["lastExit"]["status"]), (&json!("crashed"), &json!(7)));
    assert_eq!(daemon.status("poweroff")["reason"], json!("shutdown"));
    assert_eq!(daemon.status("lost")["lastExit"]["kind"], json!("controllerLost"));
    assert_eq!(daemon.wait_state("reboot", "running", "rebooted")["restarts"], json!(1));
    let mut client = daemon.client();
    client.send_call("Subscribe", &json!({ "since": 8 }), "more");
    let first = client.reply()["parameters"].clone();
    assert_eq!(
        (&first["sequence"], &first["lost"]),
        (&json!(14), &json!(false)),
        "two crashes and two others"
    );
    // How it ended is still known after another restart.
    daemon.restart();
    assert_eq!(daemon.status("crash")["lastExit"]["status"], json!(7));
}

fn die_at(daemon: &mut Daemon, step: &str, method: &str, parameters: &serde_json::Value) {
    daemon.kill();
    daemon.environment = vec![("BERTH_KILL_AT".into(), format!("daemon:{step}"))];
    daemon.launch();
    let mut client = daemon.client();
    client.send_call(method, parameters, "");
    assert_eq!(client.try_reply(), None, "the daemon was not killed at '{step}'");
    daemon.wait_dead();
    daemon.environment.clear();
    daemon.launch();
}

fn killed_starting() {
    let mut daemon = Daemon::start();
    daemon.define("k");
    for step in ["spawned", "prepared", "profile", "cgroup", "launched", "published"] {
        die_at(&mut daemon, step, "Start", &json!({ "name": "k" }));
        let status = daemon.status("k");
        if status["state"] == json!("running") {
            assert!(alive(status["id"].as_i64().expect("id")), "'{step}'");
            daemon.client().good("Destroy", &json!({ "name": "k" }));
        }
        daemon.client().good("Start", &json!({ "name": "k" }));
        daemon.client().good("Destroy", &json!({ "name": "k" }));
        daemon.client().good("Undefine", &json!({ "name": "k" }));
        assert_eq!(daemon.residue(), Vec::<String>::new(), "'{step}'");
        daemon.define("k");
    }
    // A transient one that was not finished is as if it had never been.
    die_at(&mut daemon, "spawned", "Create", &json!({ "xml": xml("t") }));
    assert_eq!(daemon.client().bad("List", &json!({ "name": "t" })).0, "NoSuchDomain");
    assert_eq!(daemon.residue(), Vec::<String>::new());
}

fn killed_stopping() {
    let mut daemon = Daemon::start();
    for step in ["stopping", "cleaned", "published"] {
        daemon.begin("k");
        die_at(&mut daemon, step, "Destroy", &json!({ "name": "k" }));
        // The controller may still be on its last words when the next daemon comes.
        let status = daemon.wait_state("k", "shutoff", "destroyed");
        assert_eq!(status["lastExit"]["kind"], json!("destroyed"), "'{step}'");
        daemon.client().good("Undefine", &json!({ "name": "k" }));
        assert_eq!(daemon.residue(), Vec::<String>::new(), "'{step}'");
    }
}

fn killed_defining() {
    let mut daemon = Daemon::start();
    daemon.define("atom");
    let bigger = xml("atom").replace("<memory unit='MiB'>64", "<memory unit='MiB'>32");
    for (step, memory) in [("define-written", "65536"), ("define-renamed", "32768")] {
        die_at(&mut daemon, step, "Define", &json!({ "xml": bigger }));
        let now = daemon.client().good("GetXML", &json!({ "name": "atom" }));
        assert!(now["xml"].as_str().unwrap().contains(memory), "'{step}': {now}");
        assert_eq!(
            std::fs::read_dir(daemon.path("etc/berth/domains")).expect("there").count(),
            1,
            "'{step}'"
        );
    }
}

fn set_aside() {
    let mut daemon = Daemon::start();
    daemon.define("fine");
    daemon.kill();
    let folder = daemon.path("etc/berth/domains");
    std::fs::write(folder.join("bad.xml"), "<domain type='lxc'>\n<name>b").expect("written");
    std::fs::write(folder.join("liar.xml"), xml("other")).expect("written");
    daemon.launch();
    assert_eq!(daemon.client().all("List", &json!({})).len(), 1);
    let log = daemon.log();
    assert!(log.contains("2 files set aside") && log.contains("line 2") && log.contains("liar.xml"), "{log}");
    assert!(folder.join("bad.xml.unreadable-1").exists());
    daemon.define("bad");
}

fn by_hand() {
    let mut daemon = Daemon::start();
    daemon.begin("runs");
    let uuid = daemon.status("runs")["uuid"].clone();
    daemon.kill();
    let folder = daemon.path("etc/berth/domains");
    std::fs::write(folder.join("hand.xml"), xml("hand")).expect("written");
    // It runs, and its file says no longer which one it is, as after an edit by hand.
    std::fs::write(folder.join("runs.xml"), xml("runs")).expect("written");
    daemon.launch();
    assert_eq!(daemon.status("runs")["uuid"], uuid);
    daemon.client().good("Start", &json!({ "name": "hand" }));
    let before = daemon.status("hand");
    daemon.restart();
    assert_eq!(daemon.status("hand"), before);
    // The file of another domain that runs under this name is none of its own.
    daemon.kill();
    let odd = xml_with("runs", "11111111-2222-3333-4444-555555555555");
    std::fs::write(folder.join("runs.xml"), odd).expect("written");
    daemon.launch();
    assert_eq!((daemon.status("runs")["uuid"].clone(), daemon.status("hand")), (uuid, before));
    assert!(daemon.log().contains("ignoring what was found of 'runs'"), "{}", daemon.log());
}

fn second() {
    let daemon = Daemon::start();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_berthd"))
        .arg("--root")
        .arg(daemon.root())
        .output()
        .expect("run");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("another berthd is running here"), "{text}");
    daemon.define("still-there");
}

fn other_boot() {
    let mut daemon = Daemon::start();
    let pid = daemon.begin("old")["id"].as_i64().expect("id");
    let uuid = daemon.status("old")["uuid"].as_str().unwrap().to_owned();
    daemon.kill();
    let path = daemon.path(&format!("run/berth/state/{uuid}.json"));
    let mut record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).expect("there")).expect("JSON");
    record["bootId"] = json!("another boot");
    std::fs::write(&path, record.to_string()).expect("written");
    daemon.launch();
    assert_eq!(daemon.status("old")["lastExit"]["kind"], json!("controllerLost"));
    // The process with that number is not ours to touch.
    assert!(alive(pid));
    kill(pid);
}

fn autodestroy() {
    let mut daemon = Daemon::start();
    daemon.define("auto");
    let mut client = daemon.client();
    let pid = client.good("Start", &json!({ "name": "auto", "autodestroy": true }))["domain"]["id"]
        .as_i64()
        .unwrap();
    daemon.restart();
    assert_eq!(daemon.status("auto")["reason"], json!("destroyed"));
    assert!(!alive(pid));
}
