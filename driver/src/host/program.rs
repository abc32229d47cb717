//! Programs of ours as sealed copies in memory (invariant I5).
//!
//! A controller and its helpers run inside containers' namespaces, where `/proc/PID/exe` leads to what they run. That is
//! never the file on disk (CVE-2019-5736): it is a memfd that nobody can write to any more, root included. The copy is
//! made once for each daemon, so all its controllers share its pages, and a package upgrade below a running daemon
//! gives it no controller that speaks another version. Does not know what they do.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

/// Of all files in memory.
const FLAGS: MemfdFlags = MemfdFlags::CLOEXEC.union(MemfdFlags::ALLOW_SEALING);

/// A program, copied when it is first needed.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    copy: OnceLock<File>,
}

impl Program {
    /// The program of that absolute path. Nothing is opened yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, copy: OnceLock::new() }
    }

    /// Where it is on disk.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path that runs the copy, for a child of this process: see proc(5) about `/proc/self/fd`.
    ///
    /// # Errors
    /// The program cannot be read, or there can be no executable memfd (`vm.memfd_noexec=2`, see memfd_create(2)).
    pub fn to_run(&self) -> io::Result<PathBuf> {
        Ok(format!("/proc/self/fd/{}", self.copy()?.as_raw_fd()).into())
    }

    /// A descriptor of the copy, for somebody else to run.
    ///
    /// # Errors
    /// As [`Self::to_run`].
    pub fn to_give(&self) -> io::Result<OwnedFd> {
        Ok(self.copy()?.try_clone()?.into())
    }

    fn copy(&self) -> io::Result<&File> {
        match self.copy.get() {
            Some(copy) => Ok(copy),
            None => {
                let made = sealed_copy(&self.path)?;
                Ok(self.copy.get_or_init(|| made))
            }
        }
    }
}

/// Text or bytes as a file in memory that nobody can write to.
///
/// # Errors
/// Those of memfd_create(2), and no memory.
pub fn sealed(name: &CStr, bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut memory = File::from(memfd_create(name, FLAGS)?);
    memory.write_all(bytes)?;
    seal(&memory)?;
    Ok(memory.into())
}

/// Nobody writes to it from now on, root included: F_ADD_SEALS of fcntl(2).
fn seal(memory: &File) -> io::Result<()> {
    fcntl_add_seals(memory, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(())
}

fn sealed_copy(path: &Path) -> io::Result<File> {
    let mut from = File::open(path)?;
    let name = path.file_name().unwrap_or_default();
    let memory = match memfd_create(name, FLAGS | MemfdFlags::EXEC) {
        // The flag came with Linux 6.3; before, every memfd could be run.
        Err(Errno::INVAL) => memfd_create(name, FLAGS),
        other => other,
    };
    let mut copy = File::from(memory.map_err(|e| match e {
        Errno::ACCESS => io::Error::new(
            io::ErrorKind::PermissionDenied,
            "no program may run from memory here: the sysctl vm.memfd_noexec is 2",
        ),
        e => e.into(),
    })?);
    io::copy(&mut from, &mut copy)?;
    seal(&copy)?;
    Ok(copy)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_copy_cannot_be_changed() {
        let program = Program::new("/bin/true".into());
        let path = program.to_run().expect("a copy");
        assert_eq!(path, program.to_run().expect("the same"));
        assert!(std::process::Command::new(&path).status().expect("run").success());
        // Opening it for writing still works for root, as with any memfd; writing does not.
        let error = match File::options().write(true).open(&path) {
            Ok(mut file) => file.write(b"#!").expect_err("a seal"),
            Err(e) => e,
        };
        assert!(matches!(error.raw_os_error(), Some(1 | 13 | 26)), "{error}");
        assert!(File::options().write(true).truncate(true).open(&path).is_err());
    }

    #[test]
    fn what_is_not_there_is_told() {
        let error = Program::new("/nonexistent/program".into()).to_run().expect_err("nothing there");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
