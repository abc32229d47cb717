//! `edit`.
//!
//! Does not read XML; what is wrong with a text is the daemon's to say.

use crate::cmd::define::{Document, keep};
use crate::cmd::document;
use crate::editor::{Again, Draft, ask_again};
use crate::error::Failure;
use crate::grammar::{Command, Group, Opt};
use crate::parse::Args;
use crate::session::Session;

/// `edit`
pub static EDIT: Command = Command::new("edit", Group::Domain, "edit XML configuration for a domain", edit)
    .about(
        "Opens the definition of the domain in $VISUAL, $EDITOR or vi, and defines what was saved. A running\n\
         domain goes on as it is until its next start.",
    )
    .options(&[Opt::domain(), Opt::flag("skip-validate", "accepted; the daemon always checks")]);

fn edit(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let domain = session.domain(args.required("domain"))?;
    let before = document::fetch(session, &domain, true)?;
    let shown = |name: &str| format!("Domain '{name}'");
    let what = format!("Failed to define domain '{}' from the edited text", domain.name);
    until_kept(session, &domain.name, &before, &shown, &mut |session, document| {
        keep(session, document, &what, false).map(|out| out.domain.name)
    })
}

/// Lets the user change a text until `keep`, which answers the name that it was kept under, takes it, or the user gives
/// up. `shown` is how that name begins a message.
pub fn until_kept(
    session: &mut Session,
    name: &str,
    before: &str,
    shown: &dyn Fn(&str) -> String,
    keep: &mut dyn FnMut(&mut Session, &Document) -> Result<String, Failure>,
) -> Result<(), Failure> {
    let draft = Draft::new(before)?;
    let mut xml = draft.edit()?;
    loop {
        if xml == before {
            session.out.extra(&format!("{} XML configuration not changed.\n", shown(name)));
            return Ok(());
        }
        let document = Document { file: format!("{name}.xml"), xml };
        match keep(session, &document) {
            Ok(kept) => {
                session.out.extra(&format!("{} XML configuration edited.\n", shown(&kept)));
                return Ok(());
            }
            Err(failure) => session.out.fail(&failure),
        }
        xml = match ask_again() {
            Again::Edit => draft.edit()?,
            Again::Retry => document.xml,
            Again::Drop => return Err(Failure::silent()),
        };
        session.connect()?;
    }
}
