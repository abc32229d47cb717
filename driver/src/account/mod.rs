//! What running domains use.
//!
//! A meter for each domain that somebody has asked about keeps the kernel's files open: opening them takes most of the
//! time, and a thousand domains are to be read in some milliseconds. Meters that nobody uses are closed again. Does not
//! know definitions or clients.

mod files;
mod meter;
mod parse;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use berth_schemas::domain::StatsGroup;
use uuid::Uuid;

use files::Allowance;
pub use files::Buffer;
pub use meter::{Figures, Meter, Places, Who, host_ends};
pub use parse::{pressure as parse_pressure, unused};

/// Files of a domain that nobody has asked about for so long are closed.
pub const IDLE: Duration = Duration::from_secs(300);

/// The meters of all domains.
#[derive(Debug)]
pub struct Meters {
    all: Mutex<HashMap<Uuid, (Arc<Meter>, Instant)>>,
    /// The kernel's names of block devices by number.
    names: Mutex<HashMap<String, String>>,
    allowance: Allowance,
    sweeping: AtomicBool,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            all: Mutex::default(),
            names: Mutex::default(),
            allowance: Allowance::of_this_process(),
            sweeping: AtomicBool::new(false),
        }
    }
}

impl Meters {
    fn all(&self) -> MutexGuard<'_, HashMap<Uuid, (Arc<Meter>, Instant)>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the figures of a running domain. For a thread that may block.
    pub fn read(
        &self,
        uuid: Uuid,
        who: Who,
        places: impl FnOnce() -> Places,
        groups: &[StatsGroup],
        buffer: &mut Buffer,
    ) -> Figures {
        let meter = self.meter(uuid, who, places);
        let mut figures = meter.read(groups, &self.allowance, buffer);
        for block in figures.blocks.iter_mut().flatten() {
            block.name = self.device_name(&block.device);
        }
        figures
    }

    fn meter(&self, uuid: Uuid, who: Who, places: impl FnOnce() -> Places) -> Arc<Meter> {
        let mut all = self.all();
        let now = Instant::now();
        if let Some((meter, used)) = all.get_mut(&uuid) {
            if meter.who() == who {
                *used = now;
                return meter.clone();
            }
            meter.close(&self.allowance);
        }
        let meter = Arc::new(Meter::new(places(), who));
        all.insert(uuid, (meter.clone(), now));
        meter
    }

    /// Forgets a domain that ended. What it held open of the container's network lets that go.
    pub fn forget(&self, uuid: Uuid) {
        let gone = self.all().remove(&uuid);
        if let Some((meter, _)) = gone {
            meter.close(&self.allowance);
        }
    }

    /// Closes what was not used lately. Answers whether any is left.
    pub fn close_idle(&self, idle: Duration) -> bool {
        let mut all = self.all();
        all.retain(|_, (meter, used)| {
            let keep = used.elapsed() < idle;
            if !keep {
                meter.close(&self.allowance);
            }
            keep
        });
        self.names.lock().unwrap_or_else(PoisonError::into_inner).clear();
        !all.is_empty()
    }

    /// Whether the caller has to see to it that idle meters are closed, since nobody does yet: one timer for all of
    /// them, and none where nobody asks for figures.
    pub fn begin_sweeping(&self) -> bool {
        !self.sweeping.swap(true, Ordering::AcqRel)
    }

    /// Nobody does any more.
    pub fn end_sweeping(&self) {
        self.sweeping.store(false, Ordering::Release);
    }

    /// The kernel's name of a block device; its number where it has none.
    pub fn device_name(&self, device: &str) -> String {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = names.get(device) {
            return name.clone();
        }
        let link = std::fs::read_link(format!("/sys/dev/block/{device}")).ok();
        let last = link.as_deref().and_then(|l| l.file_name()?.to_str());
        let name = last.unwrap_or(device).to_owned();
        names.insert(device.to_owned(), name.clone());
        name
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn places(unified: &std::path::Path) -> Places {
        Places { unified: unified.into(), cpu: None, cpuacct: None, memory: None, blkio: None, pids: None }
    }

    #[test]
    fn meters_belong_to_one_run() {
        let dir = tempfile::tempdir().expect("folder");
        std::fs::write(dir.path().join("pids.current"), "3\n").expect("written");
        let (meters, uuid, mut buffer) = (Meters::default(), Uuid::nil(), Buffer::default());
        let who = Who { controller: 1, init: Some(2) };
        let mut tasks = |who| {
            let read = meters.read(uuid, who, || places(dir.path()), &[StatsGroup::Tasks], &mut buffer);
            read.tasks.and_then(|t| t.current)
        };
        assert_eq!(tasks(who), Some(3));
        std::fs::remove_file(dir.path().join("pids.current")).expect("removed");
        // It is still open, until another run begins.
        assert_eq!(tasks(who), Some(3));
        assert_eq!(tasks(Who { controller: 3, init: Some(4) }), None);
        assert!(meters.close_idle(IDLE));
        assert!(!meters.close_idle(Duration::ZERO));
        meters.forget(uuid);
        assert!(meters.begin_sweeping() && !meters.begin_sweeping());
    }
}
