//! Addresses and routes of an interface of the host: it loses them when it goes to another network namespace.
//!
//! They are kept as the kernel told them, and told to it again. What comes by itself when the interface is there again is
//! left to that: what the kernel makes of an address, what a router tells, and what a DHCP client has asked for. Does not
//! know where they are kept, nor why the interface went.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::io::Errno;

use crate::netlink::{Netlink, attributes, number, word};

const ADDRESS: u16 = 20;
const ROUTE: u16 = 24;

/// Attributes of addresses (linux/if_addr.h).
const ADDRESS_PEER: u16 = 1;
const ADDRESS_LOCAL: u16 = 2;
const ADDRESS_FLAGS: u16 = 8;
const ADDRESS_ORIGIN: u16 = 11;
/// Flags of an address: no time ends it; nobody is asked whether it is taken; that is being asked, or it is taken.
const PERMANENT: u32 = 0x80;
const NOT_ASKED: u32 = 2;
const IN_DOUBT: u32 = 0x40 | 8 | 4;
/// What of the flags can be asked for: home address, parent of temporary ones, without a route, joined as a multicast.
const ASKED_FOR: u32 = NOT_ASKED | 0x10 | 0x100 | 0x200 | 0x400;

/// Attributes of routes (linux/rtnetlink.h).
const ROUTE_NETWORK: u16 = 1;
const ROUTE_INTERFACE: u16 = 4;
const ROUTE_GATEWAY: u16 = 5;
const ROUTE_METRIC: u16 = 6;
const ROUTE_SOURCE: u16 = 7;
const ROUTE_TIMES: u16 = 12;
const ROUTE_TABLE: u16 = 15;
const ROUTE_GATEWAY_OF_OTHER_FAMILY: u16 = 18;
const ROUTE_EXPIRES: u16 = 23;
/// The same next hop as an object of its own, which goes with the interface.
const ROUTE_OBJECT: u16 = 30;
/// The table of the host's own addresses.
const LOCAL: u32 = 255;
/// Who makes routes that come by themselves: a redirect, the kernel, a router, a DHCP client.
const BY_THEMSELVES: [u8; 4] = [1, 2, 9, 16];
/// An ordinary route, and the last of the kinds that go to an interface: local, broadcast, anycast, multicast.
const UNICAST: u8 = 1;
const MULTICAST: u8 = 5;
/// Flags of a route: a copy that the kernel made for itself; the gateway is on the link whatever the addresses say.
const CLONED: u32 = 0x200;
const ON_LINK: u32 = 4;

/// Where the number of the interface is in a message about an address, and where its attributes begin.
const ADDRESS_INDEX: usize = 20;
const ADDRESS_ATTRIBUTES: usize = 24;
/// Where a route's attributes begin.
const ROUTE_ATTRIBUTES: usize = 28;

/// An address or a route as the kernel told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told(Vec<u8>);

impl Told {
    /// What was kept; none if it is neither an address nor a route.
    pub fn read(bytes: Vec<u8>) -> Option<Self> {
        let told = Self(bytes);
        let known = [ADDRESS, ROUTE].contains(&told.kind()) && told.shown().is_some();
        (known && word(&told.0, 0)? as usize == told.0.len()).then_some(told)
    }

    /// To be kept.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn kind(&self) -> u16 {
        self.0.get(4..6).map_or(0, |b| u16::from_ne_bytes([b[0], b[1]]))
    }

    fn is_address(&self) -> bool {
        self.kind() == ADDRESS
    }

    fn byte(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or_default()
    }

    fn value(&self, kind: u16) -> Option<&[u8]> {
        let start = if self.is_address() { ADDRESS_ATTRIBUTES } else { ROUTE_ATTRIBUTES };
        attributes(self.0.get(start..)?).find(|(k, _)| *k == kind).map(|(_, value)| value)
    }

    fn number(&self, kind: u16) -> Option<u32> {
        self.value(kind).and_then(number)
    }

    fn interface(&self) -> Option<u32> {
        if self.is_address() { word(&self.0, ADDRESS_INDEX) } else { self.number(ROUTE_INTERFACE) }
    }

    fn own_address(&self) -> Option<&[u8]> {
        let own = self.is_address().then(|| self.value(ADDRESS_LOCAL).or_else(|| self.value(ADDRESS_PEER)));
        own.flatten()
    }

    /// What one route of IPv4 is told from another by, unless they were added as further ones of the same.
    fn place(&self) -> Option<(u8, u8, u32, &[u8], u32)> {
        (!self.is_address() && !self.is_ipv6()).then(|| {
            let network = self.value(ROUTE_NETWORK).unwrap_or_default();
            let metric = self.number(ROUTE_METRIC).unwrap_or_default();
            (self.byte(17), self.byte(19), self.table(), network, metric)
        })
    }

    fn table(&self) -> u32 {
        self.number(ROUTE_TABLE).unwrap_or_else(|| u32::from(self.byte(20)))
    }

    fn is_ipv6(&self) -> bool {
        self.byte(16) == 10
    }

    fn address_flags(&self) -> u32 {
        self.number(ADDRESS_FLAGS).unwrap_or_else(|| u32::from(self.byte(18)))
    }

    /// Whether it is what the interface gets back.
    fn lasts(&self) -> bool {
        if !matches!(self.byte(16), 2 | 10) {
            return false;
        }
        if self.is_address() {
            return self.address_flags() & PERMANENT != 0
                && self.number(ADDRESS_ORIGIN).unwrap_or_default() == 0;
        }
        let flags = word(&self.0, 24).unwrap_or_default();
        // `struct rta_cacheinfo`.
        let expires = self.value(ROUTE_TIMES).and_then(|times| word(times, 8)).unwrap_or_default();
        let ends = expires != 0 || self.number(ROUTE_EXPIRES).unwrap_or_default() != 0;
        let by_itself = BY_THEMSELVES.contains(&self.byte(21));
        // In the table of the host's own addresses, older kernels call some of theirs ordinary ones of an administrator.
        let kind = self.byte(23);
        let is_kept =
            if self.table() == LOCAL { kind > UNICAST } else { kind >= UNICAST } && kind <= MULTICAST;
        is_kept && flags & CLONED == 0 && !ends && !by_itself
    }

    /// Routes without a gateway come first: gateways are reached by them.
    fn order(&self) -> (bool, bool) {
        let by_gateway =
            [ROUTE_GATEWAY, ROUTE_GATEWAY_OF_OTHER_FAMILY].iter().any(|k| self.value(*k).is_some());
        (!self.is_address(), !self.is_address() && by_gateway)
    }

    /// The same in words.
    fn shown(&self) -> Option<String> {
        let prefix = self.byte(17);
        let of = |kind| self.value(kind).and_then(address);
        if self.is_address() {
            let own = self.own_address().and_then(address)?;
            return Some(format!("address {own}/{prefix}"));
        }
        let nothing: IpAddr =
            if self.byte(16) == 2 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let by = of(ROUTE_GATEWAY).map(|gateway| format!(" by {gateway}")).unwrap_or_default();
        Some(format!("route to {}/{prefix}{by}", of(ROUTE_NETWORK).unwrap_or(nothing)))
    }

    /// Whether the host had it without a doubt: then nobody is asked again whether it is taken. While that is asked the
    /// kernel takes no route with it as the source.
    fn is_undoubted(&self) -> bool {
        self.is_address() && self.is_ipv6() && self.address_flags() & (IN_DOUBT | NOT_ASKED) == 0
    }

    /// What is asked for to have an address again, with these flags.
    fn address_request(&self, index: u32, flags: u32) -> Option<Vec<u8>> {
        let mut body = self.0.get(16..ADDRESS_ATTRIBUTES)?.to_vec();
        *body.get_mut(2)? = flags as u8;
        body.get_mut(4..8)?.copy_from_slice(&index.to_ne_bytes());
        for (kind, value) in attributes(self.0.get(ADDRESS_ATTRIBUTES..)?) {
            let flags = flags.to_ne_bytes();
            put(&mut body, kind, if kind == ADDRESS_FLAGS { &flags } else { value })?;
        }
        Some(body)
    }

    /// What is asked for to have it again, behind the header of a message.
    fn request(&self, index: u32) -> Option<Vec<u8>> {
        if self.is_address() {
            let surely = if self.is_undoubted() { NOT_ASKED } else { 0 };
            return self.address_request(index, self.address_flags() & ASKED_FOR | surely);
        }
        let mut body = self.0.get(16..ROUTE_ATTRIBUTES)?.to_vec();
        let flags = word(&body, 8)? & ON_LINK;
        body.get_mut(8..12)?.copy_from_slice(&flags.to_ne_bytes());
        for (kind, value) in attributes(self.0.get(ROUTE_ATTRIBUTES..)?) {
            let own = index.to_ne_bytes();
            let value = match kind {
                ROUTE_TIMES | ROUTE_OBJECT => continue,
                ROUTE_INTERFACE => &own[..],
                _ => value,
            };
            let nested = if kind == ROUTE_METRICS { NESTED } else { 0 };
            put(&mut body, kind | nested, value)?;
        }
        Some(body)
    }
}

/// Appends an attribute; nothing if it is too long.
fn put(body: &mut Vec<u8>, kind: u16, value: &[u8]) -> Option<()> {
    body.extend_from_slice(&u16::try_from(value.len() + 4).ok()?.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
    Some(())
}

/// An attribute that is more attributes: the mtu of a route and the like.
const ROUTE_METRICS: u16 = 8;
const NESTED: u16 = 1 << 15;

fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into()),
        _ => None,
    }
}

/// The addresses and routes that an interface of the caller's network namespace gets back when it has been away.
pub fn of_interface(netlink: &Netlink, index: u32) -> Result<Vec<Told>, Errno> {
    let mut all = netlink.addresses()?;
    all.extend(netlink.routes()?);
    let mut all: Vec<Told> = all.into_iter().map(Told).collect();
    all.retain(|told| told.interface() == Some(index) && told.lasts());
    all.sort_by_key(Told::order);
    Ok(all)
}

/// The routes of other interfaces that have one of an interface's addresses as their source: without the address the kernel
/// removes those of IPv4.
pub fn sourced(netlink: &Netlink, index: u32, own: &[Told]) -> Result<Vec<Told>, Errno> {
    let addresses: Vec<&[u8]> = own.iter().filter_map(Told::own_address).collect();
    let mut all: Vec<Told> = netlink.routes()?.into_iter().map(Told).collect();
    all.retain(|told| {
        let is_of_other = told.interface().is_some_and(|other| other != index);
        let source = told.value(ROUTE_SOURCE);
        is_of_other && told.lasts() && source.is_some_and(|source| addresses.contains(&source))
    });
    all.sort_by_key(Told::order);
    Ok(all)
}

/// Makes those what they were; answers what it cannot, one line each. `name` is that of the interface with the addresses.
pub fn give_sourced(netlink: &Netlink, name: &str, wanted: &[Told]) -> Vec<String> {
    let there: Vec<Told> = match netlink.routes() {
        Ok(there) => there.into_iter().map(Told).collect(),
        Err(e) => return vec![format!("cannot see which routes have an address of '{name}': {e}")],
    };
    let mut said = Vec::new();
    for told in wanted {
        let Some((index, body)) = told.interface().and_then(|index| Some((index, told.request(index)?)))
        else {
            continue;
        };
        let of_it = || there.iter().filter(|t| t.interface() == Some(index));
        if of_it().any(|t| t.request(index).as_ref() == Some(&body)) {
            continue;
        }
        if let Err(e) = netlink.make(told.kind(), &body) {
            let what = told.shown().unwrap_or_default();
            said.push(format!(
                "the {what} with an address of the interface '{name}' is not there again: {e}"
            ));
        }
    }
    said
}

/// Gives an interface its addresses again, or, if it is up, its routes; answers what it has not got, one line each.
pub fn give(netlink: &Netlink, (index, name): (u32, &str), wanted: &[Told], routes: bool) -> Vec<String> {
    let there = match of_interface(netlink, index) {
        Ok(there) => there,
        Err(e) => return vec![format!("cannot see what addresses and routes '{name}' has: {e}")],
    };
    let has = |told: &Told| there.iter().any(|t| t.request(0) == told.request(0));
    let mut said = Vec::new();
    let mut lost: Vec<&Told> = wanted.iter().filter(|t| t.is_address() != routes && !has(t)).collect();
    if !routes {
        // The kernel puts each new address of IPv6 before those that are there, and takes the first as a source.
        let (mut six, four): (Vec<&Told>, Vec<&Told>) = lost.into_iter().partition(|t| t.is_ipv6());
        six.reverse();
        lost = [four, six].concat();
    }
    let mut made: Vec<&Told> = wanted.iter().filter(|told| has(told)).collect();
    for told in lost {
        let Some(body) = told.request(index) else { continue };
        // Behind one of its own it was before. Behind that of another interface nobody would want it.
        let is_further = told.place().is_some_and(|place| made.iter().any(|m| m.place() == Some(place)));
        let done = match is_further {
            true => netlink.append(told.kind(), &body),
            false => netlink.make(told.kind(), &body),
        };
        match done {
            // One that is there with other flags is nobody else's; a route is another interface's.
            Err(Errno::EXIST) if told.is_address() => {}
            Err(e) => {
                let what = told.shown().unwrap_or_default();
                said.push(format!("the interface '{name}' has not got its {what} again: {e}"));
            }
            Ok(()) => made.push(told),
        }
    }
    said
}

/// Makes the addresses that [`give`] has given without a question ordinary ones, of which others are asked when the
/// interface is set up anew.
pub fn settle(netlink: &Netlink, index: u32, wanted: &[Told]) {
    for told in wanted.iter().filter(|told| told.is_undoubted()) {
        if let Some(body) = told.address_request(index, told.address_flags() & ASKED_FOR) {
            // It is there, and serves as it is.
            let _ = netlink.change(told.kind(), &body);
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn message(kind: u16, head: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; 16];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(head);
        for (kind, value) in attributes {
            bytes.extend_from_slice(&(value.len() as u16 + 4).to_ne_bytes());
            bytes.extend_from_slice(&kind.to_ne_bytes());
            bytes.extend_from_slice(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let length = bytes.len() as u32;
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes
    }

    #[test]
    fn what_comes_by_itself_is_left_to_that() {
        let address = |flags: u32| {
            let head = [2, 24, 0, 0, 7, 0, 0, 0];
            let flags = flags.to_ne_bytes();
            Told(message(ADDRESS, &head, &[(ADDRESS_LOCAL, &[192, 0, 2, 7]), (ADDRESS_FLAGS, &flags)]))
        };
        assert!(address(PERMANENT).lasts());
        assert!(!address(0).lasts(), "one of a DHCP client");
        assert_eq!(address(PERMANENT).interface(), Some(7));
        assert_eq!(address(PERMANENT).shown().as_deref(), Some("address 192.0.2.7/24"));
        let route = |protocol: u8, table: u8| {
            let head = [2, 0, 0, 0, table, protocol, 0, 1, 17, 0, 0, 0];
            let index = 7_u32.to_ne_bytes();
            Told(message(ROUTE, &head, &[(ROUTE_GATEWAY, &[192, 0, 2, 1]), (ROUTE_INTERFACE, &index)]))
        };
        assert!(route(3, 254).lasts() && route(4, 10).lasts());
        let of_kind = |kind: u8, protocol: u8, table: u8| {
            let index = 7_u32.to_ne_bytes();
            let head = [2, 8, 0, 0, table, protocol, 254, kind, 0, 0, 0, 0];
            Told(message(ROUTE, &head, &[(ROUTE_NETWORK, &[10, 0, 0, 0]), (ROUTE_INTERFACE, &index)])).lasts()
        };
        for kind in 1..=5 {
            assert!(of_kind(kind, 3, 77) && !of_kind(kind, 2, 77), "{kind}");
            assert_eq!(of_kind(kind, 3, 255), kind != UNICAST, "{kind}");
        }
        assert!(!of_kind(6, 3, 77), "a blackhole");
        assert!(!route(2, 254).lasts() && !route(9, 254).lasts() && !route(3, 255).lasts());
        assert_eq!(route(3, 254).shown().as_deref(), Some("route to 0.0.0.0/0 by 192.0.2.1"));
        // It is asked for over the interface as it is now, without what the kernel only tells.
        let body = route(3, 254).request(9).expect("a request");
        assert_eq!(word(&body, 8), Some(0));
        assert!(attributes(&body[12..]).any(|(k, v)| k == ROUTE_INTERFACE && number(v) == Some(9)));
        assert!(address(PERMANENT).order() < route(3, 254).order());
    }

    #[test]
    fn nobody_is_asked_again_for_an_address_without_a_doubt() {
        let address = |flags: u32| {
            let own = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
            let (head, flags) = ([10, 64, flags as u8, 0, 7, 0, 0, 0], flags.to_ne_bytes());
            Told(message(ADDRESS, &head, &[(ADDRESS_PEER, &own), (ADDRESS_FLAGS, &flags)]))
        };
        let asked_for = |flags: u32| {
            let body = address(flags).request(9).expect("a request");
            let long = attributes(&body[8..]).find(|(k, _)| *k == ADDRESS_FLAGS).and_then(|(_, v)| number(v));
            assert_eq!((Some(u32::from(body[2])), word(&body, 4)), (long.map(|l| l & 0xff), Some(9)));
            long
        };
        assert_eq!(asked_for(PERMANENT), Some(NOT_ASKED));
        assert_eq!(asked_for(PERMANENT | 0x200), Some(NOT_ASKED | 0x200));
        // One that is looked for, and one that another host has.
        assert_eq!((asked_for(PERMANENT | 0x40), asked_for(PERMANENT | 0x48)), (Some(0), Some(0)));
        assert!(!address(PERMANENT | NOT_ASKED).is_undoubted(), "it needs no settling");
    }

    #[test]
    fn what_was_kept_is_read_whatever_it_is() {
        let whole = message(ADDRESS, &[2, 24, 0, 0, 7, 0, 0, 0], &[(ADDRESS_LOCAL, &[192, 0, 2, 7])]);
        assert!(Told::read(whole.clone()).is_some());
        for length in 0..whole.len() {
            assert!(Told::read(whole[..length].to_vec()).is_none());
        }
        assert!(Told::read(message(16, &[0; 16], &[])).is_none(), "an interface");
    }

    #[test]
    fn the_kernel_tells_of_the_loopback_interface() {
        let netlink = Netlink::open().expect("a socket");
        let all = of_interface(&netlink, 1).expect("told");
        assert!(all.iter().all(|told| Told::read(told.bytes().to_vec()).is_some()));
    }
}
