//! What the wire must do, one test each, in raw bytes.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::Test;
use crate::harness::{Daemon, wait, xml};

pub const TESTS: &[Test] = &[
    ("wire::info_and_descriptions", info),
    ("wire::unknown_names_come_back", unknown),
    ("wire::bad_parameters_are_named", bad_parameters),
    ("wire::more_is_incremental", more),
    ("wire::oneway_is_never_answered", oneway),
    ("wire::pipelined_calls_keep_their_order", pipelined),
    ("wire::one_slow_call_delays_nobody", slow),
    ("wire::descriptors_go_in", descriptors),
    ("wire::long_deep_and_broken_messages_end_the_connection", broken),
    ("wire::upgrade_only_where_it_belongs", upgrade),
    ("wire::a_client_that_leaves_is_noticed", leaving),
    ("wire::descriptors_do_not_leak", no_leak),
];

fn info() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let info = client.good("org.varlink.service.GetInfo", &json!({}));
    assert_eq!(
        info["interfaces"],
        json!(["org.varlink.service", "io.berth.Node", "io.berth.Domain", "io.berth.Network"])
    );
    for (name, text) in [
        ("io.berth.Node", berth_schemas::node::DESCRIPTION),
        ("io.berth.Domain", berth_schemas::domain::DESCRIPTION),
        ("io.berth.Network", berth_schemas::network::DESCRIPTION),
        ("org.varlink.service", berth_schemas::service::DESCRIPTION),
    ] {
        let answer =
            client.good("org.varlink.service.GetInterfaceDescription", &json!({ "interface": name }));
        assert_eq!(answer["description"], json!(text));
    }
    let reply = client.call("org.varlink.service.GetInterfaceDescription", &json!({ "interface": "a.b" }));
    let want =
        json!({ "error": "org.varlink.service.InterfaceNotFound", "parameters": { "interface": "a.b" } });
    assert_eq!(reply, want);
}

fn unknown() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    for call in [
        "{\"method\":\"io.berth.Domain.Nope\"}\0",
        "{\"method\":\"io.berth.Domain.Nope\",\"parameters\":{}}\0",
    ] {
        client.send(call);
        let want = json!({
            "error": "org.varlink.service.MethodNotFound",
            "parameters": { "method": "io.berth.Domain.Nope" }
        });
        assert_eq!(client.reply(), want);
    }
    let reply = client.call("org.example.X.Y", &json!({}));
    assert_eq!(reply["error"], json!("org.varlink.service.InterfaceNotFound"));
    assert_eq!(reply["parameters"]["interface"], json!("org.example.X"));
}

fn bad_parameters() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    for (method, parameters, field) in [
        ("Define", json!({}), "xml"),
        ("Define", json!({ "xml": 1 }), "xml"),
        ("Define", json!({ "xml": "x", "dry": true }), "dry"),
        ("Start", json!({}), "name"),
        ("Start", json!({ "id": "x" }), "id"),
        ("Start", json!({ "name": "x", "initFileDescriptors": [0] }), "initFileDescriptors"),
        ("GetMetadata", json!({ "name": "x", "kind": "color" }), "kind"),
    ] {
        let reply = client.call(method, &parameters);
        assert_eq!(reply["error"], json!("org.varlink.service.InvalidParameter"), "{method}: {reply}");
        assert_eq!(reply["parameters"]["parameter"], json!(field), "{method} {parameters}");
    }
    for method in ["List", "Subscribe"] {
        assert_eq!(client.bad(method, &json!({})).0, "ExpectedMore");
    }
}

fn more() {
    let daemon = Daemon::start();
    let mut events = daemon.client();
    events.send_call("Subscribe", &json!({}), "more");
    let first = events.reply();
    assert_eq!((&first["continues"], &first["parameters"]["event"]), (&json!(true), &json!(null)));
    for n in 0..3 {
        daemon.define(&format!("m{n}"));
        let event = events.reply();
        assert_eq!(event["parameters"]["event"]["name"], json!(format!("m{n}")));
        assert_eq!(event["continues"], json!(true));
    }
    let all = daemon.client().all("List", &json!({}));
    let names: Vec<_> = all.iter().map(|r| r["domain"]["name"].clone()).collect();
    assert_eq!(names, ["m0", "m1", "m2"]);
}

fn oneway() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    client.send_call("Define", &json!({ "xml": xml("quiet") }), "oneway");
    client.send_call("Nope", &json!({}), "oneway");
    client.send_call("Define", &json!({ "xml": 5 }), "oneway");
    assert_eq!(client.good("List", &json!({ "name": "quiet" }))["domain"]["name"], json!("quiet"));
}

fn pipelined() {
    let daemon = Daemon::start();
    daemon.define("p");
    let mut client = daemon.client();
    let mut text = String::new();
    for n in 0..300 {
        text += &format!("{{\"method\":\"io.berth.Domain.List\",\"parameters\":{{\"name\":\"no{n}\"}}}}\0");
    }
    text += "{\"method\":\"io.berth.Node.GetRole\"}\0";
    client.send(&text);
    for n in 0..300 {
        assert_eq!(client.reply()["parameters"]["message"], json!(format!("failed to get domain 'no{n}'")));
    }
    assert_eq!(client.reply()["parameters"]["role"], json!("admin"));
}

fn slow() {
    let daemon = Daemon::start();
    daemon.define("slow");
    let mut waiting = daemon.client();
    waiting.send_call("Start", &json!({ "name": "slow" }), "");
    std::thread::sleep(Duration::from_millis(50));
    let begin = Instant::now();
    daemon.define("other");
    daemon.client().all("List", &json!({}));
    assert!(begin.elapsed() < Duration::from_millis(500), "{:?}", begin.elapsed());
    // A start under way can be destroyed, and leaves nothing.
    daemon.client().good("Destroy", &json!({ "name": "slow" }));
    assert_eq!(waiting.reply()["error"], json!("io.berth.Domain.Failed"));
    assert_eq!(daemon.status("slow")["state"], json!("shutoff"));
    assert_eq!(daemon.residue(), Vec::<String>::new());
}

fn descriptors() {
    let daemon = Daemon::start();
    daemon.define("fds");
    let mut client = daemon.client();
    let files: Vec<OwnedFd> =
        (0..3).map(|_| std::fs::File::open("/dev/null").expect("null").into()).collect();
    // The scripted controller counts what it gets.
    client.send_with("Start", &json!({ "name": "fds", "initFileDescriptors": [2, 0] }), &files);
    assert!(client.reply().get("error").is_none());
    assert_eq!(daemon.status("fds")["state"], json!("running"));
}

fn broken() {
    let daemon = Daemon::start();
    let deep =
        format!("{{\"method\":\"a.b\",\"parameters\":{{\"x\":{}{}}}}}\0", "[".repeat(99), "]".repeat(99));
    for text in ["hello\0", "[]\0", "{}\0", "\0", "{\"method\":7}\0", &deep] {
        let mut client = daemon.client();
        client.send(text);
        let reply = client.reply();
        assert_eq!(reply["error"], json!("org.varlink.service.InvalidParameter"), "{text}");
        assert_eq!(reply["parameters"]["parameter"], json!("message"), "{text}");
        assert_eq!(client.try_reply(), None, "{text}");
    }
    let mut long = daemon.client();
    let chunk = vec![b' '; 1 << 16];
    let mut sent = 0;
    while sent < 64 << 20 && long.stream.write_all(&chunk).is_ok() {
        sent += chunk.len();
    }
    assert!(sent < 4 << 20, "{sent} bytes of one message were taken");
    daemon.define("still-there");
}

fn upgrade() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    client.send_call("io.berth.Node.GetRole", &json!({}), "upgrade");
    assert_eq!(client.reply()["parameters"]["parameter"], json!("upgrade"));
    let reply = client.call("AttachConsole", &json!({ "name": "x" }));
    assert_eq!(reply["parameters"]["parameter"], json!("upgrade"));
}

fn leaving() {
    let daemon = Daemon::start();
    let pid = format!("/proc/{}/fd", daemon.pid());
    let count = || std::fs::read_dir(&pid).expect("there").count();
    let before = count();
    for _ in 0..20 {
        let mut client = daemon.client();
        client.send_call("Subscribe", &json!({}), "more");
        client.reply();
    }
    wait("the descriptors to go", || (count() <= before + 1).then_some(()));
    // Half of a message, and then nothing.
    daemon.client().send("{\"method\":\"io.ber");
    wait("the descriptors to go", || (count() <= before + 1).then_some(()));
}

fn no_leak() {
    let daemon = Daemon::start();
    let path = format!("/proc/{}/fd", daemon.pid());
    let count = || std::fs::read_dir(&path).expect("there").count();
    daemon.begin("warm");
    daemon.client().good("Destroy", &json!({ "name": "warm" }));
    let before = count();
    let mut client = daemon.client();
    for _ in 0..10 {
        // Descriptors that nobody asked for are closed.
        let files = vec![std::fs::File::open("/dev/null").expect("null").into()];
        client.send_with("io.berth.Node.GetRole", &json!({}), &files);
        client.reply();
        client.good("Start", &json!({ "name": "warm" }));
        client.good("Destroy", &json!({ "name": "warm" }));
    }
    drop(client);
    wait("the descriptors to go", || (count() <= before).then_some(()));
    let mut end = Vec::new();
    let mut half = daemon.client();
    half.send("{\"method\":\"io.berth.Node.GetRole\"}\0");
    half.stream.shutdown(std::net::Shutdown::Write).expect("half closed");
    half.stream.read_to_end(&mut end).expect("read");
    assert!(end.starts_with(b"{\"parameters\":{\"role\""), "a half-closed connection is answered");
}
