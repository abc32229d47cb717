//! Namespaces of other processes, as descriptors.
//!
//! Does not know which domain a process belongs to.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::host::process::{Process, start_time};

/// Opens a namespace (`net`, `ipc`, `uts`) of a process.
pub fn of_process(pid: i32, kind: &str) -> io::Result<OwnedFd> {
    let start = start_time(pid)?;
    let fd = open(Path::new(&format!("/proc/{pid}/ns/{kind}")), OFlags::empty())?;
    // Still the same process: so it was while its namespace was opened.
    Process::adopt(pid, start)?;
    Ok(fd)
}

/// Opens a network namespace that `ip netns` made.
pub fn of_name(name: &str) -> io::Result<OwnedFd> {
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the name of a network namespace"));
    }
    open(&Path::new("/run/netns").join(name), OFlags::NOFOLLOW)
}

fn open(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | flags, Mode::empty())?)
}
