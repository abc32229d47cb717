//! The rules of the house that a program can check.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq};
use serde_json::Value;

pub const TESTS: &[Test] = &[
    ("house::only_the_allowed_edges_between_crates", edges),
    ("house::the_controller_links_no_runtime", controller_dependencies),
    ("house::unsafe_code_is_in_two_crates", unsafe_code),
    ("house::every_module_has_a_header", headers),
    ("house::controller_is_small_and_static", controller_size),
    ("house::man_pages_and_completions_are_made", documents),
];

/// The edges that `ARCHITECTURE.md` allows, development dependencies included.
const EDGES: &[(&str, &[&str])] = &[
    ("berth-schemas", &[]),
    ("berth-domain", &["berth-schemas"]),
    ("berth-apparmor", &["berth-schemas"]),
    ("berth-sys", &[]),
    ("berth-lent", &["berth-sys"]),
    ("berth-controller", &["berth-lent", "berth-schemas", "berth-sys"]),
    ("berth-view", &["berth-sys"]),
    ("berth-driver", &["berth-apparmor", "berth-domain", "berth-lent", "berth-schemas", "berth-sys"]),
    ("virsh-lite", &["berth-schemas"]),
    ("berth-probe", &[]),
    ("berth-tests", &["berth-schemas"]),
    ("xtask", &[]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn cargo(words: &[&str]) -> Result<String, String> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(words)
        .current_dir(root())
        .output()
        .map_err(|e| format!("cannot run cargo: {e}"))?;
    ensure!(output.status.success(), "cargo {words:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn edges() -> Outcome {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--no-deps"])?)
        .map_err(|e| format!("cannot read cargo metadata: {e}"))?;
    let packages = metadata["packages"].as_array().ok_or("no packages")?;
    let names: BTreeSet<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    let expected: BTreeSet<&str> = EDGES.iter().map(|(name, _)| *name).collect();
    ensure_eq!(names, expected, "the packages of the workspace");
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let allowed = EDGES.iter().find(|(n, _)| *n == name).map_or(&[][..], |(_, to)| *to);
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let to = dependency["name"].as_str().unwrap_or_default();
            ensure!(!names.contains(to) || allowed.contains(&to), "{name} must not depend on {to}");
        }
    }
    Ok(())
}

fn controller_dependencies() -> Outcome {
    let tree = cargo(&[
        "tree",
        "--package",
        "berth-controller",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ])?;
    for forbidden in ["tokio", "zbus", "quick-xml", "clap", "tracing", "berth-domain"] {
        ensure!(
            !tree.lines().any(|l| l.starts_with(&format!("{forbidden} "))),
            "the controller links {forbidden}"
        );
    }
    ensure!(tree.contains("berth-sys "), "cargo tree does not show the controller's crates: {tree}");
    Ok(())
}

/// All Rust sources that git knows or would take, by their path from the top.
fn sources() -> Result<Vec<(String, String)>, String> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "--", "*.rs"])
        .current_dir(root())
        .output()
        .map_err(|e| format!("cannot run git: {e}"))?;
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    let read = |name: &str| fs::read_to_string(root().join(name)).ok().map(|text| (name.to_owned(), text));
    let sources: Vec<_> = names.lines().filter_map(read).collect();
    ensure!(sources.len() > 20, "git names only {} sources", sources.len());
    Ok(sources)
}

fn unsafe_code() -> Outcome {
    for (name, text) in sources()? {
        let code = text.lines().map(|l| l.split("//").next().unwrap_or_default());
        let found = code
            .into_iter()
            .any(|l| l.contains("unsafe {") || l.contains("unsafe fn") || l.contains("unsafe impl"));
        let here = ["controller/sys/", "tests/probe/"].iter().any(|f| name.starts_with(f))
            || name.ends_with("unprivileged/house.rs");
        ensure!(!found || here, "{name} has unsafe code");
    }
    Ok(())
}

fn headers() -> Outcome {
    let without: Vec<String> =
        sources()?.into_iter().filter(|(_, text)| !text.starts_with("//!")).map(|(name, _)| name).collect();
    ensure!(without.is_empty(), "files that do not begin with what they are for: {without:?}");
    Ok(())
}

fn controller_size() -> Outcome {
    let path = berth_tests::daemon::dist()?.join("berth-controller");
    let bytes = fs::metadata(&path).map_err(|e| e.to_string())?.len();
    ensure!(bytes <= 900_000, "the controller has {bytes} bytes, its budget is 900000");
    let image = fs::read(&path).map_err(|e| e.to_string())?;
    let interpreter = b"/ld-musl";
    let dynamic = image.windows(interpreter.len()).any(|w| w == interpreter)
        || image.windows(8).any(|w| w == b"ld-linux");
    ensure!(!dynamic, "the controller is not linked statically");
    Ok(())
}

fn documents() -> Outcome {
    let dist = berth_tests::daemon::dist()?;
    for page in ["berthd.8", "virsh-lite.1", "berth-domain.5", "berth-network.5"] {
        let text =
            fs::read_to_string(dist.join("man").join(page)).map_err(|e| format!("man page {page}: {e}"))?;
        ensure!(text.contains(".SH NAME") && !text.contains("@COMMANDS@"), "man page {page} is not whole");
    }
    let commands = fs::read_to_string(dist.join("man/virsh-lite.1")).map_err(|e| e.to_string())?;
    for command in ["define", "console", "ttyconsole", "nodeinfo", "metadata"] {
        ensure!(commands.contains(command), "virsh-lite.1 does not tell about {command}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let text =
            fs::read_to_string(dist.join("completions").join(shell)).map_err(|e| format!("{shell}: {e}"))?;
        ensure!(text.contains("virsh-lite"), "the completions for {shell} are empty");
    }
    Ok(())
}
