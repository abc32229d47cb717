//! `net-define`, `net-create`, `net-start`, `net-destroy`, `net-undefine`, `net-autostart`, `net-edit`.
//!
//! Does not read XML; the daemon says what is wrong with a document and where.

use berth_schemas::network::{
    CreateIn, CreateOut, DefineIn, DefineOut, DestroyIn, DestroyOut, Diagnostic, Method, SetAutostartIn,
    SetAutostartOut, StartIn, StartOut, UndefineIn, UndefineOut,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cmd::define::Document;
use crate::cmd::edit::until_kept;
use crate::cmd::net;
use crate::cmd::net::info::fetch;
use crate::error::Failure;
use crate::grammar::{Command, Group, Opt, Values};
use crate::parse::Args;
use crate::session::Session;
use crate::snippet::Severity;

const FILE: Opt = Opt::text("file", "file with the XML of the network, or - for standard input")
    .required()
    .from(Values::Files);
const VALIDATE: Opt = Opt::flag("validate", "refuse the document if any of it has no meaning here");

/// `net-define`
pub static DEFINE: Command = Command::new(
    "net-define",
    Group::Networks,
    "define (but don't start) a network from an XML file",
    define,
)
.about(
    "Keeps a definition, a new one or in place of the one with the same name and uuid.\n\
             A network that runs goes on as it is until its next start.",
)
.options(&[FILE, VALIDATE]);

/// `net-create`
pub static CREATE: Command =
    Command::new("net-create", Group::Networks, "create a network from an XML file", create)
        .about("Starts a network without keeping a definition: once it ends, it is gone.")
        .options(&[FILE, VALIDATE]);

/// `net-start`
pub static START: Command =
    Command::new("net-start", Group::Networks, "start a (previously defined) inactive network", start)
        .about("Makes the bridge of a network, its rules, and its DHCP and DNS server.")
        .options(&[Opt::text("network", "network name or uuid").required().from(Values::InactiveNetworks)]);

/// `net-destroy`
pub static DESTROY: Command = Command::new(
    "net-destroy",
    Group::Networks,
    "destroy (stop) a network",
    destroy,
)
.about("Takes away all that a network has on the host. Its guests are cut off; what they were given is kept.")
.options(&[Opt::text("network", "network name or uuid").required().from(Values::ActiveNetworks)]);

/// `net-undefine`
pub static UNDEFINE: Command =
    Command::new("net-undefine", Group::Networks, "undefine a persistent network", undefine)
        .about("Forgets the definition of a network. One that runs goes on, and is gone once it ends.")
        .options(&[net::NETWORK]);

/// `net-autostart`
pub static AUTOSTART: Command =
    Command::new("net-autostart", Group::Networks, "autostart a network", autostart)
        .about("Has a network start together with the host, or no longer.")
        .options(&[net::NETWORK, Opt::flag("disable", "no longer start it together with the host")]);

/// `net-edit`
pub static EDIT: Command = Command::new(
    "net-edit",
    Group::Networks,
    "edit XML configuration for a network",
    edit,
)
.about(
    "Opens the definition of the network in $VISUAL, $EDITOR or vi, and defines what was saved. A network\n\
             that runs goes on as it is until its next start.",
)
.options(&[net::NETWORK]);

fn define(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let document = Document::read(args)?;
    let what = format!("Failed to define network from {}", document.file);
    if args.has("validate") {
        validate(session, &document, &what)?;
    }
    let out = keep(session, &document, &what, false)?;
    session.out.extra(&format!("Network {} defined from {}\n", out.network.name, document.file));
    Ok(())
}

/// Has the daemon keep, or only check, a document; prints its warnings.
fn keep(session: &mut Session, document: &Document, what: &str, dry_run: bool) -> Result<DefineOut, Failure> {
    let ask = DefineIn { xml: document.xml.clone(), dry_run: dry_run.then_some(true) };
    let readonly = session.options.readonly;
    let out: Result<DefineOut, _> = net::call(session, Method::Define, &ask);
    let out = out.map_err(|e| document.failure(what, &e, readonly))?;
    if !dry_run {
        warn(session, document, &out.warnings);
    }
    Ok(out)
}

fn warn(session: &mut Session, document: &Document, warnings: &[Diagnostic]) {
    if !warnings.is_empty() {
        let remarks: Vec<_> = warnings.iter().map(net::diagnostic).collect();
        session.out.stderr(&document.remarks(Severity::Warning, &remarks));
    }
}

/// Fails where the daemon has any remark.
fn validate(session: &mut Session, document: &Document, what: &str) -> Result<(), Failure> {
    let out = keep(session, document, what, true)?;
    if out.warnings.is_empty() {
        return Ok(());
    }
    let remarks: Vec<_> = out.warnings.iter().map(net::diagnostic).collect();
    Err(Failure::line(what).excerpt(document.remarks(Severity::Error, &remarks)))
}

fn create(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let document = Document::read(args)?;
    let what = format!("Failed to create network from {}", document.file);
    if args.has("validate") {
        validate(session, &document, &what)?;
    }
    let readonly = session.options.readonly;
    let out: Result<CreateOut, _> =
        net::call(session, Method::Create, &CreateIn { xml: document.xml.clone() });
    let out = out.map_err(|e| document.failure(&what, &e, readonly))?;
    warn(session, &document, &out.warnings);
    session.out.extra(&format!("Network {} created from {}\n", out.network.name, document.file));
    Ok(())
}

/// Has the daemon do something with a network, and says so.
fn act<In: Serialize, Out: DeserializeOwned>(
    session: &mut Session,
    args: &Args,
    method: Method,
    ask: impl FnOnce(Option<String>, Option<String>) -> In,
    (verb, done): (&str, &str),
) -> Result<Out, Failure> {
    let network = net::find(session, args.required("network"))?;
    let readonly = session.options.readonly;
    let ask = ask(Some(network.name.clone()), Some(network.uuid));
    let result = net::call(session, method, &ask);
    let out =
        result.map_err(|e| e.because(format!("Failed to {verb} network {}", network.name), readonly))?;
    session.out.extra(&format!("Network {} {done}\n", network.name));
    Ok(out)
}

fn start(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let words = ("start", "started");
    act(session, args, Method::Start, |name, uuid| StartIn { name, uuid }, words).map(|_: StartOut| ())
}

fn destroy(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let words = ("destroy", "destroyed");
    act(session, args, Method::Destroy, |name, uuid| DestroyIn { name, uuid }, words).map(|_: DestroyOut| ())
}

fn undefine(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let words = ("undefine", "has been undefined");
    act(session, args, Method::Undefine, |name, uuid| UndefineIn { name, uuid }, words)
        .map(|_: UndefineOut| ())
}

fn autostart(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let wanted = !args.has("disable");
    let verb = if wanted { "mark" } else { "unmark" };
    let network = net::find(session, args.required("network"))?;
    let ask = SetAutostartIn {
        name: Some(network.name.clone()),
        uuid: Some(network.uuid.clone()),
        autostart: wanted,
    };
    let readonly = session.options.readonly;
    let result: Result<SetAutostartOut, _> = net::call(session, Method::SetAutostart, &ask);
    let what = format!("failed to {verb} network {} as autostarted", network.name);
    result.map_err(|e| e.because(what, readonly))?;
    session.out.extra(&format!("Network {} {verb}ed as autostarted\n", network.name));
    Ok(())
}

fn edit(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let network = net::find(session, args.required("network"))?;
    let before = fetch(session, &network.name, true)?;
    let shown = |name: &str| format!("Network {name}");
    let what = format!("Failed to define network '{}' from the edited text", network.name);
    until_kept(session, &network.name, &before, &shown, &mut |session, document| {
        keep(session, document, &what, false).map(|out| out.network.name)
    })
}
