//! Bytes to varlink messages and back, without any I/O, and the limits that hold for everybody.
//!
//! A message is a JSON object and a NUL byte. [`Framer`] cuts what a socket delivers; it never looks behind the
//! message it was asked for, so bytes that follow an upgrade call stay where they are. Descriptors are the business
//! of whoever owns the socket.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub use varlink::{Reply, Request};

/// Longest message in bytes, the NUL not counted.
pub const MAX_MESSAGE: usize = 1 << 20;

/// Deepest nesting of objects and arrays in a message.
pub const MAX_DEPTH: usize = 32;

/// Most descriptors that go with one message; the kernel's own limit is 253 (SCM_MAX_FD, unix(7)).
pub const MAX_DESCRIPTORS: usize = 253;

/// A message that cannot be accepted. There is no way to find the next message behind it: answer and hang up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`MAX_MESSAGE`].
    #[error("message of more than {MAX_MESSAGE} bytes")]
    TooLong,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("message nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// Not the JSON of a call or reply.
    #[error("message is not a varlink message: {0}")]
    Malformed(String),
}

/// Collects bytes and gives out whole messages.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: Vec<u8>,
    /// Bytes at the front that are known to hold no NUL.
    scanned: usize,
}

impl Framer {
    /// Adds what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, without its NUL, if there is one.
    pub fn next_message(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        match self.buffer[self.scanned..].iter().position(|b| *b == 0) {
            Some(at) => {
                let end = self.scanned + at;
                if end > MAX_MESSAGE {
                    return Err(FrameError::TooLong);
                }
                let rest = self.buffer.split_off(end + 1);
                let mut message = std::mem::replace(&mut self.buffer, rest);
                message.truncate(end);
                self.scanned = 0;
                check_depth(&message)?;
                Ok(Some(message))
            }
            None if self.buffer.len() > MAX_MESSAGE => Err(FrameError::TooLong),
            None => {
                self.scanned = self.buffer.len();
                Ok(None)
            }
        }
    }

    /// Takes what has come but was not asked for: the bytes right behind an upgrade call.
    pub fn take_rest(&mut self) -> Vec<u8> {
        self.scanned = 0;
        std::mem::take(&mut self.buffer)
    }

    /// Whether no part of a message is waiting.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// Refuses deep nesting before a parser builds anything from it.
fn check_depth(message: &[u8]) -> Result<(), FrameError> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in message {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(FrameError::TooDeep);
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// Reads a call.
pub fn parse_request(message: &[u8]) -> Result<Request<'static>, FrameError> {
    varlink::sansio::protocol::parse_request(message).map_err(|_| malformed::<Request>(message))
}

/// Reads a reply.
pub fn parse_reply(message: &[u8]) -> Result<Reply, FrameError> {
    serde_json::from_slice(message).map_err(|e| FrameError::Malformed(e.to_string()))
}

fn malformed<'a, T: serde::Deserialize<'a>>(message: &'a [u8]) -> FrameError {
    let cause =
        serde_json::from_slice::<T>(message).err().map_or_else(|| "unreadable".to_owned(), |e| e.to_string());
    FrameError::Malformed(cause)
}

/// What a call is besides its name and parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CallKind {
    /// One answer.
    #[default]
    Once,
    /// Any number of answers.
    More,
    /// No answer.
    Oneway,
    /// One answer, then the connection is no longer varlink.
    Upgrade,
}

/// The bytes of a call, with the NUL.
pub fn call_bytes<P: Serialize>(method: &str, parameters: &P, kind: CallKind) -> Vec<u8> {
    #[derive(Serialize)]
    struct Call<'a, P> {
        method: &'a str,
        parameters: &'a P,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        more: bool,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        oneway: bool,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        upgrade: bool,
    }
    to_bytes(&Call {
        method,
        parameters,
        more: kind == CallKind::More,
        oneway: kind == CallKind::Oneway,
        upgrade: kind == CallKind::Upgrade,
    })
}

/// The bytes of a good reply, with the NUL. `continues` says that more follow.
pub fn reply_bytes<P: Serialize>(parameters: &P, continues: bool) -> Vec<u8> {
    #[derive(Serialize)]
    struct Good<'a, P> {
        parameters: &'a P,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        continues: bool,
    }
    to_bytes(&Good { parameters, continues })
}

/// The bytes of an error reply, with the NUL.
pub fn error_bytes(name: &str, parameters: &Value) -> Vec<u8> {
    #[derive(Serialize)]
    struct Bad<'a> {
        error: &'a str,
        parameters: &'a Value,
    }
    to_bytes(&Bad { error: name, parameters })
}

fn to_bytes<T: Serialize>(value: &T) -> Vec<u8> {
    // Serialising our own structures cannot fail: no maps with keys that are not strings, no failing `Serialize`.
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.push(0);
    bytes
}

/// A parameter that is missing, of the wrong type, or not in the interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadParameter(
    /// Its name.
    pub String,
);

/// Parameters of a method, read with the name of what is wrong.
pub trait Parameters: Sized {
    /// Reads them.
    fn from_value(value: Option<Value>) -> Result<Self, BadParameter>;
}

/// The members of a parameters object; none where it is absent.
pub fn members(value: Option<Value>) -> Result<Map<String, Value>, BadParameter> {
    match value {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(map)) => Ok(map),
        Some(_) => Err(BadParameter("parameters".into())),
    }
}

/// Takes a member that must be there.
pub fn take_member<T: DeserializeOwned>(
    members: &mut Map<String, Value>,
    name: &str,
) -> Result<T, BadParameter> {
    let value = members.remove(name).ok_or_else(|| BadParameter(name.to_owned()))?;
    serde_json::from_value(value).map_err(|_| BadParameter(name.to_owned()))
}

/// Takes a member that may be absent or null.
pub fn take_optional<T: DeserializeOwned>(
    members: &mut Map<String, Value>,
    name: &str,
) -> Result<Option<T>, BadParameter> {
    match members.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => serde_json::from_value(value).map(Some).map_err(|_| BadParameter(name.to_owned())),
    }
}

/// Refuses what was not taken: a misspelt option must not be silently without effect.
pub fn finish(members: Map<String, Value>) -> Result<(), BadParameter> {
    members.into_iter().next().map_or(Ok(()), |(name, _)| Err(BadParameter(name)))
}

/// Adds a member, unless its value is null.
pub fn put<T: Serialize>(members: &mut Map<String, Value>, name: &str, value: &T) {
    match serde_json::to_value(value) {
        Ok(Value::Null) | Err(_) => {}
        Ok(value) => {
            members.insert(name.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_come_out_whole_and_the_rest_stays() {
        let mut f = Framer::default();
        f.push(b"{\"a\":1}");
        assert_eq!(f.next_message(), Ok(None));
        f.push(b"\0{\"b\":2}\0raw");
        assert_eq!(f.next_message(), Ok(Some(b"{\"a\":1}".to_vec())));
        assert_eq!(f.next_message(), Ok(Some(b"{\"b\":2}".to_vec())));
        assert_eq!(f.next_message(), Ok(None));
        assert_eq!(f.take_rest(), b"raw");
        assert!(f.is_empty());
    }

    #[test]
    fn long_messages_are_refused_before_they_are_whole() {
        let mut f = Framer::default();
        f.push(&vec![b' '; MAX_MESSAGE]);
        assert_eq!(f.next_message(), Ok(None));
        f.push(b"  ");
        assert_eq!(f.next_message(), Err(FrameError::TooLong));
    }

    #[test]
    fn deep_messages_are_refused_and_brackets_in_strings_do_not_count() {
        let mut f = Framer::default();
        f.push(format!("{}{}\0", "[".repeat(MAX_DEPTH + 1), "]".repeat(MAX_DEPTH + 1)).as_bytes());
        assert_eq!(f.next_message(), Err(FrameError::TooDeep));
        let mut f = Framer::default();
        f.push(format!("{{\"a\":\"\\\"{}\"}}\0", "[".repeat(200)).as_bytes());
        assert!(matches!(f.next_message(), Ok(Some(_))));
    }

    #[test]
    fn parameters_name_what_is_wrong() {
        use crate::domain::{DefineIn, ListIn};
        let get = |v: Value| DefineIn::from_value(Some(v)).map_err(|e| e.0);
        assert_eq!(get(serde_json::json!({})), Err("xml".into()));
        assert_eq!(get(serde_json::json!({"xml": 1})), Err("xml".into()));
        assert_eq!(get(serde_json::json!({"xml": "x", "dryrun": true})), Err("dryrun".into()));
        assert_eq!(get(serde_json::json!({"xml": "x"})), Ok(DefineIn { xml: "x".into(), dry_run: None }));
        assert_eq!(ListIn::from_value(None), Ok(ListIn::default()));
        assert_eq!(ListIn::from_value(Some(Value::Bool(true))), Err(BadParameter("parameters".into())));
    }

    #[test]
    fn errors_come_back_as_they_were() {
        use crate::domain::Error;
        let e = Error::StartFailed {
            message: "m".into(),
            step: "clone".into(),
            path: None,
            errno: Some(28),
            hint: Some("h".into()),
        };
        assert_eq!(Error::from_reply(e.name(), Some(e.parameters())), Some(e));
        assert_eq!(Error::from_reply("org.example.Nope", None), None);
    }

    #[test]
    fn a_call_is_read_as_it_was_written() {
        let mut bytes = call_bytes("io.berth.Node.GetInfo", &serde_json::json!({}), CallKind::Upgrade);
        assert_eq!(bytes.pop(), Some(0));
        let request = parse_request(&bytes);
        assert_eq!(
            request.map(|r| (r.method.into_owned(), r.upgrade, r.more)),
            Ok(("io.berth.Node.GetInfo".into(), Some(true), None))
        );
        assert!(matches!(parse_request(b"{\"method\":5}"), Err(FrameError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..20)) {
            let mut f = Framer::default();
            for chunk in chunks {
                f.push(&chunk);
                while let Ok(Some(m)) = f.next_message() {
                    let _ = parse_request(&m);
                    let _ = parse_reply(&m);
                }
            }
        }
    }
}
