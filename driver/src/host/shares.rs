//! Shares of CPU time of version 1 (`cpu.cfs_quota_us` in each `cpu.cfs_period_us`): which group is in the way of a new
//! one, and how those below get out of it.
//!
//! The kernel refuses a group a larger share than one above has, and a smaller one than a group below has
//! (`tg_cfs_schedulable_down` in kernel/sched/core.c). With the host's ids a container makes groups below as it likes, and
//! its share is not for it to decide. Does not know whose groups these are. All functions block.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, openat};

/// The file with the period.
pub const PERIOD_FILE: &str = "cpu.cfs_period_us";
/// The file with the quota.
pub const QUOTA_FILE: &str = "cpu.cfs_quota_us";
/// What is written for no quota: the share is that of the group above.
pub const NONE: &str = "-1";

/// So many microseconds of each so many. No share at all is none of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    quota: u64,
    period: u64,
}

/// A group below whose quota was taken away, and how large it was.
#[derive(Debug)]
pub struct Lowered {
    path: PathBuf,
    old: u64,
}

impl Share {
    /// Of what is written to the two files; none without a limit.
    pub fn of(quota: &str, period: &str) -> Option<Self> {
        Some(Self { quota: quota.trim().parse().ok()?, period: period.trim().parse().ok()? })
    }

    fn exceeds(self, other: Self) -> bool {
        u128::from(self.quota) * u128::from(other.period) > u128::from(other.quota) * u128::from(self.period)
    }

    /// As it is said of a group.
    fn said(self) -> String {
        format!("{} of each {} microseconds", self.quota, self.period)
    }
}

/// The share that a group has been given itself.
pub fn own(group: &Path) -> Option<Share> {
    let read = |file| fs::read_to_string(group.join(file)).ok();
    Share::of(&read(QUOTA_FILE)?, &read(PERIOD_FILE)?)
}

/// The group above that has less than what this one is to get, in words.
pub fn above(group: &Path, wanted: Share) -> Option<String> {
    let found = group.ancestors().skip(1).find_map(|g| own(g).map(|share| (g, share)));
    let (group, share) = found.filter(|(_, share)| wanted.exceeds(*share))?;
    Some(format!("the group above, '{}', has only {}", group.display(), share.said()))
}

/// A group below that has more than what this one is to get, in words.
pub fn below(group: &Path, wanted: Share, until: Instant) -> Option<String> {
    let mut found = None;
    let walked = walk(group, until, &mut |dir, path| match share_in(dir) {
        Some(share) if share.exceeds(wanted) => {
            found = Some(format!("the group below, '{}', has {}", path.display(), share.said()));
            false
        }
        _ => true,
    });
    found
        .or_else(|| walked.is_err().then(|| format!("there are too many groups below '{}'", group.display())))
}

/// Takes away the quotas of all groups below that have more than what this one is to get: their share is then that of the
/// group above, which is less. Those that fit stay. Notes what was changed; what comes and goes meanwhile is left alone.
pub fn lower(group: &Path, wanted: Share, until: Instant, lowered: &mut Vec<Lowered>) -> io::Result<()> {
    walk(group, until, &mut |dir, path| {
        if let Some(share) = share_in(dir).filter(|share| share.exceeds(wanted))
            && write_in(dir, QUOTA_FILE, NONE).is_ok()
        {
            lowered.push(Lowered { path: path.join(QUOTA_FILE), old: share.quota });
        }
        true
    })
}

/// Gives quotas back, those of the upper groups first. What cannot be written back was the container's own doing.
pub fn restore(lowered: &[Lowered]) {
    for Lowered { path, old } in lowered {
        if let Err(e) = fs::OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| io::Write::write_all(&mut file, old.to_string().as_bytes()))
        {
            tracing::debug!("cannot write '{old}' back to '{}': {e}", path.display());
        }
    }
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Shows all groups below one, each before its own, until `visit` says false. By descriptors: a path may be longer than
/// the kernel takes. Only one is held at a time, however deep it goes, and a group cannot be moved away from the one
/// that it is in, so ".." leads back.
fn walk(top: &Path, until: Instant, visit: &mut dyn FnMut(BorrowedFd<'_>, &Path) -> bool) -> io::Result<()> {
    let mut here = openat(CWD, top, FOLDER, Mode::empty())?;
    let mut path = top.to_owned();
    let mut left = vec![names(&here)];
    while let Some(level) = left.last_mut() {
        if Instant::now() >= until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let Some(name) = level.pop() else {
            left.pop();
            if !left.is_empty() {
                here = openat(&here, "..", FOLDER, Mode::empty())?;
                path.pop();
            }
            continue;
        };
        // It may be gone.
        let Ok(next) = openat(&here, &name, FOLDER, Mode::empty()) else { continue };
        path.push(name);
        if !visit(next.as_fd(), &path) {
            return Ok(());
        }
        left.push(names(&next));
        here = next;
    }
    Ok(())
}

/// The folders in one. One that was removed has none.
fn names(folder: &OwnedFd) -> Vec<OsString> {
    use std::os::unix::ffi::OsStringExt;
    let Ok(entries) = Dir::read_from(folder) else { return Vec::new() };
    let folders = entries.flatten().filter(|e| e.file_type() == FileType::Directory);
    let names = folders.map(|e| OsString::from_vec(e.file_name().to_bytes().to_vec()));
    names.filter(|n| n != "." && n != "..").collect()
}

fn share_in(dir: BorrowedFd<'_>) -> Option<Share> {
    let quota = read_in(dir, QUOTA_FILE)?;
    // Most groups have none: the period need not be read.
    quota.trim().parse::<u64>().ok()?;
    Share::of(&quota, &read_in(dir, PERIOD_FILE)?)
}

fn read_in(dir: BorrowedFd<'_>, file: &str) -> Option<String> {
    let file = openat(dir, file, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = [0; 64];
    let length = rustix::io::read(&file, &mut text[..]).ok()?;
    String::from_utf8(text.get(..length)?.to_vec()).ok()
}

fn write_in(dir: BorrowedFd<'_>, file: &str, text: &str) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(dir, file, flags, Mode::empty())?;
    rustix::io::write(&file, text.as_bytes()).map(drop)
}

#[cfg(test)]
mod test {
    use std::time::Duration;

    use super::*;

    fn group(path: &Path, quota: &str, period: &str) {
        fs::create_dir_all(path).expect("made");
        fs::write(path.join(QUOTA_FILE), quota).expect("written");
        fs::write(path.join(PERIOD_FILE), period).expect("written");
    }

    fn quota(path: &Path) -> String {
        fs::read_to_string(path.join(QUOTA_FILE)).expect("read")
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn groups_below_that_have_more_get_out_of_the_way_and_back() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let own = dir.path().join("own");
        let (more, less, deep) = (own.join("more"), own.join("more/less"), own.join("more/less/deep"));
        for (path, quota, period) in [
            (&own, "-1", "100000"),
            (&more, "200000", "100000"),
            (&less, "5000", "10000"),
            (&deep, "1000", "1000"),
        ] {
            group(path, quota, period);
        }
        let elsewhere = dir.path().join("elsewhere");
        group(&elsewhere, "900000", "100000");
        std::os::unix::fs::symlink(&elsewhere, own.join("link")).expect("a link");
        let wanted = Share::of("50000", "100000").expect("a share");
        let said = below(&own, wanted, soon()).expect("in the way");
        assert_eq!(
            said,
            format!("the group below, '{}', has 200000 of each 100000 microseconds", more.display())
        );
        let mut lowered = Vec::new();
        lower(&own, wanted, soon(), &mut lowered).expect("walked");
        assert_eq!([quota(&more), quota(&less), quota(&deep)], ["-1", "5000", "-1"]);
        assert_eq!(quota(&elsewhere), "900000");
        assert_eq!(below(&own, wanted, soon()), None);
        restore(&lowered);
        assert_eq!([quota(&more).as_str(), &quota(&deep)[..4]], ["200000", "1000"]);
    }

    #[test]
    fn what_is_deeper_than_a_path_can_say_is_reached_and_time_is_kept_to() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let mut here = openat(CWD, dir.path(), FOLDER, Mode::empty()).expect("open");
        let name = "d".repeat(200);
        for _ in 0..30 {
            rustix::fs::mkdirat(&here, &name, Mode::from_raw_mode(0o755)).expect("made");
            here = openat(&here, &name, FOLDER, Mode::empty()).expect("open");
        }
        for (file, text) in [(QUOTA_FILE, "20000"), (PERIOD_FILE, "10000")] {
            let flags = OFlags::CREATE | OFlags::WRONLY;
            let file = openat(&here, file, flags, Mode::from_raw_mode(0o644)).expect("made");
            rustix::io::write(&file, text.as_bytes()).expect("written");
        }
        let wanted = Share::of("1000", "1000").expect("a share");
        let mut lowered = Vec::new();
        lower(dir.path(), wanted, soon(), &mut lowered).expect("walked");
        assert_eq!((lowered.len(), read_in(here.as_fd(), QUOTA_FILE)), (1, Some("-1".into())));
        let late = lower(dir.path(), wanted, Instant::now(), &mut lowered).expect_err("no time");
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        assert!(
            below(dir.path(), wanted, Instant::now()).is_some_and(|t| t.starts_with("there are too many"))
        );
    }

    #[test]
    fn the_group_above_that_has_less_is_named() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let own = dir.path().join("partition/own");
        group(&dir.path().join("partition"), "20000", "100000");
        group(&own, "-1", "100000");
        let share = |quota| Share::of(quota, "100000").expect("a share");
        let said = above(&own, share("50000")).expect("in the way");
        assert!(
            said.ends_with("/partition', has only 20000 of each 100000 microseconds")
                && said.starts_with("the group above, '"),
            "{said}"
        );
        assert_eq!(above(&own, share("20000")), None);
        assert_eq!(Share::of("-1", "100000"), None);
    }
}
