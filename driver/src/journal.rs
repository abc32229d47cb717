//! The daemon's log: lines on standard error, or entries of the journal with fields of their own where that is the
//! journal.
//!
//! What belongs to a domain is told within its span, so that an entry has `BERTH_DOMAIN`, `BERTH_UUID` and, of a start or
//! an end, `BERTH_OPERATION`. The record of who did what has the first two as fields of its own, and `BERTH_METHOD`; so
//! `journalctl BERTH_DOMAIN=web` is a domain's story. Lines have the message alone. Nobody waits for whoever keeps the log
//! (`queue.rs`): what there is no room for is lost, and told of. Does not know what is told. Sources: systemd.exec(5) "$JOURNAL_STREAM", systemd.journal-fields(7).

mod lines;
mod native;
mod queue;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::borrow::Cow;
use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use berth_schemas::name::DomainName;
use berth_schemas::words::shown;
use tracing::{Level, Metadata, Span};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use uuid::Uuid;

use queue::{Outlet, Queue, Share};

/// What spans are told under: filters know them by it.
const SPANS: &str = "berth::span";

/// What tells of lost entries: no filter takes that away.
const LOSS: &str = "berth::loss";

/// What the record of who did what is told under.
pub const AUDIT: &str = "audit";

/// The name of the field that says what an entry is in the journal, in place of its level.
pub const PRIORITY: &str = "priority";

/// What a call that failed is in the journal: more than what goes on, less than what goes wrong.
pub const NOTICE: u64 = 5;

/// How long the end of the process waits for whoever keeps the log.
const LAST: Duration = Duration::from_secs(1);

/// The log, which has all that was told when this is gone, if whoever keeps it reads.
#[derive(Debug)]
pub struct Log {
    queue: Arc<Queue>,
    kept: Kept,
}

/// Who keeps the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Journal,
    Lines,
}

impl Kept {
    /// What is told beside all filters.
    fn plain(self, message: &str) -> Vec<u8> {
        match self {
            Self::Journal => native::plain(message),
            Self::Lines => format!("{message}\n").into_bytes(),
        }
    }
}

/// Begins to log at a level, or by directives as `tracing_subscriber` has them.
pub fn start(level: &str) -> Result<Log, String> {
    let filter = EnvFilter::try_new(level).map_err(|e| format!("cannot log at '{level}': {e}"))?;
    let with = |filter: EnvFilter, target: &str, level: &str| {
        let directive =
            format!("{target}={level}").parse().map_err(|e| format!("cannot log '{target}': {e}"))?;
        Ok::<_, String>(filter.add_directive(directive))
    };
    let filter = with(filter, LOSS, "warn")?;
    let journal = is_journal().then(|| native::Socket::to(Path::new(native::SOCKET))).and_then(Result::ok);
    let (kept, outlet): (_, Box<dyn Outlet>) = match journal {
        Some(socket) => (Kept::Journal, Box::new(socket)),
        None => {
            let stream = lines::Stream::to(std::io::stderr());
            (Kept::Lines, Box::new(stream.map_err(|e| format!("cannot log to standard error: {e}"))?))
        }
    };
    let queue = Queue::start(outlet, lost).map_err(|e| format!("cannot start the thread of the log: {e}"))?;
    match kept {
        Kept::Journal => {
            let entries = native::Entries(queue.clone());
            tracing_subscriber::registry().with(with(filter, SPANS, "info")?).with(entries).init();
        }
        Kept::Lines => {
            let message = format::debug_fn(|writer, field, value| match field.name() {
                // Whoever chose a name in it must not write lines of their own.
                "message" => write!(writer, "{}", shown(&format!("{value:?}"))),
                _ => Ok(()),
            });
            tracing_subscriber::fmt()
                .with_env_filter(with(filter, SPANS, "off")?)
                .with_writer(lines::Lines(queue.clone()))
                .with_ansi(std::io::stderr().is_terminal())
                .fmt_fields(message)
                .init();
        }
    }
    let told = queue.clone();
    std::panic::set_hook(Box::new(move |panic| told.push(Share::Record, kept.plain(&panicked(panic)))));
    Ok(Log { queue, kept })
}

impl Log {
    /// Tells why the process ends, whatever is filtered.
    pub fn fail(&self, message: &str) {
        self.queue.push(Share::Record, self.kept.plain(&format!("berthd: {message}")));
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.queue.finish(LAST);
    }
}

/// The standard library would wait until somebody reads it.
fn panicked(panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let message = shown(panic.payload_as_str().unwrap_or("no message"));
    let text = format!("thread '{}' panicked at {place}: {message}", thread.name().unwrap_or("?"));
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured { format!("{text}\n{trace}") } else { text }
}

fn lost(_: &Queue, lost: u64) {
    let entries = if lost == 1 { "log entry was" } else { "log entries were" };
    tracing::warn!(target: LOSS, lost, "{lost} {entries} lost");
}

/// How much of the log's room an entry may fill.
fn share(meta: &Metadata<'_>) -> Share {
    match *meta.level() {
        _ if meta.target() == LOSS => Share::Loss,
        _ if meta.target() == AUDIT => Share::Record,
        Level::ERROR | Level::WARN => Share::Record,
        Level::INFO => Share::Ordinary,
        Level::DEBUG | Level::TRACE => Share::Detail,
    }
}

/// Whether standard error is the journal: the service manager says which file that is.
fn is_journal() -> bool {
    let Ok(said) = std::env::var("JOURNAL_STREAM") else { return false };
    let found = rustix::fs::fstat(std::io::stderr());
    found.is_ok_and(|stat| said == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// How many characters of a word of somebody else's are told.
pub const MOST: usize = 200;

/// A word of somebody else's for a line: a name, a reason, an address.
pub fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(MOST) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// The span of what belongs to a domain.
pub fn domain_span(name: &DomainName, uuid: Uuid) -> Span {
    tracing::info_span!(target: SPANS, "domain", domain = %name, %uuid)
}

/// The span of an operation on it.
pub fn operation_span(operation: &str) -> Span {
    tracing::info_span!(target: SPANS, "operation", operation)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn long_words_are_cut() {
        assert_eq!(cut("web"), "web");
        let whole = "ä".repeat(MOST);
        assert_eq!(cut(&whole), whole);
        assert_eq!(cut(&"ä".repeat(MOST + 1)), format!("{whole}…"));
    }

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(shown("domain 'web': started (booted)"), "domain 'web': started (booted)");
        assert_eq!(shown("x\nINFO audit: y\r\u{1b}[2Jä"), "x\\nINFO audit: y\\r\\u{1b}[2Jä");
    }
}
