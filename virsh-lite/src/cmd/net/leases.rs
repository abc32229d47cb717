//! `net-dhcp-leases`.
//!
//! Does not know where leases are kept.

use berth_schemas::network::{GetLeasesIn, GetLeasesOut, Lease, Method};
use serde::Serialize;

use crate::cmd::net;
use crate::error::Failure;
use crate::grammar::{Command, Group, Opt, Values};
use crate::output::table;
use crate::parse::Args;
use crate::session::Session;
use crate::times;

/// `net-dhcp-leases`
pub static LEASES: Command =
    Command::new("net-dhcp-leases", Group::Networks, "print lease info for a given network", leases)
        .about("Prints the addresses that the guests of a network were given.")
        .options(&[
            net::NETWORK,
            Opt::text("mac", "only those of this hardware address").positional().from(Values::LeaseMacs),
        ])
        .json("an array of leases: address, prefix, mac, iaid, hostname, clientId, expiryUSec");

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LeaseJson<'a> {
    address: &'a str,
    prefix: i64,
    mac: Option<&'a str>,
    iaid: Option<&'a str>,
    hostname: Option<&'a str>,
    client_id: Option<&'a str>,
    #[serde(rename = "expiryUSec")]
    expiry_usec: Option<i64>,
}

fn leases(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let network = net::find(session, args.required("network"))?;
    let ask = GetLeasesIn {
        name: Some(network.name.clone()),
        uuid: Some(network.uuid.clone()),
        mac: args.text("mac").map(str::to_owned),
    };
    let readonly = session.options.readonly;
    let out: Result<GetLeasesOut, _> = net::call(session, Method::GetLeases, &ask);
    let what = format!("Failed to get leases info for {}", network.name);
    let leases = out.map_err(|e| e.because(what, readonly))?.leases;
    if session.json {
        let rows: Vec<LeaseJson<'_>> = leases
            .iter()
            .map(|l| LeaseJson {
                address: &l.address,
                prefix: l.prefix,
                mac: l.mac.as_deref(),
                iaid: l.iaid.as_deref(),
                hostname: l.hostname.as_deref(),
                client_id: l.client_id.as_deref(),
                expiry_usec: l.expiry_u_sec,
            })
            .collect();
        session.out.json(&rows);
        return Ok(());
    }
    let header = ["Expiry Time", "MAC address", "Protocol", "IP address", "Hostname", "Client ID or DUID"];
    let rows: Vec<Vec<String>> = leases.iter().map(row).collect();
    let text = table(&header, &rows, session.out.is_quiet());
    session.out.print(&text);
    Ok(())
}

fn row(lease: &Lease) -> Vec<String> {
    let or_hyphen = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let protocol = if lease.address.contains(':') { "ipv6" } else { "ipv4" };
    vec![
        lease.expiry_u_sec.map_or_else(|| "-".into(), times::plain_local),
        or_hyphen(&lease.mac),
        protocol.into(),
        format!("{}/{}", lease.address, lease.prefix),
        or_hyphen(&lease.hostname),
        or_hyphen(&lease.client_id),
    ]
}
