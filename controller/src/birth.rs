//! From exec to the launch: what was inherited is checked, everything else is dropped, one call is waited for.

use std::os::fd::{AsFd, OwnedFd};

use berth_schemas::LAUNCH_PLAN_VERSION;
use berth_schemas::controller::{
    Error, LaunchIn, LaunchOut, LaunchPlan, Method, PlanIdMap, PrepareNetworkIn, PrepareNetworkOut,
};
use berth_schemas::name::DomainName;
use berth_sys::poll::{IN, OUT, PollSet};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{DumpableBehavior, Signal};

use crate::failure::{Doing, Failure, Outcome, Step};
use crate::run::Controller;
use crate::serve::call::{self, Wanted};
use crate::serve::connection::Connection;
use crate::setup::network::{Early, make_early};
use crate::setup::reach;

/// SIGINT and SIGTERM end the controller and its container. SIGURG, on which nobody else acts, asks init to power off.
const SIGNALS: &[i32] = &[2, 15, 23];

/// Makes this process what it is to be; answers the socket it was born with.
pub fn take_over() -> Result<OwnedFd, String> {
    let socket = berth_sys::process::take_inherited()
        .ok_or_else(|| "descriptor 0 is not open: berth-controller is started by berthd".to_owned())?;
    let is_ours = socket_domain(&socket) == Ok(AddressFamily::UNIX)
        && socket_type(&socket) == Ok(SocketType::STREAM)
        && socket_acceptconn(&socket) == Ok(false);
    if !is_ours {
        return Err("descriptor 0 is not a unix stream socket: berth-controller is started by berthd".into());
    }
    // Nothing of what was in 0 may be reached by something that thinks of standard input.
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDONLY, Mode::empty())
        .map_err(|e| format!("cannot open '/dev/null': {e}"))?;
    berth_sys::process::set_standard(null.as_fd(), 0).map_err(|e| format!("cannot replace stdin: {e}"))?;
    rustix::process::umask(Mode::from_raw_mode(0o077));
    // What runs from a descriptor is called by its number. The kernel takes 15 bytes; see PR_SET_NAME in prctl(2).
    rustix::thread::set_name(c"berth-controlle")
        .map_err(|e| format!("cannot set the process's name: {e}"))?;
    // In the daemon's session the end of the daemon would be our end, too: the kernel hangs up on a process group that is
    // left by its session with somebody in it who is stopped.
    if let Err(e) = rustix::process::setsid()
        && rustix::process::getsid(None) != Ok(rustix::process::getpid())
    {
        return Err(format!("cannot make a session: {e}"));
    }
    // Nobody may trace us or look into /proc/PID/fd, nor our child before it has left the host behind (CVE-2016-9962).
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|e| format!("cannot make the process undumpable: {e}"))?;
    rustix::process::chdir("/").map_err(|e| format!("cannot change to '/': {e}"))?;
    Ok(socket)
}

/// Waits for the launch, does it and stays with the container. Answers the exit status.
pub fn launch(socket: OwnedFd) -> i32 {
    let signals = match berth_sys::signal::signal_descriptor(SIGNALS) {
        Ok(signals) => signals,
        Err(e) => {
            crate::note(&format!("cannot take signals: {e}"));
            return 2;
        }
    };
    berth_sys::signal::ignore(Signal::PIPE.as_raw());
    // Of a controller nobody can ask that it reads its settings again.
    berth_sys::signal::ignore(Signal::HUP.as_raw());
    let mut connection = Connection::new(0, socket);
    let mut early = None;
    let Some((plan, oneway)) = wait_for_plan(&mut connection, &signals, &mut early) else { return 1 };
    let descriptors = connection.take_descriptors();
    let result =
        check(&plan, &descriptors).and_then(|()| Controller::launch(plan, descriptors, signals, early));
    match result {
        Ok(mut controller) => {
            if !oneway {
                connection.send(call::good(&LaunchOut { status: controller.status() }), None);
            }
            controller.adopt(connection);
            controller.run()
        }
        Err(failure) => {
            tell(connection, failure, oneway);
            1
        }
    }
}

/// The plan; `None` if the daemon left or a signal came.
fn wait_for_plan(
    connection: &mut Connection,
    signals: &OwnedFd,
    early: &mut Option<Early>,
) -> Option<(LaunchPlan, bool)> {
    let mut set = PollSet::default();
    loop {
        loop {
            match connection.take_message() {
                Ok(Some(message)) => {
                    if let Some(found) = answer_early(connection, &message, early) {
                        return Some(found);
                    }
                }
                Ok(None) => break,
                Err(e) => {
                    crate::note(&e.to_string());
                    return None;
                }
            }
        }
        if connection.gone {
            return None;
        }
        set.clear();
        set.add(&*connection, if connection.has_pending() { IN | OUT } else { IN }, ());
        set.add(signals, IN, ());
        set.wait(None).ok()?;
        if set.happened(1).is_some() {
            return None;
        }
        connection.flush();
        connection.read();
    }
}

/// Answers a call that comes before the container is there; the plan if it is the one that is waited for.
fn answer_early(
    connection: &mut Connection,
    message: &[u8],
    early: &mut Option<Early>,
) -> Option<(LaunchPlan, bool)> {
    let call = match call::read(message) {
        Ok(call) => call,
        Err(e) => {
            crate::note(&e.to_string());
            connection.gone = true;
            return None;
        }
    };
    let mut descriptor = None;
    let bytes = match call.wanted {
        Wanted::Answered(bytes) => bytes,
        Wanted::Method(Method::Launch) => match call::parameters::<LaunchIn>(call.parameters) {
            Ok(found) => return Some((found.plan, call.oneway)),
            Err(bytes) => bytes,
        },
        Wanted::Method(Method::PrepareNetwork) => match call::parameters::<PrepareNetworkIn>(call.parameters)
        {
            Ok(wanted) => match prepare_network(wanted.id_map.as_ref(), early) {
                Ok(network) => {
                    descriptor = Some(network);
                    call::good(&PrepareNetworkOut { file_descriptor: 0 })
                }
                Err(failure) => call::error(&Error::LaunchFailed { failure: *failure }),
            },
            Err(bytes) => bytes,
        },
        _ => call::error(&Error::InvalidState { message: "nothing has been launched yet".into() }),
    };
    if !call.oneway {
        connection.send(bytes, descriptor);
    }
    None
}

/// Makes the namespaces that links can be made in; answers a copy of the network's.
fn prepare_network(ids: Option<&PlanIdMap>, early: &mut Option<Early>) -> Outcome<OwnedFd> {
    let made = make_early(ids)?;
    let copy = rustix::io::fcntl_dupfd_cloexec(&made.network, 3)
        .map_err(|e| Doing::new(Step::Namespaces, "keep").failed(e))?;
    *early = Some(made);
    Ok(copy)
}

/// Refuses a plan and descriptors that cannot be meant, before anything is done.
fn check(plan: &LaunchPlan, descriptors: &[OwnedFd]) -> Outcome<()> {
    reach(plan, Step::Plan);
    check_plan(plan)?;
    reach(plan, Step::Descriptors);
    let indexes = [plan.listen_file_descriptor]
        .into_iter()
        .chain(plan.init_file_descriptors.iter().copied())
        .chain(plan.shared_namespaces.iter().map(|n| n.file_descriptor));
    for index in indexes {
        crate::setup::inside::descriptor(Step::Descriptors, descriptors, index)?;
    }
    let listener = &descriptors[plan.listen_file_descriptor as usize];
    match socket_acceptconn(listener) {
        Ok(true) => Ok(()),
        other => Err(Doing::new(Step::Descriptors, "accept")
            .failed_because(other.err().unwrap_or(Errno::INVAL), "not a listening socket")),
    }
}

/// The same for what the plan says by itself.
pub fn check_plan(plan: &LaunchPlan) -> Outcome<()> {
    let doing = |operation| Doing::new(Step::Plan, operation);
    if plan.version != LAUNCH_PLAN_VERSION {
        let detail = format!("version {} of the plan, and {LAUNCH_PLAN_VERSION} is understood", plan.version);
        return Err(doing("check").refused(detail));
    }
    if let Err(e) = DomainName::parse(&plan.name) {
        return Err(doing("check").refused(e.to_string()));
    }
    let absolute = [&plan.root.source, &plan.init.path, &plan.cgroups.unified, &plan.exit_record]
        .into_iter()
        .chain(&plan.init.directory)
        .chain(&plan.cgroups.legacy)
        .chain(&plan.cgroups.legacy_memory)
        .chain(plan.consoles.iter().map(|c| &c.log_path))
        .chain(plan.filesystems.iter().map(|f| &f.target))
        .chain(plan.filesystems.iter().filter_map(|f| f.source.as_ref()))
        .chain(plan.masked_paths.iter().chain(&plan.readonly_paths))
        .chain(plan.devices.iter().map(|d| &d.source))
        .chain(&plan.qemu_nbd);
    for path in absolute {
        if !path.starts_with('/') || path.contains('\0') {
            return Err(doing("check").path(path).refused("not an absolute path"));
        }
    }
    for device in &plan.devices {
        if device.name.contains('\0') || device.name.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(doing("check").path(&device.name).refused("not a name below /dev"));
        }
    }
    if !plan.host_interfaces.is_empty() && !crate::setup::namespaces::has_own_network(plan) {
        return Err(doing("check").refused("a shared network takes no interfaces of the host"));
    }
    let ranges = plan.id_map.iter().flat_map(|m| m.uids.iter().chain(&m.gids));
    for range in ranges {
        // -1 is no id, so the last one is below.
        let most = i64::from(u32::MAX);
        let fits = |first: i64| first >= 0 && first.checked_add(range.count).is_some_and(|end| end <= most);
        if range.count < 1 || !fits(range.inside) || !fits(range.host) {
            return Err(doing("check").refused("a range of ids is out of bounds"));
        }
    }
    if plan.id_map.is_some() && !plan.shared_namespaces.is_empty() {
        return Err(doing("check").refused("shared namespaces do not go with ids of its own"));
    }
    Ok(())
}

/// Answers what failed, and sees to it that the answer is taken, for a second at most.
fn tell(mut connection: Connection, failure: Failure, oneway: bool) {
    crate::note(&describe(&failure));
    if oneway {
        return;
    }
    connection.send(call::error(&Error::LaunchFailed { failure: *failure }), None);
    connection.finish();
    let mut set = PollSet::default();
    while !connection.gone {
        set.clear();
        set.add(&connection, OUT, ());
        if set.wait(Some(std::time::Duration::from_secs(1))).is_err() || set.happened(0).is_none() {
            return;
        }
        connection.flush();
    }
}

/// A failure as a line of the log.
pub fn describe(failure: &berth_schemas::controller::StepFailure) -> String {
    let mut text = format!("step '{}': {} failed", failure.step, failure.operation);
    for (word, path) in [("'", &failure.path), ("on '", &failure.target)] {
        if let Some(path) = path {
            text.push_str(&format!(" {word}{path}'"));
        }
    }
    if let Some(detail) = &failure.detail {
        text.push_str(&format!(": {detail}"));
    }
    if let Some(errno) = failure.errno {
        text.push_str(&format!(": {}", Errno::from_raw_os_error(errno as i32)));
    }
    text
}
