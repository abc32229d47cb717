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

/// Whether two descriptors are of one file by one mount.
fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> Result<bool, Errno> {
    let identity = |fd| {
        let found = statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID | StatxFlags::INO)?;
        Ok::<_, Errno>((found.stx_mnt_id, found.stx_ino))
    };
    Ok(identity(one)? == identity(other)?)
}

/// Something that was made because it was missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its path inside.
    pub path: String,
    /// Number of the mount that it is in.
    pub mount: u64,
    /// Whether it is a directory, and not an empty file.
    pub directory: bool,
}

/// Finds `path` inside `root`, or makes it: directories with mode 0755, and at the end a directory or an empty file.
/// What was made is added to `made`, outermost first, also if something below it cannot be made. A path that a link leads
/// to the root itself is refused with EBUSY: what is mounted there would hide everything.
pub fn find_or_make(
    root: BorrowedFd<'_>,
    path: &str,
    directory: bool,
    made: &mut Vec<Made>,
) -> Result<OwnedFd, Errno> {
    match find(root, path) {
        Err(Errno::NOENT) => {}
        Ok(found) if is_same(root, found.as_fd())? => return Err(Errno::BUSY),
        found => return found,
    }
    let names: Vec<&str> = path.split('/').filter(|n| !n.is_empty() && *n != ".").collect();
    let mut so_far = String::new();
    let mut at = find(root, "/")?;
    for (index, name) in names.iter().enumerate() {
        let last = index + 1 == names.len();
        so_far.push('/');
        so_far.push_str(name);
        match find(root, &so_far) {
            Ok(fd) => at = fd,
            // What is missing is made by name in a directory that is held open: `..` has no meaning there.
            Err(Errno::NOENT) if *name != ".." => {
                let directory = directory || !last;
                let mount = mount_id(at.as_fd())?;
                if directory {
                    make_directory(&at, name)?
                } else {
                    make_file(&at, name)?
                }
                made.push(Made { path: so_far.clone(), mount, directory });
                let kind = if directory { OFlags::DIRECTORY } else { OFlags::empty() };
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC | kind;
                at = openat(&at, *name, flags, Mode::empty())?;
            }
            Err(e) => return Err(e),
        }
    }
    Ok(at)
}

fn make_directory(parent: &OwnedFd, name: &str) -> Result<(), Errno> {
    mkdirat(parent, name, Mode::from_raw_mode(0o755))
}

fn make_file(parent: &OwnedFd, name: &str) -> Result<(), Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
}
