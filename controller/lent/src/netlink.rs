//! The few words of rtnetlink(7) that interfaces of the host need: found, moved, set up, with addresses and routes, and
//! made again what they were.
//!
//! A socket speaks to the network namespace in which it was made. This module does not know whose that is.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// Kinds of messages.
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
const NEW_QDISC: u16 = 36;
const GET_QDISC: u16 = 38;
const GET_NAMESPACE_NUMBER: u16 = 90;
const NEW_PROPERTIES: u16 = 108;
const DELETE_PROPERTIES: u16 = 109;

/// Flags of a message: an answer is wanted; what is made must not be there.
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const CREATE: u16 = 0x400;
const EXCLUSIVE: u16 = 0x200;
const REPLACE: u16 = 0x100;
const APPEND: u16 = 0x800;
const DUMP: u16 = 0x300;

/// Attributes.
const LINK_ADDRESS: u16 = 1;
const LINK_NAME: u16 = 3;
const LINK_BELOW: u16 = 5;
const LINK_MASTER: u16 = 10;
const LINK_INFO: u16 = 18;
const LINK_ALIAS: u16 = 20;
const LINK_NAMESPACE: u16 = 28;
const LINK_FILTER: u16 = 29;
const LINK_NAMESPACE_NUMBER: u16 = 37;
const LINK_XDP: u16 = 43;
const LINK_NAMESPACE_OF_TARGET: u16 = 46;
const LINK_PROPERTIES: u16 = 52;
const LINK_OTHER_NAME: u16 = 53;
const LINK_PERMANENT_ADDRESS: u16 = 54;
const LINK_PARENT: u16 = 56;
const INFO_KIND: u16 = 1;
const XDP_DESCRIPTOR: u16 = 1;
const XDP_ATTACHED: u16 = 2;
const XDP_FLAGS: u16 = 3;
const QDISC_KIND: u16 = 1;
const NAMESPACE_NUMBER: u16 = 1;
const NAMESPACE_DESCRIPTOR: u16 = 3;
const NAMESPACE_OF_TARGET: u16 = 4;
/// The value of an attribute is more attributes.
const NESTED: u16 = 1 << 15;
/// Of an interface's answer: without counters. Only with some filter the kernel makes room for all names of an interface.
const WITHOUT_COUNTERS: u32 = 8;
const ADDRESS_PEER: u16 = 1;
const ADDRESS_LOCAL: u16 = 2;
const ADDRESS_BROADCAST: u16 = 4;
const ROUTE_NETWORK: u16 = 1;
const ROUTE_INTERFACE: u16 = 4;
const ROUTE_GATEWAY: u16 = 5;
const ROUTE_METRIC: u16 = 6;

/// The interface is up.
pub const UP: u32 = 1;
/// Flags that root sets: no ARP, everything that passes, all multicasts, multicasts at all.
pub const SETTABLE: u32 = 0x80 | 0x100 | 0x200 | 0x1000;

/// The only one of [`NUMBERS`] that has one byte (IFLA_PROTO_DOWN of linux/if_link.h).
const PROTOCOL_DOWN: u16 = 39;

/// Settings of an interface that are one number each, and what they are called.
pub const NUMBERS: [(u16, &str); 9] = [
    (4, "mtu"),
    (13, "length of the transmit queue"),
    (27, "group"),
    (PROTOCOL_DOWN, "state of the protocol"),
    (40, "longest chain of segments (gso_max_segs)"),
    (41, "largest packet before segmentation (gso_max_size)"),
    (58, "largest packet that is put together (gro_max_size)"),
    (63, "largest packet before segmentation (gso_ipv4_max_size)"),
    (64, "largest packet that is put together (gro_ipv4_max_size)"),
];

/// How much is read at once: an interface may have 64 KiB of names. Memory that nothing is written to costs nothing.
const ANSWER: usize = 256 * 1024;
/// Bytes of names in one request. A list of attributes has 64 KiB at most.
const NAMES: usize = 32 * 1024;

/// What the kernel says of an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its flags.
    pub flags: u32,
    /// Its name.
    pub name: String,
    /// Its alternative names.
    pub other_names: Vec<Vec<u8>>,
    /// Its hardware address.
    pub address: Vec<u8>,
    /// What was written to its alias.
    pub alias: Vec<u8>,
    /// Which kind of virtual interface it is; nothing if it is a real one.
    pub kind: Vec<u8>,
    /// The address that its hardware came with.
    pub permanent: Vec<u8>,
    /// The device that it belongs to: only real ones have one.
    pub parent: Vec<u8>,
    /// Number of the interface below it, or of the other end of a pair.
    pub below: Option<u32>,
    /// In which network namespace that is, if it is another one.
    pub namespace: Option<u32>,
    /// The bridge and the like that it is in.
    pub master: Option<u32>,
    /// A program looks at its packets (XDP).
    pub has_program: bool,
    /// What [`NUMBERS`] are, where the kernel says so.
    pub numbers: [Option<u32>; NUMBERS.len()],
}

impl Link {
    /// Reads a message about an interface.
    pub fn read(message: &[u8]) -> Option<Self> {
        let mut link = Self { index: word(message, 20)?, flags: word(message, 24)?, ..Self::default() };
        for (kind, value) in attributes(message.get(32..)?) {
            match kind {
                LINK_ADDRESS => link.address = value.to_vec(),
                LINK_NAME => link.name = String::from_utf8_lossy(text(value)).into_owned(),
                LINK_BELOW => link.below = number(value),
                LINK_MASTER => link.master = number(value).filter(|master| *master != 0),
                LINK_ALIAS => link.alias = text(value).to_vec(),
                LINK_NAMESPACE_NUMBER => link.namespace = number(value),
                LINK_PERMANENT_ADDRESS => link.permanent = value.to_vec(),
                LINK_PARENT => link.parent = text(value).to_vec(),
                LINK_INFO => {
                    let found = attributes(value).find(|(kind, _)| *kind == INFO_KIND);
                    link.kind = found.map(|(_, value)| text(value).to_vec()).unwrap_or_default();
                }
                LINK_XDP => {
                    link.has_program = attributes(value)
                        .any(|(kind, value)| kind == XDP_ATTACHED && value.first() != Some(&0));
                }
                LINK_PROPERTIES => {
                    let names = attributes(value).filter(|(kind, _)| *kind == LINK_OTHER_NAME);
                    link.other_names = names.map(|(_, value)| text(value).to_vec()).collect();
                }
                _ => {
                    if let Some(at) = NUMBERS.iter().position(|(known, _)| *known == kind) {
                        link.numbers[at] = number(value);
                    }
                }
            }
        }
        Some(link)
    }
}

/// The attributes in a part of a message.
pub(crate) fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?) & !NESTED;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A number of one or four bytes.
pub(crate) fn number(value: &[u8]) -> Option<u32> {
    match value {
        [byte] => Some(u32::from(*byte)),
        value => word(value, 0),
    }
}

/// A text without the zero at its end.
fn text(value: &[u8]) -> &[u8] {
    value.strip_suffix(b"\0").unwrap_or(value)
}

/// One request, in the order of the machine's bytes as all of it.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = vec![0; 16];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | REQUEST | ACK).to_ne_bytes());
        Self(bytes)
    }

    /// `struct ifinfomsg`.
    fn link(kind: u16, index: u32, flags: u32, change: u32) -> Self {
        let mut message = Self::new(kind, 0);
        message.put(&[0; 4]);
        for word in [index, flags, change] {
            message.put(&word.to_ne_bytes());
        }
        message
    }

    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = value.len() as u16 + 4;
        self.put(&length.to_ne_bytes());
        self.put(&kind.to_ne_bytes());
        self.put(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn address(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.attribute(kind, &v4.octets()),
            IpAddr::V6(v6) => self.attribute(kind, &v6.octets()),
        }
    }

    fn name(&mut self, name: &str) {
        self.text(LINK_NAME, name.as_bytes());
    }

    fn text(&mut self, kind: u16, text: &[u8]) {
        self.attribute(kind, &[text, b"\0"].concat());
    }

    /// An attribute that is more attributes.
    fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self(Vec::new());
        fill(&mut inner);
        self.attribute(kind | NESTED, &inner.0);
    }
}

/// `AF_INET` or `AF_INET6`.
fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AddressFamily::INET.as_raw() as u8 } else { AddressFamily::INET6.as_raw() as u8 }
}

/// A conversation with one network namespace.
#[derive(Debug)]
pub struct Netlink(OwnedFd);

impl Netlink {
    /// With the one that the calling thread is in.
    pub fn open() -> Result<Self, Errno> {
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None).map(Self)
    }

    /// Sends a request and reads up to its acknowledgement; answers the first thing that came before.
    fn ask(&self, message: Message) -> Result<Vec<u8>, Errno> {
        let mut first = None;
        self.ask_each(message, &mut |one| {
            first.get_or_insert_with(|| one.to_vec());
        })?;
        Ok(first.unwrap_or_default())
    }

    /// The same, with all that came before.
    fn ask_each(&self, mut message: Message, each: &mut dyn FnMut(&[u8])) -> Result<(), Errno> {
        let length = message.0.len() as u32;
        message.0[..4].copy_from_slice(&length.to_ne_bytes());
        send(&self.0, &message.0, SendFlags::empty())?;
        let mut buffer = vec![0; ANSWER];
        loop {
            let (length, _) = recv(&self.0, &mut buffer[..], RecvFlags::empty())?;
            let mut rest = &buffer[..length];
            while rest.len() >= 16 {
                let size = word(rest, 0).ok_or(Errno::PROTO)? as usize;
                let one = rest.get(..size).filter(|_| size >= 16).ok_or(Errno::PROTO)?;
                match u16::from_ne_bytes([one[4], one[5]]) {
                    ERROR | DONE => {
                        return match word(one, 16).unwrap_or_default() as i32 {
                            0 => Ok(()),
                            negative => Err(Errno::from_raw_os_error(negative.wrapping_neg())),
                        };
                    }
                    _ => each(one),
                }
                rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }

    /// Number of the interface with a name.
    pub fn index(&self, name: &str) -> Result<u32, Errno> {
        let mut message = Message::new(GET_LINK, 0);
        message.put(&[0; 16]);
        message.name(name);
        let answer = self.ask(message)?;
        word(&answer, 20).filter(|index| *index != 0).ok_or(Errno::NODEV)
    }

    /// What the interface of a number is.
    pub fn link(&self, index: u32) -> Result<Link, Errno> {
        Link::read(&self.told_of(index)?).ok_or(Errno::PROTO)
    }

    /// The same as the kernel tells it.
    pub fn told_of(&self, index: u32) -> Result<Vec<u8>, Errno> {
        let mut message = Message::link(GET_LINK, index, 0, 0);
        message.attribute(LINK_FILTER, &WITHOUT_COUNTERS.to_ne_bytes());
        self.ask(message)
    }

    /// The same of one in the network namespace that has a number here, if the caller may look into that. What it tells of
    /// other namespaces are their numbers here.
    pub fn link_in(&self, namespace: Option<u32>, index: u32) -> Result<Link, Errno> {
        let Some(namespace) = namespace else { return self.link(index) };
        let mut message = Message::link(GET_LINK, index, 0, 0);
        message.attribute(LINK_NAMESPACE_OF_TARGET, &namespace.to_ne_bytes());
        Link::read(&self.ask(message)?).ok_or(Errno::PROTO)
    }

    /// All addresses, as the kernel tells them.
    pub fn addresses(&self) -> Result<Vec<Vec<u8>>, Errno> {
        self.all(GET_ADDRESS, NEW_ADDRESS, 8)
    }

    /// All routes of both families, as the kernel tells them.
    pub fn routes(&self) -> Result<Vec<Vec<u8>>, Errno> {
        self.all(GET_ROUTE, NEW_ROUTE, 12)
    }

    fn all(&self, kind: u16, answer: u16, header: usize) -> Result<Vec<Vec<u8>>, Errno> {
        let mut all = Vec::new();
        for family in [AddressFamily::INET, AddressFamily::INET6] {
            let mut message = Message::new(kind, DUMP);
            message.put(&[family.as_raw() as u8]);
            message.put(&vec![0; header - 1]);
            let asked = self.ask_each(message, &mut |one| {
                if one[4..6] == answer.to_ne_bytes() {
                    all.push(one.to_vec());
                }
            });
            match asked {
                // A kernel without IPv6.
                Err(Errno::OPNOTSUPP | Errno::AFNOSUPPORT) => {}
                done => done?,
            }
        }
        Ok(all)
    }

    /// Kind and place of what packets of an interface wait in: all qdiscs.
    pub fn qdiscs(&self, index: u32) -> Result<Vec<(String, u32)>, Errno> {
        let mut message = Message::new(GET_QDISC, DUMP);
        // `struct tcmsg`.
        message.put(&[0; 4]);
        message.put(&index.to_ne_bytes());
        message.put(&[0; 12]);
        let mut all = Vec::new();
        self.ask_each(message, &mut |one| {
            let kind = attributes(one.get(36..).unwrap_or_default()).find(|(kind, _)| *kind == QDISC_KIND);
            if one[4..6] == NEW_QDISC.to_ne_bytes()
                && word(one, 20) == Some(index)
                && let (Some((_, kind)), Some(place)) = (kind, word(one, 28))
            {
                all.push((String::from_utf8_lossy(text(kind)).into_owned(), place));
            }
        })?;
        Ok(all)
    }

    /// Makes an address or a route of what is behind the header of a message.
    pub fn make(&self, kind: u16, body: &[u8]) -> Result<(), Errno> {
        let mut message = Message::new(kind, CREATE | EXCLUSIVE);
        message.put(body);
        self.ask(message).map(drop)
    }

    /// Makes a route of what is behind the header of a message, behind others to the same destination.
    pub fn append(&self, kind: u16, body: &[u8]) -> Result<(), Errno> {
        let mut message = Message::new(kind, CREATE | APPEND);
        message.put(body);
        self.ask(message).map(drop)
    }

    /// Makes an address or a route that is there what is behind the header of a message.
    pub fn change(&self, kind: u16, body: &[u8]) -> Result<(), Errno> {
        let mut message = Message::new(kind, REPLACE);
        message.put(body);
        self.ask(message).map(drop)
    }

    /// All interfaces.
    pub fn links(&self) -> Result<Vec<Link>, Errno> {
        let mut message = Message::new(GET_LINK, DUMP);
        message.put(&[0; 16]);
        message.attribute(LINK_FILTER, &WITHOUT_COUNTERS.to_ne_bytes());
        let mut links = Vec::new();
        self.ask_each(message, &mut |one| links.extend(Link::read(one)))?;
        Ok(links)
    }

    /// The number that another network namespace has here, if it has one.
    pub fn number_of(&self, namespace: BorrowedFd<'_>) -> Result<Option<u32>, Errno> {
        self.ask_number(NAMESPACE_DESCRIPTOR, namespace.as_raw_fd() as u32, None)
    }

    /// The number that the network namespace which has one here has in another one, which has the number `target` here.
    pub fn number_in(&self, namespace: u32, target: u32) -> Result<Option<u32>, Errno> {
        self.ask_number(NAMESPACE_NUMBER, namespace, Some(target))
    }

    fn ask_number(&self, what: u16, which: u32, target: Option<u32>) -> Result<Option<u32>, Errno> {
        let mut message = Message::new(GET_NAMESPACE_NUMBER, 0);
        message.put(&[0; 4]);
        message.attribute(what, &which.to_ne_bytes());
        if let Some(target) = target {
            message.attribute(NAMESPACE_OF_TARGET, &target.to_ne_bytes());
        }
        let answer = self.ask(message)?;
        let found =
            attributes(answer.get(20..).unwrap_or_default()).find(|(kind, _)| *kind == NAMESPACE_NUMBER);
        // None is -1.
        Ok(found.and_then(|(_, value)| number(value)).filter(|number| *number != u32::MAX))
    }

    /// Moves an interface to another network namespace under the name that it has. It is down there.
    pub fn move_as_it_is(&self, index: u32, namespace: BorrowedFd<'_>) -> Result<(), Errno> {
        let mut message = Message::link(NEW_LINK, index, 0, 0);
        message.attribute(LINK_NAMESPACE, &namespace.as_raw_fd().to_ne_bytes());
        self.ask(message).map(drop)
    }

    /// Gives an interface another name. One that is up may keep its own.
    pub fn rename(&self, index: u32, name: &str) -> Result<(), Errno> {
        let mut message = Message::link(NEW_LINK, index, 0, 0);
        message.name(name);
        self.ask(message).map(drop)
    }

    /// Gives an interface one of [`NUMBERS`].
    pub fn set_number(&self, index: u32, which: u16, value: u32) -> Result<(), Errno> {
        let mut message = Message::link(NEW_LINK, index, 0, 0);
        let bytes = value.to_ne_bytes();
        message.attribute(which, if which == PROTOCOL_DOWN { &bytes[..1] } else { &bytes });
        self.ask(message).map(drop)
    }

    /// Gives an interface an alias; an empty one takes it away.
    pub fn set_alias(&self, index: u32, alias: &[u8]) -> Result<(), Errno> {
        let mut message = Message::link(NEW_LINK, index, 0, 0);
        message.text(LINK_ALIAS, alias);
        self.ask(message).map(drop)
    }

    /// Makes all flags that root sets what they are in `flags`.
    pub fn set_flags(&self, index: u32, flags: u32) -> Result<(), Errno> {
        self.ask(Message::link(NEW_LINK, index, flags & SETTABLE, SETTABLE)).map(drop)
    }

    /// Takes an interface out of its bridge and the like.
    pub fn leave_master(&self, index: u32) -> Result<(), Errno> {
        let mut message = Message::link(NEW_LINK, index, 0, 0);
        message.attribute(LINK_MASTER, &0_u32.to_ne_bytes());
        self.ask(message).map(drop)
    }

    /// Takes the program away that looks at an interface's packets, in each of the ways to attach one.
    pub fn remove_program(&self, index: u32) {
        for way in [2_u32, 4, 8] {
            let mut message = Message::link(NEW_LINK, index, 0, 0);
            message.nested(LINK_XDP, |xdp| {
                xdp.attribute(XDP_DESCRIPTOR, &(-1_i32).to_ne_bytes());
                xdp.attribute(XDP_FLAGS, &way.to_ne_bytes());
            });
            // Whether it is gone is looked at afterwards.
            let _ = self.ask(message);
        }
    }

    /// Gives an interface an alternative name.
    pub fn add_name(&self, index: u32, name: &[u8]) -> Result<(), Errno> {
        self.names(NEW_PROPERTIES, CREATE | EXCLUSIVE, index, &[name])
    }

    /// Takes alternative names away.
    pub fn remove_names(&self, index: u32, names: &[Vec<u8>]) -> Result<(), Errno> {
        let mut rest = names;
        while !rest.is_empty() {
            let mut size = 0;
            let fits = rest.iter().take_while(|name| {
                size += name.len() + 8;
                size <= NAMES
            });
            let (some, others) = rest.split_at(fits.count().max(1));
            let some: Vec<&[u8]> = some.iter().map(Vec::as_slice).collect();
            self.names(DELETE_PROPERTIES, 0, index, &some)?;
            rest = others;
        }
        Ok(())
    }

    fn names(&self, kind: u16, flags: u16, index: u32, names: &[&[u8]]) -> Result<(), Errno> {
        let mut message = Message::new(kind, flags);
        message.put(&[0; 4]);
        for word in [index, 0, 0] {
            message.put(&word.to_ne_bytes());
        }
        message.nested(LINK_PROPERTIES, |list| {
            names.iter().for_each(|name| list.text(LINK_OTHER_NAME, name));
        });
        self.ask(message).map(drop)
    }

    /// Moves an interface to another network namespace, where it gets this name. It is down there.
    pub fn move_to(&self, index: u32, name: &str, namespace: BorrowedFd<'_>) -> Result<(), Errno> {
        let mut message = Message::link(NEW_LINK, index, 0, 0);
        message.name(name);
        message.attribute(LINK_NAMESPACE, &namespace.as_raw_fd().to_ne_bytes());
        self.ask(message).map(drop)
    }

    /// Sets an interface up or down.
    pub fn set_up(&self, index: u32, up: bool) -> Result<(), Errno> {
        self.ask(Message::link(NEW_LINK, index, if up { UP } else { 0 }, UP)).map(drop)
    }

    /// Gives an interface a hardware address.
    pub fn set_hardware_address(&self, index: u32, mac: &[u8]) -> Result<(), Errno> {
        let mut message = Message::link(NEW_LINK, index, 0, 0);
        message.attribute(LINK_ADDRESS, mac);
        self.ask(message).map(drop)
    }

    /// Removes an interface; of a pair, both.
    pub fn remove(&self, index: u32) -> Result<(), Errno> {
        self.ask(Message::link(DELETE_LINK, index, 0, 0)).map(drop)
    }

    /// Gives an interface an address.
    pub fn add_address(
        &self,
        index: u32,
        local: IpAddr,
        prefix: u8,
        peer: Option<IpAddr>,
    ) -> Result<(), Errno> {
        let mut message = Message::new(NEW_ADDRESS, CREATE | EXCLUSIVE);
        message.put(&[family(local), prefix, 0, 0]);
        message.put(&index.to_ne_bytes());
        message.address(ADDRESS_LOCAL, local);
        message.address(ADDRESS_PEER, peer.unwrap_or(local));
        if let (IpAddr::V4(v4), None, 0..=30) = (local, peer, prefix) {
            let host = u32::MAX >> prefix;
            message.attribute(ADDRESS_BROADCAST, &(v4.to_bits() | host).to_be_bytes());
        }
        self.ask(message).map(drop)
    }

    /// Adds a route through an interface and a gateway to the main table.
    pub fn add_route(
        &self,
        index: u32,
        network: IpAddr,
        prefix: u8,
        gateway: IpAddr,
        metric: Option<u32>,
    ) -> Result<(), Errno> {
        let mut message = Message::new(NEW_ROUTE, CREATE | EXCLUSIVE);
        // `struct rtmsg`: table 254 is "main", protocol 4 "static", scope 0 the world, kind 1 an ordinary one.
        message.put(&[family(network), prefix, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0]);
        if prefix > 0 {
            message.address(ROUTE_NETWORK, network);
        }
        message.address(ROUTE_GATEWAY, gateway);
        message.attribute(ROUTE_INTERFACE, &index.to_ne_bytes());
        if let Some(metric) = metric {
            message.attribute(ROUTE_METRIC, &metric.to_ne_bytes());
        }
        self.ask(message).map(drop)
    }
}

pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn messages_are_laid_out_as_the_kernel_reads_them() {
        let mut message = Message::link(NEW_LINK, 7, UP, UP);
        message.name("eth0");
        assert_eq!(message.0.len(), 16 + 16 + 12);
        assert_eq!(word(&message.0, 20), Some(7));
        assert_eq!(message.0[32..34], 9_u16.to_ne_bytes());
        assert_eq!(&message.0[36..44], b"eth0\0\0\0\0");
    }

    #[test]
    fn the_kernel_answers() {
        let netlink = Netlink::open().expect("a socket");
        assert_eq!(netlink.index("lo"), Ok(1));
        assert_eq!(netlink.index("no-such"), Err(Errno::NODEV));
        let lo = netlink.link(1).expect("the loopback interface");
        assert_eq!((lo.name.as_str(), lo.index), ("lo", 1));
        assert_eq!(lo.address, [0; 6]);
        assert!(lo.numbers[0].is_some_and(|mtu| mtu > 0) && lo.kind.is_empty());
        assert!(netlink.links().expect("all").contains(&lo));
    }

    #[test]
    fn what_the_kernel_says_is_read_whatever_it_is() {
        let mut message = Message::link(NEW_LINK, 7, UP, 0);
        message.name("eth0");
        message.text(LINK_ALIAS, b"mine");
        message.attribute(4, &1400_u32.to_ne_bytes());
        message.nested(LINK_INFO, |info| info.text(INFO_KIND, b"veth"));
        message.nested(LINK_PROPERTIES, |list| {
            list.text(LINK_OTHER_NAME, b"one");
            list.text(LINK_OTHER_NAME, b"two");
        });
        let link = Link::read(&message.0).expect("an interface");
        assert_eq!((link.name.as_str(), link.index, link.flags), ("eth0", 7, UP));
        assert_eq!((link.alias, link.kind), (b"mine".to_vec(), b"veth".to_vec()));
        assert_eq!(link.other_names, [b"one".to_vec(), b"two".to_vec()]);
        assert_eq!(link.numbers[0], Some(1400));
        for length in 0..message.0.len() {
            // The end of an attribute that is cut off is no part of anything.
            assert_eq!(Link::read(&message.0[..length]).is_some(), length >= 32);
        }
    }
}
