//! Which block devices the disks of a document are, so that their figures have the names of the document.
//!
//! The kernel counts by whole device: a partition's figures are those of the device that it is on. It counts by number,
//! and goes on when a number becomes another image's device. Does not know what is counted.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use berth_domain::Domain;
use berth_domain::model::{Disk, DiskSource};
use berth_schemas::domain::BlockStats;
use serde::{Deserialize, Serialize};

use crate::account::unused;
use crate::engine::publish::blocking;
use crate::host::images::{self, Made, is_made};
use crate::host::limits::devices::device_number;

/// What was counted of one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    read_bytes: i64,
    read_requests: i64,
    write_bytes: i64,
    write_requests: i64,
}

/// The same of devices by number.
pub type Counted = BTreeMap<String, Counts>;

/// What was counted so far.
pub fn counted(blocks: &[BlockStats]) -> Counted {
    let counts = |b: &BlockStats| Counts {
        read_bytes: b.read_bytes,
        read_requests: b.read_requests,
        write_bytes: b.write_bytes,
        write_requests: b.write_requests,
    };
    blocks.iter().map(|b| (b.device.clone(), counts(b))).collect()
}

/// What is noted of the disks of a run: where their paths lead may change, and the kernel does not tell one image's
/// requests from those of the next one on the same device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Noted {
    /// Numbers of their devices, by target.
    numbers: BTreeMap<String, String>,
    /// What is not theirs of what is counted: that of earlier images, by number.
    earlier: Counted,
}

/// How a device is found that is not noted yet, unless its number is another disk's.
pub type Find<'a> = &'a dyn Fn(&Disk, &dyn Fn(&str) -> bool) -> Option<String>;

/// Finds devices of disks: those of images are held by the controller. Blocks.
pub fn find(disk: &Disk, held: &[Made], taken: &dyn Fn(&str) -> bool) -> Option<String> {
    match &disk.source {
        DiskSource::Block(path) => device_number(path).map(|n| whole(Path::new("/sys"), n)).ok(),
        DiskSource::File(path) => images::number_of(held, path, taken),
    }
}

/// What is noted after a change of what runs, of which there was nothing at a start. `now` answers what was counted when it
/// was made; where nobody can, that is what was counted `before`.
pub async fn note(
    noted: &Noted,
    (old, new): (Option<Arc<Domain>>, Arc<Domain>),
    controller: i32,
    before: Counted,
    now: Option<Box<dyn FnOnce() -> Counted + Send>>,
) -> Noted {
    if noted.is_empty() && new.devices.disks.is_empty() {
        return Noted::default();
    }
    let (noted, kept) = (noted.clone(), noted.clone());
    let looked = blocking(move || {
        let now = now.map_or_else(|| before.clone(), |now| now());
        let held = images::held_by(controller);
        let find = |disk: &Disk, taken: &dyn Fn(&str) -> bool| find(disk, &held, taken);
        let old = old.as_ref().map_or(&[][..], |old| &old.devices.disks);
        Ok(noted.after((old, &new.devices.disks), &find, &before, &now))
    });
    looked.await.unwrap_or(kept)
}

impl Noted {
    /// Whether there is nothing to note, and was not.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What is noted after a change of the disks, where `before` and `now` were counted.
    pub fn after(
        &self,
        (old, new): (&[Disk], &[Disk]),
        find: Find<'_>,
        before: &Counted,
        now: &Counted,
    ) -> Self {
        let mut next = Self { numbers: BTreeMap::new(), earlier: self.earlier.clone() };
        let was = |disk: &Disk| old.iter().find(|o| o.target == disk.target);
        let (stay, come): (Vec<_>, Vec<_>) = new.iter().partition(|d| was(d).is_some_and(|o| is_same(o, d)));
        for disk in &stay {
            let number = self.numbers.get(&disk.target);
            next.numbers.extend(number.map(|n| (disk.target.clone(), n.clone())));
        }
        for (disk, is_new) in stay.iter().map(|d| (d, false)).chain(come.iter().map(|d| (d, true))) {
            if next.numbers.contains_key(&disk.target) {
                continue;
            }
            let taken = |number: &str| next.numbers.values().any(|n| n == number);
            let Some(number) = find(disk, &taken) else { continue };
            if is_new && is_made(&number) && self.numbers.get(&disk.target) != Some(&number) {
                match before.get(&number) {
                    Some(counts) => next.earlier.insert(number.clone(), *counts),
                    None => next.earlier.remove(&number),
                };
            }
            next.numbers.insert(disk.target.clone(), number);
        }
        for gone in self.numbers.values().filter(|n| is_made(n)) {
            if let (false, Some(counts)) = (next.numbers.values().any(|n| n == gone), now.get(gone)) {
                next.earlier.insert(gone.clone(), *counts);
            }
        }
        next
    }

    /// Takes away what is not the disks' own. A device that nothing is left of is not told.
    fn subtract(&self, blocks: &mut Vec<BlockStats>) {
        for block in blocks.iter_mut() {
            let Some(earlier) = self.earlier.get(&block.device) else { continue };
            let less = |value: &mut i64, by: i64| *value = value.saturating_sub(by).max(0);
            less(&mut block.read_bytes, earlier.read_bytes);
            less(&mut block.read_requests, earlier.read_requests);
            less(&mut block.write_bytes, earlier.write_bytes);
            less(&mut block.write_requests, earlier.write_requests);
        }
        blocks.retain(|b| !self.earlier.contains_key(&b.device) || b.read_requests + b.write_requests > 0);
    }
}

/// Whether a disk has the device that it had.
fn is_same(a: &Disk, b: &Disk) -> bool {
    let driver = |disk: &Disk| disk.driver.as_ref().map(|d| (d.name.clone(), d.format.clone()));
    a.source == b.source && a.readonly == b.readonly && driver(a) == driver(b)
}

/// The loop devices of all images, for disks whose device is not noted. Read when the first disk asks, and kept for the others of one call: there may be a
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
    noted: &Noted,
    sysfs: &Path,
    loops: &mut Loops,
    name: &dyn Fn(&str) -> String,
) {
    noted.subtract(blocks);
    for disk in disks {
        let (DiskSource::Block(source) | DiskSource::File(source)) = &disk.source;
        let numbers = match (noted.numbers.get(&disk.target), &disk.source) {
            (Some(number), _) => vec![number.clone()],
            (None, DiskSource::Block(path)) => {
                device_number(path).map(|n| whole(sysfs, n)).into_iter().collect()
            }
            (None, DiskSource::File(path)) => loops.of(sysfs, path),
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
    // A device of the host that the container has used by its root, say. A name of the document means the document's disk,
    // also of one that comes later: a name must not go from one device to another. In /sys a slash is an exclamation mark.
    for block in blocks.iter_mut().filter(|b| b.target.is_none() && b.name != b.device) {
        block.name = format!("/dev/{}", block.name.replace('!', "/"));
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
        let noted = Noted::default();
        tell(&mut blocks, &disks, &noted, dir.path(), &mut Loops::default(), &|n| format!("named {n}"));
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
    fn what_is_noted_counts_and_not_where_a_path_leads() {
        let dir = tempfile::tempdir().expect("folder");
        let of = |device: &str, n: i64| BlockStats {
            read_bytes: n * 512,
            read_requests: n,
            ..unused(device, format!("name of {device}"))
        };
        let told = |noted: &Noted, disks: &[Disk], mut blocks: Vec<BlockStats>| {
            tell(&mut blocks, disks, noted, dir.path(), &mut Loops::default(), &|n| format!("name of {n}"));
            let of = |b: BlockStats| (b.device, b.target, b.read_requests, b.read_bytes);
            blocks.into_iter().map(of).collect::<Vec<_>>()
        };
        let row = |device: &str, target: Option<&str>, n: i64| {
            (device.to_owned(), target.map(str::to_owned), n, n * 512)
        };
        let find = |found: &'static str| {
            move |_: &Disk, taken: &dyn Fn(&str) -> bool| (!taken(found)).then(|| found.to_owned())
        };
        let a = [disk("file", "file='/a.img'", "vda")];
        let nothing = Counted::new();
        let first = Noted::default().after((&[], &a), &find("7:0"), &nothing, &nothing);
        assert_eq!(told(&first, &a, vec![of("7:0", 9)]), [row("7:0", Some("vda"), 9)]);
        // It goes: nothing of it is told any more, but what comes afterwards.
        let nine = counted(&[of("7:0", 9), of("8:0", 4)]);
        let gone = first.after((&a, &[]), &find("7:9"), &nothing, &nine);
        assert_eq!(told(&gone, &[], vec![of("7:0", 9), of("8:0", 4)]), [row("8:0", None, 4)]);
        assert_eq!(told(&gone, &[], vec![of("7:0", 11)]), [row("7:0", None, 2)]);
        // Another one on the same device begins with nothing.
        let b = [disk("file", "file='/b.img'", "vdb")];
        let eleven = counted(&[of("7:0", 11)]);
        let second = gone.after((&[], &b), &find("7:0"), &eleven, &eleven);
        assert_eq!(told(&second, &b, vec![of("7:0", 11)]), [row("7:0", Some("vdb"), 0)]);
        assert_eq!(told(&second, &b, vec![of("7:0", 14)]), [row("7:0", Some("vdb"), 3)]);
        // Also for the next daemon, and after a change of another disk.
        let text = serde_json::to_string(&second).expect("written");
        let read: Noted = serde_json::from_str(&text).expect("read");
        let both = [b[0].clone(), disk("file", "file='/c.img'", "vdc")];
        let third = read.after((&b, &both), &find("7:1"), &eleven, &eleven);
        let shown = told(&third, &both, vec![of("7:0", 14), of("7:1", 1)]);
        assert_eq!(shown, [row("7:0", Some("vdb"), 3), row("7:1", Some("vdc"), 1)]);
        // A state that says nothing: what is counted is the disk's.
        let found = Noted::default().after((&b, &b), &find("7:0"), &eleven, &eleven);
        assert_eq!(told(&found, &b, vec![of("7:0", 14)]), [row("7:0", Some("vdb"), 14)]);
    }

    #[test]
    fn no_name_goes_from_one_device_to_another() {
        let named = |disks: &[Disk]| {
            let called =
                |device: &str, name: &str| BlockStats { read_requests: 1, ..unused(device, name.into()) };
            let mut blocks =
                vec![called("254:0", "vda"), called("104:0", "cciss!c0d0"), called("9:9", "9:9")];
            let (dir, noted) = (Path::new("/nosuch"), Noted::default());
            tell(&mut blocks, disks, &noted, dir, &mut Loops::default(), &|n| n.to_owned());
            blocks.into_iter().map(|b| b.name).collect::<Vec<_>>()
        };
        let names = ["/dev/vda", "/dev/cciss/c0d0", "9:9"];
        assert_eq!(named(&[]), names);
        assert_eq!(named(&[disk("file", "file='/nosuch.img'", "vda")]), names);
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
