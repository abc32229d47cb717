//! A change of what runs: asked of the controller, then kept; undone if it cannot be kept.
//!
//! Does not know whether the change may be made, nor what it means.

use std::sync::Arc;
use std::time::Duration;

use berth_domain::Domain;
use berth_schemas::controller::{AttachDeviceOut, DetachDeviceOut, Error as Refusal, ListDevicesOut, Method};
use uuid::Uuid;

use crate::container::hotplug::Step;
use crate::container::messages;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::host::link::CallError;
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
    /// Whether it all went well.
    pub result: Result<(), Failure>,
}

/// Makes the change, in both or in neither.
pub async fn run(engine: &Engine, plug: Plug) -> Plugged {
    let Plug { name, uuid, step, back, live, next } = plug;
    if let Err(failure) = take(engine, &name, uuid, &step).await {
        return Plugged { live: None, next: None, result: Err(failure) };
    }
    killpoint::reached("plugged");
    let Some(next) = next else { return Plugged { live: Some(live), next: None, result: Ok(()) } };
    let Err(failure) = engine.keep(&next).await else {
        return Plugged { live: Some(live), next: Some(next), result: Ok(()) };
    };
    match take(engine, &name, uuid, &back).await {
        Ok(()) => Plugged { live: None, next: None, result: Err(failure) },
        Err(worse) => {
            let message = format!("{failure}; and what runs could not be changed back: {worse}");
            Plugged { live: Some(live), next: None, result: Err(Failure::Failed(message)) }
        }
    }
}

/// One step. Where the controller's answer was lost, what it has tells whether it was done.
async fn take(engine: &Engine, name: &str, uuid: Uuid, step: &Step) -> Result<(), Failure> {
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
