//! The network from inside: only the loopback interface. Links are moved in by the daemon.

use crate::failure::{Doing, Outcome, Step};

/// Sets "lo" up.
pub fn loopback_up() -> Outcome<()> {
    berth_sys::net::loopback_up().map_err(|e| Doing::new(Step::Network, "set up").path("lo").failed(e))
}
