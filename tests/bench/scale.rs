//! Many domains: listing them, and adopting them.

use std::time::Instant;

use berth_tests::daemon::{Daemon, domain_xml};
use serde_json::json;

use crate::figures::{Row, median, time};

/// `list --all` with 1,000 and 10,000 definitions.
pub fn list() -> Result<Vec<Row>, String> {
    let daemon = Daemon::start()?;
    let mut client = daemon.client()?;
    let mut defined = 0;
    let mut rows = Vec::new();
    for (count, limit) in [(1_000, 20.0), (10_000, 100.0)] {
        while defined < count {
            let xml = domain_xml(
                &format!("list{defined}"),
                std::path::Path::new("/nonexistent"),
                &["/sbin/init"],
                "",
            );
            client.call("io.berth.Domain.Define", &json!({ "xml": xml }))?;
            defined += 1;
        }
        let mut times = Vec::new();
        for _ in 0..11 {
            times.push(time(|| daemon.ok(&["list", "--all"]).map(drop))?);
        }
        rows.push(Row::figure(&format!("list --all of {count}"), median(&times) * 1000.0, "ms", limit));
    }
    Ok(rows)
}

/// Restart of the daemon with 200 running domains.
pub fn adoption() -> Result<Vec<Row>, String> {
    let mut daemon = Daemon::start()?;
    let root = daemon.busybox("many")?;
    for n in 0..200 {
        let name = format!("many{n}");
        daemon.define(&name, &domain_xml(&name, &root, &["/bin/sleep", "100000"], ""))?;
        daemon.ok(&["start", &name])?;
    }
    let mut times = Vec::new();
    for _ in 0..5 {
        daemon.kill();
        let begin = Instant::now();
        daemon.launch()?;
        let running = daemon.ok(&["list", "--name"])?.lines().filter(|l| !l.is_empty()).count();
        times.push(begin.elapsed().as_secs_f64());
        if running != 200 {
            return Err(format!("{running} of 200 domains were adopted"));
        }
    }
    daemon.ok(&["destroy", "many*"])?;
    Ok(vec![Row::figure(
        "daemon killed and restarted with 200 running",
        median(&times) * 1000.0,
        "ms",
        1000.0,
    )])
}
