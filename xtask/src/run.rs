//! Running other programs, and where things are.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The top of the checkout.
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or_else(|| here.clone(), PathBuf::from)
}

/// What is in a folder, in no order.
pub fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let fail = |e| format!("error: cannot list '{}': {e}", folder.display());
    fs::read_dir(folder).map_err(fail)?.map(|e| e.map(|e| e.path()).map_err(fail)).collect()
}

/// Cargo's target folder.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The cargo that runs us.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a command to its end and expects success.
pub fn check(command: &mut Command) -> Result<(), String> {
    let shown = show(command);
    let status = command.status().map_err(|e| format!("error: cannot run {shown}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("error: {shown} failed: {status}")) }
}

/// What a command prints, trimmed.
pub fn output(command: &mut Command) -> Result<String, String> {
    let shown = show(command);
    let output = command.output().map_err(|e| format!("error: cannot run {shown}: {e}"))?;
    if !output.status.success() {
        return Err(format!(
            "error: {shown} failed: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

fn show(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect();
    format!("`{}`", words.join(" "))
}

/// Where a program is: on PATH, or where programs for root are and PATH may not lead.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// Whether a program is there.
pub fn has(program: &str) -> bool {
    find(program).is_some()
}

/// Makes sure that programs are there, by installing their Debian packages where they are not.
pub fn need(programs: &[(&str, &str)]) -> Result<(), String> {
    let mut packages: Vec<&str> =
        programs.iter().filter(|(program, _)| !has(program)).map(|(_, p)| *p).collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    let advice = format!("error: install these packages first: {}", packages.join(" "));
    if !has("apt-get") || !nix::unistd::geteuid().is_root() {
        return Err(advice);
    }
    println!("installing {}", packages.join(" "));
    let install = |packages: &[&str]| {
        check(
            Command::new("apt-get")
                .env("DEBIAN_FRONTEND", "noninteractive")
                .args(["install", "-qq", "-y", "--no-install-recommends"])
                .args(packages)
                .stdout(std::process::Stdio::null()),
        )
    };
    // The package lists of a fresh machine are empty or old.
    install(&packages).or_else(|_| {
        check(Command::new("apt-get").args(["update", "-qq"]))?;
        install(&packages)
    })
}
