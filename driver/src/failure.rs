//! Why a request was not fulfilled, in the words that users read.
//!
//! What a caller has chosen in them is shown no further than somebody reads it. Does not know how a failure travels; that
//! is for the doors in `api`.

use berth_schemas::domain::State;
use berth_schemas::words::shown;

/// A request that was not fulfilled.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Failure {
    /// Nobody of that name, uuid or id.
    #[error("failed to get domain '{}'", shown(.0))]
    NoSuchDomain(String),
    /// Nobody at all.
    #[error("there are no domains")]
    Nobody,
    /// The name or the uuid is taken.
    #[error("{}", shown(.0))]
    DomainExists(String),
    /// Not now.
    #[error("{}", shown(message))]
    InvalidState {
        /// Why not.
        message: String,
        /// The state it is in.
        state: State,
    },
    /// The document is bad.
    #[error("{}", first(.0))]
    InvalidDocument(Vec<berth_domain::Diagnostic>),
    /// The document is good but this version cannot run it.
    #[error("{}", shown(message))]
    Unsupported {
        /// What cannot be run.
        message: String,
        /// With places in the document.
        diagnostics: Vec<berth_domain::Diagnostic>,
    },
    /// A step of the start failed.
    #[error("{}", shown(&.0.message))]
    StartFailed(Box<StartFailure>),
    /// No console of that name.
    #[error("{}", shown(.0))]
    NoSuchConsole(String),
    /// Nothing there.
    #[error("metadata not found: Requested metadata element is not present")]
    NoSuchMetadata,
    /// No such device.
    #[error("{}", shown(.0))]
    NoSuchDevice(String),
    /// There is such a device.
    #[error("{}", shown(.0))]
    DeviceExists(String),
    /// Init cannot be asked.
    #[error("{}", shown(.0))]
    NotAnswering(String),
    /// The controller did not answer in time.
    #[error("{}", shown(.0))]
    TimedOut(String),
    /// A parameter that this request needs is not there.
    #[error("parameter '{0}' is missing")]
    Missing(&'static str),
    /// A parameter has a value that the interface allows and the domain cannot have.
    #[error("{}", shown(message))]
    InvalidValue {
        /// Its name in the varlink interface.
        parameter: &'static str,
        /// What is wrong, with the name that virsh has for it.
        message: String,
    },
    /// Anything else that went wrong.
    #[error("{}", shown(.0))]
    Failed(String),
}

/// What failed at a start.
#[derive(Debug, Clone, PartialEq)]
pub struct StartFailure {
    /// One sentence.
    pub message: String,
    /// Name of the step.
    pub step: String,
    /// The path it was about.
    pub path: Option<String>,
    /// The kernel's reason.
    pub errno: Option<i64>,
    /// What to do.
    pub hint: Option<String>,
}

fn first(diagnostics: &[berth_domain::Diagnostic]) -> String {
    match diagnostics {
        [] => "the document was refused".into(),
        [one] => one.to_string(),
        [one, rest @ ..] => format!("{one} (and {} more)", rest.len()),
    }
}
