//! Files of the kernel that are opened once and read often: opening one takes ten to forty times as long.
//!
//! They are opened with the rights of root, which the program gives up then. Does not know what is in them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::options::Options;

/// The longest text that is read: /proc/cpuinfo has about 1.5 KiB for each processor.
const LONGEST: usize = 4 << 20;

/// All that are read, and by their names what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The host's /proc/meminfo.
    HostMemory,
    /// The host's /proc/cpuinfo.
    HostProcessors,
    /// The host's /proc/diskstats.
    HostBlocks,
    /// memory.stat.
    MemoryStat,
    /// memory.current, or memory.usage_in_bytes of version 1.
    MemoryUsage,
    /// memory.swap.current; of version 1 it is in memory.stat.
    SwapUsage,
    /// cpuset.cpus.effective, or cpuset.effective_cpus of version 1.
    Cpuset,
    /// cpu.cfs_quota_us of version 1.
    Quota,
    /// cpu.cfs_period_us of version 1.
    Period,
    /// cpuacct.usage_all, which only version 1 has.
    PerCpu,
    /// cpu.stat of what runs in the container.
    CpuStat,
    /// io.stat, or blkio.throttle.io_service_bytes of version 1.
    Blocks,
    /// blkio.throttle.io_serviced of version 1.
    BlockRequests,
    /// pids.current.
    Tasks,
    /// cpu.pressure of what runs in the container.
    CpuPressure,
    /// memory.pressure.
    MemoryPressure,
    /// io.pressure.
    IoPressure,
}

const COUNT: usize = Source::IoPressure as usize + 1;

/// The files.
#[derive(Debug)]
pub struct Files {
    open: [Option<File>; COUNT],
    /// memory.max of the domain's group and of all above it; version 2.
    memory_limits: Vec<File>,
    /// memory.swap.max likewise.
    swap_limits: Vec<File>,
    /// cpu.max likewise.
    cpu_limits: Vec<File>,
    /// Whether memory belongs to version 1.
    pub legacy_memory: bool,
    /// Whether block devices belong to version 1.
    pub legacy_blocks: bool,
    /// The container's own group, and through it those in it.
    pub payload: Option<File>,
    buffer: Vec<u8>,
}

/// A file of a group of which not every kernel has both names.
fn first_of(folder: &str, names: &[&str]) -> Option<File> {
    names.iter().find_map(|name| File::open(format!("{folder}/{name}")).ok())
}

/// The file of a group and of all groups above it.
fn upwards(group: &str, name: &str) -> Vec<File> {
    Path::new(group).ancestors().map_while(|folder| File::open(folder.join(name)).ok()).collect()
}

impl Files {
    /// Opens them. What is missing on this kernel is missing in what is made of it.
    pub fn open(options: &Options) -> Self {
        let unified = &options.unified;
        let payload = format!("{unified}/payload");
        let of = |legacy: &Option<String>, old: &[&str], new: &str| match legacy {
            Some(group) => first_of(group, old),
            None if new.is_empty() => None,
            None => first_of(unified, &[new]),
        };
        let cpuset = match &options.cpuset {
            Some(group) => first_of(group, &["cpuset.effective_cpus", "cpuset.cpus"]),
            // Where the controller is not passed on, what is above decides.
            None => Path::new(unified)
                .ancestors()
                .find_map(|folder| File::open(folder.join("cpuset.cpus.effective")).ok()),
        };
        let online = || File::open("/sys/devices/system/cpu/online").ok();
        let mut files = Self {
            open: [const { None }; COUNT],
            memory_limits: Vec::new(),
            swap_limits: Vec::new(),
            cpu_limits: Vec::new(),
            legacy_memory: options.memory.is_some(),
            legacy_blocks: options.blkio.is_some(),
            payload: File::open(&payload).ok(),
            buffer: vec![0; 16 << 10],
        };
        if !files.legacy_memory {
            files.memory_limits = upwards(unified, "memory.max");
            files.swap_limits = upwards(unified, "memory.swap.max");
        }
        if options.cpu.is_none() {
            files.cpu_limits = upwards(unified, "cpu.max");
        }
        for (source, file) in [
            (Source::HostMemory, File::open("/proc/meminfo").ok()),
            (Source::HostProcessors, File::open("/proc/cpuinfo").ok()),
            (Source::HostBlocks, File::open("/proc/diskstats").ok()),
            (Source::MemoryStat, of(&options.memory, &["memory.stat"], "memory.stat")),
            (Source::MemoryUsage, of(&options.memory, &["memory.usage_in_bytes"], "memory.current")),
            (Source::SwapUsage, of(&options.memory, &[], "memory.swap.current")),
            (Source::Cpuset, cpuset.or_else(online)),
            (Source::Quota, of(&options.cpu, &["cpu.cfs_quota_us"], "")),
            (Source::Period, of(&options.cpu, &["cpu.cfs_period_us"], "")),
            (Source::PerCpu, of(&options.cpuacct, &["cpuacct.usage_all"], "")),
            (Source::CpuStat, first_of(&payload, &["cpu.stat"])),
            (
                Source::Blocks,
                of(
                    &options.blkio,
                    &["blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"],
                    "io.stat",
                ),
            ),
            (
                Source::BlockRequests,
                of(
                    &options.blkio,
                    &["blkio.throttle.io_serviced_recursive", "blkio.throttle.io_serviced"],
                    "",
                ),
            ),
            (Source::Tasks, of(&options.pids, &["pids.current"], "pids.current")),
            (Source::CpuPressure, first_of(&payload, &["cpu.pressure"])),
            (Source::MemoryPressure, first_of(&payload, &["memory.pressure"])),
            (Source::IoPressure, first_of(&payload, &["io.pressure"])),
        ] {
            files.open[source as usize] = file;
        }
        files
    }

    /// What a file says now; none if it is not there, or what it was about has gone.
    pub fn text(&mut self, source: Source) -> Option<&str> {
        let file = self.open[source as usize].as_ref()?;
        let length = fill(file, &mut self.buffer)?;
        std::str::from_utf8(&self.buffer[..length]).ok()
    }

    /// A number alone in a file.
    pub fn number(&mut self, source: Source) -> Option<u64> {
        self.text(source)?.trim().parse().ok()
    }

    /// The lowest limit of memory, in bytes, by version 2.
    pub fn memory_limit(&mut self) -> Option<u64> {
        lowest(&self.memory_limits, &mut self.buffer)
    }

    /// The lowest limit of swap, in bytes, by version 2.
    pub fn swap_limit(&mut self) -> Option<u64> {
        lowest(&self.swap_limits, &mut self.buffer)
    }

    /// Quota and period of each group that has one, by version 2: lines such as `max 100000`.
    pub fn cpu_limits(&mut self) -> Vec<(u64, u64)> {
        let mut limits = Vec::new();
        for file in &self.cpu_limits {
            let Some(length) = fill(file, &mut self.buffer) else { continue };
            let text = std::str::from_utf8(&self.buffer[..length]).unwrap_or_default();
            if let Some((quota, period)) = text.trim().split_once(' ')
                && let (Ok(quota), Ok(period)) = (quota.parse(), period.parse())
            {
                limits.push((quota, period));
            }
        }
        limits
    }
}

fn lowest(files: &[File], buffer: &mut Vec<u8>) -> Option<u64> {
    let value = |file| {
        let length = fill(file, buffer)?;
        std::str::from_utf8(&buffer[..length]).ok()?.trim().parse().ok()
    };
    files.iter().filter_map(value).min()
}

/// Reads a file from its beginning, and makes the buffer longer where that is needed. Answers the length.
fn fill(file: &File, buffer: &mut Vec<u8>) -> Option<usize> {
    let mut length = 0;
    loop {
        let got = file.read_at(&mut buffer[length..], length as u64).ok()?;
        length += got;
        // The kernel gives a short file in one piece; only what nearly fills a page may go on.
        if got == 0 || length < 3000 {
            return Some(length);
        }
        if length == buffer.len() {
            if length >= LONGEST {
                return Some(length);
            }
            buffer.resize(length * 2, 0);
        }
    }
}
