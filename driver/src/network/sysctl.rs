//! Switches of the kernel's network stack, below `/proc/sys/net`.
//!
//! Does not know which network wants them. All functions block.

use std::io;
use std::path::Path;

/// Sets a switch; tells whether it was another value before.
pub fn set(switch: &str, value: &str) -> Result<bool, String> {
    let path = format!("/proc/sys/net/{switch}");
    let now = std::fs::read_to_string(&path).map_err(|e| format!("cannot read '{path}': {e}"))?;
    if now.trim() == value {
        return Ok(false);
    }
    std::fs::write(&path, value).map_err(|e| format!("cannot write '{value}' to '{path}': {e}"))?;
    Ok(true)
}

/// Whether the kernel has IPv6.
pub fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6/conf/all").exists()
}

/// Whether the host filters and translates what its bridges pass on (br_netfilter).
pub fn bridges_filter() -> bool {
    let is_on = |name| {
        let path = format!("/proc/sys/net/bridge/{name}");
        std::fs::read_to_string(path).is_ok_and(|value| value.trim() == "1")
    };
    is_on("bridge-nf-call-iptables") || is_on("bridge-nf-call-ip6tables")
}

/// The value of a switch of an interface, where it has such.
pub fn of_interface(family: &str, interface: &str, switch: &str) -> io::Result<String> {
    let text = std::fs::read_to_string(format!("/proc/sys/net/{family}/conf/{interface}/{switch}"))?;
    Ok(text.trim().to_owned())
}
