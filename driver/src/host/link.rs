//! Controllers: spawning one, handing it its plan, and calling it.
//!
//! Does not know what a plan says. Every call has a deadline, but for taking a controller over: whoever does that decides
//! how long to wait.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use berth_schemas::controller::{
    ControllerEvent, ControllerStatus, Error as Refusal, GetStatusOut, LaunchIn, LaunchOut, LaunchPlan,
    ListDevicesOut, Method, PlanIdMap, PrepareNetworkIn, PrepareNetworkOut, StepFailure, SubscribeIn,
    SubscribeOut,
};
use berth_schemas::wire::{CallKind, call_bytes, parse_reply};
use rustix::fs::OFlags;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::process::Command;

use crate::host::confine::as_controller;
use crate::host::descriptors;
use crate::host::process::Process;
use crate::host::program::Program;
use crate::wire::{Channel, ChannelError};

/// How long an ordinary call may take.
pub const CALL: Duration = Duration::from_secs(5);

/// When a socket is tried again on which too many wait already.
const AGAIN: Duration = Duration::from_secs(1);

/// How long the set-up of a container may take.
pub const LAUNCH: Duration = Duration::from_secs(30);

/// Why a call to a controller has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody is there.
    #[error("cannot reach the controller: {0}")]
    Unreachable(io::Error),
    /// It did not answer in time.
    #[error("the controller did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// It hung up.
    #[error("the controller ended")]
    Gone,
    /// It refused.
    #[error("{}", refusal_text(.0))]
    Refused(Refusal),
    /// It said something that is not in the interface.
    #[error("the controller answered '{0}'")]
    Odd(String),
}

fn refusal_text(refusal: &Refusal) -> String {
    match refusal {
        Refusal::LaunchFailed { failure } | Refusal::DeviceFailed { failure } => {
            format!("step '{}' failed", failure.step)
        }
        Refusal::InvalidState { message }
        | Refusal::NoSuchConsole { message }
        | Refusal::NoSuchDevice { message }
        | Refusal::DeviceExists { message }
        | Refusal::NotAnswering { message } => message.clone(),
    }
}

impl From<ChannelError> for CallError {
    fn from(e: ChannelError) -> Self {
        match e {
            ChannelError::Io(_) => Self::Gone,
            other => Self::Odd(other.to_string()),
        }
    }
}

/// A controller that has just been born and waits for its plan.
#[derive(Debug)]
pub struct Newborn {
    /// The process.
    pub process: Process,
    channel: Channel,
}

/// Runs a controller. It ends by itself if nobody ever gives it a plan.
pub fn spawn(program: &Program, name: &str, log: &Path) -> io::Result<Newborn> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let log = open_log(log)?;
    let mut command = Command::new(program.to_run()?);
    command
        .arg0(program.path())
        .arg(name)
        .env_clear()
        .current_dir("/")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(log);
    let runtime = tokio::runtime::Handle::current();
    let mut child = as_controller(|| {
        let _entered = runtime.enter();
        command.spawn()
    })?;
    let pid = child.id().map(u32::cast_signed).ok_or(io::ErrorKind::NotFound)?;
    let process = Process::child(pid)?;
    // Before it has its plan: init is born with the controller's.
    descriptors::give_back(pid)?;
    // Somebody has to reap it. How it ended is told by its events, not by its status.
    tokio::spawn(async move { drop(child.wait().await) });
    Ok(Newborn { process, channel: Channel::new(UnixStream::from_std(ours)?) })
}

fn open_log(path: &Path) -> io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
}

/// Why there is no container.
#[derive(Debug)]
pub enum LaunchError {
    /// A step of the set-up failed.
    Step(StepFailure),
    /// The controller did not do its part.
    Call(CallError),
}

impl From<CallError> for LaunchError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(Refusal::LaunchFailed { failure }) => Self::Step(failure),
            other => Self::Call(other),
        }
    }
}

impl Newborn {
    /// Has the container's network namespace made; answers it.
    pub async fn prepare_network(&mut self, ids: Option<PlanIdMap>) -> Result<OwnedFd, LaunchError> {
        let wanted = PrepareNetworkIn { id_map: ids };
        let bytes = call_bytes(Method::PrepareNetwork.name(), &wanted, CallKind::Once);
        match exchange::<PrepareNetworkOut>(&mut self.channel, &bytes, &[], CALL).await {
            Ok((out, descriptors)) => usize::try_from(out.file_descriptor)
                .ok()
                .and_then(|at| descriptors.into_iter().nth(at))
                .ok_or_else(|| LaunchError::Call(CallError::Odd("no descriptor came with it".into()))),
            Err(e) => Err(e.into()),
        }
    }

    /// Hands over the plan and waits for the container.
    pub async fn launch(
        &mut self,
        plan: LaunchPlan,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<ControllerStatus, LaunchError> {
        let bytes = call_bytes(Method::Launch.name(), &LaunchIn { plan }, CallKind::Once);
        match exchange::<LaunchOut>(&mut self.channel, &bytes, descriptors, LAUNCH).await {
            Ok((out, _)) => Ok(out.status),
            Err(e) => Err(e.into()),
        }
    }

    /// Asks for events, after a launch: for all of them, since init may have said or done something before this is heard.
    pub async fn subscribe(&mut self) -> Result<(), CallError> {
        subscribe(&mut self.channel, Some(0)).await
    }

    /// The process, and its connection as a stream of events.
    pub fn grown_up(self) -> (Process, Events) {
        (self.process, Events { channel: self.channel, between: None })
    }
}

async fn subscribe(channel: &mut Channel, since: Option<i64>) -> Result<(), CallError> {
    let asked = tokio::time::timeout(CALL, ask_for_events(channel, since));
    asked.await.unwrap_or(Err(CallError::TimedOut(CALL)))
}

async fn ask_for_events(channel: &mut Channel, since: Option<i64>) -> Result<(), CallError> {
    let bytes = call_bytes(Method::Subscribe.name(), &SubscribeIn { since }, CallKind::More);
    channel.send(&bytes, &[]).await.map_err(|_| CallError::Gone)
}

/// A controller that was taken over.
#[derive(Debug)]
pub struct Adopted {
    /// How its container is.
    pub status: ControllerStatus,
    /// What happened, and what will.
    pub events: Events,
    /// What its container has, if that was asked.
    pub devices: Option<ListDevicesOut>,
}

/// The events of one controller as they come.
#[derive(Debug)]
pub struct Events {
    channel: Channel,
    /// The network namespace by way of which the controller is giving interfaces back: nobody else holds it.
    between: Option<OwnedFd>,
}

impl Events {
    /// Those after `since` that are known to be there already, up to number `last`.
    pub async fn up_to(&mut self, since: i64, last: i64) -> Vec<ControllerEvent> {
        let mut events = Vec::new();
        let mut reached = since;
        while reached < last {
            let Ok(Some(event)) = tokio::time::timeout(CALL, self.next()).await else { break };
            reached = event.sequence;
            events.push(event);
        }
        events
    }

    /// The next event; `None` when there are no more.
    pub async fn next(&mut self) -> Option<ControllerEvent> {
        loop {
            let message = self.channel.next().await.ok()??;
            let reply = parse_reply(&message.bytes).ok()?;
            if reply.error.is_some() {
                return None;
            }
            let out: SubscribeOut = match serde_json::from_value(reply.parameters?) {
                Ok(out) => out,
                Err(e) => {
                    // A controller that is newer than we are may tell what we do not know: no reason to give it up.
                    tracing::debug!("an event of a controller is not understood: {e}");
                    continue;
                }
            };
            if out.event.is_some() {
                return out.event;
            }
            self.between = message.descriptors.into_iter().next();
        }
    }

    /// The network namespace in which interfaces may be on their way back, of a controller that has not come to its end.
    pub fn between(self) -> Option<OwnedFd> {
        self.between
    }
}

/// Where controllers listen: sockets in one folder, reached through its descriptor so that paths may be long.
#[derive(Debug)]
pub struct Sockets {
    folder: OwnedFd,
}

impl Sockets {
    /// Opens the folder.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        Ok(Self { folder: rustix::fs::open(folder, flags, rustix::fs::Mode::empty())? })
    }

    fn path(&self, file: &str) -> std::path::PathBuf {
        use std::os::fd::AsRawFd;
        format!("/proc/self/fd/{}/{file}", self.folder.as_raw_fd()).into()
    }

    /// Makes a listening socket. One that is there is of a dead run.
    pub fn listen(&self, file: &str) -> io::Result<OwnedFd> {
        self.remove(file)?;
        Ok(std::os::unix::net::UnixListener::bind(self.path(file))?.into())
    }

    /// Removes a socket, if it is there.
    pub fn remove(&self, file: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.folder, file, rustix::fs::AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    async fn connect(&self, file: &str) -> Result<Channel, CallError> {
        match tokio::time::timeout(CALL, UnixStream::connect(self.path(file))).await {
            Ok(Ok(stream)) => Ok(Channel::new(stream)),
            Ok(Err(e)) => Err(CallError::Unreachable(e)),
            Err(_) => Err(CallError::TimedOut(CALL)),
        }
    }

    /// One call on a connection of its own.
    pub async fn call<R: DeserializeOwned>(
        &self,
        file: &str,
        method: Method,
        parameters: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(R, Vec<OwnedFd>), CallError> {
        self.call_within(CALL, file, method, parameters, descriptors).await
    }

    /// The same for a call that may take longer.
    pub async fn call_within<R: DeserializeOwned>(
        &self,
        deadline: Duration,
        file: &str,
        method: Method,
        parameters: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(R, Vec<OwnedFd>), CallError> {
        let mut channel = self.connect(file).await?;
        let bytes = call_bytes(method.name(), parameters, CallKind::Once);
        exchange(&mut channel, &bytes, descriptors, deadline).await
    }

    /// Asks for the status and for the events after `since`, to take over a controller that lives; with `devices`, also for
    /// what its container has. Has no deadline: one that stands still may go on at any time.
    pub async fn adopt(&self, file: &str, since: i64, devices: bool) -> Result<Adopted, CallError> {
        let stream = loop {
            match UnixStream::connect(self.path(file)).await {
                Ok(stream) => break stream,
                // All who have called it meanwhile are waiting there.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(AGAIN).await,
                Err(e) => return Err(CallError::Unreachable(e)),
            }
        };
        let mut channel = Channel::new(stream);
        let nothing = serde_json::json!({});
        let bytes = call_bytes(Method::GetStatus.name(), &nothing, CallKind::Once);
        let (out, _) = answered::<GetStatusOut>(&mut channel, &bytes, &[]).await?;
        let devices = match devices {
            true => {
                let bytes = call_bytes(Method::ListDevices.name(), &nothing, CallKind::Once);
                Some(answered::<ListDevicesOut>(&mut channel, &bytes, &[]).await?.0)
            }
            false => None,
        };
        ask_for_events(&mut channel, Some(since)).await?;
        Ok(Adopted { status: out.status, events: Events { channel, between: None }, devices })
    }
}

async fn exchange<R: DeserializeOwned>(
    channel: &mut Channel,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    deadline: Duration,
) -> Result<(R, Vec<OwnedFd>), CallError> {
    let both = answered(channel, bytes, descriptors);
    tokio::time::timeout(deadline, both).await.unwrap_or(Err(CallError::TimedOut(deadline)))
}

async fn answered<R: DeserializeOwned>(
    channel: &mut Channel,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<(R, Vec<OwnedFd>), CallError> {
    channel.send(bytes, descriptors).await.map_err(|_| CallError::Gone)?;
    let message = channel.next().await?.ok_or(CallError::Gone)?;
    let reply = parse_reply(&message.bytes).map_err(|e| CallError::Odd(e.to_string()))?;
    if let Some(name) = reply.error {
        let refusal = Refusal::from_reply(&name, reply.parameters);
        return Err(refusal.map_or_else(|| CallError::Odd(name.to_string()), CallError::Refused));
    }
    let value = reply.parameters.unwrap_or_else(|| serde_json::json!({}));
    let out = serde_json::from_value(value).map_err(|e| CallError::Odd(e.to_string()))?;
    Ok((out, message.descriptors))
}

/// Borrows many descriptors at once.
pub fn borrow(descriptors: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    descriptors.iter().map(AsFd::as_fd).collect()
}

#[cfg(test)]
mod test {
    use berth_schemas::controller::ControllerEventKind;
    use serde_json::{Value, json};

    use super::*;

    #[tokio::test]
    async fn what_a_later_controller_tells_is_passed_over() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let mut controller = Channel::new(theirs);
        let event = |sequence: i64, kind: &str| -> Value {
            json!({"event": {"sequence": sequence, "kind": kind, "residue": []}, "sequence": sequence})
        };
        let replies: [Value; 3] = [json!({"sequence": 1}), event(2, "danced"), event(3, "ready")];
        for reply in replies {
            let bytes = berth_schemas::wire::reply_bytes(&reply, true);
            controller.send(&bytes, &[]).await.expect("sent");
        }
        let mut events = Events { channel: Channel::new(ours), between: None };
        let event = events.next().await.expect("an event");
        assert_eq!((event.sequence, event.kind), (3, ControllerEventKind::Ready));
        drop(controller);
        assert!(events.next().await.is_none());
    }
}
