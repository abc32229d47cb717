//! `domstats`, with libvirt's names of the figures.
//!
//! Does not compute anything but kilobytes; one call for all domains.

use berth_schemas::domain::{
    self, DomainStats, GetStatsIn, GetStatsOut, InterfaceStats, Method, Reason, State, StatsGroup,
};
use serde_json::{Map, Value};

use crate::error::{CallError, Failure, printable};
use crate::grammar::{Command, Group, Opt, Values};
use crate::parse::Args;
use crate::session::Session;

/// `domstats`
pub static DOMSTATS: Command =
    Command::new("domstats", Group::Monitor, "get statistics about one or multiple domains", run)
        .about(
            "Prints figures of the domains that are named, or of all, under libvirt's names. Groups that containers do \
             not have are empty, or an error with --enforce.",
        )
        .options(&[
            Opt::flag("state", "the state and its reason, as numbers"),
            Opt::flag("cpu-total", "processor time in nanoseconds"),
            Opt::flag("balloon", "memory in KiB"),
            Opt::flag("vcpu", "how many virtual processors there are"),
            Opt::flag("interface", "network interfaces"),
            Opt::flag("block", "block devices"),
            Opt::flag("perf", "nothing: containers have no such figures"),
            Opt::flag("iothread", "nothing: containers have no such threads"),
            Opt::flag("memory", "nothing: memory bandwidth is not measured"),
            Opt::flag("dirtyrate", "nothing: containers do not move while they run"),
            Opt::flag("vm", "nothing: containers are not exited to a hypervisor"),
            Opt::flag("pressure", "how long tasks waited for processor, memory and devices, in microseconds"),
            Opt::flag("list-active", "only active domains"),
            Opt::flag("list-inactive", "only inactive domains"),
            Opt::flag("list-persistent", "only domains with a definition on disk"),
            Opt::flag("list-transient", "only domains without a definition on disk"),
            Opt::flag("list-running", "only domains that run"),
            Opt::flag("list-paused", "only paused domains"),
            Opt::flag("list-shutoff", "only domains that are shut off"),
            Opt::flag("list-other", "only domains in any other state"),
            Opt::flag("raw", "do not change anything for the eye (nothing is)"),
            Opt::flag("enforce", "fail if a group that was asked for is not there"),
            Opt::flag("backing", "for virsh's sake: devices of containers have no backing chain"),
            Opt::flag("nowait", "for virsh's sake: nothing is waited for"),
            Opt::list("domain", "domain names, ids, uuids or patterns such as 'web*'").from(Values::Domains),
        ])
        .json("an array: for each domain its name and an object with the figures");

/// Our groups of virsh's options; none where containers have nothing of the kind.
const GROUPS: &[(&str, Option<&[StatsGroup]>)] = &[
    ("state", Some(&[])),
    ("cpu-total", Some(&[StatsGroup::Cpu])),
    ("balloon", Some(&[StatsGroup::Memory])),
    ("vcpu", Some(&[])),
    ("interface", Some(&[StatsGroup::Interface])),
    ("block", Some(&[StatsGroup::Block])),
    ("perf", None),
    ("iothread", None),
    ("memory", None),
    ("dirtyrate", None),
    ("vm", None),
    ("pressure", Some(&[StatsGroup::Pressure])),
];

/// Names and values of one domain, in order.
pub type Record = Vec<(String, Value)>;

fn run(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let asked: Vec<_> = GROUPS.iter().filter(|(name, _)| args.has(name)).collect();
    if let Some((name, _)) = asked.iter().find(|(_, groups)| groups.is_none())
        && args.has("enforce")
    {
        return Err(Failure::line(format!("Stats type '{name}' is not supported for containers")));
    }
    // Nothing said is everything of libvirt's.
    let wants = |name: &str| {
        if asked.is_empty() { name != "pressure" } else { asked.iter().any(|(n, _)| *n == name) }
    };
    let groups: Vec<StatsGroup> = (GROUPS.iter().filter(|(name, _)| wants(name)))
        .flat_map(|(_, groups)| groups.unwrap_or_default().iter().copied())
        .collect();
    let mut all = if args.list("domain").next().is_some() {
        named(session, args, &groups)?
    } else {
        everybody(session, args, &groups)?
    };
    all.retain(|d| chosen(d, args));
    let persistent = persistence(session, args)?;
    all.retain(|d| persistent.as_ref().is_none_or(|names| names.contains(&d.name)));
    let records: Vec<(String, Record)> =
        all.into_iter().map(|d| (d.name.clone(), record(&d, &wants))).collect();
    if session.json {
        let rows: Vec<Value> = (records.into_iter())
            .map(|(name, record)| serde_json::json!({"name": name, "stats": Map::from_iter(record)}))
            .collect();
        session.out.json(&rows);
        return Ok(());
    }
    for (index, (name, record)) in records.iter().enumerate() {
        let mut text = if index > 0 { "\n".to_owned() } else { String::new() };
        text.push_str(&format!("Domain: '{name}'\n"));
        for (key, value) in record {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            // Names of interfaces are the container's choice.
            text.push_str(&format!("  {key}={}\n", printable(&value)));
        }
        session.out.print(&text);
    }
    Ok(())
}

fn named(session: &mut Session, args: &Args, groups: &[StatsGroup]) -> Result<Vec<DomainStats>, Failure> {
    let mut all = Vec::new();
    for word in session.expand(args)? {
        all.push(stats_of(session, &word, groups)?);
    }
    Ok(all)
}

/// The figures of one domain.
pub fn stats_of(session: &mut Session, word: &str, groups: &[StatsGroup]) -> Result<DomainStats, Failure> {
    let domain = session.domain(word)?;
    let ask = GetStatsIn {
        name: Some(domain.name.clone()),
        uuid: domain.uuid.clone(),
        groups: Some(groups.to_vec()),
        ..GetStatsIn::default()
    };
    match session.call::<_, GetStatsOut>(Method::GetStats, &ask) {
        Ok(out) => Ok(out.stats),
        Err(error) => {
            let what = format!("Failed to get statistics of domain '{}'", domain.name);
            Err(session.failure(&what, &domain, &error))
        }
    }
}

fn everybody(session: &mut Session, args: &Args, groups: &[StatsGroup]) -> Result<Vec<DomainStats>, Failure> {
    let active = match (args.has("list-active"), args.has("list-inactive")) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        _ => None,
    };
    let ask = GetStatsIn { groups: Some(groups.to_vec()), active, ..GetStatsIn::default() };
    let readonly = session.options.readonly;
    let mut all = Vec::new();
    let result = session.connect()?.call_more(Method::GetStats.name(), &ask, |out: GetStatsOut| {
        all.push(out.stats);
        Ok(())
    });
    match result {
        Ok(()) | Err(CallError::Domain(domain::Error::NoSuchDomain { .. })) => Ok(all),
        Err(error) => Err(error.because("Failed to get statistics of the domains", readonly)),
    }
}

/// The names that the options about definitions choose, if there are such options: statistics do not tell it.
fn persistence(session: &mut Session, args: &Args) -> Result<Option<Vec<String>>, Failure> {
    let wanted = args.has("list-persistent");
    if wanted == args.has("list-transient") {
        return Ok(None);
    }
    let readonly = session.options.readonly;
    let all = session.all_domains().map_err(|e| e.because("Failed to list domains", readonly))?;
    Ok(Some(all.into_iter().filter(|d| d.persistent == wanted).map(|d| d.name).collect()))
}

fn chosen(stats: &DomainStats, args: &Args) -> bool {
    let active = stats.id.is_some();
    let activity = [("list-active", active), ("list-inactive", !active)];
    let states = [
        ("list-running", stats.state == State::Running),
        ("list-paused", stats.state == State::Paused),
        ("list-shutoff", stats.state == State::Shutoff),
        ("list-other", stats.state == State::Shutdown),
    ];
    // Each family that is used restricts; inside a family one that fits is enough.
    let fits = |family: &[(&str, bool)]| {
        !family.iter().any(|(option, _)| args.has(option))
            || family.iter().any(|(option, is)| args.has(option) && *is)
    };
    fits(&activity) && fits(&states)
}

/// virDomainState.
fn state_number(state: State) -> i64 {
    match state {
        State::Running => 1,
        State::Paused => 3,
        State::Shutdown => 4,
        State::Shutoff => 5,
    }
}

/// virDomainRunningReason, virDomainPausedReason or virDomainShutoffReason, whichever belongs to the state.
fn reason_number(state: State, reason: Reason) -> i64 {
    match (state, reason) {
        (State::Running, Reason::Booted | Reason::Rebooted | Reason::Restarted) => 1,
        (State::Running, Reason::Unpaused) => 5,
        (State::Paused, Reason::User) => 1,
        (State::Shutoff, Reason::Shutdown) => 1,
        (State::Shutoff, Reason::Destroyed) => 2,
        (State::Shutoff, Reason::Crashed) => 3,
        (State::Shutoff, Reason::Failed) => 6,
        _ => 0,
    }
}

struct Rows(Record);

impl Rows {
    fn add(&mut self, key: impl Into<String>, value: Option<i64>) {
        if let Some(value) = value {
            self.0.push((key.into(), value.into()));
        }
    }

    fn text(&mut self, key: String, value: &str) {
        self.0.push((key, value.into()));
    }
}

/// Interfaces as libvirt counts them: loopback is none.
pub fn real_interfaces(stats: &DomainStats) -> impl Iterator<Item = &InterfaceStats> {
    stats.interfaces.iter().flatten().filter(|i| i.name != "lo")
}

fn record(stats: &DomainStats, wants: &dyn Fn(&str) -> bool) -> Record {
    let mut rows = Rows(Vec::new());
    if wants("state") {
        rows.add("state.state", Some(state_number(stats.state)));
        rows.add("state.reason", Some(reason_number(stats.state, stats.reason)));
    }
    if let Some(cpu) = stats.cpu.as_ref().filter(|_| wants("cpu-total")) {
        rows.add("cpu.time", cpu.total_n_sec);
        rows.add("cpu.user", cpu.user_n_sec);
        rows.add("cpu.system", cpu.system_n_sec);
    }
    if wants("balloon") {
        for (name, value) in memory_rows(stats) {
            rows.add(format!("balloon.{}", name.replace("actual", "current")), Some(value));
            if name == "actual" {
                rows.add("balloon.maximum", Some(stats.max_memory_ki_b));
            }
        }
        let peak = stats.memory.as_ref().and_then(|m| m.peak_bytes);
        rows.add("balloon.peak", peak.map(|bytes| bytes / 1024));
    }
    if wants("vcpu") {
        rows.add("vcpu.current", Some(stats.vcpus));
        rows.add("vcpu.maximum", Some(stats.max_vcpus));
    }
    if wants("interface") && stats.interfaces.is_some() {
        rows.add("net.count", Some(real_interfaces(stats).count() as i64));
        for (n, net) in real_interfaces(stats).enumerate() {
            rows.text(format!("net.{n}.name"), &net.name);
            for (name, value) in [
                ("rx.bytes", net.received_bytes),
                ("rx.pkts", net.received_packets),
                ("rx.errs", net.receive_errors),
                ("rx.drop", net.receive_drops),
                ("tx.bytes", net.sent_bytes),
                ("tx.pkts", net.sent_packets),
                ("tx.errs", net.send_errors),
                ("tx.drop", net.send_drops),
            ] {
                rows.add(format!("net.{n}.{name}"), Some(value));
            }
        }
        rows.add("net.left_out", stats.more_interfaces);
    }
    if let Some(blocks) = stats.blocks.as_ref().filter(|_| wants("block")) {
        rows.add("block.count", Some(blocks.len() as i64));
        for (n, block) in blocks.iter().enumerate() {
            rows.text(format!("block.{n}.name"), block.target.as_ref().unwrap_or(&block.name));
            if let Some(source) = &block.source {
                rows.text(format!("block.{n}.path"), source);
            }
            rows.add(format!("block.{n}.rd.reqs"), Some(block.read_requests));
            rows.add(format!("block.{n}.rd.bytes"), Some(block.read_bytes));
            rows.add(format!("block.{n}.wr.reqs"), Some(block.write_requests));
            rows.add(format!("block.{n}.wr.bytes"), Some(block.write_bytes));
        }
    }
    for pressure in stats.pressure.iter().flatten().filter(|_| wants("pressure")) {
        let name = pressure.resource.as_str();
        rows.add(format!("pressure.{name}.some"), Some(pressure.some_u_sec));
        rows.add(format!("pressure.{name}.full"), pressure.full_u_sec);
    }
    rows.0
}

/// Memory under the names of `dommemstat`, in its order, in KiB where it is memory.
pub fn memory_rows(stats: &DomainStats) -> Vec<(&'static str, i64)> {
    let mut rows = vec![("actual", Some(stats.current_memory_ki_b))];
    if let Some(memory) = &stats.memory {
        let kib = |bytes: Option<i64>| bytes.map(|b| b / 1024);
        // What there is for the container: its limit, or what its definition says where nothing enforces that.
        let available = memory.limit_bytes.or(stats.max_memory_ki_b.checked_mul(1024));
        let unused = available.zip(memory.usage_bytes).map(|(all, used)| (all - used).max(0));
        let usable = unused.map(|u| u.saturating_add(memory.inactive_file_bytes.unwrap_or_default()));
        rows.extend([
            ("major_fault", memory.major_page_faults),
            (
                "minor_fault",
                memory.page_faults.zip(memory.major_page_faults).map(|(all, major)| (all - major).max(0)),
            ),
            ("unused", kib(unused)),
            ("available", kib(available)),
            ("usable", kib(usable)),
            ("disk_caches", kib(memory.cache_bytes)),
            ("rss", kib(memory.usage_bytes)),
        ]);
    }
    rows.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}
