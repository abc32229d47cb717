//! What the targets of both servers share: chunks of a stream, and parameters of every method.

use std::fmt::Debug;

use berth_schemas::wire::{Framer, Parameters};
use serde::Serialize;
use serde_json::Value;

/// Cuts `data` into what one read of a socket may have given: each piece begins with its length and, in the two
/// highest bits, how many descriptors came with it.
pub fn chunks(mut data: &[u8]) -> Vec<(usize, &[u8])> {
    let mut chunks = Vec::new();
    while let Some((head, rest)) = data.split_first() {
        // Once in a while all that is left, so that long messages are in reach.
        let length = if head & 0x3f == 0x3f { rest.len() } else { usize::from(head & 0x3f) * 4 + 1 };
        let (piece, rest) = rest.split_at(length.min(rest.len()));
        if !piece.is_empty() {
            chunks.push((usize::from(head >> 6), piece));
        }
        data = rest;
    }
    chunks
}

/// The messages of a stream, however it is cut: what is before the first that is refused.
pub fn whole(stream: &[u8]) -> Vec<Vec<u8>> {
    let mut framer = Framer::default();
    framer.push(stream);
    let mut messages = Vec::new();
    while let Ok(Some(message)) = framer.next_message() {
        messages.push(message);
    }
    messages
}

/// Parameters that are accepted mean the same when they are sent on.
pub fn parameters<P: Parameters + Serialize + PartialEq + Debug>(value: &Option<Value>) {
    let Ok(read) = P::from_value(value.clone()) else { return };
    let again = serde_json::to_value(&read).unwrap_or_else(|e| panic!("{e}"));
    match P::from_value(Some(again)) {
        Ok(same) => assert_eq!(same, read),
        Err(e) => panic!("own parameters refused: {e:?}"),
    }
}
