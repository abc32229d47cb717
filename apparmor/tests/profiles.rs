//! What the profiles say, and that the parser takes them. `BERTH_UPDATE_GOLDEN=1` writes the texts anew.

#![allow(clippy::expect_used)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use berth_apparmor::render::{CONTAINER, Profile, container};
use berth_apparmor::{PROGRAMS, Variant};

const NAME: &str = "berth-3f0c6b0e-7d1d-4c5b-9a53-0d5a1f6e2c11";

/// Every text there is, with the name of its golden file.
fn texts() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for variant in Variant::ALL {
        for host_ids in [false, true] {
            let text = container(&Profile { name: NAME, variant, host_ids }).expect("rendered");
            let ids = if host_ids { "-host-ids" } else { "" };
            all.push((format!("{}{ids}", variant.as_str()), text));
        }
    }
    all
}

#[test]
fn profiles_are_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (name, text) in texts() {
        let golden = folder.join(name);
        if std::env::var_os("BERTH_UPDATE_GOLDEN").is_some() {
            std::fs::write(&golden, &text).expect("written");
        }
        assert_eq!(std::fs::read_to_string(&golden).unwrap_or_default(), text, "{}", golden.display());
    }
}

#[test]
fn variants_differ_in_what_they_deny() {
    let of = |variant, host_ids| container(&Profile { name: NAME, variant, host_ids }).expect("rendered");
    let (block, elsewhere, register) =
        ("audit deny mount fstype=btrfs", "fstype=(proc,sysfs) -> /[^prs]**", "mount fstype=binfmt_misc");
    let default = of(Variant::Default, false);
    assert!(default.contains(block) && default.contains(elsewhere) && !default.contains(register));
    let nesting = of(Variant::Nesting, false);
    assert!(nesting.contains(block) && !nesting.contains(elsewhere));
    let mounting = of(Variant::Mounting, false);
    assert!(!mounting.contains(block) && mounting.contains(elsewhere));
    for variant in Variant::ALL {
        let text = of(variant, true);
        assert!(text.contains(register));
        // Nothing inside may leave its profile, and the worst is denied to all.
        assert!(!text.contains("change_profile") && !text.contains("NAME"));
        for denied in ["sysrq-trigger rwklx", "fstype=securityfs", "capability mac_admin"] {
            assert!(text.lines().any(|l| l.starts_with("  audit deny ") && l.contains(denied)), "{denied}");
        }
    }
}

/// A rule that nobody can say why it is there is one that nobody dares to remove.
#[test]
fn every_rule_has_a_reason() {
    let rules = CONTAINER.lines().filter(|l| !l.is_empty() && !l.starts_with(['#', '[']));
    let mut count = 0;
    for rule in rules {
        count += 1;
        let reason = rule.split_once(" # ").map(|(_, reason)| reason.trim()).unwrap_or_default();
        assert!(reason.len() >= 8, "no reason: {rule}");
    }
    assert!(count > 50, "only {count} rules");
    for (name, text) in PROGRAMS {
        let mut reason = false;
        let mut count = 0;
        for line in text.lines().map(str::trim) {
            if line.is_empty() {
                // A reason is for the rules right below it.
                reason = false;
            } else if line.starts_with('#') {
                reason = true;
            } else if !line.starts_with(['}'])
                && !line.starts_with("abi ")
                && !line.starts_with("include <tun")
            {
                count += 1;
                assert!(reason, "{name}: no reason: {line}");
            }
        }
        assert!(count > 15, "{name}: only {count} rules");
    }
}

#[test]
fn names_cannot_be_rules() {
    for name in ["a b", "a\" {}", "x{", "", "a\n", "@{x}", "*"] {
        assert!(
            container(&Profile { name, variant: Variant::Default, host_ids: false }).is_err(),
            "{name:?}"
        );
    }
}

/// Compiles without a kernel, for all that the abi knows, and answers what was said and how large the policy is.
fn compile(text: &str) -> Result<usize, String> {
    let mut child = Command::new("apparmor_parser")
        .args(["--skip-kernel-load", "--skip-read-cache", "--skip-cache", "--stdout"])
        .arg("--kernel-features=/etc/apparmor.d/abi/3.0")
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("apparmor_parser: {e}; install 'apparmor'"))?;
    child.stdin.take().expect("stdin").write_all(text.as_bytes()).map_err(|e| e.to_string())?;
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() && said.is_empty() { Ok(output.stdout.len()) } else { Err(said) }
}

#[test]
fn the_parser_takes_them_all_without_a_warning() {
    if !["/usr/sbin", "/sbin"].iter().any(|d| Path::new(d).join("apparmor_parser").exists()) {
        assert!(std::env::var_os("CI").is_none(), "apparmor_parser is missing; install 'apparmor'");
        eprintln!("skipped: there is no apparmor_parser; install 'apparmor'");
        return;
    }
    let programs = PROGRAMS.map(|(name, text)| (name.to_owned(), text.to_owned()));
    for (name, text) in texts().into_iter().chain(programs) {
        let size = compile(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(size > 4096, "{name}: {size} bytes of policy are too few to be true");
    }
    // And it does tell what is wrong.
    assert!(compile("profile x { nonsense, }").is_err());
}
