//! What is known of a network that runs, for the next daemon: written before anything is made.
//!
//! Does not know how to make or unmake anything. All functions block.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Port;
use crate::files;

/// How far it got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Some of it may be there.
    Starting,
    /// All of it is there.
    Running,
    /// Some of it may be there still.
    Stopping,
}

/// A port that is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Whose.
    #[serde(flatten)]
    pub port: Port,
    /// The interface of the host that it is made on, in a network that has several.
    pub dev: Option<String>,
    /// The class of interfaces that it has its values of.
    #[serde(default)]
    pub portgroup: Option<String>,
}

/// A network that runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its uuid.
    pub uuid: Uuid,
    /// The boot it was written in.
    pub boot_id: String,
    /// How far it got.
    pub phase: Phase,
    /// The bridge that is made for it.
    pub bridge: Option<String>,
    /// What it runs with.
    pub xml: String,
    /// Its ports.
    pub ports: Vec<Taken>,
    /// Addresses that were chosen for guests, by hardware address.
    pub fixed: BTreeMap<String, Ipv4Addr>,
}

fn path(folder: &Path, uuid: Uuid) -> PathBuf {
    folder.join(format!("{uuid}.json"))
}

/// Writes one; the old one stays whole until the new one is.
pub fn write(folder: &Path, record: &Record) -> io::Result<()> {
    let new = folder.join(format!(".{}.new", record.uuid));
    files::overwrite(&new, &serde_json::to_string(record)?)?;
    fs::rename(&new, path(folder, record.uuid))
}

/// Removes one; none there is no error.
pub fn remove(folder: &Path, uuid: Uuid) -> io::Result<()> {
    match fs::remove_file(path(folder, uuid)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Reads all. Those that cannot be read are told, and left where they are.
pub fn load(folder: &Path) -> io::Result<(Vec<Record>, Vec<String>)> {
    let (mut records, mut bad) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let read = files::read_text(&path).and_then(|t| Ok(serde_json::from_str(&t)?));
        match read {
            Ok(record) => records.push(record),
            Err(e) => bad.push(format!("'{}': {e}", path.display())),
        }
    }
    Ok((records, bad))
}
