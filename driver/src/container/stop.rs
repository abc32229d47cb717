//! The end of a run: everything of it goes, and what is known about how it ended is collected.
//!
//! Does not know why, nor what the domain is afterwards.

use std::sync::Arc;
use std::time::Duration;

use berth_schemas::controller::{DestroyIn, DestroyOut, ExitRecord, Method};
use berth_schemas::name::DomainName;
use uuid::Uuid;

use crate::container::ending::{remove_groups, remove_profile};
use crate::container::links::{self, Owner};
use crate::engine::Engine;
use crate::engine::publish::blocking;
use crate::engine::record;
use crate::host::apparmor::Label;
use crate::host::cgroups::Groups;
use crate::host::links::Link;
use crate::host::process::Process;
use crate::killpoint;
use crate::paths::Layout;

/// How long a controller that has said its last word may take to end.
const GRACE: Duration = Duration::from_secs(1);

/// What is known when a run is to be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The container runs: ask the controller to end it.
    Ask,
    /// The controller said that the container ended, or went away.
    Over,
}

/// One run.
#[derive(Debug, Clone)]
pub struct Remains {
    /// Whose.
    pub name: DomainName,
    /// Whose.
    pub uuid: Uuid,
    /// Its control groups.
    pub groups: Groups,
    /// The controller's number.
    pub pid: i32,
    /// What it runs under.
    pub label: Option<Label>,
    /// What its interfaces have on the host.
    pub links: Vec<Link>,
    /// The controller, unless it is known to be dead.
    pub process: Option<Arc<Process>>,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// What the controller left behind.
    pub record: Option<ExitRecord>,
    /// What could not be removed.
    pub residue: Vec<String>,
}

/// Ends a run. Goes on after every failure.
pub async fn run(engine: &Engine, remains: Remains, how: How) -> Outcome {
    let mut residue = Vec::new();
    let socket = Layout::socket_name(remains.uuid);
    if how == How::Ask {
        // A controller that does not answer is killed below: nothing is lost but how init ended.
        let asked = engine.sockets.call::<DestroyOut>(&socket, Method::Destroy, &DestroyIn {}, &[]).await;
        match asked {
            // Closing what came along takes the kernel a grace period: nobody waits for that thread.
            Ok((_, descriptors)) => drop(tokio::task::spawn_blocking(move || drop(descriptors))),
            Err(e) => tracing::debug!("domain '{}': {e}, killing it", remains.name),
        }
    }
    killpoint::reached("stopping");
    if let Some(process) = &remains.process {
        residue.extend(end(process).await);
    }
    let owner = Owner { name: remains.name.as_str(), uuid: remains.uuid, domain: None };
    let (left, links) =
        tokio::join!(remove_groups(engine, &remains.groups), links::release(engine, owner, &remains.links));
    residue.extend(links);
    engine.give_back(remains.uuid, remains.name.as_str(), None).await;
    if left.is_empty() {
        // Not before: what still runs would run under no profile.
        residue.extend(remove_profile(engine, remains.label.as_ref()).await);
    }
    residue.extend(left);
    if let Err(e) = engine.sockets.remove(&socket) {
        residue.push(format!("cannot remove the socket '{socket}': {e}"));
    }
    let (layout, uuid, pid) = (engine.layout.clone(), remains.uuid, remains.pid);
    // It stays until everything is told: a daemon that is killed before that tells it from there.
    let record = blocking(move || Ok(record::read_exit(&layout, uuid, pid))).await;
    killpoint::reached("cleaned");
    Outcome { record: record.ok().flatten(), residue }
}

/// Forgets how a run ended, when that has been told.
pub async fn forget(engine: &Engine, uuid: Uuid) -> Option<String> {
    let path = engine.layout.exit_record(uuid);
    let removed = blocking(move || record::remove(&path)).await;
    removed.err().map(|e| format!("cannot remove the exit record: {e}"))
}

/// Waits a moment for the controller to end by itself: it writes down how the container ended.
async fn end(process: &Process) -> Vec<String> {
    if process.ended_within(GRACE).await {
        return Vec::new();
    }
    let killed = process.kill();
    if process.ended_within(Duration::from_secs(5)).await {
        return Vec::new();
    }
    let cause = killed.err().map_or_else(String::new, |e| format!(": {e}"));
    vec![format!("the controller {} does not end{cause}", process.pid())]
}
