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
    let draft = Draft::new(&before)?;
    let mut xml = draft.edit()?;
    loop {
        if xml == before {
            session.out.extra(&format!("Domain '{}' XML configuration not changed.\n", domain.name));
            return Ok(());
        }
        let document = Document { file: format!("{}.xml", domain.name), xml };
        let what = format!("Failed to define domain '{}' from the edited text", domain.name);
        match keep(session, &document, &what, false) {
            Ok(out) => {
                session.out.extra(&format!("Domain '{}' XML configuration edited.\n", out.domain.name));
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
