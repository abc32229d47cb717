//! A blocking varlink client over one socket: calls, calls with many replies, upgrades, descriptors.
//!
//! Does not know how the socket was made or what the methods mean.

use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::time::Instant;

use berth_schemas::wire::{self, CallKind, Framer};
use berth_schemas::{domain, network};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::CallError;

/// Bytes per read: small, as taking one message moves what is behind it.
const CHUNK: usize = 16 * 1024;

/// Why a connection is given up whose daemon is silent.
pub const LATE: &str = "the daemon has not answered in time";

/// A connection to a daemon.
pub struct Client {
    stream: UnixStream,
    framer: Framer,
    /// The program that carries the connection, where one does.
    carrier: Option<Child>,
    /// Until when answers are waited for.
    deadline: Option<Instant>,
}

/// One reply of a call with many.
pub struct Reply<T> {
    /// What it says.
    pub out: T,
    /// Whether more follow.
    pub continues: bool,
}

impl Client {
    /// Speaks over this socket; `carrier` is waited for at the end.
    pub fn new(stream: UnixStream, carrier: Option<Child>) -> Self {
        Self { stream, framer: Framer::default(), carrier, deadline: None }
    }

    /// Until when answers are waited for; otherwise as long as the daemon takes. One that did not come in time makes the
    /// connection useless, as it may still come.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) -> Result<(), CallError> {
        self.deadline = deadline;
        self.stream.set_read_timeout(None).map_err(CallError::lost)
    }

    /// Whether descriptors can be passed.
    pub fn is_local(&self) -> bool {
        self.carrier.is_none()
    }

    /// Calls a method that answers once.
    pub fn call<In: Serialize, Out: DeserializeOwned>(
        &mut self,
        method: &'static str,
        parameters: &In,
    ) -> Result<Out, CallError> {
        self.send(method, parameters, CallKind::Once)?;
        self.reply(method).map(|reply| reply.out)
    }

    /// The same with descriptors sent along.
    pub fn call_with_descriptors<In: Serialize, Out: DeserializeOwned>(
        &mut self,
        method: &'static str,
        parameters: &In,
        descriptors: &[RawFd],
    ) -> Result<Out, CallError> {
        let bytes = wire::call_bytes(method, parameters, CallKind::Once);
        let control = [ControlMessage::ScmRights(descriptors)];
        let raw = self.stream.as_raw_fd();
        let sent = loop {
            match sendmsg::<()>(raw, &[IoSlice::new(&bytes)], &control, MsgFlags::MSG_NOSIGNAL, None) {
                Err(Errno::EINTR) => {}
                Err(Errno::EBADF) => {
                    let message = "a file descriptor to pass is not open".to_owned();
                    return Err(CallError::Other { message });
                }
                result => break result.map_err(CallError::lost)?,
            }
        };
        self.stream.write_all(&bytes[sent..]).map_err(CallError::lost)?;
        self.reply(method).map(|reply| reply.out)
    }

    /// Calls a method that answers any number of times; `each` gets every answer as it comes.
    pub fn call_more<In: Serialize, Out: DeserializeOwned>(
        &mut self,
        method: &'static str,
        parameters: &In,
        mut each: impl FnMut(Out) -> Result<(), CallError>,
    ) -> Result<(), CallError> {
        self.send(method, parameters, CallKind::More)?;
        loop {
            let reply = self.reply(method)?;
            each(reply.out)?;
            if !reply.continues {
                return Ok(());
            }
        }
    }

    /// Calls a method that turns the connection into something else: its answer, the socket, and the bytes that came
    /// right behind the answer.
    pub fn upgrade<In: Serialize, Out: DeserializeOwned>(
        mut self,
        method: &'static str,
        parameters: &In,
    ) -> Result<(Out, Upgraded), CallError> {
        self.send(method, parameters, CallKind::Upgrade)?;
        let out = self.reply(method)?.out;
        let early = self.framer.take_rest();
        let stream = self.stream.try_clone().map_err(CallError::lost)?;
        Ok((out, Upgraded { stream, early, _client: self }))
    }

    /// Sends a call.
    pub fn send<In: Serialize>(
        &mut self,
        method: &'static str,
        parameters: &In,
        kind: CallKind,
    ) -> Result<(), CallError> {
        let bytes = wire::call_bytes(method, parameters, kind);
        match self.stream.write_all(&bytes) {
            // A daemon that takes no more connections has said so before it hung up: that is read next, or the end.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            sent => sent.map_err(CallError::lost),
        }
    }

    /// Waits for the next reply.
    pub fn reply<Out: DeserializeOwned>(&mut self, method: &'static str) -> Result<Reply<Out>, CallError> {
        loop {
            if let Some(reply) = self.waiting_reply(method)? {
                return Ok(reply);
            }
            self.fill()?;
        }
    }

    /// The next reply if it has come already.
    pub fn waiting_reply<Out: DeserializeOwned>(
        &mut self,
        method: &'static str,
    ) -> Result<Option<Reply<Out>>, CallError> {
        match self.framer.next_message().map_err(CallError::lost)? {
            Some(message) => decode(method, &message).map(Some),
            None => Ok(None),
        }
    }

    /// Reads what there is, waiting for something to come.
    pub fn fill(&mut self) -> Result<(), CallError> {
        let mut chunk = [0; CHUNK];
        loop {
            if let Some(deadline) = self.deadline {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(CallError::lost(LATE));
                }
                self.stream.set_read_timeout(Some(left)).map_err(CallError::lost)?;
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(CallError::lost("Disconnected due to end of file")),
                Ok(n) => {
                    self.framer.push(&chunk[..n]);
                    return Ok(());
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Err(CallError::lost(LATE)),
                Err(e) => return Err(CallError::lost(e)),
            }
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(mut carrier) = self.carrier.take() {
            let _ = self.stream.shutdown(std::net::Shutdown::Both);
            let _ = carrier.wait();
        }
    }
}

/// A connection that is no longer varlink.
pub struct Upgraded {
    /// The socket.
    pub stream: UnixStream,
    /// What came right behind the answer.
    pub early: Vec<u8>,
    /// Keeps the carrier.
    _client: Client,
}

/// Reads a reply.
pub fn decode<Out: DeserializeOwned>(method: &'static str, message: &[u8]) -> Result<Reply<Out>, CallError> {
    let reply = wire::parse_reply(message).map_err(CallError::lost)?;
    if let Some(error) = reply.error {
        return Err(decode_error(method, &error, reply.parameters));
    }
    let parameters = reply.parameters.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    let out = serde_json::from_value(parameters)
        .map_err(|e| CallError::Other { message: format!("cannot read the reply of {method}: {e}") })?;
    Ok(Reply { out, continues: reply.continues.unwrap_or_default() })
}

fn decode_error(method: &'static str, name: &str, parameters: Option<Value>) -> CallError {
    if name == "org.varlink.service.PermissionDenied" {
        return CallError::Denied { method };
    }
    if let Some(error) = domain::Error::from_reply(name, parameters.clone()) {
        return CallError::Domain(error);
    }
    if let Some(error) = network::Error::from_reply(name, parameters.clone()) {
        return CallError::Network(error);
    }
    let detail = |key: &str| {
        let value = parameters.as_ref().and_then(|p| p.get(key)).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    let message = match name {
        "org.varlink.service.InvalidParameter" => {
            format!("{method} does not take this value of '{}'", detail("parameter"))
        }
        "org.varlink.service.MethodNotFound" | "org.varlink.service.MethodNotImplemented" => {
            format!("this daemon has no method {}", detail("method"))
        }
        "org.varlink.service.InterfaceNotFound" => {
            format!("what listens there has no interface {}", detail("interface"))
        }
        _ => match detail("message") {
            text if text.is_empty() => name.to_owned(),
            text => text,
        },
    };
    CallError::Other { message }
}
