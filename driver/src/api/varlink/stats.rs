//! `GetStats`: figures of many domains are read and written down by several threads, and go out in order.
//!
//! Does not know where figures come from.

use std::sync::Arc;

use berth_schemas::domain::{GetStatsIn, GetStatsOut, StatsGroup};
use berth_schemas::service::ServiceError;
use berth_schemas::wire::{Parameters, reply_bytes};

use crate::api::varlink::connection::{Call, Connection};
use crate::api::varlink::reply::CallError;
use crate::engine::Engine;
use crate::engine::publish::blocking;
use crate::engine::registry::Reference;
use crate::engine::snapshot::Snapshot;
use crate::engine::stats::{Reading, USUAL};
use crate::failure::Failure;

/// Fewer domains than this are not worth another thread.
const FEW: usize = 16;

/// Answers one call.
pub async fn stats(c: &mut Connection, call: Call) -> Result<(), CallError> {
    let p = GetStatsIn::from_value(call.parameters)?;
    let mut groups = p.groups.unwrap_or_else(|| USUAL.to_vec());
    groups.dedup();
    groups.truncate(StatsGroup::ALL.len());
    let reference = Reference { name: p.name, uuid: p.uuid, id: p.id };
    let mut all = if reference.is_empty() {
        if !call.more {
            return Err(ServiceError::ExpectedMore.into());
        }
        c.engine.registry.all()
    } else {
        vec![c.engine.registry.find(&reference)?.snapshot()]
    };
    all.retain(|s| p.active.is_none_or(|active| active == s.run.is_some()));
    if all.is_empty() {
        // A stream of nothing cannot be said otherwise in this protocol.
        return Err(Failure::Nobody.into());
    }
    c.engine.watch_meters();
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get().min(8));
    let size = all.len().div_ceil(threads * 2).max(FEW);
    let count = all.len();
    let (all, groups) = (Arc::new(all), Arc::new(groups));
    let mut pieces = Vec::new();
    for start in (0..count).step_by(size) {
        let (engine, all, groups) = (c.engine.clone(), all.clone(), groups.clone());
        let piece = start..(start + size).min(count);
        pieces.push(tokio::spawn(blocking(move || {
            Ok(encode(&engine, &all[piece.clone()], &groups, piece.end == count))
        })));
    }
    for piece in pieces {
        let bytes = piece.await.map_err(|e| Failure::Failed(e.to_string()))?;
        c.out.raw(&bytes.map_err(|e| Failure::Failed(e.to_string()))?);
        c.out.flush_if_much(&mut c.channel).await?;
    }
    Ok(())
}

/// The replies for some of the domains; none follows the last one.
fn encode(engine: &Engine, some: &[Arc<Snapshot>], groups: &[StatsGroup], last: bool) -> Vec<u8> {
    let (mut reading, mut bytes) = (Reading::default(), Vec::with_capacity(some.len() * 1024));
    for (index, snapshot) in some.iter().enumerate() {
        let stats = engine.stats(snapshot, groups, &mut reading);
        let continues = !(last && index + 1 == some.len());
        bytes.extend(reply_bytes(&GetStatsOut { stats }, continues));
    }
    bytes
}
