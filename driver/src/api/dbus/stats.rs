//! Figures under libvirt's names, of one domain or of all.
//!
//! Does not know where figures come from.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_schemas::domain::{DomainStats, StatsGroup};
use zbus::Variant;

use crate::api::dbus::call::{Answer, Call};
use crate::api::dbus::error::Refusal;
use crate::api::dbus::numbers::{self, Listed, only};
use crate::api::dbus::typed::Out;
use crate::engine::publish::blocking;
use crate::engine::snapshot::Snapshot;
use crate::engine::stats::Reading;
use crate::failure::Failure;

/// virDomainStatsTypes: those that containers have.
const STATE: u32 = 1;
const CPU_TOTAL: u32 = 2;
const BALLOON: u32 = 4;
const VCPU: u32 = 8;
const INTERFACE: u32 = 16;
const BLOCK: u32 = 32;
const KNOWN: u32 = STATE | CPU_TOTAL | BALLOON | VCPU | INTERFACE | BLOCK;

/// virConnectGetAllDomainStatsFlags: do not wait (nothing is waited for), the backing chain (there is none), and that a
/// group that is not there is an error.
const NOWAIT: u32 = 1 << 29;
const BACKING: u32 = 1 << 30;
const ENFORCE: u32 = 1 << 31;

/// The part of those flags that chooses domains.
const CHOOSES: u32 = 0xff;

/// One domain's figures.
type Record = BTreeMap<String, Variant<'static>>;

/// The groups to be read.
fn groups(asked: u32, flags: u32) -> Result<(u32, Vec<StatsGroup>), Refusal> {
    if flags & ENFORCE != 0 && asked & !KNOWN != 0 {
        let message = format!("Stats types bits 0x{:x} are not supported by this daemon", asked & !KNOWN);
        return Err(Refusal::Said(format!("argument unsupported: {message}")));
    }
    let wanted = if asked == 0 { KNOWN } else { asked };
    let read = [
        (CPU_TOTAL, StatsGroup::Cpu),
        (BALLOON, StatsGroup::Memory),
        (INTERFACE, StatsGroup::Interface),
        (BLOCK, StatsGroup::Block),
    ];
    Ok((wanted, read.iter().filter(|(bit, _)| wanted & bit != 0).map(|(_, group)| *group).collect()))
}

/// `GetAllDomainStats`
pub async fn all(c: &Call<'_>) -> Answer {
    let (asked, flags): (u32, u32) = c.parameters()?;
    only(flags, CHOOSES | NOWAIT | BACKING | ENFORCE, "virConnectGetAllDomainStats")?;
    let (wanted, groups) = groups(asked, flags)?;
    let engine = c.bus.engine.clone();
    engine.watch_meters();
    let records = blocking(move || {
        let mut reading = Reading::default();
        let chosen = engine.registry.all().into_iter().filter(|s| {
            let looks = Listed {
                active: s.run.is_some(),
                persistent: s.next.is_some(),
                autostart: s.autostart,
                state: s.state,
            };
            numbers::is_listed(flags & CHOOSES, &looks)
        });
        let read = |s: Arc<Snapshot>| {
            let stats = engine.stats(&s, &groups, &mut reading);
            (s.name.to_string(), record(&stats, wanted))
        };
        Ok(chosen.map(read).collect::<Vec<(String, Record)>>())
    });
    c.answer(&records.await?)
}

async fn read(
    c: &Call<'_>,
    snapshot: Arc<Snapshot>,
    groups: Vec<StatsGroup>,
) -> Result<DomainStats, Refusal> {
    let engine = c.bus.engine.clone();
    engine.watch_meters();
    Ok(blocking(move || Ok(engine.stats(&snapshot, &groups, &mut Reading::default()))).await?)
}

/// `GetStats`
pub async fn one(c: &Call<'_>, snapshot: Arc<Snapshot>) -> Answer {
    let (asked, flags): (u32, u32) = c.parameters()?;
    only(flags, NOWAIT | BACKING | ENFORCE, "virDomainListGetStats")?;
    let (wanted, groups) = groups(asked, flags)?;
    let stats = read(c, snapshot, groups).await?;
    c.answer(&record(&stats, wanted))
}

/// `MemoryStats`
pub async fn memory(c: &Call<'_>, snapshot: Arc<Snapshot>) -> Answer {
    let flags: u32 = c.parameters()?;
    only(flags, 0, "virDomainMemoryStats")?;
    if snapshot.run.is_none() {
        let message = "domain is not running".into();
        return Err(Failure::InvalidState { message, state: snapshot.state }.into());
    }
    let stats = read(c, snapshot, vec![StatsGroup::Memory]).await?;
    let tagged = memory_rows(&stats).into_iter().map(|row| (row.tag, u64::try_from(row.value).unwrap_or(0)));
    c.answer(&tagged.collect::<BTreeMap<i32, u64>>())
}

/// A figure of memory.
struct Row {
    /// virDomainMemoryStatTags
    tag: i32,
    /// Its name in `GetStats`, behind `balloon.`.
    name: &'static str,
    /// In KiB, where it is memory.
    value: i64,
}

fn memory_rows(stats: &DomainStats) -> Vec<Row> {
    let mut rows = vec![(6, "current", Some(stats.current_memory_ki_b))];
    if let Some(memory) = &stats.memory {
        let kib = |bytes: Option<i64>| bytes.map(|b| b / 1024);
        // What there is for the container: its limit, or what its definition says where nothing enforces that.
        let available = memory.limit_bytes.or(stats.max_memory_ki_b.checked_mul(1024));
        let unused = available.zip(memory.usage_bytes).map(|(all, used)| (all - used).max(0));
        let usable = unused.map(|u| u.saturating_add(memory.inactive_file_bytes.unwrap_or_default()));
        let minor = memory.page_faults.zip(memory.major_page_faults).map(|(all, major)| (all - major).max(0));
        rows.extend([
            (2, "major_fault", memory.major_page_faults),
            (3, "minor_fault", minor),
            (4, "unused", kib(unused)),
            (5, "available", kib(available)),
            (8, "usable", kib(usable)),
            (10, "disk_caches", kib(memory.cache_bytes)),
            (7, "rss", kib(memory.usage_bytes)),
        ]);
    }
    rows.into_iter().filter_map(|(tag, name, value)| Some(Row { tag, name, value: value? })).collect()
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn record(stats: &DomainStats, wanted: u32) -> Record {
    let mut out = Out::default();
    if wanted & STATE != 0 {
        out.put("state.state", numbers::state(stats.state));
        out.put("state.reason", numbers::reason(stats.state, stats.reason));
    }
    if let Some(cpu) = stats.cpu.as_ref().filter(|_| wanted & CPU_TOTAL != 0) {
        out.figure("cpu.time", cpu.total_n_sec);
        out.figure("cpu.user", cpu.user_n_sec);
        out.figure("cpu.system", cpu.system_n_sec);
    }
    if wanted & BALLOON != 0 {
        out.figure("balloon.maximum", Some(stats.max_memory_ki_b));
        for row in memory_rows(stats) {
            out.figure(format!("balloon.{}", row.name), Some(row.value));
        }
    }
    if wanted & VCPU != 0 {
        out.put("vcpu.current", u32::try_from(stats.vcpus).unwrap_or(0));
        out.put("vcpu.maximum", u32::try_from(stats.max_vcpus).unwrap_or(0));
    }
    if let Some(interfaces) = stats.interfaces.as_ref().filter(|_| wanted & INTERFACE != 0) {
        // As libvirt counts them: loopback is none.
        let real: Vec<_> = interfaces.iter().filter(|i| i.name != "lo").collect();
        out.put("net.count", count(real.len()));
        for (n, net) in real.iter().enumerate() {
            out.put(format!("net.{n}.name"), net.name.clone());
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
                out.figure(format!("net.{n}.{name}"), Some(value));
            }
        }
        out.figure("net.left_out", stats.more_interfaces);
    }
    if let Some(blocks) = stats.blocks.as_ref().filter(|_| wanted & BLOCK != 0) {
        out.put("block.count", count(blocks.len()));
        for (n, block) in blocks.iter().enumerate() {
            out.put(format!("block.{n}.name"), block.target.as_ref().unwrap_or(&block.name).clone());
            out.figure(format!("block.{n}.rd.reqs"), Some(block.read_requests));
            out.figure(format!("block.{n}.rd.bytes"), Some(block.read_bytes));
            out.figure(format!("block.{n}.wr.reqs"), Some(block.write_requests));
            out.figure(format!("block.{n}.wr.bytes"), Some(block.write_bytes));
        }
    }
    out.into_map()
}
