//! Connections that the kernel follows: it goes on with what its rules said of the first packet, whatever they say now. Here
//! it forgets those of forwarded ports that have come or gone.
//!
//! Does not know rules, nor who has changed them. Source: linux/netfilter/nfnetlink_conntrack.h,
//! linux/netfilter/nf_conntrack_common.h.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use berth_domain::network::{PortForward, Protocol};
use rtnetlink::packet_core::NlasIterator;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use rustix::io::Errno;

use super::rules::Resolved;
use crate::host::messages;

/// How long the kernel may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// More than the kernel puts into one message.
const LARGEST: usize = 1 << 16;
/// What comes before the attributes: family of addresses, version, a number.
const HEADER: usize = 4;
/// Of all messages of netlink.
const NETLINK_HEADER: u32 = 16;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;

/// `NFNL_SUBSYS_CTNETLINK` is the upper byte.
const CT_NEW: u16 = 0x100;
const CT_GET: u16 = 0x101;
const CT_DELETE: u16 = 0x102;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const NESTED: u16 = 1 << 15;

/// The destination was translated.
const IPS_DST_NAT: u32 = 1 << 5;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;

/// A connection.
#[derive(Debug, Clone, PartialEq)]
struct Connection {
    /// Family of its addresses.
    family: u8,
    protocol: Protocol,
    /// Who was asked.
    asked: (IpAddr, u16),
    /// Who answers.
    answers: (IpAddr, u16),
    /// Whether that is somebody else because rules say so.
    translated: bool,
    /// What the kernel knows it by, as it has said it: attributes.
    names: Vec<u8>,
}

/// Has the kernel forget the connections of forwarded ports that are `gone`, and of those of UDP that are `new`, which lead
/// to somebody else: who keeps sending is sent where the rules say now.
pub async fn settle(gone: &[Resolved], new: &[Resolved]) -> Result<(), String> {
    let new: Vec<&Resolved> = new.iter().filter(|r| r.forward.protocol == Protocol::Udp).collect();
    if gone.is_empty() && new.is_empty() {
        return Ok(());
    }
    let work = async {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
        socket.socket_mut().bind_auto()?;
        socket.socket_mut().connect(&SocketAddr::new(0, 0))?;
        let all = list(&mut socket).await?;
        let is_stale = |c: &&Connection| {
            gone.iter().any(|r| leads(r, c))
                || new.iter().any(|r| asks(&r.forward, c) && !leads(r, c) && is_local(c.asked.0))
        };
        for connection in all.iter().filter(is_stale) {
            forget(&mut socket, connection).await?;
        }
        Ok::<_, io::Error>(())
    };
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(e)) => Err(format!("cannot have the kernel forget connections of forwarded ports: {e}")),
        Err(_) => Err("the kernel did not tell its connections in time".into()),
    }
}

/// Whether a connection came about by a forward.
fn leads(Resolved { forward, address }: &Resolved, connection: &Connection) -> bool {
    let port = forward.port.wrapping_add(connection.asked.1.wrapping_sub(forward.host_port));
    connection.translated && asks(forward, connection) && connection.answers == (*address, port)
}

/// Whether a connection asks for the port of the host that a forward is about.
fn asks(forward: &PortForward, connection: &Connection) -> bool {
    let (address, port) = connection.asked;
    connection.protocol == forward.protocol
        && address.is_ipv6() == forward.is_ipv6()
        && (forward.host_port..=forward.last_host_port).contains(&port)
        && forward.one_host_address().is_none_or(|host| host == address)
}

/// Whether an address is the host's: the kernel lets nobody have a socket at another.
fn is_local(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// All connections of TCP and UDP.
async fn list(socket: &mut TokioSocket) -> io::Result<Vec<Connection>> {
    socket.send(&message(CT_GET, NLM_F_REQUEST | NLM_F_DUMP, 0, &[])).await?;
    let mut all = Vec::new();
    while !receive(socket, |payload| all.extend(connection(payload))).await? {}
    Ok(all)
}

/// One that is not there any more is no error.
async fn forget(socket: &mut TokioSocket, connection: &Connection) -> io::Result<()> {
    let flags = NLM_F_REQUEST | NLM_F_ACK;
    socket.send(&message(CT_DELETE, flags, connection.family, &connection.names)).await?;
    loop {
        match receive(socket, |_| {}).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(e) if e.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => return Ok(()),
            Err(e) => return Err(e),
        }
    }
}

/// Reads what the kernel has to say; whether that was all.
async fn receive(socket: &mut TokioSocket, mut hear: impl FnMut(&[u8])) -> io::Result<bool> {
    let mut buffer = Vec::with_capacity(LARGEST);
    socket.recv(&mut buffer).await?;
    for message in messages::in_bytes(&buffer) {
        let message = message.ok_or(io::ErrorKind::InvalidData)?;
        match message.message_type() {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let code = message.payload().first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                return if code == 0 { Ok(true) } else { Err(io::Error::from_raw_os_error(-code)) };
            }
            CT_NEW => hear(message.payload()),
            _ => {}
        }
    }
    Ok(false)
}

/// A message for the kernel.
fn message(kind: u16, flags: u16, family: u8, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + attributes.len()).unwrap_or(u32::MAX).saturating_add(NETLINK_HEADER);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // Neither a number of the message nor who sends it: nobody else is at the socket.
    bytes.extend([0; 8]);
    bytes.extend([family, 0, 0, 0]);
    bytes.extend(attributes);
    bytes
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = u16::try_from(4 + value.len()).unwrap_or(u16::MAX).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The values of some attributes.
fn values<const N: usize>(attributes: &[u8], kinds: [u16; N]) -> [Option<Vec<u8>>; N] {
    let all: Vec<(u16, Vec<u8>)> = NlasIterator::new(attributes)
        .filter_map(Result::ok)
        .map(|a| (a.kind(), a.value().to_vec()))
        .collect();
    kinds.map(|kind| all.iter().find(|(k, _)| *k == kind).map(|(_, value)| value.clone()))
}

/// Reads a message about a connection of TCP or UDP.
fn connection(payload: &[u8]) -> Option<Connection> {
    let (family, attributes) = (*payload.first()?, payload.get(HEADER..)?);
    let [original, reply, status, id, zone] =
        values(attributes, [CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_STATUS, CTA_ID, CTA_ZONE]);
    let original = original?;
    let (protocol, _, asked) = tuple(&original)?;
    let (_, answers, _) = tuple(&reply?)?;
    let mut names = attribute(CTA_TUPLE_ORIG | NESTED, &original);
    // Another one may have the same addresses by now.
    names.extend(id.into_iter().flat_map(|id| attribute(CTA_ID, &id)));
    names.extend(zone.into_iter().flat_map(|zone| attribute(CTA_ZONE, &zone)));
    let translated = u32::from_be_bytes(status?.try_into().ok()?) & IPS_DST_NAT != 0;
    Some(Connection { family, protocol, asked, answers, translated, names })
}

type End = (IpAddr, u16);

/// One direction of a connection: protocol, from where, to where.
fn tuple(attributes: &[u8]) -> Option<(Protocol, End, End)> {
    let [addresses, protocol] = values(attributes, [CTA_TUPLE_IP, CTA_TUPLE_PROTO]);
    let [v4_from, v4_to, v6_from, v6_to] = values(&addresses?, [1, 2, 3, 4]);
    let v4 = |bytes: Vec<u8>| Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)));
    let v6 = |bytes: Vec<u8>| Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)));
    let from = v4_from.and_then(v4).or_else(|| v6_from.and_then(v6))?;
    let to = v4_to.and_then(v4).or_else(|| v6_to.and_then(v6))?;
    let [number, from_port, to_port] =
        values(&protocol?, [CTA_PROTO_NUM, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT]);
    let protocol = match *number?.first()? {
        IPPROTO_TCP => Protocol::Tcp,
        IPPROTO_UDP => Protocol::Udp,
        _ => return None,
    };
    let port = |bytes: Vec<u8>| Some(u16::from_be_bytes(bytes.try_into().ok()?));
    Some((protocol, (from, port(from_port?)?), (to, port(to_port?)?)))
}

#[cfg(test)]
mod test {
    use super::*;

    fn end(text: &str) -> End {
        let address: std::net::SocketAddr = text.parse().expect("an address");
        (address.ip(), address.port())
    }

    fn direction(protocol: u8, from: &str, to: &str) -> Vec<u8> {
        let (from, to) = (end(from), end(to));
        let octets = |ip| match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let kinds = if from.0.is_ipv6() { (3, 4) } else { (1, 2) };
        let addresses = [attribute(kinds.0, &octets(from.0)), attribute(kinds.1, &octets(to.0))].concat();
        let ports = [
            attribute(CTA_PROTO_NUM, &[protocol]),
            attribute(CTA_PROTO_SRC_PORT, &from.1.to_be_bytes()),
            attribute(CTA_PROTO_DST_PORT, &to.1.to_be_bytes()),
        ];
        let parts = [
            attribute(CTA_TUPLE_IP | NESTED, &addresses),
            attribute(CTA_TUPLE_PROTO | NESTED, &ports.concat()),
        ];
        parts.concat()
    }

    /// One that `client` has begun by asking `asked`, and that `answers` answers.
    fn told(protocol: u8, client: &str, asked: &str, answers: &str) -> Vec<u8> {
        let status = if asked == answers { 0 } else { IPS_DST_NAT };
        let parts = [
            vec![if client.starts_with('[') { 10 } else { 2 }, 0, 0, 0],
            attribute(CTA_TUPLE_ORIG | NESTED, &direction(protocol, client, asked)),
            attribute(CTA_TUPLE_REPLY | NESTED, &direction(protocol, answers, client)),
            attribute(CTA_ID, &[1, 2, 3, 4]),
            attribute(CTA_STATUS, &status.to_be_bytes()),
        ];
        parts.concat()
    }

    fn forward(host_address: Option<&str>, ports: (u16, u16), guest: &str, port: u16) -> Resolved {
        let forward = PortForward {
            protocol: Protocol::Udp,
            host_address: host_address.map(|a| a.parse().expect("an address")),
            host_port: ports.0,
            last_host_port: ports.1,
            guest: "web".into(),
            port,
        };
        Resolved { forward, address: guest.parse().expect("an address") }
    }

    #[test]
    fn connections_are_read() {
        let (client, asked, answers) = ("192.0.2.9:5000", "192.0.2.1:7777", "10.0.0.5:53");
        let whole = told(IPPROTO_UDP, client, asked, answers);
        let read = connection(&whole).expect("a connection");
        assert_eq!((read.asked, read.answers, read.translated), (end(asked), end(answers), true));
        let names = attribute(CTA_TUPLE_ORIG | NESTED, &direction(IPPROTO_UDP, client, asked)).into_iter();
        assert_eq!(read.names, names.chain(attribute(CTA_ID, &[1, 2, 3, 4])).collect::<Vec<u8>>());
        assert_eq!(connection(&told(1, client, asked, answers)), None, "another protocol");
        for length in 0..whole.len() {
            assert_eq!(connection(&whole[..length]), None, "{length} bytes");
        }
        let six = told(IPPROTO_TCP, "[fd00::9]:5000", "[fd00::1]:80", "[fd00::1]:80");
        let six = connection(&six).expect("a connection");
        assert_eq!((six.asked, six.translated, six.family), (end("[fd00::1]:80"), false, 10));
    }

    #[test]
    fn who_came_by_a_forward_is_told_from_others() {
        let of = |asked: &str, answers: &str| {
            connection(&told(IPPROTO_UDP, "192.0.2.9:5000", asked, answers)).expect("a connection")
        };
        let one = forward(None, (7777, 7777), "10.0.0.5", 53);
        assert!(leads(&one, &of("192.0.2.1:7777", "10.0.0.5:53")));
        for (asked, answers) in [
            ("192.0.2.1:7777", "10.0.0.6:53"),
            ("192.0.2.1:7777", "10.0.0.5:54"),
            ("192.0.2.1:7778", "10.0.0.5:53"),
            ("192.0.2.1:7777", "192.0.2.1:7777"),
        ] {
            assert!(!leads(&one, &of(asked, answers)), "{asked} {answers}");
        }
        let row = forward(Some("192.0.2.1"), (8000, 8010), "10.0.0.5", 80);
        assert!(leads(&row, &of("192.0.2.1:8003", "10.0.0.5:83")));
        assert!(!leads(&row, &of("192.0.2.1:8003", "10.0.0.5:84")));
        assert!(!leads(&row, &of("192.0.2.2:8003", "10.0.0.5:83")));
        assert!(asks(&one.forward, &of("192.0.2.1:7777", "192.0.2.1:7777")));
        assert!(!asks(
            &forward(Some("::"), (7777, 7777), "fd00::5", 53).forward,
            &of("192.0.2.1:7777", "10.0.0.5:53")
        ));
        assert!(is_local(Ipv4Addr::LOCALHOST.into()) && !is_local(Ipv4Addr::new(192, 0, 2, 77).into()));
    }
}
