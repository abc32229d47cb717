//! Whole messages in and out of a stream socket, each with the descriptors that came along with it.
//!
//! The kernel hands descriptors out with a range of bytes, not with a message. A range ends with the bytes that the
//! descriptors were sent with, so they belong to the last message that begins in it.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use berth_schemas::wire::{FrameError, Framer, MAX_DESCRIPTORS, MAX_MESSAGE};
use rustix::event::{PollFd, PollFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// How much one read takes.
const CHUNK: usize = 16 << 10;

/// One message.
#[derive(Debug)]
pub struct Message {
    /// Without its NUL.
    pub bytes: Vec<u8>,
    /// In the order in which they were sent.
    pub descriptors: Vec<OwnedFd>,
}

/// Why no message comes.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What came is not a message.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// More descriptors with one message than the kernel lets pass at once.
    #[error("more than {MAX_DESCRIPTORS} descriptors with one message")]
    TooManyDescriptors,
}

/// A connection.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    framer: Framer,
    /// Descriptors, each with the number of the message it belongs to.
    waiting: VecDeque<(u64, OwnedFd)>,
    /// Messages that are whole, given out or not.
    whole: u64,
    /// Messages given out.
    given: u64,
    ended: bool,
}

impl Channel {
    /// Takes a connected socket.
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, framer: Framer::default(), waiting: VecDeque::new(), whole: 0, given: 0, ended: false }
    }

    /// The socket.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// The next message, or `None` when the other side has ended. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Option<Message>, ChannelError> {
        loop {
            if let Some(message) = self.buffered()? {
                return Ok(Some(message));
            }
            if self.ended {
                return Ok(None);
            }
            self.fill().await?;
        }
    }

    /// The next message if it is here already.
    pub fn buffered(&mut self) -> Result<Option<Message>, ChannelError> {
        let Some(bytes) = self.framer.next_message()? else { return Ok(None) };
        let mut descriptors = Vec::new();
        while self.waiting.front().is_some_and(|(message, _)| *message <= self.given) {
            if let Some((message, fd)) = self.waiting.pop_front()
                && message == self.given
            {
                descriptors.push(fd);
            }
        }
        self.given += 1;
        Ok(Some(Message { bytes, descriptors }))
    }

    /// Reads once. Bytes pile up here only while nobody takes messages; see [`Self::watch`].
    async fn fill(&mut self) -> Result<(), ChannelError> {
        loop {
            self.stream.readable().await?;
            match self.stream.try_io(Interest::READABLE, || receive(self.stream.as_fd())) {
                Ok(got) => return self.accept(got),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                // The other side closed with answers of ours unread: an end like any other.
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {
                    self.ended = true;
                    return Ok(());
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn accept(&mut self, got: Received) -> Result<(), ChannelError> {
        if got.bytes.is_empty() {
            self.ended = true;
            return Ok(());
        }
        self.whole += got.bytes.iter().filter(|b| **b == 0).count() as u64;
        let owner = if got.bytes.last() == Some(&0) { self.whole - 1 } else { self.whole };
        self.waiting.extend(got.descriptors.into_iter().map(|fd| (owner, fd)));
        self.framer.push(&got.bytes);
        if self.waiting.iter().filter(|(message, _)| *message == owner).count() > MAX_DESCRIPTORS {
            return Err(ChannelError::TooManyDescriptors);
        }
        Ok(())
    }

    /// Waits until the other side is gone, for a caller that has nothing to read now. What comes meanwhile is kept,
    /// up to one longest message.
    pub async fn watch(&mut self) {
        let mut kept = 0;
        while !self.ended && kept <= MAX_MESSAGE {
            if self.fill().await.is_err() {
                return;
            }
            kept += CHUNK;
        }
        // The other side may only have closed its sending half, or have sent too much: look for its end now and then.
        while !self.hung_up() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn hung_up(&self) -> bool {
        let mut fds = [PollFd::new(&self.stream, PollFlags::empty())];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        match rustix::event::poll(&mut fds, Some(&now)) {
            Ok(_) => fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR),
            Err(_) => true,
        }
    }

    /// Takes what has come but was not asked for.
    pub fn take_rest(&mut self) -> Vec<u8> {
        self.framer.take_rest()
    }

    /// Puts back what [`Self::take_rest`] took.
    pub fn put_back(&mut self, rest: &[u8]) {
        let behind = self.framer.take_rest();
        self.framer.push(rest);
        self.framer.push(&behind);
    }

    /// Sends bytes, the descriptors with the first of them.
    pub async fn send(&mut self, mut bytes: &[u8], mut descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.stream.writable().await?;
            match self.stream.try_io(Interest::WRITABLE, || transmit(self.stream.as_fd(), bytes, descriptors))
            {
                Ok(sent) => {
                    bytes = &bytes[sent..];
                    descriptors = &[];
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

struct Received {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

fn receive(socket: BorrowedFd<'_>) -> io::Result<Received> {
    let mut buffer = [0_u8; CHUNK];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut buffer)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    )?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok(Received { bytes: buffer[..got.bytes].to_vec(), descriptors })
}

fn transmit(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)?)
}

#[cfg(test)]
mod test {
    use super::*;

    fn pair() -> (Channel, Channel) {
        let (a, b) = UnixStream::pair().expect("socket pair");
        (Channel::new(a), Channel::new(b))
    }

    #[tokio::test]
    async fn descriptors_stay_with_their_message() {
        let (mut a, mut b) = pair();
        let null = std::fs::File::open("/dev/null").expect("there");
        a.send(b"{}\0", &[]).await.expect("sent");
        a.send(b"{\"a\":1}\0", &[null.as_fd(), null.as_fd()]).await.expect("sent");
        a.send(b"{}\0", &[]).await.expect("sent");
        let mut counts = Vec::new();
        for _ in 0..3 {
            counts.push(b.next().await.expect("good").expect("there").descriptors.len());
        }
        assert_eq!(counts, [0, 2, 0]);
    }

    #[tokio::test]
    async fn long_messages_keep_descriptors_and_the_end_is_seen() {
        let (mut a, mut b) = pair();
        let null = std::fs::File::open("/dev/null").expect("there");
        let long = format!("{{\"a\":\"{}\"}}\0", "x".repeat(300_000));
        let sender = tokio::spawn(async move { a.send(long.as_bytes(), &[null.as_fd()]).await });
        let got = b.next().await.expect("good").expect("there");
        assert_eq!((got.bytes.len(), got.descriptors.len()), (300_008, 1));
        sender.await.expect("ran").expect("sent");
        assert!(b.next().await.expect("good").is_none());
    }

    #[tokio::test]
    async fn what_was_put_back_comes_again() {
        let (mut a, mut b) = pair();
        a.send(b"{}\0raw", &[]).await.expect("sent");
        b.next().await.expect("good");
        let rest = b.take_rest();
        assert_eq!(rest, b"raw");
        b.put_back(b"{\"x\":1}\0");
        assert_eq!(b.buffered().expect("good").map(|m| m.bytes), Some(b"{\"x\":1}".to_vec()));
    }

    #[tokio::test]
    async fn a_watcher_notices_the_end() {
        let (a, mut b) = pair();
        let watcher = tokio::spawn(async move { b.watch().await });
        drop(a);
        tokio::time::timeout(Duration::from_secs(5), watcher).await.expect("in time").expect("ran");
    }
}
