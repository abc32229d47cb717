//! The table of invariants, each with tests that exist, and those invariants that need no container.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use berth_tests::daemon::{Daemon, dist, domain_xml};
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq};

pub const TESTS: &[Test] = &[
    ("invariants::each_has_a_test_that_exists", table),
    ("invariants::no_program_has_more_rights_than_who_runs_it", setuid),
    ("invariants::state_is_roots_alone_and_no_link_is_followed", state),
];

/// How many invariants the design has.
const COUNT: usize = 21;

fn table() -> Outcome {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(top.join("docs/invariants.md")).map_err(|e| e.to_string())?;
    let suites = ["tests/privileged", "tests/unprivileged", "driver/tests/daemon"]
        .map(|folder| sources(&top.join(folder)))
        .concat();
    let mut found = BTreeSet::new();
    for line in text.lines().filter(|l| l.starts_with("| I")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [number, what, proofs] = cells[..] else { return Err(format!("not three cells: {line}")) };
        ensure!(what.len() > 20, "{number} is not explained");
        let tests: Vec<&str> = proofs.split('`').skip(1).step_by(2).collect();
        ensure!(!tests.is_empty(), "{number} has no test");
        for test in tests {
            let exists = match test.split_once(".rs::") {
                // A test of a crate: file and function.
                Some((file, function)) => {
                    let source = fs::read_to_string(top.join(format!("{file}.rs")));
                    source.is_ok_and(|s| has_test(&s, function))
                }
                None => suites.iter().any(|s| s.contains(&format!("(\"{test}\","))),
            };
            ensure!(exists, "{number} names a test that does not exist: {test}");
        }
        ensure!(found.insert(number.to_owned()), "{number} is there twice");
    }
    let expected: BTreeSet<String> = (1..=COUNT).map(|n| format!("I{n}")).collect();
    ensure_eq!(found, expected, "the invariants with tests");
    Ok(())
}

/// All Rust texts below a folder.
fn sources(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
    entries
        .flat_map(|p| if p.is_dir() { sources(&p) } else { fs::read_to_string(&p).into_iter().collect() })
        .collect()
}

/// Whether a source has a test function, also one of proptest.
fn has_test(source: &str, function: &str) -> bool {
    let Some(at) = source.find(&format!("fn {function}(")) else { return false };
    let before: Vec<&str> = source[..at].trim_end().rsplit('\n').map(str::trim).take(3).collect();
    before.iter().any(|l| *l == "#[test]" || *l == "#[tokio::test]" || l.ends_with("async"))
}

/// I8.
fn setuid() -> Outcome {
    let dist = dist()?;
    for name in ["berthd", "berth-controller", "virsh-lite"] {
        let path = dist.join(name);
        let mode = fs::metadata(&path).map_err(|e| format!("'{}': {e}", path.display()))?.mode();
        ensure_eq!(mode & 0o6000, 0, "bits for others' rights of {name}");
        let mut buffer = [0; 64];
        let capability = rustix::fs::lgetxattr(&path, "security.capability", &mut buffer);
        ensure!(capability.is_err(), "{name} has capabilities of its own");
    }
    Ok(())
}

/// I9.
fn state() -> Outcome {
    let mut daemon = Daemon::start()?;
    daemon.define("t-i9", &domain_xml("t-i9", Path::new("/nowhere"), &["/bin/sh"], ""))?;
    daemon.ok(&["autostart", "t-i9"])?;
    daemon.kill();
    let root = daemon.root();
    let run = root.join("run/berth");
    for folder in [
        "etc/berth/domains",
        "etc/berth/autostart",
        "run/berth/state",
        "run/berth/controllers",
        "var/lib/berth",
        "var/log/berth",
    ] {
        let meta = fs::symlink_metadata(root.join(folder)).map_err(|e| format!("{folder}: {e}"))?;
        ensure_eq!(meta.mode() & 0o7777, 0o700, "the mode of {folder}");
        ensure_eq!(meta.uid(), nix::unistd::geteuid().as_raw(), "the owner of {folder}");
    }
    // Files that somebody else would like to be read or written.
    let victim = daemon.work().join("victim");
    fs::write(&victim, "untouched").map_err(|e| e.to_string())?;
    let uuid = "8b5c6f2e-4a0f-4c3e-9d4e-000000000009";
    for name in [
        format!("state/{uuid}.json"),
        format!("state/{uuid}.json.new"),
        format!("state/{uuid}.exit"),
        "autostarted".into(),
    ] {
        let _ = fs::remove_file(run.join(&name));
        symlink(&victim, run.join(&name)).map_err(|e| format!("{name}: {e}"))?;
    }
    // A link where the daemon writes what it must: it says so and does not start, or does without.
    let answered = daemon.launch();
    if let Err(told) = &answered {
        ensure!(told.contains("autostart") || told.contains("symbolic link"), "{told}");
        daemon.kill();
        fs::remove_file(run.join("autostarted")).map_err(|e| e.to_string())?;
        daemon.launch()?;
    }
    ensure_eq!(fs::read_to_string(&victim).unwrap_or_default(), "untouched".to_owned(), "behind the links");
    ensure!(!run.join(format!("state/{uuid}.json")).is_symlink(), "a link is still taken for a record");
    daemon.kill();
    for name in ["sequence", "ended", "berthd.lock"] {
        let path = run.join(name);
        let aside = run.join("aside");
        fs::rename(&path, &aside).map_err(|e| format!("{name}: {e}"))?;
        symlink(&victim, &path).map_err(|e| e.to_string())?;
        let told = daemon.launch().err().ok_or_else(|| format!("'{name}' is a link, and it is followed"))?;
        ensure!(told.contains("symbolic link"), "{name}: {told}");
        daemon.kill();
        fs::rename(&aside, &path).map_err(|e| e.to_string())?;
    }
    // A folder of ours that is a link: not even looked into.
    let elsewhere = daemon.work().join("elsewhere");
    fs::create_dir(&elsewhere).map_err(|e| e.to_string())?;
    fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o755)).map_err(|e| e.to_string())?;
    fs::remove_dir_all(run.join("state")).map_err(|e| e.to_string())?;
    symlink(&elsewhere, run.join("state")).map_err(|e| e.to_string())?;
    let told = daemon.launch().err().ok_or("a link in place of the folder of state is followed")?;
    ensure!(told.contains("symbolic link"), "{told}");
    ensure_eq!(fs::metadata(&elsewhere).map_or(0, |m| m.mode() & 0o777), 0o755, "the mode behind the link");
    daemon.kill();
    fs::remove_file(run.join("state")).map_err(|e| e.to_string())?;
    ensure_eq!(fs::read_to_string(&victim).unwrap_or_default(), "untouched".to_owned(), "behind the links");
    daemon.launch()?;
    daemon.ok(&["domuuid", "t-i9"]).map(drop)
}
