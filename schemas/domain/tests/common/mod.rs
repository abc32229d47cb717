//! What the tests share.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(dead_code, reason = "not every test uses everything")]

use std::path::{Path, PathBuf};

use berth_domain::Host;

/// The host that our documents assume.
pub fn host() -> Host {
    Host { arch: "x86_64".into(), emulator: "/usr/libexec/berth-controller".into() }
}

/// The host that libvirt's documents assume.
pub fn libvirts_host() -> Host {
    Host { emulator: "/usr/libexec/libvirt_lxc".into(), ..host() }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Our own documents.
pub fn corpus() -> PathBuf {
    workspace().join("tests/corpus/domains")
}

/// Documents of others, if they are at hand.
pub fn shared_corpus() -> Option<PathBuf> {
    let folder = workspace().join("../shared/corpus/domains");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: there is no {}", folder.display());
    None
}

/// All documents that are input, sorted.
pub fn documents(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut found: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    found.retain(|p| {
        let name = p.file_name().unwrap().to_string_lossy().into_owned();
        name.ends_with(".xml") && !name.ends_with(".out.xml")
    });
    found.sort();
    found
}

/// A document with `devices` behind its root file system and `rest` before its devices.
pub fn document(rest: &str, devices: &str) -> String {
    format!(
        "<domain type='lxc'><name>t</name><uuid>8369f1ac-7e46-e869-4ca5-759d51478066</uuid><memory>1</memory>\
         <os><type>exe</type><init>/sbin/init</init></os>{rest}<devices>\
         <filesystem><source dir='/srv/t'/><target dir='/'/></filesystem>{devices}</devices></domain>"
    )
}
