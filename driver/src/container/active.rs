//! How a run ended, and what that means: pure translations.
//!
//! Does not know who ended it.

use berth_schemas::controller::{
    ControllerEvent, ControllerEventKind, ControllerExit, ExitRecord, StepFailure,
};
use berth_schemas::domain::{EventKind, Exit, ExitKind, Reason};

use crate::engine::publish::{Draft, now_usec};
use crate::journal::cut;

/// What a controller says about an end, in the words of the domain.
pub fn exit(from: &ControllerExit) -> Exit {
    let kind = match from.kind.as_str() {
        "poweroff" => ExitKind::Poweroff,
        "reboot" => ExitKind::Reboot,
        "exited" => ExitKind::Exited,
        "signaled" => ExitKind::Signaled,
        "oom" => ExitKind::Oom,
        "destroyed" => ExitKind::Destroyed,
        // A later controller may know more; that nobody here knows how it ended is what is left to say.
        _ => ExitKind::ControllerLost,
    };
    Exit { kind, status: from.status, signal: from.signal, at_u_sec: from.at_u_sec }
}

/// The end in an event about one.
pub fn exit_of(event: &ControllerEvent) -> Exit {
    event.exit.as_ref().map_or_else(|| unreported(ExitKind::ControllerLost, now_usec()), exit)
}

/// What is told about processes that were killed for want of memory.
pub fn oom_draft(event: &ControllerEvent) -> Draft {
    Draft { count: event.count, ..Draft::blank(EventKind::OomKilled) }
}

/// An end that nobody reported.
pub fn unreported(kind: ExitKind, at_usec: i64) -> Exit {
    Exit { kind, status: None, signal: None, at_u_sec: at_usec }
}

/// Whether an end is a crash. After a request to shut down, an init that exits or dies of a signal did what it was
/// asked to.
pub fn is_crash(exit: &Exit, shutdown_asked: bool) -> bool {
    match exit.kind {
        ExitKind::Poweroff | ExitKind::Reboot | ExitKind::Destroyed => false,
        ExitKind::Exited => exit.status != Some(0) && !shutdown_asked,
        ExitKind::Signaled => !shutdown_asked,
        ExitKind::Oom | ExitKind::ControllerLost => true,
    }
}

/// Why a domain is shut off after an end.
pub fn reason(exit: &Exit, shutdown_asked: bool, failed_restart: bool) -> Reason {
    if exit.kind == ExitKind::Destroyed {
        Reason::Destroyed
    } else if failed_restart {
        Reason::Failed
    } else if is_crash(exit, shutdown_asked) {
        Reason::Crashed
    } else {
        Reason::Shutdown
    }
}

/// What is told about an end.
pub fn stop_drafts(exit: &Exit, reason: Reason) -> Vec<Draft> {
    let stopped = Draft { exit: Some(exit.clone()), ..Draft::new(EventKind::Stopped, reason.as_str()) };
    let crashed = Draft { exit: Some(exit.clone()), ..Draft::blank(EventKind::Crashed) };
    if reason == Reason::Crashed { vec![crashed, stopped] } else { vec![stopped] }
}

/// What is told about a restart, and the reason that the domain runs for from then on.
pub fn restart_drafts(exit: &Exit) -> (Vec<Draft>, Reason) {
    if exit.kind == ExitKind::Reboot {
        let draft = Draft { exit: Some(exit.clone()), ..Draft::blank(EventKind::Rebooted) };
        return (vec![draft], Reason::Rebooted);
    }
    let mut drafts = Vec::new();
    if is_crash(exit, false) {
        drafts.push(Draft { exit: Some(exit.clone()), ..Draft::blank(EventKind::Crashed) });
    }
    drafts.push(Draft::new(EventKind::Started, "restarted"));
    (drafts, Reason::Restarted)
}

/// An event as a line of the log: what happened, more about it in brackets, and how init ended. Details can be of any
/// length: a URI of metadata is.
pub fn line(draft: &Draft) -> String {
    let mut text = draft.kind.as_str().to_owned();
    // Of an element its namespace tells more.
    if let (Some(part), None) = (draft.metadata, &draft.detail) {
        text.push_str(&format!(" ({})", part.as_str()));
    }
    if let Some(detail) = &draft.detail {
        text.push_str(&format!(" ({})", cut(detail)));
    }
    if let Some(count) = draft.count {
        text.push_str(&format!(" ({count} processes)"));
    }
    for tunable in &draft.tunables {
        text.push_str(&format!(" ({}={})", tunable.name, tunable.value));
    }
    if let Some(exit) = &draft.exit {
        text.push_str(&format!(": {}", exit.kind.as_str()));
        text.extend(exit.status.map(|status| format!(" with status {status}")));
        text.extend(exit.signal.map(|signal| format!(" by signal {signal}")));
    }
    text
}

/// The end itself, and the restart that failed before it, if one did.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// How.
    pub exit: Exit,
    /// What failed.
    pub failure: Option<StepFailure>,
}

/// The end among the events of an exit record.
pub fn ended(record: &ExitRecord) -> Option<Ended> {
    record.events.iter().rev().find(|e| e.kind == ControllerEventKind::Ended).map(ended_event)
}

/// The end in an event.
pub fn ended_event(event: &ControllerEvent) -> Ended {
    Ended { exit: exit_of(event), failure: event.failure.clone() }
}

#[cfg(test)]
mod test {
    use berth_schemas::domain::MetadataKind;

    use super::*;

    fn end(kind: &str, status: Option<i64>) -> Exit {
        exit(&ControllerExit { kind: kind.into(), status, signal: None, at_u_sec: 7 })
    }

    #[test]
    fn reasons_follow_the_end() {
        assert_eq!(reason(&end("poweroff", None), false, false), Reason::Shutdown);
        assert_eq!(reason(&end("exited", Some(0)), false, false), Reason::Shutdown);
        assert_eq!(reason(&end("exited", Some(3)), false, false), Reason::Crashed);
        assert_eq!(reason(&end("exited", Some(3)), true, false), Reason::Shutdown);
        assert_eq!(reason(&end("signaled", None), false, false), Reason::Crashed);
        assert_eq!(reason(&end("signaled", None), true, false), Reason::Shutdown);
        assert_eq!(reason(&end("oom", None), true, false), Reason::Crashed);
        assert_eq!(reason(&end("reboot", None), false, true), Reason::Failed);
        assert_eq!(reason(&end("destroyed", None), false, false), Reason::Destroyed);
        assert_eq!(reason(&end("from the future", None), false, false), Reason::Crashed);
    }

    #[test]
    fn lines_say_what_and_why() {
        assert_eq!(line(&Draft::new(EventKind::Started, "booted")), "started (booted)");
        let exited =
            Draft { exit: Some(end("exited", Some(3))), ..Draft::new(EventKind::Stopped, "crashed") };
        assert_eq!(line(&exited), "stopped (crashed): exited with status 3");
        assert_eq!(
            line(&Draft { count: Some(2), ..Draft::blank(EventKind::OomKilled) }),
            "oomKilled (2 processes)"
        );
        let title = Draft { metadata: Some(MetadataKind::Title), ..Draft::blank(EventKind::Metadata) };
        assert_eq!(line(&title), "metadata (title)");
        let long = line(&Draft::new(EventKind::Metadata, &"u".repeat(100_000)));
        assert_eq!(long, format!("metadata ({}…)", "u".repeat(200)));
    }

    #[test]
    fn crashes_are_told_twice_and_reboots_are_no_starts() {
        let kinds = |drafts: Vec<Draft>| drafts.into_iter().map(|d| d.kind).collect::<Vec<_>>();
        let oom = end("oom", None);
        assert_eq!(kinds(stop_drafts(&oom, Reason::Crashed)), [EventKind::Crashed, EventKind::Stopped]);
        assert_eq!(kinds(restart_drafts(&end("reboot", None)).0), [EventKind::Rebooted]);
        assert_eq!(kinds(restart_drafts(&oom).0), [EventKind::Crashed, EventKind::Started]);
    }
}
