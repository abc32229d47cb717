//! The host and the connection: `nodeinfo`, `node-memory-tune`, `sysinfo`, `capabilities`, `version`, `hostname`, `uri`, `ttyconsole`.
//!
//! Does not look at the host itself; it may be another one.

use berth_schemas::node::{
    GetCapabilitiesIn, GetCapabilitiesOut, GetHostnameIn, GetHostnameOut, GetInfoIn, GetInfoOut,
    GetMemoryParametersIn, GetMemoryParametersOut, GetSysinfoIn, GetSysinfoOut, GetVersionIn, GetVersionOut,
    Method, SetMemoryParametersIn, SetMemoryParametersOut,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::cmd::document;
use crate::cmd::info::answer;
use crate::cmd::resources::number;
use crate::error::Failure;
use crate::grammar::{Command, Group, Opt};
use crate::parse::Args;
use crate::session::Session;

/// `nodeinfo`
pub static NODEINFO: Command = Command::new("nodeinfo", Group::Host, "node information", nodeinfo)
    .about("Shows processors and memory of the host.")
    .json("model, memoryKiB, cpus, mhz, numaCells, sockets, cores, threads");

/// `node-memory-tune`
pub static NODE_MEMORY_TUNE: Command =
    Command::new("node-memory-tune", Group::Host, "Get or set node memory parameters", node_memory_tune)
        .about("Prints how the host's kernel merges equal pages of memory (KSM), or sets what is given.")
        .options(&[
            Opt::number("shm-pages-to-scan", "number of pages to scan before going to sleep"),
            Opt::number("shm-sleep-millisecs", "number of millisecs to sleep before the next scan"),
            Opt::number("shm-merge-across-nodes", "whether pages of different NUMA nodes are merged: 1 or 0"),
        ])
        .json("pagesToScan, sleepMSec, mergeAcrossNodes, pagesShared, pagesSharing, pagesUnshared, pagesVolatile, fullScans");

/// `sysinfo`
pub static SYSINFO: Command =
    Command::new("sysinfo", Group::Host, "print the hypervisor sysinfo", sysinfo)
        .about("Prints what the firmware says about the host, in libvirt's XML. Serial numbers are in it, so it is for administrators.")
        .json("xml");

/// `capabilities`
pub static CAPABILITIES: Command = Command::new("capabilities", Group::Host, "capabilities", capabilities)
    .about("Prints what the host and the driver can do, in libvirt's XML.")
    .options(&[
        Opt::text("xpath", "").refused("pipe the output through xmllint --xpath"),
        Opt::flag("wrap", "").refused("it only goes with --xpath"),
    ])
    .json("xml");

/// `version`
pub static VERSION: Command = Command::new("version", Group::Host, "show version", version)
    .about("Shows the versions of this program, of the driver and of the kernel.")
    .options(&[Opt::flag("daemon", "show the version of the daemon, too")])
    .json("client, daemon and kernel");

/// `hostname`
pub static HOSTNAME: Command =
    Command::new("hostname", Group::Host, "print the hypervisor hostname", hostname).json("hostname");

/// `uri`
pub static URI: Command =
    Command::new("uri", Group::Host, "print the hypervisor canonical URI", uri).json("uri");

/// `ttyconsole`
pub static TTYCONSOLE: Command = Command::new("ttyconsole", Group::Domain, "tty console", ttyconsole)
    .about("Prints the device on the host that is the first console of a running domain.")
    .options(&[Opt::domain()])
    .json("tty");

/// Asks the daemon about the host.
pub fn ask<In: Serialize, Out: DeserializeOwned>(
    session: &mut Session,
    method: Method,
    parameters: &In,
    what: &str,
) -> Result<Out, Failure> {
    let readonly = session.options.readonly;
    session.call_named(method.name(), parameters).map_err(|e| e.because(what, readonly))
}

/// How many processors the host has.
pub fn processors(session: &mut Session, what: &str) -> Result<i64, Failure> {
    let out: GetInfoOut = ask(session, Method::GetInfo, &GetInfoIn {}, what)?;
    Ok(out.info.cpus)
}

fn nodeinfo(session: &mut Session, _: &Args) -> Result<(), Failure> {
    let out: GetInfoOut = ask(session, Method::GetInfo, &GetInfoIn {}, "failed to get node information")?;
    let info = out.info;
    if session.json {
        session.out.json(&info);
        return Ok(());
    }
    let rows = [
        ("CPU model:", info.model),
        ("CPU(s):", info.cpus.to_string()),
        ("CPU frequency:", format!("{} MHz", info.mhz)),
        ("CPU socket(s):", info.sockets.to_string()),
        ("Core(s) per socket:", info.cores.to_string()),
        ("Thread(s) per core:", info.threads.to_string()),
        ("NUMA cell(s):", info.numa_cells.to_string()),
        ("Memory size:", format!("{} KiB", info.memory_ki_b)),
    ];
    let text: String = rows.iter().map(|(key, value)| format!("{key:<20} {value}\n")).collect();
    session.out.print(&text);
    Ok(())
}

fn node_memory_tune(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let of = |name: &str| args.text(name).map(|text| number(text, &format!("--{name}"))).transpose();
    let merge_across_nodes = match of("shm-merge-across-nodes")? {
        None => None,
        Some(n @ (0 | 1)) => Some(n == 1),
        Some(n) => return Err(Failure::line(format!("shm_merge_across_nodes must be 0 or 1, not {n}"))),
    };
    let change = SetMemoryParametersIn {
        pages_to_scan: of("shm-pages-to-scan")?,
        sleep_m_sec: of("shm-sleep-millisecs")?,
        merge_across_nodes,
    };
    for (name, value) in
        [("--shm-pages-to-scan", change.pages_to_scan), ("--shm-sleep-millisecs", change.sleep_m_sec)]
    {
        if let Some(value) = value.filter(|v| u32::try_from(*v).is_err()) {
            return Err(Failure::line(format!(
                "Numeric value '{value}' for <{name}> option is malformed or out of range"
            )));
        }
    }
    if change.pages_to_scan.is_some() || change.sleep_m_sec.is_some() || merge_across_nodes.is_some() {
        let what = "Unable to change memory parameters";
        let _: SetMemoryParametersOut = ask(session, Method::SetMemoryParameters, &change, what)?;
        return Ok(());
    }
    let out: GetMemoryParametersOut = ask(
        session,
        Method::GetMemoryParameters,
        &GetMemoryParametersIn {},
        "Unable to get memory parameters",
    )?;
    let now = out.parameters;
    if session.json {
        session.out.json(&now);
        return Ok(());
    }
    let mut text = String::from("Shared memory:\n");
    for (name, value) in [
        ("shm_pages_to_scan", Some(now.pages_to_scan)),
        ("shm_sleep_millisecs", Some(now.sleep_m_sec)),
        ("shm_pages_shared", Some(now.pages_shared)),
        ("shm_pages_sharing", Some(now.pages_sharing)),
        ("shm_pages_unshared", Some(now.pages_unshared)),
        ("shm_pages_volatile", Some(now.pages_volatile)),
        ("shm_full_scans", Some(now.full_scans)),
        ("shm_merge_across_nodes", now.merge_across_nodes.map(i64::from)),
    ] {
        if let Some(value) = value {
            text.push_str(&format!("\t{name:<15} {value}\n"));
        }
    }
    session.out.print(&text);
    Ok(())
}

fn sysinfo(session: &mut Session, _: &Args) -> Result<(), Failure> {
    let out: GetSysinfoOut = ask(session, Method::GetSysinfo, &GetSysinfoIn {}, "failed to get sysinfo")?;
    answer(session, &json!({ "xml": out.xml }), out.xml.trim_end());
    Ok(())
}

fn capabilities(session: &mut Session, _: &Args) -> Result<(), Failure> {
    let out: GetCapabilitiesOut =
        ask(session, Method::GetCapabilities, &GetCapabilitiesIn {}, "failed to get capabilities")?;
    answer(session, &json!({ "xml": out.xml }), out.xml.trim_end());
    Ok(())
}

fn version(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let out: GetVersionOut =
        ask(session, Method::GetVersion, &GetVersionIn {}, "failed to get the daemon version")?;
    let client = env!("CARGO_PKG_VERSION");
    if session.json {
        let value = json!({ "client": client, "daemon": out.version, "kernel": out.kernel_release });
        session.out.json(&value);
        return Ok(());
    }
    let mut text = format!(
        "Compiled against library: berth {client}\nUsing library: berth {client}\nUsing API: LXC {}\n\
         Running hypervisor: LXC {}\n",
        out.version,
        numbers(&out.kernel_release)
    );
    if args.has("daemon") {
        text.push_str(&format!("Running against daemon: {}\n", out.version));
    }
    session.out.print(&text);
    Ok(())
}

/// The kernel's version as libvirt counts it: three numbers.
fn numbers(release: &str) -> String {
    let end = release.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(release.len());
    let mut parts: Vec<&str> = release[..end].split('.').filter(|p| !p.is_empty()).take(3).collect();
    parts.resize(3, "0");
    parts.join(".")
}

fn hostname(session: &mut Session, _: &Args) -> Result<(), Failure> {
    let out: GetHostnameOut = ask(session, Method::GetHostname, &GetHostnameIn {}, "failed to get hostname")?;
    answer(session, &json!({ "hostname": out.hostname }), &out.hostname);
    Ok(())
}

fn uri(session: &mut Session, _: &Args) -> Result<(), Failure> {
    let uri = session.address()?.uri;
    answer(session, &json!({ "uri": uri }), &uri);
    Ok(())
}

fn ttyconsole(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let domain = session.domain(args.required("domain"))?;
    let xml = document::fetch(session, &domain, false)?;
    let Some(tty) = first_tty(&xml) else { return Err(Failure::silent()) };
    answer(session, &json!({ "tty": tty }), tty);
    Ok(())
}

/// The attribute `tty` of the first `<console>`. The daemon writes the document, in one form, with single quotes.
fn first_tty(xml: &str) -> Option<&str> {
    let tag = &xml[xml.find("<console ")?..];
    let tag = &tag[..tag.find('>')?];
    let value = tag.split_once(" tty='")?.1;
    value.split('\'').next()
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn kernel_versions() {
        assert_eq!(numbers("6.1.0-18-amd64"), "6.1.0");
        assert_eq!(numbers("6.12-rc1"), "6.12.0");
        assert_eq!(numbers("x"), "0.0.0");
    }

    #[test]
    fn tty_of_the_first_console() {
        let xml = "<devices>\n<console type='pty' tty='/dev/pts/4'>\n<source path='/dev/pts/4'/></console>";
        assert_eq!(first_tty(xml), Some("/dev/pts/4"));
        assert_eq!(first_tty("<console type='pty'>"), None);
        assert_eq!(first_tty("<domain/>"), None);
    }
}
