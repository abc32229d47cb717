//! A busybox root, control groups, and a client that speaks to a real controller as the daemon does.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use berth_schemas::wire::{CallKind, Framer, call_bytes};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, SendAncillaryBuffer, SendAncillaryMessage};
use serde_json::{Value, json};

/// Why privileged tests cannot run here, if they cannot.
pub fn cannot_run() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root".into());
    }
    if unified().is_none() {
        return Some("no v2 control groups are mounted".into());
    }
    Path::new("/usr/bin/busybox")
        .exists()
        .then_some(())
        .map_or(Some("busybox is not there".into()), |()| None)
}

/// Where the v2 tree is mounted.
pub fn unified() -> Option<PathBuf> {
    mounted("cgroup2").into_iter().next()
}

fn mounted(kind: &str) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    text.lines()
        .filter(|l| l.split(" - ").nth(1).is_some_and(|r| r.split(' ').next() == Some(kind)))
        .filter_map(|l| l.split(' ').nth(4).map(PathBuf::from))
        .collect()
}

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Everything of one test, removed at its end.
pub struct World {
    pub dir: PathBuf,
    pub root: PathBuf,
    pub unified: PathBuf,
    pub legacy: Vec<PathBuf>,
    mounts_before: usize,
}

impl World {
    pub fn new() -> Self {
        let name = format!("berth-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(&name);
        let root = dir.join("root");
        for sub in ["bin", "etc", "proc", "sys", "dev", "run", "tmp"] {
            fs::create_dir_all(root.join(sub)).expect("mkdir");
        }
        fs::copy("/usr/bin/busybox", root.join("bin/busybox")).expect("copy busybox");
        for applet in [
            "sh", "cat", "echo", "reboot", "poweroff", "sleep", "stty", "kill", "yes", "mount", "ls", "id",
            "stat", "mkdir", "touch", "grep", "head", "seq", "init", "dd", "test",
        ] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("symlink");
        }
        let group = |top: &Path| top.join("machine").join(&name);
        let unified = group(&unified().expect("cgroup2")).join("container");
        let legacy: Vec<PathBuf> = mounted("cgroup").iter().map(|m| group(m)).collect();
        for path in legacy.iter().chain([&unified]) {
            // Another test may remove the folder above at this moment.
            assert!((0..10).any(|_| fs::create_dir_all(path).is_ok()), "cannot make {}", path.display());
        }
        for path in &legacy {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                // A v1 cpuset without these takes nobody.
                if path.join(file).exists() {
                    let parent = path.parent().expect("parent");
                    let top = fs::read_to_string(parent.parent().expect("top").join(file)).expect("read");
                    fs::write(parent.join(file), &top).expect("write");
                    fs::write(path.join(file), &top).expect("write");
                }
            }
        }
        let mounts_before = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo").lines().count();
        Self { dir, root, unified, legacy, mounts_before }
    }

    /// A script as init.
    pub fn script(&self, text: &str) {
        let path = self.root.join("init");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("write");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    }

    pub fn plan(&self) -> Value {
        let memory = self.legacy.iter().find(|p| p.join("memory.oom_control").exists());
        json!({
            "version": 4,
            "name": "test",
            "uuid": "8b5c6f2e-4a0f-4c3e-9d4e-000000000001",
            "hostname": "inside",
            "root": {"source": self.root, "readonly": false, "host": false},
            "filesystems": [],
            "devices": [],
            "hostInterfaces": [],
            "rlimits": [],
            "hostRelease": "ID=host\n",
            "credentials": [],
            "memoryPolicy": null,
            "ownSysinfo": false,
            "countCpuTimes": false,
            "viewProgram": null,
            "viewArguments": [],
            // Allows everything: a single return.
            "systemCallFilter": [0x6_0000_7fff_0000_i64],
            "noNewPrivileges": false,
            "apparmorProfile": null,
            "maskedPaths": ["/proc/kcore", "/sys/firmware", "/nowhere"],
            "readonlyPaths": ["/proc/sysrq-trigger", "/proc/bus"],
            "sharedNamespaces": [],
            "consoles": [{"device": "console0", "logPath": self.dir.join("console0.log"), "logMaxBytes": 1 << 20, "logKeep": 2}],
            "init": {"path": "/init", "args": ["/init"], "env": ["PATH=/bin", "container=lxc-libvirt"]},
            "initFileDescriptors": [],
            "capabilities": i64::MAX,
            "cgroups": {"unified": self.unified, "legacy": self.legacy, "legacyMemory": memory},
            "onPoweroff": "destroy", "onReboot": "restart", "onCrash": "destroy",
            "exitRecord": self.dir.join("exit.json"),
            "listenFileDescriptor": 0
        })
    }

    pub fn controller(&self) -> Controller {
        self.controller_by(Path::new(env!("CARGO_BIN_EXE_berth-controller")))
    }

    /// By a program that becomes the controller.
    pub fn controller_by(&self, program: &Path) -> Controller {
        let mut command = Command::new(program);
        command.arg("test");
        self.spawn(command)
    }

    /// After a script without single quotes, in a mount namespace of its own.
    pub fn controller_in(&self, script: &str) -> Controller {
        let script = format!("exec unshare --mount sh -ec '{script}\nexec \"$0\" test' \"$0\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_berth-controller")]);
        self.spawn(command)
    }

    fn spawn(&self, mut command: Command) -> Controller {
        let (ours, theirs) = UnixStream::pair().expect("socketpair");
        let log = fs::File::options().create(true).append(true).open(self.dir.join("log")).expect("log");
        let child = command
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("spawn");
        let path = self.dir.join("socket");
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("bind");
        Controller { child, client: Client::new(ours), listener, path }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    pub fn record(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.dir.join("exit.json")).expect("exit record"))
            .expect("json")
    }

    /// Nothing may be left but the groups that the test has made and the controller's own.
    pub fn check_clean(&self) {
        assert!(!self.unified.join("payload").exists(), "payload group left");
        for path in &self.legacy {
            let procs = fs::read_to_string(path.join("cgroup.procs")).expect("procs");
            assert_eq!(procs, "", "processes left in {}", path.display());
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let dir = self.dir.to_str().expect("utf-8");
        assert!(!mounts.contains(dir), "mounts left");
    }
}

/// Whether a group is gone in the end; the last process may still be on its way out.
fn removed(group: &Path) -> bool {
    let end = Instant::now() + Duration::from_secs(5);
    while group.exists() && fs::remove_dir(group).is_err() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(2));
    }
    !group.exists()
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("controller's log:\n{}", self.log());
        }
        let _ = fs::write(self.unified.join("payload/cgroup.kill"), "1");
        let domain = self.unified.parent().map(Path::to_owned);
        let inner = ["payload", "../controller"].map(|sub| self.unified.join(sub));
        let payloads: Vec<PathBuf> = self.legacy.iter().map(|group| group.join("payload")).collect();
        let all = inner.iter().chain(&payloads).chain([&self.unified]).chain(&domain).chain(&self.legacy);
        let left: Vec<&PathBuf> = all.filter(|path| !removed(path)).collect();
        for path in domain.iter().chain(&self.legacy) {
            // Only if no other test has a group there.
            let _ = path.parent().map(fs::remove_dir);
        }
        assert!(left.is_empty() || std::thread::panicking(), "groups are left: {left:?}");
        let _ = fs::remove_dir_all(&self.dir);
    }
}

pub struct Controller {
    pub child: Child,
    pub client: Client,
    listener: UnixListener,
    path: PathBuf,
}

impl Controller {
    pub fn launch(&mut self, plan: &Value) -> Value {
        self.launch_with(plan, &[])
    }

    /// With more descriptors behind the listening socket.
    pub fn launch_with(&mut self, plan: &Value, more: &[BorrowedFd<'_>]) -> Value {
        let fds: Vec<_> = [self.listener.as_fd()].into_iter().chain(more.iter().copied()).collect();
        self.client.send("Launch", &json!({ "plan": plan }), CallKind::Once, &fds);
        self.client.reply()
    }

    pub fn connect(&self) -> Client {
        Client::new(UnixStream::connect(&self.path).expect("connect"))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Exit status, within ten seconds.
    pub fn wait(&mut self) -> Option<i32> {
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("the controller has not ended");
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Client {
    pub stream: UnixStream,
    framer: Framer,
    pub received: Vec<OwnedFd>,
}

impl Client {
    pub fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
        Self { stream, framer: Framer::default(), received: Vec::new() }
    }

    pub fn send(&mut self, method: &str, parameters: &Value, kind: CallKind, fds: &[BorrowedFd<'_>]) {
        let bytes = call_bytes(&full(method), parameters, kind);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let n = rustix::net::sendmsg(
            &self.stream,
            &[IoSlice::new(&bytes)],
            &mut control,
            rustix::net::SendFlags::empty(),
        )
        .expect("sendmsg");
        assert_eq!(n, bytes.len());
    }

    pub fn reply(&mut self) -> Value {
        loop {
            if let Some(message) = self.framer.next_message().expect("frame") {
                return serde_json::from_slice(&message).expect("json");
            }
            let mut bytes = [0; 65536];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let got = rustix::net::recvmsg(
                &self.stream,
                &mut [std::io::IoSliceMut::new(&mut bytes)],
                &mut control,
                rustix::net::RecvFlags::CMSG_CLOEXEC,
            )
            .expect("recvmsg");
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(fds) = message {
                    self.received.extend(fds);
                }
            }
            if got.bytes == 0 {
                return Value::Null;
            }
            self.framer.push(&bytes[..got.bytes]);
        }
    }

    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.send(method, &parameters, CallKind::Once, &[]);
        self.reply()
    }

    /// A viewer of a console.
    pub fn attach(&mut self, mode: &str) -> (Viewer, Value) {
        let (ours, theirs) = UnixStream::pair().expect("socketpair");
        let parameters = json!({"mode": mode, "skipReplay": false, "fileDescriptor": 0});
        self.send("AttachConsole", &parameters, CallKind::Once, &[theirs.as_fd()]);
        drop(theirs);
        ours.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
        (Viewer { stream: ours, seen: String::new() }, self.reply())
    }
}

fn full(method: &str) -> String {
    if method.contains('.') { method.to_owned() } else { format!("io.berth.Controller.{method}") }
}

pub struct Viewer {
    pub stream: UnixStream,
    pub seen: String,
}

impl Viewer {
    pub fn type_in(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).expect("write");
    }

    /// Reads until the text is there.
    pub fn expect(&mut self, text: &str) {
        let mut bytes = [0; 65536];
        while !self.seen.contains(text) {
            match self.stream.read(&mut bytes) {
                Ok(0) => panic!("end before {text:?}; seen: {:?}", self.seen),
                Ok(n) => {
                    // Enough to find what spans two reads; all of it would make long outputs slow.
                    let keep = self.seen.len().saturating_sub(4096);
                    self.seen.drain(..keep);
                    self.seen.extend(bytes[..n].iter().map(|b| char::from(*b)));
                }
                Err(e) => panic!("{e} before {text:?}; seen: {:?}", self.seen),
            }
        }
        let at = self.seen.find(text).expect("found") + text.len();
        self.seen.drain(..at);
    }

    /// Reads to the end.
    pub fn rest(&mut self) -> String {
        let mut text = std::mem::take(&mut self.seen).into_bytes();
        // Reset: what was typed last came after the end.
        if let Err(e) = self.stream.read_to_end(&mut text) {
            assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset, "{e}");
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// Whether the test must be skipped; says why.
pub fn skip() -> bool {
    let why = cannot_run();
    if let Some(why) = &why {
        eprintln!("SKIPPED: {why}");
    }
    why.is_some()
}

/// Launches, reads the console to the end and answers what was on it, with the last event's exit.
pub fn run(world: &World, plan: &Value) -> (String, Value) {
    let mut controller = world.controller();
    let reply = controller.launch(plan);
    assert!(reply.get("error").is_none(), "{reply}");
    let (mut viewer, _) = controller.client.attach("shared");
    viewer.type_in("\n");
    let output = viewer.rest();
    assert_eq!(controller.wait(), Some(0), "{output}");
    let record = world.record();
    let exit = record["events"].as_array().and_then(|e| e.last()).expect("event")["exit"].clone();
    (output, exit)
}
