//! One connection: bytes and descriptors in, messages out, never waiting for the other side.
//!
//! This module does not know what the messages mean.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_schemas::wire::{FrameError, Framer, MAX_DESCRIPTORS};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::parcels;

/// Most bytes that wait to be taken by a client; one that lets more pile up is dropped.
const MOST_WAITING: usize = 256 * 1024;

/// One message on its way out.
#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    /// Goes with the first byte.
    descriptor: Option<OwnedFd>,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    /// Number, unique in this controller.
    pub id: u64,
    /// It gets events.
    pub subscribed: bool,
    /// It waits for the end.
    pub wants_end: bool,
    /// A call of it is being worked on.
    pub busy: bool,
    /// It is to be removed.
    pub gone: bool,
    socket: OwnedFd,
    framer: Framer,
    received: Vec<OwnedFd>,
    outgoing: VecDeque<Outgoing>,
    waiting: usize,
    /// To be removed when everything is sent.
    finishing: bool,
    /// Nothing more will come.
    input_ended: bool,
}

impl Connection {
    /// A connection over a socket.
    pub fn new(id: u64, socket: OwnedFd) -> Self {
        Self {
            id,
            subscribed: false,
            wants_end: false,
            busy: false,
            gone: false,
            socket,
            framer: Framer::default(),
            received: Vec::new(),
            outgoing: VecDeque::new(),
            waiting: 0,
            finishing: false,
            input_ended: false,
        }
    }

    /// Whether a call is still open: the next is not read meanwhile, as answers come in the order of the calls.
    fn is_held(&self) -> bool {
        self.subscribed || self.wants_end || self.busy
    }

    /// Whether it is still of use to wait for input. Who sends more calls while one is open is not read from, so that
    /// they do not pile up here.
    pub fn wants_input(&self) -> bool {
        !self.input_ended && !self.gone && (!self.is_held() || self.framer.is_empty())
    }

    /// Whether something waits to be taken.
    pub fn has_pending(&self) -> bool {
        !self.outgoing.is_empty() && !self.gone
    }

    /// Reads once, as much as there is up to 16 KiB.
    pub fn read(&mut self) {
        let mut bytes = [0_u8; 16 * 1024];
        let got = parcels::receive(&self.socket, &mut bytes, &mut self.received, RecvFlags::DONTWAIT);
        match got {
            Ok(0) => self.input_ended = true,
            Ok(got) => self.framer.push(&bytes[..got]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.gone = true,
        }
        if self.received.len() > MAX_DESCRIPTORS {
            self.gone = true;
        }
    }

    /// The next whole message.
    pub fn take_message(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        if self.is_held() || self.gone {
            // Who has left waits for nothing.
            self.gone |= self.input_ended;
            return Ok(None);
        }
        let message = self.framer.next_message()?;
        if message.is_none() && self.input_ended {
            self.finish();
        }
        Ok(message)
    }

    /// The descriptors that have come and that no message has taken yet.
    pub fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.received)
    }

    /// Sends bytes, with a descriptor, now or when the client takes them.
    pub fn send(&mut self, bytes: Vec<u8>, descriptor: Option<OwnedFd>) {
        self.waiting += bytes.len();
        self.outgoing.push_back(Outgoing { bytes, sent: 0, descriptor });
        self.flush();
        if self.waiting > MOST_WAITING {
            self.gone = true;
        }
    }

    /// Sends what the client takes now.
    pub fn flush(&mut self) {
        while let Some(message) = self.outgoing.front_mut() {
            match send_part(&self.socket, message) {
                Ok(n) => {
                    message.descriptor = None;
                    message.sent += n;
                    self.waiting -= n;
                    if message.sent == message.bytes.len() {
                        self.outgoing.pop_front();
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.gone = true;
                    return;
                }
            }
        }
        if self.finishing {
            self.gone = true;
        }
    }

    /// Ends the connection when everything is sent.
    pub fn finish(&mut self) {
        self.finishing = true;
        if self.outgoing.is_empty() {
            self.gone = true;
        }
    }
}

fn send_part(socket: &OwnedFd, message: &Outgoing) -> Result<usize, Errno> {
    let descriptor = message.descriptor.as_ref().map(AsFd::as_fd);
    parcels::send(socket, &message.bytes[message.sent..], descriptor, SendFlags::DONTWAIT)
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
