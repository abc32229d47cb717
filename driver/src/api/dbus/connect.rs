//! `org.libvirt.Connect`, one arm for each method: decode, ask the engine, encode.
//!
//! Does not decide anything.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;

use berth_schemas::wire::MAX_DESCRIPTORS;
use zbus::{ObjectPath, OwnedVariant};

use crate::api::dbus::call::{Answer, Call};
use crate::api::dbus::error::Refusal;
use crate::api::dbus::methods::Connect;
use crate::api::dbus::numbers::{self, Listed, only};
use crate::api::dbus::objects::domain_path;
use crate::api::dbus::ties::{self, AUTODESTROY};
use crate::api::dbus::typed::{In, Out};
use crate::api::dbus::{network, stats};
use crate::container::task::StartOptions;
use crate::engine::publish::blocking;
use crate::engine::registry::Reference;
use crate::engine::snapshot::Snapshot;
use crate::host::{ksm, node, node_stats, sysinfo};

/// VIR_TYPED_PARAM_STRING_OKAY
const STRING_OKAY: u32 = 4;

/// A figure of the host by its name.
type Figures = HashMap<&'static str, u64>;

/// Answers one call.
pub async fn call(c: &Call<'_>, method: Connect) -> Answer {
    match method {
        Connect::DomainCreateXML => {
            let (xml, flags): (String, u32) = c.parameters()?;
            create(c, &xml, Vec::new(), flags).await
        }
        Connect::DomainCreateXMLWithFiles => {
            let (xml, files, flags): (String, Vec<zbus::OwnedFd>, u32) = c.parameters()?;
            create(c, &xml, for_init(files)?, flags).await
        }
        Connect::DomainDefineXML => {
            let xml: String = c.parameters()?;
            let defined = c.bus.engine.define(&xml, false).await?;
            path(c, &defined.snapshot)
        }
        Connect::DomainLookupByID => {
            let id: i32 = c.parameters()?;
            if id < 0 {
                return Err(Refusal::invalid("id in virDomainLookupByID must be zero or greater"));
            }
            let reference = Reference { id: Some(id.into()), ..Reference::default() };
            lookup(c, &reference, &format!("id {id}"))
        }
        Connect::DomainLookupByName => {
            let name: String = c.parameters()?;
            lookup(c, &Reference::by_name(&name), &format!("name '{name}'"))
        }
        Connect::DomainLookupByUUID => {
            let uuid: String = c.parameters()?;
            Refusal::unless_uuid(&uuid, "virDomainLookupByUUIDString")?;
            let reference = Reference { uuid: Some(uuid.clone()), ..Reference::default() };
            lookup(c, &reference, &format!("uuid '{uuid}'"))
        }
        Connect::GetAllDomainStats => stats::all(c).await,
        Connect::GetCapabilities => {
            c.nothing()?;
            let (host, security) = (c.bus.engine.host.clone(), c.bus.engine.profiles.model());
            let xml = blocking(move || Ok(node::capabilities(&host, security))).await?;
            c.answer(&xml.as_str())
        }
        Connect::GetSysinfo => {
            let flags: u32 = c.parameters()?;
            only(flags, 0, "virConnectGetSysinfo")?;
            c.answer(&blocking(|| Ok(sysinfo::xml(Path::new(sysinfo::FOLDER)))).await??.as_str())
        }
        Connect::ListDomains => {
            let flags: u32 = c.parameters()?;
            only(flags, numbers::LISTED, "virConnectListAllDomains")?;
            let all = c.bus.engine.registry.all();
            let listed = all.iter().filter(|s| numbers::is_listed(flags, &looks(s)));
            let paths: Result<Vec<_>, _> =
                listed.map(|s| ObjectPath::try_from(domain_path(s.uuid))).collect();
            c.answer(&paths?)
        }
        Connect::ListNetworks => network::list(c),
        Connect::NetworkCreateXML => network::create(c).await,
        Connect::NetworkDefineXML => network::define(c).await,
        Connect::NetworkLookupByName => network::by_name(c),
        Connect::NetworkLookupByUUID => network::by_uuid(c),
        Connect::NodeGetCPUMap => {
            let flags: u32 = c.parameters()?;
            only(flags, 0, "virNodeGetCPUMap")?;
            c.answer(&blocking(|| Ok(node_stats::cpu_map())).await?)
        }
        Connect::NodeGetCPUStats => {
            let (cpu, flags): (i32, u32) = c.parameters()?;
            only(flags, 0, "virNodeGetCPUStats")?;
            let asked = place(cpu, "cpuNum")?;
            let figures = blocking(move || Ok(node_stats::cpu(asked))).await?;
            answer_figures(
                c,
                figures,
                &format!("cpuNum in virNodeGetCPUStats must be a CPU that is online, not {cpu}"),
            )
        }
        Connect::NodeGetFreeMemory => {
            c.nothing()?;
            let figures: Figures = blocking(|| Ok(node_stats::memory(None))).await?.unwrap_or_default();
            c.answer(&figures.get("free").map_or(0, |kib| kib.saturating_mul(1024)))
        }
        Connect::NodeGetMemoryParameters => {
            let flags: u32 = c.parameters()?;
            only(flags, STRING_OKAY, "virNodeGetMemoryParameters")?;
            memory_parameters(c).await
        }
        Connect::NodeGetMemoryStats => {
            let (cell, flags): (i32, u32) = c.parameters()?;
            only(flags, 0, "virNodeGetMemoryStats")?;
            let asked = place(cell, "cellNum")?;
            let figures = blocking(move || Ok(node_stats::memory(asked))).await?;
            answer_figures(
                c,
                figures,
                &format!("cellNum in virNodeGetMemoryStats must be a node of the host, not {cell}"),
            )
        }
        Connect::NodeGetSecurityModel => {
            c.nothing()?;
            let model = c.bus.engine.profiles.model();
            c.answer(&((model.unwrap_or_default(), if model.is_some() { "0" } else { "" }),))
        }
        Connect::NodeSetMemoryParameters => set_memory_parameters(c).await,
    }
}

/// With the types that libvirt gives them.
async fn memory_parameters(c: &Call<'_>) -> Answer {
    let now = blocking(|| Ok(ksm::read(Path::new(ksm::FOLDER)))).await??;
    let mut out = Out::default();
    let small = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
    out.put("shm_pages_to_scan", small(now.pages_to_scan));
    out.put("shm_sleep_millisecs", small(now.sleep_m_sec));
    for (name, value) in [
        ("shm_pages_shared", now.pages_shared),
        ("shm_pages_sharing", now.pages_sharing),
        ("shm_pages_unshared", now.pages_unshared),
        ("shm_pages_volatile", now.pages_volatile),
        ("shm_full_scans", now.full_scans),
    ] {
        out.figure(name, Some(value));
    }
    if let Some(merge) = now.merge_across_nodes {
        out.put("shm_merge_across_nodes", u32::from(merge));
    }
    c.answer(out.map())
}

async fn set_memory_parameters(c: &Call<'_>) -> Answer {
    let (parameters, flags): (HashMap<String, OwnedVariant>, u32) = c.parameters()?;
    only(flags, 0, "virNodeSetMemoryParameters")?;
    let mut given = In::of_call(parameters, "virNodeSetMemoryParameters")?;
    let mut number = |name: &str| {
        let number = given.exact(name)?.map(u32::try_from).transpose();
        number.map_err(|_| Refusal::invalid(format!("parameter '{name}' is out of range")))
    };
    let (pages_to_scan, sleep_msec) = (number("shm_pages_to_scan")?, number("shm_sleep_millisecs")?);
    let merge_across_nodes = match number("shm_merge_across_nodes")? {
        None => None,
        Some(n @ (0 | 1)) => Some(n == 1),
        Some(_) => return Err(Refusal::invalid("parameter 'shm_merge_across_nodes' must be 0 or 1")),
    };
    given.finish()?;
    let change = ksm::Change { pages_to_scan, sleep_msec, merge_across_nodes };
    blocking(move || Ok(ksm::write(Path::new(ksm::FOLDER), &change))).await??;
    c.done()
}

/// -1 stands for all.
fn place(number: i32, what: &str) -> Result<Option<u32>, Refusal> {
    match number {
        -1 => Ok(None),
        n => u32::try_from(n).map(Some).map_err(|_| Refusal::invalid(format!("{what} {n}"))),
    }
}

fn answer_figures(c: &Call<'_>, figures: Option<Figures>, otherwise: &str) -> Answer {
    c.answer(&figures.ok_or_else(|| Refusal::invalid(otherwise))?)
}

fn looks(snapshot: &Snapshot) -> Listed {
    Listed {
        active: snapshot.run.is_some(),
        persistent: snapshot.next.is_some(),
        autostart: snapshot.autostart,
        state: snapshot.state,
    }
}

fn path(c: &Call<'_>, snapshot: &Snapshot) -> Answer {
    c.answer(&ObjectPath::try_from(domain_path(snapshot.uuid))?)
}

fn lookup(c: &Call<'_>, reference: &Reference, text: &str) -> Answer {
    let found = c.bus.engine.registry.find(reference);
    let found =
        found.map_err(|_| Refusal::Said(format!("Domain not found: no domain with matching {text}")))?;
    path(c, &found.snapshot())
}

/// What init gets as 3, 4, and so on.
pub fn for_init(files: Vec<zbus::OwnedFd>) -> Result<Vec<OwnedFd>, Refusal> {
    // Room for the daemon's own in one message to the controller.
    let most = MAX_DESCRIPTORS - 8;
    if files.len() > most {
        return Err(Refusal::invalid(format!("more than {most} files")));
    }
    Ok(files.into_iter().map(OwnedFd::from).collect())
}

/// VIR_DOMAIN_START_VALIDATE: every document is checked.
const START_VALIDATE: u32 = 1 << 4;

async fn create(c: &Call<'_>, xml: &str, descriptors: Vec<OwnedFd>, flags: u32) -> Answer {
    only(flags, START_VALIDATE | AUTODESTROY, "virDomainCreateXML")?;
    let autodestroy = flags & AUTODESTROY != 0;
    let creating = c.bus.engine.create(xml, StartOptions { descriptors, autodestroy });
    let creating = async { creating.await.map(|created| created.snapshot) };
    let created = if autodestroy { ties::start(c, creating).await? } else { creating.await? };
    path(c, &created)
}
