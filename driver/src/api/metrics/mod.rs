//! The page for Prometheus: an address that is given on the command line, and the figures behind it.
//!
//! Off by default. Shows what every reader of the daemon's own socket may see, and takes no orders.

mod http;
mod page;

use std::fmt;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::engine::Engine;

/// Where the page is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// HOST:PORT
    Tcp(String),
    /// unix:PATH
    Unix(PathBuf),
}

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match Path::new(path).is_absolute() {
                true => Ok(Self::Unix(path.into())),
                false => Err(format!("'{path}' is not an absolute path")),
            };
        }
        let port =
            text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
        match port {
            Some(Ok(_)) => Ok(Self::Tcp(text.to_owned())),
            _ => Err(format!("'{text}' is neither HOST:PORT nor unix:PATH, for example '127.0.0.1:9177'")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A socket of ours in the file system, which is removed with this.
#[derive(Debug)]
pub struct Served(Option<PathBuf>);

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Somebody may have tidied up.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// How long a daemon that has the socket already may take to be noticed.
const PATIENCE: Duration = Duration::from_secs(1);

/// Makes way for a socket.
///
/// # Errors
/// Somebody listens there.
async fn make_way(path: &Path) -> io::Result<()> {
    if !std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket()) {
        return Ok(());
    }
    match tokio::time::timeout(PATIENCE, UnixStream::connect(path)).await {
        // What a daemon before this one has left.
        Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// Listens, and serves the page until the daemon ends.
///
/// # Errors
/// The address cannot be had, or somebody else has it.
pub async fn start(engine: Arc<Engine>, address: &Address) -> io::Result<Served> {
    match address {
        Address::Tcp(address) => {
            let listener = TcpListener::bind(address.as_str()).await?;
            tokio::spawn(http::serve(engine, listener));
            Ok(Served(None))
        }
        Address::Unix(path) => {
            make_way(path).await?;
            let listener = UnixListener::bind(path)?;
            // As the daemon's own socket, where everybody may read the same.
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
            tokio::spawn(http::serve(engine, listener));
            Ok(Served(Some(path.clone())))
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!("127.0.0.1:9177".parse(), Ok(Address::Tcp("127.0.0.1:9177".into())));
        assert_eq!("[::1]:9177".parse(), Ok(Address::Tcp("[::1]:9177".into())));
        assert_eq!("unix:/run/x".parse(), Ok(Address::Unix("/run/x".into())));
        for bad in ["", "9177", ":9177", "host:", "host:99999", "unix:", "unix:x"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_socket_is_taken_from_the_dead_only() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("page");
        make_way(&path).await.expect("nothing is there");
        let listener = UnixListener::bind(&path).expect("bound");
        let refused = make_way(&path).await.expect_err("somebody listens");
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        make_way(&path).await.expect("nobody listens any more");
        assert!(!path.exists());
        // What is no socket is nobody's to remove: binding to it fails.
        std::fs::write(&path, "x").expect("written");
        make_way(&path).await.expect("left alone");
        assert!(path.exists());
        drop(Served(Some(path.clone())));
        assert!(!path.exists());
    }
}
