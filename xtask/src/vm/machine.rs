//! The machine itself: qemu, and what comes out of its serial console.
//!
//! It knows nothing of what is in the machine.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Hardware address of its network card.
pub const NIC: &str = "52:54:00:be:17:01";

/// A machine that is off.
pub struct Machine<'a> {
    /// The kernel.
    pub kernel: &'a Path,
    /// Its initial file system.
    pub initial: &'a Path,
    /// The disk that becomes its root.
    pub disk: &'a Path,
    /// Further disks.
    pub roots: Vec<PathBuf>,
    /// Where everything that it prints is kept.
    pub log: &'a Path,
    /// Whether its console is the terminal, and it may stay on as long as somebody wants.
    pub keep: bool,
    /// After how long it is turned off otherwise.
    pub deadline: Duration,
}

impl Machine<'_> {
    /// Runs it to its end and returns what it printed.
    pub fn run(&self) -> Result<String, String> {
        let log = self.log;
        let file = File::create(log).map_err(|e| format!("error: cannot make '{}': {e}", log.display()))?;
        let mut child = self
            .command()
            .stdin(if self.keep { Stdio::inherit() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("error: cannot run qemu-system-x86_64: {e}"))?;
        let reader = child.stdout.take().map(|out| thread::spawn(move || copy_console(out, file)));
        let ended = wait(&mut child, if self.keep { None } else { Some(self.deadline) });
        let text = reader.map_or(Ok(String::new()), |r| {
            JoinHandle::join(r).unwrap_or_else(|_| Err("error: reading the console failed".into()))
        });
        match ended? {
            Some(status) if status.success() => text,
            Some(status) => Err(format!("error: qemu-system-x86_64 failed: {status}")),
            None => Err(format!(
                "error: the machine was not done after {} s and was killed",
                self.deadline.as_secs()
            )),
        }
    }

    fn command(&self) -> Command {
        let mut qemu = Command::new("qemu-system-x86_64");
        // No KVM: it is missing where this runs in CI, and one kind of machine is enough to keep right.
        qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048"])
            .args(["-chardev", if self.keep { "stdio,id=console,signal=off" } else { "stdio,id=console" }])
            .args(["-serial", "chardev:console"])
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.initial)
            // An emulated processor has nothing to mitigate. Errors of the kernel are shown, and a panic ends the machine. The list of security modules is Debian's,
            // spelt out so that a change of it cannot turn AppArmor off unseen.
            .args([
                "-append",
                "console=ttyS0 quiet panic=-1 mitigations=off lsm=landlock,lockdown,yama,integrity,apparmor,bpf rdinit=/init",
            ]);
        // A card to be lent to containers: qemu itself is all that it leads to.
        qemu.args(["-netdev", "user,id=nic,restrict=on", "-device"])
            .arg(format!("virtio-net-pci,netdev=nic,mac={NIC},romfile="));
        drive(&mut qemu, self.disk);
        for root in &self.roots {
            drive(&mut qemu, root);
        }
        qemu
    }
}

/// A disk: the first is /dev/vda inside. Nobody needs what is on it after the machine is off.
fn drive(qemu: &mut Command, disk: &Path) {
    // A comma in the name of the file is doubled.
    let file = disk.to_string_lossy().replace(',', ",,");
    qemu.arg("-drive").arg(format!("file={file},format=raw,if=virtio,cache=unsafe,discard=unmap"));
}

/// Shows what the machine prints and keeps it.
fn copy_console(mut from: ChildStdout, mut log: File) -> Result<String, String> {
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let n = from.read(&mut buffer).map_err(|e| format!("error: cannot read the console: {e}"))?;
        let Some(bytes) = buffer.get(..n).filter(|b| !b.is_empty()) else { break };
        all.extend(bytes);
        log.write_all(bytes).map_err(|e| format!("error: cannot write the console's log: {e}"))?;
        // Nobody has to watch.
        let mut out = std::io::stdout();
        let _ = out.write_all(bytes).and_then(|()| out.flush());
    }
    Ok(String::from_utf8_lossy(&all).into_owned())
}

/// Waits for the end of a program; after the deadline kills it, and then there is no status.
fn wait(child: &mut Child, deadline: Option<Duration>) -> Result<Option<ExitStatus>, String> {
    let fail = |e| format!("error: cannot wait for qemu-system-x86_64: {e}");
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(fail)? {
            return Ok(Some(status));
        }
        if deadline.is_some_and(|d| begin.elapsed() > d) {
            child.kill().map_err(fail)?;
            return child.wait().map(|_| None).map_err(fail);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_program_that_goes_on_is_killed() -> Result<(), Box<dyn std::error::Error>> {
        let mut child = Command::new("sleep").arg("1000").spawn()?;
        assert_eq!(wait(&mut child, Some(Duration::from_millis(50))), Ok(None));
        let mut child = Command::new("true").spawn()?;
        assert!(wait(&mut child, Some(Duration::from_secs(10)))?.is_some_and(|s| s.success()));
        Ok(())
    }

    #[test]
    fn disks_come_in_order() {
        let machine = Machine {
            kernel: Path::new("/k"),
            initial: Path::new("/i"),
            disk: Path::new("/a,b"),
            roots: vec![PathBuf::from("/r"), PathBuf::from("/s")],
            log: Path::new("/l"),
            keep: false,
            deadline: Duration::ZERO,
        };
        let command = machine.command();
        let words: Vec<_> = command.get_args().map(|w| w.to_string_lossy()).collect();
        let files: Vec<_> =
            words.iter().filter_map(|w| Some(w.strip_prefix("file=")?.split_once(",format=")?.0)).collect();
        assert_eq!(files, ["/a,,b", "/r", "/s"]);
        assert!(words.iter().any(|w| w.contains("apparmor")));
    }
}
