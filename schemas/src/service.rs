//! `org.varlink.service`: the interface that every varlink service has, and its errors.
//!
//! Written by hand: it is the protocol's own and does not change. Source: <https://varlink.org/Service>.

use serde_json::{Value, json};

/// Name of the interface.
pub const NAME: &str = "org.varlink.service";

/// The interface file, as `GetInterfaceDescription` answers it.
pub const DESCRIPTION: &str = include_str!("../varlink/org.varlink.service.varlink");

/// Full name of the method that tells who we are.
pub const GET_INFO: &str = "org.varlink.service.GetInfo";

/// Full name of the method that answers an interface file.
pub const GET_INTERFACE_DESCRIPTION: &str = "org.varlink.service.GetInterfaceDescription";

/// The errors of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceError {
    /// No such interface here.
    InterfaceNotFound(String),
    /// The interface has no such method.
    MethodNotFound(String),
    /// The method is in the interface but not in this program.
    MethodNotImplemented(String),
    /// A parameter is missing, too much, or of the wrong type.
    InvalidParameter(String),
    /// The caller may not do this.
    PermissionDenied,
    /// The method answers more than once and was called without `more`.
    ExpectedMore,
}

impl ServiceError {
    /// Full name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::InterfaceNotFound(_) => "org.varlink.service.InterfaceNotFound",
            Self::MethodNotFound(_) => "org.varlink.service.MethodNotFound",
            Self::MethodNotImplemented(_) => "org.varlink.service.MethodNotImplemented",
            Self::InvalidParameter(_) => "org.varlink.service.InvalidParameter",
            Self::PermissionDenied => "org.varlink.service.PermissionDenied",
            Self::ExpectedMore => "org.varlink.service.ExpectedMore",
        }
    }

    /// Parameters as they are on the wire.
    pub fn parameters(&self) -> Value {
        match self {
            Self::InterfaceNotFound(name) => json!({ "interface": name }),
            Self::MethodNotFound(name) | Self::MethodNotImplemented(name) => json!({ "method": name }),
            Self::InvalidParameter(name) => json!({ "parameter": name }),
            Self::PermissionDenied | Self::ExpectedMore => json!({}),
        }
    }

    /// The error that answers a call of a method nobody here has, given the interfaces that are here.
    pub fn unknown_method(method: &str, interfaces: &[&str]) -> Self {
        match method.rsplit_once('.') {
            Some((interface, _)) if interfaces.contains(&interface) => {
                Self::MethodNotFound(method.to_owned())
            }
            Some((interface, _)) => Self::InterfaceNotFound(interface.to_owned()),
            None => Self::InterfaceNotFound(method.to_owned()),
        }
    }
}
