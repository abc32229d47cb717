//! Events to a client that listens, until it is gone or too slow.
//!
//! Does not know what an event means.

use berth_schemas::domain::{SubscribeIn, SubscribeOut};
use berth_schemas::service::ServiceError;
use berth_schemas::wire::Parameters;

use crate::api::varlink::connection::{Call, Connection};
use crate::api::varlink::convert;
use crate::api::varlink::reply::CallError;
use crate::engine::publish::Happened;
use crate::engine::registry::Reference;

/// Answers with every event from now on.
pub async fn subscribe(c: &mut Connection, call: Call) -> Result<(), CallError> {
    let p = SubscribeIn::from_value(call.parameters)?;
    if !call.more {
        return Err(ServiceError::ExpectedMore.into());
    }
    let reference = Reference { name: p.name, uuid: p.uuid, id: p.id };
    let only = if reference.is_empty() { None } else { Some(c.engine.registry.find(&reference)?.uuid) };
    let wanted = |event: &Happened| only.is_none_or(|uuid| event.uuid == uuid);
    let mut subscription = c.engine.publisher.subscribe(p.since);
    let (sequence, lost) = (subscription.sequence, subscription.lost);
    c.out.good(&SubscribeOut { event: None, sequence, lost }, true);
    for event in subscription.backlog.iter().filter(|e| wanted(e)) {
        put(c, event);
    }
    loop {
        c.out.flush(&mut c.channel).await?;
        tokio::select! {
            event = subscription.coming.recv() => match event {
                Ok(event) if wanted(&event) => put(c, &event),
                Ok(_) => {}
                // Too slow, or the daemon ends: the client comes again with the number of its last event.
                Err(_) => return Err(CallError::Gone),
            },
            () = c.channel.watch() => return Err(CallError::Gone),
        }
    }
}

fn put(c: &mut Connection, event: &Happened) {
    let out = SubscribeOut { event: Some(convert::event(event)), sequence: event.sequence, lost: false };
    c.out.good(&out, true);
}
