//! `berth-view`: serves the files of /proc and /sys that tell a container about its machine, over FUSE.
//!
//! Started by the controller when somebody waits for an answer, and gone when nobody has asked for a while. Everything
//! that outlives it is in the kernel (the connection, which the controller holds), in the control groups, or in the
//! memory that is descriptor 1; so it may be killed at any moment. It knows one container, and neither namespaces, nor
//! the container's root, nor the daemon.

mod accounts;
mod confine;
mod cpus;
mod figures;
mod files;
mod load;
mod options;
mod pace;
mod protocol;
mod serve;
mod snapshots;
mod sysfs;
mod sysinfo;
mod tasks;
mod text;
mod tree;
mod usage;

/// What reads the bytes of others, and what is written from them, for those who want to try it alone.
pub mod readers {
    pub use crate::cpus::{Cpus, parse_list, parse_mask, show_list, show_mask};
    pub use crate::load::{Load, Moment};
    pub use crate::protocol::{Operation, Request};
    pub use crate::sysinfo::Sysinfo;
    pub use crate::text::{cpuinfo, diskstats, meminfo, stat, swaps, uptime};
    pub use crate::usage::{Sample, Spent, Usage};
}

/// The descriptor on which the controller asks what sysinfo(2) is to tell.
const QUESTIONS: i32 = 3;

/// A line for the log. That it cannot be written is no reason to end.
fn note(line: &str) {
    use std::io::Write;
    let _ = std::io::stderr().write_all(format!("berth-view: {line}\n").as_bytes());
}

/// The whole program; answers its exit status: 0 if nobody has asked for a while or the container has gone.
pub fn main() -> i32 {
    let result = options::Options::read(std::env::args().skip(1)).and_then(|options| {
        // As long as it has the rights to.
        let files = files::Files::open(&options);
        // The first look at a clock finds out how the kernel wants that, by calls that are not left afterwards.
        let _ = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let questions =
            berth_sys::process::copy_inherited(QUESTIONS).map_err(|e| format!("no socket: {e}"))?;
        confine::confine()?;
        serve::serve(options, files, &questions)
    });
    match result {
        Ok(()) => 0,
        Err(message) => {
            note(&message);
            1
        }
    }
}
