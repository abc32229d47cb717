//! `<berth:forward>` in `<berth:settings>` of a domain: ports of the host that lead to it.
//!
//! Does not know how a port is forwarded; only virtual networks can do it.

use crate::Diagnostic;
use crate::model::{Domain, Interface, InterfaceSource};
use crate::network::settings::{MAX_FORWARDS, PortForward, read_forward};
use crate::settings::local;

const PATH: &str = "domain/metadata/berth:settings/berth:forward";

/// Whether its document says which address of IPv6 an interface has: nobody else knows.
fn has_ipv6(interface: &Interface) -> bool {
    interface.ip.addresses.iter().any(|a| a.address.is_ipv6())
}

impl Domain {
    /// Ports of the host that lead to the domain, by its first interface of a virtual network. Of a document that was
    /// refused only what is good.
    pub fn forwards(&self) -> Vec<PortForward> {
        self.read_forwards(&mut Vec::new())
    }

    /// The interface that they lead to.
    pub fn forwarded_interface(&self) -> Option<&Interface> {
        self.devices.interfaces.iter().find(|i| matches!(i.source, InterfaceSource::Network { .. }))
    }

    /// Reads them and says what is wrong with them.
    pub(crate) fn read_forwards(&self, problems: &mut Vec<Diagnostic>) -> Vec<PortForward> {
        let mut found: Vec<PortForward> = Vec::new();
        let Some(settings) = self.own_settings() else {
            return found;
        };
        for element in settings.elements().filter(|e| local(e) == "forward") {
            let mut say = |message: String| problems.push(Diagnostic::new(element.pos, PATH, message));
            match read_forward(element, Some(self.name.as_str())) {
                Ok(_) if self.forwarded_interface().is_none() => {
                    say("ports are only forwarded to a domain with an interface of the type 'network'".into());
                }
                Ok(forward) if forward.is_ipv6() && !self.forwarded_interface().is_some_and(has_ipv6) => {
                    say("with IPv6 ports are only forwarded to an interface with an <ip family='ipv6'>"
                        .into());
                }
                Ok(_) if found.len() == MAX_FORWARDS => {
                    say(format!("there are more than {MAX_FORWARDS} forwarded ports"));
                }
                Ok(forward) if found.iter().any(|other| other.meets(&forward)) => {
                    say(format!("the port {} is forwarded already", forward.host_ports()));
                }
                Ok(forward) => found.push(forward),
                Err(message) => say(message),
            }
        }
        found
    }
}
