//! Devices of the host, and images that are made devices of: opened, looked at, and held.
//!
//! Each is one value that can be made and dropped alone; when it is dropped, what was made of an image goes. This module
//! does not know where in the container it is seen.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_schemas::controller::{PlanBacking, PlanCgroups, PlanDeviceKind};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;

use crate::failure::{Doing, Failure, Outcome, Step};

use super::{loops, nbd};

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The step that fails if it cannot be had.
    pub step: Step,
    /// What it must be in the end.
    pub kind: PlanDeviceKind,
    /// Absolute path of the device or of the image.
    pub source: &'a str,
    /// How it becomes a device.
    pub backing: PlanBacking,
    /// Format of an image for qemu-nbd.
    pub format: Option<&'a str>,
    /// Cannot be written to: for loop devices and nbd, by the device itself.
    pub readonly: bool,
    /// Path of qemu-nbd.
    pub qemu_nbd: Option<&'a str>,
    /// Groups of the domain, for a process of ours.
    pub groups: &'a PlanCgroups,
}

/// A device of the host that a container has.
#[derive(Debug)]
pub struct HostDevice {
    /// Major and minor number, as stat(2) has them.
    pub number: u64,
    /// Which kind.
    pub kind: PlanDeviceKind,
    /// Permissions that its file has on the host.
    pub mode: u32,
    /// Its path.
    pub path: String,
    held: OwnedFd,
    // After the descriptor: the server ends when nobody has the device open.
    _server: Option<nbd::Server>,
    image: bool,
}

impl AsFd for HostDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.held.as_fd()
    }
}

impl HostDevice {
    /// Whether a read-only one refuses to be written to whoever opens it: those that we have made do.
    pub fn is_readonly_itself(&self) -> bool {
        self.image
    }

    /// Reads its beginning; answers how much that is.
    pub fn read_start(&self, bytes: &mut [u8]) -> Result<usize, Errno> {
        let device = reopen(&self.held, OFlags::RDONLY)?;
        let mut length = 0;
        while length < bytes.len() {
            match rustix::io::pread(&device, &mut bytes[length..], length as u64)? {
                0 => break,
                some => length += some,
            }
        }
        Ok(length)
    }
}

/// What files are called in sentences.
fn in_words(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a file",
        FileType::Directory => "a directory",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        FileType::Fifo => "a fifo",
        FileType::Socket => "a socket",
        _ => "of an unknown kind",
    }
}

/// "it is X, and must be Y".
fn wrong_kind(doing: Doing<'_>, is: FileType, must: &str) -> Failure {
    doing.refused(format!("it is {}, and must be {must}", in_words(is)))
}

impl Wanted<'_> {
    /// Opens or makes it.
    pub fn open(&self) -> Outcome<HostDevice> {
        let doing = |operation| Doing::new(self.step, operation).path(self.source);
        // Without a look at what it is nothing is really opened: a tape would rewind.
        let host = open(self.source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| doing("open").failed(e))?;
        let stat = fstat(&host).map_err(|e| doing("stat").failed(e))?;
        let is = FileType::from_raw_mode(stat.st_mode);
        if self.backing == PlanBacking::Block {
            let (must, words) = match self.kind {
                PlanDeviceKind::Block => (FileType::BlockDevice, "a block device"),
                PlanDeviceKind::Char => (FileType::CharacterDevice, "a character device"),
            };
            if is != must {
                return Err(wrong_kind(doing("use"), is, words));
            }
            return Ok(HostDevice {
                number: stat.st_rdev,
                kind: self.kind,
                mode: stat.st_mode & 0o666,
                path: self.source.to_owned(),
                held: host,
                _server: None,
                image: false,
            });
        }
        if !matches!(is, FileType::RegularFile | FileType::BlockDevice) {
            return Err(wrong_kind(doing("use"), is, "an image"));
        }
        let (fd, path, server) = match self.backing {
            PlanBacking::Nbd => {
                let server = nbd::serve(self)?;
                let path = server.device.clone();
                let fd = open(&*path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                    .map_err(|e| Doing::new(self.step, "open").path(&path).failed(e))?;
                (fd, path, Some(server))
            }
            _ => {
                let (fd, path) = loops::make(self.step, self.source, &host, self.readonly)?;
                (fd, path, None)
            }
        };
        let number = fstat(&fd).map_err(|e| doing("stat").failed(e))?.st_rdev;
        Ok(HostDevice {
            number,
            kind: PlanDeviceKind::Block,
            mode: 0o660,
            path,
            held: fd,
            _server: server,
            image: true,
        })
    }
}

/// Opens again what a descriptor of O_PATH is of, with rights. No path of its own is looked up for that.
pub fn reopen(path_only: &OwnedFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    use std::os::fd::AsRawFd;
    open(format!("/proc/self/fd/{}", path_only.as_raw_fd()), flags | OFlags::CLOEXEC, Mode::empty())
}
