//! Who calls, and whether they may: their credentials as the bus knows them, the daemon's one table, and polkit for
//! those whom that table makes readers.
//!
//! Does not know what any method does.

mod polkit;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use berth_schemas::node::Role;
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

/// What callers may do by themselves, by their unique names, which a bus never uses twice.
#[derive(Debug, Default)]
pub struct Callers(Mutex<HashMap<String, (Role, Asker)>>);

impl Callers {
    fn get(&self, name: &str) -> Option<(Role, Asker)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }

    /// Who a caller is, if it was looked up.
    pub fn asker(&self, name: &str) -> Asker {
        self.get(name).map(|(_, asker)| asker).unwrap_or_default()
    }

    fn set(&self, name: &str, role: (Role, Asker)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED {
            all.clear();
        }
        all.insert(name.to_owned(), role);
    }

    /// A caller has left.
    pub fn forget(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

/// The role that the credentials of a caller give.
async fn role(bus: &Bus, name: &str) -> Result<Role, AskError> {
    if let Some((role, _)) = bus.callers.get(name) {
        return Ok(role);
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
    bus.callers.set(name, (role, Asker { uid: Some(uid), pid }));
    Ok(role)
}

/// Whose calls a caller's are. That the bus does not tell who calls is for [`authorise`] to say.
pub async fn user(bus: &Bus, name: &str) -> User {
    match role(bus, name).await {
        Ok(Role::Admin) => User::Admin,
        // Who cannot be told apart is nobody in particular.
        Ok(Role::Reader) | Err(_) => User::Other(bus.callers.asker(name).uid.unwrap_or(u32::MAX)),
    }
}

/// Whether a caller may do this; called before a parameter is looked at.
pub async fn authorise(call: &Call<'_>) -> Result<(), Refusal> {
    let row = call.method.row();
    if row == Method::Service {
        return Ok(());
    }
    let role = role(call.bus, call.sender).await;
    let role = role.map_err(|e| Refusal::Said(format!("authentication failed: {e}")))?;
    match role {
        Role::Admin => Ok(()),
        Role::Reader => polkit::authorise(call, access::allowed(Role::Reader, row)).await,
    }
}
