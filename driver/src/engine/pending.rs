//! A change of what runs that a daemon did not see the end of: whether it was made, the controller knows.
//!
//! Does not know what the change is.

use std::sync::Arc;

use berth_domain::Domain;

use crate::container::plug;
use crate::engine::Engine;
use crate::engine::record::Record;

type Next = Option<(Arc<Domain>, bool)>;

impl Engine {
    /// What runs, and what is kept. A change that was made in what runs is also kept if that was wanted: whoever wanted
    /// it had no answer, and must not find it half done.
    pub async fn settle_pending(
        &self,
        record: &Record,
        live: Arc<Domain>,
        next: Next,
    ) -> (Arc<Domain>, Next) {
        let Some(pending) = &record.pending else { return (live, next) };
        let done = plug::now(self, record.uuid).await.is_some_and(|list| pending.step.is_done(&list));
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
