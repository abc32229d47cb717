//! The real daemon with a scripted controller: no container, no control group, no network.
//!
//! The daemon is told to run this very program as its controller. With nothing in its environment and one argument it
//! knows that it is one.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod apparmor;
mod client;
mod consoles;
mod fake;
mod fake_systemd;
mod harness;
mod hotplug;
mod life;
mod limits;
mod metrics;
mod pause;
mod recovery;
mod roles;
mod service;
mod silence;
mod systemd;
mod wire;

use libtest_mimic::{Arguments, Trial};

/// Name and function of a test.
type Test = (&'static str, fn());

fn main() {
    if std::env::args().count() == 2 && std::env::vars_os().next().is_none() {
        return fake::run();
    }
    let tests = [
        wire::TESTS,
        roles::TESTS,
        life::TESTS,
        recovery::TESTS,
        silence::TESTS,
        consoles::TESTS,
        hotplug::TESTS,
        apparmor::TESTS,
        pause::TESTS,
        metrics::TESTS,
        limits::TESTS,
        service::TESTS,
        systemd::TESTS,
    ];
    let trials = tests.into_iter().flatten().map(|(name, test)| {
        let test = *test;
        Trial::test(*name, move || {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit();
}
