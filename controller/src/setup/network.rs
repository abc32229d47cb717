//! The network namespace: made before there is a container, where the daemon wants to put links into it, and its loopback
//! interface. Does not know any other link.

use std::os::fd::{AsFd, OwnedFd};

use berth_schemas::controller::PlanIdMap;
use berth_sys::process::namespace;

use crate::failure::{Doing, Outcome, Step};

use super::{idmap, interfaces};

/// Namespaces that are there before there is a container.
#[derive(Debug)]
pub struct Early {
    /// The network namespace.
    pub network: OwnedFd,
    /// The user namespace that it belongs to, if the container has ids of its own.
    pub user: Option<OwnedFd>,
}

/// Makes them.
pub fn make_early(ids: Option<&PlanIdMap>) -> Outcome<Early> {
    let user = if ids.is_some() { namespace::USER } else { 0 };
    let early = idmap::with_helper(Step::Namespaces, ids, user | namespace::NET, |pid| {
        let user = ids.map(|map| idmap::furnish(pid, map)).transpose()?;
        Ok(Early { network: super::open_network(pid)?, user })
    })?;
    interfaces::within(early.network.as_fd(), |_| loopback_up())
        .map_err(|e| Doing::new(Step::Network, "setns").failed(e))??;
    Ok(early)
}

/// Sets "lo" up.
pub fn loopback_up() -> Outcome<()> {
    berth_sys::net::loopback_up().map_err(|e| Doing::new(Step::Network, "set up").path("lo").failed(e))
}
