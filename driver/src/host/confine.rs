//! The controller's own AppArmor profile: asked for by its name, as its program may have no path to be known by.
//!
//! The kernel keeps what a thread wants for its next exec, and a child made by the thread inherits that
//! (`apparmor_task_alloc`). So it is asked for in a thread that does nothing else and ends. Does not know the program.

use std::io;
use std::path::Path;

use berth_apparmor::CONTROLLER;

/// Where a thread asks: <https://docs.kernel.org/userspace-api/lsm.html>, and apparmor(7).
const ASK: &str = "/proc/thread-self/attr/apparmor/exec";

/// The profiles in the kernel.
const LOADED: &str = "/sys/kernel/security/apparmor/profiles";

/// Runs `spawn` so that the program that it starts gets the controller's profile, if that is loaded. A host without
/// AppArmor, or without the profile, is no error.
pub fn as_controller<T: Send>(spawn: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    if !is_loaded(Path::new(LOADED)) {
        return spawn();
    }
    let in_thread = || {
        let ask = || {
            std::fs::write(ASK, format!("exec {CONTROLLER}")).map_err(|e| {
                io::Error::new(e.kind(), format!("cannot ask for the profile '{CONTROLLER}': {e}"))
            })
        };
        // What spawns may need the runtime of the caller.
        ask().and_then(|()| spawn())
    };
    std::thread::scope(|scope| {
        scope
            .spawn(in_thread)
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that spawns failed")))
    })
}

fn is_loaded(list: &Path) -> bool {
    let text = std::fs::read_to_string(list).unwrap_or_default();
    text.lines().any(|line| line.rsplit_once(" (").is_some_and(|(name, _)| name == CONTROLLER))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_profile_is_found_by_its_whole_name() {
        let file = tempfile::NamedTempFile::new().expect("file");
        assert!(!is_loaded(file.path()));
        std::fs::write(file.path(), "berth-controller-x (enforce)\n").expect("written");
        assert!(!is_loaded(file.path()));
        std::fs::write(file.path(), "a (enforce)\nberth-controller (complain)\n").expect("written");
        assert!(is_loaded(file.path()));
        assert!(!is_loaded(Path::new("/nonexistent")));
    }

    #[test]
    fn what_is_spawned_is_answered() {
        assert_eq!(as_controller(|| Ok(7)).expect("spawned"), 7);
        assert!(as_controller(|| Err::<(), _>(io::Error::other("x"))).is_err());
    }
}
