//! LXC's own tools on the same root.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The lines of the configuration for a container that has nothing but its loopback.
pub const NO_NETWORK: &str = "lxc.net.0.type = empty";

/// A container of lxc-start.
pub struct Lxc {
    folder: PathBuf,
}

impl Lxc {
    /// Writes the configuration, with lines about its network; `None` where the tools are not installed.
    pub fn new(work: &Path, root: &Path, init: &[&str], network: &str) -> Result<Option<Self>, String> {
        if Command::new("lxc-start").arg("--version").stdout(Stdio::null()).status().is_err() {
            return Ok(None);
        }
        let folder = work.join("lxc");
        // What containers made by lxc-create include.
        let common = "/usr/share/lxc/config/common.conf";
        let include =
            if Path::new(common).exists() { format!("lxc.include = {common}\n") } else { String::new() };
        let config = format!(
            "{include}lxc.rootfs.path = dir:{}\nlxc.uts.name = peer\nlxc.init.cmd = {}\n{network}\nlxc.tty.max = 0\n\
             lxc.pty.max = 16\nlxc.mount.auto = proc:mixed sys:ro cgroup:mixed\n",
            root.display(),
            init.join(" ")
        );
        std::fs::create_dir_all(folder.join("peer"))
            .and_then(|()| std::fs::write(folder.join("peer/config"), config))
            .map_err(|e| format!("cannot write LXC's configuration: {e}"))?;
        Ok(Some(Self { folder }))
    }

    fn run(&self, program: &str, words: &[&str]) -> Result<(), String> {
        let output =
            self.command(program).args(words).output().map_err(|e| format!("cannot run {program}: {e}"))?;
        if output.status.success() {
            Ok(())
        } else {
            Err(format!("{program} failed: {}", String::from_utf8_lossy(&output.stderr)))
        }
    }

    /// One of LXC's programs for this container.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-P").arg(&self.folder).args(["-n", "peer"]).stdin(Stdio::null());
        command
    }

    /// `lxc-start -d`.
    pub fn start(&self) -> Result<(), String> {
        self.run("lxc-start", &["-d"])
    }

    /// `lxc-stop -k`.
    pub fn stop(&self) -> Result<(), String> {
        self.run("lxc-stop", &["-k"])
    }
}

impl Drop for Lxc {
    fn drop(&mut self) {
        // LXC leaves a group in every hierarchy, in which it puts what it wants to get rid of. A group that another
        // LXC uses is not empty and stays.
        for entry in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = std::fs::remove_dir(entry.path().join("lxc.pivot"));
        }
    }
}
