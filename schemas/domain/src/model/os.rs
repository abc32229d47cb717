//! What is started inside, what it may do, and what follows its end.
//!
//! Does not know which capabilities or namespaces the kernel has.

use std::collections::BTreeMap;

use super::{Extra, closed};
use crate::tree::Pos;

/// `<os>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Os {
    /// Architecture as libvirt calls it: the host's, or its 32-bit one.
    pub arch: String,
    /// Machine type; kept, without effect.
    pub machine: Option<String>,
    /// Absolute path of init inside the container.
    pub init: String,
    /// Arguments of init, without its name.
    pub initargs: Vec<String>,
    /// Environment of init, added to the default one.
    pub initenv: Vec<InitEnv>,
    /// Absolute path of init's working directory.
    pub initdir: Option<String>,
    /// User name or `+`id that init runs as, resolved inside the container.
    pub inituser: Option<String>,
    /// Group name or `+`id that init runs as, resolved inside the container.
    pub initgroup: Option<String>,
    /// Value of the environment variable `LIBVIRT_LXC_CMDLINE`.
    pub cmdline: Option<String>,
    /// What is unknown inside.
    pub extra: Extra,
}

/// Most `<initarg>` elements.
pub const MAX_INITARGS: usize = 256;
/// Most `<initenv>` elements.
pub const MAX_INITENV: usize = 256;

/// One variable of init's environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitEnv {
    /// Name.
    pub name: String,
    /// Value, never empty.
    pub value: String,
}

/// `<features>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features {
    /// `<privnet/>`: a private network namespace, also without interfaces.
    pub privnet: bool,
    /// `<capabilities>`.
    pub capabilities: Option<Capabilities>,
    /// What is unknown inside.
    pub extra: Extra,
}

closed! {
    /// Which capabilities remain when a capability is not named.
    CapabilitiesPolicy { Default = "default", Allow = "allow", Deny = "deny" }
}

/// `<capabilities>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Capabilities {
    /// What holds for those not named.
    pub policy: CapabilitiesPolicy,
    /// Those named: on or off.
    pub named: BTreeMap<Capability, bool>,
    /// What is unknown inside.
    pub extra: Extra,
}

closed! {
    /// A capability of the kernel, under libvirt's name: lower case, without `CAP_`.
    Capability {
        AuditControl = "audit_control",
        AuditRead = "audit_read",
        AuditWrite = "audit_write",
        BlockSuspend = "block_suspend",
        Bpf = "bpf",
        CheckpointRestore = "checkpoint_restore",
        Chown = "chown",
        DacOverride = "dac_override",
        DacReadSearch = "dac_read_search",
        Fowner = "fowner",
        Fsetid = "fsetid",
        IpcLock = "ipc_lock",
        IpcOwner = "ipc_owner",
        Kill = "kill",
        Lease = "lease",
        LinuxImmutable = "linux_immutable",
        MacAdmin = "mac_admin",
        MacOverride = "mac_override",
        Mknod = "mknod",
        NetAdmin = "net_admin",
        NetBindService = "net_bind_service",
        NetBroadcast = "net_broadcast",
        NetRaw = "net_raw",
        Perfmon = "perfmon",
        Setgid = "setgid",
        Setfcap = "setfcap",
        Setpcap = "setpcap",
        Setuid = "setuid",
        SysAdmin = "sys_admin",
        SysBoot = "sys_boot",
        SysChroot = "sys_chroot",
        SysModule = "sys_module",
        SysNice = "sys_nice",
        SysPacct = "sys_pacct",
        SysPtrace = "sys_ptrace",
        SysRawio = "sys_rawio",
        SysResource = "sys_resource",
        SysTime = "sys_time",
        SysTtyConfig = "sys_tty_config",
        Syslog = "syslog",
        WakeAlarm = "wake_alarm",
    }
}

closed! {
    /// What the clock inside shows.
    ClockOffset {
        Utc = "utc",
        Localtime = "localtime",
        Variable = "variable",
        Timezone = "timezone",
        Absolute = "absolute",
    }
}

/// `<clock>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Clock {
    /// What it shows.
    pub offset: ClockOffset,
    /// `adjustment`, `basis`, `timezone` and `start`, kept as they are.
    pub adjustment: Option<String>,
    /// What an adjustment counts from.
    pub basis: Option<String>,
    /// Name of a time zone.
    pub timezone: Option<String>,
    /// Absolute start.
    pub start: Option<String>,
    /// Timers.
    pub timers: Vec<Timer>,
    /// Where it stood.
    pub pos: Pos,
    /// What is unknown inside.
    pub extra: Extra,
}

closed! {
    /// A timer device.
    TimerName {
        Platform = "platform",
        Pit = "pit",
        Rtc = "rtc",
        Hpet = "hpet",
        Tsc = "tsc",
        Kvmclock = "kvmclock",
        Hypervclock = "hypervclock",
        Armvtimer = "armvtimer",
    }
}

/// `<timer>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Timer {
    /// Which one.
    pub name: TimerName,
    /// Whether the container sees it.
    pub present: Option<bool>,
    /// Where it stood.
    pub pos: Pos,
    /// What is unknown inside.
    pub extra: Extra,
}

closed! {
    /// What follows the end of init.
    LifecycleAction {
        Destroy = "destroy",
        Restart = "restart",
        RenameRestart = "rename-restart",
        Preserve = "preserve",
        CoredumpDestroy = "coredump-destroy",
        CoredumpRestart = "coredump-restart",
    }
}

closed! {
    /// Which namespace is shared.
    NamespaceKind { Net = "sharenet", Ipc = "shareipc", Uts = "shareuts" }
}

closed! {
    /// Whose namespace it is.
    NamespaceSource { Name = "name", Pid = "pid", Netns = "netns" }
}

/// `<lxc:namespace>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Namespace {
    /// Those shared, in libvirt's order, each kind at most once.
    pub shares: Vec<NamespaceShare>,
    /// Where it stood.
    pub pos: Pos,
    /// What is unknown inside.
    pub extra: Extra,
}

/// One shared namespace.
#[derive(Clone, Debug, PartialEq)]
pub struct NamespaceShare {
    /// Which one.
    pub kind: NamespaceKind,
    /// What `value` is.
    pub source: NamespaceSource,
    /// A domain's name, a process id, or a name below `/run/netns`.
    pub value: String,
}
