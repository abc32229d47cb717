//! What the process was given: capabilities over the host, descriptors, environment; and sockets.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

use crate::verdict::{Verdict, check};

/// Capabilities that in the first user namespace mean power over the host.
const CAPABILITIES: &[(&str, u32)] = &[
    ("dac_read_search", 2),
    ("net_admin", 12),
    ("sys_module", 16),
    ("sys_rawio", 17),
    ("sys_ptrace", 19),
    ("sys_pacct", 20),
    ("sys_admin", 21),
    ("sys_boot", 22),
    ("sys_nice", 23),
    ("sys_resource", 24),
    ("sys_time", 25),
    ("sys_tty_config", 26),
    ("mknod", 27),
    ("audit_control", 30),
    ("mac_override", 32),
    ("mac_admin", 33),
    ("syslog", 34),
    ("wake_alarm", 35),
    ("block_suspend", 36),
    ("audit_read", 37),
    ("perfmon", 38),
    ("bpf", 39),
    ("checkpoint_restore", 40),
];

/// What init may find in its environment.
const ENVIRONMENT: &[&str] = &[
    "PATH",
    "TERM",
    "HOME",
    "container",
    "container_uuid",
    "container_ttys",
    "NOTIFY_SOCKET",
    "LIBVIRT_LXC_UUID",
    "LIBVIRT_LXC_NAME",
    "LIBVIRT_LXC_CMDLINE",
];

/// Families and protocols of sockets.
const SOCKETS: &[(&str, [i32; 3])] = &[
    ("netlink_audit", [libc::AF_NETLINK, libc::SOCK_RAW, 9]),
    ("packet", [libc::AF_PACKET, libc::SOCK_RAW, 0]),
    ("vsock", [libc::AF_VSOCK, libc::SOCK_STREAM, 0]),
    ("alg", [libc::AF_ALG, libc::SOCK_SEQPACKET, 0]),
    ("bluetooth", [libc::AF_BLUETOOTH, libc::SOCK_RAW, 1]),
    ("key", [libc::AF_KEY, libc::SOCK_RAW, 2]),
    ("xdp", [libc::AF_XDP, libc::SOCK_RAW, 0]),
    ("can", [libc::AF_CAN, libc::SOCK_RAW, 1]),
    ("tipc", [libc::AF_TIPC, libc::SOCK_RAW, 0]),
];

fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|v| u64::from_str_radix(v.trim(), 16).ok()).unwrap_or_default()
}

/// Whether ids inside are the same outside.
fn first_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().collect::<Vec<_>>() == ["0", "0", "4294967295"]
}

fn leaked() -> Vec<String> {
    let links = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    links
        .filter_map(|e| {
            let number: i32 = e.file_name().to_str()?.parse().ok()?;
            let to = std::fs::read_link(e.path()).ok()?.display().to_string();
            (number > 2 && number != crate::ANSWER && !to.starts_with("/proc/"))
                .then(|| format!("{number}={to}"))
        })
        .collect()
}

/// All of them.
pub fn all(run: &mut dyn FnMut(String, &dyn Fn() -> Verdict)) {
    run("root_is_root_outside".into(), &|| Verdict::open_if(first_namespace(), "uid_map"));
    for (name, bit) in CAPABILITIES {
        run(format!("cap_{name}"), &|| {
            let has = status("CapEff") & (1 << bit) != 0;
            Verdict::open_if(has && first_namespace(), if has { "effective" } else { "dropped" })
        });
    }
    run("cap_inherited".into(), &|| {
        Verdict::open_if(status("CapInh") | status("CapAmb") != 0, "CapInh, CapAmb")
    });
    run("no_filter".into(), &|| Verdict::open_if(status("Seccomp") != 2, "seccomp mode"));
    run("fd_leak".into(), &|| Verdict::open_if(!leaked().is_empty(), leaked().join(" ")));
    run("env_leak".into(), &|| {
        let extra: Vec<String> =
            std::env::vars().map(|(n, _)| n).filter(|n| !ENVIRONMENT.contains(&n.as_str())).collect();
        Verdict::open_if(!extra.is_empty(), extra.join(" "))
    });
    run("abstract_unix".into(), &|| {
        let canary = SocketAddr::from_abstract_name("berth-probe-canary");
        let connected = canary.and_then(|a| UnixStream::connect_addr(&a));
        Verdict::open_if(connected.is_ok(), "a socket of the host")
    });
    for (name, [family, kind, protocol]) in SOCKETS {
        run(format!("socket_{name}"), &|| {
            // SAFETY: only integers go in; the process ends right after it, and the descriptor with it.
            Verdict::of_success(check(unsafe { libc::socket(*family, *kind, *protocol) }))
        });
    }
}
