//! The kernel calls of the controller that no library gives safely: the only crate of Berth with unsafe code.
//!
//! Everything here is one call or one unbreakable sequence of calls. This crate does not know domains, plans or
//! consoles, and it decides nothing.

pub mod bpf;
pub mod exec;
pub mod fuse;
pub mod loops;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod net;
pub mod perf;
pub mod poll;
pub mod process;
pub mod seccomp;
pub mod signal;

/// Result of a kernel call.
pub type Result<T> = std::result::Result<T, rustix::io::Errno>;

/// The error that the C library left behind.
fn last_errno() -> rustix::io::Errno {
    let raw = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    rustix::io::Errno::from_raw_os_error(raw)
}

/// A C result of -1 as an error.
fn check(result: libc::c_int) -> Result<libc::c_int> {
    if result == -1 { Err(last_errno()) } else { Ok(result) }
}
