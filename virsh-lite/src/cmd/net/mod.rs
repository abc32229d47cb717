//! The commands of virtual networks, and how a network is found.
//!
//! Does not know what a network does.

pub mod event;
pub mod info;
pub mod leases;
pub mod life;
pub mod list;
pub mod plug;
pub mod update;

use berth_schemas::domain::Diagnostic;
use berth_schemas::network::{self, Error, ListIn, ListOut, Method, NetworkStatus};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{CallError, Failure};
use crate::grammar::{Opt, Values};
use crate::session::{Session, as_uuid};

/// The network of a command that takes one.
pub const NETWORK: Opt = Opt::text("network", "network name or uuid").required().from(Values::Networks);

/// Calls a method of `io.berth.Network`.
pub fn call<In: Serialize, Out: DeserializeOwned>(
    session: &mut Session,
    method: Method,
    parameters: &In,
) -> Result<Out, CallError> {
    session.call_named(method.name(), parameters)
}

/// All networks, by name. That there is none comes as an error.
pub fn all(session: &mut Session) -> Result<Vec<NetworkStatus>, CallError> {
    let mut networks = Vec::new();
    let result = session.call_more(Method::List.name(), &ListIn::default(), |out: ListOut| {
        networks.push(out.network);
        Ok(())
    });
    match result {
        Ok(()) | Err(CallError::Network(Error::NoSuchNetwork { .. })) => Ok(networks),
        Err(error) => Err(error),
    }
}

/// The network that a word means: by uuid where it is one, else by name.
pub fn find(session: &mut Session, typed: &str) -> Result<NetworkStatus, Failure> {
    if let Some(uuid) = as_uuid(typed) {
        let by = ListIn { uuid: Some(uuid), name: None };
        if let Ok(out) = call::<_, ListOut>(session, Method::List, &by) {
            return Ok(out.network);
        }
    }
    let readonly = session.options.readonly;
    let by = ListIn { name: Some(typed.to_owned()), uuid: None };
    let found: Result<ListOut, _> = call(session, Method::List, &by);
    found.map(|out| out.network).map_err(|e| e.because(format!("failed to get network '{typed}'"), readonly))
}

/// A remark about a document of a network, as all documents' are shown.
pub fn diagnostic(from: &network::Diagnostic) -> Diagnostic {
    Diagnostic {
        line: from.line,
        column: from.column,
        element: from.element.clone(),
        message: from.message.clone(),
        hint: from.hint.clone(),
    }
}
