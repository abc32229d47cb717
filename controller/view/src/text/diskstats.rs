//! /proc/diskstats.

use std::collections::BTreeMap;
use std::fmt::Write;

/// What the container has done with one device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// Requests.
    pub reads: u64,
    /// Bytes.
    pub read_bytes: u64,
    /// Requests.
    pub writes: u64,
    /// Bytes.
    pub written_bytes: u64,
    /// Requests to discard.
    pub discards: u64,
    /// Bytes of those.
    pub discarded_bytes: u64,
}

/// By device, in the kernel's form "8:0".
pub type Devices = BTreeMap<String, Done>;

/// Reads io.stat of version 2: cgroup-v2.rst.
pub fn of_version_2(text: &str) -> Devices {
    let mut all = Devices::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let Some(device) = words.next().filter(|d| d.contains(':')) else { continue };
        let done = all.entry(device.to_owned()).or_default();
        for (name, value) in words.filter_map(|w| w.split_once('=')) {
            let value = value.parse().unwrap_or(0);
            match name {
                "rbytes" => done.read_bytes = value,
                "wbytes" => done.written_bytes = value,
                "rios" => done.reads = value,
                "wios" => done.writes = value,
                "dbytes" => done.discarded_bytes = value,
                "dios" => done.discards = value,
                _ => {}
            }
        }
    }
    all
}

/// Reads the two files of version 1, lines such as "8:0 Read 4096": cgroup-v1/blkio-controller.rst.
pub fn of_version_1(bytes: &str, requests: &str) -> Devices {
    let mut all = Devices::new();
    for (text, is_bytes) in [(bytes, true), (requests, false)] {
        for line in text.lines() {
            let mut words = line.split(' ');
            let (Some(device), Some(kind), Some(value)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            let done = all.entry(device.to_owned()).or_default();
            let field = match (kind, is_bytes) {
                ("Read", true) => &mut done.read_bytes,
                ("Read", false) => &mut done.reads,
                ("Write", true) => &mut done.written_bytes,
                ("Write", false) => &mut done.writes,
                ("Discard", true) => &mut done.discarded_bytes,
                ("Discard", false) => &mut done.discards,
                _ => continue,
            };
            *field = value.parse().unwrap_or(0);
        }
    }
    all
}

impl Done {
    fn all(&mut self) -> [&mut u64; 6] {
        [
            &mut self.reads,
            &mut self.read_bytes,
            &mut self.writes,
            &mut self.written_bytes,
            &mut self.discards,
            &mut self.discarded_bytes,
        ]
    }
}

/// What has come since counting began. A device that has less than it had then is another one of that number: of that all
/// counts, now and later. Answers whether that was so.
pub fn since(devices: &mut Devices, begun: &mut Devices) -> bool {
    let before = begun.len();
    begun.retain(|device, before| {
        let Some(now) = devices.get_mut(device) else { return true };
        if now.all().into_iter().zip(before.all()).any(|(now, before)| *now < *before) {
            return false;
        }
        for (now, before) in now.all().into_iter().zip(before.all()) {
            *now -= *before;
        }
        true
    });
    begun.len() < before
}

/// The text: the host's lines of those devices that the container has used, with its own figures.
pub fn text(host_text: &str, devices: &Devices) -> String {
    let mut out = String::new();
    for line in host_text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(major), Some(minor), Some(name)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let Some(d) = devices.get(&format!("{major}:{minor}")).filter(|d| **d != Done::default()) else {
            continue;
        };
        // Sectors have 512 bytes here whatever the device has. Nobody counts merges and times by group.
        let _ = writeln!(
            out,
            "{major:>4} {minor:>7} {name} {} 0 {} 0 {} 0 {} 0 0 0 0 {} 0 {} 0 0 0",
            d.reads,
            d.read_bytes / 512,
            d.writes,
            d.written_bytes / 512,
            d.discards,
            d.discarded_bytes / 512
        );
    }
    out
}

#[cfg(test)]
mod test {
    use super::*;

    const HOST: &str = "   8       0 sda 99 1 2 3 4 5 6 7 8 9 10\n   8       1 sda1 1 1 1 1 1 1 1 1 1 1 1\n";

    #[test]
    fn both_versions_say_the_same() {
        let new = of_version_2("8:0 rbytes=1024 wbytes=2048 rios=1 wios=2 dbytes=512 dios=1\n8:1 rbytes=0\n");
        let old = of_version_1(
            "8:0 Read 1024\n8:0 Write 2048\n8:0 Sync 9\n8:0 Discard 512\n8:0 Total 3584\nTotal 3584\n",
            "8:0 Read 1\n8:0 Write 2\n8:0 Discard 1\nTotal 3\n",
        );
        let want = "   8       0 sda 1 0 2 0 2 0 4 0 0 0 0 1 0 1 0 0 0\n";
        assert_eq!((text(HOST, &new).as_str(), text(HOST, &old).as_str()), (want, want));
        assert_eq!(want.split_whitespace().count(), 20);
        assert_eq!(text(HOST, &Devices::new()), "");
    }

    #[test]
    fn what_was_before_does_not_count() {
        let read = |text| of_version_2(text);
        let begun =
            "8:0 rbytes=1024 wbytes=2048 rios=1 wios=2\n8:1 rbytes=512 rios=3\n8:2 rbytes=512 rios=1\n";
        let mut begun = read(begun);
        let all = begun.clone();
        let mut now = all.clone();
        assert!(!since(&mut now, &mut begun));
        assert_eq!((text(HOST, &now).as_str(), &begun), ("", &all));
        // The second is another one, and the third is not there.
        let text_now = "8:0 rbytes=3072 wbytes=2048 rios=2 wios=2\n8:1 rbytes=1024 rios=2\n";
        let want = "   8       0 sda 1 0 4 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n   \
                    8       1 sda1 2 0 2 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
        for changes in [true, false] {
            let mut now = read(text_now);
            assert_eq!(since(&mut now, &mut begun), changes);
            assert_eq!(text(HOST, &now), want);
        }
        assert_eq!(begun.keys().collect::<Vec<_>>(), ["8:0", "8:2"]);
        // What comes new counts from its beginning.
        let mut now = read("9:0 rbytes=5 rios=1\n");
        assert!(!since(&mut now, &mut begun));
        assert_eq!(now, read("9:0 rbytes=5 rios=1\n"));
    }
}
