//! From a URI to a connection.
//!
//! Does not know what is said over the connection, except for the call that makes it read-only.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use berth_schemas::node;

use crate::client::Client;
use crate::error::{CallError, Failure};
use crate::options::Options;

/// The socket of the host's daemon.
pub const SYSTEM_SOCKET: &str = "/run/berth/io.berth";

/// What a URI means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The URI in its full form.
    pub uri: String,
    /// Where it leads.
    pub target: Target,
}

/// Where a URI leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A socket of this host.
    Socket(String),
    /// Another host.
    Ssh {
        /// Its name.
        host: String,
        /// As whom.
        user: Option<String>,
        /// Where sshd listens.
        port: Option<String>,
        /// The socket over there, where it is not the usual one.
        socket: Option<String>,
        /// Key to use.
        keyfile: Option<String>,
        /// Program to run instead of ssh.
        command: Option<String>,
    },
}

/// The URI to use where none is given.
pub fn default_uri() -> String {
    ["VIRSH_DEFAULT_CONNECT_URI", "LIBVIRT_DEFAULT_URI"]
        .iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|value| !value.is_empty())
        .unwrap_or_else(|| "lxc:///system".into())
}

/// Reads a URI.
pub fn parse(uri: &str) -> Result<Address, Failure> {
    let (scheme, rest) = uri.split_once("://").or_else(|| uri.split_once(':')).ok_or_else(|| {
        cannot(format!("no connection driver available for URI '{uri}' does not include a driver name"))
    })?;
    let (driver, transport) = scheme.split_once('+').unwrap_or((scheme, ""));
    if driver != "lxc" {
        return Err(cannot(format!("no connection driver available for {uri}"))
            .hint("Berth is reached as lxc:///system; other drivers are those of virsh"));
    }
    let (rest, whole_query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    if !matches!(path, "" | "/" | "/system") {
        return Err(cannot(format!("Unexpected LXC URI path '{path}', try lxc:///system")));
    }
    let query = |key: &str| {
        whole_query
            .split('&')
            .filter_map(|p| p.split_once('='))
            .find(|(k, _)| *k == key)
            .map(|(_, v)| decode(v))
    };
    let target = match transport {
        "" | "unix" if authority.is_empty() => {
            Target::Socket(query("socket").unwrap_or_else(|| SYSTEM_SOCKET.into()))
        }
        "ssh" if !authority.is_empty() => ssh(authority, &query),
        "ssh" => return Err(cannot(format!("no host in URI '{uri}'"))),
        _ => {
            return Err(cannot(format!("transport of URI '{uri}' is not supported"))
                .hint("other hosts are reached as lxc+ssh://host/system"));
        }
    };
    let suffix = if whole_query.is_empty() { String::new() } else { format!("?{whole_query}") };
    Ok(Address { uri: format!("{scheme}://{authority}/system{suffix}"), target })
}

fn ssh(authority: &str, query: &dyn Fn(&str) -> Option<String>) -> Target {
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(u, h)| (Some(decode(u)), h));
    let (host, port) = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (name, Some(port.to_owned())),
        _ => (host, None),
    };
    Target::Ssh {
        host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
        user,
        port,
        socket: query("socket"),
        keyfile: query("keyfile"),
        command: query("command"),
    }
}

/// Resolves `%XX`.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|h| std::str::from_utf8(h).ok());
        match (first, hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn cannot(why: impl Into<String>) -> Failure {
    Failure::because("failed to connect to the hypervisor", why)
}

/// Connects.
pub fn open(address: &Address, options: &Options) -> Result<Client, Failure> {
    let mut client = match &address.target {
        Target::Socket(path) => Client::new(local(path)?, None),
        Target::Ssh { .. } => remote(&address.target, options.unattended)?,
    };
    if options.readonly {
        let method = node::Method::RestrictToReading.name();
        let result: Result<node::RestrictToReadingOut, CallError> =
            client.call(method, &node::RestrictToReadingIn {});
        result.map_err(|e| e.because("failed to connect to the hypervisor", true))?;
    }
    Ok(client)
}

/// Connects to a socket of this host.
pub fn local(path: &str) -> Result<UnixStream, Failure> {
    UnixStream::connect(path).map_err(|error| {
        let errno = std::io::Error::from_raw_os_error(error.raw_os_error().unwrap_or_default());
        let text = errno.to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                format!("is berthd running, and with this socket? ({path})")
            }
            std::io::ErrorKind::PermissionDenied => {
                "the socket or a folder above it is not open to this user".into()
            }
            _ => return cannot(format!("Failed to connect socket to '{path}': {text}")),
        };
        cannot(format!("Failed to connect socket to '{path}': {text}")).hint(hint)
    })
}

/// Has ssh run the other end; its standard streams are one socket, so that everything else is as with a local one.
fn remote(target: &Target, unattended: bool) -> Result<Client, Failure> {
    let Target::Ssh { host, user, port, socket, keyfile, command } = target else {
        return Err(Failure::silent());
    };
    let failed = |e: std::io::Error| cannot(format!("cannot run ssh to '{host}': {e}"));
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let theirs = OwnedFd::from(theirs);
    let mut ssh = Command::new(command.as_deref().unwrap_or("ssh"));
    ssh.args(["-T", "-e", "none"]);
    if unattended {
        ssh.args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=2"]);
    }
    for (option, value) in [("-l", user), ("-p", port), ("-i", keyfile)] {
        if let Some(value) = value {
            ssh.args([option, value]);
        }
    }
    ssh.arg("--").arg(host).arg(remote_command(socket.as_deref()));
    ssh.stdin(Stdio::from(theirs.try_clone().map_err(failed)?)).stdout(Stdio::from(theirs));
    let child = ssh.spawn().map_err(failed)?;
    Ok(Client::new(ours, Some(child)))
}

/// What the other host's shell is asked to run.
fn remote_command(socket: Option<&str>) -> String {
    match socket {
        Some(socket) => format!("virsh-lite serve-stdio --socket '{}'", socket.replace('\'', "'\\''")),
        None => "virsh-lite serve-stdio".into(),
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn target(uri: &str) -> Result<Target, String> {
        parse(uri).map(|a| a.target).map_err(|e| e.to_string())
    }

    #[test]
    fn local_uris() {
        let system = Ok(Target::Socket(SYSTEM_SOCKET.into()));
        for uri in ["lxc:///", "lxc:///system", "lxc+unix:///system", "lxc:///?mode=legacy"] {
            assert_eq!(target(uri), system, "{uri}");
        }
        assert_eq!(
            target("lxc+unix:///system?mode=direct&socket=/tmp/a%20b"),
            Ok(Target::Socket("/tmp/a b".into()))
        );
        assert_eq!(parse("lxc:///").map(|a| a.uri), Ok("lxc:///system".into()));
    }

    #[test]
    fn ssh_uris() {
        let Ok(Target::Ssh { host, user, port, socket, .. }) =
            target("lxc+ssh://me@[::1]:2222/system?socket=/s")
        else {
            panic!("no ssh")
        };
        assert_eq!((host.as_str(), user.as_deref(), port.as_deref()), ("::1", Some("me"), Some("2222")));
        assert_eq!(remote_command(socket.as_deref()), "virsh-lite serve-stdio --socket '/s'");
    }

    #[test]
    fn wrong_uris() {
        let error = |uri| target(uri).err().unwrap_or_default();
        assert!(error("qemu:///system").contains("no connection driver available for qemu:///system"));
        assert!(error("x").contains("does not include a driver name"));
        assert!(error("lxc:///nosuch").contains("Unexpected LXC URI path '/nosuch', try lxc:///system"));
        assert!(error("lxc://host/").contains("is not supported"));
    }
}
