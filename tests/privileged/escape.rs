//! What can be reached from inside, tried by the probe (`tests/probe`) as init of containers of each profile, and
//! compared with the list of what may be: `tests/probe/allowed-*.txt`, one reason on each line.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use berth_tests::daemon::{self, Daemon, domain_xml};
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, roots};

pub const TESTS: &[Test] = &[
    ("escape::default_profile", default_profile),
    ("escape::application_profile", application_profile),
    ("escape::the_probe_sees_what_is_open", opted_out),
    ("escape::additions_of_the_document", additions),
];

/// What `berth:settings` says.
fn settings(inside: &str) -> String {
    format!(
        "<metadata><berth:settings xmlns:berth='urn:berth:domain:1'>{inside}</berth:settings></metadata>\n  <os>"
    )
}

/// Name of a probe, and whether it is open, blocked or not there, with a detail.
type Findings = BTreeMap<String, (String, String)>;

/// Runs the probe as init of a domain; `edit` changes the document.
fn probe(daemon: &Daemon, name: &str, edit: impl Fn(String) -> String) -> Result<Findings, String> {
    let root = daemon.work().join(format!("{name}.root"));
    roots::make_busybox(&root)?;
    let program = daemon::dist()?.join("berth-probe");
    fs::copy(&program, root.join("bin/berth-probe"))
        .map_err(|e| format!("cannot copy '{}': {e}", program.display()))?;
    let xml = domain_xml(name, &root, &["/bin/berth-probe", "/tmp/probe.out"], "");
    daemon.define(name, &edit(xml))?;
    daemon.ok(&["start", name])?;
    daemon.wait_state(name, "shut off (shutdown)", 120)?;
    let text = fs::read_to_string(root.join("tmp/probe.out")).map_err(|e| e.to_string())?;
    ensure!(text.lines().last().is_some_and(|l| l.starts_with("end ")), "the probe did not end: {text}");
    let mut findings = Findings::new();
    for line in text.lines().filter(|l| !l.starts_with("end ")) {
        let mut words = line.splitn(3, ' ').map(str::to_owned);
        let (Some(name), Some(word), detail) = (words.next(), words.next(), words.next()) else {
            return Err(format!("no probe's line: {line}"));
        };
        ensure!(findings.insert(name, (word, detail.unwrap_or_default())).is_none(), "twice: {line}");
    }
    ensure!(findings.len() > 150, "only {} probes", findings.len());
    Ok(findings)
}

fn open(findings: &Findings) -> BTreeSet<&str> {
    findings.iter().filter(|(_, (word, _))| word == "OPEN").map(|(name, _)| name.as_str()).collect()
}

fn print(what: &str, findings: &Findings) {
    let count = |wanted: &str| findings.values().filter(|(word, _)| word == wanted).count();
    let (open, blocked, not_here) = (count("OPEN"), count("BLOCKED"), count("NA"));
    println!("{what}: {} probes, OPEN {open}, BLOCKED {blocked}, NA {not_here}", findings.len());
    if std::env::var_os("BERTH_PROBE_TABLE").is_some() {
        for (name, (word, detail)) in findings {
            println!("{what}: {name:<28} {word:<8} {detail}");
        }
    } else {
        for (name, (_, detail)) in findings.iter().filter(|(_, (word, _))| word == "OPEN") {
            println!("{what}: {name:<28} OPEN     {detail}");
        }
    }
}

/// Compares with the list of what may be open.
fn compare(list: &str, findings: &Findings) -> Outcome {
    // In the program: it also runs where there is no checkout.
    let text = match list {
        "allowed-default.txt" => include_str!("../probe/allowed-default.txt"),
        "allowed-no-idmap.txt" => include_str!("../probe/allowed-no-idmap.txt"),
        "allowed-application.txt" => include_str!("../probe/allowed-application.txt"),
        _ => return Err(format!("there is no '{list}'")),
    };
    let mut allowed = BTreeMap::new();
    for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (name, reason) = line.split_once(' ').ok_or_else(|| format!("{list}: no reason: {line}"))?;
        ensure!(findings.contains_key(name), "{list}: there is no probe '{name}'");
        ensure!(allowed.insert(name, reason.trim()).is_none(), "{list}: '{name}' twice");
    }
    let open = open(findings);
    let (later, now): (Vec<&str>, Vec<&str>) = open
        .iter()
        .filter_map(|n| allowed.get(n).copied())
        .partition(|reason| reason.starts_with("no-idmap"));
    println!(
        "{list}: of these {} are meant to be, and {} for want of ids of its own",
        now.len(),
        later.len()
    );
    let unused: Vec<_> = allowed.keys().filter(|n| !open.contains(*n)).collect();
    println!("{list}: allowed, and not open here: {unused:?}");
    let bad: Vec<String> = open
        .iter()
        .filter(|n| !allowed.contains_key(*n))
        .map(|n| format!("{n} {}", findings[*n].1))
        .collect();
    ensure!(bad.is_empty(), "these can be reached, and are not in {list}:\n{}", bad.join("\n"));
    Ok(())
}

/// A socket of the host that no container may reach.
fn canary() -> Result<UnixListener, String> {
    let address = SocketAddr::from_abstract_name("berth-probe-canary").map_err(|e| e.to_string())?;
    match UnixListener::bind_addr(&address) {
        Ok(listener) => Ok(listener),
        // Another test of this suite has it.
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {
            UnixListener::bind(tempfile::tempdir().map_err(|e| e.to_string())?.path().join("s"))
                .map_err(|e| e.to_string())
        }
        Err(e) => Err(e.to_string()),
    }
}

fn default_profile() -> Outcome {
    let daemon = Daemon::start()?;
    let _canary = canary()?;
    let findings = probe(&daemon, "t-esc-def", |xml| xml)?;
    print("default", &findings);
    compare("allowed-default.txt", &findings)?;
    let host_ids = settings("<berth:idmap mode='none'/>");
    let findings = probe(&daemon, "t-esc-ids", |xml| xml.replace("<os>", &host_ids))?;
    print("default, no ids of its own", &findings);
    compare("allowed-no-idmap.txt", &findings)
}

fn application_profile() -> Outcome {
    let daemon = Daemon::start()?;
    let _canary = canary()?;
    let application = settings("<berth:seccomp profile='application'/>");
    let findings = probe(&daemon, "t-esc-app", |xml| xml.replace("<os>", &application))?;
    print("application", &findings);
    compare("allowed-application.txt", &findings)?;
    let without = "<features><capabilities policy='deny'/></features>\n  <devices>";
    let findings =
        probe(&daemon, "t-esc-none", |xml| xml.replace("<os>", &application).replace("<devices>", without))?;
    print("application, no capabilities", &findings);
    compare("allowed-application.txt", &findings)
}

/// With everything allowed the same probes find the calls open: a probe that never sees anything would prove nothing.
fn opted_out() -> Outcome {
    let daemon = Daemon::start()?;
    let profile = include_str!("../../driver/src/seccomp/default.rules");
    let calls: BTreeSet<&str> =
        profile.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.split_whitespace().next()).collect();
    let allowed: String = calls.iter().map(|c| format!("<berth:allow>{c}</berth:allow>")).collect();
    let all = settings(&format!("<berth:idmap mode='none'/><berth:seccomp>{allowed}</berth:seccomp>"));
    let findings = probe(&daemon, "t-esc-out", |xml| xml.replace("<os>", &all))?;
    print("everything allowed", &findings);
    let open = open(&findings);
    for name in [
        "call_bpf",
        "call_keyctl",
        "call_io_uring_setup",
        "call_open_by_handle_at",
        "call_tiocsti",
        "call_settimeofday",
        "call_swapon",
        "i386_bpf",
        "i386_swapon",
        "i386_tiocsti",
    ] {
        ensure!(open.contains(name), "the probe does not see that {name} is open: {:?}", findings.get(name));
    }
    // Not by any list: calls that nobody knows.
    for name in ["call_future_call", "call_x32_getpid"] {
        ensure!(!open.contains(name), "{name} is open");
    }
    Ok(())
}

fn additions() -> Outcome {
    let daemon = Daemon::start()?;
    let run = |name: &str, inside: &str, script: &str| -> Result<String, String> {
        let root = daemon.busybox(name)?;
        let script = format!("{{ {script}\n}} > /tmp/out 2>&1; exit 0");
        let xml = domain_xml(name, &root, &["/bin/sh", "-c", &script], "").replace("<os>", &settings(inside));
        daemon.define(name, &xml)?;
        daemon.ok(&["start", name])?;
        daemon.wait_state(name, "shut off (shutdown)", 20)?;
        fs::read_to_string(root.join("tmp/out")).map_err(|e| e.to_string())
    };
    let text =
        run("t-add", "<berth:seccomp><berth:deny>mkdir</berth:deny></berth:seccomp>", "mkdir /tmp/x; uname")?;
    ensure!(text.contains("Operation not permitted") && text.contains("Linux"), "mkdir denied: {text}");
    let script =
        "chroot / true && echo open; grep NoNewPrivs /proc/self/status; grep Seccomp: /proc/self/status";
    let text = run("t-app", "<berth:seccomp profile='application'/>", script)?;
    let words: Vec<&str> = text.split_whitespace().collect();
    ensure!(
        !text.contains("open") && words.ends_with(&["NoNewPrivs:", "1", "Seccomp:", "2"]),
        "application: {text}"
    );
    let allowed = "<berth:seccomp profile='application'><berth:allow>chroot</berth:allow></berth:seccomp>";
    let text = run("t-app2", allowed, script)?;
    ensure!(text.contains("open"), "chroot allowed: {text}");
    let xml = domain_xml("t-bad", &daemon.busybox("t-bad")?, &["/bin/true"], "")
        .replace("<os>", &settings("<berth:seccomp><berth:allow>bfp</berth:allow></berth:seccomp>"));
    let file = daemon.file("t-bad.xml", &xml)?;
    let error = daemon.virsh(&["define", &file])?.fails()?;
    ensure!(error.contains("'bfp' is no system call") && error.contains("t-bad.xml:4:"), "define: {error}");
    // Another user than root, who could not have installed a filter any more after becoming one.
    let root = daemon.busybox("t-usr")?;
    let script =
        "{ id -u; grep Seccomp: /proc/self/status; grep NoNewPrivs /proc/self/status; } > /home/guest/out";
    std::os::unix::fs::chown(root.join("home/guest"), Some(1000), Some(1000)).map_err(|e| e.to_string())?;
    let xml = domain_xml("t-usr", &root, &["/bin/sh", "-c", script], "")
        .replace("</init>", "</init>\n    <inituser>guest</inituser><initgroup>guest</initgroup>");
    daemon.define("t-usr", &xml)?;
    daemon.ok(&["start", "t-usr"])?;
    daemon.wait_state("t-usr", "shut off (shutdown)", 20)?;
    let text = fs::read_to_string(root.join("home/guest/out")).map_err(|e| e.to_string())?;
    let words: Vec<&str> = text.split_whitespace().collect();
    ensure_eq!(words, ["1000", "Seccomp:", "2", "NoNewPrivs:", "0"], "the default");
    Ok(())
}
