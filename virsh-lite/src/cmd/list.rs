//! `list`.
//!
//! Does not ask for more than the states: one call for all domains.

use berth_schemas::domain::{DomainStatus, State};

use crate::cmd::info::{StatusJson, state_text};
use crate::error::Failure;
use crate::grammar::{Command, Group, Opt};
use crate::output::table;
use crate::parse::Args;
use crate::session::Session;

/// `list`
pub static LIST: Command = Command::new("list", Group::Monitor, "list domains", run)
    .about("Shows the active domains, or those that the options choose.")
    .options(&[
        Opt::flag("inactive", "only domains that are not active"),
        Opt::flag("all", "active domains and inactive ones"),
        Opt::flag("transient", "only domains without a definition on disk"),
        Opt::flag("persistent", "only domains with a definition on disk"),
        Opt::flag("state-running", "only domains that run"),
        Opt::flag("state-paused", "only paused domains"),
        Opt::flag("state-shutoff", "only domains that are shut off"),
        Opt::flag("state-other", "only domains in any other state"),
        Opt::flag("autostart", "only domains that start with the host"),
        Opt::flag("no-autostart", "only domains that do not start with the host"),
        Opt::flag("with-snapshot", "only domains with snapshots: there are none"),
        Opt::flag("without-snapshot", "accepted; no domain has snapshots"),
        Opt::flag("with-checkpoint", "only domains with checkpoints: there are none"),
        Opt::flag("without-checkpoint", "accepted; no domain has checkpoints"),
        Opt::flag("with-managed-save", "only domains with a saved state: there are none"),
        Opt::flag("without-managed-save", "accepted; no domain has a saved state"),
        Opt::flag("managed-save", "accepted; no domain has a saved state to mark"),
        Opt::flag("uuid", "print UUIDs instead of the table"),
        Opt::flag("name", "print names instead of the table"),
        Opt::flag("id", "print ids instead of the table"),
        Opt::flag("table", "print the table (the default)"),
        Opt::flag("title", "add a column with the titles"),
    ])
    .json("an array of domains: id, name, uuid, state, reason, persistent, autostart, pendingChange, title, initPid, startedUSec, restarts, lastExit");

fn run(session: &mut Session, args: &Args) -> Result<(), Failure> {
    for columns in ["uuid", "name", "id"] {
        args.exclusive("table", columns)?;
    }
    let readonly = session.options.readonly;
    let mut domains = session.all_domains().map_err(|e| e.because("Failed to list domains", readonly))?;
    domains.retain(|d| chosen(d, args));
    domains.sort_by_cached_key(order);
    if session.json {
        let rows: Vec<StatusJson> = domains.iter().map(StatusJson::from).collect();
        session.out.json(&rows);
        return Ok(());
    }
    if args.has("uuid") || args.has("name") || args.has("id") {
        for domain in &domains {
            session.out.print(&plain(domain, args));
        }
        return Ok(());
    }
    let mut header = vec!["Id", "Name", "State"];
    header.extend(args.has("title").then_some("Title"));
    let rows: Vec<Vec<String>> = domains.into_iter().map(|d| row(d, args.has("title"))).collect();
    let text = table(&header, &rows, session.out.is_quiet());
    session.out.print(&text);
    Ok(())
}

/// Active domains by id, then the others by name.
fn order(domain: &DomainStatus) -> (bool, Option<i64>, String) {
    (domain.id.is_none(), domain.id, domain.name.to_ascii_lowercase())
}

/// Whether the options want this domain. Each pair of opposites that is given restricts; the states are one set.
fn chosen(domain: &DomainStatus, args: &Args) -> bool {
    let active = domain.id.is_some();
    let states = ["state-running", "state-paused", "state-shutoff", "state-other"];
    let by_state = states.iter().any(|s| args.has(s));
    let right_activity = if args.has("all") || (by_state && !args.has("inactive")) {
        true
    } else {
        active != args.has("inactive")
    };
    let state = match domain.state {
        State::Running => "state-running",
        State::Paused => "state-paused",
        State::Shutoff => "state-shutoff",
        State::Shutdown => "state-other",
    };
    let pair = |yes: &str, no: &str, value: bool| args.has(yes) == args.has(no) || args.has(yes) == value;
    let only_ids = args.has("id") && !args.has("name") && !args.has("uuid");
    right_activity
        && (active || !only_ids)
        && (!by_state || args.has(state))
        && pair("persistent", "transient", domain.persistent)
        && pair("autostart", "no-autostart", domain.autostart)
        && pair("with-snapshot", "without-snapshot", false)
        && pair("with-checkpoint", "without-checkpoint", false)
        && pair("with-managed-save", "without-managed-save", false)
}

/// A line with what was asked for, in virsh's order.
fn plain(domain: &DomainStatus, args: &Args) -> String {
    let mut words = Vec::new();
    if args.has("uuid") {
        words.push(domain.uuid.clone());
    }
    if args.has("id") {
        words.push(id_text(domain));
    }
    if args.has("name") {
        words.push(domain.name.clone());
    }
    format!("{}\n", words.join(" "))
}

/// The id, or a hyphen.
pub fn id_text(domain: &DomainStatus) -> String {
    domain.id.map_or_else(|| "-".into(), |id| id.to_string())
}

fn row(domain: DomainStatus, title: bool) -> Vec<String> {
    let mut cells = vec![id_text(&domain), domain.name, state_text(domain.state).to_owned()];
    if title {
        cells.push(domain.title.unwrap_or_default());
    }
    cells
}
