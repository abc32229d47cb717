//! PTYs on the host's devpts: the permanent one of each console, and those handed out to clients.

use std::os::fd::OwnedFd;

use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// Both sides and the name of the slave.
#[derive(Debug)]
pub struct HostPty {
    /// Master.
    pub master: OwnedFd,
    /// Slave, in raw mode: the container's terminal does the echoing.
    pub slave: OwnedFd,
    /// "/dev/pts/N".
    pub path: String,
}

/// Makes one that only root may open. `ours` is the side that this process reads and writes: non-blocking.
pub fn make(ours: Side) -> Result<HostPty, Errno> {
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
    Ok(HostPty { master, slave, path })
}

/// A side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that was opened.
    Master,
    /// The one that programs open.
    Slave,
}
