//! The service manager that may have started the daemon: is told when all is ready, that the daemon lives, and when
//! settings are read again.
//!
//! Does not know what the settings do, nor which service manager it is. Source: sd_notify(3), sd_watchdog_enabled(3).

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use berth_domain::printable;
use sd_notify::NotifyState;
use tokio::signal::unix::Signal;

use crate::config::Config;
use crate::engine::Engine;
use crate::engine::publish::blocking;

/// Where settings come from.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file.
    pub path: PathBuf,
    /// Whether somebody named it, so that it has to be there.
    pub named: bool,
}

impl Settings {
    /// Reads them.
    pub fn load(&self) -> Result<Config, String> {
        Config::load(&self.path, self.named).map_err(|e| e.to_string())
    }
}

/// Tells that all is ready and keeps telling that the daemon lives, as often as the service manager wants to hear it.
pub fn ready(engine: &Arc<Engine>) {
    tell(&[NotifyState::Ready]);
    if let Some(limit) = sd_notify::watchdog_enabled() {
        tokio::spawn(watch(engine.clone(), limit));
    }
}

/// Tells that the daemon ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// A daemon whose threads are all held up, or whose domains cannot be looked at, does not come to tell.
async fn watch(engine: Arc<Engine>, limit: Duration) {
    let mut ticks = tokio::time::interval(limit / 3);
    loop {
        ticks.tick().await;
        let looked = engine.clone();
        match blocking(move || Ok(looked.registry.all().len())).await {
            Ok(_) => tell(&[NotifyState::Watchdog]),
            Err(e) => tracing::error!("cannot look at the domains: {e}"),
        }
    }
}

/// At each SIGHUP, reads the settings again and makes the rules of networks once more. Settings that cannot be used are
/// reported, and the old ones stay. For a daemon that has told that it is ready, since the end of this tells the same.
pub async fn reload(engine: Arc<Engine>, settings: Settings, mut hangups: Signal) {
    while hangups.recv().await.is_some() {
        match NotifyState::monotonic_usec_now() {
            // The service manager compares that with when it asked.
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(e) => tracing::warn!("cannot tell the service manager of a reload: {e}"),
        }
        let again = settings.clone();
        let read = blocking(move || Ok(again.load())).await;
        let status = match read.unwrap_or_else(|e| Err(e.to_string())) {
            Ok(config) => {
                engine.set_config(config);
                tracing::info!("settings were read again");
                "settings were read again".to_owned()
            }
            Err(e) => {
                tracing::error!("settings stay as they were: {e}");
                format!("settings stay as they were: {e}")
            }
        };
        engine.networks.make_rules_again().await;
        // One line is one thing told, and settings are somebody's text.
        tell(&[NotifyState::Ready, NotifyState::Status(&printable(status))]);
    }
}

fn tell(news: &[NotifyState<'_>]) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|s| !s.is_empty()) else { return };
    let message: String = news.iter().map(|n| format!("{n}\n")).collect();
    if let Err(e) = send(&socket, &message) {
        let socket = socket.display();
        tracing::warn!("cannot tell the service manager '{}' at '{socket}': {e}", message.trim_end());
    }
}

/// To a path, or to a name in the abstract namespace, which the crate takes for a path.
fn send(socket: &OsStr, message: &str) -> std::io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_service_manager_may_be_at_a_path_or_a_name() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("notify");
        let name = format!("berth-test-{}", std::process::id());
        let sockets = [
            (UnixDatagram::bind(&path).expect("bound"), path.as_os_str().to_owned()),
            (
                SocketAddr::from_abstract_name(&name)
                    .and_then(|a| UnixDatagram::bind_addr(&a))
                    .expect("bound"),
                format!("@{name}").into(),
            ),
        ];
        for (manager, place) in sockets {
            send(&place, "READY=1\n").expect("sent");
            let mut bytes = [0; 32];
            let length = manager.recv(&mut bytes).expect("received");
            assert_eq!(&bytes[..length], b"READY=1\n");
        }
        assert!(send(OsStr::new("@nobody-is-there"), "READY=1\n").is_err());
    }
}
