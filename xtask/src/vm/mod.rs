//! The privileged tests in a virtual machine: Debian's kernel with AppArmor enforced, control groups v2 alone, roots on
//! an ext4, and nothing but our programs.
//!
//! It does not know what the tests do, except which of them cannot hold their deadlines on a processor that is
//! emulated, and it changes nothing on this machine outside the target folder.

mod image;
mod kernel;
mod machine;
mod systemd;

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::{dist, run};
use kernel::Kernel;
use machine::Machine;

const USAGE: &str =
    "usage: cargo xtask vm [--only PATTERN | --systemd [--dist DIR] [--from PACKAGE]] [--keep]";

/// How long everything in the machine may take together.
const DEADLINE: Duration = Duration::from_secs(15 * 60);

/// By how much a deadline is longer in there that is not itself what is tested.
const PATIENCE: u32 = 6;

/// What the machine prints after the tests, followed by their exit status.
const VERDICT: &str = "berth-vm: exit status ";

/// Why modules are left out of a run of everything: with AppArmor each start also compiles a profile, which takes
/// seconds on an emulated processor. They run natively in the step before.
const OFTEN: &str =
    "many starts, each of which compiles a profile on an emulated processor; `--only` runs them";

/// Why some tests of networks and of lent interfaces are left out: what they need of the kernel and of AppArmor others need
/// too, which are run.
const LIKE_OTHERS: &str = "minutes on an emulated processor, and nothing but what others need that are run";

/// Why shares of a processor are measured natively only.
const SHARES: &str = "an answer takes many times as long on an emulated processor as it is counted with";

/// Tests (or, with `::` at the end, modules) that are left out, and why.
const SKIPS: &[(&str, &str)] = &[
    ("soak::", "the repetitions take minutes on an emulated processor"),
    ("debian::bookworm_is_used", "three boots of systemd take minutes on an emulated processor; one is made"),
    ("debian::trixie_is_used", "three boots of systemd take minutes on an emulated processor; one is made"),
    ("hostile::", OFTEN),
    ("kills::", OFTEN),
    ("console::", OFTEN),
    ("dbus::", "there is no bus in the machine"),
    ("failures::", OFTEN),
    ("life::", OFTEN),
    ("adoption::", OFTEN),
    ("account::", OFTEN),
    ("devices::", OFTEN),
    ("escape::", OFTEN),
    ("hotplug::", OFTEN),
    ("inside::", OFTEN),
    ("invariants::", OFTEN),
    ("limits::", OFTEN),
    ("links::", OFTEN),
    ("links::throughput", "an emulated processor is too slow for as many packets as are allowed"),
    ("guests::of_an_isolated_network", OFTEN),
    ("guests::of_networks_on_the_hosts_interfaces", OFTEN),
    ("guests::survive_kills_of_everybody_else", OFTEN),
    ("guests::have_what_their_portgroup_says", OFTEN),
    ("guests::have_ports_of_the_host", OFTEN),
    ("guests::addresses_are_told_on_the_bus", "there is no bus in the machine"),
    ("journal::one_that_does_not_read", "thousands of calls take a minute on an emulated processor"),
    ("lent::a_controller_killed_on_the_way_back", LIKE_OTHERS),
    ("lent::a_daemon_killed_during_a_change", LIKE_OTHERS),
    ("lent::guests_exchange_interfaces", LIKE_OTHERS),
    ("networks::a_dnsmasq_that_ends_of_reading", LIKE_OTHERS),
    ("networks::a_guest_cannot_take_all_addresses", LIKE_OTHERS),
    ("networks::a_name_of_a_domain_can_be_its_own", LIKE_OTHERS),
    ("networks::daemon_killed_at_each_step", LIKE_OTHERS),
    ("networks::guests_that_are_gone_keep_no_address", LIKE_OTHERS),
    ("networks::some_names_are_no_guests", LIKE_OTHERS),
    ("networks::texts_are_told_as_they_are", LIKE_OTHERS),
    ("networks::who_knows_its_guests_reads_its_files", LIKE_OTHERS),
    ("networks::who_waits_for_an_address", LIKE_OTHERS),
    ("pause::", OFTEN),
    ("program::", OFTEN),
    ("purge::", "the script is for the tools of Debian, and those of the machine are busybox's"),
    ("view::calls_without_end_have_a_share", SHARES),
    ("view::readers_without_end_have_a_share", SHARES),
];

/// What is asked for on the command line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    /// Part of the names of the tests to run.
    only: Option<String>,
    /// Whether the machine stays on after the tests, with a shell on the terminal.
    keep: bool,
}

/// `vm [--only PATTERN | --systemd [--dist DIR] [--from PACKAGE]] [--keep]`.
pub fn run(words: &[&str]) -> Result<(), String> {
    if let Some(("--systemd", rest)) = words.split_first().map(|(first, rest)| (*first, rest)) {
        return obstacle()
            .map_or_else(|| systemd::run(&parse_systemd(rest)?), |o| Err(format!("error: {o}")));
    }
    let request = parse(words)?;
    if let Some(reason) = obstacle() {
        return Err(format!("error: {reason}"));
    }
    if request.keep && !std::io::stdin().is_terminal() {
        return Err("error: --keep ends in a shell and needs a terminal".into());
    }
    let programs =
        [("qemu-system-x86_64", "qemu-system-x86"), ("busybox", "busybox-static"), ("cpio", "cpio")];
    let tools: Vec<_> = image::TOOLS.iter().map(|(name, _, package)| (*name, *package)).collect();
    run::need(&[&programs[..], &tools].concat())?;
    let place = run::target().join("vm");
    fs::create_dir_all(&place).map_err(|e| format!("error: cannot make '{}': {e}", place.display()))?;
    let kernel = Kernel::get(&place)?;
    println!("building");
    let dist = dist::binaries()?;
    let tests = test_program()?;
    let words = arguments(request.only.as_deref());
    let list = run::output(Command::new(&tests).args(&words).arg("--list"))?;
    if !list.contains(": test") {
        return Err(format!("error: there is no test '{}'", request.only.unwrap_or_default()));
    }
    let suites = suites(&list);
    let contents = image::Contents {
        dist: &dist,
        tests: &tests,
        words: &words,
        roots: &suites,
        keep: request.keep,
        patience: PATIENCE,
    };
    let machine = Machine {
        kernel: &kernel.image()?,
        initial: &image::initial(&place, &kernel)?,
        disk: &image::disk(&place, &contents)?,
        roots: roots(&place, &suites)?,
        log: &place.join("console.log"),
        keep: request.keep,
        deadline: DEADLINE,
    };
    println!("booting '{}'; the console is kept in '{}'", machine.kernel.display(), machine.log.display());
    let asked = |test: &str| request.only.as_deref().is_none_or(|o| test.contains(o) || o.contains(test));
    for (test, reason) in skips(request.only.as_deref()).into_iter().filter(|(test, _)| asked(test)) {
        println!("left out: {test}: {reason}");
    }
    let begin = Instant::now();
    judge(&machine.run()?)?;
    println!("passed in a virtual machine in {} s", begin.elapsed().as_secs());
    Ok(())
}

/// Why there can be no such machine here at all.
pub fn obstacle() -> Option<String> {
    let here = std::env::consts::ARCH;
    (here != "x86_64")
        .then(|| format!("the virtual machine is an x86_64 and needs programs for it, not for {here}"))
}

fn parse(words: &[&str]) -> Result<Request, String> {
    let mut request = Request::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--keep" => request.keep = true,
            "--only" => {
                // The harness would take a word with a dash for an option.
                let pattern = words.next().filter(|p| !p.is_empty() && !p.starts_with('-')).ok_or(USAGE)?;
                request.only = Some((*pattern).to_owned());
            }
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(request)
}

fn parse_systemd(words: &[&str]) -> Result<systemd::Request, String> {
    let mut request = systemd::Request::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut path = || {
            let path = words.next().ok_or(USAGE)?;
            fs::canonicalize(path).map_err(|e| format!("error: cannot use '{path}': {e}"))
        };
        match *word {
            "--keep" => request.keep = true,
            "--dist" => request.dist = Some(path()?),
            "--from" => request.from = Some(path()?),
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(request)
}

/// The tests to leave out. Who asks for one of them by its name gets it.
fn skips(only: Option<&str>) -> Vec<(&'static str, &'static str)> {
    SKIPS.iter().copied().filter(|(test, _)| !only.is_some_and(|o| o.starts_with(test))).collect()
}

/// The words for the test program.
fn arguments(only: Option<&str>) -> Vec<String> {
    let mut words = vec!["--test-threads=2".to_owned(), "--color=never".to_owned()];
    for (test, _) in skips(only) {
        words.extend(["--skip".to_owned(), test.to_owned()]);
    }
    words.extend(only.map(str::to_owned));
    words
}

fn remove(dir: &Path) -> Result<(), String> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("error: cannot remove '{}': {e}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// The Debian releases that tests in a list boot.
fn suites(list: &str) -> Vec<String> {
    let names = list.lines().filter_map(|l| l.strip_prefix("debian::")?.split_once('_'));
    let suites: std::collections::BTreeSet<String> = names.map(|(suite, _)| suite.to_owned()).collect();
    suites.into_iter().collect()
}

/// A disk with the root of each of these releases.
fn roots(place: &Path, suites: &[String]) -> Result<Vec<PathBuf>, String> {
    if suites.is_empty() {
        return Ok(Vec::new());
    }
    if !nix::unistd::geteuid().is_root() {
        return Err("error: making a Debian root needs root; choose other tests with --only".into());
    }
    run::need(&[("mmdebstrap", "mmdebstrap")])?;
    let made = run::output(
        run::cargo()
            .args(["run", "--quiet", "--package", "berth-tests", "--bin", "berth-roots", "--"])
            .args(suites)
            .stderr(Stdio::inherit()),
    )?;
    let disk = |root: &str, suite: &String| {
        image::file_system(Path::new(root), &place.join(format!("{suite}.ext4")), "4G")
    };
    made.lines().zip(suites).map(|(root, suite)| disk(root, suite)).collect()
}

/// Builds the privileged tests and tells where they are.
fn test_program() -> Result<PathBuf, String> {
    // The same build as that of `cargo xtask test`, so it is often there already.
    let messages = run::output(
        run::cargo()
            .args(["test", "--no-run", "--quiet", "--message-format=json"])
            .args(["--package", "berth-tests", "--test", "privileged"])
            .stderr(Stdio::inherit()),
    )?;
    executable(&messages, "privileged").ok_or_else(|| "error: cargo built no tests".into())
}

/// The program that belongs to a target, from the messages of cargo.
fn executable(messages: &str, target: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == target)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

/// Success is a verdict of zero, and tests that ran: a machine in which nothing can run leaves all of them out.
fn judge(console: &str) -> Result<(), String> {
    let status = console
        .lines()
        .rev()
        .find_map(|l| l.split_once(VERDICT))
        .ok_or("error: the machine ended before the tests did")?
        .1
        .trim();
    if status != "0" {
        return Err(format!("error: the tests in the machine failed with status {status}"));
    }
    let passed = console
        .lines()
        .rev()
        .find_map(|l| l.trim().strip_prefix("test result: ok. "))
        .and_then(|l| l.split_whitespace().next()?.parse::<u32>().ok());
    match passed {
        Some(0) | None => Err("error: no test ran in the machine".into()),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn words_of_the_command() {
        let request = |only: Option<&str>, keep| Request { only: only.map(str::to_owned), keep };
        assert_eq!(parse(&[]), Ok(request(None, false)));
        assert_eq!(parse(&["--keep", "--only", "life::"]), Ok(request(Some("life::"), true)));
        for wrong in [&["--only"][..], &["--only", ""], &["--only", "--list"], &["life::"]] {
            assert_eq!(parse(wrong), Err(USAGE.to_owned()), "{wrong:?}");
        }
    }

    #[test]
    fn skips_what_nobody_asked_for() {
        let skipped = |only: Option<&str>| skips(only).into_iter().map(|(t, _)| t).collect::<Vec<_>>();
        let all = skipped(None);
        assert_eq!(all.len(), SKIPS.len());
        assert_eq!(skipped(Some("idmap::")), all);
        // Whoever asks for a module gets it.
        assert!(!skipped(Some("life::")).contains(&"life::"));
        assert!(!skipped(Some("soak::calls")).contains(&"soak::"));
        assert!(
            !skipped(Some("console::memory_stays_after_a_gigabyte")).iter().any(|t| t.starts_with("con"))
        );
        assert!(SKIPS.iter().all(|(_, reason)| !reason.is_empty()));
    }

    #[test]
    fn words_for_the_tests() {
        let words = arguments(Some("idmap::"));
        assert_eq!(words.first().map(String::as_str), Some("--test-threads=2"));
        assert_eq!(words.last().map(String::as_str), Some("idmap::"));
        assert_eq!(words.iter().filter(|w| *w == "--skip").count(), SKIPS.len());
        assert_eq!(arguments(None).len(), 2 + 2 * SKIPS.len());
    }

    #[test]
    fn only_roots_that_are_booted_are_made() {
        let list = "life::start: test\ndebian::trixie_boots: test\ndebian::bookworm_boots: test\n\
                    debian::bookworm_is_used: test\n";
        assert_eq!(suites(list), ["bookworm", "trixie"]);
        assert_eq!(suites("life::start: test\n"), Vec::<String>::new());
    }

    #[test]
    fn finds_the_program_in_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"berth_tests"},"executable":null}
Compiling something
{"reason":"compiler-artifact","target":{"name":"privileged"},"executable":"/t/debug/deps/privileged-1"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "privileged"), Some(PathBuf::from("/t/debug/deps/privileged-1")));
        assert_eq!(executable(messages, "berth_tests"), None);
        assert_eq!(executable("", "privileged"), None);
    }

    #[test]
    fn judges_by_the_last_word() {
        let passed = "test result: ok. 54 passed; 0 failed; 0 ignored; 0 measured; 7 filtered out\r\n";
        let failed = "test result: FAILED. 50 passed; 4 failed; 0 ignored\r\n";
        assert_eq!(judge(&format!("{passed}\r\nberth-vm: exit status 0\r\n")), Ok(()));
        let error = |text: &str| judge(text).err().unwrap_or_default();
        assert!(error(&format!("{failed}berth-vm: exit status 101\r\n")).contains("101"));
        assert!(error(passed).contains("before the tests did"));
        assert!(error("berth-vm: exit status 0\r\n").contains("no test ran"));
        let ignored = "test result: ok. 0 passed; 0 failed; 61 ignored\r\nberth-vm: exit status 0\r\n";
        assert!(error(ignored).contains("no test ran"));
    }
}
