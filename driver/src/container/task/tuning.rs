//! Changes of what the domain may use: in its control groups and its definitions, in all of them or in none.
//!
//! Does not know what a limit is.

use std::sync::Arc;

use berth_domain::Domain;

use super::{Answer, Task};
use crate::container::hotplug::targets;
use crate::container::lifecycle::Denial;
use crate::container::tune::Tuning;
use crate::engine::publish::blocking;
use crate::engine::record::Record;
use crate::failure::Failure;
use crate::host::limits::{Limits, device_number};
use crate::host::resources::Change;

impl Task {
    pub(super) async fn tune(&mut self, tuning: &Tuning) -> Result<Answer, Failure> {
        let (live, next) = targets(&tuning.affect, self.active.is_some());
        if next && !self.lifecycle.persistent() {
            return Err(self.denial(Denial::EditTransient));
        }
        // Everything that can fail without a trace comes first.
        let new_next = match &self.next {
            Some(domain) if next => Some(Arc::new(tuning.apply(domain, false, &self.engine.host)?)),
            _ => None,
        };
        let new_live = match &self.active {
            Some(active) if live => {
                Some(Arc::new(tuning.apply(&active.run.live, true, &self.engine.host)?))
            }
            _ => None,
        };
        let mut change = None;
        if let (Some(active), Some(new)) = (&self.active, &new_live) {
            // A daemon that finds this brings the groups to what the document says.
            if let Some(record) = self.record()
                && let Err(e) = self.engine.publisher.note(Record { tuning: true, ..record }).await
            {
                let message = format!("cannot write the status of domain '{}': {e}", self.entry.name);
                return Err(Failure::Failed(message));
            }
            change = Some(self.change_groups(active.run.live.clone(), new.clone()).await?);
            crate::killpoint::reached("tuned");
        }
        if let Some(domain) = &new_next
            && let Err(failure) = self.engine.keep(domain).await
        {
            if let Some(change) = change {
                let undone = blocking(move || {
                    change.undo();
                    Ok(())
                });
                drop(undone.await);
            }
            return Err(failure);
        }
        if let (Some(domain), Some(active)) = (new_live, self.active.as_mut()) {
            active.run.live = domain;
        }
        if let Some(domain) = new_next {
            self.next = Some(domain);
        }
        self.publish(Vec::new()).await;
        Ok(Answer::Done)
    }

    async fn change_groups(&self, old: Arc<Domain>, new: Arc<Domain>) -> Result<Change, Failure> {
        let cgroups = self.engine.cgroups.clone();
        let groups = self.groups();
        let done = blocking(move || {
            let limits = |domain: &Domain| Limits::of(domain, &device_number);
            let (old, new) = match (limits(&old), limits(&new)) {
                (Ok(old), Ok(new)) => (old, new),
                // A device that was there at the start and is no more cannot be limited any more either.
                (Err(_), Ok(new)) => (new.clone(), new),
                (_, Err(message)) => return Ok(Err(message)),
            };
            Ok(cgroups.change(&groups, &old, &new).map_err(|e| e.to_string()))
        });
        match done.await {
            Ok(changed) => changed.map_err(Failure::Failed),
            Err(e) => Err(Failure::Failed(e.to_string())),
        }
    }
}
