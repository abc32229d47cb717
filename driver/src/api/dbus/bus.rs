//! One connection to the bus, as long as it lasts: what goes out, answers that we wait for, and the calls of clients.
//!
//! Does not know what any call means, nor how a connection comes about.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};
use zbus::Message;
use zbus::message::{Flags, Type};
use zbus::wire::DynamicType;

use crate::api::dbus::access::Callers;
use crate::api::dbus::ties::Ties;
use crate::api::dbus::turns::Turns;
use crate::engine::Engine;

/// The bus itself.
pub const DRIVER: &str = "org.freedesktop.DBus";

/// Messages that wait for the bus to take them.
pub const QUEUE: usize = 256;

/// How long the bus itself may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What is on the other side of a call of ours.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name on the bus.
    pub name: &'static str,
    /// The object.
    pub path: &'static str,
    /// The interface.
    pub interface: &'static str,
}

/// The bus's own object.
pub const BUS: Target = Target { name: DRIVER, path: "/org/freedesktop/DBus", interface: DRIVER };

/// Why a call of ours was not answered well.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AskError {
    /// An error reply: its name and message.
    #[error("{1} ({0})")]
    Refused(String, String),
    /// No answer in time.
    #[error("no answer after {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The connection ended.
    #[error("the connection to the bus ended")]
    Gone,
    /// It cannot be said, or not be understood.
    #[error("{0}")]
    Odd(String),
}

impl From<zbus::Error> for AskError {
    fn from(error: zbus::Error) -> Self {
        Self::Odd(error.to_string())
    }
}

/// The last event of a kind that a bus has taken, this connection's or one before.
#[derive(Debug)]
pub struct Told(AtomicI64);

impl Told {
    /// Nothing was told since that event.
    pub fn since(sequence: i64) -> Self {
        Self(AtomicI64::new(sequence))
    }

    /// The number of the last one.
    pub fn last(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The bus has taken all of one.
    pub fn note(&self, sequence: i64) {
        self.0.fetch_max(sequence, Ordering::Relaxed);
    }
}

/// What was told of domains and of networks.
#[derive(Debug, Clone)]
pub struct AllTold {
    /// The last event of a domain.
    pub domains: Arc<Told>,
    /// The last event of a network.
    pub networks: Arc<Told>,
}

/// A message that goes out.
#[derive(Debug)]
pub struct Outgoing {
    /// The message.
    pub message: Message,
    /// The event that is told when the bus has taken it.
    pub tells: Option<(Arc<Told>, i64)>,
}

/// A connection.
#[derive(Debug)]
pub struct Bus {
    /// Everything.
    pub engine: Arc<Engine>,
    /// Who calls.
    pub callers: Callers,
    /// Their calls.
    pub turns: Arc<Turns>,
    /// What ends with them.
    pub ties: Ties,
    /// What was told of.
    pub told: AllTold,
    named: watch::Sender<bool>,
    had_name: AtomicBool,
    out: mpsc::Sender<Outgoing>,
    waiting: Waiting,
}

/// Who waits for answers, by the numbers of the calls.
type Waiting = Mutex<HashMap<NonZeroU32, oneshot::Sender<Message>>>;

/// One of those, until this is dropped.
struct Waits<'a>(&'a Waiting, NonZeroU32);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        lock(self.0).remove(&self.1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bus {
    /// A connection whose messages go out through a queue.
    pub fn new(engine: Arc<Engine>, told: AllTold, out: mpsc::Sender<Outgoing>) -> Self {
        Self {
            engine,
            callers: Callers::default(),
            turns: Arc::default(),
            ties: Ties::default(),
            told,
            named: watch::Sender::new(false),
            had_name: AtomicBool::new(false),
            out,
            waiting: Mutex::default(),
        }
    }

    /// Whether the daemon's name is this connection's.
    pub fn has_name(&self) -> bool {
        *self.named.borrow()
    }

    /// Whether it ever was.
    pub fn had_name(&self) -> bool {
        self.had_name.load(Ordering::Relaxed)
    }

    /// The bus tells whether it is.
    pub fn set_name(&self, is_ours: bool) {
        self.had_name.fetch_or(is_ours, Ordering::Relaxed);
        self.named.send_replace(is_ours);
    }

    /// Waits until it is: clients know signals by the name, so that before it nobody hears them.
    pub async fn named(&self) {
        // An error: there is no sender any more, which is this bus's own.
        drop(self.named.subscribe().wait_for(|is_ours| *is_ours).await);
    }

    /// Sends as soon as there is room. Whether the bus ever takes it, is another question.
    pub async fn send(&self, message: Message) {
        self.put(message, None).await;
    }

    /// Sends the last message about an event.
    pub async fn send_last_of(&self, told: &Arc<Told>, sequence: i64, message: Message) {
        self.put(message, Some((told.clone(), sequence))).await;
    }

    async fn put(&self, message: Message, tells: Option<(Arc<Told>, i64)>) {
        // An error: the connection is gone, and everything that belongs to it with it.
        drop(self.out.send(Outgoing { message, tells }).await);
    }

    /// Calls somebody else on the bus, whose answer nobody waits for.
    pub async fn tell<B: Serialize + DynamicType>(&self, to: Target, method: &'static str, body: &B) {
        let message = Message::method_call(to.path, method).destination(to.name).interface(to.interface);
        match message.with_flags(Flags::NO_REPLY_EXPECTED).build(body) {
            Ok(message) => self.send(message).await,
            Err(e) => tracing::warn!("cannot call {method} of '{}': {e}", to.name),
        }
    }

    /// Calls somebody else on the bus. Whoever does not wait for the answer any more drops this.
    pub async fn ask<B: Serialize + DynamicType>(
        &self,
        to: Target,
        method: &'static str,
        body: &B,
        deadline: Duration,
    ) -> Result<Message, AskError> {
        let message = Message::method_call(to.path, method)
            .destination(to.name)
            .interface(to.interface)
            .with_flags(Flags::empty())
            .build(body)?;
        let serial = message.primary_header().serial_num();
        let (sender, answer) = oneshot::channel();
        lock(&self.waiting).insert(serial, sender);
        let _waits = Waits(&self.waiting, serial);
        let waited = tokio::time::timeout(deadline, async {
            self.send(message).await;
            answer.await
        });
        let reply = waited.await.map_err(|_| AskError::TimedOut(deadline))?.map_err(|_| AskError::Gone)?;
        if reply.message_type() == Type::MethodReturn {
            return Ok(reply);
        }
        let name = reply.header().error_name().map(|n| n.to_string()).unwrap_or_default();
        Err(AskError::Refused(name, reply.body().deserialize().unwrap_or_default()))
    }

    /// An answer has come.
    pub fn answered(&self, message: Message) {
        let header = message.header();
        let Some(serial) = header.reply_serial() else { return };
        let sender = lock(&self.waiting).remove(&serial);
        drop(header);
        if let Some(sender) = sender {
            // Nobody waits any more: it is late.
            drop(sender.send(message));
        }
    }
}
