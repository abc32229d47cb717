//! Devices of a domain as the plan has them: disks, host devices, images and interfaces of the host. Pure.
//!
//! Each function takes one device, so that it can also be asked for one that comes while the container runs.

use berth_domain::Domain;
use berth_domain::model::{
    Disk, DiskDevice, DiskSource, Filesystem, FsSource, Hostdev, HostdevSource, Interface, InterfaceSource,
    IpConfig, UsbAddress, UsbId, usual_prefix,
};
use berth_schemas::controller::{
    PlanAddress, PlanBacking, PlanDevice, PlanDeviceKind, PlanHostInterface, PlanImage, PlanRoute,
};

use crate::host::links::Link;
use crate::host::usb::UsbDevice;

/// Why a USB device cannot be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsbError {
    /// It is not plugged in.
    #[error("no USB device with vendor 0x{:04x} and product 0x{:04x} is plugged in", .0.vendor, .0.product)]
    None(UsbId),
    /// There are several.
    #[error(
        "several USB devices have vendor 0x{:04x} and product 0x{:04x}: name one with <address>: {addresses}",
        id.vendor, id.product
    )]
    Several {
        /// What was asked for.
        id: UsbId,
        /// Where they are.
        addresses: String,
    },
    /// Something else is there.
    #[error(
        "the USB device at bus {} device {} has not vendor 0x{:04x} and product 0x{:04x}",
        .1.bus, .1.device, .0.vendor, .0.product
    )]
    Other(UsbId, UsbAddress),
}

/// All devices of a domain, in the order of the document: disks, then host devices. `usb` is what is plugged in.
pub fn devices(domain: &Domain, usb: &[UsbDevice]) -> Result<Vec<PlanDevice>, UsbError> {
    let mut all: Vec<PlanDevice> = domain.devices.disks.iter().map(disk).collect();
    for hostdev in &domain.devices.hostdevs {
        all.extend(host_device(hostdev, usb)?);
    }
    Ok(all)
}

/// Whether a USB device has to be looked up.
pub fn needs_usb(domain: &Domain) -> bool {
    domain.devices.hostdevs.iter().any(|h| matches!(h.source, HostdevSource::Usb { .. }))
}

/// How an image becomes a device: what is raw by a loop device, all else by qemu-nbd, unless the document says.
fn backing(driver: Option<&str>, format: Option<&str>) -> PlanImage {
    let raw = format.is_none_or(|f| f == "raw");
    match driver {
        Some("nbd") => PlanImage { backing: PlanBacking::Nbd, format: format.map(str::to_owned) },
        Some("loop") => PlanImage { backing: PlanBacking::Loop, format: None },
        _ if raw => PlanImage { backing: PlanBacking::Loop, format: None },
        _ => PlanImage { backing: PlanBacking::Nbd, format: format.map(str::to_owned) },
    }
}

/// A disk.
pub fn disk(disk: &Disk) -> PlanDevice {
    let driver = disk.driver.as_ref();
    let image = match &disk.source {
        DiskSource::Block(_) => PlanImage { backing: PlanBacking::Block, format: None },
        DiskSource::File(_) => {
            backing(driver.and_then(|d| d.name.as_deref()), driver.and_then(|d| d.format.as_deref()))
        }
    };
    let (DiskSource::Block(source) | DiskSource::File(source)) = &disk.source;
    PlanDevice {
        name: disk.target.clone(),
        kind: PlanDeviceKind::Block,
        source: source.clone(),
        backing: image.backing,
        format: image.format,
        readonly: disk.readonly || disk.device == DiskDevice::Cdrom,
    }
}

/// A host device that has a file; `None` for an interface.
pub fn host_device(hostdev: &Hostdev, usb: &[UsbDevice]) -> Result<Option<PlanDevice>, UsbError> {
    let (kind, source) = match &hostdev.source {
        HostdevSource::Storage { block } => (PlanDeviceKind::Block, block.clone()),
        HostdevSource::Misc { char } => (PlanDeviceKind::Char, char.clone()),
        HostdevSource::Usb { id, address } => (PlanDeviceKind::Char, usb_path(*id, *address, usb)?),
        HostdevSource::Net { .. } => return Ok(None),
    };
    let name =
        berth_domain::name_in_dev(&source).unwrap_or_else(|| source.trim_start_matches('/').to_owned());
    Ok(Some(PlanDevice { name, kind, source, backing: PlanBacking::Block, format: None, readonly: false }))
}

/// Where the file of a USB device is.
fn usb_path(id: Option<UsbId>, address: Option<UsbAddress>, usb: &[UsbDevice]) -> Result<String, UsbError> {
    let path = |bus: u32, device: u32| format!("/dev/bus/usb/{bus:03}/{device:03}");
    let is = |id: UsbId| move |d: &&UsbDevice| (d.vendor, d.product) == (id.vendor, id.product);
    match (id, address) {
        (None, None) => Ok(path(0, 0)),
        (None, Some(at)) => Ok(path(at.bus, at.device)),
        (Some(id), Some(at)) => {
            let there = usb.iter().filter(is(id)).any(|d| (d.bus, d.device) == (at.bus, at.device));
            if there { Ok(path(at.bus, at.device)) } else { Err(UsbError::Other(id, at)) }
        }
        (Some(id), None) => match usb.iter().filter(is(id)).collect::<Vec<_>>()[..] {
            [] => Err(UsbError::None(id)),
            [one] => Ok(path(one.bus, one.device)),
            ref several => {
                let words: Vec<String> =
                    several.iter().map(|d| format!("bus {} device {}", d.bus, d.device)).collect();
                Err(UsbError::Several { id, addresses: words.join(", ") })
            }
        },
    }
}

/// Source and kind of a file system that is a device or an image; `None` for all others.
pub fn image(filesystem: &Filesystem) -> Option<(String, PlanImage)> {
    match &filesystem.source {
        FsSource::Block { dev } => {
            Some((dev.clone(), PlanImage { backing: PlanBacking::Block, format: None }))
        }
        FsSource::File { file } => {
            let driver = filesystem.driver.as_ref();
            let image =
                backing(driver.and_then(|d| d.kind.as_deref()), driver.and_then(|d| d.format.as_deref()));
            Some((file.clone(), image))
        }
        _ => None,
    }
}

/// All interfaces of the host that a domain gets.
pub fn host_interfaces(domain: &Domain) -> Vec<PlanHostInterface> {
    domain.devices.hostdevs.iter().filter_map(host_interface).collect()
}

/// An interface of the host; `None` for all other host devices.
pub fn host_interface(hostdev: &Hostdev) -> Option<PlanHostInterface> {
    match &hostdev.source {
        HostdevSource::Net { interface, guest, ip } => {
            let (addresses, routes) = (addresses(ip), routes(ip));
            let name = interface.clone();
            Some(PlanHostInterface {
                inside: guest.clone().filter(|guest| *guest != name),
                name,
                made: None,
                down: None,
                mac: None,
                addresses,
                routes,
            })
        }
        _ => None,
    }
}

/// The container's end of an interface that is made for it.
pub fn interface(interface: &Interface, link: &Link) -> PlanHostInterface {
    // The carrier of a pair is that of its host end; a macvlan has none but its own state. Which one a network gives is known
    // once the port is there.
    let whole = match interface.source {
        InterfaceSource::Direct { .. } => true,
        InterfaceSource::Network { .. } => link.bridge.is_none(),
        _ => false,
    };
    PlanHostInterface {
        name: link.peer(),
        inside: Some(link.inside.clone()),
        made: Some(true),
        down: (whole && interface.link_up == Some(false)).then_some(true),
        // Made with the address of the device, whatever else is asked for, but it can be changed.
        mac: link.passthrough.then(|| interface.mac.clone()),
        addresses: addresses(&interface.ip),
        routes: routes(&interface.ip),
    }
}

/// The same for all interfaces of a domain, in the order of the document.
pub fn interfaces(domain: &Domain, links: &[Link]) -> Vec<PlanHostInterface> {
    let with_link = |i: &Interface| links.iter().find(|l| l.mac == i.mac).map(|l| interface(i, l));
    domain.devices.interfaces.iter().filter_map(with_link).collect()
}

fn addresses(ip: &IpConfig) -> Vec<PlanAddress> {
    let address = |a: &berth_domain::model::IpAddress| PlanAddress {
        address: a.address.to_string(),
        prefix: a.prefix.unwrap_or_else(|| usual_prefix(a.address)).into(),
        peer: a.peer.map(|p| p.to_string()),
    };
    ip.addresses.iter().map(address).collect()
}

fn routes(ip: &IpConfig) -> Vec<PlanRoute> {
    let route = |r: &berth_domain::model::Route| PlanRoute {
        network: r.address.to_string(),
        prefix: r.prefix_length().into(),
        gateway: r.gateway.to_string(),
        metric: r.metric.map(Into::into),
    };
    ip.routes.iter().map(route).collect()
}

#[cfg(test)]
mod test {
    use berth_domain::model::bits;

    use super::*;

    fn plugged(device: u32, product: u16) -> UsbDevice {
        UsbDevice { bus: 1, device, vendor: 0x1d6b, product }
    }

    #[test]
    fn usb_devices_are_found_or_said_to_be_missing() {
        let usb = [plugged(1, 2), plugged(4, 2), plugged(5, 3)];
        let id = |product| Some(UsbId { vendor: 0x1d6b, product });
        let at = |device| Some(UsbAddress { bus: 1, device });
        assert_eq!(usb_path(id(3), None, &usb), Ok("/dev/bus/usb/001/005".into()));
        assert_eq!(usb_path(None, at(17), &usb), Ok("/dev/bus/usb/001/017".into()));
        assert_eq!(usb_path(id(2), at(4), &usb), Ok("/dev/bus/usb/001/004".into()));
        let error = |id, at| usb_path(id, at, &usb).expect_err("an error").to_string();
        assert_eq!(error(id(9), None), "no USB device with vendor 0x1d6b and product 0x0009 is plugged in");
        assert_eq!(
            error(id(2), None),
            "several USB devices have vendor 0x1d6b and product 0x0002: name one with <address>: bus 1 device 1, \
             bus 1 device 4"
        );
        assert_eq!(
            error(id(3), at(4)),
            "the USB device at bus 1 device 4 has not vendor 0x1d6b and product 0x0003"
        );
    }

    #[test]
    fn what_is_raw_is_a_loop_device() {
        let kind = |driver, format| {
            let image = backing(driver, format);
            (image.backing, image.format)
        };
        assert_eq!(kind(None, None), (PlanBacking::Loop, None));
        assert_eq!(kind(None, Some("raw")), (PlanBacking::Loop, None));
        assert_eq!(kind(None, Some("vmdk")), (PlanBacking::Nbd, Some("vmdk".into())));
        assert_eq!(kind(Some("nbd"), Some("raw")), (PlanBacking::Nbd, Some("raw".into())));
        assert_eq!(kind(Some("loop"), Some("raw")), (PlanBacking::Loop, None));
    }

    #[test]
    fn prefixes_that_nobody_wrote() {
        let of = |text: &str| usual_prefix(text.parse().expect("address"));
        assert_eq!([of("10.1.1.1"), of("172.16.0.1"), of("192.0.2.1"), of("0.0.0.0")], [8, 16, 24, 0]);
        assert_eq!([of("fd00::1"), of("::")], [64, 0]);
        assert_eq!(bits("255.255.254.0".parse().expect("mask")), 23);
    }

    #[test]
    fn a_route_to_a_host_is_one() {
        let of = |route: &str| {
            let host = berth_domain::Host { arch: "x86_64".into(), emulator: "/x".into() };
            let text = format!("<interface type='ethernet'><route {route}/></interface>");
            let parsed =
                berth_domain::parse_device(&text, &host).map_err(|e| e.diagnostics[0].message.clone());
            parsed.map(|p| match p.device {
                berth_domain::Device::Interface(interface, _) => routes(&interface.ip).remove(0).prefix,
                other => panic!("{other:?}"),
            })
        };
        // The first one is in libvirt's documentation.
        assert_eq!(of("family='ipv4' address='192.168.122.8' gateway='192.168.122.1'"), Ok(32));
        assert_eq!(of("address='192.168.122.0' gateway='192.168.122.1'"), Ok(24));
        assert_eq!(of("address='10.0.0.0' gateway='192.168.122.1'"), Ok(8));
        assert_eq!(of("address='10.1.0.0' gateway='192.168.122.1'"), Ok(32));
        assert_eq!(of("address='0.0.0.0' gateway='192.168.122.1'"), Ok(0));
        assert_eq!(of("address='fd00::' gateway='fd01::1'"), Ok(64));
        assert_eq!(of("address='fd00::8' gateway='fd01::1'"), Ok(128));
        assert_eq!(of("address='10.1.0.0' prefix='16' gateway='192.168.122.1'"), Ok(16));
        assert_eq!(of("address='10.1.0.0' netmask='255.255.128.0' gateway='192.168.122.1'"), Ok(17));
        for (route, message) in [
            (
                "address='10.1.0.0' netmask='255.0.0.0'",
                "'10.1.0.0' is not the address of a network with the prefix 8",
            ),
            ("address='10.0.0.0' netmask='255.0.255.0'", "'255.0.255.0' is not a netmask"),
            ("address='10.0.0.1' prefix='0'", "'10.0.0.1' is not the address of a network with the prefix 0"),
        ] {
            assert_eq!(of(&format!("{route} gateway='192.168.122.1'")), Err(message.to_owned()));
        }
    }
}
