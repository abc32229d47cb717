//! `event`.
//!
//! Keeps nothing: an event is printed as it comes, and what the daemon forgot is not asked for.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use berth_schemas::domain::{
    Event, EventKind, MetadataKind, Method, PressureStats, SubscribeIn, SubscribeOut, Tunable,
};
use berth_schemas::wire::CallKind;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::cmd::info::ExitJson;
use crate::error::{CallError, Failure};
use crate::grammar::{Command, Group, Opt, Values};
use crate::parse::Args;
use crate::session::Session;
use crate::terminal::Signals;
use crate::times;

/// The types of events.
const TYPES: &[&str] = &[
    "lifecycle",
    "reboot",
    "metadata-change",
    "oom-kill",
    "pressure",
    "ready",
    "device-added",
    "device-removed",
    "tunable",
];

/// `event`
pub static EVENT: Command = Command::new("event", Group::Events, "Domain Events", event)
    .about("Lists the types of events, or waits for events to happen.")
    .options(&[
        Opt::text("domain", "only events of this domain: its name, id or uuid")
            .positional()
            .from(Values::Domains),
        Opt::text("event", "which type to wait for").from(Values::Words(TYPES)),
        Opt::flag("all", "wait for all types"),
        Opt::flag("loop", "go on until the time is over or ^C is typed, not only to the first event"),
        Opt::number("timeout", "seconds to wait"),
        Opt::flag("list", "list the types"),
        Opt::flag("timestamp", "print when each event happened"),
    ])
    .json("one object on a line of its own for each event: sequence, atUSec, type, kind, name, uuid, detail, exit, count, pressure, tunables");

/// Why waiting ended.
#[derive(PartialEq, Eq)]
pub enum End {
    /// Enough came.
    Done,
    /// The time is over.
    TimedOut,
    /// ^C.
    Interrupted,
}

#[derive(Serialize)]
struct EventJson<'a> {
    sequence: i64,
    #[serde(rename = "atUSec")]
    at_usec: i64,
    r#type: &'static str,
    kind: EventKind,
    name: &'a str,
    uuid: &'a str,
    detail: Option<&'a str>,
    metadata: Option<MetadataKind>,
    exit: Option<ExitJson>,
    count: Option<i64>,
    pressure: Option<&'a PressureStats>,
    tunables: Option<&'a [Tunable]>,
}

fn event(session: &mut Session, args: &Args) -> Result<(), Failure> {
    args.exclusive("all", "event")?;
    args.exclusive("list", "all")?;
    args.exclusive("list", "event")?;
    if args.has("list") {
        return list(session, TYPES);
    }
    let wanted = match (args.text("event"), args.has("all")) {
        (Some(name), _) if !TYPES.contains(&name) => {
            return Err(Failure::line(format!("unknown event type {name}")));
        }
        (Some(name), _) => Some(name),
        (None, true) => None,
        (None, false) => {
            return Err(Failure::line("one of --list, --all, or --event <type> is required"));
        }
    };
    let deadline = deadline(args)?;
    let domain = match args.text("domain") {
        Some(word) => {
            let domain = session.domain(word)?;
            session.status(&domain)?;
            Some(domain)
        }
        None => None,
    };
    let ask = SubscribeIn {
        name: domain.as_ref().map(|d| d.name.clone()),
        uuid: domain.and_then(|d| d.uuid),
        ..SubscribeIn::default()
    };
    let mut count = 0;
    let client = session.another_connection()?;
    let take = &mut |session: &mut Session, out: &SubscribeOut| {
        let Some(event) = &out.event else { return true };
        if wanted.is_some_and(|w| w != type_of(event.kind)) {
            return true;
        }
        count += 1;
        print(session, event, args.has("timestamp"));
        args.has("loop")
    };
    let end = wait(session, client, Method::Subscribe.name(), &ask, deadline, take);
    finish(session, end, count)
}

/// Prints the types of events.
pub fn list(session: &mut Session, types: &[&str]) -> Result<(), Failure> {
    if session.json {
        session.out.json(&types);
    } else {
        session.out.print(&format!("{}\n", types.join("\n")));
    }
    Ok(())
}

/// When waiting is over by `--timeout`.
pub fn deadline(args: &Args) -> Result<Option<Instant>, Failure> {
    let timeout = args.positive("timeout")?;
    Ok(timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds)))
}

/// Says why waiting ended, and fails where nothing came. A lost connection is a failure, and not made again: what
/// happened meanwhile would be missing without a word.
pub fn finish(session: &mut Session, end: Result<End, CallError>, count: usize) -> Result<(), Failure> {
    let end = end.map_err(|e| e.because("Failed to wait for events", session.options.readonly))?;
    if !session.json {
        match end {
            End::Done => {}
            End::TimedOut => session.out.print("event loop timed out\n"),
            End::Interrupted => session.out.print("event loop interrupted\n"),
        }
        session.out.print(&format!("events received: {count}\n"));
    }
    if count > 0 { Ok(()) } else { Err(Failure::silent()) }
}

/// Subscribes over a connection of its own, and gives each answer to `take` until that says no, time is over or ^C is
/// typed.
pub fn wait<In: Serialize, Out: DeserializeOwned>(
    session: &mut Session,
    mut client: Client,
    method: &'static str,
    ask: &In,
    deadline: Option<Instant>,
    take: &mut dyn FnMut(&mut Session, &Out) -> bool,
) -> Result<End, CallError> {
    let signals = Signals::take(&[Signal::SIGINT]).map_err(of_ours)?;
    client.send(method, ask, CallKind::More)?;
    loop {
        while let Some(reply) = client.waiting_reply::<Out>(method)? {
            if !take(session, &reply.out) || !reply.continues {
                return Ok(End::Done);
            }
        }
        session.out.flush();
        if let Some(end) = pause(&client, &signals, deadline)? {
            return Ok(end);
        }
        client.fill()?;
    }
}

/// What went wrong without the daemon.
fn of_ours(error: Errno) -> CallError {
    CallError::Other { message: error.to_string() }
}

/// Waits until there is something to read, which is `None`.
fn pause(client: &Client, signals: &Signals, deadline: Option<Instant>) -> Result<Option<End>, CallError> {
    loop {
        let timeout = match deadline.map(|d| d.saturating_duration_since(Instant::now())) {
            None => PollTimeout::NONE,
            Some(left) if left.is_zero() => return Ok(Some(End::TimedOut)),
            // One more, as poll(2) counts whole milliseconds.
            Some(left) => PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX),
        };
        let mut fds = [
            PollFd::new(client.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.fd.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(of_ours(e)),
        }
        let ready = |i: usize| fds[i].revents().is_some_and(|r| !r.is_empty());
        if ready(1) {
            let _ = signals.next();
            return Ok(Some(End::Interrupted));
        }
        if ready(0) {
            return Ok(None);
        }
    }
}

/// The virsh type of an event.
fn type_of(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Rebooted => "reboot",
        EventKind::Metadata => "metadata-change",
        EventKind::OomKilled => "oom-kill",
        EventKind::Pressure => "pressure",
        EventKind::Ready => "ready",
        EventKind::DeviceAdded => "device-added",
        EventKind::DeviceRemoved => "device-removed",
        EventKind::Tunable => "tunable",
        _ => "lifecycle",
    }
}

fn print(session: &mut Session, event: &Event, timestamp: bool) {
    if session.json {
        session.out.json_line(&EventJson {
            sequence: event.sequence,
            at_usec: event.at_u_sec,
            r#type: type_of(event.kind),
            kind: event.kind,
            name: &event.name,
            uuid: &event.uuid,
            detail: event.detail.as_deref(),
            metadata: event.metadata,
            exit: event.exit.as_ref().map(ExitJson::from),
            count: event.count,
            pressure: event.pressure.as_ref(),
            tunables: event.tunables.as_deref(),
        });
        return;
    }
    let stamp = if timestamp { format!("{}: ", times::utc(event.at_u_sec)) } else { String::new() };
    let line = format!("{stamp}event '{}' for domain '{}'{}\n", type_of(event.kind), event.name, text(event));
    session.out.print(&line);
}

/// What virsh says behind the name.
fn text(event: &Event) -> String {
    let lifecycle = |what: &str, default: &str| {
        let detail = event.detail.as_deref().unwrap_or(default);
        let mut letters = detail.chars();
        let first = letters.next().map(|c| c.to_ascii_uppercase()).into_iter();
        format!(": {what} {}", first.chain(letters).collect::<String>())
    };
    match event.kind {
        EventKind::Defined => lifecycle("Defined", "added"),
        EventKind::Undefined => lifecycle("Undefined", "removed"),
        EventKind::Started => lifecycle("Started", "booted"),
        EventKind::Suspended => lifecycle("Suspended", "paused"),
        EventKind::Resumed => lifecycle("Resumed", "unpaused"),
        EventKind::Stopped => lifecycle("Stopped", "shutdown"),
        EventKind::Crashed => lifecycle("Crashed", "panicked"),
        EventKind::Rebooted | EventKind::Ready => String::new(),
        EventKind::DeviceAdded | EventKind::DeviceRemoved => {
            format!(": {}", event.detail.as_deref().unwrap_or_default())
        }
        EventKind::Tunable => {
            let all = event.tunables.iter().flatten();
            all.fold(":".to_owned(), |text, t| format!("{text}\n\t{}: {}", t.name, t.value))
        }
        EventKind::OomKilled => {
            format!(": processes killed for want of memory: {}", event.count.unwrap_or(1))
        }
        EventKind::Pressure => {
            let resource = event.detail.as_deref().unwrap_or("something");
            let share = |n: f64| format!("{n:.2} %");
            event.pressure.as_ref().map_or_else(String::new, |p| {
                let all = p
                    .full_avg10
                    .map_or_else(String::new, |full| format!(", all of them for {}", share(full)));
                format!(": {resource}: tasks waited for {} of the last 10 s{all}", share(p.some_avg10))
            })
        }
        EventKind::Metadata => {
            let part = event.metadata.map_or("element", MetadataKind::as_str);
            format!(": type {part}, uri {}", event.detail.as_deref().unwrap_or("<null>"))
        }
    }
}
