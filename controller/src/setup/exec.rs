//! The last step: looking at what init is, and becoming it.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_schemas::controller::PlanInit;
use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;

use crate::failure::{Doing, Failure, Outcome, Step};

use super::handshake::{Handshake, News};
use super::inside::{Prepared, descriptor};
use super::resolve;
use super::rootfs::Inside;
use super::{credentials, notify};

/// Looks at the program, so that the usual mistakes are told as what they are: execve(2) says EACCES to three of them.
pub fn check(inside: &Inside<'_>, init: &PlanInit) -> Outcome<()> {
    let doing = Doing::new(Step::Exec, "execve").path(&init.path);
    let program = resolve::find(inside.root(), &init.path).map_err(|e| match e {
        Errno::NOENT => doing.failed_because(e, "there is no such file in the root"),
        e => doing.failed(e),
    })?;
    let stat = fstat(&program).map_err(|e| doing.failed(e))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => return Err(doing.failed_because(Errno::ACCESS, "it is a directory")),
        FileType::RegularFile => {}
        _ => return Err(doing.failed_because(Errno::ACCESS, "it is not a regular file")),
    }
    if stat.st_mode & 0o111 == 0 {
        return Err(doing.failed_because(Errno::ACCESS, "it is not executable"));
    }
    Ok(())
}

/// Everything that exec needs, made before: nothing can fail between here and there for want of a conversion.
#[derive(Debug)]
pub struct Ready<'a> {
    shown: &'a str,
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    standard: OwnedFd,
    passed: Vec<BorrowedFd<'a>>,
}

impl<'a> Ready<'a> {
    /// Collects it. `notify`: init has where to say that it is ready.
    pub fn new(p: &'a Prepared<'a>, terminal: Option<OwnedFd>, notify: bool) -> Outcome<Self> {
        let init = &p.plan.init;
        let standard = match terminal {
            Some(terminal) => terminal,
            None => openat(&p.dev, "null", OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|e| Doing::new(Step::Exec, "open").path("/dev/null").failed(e))?,
        };
        let mut environment = strings(&init.env)?;
        environment.extend(strings(&container_ttys(p))?);
        // What the document says comes first.
        let own = |name: &str| init.env.iter().any(|e| e.split('=').next() == Some(name));
        let told = !p.plan.credentials.is_empty();
        for (is, name, path) in
            [(notify, "NOTIFY_SOCKET", notify::PATH), (told, "CREDENTIALS_DIRECTORY", credentials::PATH)]
        {
            environment.extend(strings(&(is && !own(name)).then(|| format!("{name}={path}")))?);
        }
        let passed = p
            .plan
            .init_file_descriptors
            .iter()
            .map(|index| descriptor(Step::Exec, p.descriptors, *index))
            .collect::<Outcome<_>>()?;
        let path = string(&init.path)?;
        Ok(Self { shown: &init.path, path, arguments: strings(&init.args)?, environment, standard, passed })
    }
}

/// The terminals besides the console on which init starts login programs (systemd's container interface).
fn container_ttys(p: &Prepared<'_>) -> Option<String> {
    let names: Vec<String> = p.terminals.iter().skip(1).map(|t| format!("pts/{}", t.number)).collect();
    (!names.is_empty()).then(|| format!("container_ttys={}", names.join(" ")))
}

fn strings<'s>(all: impl IntoIterator<Item = &'s String>) -> Outcome<Vec<CString>> {
    all.into_iter().map(|s| string(s)).collect()
}

fn string(s: &str) -> Outcome<CString> {
    CString::new(s).map_err(|_| Doing::new(Step::Exec, "execve").path(s).refused("it has a zero byte"))
}

/// Becomes init; comes back with what failed.
pub fn exec(ready: &Ready<'_>, handshake: Handshake) -> (Failure, Handshake) {
    let doing = Doing::new(Step::Exec, "execve").path(ready.shown);
    // Also the last look whether the controller is still there.
    if let Err(e) = handshake.tell(&News::Ready) {
        return (doing.failed(e), handshake);
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    berth_sys::signal::reset();
    let standard = ready.standard.as_fd();
    let descriptors: Vec<_> = [standard; 3].into_iter().chain(ready.passed.iter().copied()).collect();
    let image = berth_sys::exec::Image {
        path: &ready.path,
        arguments: &ready.arguments,
        environment: &ready.environment,
        descriptors: &descriptors,
    };
    let (errno, socket) = berth_sys::exec::exec(&image, handshake.into_socket());
    let failure = match errno {
        // It was there a moment ago, so it is what it names: "#!" or the ELF loader.
        Errno::NOENT => doing.failed_because(errno, "the program or its interpreter is missing"),
        Errno::NOEXEC => doing.failed_because(errno, "it is not a program for this machine"),
        _ => doing.failed(errno),
    };
    (failure, Handshake::from_socket(socket))
}
