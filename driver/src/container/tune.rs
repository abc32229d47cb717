//! Changes of what a domain may use, in its definition; and what a definition says about that.
//!
//! Pure. Does not know whether the domain runs, nor what a limit is on the host.

use berth_domain::model::{BlkioDevice, Blkiotune, Closed, Cputune, Memtune, NumaMode, Numatune, Placement};
use berth_domain::{Domain, Host};
use berth_schemas::domain::{Affect, BlkioDevice as WireDevice, ResourceChange, Resources, State};

use crate::failure::Failure;
use crate::host::limits::cpu_time;

/// A change, and the definitions that it is for.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// What is to be different.
    pub change: ResourceChange,
    /// In which definitions.
    pub affect: Vec<Affect>,
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// What the definition says. The CPUs that a running domain has are for the caller to add.
pub fn resources(domain: &Domain) -> Resources {
    let memtune = domain.memtune.as_ref();
    let cputune = domain.cputune.as_ref();
    let numa = domain.numatune.as_ref();
    let blkio = domain.blkiotune.as_ref();
    let (quota, period) = cpu_time(domain);
    let device = |d: &BlkioDevice| WireDevice {
        path: d.path.clone(),
        weight: d.weight.map(i64::from),
        read_bytes_sec: d.read_bytes_sec.map(signed),
        write_bytes_sec: d.write_bytes_sec.map(signed),
        read_iops_sec: d.read_iops_sec.map(i64::from),
        write_iops_sec: d.write_iops_sec.map(i64::from),
    };
    Resources {
        max_memory_ki_b: signed(domain.memory_kib),
        memory_ki_b: signed(domain.current_memory_kib),
        hard_limit_ki_b: memtune.and_then(|m| m.hard_limit).map(signed),
        soft_limit_ki_b: memtune.and_then(|m| m.soft_limit).map(signed),
        swap_hard_limit_ki_b: memtune.and_then(|m| m.swap_hard_limit).map(signed),
        max_vcpus: i64::from(domain.vcpu.count),
        vcpus: i64::from(domain.vcpu.current.unwrap_or(domain.vcpu.count)),
        cpuset: domain.vcpu.cpuset.clone(),
        cpus: None,
        cpu_shares: cputune.and_then(|c| c.shares).map(signed),
        cpu_period: period.map(signed),
        cpu_quota: quota,
        numa_mode: numa.map(|n| n.mode.to_string()),
        nodeset: numa.and_then(|n| n.nodeset.clone()),
        blkio_weight: blkio.and_then(|b| b.weight).map(i64::from),
        blkio_devices: blkio.iter().flat_map(|b| &b.devices).map(device).collect(),
        pids: domain.limit_settings().pids.map(signed),
        cpu_allowance: domain.limit_settings().cpu_allowance.map(i64::from),
    }
}

fn refused(message: impl Into<String>) -> Failure {
    Failure::Failed(message.into())
}

/// What a running definition cannot have changed; the task of the domain knows what it is doing.
fn not_now(message: &str) -> Failure {
    Failure::InvalidState { message: message.into(), state: State::Running }
}

/// A parameter: its name in the varlink interface, and the one that virsh has for it.
type Name = (&'static str, &'static str);

const MEMORY: Name = ("memoryKiB", "memory");
const MAX_MEMORY: Name = ("maxMemoryKiB", "maximum memory");
const HARD_LIMIT: Name = ("hardLimitKiB", "hard_limit");
const SOFT_LIMIT: Name = ("softLimitKiB", "soft_limit");
const SWAP_HARD_LIMIT: Name = ("swapHardLimitKiB", "swap_hard_limit");
const VCPUS: Name = ("vcpus", "number of virtual CPUs");
const MAX_VCPUS: Name = ("maxVcpus", "maximum number of virtual CPUs");
const CPUSET: Name = ("cpuset", "cpuset");
const CPU_SHARES: Name = ("cpuShares", "cpu_shares");
const CPU_PERIOD: Name = ("cpuPeriod", "vcpu_period");
const CPU_QUOTA: Name = ("cpuQuota", "vcpu_quota");
const NUMA_MODE: Name = ("numaMode", "numa_mode");
const NODESET: Name = ("nodeset", "numa_nodeset");
const WEIGHT: Name = ("blkioWeight", "weight");
const DEVICE_WEIGHT: Name = ("blkioDevices", "device_weight");
const DEVICE_READ_IOPS: Name = ("blkioDevices", "device_read_iops_sec");
const DEVICE_WRITE_IOPS: Name = ("blkioDevices", "device_write_iops_sec");
const DEVICE_READ_BYTES: Name = ("blkioDevices", "device_read_bytes_sec");
const DEVICE_WRITE_BYTES: Name = ("blkioDevices", "device_write_bytes_sec");
const PIDS: Name = ("pids", "pids");
const CPU_ALLOWANCE: Name = ("cpuAllowance", "cpu-allowance");

/// Where a parameter is in a document.
const PLACES: &[(&str, Name)] = &[
    ("domain/memory", MAX_MEMORY),
    ("domain/currentMemory", MEMORY),
    ("domain/memtune/hard_limit", HARD_LIMIT),
    ("domain/memtune/soft_limit", SOFT_LIMIT),
    ("domain/memtune/swap_hard_limit", SWAP_HARD_LIMIT),
    ("domain/cputune/shares", CPU_SHARES),
    ("domain/cputune/period", CPU_PERIOD),
    ("domain/cputune/quota", CPU_QUOTA),
    ("domain/numatune/memory", NODESET),
    ("domain/blkiotune/weight", WEIGHT),
    ("domain/blkiotune/device/weight", DEVICE_WEIGHT),
    ("domain/blkiotune/device/read_iops_sec", DEVICE_READ_IOPS),
    ("domain/blkiotune/device/write_iops_sec", DEVICE_WRITE_IOPS),
    ("domain/blkiotune/device/read_bytes_sec", DEVICE_READ_BYTES),
    ("domain/blkiotune/device/write_bytes_sec", DEVICE_WRITE_BYTES),
];

fn invalid((parameter, _): Name, message: String) -> Failure {
    Failure::InvalidValue { parameter, message }
}

/// A number of a change: -1 takes the limit away.
fn limit<T: TryFrom<i64>>(value: i64, name: Name) -> Result<Option<T>, Failure> {
    match value {
        -1 => Ok(None),
        value => match T::try_from(value) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(invalid(name, format!("{} cannot be {value}", name.1))),
        },
    }
}

/// A number of a change of what nothing can be without.
fn some<T: TryFrom<i64> + PartialOrd + From<u8>>(value: i64, name: Name) -> Result<T, Failure> {
    match T::try_from(value) {
        Ok(number) if number > T::from(0) => Ok(number),
        _ if value <= 0 => Err(invalid(name, format!("{} must be more than 0", name.1))),
        _ => Err(invalid(name, format!("{} cannot be {value}", name.1))),
    }
}

impl Tuning {
    /// The definition with the change; `live` says that it is the running one.
    pub fn apply(&self, domain: &Domain, live: bool, host: &Host) -> Result<Domain, Failure> {
        let mut d = domain.clone();
        self.memory(&mut d, live)?;
        self.cpus(&mut d, live)?;
        self.allowance(&mut d)?;
        self.cpu_time(&mut d)?;
        self.nodes(&mut d, live)?;
        self.block_io(&mut d)?;
        if let Some(pids) = self.change.pids {
            let set = d.set_pids(limit(pids, PIDS)?);
            set.map_err(|e| match e.diagnostics.into_iter().next() {
                Some(first) => invalid(PIDS, first.message),
                None => refused("the limit of processes was refused"),
            })?;
        }
        // What a document must keep to is said there once.
        let parsed = berth_domain::parse(&d.to_xml(), host);
        let mut parsed = parsed.map_err(|e| match e.diagnostics.into_iter().next() {
            Some(first) => self.refused_by_document(&first.element, first.message),
            None => refused("the changed definition was refused"),
        })?;
        parsed.domain.uuid = domain.uuid;
        Ok(parsed.domain)
    }

    /// Devices of which limits are only taken away, and which the definition has no entry for by that path.
    fn unnamed<'a>(&'a self, domain: &'a Domain) -> impl Iterator<Item = &'a WireDevice> {
        let devices = self.change.blkio_devices.iter().flatten();
        devices.filter(|wanted| only_takes(wanted) && !has_entry(domain, &wanted.path))
    }

    /// Whether a device has to be looked up: see [`Self::named_as_in`].
    pub fn has_unnamed(&self, domain: &Domain) -> bool {
        self.unnamed(domain).next().is_some()
    }

    /// The same change, with limits taken from the entry of the device if the definition has it by another path: the kernel
    /// knows devices and no paths, and who takes a limit away wants it gone. `entry` answers the path of the entry.
    pub fn named_as_in(&self, domain: &Domain, entry: &dyn Fn(&str) -> Option<String>) -> Self {
        let mut named = self.clone();
        for wanted in named.change.blkio_devices.iter_mut().flatten() {
            if only_takes(wanted)
                && !has_entry(domain, &wanted.path)
                && let Some(path) = entry(&wanted.path)
            {
                wanted.path = path;
            }
        }
        named
    }

    /// What the document says is wrong, with the name of the parameter: nobody who changes one sees the document.
    fn refused_by_document(&self, place: &str, message: String) -> Failure {
        let name = match PLACES.iter().find(|(p, _)| *p == place) {
            Some((_, name)) => *name,
            None if place == "domain/vcpu" && self.change.max_vcpus.is_some() => MAX_VCPUS,
            None if place == "domain/vcpu" && self.change.cpuset.is_some() => CPUSET,
            None => return refused(message),
        };
        let names_value = message.starts_with('\'');
        invalid(name, if names_value { format!("{} {message}", name.1) } else { message })
    }

    fn memory(&self, d: &mut Domain, live: bool) -> Result<(), Failure> {
        let c = &self.change;
        if let Some(max) = c.max_memory_ki_b {
            if live {
                return Err(not_now("cannot resize the max memory on an active domain"));
            }
            d.memory_kib = some(max, MAX_MEMORY)?;
            d.current_memory_kib = d.current_memory_kib.min(d.memory_kib);
        }
        if let Some(memory) = c.memory_ki_b {
            d.current_memory_kib = some(memory, MEMORY)?;
            if d.current_memory_kib > d.memory_kib {
                return Err(invalid(MEMORY, "cannot set memory higher than max memory".into()));
            }
        }
        if [c.hard_limit_ki_b, c.soft_limit_ki_b, c.swap_hard_limit_ki_b].iter().any(Option::is_some) {
            let mut m = d.memtune.take().unwrap_or(Memtune {
                hard_limit: None,
                soft_limit: None,
                min_guarantee: None,
                swap_hard_limit: None,
                pos: Default::default(),
                extra: Default::default(),
            });
            set(&mut m.hard_limit, c.hard_limit_ki_b, HARD_LIMIT)?;
            set(&mut m.soft_limit, c.soft_limit_ki_b, SOFT_LIMIT)?;
            set(&mut m.swap_hard_limit, c.swap_hard_limit_ki_b, SWAP_HARD_LIMIT)?;
            d.memtune = Some(m);
        }
        let hard = d.memtune.as_ref().and_then(|m| m.hard_limit);
        if let (Some(_), Some(_), None) = (hard, c.memory_ki_b, c.hard_limit_ki_b) {
            let message = "the domain has a hard limit of memory, which takes the place of its memory; change that: \
                           'memtune --hard-limit'";
            return Err(refused(message));
        }
        let both = d.memtune.as_ref().and_then(|m| m.swap_hard_limit);
        if both.is_some_and(|both| both < hard.unwrap_or(d.current_memory_kib)) {
            let rule = "memory hard_limit tunable value must be lower than or equal to swap_hard_limit";
            let message = match hard {
                // Whoever changes one of the three does not think of the others.
                None => {
                    let memory = d.current_memory_kib;
                    format!("{rule}: without a hard_limit the memory of the domain counts, {memory} KiB")
                }
                Some(_) => rule.into(),
            };
            return Err(invalid(SWAP_HARD_LIMIT, message));
        }
        Ok(())
    }

    fn cpus(&self, d: &mut Domain, live: bool) -> Result<(), Failure> {
        let c = &self.change;
        let which = if live { "live" } else { "persistent" };
        if let Some(max) = c.max_vcpus {
            if live {
                return Err(refused("maximum vcpus of a live domain cannot be changed"));
            }
            let now = d.vcpu.current.unwrap_or(d.vcpu.count);
            d.vcpu.count = some(max, MAX_VCPUS)?;
            d.vcpu.current = Some(now.min(d.vcpu.count));
        }
        if let Some(count) = c.vcpus {
            let count: u32 = some(count, VCPUS)?;
            if count > d.vcpu.count {
                return Err(refused(format!(
                    "requested vcpus is greater than max allowable vcpus for the {which} domain: {count} > {}",
                    d.vcpu.count
                )));
            }
            d.vcpu.current = Some(count);
        }
        if let Some(set) = &c.cpuset {
            d.vcpu.placement = Placement::Static;
            d.vcpu.cpuset = (!set.is_empty()).then(|| set.clone());
        }
        Ok(())
    }

    /// The two ways to say how much CPU time there is exclude each other in a document: the answer says how to get from
    /// one to the other.
    fn allowance(&self, d: &mut Domain) -> Result<(), Failure> {
        let Some(percent) = self.change.cpu_allowance else { return Ok(()) };
        let percent = limit(percent, CPU_ALLOWANCE)?;
        let quota = d.cputune.as_ref().and_then(|c| c.quota).or(self.change.cpu_quota);
        if percent.is_some() {
            if quota.is_some_and(|quota| quota >= 0) {
                return Err(refused(
                    "a cpu-allowance and vcpu_quota exclude each other: take the quota away first, by \
                     'schedinfo --set vcpu_quota=-1'",
                ));
            }
            // No quota is in the way of nothing, nor is the period of one that there is not.
            if let Some(tune) = &mut d.cputune {
                (tune.quota, tune.period) = (None, None);
            }
        }
        d.set_cpu_allowance(percent).map_err(|e| match e.diagnostics.into_iter().next() {
            Some(first) => invalid(CPU_ALLOWANCE, first.message),
            None => refused("the cpu-allowance was refused"),
        })
    }

    fn cpu_time(&self, d: &mut Domain) -> Result<(), Failure> {
        let c = &self.change;
        if (c.cpu_period.is_some() || c.cpu_quota.is_some()) && d.limit_settings().cpu_allowance.is_some() {
            return Err(refused(
                "the domain has a cpu-allowance, and that and vcpu_quota or vcpu_period exclude each other: change it by \
                 'limits --cpu-allowance', or take it away first, by 'limits --cpu-allowance none'",
            ));
        }
        if c.cpu_shares.is_none() && c.cpu_period.is_none() && c.cpu_quota.is_none() {
            return Ok(());
        }
        let mut tune = d.cputune.take().unwrap_or(Cputune {
            shares: None,
            period: None,
            quota: None,
            pos: Default::default(),
            extra: Default::default(),
        });
        set(&mut tune.shares, c.cpu_shares, CPU_SHARES)?;
        set(&mut tune.period, c.cpu_period, CPU_PERIOD)?;
        if let Some(quota) = c.cpu_quota {
            tune.quota = Some(quota);
        }
        d.cputune = Some(tune);
        Ok(())
    }

    fn nodes(&self, d: &mut Domain, live: bool) -> Result<(), Failure> {
        let c = &self.change;
        if c.numa_mode.is_none() && c.nodeset.is_none() {
            return Ok(());
        }
        let now = d.numatune.as_ref().map_or(NumaMode::Strict, |n| n.mode);
        let mode = match &c.numa_mode {
            Some(mode) => NumaMode::find(mode).ok_or_else(|| {
                let shown = mode.escape_debug();
                invalid(NUMA_MODE, format!("numa_mode '{shown}' is not one of {}", NumaMode::names()))
            })?,
            None => now,
        };
        if live && mode != now {
            return Err(not_now("can't change numatune mode for running domain"));
        }
        if live && !matches!(mode, NumaMode::Strict | NumaMode::Restrictive) {
            // A policy is init's, and of what it has started since.
            return Err(not_now("change of nodeset for running domain requires strict numa mode"));
        }
        let before = d.numatune.take();
        let nodeset = match &c.nodeset {
            Some(set) => (!set.is_empty()).then(|| set.clone()),
            None => before.as_ref().and_then(|n| n.nodeset.clone()),
        };
        if let Some(set) =
            nodeset.as_ref().filter(|set| mode == NumaMode::Preferred && set.contains([',', '-']))
        {
            return Err(invalid(
                NODESET,
                format!("numa_mode 'preferred' is for one node, and '{set}' is more"),
            ));
        }
        let placement = if nodeset.is_some() { Placement::Static } else { Placement::Auto };
        let fresh = || Numatune {
            mode,
            placement,
            nodeset: None,
            pos: Default::default(),
            extra: Default::default(),
        };
        d.numatune = Some(Numatune { mode, placement, nodeset, ..before.unwrap_or_else(fresh) });
        Ok(())
    }

    fn block_io(&self, d: &mut Domain) -> Result<(), Failure> {
        let c = &self.change;
        if c.blkio_weight.is_none() && c.blkio_devices.is_none() {
            return Ok(());
        }
        let mut tune = d.blkiotune.take().unwrap_or(Blkiotune {
            weight: None,
            devices: Vec::new(),
            pos: Default::default(),
            extra: Default::default(),
        });
        set(&mut tune.weight, c.blkio_weight, WEIGHT)?;
        for wanted in c.blkio_devices.iter().flatten() {
            if !tune.devices.iter().any(|there| there.path == wanted.path) {
                tune.devices.push(BlkioDevice {
                    path: wanted.path.clone(),
                    weight: None,
                    read_iops_sec: None,
                    write_iops_sec: None,
                    read_bytes_sec: None,
                    write_bytes_sec: None,
                    extra: Default::default(),
                });
            }
            for there in tune.devices.iter_mut().filter(|there| there.path == wanted.path) {
                set(&mut there.weight, wanted.weight.map(none_at_0), DEVICE_WEIGHT)?;
                set(&mut there.read_iops_sec, wanted.read_iops_sec.map(none_at_0), DEVICE_READ_IOPS)?;
                set(&mut there.write_iops_sec, wanted.write_iops_sec.map(none_at_0), DEVICE_WRITE_IOPS)?;
                set(&mut there.read_bytes_sec, wanted.read_bytes_sec.map(none_at_0), DEVICE_READ_BYTES)?;
                set(&mut there.write_bytes_sec, wanted.write_bytes_sec.map(none_at_0), DEVICE_WRITE_BYTES)?;
            }
        }
        let limits = |t: &BlkioDevice| {
            t.weight.is_some()
                || t.read_iops_sec.is_some()
                || t.write_iops_sec.is_some()
                || t.read_bytes_sec.is_some()
                || t.write_bytes_sec.is_some()
                || !t.extra.is_empty()
        };
        tune.devices.retain(limits);
        d.blkiotune = Some(tune);
        Ok(())
    }
}

fn has_entry(domain: &Domain, path: &str) -> bool {
    domain.blkiotune.iter().flat_map(|b| &b.devices).any(|there| there.path == path)
}

fn only_takes(wanted: &WireDevice) -> bool {
    let WireDevice { path: _, weight, read_bytes_sec, write_bytes_sec, read_iops_sec, write_iops_sec } =
        wanted;
    let all = [weight, read_bytes_sec, write_bytes_sec, read_iops_sec, write_iops_sec];
    all.into_iter().flatten().all(|value| none_at_0(*value) == -1)
}

fn none_at_0(value: i64) -> i64 {
    if value == 0 { -1 } else { value }
}

fn set<T: TryFrom<i64>>(there: &mut Option<T>, wanted: Option<i64>, name: Name) -> Result<(), Failure> {
    if let Some(value) = wanted {
        *there = limit(value, name)?;
    }
    Ok(())
}

#[cfg(test)]
mod test {
    use super::*;

    fn host() -> Host {
        Host { arch: "x86_64".into(), emulator: "/e".into() }
    }

    fn domain(inside: &str) -> Domain {
        let xml = format!(
            "<domain type='lxc'><name>x</name><uuid>8369f1ac-7e46-e869-4ca5-759d51478066</uuid><memory>65536</memory>\
             {inside}<os><type>exe</type><init>/i</init></os>\
             <devices><filesystem type='mount'><source dir='/r'/><target dir='/'/></filesystem></devices></domain>"
        );
        berth_domain::parse(&xml, &host()).expect("a good document").domain
    }

    fn change(json: serde_json::Value) -> Tuning {
        Tuning { change: serde_json::from_value(json).expect("a change"), affect: Vec::new() }
    }

    #[test]
    fn what_is_set_is_what_is_said_and_can_be_taken_away() {
        use serde_json::json;
        let all = json!({
            "memoryKiB": 2048, "softLimitKiB": 1024, "swapHardLimitKiB": 4096, "vcpus": 2, "cpuset": "0-1",
            "cpuShares": 100, "cpuPeriod": 5000, "cpuQuota": 6000, "numaMode": "strict", "nodeset": "0",
            "blkioWeight": 200, "pids": 9,
            "blkioDevices": [{ "path": "/dev/sda", "readBytesSec": 5, "writeIopsSec": 6 }],
        });
        let before = domain("<vcpu>4</vcpu>");
        let after = change(all.clone()).apply(&before, false, &host()).expect("changed");
        let said = serde_json::to_value(resources(&after)).expect("json");
        for (key, value) in all.as_object().expect("an object") {
            assert_eq!(said[key], *value, "{key}");
        }
        assert_eq!((said["maxVcpus"].clone(), said["maxMemoryKiB"].clone()), (json!(4), json!(65536)));
        let none = json!({
            "softLimitKiB": -1, "swapHardLimitKiB": -1, "cpuset": "", "cpuShares": -1, "cpuPeriod": -1,
            "cpuQuota": -1, "nodeset": "", "blkioWeight": -1, "pids": -1, "memoryKiB": 65536, "vcpus": 4,
            "blkioDevices": [{ "path": "/dev/sda", "readBytesSec": 0, "writeIopsSec": 0 }],
        });
        let back = resources(&change(none).apply(&after, false, &host()).expect("changed back"));
        let mut expected = resources(&before);
        (expected.cpu_quota, expected.numa_mode) = (Some(-1), Some("strict".into()));
        assert_eq!(back, expected);
    }

    #[test]
    fn limits_are_taken_from_a_device_by_whatever_name() {
        use serde_json::json;
        let entry = "<device><path>/link</path><read_bytes_sec>5</read_bytes_sec><write_bytes_sec>6</write_bytes_sec></device>";
        let before = domain(&format!("<blkiotune>{entry}</blkiotune>"));
        let after = |devices: serde_json::Value| {
            let tuning = change(json!({ "blkioDevices": devices }));
            let find = |path: &str| (path == "/dev/sda").then(|| "/link".to_owned());
            let named = tuning.named_as_in(&before, &find);
            let said = resources(&named.apply(&before, true, &host()).expect("changed"));
            let shown = said.blkio_devices.into_iter().map(|d| (d.path, d.read_bytes_sec, d.write_bytes_sec));
            (tuning.has_unnamed(&before), shown.collect::<Vec<_>>())
        };
        let link = |read, write| ("/link".to_owned(), read, write);
        for (devices, looked_up, expected) in [
            (json!([{ "path": "/dev/sda", "readBytesSec": 0 }]), true, vec![link(None, Some(6))]),
            (json!([{ "path": "/dev/sda", "readBytesSec": -1, "writeBytesSec": 0 }]), true, vec![]),
            (json!([{ "path": "/dev/sdb", "readBytesSec": 0 }]), true, vec![link(Some(5), Some(6))]),
            (json!([{ "path": "/link", "readBytesSec": 0 }]), false, vec![link(None, Some(6))]),
            // Which of two entries would count is not said: that is for the host to refuse.
            (
                json!([{ "path": "/dev/sda", "readBytesSec": 7, "writeBytesSec": 0 }]),
                false,
                vec![link(Some(5), Some(6)), ("/dev/sda".to_owned(), Some(7), None)],
            ),
        ] {
            assert_eq!(after(devices.clone()), (looked_up, expected), "{devices}");
        }
    }

    #[test]
    fn an_allowance_is_shown_as_the_quota_that_it_is() {
        let allowed = domain(
            "<metadata><b:settings xmlns:b='urn:berth:domain:1'><b:limits cpu-allowance='150%'/></b:settings></metadata>",
        );
        let said = resources(&allowed);
        assert_eq!((said.cpu_quota, said.cpu_period), (Some(150_000), Some(100_000)));
        assert_eq!(resources(&domain("")).cpu_quota, None);
    }

    #[test]
    fn an_allowance_and_a_quota_take_turns() {
        use serde_json::json;
        let apply = |domain: &Domain, what| change(what).apply(domain, true, &host());
        let quota = domain("<cputune><period>5000</period><quota>6000</quota></cputune>");
        let none = apply(&quota, json!({"cpuQuota": -1})).expect("changed");
        let allowed = apply(&none, json!({"cpuAllowance": 50})).expect("changed");
        let said = resources(&allowed);
        assert_eq!((said.cpu_allowance, said.cpu_quota), (Some(50), Some(50_000)));
        for what in [json!({"cpuQuota": 6000}), json!({"cpuQuota": -1}), json!({"cpuPeriod": 5000})] {
            let error = apply(&allowed, what).expect_err("refused").to_string();
            assert!(error.contains("exclude each other: change it by 'limits --cpu-allowance'"), "{error}");
        }
        let free = apply(&allowed, json!({"cpuAllowance": -1})).expect("changed");
        assert_eq!((resources(&free).cpu_allowance, resources(&free).cpu_quota), (None, None));
        let both = apply(&allowed, json!({"cpuAllowance": -1, "cpuQuota": 6000})).expect("in one change");
        assert_eq!(resources(&both).cpu_quota, Some(6000));
    }

    #[test]
    fn refusals_are_of_libvirts_kinds() {
        use serde_json::json;
        for (inside, what) in [
            ("", json!({"memoryKiB": 65537})),
            ("<memtune><hard_limit>9</hard_limit></memtune>", json!({"swapHardLimitKiB": 8})),
        ] {
            let error = change(what).apply(&domain(inside), false, &host()).expect_err("refused");
            assert!(matches!(error, Failure::InvalidValue { .. }), "{error:?}");
        }
        for (inside, what) in [
            ("", json!({"maxMemoryKiB": 1})),
            ("", json!({"numaMode": "interleave", "nodeset": "0"})),
            ("<numatune><memory mode='preferred' nodeset='0'/></numatune>", json!({"nodeset": "0"})),
        ] {
            let error = change(what).apply(&domain(inside), true, &host()).expect_err("refused");
            assert!(matches!(error, Failure::InvalidState { .. }), "{error:?}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        use serde_json::json;
        for (inside, what, live, reason) in [
            ("", json!({"memoryKiB": 65537}), true, "cannot set memory higher than max memory"),
            ("", json!({"maxMemoryKiB": 1}), true, "cannot resize the max memory on an active domain"),
            ("", json!({"cpuShares": 1}), true, "cpu_shares '1' is not a number from 2 to 262144"),
            (
                "",
                json!({"cpuQuota": 5}),
                true,
                "vcpu_quota '5' is neither negative nor from 1000 to 17592186044415",
            ),
            ("", json!({"cpuPeriod": 5}), true, "vcpu_period '5' is not a number from 1000 to 1000000"),
            ("", json!({"blkioWeight": 5}), false, "weight '5' is not a number from 10 to 1000"),
            (
                "",
                json!({"blkioDevices": [{ "path": "/dev/sda", "weight": 2000 }]}),
                false,
                "device_weight '2000' is not a number from 0 to 1000",
            ),
            ("", json!({"cpuset": "x"}), false, "cpuset 'x' is not a set of numbers like '0-3,^2,8'"),
            ("", json!({"nodeset": "x"}), false, "numa_nodeset 'x' is not a set of numbers like '0-3,^2,8'"),
            ("", json!({"pids": 0}), false, "'0' of 'pids' is not a number from 1 to 4194304"),
            ("", json!({"memoryKiB": 0}), true, "memory must be more than 0"),
            ("", json!({"maxMemoryKiB": 0}), false, "maximum memory must be more than 0"),
            ("", json!({"hardLimitKiB": -5}), true, "hard_limit cannot be -5"),
            ("", json!({"vcpus": 0}), true, "number of virtual CPUs must be more than 0"),
            (
                "",
                json!({"maxVcpus": 1_i64 << 40}),
                false,
                "maximum number of virtual CPUs cannot be 1099511627776",
            ),
            (
                "",
                json!({"maxVcpus": 20_000}),
                false,
                "maximum number of virtual CPUs '20000' is not a number from 1 to 16384",
            ),
            (
                "",
                json!({"numaMode": "interleave", "nodeset": "0"}),
                true,
                "can't change numatune mode for running domain",
            ),
            (
                "<numatune><memory mode='preferred' nodeset='0'/></numatune>",
                json!({"nodeset": "0"}),
                true,
                "change of nodeset for running domain requires strict numa mode",
            ),
            (
                "<vcpu>2</vcpu>",
                json!({"vcpus": 3}),
                true,
                "requested vcpus is greater than max allowable vcpus for the live domain: 3 > 2",
            ),
            (
                "<memtune><hard_limit>9</hard_limit></memtune>",
                json!({"memoryKiB": 5}),
                true,
                "the domain has a hard limit of memory, which takes the place of its memory; change that: \
                 'memtune --hard-limit'",
            ),
            (
                "",
                json!({"swapHardLimitKiB": 65535}),
                false,
                "memory hard_limit tunable value must be lower than or equal to swap_hard_limit: without a hard_limit the \
                 memory of the domain counts, 65536 KiB",
            ),
            (
                "<currentMemory>9</currentMemory><memtune><swap_hard_limit>9</swap_hard_limit></memtune>",
                json!({"memoryKiB": 10}),
                true,
                "memory hard_limit tunable value must be lower than or equal to swap_hard_limit: without a hard_limit the \
                 memory of the domain counts, 10 KiB",
            ),
            (
                "",
                json!({"hardLimitKiB": 0}),
                true,
                "hard_limit must be more than 0; without one there is no limit",
            ),
            (
                "",
                json!({"numaMode": "preferred", "nodeset": "0-1"}),
                false,
                "numa_mode 'preferred' is for one node, and '0-1' is more",
            ),
            (
                "<memtune><hard_limit>9</hard_limit><swap_hard_limit>9</swap_hard_limit></memtune>",
                json!({"hardLimitKiB": -1}),
                true,
                "memory hard_limit tunable value must be lower than or equal to swap_hard_limit: without a hard_limit the \
                 memory of the domain counts, 65536 KiB",
            ),
            (
                "<cputune><quota>5000</quota></cputune>",
                json!({"cpuAllowance": 50}),
                true,
                "a cpu-allowance and vcpu_quota exclude each other: take the quota away first, by \
                 'schedinfo --set vcpu_quota=-1'",
            ),
            ("", json!({"cpuAllowance": -5}), true, "cpu-allowance cannot be -5"),
            (
                "",
                json!({"cpuAllowance": 0}),
                true,
                "'0%' of 'cpu-allowance' is not a percentage of one CPU from '1%' on",
            ),
        ] {
            let error = change(what).apply(&domain(inside), live, &host()).expect_err(reason);
            assert_eq!(error.to_string(), reason);
        }
    }
}
