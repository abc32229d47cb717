//! Starts that a daemon did not finish, before the next one takes them down: whoever may have interfaces of the host in
//! its container is asked to end, as only the kernel decides about those of one that is killed.
//!
//! Does not know what else there is to take down.

use std::io;

use crate::container::ending::give_up;
use crate::engine::Engine;
use crate::engine::publish::blocking;
use crate::engine::record::{self, RecordPhase};
use crate::host::process::Process;

impl Engine {
    /// Ends the controllers of all starts that are still under way.
    pub async fn end_abandoned(&self) -> io::Result<()> {
        let layout = self.layout.clone();
        let (records, bad) = blocking(move || record::read_all(&layout)).await?;
        for path in bad {
            tracing::warn!("removed the status record '{path}', which is not readable");
        }
        let abandoned =
            |r: &record::Record| r.phase == RecordPhase::Starting && r.boot_id == self.publisher.boot_id();
        let held = |r: record::Record| r.process.and_then(|p| Process::adopt(p.pid, p.start).ok());
        let ending = records.into_iter().filter(abandoned).filter_map(held);
        for left in futures_util::future::join_all(ending.map(|p| async move { give_up(&p).await })).await {
            left.iter().for_each(|left| tracing::warn!("{left}"));
        }
        Ok(())
    }
}
