//! A procfs of our own (invariant I2): what is mounted over the host's, by whomever, gets nothing that is written here.
//!
//! This module does not know what is written.

use std::os::fd::OwnedFd;

use rustix::fs::{PROC_SUPER_MAGIC, fstatfs};

use crate::failure::{Doing, Outcome, Step};

use super::mounts;

/// A procfs that is mounted nowhere, of the controller's pid namespace.
pub fn private(step: Step) -> Outcome<OwnedFd> {
    let doing = |operation| Doing::new(step, operation).path("proc");
    let proc = mounts::make("proc", &[], mounts::data_only()).map_err(|e| doing("mount").failed(e))?;
    let kind = fstatfs(&proc).map_err(|e| doing("statfs").failed(e))?.f_type;
    if kind != PROC_SUPER_MAGIC {
        return Err(doing("statfs").refused("it is no procfs"));
    }
    Ok(proc)
}
