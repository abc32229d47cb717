//! The future init's way from clone to exec: the recipe.
//!
//! It runs as pid 1 of the new namespaces with a copy of the controller's memory, and talks to it over the handshake
//! only. Nothing here looks anything up through the C library: no users, no locale, no loader.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use berth_schemas::controller::LaunchPlan;

use crate::failure::{Doing, Outcome, Step};

use super::dev::Terminal;
use super::handshake::{Handshake, News};
use super::sources::Sources;
use super::{
    apparmor, caps, devices, directory, exec, filesystems, hide, limits, namespaces, network, notify, rootfs,
    seccomp, special, user, view,
};

/// What the controller has prepared.
#[derive(Debug)]
pub struct Prepared<'a> {
    /// The plan.
    pub plan: &'a LaunchPlan,
    /// The descriptors that came with it.
    pub descriptors: &'a [OwnedFd],
    /// Trees from the host.
    pub sources: Sources,
    /// The tmpfs of /dev.
    pub dev: OwnedFd,
    /// The devpts instance.
    pub devpts: OwnedFd,
    /// Masters of the consoles.
    pub terminals: Vec<Terminal>,
    /// Network namespace of the run before, at a restart.
    pub kept_network: Option<BorrowedFd<'a>>,
    /// The container's user namespace, if it has ids of its own.
    pub user: Option<BorrowedFd<'a>>,
    /// Its own view of the machine, mounted nowhere yet.
    pub view: Option<OwnedFd>,
    /// Pidfd of who serves that.
    pub server: Option<BorrowedFd<'a>>,
    /// Where the AppArmor profile is changed.
    pub profile: Option<OwnedFd>,
    /// Where init says that it is ready, bound nowhere yet.
    pub notify: OwnedFd,
}

/// The future init's side of the steps.
#[derive(Debug)]
pub struct Reporter<'a> {
    /// The socket.
    pub handshake: &'a Handshake,
    /// Step at which a test wants the end.
    pub kill_at: Option<Step>,
}

impl<'a> Reporter<'a> {
    /// By the plan.
    pub fn new(plan: &LaunchPlan, handshake: &'a Handshake) -> Self {
        Self { handshake, kill_at: plan.kill_at_step.as_deref().and_then(Step::from_name) }
    }

    /// Enters a step.
    pub fn enter(&self, step: Step) {
        let _ = self.handshake.tell(&News::Enter(step));
        if self.kill_at == Some(step) && self.handshake.tell(&News::KillMe).is_ok() {
            loop {
                // Until the controller has killed us; if it is gone, the wait fails, and so does every step.
                if self.handshake.wait_for_go().is_err() {
                    berth_sys::process::exit_now(1);
                }
            }
        }
    }
}

impl Reporter<'_> {
    /// Lets the controller take hold of the namespaces, which are the final ones now.
    fn wait_here(&self) -> Outcome<()> {
        let doing = Doing::new(Step::Namespaces, "handshake");
        self.handshake
            .tell(&News::Joined)
            .and_then(|()| self.handshake.wait_for_go())
            .map_err(|e| doing.failed(e))
    }
}

/// Becomes init, or tells what failed and ends. `join_payload`: the kernel could not put us into the v2 group at clone.
pub fn become_init(prepared: &Prepared<'_>, join_payload: bool, handshake: Handshake) -> ! {
    // A controller that dies takes the container along, from the first moment: prctl(2). The wait also ends if it
    // died before this call.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    if handshake.wait_for_go().is_err() {
        berth_sys::process::exit_now(1);
    }
    // Mount points that have to be made are for everybody inside.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let reporter = Reporter::new(prepared.plan, &handshake);
    let result = match prepared.user {
        None => recipe(prepared, join_payload, &reporter),
        Some(_) => mapped_recipe(prepared, &reporter),
    };
    match result {
        Ok(ready) => {
            let (failure, handshake) = exec::exec(&ready, handshake);
            let _ = handshake.tell(&News::Failed(failure));
        }
        Err(failure) => {
            let _ = handshake.tell(&News::Failed(failure));
        }
    }
    berth_sys::process::exit_now(1)
}

fn recipe<'a>(p: &'a Prepared<'a>, join_payload: bool, r: &Reporter<'_>) -> Outcome<exec::Ready<'a>> {
    r.enter(Step::Namespaces);
    namespaces::join(p, join_payload)?;
    r.wait_here()?;
    let (inside, slaves) = build(p, r)?;
    settle(p, &inside, slaves, r)
}

/// With ids of its own: the mounts are made by somebody else, while we wait; see [`super::mapped`].
fn mapped_recipe<'a>(p: &'a Prepared<'a>, r: &Reporter<'_>) -> Outcome<exec::Ready<'a>> {
    r.enter(Step::Namespaces);
    namespaces::join_mapped(p)?;
    r.wait_here()?;
    // Everything in this copy is locked, as it comes from a namespace of the host's: mount_namespaces(7).
    namespaces::copy_mounts()?;
    let root = rootfs::open_root().map_err(|e| Doing::new(Step::Namespaces, "open").path("/").failed(e))?;
    let inside = rootfs::Inside::new(root, p.plan, r.handshake)?;
    let slaves = devices::open_consoles(&inside, p)?;
    settle(p, &inside, slaves, r)
}

/// All mounts. Answers the new root and the slaves of the consoles.
pub fn build<'r>(p: &Prepared<'_>, r: &Reporter<'r>) -> Outcome<(rootfs::Inside<'r>, Vec<OwnedFd>)> {
    let plan = p.plan;
    r.enter(Step::Root);
    rootfs::attach(&p.sources.root)?;
    r.enter(Step::Pivot);
    let root = rootfs::pivot(&p.sources.root)?;
    let inside = rootfs::Inside::new(root, plan, r.handshake)?;
    r.enter(Step::Proc);
    special::mount_proc(&inside, namespaces::has_own_network(plan))?;
    r.enter(Step::Sys);
    special::mount_sys(&inside)?;
    r.enter(Step::Devices);
    let slaves = devices::mount(&inside, p)?;
    r.enter(Step::Run);
    special::mount_run(&inside, p)?;
    r.enter(Step::Filesystems);
    filesystems::mount_all(&inside, p)?;
    r.enter(Step::Readonly);
    rootfs::make_readonly(&inside, p)?;
    r.enter(Step::Hide);
    hide::hide(&inside, plan, p.dev.as_fd())?;
    if let Some(view) = &p.view {
        r.enter(Step::View);
        view::put(&inside, view)?;
    }
    Ok((inside, slaves))
}

/// What is left to do once the mounts are there.
fn settle<'a>(
    p: &'a Prepared<'a>,
    inside: &rootfs::Inside<'_>,
    slaves: Vec<OwnedFd>,
    r: &Reporter<'_>,
) -> Outcome<exec::Ready<'a>> {
    let plan = p.plan;
    namespaces::share_mounts()?;
    r.enter(Step::Network);
    if namespaces::has_own_network(plan) && p.kept_network.is_none() {
        network::loopback_up()?;
    }
    r.enter(Step::Hostname);
    namespaces::set_identity(plan)?;
    r.enter(Step::User);
    let identity = user::look_up(inside, &plan.init)?;
    r.enter(Step::Terminal);
    let terminal = devices::take_terminal(slaves, &identity)?;
    let notify = notify::hand_over(inside, &identity)?;
    if notify {
        let _ = r.handshake.tell(&News::FoundNotify);
    }
    r.enter(Step::Capabilities);
    caps::limit(plan.capabilities)?;
    r.enter(Step::Profile);
    apparmor::enter(plan, p.profile.as_ref())?;
    // Before the filter, which may refuse it to the container.
    limits::spread_memory(plan)?;
    r.enter(Step::SystemCalls);
    seccomp::install(plan, r.handshake)?;
    user::become_user(&identity)?;
    caps::clear()?;
    r.enter(Step::Directory);
    directory::enter(inside, plan)?;
    r.enter(Step::Exec);
    exec::check(inside, &plan.init)?;
    let ready = exec::Ready::new(p, terminal, notify)?;
    limits::take(plan)?;
    Ok(ready)
}

/// A failure of a descriptor index of the plan.
pub fn descriptor<'a>(step: Step, all: &'a [OwnedFd], index: i64) -> Outcome<BorrowedFd<'a>> {
    usize::try_from(index).ok().and_then(|i| all.get(i)).map(AsFd::as_fd).ok_or_else(|| {
        Doing::new(step, "index")
            .refused(format!("the plan names descriptor {index}, and {} came", all.len()))
    })
}
