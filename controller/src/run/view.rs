//! The view while the container runs: somebody who serves it when somebody asks, and only then.
//!
//! While the program runs it is waited for; while it does not, the connection is looked at, and nothing is read from it. A program
//! that fails again and again is started ever more slowly, and who asks meanwhile is told so. A connection that somebody has
//! aborted, as fusectl lets root do, is replaced by another; the mounts are the business of [`crate::hotplug`].

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use berth_sys::poll::IN;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::Controller;
use crate::birth::describe;
use crate::failure::{Doing, Failure, Step};
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

/// So long a connection that was aborted is left alone: at the end of a container it ends a moment before init does.
const MOMENT: Duration = Duration::from_millis(200);

/// The shortest time between two new connections. It grows with each that fails.
const BRAKE: Duration = Duration::from_secs(15);

/// The shortest time between two lines about them in the log.
const QUIET: Duration = Duration::from_secs(600);

/// So many failures in a row are told. It is tried on: who aborts each new connection must stop some time.
const TRIES: u32 = 3;

/// The longest time between two, in those of the brake.
const SLOWEST: u32 = 20;

impl View {
    /// Who serves, or the connection while nobody does.
    pub fn waits_for(&self) -> Option<&OwnedFd> {
        let sound = self.mending.due.is_none() && !self.mending.over;
        self.server.as_ref().or(Some(&self.device).filter(|_| sound))
    }

    /// When somebody has to look at who serves, or to mend the connection.
    pub fn deadline(&self) -> Option<Instant> {
        let look = self.server.as_ref().map(|_| self.look.0 + LOOK);
        let call = self.calls.open.map(|call| call.deadline);
        look.into_iter().chain(self.mending.due).chain(call).chain(self.held_until()).min()
    }

    /// Tries it again, but not too soon.
    fn mend_later(&mut self) {
        let soon = Instant::now() + MOMENT;
        let brake = BRAKE * self.mending.tries.clamp(1, SLOWEST);
        self.mending.due = Some(self.mending.begun.map_or(soon, |begun| soon.max(begun + brake)));
    }

    /// Looks, if it is time.
    pub fn look(&mut self, now: Instant) {
        self.look_at_call(now);
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
    pub fn pause(&self) -> Instant {
        let step = self.failures.saturating_sub(AT_ONCE).min(LONGEST);
        self.since + Duration::from_millis(if step == 0 { 0 } else { 50 << step })
    }

    /// Nobody could be started: the next time is later.
    pub fn failed(&mut self) {
        self.failures += AT_ONCE;
        self.since = Instant::now();
        self.despair();
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
            // Its answer may be on its way already.
            if view.calls.open.is_some() && view.calls.writer.is_none() {
                self.ask_about_call();
            }
        } else if events & IN == 0 {
            // It was aborted, or is mounted nowhere any more.
            view.mend_later();
        } else if Instant::now() < view.pause() {
            view.refuse();
        } else {
            self.serve_view();
        }
    }

    /// Makes another connection in the place of one that was aborted, if it is time.
    pub fn mend_view(&mut self, now: Instant) {
        if self.view.as_ref().and_then(|v| v.mending.due).is_none_or(|due| now < due) {
            return;
        }
        let free = self.can_change().is_ok();
        let Some(view) = &mut self.view else { return };
        if !free {
            return view.mend_later();
        }
        view.mending.due = None;
        view.mending.begun = Some(now);
        view.mending.tries += 1;
        let begun = view.renew(&self.plan, &self.descriptors).and_then(|mount| {
            self.begin_mending(mount)
                .map_err(|_| Doing::new(Step::View, "clone3").refused("no process could be made"))
        });
        if let Err(failure) = begun {
            self.view_mended(false, Some(failure));
        }
    }

    /// It has been tried. `seen`: something of the old connection was there to be replaced.
    pub fn view_mended(&mut self, seen: bool, failure: Option<Failure>) {
        let Some(view) = &mut self.view else { return };
        match failure {
            None if seen => {
                view.mending.tries = 0;
                if view.mending.told.is_none_or(|told| told.elapsed() > QUIET) {
                    view.mending.told = Some(Instant::now());
                    crate::note("the connection of the container's view was aborted; it has another one");
                }
            }
            // Nobody sees it. There may be calls yet.
            None => view.mending.over = true,
            Some(failure) => {
                if view.mending.tries == TRIES {
                    view.mending.told = None;
                    crate::note(&format!(
                        "the connection of the container's view was aborted, and could not be made anew so far; \
                         a restart of the container heals it: {}",
                        describe(&failure)
                    ));
                }
                view.mend_later();
                if view.server.is_none() {
                    view.pass();
                }
            }
        }
    }
}
