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
use crate::host::limits::Limits;
use crate::host::limits::devices::{self, Numbers, device_number};
use crate::host::resources::Change;

/// A change with the paths that a definition has for its devices.
async fn named(tuning: &Tuning, domain: &Arc<Domain>, known: Numbers) -> Tuning {
    if !tuning.has_unnamed(domain) {
        return tuning.clone();
    }
    let (change, domain) = (tuning.clone(), domain.clone());
    let looked_up = blocking(move || {
        Ok(change.named_as_in(&domain, &|path| devices::entry_of(path, &domain, &known, &device_number)))
    });
    looked_up.await.unwrap_or_else(|_| tuning.clone())
}

impl Task {
    pub(super) async fn tune(&mut self, tuning: &Tuning) -> Result<Answer, Failure> {
        let (live, next) = targets(&tuning.affect, self.active.is_some());
        if next && !self.lifecycle.persistent() {
            return Err(self.denial(Denial::EditTransient));
        }
        // Everything that can fail without a trace comes first.
        let new_next = match &self.next {
            Some(domain) if next => {
                let tuning = named(tuning, domain, Numbers::new()).await;
                Some(Arc::new(tuning.apply(domain, false, &self.engine.host)?))
            }
            _ => None,
        };
        let new_live = match &self.active {
            Some(active) if live => {
                let tuning = named(tuning, &active.run.live, active.run.io_numbers.clone()).await;
                let changed = tuning.apply(&active.run.live, true, &self.engine.host);
                Some(Arc::new(changed.map_err(|why| match why {
                    Failure::InvalidState { message, .. } => {
                        Failure::InvalidState { message, state: self.state() }
                    }
                    other => other,
                })?))
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
            let (old, known) = (active.run.live.clone(), active.run.io_numbers.clone());
            change = Some(self.change_groups(old, new.clone(), known).await?);
            crate::killpoint::reached("tuned");
        }
        if let Some(domain) = &new_next
            && let Err(failure) = self.engine.keep(domain).await
        {
            if let Some((change, _)) = change {
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
            if let Some((_, numbers)) = change {
                active.run.io_numbers = numbers;
            }
        }
        if let Some(domain) = new_next {
            self.next = Some(domain);
        }
        self.publish(Vec::new()).await;
        Ok(Answer::Done)
    }

    /// Answers the numbers of the devices that are limited then, too.
    async fn change_groups(
        &self,
        old: Arc<Domain>,
        new: Arc<Domain>,
        known: Numbers,
    ) -> Result<(Change, Numbers), Failure> {
        let cgroups = self.engine.cgroups.clone();
        let groups = self.groups();
        let done = blocking(move || {
            let changed = || {
                let (before, after) = devices::of_change(&old, &new, &known, &device_number)?;
                let (old, new) = (Limits::of(&old, &before)?, Limits::of(&new, &after)?);
                let change = cgroups.change(&groups, &old, &new).map_err(|e| e.to_string())?;
                Ok::<_, String>((change, after))
            };
            Ok(changed())
        });
        match done.await {
            Ok(changed) => changed.map_err(Failure::Failed),
            Err(e) => Err(Failure::Failed(e.to_string())),
        }
    }
}
