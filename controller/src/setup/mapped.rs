//! Making a container with ids of its own: who does which part.
//!
//! Its namespaces belong to its user namespace, so a process of that makes them. Its mounts are made by a *builder* with
//! the host's rights, in a mount namespace that belongs to the host: the future init copies it at the end, and in the
//! copy every mount is locked (mount_namespaces(7)), so that what hides or protects a path cannot be taken off or
//! made writable from inside.
//!
//! ```text
//! controller -- maker: mount namespace, control groups, user namespace, then the future init as the controller's child
//!            \- builder: born into the future init's pid namespace, joins the others, mounts, ends
//! ```
//!
//! This module does not know what is mounted.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_schemas::controller::LaunchPlan;
use berth_sys::process::{Cloned, clone, clone_sibling, exit_now, namespace, setns, unshare};
use rustix::io::Errno;
use rustix::process::{
    Gid, Pid, PidfdFlags, Signal, Uid, WaitId, WaitIdOptions, getpid, pidfd_open,
    set_parent_process_death_signal, waitid,
};
use rustix::thread::{
    capabilities, set_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::failure::{Doing, Outcome, Step};

use super::handshake::{Handshake, News};
use super::idmap::Owner;
use super::inside::{self, Prepared, Reporter};
use super::{cgroup, namespaces};

/// Makes the future init in a user namespace that is there. Answers its pid, its pidfd, and our end of its socket.
pub fn make_init(p: &Prepared<'_>, user: BorrowedFd<'_>) -> Outcome<(i32, OwnedFd, Handshake)> {
    let doing = |operation| Doing::new(Step::Clone, operation);
    let failed = |operation| move |e| Doing::new(Step::Clone, operation).failed(e);
    let (ours, theirs) = Handshake::pair().map_err(failed("socketpair"))?;
    let (heard, told) = Handshake::pair().map_err(failed("socketpair"))?;
    // The mount namespace is made with the host's rights, and belongs to the host.
    let (cloned, join_payload) = super::clone_into_payload(p.plan, namespace::MOUNT)?;
    let maker = match cloned {
        Cloned::Child => {
            drop((ours, heard));
            match be_maker(p, user, join_payload) {
                Ok(None) => {
                    drop(told);
                    inside::become_init(p, false, theirs)
                }
                Ok(Some(pid)) => drop(told.tell(&News::Born(pid))),
                Err(failure) => drop(told.tell(&News::Failed(failure))),
            }
            exit_now(0)
        }
        Cloned::Parent { pidfd, .. } => pidfd,
    };
    drop((theirs, told));
    let news = heard.next();
    let _ = waitid(WaitId::PidFd(maker.as_fd()), WaitIdOptions::EXITED);
    match news.map_err(|e| doing("handshake").failed(e))? {
        Some(News::Born(pid)) => {
            // Our child, not reaped: the pid cannot be another's.
            let raw = Pid::from_raw(pid).ok_or_else(|| doing("pidfd_open").failed(Errno::SRCH))?;
            let pidfd = pidfd_open(raw, PidfdFlags::empty()).map_err(failed("pidfd_open"))?;
            Ok((pid, pidfd, ours))
        }
        Some(News::Failed(failure)) => Err(failure),
        _ => Err(doing("wait").refused("the process that makes the future init has ended")),
    }
}

/// The maker's part. `None`: we are the future init.
fn be_maker(p: &Prepared<'_>, user: BorrowedFd<'_>, join_payload: bool) -> Outcome<Option<i32>> {
    let doing = |operation| Doing::new(Step::Clone, operation);
    let groups = &p.plan.cgroups;
    // The future init is born where its maker is; it may not move there itself, as the groups above are the host's.
    let payload = join_payload.then(|| cgroup::payload(groups));
    for group in payload.iter().chain(&groups.legacy) {
        cgroup::join(Step::Clone, group)?;
    }
    become_root_of(user).map_err(|(operation, e)| doing(operation).path("user").failed(e))?;
    let wanted = namespaces::to_make(p.plan, p.kept_network.is_some()) & !namespace::MOUNT;
    unshare(wanted).map_err(|e| doing("unshare").failed(e))?;
    match clone_sibling(0).map_err(|e| doing("clone3").failed(e))? {
        Cloned::Child => Ok(None),
        Cloned::Parent { pid, .. } => Ok(Some(pid)),
    }
}

/// Joins a user namespace and becomes its root.
pub fn become_root_of(user: BorrowedFd<'_>) -> Result<(), (&'static str, Errno)> {
    setns(user, namespace::USER).map_err(|e| ("setns", e))?;
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    set_thread_groups(&[]).map_err(|e| ("setgroups", e))?;
    set_thread_res_gid(gid, gid, gid).map_err(|e| ("setresgid", e))?;
    set_thread_res_uid(uid, uid, uid).map_err(|e| ("setresuid", e))?;
    // A change of user clears it: prctl(2).
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| ("PR_SET_PDEATHSIG", e))
}

/// Makes the builder, who is born into the future init's pid namespace: procfs is of the pid namespace of its maker.
pub fn make_builder(p: &Prepared<'_>, init: &OwnedFd) -> Outcome<(OwnedFd, Handshake)> {
    let failed = |operation| move |e| Doing::new(Step::Namespaces, operation).failed(e);
    let (ours, theirs) = Handshake::pair().map_err(failed("socketpair"))?;
    let ourselves = pidfd_open(getpid(), PidfdFlags::empty()).map_err(failed("pidfd_open"))?;
    // Only concerns children that are made from now on: setns(2).
    setns(init.as_fd(), namespace::PID).map_err(failed("setns"))?;
    let made = clone(0, None);
    if !matches!(made, Ok(Cloned::Child)) {
        setns(ourselves.as_fd(), namespace::PID).map_err(failed("setns"))?;
    }
    match made.map_err(failed("clone3"))? {
        Cloned::Child => {
            drop(ours);
            be_builder(p, init, &theirs)
        }
        Cloned::Parent { pidfd, .. } => {
            drop(theirs);
            Ok((pidfd, ours))
        }
    }
}

fn be_builder(p: &Prepared<'_>, init: &OwnedFd, handshake: &Handshake) -> ! {
    let built = join(p.plan, init).and_then(|()| {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        let reporter = Reporter::new(p.plan, handshake);
        inside::build(p, &reporter).map(drop)
    });
    if let Err(failure) = built {
        let _ = handshake.tell(&News::Failed(failure));
        exit_now(1);
    }
    exit_now(0)
}

/// Joins the future init's namespaces with the host's rights, and makes files from now on that belong to its root.
fn join(plan: &LaunchPlan, init: &OwnedFd) -> Outcome<()> {
    let doing = |operation| Doing::new(Step::Namespaces, operation);
    let all = namespace::MOUNT | namespace::NET | namespace::IPC | namespace::UTS | namespace::CGROUP;
    setns(init.as_fd(), all).map_err(|e| doing("setns").path("of init").failed(e))?;
    let owner = Owner::of(plan)?;
    act_as(owner).map_err(|(operation, e)| doing(operation).failed(e))?;
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| doing("PR_SET_PDEATHSIG").failed(e))
}

/// Takes the effective ids of `owner`, which new files get, and keeps every capability: a mount with a map takes no
/// file of an id outside of it.
pub fn act_as(owner: Owner) -> Result<(), (&'static str, Errno)> {
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    set_thread_res_gid(None::<Gid>, gid, None::<Gid>).map_err(|e| ("setresgid", e))?;
    set_thread_res_uid(None::<Uid>, uid, None::<Uid>).map_err(|e| ("setresuid", e))?;
    // The change has emptied the effective set, and left the permitted one as the real user is still root.
    let mut sets = capabilities(None).map_err(|e| ("capget", e))?;
    sets.effective = sets.permitted;
    set_capabilities(None, sets).map_err(|e| ("capset", e))
}
