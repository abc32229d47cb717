//! Invariants of the design that no other test is about. `docs/invariants.md` has all of them with their tests.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use berth_tests::daemon::{Daemon, domain_xml};
use berth_tests::host::alive;
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, wait_for};
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
use rustix::thread::{CapabilitySet, configure_capability_in_ambient_set, set_capabilities};

use crate::inside::{report, script};

pub const TESTS: &[Test] = &[
    ("invariants::the_daemon_opens_nothing_in_a_root", daemon_opens),
    ("invariants::the_controller_has_nothing_of_the_daemon", controller_descriptors),
    ("invariants::no_abstract_sockets", abstract_sockets),
    ("invariants::limits_are_out_of_reach", limits),
    ("invariants::a_pid_that_is_used_again_is_left_alone", pid_used_again),
    ("invariants::nobody_inherits_capabilities", capabilities),
];

/// I4: the kernel tells who opens what in the root.
fn daemon_opens() -> Outcome {
    let mut daemon = Daemon::start()?;
    let root = daemon.busybox("t-i4")?;
    let watch = Fanotify::init(InitFlags::FAN_CLASS_NOTIF | InitFlags::FAN_NONBLOCK, EventFFlags::O_RDONLY)
        .map_err(|e| format!("cannot watch: {e}"))?;
    let mask = MaskFlags::FAN_OPEN | MaskFlags::FAN_ONDIR | MaskFlags::FAN_EVENT_ON_CHILD;
    for folder in ["", "bin", "sbin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "home", "home/guest"]
    {
        watch
            .mark(MarkFlags::FAN_MARK_ADD, mask, nix::fcntl::AT_FDCWD, Some(&root.join(folder)))
            .map_err(|e| format!("cannot watch '{folder}': {e}"))?;
    }
    let xml = domain_xml(
        "t-i4",
        &root,
        &["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do read -t 1 x; done"],
        "",
    )
    .replace("</os>", "<inituser>guest</inituser><initgroup>guest</initgroup></os>");
    let mut daemons = BTreeSet::from([daemon.pid()]);
    daemon.define("t-i4", &xml)?;
    daemon.ok(&["start", "t-i4"])?;
    let init = daemon.pid_of("t-i4", "initPid")?;
    daemon.restart()?;
    daemons.insert(daemon.pid());
    daemon.ok(&["dumpxml", "t-i4"])?;
    let _ = daemon.virsh(&["shutdown", "t-i4", "--mode", "initctl"])?;
    daemon.ok(&["shutdown", "t-i4"])?;
    daemon.wait_state("t-i4", "shut off (shutdown)", 10)?;
    daemon.ok(&["undefine", "t-i4"])?;
    let mut openers = BTreeSet::new();
    while let Ok(events) = watch.read_events() {
        openers.extend(events.iter().map(nix::sys::fanotify::FanotifyEvent::pid));
        if events.is_empty() {
            break;
        }
    }
    ensure!(openers.contains(&init), "the watch does not even see init: {openers:?}");
    let guilty: Vec<&i32> = openers.intersection(&daemons).collect();
    ensure!(guilty.is_empty(), "the daemon has opened something in the root");
    Ok(())
}

/// What the descriptors of a process lead to.
fn descriptors(pid: i32) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).map_err(|e| e.to_string())?;
    Ok(entries
        .flatten()
        .filter_map(|e| Some(fs::read_link(e.path()).ok()?.to_string_lossy().into_owned()))
        .collect())
}

/// I6: of each kind of descriptor that a controller has, we know why.
fn controller_descriptors() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-i6")?;
    daemon.define("t-i6", &domain_xml("t-i6", &root, &["/bin/sleep", "1000"], ""))?;
    let mut connection = daemon.client()?;
    connection.call("io.berth.Node.GetHostname", &serde_json::json!({}))?;
    daemon.ok(&["start", "t-i6"])?;
    let (controller, init) = (daemon.pid_of("t-i6", "id")?, daemon.pid_of("t-i6", "initPid")?);
    let of_daemon: BTreeSet<String> = descriptors(daemon.pid())?.into_iter().collect();
    let of_controller = descriptors(controller)?;
    let root = root.to_string_lossy().into_owned();
    let console = daemon.root().join("var/log/berth/t-i6.console.log").to_string_lossy().into_owned();
    let log = daemon.root().join("var/log/berth/t-i6.log").to_string_lossy().into_owned();
    let top = fs::metadata("/").map_err(|e| e.to_string())?;
    let host_root = fs::read_dir(format!("/proc/{controller}/fd"))
        .map_err(|e| e.to_string())?
        .flatten()
        .filter_map(|e| fs::metadata(e.path()).ok())
        .any(|m| m.dev() == top.dev() && m.ino() == top.ino());
    ensure!(!host_root, "the controller has the host's root open");
    for link in &of_controller {
        let known = *link == root
            || *link == console
            || *link == log
            || link == "/dev/null"
            || link.starts_with("anon_inode:")
            || link.starts_with("socket:[")
            || link.starts_with("pidfd:[") || link.starts_with("net:[") || link.starts_with("user:[")
            || link.ends_with("/cgroup.events")
            // Its ends of the container's terminals.
            || link.contains("/pts/") || link.contains("ptmx") || link == "/0"
            // The container's /dev, which is mounted nowhere on the host: shown as the root of its own.
            || link == "/"
            // The container's own view: the connection, the sums that outlive who serves it, and who does, which is sealed.
            || link == "/dev/fuse" || link == "/memfd:berth-view-state (deleted)"
            || link == "/memfd:berth-view (deleted)";
        ensure!(known, "the controller has '{link}' open: {of_controller:?}");
        let shared = link.starts_with("socket:[") && of_daemon.contains(link);
        // The listening socket is made by the daemon, who keeps no copy.
        ensure!(!shared, "a socket is the daemon's and the controller's: {link}");
    }
    ensure_eq!(descriptors(init)?.len(), 3, "descriptors of init");
    daemon.ok(&["destroy", "t-i6"]).map(drop)
}

/// I10: what has no path has no owner, and is in every container that shares the network.
fn abstract_sockets() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-i10")?;
    daemon.define("t-i10", &domain_xml("t-i10", &root, &["/bin/sleep", "1000"], ""))?;
    daemon.ok(&["start", "t-i10"])?;
    let mut seen = 0;
    for pid in [daemon.pid(), daemon.pid_of("t-i10", "id")?] {
        let sockets: BTreeSet<String> = descriptors(pid)?
            .iter()
            .filter_map(|l| Some(l.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
            .collect();
        let table = fs::read_to_string(format!("/proc/{pid}/net/unix")).map_err(|e| e.to_string())?;
        // Num RefCount Protocol Flags Type St Inode Path
        let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|l| l.split_whitespace().collect()).collect();
        for row in rows.iter().filter(|r| r.len() > 6 && sockets.contains(r[6])) {
            let name = row.get(7).copied().unwrap_or_default();
            ensure!(!name.starts_with('@'), "process {pid} has the abstract socket {name}");
            seen += usize::from(name.contains("io.berth") || name.ends_with(".sock"));
        }
    }
    ensure!(seen >= 2, "the table of sockets does not even show those with paths");
    daemon.ok(&["destroy", "t-i10"]).map(drop)
}

/// I11: nothing that can be written inside changes what the host has set for the domain, not even with the host's ids.
fn limits() -> Outcome {
    let daemon = Daemon::start()?;
    for own_ids in [true, false] {
        let text = "until [ -e /tmp/go ]; do sleep 0.05; done
            set_all() { for f in $(find $1 -name '*.max' -o -name '*limit_in_bytes'); do echo max > $f; echo -1 > $f; done; }
            set_all /sys/fs/cgroup
            for kind in memory pids; do mkdir /tmp/$kind; mount -t cgroup -o $kind none /tmp/$kind && set_all /tmp/$kind; done
            cat /proc/self/cgroup; touch /tmp/done; while :; do sleep 1; done";
        let name = format!("t-i11{own_ids}");
        let root = daemon.busybox(&name)?;
        let text = format!("{{ {text}\n}} > /tmp/out 2>&1");
        let mut xml = domain_xml(&name, &root, &["/bin/sh", "-c", &text], "");
        if !own_ids {
            xml = xml.replacen("<os>", HOST_IDS, 1);
        }
        daemon.define(&name, &xml)?;
        daemon.ok(&["start", &name])?;
        let groups = groups(Path::new("/sys/fs/cgroup"), &format!("{name}.berth"));
        let names = ["memory.limit_in_bytes", "memory.max", "pids.max"];
        let limits: Vec<(PathBuf, &str)> = groups
            .iter()
            .flat_map(|g| names.map(|n| (g.join(n), if n == "pids.max" { "500" } else { "268435456" })))
            .filter(|(file, _)| file.exists())
            .collect();
        ensure!(!limits.is_empty(), "no limit can be set in {groups:?}");
        for (file, value) in &limits {
            fs::write(file, value).map_err(|e| format!("'{}': {e}", file.display()))?;
        }
        fs::write(root.join("tmp/go"), "").map_err(|e| e.to_string())?;
        wait_for("what is tried inside", 10, || root.join("tmp/done").exists().then_some(()))?;
        let seen = fs::read_to_string(root.join("tmp/out")).unwrap_or_default();
        for (file, value) in &limits {
            let now = fs::read_to_string(file).unwrap_or_default();
            ensure_eq!(now.trim(), *value, "own ids: {own_ids}: '{}'; inside: {seen}", file.display());
        }
        let above = seen.lines().any(|l| l.split(':').count() == 3 && l.contains(":/") && !l.ends_with(":/"));
        ensure!(!above, "groups above its own can be seen: {seen}");
        daemon.ok(&["destroy", &name])?;
    }
    Ok(())
}

/// In place of `<os>`: the host's ids.
const HOST_IDS: &str = "<metadata><berth:settings xmlns:berth='urn:berth:domain:1'><berth:idmap mode='none'/></berth:settings></metadata><os>";

/// Groups called like this, in whichever hierarchy.
fn groups(folder: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
        if entry.file_name().to_string_lossy().starts_with(name) {
            found.push(entry.path());
        } else if folder.components().count() < 7 {
            found.extend(groups(&entry.path(), name));
        }
    }
    found
}

/// I13: while no daemon ran the controller has ended, and its number is another's.
fn pid_used_again() -> Outcome {
    let mut daemon = Daemon::start()?;
    let root = daemon.busybox("t-i13")?;
    daemon.define("t-i13", &domain_xml("t-i13", &root, &["/bin/sleep", "1000"], ""))?;
    daemon.ok(&["start", "t-i13"])?;
    let controller = daemon.pid_of("t-i13", "id")?;
    daemon.kill();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(controller), nix::sys::signal::Signal::SIGKILL)
        .map_err(|e| e.to_string())?;
    wait_for("the end of the controller", 5, || (!alive(controller)).then_some(()))?;
    let mut other = Command::new("sleep").arg("1000").spawn().map_err(|e| e.to_string())?;
    let result = adopt_other(&mut daemon, i64::from(controller), i32::try_from(other.id()).unwrap_or(0));
    let _ = other.kill();
    let _ = other.wait();
    result
}

fn adopt_other(daemon: &mut Daemon, controller: i64, other: i32) -> Outcome {
    let state = daemon.root().join("run/berth/state");
    let record = fs::read_dir(&state)
        .map_err(|e| e.to_string())?
        .flatten()
        .map(|e| e.path())
        .find(|p| p.extension().is_some_and(|e| e == "json"))
        .ok_or("no status record")?;
    let text = fs::read_to_string(&record).map_err(|e| e.to_string())?;
    let (old, new) = (format!("\"pid\":{controller}"), format!("\"pid\":{other}"));
    ensure!(text.contains(&old), "the record does not tell the pid: {text}");
    fs::write(&record, text.replace(&old, &new)).map_err(|e| e.to_string())?;
    daemon.launch()?;
    daemon.wait_state("t-i13", "shut off (crashed)", 5)?;
    ensure!(alive(other), "a process that has the controller's number was killed");
    daemon.ok(&["start", "t-i13"])?;
    daemon.ok(&["destroy", "t-i13"])?;
    ensure!(alive(other), "a process that has the controller's number was killed");
    Ok(())
}

/// I15: whoever init is, and whatever the controller had.
fn capabilities() -> Outcome {
    // The daemon inherits this thread's, as of a unit with AmbientCapabilities=.
    let mut sets = rustix::thread::capabilities(None).map_err(|e| format!("capget: {e}"))?;
    sets.inheritable = CapabilitySet::NET_RAW;
    set_capabilities(None, sets).map_err(|e| format!("capset: {e}"))?;
    configure_capability_in_ambient_set(CapabilitySet::NET_RAW, true)
        .map_err(|e| format!("PR_CAP_AMBIENT: {e}"))?;
    let daemon = Daemon::start()?;
    let own = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).map_err(|e| e.to_string())?;
    ensure!(own.contains("CapInh:\t0000000000002000"), "the daemon inherits nothing: {own}");
    const USER: &str = "<inituser>guest</inituser><initgroup>guest</initgroup>";
    // A user namespace gives nothing to inherit; with the host's ids there is none.
    const HOST: &str =
        "<metadata><b:settings xmlns:b='urn:berth:domain:1'><b:idmap mode='none'/></b:settings></metadata>";
    for (name, user, ids) in
        [("t-i15r", "", ""), ("t-i15u", USER, ""), ("t-i15h", "", HOST), ("t-i15hu", USER, HOST)]
    {
        let root = daemon.busybox(name)?;
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))
            .map_err(|e| e.to_string())?;
        let text = report(&daemon, name, |root| {
            script(name, "cat /proc/self/status; cat /proc/1/status", "")(root)
                .replace("</os>", &format!("{user}</os>{ids}"))
        })?;
        for set in ["CapInh:", "CapAmb:"] {
            let values: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix(set)).map(str::trim).collect();
            ensure_eq!(values, ["0000000000000000"; 2], "{name}: {set}");
        }
        if !user.is_empty() {
            let permitted: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("CapPrm:")).collect();
            ensure!(permitted.iter().all(|p| p.trim() == "0000000000000000"), "a user has {permitted:?}");
        }
    }
    Ok(())
}
