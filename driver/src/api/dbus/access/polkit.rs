//! polkit: asked for callers whom the daemon's own table makes readers. Its actions are those of libvirt.
//!
//! Without polkit on the bus readers read, and nothing else. Does not know any method.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use zbus::Variant;

use crate::api::dbus::bus::{AskError, BUS, PATIENCE, Target};
use crate::api::dbus::call::Call;
use crate::api::dbus::error::Refusal;

/// Looking.
const MONITOR: &str = "org.libvirt.unix.monitor";

/// Everything else.
const MANAGE: &str = "org.libvirt.unix.manage";

const AUTHORITY: Target = Target {
    name: "org.freedesktop.PolicyKit1",
    path: "/org/freedesktop/PolicyKit1/Authority",
    interface: "org.freedesktop.PolicyKit1.Authority",
};

/// polkit's flag: a person may be asked.
const ALLOW_USER_INTERACTION: u32 = 1;

/// How long a person may think.
const PERSON: Duration = Duration::from_secs(300);

/// Names of questions, by which they are taken back.
static QUESTIONS: AtomicU64 = AtomicU64::new(0);

/// What is said of a caller that nobody can ask any more.
const LEFT: &str = "authentication failed: the caller has left the bus";

/// Whether polkit lets the caller of a method do it. `reads`: it changes nothing.
pub async fn authorise(call: &Call<'_>, reads: bool) -> Result<(), Refusal> {
    let action = if reads { MONITOR } else { MANAGE };
    let interact = call.may_interact();
    let subject = ("system-bus-name", HashMap::from([("name", Variant::from(call.sender))]));
    let details: HashMap<&str, &str> = HashMap::new();
    let flags = if interact { ALLOW_USER_INTERACTION } else { 0 };
    let name = format!("berthd{}", QUESTIONS.fetch_add(1, Ordering::Relaxed));
    let (patience, question) =
        (if interact { PERSON } else { PATIENCE }, (subject, action, details, flags, name.as_str()));
    let mut leaving = call.bus.callers.leaving(call.sender);
    let answer = tokio::select! {
        biased;
        _ = leaving.changed() => None,
        answer = call.bus.ask(AUTHORITY, "CheckAuthorization", &question, patience) => Some(answer),
    };
    if matches!(answer, None | Some(Err(AskError::TimedOut(_)))) {
        // Nobody needs to type a password any more.
        call.bus.tell(AUTHORITY, "CancelCheckAuthorization", &name).await;
    }
    let Some(answer) = answer else { return Err(Refusal::Said(LEFT.into())) };
    let read = answer.and_then(|reply| {
        let verdict: ((bool, bool, HashMap<String, String>),) = reply.body().deserialize()?;
        Ok(verdict.0)
    });
    let no = |why: String| Err(Refusal::Said(why));
    match read {
        Ok((true, _, _)) if reads => Ok(()),
        Ok((true, _, _)) => stays(call).await,
        Ok((false, true, _)) if !interact => no(format!(
            "authentication unavailable: no polkit agent available to authenticate action '{action}'"
        )),
        Ok((false, _, _)) => no("authentication failed: access denied by policy".into()),
        Err(AskError::Refused(name, _)) if is_absent(&name) => match reads {
            true => Ok(()),
            false => no("authentication failed: access denied, and there is no polkit to ask".into()),
        },
        Err(e) => no(format!("authentication failed: polkit: {e}")),
    }
}

/// Whether the caller is on the bus. It may have left before anybody waited for that.
async fn stays(call: &Call<'_>) -> Result<(), Refusal> {
    let asked = call.bus.ask(BUS, "NameHasOwner", &call.sender, PATIENCE).await;
    match asked.and_then(|reply| Ok(reply.body().deserialize::<bool>()?)) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Refusal::Said(LEFT.into())),
        Err(e) => {
            Err(Refusal::Said(format!("authentication failed: cannot tell whether the caller is there: {e}")))
        }
    }
}

/// Whether an error of the bus says that there is no such service.
fn is_absent(name: &str) -> bool {
    ["ServiceUnknown", "NameHasNoOwner"].iter().any(|n| name == format!("org.freedesktop.DBus.Error.{n}"))
}
