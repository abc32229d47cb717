//! The record of who did what: one line of the log for each call that changes something or shows what is a container's
//! own, whichever door it came through and whatever became of it.
//!
//! Does not know what any method does. Words of callers are cut, and lose what a terminal would obey.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use berth_schemas::words::is_obeyed;
use uuid::Uuid;

use crate::api::access::{self, Method};
use crate::engine::registry::{Reference, Registry};
use crate::engine::snapshot::Snapshot;
use crate::journal::{AUDIT, NOTICE, cut};

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

fn known(number: Option<u32>) -> String {
    number.map_or_else(|| "unknown".to_owned(), |n| n.to_string())
}

impl Asker {
    /// In the words of the log.
    pub fn by(self, door: &str) -> String {
        format!("user {}, process {}, by {door}", known(self.uid), known(self.pid))
    }
}

/// What a call is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// In the words of the line; empty if the call does not name it.
    pub object: String,
    /// A domain's name; as the caller gave it, if there is no such domain.
    pub domain: Option<String>,
    /// A domain's uuid.
    pub uuid: Option<Uuid>,
}

impl About {
    /// What is no domain.
    pub fn other(object: String) -> Self {
        Self { object, ..Self::default() }
    }

    /// A domain that there is.
    pub fn known(snapshot: &Snapshot) -> Self {
        let name = snapshot.name.to_string();
        Self { object: name.clone(), domain: Some(name), uuid: Some(snapshot.uuid) }
    }

    /// A domain as a caller names it.
    pub fn domain(object: String, reference: &Reference, registry: &Registry) -> Self {
        let known = registry.find(reference).ok();
        let (domain, uuid) = match known {
            Some(entry) => (Some(entry.name.to_string()), Some(entry.uuid)),
            None => (reference.name.clone(), reference.uuid.as_deref().and_then(|u| Uuid::parse_str(u).ok())),
        };
        Self { object, domain, uuid }
    }
}

/// Notes what became of a call; no `failure` means that it was done.
pub fn note(door: &str, asker: Asker, method: Method, about: &About, failure: Option<&str>) {
    if access::is_noted(method) {
        record(door, asker, method.name(), about, failure);
    }
}

/// The same of what is no method of the engine, but asks for a change.
pub fn record(door: &str, asker: Asker, method: &str, about: &About, failure: Option<&str>) {
    if failure.is_some()
        && let Some(uid) = asker.uid.filter(|uid| *uid != 0)
    {
        let mut failures = FAILURES.lock().unwrap_or_else(PoisonError::into_inner);
        let (told, untold) = failures.count(uid, Instant::now());
        drop(failures);
        if untold > 0 {
            tracing::warn!(target: AUDIT, uid, untold, "user {uid}: {untold} more calls that failed are not told");
        }
        if !told {
            return;
        }
    }
    let (caller, pid) = (known(asker.uid), known(asker.pid));
    let (object, result) = (clean(&about.object), failure.map_or_else(|| "done".to_owned(), clean));
    let of = if object.is_empty() { String::new() } else { format!(" of '{object}'") };
    // Beside what its task tells, so that the story of a domain has who wanted what.
    let (domain, uuid) = (about.domain.as_deref().map(clean), about.uuid.map(|u| u.to_string()));
    let priority = failure.map(|_| NOTICE);
    tracing::info!(
        target: AUDIT,
        priority, method, object, domain, uuid, uid = caller, pid, door, result,
        "{}: {method}{of}: {result}",
        asker.by(door)
    );
}

fn clean(text: &str) -> String {
    cut(text).chars().map(|c| if is_obeyed(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod test {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use berth_schemas::domain::Method as Domain;
    use tracing::field::{Field, Visit};
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt};

    use super::*;
    use crate::journal::MOST;

    /// Fields of entries, as the journal gets them.
    #[derive(Clone, Default)]
    struct Entries(Arc<Mutex<Vec<BTreeMap<&'static str, String>>>>);

    impl<S: tracing::Subscriber> Layer<S> for Entries {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            struct Fields(BTreeMap<&'static str, String>);
            impl Visit for Fields {
                fn record_str(&mut self, field: &Field, value: &str) {
                    self.0.insert(field.name(), value.to_owned());
                }
                fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                    self.0.insert(field.name(), format!("{value:?}"));
                }
            }
            let mut fields = Fields(BTreeMap::new());
            event.record(&mut fields);
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(fields.0);
        }
    }

    #[test]
    fn a_record_of_a_domain_is_part_of_its_story() {
        let entries = Entries::default();
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(entries.clone()));
        let (asker, stop) = (Asker { uid: Some(0), pid: Some(7) }, Method::Domain(Domain::Destroy));
        let uuid = Uuid::from_u128(7);
        let web = About { object: "web".into(), domain: Some("web".into()), uuid: Some(uuid) };
        note("varlink", asker, stop, &web, None);
        let nobody = Reference::by_name("nobody");
        let nobody = About::domain(nobody.text(), &nobody, &Registry::default());
        note("varlink", asker, stop, &nobody, Some("no such domain"));
        let unknown = Reference { uuid: Some(uuid.to_string()), ..Reference::default() };
        note("varlink", asker, stop, &About::domain(unknown.text(), &unknown, &Registry::default()), None);
        record("D-Bus", asker, "x.Set", &About::other("lab".into()), Some("no"));
        let seen = entries.0.lock().expect("entries");
        let field = |n: usize, name: &str| seen[n].get(name).map(String::as_str);
        assert_eq!(
            field(0, "message"),
            Some("user 0, process 7, by varlink: io.berth.Domain.Destroy of 'web': done")
        );
        assert_eq!(field(0, "method"), Some("io.berth.Domain.Destroy"));
        assert_eq!(field(0, "operation"), None);
        assert_eq!((field(0, "domain"), field(0, "uuid")), (Some("web"), Some(&*uuid.to_string())));
        assert_eq!((field(0, "uid"), field(0, "pid")), (Some("0"), Some("7")));
        assert_eq!((field(1, "domain"), field(1, "uuid")), (Some("nobody"), None));
        assert_eq!((field(2, "domain"), field(2, "uuid")), (None, Some(&*uuid.to_string())));
        assert_eq!((field(3, "domain"), field(3, "object")), (None, Some("lab")));
        assert_eq!(field(3, "message"), Some("user 0, process 7, by D-Bus: x.Set of 'lab': no"));
    }

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
        assert_eq!(clean("web\u{202e}bew\u{2066}"), "web\u{fffd}bew\u{fffd}");
        assert_eq!(clean(&"ä".repeat(300)).chars().count(), MOST + 1);
    }
}
