//! The terminal on standard input: its size, raw mode, and the signals that must not leave it raw.
//!
//! Does not know what is shown on it.

use std::io::IsTerminal;

use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// Size of a window in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Width.
    pub columns: i64,
    /// Height.
    pub rows: i64,
}

/// Whether standard input is a terminal.
pub fn is_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// The size of the window, where it is known.
pub fn size() -> Option<Size> {
    let size = rustix::termios::tcgetwinsize(std::io::stdin()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0)
        .then(|| Size { columns: size.ws_col.into(), rows: size.ws_row.into() })
}

/// Raw mode while it lives; the former mode when it goes, also by panic.
pub struct Raw {
    former: Termios,
}

impl Raw {
    /// Switches to raw mode.
    pub fn enter() -> nix::Result<Self> {
        let former = tcgetattr(std::io::stdin())?;
        let raw = Self { former };
        raw.apply()?;
        Ok(raw)
    }

    /// Switches to raw mode again, as after a stop.
    pub fn apply(&self) -> nix::Result<()> {
        let mut mode = self.former.clone();
        cfmakeraw(&mut mode);
        tcsetattr(std::io::stdin(), SetArg::TCSANOW, &mode)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &self.former);
    }
}

/// Signals that come as data while it lives.
pub struct Signals {
    set: SigSet,
    /// Readable when there is one.
    pub fd: SignalFd,
}

impl Signals {
    /// Takes these signals.
    pub fn take(signals: &[Signal]) -> nix::Result<Self> {
        let set: SigSet = signals.iter().copied().collect();
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { set, fd })
    }

    /// The next one that has come.
    pub fn next(&self) -> Option<Signal> {
        let info = self.fd.read_signal().ok()??;
        i32::try_from(info.ssi_signo).ok().and_then(|n| Signal::try_from(n).ok())
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let _ = self.set.thread_unblock();
    }
}

/// Ends the program as the signal would have done.
pub fn die_of(signal: Signal) {
    let _ = raise(signal);
}
