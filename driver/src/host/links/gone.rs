//! Hears from the kernel that interfaces go, in the network namespace of the daemon.
//!
//! Does not know whose they were. Source: rtnetlink(7), linux/rtnetlink.h.

use std::io;
use std::time::Duration;

use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, TokioSocket};

use crate::host::messages;

/// The group of all changes of interfaces.
const RTNLGRP_LINK: u32 = 1;
/// An interface is gone.
const RTM_DELLINK: u16 = 17;
/// More than the kernel puts into one message.
const LARGEST: usize = 1 << 16;
/// Interfaces of one namespace go together: how long the others are waited for.
const SETTLED: Duration = Duration::from_millis(30);

/// What hears of them.
pub struct Gone(TokioSocket);

impl Gone {
    /// From now on.
    pub fn listen() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind_auto()?;
        socket.socket_mut().add_membership(RTNLGRP_LINK)?;
        Ok(Self(socket))
    }

    /// Waits until some have gone, or may have: messages can be lost.
    pub async fn some(&mut self) -> io::Result<()> {
        while !self.receive().await? {}
        let collect = async { while self.receive().await.is_ok() {} };
        // It is not over by itself.
        let _ = tokio::time::timeout(SETTLED, collect).await;
        Ok(())
    }

    async fn receive(&mut self) -> io::Result<bool> {
        let mut buffer = Vec::with_capacity(LARGEST);
        match self.0.recv(&mut buffer).await {
            Ok(()) => Ok(tells(&buffer)),
            // There were more than the socket holds.
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => Ok(true),
            Err(e) => Err(e),
        }
    }
}

/// Whether one of these messages says so; what cannot be read may.
fn tells(bytes: &[u8]) -> bool {
    messages::in_bytes(bytes).any(|m| m.is_none_or(|m| m.message_type() == RTM_DELLINK))
}

#[cfg(test)]
mod test {
    use super::tells;

    #[test]
    fn one_that_goes_is_heard_of() {
        let message = |kind: u16| {
            let mut bytes = 20_u32.to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.resize(20, 0);
            bytes
        };
        let (new, gone) = (message(16), message(17));
        assert!(tells(&[new.clone(), gone.clone()].concat()) && tells(&gone[..7]));
        assert!(!tells(&[]) && !tells(&[new.clone(), new].concat()));
    }
}
