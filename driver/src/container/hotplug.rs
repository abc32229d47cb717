//! Changes of one device: what they make of a definition, and what the controller is asked for.
//!
//! Pure. Does not know whether the domain runs, nor where definitions are kept.

use berth_domain::model::{Bandwidth, HostdevSource, Interface, IpConfig};
use berth_domain::{Device, DeviceError, Domain};
use berth_schemas::controller::{
    AttachDeviceIn, DetachDeviceIn, ListDevicesOut, PlanDevice, PlanFilesystem, PlanHostInterface,
};
use berth_schemas::domain::Affect;
use serde::{Deserialize, Serialize};

use crate::container::{plan, plan_devices};
use crate::failure::Failure;
use crate::host::links::Link;
use crate::host::links::spec::obstacle;
use crate::host::usb::UsbDevice;

/// What is done with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// It comes.
    Attach,
    /// It goes.
    Detach,
    /// It takes the place of the one with its identity.
    Update,
}

/// A change of one device.
#[derive(Debug, Clone)]
pub struct DeviceChange {
    /// What is done.
    pub act: Act,
    /// With what.
    pub device: Device,
    /// In which definitions.
    pub affect: Vec<Affect>,
}

/// A device as a controller knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Item {
    /// A file system.
    Filesystem(PlanFilesystem),
    /// A device file.
    Device(PlanDevice),
    /// An interface of the host.
    HostInterface(PlanHostInterface),
    /// An interface that is made: the container's end, and what it has on the host.
    Interface(PlanHostInterface, Link),
}

/// What a controller is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// It comes.
    Attach(Item),
    /// It goes.
    Detach(Item),
    /// It takes the place of the one with its identity.
    Replace(Item),
}

impl Item {
    /// A device of a definition.
    /// `links` are what interfaces have on the host.
    pub fn of(device: &Device, usb: &[UsbDevice], links: &[Link]) -> Result<Self, Failure> {
        match device {
            Device::Filesystem(fs) => {
                plan::filesystem(fs).map(Self::Filesystem).map_err(|e| Failure::Failed(e.to_string()))
            }
            Device::Disk(disk) => Ok(Self::Device(plan_devices::disk(disk))),
            Device::Hostdev(dev) => match plan_devices::host_interface(dev) {
                Some(interface) => Ok(Self::HostInterface(interface)),
                None => match plan_devices::host_device(dev, usb) {
                    Ok(Some(device)) => Ok(Self::Device(device)),
                    Ok(None) => Err(Failure::Failed("an interface of the host has no file".into())),
                    Err(e) => Err(Failure::Failed(e.to_string())),
                },
            },
            Device::Interface(interface, _) => match links.iter().find(|l| l.mac == interface.mac) {
                Some(link) => Ok(Self::Interface(plan_devices::interface(interface, link), link.clone())),
                None => Err(Failure::NoSuchDevice(format!("the interface '{}' is not there", interface.mac))),
            },
        }
    }

    /// What it has on the host, if it is an interface that is made.
    pub fn link(&self) -> Option<&Link> {
        match self {
            Self::Interface(_, link) => Some(link),
            _ => None,
        }
    }
}

impl Step {
    /// What it is about.
    pub fn item(&self) -> &Item {
        match self {
            Self::Attach(item) | Self::Detach(item) | Self::Replace(item) => item,
        }
    }

    /// The call that it is: the parameters of `AttachDevice`, or those of `DetachDevice`.
    pub fn call(&self) -> Result<AttachDeviceIn, DetachDeviceIn> {
        let (item, replace) = match self {
            Self::Attach(item) => (item, None),
            Self::Replace(item) => (item, Some(true)),
            Self::Detach(item) => {
                let mut ask = DetachDeviceIn::default();
                match item {
                    Item::Filesystem(f) => ask.filesystem = Some(f.target.clone()),
                    Item::Device(d) => ask.device = Some(d.name.clone()),
                    Item::HostInterface(i) => ask.host_interface = Some(i.name.clone()),
                    Item::Interface(i, _) => {
                        ask.host_interface = Some(i.name.clone());
                        ask.if_there = Some(true);
                    }
                }
                return Err(ask);
            }
        };
        let mut ask = AttachDeviceIn { replace, ..AttachDeviceIn::default() };
        match item.clone() {
            Item::Filesystem(f) => ask.filesystem = Some(f),
            Item::Device(d) => ask.device = Some(d),
            Item::HostInterface(i) | Item::Interface(i, _) => ask.host_interface = Some(i),
        }
        Ok(ask)
    }

    /// Whether it has been done, as far as what a container has now tells.
    pub fn is_done(&self, now: &ListDevicesOut) -> bool {
        match self {
            Self::Attach(item) | Self::Replace(item) => match item {
                Item::Filesystem(f) => now.filesystems.contains(f),
                Item::Device(d) => now.devices.contains(d),
                Item::HostInterface(i) | Item::Interface(i, _) => now.host_interfaces.contains(i),
            },
            Self::Detach(item) => match item {
                Item::Filesystem(f) => !now.filesystems.iter().any(|other| other.target == f.target),
                Item::Device(d) => !now.devices.iter().any(|other| other.name == d.name),
                Item::HostInterface(i) | Item::Interface(i, _) => {
                    !now.host_interfaces.iter().any(|other| other.name == i.name)
                }
            },
        }
    }
}

/// A USB device that may have been pulled out: its address is enough to take its file away.
fn unplugged(mut device: Device) -> Device {
    if let Device::Hostdev(dev) = &mut device
        && let HostdevSource::Usb { id, address: Some(_) } = &mut dev.source
    {
        *id = None;
    }
    device
}

/// What a new element does not say stays as it is inside, where it cannot be changed.
fn keep_unsaid(before: &Interface, after: &mut Interface) {
    after.guest = after.guest.take().or_else(|| before.guest.clone());
    after.mtu = after.mtu.or(before.mtu);
    if after.ip == IpConfig::default() {
        after.ip.clone_from(&before.ip);
    }
}

/// Whether the running and whether the kept definition are meant.
pub fn targets(affect: &[Affect], active: bool) -> (bool, bool) {
    let current = affect.is_empty() || affect.contains(&Affect::Current);
    let live = affect.contains(&Affect::Live) || (current && active);
    let next = affect.contains(&Affect::Config) || (current && !active);
    (live, next)
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        match error {
            DeviceError::Exists(message) => Self::DeviceExists(message),
            DeviceError::Missing(message) => Self::NoSuchDevice(message),
            DeviceError::Invalid(all) => Self::InvalidDocument(all),
        }
    }
}

impl DeviceChange {
    /// Takes out of an update of an interface what it can only have from the document of what runs: the limits that the
    /// network gives. Otherwise they would be the interface's own from then on.
    pub fn forget_given(&mut self, live: &Domain, links: &[Link]) {
        let (Act::Update, before) = (self.act, live.device(&self.device)) else { return };
        let (Device::Interface(new, _), Some(Device::Interface(before, _))) = (&mut self.device, before)
        else {
            return;
        };
        let given = links.iter().find(|l| l.mac == before.mac).and_then(|l| l.given.as_ref());
        let (Some(given), true) = (given, new.source == before.source) else { return };
        let own = before.bandwidth.unwrap_or_default();
        if let Some(limits) = &mut new.bandwidth {
            for (new, own, given) in [
                (&mut limits.inbound, own.inbound, given.inbound()),
                (&mut limits.outbound, own.outbound, given.outbound()),
            ] {
                if own.is_none() && *new == given {
                    *new = None;
                }
            }
        }
        new.bandwidth = new.bandwidth.take().filter(|limits| *limits != Bandwidth::default());
    }

    /// The definition with the change.
    pub fn apply(&self, domain: &Domain) -> Result<Domain, Failure> {
        Ok(match self.act {
            Act::Attach => domain.with_device(&self.device),
            Act::Detach => domain.without_device(&self.device),
            Act::Update => domain.with_device_replaced(&self.device),
        }?)
    }

    /// The same for what runs, which must be able to run then.
    pub fn apply_live(&self, live: &Domain) -> Result<Domain, Failure> {
        if self.device.is_root() && live.device(&self.device).is_some() && self.act != Act::Attach {
            return Err(Failure::Failed("the root of a running container cannot be changed".into()));
        }
        let mut changed = self.apply(live)?;
        if let (Act::Update, Some(Device::Interface(before, _))) = (self.act, live.device(&self.device))
            && let Some(after) = changed.devices.interfaces.iter_mut().find(|i| i.mac == before.mac)
            && let Some(what) = {
                keep_unsaid(&before, after);
                obstacle(&before, after)
            }
        {
            return Err(Failure::Unsupported {
                message: format!("cannot change {what} of a running interface: detach it and attach it anew"),
                diagnostics: Vec::new(),
            });
        }
        let before = live.start_problems();
        let mut problems = changed.start_problems();
        problems.retain(|p| !before.iter().any(|b| b.message == p.message && b.element == p.element));
        match problems.first() {
            Some(first) => {
                Err(Failure::Unsupported { message: first.message.clone(), diagnostics: Vec::new() })
            }
            None => Ok(changed),
        }
    }

    /// The interface that this is about, as it is in the changed definition.
    fn interface_in<'a>(&self, live: &Domain, changed: &'a Domain) -> Option<&'a Interface> {
        let mac = match live.device(&self.device)? {
            Device::Interface(interface, _) => interface.mac,
            _ => return None,
        };
        changed.devices.interfaces.iter().find(|i| i.mac == mac)
    }

    /// What the controller of `live`, which becomes `changed`, is asked for, and what takes that back.
    /// `usb` is what is plugged in, `links` what interfaces have on the host, that of a new one included.
    pub fn steps(
        &self,
        live: &Domain,
        changed: &Domain,
        usb: &[UsbDevice],
        links: &[Link],
    ) -> Result<(Step, Step), Failure> {
        let before = || match live.device(&self.device) {
            Some(device) => Item::of(&device, usb, links)
                .or_else(|e| Item::of(&unplugged(device), usb, links).map_err(|_| e)),
            None => Err(Failure::NoSuchDevice("the device is not there".into())),
        };
        Ok(match self.act {
            Act::Attach => {
                let item = Item::of(&self.device, usb, links)?;
                (Step::Attach(item.clone()), Step::Detach(item))
            }
            Act::Detach => {
                let item = before()?;
                (Step::Detach(item.clone()), Step::Attach(item))
            }
            Act::Update => {
                let after = match self.interface_in(live, changed) {
                    Some(interface) => Device::Interface(Box::new(interface.clone()), true),
                    None => self.device.clone(),
                };
                (Step::Replace(Item::of(&after, usb, links)?), Step::Replace(before()?))
            }
        })
    }
}

#[cfg(test)]
mod test {
    use super::*;

    const ROOT: &str = "<filesystem type='mount'><source dir='/r'/><target dir='/'/></filesystem>";

    fn domain(devices: &str) -> Domain {
        let host = berth_domain::Host { arch: "x86_64".into(), emulator: "/e".into() };
        let xml = format!(
            "<domain type='lxc'><name>x</name><uuid>8369f1ac-7e46-e869-4ca5-759d51478066</uuid><memory>1024</memory>\
             <os><type>exe</type><init>/i</init></os><devices>{ROOT}{devices}</devices></domain>"
        );
        berth_domain::parse(&xml, &host).expect("a good document").domain
    }

    fn change(act: Act, xml: &str) -> DeviceChange {
        let host = berth_domain::Host { arch: "x86_64".into(), emulator: "/e".into() };
        let device = berth_domain::parse_device(xml, &host).expect("a good device").device;
        DeviceChange { act, device, affect: Vec::new() }
    }

    fn data(source: &str) -> String {
        format!("<filesystem type='mount'><source dir='{source}'/><target dir='/data'/></filesystem>")
    }

    #[test]
    fn each_step_has_its_opposite() {
        let (without, with) = (domain(""), domain(&data("/a")));
        let (forth, back) =
            change(Act::Attach, &data("/a")).steps(&without, &without, &[], &[]).expect("steps");
        let (off, on) = change(Act::Detach, &data("/other")).steps(&with, &with, &[], &[]).expect("steps");
        // Detached is what is there, whatever else the caller's element says.
        assert_eq!((&forth, &back), (&on, &off));
        let (there, again) = change(Act::Update, &data("/b")).steps(&with, &with, &[], &[]).expect("steps");
        assert!(matches!(&there, Step::Replace(Item::Filesystem(f)) if f.source.as_deref() == Some("/b")));
        assert!(matches!(&again, Step::Replace(Item::Filesystem(f)) if f.source.as_deref() == Some("/a")));
        assert!(change(Act::Update, &data("/b")).steps(&without, &without, &[], &[]).is_err());
    }

    #[test]
    fn what_a_container_has_tells_what_was_done() {
        let (forth, back) =
            change(Act::Attach, &data("/a")).steps(&domain(""), &domain(""), &[], &[]).expect("steps");
        let empty =
            ListDevicesOut { filesystems: Vec::new(), devices: Vec::new(), host_interfaces: Vec::new() };
        let Step::Attach(Item::Filesystem(f)) = &forth else { panic!("{forth:?}") };
        let there = ListDevicesOut { filesystems: vec![f.clone()], ..empty.clone() };
        assert!(forth.is_done(&there) && !forth.is_done(&empty));
        assert!(back.is_done(&empty) && !back.is_done(&there));
        let (update, _) = change(Act::Update, &data("/b"))
            .steps(&domain(&data("/a")), &domain(""), &[], &[])
            .expect("steps");
        assert!(!update.is_done(&there));
    }

    #[test]
    fn the_root_and_what_cannot_run_are_refused_live() {
        let live = domain("");
        let text = |c: DeviceChange| c.apply_live(&live).expect_err("refused").to_string();
        assert_eq!(text(change(Act::Detach, ROOT)), "the root of a running container cannot be changed");
        assert_eq!(text(change(Act::Update, ROOT)), "the root of a running container cannot be changed");
        assert_eq!(text(change(Act::Attach, ROOT)), "target / already exists");
        let template = "<filesystem type='template'><source name='t'/><target dir='/t'/></filesystem>";
        assert!(text(change(Act::Attach, template)).contains("cannot be started yet"));
        assert!(change(Act::Attach, template).apply(&live).is_ok());
    }

    #[test]
    fn what_an_interface_has_inside_stays_unless_it_is_said() {
        let nic = |inner: &str| {
            format!(
                "<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='b'/>{inner}</interface>"
            )
        };
        let inside = "<guest dev='lan'/><mtu size='1400'/><ip address='192.0.2.2' prefix='24'/>";
        let live = domain(&nic(inside));
        let down = change(Act::Update, &nic("<link state='down'/>")).apply_live(&live).expect("a change");
        let (before, after) = (&live.devices.interfaces[0], &down.devices.interfaces[0]);
        assert_eq!((after.link_up, before.link_up), (Some(false), None));
        assert_eq!((&after.guest, after.mtu, &after.ip), (&before.guest, before.mtu, &before.ip));
        for (other, what) in [
            ("<guest dev='wan'/>", "the guest name"),
            ("<mtu size='1300'/>", "the mtu"),
            ("<ip address='192.0.2.3' prefix='24'/>", "addresses and routes"),
        ] {
            let error = change(Act::Update, &nic(other)).apply_live(&live).expect_err(other).to_string();
            assert!(error.contains(&format!("cannot change {what} of a running interface")), "{error}");
        }
    }

    #[test]
    fn definitions_that_are_meant() {
        assert_eq!(targets(&[], true), (true, false));
        assert_eq!(targets(&[], false), (false, true));
        assert_eq!(targets(&[Affect::Current], true), (true, false));
        assert_eq!(targets(&[Affect::Live, Affect::Config], false), (true, true));
        assert_eq!(targets(&[Affect::Config], true), (false, true));
    }
}
