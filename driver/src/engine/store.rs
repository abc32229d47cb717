//! Definitions and autostart links on disk.
//!
//! Does not know what a document says: the caller reads it. All functions block.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use berth_schemas::name::DomainName;
use rustix::fs::OFlags;

use crate::{files, killpoint};

/// Largest file that is read: larger than any document that was accepted.
const MAX_FILE: u64 = 4 << 20;

/// Makes a definition from a text and answers its name with it, or says what is wrong.
pub type Read<D> = dyn Fn(&str) -> Result<(DomainName, D), String>;

/// The two folders.
#[derive(Debug, Clone)]
pub struct Store {
    domains: PathBuf,
    autostart: PathBuf,
}

/// What was done to which file, and why it failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} '{}': {cause}", path.display())]
pub struct StoreError {
    /// What was tried.
    pub operation: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why not.
    pub cause: io::Error,
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |cause| StoreError { operation, path, cause }
}

/// A definition that was read.
#[derive(Debug)]
pub struct Stored<D> {
    /// The definition.
    pub domain: D,
    /// Whether it starts with the host.
    pub autostart: bool,
}

/// A file that is no definition.
#[derive(Debug)]
pub struct SetAside {
    /// Where it was.
    pub file: PathBuf,
    /// Where it is now; the same if it could not be moved.
    pub now: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// Everything there was.
#[derive(Debug)]
pub struct Loaded<D> {
    /// Definitions.
    pub domains: Vec<Stored<D>>,
    /// Files that are none, out of the way now.
    pub set_aside: Vec<SetAside>,
}

impl Store {
    /// Uses two folders that are there.
    pub fn new(domains: PathBuf, autostart: PathBuf) -> Self {
        Self { domains, autostart }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.domains.join(format!("{name}.xml"))
    }

    fn link(&self, name: &str) -> PathBuf {
        self.autostart.join(format!("{name}.xml"))
    }

    /// Reads all definitions.
    pub fn load<D>(&self, read: &Read<D>) -> Result<Loaded<D>, StoreError> {
        let mut loaded = Loaded { domains: Vec::new(), set_aside: Vec::new() };
        let entries = fs::read_dir(&self.domains).map_err(failed("list", &self.domains))?;
        for entry in entries {
            let path = entry.map_err(failed("list", &self.domains))?.path();
            let Some(file) = path.file_name().and_then(|f| f.to_str()) else { continue };
            if file.starts_with('.') && file.ends_with(".new") {
                // Half of a definition that was never kept.
                fs::remove_file(&path).map_err(failed("remove", &path))?;
                continue;
            }
            let Some(stem) = file.strip_suffix(".xml") else { continue };
            match self.load_one(&path, stem, read) {
                Ok(domain) => loaded.domains.push(Stored { domain, autostart: self.has_link(stem) }),
                Err(why) => loaded.set_aside.push(set_aside(&path, why)),
            }
        }
        Ok(loaded)
    }

    fn load_one<D>(&self, path: &Path, stem: &str, read: &Read<D>) -> Result<D, String> {
        let text = read_limited(path).map_err(|e| e.to_string())?;
        let (name, domain) = read(&text)?;
        if name.as_str() != stem {
            return Err(format!("it defines '{name}', so its name must be '{name}.xml'"));
        }
        Ok(domain)
    }

    fn has_link(&self, name: &str) -> bool {
        self.link(name).symlink_metadata().is_ok()
    }

    /// Keeps a definition: when this answers, it is on the disk, whole.
    pub fn write(&self, name: &str, document: &str) -> Result<(), StoreError> {
        let path = self.file(name);
        let new = self.domains.join(format!(".{name}.xml.new"));
        let written = write_new(&new, document).map_err(failed("write", &new)).and_then(|()| {
            killpoint::reached("define-written");
            fs::rename(&new, &path).map_err(failed("replace", &path))
        });
        if written.is_err() {
            // Nothing but a leftover; the next start of the daemon removes it if this does not.
            drop(fs::remove_file(&new));
            return written;
        }
        killpoint::reached("define-renamed");
        sync(&self.domains)
    }

    /// Forgets a definition and its link.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        self.unlink(name)?;
        let path = self.file(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &path)(e)),
            _ => {}
        }
        sync(&self.domains)
    }

    /// Whether a domain starts with the host.
    pub fn set_autostart(&self, name: &str, on: bool) -> Result<(), StoreError> {
        if !on {
            return self.unlink(name);
        }
        let link = self.link(name);
        // The folder of the links is beside that of the definitions, or in it.
        let target = match self.domains.file_name() {
            Some(folder) if !self.autostart.starts_with(&self.domains) => Path::new("..").join(folder),
            _ => PathBuf::from(".."),
        };
        match std::os::unix::fs::symlink(target.join(format!("{name}.xml")), &link) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(failed("make", &link)(e)),
            _ => {}
        }
        sync(&self.autostart)
    }

    fn unlink(&self, name: &str) -> Result<(), StoreError> {
        let link = self.link(name);
        match fs::remove_file(&link) {
            Ok(()) => sync(&self.autostart),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(failed("remove", &link)(e)),
        }
    }
}

fn read_limited(path: &Path) -> io::Result<String> {
    String::from_utf8(files::read(path, MAX_FILE)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8"))
}

fn write_new(path: &Path, document: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    file.write_all(document.as_bytes())?;
    file.sync_all()
}

fn sync(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(failed("sync", folder))
}

/// Moves a file out of the way without ever overwriting another.
fn set_aside(path: &Path, why: String) -> SetAside {
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for n in 1..1000 {
        let to = path.with_file_name(format!("{file}.unreadable-{n}"));
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(rustix::fs::CWD, path, rustix::fs::CWD, &to, flags) {
            Ok(()) => return SetAside { file: path.to_owned(), now: to, why },
            Err(rustix::io::Errno::EXIST) => {}
            Err(_) => break,
        }
    }
    SetAside { file: path.to_owned(), now: path.to_owned(), why }
}

#[cfg(test)]
mod test {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (a, b) = (dir.path().join("domains"), dir.path().join("autostart"));
        fs::create_dir(&a).expect("made");
        fs::create_dir(&b).expect("made");
        (dir, Store::new(a, b))
    }

    fn read(text: &str) -> Result<(DomainName, String), String> {
        let name = text.lines().next().unwrap_or_default();
        Ok((DomainName::parse(name).map_err(|e| e.to_string())?, text.to_owned()))
    }

    #[test]
    fn what_was_written_is_read_and_what_was_removed_is_gone() {
        let (_dir, store) = store();
        store.write("web", "web\none").expect("written");
        store.write("web", "web\ntwo").expect("replaced");
        store.write("db", "db").expect("written");
        store.set_autostart("db", true).expect("linked");
        store.set_autostart("db", true).expect("linked again");
        store.remove("nosuch").expect("nothing to do");
        let mut loaded = store.load(&read).expect("loaded");
        loaded.domains.sort_by(|a, b| a.domain.cmp(&b.domain));
        let seen: Vec<_> = loaded.domains.iter().map(|d| (d.domain.as_str(), d.autostart)).collect();
        assert_eq!(seen, [("db", true), ("web\ntwo", false)]);
        store.remove("db").expect("removed");
        assert!(!store.has_link("db"));
        assert_eq!(store.load(&read).expect("loaded").domains.len(), 1);
    }

    #[test]
    fn leftovers_of_a_crash_go_and_bad_files_are_set_aside_without_overwriting() {
        let (_dir, store) = store();
        fs::write(store.domains.join(".web.xml.new"), "we").expect("written");
        fs::write(store.domains.join("note.txt"), "mine").expect("written");
        fs::write(store.domains.join("bad.xml.unreadable-1"), "older").expect("written");
        fs::write(store.domains.join("bad.xml"), "a/b").expect("written");
        fs::write(store.domains.join("other.xml"), "name").expect("written");
        fs::write(store.domains.join("binary.xml"), [0xff, 0xfe]).expect("written");
        fs::create_dir(store.domains.join("dir.xml")).expect("made");
        std::os::unix::fs::symlink("/etc/passwd", store.domains.join("link.xml")).expect("linked");
        let loaded = store.load(&read).expect("loaded");
        assert!(loaded.domains.is_empty());
        assert_eq!(loaded.set_aside.len(), 5, "{:?}", loaded.set_aside);
        let kept = |f: &str| fs::read_to_string(store.domains.join(f)).expect("there");
        assert_eq!(kept("bad.xml.unreadable-1"), "older");
        assert_eq!(kept("bad.xml.unreadable-2"), "a/b");
        assert_eq!(kept("note.txt"), "mine");
        assert!(!store.domains.join(".web.xml.new").exists());
        let other = loaded.set_aside.iter().find(|s| s.file.ends_with("other.xml")).expect("there");
        assert_eq!(other.why, "it defines 'name', so its name must be 'name.xml'");
        assert_eq!(store.load(&read).expect("loaded").set_aside.len(), 0);
    }

    #[test]
    fn a_write_that_fails_names_path_and_cause_and_leaves_the_old() {
        let (_dir, store) = store();
        store.write("web", "web\none").expect("written");
        fs::create_dir(store.domains.join(".web.xml.new")).expect("made");
        let error = store.write("web", "web\ntwo").expect_err("cannot be written").to_string();
        assert!(error.starts_with("cannot write '") && error.contains(".web.xml.new"), "{error}");
        assert_eq!(fs::read_to_string(store.file("web")).expect("there"), "web\none");
    }
}
