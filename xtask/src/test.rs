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
    let mut laps = Vec::new();
    let mut lap = |name: &'static str, step: &mut dyn FnMut() -> Result<(), String>| {
        println!("==> {name}");
        let begin = Instant::now();
        let result = step();
        laps.push(format!("{name} {} s", begin.elapsed().as_secs()));
        result
    };
    lap("format", &mut || run::check(run::cargo().args(["fmt", "--all", "--check"])))?;
    lap("clippy", &mut || {
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
    lap("generated code", &mut || crate::generate(crate::r#gen::Mode::Check))?;
    let mut built = None;
    lap("release builds", &mut || {
        built = Some(dist::build()?);
        Ok(())
    })?;
    let built = built.ok_or("error: nothing was built")?;
    lap("pure and unprivileged tests", &mut || {
        let mut all = vec!["--lib".to_owned(), "--bins".to_owned()];
        for name in test_targets()?.into_iter().filter(|n| !SUITES.contains(&n.as_str())) {
            all.extend(["--test".to_owned(), name]);
        }
        test(&all, &built)?;
        test(&["--doc".to_owned()], &built)
    })?;
    lap("fuzz targets: seeds, findings, random changes", &mut crate::fuzz::replay)?;
    for suite in if quick { &SUITES[..1] } else { SUITES } {
        lap(suite, &mut || test(&["--test".to_owned(), (*suite).to_owned()], &built))?;
    }
    if with_vm {
        lap("virtual machine", &mut || match vm::obstacle() {
            // Not a thing to install: such a machine runs everything but this.
            Some(reason) => {
                println!("not run: {reason}");
                Ok(())
            }
            None => vm::run(&[]),
        })?;
    }
    println!("==> all passed: {}", laps.join(", "));
    Ok(())
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
