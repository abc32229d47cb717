//! Loading with a parser and an interface that are scripts and files.

#![allow(clippy::expect_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use berth_apparmor::load::{Host, LoadError};

fn host(folder: &Path, script: &str) -> Host {
    let parser = folder.join("parser");
    if !parser.exists() {
        symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parser"), &parser).expect("parser");
    }
    fs::write(folder.join("script"), script).expect("script");
    fs::write(folder.join("profiles"), "other (complain)\n").expect("profiles");
    fs::write(folder.join(".remove"), "").expect("remove");
    Host::at(folder, &parser)
}

#[test]
fn the_parser_gets_the_text_and_the_kernel_is_asked() {
    let folder = tempfile::tempdir().expect("folder");
    let host = host(folder.path(), "echo \"$@\" > words; cat > input; echo 'a (enforce)' >> profiles");
    host.load("a", "profile a {}\n").expect("loaded");
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect("file");
    assert_eq!(read("input"), "profile a {}\n");
    assert_eq!(read("words"), "--replace --quiet --skip-cache --skip-read-cache\n");
    assert_eq!(host.mode_of("a").expect("list").as_deref(), Some("enforce"));
    assert_eq!(host.mode_of("b").expect("list"), None);
    host.remove("a").expect("removed");
    assert_eq!(read(".remove"), "a");
}

#[test]
fn failures_are_told_as_what_they_are() {
    let folder = tempfile::tempdir().expect("folder");
    let refusing = host(folder.path(), "cat >/dev/null; echo first >&2; echo 'bad rule' >&2; exit 1");
    let text = refusing.load("a", "x").expect_err("refused").to_string();
    assert_eq!(text, "apparmor_parser refuses profile 'a': first bad rule");
    // It ends without reading, which breaks the pipe.
    let silent = host(folder.path(), "exit 3");
    let text = silent.load("a", &"x".repeat(1 << 20)).expect_err("refused").to_string();
    assert_eq!(text, "apparmor_parser refuses profile 'a': exit status: 3");
    let idle = host(folder.path(), "cat >/dev/null");
    assert!(matches!(idle.load("a", "x"), Err(LoadError::NotThere { .. })));
    let none = Host::at(folder.path(), &folder.path().join("nowhere"));
    let text = none.load("a", "x").expect_err("no parser").to_string();
    assert_eq!(text, "there is no apparmor_parser on this host; install 'apparmor'");
    fs::remove_file(folder.path().join("profiles")).expect("removed");
    assert!(matches!(idle.loaded(), Err(LoadError::Kernel { operation: "read", .. })));
    fs::remove_file(folder.path().join(".remove")).expect("removed");
    idle.remove("a").expect("what is not there is removed");
}
