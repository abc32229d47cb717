//! Lines, and standard error.
//!
//! A file takes a line at once. A pipe, a socket or a terminal does so as long as somebody reads: whether it would now
//! cannot be asked of it, as others may write to it as well.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::FileType;
use rustix::io::Errno;
use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

use super::queue::{Outlet, Queue, Share, Taken};
use super::share;

/// Where lines go.
#[derive(Debug)]
pub struct Stream {
    fd: OwnedFd,
    is_file: bool,
}

impl Stream {
    /// Into what is open there.
    pub fn to(fd: impl AsFd) -> io::Result<Self> {
        let fd = rustix::io::fcntl_dupfd_cloexec(fd, 3)?;
        let stat = rustix::fs::fstat(&fd)?;
        Ok(Self { is_file: FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile, fd })
    }
}

impl Outlet for Stream {
    fn at_once(&self, line: &[u8]) -> Taken {
        match self.is_file.then(|| self.wait(line)) {
            None => Taken::Later,
            Some(Ok(())) => Taken::Yes,
            Some(Err(_)) => Taken::No,
        }
    }

    fn wait(&self, line: &[u8]) -> io::Result<()> {
        let mut rest = line;
        while !rest.is_empty() {
            match rustix::io::write(&self.fd, rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                // Somebody else who has it open made it so.
                Err(Errno::AGAIN) => {
                    let mut fds = [PollFd::new(&self.fd, PollFlags::OUT)];
                    rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

/// Makes writers of lines.
#[derive(Debug)]
pub struct Lines(pub Arc<Queue>);

/// Takes one line as a whole.
#[derive(Debug)]
pub struct Line<'a> {
    queue: &'a Queue,
    share: Share,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { queue: &self.0, share: Share::Ordinary }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line<'a> {
        Line { queue: &self.0, share: share(meta) }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.queue.push(self.share, line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
