//! `cargo xtask`: everything one does with this repository beside editing it.

mod r#gen;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["gen"] => generate(r#gen::Mode::Write),
        ["gen", "--check"] => generate(r#gen::Mode::Check),
        _ => Err("usage: cargo xtask gen [--check]".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The top of the checkout.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn generate(mode: r#gen::Mode) -> Result<(), String> {
    let changed = r#gen::run(&root(), mode)?;
    if mode == r#gen::Mode::Check && !changed.is_empty() {
        return Err(format!("generated code is not up to date, run `cargo xtask gen`: {changed:?}"));
    }
    for path in changed {
        println!("wrote {}", path.display());
    }
    Ok(())
}
