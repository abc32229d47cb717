//! `net-plug` and `net-unplug`: interfaces of a network in namespaces that are no domain's. virsh has nothing like them.
//!
//! Does not know who may have one.

use std::fs::File;
use std::os::fd::AsRawFd;

use berth_schemas::network::{
    AddInterfaceIn, AddInterfaceOut, Method, RemoveInterfaceIn, RemoveInterfaceOut,
};
use serde::Serialize;

use crate::cmd::net;
use crate::error::{CallError, Failure};
use crate::grammar::{Command, Group, Opt};
use crate::parse::Args;
use crate::session::Session;

/// `net-plug`
pub static PLUG: Command = Command::new(
    "net-plug",
    Group::Networks,
    "put an interface of a network into a network namespace",
    plug,
)
.about(
    "Makes an interface that is connected to a network and moves it into the network namespace of a process, or\n\
             of this command itself. It is down and has no address yet; it is gone with the namespace. Users other than\n\
             administrators need a row of network-access in berthd.toml and a user namespace of their own. Networks\n\
             that give macvlans have none to give.",
)
.options(&[
    net::NETWORK,
    Opt::text("pid", "process whose network namespace is meant"),
    Opt::text("interface", "name of the interface inside, eth0 if not given"),
    Opt::text("mac", "hardware address inside"),
])
.json("an object: device (on the host), interface, mac");

/// `net-unplug`
pub static UNPLUG: Command =
    Command::new("net-unplug", Group::Networks, "remove an interface that net-plug made", unplug)
        .about("Removes an interface by the name of its end on the host, as net-plug printed it.")
        .options(&[Opt::text("device", "name of the end on the host").required()]);

#[derive(Serialize)]
struct PluggedJson<'a> {
    device: &'a str,
    interface: &'a str,
    mac: &'a str,
}

fn namespace(args: &Args) -> Result<File, Failure> {
    let process = match args.text("pid") {
        None => "self",
        Some(pid) if pid.parse::<u32>().is_ok_and(|n| n > 0) => pid,
        Some(other) => return Err(Failure::line(format!("'{other}' is not the number of a process"))),
    };
    let path = format!("/proc/{process}/ns/net");
    File::open(&path).map_err(|e| Failure::line(format!("cannot open '{path}': {e}")))
}

fn plug(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let network = net::find(session, args.required("network"))?;
    let namespace = namespace(args)?;
    let readonly = session.options.readonly;
    let what = format!("Failed to add an interface of network {}", network.name);
    let client = session.connect()?;
    if !client.is_local() {
        return Err(Failure::because(what, "a namespace can only be passed on this host"));
    }
    let ask = AddInterfaceIn {
        name: Some(network.name.clone()),
        uuid: Some(network.uuid.clone()),
        namespace: 0,
        interface: args.text("interface").map(str::to_owned),
        mac: args.text("mac").map(str::to_owned),
    };
    let out: Result<AddInterfaceOut, _> =
        client.call_with_descriptors(Method::AddInterface.name(), &ask, &[namespace.as_raw_fd()]);
    let out = out.map_err(|e| match e {
        CallError::Denied { .. } => Failure::because(
            what,
            format!("you may not have interfaces of network '{}' in this namespace", network.name),
        )
        .hint("a row of network-access in berthd.toml allows it, in a user namespace that you made yourself"),
        other => other.because(what, readonly),
    })?;
    if session.json {
        session.out.json(&PluggedJson { device: &out.device, interface: &out.interface, mac: &out.mac });
        return Ok(());
    }
    let text = format!("Interface {} ({}) added as {} on the host\n", out.interface, out.mac, out.device);
    session.out.print(&text);
    Ok(())
}

fn unplug(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let device = args.required("device");
    let readonly = session.options.readonly;
    let ask = RemoveInterfaceIn { device: device.to_owned() };
    let out: Result<RemoveInterfaceOut, _> = net::call(session, Method::RemoveInterface, &ask);
    out.map_err(|e| e.because(format!("Failed to remove interface {device}"), readonly))?;
    session.out.extra(&format!("Interface {device} removed\n"));
    Ok(())
}
