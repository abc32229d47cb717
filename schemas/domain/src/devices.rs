//! Whether the devices of a domain get into each other's way, or into that of the devices that every container has.
//!
//! Does not know whether any device is there.

use crate::Diagnostic;
use crate::model::devices::normal_path;
use crate::model::{Disk, DiskSource, Domain, FsSource, Hostdev, HostdevSource, NamespaceKind};
use crate::tree::Pos;

/// What every container has in /dev; the consoles, and what is below the folders, come on top.
const STANDARD: &[&str] = &[
    "null", "zero", "full", "random", "urandom", "tty", "ptmx", "console", "pts", "shm", "mqueue", "fd",
    "stdin", "stdout", "stderr", "core",
];

/// The name below `/dev` of a device at a path, if it is there.
pub fn name_in_dev(path: &str) -> Option<String> {
    let path = normal_path(path);
    path.strip_prefix("/dev/").filter(|name| !name.is_empty()).map(str::to_owned)
}

/// Where it stood, its element, and its name below /dev.
type Named = (Pos, &'static str, String);

fn named_disk(disk: &Disk) -> Named {
    (disk.pos, "domain/devices/disk", disk.target.clone())
}

impl Domain {
    pub(crate) fn check_devices(&self, problems: &mut Vec<Diagnostic>) {
        let mut names: Vec<Named> = self.devices.disks.iter().map(named_disk).collect();
        let mut lent: Vec<&str> = Vec::new();
        for hostdev in &self.devices.hostdevs {
            let element = "domain/devices/hostdev";
            let path = match &hostdev.source {
                HostdevSource::Storage { block } => block.clone(),
                HostdevSource::Misc { char } => char.clone(),
                HostdevSource::Usb { address: Some(at), .. } => {
                    format!("/dev/bus/usb/{:03}/{:03}", at.bus, at.device)
                }
                HostdevSource::Usb { .. } => continue,
                HostdevSource::Net { interface, .. } => {
                    self.check_network(hostdev.pos, problems);
                    if lent.contains(&interface.as_str()) {
                        let message = format!("another one has the interface '{}'", interface.escape_debug());
                        problems.push(Diagnostic::new(hostdev.pos, element, message));
                    }
                    lent.push(interface);
                    if let Some(name) = self.guest_name_of_another(hostdev) {
                        let message = format!("another one already has the guest name '{name}'");
                        problems.push(Diagnostic::new(hostdev.pos, element, message));
                    }
                    continue;
                }
            };
            names.extend(name_in_dev(&path).map(|name| (hostdev.pos, element, name)));
        }
        for (index, (pos, element, name)) in names.iter().enumerate() {
            if let Some(message) = self.clash(&names[..index], element, name) {
                problems.push(Diagnostic::new(*pos, *element, message));
            }
        }
    }

    /// The name that a lent interface is to have inside, if another one is called so there.
    fn guest_name_of_another<'a>(&self, hostdev: &'a Hostdev) -> Option<&'a str> {
        let HostdevSource::Net { guest: Some(name), .. } = &hostdev.source else { return None };
        let is_called = |other: &Hostdev| match &other.source {
            HostdevSource::Net { interface, guest, .. } => guest.as_ref().unwrap_or(interface) == name,
            _ => false,
        };
        let mut others = self.devices.hostdevs.iter().filter(|h| !std::ptr::eq(*h, hostdev));
        let made = self.devices.interfaces.iter().any(|i| i.guest.as_ref() == Some(name));
        (made || others.any(is_called)).then_some(name)
    }

    /// What a device's name gets in the way of.
    fn clash(&self, before: &[Named], element: &str, name: &str) -> Option<String> {
        let first = name.split('/').next().unwrap_or(name);
        let is_console = |n: usize| name == format!("tty{}", n + 1);
        if STANDARD.contains(&first) || (0..self.devices.consoles.len()).any(is_console) {
            return Some(format!("'/dev/{}' is one of the container's own devices", name.escape_debug()));
        }
        let below = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'));
        for (_, other_element, other) in before {
            // Disks among each other are compared by their targets.
            let both_disks = *other_element == element && element.ends_with("disk");
            if (other == name && !both_disks) || below(name, other) || below(other, name) {
                return Some(format!(
                    "'/dev/{}' and '/dev/{}' cannot be devices at the same time",
                    other.escape_debug(),
                    name.escape_debug()
                ));
            }
        }
        None
    }

    fn check_network(&self, pos: Pos, problems: &mut Vec<Diagnostic>) {
        let shares = self.namespace.iter().flat_map(|n| &n.shares);
        if shares.clone().any(|s| s.kind == NamespaceKind::Net) {
            let message = "a shared network excludes interfaces of the host";
            problems.push(Diagnostic::new(pos, "domain/devices/hostdev", message));
        }
    }
}

impl Domain {
    /// Drivers of images that no container has, and images whose format nobody may guess: who can write to one could
    /// make it look like another that names a file of the host.
    pub(crate) fn check_drivers(&self, problems: &mut Vec<Diagnostic>) {
        for disk in &self.devices.disks {
            let (DiskSource::File(_), Some(driver)) = (&disk.source, &disk.driver) else { continue };
            let say = |message: String| Diagnostic::new(disk.pos, "domain/devices/disk", message);
            let (name, format) = (driver.name.as_deref(), driver.format.as_deref());
            match (name, format) {
                (Some("nbd"), None) => {
                    problems.push(no_format(say("the driver 'nbd' needs a format".into())))
                }
                (Some("loop"), Some(format)) if format != "raw" => {
                    problems.push(say("the driver 'loop' reads only format 'raw'".into()));
                }
                (None | Some("loop" | "nbd"), _) => {}
                (Some(other), _) => {
                    let message =
                        format!("the disk driver '{}' is not one of loop, nbd", other.escape_debug());
                    problems.push(say(message));
                }
            }
            if let Some(mode) = driver.cache.as_deref().filter(|mode| !["default", "none"].contains(mode)) {
                problems.push(say(format!("the cache mode '{}' is not supported", mode.escape_debug())));
            }
        }
        for filesystem in &self.devices.filesystems {
            let (FsSource::File { .. }, Some(driver)) = (&filesystem.source, &filesystem.driver) else {
                continue;
            };
            if driver.kind.as_deref() == Some("nbd") && driver.format.is_none() {
                let element = "domain/devices/filesystem";
                let problem = Diagnostic::new(filesystem.pos, element, "the driver 'nbd' needs a format");
                problems.push(no_format(problem));
            }
        }
    }
}

fn no_format(mut problem: Diagnostic) -> Diagnostic {
    problem.hint = Some("say which: 'qcow2', 'vmdk', 'raw' and so on".into());
    problem
}
