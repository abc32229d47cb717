//! Addresses of interfaces: what a container's own network namespace has, and what the host has heard of its neighbours;
//! and the host name of a container's UTS namespace.
//!
//! A thread of its own goes into the namespace, through the process's descriptor, and comes to its end there: nothing of
//! the container is opened, and no other thread is taken along. Does not know domains.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use futures_util::TryStreamExt;
use rtnetlink::Handle;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState};
use rustix::process::{Pid, PidfdFlags};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use super::kernel::Kernel;
use super::spec::Mac;
use crate::host::process::parent;

/// Most interfaces, and most addresses of all of them, that are looked at: a container can make as many as it likes.
const MOST: usize = 4096;

/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// An interface of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// Its hardware address; empty for one that has none.
    pub mac: Vec<u8>,
    /// Its addresses, with lengths of prefixes.
    pub addresses: Vec<(IpAddr, u8)>,
}

fn bad(error: rtnetlink::Error) -> io::Error {
    match &error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}

/// Interfaces of the host but for the loopback, by name: each with whether it is a bridge, and whether it belongs to another.
pub async fn host() -> io::Result<Vec<(String, bool, bool)>> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let kernel = Kernel::open().map_err(io::Error::other)?;
    let all = tokio::time::timeout(PATIENCE, kernel.all()).await.map_err(late)?.map_err(io::Error::other)?;
    let others = all.into_iter().filter(|link| link.name != "lo").take(MOST);
    let mut found: Vec<_> =
        others.map(|link| (link.name, link.filters.is_some(), link.master.is_some())).collect();
    found.sort();
    Ok(found)
}

/// What the network namespace of an init has, which is the child of a controller.
pub async fn inside(init: i32, controller: i32) -> io::Result<Vec<Seen>> {
    by_thread(init, controller, look).await
}

/// The host name that an init has, which is the child of a controller.
pub async fn hostname(init: i32, controller: i32) -> io::Result<String> {
    by_thread(init, controller, |process| {
        move_into_thread_name_spaces(
            std::os::fd::AsFd::as_fd(process),
            ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME,
        )?;
        Ok(crate::host::node::hostname())
    })
    .await
}

/// What a thread of its own finds out from an init's descriptor.
async fn by_thread<T: Send + 'static>(
    init: i32,
    controller: i32,
    look: fn(&OwnedFd) -> io::Result<T>,
) -> io::Result<T> {
    let pid = Pid::from_raw(init).ok_or(io::ErrorKind::InvalidInput)?;
    let process = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    // In this order: if init has ended, the number may be somebody else's.
    if parent(init)? != controller {
        return Err(io::ErrorKind::NotFound.into());
    }
    let (sender, answer) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("look".into()).spawn(move || {
        // Nobody may be waiting any more.
        let _ = sender.send(look(&process));
    })?;
    answer.await.map_err(io::Error::other)?
}

fn look(process: &OwnedFd) -> io::Result<Vec<Seen>> {
    move_into_thread_name_spaces(std::os::fd::AsFd::as_fd(process), ThreadNameSpaceType::NETWORK)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        tokio::time::timeout(PATIENCE, list(&handle)).await.map_err(late)?
    })
}

async fn list(handle: &Handle) -> io::Result<Vec<Seen>> {
    let mut found: Vec<(u32, Seen)> = Vec::new();
    let mut links = handle.link().get().execute();
    while let Some(link) = links.try_next().await.map_err(bad)? {
        let mut seen = Seen { name: String::new(), mac: Vec::new(), addresses: Vec::new() };
        for attribute in link.attributes {
            match attribute {
                LinkAttribute::IfName(name) => seen.name = name,
                LinkAttribute::Address(mac) => seen.mac = mac,
                _ => {}
            }
        }
        if found.len() < MOST {
            found.push((link.header.index, seen));
        }
    }
    let places: HashMap<u32, usize> = found.iter().enumerate().map(|(n, (index, _))| (*index, n)).collect();
    let mut total = 0;
    let mut addresses = handle.address().get().execute();
    while let Some(address) = addresses.try_next().await.map_err(bad)? {
        let local = address.attributes.iter().find_map(|a| match a {
            AddressAttribute::Local(local) => Some(*local),
            _ => None,
        });
        let any = address.attributes.iter().find_map(|a| match a {
            AddressAttribute::Address(any) => Some(*any),
            _ => None,
        });
        let of = places.get(&address.header.index).and_then(|n| found.get_mut(*n));
        if let (Some((_, seen)), Some(ip)) = (of, local.or(any))
            && total < MOST
        {
            total += 1;
            seen.addresses.push((ip, address.header.prefix_len));
        }
    }
    Ok(found.into_iter().map(|(_, seen)| seen).collect())
}

/// What the host knows of neighbours with these hardware addresses.
pub async fn neighbours(macs: &[Mac]) -> io::Result<Vec<(Mac, IpAddr)>> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    let mut found = Vec::new();
    let mut all = handle.neighbours().get().execute();
    while let Some(neighbour) = all.try_next().await.map_err(bad)? {
        let useless = [NeighbourState::Failed, NeighbourState::Incomplete, NeighbourState::None];
        if useless.contains(&neighbour.header.state) {
            continue;
        }
        let (mut mac, mut address) = (None, None);
        for attribute in &neighbour.attributes {
            match attribute {
                NeighbourAttribute::LinkLayerAddress(bytes) => mac = Mac::try_from(bytes.as_slice()).ok(),
                NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                    address = Some(IpAddr::V4(*v4));
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                    address = Some(IpAddr::V6(*v6));
                }
                _ => {}
            }
        }
        if let (Some(mac), Some(address)) = (mac.filter(|m| macs.contains(m)), address)
            && !found.contains(&(mac, address))
        {
            found.push((mac, address));
        }
    }
    Ok(found)
}
