//! Fuzzing: the targets of `tests/fuzz` built with libFuzzer and run, and their replay without it.
//!
//! The stable compiler can do this: coverage is a pass of LLVM's, and passes can be named. Knows no target.

use std::fs;
use std::path::{Path, PathBuf};

use crate::run;

const USAGE: &str = "usage: cargo xtask fuzz [TARGET...] [--executions N]";

/// Executions of each target where nothing else is said: some minutes for all.
const EXECUTIONS: u64 = 1_000_000;

/// What libFuzzer needs: which edges were taken, and which numbers were compared.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

/// `fuzz [TARGET...] [--executions N]`.
pub fn run(words: &[&str]) -> Result<(), String> {
    let (mut wanted, mut executions) = (Vec::new(), EXECUTIONS);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--executions" => {
                let number = words.next().ok_or(USAGE)?;
                executions = number.parse().map_err(|_| format!("error: '{number}' is not a number"))?;
            }
            option if option.starts_with('-') => return Err(USAGE.into()),
            target => wanted.push(target.to_owned()),
        }
    }
    let known = targets()?;
    if let Some(unknown) = wanted.iter().find(|w| !known.contains(w)) {
        return Err(format!("error: there is no target '{unknown}', there are {}", known.join(", ")));
    }
    run::need(&[("c++", "g++")])?;
    let programs = build()?;
    for target in if wanted.is_empty() { &known } else { &wanted } {
        one(&programs, target, executions)?;
    }
    Ok(())
}

/// The seeds, the past findings and a few changes of them, without libFuzzer.
pub fn replay() -> Result<(), String> {
    run::check(run::cargo().current_dir(workspace()).args(["fmt", "--all", "--check"]))?;
    let target = run::root().join(run::target());
    let mut cargo = run::cargo();
    cargo.current_dir(workspace()).args(["test", "--quiet", "--locked"]).env("CARGO_TARGET_DIR", target);
    run::check(&mut cargo)
}

fn workspace() -> PathBuf {
    run::root().join("tests/fuzz")
}

fn targets() -> Result<Vec<String>, String> {
    let programs = run::entries(&workspace().join("libfuzzer/src/bin"))?;
    let name = |path: &PathBuf| path.file_stem().map(|n| n.to_string_lossy().into_owned());
    let mut names: Vec<String> = programs.iter().filter_map(name).collect();
    names.sort();
    Ok(names)
}

/// Builds all targets; answers the folder of the programs.
fn build() -> Result<PathBuf, String> {
    // The flags hold for the tested code and not for build scripts only where a target is named.
    let machine = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let folder = run::root().join(run::target()).join("fuzz");
    let words = ["build", "--release", "--locked", "--package", "berth-fuzz", "--target", &machine];
    run::check(
        run::cargo()
            .current_dir(workspace())
            .args(words)
            .env("RUSTFLAGS", FLAGS)
            .env("CARGO_TARGET_DIR", folder.join("build")),
    )?;
    Ok(folder.join("build").join(machine).join("release"))
}

/// Runs one target. What it learns stays, so that the next run goes on from there.
fn one(programs: &Path, target: &str, executions: u64) -> Result<(), String> {
    println!("==> {target}");
    let work = run::root().join(run::target()).join("fuzz").join(target);
    let (corpus, artifacts) = (work.join("corpus"), work.join("artifacts"));
    for folder in [&corpus, &artifacts] {
        fs::create_dir_all(folder).map_err(|e| format!("error: '{}': {e}", folder.display()))?;
    }
    let mut seeds = vec![run::root().join("tests/corpus/fuzz").join(target).join("seeds")];
    let documents: &[&str] = match target {
        "domain_xml" => &["tests/corpus/domains", "driver/tests/golden"],
        "network_xml" => &["tests/corpus/networks"],
        _ => &[],
    };
    seeds.extend(documents.iter().map(|folder| run::root().join(folder)));
    seeds.push(run::root().join("tests/corpus/fuzz").join(target).join("findings"));
    run::check(
        std::process::Command::new(programs.join(target))
            .args(["-max_len=4096", "-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"])
            .arg(format!("-runs={executions}"))
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .arg(corpus)
            .args(seeds.iter().filter(|s| s.is_dir())),
    )
}
