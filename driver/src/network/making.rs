//! A network's things on the host: made in order, taken away in any state of them.
//!
//! Does not know who asks, or what is written down.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_domain::network::{ForwardMode, Network, PortForward, Service};
use serde_json::Value;
use uuid::Uuid;

use super::bridge::{Netlink, Wanted};
use super::rules::Resolved;
use super::{Port, choose, conntrack, dnsmasq, guard, nft, rules, server, sysctl};
use crate::engine::publish::blocking;
use crate::files;
use crate::host::links::{self, bandwidth::Bucket};
use crate::host::process::Process;
use crate::killpoint;

/// Where one network's files are.
#[derive(Debug, Clone)]
pub struct Files {
    /// Configuration of dnsmasq.
    pub config: PathBuf,
    /// Its number.
    pub pid: PathBuf,
    /// Folder of what it reads as another user.
    pub open: PathBuf,
    /// What guests were given.
    pub leases: PathBuf,
}

impl Files {
    fn hosts(&self) -> PathBuf {
        self.open.join("hosts")
    }

    fn names(&self) -> PathBuf {
        self.open.join("names")
    }
}

/// Everything that a network's things depend on.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its document.
    pub network: Network,
    /// Its bridge.
    pub bridge: String,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Addresses that were chosen for guests.
    pub fixed: BTreeMap<String, Ipv4Addr>,
    /// What the host answers at the addresses of all networks that run.
    pub services: Vec<Service>,
    /// Its files.
    pub files: Files,
    /// Its rules as they were made last.
    pub made: Made,
}

/// The rules of one network as they were made last.
#[derive(Debug, Clone, Default)]
pub struct Made(Arc<Mutex<MadeRules>>);

#[derive(Debug, Default)]
struct MadeRules {
    /// As nft lists them, right after they were made; none if they could not be, or there are none.
    listed: Option<Value>,
    /// Forwarded ports that led to guests by them.
    forwards: Vec<Resolved>,
    /// Likewise those about what guests ask by DHCP.
    guard: Guard,
    /// Whether it was told that there are none of those.
    told: bool,
}

/// The rules about what guests ask by DHCP.
#[derive(Debug, Clone, Default, PartialEq)]
enum Guard {
    /// There are none, or none are to be looked for.
    #[default]
    None,
    /// They are about to be made.
    Due,
    /// They were made, with so many.
    New(usize),
    /// As nft lists them.
    Listed(Value),
}

impl Made {
    fn rules(&self) -> MutexGuard<'_, MadeRules> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self) -> Option<Value> {
        self.rules().listed.clone()
    }

    /// Those about what guests ask by DHCP are about to be made: whoever looks at them now sees the former ones.
    pub fn expect_guard(&self) {
        self.rules().guard = Guard::Due;
    }

    fn set(&self, rules: Option<Value>) {
        self.rules().listed = rules;
    }

    /// What was connected by forwarded ports that are no more goes on in the kernel, and what came before new ones goes
    /// elsewhere, until it is told to forget that.
    pub async fn settle(&self, network: &str, forwards: &[Resolved]) {
        let before = std::mem::replace(&mut self.rules().forwards, forwards.to_vec());
        let without = |all: &[Resolved], others: &[Resolved]| -> Vec<Resolved> {
            all.iter().filter(|r| !others.contains(r)).cloned().collect()
        };
        let (gone, new) = (without(&before, forwards), without(forwards, &before));
        if let Err(e) = conntrack::settle(&gone, &new).await {
            tracing::warn!("network '{network}': {e}");
        }
    }
}

async fn block<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    blocking(move || Ok(work())).await.map_err(|e| e.to_string())?
}

/// Whether the host can run this network at all; asked before anything is made.
pub async fn check(network: &Network, bridge: &str) -> Result<(), String> {
    let name = &network.name;
    if rules::needed(network, !network.forwards().is_empty()) && !nft::is_here() {
        return Err(format!(
            "network '{name}' needs the program 'nft', which is not installed (package nftables)"
        ));
    }
    if dnsmasq::needed(network) && !server::is_here() {
        return Err(format!(
            "network '{name}' needs the program 'dnsmasq', which is not installed (package dnsmasq-base)"
        ));
    }
    if choose::is_template(bridge) {
        return Err(format!(
            "'{bridge}' of network '{name}' is no name of a bridge yet: one is chosen when it is defined again"
        ));
    }
    let netlink = Netlink::open()?;
    if netlink.link(bridge).await?.is_some() {
        return Err(format!("the name '{bridge}' is taken by an interface that is not of network '{name}'"));
    }
    let routes = netlink.routes().await?;
    if let Some((address, prefix, route)) = choose::collision(network, &routes, None) {
        let links = netlink.links().await?;
        let by = links.iter().find(|l| l.index == route.interface).map_or("the host", |l| l.name.as_str());
        return Err(format!(
            "the addresses '{address}/{prefix}' of network '{name}' are already in use by '{by}'"
        ));
    }
    if forwards_v6(network, &network.forwards()) { check_forwarding_v6().await } else { Ok(()) }
}

/// Whether the host can begin to forward IPv6 without losing anything.
pub async fn check_forwarding_v6() -> Result<(), String> {
    let netlink = Netlink::open()?;
    for route in netlink.routes().await?.iter().filter(|r| r.from_router && r.address.is_ipv6()) {
        let links = netlink.links().await?;
        let Some(link) = links.into_iter().find(|l| l.index == route.interface) else { continue };
        let of = link.name.clone();
        let value =
            block(move || Ok(sysctl::of_interface("ipv6", &of, "accept_ra").unwrap_or_default())).await?;
        if value != "2" && value != "0" {
            return Err(format!(
                "forwarding IPv6 would make the host lose the routes that a router told to '{}': \
                 set net.ipv6.conf.{}.accept_ra to 2 first",
                link.name, link.name
            ));
        }
    }
    Ok(())
}

fn lets_through(network: &Network) -> bool {
    network.forward.as_ref().is_some_and(|f| f.mode.has_own_bridge())
}

fn forwards_v6(network: &Network, forwards: &[PortForward]) -> bool {
    let routed = lets_through(network) && network.ips.iter().any(|ip| ip.address.is_ipv6());
    routed || forwards.iter().any(PortForward::is_ipv6)
}

impl Plan {
    fn wanted(&self) -> Wanted {
        let bridge = self.network.bridge.clone().unwrap_or_default();
        Wanted {
            name: self.bridge.clone(),
            mac: self.network.mac.as_deref().map(links::spec::mac),
            mtu: self.network.mtu,
            stp: bridge.stp.unwrap_or(true),
            delay: bridge.delay.unwrap_or(0),
            addresses: self.network.ips.iter().map(|ip| (ip.address, ip.prefix_length())).collect(),
            routes: self
                .network
                .routes
                .iter()
                .map(|r| (r.address, r.prefix_length(), r.gateway, r.metric))
                .collect(),
        }
    }

    /// Ports of the host that lead to guests, those of the guests' documents included.
    pub fn forwards(&self) -> Vec<PortForward> {
        let own = self.network.forwards().into_iter();
        own.chain(self.ports.iter().flat_map(Port::forwards)).collect()
    }

    /// Forwarded ports whose guest has an address.
    pub fn resolved(&self) -> Vec<Resolved> {
        let of_port = |port: &Port, forward: &PortForward| {
            let address = match forward.is_ipv6() {
                true => port.address6.map(IpAddr::V6),
                false => port.address.or_else(|| self.fixed.get(&port.mac).copied()).map(IpAddr::V4),
            };
            // What a document says of its interface may be a machine that is not here.
            address.filter(|a| self.network.no_guest(*a).is_none())
        };
        let address = |forward: &PortForward| {
            let named = || of_port(self.ports.iter().find(|p| p.name == forward.guest)?, forward);
            forward.address().or_else(named)
        };
        let own = self.network.forwards().into_iter().map(|f| (address(&f), f));
        let of_guests = self.ports.iter().flat_map(|p| p.forwards().map(move |f| (of_port(p, &f), f)));
        let all = own.chain(of_guests);
        all.filter_map(|(address, forward)| Some(Resolved { forward, address: address? })).collect()
    }

    /// Makes everything that is not there; the dnsmasq if there is one.
    pub async fn make(&self) -> Result<Option<Arc<Process>>, String> {
        self.made.rules().guard = Guard::None;
        let netlink = Netlink::open()?;
        let wanted = self.wanted();
        let index = match netlink.link(&self.bridge).await? {
            Some(link) if link.kind == "bridge" => link.index,
            Some(_) => return Err(format!("'{}' is an interface, but no bridge", self.bridge)),
            None => netlink.make(&wanted).await?,
        };
        killpoint::reached("network-bridge");
        self.switches().await?;
        netlink.set_up(index, &wanted).await?;
        self.limit().await?;
        self.apply_rules().await?;
        killpoint::reached("network-rules");
        self.serve(None).await
    }

    /// Limits of the network as a whole.
    async fn limit(&self) -> Result<(), String> {
        let bucket = |rate: Option<&berth_domain::model::Rate>| rate.and_then(Bucket::of);
        let bandwidth = self.network.bandwidth.as_ref();
        let inbound = bucket(bandwidth.and_then(|b| b.inbound.as_ref()));
        let outbound = bucket(bandwidth.and_then(|b| b.outbound.as_ref()));
        let shaper = shaper(self.network.uuid);
        let done = links::limit_bridge(&self.bridge, &shaper, (inbound.as_ref(), outbound.as_ref())).await;
        done.map_err(|e| e.to_string())
    }

    /// Switches of the kernel, which depend on whether ports are forwarded.
    pub async fn switches(&self) -> Result<(), String> {
        let (network, bridge, forwards) = (self.network.clone(), self.bridge.clone(), self.forwards());
        block(move || {
            let v6 = network.ips.iter().any(|ip| ip.address.is_ipv6());
            if sysctl::has_ipv6() {
                let off = !v6 && network.ipv6 != Some(true);
                // A bridge whose packets are too small for IPv6 has none.
                let none = sysctl::of_interface("ipv6", &bridge, "disable_ipv6")
                    .is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
                if !(off && none) {
                    sysctl::set(&format!("ipv6/conf/{bridge}/disable_ipv6"), if off { "1" } else { "0" })?;
                    sysctl::set(&format!("ipv6/conf/{bridge}/accept_ra"), "0")?;
                    sysctl::set(&format!("ipv6/conf/{bridge}/autoconf"), "0")?;
                }
            }
            let mut turned_on = Vec::new();
            let forwards_v4 = lets_through(&network) || forwards.iter().any(|f| !f.is_ipv6());
            if forwards_v4 && sysctl::set("ipv4/ip_forward", "1")? {
                turned_on.push("net.ipv4.ip_forward");
            }
            if forwards_v6(&network, &forwards)
                && sysctl::has_ipv6()
                && sysctl::set("ipv6/conf/all/forwarding", "1")?
            {
                turned_on.push("net.ipv6.conf.all.forwarding");
            }
            for switch in turned_on {
                tracing::info!("network '{}': set {switch} to 1; it stays so", network.name);
            }
            Ok(())
        })
        .await
    }

    /// Replaces the rules. Packets for the host's loopback addresses are let in by the kernel only while the rules that
    /// drop those of the guests are there: they come first and go last.
    pub async fn apply_rules(&self) -> Result<(), String> {
        let resolved = self.resolved();
        let loopback = rules::from_loopback(resolved.iter().map(|r| &r.forward));
        if !loopback {
            self.let_loopback_in(false).await?;
            killpoint::reached("network-closed");
        }
        if let Err(e) = self.replace_rules(&resolved).await {
            // Those that are there may be of a network without such ports, or gone.
            return Err(match self.let_loopback_in(false).await {
                Ok(()) => e,
                Err(and) => format!("{e}; {and}"),
            });
        }
        if loopback {
            killpoint::reached("network-guarded");
            self.let_loopback_in(true).await?;
        }
        // Those that were there before a port of the host led to them.
        if resolved.is_empty() || self.ports.is_empty() || !sysctl::bridges_filter() {
            return Ok(());
        }
        let named = !self.network.forwards().is_empty();
        let guests = self.ports.iter().filter(|p| named || !p.doors.is_empty()).map(|p| p.mac.clone());
        let guests: Vec<String> = guests.collect();
        if let Err(e) = links::reflect(&self.bridge, &guests).await {
            // One may just go away.
            tracing::warn!("network '{}': {e}", self.network.name);
        }
        Ok(())
    }

    async fn replace_rules(&self, resolved: &[Resolved]) -> Result<(), String> {
        self.made.set(None);
        if !self.has_rules() {
            // Those of the last forwarded port may be there.
            if nft::is_here() {
                nft::apply(&rules::removal(&self.bridge)).await?;
            }
            self.made.settle(self.network.name.as_str(), resolved).await;
            return Ok(());
        }
        let guests = self.ports.iter().map(|p| p.mac.clone()).collect();
        let isolated = Some(&guests).filter(|_| self.isolates());
        let wanted = rules::ruleset(&self.network, &self.bridge, resolved, isolated, &self.services);
        nft::apply(&wanted).await?;
        self.made.settle(self.network.name.as_str(), resolved).await;
        let name = rules::table(&self.bridge);
        let made = nft::table(rules::FAMILY, &name)
            .await?
            .filter(|made| rules::count(made) == rules::count(&wanted));
        if made.is_none() {
            return Err(format!("somebody else changes the rules (table 'inet {name}') while they are made"));
        }
        self.made.set(made);
        Ok(())
    }

    fn has_rules(&self) -> bool {
        rules::needed(&self.network, !self.forwards().is_empty())
    }

    /// Whether guests may have to be kept from each other.
    pub fn isolates(&self) -> bool {
        let groups = self.network.portgroups.iter().map(|g| g.isolated);
        let ports = self.ports.iter().map(|p| p.isolated);
        groups.chain(ports).chain([self.network.isolated]).any(|isolated| isolated == Some(true))
    }

    /// Whether the rules are there as they were made. Those that are not, guard nothing: the host's loopback address is
    /// closed then.
    pub async fn check_rules(&self) -> Result<bool, String> {
        let guarded = self.is_guarded().await;
        if !self.has_rules() {
            return guarded;
        }
        let made = self.made.get();
        let there = nft::table(rules::FAMILY, &rules::table(&self.bridge)).await;
        if made.is_some() && there.as_ref().is_ok_and(|there| *there == made) {
            return guarded;
        }
        self.let_loopback_in(false).await?;
        there.map(|_| false)
    }

    /// Replaces the rules about what guests ask by DHCP. Without them the network goes on as it is: one guest can ask in the
    /// name of another.
    pub async fn guard(&self) {
        let dhcp = self.network.ips.iter().any(|ip| ip.address.is_ipv4() && ip.dhcp.is_some());
        if !dhcp {
            self.made.rules().guard = Guard::None;
            return;
        }
        let wanted = guard::ruleset(&self.bridge, &self.ports);
        let count = wanted.as_ref().map(rules::count);
        let none = || serde_json::json!({ "nftables": guard::removal(&self.bridge) });
        let done = nft::apply(&wanted.unwrap_or_else(none)).await;
        let mut made = self.made.rules();
        made.guard = count.filter(|_| done.is_ok()).map_or(Guard::None, Guard::New);
        if let (Err(e), Some(_), false) = (done, count, made.told) {
            tracing::warn!(
                "guests of network '{}' are not kept from asking for addresses in each other's names: {e}",
                self.network.name
            );
            made.told = true;
        }
    }

    /// Whether those rules are there as they were made; the first look at them is the one that later ones are held against.
    async fn is_guarded(&self) -> Result<bool, String> {
        let before = self.made.rules().guard.clone();
        if matches!(before, Guard::None | Guard::Due) {
            return Ok(true);
        }
        let there = nft::table(guard::FAMILY, &rules::table(&self.bridge)).await?;
        Ok(match (before, there) {
            (Guard::New(count), Some(there)) if rules::count(&there) == count => {
                self.made.rules().guard = Guard::Listed(there);
                true
            }
            (Guard::Listed(made), Some(there)) => made == there,
            _ => false,
        })
    }

    async fn let_loopback_in(&self, on: bool) -> Result<(), String> {
        let bridge = self.bridge.clone();
        block(move || let_loopback_in(&bridge, on)).await
    }

    /// Has ports of the host lead to guests, as they are now.
    pub async fn open_doors(&self) -> Result<(), String> {
        self.switches().await?;
        self.apply_rules().await
    }

    /// Writes what dnsmasq reads; tells whether its configuration is another one than before.
    pub async fn write_files(&self) -> Result<bool, String> {
        let plan = self.clone();
        block(move || {
            let (user, group) = server::user();
            let (hosts, names) = (plan.files.hosts(), plan.files.names());
            let places = dnsmasq::Places {
                pid: &plan.files.pid,
                leases: &plan.files.leases,
                hosts: &hosts,
                names: &names,
                user: &user,
                group: &group,
            };
            let config = dnsmasq::config(&plan.network, &plan.bridge, &places);
            make_open(&plan.files.open)
                .map_err(|e| format!("cannot make '{}': {e}", plan.files.open.display()))?;
            let put = |path: &PathBuf, text: &str, mode| {
                files::overwrite(path, text)
                    .and_then(|()| set_mode(path, mode))
                    .map_err(|e| format!("cannot write '{}': {e}", path.display()))
            };
            put(&hosts, &dnsmasq::hosts(&plan.network, &plan.ports, &plan.fixed), 0o644)?;
            put(&names, &dnsmasq::addresses(&plan.network, &plan.ports), 0o644)?;
            let before = files::read_text(&plan.files.config).unwrap_or_default();
            put(&plan.files.config, &config, 0o600)?;
            check_open(&plan.files.open, &user)?;
            Ok(before != config)
        })
        .await
    }

    /// The dnsmasq of this network, started if there is none. `known` is the one that is held already, if any: it is not
    /// looked for among all processes.
    pub async fn serve(&self, known: Option<Arc<Process>>) -> Result<Option<Arc<Process>>, String> {
        if !dnsmasq::needed(&self.network) {
            return Ok(None);
        }
        let changed = self.write_files().await?;
        let there = match known {
            Some(process) => Some(process),
            None => find(&self.files.config).await?.map(Arc::new),
        };
        match there {
            Some(process) if !changed => {
                server::reload(&process).map_err(|e| format!("cannot have dnsmasq read its files: {e}"))?;
                Ok(Some(process))
            }
            there => {
                if let Some(process) = there {
                    server::stop(&process).await.map_err(|e| format!("cannot end the old dnsmasq: {e}"))?;
                }
                let process = server::start(&self.files.config).await?;
                killpoint::reached("network-server");
                Ok(Some(Arc::new(process)))
            }
        }
    }
}

async fn find(config: &Path) -> Result<Option<Process>, String> {
    let config = config.to_owned();
    block(move || server::find(&config).map_err(|e| format!("cannot look for dnsmasq: {e}"))).await
}

fn make_open(folder: &Path) -> io::Result<()> {
    for folder in folder.parent().into_iter().chain([folder]) {
        match std::fs::create_dir(folder) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => set_mode(folder, 0o755)?,
        }
    }
    Ok(())
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
}

/// dnsmasq reads its hosts as a user who is nobody: every folder on the way must let it through.
fn check_open(folder: &Path, user: &str) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt;
    let closed = folder.ancestors().find(|f| f.metadata().is_ok_and(|m| m.mode() & 0o001 == 0));
    match closed {
        Some(closed) => {
            Err(format!("'{}' is closed to the user '{user}', as whom dnsmasq runs", closed.display()))
        }
        None => Ok(()),
    }
}

/// The device that what comes from a network goes through if it is limited.
fn shaper(uuid: Uuid) -> String {
    uuid.simple().to_string().chars().take(12).fold("bn".to_owned(), |name, c| name + &c.to_string())
}

/// Whether packets for the host's loopback addresses are let in from a bridge. From one that is gone none come.
fn let_loopback_in(bridge: &str, on: bool) -> Result<(), String> {
    match sysctl::of_interface("ipv4", bridge, "route_localnet") {
        Err(e) if e.kind() == io::ErrorKind::NotFound && !on => Ok(()),
        _ => sysctl::set(&format!("ipv4/conf/{bridge}/route_localnet"), if on { "1" } else { "0" }).map(drop),
    }
}

/// Takes away whatever is there, and goes on after errors, which it lists.
/// `rules` tells whether there may be rules, `guests` the hardware addresses of those that have ports.
pub async fn unmake(bridge: &str, uuid: Uuid, files: &Files, rules: bool, guests: &[String]) -> Vec<String> {
    let mut errors = Vec::new();
    // One that is just starting is two processes.
    for _ in 0..5 {
        match find(&files.config).await {
            Ok(Some(process)) => {
                errors.extend(server::stop(&process).await.err().map(|e| format!("cannot end dnsmasq: {e}")));
            }
            Ok(None) => break,
            Err(e) => errors.push(e),
        }
    }
    killpoint::reached("network-stopping");
    let removed = remove_bridge(bridge, guests).await;
    // Those that were being set up meanwhile.
    errors.extend(links::cut_off(bridge, guests).await.err().map(|e| e.to_string()));
    // Guests are held back by the rules as long as their bridge is there.
    match removed {
        Err(e) => errors.push(e),
        Ok(()) if nft::is_here() => errors.extend(remove_rules(bridge).await.err()),
        Ok(()) if rules => errors.push(format!(
            "the rules of bridge '{bridge}' (table 'inet {}') cannot be removed without the program 'nft', \
             which is not installed (package nftables)",
            rules::table(bridge)
        )),
        Ok(()) => {}
    }
    errors.extend(links::remove_shaper(&shaper(uuid)).await.err().map(|e| e.to_string()));
    for path in [&files.config, &files.pid, &files.hosts(), &files.names()] {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                errors.push(format!("cannot remove '{}': {e}", path.display()));
            }
            _ => {}
        }
    }
    // Not empty, or not there: nothing of ours is in it.
    let _ = std::fs::remove_dir(&files.open);
    errors
}

/// Takes the rules of both families away; a kernel that has no rules for bridges has none of ours there.
async fn remove_rules(bridge: &str) -> Result<(), String> {
    let mut all = rules::removal(bridge);
    if let Some(commands) = all.get_mut("nftables").and_then(Value::as_array_mut) {
        commands.extend(guard::removal(bridge));
    }
    match nft::apply(&all).await {
        Err(_) => nft::apply(&rules::removal(bridge)).await,
        done => done,
    }
}

/// Removes a bridge whose guests are cut off first: without it they would be at interfaces of the host.
async fn remove_bridge(bridge: &str, guests: &[String]) -> Result<(), String> {
    links::cut_off(bridge, guests).await.map_err(|e| e.to_string())?;
    Netlink::open()?.remove(bridge).await
}

/// A bridge for a network whose document names none, or gives a template for the name.
pub async fn free_bridge(
    template: Option<&str>,
    mut taken: std::collections::BTreeSet<String>,
) -> Result<String, String> {
    let netlink = Netlink::open()?;
    taken.extend(netlink.links().await?.into_iter().map(|l| l.name));
    choose::bridge_name(template, &taken).ok_or_else(|| match template {
        Some(template) => format!("there is no free name '{template}' for a bridge"),
        None => "there is no free name for a bridge".into(),
    })
}

/// Whether ports of a network are made on interfaces of the host.
pub fn is_direct(network: &Network) -> bool {
    let mode = network.forward.as_ref().map(|f| f.mode);
    matches!(mode, Some(ForwardMode::Private | ForwardMode::Vepa | ForwardMode::Passthrough))
        || (mode == Some(ForwardMode::Bridge) && network.bridge.as_ref().is_none_or(|b| b.name.is_none()))
}

/// Names of the files of a network.
pub fn files_of(run: &Path, open: &Path, leases: &Path, uuid: Uuid) -> Files {
    Files {
        config: run.join(format!("{uuid}.conf")),
        pid: run.join(format!("{uuid}.pid")),
        open: open.join(uuid.to_string()),
        leases: leases.join(format!("{uuid}.leases")),
    }
}
