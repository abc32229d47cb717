//! Names that guests give themselves, and those that the network's server has from its document.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddrV6, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use berth_tests::daemon::Daemon;
use berth_tests::host::in_own_network;
use berth_tests::lab::{Machine, run};
use berth_tests::roots;
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq};

use super::define;

pub const TESTS: &[Test] = &[
    ("networks::some_names_are_no_guests", || in_own_network(nobodys)),
    ("networks::texts_are_told_as_they_are", || in_own_network(texts)),
];

/// One option of DHCPv6.
fn option(code: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap_or_default();
    [&code.to_be_bytes(), &length.to_be_bytes(), data].concat()
}

/// The data of an option in what a server of DHCPv6 says.
fn find(options: &[u8], wanted: u16) -> Option<&[u8]> {
    let (head, rest) = options.split_at_checked(4)?;
    let (data, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([head[2], head[3]])))?;
    if u16::from_be_bytes([head[0], head[1]]) == wanted { Some(data) } else { find(rest, wanted) }
}

/// Sends a message of DHCPv6 until it is answered; the options of the answer.
fn say_v6(socket: &UdpSocket, index: u32, kind: u8, options: &[u8]) -> Result<Vec<u8>, String> {
    let to = SocketAddrV6::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2), 547, 0, index);
    let head = [kind, 7, 7, kind];
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut buffer = [0; 2048];
    while Instant::now() < deadline {
        // The address of the link may not be ready yet.
        let _ = socket.send_to(&[&head, options].concat(), to);
        if let Ok(length) = socket.recv(&mut buffer)
            && buffer[1..4] == head[1..]
        {
            return Ok(buffer[4..length].to_vec());
        }
    }
    Err("no answer by DHCPv6".into())
}

/// Has itself given an address of IPv6 as somebody who is called so.
fn asks_v6(machine: &Machine, number: u8, name: &str) -> Result<Ipv6Addr, String> {
    let labels = name.split('.').flat_map(|l| [&[u8::try_from(l.len()).unwrap_or(0)], l.as_bytes()].concat());
    let end: &[u8] = if name.contains('.') { &[0] } else { &[] };
    let fqdn = [vec![0], labels.collect(), end.to_vec()].concat();
    let link = machine.run(&["ip", "-o", "link", "show", "eth0"])?;
    let index: u32 = link.split(':').next().and_then(|n| n.parse().ok()).ok_or("no number of the link")?;
    let client = option(1, &[0, 3, 0, 1, 0x52, 0x54, 0, 0, 6, number]);
    machine.inside(move || {
        let socket = UdpSocket::bind(("::", 546)).map_err(|e| e.to_string())?;
        socket.set_read_timeout(Some(Duration::from_millis(300))).map_err(|e| e.to_string())?;
        let identity = [0, 0, 0, number, 0, 0, 0, 0, 0, 0, 0, 0];
        let own = [client, option(39, &fqdn)].concat();
        let offer = say_v6(&socket, index, 1, &[own.clone(), option(3, &identity)].concat())?;
        let server = find(&offer, 2).ok_or("no server")?;
        let given = find(&offer, 3).ok_or("no address")?;
        let answer = say_v6(&socket, index, 3, &[own, option(2, server), option(3, given)].concat())?;
        let given = find(&answer, 3).and_then(|g| find(g.get(12..)?, 5)?.first_chunk::<16>());
        given.map(|a| Ipv6Addr::from(*a)).ok_or_else(|| "no address".to_owned())
    })
}

/// Has itself given an address as somebody who is called so.
fn asks(machine: &Machine, how: &[&str]) -> Outcome {
    let busybox = roots::busybox().ok_or("no busybox")?.to_string_lossy().into_owned();
    let words =
        [&busybox, "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "10", "-T", "1", "-s", "/bin/true"];
    machine.run(&[&words[..], how].concat()).map(drop)
}

/// The addresses that a name has.
fn looks_up(machine: &Machine, name: &str) -> Result<Vec<String>, String> {
    let busybox = roots::busybox().ok_or("no busybox")?.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for kind in ["-type=a", "-type=aaaa"] {
        // It fails where there is none.
        let script = format!("{busybox} nslookup {kind} {name} 10.7.0.1 || true");
        let text = machine.run(&["sh", "-c", &script])?;
        let lines = text.lines().skip_while(|l| !l.starts_with("Name:"));
        found.extend(lines.filter_map(|l| l.strip_prefix("Address: ")).map(str::to_owned));
    }
    Ok(found)
}

/// Whoever calls itself so, by whatever way, gets an address and no name.
fn nobodys() -> Outcome {
    let daemon = Daemon::start()?;
    let inner = "<bridge name='lan0'/><domain name='lan.test' localOnly='yes'/><ip address='10.7.0.1' prefix='24'><dhcp>\
                 <range start='10.7.0.10' end='10.7.0.90'/></dhcp></ip>\
                 <ip family='ipv6' address='fd00:7::1' prefix='64'><dhcp><range start='fd00:7::10' end='fd00:7::90'/>\
                 </dhcp></ip>";
    define(&daemon, "lan", inner)?;
    daemon.ok(&["net-start", "lan"])?;
    let guest = Machine::new()?;
    guest.cable("ga", "eth0")?;
    run(&["ip", "link", "set", "ga", "master", "lan0"])?;
    guest.run(&["ip", "addr", "add", "10.7.0.5/24", "dev", "eth0"])?;
    let mut number = 0;
    let mut called = |name: &str| -> Outcome {
        let full = format!("{name}.lan.test");
        asks(&guest, &["-x", &format!("hostname:{name}")])?;
        asks(&guest, &["-x", &format!("hostname:{full}")])?;
        asks(&guest, &["-F", name])?;
        asks(&guest, &["-F", &full])?;
        for name in [name, &full, &format!("{name}.elsewhere.test")] {
            number += 1;
            asks_v6(&guest, number, name)?;
        }
        Ok(())
    };
    for name in ["wpad", "WPAD", "localhost", "isatap", "invalid"] {
        called(name)?;
        let full = looks_up(&guest, &format!("{name}.lan.test"))?;
        ensure_eq!(full, Vec::<String>::new(), "{name} with the domain");
        let alone = looks_up(&guest, name)?;
        let expected: &[&str] = if name == "localhost" { &["127.0.0.1", "::1"] } else { &[] };
        ensure_eq!(alone, expected, "{name}");
    }
    // It is not that nobody has a name.
    called("wpads")?;
    for name in ["wpads", "wpads.lan.test"] {
        let found = looks_up(&guest, name)?;
        ensure!(found.iter().any(|a| a.starts_with("10.7.0.")), "{name}: {found:?}");
        ensure!(found.iter().any(|a| a.starts_with("fd00:7::")), "{name}: {found:?}");
    }
    daemon.ok(&["net-destroy", "lan"]).map(drop)
}

/// The text of a name, asked for by TCP as it may be long.
fn text_of(name: &str) -> Result<String, String> {
    let labels = name.split('.').flat_map(|l| [&[u8::try_from(l.len()).unwrap_or(0)], l.as_bytes()].concat());
    let head = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let question = [&head[..], &labels.collect::<Vec<u8>>(), &[0, 0, 16, 0, 1]].concat();
    let length = u16::try_from(question.len()).unwrap_or_default().to_be_bytes();
    let mut stream = TcpStream::connect(("10.7.0.1", 53)).map_err(|e| e.to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(|e| e.to_string())?;
    stream.write_all(&[&length[..], &question].concat()).map_err(|e| e.to_string())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).map_err(|e| e.to_string())?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).map_err(|e| e.to_string())?;
    // The name, type, class, time and length; then strings of 255 bytes at most.
    let mut strings = answer.get(question.len() + 12..).ok_or("no record")?;
    let mut text = Vec::new();
    while let Some((length, rest)) = strings.split_first() {
        let (string, rest) = rest.split_at_checked(usize::from(*length)).ok_or("half a string")?;
        text.extend_from_slice(string);
        strings = rest;
    }
    String::from_utf8(text).map_err(|e| e.to_string())
}

fn texts() -> Outcome {
    let daemon = Daemon::start()?;
    let path = r"C:\temp\new \\srv\share";
    let quoted = r#"say "hi", then \" # end\"#;
    let long = "x".repeat(990);
    let txt =
        |name: &str, value: &str| format!("<txt name='{name}' value='{}'/>", value.replace('"', "&quot;"));
    let records = [txt("p.test", path), txt("q.test", quoted), txt("l.test", &long)].concat();
    define(
        &daemon,
        "lan",
        &format!("<bridge name='lan0'/><dns>{records}</dns><ip address='10.7.0.1' prefix='24'/>"),
    )?;
    daemon.ok(&["net-start", "lan"])?;
    ensure_eq!(text_of("p.test")?, path, "backslashes");
    ensure_eq!(text_of("q.test")?, quoted, "quotes");
    ensure_eq!(text_of("l.test")?, long, "a long one");
    daemon.ok(&["net-destroy", "lan"]).map(drop)
}
