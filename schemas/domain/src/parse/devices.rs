//! `<devices>`, apart from interfaces.
//!
//! Does not know the host's files and devices, nor whether two devices get into each other's way: see `validate`.

use super::{absolute, alias, interface};
use crate::model::{
    Accessmode, Closed, Console, ConsoleTarget, Devices, Disk, DiskDevice, DiskDriver, DiskSource, Extra,
    Filesystem, FsDriver, FsKind, FsSource, HostCapability, Hostdev, HostdevSource, MAX_CONSOLES, MAX_DISKS,
    MAX_FILESYSTEMS, MAX_HOSTDEVS, MAX_INTERFACES, UsbAddress, UsbId,
};
use crate::units::{bytes, kib};
use crate::walk::Walk;

pub(super) fn devices(domain: &mut Walk<'_>) -> Devices {
    let emulator = domain.cx.host.emulator.clone();
    let Some(mut w) = domain.one("devices") else {
        return Devices { emulator, pos: domain.pos(), ..Devices::default() };
    };
    // The host's controller stands there whatever the document says: it runs as root.
    w.leaf("emulator");
    Devices {
        emulator,
        disks: w.all("disk", MAX_DISKS).into_iter().filter_map(disk).collect(),
        filesystems: w.all("filesystem", MAX_FILESYSTEMS).into_iter().filter_map(filesystem).collect(),
        interfaces: w.all("interface", MAX_INTERFACES).into_iter().map(interface::interface).collect(),
        consoles: w.all("console", MAX_CONSOLES).into_iter().map(console).collect(),
        hostdevs: w.all("hostdev", MAX_HOSTDEVS).into_iter().filter_map(hostdev).collect(),
        pos: w.pos(),
        extra: w.finish(),
    }
}

pub(crate) fn filesystem(mut w: Walk<'_>) -> Option<Filesystem> {
    let kind = if w.el.value("type").is_some() { w.closed("type") } else { Some(FsKind::Mount) };
    let target = fs_target(&mut w);
    let source = kind.and_then(|kind| fs_source(&mut w, kind));
    let filesystem = Filesystem {
        accessmode: w.closed("accessmode").unwrap_or(Accessmode::Passthrough),
        driver: w.one("driver").and_then(|d| fs_driver(d, kind)),
        readonly: w.flag("readonly"),
        space_hard_limit: space_limit(&mut w, "space_hard_limit"),
        space_soft_limit: space_limit(&mut w, "space_soft_limit"),
        alias: alias(&mut w),
        pos: w.pos(),
        source: source.clone().unwrap_or(FsSource::Ram { usage_kib: 0 }),
        target: target.clone().unwrap_or_default(),
        extra: w.finish(),
    };
    (source.is_some() && target.is_some()).then_some(filesystem)
}

fn fs_target(w: &mut Walk<'_>) -> Option<String> {
    let Some(mut child) = w.one("target") else {
        w.error("the element 'target' is missing");
        return None;
    };
    let target = child.need("dir");
    if let Some(dir) = &target {
        absolute(&child, "dir", dir);
        if dir.split('/').any(|part| part == "..") {
            child.error_at("dir", format!("dir '{}' must not have '..' in it", dir.escape_debug()));
        }
    }
    let extra = child.finish();
    w.keep("target", 0, extra);
    target
}

fn fs_source(w: &mut Walk<'_>, kind: FsKind) -> Option<FsSource> {
    let Some(mut child) = w.one("source") else {
        w.error(format!("a file system of type '{kind}' needs a <source>"));
        return None;
    };
    let mut path = |name: &str| {
        let path = child.need(name)?;
        absolute(&child, name, &path);
        Some(path)
    };
    let source = match kind {
        FsKind::Mount => path("dir").map(|dir| FsSource::Mount { dir }),
        FsKind::Bind => path("dir").map(|dir| FsSource::Bind { dir }),
        FsKind::Block => path("dev").map(|dev| FsSource::Block { dev }),
        FsKind::File => path("file").map(|file| FsSource::File { file }),
        FsKind::Ram => ram_usage(&mut child).map(|usage_kib| FsSource::Ram { usage_kib }),
        FsKind::Template => child.need("name").map(|name| FsSource::Template { name }),
        FsKind::Volume => {
            let (pool, volume) = (child.need("pool"), child.need("volume"));
            pool.zip(volume).map(|(pool, volume)| FsSource::Volume { pool, volume })
        }
    };
    let extra = child.finish();
    w.keep("source", 0, extra);
    source
}

fn ram_usage(w: &mut Walk<'_>) -> Option<u64> {
    let usage = w.need("usage");
    let units = w.get("units").unwrap_or_else(|| "KiB".into());
    let found = kib(&usage?, &units);
    match found {
        Ok(0) => w.error_at("usage", "a file system in memory needs a size over 0"),
        Ok(size) => return Some(size),
        Err(message) => w.error_at("usage", message),
    }
    None
}

fn fs_driver(mut w: Walk<'_>, fs: Option<FsKind>) -> Option<FsDriver> {
    let kind = w.get("type");
    if let (Some(FsKind::File), Some(kind)) = (fs, &kind)
        && !["loop", "nbd"].contains(&kind.as_str())
    {
        w.error_at("type", format!("driver '{}' is not one of loop, nbd", kind.escape_debug()));
    }
    let format = w.get("format");
    if kind.as_deref() == Some("loop") && format.as_deref().is_some_and(|f| f != "raw") {
        w.error_at("format", "the driver 'loop' reads only format 'raw'");
    }
    let extra = w.finish();
    let said = kind.is_some() || format.is_some() || !extra.is_empty();
    said.then_some(FsDriver { kind, format, extra })
}

fn space_limit(w: &mut Walk<'_>, name: &str) -> Option<u64> {
    let mut child = w.one(name)?;
    let unit = child.get("unit").unwrap_or_else(|| "bytes".into());
    let found = bytes(&child.text(), &unit);
    if let Err(message) = &found {
        child.error(message.clone());
    }
    let extra = child.finish();
    w.keep(name, 0, extra);
    found.ok().filter(|n| *n > 0)
}

pub(crate) fn disk(mut w: Walk<'_>) -> Option<Disk> {
    let block = match w.get("type").as_deref() {
        Some("block") => true,
        None | Some("file") => false,
        Some(other) => {
            w.error_at("type", format!("type '{}' is not one of file, block", other.escape_debug()));
            return None;
        }
    };
    let device = w.closed("device").unwrap_or(DiskDevice::Disk);
    let driver = w.one("driver").and_then(disk_driver);
    let source = disk_source(&mut w, block)?;
    let Some(mut target) = w.one("target") else {
        w.error("the element 'target' is missing");
        return None;
    };
    let name = target.need("dev")?;
    if name.contains('/') || name.starts_with('.') {
        target
            .error_at("dev", format!("'{}' is not a name of a device without '/dev/'", name.escape_debug()));
    }
    let bus = target.get("bus").or_else(|| default_bus(&name).map(str::to_owned));
    let extra = target.finish();
    w.keep("target", 0, extra);
    let readonly = w.flag("readonly");
    Some(Disk {
        source,
        device,
        driver,
        target: name,
        bus,
        readonly,
        alias: alias(&mut w),
        pos: w.pos(),
        extra: w.finish(),
    })
}

fn disk_driver(mut w: Walk<'_>) -> Option<DiskDriver> {
    let (name, format, cache) = (w.get("name"), w.get("type"), w.get("cache"));
    let extra = w.finish();
    let said = [&name, &format, &cache].iter().any(|v| v.is_some()) || !extra.is_empty();
    said.then_some(DiskDriver { name, format, cache, extra })
}

fn disk_source(w: &mut Walk<'_>, block: bool) -> Option<DiskSource> {
    let Some(mut child) = w.one("source") else {
        w.error("the element 'source' is missing: a container has no empty drives");
        return None;
    };
    let attribute = if block { "dev" } else { "file" };
    let path = child.need(attribute);
    if let Some(path) = &path {
        absolute(&child, attribute, path);
    }
    let extra = child.finish();
    w.keep("source", 0, extra);
    path.map(if block { DiskSource::Block } else { DiskSource::File })
}

/// What libvirt takes a device's name to mean.
fn default_bus(name: &str) -> Option<&'static str> {
    [("fd", "fdc"), ("hd", "ide"), ("sd", "scsi"), ("vd", "virtio"), ("xvd", "xen"), ("ubd", "uml")]
        .into_iter()
        .find(|(prefix, _)| name.starts_with(prefix))
        .map(|(_, bus)| bus)
}

pub(crate) fn hostdev(mut w: Walk<'_>) -> Option<Hostdev> {
    let mode = w.get("mode").unwrap_or_else(|| "subsystem".into());
    let kind = w.need("type");
    let managed = w.yes_no("managed").unwrap_or(false);
    let Some(mut child) = w.one("source") else {
        w.error("the element 'source' is missing");
        return None;
    };
    let source = match (mode.as_str(), kind?.as_str()) {
        ("subsystem", "usb") => usb(&mut child),
        ("subsystem", other) => {
            w.error_at(
                "type",
                format!("type '{}' is not possible in mode 'subsystem', only 'usb' is", other.escape_debug()),
            );
            None
        }
        ("capabilities", other) => match HostCapability::find(other) {
            Some(capability) => host_capability(&mut w, &mut child, capability),
            None => {
                w.error_at(
                    "type",
                    format!("type '{}' is not one of {}", other.escape_debug(), HostCapability::names()),
                );
                None
            }
        },
        (other, _) => {
            w.error_at(
                "mode",
                format!("mode '{}' is not one of subsystem, capabilities", other.escape_debug()),
            );
            None
        }
    };
    let extra = child.finish();
    w.keep("source", 0, extra);
    let alias = alias(&mut w);
    let pos = w.pos();
    let extra = w.finish();
    Some(Hostdev { source: source?, managed, alias, pos, extra })
}

fn host_capability(w: &mut Walk<'_>, source: &mut Walk<'_>, kind: HostCapability) -> Option<HostdevSource> {
    let element = match kind {
        HostCapability::Storage => "block",
        HostCapability::Misc => "char",
        HostCapability::Net => "interface",
    };
    let Some(leaf) = source.leaf(element) else {
        source.error(format!("the element '{element}' is missing or empty"));
        return None;
    };
    if kind != HostCapability::Net {
        let parts = leaf.text.split('/').filter(|p| !p.is_empty()).count();
        if !leaf.text.starts_with('/') || parts < 2 || leaf.text.split('/').any(|p| p == "..") {
            let message = format!("'{}' is not an absolute path of a device", leaf.text.escape_debug());
            source.error_leaf(&leaf, message);
        } else if crate::name_in_dev(&leaf.text).is_none() {
            let path = leaf.text.escape_debug();
            let message =
                format!("'{path}' is not below '/dev', where the container has it at the same path");
            source.error_leaf(&leaf, message);
        }
    }
    Some(match kind {
        HostCapability::Storage => HostdevSource::Storage { block: leaf.text },
        HostCapability::Misc => HostdevSource::Misc { char: leaf.text },
        HostCapability::Net => HostdevSource::Net {
            interface: leaf.text,
            guest: interface::device_name(w, "guest"),
            ip: interface::ip_config(w),
        },
    })
}

fn usb(w: &mut Walk<'_>) -> Option<HostdevSource> {
    let vendor = hex_id(w, "vendor");
    let product = hex_id(w, "product");
    let address = w.one("address").and_then(|mut child| {
        child.need("bus");
        child.need("device");
        let address = child.number("bus").zip(child.number("device"));
        let extra = child.finish();
        w.keep("address", 0, extra);
        address.map(|(bus, device)| UsbAddress { bus, device })
    });
    if vendor.is_some() != product.is_some() {
        w.error("<vendor> and <product> must be given both or not at all");
    }
    let id = vendor.zip(product).map(|(vendor, product)| UsbId { vendor, product });
    if id.is_none() && address.is_none() {
        w.error("a USB device needs <vendor> and <product>, or an <address bus='...' device='...'/>");
        return None;
    }
    Some(HostdevSource::Usb { id, address })
}

fn hex_id(w: &mut Walk<'_>, element: &str) -> Option<u16> {
    let mut child = w.one(element)?;
    let text = child.need("id");
    let digits = text.as_deref().map(|t| t.strip_prefix("0x").unwrap_or(t));
    let found = digits
        .and_then(|d| u16::from_str_radix(d, 16).ok())
        .filter(|_| digits.is_some_and(|d| !d.starts_with('+')));
    if let (None, Some(text)) = (found, &text) {
        child.error_at("id", format!("id '{}' is not a number like 0x1d6b", text.escape_debug()));
    }
    let extra = child.finish();
    w.keep(element, 0, extra);
    found
}

fn console(mut w: Walk<'_>) -> Console {
    match w.get("type").as_deref() {
        Some("pty") => {}
        Some(other) => w.error_at("type", format!("type '{}' is not 'pty'", other.escape_debug())),
        None => w.error("the attribute 'type' is missing, it must be 'pty'"),
    }
    // The PTY that a running domain got.
    w.get("tty");
    if let Some(mut source) = w.one("source") {
        source.get("path");
        let extra = source.finish();
        w.keep("source", 0, extra);
    }
    let mut target = ConsoleTarget::Lxc;
    let mut extra = Extra::default();
    if let Some(mut child) = w.one("target") {
        target = child.closed("type").unwrap_or(ConsoleTarget::Lxc);
        // Its place counts, not what it says.
        child.get("port");
        extra = child.finish();
    }
    w.keep("target", 0, extra);
    Console { target, alias: alias(&mut w), pos: w.pos(), extra: w.finish() }
}
