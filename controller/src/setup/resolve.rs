//! Paths inside a root: opened without ever leaving it, and made where they are missing.
//!
//! Every lookup is one openat2(2) with RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS relative to the descriptor of the
//! root, so no symlink, `..` or race in the tree can lead out (invariant I1). This module does not mount.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags, fstat, mkdirat, openat, openat2, statx,
};
use rustix::io::Errno;

/// Opens `path` inside `root`. Tried again when the kernel saw a rename on the way (EAGAIN, see openat2(2)).
pub fn open_inside(
    root: impl AsFd,
    path: &str,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let relative = path.trim_start_matches('/');
    let relative = if relative.is_empty() { "." } else { relative };
    let resolve = resolve | ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 0;
    loop {
        match openat2(&root, relative, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if tries < 128 => tries += 1,
            result => return result,
        }
    }
}

/// An O_PATH descriptor of `path` inside `root`.
pub fn find(root: impl AsFd, path: &str) -> Result<OwnedFd, Errno> {
    open_inside(root, path, OFlags::PATH, ResolveFlags::empty())
}

/// What kind of file a descriptor is of.
pub fn kind(fd: impl AsFd) -> Result<FileType, Errno> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode))
}

/// Number of the mount that a descriptor was opened through.
pub fn mount_id(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    Ok(statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id)
}

/// A mount point and what had to be made for it: paths, outermost first, each with the directory it was made in.
#[derive(Debug)]
pub struct MountPoint {
    /// O_PATH descriptor of it.
    pub fd: OwnedFd,
    /// What was made: path inside and number of the mount it is in.
    pub made: Vec<(String, u64)>,
}

/// Finds `path` inside `root`, or makes it: directories with mode 0755, and at the end a directory or an empty file.
pub fn find_or_make(root: BorrowedFd<'_>, path: &str, directory: bool) -> Result<MountPoint, Errno> {
    match find(root, path) {
        Err(Errno::NOENT) => {}
        found => return Ok(MountPoint { fd: found?, made: Vec::new() }),
    }
    let names: Vec<&str> = path.split('/').filter(|n| !n.is_empty() && *n != ".").collect();
    let mut made = Vec::new();
    let mut so_far = String::new();
    let mut at = find(root, "/")?;
    for (index, name) in names.iter().enumerate() {
        let last = index + 1 == names.len();
        let before = so_far.clone();
        so_far.push('/');
        so_far.push_str(name);
        match find(root, &so_far) {
            Ok(fd) => at = fd,
            // What is missing is made by name in a directory that is held open: `..` has no meaning there.
            Err(Errno::NOENT) if *name != ".." => {
                let mount = mount_id(at.as_fd())?;
                at = if last && !directory { make_file(&at, name)? } else { make_directory(&at, name)? };
                made.push((format!("{before}/{name}"), mount));
            }
            Err(e) => return Err(e),
        }
    }
    Ok(MountPoint { fd: at, made })
}

fn make_directory(parent: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
    openat(parent, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn make_file(parent: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    drop(openat(parent, name, flags, Mode::from_raw_mode(0o644))?);
    openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}
