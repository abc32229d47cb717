//! Status records: what the daemon must find again after a restart about one domain, as a file.
//!
//! Does not know whether what it says is still so; `recover` finds out. All functions block.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use berth_schemas::controller::ExitRecord;
use berth_schemas::domain::{Exit, Reason};
use berth_schemas::name::DomainName;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::container::hotplug::Step;
use crate::engine::disks::{Counted, Noted};
use crate::engine::snapshot::ConsoleInfo;
use crate::files;
use crate::host::apparmor::Label;
use crate::host::idmap::Range;
use crate::host::limits::devices::Numbers;
use crate::host::links::Link;
use crate::paths::Layout;

/// How far a domain had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordPhase {
    /// A start was under way.
    Starting,
    /// It ran.
    Running,
}

/// One controller process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRecord {
    /// Its number.
    pub pid: i32,
    /// When it started, in ticks since boot: a number that is used again has another.
    pub start: u64,
}

/// A change of what runs, noted before the controller is asked for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// What it is asked for.
    pub step: Step,
    /// What runs then, as a definition.
    pub document: String,
    /// What is kept then, unless that stays.
    pub next: Option<String>,
    /// What block devices had counted, for a change of disks.
    #[serde(default)]
    pub counted: Counted,
}

/// The record. Its format is private to the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The boot it was written in: after another, no process of it can live.
    pub boot_id: String,
    /// Name.
    pub name: String,
    /// Uuid.
    pub uuid: Uuid,
    /// How far it had come.
    pub phase: RecordPhase,
    /// Whether it had a definition.
    pub persistent: bool,
    /// Whether it ends with a client, who is gone with the daemon.
    pub autodestroy: bool,
    /// The controller.
    pub process: Option<ProcessRecord>,
    /// Init.
    pub init_pid: Option<i64>,
    /// When init was started.
    pub started_usec: i64,
    /// Restarts since the start.
    pub restarts: i64,
    /// Whether init had said that it is ready, where it can.
    #[serde(default)]
    pub ready: Option<bool>,
    /// Why it was in its state.
    pub reason: Reason,
    /// The last controller event that was published.
    pub sequence: i64,
    /// Its consoles.
    pub consoles: Vec<ConsoleInfo>,
    /// What runs, as a definition; none if nothing does.
    pub document: Option<String>,
    /// The ids that were chosen for what runs.
    #[serde(default)]
    pub ids: Option<Range>,
    /// A change of what runs that is under way.
    #[serde(default)]
    pub pending: Option<Pending>,
    /// What it runs under.
    #[serde(default)]
    pub label: Option<Label>,
    /// The control group of its scope, where the service manager has made one.
    #[serde(default)]
    pub scope: Option<String>,
    /// What its interfaces have on the host, or are about to get.
    #[serde(default)]
    pub links: Vec<Link>,
    /// The block devices that are limited, as they were found.
    #[serde(default)]
    pub io_numbers: Numbers,
    /// The devices of its disks.
    #[serde(default)]
    pub disks: Noted,
    /// Whether a change of its limits was under way.
    #[serde(default)]
    pub tuning: bool,
    /// How it ended last time.
    pub last_exit: Option<Exit>,
}

/// Longest record: twice the longest document, as quotes and line ends are escaped in it, and what is around it.
const MAX_RECORD: u64 = 4 << 20;

/// Longest exit record. A controller remembers some hundred events.
const MAX_EXIT: u64 = 1 << 20;

impl Record {
    /// Reads a record; none if it is not one that this daemon can have written.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let record: Self = serde_json::from_slice(bytes).ok()?;
        let is_good = DomainName::parse(&record.name).is_ok()
            && record.process.is_none_or(|p| p.pid >= 0)
            && record.init_pid.is_none_or(|pid| pid >= 0)
            && record.ids.is_none_or(Range::is_possible)
            && record.scope.as_deref().is_none_or(is_group)
            && record.links.iter().all(Link::is_possible);
        is_good.then_some(record)
    }
}

/// Whether it can be the path of a control group.
fn is_group(path: &str) -> bool {
    path.starts_with('/') && path.len() < 4096 && !path.split('/').any(|part| part == "..")
}

/// Writes a record, whole or not at all.
pub fn write(layout: &Layout, record: &Record) -> io::Result<()> {
    let path = layout.record(record.uuid);
    let new = path.with_extension("json.new");
    let bytes = serde_json::to_vec(record)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(&new)?;
    let written = file.write_all(&bytes).and_then(|()| fs::rename(&new, &path));
    if written.is_err() {
        // It is of no use, and the disk may be full.
        let _ = fs::remove_file(&new);
    }
    written
}

/// Removes a file that may not be there.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Reads all records; those that are none are removed and named.
pub fn read_all(layout: &Layout) -> io::Result<(Vec<Record>, Vec<String>)> {
    let (mut records, mut bad) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(layout.state())? {
        let path = entry?.path();
        match path.extension().and_then(|e| e.to_str()) {
            Some("json") => match files::read(&path, MAX_RECORD).map(|bytes| Record::parse(&bytes)) {
                Ok(Some(record)) if layout.record(record.uuid) == path => records.push(record),
                _ => {
                    bad.push(path.display().to_string());
                    remove(&path)?;
                }
            },
            Some("new") => remove(&path)?,
            _ => {}
        }
    }
    Ok((records, bad))
}

/// Reads what a controller left behind, if it is of that run.
pub fn read_exit(layout: &Layout, uuid: Uuid, pid: i32) -> Option<ExitRecord> {
    let record = parse_exit(&files::read(&layout.exit_record(uuid), MAX_EXIT).ok()?)?;
    (record.pid == i64::from(pid) && record.uuid == uuid.to_string()).then_some(record)
}

/// Reads an exit record.
pub fn parse_exit(bytes: &[u8]) -> Option<ExitRecord> {
    serde_json::from_slice(bytes).ok()
}
