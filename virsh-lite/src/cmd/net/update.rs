//! `net-update`.
//!
//! Does not read XML.

use berth_schemas::network::{self, Affect, Command as Change, Method, Section, UpdateIn, UpdateOut};

use crate::cmd::define::{Document, plain};
use crate::cmd::net;
use crate::error::{CallError, Failure};
use crate::grammar::{Command, Group, Opt, Values};
use crate::parse::Args;
use crate::session::Session;

const COMMANDS: &[&str] = &["add", "add-first", "add-last", "delete", "modify"];
const SECTIONS: &[&str] =
    &["ip-dhcp-host", "ip-dhcp-range", "forward-interface", "portgroup", "dns-host", "dns-txt", "dns-srv"];
/// Those that libvirt names too, and cannot change either.
const FIXED: &[&str] = &["bridge", "domain", "ip", "forward", "forward-pf"];

/// `net-update`
pub static UPDATE: Command = Command::new(
    "net-update",
    Group::Networks,
    "update parts of an existing network's configuration",
    update,
)
.about(
    "Adds, changes or removes one part of a network. What runs has it at once; \
        interfaces that are plugged keep what a portgroup said then.",
)
.options(&[
    net::NETWORK,
    Opt::text("command", "add (the same as add-last), add-first, add-last, delete or modify")
        .required()
        .from(Values::Words(COMMANDS)),
    Opt::text("section", "which part of the network").required().from(Values::Words(SECTIONS)),
    Opt::text("xml", "the element, or a file with it").required().from(Values::Files),
    Opt::number("parent-index", "which <ip> it is in, from 0"),
    Opt::flag("config", "change the definition of the next start"),
    Opt::flag("live", "change what runs"),
    Opt::flag("current", "change what runs, or the definition of a network that does not run"),
]);

fn update(session: &mut Session, args: &Args) -> Result<(), Failure> {
    args.exclusive("current", "live")?;
    args.exclusive("current", "config")?;
    let command = match args.required("command") {
        "add" | "add-last" => Change::AddLast,
        "add-first" => Change::AddFirst,
        "delete" => Change::Delete,
        "modify" => Change::Modify,
        other => return Err(Failure::line(format!("unrecognized command name '{other}'"))),
    };
    let network = net::find(session, args.required("network"))?;
    let section = match args.required("section") {
        "ip-dhcp-host" => Section::IpDhcpHost,
        "ip-dhcp-range" => Section::IpDhcpRange,
        "forward-interface" => Section::ForwardInterface,
        "portgroup" => Section::Portgroup,
        "dns-host" => Section::DnsHost,
        "dns-txt" => Section::DnsTxt,
        "dns-srv" => Section::DnsSrv,
        fixed if FIXED.contains(&fixed) => {
            return Err(Failure::because(
                format!("Failed to update network {}", network.name),
                format!("can't update '{fixed}' section of network '{}'", network.name),
            ));
        }
        other => return Err(Failure::line(format!("unrecognized section name '{other}'"))),
    };
    let document = element(args.required("xml"))?;
    let parent_index = match args.text("parent-index") {
        None => None,
        Some(text) => Some(text.parse::<u16>().map(i64::from).map_err(|_| {
            Failure::line(format!(
                "Numeric value '{text}' for <parent-index> option is malformed or out of range"
            ))
        })?),
    };
    let (live, config) = (args.has("live"), args.has("config"));
    let affect: Vec<Affect> = [(live, Affect::Live), (config, Affect::Config)]
        .iter()
        .filter(|(on, _)| *on)
        .map(|(_, a)| *a)
        .collect();
    let ask = UpdateIn {
        name: Some(network.name.clone()),
        uuid: Some(network.uuid.clone()),
        command,
        section,
        xml: document.xml.clone(),
        parent_index,
        affect: (!affect.is_empty()).then_some(affect),
    };
    let readonly = session.options.readonly;
    let result: Result<UpdateOut, _> = net::call(session, Method::Update, &ask);
    let what = format!("Failed to update network {}", network.name);
    result.map_err(|e| {
        definition_of(&e)
            .map_or_else(|| document.failure(&what, &e, readonly), |message| Failure::because(&what, message))
    })?;
    let affected = match (live, config) {
        (true, true) => "persistent config and live state",
        (false, true) => "persistent config",
        (true, false) => "live state",
        (false, false) if network.active => "live state",
        (false, false) => "persistent config",
    };
    session.out.extra(&format!("Updated network {} {affected}", network.name));
    Ok(())
}

/// What is wrong with the network as it would be; nothing where it is the element that was given, which has places.
fn definition_of(error: &CallError) -> Option<&str> {
    match error {
        CallError::Network(
            network::Error::InvalidDocument { message, diagnostics }
            | network::Error::Unsupported { message, diagnostics },
        ) if diagnostics.iter().all(|d| d.line <= 0) => Some(message),
        _ => None,
    }
}

/// An argument that begins like an element is one; any other is a file.
fn element(argument: &str) -> Result<Document, Failure> {
    if argument.trim_start().starts_with('<') {
        return Ok(Document { file: "xml".into(), xml: argument.to_owned() });
    }
    match std::fs::read_to_string(argument) {
        Ok(xml) => Ok(Document { file: argument.to_owned(), xml }),
        Err(e) => Err(Failure::line(format!("Failed to open file '{argument}': {}", plain(&e)))),
    }
}
