//! A bus of one's own, and `busctl`, which is not ours, as its client.
//!
//! It knows nothing of any interface on the bus.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use serde_json::Value;

use crate::daemon::Daemon;
use crate::{Outcome, patient, wait_for};

/// The object of the host.
pub const HOST: &str = "/org/libvirt/LXC";

/// A running `dbus-daemon`.
pub struct Bus {
    folder: PathBuf,
    child: Option<Child>,
}

impl Bus {
    /// Starts one with its files in a folder, which everybody may enter from then on.
    pub fn start(folder: &Path) -> Result<Self, String> {
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder, open).map_err(|e| format!("cannot open the folder: {e}"))?;
        let mut bus = Self { folder: folder.to_owned(), child: None };
        bus.set_policy("")?;
        bus.launch()?;
        Ok(bus)
    }

    /// More rules than that everybody may do everything, from the next [`launch`](Self::launch) on.
    pub fn set_policy(&self, rules: &str) -> Outcome {
        let config = format!(
            "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\"
 \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">
<busconfig>
  <type>system</type>
  <listen>{}</listen>
  <auth>EXTERNAL</auth>
  <policy context=\"default\">
    <allow user=\"*\"/>
    <allow own=\"*\"/>
    <allow send_destination=\"*\" eavesdrop=\"true\"/>
    <allow receive_sender=\"*\" eavesdrop=\"true\"/>
    {rules}
  </policy>
</busconfig>
",
            self.address()
        );
        fs::write(self.config(), config).map_err(|e| format!("cannot write the bus's settings: {e}"))
    }

    /// Starts one, and a daemon on it.
    pub fn with_daemon() -> Result<(Daemon, Self), String> {
        let mut daemon = Daemon::start()?;
        let bus = Self::start(daemon.work())?;
        daemon.kill();
        daemon.set_environment(&[("DBUS_SYSTEM_BUS_ADDRESS", &bus.address())]);
        daemon.launch()?;
        bus.daemon_there()?;
        Ok((daemon, bus))
    }

    /// Waits until the daemon is on the bus.
    pub fn daemon_there(&self) -> Outcome {
        let listed = || self.call(HOST, "Connect", "ListDomains", &["u", "0"]).ok();
        wait_for("the daemon on the bus", 15, listed).map(drop)
    }

    fn config(&self) -> PathBuf {
        self.folder.join("bus.conf")
    }

    /// Its address.
    pub fn address(&self) -> String {
        format!("unix:path={}", self.folder.join("bus").display())
    }

    /// The pid of the bus.
    pub fn pid(&self) -> i32 {
        self.child.as_ref().and_then(|c| i32::try_from(c.id()).ok()).unwrap_or(0)
    }

    /// Starts it, and waits until it listens.
    pub fn launch(&mut self) -> Outcome {
        // A bus that was killed leaves its socket.
        let _ = fs::remove_file(self.folder.join("bus"));
        let mut child = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", self.config().display()))
            .args(["--nofork", "--nopidfile", "--nosyslog", "--print-address"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("cannot start dbus-daemon: {e}"))?;
        let out = child.stdout.take().ok_or("no output")?;
        self.child = Some(child);
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).map_err(|e| e.to_string())?;
        if line.is_empty() { Err("dbus-daemon does not say its address".into()) } else { Ok(()) }
    }

    /// Kills it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// `busctl`, to be run with these words.
    pub fn busctl(&self) -> Command {
        let mut command = Command::new("busctl");
        command.arg(format!("--address={}", self.address())).stdin(Stdio::null());
        command
    }

    /// Runs `busctl` and gives what it prints; else its message.
    pub fn run(&self, words: &[&str]) -> Result<String, String> {
        run(self.busctl().args(words))
    }

    /// Calls a method of the daemon and gives the parameters of the answer. `interface` is without its `org.libvirt.`;
    /// `words` are signature and values.
    pub fn call(&self, path: &str, interface: &str, method: &str, words: &[&str]) -> Result<Value, String> {
        let interface = format!("org.libvirt.{interface}");
        let mut all = vec!["--json=short", "--", "call", "org.libvirt", path, &interface, method];
        all.extend(words);
        let text = self.run(&all)?;
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        let value: Value = serde_json::from_str(&text).map_err(|e| format!("'{text}': {e}"))?;
        Ok(value["data"].clone())
    }

    /// A property of a domain, as `busctl` prints it.
    pub fn property(&self, path: &str, interface: &str, name: &str) -> Result<String, String> {
        let text =
            self.run(&["get-property", "org.libvirt", path, &format!("org.libvirt.{interface}"), name])?;
        Ok(text.trim().to_owned())
    }

    /// The object of a domain.
    pub fn domain(&self, name: &str) -> Result<String, String> {
        let data = self.call(HOST, "Connect", "DomainLookupByName", &["s", name])?;
        data[0].as_str().map(str::to_owned).ok_or_else(|| format!("no path in {data}"))
    }

    /// The object of a network.
    pub fn network(&self, name: &str) -> Result<String, String> {
        let data = self.call(HOST, "Connect", "NetworkLookupByName", &["s", name])?;
        data[0].as_str().map(str::to_owned).ok_or_else(|| format!("no path in {data}"))
    }

    /// Everything that happens on the bus from now on.
    pub fn watch(&self) -> Result<Watch, String> {
        let mut command = self.busctl();
        command.args(["--json=short", "monitor"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("cannot run busctl: {e}"))?;
        let (out, err) = (child.stdout.take().ok_or("no output")?, child.stderr.take().ok_or("no errors")?);
        let mut err = BufReader::new(err);
        let mut line = String::new();
        // It says so when it has begun.
        err.read_line(&mut line).map_err(|e| e.to_string())?;
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if let Ok(value) = serde_json::from_str(&line)
                    && sender.send(value).is_err()
                {
                    break;
                }
            }
            let _ = err.read_to_string(&mut String::new());
        });
        Ok(Watch { child, messages })
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a client; what it prints, or its message.
pub fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|e| format!("cannot run {command:?}: {e}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    match String::from_utf8_lossy(&output.stderr).trim() {
        "" => Err(format!("{command:?}: {}", output.status)),
        message => Err(message.to_owned()),
    }
}

/// A monitor.
pub struct Watch {
    child: Child,
    messages: Receiver<Value>,
}

impl Watch {
    /// Waits for a signal; its path and what it carries.
    pub fn signal(&self, member: &str, fits: impl Fn(&Value) -> bool) -> Result<(String, Value), String> {
        let deadline = Instant::now() + patient(10);
        let mut seen = Vec::new();
        while let Ok(message) = self.messages.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            if message["type"] == "signal" {
                let data = &message["payload"]["data"];
                if message["member"] == member && fits(data) {
                    return Ok((message["path"].as_str().unwrap_or_default().to_owned(), data.clone()));
                }
                seen.push(format!("{} {data}", message["member"]));
            }
        }
        Err(format!("no such signal '{member}', but {seen:?}"))
    }

    /// Waits for a signal, and gives all of its kind until then, in their order.
    pub fn signals(&self, member: &str, is_last: impl Fn(&Value) -> bool) -> Result<Vec<Value>, String> {
        let all = std::cell::RefCell::new(Vec::new());
        self.signal(member, |data| {
            all.borrow_mut().push(data.clone());
            is_last(data)
        })?;
        Ok(all.into_inner())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
