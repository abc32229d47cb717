//! Devices that come and go, in the plan alone. A file system with "refused" in its source cannot be mounted, one with
//! "slow" takes its time, and after one with "lost" the answer is.

use std::time::Duration;

use berth_schemas::controller::{AttachDeviceIn, DetachDeviceIn, Error, ListDevicesOut, StepFailure};
use berth_schemas::wire::{Parameters, error_bytes, reply_bytes};
use serde_json::{Value, json};

use super::Shared;

fn bad(error: &Error) -> Vec<u8> {
    error_bytes(error.name(), &error.parameters())
}

pub async fn attach(shared: &Shared, parameters: Option<Value>) -> Option<Vec<u8>> {
    let asked = AttachDeviceIn::from_value(parameters).ok()?;
    let fs = asked.filesystem?;
    let source = fs.source.clone().unwrap_or_default();
    if source.contains("slow") {
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }
    if source.contains("refused") {
        let failure = StepFailure {
            step: "filesystems".into(),
            operation: "mount".into(),
            path: fs.source,
            target: Some(fs.target),
            errno: Some(20),
            detail: None,
        };
        return Some(bad(&Error::DeviceFailed { failure }));
    }
    let mut state = shared.lock().ok()?;
    let all = &mut state.plan.filesystems;
    match (all.iter().position(|f| f.target == fs.target), asked.replace.unwrap_or(false)) {
        (Some(at), true) => all[at] = fs,
        (None, false) => all.push(fs),
        (Some(_), false) => return Some(bad(&Error::DeviceExists { message: "there".into() })),
        (None, true) => return Some(bad(&Error::NoSuchDevice { message: "not there".into() })),
    }
    // Without an answer the connection ends.
    (!source.contains("lost")).then(|| reply_bytes(&json!({}), false))
}

pub async fn detach(shared: &Shared, parameters: Option<Value>) -> Option<Vec<u8>> {
    let target = DetachDeviceIn::from_value(parameters).ok()?.filesystem?;
    let mut state = shared.lock().ok()?;
    let before = state.plan.filesystems.len();
    state.plan.filesystems.retain(|f| f.target != target);
    if state.plan.filesystems.len() == before {
        return Some(bad(&Error::NoSuchDevice { message: "not there".into() }));
    }
    Some(reply_bytes(&json!({}), false))
}

pub fn list(shared: &Shared) -> Option<Vec<u8>> {
    let plan = shared.lock().ok()?.plan.clone();
    let out = ListDevicesOut {
        filesystems: plan.filesystems,
        devices: plan.devices,
        host_interfaces: plan.host_interfaces,
    };
    Some(reply_bytes(&out, false))
}
