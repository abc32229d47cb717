//! /proc/meminfo.

use std::fmt::Write;

use super::field;

/// What the container may use and uses, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// The lowest limit of its group and of those above it.
    pub limit: Option<u64>,
    /// What is counted against it, page cache included.
    pub used: u64,
    /// How much swap it may use.
    pub swap_limit: Option<u64>,
    /// How much it uses.
    pub swap_used: u64,
    /// memory.stat of its group.
    pub stat: String,
    /// That is of version 1, where names are others and `total_` has the groups below too.
    pub legacy: bool,
}

/// Amount of a line of the host's file, in KiB.
pub fn host(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

impl Memory {
    fn stat(&self, new: &str, old: &str) -> u64 {
        let found =
            if self.legacy { field(&self.stat, &format!("total_{old}")) } else { field(&self.stat, new) };
        found.unwrap_or(0) / 1024
    }

    /// The swap that there is for it, in KiB: no more than the host has.
    pub fn swap_total(&self, host_text: &str) -> u64 {
        let all = host(host_text, "SwapTotal");
        self.swap_limit.map_or(all, |limit| all.min(limit / 1024))
    }

    /// What of it is free.
    fn swap_free(&self, host_text: &str) -> u64 {
        self.swap_total(host_text).saturating_sub(self.swap_used / 1024).min(host(host_text, "SwapFree"))
    }
}

/// The text: the lines of the host's that have a meaning for the container, in its order.
pub fn text(host_text: &str, m: &Memory) -> String {
    let all = host(host_text, "MemTotal");
    let total = m.limit.map_or(all, |limit| all.min(limit / 1024));
    let free = total.saturating_sub(m.used / 1024);
    let stat = |new, old| m.stat(new, old);
    let file = stat("file", "cache");
    let shmem = stat("shmem", "shmem");
    let swap_cached = if m.legacy { 0 } else { stat("swapcached", "") };
    let (active_anon, inactive_anon) =
        (stat("active_anon", "active_anon"), stat("inactive_anon", "inactive_anon"));
    let (active_file, inactive_file) =
        (stat("active_file", "active_file"), stat("inactive_file", "inactive_file"));
    // Version 1 does not count what the kernel keeps for a group by kind.
    let kernel = |name| if m.legacy { 0 } else { stat(name, "") };
    let (reclaimable, unreclaimable) = (kernel("slab_reclaimable"), kernel("slab_unreclaimable"));
    // What can be had: by the container's limit, and in fact.
    let available = (free + active_file + inactive_file + reclaimable).min(total);
    let in_fact = host(host_text, "MemAvailable");
    let mut out = String::with_capacity(1536);
    for line in host_text.lines() {
        let Some((name, _)) = line.split_once(':') else { continue };
        let value = match name {
            "MemTotal" => total,
            // What is free can be had.
            "MemFree" => free.min(in_fact),
            "MemAvailable" => available.min(in_fact),
            // Of the page cache, what belongs to block devices themselves is counted with the rest for a group.
            "Buffers" => 0,
            "Cached" => file,
            "SwapCached" => swap_cached,
            "Active" => active_anon + active_file,
            "Inactive" => inactive_anon + inactive_file,
            "Active(anon)" => active_anon,
            "Inactive(anon)" => inactive_anon,
            "Active(file)" => active_file,
            "Inactive(file)" => inactive_file,
            "Unevictable" => stat("unevictable", "unevictable"),
            "SwapTotal" => m.swap_total(host_text),
            "SwapFree" => m.swap_free(host_text),
            "Dirty" => stat("file_dirty", "dirty"),
            "Writeback" => stat("file_writeback", "writeback"),
            "AnonPages" => stat("anon", "rss"),
            "Mapped" => stat("file_mapped", "mapped_file"),
            "Shmem" => shmem,
            "KReclaimable" | "SReclaimable" => reclaimable,
            "SUnreclaim" => unreclaimable,
            "Slab" => reclaimable + unreclaimable,
            "KernelStack" => kernel("kernel_stack"),
            "PageTables" => kernel("pagetables"),
            "SecPageTables" => kernel("sec_pagetables"),
            "Percpu" => kernel("percpu"),
            "AnonHugePages" => stat("anon_thp", "rss_huge"),
            "ShmemHugePages" => kernel("shmem_thp"),
            "FileHugePages" => kernel("file_thp"),
            "Zswap" => kernel("zswap"),
            "Zswapped" => kernel("zswapped"),
            // Nothing is counted by group, or the container has none of it.
            "Mlocked" | "NFS_Unstable" | "Bounce" | "WritebackTmp" | "VmallocUsed" | "VmallocChunk"
            | "HardwareCorrupted" | "ShmemPmdMapped" | "FilePmdMapped" | "HugePages_Total"
            | "HugePages_Free" | "HugePages_Rsvd" | "HugePages_Surp" | "Hugetlb" | "CmaTotal" | "CmaFree" => {
                0
            }
            "CommitLimit" => total + m.swap_total(host_text),
            "Committed_AS" => stat("anon", "rss") + shmem,
            // The same on every machine of this kind.
            "VmallocTotal" | "Hugepagesize" => host(host_text, name),
            // What is left tells about the host's hardware.
            _ => continue,
        };
        let unit = if name.starts_with("HugePages_") { "" } else { " kB" };
        let _ = writeln!(out, "{:<16}{value:>8}{unit}", format!("{name}:"));
    }
    out
}

#[cfg(test)]
mod test {
    use super::*;

    const HOST: &str = "MemTotal:       24683656 kB\nMemFree:        16001720 kB\nMemAvailable:   24045808 kB\n\
        Buffers:           75432 kB\nCached:          7934368 kB\nSwapTotal:       2097152 kB\nSwapFree:        1048576 kB\n\
        Active(file):    2842600 kB\nAnonPages:         80096 kB\nSlab:             477860 kB\n\
        VmallocTotal:   34359738367 kB\nHugePages_Total:       7\nHugepagesize:       2048 kB\n\
        DirectMap4k:       20480 kB\nNewInLinux9:  1 kB\n";

    #[test]
    fn version_2() {
        let stat = "anon 4194304\nfile 8388608\nshmem 4096\nactive_file 2097152\ninactive_file 6291456\n\
            slab_reclaimable 1048576\nslab_unreclaimable 1024\n";
        let memory = Memory {
            limit: Some(64 << 20),
            used: 16 << 20,
            swap_limit: Some(32 << 20),
            swap_used: 1 << 20,
            stat: stat.into(),
            legacy: false,
        };
        assert_eq!(
            text(HOST, &memory),
            "MemTotal:          65536 kB\nMemFree:           49152 kB\nMemAvailable:      58368 kB\n\
             Buffers:               0 kB\nCached:             8192 kB\nSwapTotal:         32768 kB\n\
             SwapFree:          31744 kB\nActive(file):       2048 kB\nAnonPages:          4096 kB\n\
             Slab:               1025 kB\nVmallocTotal:   34359738367 kB\nHugePages_Total:       0\n\
             Hugepagesize:       2048 kB\n"
        );
    }

    #[test]
    fn version_1() {
        let stat = "cache 1\nrss 1\ntotal_cache 8388608\ntotal_rss 4194304\ntotal_active_file 2097152\n\
            total_inactive_file 1048576\nhierarchical_memory_limit 67108864\n";
        let memory = Memory {
            limit: Some(64 << 20),
            used: 16 << 20,
            stat: stat.into(),
            legacy: true,
            ..Memory::default()
        };
        let text = text(HOST, &memory);
        for line in
            ["MemAvailable:      52224 kB", "Cached:             8192 kB", "AnonPages:          4096 kB"]
        {
            assert!(text.contains(line), "{text}");
        }
        // No limit of swap: what the host has, and has free.
        assert!(text.contains("SwapTotal:       2097152 kB\nSwapFree:        1048576 kB\n"), "{text}");
    }

    #[test]
    fn no_limit_and_more_than_the_host_has() {
        for limit in [None, Some(1 << 50)] {
            let text = text(HOST, &Memory { limit, used: 1 << 30, ..Memory::default() });
            assert!(text.starts_with("MemTotal:       24683656 kB\nMemFree:        23635080 kB\n"), "{text}");
            // What the host cannot give is not available.
            assert!(text.contains("MemAvailable:   23635080 kB"), "{text}");
        }
        assert_eq!(super::text("", &Memory::default()), "");
    }
}
