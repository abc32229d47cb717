//! The socket on which init says that it is ready: sd_notify(3), and the container interface of systemd.
//!
//! The controller makes it and reads it; it is bound to [`PATH`] inside the container, where the mounts are made. What
//! comes out of it is the container's word and nothing else: that it is ready, once; the rest is dropped.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, OFlags, ResolveFlags, Uid, chownat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, bind, recv, socket_with,
};
use rustix::process::fchdir;

use crate::failure::{Doing, Outcome, Step};

use super::resolve;
use super::rootfs::Inside;
use super::user::Identity;

/// Where it is inside.
pub const PATH: &str = "/run/host/notify";

/// Longest message that is understood, as in systemd. What is longer is cut there.
const LONGEST: usize = 4096;

/// The socket, bound nowhere yet.
pub fn make() -> Outcome<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
        .map_err(|e| Doing::new(Step::Run, "socket").path(PATH).failed(e))
}

/// Binds it in the directory `host`, which is /run/host. The current directory is the root afterwards.
pub fn bind_in(inside: &Inside<'_>, host: BorrowedFd<'_>, socket: BorrowedFd<'_>) -> Outcome<()> {
    let doing = |operation| Doing::new(Step::Run, operation).path(PATH);
    // There is no bind relative to a descriptor, and a path from the root could be led elsewhere.
    fchdir(host).map_err(|e| doing("fchdir").failed(e))?;
    let bound = SocketAddrUnix::new("notify").and_then(|address| bind(socket, &address));
    fchdir(inside.root()).map_err(|e| doing("fchdir").failed(e))?;
    bound.map_err(|e| doing("bind").failed(e))
}

/// Whether init finds the socket at its place; it is made init's own. Only root and its owner can write to it.
pub fn hand_over(inside: &Inside<'_>, identity: &Identity) -> Outcome<bool> {
    let found = resolve::open_inside(inside.root(), PATH, OFlags::PATH, ResolveFlags::NO_SYMLINKS);
    let Ok(socket) = found else { return Ok(false) };
    if resolve::kind(&socket).ok() != Some(FileType::Socket) {
        return Ok(false);
    }
    if identity.uid != 0 {
        let owner = Some(Uid::from_raw(identity.uid));
        chownat(&socket, "", owner, None::<Gid>, AtFlags::EMPTY_PATH)
            .map_err(|e| Doing::new(Step::User, "chown").path(PATH).failed(e))?;
    }
    Ok(true)
}

/// What is read from the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Init is ready.
    Ready,
    /// Something else.
    Other,
    /// There is no more.
    Nothing,
}

/// Takes one message. Descriptors that come along are closed by the kernel, as nobody asks for them.
pub fn hear(socket: &OwnedFd) -> Heard {
    let mut buffer = [0; LONGEST];
    match recv(socket.as_fd(), &mut buffer[..], RecvFlags::DONTWAIT) {
        Ok((length, _)) if says_ready(&buffer[..length]) => Heard::Ready,
        Ok(_) => Heard::Other,
        Err(Errno::AGAIN | Errno::INTR) => Heard::Nothing,
        Err(e) => {
            crate::note(&format!("cannot read what init says: {e}"));
            Heard::Nothing
        }
    }
}

/// Listens no more, without anybody inside noticing: services go on to tell their state, and to them an error
/// would be one of their own. Where that cannot be had the socket is closed.
pub fn stop_listening(socket: OwnedFd) -> Option<OwnedFd> {
    if let Err(e) = berth_sys::net::drop_messages(socket.as_fd()) {
        crate::note(&format!("cannot drop what init says from now on, closing its socket: {e}"));
        return None;
    }
    // Who waits for room goes on.
    while hear(&socket) != Heard::Nothing {}
    Some(socket)
}

/// Assignments, one on a line: sd_notify(3).
fn says_ready(message: &[u8]) -> bool {
    message.split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn only_the_whole_line_counts() {
        for good in ["READY=1", "READY=1\n", "STATUS=Startup finished\nREADY=1", "READY=1\nSTATUS=up"] {
            assert!(says_ready(good.as_bytes()), "{good}");
        }
        for bad in ["", "READY=0", "READY=11", "STATUS=READY=1", " READY=1", "READY=1\r", "STOPPING=1", "\0"]
        {
            assert!(!says_ready(bad.as_bytes()), "{bad}");
        }
    }
}
