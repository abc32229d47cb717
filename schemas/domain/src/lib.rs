//! Domain XML: text to model, model to text, and what is wrong with it, with line and column.
//!
//! [`parse`] reads a document, gives it libvirt's defaults, and checks it; [`Domain::to_xml`] writes it in libvirt's
//! form. What Berth does not know is kept, written back, and reported once. Everything here is pure: the crate does
//! not know files, the host beyond [`Host`], or whether a domain is running.
//!
//! ```
//! let host = berth_domain::Host { arch: "x86_64".into(), emulator: "/usr/libexec/berth-controller".into() };
//! let text = "<domain type='lxc'><name>web</name><memory unit='MiB'>64</memory>
//!   <os><type>exe</type><init>/sbin/init</init></os>
//!   <devices><filesystem type='mount'><source dir='/srv/web'/><target dir='/'/></filesystem></devices></domain>";
//! let parsed = berth_domain::parse(text, &host).expect("a good document");
//! assert_eq!(parsed.domain.memory_kib, 65536);
//! assert!(parsed.warnings.is_empty());
//! ```

mod credentials;
mod devices;
mod format;
mod forwards;
mod hotplug;
mod limits;
mod metadata;
pub mod model;
mod parse;
mod pressure;
mod settings;
mod start;
pub mod tree;
mod units;
mod validate;
mod walk;
mod write;

pub mod apparmor;
pub mod network;
pub mod seccomp;
pub mod syscalls;

use std::fmt;

use berth_schemas::words::{escaped, shown};

pub use credentials::{Credential, CredentialSource};
pub use devices::name_in_dev;
pub use hotplug::{Device, DeviceError, ParsedDevice, parse_device};
pub use limits::{LimitSettings, Rlimit, RlimitName};
pub use model::Domain;
pub use parse::interface::{MAX_RATE, canonical_mac};
pub use pressure::PressureSettings;
pub use settings::{IdMapMode, SETTINGS_NAMESPACE};
pub use units::MAX_KIB;

/// What the defaults of a document need to know of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Architecture as uname(2) has it.
    pub arch: String,
    /// Absolute path of the controller; it replaces whatever `<emulator>` says.
    pub emulator: String,
}

/// Something to say about one place of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Line from 1; 0 if it came from no document.
    pub line: u32,
    /// Column from 1, in characters.
    pub column: u32,
    /// Path of the element, such as `domain/devices/interface/source`; empty where there is none.
    pub element: String,
    /// What is wrong.
    pub message: String,
    /// What may help.
    pub hint: Option<String>,
}

impl Diagnostic {
    pub(crate) fn new(pos: tree::Pos, element: impl Into<String>, message: impl Into<String>) -> Self {
        let (line, column) = (pos.line, pos.column);
        Self {
            line,
            column,
            element: shown(&element.into()).into_owned(),
            message: shown(&message.into()).into_owned(),
            hint: None,
        }
    }
}

/// A text with its control characters escaped.
pub fn printable(text: String) -> String {
    escaped(&text).into_owned()
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}, column {}: ", self.line, self.column)?;
        }
        if let Some(name) = self.element.rsplit('/').next().filter(|n| !n.is_empty()) {
            write!(f, "<{name}>: ")?;
        }
        f.write_str(&self.message)
    }
}

/// A document that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// What it says.
    pub domain: Domain,
    /// What in it is unknown, in document order.
    pub warnings: Vec<Diagnostic>,
    /// Whether the document says how many CPUs; the model has one where it does not.
    pub says_vcpus: bool,
    /// Which of the interfaces have a hardware address that was made up now.
    pub made_up_macs: Vec<usize>,
}

impl Parsed {
    /// Whether the document, but for its uuid, says all that another reading of it would make up again.
    pub fn is_whole(&self) -> bool {
        self.says_vcpus && self.made_up_macs.is_empty()
    }
}

/// A document that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// What is wrong with it, in document order, but a type that is not 'lxc' first; at least one and at most twenty.
    pub diagnostics: Vec<Diagnostic>,
}

impl ParseError {
    pub(crate) fn one(diagnostic: Diagnostic) -> Self {
        Self { diagnostics: vec![diagnostic] }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.diagnostics.first() {
            Some(first) => first.fmt(f),
            None => f.write_str("the document was refused"),
        }
    }
}

impl std::error::Error for ParseError {}

/// What a running domain has and its definition has not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// The domain's id.
    pub id: u32,
    /// The consoles, in the definition's order.
    pub consoles: Vec<LiveConsole>,
    /// The ids that were chosen for it, where the definition has no `<idmap>`.
    pub ids: Option<LiveIds>,
    /// The AppArmor profile that it runs under; none where the host has no AppArmor.
    pub label: Option<String>,
    /// The interfaces, in any order.
    pub interfaces: Vec<LiveInterface>,
}

/// An interface of a running domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveInterface {
    /// Its hardware address, which tells whose this is.
    pub mac: String,
    /// Name of the host end, if there is one.
    pub target: Option<String>,
    /// Name that it was given inside.
    pub inside: String,
    /// The bridge that a network has.
    pub bridge: Option<String>,
    /// The limit into the container that its network gives it, where its element has none of that direction.
    pub inbound: Option<model::Rate>,
    /// The same out of the container.
    pub outbound: Option<model::Rate>,
}

/// A range of ids on the host, of users and of groups, for the ids from 0 on inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveIds {
    /// The first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// A console of a running domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveConsole {
    /// Its PTY on the host.
    pub path: String,
    /// Its alias.
    pub alias: String,
}

/// Reads one document, fills in the defaults and checks it.
pub fn parse(xml: &str, host: &Host) -> Result<Parsed, ParseError> {
    parse::document(xml, host)
}
