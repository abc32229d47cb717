//! `console`: a terminal of a container on this terminal.
//!
//! Does not know the terminal's modes (`terminal`) or how bytes go back and forth (`relay`).

use std::sync::mpsc;

use base64::Engine as _;
use berth_schemas::domain::{
    AttachConsoleIn, AttachConsoleOut, ConsoleMode, Method, ReadConsoleLogIn, ReadConsoleLogOut,
    ResizeConsoleIn, ResizeConsoleOut, State,
};

use crate::cmd::pause;
use crate::connect::{self, Address};
use crate::error::{CallError, Failure};
use crate::grammar::{Command, Group, Opt, Values};
use crate::options::{Options, escape_byte};
use crate::parse::Args;
use crate::relay::{self, End};
use crate::session::{DomainRef, Session};
use crate::terminal::{self, Size};

/// `console`
pub static CONSOLE: Command = Command::new("console", Group::Domain, "connect to the guest console", console)
    .about(
        "Connects this terminal to a console of the domain, until the escape character is typed or the\n\
         domain ends. One session at a time may write; the others read.",
    )
    .options(&[
        Opt::text("domain", "domain name, id or uuid").required().from(Values::ActiveDomains),
        Opt::text("devname", "which console: console0, console1, ...").positional().from(Values::Consoles),
        Opt::flag("force", "take the right to write from the session that has it"),
        Opt::flag("safe", "accepted; sessions never mix what they write"),
        Opt::flag("resume", "resume a paused domain after connecting to its console"),
        Opt::flag("view", "only read"),
        Opt::flag("log", "print what the console has shown so far, also of a domain that is shut off"),
    ]);

/// What the user wants of a console.
#[derive(Debug, Default)]
pub struct Wishes {
    device: Option<String>,
    mode: Option<ConsoleMode>,
    resume: bool,
}

fn console(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let domain = session.domain(args.required("domain"))?;
    args.exclusive("force", "view")?;
    args.exclusive("log", "resume")?;
    let device = args.text("devname").map(str::to_owned);
    if args.has("log") {
        return log(session, &domain, device);
    }
    let mode = match (args.has("force"), args.has("view")) {
        (true, _) => Some(ConsoleMode::Force),
        (_, true) => Some(ConsoleMode::View),
        _ => None,
    };
    attach(session, &domain, &Wishes { device, mode, resume: args.has("resume") })
}

/// Connects this terminal to a console.
pub fn attach(session: &mut Session, domain: &DomainRef, wishes: &Wishes) -> Result<(), Failure> {
    let state = session.status(domain)?.state;
    if state == State::Shutoff {
        return Err(Failure::line("The domain is not running"));
    }
    if !terminal::is_terminal() {
        return Err(Failure::line("Cannot run interactive console without a controlling TTY"));
    }
    let size = terminal::size();
    let ask = AttachConsoleIn {
        name: Some(domain.name.clone()),
        uuid: domain.uuid.clone(),
        id: None,
        device: wishes.device.clone(),
        mode: wishes.mode,
        columns: size.map(|s| s.columns),
        rows: size.map(|s| s.rows),
        skip_replay: None,
    };
    let client = session.another_connection()?;
    let (out, upgraded): (AttachConsoleOut, _) =
        client.upgrade(Method::AttachConsole.name(), &ask).map_err(|e| {
            session.failure(
                &format!("Failed to connect to the console of domain '{}'", domain.name),
                domain,
                &e,
            )
        })?;
    announce(session, domain, &out, wishes);
    if wishes.resume && state == State::Paused {
        pause::let_go(session, domain)?;
    }
    let failed = |error| Failure::line(format!("console of domain '{}': {error}", domain.name));
    let signals = relay::signals().map_err(failed)?;
    let resizer = resizer(session.address()?, session.options.clone(), domain.clone(), &out);
    // The window may have changed before its signal was taken.
    terminal::size().filter(|now| Some(*now) != size).map(|now| resizer.send(now));
    let escape = escape_byte(&session.options.escape);
    let may_write = wishes.mode != Some(ConsoleMode::View);
    let end = relay::console(upgraded, &signals, escape, may_write, |size| {
        let _ = resizer.send(size);
    });
    drop(signals);
    match end {
        Ok(End::Signal(signal)) => {
            terminal::die_of(signal);
            Err(Failure::silent())
        }
        Ok(End::Closed) if session.out.is_quiet() => {
            session.out.print("\n");
            Ok(())
        }
        Ok(End::Closed | End::Escaped) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn announce(session: &mut Session, domain: &DomainRef, out: &AttachConsoleOut, wishes: &Wishes) {
    let escape = session.options.escape.clone();
    let control = escape.strip_prefix('^').map(|c| format!(" (Ctrl + {c})")).unwrap_or_default();
    session
        .out
        .extra(&format!("Connected to domain '{}'\nEscape character is {escape}{control}\n", domain.name));
    if !out.writer && wishes.mode != Some(ConsoleMode::View) {
        session.out.stderr("another session is writing; this one only reads (use --force to take over)\n");
    }
    session.out.flush();
}

/// Passes window sizes on in a thread of its own: connecting may take time that the console must not lose.
fn resizer(
    address: Address,
    options: Options,
    domain: DomainRef,
    out: &AttachConsoleOut,
) -> mpsc::Sender<Size> {
    let (sender, sizes) = mpsc::channel::<Size>();
    let (device, viewer) = (out.device.clone(), out.viewer);
    std::thread::spawn(move || {
        let mut client = None;
        while let Ok(mut size) = sizes.recv() {
            while let Ok(newer) = sizes.try_recv() {
                size = newer;
            }
            if client.is_none() {
                client = connect::open(&address, &options).ok();
            }
            let ask = ResizeConsoleIn {
                name: Some(domain.name.clone()),
                uuid: domain.uuid.clone(),
                id: None,
                device: Some(device.clone()),
                viewer: Some(viewer),
                columns: size.columns,
                rows: size.rows,
            };
            let result =
                client.as_mut().map(|c| c.call::<_, ResizeConsoleOut>(Method::ResizeConsole.name(), &ask));
            if matches!(result, Some(Err(CallError::Lost { .. }))) {
                client = None;
            }
        }
    });
    sender
}

/// Prints what a console has shown.
fn log(session: &mut Session, domain: &DomainRef, device: Option<String>) -> Result<(), Failure> {
    let ask =
        ReadConsoleLogIn { name: Some(domain.name.clone()), uuid: domain.uuid.clone(), id: None, device };
    session.exact = true;
    let mut client = session.another_connection()?;
    let out = &mut session.out;
    let result = client.call_more(Method::ReadConsoleLog.name(), &ask, |piece: ReadConsoleLogOut| {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(&piece.data)
            .map_err(|e| CallError::Other { message: format!("the log is not base64: {e}") })?;
        out.bytes(&bytes);
        Ok(())
    });
    result.map_err(|e| {
        session.exact = false;
        session.failure(&format!("Failed to read the console log of domain '{}'", domain.name), domain, &e)
    })
}
