//! One device alone: read from its element, found in a definition, added, taken away, replaced.
//!
//! What a device is, among those of a domain, its identity tells: the target of a disk or file system, the source of a
//! host device, the hardware address of an interface. Does not know whether a domain runs, nor the host's devices.

use std::fmt;

use crate::model::devices::normal_path;
use crate::model::{Disk, Domain, Filesystem, Hostdev, HostdevSource, Interface};
use crate::tree::parse_tree;
use crate::walk::{Context, Walk};
use crate::{Diagnostic, Host, ParseError, parse};

/// A device that can be added to a domain and taken away.
#[derive(Clone, Debug, PartialEq)]
pub enum Device {
    /// `<disk>`.
    Disk(Box<Disk>),
    /// `<filesystem>`.
    Filesystem(Box<Filesystem>),
    /// `<hostdev>`.
    Hostdev(Box<Hostdev>),
    /// `<interface>`, and whether its element says its hardware address.
    Interface(Box<Interface>, bool),
}

/// A device that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedDevice {
    /// What the element says.
    pub device: Device,
    /// What in it is unknown.
    pub warnings: Vec<Diagnostic>,
}

/// Why a definition was not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceError {
    /// There is one already.
    Exists(String),
    /// There is none, or it is not clear which one.
    Missing(String),
    /// With the change it would be no good definition.
    Invalid(Vec<Diagnostic>),
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists(message) | Self::Missing(message) => f.write_str(message),
            Self::Invalid(all) => match all.first() {
                Some(first) => f.write_str(&first.message),
                None => f.write_str("the changed definition was refused"),
            },
        }
    }
}

impl std::error::Error for DeviceError {}

/// Elements that libvirt takes as devices and that come and go with their domain here.
const OTHERS: &[&str] = &[
    "audio",
    "channel",
    "console",
    "controller",
    "crypto",
    "emulator",
    "graphics",
    "hub",
    "input",
    "iommu",
    "lease",
    "memballoon",
    "memory",
    "nvram",
    "panic",
    "parallel",
    "redirdev",
    "rng",
    "serial",
    "shmem",
    "smartcard",
    "sound",
    "tpm",
    "video",
    "vsock",
    "watchdog",
];

/// Reads the element of one device.
pub fn parse_device(xml: &str, host: &Host) -> Result<ParsedDevice, ParseError> {
    let root = parse_tree(xml).map_err(ParseError::one)?;
    let cx = Context::new(host);
    let walk = Walk::root(&root, &cx);
    let device = match root.name.as_str() {
        "disk" => parse::devices::disk(walk).map(|d| Device::Disk(Box::new(d))),
        "filesystem" => parse::devices::filesystem(walk).map(|f| Device::Filesystem(Box::new(f))),
        "hostdev" => parse::devices::hostdev(walk).map(|h| Device::Hostdev(Box::new(h))),
        "interface" => {
            let exact = parse::interface::has_mac(&root);
            Some(Device::Interface(Box::new(parse::interface::interface(walk)), exact))
        }
        other => {
            let mut problem = Diagnostic::new(root.pos, other, format!("'{other}' is not a device"));
            if OTHERS.contains(&other) {
                problem.message = "a device of this kind cannot be attached, detached or updated".into();
            }
            problem.hint = Some("those that can are <disk>, <filesystem>, <interface> and <hostdev>".into());
            cx.error(problem);
            None
        }
    };
    let (errors, warnings) = cx.finish();
    match device {
        Some(device) if errors.is_empty() => Ok(ParsedDevice { device, warnings }),
        _ => Err(ParseError { diagnostics: errors }),
    }
}

fn same_source(a: &HostdevSource, b: &HostdevSource) -> bool {
    match (a, b) {
        (HostdevSource::Usb { id, address }, HostdevSource::Usb { id: other_id, address: other_address }) => {
            // By its address where both have one, as several may be of one kind.
            match (address, other_address) {
                (Some(a), Some(b)) => a == b,
                _ => id.is_some() && id == other_id,
            }
        }
        (HostdevSource::Storage { block: a }, HostdevSource::Storage { block: b })
        | (HostdevSource::Misc { char: a }, HostdevSource::Misc { char: b }) => {
            normal_path(a) == normal_path(b)
        }
        (HostdevSource::Net { interface: a, .. }, HostdevSource::Net { interface: b, .. }) => a == b,
        _ => false,
    }
}

impl Device {
    /// Whether this is the file system that a container has as its root.
    pub fn is_root(&self) -> bool {
        matches!(self, Self::Filesystem(f) if f.is_root())
    }

    /// Its place among those of its kind, if there is just one that can be meant.
    fn index_in(&self, domain: &Domain) -> Result<Option<usize>, DeviceError> {
        let devices = &domain.devices;
        Ok(match self {
            Self::Disk(disk) => devices.disks.iter().position(|d| d.target == disk.target),
            Self::Filesystem(fs) => {
                let target = normal_path(&fs.target);
                devices.filesystems.iter().position(|f| normal_path(&f.target) == target)
            }
            Self::Hostdev(dev) => devices.hostdevs.iter().position(|h| same_source(&h.source, &dev.source)),
            Self::Interface(wanted, true) => devices.interfaces.iter().position(|i| i.mac == wanted.mac),
            Self::Interface(wanted, false) => {
                let is = |i: &Interface| {
                    i.source == wanted.source
                        && (wanted.target.is_none() || i.target == wanted.target)
                        && (wanted.guest.is_none() || i.guest == wanted.guest)
                };
                let mut found = devices.interfaces.iter().enumerate().filter(|(_, i)| is(i)).map(|(n, _)| n);
                let first = found.next();
                if found.next().is_some() {
                    let message = "multiple matching network devices found: name one by its <mac>";
                    return Err(DeviceError::Missing(message.into()));
                }
                first
            }
        })
    }

    /// Whether another device of the definition is in its way.
    fn is_taken_in(&self, domain: &Domain) -> Result<bool, DeviceError> {
        match self {
            // Its address was made up.
            Self::Interface(_, false) => Ok(false),
            _ => self.index_in(domain).map(|index| index.is_some()),
        }
    }

    fn exists(&self) -> DeviceError {
        DeviceError::Exists(match self {
            Self::Disk(disk) => format!("target {} already exists", disk.target),
            Self::Filesystem(fs) => format!("target {} already exists", normal_path(&fs.target)),
            Self::Hostdev(_) => "device is already in the domain configuration".into(),
            Self::Interface(i, _) => format!("network device with mac {} already exists", i.mac),
        })
    }

    fn missing(&self) -> DeviceError {
        DeviceError::Missing(match self {
            Self::Disk(disk) => format!("no target device {}", disk.target),
            Self::Filesystem(fs) => format!("no filesystem with target {}", normal_path(&fs.target)),
            Self::Hostdev(_) => "device not present in domain configuration".into(),
            Self::Interface(i, true) => format!("no device matching MAC address {} found", i.mac),
            Self::Interface(_, false) => "matching network device was not found".into(),
        })
    }
}

impl Domain {
    /// The device of this definition with the same identity.
    pub fn device(&self, like: &Device) -> Option<Device> {
        let index = like.index_in(self).ok().flatten()?;
        let devices = &self.devices;
        match like {
            Device::Disk(_) => devices.disks.get(index).map(|d| Device::Disk(Box::new(d.clone()))),
            Device::Filesystem(_) => {
                devices.filesystems.get(index).map(|f| Device::Filesystem(Box::new(f.clone())))
            }
            Device::Hostdev(_) => devices.hostdevs.get(index).map(|h| Device::Hostdev(Box::new(h.clone()))),
            Device::Interface(..) => {
                devices.interfaces.get(index).map(|i| Device::Interface(Box::new(i.clone()), true))
            }
        }
    }

    /// This definition with one device more.
    pub fn with_device(&self, device: &Device) -> Result<Self, DeviceError> {
        if device.is_taken_in(self)? {
            return Err(device.exists());
        }
        let mut changed = self.clone();
        match device {
            Device::Disk(disk) => changed.devices.disks.push((**disk).clone()),
            Device::Filesystem(fs) => changed.devices.filesystems.push((**fs).clone()),
            Device::Hostdev(dev) => changed.devices.hostdevs.push((**dev).clone()),
            Device::Interface(interface, _) => changed.devices.interfaces.push((**interface).clone()),
        }
        changed.checked()
    }

    /// This definition without the device that has the identity of `like`.
    pub fn without_device(&self, like: &Device) -> Result<Self, DeviceError> {
        let index = like.index_in(self)?.ok_or_else(|| like.missing())?;
        let mut changed = self.clone();
        match like {
            Device::Disk(_) => drop(changed.devices.disks.remove(index)),
            Device::Filesystem(_) => drop(changed.devices.filesystems.remove(index)),
            Device::Hostdev(_) => drop(changed.devices.hostdevs.remove(index)),
            Device::Interface(..) => drop(changed.devices.interfaces.remove(index)),
        }
        changed.checked()
    }

    /// This definition with `device` in the place of the one with the same identity.
    pub fn with_device_replaced(&self, device: &Device) -> Result<Self, DeviceError> {
        let index = device.index_in(self)?.ok_or_else(|| device.missing())?;
        let mut changed = self.clone();
        let devices = &mut changed.devices;
        match device {
            Device::Disk(disk) => devices.disks[index] = (**disk).clone(),
            Device::Filesystem(fs) => devices.filesystems[index] = (**fs).clone(),
            Device::Hostdev(dev) => devices.hostdevs[index] = (**dev).clone(),
            Device::Interface(interface, _) => {
                let before = &mut devices.interfaces[index];
                // What the new element does not say of who it is stays.
                let (mac, target) = (before.mac.clone(), before.target.clone());
                *before =
                    Interface { mac, target: interface.target.clone().or(target), ..(**interface).clone() };
            }
        }
        changed.checked()
    }

    /// What would be found wrong when it is read again: too many of a kind, what does not fit, a text that is too long.
    fn checked(self) -> Result<Self, DeviceError> {
        use crate::model::{MAX_DISKS, MAX_FILESYSTEMS, MAX_HOSTDEVS, MAX_INTERFACES};
        let d = &self.devices;
        let kinds = [
            ("disk", d.disks.len(), MAX_DISKS),
            ("filesystem", d.filesystems.len(), MAX_FILESYSTEMS),
            ("hostdev", d.hostdevs.len(), MAX_HOSTDEVS),
            ("interface", d.interfaces.len(), MAX_INTERFACES),
        ];
        let mut problems: Vec<Diagnostic> = kinds
            .into_iter()
            .filter(|(_, count, most)| count > most)
            .map(|(kind, _, most)| {
                Diagnostic::new(
                    d.pos,
                    format!("domain/devices/{kind}"),
                    format!("there are more than {most}"),
                )
            })
            .collect();
        problems.extend(self.validate());
        problems.extend(self.check_output().err().map(|e| e.diagnostics).unwrap_or_default());
        if problems.is_empty() { Ok(self) } else { Err(DeviceError::Invalid(problems)) }
    }
}

impl Domain {
    /// Gives interfaces whose hardware addresses were made up (their indexes are given) those that the definition before
    /// has for the same interfaces: at the same place if that has the same source, else any with it that is left.
    pub fn keep_macs(&mut self, made_up: &[usize], before: &Self) {
        let old = &before.devices.interfaces;
        for &index in made_up {
            let all = &self.devices.interfaces;
            let Some(this) = all.get(index) else { continue };
            let is_free = |mac: &str| !all.iter().any(|i| i.mac == mac);
            let fits = |i: &&Interface| i.source == this.source && is_free(&i.mac);
            let found = old.get(index).filter(fits).or_else(|| old.iter().find(fits));
            if let Some(mac) = found.map(|i| i.mac.clone()) {
                self.devices.interfaces[index].mac = mac;
            }
        }
    }
}
