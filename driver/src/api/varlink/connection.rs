//! One connection: calls are taken in order, authorised before their parameters are read, and answered in order.
//!
//! Does not know what any method does.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use berth_schemas::domain::Method as DomainMethod;
use berth_schemas::network::Method as NetworkMethod;
use berth_schemas::node::{Method as NodeMethod, Role};
use berth_schemas::service::{self, ServiceError};
use berth_schemas::wire::{self, Request};
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::api::access::{self, Method};
use crate::api::audit::{self, About, Asker};
use crate::api::varlink::reply::{CallError, Outbox};
use crate::api::varlink::{domain, network, node};
use crate::engine::publish::blocking;
use crate::engine::registry::Reference;
use crate::engine::{Engine, Tie};
use crate::wire::{Channel, ChannelError, Message};

const INTERFACES: [&str; 4] =
    [service::NAME, berth_schemas::node::NAME, berth_schemas::domain::NAME, berth_schemas::network::NAME];

/// This door, in the record of who did what.
pub const DOOR: &str = "varlink";

/// A connection.
#[derive(Debug)]
pub struct Connection {
    /// Everything.
    pub engine: Arc<Engine>,
    /// The socket.
    pub channel: Channel,
    /// What goes back.
    pub out: Outbox,
    /// What the peer may do.
    pub role: Role,
    /// Who the peer is; none for one that has given up what it may do.
    pub peer: Option<Peer>,
    /// Who opened it, for the record of who did what.
    pub asker: Asker,
    /// What the call under way has turned out to be about, if its parameters do not name it.
    pub about: Option<About>,
    /// Whether it has turned out to be a question, which has no place in that record.
    pub changed_nothing: bool,
    /// Domains that end with this connection.
    pub autodestroy: Vec<Tie>,
    /// Whether the connection is no longer ours.
    pub handed_over: bool,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The user.
    pub uid: u32,
    /// The user's primary group.
    pub gid: u32,
}

/// One call.
#[derive(Debug)]
pub struct Call {
    /// Its parameters, not yet looked at.
    pub parameters: Option<Value>,
    /// Several answers are welcome.
    pub more: bool,
    /// The connection is to change its protocol.
    pub upgrade: bool,
    /// What came along.
    pub descriptors: Vec<OwnedFd>,
}

/// Serves a client until it is gone.
pub async fn run(engine: Arc<Engine>, stream: UnixStream) {
    let (role, peer, pid) = match stream.peer_cred() {
        Ok(peer) => {
            let (uid, gid, group) = (peer.uid(), peer.gid(), engine.config().admin_group.clone());
            let own = rustix::process::geteuid().as_raw();
            let found = blocking(move || Ok(access::role_of(uid, gid, own, &group))).await;
            let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok());
            (found.unwrap_or(Role::Reader), Peer { uid, gid }, pid)
        }
        Err(e) => {
            tracing::warn!("cannot tell who connects, hanging up: {e}");
            return;
        }
    };
    let (channel, out) = (Channel::new(stream), Outbox::default());
    let mut connection = Connection {
        engine,
        channel,
        out,
        role,
        peer: Some(peer),
        asker: Asker { uid: Some(peer.uid), pid },
        about: None,
        changed_nothing: false,
        autodestroy: Vec::new(),
        handed_over: false,
    };
    connection.serve().await;
    let Connection { engine, channel, autodestroy, .. } = connection;
    drop(channel);
    engine.end_with_client(autodestroy, "whose connection has ended").await;
}

impl Connection {
    async fn serve(&mut self) {
        loop {
            let message = match self.channel.buffered() {
                Ok(None) => {
                    // Nothing more is here: now the answers go out, and then there is time to wait.
                    if self.out.flush(&mut self.channel).await.is_err() {
                        return;
                    }
                    self.channel.next().await
                }
                buffered => buffered,
            };
            match message {
                Ok(Some(message)) => {
                    if self.take(message).await.is_err() || self.handed_over {
                        return;
                    }
                }
                Ok(None) => return,
                Err(e) => return self.refuse(&e).await,
            }
            if self.out.flush_if_much(&mut self.channel).await.is_err() {
                return;
            }
        }
    }

    /// Says once what was wrong with a message; there is no way to find the next one.
    async fn refuse(&mut self, error: &ChannelError) {
        tracing::debug!("hanging up on a client: {error}");
        if matches!(error, ChannelError::Io(_)) {
            return;
        }
        self.out.silent = false;
        self.out.bad(&ServiceError::InvalidParameter("message".into()).into());
        // It is gone either way.
        drop(self.out.flush(&mut self.channel).await);
    }

    /// Answers one message. An error ends the connection.
    async fn take(&mut self, message: Message) -> Result<(), ()> {
        let request = match wire::parse_request(&message.bytes) {
            Ok(request) => request,
            Err(e) => {
                self.refuse(&ChannelError::Frame(e)).await;
                return Err(());
            }
        };
        let Request { method, parameters, more, oneway, upgrade } = request;
        self.out.silent = oneway == Some(true);
        let call = Call {
            parameters,
            more: more == Some(true),
            upgrade: upgrade == Some(true),
            descriptors: message.descriptors,
        };
        let answered = self.call(&method, call).await;
        let result = match answered {
            Ok(()) => Ok(()),
            Err(CallError::Gone) => Err(()),
            Err(e) => {
                self.out.bad(&e);
                Ok(())
            }
        };
        self.out.silent = false;
        result
    }

    async fn call(&mut self, name: &str, call: Call) -> Result<(), CallError> {
        let known = if let Some(method) = DomainMethod::from_name(name) {
            Method::Domain(method)
        } else if let Some(method) = NodeMethod::from_name(name) {
            Method::Node(method)
        } else if let Some(method) = NetworkMethod::from_name(name) {
            Method::Network(method)
        } else if name == service::GET_INFO || name == service::GET_INTERFACE_DESCRIPTION {
            Method::Service
        } else {
            return Err(ServiceError::unknown_method(name, &INTERFACES).into());
        };
        if !access::is_noted(known) {
            return self.authorised(name, known, call).await;
        }
        // What is removed has a name and a uuid before.
        let named = self.named(known, call.parameters.as_ref());
        let answered = self.authorised(name, known, call).await;
        let about = self.about.take().unwrap_or(named);
        if std::mem::take(&mut self.changed_nothing) && answered.is_ok() {
            return answered;
        }
        let failure = answered.as_ref().err().map(ToString::to_string);
        audit::note(DOOR, self.asker, known, &about, failure.as_deref());
        answered
    }

    /// What a call is about, as its parameters name it.
    fn named(&self, method: Method, parameters: Option<&Value>) -> About {
        let text = |key| parameters?.get(key)?.as_str().map(str::to_owned);
        let (name, uuid) = (text("name"), text("uuid"));
        let id = parameters.and_then(|p| p.get("id")?.as_i64());
        let reference = Reference { name, uuid, id };
        match method {
            Method::Domain(_) => About::domain(reference.text(), &reference, &self.engine.registry),
            _ => About::other(reference.text()),
        }
    }

    async fn authorised(&mut self, name: &str, known: Method, call: Call) -> Result<(), CallError> {
        if !access::allowed(self.role, known) {
            return Err(ServiceError::PermissionDenied.into());
        }
        if call.upgrade && known != Method::Domain(DomainMethod::AttachConsole) {
            return Err(ServiceError::InvalidParameter("upgrade".into()).into());
        }
        match known {
            Method::Service if name == service::GET_INFO => self.info(call.parameters),
            Method::Service => self.description(call.parameters),
            Method::Node(method) => node::call(self, method, call.parameters).await,
            Method::Domain(method) => domain::call(self, method, call).await,
            Method::Network(method) => network::call(self, method, call).await,
        }
    }

    fn info(&mut self, parameters: Option<Value>) -> Result<(), CallError> {
        wire::finish(wire::members(parameters)?)?;
        let info = json!({
            "vendor": "Berth",
            "product": "berthd",
            "version": env!("CARGO_PKG_VERSION"),
            "url": env!("CARGO_PKG_REPOSITORY"),
            "interfaces": INTERFACES,
        });
        self.out.good(&info, false);
        Ok(())
    }

    fn description(&mut self, parameters: Option<Value>) -> Result<(), CallError> {
        let mut members = wire::members(parameters)?;
        let interface: String = wire::take_member(&mut members, "interface")?;
        wire::finish(members)?;
        let text = match interface.as_str() {
            service::NAME => service::DESCRIPTION,
            berth_schemas::node::NAME => berth_schemas::node::DESCRIPTION,
            berth_schemas::domain::NAME => berth_schemas::domain::DESCRIPTION,
            berth_schemas::network::NAME => berth_schemas::network::DESCRIPTION,
            _ => return Err(ServiceError::InterfaceNotFound(interface).into()),
        };
        self.out.good(&json!({ "description": text }), false);
        Ok(())
    }
}
