//! Puts the release builds where a package would.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::{dist, files};

/// Folders that the programs would make themselves, with their modes.
const FOLDERS: &[(&str, u32)] = &[
    ("/etc/berth", 0o755),
    ("/etc/berth/domains", 0o700),
    ("/var/lib/berth", 0o700),
    ("/var/log/berth", 0o700),
];

/// `install --destdir DIR [--prefix /usr]`.
pub fn run(words: &[&str]) -> Result<(), String> {
    let (mut destdir, mut prefix) = (None, "/usr");
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().copied().ok_or_else(|| format!("error: {word} needs a value"));
        match *word {
            "--destdir" => destdir = Some(value()?),
            "--prefix" => prefix = value()?,
            other => return Err(format!("error: install does not know '{other}'")),
        }
    }
    let destdir =
        destdir.ok_or("error: install needs --destdir DIR; '--destdir /' installs into this system")?;
    if !prefix.starts_with('/') {
        return Err(format!("error: the prefix '{prefix}' is not an absolute path"));
    }
    let dist = dist::build()?;
    for entry in files::list(&dist, prefix)? {
        let is_there = Path::new(destdir).join(entry.to.trim_start_matches('/')).exists();
        // Settings are the administrator's once they are there; profiles belong to the programs.
        if is_there && entry.to == "/etc/berth/berthd.toml" {
            continue;
        }
        println!("{}", files::put(&entry, Path::new(destdir))?.display());
    }
    for (dir, mode) in FOLDERS {
        let dir = PathBuf::from(format!("{}{dir}", destdir.trim_end_matches('/')));
        fs::create_dir_all(&dir)
            .and_then(|()| fs::set_permissions(&dir, fs::Permissions::from_mode(*mode)))
            .map_err(|e| format!("error: cannot make '{}': {e}", dir.display()))?;
        println!("{}", dir.display());
    }
    Ok(())
}
