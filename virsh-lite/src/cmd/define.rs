//! `define`, `create`, `undefine`: documents in, definitions out.
//!
//! Does not read XML; the daemon says what is wrong with a document and where.

use std::io::Read;

use berth_schemas::domain::{
    self, CreateIn, CreateOut, DefineIn, DefineOut, Diagnostic, Method, UndefineIn, UndefineOut,
};
use berth_schemas::network;

use crate::cmd::ready::{self, Wait};
use crate::cmd::{console, net, start};
use crate::error::{CallError, Failure};
use crate::grammar::{Command, Group, Opt, Values};
use crate::output::colour;
use crate::parse::Args;
use crate::session::{DomainRef, Session};
use crate::snippet::{self, Severity};

const FILE: Opt = Opt::text("file", "file with the XML of the domain, or - for standard input")
    .required()
    .from(Values::Files);

/// `define`
pub static DEFINE: Command =
    Command::new("define", Group::Domain, "define (but don't start) a domain from an XML file", define)
        .about(
            "Keeps a definition, a new one or in place of the one with the same name and uuid.\n\
             A running domain goes on as it is until its next start.",
        )
        .options(&[FILE, Opt::flag("validate", "refuse the document if any of it has no meaning here")]);

/// `create`
pub static CREATE: Command =
    Command::new("create", Group::Domain, "create a domain from an XML file", create)
        .about("Starts a domain without keeping a definition: once it stops, it is gone.")
        .options(&[
            FILE,
            Opt::flag("console", "connect to its console right away"),
            Opt::flag("autodestroy", "destroy it when virsh-lite ends"),
            Opt::text("pass-fds", "pass the open file descriptors N,M,... to init"),
            ready::WAIT,
            ready::TIMEOUT,
            Opt::flag("validate", "refuse the document if any of it has no meaning here"),
            Opt::flag("paused", "").refused("a container cannot be started paused"),
            Opt::flag("reset-nvram", "").refused("containers have no NVRAM"),
        ]);

/// `undefine`
pub static UNDEFINE: Command = Command::new("undefine", Group::Domain, "undefine a domain", undefine)
    .about("Forgets the definition of each domain. One that runs goes on, and is gone once it stops.")
    .options(&[
        Opt::domains(Values::Domains),
        Opt::flag("managed-save", "accepted; there never is one"),
        Opt::flag("snapshots-metadata", "accepted; there never is any"),
        Opt::flag("checkpoints-metadata", "accepted; there never is any"),
        Opt::flag("nvram", "accepted; containers have none"),
        Opt::flag("tpm", "accepted; containers have none"),
        Opt::flag("keep-nvram", "accepted; containers have none"),
        Opt::flag("keep-tpm", "accepted; containers have none"),
        Opt::text("storage", "").refused("storage is never removed"),
        Opt::flag("remove-all-storage", "").refused("storage is never removed"),
        Opt::flag("delete-storage-volume-snapshots", "").refused("storage is never removed"),
        Opt::flag("wipe-storage", "").refused("storage is never removed"),
    ]);

/// A document and what it is called in messages.
pub struct Document {
    /// Its name.
    pub file: String,
    /// Its text.
    pub xml: String,
}

impl Document {
    /// Reads the file that the option `file` names.
    pub fn read(args: &Args) -> Result<Self, Failure> {
        let file = args.required("file").to_owned();
        let mut bytes = Vec::new();
        let result = if file == "-" {
            std::io::stdin().lock().read_to_end(&mut bytes).map(|_| ())
        } else {
            std::fs::read(&file).map(|content| bytes = content)
        };
        result.map_err(|e| Failure::line(format!("Failed to open file '{file}': {}", plain(&e))))?;
        let xml = String::from_utf8(bytes).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            let line = 1 + e.as_bytes()[..at].iter().filter(|b| **b == b'\n').count();
            Failure::because(
                format!("Failed to read domain from {file}"),
                format!("{file}:{line}: the text is not UTF-8"),
            )
        })?;
        Ok(Self { file, xml })
    }

    /// The failure of a call with this document, with the lines it is about.
    pub fn failure(&self, what: &str, error: &CallError, readonly: bool) -> Failure {
        use domain::Error::{InvalidDocument, Unsupported};
        match error {
            CallError::Domain(
                InvalidDocument { diagnostics, message } | Unsupported { diagnostics, message },
            ) => {
                if diagnostics.is_empty() {
                    return Failure::because(what, message);
                }
                Failure::line(what).excerpt(self.remarks(Severity::Error, diagnostics))
            }
            CallError::Network(
                network::Error::InvalidDocument { diagnostics, .. }
                | network::Error::Unsupported { diagnostics, .. },
            ) if !diagnostics.is_empty() => {
                let remarks: Vec<Diagnostic> = diagnostics.iter().map(net::diagnostic).collect();
                Failure::line(what).excerpt(self.remarks(Severity::Error, &remarks))
            }
            error => error.because(what, readonly),
        }
    }

    /// Remarks on this document, rendered.
    pub fn remarks(&self, severity: Severity, remarks: &[Diagnostic]) -> String {
        snippet::render(severity, &self.file, &self.xml, remarks, colour())
    }
}

/// An I/O error without its number.
pub fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn define(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let document = Document::read(args)?;
    let what = format!("Failed to define domain from {}", document.file);
    if args.has("validate") {
        validate(session, &document, &what)?;
    }
    let out = keep(session, &document, &what, false)?;
    session.out.extra(&format!("Domain '{}' defined from {}\n", out.domain.name, document.file));
    Ok(())
}

/// Has the daemon keep, or only check, a document; prints its warnings.
pub fn keep(
    session: &mut Session,
    document: &Document,
    what: &str,
    dry_run: bool,
) -> Result<DefineOut, Failure> {
    let ask = DefineIn { xml: document.xml.clone(), dry_run: dry_run.then_some(true) };
    let readonly = session.options.readonly;
    let out: DefineOut =
        session.call(Method::Define, &ask).map_err(|e| document.failure(what, &e, readonly))?;
    if !dry_run && !out.warnings.is_empty() {
        session.out.stderr(&document.remarks(Severity::Warning, &out.warnings));
    }
    Ok(out)
}

/// Fails where the daemon has any remark.
fn validate(session: &mut Session, document: &Document, what: &str) -> Result<(), Failure> {
    let out = keep(session, document, what, true)?;
    if out.warnings.is_empty() {
        return Ok(());
    }
    Err(Failure::line(what).excerpt(document.remarks(Severity::Error, &out.warnings)))
}

fn create(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let document = Document::read(args)?;
    let what = format!("Failed to create domain from {}", document.file);
    if args.has("validate") {
        validate(session, &document, &what)?;
    }
    let wait = Wait::of(args)?;
    let descriptors = start::descriptors(session, args)?;
    let ask = CreateIn {
        xml: document.xml.clone(),
        init_file_descriptors: start::indexes(&descriptors),
        autodestroy: args.has("autodestroy").then_some(true),
    };
    let readonly = session.options.readonly;
    let out: CreateOut = start::call(session, Method::Create, &ask, &descriptors)
        .map_err(|e| document.failure(&what, &e, readonly))?;
    if !out.warnings.is_empty() {
        session.out.stderr(&document.remarks(Severity::Warning, &out.warnings));
    }
    session.out.extra(&format!("Domain '{}' created from {}\n", out.domain.name, document.file));
    let typed = out.domain.uuid.clone();
    let domain = DomainRef::found(out.domain, &typed);
    if args.has("console") {
        console::attach(session, &domain, &console::Wishes::default())?;
    }
    if let Some(wait) = wait {
        wait.wait(session, &domain)?;
    }
    Ok(())
}

fn undefine(session: &mut Session, args: &Args) -> Result<(), Failure> {
    session.each_domain(args, |session, domain| {
        let ask = UndefineIn { name: Some(domain.name.clone()), uuid: domain.uuid.clone(), id: None };
        let result = session.call::<_, UndefineOut>(Method::Undefine, &ask);
        result.map_err(|e| {
            session.failure(&format!("Failed to undefine domain '{}'", domain.name), domain, &e)
        })?;
        session.out.extra(&format!("Domain '{}' has been undefined\n", domain.name));
        Ok(())
    })
}
