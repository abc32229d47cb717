//! The container's own ids: its user namespace, and trees that are mounted with its map.
//!
//! Nothing on disk is changed: mount_setattr(2), MOUNT_ATTR_IDMAP. This module does not know who chose the ranges.

use std::fmt::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_schemas::controller::{LaunchPlan, PlanIdMap, PlanIdRange};
use berth_sys::process::{Cloned, clone, exit_now, namespace, unshare};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, waitid};

use crate::failure::{Doing, Failure, Outcome, Step};

use super::handshake::{Handshake, News};
use super::mapped::act_as;
use super::{mounts, procfs};

/// Who owns on the host what is root's inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User 0 of the container.
    pub uid: u32,
    /// Group 0 of the container.
    pub gid: u32,
    /// Group 5, "tty" everywhere; group 0 where the map leaves it out.
    pub tty: u32,
}

/// The group that terminals belong to in every distribution.
const TTY: u32 = 5;

impl Owner {
    /// Without a map: the host's root.
    pub const HOST: Self = Self { uid: 0, gid: 0, tty: TTY };

    /// By the plan, whose map must have an id 0 of both kinds.
    pub fn of(plan: &LaunchPlan) -> Outcome<Self> {
        plan.id_map.as_ref().map_or(Ok(Self::HOST), Self::of_map)
    }

    /// Whom what is made for the container counts for, if nobody else on the host has its ids.
    pub fn exclusive(map: Option<&PlanIdMap>) -> Outcome<Option<Self>> {
        map.filter(|m| m.exclusive).map(Self::of_map).transpose()
    }

    fn of_map(map: &PlanIdMap) -> Outcome<Self> {
        let missing = || Doing::new(Step::Ids, "check").refused("the map of ids has none for root");
        let gid = on_host(&map.gids, 0).ok_or_else(missing)?;
        let uid = on_host(&map.uids, 0).ok_or_else(missing)?;
        Ok(Self { uid, gid, tty: on_host(&map.gids, TTY).unwrap_or(gid) })
    }
}

/// What an id of the container is on the host.
fn on_host(ranges: &[PlanIdRange], inside: u32) -> Option<u32> {
    let id = i64::from(inside);
    let range = ranges.iter().find(|r| r.inside <= id && id - r.inside < r.count)?;
    range.host.checked_add(id - range.inside).and_then(|host| u32::try_from(host).ok())
}

/// Whether an id of the host is one of the map's.
pub fn is_mapped(ranges: &[PlanIdRange], host: u32) -> bool {
    let id = i64::from(host);
    ranges.iter().any(|r| r.host <= id && id - r.host < r.count)
}

/// The text of uid_map or gid_map: user_namespaces(7).
fn lines(ranges: &[PlanIdRange]) -> String {
    ranges.iter().fold(String::new(), |mut text, r| {
        let _ = writeln!(text, "{} {} {}", r.inside, r.host, r.count);
        text
    })
}

/// Makes a user namespace with the map.
pub fn make_namespace(map: &PlanIdMap) -> Outcome<OwnedFd> {
    with_helper(Step::Ids, Some(map), namespace::USER, |pid| furnish(pid, map))
}

/// Has a helper go into new namespaces, who ends when `take` has taken hold of them: its pid is not another's before.
///
/// What is made in a user namespace counts for whom that belongs to, too, and there are few inotify instances for a user:
/// 128 (`/proc/sys/user`, namespaces(7)). A namespace of the host's root would let one container have all of those that
/// the daemons of the host live on. So one with ids that nobody else has belongs to its own root.
pub fn with_helper<T>(
    step: Step,
    map: Option<&PlanIdMap>,
    namespaces: i32,
    take: impl FnOnce(i32) -> Outcome<T>,
) -> Outcome<T> {
    let doing = |operation| Doing::new(step, operation);
    let owner = Owner::exclusive(map)?;
    let (ours, theirs) = Handshake::pair().map_err(|e| doing("socketpair").failed(e))?;
    match clone(0, None).map_err(|e| doing("clone3").failed(e))? {
        Cloned::Child => {
            drop(ours);
            let news = match enter(owner, namespaces) {
                Ok(()) => News::Joined,
                Err((operation, e)) => News::Failed(doing(operation).failed(e)),
            };
            let _ = theirs.tell(&news);
            // An error is the end of the other side: that is what is waited for.
            let _ = theirs.wait_for_go();
            exit_now(0)
        }
        Cloned::Parent { pid, pidfd } => {
            drop(theirs);
            let taken = match ours.next() {
                Ok(Some(News::Joined)) => take(pid),
                Ok(Some(News::Failed(failure))) => Err(failure),
                _ => Err(doing("wait").refused("the process that makes the namespaces has ended")),
            };
            drop(ours);
            let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
            taken
        }
    }
}

/// The helper's part.
fn enter(owner: Option<Owner>, namespaces: i32) -> Result<(), (&'static str, Errno)> {
    owner.map_or(Ok(()), act_as)?;
    // A change of user clears it: prctl(2).
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    unshare(namespaces).map_err(|e| ("unshare", e))
}

/// Writes the maps of a child that has not been reaped, and opens its namespace. Through a procfs of our own, so that
/// nothing that is mounted over the host's gets the map (invariant I2).
pub fn furnish(pid: i32, map: &PlanIdMap) -> Outcome<OwnedFd> {
    let doing = |operation| Doing::new(Step::Ids, operation);
    let proc = procfs::private(Step::Ids)?;
    for (name, ranges) in [("uid_map", &map.uids), ("gid_map", &map.gids)] {
        let path = format!("{pid}/{name}");
        let file = openat(&proc, &path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| doing("open").path(&path).failed(e))?;
        // One write for all lines, as the kernel wants it.
        rustix::io::write(&file, lines(ranges).as_bytes())
            .map_err(|e| doing("write").path(name).failed(e))?;
    }
    let path = format!("{pid}/ns/user");
    openat(&proc, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| doing("open").path(&path).failed(e))
}

/// Gives a detached tree of the host's `path` the map of a user namespace, with all that is mounted below it.
pub fn apply(tree: BorrowedFd<'_>, path: &str, user: BorrowedFd<'_>) -> Outcome<()> {
    let Err(errno) = berth_sys::mount::set_id_map(tree, true, user) else { return Ok(()) };
    let (culprit, kind) = culprit(path, user).unwrap_or_else(|| (path.to_owned(), String::new()));
    Err(refused(errno, &culprit, &kind))
}

/// The kernel does not mount what is at `path`, of type `kind` if that is known, with a map.
pub fn refused(errno: Errno, path: &str, kind: &str) -> Failure {
    let kind = if kind.is_empty() { String::new() } else { format!(" '{kind}'") };
    let doing = Doing::new(Step::Sources, "map the ids of").path(path);
    match errno {
        Errno::PERM => doing.failed_because(errno, "it is mounted with other ids already"),
        _ => {
            doing.failed_because(errno, format!("its file system{kind} cannot be mounted with a map of ids"))
        }
    }
}

/// The mount at or below `path` that takes no map, and the type of its file system: each is tried alone.
fn culprit(path: &str, user: BorrowedFd<'_>) -> Option<(String, String)> {
    // Others' mounts may be on paths that are not UTF-8.
    let bytes = std::fs::read("/proc/self/mountinfo").ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let mut points: Vec<(String, String)> = text.lines().filter_map(mount_point).collect();
    // The mount that the path itself is on comes first, by its own name.
    let around = |point: &str| point == "/" || is_below(path, point);
    let own = points.iter().filter(|(p, _)| around(p)).max_by_key(|(p, _)| p.len())?.1.clone();
    points.retain(|(point, _)| point != path && is_below(point, path));
    std::iter::once((path.to_owned(), own)).chain(points).find(|(point, _)| {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let tree = rustix::fs::open(&**point, flags, Mode::empty())
            .and_then(|at| mounts::clone_tree(at.as_fd(), false));
        tree.is_ok_and(|tree| berth_sys::mount::set_id_map(tree.as_fd(), false, user).is_err())
    })
}

fn is_below(path: &str, folder: &str) -> bool {
    let folder = folder.trim_end_matches('/');
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Mount point and type of a line of mountinfo: proc_pid_mountinfo(5). Points with escapes are of no use here.
fn mount_point(line: &str) -> Option<(String, String)> {
    let (before, behind) = line.split_once(" - ")?;
    Some((before.split(' ').nth(4)?.to_owned(), behind.split(' ').next()?.to_owned()))
}

#[cfg(test)]
mod test {
    use super::*;

    fn range(inside: i64, host: i64, count: i64) -> PlanIdRange {
        PlanIdRange { inside, host, count }
    }

    #[test]
    fn ids_are_found_by_range() {
        let ranges = [range(0, 100_000, 10), range(10, 500_000, 5)];
        assert_eq!(on_host(&ranges, 0), Some(100_000));
        assert_eq!(on_host(&ranges, 14), Some(500_004));
        assert_eq!(on_host(&ranges, 15), None);
        assert_eq!(on_host(&[range(0, i64::MAX, 9)], 5), None);
        assert!(is_mapped(&ranges, 100_009));
        assert!(!is_mapped(&ranges, 100_010));
        assert_eq!(lines(&ranges), "0 100000 10\n10 500000 5\n");
    }

    #[test]
    fn mounts_are_found_by_folder() {
        assert!(is_below("/srv/a/b", "/srv/a"));
        assert!(is_below("/srv/a", "/srv/a/"));
        assert!(!is_below("/srv/ab", "/srv/a"));
        let line = "29 1 0:27 / /srv/x rw,relatime shared:2 - ext4 /dev/vda rw";
        assert_eq!(mount_point(line), Some(("/srv/x".into(), "ext4".into())));
        assert_eq!(mount_point("29 1"), None);
    }
}
