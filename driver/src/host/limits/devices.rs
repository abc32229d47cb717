//! Which block devices the entries of `<blkiotune>` mean: by number, which is what the kernel knows them by.
//!
//! Does not know what is limited of them. A path is looked up once, at the start or when its entry changes: it may be
//! gone or lead elsewhere later, and the kernel's limit is that of the number all the same.

use std::collections::BTreeMap;
use std::io;

use berth_domain::Domain;
use berth_domain::model::BlkioDevice;

/// Numbers of devices, such as `8:0`, by their path in the document.
pub type Numbers = BTreeMap<String, String>;

/// Answers the number of a block device of the host.
pub type Find<'a> = &'a dyn Fn(&str) -> io::Result<String>;

/// The numbers of the block devices of the host.
pub fn device_number(path: &str) -> io::Result<String> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let found = std::fs::metadata(path)?;
    if !found.file_type().is_block_device() {
        return Err(io::Error::other("it is not a block device"));
    }
    Ok(format!("{}:{}", rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev())))
}

fn devices(domain: &Domain) -> impl Iterator<Item = &BlkioDevice> {
    domain.blkiotune.iter().flat_map(|b| &b.devices)
}

fn unknown(path: &str, e: &io::Error) -> String {
    format!("<blkiotune> names '{path}': {e}")
}

/// The numbers of all devices of a document that is to be started.
pub fn of(domain: &Domain, find: Find<'_>) -> Result<Numbers, String> {
    let numbers = devices(domain)
        .map(|d| Ok((d.path.clone(), find(&d.path).map_err(|e| unknown(&d.path, &e))?)))
        .collect::<Result<Numbers, String>>()?;
    distinct(domain, &numbers)?;
    Ok(numbers)
}

/// The numbers of the devices of what runs; those that are not `known` and cannot be found any more are left out.
pub fn of_running(domain: &Domain, known: &Numbers, find: Find<'_>) -> Numbers {
    let number = |path: &str| known.get(path).cloned().or_else(|| find(path).ok());
    devices(domain).filter_map(|d| Some((d.path.clone(), number(&d.path)?))).collect()
}

/// The entry that the device of a path has by another name: its path, if there is one.
pub fn entry_of(path: &str, domain: &Domain, known: &Numbers, find: Find<'_>) -> Option<String> {
    let number = find(path).ok()?;
    let there = of_running(domain, known, find);
    there.into_iter().find(|(_, n)| *n == number).map(|(entry, _)| entry)
}

/// The numbers before and after a change of what runs. An entry that does not change keeps its number, and needs none.
/// One whose path leads nowhere any more is changed or taken away by the number that it had.
pub fn of_change(
    old: &Domain,
    new: &Domain,
    known: &Numbers,
    find: Find<'_>,
) -> Result<(Numbers, Numbers), String> {
    let before = of_running(old, known, find);
    let stays = |entry: &BlkioDevice, there: &Domain| devices(there).any(|d| d == entry);
    if let Some(lost) = devices(old).find(|d| !stays(d, new) && !before.contains_key(&d.path)) {
        let e = find(&lost.path).err().unwrap_or_else(|| io::ErrorKind::NotFound.into());
        return Err(format!("{}, and which device it was is not known", unknown(&lost.path, &e)));
    }
    let mut after = Numbers::new();
    for entry in devices(new) {
        let had = before.get(&entry.path).cloned();
        let number = if stays(entry, old) {
            had
        } else {
            match (find(&entry.path), had) {
                (Ok(number), _) | (Err(_), Some(number)) => Some(number),
                (Err(e), None) => return Err(unknown(&entry.path, &e)),
            }
        };
        after.extend(number.map(|number| (entry.path.clone(), number)));
    }
    if devices(new).any(|d| !stays(d, old)) {
        distinct(new, &after)?;
    }
    Ok((before, after))
}

/// The kernel has one limit for each device: of two entries one would be without effect.
fn distinct(domain: &Domain, numbers: &Numbers) -> Result<(), String> {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for entry in devices(domain) {
        let Some(number) = numbers.get(&entry.path) else { continue };
        if let Some(other) = seen.insert(number, &entry.path) {
            return Err(format!(
                "<blkiotune> has two entries for the device {number}, '{other}' and '{}', of which one would have no effect",
                entry.path
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod test {
    use super::super::test::domain;
    use super::*;

    fn with(devices: &[(&str, u64)]) -> Domain {
        let entries: String = devices
            .iter()
            .map(|(path, n)| {
                format!("<device><path>{path}</path><read_bytes_sec>{n}</read_bytes_sec></device>")
            })
            .collect();
        domain(&format!("<blkiotune>{entries}</blkiotune>"))
    }

    fn find(path: &str) -> io::Result<String> {
        match path {
            "/dev/sda" | "/dev/link" => Ok("8:0".into()),
            "/dev/sdb" => Ok("8:16".into()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn numbers(all: &[(&str, &str)]) -> Numbers {
        all.iter().map(|(path, number)| ((*path).to_owned(), (*number).to_owned())).collect()
    }

    #[test]
    fn what_is_gone_keeps_the_number_that_it_had() {
        let known = numbers(&[("/dev/gone", "9:0")]);
        let old = with(&[("/dev/gone", 3000)]);
        let both = of_change(&old, &old, &known, &find).expect("nothing to look up");
        assert_eq!(both, (known.clone(), known.clone()));
        for new in [with(&[("/dev/sda", 1)]), with(&[("/dev/gone", 1), ("/dev/sda", 1)])] {
            let (before, after) = of_change(&old, &new, &known, &find).expect("changed");
            assert_eq!(before, known);
            assert_eq!(after.get("/dev/sda").map(String::as_str), Some("8:0"));
            assert_eq!(after.contains_key("/dev/gone"), devices(&new).count() == 2);
        }
        // A path that leads elsewhere now: its entry means the old device until it changes.
        let known = numbers(&[("/dev/sda", "9:0")]);
        let old = with(&[("/dev/sda", 1)]);
        let (_, after) =
            of_change(&old, &with(&[("/dev/sda", 1), ("/dev/sdb", 1)]), &known, &find).expect("ok");
        assert_eq!(after, numbers(&[("/dev/sda", "9:0"), ("/dev/sdb", "8:16")]));
        let (before, after) = of_change(&old, &with(&[("/dev/sda", 2)]), &known, &find).expect("ok");
        assert_eq!((before, after), (known, numbers(&[("/dev/sda", "8:0")])));
    }

    #[test]
    fn an_entry_is_found_by_another_name_of_its_device() {
        let domain = with(&[("/dev/link", 1), ("/dev/gone", 2)]);
        let known = numbers(&[("/dev/gone", "8:16")]);
        let entry = |path| entry_of(path, &domain, &known, &find);
        assert_eq!(entry("/dev/sda").as_deref(), Some("/dev/link"));
        // By what it was at the start.
        assert_eq!(entry("/dev/sdb").as_deref(), Some("/dev/gone"));
        assert_eq!(entry("/dev/other"), None);
        assert_eq!(entry_of("/dev/sdb", &domain, &Numbers::new(), &find), None);
    }

    #[test]
    fn what_nobody_knows_is_in_the_way_of_its_own_change_alone() {
        let none = Numbers::new();
        let old = with(&[("/dev/gone", 3000)]);
        let (_, after) = of_change(&old, &with(&[("/dev/gone", 3000), ("/dev/sda", 1)]), &none, &find)
            .expect("it does not change");
        assert_eq!(after, numbers(&[("/dev/sda", "8:0")]));
        for new in [with(&[("/dev/sda", 1)]), with(&[("/dev/gone", 1)])] {
            let e = of_change(&old, &new, &none, &find).expect_err("refused");
            assert!(e.starts_with("<blkiotune> names '/dev/gone': "), "{e}");
            assert!(e.ends_with("which device it was is not known"), "{e}");
        }
        let e = of_change(&old, &with(&[("/dev/gone", 3000), ("/dev/new", 1)]), &none, &find);
        assert!(e.expect_err("refused").starts_with("<blkiotune> names '/dev/new': "));
    }

    #[test]
    fn two_entries_for_one_device_are_refused() {
        let twice = with(&[("/dev/sda", 1), ("/dev/link", 2)]);
        let reason = "<blkiotune> has two entries for the device 8:0, '/dev/sda' and '/dev/link', of which one would \
                      have no effect";
        assert_eq!(of(&twice, &find).expect_err("refused"), reason);
        let old = with(&[("/dev/sda", 1)]);
        let known = of(&old, &find).expect("found");
        assert_eq!(of_change(&old, &twice, &known, &find).expect_err("refused"), reason);
        // What runs with both already can still be changed in all else, and one of them can go.
        let known = numbers(&[("/dev/sda", "8:0"), ("/dev/link", "8:0")]);
        assert!(of_change(&twice, &twice, &known, &find).is_ok());
        assert!(of_change(&twice, &old, &known, &find).is_ok());
    }
}
