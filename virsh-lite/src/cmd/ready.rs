//! `--wait ready` of `start` and `create`: the wait for a domain that says when it is up.
//!
//! Does not start anything.

use std::time::{Duration, Instant};

use berth_schemas::domain::{EventKind, Method, SubscribeIn, SubscribeOut};

use crate::cmd::event::{self, End};
use crate::error::Failure;
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

    /// Waits for a domain that has been started just now, and says when it is ready.
    pub fn wait(self, session: &mut Session, domain: &DomainRef) -> Result<(), Failure> {
        let ask = SubscribeIn {
            name: Some(domain.name.clone()),
            uuid: domain.uuid.clone(),
            ..SubscribeIn::default()
        };
        let deadline = Instant::now() + Duration::from_secs(self.seconds);
        let mut found = None;
        let take = &mut |session: &mut Session, out: &SubscribeOut| {
            // The first reply says that nothing is missed from now on; what happened before is in the status.
            found = match &out.event {
                None => looked_at(session, domain),
                Some(event) => match event.kind {
                    EventKind::Ready => Some(Ok(())),
                    EventKind::Stopped => Some(Err(ended(domain))),
                    _ => None,
                },
            };
            found.is_none()
        };
        let end = match event::wait(session, Method::Subscribe.name(), &ask, Some(deadline), take) {
            // One that was created and has ended is not known any more.
            Err(_) if session.status(domain).is_err() => return Err(ended(domain)),
            end => end?,
        };
        match (found, end) {
            (Some(found), _) => found?,
            (None, End::Interrupted) => return Err(Failure::line("interrupted; the domain goes on")),
            (None, End::TimedOut) => {
                return Err(Failure::line(format!(
                    "domain '{}' runs, but has not said within {} s that it is ready",
                    domain.name, self.seconds
                )));
            }
            (None, End::Done) => return Err(Failure::line("the daemon has ended the wait")),
        }
        session.out.extra(&format!("Domain '{}' is ready\n", domain.name));
        Ok(())
    }
}

/// What the status says about it, if that is the last word.
fn looked_at(session: &mut Session, domain: &DomainRef) -> Option<Result<(), Failure>> {
    let status = match session.status(domain) {
        Ok(status) => status,
        // One that was created is gone when it has ended.
        Err(_) => return Some(Err(ended(domain))),
    };
    match (status.id, status.ready) {
        (None, _) => Some(Err(ended(domain))),
        (Some(_), Some(true)) => Some(Ok(())),
        (Some(_), Some(false)) => None,
        (Some(_), None) => Some(Err(Failure::line(format!(
            "domain '{}' runs, but cannot say that it is ready: its root has no directory /run",
            domain.name
        )))),
    }
}

fn ended(domain: &DomainRef) -> Failure {
    Failure::line(format!("domain '{}' ended before it was ready", domain.name))
}
