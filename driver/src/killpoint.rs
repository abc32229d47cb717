//! Places where a test lets the daemon kill itself, to show that being killed anywhere is harmless.
//!
//! Without `BERTH_KILL_AT=daemon:STEP` in the environment nothing ever happens here.

use std::sync::OnceLock;

/// Environment variable: `daemon:STEP` for a step here, any other name for one of a controller.
pub const VARIABLE: &str = "BERTH_KILL_AT";

fn wanted() -> Option<&'static str> {
    static WANTED: OnceLock<Option<String>> = OnceLock::new();
    WANTED.get_or_init(|| std::env::var(VARIABLE).ok()).as_deref()
}

/// The step at which a controller is to kill itself.
pub fn of_controller() -> Option<&'static str> {
    wanted().filter(|step| !step.starts_with("daemon:"))
}

/// The daemon is here; it may not get any further.
pub fn reached(step: &str) {
    if wanted().and_then(|w| w.strip_prefix("daemon:")) == Some(step) {
        // Nothing can be done about a failure, and there is none: it is our own process.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}
