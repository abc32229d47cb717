//! Peers on a bus that speak D-Bus themselves: one that takes a descriptor, one that sends many calls at once, and a
//! polkit that says what it is told to.
//!
//! They know the wire and nothing of the daemon.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use zbus::export::futures_core::Stream;
use zbus::message::{Flags, Type};
use zbus::{Connection, Message, MessageStream, OwnedVariant};

use crate::patient;

/// polkit's name on the bus.
pub const POLKIT: &str = "org.freedesktop.PolicyKit1";

fn runtime() -> Result<Runtime, String> {
    Builder::new_current_thread().enable_all().build().map_err(|e| format!("cannot make a runtime: {e}"))
}

async fn connect(address: &str) -> Result<Connection, String> {
    let builder = zbus::connection::Builder::address(address);
    builder.build().await.map_err(|e| format!("cannot connect to '{address}': {e}"))
}

/// Opens a console of a domain: the terminal, the name of the console, and whether it may be written to.
pub fn open_console(address: &str, path: &str, mode: &str) -> Result<(OwnedFd, String, bool), String> {
    runtime()?.block_on(async {
        let connection = connect(address).await?;
        let asked = ("", mode);
        let method = "OpenConsole";
        let reply =
            connection.call_method(Some("org.libvirt"), path, Some("io.berth.Domain"), method, &asked);
        let reply = reply.await.map_err(|e| format!("OpenConsole: {e}"))?;
        let body = reply.body();
        let (pty, device, writer): (zbus::OwnedFd, String, bool) =
            body.deserialize().map_err(|e| format!("the answer of OpenConsole: {e}"))?;
        Ok((pty.into(), device, writer))
    })
}

/// A client that stays on the bus until it is dropped.
pub struct Guest {
    runtime: Runtime,
    connection: Connection,
}

impl Guest {
    /// Comes to a bus.
    pub fn connect(address: &str) -> Result<Self, String> {
        let runtime = runtime()?;
        let connection = runtime.block_on(connect(address))?;
        Ok(Self { runtime, connection })
    }

    /// Calls a method that answers nothing of interest; `interface` is without its `org.libvirt.`.
    pub fn call<B: serde::Serialize + zbus::wire::DynamicType>(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
    ) -> Result<(), String> {
        let interface = format!("org.libvirt.{interface}");
        let call =
            self.connection.call_method(Some("org.libvirt"), path, Some(interface.as_str()), method, body);
        self.runtime.block_on(call).map(drop).map_err(|e| format!("{method}: {e}"))
    }

    /// Sends a call that wants no answer, and does not wait.
    pub fn send<B: serde::Serialize + zbus::wire::DynamicType>(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
    ) -> Result<(), String> {
        let interface = format!("org.libvirt.{interface}");
        let message = Message::method_call(path, method).destination("org.libvirt");
        let message = message.interface(interface).with_flags(Flags::NO_REPLY_EXPECTED).build(body);
        let message = message.map_err(|e| e.to_string())?;
        self.runtime.block_on(self.connection.send(&message)).map_err(|e| format!("{method}: {e}"))
    }
}

/// A call with one number: the object, the interface and the method.
pub type Call<'a> = (&'a str, &'a str, &'a str, u32);

/// A client that has sent many calls at once, and stays until it is dropped.
pub struct Burst {
    answers: Receiver<Result<(), String>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Burst {
    /// Sends the same call so many times as a user, without waiting for any answer.
    pub fn send(address: &str, uid: u32, call: Call<'_>, times: usize) -> Result<Self, String> {
        Self::with_flags(address, uid, call, times, Flags::empty())
    }

    /// The same of calls that want no answer, and for which a person may be asked for a password.
    pub fn send_deaf(address: &str, uid: u32, call: Call<'_>, times: usize) -> Result<Self, String> {
        Self::with_flags(address, uid, call, times, Flags::NO_REPLY_EXPECTED | Flags::ALLOW_INTERACTIVE_AUTH)
    }

    fn with_flags(
        address: &str,
        uid: u32,
        (path, interface, method, number): Call<'_>,
        times: usize,
        flags: Flags,
    ) -> Result<Self, String> {
        let build = || {
            let message = Message::method_call(path, method).destination("org.libvirt").interface(interface);
            message.with_flags(flags).build(&number).map_err(|e| e.to_string())
        };
        let messages: Vec<Message> = (0..times).map(|_| build()).collect::<Result<_, _>>()?;
        let ((stop, stopped), (ready, is_ready)) = (oneshot::channel(), channel());
        let ((told, answers), address) = (channel(), address.to_owned());
        let thread = std::thread::spawn(move || {
            // This thread alone.
            let begin = rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(uid));
            let run = begin.map_err(|e| e.to_string()).and_then(|()| runtime());
            let runtime = match run {
                Ok(runtime) => runtime,
                Err(e) => return drop(ready.send(Err(e))),
            };
            runtime.block_on(async {
                let connection = match connect(&address).await {
                    Ok(connection) => connection,
                    Err(e) => return drop(ready.send(Err(e))),
                };
                let answers = async {
                    let mut incoming = MessageStream::from(&connection);
                    while let Some(Ok(message)) = next(&mut incoming).await {
                        let answer = match message.message_type() {
                            Type::MethodReturn => Ok(()),
                            Type::Error => Err(message.to_string()),
                            _ => continue,
                        };
                        let _ = told.send(answer);
                    }
                };
                let calls = async {
                    for message in &messages {
                        if let Err(e) = connection.send(message).await {
                            return drop(ready.send(Err(e.to_string())));
                        }
                    }
                    drop(ready.send(Ok(())));
                    std::future::pending().await
                };
                tokio::select! {
                    () = answers => {}
                    () = calls => {}
                    _ = stopped => {}
                }
            });
        });
        is_ready.recv().map_err(|e| e.to_string())??;
        Ok(Self { answers, stop: Some(stop), thread: Some(thread) })
    }

    /// So many of its answers, in the order in which they came: none, or the error.
    pub fn answers(&self, count: usize) -> Result<Vec<Result<(), String>>, String> {
        let deadline = Instant::now() + patient(20);
        let next = |n| {
            let left = deadline.saturating_duration_since(Instant::now());
            self.answers.recv_timeout(left).map_err(|e| format!("after {n} answers: {e}"))
        };
        (0..count).map(next).collect()
    }
}

impl Drop for Burst {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What polkit says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Yes,
    /// No.
    No,
    /// Yes, if a person may be asked.
    Challenge,
    /// Nothing at all.
    Silence,
}

/// What polkit was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Name on the bus of whom it was about.
    pub subject: String,
    /// The action.
    pub action: String,
    /// Whether a person may be asked.
    pub interactive: bool,
}

#[derive(Debug)]
struct Mind {
    verdict: Verdict,
    asked: Vec<Asked>,
    names: Vec<String>,
    cancelled: usize,
}

/// A polkit, until it is dropped.
pub struct Authority {
    mind: Arc<Mutex<Mind>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

fn lock(mind: &Mutex<Mind>) -> MutexGuard<'_, Mind> {
    mind.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Authority {
    /// Takes polkit's name on a bus.
    pub fn start(address: &str) -> Result<Self, String> {
        Self::start_as(address, POLKIT)
    }

    /// Takes another name on a bus, which is then somebody's.
    pub fn start_as(address: &str, name: &'static str) -> Result<Self, String> {
        let mind = Arc::new(Mutex::new(Mind {
            verdict: Verdict::No,
            asked: Vec::new(),
            names: Vec::new(),
            cancelled: 0,
        }));
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (address, shared) = (address.to_owned(), mind.clone());
        let thread = std::thread::spawn(move || {
            let Ok(runtime) = runtime() else { return };
            runtime.block_on(async {
                let connection = match take_name(&address, name).await {
                    Ok(connection) => connection,
                    Err(e) => return drop(ready.send(Err(e))),
                };
                drop(ready.send(Ok(())));
                tokio::select! {
                    () = serve(&connection, &shared) => {}
                    _ = stopped => {}
                }
            });
        });
        is_ready.recv().map_err(|e| e.to_string())??;
        Ok(Self { mind, stop: Some(stop), thread: Some(thread) })
    }

    /// What it says from now on.
    pub fn decide(&self, verdict: Verdict) {
        lock(&self.mind).verdict = verdict;
    }

    /// What it was asked since this was called last.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut lock(&self.mind).asked)
    }

    /// How many of its questions were taken back.
    pub fn cancelled(&self) -> usize {
        lock(&self.mind).cancelled
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn take_name(address: &str, name: &str) -> Result<Connection, String> {
    let connection = connect(address).await?;
    connection.request_name(name).await.map_err(|e| format!("cannot take the name '{name}': {e}"))?;
    Ok(connection)
}

async fn next(incoming: &mut MessageStream) -> Option<zbus::Result<Message>> {
    std::future::poll_fn(|context| std::pin::Pin::new(&mut *incoming).poll_next(context)).await
}

async fn serve(connection: &Connection, mind: &Mutex<Mind>) {
    let mut incoming = MessageStream::from(connection);
    loop {
        let Some(Ok(message)) = next(&mut incoming).await else { return };
        if message.message_type() == Type::MethodCall
            && let Some(reply) = answer(&message, mind)
        {
            let _ = connection.send(&reply).await;
        }
    }
}

/// The subject: its kind, and what is known of it.
type Subject = (String, HashMap<String, OwnedVariant>);

fn answer(message: &Message, mind: &Mutex<Mind>) -> Option<Message> {
    let header = message.header();
    if header.member().is_some_and(|m| m.as_str() == "CancelCheckAuthorization") {
        let name: String = message.body().deserialize().ok()?;
        let mut mind = lock(mind);
        let place = mind.names.iter().position(|n| *n == name)?;
        mind.names.remove(place);
        mind.cancelled += 1;
        return None;
    }
    if header.member().is_none_or(|m| m.as_str() != "CheckAuthorization") {
        let error = "org.freedesktop.DBus.Error.UnknownMethod";
        return Message::error(&header, error).build(&"only CheckAuthorization").ok();
    }
    let body = message.body();
    let (subject, action, _, flags, name): (Subject, String, HashMap<String, String>, u32, String) =
        body.deserialize().ok()?;
    let interactive = flags & 1 != 0;
    let mut mind = lock(mind);
    mind.names.push(name);
    let name = subject.1.get("name").and_then(|v| <&str>::try_from(v).ok()).unwrap_or_default();
    mind.asked.push(Asked { subject: format!("{} {name}", subject.0), action, interactive });
    let (yes, challenge) = match mind.verdict {
        Verdict::Yes => (true, false),
        Verdict::No => (false, false),
        Verdict::Challenge => (interactive, !interactive),
        Verdict::Silence => return None,
    };
    let details: HashMap<&str, &str> = HashMap::new();
    Message::method_return(&header).build(&((yes, challenge, details),)).ok()
}
