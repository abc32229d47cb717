//! What goes back to a client: replies are collected and written in large pieces, each within a deadline.
//!
//! Does not know what they say.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use berth_schemas::domain::Error;
use berth_schemas::node;
use berth_schemas::service::ServiceError;
use berth_schemas::wire::{BadParameter, error_bytes, reply_bytes};
use berth_schemas::words::shown;
use serde::Serialize;
use serde_json::Value;

use crate::failure::Failure;
use crate::network::NetworkError;
use crate::wire::Channel;

/// A client that does not read for so long is dropped.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much is collected.
const ENOUGH: usize = 64 << 10;

/// Why a call has no good answer.
#[derive(Debug)]
pub enum CallError {
    /// The protocol's own.
    Service(ServiceError),
    /// The request was not fulfilled.
    Failure(Failure),
    /// The same of a network.
    Network(NetworkError),
    /// The same of the host.
    Node(node::Error),
    /// The client cannot be written to.
    Gone,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(e) => f.write_str(e.name()),
            Self::Failure(e) => e.fmt(f),
            Self::Network(e) => e.fmt(f),
            Self::Node(node::Error::NotAvailable { message } | node::Error::Failed { message }) => {
                f.write_str(message)
            }
            Self::Gone => f.write_str("the client is gone"),
        }
    }
}

impl From<Failure> for CallError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Missing(name) => Self::Service(ServiceError::InvalidParameter(name.into())),
            other => Self::Failure(other),
        }
    }
}

impl From<NetworkError> for CallError {
    fn from(error: NetworkError) -> Self {
        Self::Network(error)
    }
}

impl From<node::Error> for CallError {
    fn from(error: node::Error) -> Self {
        Self::Node(error)
    }
}

impl From<BadParameter> for CallError {
    fn from(bad: BadParameter) -> Self {
        Self::Service(ServiceError::InvalidParameter(bad.0))
    }
}

impl From<ServiceError> for CallError {
    fn from(error: ServiceError) -> Self {
        Self::Service(error)
    }
}

impl From<io::Error> for CallError {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// The outgoing half of a connection.
#[derive(Debug, Default)]
pub struct Outbox {
    buffer: Vec<u8>,
    /// The call that is being answered wants no answer.
    pub silent: bool,
}

impl Outbox {
    /// A good reply.
    pub fn good<P: Serialize>(&mut self, parameters: &P, continues: bool) {
        if !self.silent {
            self.buffer.extend(reply_bytes(parameters, continues));
        }
    }

    /// Replies that are written down already.
    pub fn raw(&mut self, bytes: &[u8]) {
        if !self.silent {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// What has not been sent.
    pub fn waiting(&self) -> &[u8] {
        &self.buffer
    }

    /// An error reply.
    pub fn bad(&mut self, error: &CallError) {
        if self.silent {
            return;
        }
        let (name, mut parameters) = match error {
            CallError::Service(e) => (e.name(), e.parameters()),
            CallError::Failure(failure) => {
                let e = wire_error(failure);
                (e.name(), e.parameters())
            }
            CallError::Network(error) => {
                let e = super::network::wire_error(error);
                (e.name(), e.parameters())
            }
            CallError::Node(e) => (e.name(), e.parameters()),
            CallError::Gone => return,
        };
        shorten(&mut parameters);
        self.buffer.extend(error_bytes(name, &parameters));
    }

    /// Writes everything.
    pub async fn flush(&mut self, channel: &mut Channel) -> io::Result<()> {
        self.flush_with(channel, &[]).await
    }

    /// Writes everything, with descriptors.
    pub async fn flush_with(&mut self, channel: &mut Channel, descriptors: &[OwnedFd]) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.buffer);
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        match tokio::time::timeout(PATIENCE, channel.send(&bytes, &borrowed)).await {
            Ok(sent) => sent,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Writes if there is much.
    pub async fn flush_if_much(&mut self, channel: &mut Channel) -> io::Result<()> {
        if self.buffer.len() < ENOUGH { Ok(()) } else { self.flush(channel).await }
    }
}

/// Makes every text in an error what is shown of it: it may be a caller's, of any length.
fn shorten(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(short) = shown(text) {
                *text = short;
            }
        }
        Value::Array(all) => all.iter_mut().for_each(shorten),
        Value::Object(all) => all.values_mut().for_each(shorten),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn wire_error(failure: &Failure) -> Error {
    let message = failure.to_string();
    let wire = |all: &[berth_domain::Diagnostic]| all.iter().map(super::convert::diagnostic).collect();
    match failure {
        Failure::NoSuchDomain(_) | Failure::Nobody => Error::NoSuchDomain { message },
        Failure::DomainExists(_) => Error::DomainExists { message },
        Failure::InvalidState { state, .. } => Error::InvalidState { message, state: *state },
        Failure::InvalidDocument(all) => Error::InvalidDocument { message, diagnostics: wire(all) },
        Failure::Unsupported { diagnostics, .. } => {
            Error::Unsupported { message, diagnostics: wire(diagnostics) }
        }
        Failure::StartFailed(why) => Error::StartFailed {
            message,
            step: why.step.clone(),
            path: why.path.clone(),
            errno: why.errno,
            hint: why.hint.clone(),
        },
        Failure::NoSuchConsole(_) => Error::NoSuchConsole { message },
        Failure::NoSuchDevice(_) => Error::NoSuchDevice { message },
        Failure::DeviceExists(_) => Error::DeviceExists { message },
        Failure::NoSuchMetadata => Error::NoSuchMetadata { message },
        Failure::NotAnswering(_) => Error::NotAnswering { message },
        Failure::TimedOut(_) => Error::TimedOut { message },
        Failure::InvalidValue { parameter, .. } => {
            Error::InvalidValue { parameter: (*parameter).to_owned(), message }
        }
        Failure::Missing(_) | Failure::Failed(_) => Error::Failed { message },
    }
}
