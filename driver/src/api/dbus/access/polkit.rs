//! polkit: asked for callers whom the daemon's own table makes readers. Its actions are those of libvirt.
//!
//! Without polkit on the bus readers read, and nothing else. Does not know any method.

use std::collections::HashMap;
use std::time::Duration;

use zbus::Variant;

use crate::api::dbus::bus::{AskError, PATIENCE, Target};
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

/// Whether polkit lets the caller of a method do it. `reads`: it changes nothing.
pub async fn authorise(call: &Call<'_>, reads: bool) -> Result<(), Refusal> {
    let action = if reads { MONITOR } else { MANAGE };
    let interact = call.may_interact();
    let subject = ("system-bus-name", HashMap::from([("name", Variant::from(call.sender))]));
    let details: HashMap<&str, &str> = HashMap::new();
    let flags = if interact { ALLOW_USER_INTERACTION } else { 0 };
    let (patience, question) =
        (if interact { PERSON } else { PATIENCE }, (subject, action, details, flags, ""));
    let answer = call.bus.ask(AUTHORITY, "CheckAuthorization", &question, patience).await;
    let read = answer.and_then(|reply| {
        let verdict: ((bool, bool, HashMap<String, String>),) = reply.body().deserialize()?;
        Ok(verdict.0)
    });
    let no = |why: String| Err(Refusal::Said(why));
    match read {
        Ok((true, _, _)) => Ok(()),
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

/// Whether an error of the bus says that there is no such service.
fn is_absent(name: &str) -> bool {
    ["ServiceUnknown", "NameHasNoOwner"].iter().any(|n| name == format!("org.freedesktop.DBus.Error.{n}"))
}
