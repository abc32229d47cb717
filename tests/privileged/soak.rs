//! The same thing many times: nothing may grow.

use berth_tests::daemon::{Daemon, domain_xml};
use berth_tests::host::{self, Traces};
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq};
use serde_json::json;

pub const TESTS: &[Test] = &[
    ("soak::three_hundred_starts_cost_nothing", starts),
    ("soak::calls_cost_nothing", calls),
    ("soak::concurrent_starts_and_stops", concurrent),
];

fn starts() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-300")?;
    daemon.define("t-300", &domain_xml("t-300", &root, &["/bin/sleep", "1000"], ""))?;
    let before = Traces::of("t-300", daemon.work());
    let cycle = |count: usize| -> Outcome {
        for _ in 0..count {
            daemon.ok(&["start", "t-300"])?;
            daemon.ok(&["destroy", "t-300"])?;
        }
        Ok(())
    };
    // The first cycles fill caches, arenas, and the history of events: it stays the same from some 600 on.
    cycle(300)?;
    let (fds, memory) =
        (host::descriptors(daemon.pid()), host::memory(daemon.pid(), "Pss_Anon").unwrap_or(0));
    cycle(250)?;
    let (fds_now, memory_now) =
        (host::descriptors(daemon.pid()), host::memory(daemon.pid(), "Pss_Anon").unwrap_or(0));
    println!("250 cycles: descriptors {fds} -> {fds_now}, anonymous memory {memory} -> {memory_now} KiB");
    ensure!(fds_now <= fds + 1, "descriptors grew from {fds} to {fds_now}");
    ensure!(memory_now <= memory + 768, "memory grew from {memory} to {memory_now} KiB");
    ensure_eq!(Traces::of("t-300", daemon.work()).difference(&before), Vec::<String>::new(), "residue");
    Ok(())
}

fn calls() -> Outcome {
    let daemon = Daemon::start()?;
    let mut client = daemon.client()?;
    let mut round = |count: usize| -> Outcome {
        for _ in 0..count {
            client.call("io.berth.Node.GetHostname", &json!({}))?;
            let _ = client.call("io.berth.Domain.List", &json!({ "name": "none" }));
        }
        Ok(())
    };
    round(2_000)?;
    let (fds, memory) =
        (host::descriptors(daemon.pid()), host::memory(daemon.pid(), "Pss_Anon").unwrap_or(0));
    round(10_000)?;
    for _ in 0..500 {
        daemon.client()?.call("io.berth.Node.GetVersion", &json!({}))?;
    }
    let (fds_now, memory_now) =
        (host::descriptors(daemon.pid()), host::memory(daemon.pid(), "Pss_Anon").unwrap_or(0));
    ensure!(fds_now <= fds + 2, "descriptors grew from {fds} to {fds_now}");
    ensure!(memory_now <= memory + 512, "memory grew from {memory} to {memory_now} KiB");
    Ok(())
}

fn concurrent() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-par")?;
    for n in 0..8 {
        let name = format!("t-par{n}");
        daemon.define(&name, &domain_xml(&name, &root, &["/bin/sleep", "1000"], ""))?;
    }
    let before = Traces::of("t-par", daemon.work());
    // Eight clients on four names each: most calls are refused, none may hang or break anything.
    let results: Vec<Outcome> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|worker| {
                let daemon = &daemon;
                scope.spawn(move || {
                    for step in 0..30 {
                        let name = format!("t-par{}", (worker + step) % 8);
                        let word = ["start", "destroy", "dominfo", "dumpxml"][(worker * 7 + step) % 4];
                        let printed = daemon.virsh(&[word, &name])?;
                        ensure!(!printed.err.contains("timed out"), "{word} {name}: {}", printed.err);
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().map(|w| w.join().unwrap_or_else(|_| Err("a worker panicked".into()))).collect()
    });
    results.into_iter().collect::<Outcome>()?;
    for n in 0..8 {
        let name = format!("t-par{n}");
        if daemon.state(&name)?.starts_with("running") {
            daemon.ok(&["destroy", &name])?;
        }
    }
    ensure_eq!(Traces::of("t-par", daemon.work()).difference(&before), Vec::<String>::new(), "residue");
    Ok(())
}
