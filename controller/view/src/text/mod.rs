//! The texts of the files, each from what was read. Pure: none of these functions knows where anything comes from.
//!
//! Formats are those of proc(5) and of the kernel's sources, as programs read them.

pub mod cpuinfo;
pub mod diskstats;
pub mod meminfo;
pub mod stat;
pub mod swaps;
pub mod uptime;

/// Hundredths of a second (USER_HZ) in a number of nanoseconds.
pub fn ticks(nanoseconds: u64) -> u64 {
    nanoseconds / 10_000_000
}

/// A number in a file of lines "name number".
pub fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}
