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
    Command::new("limits", Group::Domain, "Get or set limits that libvirt has not", limits)
        .about(
            "Prints how many processes and threads the domain may have, and its CPU time in percent of one CPU if it is\n\
             limited so, or sets them; -1 or 'none' takes a limit away. CPU time is limited so or by schedinfo, not both.\n\
             virsh has no such command. The other limits of <berth:limits> in the document count from the next start.",
        )
        .options(&[
            Opt::domain(),
            Opt::text("pids", "most processes and threads"),
            Opt::text("cpu-allowance", "CPU time in percent of one CPU, such as 150%, or none"),
            CONFIG,
            LIVE,
            CURRENT,
        ])
        .json("everything that the domain may use, as of memtune: pids, cpuAllowance, and the rest");

fn limits(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let domain = session.domain(args.required("domain"))?;
    let affect = affect(args, Affect::Current)?;
    let change = ResourceChange {
        pids: args.text("pids").map(|text| amount(text, "pids")).transpose()?,
        cpu_allowance: args
            .text("cpu-allowance")
            .map(|text| amount(text.strip_suffix('%').unwrap_or(text), "cpu-allowance"))
            .transpose()?,
        ..ResourceChange::default()
    };
    if change != ResourceChange::default() {
        return set(session, &domain, change, affect, "Unable to change limits");
    }
    let now = get(session, &domain, affect[0], "Unable to get limits")?;
    if session.json {
        session.out.json(&now);
        return Ok(());
    }
    row(session, "pids", &now.pids.map_or_else(|| "unlimited".into(), |n| n.to_string()));
    row(session, "cpu_allowance", &now.cpu_allowance.map_or_else(|| "unlimited".into(), |n| format!("{n}%")));
    Ok(())
}

fn amount(text: &str, option: &str) -> Result<i64, Failure> {
    // Both words mean it: this is what is printed.
    if matches!(text, "none" | "unlimited") { Ok(-1) } else { number(text, option) }
}
