//! CPUs and nodes of memory: `schedinfo`, `setvcpus`, `vcpucount`, `vcpupin` and `numatune`.
//!
//! Does not know what a limit does.

use berth_schemas::domain::{Affect, ResourceChange};

use super::host::processors;
use super::resources::{CONFIG, CURRENT, LIVE, affect, get, number, row, set};
use crate::error::Failure;
use crate::grammar::{Command, Group, Opt, Values};
use crate::output::table;
use crate::parse::Args;
use crate::session::Session;

const JSON: &str = "everything that the domain may use: vcpus, maxVcpus, cpuset, cpus, cpuShares, cpuPeriod, cpuQuota, numaMode, nodeset, and the rest";

/// `schedinfo`
pub static SCHEDINFO: Command =
    Command::new("schedinfo", Group::Domain, "show/set scheduler parameters", schedinfo)
        .about(
            "Prints the parameters of CPU time, and sets those that are given as name=value: cpu_shares,\n\
             vcpu_period and vcpu_quota (microseconds of CPU time of the whole container in each period; negative\n\
             for no limit).",
        )
        .options(&[
            Opt::domain(),
            Opt::text("weight", "").refused("it is of another scheduler; use --set cpu_shares="),
            Opt::text("cap", "").refused("it is of another scheduler; use --set vcpu_quota="),
            CURRENT,
            CONFIG,
            LIVE,
            Opt::list("set", "name=value"),
        ])
        .json(JSON);

/// `setvcpus`
pub static SETVCPUS: Command =
    Command::new("setvcpus", Group::Domain, "change number of virtual CPUs", setvcpus)
        .about("Sets how many CPUs the domain has. Without an option it is that of what runs.")
        .options(&[
            Opt::domain(),
            Opt::number("count", "number of CPUs").required(),
            Opt::flag("maximum", "the most that it can be, at the next start"),
            CONFIG,
            LIVE,
            CURRENT,
            Opt::flag("guest", "").refused("a container has no agent"),
            Opt::flag("hotpluggable", "accepted; changes nothing"),
        ]);

/// `vcpucount`
pub static VCPUCOUNT: Command = Command::new("vcpucount", Group::Monitor, "domain vcpu counts", vcpucount)
    .about("Prints how many CPUs the domain has, and how many it can have.")
    .options(&[
        Opt::domain(),
        Opt::flag("maximum", "how many it can have"),
        Opt::flag("active", "how many it has"),
        LIVE,
        CONFIG,
        CURRENT,
        Opt::flag("guest", "").refused("a container has no agent"),
    ])
    .json(JSON);

/// `vcpupin`
pub static VCPUPIN: Command =
    Command::new("vcpupin", Group::Domain, "control or query domain vcpu affinity", vcpupin)
        .about(
            "Prints which of the host's CPUs the domain uses, or sets from which its CPUs are taken. A container has one\n\
             set for all: whichever CPU is named, the set is that of the domain. The set 'r' is all of the host's.",
        )
        .options(&[
            Opt::domain(),
            Opt::number("vcpu", "number of the CPU").positional().from(Values::Vcpus),
            Opt::text("cpulist", "host CPUs such as 0-3,^2,8").positional(),
            CONFIG,
            LIVE,
            CURRENT,
        ])
        .json(JSON);

/// In the order of virDomainNumatuneMemMode.
const NUMA_MODES: &[&str] = &["strict", "preferred", "interleave", "restrictive"];

/// `numatune`
pub static NUMATUNE: Command =
    Command::new("numatune", Group::Domain, "Get or set numa parameters", numatune)
        .about("Prints from which of the host's nodes the memory comes, or sets it.")
        .options(&[
            Opt::domain(),
            Opt::text(
                "mode",
                "strict, preferred, interleave or restrictive, or libvirt's number of it, 0 to 3",
            )
            .from(Values::Words(NUMA_MODES)),
            Opt::text("nodeset", "nodes such as 0-1"),
            CONFIG,
            LIVE,
            CURRENT,
        ])
        .json(JSON);

fn schedinfo(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let domain = session.domain(args.required("domain"))?;
    let affect = affect(args, Affect::Current)?;
    let mut change = ResourceChange::default();
    for word in args.list("set").flat_map(|w| w.split_whitespace()) {
        let (name, value) = word
            .split_once('=')
            .ok_or_else(|| Failure::line("Invalid syntax for --set, expecting name=value"))?;
        let place = match name {
            "cpu_shares" => &mut change.cpu_shares,
            "vcpu_period" => &mut change.cpu_period,
            "vcpu_quota" => &mut change.cpu_quota,
            _ => return Err(Failure::line(format!("invalid scheduler option: {name}"))),
        };
        *place = Some(number(value, name)?);
    }
    if change != ResourceChange::default() {
        set(session, &domain, change, affect.clone(), "")?;
    }
    let now = get(session, &domain, affect[0], "")?;
    if session.json {
        session.out.json(&now);
        return Ok(());
    }
    row(session, "Scheduler", "posix");
    row(session, "cpu_shares", &now.cpu_shares.unwrap_or(1024).to_string());
    row(session, "vcpu_period", &now.cpu_period.unwrap_or(100_000).to_string());
    row(session, "vcpu_quota", &now.cpu_quota.unwrap_or(-1).to_string());
    Ok(())
}

fn setvcpus(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let domain = session.domain(args.required("domain"))?;
    let given = args.required("count");
    let count = number(given, "--count")?;
    if count < 1 {
        return Err(Failure::line(format!("Invalid value '{given}' for number of virtual CPUs")));
    }
    let mut change = ResourceChange::default();
    let place = if args.has("maximum") { &mut change.max_vcpus } else { &mut change.vcpus };
    *place = Some(count);
    set(session, &domain, change, affect(args, Affect::Live)?, "")
}

fn vcpucount(session: &mut Session, args: &Args) -> Result<(), Failure> {
    args.exclusive("maximum", "active")?;
    let domain = session.domain(args.required("domain"))?;
    let chosen = affect(args, Affect::Current)?[0];
    if session.json {
        let now = get(session, &domain, chosen, "")?;
        session.out.json(&now);
        return Ok(());
    }
    let one = ["maximum", "active", "live", "config", "current"].iter().any(|o| args.has(o));
    if one {
        let now = get(session, &domain, chosen, "")?;
        let count = if args.has("maximum") { now.max_vcpus } else { now.vcpus };
        session.out.print(&format!("{count}\n"));
        return Ok(());
    }
    let status = session.status(&domain)?;
    let mut found = Vec::new();
    if status.persistent {
        found.push(("config", get(session, &domain, Affect::Config, "")?));
    }
    if status.id.is_some() {
        found.push(("live", get(session, &domain, Affect::Live, "")?));
    }
    for (kind, maximum) in [("maximum", true), ("current", false)] {
        for (which, now) in &found {
            let count = if maximum { now.max_vcpus } else { now.vcpus };
            session.out.print(&format!("{kind:<12} {which:<12} {count:>3}\n"));
        }
    }
    Ok(())
}

fn vcpupin(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let domain = session.domain(args.required("domain"))?;
    let affect = affect(args, Affect::Current)?;
    let vcpu = args.text("vcpu").map(|n| number(n, "--vcpu")).transpose()?;
    let now = get(session, &domain, affect[0], "")?;
    if let Some(vcpu) = vcpu.filter(|n| !(0..now.vcpus).contains(n)) {
        return Err(Failure::line(format!("vcpu {vcpu} is out of range of cpu count {}", now.vcpus)));
    }
    if let Some(list) = args.text("cpulist") {
        if vcpu.is_none() {
            return Err(Failure::line("vcpupin: Missing vCPU number in pin mode."));
        }
        // To the daemon an empty set is no set at all: whoever has an empty variable does not want that.
        if list.trim().is_empty() {
            return Err(Failure::line(format!("Invalid cpulist '{list}'")));
        }
        let set_of = if list == "r" { "" } else { list };
        let change = ResourceChange { cpuset: Some(set_of.to_owned()), ..ResourceChange::default() };
        return set(session, &domain, change, affect, "");
    }
    if session.json {
        session.out.json(&now);
        return Ok(());
    }
    let cpus = match now.cpus.or(now.cpuset) {
        Some(set) => set,
        None => whole(processors(session, "Unable to get affinity of virtual CPUs")?),
    };
    let rows =
        (0..now.vcpus).filter(|n| vcpu.is_none_or(|v| v == *n)).map(|n| vec![n.to_string(), cpus.clone()]);
    let rows: Vec<_> = rows.collect();
    let text = table(&["VCPU", "CPU Affinity"], &rows, session.out.is_quiet());
    session.out.print(&text);
    Ok(())
}

/// So many CPUs, all of them, as a set.
fn whole(count: i64) -> String {
    if count > 1 { format!("0-{}", count - 1) } else { "0".into() }
}

fn numatune(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let domain = session.domain(args.required("domain"))?;
    let affect = affect(args, Affect::Current)?;
    if args.text("nodeset").is_some_and(|nodes| nodes.trim().is_empty()) {
        return Err(Failure::line("Failed to get option 'nodeset': Option argument is empty"));
    }
    let change = ResourceChange {
        numa_mode: args.text("mode").map(|word| {
            let named = word.parse::<usize>().ok().and_then(|n| NUMA_MODES.get(n).copied());
            named.unwrap_or(word).to_owned()
        }),
        nodeset: args.text("nodeset").map(str::to_owned),
        ..ResourceChange::default()
    };
    if change != ResourceChange::default() {
        return set(session, &domain, change, affect, "Unable to change numa parameters");
    }
    let now = get(session, &domain, affect[0], "Unable to get number of memory parameters")?;
    if session.json {
        session.out.json(&now);
        return Ok(());
    }
    row(session, "numa_mode", now.numa_mode.as_deref().unwrap_or("strict"));
    row(session, "numa_nodeset", now.nodeset.as_deref().unwrap_or_default());
    Ok(())
}

#[cfg(test)]
mod test {
    use super::whole;

    #[test]
    fn all_processors_are_a_set() {
        assert_eq!([1, 2, 16].map(whole), ["0", "0-1", "0-15"]);
    }
}
