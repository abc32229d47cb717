//! Why a call has no good answer. What libvirt would refuse goes under libvirt-dbus's one error name with libvirt's
//! words; what the protocol itself refuses, under the names of the D-Bus specification.
//!
//! Does not know any call.

use std::borrow::Cow;

use berth_schemas::node;
use berth_schemas::words::shown;
use uuid::Uuid;

use crate::engine::controls::UNSUPPORTED_ARGUMENT;
use crate::failure::Failure;
use crate::network::NetworkError;

/// The one error name of libvirt-dbus.
const LIBVIRT: &str = "org.libvirt.Error";

/// How libvirt begins the message about a domain in the wrong state.
const INVALID: &str = "Requested operation is not valid";

/// A call that was not fulfilled.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// By the engine.
    Failure(Failure),
    /// By this door, in libvirt's words.
    Said(String),
    /// By the protocol: last part of the error's name, and the message.
    Protocol(&'static str, String),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<NetworkError> for Refusal {
    fn from(error: NetworkError) -> Self {
        let message = error.to_string();
        Self::Said(match error {
            NetworkError::NotFound(name) => {
                format!("Network not found: no network with matching name '{name}'")
            }
            NetworkError::Nobody => format!("Network not found: {message}"),
            NetworkError::InvalidState(_) => format!("{INVALID}: {message}"),
            NetworkError::InvalidDocument(_) => format!("XML error: {message}"),
            NetworkError::Unsupported(_) => format!("unsupported configuration: {message}"),
            // libvirt's own sentence already.
            NetworkError::InvalidMac(_) => message,
            NetworkError::Exists(_) | NetworkError::Failed(_) => format!("operation failed: {message}"),
        })
    }
}

impl From<node::Error> for Refusal {
    fn from(error: node::Error) -> Self {
        Self::Said(match error {
            node::Error::NotAvailable { message } => format!("unsupported configuration: {message}"),
            node::Error::Failed { message } => format!("operation failed: {message}"),
        })
    }
}

impl From<zbus::Error> for Refusal {
    fn from(error: zbus::Error) -> Self {
        Self::Said(format!("internal error: {error}"))
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self::Said(format!("internal error: {error}"))
    }
}

impl Refusal {
    /// A parameter that cannot be.
    pub fn invalid(what: impl std::fmt::Display) -> Self {
        Self::Said(format!("invalid argument: {what}"))
    }

    /// A UUID in a text for one of libvirt's functions. That nobody has it is another matter.
    pub fn unless_uuid(text: &str, function: &str) -> Result<(), Self> {
        let bad = |_| Self::invalid(format!("uuidstr in {function} must be a valid UUID"));
        Uuid::parse_str(text).map(drop).map_err(bad)
    }

    /// Parameters that do not have the method's types, or cannot be read.
    pub fn arguments(message: impl Into<String>) -> Self {
        Self::Protocol("InvalidArgs", message.into())
    }

    /// Name and message of the error reply.
    pub fn reply(&self) -> (String, String) {
        let (name, message) = match self {
            Self::Failure(failure) => (LIBVIRT.into(), Cow::Owned(words(failure))),
            Self::Said(message) => (LIBVIRT.into(), Cow::Borrowed(message.as_str())),
            Self::Protocol(name, message) => {
                (format!("org.freedesktop.DBus.Error.{name}"), Cow::Borrowed(message.as_str()))
            }
        };
        // It has words of the caller in it.
        (name, shown(&message).into_owned())
    }
}

/// A failure in libvirt's words, which programs look for.
fn words(failure: &Failure) -> String {
    let message = failure.to_string();
    match failure {
        Failure::NoSuchDomain(_) | Failure::Nobody => format!("Domain not found: {message}"),
        Failure::InvalidState { .. } if message.starts_with(INVALID) => message,
        Failure::InvalidState { .. } | Failure::DeviceExists(_) => format!("{INVALID}: {message}"),
        Failure::DomainExists(_) => format!("operation failed: {message}"),
        Failure::InvalidDocument(_) => format!("XML error: {message}"),
        Failure::Unsupported { .. } => format!("unsupported configuration: {message}"),
        Failure::NoSuchDevice(_) => format!("device not found: {message}"),
        Failure::InvalidValue { .. } if message.starts_with(UNSUPPORTED_ARGUMENT) => message,
        Failure::NoSuchConsole(_) | Failure::Missing(_) | Failure::InvalidValue { .. } => {
            format!("invalid argument: {message}")
        }
        Failure::TimedOut(_) => format!("Timed out during operation: {message}"),
        Failure::StartFailed(why) => match &why.hint {
            Some(hint) => format!("internal error: {message} ({hint})"),
            None => format!("internal error: {message}"),
        },
        // libvirt's own sentence already.
        Failure::NoSuchMetadata => message,
        Failure::NotAnswering(_) | Failure::Failed(_) => format!("operation failed: {message}"),
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use berth_schemas::domain::State;

    #[test]
    fn words_are_libvirts() {
        let state = Failure::InvalidState { message: "domain is not running".into(), state: State::Shutoff };
        let (name, message) = Refusal::from(state).reply();
        assert_eq!(name, "org.libvirt.Error");
        assert_eq!(message, "Requested operation is not valid: domain is not running");
        assert_eq!(
            Refusal::from(Failure::NoSuchMetadata).reply().1,
            "metadata not found: Requested metadata element is not present"
        );
        assert_eq!(Refusal::arguments("x").reply().0, "org.freedesktop.DBus.Error.InvalidArgs");
    }
}
