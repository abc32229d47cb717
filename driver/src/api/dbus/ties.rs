//! Runs that end with the client that started them (AUTODESTROY): when it leaves the bus, or when nobody can tell any
//! more whether it has, which is at the end of our own connection.
//!
//! Does not know what is started, nor how.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::api::dbus::DOOR;
use crate::api::dbus::bus::{BUS, PATIENCE};
use crate::api::dbus::call::Call;
use crate::api::dbus::error::Refusal;
use crate::engine::Tie;
use crate::engine::snapshot::Snapshot;
use crate::failure::Failure;

/// VIR_DOMAIN_START_AUTODESTROY
pub const AUTODESTROY: u32 = 1 << 1;

/// What became of clients whose runs end, for the log.
pub const LEFT: &str = "which has left the bus";
pub const LOST: &str = "of which nothing is known without the bus";

/// The runs of clients, by their unique names, which a bus never uses twice.
#[derive(Debug, Default)]
pub struct Ties(Mutex<HashMap<String, Vec<Tie>>>);

impl Ties {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Vec<Tie>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client is going to start something; from now on it is noticed that it leaves.
    fn expect(&self, client: &str) {
        self.all().entry(client.to_owned()).or_default();
    }

    /// A client has started something. False: it has left meanwhile.
    fn tie(&self, client: &str, run: Tie) -> bool {
        self.all().get_mut(client).map(|runs| runs.push(run)).is_some()
    }

    /// A client has left; what it has started.
    #[must_use]
    pub fn cut(&self, client: &str) -> Vec<Tie> {
        self.all().remove(client).unwrap_or_default()
    }

    /// All clients have left, as far as anybody can tell; what they have started.
    #[must_use]
    pub fn cut_all(&self) -> Vec<Tie> {
        std::mem::take(&mut *self.all()).into_values().flatten().collect()
    }
}

/// Starts something that ends with the caller.
pub async fn start(
    c: &Call<'_>,
    starting: impl Future<Output = Result<Arc<Snapshot>, Failure>>,
) -> Result<Arc<Snapshot>, Refusal> {
    let (bus, client) = (c.bus, c.sender);
    bus.ties.expect(client);
    // One that left before is not told of any more.
    let asked = bus.ask(BUS, "NameHasOwner", &client, PATIENCE).await;
    let there = asked.and_then(|reply| Ok(reply.body().deserialize::<bool>()?));
    let there =
        there.map_err(|e| Refusal::Said(format!("operation failed: cannot watch the caller: {e}")))?;
    if !there {
        bus.engine.end_with_client(bus.ties.cut(client), LEFT).await;
        return Err(Refusal::Said("operation failed: the caller has left the bus".into()));
    }
    let started = starting.await?;
    let tie = |id| Tie { uuid: started.uuid, id, client: c.asker().by(DOOR) };
    if let Some(tie) = started.run.as_ref().map(|run| tie(run.id))
        && !bus.ties.tie(client, tie.clone())
    {
        bus.engine.end_with_client(vec![tie], LEFT).await;
    }
    Ok(started)
}

#[cfg(test)]
mod test {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn runs_are_those_of_a_client_that_has_not_left() {
        let (ties, run) =
            (Ties::default(), |id: i32| Tie { uuid: Uuid::from_u128(7), id, client: String::new() });
        assert!(!ties.tie(":1.1", run(1)));
        ties.expect(":1.1");
        ties.expect(":1.2");
        assert!(ties.tie(":1.1", run(1)) && ties.tie(":1.2", run(2)));
        ties.expect(":1.1");
        assert!(ties.tie(":1.1", run(3)));
        assert_eq!(ties.cut(":1.1"), [run(1), run(3)]);
        assert_eq!(ties.cut(":1.1"), []);
        assert!(!ties.tie(":1.1", run(4)), "it has left during the start");
        assert_eq!(ties.cut_all(), [run(2)]);
        assert!(!ties.tie(":1.2", run(5)), "the connection has ended during the start");
    }
}
