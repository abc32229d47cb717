//! Who init is: names looked up in the container's own files, read through the root, never through the C library.

use std::os::fd::OwnedFd;

use berth_schemas::controller::PlanInit;
use rustix::fs::{Gid, OFlags, ResolveFlags, Uid, fstat};
use rustix::io::Errno;
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::failure::{Doing, Outcome, Step};

use super::rootfs::Inside;
use super::{mounts, passwd, resolve};

/// Longest file that is read.
const LONGEST: usize = 1 << 20;

/// A user with groups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Main group.
    pub gid: u32,
    /// All other groups.
    pub groups: Vec<u32>,
}

/// Looks user and group of init up.
pub fn look_up(inside: &Inside<'_>, init: &PlanInit) -> Outcome<Identity> {
    if init.user.is_none() && init.group.is_none() {
        return Ok(Identity::default());
    }
    let view = mounts::view_without_devices(inside.root())
        .map_err(|e| Doing::new(Step::User, "open_tree").path("/").failed(e))?;
    let users = read(&view, "/etc/passwd")?;
    let groups = read(&view, "/etc/group")?;
    identity(init.user.as_deref(), init.group.as_deref(), &users, &groups)
}

/// The same from the texts of both files.
pub fn identity(user: Option<&str>, group: Option<&str>, users: &str, groups: &str) -> Outcome<Identity> {
    let mut identity = match user {
        Some(user) => by_user(user, users, groups)?,
        None => Identity::default(),
    };
    if let Some(group) = group {
        identity.gid = by_group(group, groups)?;
    }
    Ok(identity)
}

fn by_user(user: &str, users: &str, groups: &str) -> Outcome<Identity> {
    let doing = Doing::new(Step::User, "look up").path(user).target("/etc/passwd");
    let found = match user.strip_prefix('+') {
        Some(digits) => Err(passwd::number(digits).ok_or_else(|| doing.refused("not a user number"))?),
        None => match (passwd::user_by_name(users, user), passwd::number(user)) {
            (Some(found), _) => Ok(found),
            (None, Some(uid)) => Err(uid),
            (None, None) => return Err(doing.refused("no such user in the container")),
        },
    };
    let found = found.or_else(|uid| passwd::user_by_number(users, uid).ok_or(uid));
    Ok(match found {
        Ok(found) => {
            Identity { uid: found.uid, gid: found.gid, groups: passwd::groups_of(groups, &found.name) }
        }
        Err(uid) => Identity { uid, ..Identity::default() },
    })
}

fn by_group(group: &str, groups: &str) -> Outcome<u32> {
    let doing = Doing::new(Step::User, "look up").path(group).target("/etc/group");
    match group.strip_prefix('+') {
        Some(digits) => passwd::number(digits).ok_or_else(|| doing.refused("not a group number")),
        None => passwd::group_by_name(groups, group)
            .or_else(|| passwd::number(group))
            .ok_or_else(|| doing.refused("no such group in the container")),
    }
}

/// A file of the container as text; a missing one is empty.
fn read(view: &OwnedFd, path: &str) -> Outcome<String> {
    let doing = Doing::new(Step::User, "read").path(path);
    // Non-blocking: the container's owner may have put a fifo there.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match resolve::open_inside(view, path, flags, ResolveFlags::empty()) {
        Err(Errno::NOENT) => return Ok(String::new()),
        // Not by its mode: by the view.
        Err(e @ Errno::ACCESS) => {
            return Err(doing.failed_because(e, "it is a device, or not for init to read"));
        }
        opened => opened.map_err(|e| doing.failed(e))?,
    };
    let stat = fstat(&file).map_err(|e| doing.failed(e))?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
        return Err(doing.refused("not a regular file"));
    }
    if stat.st_size as u64 > LONGEST as u64 {
        return Err(doing.refused("longer than 1 MiB"));
    }
    let mut bytes = vec![0; stat.st_size as usize];
    let mut length = 0;
    while length < bytes.len() {
        match rustix::io::read(&file, &mut bytes[length..]).map_err(|e| doing.failed(e))? {
            0 => break,
            n => length += n,
        }
    }
    bytes.truncate(length);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Becomes the user, with all groups, for good.
pub fn become_user(identity: &Identity) -> Outcome<()> {
    let doing = |operation| Doing::new(Step::Capabilities, operation);
    let groups: Vec<Gid> = identity.groups.iter().map(|g| Gid::from_raw(*g)).collect();
    set_thread_groups(&groups).map_err(|e| doing("setgroups").failed(e))?;
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    set_thread_res_gid(gid, gid, gid).map_err(|e| doing("setresgid").failed(e))?;
    set_thread_res_uid(uid, uid, uid).map_err(|e| doing("setresuid").failed(e))?;
    // A change of user clears it: prctl(2).
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|e| doing("PR_SET_PDEATHSIG").failed(e))
}

#[cfg(test)]
mod test {
    use super::*;

    const USERS: &str = "root:x:0:0::/:\nweb:x:33:34::/:\n";
    const GROUPS: &str = "tty:x:5:web\nweb:x:34:\n";

    #[test]
    fn users_are_names_or_numbers() {
        let web = Identity { uid: 33, gid: 34, groups: vec![5] };
        for user in ["web", "+33", "33"] {
            assert_eq!(by_user(user, USERS, GROUPS), Ok(web.clone()), "{user}");
        }
        assert_eq!(by_user("+99", USERS, GROUPS), Ok(Identity { uid: 99, ..Identity::default() }));
        for user in ["", " 0", "+", "+x", "+-1", "++0", "-1", "+4294967295", "nobody"] {
            assert!(by_user(user, USERS, GROUPS).is_err(), "{user:?}");
        }
        assert_eq!(by_group("tty", GROUPS), Ok(5));
        assert_eq!(by_group("+7", GROUPS), Ok(7));
        assert!(by_group("nope", GROUPS).is_err());
    }
}
