//! A small daemon that speaks io.berth.Domain and io.berth.Node from canned data.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_schemas::wire::{Framer, error_bytes, parse_request, reply_bytes};
use serde_json::{Value, json};

/// What the daemon knows.
#[derive(Default)]
pub struct State {
    /// Its domains, as `List` tells them.
    pub domains: Vec<Value>,
    metadata: BTreeMap<String, String>,
    /// Methods and parameters in the order of the calls.
    pub calls: Vec<(String, Value)>,
    /// What a console was sent.
    pub typed: Vec<u8>,
    /// Whether domains that are created have yet to say that they are ready.
    pub unready: bool,
    /// Whether domains end when they are asked to.
    pub obedient: bool,
    /// The next time that it is away.
    pub away: Option<Away>,
    /// How often it was asked for times of processors.
    pub looks: u32,
    connections: Vec<UnixStream>,
}

/// A restart: all connections end, and for a while there is no socket.
#[allow(dead_code)]
pub struct Away {
    /// The call that it does not answer any more, by the end of its name.
    pub at: &'static str,
    /// For how long.
    pub time: Duration,
    /// What is different afterwards.
    pub then: fn(&mut State),
}

/// The daemon; it ends with the test process.
pub struct Fake {
    /// Its folder, the current directory of the commands.
    pub dir: tempfile::TempDir,
    /// Its state.
    pub state: Arc<Mutex<State>>,
}

fn uuid(n: u32) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

fn active(name: &str, id: u32) -> Value {
    json!({"name": name, "uuid": uuid(id), "id": id, "state": "running", "reason": "booted", "persistent": true,
        "autostart": false, "pendingChange": false, "initPid": id + 1, "startedUSec": 1_700_000_000_000_000_i64,
        "restarts": 2, "ready": true})
}

fn inactive(name: &str, n: u32) -> Value {
    json!({"name": name, "uuid": uuid(n), "state": "shutoff", "reason": "crashed", "persistent": true,
        "autostart": true, "pendingChange": false, "title": "the title", "restarts": 0,
        "lastExit": {"kind": "signaled", "signal": 11, "atUSec": 1_700_000_000_000_000_i64}})
}

/// The document of every domain.
pub const DOCUMENT: &str = "<domain type='lxc'>\n  <name>web</name>\n  <devices>\n    <console type='pty' tty='/dev/pts/9'/>\n  </devices>\n</domain>\n";

impl Fake {
    /// Starts one with the domains web and web2 (active), db, locked and old (not).
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let listener = UnixListener::bind(dir.path().join("s")).expect("socket");
        let state = State {
            domains: vec![
                inactive("db", 1),
                inactive("locked", 2),
                inactive("old", 3),
                active("web", 4711),
                active("web2", 4800),
            ],
            ..State::default()
        };
        let state = Arc::new(Mutex::new(state));
        let (shared, socket) = (Arc::clone(&state), dir.path().join("s"));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                let copy = stream.try_clone().expect("dup");
                state.lock().expect("state").connections.push(copy);
                let socket = socket.clone();
                let last = stream.try_clone().expect("dup");
                std::thread::spawn(move || {
                    serve(stream, &state, &socket);
                    let _ = last.shutdown(Shutdown::Both);
                });
            }
        });
        Self { dir, state }
    }

    /// Its URI.
    pub fn uri(&self) -> String {
        format!("lxc+unix:///system?socket={}", self.socket().display())
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    /// The parameters of the last call of a method.
    #[allow(dead_code)]
    pub fn last(&self, method: &str) -> Value {
        let state = self.state.lock().expect("state");
        let found = state.calls.iter().rev().find(|(m, _)| m.ends_with(method));
        found.map(|(_, p)| p.clone()).unwrap_or_default()
    }
}

/// Goes away if this call is the one for it.
fn leaves(state: &Arc<Mutex<State>>, method: &str, socket: &Path) -> bool {
    let mut locked = state.lock().expect("state");
    let Some(away) = locked.away.take_if(|away| away.at == method) else { return false };
    let elsewhere = socket.with_extension("away");
    std::fs::rename(socket, &elsewhere).expect("socket");
    for connection in locked.connections.drain(..) {
        let _ = connection.shutdown(Shutdown::Both);
    }
    let (state, socket) = (Arc::clone(state), socket.to_owned());
    std::thread::spawn(move || {
        std::thread::sleep(away.time);
        (away.then)(&mut state.lock().expect("state"));
        std::fs::rename(elsewhere, socket).expect("socket");
    });
    true
}

type Answer = Result<Vec<Value>, (&'static str, Value)>;

fn serve(mut stream: UnixStream, state: &Arc<Mutex<State>>, socket: &Path) {
    let mut framer = Framer::default();
    let mut chunk = [0; 4096];
    let mut readonly = false;
    loop {
        while let Ok(Some(message)) = framer.next_message() {
            let Ok(request) = parse_request(&message) else { return };
            let method = request.method.to_string();
            let short = method.rsplit('.').next().unwrap_or_default().to_owned();
            let parameters = request.parameters.clone().unwrap_or(json!({}));
            state.lock().expect("state").calls.push((method, parameters.clone()));
            if leaves(state, &short, socket) {
                return;
            }
            if short == "AttachConsole" && request.upgrade == Some(true) {
                return console(stream, &parameters, state);
            }
            readonly |= short == "RestrictToReading";
            let reading = short.starts_with("Get")
                || ["List", "ListInterfaces", "Subscribe", "ReadConsoleLog", "RestrictToReading"]
                    .contains(&short.as_str());
            let answer = if readonly && !reading {
                Err(("org.varlink.service.PermissionDenied", json!({})))
            } else {
                answer(&short, &parameters, request.more == Some(true), &mut state.lock().expect("state"))
            };
            let bytes = match answer {
                Ok(replies) => {
                    let stays = short == "Subscribe";
                    let last = replies.len().saturating_sub(1);
                    replies.iter().enumerate().flat_map(|(i, r)| reply_bytes(r, stays || i < last)).collect()
                }
                Err((name, parameters)) => error_bytes(name, &parameters),
            };
            if stream.write_all(&bytes).is_err() {
                return;
            }
        }
        match stream.read(&mut chunk) {
            Ok(n) if n > 0 => framer.push(&chunk[..n]),
            _ => return,
        }
    }
}

/// Greets, answers each byte with its upper case, and ends at `q`.
fn console(mut stream: UnixStream, parameters: &Value, state: &Mutex<State>) {
    let writer = parameters["mode"] == "force";
    let mut bytes = reply_bytes(&json!({"device": "console0", "writer": writer, "viewer": 5}), false);
    bytes.extend_from_slice(b"early\r\n");
    let _ = stream.write_all(&bytes);
    let mut chunk = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut chunk) {
        state.lock().expect("state").typed.extend_from_slice(&chunk[..n]);
        let _ = stream.write_all(&chunk[..n].to_ascii_uppercase());
        if chunk[..n].contains(&b'q') {
            return;
        }
    }
}

fn error(name: &'static str, message: &str) -> (&'static str, Value) {
    (name, json!({ "message": message }))
}

fn find(parameters: &Value, state: &State) -> Result<usize, (&'static str, Value)> {
    let fits =
        |d: &Value| ["name", "uuid", "id"].iter().all(|k| parameters[k].is_null() || parameters[k] == d[k]);
    let missing = error("io.berth.Domain.NoSuchDomain", "no domain fits");
    state.domains.iter().position(fits).ok_or(missing)
}

fn answer(method: &str, parameters: &Value, more: bool, state: &mut State) -> Answer {
    let all = ["name", "uuid", "id"].iter().all(|k| parameters[k].is_null());
    match method {
        "List" if all && !more => Err(("org.varlink.service.ExpectedMore", json!({}))),
        "List" if all => Ok(state.domains.iter().map(|d| json!({ "domain": d })).collect()),
        "GetStats" if all && !more => Err(("org.varlink.service.ExpectedMore", json!({}))),
        "GetStats" if all => {
            let wanted = |d: &&Value| parameters["active"].as_bool().is_none_or(|a| a != d["id"].is_null());
            Ok(state.domains.iter().filter(wanted).map(|d| json!({ "stats": stats(d) })).collect())
        }
        "Define" | "Create" => document(method, parameters, state),
        "Subscribe" => {
            let event = |n: i64, kind: &str, detail: Value| {
                json!({"sequence": n, "lost": false, "event": {"sequence": n, "atUSec": 1_700_000_000_123_456_i64, "kind": kind,
                    "name": "web", "uuid": uuid(4711), "detail": detail}})
            };
            let first = json!({"sequence": 6, "lost": false});
            if parameters["name"].as_str().is_some_and(|name| name != "web") {
                return Ok(vec![first]);
            }
            Ok(vec![
                first,
                event(7, "rebooted", Value::Null),
                event(8, "stopped", json!("destroyed")),
                event(9, "suspended", json!("paused")),
                {
                    let mut oom = event(10, "oomKilled", Value::Null);
                    oom["event"]["count"] = json!(3);
                    oom
                },
                {
                    let mut pressure = event(11, "pressure", json!("memory"));
                    pressure["event"]["pressure"] = json!({"resource": "memory", "someAvg10": 12.5, "someAvg60": 3.0,
                        "someAvg300": 0.5, "someUSec": 1_500_000, "fullAvg10": 4.25});
                    pressure
                },
                event(12, "ready", Value::Null),
                event(13, "deviceAdded", json!("sdb")),
                {
                    let mut tuned = event(14, "tunable", Value::Null);
                    tuned["event"]["tunables"] = json!([{"name": "cputune.cpu_shares", "value": 2048},
                        {"name": "cputune.vcpu_quota", "value": -1}]);
                    tuned
                },
            ])
        }
        "GetInfo" => Ok(vec![
            json!({"info": {"model": "x86_64", "memoryKiB": 2048, "cpus": 2, "mhz": 2000, "numaCells": 1,
            "sockets": 1, "cores": 2, "threads": 1}}),
        ]),
        "GetVersion" => Ok(vec![json!({"version": "0.1.0", "kernelRelease": "6.1.0-18-amd64"})]),
        "GetHostname" => Ok(vec![json!({"hostname": "host"})]),
        "GetCapabilities" => Ok(vec![json!({"xml": "<capabilities/>\n"})]),
        "GetCpuTimes" if parameters["cpu"].as_i64().is_some_and(|n| n > 1) => {
            Err(error("io.berth.Node.NotAvailable", "the host has no CPU 2 that is online"))
        }
        "GetCpuTimes" => {
            // Every second time something has passed since the time before.
            state.looks += 1;
            let (work, idle) = if state.looks.is_multiple_of(2) { (75, 100) } else { (0, 0) };
            Ok(vec![
                json!({"times": {"userNSec": 9_797_400_000_i64 + work, "kernelNSec": 34_678_723_400_000_i64,
                "idleNSec": 87_264_900_000_i64 + idle, "ioWaitNSec": 763_600_000}}),
            ])
        }
        "GetCpuMap" => Ok(vec![json!({"online": [true, false, true, true]})]),
        "GetMemoryFigures" => match parameters["cell"].as_i64() {
            None => Ok(vec![
                json!({"memory": {"totalKiB": 3072, "freeKiB": 2048, "buffersKiB": 1, "cachedKiB": 20}}),
            ]),
            Some(n @ 0..2) => Ok(vec![json!({"memory": {"totalKiB": 1536, "freeKiB": 1024 * (n + 1)}})]),
            Some(_) => Err(error("io.berth.Node.NotAvailable", "the host has no NUMA node 2")),
        },
        "GetCells" => Ok(vec![json!({"cells": [0, 1]})]),
        "ListInterfaces" => Ok(vec![json!({"interfaces": [
            {"name": "br0", "isBridge": true, "isTaken": false},
            {"name": "eth0", "isBridge": false, "isTaken": true},
            {"name": "eth1", "isBridge": false, "isTaken": false}]})]),
        "RestrictToReading" => Ok(vec![json!({})]),
        method => {
            let at = find(parameters, state)?;
            about(method, parameters, at, state)
        }
    }
}

/// Figures; those of web2 are of a host that tells less.
fn stats(domain: &Value) -> Value {
    let mut stats = json!({"name": domain["name"], "uuid": domain["uuid"], "state": domain["state"],
        "reason": domain["reason"], "vcpus": 2, "maxVcpus": 4, "maxMemoryKiB": 65536, "currentMemoryKiB": 32768});
    if domain["id"].is_null() {
        return stats;
    }
    stats["id"] = domain["id"].clone();
    stats["cpu"] =
        json!({"totalNSec": 3_000_000_007_i64, "userNSec": 2_000_000_000_i64, "systemNSec": 1_000_000_000});
    if domain["name"] == "web" {
        stats["cpu"]["perCpuNSec"] = json!([1_000_000_000, 2_000_000_007_i64]);
        let device = |name: &str, n: i64| {
            json!({"device": name, "name": name, "readBytes": 4096 * n, "readRequests": n,
            "writeBytes": 8192 * n, "writeRequests": 2 * n})
        };
        stats["blocks"] = json!([device("sda", 1), device("sdb", 2)]);
        let net = |name: &str| {
            json!({"name": name, "receivedBytes": 1, "receivedPackets": 2, "receiveErrors": 3,
            "receiveDrops": 4, "sentBytes": 5, "sentPackets": 6, "sendErrors": 7, "sendDrops": 8})
        };
        stats["interfaces"] = json!([net("lo"), net("eth0")]);
        stats["hostEnds"] = json!([net("vnet7")]);
        stats["memory"] = json!({"usageBytes": 8 << 20, "anonBytes": 1 << 20, "cacheBytes": 4 << 20,
            "inactiveFileBytes": 1 << 20, "limitBytes": 64 << 20, "pageFaults": 100, "majorPageFaults": 1});
        stats["pressure"] = json!([{"resource": "cpu", "someAvg10": 1.5, "someAvg60": 0.0, "someAvg300": 0.0,
            "someUSec": 77}]);
    }
    stats
}

fn document(method: &str, parameters: &Value, state: &mut State) -> Answer {
    let xml = parameters["xml"].as_str().unwrap_or_default();
    let remark = |text: &str, hint: Value| json!([{"line": 2, "column": 3, "element": "domain/x", "message": text, "hint": hint}]);
    if xml.contains("<bad") {
        let diagnostics = remark("unknown element 'bad'", json!("remove it"));
        return Err((
            "io.berth.Domain.InvalidDocument",
            json!({"message": "1 problem", "diagnostics": diagnostics}),
        ));
    }
    let warnings = if xml.contains("<odd") {
        remark("element 'odd' has no meaning here", Value::Null)
    } else {
        json!([])
    };
    let mut domain = active("fresh", 4900);
    domain["ready"] = json!(!state.unready);
    if method == "Create" {
        state.domains.push(domain.clone());
        return Ok(vec![json!({"domain": domain, "warnings": warnings})]);
    }
    Ok(vec![json!({"domain": domain, "updated": false, "warnings": warnings})])
}

fn about(method: &str, parameters: &Value, at: usize, state: &mut State) -> Answer {
    let domain = state.domains[at].clone();
    let running = !domain["id"].is_null();
    let name = domain["name"].as_str().unwrap_or_default();
    let wrong = |message: &str| {
        Err(("io.berth.Domain.InvalidState", json!({"message": message, "state": domain["state"]})))
    };
    match method {
        "List" => Ok(vec![json!({ "domain": domain })]),
        "GetStats" => Ok(vec![json!({ "stats": stats(&domain) })]),
        "GetUsage" => Ok(vec![
            json!({"usage": {"osType": "exe", "vcpus": 1, "maxMemoryKiB": 65536, "usedMemoryKiB": 1024,
            "cpuTimeNSec": running.then_some(1_260_000_000_i64), "processes": running.then_some(3)}}),
        ]),
        "Start" if running => wrong("domain 'x' is running"),
        "Start" if name == "locked" => Err((
            "io.berth.Domain.StartFailed",
            json!({"message": "cannot mount '/srv': no such file", "step": "rootfs", "hint": "create the folder"}),
        )),
        "Start" if name == "old" => Err((
            "io.berth.Domain.Unsupported",
            json!({"message": "1 problem", "diagnostics": [{"line": 4, "column": 5, "element": "domain/devices/console",
                "message": "this console is not supported"}]}),
        )),
        "Start" => Ok(vec![json!({ "domain": active(name, 4950) })]),
        "Suspend" | "Resume" if !running => wrong("domain is not running"),
        "Resume" if domain["state"] != "paused" => wrong("domain is already running"),
        "Suspend" | "Resume" => {
            let (now, why) = if method == "Suspend" { ("paused", "user") } else { ("running", "unpaused") };
            state.domains[at]["state"] = json!(now);
            state.domains[at]["reason"] = json!(why);
            Ok(vec![json!({})])
        }
        "Shutdown" if domain["state"] == "paused" => wrong("domain is paused"),
        "Shutdown" | "Reboot" if !running => wrong("Requested operation is not valid: domain is not running"),
        "Shutdown" | "Reboot" if name == "web2" => {
            Err(error("io.berth.Domain.NotAnswering", "init does not answer"))
        }
        "Shutdown" if state.obedient => {
            state.domains[at] = inactive(name, 4711);
            Ok(vec![json!({"asked": "SIGRTMIN+3"})])
        }
        "Shutdown" | "Reboot" => Ok(vec![json!({"asked": "SIGRTMIN+3"})]),
        "Destroy" if !running => wrong("Requested operation is not valid: domain is not running"),
        "Destroy" | "Undefine" | "SetAutostart" | "ResizeConsole" => Ok(vec![json!({})]),
        "GetXML" => Ok(vec![json!({ "xml": DOCUMENT })]),
        "GetMetadata" => match state.metadata.get(&key(parameters)) {
            Some(value) => Ok(vec![json!({ "value": value })]),
            None => Err(error("io.berth.Domain.NoSuchMetadata", "none")),
        },
        "SetMetadata" => {
            match parameters["value"].as_str() {
                Some(value) => state.metadata.insert(key(parameters), value.to_owned()),
                None => state.metadata.remove(&key(parameters)),
            };
            Ok(vec![json!({})])
        }
        "ReadConsoleLog" => Ok(vec![json!({"data": "b25lCg=="}), json!({"data": "dHdv"})]),
        other => Err(("org.varlink.service.MethodNotFound", json!({ "method": other }))),
    }
}

fn key(parameters: &Value) -> String {
    format!("{}{}{}", parameters["name"], parameters["kind"], parameters["uri"])
}
