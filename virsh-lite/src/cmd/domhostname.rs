//! `domhostname`: the host name of a running domain.
//!
//! Does not know where the daemon looks for it.

use berth_schemas::domain::{GetHostnameIn, GetHostnameOut, HostnameSource, Method};

use super::info::answer;
use crate::error::{Failure, printable};
use crate::grammar::{Command, Group, Opt, Values};
use crate::parse::Args;
use crate::session::Session;

/// `domhostname`
pub static DOMHOSTNAME: Command =
    Command::new("domhostname", Group::Domain, "print the domain's hostname", domhostname)
        .about(
            "Prints the host name of a running domain: the one that a virtual network noted with a lease (lease), or the\n\
             container's own (guest, which virsh calls agent). Without a source it is the first that there is.",
        )
        .options(&[
            Opt::domain(),
            Opt::text("source", "where it comes from").from(Values::Words(&["guest", "lease", "agent"])),
        ])
        .json("hostname");

fn domhostname(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let domain = session.domain(args.required("domain"))?;
    let source = match args.text("source") {
        None => None,
        Some("guest" | "agent") => Some(HostnameSource::Guest),
        Some("lease") => Some(HostnameSource::Lease),
        Some(other) => return Err(Failure::line(format!("Unknown data source '{other}'"))),
    };
    let ask = GetHostnameIn { name: Some(domain.name.clone()), uuid: domain.uuid.clone(), id: None, source };
    match session.call::<_, GetHostnameOut>(Method::GetHostname, &ask) {
        Ok(out) => {
            // A container chooses it.
            answer(session, &serde_json::json!({ "hostname": out.hostname }), &printable(&out.hostname));
            Ok(())
        }
        Err(error) => Err(session.failure("failed to get hostname", &domain, &error)),
    }
}
