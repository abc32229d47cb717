//! `io.berth.Node`, one arm for each method.
//!
//! Does not know domains.

use std::path::Path;

use berth_schemas::node::{
    GetCapabilitiesIn, GetCapabilitiesOut, GetHostnameIn, GetHostnameOut, GetInfoIn, GetInfoOut,
    GetMemoryParametersIn, GetMemoryParametersOut, GetRoleIn, GetRoleOut, GetSysinfoIn, GetSysinfoOut,
    GetVersionIn, GetVersionOut, Method, RestrictToReadingIn, RestrictToReadingOut, Role,
    SetMemoryParametersIn, SetMemoryParametersOut,
};
use berth_schemas::service::ServiceError;
use berth_schemas::wire::Parameters;
use serde_json::Value;

use crate::api::varlink::connection::Connection;
use crate::api::varlink::convert;
use crate::api::varlink::reply::CallError;
use crate::engine::publish::blocking;
use crate::host::{ksm, node, sysinfo};

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
        Method::GetSysinfo => {
            GetSysinfoIn::from_value(parameters)?;
            let xml = blocking(|| Ok(sysinfo::xml(Path::new(sysinfo::FOLDER)))).await??;
            c.out.good(&GetSysinfoOut { xml }, false);
        }
        Method::GetMemoryParameters => {
            GetMemoryParametersIn::from_value(parameters)?;
            let parameters = blocking(|| Ok(ksm::read(Path::new(ksm::FOLDER)))).await??;
            c.out.good(&GetMemoryParametersOut { parameters }, false);
        }
        Method::SetMemoryParameters => {
            let p = SetMemoryParametersIn::from_value(parameters)?;
            let number = |value: Option<i64>, name: &str| {
                let number = value.map(u32::try_from).transpose();
                number.map_err(|_| CallError::from(ServiceError::InvalidParameter(name.into())))
            };
            let change = ksm::Change {
                pages_to_scan: number(p.pages_to_scan, "pagesToScan")?,
                sleep_msec: number(p.sleep_m_sec, "sleepMSec")?,
                merge_across_nodes: p.merge_across_nodes,
            };
            blocking(move || Ok(ksm::write(Path::new(ksm::FOLDER), &change))).await??;
            c.out.good(&SetMemoryParametersOut {}, false);
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
