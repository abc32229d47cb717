//! Measures the budgets of the design beside the peers that are installed, in one run, as medians and ratios.
//!
//! `cargo xtask bench` builds and runs it. Peers that are not installed are named as such.

mod console;
mod figures;
mod nic;
mod peers;
mod scale;
mod view;

use std::time::Duration;

use berth_tests::daemon::{Daemon, domain_xml};
use berth_tests::host;
use figures::{Row, apart, median};
use peers::{Lxc, NO_NETWORK};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some((view::READER, rest)) = words.split_first().map(|(w, rest)| (w.as_str(), rest)) {
        if let Err(message) = view::reader(rest) {
            eprintln!("error: {message}");
            std::process::exit(1);
        }
        return;
    }
    let value = |name: &str| words.iter().position(|w| w == name).and_then(|at| words.get(at + 1)).cloned();
    let runs = value("--runs").and_then(|r| r.parse().ok()).unwrap_or(30);
    match all(runs) {
        Ok(rows) => {
            figures::print(&rows);
            if let Some(path) = value("--json") {
                let text = figures::json(&rows);
                if let Err(e) = std::fs::write(&path, text) {
                    eprintln!("error: cannot write '{path}': {e}");
                    std::process::exit(1);
                }
            }
            if rows.iter().any(|r| r.met == Some(false)) {
                std::process::exit(1);
            }
        }
        Err(message) => {
            eprintln!("error: {message}");
            std::process::exit(1);
        }
    }
}

fn all(runs: usize) -> Result<Vec<Row>, String> {
    let only = std::env::args().skip_while(|w| w != "--only").nth(1);
    let wanted = |name: &str| only.as_deref().is_none_or(|o| o == name);
    let mut rows = Vec::new();
    if wanted("start") {
        rows.extend(start_and_destroy(runs)?);
    }
    if wanted("nic") {
        rows.extend(nic::all()?);
    }
    if wanted("view") {
        rows.extend(view::all(runs)?);
    }
    if wanted("controller") {
        rows.extend(controller()?);
    }
    if wanted("list") {
        rows.extend(scale::list()?);
    }
    if wanted("console") {
        rows.extend(console::all()?);
    }
    if wanted("adoption") {
        rows.extend(scale::adoption()?);
    }
    Ok(rows)
}

fn start_and_destroy(runs: usize) -> Result<Vec<Row>, String> {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("bench")?;
    // An init that ignores SIGTERM, which sleep does as pid 1.
    let init = ["/bin/sleep", "100000"];
    daemon.define("bench", &domain_xml("bench", &root, &init, ""))?;
    let lxc = Lxc::new(daemon.work(), &root, &init, NO_NETWORK)?;
    let (mut starts, mut stops, mut lxc_starts, mut lxc_stops) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    // In turn, so that both see the same machine; the first round is not counted.
    for round in 0..=runs {
        let start = apart(|| daemon.ok(&["start", "bench"]).map(drop))?;
        let stop = apart(|| daemon.ok(&["destroy", "bench"]).map(drop))?;
        let peer = match &lxc {
            Some(lxc) => Some((apart(|| lxc.start())?, apart(|| lxc.stop())?)),
            None => None,
        };
        if round > 0 {
            starts.push(start);
            stops.push(stop);
            if let Some((start, stop)) = peer {
                lxc_starts.push(start);
                lxc_stops.push(stop);
            }
        }
    }
    Ok(vec![
        Row::against("virsh-lite start", "lxc-start -d", &starts, &lxc_starts, 0.5),
        Row::against("virsh-lite destroy", "lxc-stop -k", &stops, &lxc_stops, 1.0),
    ])
}

fn controller() -> Result<Vec<Row>, String> {
    let bytes = std::fs::metadata(berth_tests::daemon::dist()?.join("berth-controller"))
        .map_err(|e| e.to_string())?
        .len();
    let daemon = Daemon::start()?;
    let root = daemon.busybox("bench")?;
    let available = || -> Option<i64> {
        let text = std::fs::read_to_string("/proc/meminfo").ok()?;
        text.lines().find(|l| l.starts_with("MemAvailable"))?.split_whitespace().nth(1)?.parse().ok()
    };
    for n in 0..50 {
        daemon.define(
            &format!("mem{n}"),
            &domain_xml(&format!("mem{n}"), &root, &["/bin/sleep", "100000"], ""),
        )?;
    }
    std::thread::sleep(Duration::from_secs(1));
    let before = available().ok_or("no MemAvailable")?;
    for n in 0..50 {
        daemon.ok(&["start", &format!("mem{n}")])?;
    }
    std::thread::sleep(Duration::from_millis(2500));
    let after = available().ok_or("no MemAvailable")?;
    let mut pss = Vec::new();
    for n in 0..50 {
        let pid = daemon.pid_of(&format!("mem{n}"), "id")?;
        pss.push(host::memory(pid, "Pss").ok_or("no smaps")? as f64);
    }
    let alone = {
        daemon.ok(&["destroy", "mem*"])?;
        daemon.ok(&["start", "mem0"])?;
        // A controller that has nothing to do for a second gives its code back.
        std::thread::sleep(Duration::from_millis(2500));
        let pid = daemon.pid_of("mem0", "id")?;
        host::memory(pid, "Pss").ok_or("no smaps")?
    };
    daemon.ok(&["destroy", "mem0"])?;
    Ok(vec![
        Row::figure("controller, stripped", bytes as f64 / 1000.0, "kB", 900.0),
        Row::figure("controller, PSS with one running", alone as f64, "KiB", 600.0),
        Row::figure("controller, PSS with 50 running", median(&pss), "KiB", 600.0),
        Row::figure("host memory per idle container of 50", (before - after) as f64 / 50.0, "KiB", 700.0),
    ])
}
