//! `autostart`.
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
