//! Bytes between this program's standard streams and a socket, in one poll loop without allocation.
//!
//! Does not know whose bytes they are.

use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd;

use crate::client::Upgraded;
use crate::terminal::{Raw, Signals, Size, size};

const BUFFER: usize = 64 * 1024;

/// Why a console ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The user typed the escape character, or there is no more input.
    Escaped,
    /// The other side closed.
    Closed,
    /// A signal that ends programs came.
    Signal(Signal),
}

/// Takes the signals that matter to a console. Must come before any thread is started that would get them instead.
pub fn signals() -> io::Result<Signals> {
    Ok(Signals::take(&[
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGWINCH,
        Signal::SIGCONT,
    ])?)
}

/// Connects the terminal to a console until one of the three ends comes. The terminal is as before afterwards.
pub fn console(
    console: Upgraded,
    signals: &Signals,
    escape: u8,
    may_write: bool,
    mut resized: impl FnMut(Size),
) -> io::Result<End> {
    let raw = Raw::enter()?;
    write_all(io::stdout().as_fd(), &console.early)?;
    console.stream.set_nonblocking(true)?;
    let mut relay = Relay::new(console.stream, escape, may_write);
    loop {
        let ready = relay.wait(signals)?;
        if ready.signal {
            while let Some(signal) = signals.next() {
                match signal {
                    Signal::SIGWINCH => size().into_iter().for_each(&mut resized),
                    Signal::SIGCONT => raw.apply()?,
                    signal => return Ok(End::Signal(signal)),
                }
            }
        }
        if ready.socket && !relay.show()? {
            return Ok(End::Closed);
        }
        if ready.room {
            relay.send()?;
        }
        if ready.input && !relay.take_input()? {
            return Ok(End::Escaped);
        }
    }
}

/// What poll(2) said.
struct Ready {
    input: bool,
    socket: bool,
    room: bool,
    signal: bool,
}

/// The two directions.
struct Relay {
    socket: UnixStream,
    escape: u8,
    may_write: bool,
    buffer: Box<[u8]>,
    /// Input that the socket has not taken yet, and how much of it is there.
    waiting: Box<[u8]>,
    waiting_len: usize,
}

impl Relay {
    fn new(socket: UnixStream, escape: u8, may_write: bool) -> Self {
        let buffer = || vec![0; BUFFER].into_boxed_slice();
        Self { socket, escape, may_write, buffer: buffer(), waiting: buffer(), waiting_len: 0 }
    }

    /// Waits for something to do. Input is left where it is while none could be kept.
    fn wait(&self, signals: &Signals) -> io::Result<Ready> {
        let stdin = io::stdin();
        let mut socket_events = PollFlags::POLLIN;
        socket_events.set(PollFlags::POLLOUT, self.waiting_len > 0);
        let input_events = if self.waiting_len < BUFFER { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut fds = [
            PollFd::new(stdin.as_fd(), input_events),
            PollFd::new(self.socket.as_fd(), socket_events),
            PollFd::new(signals.fd.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let readable = PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR;
        let is = |i: usize, flags: PollFlags| fds[i].revents().is_some_and(|r| r.intersects(flags));
        Ok(Ready {
            input: is(0, readable),
            socket: is(1, readable),
            room: is(1, PollFlags::POLLOUT),
            signal: is(2, readable),
        })
    }

    /// Prints what the console sent; false at its end.
    fn show(&mut self) -> io::Result<bool> {
        match (&self.socket).read(&mut self.buffer) {
            Ok(0) => Ok(false),
            Ok(n) => write_all(io::stdout().as_fd(), &self.buffer[..n]).map(|()| true),
            Err(e) if is_temporary(&e) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Reads what was typed and passes it on; false at the escape character or the end of input.
    fn take_input(&mut self) -> io::Result<bool> {
        let room = BUFFER - self.waiting_len;
        let n = match unistd::read(io::stdin(), &mut self.buffer[..room]) {
            Ok(0) | Err(Errno::EIO) => return Ok(false),
            Ok(n) => n,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(true),
            Err(e) => return Err(e.into()),
        };
        let end = self.buffer[..n].iter().position(|b| *b == self.escape);
        if self.may_write {
            let n = end.unwrap_or(n);
            self.waiting[self.waiting_len..self.waiting_len + n].copy_from_slice(&self.buffer[..n]);
            self.waiting_len += n;
            self.send()?;
        }
        Ok(end.is_none())
    }

    /// Writes what is waiting, as far as the socket takes it.
    fn send(&mut self) -> io::Result<()> {
        let mut sent = 0;
        while sent < self.waiting_len {
            match io::Write::write(&mut &self.socket, &self.waiting[sent..self.waiting_len]) {
                Ok(n) => sent += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                // The other side is gone: reading will tell.
                Err(_) => sent = self.waiting_len,
            }
        }
        self.waiting.copy_within(sent..self.waiting_len, 0);
        self.waiting_len -= sent;
        Ok(())
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Writes everything, whether or not the descriptor blocks.
fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match unistd::write(fd, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let _ = poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], PollTimeout::NONE);
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Connects standard input and output to a socket until both directions have ended.
pub fn stdio(socket: &UnixStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER].into_boxed_slice();
    let mut input_open = true;
    loop {
        let stdin = io::stdin();
        let input_events = if input_open { PollFlags::POLLIN } else { PollFlags::empty() };
        let mut fds =
            [PollFd::new(socket.as_fd(), PollFlags::POLLIN), PollFd::new(stdin.as_fd(), input_events)];
        let watched = if input_open { 2 } else { 1 };
        match poll(&mut fds[..watched], PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let ready = |i: usize| fds[i].revents().is_some_and(|r| !r.is_empty());
        let (from_socket, from_input) = (ready(0), input_open && ready(1));
        if from_socket {
            match (&mut &*socket).read(&mut buffer)? {
                0 => return Ok(()),
                n => write_all(io::stdout().as_fd(), &buffer[..n])?,
            }
        }
        if from_input {
            match unistd::read(io::stdin(), &mut buffer)? {
                0 => {
                    input_open = false;
                    socket.shutdown(Shutdown::Write)?;
                }
                n => write_all(socket.as_fd(), &buffer[..n])?,
            }
        }
    }
}
