//! Release builds, and the documents that go with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{man, run};

/// Builds `target/dist/{berthd,berth-controller,berth-view,virsh-lite}` and its man pages and completions.
pub fn build() -> Result<PathBuf, String> {
    let dist = binaries()?;
    documents(&dist)?;
    Ok(dist)
}

/// Builds the programs, and the tests' probe, only.
pub fn binaries() -> Result<PathBuf, String> {
    let musl = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    need_target(&musl)?;
    run::check(run::cargo().args([
        "build",
        "--release",
        "--quiet",
        "--package",
        "berth-driver",
        "--package",
        "virsh-lite",
    ]))?;
    // Addresses to be moved at the start take a bit each, not 24 bytes. Needs musl 1.2.4 (Rust 1.93); a linker that does not know
    // it (binutils before 2.38) says so and makes a larger program.
    // A panic ends these programs, and its message has file and line: nothing unwinds, and the index for that is 13 KB.
    let small = format!(
        "target.{musl}.rustflags=['-Clink-arg=-Wl,-z,pack-relative-relocs','-Clink-arg=-Wl,--no-eh-frame-hdr']"
    );
    // Builds of their own: in one build with the daemon, features that only the daemon needs would be linked in here.
    for package in ["berth-controller", "berth-view"] {
        let build = ["build", "--profile", "controller", "--quiet", "--package", package, "--target", &musl];
        let build = [&build[..], &["--config", &small]].concat();
        run::check(run::cargo().args(build))?;
    }
    // What the tests run inside of containers, where there may be no library. It is not installed.
    run::check(
        run::cargo()
            .args(["build", "--release", "--quiet", "--package", "berth-probe", "--target"])
            .arg(&musl),
    )?;
    let target = run::target();
    let dist = target.join("dist");
    fs::create_dir_all(&dist).map_err(|e| format!("error: cannot make '{}': {e}", dist.display()))?;
    for (from, name) in [
        (target.join("release"), "berthd"),
        (target.join("release"), "virsh-lite"),
        (target.join(&musl).join("controller"), "berth-controller"),
        (target.join(&musl).join("controller"), "berth-view"),
        (target.join(&musl).join("release"), "berth-probe"),
    ] {
        replace(&from.join(name), &dist.join(name))?;
    }
    Ok(dist)
}

/// `rust-toolchain.toml` names the target, and rustup adds it by itself, but not where RUSTUP_AUTO_INSTALL is 0.
/// Without rustup the toolchain has the target or the build says that it has not.
fn need_target(target: &str) -> Result<(), String> {
    let libraries = run::output(Command::new("rustc").current_dir(run::root()).args([
        "--print",
        "target-libdir",
        "--target",
        target,
    ]))?;
    if Path::new(&libraries).is_dir() || !run::has("rustup") {
        return Ok(());
    }
    println!("adding the target {target}");
    run::check(Command::new("rustup").current_dir(run::root()).args(["target", "add", target]))
}

/// Copies beside and renames: a program that is running cannot be written to, but it can be replaced.
fn replace(from: &Path, to: &Path) -> Result<(), String> {
    let beside = to.with_extension("new");
    fs::copy(from, &beside)
        .and_then(|_| fs::rename(&beside, to))
        .map_err(|e| format!("error: cannot copy '{}' to '{}': {e}", from.display(), to.display()))
}

/// Writes man pages and completions from their sources.
fn documents(dist: &Path) -> Result<(), String> {
    let virsh_lite = dist.join("virsh-lite");
    let commands = run::output(Command::new(&virsh_lite).args(["generate", "man-commands"]))?;
    for page in ["berthd.8", "virsh-lite.1", "berth-domain.5", "berth-network.5"] {
        let source = run::root().join(format!("docs/man/{page}.md"));
        let text = fs::read_to_string(&source)
            .map_err(|e| format!("error: cannot read '{}': {e}", source.display()))?;
        write(&dist.join("man").join(page), &man::render(page, &text.replace("@COMMANDS@", &commands))?)?;
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = run::output(Command::new(&virsh_lite).args(["generate", "completions", shell]))?;
        write(&dist.join("completions").join(shell), &(script + "\n"))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    path.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, text))
        .map_err(|e| format!("error: cannot write '{}': {e}", path.display()))
}
