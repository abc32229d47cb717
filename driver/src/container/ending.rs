//! What a start and an end take away again: the controller, so that what was lent to its container is given back, its
//! profile and its control groups.
//!
//! Does not know why, nor in which order.

use std::time::Duration;

use crate::engine::Engine;
use crate::engine::publish::blocking;
use crate::host::apparmor::Label;
use crate::host::cgroups::Groups;
use crate::host::process::Process;

/// How long a controller may take to give back what it has of the host.
const GIVING_BACK: Duration = Duration::from_secs(5);

/// Ends a controller that may have interfaces of the host in its container: it is asked first, so that it gives them back.
/// Of one that is killed, virtual ones are gone with the namespace.
pub async fn give_up(process: &Process) -> Vec<String> {
    // A failure is that of the kill, too.
    drop(process.signal(rustix::process::Signal::TERM));
    match process.ended_within(GIVING_BACK).await {
        true => Vec::new(),
        false => end(process).await,
    }
}

/// Kills a controller and waits for its end.
pub async fn end(process: &Process) -> Vec<String> {
    let mut residue = Vec::new();
    if let Err(e) = process.kill() {
        residue.push(format!("cannot kill the controller {}: {e}", process.pid()));
    }
    if !process.ended_within(Duration::from_secs(5)).await {
        residue.push(format!("the controller {} does not end", process.pid()));
    }
    residue
}

/// Removes the profile of a domain that was loaded for it, and answers what is left.
pub async fn remove_profile(engine: &Engine, label: Option<&Label>) -> Vec<String> {
    let Some(label) = label.filter(|l| l.own).cloned() else { return Vec::new() };
    let (profiles, name) = (engine.profiles.clone(), label.name.clone());
    let removed = blocking(move || Ok(profiles.remove(&label).map_err(|e| e.to_string()))).await;
    let cause = match removed {
        Ok(Ok(())) => return Vec::new(),
        Ok(Err(e)) => e,
        Err(e) => e.to_string(),
    };
    vec![format!("cannot remove the AppArmor profile '{name}': {cause}")]
}

/// Kills what is in the groups of a domain, removes them, and answers what is left.
pub async fn remove_groups(engine: &Engine, groups: &Groups) -> Vec<String> {
    let (cgroups, groups) = (engine.cgroups.clone(), groups.clone());
    let removed = blocking(move || Ok(cgroups.remove(&groups))).await;
    match removed {
        Ok(errors) => errors.iter().map(ToString::to_string).collect(),
        Err(e) => vec![format!("cannot remove control groups: {e}")],
    }
}
