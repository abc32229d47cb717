//! `--wait ready` of `start` and `create`: the wait for a domain that says when it is up, through restarts of the daemon.
//!
//! Does not start anything.

use std::time::{Duration, Instant};

use berth_schemas::domain::Error::NoSuchDomain;
use berth_schemas::domain::{DomainStatus, EventKind, Method, SubscribeIn, SubscribeOut};

use crate::again::Pauses;
use crate::client::LATE;
use crate::cmd::event::{self, End};
use crate::error::{CallError, Failure};
use crate::grammar::{Opt, Values};
use crate::parse::Args;
use crate::session::{DomainRef, Session};

/// How long is waited if nothing else is said, in seconds: as long as systemd waits for a unit to start.
const PATIENCE: u64 = 90;

/// `--wait`
pub const WAIT: Opt = Opt::text("wait", "wait until it is \"ready\": init says so, see sd_notify(3)")
    .from(Values::Words(&["ready"]));

/// `--timeout`
pub const TIMEOUT: Opt = Opt::number("timeout", "seconds to wait for that; 90 by default");

/// What is to be waited for.
#[derive(Debug, Clone, Copy)]
pub struct Wait {
    seconds: u64,
}

impl Wait {
    /// What the options ask for.
    pub fn of(args: &Args) -> Result<Option<Self>, Failure> {
        args.exclusive("wait", "console")?;
        let timeout = args.positive("timeout")?;
        match args.text("wait") {
            None if timeout.is_some() => Err(Failure::line("--timeout goes with --wait only")),
            None => Ok(None),
            Some("ready") => Ok(Some(Self { seconds: timeout.unwrap_or(PATIENCE) })),
            Some(other) => Err(Failure::line(format!("cannot wait for '{other}', only for 'ready'"))),
        }
    }

    /// Waits for a domain that has been started just now, and says when it is ready. That it has ended is for the daemon
    /// to say: one that hangs up is most likely restarted, and the domain goes on.
    pub fn wait(self, session: &mut Session, domain: &DomainRef) -> Result<(), Failure> {
        let deadline = Instant::now() + Duration::from_secs(self.seconds);
        let mut pauses = Pauses::until(deadline);
        let end = loop {
            match listen(session, domain, deadline, &mut pauses) {
                Err(CallError::Lost { message }) => {
                    session.disconnect();
                    session.out.flush();
                    if !pauses.pause() {
                        return Err(self.lost(domain, &message));
                    }
                }
                end => break end,
            }
        };
        match end {
            Ok((Some(found), _)) => said(found, domain)?,
            // One that was created and has ended is not known any more.
            Err(CallError::Domain(NoSuchDomain { .. })) => return Err(ended(domain)),
            Err(error) => return Err(error.because("Failed to wait for events", session.options.readonly)),
            Ok((None, End::Interrupted)) => return Err(Failure::line("interrupted; the domain goes on")),
            Ok((None, End::TimedOut)) => {
                return Err(Failure::line(format!(
                    "domain '{}' runs, but has not said within {} s that it is ready",
                    domain.name, self.seconds
                )));
            }
            Ok((None, End::Done)) => return Err(Failure::line("the daemon has ended the wait")),
        }
        session.out.extra(&format!("Domain '{}' is ready\n", domain.name));
        Ok(())
    }

    /// The failure of a wait whose daemon is away when the time is over.
    fn lost(self, domain: &DomainRef, message: &str) -> Failure {
        let what = format!(
            "the connection to the daemon was lost, and {} s were not enough to hear from '{}' again, which may still run",
            self.seconds, domain.name
        );
        Failure::because(what, message)
    }
}

/// What is known of the domain when there is nothing more to wait for.
enum Found {
    Ready,
    Ended,
    /// It has nowhere to say it.
    Mute,
}

/// Waits over one connection.
fn listen(
    session: &mut Session,
    domain: &DomainRef,
    deadline: Instant,
    pauses: &mut Pauses,
) -> Result<(Option<Found>, End), CallError> {
    let ask =
        SubscribeIn { name: Some(domain.name.clone()), uuid: domain.uuid.clone(), ..SubscribeIn::default() };
    session.connect().map_err(|failure| failure.lost())?;
    let client = session.another_connection().map_err(|failure| failure.lost())?;
    let mut answered = false;
    let mut found = Ok(None);
    let take = &mut |session: &mut Session, out: &SubscribeOut| {
        answered = true;
        // The first reply says that nothing is missed from now on; what happened before is in the status.
        found = match &out.event {
            None => {
                pauses.reset();
                session.status_or_error(domain).map(|status| looked_at(&status))
            }
            Some(event) => Ok(match event.kind {
                EventKind::Ready => Some(Found::Ready),
                EventKind::Stopped => Some(Found::Ended),
                _ => None,
            }),
        };
        matches!(found, Ok(None))
    };
    let end = event::wait(session, client, Method::Subscribe.name(), &ask, Some(deadline), take)?;
    // Somebody may keep the connection for a daemon that does not come.
    if end == End::TimedOut && !answered {
        return Err(CallError::lost(LATE));
    }
    found.map(|found| (found, end))
}

/// What the status says about it, if that is the last word.
fn looked_at(status: &DomainStatus) -> Option<Found> {
    match (status.id, status.ready) {
        (None, _) => Some(Found::Ended),
        (Some(_), Some(true)) => Some(Found::Ready),
        (Some(_), Some(false)) => None,
        (Some(_), None) => Some(Found::Mute),
    }
}

fn said(found: Found, domain: &DomainRef) -> Result<(), Failure> {
    match found {
        Found::Ready => Ok(()),
        Found::Ended => Err(ended(domain)),
        Found::Mute => Err(Failure::line(format!(
            "domain '{}' runs, but cannot say that it is ready: its root has no directory /run",
            domain.name
        ))),
    }
}

fn ended(domain: &DomainRef) -> Failure {
    Failure::line(format!("domain '{}' ended before it was ready", domain.name))
}
