//! Network namespaces that a container has made inside its own.
//!
//! They are found by the processes that are in them. One that is only mounted somewhere inside is not found. Does not know
//! what is in them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_schemas::controller::PlanCgroups;
use rustix::fs::{Mode, OFlags, fstat, open};

use super::cgroup;

/// Most of them that are looked at.
const MOST: usize = 256;

/// Those in which a process of the container is, but for the container's own.
pub fn networks(groups: &PlanCgroups, own: BorrowedFd<'_>) -> Vec<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let look = |path: &str| open(path, flags, Mode::empty()).ok();
    let number = |namespace: BorrowedFd<'_>| fstat(namespace).map(|stat| (stat.st_dev, stat.st_ino)).ok();
    // A pid may be another's by now, but hardly in a network that is not the host's; and it is only looked at.
    let host = look("/proc/self/ns/net");
    let mut seen = vec![number(own), host.as_ref().and_then(|host| number(host.as_fd()))];
    let mut found = Vec::new();
    for pid in cgroup::members(groups) {
        let Some(namespace) = look(&format!("/proc/{pid}/ns/net")) else { continue };
        let number = number(namespace.as_fd());
        if !seen.contains(&number) {
            seen.push(number);
            found.push(namespace);
        }
        if found.len() == MOST {
            break;
        }
    }
    found
}
