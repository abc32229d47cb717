//! The socket between the controller and the future init: one packet, one piece of news.
//!
//! The future init tells each step it enters, each mount point it makes, and what failed. The end of the socket after
//! [`News::Ready`] is the success of exec, as the descriptor closes there.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, socketpair};

use crate::failure::{Failure, Step};
use crate::parcels;

/// What the future init tells.
#[derive(Debug)]
pub enum News {
    /// It enters a step.
    Enter(Step),
    /// It is in its namespaces, and waits to go on.
    Joined,
    /// The future init was born, as a child of the controller with this pid.
    Born(i32),
    /// It made a mount point that was missing.
    Created(Created),
    /// Its mount has this number.
    Mounted(u64),
    /// It cannot go on and ends.
    Failed(Failure),
    /// It wants to be killed here: pid 1 of a namespace cannot do that itself (pid_namespaces(7)).
    KillMe,
    /// Where system calls are received that the controller answers: always there but in what [`News::read`] makes.
    Calls(Option<OwnedFd>),
    /// It has found the socket on which init says that it is ready.
    FoundNotify,
    /// The next thing is exec.
    Ready,
}

/// A mount point that was made because it was missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Path inside the root.
    pub path: String,
    /// Whether it is a directory.
    pub directory: bool,
}

/// One end.
#[derive(Debug)]
pub struct Handshake {
    socket: OwnedFd,
}

/// Longest packet: a failure with two paths of PATH_MAX (4096) and escapes.
const LONGEST: usize = 64 * 1024;

impl Handshake {
    /// Both ends.
    pub fn pair() -> Result<(Self, Self), Errno> {
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self { socket: a }, Self { socket: b }))
    }

    /// The end from its descriptor.
    pub fn from_socket(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// The descriptor of the end.
    pub fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Lets the other side go on.
    pub fn go(&self) -> Result<(), Errno> {
        self.send(b"g")
    }

    /// Waits for [`Handshake::go`]; an error if the other side has ended.
    pub fn wait_for_go(&self) -> Result<(), Errno> {
        let mut byte = [0; 1];
        match recv(&self.socket, &mut byte[..], RecvFlags::empty())? {
            (1, _) => Ok(()),
            _ => Err(Errno::PIPE),
        }
    }

    /// Tells news.
    pub fn tell(&self, news: &News) -> Result<(), Errno> {
        match news {
            News::Enter(step) => self.send(format!("s{}", step.name()).as_bytes()),
            News::Created(c) => {
                let kind = if c.directory { "d" } else { "f" };
                self.send(format!("c{kind}{}", c.path).as_bytes())
            }
            News::Failed(failure) => {
                let mut bytes = b"f".to_vec();
                bytes.extend(serde_json::to_vec(failure).unwrap_or_default());
                self.send(&bytes)
            }
            News::Joined => self.send(b"j"),
            News::Born(pid) => self.send(format!("b{pid}").as_bytes()),
            News::Mounted(id) => self.send(format!("m{id}").as_bytes()),
            News::KillMe => self.send(b"k"),
            News::Calls(listener) => {
                let listener = listener.as_ref().map(AsFd::as_fd);
                parcels::send(&self.socket, b"l", listener, SendFlags::empty()).map(drop)
            }
            News::FoundNotify => self.send(b"n"),
            News::Ready => self.send(b"r"),
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Errno> {
        parcels::send(&self.socket, bytes, None, SendFlags::empty()).map(drop)
    }

    /// Reads the next news; `None` at the end. Unreadable packets, which only a bug can make, are an error.
    pub fn next(&self) -> Result<Option<News>, Errno> {
        let mut buffer = vec![0; LONGEST];
        let mut received = Vec::new();
        let length = match parcels::receive(&self.socket, &mut buffer, &mut received, RecvFlags::empty()) {
            // The other side has ended without reading everything.
            Err(Errno::CONNRESET) => return Ok(None),
            got => got?,
        };
        if length == 0 {
            return Ok(None);
        }
        match News::read(&buffer[..length]) {
            Some(News::Calls(_)) if received.is_empty() => Err(Errno::PROTO),
            Some(News::Calls(_)) => Ok(Some(News::Calls(received.pop()))),
            news => news.map(Some).ok_or(Errno::PROTO),
        }
    }
}

impl News {
    /// Reads a packet; none if it is not one of ours.
    pub fn read(packet: &[u8]) -> Option<Self> {
        let (kind, rest) = packet.split_first()?;
        let text = || std::str::from_utf8(rest).ok();
        match kind {
            b's' => Step::from_name(text()?).map(News::Enter),
            b'c' => read_created(text()?).map(News::Created),
            b'f' => serde_json::from_slice(rest).ok().map(News::Failed),
            b'j' => Some(News::Joined),
            b'b' => text()?.parse().ok().map(News::Born),
            b'm' => text()?.parse().ok().map(News::Mounted),
            b'k' => Some(News::KillMe),
            b'l' => Some(News::Calls(None)),
            b'n' => Some(News::FoundNotify),
            b'r' => Some(News::Ready),
            _ => None,
        }
    }
}

fn read_created(text: &str) -> Option<Created> {
    let (kind, path) = text.split_at_checked(1)?;
    Some(Created { path: path.to_owned(), directory: kind == "d" })
}

impl AsFd for Handshake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn news_arrive_as_they_were_told() {
        let (a, b) = Handshake::pair().expect("socketpair");
        let made = Created { path: "/a:b".into(), directory: true };
        a.tell(&News::Created(made.clone())).expect("send");
        a.tell(&News::Enter(Step::Hide)).expect("send");
        assert!(matches!(b.next(), Ok(Some(News::Created(c))) if c == made));
        assert!(matches!(b.next(), Ok(Some(News::Enter(Step::Hide)))));
        let (listener, _) = Handshake::pair().expect("socketpair");
        a.tell(&News::Calls(Some(listener.into_socket()))).expect("send");
        assert!(matches!(b.next(), Ok(Some(News::Calls(Some(_))))));
        a.tell(&News::Calls(None)).expect("send");
        assert!(matches!(b.next(), Err(Errno::PROTO)));
        drop(a);
        assert!(matches!(b.next(), Ok(None)));
    }
}
