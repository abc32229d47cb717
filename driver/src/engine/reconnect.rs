//! A network that was destroyed and is started again finds its guests: their ends on the host have lost their bridge.
//!
//! Does not know how an end is connected. What a daemon that is away misses is met when it starts, as running networks
//! and their bridges do not change by that.

use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;

use crate::container::task::Request;
use crate::engine::Engine;
use crate::engine::registry::Reference;
use crate::engine::snapshot::Snapshot;
use crate::network::events::Kind;

impl Engine {
    /// Connects guests whenever a network starts.
    pub fn reconnect_guests(self: &Arc<Self>) {
        let mut coming = self.networks.events().listen();
        let engine = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                let event = coming.recv().await;
                let Some(engine) = engine.upgrade() else { return };
                match event {
                    Ok(event) if event.kind == Kind::Started => engine.reconnect(&event.name).await,
                    Ok(_) => {}
                    Err(RecvError::Lagged(missed)) => {
                        tracing::warn!(
                            "{missed} events of networks were missed: guests may be without theirs"
                        );
                    }
                    Err(RecvError::Closed) => return,
                }
            }
        });
    }

    async fn reconnect(self: &Arc<Self>, network: &str) {
        let has = |s: &Snapshot| {
            let links = s.run.as_ref().map(|run| &run.links);
            links.is_some_and(|links| links.iter().any(|l| l.network.as_deref() == Some(network)))
        };
        for snapshot in self.registry.all().into_iter().filter(|s| has(s)) {
            let reference = Reference::by_name(snapshot.name.as_str());
            if let Err(e) = self.ask(&reference, Request::Reconnect(network.to_owned())).await {
                tracing::warn!("domain '{}' is not connected to network '{network}': {e}", snapshot.name);
            }
        }
        self.reconnect_lent(network).await;
    }
}
