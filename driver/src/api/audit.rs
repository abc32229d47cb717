//! The record of who did what: one line of the log for each call that changes something or shows what is a container's
//! own, whichever door it came through and whatever became of it.
//!
//! Does not know what any method does. Words of callers are cut, and lose their control characters.

use crate::api::access::{self, Method};

/// How many characters of a name or of a reason are told.
const MOST: usize = 200;

/// Who asks. None: the door cannot tell.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asker {
    /// The user.
    pub uid: Option<u32>,
    /// The process; another may have its number by the time somebody reads that.
    pub pid: Option<u32>,
}

/// Notes what became of a call. An empty `object` is one that the call does not name; no `failure` means that it was done.
pub fn note(door: &str, asker: Asker, method: Method, object: &str, failure: Option<&str>) {
    if !access::is_noted(method) {
        return;
    }
    let known = |number: Option<u32>| number.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
    let (uid, pid, operation) = (known(asker.uid), known(asker.pid), method.name());
    let (object, result) = (clean(object), failure.map_or_else(|| "done".to_owned(), clean));
    let of = if object.is_empty() { String::new() } else { format!(" of '{object}'") };
    tracing::info!(
        target: "audit",
        operation, object, uid, pid, door, result,
        "user {uid}, process {pid}, by {door}: {operation}{of}: {result}"
    );
}

fn clean(text: &str) -> String {
    let mut clean: String = text
        .chars()
        .take(MOST)
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if text.chars().nth(MOST).is_some() {
        clean.push('…');
    }
    clean
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn words_of_callers_are_one_short_line() {
        assert_eq!(clean("web"), "web");
        assert_eq!(clean("a\nb\u{1b}[31m"), "a\u{fffd}b\u{fffd}[31m");
        assert_eq!(clean(&"ä".repeat(300)).chars().count(), MOST + 1);
    }
}
