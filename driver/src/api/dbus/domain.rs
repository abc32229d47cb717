//! `org.libvirt.Domain`, one arm for each method: decode, ask the engine, encode.
//!
//! Does not decide anything.

use berth_schemas::domain::{InterfaceAddress, MetadataKind};
use uuid::Uuid;

use crate::api::dbus::call::{Answer, Call};
use crate::api::dbus::connect::for_init;
use crate::api::dbus::error::Refusal;
use crate::api::dbus::methods::Domain;
use crate::api::dbus::numbers::{self, affect, affects, only, shutdown_modes};
use crate::api::dbus::objects::{domain_reference, find_domain};
use crate::api::dbus::ties::{self, AUTODESTROY};
use crate::api::dbus::{parts, stats, tuning};
use crate::container::hotplug::Act;
use crate::container::task::{Request, StartOptions};
use crate::engine::metadata::MetadataChange;

/// virDomainXMLFlags: there is nothing secret in a document, no CPU to be updated, and nothing that another host would
/// not read.
const XML_SECURE: u32 = 1;
const XML_INACTIVE: u32 = 2;
const XML_UPDATE_CPU: u32 = 4;
const XML_MIGRATABLE: u32 = 8;
const XML: u32 = XML_SECURE | XML_INACTIVE | XML_UPDATE_CPU | XML_MIGRATABLE;

/// virDomainUndefineFlagsValues: saved images, snapshots, NVRAM and checkpoints, none of which a container ever has.
const UNDEFINE_WHAT_IS_NEVER_THERE: u32 = 1 | 2 | 4 | 8 | 16;

/// Answers one call.
pub async fn call(c: &Call<'_>, method: Domain, uuid: Uuid) -> Answer {
    let engine = &c.bus.engine;
    let snapshot = find_domain(engine, uuid)?;
    let reference = domain_reference(uuid);
    match method {
        Domain::AttachDevice => change_device(c, uuid, Act::Attach, "virDomainAttachDeviceFlags").await,
        Domain::Create => {
            let flags: u32 = c.parameters()?;
            start(c, uuid, Vec::new(), flags, "virDomainCreateWithFlags").await
        }
        Domain::CreateWithFiles => {
            let (files, flags): (Vec<zbus::OwnedFd>, u32) = c.parameters()?;
            start(c, uuid, files, flags, "virDomainCreateWithFiles").await
        }
        Domain::Destroy => {
            let flags: u32 = c.parameters()?;
            only(flags, 0, "virDomainDestroyFlags")?;
            ask(c, uuid, Request::Destroy(None)).await
        }
        Domain::DetachDevice => change_device(c, uuid, Act::Detach, "virDomainDetachDeviceFlags").await,
        Domain::GetBlockIOParameters => tuning::block_io(c, snapshot).await,
        Domain::GetHostname => {
            let source = numbers::hostname_source(c.parameters()?)?;
            c.answer(&engine.hostname(&snapshot, source).await?.as_str())
        }
        Domain::GetInterfaceParameters => parts::interface(c, &snapshot),
        Domain::GetMemoryParameters => tuning::memory(c, snapshot).await,
        Domain::GetMetadata => {
            let (kind, uri, flags): (i32, String, u32) = c.parameters()?;
            let affect = affect(flags, 0, "virDomainGetMetadata")?;
            let text = engine.metadata(&snapshot, metadata_kind(kind)?, given(&uri), affect)?;
            c.answer(&text.as_str())
        }
        Domain::GetNumaParameters => tuning::numa(c, snapshot).await,
        Domain::GetSchedulerParameters => tuning::scheduler(c, snapshot).await,
        Domain::GetSecurityLabelList => {
            c.nothing()?;
            let label = snapshot.run.as_ref().and_then(|r| r.label.as_ref());
            let labels: Vec<(&str, bool)> = label.iter().map(|l| (l.name.as_str(), l.enforcing)).collect();
            c.answer(&labels)
        }
        Domain::GetState => {
            let flags: u32 = c.parameters()?;
            only(flags, 0, "virDomainGetState")?;
            let reason = numbers::reason(snapshot.state, snapshot.reason);
            c.answer(&((numbers::state(snapshot.state), reason),))
        }
        Domain::GetStats => stats::one(c, snapshot).await,
        Domain::GetVcpuPinInfo => parts::pinned(c, snapshot).await,
        Domain::GetVcpus => tuning::vcpus(c, snapshot).await,
        Domain::GetXMLDesc => {
            let flags: u32 = c.parameters()?;
            only(flags, XML, "virDomainGetXMLDesc")?;
            c.answer(&engine.xml(&snapshot, flags & XML_INACTIVE != 0)?.as_str())
        }
        Domain::HasManagedSaveImage => {
            let flags: u32 = c.parameters()?;
            only(flags, 0, "virDomainHasManagedSaveImage")?;
            c.answer(&false)
        }
        Domain::InterfaceAddresses => {
            let (source, flags): (u32, u32) = c.parameters()?;
            only(flags, 0, "virDomainInterfaceAddresses")?;
            let found = engine.addresses(&snapshot, numbers::address_source(source)?).await?;
            let one = |a: &InterfaceAddress| {
                let prefix = u32::try_from(a.prefix).unwrap_or(0);
                (numbers::address_kind(&a.address), a.address.clone(), prefix)
            };
            let all = found.into_iter().map(|i| {
                let addresses = i.addresses.iter().map(one).collect::<Vec<(i32, String, u32)>>();
                (i.name, i.mac.unwrap_or_default(), addresses)
            });
            c.answer(&all.collect::<Vec<_>>())
        }
        Domain::MemoryStats => stats::memory(c, snapshot).await,
        Domain::PinVcpu => parts::pin(c, uuid, &snapshot).await,
        Domain::Reboot => {
            let modes = shutdown_modes(c.parameters()?, "virDomainReboot")?;
            engine.shut_down(&reference, true, &modes).await?;
            c.done()
        }
        Domain::Resume => {
            c.nothing()?;
            ask(c, uuid, Request::Resume).await
        }
        Domain::SendProcessSignal => {
            let (pid, signal, flags): (i64, u32, u32) = c.parameters()?;
            only(flags, 0, "virDomainSendProcessSignal")?;
            engine.send_signal(&reference, pid, signal.into()).await?;
            c.done()
        }
        Domain::SetBlockIOParameters => tuning::set_block_io(c, uuid).await,
        Domain::SetInterfaceParameters => parts::set_interface(c, uuid).await,
        Domain::SetMemory => tuning::set_memory_size(c, uuid).await,
        Domain::SetMemoryParameters => tuning::set_memory(c, uuid).await,
        Domain::SetMetadata => {
            let (kind, value, key, uri, flags): (i32, String, String, String, u32) = c.parameters()?;
            let affect = affects(flags, 0, "virDomainSetMetadata")?;
            let text = |text: String| (!text.is_empty()).then_some(text);
            let (uri, key, value) = (text(uri), text(key), text(value));
            let change = MetadataChange { kind: metadata_kind(kind)?, uri, key, value, affect };
            ask(c, uuid, Request::SetMetadata(Box::new(change))).await
        }
        Domain::SetNumaParameters => tuning::set_numa(c, uuid).await,
        Domain::SetSchedulerParameters => tuning::set_scheduler(c, uuid).await,
        Domain::SetVcpus => tuning::set_vcpus(c, uuid).await,
        Domain::Shutdown => {
            let modes = shutdown_modes(c.parameters()?, "virDomainShutdownFlags")?;
            engine.shut_down(&reference, false, &modes).await?;
            c.done()
        }
        Domain::Suspend => {
            c.nothing()?;
            ask(c, uuid, Request::Suspend).await
        }
        Domain::Undefine => {
            let flags: u32 = c.parameters()?;
            only(flags, UNDEFINE_WHAT_IS_NEVER_THERE, "virDomainUndefineFlags")?;
            ask(c, uuid, Request::Undefine).await
        }
        Domain::UpdateDevice => change_device(c, uuid, Act::Update, "virDomainUpdateDeviceFlags").await,
    }
}

async fn start(c: &Call<'_>, uuid: Uuid, files: Vec<zbus::OwnedFd>, flags: u32, function: &str) -> Answer {
    only(flags, AUTODESTROY, function)?;
    let autodestroy = flags & AUTODESTROY != 0;
    let (reference, options) =
        (domain_reference(uuid), StartOptions { descriptors: for_init(files)?, autodestroy });
    let starting = c.bus.engine.start(&reference, options);
    if autodestroy {
        ties::start(c, starting).await?;
    } else {
        starting.await?;
    }
    c.done()
}

/// Asks the domain, and says that it is done.
pub async fn ask(c: &Call<'_>, uuid: Uuid, request: Request) -> Answer {
    c.bus.engine.ask(&domain_reference(uuid), request).await?;
    c.done()
}

/// An empty text is none.
fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// virDomainMetadataType
fn metadata_kind(kind: i32) -> Result<MetadataKind, Refusal> {
    match kind {
        0 => Ok(MetadataKind::Description),
        1 => Ok(MetadataKind::Title),
        2 => Ok(MetadataKind::Element),
        other => Err(Refusal::invalid(format!("unknown metadata type {other}"))),
    }
}

async fn change_device(c: &Call<'_>, uuid: Uuid, act: Act, function: &str) -> Answer {
    let (xml, flags): (String, u32) = c.parameters()?;
    let affect = affects(flags, 0, function)?;
    c.bus.engine.change_device(&domain_reference(uuid), act, &xml, Some(affect)).await?;
    c.done()
}
