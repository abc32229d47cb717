//! The console, on a real PTY against a daemon with canned data; connections over a carrier; passed descriptors.

mod fake;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fake::Fake;
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;

/// The program on a terminal of its own.
struct Session {
    child: Child,
    master: File,
    slave: OwnedFd,
    seen: String,
}

impl Session {
    fn start(fake: &Fake, words: &[&str]) -> Self {
        Self::start_with(fake, words, &[])
    }

    fn start_with(fake: &Fake, words: &[&str], environment: &[(&str, &str)]) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("pty");
        let slave = || Stdio::from(pty.slave.try_clone().expect("dup"));
        // Who runs the tests with nohup(1) has them ignore SIGHUP.
        let child = Command::new("env")
            .args(["--default-signal", env!("CARGO_BIN_EXE_virsh-lite")])
            .args(words)
            .env("LIBVIRT_DEFAULT_URI", fake.uri())
            .env("XDG_CACHE_HOME", fake.dir.path())
            .env("TERM", "xterm")
            .env("NO_COLOR", "1")
            .envs(environment.iter().copied())
            .stdin(slave())
            .stdout(slave())
            .stderr(slave())
            .spawn()
            .expect("virsh-lite runs");
        Self { child, master: File::from(pty.master), slave: pty.slave, seen: String::new() }
    }

    /// Reads until this text comes.
    #[track_caller]
    fn expect(&mut self, text: &str) {
        let mut chunk = [0; 1024];
        while !self.seen.contains(text) {
            let n = self.master.read(&mut chunk).unwrap_or(0);
            assert!(n > 0, "no {text:?} in {:?}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&chunk[..n]));
        }
    }

    fn type_(&mut self, keys: &[u8]) {
        self.master.write_all(keys).expect("typing");
    }

    fn end(&mut self) -> std::process::ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "does not end: {:?}", self.seen);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether the terminal echoes, as it did before.
    fn is_cooked(&self) -> bool {
        tcgetattr(&self.slave)
            .is_ok_and(|mode| mode.local_flags.contains(LocalFlags::ECHO | LocalFlags::ICANON))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_paused_domain_goes_on_once_its_console_is_there() {
    let f = Fake::start();
    let pause = |state: &str| {
        let domains = &mut f.state.lock().expect("state").domains;
        let web = domains.iter_mut().find(|d| d["name"] == "web").expect("web");
        web["state"] = state.into();
    };
    let resumed = || {
        let calls = f.state.lock().expect("state").calls.clone();
        calls.iter().filter(|(method, _)| method.ends_with(".Resume")).count()
    };
    for (state, options, times) in
        [("paused", &["--resume"][..], 1), ("running", &["--resume"], 1), ("paused", &[], 1)]
    {
        pause(state);
        let mut s = Session::start(&f, &[&["console", "web"], options].concat());
        s.expect("early\r\n");
        s.type_(b"\x1d");
        assert!(s.end().success());
        assert_eq!(resumed(), times, "{state} {options:?}");
    }
}

#[test]
fn bytes_go_both_ways_until_the_escape_character() {
    let f = Fake::start();
    let mut s = Session::start(&f, &["console", "web"]);
    s.expect("Connected to domain 'web'\r\nEscape character is ^] (Ctrl + ])\r\n");
    s.expect("another session is writing; this one only reads (use --force to take over)");
    s.expect("early\r\n");
    assert!(!s.is_cooked());
    s.type_(b"abc\x03");
    s.expect("ABC\x03");
    s.type_(b"de\x1dfgh");
    assert!(s.end().success());
    assert!(s.is_cooked());
    assert_eq!(f.state.lock().expect("state").typed, b"abc\x03de");
    let asked = f.last("AttachConsole");
    assert_eq!((&asked["columns"], &asked["rows"]), (&80.into(), &24.into()));
}

#[test]
fn the_end_of_the_domain_is_the_end() {
    let f = Fake::start();
    let mut s = Session::start(&f, &["-e", "^a", "console", "web", "--force"]);
    s.expect("Escape character is ^a (Ctrl + a)");
    s.expect("early");
    assert!(!s.seen.contains("another session"));
    s.type_(b"\x1dq");
    assert!(s.end().success());
    assert!(s.is_cooked());
    assert_eq!(f.last("AttachConsole")["mode"], "force");
    assert_eq!(f.state.lock().expect("state").typed, b"\x1dq");
}

#[test]
fn signals_leave_a_sane_terminal() {
    let f = Fake::start();
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
        let mut s = Session::start(&f, &["console", "web"]);
        s.expect("early");
        assert!(!s.is_cooked());
        let pid = Pid::from_raw(i32::try_from(s.child.id()).expect("pid"));
        kill(pid, signal).expect("kill");
        let status = s.end();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(signal as i32));
        assert!(s.is_cooked(), "{signal}");
    }
}

#[test]
fn viewers_do_not_write_and_sizes_are_passed_on() {
    let f = Fake::start();
    let mut s = Session::start(&f, &["console", "web", "console0", "--view"]);
    s.expect("early");
    let size = rustix::termios::Winsize { ws_row: 50, ws_col: 132, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&s.slave, size).expect("size");
    let pid = Pid::from_raw(i32::try_from(s.child.id()).expect("pid"));
    kill(pid, Signal::SIGWINCH).expect("kill");
    let start = Instant::now();
    while f.last("ResizeConsole").is_null() && start.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let asked = f.last("ResizeConsole");
    assert_eq!((&asked["columns"], &asked["rows"], &asked["viewer"]), (&132.into(), &50.into(), &5.into()));
    s.type_(b"xyz\x1d");
    assert!(s.end().success());
    assert_eq!(f.state.lock().expect("state").typed, b"");
    assert_eq!(f.last("AttachConsole")["device"], "console0");
}

#[test]
fn refusals() {
    let f = Fake::start();
    let run = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_virsh-lite"));
        let command = command.args(words).env("LIBVIRT_DEFAULT_URI", f.uri()).stdin(Stdio::null());
        let output = command.output().expect("virsh-lite runs");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let line = |text: &str| (Some(1), format!("\nerror: {text}\n"));
    assert_eq!(run(&["console", "web"]), line("Cannot run interactive console without a controlling TTY"));
    assert_eq!(run(&["console", "db"]), line("The domain is not running"));
    assert_eq!(run(&["console", "nosuch"]), line("failed to get domain 'nosuch'"));
    assert_eq!(run(&["console", "db", "--log"]), (Some(0), "one\ntwo".into()));
    assert_eq!(
        run(&["start", "db", "--pass-fds", "77"]),
        (
            Some(1),
            "\nerror: Failed to start domain 'db'\nerror: a file descriptor to pass is not open\n".into()
        )
    );
    assert_eq!(run(&["start", "db", "--pass-fds", "0,2"]), (Some(0), "Domain 'db' started\n\n".into()));
    assert_eq!(f.last("Start")["initFileDescriptors"], serde_json::json!([0, 1]));
}

#[test]
fn the_prompt() {
    let f = Fake::start();
    let mut s = Session::start(&f, &[]);
    s.expect("Welcome to virsh-lite, the virtualization interactive terminal.");
    s.expect("virsh-lite # ");
    s.type_(b"domid web\r");
    s.expect("4711\r\n");
    s.type_(b"quit\r");
    assert!(s.end().success());
    let history = std::fs::read_to_string(f.dir.path().join("virsh-lite/history")).unwrap_or_default();
    assert!(history.contains("domid web"), "{history:?}");
}

/// An `ssh` that runs what it is told here, after noting how it was called.
fn with_ssh(fake: &Fake) -> String {
    let dir = fake.dir.path().join("bin");
    std::fs::create_dir(&dir).expect("folder");
    let script = "#!/bin/sh\necho \"$@\" > \"${0%/*}/called\"\nfor last; do :; done\nexec sh -c \"$last\"\n";
    std::fs::write(dir.join("ssh"), script).expect("script");
    std::fs::set_permissions(dir.join("ssh"), std::fs::Permissions::from_mode(0o755)).expect("mode");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_virsh-lite"), dir.join("virsh-lite")).expect("link");
    format!("{}:{}", dir.display(), std::env::var("PATH").unwrap_or_default())
}

#[test]
fn another_host() {
    let f = Fake::start();
    let path = with_ssh(&f);
    let uri = format!("lxc+ssh://me@other:2222/system?socket={}", f.socket().display());
    let output = Command::new(env!("CARGO_BIN_EXE_virsh-lite"))
        .args(["-q", "-c", &uri, "list --name; domid web"])
        .env("PATH", &path)
        .output()
        .expect("virsh-lite runs");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "web\nweb2\n4711\n");
    let called = std::fs::read_to_string(f.dir.path().join("bin/called")).unwrap_or_default();
    assert!(called.starts_with("-T -e none -l me -p 2222 -- other virsh-lite serve-stdio"), "{called}");
}

#[test]
fn a_console_of_another_host() {
    let f = Fake::start();
    let path = with_ssh(&f);
    let uri = format!("lxc+ssh://other/system?socket={}", f.socket().display());
    let mut s = Session::start_with(&f, &["-c", &uri, "console", "web"], &[("PATH", &path)]);
    s.expect("early");
    s.type_(b"ab");
    s.expect("AB");
    s.type_(b"\x1d");
    assert!(s.end().success());
    assert!(s.is_cooked());
    let mut s = Session::start_with(&f, &["-c", &uri, "console", "web"], &[("PATH", &path)]);
    s.expect("early");
    s.type_(b"q");
    assert!(s.end().success());
}

#[test]
fn a_refused_edit_is_asked_about() {
    let f = Fake::start();
    let editor = "sed -i 's/<name>/<bad>/'";
    let mut s = Session::start_with(&f, &["edit", "web"], &[("EDITOR", editor)]);
    s.expect("unknown element 'bad'");
    s.expect("Failed. Try again? [y,n,i,f,?]: ");
    s.type_(b"?");
    s.expect("n - no, drop the changes");
    s.type_(b"i");
    s.expect("checks cannot be turned off here");
    s.type_(b"n");
    assert_eq!(s.end().code(), Some(1));
    assert!(s.is_cooked());
}

#[test]
fn what_is_typed_ahead_is_not_lost() {
    let f = Fake::start();
    let mut s = Session::start(&f, &[]);
    s.expect("virsh-lite # ");
    s.type_(b"domid web\rdomid web2\rquit\r");
    s.expect("4711\r\n");
    s.expect("4800\r\n");
    assert!(s.end().success());
}
