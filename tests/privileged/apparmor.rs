//! Containers under AppArmor: the profile comes and goes with the container, is the one that was asked for, and refuses
//! what it should. Each denied act is tried, by a root inside that is root outside, so that nothing else refuses it.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use berth_tests::daemon::{Daemon, confined, domain_xml};
use berth_tests::host::{Tool, in_own_network, run};
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, wait_for};

pub const TESTS: &[Test] = &[
    ("apparmor::a_profile_comes_and_goes", comes_and_goes),
    ("apparmor::what_is_denied", denied),
    ("apparmor::what_is_allowed", allowed),
    ("apparmor::variants_differ", variants),
    ("apparmor::own_ids_under_the_profile", own_ids),
    ("apparmor::application_under_the_profile", application),
    ("apparmor::labels_of_the_document", labels),
    ("apparmor::nothing_stays_after_kills", kills),
    ("apparmor::profiles_of_the_programs", || installed(programs)),
    ("apparmor::images_with_a_format_under_the_profiles", || installed(formats)),
    ("apparmor::tools_and_sockets_under_the_profiles", || installed(|| in_own_network(tools))),
];

const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";

/// Why these cannot run here, if they cannot.
pub fn obstacle() -> Option<String> {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    if enabled.trim() != "Y" || !Path::new(PROFILES).exists() {
        return Some("the kernel has no AppArmor; `cargo xtask vm` runs these under one that has".into());
    }
    None
}

fn settings(inside: &str) -> String {
    format!("<metadata><b:settings xmlns:b='urn:berth:domain:1'>{inside}</b:settings></metadata>\n  <os>")
}

/// Settings with the host's ids, and the profile.
fn host_ids(profile: &str) -> String {
    settings(&format!("<b:idmap mode='none'/><b:apparmor profile='{profile}'/>"))
}

fn loaded(name: &str) -> bool {
    let text = fs::read_to_string(PROFILES).unwrap_or_default();
    text.lines().any(|l| l.strip_prefix(name).is_some_and(|rest| rest.starts_with(" (")))
}

/// The label of a process as the kernel tells it.
fn label_of(pid: i32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/attr/apparmor/current")).unwrap_or_default();
    text.trim().to_owned()
}

/// Starts a domain that sleeps, and answers the name of its profile.
fn sleeper(daemon: &Daemon, name: &str, os: &str) -> Result<String, String> {
    let root = daemon.busybox(name)?;
    let xml = domain_xml(name, &root, &["/bin/sleep", "10000"], "").replace("<os>", os);
    daemon.define(name, &xml)?;
    daemon.ok(&["start", name])?;
    label(daemon, name)
}

fn label(daemon: &Daemon, name: &str) -> Result<String, String> {
    let status = daemon.status(name)?;
    status["security"]["label"].as_str().map(str::to_owned).ok_or_else(|| format!("no label in {status}"))
}

/// What a script in a container prints. Each of `acts` is tried in a shell of its own; its line is the act, and `ok` or
/// what was said.
fn try_all(daemon: &Daemon, name: &str, os: &str, acts: &[&str]) -> Result<Vec<(String, String)>, String> {
    let root = daemon.busybox(name)?;
    let quoted = |act: &str| act.replace('\'', "'\\''");
    let tries: String = acts
        .iter()
        .map(|act| format!("e=$(sh -c '{}' 2>&1 >/dev/null) && echo ok >> /tmp/out || echo \"no: $e\" | tr '\\n' ' ' >> /tmp/out; echo >> /tmp/out\n", quoted(act)))
        .collect();
    let script = format!("mkdir -p /mnt/a /mnt/b /run/systemd/x/proc\n{tries}exit 0\n");
    fs::write(root.join("tmp/script"), script).map_err(|e| e.to_string())?;
    let out = root.join("tmp/out");
    let _ = fs::remove_file(&out);
    let xml = domain_xml(name, &root, &["/bin/sh", "/tmp/script"], "").replace("<os>", os);
    daemon.define(name, &xml)?;
    daemon.ok(&["start", name])?;
    daemon.wait_state(name, "shut off (shutdown)", 60)?;
    let text = fs::read_to_string(&out).map_err(|e| format!("no output: {e}"))?;
    let lines: Vec<&str> = text.lines().filter(|l| !l.is_empty()).collect();
    ensure_eq!(lines.len(), acts.len(), "answers in {text}");
    Ok(acts.iter().zip(lines).map(|(act, line)| ((*act).to_owned(), line.trim().to_owned())).collect())
}

fn comes_and_goes() -> Outcome {
    let daemon = Daemon::start()?;
    let name = sleeper(&daemon, "t-aa", "<os>")?;
    let uuid = daemon.ok(&["domuuid", "t-aa"])?;
    ensure!(name.starts_with("berth-") && name.ends_with(uuid.trim()), "the name is {name}");
    ensure!(loaded(&name), "'{name}' is not loaded");
    ensure_eq!(label_of(daemon.pid_of("t-aa", "initPid")?), format!("{name} (enforce)"), "init's label");
    let info = daemon.ok(&["dominfo", "t-aa"])?;
    let rows = format!("Security model: apparmor\nSecurity DOI:   0\nSecurity label: {name} (enforcing)\n");
    ensure!(info.contains(&rows), "dominfo: {info}");
    let live = daemon.ok(&["dumpxml", "t-aa"])?;
    let shown = format!(
        "  <seclabel type='dynamic' model='apparmor' relabel='yes'>\n    <label>{name}</label>\n    \
         <imagelabel>{name}</imagelabel>\n  </seclabel>\n"
    );
    ensure!(live.contains(&shown), "the live document: {live}");
    ensure!(daemon.ok(&["capabilities"])?.contains("<model>apparmor</model>"), "capabilities");
    daemon.ok(&["destroy", "t-aa"])?;
    ensure!(!loaded(&name), "'{name}' is still loaded after destroy");
    // A start that fails behind the profile.
    let root = daemon.busybox("t-bad")?;
    daemon.define("t-bad", &domain_xml("t-bad", &root, &["/bin/nowhere"], ""))?;
    daemon.virsh(&["start", "t-bad"])?.fails()?;
    let tag = name.trim_end_matches(uuid.trim());
    let left = fs::read_to_string(PROFILES).unwrap_or_default();
    ensure!(!left.contains(tag), "left after a failed start: {left}");
    Ok(())
}

/// What no container may do, whoever root is: the act, and a word of the answer.
const DENIED: &[&str] = &[
    "mount -t securityfs none /mnt/a",
    "mount -t debugfs none /mnt/a",
    "mount -t tracefs none /mnt/a",
    "mount -t configfs none /mnt/a",
    "mount -t devtmpfs none /mnt/a",
    "mount -t pstore none /mnt/a",
    "mount -t bpf none /mnt/a",
    "mount -t efivarfs none /mnt/a",
    "mount -t binfmt_misc none /mnt/a",
    "mount -t proc none /proc && echo h > /proc/sysrq-trigger",
    "mount -t proc none /proc && echo x > /proc/sys/kernel/core_pattern",
    "mount -t proc none /proc && echo 1 > /proc/sys/kernel/printk",
    "mount -t proc none /proc && echo 1 > /proc/sys/kernel/sysrq",
    "mount -t proc none /proc && echo 60 > /proc/sys/vm/swappiness",
    "mount -t proc none /proc && echo x > /proc/sys/kernel/modprobe",
    "mount -t proc none /proc && echo 99999 > /proc/sys/fs/file-max",
    "mount -t proc none /proc && echo 9 > /proc/sys/user/max_user_namespaces",
    "mount -t proc none /proc && head -c 1 /proc/kcore",
    "umount -l /sys && mount -t sysfs none /sys && echo x > /sys/kernel/uevent_helper",
    "umount -l /sys && mount -t sysfs none /sys && echo mem > /sys/power/state",
    "umount -l /sys && mount -t sysfs none /sys && echo 0 > /sys/kernel/profiling",
    "echo changeprofile unconfined > /proc/self/attr/apparmor/current",
    "echo exec unconfined > /proc/self/attr/apparmor/exec",
];

/// Of the default and the nesting profile.
const BLOCK: &[&str] = &["mount -t ext4 /dev/null /mnt/a", "mount -t squashfs /dev/null /mnt/a"];

/// Of the default and the mounting profile.
const ELSEWHERE: &[&str] = &["mount -t proc none /mnt/a", "mount -t sysfs none /mnt/a"];

/// A refusal by the profile; by errors of other kinds it would prove nothing.
fn is_refused(said: &str) -> bool {
    said.starts_with("no: ") && (said.contains("ermission denied") || said.contains("not permitted"))
}

fn denied() -> Outcome {
    let daemon = Daemon::start()?;
    let acts = [DENIED, BLOCK, ELSEWHERE].concat();
    let confined = try_all(&daemon, "t-deny", &host_ids("default"), &acts)?;
    // Only what does no harm to the host that is under test.
    let harmless: Vec<&str> =
        acts.iter().copied().filter(|a| !a.contains("echo") || a.contains("sysrq-trigger")).collect();
    let free = try_all(&daemon, "t-free", &host_ids("unconfined"), &harmless)?;
    let mut wrong = Vec::new();
    for (act, said) in &confined {
        println!("{act}: {said}");
        // What this kernel lacks is not asked of the profile.
        if !is_refused(said) && !said.contains("No such device") {
            wrong.push(format!("{act}: {said}"));
        }
    }
    for (act, said) in &free {
        println!("{act}: unconfined: {said}");
    }
    let differ = free.iter().filter(|(_, said)| !is_refused(said)).count();
    ensure!(wrong.is_empty(), "not refused: {wrong:#?}");
    // Without the profile most of these are open, or fail for what is not there: it is the profile that refuses.
    ensure!(differ >= 9, "only {differ} acts are refused by nothing but the profile");
    // A process outside, which has no business with the container.
    let mut victim = Outsider::new()?;
    let pid = victim.pid();
    let act = format!("nsenter -t 1 -p true; kill -9 {pid}");
    drop(try_all(&daemon, "t-kill", &host_ids("default"), &[act.as_str()])?);
    ensure!(victim.lives(), "a process outside was killed");
    Ok(())
}

/// A process outside of all containers.
struct Outsider(Child);

impl Outsider {
    fn new() -> Result<Self, String> {
        let child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn();
        child.map(Self).map_err(|e| format!("cannot start sleep: {e}"))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn lives(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Outsider {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What an init does to set its services up, and services to work.
const ALLOWED: &[&str] = &[
    "mount -t tmpfs none /mnt/a",
    "mount -t tmpfs -o ro,nosuid,nodev none /mnt/b && mount -o remount,rw /mnt/b",
    "mount --bind /etc /mnt/a && mount -o remount,bind,ro /mnt/a && umount /mnt/a",
    "mount --make-rslave /",
    "mount --make-rprivate /",
    "mount --rbind / /mnt/b && umount -l /mnt/b",
    "mount --move /mnt/a /mnt/b",
    "mount -t proc none /proc",
    "mount -t proc none /run/systemd/x/proc",
    "unshare -m mount -t tmpfs none /mnt/a",
    "hostname other",
    "echo other > /proc/sys/kernel/hostname",
    "sleep 100 & kill -9 $!",
    "cat /proc/1/status /proc/self/mountinfo",
    "mkfifo /tmp/fifo && chown 1:1 /tmp/fifo && chmod 4755 /tmp/fifo",
    "cat /proc/1/attr/apparmor/current",
];

fn allowed() -> Outcome {
    let daemon = Daemon::start()?;
    let mut wrong = Vec::new();
    for (act, said) in try_all(&daemon, "t-may", &host_ids("default"), ALLOWED)? {
        println!("{act}: {said}");
        if said != "ok" {
            wrong.push(format!("{act}: {said}"));
        }
    }
    ensure!(wrong.is_empty(), "refused: {wrong:#?}");
    Ok(())
}

fn variants() -> Outcome {
    let daemon = Daemon::start()?;
    let acts = [BLOCK, ELSEWHERE, &DENIED[..2]].concat();
    let nesting = try_all(&daemon, "t-nest", &host_ids("nesting"), &acts)?;
    let mounting = try_all(&daemon, "t-mount", &host_ids("mounting"), &acts)?;
    let (block, rest) = (BLOCK.len(), BLOCK.len() + ELSEWHERE.len());
    for (index, ((act, nested), (_, mounted))) in nesting.iter().zip(&mounting).enumerate() {
        println!("{act}: nesting: {nested}, mounting: {mounted}");
        // No device is one: what the profile lets through, the kernel cannot do.
        let (in_nesting, in_mounting) = (index < block || index >= rest, index >= block);
        ensure_eq!(is_refused(nested), in_nesting, "{act} in the nesting profile: {nested}");
        ensure_eq!(is_refused(mounted), in_mounting, "{act} in the mounting profile: {mounted}");
    }
    Ok(())
}

/// With ids of its own, which is the default: the label is the same, and so is what works.
fn own_ids() -> Outcome {
    let daemon = Daemon::start()?;
    let acts = ["grep -q ^berth- /proc/self/attr/apparmor/current", "mount -t tmpfs none /mnt/a", "true"];
    for (act, said) in try_all(&daemon, "t-own", "<os>", &acts)? {
        ensure_eq!(said, "ok", "{act}");
    }
    let refused = ["mount -t securityfs none /mnt/a", "echo exec unconfined > /proc/self/attr/apparmor/exec"];
    for (act, said) in try_all(&daemon, "t-own2", "<os>", &refused)? {
        ensure!(is_refused(&said), "{act}: {said}");
    }
    Ok(())
}

/// Nothing inside gains privileges there, and the change of profile comes before that.
fn application() -> Outcome {
    let daemon = Daemon::start()?;
    let name = sleeper(&daemon, "t-app", &settings("<b:seccomp profile='application'/>"))?;
    let pid = daemon.pid_of("t-app", "initPid")?;
    ensure_eq!(label_of(pid), format!("{name} (enforce)"), "init's label");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(|e| e.to_string())?;
    ensure!(status.contains("NoNewPrivs:\t1"), "{status}");
    daemon.ok(&["destroy", "t-app"])?;
    Ok(())
}

/// Loads a text with the system's parser.
fn load(text: &str) -> Outcome {
    let file = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
    fs::write(file.path(), text).map_err(|e| e.to_string())?;
    let run = Command::new("apparmor_parser").args(["--replace", "--skip-cache"]).arg(file.path()).output();
    let output = run.map_err(|e| format!("apparmor_parser: {e}"))?;
    ensure!(output.status.success(), "apparmor_parser: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn unload(name: &str) {
    let _ = fs::write("/sys/kernel/security/apparmor/.remove", name);
}

fn labels() -> Outcome {
    let daemon = Daemon::start()?;
    let fixed = |label: &str| {
        format!("<seclabel type='static' model='apparmor'><label>{label}</label></seclabel>\n  <os>")
    };
    let root = daemon.busybox("t-fixed")?;
    let xml = domain_xml("t-fixed", &root, &["/bin/sleep", "1000"], "");
    daemon.define("t-fixed", &xml.replace("<os>", &fixed("t-aa-custom")))?;
    let error = daemon.virsh(&["start", "t-fixed"])?.fails()?;
    let expected = "cannot use the AppArmor profile 't-aa-custom': no such profile is loaded";
    ensure!(error.contains(expected), "{error}");
    load("profile t-aa-custom flags=(attach_disconnected, complain) { file, capability, }\n")?;
    let started = daemon.ok(&["start", "t-fixed"]);
    let shown = started.and_then(|_| {
        ensure_eq!(
            label_of(daemon.pid_of("t-fixed", "initPid")?),
            "t-aa-custom (complain)",
            "the label of a custom profile"
        );
        let info = daemon.ok(&["dominfo", "t-fixed"])?;
        ensure!(info.contains("Security label: t-aa-custom (permissive)\n"), "{info}");
        daemon.ok(&["destroy", "t-fixed"])?;
        ensure!(loaded("t-aa-custom"), "somebody else's profile was removed");
        Ok(())
    });
    unload("t-aa-custom");
    shown?;
    let none = "<seclabel type='none' model='apparmor'/>\n  <os>".to_owned();
    for (name, os) in [("t-none", none), ("t-free", host_ids("unconfined"))] {
        ensure_eq!(sleeper(&daemon, name, &os)?, "unconfined", "{os}");
        ensure_eq!(label_of(daemon.pid_of(name, "initPid")?), "unconfined", "{os}");
        daemon.ok(&["destroy", name])?;
    }
    Ok(())
}

fn kills() -> Outcome {
    let mut daemon = Daemon::start()?;
    let name = sleeper(&daemon, "t-die", "<os>")?;
    let kill = |pid: i32| {
        let pid = nix::unistd::Pid::from_raw(pid);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).map_err(|e| format!("kill: {e}"))
    };
    kill(daemon.pid_of("t-die", "id")?)?;
    daemon.wait_state("t-die", "shut off (crashed)", 10)?;
    ensure!(!loaded(&name), "'{name}' is loaded after its controller was killed");
    daemon.ok(&["start", "t-die"])?;
    daemon.kill();
    daemon.launch()?;
    ensure!(loaded(&name), "'{name}' went with the daemon");
    ensure_eq!(label(&daemon, "t-die")?, name, "after another daemon");
    let (controller, init) = (daemon.pid_of("t-die", "id")?, daemon.pid_of("t-die", "initPid")?);
    daemon.kill();
    kill(controller)?;
    // Nobody is there to end it but the kernel.
    wait_for("the end of init", 10, || (!berth_tests::host::alive(init)).then_some(()))?;
    daemon.launch()?;
    ensure!(!loaded(&name), "'{name}' is loaded after both were killed");
    // One that no record tells of, and one of another daemon.
    let theirs = "berth-3f0c6b0e-7d1d-4c5b-9a53-0d5a1f6e2c11";
    let ours = format!("{}3f0c6b0e-7d1d-4c5b-9a53-0d5a1f6e2c11", &name[..name.len() - 36]);
    for profile in [theirs, &ours] {
        load(&format!("profile {profile} {{ file, }}\n"))?;
    }
    daemon.restart()?;
    let (ours_left, theirs_left) = (loaded(&ours), loaded(theirs));
    unload(theirs);
    ensure!(!ours_left, "'{ours}' was not swept");
    ensure!(theirs_left, "'{theirs}' is another daemon's, and was removed");
    Ok(())
}

/// Loads the profiles that are installed, for all daemons of this run; [`confined`] says whether to.
pub fn load_installed() -> Outcome {
    for text in [
        include_str!("../../apparmor/profiles/berthd"),
        include_str!("../../apparmor/profiles/berth-controller"),
    ] {
        load(text)?;
    }
    Ok(())
}

/// The daemon and its controllers under the profiles that are installed.
fn installed(test: fn() -> Outcome) -> Outcome {
    if confined() {
        return test();
    }
    // These profiles are one for all of the host.
    static ONE: Mutex<()> = Mutex::new(());
    let _guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    load_installed()?;
    let tried = test();
    for name in ["berthd//parser", "berthd//dnsmasq", "berthd", "berth-controller"] {
        unload(name);
    }
    tried
}

fn programs() -> Outcome {
    let daemon = Daemon::start_confined()?;
    ensure_eq!(label_of(daemon.pid()), "berthd (enforce)", "the daemon's label");
    for (name, os) in
        [("t-conf", "<os>".to_owned()), ("t-app", settings("<b:seccomp profile='application'/>"))]
    {
        let profile = sleeper(&daemon, name, &os)?;
        ensure_eq!(
            label_of(daemon.pid_of(name, "id")?),
            "berth-controller (enforce)",
            "the controller's label"
        );
        ensure_eq!(
            label_of(daemon.pid_of(name, "initPid")?),
            format!("{profile} (enforce)"),
            "init's label under a confined controller"
        );
        daemon.ok(&["destroy", name])?;
        ensure!(!loaded(&profile), "'{profile}' is still loaded");
    }
    Ok(())
}

/// Runs a program of the host, which must succeed.
fn host(line: &str) -> Outcome {
    run(line).map(drop)
}

/// qemu-nbd is the controller's child: it reads what others wrote, and has a profile of its own.
fn formats() -> Outcome {
    if !Path::new("/sys/block/nbd0").exists() {
        host("modprobe nbd").map_err(|e| format!("the kernel has no '/dev/nbd0': {e}"))?;
    }
    let daemon = Daemon::start_confined()?;
    let work = daemon.work().display().to_string();
    let root = daemon.busybox("t-qcow")?;
    for folder in ["tree", "disks"] {
        fs::create_dir(daemon.work().join(folder)).map_err(|e| e.to_string())?;
    }
    fs::write(daemon.work().join("tree/hello"), "hello\n").map_err(|e| e.to_string())?;
    fs::File::create(format!("{work}/raw")).and_then(|f| f.set_len(16 << 20)).map_err(|e| e.to_string())?;
    host(&format!("mke2fs -q -t ext4 -d {work}/tree {work}/raw"))?;
    host(&format!("qemu-img convert -O qcow2 {work}/raw {work}/disks/base.qcow2"))?;
    host(&format!("qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 {work}/disks/top.qcow2"))?;
    let image = format!(
        "<filesystem type='file'><driver type='nbd' format='qcow2'/><source file='{work}/disks/top.qcow2'/>\
         <target dir='/mnt'/></filesystem>"
    );
    let script = "cat /mnt/* > /tmp/out; echo again > /mnt/new; sync; echo >> /tmp/done; exec sleep 1000";
    let xml = domain_xml("t-qcow", &root, &["/bin/sh", "-c", script], &image);
    daemon.define("t-qcow", &xml)?;
    let ended = || (!Path::new("/sys/block/nbd0/pid").exists()).then_some(());
    for expected in ["hello\n", "hello\nagain\n"] {
        daemon.ok(&["start", "t-qcow"]).map_err(|e| {
            let log = fs::read_to_string(daemon.root().join("var/log/berth/t-qcow.log"));
            format!("{e}\nlog: {}", log.unwrap_or_default())
        })?;
        wait_for("what is in the image", 10, || root.join("tmp/done").exists().then_some(()))?;
        let controller = daemon.pid_of("t-qcow", "id")?;
        let children = fs::read_to_string(format!("/proc/{controller}/task/{controller}/children"));
        let labels: Vec<String> = children
            .map_err(|e| e.to_string())?
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .map(label_of)
            .collect();
        ensure!(labels.iter().any(|l| l == "berth-controller//nbd (enforce)"), "labels: {labels:?}");
        daemon.ok(&["destroy", "t-qcow"])?;
        ensure_eq!(fs::read_to_string(root.join("tmp/out")).unwrap_or_default(), expected, "what was read");
        fs::remove_file(root.join("tmp/done")).map_err(|e| e.to_string())?;
        wait_for("the end of qemu-nbd", 10, ended)?;
    }
    // With its controller, whatever becomes of that.
    daemon.ok(&["start", "t-qcow"])?;
    ensure!(ended().is_none(), "qemu-nbd does not serve");
    let controller = nix::unistd::Pid::from_raw(daemon.pid_of("t-qcow", "id")?);
    nix::sys::signal::kill(controller, nix::sys::signal::Signal::SIGKILL).map_err(|e| e.to_string())?;
    wait_for("the end of qemu-nbd after that of its controller", 10, ended)
}

/// Programs of the host that the daemon runs, and what it listens on. Networks have tests of their own.
fn tools() -> Outcome {
    let mut daemon = Daemon::start_confined()?;
    let asked = daemon.work().join("asked");
    let _tool = Tool::new("ovs-vsctl", &format!("#!/bin/sh\necho \"$@\" >> {}\n", asked.display()))?;
    daemon.set_environment(&[("PATH", &Tool::path())]);
    daemon.set_arguments(&["--metrics", "127.0.0.1:9177"]);
    daemon.restart()?;
    let root = daemon.busybox("t-tool")?;
    let port =
        "<interface type='bridge'><source bridge='ovs0'/><virtualport type='openvswitch'/></interface>";
    daemon.define("t-tool", &domain_xml("t-tool", &root, &["/bin/sleep", "1000"], port))?;
    daemon.ok(&["start", "t-tool"])?;
    let told = fs::read_to_string(&asked).map_err(|e| format!("the switch was told nothing: {e}"))?;
    ensure!(told.contains("add-port ovs0 vnet0"), "the switch was told {told}");
    let mut stream = std::net::TcpStream::connect("127.0.0.1:9177").map_err(|e| e.to_string())?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").map_err(|e| e.to_string())?;
    let mut page = String::new();
    stream.read_to_string(&mut page).map_err(|e| e.to_string())?;
    ensure!(page.contains("libvirt_domains 1"), "the page: {page}");
    daemon.ok(&["destroy", "t-tool"]).map(drop)
}
