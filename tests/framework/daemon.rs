//! A daemon of one's own under a temporary folder, and the command that talks to it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::varlink::Client;
use crate::{Outcome, roots, wait_for};

/// Where the programs to test are: `BERTH_DIST`, as `cargo xtask test` sets it.
pub fn dist() -> Result<PathBuf, String> {
    std::env::var_os("BERTH_DIST")
        .map(PathBuf::from)
        .filter(|d| d.join("berthd").exists())
        .ok_or_else(|| "BERTH_DIST does not name the release builds: run `cargo xtask test`".to_owned())
}

/// A running `berthd --root`.
pub struct Daemon {
    work: tempfile::TempDir,
    child: Option<Child>,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    controller: Option<PathBuf>,
    confined: bool,
}

/// What a command printed, and how it ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Printed {
    /// Exit status; -1 for a signal.
    pub status: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// What becomes the user `nobody`, before the words of a command.
pub const NOBODY: &[&str] = &["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--"];

impl Printed {
    fn of(output: &std::process::Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The standard output of a command that must succeed.
    pub fn ok(self) -> Result<String, String> {
        if self.status == 0 { Ok(self.out) } else { Err(format!("the command failed: {self:?}")) }
    }

    /// The standard error of a command that must fail.
    pub fn fails(self) -> Result<String, String> {
        if self.status == 0 { Err(format!("the command succeeded: {self:?}")) } else { Ok(self.err) }
    }
}

/// Whether daemons run under the profile that is installed, as they do on a host with AppArmor.
pub fn confined() -> bool {
    std::env::var_os("BERTH_CONFINED").is_some()
}

/// By a thread of its own: what it asks for is inherited by all that it starts (apparmor(7), "exec").
fn spawn_confined(command: &mut Command) -> std::io::Result<Child> {
    std::thread::scope(|scope| {
        let start = || {
            fs::write("/proc/thread-self/attr/apparmor/exec", "exec berthd")?;
            command.spawn()
        };
        scope.spawn(start).join().unwrap_or_else(|_| Err(std::io::Error::other("the thread failed")))
    })
}

impl Daemon {
    /// Starts one in a new folder.
    pub fn start() -> Result<Self, String> {
        Self::start_with(&[])
    }

    /// Starts one under the profile that is installed, which is loaded.
    pub fn start_confined() -> Result<Self, String> {
        Self::new(&[], true)
    }

    /// Starts one with variables in its environment.
    pub fn start_with(environment: &[(&str, &str)]) -> Result<Self, String> {
        Self::new(environment, confined())
    }

    fn new(environment: &[(&str, &str)], confined: bool) -> Result<Self, String> {
        let work = tempfile::Builder::new()
            .prefix("berth-test-")
            .tempdir()
            .map_err(|e| format!("cannot make a folder: {e}"))?;
        // dnsmasq runs as another user and reads files of ours in there.
        fs::set_permissions(work.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .map_err(|e| format!("cannot open the folder: {e}"))?;
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut daemon =
            Self { work, child: None, environment, arguments: Vec::new(), controller: None, confined };
        fs::create_dir(daemon.root()).map_err(|e| format!("cannot make the daemon's folder: {e}"))?;
        daemon.launch()?;
        Ok(daemon)
    }

    /// The folder of the test, in which `berth` is the daemon's.
    pub fn work(&self) -> &Path {
        self.work.path()
    }

    /// The folder given as `--root`.
    pub fn root(&self) -> PathBuf {
        self.work.path().join("berth")
    }

    /// The socket.
    pub fn socket(&self) -> PathBuf {
        self.root().join("run/berth/io.berth")
    }

    /// The daemon's pid; 0 when it is not running.
    pub fn pid(&self) -> i32 {
        self.child.as_ref().map_or(0, |c| i32::try_from(c.id()).unwrap_or(0))
    }

    /// Replaces the environment of the next start.
    pub fn set_environment(&mut self, environment: &[(&str, &str)]) {
        self.environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    }

    /// Further arguments of the next start.
    pub fn set_arguments(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
    }

    /// The controller's program of the next start, in place of the one beside the daemon.
    pub fn set_controller(&mut self, program: &Path) {
        self.controller = Some(program.to_owned());
    }

    /// Starts the daemon, which must not be running, and waits until it answers.
    pub fn launch(&mut self) -> Outcome {
        self.spawn()?;
        let socket = self.socket();
        wait_for("an answer of the daemon", 15, || {
            if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
                return Some(Err(format!("the daemon ended: {status}\n{}", self.log())));
            }
            let mut client = Client::connect(&socket).ok()?;
            client.call("io.berth.Node.GetHostname", &serde_json::json!({})).ok().map(|_| Ok(()))
        })?
    }

    /// Starts the daemon and does not wait.
    pub fn spawn(&mut self) -> Outcome {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.work.path().join("berthd.log"))
            .map_err(|e| format!("cannot open the daemon's log: {e}"))?;
        let mut command = Command::new(dist()?.join("berthd"));
        command
            .arg("--root")
            .arg(self.root())
            .args(["--log", "info"])
            .args(self.controller.iter().flat_map(|c| [OsStr::new("--controller"), c.as_os_str()]))
            .args(&self.arguments)
            .envs(self.environment.clone())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let child = if self.confined { spawn_confined(&mut command) } else { command.spawn() };
        self.child = Some(child.map_err(|e| format!("cannot start berthd: {e}"))?);
        Ok(())
    }

    /// What the daemon has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.work.path().join("berthd.log")).unwrap_or_default()
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits until the daemon has ended by itself.
    pub fn wait_dead(&mut self, seconds: u64) -> Outcome {
        let Some(child) = self.child.as_mut() else { return Ok(()) };
        wait_for("the end of the daemon", seconds, || child.try_wait().ok().flatten())?;
        self.child = None;
        Ok(())
    }

    /// Sends SIGTERM and waits for the end.
    pub fn stop(&mut self) -> Outcome {
        if self.child.is_some() {
            let _ = kill(Pid::from_raw(self.pid()), Signal::SIGTERM);
        }
        self.wait_dead(10)
    }

    /// SIGKILL and a new start.
    pub fn restart(&mut self) -> Outcome {
        self.kill();
        self.launch()
    }

    /// The URI of this daemon.
    pub fn uri(&self) -> String {
        format!("lxc+unix:///system?socket={}", self.socket().display())
    }

    /// `virsh-lite` for this daemon, to be run.
    pub fn command(&self) -> Result<Command, String> {
        let mut command = Command::new(dist()?.join("virsh-lite"));
        command.env("LIBVIRT_DEFAULT_URI", self.uri()).env("HOME", self.work.path()).stdin(Stdio::null());
        Ok(command)
    }

    /// Runs `virsh-lite` with these words.
    pub fn virsh(&self, words: &[&str]) -> Result<Printed, String> {
        let output =
            self.command()?.args(words).output().map_err(|e| format!("cannot run virsh-lite: {e}"))?;
        Ok(Printed::of(&output))
    }

    /// Runs a copy of `virsh-lite` by a program that becomes somebody else before, such as [`NOBODY`].
    pub fn virsh_by(&self, program: &[&str], words: &[&str]) -> Result<Printed, String> {
        // The builds may be in a folder that is closed to others.
        let copy = self.work().join("virsh-lite");
        if !copy.exists() {
            fs::copy(dist()?.join("virsh-lite"), &copy)
                .map_err(|e| format!("cannot copy virsh-lite: {e}"))?;
        }
        let output = Command::new(program[0])
            .args(&program[1..])
            .arg(&copy)
            .args(words)
            .env("LIBVIRT_DEFAULT_URI", self.uri())
            .env("HOME", "/")
            .stdin(Stdio::null())
            .output()
            .map_err(|e| format!("cannot run virsh-lite: {e}"))?;
        Ok(Printed::of(&output))
    }

    /// Runs `virsh-lite`, which must succeed, and gives its output.
    pub fn ok(&self, words: &[&str]) -> Result<String, String> {
        self.virsh(words)?.ok().map_err(|e| format!("{words:?}: {e}"))
    }

    /// A raw connection.
    pub fn client(&self) -> Result<Client, String> {
        Client::connect(&self.socket())
    }

    /// A busybox root `NAME.root` in the test's folder.
    pub fn busybox(&self, name: &str) -> Result<PathBuf, String> {
        let root = self.work.path().join(format!("{name}.root"));
        roots::make_busybox(&root)?;
        Ok(root)
    }

    /// Writes a document to a file in the test's folder.
    pub fn file(&self, name: &str, text: &str) -> Result<String, String> {
        let path = self.work.path().join(name);
        fs::write(&path, text).map_err(|e| format!("cannot write '{}': {e}", path.display()))?;
        path.to_str().map(str::to_owned).ok_or_else(|| "the temporary folder is not UTF-8".into())
    }

    /// Defines a document.
    pub fn define(&self, name: &str, xml: &str) -> Outcome {
        let file = self.file(&format!("{name}.xml"), xml)?;
        self.ok(&["define", &file]).map(drop)
    }

    /// State and reason of a domain, in the words of `domstate --reason`; but virsh has no word for some reasons, and
    /// this tells all of them.
    pub fn state(&self, name: &str) -> Result<String, String> {
        let status = self.status(name)?;
        let state = status["state"].as_str().unwrap_or("?").replace("shutoff", "shut off");
        Ok(format!("{state} ({})", status["reason"].as_str().unwrap_or("?")))
    }

    /// Waits until a domain is in a state, as `domstate --reason` prints it.
    pub fn wait_state(&self, name: &str, state: &str, seconds: u64) -> Outcome {
        let mut last = String::new();
        wait_for("the state", seconds, || {
            last = self.state(name).unwrap_or_else(|e| e);
            (last == state).then_some(())
        })
        .map_err(|e| format!("'{name}' is not '{state}' but '{last}': {e}"))
    }

    /// The status of a domain as `List` answers it.
    pub fn status(&self, name: &str) -> Result<serde_json::Value, String> {
        let answer = self.client()?.call("io.berth.Domain.List", &serde_json::json!({ "name": name }))?;
        answer.get("domain").cloned().ok_or_else(|| format!("no domain in {answer}"))
    }

    /// A pid in the status of a running domain: `id` (controller) or `initPid`.
    pub fn pid_of(&self, name: &str, what: &str) -> Result<i32, String> {
        let status = self.status(name)?;
        status[what]
            .as_i64()
            .and_then(|p| i32::try_from(p).ok())
            .ok_or_else(|| format!("no {what} in {status}"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Whatever a failed test left running ends with it; a test that went well has nothing left.
        if self.child.is_none() {
            self.environment.clear();
            if fs::read_dir(self.root().join("run/berth/state")).is_ok_and(|mut d| d.next().is_some()) {
                let _ = self.launch();
            }
        }
        if self.child.is_some() {
            if let Ok(names) = self.ok(&["list", "--name"]) {
                for name in names.lines().filter(|n| !n.trim().is_empty()) {
                    let _ = self.virsh(&["destroy", name.trim()]);
                }
            }
            let _ = self.stop();
        }
        self.kill();
    }
}

/// A document for a root with `init` and its arguments, and further elements of `<devices>`.
pub fn domain_xml(name: &str, root: &Path, init: &[&str], devices: &str) -> String {
    let (init, arguments) = init.split_first().map_or(("/bin/sh", &[][..]), |(i, a)| (*i, a));
    let arguments: String =
        arguments.iter().map(|a| format!("    <initarg>{}</initarg>\n", escape(a))).collect();
    format!(
        "<domain type='lxc'>
  <name>{name}</name>
  <memory unit='MiB'>256</memory>
  <os>
    <type>exe</type>
    <init>{init}</init>
{arguments}  </os>
  <devices>
    <filesystem type='mount'>
      <source dir='{}'/>
      <target dir='/'/>
    </filesystem>
    <console type='pty'/>
{devices}  </devices>
</domain>
",
        root.display()
    )
}

/// Text for an element.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
