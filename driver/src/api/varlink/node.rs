//! `io.berth.Node`, one arm for each method.
//!
//! Does not know domains.

use berth_schemas::node::{
    GetCapabilitiesIn, GetCapabilitiesOut, GetHostnameIn, GetHostnameOut, GetInfoIn, GetInfoOut, GetRoleIn,
    GetRoleOut, GetVersionIn, GetVersionOut, Method, RestrictToReadingIn, RestrictToReadingOut, Role,
};
use berth_schemas::wire::Parameters;
use serde_json::Value;

use crate::api::varlink::connection::Connection;
use crate::api::varlink::convert;
use crate::api::varlink::reply::CallError;
use crate::engine::publish::blocking;
use crate::host::node;

/// Answers one call.
pub async fn call(c: &mut Connection, method: Method, parameters: Option<Value>) -> Result<(), CallError> {
    match method {
        Method::GetInfo => {
            GetInfoIn::from_value(parameters)?;
            let info = blocking(|| Ok(node::look())).await?;
            let info = convert::node(&info, &c.engine.host.arch, c.engine.profiles.model());
            c.out.good(&GetInfoOut { info }, false);
        }
        Method::GetVersion => {
            GetVersionIn::from_value(parameters)?;
            let version = env!("CARGO_PKG_VERSION").to_owned();
            c.out.good(&GetVersionOut { version, kernel_release: node::kernel_release() }, false);
        }
        Method::GetHostname => {
            GetHostnameIn::from_value(parameters)?;
            c.out.good(&GetHostnameOut { hostname: node::hostname() }, false);
        }
        Method::GetCapabilities => {
            GetCapabilitiesIn::from_value(parameters)?;
            let (host, security) = (c.engine.host.clone(), c.engine.profiles.model());
            let xml = blocking(move || Ok(node::capabilities(&host, security))).await?;
            c.out.good(&GetCapabilitiesOut { xml }, false);
        }
        Method::GetRole => {
            GetRoleIn::from_value(parameters)?;
            c.out.good(&GetRoleOut { role: c.role }, false);
        }
        Method::RestrictToReading => {
            RestrictToReadingIn::from_value(parameters)?;
            (c.role, c.peer) = (Role::Reader, None);
            c.out.good(&RestrictToReadingOut {}, false);
        }
    }
    Ok(())
}
