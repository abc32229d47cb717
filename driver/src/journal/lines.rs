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

#[cfg(test)]
mod test {
    use std::io::{BufRead, BufReader};
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_full_pipe_stops_nobody_and_loses_what_it_tells() {
        let (read, write) = io::pipe().expect("a pipe");
        // As somebody who has it open may make it.
        rustix::io::ioctl_fionbio(&write, true).expect("not blocking");
        let tell = |queue: &Queue, lost: u64| queue.push(Share::Loss, format!("lost {lost}\n").into_bytes());
        let queue = Queue::start(Box::new(Stream::to(&write).expect("a stream")), tell).expect("a queue");
        for n in 0..4000 {
            queue.push(Share::Record, format!("{n:999}\n").into_bytes());
        }
        let mut lines = BufReader::new(read).lines().map_while(Result::ok);
        for n in 0..4000 {
            let line = lines.next().expect("a line");
            match line.trim().strip_prefix("lost ") {
                Some(lost) => return assert_eq!(lost.parse(), Ok(4000 - n)),
                None => assert_eq!(line.trim(), n.to_string()),
            }
        }
        panic!("nothing was lost");
    }

    #[test]
    fn a_file_has_a_line_at_once() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let stream = Stream::to(&file).expect("a stream");
        let queue = Queue::start(Box::new(stream), |_, _| {}).expect("a queue");
        let line = Line { queue: &queue, share: Share::Ordinary }.write(b"one\n");
        assert_eq!(line.expect("written"), 4);
        assert_eq!(std::fs::read_to_string(file.path()).expect("read"), "one\n");
        queue.finish(Duration::from_secs(9));
    }
}
