//! Files that change or tell about the host: opened, and for those that tell read, never written to.

use std::fs::{File, OpenOptions, read_dir};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::verdict::{Verdict, name};

/// Opened for writing.
const KNOBS: &[(&str, &str)] = &[
    ("core_pattern", "/proc/sys/kernel/core_pattern"),
    ("modprobe", "/proc/sys/kernel/modprobe"),
    ("sysrq", "/proc/sys/kernel/sysrq"),
    ("panic", "/proc/sys/kernel/panic"),
    ("randomize_va_space", "/proc/sys/kernel/randomize_va_space"),
    ("kptr_restrict", "/proc/sys/kernel/kptr_restrict"),
    ("dmesg_restrict", "/proc/sys/kernel/dmesg_restrict"),
    ("binfmt_misc", "/proc/sys/fs/binfmt_misc/register"),
    ("file_max", "/proc/sys/fs/file-max"),
    ("protected_hardlinks", "/proc/sys/fs/protected_hardlinks"),
    ("suid_dumpable", "/proc/sys/fs/suid_dumpable"),
    ("overcommit_memory", "/proc/sys/vm/overcommit_memory"),
    ("drop_caches", "/proc/sys/vm/drop_caches"),
    ("panic_on_oom", "/proc/sys/vm/panic_on_oom"),
    ("legacy_tiocsti", "/proc/sys/dev/tty/legacy_tiocsti"),
    ("sysrq_trigger", "/proc/sysrq-trigger"),
    ("irq_affinity", "/proc/irq/default_smp_affinity"),
    ("mtrr", "/proc/mtrr"),
    ("scsi", "/proc/scsi/scsi"),
    ("acpi_wakeup", "/proc/acpi/wakeup"),
    ("dynamic_debug", "/proc/dynamic_debug/control"),
    ("uevent_helper", "/sys/kernel/uevent_helper"),
    ("power_state", "/sys/power/state"),
    ("power_disk", "/sys/power/disk"),
    ("ksm_run", "/sys/kernel/mm/ksm/run"),
    ("transparent_hugepage", "/sys/kernel/mm/transparent_hugepage/enabled"),
    ("module_parameter", "/sys/module/kernel/parameters/panic"),
    ("cpu_online", "/sys/devices/system/cpu/cpu1/online"),
    ("pci_rescan", "/sys/bus/pci/rescan"),
    ("release_agent", "/sys/fs/cgroup/release_agent"),
    ("release_agent_v1", "/sys/fs/cgroup/memory/release_agent"),
    ("cg_own_memory_limit", "/sys/fs/cgroup/memory.max"),
    ("cg_own_pids_limit", "/sys/fs/cgroup/pids.max"),
    ("cg_v1_devices", "/sys/fs/cgroup/devices/devices.allow"),
    ("mem", "/dev/mem"),
    ("dev_kmsg", "/dev/kmsg"),
];

/// Read; open if there is something in it.
const INFORMATION: &[(&str, &str)] = &[
    ("kcore", "/proc/kcore"),
    ("kmsg", "/proc/kmsg"),
    ("dev_kmsg", "/dev/kmsg"),
    ("keys", "/proc/keys"),
    ("key_users", "/proc/key-users"),
    ("timer_list", "/proc/timer_list"),
    ("sched_debug", "/proc/sched_debug"),
    ("kpageflags", "/proc/kpageflags"),
    ("kpagecount", "/proc/kpagecount"),
    ("slabinfo", "/proc/slabinfo"),
    ("vmallocinfo", "/proc/vmallocinfo"),
    ("pagetypeinfo", "/proc/pagetypeinfo"),
    ("interrupts", "/proc/interrupts"),
    ("config", "/proc/config.gz"),
    ("vmcoreinfo", "/sys/kernel/vmcoreinfo"),
];

/// Open if an address in them is not zero.
const ADDRESSES: &[(&str, &str)] =
    &[("kallsyms", "/proc/kallsyms"), ("iomem", "/proc/iomem"), ("ioports", "/proc/ioports")];

/// Directories; open if something is in them.
const DIRECTORIES: &[(&str, &str)] = &[
    ("firmware", "/sys/firmware"),
    ("debugfs", "/sys/kernel/debug"),
    ("tracefs", "/sys/kernel/tracing"),
    ("securityfs", "/sys/kernel/security"),
    ("bpffs", "/sys/fs/bpf"),
    ("powercap", "/sys/devices/virtual/powercap"),
    ("scsi", "/proc/scsi"),
    ("acpi", "/proc/acpi"),
];

/// All of /dev; the consoles are terminals of the container's own devpts.
const NODES: &[&str] = &["console", "full", "null", "random", "tty", "urandom", "zero"];

fn failed(e: &std::io::Error) -> Verdict {
    let e = e.raw_os_error().unwrap_or(libc::EIO);
    if e == libc::ENOENT { Verdict::NotHere(name(e)) } else { Verdict::Blocked(name(e)) }
}

/// The null device, which hides what is below.
fn is_mask(file: &File) -> bool {
    file.metadata().is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0x103)
}

/// Whether a file can be opened for writing.
pub fn knob(path: &str) -> Verdict {
    match OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path) {
        Ok(file) => Verdict::open_if(!is_mask(&file), path),
        Err(e) => failed(&e),
    }
}

fn information(path: &str) -> Verdict {
    match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Ok(file) if is_mask(&file) => Verdict::Blocked("masked".into()),
        Ok(mut file) => match file.read(&mut [0; 64]) {
            Ok(0) => Verdict::Blocked("empty".into()),
            // Nothing to read at the moment: it is open all the same.
            Ok(_) => Verdict::Open(path.into()),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Verdict::Open(path.into()),
            Err(e) => failed(&e),
        },
        Err(e) => failed(&e),
    }
}

fn addresses(path: &str) -> Verdict {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let digits = |l: &str| l.trim().split([' ', ':']).next().unwrap_or_default().to_owned();
            let tells = |l: &str| digits(l).split('-').next_back().is_some_and(|a| a.contains(|c| c != '0'));
            Verdict::open_if(text.lines().any(tells), path)
        }
        Err(e) => failed(&e),
    }
}

fn directory(path: &str) -> Verdict {
    match read_dir(path) {
        Ok(mut entries) => Verdict::open_if(entries.next().is_some(), path),
        Err(e) => failed(&e),
    }
}

/// Device nodes that should not be there.
fn nodes() -> Verdict {
    let mut extra = Vec::new();
    look(Path::new("/dev"), &mut extra);
    Verdict::open_if(!extra.is_empty(), extra.join(" "))
}

fn look(folder: &Path, extra: &mut Vec<String>) {
    for entry in read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        let name = path.strip_prefix("/dev").unwrap_or(&path).display().to_string();
        if kind.is_dir() && name != "pts" {
            look(&path, extra);
        } else if kind.is_block_device()
            || (kind.is_char_device() && !NODES.contains(&name.as_str()) && !is_console(&name))
        {
            extra.push(name);
        }
    }
}

fn is_console(name: &str) -> bool {
    let terminal = |m: std::fs::Metadata| (136..144).contains(&libc::major(m.rdev()));
    name.starts_with("tty") && std::fs::metadata(Path::new("/dev").join(name)).is_ok_and(terminal)
}

/// All of them.
pub fn all(run: &mut dyn FnMut(String, &dyn Fn() -> Verdict)) {
    for (name, path) in KNOBS {
        run(format!("write_{name}"), &|| knob(path));
    }
    for (name, path) in INFORMATION {
        run(format!("read_{name}"), &|| information(path));
    }
    for (name, path) in ADDRESSES {
        run(format!("read_{name}"), &|| addresses(path));
    }
    for (name, path) in DIRECTORIES {
        run(format!("list_{name}"), &|| directory(path));
    }
    run("dev_nodes".into(), &nodes);
    run("cg_path_leak".into(), &|| {
        let text = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let leak = text.lines().find(|l| l.rsplit(':').next() != Some("/"));
        Verdict::open_if(leak.is_some(), leak.unwrap_or_default())
    });
}
