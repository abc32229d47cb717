//! What the wire must do, one test each, at the level of bytes.

use std::time::{Duration, Instant};

use berth_schemas::wire::{CallKind, MAX_MESSAGE};
use berth_tests::daemon::Daemon;
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq};
use serde_json::{Value, json};

pub const TESTS: &[Test] = &[
    ("wire::get_info_names_all_interfaces", get_info),
    ("wire::interface_description_is_the_file", description),
    ("wire::unknown_method_and_interface_are_named", unknown),
    ("wire::bad_parameters_are_named", bad_parameters),
    ("wire::more_is_incremental", more),
    ("wire::without_more_a_list_is_refused", expected_more),
    ("wire::oneway_is_never_answered", oneway),
    ("wire::pipelined_calls_are_answered_in_order", pipelined),
    ("wire::a_call_in_pieces_is_put_together", pieces),
    ("wire::a_stuck_client_delays_nobody", stuck),
    ("wire::long_and_deep_messages_are_refused", limits),
    ("wire::garbage_is_answered_and_hung_up_on", garbage),
    ("wire::upgrade_only_where_it_belongs", upgrade),
    ("wire::a_restricted_connection_reads_only", restricted),
];

const SERVICE: &str = "org.varlink.service";

fn get_info() -> Outcome {
    let daemon = Daemon::start()?;
    let info = daemon.client()?.call("org.varlink.service.GetInfo", &json!({}))?;
    let interfaces = info["interfaces"].as_array().cloned().unwrap_or_default();
    for name in [SERVICE, "io.berth.Node", "io.berth.Domain"] {
        ensure!(interfaces.contains(&json!(name)), "{name} is not in {info}");
    }
    for field in ["vendor", "product", "version", "url"] {
        ensure!(info[field].is_string(), "{field} is not in {info}");
    }
    Ok(())
}

fn description() -> Outcome {
    let daemon = Daemon::start()?;
    for name in ["io.berth.Node", "io.berth.Domain", SERVICE] {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("../schemas/varlink/{name}.varlink"));
        let text = std::fs::read_to_string(&file).map_err(|e| e.to_string())?;
        let answer = daemon
            .client()?
            .call("org.varlink.service.GetInterfaceDescription", &json!({ "interface": name }))?;
        ensure_eq!(answer["description"].as_str(), Some(text.as_str()), "the description of {name}");
    }
    let error = daemon
        .client()?
        .call("org.varlink.service.GetInterfaceDescription", &json!({ "interface": "org.example.none" }))
        .err();
    ensure_eq!(
        error.as_deref(),
        Some("org.varlink.service.InterfaceNotFound {\"interface\":\"org.example.none\"}"),
        "the answer for an interface that is not there"
    );
    Ok(())
}

fn unknown() -> Outcome {
    let daemon = Daemon::start()?;
    let mut client = daemon.client()?;
    for (method, parameters) in
        [("io.berth.Domain.Frobnicate", json!({})), ("io.berth.Domain.Frobnicate", Value::Null)]
    {
        ensure_eq!(
            client.call(method, &parameters).err().as_deref(),
            Some("org.varlink.service.MethodNotFound {\"method\":\"io.berth.Domain.Frobnicate\"}"),
            "an unknown method"
        );
    }
    ensure_eq!(
        client.call("org.example.Nope.Ping", &json!({})).err().as_deref(),
        Some("org.varlink.service.InterfaceNotFound {\"interface\":\"org.example.Nope\"}"),
        "an unknown interface"
    );
    // The connection goes on.
    client.call("io.berth.Node.GetHostname", &json!({})).map(drop)
}

fn bad_parameters() -> Outcome {
    let daemon = Daemon::start()?;
    let mut client = daemon.client()?;
    for (method, parameters, field) in [
        ("io.berth.Domain.Define", json!({}), "xml"),
        ("io.berth.Domain.Define", json!({ "xml": 5 }), "xml"),
        ("io.berth.Domain.GetXML", json!({ "name": "x", "inactiv": true }), "inactiv"),
        ("io.berth.Domain.SetAutostart", json!({ "name": "x" }), "autostart"),
        ("io.berth.Domain.Start", json!({ "id": "seven" }), "id"),
        ("io.berth.Domain.Shutdown", json!({ "name": "x", "modes": ["acpi"] }), "modes"),
    ] {
        ensure_eq!(
            client.call(method, &parameters).err(),
            Some(format!("org.varlink.service.InvalidParameter {{\"parameter\":\"{field}\"}}")),
            "{method} {parameters}"
        );
    }
    Ok(())
}

fn minimal(name: &str) -> String {
    format!(
        "<domain type='lxc'><name>{name}</name><memory>65536</memory><os><type>exe</type><init>/bin/sh</init></os>\
         <devices><filesystem type='mount'><source dir='/nonexistent'/><target dir='/'/></filesystem>\
         <console type='pty'/></devices></domain>"
    )
}

fn more() -> Outcome {
    let daemon = Daemon::start()?;
    let mut events = daemon.client()?;
    events.send_call("io.berth.Domain.Subscribe", &json!({}), CallKind::More)?;
    let first = events.reply()?;
    ensure!(first.continues == Some(true), "the first reply does not say that more come: {first:?}");
    // Each event must come before the next is caused.
    let mut client = daemon.client()?;
    for n in 0..3 {
        client.call("io.berth.Domain.Define", &json!({ "xml": minimal(&format!("m{n}")) }))?;
        let reply = events.reply()?;
        let parameters = reply.parameters.unwrap_or_default();
        ensure_eq!(parameters["event"]["name"], json!(format!("m{n}")), "the event");
        ensure_eq!(parameters["event"]["kind"], json!("defined"), "the kind of event");
        ensure!(reply.continues == Some(true), "more must be announced");
    }
    client.send_call("io.berth.Domain.List", &json!({}), CallKind::More)?;
    let mut names = Vec::new();
    loop {
        let reply = client.reply()?;
        names.push(reply.parameters.unwrap_or_default()["domain"]["name"].clone());
        if reply.continues != Some(true) {
            break;
        }
    }
    ensure_eq!(names, vec![json!("m0"), json!("m1"), json!("m2")], "the list");
    Ok(())
}

fn expected_more() -> Outcome {
    let daemon = Daemon::start()?;
    for method in ["io.berth.Domain.List", "io.berth.Domain.Subscribe"] {
        ensure_eq!(
            daemon.client()?.call(method, &json!({})).err().as_deref(),
            Some("org.varlink.service.ExpectedMore {}"),
            "{method}"
        );
    }
    Ok(())
}

fn oneway() -> Outcome {
    let daemon = Daemon::start()?;
    let mut client = daemon.client()?;
    client.send_call("io.berth.Domain.Define", &json!({ "xml": minimal("quiet") }), CallKind::Oneway)?;
    client.send_call("io.berth.Domain.Nothing", &json!({}), CallKind::Oneway)?;
    client.send_call("io.berth.Domain.Define", &json!({ "xml": 1 }), CallKind::Oneway)?;
    let answer = client.call("io.berth.Domain.List", &json!({ "name": "quiet" }))?;
    ensure_eq!(
        answer["domain"]["name"],
        json!("quiet"),
        "the first answer must be that of the call that wants one"
    );
    Ok(())
}

fn pipelined() -> Outcome {
    let daemon = Daemon::start()?;
    let mut client = daemon.client()?;
    let mut bytes = Vec::new();
    for n in 0..200 {
        let (method, parameters) = match n % 3 {
            0 => ("io.berth.Node.GetHostname", json!({})),
            1 => ("io.berth.Domain.List", json!({ "name": format!("no{n}") })),
            _ => ("io.berth.Node.GetVersion", json!({})),
        };
        bytes.extend(berth_schemas::wire::call_bytes(method, &parameters, CallKind::Once));
    }
    client.send(&bytes)?;
    for n in 0..200 {
        let reply = client.reply()?;
        let parameters = reply.parameters.unwrap_or_default();
        let fits = match n % 3 {
            0 => parameters["hostname"].is_string(),
            1 => parameters["message"].as_str().is_some_and(|m| m.contains(&format!("no{n}"))),
            _ => parameters["kernelRelease"].is_string(),
        };
        ensure!(fits, "answer {n} is {parameters}");
    }
    Ok(())
}

fn pieces() -> Outcome {
    let daemon = Daemon::start()?;
    let mut client = daemon.client()?;
    for byte in b"{\"method\":\"io.berth.Node.GetHostname\"}\0" {
        client.send(&[*byte])?;
        std::thread::sleep(Duration::from_millis(1));
    }
    ensure!(client.reply()?.error.is_none(), "a call in pieces");
    Ok(())
}

fn stuck() -> Outcome {
    let daemon = Daemon::start()?;
    for n in 0..50 {
        daemon.client()?.call("io.berth.Domain.Define", &json!({ "xml": minimal(&format!("s{n}")) }))?;
    }
    // A client that asks for a lot and never reads.
    let mut deaf = daemon.client()?;
    deaf.stream.set_nonblocking(true).map_err(|e| e.to_string())?;
    for _ in 0..2000 {
        if deaf.send_call("io.berth.Domain.List", &json!({}), CallKind::More).is_err() {
            break;
        }
    }
    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        let begin = Instant::now();
        daemon.client()?.call("io.berth.Node.GetHostname", &json!({}))?;
        slowest = slowest.max(begin.elapsed());
    }
    ensure!(slowest < Duration::from_millis(500), "another client waited {slowest:?}");
    Ok(())
}

fn limits() -> Outcome {
    let daemon = Daemon::start()?;
    let before = berth_tests::host::memory(daemon.pid(), "Pss").unwrap_or(0);
    let mut long = daemon.client()?;
    let chunk = vec![b' '; 65536];
    // More than the limit, and no end in sight: it must be refused before it is whole.
    let mut sent = 0;
    while sent < 64 * MAX_MESSAGE && long.send(&chunk).is_ok() {
        sent += chunk.len();
    }
    ensure!(sent < 8 * MAX_MESSAGE, "the daemon took {sent} bytes of one message");
    let mut deep = daemon.client()?;
    let text = format!(
        "{{\"method\":\"io.berth.Node.GetHostname\",\"parameters\":{{\"a\":{}{}}}}}\0",
        "[".repeat(500),
        "]".repeat(500)
    );
    deep.send(text.as_bytes())?;
    let reply = deep.reply()?;
    ensure!(reply.error.is_some(), "a deep message was taken: {reply:?}");
    let after = berth_tests::host::memory(daemon.pid(), "Pss").unwrap_or(0);
    ensure!(after < before + 8192, "memory grew from {before} to {after} KiB");
    daemon.client()?.call("io.berth.Node.GetHostname", &json!({})).map(drop)
}

fn garbage() -> Outcome {
    let daemon = Daemon::start()?;
    for text in ["hello\0", "[]\0", "{}\0", "{\"method\":7}\0", "\0", "\u{1}\0", "{\"method\":\"x\"\0"] {
        let mut client = daemon.client()?;
        client.send(text.as_bytes())?;
        // Either an error or the end, but within the time limit and without harm to others.
        if let Ok(reply) = client.reply() {
            ensure!(reply.error.is_some(), "{text:?} was answered with {reply:?}");
        }
    }
    daemon.client()?.call("io.berth.Node.GetHostname", &json!({})).map(drop)
}

fn upgrade() -> Outcome {
    let daemon = Daemon::start()?;
    let mut client = daemon.client()?;
    client.send_call("io.berth.Node.GetHostname", &json!({}), CallKind::Upgrade)?;
    let reply = client.reply()?;
    ensure_eq!(
        reply.error.as_deref(),
        Some("org.varlink.service.InvalidParameter"),
        "an upgrade of a plain method"
    );
    let error = daemon
        .client()?
        .call("io.berth.Domain.AttachConsole", &json!({ "name": "x" }))
        .err()
        .unwrap_or_default();
    ensure!(error.starts_with("org.varlink.service.InvalidParameter"), "a console without upgrade: {error}");
    Ok(())
}

fn restricted() -> Outcome {
    let daemon = Daemon::start()?;
    let mut client = daemon.client()?;
    client.call("io.berth.Node.RestrictToReading", &json!({}))?;
    ensure_eq!(client.call("io.berth.Node.GetRole", &json!({}))?["role"], json!("reader"), "the role");
    for (method, parameters) in [
        ("io.berth.Domain.Define", json!({ "xml": "not even parsed" })),
        ("io.berth.Domain.Define", json!({ "no": "parameters" })),
        ("io.berth.Domain.Start", json!({ "name": "x" })),
        ("io.berth.Domain.Destroy", json!({ "name": "x" })),
        ("io.berth.Domain.SetMetadata", json!({})),
        ("io.berth.Domain.OpenConsole", json!({ "name": "x" })),
        ("io.berth.Domain.ReadConsoleLog", json!({ "name": "x" })),
    ] {
        let error = client.call(method, &parameters).err().unwrap_or_default();
        ensure!(error.starts_with("org.varlink.service.PermissionDenied"), "{method}: {error}");
    }
    ensure!(client.call("io.berth.Node.GetVersion", &json!({})).is_ok(), "reading must go on");
    Ok(())
}
