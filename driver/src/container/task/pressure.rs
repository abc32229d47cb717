//! Events about pressure in the groups of a running domain.
//!
//! The daemon watches, not the controller: the files are the host's, a thousand controllers need not be woken, and the
//! waiting while no daemon runs is told to nobody who could do something about it. A daemon that starts arms the triggers
//! again. Does not know what the kernel is asked, nor who listens.

use std::sync::Arc;
use std::time::Duration;

use berth_domain::Domain;
use berth_schemas::domain::{EventKind, PressureStats};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Event, Task};
use crate::engine::publish::{Draft, blocking};
use crate::failure::Failure;
use crate::host::pressure::{Trigger, Watch};

/// For how long one resource of one domain is not told of again.
const REST: Duration = Duration::from_secs(10);

/// The watches of one run. They end with this.
#[derive(Debug, Default)]
pub(super) struct Watches(Vec<JoinHandle<()>>);

impl Drop for Watches {
    fn drop(&mut self) {
        for watch in &self.0 {
            watch.abort();
        }
    }
}

/// What is told about pressure.
fn draft(stats: PressureStats) -> Draft {
    let resource = stats.resource.as_str();
    Draft { pressure: Some(stats), ..Draft::new(EventKind::Pressure, resource) }
}

impl Task {
    /// Arms what a definition wants for the run.
    pub(super) async fn arm_pressure(&self, live: &Arc<Domain>) -> Result<Vec<Trigger>, Failure> {
        let settings = live.pressure_settings();
        let cgroups = self.engine.cgroups.clone();
        let groups = self.groups();
        match blocking(move || Ok(cgroups.arm_pressure(&groups, settings))).await {
            Ok(Ok(triggers)) => Ok(triggers),
            Ok(Err(e)) => Err(Failure::Failed(e.to_string())),
            Err(e) => Err(Failure::Failed(e.to_string())),
        }
    }

    /// Watches these from now on, and no others.
    pub(super) fn watch_pressure(&mut self, triggers: Vec<Trigger>) {
        let (mailbox, run) = (self.entry.mailbox().clone(), self.run);
        let Some(active) = self.active.as_mut() else { return };
        let mut watches = Watches::default();
        for trigger in triggers {
            match trigger.watch() {
                Ok(watch) => watches.0.push(tokio::spawn(follow(mailbox.clone(), run, watch))),
                Err(e) => tracing::warn!("domain '{}': cannot watch pressure: {e}", self.entry.name),
            }
        }
        active.pressure = watches;
    }

    /// Arms again what a daemon before this one had armed.
    pub(super) async fn rearm_pressure(&mut self) {
        let Some(live) = self.active.as_ref().map(|a| a.run.live.clone()) else { return };
        match self.arm_pressure(&live).await {
            Ok(triggers) => self.watch_pressure(triggers),
            Err(e) => tracing::warn!("domain '{}': {e}", self.entry.name),
        }
    }

    pub(super) async fn pressed(&mut self, stats: PressureStats) {
        if self.active.is_some() {
            self.publish(vec![draft(stats)]).await;
        }
    }
}

/// Tells the task what one trigger tells, until that ends with its group.
async fn follow(mailbox: mpsc::Sender<Event>, run: u64, watch: Watch) {
    while let Ok(stats) = watch.reached().await {
        if mailbox.send(Event::Pressure(run, Box::new(stats))).await.is_err() {
            return;
        }
        tokio::time::sleep(REST).await;
        watch.forget().await;
    }
}
