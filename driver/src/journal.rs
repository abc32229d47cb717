//! The daemon's log: lines on standard error, or entries of the journal with fields of their own where that is the
//! journal.
//!
//! What belongs to a domain is told within its span, so that an entry has `BERTH_DOMAIN`, `BERTH_UUID` and, of a start or
//! an end, `BERTH_OPERATION`. The record of who did what has the first two as fields of its own, and `BERTH_METHOD`; so
//! `journalctl BERTH_DOMAIN=web` is a domain's story. Lines have the message alone. Does not know what is told. Sources: systemd.exec(5) "$JOURNAL_STREAM", systemd.journal-fields(7).

use std::borrow::Cow;
use std::io::IsTerminal;

use berth_schemas::name::DomainName;
use berth_schemas::words::shown;
use tracing::Span;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use uuid::Uuid;

/// What spans are told under: filters know them by it.
const SPANS: &str = "berth::span";

/// Begins to log at a level, or by directives as `tracing_subscriber` has them.
pub fn start(level: &str) -> Result<(), String> {
    let filter = || EnvFilter::try_new(level).map_err(|e| format!("cannot log at '{level}': {e}"));
    if is_journal()
        && let Ok(journal) = tracing_journald::layer()
    {
        let journal = journal.with_field_prefix(Some("BERTH".into())).with_syslog_identifier("berthd".into());
        let spans = format!("{SPANS}=info").parse().map_err(|e| format!("cannot log spans: {e}"))?;
        tracing_subscriber::registry().with(filter()?.add_directive(spans)).with(journal).init();
        return Ok(());
    }
    let none = format!("{SPANS}=off").parse().map_err(|e| format!("cannot log without spans: {e}"))?;
    let message = format::debug_fn(|writer, field, value| match field.name() {
        // Whoever chose a name in it must not write lines of their own.
        "message" => write!(writer, "{}", shown(&format!("{value:?}"))),
        _ => Ok(()),
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter()?.add_directive(none))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .fmt_fields(message)
        .init();
    Ok(())
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
