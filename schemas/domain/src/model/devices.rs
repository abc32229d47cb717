//! Devices, apart from network interfaces.
//!
//! A path here is a string: nothing here knows whether it exists, or on which side of a link it ends.

use super::{Extra, Interface, IpConfig, closed};
use crate::tree::Pos;

/// Most consoles.
pub const MAX_CONSOLES: usize = 64;
/// Most file systems.
pub const MAX_FILESYSTEMS: usize = 256;
/// Most interfaces.
pub const MAX_INTERFACES: usize = 64;
/// Most host devices.
pub const MAX_HOSTDEVS: usize = 256;
/// Most disks.
pub const MAX_DISKS: usize = 256;

/// `<devices>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Devices {
    /// The program of the container's controller; always the host's.
    pub emulator: String,
    /// Disks.
    pub disks: Vec<Disk>,
    /// File systems, in the order in which they are mounted.
    pub filesystems: Vec<Filesystem>,
    /// Network interfaces.
    pub interfaces: Vec<Interface>,
    /// Consoles; the number of one is its place.
    pub consoles: Vec<Console>,
    /// Host devices.
    pub hostdevs: Vec<Hostdev>,
    /// Where it stood.
    pub pos: Pos,
    /// What is unknown inside: all other devices.
    pub extra: Extra,
}

closed! {
    /// How access to the source is mapped; without effect.
    Accessmode { Passthrough = "passthrough", Mapped = "mapped", Squash = "squash" }
}

closed! {
    /// The value of `type` of a file system.
    FsKind {
        Mount = "mount",
        Bind = "bind",
        Block = "block",
        File = "file",
        Ram = "ram",
        Template = "template",
        Volume = "volume",
    }
}

/// Where a file system comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FsSource {
    /// A directory of the host.
    Mount {
        /// Absolute path.
        dir: String,
    },
    /// A directory of the container.
    Bind {
        /// Absolute path inside.
        dir: String,
    },
    /// A block device of the host.
    Block {
        /// Absolute path.
        dev: String,
    },
    /// An image file of the host.
    File {
        /// Absolute path.
        file: String,
    },
    /// Memory.
    Ram {
        /// Size limit in KiB.
        usage_kib: u64,
    },
    /// A template; libvirt never runs it.
    Template {
        /// Name.
        name: String,
    },
    /// A volume of a pool; libvirt never runs it here.
    Volume {
        /// Pool.
        pool: String,
        /// Volume.
        volume: String,
    },
}

impl FsSource {
    /// The value of `type`.
    pub fn kind(&self) -> FsKind {
        match self {
            Self::Mount { .. } => FsKind::Mount,
            Self::Bind { .. } => FsKind::Bind,
            Self::Block { .. } => FsKind::Block,
            Self::File { .. } => FsKind::File,
            Self::Ram { .. } => FsKind::Ram,
            Self::Template { .. } => FsKind::Template,
            Self::Volume { .. } => FsKind::Volume,
        }
    }
}

/// `<driver>` of a file system.
#[derive(Clone, Debug, PartialEq)]
pub struct FsDriver {
    /// `loop` or `nbd`, and what libvirt knows beyond that.
    pub kind: Option<String>,
    /// Format of the image.
    pub format: Option<String>,
    /// What is unknown inside.
    pub extra: Extra,
}

/// `<filesystem>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Filesystem {
    /// Where it comes from.
    pub source: FsSource,
    /// How access is mapped.
    pub accessmode: Accessmode,
    /// How an image is attached.
    pub driver: Option<FsDriver>,
    /// Absolute path inside, without `..`.
    pub target: String,
    /// Mounted read-only.
    pub readonly: bool,
    /// Hard limit of space in bytes.
    pub space_hard_limit: Option<u64>,
    /// Soft limit of space in bytes.
    pub space_soft_limit: Option<u64>,
    /// A name given by the user, which begins with `ua-`.
    pub alias: Option<String>,
    /// Where it stood.
    pub pos: Pos,
    /// What is unknown inside.
    pub extra: Extra,
}

impl Filesystem {
    /// Whether this is the root of the container.
    pub fn is_root(&self) -> bool {
        normal_path(&self.target) == "/"
    }
}

/// An absolute path without doubled and trailing slashes and `.` components.
pub(crate) fn normal_path(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    format!("/{}", parts.join("/"))
}

closed! {
    /// What a disk looks like.
    DiskDevice { Disk = "disk", Cdrom = "cdrom", Floppy = "floppy", Lun = "lun" }
}

/// Where a disk comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskSource {
    /// An image file.
    File(String),
    /// A block device.
    Block(String),
}

/// `<disk>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Disk {
    /// Where it comes from.
    pub source: DiskSource,
    /// What it looks like.
    pub device: DiskDevice,
    /// `name`, `type` and `cache` of the driver.
    pub driver: Option<DiskDriver>,
    /// Name of the device inside, without `/dev/`.
    pub target: String,
    /// Bus; without effect.
    pub bus: Option<String>,
    /// Read-only.
    pub readonly: bool,
    /// A name given by the user, which begins with `ua-`.
    pub alias: Option<String>,
    /// Where it stood.
    pub pos: Pos,
    /// What is unknown inside.
    pub extra: Extra,
}

/// `<driver>` of a disk.
#[derive(Clone, Debug, PartialEq)]
pub struct DiskDriver {
    /// `loop` or `nbd`.
    pub name: Option<String>,
    /// Format.
    pub format: Option<String>,
    /// Cache mode.
    pub cache: Option<String>,
    /// What is unknown inside.
    pub extra: Extra,
}

/// Address of a USB device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsbAddress {
    /// Bus.
    pub bus: u32,
    /// Device on that bus.
    pub device: u32,
}

/// Identity of a USB device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsbId {
    /// Vendor.
    pub vendor: u16,
    /// Product.
    pub product: u16,
}

closed! {
    /// The value of `type` of a host device in mode `capabilities`.
    HostCapability { Storage = "storage", Misc = "misc", Net = "net" }
}

/// Which host device.
#[derive(Clone, Debug, PartialEq)]
pub enum HostdevSource {
    /// A USB device, by one of the two or both.
    Usb {
        /// Identity.
        id: Option<UsbId>,
        /// Address.
        address: Option<UsbAddress>,
    },
    /// A block device.
    Storage {
        /// Absolute path.
        block: String,
    },
    /// A character device.
    Misc {
        /// Absolute path.
        char: String,
    },
    /// A network interface, moved into the container.
    Net {
        /// Its name on the host.
        interface: String,
        /// Its name inside, if not the same.
        guest: Option<String>,
        /// Addresses and routes.
        ip: IpConfig,
    },
}

/// `<hostdev>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Hostdev {
    /// Which device.
    pub source: HostdevSource,
    /// Whether libvirt detaches it from the host; only for USB.
    pub managed: bool,
    /// A name given by the user, which begins with `ua-`.
    pub alias: Option<String>,
    /// Where it stood.
    pub pos: Pos,
    /// What is unknown inside.
    pub extra: Extra,
}

closed! {
    /// What a console looks like inside; without effect.
    ConsoleTarget {
        Lxc = "lxc",
        Serial = "serial",
        Xen = "xen",
        Uml = "uml",
        Virtio = "virtio",
        Openvz = "openvz",
        Sclp = "sclp",
        Sclplm = "sclplm",
    }
}

/// `<console>`, always a PTY.
#[derive(Clone, Debug, PartialEq)]
pub struct Console {
    /// What it looks like inside.
    pub target: ConsoleTarget,
    /// A name given by the user, which begins with `ua-`.
    pub alias: Option<String>,
    /// Where it stood.
    pub pos: Pos,
    /// What is unknown inside.
    pub extra: Extra,
}
