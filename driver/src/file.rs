//! Reading whole files, of which somebody else may have made anything: never more than was expected, and never a fifo.
//!
//! Does not know what is in them.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// The bytes of a regular file that is no link and has at most `most` bytes.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("longer than {most} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn what_is_too_long_or_no_file_is_refused() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("f");
        std::fs::write(&path, "12345").expect("written");
        assert_eq!(read(&path, 5).expect("short enough"), b"12345");
        assert_eq!(read(&path, 4).expect_err("too long").to_string(), "longer than 4 bytes");
        assert!(read(dir.path(), 4).is_err());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("linked");
        assert!(read(&link, 5).is_err());
        let fifo = dir.path().join("fifo");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).expect("made");
        assert_eq!(read(&fifo, 5).expect_err("a fifo").to_string(), "not a regular file");
    }
}
