//! `limits`: what may be changed while a domain runs and libvirt has neither an element nor a command for.
//!
//! Does not know what a limit does; see docs/resources.md.

use berth_schemas::domain::{Affect, ResourceChange};

use super::resources::{CONFIG, CURRENT, LIVE, affect, get, number, row, set};
use crate::error::Failure;
use crate::grammar::{Command, Group, Opt};
use crate::parse::Args;
use crate::session::Session;

/// `limits`
pub static LIMITS: Command =
    Command::new("limits", Group::Domain, "Get or set the limit of processes", limits)
        .about(
            "Prints how many processes and threads the domain may have, or sets it; -1 takes the limit away.\n\
             virsh has no such command. The other limits of <berth:limits> in the document count from the next start.",
        )
        .options(&[
            Opt::domain(),
            Opt::text("pids", "most processes and threads"),
            CONFIG,
            LIVE,
            CURRENT,
        ])
        .json("everything that the domain may use, as of memtune: pids, and the rest");

fn limits(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let domain = session.domain(args.required("domain"))?;
    let affect = affect(args, Affect::Current)?;
    if let Some(text) = args.text("pids") {
        let change = ResourceChange { pids: Some(number(text, "pids")?), ..ResourceChange::default() };
        return set(session, &domain, change, affect, "Unable to change limits");
    }
    let now = get(session, &domain, affect[0], "Unable to get limits")?;
    if session.json {
        session.out.json(&now);
        return Ok(());
    }
    row(session, "pids", &now.pids.map_or_else(|| "unlimited".into(), |n| n.to_string()));
    Ok(())
}
