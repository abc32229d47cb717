//! What a domain is and does: `dominfo`, `domstate`, `domid`, `domname`, `domuuid`.
//!
//! Does not compute anything; figures are the daemon's.

use berth_schemas::domain::{
    DomainStatus, DomainUsage, Exit, ExitKind, GetUsageIn, GetUsageOut, ListIn, Method, Reason, Security,
    State,
};
use serde::Serialize;

use crate::cmd::list::id_text;
use crate::error::Failure;
use crate::grammar::{Command, Group, Opt, Values};
use crate::parse::Args;
use crate::session::{DomainRef, Session, as_uuid};
use crate::times;

/// `dominfo`
pub static DOMINFO: Command = Command::new("dominfo", Group::Monitor, "domain information", dominfo)
    .about("Shows what is known about each domain, in rows.")
    .options(&[Opt::domains(Values::Domains)])
    .json("the domain as in list, and osType, vcpus, cpuTimeNSec, maxMemoryKiB, usedMemoryKiB, processes; an array where several domains are asked for");

/// `domstate`
pub static DOMSTATE: Command = Command::new("domstate", Group::Monitor, "domain state", domstate)
    .about("Shows the state of each domain.")
    .options(&[Opt::domains(Values::Domains), Opt::flag("reason", "print why it is in that state, too")])
    .json("state and reason; an array with names where several domains are asked for");

/// `domid`
pub static DOMID: Command =
    Command::new("domid", Group::Domain, "convert a domain name or UUID to domain id", domid)
        .about("Prints the id of a domain, or a hyphen if it is not active.")
        .options(&[Opt::text("domain", "domain name or uuid").required().from(Values::Domains)])
        .json("id, null unless active");

/// `domname`
pub static DOMNAME: Command =
    Command::new("domname", Group::Domain, "convert a domain id or UUID to domain name", domname)
        .options(&[Opt::text("domain", "domain id or uuid").required().from(Values::DomainUuids)])
        .json("name");

/// `domuuid`
pub static DOMUUID: Command =
    Command::new("domuuid", Group::Domain, "convert a domain name or id to domain UUID", domuuid)
        .options(&[Opt::text("domain", "domain id or name").required().from(Values::Domains)])
        .json("uuid");

/// A domain in JSON. Null where nothing is known, so that every key is always there.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusJson<'a> {
    id: Option<i64>,
    name: &'a str,
    uuid: &'a str,
    state: State,
    reason: Reason,
    persistent: bool,
    autostart: bool,
    pending_change: bool,
    title: Option<&'a str>,
    init_pid: Option<i64>,
    #[serde(rename = "startedUSec")]
    started_usec: Option<i64>,
    restarts: i64,
    ready: Option<bool>,
    last_exit: Option<ExitJson>,
    security: Option<SecurityJson<'a>>,
}

/// What a security module makes of a domain, in JSON.
#[derive(Serialize)]
pub struct SecurityJson<'a> {
    model: &'a str,
    label: Option<&'a str>,
    enforcing: bool,
}

impl<'a> From<&'a Security> for SecurityJson<'a> {
    fn from(s: &'a Security) -> Self {
        Self { model: &s.model, label: s.label.as_deref(), enforcing: s.enforcing }
    }
}

/// An end in JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExitJson {
    kind: ExitKind,
    status: Option<i64>,
    signal: Option<i64>,
    #[serde(rename = "atUSec")]
    at_usec: i64,
}

impl From<&Exit> for ExitJson {
    fn from(exit: &Exit) -> Self {
        Self { kind: exit.kind, status: exit.status, signal: exit.signal, at_usec: exit.at_u_sec }
    }
}

impl<'a> From<&'a DomainStatus> for StatusJson<'a> {
    fn from(d: &'a DomainStatus) -> Self {
        Self {
            id: d.id,
            name: &d.name,
            uuid: &d.uuid,
            state: d.state,
            reason: d.reason,
            persistent: d.persistent,
            autostart: d.autostart,
            pending_change: d.pending_change,
            title: d.title.as_deref(),
            init_pid: d.init_pid,
            started_usec: d.started_u_sec,
            restarts: d.restarts,
            ready: d.ready,
            last_exit: d.last_exit.as_ref().map(ExitJson::from),
            security: d.security.as_ref().map(SecurityJson::from),
        }
    }
}

/// `dominfo` in JSON.
#[derive(Serialize)]
struct InfoJson<'a> {
    #[serde(flatten)]
    status: StatusJson<'a>,
    #[serde(rename = "osType")]
    os_type: &'a str,
    vcpus: i64,
    #[serde(rename = "cpuTimeNSec")]
    cpu_time_nsec: Option<i64>,
    #[serde(rename = "maxMemoryKiB")]
    max_memory_kib: i64,
    #[serde(rename = "usedMemoryKiB")]
    used_memory_kib: i64,
    processes: Option<i64>,
}

/// A state in virsh's words.
pub fn state_text(state: State) -> &'static str {
    match state {
        State::Shutoff => "shut off",
        State::Running => "running",
        State::Paused => "paused",
        State::Shutdown => "in shutdown",
    }
}

/// A reason in virsh's words. A container that restarted has booted, as far as virsh knows.
pub fn reason_text(reason: Reason) -> &'static str {
    match reason {
        Reason::Unknown => "unknown",
        Reason::Booted | Reason::Rebooted | Reason::Restarted => "booted",
        Reason::User => "user",
        Reason::Unpaused => "unpaused",
        Reason::Shutdown => "shutdown",
        Reason::Destroyed => "destroyed",
        Reason::Crashed => "crashed",
        Reason::Failed => "failed",
    }
}

/// How init ended, in words.
pub fn exit_text(exit: &Exit) -> String {
    let how = match exit.kind {
        ExitKind::Poweroff => "powered off".to_owned(),
        ExitKind::Reboot => "rebooted".to_owned(),
        ExitKind::Exited => format!("exited with status {}", exit.status.unwrap_or_default()),
        ExitKind::Signaled => format!("killed by signal {}", signal_text(exit.signal.unwrap_or_default())),
        ExitKind::Oom => "killed, out of memory".to_owned(),
        ExitKind::Destroyed => "destroyed".to_owned(),
        ExitKind::ControllerLost => "lost with its controller".to_owned(),
    };
    format!("{how}, {}", times::local(exit.at_u_sec))
}

fn signal_text(number: i64) -> String {
    let signal = i32::try_from(number).ok().and_then(|n| nix::sys::signal::Signal::try_from(n).ok());
    signal.map_or_else(|| number.to_string(), |s| format!("{number} ({})", s.as_str()))
}

fn dominfo(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let mut infos: Vec<(DomainStatus, DomainUsage)> = Vec::new();
    let result = session.each_domain(args, |session, domain| {
        let status = session.status(domain)?;
        let usage = usage(session, domain)?;
        infos.push((status, usage));
        Ok(())
    });
    if session.json {
        let rows: Vec<InfoJson> = infos.iter().map(|(s, u)| info_json(s, u)).collect();
        one_or_many(session, args, rows);
        return result;
    }
    let texts: Vec<String> = infos.iter().map(|(s, u)| info_rows(s, u)).collect();
    session.out.print(&texts.join("\n"));
    result
}

fn usage(session: &mut Session, domain: &DomainRef) -> Result<DomainUsage, Failure> {
    let ask = GetUsageIn { name: Some(domain.name.clone()), uuid: domain.uuid.clone(), id: None };
    let what = format!("Failed to get information on domain '{}'", domain.name);
    match session.call::<_, GetUsageOut>(Method::GetUsage, &ask) {
        Ok(out) => Ok(out.usage),
        Err(error) => Err(session.failure(&what, domain, &error)),
    }
}

/// Prints one document, or an array where several domains or a pattern were given.
pub fn one_or_many<T: Serialize>(session: &mut Session, args: &Args, mut rows: Vec<T>) {
    let several = args.list("domain").count() > 1 || args.list("domain").any(crate::globs::is_glob);
    match rows.pop() {
        Some(row) if !several => session.out.json(&row),
        Some(row) => {
            rows.push(row);
            session.out.json(&rows);
        }
        None if several => session.out.json(&rows),
        None => {}
    }
}

fn info_json<'a>(status: &'a DomainStatus, usage: &'a DomainUsage) -> InfoJson<'a> {
    InfoJson {
        status: StatusJson::from(status),
        os_type: &usage.os_type,
        vcpus: usage.vcpus,
        cpu_time_nsec: usage.cpu_time_n_sec,
        max_memory_kib: usage.max_memory_ki_b,
        used_memory_kib: usage.used_memory_ki_b,
        processes: usage.processes,
    }
}

/// What virsh tells about the security module, and nothing where there is none. Labels are only those of active domains.
fn security_rows(security: Option<&Security>) -> Vec<(&'static str, String)> {
    let Some(security) = security else { return Vec::new() };
    let mut rows = vec![("Security model:", security.model.clone()), ("Security DOI:", "0".into())];
    if let Some(label) = &security.label {
        let mode = if security.enforcing { "enforcing" } else { "permissive" };
        rows.push(("Security label:", format!("{label} ({mode})")));
    }
    rows
}

/// The rows of `dominfo`: virsh's, then ours.
fn info_rows(status: &DomainStatus, usage: &DomainUsage) -> String {
    let yes = |value: bool, yes: &str, no: &str| if value { yes.to_owned() } else { no.to_owned() };
    let mut rows = vec![
        ("Id:", id_text(status)),
        ("Name:", status.name.clone()),
        ("UUID:", status.uuid.clone()),
        ("OS Type:", usage.os_type.clone()),
        ("State:", state_text(status.state).to_owned()),
        ("CPU(s):", usage.vcpus.to_string()),
    ];
    if let Some(nanoseconds) = usage.cpu_time_n_sec.filter(|n| *n > 0) {
        let tenths = nanoseconds / 100_000_000;
        rows.push(("CPU time:", format!("{}.{}s", tenths / 10, tenths % 10)));
    }
    rows.push(("Max memory:", format!("{} KiB", usage.max_memory_ki_b)));
    rows.push(("Used memory:", format!("{} KiB", usage.used_memory_ki_b)));
    rows.push(("Persistent:", yes(status.persistent, "yes", "no")));
    rows.push(("Autostart:", yes(status.autostart, "enable", "disable")));
    rows.push(("Managed save:", "no".into()));
    rows.extend(security_rows(status.security.as_ref()));
    if let Some(pid) = status.init_pid {
        rows.push(("Init PID:", pid.to_string()));
    }
    if let Some(processes) = usage.processes {
        rows.push(("Processes:", processes.to_string()));
    }
    if let Some(started) = status.started_u_sec {
        rows.push(("Started:", times::local(started)));
        rows.push(("Restarts:", status.restarts.to_string()));
    }
    if let Some(ready) = status.ready {
        rows.push(("Ready:", yes(ready, "yes", "no")));
    }
    if let Some(exit) = &status.last_exit {
        rows.push(("Last exit:", exit_text(exit)));
    }
    if status.pending_change {
        rows.push(("Changes:", "the next start uses another definition".into()));
    }
    rows.iter().map(|(key, value)| format!("{key:<15} {value}\n")).collect()
}

fn domstate(session: &mut Session, args: &Args) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct StateJson {
        name: String,
        state: State,
        reason: Reason,
    }
    let mut found = Vec::new();
    let result = session.each_domain(args, |session, domain| {
        let status = session.status(domain)?;
        if !session.json {
            let mut text = state_text(status.state).to_owned();
            if args.has("reason") {
                text.push_str(&format!(" ({})", reason_text(status.reason)));
            }
            session.out.print(&format!("{text}\n"));
        }
        found.push(StateJson { name: status.name, state: status.state, reason: status.reason });
        Ok(())
    });
    if session.json {
        one_or_many(session, args, found);
    }
    result
}

/// The one domain of a command that takes one in two of the three forms.
fn look_up(session: &mut Session, args: &Args, id: bool, name: bool) -> Result<DomainStatus, Failure> {
    let typed = args.required("domain");
    let by_id = typed.parse::<i64>().ok().filter(|_| id);
    if let Some(id) = by_id
        && let Some(found) = session.look_up(typed, ListIn { id: Some(id), ..ListIn::default() })?
    {
        return session.status(&found);
    }
    let by_uuid = as_uuid(typed);
    if let Some(uuid) = by_uuid
        && let Some(found) = session.look_up(typed, ListIn { uuid: Some(uuid), ..ListIn::default() })?
    {
        return session.status(&found);
    }
    if name
        && let Some(found) =
            session.look_up(typed, ListIn { name: Some(typed.to_owned()), ..ListIn::default() })?
    {
        return session.status(&found);
    }
    Err(Failure::line(format!("failed to get domain '{typed}'")))
}

fn domid(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let status = look_up(session, args, false, true)?;
    answer(session, &serde_json::json!({ "id": status.id }), &id_text(&status));
    Ok(())
}

fn domname(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let status = look_up(session, args, true, false)?;
    answer(session, &serde_json::json!({ "name": status.name }), &status.name);
    Ok(())
}

fn domuuid(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let status = look_up(session, args, true, true)?;
    answer(session, &serde_json::json!({ "uuid": status.uuid }), &status.uuid);
    Ok(())
}

/// Prints one value.
pub fn answer(session: &mut Session, json: &serde_json::Value, text: &str) {
    if session.json {
        session.out.json(json);
    } else {
        session.out.print(&format!("{text}\n"));
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn security_is_told_in_virshs_rows() {
        let rows = |security: Option<&Security>| {
            let rows = security_rows(security);
            rows.iter().map(|(key, value)| format!("{key:<15} {value}\n")).collect::<String>()
        };
        let mut security =
            Security { model: "apparmor".into(), label: Some("berth-x".into()), enforcing: true };
        let expected = "Security model: apparmor\nSecurity DOI:   0\nSecurity label: berth-x (enforcing)\n";
        assert_eq!(rows(Some(&security)), expected);
        security.enforcing = false;
        assert!(rows(Some(&security)).ends_with("berth-x (permissive)\n"));
        security.label = None;
        assert_eq!(rows(Some(&security)), "Security model: apparmor\nSecurity DOI:   0\n");
        assert_eq!(rows(None), "");
    }
}
