//! Tests with real containers. They run as root in a mount and a network namespace of their own, and leave the host
//! as they found it.

mod account;
mod adoption;
mod apparmor;
mod console;
mod dbus;
mod debian;
mod devices;
mod escape;
mod failures;
mod guests;
mod hostile;
mod hotplug;
mod idmap;
mod inside;
mod invariants;
mod journal;
mod kills;
mod lending;
mod life;
mod limits;
mod links;
mod networks;
mod pause;
mod program;
mod purge;
mod ready;
mod soak;
mod sysinfo;
mod view;

use berth_tests::{daemon, roots, suite};
use nix::sched::{CloneFlags, unshare};

fn main() {
    networks::pretend();
    let tests: Vec<suite::Test> = [
        account::TESTS,
        life::TESTS,
        limits::TESTS,
        links::TESTS,
        links::plugging::TESTS,
        links::tuning::TESTS,
        links::crashes::TESTS,
        links::lent::TESTS,
        links::nic::TESTS,
        inside::TESTS,
        idmap::TESTS,
        hotplug::TESTS,
        devices::TESTS,
        console::TESTS,
        dbus::TESTS,
        failures::TESTS,
        journal::TESTS,
        kills::TESTS,
        networks::TESTS,
        networks::forwards::TESTS,
        networks::names::TESTS,
        lending::TESTS,
        guests::TESTS,
        pause::TESTS,
        ready::TESTS,
        adoption::TESTS,
        soak::TESTS,
        view::TESTS,
        sysinfo::TESTS,
        escape::TESTS,
        hostile::TESTS,
        invariants::TESTS,
        program::TESTS,
        purge::TESTS,
        apparmor::TESTS,
        debian::TESTS,
    ]
    .into_iter()
    .flatten()
    .copied()
    .collect();
    debian::make_roots();
    if daemon::confined()
        && let Err(e) = apparmor::load_installed()
    {
        eprintln!("error: {e}");
        std::process::exit(1);
    }
    suite::run_but(&tests, obstacle(), apparmor::obstacle().map(|reason| ("apparmor::", reason)));
}

/// Why containers cannot be made here, if they cannot.
fn obstacle() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("containers need root".into());
    }
    if let Err(reason) = daemon::dist() {
        return Some(reason);
    }
    if roots::busybox().is_none() {
        return Some("there is no busybox; install busybox-static".into());
    }
    // Before any thread: a namespace belongs to the thread that unshares it.
    let private = unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).and_then(|()| {
        let none: Option<&str> = None;
        nix::mount::mount(
            none,
            "/",
            none,
            nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE,
            none,
        )
    });
    private.err().map(|e| format!("a private namespace cannot be made: {e}"))
}
