//! `io.berth.Node`, one arm for each method.
//!
//! Does not know domains.

use std::path::Path;

use berth_schemas::node::{
    Error, GetCapabilitiesIn, GetCapabilitiesOut, GetCellsIn, GetCellsOut, GetCpuMapIn, GetCpuMapOut,
    GetCpuTimesIn, GetCpuTimesOut, GetHostnameIn, GetHostnameOut, GetInfoIn, GetInfoOut, GetMemoryFiguresIn,
    GetMemoryFiguresOut, GetMemoryParametersIn, GetMemoryParametersOut, GetRoleIn, GetRoleOut, GetSysinfoIn,
    GetSysinfoOut, GetVersionIn, GetVersionOut, HostInterface, ListInterfacesIn, ListInterfacesOut, Method,
    RestrictToReadingIn, RestrictToReadingOut, Role, SetMemoryParametersIn, SetMemoryParametersOut,
};
use berth_schemas::service::ServiceError;
use berth_schemas::wire::Parameters;
use serde_json::Value;

use crate::api::varlink::connection::Connection;
use crate::api::varlink::convert;
use crate::api::varlink::reply::CallError;
use crate::engine::publish::blocking;
use crate::host::links::look;
use crate::host::{ksm, node, node_stats, sysinfo};

fn number(value: Option<i64>, name: &str) -> Result<Option<u32>, CallError> {
    let number = value.map(u32::try_from).transpose();
    number.map_err(|_| CallError::from(ServiceError::InvalidParameter(name.into())))
}

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
        Method::GetCpuTimes => {
            let asked = number(GetCpuTimesIn::from_value(parameters)?.cpu, "cpu")?;
            let Some(figures) = blocking(move || Ok(node_stats::cpu(asked))).await? else {
                let which = asked.map(|n| n.to_string()).unwrap_or_default();
                let message = format!("the host has no CPU {which} that is online");
                return Err(Error::NotAvailable { message }.into());
            };
            c.out.good(&GetCpuTimesOut { times: convert::cpu_times(&figures) }, false);
        }
        Method::GetCpuMap => {
            GetCpuMapIn::from_value(parameters)?;
            let online = blocking(|| Ok(node_stats::cpu_map())).await?;
            c.out.good(&GetCpuMapOut { online }, false);
        }
        Method::GetMemoryFigures => {
            let asked = number(GetMemoryFiguresIn::from_value(parameters)?.cell, "cell")?;
            let Some(figures) = blocking(move || Ok(node_stats::memory(asked))).await? else {
                let which = asked.map(|n| n.to_string()).unwrap_or_default();
                let message = format!("the host has no NUMA node {which}");
                return Err(Error::NotAvailable { message }.into());
            };
            c.out.good(&GetMemoryFiguresOut { memory: convert::memory(&figures) }, false);
        }
        Method::GetCells => {
            GetCellsIn::from_value(parameters)?;
            let cells = blocking(|| Ok(node_stats::cells())).await?;
            c.out.good(&GetCellsOut { cells: cells.into_iter().map(i64::from).collect() }, false);
        }
        Method::ListInterfaces => {
            ListInterfacesIn::from_value(parameters)?;
            let failed =
                |e: std::io::Error| Error::Failed { message: format!("interfaces of the host: {e}") };
            let found = look::host().await.map_err(failed)?.into_iter();
            let interface = |(name, is_bridge, is_taken)| HostInterface { name, is_bridge, is_taken };
            c.out.good(&ListInterfacesOut { interfaces: found.map(interface).collect() }, false);
        }
        Method::GetMemoryParameters => {
            GetMemoryParametersIn::from_value(parameters)?;
            let parameters = blocking(|| Ok(ksm::read(Path::new(ksm::FOLDER)))).await??;
            c.out.good(&GetMemoryParametersOut { parameters }, false);
        }
        Method::SetMemoryParameters => {
            let p = SetMemoryParametersIn::from_value(parameters)?;
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
