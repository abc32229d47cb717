//! Limits as files of control groups version 1.
//!
//! Does not know which controllers the host has in this version. Sources: cgroup-v1/{memory,blkio-controller,pids}.rst
//! and scheduler/sched-bwc.rst of the kernel's documentation.

use super::{IoLimits, Limits, PERIOD, Setting, setting};

/// All settings, those that limit nothing too, in the order in which a new group takes them.
pub fn settings(l: &Limits) -> Vec<Setting> {
    let shown = |n: Option<u64>| n.map(|n| n.to_string());
    let mut all = vec![
        Setting {
            lenient: true,
            ..setting(l.memory_element(), "memory", &["memory.limit_in_bytes"], "-1", shown(l.memory))
        },
        setting(
            "memtune/swap_hard_limit",
            "memory",
            &["memory.memsw.limit_in_bytes"],
            "-1",
            shown(l.memory_and_swap),
        ),
        setting("memtune/soft_limit", "memory", &["memory.soft_limit_in_bytes"], "-1", shown(l.memory_soft)),
        setting("cputune/shares", "cpu", &["cpu.shares"], "1024", shown(l.shares)),
        setting(
            "cputune/period",
            "cpu",
            &["cpu.cfs_period_us"],
            "100000",
            shown(l.period.filter(|p| *p != PERIOD)),
        ),
        setting("cputune/quota", "cpu", &["cpu.cfs_quota_us"], "-1", shown(l.quota)),
        setting("berth:limits pids", "pids", &["pids.max"], "max", shown(l.pids)),
        setting("numatune", "cpuset", &["cpuset.mems"], "", l.nodes.clone()),
        setting(
            "blkiotune/weight",
            "blkio",
            &["blkio.bfq.weight", "blkio.weight"],
            "100",
            l.io_weight.map(|w| w.to_string()),
        ),
    ];
    all.extend(l.io_devices.iter().flat_map(device));
    all
}

fn device(d: &IoLimits) -> Vec<Setting> {
    let one = |element, files, value: Option<u64>| Setting {
        key: Some(d.number.clone()),
        ..setting(element, "blkio", files, "0", value.map(|n| n.to_string()))
    };
    vec![
        one(
            "blkiotune/device/weight",
            &["blkio.bfq.weight_device", "blkio.weight_device"],
            d.weight.map(u64::from),
        ),
        one("blkiotune/device/read_bytes_sec", &["blkio.throttle.read_bps_device"], d.read_bytes),
        one("blkiotune/device/write_bytes_sec", &["blkio.throttle.write_bps_device"], d.write_bytes),
        one("blkiotune/device/read_iops_sec", &["blkio.throttle.read_iops_device"], d.read_ops),
        one("blkiotune/device/write_iops_sec", &["blkio.throttle.write_iops_device"], d.write_ops),
    ]
}
