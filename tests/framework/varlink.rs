//! A varlink connection at the level of bytes.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use berth_schemas::wire::{self, CallKind, Framer, Reply};
use serde_json::Value;

use crate::patient;

/// A connection.
pub struct Client {
    /// The socket, for tests that want to misbehave.
    pub stream: UnixStream,
    framer: Framer,
}

impl Client {
    /// Connects; reads give up after 20 s of patience.
    pub fn connect(socket: &Path) -> Result<Self, String> {
        let stream = UnixStream::connect(socket)
            .map_err(|e| format!("cannot connect to '{}': {e}", socket.display()))?;
        stream.set_read_timeout(Some(patient(20))).map_err(|e| e.to_string())?;
        Ok(Self { stream, framer: Framer::default() })
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).map_err(|e| format!("cannot send: {e}"))
    }

    /// The next reply.
    pub fn reply(&mut self) -> Result<Reply, String> {
        loop {
            if let Some(message) = self.framer.next_message().map_err(|e| e.to_string())? {
                return wire::parse_reply(&message).map_err(|e| e.to_string());
            }
            let mut buffer = [0; 65536];
            let n = self.stream.read(&mut buffer).map_err(|e| format!("cannot receive: {e}"))?;
            if n == 0 {
                return Err("the connection ended".into());
            }
            self.framer.push(&buffer[..n]);
        }
    }

    /// Sends a call.
    pub fn send_call(&mut self, method: &str, parameters: &Value, kind: CallKind) -> Result<(), String> {
        self.send(&wire::call_bytes(method, parameters, kind))
    }

    /// Calls and gives the parameters of a good reply; an error reply is an `Err` with its name and parameters.
    pub fn call(&mut self, method: &str, parameters: &Value) -> Result<Value, String> {
        self.send_call(method, parameters, CallKind::Once)?;
        let reply = self.reply()?;
        match reply.error {
            None => Ok(reply.parameters.unwrap_or_default()),
            Some(name) => Err(format!("{name} {}", reply.parameters.unwrap_or_default())),
        }
    }

    /// Bytes that came behind the last reply.
    pub fn rest(&mut self) -> Vec<u8> {
        self.framer.take_rest()
    }
}
