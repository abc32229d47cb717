//! A change of what runs: asked of the controller, then kept; undone if it cannot be kept. An interface has an end on the
//! host, which comes before it and goes after it.
//!
//! Does not know whether the change may be made, nor what it means.

use std::sync::Arc;
use std::time::Duration;

use berth_domain::Domain;
use berth_schemas::controller::{
    AttachDeviceOut, DetachDeviceOut, Error as Refusal, ListDevicesOut, Method, PlanHostInterface,
};
use uuid::Uuid;

use crate::container::hotplug::{Item, Step};
use crate::container::links::{self, Owner};
use crate::container::messages;
use crate::container::plan_devices;
use crate::engine::Engine;
use crate::engine::disks::Noted;
use crate::engine::registry::Reference;
use crate::failure::Failure;
use crate::host::link::CallError;
use crate::host::links::{LentName, Link, LinkError};
use crate::killpoint;
use crate::paths::Layout;

/// Longest time for one step: the controller gives up after ten seconds by itself.
const DEADLINE: Duration = Duration::from_secs(15);

/// A change with everything it needs.
#[derive(Debug)]
pub struct Plug {
    /// Of whom.
    pub name: String,
    /// Of whom.
    pub uuid: Uuid,
    /// What is done.
    pub step: Step,
    /// What takes it back.
    pub back: Step,
    /// What runs.
    pub before: Arc<Domain>,
    /// What runs then.
    pub live: Arc<Domain>,
    /// What is kept then; none if that stays.
    pub next: Option<Arc<Domain>>,
}

/// What came of it.
#[derive(Debug)]
pub struct Plugged {
    /// What runs now, if that changed.
    pub live: Option<Arc<Domain>>,
    /// What is kept now, if that changed.
    pub next: Option<Arc<Domain>>,
    /// What became of the host end of an interface, if that changed.
    pub link: Option<LinkChange>,
    /// What is noted of its disks, if that changed.
    pub disks: Option<Noted>,
    /// Whether it all went well.
    pub result: Result<(), Failure>,
}

/// What became of the host end of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkChange {
    /// It is there, and like this.
    There(Link),
    /// That of this hardware address is gone.
    Gone(String),
}

impl LinkChange {
    /// Changes what is known about host ends.
    pub fn apply(self, links: &mut Vec<Link>) {
        let (Self::There(Link { mac, .. }) | Self::Gone(mac)) = &self;
        links.retain(|l| l.mac != *mac);
        if let Self::There(link) = self {
            links.push(link);
        }
    }
}

/// Makes the change, in both or in neither.
pub async fn run(engine: &Engine, plug: Plug) -> Plugged {
    let Plug { name, uuid, step, back, before, live, next } = plug;
    let owner = Owner { name: &name, uuid, domain: Some(&live) };
    let link = match take(engine, owner, &step, (&before, &live)).await {
        Ok(link) => link,
        Err(failure) => {
            return Plugged { live: None, next: None, link: None, disks: None, result: Err(failure) };
        }
    };
    killpoint::reached("plugged");
    let Some(next) = next else {
        return Plugged { live: Some(live), next: None, link, disks: None, result: Ok(()) };
    };
    let Err(failure) = engine.keep(&next).await else {
        return Plugged { live: Some(live), next: Some(next), link, disks: None, result: Ok(()) };
    };
    match take(engine, owner, &back, (&live, &before)).await {
        Ok(link) => Plugged { live: None, next: None, link, disks: None, result: Err(failure) },
        Err(worse) => {
            let message = format!("{failure}; and what runs could not be changed back: {worse}");
            Plugged { live: Some(live), next: None, link, disks: None, result: Err(Failure::Failed(message)) }
        }
    }
}

/// One step from one definition to another, on the host and in the container.
async fn take(
    engine: &Engine,
    owner: Owner<'_>,
    step: &Step,
    (from, to): (&Domain, &Domain),
) -> Result<Option<LinkChange>, Failure> {
    let failed = |e: LinkError| Failure::Failed(e.to_string());
    let Some(link) = step.item().link() else {
        let Item::HostInterface(lent) = step.item() else {
            return ask(engine, owner, step).await.map(|()| None);
        };
        if let Step::Attach(_) = step {
            links::check_lent(engine, &lent.name).map_err(failed)?;
            borrow(engine, owner, name_of(lent)).await?;
        }
        let done = ask(engine, owner, step).await;
        killpoint::reached("plug-asked");
        if let (Step::Replace(_), Ok(())) = (step, &done) {
            engine.note_renamed(owner, name_of(lent)).await;
        }
        if matches!((step, done.is_ok()), (Step::Attach(_), false) | (Step::Detach(_), true)) {
            engine.give_back(owner.uuid, owner.name, Some(&lent.name)).await;
        }
        return done.map(|()| None);
    };
    let mut link = link.clone();
    let mac = link.mac.clone();
    let missing = || Failure::NoSuchDevice(format!("the interface '{mac}' is not there"));
    match step {
        Step::Attach(_) => {
            let interface = links::interface_of(to, &link.mac).ok_or_else(missing)?;
            let made = links::make(engine, owner, interface, &mut link, None).await.map_err(failed);
            killpoint::reached("plug-linked");
            // What it became is known now.
            let step = Step::Attach(Item::Interface(plan_devices::interface(interface, &link), link.clone()));
            let done = match made {
                Ok(()) => ask(engine, owner, &step).await,
                Err(failure) => Err(failure),
            };
            if let Err(failure) = done {
                return Err(after(failure, links::release(engine, owner, &[link]).await));
            }
            Ok(Some(LinkChange::There(link)))
        }
        Step::Detach(_) => {
            ask(engine, owner, step).await?;
            killpoint::reached("unplugged");
            match links::release(engine, owner, std::slice::from_ref(&link)).await.first() {
                Some(left) => Err(Failure::Failed(left.clone())),
                None => Ok(Some(LinkChange::Gone(link.mac))),
            }
        }
        Step::Replace(_) => {
            let interface = links::interface_of(to, &link.mac).ok_or_else(missing)?;
            let changed = links::change(engine, owner, interface, &mut link).await.map_err(failed);
            let done = match changed {
                // Most changes are none for the container.
                Ok(()) if now(engine, owner.uuid).await.is_some_and(|list| step.is_done(&list)) => Ok(()),
                Ok(()) => ask(engine, owner, step).await,
                Err(failure) => Err(failure),
            };
            let Err(failure) = done else { return Ok(Some(LinkChange::There(link))) };
            let before = links::interface_of(from, &link.mac).ok_or_else(missing)?;
            let restored = links::change(engine, owner, before, &mut link).await;
            Err(after(failure, restored.err().map(|e| e.to_string()).into_iter().collect()))
        }
    }
}

/// What an interface of the host is called on either side.
pub fn name_of(lent: &PlanHostInterface) -> LentName {
    LentName { host: lent.name.clone(), inside: lent.inside.as_ref().unwrap_or(&lent.name).clone() }
}

/// Remembers an interface of the host before the container gets it.
async fn borrow(engine: &Engine, owner: Owner<'_>, lent: LentName) -> Result<(), Failure> {
    let name = lent.host.clone();
    let failed = |e| Failure::Failed(format!("cannot remember the interface '{name}' of the host: {e}"));
    engine.borrow(owner.uuid, vec![lent]).await.map_err(failed)?;
    let init = engine.init_pid(&Reference::by_name(owner.name));
    engine.hold_network_of(owner.uuid, init.map(i64::from)).await;
    Ok(())
}

/// A failure, and what is left of what was tried.
fn after(failure: Failure, left: Vec<String>) -> Failure {
    match left.first() {
        Some(left) => Failure::Failed(format!("{failure}; and {left}")),
        None => failure,
    }
}

/// What the controller does of a step. Where its answer was lost, what it has tells whether it was done.
async fn ask(engine: &Engine, owner: Owner<'_>, step: &Step) -> Result<(), Failure> {
    let Owner { name, uuid, .. } = owner;
    let socket = Layout::socket_name(uuid);
    let answer = match step.call() {
        Ok(ask) => {
            let call = engine.sockets.call_within(DEADLINE, &socket, Method::AttachDevice, &ask, &[]);
            call.await.map(|(AttachDeviceOut {}, _)| ())
        }
        Err(ask) => {
            let call = engine.sockets.call_within(DEADLINE, &socket, Method::DetachDevice, &ask, &[]);
            call.await.map(|(DetachDeviceOut {}, _)| ())
        }
    };
    match answer {
        Ok(()) => Ok(()),
        Err(CallError::Refused(refusal)) => Err(failure(refusal)),
        Err(lost) => match now(engine, uuid).await {
            Some(list) if step.is_done(&list) => Ok(()),
            _ => Err(Failure::Failed(format!("domain '{name}': {lost}"))),
        },
    }
}

/// What the container has, as its controller says.
pub async fn now(engine: &Engine, uuid: Uuid) -> Option<ListDevicesOut> {
    let nothing = serde_json::json!({});
    let socket = Layout::socket_name(uuid);
    engine.sockets.call(&socket, Method::ListDevices, &nothing, &[]).await.ok().map(|(out, _)| out)
}

fn failure(refusal: Refusal) -> Failure {
    match refusal {
        Refusal::DeviceFailed { failure } => Failure::Failed(messages::device_failed(&failure)),
        Refusal::NoSuchDevice { message } => Failure::NoSuchDevice(message),
        Refusal::DeviceExists { message } => Failure::DeviceExists(message),
        other => Failure::Failed(CallError::Refused(other).to_string()),
    }
}
