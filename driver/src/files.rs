//! Small files of our own: read and written without following a link, and never more than is meant to be in them.
//!
//! Who can plant a link in our folders is root already; but a link there must not turn a daemon into what reads or
//! overwrites another file (invariant I9). Does not know what is in any of them. All functions block.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Longest file of our own that is read: more than a thousand domains need.
pub const MOST: u64 = 16 << 20;

/// The bytes of a regular file that is no link and has at most `most` bytes.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // Non-blocking, as it could be a fifo.
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

/// The same as text, for a file of at most [`MOST`] bytes.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path, MOST)?).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// Opens a file to add to its end; one that is missing is made.
pub fn append(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(path)
}

/// Replaces what is in a file.
pub fn overwrite(path: &Path, text: &str) -> io::Result<()> {
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(flags);
    options.open(path)?.write_all(text.as_bytes())
}

/// Replaces a file as a whole: a daemon that is killed here leaves the one before.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    overwrite(&new, text)?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn links_are_not_followed_and_only_files_are_read() {
        let dir = tempfile::tempdir().expect("folder");
        let path = |name: &str| dir.path().join(name);
        overwrite(&path("a"), "one").expect("written");
        overwrite(&path("a"), "2").expect("written again");
        append(&path("a")).and_then(|mut f| f.write_all(b"3")).expect("added");
        assert_eq!(read_text(&path("a")).expect("read"), "23");
        std::os::unix::fs::symlink(path("a"), path("link")).expect("linked");
        assert!(read_text(&path("link")).is_err());
        assert!(append(&path("link")).is_err());
        assert!(overwrite(&path("link"), "x").is_err());
        std::os::unix::fs::symlink(path("new"), path("dangling")).expect("linked");
        assert!(append(&path("dangling")).is_err() && overwrite(&path("dangling"), "x").is_err());
        assert!(!path("new").exists());
        assert!(read_text(dir.path()).is_err());
        assert!(read_text(Path::new("/dev/zero")).is_err());
        let flags = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, path("fifo"), rustix::fs::FileType::Fifo, flags, 0)
            .expect("made");
        assert!(read_text(&path("fifo")).is_err());
        File::create(path("long")).and_then(|f| f.set_len(MOST + 1)).expect("made");
        assert!(read_text(&path("long")).is_err());
        assert_eq!(read(&path("a"), 1).expect_err("too long").to_string(), "longer than 1 bytes");
        assert_eq!(read_text(&path("a")).expect("read"), "23");
    }
}
