//! Which block devices the disks of a document are, so that their figures have the names of the document.
//!
//! The kernel counts by whole device: a partition's figures are those of the device that it is on. An image behind
//! qemu-nbd(8) cannot be told from its device. Does not know what is counted.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use berth_domain::model::{Disk, DiskSource};
use berth_schemas::domain::BlockStats;

use crate::account::unused;
use crate::host::limits::devices::device_number;

/// The loop devices of all images. Read when the first disk asks, and kept for the others of one call: there may be a
/// thousand of each.
#[derive(Debug, Default)]
pub struct Loops(Option<HashMap<Vec<u8>, Vec<String>>>);

impl Loops {
    /// The numbers of an image's devices.
    fn of(&mut self, sysfs: &Path, image: &str) -> Vec<String> {
        let all = self.0.get_or_insert_with(|| Self::read(sysfs));
        all.get(image.as_bytes()).cloned().unwrap_or_default()
    }

    fn read(sysfs: &Path) -> HashMap<Vec<u8>, Vec<String>> {
        let mut all: HashMap<Vec<u8>, Vec<String>> = HashMap::new();
        let Ok(entries) = fs::read_dir(sysfs.join("block")) else { return all };
        for entry in entries.flatten().filter(|e| e.file_name().as_encoded_bytes().starts_with(b"loop")) {
            let folder = entry.path();
            let image = fs::read(folder.join("loop/backing_file"));
            if let (Ok(image), Ok(number)) = (image, fs::read_to_string(folder.join("dev"))) {
                all.entry(image.trim_ascii_end().to_owned()).or_default().push(number.trim().to_owned());
            }
        }
        all
    }
}

/// Gives the figures of a running domain the names of its disks, and adds those of disks that were not used yet.
/// `name` answers the kernel's name of a device. Blocks for some reads of /sys.
pub fn tell(
    blocks: &mut Vec<BlockStats>,
    disks: &[Disk],
    sysfs: &Path,
    loops: &mut Loops,
    name: &dyn Fn(&str) -> String,
) {
    for disk in disks {
        let (source, numbers) = match &disk.source {
            DiskSource::Block(path) => {
                (path, device_number(path).map(|n| whole(sysfs, n)).into_iter().collect())
            }
            DiskSource::File(path) => (path, loops.of(sysfs, path)),
        };
        // Another domain may have the image, too.
        let counted = blocks.iter_mut().find(|b| numbers.contains(&b.device));
        let named = |block: BlockStats| BlockStats {
            target: Some(disk.target.clone()),
            source: Some(source.clone()),
            ..block
        };
        match (counted, numbers.first()) {
            (Some(block), _) if block.target.is_none() => *block = named(block.clone()),
            // Two partitions of one device.
            (Some(block), _) => {
                let same = named(block.clone());
                blocks.push(same);
            }
            (None, Some(device)) => blocks.push(named(unused(device, name(device)))),
            (None, None) => {}
        }
    }
    // A device of the host that the container has used by its root, say: a name of the document means the document's disk.
    for block in blocks.iter_mut().filter(|b| b.target.is_none()) {
        if disks.iter().any(|disk| disk.target == block.name) {
            block.name.insert_str(0, "/dev/");
        }
    }
}

/// The device that a partition is on.
fn whole(sysfs: &Path, number: String) -> String {
    let folder = sysfs.join("dev/block").join(&number);
    if !folder.join("partition").exists() {
        return number;
    }
    let above = fs::canonicalize(folder).ok().and_then(|f| f.parent().map(|p| p.join("dev")));
    above.and_then(|dev| fs::read_to_string(dev).ok()).map_or(number, |text| text.trim().to_owned())
}

#[cfg(test)]
mod test {
    use berth_domain::{Device, Host, parse_device};

    use super::*;

    fn disk(kind: &str, source: &str, target: &str) -> Disk {
        let host = Host { arch: "x86_64".into(), emulator: "/e".into() };
        let xml = format!("<disk type='{kind}'><source {source}/><target dev='{target}'/></disk>");
        match parse_device(&xml, &host).expect("a disk").device {
            Device::Disk(disk) => *disk,
            other => panic!("not a disk: {other:?}"),
        }
    }

    #[test]
    fn figures_have_the_names_of_the_document() {
        let dir = tempfile::tempdir().expect("folder");
        for (name, number, image) in [("loop0", "7:0", "/other.img"), ("loop3", "7:3", "/a.img")] {
            let folder = dir.path().join("block").join(name);
            fs::create_dir_all(folder.join("loop")).expect("made");
            fs::write(folder.join("dev"), format!("{number}\n")).expect("written");
            fs::write(folder.join("loop/backing_file"), format!("{image}\n")).expect("written");
        }
        let disks = [
            disk("file", "file='/a.img'", "vda"),
            disk("file", "file='/other.img'", "vdb"),
            disk("file", "file='/nosuch.img'", "vdc"),
            disk("block", "dev='/dev/nosuch'", "vdd"),
        ];
        let of = |device: &str| BlockStats { read_bytes: 5, ..unused(device, device.into()) };
        // The host has two that are called like disks of the document, one of them like one that has no device.
        let called = |device: &str, name: &str| BlockStats { read_bytes: 9, ..unused(device, name.into()) };
        let mut blocks = vec![of("7:3"), of("8:0"), called("254:0", "vda"), called("254:48", "vdd")];
        tell(&mut blocks, &disks, dir.path(), &mut Loops::default(), &|number| format!("named {number}"));
        let shown: Vec<_> = blocks
            .iter()
            .map(|b| (b.name.as_str(), b.target.as_deref(), b.source.as_deref(), b.read_bytes))
            .collect();
        assert_eq!(
            shown,
            [
                ("7:3", Some("vda"), Some("/a.img"), 5),
                ("8:0", None, None, 5),
                ("/dev/vda", None, None, 9),
                ("/dev/vdd", None, None, 9),
                ("named 7:0", Some("vdb"), Some("/other.img"), 0)
            ]
        );
    }

    #[test]
    fn a_partition_is_counted_with_its_device() {
        let dir = tempfile::tempdir().expect("folder");
        let device = dir.path().join("devices/sda");
        fs::create_dir_all(device.join("sda1")).expect("made");
        fs::create_dir_all(dir.path().join("dev/block")).expect("made");
        fs::write(device.join("dev"), "8:0\n").expect("written");
        fs::write(device.join("sda1/partition"), "1\n").expect("written");
        std::os::unix::fs::symlink(device.join("sda1"), dir.path().join("dev/block/8:1")).expect("linked");
        assert_eq!(whole(dir.path(), "8:1".into()), "8:0");
        assert_eq!(whole(dir.path(), "8:0".into()), "8:0");
    }
}
