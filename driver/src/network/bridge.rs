//! Bridges, addresses and routes of the host, by netlink (rtnetlink(7)).
//!
//! Does not know what a network is for.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags};
use rtnetlink::packet_route::link::{BridgeStpState, LinkAttribute, LinkInfo};
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteProtocol, RouteType};
use rtnetlink::{Error, Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};

use crate::host::links::spec::mac_text;

/// The kernel counts a bridge's times in hundredths of a second.
const HZ: u32 = 100;
/// How long the kernel may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Largest packet of a bridge that is made without one.
const USUAL_MTU: u32 = 1500;
/// The kernel's least delay of a bridge that runs the spanning tree protocol, in seconds.
const LEAST_DELAY: u32 = 2;

/// A bridge that is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Name.
    pub name: String,
    /// Hardware address.
    pub mac: Option<[u8; 6]>,
    /// Largest packet.
    pub mtu: Option<u32>,
    /// Spanning tree.
    pub stp: bool,
    /// Seconds until a port forwards.
    pub delay: u32,
    /// Addresses with their prefixes.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Routes through it: network, prefix, gateway, metric.
    pub routes: Vec<(IpAddr, u8, IpAddr, Option<u32>)>,
}

/// A route of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostRoute {
    /// Network.
    pub address: IpAddr,
    /// Length of its prefix.
    pub prefix: u8,
    /// Number of the interface; 0 is none.
    pub interface: u32,
    /// Whether it was learned from a router of IPv6.
    pub from_router: bool,
}

/// A link of the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// Number.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Kind, such as "bridge"; empty for hardware.
    pub kind: String,
    /// Hardware address.
    pub mac: Vec<u8>,
}

/// A connection to the kernel.
#[derive(Debug)]
pub struct Netlink {
    handle: Handle,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn failed(what: impl Into<String>) -> impl FnOnce(Error) -> String {
    let what = what.into();
    move |e| match e {
        Error::NetlinkError(e) => format!("cannot {what}: {}", e.to_io()),
        other => format!("cannot {what}: {other}"),
    }
}

/// A refusal of the kernel with this errno(3).
fn is(e: &Error, errno: rustix::io::Errno) -> bool {
    matches!(e, Error::NetlinkError(m) if m.raw_code() == -errno.raw_os_error())
}

async fn within<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(done) => done,
        Err(_) => Err("the kernel did not answer a change of the network in time".into()),
    }
}

impl Netlink {
    /// Connects.
    pub fn open() -> Result<Self, String> {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|e| format!("cannot speak netlink: {e}"))?;
        Ok(Self { handle, task: tokio::spawn(connection) })
    }

    /// Hardware addresses that a bridge has heard of lately.
    pub async fn heard_by(&self, bridge: u32) -> Result<BTreeSet<String>, String> {
        within(async {
            let request = self.handle.neighbours().get().set_address_family(AddressFamily::Bridge);
            let all: Vec<_> =
                request.execute().try_collect().await.map_err(failed("list who a bridge has heard"))?;
            let mac = |message: NeighbourMessage| {
                let is_its = |a: &NeighbourAttribute| *a == NeighbourAttribute::Controller(bridge);
                let its = message.attributes.iter().any(is_its);
                message.attributes.into_iter().filter(|_| its).find_map(|a| match a {
                    NeighbourAttribute::LinkLayerAddress(mac) => Some(mac_text(&mac)),
                    _ => None,
                })
            };
            Ok(all.into_iter().filter_map(mac).collect())
        })
        .await
    }

    /// All links.
    pub async fn links(&self) -> Result<Vec<Link>, String> {
        within(async {
            let all: Vec<_> =
                self.handle.link().get().execute().try_collect().await.map_err(failed("list links"))?;
            let read = |message: rtnetlink::packet_route::link::LinkMessage| {
                let mut link = Link {
                    index: message.header.index,
                    name: String::new(),
                    kind: String::new(),
                    mac: Vec::new(),
                };
                for attribute in message.attributes {
                    match attribute {
                        LinkAttribute::IfName(name) => link.name = name,
                        LinkAttribute::Address(mac) => link.mac = mac,
                        LinkAttribute::LinkInfo(infos) => {
                            for info in infos {
                                if let LinkInfo::Kind(kind) = info {
                                    link.kind = kind.to_string();
                                }
                            }
                        }
                        _ => {}
                    }
                }
                link
            };
            Ok(all.into_iter().map(read).collect())
        })
        .await
    }

    /// The link of that name.
    pub async fn link(&self, name: &str) -> Result<Option<Link>, String> {
        Ok(self.links().await?.into_iter().find(|l| l.name == name))
    }

    /// All unicast routes of the main table and all networks that the host has an address of, both families.
    pub async fn routes(&self) -> Result<Vec<HostRoute>, String> {
        within(async {
            let mut found = Vec::new();
            let v4 = RouteMessageBuilder::<std::net::Ipv4Addr>::new().build();
            let v6 = RouteMessageBuilder::<std::net::Ipv6Addr>::new().build();
            for message in [v4, v6] {
                let zero: IpAddr = match message.header.address_family {
                    AddressFamily::Inet6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
                    _ => std::net::Ipv4Addr::UNSPECIFIED.into(),
                };
                let all: Vec<_> = self
                    .handle
                    .route()
                    .get(message)
                    .execute()
                    .try_collect()
                    .await
                    .map_err(failed("list routes"))?;
                for route in all {
                    let unicast = route.header.kind == RouteType::Unicast;
                    if !unicast {
                        continue;
                    }
                    let mut entry = HostRoute {
                        address: zero,
                        prefix: route.header.destination_prefix_length,
                        interface: 0,
                        from_router: route.header.protocol == RouteProtocol::Ra,
                    };
                    for attribute in &route.attributes {
                        match attribute {
                            RouteAttribute::Destination(RouteAddress::Inet(a)) => {
                                entry.address = IpAddr::V4(*a)
                            }
                            RouteAttribute::Destination(RouteAddress::Inet6(a)) => {
                                entry.address = IpAddr::V6(*a)
                            }
                            RouteAttribute::Oif(index) => entry.interface = *index,
                            _ => {}
                        }
                    }
                    found.push(entry);
                }
            }
            for (index, address, prefix) in self.addresses().await? {
                found.push(HostRoute {
                    address: berth_domain::network::network_address(address, prefix),
                    prefix,
                    interface: index,
                    from_router: false,
                });
            }
            Ok(found)
        })
        .await
    }

    async fn addresses(&self) -> Result<Vec<(u32, IpAddr, u8)>, String> {
        let all: Vec<_> =
            self.handle.address().get().execute().try_collect().await.map_err(failed("list addresses"))?;
        let read = |message: rtnetlink::packet_route::address::AddressMessage| {
            let address = message.attributes.iter().find_map(|a| match a {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            })?;
            Some((message.header.index, address, message.header.prefix_len))
        };
        Ok(all.into_iter().filter_map(read).collect())
    }

    /// Makes a bridge; one that is there is an error.
    pub async fn make(&self, wanted: &Wanted) -> Result<u32, String> {
        let name = &wanted.name;
        within(async {
            // A delay below the kernel's least would become that, twice over, for each new port: without the spanning
            // tree a port forwards at once.
            let stp = wanted.stp && wanted.delay >= LEAST_DELAY;
            let mut link = LinkMessageBuilder::<LinkBridge>::new(name)
                .forward_delay(wanted.delay.saturating_mul(HZ))
                .stp_state(if stp { BridgeStpState::KernelStp } else { BridgeStpState::Disabled });
            if let Some(mac) = wanted.mac {
                link = link.address(mac.to_vec());
            }
            // The kernel takes the size of its ports for a bridge that was never given another one than it had; this is
            // given in `set_up`.
            if wanted.mtu == Some(USUAL_MTU) {
                link = link.mtu(USUAL_MTU + 1);
            }
            let made = self.handle.link().add(link.build()).execute().await;
            made.map_err(failed(format!("make the bridge '{name}'")))
        })
        .await?;
        match self.link(name).await? {
            Some(link) => Ok(link.index),
            None => Err(format!("the bridge '{name}' vanished")),
        }
    }

    /// Gives a bridge its addresses, sets it up, and adds its routes. What is there already stays.
    pub async fn set_up(&self, index: u32, wanted: &Wanted) -> Result<(), String> {
        let name = &wanted.name;
        within(async {
            if let Some(mtu) = wanted.mtu {
                let sized = LinkMessageBuilder::<LinkUnspec>::new().index(index).mtu(mtu).build();
                let set = self.handle.link().set(sized).execute().await;
                set.map_err(failed(format!("give the size {mtu} to the bridge '{name}'")))?;
            }
            for (address, prefix) in &wanted.addresses {
                let mut request = self.handle.address().add(index, *address, *prefix).replace();
                if address.is_ipv6() {
                    // Nobody else is on a bridge that was just made; one that is being probed cannot be used.
                    let message = request.message_mut();
                    message.header.flags |= AddressHeaderFlags::Nodad;
                    message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
                }
                let added = request.execute().await;
                added.map_err(failed(format!("give '{address}/{prefix}' to the bridge '{name}'")))?;
            }
            let up = LinkMessageBuilder::<LinkUnspec>::new().index(index).up().build();
            let set = self.handle.link().set(up).execute().await;
            set.map_err(failed(format!("set the bridge '{name}' up")))?;
            for (network, prefix, gateway, metric) in &wanted.routes {
                let what = format!("route '{network}/{prefix}' by '{gateway}'");
                let message = route(index, *network, *prefix, *gateway, *metric)
                    .ok_or_else(|| format!("cannot {what}: two families of addresses"))?;
                match self.handle.route().add(message).execute().await {
                    Err(e) if !is(&e, rustix::io::Errno::EXIST) => return Err(failed(what)(e)),
                    _ => {}
                }
            }
            Ok(())
        })
        .await
    }

    /// Removes a bridge by name; none there is no error, and nothing but a bridge is ever removed.
    pub async fn remove(&self, name: &str) -> Result<(), String> {
        let Some(link) = self.link(name).await?.filter(|l| l.kind == "bridge") else { return Ok(()) };
        within(async {
            match self.handle.link().del(link.index).execute().await {
                Err(e) if !is(&e, rustix::io::Errno::NODEV) => {
                    Err(failed(format!("remove the bridge '{name}'"))(e))
                }
                _ => Ok(()),
            }
        })
        .await
    }
}

fn route(
    index: u32,
    network: IpAddr,
    prefix: u8,
    gateway: IpAddr,
    metric: Option<u32>,
) -> Option<rtnetlink::packet_route::route::RouteMessage> {
    let mut message = match (network, gateway) {
        (IpAddr::V4(network), IpAddr::V4(gateway)) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
            .destination_prefix(network, prefix)
            .gateway(gateway)
            .output_interface(index)
            .build(),
        (IpAddr::V6(network), IpAddr::V6(gateway)) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
            .destination_prefix(network, prefix)
            .gateway(gateway)
            .output_interface(index)
            .build(),
        _ => return None,
    };
    message.attributes.extend(metric.map(RouteAttribute::Priority));
    Some(message)
}
