//! Programs of the host that listen on its ports: what a forwarded port would take from them.
//!
//! Does not know what a network is.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use berth_domain::network::{PortForward, Protocol};

/// The first port that needs no privilege: ip(7).
const FIRST_FOR_ALL: u16 = 1024;

/// A socket that takes what anybody sends to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Listener {
    protocol: Protocol,
    address: IpAddr,
    port: u16,
    /// Number of its file.
    socket: Option<u64>,
}

/// Why some of these ports cannot be forwarded: the first whose connections a program of the host takes until now. Blocks.
///
/// A forward to one address goes before a program that listens on all of them: that is what the address is said for. `ours`
/// are sockets that are in nobody's way.
pub fn in_the_way(forwards: &[PortForward], ours: &HashSet<u64>) -> Option<String> {
    if forwards.is_empty() {
        return None;
    }
    let all: Vec<Listener> =
        listeners().into_iter().filter(|l| l.socket.is_none_or(|socket| !ours.contains(&socket))).collect();
    forwards.iter().find_map(|forward| {
        let first =
            all.iter().filter(|l| meets(forward, l) && is_taken(forward, l.port)).min_by_key(|l| l.port)?;
        let (port, protocol) = (first.port, first.protocol);
        let on =
            if first.address.is_unspecified() { String::new() } else { format!(" on {}", first.address) };
        let hint = if forward.one_host_address().is_none() {
            "; with a 'host-address' only that one is forwarded"
        } else {
            ""
        };
        Some(format!("port {port}/{protocol} cannot be forwarded: a program of the host listens{on}{hint}"))
    })
}

/// Whether a forward may take what comes to a listener.
fn meets(forward: &PortForward, listener: &Listener) -> bool {
    // Who asks a name server has a socket for the moment, anywhere. In a long row there may always be one.
    let row = forward.host_port < forward.last_host_port;
    if row && listener.protocol == Protocol::Udp && listener.port >= FIRST_FOR_ALL {
        return false;
    }
    let right_address = match (forward.one_host_address(), listener.address) {
        (Some(own), theirs) => own == theirs,
        // Who listens on all addresses of IPv6 may listen on those of IPv4 too.
        (None, theirs) => {
            theirs.is_ipv6() == forward.is_ipv6() || theirs == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        }
    };
    // No forward reaches the loopback address of IPv6.
    right_address
        && listener.address != IpAddr::V6(Ipv6Addr::LOCALHOST)
        && listener.protocol == forward.protocol
        && (forward.host_port..=forward.last_host_port).contains(&listener.port)
}

/// Whether the kernel would give nobody else the port. The table of sockets does not tell for which families one is. Where
/// we may not ask, it is right.
fn is_taken(forward: &PortForward, port: u16) -> bool {
    let any: IpAddr =
        if forward.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let address = SocketAddr::new(forward.one_host_address().unwrap_or(any), port);
    let tried = match forward.protocol {
        Protocol::Tcp => TcpListener::bind(address).map(drop),
        Protocol::Udp => UdpSocket::bind(address).map(drop),
    };
    tried.is_err_and(|e| e.kind() != ErrorKind::AddrNotAvailable)
}

/// All sockets that listen, in the network namespace of this thread: proc_net_tcp(5).
fn listeners() -> Vec<Listener> {
    let files =
        [("tcp", Protocol::Tcp), ("tcp6", Protocol::Tcp), ("udp", Protocol::Udp), ("udp6", Protocol::Udp)];
    let mut all = Vec::new();
    for (file, protocol) in files {
        // A kernel without IPv6 has no file for it.
        let Ok(text) = fs::read_to_string(format!("/proc/thread-self/net/{file}")) else { continue };
        all.extend(text.lines().skip(1).filter_map(|line| listener(line, protocol)));
    }
    all
}

/// One line: `sl local_address rem_address st queues timer retrnsmt uid timeout inode ...`. A UDP socket that is connected to somebody hears nobody else.
fn listener(line: &str, protocol: Protocol) -> Option<Listener> {
    const LISTEN: &str = "0A";
    const CLOSE: &str = "07";
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, _, state) = (fields.next()?, fields.next()?, fields.next()?);
    if state != (if protocol == Protocol::Tcp { LISTEN } else { CLOSE }) {
        return None;
    }
    let (address, port) = local.split_once(':')?;
    let socket = fields.nth(5).and_then(|number| number.parse().ok());
    Some(Listener {
        protocol,
        address: address_of(address)?,
        port: u16::from_str_radix(port, 16).ok()?,
        socket,
    })
}

/// Words of 32 bits as this host has them in memory, each as a number.
fn address_of(digits: &str) -> Option<IpAddr> {
    let mut bytes = Vec::new();
    for at in (0..digits.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(digits.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    match bytes.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        // A socket of IPv6 that is for one address of IPv4.
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical()),
        _ => None,
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn forward(protocol: Protocol, host_address: Option<&str>, ports: (u16, u16)) -> PortForward {
        PortForward {
            protocol,
            host_address: host_address.map(|a| a.parse().expect("an address")),
            host_port: ports.0,
            last_host_port: ports.1,
            guest: "web".into(),
            port: ports.0,
        }
    }

    #[test]
    fn lines_of_the_kernel() {
        let tcp = |line| listener(line, Protocol::Tcp).map(|l| (l.address.to_string(), l.port));
        let listens = "   0: 3500007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000 101 0 17 1 0 100 0 0 10 5";
        if cfg!(target_endian = "little") {
            assert_eq!(tcp(listens), Some(("127.0.0.53".to_owned(), 53)));
            assert_eq!(listener(listens, Protocol::Tcp).and_then(|l| l.socket), Some(17));
        }
        assert_eq!(tcp("   0: 00000000:0016 00000000:0000 0A 0"), Some(("0.0.0.0".to_owned(), 22)));
        let v6 = "   1: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0";
        assert_eq!(tcp(v6), Some(("::".to_owned(), 8080)));
        let connected = "   1: 0100007F:BC2C 0100007F:1F90 01 00000000:00000000";
        assert_eq!(tcp(connected), None);
        for odd in [
            "",
            "x",
            "  sl  local_address rem_address   st",
            "0: 00000000 0 0A",
            "0: 000:1 0 0A",
            "0: \u{e9}:1 0 0A",
        ] {
            assert_eq!(tcp(odd), None, "{odd:?}");
        }
        assert_eq!(listener("0: 00000000:0043 0:0 07 0", Protocol::Udp).map(|l| l.port), Some(67));
        assert_eq!(listener("0: 00000000:0043 0:0 01 0", Protocol::Udp), None);
    }

    #[test]
    fn who_listens_is_in_the_way() {
        let all = TcpListener::bind("0.0.0.0:0").expect("a port");
        let port = all.local_addr().expect("its address").port();
        let other = TcpListener::bind("127.0.0.9:0").expect("a port");
        let other_port = other.local_addr().expect("its address").port();
        let heard = UdpSocket::bind("127.0.0.9:0").expect("a port");
        let heard_port = heard.local_addr().expect("its address").port();
        let told = |f: PortForward| in_the_way(&[f], &HashSet::new());
        let row = (port.saturating_sub(1), port);
        let message = format!(
            "port {port}/tcp cannot be forwarded: a program of the host listens; with a 'host-address' only that one is forwarded"
        );
        assert_eq!(told(forward(Protocol::Tcp, None, (port, port))), Some(message));
        assert!(told(forward(Protocol::Tcp, None, row)).is_some());
        use std::os::fd::AsRawFd;
        let file = fs::read_link(format!("/proc/self/fd/{}", all.as_raw_fd())).expect("a socket");
        let number = file.to_string_lossy().chars().filter(char::is_ascii_digit).collect::<String>();
        let ours = HashSet::from([number.parse().expect("its number")]);
        assert_eq!(in_the_way(&[forward(Protocol::Tcp, None, (port, port))], &ours), None, "ours");
        // One address goes before all of them.
        assert_eq!(told(forward(Protocol::Tcp, Some("127.0.0.7"), (port, port))), None);
        assert_eq!(told(forward(Protocol::Tcp, Some("::"), (port, port))), None);
        let one = forward(Protocol::Tcp, Some("127.0.0.9"), (other_port, other_port));
        let message =
            format!("port {other_port}/tcp cannot be forwarded: a program of the host listens on 127.0.0.9");
        assert_eq!(told(one), Some(message));
        assert_eq!(told(forward(Protocol::Tcp, Some("127.0.0.8"), (other_port, other_port))), None);
        let udp = told(forward(Protocol::Udp, None, (heard_port, heard_port)));
        assert!(udp.is_some_and(|m| m.contains("listens on 127.0.0.9; with a 'host-address'")));
        assert_eq!(told(forward(Protocol::Udp, None, (heard_port - 1, heard_port))), None, "in a row");
        drop((all, other));
        assert_eq!(told(forward(Protocol::Tcp, None, (other_port, other_port))), None);
        // Those of IPv6 only are not in the way of IPv4; those of both are.
        let both = TcpListener::bind("[::]:0").expect("a port");
        let port = both.local_addr().expect("its address").port();
        assert!(told(forward(Protocol::Tcp, None, (port, port))).is_some());
        assert!(told(forward(Protocol::Tcp, Some("::"), (port, port))).is_some());
    }
}
