//! The first five minutes of a user, on a private daemon under a temporary folder.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{dist, run};

/// Ends the daemon and, if the demo failed half-way, its domain.
struct Daemon {
    child: Child,
    connection: String,
    virsh_lite: PathBuf,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // After a demo that went well there is no such domain; then this only says so, to nobody.
        let _ =
            Command::new(&self.virsh_lite).args(["-q", "-c", &self.connection, "destroy", "demo"]).output();
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        }
        let _ = self.child.wait();
    }
}

/// `cargo xtask demo`.
pub fn run() -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("error: the demo makes a container and needs root: run it with sudo".into());
    }
    run::need(&[("busybox", "busybox-static")])?;
    println!("building (the first time takes a few minutes)");
    let dist = dist::binaries()?;
    let work = tempfile::Builder::new()
        .prefix("berth-demo-")
        .tempdir()
        .map_err(|e| format!("error: cannot make a folder: {e}"))?;
    let container = work.path().join("container");
    busybox_root(&container)?;
    let document = work.path().join("demo.xml");
    fs::write(&document, domain_xml(&container))
        .map_err(|e| format!("error: cannot write '{}': {e}", document.display()))?;
    let daemon = start(&dist, &work.path().join("berth"))?;

    daemon.show(&["define", path(&document)?])?;
    daemon.show(&["list", "--all"])?;
    daemon.show(&["start", "demo"])?;
    daemon.show(&["list"])?;
    daemon.show(&["dominfo", "demo"])?;
    daemon.console()?;
    daemon.show(&["destroy", "demo"])?;
    daemon.show(&["domstate", "--reason", "demo"])?;
    daemon.show(&["undefine", "demo"])?;
    println!(
        "The daemon and its files are gone again. `cargo xtask install --destdir DIR` installs for good."
    );
    Ok(())
}

fn path(path: &Path) -> Result<&str, String> {
    path.to_str().ok_or_else(|| format!("error: '{}' is not UTF-8", path.display()))
}

/// A root with nothing but busybox and its names.
fn busybox_root(root: &Path) -> Result<(), String> {
    let fail = |e: std::io::Error| format!("error: cannot make a root in '{}': {e}", root.display());
    for dir in ["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp"] {
        fs::create_dir_all(root.join(dir)).map_err(fail)?;
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists());
    fs::copy(busybox.ok_or("error: there is no busybox in /bin or /usr/bin")?, root.join("bin/busybox"))
        .map_err(fail)?;
    for name in
        run::output(Command::new(root.join("bin/busybox")).arg("--list"))?.lines().filter(|n| *n != "busybox")
    {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).map_err(fail)?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").map_err(fail)?;
    fs::write(root.join("etc/group"), "root:x:0:\n").map_err(fail)
}

fn domain_xml(root: &Path) -> String {
    format!(
        "<domain type='lxc'>
  <name>demo</name>
  <memory unit='MiB'>64</memory>
  <os>
    <type>exe</type>
    <init>/bin/sh</init>
  </os>
  <devices>
    <filesystem type='mount'>
      <source dir='{}'/>
      <target dir='/'/>
    </filesystem>
    <console type='pty'/>
  </devices>
</domain>
",
        root.display()
    )
}

/// Starts a daemon with all its files under `root`, and waits until it answers.
fn start(dist: &Path, root: &Path) -> Result<Daemon, String> {
    fs::create_dir_all(root).map_err(|e| format!("error: cannot make '{}': {e}", root.display()))?;
    println!("\n# berthd --root {} &", root.display());
    let child = Command::new(dist.join("berthd"))
        .arg("--root")
        .arg(root)
        .args(["--log", "warn"])
        .stdin(Stdio::null())
        .spawn()
        .map_err(|e| format!("error: cannot start berthd: {e}"))?;
    let connection = format!("lxc+unix:///system?socket={}/run/berth/io.berth", root.display());
    let mut daemon = Daemon { child, connection, virsh_lite: dist.join("virsh-lite") };
    let deadline = Instant::now() + Duration::from_secs(10);
    while !daemon.answers() {
        if let Ok(Some(status)) = daemon.child.try_wait() {
            return Err(format!("error: berthd ended by itself: {status}"));
        }
        if Instant::now() > deadline {
            return Err("error: berthd does not answer after 10 s".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("# export LIBVIRT_DEFAULT_URI='{}'", daemon.connection);
    Ok(daemon)
}

impl Daemon {
    fn virsh_lite(&self) -> Command {
        let mut command = Command::new(&self.virsh_lite);
        command.env("LIBVIRT_DEFAULT_URI", &self.connection);
        command
    }

    fn answers(&self) -> bool {
        self.virsh_lite().arg("hostname").output().is_ok_and(|o| o.status.success())
    }

    /// Prints a line as one would type it, and runs it.
    fn show(&self, words: &[&str]) -> Result<(), String> {
        println!("\n# virsh-lite {}", words.join(" "));
        run::check(self.virsh_lite().args(words))
    }

    /// Types into the console what a person would, and prints what it shows.
    fn console(&self) -> Result<(), String> {
        println!("\n# virsh-lite console demo");
        let pty = nix::pty::openpty(None, None).map_err(|e| format!("error: cannot make a PTY: {e}"))?;
        let side = |fd: &OwnedFd| {
            fd.try_clone().map(Stdio::from).map_err(|e| format!("error: cannot use a PTY: {e}"))
        };
        let mut child = self
            .virsh_lite()
            .args(["console", "demo"])
            .stdin(side(&pty.slave)?)
            .stdout(side(&pty.slave)?)
            .stderr(side(&pty.slave)?)
            .spawn()
            .map_err(|e| format!("error: cannot run virsh-lite: {e}"))?;
        drop(pty.slave);
        let mut terminal = fs::File::from(pty.master);
        let talk = expect(&mut terminal, "#")
            .and_then(|()| {
                say(
                    &mut terminal,
                    "echo \"I am process $$ on $(hostname), root of $(ls / | wc -l) folders\"\n",
                )
            })
            .and_then(|()| expect(&mut terminal, "folders\r"))
            .and_then(|()| expect(&mut terminal, "#"))
            .and_then(|()| say(&mut terminal, "ps\n"))
            .and_then(|()| expect(&mut terminal, "ps\r"))
            .and_then(|()| expect(&mut terminal, "#"))
            // ^] leaves the console; the container goes on.
            .and_then(|()| say(&mut terminal, "\x1d"));
        if talk.is_err() {
            let _ = child.kill();
        }
        let status = child.wait().map_err(|e| format!("error: cannot wait for virsh-lite: {e}"))?;
        println!();
        talk?;
        if status.success() { Ok(()) } else { Err(format!("error: virsh-lite console failed: {status}")) }
    }
}

fn say(terminal: &mut fs::File, text: &str) -> Result<(), String> {
    terminal.write_all(text.as_bytes()).map_err(|e| format!("error: cannot type into the console: {e}"))
}

/// Prints what comes until `text` has come; gives up after 10 s.
fn expect(terminal: &mut fs::File, text: &str) -> Result<(), String> {
    let (mut seen, mut byte) = (String::new(), [0_u8; 1]);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !seen.ends_with(text) {
        let left = deadline.saturating_duration_since(Instant::now()).as_millis();
        let mut fds = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        if poll(&mut fds, timeout) != Ok(1) || terminal.read(&mut byte).unwrap_or(0) == 0 {
            return Err(format!("error: the console did not show '{text}' but '{}'", seen.escape_debug()));
        }
        seen.push(char::from(byte[0]));
        print!("{}", char::from(byte[0]));
    }
    std::io::stdout().flush().map_err(|e| format!("error: cannot print: {e}"))
}
