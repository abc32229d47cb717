//! USB devices of the host, as sysfs lists them.
//!
//! Does not know which domain wants which.

use std::fs;
use std::io;
use std::path::Path;

/// A USB device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsbDevice {
    /// Number of its bus.
    pub bus: u32,
    /// Its number on that.
    pub device: u32,
    /// Vendor.
    pub vendor: u16,
    /// Product.
    pub product: u16,
}

/// All of them, by address. `sysfs` is where that is mounted; a host without USB has none.
pub fn list(sysfs: &Path) -> io::Result<Vec<UsbDevice>> {
    let entries = match fs::read_dir(sysfs.join("bus/usb/devices")) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found: Vec<UsbDevice> = entries.flatten().filter_map(|entry| read(&entry.path())).collect();
    found.sort_by_key(|d| (d.bus, d.device));
    Ok(found)
}

/// `None` for an interface of a device, which has no such files, and for what is unplugged at this moment.
fn read(folder: &Path) -> Option<UsbDevice> {
    let text = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let id = |name: &str| u16::from_str_radix(text(name)?.trim(), 16).ok();
    let number = |name: &str| text(name)?.trim().parse().ok();
    Some(UsbDevice {
        bus: number("busnum")?,
        device: number("devnum")?,
        vendor: id("idVendor")?,
        product: id("idProduct")?,
    })
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn devices_are_read_and_interfaces_are_not() {
        let sysfs = tempfile::tempdir().expect("folder");
        let make = |name: &str, files: &[(&str, &str)]| {
            let folder = sysfs.path().join("bus/usb/devices").join(name);
            fs::create_dir_all(&folder).expect("folder");
            for (file, text) in files {
                fs::write(folder.join(file), text).expect("file");
            }
        };
        assert_eq!(list(sysfs.path()).expect("none"), []);
        let files =
            |device| [("busnum", "2\n"), ("devnum", device), ("idVendor", "1d6b\n"), ("idProduct", "0003\n")];
        make("2-1", &files("12\n"));
        make("usb2", &files("1\n"));
        make("2-1:1.0", &[("bInterfaceClass", "09\n")]);
        let device = |device| UsbDevice { bus: 2, device, vendor: 0x1d6b, product: 3 };
        assert_eq!(list(sysfs.path()).expect("two"), [device(1), device(12)]);
    }
}
