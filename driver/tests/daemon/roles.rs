//! Who may do what, on the wire.

use serde_json::json;

use crate::Test;
use crate::harness::Daemon;

pub const TESTS: &[Test] = &[
    ("roles::a_reader_reads_and_nothing_else_is_even_parsed", restricted),
    ("roles::who_did_what_is_told", noted),
];

fn noted() {
    let daemon = Daemon::start();
    daemon.begin("web");
    let mut client = daemon.client();
    client.good("Destroy", &json!({ "name": "web" }));
    client.bad("Start", &json!({ "name": "no\nsuch\u{1b}" }));
    client.good("List", &json!({ "name": "web" }));
    client.good("io.berth.Node.RestrictToReading", &json!({}));
    // Also of one who has given up what it may do it is known who it is.
    client.bad("Undefine", &json!({ "name": "web" }));
    let who = format!(
        "user {}, process {}, by varlink: io.berth.Domain.",
        rustix::process::geteuid().as_raw(),
        std::process::id()
    );
    let log = daemon.log();
    let told: Vec<&str> = log.lines().filter_map(|l| l.split_once(&who)).map(|(_, what)| what).collect();

    let wanted = [
        "Define of 'web': done",
        "Start of 'web': done",
        "Destroy of 'web': done",
        "Start of 'no\u{fffd}such\u{fffd}': ",
        "Undefine of 'web': org.varlink.service.PermissionDenied",
    ];
    for (line, what) in told.iter().zip(wanted) {
        assert!(line.starts_with(what), "'{what}': {told:?}");
    }
    assert_eq!(told.len(), 5, "{told:?}");
}

fn restricted() {
    let daemon = Daemon::start();
    daemon.define("r");
    let mut client = daemon.client();
    assert_eq!(client.good("io.berth.Node.GetRole", &json!({}))["role"], json!("admin"));
    client.good("io.berth.Node.RestrictToReading", &json!({}));
    assert_eq!(client.good("io.berth.Node.GetRole", &json!({}))["role"], json!("reader"));
    for method in [
        "Define",
        "Undefine",
        "Create",
        "Start",
        "Shutdown",
        "Reboot",
        "SendProcessSignal",
        "Destroy",
        "SetAutostart",
        "SetMetadata",
        "OpenConsole",
        "ResizeConsole",
        "ReadConsoleLog",
    ] {
        // Parameters that would be refused if anybody looked at them.
        assert_eq!(client.bad(method, &json!({ "bogus": 1 })).0, "PermissionDenied", "{method}");
    }
    for method in ["GetSysinfo", "SetMemoryParameters"] {
        let denied = client.bad(&format!("io.berth.Node.{method}"), &json!({ "bogus": 1 }));
        assert_eq!(denied.0, "PermissionDenied", "{method}");
    }
    client.send_call("AttachConsole", &json!({ "name": "r" }), "upgrade");
    assert_eq!(client.reply()["error"], json!("org.varlink.service.PermissionDenied"));
    client.good("List", &json!({ "name": "r" }));
    client.good("GetXML", &json!({ "name": "r" }));
    client.good("GetUsage", &json!({ "name": "r" }));
    assert_eq!(client.bad("GetMetadata", &json!({ "name": "r", "kind": "title" })).0, "NoSuchMetadata");
    for method in ["GetInfo", "GetVersion", "GetHostname", "GetCapabilities"] {
        client.good(&format!("io.berth.Node.{method}"), &json!({}));
    }
}
