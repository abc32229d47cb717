//! Runs the benchmarks of `tests/bench` on the release builds.

use crate::{dist, run};

/// `bench [--runs N] [--json FILE]`.
pub fn run(words: &[&str]) -> Result<(), String> {
    run::need(&[("busybox", "busybox-static"), ("ip", "iproute2")])?;
    let dist = dist::build()?;
    run::check(
        run::cargo()
            .args(["run", "--quiet", "--release", "--package", "berth-tests", "--bin", "berth-bench", "--"])
            .args(words)
            .env("BERTH_DIST", dist),
    )
}
