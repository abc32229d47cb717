//! The way to the bus: connect, take the name, serve until the connection ends, and again.
//!
//! Does not know objects.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use zbus::export::futures_core::Stream;
use zbus::message::{Header, Type};
use zbus::{Connection, Message, MessageStream};

use crate::api::audit::{self, About};
use crate::api::dbus::bus::{AllTold, AskError, BUS, Bus, DRIVER, Outgoing, PATIENCE, QUEUE, Told};
use crate::api::dbus::call::{self, Call};
use crate::api::dbus::error::Refusal;
use crate::api::dbus::methods::{Method, Properties};
use crate::api::dbus::objects::Object;
use crate::api::dbus::{Address, DOOR, NAME, access, console, network, objects, properties, signals, ties};
use crate::engine::{Engine, Tie};

/// Pauses before the next attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Messages that were read and not looked at.
const UNREAD: usize = 32;

/// Longest call: the longest document, and room around it.
const MAX_CALL: usize = 2 << 20;

/// What is asked of a property that cannot be set, in that record.
const SET: &str = "org.freedesktop.DBus.Properties.Set";

/// Serves for ever.
pub async fn run(engine: Arc<Engine>, address: Address) {
    let mut pause = FIRST_PAUSE;
    let mut said = None;
    // The first bus is also told what the daemon found out at its start.
    let told = AllTold {
        domains: Arc::new(Told::since(engine.publisher.began())),
        networks: Arc::new(Told::since(0)),
    };
    loop {
        let (served, why) = match connect(&address).await {
            Ok(connection) => serve(&engine, &told, connection).await,
            Err(e) => (false, e),
        };
        if served {
            (pause, said) = (FIRST_PAUSE, None);
        }
        // The same again and again is said once.
        if said.as_ref().is_some_and(|before| why.is_like(before)) {
            tracing::debug!("no D-Bus: {why}");
        } else {
            match &why {
                // Nothing but another policy of the bus mends that.
                Trouble::Refused { .. } => tracing::warn!("no D-Bus: {why}; trying again"),
                _ => tracing::info!("no D-Bus: {why}; trying again"),
            }
            said = Some(why);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Why there is no bus.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
enum Trouble {
    /// There is no connection, or it ended.
    #[error("{0}")]
    Connection(String),
    /// The bus does not let us do something.
    #[error("cannot {what}: {message} ({error})")]
    Refused {
        /// Do what.
        what: String,
        /// Name of the error.
        error: String,
        /// What the bus says of it.
        message: String,
    },
}

impl Trouble {
    /// An answer that was none.
    fn asking(what: &str, error: AskError) -> Self {
        match error {
            AskError::Refused(error, message) => Self::Refused { what: what.to_owned(), error, message },
            other => Self::Connection(format!("cannot {what}: {other}")),
        }
    }

    /// Whether it says nothing new. What a bus says has the unique name of the connection in it, another one each time.
    fn is_like(&self, before: &Self) -> bool {
        match (self, before) {
            (Self::Refused { what, error, .. }, Self::Refused { what: w, error: e, .. }) => {
                (what, error) == (w, e)
            }
            _ => self == before,
        }
    }
}

impl From<String> for Trouble {
    fn from(why: String) -> Self {
        Self::Connection(why)
    }
}

async fn connect(address: &Address) -> Result<Connection, Trouble> {
    let builder = match address {
        Address::At(at) => zbus::connection::Builder::address(at.as_str()),
        Address::System | Address::None => zbus::connection::Builder::system(),
    };
    let builder = builder.max_queued(NonZeroUsize::new(UNREAD).unwrap_or(NonZeroUsize::MIN));
    match tokio::time::timeout(PATIENCE, builder.build()).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(e)) => Err(format!("cannot connect to the bus: {e}").into()),
        Err(_) => Err("the bus does not answer".to_owned().into()),
    }
}

/// Serves until the connection ends; whether it ever had the name, and why it ended.
async fn serve(engine: &Arc<Engine>, told: &AllTold, connection: Connection) -> (bool, Trouble) {
    let mut incoming = MessageStream::from(&connection);
    let (out, queue) = mpsc::channel(QUEUE);
    let bus = Arc::new(Bus::new(engine.clone(), told.clone(), out.clone()));
    let mut writing = pin!(write(&connection, queue));
    let (room, mut refusals) = (out, VecDeque::new());
    let mut introducing = tokio::spawn(introduce(bus.clone()));
    let mut introduced = false;
    let telling = tokio::spawn(signals::tell(bus.clone()));
    let telling_of_networks = tokio::spawn(network::signals::tell(bus.clone()));
    let why = loop {
        tokio::select! {
            // Who sends faster than it is refused waits, with all others, and the bus keeps it.
            message = next(&mut incoming), if refusals.len() < QUEUE => match message {
                Some(Ok(message)) => refusals.extend(take(&bus, message)),
                Some(Err(e)) => break format!("the connection to the bus ended: {e}").into(),
                None => break "the connection to the bus ended".to_owned().into(),
            },
            Ok(place) = room.reserve(), if !refusals.is_empty() => {
                if let Some(message) = refusals.pop_front() {
                    place.send(Outgoing { message, tells: None });
                }
            }
            why = &mut writing => break why.into(),
            done = &mut introducing, if !introduced => match done {
                Ok(Ok(waits)) => {
                    introduced = true;
                    // It may have become ours meanwhile.
                    if waits && !bus.has_name() {
                        tracing::warn!(
                            "the name '{NAME}' on the bus has another owner (libvirt-dbus?); waiting for it"
                        );
                    }
                }
                Ok(Err(why)) => break why,
                Err(e) => break e.to_string().into(),
            },
        }
    };
    introducing.abort();
    telling.abort();
    telling_of_networks.abort();
    end(&bus, bus.ties.cut_all(), ties::LOST);
    (bus.had_name(), why)
}

/// Ends what was started by clients that are gone.
fn end(bus: &Bus, runs: Vec<Tie>, why: &'static str) {
    if runs.is_empty() {
        return;
    }
    let engine = bus.engine.clone();
    tokio::spawn(async move { engine.end_with_client(runs, why).await });
}

async fn next(stream: &mut MessageStream) -> Option<zbus::Result<Message>> {
    poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await
}

/// The only one who writes. A message is never cut short, but by the end of the connection.
async fn write(connection: &Connection, mut queue: mpsc::Receiver<Outgoing>) -> String {
    while let Some(Outgoing { message, tells }) = queue.recv().await {
        match tokio::time::timeout(PATIENCE, connection.send(&message)).await {
            Ok(Ok(())) => tells.into_iter().for_each(|(told, sequence)| told.note(sequence)),
            Ok(Err(e)) => return format!("cannot write to the bus: {e}"),
            Err(_) => return "the bus takes no messages".into(),
        }
    }
    "nobody writes to the bus any more".into()
}

/// Takes the name, and asks to be told who leaves. Whether the name is somebody else's, and we wait for it.
async fn introduce(bus: Arc<Bus>) -> Result<bool, Trouble> {
    let rule = "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',\
                member='NameOwnerChanged',arg2=''";
    let asked = bus.ask(BUS, "AddMatch", &rule, PATIENCE).await;
    asked.map_err(|e| Trouble::asking("watch names on the bus", e))?;
    // Without flags we wait in line if somebody else has the name.
    let answer = bus.ask(BUS, "RequestName", &(NAME, 0u32), PATIENCE).await;
    let answer = answer.map_err(|e| Trouble::asking(&format!("take the name '{NAME}'"), e))?;
    // That it is ours, now or after a while, is told by NameAcquired.
    Ok(answer.body().deserialize::<u32>().is_ok_and(|answer| answer == 2))
}

/// Looks at a message. Never waits. Answers what is to be said at once.
fn take(bus: &Arc<Bus>, message: Message) -> Option<Message> {
    match message.message_type() {
        Type::MethodCall => return called(bus, message),
        Type::MethodReturn | Type::Error => bus.answered(message),
        Type::Signal => heard(bus, &message),
    }
    None
}

fn heard(bus: &Arc<Bus>, message: &Message) {
    let header = message.header();
    if header.sender().is_none_or(|s| s.as_str() != DRIVER) {
        return;
    }
    match header.member().map(|m| m.as_str()) {
        Some("NameOwnerChanged") => {
            let body = message.body();
            if let Ok((name, _, "")) = body.deserialize::<(&str, &str, &str)>() {
                bus.callers.forget(name);
                end(bus, bus.ties.cut(name), ties::LEFT);
            }
        }
        // It is told of the connection's own name too.
        Some("NameAcquired") if message.body().deserialize::<&str>().is_ok_and(|name| name == NAME) => {
            bus.set_name(true);
            tracing::info!("on the bus as '{NAME}'");
        }
        Some("NameLost") => {
            bus.set_name(false);
            tracing::warn!("the name '{NAME}' on the bus is somebody else's now");
        }
        _ => {}
    }
}

fn limits(why: &str) -> call::Answer {
    Err(Refusal::Protocol("LimitsExceeded", why.to_owned()))
}

/// What a client is told that has too many.
const TOO_MANY: &str = "too many calls at once";

/// Begins to answer a call. Answers the refusal of one that there is no room for.
fn called(bus: &Arc<Bus>, message: Message) -> Option<Message> {
    let header = message.header();
    // A bus always says who calls.
    let client = header.sender()?.as_str().to_owned();
    let refusal = if message.body().len() > MAX_CALL {
        limits("the message is too long")
    } else if let Some(mut place) = bus.turns.place(&client, message.body().len()) {
        drop(header);
        // Who is known now may have left, and be forgotten, when its turn comes.
        let (bus, mut caller) = (bus.clone(), bus.callers.get(&client).map(Ok));
        tokio::spawn(async move {
            let looking = async {
                let found = match caller.take() {
                    Some(known) => known,
                    None => access::find(&bus, &client).await,
                };
                access::user(caller.insert(found))
            };
            let turn = place.turn(looking).await;
            let header = message.header();
            let answer = match (&turn, &caller) {
                (Some(_), Some(caller)) => answer(&bus, &client, caller, &message, &header).await,
                _ => limits(TOO_MANY),
            };
            if let Err(refusal) = &answer {
                tracing::debug!("refused {client}: {}", refusal.reply().1);
            }
            if let Some(reply) = call::reply(&header, answer) {
                bus.send(reply).await;
            }
            drop((turn, place));
        });
        return None;
    } else {
        limits(TOO_MANY)
    };
    call::reply(&header, refusal)
}

async fn answer(
    bus: &Bus,
    client: &str,
    caller: &Result<access::Caller, AskError>,
    message: &Message,
    header: &Header<'_>,
) -> call::Answer {
    let path = header.path().map(|p| p.as_str()).unwrap_or_default();
    let member = header.member().map(|m| m.as_str()).unwrap_or_default();
    let Some(object) = Object::find(path) else {
        return Err(Refusal::Protocol("UnknownObject", format!("no such object path '{path}'")));
    };
    let method = find(object, header.interface().map(|i| i.as_str()), member)?;
    let call = Call::new(bus, method, client, caller, message, header);
    // What is removed has a name before, and what is made has one afterwards.
    let before = about(bus, object);
    let answer = authorised(&call, object, member, path).await;
    let made = || {
        let body = answer.as_ref().ok()?.body();
        let path: zbus::ObjectPath<'_> = body.deserialize().ok()?;
        about(bus, Object::find(path.as_str())?)
    };
    let about = match object {
        Object::Connect => made().unwrap_or_default(),
        _ => before.unwrap_or_default(),
    };
    let row = match method {
        // One method for the properties of all.
        Method::Properties(Properties::Set) => properties::row(&call, object),
        _ => Some(method.row()),
    };
    let failure = answer.as_ref().err().map(|refusal| refusal.reply().1);
    let (asker, failure) = (call.asker(), failure.as_deref());
    match row {
        Some(row) => audit::note(DOOR, asker, row, &about, failure),
        None => audit::record(DOOR, asker, SET, &about, failure),
    }
    answer
}

/// What the record of who did what tells of an object.
fn about(bus: &Bus, object: Object) -> Option<About> {
    match object {
        Object::Domain(uuid) => Some(match objects::find_domain(&bus.engine, uuid) {
            Ok(snapshot) => About::known(&snapshot),
            Err(_) => About::domain(uuid.to_string(), &objects::domain_reference(uuid), &bus.engine.registry),
        }),
        Object::Network(uuid) => Some(About::other(match network::find(&bus.engine, uuid) {
            Ok(snapshot) => snapshot.name.to_string(),
            Err(_) => uuid.to_string(),
        })),
        _ => None,
    }
}

async fn authorised(call: &Call<'_>, object: Object, member: &str, path: &str) -> call::Answer {
    let (bus, method) = (call.bus, call.method);
    // Before a parameter is looked at.
    access::authorise(call).await?;
    match (method, object) {
        (Method::Introspectable(_), object) => {
            call.nothing()?;
            let engine = &bus.engine;
            let mut children = Vec::new();
            match object {
                // One that is no more has no interfaces.
                Object::Domain(uuid) => drop(objects::find_domain(engine, uuid)?),
                Object::Network(uuid) => drop(network::find(engine, uuid)?),
                Object::Domains => children.extend(engine.registry.all().iter().map(|s| s.uuid)),
                Object::Networks => children.extend(engine.networks.all().iter().map(|s| s.uuid)),
                Object::Connect | Object::Folder(_) => {}
            }
            call.answer(&object.introspect(children.into_iter()).as_str())
        }
        (Method::Peer(method), _) => properties::peer(call, method),
        (Method::Properties(method), object) => properties::call(call, method, object).await,
        (Method::Connect(method), Object::Connect) => super::connect::call(call, method).await,
        (Method::Domain(method), Object::Domain(uuid)) => super::domain::call(call, method, uuid).await,
        (Method::Network(method), Object::Network(uuid)) => network::call(call, method, uuid).await,
        (Method::BerthDomain(method), Object::Domain(uuid)) => console::call(call, method, uuid).await,
        // `find` looks only at what the object has.
        (Method::Connect(_) | Method::Domain(_) | Method::Network(_) | Method::BerthDomain(_), _) => {
            Err(unknown(member, path))
        }
    }
}

fn unknown(member: &str, what: &str) -> Refusal {
    Refusal::Protocol("UnknownMethod", format!("no such method '{member}' in '{what}'"))
}

/// The method that is meant; without an interface any of the object's that has it.
fn find(object: Object, interface: Option<&str>, member: &str) -> Result<Method, Refusal> {
    let mut of_object = object.all_interfaces();
    let Some(name) = interface else {
        let found = of_object.find_map(|i| Method::find(i.name, member).flatten());
        return found.ok_or_else(|| unknown(member, "any interface"));
    };
    if !of_object.any(|i| i.name == name) {
        return Err(Refusal::Protocol("UnknownInterface", format!("no such interface '{name}'")));
    }
    Method::find(name, member).flatten().ok_or_else(|| unknown(member, name))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_same_refusal_to_another_connection_is_nothing_new() {
        let refused = |error: &str, message: &str| {
            Trouble::asking("take the name 'x'", AskError::Refused(error.to_owned(), message.to_owned()))
        };
        let first = refused("org.freedesktop.DBus.Error.AccessDenied", "Connection \":1.0\" is not allowed");
        assert!(refused("org.freedesktop.DBus.Error.AccessDenied", "Connection \":1.1\"").is_like(&first));
        assert!(!refused("org.freedesktop.DBus.Error.LimitsExceeded", "Connection \":1.0\"").is_like(&first));
        let ended = Trouble::from("the connection to the bus ended".to_owned());
        assert!(!ended.is_like(&first));
        assert!(ended.is_like(&ended.clone()));
        let late = Trouble::asking("take the name 'x'", AskError::Gone);
        assert_eq!(late.to_string(), "cannot take the name 'x': the connection to the bus ended");
    }
}
