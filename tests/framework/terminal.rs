//! A program on a terminal of its own, as a person would use it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{Outcome, patient};

/// A program and the master of its terminal.
pub struct Terminal {
    master: File,
    child: Child,
    /// Everything it has shown that no `expect` has taken yet.
    shown: String,
    /// Everything it has shown.
    pub transcript: String,
}

impl Terminal {
    /// Runs a program as the leader of a session on a new terminal of 80x24.
    pub fn run(command: &Command) -> Result<Self, String> {
        let pty = nix::pty::openpty(None, None).map_err(|e| format!("cannot make a PTY: {e}"))?;
        let side =
            |fd: &OwnedFd| fd.try_clone().map(Stdio::from).map_err(|e| format!("cannot use a PTY: {e}"));
        set_size(&pty.master, 80, 24)?;
        // setsid(1) of util-linux makes the terminal the controlling one, for which we would need unsafe code.
        let mut setsid = Command::new("setsid");
        setsid.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => setsid.env(key, value),
                None => setsid.env_remove(key),
            };
        }
        let child = setsid
            .stdin(side(&pty.slave)?)
            .stdout(side(&pty.slave)?)
            .stderr(side(&pty.slave)?)
            .spawn()
            .map_err(|e| format!("cannot run setsid: {e}"))?;
        Ok(Self { master: File::from(pty.master), child, shown: String::new(), transcript: String::new() })
    }

    /// Types.
    pub fn say(&mut self, text: &str) -> Outcome {
        // Nobody reads what is typed into a terminal whose program has ended, and the write would never return.
        if let Ok(Some(status)) = self.child.try_wait() {
            return Err(format!(
                "the program on the terminal has ended: {status}: {}",
                self.transcript.escape_debug()
            ));
        }
        self.master.write_all(text.as_bytes()).map_err(|e| format!("cannot type: {e}"))
    }

    /// Waits until the program has shown `text` and returns what it showed up to there.
    pub fn expect(&mut self, text: &str, seconds: u64) -> Result<String, String> {
        let deadline = Instant::now() + patient(seconds);
        loop {
            if let Some(at) = self.shown.find(text) {
                let rest = self.shown.split_off(at + text.len());
                return Ok(std::mem::replace(&mut self.shown, rest));
            }
            if !self.read_some(deadline)? {
                return Err(format!("'{text}' was not shown, but '{}'", self.shown.escape_debug()));
            }
        }
    }

    /// Takes what is shown within a time.
    pub fn drain(&mut self, time: Duration) -> String {
        let deadline = Instant::now() + time;
        while self.read_some(deadline).unwrap_or(false) {}
        std::mem::take(&mut self.shown)
    }

    /// Reads once; false at the deadline or the end.
    fn read_some(&mut self, deadline: Instant) -> Result<bool, String> {
        let left = deadline.saturating_duration_since(Instant::now()).as_millis();
        let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        if poll(&mut fds, timeout).map_err(|e| format!("cannot poll: {e}"))? == 0 {
            return Ok(false);
        }
        let mut buffer = [0; 65536];
        // EIO is how a terminal ends.
        let n = self.master.read(&mut buffer).unwrap_or(0);
        let text = String::from_utf8_lossy(&buffer[..n]);
        self.shown.push_str(&text);
        self.transcript.push_str(&text);
        Ok(n > 0)
    }

    /// The master, to measure with.
    pub fn master(&mut self) -> &mut File {
        &mut self.master
    }

    /// Changes the window.
    pub fn resize(&self, columns: u16, rows: u16) -> Outcome {
        set_size(&self.master, columns, rows)
    }

    /// Waits for the end and gives the exit status.
    pub fn wait(&mut self, seconds: u64) -> Result<i32, String> {
        let deadline = Instant::now() + patient(seconds);
        loop {
            if let Some(status) = self.child.try_wait().map_err(|e| format!("cannot wait: {e}"))? {
                return Ok(status.code().unwrap_or(-1));
            }
            if Instant::now() > deadline {
                return Err(format!("the program on the terminal did not end in {seconds} s"));
            }
            // A program that waits for its terminal to take its last words must not wait for us.
            self.read_some(Instant::now() + Duration::from_millis(5))?;
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn set_size(fd: impl AsFd, columns: u16, rows: u16) -> Outcome {
    let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(fd, size).map_err(|e| format!("cannot set the window size: {e}"))
}
