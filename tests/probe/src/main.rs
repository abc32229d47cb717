//! Tries what a container should not reach, one line for each: NAME OPEN|BLOCKED|NA DETAIL. Runs as init.
//!
//! Nothing here harms a host that lets it through: files are opened and not written, calls get arguments that fail
//! behind the question whether they are allowed, and each probe is a process of its own. It does not know what may
//! be open: see `allowed-*.txt`.

mod calls;
mod files;
mod namespaces;
mod process;
mod raw;
mod sysinfo;
mod verdict;

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::net::UnixDatagram;

use verdict::Verdict;

fn main() {
    let path = std::env::args().nth(1).unwrap_or_else(|| "/dev/stdout".into());
    if path == "--ready" {
        ready();
    }
    if path == "--inotify" {
        hold_inotify();
    }
    if path == "--sysinfo" {
        return sysinfo::tell(std::env::args().skip(2));
    }
    for part in [process::all, calls::all, files::all, namespaces::all] {
        part(&mut |name, probe| alone(&path, &name, probe));
    }
    line(&path, "end NA of the probes");
}

/// An init that is ready at once, and says so.
fn ready() -> ! {
    if let (Some(place), Ok(socket)) = (std::env::var_os("NOTIFY_SOCKET"), UnixDatagram::unbound()) {
        let _ = socket.send_to(b"READY=1", place);
    }
    loop {
        std::thread::park();
    }
}

/// An init that takes all inotify instances that it gets, and writes their number.
fn hold_inotify() -> ! {
    // SAFETY: only an integer goes in.
    let count =
        std::iter::from_fn(|| Some(unsafe { libc::inotify_init1(0) })).take_while(|fd| *fd >= 0).count();
    line("/tmp/held", &count.to_string());
    loop {
        std::thread::park();
    }
}

/// Number of the descriptor on which a probe answers: far from those that could have been leaked.
pub const ANSWER: i32 = 999;

fn line(path: &str, text: &str) {
    if let Ok(mut out) = OpenOptions::new().append(true).create(true).open(path) {
        let _ = writeln!(out, "{text}");
    }
}

/// Runs one probe in a process of its own, with a session of its own and at most five seconds.
fn alone(path: &str, name: &str, probe: &dyn Fn() -> Verdict) {
    let Ok((mut read, write)) = std::io::pipe() else { return line(path, &format!("{name} NA no pipe")) };
    // SAFETY: this process has one thread, so the child's copy of its memory is whole.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: only integers go in; the descriptor is new, and nobody else knows its number.
        let mut back = unsafe {
            libc::dup2(write.as_raw_fd(), ANSWER);
            libc::setsid();
            libc::alarm(5);
            File::from_raw_fd(ANSWER)
        };
        drop((read, write));
        let verdict = probe();
        let (word, detail) = verdict.shown();
        let _ = write!(back, "{word} {detail}");
        // SAFETY: does not return, touches no memory.
        unsafe { libc::_exit(0) };
    }
    drop(write);
    let mut text = String::new();
    let _ = read.read_to_string(&mut text);
    // SAFETY: the child is ours, and null says that its status is not wanted.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    if text.is_empty() {
        // Killed: not let through at least.
        text = "BLOCKED killed".into();
    }
    line(path, &format!("{name} {}", text.replace('\n', " ")));
}
