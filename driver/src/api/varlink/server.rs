//! The socket: bound without a gap, and a task for each connection.
//!
//! Does not know what is said on a connection.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};
use tokio::net::{UnixListener, UnixStream};

use crate::api::varlink::connection;
use crate::api::varlink::places::{Full, Places};
use crate::api::varlink::reply::{CallError, Outbox};
use crate::engine::Engine;
use crate::failure::Failure;

/// Name of the socket in the run directory.
const SOCKET: &str = "io.berth";

/// A listening socket.
#[derive(Debug)]
pub struct Listener(StdListener);

/// Why nobody can be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation}: {cause}")]
pub struct ServeError {
    operation: String,
    cause: io::Error,
}

impl ServeError {
    fn new(operation: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let operation = operation.into();
        move |cause| Self { operation, cause }
    }
}

impl Listener {
    /// Binds the socket in the run directory. It takes the place of an old one at once, so that a client either
    /// reaches the old daemon or this one. The caller holds the lock.
    pub fn bind(run: &Path) -> Result<Self, ServeError> {
        let path = run.join(SOCKET);
        Self::bind_in(run).map(Self).map_err(ServeError::new(format!("listen on '{}'", path.display())))
    }

    fn bind_in(run: &Path) -> io::Result<StdListener> {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let folder = rustix::fs::open(run, flags, Mode::empty())?;
        let new = format!(".{SOCKET}.new");
        match rustix::fs::unlinkat(&folder, &new, rustix::fs::AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(e) => return Err(e.into()),
        }
        // Through the folder's descriptor: the path of a socket may only have 107 bytes.
        let listener = StdListener::bind(format!("/proc/self/fd/{}/{new}", folder.as_raw_fd()))?;
        // Everybody may connect; what they may do is told by their credentials.
        std::fs::set_permissions(run.join(&new), std::fs::Permissions::from_mode(0o666))?;
        rustix::fs::renameat(&folder, &new, &folder, SOCKET)?;
        Ok(listener)
    }

    /// Takes the socket that the service manager passed, if it passed one.
    pub fn inherited() -> Result<Option<Self>, ServeError> {
        Self::take_inherited().map_err(ServeError::new("take the socket of the service manager"))
    }

    fn take_inherited() -> io::Result<Option<Self>> {
        let Some(number) = sd_notify::listen_fds()?.next() else { return Ok(None) };
        // A number is not a descriptor that anybody owns; the kernel gives us one of our own for it.
        let me =
            rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty())?;
        let own: OwnedFd =
            rustix::process::pidfd_getfd(me, number, rustix::process::PidfdGetfdFlags::empty())?;
        // As sd_is_socket_unix(3) has it: who is given something else would never be found.
        let is_ours = socket_domain(&own) == Ok(AddressFamily::UNIX)
            && socket_type(&own) == Ok(SocketType::STREAM)
            && socket_acceptconn(&own) == Ok(true);
        if !is_ours {
            return Err(io::Error::other("it is not a unix stream socket that listens"));
        }
        Ok(Some(Self(StdListener::from(own))))
    }
}

/// Serves until the future is dropped.
pub async fn serve(engine: Arc<Engine>, listener: Listener) -> Result<(), ServeError> {
    let start = || {
        listener.0.set_nonblocking(true)?;
        UnixListener::from_std(listener.0)
    };
    let socket = start().map_err(ServeError::new("use the socket"))?;
    let places = Arc::new(Places::default());
    let own = rustix::process::geteuid().as_raw();
    loop {
        match socket.accept().await {
            // Who cannot be told apart is nobody in particular.
            Ok((stream, _)) => {
                let user = stream.peer_cred().map_or(u32::MAX, |c| c.uid());
                match places.take(user, own) {
                    Ok(place) => {
                        let engine = engine.clone();
                        tokio::spawn(async move {
                            connection::run(engine, stream).await;
                            drop(place);
                        });
                    }
                    Err(full) => refuse(&stream, user, full),
                }
            }
            Err(e) => {
                // Out of descriptors, most likely: it passes, and spinning does not help.
                tracing::warn!("cannot accept a connection: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Says why, as the answer to whatever was going to be asked, as far as that can be done without waiting.
fn refuse(stream: &UnixStream, user: u32, Full { message, is_news }: Full) {
    if is_news {
        tracing::warn!("refusing a connection of user {user}: {message}");
    }
    let mut out = Outbox::default();
    out.bad(&CallError::Failure(Failure::Failed(format!("the daemon takes no more connections: {message}"))));
    drop(stream.try_write(out.waiting()));
}
