//! Devices of the host by a domain's document: disks, host devices, file systems of images, and interfaces.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use berth_tests::daemon::{Daemon, domain_xml};
use berth_tests::host::Traces;
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::inside::{report, script};

pub const TESTS: &[Test] = &[
    ("devices::disks_and_host_devices_of_a_document", disks),
    ("devices::without_ids_of_its_own_rules_still_hold", host_ids),
    ("devices::file_systems_of_images_have_the_containers_ids", images),
    ("devices::a_root_may_be_an_image", root),
    ("devices::interfaces_come_and_go_back", interfaces),
    ("devices::interfaces_go_back_when_a_start_fails", interface_failure),
    ("devices::a_killed_controller_leaves_nothing", killed),
    ("devices::errors_name_the_way_out", errors),
];

const HOST_IDS: &str = "<metadata><berth:settings xmlns:berth='urn:berth:domain:1'><berth:idmap mode='none'/></berth:settings></metadata>";

/// Runs a program of the host, which must succeed; its output.
fn host(words: &[&str]) -> Result<String, String> {
    let output = Command::new(words[0])
        .args(&words[1..])
        .output()
        .map_err(|e| format!("cannot run {}: {e}", words[0]))?;
    if !output.status.success() {
        return Err(format!("{words:?}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn text(path: &Path) -> Result<&str, String> {
    path.to_str().ok_or_else(|| "not UTF-8".to_owned())
}

/// An image of so many MiB in a folder, filled with a letter.
fn image(folder: &Path, name: &str, mib: usize, letter: u8) -> Result<PathBuf, String> {
    let path = folder.join(name);
    fs::write(&path, vec![letter; mib << 20]).map_err(|e| e.to_string())?;
    Ok(path)
}

/// An image with an ext4 of what is in a folder.
fn ext4(folder: &Path, name: &str, mib: usize, tree: &Path) -> Result<PathBuf, String> {
    let path = image(folder, name, mib, 0)?;
    host(&["mke2fs", "-q", "-t", "ext4", "-d", text(tree)?, text(&path)?])?;
    Ok(path)
}

/// A loop device of the test's own.
pub struct Loop(pub String);

impl Loop {
    pub fn of(file: &Path) -> Result<Self, String> {
        host(&["losetup", "--find", "--show", text(file)?]).map(Self)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

/// Names of the loop devices whose file is in a folder.
fn loops(folder: &Path) -> Vec<String> {
    let file = |name: &str| fs::read_to_string(format!("/sys/block/{name}/loop/backing_file"));
    let names = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let mut found: Vec<String> = names
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|name| file(name).is_ok_and(|f| Path::new(f.trim()).starts_with(folder)))
        .collect();
    found.sort();
    found
}

fn no_loops(folder: &Path) -> Outcome {
    wait_for("the end of all loop devices", 5, || loops(folder).is_empty().then_some(()))
        .map_err(|e| format!("{e}: {:?}", loops(folder)))
}

fn disk(kind: &str, source: &str, target: &str, more: &str) -> String {
    let attribute = if kind == "block" { "dev" } else { "file" };
    format!("<disk type='{kind}'>{more}<source {attribute}='{source}'/><target dev='{target}'/></disk>\n")
}

fn hostdev(kind: &str, source: &str) -> String {
    format!("<hostdev mode='capabilities' type='{kind}'><source>{source}</source></hostdev>\n")
}

/// Disks and host devices of every kind, and a script that says what it finds.
fn document(images: &Path, own: &Loop) -> Result<(String, String), String> {
    let (a, b) = (image(images, "a", 1, b'a')?, image(images, "b", 1, b'b')?);
    let devices = [
        disk("file", text(&a)?, "vda", ""),
        disk("file", text(&b)?, "vdb", "<readonly/>"),
        disk("block", &own.0, "vdc", "<readonly/>"),
        hostdev("storage", &format!("<block>{}</block>", own.0)),
        hostdev("misc", "<char>/dev/fuse</char>"),
        hostdev("misc", "<char>/dev/net/tun</char>"),
    ]
    .concat();
    let script = format!(
        "for d in vda vdb vdc {own} fuse net/tun; do stat -c '%n %u:%g %F' /dev/$d; done
        echo new | dd of=/dev/vda conv=sync && echo vda-rw
        echo new | dd of=/dev/vdb conv=sync || echo vdb-ro
        head -c 1 /dev/vdb; head -c 1 /dev/vdc; echo
        head -c 1 /dev/fuse; : < /dev/fuse && : < /dev/net/tun && echo chars-open
        mknod /tmp/n b 7 200 && head -c 1 /tmp/n; mknod /tmp/k c 1 11 && head -c 1 /tmp/k; rm -f /tmp/n /tmp/k; echo done",
        own = own.0.trim_start_matches("/dev/")
    );
    Ok((devices, script))
}

/// Both for a container with ids of its own and for one without.
fn check_disks(name: &str, change: impl Fn(String) -> String) -> Result<String, String> {
    let daemon = Daemon::start()?;
    let images = tempfile::tempdir().map_err(|e| e.to_string())?;
    let own = Loop::of(&image(images.path(), "c", 1, b'c')?)?;
    let (devices, commands) = document(images.path(), &own)?;
    let xml = script(name, &commands, &devices);
    let out = report(&daemon, name, |root| change(xml(root)))?;
    for line in ["/dev/vda 0:0 block special file", "/dev/net/tun 0:0 character special file"] {
        ensure!(out.contains(line), "'{line}' is not in {out}");
    }
    for word in ["vda-rw", "vdb-ro", "bc\n", "chars-open", "done"] {
        ensure!(out.contains(word), "'{word}' is not in {out}");
    }
    let log = fs::read_to_string(daemon.root().join(format!("var/log/berth/{name}.log"))).unwrap_or_default();
    ensure!(!log.contains("ruled") && !log.contains("only one of two"), "rules were not put in force: {log}");
    let read = |file: &str| fs::read(images.path().join(file)).map_err(|e| e.to_string());
    ensure!(read("a")?.starts_with(b"new\n\0"), "the disk was not written");
    ensure!(read("b")?.starts_with(b"bbb"), "the read-only disk was written");
    wait_for("the end of all loop devices but ours", 5, || (loops(images.path()).len() == 1).then_some(()))?;
    Ok(out)
}

fn disks() -> Outcome {
    let out = check_disks("t-disks", |xml| xml)?;
    ensure!(out.contains("mknod: /tmp/n: Operation not permitted"), "a node was made: {out}");
    Ok(())
}

fn host_ids() -> Outcome {
    let features = "<features><capabilities policy='default'><mknod state='on'/></capabilities></features>";
    let out = check_disks("t-nodes", |xml| {
        xml.replace("<memory", &format!("{HOST_IDS}<memory")).replace("</os>", &format!("</os>{features}"))
    })?;
    for node in ["n", "k"] {
        ensure!(out.contains(&format!("head: /tmp/{node}: Operation not permitted")), "opened: {out}");
    }
    Ok(())
}

fn images() -> Outcome {
    let daemon = Daemon::start()?;
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let tree = folder.path().join("tree");
    fs::create_dir(&tree)
        .and_then(|()| fs::write(tree.join("hello"), "hello\n"))
        .map_err(|e| e.to_string())?;
    let ext = ext4(folder.path(), "ext", 8, &tree)?;
    let squash = folder.path().join("squash");
    host(&["mksquashfs", text(&tree)?, text(&squash)?, "-quiet", "-no-progress"])?;
    let xfs = folder.path().join("xfs");
    fs::File::create(&xfs).and_then(|f| f.set_len(320 << 20)).map_err(|e| e.to_string())?;
    host(&["mkfs.xfs", "-q", text(&xfs)?])?;
    let own = Loop::of(&xfs)?;
    let filesystem = |source: &str, kind: &str, target: &str, more: &str| {
        format!("<filesystem type='{kind}'><source {source}/><target dir='{target}'/>{more}</filesystem>\n")
    };
    let devices = [
        filesystem(&format!("file='{}'", text(&ext)?), "file", "/ext", ""),
        filesystem(&format!("file='{}'", text(&squash)?), "file", "/squash", "<readonly/>"),
        filesystem(&format!("dev='{}'", own.0), "block", "/xfs", ""),
    ]
    .concat();
    let commands = "cat /ext/hello /squash/hello; stat -c '%n %u:%g' /ext/hello /squash/hello /xfs
        echo x > /ext/new && stat -c '%n %u:%g' /ext/new; echo x > /xfs/new && echo xfs-rw
        echo x > /squash/new || echo squash-ro";
    let out = report(&daemon, "t-images", script("t-images", commands, &devices))?;
    ensure_eq!(out.matches("hello\n").count(), 2, "{out}");
    for line in ["/ext/hello 0:0", "/squash/hello 0:0", "/xfs 0:0", "/ext/new 0:0", "xfs-rw", "squash-ro"] {
        ensure!(out.contains(line), "'{line}' is not in {out}");
    }
    wait_for("the end of all loop devices but ours", 5, || (loops(folder.path()).len() == 1).then_some(()))?;
    // On the disk it is root's, not that of an id of the container's.
    let owner = host(&["debugfs", "-R", "stat /new", text(&ext)?])?;
    ensure!(owner.contains("User:     0   Group:     0"), "the file belongs to somebody else: {owner}");
    Ok(())
}

fn root() -> Outcome {
    let daemon = Daemon::start()?;
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let tree = daemon.busybox("t-root")?;
    let img = ext4(folder.path(), "root", 16, &tree)?;
    let before = Traces::of("t-iroot", daemon.work());
    let xml = domain_xml("t-iroot", &tree, &["/bin/sh", "-c", "echo started; exec sleep 1000"], "")
        .replace("<filesystem type='mount'>", "<filesystem type='file'>")
        .replace(
            &format!("<source dir='{}'/>", tree.display()),
            &format!("<source file='{}'/>", text(&img)?),
        );
    for readonly in [false, true] {
        let xml = if readonly {
            xml.replace("<target dir='/'/>", "<target dir='/'/><readonly/>")
        } else {
            xml.clone()
        };
        daemon.define("t-iroot", &xml)?;
        daemon.ok(&["start", "t-iroot"])?;
        let init = daemon.pid_of("t-iroot", "initPid")?;
        let mounts = fs::read_to_string(format!("/proc/{init}/mounts")).map_err(|e| e.to_string())?;
        let rights = if readonly { "ro" } else { "rw" };
        let first = mounts.lines().next().unwrap_or_default();
        ensure!(first.contains(&format!(" / ext4 {rights},nodev")), "the root is {first}");
        ensure_eq!(loops(folder.path()).len(), 1, "loop devices");
        daemon.ok(&["destroy", "t-iroot"])?;
        no_loops(folder.path())?;
    }
    daemon.ok(&["undefine", "t-iroot"])?;
    let _ = fs::remove_file(daemon.work().join("t-iroot.xml"));
    ensure_eq!(Traces::of("t-iroot", daemon.work()).difference(&before), Vec::<String>::new(), "residue");
    Ok(())
}

/// A pair of interfaces in the suite's own network namespace; removed when it is dropped.
struct Pair(String, String);

impl Pair {
    fn make(name: &str) -> Result<Self, String> {
        let pair = Self(format!("{name}0"), format!("{name}1"));
        host(&["ip", "link", "add", &pair.0, "type", "veth", "peer", "name", &pair.1])?;
        host(&["ip", "link", "set", &pair.0, "up"])?;
        Ok(pair)
    }

    fn is_back(&self) -> bool {
        Path::new("/sys/class/net").join(&self.1).exists() || host(&["ip", "link", "show", &self.1]).is_ok()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.0]).status();
    }
}

fn net(name: &str) -> String {
    format!(
        "<hostdev mode='capabilities' type='net'><source><interface>{name}</interface></source>
        <ip address='192.0.2.5' family='ipv4' prefix='25'/><ip address='2001:db8::5' family='ipv6' prefix='64'/>
        <route family='ipv4' address='0.0.0.0' gateway='192.0.2.1'/>
        <route family='ipv4' address='198.51.100.0' prefix='24' gateway='192.0.2.2' metric='7'/></hostdev>\n"
    )
}

fn interfaces() -> Outcome {
    let daemon = Daemon::start()?;
    let pair = Pair::make("tdi")?;
    let root = daemon.busybox("t-net")?;
    let commands = "ip -4 -o addr show tdi1; ip -6 -o addr show tdi1; ip route; echo told
        test -e /tmp/again && exec sleep 1000
        touch /tmp/again; ip addr flush dev tdi1; ip link set tdi1 down; ip link set tdi1 name other0; reboot -f";
    daemon.define("t-net", &domain_xml("t-net", &root, &["/bin/sh", "-c", commands], &net("tdi1")))?;
    daemon.ok(&["start", "t-net"])?;
    ensure!(host(&["ip", "link", "show", "tdi1"]).is_err(), "the interface is still the host's");
    let mut log = String::new();
    wait_for("both runs", 10, || {
        log = daemon.ok(&["console", "t-net", "--log"]).unwrap_or_default();
        (log.matches("told").count() == 2).then_some(())
    })
    .map_err(|e| format!("{e}: {log}"))?;
    let first = log.split("told").next().unwrap_or_default();
    for line in [
        "inet 192.0.2.5/25 brd 192.0.2.127",
        "inet6 2001:db8::5/64",
        "default via 192.0.2.1 dev tdi1",
        "198.51.100.0/24 via 192.0.2.2 dev tdi1",
        "metric 7",
    ] {
        ensure!(first.contains(line), "'{line}' is not in {log}");
    }
    // After the reboot it has another name, and what the container took away is there again.
    let init = daemon.pid_of("t-net", "initPid")?.to_string();
    let seen = host(&["nsenter", "-t", &init, "-n", "ip", "-4", "-o", "addr", "show", "other0"])?;
    ensure!(seen.contains("192.0.2.5/25"), "the address is not there again: {seen}");
    let routes = host(&["nsenter", "-t", &init, "-n", "ip", "route"])?;
    ensure!(routes.contains("default via 192.0.2.1"), "the route is not there again: {routes}");
    daemon.ok(&["destroy", "t-net"])?;
    ensure!(pair.is_back(), "the interface has not come back under its name");
    let flags = host(&["ip", "-o", "link", "show", "tdi1"])?;
    ensure!(flags.contains("state DOWN") || flags.contains("state LOWERLAYERDOWN"), "{flags}");
    daemon.ok(&["undefine", "t-net"]).map(drop)
}

fn interface_failure() -> Outcome {
    let daemon = Daemon::start()?;
    let pair = Pair::make("tdf")?;
    let root = daemon.busybox("t-netf")?;
    // Fails after the interface was moved.
    daemon.define("t-netf", &domain_xml("t-netf", &root, &["/no-such-init"], &net("tdf1")))?;
    daemon.virsh(&["start", "t-netf"])?.fails()?;
    ensure!(pair.is_back(), "the interface has not come back");
    let gateway = net("tdf1").replace("192.0.2.1'", "203.0.113.1'");
    daemon.define("t-netf", &domain_xml("t-netf", &root, &["/bin/sh"], &gateway))?;
    let error = daemon.virsh(&["start", "t-netf"])?.fails()?;
    ensure!(error.contains("cannot add the route '0.0.0.0/0 via "), "{error}");
    ensure!(pair.is_back(), "the interface has not come back");
    daemon.define("t-netf", &domain_xml("t-netf", &root, &["/bin/sh"], &net("nosuch0")))?;
    let error = daemon.virsh(&["start", "t-netf"])?.fails()?;
    ensure!(error.contains("cannot find the interface 'nosuch0': the host has no such interface"), "{error}");
    daemon.ok(&["undefine", "t-netf"]).map(drop)
}

fn killed() -> Outcome {
    let daemon = Daemon::start()?;
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let tree = folder.path().join("tree");
    fs::create_dir(&tree).map_err(|e| e.to_string())?;
    let (vda, ext) = (image(folder.path(), "vda", 1, 0)?, ext4(folder.path(), "ext", 8, &tree)?);
    let root = daemon.busybox("t-dkill")?;
    let devices = disk("file", text(&vda)?, "vda", "")
        + &format!(
            "<filesystem type='file'><source file='{}'/><target dir='/ext'/></filesystem>",
            text(&ext)?
        );
    daemon.define("t-dkill", &domain_xml("t-dkill", &root, &["/bin/sleep", "1000"], &devices))?;
    for _ in 0..3 {
        daemon.ok(&["start", "t-dkill"])?;
        ensure_eq!(loops(folder.path()).len(), 2, "loop devices");
        let controller = daemon.pid_of("t-dkill", "id")?;
        kill(Pid::from_raw(controller), Signal::SIGKILL).map_err(|e| e.to_string())?;
        daemon.wait_state("t-dkill", "shut off (crashed)", 10)?;
        no_loops(folder.path())?;
    }
    daemon.ok(&["undefine", "t-dkill"]).map(drop)
}

fn errors() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-derr")?;
    let file = daemon.file("empty.img", &"x".repeat(1 << 16))?;
    let filesystem =
        |source: &str| format!("<filesystem type='file'>{source}<target dir='/x'/></filesystem>");
    let usb = "<hostdev mode='subsystem' type='usb'><source><vendor id='0xfffe'/><product id='0xfffe'/></source></hostdev>";
    let mut cases = vec![
        (
            disk("file", "/no/such.img", "vda", ""),
            "cannot open '/no/such.img': No such file",
            "correct the <disk>",
        ),
        (
            disk("block", "/tmp", "vda", ""),
            "cannot use '/tmp': it is a directory, and must be a block device",
            "correct the <disk>",
        ),
        (
            filesystem(&format!("<source file='{file}'/>")),
            "no file system is found on it",
            "make a file system on it",
        ),
        (usb.to_owned(), "no USB device with vendor 0xfffe and product 0xfffe is plugged in", ""),
    ];
    if !Path::new("/sys/block/nbd0").exists() {
        let nbd = disk("file", &file, "vda", "<driver name='nbd' type='qcow2'/>");
        cases.push((nbd, "serve by qemu-nbd", if which("qemu-nbd") { "modprobe nbd" } else { "qemu-utils" }));
    }
    for (devices, message, hint) in cases {
        let before = Traces::of("t-derr", daemon.work());
        daemon.define("t-derr", &domain_xml("t-derr", &root, &["/bin/sh"], &devices))?;
        let error = daemon.virsh(&["start", "t-derr"])?.fails()?;
        ensure!(error.contains(message) && error.contains(hint), "'{message}', '{hint}': {error}");
        daemon.ok(&["undefine", "t-derr"])?;
        let _ = fs::remove_file(daemon.work().join("t-derr.xml"));
        ensure_eq!(Traces::of("t-derr", daemon.work()).difference(&before), Vec::<String>::new(), "residue");
    }
    Ok(())
}

fn which(program: &str) -> bool {
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].iter().any(|f| Path::new(f).join(program).exists())
}
