//! `attach-disk`, `detach-disk`, `domblklist`: disks by source and target.
//!
//! Writes the element of a disk, and finds such elements in documents of the daemon, which have one form: an element on
//! each line, indented by its depth. Does not read any other XML.

use std::os::unix::fs::FileTypeExt;

use serde::Serialize;

use crate::cmd::device::{Act, CONFIG, CURRENT, LIVE, PERSISTENT, affect, apply};
use crate::cmd::document::fetch;
use crate::error::Failure;
use crate::grammar::{Command, Group, Opt, Values};
use crate::output::table;
use crate::parse::Args;
use crate::session::Session;

const PRINT: Opt = Opt::flag("print-xml", "print the element and change nothing");

/// `attach-disk`
pub static ATTACH_DISK: Command = Command::new("attach-disk", Group::Domain, "attach disk device", attach)
    .about("Gives a domain a block device or an image as a disk: /dev/<target> inside.")
    .options(&[
        Opt::domain(),
        Opt::text("source", "block device, or file of an image").required().from(Values::Files),
        Opt::text("target", "name inside, such as vda").required(),
        Opt::text("targetbus", "bus of the target; without effect"),
        Opt::text("driver", "how an image becomes a device").from(Values::Words(&["loop", "nbd"])),
        Opt::text("subdriver", "format of an image").from(Values::Words(&["raw", "qcow2", "vmdk"])),
        Opt::text("cache", "cache mode; without effect"),
        Opt::text("type", "what it looks like").from(Values::Words(&["disk", "cdrom", "floppy", "lun"])),
        Opt::text("mode", "how it may be used").from(Values::Words(&["readonly", "shareable"])),
        Opt::flag("shareable", "the same as --mode shareable"),
        Opt::text("sourcetype", "what the source is; else it is looked at")
            .from(Values::Words(&["file", "block"])),
        Opt::text("alias", "a name for it, which begins with ua-"),
        Opt::text("io", "").refused("a container's disk is a device of the host"),
        Opt::number("iothread", "").refused("a container has no such threads"),
        Opt::flag("rawio", "").refused("a container's disk is a device of the host"),
        Opt::text("source-protocol", "").refused("a container's disk is a device or a file of the host"),
        Opt::text("source-host-name", "").refused("a container's disk is a device or a file of the host"),
        Opt::text("source-host-transport", "")
            .refused("a container's disk is a device or a file of the host"),
        Opt::text("source-host-socket", "").refused("a container's disk is a device or a file of the host"),
        Opt::text("serial", "").refused("a container's disk is a device of the host"),
        Opt::text("wwn", "").refused("a container's disk is a device of the host"),
        Opt::text("address", "").refused("a container has no buses"),
        Opt::flag("multifunction", "").refused("a container has no buses"),
        PRINT,
        PERSISTENT,
        CONFIG,
        LIVE,
        CURRENT,
    ]);

/// `detach-disk`
pub static DETACH_DISK: Command = Command::new("detach-disk", Group::Domain, "detach disk device", detach)
    .about("Takes the disk with that target, or with that source, away.")
    .options(&[
        Opt::domain(),
        Opt::text("target", "target or source of the disk").required().from(Values::Disks),
        PERSISTENT,
        CONFIG,
        LIVE,
        CURRENT,
        PRINT,
    ]);

/// `domblklist`
pub static DOMBLKLIST: Command =
    Command::new("domblklist", Group::Monitor, "list all domain blocks", domblklist)
        .about("Lists the disks of a domain.")
        .options(&[
            Opt::domain(),
            Opt::flag("inactive", "of the definition of the next start"),
            Opt::flag("details", "type and device, too"),
        ])
        .json("an array of type, device, target and source");

/// Text for the value of an attribute.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\'', "&apos;")
        .replace('"', "&quot;")
}

/// The text of an attribute's value, which the daemon has written.
fn unescape(text: &str) -> String {
    let named =
        [("&lt;", "<"), ("&gt;", ">"), ("&apos;", "'"), ("&quot;", "\""), ("&#x9;", "\t"), ("&#xA;", "\n")];
    let text = named.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    text.replace("&amp;", "&")
}

/// The value of an attribute of an element of the daemon's.
pub fn attribute(element: &str, name: &str) -> Option<String> {
    let (_, rest) = element.split_once(&format!(" {name}='"))?;
    rest.split_once('\'').map(|(value, _)| unescape(value))
}

/// One disk of a document.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Disk {
    #[serde(rename = "type")]
    kind: String,
    device: String,
    /// Its name inside.
    pub target: String,
    source: Option<String>,
    #[serde(skip)]
    xml: String,
}

/// The disks of a document of the daemon.
pub fn disks(document: &str) -> Vec<Disk> {
    let mut found = Vec::new();
    let mut lines = document.lines();
    while let Some(first) = lines.by_ref().find(|l| l.starts_with("    <disk ")) {
        let inner: Vec<&str> = lines.by_ref().take_while(|l| *l != "    </disk>").collect();
        let child = |name: &str| inner.iter().find(|l| l.starts_with(&format!("      <{name} ")));
        let source = child("source").and_then(|l| attribute(l, "file").or_else(|| attribute(l, "dev")));
        let plain = |line: &str| format!("{}\n", line.strip_prefix("    ").unwrap_or(line));
        let xml =
            std::iter::once(first).chain(inner.iter().copied()).chain(["    </disk>"]).map(plain).collect();
        found.push(Disk {
            kind: attribute(first, "type").unwrap_or_default(),
            device: attribute(first, "device").unwrap_or_default(),
            target: child("target").and_then(|l| attribute(l, "dev")).unwrap_or_default(),
            source,
            xml,
        });
    }
    found
}

fn unsupported(value: &str) -> Failure {
    Failure::line(format!("No support for {value} in command 'attach-disk'"))
}

fn one_of<'a>(args: &'a Args, name: &'static str, words: &[&str]) -> Result<Option<&'a str>, Failure> {
    match args.text(name) {
        Some(value) if !words.contains(&value) => Err(unsupported(value)),
        value => Ok(value),
    }
}

/// The element of a disk.
fn element(args: &Args) -> Result<String, Failure> {
    let source = args.required("source");
    let kind = match one_of(args, "sourcetype", &["file", "block"])? {
        Some(kind) => kind,
        None if std::fs::metadata(source).is_ok_and(|m| m.file_type().is_block_device()) => "block",
        None => "file",
    };
    let mut xml = format!("<disk type='{kind}'");
    if let Some(device) = one_of(args, "type", &["disk", "cdrom", "floppy", "lun"])? {
        xml.push_str(&format!(" device='{device}'"));
    }
    xml.push_str(">\n");
    let driver: String = [("name", "driver"), ("type", "subdriver"), ("cache", "cache")]
        .into_iter()
        .filter_map(|(attribute, option)| args.text(option).map(|v| format!(" {attribute}='{}'", escape(v))))
        .collect();
    if !driver.is_empty() {
        xml.push_str(&format!("  <driver{driver}/>\n"));
    }
    let attribute = if kind == "file" { "file" } else { "dev" };
    xml.push_str(&format!("  <source {attribute}='{}'/>\n", escape(source)));
    let bus = args.text("targetbus").map(|bus| format!(" bus='{}'", escape(bus))).unwrap_or_default();
    xml.push_str(&format!("  <target dev='{}'{bus}/>\n", escape(args.required("target"))));
    args.exclusive("mode", "shareable")?;
    let mode = one_of(args, "mode", &["readonly", "shareable"])?;
    if let Some(mode) = mode.or(args.has("shareable").then_some("shareable")) {
        xml.push_str(&format!("  <{mode}/>\n"));
    }
    if let Some(alias) = args.text("alias") {
        xml.push_str(&format!("  <alias name='{}'/>\n", escape(alias)));
    }
    xml.push_str("</disk>\n");
    Ok(xml)
}

fn attach(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let domain = session.domain(args.required("domain"))?;
    let xml = element(args)?;
    let affect = affect(session, args, &domain, Act::Attach)?;
    apply(session, args, &domain, (Act::Attach, affect), ("Disk", &xml))
}

fn detach(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let domain = session.domain(args.required("domain"))?;
    let affect = affect(session, args, &domain, Act::Detach)?;
    // Where both are changed, what runs tells what the disk is, as in virsh.
    let next = !affect.contains(&berth_schemas::domain::Affect::Live) && args.has("config");
    let wanted = args.required("target");
    let document = fetch(session, &domain, next)?;
    let found = disks(&document)
        .into_iter()
        .find(|d| d.target == wanted || d.source.as_deref() == Some(wanted))
        .ok_or_else(|| Failure::line(format!("No disk found whose source path or target is {wanted}")))?;
    apply(session, args, &domain, (Act::Detach, affect), ("Disk", &found.xml))
}

fn domblklist(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let domain = session.domain(args.required("domain"))?;
    let found = disks(&fetch(session, &domain, args.has("inactive"))?);
    if session.json {
        session.out.json(&found);
        return Ok(());
    }
    let details = args.has("details");
    let row = |disk: Disk| {
        let mut cells = if details { vec![disk.kind, disk.device] } else { Vec::new() };
        cells.extend([disk.target, disk.source.unwrap_or_else(|| "-".into())]);
        cells
    };
    let header: &[&str] =
        if details { &["Type", "Device", "Target", "Source"] } else { &["Target", "Source"] };
    let text = table(header, &found.into_iter().map(row).collect::<Vec<_>>(), session.out.is_quiet());
    session.out.print(&text);
    Ok(())
}

#[cfg(test)]
mod test {
    use super::*;

    const DOCUMENT: &str = "<domain type='lxc'>
  <devices>
    <emulator>/e</emulator>
    <disk type='file' device='disk'>
      <driver name='nbd' type='qcow2'/>
      <source file='/srv/it&apos;s &amp;amp; more'/>
      <target dev='vda' bus='virtio'/>
      <readonly/>
    </disk>
    <disk type='block' device='cdrom'>
      <source dev='/dev/sr0'/>
      <target dev='sda' bus='scsi'/>
    </disk>
    <filesystem type='mount'>
      <source dir='/r'/>
      <target dir='/'/>
    </filesystem>
  </devices>
</domain>
";

    #[test]
    fn disks_are_found_in_documents_of_the_daemon() {
        let found = disks(DOCUMENT);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].source.as_deref(), Some("/srv/it's &amp; more"));
        assert_eq!((&*found[0].kind, &*found[0].device, &*found[0].target), ("file", "disk", "vda"));
        assert_eq!(found[1].source.as_deref(), Some("/dev/sr0"));
        assert_eq!(
            found[1].xml,
            "<disk type='block' device='cdrom'>\n  <source dev='/dev/sr0'/>\n  <target dev='sda' bus='scsi'/>\n</disk>\n"
        );
        assert_eq!(unescape(&escape("a'b\"<&amp;>")), "a'b\"<&amp;>");
    }
}
