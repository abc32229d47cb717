//! `net-info`, `net-dumpxml`, `net-name`, `net-uuid`.
//!
//! Does not read XML.

use berth_schemas::network::{GetXMLIn, GetXMLOut, Method};

use crate::cmd::net;
use crate::cmd::net::list::{NetworkJson, yes_no};
use crate::error::Failure;
use crate::grammar::{Command, Group, Opt, Values};
use crate::parse::Args;
use crate::session::Session;

/// `net-info`
pub static INFO: Command = Command::new("net-info", Group::Networks, "network information", info)
    .about("Prints what is known of a network.")
    .options(&[net::NETWORK])
    .json("name, uuid, active, persistent, autostart, bridge, forward, ports");

/// `net-dumpxml`
pub static DUMPXML: Command =
    Command::new("net-dumpxml", Group::Networks, "network information in XML", dumpxml)
        .about("Prints the document of a network: the one it runs with, or the one of its next start.")
        .options(&[
            net::NETWORK,
            Opt::flag("inactive", "print the definition of the next start"),
            Opt::text("xpath", "").refused("pipe the output through xmllint --xpath"),
            Opt::flag("wrap", "").refused("it only goes with --xpath"),
        ])
        .json("name and xml");

/// `net-name`
pub static NAME: Command =
    Command::new("net-name", Group::Networks, "convert a network UUID to network name", name)
        .options(&[Opt::text("network", "network uuid").required().from(Values::NetworkUuids)]);

/// `net-uuid`
pub static UUID: Command =
    Command::new("net-uuid", Group::Networks, "convert a network name to network UUID", uuid)
        .options(&[Opt::text("network", "network name").required().from(Values::Networks)]);

fn info(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let network = net::find(session, args.required("network"))?;
    if session.json {
        session.out.json(&NetworkJson::from(&network));
        return Ok(());
    }
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text.push_str(&format!("{:<15} {value}\n", format!("{name}:")));
    line("Name", &network.name);
    line("UUID", &network.uuid);
    line("Active", yes_no(network.active));
    line("Persistent", yes_no(network.persistent));
    line("Autostart", yes_no(network.autostart));
    if let Some(bridge) = &network.bridge {
        line("Bridge", bridge);
    }
    session.out.print(&text);
    Ok(())
}

/// The document of a network.
pub fn fetch(session: &mut Session, name: &str, inactive: bool) -> Result<String, Failure> {
    let ask = GetXMLIn { name: Some(name.to_owned()), uuid: None, inactive: inactive.then_some(true) };
    let readonly = session.options.readonly;
    let out: Result<GetXMLOut, _> = net::call(session, Method::GetXML, &ask);
    out.map(|o| o.xml)
        .map_err(|e| e.because(format!("Failed to get the document of network '{name}'"), readonly))
}

fn dumpxml(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let network = net::find(session, args.required("network"))?;
    let xml = fetch(session, &network.name, args.has("inactive"))?;
    if session.json {
        session.out.json(&serde_json::json!({ "name": network.name, "xml": xml }));
    } else {
        session.out.print(&format!("{}\n", xml.trim_end()));
    }
    Ok(())
}

fn name(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let network = net::find(session, args.required("network"))?;
    session.out.print(&format!("{}\n", network.name));
    Ok(())
}

fn uuid(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let network = net::find(session, args.required("network"))?;
    session.out.print(&format!("{}\n", network.uuid));
    Ok(())
}
