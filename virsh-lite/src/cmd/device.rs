//! `attach-device`, `detach-device`, `update-device`: one device, given as its element.
//!
//! Does not read XML; the daemon says what is wrong with an element and where.

use berth_schemas::domain::{
    Affect, AttachDeviceIn, AttachDeviceOut, DetachDeviceIn, DetachDeviceOut, Method, UpdateDeviceIn,
    UpdateDeviceOut,
};

use crate::cmd::define::Document;
use crate::error::{CallError, Failure};
use crate::grammar::{Command, Group, Opt, Values};
use crate::parse::Args;
use crate::session::{DomainRef, Session};

const FILE: Opt = Opt::text("file", "file with the XML of the device, or - for standard input")
    .required()
    .from(Values::Files);
/// Make or let the change persist.
pub const PERSISTENT: Opt = Opt::flag("persistent", "in the definition, and in what runs if it does");
/// The definition.
pub const CONFIG: Opt = Opt::flag("config", "in what the next start uses");
/// What runs.
pub const LIVE: Opt = Opt::flag("live", "in what runs now");
/// What runs, or else the definition.
pub const CURRENT: Opt = Opt::flag("current", "in what runs now, or else in the definition");

const ABOUT: &str = "A disk, a filesystem, a hostdev or an interface, as its element of a document. With --live and --config both\n\
    get the change or none; what changed in a running domain alone lasts until that ends.";

/// `attach-device`
pub static ATTACH_DEVICE: Command =
    Command::new("attach-device", Group::Domain, "attach device from an XML file", attach)
        .about(ABOUT)
        .options(&[Opt::domain(), FILE, PERSISTENT, CONFIG, LIVE, CURRENT]);

/// `detach-device`
pub static DETACH_DEVICE: Command =
    Command::new("detach-device", Group::Domain, "detach device from an XML file", detach)
        .about(ABOUT)
        .options(&[Opt::domain(), FILE, PERSISTENT, CONFIG, LIVE, CURRENT]);

/// `update-device`
pub static UPDATE_DEVICE: Command =
    Command::new("update-device", Group::Domain, "update device from an XML file", update)
        .about(
            "Puts a device in the place of the one with the same identity: the target of a disk or filesystem, the source\n\
             of a hostdev, the hardware address of an interface. The old one is there again if the new one cannot be had.",
        )
        .options(&[
            Opt::domain(),
            FILE,
            PERSISTENT,
            CONFIG,
            LIVE,
            CURRENT,
            Opt::flag("force", "accepted; changes nothing"),
        ]);

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Attach.
    Attach,
    /// Detach.
    Detach,
    /// Update.
    Update,
}

/// The definitions that the options mean. Without any it is what runs, as with virsh, but for an update.
pub fn affect(
    session: &mut Session,
    args: &Args,
    domain: &DomainRef,
    act: Act,
) -> Result<Vec<Affect>, Failure> {
    args.exclusive("persistent", "current")?;
    args.exclusive("current", "live")?;
    args.exclusive("current", "config")?;
    let persistent = args.has("persistent");
    let mut affect = Vec::new();
    if args.has("live") || (persistent && session.status(domain)?.id.is_some()) {
        affect.push(Affect::Live);
    }
    if args.has("config") || persistent {
        affect.push(Affect::Config);
    }
    if affect.is_empty() {
        let legacy = act != Act::Update && !args.has("current");
        affect.push(if legacy { Affect::Live } else { Affect::Current });
    }
    Ok(affect)
}

/// Has the daemon do it.
pub fn call(
    session: &mut Session,
    act: Act,
    domain: &DomainRef,
    xml: &str,
    affect: Vec<Affect>,
) -> Result<(), CallError> {
    let (name, uuid, id) = (Some(domain.name.clone()), domain.uuid.clone(), None);
    let (xml, affect) = (xml.to_owned(), Some(affect));
    match act {
        Act::Attach => session
            .call::<_, AttachDeviceOut>(Method::AttachDevice, &AttachDeviceIn { name, uuid, id, xml, affect })
            .map(drop),
        Act::Detach => session
            .call::<_, DetachDeviceOut>(Method::DetachDevice, &DetachDeviceIn { name, uuid, id, xml, affect })
            .map(drop),
        Act::Update => session
            .call::<_, UpdateDeviceOut>(Method::UpdateDevice, &UpdateDeviceIn { name, uuid, id, xml, affect })
            .map(drop),
    }
}

/// Attaches or detaches an element that was made of options, or only prints it. `noun` begins the message.
pub fn apply(
    session: &mut Session,
    args: &Args,
    domain: &DomainRef,
    (act, affect): (Act, Vec<Affect>),
    (noun, xml): (&str, &str),
) -> Result<(), Failure> {
    if args.has("print-xml") {
        session.out.print(xml);
        return Ok(());
    }
    let verb = if act == Act::Detach { "detach" } else { "attach" };
    call(session, act, domain, xml, affect).map_err(|e| {
        session.failure(&format!("Failed to {verb} {}", noun.to_ascii_lowercase()), domain, &e)
    })?;
    session.out.extra(&format!("{noun} {verb}ed successfully\n"));
    Ok(())
}

fn from_file(session: &mut Session, args: &Args, act: Act, verb: &str) -> Result<(), Failure> {
    let domain = session.domain(args.required("domain"))?;
    let document = Document::read(args)?;
    let what = format!("Failed to {verb} device from {}", document.file);
    let affect = affect(session, args, &domain, act)?;
    let readonly = session.options.readonly;
    if let Err(error) = call(session, act, &domain, &document.xml, affect) {
        let about_text = matches!(
            error,
            CallError::Domain(
                berth_schemas::domain::Error::InvalidDocument { .. }
                    | berth_schemas::domain::Error::Unsupported { .. }
            )
        );
        return Err(match about_text {
            true => document.failure(&what, &error, readonly),
            false => session.failure(&what, &domain, &error),
        });
    }
    let done = if act == Act::Update { "updated" } else { &format!("{verb}ed") };
    session.out.extra(&format!("Device {done} successfully\n"));
    Ok(())
}

fn attach(session: &mut Session, args: &Args) -> Result<(), Failure> {
    from_file(session, args, Act::Attach, "attach")
}

fn detach(session: &mut Session, args: &Args) -> Result<(), Failure> {
    from_file(session, args, Act::Detach, "detach")
}

fn update(session: &mut Session, args: &Args) -> Result<(), Failure> {
    from_file(session, args, Act::Update, "update")
}
