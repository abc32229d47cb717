//! What the host is: processors, memory, names.
//!
//! Does not know domains. All functions block for as long as it takes to read a file of the kernel.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Processors and memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Usable memory.
    pub memory_kib: i64,
    /// Processors that are online.
    pub cpus: i64,
    /// Clock frequency.
    pub mhz: i64,
    /// NUMA nodes.
    pub numa_cells: i64,
    /// Sockets per node.
    pub sockets: i64,
    /// Cores per socket.
    pub cores: i64,
    /// Threads per core.
    pub threads: i64,
}

/// Longest os-release that is passed on; usual ones have some hundred bytes.
const MAX_RELEASE: u64 = 64 << 10;

/// Architecture as uname(2) has it.
pub fn arch() -> String {
    rustix::system::uname().machine().to_string_lossy().into_owned()
}

/// Release of the running kernel.
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Host name.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A name for this machine: the hardware's, else the system's.
pub fn uuid() -> Option<uuid::Uuid> {
    ["/sys/class/dmi/id/product_uuid", "/etc/machine-id"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .filter_map(|text| uuid::Uuid::parse_str(text.trim()).ok())
        .find(|uuid| !uuid.is_nil() && !uuid.is_max())
}

/// What os-release(5) says about the host; none where it has no such file, or an odd one.
pub fn release() -> Option<String> {
    // Usually the first is a link to the second.
    let read = |path| crate::files::read(&fs::canonicalize(path).ok()?, MAX_RELEASE).ok();
    let bytes = read("/etc/os-release").or_else(|| read("/usr/lib/os-release"))?;
    String::from_utf8(bytes).ok()
}

/// Looks at the machine.
pub fn look() -> Node {
    let cpus = cpu_numbers(Path::new("/sys/devices/system/cpu/online"));
    let topology = |cpu: u32, file: &str| {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/{file}");
        fs::read_to_string(path).ok()?.trim().parse::<i64>().ok()
    };
    let (mut packages, mut cores) = (BTreeSet::new(), BTreeSet::new());
    for cpu in &cpus {
        let package = topology(*cpu, "physical_package_id").unwrap_or(0);
        packages.insert(package);
        cores.insert((package, topology(*cpu, "core_id").unwrap_or(i64::from(*cpu))));
    }
    let count = |n: usize| i64::try_from(n.max(1)).unwrap_or(1);
    let (all, packages, cores) = (count(cpus.len()), count(packages.len()), count(cores.len()));
    let cells = count(cpu_numbers(Path::new("/sys/devices/system/node/online")).len());
    let sockets = (packages / cells).max(1);
    let per_socket = (cores / packages).max(1);
    let threads = (all / cores).max(1);
    let fits = cells * sockets * per_socket * threads >= all;
    Node {
        memory_kib: memory_kib(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
        cpus: all,
        mhz: mhz(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
        numa_cells: if fits { cells } else { 1 },
        sockets: if fits { sockets } else { 1 },
        // Uneven machines do not fit the four numbers; libvirt then tells one socket with all processors.
        cores: if fits { per_socket } else { all },
        threads: if fits { threads } else { 1 },
    }
}

fn memory_kib(meminfo: &str) -> i64 {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap_or(0)
}

fn mhz(cpuinfo: &str) -> i64 {
    let line = cpuinfo.lines().find(|l| l.to_ascii_lowercase().starts_with("cpu mhz"));
    let whole = line.and_then(|l| l.split_once(':')).and_then(|(_, v)| v.trim().split('.').next());
    whole.and_then(|v| v.parse().ok()).unwrap_or(0)
}

/// How many CPUs are online, as far as the host says.
pub fn cpus() -> u32 {
    let online = cpu_numbers(Path::new("/sys/devices/system/cpu/online"));
    u32::try_from(online.len()).unwrap_or(u32::MAX)
}

fn cpu_numbers(path: &Path) -> Vec<u32> {
    list(fs::read_to_string(path).unwrap_or_default().trim())
}

/// Numbers in the kernel's list form, `0-3,8`.
pub fn list(text: &str) -> Vec<u32> {
    let ranges = text.split(',').filter_map(|part| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        Some(from.parse().ok()?..=to.parse::<u32>().ok()?.min(65_535))
    });
    ranges.flatten().collect()
}

/// The word size of an architecture.
fn word_size(arch: &str) -> u32 {
    if arch.contains("64") || arch == "s390x" { 64 } else { 32 }
}

/// The 32-bit architecture that a 64-bit one also runs.
fn alternative(arch: &str) -> Option<&'static str> {
    Some(match arch {
        "x86_64" => "i686",
        "aarch64" => "armv7l",
        "ppc64" => "ppc",
        "s390x" => "s390",
        _ => return None,
    })
}

/// The capabilities document in libvirt's form. `security`: the security module.
pub fn capabilities(host: &berth_domain::Host, security: Option<&str>) -> String {
    let node = look();
    let mut xml = String::from("<capabilities>\n\n  <host>\n");
    if let Some(uuid) = uuid() {
        xml.push_str(&format!("    <uuid>{uuid}</uuid>\n"));
    }
    xml.push_str(&format!(
        "    <cpu>\n      <arch>{}</arch>\n      <topology sockets='{}' dies='1' cores='{}' threads='{}'/>\n    </cpu>\n",
        escape(&host.arch),
        node.sockets,
        node.cores,
        node.threads
    ));
    xml.push_str("    <power_management/>\n    <iommu support='no'/>\n");
    if let Some(model) = security {
        let model = escape(model);
        xml.push_str(&format!(
            "    <secmodel>\n      <model>{model}</model>\n      <doi>0</doi>\n    </secmodel>\n"
        ));
    }
    xml.push_str("  </host>\n\n");
    for arch in std::iter::once(host.arch.as_str()).chain(alternative(&host.arch)) {
        xml.push_str(&format!(
            "  <guest>\n    <os_type>exe</os_type>\n    <arch name='{}'>\n      <wordsize>{}</wordsize>\n      \
             <emulator>{}</emulator>\n      <domain type='lxc'/>\n    </arch>\n  </guest>\n\n",
            escape(arch),
            word_size(arch),
            escape(&host.emulator)
        ));
    }
    xml.push_str("</capabilities>\n");
    xml
}

/// Text as it stands in a document.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&apos;")
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_kernels_forms_are_read() {
        assert_eq!(list("0-2,8"), [0, 1, 2, 8]);
        assert_eq!(list(""), Vec::<u32>::new());
        assert_eq!(memory_kib("MemTotal:       24689340 kB\nMemFree: 1 kB\n"), 24_689_340);
        assert_eq!(mhz("processor: 0\ncpu MHz\t\t: 2899.998\n"), 2899);
        assert_eq!(mhz(""), 0);
    }

    #[test]
    fn this_machine_adds_up() {
        let node = look();
        assert!(node.cpus >= 1 && node.memory_kib > 0);
        assert!(node.numa_cells * node.sockets * node.cores * node.threads >= node.cpus);
    }

    #[test]
    fn capabilities_name_the_emulator() {
        let host = berth_domain::Host { arch: "x86_64".into(), emulator: "/opt/a&b/c".into() };
        let xml = capabilities(&host, None);
        assert!(!xml.contains("secmodel"));
        let confined = capabilities(&host, Some("apparmor"));
        assert!(
            confined.contains("<secmodel>\n      <model>apparmor</model>\n      <doi>0</doi>\n"),
            "{confined}"
        );
        assert!(xml.contains("<emulator>/opt/a&amp;b/c</emulator>"));
        assert!(xml.contains("<arch name='i686'>\n      <wordsize>32</wordsize>"));
        assert!(xml.contains("<domain type='lxc'/>"));
    }
}
