//! Bytes over a socket together with descriptors. Does not know what either of them is for.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// Sends bytes, and a descriptor with the first of them. Answers how many went.
pub fn send(
    socket: &OwnedFd,
    bytes: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
    flags: SendFlags,
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let list = descriptor.as_slice();
    if !list.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(list));
    }
    sendmsg(socket.as_fd(), &[IoSlice::new(bytes)], &mut control, flags | SendFlags::NOSIGNAL)
}

/// Reads bytes, and adds the descriptors that have come along to `received`. Answers how many bytes.
pub fn receive(
    socket: &OwnedFd,
    bytes: &mut [u8],
    received: &mut Vec<OwnedFd>,
    flags: RecvFlags,
) -> Result<usize, Errno> {
    // Room for SCM_MAX_FD descriptors: 253 times 4 bytes and a header.
    let mut space = [MaybeUninit::uninit(); 1100];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let got = recvmsg(socket.as_fd(), &mut [IoSliceMut::new(bytes)], &mut control, flags);
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            received.extend(descriptors);
        }
    }
    got.map(|got| got.bytes)
}
