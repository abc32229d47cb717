//! The real program against a daemon with canned data: literal output, literal errors, exit codes.

mod fake;

use std::process::{Command, Output, Stdio};

use fake::Fake;

/// Runs the program with the fake daemon as its default, in the fake's folder.
fn command(fake: &Fake, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_virsh-lite"));
    command.args(words).current_dir(fake.dir.path()).stdin(Stdio::null());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("LIBVIRT_DEFAULT_URI", fake.uri()).env("TZ", "UTC");
    command
}

fn text(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn run(fake: &Fake, words: &[&str]) -> (i32, String, String) {
    text(&command(fake, words).output().expect("virsh-lite runs"))
}

/// A command that succeeds and says nothing on standard error.
#[track_caller]
fn good(fake: &Fake, words: &[&str], stdout: &str) {
    assert_eq!(run(fake, words), (0, stdout.into(), String::new()), "{words:?}");
}

/// A command that fails after it was understood.
#[track_caller]
fn bad(fake: &Fake, words: &[&str], stderr: &str) {
    assert_eq!(run(fake, words), (1, "\n".into(), stderr.into()), "{words:?}");
}

#[test]
fn list() {
    let f = Fake::start();
    good(
        &f,
        &["list", "--all"],
        " Id     Name     State\n---------------------------\n 4711   web      running\n 4800   web2     running\n \
         -      db       shut off\n -      locked   shut off\n -      old      shut off\n\n",
    );
    good(
        &f,
        &["list"],
        " Id     Name   State\n------------------------\n 4711   web    running\n 4800   web2   running\n\n",
    );
    good(&f, &["-q", "list"], " 4711   web    running\n 4800   web2   running\n");
    good(&f, &["list", "--name"], "web\nweb2\n\n");
    good(&f, &["-q", "list", "--inactive", "--name"], "db\nlocked\nold\n");
    good(&f, &["list", "--all", "--id"], "4711\n4800\n\n");
    good(
        &f,
        &["-q", "list", "--uuid", "--id", "--name"],
        "00000000-0000-4000-8000-000000004711 4711 web\n00000000-0000-4000-8000-000000004800 4800 web2\n",
    );
    good(
        &f,
        &["list", "--title", "--state-shutoff", "--autostart"],
        " Id   Name     State      Title\n-------------------------------------\n -    db       shut off   the title\n \
         -    locked   shut off   the title\n -    old      shut off   the title\n\n",
    );
    bad(&f, &["list", "--table", "--name"], "error: Options --table and --name are mutually exclusive\n");
}
