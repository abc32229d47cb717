//! A folder outside of all containers that nobody may touch, and that notices if somebody does.
//!
//! Wherever a lookup could end that has left its root, there is something here that would be read, written or mounted
//! on. It does not know what the containers are asked to do.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use rustix::fs::{FileType, Mode, OFlags, XattrFlags};

use crate::picture::{Detail, Picture};
use crate::{Outcome, ensure, ensure_eq};

/// The folder with what watches it.
pub struct Canary {
    folder: tempfile::TempDir,
    before: Picture,
    watch: Inotify,
    /// Nobody may connect.
    listener: UnixListener,
    /// A reader, so that a writer of `initctl` would not be turned away.
    initctl: File,
}

/// Folders in it: each is a place where something would be mounted or made.
const FOLDERS: &[&str] =
    &["proc/self", "sys/fs/cgroup", "pts", "shm", "mqueue", "sub/deep", "host", "berth", "sbin"];

/// Files in it: name, mode, contents.
const FILES: &[(&str, u32, &str)] = &[
    ("file", 0o644, "untouched\n"),
    ("secret", 0o600, "nobody may read this\n"),
    ("passwd", 0o644, "root:x:0:0::/:/bin/sh\nguest:x:4242:4242::/:/bin/sh\n"),
    ("group", 0o644, "guest:x:4242:\n"),
    ("os-release", 0o644, "ID=canary\n"),
    ("console", 0o620, ""),
    ("null", 0o666, ""),
    ("init", 0o755, "#!/bin/sh\nexit 42\n"),
    ("sbin/init", 0o755, "#!/bin/sh\nexit 42\n"),
    ("suid", 0o4755, "#!/bin/sh\n"),
    ("proc/self/uid_map", 0o644, ""),
    ("sub/deep/file", 0o640, "deep\n"),
];

impl Canary {
    /// Makes one.
    pub fn new() -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("berth-canary-").tempdir().map_err(|e| e.to_string())?;
        let top = folder.path().to_owned();
        fill(&top).map_err(|e| format!("cannot make the canary: {e}"))?;
        let listener = UnixListener::bind(top.join("socket")).map_err(|e| e.to_string())?;
        listener.set_nonblocking(true).map_err(|e| e.to_string())?;
        let initctl = File::options()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(top.join("initctl"))
            .map_err(|e| e.to_string())?;
        // The first look at a folder may change when it was last read; the second does not.
        Picture::of(&top, Detail::Everything)?;
        let before = Picture::of(&top, Detail::Everything)?;
        // Not the end of an opening: a process that another thread makes has a copy of the descriptors of our own look for
        // a moment, and may be the last to close one.
        let touches = AddWatchFlags::IN_ALL_EVENTS - AddWatchFlags::IN_CLOSE;
        let watch =
            Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).map_err(|e| e.to_string())?;
        for place in ["", "sub", "sub/deep", "proc", "proc/self", "sys", "sys/fs", "sys/fs/cgroup"]
            .into_iter()
            .chain(FOLDERS.iter().copied())
        {
            watch.add_watch(&top.join(place), touches).map_err(|e| e.to_string())?;
        }
        Ok(Self { folder, before, watch, listener, initctl })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Whether nobody has been here: nothing changed, nothing opened, nobody connected, nothing written to the fifo.
    pub fn check(&mut self) -> Outcome {
        // Before our own look, which would be noticed.
        match self.watch.read_events() {
            Err(nix::errno::Errno::EAGAIN) => {}
            Err(e) => return Err(format!("cannot read what happened to the canary: {e}")),
            Ok(events) => {
                let told: Vec<String> =
                    events.iter().take(5).map(|e| format!("{:?} {:?}", e.name, e.mask)).collect();
                return Err(format!("somebody has opened the canary: {told:?}"));
            }
        }
        ensure!(self.listener.accept().is_err(), "somebody has connected to the canary's socket");
        let mut bytes = [0; 16];
        ensure_eq!(self.initctl.read(&mut bytes).unwrap_or(0), 0, "bytes written to the canary's initctl");
        let now = Picture::of(self.path(), Detail::Everything)?;
        ensure_eq!(now.difference(&self.before), Vec::<String>::new(), "the canary");
        // Our own look.
        while self.watch.read_events().is_ok() {}
        Ok(())
    }
}

fn fill(top: &Path) -> std::io::Result<()> {
    let path = |name: &str| -> PathBuf { top.join(name) };
    for name in FOLDERS {
        fs::create_dir_all(path(name))?;
    }
    for (name, mode, text) in FILES {
        fs::write(path(name), text)?;
        fs::set_permissions(path(name), fs::Permissions::from_mode(*mode))?;
    }
    chown(path("sub/deep/file"), Some(1000), Some(1001))?;
    symlink("sub/deep", path("link"))?;
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(rustix::fs::CWD, path("initctl"), FileType::Fifo, mode, 0)?;
    let name = OsStr::new("user.berth");
    rustix::fs::setxattr(path("file"), name, b"kept", XattrFlags::empty())?;
    // Version 2 of a file's capabilities (capabilities(7)): cap_net_raw, effective.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(path("suid"), OsStr::new("security.capability"), &capability, XattrFlags::empty())?;
    Ok(())
}
