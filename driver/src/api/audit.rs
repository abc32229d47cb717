//! The record of who did what: one line of the log for each call that changes something or shows what is a container's
//! own, whichever door it came through and whatever became of it.
//!
//! Does not know what any method does. Words of callers are cut, and lose their control characters.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::api::access::{self, Method};
use crate::journal::cut;

/// How many failed calls of one user are told in a while; more are counted. Everybody may ask for what they are refused, and
/// a full disk or the journal's own limit would lose the records of others.
const MOST_FAILURES: u32 = 100;

/// See `MOST_FAILURES`.
const WHILE: Duration = Duration::from_secs(10);

/// The most users whose failures are counted.
const MOST_USERS: usize = 1024;

/// Failed calls of users, root's excepted.
#[derive(Debug, Default)]
struct Failures(HashMap<u32, (Instant, u32)>);

impl Failures {
    /// Whether one of a user is told, and how many of theirs were not told before it.
    fn count(&mut self, uid: u32, now: Instant) -> (bool, u32) {
        if self.0.len() >= MOST_USERS && !self.0.contains_key(&uid) {
            self.0.retain(|_, (begin, _)| now.duration_since(*begin) < WHILE);
            // So many at once are no users of ours.
            if self.0.len() >= MOST_USERS {
                return (false, 0);
            }
        }
        let (begin, count) = self.0.entry(uid).or_insert((now, 0));
        let mut untold = 0;
        if now.duration_since(*begin) >= WHILE {
            untold = count.saturating_sub(MOST_FAILURES);
            (*begin, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        (*count <= MOST_FAILURES, untold)
    }
}

static FAILURES: LazyLock<Mutex<Failures>> = LazyLock::new(Mutex::default);

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
    if failure.is_some()
        && let Some(uid) = asker.uid.filter(|uid| *uid != 0)
    {
        let mut failures = FAILURES.lock().unwrap_or_else(PoisonError::into_inner);
        let (told, untold) = failures.count(uid, Instant::now());
        drop(failures);
        if untold > 0 {
            tracing::warn!(target: "audit", uid, untold, "user {uid}: {untold} more calls that failed are not told");
        }
        if !told {
            return;
        }
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
    cut(text).chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::journal::MOST;

    #[test]
    fn failures_of_one_user_are_told_up_to_a_number() {
        let (mut failures, begin) = (Failures::default(), Instant::now());
        let told = (0..500).filter(|_| failures.count(7, begin).0).count();
        assert_eq!(told, MOST_FAILURES as usize);
        assert_eq!(failures.count(8, begin), (true, 0));
        assert_eq!(failures.count(7, begin + WHILE), (true, 400));
        assert_eq!(failures.count(7, begin + WHILE), (true, 0));
        for uid in 0..5000 {
            failures.count(uid, begin + WHILE);
        }
        assert_eq!(failures.0.len(), MOST_USERS);
        assert!(failures.count(9000, begin + WHILE * 2).0);
    }

    #[test]
    fn words_of_callers_are_one_short_line() {
        assert_eq!(clean("web"), "web");
        assert_eq!(clean("a\nb\u{1b}[31m"), "a\u{fffd}b\u{fffd}[31m");
        assert_eq!(clean(&"ä".repeat(300)).chars().count(), MOST + 1);
    }
}
