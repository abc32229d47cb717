//! Profiles into the kernel and out of it: `apparmor_parser` compiles and loads, securityfs lists and removes.
//!
//! A well-kept program of the system beats a compiler of our own. This module does not know what profiles say. All
//! functions block; none takes longer than [`DEADLINE`].

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest time for the parser. It needs a tenth of a second, and an emulated processor a few.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// How much of the parser's words is told.
const MOST_SAID: usize = 500;

/// How often the parser is looked at.
const TICK: Duration = Duration::from_millis(2);

/// Why a profile is not loaded, or not removed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No parser.
    #[error("there is no apparmor_parser on this host; install 'apparmor'")]
    NoParser,
    /// The parser does not run.
    #[error("cannot run '{}': {cause}", .path.display())]
    Run {
        /// The parser.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The parser failed.
    #[error("apparmor_parser refuses profile '{name}': {said}")]
    Refused {
        /// The profile.
        name: String,
        /// The parser's words.
        said: String,
    },
    /// The parser hangs.
    #[error("apparmor_parser did not load profile '{name}' within {} s", DEADLINE.as_secs())]
    TooLong {
        /// The profile.
        name: String,
    },
    /// The parser is content, and the kernel has no such profile.
    #[error("profile '{name}' is not in the kernel after loading it")]
    NotThere {
        /// The profile.
        name: String,
    },
    /// The kernel's interface.
    #[error("cannot {operation} '{}': {cause}", .path.display())]
    Kernel {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// A profile in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its name.
    pub name: String,
    /// `enforce`, `complain`, `kill`, `unconfined` or what a later kernel has.
    pub mode: String,
}

/// Where AppArmor is on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    interface: PathBuf,
    parser: Option<PathBuf>,
}

impl Host {
    /// The system's, if its kernel has AppArmor switched on and shows its interface.
    pub fn find() -> Option<Self> {
        // https://docs.kernel.org/admin-guide/LSM/apparmor.html
        let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled").ok()?;
        let interface = PathBuf::from("/sys/kernel/security/apparmor");
        if enabled.trim() != "Y" || !interface.join("profiles").exists() {
            return None;
        }
        let parsers = ["/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"].map(PathBuf::from);
        Some(Self { interface, parser: parsers.into_iter().find(|p| p.is_file()) })
    }

    /// One whose interface and parser are elsewhere: for tests.
    pub fn at(interface: &Path, parser: &Path) -> Self {
        let parser = parser.is_file().then(|| parser.to_owned());
        Self { interface: interface.to_owned(), parser }
    }

    /// The profiles in the kernel.
    pub fn loaded(&self) -> Result<Vec<Loaded>, LoadError> {
        let path = self.interface.join("profiles");
        let text = fs::read_to_string(&path);
        let text = text.map_err(|cause| LoadError::Kernel { operation: "read", path, cause })?;
        Ok(text.lines().filter_map(line).collect())
    }

    /// The mode of a profile, if it is in the kernel.
    pub fn mode_of(&self, name: &str) -> Result<Option<String>, LoadError> {
        Ok(self.loaded()?.into_iter().find(|p| p.name == name).map(|p| p.mode))
    }

    /// Compiles a profile and loads it, in place of one of that name.
    pub fn load(&self, name: &str, text: &str) -> Result<(), LoadError> {
        let parser = self.parser.as_ref().ok_or(LoadError::NoParser)?;
        // Without a cache: each container has a profile of its own name, so nothing would ever be found there.
        let child = Command::new(parser)
            .args(["--replace", "--quiet", "--skip-cache", "--skip-read-cache"])
            .env_clear()
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let child = child.map_err(|cause| LoadError::Run { path: parser.clone(), cause })?;
        feed(child, name, text)?;
        match self.mode_of(name)? {
            Some(_) => Ok(()),
            None => Err(LoadError::NotThere { name: name.to_owned() }),
        }
    }

    /// Removes a profile; one that is not there is removed already. What runs under it would run under none.
    pub fn remove(&self, name: &str) -> Result<(), LoadError> {
        let path = self.interface.join(".remove");
        let written = fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(name.as_bytes()));
        match written {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                Err(LoadError::Kernel { operation: "write to", path, cause })
            }
            _ => Ok(()),
        }
    }
}

/// A line of securityfs: name and mode. Names may have spaces.
fn line(text: &str) -> Option<Loaded> {
    let (name, mode) = text.strip_suffix(')')?.rsplit_once(" (")?;
    Some(Loaded { name: name.to_owned(), mode: mode.to_owned() })
}

/// Gives the parser its input and waits for its end.
fn feed(mut child: Child, name: &str, text: &str) -> Result<(), LoadError> {
    let begin = Instant::now();
    // In threads: a parser that reads or writes nothing more must not hold us.
    let input = child.stdin.take().map(|mut pipe| {
        let text = text.to_owned();
        // That it stopped reading shows in its status.
        std::thread::spawn(move || drop(pipe.write_all(text.as_bytes())))
    });
    let said = child.stderr.take().map(|pipe| {
        std::thread::spawn(move || {
            let mut said = Vec::new();
            drop(pipe.take(64 * 1024).read_to_end(&mut said));
            String::from_utf8_lossy(&said).into_owned()
        })
    });
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begin.elapsed() < DEADLINE => std::thread::sleep(TICK),
            _ => {
                drop(child.kill());
                drop(child.wait());
                return Err(LoadError::TooLong { name: name.to_owned() });
            }
        }
    };
    drop(input.map(std::thread::JoinHandle::join));
    if status.success() {
        return Ok(());
    }
    let said = said.and_then(|s| s.join().ok()).unwrap_or_default();
    // Several lines may belong together: all of them, in one.
    let words: Vec<&str> = said.split_whitespace().collect();
    let words: String = words.join(" ").chars().filter(|c| !c.is_control()).take(MOST_SAID).collect();
    let said = if words.is_empty() { status.to_string() } else { words };
    Err(LoadError::Refused { name: name.to_owned(), said })
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn lines_have_name_and_mode() {
        let of = |name: &str, mode: &str| Some(Loaded { name: name.into(), mode: mode.into() });
        assert_eq!(line("berthd (enforce)"), of("berthd", "enforce"));
        assert_eq!(line("a (b) c (complain)"), of("a (b) c", "complain"));
        assert_eq!(line("nothing"), None);
    }
}
