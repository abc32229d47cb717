//! A daemon in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Client;

/// A daemon, killed at the end together with the controllers that it started.
pub struct Daemon {
    folder: tempfile::TempDir,
    child: Option<Child>,
    pub environment: Vec<(String, String)>,
    pub arguments: Vec<String>,
}

impl Daemon {
    pub fn start() -> Self {
        let mut daemon = Self {
            folder: tempfile::Builder::new().prefix("berth-driver-").tempdir().expect("folder"),
            child: None,
            environment: Vec::new(),
            arguments: Vec::new(),
        };
        daemon.launch();
        daemon
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    pub fn spawn(&mut self) {
        let log =
            std::fs::File::options().create(true).append(true).open(self.path("berthd.log")).expect("log");
        let child = Command::new(env!("CARGO_BIN_EXE_berthd"))
            .arg("--root")
            .arg(self.root())
            .arg("--controller")
            .arg(std::env::current_exe().expect("own path"))
            .args(["--log", "debug"])
            .args(&self.arguments)
            .env("BERTH_TEST_PRETEND_CGROUPS", "1")
            .env("BERTH_TEST_PRETEND_APPARMOR", "")
            .envs(self.environment.clone())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("started");
        self.child = Some(child);
    }

    pub fn launch(&mut self) {
        self.spawn();
        let socket = self.path("run/berth/io.berth");
        wait("an answer of the daemon", || {
            let mut client = Client::connect(&socket).ok()?;
            client.send_call("io.berth.Node.GetRole", &json!({}), "");
            client.try_reply()
        });
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits until the daemon has killed itself.
    pub fn wait_dead(&mut self) {
        let mut child = self.child.take().expect("running");
        wait("the end of the daemon", || child.try_wait().expect("waited"));
    }

    /// Ends it the polite way.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("running");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signalled");
        assert!(wait("the end", || child.try_wait().expect("waited")).success());
    }

    pub fn restart(&mut self) {
        self.kill();
        self.launch();
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.path("run/berth/io.berth")).expect("connected")
    }

    /// Somebody who hears of all events from now on.
    pub fn listener(&self) -> Client {
        let mut listener = self.client();
        listener.send_call("Subscribe", &serde_json::json!({}), "more");
        listener.reply();
        listener
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("berthd.log")).unwrap_or_default()
    }

    pub fn define(&self, name: &str) -> Value {
        self.client().good("Define", &json!({ "xml": xml(name) }))
    }

    pub fn begin(&self, name: &str) -> Value {
        self.define(name);
        self.client().good("Start", &json!({ "name": name }))["domain"].clone()
    }

    pub fn status(&self, name: &str) -> Value {
        self.client().good("List", &json!({ "name": name }))["domain"].clone()
    }

    /// Waits until a domain is in a state for a reason.
    pub fn wait_state(&self, name: &str, state: &str, reason: &str) -> Value {
        wait(&format!("{name} to be {state} ({reason})"), || {
            Some(self.status(name)).filter(|s| s["state"] == json!(state) && s["reason"] == json!(reason))
        })
    }

    /// What is in the run directory, besides what always is.
    pub fn residue(&self) -> Vec<String> {
        let mut found = Vec::new();
        for folder in ["run/berth/controllers", "run/berth/state", "run/berth/cgroup/machine"] {
            for entry in std::fs::read_dir(self.path(folder)).into_iter().flatten().flatten() {
                found.push(format!("{folder}/{}", entry.file_name().to_string_lossy()));
            }
        }
        found
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        for entry in std::fs::read_dir(self.path("run/berth/state")).into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let record: Value = serde_json::from_str(&text).unwrap_or_default();
            if let Some(pid) = record["process"]["pid"].as_i64() {
                kill(pid);
            }
        }
    }
}

/// Kills a process that a test knows to be its own.
pub fn kill(pid: i64) {
    signal(pid, rustix::process::Signal::KILL);
}

/// Sends such a process a signal.
pub fn signal(pid: i64, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
    let _ = rustix::process::kill_process(pid, signal);
}

pub fn alive(pid: i64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Waits for something, up to ten seconds.
pub fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A document.
pub fn xml(name: &str) -> String {
    format!(
        "<domain type='lxc'>\n  <name>{name}</name>\n  <memory unit='MiB'>64</memory>\n  \
         <os><type>exe</type><init>/bin/sh</init></os>\n  <devices>\n    \
         <filesystem type='mount'><source dir='/srv/{name}'/><target dir='/'/></filesystem>\n    \
         <console type='pty'/>\n  </devices>\n</domain>\n"
    )
}

/// A document with a uuid.
pub fn xml_with(name: &str, uuid: &str) -> String {
    xml(name).replace("</name>", &format!("</name><uuid>{uuid}</uuid>"))
}
