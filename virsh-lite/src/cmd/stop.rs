//! `shutdown`, `reboot`, `destroy`.
//!
//! Does not know how init is asked, and does not wait for it.

use berth_schemas::domain::{
    DestroyIn, DestroyOut, Method, RebootIn, RebootOut, ShutdownIn, ShutdownMode, ShutdownOut,
};

use crate::error::Failure;
use crate::grammar::{Command, Group, Opt, Values};
use crate::parse::Args;
use crate::session::Session;

const MODE: Opt = Opt::text("mode", "how to ask init: initctl, signal, or both separated by a comma")
    .from(Values::Words(&["initctl", "signal"]));

/// `shutdown`
pub static SHUTDOWN: Command =
    Command::new("shutdown", Group::Domain, "gracefully shutdown a domain", shutdown)
        .about(
            "Asks init of each domain to power off, in the way that this init understands, and does not\n\
         wait until it is done.",
        )
        .options(&[Opt::domains(Values::ActiveDomains), MODE]);

/// `reboot`
pub static REBOOT: Command = Command::new("reboot", Group::Domain, "reboot a domain", reboot)
    .about("Asks init of each domain to restart, and does not wait until it is done.")
    .options(&[Opt::domains(Values::ActiveDomains), MODE]);

/// `destroy`
pub static DESTROY: Command = Command::new("destroy", Group::Domain, "destroy (stop) a domain", destroy)
    .about("Ends each domain at once. Its definition stays.")
    .options(&[
        Opt::domains(Values::ActiveDomains),
        Opt::flag("graceful", "").refused("use shutdown to let init end by itself"),
        Opt::flag("remove-logs", "").refused("logs are kept"),
    ]);

/// The ways of `--mode`; nothing where it is not given.
fn modes(args: &Args, what: &str) -> Result<Option<Vec<ShutdownMode>>, Failure> {
    let Some(list) = args.text("mode") else { return Ok(None) };
    let mode = |word: &str| match word {
        "initctl" => Ok(ShutdownMode::Initctl),
        "signal" => Ok(ShutdownMode::Signal),
        "acpi" | "agent" | "paravirt" => Err(Failure::because(
            what,
            format!("mode '{word}' is for virtual machines; containers have initctl and signal"),
        )),
        _ => Err(Failure::line(format!(
            "Unknown mode {word} value, expecting 'acpi', 'agent', 'initctl', 'signal', or 'paravirt'"
        ))),
    };
    list.split(',').map(mode).collect::<Result<_, _>>().map(Some)
}

fn shutdown(session: &mut Session, args: &Args) -> Result<(), Failure> {
    session.each_domain(args, |session, domain| {
        let what = format!("Failed to shutdown domain '{}'", domain.name);
        let ask = ShutdownIn {
            name: Some(domain.name.clone()),
            uuid: domain.uuid.clone(),
            id: None,
            modes: modes(args, &what)?,
        };
        let result = session.call::<_, ShutdownOut>(Method::Shutdown, &ask);
        result.map_err(|e| session.failure(&what, domain, &e))?;
        session.out.extra(&format!("Domain '{}' is being shutdown\n", domain.name));
        Ok(())
    })
}

fn reboot(session: &mut Session, args: &Args) -> Result<(), Failure> {
    session.each_domain(args, |session, domain| {
        let what = format!("Failed to reboot domain '{}'", domain.name);
        let ask = RebootIn {
            name: Some(domain.name.clone()),
            uuid: domain.uuid.clone(),
            id: None,
            modes: modes(args, &what)?,
        };
        let result = session.call::<_, RebootOut>(Method::Reboot, &ask);
        result.map_err(|e| session.failure(&what, domain, &e))?;
        session.out.extra(&format!("Domain '{}' is being rebooted\n", domain.name));
        Ok(())
    })
}

fn destroy(session: &mut Session, args: &Args) -> Result<(), Failure> {
    session.each_domain(args, |session, domain| {
        let ask = DestroyIn { name: Some(domain.name.clone()), uuid: domain.uuid.clone(), id: None };
        let result = session.call::<_, DestroyOut>(Method::Destroy, &ask);
        result.map_err(|e| {
            session.failure(&format!("Failed to destroy domain '{}'", domain.name), domain, &e)
        })?;
        session.out.extra(&format!("Domain '{}' destroyed\n", domain.name));
        Ok(())
    })
}
