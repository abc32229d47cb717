//! The few words of rtnetlink(7) that interfaces of the host need: found, moved, set up, with addresses and routes.
//!
//! A socket speaks to the network namespace in which it was made. This module does not know whose that is.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// Kinds of messages.
const ERROR: u16 = 2;
const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;

/// Flags of a message: an answer is wanted; what is made must not be there.
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const CREATE: u16 = 0x400;
const EXCLUSIVE: u16 = 0x200;

/// Attributes.
const LINK_ADDRESS: u16 = 1;
const LINK_NAME: u16 = 3;
const LINK_NAMESPACE: u16 = 28;
const ADDRESS_PEER: u16 = 1;
const ADDRESS_LOCAL: u16 = 2;
const ADDRESS_BROADCAST: u16 = 4;
const ROUTE_NETWORK: u16 = 1;
const ROUTE_INTERFACE: u16 = 4;
const ROUTE_GATEWAY: u16 = 5;
const ROUTE_METRIC: u16 = 6;

/// The interface is up.
const UP: u32 = 1;

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
        let mut bytes = name.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(LINK_NAME, &bytes);
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
    fn ask(&self, mut message: Message) -> Result<Vec<u8>, Errno> {
        let length = message.0.len() as u32;
        message.0[..4].copy_from_slice(&length.to_ne_bytes());
        send(&self.0, &message.0, SendFlags::empty())?;
        let mut first = Vec::new();
        let mut buffer = vec![0; 32 * 1024];
        loop {
            let (length, _) = recv(&self.0, &mut buffer[..], RecvFlags::empty())?;
            let mut rest = &buffer[..length];
            while rest.len() >= 16 {
                let size = word(rest, 0).ok_or(Errno::PROTO)? as usize;
                let one = rest.get(..size).filter(|_| size >= 16).ok_or(Errno::PROTO)?;
                if u16::from_ne_bytes([one[4], one[5]]) == ERROR {
                    return match word(one, 16).ok_or(Errno::PROTO)? as i32 {
                        0 => Ok(first),
                        negative => Err(Errno::from_raw_os_error(negative.wrapping_neg())),
                    };
                }
                if first.is_empty() {
                    first = one.to_vec();
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
    pub fn set_hardware_address(&self, index: u32, mac: [u8; 6]) -> Result<(), Errno> {
        let mut message = Message::link(NEW_LINK, index, 0, 0);
        message.attribute(LINK_ADDRESS, &mac);
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

fn word(bytes: &[u8], at: usize) -> Option<u32> {
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
    }
}
