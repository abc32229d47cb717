//! Every test that belongs in CI, in the order of the design: pure, unprivileged, privileged, and those again in a
//! virtual machine.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use crate::{dist, run, vm};

const USAGE: &str = "usage: cargo xtask test [--quick | --no-vm]";

/// The tests that run the real programs, of which the second one needs root.
const SUITES: &[&str] = &["unprivileged", "privileged"];

/// `test [--quick | --no-vm]`.
pub fn run(words: &[&str]) -> Result<(), String> {
    let (quick, with_vm) = match words {
        [] => (false, true),
        ["--no-vm"] => (false, false),
        ["--quick"] => (true, false),
        _ => return Err(USAGE.into()),
    };
    run::need(&[("dbus-daemon", "dbus-daemon"), ("busctl", "systemd"), ("gdbus", "libglib2.0-bin")])?;
    if !quick {
        run::need(&[
            ("busybox", "busybox-static"),
            ("apparmor_parser", "apparmor"),
            // No program, but what the desktop tool among the examples is made with.
            ("/usr/lib/python3/dist-packages/gi/__init__.py", "python3-gi"),
            ("debugfs", "e2fsprogs"),
            ("dnsmasq", "dnsmasq-base"),
            ("ip", "iproute2"),
            ("iperf3", "iperf3"),
            ("losetup", "mount"),
            ("mke2fs", "e2fsprogs"),
            ("mkfs.xfs", "xfsprogs"),
            ("mksquashfs", "squashfs-tools"),
            ("mmdebstrap", "mmdebstrap"),
            ("nft", "nftables"),
            ("nsenter", "util-linux"),
            ("ping", "iputils-ping"),
            ("setpriv", "util-linux"),
            ("tc", "iproute2"),
            ("unshare", "util-linux"),
        ])?;
    }
    let mut laps = Laps::default();
    let all = everything(quick, with_vm, &mut laps);
    println!("==> {}: {}", if all.is_ok() { "all passed" } else { "failed" }, laps.0.join(", "));
    all
}

/// What took how long.
#[derive(Default)]
struct Laps(Vec<String>);

impl Laps {
    fn lap(&mut self, name: &str, step: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
        println!("==> {name}");
        let begin = Instant::now();
        let result = step();
        self.0.push(format!("{name} {} s", begin.elapsed().as_secs()));
        result
    }
}

fn everything(quick: bool, with_vm: bool, laps: &mut Laps) -> Result<(), String> {
    // The end of a release build is one program on one processor, for minutes: what is only looked at goes beside it.
    let built = std::thread::scope(|scope| {
        let build = scope.spawn(|| {
            let begin = Instant::now();
            dist::build().map(|built| (built, begin.elapsed()))
        });
        let looked = look(laps);
        println!("==> release builds, begun with the first step");
        let (built, time) = build.join().map_err(|_| "error: the release builds panicked")??;
        laps.0.push(format!("release builds beside them {} s", time.as_secs()));
        looked.map(|()| built)
    })?;
    laps.lap("pure and unprivileged tests", || {
        test(&pure()?, &built)?;
        test(&["--doc".to_owned()], &built)
    })?;
    laps.lap("fuzz targets: seeds, findings, random changes", crate::fuzz::replay)?;
    for suite in if quick { &SUITES[..1] } else { SUITES } {
        laps.lap(suite, || test(&["--test".to_owned(), (*suite).to_owned()], &built))?;
    }
    if with_vm {
        laps.lap("virtual machine", || match vm::obstacle() {
            // Not a thing to install: such a machine runs everything but this.
            Some(reason) => {
                println!("not run: {reason}");
                Ok(())
            }
            None => vm::run(&[]),
        })?;
    }
    Ok(())
}

/// What needs no program of ours: format, lints, generated code, and that the tests can be built.
fn look(laps: &mut Laps) -> Result<(), String> {
    laps.lap("format", || run::check(run::cargo().args(["fmt", "--all", "--check"])))?;
    laps.lap("clippy", || {
        run::check(run::cargo().args([
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))
    })?;
    laps.lap("generated code", || crate::generate(crate::r#gen::Mode::Check))?;
    laps.lap("build of the tests", || {
        run::check(run::cargo().args([
            "test",
            "--quiet",
            "--workspace",
            "--no-run",
            "--lib",
            "--bins",
            "--tests",
        ]))
    })
}

/// The tests that start no program of ours.
fn pure() -> Result<Vec<String>, String> {
    let mut all = vec!["--lib".to_owned(), "--bins".to_owned()];
    for name in test_targets()?.into_iter().filter(|n| !SUITES.contains(&n.as_str())) {
        all.extend(["--test".to_owned(), name]);
    }
    Ok(all)
}

/// Runs some of the tests. Always of the whole workspace: with another choice of packages the libraries that they share have
/// other features, and a hundred are built once more.
fn test(targets: &[String], programs: &Path) -> Result<(), String> {
    let mut cargo = run::cargo();
    run::check(cargo.args(["test", "--quiet", "--workspace"]).args(targets).env("BERTH_DIST", programs))
}

/// The names of all tests that are programs of their own: cargo-metadata(1).
fn test_targets() -> Result<BTreeSet<String>, String> {
    let text = run::output(run::cargo().args(["metadata", "--quiet", "--no-deps", "--format-version", "1"]))?;
    let all: Value =
        serde_json::from_str(&text).map_err(|e| format!("error: cannot read what the workspace has: {e}"))?;
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let targets = list(&all, "packages").into_iter().flat_map(|package| list(&package, "targets"));
    let tests = targets.filter(|target| list(target, "kind").iter().any(|kind| kind == "test"));
    Ok(tests.filter_map(|target| Some(target["name"].as_str()?.to_owned())).collect())
}
