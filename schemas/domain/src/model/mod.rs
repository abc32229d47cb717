//! What a domain is: everything in the document that libvirt's LXC driver gives a meaning to, and the rest as
//! [`Extra`] at its place.
//!
//! The model holds values that have been checked one by one; that they fit together is
//! [`Domain::validate`](crate::Domain::validate)'s matter. It does not know XML syntax, the host, or what can be run.

pub mod devices;
pub mod interface;
pub mod os;
pub mod resources;

use berth_schemas::name::DomainName;
use uuid::Uuid;

use crate::tree::{Attr, Element, Pos};

pub use devices::{
    Accessmode, Console, ConsoleTarget, Devices, Disk, DiskDevice, DiskDriver, DiskSource, Filesystem,
    FsDriver, FsKind, FsSource, HostCapability, Hostdev, HostdevSource, MAX_CONSOLES, MAX_DISKS,
    MAX_FILESYSTEMS, MAX_HOSTDEVS, MAX_INTERFACES, UsbAddress, UsbId,
};
pub use interface::{
    Bandwidth, DirectMode, Filterref, Interface, InterfaceKind, InterfaceSource, IpAddress, IpConfig, Rate,
    Route, VirtualPort, Vlan, VlanMode, VlanTag, bits, usual_prefix,
};
pub use os::{
    Capabilities, CapabilitiesPolicy, Capability, Clock, ClockOffset, Features, InitEnv, LifecycleAction,
    Namespace, NamespaceKind, NamespaceShare, NamespaceSource, Os, Timer, TimerName,
};
pub use resources::{
    BlkioDevice, Blkiotune, Cputune, IdMap, IdRange, Memtune, NumaMode, Numatune, Placement, Resource, Vcpu,
};

/// A closed set of values, each with its spelling.
pub trait Closed: Sized + Copy + 'static {
    /// All values with their spelling.
    const ALL: &'static [(&'static str, Self)];

    /// The value with that spelling.
    fn find(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(spelling, _)| *spelling == text).map(|(_, value)| *value)
    }

    /// All spellings, for a message.
    fn names() -> String {
        let all: Vec<&str> = Self::ALL.iter().map(|(spelling, _)| *spelling).collect();
        all.join(", ")
    }
}

macro_rules! closed {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $spelling:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(#[doc = concat!("`", $spelling, "`.")] $variant),+
        }

        impl $crate::model::Closed for $name {
            const ALL: &'static [(&'static str, Self)] = &[$(($spelling, Self::$variant)),+];
        }

        impl $name {
            /// The spelling in the document.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $spelling),+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use closed;

/// What is unknown inside one element: kept, and written back behind what is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extra {
    /// Attributes.
    pub attrs: Vec<Attr>,
    /// Child elements.
    pub children: Vec<Element>,
    /// The same for known children that are no structure of the model: their name and which one of that name.
    pub(crate) leaves: Vec<(String, usize, Extra)>,
}

impl Extra {
    /// Nothing unknown at all.
    pub fn is_empty(&self) -> bool {
        self.attrs.is_empty() && self.children.is_empty() && self.leaves.is_empty()
    }

    /// What is unknown in the known child `name` number `index`.
    pub(crate) fn of(&self, name: &str, index: usize) -> Option<&Extra> {
        self.leaves.iter().find(|(n, i, _)| n == name && *i == index).map(|(_, _, extra)| extra)
    }
}

/// One domain's definition.
#[derive(Clone, Debug, PartialEq)]
pub struct Domain {
    /// Name.
    pub name: DomainName,
    /// UUID; made up at parse where the document has none.
    pub uuid: Uuid,
    /// Generation id; kept, without effect.
    pub genid: Option<Uuid>,
    /// One line about the domain; a line break in it is written as a space.
    pub title: Option<String>,
    /// More about the domain.
    pub description: Option<String>,
    /// `<metadata>` as it stands; see [`Domain::metadata_element`].
    pub metadata: Option<Element>,
    /// Memory in KiB; never 0.
    pub memory_kib: u64,
    /// Memory at start in KiB; never more than `memory_kib`.
    pub current_memory_kib: u64,
    /// Limits on block I/O.
    pub blkiotune: Option<Blkiotune>,
    /// Limits on memory.
    pub memtune: Option<Memtune>,
    /// Number and placement of CPUs.
    pub vcpu: Vcpu,
    /// Limits on CPU time.
    pub cputune: Option<Cputune>,
    /// NUMA placement of memory.
    pub numatune: Option<Numatune>,
    /// Place in the control groups.
    pub resource: Option<Resource>,
    /// What is started inside.
    pub os: Os,
    /// Explicit user namespace.
    pub idmap: Option<IdMap>,
    /// Private network and capabilities.
    pub features: Features,
    /// Clock and its timers.
    pub clock: Clock,
    /// What follows a power-off.
    pub on_poweroff: LifecycleAction,
    /// What follows a reboot.
    pub on_reboot: LifecycleAction,
    /// What follows a crash.
    pub on_crash: LifecycleAction,
    /// Devices.
    pub devices: Devices,
    /// Security labels, one per model.
    pub seclabels: Vec<Seclabel>,
    /// Namespaces that are shared with others.
    pub namespace: Option<Namespace>,
    /// What is unknown directly below the domain.
    pub extra: Extra,
}

closed! {
    /// How a security label comes about.
    SeclabelKind { None = "none", Static = "static", Dynamic = "dynamic" }
}

/// A security label.
#[derive(Clone, Debug, PartialEq)]
pub struct Seclabel {
    /// How it comes about.
    pub kind: SeclabelKind,
    /// `apparmor`, `selinux` or `dac`; none means that of the host.
    pub model: Option<String>,
    /// Whether files are relabelled.
    pub relabel: bool,
    /// The label.
    pub label: Option<String>,
    /// What a dynamic label is made from.
    pub baselabel: Option<String>,
    /// Where it stood.
    pub pos: Pos,
    /// What is unknown inside.
    pub extra: Extra,
}
