//! Tests that need no root: the house itself, the real daemon and the real command without any container.

mod command;

mod dbus;
mod definitions;
mod devices;
mod house;
mod interfaces;
mod invariants;
mod networks;
mod service;
mod wire;

use berth_tests::{daemon, suite};

fn main() {
    let tests: Vec<suite::Test> = [
        house::TESTS,
        interfaces::TESTS,
        invariants::TESTS,
        wire::TESTS,
        service::TESTS,
        command::TESTS,
        definitions::TESTS,
        devices::TESTS,
        networks::TESTS,
        dbus::TESTS,
    ]
    .into_iter()
    .flatten()
    .copied()
    .collect();
    suite::run(&tests, daemon::dist().err());
}
