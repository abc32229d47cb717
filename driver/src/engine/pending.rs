//! A change of what runs that a daemon did not see the end of: whether it was made, the controller knows.
//!
//! Does not know what the change is.

use std::sync::Arc;

use berth_domain::Domain;
use berth_schemas::controller::ListDevicesOut;

use crate::container::hotplug::{Item, Step};
use crate::container::links::{self, Owner};
use crate::container::plug::{self, LinkChange};
use crate::engine::Engine;
use crate::engine::record::{Pending, Record};
use crate::network::Claim;

type Next = Option<(Arc<Domain>, bool)>;

impl Engine {
    /// What runs, and what is kept, where the container has these devices. A change that was made in what runs is also kept if that was wanted: whoever wanted
    /// it had no answer, and must not find it half done.
    pub async fn settle_pending(
        &self,
        record: &mut Record,
        devices: Option<&ListDevicesOut>,
        live: Arc<Domain>,
        next: Next,
    ) -> (Arc<Domain>, Next) {
        let Some(pending) = &record.pending.clone() else { return (live, next) };
        let done = devices.is_some_and(|list| pending.step.is_done(list));
        let (live, next) = self.settle_documents(record, pending, done, live, next).await;
        self.settle_link(record, pending, done, &live).await;
        (live, next)
    }

    /// The host end of an interface that was to come, to go or to change becomes what the container's end is.
    async fn settle_link(&self, record: &mut Record, pending: &Pending, done: bool, live: &Domain) {
        if let (Item::HostInterface(lent), Step::Attach(_), false)
        | (Item::HostInterface(lent), Step::Detach(_), true) = (pending.step.item(), &pending.step, done)
        {
            self.give_back(record.uuid, &record.name, Some(&lent.name)).await;
        }
        let name = record.name.clone();
        let owner = Owner { name: &name, uuid: record.uuid, domain: None };
        if let (Item::HostInterface(lent), Step::Replace(_), true) =
            (pending.step.item(), &pending.step, done)
        {
            self.note_renamed(owner, plug::name_of(lent)).await;
        }
        let Some(link) = pending.step.item().link() else { return };
        let mut link = link.clone();
        match (&pending.step, done, links::interface_of(live, &link.mac)) {
            (Step::Attach(_), false, _) | (Step::Detach(_), true, _) => {
                for left in links::release(self, owner, std::slice::from_ref(&link)).await {
                    tracing::warn!("domain '{name}': {left}");
                }
                LinkChange::Gone(link.mac).apply(&mut record.links);
            }
            (Step::Replace(_), _, Some(interface)) => {
                if let Err(e) = links::change_again(self, owner, interface, &mut link).await {
                    tracing::warn!("domain '{name}': a change of an interface is not whole: {e}");
                }
                LinkChange::There(link).apply(&mut record.links);
            }
            (Step::Attach(_), true, interface) => {
                if let Some(interface) = interface
                    && let Ok(spec) = links::resolve(self, owner, interface, &link.host, Claim::Again).await
                {
                    links::note_kind(&mut link, &spec);
                }
                LinkChange::There(link).apply(&mut record.links);
            }
            _ => {}
        }
    }

    async fn settle_documents(
        &self,
        record: &Record,
        pending: &Pending,
        done: bool,
        live: Arc<Domain>,
        next: Next,
    ) -> (Arc<Domain>, Next) {
        let read = |text: &str| berth_domain::parse(text, &self.host).ok().map(|p| Arc::new(p.domain));
        let Some(changed) = read(&pending.document).filter(|_| done) else { return (live, next) };
        let kept = match (pending.next.as_deref().and_then(read), &next) {
            (Some(kept), Some((_, autostart))) => match self.keep(&kept).await {
                Ok(()) => Some((kept, *autostart)),
                Err(e) => {
                    tracing::warn!("domain '{}': a change of what runs is not kept: {e}", record.name);
                    next
                }
            },
            _ => next,
        };
        (changed, kept)
    }
}
