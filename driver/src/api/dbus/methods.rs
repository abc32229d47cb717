//! Every method of every interface: its signatures, and the row of the authorisation table that it belongs to.
//!
//! One table: a method without a row does not compile, and a test compares it with the committed introspection data.

use berth_schemas::domain::Method as D;
use berth_schemas::network::Method as W;
use berth_schemas::node::Method as N;

use crate::api::access::Method as Row;

macro_rules! methods {
    ($(#[$meta:meta])* $interface:ident { $($method:ident $input:literal => $output:literal: $row:expr;)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the introspection data names them")]
        pub enum $interface { $($method),+ }

        impl $interface {
            /// All of them.
            #[cfg(test)]
            pub const ALL: &'static [Self] = &[$(Self::$method),+];

            /// The method of a name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $(stringify!($method) => Some(Self::$method),)+
                    _ => None,
                }
            }

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$method => stringify!($method)),+ }
            }

            /// Signature of its parameters.
            pub fn input(self) -> &'static str {
                match self { $(Self::$method => $input),+ }
            }

            /// Signature of its answer.
            pub fn output(self) -> &'static str {
                match self { $(Self::$method => $output),+ }
            }

            /// What of the engine it is, for the authorisation.
            pub fn row(self) -> Row {
                match self { $(Self::$method => $row),+ }
            }
        }
    };
}

methods! {
    /// `org.libvirt.Connect`
    Connect {
        DomainCreateXML "su" => "o": Row::Domain(D::Create);
        DomainCreateXMLWithFiles "sahu" => "o": Row::Domain(D::Create);
        DomainDefineXML "s" => "o": Row::Domain(D::Define);
        DomainLookupByID "i" => "o": Row::Domain(D::List);
        DomainLookupByName "s" => "o": Row::Domain(D::List);
        DomainLookupByUUID "s" => "o": Row::Domain(D::List);
        GetAllDomainStats "uu" => "a(sa{sv})": Row::Domain(D::GetStats);
        GetCapabilities "" => "s": Row::Node(N::GetCapabilities);
        GetSysinfo "u" => "s": Row::Node(N::GetSysinfo);
        ListDomains "u" => "ao": Row::Domain(D::List);
        ListNetworks "u" => "ao": Row::Network(W::List);
        NetworkCreateXML "s" => "o": Row::Network(W::Create);
        NetworkDefineXML "s" => "o": Row::Network(W::Define);
        NetworkLookupByName "s" => "o": Row::Network(W::List);
        NetworkLookupByUUID "s" => "o": Row::Network(W::List);
        NodeGetCPUMap "u" => "ab": Row::Node(N::GetInfo);
        NodeGetCPUStats "iu" => "a{st}": Row::Node(N::GetInfo);
        NodeGetFreeMemory "" => "t": Row::Node(N::GetInfo);
        NodeGetMemoryParameters "u" => "a{sv}": Row::Node(N::GetMemoryParameters);
        NodeGetMemoryStats "iu" => "a{st}": Row::Node(N::GetInfo);
        NodeGetSecurityModel "" => "(ss)": Row::Node(N::GetInfo);
        NodeSetMemoryParameters "a{sv}u" => "": Row::Node(N::SetMemoryParameters);
    }
}

methods! {
    /// `org.libvirt.Domain`
    Domain {
        AttachDevice "su" => "": Row::Domain(D::AttachDevice);
        Create "u" => "": Row::Domain(D::Start);
        CreateWithFiles "ahu" => "": Row::Domain(D::Start);
        Destroy "u" => "": Row::Domain(D::Destroy);
        DetachDevice "su" => "": Row::Domain(D::DetachDevice);
        GetBlockIOParameters "u" => "a{sv}": Row::Domain(D::GetResources);
        GetHostname "u" => "s": Row::Domain(D::GetHostname);
        GetInterfaceParameters "su" => "a{sv}": Row::Domain(D::GetXML);
        GetMemoryParameters "u" => "a{sv}": Row::Domain(D::GetResources);
        GetMetadata "isu" => "s": Row::Domain(D::GetMetadata);
        GetNumaParameters "u" => "a{sv}": Row::Domain(D::GetResources);
        GetSchedulerParameters "u" => "a{sv}": Row::Domain(D::GetResources);
        GetSecurityLabelList "" => "a(sb)": Row::Domain(D::List);
        GetState "u" => "(ii)": Row::Domain(D::List);
        GetStats "uu" => "a{sv}": Row::Domain(D::GetStats);
        GetVcpuPinInfo "u" => "aab": Row::Domain(D::GetResources);
        GetVcpus "u" => "u": Row::Domain(D::GetResources);
        GetXMLDesc "u" => "s": Row::Domain(D::GetXML);
        HasManagedSaveImage "u" => "b": Row::Domain(D::List);
        InterfaceAddresses "uu" => "a(ssa(isu))": Row::Domain(D::GetInterfaceAddresses);
        MemoryStats "u" => "a{it}": Row::Domain(D::GetStats);
        PinVcpu "uabu" => "": Row::Domain(D::SetResources);
        Reboot "u" => "": Row::Domain(D::Reboot);
        Resume "" => "": Row::Domain(D::Resume);
        SendProcessSignal "xuu" => "": Row::Domain(D::SendProcessSignal);
        SetBlockIOParameters "a{sv}u" => "": Row::Domain(D::SetResources);
        SetInterfaceParameters "sa{sv}u" => "": Row::Domain(D::TuneInterface);
        SetMemory "tu" => "": Row::Domain(D::SetResources);
        SetMemoryParameters "a{sv}u" => "": Row::Domain(D::SetResources);
        SetMetadata "isssu" => "": Row::Domain(D::SetMetadata);
        SetNumaParameters "a{sv}u" => "": Row::Domain(D::SetResources);
        SetSchedulerParameters "a{sv}u" => "": Row::Domain(D::SetResources);
        SetVcpus "uu" => "": Row::Domain(D::SetResources);
        Shutdown "u" => "": Row::Domain(D::Shutdown);
        Suspend "" => "": Row::Domain(D::Suspend);
        Undefine "u" => "": Row::Domain(D::Undefine);
        UpdateDevice "su" => "": Row::Domain(D::UpdateDevice);
    }
}

methods! {
    /// `org.libvirt.Network`
    Network {
        Create "" => "": Row::Network(W::Start);
        Destroy "" => "": Row::Network(W::Destroy);
        GetDHCPLeases "su" => "a(sxisssuss)": Row::Network(W::GetLeases);
        GetXMLDesc "u" => "s": Row::Network(W::GetXML);
        Undefine "" => "": Row::Network(W::Undefine);
        Update "uuisu" => "": Row::Network(W::Update);
    }
}

methods! {
    /// `io.berth.Domain`
    BerthDomain {
        OpenConsole "ss" => "hsb": Row::Domain(D::OpenConsole);
    }
}

methods! {
    /// `org.freedesktop.DBus.Introspectable`
    Introspectable {
        Introspect "" => "s": Row::Service;
    }
}

methods! {
    /// `org.freedesktop.DBus.Peer`
    Peer {
        Ping "" => "": Row::Service;
        GetMachineId "" => "s": Row::Service;
    }
}

methods! {
    /// `org.freedesktop.DBus.Properties`: the only one that can be written is `Autostart`, of domains and of
    /// networks, which have the same rows. The record of who did what has rows of its own: see `properties::row`.
    Properties {
        Get "ss" => "v": Row::Domain(D::List);
        GetAll "s" => "a{sv}": Row::Domain(D::List);
        Set "ssv" => "": Row::Domain(D::SetAutostart);
    }
}

/// A method of any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the interface of its name")]
pub enum Method {
    Connect(Connect),
    Domain(Domain),
    Network(Network),
    BerthDomain(BerthDomain),
    Introspectable(Introspectable),
    Peer(Peer),
    Properties(Properties),
}

macro_rules! each {
    ($self:expr, $method:ident => $value:expr) => {
        match $self {
            Method::Connect($method) => $value,
            Method::Domain($method) => $value,
            Method::Network($method) => $value,
            Method::BerthDomain($method) => $value,
            Method::Introspectable($method) => $value,
            Method::Peer($method) => $value,
            Method::Properties($method) => $value,
        }
    };
}

impl Method {
    /// Its name, without that of the interface.
    pub fn name(self) -> &'static str {
        each!(self, method => method.name())
    }

    /// Signature of its parameters.
    pub fn input(self) -> &'static str {
        each!(self, method => method.input())
    }

    /// Signature of its answer.
    pub fn output(self) -> &'static str {
        each!(self, method => method.output())
    }

    /// What of the engine it is, for the authorisation.
    pub fn row(self) -> Row {
        each!(self, method => method.row())
    }

    /// The method of an interface. None: there is no such interface; `Some(None)`: it has no such method.
    pub fn find(interface: &str, member: &str) -> Option<Option<Self>> {
        use berth_schemas::dbus;
        Some(if interface == dbus::CONNECT.name {
            Connect::from_name(member).map(Self::Connect)
        } else if interface == dbus::DOMAIN.name {
            Domain::from_name(member).map(Self::Domain)
        } else if interface == dbus::NETWORK.name {
            Network::from_name(member).map(Self::Network)
        } else if interface == dbus::BERTH_DOMAIN.name {
            BerthDomain::from_name(member).map(Self::BerthDomain)
        } else if interface == dbus::INTROSPECTABLE.name {
            Introspectable::from_name(member).map(Self::Introspectable)
        } else if interface == dbus::PEER.name {
            Peer::from_name(member).map(Self::Peer)
        } else if interface == dbus::PROPERTIES.name {
            Properties::from_name(member).map(Self::Properties)
        } else {
            return None;
        })
    }
}

#[cfg(test)]
mod test {
    use berth_domain::tree::{Element, parse_tree};
    use berth_schemas::dbus;

    use super::*;
    use crate::api::access::{allowed, needed};
    use berth_schemas::node::Role;

    fn all() -> Vec<(&'static str, Method)> {
        let mut all = Vec::new();
        all.extend(Connect::ALL.iter().map(|m| (dbus::CONNECT.name, Method::Connect(*m))));
        all.extend(Domain::ALL.iter().map(|m| (dbus::DOMAIN.name, Method::Domain(*m))));
        all.extend(Network::ALL.iter().map(|m| (dbus::NETWORK.name, Method::Network(*m))));
        all.extend(BerthDomain::ALL.iter().map(|m| (dbus::BERTH_DOMAIN.name, Method::BerthDomain(*m))));
        all.extend(
            Introspectable::ALL.iter().map(|m| (dbus::INTROSPECTABLE.name, Method::Introspectable(*m))),
        );
        all.extend(Peer::ALL.iter().map(|m| (dbus::PEER.name, Method::Peer(*m))));
        all.extend(Properties::ALL.iter().map(|m| (dbus::PROPERTIES.name, Method::Properties(*m))));
        all
    }

    fn attribute<'a>(element: &'a Element, name: &str) -> &'a str {
        element.value(name).unwrap_or_default()
    }

    #[test]
    fn the_table_is_what_the_introspection_data_say() {
        let mut written = Vec::new();
        for interface in dbus::ALL {
            let tree = parse_tree(interface.file).expect("XML");
            let element = tree.elements().next().expect("an interface");
            for method in element.elements().filter(|e| e.name == "method") {
                let types = |direction: &str| -> String {
                    let all = method.elements().filter(|a| attribute(a, "direction") == direction);
                    all.map(|a| attribute(a, "type")).collect()
                };
                let name = attribute(method, "name").to_owned();
                written.push((interface.name, name, types("in"), types("out")));
            }
        }
        let table = all();
        assert_eq!(table.len(), written.len());
        for (interface, name, input, output) in written {
            let method = Method::find(interface, &name).flatten();
            let method = method.unwrap_or_else(|| panic!("{interface}.{name} is not in the table"));
            assert_eq!((method.name(), method.input(), method.output()), (&*name, &*input, &*output));
            assert!(table.contains(&(interface, method)));
        }
    }

    /// What readers may call, written down a second time.
    const READERS: &[&str] = &[
        "DomainLookupByID",
        "DomainLookupByName",
        "DomainLookupByUUID",
        "GetAllDomainStats",
        "GetCapabilities",
        "ListDomains",
        "ListNetworks",
        "NetworkLookupByName",
        "NetworkLookupByUUID",
        "GetDHCPLeases",
        "NodeGetCPUMap",
        "NodeGetCPUStats",
        "NodeGetFreeMemory",
        "NodeGetMemoryParameters",
        "NodeGetMemoryStats",
        "NodeGetSecurityModel",
        "GetBlockIOParameters",
        "GetHostname",
        "GetInterfaceParameters",
        "GetMemoryParameters",
        "GetMetadata",
        "GetNumaParameters",
        "GetSchedulerParameters",
        "GetSecurityLabelList",
        "GetState",
        "GetStats",
        "GetVcpuPinInfo",
        "GetVcpus",
        "GetXMLDesc",
        "HasManagedSaveImage",
        "InterfaceAddresses",
        "MemoryStats",
        "Introspect",
        "Ping",
        "GetMachineId",
        "Get",
        "GetAll",
    ];

    #[test]
    fn every_method_has_its_verdict() {
        for (interface, method) in all() {
            let may = READERS.contains(&method.name());
            assert_eq!(allowed(Role::Reader, method.row()), may, "{interface}.{}", method.name());
            assert!(allowed(Role::Admin, method.row()));
        }
    }

    /// The engine's methods that have no way in from the bus, each with its reason.
    const NOT_ON_THE_BUS: &[(D, &str)] = &[
        (D::GetUsage, "figures of GetStats under other names"),
        (D::Subscribe, "signals"),
        (D::AttachConsole, "OpenConsole: a D-Bus connection does not become a console"),
        (D::ResizeConsole, "the descriptor of OpenConsole has a window size"),
        (D::ReadConsoleLog, "a stream of any length; varlink has it"),
    ];

    #[test]
    fn every_method_of_the_engine_is_on_the_bus_or_has_a_reason_not_to_be() {
        let rows: Vec<Row> = all().into_iter().map(|(_, m)| m.row()).collect();
        for method in D::ALL {
            let reason = NOT_ON_THE_BUS.iter().any(|(m, _)| m == method);
            assert_ne!(rows.contains(&Row::Domain(*method)), reason, "{}", method.name());
        }
        for method in W::ALL {
            // A property, with the row of the domains' one; signals; and what only a user without rights asks for, whose
            // own process the daemon has to know.
            let lent = matches!(method, W::AddInterface | W::RemoveInterface);
            let reason = lent || matches!(method, W::SetAutostart | W::Subscribe);
            assert_ne!(rows.contains(&Row::Network(*method)), reason, "{}", method.name());
            assert_eq!(needed(Row::Network(W::SetAutostart)), needed(Row::Domain(D::SetAutostart)));
        }
    }
}
