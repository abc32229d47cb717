//! What is printed when something fails.
//!
//! A [`Failure`] is ready to print; it does not know what went wrong. [`CallError`] does: it is what a varlink call
//! comes back with.

use std::borrow::Cow;
use std::fmt;

use berth_schemas::words::{is_obeyed, shortened};
use berth_schemas::{domain, network, node};

/// Error lines as virsh prints them, then what we add: an excerpt of a document, and hints.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Failure {
    lines: Vec<String>,
    excerpt: String,
    hints: Vec<String>,
}

impl Failure {
    /// One line.
    pub fn line(line: impl Into<String>) -> Self {
        Self { lines: vec![line.into()], ..Self::default() }
    }

    /// Several lines.
    pub fn lines(lines: Vec<String>) -> Self {
        Self { lines, ..Self::default() }
    }

    /// What did not work, then why.
    pub fn because(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::lines(vec![what.into(), why.into()])
    }

    /// Nothing to say, or said already.
    pub fn silent() -> Self {
        Self::default()
    }

    /// The same with a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The same with rendered remarks about a document.
    pub fn excerpt(mut self, excerpt: String) -> Self {
        self.excerpt = excerpt;
        self
    }

    /// The error lines without their prefix.
    pub fn messages(&self) -> &[String] {
        &self.lines
    }

    /// The same where it is about a connection that cannot be made.
    pub fn lost(&self) -> CallError {
        CallError::lost(self.lines.last().map_or("not connected", String::as_str))
    }

    /// The text for standard error.
    pub fn render(&self, colour: bool) -> String {
        let (red, cyan, off) = if colour { ("\x1b[1;31m", "\x1b[36m", "\x1b[0m") } else { ("", "", "") };
        let mut text = String::new();
        for line in &self.lines {
            text.push_str(&format!("{red}error:{off} {}\n", shortened(&printable(line))));
        }
        text.push_str(&self.excerpt);
        for hint in &self.hints {
            text.push_str(&format!("{cyan}hint:{off} {}\n", shortened(&printable(hint))));
        }
        text
    }
}

/// What a daemon says, who may be another host's, without what a terminal would obey.
pub fn printable(text: &str) -> Cow<'_, str> {
    let obeyed = |c: char| is_obeyed(c) && !matches!(c, '\n' | '\t');
    if !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    text.chars().flat_map(|c| if obeyed(c) { c.escape_debug().collect() } else { vec![c] }).collect()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// Why a call failed.
#[derive(Debug)]
pub enum CallError {
    /// The daemon says so, in the words of the interface.
    Domain(domain::Error),
    /// The same about a network.
    Network(network::Error),
    /// The caller may not call this method.
    Denied {
        /// Full name of the method.
        method: &'static str,
    },
    /// Any other error, by name.
    Other {
        /// Name and parameters.
        message: String,
    },
    /// The connection is of no use any more.
    Lost {
        /// Why.
        message: String,
    },
}

impl CallError {
    /// The connection broke.
    pub fn lost(error: impl fmt::Display) -> Self {
        Self::Lost { message: error.to_string() }
    }

    /// The message and the hint.
    pub fn message(&self, readonly: bool) -> (String, Option<String>) {
        match self {
            Self::Domain(error) => domain_message(error),
            Self::Network(error) => (network_message(error), None),
            Self::Denied { method } if readonly => {
                (format!("operation forbidden: read only access prevents {}", libvirt_name(method)), None)
            }
            Self::Denied { method } => (
                format!("access denied: {method} is not for this user"),
                Some("changing anything needs root or membership in the group 'berth'".into()),
            ),
            Self::Other { message } | Self::Lost { message } => (message.clone(), None),
        }
    }

    /// The failure: what did not work, and this cause.
    pub fn because(&self, what: impl Into<String>, readonly: bool) -> Failure {
        let (message, hint) = self.message(readonly);
        let what = what.into();
        // virsh says nothing before the cause where it does not know better.
        let failure = if what.is_empty() { Failure::line(message) } else { Failure::because(what, message) };
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// How libvirt begins the message about a domain in the wrong state.
const INVALID: &str = "Requested operation is not valid";

fn domain_message(error: &domain::Error) -> (String, Option<String>) {
    use domain::Error as E;
    match error {
        E::StartFailed { message, hint, .. } => (message.clone(), hint.clone()),
        E::InvalidState { message, .. } if !message.starts_with(INVALID) => {
            (format!("{INVALID}: {message}"), None)
        }
        E::DeviceExists { message } => (format!("{INVALID}: {message}"), None),
        E::InvalidValue { message, .. } if message.starts_with("argument unsupported") => {
            (message.clone(), None)
        }
        E::InvalidValue { message, .. } => (format!("invalid argument: {message}"), None),
        E::NoSuchDevice { message } => (format!("device not found: {message}"), None),
        E::NoSuchDomain { message }
        | E::DomainExists { message }
        | E::InvalidState { message, .. }
        | E::InvalidDocument { message, .. }
        | E::Unsupported { message, .. }
        | E::NoSuchConsole { message }
        | E::NoSuchMetadata { message }
        | E::NotAnswering { message }
        | E::TimedOut { message }
        | E::Failed { message } => (message.clone(), None),
    }
}

/// libvirt begins its messages with the kind of the error.
fn network_message(error: &network::Error) -> String {
    use network::Error as E;
    match error {
        E::NoSuchNetwork { message } => format!("Network not found: {message}"),
        E::InvalidState { message } => format!("{INVALID}: {message}"),
        E::NetworkExists { message } => format!("operation failed: {message}"),
        E::InvalidDocument { message, .. } | E::Unsupported { message, .. } | E::Failed { message } => {
            message.clone()
        }
    }
}

/// What libvirt calls a method, for messages that scripts look for.
fn libvirt_name(method: &str) -> &str {
    use domain::Method as M;
    use network::Method as N;
    match N::from_name(method) {
        Some(N::Define) => return "virNetworkDefineXML",
        Some(N::Undefine) => return "virNetworkUndefine",
        Some(N::Create) => return "virNetworkCreateXML",
        Some(N::Start) => return "virNetworkCreate",
        Some(N::Destroy) => return "virNetworkDestroy",
        Some(N::SetAutostart) => return "virNetworkSetAutostart",
        Some(N::Update) => return "virNetworkUpdate",
        _ => {}
    }
    match node::Method::from_name(method) {
        Some(node::Method::SetMemoryParameters) => return "virNodeSetMemoryParameters",
        Some(node::Method::GetSysinfo) => return "virConnectGetSysinfo",
        _ => {}
    }
    match M::from_name(method) {
        Some(M::Define) => "virDomainDefineXML",
        Some(M::Undefine) => "virDomainUndefineFlags",
        Some(M::Create) => "virDomainCreateXML",
        Some(M::Start) => "virDomainCreate",
        Some(M::Shutdown) => "virDomainShutdown",
        Some(M::Reboot) => "virDomainReboot",
        Some(M::SendProcessSignal) => "virDomainSendProcessSignal",
        Some(M::Destroy) => "virDomainDestroy",
        Some(M::Suspend) => "virDomainSuspend",
        Some(M::Resume) => "virDomainResume",
        Some(M::SetAutostart) => "virDomainSetAutostart",
        Some(M::SetMetadata) => "virDomainSetMetadata",
        Some(M::AttachDevice) => "virDomainAttachDeviceFlags",
        Some(M::DetachDevice) => "virDomainDetachDeviceFlags",
        Some(M::UpdateDevice) => "virDomainUpdateDeviceFlags",
        Some(M::TuneInterface) => "virDomainSetInterfaceParameters",
        Some(M::OpenConsole | M::AttachConsole) => "virDomainOpenConsole",
        _ => method,
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn nothing_is_printed_that_a_terminal_obeys() {
        let failure = Failure::line("no such network 'a\u{1b}\u{202e}b\u{2067}'\n\tat all");
        assert_eq!(failure.render(false), "error: no such network 'a\\u{1b}\\u{202e}b\\u{2067}'\n\tat all\n");
        assert_eq!(printable("שלום"), "שלום");
    }
}
