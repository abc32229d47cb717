//! Removing, at the end, the mount points that were made in the root because they were missing.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, FlockOperation, OFlags, ResolveFlags, flock, statat, unlinkat};
use rustix::io::Errno;

use super::handshake::Created;
use super::resolve::open_inside;

/// Removes what is still as it was made: an empty directory or an empty file. Not while another container lives in
/// the same root, as its mounts may be there. Answers what could not be removed.
pub fn remove(lock: &OwnedFd, created: &mut Vec<Created>) -> Vec<String> {
    let mut left = Vec::new();
    if created.is_empty() || flock(lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        created.clear();
        return left;
    }
    while let Some(made) = created.pop() {
        match remove_one(lock, &made) {
            // Gone already, or somebody uses it now: both are theirs.
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            Err(e) => left.push(format!("mount point '{}': {e}", made.path)),
        }
    }
    left
}

/// The same while the container lives on: answers those that are gone. The lock, which is shared, is ours alone for that
/// moment.
pub fn remove_now(lock: &OwnedFd, made: &[Created]) -> Vec<Created> {
    if made.is_empty() || flock(lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Vec::new();
    }
    let mut gone = made.to_vec();
    gone.reverse();
    gone.retain(|made| matches!(remove_one(lock, made), Ok(()) | Err(Errno::NOENT)));
    let _ = flock(lock, FlockOperation::LockShared);
    gone
}

fn remove_one(root: &OwnedFd, made: &Created) -> Result<(), Errno> {
    let (parent, name) = made.path.rsplit_once('/').ok_or(Errno::NOENT)?;
    let parent = open_inside(root, parent, OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::empty())?;
    if made.directory {
        return unlinkat(&parent, name, AtFlags::REMOVEDIR);
    }
    let stat = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let untouched = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size == 0;
    if untouched { unlinkat(&parent, name, AtFlags::empty()) } else { Ok(()) }
}
