//! Hears from the kernel that rules of nftables are changed, by whomever, in the network namespace of the daemon.
//!
//! Does not know whose change it was, nor what rules there have to be. Source: linux/netfilter/nf_tables.h,
//! linux/netfilter/nfnetlink.h.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use rtnetlink::packet_core::NlasIterator;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, TokioSocket};

use super::{Shared, rules};
use crate::host::messages;

/// The group of all changes of nftables.
const NFNLGRP_NFTABLES: u32 = 7;
/// What messages about nftables have as the upper byte of their type.
const NFNL_SUBSYS_NFTABLES: u16 = 10;
/// The message that ends a transaction, which is about no table.
const NFT_MSG_NEWGEN: u16 = 15;
/// In all other messages the attribute that names the table.
const TABLE: u16 = 1;
/// What comes before the attributes: family of addresses, version, a number.
const HEADER: usize = 4;
/// More than the kernel puts into one message.
const LARGEST: usize = 1 << 16;
/// A transaction is many messages: how long they are waited for.
const SETTLED: Duration = Duration::from_millis(30);

/// Which tables were touched.
#[derive(Debug, Default, PartialEq)]
struct Touched {
    /// Those that were named.
    tables: BTreeSet<String>,
    /// Others may be, too: messages were lost.
    others: bool,
}

/// Begins to hear of changes, if that has not begun yet.
pub(super) fn begin(shared: &Arc<Shared>) {
    shared.watching.call_once(|| match listen() {
        Ok(socket) => drop(tokio::spawn(hear(Arc::downgrade(shared), socket))),
        Err(e) => {
            tracing::warn!("rules of networks that somebody else changes will stay so until SIGHUP: {e}");
        }
    });
}

fn listen() -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
    socket.socket_mut().bind_auto()?;
    socket.socket_mut().add_membership(NFNLGRP_NFTABLES)?;
    Ok(socket)
}

async fn hear(shared: Weak<Shared>, mut socket: TokioSocket) {
    loop {
        let mut touched = Touched::default();
        let mut heard = receive(&mut socket, &mut touched).await;
        let collect = async {
            while heard.is_ok() {
                heard = receive(&mut socket, &mut touched).await;
            }
        };
        // It is not over by itself.
        let _ = tokio::time::timeout(SETTLED, collect).await;
        let Some(shared) = shared.upgrade() else { return };
        tell(&shared, &touched);
        if let Err(e) = heard {
            tracing::warn!("changes of the rules of networks are not heard of any more: {e}");
            return;
        }
    }
}

async fn receive(socket: &mut TokioSocket, touched: &mut Touched) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(LARGEST);
    match socket.recv(&mut buffer).await {
        Ok(()) => read(&buffer, touched),
        // There were more than the socket holds.
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => touched.others = true,
        Err(e) => return Err(e),
    }
    Ok(())
}

/// Reads messages of the kernel. What cannot be read may be about any table.
fn read(bytes: &[u8], touched: &mut Touched) {
    for message in messages::in_bytes(bytes) {
        let Some(message) = message else {
            touched.others = true;
            return;
        };
        let kind = message.message_type();
        if kind >> 8 == NFNL_SUBSYS_NFTABLES && kind & 0xff != NFT_MSG_NEWGEN {
            match message.payload().get(HEADER..).and_then(table_of) {
                Some(table) => drop(touched.tables.insert(table)),
                None => touched.others = true,
            }
        }
    }
}

fn table_of(attributes: &[u8]) -> Option<String> {
    let mut all = NlasIterator::new(attributes).filter_map(Result::ok);
    let table = all.find(|a| a.kind() == TABLE)?;
    let name = table.value().split(|b| *b == 0).next()?;
    Some(String::from_utf8_lossy(name).into_owned())
}

fn tell(shared: &Shared, touched: &Touched) {
    for entry in shared.registry.entries() {
        let is_its = |bridge: &String| touched.tables.contains(&rules::table(bridge));
        if touched.others || entry.snapshot().bridges().iter().any(is_its) {
            entry.touched().notify_one();
        }
    }
}

#[cfg(test)]
mod test {
    use super::{Touched, read};

    /// A message of this type with one attribute 1.
    fn message(kind: u16, name: &[u8]) -> Vec<u8> {
        let padded = name.len().next_multiple_of(4);
        let mut bytes = Vec::new();
        bytes.extend(u32::try_from(16 + 4 + 4 + padded).unwrap_or_default().to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend([1, 0, 0, 0]);
        bytes.extend(u16::try_from(4 + name.len()).unwrap_or_default().to_ne_bytes());
        bytes.extend(1_u16.to_ne_bytes());
        bytes.extend(name);
        bytes.resize(16 + 4 + 4 + padded, 0);
        bytes
    }

    fn of(bytes: &[u8]) -> (Vec<String>, bool) {
        let mut touched = Touched::default();
        read(bytes, &mut touched);
        (touched.tables.into_iter().collect(), touched.others)
    }

    #[test]
    fn tables_of_all_messages_are_found() {
        let both = [message(0x0a02, b"berth-a\0"), message(0x0a08, b"filter\0"), message(0x0a0f, &[0; 4])];
        assert_eq!(of(&both.concat()), (vec!["berth-a".into(), "filter".into()], false));
        assert_eq!(of(&message(0x0a0f, &[0; 4])), (vec![], false), "the end of a transaction");
        assert_eq!(of(&message(0x0102, b"berth-a\0")), (vec![], false), "another part of netfilter");
    }

    #[test]
    fn what_is_cut_off_may_be_about_any_table() {
        let whole = message(0x0a02, b"berth-a\0");
        for length in 1..whole.len() {
            assert_eq!(of(&whole[..length]), (vec![], true), "{length} bytes");
        }
    }
}
