//! The ports of a network: who has one, what it is connected to, and which ports of the host lead to it.
//!
//! Does not know how anything is made on the host, nor when a network starts or ends.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use berth_domain::model::DirectMode;
use berth_domain::network::model::Portgroup;
use berth_domain::network::{Change, ForwardMode, Network, Part, PortForward, Service};

use super::{Answer, Task};
use crate::engine::publish::blocking;
use crate::files;
use crate::host::listening;
use crate::network::bridge::Netlink;
use crate::network::leases::{self, Lease};
use crate::network::lifecycle::Ask;
use crate::network::making;
use crate::network::occupied::{self, Others};
use crate::network::record::Taken;
use crate::network::{
    BridgePort, Claim, Connection, NetworkError, PartChange, Port, Snapshot, choose, dnsmasq, nft,
    read_leases, server, sysctl,
};

impl Task {
    pub(super) async fn plug(
        &mut self,
        portgroup: Option<&str>,
        port: Port,
        claim: Claim,
    ) -> Result<Answer, NetworkError> {
        if claim == Claim::New
            && self.live.is_none()
            && let Some(next) = self.next.clone().filter(|n| n.starts_on_demand())
        {
            self.start((*next).clone()).await?;
        }
        self.decide(Ask::Plug)?;
        let Some(live) = self.live.clone() else {
            return Err(NetworkError::NotFound(self.entry.name.to_string()));
        };
        let there = self.ports.iter().position(|t| t.port.domain == port.domain && t.port.mac == port.mac);
        let (connection, dev) = self.connection(&live, portgroup, &port, there.map(|at| &self.ports[at]))?;
        let group = group_of(&live, portgroup).map(|g| g.name.clone());
        match there {
            None => {
                self.check_doors(&live, &port).await?;
                let back = self.check_addresses(&live, &port, claim).await?;
                self.choose_address(&live, &port).await?;
                // A guest that is no more may have had one of them.
                let here = |mac: &str| self.ports.iter().any(|t| t.port.mac == mac) || port.mac == mac;
                self.fixed.retain(|mac, a| here(mac) || !port.addresses().any(|own| own == IpAddr::V4(*a)));
                for address in back {
                    self.take_back(address, &format!("domain '{}' has it by its document", port.name))
                        .await?;
                }
                if claim == Claim::New {
                    self.take_given_up(&live, Some(&port), &[]).await?;
                }
                self.ports.push(Taken { port, dev, portgroup: group });
                self.note().await;
                self.publish();
                self.tell_names(false).await;
                self.guard_soon();
            }
            Some(at) => {
                let taken = &mut self.ports[at];
                let isolated = taken.port.isolated != port.isolated;
                let moved = taken.port.end != port.end;
                let other = isolated || moved || taken.portgroup != group;
                (taken.port.isolated, taken.port.end, taken.portgroup) = (port.isolated, port.end, group);
                if other {
                    self.note().await;
                }
                if isolated {
                    self.tell_names(true).await;
                }
                if moved {
                    self.guard_soon();
                }
            }
        }
        Ok(Answer::Connection(connection))
    }

    pub(super) async fn unplug(&mut self, port: &Port) -> Result<Answer, NetworkError> {
        let is_it = |t: &mut Taken| t.port.domain == port.domain && t.port.mac == port.mac;
        let gone: Vec<Taken> = self.ports.extract_if(.., is_it).collect();
        if let Some(live) = self.live.clone().filter(|_| !gone.is_empty()) {
            // Guests may wait for what this one had.
            if let Err(e) = self.take_given_up(&live, None, &gone).await {
                tracing::error!("{e}");
            }
            self.note().await;
            self.publish();
            let had_rules = |t: &Taken| !t.port.doors.is_empty() || t.port.isolated == Some(true);
            self.tell_names(gone.iter().any(had_rules)).await;
            self.guard_soon();
        }
        Ok(Answer::Done)
    }

    /// Whether the ports of the host that are to lead to a guest can, and lead nowhere yet.
    async fn check_doors(&self, live: &Network, port: &Port) -> Result<(), NetworkError> {
        let name = &self.entry.name;
        let refuse = |why: String| Err(NetworkError::Failed(why));
        if port.doors.is_empty() {
            return Ok(());
        }
        let wanted: Vec<PortForward> = port.forwards().collect();
        for forward in &wanted {
            let (port_of_host, v6) = (forward.host_ports(), forward.is_ipv6());
            let family = if v6 { "IPv6" } else { "IPv4" };
            if !live.has_own_bridge() || !live.ips.iter().any(|ip| ip.address.is_ipv6() == v6) {
                return refuse(format!(
                    "port {port_of_host} cannot be forwarded: network '{name}' has no bridge with an {family} address \
                     of its own"
                ));
            }
            if v6 && port.address6.is_none() {
                return refuse(format!(
                    "port {port_of_host} cannot be forwarded: the interface has no <ip family='ipv6'>"
                ));
            }
            let address = if v6 { port.address6.map(IpAddr::V6) } else { port.address.map(IpAddr::V4) };
            if let Some(why) = address.and_then(|address| live.no_guest(address)) {
                return refuse(format!(
                    "port {port_of_host} cannot be forwarded to a guest of network '{name}': {why}"
                ));
            }
        }
        if wanted.iter().any(PortForward::is_ipv6) {
            making::check_forwarding_v6().await.map_err(NetworkError::Failed)?;
        }
        if !nft::is_here() {
            return refuse(
                "forwarded ports need the program 'nft', which is not installed (package nftables)".into(),
            );
        }
        let own: Vec<PortForward> = live.forwards();
        match wanted.iter().find_map(|f| Some((f, own.iter().find(|other| other.meets(f))?))) {
            Some((forward, other)) => refuse(taken(forward, other)),
            None => self.check_forwards(live, wanted).await,
        }
    }

    /// Whether the addresses that a guest has by its document are nobody else's; those that are to be taken back from who
    /// does not use them. A guest that runs already has them, whoever else may.
    async fn check_addresses(
        &self,
        live: &Network,
        port: &Port,
        claim: Claim,
    ) -> Result<Vec<IpAddr>, NetworkError> {
        if port.addresses().next().is_none() {
            return Ok(Vec::new());
        }
        let leases = read_leases(&self.shared, self.entry.uuid).await;
        let ports: Vec<&Port> = self.ports.iter().map(|t| &t.port).collect();
        let others = Others { ports: &ports, fixed: &self.fixed, leases: &leases, now: now() };
        let name = &self.entry.name;
        match (occupied::check(live, port, others), claim) {
            (Ok(back), Claim::New) => Ok(back),
            (Ok(_), Claim::Again) => Ok(Vec::new()),
            (Err(why), Claim::New) => {
                Err(NetworkError::Failed(format!("a guest of network '{name}' cannot have its <ip>: {why}")))
            }
            (Err(why), Claim::Again) => {
                tracing::warn!(
                    "network '{name}' has domain '{}' with an <ip> that it cannot have: {why}",
                    port.name
                );
                Ok(Vec::new())
            }
        }
    }

    /// What is known of the other networks.
    pub(super) fn others(&self) -> Vec<Arc<Snapshot>> {
        self.shared.registry.all().into_iter().filter(|s| s.uuid != self.entry.uuid).collect()
    }

    /// Whether nobody forwards what the host is to answer at the addresses of a network.
    pub(super) fn check_services(&self, network: &Network) -> Result<(), NetworkError> {
        let services = network.services();
        let forwards: Vec<PortForward> = self.others().iter().flat_map(|s| s.forwards()).collect();
        let meant = |s: &&Service| forwards.iter().any(|f| s.is_meant(f));
        services.iter().find(meant).map_or(Ok(()), |service| {
            let (port, protocol, address) = (service.port, service.protocol, service.address);
            Err(NetworkError::Failed(format!(
                "network '{}' cannot answer at port {port}/{protocol} of {address}: it is forwarded to a guest of another network",
                self.entry.name
            )))
        })
    }

    /// Whether ports of the host lead nowhere yet, but by the document of this network itself, and no program of the host
    /// listens on them: what leads to somebody is not taken away from it. The servers of our networks are not in the way:
    /// they keep what they answer, unless somebody wants their very address.
    pub(super) async fn check_forwards(
        &self,
        network: &Network,
        wanted: Vec<PortForward>,
    ) -> Result<(), NetworkError> {
        let all = self.others();
        let others = all.iter().flat_map(|s| s.forwards());
        let there: Vec<PortForward> =
            others.chain(self.ports.iter().flat_map(|t| t.port.forwards().collect::<Vec<_>>())).collect();
        match wanted.iter().find_map(|f| Some((f, there.iter().find(|other| other.meets(f))?))) {
            Some((forward, other)) => return Err(NetworkError::Failed(taken(forward, other))),
            None if wanted.is_empty() => return Ok(()),
            None => {}
        }
        if let Some(service) = self.services(network).iter().find(|s| wanted.iter().any(|f| s.is_meant(f))) {
            let (port, protocol, address) = (service.port, service.protocol, service.address);
            return Err(NetworkError::Failed(format!(
                "port {port}/{protocol} of {address} cannot be forwarded: a network's own name server or DHCP is there"
            )));
        }
        let running = all.iter().filter(|s| s.active()).map(|s| s.uuid).chain([self.entry.uuid]);
        let files: Vec<_> = running.map(|uuid| self.shared.files(uuid)).collect();
        let looked = blocking(move || {
            let ours = files.iter().flat_map(|f| server::sockets(&f.config, &f.pid)).collect();
            Ok(listening::in_the_way(&wanted, &ours))
        });
        let looked = looked.await;
        match looked.unwrap_or_else(|e| Some(format!("cannot look who listens on ports of the host: {e}"))) {
            Some(why) => Err(NetworkError::Failed(why)),
            None => Ok(()),
        }
    }

    /// An interface of the host that ports are made on, or a class that ports are of, is not taken from what runs.
    pub(super) fn check_unused(&self, change: &PartChange) -> Result<(), NetworkError> {
        if change.change != Change::Delete {
            return Ok(());
        }
        let (what, ports, how) = match &change.part {
            Part::ForwardInterface(dev) => (format!("interface '{dev}'"), self.used(dev), "made on"),
            Part::Portgroup(group) => {
                let of = |t: &&Taken| t.portgroup.as_deref() == Some(&group.name);
                (format!("portgroup '{}'", group.name), self.ports.iter().filter(of).count(), "of")
            }
            _ => return Ok(()),
        };
        match ports {
            0 => Ok(()),
            _ => Err(NetworkError::InvalidState(format!(
                "{what} of network '{}' is in use: {ports} {} {how} it",
                self.entry.name,
                if ports == 1 { "port is" } else { "ports are" }
            ))),
        }
    }

    /// How many ports are made on an interface of the host.
    fn used(&self, dev: &str) -> usize {
        self.ports.iter().filter(|t| t.dev.as_deref() == Some(dev)).count()
    }

    /// A guest that ports are forwarded to keeps one address.
    async fn choose_address(&mut self, live: &Network, port: &Port) -> Result<(), NetworkError> {
        let named = live.forwards().iter().any(|f| f.guest == port.name);
        if let Some(why) = port.address.filter(|_| named).and_then(|a| live.no_guest(a.into())) {
            tracing::warn!("network '{}' forwards no port to '{}': {why}", self.entry.name, port.name);
        }
        let wanted = port.forwards().any(|f| !f.is_ipv6());
        if port.address.is_some() || (!named && !wanted) {
            return Ok(());
        }
        let leases = read_leases(&self.shared, self.entry.uuid).await;
        let guests: Vec<&Port> = self.ports.iter().map(|t| &t.port).collect();
        let why = match choose::guest_address(live, &port.mac, &self.fixed, &leases, &guests) {
            Some(address) => {
                let others = |l: &Lease| l.ip == IpAddr::V4(address) && l.mac.as_deref() != Some(&port.mac);
                if leases.iter().any(others) {
                    self.take_back(address.into(), "no other one is left").await?;
                }
                // A guest that is no more may have had it.
                self.fixed.retain(|_, a| *a != address);
                self.fixed.insert(port.mac.clone(), address);
                return Ok(());
            }
            None => format!("network '{}' has no address left to forward ports to", self.entry.name),
        };
        if !wanted {
            tracing::warn!("domain '{}': {why}", port.name);
            return Ok(());
        }
        Err(NetworkError::Failed(why))
    }

    /// Takes addresses back that somebody who is gone still has, where none is left for a `new` guest, or for those that
    /// have none yet. Who has just `gone` may still be heard.
    async fn take_given_up(
        &mut self,
        live: &Network,
        new: Option<&Port>,
        gone: &[Taken],
    ) -> Result<(), NetworkError> {
        for address in self.given_up(live, new, gone).await {
            self.take_back(address, "no other one is left, and who had it is not here").await?;
        }
        Ok(())
    }

    async fn given_up(&self, live: &Network, new: Option<&Port>, gone: &[Taken]) -> Vec<IpAddr> {
        if !live.has_own_bridge() || !live.ips.iter().any(|ip| ip.dhcp.is_some()) {
            return Vec::new();
        }
        let mut leases = read_leases(&self.shared, self.entry.uuid).await;
        let now = now();
        leases.retain(|l| l.expiry == 0 || l.expiry > now);
        let guests: Vec<&Port> = self.ports.iter().map(|t| &t.port).chain(new).collect();
        let definitions = self.shared.definitions.get();
        let is_defined = |mac: &str| definitions.is_some_and(|d| d.0(mac));
        let choose = |heard: &BTreeSet<String>| {
            choose::given_up(live, &guests, &self.fixed, &leases, heard, is_defined)
        };
        // Mostly there is one left.
        if choose(&BTreeSet::new()).is_empty() {
            return Vec::new();
        }
        match self.heard(live).await {
            Ok(mut heard) => {
                heard.retain(|mac| !gone.iter().any(|t| t.port.mac == *mac));
                choose(&heard)
            }
            Err(e) => {
                tracing::warn!("network '{}' takes no address back: {e}", self.entry.name);
                Vec::new()
            }
        }
    }

    /// Hardware addresses on the network's bridge.
    async fn heard(&self, live: &Network) -> Result<BTreeSet<String>, String> {
        let netlink = Netlink::open()?;
        let bridge = live.bridge.as_ref().and_then(|b| b.name.as_deref()).unwrap_or_default();
        let link = netlink.link(bridge).await?.ok_or_else(|| format!("there is no bridge '{bridge}'"))?;
        netlink.heard_by(link.index).await
    }

    /// dnsmasq gives nobody an address that it has given to another, and forgets no lease while it runs. It is started again
    /// when it is told of the guest.
    async fn take_back(&mut self, address: IpAddr, why: &str) -> Result<(), NetworkError> {
        let name = &self.entry.name;
        tracing::warn!("network '{name}': the address {address} is taken back: {why}");
        let failed = |e: io::Error| {
            NetworkError::Failed(format!("cannot take the address {address} of network '{name}' back: {e}"))
        };
        if let Some(process) = self.process.clone() {
            server::stop(&process).await.map_err(failed)?;
        }
        let path = self.shared.files(self.entry.uuid).leases;
        let written = blocking(move || {
            let text = files::read_text(&path)?;
            files::overwrite(&path, &leases::without(&text, address))
        });
        let written = written.await.map_err(failed);
        // Its end was expected.
        self.server += 1;
        self.process = None;
        if written.is_err() {
            self.start_server().await;
        }
        written
    }

    /// dnsmasq and the rules learn which guests there are. `other_rules`: they depend on one that has gone, or is another now.
    async fn tell_names(&mut self, other_rules: bool) {
        let Some(plan) = self.plan() else { return };
        if other_rules || plan.isolates() || !plan.forwards().is_empty() {
            self.make_rules().await;
        }
        if dnsmasq::needed(&plan.network) {
            match plan.serve(self.process.clone()).await {
                Ok(process) => self.watch(process),
                Err(e) => {
                    tracing::error!("network '{}': {e}", self.entry.name);
                    if self.process.is_none() {
                        self.start_server_later();
                    }
                }
            }
        }
    }

    /// What a port gets, and the interface of the host that it is made on.
    fn connection(
        &self,
        live: &Network,
        portgroup: Option<&str>,
        port: &Port,
        there: Option<&Taken>,
    ) -> Result<(Connection, Option<String>), NetworkError> {
        let name = &self.entry.name;
        let group = group_of(live, portgroup);
        if let (Some(wanted), None) = (portgroup, group) {
            return Err(NetworkError::Failed(format!("network '{name}' has no portgroup '{wanted}'")));
        }
        if making::is_direct(live) {
            let vlan = group.and_then(|g| g.vlan.as_ref()).or(live.vlan.as_ref());
            let isolated = group.and_then(|g| g.isolated).or(live.isolated);
            let virtualport = group.and_then(|g| g.virtualport.as_ref()).or(live.virtualport.as_ref());
            let bandwidth = group.and_then(|g| g.bandwidth.as_ref()).or(live.bandwidth.as_ref());
            let asked = [
                ("<vlan>", vlan.is_some()),
                ("<port isolated='yes'>", isolated == Some(true)),
                ("<virtualport>", virtualport.is_some()),
                ("<bandwidth>", bandwidth.is_some()),
                ("<mtu>", live.mtu.is_some()),
            ];
            if let Some((element, _)) = asked.into_iter().find(|(_, asked)| *asked) {
                return Err(NetworkError::Failed(format!(
                    "network '{name}' gives macvlans, which can have no {element}"
                )));
            }
            let dev = match there.and_then(|t| t.dev.clone()) {
                Some(dev) => dev,
                None => self.pick_device(live)?,
            };
            let mode = match live.forward.as_ref().map(|f| f.mode) {
                Some(ForwardMode::Private) => DirectMode::Private,
                Some(ForwardMode::Vepa) => DirectMode::Vepa,
                Some(ForwardMode::Passthrough) => DirectMode::Passthrough,
                _ => DirectMode::Bridge,
            };
            return Ok((Connection::Direct { dev: dev.clone(), mode }, Some(dev)));
        }
        if !live.has_own_bridge() && live.bandwidth.is_some() {
            return Err(NetworkError::Failed(format!(
                "network '{name}' has a <bandwidth>, and its bridge is the host's: give it to interfaces or portgroups"
            )));
        }
        let bridge = live.bridge.as_ref().and_then(|b| b.name.clone());
        let bridge = bridge.ok_or_else(|| NetworkError::Failed(format!("network '{name}' has no bridge")))?;
        let forwards = !live.forwards().is_empty() || !port.doors.is_empty();
        let port = BridgePort {
            bridge,
            mtu: live.mtu,
            isolated: group.and_then(|g| g.isolated).or(live.isolated),
            reflects: live.has_own_bridge() && forwards && sysctl::bridges_filter(),
            vlan: group.and_then(|g| g.vlan.clone()).or_else(|| live.vlan.clone()),
            bandwidth: group.and_then(|g| g.bandwidth.clone()),
            virtualport: group.and_then(|g| g.virtualport.clone()).or_else(|| live.virtualport.clone()),
        };
        Ok((Connection::Bridge(Box::new(port)), None))
    }

    /// The interface with the fewest ports; one that is handed over whole has no other.
    fn pick_device(&self, live: &Network) -> Result<String, NetworkError> {
        let Some(forward) = &live.forward else { return Err(NetworkError::Nobody) };
        let least = forward.interfaces.iter().min_by_key(|dev| self.used(dev));
        match least {
            Some(dev) if forward.mode != ForwardMode::Passthrough || self.used(dev) == 0 => Ok(dev.clone()),
            _ => Err(NetworkError::Failed(format!("network '{}' has no interface left", self.entry.name))),
        }
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(now).unwrap_or(i64::MAX)
}

/// The class of an interface: the one that it names, else the default.
fn group_of<'a>(live: &'a Network, portgroup: Option<&str>) -> Option<&'a Portgroup> {
    live.portgroups.iter().find(|g| portgroup.map_or(g.default == Some(true), |wanted| g.name == wanted))
}

fn taken(forward: &PortForward, other: &PortForward) -> String {
    format!("port {} is forwarded to '{}' already", forward.common_port(other), other.guest)
}
