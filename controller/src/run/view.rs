//! The view while the container runs: somebody who serves it when somebody asks, and only then.
//!
//! While the program runs it is waited for; while it does not, the connection is looked at, and nothing is read from it. A program
//! that fails again and again is started ever more slowly, and who asks meanwhile is told so.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use berth_sys::poll::IN;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::Controller;
use crate::setup::view::View;

/// A run that was at least this long counts as a good one.
const GOOD: Duration = Duration::from_secs(1);

/// So many failures in a row are made good at once.
const AT_ONCE: u32 = 4;

/// The longest pause, as a power of two of the shortest, which is a tenth of a second.
const LONGEST: u32 = 7;

/// How often whoever serves is looked at. Who is stopped at two looks is ended: it cannot end itself as it would for an answer
/// that takes so long, and whoever waits for one would wait for ever.
const LOOK: Duration = Duration::from_millis(2500);

impl View {
    /// When somebody has to look at who serves.
    pub fn deadline(&self) -> Option<Instant> {
        self.server.as_ref().map(|_| self.look.0 + LOOK)
    }

    /// Looks, if it is time.
    pub fn look(&mut self, now: Instant) {
        let Some(server) = self.server.as_ref().filter(|_| now >= self.look.0 + LOOK) else { return };
        // Without taking notice of it: what has been continued meanwhile is not told.
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let stopped = matches!(waitid(WaitId::PidFd(server.as_fd()), options), Ok(Some(_)));
        if stopped && self.look.1 {
            crate::note("berth-view was stopped; another one will serve");
            self.stop();
        }
        self.look = (now, stopped);
    }

    /// Until when nothing is started.
    fn pause(&self) -> Instant {
        let step = self.failures.saturating_sub(AT_ONCE).min(LONGEST);
        self.since + Duration::from_millis(if step == 0 { 0 } else { 50 << step })
    }

    /// Answers one request with an error.
    fn refuse(&self) {
        let mut bytes = [0; 8192];
        let Ok(length) = rustix::io::read(&self.device, &mut bytes) else { return };
        // Length, kind and number of the request; the kinds are forgotten files and interruptions, which nobody waits
        // for: linux/fuse.h.
        if length >= 16 && !matches!(bytes[4], 2 | 36 | 42) {
            let mut reply = [0; 16];
            reply[..4].copy_from_slice(&16_u32.to_ne_bytes());
            reply[4..8].copy_from_slice(&(-rustix::io::Errno::IO.raw_os_error()).to_ne_bytes());
            reply[8..].copy_from_slice(&bytes[8..16]);
            let _ = rustix::io::write(&self.device, &reply);
        }
    }
}

impl Controller {
    /// Something happened to who serves the view, or to the connection.
    pub fn view_woken(&mut self, events: i16) {
        let Some(view) = &mut self.view else { return };
        if let Some(server) = &view.server {
            // Without waiting: it may be another view by now than the one that this is about.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            let status = match waitid(WaitId::PidFd(server.as_fd()), options) {
                Ok(None) => return,
                status => status.ok().flatten(),
            };
            view.server = None;
            if status.is_some_and(|s| s.exit_status() == Some(0)) || view.since.elapsed() > GOOD {
                view.failures = 0;
            } else {
                view.failures += 1;
                view.since = Instant::now();
            }
        } else if events & IN == 0 {
            // It is mounted nowhere any more.
            self.view = None;
        } else if Instant::now() < view.pause() {
            view.refuse();
        } else if let Err(failure) = view.serve(&self.plan, &self.descriptors) {
            crate::note(&crate::birth::describe(&failure));
            view.failures += AT_ONCE;
            view.since = Instant::now();
        }
    }
}
