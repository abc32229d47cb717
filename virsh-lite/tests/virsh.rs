//! The same command lines to virsh, with its test driver, and to virsh-lite: output and exit code must be the same.
//! Ignored as virsh need not be there: `cargo test -p virsh-lite --test virsh -- --ignored`.

mod fake;

use std::process::{Command, Stdio};

use fake::Fake;

/// Command lines, as a shell would split them at single spaces; `_` is a space inside a word.
#[rustfmt::skip]
const LINES: &[&str] = &[
    "list --bogus", "list foo", "list --all=3", "list -a", "domid", "domid --domain", "domid a b", "domid a --domain b",
    "domid_\"x", "domid_x\\", ";", "list_--all;frob", "frob", "-Z", "--bogus", "-c", "--conn", "-e", "-e ab list",
    "-e ^ list", "-e ^1 list", "-k x list", "-d x list", "--debug x list", "-K", "-l", "metadata", "metadata x",
    "console --devname", "console a --devname b c", "event", "event --all --event lifecycle", "event --event foo",
    "event --timeout 0 --all", "event --timeout -1 --all", "event --timeout=5x --all", "event --list --all",
    "echo a b", "echo --shell a_b", "echo --xml '<&>\"'", "echo --err x", "echo", "echo --", "-q echo a",
    "echo --split a,b,,c", "echo_a\"b_c\"d", "echo_'a\\b'", "echo_\"a\\b\"", "echo_a_#_b", "echo_#b", "pwd", "cd", "cd /x",
    "quit", "exit", "quit x", "help frob", "domstate --help=x", "define", "define /nonexistent", "define a b",
    "create --console", "domname nosuch", "domid nosuch", "domuuid nosuch", "dominfo nosuch", "dumpxml nosuch",
    "start nosuch", "edit nosuch", "desc nosuch", "ttyconsole nosuch", "autostart nosuch --disable", "destroy nosuch",
    "domid_nosuch;_echo_hi", "echo_a;echo_b", "echo_a;;echo_b;", "-q;list", "shutdown nosuch --mode foo",
    "list --table --uuid", "list --name --table", "desc nosuch --current --live", "connect --readonly x y", "undefine",
    "-r -q quit", "-rq quit", "quit --help", "exit --help", "nodecpustats", "nodecpustats --cpu x", "nodecpustats --cpu=-2",
    "nodememstats --cell=-2", "freecell --all 0", "freecell --cellno", "nodecpumap x",
];

/// Exit code, output, and errors without hints.
fn run(program: &str, uri: &str, words: &[String], fake: &Fake) -> (Option<i32>, String, String) {
    let mut command = Command::new(program);
    command.args(words).env("LIBVIRT_DEFAULT_URI", uri).current_dir(fake.dir.path()).stdin(Stdio::null());
    let output = command.output().expect("program runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let errors = text(&output.stderr);
    let errors = errors.lines().filter(|l| !l.starts_with("hint:")).collect::<Vec<_>>().join("\n");
    (output.status.code(), text(&output.stdout), errors)
}

#[test]
#[ignore = "needs virsh"]
fn both_say_the_same() {
    let fake = Fake::start();
    for line in LINES {
        let words: Vec<String> = line.split(' ').map(|w| w.replace('_', " ")).collect();
        let theirs = run("virsh", "test:///default", &words, &fake);
        let ours = run(env!("CARGO_BIN_EXE_virsh-lite"), &fake.uri(), &words, &fake);
        assert_eq!(ours, theirs, "{line}");
    }
}
