//! Who calls, and whether they may: their credentials as the bus knows them, the daemon's one table, and polkit for
//! those whom that table makes readers.
//!
//! Does not know what any method does.

mod polkit;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use berth_schemas::node::Role;
use tokio::sync::watch;
use zbus::OwnedVariant;

use crate::api::access::{self, Method};
use crate::api::audit::Asker;
use crate::api::dbus::bus::{AskError, BUS, Bus, PATIENCE};
use crate::api::dbus::call::Call;
use crate::api::dbus::error::Refusal;
use crate::api::dbus::turns::User;
use crate::engine::publish::blocking;

/// Callers that are remembered.
const REMEMBERED: usize = 4096;

/// A group that nobody is in: the database is asked for a caller's groups.
const NO_GROUP: u32 = u32::MAX;

/// Who a caller is, and what it may do by itself.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    role: Role,
    /// For the record of who did what.
    pub asker: Asker,
}

/// Callers, by their unique names, which a bus never uses twice. A call keeps who its caller is: it may well have left the
/// bus before there is an answer.
#[derive(Debug, Default)]
pub struct Callers {
    known: Mutex<HashMap<String, Caller>>,
    /// Whose leaving is waited for. A sender that is dropped tells of it.
    awaited: Mutex<HashMap<String, watch::Sender<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Callers {
    /// Who a caller is, if it was looked up and has not left.
    pub fn get(&self, name: &str) -> Option<Caller> {
        lock(&self.known).get(name).copied()
    }

    fn set(&self, name: &str, caller: Caller) {
        let mut all = lock(&self.known);
        // Those whose calls are under way are kept with these, and others are looked up again.
        if all.len() >= REMEMBERED {
            all.clear();
        }
        all.insert(name.to_owned(), caller);
    }

    /// What changes, which is an error, when a caller leaves. One that has left before is not told of.
    fn leaving(&self, name: &str) -> watch::Receiver<()> {
        let mut all = lock(&self.awaited);
        all.retain(|_, sender| sender.receiver_count() > 0);
        all.entry(name.to_owned()).or_default().subscribe()
    }

    /// A caller has left.
    pub fn forget(&self, name: &str) {
        lock(&self.known).remove(name);
        lock(&self.awaited).remove(name);
    }
}

/// Looks up who a caller is.
pub async fn find(bus: &Bus, name: &str) -> Result<Caller, AskError> {
    if let Some(caller) = bus.callers.get(name) {
        return Ok(caller);
    }
    let reply = bus.ask(BUS, "GetConnectionCredentials", &name, PATIENCE).await?;
    let credentials: HashMap<String, OwnedVariant> = reply.body().deserialize()?;
    let Some(uid) = credentials.get("UnixUserID").and_then(|v| u32::try_from(v).ok()) else {
        return Err(AskError::Odd("the bus does not tell who calls".into()));
    };
    let group = bus.engine.config().admin_group.clone();
    let own = rustix::process::geteuid().as_raw();
    let found = blocking(move || Ok(access::role_of(uid, NO_GROUP, own, &group))).await;
    let role = found.unwrap_or(Role::Reader);
    let pid = credentials.get("ProcessID").and_then(|v| u32::try_from(v).ok());
    let caller = Caller { role, asker: Asker { uid: Some(uid), pid } };
    bus.callers.set(name, caller);
    Ok(caller)
}

/// Whose calls a caller's are. That the bus does not tell who calls is for [`authorise`] to say.
pub fn user(caller: &Result<Caller, AskError>) -> User {
    match caller {
        Ok(Caller { role: Role::Admin, .. }) => User::Admin,
        // Who cannot be told apart is nobody in particular.
        Ok(Caller { role: Role::Reader, asker }) => User::Other(asker.uid.unwrap_or(u32::MAX)),
        Err(_) => User::Other(u32::MAX),
    }
}

/// Whether a caller may do this; called before a parameter is looked at.
pub async fn authorise(call: &Call<'_>) -> Result<(), Refusal> {
    let row = call.method.row();
    if row == Method::Service {
        return Ok(());
    }
    let caller = call.caller.as_ref();
    match caller.map_err(|e| Refusal::Said(format!("authentication failed: {e}")))?.role {
        Role::Admin => Ok(()),
        Role::Reader => polkit::authorise(call, access::allowed(Role::Reader, row)).await,
    }
}
