//! How many files the daemon may have open: as many as it is allowed to, since the figures of domains stay open.
//!
//! What it starts gets back the limit that the daemon was born with: a program that uses select(2) breaks above 1024.
//! Does not know which files.

use std::io;
use std::sync::OnceLock;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

static BORN_WITH: OnceLock<Rlimit> = OnceLock::new();

/// Raises the limit of this process to the most that it may ask for. Once, before anything is started.
pub fn raise() -> io::Result<()> {
    let born_with = getrlimit(Resource::Nofile);
    if BORN_WITH.set(born_with).is_ok() && born_with.current != born_with.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: born_with.maximum, ..born_with })?;
    }
    Ok(())
}

/// Gives a child that waits for its work the limit of before.
pub fn give_back(child: i32) -> io::Result<()> {
    let (Some(limit), Some(pid)) = (BORN_WITH.get(), Pid::from_raw(child)) else { return Ok(()) };
    if limit.current != limit.maximum {
        prlimit(Some(pid), Resource::Nofile, *limit)?;
    }
    Ok(())
}
