//! Devices that come and go while a container runs: what is there inside, what cannot be undone inside, hostile roots,
//! and what is left afterwards.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use berth_tests::daemon::{Daemon, domain_xml};
use berth_tests::host::Traces;
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, wait_for};

pub const TESTS: &[Test] = &[
    ("hotplug::a_folder_comes_and_goes", folder),
    ("hotplug::namespaces_inside_see_it_too", inner),
    ("hotplug::readonly_is_locked_inside", readonly),
    ("hotplug::without_ids_of_its_own", unmapped),
    ("hotplug::files_memory_and_binds", kinds),
    ("hotplug::updates_take_the_place_or_change_nothing", updates),
    ("hotplug::in_use_and_covered_are_refused", busy),
    ("hotplug::hostile_targets_stay_inside", hostile),
    ("hotplug::disks_and_host_devices", devices),
    ("hotplug::images_are_mounted", images),
    ("hotplug::interfaces_come_and_go_back", interfaces),
    ("hotplug::over_daemon_restarts_and_reboots", restarts),
    ("hotplug::a_killed_daemon_finds_what_was_done", killed),
    ("hotplug::many_and_while_init_is_stopped", consoles),
    ("hotplug::a_child_that_hangs_is_given_up", hung),
];

/// A container whose init runs what is written to the fifo /cmd, one script after the other, and answers in /out.
struct Guest {
    name: &'static str,
    root: PathBuf,
    data: tempfile::TempDir,
}

const INIT: &str = "rm -f /cmd; mkfifo /cmd; echo up > /up; while :; do
    if read n < /cmd; then sh /script.$n > /out.new 2>&1; mv /out.new /out.$n; fi; done";

const NO_IDS: &str = "<metadata><berth:settings xmlns:berth='urn:berth:domain:1'><berth:idmap mode='none'/></berth:settings></metadata>";

impl Guest {
    fn start(daemon: &Daemon, name: &'static str, change: impl Fn(String) -> String) -> Result<Self, String> {
        let root = daemon.busybox(name)?;
        daemon.define(name, &change(domain_xml(name, &root, &["/bin/sh", "-c", INIT], "")))?;
        // Not in the folder of the daemon, where everything that is new counts as left behind.
        let data = tempfile::tempdir().map_err(|e| e.to_string())?;
        daemon.ok(&["start", name])?;
        let guest = Self { name, root, data };
        guest.wait_up()?;
        Ok(guest)
    }

    fn wait_up(&self) -> Outcome {
        let up = self.root.join("up");
        wait_for("the init", 10, || up.exists().then_some(()))?;
        fs::remove_file(up).map_err(|e| e.to_string())
    }

    /// Has a script run inside; answers where its output will be.
    fn send(&self, script: &str) -> Result<PathBuf, String> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        fs::write(self.root.join(format!("script.{n}")), script).map_err(|e| e.to_string())?;
        // Without a reader it is an error: the init is still busy, or not there yet.
        let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
        let mut fifo = wait_for("the fifo", 10, || {
            fs::OpenOptions::new().write(true).custom_flags(flags).open(self.root.join("cmd")).ok()
        })?;
        writeln!(fifo, "{n}").map_err(|e| e.to_string())?;
        Ok(self.root.join(format!("out.{n}")))
    }

    /// What a script prints inside.
    fn run(&self, script: &str) -> Result<String, String> {
        let out = self.send(script)?;
        wait_for("the script", 10, || fs::read_to_string(&out).ok())
    }

    fn folder(&self, name: &str) -> Result<PathBuf, String> {
        let path = self.data.path().join(name);
        fs::create_dir_all(&path).map_err(|e| e.to_string())?;
        fs::write(path.join("name"), format!("{name}\n")).map_err(|e| e.to_string())?;
        Ok(path)
    }

    /// Runs `attach-device` or one of its like with an element.
    fn plug(
        &self,
        daemon: &Daemon,
        command: &str,
        xml: &str,
        options: &[&str],
    ) -> Result<berth_tests::daemon::Printed, String> {
        let file = self.data.path().join("device.xml");
        fs::write(&file, xml).map_err(|e| e.to_string())?;
        let file = file.to_string_lossy().into_owned();
        let words: Vec<&str> =
            [command, self.name, &*file].into_iter().chain(options.iter().copied()).collect();
        daemon.virsh(&words)
    }
}

fn mount(source: &Path, target: &str, rest: &str) -> String {
    format!(
        "<filesystem type='mount'><source dir='{}'/><target dir='{target}'/>{rest}</filesystem>",
        source.display()
    )
}

fn folder() -> Outcome {
    let daemon = Daemon::start()?;
    let guest = Guest::start(&daemon, "t-comes", |xml| xml)?;
    let data = guest.folder("data")?;
    let xml = mount(&data, "/mnt/deep/data", "");
    let before = Traces::of("t-comes", &daemon.root());
    let said = guest.plug(&daemon, "attach-device", &xml, &["--live"])?.ok()?;
    ensure_eq!(said, "Device attached successfully\n\n", "what attach-device says");
    ensure_eq!(
        guest.run(
            "cat /mnt/deep/data/name; stat -c %u /mnt/deep/data/name; touch /mnt/deep/data/made && echo made"
        )?,
        "data\n0\nmade\n",
        "the folder inside"
    );
    ensure!(data.join("made").exists(), "what was made inside is not outside");
    ensure!(daemon.ok(&["dumpxml", "t-comes"])?.contains("/mnt/deep/data"), "it is not in the live document");
    ensure!(
        !daemon.ok(&["dumpxml", "t-comes", "--inactive"])?.contains("/mnt/deep/data"),
        "it is in the definition"
    );
    let again = guest.plug(&daemon, "attach-device", &xml, &["--live"])?.fails()?;
    ensure!(
        again.ends_with("error: Requested operation is not valid: target /mnt/deep/data already exists\n\n")
            || again
                .ends_with("error: Requested operation is not valid: target /mnt/deep/data already exists\n"),
        "{again}"
    );
    let said = guest.plug(&daemon, "detach-device", &xml, &["--live"])?.ok()?;
    ensure_eq!(said, "Device detached successfully\n\n", "what detach-device says");
    ensure_eq!(
        guest.run("ls /mnt 2>&1; grep -c deep /proc/self/mountinfo")?,
        "ls: /mnt: No such file or directory\n0\n",
        "what is left inside"
    );
    ensure!(!guest.root.join("mnt").exists(), "the mount point is left in the root");
    let mut left = Traces::of("t-comes", &daemon.root()).difference(&before);
    // Other tests make interfaces meanwhile.
    left.retain(|trace| !trace.contains(": link "));
    ensure!(left.is_empty(), "traces on the host: {left:?}");
    guest.plug(&daemon, "attach-device", &xml, &["--live"])?.ok()?;
    daemon.ok(&["destroy", "t-comes"])?;
    ensure!(!guest.root.join("mnt").exists(), "the mount point is left after the end");
    Ok(())
}

/// What services of systemd live in: a mount namespace that hears of the container's own.
fn inner() -> Outcome {
    let daemon = Daemon::start()?;
    for (name, change) in [("t-inner", ""), ("t-innerh", NO_IDS)] {
        let guest =
            Guest::start(&daemon, name, |xml| xml.replace("</domain>", &format!("{change}</domain>")))?;
        let source = guest.folder("web")?;
        guest.run("(unshare -m --propagation slave sh -c 'while :; do cat /srv/web/name > /seen; sleep 0.1; done' 2> /dev/null) &")?;
        let seen = || fs::read_to_string(guest.root.join("seen")).unwrap_or_default();
        guest.plug(&daemon, "attach-device", &mount(&source, "/srv/web", ""), &[])?.ok()?;
        wait_for("the mount in another namespace", 10, || (seen() == "web\n").then_some(()))?;
        // It is not held there, but for the moments in which it is read.
        let detach =
            || guest.plug(&daemon, "detach-device", &mount(&source, "/srv/web", ""), &[]).ok()?.ok().ok();
        wait_for("the detachment", 10, detach)?;
        wait_for("its end there", 10, || seen().is_empty().then_some(()))?;
        daemon.ok(&["destroy", name])?;
    }
    Ok(())
}

fn readonly() -> Outcome {
    let daemon = Daemon::start()?;
    let guest = Guest::start(&daemon, "t-hotro", |xml| xml)?;
    let data = guest.folder("data")?;
    fs::create_dir(data.join("sub")).map_err(|e| e.to_string())?;
    guest.plug(&daemon, "attach-device", &mount(&data, "/ro", "<readonly/>"), &["--live"])?.ok()?;
    let ram = "<filesystem type='ram'><source usage='1024'/><target dir='/ram'/></filesystem>";
    guest.plug(&daemon, "attach-device", ram, &["--live"])?.ok()?;
    let text = guest.run(
        "cat /ro/name; touch /ro/x && echo WROTE
        mount -o remount,bind,rw /ro && echo RW; mount -o remount,rw /ro && echo RW; touch /ro/x && echo WROTE
        mkdir -p /own && mount -o bind /ro /own && mount -o remount,bind,rw /own && echo RW; touch /own/x && echo WROTE; umount /own
        unshare -m sh -c 'mount -o remount,bind,rw /ro && echo RW; touch /ro/x && echo WROTE'
        mount -o remount,bind,suid /ram && echo SUID; mount -o remount,bind,dev /ram && echo DEV
        touch /ram/x && echo written; stat -c '%u:%g %a' /ram; grep ' /ram ' /proc/self/mountinfo",
    )?;
    ensure!(text.starts_with("data\n"), "the folder is not there: {text}");
    for word in ["WROTE", "RW", "SUID", "DEV"] {
        ensure!(!text.lines().any(|l| l == word), "'{word}' in {text}");
    }
    ensure!(text.contains("written\n0:0 755\n"), "the memory cannot be used: {text}");
    ensure!(text.contains("nosuid,nodev"), "flags of the memory: {text}");
    daemon.ok(&["destroy", "t-hotro"]).map(drop)
}

fn unmapped() -> Outcome {
    let daemon = Daemon::start()?;
    let with_host_ids = |xml: String| xml.replace("<memory", &format!("{NO_IDS}<memory"));
    let guest = Guest::start(&daemon, "t-hothost", with_host_ids)?;
    let data = guest.folder("data")?;
    guest.plug(&daemon, "attach-device", &mount(&data, "/data", "<readonly/>"), &["--live"])?.ok()?;
    ensure_eq!(
        guest.run("cat /data/name; touch /data/x 2>/dev/null || echo refused")?,
        "data\nrefused\n",
        "inside"
    );
    guest.plug(&daemon, "update-device", &mount(&data, "/data", ""), &["--live"])?.ok()?;
    ensure_eq!(guest.run("touch /data/x && echo written")?, "written\n", "after the update");
    guest.plug(&daemon, "detach-device", &mount(&data, "/data", ""), &["--live"])?.ok()?;
    ensure!(!guest.root.join("data").exists(), "the mount point is left");
    daemon.ok(&["destroy", "t-hothost"]).map(drop)
}

fn kinds() -> Outcome {
    let daemon = Daemon::start()?;
    let guest = Guest::start(&daemon, "t-hotkind", |xml| xml)?;
    let data = guest.folder("data")?;
    // A file on a file, which is there, and on one that is not.
    let file = data.join("name");
    for target in ["/etc/group", "/etc/new"] {
        guest.plug(&daemon, "attach-device", &mount(&file, target, ""), &["--live"])?.ok()?;
        ensure_eq!(guest.run(&format!("cat {target}"))?, "data\n", "a file on {target}");
    }
    let wrong =
        guest.plug(&daemon, "attach-device", &mount(&data, "/etc/passwd", ""), &["--live"])?.fails()?;
    ensure!(wrong.contains("the source is a directory, and the target is not"), "{wrong}");
    let missing =
        guest.plug(&daemon, "attach-device", &mount(&data.join("no"), "/x", ""), &["--live"])?.fails()?;
    ensure!(missing.contains("No such file or directory"), "{missing}");
    ensure!(!guest.root.join("x").exists(), "a mount point was left by a failure");
    for target in ["/etc/group", "/etc/new"] {
        guest.plug(&daemon, "detach-device", &mount(&file, target, ""), &["--live"])?.ok()?;
    }
    ensure!(
        guest.root.join("etc/group").exists() && !guest.root.join("etc/new").exists(),
        "mount points of files"
    );
    guest.run("mkdir /inner; echo inner > /inner/name")?;
    let bind = "<filesystem type='bind'><source dir='/inner'/><target dir='/outer'/><readonly/></filesystem>";
    guest.plug(&daemon, "attach-device", bind, &["--live"])?.ok()?;
    ensure_eq!(
        guest.run("cat /outer/name; touch /outer/x 2>/dev/null || echo refused")?,
        "inner\nrefused\n",
        "a bind"
    );
    guest.plug(&daemon, "detach-device", bind, &["--live"])?.ok()?;
    daemon.ok(&["destroy", "t-hotkind"]).map(drop)
}

fn updates() -> Outcome {
    let daemon = Daemon::start()?;
    let guest = Guest::start(&daemon, "t-hotup", |xml| xml)?;
    let (one, two) = (guest.folder("one")?, guest.folder("two")?);
    guest.plug(&daemon, "attach-device", &mount(&one, "/data", ""), &["--live", "--config"])?.ok()?;
    let said = guest
        .plug(&daemon, "update-device", &mount(&two, "/data", "<readonly/>"), &["--persistent"])?
        .ok()?;
    ensure_eq!(said, "Device updated successfully\n\n", "what update-device says");
    ensure_eq!(
        guest.run("cat /data/name; touch /data/x 2>/dev/null || echo refused")?,
        "two\nrefused\n",
        "updated"
    );
    ensure!(
        daemon.ok(&["dumpxml", "t-hotup", "--inactive"])?.contains("/two'"),
        "the definition was not updated"
    );
    let gone = mount(&guest.data.path().join("gone"), "/data", "");
    guest.plug(&daemon, "update-device", &gone, &["--persistent"])?.fails()?;
    guest
        .plug(&daemon, "update-device", &mount(&one.join("name"), "/data", ""), &["--persistent"])?
        .fails()?;
    ensure_eq!(
        guest.run("cat /data/name; grep -c ' /data ' /proc/self/mountinfo")?,
        "two\n1\n",
        "after failures"
    );
    ensure!(daemon.ok(&["dumpxml", "t-hotup"])?.contains("/two'"), "the live document after failures");
    guest.plug(&daemon, "detach-device", &mount(&two, "/data", ""), &["--persistent"])?.ok()?;
    ensure_eq!(guest.run("grep -c ' /data ' /proc/self/mountinfo")?, "0\n", "mounts after the detach");
    daemon.ok(&["destroy", "t-hotup"]).map(drop)
}

fn busy() -> Outcome {
    let daemon = Daemon::start()?;
    let guest = Guest::start(&daemon, "t-hotbusy", |xml| xml)?;
    let data = guest.folder("data")?;
    let xml = mount(&data, "/data", "");
    guest.plug(&daemon, "attach-device", &xml, &["--live"])?.ok()?;
    guest.run("exec 5< /data/name; sleep 1000 & echo $! > /pid")?;
    let refused = guest.plug(&daemon, "detach-device", &xml, &["--live"])?.fails()?;
    ensure!(refused.contains("in use"), "{refused}");
    ensure!(daemon.ok(&["dumpxml", "t-hotbusy"])?.contains("/data"), "the live document lost it");
    guest.run("kill $(cat /pid); mkdir /cover; mount -o bind /cover /data")?;
    let refused = guest.plug(&daemon, "detach-device", &xml, &["--live"])?.fails()?;
    ensure!(refused.contains("something else is mounted over it"), "{refused}");
    guest.run("umount /data")?;
    guest.plug(&daemon, "detach-device", &xml, &["--live"])?.ok()?;
    // What the container takes off by itself is gone, and the detach says so.
    guest.plug(&daemon, "attach-device", &xml, &["--live"])?.ok()?;
    guest.run("umount /data")?;
    let refused = guest.plug(&daemon, "detach-device", &xml, &["--live"])?.fails()?;
    ensure!(refused.contains("nothing is mounted there any more"), "{refused}");
    daemon.ok(&["destroy", "t-hotbusy"]).map(drop)
}

fn hostile() -> Outcome {
    let daemon = Daemon::start()?;
    let guest = Guest::start(&daemon, "t-hotevil", |xml| xml)?;
    let data = guest.folder("data")?;
    let outside = guest.folder("outside")?;
    let evil = |name: &str| guest.root.join(name);
    symlink(&outside, evil("absolute")).map_err(|e| e.to_string())?;
    symlink("../../../../../../..".to_owned() + &outside.display().to_string(), evil("relative"))
        .map_err(|e| e.to_string())?;
    symlink("loop", evil("loop")).map_err(|e| e.to_string())?;
    symlink("/proc/1/root", evil("magic")).map_err(|e| e.to_string())?;
    nix::unistd::mkfifo(&evil("fifo"), nix::sys::stat::Mode::from_bits_truncate(0o666))
        .map_err(|e| e.to_string())?;
    // Inside, the links lead to a folder of the same name below the root.
    let below = |path: &Path| guest.root.join(path.strip_prefix("/").unwrap_or(path));
    fs::create_dir_all(below(&outside)).map_err(|e| e.to_string())?;
    symlink("/nowhere", evil("dangling")).map_err(|e| e.to_string())?;
    let begin = Instant::now();
    for (target, fails) in [
        ("/dangling", true),
        ("/loop", true),
        ("/fifo", true),
        ("/magic/x", true),
        ("/absolute/in", false),
        ("/relative/in", false),
    ] {
        let printed = guest.plug(&daemon, "attach-device", &mount(&data, target, ""), &["--live"])?;
        ensure_eq!(printed.status != 0, fails, "{target}: {printed:?}");
    }
    ensure!(begin.elapsed().as_secs() < 5, "a hostile target held it up for {:?}", begin.elapsed());
    ensure!(!outside.join("in").exists(), "a mount point was made outside");
    let host = fs::read_to_string("/proc/self/mountinfo").map_err(|e| e.to_string())?;
    ensure!(!host.contains(&*guest.data.path().to_string_lossy()), "a mount is on the host: {host}");
    // Both are in one place: the last one is on top.
    for target in ["/relative/in", "/absolute/in"] {
        guest.plug(&daemon, "detach-device", &mount(&data, target, ""), &["--live"])?.ok()?;
    }
    // One that swaps folders all the time gets errors or mounts, and nothing else.
    guest.run("mkdir -p /a /b; (while :; do mv /a /c; ln -s / /a; rm /a; mv /c /a; done) 2>/dev/null & echo $! > /pid")?;
    for _ in 0..20 {
        let xml = mount(&data, "/a/target", "");
        if guest.plug(&daemon, "attach-device", &xml, &["--live"])?.status == 0 {
            wait_for("a detach", 10, || {
                guest
                    .plug(&daemon, "detach-device", &xml, &["--live"])
                    .ok()
                    .filter(|p| p.status == 0 || p.err.contains("any more"))
            })?;
        }
        if daemon.ok(&["dumpxml", "t-hotevil"])?.contains("/a/target") {
            break;
        }
    }
    guest.run("kill $(cat /pid)")?;
    ensure!(!outside.join("target").exists() && !Path::new("/target").exists(), "something was made outside");
    daemon.ok(&["destroy", "t-hotevil"]).map(drop)
}

fn image(guest: &Guest, name: &str) -> Result<PathBuf, String> {
    let path = guest.data.path().join(name);
    let file = fs::File::create(&path).map_err(|e| e.to_string())?;
    file.set_len(4 << 20).map_err(|e| e.to_string())?;
    Ok(path)
}

fn loops() -> Vec<String> {
    let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let backed = entries.filter_map(|e| fs::read_to_string(e.path().join("loop/backing_file")).ok());
    backed.collect()
}

fn devices() -> Outcome {
    let daemon = Daemon::start()?;
    let guest = Guest::start(&daemon, "t-hotdev", |xml| xml)?;
    let disk = image(&guest, "disk.img")?;
    fs::write(&disk, format!("{:<1024}", "written outside").repeat(4096)).map_err(|e| e.to_string())?;
    let path = disk.display().to_string();
    let said = daemon.ok(&["attach-disk", "t-hotdev", &path, "vda", "--live"])?;
    ensure_eq!(said, "Disk attached successfully\n\n", "what attach-disk says");
    ensure_eq!(guest.run("head -c 15 /dev/vda; echo; stat -c %F /dev/vda; echo inside | dd of=/dev/vda conv=notrunc 2>/dev/null && sync && echo written")?, "written outside\nblock special file\nwritten\n", "the disk inside");
    let list = daemon.ok(&["domblklist", "t-hotdev", "--details"])?;
    ensure!(list.contains(&format!(" file   disk     vda      {path}\n")), "{list}");
    let read =
        "<disk type='file'><source file='PATH'/><target dev='vda'/><readonly/></disk>".replace("PATH", &path);
    guest.plug(&daemon, "update-device", &read, &["--live"])?.ok()?;
    ensure_eq!(guest.run("dd if=/dev/vda of=/dev/null bs=512 count=1 2>/dev/null && echo read; dd if=/dev/zero of=/dev/vda bs=512 count=1 2>/dev/null || echo refused")?, "read\nrefused\n", "the disk after it was made read-only");
    // A node that was made by hand opens nothing.
    ensure_eq!(
        guest.run("mknod /dev/mine b 7 0 2>/dev/null || echo refused")?,
        "refused\n",
        "a node made by hand"
    );
    let said = daemon.ok(&["detach-disk", "t-hotdev", "vda", "--live"])?;
    ensure_eq!(said, "Disk detached successfully\n\n", "what detach-disk says");
    ensure_eq!(
        guest.run("ls /dev/vda 2>&1")?,
        "ls: /dev/vda: No such file or directory\n",
        "the node after the detach"
    );
    wait_for("the end of the loop device", 5, || {
        (!loops().iter().any(|l| l.contains("disk.img"))).then_some(())
    })?;
    let none = daemon.virsh(&["detach-disk", "t-hotdev", "vda", "--live"])?.fails()?;
    ensure!(none.starts_with("error: No disk found whose source path or target is vda\n"), "{none}");
    let full =
        "<hostdev mode='capabilities' type='misc'><source><char>/dev/net/tun</char></source></hostdev>";
    if Path::new("/dev/net/tun").exists() {
        guest.plug(&daemon, "attach-device", full, &["--live"])?.ok()?;
        ensure_eq!(
            guest.run("stat -c '%F %t:%T' /dev/net/tun; : 3<>/dev/net/tun && echo opened")?,
            "character special file a:c8\nopened\n",
            "the host device inside"
        );
        let again = guest.plug(&daemon, "attach-device", full, &["--live"])?.fails()?;
        ensure!(again.contains("device is already in the domain configuration"), "{again}");
        guest.plug(&daemon, "detach-device", full, &["--live"])?.ok()?;
        ensure_eq!(
            guest.run("ls -d /dev/net 2>&1")?,
            "ls: /dev/net: No such file or directory\n",
            "after the detach"
        );
    }
    daemon.ok(&["attach-disk", "t-hotdev", &path, "vda", "--live"])?;
    daemon.ok(&["destroy", "t-hotdev"])?;
    wait_for("the end of the loop device", 5, || {
        (!loops().iter().any(|l| l.contains("disk.img"))).then_some(())
    })
}

fn images() -> Outcome {
    let daemon = Daemon::start()?;
    let guest = Guest::start(&daemon, "t-hotimg", |xml| xml)?;
    let disk = image(&guest, "fs.img")?;
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-F"])
        .arg(&disk)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    ensure!(made.is_ok_and(|s| s.success()), "mkfs.ext4 is needed");
    let xml = format!(
        "<filesystem type='file'><driver type='loop' format='raw'/><source file='{}'/><target dir='/img'/></filesystem>",
        disk.display()
    );
    guest.plug(&daemon, "attach-device", &xml, &["--live"])?.ok()?;
    ensure_eq!(
        guest.run("ls -d /img/lost+found; stat -c %u /img; touch /img/x && echo written")?,
        "/img/lost+found\n0\nwritten\n",
        "the image inside"
    );
    guest.plug(&daemon, "detach-device", &xml, &["--live"])?.ok()?;
    wait_for("the end of the loop device", 5, || {
        (!loops().iter().any(|l| l.contains("fs.img"))).then_some(())
    })?;
    daemon.ok(&["destroy", "t-hotimg"]).map(drop)
}

fn restarts() -> Outcome {
    let mut daemon = Daemon::start()?;
    let guest = Guest::start(&daemon, "t-hotre", |xml| xml)?;
    let data = guest.folder("data")?;
    let xml = mount(&data, "/data", "");
    guest.plug(&daemon, "attach-device", &xml, &["--live"])?.ok()?;
    daemon.restart()?;
    ensure!(daemon.ok(&["dumpxml", "t-hotre"])?.contains("/data"), "the next daemon does not know it");
    guest.plug(&daemon, "detach-device", &xml, &["--live"])?.ok()?;
    guest.plug(&daemon, "attach-device", &xml, &["--live"])?.ok()?;
    let disk = image(&guest, "disk.img")?;
    daemon.ok(&["attach-disk", "t-hotre", &disk.display().to_string(), "vda", "--live"])?;
    let init = daemon.pid_of("t-hotre", "initPid")?;
    guest.send("reboot -f")?;
    wait_for("the reboot", 20, || daemon.pid_of("t-hotre", "initPid").ok().filter(|p| *p != init))?;
    guest.wait_up()?;
    ensure_eq!(
        guest.run("cat /data/name; stat -c %F /dev/vda")?,
        "data\nblock special file\n",
        "after the reboot"
    );
    daemon.ok(&["detach-disk", "t-hotre", "vda", "--live"])?;
    daemon.ok(&["destroy", "t-hotre"])?;
    daemon.ok(&["start", "t-hotre"])?;
    guest.wait_up()?;
    ensure_eq!(guest.run("ls -d /data /dev/vda 2>/dev/null; echo end")?, "end\n", "after the next start");
    daemon.ok(&["destroy", "t-hotre"]).map(drop)
}

fn killed() -> Outcome {
    for (point, there) in [("daemon:plugging", false), ("daemon:plugged", true)] {
        let mut daemon = Daemon::start()?;
        let guest = Guest::start(&daemon, "t-hotkill", |xml| xml)?;
        let data = guest.folder("data")?;
        let xml = mount(&data, "/data", "");
        daemon.kill();
        daemon.set_environment(&[("BERTH_KILL_AT", point)]);
        daemon.launch()?;
        guest.plug(&daemon, "attach-device", &xml, &["--persistent"])?.fails()?;
        daemon.wait_dead(10)?;
        daemon.set_environment(&[]);
        daemon.launch()?;
        let inside = guest.run("cat /data/name 2>/dev/null || echo none")?;
        ensure_eq!(inside, if there { "data\n" } else { "none\n" }, "inside, killed at {point}");
        for document in [&["dumpxml", "t-hotkill"][..], &["dumpxml", "t-hotkill", "--inactive"]] {
            ensure_eq!(daemon.ok(document)?.contains("/data'"), there, "{document:?}, killed at {point}");
        }
        daemon.ok(&["destroy", "t-hotkill"])?;
    }
    Ok(())
}

/// Many come one after the other, and also while nobody inside can do anything.
fn consoles() -> Outcome {
    let daemon = Daemon::start()?;
    let guest = Guest::start(&daemon, "t-hotcons", |xml| xml)?;
    let data = guest.folder("data")?;
    for n in 0..10 {
        guest.plug(&daemon, "attach-device", &mount(&data, &format!("/d{n}"), ""), &["--live"])?.ok()?;
    }
    // Paused: nobody inside can help or hinder.
    let init = daemon.pid_of("t-hotcons", "initPid")?;
    let pid = nix::unistd::Pid::from_raw(init);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).map_err(|e| e.to_string())?;
    let begin = Instant::now();
    guest.plug(&daemon, "attach-device", &mount(&data, "/stopped", ""), &["--live"])?.ok()?;
    guest.plug(&daemon, "detach-device", &mount(&data, "/stopped", ""), &["--live"])?.ok()?;
    ensure!(begin.elapsed().as_secs() < 5, "it took {:?}", begin.elapsed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).map_err(|e| e.to_string())?;
    ensure_eq!(guest.run("ls -d /d? | wc -l")?.trim(), "10", "folders inside");
    daemon.ok(&["destroy", "t-hotcons"]).map(drop)
}

/// A file system of the container's own that never answers: the child that walks into it is given up, and nobody else
/// waits for it.
fn hung() -> Outcome {
    let daemon = Daemon::start()?;
    let guest = Guest::start(&daemon, "t-hothung", |xml| xml)?;
    let data = guest.folder("data")?;
    let fuse = "<hostdev mode='capabilities' type='misc'><source><char>/dev/fuse</char></source></hostdev>";
    guest.plug(&daemon, "attach-device", fuse, &["--live"])?.ok()?;
    let made = guest.run(
        "mkdir /hang; (exec 3<>/dev/fuse; mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 none /hang; sleep 1000 <&3) > /fuse.log 2>&1 &
        sleep 1; cat /fuse.log; grep -c ' /hang ' /proc/self/mountinfo",
    )?;
    ensure!(made.ends_with("1\n"), "the file system was not mounted inside: {made}");
    let xml = daemon.file("hung.xml", &mount(&data, "/hang/x", ""))?;
    let begin = Instant::now();
    let mut child = daemon
        .command()?
        .args(["attach-device", "t-hothung", &xml, "--live"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|e| e.to_string())?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    let asked = Instant::now();
    let size = serde_json::json!({ "name": "t-hothung", "columns": 80, "rows": 25 });
    daemon.client()?.call("io.berth.Domain.ResizeConsole", &size)?;
    ensure!(asked.elapsed().as_millis() < 500, "a console waited {:?}", asked.elapsed());
    ensure!(child.try_wait().map_err(|e| e.to_string())?.is_none(), "it did not hang");
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(said.contains("it took too long"), "{said}");
    ensure!((9..14).contains(&begin.elapsed().as_secs()), "it took {:?}", begin.elapsed());
    // And the end of the domain waits for no such child either.
    let mut child = daemon
        .command()?
        .args(["attach-device", "t-hothung", &xml, "--live"])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|e| e.to_string())?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    let asked = Instant::now();
    daemon.ok(&["destroy", "t-hothung"])?;
    ensure!(asked.elapsed().as_secs() < 3, "the end waited {:?}", asked.elapsed());
    ensure!(!child.wait().map_err(|e| e.to_string())?.success(), "it went well after the end");
    Ok(())
}

fn link(words: &[&str]) -> Outcome {
    let output = Command::new("ip").args(words).output().map_err(|e| format!("cannot run ip: {e}"))?;
    ensure!(output.status.success(), "ip {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn interfaces() -> Outcome {
    let daemon = Daemon::start()?;
    let guest = Guest::start(&daemon, "t-hotnet", |xml| xml)?;
    link(&["link", "add", "thot0", "type", "veth", "peer", "name", "thot1"])?;
    let xml = "<hostdev mode='capabilities' type='net'><source><interface>thot1</interface></source>\
        <ip address='192.0.2.7' family='ipv4' prefix='24'/></hostdev>";
    let here = || link(&["link", "show", "thot1"]).is_ok();
    let done = || -> Outcome {
        guest.plug(&daemon, "attach-device", xml, &["--live"])?.ok()?;
        ensure!(!here(), "the interface is still the host's");
        let text = guest.run("ip -o addr show dev thot1")?;
        ensure!(text.contains("192.0.2.7/24"), "the address inside: {text}");
        let other = xml.replace("192.0.2.7", "192.0.2.8");
        guest.plug(&daemon, "update-device", &other, &["--live"])?.ok()?;
        let text = guest.run("ip -o addr show dev thot1")?;
        ensure!(text.contains("192.0.2.8/24") && !text.contains("192.0.2.7"), "after the update: {text}");
        guest.plug(&daemon, "detach-device", xml, &["--live"])?.ok()?;
        ensure!(here(), "the host has not got it back");
        let missing = xml.replace("thot1", "thot9");
        let error = guest.plug(&daemon, "attach-device", &missing, &["--live"])?.fails()?;
        ensure!(error.contains("the host has no such interface"), "{error}");
        guest.plug(&daemon, "attach-device", xml, &["--live"])?.ok()?;
        daemon.ok(&["destroy", "t-hotnet"])?;
        ensure!(here(), "the host has not got it back at the end");
        Ok(())
    }();
    let _ = Command::new("ip").args(["link", "del", "thot0"]).stderr(Stdio::null()).status();
    done
}
