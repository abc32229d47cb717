//! Limits as files of control groups version 2.
//!
//! Does not know which controllers the host has in this version. Source: admin-guide/cgroup-v2.rst of the kernel's
//! documentation.

use super::{IoLimits, Limits, PERIOD, Setting, setting};

/// Weight of CPU time for a share of version 1, so that the default of one (1024) is that of the other (100), as the
/// kernel converts between the two (`cpu_shares_write_u64` and `cpu_weight_read_u64` in kernel/sched/core.c).
pub fn weight(shares: u64) -> u64 {
    (shares.saturating_mul(100).saturating_add(512) / 1024).clamp(1, 10_000)
}

/// All settings, those that limit nothing too, in the order in which a new group takes them.
pub fn settings(l: &Limits) -> Vec<Setting> {
    let shown = |n: Option<u64>| n.map(|n| n.to_string());
    let swap = match (l.memory_and_swap, l.memory) {
        (Some(both), Some(memory)) => Some(both.saturating_sub(memory)),
        _ => None,
    };
    let max = match (l.quota, l.period) {
        (None, None) => None,
        (quota, period) => {
            let quota = quota.map_or_else(|| "max".into(), |q| q.to_string());
            Some(format!("{quota} {}", period.unwrap_or(PERIOD)))
        }
    };
    let mut all = vec![
        Setting {
            lenient: true,
            ..setting(l.memory_element(), "memory", &["memory.max"], "max", shown(l.memory))
        },
        setting("memtune/swap_hard_limit", "memory", &["memory.swap.max"], "max", shown(swap)),
        setting("memtune/soft_limit", "memory", &["memory.high"], "max", shown(l.memory_soft)),
        setting("cputune/shares", "cpu", &["cpu.weight"], "100", shown(l.shares.map(weight))),
        setting("cputune/quota", "cpu", &["cpu.max"], "max 100000", max),
        setting("berth:limits pids", "pids", &["pids.max"], "max", shown(l.pids)),
        setting("numatune", "cpuset", &["cpuset.mems"], "", l.nodes.clone()),
        setting(
            "blkiotune/weight",
            "io",
            &["io.bfq.weight", "io.weight"],
            "default 100",
            l.io_weight.map(|w| format!("default {w}")),
        ),
    ];
    all.extend(l.io_devices.iter().flat_map(device));
    all
}

fn device(d: &IoLimits) -> Vec<Setting> {
    let one = |element, files, neutral, value| Setting {
        key: Some(d.number.clone()),
        ..setting(element, "io", files, neutral, value)
    };
    let limit = |n: Option<u64>| n.map_or_else(|| "max".to_owned(), |n| n.to_string());
    let max = format!(
        "rbps={} wbps={} riops={} wiops={}",
        limit(d.read_bytes),
        limit(d.write_bytes),
        limit(d.read_ops),
        limit(d.write_ops)
    );
    vec![
        one(
            "blkiotune/device/weight",
            &["io.bfq.weight", "io.weight"],
            "default",
            d.weight.map(|w| w.to_string()),
        ),
        one("blkiotune/device", &["io.max"], "rbps=max wbps=max riops=max wiops=max", Some(max)),
    ]
}

#[cfg(test)]
mod test {
    use super::weight;

    #[test]
    fn weights_keep_the_default_and_the_ends() {
        for (shares, expected) in
            [(2, 1), (10, 1), (512, 50), (1024, 100), (2048, 200), (102_400, 10_000), (262_144, 10_000)]
        {
            assert_eq!(weight(shares), expected, "{shares}");
        }
    }
}
