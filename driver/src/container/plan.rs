//! Domain and host to launch plan. Pure: everything is decided here, and nothing is looked up.
//!
//! Does not know whether any path is there, who runs, or how a step of the plan is done.

use std::path::Path;

use berth_domain::model::{
    Capabilities, CapabilitiesPolicy, Closed, Filesystem, FsSource, IdRange, LifecycleAction, NamespaceKind,
    NumaMode, Placement,
};
use berth_domain::{Domain, IdMapMode};
use berth_schemas::LAUNCH_PLAN_VERSION;
use berth_schemas::controller::{
    LaunchPlan, PlanAction, PlanCgroups, PlanConsole, PlanCredential, PlanFilesystem, PlanFilesystemKind,
    PlanHostInterface, PlanIdMap, PlanIdRange, PlanInit, PlanMemoryMode, PlanMemoryPolicy, PlanNamespace,
    PlanNamespaceKind, PlanRlimit, PlanRoot,
};

use crate::config::IdMapDefault;
use crate::container::plan_devices::{self, UsbError};
use crate::host::cgroups::Groups;
use crate::host::idmap::Range;
use crate::host::links::Link;
use crate::host::usb::UsbDevice;
use crate::paths::Layout;
use crate::seccomp::{self, FilterError};

/// What a plan needs to know of the host.
#[derive(Debug)]
pub struct HostFacts<'a> {
    /// Where logs and records are.
    pub layout: &'a Layout,
    /// The domain's control groups.
    pub groups: &'a Groups,
    /// Architecture as uname(2) has it.
    pub arch: &'a str,
    /// Size of a console's log.
    pub log_max_bytes: u32,
    /// Rotated logs of a console.
    pub log_keep: u8,
    /// Where a test wants the controller to die.
    pub kill_at: Option<&'a str>,
    /// How many descriptors init gets.
    pub init_descriptors: usize,
    /// The range that was chosen for a domain that wants one.
    pub ids: Option<Range>,
    /// USB devices that are plugged in; only looked at for a domain that wants one.
    pub usb: &'a [UsbDevice],
    /// Where qemu-nbd is, if it is installed.
    pub qemu_nbd: Option<&'a Path>,
    /// What os-release(5) says on the host.
    pub release: Option<&'a str>,
    /// Whether the program that serves the container's own view comes along, behind all other descriptors.
    pub view: bool,
    /// The profile that was chosen for it.
    pub profile: Option<&'a str>,
    /// What its interfaces are called.
    pub links: &'a [Link],
}

/// What a domain wants for its ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantedIds {
    /// The host's.
    Host,
    /// A range that is chosen for it.
    Chosen,
    /// Those that its document has.
    Explicit,
}

/// What a domain wants for its ids. The host's own root is never mounted with a map, and who shares a namespace of
/// another needs that one's rights.
pub fn wanted_ids(domain: &Domain, default: IdMapDefault) -> WantedIds {
    let is_host = |f: &Filesystem| matches!(&f.source, FsSource::Mount { dir } if is_host_root(dir));
    let host_root = domain.devices.filesystems.iter().any(|f| f.is_root() && is_host(f));
    let fixed = host_root || domain.shares_namespaces().is_some();
    match (&domain.idmap, domain.id_map_mode()) {
        (Some(map), _) if !map.uids.is_empty() => WantedIds::Explicit,
        (_, Some(IdMapMode::None)) => WantedIds::Host,
        _ if fixed => WantedIds::Host,
        (_, Some(IdMapMode::Auto)) => WantedIds::Chosen,
        (_, None) if default == IdMapDefault::Auto => WantedIds::Chosen,
        (_, None) => WantedIds::Host,
    }
}

/// All ranges on the host that a document asks for.
pub fn asked_ids(domain: &Domain) -> impl Iterator<Item = Range> + '_ {
    let ranges = domain.idmap.iter().flat_map(|m| m.uids.iter().chain(&m.gids));
    ranges.map(|r| Range { first: r.target, count: r.count })
}

/// Hidden where there is a view: the memory of the host, in blocks that no figure of a container fits into.
const MEMORY_BLOCKS: &str = "/sys/devices/system/memory";

/// Hidden from the container: what tells about the host or lets it be changed. The reasons are in proc(5) and in the
/// lists of the other runtimes; kcore is memory, keys and timer_list tell of others, kallsyms and vmcoreinfo tell
/// addresses of the kernel, mtrr, uevent_helper and power change the machine, the rest describes it. /proc/kmsg is not
/// here: a file that ends at once keeps rsyslog reading it without a pause.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/config.gz",
    "/proc/dynamic_debug",
    "/proc/interrupts",
    "/proc/iomem",
    "/proc/ioports",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/mtrr",
    "/proc/pagetypeinfo",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/vmallocinfo",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/bpf",
    "/sys/fs/selinux",
    "/sys/kernel/config",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
    "/sys/kernel/uevent_helper",
    "/sys/kernel/vmcoreinfo",
    "/sys/power",
];

/// Made read-only in the container. `/proc/sys` is the controller's own matter: parts of it are namespaced.
const READ_ONLY: &[&str] = &["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sysrq-trigger"];

/// The v1 controllers that the container's own view is made from.
const VIEWED: &[&str] = &["blkio", "cpu", "cpuacct", "cpuset", "memory", "pids"];

/// Search path of init: libvirt's `/bin:/sbin` misses what a distribution installs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Capabilities in the order of linux/capability.h.
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// What libvirt takes away where the document says nothing.
const DROPPED: [&str; 5] = ["sys_module", "sys_time", "mknod", "audit_control", "mac_admin"];

/// Index of the listening socket among the descriptors; shared namespaces follow, then init's.
pub const LISTEN_DESCRIPTOR: usize = 0;

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nothing to be the root.
    #[error("there is no root: a <filesystem> with <target dir='/'/> is missing")]
    NoRoot,
    /// A kind of file system that this version cannot mount.
    #[error("a <filesystem> of type '{kind}' on '{target}' cannot be mounted")]
    Filesystem {
        /// The type.
        kind: &'static str,
        /// Where it should be.
        target: String,
    },
    /// A USB device that is not there, or not the only one.
    #[error(transparent)]
    Usb(#[from] UsbError),
    /// No filter of system calls.
    #[error(transparent)]
    Filter(#[from] FilterError),
}

/// Makes the plan.
pub fn plan(domain: &Domain, host: &HostFacts<'_>) -> Result<LaunchPlan, PlanError> {
    let shares = domain.namespace.as_ref().map(|n| n.shares.as_slice()).unwrap_or_default();
    let shared_namespaces: Vec<_> = shares
        .iter()
        .zip(LISTEN_DESCRIPTOR + 1..)
        .map(|(share, index)| PlanNamespace {
            kind: namespace_kind(share.kind),
            file_descriptor: number(index),
        })
        .collect();
    let id_map = id_map(domain, host.ids);
    let own_ids = id_map.is_some();
    let calls = domain.seccomp().unwrap_or_default();
    // Nobody is asked about a call that is denied: who listens leaves the place to the container.
    let sysinfo_denied = calls.deny.iter().any(|call| call == "sysinfo");
    let own_sysinfo = host.view && domain.has_own_sysinfo() && !sysinfo_denied;
    let given = |name: &str| is_given(domain, name);
    let system_call_filter = seccomp::filter(&calls, host.arch, own_ids, given, own_sysinfo)?;
    let first_of_init = LISTEN_DESCRIPTOR + 1 + shared_namespaces.len();
    let first_of_credentials = first_of_init + host.init_descriptors;
    let credentials: Vec<_> = domain
        .credentials()
        .into_iter()
        .zip(first_of_credentials..)
        .map(|(credential, index)| PlanCredential { name: credential.name, file_descriptor: number(index) })
        .collect();
    let view_program = host.view.then(|| number(first_of_credentials + credentials.len()));
    let uts_shared = shares.iter().any(|s| s.kind == NamespaceKind::Uts);
    let limits = domain.limit_settings();
    let view_arguments = view_arguments(host.groups, id_map.as_ref());
    Ok(LaunchPlan {
        version: LAUNCH_PLAN_VERSION,
        name: domain.name.to_string(),
        uuid: domain.uuid.to_string(),
        hostname: if uts_shared { None } else { Some(domain.name.hostname()) },
        personality: personality(&domain.os.arch, host.arch),
        root: root(domain)?,
        id_map,
        filesystems: filesystems(domain)?,
        devices: plan_devices::devices(domain, host.usb)?,
        host_interfaces: host_interfaces(domain, host.links),
        qemu_nbd: host.qemu_nbd.map(text),
        masked_paths: strings(MASKED)
            .into_iter()
            .chain(host.view.then(|| MEMORY_BLOCKS.to_owned()))
            .collect(),
        readonly_paths: strings(READ_ONLY),
        shared_namespaces,
        consoles: consoles(domain, host),
        init: init(domain),
        rlimits: limits.rlimits.iter().map(rlimit).collect(),
        oom_score_adj: limits.oom_score.map(i64::from),
        memory_policy: memory_policy(domain),
        host_release: host.release.map(str::to_owned),
        credentials,
        init_file_descriptors: (first_of_init..first_of_init + host.init_descriptors).map(number).collect(),
        capabilities: capabilities(domain.features.capabilities.as_ref()),
        system_call_filter,
        no_new_privileges: calls.profile == berth_domain::seccomp::SeccompProfile::Application,
        apparmor_profile: host.profile.map(str::to_owned),
        cgroups: plan_groups(host.groups),
        view_program,
        view_arguments: if host.view { view_arguments } else { Vec::new() },
        own_sysinfo,
        count_cpu_times: domain.counts_cpu_times() && host.groups.legacy_of("cpuacct").is_none(),
        on_poweroff: action(domain.on_poweroff),
        on_reboot: action(domain.on_reboot),
        on_crash: action(domain.on_crash),
        exit_record: text(&host.layout.exit_record(domain.uuid)),
        listen_file_descriptor: number(LISTEN_DESCRIPTOR),
        kill_at_step: host.kill_at.map(str::to_owned),
    })
}

/// Control groups as the controller is told of them.
pub fn plan_groups(groups: &Groups) -> PlanCgroups {
    PlanCgroups {
        unified: text(&groups.limited),
        legacy: groups.legacy.iter().map(|p| text(p)).collect(),
        legacy_memory: groups.memory.as_deref().map(text),
    }
}

/// All interfaces that come from the host, of which those that are made are as `links` say.
pub fn host_interfaces(domain: &Domain, links: &[Link]) -> Vec<PlanHostInterface> {
    let mut all = plan_devices::host_interfaces(domain);
    all.extend(plan_devices::interfaces(domain, links));
    all
}

fn id_map(domain: &Domain, chosen: Option<Range>) -> Option<PlanIdMap> {
    if let Some(map) = domain.idmap.as_ref().filter(|m| !m.uids.is_empty()) {
        let range = |r: &IdRange| PlanIdRange {
            inside: r.start.into(),
            host: r.target.into(),
            count: r.count.into(),
        };
        let (uids, gids) = (map.uids.iter().map(range).collect(), map.gids.iter().map(range).collect());
        // They may be those of somebody on the host.
        return Some(PlanIdMap { uids, gids, keep_shifted: true, exclusive: false });
    }
    let range = chosen.map(|r| PlanIdRange { inside: 0, host: r.first.into(), count: r.count.into() })?;
    Some(PlanIdMap { uids: vec![range.clone()], gids: vec![range], keep_shifted: false, exclusive: true })
}

/// What berth-view is told, but for when the container started.
fn view_arguments(groups: &Groups, map: Option<&PlanIdMap>) -> Vec<String> {
    let root = |ranges: &[PlanIdRange]| ranges.iter().find(|r| r.inside == 0).map_or(0, |r| r.host);
    let (uid, gid) = map.map_or((0, 0), |m| (root(&m.uids), root(&m.gids)));
    let mut words =
        vec![format!("uid={uid}"), format!("gid={gid}"), format!("unified={}", text(&groups.limited))];
    for (path, controllers) in groups.legacy.iter().zip(&groups.controllers) {
        let known = controllers.iter().filter(|c| VIEWED.contains(&c.as_str()));
        words.extend(known.map(|controller| format!("{controller}={}", text(path))));
    }
    words
}

fn is_host_root(dir: &str) -> bool {
    Path::new(dir).components().eq(Path::new("/").components())
}

fn number(index: usize) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

fn root(domain: &Domain) -> Result<PlanRoot, PlanError> {
    let found = domain.devices.filesystems.iter().find(|f| f.is_root()).ok_or(PlanError::NoRoot)?;
    if let Some((source, image)) = plan_devices::image(found) {
        return Ok(PlanRoot { source, image: Some(image), readonly: found.readonly, host: false });
    }
    match &found.source {
        FsSource::Mount { dir } => {
            let host = is_host_root(dir);
            Ok(PlanRoot { source: dir.clone(), image: None, readonly: found.readonly || host, host })
        }
        _ => Err(cannot_mount(found)),
    }
}

fn cannot_mount(filesystem: &Filesystem) -> PlanError {
    PlanError::Filesystem { kind: filesystem.source.kind().as_str(), target: filesystem.target.clone() }
}

fn filesystems(domain: &Domain) -> Result<Vec<PlanFilesystem>, PlanError> {
    let others = domain.devices.filesystems.iter().filter(|f| !f.is_root());
    others.map(filesystem).collect()
}

/// One file system that is not the root.
pub fn filesystem(from: &Filesystem) -> Result<PlanFilesystem, PlanError> {
    let image = plan_devices::image(from);
    let (kind, source, size_bytes) = match &from.source {
        FsSource::Mount { dir } => (PlanFilesystemKind::Mount, Some(dir.clone()), None),
        FsSource::Bind { dir } => (PlanFilesystemKind::Bind, Some(dir.clone()), None),
        FsSource::Ram { usage_kib } => {
            let bytes = i64::try_from(usage_kib.saturating_mul(1024)).unwrap_or(i64::MAX);
            (PlanFilesystemKind::Ram, None, Some(bytes))
        }
        _ => match &image {
            Some((source, _)) => (PlanFilesystemKind::Image, Some(source.clone()), None),
            None => return Err(cannot_mount(from)),
        },
    };
    Ok(PlanFilesystem {
        kind,
        source,
        image: image.map(|(_, image)| image),
        target: from.target.clone(),
        readonly: from.readonly,
        size_bytes,
    })
}

fn namespace_kind(kind: NamespaceKind) -> PlanNamespaceKind {
    match kind {
        NamespaceKind::Net => PlanNamespaceKind::Net,
        NamespaceKind::Ipc => PlanNamespaceKind::Ipc,
        NamespaceKind::Uts => PlanNamespaceKind::Uts,
    }
}

/// 32-bit containers see a 32-bit machine: pairs as libvirt has them.
fn personality(domain: &str, host: &str) -> Option<String> {
    let pairs = [("x86_64", "i686"), ("aarch64", "armv7l"), ("ppc64", "ppc"), ("s390x", "s390")];
    pairs.contains(&(host, domain)).then(|| "linux32".to_owned())
}

fn consoles(domain: &Domain, host: &HostFacts<'_>) -> Vec<PlanConsole> {
    (0..domain.devices.consoles.len())
        .map(|n| PlanConsole {
            device: format!("console{n}"),
            log_path: text(&host.layout.console_log(domain.name.as_str(), n)),
            log_max_bytes: host.log_max_bytes.into(),
            log_keep: host.log_keep.into(),
        })
        .collect()
}

fn init(domain: &Domain) -> PlanInit {
    let os = &domain.os;
    let mut args = vec![os.init.clone()];
    args.extend(os.initargs.iter().cloned());
    PlanInit {
        path: os.init.clone(),
        args,
        env: environment(domain),
        directory: os.initdir.clone(),
        user: os.inituser.clone(),
        group: os.initgroup.clone(),
    }
}

fn environment(domain: &Domain) -> Vec<String> {
    let mut env: Vec<(String, String)> = [
        ("PATH", PATH.to_owned()),
        ("TERM", "linux".to_owned()),
        // The word that systemd knows; see its container interface.
        ("container", "lxc-libvirt".to_owned()),
        ("container_uuid", domain.uuid.to_string()),
        ("HOME", "/".to_owned()),
        ("LIBVIRT_LXC_UUID", domain.uuid.to_string()),
        ("LIBVIRT_LXC_NAME", domain.name.to_string()),
    ]
    .map(|(k, v)| (k.to_owned(), v))
    .into();
    if let Some(cmdline) = &domain.os.cmdline {
        env.push(("LIBVIRT_LXC_CMDLINE".into(), cmdline.clone()));
    }
    for own in &domain.os.initenv {
        env.retain(|(name, _)| *name != own.name);
        env.push((own.name.clone(), own.value.clone()));
    }
    env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn capabilities(wanted: Option<&Capabilities>) -> i64 {
    let policy = wanted.map_or(CapabilitiesPolicy::Default, |w| w.policy);
    let named = |name: &str| {
        let of_kernel = berth_domain::model::Capability::find(name)?;
        wanted?.named.get(&of_kernel).copied()
    };
    CAPABILITIES.iter().enumerate().fold(0, |mask, (bit, name)| {
        let by_policy = match policy {
            CapabilitiesPolicy::Default => !DROPPED.contains(name),
            CapabilitiesPolicy::Allow => true,
            CapabilitiesPolicy::Deny => false,
        };
        if named(name).unwrap_or(by_policy) { mask | (1 << bit) } else { mask }
    })
}

/// Whether the document gives this capability by its name.
fn is_given(domain: &Domain, name: &str) -> bool {
    let named = domain.features.capabilities.as_ref().map(|c| &c.named);
    let capability = berth_domain::model::Capability::find(name);
    named.zip(capability).and_then(|(named, capability)| named.get(&capability).copied()).unwrap_or(false)
}

fn action(action: LifecycleAction) -> PlanAction {
    match action {
        LifecycleAction::Destroy | LifecycleAction::Preserve | LifecycleAction::CoredumpDestroy => {
            PlanAction::Destroy
        }
        LifecycleAction::Restart | LifecycleAction::RenameRestart | LifecycleAction::CoredumpRestart => {
            PlanAction::Restart
        }
    }
}

/// What of `<numatune>` is a matter of processes: the strict modes are limits of the control group.
fn memory_policy(domain: &Domain) -> Option<PlanMemoryPolicy> {
    let numa = domain.numatune.as_ref().filter(|n| n.placement == Placement::Static)?;
    let mode = match numa.mode {
        NumaMode::Preferred => PlanMemoryMode::Preferred,
        NumaMode::Interleave => PlanMemoryMode::Interleave,
        NumaMode::Strict | NumaMode::Restrictive => return None,
    };
    let nodes = crate::host::node::list(numa.nodeset.as_deref()?);
    Some(PlanMemoryPolicy { mode, nodes: nodes.into_iter().map(i64::from).collect() })
}

fn rlimit(limit: &berth_domain::Rlimit) -> PlanRlimit {
    // More than the largest signed number is as good as no limit.
    let value = |n: Option<u64>| n.and_then(|n| i64::try_from(n).ok());
    PlanRlimit { name: limit.name.to_string(), soft: value(limit.soft), hard: value(limit.hard) }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn every_capability_of_the_document_has_a_bit() {
        for (name, _) in berth_domain::model::Capability::ALL {
            assert!(CAPABILITIES.contains(name), "{name}");
        }
        assert_eq!(CAPABILITIES[21], "sys_admin");
        assert_eq!(CAPABILITIES[40], "checkpoint_restore");
        let by_default = capabilities(None);
        assert_eq!(by_default & (1 << 16), 0);
        assert_ne!(by_default & (1 << 21), 0);
    }
}
