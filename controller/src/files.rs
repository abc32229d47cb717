//! Files by their descriptors. Does not know what is in them.

use std::os::fd::AsFd;

use rustix::io::{Errno, write};

/// Writes all of it, in as many calls as the kernel wants.
pub fn write_all(file: impl AsFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match write(&file, bytes)? {
            0 => return Err(Errno::IO),
            written => bytes = &bytes[written..],
        }
    }
    Ok(())
}
