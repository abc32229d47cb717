//! Links in the kernel, by rtnetlink(7): made, found, changed, removed.
//!
//! Speaks to the network namespace that the daemon is in. Does not know what a link is for, nor what was there before.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use berth_domain::model::DirectMode;
use futures_util::TryStreamExt;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_REQUEST};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    AfSpecBridge, BridgeVlanInfo, BridgeVlanInfoFlags, InfoBridge, InfoData, InfoKind, InfoVeth,
    LinkAttribute, LinkFlags, LinkInfo, LinkMessage, MacVlanMode,
};
use rtnetlink::packet_route::tc::TcHandle;
use rtnetlink::{
    Handle, LinkBridgePort, LinkBridgeVlan, LinkIfb, LinkMacVlan, LinkMessageBuilder, LinkUnspec, LinkVeth,
    RouteMessageBuilder,
};
use rustix::io::Errno;

use super::LinkError;
use super::bandwidth::Bucket;
use super::spec::{HostRoute, Mac, PortVlan};

/// What there is about a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is set up.
    pub up: bool,
    /// Whether it is an end of a pair.
    pub is_pair: bool,
    /// Its hardware address.
    pub mac: Vec<u8>,
    /// Largest packet.
    pub mtu: u32,
    /// The bridge or other device that it belongs to.
    pub master: Option<u32>,
    /// Whether it is a bridge, and then whether that one filters virtual LANs.
    pub filters: Option<bool>,
}

/// A conversation with the kernel.
#[derive(Debug)]
pub struct Kernel(Handle);

/// What the kernel answered to a request that it did not fulfil.
fn cause(error: &rtnetlink::Error) -> (Option<i32>, Option<String>) {
    match error {
        rtnetlink::Error::NetlinkError(message) => (Some(message.raw_code().abs()), None),
        other => (None, Some(other.to_string())),
    }
}

fn failed(operation: &'static str, name: &str) -> impl FnOnce(rtnetlink::Error) -> LinkError {
    let name = name.to_owned();
    move |error| {
        let (errno, detail) = cause(&error);
        LinkError { operation, name, errno, detail }
    }
}

/// What is gone already is as it should be.
fn unless(done: Result<(), rtnetlink::Error>, fine: &[Errno]) -> Result<(), rtnetlink::Error> {
    match done {
        Err(e) if cause(&e).0.is_some_and(|n| fine.iter().any(|f| f.raw_os_error() == n)) => Ok(()),
        done => done,
    }
}

fn macvlan_mode(mode: DirectMode) -> MacVlanMode {
    match mode {
        DirectMode::Vepa => MacVlanMode::Vepa,
        DirectMode::Bridge => MacVlanMode::Bridge,
        DirectMode::Private => MacVlanMode::Private,
        DirectMode::Passthrough => MacVlanMode::Passthrough,
    }
}

impl Kernel {
    /// Opens a socket. It is closed when this is dropped.
    pub fn open() -> Result<Self, LinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(|e| LinkError {
            operation: "open a socket to",
            name: "rtnetlink".into(),
            errno: e.raw_os_error(),
            detail: None,
        })?;
        tokio::spawn(connection);
        Ok(Self(handle))
    }

    /// The link of a name, if there is one.
    pub async fn find(&self, name: &str) -> Result<Option<Found>, LinkError> {
        let mut links = self.0.link().get().match_name(name).execute();
        match links.try_next().await {
            Ok(message) => Ok(message.as_ref().map(found)),
            Err(e) if cause(&e).0 == Some(Errno::NODEV.raw_os_error()) => Ok(None),
            Err(e) => Err(failed("find the interface", name)(e)),
        }
    }

    /// All links.
    pub async fn all(&self) -> Result<Vec<Found>, LinkError> {
        let links: Result<Vec<LinkMessage>, _> = self.0.link().get().execute().try_collect().await;
        links.map(|l| l.iter().map(found).collect()).map_err(failed("list the interfaces of", "the host"))
    }

    /// Makes a pair: one end with a name and an address, in a bridge or not, and the other, in a network namespace if one is
    /// given. Both are down.
    pub async fn make_pair(
        &self,
        host: (&str, Mac),
        peer: (&str, Mac),
        mtu: Option<u32>,
        bridge: Option<u32>,
        namespace: Option<BorrowedFd<'_>>,
    ) -> Result<(), LinkError> {
        let mut other = LinkMessageBuilder::<LinkUnspec>::new().name(peer.0).address(peer.1.to_vec());
        let mut message = LinkVeth::new(host.0, peer.0).address(host.1.to_vec());
        if let Some(mtu) = mtu {
            (other, message) = (other.mtu(mtu), message.mtu(mtu));
        }
        if let Some(bridge) = bridge {
            message = message.controller(bridge);
        }
        if let Some(namespace) = namespace {
            other = other.setns_by_fd(namespace.as_raw_fd());
        }
        let message = message.set_info_data(InfoData::Veth(InfoVeth::Peer(other.build())));
        self.add(message.build(), host.0).await
    }

    /// Makes a macvlan of a device, in a network namespace if one is given.
    pub async fn make_macvlan(
        &self,
        name: &str,
        mac: Mac,
        mtu: Option<u32>,
        dev: u32,
        mode: DirectMode,
        namespace: Option<BorrowedFd<'_>>,
    ) -> Result<(), LinkError> {
        let mut message = LinkMacVlan::new(name, dev, macvlan_mode(mode)).address(mac.to_vec());
        if let Some(namespace) = namespace {
            message = message.setns_by_fd(namespace.as_raw_fd());
        }
        if let Some(mtu) = mtu {
            message = message.mtu(mtu);
        }
        self.add(message.build(), name).await
    }

    /// Makes a device that what is redirected to it goes through. It is up.
    pub async fn make_shaper(&self, name: &str) -> Result<(), LinkError> {
        self.add(LinkIfb::new(name).up().build(), name).await
    }

    async fn add(&self, message: LinkMessage, name: &str) -> Result<(), LinkError> {
        self.0.link().add(message).execute().await.map_err(failed("make the interface", name))
    }

    /// Removes a link. One that is gone is no error.
    pub async fn remove(&self, index: u32, name: &str) -> Result<(), LinkError> {
        let done = self.0.link().del(index).execute().await;
        unless(done, &[Errno::NODEV]).map_err(failed("remove the interface", name))
    }

    /// Sets a link up or down.
    pub async fn set_up(&self, index: u32, up: bool, name: &str) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_index(index);
        let message = if up { message.up() } else { message.down() };
        let done = self.0.link().set(message.build()).execute().await;
        // One that is gone is down.
        let done = if up { done } else { unless(done, &[Errno::NODEV]) };
        done.map_err(failed(if up { "set up the interface" } else { "set down the interface" }, name))
    }

    /// Gives a macvlan that has a device for itself an address, which becomes that of the device.
    pub async fn set_address(&self, index: u32, mac: Mac, device: &str) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_index(index).address(mac.to_vec());
        let done = self.0.link().set(message.build()).execute().await;
        done.map_err(failed("change the hardware address of", device))
    }

    /// Moves a link into a network namespace, under the name that it has there from then on.
    pub async fn give(&self, index: u32, namespace: BorrowedFd<'_>, name: &str) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_index(index).setns_by_fd(namespace.as_raw_fd()).name(name);
        let done = self.0.link().set(message.build()).execute().await;
        done.map_err(failed("give the container the interface", name))
    }

    /// Puts a link into a bridge, in place of the one that it was in.
    pub async fn set_master(&self, index: u32, bridge: (u32, &str)) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_index(index).controller(bridge.0);
        let done = self.0.link().set(message.build()).execute().await;
        done.map_err(failed("add interface to bridge", bridge.1))
    }

    /// Whether a port of a bridge reaches no other isolated one.
    pub async fn isolate(&self, index: u32, isolated: bool, name: &str) -> Result<(), LinkError> {
        let message = LinkBridgePort::new(index).isolated(isolated);
        // Only as if it were made does the kernel look at what it is as a port.
        let request = self.0.link().add(message.build()).set_flags(NLM_F_REQUEST | NLM_F_ACK);
        let done = request.execute().await;
        done.map_err(failed("isolate the port", name))
    }

    /// Whether what comes from a port of a bridge may go out by it again.
    pub async fn reflect(&self, index: u32, reflects: bool, name: &str) -> Result<(), LinkError> {
        let message = LinkBridgePort::new(index).hairpin(reflects);
        let request = self.0.link().add(message.build()).set_flags(NLM_F_REQUEST | NLM_F_ACK);
        request.execute().await.map_err(failed("have the port give back what comes from it", name))
    }

    /// Gives a port of a bridge exactly these virtual LANs.
    pub async fn set_vlans(&self, index: u32, wanted: &[PortVlan], name: &str) -> Result<(), LinkError> {
        let (message, gone) = (LinkBridgeVlan::new(index), self.vlans_of(index, name).await?);
        let gone: Vec<u16> = gone.into_iter().filter(|id| !wanted.iter().any(|w| w.id == *id)).collect();
        let message = wanted.iter().fold(message, |message, vlan| {
            let mut flags = BridgeVlanInfoFlags::empty();
            flags.set(BridgeVlanInfoFlags::Pvid, vlan.native);
            flags.set(BridgeVlanInfoFlags::Untagged, vlan.untagged);
            message.vlan(vlan.id, flags)
        });
        let done = self.0.link().set(message.build()).execute().await;
        done.map_err(failed("set the virtual LANs of", name))?;
        if gone.is_empty() {
            return Ok(());
        }
        let none = BridgeVlanInfoFlags::empty();
        let message =
            gone.into_iter().fold(LinkBridgeVlan::new(index), |message, id| message.vlan(id, none)).build();
        let done = rtnetlink::LinkDelRequest::new_with_message(self.0.clone(), message).execute().await;
        done.map_err(failed("set the virtual LANs of", name))
    }

    async fn vlans_of(&self, index: u32, name: &str) -> Result<Vec<u16>, LinkError> {
        use rtnetlink::packet_route::AddressFamily;
        use rtnetlink::packet_route::link::LinkExtentMask;
        let wanted = vec![LinkExtentMask::Brvlan];
        let mut links = self.0.link().get().set_filter_mask(AddressFamily::Bridge, wanted).execute();
        let mut ids = Vec::new();
        while let Some(link) = links.try_next().await.map_err(failed("read the virtual LANs of", name))? {
            let specs = link.attributes.iter().filter(|_| link.header.index == index);
            for attribute in specs {
                if let LinkAttribute::AfSpecBridge(specs) = attribute {
                    ids.extend(specs.iter().filter_map(|s| match s {
                        AfSpecBridge::VlanInfo(BridgeVlanInfo { vid, .. }) => Some(*vid),
                        _ => None,
                    }));
                }
            }
        }
        Ok(ids)
    }

    /// Gives a link an address.
    pub async fn add_address(
        &self,
        index: u32,
        address: (IpAddr, u8, Option<IpAddr>),
        name: &str,
    ) -> Result<(), LinkError> {
        let (local, prefix, peer) = address;
        let mut request = self.0.address().add(index, local, prefix);
        if let Some(peer) = peer {
            point_to(request.message_mut(), peer);
        }
        let done = unless(request.execute().await, &[Errno::EXIST]);
        done.map_err(failed("give an address to", name))
    }

    /// Adds a route of the host through a link.
    pub async fn add_route(&self, index: u32, route: &HostRoute, name: &str) -> Result<(), LinkError> {
        let bad = |_| LinkError::other("add a route through", name, "its addresses are of two families");
        let builder = RouteMessageBuilder::<IpAddr>::new();
        let builder = builder.destination_prefix(route.network, route.prefix).map_err(bad)?;
        let mut builder = builder.gateway(route.gateway).map_err(bad)?.output_interface(index);
        if let Some(metric) = route.metric {
            builder = builder.priority(metric);
        }
        let done = unless(self.0.route().add(builder.build()).execute().await, &[Errno::EXIST]);
        done.map_err(failed("add a route through", name)).map_err(|e| {
            let HostRoute { network, prefix, gateway, .. } = route;
            LinkError { detail: Some(format!("to {network}/{prefix} by the gateway '{gateway}'")), ..e }
        })
    }

    /// Limits what leaves a link, or takes the limit away.
    pub async fn limit(&self, index: u32, bucket: Option<&Bucket>, name: &str) -> Result<(), LinkError> {
        let number = index.cast_signed();
        let Some(bucket) = bucket else {
            let mut request = self.0.qdisc().del(number);
            request.message_mut().header.parent = TcHandle::ROOT;
            // There was none.
            let done = unless(request.execute().await, &[Errno::NOENT, Errno::INVAL]);
            return done.map_err(failed("take the limit of bandwidth off", name));
        };
        let mut message = rtnetlink::packet_route::tc::TcMessage::with_index(number);
        message.header.parent = TcHandle::ROOT;
        message.attributes = bucket.attributes();
        self.new_qdisc(message).await.map_err(failed("limit the bandwidth of", name))
    }

    /// The library has no word for a token bucket: the message is put together here.
    async fn new_qdisc(
        &self,
        message: rtnetlink::packet_route::tc::TcMessage,
    ) -> Result<(), rtnetlink::Error> {
        use futures_util::StreamExt;
        use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE, NetlinkMessage, NetlinkPayload};
        use rtnetlink::packet_route::RouteNetlinkMessage;
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let mut answers = self.0.clone().request(request)?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload
                && error.code.is_some()
            {
                return Err(rtnetlink::Error::NetlinkError(error));
            }
        }
        Ok(())
    }

    /// Sends all that comes in at a link through another one, and back.
    pub async fn redirect(&self, index: u32, to: u32, name: &str) -> Result<(), LinkError> {
        let number = index.cast_signed();
        let say = "redirect what comes from";
        self.stop_redirect(index, name).await?;
        self.0.qdisc().add(number).ingress().execute().await.map_err(failed(say, name))?;
        // Of every protocol (`ETH_P_ALL`, in the order of the network), which has to be said last: the priority takes
        // its place otherwise.
        let filter =
            self.0.traffic_filter(number).add().parent(0xffff_0000).priority(1).protocol(3_u16.to_be());
        let filter = filter.redirect(to).map_err(failed(say, name))?;
        filter.execute().await.map_err(failed(say, name))
    }

    /// Leaves alone what comes in at a link.
    pub async fn stop_redirect(&self, index: u32, name: &str) -> Result<(), LinkError> {
        let mut request = self.0.qdisc().del(index.cast_signed());
        request.message_mut().header.parent = TcHandle::INGRESS;
        let done = unless(request.execute().await, &[Errno::NOENT, Errno::INVAL]);
        done.map_err(failed("take the limit of bandwidth off", name))
    }
}

/// The other end of a point-to-point link takes the place of the own address, and nothing is a broadcast.
fn point_to(message: &mut AddressMessage, peer: IpAddr) {
    message.attributes.retain(|a| !matches!(a, AddressAttribute::Broadcast(_)));
    for attribute in &mut message.attributes {
        if let AddressAttribute::Address(address) = attribute {
            *address = peer;
        }
    }
}

fn found(message: &LinkMessage) -> Found {
    let mut found = Found {
        index: message.header.index,
        name: String::new(),
        up: message.header.flags.contains(LinkFlags::Up),
        is_pair: false,
        mac: Vec::new(),
        mtu: 0,
        master: None,
        filters: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => found.name.clone_from(name),
            LinkAttribute::Address(mac) => found.mac.clone_from(mac),
            LinkAttribute::Mtu(mtu) => found.mtu = *mtu,
            LinkAttribute::Controller(index) => found.master = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Data(InfoData::Bridge(bridge)) => {
                            found.filters = Some(bridge.contains(&InfoBridge::VlanFiltering(true)));
                        }
                        LinkInfo::Kind(InfoKind::Veth) => found.is_pair = true,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    found
}
