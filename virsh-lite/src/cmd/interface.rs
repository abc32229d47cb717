//! `attach-interface`, `detach-interface`, `domiflist`, `domif-getlink`, `domif-setlink`, `domiftune`: interfaces by type,
//! name and hardware address.
//!
//! Does not know what an interface is on the host; the daemon changes it.

use serde_json::json;

use crate::cmd::device::{Act, CONFIG, CURRENT, LIVE, PERSISTENT, affect, apply};
use crate::cmd::document::fetch;
use crate::cmd::nic::{MAX_RATE, Nic, Rate, bandwidth, is_mac, nics, same_mac, with_link, written};
use crate::cmd::resources;
use crate::error::{CallError, Failure};
use crate::grammar::{Command, Group, Opt, Values};
use crate::output::table;
use crate::parse::Args;
use crate::session::{DomainRef, Session};
use berth_schemas::domain::{Affect, Error, Method, TuneInterfaceIn, TuneInterfaceOut};

const PRINT: Opt = Opt::flag("print-xml", "print the element and change nothing");
const TYPES: Values = Values::Words(&["network", "bridge", "direct", "ethernet"]);
/// Here it means no more than `--config`, as in virsh.
const NEXT: Opt = Opt::flag("persistent", "the same as --config");
const INTERFACE: Opt =
    Opt::text("interface", "its name on the host, or its MAC address").required().from(Values::Interfaces);

/// `attach-interface`
pub static ATTACH_INTERFACE: Command =
    Command::new("attach-interface", Group::Domain, "attach network interface", attach)
        .about(
            "Gives a domain a network interface: a port of a virtual network (type network), of a bridge of the host\n\
             (bridge), a macvlan of a device of the host (direct), or a pair without a bridge (ethernet, whose source\n\
             says nothing). Rates are average,peak,burst in KiB per second and KiB.",
        )
        .options(&[
            Opt::domain(),
            Opt::text("type", "what it is on the host").required().from(TYPES),
            Opt::text("source", "the network, bridge or device").required().from(Values::Sources),
            Opt::text("target", "its name on the host"),
            Opt::text("mac", "its MAC address"),
            Opt::text("script", "").refused("scripts are not possible on interfaces of containers"),
            Opt::text("model", "model; without effect"),
            Opt::text("alias", "a name for it, which begins with ua-"),
            Opt::text("inbound", "limit into the container"),
            Opt::text("outbound", "limit out of the container"),
            PERSISTENT,
            CONFIG,
            LIVE,
            CURRENT,
            PRINT,
            Opt::flag("managed", "").refused("it only goes with interfaces of PCI devices"),
            Opt::text("source-mode", "how a macvlan talks to its neighbours")
                .from(Values::Words(&["vepa", "bridge", "private", "passthrough"])),
        ]);

/// `detach-interface`
pub static DETACH_INTERFACE: Command =
    Command::new("detach-interface", Group::Domain, "detach network interface", detach)
        .about("Takes the interface of that type away, or the one of them with that MAC address.")
        .options(&[
            Opt::domain(),
            Opt::text("type", "what it is on the host").required().from(TYPES),
            Opt::text("mac", "its MAC address; needed where there are several").from(Values::Macs),
            PERSISTENT,
            CONFIG,
            LIVE,
            CURRENT,
            PRINT,
        ]);

/// `domiflist`
pub static DOMIFLIST: Command =
    Command::new("domiflist", Group::Monitor, "list all domain virtual interfaces", list)
        .about(
            "Prints the interfaces of a domain: what runs, with their names on the host, or the definition.",
        )
        .options(&[Opt::domain(), Opt::flag("inactive", "those of the definition of the next start")])
        .json("an array of interface, type, source, model, mac, guest (the name inside) and link");

/// `domif-getlink`
pub static DOMIF_GETLINK: Command =
    Command::new("domif-getlink", Group::Monitor, "get link state of a virtual interface", get_link)
        .about("Prints up or down as the document says it, and default where it says nothing, which is up.")
        .options(&[Opt::domain(), INTERFACE, CONFIG, NEXT])
        .json("interface and state");

/// `domif-setlink`
pub static DOMIF_SETLINK: Command =
    Command::new("domif-setlink", Group::Domain, "set link state of a virtual interface", set_link)
        .about("Gives an interface a carrier, or takes it away, in what runs, or else in the definition.")
        .options(&[
            Opt::domain(),
            INTERFACE,
            Opt::text("state", "the new state").required().from(Values::Words(&["up", "down"])),
            CONFIG,
            NEXT,
            PRINT,
        ]);

/// `domiftune`
pub static DOMIFTUNE: Command = Command::new(
    "domiftune",
    Group::Domain,
    "get/set parameters of a virtual interface",
    tune,
)
.about(
    "Prints the limits of throughput of an interface, or sets those that are given: average,peak,burst in KiB per\n\
     second and KiB. 0 takes the limit of a direction away; then that of the portgroup holds, if there is one. What is\n\
     printed of a running domain is what holds.",
)
.options(&[
    Opt::domain(),
    INTERFACE,
    Opt::text("inbound", "limit into the container"),
    Opt::text("outbound", "limit out of the container"),
    CONFIG,
    LIVE,
    CURRENT,
])
.json("inbound and outbound, each with average, peak, burst and floor");

fn rate(args: &Args, option: &str) -> Result<Option<Rate>, Failure> {
    let Some(text) = args.text(option) else { return Ok(None) };
    let bad = || Failure::line(format!("{option} format is incorrect"));
    let rate = Rate::parse(text).ok_or_else(bad)?;
    if [rate.average, rate.peak, rate.burst, rate.floor].into_iter().any(|n| n > MAX_RATE) {
        return Err(Failure::line(format!("{option} rate larger than maximum {MAX_RATE}")));
    }
    Ok(Some(rate))
}

/// Whether the definition of the next start is meant.
fn next(args: &Args) -> bool {
    args.has("config") || args.has("persistent")
}

/// What a command changes of an interface.
#[derive(Default)]
struct Change {
    inbound: Option<Rate>,
    outbound: Option<Rate>,
    link_up: Option<bool>,
}

/// Has the daemon change the interface, in each definition on its own.
fn change(
    session: &mut Session,
    domain: &DomainRef,
    word: &str,
    change: Change,
    affect: Vec<Affect>,
) -> Result<(), CallError> {
    let ask = TuneInterfaceIn {
        name: Some(domain.name.clone()),
        uuid: domain.uuid.clone(),
        id: None,
        interface: word.to_owned(),
        inbound: change.inbound.map(|rate| rate.limits()),
        outbound: change.outbound.map(|rate| rate.limits()),
        link_up: change.link_up,
        affect: Some(affect),
    };
    session.call::<_, TuneInterfaceOut>(Method::TuneInterface, &ask).map(drop)
}

fn is_missing(error: &CallError) -> bool {
    matches!(error, CallError::Domain(Error::NoSuchDevice { .. }))
}

/// The element of an interface.
fn element(args: &Args) -> Result<String, Failure> {
    let (kind, source) = (args.required("type"), args.required("source"));
    let attribute = match kind {
        "network" => "network",
        "bridge" => "bridge",
        "direct" => "dev",
        "ethernet" => "",
        other => {
            return Err(Failure::line(format!("No support for {other} in command 'attach-interface'")));
        }
    };
    let mut xml = format!("<interface{}>\n", written("type", kind));
    if !attribute.is_empty() {
        let mode = args.text("source-mode").filter(|_| kind == "direct");
        let mode = mode.map(|m| written("mode", m)).unwrap_or_default();
        xml.push_str(&format!("  <source{}{mode}/>\n", written(attribute, source)));
    }
    for (option, name, attribute) in [
        ("target", "target", "dev"),
        ("mac", "mac", "address"),
        ("model", "model", "type"),
        ("alias", "alias", "name"),
    ] {
        if let Some(value) = args.text(option) {
            xml.push_str(&format!("  <{name}{}/>\n", written(attribute, value)));
        }
    }
    let (inbound, outbound) = (rate(args, "inbound")?, rate(args, "outbound")?);
    xml.push_str(&bandwidth(inbound.unwrap_or_default(), outbound.unwrap_or_default()));
    xml.push_str("</interface>\n");
    Ok(xml)
}

fn attach(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let domain = session.domain(args.required("domain"))?;
    let xml = element(args)?;
    let affect = affect(session, args, &domain, Act::Attach)?;
    apply(session, args, &domain, (Act::Attach, affect), ("Interface", &xml))
}

/// The one interface that is meant.
fn choose(all: Vec<Nic>, kind: &str, mac: Option<&str>) -> Result<Nic, Failure> {
    let mut fitting: Vec<Nic> = all.into_iter().filter(|n| n.kind == kind).collect();
    if fitting.is_empty() {
        return Err(Failure::line(format!("No interface found whose type is {kind}")));
    }
    match mac {
        Some(mac) => {
            let found = fitting.into_iter().find(|n| same_mac(&n.mac, mac));
            found.ok_or_else(|| Failure::line(format!("No interface with MAC address {mac} was found")))
        }
        None if fitting.len() > 1 => Err(Failure::line(format!(
            "Domain has {} interfaces. Please specify which one to detach using --mac",
            fitting.len()
        ))),
        None => Ok(fitting.remove(0)),
    }
}

fn detach(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let domain = session.domain(args.required("domain"))?;
    let affect = affect(session, args, &domain, Act::Detach)?;
    // Where both are changed, what runs tells what the interface is, as in virsh.
    let next = !affect.contains(&Affect::Live) && args.has("config");
    let all = nics(&fetch(session, &domain, next)?);
    let found = choose(all, args.required("type"), args.text("mac"))?;
    apply(session, args, &domain, (Act::Detach, affect), ("Interface", &found.xml))
}

fn list(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let domain = session.domain(args.required("domain"))?;
    let found = nics(&fetch(session, &domain, args.has("inactive"))?);
    if session.json {
        session.out.json(&found);
        return Ok(());
    }
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let row = |n: Nic| vec![or_dash(n.interface), n.kind, or_dash(n.source), or_dash(n.model), n.mac];
    let rows: Vec<Vec<String>> = found.into_iter().map(row).collect();
    let text = table(&["Interface", "Type", "Source", "Model", "MAC"], &rows, session.out.is_quiet());
    session.out.print(&text);
    Ok(())
}

/// The interface of a document with a name or hardware address.
pub fn find(document: &str, word: &str) -> Option<Nic> {
    let all = nics(document);
    let by_mac = |n: &&Nic| is_mac(word) && same_mac(&n.mac, word);
    let by_name = |n: &&Nic| n.interface.as_deref() == Some(word);
    let found = all.iter().find(by_mac).or_else(|| all.iter().find(by_name));
    found.or_else(|| all.iter().find(|n| n.guest.as_deref() == Some(word))).cloned()
}

fn missing(word: &str, interface: &str) -> Failure {
    let what = if is_mac(word) { "mac" } else { "dev" };
    Failure::line(format!("{interface} ({what}: {word}) not found."))
}

fn get_link(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let domain = session.domain(args.required("domain"))?;
    let word = args.required("interface").to_owned();
    let document = fetch(session, &domain, next(args))?;
    let found = find(&document, &word).ok_or_else(|| missing(&word, "Interface"))?;
    let state = found.link.unwrap_or_else(|| "default".into());
    if session.json {
        session.out.json(&json!({ "interface": word, "state": state }));
        return Ok(());
    }
    session.out.print(&format!("{word} {state}\n"));
    Ok(())
}

fn set_link(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let domain = session.domain(args.required("domain"))?;
    let (word, state) = (args.required("interface").to_owned(), args.required("state"));
    if !["up", "down"].contains(&state) {
        return Err(Failure::line(format!("invalid link state '{state}'")));
    }
    if args.has("print-xml") {
        let document = fetch(session, &domain, next(args))?;
        let found = find(&document, &word).ok_or_else(|| missing(&word, "interface"))?;
        session.out.print(&with_link(&found, state));
        return Ok(());
    }
    let affect = vec![if next(args) { Affect::Config } else { Affect::Current }];
    let link = Change { link_up: Some(state == "up"), ..Change::default() };
    change(session, &domain, &word, link, affect).map_err(|e| match is_missing(&e) {
        true => missing(&word, "interface"),
        false => session.failure("Failed to update interface link state", &domain, &e),
    })?;
    session.out.extra("Device updated successfully\n");
    Ok(())
}

/// The document of the definitions that are meant.
fn meant(session: &mut Session, domain: &DomainRef, affect: &[Affect]) -> Result<String, Failure> {
    fetch(session, domain, affect == [Affect::Config])
}

fn tune(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let domain = session.domain(args.required("domain"))?;
    let affect = resources::affect(args, Affect::Current)?;
    let (inbound, outbound) = (rate(args, "inbound")?, rate(args, "outbound")?);
    let word = args.required("interface").to_owned();
    let get = inbound.is_none() && outbound.is_none();
    let what = if get { "Unable to get interface parameters" } else { "Unable to set interface parameters" };
    let missing = || Failure::because(what, format!("invalid argument: Can't find device {word}"));
    if !get {
        let limits = Change { inbound, outbound, link_up: None };
        return change(session, &domain, &word, limits, affect).map_err(|e| match is_missing(&e) {
            true => missing(),
            false => session.failure(what, &domain, &e),
        });
    }
    let found = find(&meant(session, &domain, &affect)?, &word).ok_or_else(missing)?;
    let (inbound, outbound) = (Rate::of(found.inbound.as_deref()), Rate::of(found.outbound.as_deref()));
    if session.json {
        session.out.json(&json!({ "inbound": inbound, "outbound": outbound }));
        return Ok(());
    }
    for (name, value) in [
        ("inbound.average", inbound.average),
        ("inbound.peak", inbound.peak),
        ("inbound.burst", inbound.burst),
        ("inbound.floor", inbound.floor),
        ("outbound.average", outbound.average),
        ("outbound.peak", outbound.peak),
        ("outbound.burst", outbound.burst),
    ] {
        resources::row(session, name, &value.to_string());
    }
    Ok(())
}

#[cfg(test)]
mod test {
    use super::*;

    fn nic(kind: &str, mac: &str) -> Nic {
        let xml = format!(
            "<d>\n    <interface type='{kind}'>\n      <mac address='{mac}'/>\n    </interface>\n</d>\n"
        );
        nics(&xml).remove(0)
    }

    #[test]
    fn a_type_alone_is_enough_only_for_one() {
        let all =
            || vec![nic("bridge", "2:0:0:0:0:1"), nic("bridge", "2:0:0:0:0:2"), nic("direct", "2:0:0:0:0:3")];
        let error = |kind, mac| choose(all(), kind, mac).expect_err("an error").messages().join("\n");
        assert_eq!(choose(all(), "direct", None).expect("one").mac, "2:0:0:0:0:3");
        assert_eq!(choose(all(), "bridge", Some("02:00:00:00:00:02")).expect("one").mac, "2:0:0:0:0:2");
        assert!(error("bridge", None).contains("Domain has 2 interfaces."));
        assert!(error("network", None).contains("No interface found whose type is network"));
        assert!(error("direct", Some("2:0:0:0:0:1")).contains("No interface with MAC address 2:0:0:0:0:1"));
    }
}
