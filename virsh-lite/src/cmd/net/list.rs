//! `net-list`.
//!
//! Does not ask for more than the states: one call for all networks.

use berth_schemas::network::NetworkStatus;
use serde::Serialize;

use crate::cmd::net;
use crate::error::Failure;
use crate::grammar::{Command, Group, Opt};
use crate::output::table;
use crate::parse::Args;
use crate::session::Session;

/// `net-list`
pub static LIST: Command = Command::new("net-list", Group::Networks, "list networks", run)
    .about("Shows the active networks, or those that the options choose.")
    .options(&[
        Opt::flag("inactive", "only networks that are not active"),
        Opt::flag("all", "active networks and inactive ones"),
        Opt::flag("persistent", "only networks with a definition on disk"),
        Opt::flag("transient", "only networks without a definition on disk"),
        Opt::flag("autostart", "only networks that start with the host"),
        Opt::flag("no-autostart", "only networks that do not start with the host"),
        Opt::flag("uuid", "print UUIDs instead of the table"),
        Opt::flag("name", "print names instead of the table"),
        Opt::flag("table", "print the table (the default)"),
    ])
    .json("an array of networks: name, uuid, active, persistent, autostart, bridge, forward, ports");

/// A network in JSON.
#[derive(Serialize)]
pub struct NetworkJson<'a> {
    name: &'a str,
    uuid: &'a str,
    active: bool,
    persistent: bool,
    autostart: bool,
    bridge: Option<&'a str>,
    forward: Option<&'a str>,
    ports: i64,
}

impl<'a> From<&'a NetworkStatus> for NetworkJson<'a> {
    fn from(n: &'a NetworkStatus) -> Self {
        Self {
            name: &n.name,
            uuid: &n.uuid,
            active: n.active,
            persistent: n.persistent,
            autostart: n.autostart,
            bridge: n.bridge.as_deref(),
            forward: n.forward.as_deref(),
            ports: n.ports,
        }
    }
}

/// `yes` or `no`.
pub fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

fn run(session: &mut Session, args: &Args) -> Result<(), Failure> {
    args.exclusive("table", "uuid")?;
    args.exclusive("table", "name")?;
    let readonly = session.options.readonly;
    let mut networks = net::all(session).map_err(|e| e.because("Failed to list networks", readonly))?;
    networks.retain(|n| chosen(n, args));
    networks.sort_by_cached_key(|n| n.name.to_ascii_lowercase());
    if session.json {
        let rows: Vec<NetworkJson<'_>> = networks.iter().map(NetworkJson::from).collect();
        session.out.json(&rows);
        return Ok(());
    }
    if args.has("uuid") || args.has("name") {
        for network in &networks {
            let words = [(args.has("uuid"), &network.uuid), (args.has("name"), &network.name)];
            let words: Vec<&str> = words.iter().filter(|(on, _)| *on).map(|(_, w)| w.as_str()).collect();
            session.out.print(&format!("{}\n", words.join(" ")));
        }
        return Ok(());
    }
    let row = |n: &NetworkStatus| {
        let state = if n.active { "active" } else { "inactive" };
        vec![n.name.clone(), state.into(), yes_no(n.autostart).into(), yes_no(n.persistent).into()]
    };
    let rows: Vec<Vec<String>> = networks.iter().map(row).collect();
    let text = table(&["Name", "State", "Autostart", "Persistent"], &rows, session.out.is_quiet());
    session.out.print(&text);
    Ok(())
}

/// Whether the options want this network. Each pair of opposites that is given restricts.
fn chosen(network: &NetworkStatus, args: &Args) -> bool {
    let pair = |yes: &str, no: &str, value: bool| args.has(yes) == args.has(no) || args.has(yes) == value;
    (args.has("all") || network.active != args.has("inactive"))
        && pair("persistent", "transient", network.persistent)
        && pair("autostart", "no-autostart", network.autostart)
}
