//! One call: what it is about, its parameters, and its answer.
//!
//! Does not know what any method does.

use serde::Serialize;
use zbus::Message;
use zbus::message::{Flags, Header};
use zbus::wire::{DynamicDeserialize, DynamicType};

use crate::api::audit::Asker;
use crate::api::dbus::access::Caller;
use crate::api::dbus::bus::{AskError, Bus};
use crate::api::dbus::error::Refusal;
use crate::api::dbus::methods::Method;

/// The answer to a call.
pub type Answer = Result<Message, Refusal>;

/// A call.
#[derive(Debug)]
pub struct Call<'a> {
    /// Where it came from.
    pub bus: &'a Bus,
    /// What is asked for.
    pub method: Method,
    /// Who asks: a unique name.
    pub sender: &'a str,
    /// Who that is, or why nobody knows.
    pub caller: &'a Result<Caller, AskError>,
    message: &'a Message,
    header: &'a Header<'a>,
}

impl<'a> Call<'a> {
    /// A message that was looked at.
    pub fn new(
        bus: &'a Bus,
        method: Method,
        sender: &'a str,
        caller: &'a Result<Caller, AskError>,
        message: &'a Message,
        header: &'a Header<'a>,
    ) -> Self {
        Self { bus, method, sender, caller, message, header }
    }

    /// Who asks, for the record of who did what.
    pub fn asker(&self) -> Asker {
        self.caller.as_ref().map(|caller| caller.asker).unwrap_or_default()
    }

    /// The caller is prepared to wait until somebody has typed a password.
    pub fn may_interact(&self) -> bool {
        self.header.primary().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH)
    }

    /// Its parameters.
    pub fn parameters<T: for<'d> DynamicDeserialize<'d>>(&self) -> Result<T, Refusal> {
        let (name, wanted) = (self.method.name(), self.method.input());
        let body = self.message.body();
        let given = body.signature().to_string_no_parens();
        if given != wanted {
            let message = format!("the parameters of {name} have the types '{wanted}', not '{given}'");
            return Err(Refusal::arguments(message));
        }
        body.deserialize()
            .map_err(|e| Refusal::arguments(format!("cannot read the parameters of {name}: {e}")))
    }

    /// No parameters.
    pub fn nothing(&self) -> Result<(), Refusal> {
        let given = self.message.body().signature().to_string_no_parens();
        match given.as_str() {
            "" => Ok(()),
            _ => Err(Refusal::arguments(format!("{} takes no parameters", self.method.name()))),
        }
    }

    /// A good answer.
    pub fn answer<B: Serialize + DynamicType>(&self, body: &B) -> Answer {
        let answer = Message::method_return(self.header).build(body)?;
        // zbus does not tell one structure from its members.
        let wanted = self.method.output();
        let bare = wanted.strip_prefix('(').and_then(|w| w.strip_suffix(')')).unwrap_or(wanted);
        debug_assert_eq!(answer.body().signature().to_string_no_parens(), bare, "of {}", self.method.name());
        Ok(answer)
    }

    /// The answer that it is done.
    pub fn done(&self) -> Answer {
        self.answer(&())
    }
}

/// The answer to whom it may concern; none if nobody wants one.
pub fn reply(header: &Header<'_>, answer: Answer) -> Option<Message> {
    if header.primary().flags().contains(Flags::NO_REPLY_EXPECTED) {
        return None;
    }
    let built = match answer {
        Ok(message) => return Some(message),
        Err(refusal) => {
            let (name, message) = refusal.reply();
            Message::error(header, name.as_str()).build(&message.as_str())
        }
    };
    match built {
        Ok(message) => Some(message),
        Err(e) => {
            tracing::warn!("cannot answer a call on the bus: {e}");
            None
        }
    }
}
