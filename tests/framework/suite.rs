//! Runs a list of tests, of which some cannot run on this machine.
//!
//! A test that cannot run is counted as ignored and says why. In CI (`CI=true`) it fails instead: there nothing may
//! be left out in silence.

use libtest_mimic::{Arguments, Failed, Trial};

use crate::Outcome;

/// A test: its name and what it does.
pub type Test = (&'static str, fn() -> Outcome);

/// Runs the tests. `obstacle` is why none of them can run here.
pub fn run(tests: &[Test], obstacle: Option<String>) -> ! {
    run_but(tests, obstacle, None)
}

/// The same without the tests whose names begin with a word, and why. Also in CI: those are ones that CI runs elsewhere.
pub fn run_but(tests: &[Test], obstacle: Option<String>, elsewhere: Option<(&str, String)>) -> ! {
    let mut arguments = Arguments::from_args();
    // Containers are started and killed: more than the processors at once only makes deadlines meaningless.
    arguments.test_threads.get_or_insert(2);
    let strict = std::env::var_os("CI").is_some();
    if let Some(reason) = &obstacle {
        eprintln!("skipped, because {reason}");
    }
    if let Some((start, reason)) = &elsewhere {
        eprintln!("skipped {start}*, because {reason}");
    }
    let obstacle_there = obstacle.is_some();
    let trials = tests
        .iter()
        .map(|&(name, test)| {
            let obstacle = obstacle.clone();
            let left_out = elsewhere.as_ref().is_some_and(|(start, _)| name.starts_with(start));
            let trial = Trial::test(name, move || match obstacle {
                Some(reason) => {
                    Err(Failed::from(format!("cannot run here, but CI leaves nothing out: {reason}")))
                }
                None => test().map_err(Failed::from),
            });
            trial.with_ignored_flag(left_out || obstacle_there && !strict)
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit()
}
