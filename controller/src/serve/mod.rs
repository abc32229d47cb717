//! The controller's own varlink interface: reading calls and answering them.

pub mod call;
pub mod connection;
pub mod dispatch;

use std::os::fd::OwnedFd;

use rustix::net::{SocketFlags, accept_with, sockopt::socket_peercred};

use connection::Connection;

/// Most connections at a time.
pub const MOST: usize = 16;

/// Takes the next connection of the listening socket, if it is root's and there is room.
pub fn accept(listener: &OwnedFd, id: u64, room: bool) -> Option<Connection> {
    let socket = accept_with(listener, SocketFlags::CLOEXEC).ok()?;
    let is_root = socket_peercred(&socket).is_ok_and(|c| c.uid.is_root());
    (is_root && room).then(|| Connection::new(id, socket))
}
