//! Viewers of a real container's console, and the wire.

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use berth_schemas::wire::CallKind;
use serde_json::json;
use support::{World, skip};

#[test]
fn one_types_and_all_see() {
    if skip() {
        return;
    }
    let world = World::new();
    world.script("stty size; exec /bin/sh");
    let mut controller = world.controller();
    controller.launch(&world.plan());
    let (mut first, a) = controller.client.attach("shared");
    let (mut second, b) = controller.client.attach("shared");
    let (mut look, c) = controller.client.attach("view");
    let writers = [&a, &b, &c].map(|r| r["parameters"]["writer"].as_bool());
    assert_eq!(writers, [Some(true), Some(false), Some(false)]);
    first.type_in("echo $((40+2))\n");
    first.expect("42");
    second.type_in("echo $((50+2))\n");
    look.type_in("echo $((60+2))\n");
    first.type_in("echo $((70+2))\n");
    look.expect("72");
    second.expect("72");
    first.expect("72");
    assert!(!first.seen.contains("52") && !first.seen.contains("62"));
    let size = |viewer: &serde_json::Value| json!({"viewer": viewer["parameters"]["viewer"], "columns": 100, "rows": 30});
    assert_eq!(controller.client.call("ResizeConsole", size(&a)), json!({"parameters": {}}));
    first.type_in("stty size\n");
    first.expect("30 100");
    drop(first);
    std::thread::sleep(Duration::from_millis(50));
    second.type_in("echo $((80+2))\n");
    look.expect("82");
    let (mut forced, d) = controller.client.attach("force");
    assert_eq!(d["parameters"]["writer"], true);
    forced.type_in("echo $((90+2))\n");
    second.expect("92");
    let status = controller.client.call("GetStatus", json!({}));
    assert_eq!(status["parameters"]["status"]["consoles"][0]["viewers"], 3, "{status}");
    forced.type_in("exit\n");
    assert_eq!(controller.wait(), Some(0));
    assert!(look.rest().contains("exit"));
    world.check_clean();
}

#[test]
fn a_stuck_viewer_costs_a_moment_once() {
    if skip() {
        return;
    }
    let world = World::new();
    world.script("read x; seq 1 3000000 >/dev/null; yes 0123456789012345678901234567890 | head -c 20000000; echo; echo done; read x");
    let mut controller = world.controller();
    controller.launch(&world.plan());
    let (stuck, _) = controller.client.attach("view");
    let (mut writer, _) = controller.client.attach("shared");
    writer.type_in("\n");
    let begin = Instant::now();
    writer.expect("done");
    eprintln!("20 MB with a stuck viewer took {:?}", begin.elapsed());
    // The one who keeps up gets everything, and the log has it, too.
    let status = controller.client.call("GetStatus", json!({}));
    assert!(status["parameters"]["status"]["consoles"][0]["printed"].as_i64() > Some(20_000_000), "{status}");
    drop(stuck);
    controller.client.call("Destroy", json!({}));
    assert_eq!(controller.wait(), Some(0));
    assert!(world.dir.join("console0.log.2").exists() && !world.dir.join("console0.log.3").exists());
    world.check_clean();
}

#[test]
fn terminals_are_handed_out_and_the_host_has_one() {
    if skip() {
        return;
    }
    let world = World::new();
    world.script("echo early; exec /bin/sh");
    let mut controller = world.controller();
    let reply = controller.launch(&world.plan());
    let opened = controller.client.call("OpenConsole", json!({"mode": "shared"}));
    assert_eq!(opened["parameters"]["writer"], true, "{opened}");
    let mut terminal = File::from(controller.client.received.remove(0));
    read_until(&mut terminal, "early");
    let size = rustix::termios::Winsize { ws_col: 91, ws_row: 19, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&terminal, size).expect("size");
    terminal.write_all(b"stty size\n").expect("write");
    read_until(&mut terminal, "19 91");
    drop(terminal);
    std::thread::sleep(Duration::from_millis(50));
    let path = reply["parameters"]["status"]["consoles"][0]["hostPath"].as_str().expect("path").to_owned();
    for _ in 0..2 {
        let mut host = File::options().read(true).write(true).open(&path).expect("open");
        read_until(&mut host, "early");
        host.write_all(b"echo $((6*7))\n").expect("write");
        read_until(&mut host, "42");
        drop(host);
        std::thread::sleep(Duration::from_millis(50));
    }
    let before = cpu_time(controller.pid());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(cpu_time(controller.pid()), before, "the controller does not rest");
    controller.client.call("Destroy", json!({}));
    assert_eq!(controller.wait(), Some(0));
    world.check_clean();
}

fn cpu_time(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    stat.split(' ').skip(13).take(2).map(|n| n.parse::<u64>().expect("number")).sum()
}

fn read_until(file: &mut File, text: &str) {
    let mut seen = String::new();
    let mut bytes = [0; 4096];
    while !seen.contains(text) {
        let n = file.read(&mut bytes).expect("read");
        seen.push_str(&String::from_utf8_lossy(&bytes[..n]));
    }
}

#[test]
fn the_wire_is_varlink() {
    if skip() {
        return;
    }
    let world = World::new();
    world.script("sleep 1000");
    let mut controller = world.controller();
    let early = controller.client.call("GetStatus", json!({}));
    assert_eq!(early["error"], "io.berth.Controller.InvalidState", "{early}");
    let info = controller.client.call("org.varlink.service.GetInfo", json!({}));
    assert_eq!(info["parameters"]["interfaces"][1], "io.berth.Controller");
    controller.launch(&world.plan());
    let mut client = controller.connect();
    let text = client
        .call("org.varlink.service.GetInterfaceDescription", json!({"interface": "io.berth.Controller"}));
    assert!(text["parameters"]["description"].as_str().expect("text").contains("method Launch"));
    let unknown = client.call("io.berth.Controller.Nope", json!({}));
    assert_eq!(unknown["error"], "org.varlink.service.MethodNotFound");
    let unknown = client.call("io.berth.Nope.Nope", json!({}));
    assert_eq!(unknown["parameters"]["interface"], "io.berth.Nope");
    let bad = client.call("ResizeConsole", json!({"columns": 0, "rows": 1}));
    assert_eq!(bad["parameters"]["parameter"], "columns", "{bad}");
    let missing =
        client.call("AttachConsole", json!({"mode": "shared", "skipReplay": false, "fileDescriptor": 0}));
    assert_eq!(missing["parameters"]["parameter"], "fileDescriptor", "{missing}");
    let nobody = client.call("OpenConsole", json!({"mode": "view", "device": "console7"}));
    assert_eq!(nobody["error"], "io.berth.Controller.NoSuchConsole");
    // Two calls in one piece, of which the first wants no answer.
    client.send("GetStatus", &json!({}), CallKind::Oneway, &[]);
    client.send("GetStatus", &json!({}), CallKind::Once, &[]);
    assert_eq!(client.reply()["parameters"]["status"]["name"], "test");
    let again = client.call("Launch", json!({"plan": world.plan()}));
    assert_eq!(again["error"], "io.berth.Controller.InvalidState");
    // The connection of birth may go.
    let (left, _right) = std::os::unix::net::UnixStream::pair().expect("pair");
    controller.client = support::Client::new(left);
    assert_eq!(client.call("GetStatus", json!({}))["parameters"]["status"]["state"], "running");
    // Too many connections: the last ones are closed, the first still served.
    let many: Vec<_> = (0..20).map(|_| controller.connect()).collect();
    assert_eq!(client.call("GetStatus", json!({}))["parameters"]["status"]["state"], "running");
    drop(many);
    client.stream.write_all(&[b'{'; 100]).expect("write");
    client.stream.write_all(&[0]).expect("write");
    assert!(client.reply().is_null(), "nesting without end is hung up on");
    assert_eq!(controller.connect().call("Destroy", json!({})), json!({"parameters": {}}));
    assert_eq!(controller.wait(), Some(0));
    world.check_clean();
}
