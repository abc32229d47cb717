//! `start`.
//!
//! Does not know what a start consists of.

use std::os::fd::RawFd;

use berth_schemas::domain::{self, Method, StartIn, StartOut, State};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cmd::define::Document;
use crate::cmd::ready::{self, Wait};
use crate::cmd::{console, document};
use crate::error::{CallError, Failure};
use crate::grammar::{Command, Group, Opt, Values};
use crate::parse::Args;
use crate::session::{DomainRef, Session};
use crate::snippet::{self, Severity};

/// `start`
pub static START: Command =
    Command::new("start", Group::Domain, "start a (previously defined) inactive domain", start)
        .about("Starts each domain from its definition.")
        .options(&[
            Opt::domains(Values::InactiveDomains),
            Opt::flag("console", "connect to its console right away"),
            Opt::flag("autodestroy", "destroy it when virsh-lite ends"),
            Opt::text("pass-fds", "pass the open file descriptors N,M,... to init"),
            ready::WAIT,
            ready::TIMEOUT,
            Opt::flag("paused", "").refused("a container cannot be started paused"),
            Opt::flag("bypass-cache", "").refused("there is no saved state to load"),
            Opt::flag("force-boot", "accepted; a start always is a boot"),
            Opt::flag("reset-nvram", "").refused("containers have no NVRAM"),
        ]);

fn start(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let descriptors = descriptors(session, args)?;
    if args.has("console") && session.expand(args)?.len() > 1 {
        return Err(Failure::line("--console goes with one domain only"));
    }
    let wait = Wait::of(args)?;
    session.each_domain(args, |session, domain| {
        let ask = StartIn {
            name: Some(domain.name.clone()),
            uuid: domain.uuid.clone(),
            id: None,
            init_file_descriptors: indexes(&descriptors),
            autodestroy: args.has("autodestroy").then_some(true),
        };
        match call::<_, StartOut>(session, Method::Start, &ask, &descriptors) {
            Ok(_) => session.out.extra(&format!("Domain '{}' started\n", domain.name)),
            Err(error) => return Err(failed(session, domain, &error)),
        }
        if args.has("console") {
            console::attach(session, domain, &console::Wishes::default())?;
        }
        if let Some(wait) = wait {
            wait.wait(session, domain)?;
        }
        Ok(())
    })
}

/// The failure of a start; about a document that the user does not have at hand, it shows the stored one.
fn failed(session: &mut Session, domain: &DomainRef, error: &CallError) -> Failure {
    use domain::Error::{InvalidDocument, InvalidState, Unsupported};
    let what = format!("Failed to start domain '{}'", domain.name);
    match error {
        CallError::Domain(InvalidState { state, .. }) if *state != State::Shutoff => {
            Failure::line("Domain is already active")
        }
        CallError::Domain(
            Unsupported { message, diagnostics } | InvalidDocument { message, diagnostics },
        ) if !diagnostics.is_empty() => match document::fetch(session, domain, true) {
            Ok(xml) => {
                let remarks = snippet::relocate(&xml, diagnostics);
                let stored = Document { file: format!("definition of '{}'", domain.name), xml };
                Failure::line(what).excerpt(stored.remarks(Severity::Error, &remarks))
            }
            Err(_) => Failure::because(what, message),
        },
        error => session.failure(&what, domain, error),
    }
}

/// The descriptors of `--pass-fds`.
pub fn descriptors(session: &mut Session, args: &Args) -> Result<Vec<RawFd>, Failure> {
    let Some(list) = args.text("pass-fds") else { return Ok(Vec::new()) };
    if !session.connect()?.is_local() {
        return Err(Failure::line("file descriptors can only be passed on this host"));
    }
    list.split(',')
        .map(|word| {
            let number = word.trim().parse::<RawFd>().ok().filter(|n| *n >= 0);
            number.ok_or_else(|| {
                Failure::line(format!("Unable to parse FD number '{word}' in option --pass-fds"))
            })
        })
        .collect()
}

/// The indexes that name descriptors sent along.
pub fn indexes(descriptors: &[RawFd]) -> Option<Vec<i64>> {
    (!descriptors.is_empty()).then(|| (0_i64..).take(descriptors.len()).collect())
}

/// Calls a method, with descriptors if there are any.
pub fn call<In: Serialize, Out: DeserializeOwned>(
    session: &mut Session,
    method: Method,
    ask: &In,
    descriptors: &[RawFd],
) -> Result<Out, CallError> {
    if descriptors.is_empty() {
        return session.call(method, ask);
    }
    let client = session.connect().map_err(|f| CallError::lost(f.messages().join(": ")))?;
    client.call_with_descriptors(method.name(), ask, descriptors)
}
