//! Consoles: the bytes go between client and controller.

use serde_json::json;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::Test;
use crate::harness::Daemon;

pub const TESTS: &[Test] = &[
    ("consoles::attach_keeps_the_bytes_behind_the_call", attach),
    ("consoles::a_refused_attach_leaves_the_connection", refused),
    ("consoles::open_passes_a_descriptor", open),
    ("consoles::resize", resize),
    ("consoles::logs_are_read_oldest_first", logs),
];

fn attach() {
    let daemon = Daemon::start();
    daemon.begin("c");
    let mut client = daemon.client();
    client.send("{\"method\":\"io.berth.Domain.AttachConsole\",\"parameters\":{\"name\":\"c\"},\"upgrade\":true}\0early ");
    let reply = client.reply();
    assert_eq!(reply["parameters"], json!({ "device": "console0", "writer": true, "viewer": 7 }));
    assert_eq!(client.raw(13), b"replay:EARLY ");
    client.send("later");
    assert_eq!(client.raw(5), b"LATER");
    // The daemon's death is not noticed.
    let mut daemon = daemon;
    daemon.kill();
    client.send("still");
    assert_eq!(client.raw(5), b"STILL");
    daemon.launch();
}

fn refused() {
    let daemon = Daemon::start();
    daemon.begin("c");
    let mut client = daemon.client();
    client.send(concat!(
        "{\"method\":\"io.berth.Domain.AttachConsole\",\"parameters\":{\"name\":\"c\",\"mode\":\"view\"},\"upgrade\":true}\0",
        "{\"method\":\"io.berth.Node.GetRole\"}\0"
    ));
    assert_eq!(client.reply()["error"], json!("io.berth.Domain.NoSuchConsole"));
    assert_eq!(client.reply()["parameters"]["role"], json!("admin"));
}

fn open() {
    let daemon = Daemon::start();
    daemon.begin("c");
    let mut client = daemon.client();
    client.send_call("OpenConsole", &json!({ "name": "c" }), "");
    let (reply, descriptors) = client.reply_with();
    assert_eq!(reply["parameters"]["ptyFileDescriptor"], json!(0));
    assert_eq!(descriptors.len(), 1);
    let mut buffer = [0; 64];
    let n = rustix::io::read(&descriptors[0], &mut buffer).expect("read");
    assert_eq!(&buffer[..n], b"from the console");
}

fn resize() {
    let daemon = Daemon::start();
    daemon.begin("c");
    let mut client = daemon.client();
    client.good("ResizeConsole", &json!({ "name": "c", "viewer": 7, "columns": 132, "rows": 43 }));
    let bad = client.call("ResizeConsole", &json!({ "name": "c", "columns": 70000, "rows": 43 }));
    assert_eq!(bad["parameters"]["parameter"], json!("columns"));
    // So has one that is being attached, before its connection is given away.
    for (columns, rows, name) in [(100_000, 24, "columns"), (80, 0, "rows"), (-1, 24, "columns")] {
        let size = json!({ "name": "c", "columns": columns, "rows": rows });
        client.send_call("AttachConsole", &size, "upgrade");
        let bad = client.reply();
        assert_eq!(bad["parameters"]["parameter"], json!(name), "{bad}");
    }
}

fn logs() {
    let daemon = Daemon::start();
    daemon.define("c");
    let log = daemon.path("var/log/berth/c.console.log");
    let read = |daemon: &Daemon| -> Vec<u8> {
        let pieces = daemon.client().all("ReadConsoleLog", &json!({ "name": "c" }));
        pieces.iter().flat_map(|p| STANDARD.decode(p["data"].as_str().unwrap()).unwrap()).collect()
    };
    assert_eq!(read(&daemon), b"");
    std::fs::write(&log, vec![b'3'; 100_000]).expect("written");
    std::fs::write(log.with_extension("log.1"), "2").expect("written");
    std::fs::write(log.with_extension("log.2"), "1").expect("written");
    let all = read(&daemon);
    assert_eq!(all.len(), 100_002);
    assert_eq!(&all[..3], b"123");
    // A link in place of a log is not followed.
    std::fs::remove_file(&log).expect("removed");
    std::os::unix::fs::symlink("/etc/passwd", &log).expect("linked");
    assert_eq!(daemon.client().bad("ReadConsoleLog", &json!({ "name": "c" })).0, "ExpectedMore");
    let mut client = daemon.client();
    client.send_call("ReadConsoleLog", &json!({ "name": "c" }), "more");
    loop {
        let reply = client.reply();
        if let Some(error) = reply["error"].as_str() {
            assert_eq!(error, "io.berth.Domain.Failed");
            break;
        }
        assert_eq!(reply["continues"], json!(true), "the link was followed");
    }
}
