//! `io.berth.Domain`, one arm for each method: decode, ask the engine, encode.
//!
//! Does not decide anything.

use std::os::fd::OwnedFd;

use berth_schemas::domain::{
    AddressSource, Affect, AttachDeviceIn, AttachDeviceOut, CreateIn, CreateOut, DefineIn, DefineOut,
    DestroyIn, DestroyOut, DetachDeviceIn, DetachDeviceOut, GetHostnameIn, GetHostnameOut,
    GetInterfaceAddressesIn, GetInterfaceAddressesOut, GetMetadataIn, GetMetadataOut, GetResourcesIn,
    GetResourcesOut, GetUsageIn, GetUsageOut, GetXMLIn, GetXMLOut, ListIn, ListOut, Method, RebootIn,
    RebootOut, ResumeIn, ResumeOut, SendProcessSignalIn, SendProcessSignalOut, SetAutostartIn,
    SetAutostartOut, SetMetadataIn, SetMetadataOut, SetResourcesIn, SetResourcesOut, ShutdownIn,
    ShutdownMode, ShutdownOut, StartIn, StartOut, SuspendIn, SuspendOut, TuneInterfaceIn, TuneInterfaceOut,
    UndefineIn, UndefineOut, UpdateDeviceIn, UpdateDeviceOut,
};
use berth_schemas::service::ServiceError;
use berth_schemas::wire::Parameters;

use crate::api::audit::About;
use crate::api::varlink::connection::{Call, Connection, DOOR};
use crate::api::varlink::reply::CallError;
use crate::api::varlink::{console, convert, stats, subscribe};
use crate::container::hotplug::Act;
use crate::container::task::{Request, StartOptions};
use crate::container::tune::Tuning;
use crate::container::tune_interface::InterfaceTuning;
use crate::engine::Tie;
use crate::engine::metadata::MetadataChange;
use crate::engine::publish::blocking;
use crate::engine::registry::Reference;
use crate::engine::snapshot::Snapshot;
use crate::failure::Failure;

/// The reference of a call; one must be given.
pub fn reference(
    name: Option<String>,
    uuid: Option<String>,
    id: Option<i64>,
) -> Result<Reference, CallError> {
    let reference = Reference { name, uuid, id };
    if reference.is_empty() {
        return Err(ServiceError::InvalidParameter("name".into()).into());
    }
    Ok(reference)
}

/// Answers one call.
pub async fn call(c: &mut Connection, method: Method, call: Call) -> Result<(), CallError> {
    match method {
        Method::List => list(c, call).await,
        Method::GetUsage => usage(c, call).await,
        Method::GetStats => stats::stats(c, call).await,
        Method::Define => define(c, call).await,
        Method::Undefine => {
            let p = UndefineIn::from_value(call.parameters)?;
            c.engine.ask(&reference(p.name, p.uuid, p.id)?, Request::Undefine).await?;
            c.out.good(&UndefineOut {}, false);
            Ok(())
        }
        Method::Create => create(c, call).await,
        Method::Start => start(c, call).await,
        Method::Shutdown => {
            let p = ShutdownIn::from_value(call.parameters)?;
            let asked = shutdown(c, &reference(p.name, p.uuid, p.id)?, false, p.modes).await?;
            c.out.good(&ShutdownOut { asked }, false);
            Ok(())
        }
        Method::Reboot => {
            let p = RebootIn::from_value(call.parameters)?;
            let asked = shutdown(c, &reference(p.name, p.uuid, p.id)?, true, p.modes).await?;
            c.out.good(&RebootOut { asked }, false);
            Ok(())
        }
        Method::SendProcessSignal => {
            let p = SendProcessSignalIn::from_value(call.parameters)?;
            c.engine.send_signal(&reference(p.name, p.uuid, p.id)?, p.pid, p.signal).await?;
            c.out.good(&SendProcessSignalOut {}, false);
            Ok(())
        }
        Method::Destroy => {
            let p = DestroyIn::from_value(call.parameters)?;
            c.engine.ask(&reference(p.name, p.uuid, p.id)?, Request::Destroy(None)).await?;
            c.out.good(&DestroyOut {}, false);
            Ok(())
        }
        Method::Suspend => {
            let p = SuspendIn::from_value(call.parameters)?;
            c.engine.ask(&reference(p.name, p.uuid, p.id)?, Request::Suspend).await?;
            c.out.good(&SuspendOut {}, false);
            Ok(())
        }
        Method::Resume => {
            let p = ResumeIn::from_value(call.parameters)?;
            c.engine.ask(&reference(p.name, p.uuid, p.id)?, Request::Resume).await?;
            c.out.good(&ResumeOut {}, false);
            Ok(())
        }
        Method::GetXML => xml(c, call),
        Method::SetAutostart => {
            let p = SetAutostartIn::from_value(call.parameters)?;
            let request = Request::SetAutostart(p.autostart);
            c.engine.ask(&reference(p.name, p.uuid, p.id)?, request).await?;
            c.out.good(&SetAutostartOut {}, false);
            Ok(())
        }
        Method::GetMetadata => get_metadata(c, call),
        Method::SetMetadata => set_metadata(c, call).await,
        Method::GetInterfaceAddresses => addresses(c, call).await,
        Method::GetHostname => {
            let p = GetHostnameIn::from_value(call.parameters)?;
            let snapshot = c.engine.registry.find(&reference(p.name, p.uuid, p.id)?)?.snapshot();
            let hostname = c.engine.hostname(&snapshot, p.source).await?;
            c.out.good(&GetHostnameOut { hostname }, false);
            Ok(())
        }
        Method::AttachDevice => {
            let p = AttachDeviceIn::from_value(call.parameters)?;
            c.engine.change_device(&reference(p.name, p.uuid, p.id)?, Act::Attach, &p.xml, p.affect).await?;
            c.out.good(&AttachDeviceOut {}, false);
            Ok(())
        }
        Method::DetachDevice => {
            let p = DetachDeviceIn::from_value(call.parameters)?;
            c.engine.change_device(&reference(p.name, p.uuid, p.id)?, Act::Detach, &p.xml, p.affect).await?;
            c.out.good(&DetachDeviceOut {}, false);
            Ok(())
        }
        Method::UpdateDevice => {
            let p = UpdateDeviceIn::from_value(call.parameters)?;
            c.engine.change_device(&reference(p.name, p.uuid, p.id)?, Act::Update, &p.xml, p.affect).await?;
            c.out.good(&UpdateDeviceOut {}, false);
            Ok(())
        }
        Method::TuneInterface => {
            let p = TuneInterfaceIn::from_value(call.parameters)?;
            let (inbound, outbound) = (p.inbound.as_ref(), p.outbound.as_ref());
            let affect = p.affect.unwrap_or_default();
            let tuning = InterfaceTuning::new(p.interface, inbound, outbound, p.link_up, affect)?;
            let request = Request::TuneInterface(Box::new(tuning));
            c.engine.ask(&reference(p.name, p.uuid, p.id)?, request).await?;
            c.out.good(&TuneInterfaceOut {}, false);
            Ok(())
        }
        Method::GetResources => {
            let p = GetResourcesIn::from_value(call.parameters)?;
            let snapshot = c.engine.registry.find(&reference(p.name, p.uuid, p.id)?)?.snapshot();
            let (engine, affect) = (c.engine.clone(), p.affect.unwrap_or(Affect::Current));
            let resources = blocking(move || Ok(engine.resources(&snapshot, affect))).await??;
            c.out.good(&GetResourcesOut { resources }, false);
            Ok(())
        }
        Method::SetResources => {
            let p = SetResourcesIn::from_value(call.parameters)?;
            let tuning = Tuning { change: p.change, affect: p.affect.unwrap_or_default() };
            c.engine.ask(&reference(p.name, p.uuid, p.id)?, Request::Tune(Box::new(tuning))).await?;
            c.out.good(&SetResourcesOut {}, false);
            Ok(())
        }
        Method::Subscribe => subscribe::subscribe(c, call).await,
        Method::OpenConsole => console::open(c, call).await,
        Method::AttachConsole => console::attach(c, call).await,
        Method::ResizeConsole => console::resize(c, call).await,
        Method::ReadConsoleLog => console::read_log(c, call).await,
    }
}

async fn list(c: &mut Connection, call: Call) -> Result<(), CallError> {
    let p = ListIn::from_value(call.parameters)?;
    let reference = Reference { name: p.name, uuid: p.uuid, id: p.id };
    if !reference.is_empty() {
        let found = c.engine.registry.find(&reference)?;
        c.out.good(&ListOut { domain: convert::status(&found.snapshot(), c.engine.profiles.model()) }, false);
        return Ok(());
    }
    if !call.more {
        return Err(ServiceError::ExpectedMore.into());
    }
    let all = c.engine.registry.all();
    let Some((last, others)) = all.split_last() else {
        // A stream of nothing cannot be said otherwise in this protocol.
        return Err(Failure::Nobody.into());
    };
    for snapshot in others {
        c.out.good(&ListOut { domain: convert::status(snapshot, c.engine.profiles.model()) }, true);
        c.out.flush_if_much(&mut c.channel).await?;
    }
    c.out.good(&ListOut { domain: convert::status(last, c.engine.profiles.model()) }, false);
    Ok(())
}

async fn usage(c: &mut Connection, call: Call) -> Result<(), CallError> {
    let p = GetUsageIn::from_value(call.parameters)?;
    let snapshot = c.engine.registry.find(&reference(p.name, p.uuid, p.id)?)?.snapshot();
    let engine = c.engine.clone();
    let usage = blocking(move || Ok(engine.usage(&snapshot))).await??;
    c.out.good(&GetUsageOut { usage: convert::usage(&usage) }, false);
    Ok(())
}

async fn define(c: &mut Connection, call: Call) -> Result<(), CallError> {
    let p = DefineIn::from_value(call.parameters)?;
    let dry_run = p.dry_run.unwrap_or(false);
    let defined = c.engine.define(&p.xml, dry_run).await?;
    c.about = Some(About::known(&defined.snapshot));
    c.changed_nothing = dry_run;
    let out = DefineOut {
        domain: convert::status(&defined.snapshot, c.engine.profiles.model()),
        updated: defined.updated,
        warnings: defined.warnings.iter().map(convert::diagnostic).collect(),
    };
    c.out.good(&out, false);
    Ok(())
}

/// The descriptors that init is to get, in their order.
fn for_init(indexes: Option<Vec<i64>>, sent: &[OwnedFd]) -> Result<Vec<OwnedFd>, CallError> {
    let bad = || CallError::from(ServiceError::InvalidParameter("initFileDescriptors".into()));
    let one = |index: i64| {
        let fd = usize::try_from(index).ok().and_then(|i| sent.get(i)).ok_or_else(bad)?;
        fd.try_clone().map_err(|_| bad())
    };
    let indexes = indexes.unwrap_or_default();
    // Room for the daemon's own in one message to the controller.
    if indexes.len() > berth_schemas::wire::MAX_DESCRIPTORS - 8 {
        return Err(bad());
    }
    indexes.into_iter().map(one).collect()
}

fn remember_autodestroy(c: &mut Connection, snapshot: &Snapshot) {
    if let Some(run) = &snapshot.run {
        c.autodestroy.push(Tie { uuid: snapshot.uuid, id: run.id, client: c.asker.by(DOOR) });
    }
}

async fn create(c: &mut Connection, call: Call) -> Result<(), CallError> {
    let p = CreateIn::from_value(call.parameters)?;
    let autodestroy = p.autodestroy.unwrap_or(false);
    let descriptors = for_init(p.init_file_descriptors, &call.descriptors)?;
    let created = c.engine.create(&p.xml, StartOptions { descriptors, autodestroy }).await?;
    if autodestroy {
        remember_autodestroy(c, &created.snapshot);
    }
    c.about = Some(About::known(&created.snapshot));
    let domain = convert::status(&created.snapshot, c.engine.profiles.model());
    let warnings = created.warnings.iter().map(convert::diagnostic).collect();
    c.out.good(&CreateOut { domain, warnings }, false);
    Ok(())
}

async fn start(c: &mut Connection, call: Call) -> Result<(), CallError> {
    let p = StartIn::from_value(call.parameters)?;
    let autodestroy = p.autodestroy.unwrap_or(false);
    let descriptors = for_init(p.init_file_descriptors, &call.descriptors)?;
    let reference = reference(p.name, p.uuid, p.id)?;
    let started = c.engine.start(&reference, StartOptions { descriptors, autodestroy }).await?;
    if autodestroy {
        remember_autodestroy(c, &started);
    }
    c.out.good(&StartOut { domain: convert::status(&started, c.engine.profiles.model()) }, false);
    Ok(())
}

async fn addresses(c: &mut Connection, call: Call) -> Result<(), CallError> {
    let p = GetInterfaceAddressesIn::from_value(call.parameters)?;
    let snapshot = c.engine.registry.find(&reference(p.name, p.uuid, p.id)?)?.snapshot();
    let interfaces = c.engine.addresses(&snapshot, p.source.unwrap_or(AddressSource::Guest)).await?;
    c.out.good(&GetInterfaceAddressesOut { interfaces }, false);
    Ok(())
}

async fn shutdown(
    c: &mut Connection,
    reference: &Reference,
    restart: bool,
    modes: Option<Vec<ShutdownMode>>,
) -> Result<String, CallError> {
    Ok(c.engine.shut_down(reference, restart, &modes.unwrap_or_default()).await?)
}

fn xml(c: &mut Connection, call: Call) -> Result<(), CallError> {
    let p = GetXMLIn::from_value(call.parameters)?;
    let snapshot = c.engine.registry.find(&reference(p.name, p.uuid, p.id)?)?.snapshot();
    let xml = c.engine.xml(&snapshot, p.inactive.unwrap_or(false))?;
    c.out.good(&GetXMLOut { xml }, false);
    Ok(())
}

fn get_metadata(c: &mut Connection, call: Call) -> Result<(), CallError> {
    let p = GetMetadataIn::from_value(call.parameters)?;
    let snapshot = c.engine.registry.find(&reference(p.name, p.uuid, p.id)?)?.snapshot();
    let affect = p.affect.unwrap_or(Affect::Current);
    let value = c.engine.metadata(&snapshot, p.kind, p.uri.as_deref(), affect)?;
    c.out.good(&GetMetadataOut { value }, false);
    Ok(())
}

async fn set_metadata(c: &mut Connection, call: Call) -> Result<(), CallError> {
    let p = SetMetadataIn::from_value(call.parameters)?;
    let change = MetadataChange {
        kind: p.kind,
        uri: p.uri,
        key: p.key,
        value: p.value,
        affect: p.affect.unwrap_or_default(),
    };
    let reference = reference(p.name, p.uuid, p.id)?;
    c.engine.ask(&reference, Request::SetMetadata(Box::new(change))).await?;
    c.out.good(&SetMetadataOut {}, false);
    Ok(())
}
