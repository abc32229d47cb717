//! What is asked of a running domain's controller on behalf of a client: to end, to send a signal, and to show a console.
//!
//! Does not know how a client asks.

use std::os::fd::OwnedFd;

use berth_schemas::controller;
use berth_schemas::domain::{ConsoleMode, ShutdownMode, State};

use crate::container::task::Request;
use crate::engine::Engine;
use crate::engine::registry::Reference;
use crate::engine::snapshot::Snapshot;
use crate::failure::Failure;
use crate::host::link::CallError;
use crate::paths::Layout;

/// The last real-time signal of Linux.
const LAST_SIGNAL: i64 = 64;

/// How libvirt begins the message about what a driver cannot do with an argument.
pub const UNSUPPORTED_ARGUMENT: &str = "argument unsupported";

/// A console that was opened.
#[derive(Debug)]
pub struct Console {
    /// The master of a new PTY.
    pub pty: OwnedFd,
    /// Which console it shows.
    pub device: String,
    /// Whether this viewer may write.
    pub writer: bool,
}

impl Engine {
    /// Asks init to end, or to restart; how it was asked. Without modes in the way that this init understands.
    pub async fn shut_down(
        &self,
        reference: &Reference,
        restart: bool,
        modes: &[ShutdownMode],
    ) -> Result<String, Failure> {
        let snapshot = self.registry.find(reference)?.snapshot();
        self.running(&snapshot)?;
        let modes: Vec<String> = modes.iter().map(|m| m.as_str().to_owned()).collect();
        let parameters =
            controller::ShutdownIn { restart, modes: if modes.is_empty() { None } else { Some(modes) } };
        // Before init is asked: it may be gone before the answer is here.
        self.ask(reference, Request::NoteShutdown { restart }).await?;
        let socket = Layout::socket_name(snapshot.uuid);
        let answer = self.sockets.call(&socket, controller::Method::Shutdown, &parameters, &[]).await;
        let (out, _): (controller::ShutdownOut, _) = answer.map_err(|e| from_controller(&snapshot, e))?;
        Ok(out.asked)
    }

    /// Sends a signal to a process of a running domain, both by their numbers inside. Only init can be reached.
    pub async fn send_signal(&self, reference: &Reference, pid: i64, signal: i64) -> Result<(), Failure> {
        let invalid = |parameter, message: String| Failure::InvalidValue { parameter, message };
        if !(0..=LAST_SIGNAL).contains(&signal) {
            return Err(invalid("signal", format!("signum value {signal} is out of range")));
        }
        let snapshot = self.registry.find(reference)?.snapshot();
        self.running(&snapshot)?;
        if pid != 1 {
            return Err(invalid(
                "pid",
                format!("{UNSUPPORTED_ARGUMENT}: Only the init process may be killed"),
            ));
        }
        self.ask(reference, Request::NoteSignal).await?;
        let socket = Layout::socket_name(snapshot.uuid);
        let parameters = controller::SendSignalIn { signal };
        let answer = self.sockets.call(&socket, controller::Method::SendSignal, &parameters, &[]).await;
        let done: Result<(controller::SendSignalOut, _), _> = answer;
        done.map(drop).map_err(|e| from_controller(&snapshot, e))
    }

    /// A new PTY that shows a console; the first one if none is named.
    pub async fn open_console(
        &self,
        snapshot: &Snapshot,
        device: Option<&str>,
        mode: ConsoleMode,
    ) -> Result<Console, Failure> {
        self.running(snapshot)?;
        let (_, device) = self.console(snapshot, device)?;
        let parameters = controller::OpenConsoleIn { device: Some(device), mode: mode.as_str().to_owned() };
        let socket = Layout::socket_name(snapshot.uuid);
        let answer = self.sockets.call(&socket, controller::Method::OpenConsole, &parameters, &[]).await;
        let (out, descriptors): (controller::OpenConsoleOut, _) =
            answer.map_err(|e| from_controller(snapshot, e))?;
        let index = usize::try_from(out.pty_file_descriptor).unwrap_or(usize::MAX);
        let Some(pty) = descriptors.into_iter().nth(index) else {
            let message = format!("domain '{}': the controller sent no descriptor", snapshot.name);
            return Err(Failure::Failed(message));
        };
        Ok(Console { pty, device: out.device, writer: out.writer })
    }
}

/// What a failed call to a controller means to whoever asked for it.
pub fn from_controller(snapshot: &Snapshot, error: CallError) -> Failure {
    use berth_schemas::controller::Error as Refusal;
    let name = &snapshot.name;
    match error {
        CallError::Refused(Refusal::NoSuchConsole { message }) => Failure::NoSuchConsole(message),
        CallError::Refused(Refusal::NotAnswering { message }) => Failure::NotAnswering(message),
        CallError::Refused(Refusal::InvalidState { message }) => {
            Failure::InvalidState { message, state: State::Running }
        }
        CallError::TimedOut(_) => {
            let process = snapshot.run.as_ref().map_or(0, |run| run.id);
            Failure::TimedOut(format!("domain '{name}': {error} (process {process})"))
        }
        CallError::Unreachable(_) | CallError::Gone | CallError::Odd(_) | CallError::Refused(_) => {
            Failure::Failed(format!("domain '{name}': {error}"))
        }
    }
}
