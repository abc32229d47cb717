//! Objects: which path is what, which interfaces it has, and its introspection data.
//!
//! Nothing is registered anywhere: a path is looked at when it is called, so a thousand domains cost nothing.

use std::sync::Arc;

use berth_schemas::dbus::{self, Interface};
use uuid::Uuid;

use crate::api::dbus::error::Refusal;
use crate::engine::Engine;
use crate::engine::registry::Reference;
use crate::engine::snapshot::Snapshot;

/// The object of the host.
pub const CONNECT: &str = "/org/libvirt/LXC";

/// The folder of the domains.
pub const DOMAINS: &str = "/org/libvirt/LXC/domain";

/// The folder of the networks.
pub const NETWORKS: &str = "/org/libvirt/LXC/network";

/// How introspection data begin.
const DOCTYPE: &str = "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n \
                       \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n";

/// An object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// On the way to the others; the name of the only thing below it.
    Folder(&'static str),
    /// The host.
    Connect,
    /// The folder of the domains.
    Domains,
    /// A domain, whether there is one or not.
    Domain(Uuid),
    /// The folder of the networks.
    Networks,
    /// A network, whether there is one or not.
    Network(Uuid),
}

/// Path of a domain.
pub fn domain_path(uuid: Uuid) -> String {
    format!("{DOMAINS}/{}", node(uuid))
}

/// Path of a network.
pub fn network_path(uuid: Uuid) -> String {
    format!("{NETWORKS}/{}", node(uuid))
}

/// The last part of a path.
fn node(uuid: Uuid) -> String {
    format!("_{}", uuid.hyphenated().to_string().replace('-', "_"))
}

/// The uuid of a last part; one uuid is written in one way: no capitals, hyphens in their places.
fn of_node(name: &str) -> Option<Uuid> {
    let uuid = Uuid::try_parse(&name.strip_prefix('_')?.replace('_', "-")).ok()?;
    (node(uuid) == name).then_some(uuid)
}

/// A domain that there is.
pub fn find_domain(engine: &Engine, uuid: Uuid) -> Result<Arc<Snapshot>, Refusal> {
    let nobody = || Refusal::Said(format!("Domain not found: no domain with matching uuid '{uuid}'"));
    engine.registry.find(&domain_reference(uuid)).map(|e| e.snapshot()).map_err(|_| nobody())
}

/// How a domain is asked for.
pub fn domain_reference(uuid: Uuid) -> Reference {
    Reference { uuid: Some(uuid.to_string()), ..Reference::default() }
}

impl Object {
    /// The object of a path.
    pub fn find(path: &str) -> Option<Self> {
        Some(match path {
            "/" => Self::Folder("org"),
            "/org" => Self::Folder("libvirt"),
            "/org/libvirt" => Self::Folder("LXC"),
            CONNECT => Self::Connect,
            DOMAINS => Self::Domains,
            NETWORKS => Self::Networks,
            _ => match path.rsplit_once('/')? {
                (DOMAINS, name) => Self::Domain(of_node(name)?),
                (NETWORKS, name) => Self::Network(of_node(name)?),
                _ => return None,
            },
        })
    }

    /// Its interfaces, besides those that all objects have.
    pub fn interfaces(self) -> &'static [Interface] {
        match self {
            Self::Folder(_) | Self::Domains | Self::Networks => &[],
            Self::Connect => &[dbus::CONNECT],
            Self::Domain(_) => &[dbus::DOMAIN, dbus::BERTH_DOMAIN],
            Self::Network(_) => &[dbus::NETWORK],
        }
    }

    /// Its interfaces, those that all objects have last.
    pub fn all_interfaces(self) -> impl Iterator<Item = Interface> {
        let standard: &[Interface] = match self.interfaces() {
            [] => &[dbus::INTROSPECTABLE, dbus::PEER],
            _ => &[dbus::INTROSPECTABLE, dbus::PEER, dbus::PROPERTIES],
        };
        self.interfaces().iter().chain(standard).copied()
    }

    /// Introspection data. `children`: the domains or networks that there are, for the folder of them.
    pub fn introspect(self, children: impl Iterator<Item = Uuid>) -> String {
        let mut xml = String::from(DOCTYPE);
        xml.push_str("<node>\n");
        for interface in self.all_interfaces() {
            xml.push_str(interface.element());
        }
        let mut child = |name: &str| xml.push_str(&format!("  <node name=\"{name}\"/>\n"));
        match self {
            Self::Folder(name) => child(name),
            Self::Connect => ["domain", "network"].into_iter().for_each(child),
            Self::Domains | Self::Networks => children.for_each(|uuid| child(&node(uuid))),
            Self::Domain(_) | Self::Network(_) => {}
        }
        xml.push_str("</node>\n");
        xml
    }
}

#[cfg(test)]
mod test {
    use super::*;

    const PATH: &str = "/org/libvirt/LXC/domain/_01234567_89ab_cdef_0123_456789abcdef";

    #[test]
    fn a_domain_has_one_path() {
        let Some(Object::Domain(uuid)) = Object::find(PATH) else { panic!("a domain") };
        assert_eq!(domain_path(uuid), PATH);
        for other in [
            PATH.to_uppercase(),
            PATH.replace("_0", "0"),
            PATH.replace("89ab", "89AB"),
            format!("{PATH}/x"),
            format!("{DOMAINS}/_0123456789abcdef0123456789abcdef"),
            format!("{DOMAINS}/"),
            format!("{DOMAINS}x/_01234567_89ab_cdef_0123_456789abcdef"),
            "/org/libvirt/QEMU".into(),
        ] {
            assert_eq!(Object::find(&other), None, "{other}");
        }
        for there in ["/", "/org", "/org/libvirt", CONNECT, DOMAINS, NETWORKS] {
            assert!(Object::find(there).is_some(), "{there}");
        }
        let network = PATH.replace("/domain/", "/network/");
        assert_eq!(Object::find(&network), Some(Object::Network(uuid)));
        assert_eq!(network_path(uuid), network);
    }

    #[test]
    fn introspection_shows_the_way() {
        let uuid = Uuid::from_u128(7);
        let at = |path: &str| Object::find(path).expect("there").introspect([uuid].into_iter());
        assert!(at("/").contains("<node name=\"org\"/>"));
        assert!(at(CONNECT).contains("<interface name=\"org.libvirt.Connect\">"));
        assert!(at(DOMAINS).contains("<node name=\"_00000000_0000_0000_0000_000000000007\"/>"));
        assert!(!at(&domain_path(uuid)).contains("<node name"));
    }
}
