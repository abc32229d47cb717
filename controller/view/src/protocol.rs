//! The kernel's FUSE protocol as far as it is needed here: requests from bytes, replies as bytes; linux/fuse.h.
//!
//! The bytes come from the kernel, but names and numbers in them from whoever asks inside. Does not know which files
//! there are.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// A request is read into so much; the kernel insists on it (FUSE_MIN_READ_BUFFER).
pub const LONGEST: usize = 8192;

/// Length of `struct fuse_in_header`.
const HEADER: usize = 40;

/// Length of `struct fuse_out_header`.
pub const REPLY_HEADER: usize = 16;

/// The longest name of a file (NAME_MAX).
pub const LONGEST_NAME: usize = 255;

/// Longest time that the kernel keeps what cannot change: it would ask at each open otherwise.
const FOR_EVER: u64 = 1 << 31;

/// The protocol that is spoken: the oldest that a kernel we run on can have (Linux 5.11 has 7.32).
const MINOR: u32 = 31;

/// Several look-ups in one directory at once.
const PARALLEL_DIROPS: u32 = 1 << 18;

/// How long attributes are kept: those of files not at all. What was copied by sendfile(2) leaves its length behind as the
/// size, and less would be copied the next time.
fn kept(a: &Attributes) -> u64 {
    if a.directory { FOR_EVER } else { 0 }
}

/// Reads go here each time, whatever the size of the file is said to be.
const DIRECT_IO: u32 = 1;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    /// How to speak: the kernel's version.
    Init {
        /// Must be 7.
        major: u32,
        /// The kernel's.
        minor: u32,
    },
    /// A name in a directory.
    Lookup {
        /// The name.
        name: &'a OsStr,
    },
    /// Attributes.
    Attributes,
    /// A file is opened.
    Open,
    /// A directory is opened.
    OpenDirectory,
    /// A part of a file.
    Read {
        /// Which open file.
        handle: u64,
        /// From where.
        offset: u64,
        /// So much at most.
        size: u32,
    },
    /// A part of a directory.
    List {
        /// After which entry.
        offset: u64,
        /// So many bytes at most.
        size: u32,
    },
    /// A file is closed by everybody.
    Release {
        /// Which open file.
        handle: u64,
    },
    /// A directory is closed.
    ReleaseDirectory,
    /// About the file system.
    FileSystem,
    /// May somebody?
    Access {
        /// As of access(2).
        mask: u32,
    },
    /// Nothing is to be answered.
    Silent,
    /// The end.
    Destroy,
    /// Anything else.
    Other,
}

/// A request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// Number of the request.
    pub unique: u64,
    /// Number of the file.
    pub node: u64,
    /// What is asked for.
    pub operation: Operation<'a>,
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// A name that ends with a zero byte, as the kernel writes it. It may be longer than any that there is.
fn name(body: &[u8]) -> Option<&OsStr> {
    let end = body.iter().position(|b| *b == 0)?;
    (end > 0).then(|| OsStr::from_bytes(&body[..end]))
}

impl<'a> Request<'a> {
    /// Reads one request, which is all of `bytes`. None if it is none.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() > LONGEST || u32_at(bytes, 0)? as usize != bytes.len() {
            return None;
        }
        let (opcode, unique, node) = (u32_at(bytes, 4)?, u64_at(bytes, 8)?, u64_at(bytes, 16)?);
        let body = bytes.get(HEADER..)?;
        let operation = match opcode {
            1 => Operation::Lookup { name: name(body)? },
            3 => Operation::Attributes,
            14 => Operation::Open,
            15 => Operation::Read {
                handle: u64_at(body, 0)?,
                offset: u64_at(body, 8)?,
                size: u32_at(body, 16)?,
            },
            17 => Operation::FileSystem,
            18 => Operation::Release { handle: u64_at(body, 0)? },
            26 => Operation::Init { major: u32_at(body, 0)?, minor: u32_at(body, 4)? },
            27 => Operation::OpenDirectory,
            28 => Operation::List { offset: u64_at(body, 8)?, size: u32_at(body, 16)? },
            29 => Operation::ReleaseDirectory,
            34 => Operation::Access { mask: u32_at(body, 0)? },
            // Forgotten files, one or many: each number means the same file always. An interruption: whatever it is
            // about is answered before the next request is read.
            2 | 36 | 42 => Operation::Silent,
            38 => Operation::Destroy,
            _ => Operation::Other,
        };
        Some(Self { unique, node, operation })
    }
}

/// What a file is, for its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Number of the file.
    pub node: u64,
    /// It is a directory.
    pub directory: bool,
    /// What is shown as its size.
    pub size: u64,
    /// User and group.
    pub owner: (u32, u32),
    /// Seconds since 1970.
    pub changed: u64,
}

/// The bytes of an answer, without their header.
#[derive(Debug, Default)]
pub struct Body(Vec<u8>);

impl Body {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    /// `struct fuse_init_out`.
    pub fn init(minor: u32) -> Self {
        let mut body = Self::default().u32(7).u32(minor.min(MINOR)).u32(0).u32(PARALLEL_DIROPS);
        // Background requests, none of which there are; the longest write, of which there are none either.
        body = body.u16(12).u16(9).u32(4096).u32(1).u16(0).u16(0);
        body.0.resize(64, 0);
        body
    }

    fn attr(self, a: &Attributes) -> Self {
        let mode = if a.directory { 0o040_555 } else { 0o100_444 };
        let links = if a.directory { 2 } else { 1 };
        self.u64(a.node)
            .u64(a.size)
            .u64(0)
            .u64(a.changed)
            .u64(a.changed)
            .u64(a.changed)
            .u32(0)
            .u32(0)
            .u32(0)
            .u32(mode)
            .u32(links)
            .u32(a.owner.0)
            .u32(a.owner.1)
            .u32(0)
            .u32(4096)
            .u32(0)
    }

    /// `struct fuse_entry_out`. `fixed`: the name will always be there.
    pub fn entry(a: &Attributes, fixed: bool) -> Self {
        let name = if fixed { FOR_EVER } else { 0 };
        Self::default().u64(a.node).u64(0).u64(name).u64(kept(a)).u32(0).u32(0).attr(a)
    }

    /// `struct fuse_attr_out`.
    pub fn attributes(a: &Attributes) -> Self {
        Self::default().u64(kept(a)).u32(0).u32(0).attr(a)
    }

    /// `struct fuse_open_out`.
    pub fn open(handle: u64, directory: bool) -> Self {
        Self::default().u64(handle).u32(if directory { 0 } else { DIRECT_IO }).u32(0)
    }

    /// `struct fuse_statfs_out`: a file system without blocks.
    pub fn file_system() -> Self {
        let body = Self::default().u64(0).u64(0).u64(0).u64(0).u64(0);
        let mut body = body.u32(4096).u32(LONGEST_NAME as u32).u32(4096).u32(0);
        body.0.resize(80, 0);
        body
    }

    /// One more `struct fuse_dirent`, unless it would be more than `size` then.
    pub fn push_entry(&mut self, node: u64, next: u64, directory: bool, name: &str, size: usize) -> bool {
        let length = (24 + name.len()).next_multiple_of(8);
        if self.0.len() + length > size {
            return false;
        }
        let end = self.0.len() + length;
        // DT_DIR and DT_REG of readdir(3).
        let kind = if directory { 4 } else { 8 };
        let mut body = std::mem::take(self).u64(node).u64(next).u32(name.len() as u32).u32(kind);
        body.0.extend(name.as_bytes());
        body.0.resize(end, 0);
        *self = body;
        true
    }
}

/// `struct fuse_out_header` of an answer with `length` bytes behind it; `error` is 0 or an errno.
pub fn reply_header(unique: u64, error: i32, length: usize) -> [u8; REPLY_HEADER] {
    let mut header = [0; REPLY_HEADER];
    header[..4].copy_from_slice(&((REPLY_HEADER + length) as u32).to_ne_bytes());
    header[4..8].copy_from_slice(&(-error).to_ne_bytes());
    header[8..].copy_from_slice(&unique.to_ne_bytes());
    header
}

#[cfg(test)]
mod test {
    use super::*;

    fn request(opcode: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(opcode.to_ne_bytes());
        bytes.extend(7_u64.to_ne_bytes());
        bytes.extend(1_u64.to_ne_bytes());
        bytes.resize(HEADER, 0);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn requests_are_read_whole_or_not() {
        let bytes = request(1, b"meminfo\0");
        let read = Request::read(&bytes).expect("a request");
        assert_eq!((read.unique, read.node), (7, 1));
        assert_eq!(read.operation, Operation::Lookup { name: OsStr::new("meminfo") });
        for cut in 0..bytes.len() {
            assert_eq!(Request::read(&bytes[..cut]), None);
        }
        assert_eq!(Request::read(&request(1, b"\0")), None);
        assert_eq!(Request::read(&request(1, &[b'x'; 300])), None);
        // FUSE_NAME_MAX of the kernel is more than NAME_MAX: whoever asks for it must get an answer.
        assert!(Request::read(&request(1, &[&[b'x'; 300][..], &[0]].concat())).is_some());
        assert_eq!(Request::read(&request(15, &[0; 19])), None);
        assert_eq!(Request::read(&request(99, &[])).map(|r| r.operation), Some(Operation::Other));
    }

    #[test]
    fn layouts_are_the_kernels() {
        let a = Attributes { node: 2, directory: false, size: 0, owner: (1, 2), changed: 3 };
        assert_eq!(Body::init(99).bytes().len(), 64);
        assert_eq!(Body::entry(&a, true).bytes().len(), 128);
        assert_eq!(Body::attributes(&a).bytes().len(), 104);
        assert_eq!(Body::open(1, false).bytes().len(), 16);
        assert_eq!(Body::file_system().bytes().len(), 80);
        let mut list = Body::default();
        assert!(list.push_entry(2, 1, false, "meminfo", 40));
        assert_eq!(list.bytes().len(), 32);
        assert!(!list.push_entry(2, 2, false, "stat", 40));
        let error = reply_header(7, 5, 0);
        assert_eq!(
            (u32_at(&error, 0), u32_at(&error, 4), u64_at(&error, 8)),
            (Some(16), Some(-5_i32 as u32), Some(7))
        );
    }
}
