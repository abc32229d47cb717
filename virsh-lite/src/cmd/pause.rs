//! `suspend` and `resume`.
//!
//! Does not know how processes are stopped.

use berth_schemas::domain::{Method, ResumeIn, ResumeOut, SuspendIn, SuspendOut};

use crate::error::Failure;
use crate::grammar::{Command, Group, Opt, Values};
use crate::parse::Args;
use crate::session::{DomainRef, Session};

/// `suspend`
pub static SUSPEND: Command = Command::new("suspend", Group::Domain, "suspend a domain", suspend)
    .about(
        "Stops every process of each domain where it is. The domain keeps its memory and gets no processor until it is \
         resumed; it stays suspended when the daemon ends, and can be destroyed. Init cannot be asked to shut down \
         meanwhile.",
    )
    .options(&[Opt::domains(Values::ActiveDomains)]);

/// `resume`
pub static RESUME: Command = Command::new("resume", Group::Domain, "resume a domain", resume)
    .about("Lets the processes of each suspended domain go on.")
    .options(&[Opt::domains(Values::ActiveDomains)]);

fn suspend(session: &mut Session, args: &Args) -> Result<(), Failure> {
    session.each_domain(args, |session, domain| {
        let ask = SuspendIn { name: Some(domain.name.clone()), uuid: domain.uuid.clone(), id: None };
        let what = format!("Failed to suspend domain '{}'", domain.name);
        let result = session.call::<_, SuspendOut>(Method::Suspend, &ask);
        result.map_err(|e| session.failure(&what, domain, &e))?;
        session.out.extra(&format!("Domain '{}' suspended\n", domain.name));
        Ok(())
    })
}

fn resume(session: &mut Session, args: &Args) -> Result<(), Failure> {
    session.each_domain(args, |session, domain| {
        let_go(session, domain)?;
        session.out.extra(&format!("Domain '{}' resumed\n", domain.name));
        Ok(())
    })
}

/// Lets the processes of a suspended domain go on, and says nothing.
pub fn let_go(session: &mut Session, domain: &DomainRef) -> Result<(), Failure> {
    let ask = ResumeIn { name: Some(domain.name.clone()), uuid: domain.uuid.clone(), id: None };
    let what = format!("Failed to resume domain '{}'", domain.name);
    let result = session.call::<_, ResumeOut>(Method::Resume, &ask);
    result.map(drop).map_err(|e| session.failure(&what, domain, &e))
}
