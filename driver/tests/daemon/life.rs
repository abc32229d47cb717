//! Definitions, starts, ends, and what is told about them.

use serde_json::{Value, json};

use crate::Test;
use crate::harness::{Daemon, alive, kill, wait, xml, xml_with};

pub const TESTS: &[Test] = &[
    ("life::redefinition_follows_the_rules", redefine),
    ("life::a_dry_run_changes_nothing", dry_run),
    ("life::start_and_destroy", start_destroy),
    ("life::failed_starts_leave_nothing", failed_starts),
    ("life::transient_domains", transient),
    ("life::requests_that_do_not_fit", denied),
    ("life::live_and_next_definitions", live_and_next),
    ("life::shutdown_reboot_and_crash", ends),
    ("life::events_are_numbered", events),
    ("life::events_of_one_domain", events_of_one),
    ("life::autodestroy_ends_with_the_client", autodestroy),
    ("life::a_stubborn_controller_is_killed", stubborn),
    ("life::metadata", metadata),
    ("life::settings_that_are_in_force_are_no_metadata", settings),
    ("life::autostart_once_in_a_boot", autostart),
    ("life::many_at_once", many),
];

const A: &str = "11111111-1111-4111-8111-111111111112";
const B: &str = "22222222-2222-4222-8222-222222222223";

/// Tells the scripted controller what to do.
fn sign(daemon: &Daemon, name: &str, what: &str) {
    let uuid = daemon.status(name)["uuid"].as_str().expect("uuid").to_owned();
    let path = daemon.path(&format!("run/berth/state/{uuid}.exit.sign"));
    let new = path.with_extension("new-sign");
    std::fs::write(&new, what).expect("written");
    std::fs::rename(new, path).expect("renamed");
}

fn redefine() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let define = |c: &mut crate::client::Client, xml: String| c.call("Define", &json!({ "xml": xml }));
    assert_eq!(define(&mut client, xml_with("one", A))["parameters"]["updated"], json!(false));
    assert_eq!(define(&mut client, xml_with("one", A))["parameters"]["updated"], json!(true));
    let other_uuid = define(&mut client, xml_with("one", B));
    assert_eq!(other_uuid["error"], json!("io.berth.Domain.DomainExists"));
    let want = format!("domain 'one' already exists with uuid {A}");
    assert_eq!(other_uuid["parameters"]["message"], json!(want));
    let other_name = define(&mut client, xml_with("two", A));
    let want = format!("domain 'one' is already defined with uuid {A}");
    assert_eq!(other_name["parameters"]["message"], json!(want));
    // Without a uuid it is meant to be the one with that name.
    let same = define(&mut client, xml("one"));
    assert_eq!(same["parameters"]["domain"]["uuid"], json!(A));
    let text = std::fs::read_to_string(daemon.path("etc/berth/domains/one.xml")).expect("kept");
    assert!(text.contains(A));
    // A name or uuid is free again when its domain is gone.
    client.good("Undefine", &json!({ "uuid": A }));
    assert_eq!(define(&mut client, xml_with("two", A))["parameters"]["updated"], json!(false));
    let broken = define(&mut client, "<domain type='lxc'><name>x</name>".into());
    assert_eq!(broken["error"], json!("io.berth.Domain.InvalidDocument"));
    assert!(broken["parameters"]["diagnostics"][0]["line"].is_i64());
}

fn dry_run() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let out = client.good("Define", &json!({ "xml": xml("dry"), "dryRun": true }));
    assert_eq!(out["domain"]["name"], json!("dry"));
    assert_eq!(client.bad("List", &json!({ "name": "dry" })).0, "NoSuchDomain");
    assert_eq!(std::fs::read_dir(daemon.path("etc/berth/domains")).expect("there").count(), 0);
}

fn start_destroy() {
    let daemon = Daemon::start();
    let status = daemon.begin("web");
    let pid = status["id"].as_i64().expect("an id");
    assert!(alive(pid));
    assert_eq!((&status["state"], &status["reason"]), (&json!("running"), &json!("booted")));
    let mut client = daemon.client();
    assert_eq!(client.good("List", &json!({ "id": pid }))["domain"]["name"], json!("web"));
    assert_eq!(client.bad("List", &json!({ "id": pid, "name": "nope" })).0, "NoSuchDomain");
    let live = client.good("GetXML", &json!({ "name": "web" }))["xml"].as_str().unwrap().to_owned();
    assert!(live.starts_with(&format!("<domain type='lxc' id='{pid}'>")), "{live}");
    assert!(live.contains("/dev/pts/99"), "{live}");
    client.good("Destroy", &json!({ "name": "web" }));
    assert!(!alive(pid), "the answer came before the end");
    let status = daemon.status("web");
    assert_eq!((&status["state"], &status["reason"]), (&json!("shutoff"), &json!("destroyed")));
    assert_eq!(status["lastExit"]["kind"], json!("destroyed"));
    assert_eq!(status["id"], json!(null));
    assert_eq!(daemon.residue(), Vec::<String>::new());
}

fn failed_starts() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    daemon.define("refuse");
    let before = daemon.status("refuse");
    let reply = client.call("Start", &json!({ "name": "refuse" }));
    assert_eq!(reply["error"], json!("io.berth.Domain.StartFailed"));
    let parameters = &reply["parameters"];
    assert_eq!(
        parameters["message"],
        json!(
            "cannot start domain 'refuse': step 'root': cannot open '/srv/refuse': No such file or directory"
        )
    );
    assert_eq!((&parameters["step"], &parameters["errno"]), (&json!("root"), &json!(2)));
    assert!(parameters["hint"].is_string());
    assert_eq!(daemon.status("refuse"), before);
    daemon.define("die");
    let (name, message) = client.bad("Start", &json!({ "name": "die" }));
    assert_eq!(name, "StartFailed");
    assert!(message.contains("the controller ended") && message.contains("die.log"), "{message}");
    // A transient one is as if it had never been.
    assert_eq!(client.bad("Create", &json!({ "xml": xml("refuse-too") })).0, "StartFailed");
    assert_eq!(client.bad("List", &json!({ "name": "refuse-too" })).0, "NoSuchDomain");
    let unsupported =
        xml("later").replace("type='mount'><source dir='/srv/later'/>", "type='ram'><source usage='9'/>");
    let reply = client.call("Create", &json!({ "xml": unsupported }));
    assert_eq!(reply["error"], json!("io.berth.Domain.Unsupported"));
    assert_eq!(reply["parameters"]["diagnostics"][0]["line"], json!(6));
    assert_eq!(client.bad("List", &json!({ "name": "later" })).0, "NoSuchDomain");
    assert_eq!(daemon.residue(), Vec::<String>::new());
}

fn transient() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let made = client.good("Create", &json!({ "xml": xml("tr") }));
    assert_eq!(made["domain"]["persistent"], json!(false));
    assert_eq!(client.bad("Undefine", &json!({ "name": "tr" })).1, "cannot undefine transient domain");
    assert_eq!(client.bad("SetAutostart", &json!({ "name": "tr", "autostart": true })).0, "InvalidState");
    // Made persistent, and transient again, while it runs.
    let id = made["domain"]["id"].clone();
    client.good("Define", &json!({ "xml": xml("tr") }));
    let status = daemon.status("tr");
    assert_eq!((&status["persistent"], &status["id"]), (&json!(true), &id));
    client.good("Undefine", &json!({ "name": "tr" }));
    assert_eq!(daemon.status("tr")["persistent"], json!(false));
    client.good("Destroy", &json!({ "name": "tr" }));
    assert_eq!(client.bad("List", &json!({ "name": "tr" })).0, "NoSuchDomain");
    assert_eq!(daemon.residue(), Vec::<String>::new());
    // A document started in place of a definition leaves that as it is.
    client.good("Define", &json!({ "xml": xml_with("mix", A) }));
    let other = xml_with("mix", A).replace("<memory unit='MiB'>64", "<memory unit='MiB'>32");
    let made = client.good("Create", &json!({ "xml": other }));
    assert_eq!(
        (&made["domain"]["persistent"], &made["domain"]["pendingChange"]),
        (&json!(true), &json!(true))
    );
    client.good("Destroy", &json!({ "name": "mix" }));
    let kept = client.good("GetXML", &json!({ "name": "mix" }));
    assert!(kept["xml"].as_str().unwrap().contains("65536"));
}

fn denied() {
    let daemon = Daemon::start();
    daemon.begin("on");
    daemon.define("off");
    let mut client = daemon.client();
    for (method, parameters, error, message) in [
        ("Start", json!({ "name": "on" }), "InvalidState", "Domain is already active"),
        ("Create", json!({ "xml": xml("on") }), "InvalidState", "domain 'on' is already active"),
        ("Destroy", json!({ "name": "off" }), "InvalidState", "domain is not running"),
        ("Shutdown", json!({ "name": "off" }), "InvalidState", "domain is not running"),
        ("Reboot", json!({ "name": "off" }), "InvalidState", "domain is not running"),
        ("OpenConsole", json!({ "name": "off" }), "InvalidState", "domain is not running"),
        ("GetHostname", json!({ "name": "off" }), "InvalidState", "domain is not running"),
        (
            "SendProcessSignal",
            json!({ "name": "off", "pid": 1, "signal": 15 }),
            "InvalidState",
            "domain is not running",
        ),
        (
            "SendProcessSignal",
            json!({ "name": "on", "pid": 2, "signal": 15 }),
            "InvalidValue",
            "argument unsupported: Only the init process may be killed",
        ),
        (
            "SendProcessSignal",
            json!({ "name": "on", "pid": 1, "signal": 65 }),
            "InvalidValue",
            "signum value 65 is out of range",
        ),
        (
            "SendProcessSignal",
            json!({ "name": "on", "pid": 1, "signal": -1 }),
            "InvalidValue",
            "signum value -1 is out of range",
        ),
        ("Start", json!({ "name": "nosuch" }), "NoSuchDomain", "failed to get domain 'nosuch'"),
        (
            "OpenConsole",
            json!({ "name": "on", "device": "console9" }),
            "NoSuchConsole",
            "cannot find console device 'console9'",
        ),
        (
            "GetMetadata",
            json!({ "name": "off", "kind": "title", "affect": "live" }),
            "InvalidState",
            "domain is not running",
        ),
    ] {
        assert_eq!(client.bad(method, &parameters), (error.into(), message.into()), "{method} {parameters}");
    }
    client.good("SendProcessSignal", &json!({ "name": "on", "pid": 1, "signal": 40 }));
    let state = std::fs::read_dir(daemon.path("run/berth/state")).expect("records");
    let sent = state.flatten().map(|e| e.path()).find(|p| p.extension().is_some_and(|e| e == "signal"));
    assert_eq!(std::fs::read_to_string(sent.expect("a signal")).expect("read"), "40");
    let reply = client.call("Start", &json!({ "name": "on" }));
    assert_eq!(reply["parameters"]["state"], json!("running"));
}

fn live_and_next() {
    let daemon = Daemon::start();
    daemon.begin("ln");
    let mut client = daemon.client();
    assert_eq!(daemon.status("ln")["pendingChange"], json!(false));
    let next = xml("ln").replace("<memory unit='MiB'>64", "<memory unit='MiB'>32");
    client.good("Define", &json!({ "xml": next }));
    assert_eq!(daemon.status("ln")["pendingChange"], json!(true));
    let get = |c: &mut crate::client::Client, inactive: bool| {
        c.good("GetXML", &json!({ "name": "ln", "inactive": inactive }))["xml"].as_str().unwrap().to_owned()
    };
    assert!(get(&mut client, false).contains("65536"));
    assert!(get(&mut client, true).contains("32768") && !get(&mut client, true).contains(" id='"));
    client.good("Destroy", &json!({ "name": "ln" }));
    assert!(get(&mut client, false).contains("32768"));
}

fn ends() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    daemon.begin("end");
    assert_eq!(client.good("Reboot", &json!({ "name": "end" }))["asked"], json!("SIGFAKE"));
    let status = daemon.wait_state("end", "running", "rebooted");
    assert_eq!((&status["restarts"], &status["lastExit"]["kind"]), (&json!(1), &json!("reboot")));
    client.good("Shutdown", &json!({ "name": "end" }));
    let status = daemon.wait_state("end", "shutoff", "shutdown");
    assert_eq!(status["lastExit"]["kind"], json!("poweroff"));
    client.good("Start", &json!({ "name": "end" }));
    sign(&daemon, "end", "crash");
    let status = daemon.wait_state("end", "shutoff", "crashed");
    assert_eq!(status["lastExit"]["status"], json!(7));
    client.good("Start", &json!({ "name": "end" }));
    kill(daemon.status("end")["id"].as_i64().expect("id"));
    let status = daemon.wait_state("end", "shutoff", "crashed");
    assert_eq!(status["lastExit"]["kind"], json!("controllerLost"));
    daemon.begin("deaf");
    assert_eq!(
        client.bad("Shutdown", &json!({ "name": "deaf" })),
        ("NotAnswering".into(), "init does not listen".into())
    );
}

/// Reads events until one of a kind, as "kind detail".
fn story(client: &mut crate::client::Client, last: &str) -> Vec<(i64, String)> {
    let mut told = Vec::new();
    loop {
        let event: Value = client.reply()["parameters"]["event"].clone();
        let kind = event["kind"].as_str().expect("an event").to_owned();
        let text = format!("{kind} {}", event["detail"].as_str().unwrap_or("-"));
        told.push((event["sequence"].as_i64().expect("a number"), text));
        if kind == last {
            return told;
        }
    }
}

fn events() {
    let mut daemon = Daemon::start();
    let mut client = daemon.client();
    client.send_call("Subscribe", &json!({}), "more");
    client.reply();
    daemon.begin("ev");
    sign(&daemon, "ev", "reboot");
    daemon.wait_state("ev", "running", "rebooted");
    sign(&daemon, "ev", "crash");
    daemon.wait_state("ev", "shutoff", "crashed");
    daemon.client().good("Undefine", &json!({ "name": "ev" }));
    let told = story(&mut client, "undefined");
    let texts: Vec<_> = told.iter().map(|(_, text)| text.as_str()).collect();
    let want = [
        "defined added",
        "started booted",
        "rebooted -",
        "crashed -",
        "stopped crashed",
        "undefined removed",
    ];
    assert_eq!(texts, want);
    let numbers: Vec<_> = told.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
    // Those after a number, and then those that come.
    let mut late = daemon.client();
    late.send_call("Subscribe", &json!({ "since": 4 }), "more");
    let first = late.reply()["parameters"].clone();
    assert_eq!((&first["sequence"], &first["lost"]), (&json!(6), &json!(false)));
    assert_eq!(story(&mut late, "undefined").len(), 2);
    // The numbers go on with the next daemon; what it does not remember is lost.
    daemon.restart();
    daemon.define("again");
    for (since, lost) in [(6, false), (3, true), (99, true)] {
        let mut client = daemon.client();
        client.send_call("Subscribe", &json!({ "since": since }), "more");
        let first = client.reply()["parameters"].clone();
        assert_eq!((&first["sequence"], &first["lost"]), (&json!(7), &json!(lost)), "since {since}");
    }
}

fn events_of_one() {
    let daemon = Daemon::start();
    daemon.define("a");
    let mut client = daemon.client();
    client.send_call("Subscribe", &json!({ "name": "a" }), "more");
    client.reply();
    daemon.define("b");
    daemon.client().good("Undefine", &json!({ "name": "a" }));
    assert_eq!(story(&mut client, "undefined").len(), 1);
    assert_eq!(daemon.client().bad("Subscribe", &json!({ "name": "a" })).0, "ExpectedMore");
}

fn autodestroy() {
    let daemon = Daemon::start();
    daemon.define("auto");
    let mut client = daemon.client();
    client.good("Start", &json!({ "name": "auto", "autodestroy": true }));
    client.good("Create", &json!({ "xml": xml("auto2"), "autodestroy": true }));
    drop(client);
    daemon.wait_state("auto", "shutoff", "destroyed");
    wait("the transient one to go", || {
        (daemon.client().call("List", &json!({ "name": "auto2" }))["error"].is_string()).then_some(())
    });
}

fn stubborn() {
    let daemon = Daemon::start();
    let pid = daemon.begin("stubborn")["id"].as_i64().expect("id");
    let mut waiting = daemon.client();
    waiting.send_call("Destroy", &json!({ "name": "stubborn" }), "");
    // Meanwhile others go on, and a second one waits for the same end.
    daemon.define("other");
    daemon.client().good("Destroy", &json!({ "name": "stubborn" }));
    assert!(waiting.reply().get("error").is_none());
    assert!(!alive(pid));
    assert_eq!(daemon.status("stubborn")["reason"], json!("destroyed"));
}

fn metadata() {
    let mut daemon = Daemon::start();
    daemon.define("meta");
    let mut client = daemon.client();
    client.good("SetMetadata", &json!({ "name": "meta", "kind": "title", "value": "Quiet" }));
    client.good("SetMetadata", &json!({ "name": "meta", "kind": "description", "value": "line\nline" }));
    let (uri, value) = ("http://example.org/1", "<tag colour='blue'>42</tag>");
    let set = json!({ "name": "meta", "kind": "element", "uri": uri, "key": "app", "value": value });
    client.good("SetMetadata", &set);
    assert_eq!(
        client.bad("SetMetadata", &json!({ "name": "meta", "kind": "title", "value": "a\nb" })).0,
        "InvalidValue"
    );
    assert_eq!(
        client.bad("SetMetadata", &json!({ "name": "meta", "kind": "element", "value": "<a/>" })).0,
        "InvalidParameter"
    );
    assert_eq!(
        client
            .bad("SetMetadata", &json!({ "name": "meta", "kind": "title", "value": "x", "affect": ["live"] }))
            .1,
        "domain is not running"
    );
    daemon.restart();
    let mut client = daemon.client();
    assert_eq!(daemon.status("meta")["title"], json!("Quiet"));
    let get = client.good("GetMetadata", &json!({ "name": "meta", "kind": "element", "uri": uri }));
    assert!(get["value"].as_str().unwrap().contains("colour"), "{get}");
    client.good("SetMetadata", &json!({ "name": "meta", "kind": "element", "uri": uri }));
    let gone = client.bad("GetMetadata", &json!({ "name": "meta", "kind": "element", "uri": uri }));
    assert_eq!(
        gone,
        ("NoSuchMetadata".into(), "metadata not found: Requested metadata element is not present".into())
    );
    // Live and kept ones are apart.
    client.good("Start", &json!({ "name": "meta" }));
    client.good("SetMetadata", &json!({ "name": "meta", "kind": "title", "value": "Live" }));
    let title = |c: &mut crate::client::Client, affect: &str| {
        c.good("GetMetadata", &json!({ "name": "meta", "kind": "title", "affect": affect }))["value"].clone()
    };
    assert_eq!((title(&mut client, "live"), title(&mut client, "config")), (json!("Live"), json!("Quiet")));
    let bad = json!({ "name": "meta", "kind": "description", "value": "a\u{1}", "affect": ["config"] });
    assert_eq!(
        client.bad("SetMetadata", &bad),
        (
            "Failed".into(),
            "a description cannot have the character U+0001, which no document can keep".into()
        )
    );
}

fn settings() {
    let daemon = Daemon::start();
    daemon.begin("set");
    let mut client = daemon.client();
    let ours = berth_domain::SETTINGS_NAMESPACE;
    let pids = |n: u32| format!("<settings><limits pids='{n}'/></settings>");
    let ask = |uri: &str, value: Option<&str>, affect: &[&str]| json!({ "name": "set", "kind": "element", "uri": uri, "key": "b", "value": value, "affect": affect });
    let live = |c: &mut crate::client::Client| {
        let asked = json!({ "name": "set", "affect": "live" });
        c.good("GetResources", &asked)["resources"]["pids"].clone()
    };
    client.good("SetResources", &json!({ "name": "set", "change": { "pids": 50 }, "affect": ["live"] }));
    // Written as an element of somebody else's it is ours all the same.
    let disguised = [
        format!("<settings xmlns='{ours}'><limits pids='7'/></settings>"),
        format!("<x:settings xmlns:x='{ours}'><x:limits pids='7'/></x:settings>"),
    ];
    for wrong in [
        ask(ours, Some(&pids(7)), &["live"]),
        ask(ours, Some(&pids(7)), &[]),
        ask(ours, Some(&pids(7)), &["current"]),
        ask(ours, Some(&pids(7)), &["live", "config"]),
        ask(ours, Some("<settings><idmap mode='none'/></settings>"), &["live"]),
        ask(ours, None, &["live"]),
        ask("urn:x", Some(&disguised[0]), &["live"]),
        ask("urn:x", Some(&disguised[1]), &["live"]),
    ] {
        let (error, message) = client.bad("SetMetadata", &wrong);
        assert_eq!(error, "InvalidState", "{wrong}");
        assert!(message.contains("'limits'") && message.contains("--config"), "{message}");
        assert_eq!(live(&mut client), json!(50), "{wrong}");
    }
    client.good("SetMetadata", &ask("urn:x", Some("<settings/>"), &["live"]));
    client.good("SetMetadata", &ask("urn:x", None, &["live"]));
    client.good("SetMetadata", &ask(ours, Some(&pids(7)), &["config"]));
    assert_eq!(live(&mut client), json!(50));
    client.good("Destroy", &json!({ "name": "set" }));
    client.good("SetMetadata", &ask(ours, Some(&pids(8)), &[]));
    client.good("Start", &json!({ "name": "set" }));
    assert_eq!(live(&mut client), json!(8));
}

fn autostart() {
    let mut daemon = Daemon::start();
    daemon.define("as");
    let mut client = daemon.client();
    client.good("SetAutostart", &json!({ "name": "as", "autostart": true }));
    client.good("SetAutostart", &json!({ "name": "as", "autostart": true }));
    assert!(daemon.path("etc/berth/autostart/as.xml").exists(), "a link to the definition");
    daemon.restart();
    assert_eq!(daemon.status("as")["autostart"], json!(true));
    assert_eq!(daemon.status("as")["state"], json!("shutoff"));
    daemon.stop();
    std::fs::write(daemon.path("run/berth/autostarted"), "another boot\n").expect("written");
    daemon.launch();
    daemon.wait_state("as", "running", "booted");
    daemon.client().good("SetAutostart", &json!({ "name": "as", "autostart": false }));
    assert!(!daemon.path("etc/berth/autostart/as.xml").exists());
}

fn many() {
    let daemon = Daemon::start();
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let mut client = daemon.client();
            std::thread::spawn(move || {
                for round in 0..20 {
                    // All want the same few names: every answer is allowed, no answer may be missing.
                    let name = format!("m{}", (n + round) % 3);
                    client.call("Define", &json!({ "xml": xml(&name) }));
                    client.call("Start", &json!({ "name": name }));
                    client.call("Destroy", &json!({ "name": name }));
                    client.call("Undefine", &json!({ "name": name }));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("every call was answered");
    }
    for name in ["m0", "m1", "m2"] {
        daemon.client().call("Destroy", &json!({ "name": name }));
        daemon.client().call("Undefine", &json!({ "name": name }));
    }
    assert_eq!(daemon.residue(), Vec::<String>::new());
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}
