//! A call as data: which method, in which kind, and the bytes of its answers.
//!
//! What `org.varlink.service` answers is here, as it needs no container.

use berth_schemas::controller::{self, Error, Method};
use berth_schemas::service::{self, ServiceError};
use berth_schemas::wire::{self, BadParameter, Parameters, Request};
use serde::Serialize;
use serde_json::{Value, json};

/// What a call is about.
#[derive(Debug)]
pub enum Wanted {
    /// A method of ours.
    Method(Method),
    /// Answered already: the bytes.
    Answered(Vec<u8>),
}

/// A call.
#[derive(Debug)]
pub struct Call {
    /// The method, or its answer.
    pub wanted: Wanted,
    /// Its parameters.
    pub parameters: Option<Value>,
    /// It takes several answers.
    pub more: bool,
    /// It wants none.
    pub oneway: bool,
}

/// Reads a message.
pub fn read(message: &[u8]) -> Result<Call, wire::FrameError> {
    let request: Request<'static> = wire::parse_request(message)?;
    let (more, oneway) = (request.more.unwrap_or(false), request.oneway.unwrap_or(false));
    let wanted = match Method::from_name(&request.method) {
        Some(method) => Wanted::Method(method),
        None => Wanted::Answered(about_ourselves(&request.method, request.parameters.clone())),
    };
    Ok(Call { wanted, parameters: request.parameters, more, oneway })
}

fn about_ourselves(method: &str, parameters: Option<Value>) -> Vec<u8> {
    match method {
        service::GET_INFO => wire::reply_bytes(
            &json!({
                "vendor": "Berth",
                "product": "berth-controller",
                "version": env!("CARGO_PKG_VERSION"),
                "url": env!("CARGO_PKG_REPOSITORY"),
                "interfaces": [service::NAME, controller::NAME],
            }),
            false,
        ),
        service::GET_INTERFACE_DESCRIPTION => match interface_name(parameters) {
            Ok(name) => match name.as_str() {
                service::NAME => described(service::DESCRIPTION),
                controller::NAME => described(controller::DESCRIPTION),
                _ => service_error(&ServiceError::InterfaceNotFound(name)),
            },
            Err(BadParameter(name)) => service_error(&ServiceError::InvalidParameter(name)),
        },
        _ => service_error(&ServiceError::unknown_method(method, &[service::NAME, controller::NAME])),
    }
}

fn interface_name(parameters: Option<Value>) -> Result<String, BadParameter> {
    let mut members = wire::members(parameters)?;
    let name = wire::take_member(&mut members, "interface")?;
    wire::finish(members)?;
    Ok(name)
}

fn described(text: &str) -> Vec<u8> {
    wire::reply_bytes(&json!({ "description": text }), false)
}

/// Bytes of a protocol error.
pub fn service_error(e: &ServiceError) -> Vec<u8> {
    wire::error_bytes(e.name(), &e.parameters())
}

/// Bytes of an error of ours.
pub fn error(e: &Error) -> Vec<u8> {
    wire::error_bytes(e.name(), &e.parameters())
}

/// Bytes of the only answer.
pub fn good<T: Serialize>(value: &T) -> Vec<u8> {
    wire::reply_bytes(value, false)
}

/// The parameters as what the method takes, or the bytes of the error.
pub fn parameters<P: Parameters>(value: Option<Value>) -> Result<P, Vec<u8>> {
    P::from_value(value).map_err(|BadParameter(name)| service_error(&ServiceError::InvalidParameter(name)))
}
