//! The file that tells the daemon how it ended, if the daemon was not there to hear it.

use berth_schemas::controller::ExitRecord;
use rustix::fs::{Mode, OFlags, open, rename, unlink};
use rustix::io::Errno;

use crate::files::write_all;

/// Writes it whole or not at all.
pub fn write(path: &str, record: &ExitRecord) -> Result<(), Errno> {
    let bytes = serde_json::to_vec(record).map_err(|_| Errno::INVAL)?;
    let new = format!("{path}.new");
    let written = write_new(&new, &bytes).and_then(|()| rename(&*new, path));
    if written.is_err() {
        let _ = unlink(&*new);
    }
    written
}

fn write_new(path: &str, bytes: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = open(path, flags, Mode::from_raw_mode(0o600))?;
    write_all(&file, bytes)
}
