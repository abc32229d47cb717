//! Taking over a controller that a former daemon has left. One that stands still (a debugger, a frozen group, a disk that
//! hangs) is waited for as long as it lives: its container goes on meanwhile, and is none the worse for it.
//!
//! Does not know what becomes of the domain.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::engine::Engine;
use crate::engine::record::Record;
use crate::host::link::{Adopted, CallError};
use crate::host::process::Process;
use crate::paths::Layout;

/// How long the daemon's start waits for one.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long one that hung up or is of no use may take to end by itself.
const GRACE: Duration = Duration::from_secs(2);

/// An answer that is still to come.
pub type Asking = JoinHandle<Result<Adopted, CallError>>;

/// A controller that lives.
#[derive(Debug)]
pub enum Alive {
    /// It has answered.
    Answers(Process, Box<Adopted>),
    /// It has not yet.
    Silent(Process, Asking),
}

/// Asks a controller, and waits a moment. None if it ended or is of no use: that one is ended.
pub async fn begin(engine: &Arc<Engine>, record: &Record, process: Process) -> Option<Alive> {
    let (engine, socket) = (engine.clone(), Layout::socket_name(record.uuid));
    let (since, devices) = (record.sequence, record.pending.is_some());
    let mut asking = tokio::spawn(async move { engine.sockets.adopt(&socket, since, devices).await });
    match tokio::time::timeout(PATIENCE, &mut asking).await {
        Ok(answer) => {
            let answer = answer.unwrap_or(Err(CallError::Gone));
            let adopted = judge(&record.name, record.uuid, &process, answer).await?;
            Some(Alive::Answers(process, Box::new(adopted)))
        }
        Err(_) => {
            tracing::warn!(
                "domain '{}': the controller, process {}, does not answer: it is taken over when it does",
                record.name,
                process.pid()
            );
            Some(Alive::Silent(process, asking))
        }
    }
}

/// Waits for one that has not answered yet. None if it ended or is of no use.
pub async fn wait(name: &str, uuid: Uuid, process: &Process, mut asking: Asking) -> Option<Adopted> {
    let answer = tokio::select! {
        // What it said before its end counts.
        biased;
        answer = &mut asking => answer.unwrap_or(Err(CallError::Gone)),
        () = process.ended() => {
            asking.abort();
            return None;
        }
    };
    judge(name, uuid, process, answer).await
}

/// What an answer is worth. A container without a controller that can be talked to cannot be managed.
async fn judge(
    name: &str,
    uuid: Uuid,
    process: &Process,
    answer: Result<Adopted, CallError>,
) -> Option<Adopted> {
    let why = match answer {
        Ok(adopted) if adopted.status.uuid == uuid.to_string() => return Some(adopted),
        Ok(_) => "it is another's".to_owned(),
        Err(e) => e.to_string(),
    };
    if !process.ended_within(GRACE).await {
        tracing::warn!("domain '{name}': {why}, ending it");
        drop(process.kill());
        process.ended_within(GRACE).await;
    }
    None
}
