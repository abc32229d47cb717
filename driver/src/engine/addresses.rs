//! Addresses and host name of a running domain: what it has itself, what the host has heard, what networks have given.
//!
//! Does not know who asks.

use berth_schemas::domain::{AddressSource, HostnameSource, InterfaceAddress, InterfaceAddresses, State};

use crate::engine::Engine;
use crate::engine::snapshot::{Run, Snapshot};
use crate::failure::Failure;
use crate::host::links::spec::{mac, mac_text};
use crate::host::links::{Link, look};
use crate::network::{NetworkRef, Networks};

impl Engine {
    /// The addresses of a domain that runs.
    pub async fn addresses(
        &self,
        snapshot: &Snapshot,
        source: AddressSource,
    ) -> Result<Vec<InterfaceAddresses>, Failure> {
        let run = self.running(snapshot)?;
        let found = match source {
            AddressSource::Guest => inside(run).await,
            AddressSource::Arp => neighbours(run).await,
            AddressSource::Lease => Ok(leased(&self.networks, run).await),
        };
        found.map_err(|e| unseen(snapshot.name.as_str(), "addresses", &e))
    }

    /// The host name of a domain that runs: of the source, or of the first that has one.
    pub async fn hostname(
        &self,
        snapshot: &Snapshot,
        source: Option<HostnameSource>,
    ) -> Result<String, Failure> {
        let run = self.running(snapshot)?;
        if source != Some(HostnameSource::Guest)
            && let Some(name) = leased_name(&self.networks, run).await
        {
            return Ok(name);
        }
        if source == Some(HostnameSource::Lease) {
            return Err(Failure::Failed(format!("no hostname found for domain '{}'", snapshot.name)));
        }
        let found = match init_of(run) {
            Ok(init) => look::hostname(init, run.id).await,
            Err(e) => Err(e),
        };
        found.map_err(|e| unseen(snapshot.name.as_str(), "hostname", &e))
    }
}

/// What it means that something of a domain cannot be looked at, which ran a moment ago.
fn unseen(name: &str, what: &str, error: &std::io::Error) -> Failure {
    let has_ended = error.kind() == std::io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error());
    if has_ended {
        // Nobody has told of its end yet.
        return Failure::InvalidState { message: "domain is not running".into(), state: State::Shutoff };
    }
    Failure::Failed(format!("cannot tell the {what} of domain '{name}': {error}"))
}

fn address((address, prefix): &(std::net::IpAddr, u8)) -> InterfaceAddress {
    InterfaceAddress { address: address.to_string(), prefix: (*prefix).into() }
}

fn init_of(run: &Run) -> std::io::Result<i32> {
    let init = run.init_pid.and_then(|pid| i32::try_from(pid).ok());
    init.ok_or_else(|| std::io::ErrorKind::NotFound.into())
}

async fn inside(run: &Run) -> std::io::Result<Vec<InterfaceAddresses>> {
    let seen = look::inside(init_of(run)?, run.id).await?;
    let one = |seen: look::Seen| InterfaceAddresses {
        name: seen.name,
        mac: (!seen.mac.is_empty()).then(|| mac_text(&seen.mac)),
        addresses: seen.addresses.iter().map(address).collect(),
    };
    Ok(seen.into_iter().map(one).collect())
}

/// The name on the host, as lists of interfaces show it: '-' of a macvlan that the document gives none.
fn shown_end(run: &Run, link: &Link) -> String {
    let given = || run.live.devices.interfaces.iter().find(|i| i.mac == link.mac)?.target.as_deref();
    run.host_end(link).or_else(given).unwrap_or("-").to_owned()
}

async fn neighbours(run: &Run) -> std::io::Result<Vec<InterfaceAddresses>> {
    let wanted: Vec<_> = run.links.iter().map(|l| mac(&l.mac)).collect();
    let heard = look::neighbours(&wanted).await?;
    let one = |(link, number): (&Link, &[u8; 6])| InterfaceAddresses {
        name: shown_end(run, link),
        mac: Some(link.mac.clone()),
        // A neighbour tells nothing of its network.
        addresses: heard.iter().filter(|(m, _)| m == number).map(|(_, ip)| address(&(*ip, 0))).collect(),
    };
    let all = run.links.iter().zip(&wanted).map(one);
    Ok(all.filter(|i| !i.addresses.is_empty()).collect())
}

/// What networks have given to interfaces that have a port of one.
async fn leased(networks: &Networks, run: &Run) -> Vec<InterfaceAddresses> {
    let mut all = Vec::new();
    for link in &run.links {
        let Some(reference) = link.network.as_deref().map(NetworkRef::by_name) else { continue };
        // A network that is gone has given nothing.
        let Ok(network) = networks.find(&reference) else { continue };
        let Ok(leases) = networks.leases_of(&reference, Some(&link.mac)).await else { continue };
        let addresses: Vec<_> = leases.iter().map(|l| address(&(l.ip, network.prefix_of(l.ip)))).collect();
        if !addresses.is_empty() {
            let (name, mac) = (shown_end(run, link), Some(link.mac.clone()));
            all.push(InterfaceAddresses { name, mac, addresses });
        }
    }
    all
}

/// The first name that a network has noted with a lease of one of the interfaces.
async fn leased_name(networks: &Networks, run: &Run) -> Option<String> {
    for link in &run.links {
        let Some(reference) = link.network.as_deref().map(NetworkRef::by_name) else { continue };
        let Ok(leases) = networks.leases_of(&reference, Some(&link.mac)).await else { continue };
        if let Some(name) = leases.into_iter().find_map(|lease| lease.hostname) {
            return Some(name);
        }
    }
    None
}

#[cfg(test)]
mod test {
    use super::*;

    #[tokio::test]
    async fn an_init_that_has_ended_does_not_run() {
        let own = i32::try_from(std::process::id()).expect("a pid");
        let not_running =
            Failure::InvalidState { message: "domain is not running".into(), state: State::Shutoff };
        let mut child = std::process::Command::new("true").spawn().expect("a child");
        let pid = i32::try_from(child.id()).expect("a pid");
        // It stays a zombie until it is waited for.
        let status = || std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("its state");
        while !status().contains(") Z ") {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        for zombie in [true, false] {
            let error = look::hostname(pid, own).await.expect_err("it has ended");
            assert_eq!(unseen("web", "hostname", &error), not_running, "zombie: {zombie}, {error}");
            let error = look::inside(pid, own).await.expect_err("it has ended");
            assert_eq!(unseen("web", "addresses", &error), not_running, "zombie: {zombie}, {error}");
            child.wait().expect("its end");
        }
        let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
        let failure = unseen("web", "addresses", &late).to_string();
        assert_eq!(failure, "cannot tell the addresses of domain 'web': timed out");
    }
}
