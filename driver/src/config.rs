//! `berthd.toml`: the settings of the daemon, all of which have defaults.
//!
//! Does not know where the file is or what the settings do.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::api::dbus::Address;
use crate::host::idmap::Range;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Config {
    /// Consoles' logs.
    pub console_log: ConsoleLog,
    /// Members of this group may do everything.
    pub admin_group: String,
    /// How many domains are started at once when the host starts.
    pub autostart_parallel: usize,
    /// Ids of domains without `<idmap>`.
    pub idmap: IdMap,
    /// Where desktop tools find the daemon.
    pub dbus: Dbus,
    /// Who else may have interfaces of networks.
    pub network_access: Vec<NetworkAccess>,
}

/// One row: somebody who may not change anything else may have interfaces of a network in namespaces of their own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NetworkAccess {
    /// Name of the network.
    pub network: String,
    /// Name of the user; not with `group`.
    pub user: Option<String>,
    /// Name of the group whose members are meant; not with `user`.
    pub group: Option<String>,
    /// How many at a time, each user for themselves; not 0.
    pub interfaces: usize,
}

/// Where desktop tools find the daemon.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Dbus {
    /// Which bus: `system`, `none`, or an address. Unset: see [`Address::choose`].
    pub bus: Option<Address>,
}

/// Ids of domains without `<idmap>`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct IdMap {
    /// Whether they get a range of their own.
    pub default: IdMapDefault,
    /// Where ranges are taken from if `/etc/subuid` and `/etc/subgid` give none to the user `berth`.
    #[serde(deserialize_with = "pool")]
    pub pool: Option<Range>,
}

/// What a domain gets whose document says nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdMapDefault {
    /// A range.
    #[default]
    Auto,
    /// The host's ids.
    None,
}

fn pool<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Range>, D::Error> {
    let text = String::deserialize(from)?;
    let wrong = |e| serde::de::Error::custom(format!("pool '{text}': {e}"));
    Range::parse(&text).map(Some).map_err(wrong)
}

/// Consoles' logs.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ConsoleLog {
    /// A log is rotated when it would grow over this many bytes.
    pub max_bytes: u32,
    /// How many rotated logs are kept.
    pub keep: u8,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            console_log: ConsoleLog::default(),
            admin_group: "berth".into(),
            autostart_parallel: 4,
            idmap: IdMap::default(),
            dbus: Dbus::default(),
            network_access: Vec::new(),
        }
    }
}

impl Default for ConsoleLog {
    fn default() -> Self {
        Self { max_bytes: 2 << 20, keep: 3 }
    }
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read '{}': {cause}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// It says something that has no meaning.
    #[error("'{}', line {line}: {message}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

impl Config {
    /// Reads the file. Absent is the defaults, unless somebody asked for this file by name.
    pub fn load(path: &Path, must_exist: bool) -> Result<Self, ConfigError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map_err(|(line, message)| ConfigError::Content {
                path: path.to_owned(),
                line,
                message,
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !must_exist => Ok(Self::default()),
            Err(cause) => Err(ConfigError::Read { path: path.to_owned(), cause }),
        }
    }

    /// Reads the text; else the line, from 1, and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, (usize, String)> {
        let config: Self = toml::from_str(text).map_err(|e| {
            let at = e.span().map_or(0, |s| s.start.min(text.len()));
            (text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1, e.message().to_owned())
        })?;
        if config.autostart_parallel == 0 {
            let line = text.lines().position(|l| l.trim_start().starts_with("autostart-parallel"));
            return Err((line.map_or(1, |l| l + 1), "autostart-parallel must be at least 1".into()));
        }
        let rows = text.lines().enumerate().filter(|(_, l)| l.trim_start().starts_with("[[network-access]]"));
        let lines: Vec<usize> = rows.map(|(index, _)| index + 1).collect();
        for (index, row) in config.network_access.iter().enumerate() {
            let line = lines.get(index).copied().unwrap_or(1);
            if row.user.is_some() == row.group.is_some() {
                return Err((line, "network-access needs one of 'user' and 'group'".into()));
            }
            if row.interfaces == 0 {
                return Err((line, "network-access: interfaces must be at least 1".into()));
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn absent_settings_have_defaults() {
        assert_eq!(Config::parse(""), Ok(Config::default()));
        let config = Config::parse("[console-log]\nkeep = 1\n").expect("good");
        assert_eq!((config.console_log.keep, config.console_log.max_bytes), (1, 2 << 20));
    }

    #[test]
    fn ids_can_be_configured() {
        let config = Config::parse("[idmap]\ndefault = 'none'\npool = '1000000:131072'\n").expect("good");
        assert_eq!(config.idmap.default, IdMapDefault::None);
        assert_eq!(config.idmap.pool, Some(Range { first: 1_000_000, count: 131_072 }));
        let (line, message) = Config::parse("\n[idmap]\npool = '5'\n").expect_err("bad");
        assert!(line == 3 && message.contains("START:COUNT"), "{line} {message}");
        assert!(Config::parse("[idmap]\ndefault = 'some'\n").is_err());
    }

    #[test]
    fn the_bus_can_be_configured() {
        let config = Config::parse("[dbus]\nbus = 'none'\n").expect("good");
        assert_eq!(config.dbus.bus, Some(Address::None));
        let (line, message) = Config::parse("\n[dbus]\nbus = 'yes'\n").expect_err("bad");
        assert!(line == 3 && message.contains("address of a bus"), "{line} {message}");
    }

    #[test]
    fn networks_can_be_opened_to_others() {
        let row = "[[network-access]]\nnetwork = 'lab'\nuser = 'alice'\ninterfaces = 4\n";
        let config = Config::parse(row).expect("good");
        let expected =
            NetworkAccess { network: "lab".into(), user: Some("alice".into()), group: None, interfaces: 4 };
        assert_eq!(config.network_access, [expected]);
        let both = format!("{row}{row}group = 'students'\n");
        let (line, message) = Config::parse(&both).expect_err("both");
        assert!(line == 5 && message.contains("one of"), "{line} {message}");
        let nobody = "[[network-access]]\nnetwork = 'lab'\ninterfaces = 4\n";
        assert_eq!(Config::parse(nobody).expect_err("nobody").0, 1);
        assert!(Config::parse(&row.replace('4', "0")).expect_err("none").1.contains("at least 1"));
        assert!(Config::parse(&row.replace("interfaces = 4", "")).is_err());
    }

    #[test]
    fn unknown_settings_are_errors_with_a_line() {
        let (line, message) = Config::parse("admin-group = 'wheel'\n\nkepp = 1\n").expect_err("unknown");
        assert_eq!(line, 3);
        assert!(message.contains("kepp"), "{message}");
        assert!(Config::parse("autostart-parallel = 0").is_err());
        assert_eq!(Config::parse("x = [").expect_err("broken").0, 1);
    }
}
