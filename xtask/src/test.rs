//! Every test that belongs in CI, in the order of the design: pure, unprivileged, privileged, and those again in a
//! virtual machine.

use std::time::Instant;

use crate::{dist, run, vm};

const USAGE: &str = "usage: cargo xtask test [--quick | --no-vm]";

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
        run::check(
            run::cargo()
                .args(["test", "--quiet", "--workspace", "--exclude", "berth-tests"])
                .env("BERTH_DIST", &built),
        )
    })?;
    lap("fuzz targets: seeds, findings, random changes", &mut crate::fuzz::replay)?;
    let suites: &[&str] = if quick { &["unprivileged"] } else { &["unprivileged", "privileged"] };
    for suite in suites {
        lap(suite, &mut || {
            run::check(
                run::cargo()
                    .args(["test", "--quiet", "--package", "berth-tests", "--test", suite])
                    .env("BERTH_DIST", &built),
            )
        })?;
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
