//! The process of one network's dnsmasq: started so that it outlives the daemon, and found again by the next one.
//!
//! Does not know what it is told.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::Command;

use crate::host::process::{Process, find_program, start_time};

/// How long it may take to be ready.
const DEADLINE: Duration = Duration::from_secs(15);
/// How long it may take to end by itself.
const GRACE: Duration = Duration::from_secs(2);

/// Whether there is such a program.
pub fn is_here() -> bool {
    find_program("dnsmasq").is_some()
}

/// As whom it runs: user and group.
pub fn user() -> (String, String) {
    use nix::unistd::{Gid, Group, User};
    let name = ["dnsmasq", "nobody"].into_iter().find_map(|n| User::from_name(n).ok().flatten());
    let Some(user) = name else { return ("nobody".into(), "nogroup".into()) };
    let group = Group::from_gid(Gid::from_raw(user.gid.as_raw())).ok().flatten();
    (user.name, group.map_or_else(|| "nogroup".into(), |g| g.name))
}

fn argument(config: &Path) -> String {
    format!("--conf-file={}", config.display())
}

/// Starts it and waits until it serves. It leaves our session and is nobody's child.
pub async fn start(config: &Path) -> Result<Process, String> {
    let program = find_program("dnsmasq").ok_or(
        "DHCP and DNS of a network need the program 'dnsmasq', which is not installed (package dnsmasq-base)",
    )?;
    let run = Command::new(program)
        .arg(argument(config))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(DEADLINE, run).await {
        Ok(Ok(output)) => output,
        Ok(Err(e)) => return Err(format!("cannot run 'dnsmasq': {e}")),
        Err(_) => return Err("dnsmasq was not ready in time".into()),
    };
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().find(|l| !l.trim().is_empty()).unwrap_or("it does not say why").trim();
        return Err(format!("dnsmasq does not start: {}", line.strip_prefix("dnsmasq: ").unwrap_or(line)));
    }
    find(config)
        .map_err(|e| format!("cannot find the dnsmasq that was started: {e}"))?
        .ok_or_else(|| "dnsmasq ended right after its start; the system's log may have the reason".into())
}

/// The one that serves with this configuration. What a process calls itself is its own choice, so it has to be the program
/// too, and in our user namespace: elsewhere everybody can mount another program over it.
pub fn find(config: &Path) -> io::Result<Option<Process>> {
    let wanted = argument(config);
    let Some(program) = find_program("dnsmasq").and_then(|p| p.canonicalize().ok()) else { return Ok(None) };
    let own = std::fs::read_link("/proc/self/ns/user")?;
    for entry in std::fs::read_dir("/proc")? {
        let Ok(Some(pid)) = entry.map(|e| e.file_name().to_str().and_then(|n| n.parse::<i32>().ok())) else {
            continue;
        };
        // In this order: whoever has the number now is held, and only then it is asked who it is.
        let Ok(started) = start_time(pid) else { continue };
        let is_ours = || {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<&[u8]> = words.split(|b| *b == 0).collect();
            let link = |name: &str| std::fs::read_link(format!("/proc/{pid}/{name}")).ok();
            words.get(1..) == Some(&[wanted.as_bytes(), b""])
                && link("exe").is_some_and(|exe| is_program(&exe, &program))
                && link("ns/user").as_ref() == Some(&own)
        };
        if is_ours()
            && let Ok(process) = Process::adopt(pid, started)
            && is_ours()
        {
            return Ok(Some(process));
        }
    }
    Ok(None)
}

/// Numbers of the sockets that the one with this configuration has; none if it does not run.
pub fn sockets(config: &Path, pid_file: &Path) -> HashSet<u64> {
    let number = crate::files::read_text(pid_file).ok().and_then(|text| text.trim().parse::<i32>().ok());
    let Some(pid) = number else { return HashSet::new() };
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if words.split(|b| *b == 0).nth(1) != Some(argument(config).as_bytes()) {
        return HashSet::new();
    }
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links = files.filter_map(|file| std::fs::read_link(file.path()).ok());
    let number = |link: PathBuf| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    links.filter_map(number).collect()
}

/// Whether a process runs a program, which may have been replaced on disk since.
fn is_program(exe: &Path, program: &Path) -> bool {
    let (exe, program) = (exe.as_os_str().as_encoded_bytes(), program.as_os_str().as_encoded_bytes());
    exe.strip_prefix(program).is_some_and(|rest| rest.is_empty() || rest == b" (deleted)")
}

/// Has it read its hosts again.
pub fn reload(process: &Process) -> io::Result<()> {
    process.signal(Signal::HUP)
}

/// Ends it.
pub async fn stop(process: &Process) -> io::Result<()> {
    process.signal(Signal::TERM)?;
    if !process.ended_within(GRACE).await {
        process.kill()?;
        process.ended_within(GRACE).await;
    }
    Ok(())
}
