//! A varlink connection with descriptors, for both sides of a call.
//!
//! Does not know any interface, nor who is at the other end.

mod channel;

pub use channel::{Channel, ChannelError, Message};
