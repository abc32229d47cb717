//! The devices that a controller has made of images: read from what it holds open, so that it does not matter where an
//! image's path leads by now, nor who else has the same image.
//!
//! Does not know disks. All functions block for some reads of /proc and /sys.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Major numbers of loop devices and of network block devices (admin-guide/devices.txt).
const LOOP: u32 = 7;
const NBD: u32 = 43;

/// How much of its name a loop device keeps.
const NAME: usize = 63;

/// One device that is made of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its number, such as `7:0`.
    pub number: String,
    /// The path of the image as the controller was given it; of a loop device, the beginning.
    name: Vec<u8>,
    /// Device and inode of the image's file.
    file: Option<(u64, u64)>,
}

/// Whether a device of that number is made of an image.
pub fn is_made(number: &str) -> bool {
    number
        .split_once(':')
        .and_then(|(major, _)| major.parse().ok())
        .is_some_and(|m: u32| [LOOP, NBD].contains(&m))
}

/// Those that a process holds.
pub fn held_by(pid: i32) -> Vec<Made> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let mut all: Vec<Made> = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let Ok(found) = fs::metadata(&path) else { continue };
        if !found.file_type().is_block_device() {
            continue;
        }
        let (major, minor) = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
        let number = format!("{major}:{minor}");
        let made = match major {
            LOOP => of_loop(&path, number),
            NBD => of_server(number),
            _ => None,
        };
        all.extend(made.filter(|made| !all.contains(made)));
    }
    all
}

fn of_loop(path: &Path, number: String) -> Option<Made> {
    let status = berth_sys::loops::status(File::open(path).ok()?.as_fd()).ok()?;
    Some(Made { number, name: status.name, file: Some(status.file) })
}

/// The last argument of a server is its image.
fn of_server(number: String) -> Option<Made> {
    let pid = fs::read_to_string(format!("/sys/dev/block/{number}/pid")).ok()?;
    let line = fs::read(format!("/proc/{}/cmdline", pid.trim())).ok()?;
    let name = line.strip_suffix(b"\0")?.rsplit(|byte| *byte == 0).next()?.to_owned();
    Some(Made { number, name, file: None })
}

/// The number of the device that is made of an image, of those that are not `taken`.
pub fn number_of(all: &[Made], image: &str, taken: &dyn Fn(&str) -> bool) -> Option<String> {
    let start = &image.as_bytes()[..image.len().min(NAME)];
    let called = |made: &&Made| match made.file {
        Some(_) => made.name == start,
        None => made.name == image.as_bytes(),
    };
    let found: Vec<_> = all.iter().filter(called).filter(|made| !taken(&made.number)).collect();
    // Names that are alike for so long.
    let file = fs::metadata(image).ok().map(|found| (found.dev(), found.ino()));
    let same = found.iter().find(|made| found.len() > 1 && made.file.is_some() && made.file == file);
    same.or(found.first()).map(|made| made.number.clone())
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn devices_are_found_by_what_their_image_was_called() {
        let dir = tempfile::tempdir().expect("folder");
        let long = |name: &str| format!("{}/{}{name}", dir.path().display(), "x".repeat(80));
        let made = |number: &str, name: &str, file| Made { number: number.into(), name: name.into(), file };
        let cut = |text: &str| text[..NAME].to_owned();
        for name in [long("a"), long("b")] {
            fs::write(name, "").expect("written");
        }
        let inode = |path: &str| fs::metadata(path).map(|m| (m.dev(), m.ino())).expect("there");
        let all = [
            made("7:0", "/gone.img", Some((1, 1))),
            made("7:1", &cut(&long("a")), Some(inode(&long("a")))),
            made("7:2", &cut(&long("b")), Some(inode(&long("b")))),
            made("43:0", &long("c"), None),
            made("7:4", "/gone.img", Some((1, 1))),
        ];
        let of = |image: &str| number_of(&all, image, &|_| false);
        assert_eq!(of("/gone.img").as_deref(), Some("7:0"));
        assert_eq!(of(&long("b")).as_deref(), Some("7:2"));
        assert_eq!(of(&long("a")).as_deref(), Some("7:1"));
        assert_eq!(of(&long("c")).as_deref(), Some("7:1"));
        assert_eq!(number_of(&all[3..], &long("c"), &|_| false).as_deref(), Some("43:0"));
        assert_eq!(of("/other.img"), None);
        assert_eq!(number_of(&all, "/gone.img", &|n| n == "7:0").as_deref(), Some("7:4"));
        assert!(is_made("7:12") && is_made("43:0") && !is_made("8:0") && !is_made("70:0"));
    }
}
