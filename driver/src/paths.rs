//! Where everything is: the layout of files and folders, made with the right modes, and the daemon's lock.
//!
//! Does not know what is in any of the files.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags};
use uuid::Uuid;

/// How long a lock may still be held after its owner's end. A daemon that is killed while it makes a process has a copy of
/// its descriptors in that, until it executes its program.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// All paths of one daemon.
#[derive(Debug, Clone)]
pub struct Layout {
    etc: PathBuf,
    run: PathBuf,
    lib: PathBuf,
    log: PathBuf,
    tag: String,
}

/// Why the layout cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A folder or file cannot be made.
    #[error("cannot {operation} '{}': {cause}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// Something else is where a folder of ours must be.
    #[error("'{}' is not a folder of user {uid} (a symbolic link there is not followed)", path.display())]
    Foreign {
        /// The path.
        path: PathBuf,
        /// Who must own it.
        uid: u32,
    },
    /// The lock is taken.
    #[error("another berthd is running here (lock '{}')", .0.display())]
    Locked(PathBuf),
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LayoutError {
    let path = path.to_owned();
    move |cause| LayoutError::Io { operation, path, cause }
}

impl Layout {
    /// The system's own places.
    pub fn system() -> Self {
        Self::under(Path::new("/"), String::new())
    }

    /// The same places under a folder. Its control groups carry a name derived from the folder.
    pub fn rooted(root: &Path) -> io::Result<Self> {
        let root = std::path::absolute(root)?;
        if !root.exists() {
            DirBuilder::new().recursive(true).mode(0o755).create(&root)?;
            // Like the folders in it; the umask of the daemon would close it to dnsmasq, which runs as another user.
            std::fs::set_permissions(&root, Permissions::from_mode(0o755))?;
        }
        let root = root.canonicalize()?;
        let tag = format!("-{:08x}", fnv1a(root.as_os_str().as_encoded_bytes()));
        Ok(Self::under(&root, tag))
    }

    fn under(root: &Path, tag: String) -> Self {
        Self {
            etc: root.join("etc/berth"),
            run: root.join("run/berth"),
            lib: root.join("var/lib/berth"),
            log: root.join("var/log/berth"),
            tag,
        }
    }

    /// What is behind `.berth` in the names of control groups: nothing, or `-` and eight hexadecimal digits.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.etc.join("berthd.toml")
    }

    /// Folder of the definitions.
    pub fn domains(&self) -> PathBuf {
        self.etc.join("domains")
    }

    /// Folder of the links to definitions that start with the host.
    pub fn autostart(&self) -> PathBuf {
        self.etc.join("autostart")
    }

    /// Folder of the networks' definitions.
    pub fn networks(&self) -> PathBuf {
        self.etc.join("networks")
    }

    /// Folder of the links to networks that start with the host.
    pub fn network_autostart(&self) -> PathBuf {
        self.networks().join("autostart")
    }

    /// Folder of what is known of networks that run.
    pub fn network_state(&self) -> PathBuf {
        self.run.join("networks")
    }

    /// Folder of what is known of interfaces of networks that are no domain's.
    pub fn lent(&self) -> PathBuf {
        self.run.join("lent")
    }

    /// Folder of what is known of interfaces of the host that domains have.
    pub fn borrowed(&self) -> PathBuf {
        self.run.join("borrowed")
    }

    /// Folder of what dnsmasq reads as a user who is nobody.
    pub fn network_hosts(&self) -> PathBuf {
        self.run.join("dnsmasq")
    }

    /// Folder of what guests of networks were given.
    pub fn leases(&self) -> PathBuf {
        self.lib.join("dnsmasq")
    }

    /// Is there when the default network was made once.
    pub fn default_network_mark(&self) -> PathBuf {
        self.lib.join("default-network")
    }

    /// Which ranges of ids domains have.
    pub fn id_ranges(&self) -> PathBuf {
        self.lib.join("idmap.json")
    }

    /// `/run/berth`.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// Folder of the controllers' sockets.
    pub fn controllers(&self) -> PathBuf {
        self.run.join("controllers")
    }

    /// File name of a controller's socket in [`Self::controllers`].
    pub fn socket_name(uuid: Uuid) -> String {
        format!("{uuid}.sock")
    }

    /// Folder of the status and exit records.
    pub fn state(&self) -> PathBuf {
        self.run.join("state")
    }

    /// What is known of a domain that runs or ran.
    pub fn record(&self, uuid: Uuid) -> PathBuf {
        self.state().join(format!("{uuid}.json"))
    }

    /// Where a controller leaves how it ended.
    pub fn exit_record(&self, uuid: Uuid) -> PathBuf {
        self.state().join(format!("{uuid}.exit"))
    }

    /// What a controller writes on its standard error.
    pub fn controller_log(&self, name: &str) -> PathBuf {
        self.log.join(format!("{name}.log"))
    }

    /// What a console printed. The first console has the plain name.
    pub fn console_log(&self, name: &str, console: usize) -> PathBuf {
        match console {
            0 => self.log.join(format!("{name}.console.log")),
            n => self.log.join(format!("{name}.console{n}.log")),
        }
    }

    /// Makes what is missing and takes the lock, which is held as long as the answer lives.
    pub fn prepare(&self) -> Result<File, LayoutError> {
        for (path, mode) in [
            (&self.etc, 0o755),
            (&self.domains(), 0o700),
            (&self.autostart(), 0o700),
            (&self.networks(), 0o700),
            (&self.network_autostart(), 0o700),
            (&self.run, 0o755),
            (&self.network_state(), 0o700),
            (&self.lent(), 0o700),
            (&self.borrowed(), 0o700),
            (&self.network_hosts(), 0o755),
            (&self.controllers(), 0o700),
            (&self.state(), 0o700),
            (&self.lib, 0o700),
            (&self.leases(), 0o700),
            (&self.log, 0o700),
        ] {
            make_folder(path, mode)?;
        }
        self.lock()
    }

    fn lock(&self) -> Result<File, LayoutError> {
        let path = self.run.join("berthd.lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(io_error("open", &path))?;
        let deadline = Instant::now() + LOCK_PATIENCE;
        loop {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(LayoutError::Locked(path)),
                Err(e) => return Err(io_error("lock", &path)(e.into())),
            }
        }
    }
}

fn make_folder(path: &Path, mode: u32) -> Result<(), LayoutError> {
    if let Some(parent) = path.parent() {
        // Parents such as DIR/etc belong to everybody; the umask of the daemon must not close them.
        for part in parent.ancestors().collect::<Vec<_>>().into_iter().rev() {
            if DirBuilder::new().create(part).is_ok() {
                std::fs::set_permissions(part, Permissions::from_mode(0o755))
                    .map_err(io_error("change the mode of", part))?;
            }
        }
    }
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(io_error("make", path)(e)),
    }
    let meta = path.symlink_metadata().map_err(io_error("look at", path))?;
    let uid = rustix::process::geteuid().as_raw();
    if !meta.is_dir() || meta.uid() != uid {
        return Err(LayoutError::Foreign { path: path.to_owned(), uid });
    }
    if meta.mode() & 0o777 != mode {
        std::fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(io_error("change the mode of", path))?;
    }
    Ok(())
}

/// FNV-1a: a short name for a path, the same in every build.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, b| (hash ^ u32::from(*b)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn folders_have_their_modes_and_the_lock_is_held_once() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let layout = Layout::rooted(&dir.path().join("new/root")).expect("layout");
        let lock = layout.prepare().expect("first");
        let mode = |p: &Path| p.metadata().expect("there").mode() & 0o777;
        assert_eq!(mode(layout.run()), 0o755);
        assert_eq!(mode(&layout.state()), 0o700);
        assert_eq!(mode(&layout.domains()), 0o700);
        assert!(matches!(layout.prepare(), Err(LayoutError::Locked(_))));
        let leaving = std::thread::spawn(move || {
            std::thread::sleep(LOCK_PATIENCE / 4);
            drop(lock);
        });
        layout.prepare().expect("again, when the other has gone");
        leaving.join().expect("gone");
        assert_eq!(layout.tag().len(), 9);
    }

    #[test]
    fn a_link_in_place_of_a_folder_is_refused() {
        let dir = tempfile::tempdir().expect("temporary folder");
        std::fs::create_dir_all(dir.path().join("run/berth")).expect("made");
        std::os::unix::fs::symlink("/tmp", dir.path().join("run/berth/state")).expect("linked");
        let layout = Layout::rooted(dir.path()).expect("layout");
        assert!(matches!(layout.prepare(), Err(LayoutError::Foreign { .. })));
    }
}
