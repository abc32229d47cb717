//! What an interface of the host was before a container got it: settings, switches, addresses and routes.
//!
//! The controller gives it back with its settings; addresses and routes are lost on the way, and so are the kernel's
//! switches for it. Of a controller that was killed the interface is fetched from the network namespace, as long as somebody
//! holds that. All of it is done by a thread that ends afterwards: it goes into other network namespaces. Does not know whose
//! the interface is meanwhile.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use berth_lent::addressing::{self, Told};
use berth_lent::netlink::Netlink;
use berth_lent::{Lent, new_namespace, own_namespace, within};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::network::sysctl;

/// How long the kernel may take to give an interface back from a namespace that nobody holds.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked for meanwhile.
const PAUSE: Duration = Duration::from_millis(50);

/// What is no switch: the mtu of IPv6, which the kernel makes that of the interface with each carrier, and a secret.
const NO_SWITCHES: [&str; 2] = ["mtu", SECRET];
/// What the kernel makes lasting addresses of. It is there before the mode that needs it, which it changes.
const SECRET: &str = "stable_secret";
const MODE: &str = "addr_gen_mode";

/// Network namespaces of a domain that its interfaces may be in.
#[derive(Debug, Default, Clone)]
pub struct Held {
    /// Its own.
    pub own: Option<Arc<OwnedFd>>,
    /// That by way of which its controller was giving them back.
    pub between: Option<Arc<OwnedFd>>,
}

/// What is shown to nobody.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// One that a container has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Borrowed {
    /// Its name on the host.
    pub name: String,
    /// Its name in the container, where the document gives it another.
    #[serde(default)]
    pub inside: Option<String>,
    /// What it was, as the kernel told it.
    link: String,
    /// Its addresses and routes, as the kernel told them.
    addressing: Vec<String>,
    /// Likewise routes of other interfaces that have one of its addresses as their source.
    #[serde(default)]
    sourced: Vec<String>,
    /// The secret of its IPv6 addresses.
    #[serde(default)]
    secret: Option<Secret>,
    /// Switches below `/proc/sys/net` that are not as for new interfaces: family, name and value.
    switches: BTreeMap<String, String>,
}

/// Qdiscs that the kernel gives an interface by itself, besides that which `net.core.default_qdisc` names.
const OWN_QDISCS: [&str; 5] = ["noqueue", "pfifo_fast", "fq_codel", "mq", "noop"];
/// Their places: behind no other, and where packets come in.
const AT_ROOT: u32 = 0xffff_ffff;
const COMING_IN: u32 = 0xffff_fff1;

/// What an interface has for its packets that it will not get back; none if that cannot be seen, as it is for information.
fn qdiscs_of(netlink: &Netlink, index: u32) -> Vec<String> {
    let default = std::fs::read_to_string("/proc/sys/net/core/default_qdisc").unwrap_or_default();
    let mut all = netlink.qdiscs(index).unwrap_or_default();
    all.retain(|(kind, place)| {
        let is_own = OWN_QDISCS.contains(&kind.as_str()) || kind == default.trim();
        (*place == AT_ROOT && !is_own) || *place == COMING_IN
    });
    all.into_iter().map(|(kind, _)| kind).collect()
}

impl Borrowed {
    /// What the host will miss on an interface that is lent, in a line; none if that is nothing.
    pub fn missed(name: &str) -> Option<String> {
        let netlink = Netlink::open().ok()?;
        let all = qdiscs_of(&netlink, netlink.index(name).ok()?);
        let what = format!("'{}'", all.join("' and '"));
        (!all.is_empty()).then(|| {
            format!(
                "the interface '{name}' will come back without its {what} (see tc qdisc), and their filters"
            )
        })
    }

    /// Remembers an interface of the host; none if there is no such.
    pub fn remember(name: &str) -> io::Result<Option<Self>> {
        let netlink = Netlink::open()?;
        let index = match netlink.index(name) {
            Err(Errno::NODEV) => return Ok(None),
            index => index?,
        };
        let addressing = addressing::of_interface(&netlink, index)?;
        let sourced = addressing::sourced(&netlink, index, &addressing)?;
        let kept = |all: &[Told]| all.iter().map(|told| STANDARD.encode(told.bytes())).collect();
        Ok(Some(Self {
            name: name.to_owned(),
            inside: None,
            link: STANDARD.encode(netlink.told_of(index)?),
            addressing: kept(&addressing),
            sourced: kept(&sourced),
            secret: sysctl::of_interface("ipv6", name, SECRET).ok().map(Secret),
            switches: switches_of(name),
        }))
    }

    /// Makes it what it was; answers what it is not, one line each. `held` are the network namespaces that it may be in, if
    /// they are still there.
    pub async fn give_back(self, held: Held) -> Vec<String> {
        let name = self.name.clone();
        let (tell, told) = tokio::sync::oneshot::channel();
        let work = move || {
            let lines = self.give_back_here(&held).unwrap_or_else(|e| {
                vec![format!("the interface '{}' cannot be made what it was: {e}", self.name)]
            });
            // Nobody waits any more.
            let _ = tell.send(lines);
        };
        let failed = |e: String| vec![format!("the interface '{name}' cannot be made what it was: {e}")];
        match std::thread::Builder::new().name("interface".into()).spawn(work) {
            Ok(_) => told.await.unwrap_or_else(|e| failed(e.to_string())),
            Err(e) => failed(e.to_string()),
        }
    }

    fn give_back_here(&self, held: &Held) -> Result<Vec<String>, Errno> {
        let Some(lent) = decode(&self.link).and_then(|told| Lent::read(&told)) else {
            return Err(Errno::INVAL);
        };
        let netlink = Netlink::open()?;
        let mut said = Vec::new();
        let mut home = lent.find_home(&netlink)?;
        if home.is_none() {
            said.extend(fetch(&lent, self.inside.as_deref().unwrap_or(&self.name), held)?);
            home = lent.find_home(&netlink)?;
        }
        let began = Instant::now();
        while home.is_none() && lent.is_real() && began.elapsed() < PATIENCE {
            std::thread::sleep(PAUSE);
            home = lent.find_home(&netlink)?;
        }
        let Some((index, mut name)) = home else {
            said.push(format!("the interface '{}' is gone with the container's network", self.name));
            return Ok(said);
        };
        if lent.is_real() && !lent.is_as_it_was(&netlink, index)? {
            let (now, lines) = lent.mend(&netlink, index);
            name = now;
            said.extend(lines);
        } else {
            lent.complete_names(&netlink, index);
        }
        let read =
            |all: &[String]| -> Vec<Told> { all.iter().filter_map(|t| Told::read(decode(t)?)).collect() };
        let told = read(&self.addressing);
        // One that is not set cannot be read.
        if let Some(Secret(secret)) = &self.secret
            && let Err(e) = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/{SECRET}"), secret)
        {
            said.push(format!("the interface '{name}' has not got its {SECRET} again: {e}"));
        }
        for (switch, value) in &self.switches {
            let Some((family, switch)) = switch.split_once('/') else { continue };
            said.extend(sysctl::set(&format!("{family}/conf/{name}/{switch}"), value).err());
        }
        said.extend(addressing::give(&netlink, (index, &name), &told, false));
        if lent.was_up() {
            if let Err(e) = netlink.set_up(index, true) {
                said.push(format!("the interface '{name}' is not up again: {e}"));
            }
            said.extend(addressing::give(&netlink, (index, &name), &told, true));
        }
        addressing::settle(&netlink, index, &told);
        said.extend(addressing::give_sourced(&netlink, &name, &read(&self.sourced)));
        Ok(said)
    }
}

/// Takes one back that is still in a network namespace whose controller is dead, or was on its way.
fn fetch(lent: &Lent, inside: &str, held: &Held) -> Result<Vec<String>, Errno> {
    let on_its_way = held.between.as_ref().map(AsFd::as_fd);
    let found = on_its_way.and_then(|between| Some((between, lent.find_between(between)?)));
    let of_its_name = |own: BorrowedFd<'_>| {
        let index = within(own, |_| Netlink::open()?.index(inside)).and_then(|index| index);
        index.ok().filter(|index| lent.is_at(own, *index) != Some(false))
    };
    let in_own = || {
        let own = held.own.as_ref()?.as_fd();
        Some((own, lent.find(own).or_else(|| of_its_name(own))?))
    };
    let Some((there, index)) = found.or_else(in_own) else { return Ok(Vec::new()) };
    let between = new_namespace().ok();
    lent.take_back(there, index, between.as_ref().map(AsFd::as_fd)).map(|returned| returned.said)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// The switches of an interface that are others than those of a new one.
fn switches_of(interface: &str) -> BTreeMap<String, String> {
    let has_secret = sysctl::of_interface("ipv6", interface, SECRET).is_ok();
    let mut switches = BTreeMap::new();
    for family in ["ipv4", "ipv6"] {
        let Ok(entries) = std::fs::read_dir(format!("/proc/sys/net/{family}/conf/{interface}")) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let value = |of| sysctl::of_interface(family, of, &name).ok();
            if let Some(own) = value(interface).filter(|_| !NO_SWITCHES.contains(&name.as_str()))
                && (value("default").is_some_and(|new| new != own) || (name == MODE && has_secret))
            {
                switches.insert(format!("{family}/{name}"), own);
            }
        }
    }
    switches
}

/// Whether the host has an interface of that name. If that cannot be told, it is for others to complain.
pub fn is_on_host(name: &str) -> bool {
    Netlink::open().and_then(|netlink| netlink.index(name)) != Err(Errno::NODEV)
}

/// Whether a network namespace is that of the daemon.
pub fn is_own(namespace: &OwnedFd) -> bool {
    let number = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|s| (s.st_dev, s.st_ino)).ok();
    own_namespace().is_ok_and(|own| number(&own) == number(namespace))
}
