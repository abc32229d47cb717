//! `net-event`.
//!
//! Keeps nothing: an event is printed as it comes.

use berth_schemas::network::{Event, EventKind, Method, SubscribeIn, SubscribeOut};
use serde::Serialize;

use crate::cmd::event::{deadline, finish, list, wait};
use crate::cmd::net;
use crate::error::Failure;
use crate::grammar::{Command, Group, Opt, Values};
use crate::parse::Args;
use crate::session::Session;
use crate::times;

/// The types of events.
const TYPES: &[&str] = &["lifecycle"];

/// `net-event`
pub static EVENT: Command = Command::new("net-event", Group::Networks, "Network Events", event)
    .about("Lists the types of events, or waits for events to happen.")
    .options(&[
        Opt::text("network", "only events of this network: its name or uuid")
            .positional()
            .from(Values::Networks),
        Opt::text("event", "which type to wait for").from(Values::Words(TYPES)),
        Opt::flag("loop", "go on until the time is over or ^C is typed, not only to the first event"),
        Opt::number("timeout", "seconds to wait"),
        Opt::flag("list", "list the types"),
        Opt::flag("timestamp", "print when each event happened"),
    ])
    .json("one object on a line of its own for each event: atUSec, type, kind, name, uuid");

#[derive(Serialize)]
struct EventJson<'a> {
    #[serde(rename = "atUSec")]
    at_usec: i64,
    r#type: &'static str,
    kind: EventKind,
    name: &'a str,
    uuid: &'a str,
}

fn event(session: &mut Session, args: &Args) -> Result<(), Failure> {
    args.exclusive("list", "event")?;
    if args.has("list") {
        return list(session, TYPES);
    }
    match args.text("event") {
        None => return Err(Failure::line("either --list or --event <type> is required")),
        Some(name) if !TYPES.contains(&name) => {
            return Err(Failure::line(format!("unknown event type {name}")));
        }
        Some(_) => {}
    }
    let deadline = deadline(args)?;
    let network = match args.text("network") {
        Some(word) => Some(net::find(session, word)?),
        None => None,
    };
    let ask = SubscribeIn { name: network.map(|n| n.name), uuid: None };
    let mut count = 0;
    let client = session.another_connection()?;
    let take = &mut |session: &mut Session, out: &SubscribeOut| {
        let Some(event) = &out.event else { return true };
        count += 1;
        print(session, event, args.has("timestamp"));
        args.has("loop")
    };
    let end = wait(session, client, Method::Subscribe.name(), &ask, deadline, take);
    finish(session, end, count)
}

fn print(session: &mut Session, event: &Event, timestamp: bool) {
    if session.json {
        session.out.json_line(&EventJson {
            at_usec: event.at_u_sec,
            r#type: "lifecycle",
            kind: event.kind,
            name: &event.name,
            uuid: &event.uuid,
        });
        return;
    }
    let what = match event.kind {
        EventKind::Defined => "Defined",
        EventKind::Undefined => "Undefined",
        EventKind::Started => "Started",
        EventKind::Stopped => "Stopped",
    };
    let stamp = if timestamp { format!("{}: ", times::utc(event.at_u_sec)) } else { String::new() };
    session.out.print(&format!("{stamp}event 'lifecycle' for network {}: {what}\n", event.name));
}
