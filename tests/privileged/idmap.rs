//! Ids of a container's own: that root inside is no root outside, that nothing on disk is changed for it, and that no
//! two domains have an id in common.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use berth_tests::daemon::{Daemon, dist, domain_xml};
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, wait_for};
use nix::sys::inotify::{InitFlags, Inotify};

use crate::inside::{report, script};

pub const TESTS: &[Test] = &[
    ("idmap::root_inside_is_no_root_outside", default),
    ("idmap::nothing_on_disk_is_changed", disk),
    ("idmap::domains_have_no_id_in_common", disjoint),
    ("idmap::stays_over_daemon_and_reboot", stable),
    ("idmap::explicit_maps_are_used_as_given", explicit),
    ("idmap::explicit_maps_meet_nobody", conflicts),
    ("idmap::opt_outs", opt_outs),
    ("idmap::mounts_are_locked_inside", locked),
    ("idmap::groups_and_terminals_belong_to_root_inside", delegated),
    ("idmap::what_takes_no_map_is_named", unmappable),
    ("idmap::the_hosts_root_does_not_pay_for_a_container", accounts),
];

const SETTINGS: &str = "<metadata><berth:settings xmlns:berth='urn:berth:domain:1'><berth:idmap mode='none'/></berth:settings></metadata>";

/// Starts a domain whose init sleeps, and returns init's pid.
fn sleeper(daemon: &Daemon, name: &str, change: impl Fn(String) -> String) -> Result<i32, String> {
    let root = daemon.busybox(name)?;
    daemon.define(name, &change(domain_xml(name, &root, &["/bin/sleep", "1000"], "")))?;
    daemon.ok(&["start", name])?;
    daemon.pid_of(name, "initPid")
}

fn proc(pid: i32, file: &str) -> Result<String, String> {
    fs::read_to_string(format!("/proc/{pid}/{file}")).map_err(|e| format!("/proc/{pid}/{file}: {e}"))
}

/// The words of a map's only line.
fn map(pid: i32, file: &str) -> Result<Vec<u32>, String> {
    let text = proc(pid, file)?;
    ensure_eq!(text.lines().count(), 1, "{file}");
    Ok(text.split_whitespace().filter_map(|w| w.parse().ok()).collect())
}

/// The four ids of a process, real to file system.
fn ids(pid: i32, kind: &str) -> Result<Vec<u32>, String> {
    let status = proc(pid, "status")?;
    let line = status.lines().find(|l| l.starts_with(kind)).ok_or("no such line")?;
    Ok(line.split_whitespace().skip(1).filter_map(|w| w.parse().ok()).collect())
}

fn default() -> Outcome {
    let daemon = Daemon::start()?;
    let init = sleeper(&daemon, "t-id", |xml| xml)?;
    let first = match map(init, "uid_map")?[..] {
        [0, first, 65_536] if first >= 65_536 => first,
        ref other => return Err(format!("the map of users is {other:?}")),
    };
    ensure_eq!(map(init, "gid_map")?, vec![0, first, 65_536], "the map of groups");
    ensure_eq!(ids(init, "Uid:")?, vec![first; 4], "init's user on the host");
    ensure_eq!(ids(init, "Gid:")?, vec![first; 4], "init's group on the host");
    let range = format!(" start='0' target='{first}' count='65536'/>");
    let live = daemon.ok(&["dumpxml", "t-id"])?;
    for kind in ["uid", "gid"] {
        ensure!(live.contains(&format!("<{kind}{range}")), "the live document lacks the range: {live}");
    }
    let next = daemon.ok(&["dumpxml", "t-id", "--inactive"])?;
    ensure!(!next.contains("<idmap>"), "the definition was changed: {next}");
    daemon.ok(&["destroy", "t-id"])?;
    let text = report(
        &daemon,
        "t-in",
        script(
            "t-in",
            "id -u; mknod /tmp/null c 1 3; ls /tmp; sysctl -w kernel.core_pattern=x; cat /proc/self/uid_map",
            "",
        ),
    )?;
    ensure!(text.lines().next() == Some("0"), "init is not root inside: {text}");
    ensure!(text.contains("mknod: /tmp/null: Operation not permitted"), "a device was made: {text}");
    daemon.ok(&["undefine", "t-id"])?;
    daemon.ok(&["undefine", "t-in"])?;
    let kept =
        fs::read_to_string(daemon.root().join("var/lib/berth/idmap.json")).map_err(|e| e.to_string())?;
    ensure_eq!(kept, "{\"ranges\":{}}".to_owned(), "what is kept for domains that are no more");
    Ok(())
}

/// Owner and mode of everything below a folder.
fn owners(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if let Ok(m) = path.symlink_metadata() {
            found.push(format!("{} {}:{} {:o}", path.display(), m.uid(), m.gid(), m.mode()));
            if m.is_dir() {
                found.extend(owners(&path));
            }
        }
    }
    found.sort();
    found
}

fn disk() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-disk")?;
    // What is written here is meant to stay for a look: not in the folder that is compared for residue.
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let data = folder.path();
    for (name, owner) in [("root", 0), ("guest", 1000)] {
        let path = data.join(name);
        fs::write(&path, "secret").map_err(|e| e.to_string())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(|e| e.to_string())?;
        chown(&path, Some(owner), Some(owner)).map_err(|e| e.to_string())?;
    }
    let before = owners(data);
    let system = owners(&root);
    let devices = format!(
        "    <filesystem type='mount'><source dir='{}'/><target dir='/mnt/data'/></filesystem>\n",
        data.display()
    );
    let text = report(&daemon, "t-disk", script("t-disk", "stat -c '%n %u:%g' /mnt/data/* /etc/passwd; cat /mnt/data/root; echo
        touch /mnt/data/made; touch /mnt/data/given; chown 1000:1000 /mnt/data/given; stat -c '%n %u:%g' /mnt/data/made /mnt/data/given", &devices))?;
    for line in [
        "/mnt/data/root 0:0",
        "/mnt/data/guest 1000:1000",
        "/etc/passwd 0:0",
        "secret",
        "/mnt/data/made 0:0",
        "/mnt/data/given 1000:1000",
    ] {
        ensure!(text.lines().any(|l| l == line), "'{line}' is not in {text}");
    }
    let owner =
        |name: &str| data.join(name).metadata().map(|m| (m.uid(), m.gid())).map_err(|e| e.to_string());
    ensure_eq!(owner("made")?, (0, 0), "what root inside has made");
    ensure_eq!(owner("given")?, (1000, 1000), "what it gave to a user");
    for name in ["made", "given"] {
        fs::remove_file(data.join(name)).map_err(|e| e.to_string())?;
    }
    ensure_eq!(owners(data), before, "owners in the mount");
    ensure_eq!(owners(&root), system, "owners in the root");
    Ok(())
}

fn disjoint() -> Outcome {
    let daemon = Daemon::start()?;
    let mut firsts = Vec::new();
    for n in 0..4 {
        firsts.push(map(sleeper(&daemon, &format!("t-dis{n}"), |xml| xml)?, "uid_map")?[1]);
    }
    firsts.sort_unstable();
    ensure!(firsts.windows(2).all(|w| w[1] - w[0] >= 65_536), "ranges meet: {firsts:?}");
    for n in 0..4 {
        daemon.ok(&["destroy", &format!("t-dis{n}")])?;
    }
    Ok(())
}

fn stable() -> Outcome {
    let mut daemon = Daemon::start()?;
    let root = daemon.busybox("t-keep")?;
    let text = "trap 'reboot -f' TERM; while :; do sleep 0.1; done";
    daemon.define("t-keep", &domain_xml("t-keep", &root, &["/bin/sh", "-c", text], ""))?;
    daemon.ok(&["start", "t-keep"])?;
    let init = daemon.pid_of("t-keep", "initPid")?;
    let space = |pid: i32, kind: &str| {
        fs::read_link(format!("/proc/{pid}/ns/{kind}")).map_err(|e| format!("namespace {kind} of {pid}: {e}"))
    };
    let before = (map(init, "uid_map")?, space(init, "net")?, space(init, "user")?);
    daemon.restart()?;
    ensure!(
        daemon.ok(&["dumpxml", "t-keep"])?.contains(&format!("target='{}'", before.0[1])),
        "the range is not shown after a restart of the daemon"
    );
    let caught = |status: String| {
        let mask = status.lines().find_map(|l| l.strip_prefix("SigCgt:"))?.trim().to_owned();
        u64::from_str_radix(&mask, 16).ok().filter(|m| m & (1 << 14) != 0)
    };
    wait_for("the trap", 5, || caught(proc(init, "status").ok()?))?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(init), nix::sys::signal::Signal::SIGTERM)
        .map_err(|e| e.to_string())?;
    let next = wait_for("the reboot", 20, || daemon.pid_of("t-keep", "initPid").ok().filter(|p| *p != init))?;
    let after = (map(next, "uid_map")?, space(next, "net")?, space(next, "user")?);
    ensure_eq!(after, before, "ids, network and user namespace after the reboot");
    ensure_eq!(ids(next, "Uid:")?, vec![before.0[1]; 4], "init's user after the reboot");
    daemon.ok(&["destroy", "t-keep"])?;
    daemon.restart()?;
    daemon.ok(&["start", "t-keep"])?;
    let again = daemon.pid_of("t-keep", "initPid")?;
    ensure_eq!(map(again, "uid_map")?, before.0, "the range after all was stopped");
    // A file that cannot be read costs nobody anything.
    daemon.kill();
    let file = daemon.root().join("var/lib/berth/idmap.json");
    fs::write(&file, "{ spoilt").map_err(|e| e.to_string())?;
    daemon.launch()?;
    ensure!(daemon.log().contains("idmap.json"), "the spoilt file was not reported: {}", daemon.log());
    let kept = fs::read_to_string(&file).map_err(|e| e.to_string())?;
    ensure!(
        kept.contains(&before.0[1].to_string()),
        "the running domain's range was not noted again: {kept}"
    );
    daemon.ok(&["destroy", "t-keep"]).map(drop)
}

const EXPLICIT: &str = "<idmap><uid start='0' target='700000000' count='1000'/><uid start='1000' target='700100000' count='500'/><gid start='0' target='700200000' count='2000'/></idmap>";

fn with_map(xml: &str, map: &str) -> String {
    xml.replace("</os>", &format!("</os>{map}"))
}

fn explicit() -> Outcome {
    let daemon = Daemon::start()?;
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let data = folder.path();
    let devices = format!(
        "    <filesystem type='mount'><source dir='{}'/><target dir='/mnt'/></filesystem>\n",
        data.display()
    );
    let text = "cat /proc/self/uid_map; cat /proc/self/gid_map; stat -c '%n %u:%g' /etc/passwd /home/guest; touch /mnt/made";
    let run = |name: &str| -> Result<Vec<String>, String> {
        let with = script(name, text, &devices);
        let text = report(&daemon, name, move |root| with_map(&with(root), EXPLICIT))?;
        Ok(text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect())
    };
    let made = || data.join("made").metadata().map(|m| (m.uid(), m.gid())).map_err(|e| e.to_string());
    let expected = [
        "0 700000000 1000",
        "1000 700100000 500",
        "0 700200000 2000",
        "/etc/passwd 0:0",
        "/home/guest 1000:1000",
    ];
    let plain = daemon.busybox("t-plain")?;
    chown(plain.join("home/guest"), Some(1000), Some(1000)).map_err(|e| e.to_string())?;
    ensure_eq!(run("t-plain")?, expected.map(str::to_owned).to_vec(), "a root with the ids of its disk");
    ensure_eq!(made()?, (0, 0), "who owns what was made");
    fs::remove_file(data.join("made")).map_err(|e| e.to_string())?;
    // As libvirt wants it: the files already belong to the ids of the map.
    let shifted = daemon.busybox("t-shift")?;
    shift(&shifted)?;
    shift(data)?;
    chown(shifted.join("home/guest"), Some(700_100_000), Some(700_201_000)).map_err(|e| e.to_string())?;
    ensure_eq!(run("t-shift")?, expected.map(str::to_owned).to_vec(), "a root with the ids of the map");
    ensure_eq!(made()?, (700_000_000, 700_200_000), "who owns what was made");
    let shown = daemon.ok(&["dumpxml", "t-shift"])?;
    ensure!(shown.contains("<uid start='1000' target='700100000' count='500'/>"), "{shown}");
    Ok(())
}

fn shift(path: &Path) -> Outcome {
    std::os::unix::fs::lchown(path, Some(700_000_000), Some(700_200_000)).map_err(|e| e.to_string())?;
    if path.symlink_metadata().is_ok_and(|m| m.is_dir()) {
        for entry in fs::read_dir(path).map_err(|e| e.to_string())?.flatten() {
            shift(&entry.path())?;
        }
    }
    Ok(())
}

fn conflicts() -> Outcome {
    let daemon = Daemon::start()?;
    let first = map(sleeper(&daemon, "t-auto", |xml| xml)?, "uid_map")?[1];
    let same = format!(
        "<idmap><uid start='0' target='{first}' count='10'/><gid start='0' target='5' count='10'/></idmap>"
    );
    let root = daemon.busybox("t-same")?;
    let xml = with_map(&domain_xml("t-same", &root, &["/bin/sleep", "1000"], ""), &same);
    daemon.define("t-same", &xml)?;
    let error = daemon.virsh(&["start", "t-same"])?.fails()?;
    ensure!(error.contains(&first.to_string()) && error.contains("running domain"), "{error}");
    // Once the other is down, the document that asks for the range gets it, and the other another one.
    daemon.ok(&["destroy", "t-auto"])?;
    daemon.ok(&["start", "t-same"])?;
    daemon.ok(&["start", "t-auto"])?;
    let now = map(daemon.pid_of("t-auto", "initPid")?, "uid_map")?[1];
    ensure!(now.abs_diff(first) >= 65_536, "the range was given out twice: {now} and {first}");
    for name in ["t-auto", "t-same"] {
        daemon.ok(&["destroy", name])?;
    }
    let shares = xml
        .replace(
            "<domain type='lxc'>",
            "<domain type='lxc' xmlns:lxc='http://libvirt.org/schemas/domain/lxc/1.0'>",
        )
        .replace(
            "</domain>",
            "<lxc:namespace><lxc:sharenet type='name' value='t-auto'/></lxc:namespace></domain>",
        );
    daemon.define("t-same", &shares)?;
    let error = daemon.virsh(&["start", "t-same"])?.fails()?;
    ensure!(error.contains("shares namespaces"), "{error}");
    Ok(())
}

fn opt_outs() -> Outcome {
    let mut daemon = Daemon::start()?;
    let init = sleeper(&daemon, "t-out", |xml| xml.replace("<os>", &format!("{SETTINGS}<os>")))?;
    ensure_eq!(map(init, "uid_map")?, vec![0, 0, u32::MAX], "the map of one that opted out");
    ensure_eq!(ids(init, "Uid:")?, vec![0; 4], "its root");
    ensure!(!daemon.ok(&["dumpxml", "t-out"])?.contains("<idmap>"), "a map is shown");
    daemon.ok(&["destroy", "t-out"])?;
    let bad = domain_xml("t-bad", Path::new("/srv"), &["/bin/sh"], "")
        .replace("<os>", &format!("{}<os>", SETTINGS.replace("none", "some")));
    let error = daemon.virsh(&["define", &daemon.file("bad.xml", &bad)?])?.fails()?;
    ensure!(error.contains("'some'"), "{error}");
    daemon.stop()?;
    fs::write(daemon.root().join("etc/berth/berthd.toml"), "[idmap]\ndefault = 'none'\n")
        .map_err(|e| e.to_string())?;
    daemon.launch()?;
    let init = sleeper(&daemon, "t-off", |xml| xml)?;
    ensure_eq!(ids(init, "Uid:")?, vec![0; 4], "root where the default is none");
    daemon.ok(&["destroy", "t-off"])?;
    let init = sleeper(&daemon, "t-on", |xml| {
        xml.replace("<os>", &format!("{}<os>", SETTINGS.replace("none", "auto")))
    })?;
    ensure!(ids(init, "Uid:")?[0] > 0, "the document's wish was not heard");
    daemon.ok(&["destroy", "t-on"]).map(drop)
}

fn locked() -> Outcome {
    let daemon = Daemon::start()?;
    let data = tempfile::tempdir().map_err(|e| e.to_string())?;
    let devices = format!(
        "    <filesystem type='mount'><source dir='{}'/><target dir='/mnt/ro'/><readonly/></filesystem>\n",
        data.path().display()
    );
    let text = report(&daemon, "t-lock", script("t-lock", "for p in /proc/keys /proc/sys /sys/firmware /mnt/ro /proc /sys; do umount $p && echo off $p; umount -l $p && echo off $p; done
        for p in /proc/sys /mnt/ro /sys; do mount -o remount,bind,rw $p && echo rw $p; done
        mount -t proc proc /mnt && echo fresh proc; mount -t sysfs sysfs /mnt && echo fresh sysfs
        touch /mnt/ro/x && echo wrote; mount -t tmpfs none /tmp/own 2>/dev/null; mkdir /tmp/own && mount -t tmpfs none /tmp/own && echo own mount && umount /tmp/own && echo own umount; rmdir /tmp/own", &devices))?;
    for word in ["off ", "rw ", "fresh", "wrote"] {
        ensure!(!text.lines().any(|l| l.starts_with(word)), "'{word}' worked: {text}");
    }
    for line in ["own mount", "own umount"] {
        ensure!(text.lines().any(|l| l == line), "'{line}' is not in {text}");
    }
    Ok(())
}

fn delegated() -> Outcome {
    let daemon = Daemon::start()?;
    let text = report(&daemon, "t-del", script("t-del", "cd /sys/fs/cgroup; mkdir below && echo made && echo $$ > below/cgroup.procs && echo moved && echo $$ > cgroup.procs && rmdir below && echo removed
        echo 1 > cgroup.freeze && echo frozen; echo 1 > cgroup.kill && echo killed
        cd /dev; stat -c '%n %u:%g' console tty1 null pts pts/0 pts/ptmx shm mqueue /run
        ls -d /sys/fs/cgroup/../../../proc/1; tty; ls -l /proc/1/fd/0", ""))?;
    for line in [
        "made",
        "moved",
        "removed",
        "console 0:5",
        "tty1 0:5",
        "null 0:0",
        "pts/0 0:5",
        "pts/ptmx 0:0",
        "shm 0:0",
        "mqueue 0:0",
        "/run 0:0",
    ] {
        ensure!(text.lines().any(|l| l == line), "'{line}' is not in {text}");
    }
    for line in ["frozen", "killed"] {
        ensure!(!text.lines().any(|l| l == line), "'{line}' is in {text}");
    }
    Ok(())
}

fn unmappable() -> Outcome {
    let daemon = Daemon::start()?;
    let work = tempfile::tempdir().map_err(|e| e.to_string())?;
    let folder = |name: &str| {
        let path = work.path().join(name);
        fs::create_dir_all(&path).map(|()| path).map_err(|e| e.to_string())
    };
    let (lower, other, data) = (folder("lower")?, folder("other")?, folder("data")?);
    let below = data.join("below");
    fs::create_dir_all(&below).map_err(|e| e.to_string())?;
    let none: Option<&str> = None;
    let options = format!("lowerdir={}:{}", lower.display(), other.display());
    nix::mount::mount(
        Some("overlay"),
        &below,
        Some("overlay"),
        nix::mount::MsFlags::empty(),
        Some(&*options),
    )
    .or_else(|_| nix::mount::mount(Some("proc"), &below, Some("proc"), nix::mount::MsFlags::empty(), none))
    .map_err(|e| e.to_string())?;
    let root = daemon.busybox("t-ovl")?;
    let devices = format!(
        "    <filesystem type='mount'><source dir='{}'/><target dir='/mnt/data'/></filesystem>\n",
        data.display()
    );
    let xml = domain_xml("t-ovl", &root, &["/bin/sleep", "1000"], &devices);
    let result = daemon.define("t-ovl", &xml).and_then(|()| daemon.virsh(&["start", "t-ovl"])?.fails());
    let opted = daemon
        .define("t-ovl", &xml.replace("<os>", &format!("{SETTINGS}<os>")))
        .and_then(|()| daemon.ok(&["start", "t-ovl"]))
        .and_then(|_| daemon.ok(&["destroy", "t-ovl"]));
    nix::mount::umount(&below).map_err(|e| format!("the mount of the host is still busy: {e}"))?;
    let error = result?;
    opted.map_err(|e| format!("without ids of its own: {e}"))?;
    for word in ["step 'sources'", &below.display().to_string(), "map of ids", "berth:idmap mode='none'"] {
        ensure!(error.contains(word), "'{word}' is not in: {error}");
    }
    Ok(())
}

/// How many inotify instances the host's root could make, of `most`.
fn inotify_left(most: usize) -> usize {
    let flags = InitFlags::IN_CLOEXEC;
    let held: Vec<Inotify> = (0..most).map_while(|_| Inotify::init(flags).ok()).collect();
    held.len()
}

fn accounts() -> Outcome {
    let limit = "/proc/sys/fs/inotify/max_user_instances";
    let text = fs::read_to_string(limit).map_err(|e| format!("{limit}: {e}"))?;
    let most: usize = text.trim().parse().map_err(|e| format!("{limit}: {e}"))?;
    if most > 1024 {
        println!("not tried: {limit} is {most}, more than a test can use up");
        return Ok(());
    }
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-ino")?;
    let before = inotify_left(most);
    fs::copy(dist()?.join("berth-probe"), root.join("bin/berth-probe")).map_err(|e| e.to_string())?;
    daemon.define("t-ino", &domain_xml("t-ino", &root, &["/bin/berth-probe", "--inotify"], ""))?;
    daemon.ok(&["start", "t-ino"])?;
    let held = || -> Option<usize> { fs::read_to_string(root.join("tmp/held")).ok()?.trim().parse().ok() };
    let got = wait_for("all instances inside", 10, held)?;
    ensure!(got + 8 > most, "it gets {got} inotify instances of {most}");
    // The controller has one, too, for the PTYs of the consoles. Those of a test before may have been given back meanwhile.
    let left = inotify_left(most);
    ensure!(left >= before, "the host's root has {left} inotify instances, before it were {before}");
    daemon.ok(&["destroy", "t-ino"])?;
    daemon.ok(&["undefine", "t-ino"]).map(drop)
}
