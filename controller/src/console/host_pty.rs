//! PTYs on the host's devpts: the permanent one of each console, and those handed out to clients.

use std::os::fd::OwnedFd;

use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use berth_sys::poll::{HUP, PollSet};

/// The master and the name of its slave.
#[derive(Debug)]
pub struct HostPty {
    /// Master.
    pub master: OwnedFd,
    /// "/dev/pts/N".
    pub path: String,
}

impl HostPty {
    /// Whether no program has the slave open. Only while we have none ourselves.
    pub fn is_hung_up(&self) -> bool {
        let mut set = PollSet::default();
        set.add(&self.master, 0, ());
        set.wait(Some(std::time::Duration::ZERO)).is_ok()
            && set.happened(0).is_some_and(|((), events)| events & HUP != 0)
    }
}

/// Makes one that only root may open, and its slave in raw mode: the container's terminal does the echoing. `ours` is
/// the side that this process reads and writes: non-blocking.
pub fn make(ours: Side) -> Result<(HostPty, OwnedFd), Errno> {
    // CLOEXEC is not among POSIX's flags of posix_openpt(3), and Linux takes it.
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    unlockpt(&master)?;
    let path = ptsname(&master, Vec::new())?.into_string().map_err(|_| Errno::IO)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    let mut settings = tcgetattr(&slave)?;
    settings.make_raw();
    tcsetattr(&slave, OptionalActions::Now, &settings)?;
    fchown(&slave, Some(Uid::ROOT), None::<Gid>)?;
    fchmod(&slave, Mode::from_raw_mode(0o600))?;
    let fd = match ours {
        Side::Master => &master,
        Side::Slave => &slave,
    };
    fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?;
    Ok((HostPty { master, path }, slave))
}

/// A side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that was opened.
    Master,
    /// The one that programs open.
    Slave,
}
