//! The figures of one running domain.
//!
//! All come from the domain's control groups and from one file of its network namespace: no process is walked, however
//! many there are. Does not know other domains, nor who asks. All functions block, for microseconds.

use std::fs::File;
use std::path::PathBuf;

use berth_schemas::domain::{
    BlockStats, CpuStats, InterfaceStats, MemoryStats, PressureResource, PressureStats, StatsGroup, TaskStats,
};
use rustix::fs::{Mode, OFlags, openat};

use super::files::{Allowance, Buffer, Files, open};
use super::parse;
use crate::host::cgroups::PAYLOAD;
use crate::host::process::parse_parent;

/// The folders of a domain's groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// In the v2 tree.
    pub unified: PathBuf,
    /// In the v1 hierarchies of these controllers, where they are.
    pub cpu: Option<PathBuf>,
    /// The same.
    pub cpuacct: Option<PathBuf>,
    /// The same.
    pub memory: Option<PathBuf>,
    /// The same.
    pub blkio: Option<PathBuf>,
    /// The same.
    pub pids: Option<PathBuf>,
}

/// Who runs in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Who {
    /// Pid of the controller.
    pub controller: i32,
    /// Pid of init, while there is one.
    pub init: Option<i64>,
}

/// The files, by number.
#[derive(Debug, Clone, Copy)]
enum Number {
    CpuStat,
    PerCpu,
    Quota,
    Usage,
    Peak,
    MemoryStat,
    Oom,
    OomInside,
    Max,
    High,
    Swap,
    SwapMax,
    BlockBytes,
    BlockRequests,
    Tasks,
    TasksMax,
    Network,
    CpuPressure,
    MemoryPressure,
    IoPressure,
}

const COUNT: usize = Number::IoPressure as usize + 1;

/// The meter of one run.
#[derive(Debug)]
pub struct Meter {
    places: Places,
    who: Who,
    files: Files,
}

/// What was read. None is what was not asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// Processor time.
    pub cpu: Option<CpuStats>,
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// Block devices, by number.
    pub blocks: Option<Vec<BlockStats>>,
    /// Network interfaces.
    pub interfaces: Option<Vec<InterfaceStats>>,
    /// Processes and threads.
    pub tasks: Option<TaskStats>,
    /// Pressure.
    pub pressure: Option<Vec<PressureStats>>,
}

/// The ends of pairs on the host, as their containers see them. Those that are not there are left out.
pub fn host_ends(names: &[&str]) -> Vec<InterfaceStats> {
    // The daemon's own network is the host's.
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    let found = parse::net_dev(&text).filter(|one| names.contains(&one.name.as_str()));
    found.map(parse::other_end).collect()
}

/// One reading.
struct Look<'a> {
    meter: &'a Meter,
    allowance: &'a Allowance,
    buffer: &'a mut Buffer,
}

impl Meter {
    /// Opens nothing yet.
    pub fn new(places: Places, who: Who) -> Self {
        Self { places, who, files: Files::new(COUNT) }
    }

    /// Who it was made for: after a restart it is another's.
    pub fn who(&self) -> Who {
        self.who
    }

    /// Closes its files.
    pub fn close(&self, allowance: &Allowance) {
        self.files.close(allowance);
    }

    /// Reads what belongs to the groups.
    pub fn read(&self, groups: &[StatsGroup], allowance: &Allowance, buffer: &mut Buffer) -> Figures {
        let mut look = Look { meter: self, allowance, buffer };
        let mut figures = Figures::default();
        for group in groups {
            match group {
                StatsGroup::Cpu => figures.cpu = Some(look.cpu()),
                StatsGroup::Memory => figures.memory = Some(look.memory()),
                StatsGroup::Block => figures.blocks = Some(look.blocks()),
                StatsGroup::Interface => figures.interfaces = look.interfaces(),
                StatsGroup::Tasks => figures.tasks = Some(look.tasks()),
                StatsGroup::Pressure => figures.pressure = Some(look.pressure()),
                // They are the host's: see [`host_ends`].
                StatsGroup::HostEnd => {}
            }
        }
        figures
    }

    /// The interfaces as the network namespace of init has them. The file stays open, and so does the way to it: a
    /// pid that is used again has another parent, and what was opened of the old one is dead.
    fn open_network(&self) -> Option<File> {
        let Who { controller, init } = self.who;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let process = rustix::fs::open(format!("/proc/{}", init?), flags, Mode::empty()).ok()?;
        let file = |name: &str| {
            openat(&process, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok().map(File::from)
        };
        // Init's name is in there, and init's choice.
        let mut stat = Vec::new();
        std::io::Read::read_to_end(&mut file("stat")?, &mut stat).ok()?;
        if parse_parent(&String::from_utf8_lossy(&stat)) != Some(controller) {
            return None;
        }
        let own = std::fs::read_link("/proc/self/ns/net").ok()?;
        let its = rustix::fs::readlinkat(&process, "ns/net", Vec::new()).ok()?;
        // The host's interfaces are no container's.
        if its.as_bytes() == own.as_os_str().as_encoded_bytes() {
            return None;
        }
        file("net/dev")
    }
}

impl Look<'_> {
    fn text(&mut self, number: Number, place: Option<&PathBuf>, name: &str) -> Option<&str> {
        let folder = place?;
        self.meter.files.read(number as usize, self.allowance, self.buffer, || open(folder, name))
    }

    fn value(&mut self, number: Number, place: Option<&PathBuf>, name: &str) -> Option<i64> {
        parse::number(self.text(number, place, name)?)
    }

    fn limit(&mut self, number: Number, place: Option<&PathBuf>, name: &str) -> Option<i64> {
        parse::limit(self.text(number, place, name)?)
    }

    fn cpu(&mut self) -> CpuStats {
        let places = &self.meter.places;
        let nano = |usec: Option<i64>| usec?.checked_mul(1000);
        let mut cpu = CpuStats {
            total_n_sec: None,
            user_n_sec: None,
            system_n_sec: None,
            per_cpu_n_sec: None,
            periods: None,
            throttled_periods: None,
            throttled_n_sec: None,
        };
        if let Some(text) = self.text(Number::CpuStat, Some(&places.unified), "cpu.stat") {
            cpu.total_n_sec = nano(parse::field(text, "usage_usec"));
            cpu.user_n_sec = nano(parse::field(text, "user_usec"));
            cpu.system_n_sec = nano(parse::field(text, "system_usec"));
            cpu.periods = parse::field(text, "nr_periods");
            cpu.throttled_periods = parse::field(text, "nr_throttled");
            cpu.throttled_n_sec = nano(parse::field(text, "throttled_usec"));
        }
        if let Some(text) = self.text(Number::PerCpu, places.cpuacct.as_ref(), "cpuacct.usage_percpu")
            && let Some(all) = parse::numbers(text)
        {
            cpu.total_n_sec = Some(all.iter().copied().fold(0, i64::saturating_add));
            cpu.per_cpu_n_sec = Some(all);
        }
        if let Some(text) = self.text(Number::Quota, places.cpu.as_ref(), "cpu.stat") {
            cpu.periods = parse::field(text, "nr_periods");
            cpu.throttled_periods = parse::field(text, "nr_throttled");
            cpu.throttled_n_sec = parse::field(text, "throttled_time");
        }
        cpu
    }

    fn memory(&mut self) -> MemoryStats {
        let places = &self.meter.places;
        let mut memory = MemoryStats {
            usage_bytes: None,
            peak_bytes: None,
            anon_bytes: None,
            cache_bytes: None,
            inactive_file_bytes: None,
            swap_bytes: None,
            limit_bytes: None,
            swap_limit_bytes: None,
            high_bytes: None,
            page_faults: None,
            major_page_faults: None,
            oom_kills: None,
        };
        let legacy = places.memory.as_ref();
        if legacy.is_some() {
            memory.usage_bytes = self.value(Number::Usage, legacy, "memory.usage_in_bytes");
            memory.peak_bytes = self.value(Number::Peak, legacy, "memory.max_usage_in_bytes");
            memory.oom_kills = self.legacy_oom_kills();
            if let Some(text) = self.text(Number::MemoryStat, legacy, "memory.stat") {
                memory.anon_bytes = parse::field(text, "total_rss");
                memory.cache_bytes = parse::field(text, "total_cache");
                memory.inactive_file_bytes = parse::field(text, "total_inactive_file");
                memory.swap_bytes = parse::field(text, "total_swap");
                memory.limit_bytes = parse::limit_field(text, "hierarchical_memory_limit");
                let both = parse::limit_field(text, "hierarchical_memsw_limit");
                memory.swap_limit_bytes =
                    both.zip(memory.limit_bytes).map(|(both, limit)| both.saturating_sub(limit).max(0));
                memory.page_faults = parse::field(text, "total_pgfault");
                memory.major_page_faults = parse::field(text, "total_pgmajfault");
            }
            return memory;
        }
        let unified = Some(&places.unified);
        memory.usage_bytes = self.value(Number::Usage, unified, "memory.current");
        memory.peak_bytes = self.value(Number::Peak, unified, "memory.peak");
        memory.swap_bytes = self.value(Number::Swap, unified, "memory.swap.current");
        memory.limit_bytes = self.limit(Number::Max, unified, "memory.max");
        memory.high_bytes = self.limit(Number::High, unified, "memory.high");
        memory.swap_limit_bytes = self.limit(Number::SwapMax, unified, "memory.swap.max");
        memory.oom_kills =
            self.text(Number::Oom, unified, "memory.events").and_then(|text| parse::field(text, "oom_kill"));
        if let Some(text) = self.text(Number::MemoryStat, unified, "memory.stat") {
            memory.anon_bytes = parse::field(text, "anon");
            memory.cache_bytes = parse::field(text, "file");
            memory.inactive_file_bytes = parse::field(text, "inactive_file");
            memory.page_faults = parse::field(text, "pgfault");
            memory.major_page_faults = parse::field(text, "pgmajfault");
        }
        memory
    }

    /// Version 1 counts a kill in the group of who is killed, and nowhere above. With ids of its own a container has none
    /// below the domain's.
    fn legacy_oom_kills(&mut self) -> Option<i64> {
        let domain = self.meter.places.memory.as_ref();
        let inside = domain.map(|group| group.join(PAYLOAD));
        let mut kills = |number, group: Option<&PathBuf>| {
            parse::field(self.text(number, group, "memory.oom_control")?, "oom_kill")
        };
        let own = kills(Number::Oom, domain)?;
        Some(own.saturating_add(kills(Number::OomInside, inside.as_ref()).unwrap_or_default()))
    }

    fn blocks(&mut self) -> Vec<BlockStats> {
        let places = &self.meter.places;
        let mut blocks = match &places.blkio {
            None => self
                .text(Number::BlockBytes, Some(&places.unified), "io.stat")
                .map(parse::io_stat)
                .unwrap_or_default(),
            legacy => {
                let legacy = legacy.as_ref();
                let name = "blkio.throttle.io_service_bytes_recursive";
                let bytes = self.text(Number::BlockBytes, legacy, name).unwrap_or_default().to_owned();
                let name = "blkio.throttle.io_serviced_recursive";
                parse::blkio(&bytes, self.text(Number::BlockRequests, legacy, name).unwrap_or_default())
            }
        };
        blocks.retain(|b| b.read_requests + b.write_requests > 0);
        blocks.sort_by(|a, b| a.device.cmp(&b.device));
        blocks
    }

    fn interfaces(&mut self) -> Option<Vec<InterfaceStats>> {
        let meter = self.meter;
        meter
            .files
            .read(Number::Network as usize, self.allowance, self.buffer, || meter.open_network())
            .map(|text| parse::net_dev(text).collect())
    }

    fn tasks(&mut self) -> TaskStats {
        let places = &self.meter.places;
        let place = places.pids.as_ref().or(Some(&places.unified));
        TaskStats {
            current: self.value(Number::Tasks, place, "pids.current"),
            limit: self.limit(Number::TasksMax, place, "pids.max"),
        }
    }

    fn pressure(&mut self) -> Vec<PressureStats> {
        let unified = Some(&self.meter.places.unified);
        let mut all = Vec::new();
        for (resource, number, name) in [
            (PressureResource::Cpu, Number::CpuPressure, "cpu.pressure"),
            (PressureResource::Memory, Number::MemoryPressure, "memory.pressure"),
            (PressureResource::Io, Number::IoPressure, "io.pressure"),
        ] {
            all.extend(self.text(number, unified, name).and_then(|text| parse::pressure(resource, text)));
        }
        all
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use std::path::Path;

    const ALL: &[StatsGroup] = StatsGroup::ALL;

    fn write(dir: &Path, files: &[(&str, &str)]) {
        std::fs::create_dir_all(dir).expect("made");
        for (name, text) in files {
            std::fs::write(dir.join(name), text).expect("written");
        }
    }

    fn read(places: Places) -> Figures {
        let meter = Meter::new(places, Who { controller: 1, init: None });
        meter.read(ALL, &Allowance::new(9), &mut Buffer::default())
    }

    #[test]
    fn a_host_with_version_2() {
        let dir = tempfile::tempdir().expect("folder");
        write(
            dir.path(),
            &[
                (
                    "cpu.stat",
                    "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 7\nnr_throttled 1\nthrottled_usec 4\n",
                ),
                ("memory.current", "4096\n"),
                ("memory.peak", "8192\n"),
                ("memory.max", "65536\n"),
                ("memory.high", "max\n"),
                ("memory.swap.current", "0\n"),
                ("memory.swap.max", "max\n"),
                ("memory.events", "low 0\noom 2\noom_kill 1\n"),
                ("memory.stat", "anon 10\nfile 20\ninactive_file 5\npgfault 6\npgmajfault 7\n"),
                ("io.stat", "8:0 rbytes=1 wbytes=0 rios=1 wios=0\n8:16 rbytes=0 wbytes=0 rios=0 wios=0\n"),
                ("pids.current", "3\n"),
                ("pids.max", "max\n"),
                ("memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=9\n"),
            ],
        );
        let none = None::<PathBuf>;
        let figures = read(Places {
            unified: dir.path().into(),
            cpu: none.clone(),
            cpuacct: none.clone(),
            memory: none.clone(),
            blkio: none.clone(),
            pids: none,
        });
        let cpu = figures.cpu.expect("asked for");
        assert_eq!((cpu.total_n_sec, cpu.user_n_sec, cpu.system_n_sec), (Some(5000), Some(3000), Some(2000)));
        assert_eq!((cpu.per_cpu_n_sec, cpu.periods, cpu.throttled_n_sec), (None, Some(7), Some(4000)));
        let memory = figures.memory.expect("asked for");
        assert_eq!(
            (memory.usage_bytes, memory.peak_bytes, memory.limit_bytes),
            (Some(4096), Some(8192), Some(65536))
        );
        assert_eq!((memory.anon_bytes, memory.cache_bytes, memory.oom_kills), (Some(10), Some(20), Some(1)));
        assert_eq!((memory.high_bytes, memory.swap_limit_bytes, memory.swap_bytes), (None, None, Some(0)));
        assert_eq!(figures.blocks.expect("asked for").len(), 1);
        assert_eq!(figures.tasks, Some(TaskStats { current: Some(3), limit: None }));
        assert_eq!(figures.pressure.expect("asked for").len(), 1);
        assert_eq!(figures.interfaces, None);
    }

    #[test]
    fn a_host_with_version_1() {
        let dir = tempfile::tempdir().expect("folder");
        let place = |name: &str| Some(dir.path().join(name));
        write(&dir.path().join("unified"), &[("cpu.stat", "usage_usec 9\nuser_usec 3\nsystem_usec 2\n")]);
        write(&dir.path().join("cpuacct"), &[("cpuacct.usage_percpu", "100 200 \n")]);
        write(&dir.path().join("cpu"), &[("cpu.stat", "nr_periods 7\nnr_throttled 1\nthrottled_time 4\n")]);
        write(
            &dir.path().join("memory"),
            &[
                ("memory.usage_in_bytes", "4096\n"),
                ("memory.max_usage_in_bytes", "8192\n"),
                ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
                (
                    "memory.stat",
                    "cache 1\ntotal_cache 20\ntotal_rss 10\ntotal_swap 4\nhierarchical_memory_limit 65536\n\
                     hierarchical_memsw_limit 98304\ntotal_pgfault 6\n",
                ),
            ],
        );
        let inside = dir.path().join("memory/payload");
        write(&inside, &[("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")]);
        write(
            &dir.path().join("blkio"),
            &[
                ("blkio.throttle.io_service_bytes_recursive", "8:0 Read 4096\nTotal 4096\n"),
                ("blkio.throttle.io_serviced_recursive", "8:0 Read 1\nTotal 1\n"),
            ],
        );
        write(&dir.path().join("pids"), &[("pids.current", "3\n"), ("pids.max", "64\n")]);
        let figures = read(Places {
            unified: dir.path().join("unified"),
            cpu: place("cpu"),
            cpuacct: place("cpuacct"),
            memory: place("memory"),
            blkio: place("blkio"),
            pids: place("pids"),
        });
        let cpu = figures.cpu.expect("asked for");
        assert_eq!((cpu.total_n_sec, cpu.per_cpu_n_sec), (Some(300), Some(vec![100, 200])));
        assert_eq!((cpu.user_n_sec, cpu.throttled_n_sec), (Some(3000), Some(4)));
        let memory = figures.memory.expect("asked for");
        assert_eq!((memory.limit_bytes, memory.swap_limit_bytes), (Some(65536), Some(32768)));
        assert_eq!((memory.cache_bytes, memory.anon_bytes, memory.swap_bytes), (Some(20), Some(10), Some(4)));
        assert_eq!((memory.oom_kills, memory.major_page_faults), (Some(5), None), "in both groups");
        let blocks = figures.blocks.expect("asked for");
        assert_eq!((blocks[0].read_bytes, blocks[0].read_requests), (4096, 1));
        assert_eq!(figures.tasks, Some(TaskStats { current: Some(3), limit: Some(64) }));
        assert_eq!(figures.pressure, Some(Vec::new()));
    }
}
