//! A run that was found again and whose controller has not answered since: what is known of it is what the former daemon
//! wrote down, and the rest follows when it answers.
//!
//! Does not know how it is asked.

use std::sync::Arc;

use berth_domain::Domain;
use berth_schemas::controller::ListDevicesOut;

use super::runs::watch;
use super::{Event, Request, Task};
use crate::container::adoption::{self, Asking};
use crate::container::lifecycle::{Ask, Phase};
use crate::engine::disks;
use crate::engine::record::Pending;
use crate::engine::registry::Entry;
use crate::failure::Failure;
use crate::host::link::Adopted;
use crate::host::process::Process;

/// What is not known until the controller answers.
#[derive(Debug)]
pub(super) struct Silence {
    /// A change of devices that a former daemon began: whether it was made.
    pub(super) pending: Option<Pending>,
    /// The definition that the change was meant for, too.
    kept: Option<Arc<Domain>>,
}

impl Silence {
    pub(super) fn of(pending: Option<Pending>, kept: Option<Arc<Domain>>) -> Self {
        Self { pending, kept }
    }
}

/// Waits until the controller answers, or ends.
pub(super) async fn listen(entry: Arc<Entry>, run: u64, process: Arc<Process>, asking: Asking) {
    let event = match adoption::wait(entry.name.as_str(), entry.uuid, &process, asking).await {
        Some(adopted) => Event::Adopted(run, Box::new(adopted)),
        None => Event::ControllerGone(run),
    };
    // The mailbox is open as long as the domain is active.
    drop(entry.mailbox().send(event).await);
}

impl Task {
    /// Whether a request cannot be begun before the controller answers. Whatever changes the document that runs waits for
    /// a change of it of which nobody knows yet whether it was made.
    pub(super) fn needs_answer(&self, request: &Request) -> bool {
        let Some(silence) = self.active.as_ref().and_then(|a| a.silence.as_ref()) else { return false };
        let by_controller = matches!(request, Request::ChangeDevice(_) | Request::TuneInterface(_));
        let is_edit = self.ask_of(request) == Ask::EditLive && !matches!(request, Request::Reconnect(_));
        is_edit && (by_controller || silence.pending.is_some())
    }

    pub(super) fn no_answer(&self) -> Failure {
        let process = self.active.as_ref().map_or(0, |a| a.run.id);
        Failure::TimedOut(format!(
            "domain '{}': the controller, process {process}, does not answer",
            self.entry.name
        ))
    }

    /// A change that is not settled yet, as the next daemon has to find it. A definition that somebody has put in the place
    /// of the one it was meant for stays.
    pub(super) fn unsettled(&self) -> Option<Pending> {
        let silence = self.active.as_ref()?.silence.as_ref()?;
        let mut pending = silence.pending.clone()?;
        let same = match (&silence.kept, &self.next) {
            (Some(kept), Some(next)) => Arc::ptr_eq(kept, next),
            (kept, next) => kept.is_none() && next.is_none(),
        };
        pending.next = pending.next.filter(|_| same);
        Some(pending)
    }

    /// The controller answers: from here on it is like any other.
    pub(super) async fn adopted(&mut self, adopted: Adopted) {
        let ending = self.lifecycle.phase() == Phase::Stopping;
        let Some(active) = self.active.as_mut() else { return };
        let Some(process) = active.process.clone() else { return };
        let Adopted { status, events, devices } = adopted;
        active.replayed = status.sequence;
        active.run.init_pid = status.init_pid;
        active.run.started_usec = status.started_u_sec;
        active.run.restarts = status.restarts;
        active.run.ready = status.ready;
        active.run.consoles = super::runs::consoles_of(&status);
        tracing::info!("domain '{}': the controller, process {}, answers", self.entry.name, process.pid());
        // Its end clears up everything.
        if !ending {
            self.engine.hold_network_of(self.entry.uuid, status.init_pid).await;
            self.settle_found(devices.as_ref()).await;
            if let Some(active) = self.active.as_mut() {
                active.silence = None;
            }
            self.publish(Vec::new()).await;
            self.register();
        }
        tokio::spawn(watch((self.engine.clone(), self.entry.clone()), self.run, process, events));
    }

    /// A change of devices that a former daemon began is as the controller says.
    async fn settle_found(&mut self, devices: Option<&ListDevicesOut>) {
        let (Some(pending), Some(mut record)) = (self.unsettled(), self.record()) else { return };
        let Some(before) = self.active.as_ref().map(|a| a.run.live.clone()) else { return };
        let next = self.next.clone().map(|domain| (domain, self.lifecycle.autostart()));
        let settled = self.engine.settle_pending(&mut record, devices, before.clone(), next).await;
        let (live, next) = settled;
        let Some(active) = self.active.as_mut() else { return };
        let change = (Some(before), live.clone());
        active.run.disks = disks::note(&active.run.disks, change, active.run.id, pending.counted, None).await;
        active.run.links = record.links;
        active.run.live = live;
        self.next = next.map(|(domain, _)| domain);
    }
}
