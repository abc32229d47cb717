//! `stop-all`: what the host's service manager runs before the host goes down.
//!
//! Does not know how init is asked, nor who wants the host down.

use std::thread::sleep;
use std::time::{Duration, Instant};

use berth_schemas::domain::{
    DestroyIn, DestroyOut, DomainStatus, Method, ResumeIn, ResumeOut, ShutdownIn, ShutdownOut, State,
};

use crate::error::Failure;
use crate::grammar::{Command, Group, Opt};
use crate::parse::Args;
use crate::session::Session;

/// How often is looked who is off by now.
const LOOK: Duration = Duration::from_millis(200);

/// Seconds where no `--timeout` is given.
const TIMEOUT: u64 = 90;

/// `stop-all`
pub static STOP_ALL: Command =
    Command::new("stop-all", Group::Domain, "shut down all domains and wait", stop_all)
        .about(
            "Asks init of every active domain to power off, all at the same time, and waits until they are off. Those \
         that cannot be asked or take longer than the time given, 90 seconds if none is, are destroyed.",
        )
        .options(&[Opt::number("timeout", "seconds that domains may take")])
        .hidden();

fn stop_all(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(args.positive("timeout")?.unwrap_or(TIMEOUT));
    let asked: Vec<DomainStatus> = active(session)?.into_iter().filter(|d| ask(session, d)).collect();
    loop {
        let left = active(session)?;
        let waits = left.iter().any(|d| asked.iter().any(|a| a.uuid == d.uuid));
        if !waits || Instant::now() >= deadline {
            return destroy(session, &left);
        }
        sleep(LOOK);
    }
}

/// The domains that are not off.
fn active(session: &mut Session) -> Result<Vec<DomainStatus>, Failure> {
    let readonly = session.options.readonly;
    let mut all = session.all_domains().map_err(|e| e.because("Failed to list domains", readonly))?;
    all.retain(|d| d.id.is_some());
    Ok(all)
}

/// Asks one domain to power off; whether it will try.
fn ask(session: &mut Session, domain: &DomainStatus) -> bool {
    let (name, uuid) = (Some(domain.name.clone()), Some(domain.uuid.clone()));
    if domain.state == State::Paused {
        let resume = ResumeIn { name: name.clone(), uuid: uuid.clone(), id: None };
        // If it cannot be resumed, it cannot be asked either, and that is told below.
        drop(session.call::<_, ResumeOut>(Method::Resume, &resume));
    }
    let shutdown = ShutdownIn { name, uuid, id: None, modes: None };
    match session.call::<_, ShutdownOut>(Method::Shutdown, &shutdown) {
        Ok(_) => {
            session.out.print(&format!("Domain '{}' is being shutdown\n", domain.name));
            true
        }
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
        match session.call::<_, DestroyOut>(Method::Destroy, &ask) {
            Ok(_) => session.out.print(&format!("Domain '{}' destroyed\n", domain.name)),
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
