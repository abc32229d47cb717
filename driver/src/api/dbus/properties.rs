//! Properties, and the two methods of `Peer`.
//!
//! Does not know when a property changes; that is for `signals`.

use std::collections::BTreeMap;

use berth_schemas::dbus;
use berth_schemas::domain::Method as DomainMethod;
use berth_schemas::network::Method as NetworkMethod;
use zbus::{OwnedVariant, Structure, Variant};

use crate::api::access::Method as Row;
use crate::api::dbus::call::{Answer, Call};
use crate::api::dbus::domain::ask;
use crate::api::dbus::error::Refusal;
use crate::api::dbus::methods::{Peer, Properties};
use crate::api::dbus::network;
use crate::api::dbus::objects::{Object, find_domain};
use crate::container::task::Request;
use crate::engine::snapshot::Snapshot;
use crate::host::node;

/// The version of libvirt whose interface this is, as libvirt counts: the programs that look at it want to know what
/// they may call.
const LIBVIRT: u64 = 9_000_000;

/// An inactive domain's id, as libvirt-dbus has it.
const NO_ID: u32 = 0;

/// libvirt's scheduler of containers, and how many parameters it has.
const SCHEDULER: (&str, i32) = ("posix", 3);

/// Names and values.
pub type Map = BTreeMap<&'static str, Variant<'static>>;

/// Answers one call.
pub async fn call(c: &Call<'_>, method: Properties, object: Object) -> Answer {
    match method {
        Properties::Get => {
            let (interface, name): (String, String) = c.parameters()?;
            let map = of_object(c, object, &interface)?;
            let value = map.get(name.as_str()).ok_or_else(|| unknown(&interface, &name))?;
            c.answer(value)
        }
        Properties::GetAll => {
            let interface: String = c.parameters()?;
            c.answer(&of_object(c, object, &interface)?)
        }
        Properties::Set => {
            let (interface, name, value): (String, String, OwnedVariant) = c.parameters()?;
            let map = of_object(c, object, &interface)?;
            let is_there = map.contains_key(name.as_str());
            match (object, written(object, &interface, &name), &*value) {
                (Object::Domain(uuid), Some(_), Variant::Bool(on)) => {
                    ask(c, uuid, Request::SetAutostart(*on)).await
                }
                (Object::Network(uuid), Some(_), Variant::Bool(on)) => {
                    let networks = &c.bus.engine.networks;
                    networks.set_autostart(&network::reference(uuid), *on).await?;
                    c.done()
                }
                (_, Some(_), _) => Err(Refusal::arguments(format!("property '{name}' is a boolean"))),
                (_, None, _) if is_there => {
                    Err(Refusal::Protocol("PropertyReadOnly", format!("property '{name}' cannot be set")))
                }
                (_, None, _) => Err(unknown(&interface, &name)),
            }
        }
    }
}

/// What of the engine it is to set a property; none: it cannot be set.
fn written(object: Object, interface: &str, name: &str) -> Option<Row> {
    match object {
        Object::Domain(_) if interface == dbus::DOMAIN.name && name == "Autostart" => {
            Some(Row::Domain(DomainMethod::SetAutostart))
        }
        Object::Network(_) if interface == dbus::NETWORK.name && name == "Autostart" => {
            Some(Row::Network(NetworkMethod::SetAutostart))
        }
        _ => None,
    }
}

/// The same of a call of `Set`; none also if its parameters cannot be read.
pub fn row(c: &Call<'_>, object: Object) -> Option<Row> {
    let (interface, name, _): (String, String, OwnedVariant) = c.parameters().ok()?;
    written(object, &interface, &name)
}

fn unknown(interface: &str, name: &str) -> Refusal {
    Refusal::Protocol("UnknownProperty", format!("no such property '{name}' in '{interface}'"))
}

fn of_object(c: &Call<'_>, object: Object, interface: &str) -> Result<Map, Refusal> {
    let no_such = || Refusal::Protocol("UnknownInterface", format!("no such interface '{interface}'"));
    match object {
        Object::Connect if interface == dbus::CONNECT.name => Ok(of_host()),
        Object::Domain(uuid) => {
            let snapshot = find_domain(&c.bus.engine, uuid)?;
            match object.all_interfaces().find(|i| i.name == interface) {
                Some(dbus::DOMAIN) => Ok(of_domain(&snapshot)),
                Some(_) => Ok(Map::new()),
                None => Err(no_such()),
            }
        }
        Object::Network(uuid) => {
            let snapshot = network::find(&c.bus.engine, uuid)?;
            match object.all_interfaces().find(|i| i.name == interface) {
                Some(dbus::NETWORK) => Ok(network::properties(&snapshot)),
                Some(_) => Ok(Map::new()),
                None => Err(no_such()),
            }
        }
        _ if object.all_interfaces().any(|i| i.name == interface) => Ok(Map::new()),
        _ => Err(no_such()),
    }
}

fn of_host() -> Map {
    Map::from([
        ("Encrypted", Variant::from(false)),
        ("Hostname", Variant::from(node::hostname())),
        ("LibVersion", Variant::from(LIBVIRT)),
        ("Secure", Variant::from(true)),
        ("Version", Variant::from(version(&node::kernel_release()))),
    ])
}

/// A release as libvirt counts: of the hypervisor, which for containers is the kernel.
fn version(release: &str) -> u64 {
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u64>().unwrap_or(0).min(999));
    [1_000_000, 1000, 1].iter().map(|unit| unit * numbers.next().unwrap_or(0)).sum()
}

/// What is seen of a domain.
pub fn of_domain(snapshot: &Snapshot) -> Map {
    let id = snapshot.run.as_ref().and_then(|r| u32::try_from(r.id).ok());
    Map::from([
        ("Active", Variant::from(snapshot.run.is_some())),
        ("Autostart", Variant::from(snapshot.autostart)),
        ("Id", Variant::from(id.unwrap_or(NO_ID))),
        ("Name", Variant::from(snapshot.name.to_string())),
        ("OSType", Variant::from("exe")),
        ("Persistent", Variant::from(snapshot.next.is_some())),
        ("SchedulerType", Variant::from(Structure::from(SCHEDULER))),
        ("Updated", Variant::from(snapshot.pending_change())),
        ("UUID", Variant::from(snapshot.uuid.to_string())),
    ])
}

/// Answers one call of `Peer`.
pub fn peer(c: &Call<'_>, method: Peer) -> Answer {
    c.nothing()?;
    match method {
        Peer::Ping => c.done(),
        Peer::GetMachineId => {
            let id = std::fs::read_to_string("/etc/machine-id");
            let id =
                id.map_err(|e| Refusal::Protocol("Failed", format!("cannot read '/etc/machine-id': {e}")))?;
            c.answer(&id.trim())
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn nothing_but_autostart_is_written() {
        let uuid = uuid::Uuid::nil();
        let (domain, network) = (Object::Domain(uuid), Object::Network(uuid));
        let all = [dbus::CONNECT, dbus::DOMAIN, dbus::NETWORK, dbus::BERTH_DOMAIN];
        for interface in all.map(|i| i.name) {
            for object in [domain, network, Object::Connect] {
                let is_own = (object == domain && interface == dbus::DOMAIN.name)
                    || (object == network && interface == dbus::NETWORK.name);
                assert_eq!(written(object, interface, "Autostart").is_some(), is_own, "{interface}");
                assert_eq!(written(object, interface, "Name"), None, "{interface}");
            }
        }
        let row = written(network, dbus::NETWORK.name, "Autostart");
        assert_eq!(row, Some(Row::Network(NetworkMethod::SetAutostart)));
    }

    #[test]
    fn versions_are_counted_as_libvirt_does() {
        assert_eq!(version("6.18.5-cloud-amd64"), 6_018_005);
        assert_eq!(version("6.1"), 6_001_000);
        assert_eq!(version("odd"), 0);
    }
}
