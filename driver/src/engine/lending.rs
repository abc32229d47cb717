//! Interfaces of networks in namespaces that are not a domain's: a user's own containers, which nothing of ours has made.
//!
//! What is made is written down before, as for domains, and is gone when the namespace is. Does not know who may have how
//! many; that comes with the request.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use berth_domain::model::{Interface, InterfaceSource};
use berth_domain::{Device, ParsedDevice};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::container::links::{self, Owner, TRIES};
use crate::engine::Engine;
use crate::engine::publish::blocking;
use crate::files;
use crate::host::links::gone::Gone;
use crate::host::links::{Link, LinkError};
use crate::killpoint;
use crate::network::{NetworkError, NetworkRef, is_direct};

/// How often it is looked whether namespaces are gone, besides what the kernel tells.
const PAUSE: Duration = Duration::from_secs(30);

/// Name inside, where the caller has no wish.
const INSIDE: &str = "eth0";

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Borrower {
    /// The user.
    pub uid: u32,
    /// How many interfaces of the network they may have, and only in namespaces of their own; none is no limit.
    pub most: Option<usize>,
}

/// What is asked for.
#[derive(Debug)]
pub struct Wish {
    /// The network.
    pub network: NetworkRef,
    /// Where the interface goes.
    pub namespace: OwnedFd,
    /// Name inside.
    pub interface: Option<String>,
    /// Hardware address.
    pub mac: Option<String>,
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It is not the caller's to ask for.
    Denied,
    /// It has no meaning; the name of the parameter.
    Bad(&'static str),
    /// Something else.
    Failed(NetworkError),
}

impl From<NetworkError> for Refusal {
    fn from(error: NetworkError) -> Self {
        Self::Failed(error)
    }
}

impl From<LinkError> for Refusal {
    fn from(error: LinkError) -> Self {
        Self::Failed(NetworkError::Failed(error.to_string()))
    }
}

fn refuse(message: String) -> Refusal {
    Refusal::Failed(NetworkError::Failed(message))
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Refusal {
    Refusal::Failed(NetworkError::Failed(format!("cannot {what} '{}': {error}", path.display())))
}

/// An interface that somebody has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lent {
    /// Whose it is.
    pub uid: u32,
    /// What the port of the network belongs to, in the place of a domain.
    pub owner: Uuid,
    /// The network.
    pub network: String,
    /// What there is on the host.
    pub link: Link,
}

impl Lent {
    fn owner(&self) -> Owner<'_> {
        // No name: what a guest of somebody else's is called is not for us to say.
        Owner { name: "", uuid: self.owner, domain: None }
    }

    fn path(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.json", self.owner))
    }
}

/// All that are lent, by the name of the end on the host.
#[derive(Debug, Default)]
pub struct Lending(tokio::sync::Mutex<BTreeMap<String, Lent>>);

impl Engine {
    /// Makes an interface and moves it to where it is wished for.
    pub async fn add_interface(&self, borrower: Borrower, wish: Wish) -> Result<Lent, Refusal> {
        let Wish { network, namespace, interface, mac } = wish;
        let inside = interface.unwrap_or_else(|| INSIDE.to_owned());
        if !is_name(&inside) {
            let shown = inside.escape_debug();
            return Err(refuse(format!(
                "'{shown}' is not a name for an interface: 1 to 15 letters, digits, dots, '-' and '_', and not 'lo'"
            )));
        }
        let found = self.networks.find(&network)?;
        let network = found.name.to_string();
        let interface = interface_of(&network, mac.as_deref(), &self.host)?;
        if borrower.most == Some(0) {
            return Err(Refusal::Denied);
        }
        let restricted = borrower.most.is_some();
        let checked = blocking(move || Ok(check(&namespace, restricted, borrower.uid).map(|()| namespace)));
        let namespace = checked.await.map_err(|e| NetworkError::Failed(e.to_string()))??;
        // Nothing of a macvlan stays on the host: it could be neither counted, nor found again to be taken back.
        if found.current().is_some_and(|network| is_direct(network)) {
            return Err(refuse(format!(
                "network '{network}' gives macvlans, of which nothing stays on the host to count and to remove them by: \
                 net-plug needs a network with a bridge"
            )));
        }
        let mut all = self.lending.0.lock().await;
        self.take_back(&mut all).await;
        let has = all.values().filter(|l| l.uid == borrower.uid && l.network == network).count();
        if borrower.most.is_some_and(|most| has >= most) {
            let message = format!("you have {has} interfaces of network '{network}', as many as you may");
            return Err(Refusal::Failed(NetworkError::Failed(message)));
        }
        let link = self.links.name(&interface, inside).await?;
        let mut lent = Lent { uid: borrower.uid, owner: Uuid::new_v4(), network, link };
        match self.lend(&interface, &mut lent, &namespace).await {
            Ok(()) => {
                all.insert(lent.link.host.clone(), lent.clone());
                Ok(lent)
            }
            Err(refusal) => {
                self.release(&lent).await;
                Err(refusal)
            }
        }
    }

    async fn lend(&self, interface: &Interface, lent: &mut Lent, to: &OwnedFd) -> Result<(), Refusal> {
        let mut tries = TRIES;
        loop {
            self.note_lent(lent).await?;
            killpoint::reached("lent-noted");
            let owner = Owner { name: "", uuid: lent.owner, domain: None };
            match links::make(self, owner, interface, &mut lent.link, None).await {
                Err(e) if e.is_taken() && tries > 0 => {
                    tries -= 1;
                    links::rename(self, interface, &mut lent.link).await?;
                }
                made => break made?,
            }
        }
        killpoint::reached("lent-made");
        // Where the port is, is known only now.
        self.note_lent(lent).await?;
        self.links.give(&lent.link, to.as_fd()).await.map_err(|e| {
            if e.is_taken() {
                let inside = &lent.link.inside;
                refuse(format!(
                    "the namespace has an interface '{inside}' already: give another name as 'interface'"
                ))
            } else {
                LinkError { operation: "give the namespace the interface", ..e }.into()
            }
        })
    }

    async fn note_lent(&self, lent: &Lent) -> Result<(), Refusal> {
        let path = lent.path(&self.layout.lent());
        let at = path.clone();
        let lent = lent.clone();
        let written = blocking(move || files::replace(&at, &serde_json::to_string(&lent)?));
        written.await.map_err(|e| failed("write", &path, &e))
    }

    /// Removes one that is the caller's, or any where there is no `uid`.
    pub async fn remove_interface(&self, uid: Option<u32>, device: &str) -> Result<(), Refusal> {
        let mut all = self.lending.0.lock().await;
        self.take_back(&mut all).await;
        // Whether another user has it is not told.
        let Some(lent) = all.get(device).filter(|l| uid.is_none_or(|uid| l.uid == uid)).cloned() else {
            let message = format!("no interface '{device}' was added to a network");
            return Err(Refusal::Failed(NetworkError::InvalidState(message)));
        };
        self.release(&lent).await;
        all.remove(device);
        Ok(())
    }

    /// Takes away all that there is of one.
    async fn release(&self, lent: &Lent) {
        let left = links::release(self, lent.owner(), std::slice::from_ref(&lent.link)).await;
        if !left.is_empty() {
            left.iter().for_each(|e| tracing::warn!("interface '{}': {e}", lent.link.host));
            return;
        }
        let path = lent.path(&self.layout.lent());
        let at = path.clone();
        match blocking(move || std::fs::remove_file(at)).await {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("cannot remove '{}': {e}", path.display());
            }
            _ => {}
        }
    }

    /// Forgets those whose namespaces are gone.
    async fn take_back(&self, all: &mut BTreeMap<String, Lent>) {
        let mut gone = Vec::new();
        for (device, lent) in all.iter() {
            match self.links.is_there(&lent.link).await {
                Ok(true) => {}
                Ok(false) => gone.push(device.clone()),
                Err(e) => tracing::warn!("{e}"),
            }
        }
        for device in gone {
            if let Some(lent) = all.remove(&device) {
                self.release(&lent).await;
            }
        }
    }

    /// Puts what is lent of a network that runs again back on its bridge.
    pub async fn reconnect_lent(&self, network: &str) {
        let mut all = self.lending.0.lock().await;
        for lent in all.values_mut().filter(|l| l.network == network) {
            let (mac, owner) = (lent.link.mac.clone(), Owner { name: "", uuid: lent.owner, domain: None });
            let connected = match interface_of(network, Some(&mac), &self.host) {
                Ok(interface) => links::connect_again(self, owner, &interface, &mut lent.link).await,
                // It had one.
                Err(_) => continue,
            };
            match connected {
                Ok(false) => {}
                Ok(true) => {
                    if let Err(e) = self.note_lent(lent).await {
                        tracing::warn!("interface '{}': {e:?}", lent.link.host);
                    }
                }
                Err(e) => tracing::warn!("interface '{}': {e}", lent.link.host),
            }
        }
    }

    /// Reads what a former daemon has lent; half of one is taken away. Answers what the ports belong to.
    pub async fn recover_lent(&self) -> io::Result<Vec<Uuid>> {
        let folder = self.layout.lent();
        let found = blocking(move || read_all(&folder)).await?;
        let mut all = self.lending.0.lock().await;
        for lent in found {
            // One that is not where it belongs has its other end here still.
            let whole = self.links.is_there(&lent.link).await.unwrap_or(true)
                && !self.links.is_unmoved(&lent.link).await.unwrap_or(false);
            if whole {
                all.insert(lent.link.host.clone(), lent);
            } else {
                self.release(&lent).await;
            }
        }
        Ok(all.values().map(|l| l.owner).collect())
    }

    /// Looks whether namespaces are gone when interfaces go, and from time to time.
    pub fn watch_lent(self: &Arc<Self>) {
        let engine = Arc::downgrade(self);
        let told = |e: io::Error| {
            tracing::warn!("interfaces of net-plug that go are noticed late: {e}");
        };
        tokio::spawn(async move {
            let mut gone = Gone::listen().map_err(told).ok();
            loop {
                match &mut gone {
                    Some(listener) => {
                        if let Ok(Err(e)) = tokio::time::timeout(PAUSE, listener.some()).await {
                            told(e);
                            gone = None;
                        }
                    }
                    None => tokio::time::sleep(PAUSE).await,
                }
                let Some(engine) = engine.upgrade() else { return };
                let mut all = engine.lending.0.lock().await;
                engine.take_back(&mut all).await;
            }
        });
    }
}

/// Removes what cannot be read: nothing of it can be found again.
fn read_all(folder: &Path) -> io::Result<Vec<Lent>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let lent = files::read_text(&path).and_then(|t| Ok(serde_json::from_str::<Lent>(&t)?));
        match lent {
            Ok(lent) if lent.link.is_possible() && lent.path(folder) == path => found.push(lent),
            other => {
                let why = other.err().map_or_else(|| "it is not one of ours".into(), |e| e.to_string());
                tracing::warn!("removed '{}': {why}", path.display());
                std::fs::remove_file(&path)?;
            }
        }
    }
    Ok(found)
}

/// Whether an interface goes into this namespace: a network namespace, not the daemon's own, and with `restricted` one
/// of a user namespace that the user made.
fn check(namespace: &OwnedFd, restricted: bool, uid: u32) -> Result<(), Refusal> {
    // Nothing is asked of the file itself before it is known to be the kernel's: another one may be served by a program
    // that never answers.
    let name = |path: &str| std::fs::read_link(path).map(|p| p.to_string_lossy().into_owned());
    let number = namespace.as_raw_fd();
    let given = name(&format!("/proc/self/fd/{number}")).unwrap_or_default();
    if !given.starts_with("net:[") {
        return Err(Refusal::Bad("namespace"));
    }
    if name("/proc/self/ns/net").is_ok_and(|own| own == given) {
        let message = "the namespace is the host's own".to_owned();
        return Err(Refusal::Failed(NetworkError::Failed(message)));
    }
    if !restricted {
        return Ok(());
    }
    let maker = berth_sys::namespace::user_namespace(namespace.as_fd())
        .and_then(|user| berth_sys::namespace::maker(user.as_fd()));
    if maker == Ok(uid) { Ok(()) } else { Err(Refusal::Denied) }
}

/// Whether the kernel takes it for the name of an interface.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=15).contains(&name.len()) && name.chars().all(plain) && !matches!(name, "." | ".." | "lo")
}

/// The interface as a document would have it; without a hardware address it gets a new one.
fn interface_of(network: &str, mac: Option<&str>, host: &berth_domain::Host) -> Result<Interface, Refusal> {
    let given = mac.unwrap_or_default();
    let bad = || refuse(format!("'{}' is not a hardware address", given.escape_debug()));
    let mac = match mac {
        Some(mac) if mac.chars().all(|c| c.is_ascii_hexdigit() || c == ':') => {
            format!("<mac address='{mac}'/>")
        }
        Some(_) => return Err(bad()),
        None => String::new(),
    };
    let document = format!("<interface type='network'><source network='n'/>{mac}</interface>");
    let mut parsed = match berth_domain::parse_device(&document, host) {
        Ok(ParsedDevice { device: Device::Interface(interface, _), .. }) => interface,
        Ok(_) => return Err(bad()),
        // Ours but for the address: the place in it is nobody's.
        Err(e) => return Err(e.diagnostics.into_iter().next().map_or_else(bad, |d| refuse(d.message))),
    };
    parsed.source = InterfaceSource::Network { network: network.to_owned(), portgroup: None };
    Ok(*parsed)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn only_namespaces_of_networks_and_not_the_hosts() {
        let open = |path: &str| OwnedFd::from(std::fs::File::open(path).expect("opened"));
        assert_eq!(check(&open("/proc/self/status"), false, 0), Err(Refusal::Bad("namespace")));
        assert_eq!(check(&open("/proc/self/ns/mnt"), false, 0), Err(Refusal::Bad("namespace")));
        let own = check(&open("/proc/self/ns/net"), false, 0);
        assert!(matches!(own, Err(Refusal::Failed(_))), "{own:?}");
    }

    #[test]
    fn hardware_addresses_are_checked() {
        let host = berth_domain::Host { arch: "x86_64".into(), emulator: "/x".into() };
        let mac = |text| interface_of("a'b", text, &host).map(|i| i.mac);
        assert_eq!(mac(Some("52:54:00:0A:00:01")).as_deref(), Ok("52:54:00:0a:00:01"));
        assert!(mac(None).is_ok_and(|m| m.len() == 17));
        for bad in ["", "1", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "52:54:00:0A:00:01'/><x y='"] {
            assert!(matches!(mac(Some(bad)), Err(Refusal::Failed(_))), "{bad}");
        }
        let say = |text| match mac(Some(text)) {
            Err(Refusal::Failed(e)) => e.to_string(),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(say("x'y"), "'x\\'y' is not a hardware address");
        assert_eq!(
            say("01:00:00:00:00:01"),
            "'01:00:00:00:00:01' is an address for many, an interface needs one of its own"
        );
        assert!(say("52:54").contains("52:54"), "{}", say("52:54"));
    }

    #[test]
    fn names_of_interfaces_are_the_kernels() {
        assert!(is_name("eth0") && is_name("a.b-c_d"));
        for bad in ["", "..", "lo", "a/b", "a b", "sixteen-chars-xx", "é"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
