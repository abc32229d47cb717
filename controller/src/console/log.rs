//! The file with everything that a console prints, and its rotation. Nothing that goes wrong here ends anything.

use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, fstat, open, rename};
use rustix::io::Errno;

/// How long after a failure to open the file that is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A log.
#[derive(Debug)]
pub struct Log {
    path: String,
    /// Size at which it is rotated; 0 is never.
    most: u64,
    keep: u32,
    file: Option<OwnedFd>,
    size: u64,
    retry_at: Option<Instant>,
}

impl Log {
    /// Opens or makes the file.
    pub fn open(path: &str, most: u64, keep: u32) -> Result<Self, Errno> {
        let mut log = Self { path: path.to_owned(), most, keep, file: None, size: 0, retry_at: None };
        log.reopen()?;
        Ok(log)
    }

    fn reopen(&mut self) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = open(&*self.path, flags | OFlags::NOCTTY | OFlags::NONBLOCK, Mode::from_raw_mode(0o600))?;
        self.size = u64::try_from(fstat(&file)?.st_size).unwrap_or(0);
        self.file = Some(file);
        self.retry_at = None;
        Ok(())
    }

    /// Adds bytes. What cannot be written is lost: a full disk must not stop a container.
    pub fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let full = self.most > 0 && self.size > 0 && self.size + bytes.len() as u64 > self.most;
            if full {
                self.rotate();
            }
            if self.file.is_none() && !self.try_again() {
                return;
            }
            let Some(file) = &self.file else { return };
            let piece = if self.most > 0 { bytes.len().min(self.most as usize) } else { bytes.len() };
            match rustix::io::write(file, &bytes[..piece]) {
                Ok(n) => {
                    self.size += n as u64;
                    bytes = &bytes[n..];
                }
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    fn try_again(&mut self) -> bool {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return false;
        }
        let opened = self.reopen().is_ok();
        if !opened {
            self.retry_at = Some(Instant::now() + RETRY);
        }
        opened
    }

    /// NAME.1 becomes NAME.2 and so on, NAME becomes NAME.1. The oldest is replaced.
    fn rotate(&mut self) {
        for number in (1..self.keep).rev() {
            let _ = rename(format!("{}.{number}", self.path), format!("{}.{}", self.path, number + 1));
        }
        let moved = if self.keep > 0 {
            rename(&*self.path, format!("{}.1", self.path))
        } else {
            rustix::fs::unlink(&*self.path)
        };
        if moved.is_ok() {
            self.file = None;
            self.size = 0;
        } else {
            // Better a log that grows than none; the next try comes after as many bytes again.
            self.size = 0;
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn directory(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("berth-log-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("mkdir");
        path
    }

    #[test]
    fn rotated_logs_keep_their_order_and_number() {
        let dir = directory("rotate");
        let path = dir.join("log");
        let mut log = Log::open(path.to_str().expect("utf-8"), 10, 2).expect("open");
        for text in ["aaaaaaaa", "bbbbbbbb", "cccccccc", "dddddddd"] {
            log.write(text.as_bytes());
        }
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).ok();
        assert_eq!(read("log").as_deref(), Some("dddddddd"));
        assert_eq!(read("log.1").as_deref(), Some("cccccccc"));
        assert_eq!(read("log.2").as_deref(), Some("bbbbbbbb"));
        assert_eq!(read("log.3"), None);
        log.write(&[b'x'; 25]);
        assert_eq!(read("log").map(|l| l.len()), Some(5));
        assert_eq!(read("log.1").map(|l| l.len()), Some(10));
        std::fs::remove_dir_all(dir).expect("rm");
    }

    #[test]
    fn a_link_is_not_followed_and_a_full_disk_is_survived() {
        let dir = directory("link");
        let path = dir.join("log");
        std::os::unix::fs::symlink("/dev/full", &path).expect("symlink");
        assert!(Log::open(path.to_str().expect("utf-8"), 0, 0).is_err());
        let mut full = Log::open("/dev/full", 0, 0).expect("open");
        full.write(b"lost");
        std::fs::remove_dir_all(dir).expect("rm");
    }
}
