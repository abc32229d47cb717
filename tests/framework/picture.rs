//! A folder and everything in it as it is, to be compared with how it was.
//!
//! It follows no link, opens nothing but plain files and folders, and does not know why anything is there.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::hash::{DefaultHasher, Hasher};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// How much of a file counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// All, the inode and its three times included.
    Everything,
    /// What a folder shows that mount points were made in and removed from again: not the times of folders, and no
    /// times of access or change, as programs inside read their own files.
    Contents,
}

/// What was there: for each path below the folder, what there is to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture(BTreeMap<String, String>);

impl Picture {
    /// Takes one. The folder itself is in it too.
    pub fn of(folder: &Path, detail: Detail) -> Result<Self, String> {
        let mut found = BTreeMap::new();
        look(folder, folder, detail, &mut found)?;
        Ok(Self(found))
    }

    /// What is different from how it was before, in words.
    pub fn difference(&self, before: &Self) -> Vec<String> {
        let new = self.0.iter().filter(|(path, _)| !before.0.contains_key(*path));
        let gone = before.0.keys().filter(|path| !self.0.contains_key(*path));
        let changed = before.0.iter().filter_map(|(path, was)| {
            let is = self.0.get(path).filter(|is| *is != was)?;
            Some(format!("changed: '{path}': was {was}, is {is}"))
        });
        new.map(|(path, is)| format!("new: '{path}': {is}"))
            .chain(gone.map(|path| format!("gone: '{path}'")))
            .chain(changed)
            .collect()
    }

    /// How many files and folders are in it.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

fn look(path: &Path, top: &Path, detail: Detail, found: &mut BTreeMap<String, String>) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("cannot look at '{}': {e}", path.display());
    let meta = path.symlink_metadata().map_err(failed)?;
    let name = path.strip_prefix(top).unwrap_or(path).to_string_lossy().escape_debug().to_string();
    found.insert(name, describe(path, &meta, detail).map_err(failed)?);
    if meta.is_dir() {
        for entry in fs::read_dir(path).map_err(failed)? {
            look(&entry.map_err(failed)?.path(), top, detail, found)?;
        }
    }
    Ok(())
}

fn describe(path: &Path, meta: &Metadata, detail: Detail) -> std::io::Result<String> {
    let kind = meta.file_type();
    let mut text = format!("{:o} {}:{} rdev {}", meta.mode(), meta.uid(), meta.gid(), meta.rdev());
    if !kind.is_dir() {
        text += &format!(" {} bytes, changed {}.{:09}", meta.len(), meta.mtime(), meta.mtime_nsec());
    }
    if detail == Detail::Everything {
        text += &format!(
            " dev {} inode {} links {} times {}.{} {}.{} {}.{}",
            meta.dev(),
            meta.ino(),
            meta.nlink(),
            meta.atime(),
            meta.atime_nsec(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec()
        );
    }
    if kind.is_symlink() {
        text += &format!(" -> {}", fs::read_link(path)?.display());
    }
    if kind.is_file() {
        text += &format!(" contents {:016x}", hash(path)?);
    }
    // What is neither is not opened, and the kernel has no attributes of users for it.
    for name in attributes(path)? {
        let value = attribute(path, &name)?;
        text += &format!(" {}={value:02x?}", String::from_utf8_lossy(&name));
    }
    debug_assert!(!kind.is_socket() || meta.len() == 0, "a socket has no contents");
    Ok(text)
}

/// Without a time of access of our own.
fn hash(path: &Path) -> std::io::Result<u64> {
    let flags = (OFlags::NOATIME | OFlags::NOFOLLOW).bits().cast_signed();
    let mut file = File::options().read(true).custom_flags(flags).open(path)?;
    let mut hasher = DefaultHasher::new();
    let mut buffer = [0; 65536];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            n => hasher.write(&buffer[..n]),
        }
    }
}

fn attributes(path: &Path) -> std::io::Result<Vec<Vec<u8>>> {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names[..])?;
    let names = names[..length].split(|b| *b == 0).filter(|n| !n.is_empty());
    Ok(names.map(<[u8]>::to_vec).collect())
}

fn attribute(path: &Path, name: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut value = vec![0; 4096];
    let length = rustix::fs::lgetxattr(path, std::ffi::OsStr::from_bytes(name), &mut value[..])?;
    value.truncate(length);
    Ok(value)
}
