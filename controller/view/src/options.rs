//! What the controller says about the container: words of the form `key=value`, most of which the daemon has written into
//! the plan.
//!
//! Does not know what any of it is for.

use std::time::Duration;

/// How long nobody must have asked before the program ends.
const IDLE: Duration = Duration::from_secs(7);

/// All of it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Options {
    /// User and group that files inside belong to, on the host.
    pub owner: (u32, u32),
    /// When the container started, on CLOCK_BOOTTIME, in nanoseconds.
    pub started: u64,
    /// The domain's group in the v2 tree.
    pub unified: String,
    /// The domain's groups in the v1 hierarchies of these controllers, where there are such.
    pub cpu: Option<String>,
    /// The same.
    pub cpuacct: Option<String>,
    /// The same.
    pub cpuset: Option<String>,
    /// The same.
    pub memory: Option<String>,
    /// The same.
    pub blkio: Option<String>,
    /// The same.
    pub pids: Option<String>,
    /// How long nobody must have asked.
    pub idle: Duration,
}

impl Options {
    /// Reads the words.
    pub fn read(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { idle: IDLE, ..Self::default() };
        for word in words {
            let (key, value) = word.split_once('=').ok_or_else(|| format!("'{word}' is not key=value"))?;
            let number = || value.parse::<u64>().map_err(|_| format!("'{word}' needs a number"));
            let id = || value.parse::<u32>().map_err(|_| format!("'{word}' needs an id"));
            let path = || Some(value.to_owned());
            match key {
                "uid" => options.owner.0 = id()?,
                "gid" => options.owner.1 = id()?,
                "started" => options.started = number()?,
                "idle" => options.idle = Duration::from_millis(number()?),
                "unified" => options.unified = value.to_owned(),
                "cpu" => options.cpu = path(),
                "cpuacct" => options.cpuacct = path(),
                "cpuset" => options.cpuset = path(),
                "memory" => options.memory = path(),
                "blkio" => options.blkio = path(),
                "pids" => options.pids = path(),
                // A daemon that is newer than its programs cannot be: they come with the plan.
                _ => return Err(format!("'{key}' is unknown")),
            }
        }
        if options.unified.is_empty() {
            return Err("it is started by berth-controller".into());
        }
        Ok(options)
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn read(words: &[&str]) -> Result<Options, String> {
        Options::read(words.iter().map(|w| (*w).to_owned()))
    }

    #[test]
    fn words_are_read_or_refused() {
        let options = read(&["uid=7", "gid=8", "started=99", "unified=/x", "memory=/m=1"]).expect("good");
        assert_eq!((options.owner, options.started), ((7, 8), 99));
        assert_eq!((options.unified.as_str(), options.memory.as_deref()), ("/x", Some("/m=1")));
        assert_eq!((options.cpu, options.idle), (None, IDLE));
        assert_eq!(read(&[]), Err("it is started by berth-controller".into()));
        assert_eq!(read(&["uid"]), Err("'uid' is not key=value".into()));
        assert_eq!(read(&["uid=-1"]), Err("'uid=-1' needs an id".into()));
        assert_eq!(read(&["color=red"]), Err("'color' is unknown".into()));
    }
}
