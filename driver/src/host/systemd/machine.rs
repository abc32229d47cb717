//! machined: the host's register of machines, which `machinectl`, terminals and name resolution look into.
//!
//! A registered machine is a unit and a leader, by which the host's tools enter it; it is taken off when the unit is
//! gone. Does not know units. Source: org.freedesktop.machine1(5).

use zbus::OwnedObjectPath;

use super::Machine;

/// What registers them.
const SERVICE: &str = "berth";

#[zbus::proxy(
    interface = "org.freedesktop.machine1.Manager",
    default_service = "org.freedesktop.machine1",
    default_path = "/org/freedesktop/machine1"
)]
trait Manager {
    #[expect(clippy::too_many_arguments, reason = "they are machined's")]
    fn register_machine_with_network(
        &self,
        name: &str,
        id: &[u8],
        service: &str,
        class: &str,
        leader: u32,
        root_directory: &str,
        interfaces: &[i32],
    ) -> zbus::Result<OwnedObjectPath>;

    fn unregister_machine(&self, name: &str) -> zbus::Result<()>;

    fn get_machine(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
}

#[zbus::proxy(interface = "org.freedesktop.machine1.Machine", default_service = "org.freedesktop.machine1")]
trait Registered {
    #[zbus(property(emits_changed_signal = "false"))]
    fn leader(&self) -> zbus::Result<u32>;
}

/// Registers a machine, unless it is there with that leader, in place of the one that was there. Answers false where
/// there is no machined.
pub async fn register(bus: &zbus::Connection, name: &str, machine: &Machine) -> zbus::Result<bool> {
    let machined = ManagerProxy::new(bus).await?;
    let interfaces: Vec<i32> = machine.interfaces.iter().filter_map(|name| index(name)).collect();
    let ask = || {
        machined.register_machine_with_network(
            name,
            machine.uuid.as_bytes(),
            SERVICE,
            "container",
            machine.init,
            "",
            &interfaces,
        )
    };
    match ask().await {
        Ok(_) => Ok(true),
        Err(e) if is(&e, "org.freedesktop.machine1.MachineExists") => {
            if leader(bus, &machined, name).await.is_ok_and(|leader| leader == machine.init) {
                return Ok(true);
            }
            // Of the init before a reboot from inside, or of a run that has just ended.
            drop(machined.unregister_machine(name).await);
            ask().await.map(|_| true)
        }
        Err(e) if NOBODY.iter().any(|name| is(&e, name)) => Ok(false),
        Err(e) => Err(e),
    }
}

/// The kernel's number of an interface; none if it is not on the host, as a macvlan is not.
fn index(name: &str) -> Option<i32> {
    let text = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?;
    text.trim().parse().ok().filter(|index| *index > 0)
}

/// By whom the host's tools enter it.
async fn leader(bus: &zbus::Connection, machined: &ManagerProxy<'_>, name: &str) -> zbus::Result<u32> {
    let path = machined.get_machine(name).await?;
    RegisteredProxy::builder(bus).path(path).build().await?.leader().await
}

/// What the bus says where machined is not installed.
const NOBODY: &[&str] =
    &["org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner"];

fn is(error: &zbus::Error, name: &str) -> bool {
    match error {
        zbus::Error::MethodError(found, ..) => found.as_str() == name,
        // Errors of the bus itself have a type of their own.
        zbus::Error::FDO(e) => match **e {
            zbus::fdo::Error::ServiceUnknown(_) => name.ends_with(".ServiceUnknown"),
            zbus::fdo::Error::NameHasNoOwner(_) => name.ends_with(".NameHasNoOwner"),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn interfaces_of_the_host_have_numbers() {
        // The loopback of each network namespace is its first: loopback.c.
        assert_eq!((index("lo"), index("nosuch0")), (Some(1), None));
    }
}
