//! `autostart`, and what containers cannot do yet: `suspend`, `resume`.
//!
//! Does not know when the host starts; the daemon does.

use berth_schemas::domain::{Method, SetAutostartIn, SetAutostartOut};

use crate::error::Failure;
use crate::grammar::{Command, Group, Opt, Values};
use crate::parse::Args;
use crate::session::Session;

/// `autostart`
pub static AUTOSTART: Command = Command::new("autostart", Group::Domain, "autostart a domain", autostart)
    .about("Has each domain start together with the host, or no longer.")
    .options(&[
        Opt::domains(Values::Domains),
        Opt::flag("disable", "no longer start it together with the host"),
    ]);

/// `suspend`
pub static SUSPEND: Command = Command::new("suspend", Group::Domain, "suspend a domain", suspend)
    .about("Not supported yet.")
    .options(&[Opt::domain()]);

/// `resume`
pub static RESUME: Command = Command::new("resume", Group::Domain, "resume a domain", resume)
    .about("Not supported yet.")
    .options(&[Opt::domain()]);

fn autostart(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let wanted = !args.has("disable");
    let verb = if wanted { "mark" } else { "unmark" };
    session.each_domain(args, |session, domain| {
        let ask = SetAutostartIn {
            name: Some(domain.name.clone()),
            uuid: domain.uuid.clone(),
            id: None,
            autostart: wanted,
        };
        let what = format!("Failed to {verb} domain '{}' as autostarted", domain.name);
        let result = session.call::<_, SetAutostartOut>(Method::SetAutostart, &ask);
        result.map_err(|e| session.failure(&what, domain, &e))?;
        session.out.extra(&format!("Domain '{}' {verb}ed as autostarted\n", domain.name));
        Ok(())
    })
}

fn suspend(session: &mut Session, args: &Args) -> Result<(), Failure> {
    not_yet(session, args, "suspend", "virDomainSuspend")
}

fn resume(session: &mut Session, args: &Args) -> Result<(), Failure> {
    not_yet(session, args, "resume", "virDomainResume")
}

fn not_yet(session: &mut Session, args: &Args, verb: &str, api: &str) -> Result<(), Failure> {
    let domain = session.domain(args.required("domain"))?;
    let name = session.status(&domain)?.name;
    Err(Failure::because(
        format!("Failed to {verb} domain '{name}'"),
        format!("this function is not supported by the connection driver: {api}"),
    )
    .hint("this version of Berth cannot suspend domains yet"))
}
