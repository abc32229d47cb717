//! Interfaces of the host that the container has while it is there: moved into its network namespace, and back as they
//! were (`berth-lent`). Those that the daemon has made for it are not given back but removed.
//!
//! The controller itself goes there for a moment. If it is killed, the daemon does that. If that is dead too, the kernel
//! gives real interfaces back, under their name if that is free, and removes virtual ones with the namespace. Addresses and
//! routes that the host had on them are the daemon's to give back.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_lent::netlink::Netlink;
pub use berth_lent::within;
use berth_lent::{Lent, Returned, new_namespace};
use berth_schemas::controller::PlanHostInterface;
use rustix::io::Errno;

use crate::failure::{Doing, Failure, Outcome, Step};

/// One that is in the container.
#[derive(Debug, PartialEq, Eq)]
pub struct Moved {
    /// Its name in the plan.
    pub name: String,
    /// Its number in the container's network namespace: the container may have given it another name.
    index: u32,
    /// What it was on the host. One that was made for the container is removed, not given back.
    lent: Option<Lent>,
}

/// Makes an interface ready that the daemon has made in a network namespace in which nobody else has been: moving it there
/// would wait for grace periods of RCU, longer than the rest of a start.
pub fn take_in(plan: &PlanHostInterface, network: BorrowedFd<'_>) -> Outcome<Moved> {
    let mut moved = Moved { name: plan.name.clone(), index: 0, lent: None };
    make_ready(plan, network, &mut moved)?;
    Ok(moved)
}

/// Finds an interface by its name in a network namespace, and gives it what the plan says.
fn make_ready(plan: &PlanHostInterface, network: BorrowedFd<'_>, moved: &mut Moved) -> Outcome<()> {
    let doing = |operation| Doing::new(Step::Interfaces, operation).path(&plan.name);
    within(network, |_| {
        let netlink = Netlink::open().map_err(|e| doing("open a netlink socket for").failed(e))?;
        moved.index = netlink.index(inside(plan)).map_err(|e| doing("find the interface").failed(e))?;
        furnish(plan, &netlink, moved.index)
    })
    .map_err(|e| doing("enter the network of").failed(e))?
}

/// Its name in the container.
fn inside(plan: &PlanHostInterface) -> &str {
    plan.inside.as_deref().unwrap_or(&plan.name)
}

/// Moves an interface into a network namespace and makes it ready there. On the host it is called `from`. It is the host's
/// again if that fails.
pub fn move_in(plan: &PlanHostInterface, from: &str, network: BorrowedFd<'_>) -> Outcome<Moved> {
    let doing = |operation| Doing::new(Step::Interfaces, operation).path(&plan.name);
    let netlink = Netlink::open().map_err(|e| doing("open a netlink socket for").failed(e))?;
    let found = netlink.index(from).and_then(|index| Ok((index, Lent::remember(&netlink, index)?)));
    let (index, lent) = found.map_err(|e| match e {
        Errno::NODEV => doing("find the interface").failed_because(e, "the host has no such interface"),
        e => doing("find the interface").failed(e),
    })?;
    let made = plan.made == Some(true);
    let mut moved = Moved { name: plan.name.clone(), index: 0, lent: Some(lent).filter(|_| !made) };
    let arrived = netlink.move_to(index, inside(plan), network).map_err(|e| match e {
        // What "lo", bridges and the like answer.
        Errno::INVAL => doing("move the interface")
            .failed_because(e, "an interface of this kind cannot leave the host's network namespace"),
        e => doing("move the interface").failed(e),
    });
    // What has the name of one that did not arrive is the container's own. One whose name inside is taken does arrive, under
    // its own, before the kernel says so.
    let ours = arrived.is_ok() || netlink.link(index).is_err();
    match arrived.and_then(|()| make_ready(plan, network, &mut moved)) {
        Ok(()) => Ok(moved),
        Err(failure) => {
            // One that has not come so far is found by its name there.
            if ours {
                let between = new_namespace().ok();
                let back = bring_back(&moved, network, &[], between.as_ref());
                note_all(back.map_or_else(|e| vec![e], |back| back.said));
            }
            Err(failure)
        }
    }
}

/// Lines for the log.
pub fn note_all(said: Vec<String>) {
    said.iter().for_each(|line| crate::note(line));
}

/// Sets those up again that are there from a run before: the container may have changed them.
pub fn refresh(plan: &[PlanHostInterface], moved: &[Moved], network: BorrowedFd<'_>) -> Outcome<()> {
    if moved.is_empty() {
        return Ok(());
    }
    let doing = Doing::new(Step::Interfaces, "enter the network of the container");
    within(network, |_| {
        let netlink = Netlink::open().map_err(|e| doing.failed(e))?;
        for one in moved {
            // One that was made may have been removed inside.
            if let Some(wanted) = plan.iter().find(|w| w.name == one.name)
                && !(one.lent.is_none() && netlink.set_up(one.index, true) == Err(Errno::NODEV))
            {
                furnish(wanted, &netlink, one.index)?;
            }
        }
        Ok(())
    })
    .map_err(|e| doing.failed(e))?
}

fn furnish(plan: &PlanHostInterface, netlink: &Netlink, index: u32) -> Outcome<()> {
    let doing = |operation| Doing::new(Step::Interfaces, operation).path(inside(plan));
    let down = plan.down == Some(true);
    if let Some(mac) = &plan.mac {
        let doing = doing("set the hardware address of");
        let mac = hardware_address(mac).ok_or_else(|| doing.refused("not a hardware address"))?;
        netlink.set_hardware_address(index, &mac).map_err(|e| match e {
            Errno::BUSY => {
                doing.failed_because(e, "the device below it cannot change its own while it is up")
            }
            e => doing.failed(e),
        })?;
    }
    netlink.set_up(index, !down).map_err(|e| doing("set up the interface").failed(e))?;
    for address in &plan.addresses {
        let doing =
            Doing::new(Step::Interfaces, "add the address").path(&address.address).target(inside(plan));
        let (local, prefix) = network_of(&address.address, address.prefix, doing)?;
        let peer = address.peer.as_deref().map(|peer| network_of(peer, address.prefix, doing)).transpose()?;
        there_or(netlink.add_address(index, local, prefix, peer.map(|p| p.0)), doing)?;
    }
    for route in plan.routes.iter().filter(|_| !down) {
        // The gateway is what does not fit, and the name inside is the one that is known.
        let shown = format!("{}/{} via {}", route.network, route.prefix, route.gateway);
        let doing = Doing::new(Step::Interfaces, "add the route").path(&shown).target(inside(plan));
        let (network, prefix) = network_of(&route.network, route.prefix, doing)?;
        let (gateway, _) = network_of(&route.gateway, 0, doing)?;
        let metric = route.metric.and_then(|m| u32::try_from(m).ok());
        there_or(netlink.add_route(index, network, prefix, gateway, metric), doing)?;
    }
    Ok(())
}

fn hardware_address(text: &str) -> Option<[u8; 6]> {
    let octets: Option<Vec<u8>> = text.split(':').map(|o| u8::from_str_radix(o, 16).ok()).collect();
    octets?.try_into().ok()
}

/// What is there already is as it should be.
fn there_or(done: Result<(), Errno>, doing: Doing<'_>) -> Outcome<()> {
    match done {
        Err(Errno::EXIST) => Ok(()),
        done => done.map_err(|e| doing.failed(e)),
    }
}

fn network_of(address: &str, prefix: i64, doing: Doing<'_>) -> Result<(IpAddr, u8), Failure> {
    let address: IpAddr = address.parse().map_err(|_| doing.refused("not an address"))?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let prefix = u8::try_from(prefix).ok().filter(|p| *p <= most);
    Ok((address, prefix.ok_or_else(|| doing.refused("not a length of a prefix"))?))
}

/// Moves an interface back to the host's network namespace, as it was there, or removes it. It is looked for in the other
/// namespaces too, and goes by way of the one between. What could not be done is said.
pub fn bring_back(
    moved: &Moved,
    network: BorrowedFd<'_>,
    others: &[OwnedFd],
    between: Option<&OwnedFd>,
) -> Result<Returned, String> {
    let name = moved.name.clone();
    let failed = |e: Errno| format!("cannot give the interface '{name}' back to the host: {e}");
    let index = match moved.index {
        0 => within(network, |_| Netlink::open()?.index(&name)).and_then(|found| found),
        index => Ok(index),
    };
    let Some(lent) = &moved.lent else {
        let removed = index.and_then(|index| within(network, |_| Netlink::open()?.remove(index))?);
        return match removed {
            Ok(()) | Err(Errno::NODEV) => Ok(Returned { name: None, said: Vec::new() }),
            Err(e) => Err(failed(e)),
        };
    };
    match index.ok().and_then(|index| find(lent, index, network, others)) {
        Some((there, index)) => lent.take_back(there, index, between.map(AsFd::as_fd)).map_err(failed),
        None => {
            let gone = format!(
                "the interface '{name}' is not in the container's network any more: it was removed there, or moved on"
            );
            Ok(Returned { name: None, said: vec![gone] })
        }
    }
}

/// Where an interface is that was lent, and its number there.
fn find<'a>(
    lent: &Lent,
    index: u32,
    network: BorrowedFd<'a>,
    others: &'a [OwnedFd],
) -> Option<(BorrowedFd<'a>, u32)> {
    let is_it = lent.is_at(network, index);
    let is_here = || Some((network, index)).filter(|_| is_it != Some(false));
    if is_it == Some(true) {
        return is_here();
    }
    // Only where it is nowhere for certain, the number has to do.
    let mut all = std::iter::once(network).chain(others.iter().map(AsFd::as_fd));
    all.find_map(|there| Some((there, lent.find(there)?))).or_else(is_here)
}

/// Whether any of these goes back by way of another network namespace.
pub fn any_lent(moved: &[Moved]) -> bool {
    moved.iter().any(|one| one.lent.is_some())
}

/// Whether an interface may be in the container's network namespace no more, so that it has to be looked for.
pub fn is_missing(moved: &Moved, network: BorrowedFd<'_>) -> bool {
    let is_there =
        |lent: &Lent| lent.is_at(network, moved.index) == Some(true) || lent.find(network).is_some();
    moved.lent.as_ref().is_some_and(|lent| !is_there(lent))
}

/// The same as [`bring_back`] for all; answers what could not be done.
pub fn bring_all_back(
    moved: &mut Vec<Moved>,
    network: Option<BorrowedFd<'_>>,
    others: &[OwnedFd],
    between: Option<&OwnedFd>,
) -> Vec<String> {
    let Some(network) = network else { return Vec::new() };
    let back = moved.drain(..).map(|one| bring_back(&one, network, others, between));
    back.flat_map(|back| back.map_or_else(|e| vec![e], |back| back.said)).collect()
}
