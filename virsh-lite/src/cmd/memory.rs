//! `setmem`, `setmaxmem` and `memtune`.
//!
//! Does not know what a limit does; see docs/resources.md.

use berth_schemas::domain::{Affect, ResourceChange};

use super::resources::{CONFIG, CURRENT, LIVE, affect, get, kib, row, set};
use crate::error::Failure;
use crate::grammar::{Command, Group, Opt};
use crate::parse::Args;
use crate::session::Session;

/// `setmem`
pub static SETMEM: Command = Command::new("setmem", Group::Domain, "change memory allocation", setmem)
    .about("Sets the memory of the domain, at most its maximum. Without an option it is that of what runs.")
    .options(&[
        Opt::domain(),
        Opt::text("size", "new memory size, in KiB unless a unit is given").required().once("kilobytes"),
        CONFIG,
        LIVE,
        CURRENT,
    ]);

/// `setmaxmem`
pub static SETMAXMEM: Command =
    Command::new("setmaxmem", Group::Domain, "change maximum memory limit", setmaxmem)
        .about("Sets how much setmem can give at most. Not of a domain that runs.")
        .options(&[
            Opt::domain(),
            Opt::text("size", "new maximum memory size, in KiB unless a unit is given")
                .required()
                .once("kilobytes"),
            CONFIG,
            LIVE,
            CURRENT,
        ]);

/// `memtune`
pub static MEMTUNE: Command =
    Command::new("memtune", Group::Domain, "Get or set memory parameters", memtune)
        .about(
            "Prints the limits of memory, in KiB, or sets those that are given; -1 takes one away.\n\
             hard_limit takes the place of the memory; above soft_limit memory is taken back; swap_hard_limit is\n\
             memory and swap together, on every host.",
        )
        .options(&[
            Opt::domain(),
            Opt::text("hard-limit", "most memory, in KiB unless a unit is given"),
            Opt::text("soft-limit", "memory above which some is taken back, in KiB unless a unit is given"),
            Opt::text("swap-hard-limit", "most memory and swap together, in KiB unless a unit is given"),
            Opt::text("min-guarantee", "").refused("the kernel has no such guarantee for containers"),
            CONFIG,
            LIVE,
            CURRENT,
        ])
        .json("everything that the domain may use: maxMemoryKiB, memoryKiB, hardLimitKiB, softLimitKiB, swapHardLimitKiB, and the rest");

fn setmem(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let domain = session.domain(args.required("domain"))?;
    let change = ResourceChange { memory_ki_b: kib(args, "size", false)?, ..ResourceChange::default() };
    set(session, &domain, change, affect(args, Affect::Live)?, "")
}

fn setmaxmem(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let domain = session.domain(args.required("domain"))?;
    let change = ResourceChange { max_memory_ki_b: kib(args, "size", false)?, ..ResourceChange::default() };
    set(session, &domain, change, affect(args, Affect::Current)?, "Unable to change MaxMemorySize")
}

fn memtune(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let domain = session.domain(args.required("domain"))?;
    let affect = affect(args, Affect::Current)?;
    let change = ResourceChange {
        hard_limit_ki_b: kib(args, "hard-limit", true)?,
        soft_limit_ki_b: kib(args, "soft-limit", true)?,
        swap_hard_limit_ki_b: kib(args, "swap-hard-limit", true)?,
        ..ResourceChange::default()
    };
    if change != ResourceChange::default() {
        return set(session, &domain, change, affect, "Unable to change memory parameters");
    }
    let now = get(session, &domain, affect[0], "Unable to get memory parameters")?;
    if session.json {
        session.out.json(&now);
        return Ok(());
    }
    for (name, value) in [
        ("hard_limit", now.hard_limit_ki_b),
        ("soft_limit", now.soft_limit_ki_b),
        ("swap_hard_limit", now.swap_hard_limit_ki_b),
    ] {
        row(session, name, &value.map_or_else(|| "unlimited".into(), |n| n.to_string()));
    }
    Ok(())
}
