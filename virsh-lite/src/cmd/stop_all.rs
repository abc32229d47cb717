//! `stop-all`: what the host's service manager runs before the host goes down.
//!
//! Goes on when the daemon is restarted meanwhile. Does not know how init is asked, nor who wants the host down.

use std::thread::sleep;
use std::time::{Duration, Instant};

use berth_schemas::domain::{
    DestroyIn, DestroyOut, DomainStatus, Method, ResumeIn, ResumeOut, ShutdownIn, ShutdownOut, State,
};

use crate::error::{CallError, Failure};
use crate::grammar::{Command, Group, Opt};
use crate::parse::Args;
use crate::session::Session;

/// How often is looked who is off by now.
const LOOK: Duration = Duration::from_millis(200);

/// Seconds where no `--timeout` is given.
const TIMEOUT: u64 = 90;

/// How long after that a daemon that is away may come back.
const SPARE: Duration = Duration::from_secs(20);

/// How long the daemon may take to destroy one domain, or to come back for it.
const DESTROY: Duration = Duration::from_secs(60);

/// `stop-all`
pub static STOP_ALL: Command =
    Command::new("stop-all", Group::Domain, "shut down all domains and wait", stop_all)
        .about(
            "Asks init of every active domain to power off, all at the same time, and waits until they are off. Those \
         that cannot be asked or take longer than the time given, 90 seconds if none is, are destroyed. A daemon that is \
         restarted meanwhile is waited for.",
        )
        .options(&[Opt::number("timeout", "seconds that domains may take")])
        .hidden();

fn stop_all(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(args.positive("timeout")?.unwrap_or(TIMEOUT));
    let mut asked = Vec::new();
    for domain in active(session, deadline)? {
        if Instant::now() < deadline && ask(session, &domain, deadline) {
            asked.push(domain.uuid);
        }
    }
    loop {
        let left = active(session, deadline)?;
        let waits = left.iter().any(|d| asked.contains(&d.uuid));
        if !waits || Instant::now() >= deadline {
            return destroy(session, &left);
        }
        sleep(LOOK);
    }
}

/// The domains that are not off. A daemon that is away when the time is over may still come back for a moment, as what is
/// left has to be destroyed.
fn active(session: &mut Session, deadline: Instant) -> Result<Vec<DomainStatus>, Failure> {
    let readonly = session.options.readonly;
    let mut all = session.insist(deadline + SPARE, Session::all_domains).map_err(|e| {
        let failure = e.because("Failed to list domains", readonly);
        if matches!(e, CallError::Lost { .. }) { failure.hint("domains may still run") } else { failure }
    })?;
    all.retain(|d| d.id.is_some());
    Ok(all)
}

/// Asks one domain to power off; whether it will try. One whose daemon hangs up before it has answered is asked again.
fn ask(session: &mut Session, domain: &DomainStatus, deadline: Instant) -> bool {
    let (name, uuid) = (Some(domain.name.clone()), Some(domain.uuid.clone()));
    if domain.state == State::Paused {
        let resume = ResumeIn { name: name.clone(), uuid: uuid.clone(), id: None };
        // If it cannot be resumed, it cannot be asked either, and that is told below.
        drop(session.insist(deadline, |s| s.call::<_, ResumeOut>(Method::Resume, &resume)));
    }
    let shutdown = ShutdownIn { name, uuid, id: None, modes: None };
    match session.insist(deadline, |s| s.call::<_, ShutdownOut>(Method::Shutdown, &shutdown)) {
        Ok(_) => {
            session.out.print(&format!("Domain '{}' is being shutdown\n", domain.name));
            session.out.flush();
            true
        }
        // By itself, or because of what it was asked before the daemon hung up.
        Err(error) if is_off(&error) => false,
        Err(error) => {
            let what = format!("Failed to shutdown domain '{}'", domain.name);
            let failure = error.because(what, session.options.readonly);
            session.out.fail(&failure);
            false
        }
    }
}

fn destroy(session: &mut Session, left: &[DomainStatus]) -> Result<(), Failure> {
    let mut result = Ok(());
    for domain in left {
        let ask = DestroyIn { name: Some(domain.name.clone()), uuid: Some(domain.uuid.clone()), id: None };
        let deadline = Instant::now() + DESTROY;
        match session.insist(deadline, |s| s.call::<_, DestroyOut>(Method::Destroy, &ask)) {
            Ok(_) => session.out.print(&format!("Domain '{}' destroyed\n", domain.name)),
            Err(error) if is_off(&error) => {}
            Err(error) => {
                let what = format!("Failed to destroy domain '{}'", domain.name);
                let failure = error.because(what, session.options.readonly);
                session.out.fail(&failure);
                result = Err(Failure::silent());
            }
        }
    }
    result
}

/// Whether a domain cannot be shut down because there is nothing to shut down any more.
fn is_off(error: &CallError) -> bool {
    use berth_schemas::domain::Error::{InvalidState, NoSuchDomain};
    matches!(error, CallError::Domain(NoSuchDomain { .. } | InvalidState { state: State::Shutoff, .. }))
}
