//! Changes of one part of a network: what `virsh net-update` does.
//!
//! Does not know whether a network runs, nor what a change means to it.

use std::fmt;

use super::model::{Dhcp, DhcpHost, DhcpRange, DnsHost, DnsSrv, DnsTxt, Network, NetworkIp, Portgroup};
use super::{nowhere, parse};
use crate::model::closed;
use crate::tree::parse_tree;
use crate::walk::{Context, Walk};
use crate::{Diagnostic, ParseError};

closed! {
    /// What to do with a part.
    Change { AddFirst = "add-first", AddLast = "add-last", Delete = "delete", Modify = "modify" }
}

closed! {
    /// Which kind of part: the sections of `virsh net-update`.
    PartKind {
        DhcpRange = "ip-dhcp-range",
        DhcpHost = "ip-dhcp-host",
        ForwardInterface = "forward-interface",
        Portgroup = "portgroup",
        DnsHost = "dns-host",
        DnsTxt = "dns-txt",
        DnsSrv = "dns-srv",
    }
}

impl PartKind {
    /// Name of the element.
    fn element(self) -> &'static str {
        match self {
            Self::DhcpRange => "range",
            Self::DhcpHost | Self::DnsHost => "host",
            Self::ForwardInterface => "interface",
            Self::Portgroup => "portgroup",
            Self::DnsTxt => "txt",
            Self::DnsSrv => "srv",
        }
    }
}

/// A part.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Addresses to give.
    DhcpRange(DhcpRange),
    /// A guest with an address of its own.
    DhcpHost(DhcpHost),
    /// An interface of the host that ports are made on.
    ForwardInterface(String),
    /// A class of interfaces.
    Portgroup(Box<Portgroup>),
    /// An address with names.
    DnsHost(DnsHost),
    /// A TXT record.
    DnsTxt(DnsTxt),
    /// A SRV record.
    DnsSrv(DnsSrv),
}

/// Why a change is not possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpdateError {
    /// In a sentence.
    Impossible(String),
    /// The network would be a bad one.
    Bad(ParseError),
}

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Impossible(message) => f.write_str(message),
            Self::Bad(error) => error.fmt(f),
        }
    }
}

/// Reads the element of one part.
pub fn parse_part(xml: &str, kind: PartKind) -> Result<Part, ParseError> {
    let root = parse_tree(xml).map_err(ParseError::one)?;
    let host = nowhere();
    let cx = Context::new(&host);
    let part = if root.name == kind.element() {
        parse::part(Walk::root(&root, &cx), kind)
    } else {
        let message =
            format!("the section '{kind}' has elements '{}', this is a '{}'", kind.element(), root.name);
        cx.error(Diagnostic::new(root.pos, root.name.clone(), message));
        None
    };
    match (part, cx.finish().0) {
        (Some(part), errors) if errors.is_empty() => Ok(part),
        (_, diagnostics) => Err(ParseError { diagnostics }),
    }
}

/// Both given and the same.
fn same<T: PartialEq>(a: &Option<T>, b: &Option<T>) -> bool {
    a.is_some() && a == b
}

/// Neither says something else than the other.
fn fits<T: PartialEq>(wanted: &Option<T>, there: &Option<T>) -> bool {
    wanted.is_none() || wanted == there
}

fn impossible(message: impl Into<String>) -> UpdateError {
    UpdateError::Impossible(message.into())
}

fn several(what: &str, network: &str) -> UpdateError {
    let all = what.strip_suffix('y').map_or_else(|| format!("{what}s"), |stem| format!("{stem}ies"));
    impossible(format!("multiple matching {all} were found in network '{network}'"))
}

/// The same without a place: that is one of the network's definition, which is not what somebody has just written.
fn unplaced(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    for one in &mut diagnostics {
        (one.line, one.column) = (0, 0);
    }
    diagnostics
}

impl Network {
    /// The network with a change. `parent` counts the `<ip>` elements from 0; none means the first that fits.
    pub fn updated(&self, change: Change, part: &Part, parent: Option<usize>) -> Result<Self, UpdateError> {
        let mut network = self.clone();
        network.change(change, part, parent)?;
        let problems = network.validate();
        if !problems.is_empty() {
            return Err(UpdateError::Bad(ParseError { diagnostics: unplaced(problems) }));
        }
        network.check_output().map_err(UpdateError::Bad)?;
        Ok(network)
    }

    fn change(&mut self, change: Change, part: &Part, parent: Option<usize>) -> Result<(), UpdateError> {
        let name = self.name.to_string();
        match part {
            Part::DhcpHost(host) => {
                let fits_all = |o: &DhcpHost| {
                    fits(&host.mac, &o.mac)
                        && fits(&host.id, &o.id)
                        && fits(&host.name, &o.name)
                        && fits(&host.ip, &o.ip)
                };
                let clash = |o: &DhcpHost| {
                    same(&host.mac, &o.mac)
                        || same(&host.ip, &o.ip)
                        || same(&host.id, &o.id)
                        || same(&host.name, &o.name)
                };
                let identity = |o: &DhcpHost| {
                    same(&host.mac, &o.mac)
                        || same(&host.id, &o.id)
                        || (host.mac.is_none() && same(&host.name, &o.name))
                };
                let what = "dhcp host entry";
                // Without an address any <dhcp> may have it.
                let has = |ip: &NetworkIp| {
                    let is_it = |o: &DhcpHost| match change {
                        Change::Delete => fits_all(o),
                        _ => identity(o),
                    };
                    ip.dhcp.as_ref().is_some_and(|dhcp| dhcp.hosts.iter().any(is_it))
                };
                let is_added = matches!(change, Change::AddFirst | Change::AddLast);
                let parent = if parent.is_none() && host.ip.is_none() && !is_added {
                    let mut found = (0..self.ips.len()).filter(|index| has(&self.ips[*index]));
                    match (found.next(), found.next()) {
                        (Some(_), Some(_)) => return Err(several(what, &name)),
                        (one, _) => one,
                    }
                } else {
                    parent
                };
                let hosts = &mut self.dhcp_of(host.ip.map(|ip| ip.is_ipv6()), parent)?.hosts;
                Editor { what, network: &name, entries: hosts }.apply(
                    change,
                    host,
                    &clash,
                    &fits_all,
                    &[&identity],
                )
            }
            Part::DhcpRange(range) => {
                let ranges = &mut self.dhcp_of(Some(range.start.is_ipv6()), parent)?.ranges;
                let equal = |o: &DhcpRange| o.start == range.start && o.end == range.end;
                Editor { what: "dhcp range entry", network: &name, entries: ranges }.apply(
                    change,
                    range,
                    &equal,
                    &equal,
                    &[],
                )
            }
            Part::ForwardInterface(dev) => {
                let Some(forward) = self.forward.as_mut().filter(|f| !f.mode.has_own_bridge()) else {
                    return Err(impossible(format!(
                        "network '{name}' has no interfaces that ports are made on"
                    )));
                };
                let equal = |o: &String| o == dev;
                Editor { what: "interface entry", network: &name, entries: &mut forward.interfaces }.apply(
                    change,
                    dev,
                    &equal,
                    &equal,
                    &[],
                )?;
                forward.dev = forward.interfaces.first().cloned();
                if forward.interfaces.is_empty() {
                    let message =
                        format!("it is the last interface, and the mode '{}' needs one", forward.mode);
                    return Err(impossible(message));
                }
                Ok(())
            }
            Part::Portgroup(group) => {
                let equal = |o: &Portgroup| o.name == group.name;
                Editor { what: "portgroup entry", network: &name, entries: &mut self.portgroups }.apply(
                    change,
                    group,
                    &equal,
                    &equal,
                    &[&equal],
                )
            }
            Part::DnsHost(host) => {
                let clash =
                    |o: &DnsHost| o.ip == host.ip || o.hostnames.iter().any(|n| host.hostnames.contains(n));
                let fits_all = |o: &DnsHost| {
                    fits(&host.ip, &o.ip) && host.hostnames.iter().all(|n| o.hostnames.contains(n))
                };
                if host.ip.is_none() && change != Change::Delete {
                    return Err(impossible("the attribute 'ip' is missing"));
                }
                if host.hostnames.is_empty() && change != Change::Delete {
                    return Err(impossible("the element 'hostname' is missing"));
                }
                let address = |o: &DnsHost| o.ip == host.ip;
                let name_of = |o: &DnsHost| o.hostnames.iter().any(|n| host.hostnames.contains(n));
                let entries = &mut self.dns.get_or_insert_default().hosts;
                // Names can move to another address, where no record has that.
                Editor { what: "DNS HOST record", network: &name, entries }.apply(
                    change,
                    host,
                    &clash,
                    &fits_all,
                    &[&address, &name_of],
                )
            }
            Part::DnsTxt(txt) => {
                if txt.value.is_none() && change != Change::Delete {
                    return Err(impossible("the attribute 'value' is missing"));
                }
                let clash = |o: &DnsTxt| o.name == txt.name;
                let fits_all = |o: &DnsTxt| o.name == txt.name && fits(&txt.value, &o.value);
                let entries = &mut self.dns.get_or_insert_default().txts;
                Editor { what: "DNS TXT record", network: &name, entries }.apply(
                    change,
                    txt,
                    &clash,
                    &fits_all,
                    &[&clash],
                )
            }
            Part::DnsSrv(srv) => {
                if (srv.service.is_empty() || srv.protocol.is_empty()) && change != Change::Delete {
                    return Err(impossible("the attributes 'service' and 'protocol' must be there"));
                }
                let word = |wanted: &str, there: &str| wanted.is_empty() || wanted == there;
                let fits_all = |o: &DnsSrv| {
                    word(&srv.service, &o.service)
                        && word(&srv.protocol, &o.protocol)
                        && fits(&srv.domain, &o.domain)
                        && fits(&srv.target, &o.target)
                        && fits(&srv.port, &o.port)
                        && fits(&srv.priority, &o.priority)
                        && fits(&srv.weight, &o.weight)
                };
                let service = |o: &DnsSrv| {
                    o.service == srv.service && o.protocol == srv.protocol && o.domain == srv.domain
                };
                // One service can be had from several hosts.
                let of_host = |o: &DnsSrv| service(o) && o.target == srv.target;
                let entries = &mut self.dns.get_or_insert_default().srvs;
                Editor { what: "DNS SRV record", network: &name, entries }.apply(
                    change,
                    srv,
                    &fits_all,
                    &fits_all,
                    &[&of_host, &service],
                )
            }
        }
    }

    /// `<dhcp>` of the address that is meant: the one with that number, else the first of that family that has one,
    /// else the first of that family, which gets one.
    fn dhcp_of(&mut self, v6: Option<bool>, parent: Option<usize>) -> Result<&mut Dhcp, UpdateError> {
        let name = self.name.to_string();
        let right = |ip: &NetworkIp| v6.is_none_or(|v6| ip.address.is_ipv6() == v6);
        let index = match parent {
            Some(index) => Some(index).filter(|i| *i < self.ips.len()),
            None => self
                .ips
                .iter()
                .position(|ip| right(ip) && ip.dhcp.is_some())
                .or_else(|| self.ips.iter().position(right)),
        };
        match index.and_then(|i| self.ips.get_mut(i)) {
            Some(ip) => Ok(ip.dhcp.get_or_insert_default()),
            None => Err(impossible(format!("network '{name}' has no <ip> for this"))),
        }
    }
}

/// A list of parts that is to be changed.
struct Editor<'a, T> {
    /// What libvirt calls one of them.
    what: &'static str,
    network: &'a str,
    entries: &'a mut Vec<T>,
}

impl<T: Clone> Editor<'_, T> {
    /// `clash`: cannot be there beside the new one. `fits`: is meant by a deletion. `identities`: is the one to be
    /// replaced; each counts where nothing is found by those before it, and without any such parts are only added and
    /// deleted, as with libvirt.
    fn apply(
        self,
        change: Change,
        part: &T,
        clash: &dyn Fn(&T) -> bool,
        fits: &dyn Fn(&T) -> bool,
        identities: &[&dyn Fn(&T) -> bool],
    ) -> Result<(), UpdateError> {
        let Self { what, network, entries } = self;
        let find = |entries: &[T], is_it: &dyn Fn(&T) -> bool| {
            let mut found = entries.iter().enumerate().filter(|(_, e)| is_it(e)).map(|(index, _)| index);
            match (found.next(), found.next()) {
                (Some(_), Some(_)) => Err(several(what, network)),
                (one, _) => Ok(one),
            }
        };
        match change {
            Change::AddFirst | Change::AddLast => {
                if entries.iter().any(clash) {
                    return Err(impossible(format!(
                        "there is an existing {what} in network '{network}' that matches"
                    )));
                }
                let at = if change == Change::AddFirst { 0 } else { entries.len() };
                entries.insert(at, part.clone());
            }
            Change::Delete => match find(entries, fits)? {
                Some(one) => drop(entries.remove(one)),
                None => {
                    return Err(impossible(format!(
                        "couldn't locate a matching {what} in network '{network}'"
                    )));
                }
            },
            Change::Modify => {
                if identities.is_empty() {
                    return Err(impossible(format!("a {what} cannot be modified, only added or deleted")));
                }
                let mut found = None;
                for identity in identities {
                    found = find(entries, identity)?;
                    if found.is_some() {
                        break;
                    }
                }
                match found.and_then(|one| entries.get_mut(one)) {
                    Some(there) => *there = part.clone(),
                    None => {
                        return Err(impossible(format!(
                            "couldn't locate an existing {what} in network '{network}'"
                        )));
                    }
                }
            }
        }
        Ok(())
    }
}
