//! What a domain may use at most, as files of control groups and the values for them.
//!
//! Pure. Does not know where groups are, which host has which controller, nor how a change is made in one that runs:
//! for that see [`super::resources`]. What each limit means is written down in docs/resources.md.

pub mod cpus;
pub mod devices;
pub mod v1;
pub mod v2;

use berth_domain::Domain;
use berth_domain::model::{NumaMode, Placement};

use devices::Numbers;

/// The period of CPU time where a document names none, in microseconds: the kernel's default.
pub const PERIOD: u64 = 100_000;

/// The limits of one domain. What is none is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Whether that is the hard limit of `<memtune>`, not the memory that is said outside of it.
    pub hard_limit: bool,
    /// Memory in bytes above which it is taken back.
    pub memory_soft: Option<u64>,
    /// Memory and swap together, in bytes.
    pub memory_and_swap: Option<u64>,
    /// Share of CPU time among others, 2 to 262144; 1024 where none is said.
    pub shares: Option<u64>,
    /// Microseconds of CPU time in each period.
    pub quota: Option<u64>,
    /// Length of the period in microseconds.
    pub period: Option<u64>,
    /// How many CPUs.
    pub cpu_count: u32,
    /// Those that they are taken from, such as `0-3`; none means all of the host's.
    pub cpus: Option<String>,
    /// Nodes of memory, such as `0-1`.
    pub nodes: Option<String>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Share of block I/O among others, 10 to 1000; 100 where none is said.
    pub io_weight: Option<u32>,
    /// Limits of single block devices.
    pub io_devices: Vec<IoLimits>,
}

/// Limits of one block device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IoLimits {
    /// Numbers of the device, such as `8:0`.
    pub number: String,
    /// Share among others.
    pub weight: Option<u32>,
    /// Bytes read per second.
    pub read_bytes: Option<u64>,
    /// Bytes written per second.
    pub write_bytes: Option<u64>,
    /// Reads per second.
    pub read_ops: Option<u64>,
    /// Writes per second.
    pub write_ops: Option<u64>,
}

impl Limits {
    /// The element that the limit of memory comes from.
    fn memory_element(&self) -> &'static str {
        if self.hard_limit { "memtune/hard_limit" } else { "memory" }
    }
}

/// One value in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The element of the document that wants it.
    pub element: &'static str,
    /// Whose file it is.
    pub controller: &'static str,
    /// The file; of several the first that is there.
    pub files: &'static [&'static str],
    /// What comes before the value: the numbers of a device.
    pub key: Option<String>,
    /// The value, and what stands for "no limit": what a new group has.
    pub value: String,
    /// See `value`.
    pub neutral: &'static str,
    /// Whether a host without the file is a matter of a warning: what every document says has to be let pass.
    pub lenient: bool,
}

impl Setting {
    /// What is written.
    pub fn text(&self) -> String {
        self.with(&self.value)
    }

    /// What is written to have no limit.
    pub fn neutral_text(&self) -> String {
        self.with(self.neutral)
    }

    fn with(&self, value: &str) -> String {
        match &self.key {
            Some(key) => format!("{key} {value}"),
            None => value.to_owned(),
        }
    }

    /// Whether it limits nothing.
    pub fn is_neutral(&self) -> bool {
        self.value == self.neutral
    }
}

/// Everything but the last two names is given by most settings.
fn setting(
    element: &'static str,
    controller: &'static str,
    files: &'static [&'static str],
    neutral: &'static str,
    value: Option<String>,
) -> Setting {
    let value = value.unwrap_or_else(|| neutral.to_owned());
    Setting { element, controller, files, key: None, value, neutral, lenient: false }
}

/// The quota and the period of CPU time that a document asks for, either way. A negative quota is no limit.
pub fn cpu_time(domain: &Domain) -> (Option<i64>, Option<u64>) {
    if let Some(percent) = domain.limit_settings().cpu_allowance {
        let quota = PERIOD * u64::from(percent) / 100;
        return (Some(i64::try_from(quota).unwrap_or(i64::MAX)), Some(PERIOD));
    }
    let cputune = domain.cputune.as_ref();
    (cputune.and_then(|c| c.quota), cputune.and_then(|c| c.period))
}

impl Limits {
    /// What a document asks for, without the block devices that have no number.
    pub fn of(domain: &Domain, numbers: &Numbers) -> Result<Self, String> {
        let memtune = domain.memtune.as_ref();
        let kib = |n: Option<u64>| n.map(|n| n.saturating_mul(1024));
        let memory = memtune.and_then(|m| m.hard_limit).unwrap_or(domain.current_memory_kib);
        let settings = domain.limit_settings();
        let cputune = domain.cputune.as_ref();
        let mut limits = Self {
            memory: kib(Some(memory)),
            hard_limit: memtune.is_some_and(|m| m.hard_limit.is_some()),
            memory_soft: kib(memtune.and_then(|m| m.soft_limit)),
            memory_and_swap: kib(memtune.and_then(|m| m.swap_hard_limit)),
            shares: cputune.and_then(|c| c.shares),
            cpu_count: domain.vcpu.current.unwrap_or(domain.vcpu.count),
            cpus: domain.vcpu.cpuset.clone(),
            pids: settings.pids,
            io_weight: domain.blkiotune.as_ref().and_then(|b| b.weight),
            ..Self::default()
        };
        let (quota, period) = cpu_time(domain);
        limits.quota = quota.and_then(|q| u64::try_from(q).ok());
        limits.period = period;
        if let (Some(both), Some(memory)) = (limits.memory_and_swap, limits.memory)
            && both < memory
        {
            return Err(
                "memory and swap together (<swap_hard_limit>) are limited to less than the memory".into()
            );
        }
        if let Some(numa) = &domain.numatune
            && numa.placement == Placement::Static
            && matches!(numa.mode, NumaMode::Strict | NumaMode::Restrictive)
        {
            limits.nodes = numa.nodeset.clone();
        }
        for device in domain.blkiotune.iter().flat_map(|b| &b.devices) {
            let Some(number) = numbers.get(&device.path).cloned() else { continue };
            let some = |n: Option<u64>| n.filter(|n| *n > 0);
            limits.io_devices.push(IoLimits {
                number,
                weight: device.weight.filter(|w| *w > 0),
                read_bytes: some(device.read_bytes_sec),
                write_bytes: some(device.write_bytes_sec),
                read_ops: some(device.read_iops_sec.map(u64::from)),
                write_ops: some(device.write_iops_sec.map(u64::from)),
            });
        }
        Ok(limits)
    }
}

#[cfg(test)]
mod test {
    use super::*;

    /// A document with `inside` before its `<os>`.
    pub(super) fn domain(inside: &str) -> Domain {
        let host = berth_domain::Host { arch: "x86_64".into(), emulator: "/e".into() };
        let xml = format!(
            "<domain type='lxc'><name>x</name><memory>65536</memory>{inside}<os><type>exe</type><init>/i</init></os>\
             <devices><filesystem type='mount'><source dir='/r'/><target dir='/'/></filesystem></devices></domain>"
        );
        berth_domain::parse(&xml, &host).expect("a good document").domain
    }

    pub(super) fn limits(inside: &str) -> Limits {
        let numbers = Numbers::from([("/dev/sda".to_owned(), "8:0".to_owned())]);
        Limits::of(&domain(inside), &numbers).expect("good limits")
    }

    fn wanted(all: &[Setting]) -> Vec<String> {
        let mut shown: Vec<String> = all
            .iter()
            .filter(|s| !s.is_neutral())
            .map(|s| format!("{}/{} = {}", s.controller, s.files.join("|"), s.text()))
            .collect();
        // It is in every document.
        shown.retain(|s| {
            s != "memory/memory.limit_in_bytes = 67108864" && s != "memory/memory.max = 67108864"
        });
        shown
    }

    /// Element, what it becomes on v1, and on v2: docs/resources.md has the same table.
    const TABLE: &[(&str, &[&str], &[&str])] = &[
        ("", &[], &[]),
        (
            "<memtune><hard_limit>1024</hard_limit></memtune>",
            &["memory/memory.limit_in_bytes = 1048576"],
            &["memory/memory.max = 1048576"],
        ),
        (
            "<currentMemory>2048</currentMemory>",
            &["memory/memory.limit_in_bytes = 2097152"],
            &["memory/memory.max = 2097152"],
        ),
        (
            "<memtune><soft_limit>1024</soft_limit></memtune>",
            &["memory/memory.soft_limit_in_bytes = 1048576"],
            &["memory/memory.high = 1048576"],
        ),
        (
            "<memtune><swap_hard_limit>65537</swap_hard_limit></memtune>",
            &["memory/memory.memsw.limit_in_bytes = 67109888"],
            &["memory/memory.swap.max = 1024"],
        ),
        (
            "<memtune><swap_hard_limit>65536</swap_hard_limit></memtune>",
            &["memory/memory.memsw.limit_in_bytes = 67108864"],
            &["memory/memory.swap.max = 0"],
        ),
        ("<cputune><shares>2048</shares></cputune>", &["cpu/cpu.shares = 2048"], &["cpu/cpu.weight = 200"]),
        ("<cputune><shares>2</shares></cputune>", &["cpu/cpu.shares = 2"], &["cpu/cpu.weight = 1"]),
        (
            "<cputune><shares>262144</shares></cputune>",
            &["cpu/cpu.shares = 262144"],
            &["cpu/cpu.weight = 10000"],
        ),
        // 1024 is what every group has.
        ("<cputune><shares>1024</shares></cputune>", &[], &[]),
        (
            "<cputune><period>50000</period><quota>25000</quota></cputune>",
            &["cpu/cpu.cfs_period_us = 50000", "cpu/cpu.cfs_quota_us = 25000"],
            &["cpu/cpu.max = 25000 50000"],
        ),
        (
            "<cputune><quota>25000</quota></cputune>",
            &["cpu/cpu.cfs_quota_us = 25000"],
            &["cpu/cpu.max = 25000 100000"],
        ),
        ("<cputune><quota>-1</quota></cputune>", &[], &[]),
        (
            "<metadata><b:settings xmlns:b='urn:berth:domain:1'><b:limits cpu-allowance='50%'/></b:settings></metadata>",
            &["cpu/cpu.cfs_quota_us = 50000"],
            &["cpu/cpu.max = 50000 100000"],
        ),
        (
            "<metadata><b:settings xmlns:b='urn:berth:domain:1'><b:limits pids='100'/></b:settings></metadata>",
            &["pids/pids.max = 100"],
            &["pids/pids.max = 100"],
        ),
        (
            "<numatune><memory mode='strict' nodeset='0'/></numatune>",
            &["cpuset/cpuset.mems = 0"],
            &["cpuset/cpuset.mems = 0"],
        ),
        ("<numatune><memory mode='strict' placement='auto'/></numatune>", &[], &[]),
        (
            "<blkiotune><weight>500</weight></blkiotune>",
            &["blkio/blkio.bfq.weight|blkio.weight = 500"],
            &["io/io.bfq.weight|io.weight = default 500"],
        ),
        (
            "<blkiotune><device><path>/dev/sda</path><weight>300</weight></device></blkiotune>",
            &["blkio/blkio.bfq.weight_device|blkio.weight_device = 8:0 300"],
            &["io/io.bfq.weight|io.weight = 8:0 300"],
        ),
        (
            "<blkiotune><device><path>/dev/sda</path><read_bytes_sec>1000</read_bytes_sec>\
             <write_iops_sec>7</write_iops_sec></device></blkiotune>",
            &[
                "blkio/blkio.throttle.read_bps_device = 8:0 1000",
                "blkio/blkio.throttle.write_iops_device = 8:0 7",
            ],
            &["io/io.max = 8:0 rbps=1000 wbps=max riops=max wiops=7"],
        ),
        (
            "<blkiotune><device><path>/dev/sda</path><write_bytes_sec>2000</write_bytes_sec>\
             <read_iops_sec>9</read_iops_sec></device></blkiotune>",
            &[
                "blkio/blkio.throttle.write_bps_device = 8:0 2000",
                "blkio/blkio.throttle.read_iops_device = 8:0 9",
            ],
            &["io/io.max = 8:0 rbps=max wbps=2000 riops=9 wiops=max"],
        ),
    ];

    #[test]
    fn each_limit_has_its_file_in_each_version() {
        for (xml, old, new) in TABLE {
            let limits = limits(xml);
            assert_eq!(wanted(&v1::settings(&limits)), *old, "v1: {xml}");
            assert_eq!(wanted(&v2::settings(&limits)), *new, "v2: {xml}");
        }
    }

    #[test]
    fn contradictions_and_missing_devices_are_errors() {
        // No document gets as far.
        let mut less = domain("<memtune><swap_hard_limit>65536</swap_hard_limit></memtune>");
        less.memtune.iter_mut().for_each(|m| m.swap_hard_limit = Some(1));
        let e = Limits::of(&less, &Numbers::new()).expect_err("refused");
        assert!(e.contains("<swap_hard_limit>"), "{e}");
        let device =
            domain("<blkiotune><device><path>/dev/none</path><weight>1</weight></device></blkiotune>");
        let e = devices::of(&device, &devices::device_number).expect_err("refused");
        assert!(e.starts_with("<blkiotune> names '/dev/none': "), "{e}");
        let file = domain("<blkiotune><device><path>/dev/null</path><weight>1</weight></device></blkiotune>");
        let e = devices::of(&file, &devices::device_number).expect_err("refused");
        assert_eq!(e, "<blkiotune> names '/dev/null': it is not a block device");
    }
}
