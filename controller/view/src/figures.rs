//! What the container's limits and groups say, from the files.
//!
//! Does not know how it is shown.

use crate::cpus::{Cpus, parse_list};
use crate::files::{Files, Source};
use crate::text::diskstats::{self, Devices};
use crate::text::field;
use crate::text::meminfo::Memory;
use crate::usage::Sample;

/// More than this is no limit on version 1, which shows the largest number of pages.
const NO_LIMIT: u64 = 1 << 62;

/// The processors that it may run on, as many as its quota is worth.
pub fn cpus(files: &mut Files) -> Cpus {
    let allowed = files.text(Source::Cpuset).map(parse_list).unwrap_or_default();
    let mut quotas = files.cpu_limits();
    // Version 1; -1 is no quota.
    if let (Some(quota), Some(period)) = (files.number(Source::Quota), files.number(Source::Period)) {
        quotas.push((quota, period));
    }
    let worth =
        |(quota, period): (u64, u64)| usize::try_from(quota.div_ceil(period.max(1))).unwrap_or(usize::MAX);
    Cpus::new(allowed, quotas.into_iter().map(worth).min())
}

/// Its memory; none where no controller counts it.
pub fn memory(files: &mut Files) -> Option<Memory> {
    let used = files.number(Source::MemoryUsage)?;
    let stat = files.text(Source::MemoryStat)?.to_owned();
    let mut memory = Memory { used, legacy: files.legacy_memory, ..Memory::default() };
    if memory.legacy {
        let limit = |name| field(&stat, name).filter(|n| *n < NO_LIMIT);
        memory.limit = limit("hierarchical_memory_limit");
        // Both together; what is left for swap when memory is full.
        memory.swap_limit =
            limit("hierarchical_memsw_limit").map(|both| both.saturating_sub(memory.limit.unwrap_or(0)));
        memory.swap_used = field(&stat, "total_swap").unwrap_or(0);
    } else {
        memory.limit = files.memory_limit();
        memory.swap_limit = files.swap_limit();
        memory.swap_used = files.number(Source::SwapUsage).unwrap_or(0);
    }
    memory.stat = stat;
    Some(memory)
}

/// Its processor time, `at` nanoseconds after its start. None if nobody counts it.
pub fn sample(files: &mut Files, at: u64) -> Option<Sample> {
    if let Some(text) = files.text(Source::PerCpu) {
        let by_cpu = per_cpu(text);
        let sum = |of: fn(&(u32, u64, u64)) -> u64| by_cpu.iter().map(of).fold(0, u64::saturating_add);
        return Some(Sample { at, user: sum(|c| c.1), system: sum(|c| c.2), by_cpu });
    }
    let text = files.text(Source::CpuStat)?;
    let nano = |name| field(text, name).map(|usec| usec.saturating_mul(1000));
    Some(Sample { at, user: nano("user_usec")?, system: nano("system_usec")?, by_cpu: Vec::new() })
}

/// Lines "number user system", in nanoseconds, below a line of names.
fn per_cpu(text: &str) -> Vec<(u32, u64, u64)> {
    let line = |l: &str| {
        let mut words = l.split_ascii_whitespace();
        let number = words.next()?.parse().ok()?;
        Some((number, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// Time in nanoseconds for which somebody waited, by a pressure file: line "some ... total=USEC".
pub fn waited(files: &mut Files, source: Source) -> u64 {
    let total = |text: &str| text.lines().next()?.rsplit_once("total=")?.1.trim().parse::<u64>().ok();
    files.text(source).and_then(total).unwrap_or(0).saturating_mul(1000)
}

/// What it has done with which block devices.
pub fn devices(files: &mut Files) -> Devices {
    let first = files.text(Source::Blocks).unwrap_or_default().to_owned();
    if files.legacy_blocks {
        diskstats::of_version_1(&first, files.text(Source::BlockRequests).unwrap_or_default())
    } else {
        diskstats::of_version_2(&first)
    }
}
