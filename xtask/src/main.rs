//! `cargo xtask`: everything one does with this repository beside editing it.
//!
//! It knows how to build, install and run the programs; it links none of them.

mod bench;
mod demo;
mod dist;
mod files;
mod fuzz;
mod r#gen;
mod install;
mod man;
mod package;
mod run;
mod test;
mod vm;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask COMMAND

  demo                      build everything, then define, start, use and destroy a container made of busybox
  test [--quick | --no-vm]  install what the tests need and run every test that belongs in CI;
                            --quick leaves out those that start containers, --no-vm the virtual machine
  dist                      release builds of berthd, berth-controller, berth-view (both static) and virsh-lite in target/dist
  install --destdir DIR [--prefix /usr]
                            put the release builds and their documents where a package would
  package [--version V] [--dist DIR]
                            make a Debian package in target/package, of the release builds or those in DIR
  bench [--runs N] [--only start|nic|view|controller|list|console|adoption] [--json FILE]
                            measure the budgets of the design beside the peers that are installed
  vm [--only PATTERN] [--keep]
                            run the tests that start containers in a virtual machine: Debian's kernel, AppArmor
                            enforced, control groups v2 alone; --only takes those whose names contain PATTERN;
                            --keep leaves the machine on afterwards, with a shell on the terminal
  vm --systemd [--dist DIR] [--from PACKAGE] [--keep]
                            boot a Debian with systemd and the Debian package in a virtual machine and look at what
                            only such a host shows; --from is the package that is upgraded
  fuzz [TARGET...] [--executions N]
                            run the fuzz targets with libFuzzer, see tests/fuzz/README.md
  gen [--check]             write (or compare) the types that are generated from schemas/varlink";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.split_first() {
        Some((&"demo", [])) => demo::run(),
        Some((&"test", rest)) => test::run(rest),
        Some((&"dist", [])) => dist::build().map(|d| println!("{}", d.display())),
        Some((&"install", rest)) => install::run(rest),
        Some((&"package", rest)) => package::run(rest),
        Some((&"bench", rest)) => bench::run(rest),
        Some((&"vm", rest)) => vm::run(rest),
        Some((&"fuzz", rest)) => fuzz::run(rest),
        Some((&"gen", [])) => generate(r#gen::Mode::Write),
        Some((&"gen", ["--check"])) => generate(r#gen::Mode::Check),
        Some((&("help" | "--help" | "-h"), _)) => {
            println!("{USAGE}");
            Ok(())
        }
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn generate(mode: r#gen::Mode) -> Result<(), String> {
    let changed = r#gen::run(&run::root(), mode)?;
    if mode == r#gen::Mode::Check && !changed.is_empty() {
        return Err(format!("error: generated code is not up to date, run `cargo xtask gen`: {changed:?}"));
    }
    for path in changed {
        println!("wrote {}", path.display());
    }
    Ok(())
}
