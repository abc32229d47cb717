//! Processes, held by descriptors so that a number that is used again is never taken for the old one.
//!
//! Does not know what any of them runs.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process that was alive when it was taken hold of.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    fd: AsyncFd<OwnedFd>,
}

impl Process {
    /// Takes hold of a process that cannot have been reaped yet: a child of ours.
    pub fn child(pid: i32) -> io::Result<Self> {
        let raw = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        let fd = rustix::process::pidfd_open(raw, PidfdFlags::NONBLOCK)?;
        #[expect(
            deprecated,
            reason = "unsound only for types that can change their descriptor, which OwnedFd cannot"
        )]
        let fd = AsyncFd::with_interest(fd, Interest::READABLE)?;
        Ok(Self { pid, fd })
    }

    /// Takes hold of a process if it still is the one that started at `start`.
    pub fn adopt(pid: i32, start: u64) -> io::Result<Self> {
        let process = Self::child(pid)?;
        // In this order: the descriptor is of whoever has the number now, and the start time says who that is.
        match start_time(pid) {
            Ok(now) if now == start => Ok(process),
            Ok(_) => Err(io::Error::new(io::ErrorKind::NotFound, "the process id is used again")),
            Err(e) => Err(e),
        }
    }

    /// Its number.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Comes back when it has ended.
    pub async fn ended(&self) {
        // An error of the reactor means that waiting is not possible; the callers' deadlines and kills still hold.
        drop(self.fd.readable().await);
    }

    /// Whether it ended within the time.
    pub async fn ended_within(&self, time: Duration) -> bool {
        tokio::time::timeout(time, self.ended()).await.is_ok()
    }

    /// Kills it, if it lives.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::KILL)
    }

    /// Sends it a signal, if it lives.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(self.fd.get_ref(), signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

/// When a process started, in ticks since boot: field 22 of proc(5)'s stat.
pub fn start_time(pid: i32) -> io::Result<u64> {
    of_stat(pid, parse_start_time)
}

/// Something of proc(5)'s stat of a process.
fn of_stat<T>(pid: i32, parse: impl FnOnce(&str) -> Option<T>) -> io::Result<T> {
    // The process chose its name, which need not be UTF-8.
    let stat = std::fs::read(format!("/proc/{pid}/stat"))?;
    parse(&String::from_utf8_lossy(&stat))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unreadable stat"))
}

/// The same from the text of that file.
pub fn parse_start_time(stat: &str) -> Option<u64> {
    // The second field is a name in parentheses that may have anything in it, also parentheses.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The kernel's name for the time since it was booted.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Where a program is, by the daemon's own search path, or the usual one.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    let found = std::env::split_paths(&path).map(|folder| folder.join(name));
    let executable = |p: &PathBuf| rustix::fs::access(p, rustix::fs::Access::EXEC_OK).is_ok();
    found.filter(|p| p.is_absolute() && p.is_file()).find(executable)
}

/// Who started a process.
pub fn parent(pid: i32) -> io::Result<i32> {
    of_stat(pid, parse_parent)
}

/// The same from the text of proc(5)'s stat, in which the name is the process's own choice.
pub fn parse_parent(stat: &str) -> Option<i32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok().filter(|pid| *pid >= 0)
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_parent_of_a_process_that_lies_about_its_name() {
        assert_eq!(parse_parent("7 (x) S 1) S 42 7 7"), Some(42));
        assert_eq!(parse_parent("7 x S 1"), None);
    }

    proptest! {
        #[test]
        fn nothing_makes_a_parser_fail(text in "\\PC*|([0-9: =a-zA-Z.\n-]{0,200})") {
            prop_assert!(parse_parent(&text).is_none_or(|p| p >= 0));
        }
    }

    #[test]
    fn names_with_parentheses_do_not_confuse() {
        let fields: Vec<String> = (3..=40).map(|n| n.to_string()).collect();
        let stat = format!("7 (a) R (b)) {}", fields.join(" "));
        assert_eq!(parse_start_time(&stat), Some(22));
        assert_eq!(parse_start_time("7 (x"), None);
    }

    #[tokio::test]
    async fn another_start_time_is_another_process() {
        let me = i32::try_from(std::process::id()).expect("small");
        let start = start_time(me).expect("there");
        assert!(Process::adopt(me, start).is_ok());
        assert!(Process::adopt(me, start + 1).is_err());
    }

    #[tokio::test]
    async fn an_end_is_seen() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("spawned");
        let process = Process::child(child.id().cast_signed()).expect("held");
        assert!(!process.ended_within(Duration::from_millis(10)).await);
        process.kill().expect("killed");
        assert!(process.ended_within(Duration::from_secs(5)).await);
        child.wait().expect("reaped");
        process.kill().expect("nothing to do");
    }
}
