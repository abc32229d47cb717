//! Limits, placement and id ranges.
//!
//! Does not know what the host has of any of them.

use super::{Extra, closed};
use crate::tree::Pos;

closed! {
    /// Who chooses the place.
    Placement { Static = "static", Auto = "auto" }
}

/// `<vcpu>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Vcpu {
    /// Number of CPUs, at least 1.
    pub count: u32,
    /// Number at start.
    pub current: Option<u32>,
    /// Who chooses the CPUs.
    pub placement: Placement,
    /// Host CPUs, such as `0-3,8`.
    pub cpuset: Option<String>,
    /// Where it stood.
    pub pos: Pos,
    /// What is unknown inside.
    pub extra: Extra,
}

/// `<memtune>`; all in KiB.
#[derive(Clone, Debug, PartialEq)]
pub struct Memtune {
    /// Limit of memory.
    pub hard_limit: Option<u64>,
    /// Limit under pressure.
    pub soft_limit: Option<u64>,
    /// Guarantee; without effect in libvirt.
    pub min_guarantee: Option<u64>,
    /// Limit of memory and swap together.
    pub swap_hard_limit: Option<u64>,
    /// Where it stood.
    pub pos: Pos,
    /// What is unknown inside.
    pub extra: Extra,
}

/// `<blkiotune>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Blkiotune {
    /// Weight, 10 to 1000.
    pub weight: Option<u32>,
    /// Limits per device.
    pub devices: Vec<BlkioDevice>,
    /// Where it stood.
    pub pos: Pos,
    /// What is unknown inside.
    pub extra: Extra,
}

/// Most `<device>` elements in `<blkiotune>`.
pub const MAX_BLKIO_DEVICES: usize = 256;

/// Limits on one block device.
#[derive(Clone, Debug, PartialEq)]
pub struct BlkioDevice {
    /// Absolute path on the host.
    pub path: String,
    /// Weight.
    pub weight: Option<u32>,
    /// Reads per second.
    pub read_iops_sec: Option<u32>,
    /// Writes per second.
    pub write_iops_sec: Option<u32>,
    /// Bytes read per second.
    pub read_bytes_sec: Option<u64>,
    /// Bytes written per second.
    pub write_bytes_sec: Option<u64>,
    /// What is unknown inside.
    pub extra: Extra,
}

/// `<cputune>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Cputune {
    /// Relative share, 2 to 262144.
    pub shares: Option<u64>,
    /// Period in microseconds, 1000 to 1000000.
    pub period: Option<u64>,
    /// Time per period in microseconds; negative for no limit.
    pub quota: Option<i64>,
    /// Where it stood.
    pub pos: Pos,
    /// What is unknown inside.
    pub extra: Extra,
}

closed! {
    /// How strictly memory stays on its nodes.
    NumaMode { Strict = "strict", Preferred = "preferred", Interleave = "interleave", Restrictive = "restrictive" }
}

/// `<numatune>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Numatune {
    /// How strictly.
    pub mode: NumaMode,
    /// Who chooses the nodes.
    pub placement: Placement,
    /// Host nodes, such as `0-1`.
    pub nodeset: Option<String>,
    /// Where it stood.
    pub pos: Pos,
    /// What is unknown inside.
    pub extra: Extra,
}

/// `<resource>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Absolute path in the control groups.
    pub partition: Option<String>,
    /// Where it stood.
    pub pos: Pos,
    /// What is unknown inside.
    pub extra: Extra,
}

/// `<idmap>`: both lists have a range, and one of each begins at 0.
#[derive(Clone, Debug, PartialEq)]
pub struct IdMap {
    /// Ranges of user ids.
    pub uids: Vec<IdRange>,
    /// Ranges of group ids.
    pub gids: Vec<IdRange>,
    /// Where it stood.
    pub pos: Pos,
    /// What is unknown inside.
    pub extra: Extra,
}

/// Most ranges of each kind: the kernel takes no more lines.
pub const MAX_ID_RANGES: usize = 340;

/// A range of ids.
#[derive(Clone, Debug, PartialEq)]
pub struct IdRange {
    /// First id inside.
    pub start: u32,
    /// First id on the host.
    pub target: u32,
    /// How many, at least 1.
    pub count: u32,
    /// Where it stood.
    pub pos: Pos,
}
