//! The table of hostile roots: reads `tests/hostile/roots.txt`, and makes a root and its document by a line of it.
//!
//! Does not start anything.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use berth_tests::daemon::{domain_xml, escape};
use berth_tests::{Outcome, roots};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use rustix::fs::{FileType, IFlags, Mode, OFlags, XattrFlags};

/// A line of the table.
#[derive(Debug, Clone)]
pub struct Hostile {
    /// Its name.
    pub name: String,
    own: Expected,
    host: Expected,
    changes: Vec<Vec<String>>,
}

/// What has to come of a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// It runs, with its console.
    Runs,
    /// It starts, and may end at once.
    Ends,
    /// It fails with a message that has this in it.
    Refused(String),
    /// Its document is refused already, with a message that has this in it.
    Rejected(String),
}

/// Where things are that a line may name.
#[derive(Debug)]
pub struct Places<'a> {
    /// The canary.
    pub canary: &'a Path,
    /// A folder of the host that may be mounted.
    pub data: &'a Path,
}

/// What runs in the roots that run: it answers on its console, and ends when it is asked to.
pub const INIT: &str =
    "trap 'exit 0' TERM; echo ready; while :; do if read -t 1 line; then echo \"heard $line\"; fi; done";

impl Hostile {
    /// All lines.
    pub fn all() -> Result<Vec<Self>, String> {
        let text = include_str!("../../hostile/roots.txt");
        text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).map(Self::read).collect()
    }

    fn read(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default().to_owned();
        let expected = words.next().ok_or_else(|| format!("nothing is expected of '{name}'"))?;
        let words: Vec<String> = words.map(str::to_owned).collect();
        let changes: Vec<Vec<String>> = words.split(|w| w == ";").map(<[String]>::to_vec).collect();
        let (own, host) = expected.split_once('|').unwrap_or((expected, expected));
        Ok(Self { own: Expected::read(own)?, host: Expected::read(host)?, name, changes })
    }

    /// What has to come of it.
    pub fn expected(&self, own_ids: bool) -> &Expected {
        if own_ids { &self.own } else { &self.host }
    }

    /// Makes the root.
    pub fn make(&self, root: &Path, places: &Places<'_>) -> Outcome {
        roots::make_busybox(root)?;
        for change in &self.changes {
            apply(root, change, places).map_err(|e| format!("{}: {change:?}: {e}", self.name))?;
        }
        Ok(())
    }

    /// Makes what was made removable again.
    pub fn unmake(&self, root: &Path) -> Outcome {
        for change in self.changes.iter().filter(|c| c[0] == "fixed") {
            set_fixed(&inside(root, &OsString::from(&change[1])), false).map_err(|e| e.to_string())?;
        }
        fs::remove_dir_all(root).map_err(|e| format!("cannot remove '{}': {e}", root.display()))
    }

    /// Where the root is not as a good one: the places that a path could be led away at.
    pub fn changed_paths(&self) -> Vec<String> {
        let verbs = ["link", "fifo", "socket", "char", "block", "file"];
        let changed = self.changes.iter().filter(|c| verbs.contains(&c[0].as_str()));
        changed.map(|c| c[1].clone()).filter(|p| !p.contains(['%', '{'])).collect()
    }

    /// Notices if somebody opens one of the devices in the root.
    pub fn watch_devices(&self, root: &Path) -> Result<Inotify, String> {
        let failed = |e| format!("cannot watch the devices: {e}");
        let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).map_err(failed)?;
        for change in self.changes.iter().filter(|c| c[0] == "char" || c[0] == "block") {
            let path = inside(root, &OsString::from(&change[1]));
            watch.add_watch(&path, AddWatchFlags::IN_OPEN).map_err(failed)?;
        }
        Ok(watch)
    }

    /// The document.
    pub fn document(
        &self,
        name: &str,
        root: &Path,
        places: &Places<'_>,
        own_ids: bool,
    ) -> Result<String, String> {
        let mut devices = String::new();
        let mut os = String::new();
        let mut init = vec!["/bin/sh".to_owned(), "-c".to_owned(), INIT.to_owned()];
        let mut readonly = false;
        for change in &self.changes {
            let words = texts(change, places)?;
            let data = places.data.display();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            match words[..] {
                ["mount", at] => devices += &filesystem("mount", &format!("dir='{data}'"), at),
                ["mountfile", at] => devices += &filesystem("mount", &format!("dir='{data}/file'"), at),
                ["ram", at] => devices += &filesystem("ram", "usage='64'", at),
                ["bind", from, at] => {
                    devices += &filesystem("bind", &format!("dir='{}'", attribute(from)), at)
                }
                ["user", user] => {
                    os += &format!("<inituser>{user}</inituser><initgroup>{user}</initgroup>");
                }
                ["directory", path] => os = format!("<initdir>{}</initdir>{os}", escape(path)),
                ["init", ..] => init = words[1..].iter().map(|w| (*w).to_owned()).collect(),
                ["readonly"] => readonly = true,
                _ => {}
            }
        }
        let init: Vec<&str> = init.iter().map(String::as_str).collect();
        let mut xml = domain_xml(name, root, &init, &devices).replace("</os>", &format!("{os}</os>"));
        if readonly {
            xml = xml.replacen("<target dir='/'/>", "<target dir='/'/><readonly/>", 1);
        }
        if !own_ids {
            let none = "<metadata><berth:settings xmlns:berth='urn:berth:domain:1'><berth:idmap mode='none'/></berth:settings></metadata>";
            xml = xml.replacen("<os>", &format!("{none}<os>"), 1);
        }
        Ok(xml)
    }
}

impl Expected {
    fn read(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "runs" => Ok(Self::Runs),
            None if text == "ends" => Ok(Self::Ends),
            Some(("refused", word)) => Ok(Self::Refused(word.to_owned())),
            Some(("rejected", word)) => Ok(Self::Rejected(word.to_owned())),
            _ => Err(format!("'{text}' cannot be expected")),
        }
    }
}

/// The element of a file system.
pub fn filesystem(kind: &str, source: &str, at: &str) -> String {
    format!(
        "    <filesystem type='{kind}'><source {source}/><target dir='{}'/></filesystem>\n",
        attribute(at)
    )
}

/// Text for an attribute, in which a newline has to be told as a number.
fn attribute(text: &str) -> String {
    escape(text).replace('\'', "&apos;").replace('\n', "&#10;").replace('\t', "&#9;")
}

/// A word with its marks replaced.
fn bytes(word: &str, places: &Places<'_>) -> Vec<u8> {
    let word = word
        .replace("{canary}", &places.canary.display().to_string())
        .replace("{up}", &["/.."; 16].concat()[1..])
        .replace("{long}", &"n".repeat(255))
        .replace("{deep}", &["/d"; 60].concat()[1..]);
    let mut result = Vec::new();
    let mut rest = word.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let code = behind.get(..2).and_then(|c| std::str::from_utf8(c).ok());
        match code.filter(|_| *first == b'%').and_then(|c| u8::from_str_radix(c, 16).ok()) {
            Some(code) => {
                result.push(code);
                rest = &behind[2..];
            }
            None => {
                result.push(*first);
                rest = behind;
            }
        }
    }
    result
}

fn texts(words: &[String], places: &Places<'_>) -> Result<Vec<String>, String> {
    let text = |w: &String| String::from_utf8(bytes(w, places)).or_else(|_| Ok(w.clone()));
    words.iter().map(text).collect()
}

fn inside(root: &Path, path: &OsString) -> PathBuf {
    let path = Path::new(path);
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Does one change of the root; those of the document are nothing here.
fn apply(root: &Path, change: &[String], places: &Places<'_>) -> std::io::Result<()> {
    let words: Vec<OsString> = change.iter().map(|w| OsString::from_vec(bytes(w, places))).collect();
    let verb = change[0].as_str();
    let Some(first) = words.get(1) else { return Ok(()) };
    let path = inside(root, first);
    let second = words.get(2).cloned().unwrap_or_default();
    let text = second.to_string_lossy().into_owned();
    if ["link", "fifo", "socket", "char", "block", "file", "big", "gone", "script"].contains(&verb) {
        clear(&path)?;
    }
    let node = |kind, mode| {
        let number = |n: &str| n.parse::<u32>().map_err(|e| std::io::Error::other(e.to_string()));
        let (major, minor) = text.split_once(':').unwrap_or(("0", "0"));
        let device = rustix::fs::makedev(number(major)?, number(minor)?);
        let mode = Mode::from_raw_mode(mode);
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, device).map_err(std::io::Error::from)
    };
    match verb {
        "link" => symlink(&second, &path),
        "fifo" => node(FileType::Fifo, 0o666),
        "socket" => node(FileType::Socket, 0o666),
        "char" => node(FileType::CharacterDevice, 0o666),
        "block" => node(FileType::BlockDevice, 0o666),
        "folder" => {
            if path.symlink_metadata().is_ok_and(|m| !m.is_dir()) {
                clear(&path)?;
            }
            fs::create_dir_all(&path)
        }
        "file" => fs::write(&path, second.into_vec()),
        "big" => {
            let bytes = text.parse().map_err(|_| std::io::ErrorKind::InvalidInput)?;
            fs::write(&path, vec![b'x'; bytes])
        }
        "script" => {
            fs::write(&path, format!("#!/bin/sh\n{text}\n"))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        }
        "gone" => Ok(()),
        "mode" => {
            let mode = u32::from_str_radix(&text, 8).map_err(|_| std::io::ErrorKind::InvalidInput)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))
        }
        "owner" => {
            let (user, group) = text.split_once(':').unwrap_or(("0", "0"));
            lchown(&path, user.parse().ok(), group.parse().ok())
        }
        "xattr" => {
            let hex = change.get(3).cloned().unwrap_or_default();
            let value: Vec<u8> = (0..hex.len() / 2)
                .filter_map(|n| u8::from_str_radix(&hex[n * 2..n * 2 + 2], 16).ok())
                .collect();
            Ok(rustix::fs::setxattr(&path, &*second, &value, XattrFlags::empty())?)
        }
        "fixed" => set_fixed(&path, true),
        "mount" | "mountfile" | "ram" | "bind" | "user" | "directory" | "init" => Ok(()),
        other => Err(std::io::Error::other(format!("there is no change '{other}'"))),
    }
}

/// Takes away what is there, and makes the folders above.
fn clear(path: &Path) -> std::io::Result<()> {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => path.parent().map_or(Ok(()), fs::create_dir_all),
    }
}

/// The flag of chattr(1) with which nobody can change a file, not even root.
fn set_fixed(path: &Path, on: bool) -> std::io::Result<()> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let mut flags = rustix::fs::ioctl_getflags(&file)?;
    flags.set(IFlags::IMMUTABLE, on);
    Ok(rustix::fs::ioctl_setflags(&file, flags)?)
}
