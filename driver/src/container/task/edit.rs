//! Requests that change definitions and nothing that runs.
//!
//! Does not know where definitions are kept.

use std::sync::Arc;

use berth_domain::Domain;
use berth_schemas::domain::EventKind;

use super::{Answer, Task};
use crate::container::lifecycle::{Denial, Fact, Phase};
use crate::engine::metadata::MetadataChange;
use crate::engine::publish::Draft;
use crate::failure::Failure;

impl Task {
    pub(super) async fn define(&mut self, domain: Domain) -> Result<Answer, Failure> {
        self.engine.keep(&domain).await?;
        let updated = self.lifecycle.persistent();
        self.next = Some(Arc::new(domain));
        self.lifecycle = self.lifecycle.after(Fact::Defined);
        let detail = if updated { "updated" } else { "added" };
        self.publish(vec![Draft::new(EventKind::Defined, detail)]).await;
        Ok(Answer::Defined(self.entry.snapshot(), updated))
    }

    pub(super) async fn undefine(&mut self) -> Result<Answer, Failure> {
        self.engine.unkeep(&self.entry.name).await?;
        self.next = None;
        self.lifecycle = self.lifecycle.after(Fact::Undefined);
        if self.lifecycle.phase() == Phase::Absent {
            self.engine.remember(self.entry.uuid, None).await;
            self.give_back_ids().await;
        }
        self.publish(vec![Draft::new(EventKind::Undefined, "removed")]).await;
        Ok(Answer::Done)
    }

    /// Nothing runs: its ids are only kept, and not even that if nobody knows the domain any more.
    pub(super) async fn give_back_ids(&self) {
        let gone = self.lifecycle.phase() == Phase::Absent;
        self.engine.give_back_ids(self.entry.uuid, gone).await;
    }

    pub(super) async fn set_autostart(&mut self, on: bool) -> Result<Answer, Failure> {
        self.engine.keep_autostart(&self.entry.name, on).await?;
        self.lifecycle = self.lifecycle.after(Fact::Autostart(on));
        self.publish(Vec::new()).await;
        Ok(Answer::Done)
    }

    pub(super) async fn set_metadata(&mut self, change: &MetadataChange) -> Result<Answer, Failure> {
        let (live, next) = change.targets(self.active.is_some());
        if next && !self.lifecycle.persistent() {
            return Err(self.denial(Denial::EditTransient));
        }
        // Everything that can fail comes first, so that nothing is half done.
        let new_live = match &self.active {
            Some(active) if live => {
                let domain = change.apply(&active.run.live)?;
                // Whatever the change was meant for: a document can be written so that it has more than its namespace.
                if change.is_of_settings() || !domain.has_settings_of(&active.run.live) {
                    return Err(self.settings_are_in_force());
                }
                Some(domain)
            }
            _ => None,
        };
        let new_next = match &self.next {
            Some(domain) if next => Some(change.apply(domain)?),
            _ => None,
        };
        if let Some(domain) = &new_next {
            self.engine.keep(domain).await?;
        }
        if let (Some(domain), Some(active)) = (new_live, self.active.as_mut()) {
            active.run.live = Arc::new(domain);
        }
        if let Some(domain) = new_next {
            self.next = Some(Arc::new(domain));
        }
        let draft = Draft {
            detail: change.uri.clone(),
            metadata: Some(change.kind),
            ..Draft::blank(EventKind::Metadata)
        };
        self.publish(vec![draft]).await;
        Ok(Answer::Done)
    }

    /// What a running domain's document says of the settings is what it was started with, and what `limits` changed.
    fn settings_are_in_force(&self) -> Failure {
        let message = "the settings of a domain that runs cannot be changed as metadata, which would put none of them in \
                       force: change its limits with 'limits', or all settings for the next start with --config";
        Failure::InvalidState { message: message.into(), state: self.state() }
    }
}
