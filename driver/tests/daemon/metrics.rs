//! The page for Prometheus, and clients that mean no good.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::Test;
use crate::harness::{Daemon, wait, xml};

pub const TESTS: &[Test] = &[
    ("metrics::the_page", page),
    ("metrics::processor_times_of_those_who_count_them", cpu_times),
    ("metrics::strangers_delay_nobody", strangers),
    ("metrics::an_address_that_cannot_be_used", bad_address),
    ("metrics::files_of_the_daemon_and_of_its_children", open_files),
];

fn with_page() -> Daemon {
    let mut daemon = Daemon::start();
    daemon.kill();
    daemon.arguments = vec!["--metrics".into(), format!("unix:{}", daemon.path("page").display())];
    daemon.launch();
    daemon
}

fn get(daemon: &Daemon, request: &str) -> String {
    let mut stream = UnixStream::connect(daemon.path("page")).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn page() {
    let mut daemon = with_page();
    daemon.begin("web");
    daemon.define("idle");
    let text = get(&daemon, GET);
    assert!(text.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text;"), "{text}");
    for line in [
        "libvirt_domains 2.0",
        "libvirt_domain_info_vstate{domain=\"idle\"} 5.0",
        "libvirt_domain_info_vstate{domain=\"web\"} 1.0",
        "libvirt_domain_info_maximum_memory_bytes{domain=\"web\"} 67108864.0",
    ] {
        assert!(text.lines().any(|l| l == line), "no '{line}' in {text}");
    }
    assert!(get(&daemon, "GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert!(get(&daemon, "DELETE /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
    assert!(get(&daemon, "hello\r\n\r\n").starts_with("HTTP/1.1 400 "));
    // The next daemon takes the socket's place.
    daemon.restart();
    assert!(get(&daemon, GET).contains("libvirt_up 1.0\n"));
}

fn cpu_times() {
    let daemon = Daemon::start();
    let few = xml("few").replace("<os>", "<vcpu current='1'>2</vcpu><os>");
    daemon.client().good("Define", &json!({ "xml": few }));
    let stats = daemon.client().good("GetStats", &json!({ "name": "few" }))["stats"].clone();
    assert_eq!((&stats["vcpus"], &stats["maxVcpus"]), (&json!(1), &json!(2)));
    let counted = "<metadata><b:settings xmlns:b='urn:berth:domain:1'><b:cpu-times mode='counted'/></b:settings>\
                   </metadata><os>";
    for name in ["web", "busy"] {
        let xml = xml(name).replacen("<os>", counted, 1);
        daemon.client().good("Define", &json!({ "xml": xml }));
        daemon.client().good("Start", &json!({ "name": name }));
    }
    daemon.begin("plain");
    let times = |name: &str| {
        let out = daemon.client().good("GetStats", &json!({ "name": name, "groups": ["cpu"] }));
        out["stats"]["cpu"]["perCpuNSec"].clone()
    };
    assert_eq!((times("web"), times("plain")), (json!([7, 0, 5]), serde_json::Value::Null));
    // A controller that does not answer delays only whom it must, and not for long.
    let begin = Instant::now();
    assert_eq!(times("busy"), serde_json::Value::Null);
    let taken = begin.elapsed();
    assert!(taken >= Duration::from_millis(900) && taken < Duration::from_secs(5), "{taken:?}");
}

fn strangers() {
    let daemon = with_page();
    daemon.begin("web");
    // More than there are places, each of which says nothing, half a request, or without end.
    let mut idle: Vec<UnixStream> = (0..40)
        .map(|n| {
            let mut stream = UnixStream::connect(daemon.path("page")).expect("connected");
            if n % 2 == 0 {
                // Some are turned away before they have said anything.
                let _ = stream.write_all(b"GET /metrics HT");
            }
            stream
        })
        .collect();
    let begin = Instant::now();
    daemon.client().good("GetStats", &json!({ "name": "web" }));
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    // They are dropped after their time, and then there is room again.
    wait("room for a client that keeps to the rules", || {
        let mut stream = UnixStream::connect(daemon.path("page")).ok()?;
        stream.write_all(GET.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.starts_with("HTTP/1.1 200 ").then_some(())
    });
    let mut chunk = [0; 1];
    assert!(idle.iter_mut().all(|s| !matches!(s.read(&mut chunk), Ok(n) if n > 0)), "somebody got an answer");
    let mut endless = UnixStream::connect(daemon.path("page")).expect("connected");
    let sent = (0..1000).map(|_| endless.write_all(&[b'x'; 1024])).take_while(Result::is_ok).count();
    assert!(sent < 1000, "a request of a megabyte was read");
}

/// The soft and the hard limit of open files of a process.
fn limits(pid: i64) -> (String, String) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
    let line = text.lines().find(|l| l.starts_with("Max open files")).expect("a line");
    let words: Vec<&str> = line.split_whitespace().collect();
    (words[3].to_owned(), words[4].to_owned())
}

fn open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // Of this process only while the daemon is born.
    let own = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(900), ..own }).expect("set");
    let daemon = Daemon::start();
    setrlimit(Resource::Nofile, own).expect("set back");
    let (soft, hard) = limits(daemon.pid().into());
    assert_eq!(soft, hard, "of the daemon");
    let child = daemon.begin("web")["id"].as_i64().expect("id");
    assert_eq!(limits(child), ("900".to_owned(), hard), "of the controller");
}

fn bad_address() {
    let mut daemon = Daemon::start();
    daemon.kill();
    daemon.arguments = vec!["--metrics".into(), format!("unix:{}", daemon.path("no/such/folder").display())];
    daemon.spawn();
    daemon.wait_dead();
    assert!(daemon.log().contains("cannot serve metrics at 'unix:"), "{}", daemon.log());
}
