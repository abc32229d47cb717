//! Who may call what: one table, asked before a parameter is looked at.
//!
//! The matches have no default arm: a method without a row does not compile. Does not know any connection.

use std::ffi::CString;

use crate::config::NetworkAccess;
use berth_schemas::domain::Method as Domain;
use berth_schemas::network::Method as Network;
use berth_schemas::node::{Method as Node, Role};
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

/// A method of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Of the protocol itself.
    Service,
    /// Of the host.
    Node(Node),
    /// Of domains.
    Domain(Domain),
    /// Of networks.
    Network(Network),
}

/// The least role that may call a method.
pub fn needed(method: Method) -> Role {
    match method {
        Method::Service => Role::Reader,
        Method::Node(method) => match method {
            Node::GetInfo
            | Node::GetVersion
            | Node::GetHostname
            | Node::GetCapabilities
            | Node::GetMemoryParameters
            | Node::GetCpuTimes
            | Node::GetCpuMap
            | Node::GetMemoryFigures
            | Node::GetCells
            | Node::ListInterfaces
            | Node::GetRole
            | Node::RestrictToReading => Role::Reader,
            // Serial numbers of the machine, which the kernel shows to root alone.
            Node::GetSysinfo | Node::SetMemoryParameters => Role::Admin,
        },
        Method::Domain(method) => match method {
            Domain::List
            | Domain::GetUsage
            | Domain::GetStats
            | Domain::GetXML
            | Domain::GetMetadata
            | Domain::GetResources
            | Domain::GetInterfaceAddresses
            | Domain::GetHostname
            | Domain::Subscribe => Role::Reader,
            Domain::Define
            | Domain::Undefine
            | Domain::Create
            | Domain::Start
            | Domain::Shutdown
            | Domain::Reboot
            | Domain::SendProcessSignal
            | Domain::Destroy
            | Domain::Suspend
            | Domain::Resume
            | Domain::SetAutostart
            | Domain::SetMetadata
            | Domain::AttachDevice
            | Domain::DetachDevice
            | Domain::UpdateDevice
            | Domain::TuneInterface
            | Domain::SetResources
            // What a container prints is its own: passwords are typed there.
            | Domain::OpenConsole
            | Domain::AttachConsole
            | Domain::ResizeConsole
            | Domain::ReadConsoleLog => Role::Admin,
        },
        Method::Network(method) => match method {
            Network::List | Network::GetXML | Network::GetLeases | Network::Subscribe => Role::Reader,
            // The rows of `network-access` decide, which are asked with the name of the network: see `interfaces`.
            Network::AddInterface | Network::RemoveInterface => Role::Reader,
            Network::Define
            | Network::Create
            | Network::Start
            | Network::Destroy
            | Network::Undefine
            | Network::SetAutostart
            | Network::Update => Role::Admin,
        },
    }
}

impl Method {
    /// Its full name in the varlink interfaces, whichever door it is called by.
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "org.varlink.service",
            Self::Node(method) => method.name(),
            Self::Domain(method) => method.name(),
            Self::Network(method) => method.name(),
        }
    }
}

/// Whether the record of who did what tells of it: what changes something, and what shows what is typed in a container.
pub fn is_noted(method: Method) -> bool {
    match method {
        // Part of what was told already.
        Method::Domain(Domain::ResizeConsole) => false,
        Method::Network(Network::AddInterface | Network::RemoveInterface) => true,
        method => needed(method) == Role::Admin,
    }
}

/// Whether a role may call a method.
pub fn allowed(role: Role, method: Method) -> bool {
    match (role, needed(method)) {
        (Role::Admin, _) | (Role::Reader, Role::Reader) => true,
        (Role::Reader, Role::Admin) => false,
    }
}

/// The role of a peer. Asks the system's user database, which may take its time: for a thread that may block.
pub fn role_of(uid: u32, gid: u32, own_uid: u32, admin_group: &str) -> Role {
    if uid == 0 || uid == own_uid || is_member(uid, gid, admin_group) { Role::Admin } else { Role::Reader }
}

/// How many interfaces of a network a user may have at a time by the rows of `network-access`: as many as the row that
/// allows the most. Asks the system's user database, which may take its time: for a thread that may block.
pub fn interfaces(rows: &[NetworkAccess], uid: u32, gid: u32, network: &str) -> usize {
    let is_user = |name: &str| matches!(User::from_name(name), Ok(Some(user)) if user.uid.as_raw() == uid);
    let fits = |row: &&NetworkAccess| {
        row.network == network
            && (row.user.as_deref().is_some_and(is_user)
                || row.group.as_deref().is_some_and(|group| is_member(uid, gid, group)))
    };
    rows.iter().filter(fits).map(|row| row.interfaces).max().unwrap_or(0)
}

/// A database that fails makes nobody a member.
fn is_member(uid: u32, gid: u32, group: &str) -> bool {
    let Ok(Some(group)) = Group::from_name(group) else { return false };
    if group.gid == Gid::from_raw(gid) {
        return true;
    }
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else { return false };
    let Ok(name) = CString::new(user.name) else { return false };
    getgrouplist(&name, user.gid).is_ok_and(|all| all.contains(&group.gid))
}

#[cfg(test)]
mod test {
    use super::*;

    /// The verdicts, written down a second time: reader, admin.
    const DOMAIN: &[(&str, bool)] = &[
        ("List", true),
        ("GetUsage", true),
        ("GetStats", true),
        ("Define", false),
        ("Undefine", false),
        ("Create", false),
        ("Start", false),
        ("Shutdown", false),
        ("Reboot", false),
        ("SendProcessSignal", false),
        ("Destroy", false),
        ("Suspend", false),
        ("Resume", false),
        ("GetXML", true),
        ("SetAutostart", false),
        ("GetMetadata", true),
        ("SetMetadata", false),
        ("GetInterfaceAddresses", true),
        ("GetHostname", true),
        ("AttachDevice", false),
        ("DetachDevice", false),
        ("UpdateDevice", false),
        ("TuneInterface", false),
        ("GetResources", true),
        ("SetResources", false),
        ("Subscribe", true),
        ("OpenConsole", false),
        ("AttachConsole", false),
        ("ResizeConsole", false),
        ("ReadConsoleLog", false),
    ];

    /// The same of networks.
    const NETWORK: &[(&str, bool)] = &[
        ("List", true),
        ("Define", false),
        ("Create", false),
        ("Start", false),
        ("Destroy", false),
        ("Undefine", false),
        ("GetXML", true),
        ("SetAutostart", false),
        ("Update", false),
        ("GetLeases", true),
        // Refused further below but for who has a row in `network-access`.
        ("AddInterface", true),
        ("RemoveInterface", true),
        ("Subscribe", true),
    ];

    #[test]
    fn every_method_of_networks_has_its_verdict() {
        assert_eq!(NETWORK.len(), Network::ALL.len());
        for method in Network::ALL {
            let (interface, name) = method.name().rsplit_once('.').expect("full name");
            assert_eq!(interface, "io.berth.Network");
            let row = NETWORK.iter().find(|(n, _)| *n == name).expect("a row for every method");
            assert_eq!(allowed(Role::Reader, Method::Network(*method)), row.1, "{name}");
            assert!(allowed(Role::Admin, Method::Network(*method)), "{name}");
        }
    }

    #[test]
    fn every_method_has_its_verdict() {
        assert_eq!(DOMAIN.len(), Domain::ALL.len());
        for method in Domain::ALL {
            let (interface, name) = method.name().rsplit_once('.').expect("full name");
            assert_eq!(interface, "io.berth.Domain");
            let row = DOMAIN.iter().find(|(n, _)| *n == name).expect("a row for every method");
            assert_eq!(allowed(Role::Reader, Method::Domain(*method)), row.1, "{name}");
            assert!(allowed(Role::Admin, Method::Domain(*method)), "{name}");
        }
        for method in Node::ALL {
            let is_for_readers = !matches!(method, Node::GetSysinfo | Node::SetMemoryParameters);
            assert_eq!(allowed(Role::Reader, Method::Node(*method)), is_for_readers, "{}", method.name());
            assert!(allowed(Role::Admin, Method::Node(*method)));
        }
    }

    #[test]
    fn root_and_the_daemon_itself_are_admins_and_nobody_is_not() {
        assert_eq!(role_of(0, 0, 0, "berth"), Role::Admin);
        assert_eq!(role_of(1234, 1234, 1234, "berth"), Role::Admin);
        assert_eq!(role_of(65534, 65534, 0, "no such group"), Role::Reader);
        // The primary group counts, also of a user that the database does not know.
        assert_eq!(role_of(54_321, 0, 0, "root"), Role::Admin);
    }
}
