//! How long each of the host's processors ran the container, counted by the kernel's performance events.
//!
//! Only for a plan that wants it: docs/decisions/0007 says why not always. Does not know who asks, nor hosts that count by
//! themselves (cpuacct of cgroup v1).

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use berth_schemas::controller::PlanCgroups;
use berth_sys::perf::count_processor_time;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::failure::{Doing, Outcome, Step};

/// Processors that are there or can be: admin-guide/cputopology.rst of the kernel's documentation.
const POSSIBLE: &str = "/sys/devices/system/cpu/possible";

/// One counter for each processor, for as long as the controller lives: restarts of the container are of the same group.
#[derive(Debug)]
pub struct CpuTimes {
    /// None is a processor that was offline.
    counters: Vec<Option<OwnedFd>>,
}

impl CpuTimes {
    /// Counts from now on what runs in the group with the limits.
    pub fn begin(groups: &PlanCgroups) -> Outcome<Self> {
        let doing = |operation, path| Doing::new(Step::Cgroup, operation).path(path);
        let text = fs::read_to_string(POSSIBLE)
            .map_err(|e| doing("read", POSSIBLE).failed(Errno::from_io_error(&e).unwrap_or(Errno::IO)))?;
        let count = processors(&text).ok_or_else(|| doing("read", POSSIBLE).failed(Errno::INVAL))?;
        let path = &*groups.unified;
        let group = open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| doing("open", path).failed(e))?;
        let counter = |processor| match count_processor_time(group.as_fd(), processor) {
            Err(Errno::NODEV | Errno::INVAL) => Ok(None),
            opened => opened.map(Some),
        };
        let counters = (0..count)
            .map(|processor| counter(processor).map_err(|e| doing("count cpu times of", path).failed(e)))
            .collect::<Outcome<Vec<_>>>()?;
        if counters.iter().all(Option::is_none) {
            return Err(doing("count cpu times of", path).failed(Errno::NODEV));
        }
        Ok(Self { counters })
    }

    /// Nanoseconds by processor.
    pub fn read(&self) -> Vec<i64> {
        let value = |counter: &OwnedFd| {
            let mut bytes = [0; 8];
            // A counter of a processor that has gone offline keeps its value.
            matches!(rustix::io::read(counter, &mut bytes), Ok(8))
                .then(|| i64::try_from(u64::from_ne_bytes(bytes)).unwrap_or(i64::MAX))
        };
        self.counters.iter().map(|c| c.as_ref().and_then(value).unwrap_or_default()).collect()
    }
}

/// The number of processors of a list such as "0-7" or "0,2-3": up to the last one.
fn processors(list: &str) -> Option<i32> {
    let last = list.trim().rsplit([',', '-']).next()?.parse::<i32>().ok()?;
    last.checked_add(1)
}

#[cfg(test)]
mod test {
    use super::processors;

    #[test]
    fn processors_are_counted_up_to_the_last() {
        for (list, count) in [("0\n", Some(1)), ("0-1\n", Some(2)), ("0,2-5\n", Some(6)), ("0-3,9", Some(10))]
        {
            assert_eq!(processors(list), count, "{list}");
        }
        for list in ["", "\n", "a", "0-", "2147483647"] {
            assert_eq!(processors(list), None, "{list}");
        }
    }
}
