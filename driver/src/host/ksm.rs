//! How the kernel merges equal pages of memory (KSM).
//!
//! Does not know who asks. All functions block for as long as it takes to read or write a file of the kernel.

use std::fs;
use std::path::Path;

use berth_schemas::node::{Error, MemoryParameters};

/// Where the kernel has it.
pub const FOLDER: &str = "/sys/kernel/mm/ksm";

/// Those that can be changed: pages to scan, milliseconds to sleep, whether nodes are one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// Pages that are looked at before each sleep.
    pub pages_to_scan: Option<u32>,
    /// How long each sleep is.
    pub sleep_msec: Option<u32>,
    /// Whether pages of different NUMA nodes are merged.
    pub merge_across_nodes: Option<bool>,
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::Failed { message: format!("cannot {what} '{}': {error}", path.display()) }
}

/// What it is now.
pub fn read(folder: &Path) -> Result<MemoryParameters, Error> {
    if !folder.is_dir() {
        let message = format!("this kernel does not merge equal pages: there is no '{}'", folder.display());
        return Err(Error::NotAvailable { message });
    }
    let number = |name: &str| {
        let path = folder.join(name);
        let text = fs::read_to_string(&path).map_err(|e| failed("read", &path, &e))?;
        // None is larger than what the wire can carry.
        Ok::<i64, Error>(text.trim().parse().unwrap_or(i64::MAX))
    };
    let nodes = "merge_across_nodes";
    Ok(MemoryParameters {
        pages_to_scan: number("pages_to_scan")?,
        sleep_m_sec: number("sleep_millisecs")?,
        merge_across_nodes: if folder.join(nodes).exists() { Some(number(nodes)? != 0) } else { None },
        pages_shared: number("pages_shared")?,
        pages_sharing: number("pages_sharing")?,
        pages_unshared: number("pages_unshared")?,
        pages_volatile: number("pages_volatile")?,
        full_scans: number("full_scans")?,
    })
}

/// Changes it: all of it, or nothing.
pub fn write(folder: &Path, change: &Change) -> Result<(), Error> {
    let before = read(folder)?;
    let files = [
        ("pages_to_scan", change.pages_to_scan.map(i64::from), Some(before.pages_to_scan)),
        ("sleep_millisecs", change.sleep_msec.map(i64::from), Some(before.sleep_m_sec)),
        (
            "merge_across_nodes",
            change.merge_across_nodes.map(i64::from),
            before.merge_across_nodes.map(i64::from),
        ),
    ];
    let wanted = files.iter().filter_map(|(name, value, before)| Some((*name, (*value)?, *before)));
    let mut done: Vec<(&str, i64)> = Vec::new();
    for (name, value, before) in wanted {
        let path = folder.join(name);
        // Not made where the kernel has no such file.
        let written = fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(&path)
            .and_then(|mut file| std::io::Write::write_all(&mut file, value.to_string().as_bytes()));
        if let Err(e) = written {
            for (name, value) in done.iter().rev() {
                if let Err(e) = fs::write(folder.join(name), value.to_string()) {
                    tracing::warn!("cannot write '{}' back: {e}", folder.join(name).display());
                }
            }
            return Err(failed("write", &path, &e));
        }
        done.extend(before.map(|before| (name, before)));
    }
    Ok(())
}

#[cfg(test)]
mod test {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (n, name) in [
            "pages_to_scan",
            "sleep_millisecs",
            "merge_across_nodes",
            "pages_shared",
            "pages_sharing",
            "pages_unshared",
            "pages_volatile",
            "full_scans",
        ]
        .iter()
        .enumerate()
        {
            fs::write(folder.path().join(name), format!("{n}\n")).expect("written");
        }
        folder
    }

    #[test]
    fn parameters_are_read_and_changed_all_or_none() {
        let folder = folder();
        let path = folder.path();
        let now = read(path).expect("read");
        assert_eq!((now.pages_to_scan, now.sleep_m_sec, now.merge_across_nodes), (0, 1, Some(true)));
        assert_eq!((now.pages_shared, now.full_scans), (3, 7));
        let change = Change { pages_to_scan: Some(200), sleep_msec: None, merge_across_nodes: Some(false) };
        write(path, &change).expect("written");
        let now = read(path).expect("read");
        assert_eq!((now.pages_to_scan, now.sleep_m_sec, now.merge_across_nodes), (200, 1, Some(false)));
        fs::remove_file(path.join("merge_across_nodes")).expect("removed");
        assert_eq!(read(path).expect("read").merge_across_nodes, None);
        let error = write(path, &Change { pages_to_scan: Some(300), ..change }).expect_err("no such file");
        assert!(matches!(error, Error::Failed { .. }), "{error:?}");
        assert_eq!(read(path).expect("read").pages_to_scan, 200, "it is as before");
        let missing = read(&path.join("nowhere")).expect_err("no folder");
        assert!(matches!(missing, Error::NotAvailable { .. }), "{missing:?}");
    }
}
