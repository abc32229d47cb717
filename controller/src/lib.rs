//! `berth-controller`: one process that sets up one container, holds its consoles, and takes it down.
//!
//! Born by berthd with a socket as descriptor 0, told everything in one call, serving the same interface from then on.
//! It does not know XML, configuration, other domains or the daemon's state; it looks no name up on the host.

mod birth;
mod console;
mod failure;
mod files;
mod hotplug;
mod parcels;
mod run;
mod serve;
mod setup;

/// What reads the bytes of others, for those who want to try it alone: the program is [`main`].
pub mod readers {
    pub use crate::birth::check_plan;
    pub use crate::serve::{call, connection::Connection};
    pub use crate::setup::{handshake::News, passwd, user::identity};
}

/// A line for the log. That it cannot be written, on a full disk, is no reason to end: so not `eprintln`.
fn note(line: &str) {
    use std::io::Write;
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// The whole program; answers its exit status.
pub fn main() -> i32 {
    match birth::take_over() {
        Ok(socket) => birth::launch(socket),
        Err(message) => {
            note(&message);
            2
        }
    }
}
