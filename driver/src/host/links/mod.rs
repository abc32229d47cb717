//! The host ends of containers' interfaces: named, made, changed, removed.
//!
//! A pair has one end here and one in the container; a macvlan is moved there whole. What is made is named before, and
//! those names are in the status record of the domain: whoever finds them removes what is there under them. Does not know
//! when that is, nor how the container's end gets there.

pub mod bandwidth;
pub mod gone;
mod kernel;
pub mod look;
pub mod spec;
mod switch;

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use berth_domain::Domain;
use berth_domain::model::{DirectMode, Interface, InterfaceSource};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::bandwidth::{Bucket, Given};
use self::kernel::{Found, Kernel};
use self::spec::{LinkKind, LinkSpec, Pair, Port, host_mac, mac, port_vlans};
use crate::network::sysctl;

/// What one interface of a running domain has on the host; a part of its status record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// Hardware address inside.
    pub mac: String,
    /// Name of the host end; of a macvlan, which has none, what it is called on the host.
    pub host: String,
    /// What makes the other names: so long and random that nobody else has it.
    pub token: String,
    /// Name that it is given inside.
    pub inside: String,
    /// The virtual network that it has a port of.
    pub network: Option<String>,
    /// The bridge that it is in.
    pub bridge: Option<String>,
    /// Whether it may be a port of Open vSwitch.
    #[serde(default)]
    pub switch: bool,
    /// Whether it is a macvlan that has a device for itself, and shares its hardware address.
    #[serde(default)]
    pub passthrough: bool,
    /// What its network limits where its element does not.
    #[serde(default)]
    pub given: Option<Box<Given>>,
}

impl Link {
    /// Name of the container's end until that is moved.
    pub fn peer(&self) -> String {
        format!("bp{}", self.token)
    }

    /// Name of the device that what leaves the container goes through if it is limited.
    pub fn shaper(&self) -> String {
        format!("bs{}", self.token)
    }

    /// Whether it is one that this daemon can have written.
    pub fn is_possible(&self) -> bool {
        let name = |name: &str| (1..=15).contains(&name.len()) && !name.contains(['/', '\0']);
        name(&self.host) && name(&self.peer()) && name(&self.inside)
    }
}

/// Why a link is not there, or not gone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {operation} '{name}': {}", self.cause())]
pub struct LinkError {
    /// What was tried.
    pub operation: &'static str,
    /// On what.
    pub name: String,
    /// The kernel's answer.
    pub errno: Option<i32>,
    /// More about it.
    pub detail: Option<String>,
}

impl LinkError {
    fn other(operation: &'static str, name: &str, detail: &str) -> Self {
        Self { operation, name: name.to_owned(), errno: None, detail: Some(detail.to_owned()) }
    }

    fn of(operation: &'static str, name: &str, errno: Errno) -> Self {
        Self { operation, name: name.to_owned(), errno: Some(errno.raw_os_error()), detail: None }
    }

    fn cause(&self) -> String {
        let errno = self.errno.map(|n| nix::errno::Errno::from_raw(n).desc().to_owned());
        [self.detail.clone(), errno].into_iter().flatten().collect::<Vec<_>>().join(": ")
    }

    /// Whether the name is somebody else's.
    pub fn is_taken(&self) -> bool {
        self.errno == Some(Errno::EXIST.raw_os_error())
    }
}

/// All links of one daemon.
#[derive(Debug, Default)]
pub struct Links {
    next: AtomicU32,
    /// Where files take the place of links, for tests without the right to make any.
    pretended: Option<PathBuf>,
}

/// The names that the interfaces of a domain have inside: those that it gives, and the first free `ethN` for the others.
/// `taken` is what else is there.
pub fn inside_names(interfaces: &[&Interface], taken: &[String]) -> Vec<String> {
    let given: Vec<&String> = interfaces.iter().filter_map(|i| i.guest.as_ref()).collect();
    let mut free = (0..).map(|n: u32| format!("eth{n}"));
    let mut next = || {
        let is_free = |name: &String| !taken.contains(name) && !given.contains(&name);
        free.find(is_free).unwrap_or_default()
    };
    interfaces.iter().map(|i| i.guest.clone().unwrap_or_else(&mut next)).collect()
}

/// The names that interfaces of the host have in a container.
pub fn names_of_hostdevs(domain: &Domain) -> Vec<String> {
    lent_to(domain).into_iter().map(|lent| lent.inside).collect()
}

/// An interface of the host that a domain has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LentName {
    /// Its name on the host.
    pub host: String,
    /// Its name in the container, as far as the document knows.
    pub inside: String,
}

/// All interfaces of the host that a domain has.
pub fn lent_to(domain: &Domain) -> Vec<LentName> {
    use berth_domain::model::HostdevSource;
    let net = |source: &HostdevSource| match source {
        HostdevSource::Net { interface, guest, .. } => {
            let inside = guest.as_ref().unwrap_or(interface).clone();
            Some(LentName { host: interface.clone(), inside })
        }
        _ => None,
    };
    domain.devices.hostdevs.iter().filter_map(|h| net(&h.source)).collect()
}

impl Links {
    /// Files in a folder in the place of links.
    pub fn pretend(folder: PathBuf) -> std::io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        Ok(Self { pretended: Some(folder), ..Self::default() })
    }

    /// Names for an interface, which are free now.
    pub async fn name(&self, interface: &Interface, inside: String) -> Result<Link, LinkError> {
        let host = match &interface.target {
            Some(name) => name.clone(),
            None => self.free_name(interface).await?,
        };
        let random = Uuid::new_v4().simple().to_string();
        let network = match &interface.source {
            InterfaceSource::Network { network, .. } => Some(network.clone()),
            _ => None,
        };
        let bridge = match &interface.source {
            InterfaceSource::Bridge { bridge } => Some(bridge.clone()),
            _ => None,
        };
        let passthrough = matches!(interface.source, InterfaceSource::Direct { mode, .. } if mode == DirectMode::Passthrough);
        Ok(Link {
            passthrough,
            mac: interface.mac.clone(),
            host,
            token: random.chars().take(12).collect(),
            inside,
            switch: interface.virtualport.is_some() || network.is_some(),
            network,
            bridge,
            given: None,
        })
    }

    /// The next name that nobody has.
    pub async fn free_name(&self, interface: &Interface) -> Result<String, LinkError> {
        let direct = matches!(interface.source, InterfaceSource::Direct { .. });
        let kernel = if self.pretended.is_some() { None } else { Some(Kernel::open()?) };
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let name = if direct { format!("macvlan{number}") } else { format!("vnet{number}") };
            let taken = match (&kernel, &self.pretended) {
                (Some(kernel), _) => kernel.find(&name).await?.is_some(),
                (None, folder) => folder.iter().any(|f| f.join(&name).exists()),
            };
            if !taken {
                return Ok(name);
            }
        }
    }

    /// Whether links can be made in the container's network namespace.
    pub fn want_namespace(&self) -> bool {
        self.pretended.is_none()
    }

    /// Makes a link with these names. What there is of it when this fails, [`Self::remove`] takes away. With a network
    /// namespace what the container gets is made in there; else on the host, under a name of its own.
    pub async fn make(
        &self,
        link: &Link,
        spec: &LinkSpec,
        domain: Uuid,
        namespace: Option<BorrowedFd<'_>>,
    ) -> Result<(), LinkError> {
        if let Some(folder) = &self.pretended {
            return pretend_to_make(folder, link, spec);
        }
        let kernel = Kernel::open()?;
        let end = End { name: namespace.map_or_else(|| link.peer(), |_| link.inside.clone()), namespace };
        let made = match &spec.kind {
            LinkKind::Macvlan { dev, mode } => make_macvlan(&kernel, &end, spec, dev, *mode).await,
            LinkKind::Pair(pair) => make_pair(&kernel, link, &end, spec, pair, domain).await,
        };
        match made {
            // Another name on the host would not help.
            Err(e) if namespace.is_some() && e.is_taken() && kernel.find(&link.host).await?.is_none() => {
                let detail = format!("the container has an interface '{}' already", end.name);
                Err(LinkError::other("make the interface", &link.host, &detail))
            }
            made => made,
        }
    }

    /// Makes a link that is there like `spec`.
    pub async fn change(&self, link: &Link, spec: &LinkSpec) -> Result<(), LinkError> {
        let (LinkKind::Pair(pair), None) = (&spec.kind, &self.pretended) else { return Ok(()) };
        let kernel = Kernel::open()?;
        let found = find_own(&kernel, link).await?;
        let found =
            found.ok_or_else(|| LinkError::other("find the interface", &link.host, REMOVED_INSIDE))?;
        guard(link, pair).await?;
        let mut own_bridge = None;
        if let Some(port) = pair.port.as_ref().filter(|p| p.switch.is_none()) {
            let bridge = bridge_of(&kernel, port).await?;
            own_bridge = Some((port, bridge.index));
            if found.master != Some(bridge.index) {
                kernel.set_master(found.index, (bridge.index, &port.bridge)).await?;
            }
            kernel.isolate(found.index, port.isolated, &link.host).await?;
            kernel.reflect(found.index, port.reflects, &link.host).await?;
            set_vlans(&kernel, found.index, link, port, &bridge).await?;
        }
        limit(&kernel, found.index, link, pair).await?;
        set_up(&kernel, found.index, spec.up, link, own_bridge).await?;
        if spec.up { furnish(&kernel, found.index, link, pair).await } else { Ok(()) }
    }

    /// Whether the host end of a pair is on the bridge that it belongs to, and up or down as it has to be. Switches remember
    /// their ports by themselves.
    pub async fn is_connected(&self, link: &Link, spec: &LinkSpec) -> Result<bool, LinkError> {
        let (LinkKind::Pair(pair), None) = (&spec.kind, &self.pretended) else { return Ok(true) };
        let Some(port) = pair.port.as_ref().filter(|p| p.switch.is_none()) else { return Ok(true) };
        let kernel = Kernel::open()?;
        let bridge = bridge_of(&kernel, port).await?;
        let found = find_own(&kernel, link).await?;
        Ok(found.is_some_and(|found| found.master == Some(bridge.index) && found.up == spec.up))
    }

    /// Moves the other end of a pair into a network namespace and gives it its name there. It is down.
    pub async fn give(&self, link: &Link, namespace: BorrowedFd<'_>) -> Result<(), LinkError> {
        let (kernel, peer) = (Kernel::open()?, link.peer());
        let Some(found) = kernel.find(&peer).await? else {
            return Err(LinkError::of("find the interface", &peer, Errno::NODEV));
        };
        kernel.give(found.index, namespace, &link.inside).await
    }

    /// Whether the host end of a pair is there.
    pub async fn is_there(&self, link: &Link) -> Result<bool, LinkError> {
        Ok(find_own(&Kernel::open()?, link).await?.is_some())
    }

    /// Whether the other end of a pair has not been moved yet.
    pub async fn is_unmoved(&self, link: &Link) -> Result<bool, LinkError> {
        Ok(Kernel::open()?.find(&link.peer()).await?.is_some())
    }

    /// Removes all that there is of links, and answers what is left. Their names are free afterwards.
    pub async fn remove(&self, links: &[Link]) -> Vec<String> {
        let mut left = Vec::new();
        if links.is_empty() {
            return left;
        }
        if let Some(folder) = &self.pretended {
            return pretend_to_remove(folder, links);
        }
        let kernel = match Kernel::open() {
            Ok(kernel) => kernel,
            Err(e) => return vec![e.to_string()],
        };
        for link in links {
            if link.switch {
                left.extend(switch::remove(&link.host, &link.mac).await.err().map(|e| e.to_string()));
            }
            let of_host = host_mac(mac(&link.mac));
            // The random names are ours whatever else; that of the host end may be somebody's who took it since.
            for (name, address) in
                [(link.host.clone(), Some(of_host)), (link.peer(), None), (link.shaper(), None)]
            {
                left.extend(remove_named(&kernel, &name, address).await.err().map(|e| e.to_string()));
            }
        }
        left
    }
}

async fn remove_named(kernel: &Kernel, name: &str, address: Option<spec::Mac>) -> Result<(), LinkError> {
    let ours = |found: &Found| address.is_none_or(|a| found.mac == a);
    if let Some(found) = kernel.find(name).await?.filter(ours) {
        kernel.remove(found.index, name).await?;
    }
    Ok(())
}

/// Why a link that is known is not there: nobody else takes one away.
const REMOVED_INSIDE: &str = "the container has removed its end of the interface";

/// The host end of a pair. Root inside can remove it, and then its name is free for anybody: one with another hardware
/// address is not ours, and nothing is done to it.
async fn find_own(kernel: &Kernel, link: &Link) -> Result<Option<Found>, LinkError> {
    let of_host = host_mac(mac(&link.mac));
    Ok(kernel.find(&link.host).await?.filter(|found| found.mac == of_host))
}

/// Keeps what the container sends from changing the host's addresses and routes, before the host end is up for the first
/// time. The end of a port has no business with IPv6: its bridge has, and may go away under it.
async fn guard(link: &Link, pair: &Pair) -> Result<(), LinkError> {
    let switches: &[(&str, &str)] = match pair.port {
        Some(_) => &[("disable_ipv6", "1"), ("accept_ra", "0"), ("autoconf", "0")],
        None => &[("accept_ra", "0"), ("autoconf", "0")],
    };
    let host = link.host.clone();
    let set = move || {
        // Neither a kernel without IPv6 nor a link whose packets are too small for it has any switches.
        let has = sysctl::of_interface("ipv6", &host, "disable_ipv6");
        if has.is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
            return Ok(());
        }
        let mut all = switches.iter();
        all.try_for_each(|(name, value)| sysctl::set(&format!("ipv6/conf/{host}/{name}"), value).map(drop))
    };
    let done = tokio::task::spawn_blocking(set).await.unwrap_or_else(|e| Err(e.to_string()));
    done.map_err(|e| LinkError::other("close the interface", &link.host, &e))
}

/// Sets a host end up or down. One whose bridge has gone away meanwhile stays down: it would be an interface of the host.
async fn set_up(
    kernel: &Kernel,
    index: u32,
    up: bool,
    link: &Link,
    bridge: Option<(&Port, u32)>,
) -> Result<(), LinkError> {
    kernel.set_up(index, up, &link.host).await?;
    let Some((port, bridge)) = bridge.filter(|_| up) else { return Ok(()) };
    if find_own(kernel, link).await?.is_some_and(|found| found.master == Some(bridge)) {
        return Ok(());
    }
    kernel.set_up(index, false, &link.host).await?;
    Err(LinkError::of("add interface to bridge", &port.bridge, Errno::NODEV))
}

/// Sets down the host ends of guests with these hardware addresses that are on a bridge that is about to go, or on none:
/// they would be interfaces of the host, which no rule knows. The guests lose their carrier, but no address and no route.
/// What else somebody has put into the bridge is not ours.
pub async fn cut_off(bridge: &str, guests: &[String]) -> Result<(), LinkError> {
    let of_host: Vec<spec::Mac> = guests.iter().map(|address| host_mac(mac(address))).collect();
    let kernel = Kernel::open()?;
    let bridge = kernel.find(bridge).await?.map(|found| found.index);
    let ours = |found: &Found| {
        let loose = found.master.is_none() || found.master == bridge;
        found.is_pair && found.up && loose && of_host.iter().any(|address| found.mac == address)
    };
    for end in kernel.all().await?.into_iter().filter(ours) {
        kernel.set_up(end.index, false, &end.name).await?;
    }
    Ok(())
}

/// Has ports of a bridge give back what comes from them, where the guests of these addresses are.
pub async fn reflect(bridge: &str, guests: &[String]) -> Result<(), LinkError> {
    let of_host: Vec<spec::Mac> = guests.iter().map(|address| host_mac(mac(address))).collect();
    let kernel = Kernel::open()?;
    let bridge = kernel.find(bridge).await?.map(|found| found.index);
    let ours = |found: &Found| {
        found.is_pair && found.master == bridge && of_host.iter().any(|address| found.mac == address)
    };
    for end in kernel.all().await?.into_iter().filter(ours) {
        kernel.reflect(end.index, true, &end.name).await?;
    }
    Ok(())
}

async fn bridge_of(kernel: &Kernel, port: &Port) -> Result<Found, LinkError> {
    let say = "add interface to bridge";
    let found = kernel.find(&port.bridge).await?;
    let found = found.ok_or_else(|| LinkError::of(say, &port.bridge, Errno::NODEV))?;
    if found.filters.is_none() {
        return Err(LinkError::other(say, &port.bridge, "it is not a bridge"));
    }
    Ok(found)
}

/// What the container gets of a link, where it is made.
struct End<'a> {
    name: String,
    namespace: Option<BorrowedFd<'a>>,
}

async fn make_pair(
    kernel: &Kernel,
    link: &Link,
    end: &End<'_>,
    spec: &LinkSpec,
    pair: &Pair,
    domain: Uuid,
) -> Result<(), LinkError> {
    let bridge = match pair.port.as_ref().filter(|p| p.switch.is_none()) {
        Some(port) => Some((port, bridge_of(kernel, port).await?)),
        None => None,
    };
    let of_host = host_mac(spec.mac);
    // One that an earlier run has left under the name that the document gives.
    remove_named(kernel, &link.host, Some(of_host)).await?;
    let mtu = spec.mtu.or(bridge.as_ref().map(|(_, b)| b.mtu).filter(|m| *m > 0));
    let master = bridge.as_ref().map(|(_, b)| b.index);
    kernel.make_pair((&link.host, of_host), (&end.name, spec.mac), mtu, master, end.namespace).await?;
    let made = kernel.find(&link.host).await?;
    let index = made.ok_or_else(|| LinkError::of("find the interface", &link.host, Errno::NODEV))?.index;
    guard(link, pair).await?;
    if let Some((port, bridge)) = &bridge {
        if port.isolated {
            kernel.isolate(index, true, &link.host).await?;
        }
        if port.reflects {
            kernel.reflect(index, true, &link.host).await?;
        }
        set_vlans(kernel, index, link, port, bridge).await?;
    }
    if let Some(port) = &pair.port
        && let Some(switch) = &port.switch
    {
        let who = (link.mac.as_str(), domain);
        switch::add(&port.bridge, &link.host, (switch, port.vlan.as_ref()), who).await?;
    }
    if pair.inbound.is_some() || pair.outbound.is_some() {
        limit(kernel, index, link, pair).await?;
    }
    if spec.up {
        let own_bridge = bridge.as_ref().map(|(port, bridge)| (*port, bridge.index));
        set_up(kernel, index, true, link, own_bridge).await?;
        furnish(kernel, index, link, pair).await?;
    }
    Ok(())
}

/// Gives addresses and routes to a host end that is up: one that goes down loses its routes and its addresses of IPv6.
async fn furnish(kernel: &Kernel, index: u32, link: &Link, pair: &Pair) -> Result<(), LinkError> {
    for address in &pair.addresses {
        kernel.add_address(index, *address, &link.host).await?;
    }
    for route in &pair.routes {
        kernel.add_route(index, route, &link.host).await?;
    }
    Ok(())
}

async fn set_vlans(
    kernel: &Kernel,
    index: u32,
    link: &Link,
    port: &Port,
    bridge: &Found,
) -> Result<(), LinkError> {
    let Some(vlan) = &port.vlan else { return Ok(()) };
    if bridge.filters != Some(true) {
        let detail = "it does not filter virtual LANs";
        return Err(LinkError::other("set the virtual LANs of a port of bridge", &port.bridge, detail));
    }
    kernel.set_vlans(index, &port_vlans(vlan), &link.host).await
}

async fn limit(kernel: &Kernel, index: u32, link: &Link, pair: &Pair) -> Result<(), LinkError> {
    let buckets = (pair.inbound.as_ref(), pair.outbound.as_ref());
    limit_both(kernel, (index, &link.host), &link.shaper(), buckets).await
}

/// Limits what goes out by a link to those behind it, and what comes from them by a device that it is sent through.
async fn limit_both(
    kernel: &Kernel,
    (index, name): (u32, &str),
    shaper: &str,
    (inbound, outbound): (Option<&Bucket>, Option<&Bucket>),
) -> Result<(), LinkError> {
    kernel.limit(index, inbound, name).await?;
    let there = kernel.find(shaper).await?;
    let Some(outbound) = outbound else {
        if let Some(found) = there {
            kernel.stop_redirect(index, name).await?;
            kernel.remove(found.index, shaper).await?;
        }
        return Ok(());
    };
    let found = match there {
        Some(found) => found,
        None => {
            kernel.make_shaper(shaper).await?;
            let made = kernel.find(shaper).await?;
            made.ok_or_else(|| LinkError::of("find the interface", shaper, Errno::NODEV))?
        }
    };
    kernel.limit(found.index, Some(outbound), shaper).await?;
    kernel.redirect(index, found.index, name).await
}

/// Limits what goes through a bridge to its ports and comes from them, as seen by the host: not what its ports send each
/// other. `shaper` names the device that is made for what comes from them.
pub async fn limit_bridge(
    bridge: &str,
    shaper: &str,
    buckets: (Option<&Bucket>, Option<&Bucket>),
) -> Result<(), LinkError> {
    let kernel = Kernel::open()?;
    let found = kernel.find(bridge).await?;
    let found = found.ok_or_else(|| LinkError::of("limit the bandwidth of", bridge, Errno::NODEV))?;
    limit_both(&kernel, (found.index, bridge), shaper, buckets).await
}

/// Removes the device that [`limit_bridge`] has made; none there is no error.
pub async fn remove_shaper(shaper: &str) -> Result<(), LinkError> {
    remove_named(&Kernel::open()?, shaper, None).await
}

/// How often, and how long apart, a device is asked for that one container at a time can have: that of an earlier run
/// may still be on its way out.
const EXCLUSIVE_TRIES: (u32, Duration) = (40, Duration::from_millis(25));

async fn make_macvlan(
    kernel: &Kernel,
    end: &End<'_>,
    spec: &LinkSpec,
    dev: &str,
    mode: DirectMode,
) -> Result<(), LinkError> {
    let parent = kernel.find(dev).await?;
    let parent = parent.ok_or_else(|| LinkError::of("make a macvlan of", dev, Errno::NODEV))?;
    let too_large = spec.mtu.filter(|mtu| *mtu > parent.mtu);
    let parent = parent.index;
    let (mut tries, pause) = EXCLUSIVE_TRIES;
    loop {
        let made = kernel.make_macvlan(&end.name, spec.mac, spec.mtu, parent, mode, end.namespace).await;
        tries -= 1;
        match made {
            Err(LinkError { errno: Some(errno), .. })
                if errno == Errno::INVAL.raw_os_error()
                    && let Some(mtu) = too_large =>
            {
                let detail = format!("its packets are not as large as the mtu {mtu}");
                return Err(LinkError::other("make a macvlan of", dev, &detail));
            }
            Err(e) if mode == DirectMode::Passthrough && e.errno == Some(Errno::INVAL.raw_os_error()) => {
                if tries == 0 {
                    let detail = "it has another macvlan, and 'passthrough' is for one alone";
                    return Err(LinkError::other("make a macvlan of", dev, detail));
                }
                tokio::time::sleep(pause).await;
            }
            Err(e) => return Err(LinkError { operation: "make a macvlan of", name: dev.to_owned(), ..e }),
            Ok(()) => break,
        }
    }
    // In a network namespace of its own it gets its address from whoever is there. It has to be its own, not the device's,
    // that is changed: only then the kernel gives the device the old one again when the macvlan goes, whatever ends it.
    if mode == DirectMode::Passthrough && end.namespace.is_none() {
        let made = kernel.find(&end.name).await?;
        let made = made.ok_or_else(|| LinkError::of("find the interface", &end.name, Errno::NODEV))?.index;
        return kernel.set_address(made, spec.mac, dev).await;
    }
    Ok(())
}

fn pretend_to_make(folder: &std::path::Path, link: &Link, spec: &LinkSpec) -> Result<(), LinkError> {
    let bridge = match &spec.kind {
        LinkKind::Pair(pair) => pair.port.as_ref().map(|p| p.bridge.as_str()),
        LinkKind::Macvlan { dev, .. } => Some(dev.as_str()),
    };
    if let Some(missing) = bridge.filter(|b| b.starts_with("missing")) {
        return Err(LinkError::of("add interface to bridge", missing, Errno::NODEV));
    }
    let made = std::fs::File::create_new(folder.join(&link.host));
    let errno = |e: std::io::Error| Errno::from_io_error(&e).unwrap_or(Errno::IO);
    made.map(drop).map_err(|e| LinkError::of("make the interface", &link.host, errno(e)))
}

fn pretend_to_remove(folder: &std::path::Path, links: &[Link]) -> Vec<String> {
    let remove = |link: &Link| crate::engine::record::remove(&folder.join(&link.host)).err();
    links.iter().filter_map(remove).map(|e| e.to_string()).collect()
}

#[cfg(test)]
mod test {
    use super::*;

    fn interface(guest: Option<&str>) -> Interface {
        let host = berth_domain::Host { arch: "x86_64".into(), emulator: "/e".into() };
        let guest = guest.map(|g| format!("<guest dev='{g}'/>")).unwrap_or_default();
        let xml = format!("<interface type='bridge'><source bridge='br0'/>{guest}</interface>");
        match berth_domain::parse_device(&xml, &host).expect("an interface").device {
            berth_domain::Device::Interface(interface, _) => *interface,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_inside_do_not_collide() {
        let all = [interface(None), interface(Some("eth0")), interface(None), interface(Some("lan"))];
        let all: Vec<&Interface> = all.iter().collect();
        assert_eq!(inside_names(&all, &["eth1".into()]), ["eth2", "eth0", "eth3", "lan"]);
    }

    #[tokio::test]
    async fn names_are_as_long_as_the_kernel_takes_them() {
        let folder = tempfile::tempdir().expect("folder");
        let links = Links::pretend(folder.path().join("links")).expect("links");
        let link = links.name(&interface(None), "eth0".into()).await.expect("names");
        assert_eq!((&*link.host, link.peer().len(), link.shaper().len()), ("vnet0", 14, 14));
        assert!(link.is_possible());
        let spec = spec::spec(&interface(None), None);
        links.make(&link, &spec, Uuid::nil(), None).await.expect("made");
        assert!(links.make(&link, &spec, Uuid::nil(), None).await.expect_err("taken").is_taken());
        assert_eq!(links.remove(&[link]).await, Vec::<String>::new());
    }
}
