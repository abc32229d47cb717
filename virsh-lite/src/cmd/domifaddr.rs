//! `domifaddr`: addresses of a running domain's interfaces.
//!
//! Does not know where the daemon looks for them.

use berth_schemas::domain::{
    AddressSource, GetInterfaceAddressesIn, GetInterfaceAddressesOut, InterfaceAddresses, Method,
};

use crate::error::{Failure, printable};
use crate::grammar::{Command, Group, Opt, Values};
use crate::parse::Args;
use crate::session::Session;

/// `domifaddr`
pub static DOMIFADDR: Command = Command::new(
    "domifaddr",
    Group::Monitor,
    "Get network interfaces' addresses for a running domain",
    domifaddr,
)
.about(
    "Prints what the container itself has (guest, which virsh calls agent, and what is printed without a source), what\n\
     the host has heard of it (arp), or what a virtual network has leased to it (lease).",
)
.options(&[
    Opt::domain(),
    Opt::text("interface", "only that interface: its name inside for guest, else on the host, or its hardware address")
        .positional()
        .from(Values::InterfaceNames),
    Opt::flag("full", "the name of the interface in every line"),
    Opt::text("source", "where they come from").from(Values::Words(&["guest", "lease", "arp", "agent"])),
])
.json("an array of name, mac, and addresses with address and prefix");

fn domifaddr(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let domain = session.domain(args.required("domain"))?;
    let source = match args.text("source") {
        None | Some("guest" | "agent") => AddressSource::Guest,
        Some("lease") => AddressSource::Lease,
        Some("arp") => AddressSource::Arp,
        Some(other) => return Err(Failure::line(format!("Unknown data source '{other}'"))),
    };
    let ask = GetInterfaceAddressesIn {
        name: Some(domain.name.clone()),
        uuid: domain.uuid.clone(),
        id: None,
        source: Some(source),
    };
    let answer = session.call::<_, GetInterfaceAddressesOut>(Method::GetInterfaceAddresses, &ask);
    let mut found = match answer {
        Ok(out) => out.interfaces,
        Err(error) => {
            return Err(session.failure("Failed to query for interfaces addresses", &domain, &error));
        }
    };
    if let Some(name) = args.text("interface") {
        found.retain(|i| i.name == name || i.mac.as_ref().is_some_and(|mac| mac.eq_ignore_ascii_case(name)));
    }
    if session.json {
        session.out.json(&found);
        return Ok(());
    }
    session.out.extra(&format!(
        " {:<10} {:<20} {:<8}     {}\n{}\n",
        "Name",
        "MAC address",
        "Protocol",
        "Address",
        "-".repeat(79)
    ));
    let text: String = found.iter().map(|i| rows(i, args.has("full"))).collect();
    session.out.print(&text);
    session.out.extra("\n");
    Ok(())
}

fn rows(interface: &InterfaceAddresses, full: bool) -> String {
    let row = |name: &str, mac: &str, rest: &str| format!(" {name:<10} {mac:<17}    {rest}\n");
    let mac = interface.mac.as_deref().unwrap_or("-");
    // The container chooses the names inside.
    let name = printable(&interface.name);
    if interface.addresses.is_empty() {
        return row(&name, mac, "N/A          N/A");
    }
    let one = |(index, a): (usize, &berth_schemas::domain::InterfaceAddress)| {
        let protocol = if a.address.contains(':') { "ipv6" } else { "ipv4" };
        let rest = format!("{protocol:<12} {}/{}", a.address, a.prefix);
        if full || index == 0 { row(&name, mac, &rest) } else { row("-", "-", &rest) }
    };
    interface.addresses.iter().enumerate().map(one).collect()
}
