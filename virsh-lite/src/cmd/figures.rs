//! `dommemstat`, `domblkstat`, `domifstat`, `cpu-stats`: figures of one domain, in virsh's forms.
//!
//! Does not compute anything but sums and kilobytes.

use berth_schemas::domain::{BlockStats, DomainStats, StatsGroup};
use serde_json::{Map, Value, json};

use crate::cmd::document::fetch;
use crate::cmd::domstats::{memory_rows, stats_of};
use crate::cmd::interface;
use crate::error::Failure;
use crate::grammar::{Command, Group, Opt, Values};
use crate::parse::Args;
use crate::session::Session;

/// `dommemstat`
pub static DOMMEMSTAT: Command =
    Command::new("dommemstat", Group::Monitor, "get memory statistics for a domain", dommemstat)
        .about("Prints what a running domain uses of its memory, in KiB, and its page faults.")
        .options(&[
            Opt::domain(),
            Opt::number("period", "").refused("the figures are read when they are asked for"),
            Opt::flag("config", "").refused("it only goes with --period"),
            Opt::flag("live", "").refused("it only goes with --period"),
            Opt::flag("current", "").refused("it only goes with --period"),
        ])
        .json("the same figures as an object");

/// `domblkstat`
pub static DOMBLKSTAT: Command = Command::new(
    "domblkstat",
    Group::Monitor,
    "get device block stats for a domain",
    domblkstat,
)
.about(
    "Prints what a running domain has read and written through one disk, or through any other block device of the host, \
     or through all. domstats and Prometheus have what is no disk of the domain as /dev/NAME; here NAME will do where no \
     disk is called so.",
)
.options(&[
    Opt::domain(),
    Opt::text("device", "target or source of a disk, or the kernel's name of a device; all together if none is given").positional().from(Values::Disks),
    Opt::flag("human", "print sentences"),
])
.json("device, rd_req, rd_bytes, wr_req, wr_bytes");

/// `domifstat`
pub static DOMIFSTAT: Command =
    Command::new("domifstat", Group::Monitor, "get network interface stats for a domain", domifstat)
        .about(
            "Prints the counters of one network interface of a running domain, by the name it has inside or on the host, or \
             by its MAC address; received is what came to the container.",
        )
        .options(&[Opt::domain(), Opt::text("interface", "its name inside or on the host, or its MAC address").required().from(Values::Interfaces)])
        .json("interface, rx_bytes, rx_packets, rx_errs, rx_drop, tx_bytes, tx_packets, tx_errs, tx_drop");

/// `cpu-stats`
pub static CPU_STATS: Command = Command::new(
    "cpu-stats",
    Group::Domain,
    "show domain cpu statistics",
    cpu_stats,
)
.about(
    "Prints the processor time that a running domain has used, by processor of the host and in total. Hosts \
             with nothing but cgroup v2 do not tell it by processor, unless the domain has <berth:cpu-times mode='counted'/> \
             in its <berth:settings>.",
)
.options(&[
    Opt::domain(),
    Opt::flag("total", "only the total"),
    Opt::number("start", "the first processor"),
    Opt::number("count", "how many processors"),
])
.json("cpus, an array of cpu and cpu_time, and total with cpu_time, user_time, system_time, in nanoseconds");

fn running(
    session: &mut Session,
    args: &Args,
    groups: &[StatsGroup],
    what: &str,
) -> Result<DomainStats, Failure> {
    let stats = stats_of(session, args.required("domain"), groups)?;
    if stats.id.is_none() {
        let cause = "Requested operation is not valid: domain is not running";
        return Err(Failure::because(format!("{what} '{}'", stats.name), cause));
    }
    Ok(stats)
}

/// Prints lines "NAME VALUE", each after a prefix, or one object.
fn rows(session: &mut Session, prefix: &str, head: Option<(&str, &str)>, rows: &[(&str, i64)]) {
    if session.json {
        let head = head.map(|(k, v)| (k.to_owned(), Value::from(v)));
        let rows = rows.iter().map(|(k, v)| ((*k).to_owned(), Value::from(*v)));
        session.out.json(&Map::from_iter(head.into_iter().chain(rows)));
        return;
    }
    let text: String = rows.iter().map(|(name, value)| format!("{prefix}{name} {value}\n")).collect();
    session.out.print(&text);
}

fn dommemstat(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let stats = running(session, args, &[StatsGroup::Memory], "Failed to get memory statistics for domain")?;
    rows(session, "", None, &memory_rows(&stats));
    Ok(())
}

/// The devices that a name means: names of the document come before those of the host. All if there is none.
fn called<'a>(all: &'a [BlockStats], device: &str) -> Vec<&'a BlockStats> {
    let by_document = |b: &&BlockStats| [&b.target, &b.source].into_iter().flatten().any(|n| n == device);
    let found: Vec<_> = all.iter().filter(by_document).collect();
    if !found.is_empty() {
        return found;
    }
    if device.is_empty() {
        // Partitions of one device have the same figures.
        let first = |(n, b): &(usize, &BlockStats)| all.iter().position(|o| o.device == b.device) == Some(*n);
        return all.iter().enumerate().filter(first).map(|(_, b)| b).collect();
    }
    let short = |name: &str| name.strip_prefix("/dev/").unwrap_or(name).to_owned();
    all.iter().filter(|b| b.device == device || short(&b.name) == short(device)).collect()
}

fn domblkstat(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let device = args.text("device").unwrap_or_default().to_owned();
    let stats = running(session, args, &[StatsGroup::Block], "Failed to get block stats for domain")?;
    let all = stats.blocks.as_deref().unwrap_or_default();
    let chosen = called(all, &device);
    if chosen.is_empty() && !device.is_empty() {
        let what = format!("Failed to get block stats for domain '{}' device '{device}'", stats.name);
        let cause = "the domain has no disk of that name, and has used no device of that name";
        return Err(Failure::because(what, cause));
    }
    let sum = |value: fn(&BlockStats) -> i64| chosen.iter().map(|b| value(b)).sum::<i64>();
    let values = [
        ("rd_req", "number of read operations:     ", sum(|b| b.read_requests)),
        ("rd_bytes", "number of bytes read:          ", sum(|b| b.read_bytes)),
        ("wr_req", "number of write operations:    ", sum(|b| b.write_requests)),
        ("wr_bytes", "number of bytes written:       ", sum(|b| b.write_bytes)),
    ];
    if args.has("human") && !session.json {
        let mut text = format!("Device: {device}\n");
        text.extend(values.iter().map(|(_, words, value)| format!(" {words} {value}\n")));
        session.out.print(&text);
        return Ok(());
    }
    let plain = values.map(|(name, _, value)| (name, value));
    rows(session, &format!("{device} "), Some(("device", &device)), &plain);
    Ok(())
}

fn domifstat(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let name = args.required("interface").to_owned();
    let groups = [StatsGroup::Interface, StatsGroup::HostEnd];
    let stats = running(session, args, &groups, "Failed to get interface stats of domain")?;
    let inside = stats.interfaces.as_deref().unwrap_or_default();
    let on_host = stats.host_ends.as_deref().unwrap_or_default();
    let mut found = on_host.iter().chain(inside).find(|i| i.name == name);
    let mut hidden = None;
    if found.is_none() {
        let domain = session.domain(args.required("domain"))?;
        let nic = interface::find(&fetch(session, &domain, false)?, &name);
        // Inside it may have another name by now.
        let (host, guest) = nic.map_or((None, None), |nic| (nic.interface, nic.guest));
        found = on_host.iter().find(|i| Some(&i.name) == host.as_ref());
        found = found.or_else(|| inside.iter().find(|i| Some(&i.name) == guest.as_ref()));
        hidden = guest;
    }
    let Some(net) = found else {
        let what = format!("Failed to get interface stats {} {name}", stats.name);
        let why = match (hidden, stats.more_interfaces) {
            (Some(guest), _) => format!(
                "operation failed: nothing of it is on the host, and it is not called '{guest}' inside any more"
            ),
            (None, None) => format!("invalid argument: the domain has no interface '{name}'"),
            (None, Some(more)) => {
                format!("'{name}' is none of the domain's own, and {more} others are too many to be told")
            }
        };
        return Err(Failure::because(what, why));
    };
    let values = [
        ("rx_bytes", net.received_bytes),
        ("rx_packets", net.received_packets),
        ("rx_errs", net.receive_errors),
        ("rx_drop", net.receive_drops),
        ("tx_bytes", net.sent_bytes),
        ("tx_packets", net.sent_packets),
        ("tx_errs", net.send_errors),
        ("tx_drop", net.send_drops),
    ];
    rows(session, &format!("{name} "), Some(("interface", &name)), &values);
    Ok(())
}

fn seconds(name: &str, nanoseconds: i64) -> String {
    let (whole, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    format!("\t{name:<12} {whole:>9}.{rest:09} seconds\n")
}

/// A number that may be nonsense in the words of virsh's own check.
fn integer(args: &Args, name: &str) -> Result<Option<i64>, Failure> {
    let Some(text) = args.text(name) else { return Ok(None) };
    let number = text.parse::<i32>().map_err(|_| {
        Failure::line(format!("Numeric value '{text}' for <{name}> option is malformed or out of range"))
    })?;
    Ok(Some(number.into()))
}

/// There are so many processors, and one of them is the first to show.
fn in_range(first: usize, count: usize) -> Result<(), Failure> {
    if first < count {
        return Ok(());
    }
    let last = count.saturating_sub(1);
    Err(Failure::line(format!("Start CPU {first} is out of range (min: 0, max: {last})")))
}

fn cpu_stats(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let (start, count) = (integer(args, "start")?, integer(args, "count")?);
    if start.is_some_and(|s| s < 0) {
        return Err(Failure::line("Invalid value for start CPU"));
    }
    if count.is_some_and(|c| c < 0) {
        return Err(Failure::line("Invalid value for number of CPUs to show"));
    }
    let by_cpu = start.is_some() || count.is_some();
    let both = !by_cpu && !args.has("total");
    let what = "Failed to retrieve CPU statistics for domain";
    let stats = running(session, args, &[StatsGroup::Cpu], what)?;
    let Some(cpu) = &stats.cpu else { return Ok(()) };
    let all = cpu.per_cpu_n_sec.as_deref();
    if by_cpu && all.is_none() {
        let cause = "cgroup v2 of this host does not count processor time by processor";
        let hint = "--total has the sum; <berth:cpu-times mode='counted'/> in <berth:settings> has it counted, see docs/resources.md";
        return Err(Failure::because(format!("{what} '{}'", stats.name), cause).hint(hint));
    }
    let first = usize::try_from(start.unwrap_or_default()).unwrap_or_default();
    if by_cpu {
        in_range(first, all.map_or(0, <[i64]>::len))?;
    }
    let rest = all.unwrap_or_default().get(first..).unwrap_or_default();
    let wanted = count.and_then(|c| usize::try_from(c).ok()).unwrap_or(rest.len());
    let shown: Vec<(usize, i64)> = (rest.iter().copied().enumerate().map(|(n, t)| (first + n, t)))
        .take(if by_cpu || both { wanted } else { 0 })
        .collect();
    let total =
        [("cpu_time", cpu.total_n_sec), ("user_time", cpu.user_n_sec), ("system_time", cpu.system_n_sec)];
    let with_total = both || args.has("total");
    if session.json {
        let cpus: Vec<Value> = shown.iter().map(|(n, t)| json!({"cpu": n, "cpu_time": t})).collect();
        let total = with_total.then(|| total.iter().copied().collect::<std::collections::BTreeMap<_, _>>());
        session.out.json(&json!({"cpus": cpus, "total": total}));
        return Ok(());
    }
    if by_cpu && wanted > rest.len() {
        session.out.print(&format!("Only {} CPUs available to show\n", rest.len()));
    }
    for (number, time) in shown {
        session.out.print(&format!("CPU{number}:\n{}", seconds("cpu_time", time)));
    }
    if with_total {
        let rows: String = total.iter().filter_map(|(name, time)| Some(seconds(name, (*time)?))).collect();
        session.out.print(&format!("Total:\n{rows}"));
    }
    Ok(())
}

#[cfg(test)]
mod test {
    use berth_schemas::domain::BlockStats;

    use super::{called, in_range};

    #[test]
    fn a_device_of_the_host_has_two_names_and_a_disk_comes_first() {
        let block = |device: &str, name: &str, target: Option<&str>| BlockStats {
            device: device.into(),
            name: name.into(),
            target: target.map(str::to_owned),
            source: target.map(|t| format!("/srv/{t}.img")),
            read_bytes: 0,
            read_requests: 0,
            write_bytes: 0,
            write_requests: 0,
        };
        let numbers = |all: &[BlockStats], name: &str| -> Vec<String> {
            called(all, name).into_iter().map(|b| b.device.clone()).collect()
        };
        let mut all = vec![block("254:0", "/dev/vda", None)];
        for name in ["/dev/vda", "vda", "254:0"] {
            assert_eq!(numbers(&all, name), ["254:0"], "{name}");
        }
        all.push(block("7:0", "loop0", Some("vda")));
        assert_eq!(numbers(&all, "/dev/vda"), ["254:0"]);
        for name in ["vda", "/srv/vda.img", "loop0", "/dev/loop0", "7:0"] {
            assert_eq!(numbers(&all, name), ["7:0"], "{name}");
        }
        // Of a daemon that has the prefix only where it is needed.
        assert_eq!(numbers(&[block("8:0", "sda", None)], "/dev/sda"), ["8:0"]);
    }

    #[test]
    fn the_first_processor_is_one_that_there_is() {
        assert!(in_range(0, 2).is_ok() && in_range(1, 2).is_ok());
        let error = in_range(2, 2).expect_err("there are two").to_string();
        assert_eq!(error, "error: Start CPU 2 is out of range (min: 0, max: 1)\n");
    }
}
