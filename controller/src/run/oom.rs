//! Processes of the container that were killed for want of memory: noticed as it happens, told at most once a second.
//!
//! On cgroup v2 `memory.events` wakes a poll when one of its counters changes (cgroup-v2.rst); on v1 the kernel writes
//! to an eventfd when a group is out of memory, just before it kills (cgroup-v1/memory.rst, "OOM Control"). Either
//! way the counter is what is told, and no timer runs unless something has just happened.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use berth_schemas::controller::PlanCgroups;
use berth_sys::poll::{IN, PRI};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::setup::cgroup;

use super::Controller;

/// How long nothing is looked at after something was. A group at its limit wakes us again and again, kill or no kill.
const REST: Duration = Duration::from_secs(1);

/// When is looked first: what was woken up about may come a moment later.
const SOON: Duration = Duration::from_millis(20);

/// How often is looked after a wake without a kill.
const LOOKS: u8 = 2;

/// What tells.
#[derive(Debug)]
enum Source {
    Events(OwnedFd),
    Eventfd(OwnedFd),
}

/// The watch.
#[derive(Debug)]
pub struct OomWatch {
    source: Option<Source>,
    /// Kills that were told.
    told: u64,
    /// When to look at the counter.
    look: Option<Instant>,
    looks: u8,
}

impl OomWatch {
    /// Watches the domain's groups. Where nothing tells, kills are noticed when init ends.
    pub fn new(groups: &PlanCgroups) -> Self {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let source = match &groups.legacy_memory {
            None => open(format!("{}/memory.events", groups.unified), flags, Mode::empty())
                .ok()
                .map(Source::Events),
            Some(group) => register(group).ok().map(Source::Eventfd),
        };
        let mut watch = Self { source, told: cgroup::oom_kills(groups), look: None, looks: 0 };
        watch.acknowledge();
        watch
    }

    /// What to poll, and for what. Nothing while a look is due: the look is what a wake would lead to.
    pub fn polled(&self) -> Option<(&OwnedFd, i16)> {
        match (&self.source, self.look) {
            (Some(Source::Events(fd)), None) => Some((fd, PRI)),
            (Some(Source::Eventfd(fd)), None) => Some((fd, IN)),
            _ => None,
        }
    }

    /// When something is to be done without a wake.
    pub fn deadline(&self) -> Option<Instant> {
        self.look
    }

    fn woken(&mut self, now: Instant) {
        self.look = Some(now + SOON);
        self.looks = LOOKS;
    }

    /// Lets the next poll wait for the next change.
    fn acknowledge(&mut self) {
        let mut text = [0; 256];
        match &self.source {
            Some(Source::Events(fd)) => drop(rustix::io::pread(fd, &mut text, 0)),
            Some(Source::Eventfd(fd)) => drop(rustix::io::read(fd, &mut text)),
            None => {}
        }
    }

    /// The kills since the last time, now that the counter says `kills`; plans the next look.
    fn count(&mut self, kills: u64, now: Instant) -> Option<i64> {
        let new = kills.saturating_sub(self.told);
        self.told = self.told.max(kills);
        // After a kill once more, so that the next is told a second later at the earliest.
        self.looks = if new > 0 { 1 } else { self.looks.saturating_sub(1) };
        self.look = (self.looks > 0).then(|| now + REST);
        if self.look.is_none() {
            self.acknowledge();
        }
        i64::try_from(new).ok().filter(|n| *n > 0)
    }
}

/// An eventfd for the memory group of a v1 hierarchy.
fn register(group: &str) -> Result<OwnedFd, Errno> {
    let control =
        open(format!("{group}/memory.oom_control"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let file =
        open(format!("{group}/cgroup.event_control"), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, format!("{} {}", event.as_raw_fd(), control.as_raw_fd()).as_bytes())?;
    Ok(event)
}

impl Controller {
    /// The kernel says that something was or will be killed.
    pub fn oom_woken(&mut self) {
        self.oom.woken(Instant::now());
    }

    /// Looks at the counter if that is due, or in any case, and tells what is new.
    pub fn look_for_oom(&mut self, now: Instant, in_any_case: bool) {
        if !in_any_case && self.oom.deadline().is_none_or(|at| now < at) {
            return;
        }
        let kills = cgroup::oom_kills(&self.plan.cgroups);
        if let Some(count) = self.oom.count(kills, now) {
            let event = self.history.oom_killed(count);
            self.publish(&event);
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn kills_are_told_once_and_the_looks_end() {
        let groups = PlanCgroups { unified: "/nosuch".into(), legacy: Vec::new(), legacy_memory: None };
        let mut watch = OomWatch::new(&groups);
        let now = Instant::now();
        assert!(watch.polled().is_none() && watch.deadline().is_none());
        // A wake without a kill: two looks, then quiet.
        watch.woken(now);
        assert_eq!(watch.count(0, now), None);
        assert!(watch.deadline().is_some());
        assert_eq!(watch.count(0, now), None);
        assert_eq!(watch.deadline(), None);
        // Three kills, one more during the rest.
        watch.woken(now);
        assert_eq!(watch.count(3, now), Some(3));
        assert_eq!(watch.deadline(), Some(now + REST));
        assert_eq!(watch.count(4, now), Some(1));
        assert_eq!(watch.count(4, now), None);
        assert_eq!(watch.deadline(), None);
        // A counter that went back is no kill.
        assert_eq!(watch.count(0, now), None);
    }
}
