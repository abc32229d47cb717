//! Devices and images of real containers: what may be opened, what cannot, and that nothing is left of them.

mod support;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{World, run, skip};

/// Whether the test must be skipped because a program or a device is not there; says why.
fn lacks(programs: &[&str]) -> bool {
    let mut missing: Vec<&str> = programs.iter().copied().filter(|p| !installed(p)).collect();
    missing.extend((!Path::new("/dev/loop-control").exists()).then_some("/dev/loop-control"));
    if !missing.is_empty() {
        eprintln!("SKIPPED: {missing:?} is not there");
    }
    !missing.is_empty()
}

fn installed(program: &str) -> bool {
    ["/sbin", "/bin", "/usr/sbin", "/usr/bin"].iter().any(|f| Path::new(f).join(program).exists())
}

/// Runs a program of the host, which must succeed; answers what it printed.
fn host(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output().expect("run");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A file of so many MiB.
fn image(world: &World, name: &str, mib: u64) -> PathBuf {
    let path = world.dir.join(name);
    fs::File::create(&path).and_then(|f| f.set_len(mib << 20)).expect("image");
    path
}

/// The loop devices whose file is below a folder.
fn loops(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().expect("utf-8");
    let entries = fs::read_dir("/sys/block").expect("sysfs").flatten();
    let file = |name: &str| fs::read_to_string(format!("/sys/block/{name}/loop/backing_file")).ok();
    entries
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|name| file(name).is_some_and(|f| f.starts_with(folder)))
        .collect()
}

/// A loop device that the test has made; detached when it is dropped.
struct Loop(String);

impl Loop {
    fn of(file: &Path) -> Self {
        Self(host(&["losetup", "--find", "--show", file.to_str().expect("utf-8")]))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

fn device(name: &str, kind: &str, source: impl AsRef<Path>, backing: &str, readonly: bool) -> Value {
    json!({"name": name, "kind": kind, "source": source.as_ref(), "backing": backing, "readonly": readonly})
}

fn filesystem(source: &Path, backing: &str, target: &str, readonly: bool) -> Value {
    let image = json!({"backing": backing});
    json!({"kind": "image", "source": source, "image": image, "target": target, "readonly": readonly})
}

/// Waits until no loop device of the test is there any more.
fn no_loops(world: &World) {
    let end = Instant::now() + Duration::from_secs(5);
    while !loops(&world.dir).is_empty() {
        assert!(Instant::now() < end, "left: {:?}", loops(&world.dir));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn disks_and_devices_are_what_the_plan_says() {
    if skip() || lacks(&["losetup"]) {
        return;
    }
    let world = World::new();
    let (a, b, c) = (image(&world, "a", 1), image(&world, "b", 1), image(&world, "c", 1));
    fs::write(&b, vec![b'b'; 1 << 20]).expect("write");
    fs::write(&c, vec![b'c'; 1 << 20]).expect("write");
    let real = Loop::of(&c);
    let link = world.dir.join("link");
    std::os::unix::fs::symlink(&real.0, &link).expect("link");
    let mut plan = world.plan();
    plan["devices"] = json!([
        device("vda", "block", &a, "loop", false),
        device("vdb", "block", &b, "loop", true),
        device("mapper/vdc", "block", &link, "block", true),
        device("net/tun", "char", "/dev/full", "block", false),
    ]);
    world.script(
        "stat -c '%n %a %u:%g %F' /dev/vda /dev/vdb /dev/mapper /dev/mapper/vdc /dev/net/tun
        echo written | dd of=/dev/vda bs=512 conv=sync && echo vda-rw
        echo written | dd of=/dev/vdb bs=512 conv=sync || echo vdb-ro
        echo written | dd of=/dev/mapper/vdc bs=512 conv=sync || echo vdc-ro
        head -c 3 /dev/vdb; head -c 3 /dev/mapper/vdc; echo
        echo x > /dev/net/tun || echo full
        head -c 4 /dev/urandom > /dev/null && echo x > /dev/tty && echo standard-ok",
    );
    let (output, _) = run(&world, &plan);
    for line in [
        "/dev/vda 660 0:0 block special file",
        "/dev/mapper 755 0:0 directory",
        "block special file\r\n/dev/net/tun 666 0:0 character special file",
        "vda-rw",
        "vdb-ro",
        "vdc-ro",
        "'/dev/mapper/vdc': Operation not permitted",
        "bbbccc",
        "full",
        "standard-ok",
    ] {
        assert!(output.contains(line), "{line} is not in {output}");
    }
    assert!(fs::read(&a).expect("read").starts_with(b"written\n\0"));
    assert!(fs::read(&b).expect("read").starts_with(b"bbb"));
    assert!(fs::read(&c).expect("read").starts_with(b"ccc"));
    no_loops_but(&world, &real);
    world.check_clean();
}

/// The test's own loop device is all that is left.
fn no_loops_but(world: &World, own: &Loop) {
    let name = own.0.trim_start_matches("/dev/").to_owned();
    let end = Instant::now() + Duration::from_secs(5);
    while loops(&world.dir) != [name.clone()] {
        assert!(Instant::now() < end, "left: {:?}", loops(&world.dir));
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What a process can open that has joined only this control group: `group` has a file to join by.
fn opens(group: &Path, join: &str, node: &Path) -> (bool, String) {
    let script = format!("echo $$ > {}/{join} && exec head -c 1 {}", group.display(), node.display());
    let output = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).output().expect("run");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_node_made_by_hand_opens_nothing() {
    if skip() || lacks(&["losetup"]) {
        return;
    }
    let world = World::new();
    let (given, secret) = (image(&world, "given", 1), image(&world, "secret", 1));
    let other = Loop::of(&secret);
    let number = fs::metadata(&other.0).expect("stat").rdev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let mut plan = world.plan();
    plan["devices"] = json!([device("vda", "block", &given, "loop", false)]);
    plan["onReboot"] = json!("restart");
    world.script(&format!(
        "mknod=\"busybox mknod\"; rm() {{ busybox rm -f $*; }}; rm /tmp/disk /tmp/kmsg /tmp/zero
        $mknod /tmp/disk b {major} {minor} && $mknod /tmp/kmsg c 1 11 && $mknod /tmp/zero c 1 5 && echo made
        head -c 1 /tmp/disk || echo disk-refused
        head -c 1 /tmp/kmsg || echo kmsg-refused
        head -c 1 /tmp/zero > /dev/null && head -c 1 /dev/vda > /dev/null && echo zero-opened
        test -e /tmp/again || {{ touch /tmp/again; reboot -f; }}
        echo second; exec sleep 1000"
    ));
    let mut controller = world.controller();
    let reply = controller.launch(&plan);
    assert!(reply.get("error").is_none(), "{reply}");
    let (mut viewer, _) = controller.client.attach("shared");
    // Before and after the reboot.
    for _ in 0..2 {
        for word in ["made", "disk: Operation not permitted", "disk-refused"] {
            viewer.expect(word);
        }
        for word in ["kmsg: Operation not permitted", "kmsg-refused", "zero-opened"] {
            viewer.expect(word);
        }
    }
    viewer.expect("second");
    // Each way alone, from outside.
    let null = world.root.join("tmp/zero");
    let disk = world.root.join("tmp/disk");
    assert!(fs::metadata(&disk).expect("stat").file_type().is_block_device());
    let legacy = world.legacy.iter().find(|g| g.join("devices.list").exists());
    let ways = legacy.map(|g| (g.clone(), "tasks")).into_iter();
    let mut tried = 0;
    for (group, join) in ways.chain([(world.unified.join("payload"), "cgroup.procs")]) {
        let (opened, said) = opens(&group, join, &disk);
        assert!(!opened && said.contains("Operation not permitted"), "{}: {said}", group.display());
        let (opened, said) = opens(&group, join, &null);
        assert!(opened, "{}: {said}", group.display());
        tried += 1;
    }
    eprintln!("{tried} ways");
    if let Some(group) = legacy {
        let list = fs::read_to_string(group.join("devices.list")).expect("list");
        let vda = loops(&world.dir).len();
        assert_eq!(vda, 2, "the disk and the test's own");
        assert_eq!(list.lines().filter(|l| l.starts_with("b ")).count(), 2, "{list}");
        assert!(list.contains("c 136:* rw") && list.contains("b *:* m") && !list.contains("a *:*"), "{list}");
    }
    assert_eq!(controller.client.call("Destroy", json!({}))["error"], Value::Null);
    controller.wait();
    no_loops_but(&world, &other);
    world.check_clean();
}

#[test]
fn file_systems_of_images_are_mounted() {
    if skip() || lacks(&["mke2fs", "mksquashfs", "mkfs.xfs"]) {
        return;
    }
    let world = World::new();
    let tree = world.dir.join("tree");
    fs::create_dir(&tree).expect("mkdir");
    fs::write(tree.join("hello"), "from the image\n").expect("write");
    let (ext, squash, xfs, ro) = (
        image(&world, "ext", 8),
        world.dir.join("squash"),
        image(&world, "xfs", 320),
        image(&world, "ro", 8),
    );
    let text = |path: &Path| path.to_str().expect("utf-8").to_owned();
    for path in [&ext, &ro] {
        host(&["mke2fs", "-q", "-t", "ext4", "-d", &text(&tree), &text(path)]);
    }
    host(&["mksquashfs", &text(&tree), &text(&squash), "-quiet", "-no-progress"]);
    host(&["mkfs.xfs", "-q", &text(&xfs)]);
    let real = Loop::of(&xfs);
    let mut plan = world.plan();
    plan["filesystems"] = json!([
        filesystem(&ext, "loop", "/ext", false),
        filesystem(&squash, "loop", "/squash", true),
        filesystem(Path::new(&real.0), "block", "/xfs", false),
        filesystem(&ro, "loop", "/ro", true),
    ]);
    world.script(
        "read go; cat /ext/hello /squash/hello /ro/hello
        echo new > /ext/new && echo ext-rw; echo new > /xfs/new && echo xfs-rw
        echo new > /ro/new || echo ro-ro; echo new > /squash/new || echo squash-ro
        busybox mknod /ext/zero c 1 5; head -c 1 /ext/zero || echo nodev
        grep -E ' /(ext|squash|xfs|ro) ' /proc/mounts",
    );
    let (output, _) = run(&world, &plan);
    assert_eq!(output.matches("from the image").count(), 3, "{output}");
    for word in ["ext-rw", "xfs-rw", "ro-ro", "squash-ro", "nodev"] {
        assert!(output.contains(word), "{word} is not in {output}");
    }
    for line in ["/ext ext4 rw,nodev", "/squash squashfs ro,nodev", "/xfs xfs rw,nodev", "/ro ext4 ro,nodev"]
    {
        assert!(output.contains(line), "{line} is not in {output}");
    }
    no_loops_but(&world, &real);
    world.check_clean();
}

#[test]
fn a_root_may_be_an_image() {
    if skip() || lacks(&["mke2fs"]) {
        return;
    }
    let world = World::new();
    world.script(
        "echo boot; test -e /tmp/again || { read go; touch /tmp/again; reboot -f; }; echo ends; ls -d /nowhere-new",
    );
    let root = image(&world, "root.img", 16);
    let text = |path: &Path| path.to_str().expect("utf-8").to_owned();
    host(&["mke2fs", "-q", "-t", "ext4", "-d", &text(&world.root), &text(&root)]);
    let mut plan = world.plan();
    plan["root"] = json!({"source": root, "image": {"backing": "loop"}, "readonly": false, "host": false});
    plan["filesystems"] = json!([{"kind": "ram", "target": "/nowhere-new", "readonly": false}]);
    let (output, exit) = run(&world, &plan);
    assert_eq!(output.matches("boot").count(), 2, "{output}");
    assert!(output.contains("ends\r\n/nowhere-new"), "{output}");
    assert_eq!(exit["kind"], "exited", "{exit}");
    no_loops(&world);
    world.check_clean();
    // The mount point that was made is gone, and what was written is there.
    if lacks(&["debugfs"]) {
        return;
    }
    let listed = host(&["debugfs", "-R", "ls -p /", &text(&root)]);
    assert!(!listed.contains("nowhere-new"), "{listed}");
    assert!(host(&["debugfs", "-R", "ls -p /tmp", &text(&root)]).contains("again"));
}

#[test]
fn a_killed_controller_leaves_no_device() {
    if skip() || lacks(&["mke2fs"]) {
        return;
    }
    for step in ["nodes", "rules", "clone", "devices", "filesystems", "exec", "running"] {
        let world = World::new();
        let (disk, ext) = (image(&world, "disk", 1), image(&world, "ext", 8));
        host(&["mke2fs", "-q", "-t", "ext4", ext.to_str().expect("utf-8")]);
        let mut plan = world.plan();
        plan["devices"] = json!([device("vda", "block", &disk, "loop", false)]);
        plan["filesystems"] = json!([filesystem(&ext, "loop", "/ext", false)]);
        plan["killAtStep"] = json!(step);
        world.script("exec sleep 1000");
        let mut controller = world.controller();
        controller.launch(&plan);
        if step == "running" {
            assert_eq!(controller.wait(), None, "killed by a signal");
        } else {
            controller.wait();
        }
        let _ = fs::write(world.unified.join("payload/cgroup.kill"), "1");
        no_loops(&world);
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        assert!(!mounts.contains(world.dir.to_str().expect("utf-8")), "{step}: {mounts}");
    }
}

#[test]
fn what_cannot_be_had_is_named() {
    if skip() || lacks(&["mke2fs", "losetup"]) {
        return;
    }
    let world = World::new();
    world.script("exit 0");
    let (empty, ext) = (image(&world, "empty", 1), image(&world, "ext", 8));
    host(&["mke2fs", "-q", "-t", "ext4", ext.to_str().expect("utf-8")]);
    let held = Loop::of(&ext);
    let point = world.dir.join("point");
    fs::create_dir(&point).expect("mkdir");
    host(&["mount", &held.0, point.to_str().expect("utf-8")]);
    let swapped = world.dir.join("swap");
    let mut bytes = vec![0; 1 << 16];
    bytes[4086..4096].copy_from_slice(b"SWAPSPACE2");
    fs::write(&swapped, bytes).expect("write");
    let missing = world.dir.join("missing");
    let one = |device: Value| json!({ "devices": [device] });
    let fs_of = |filesystem: Value| json!({ "filesystems": [filesystem] });
    let cases = [
        (one(device("vda", "block", &missing, "loop", false)), "nodes", "open", ""),
        (
            one(device("vda", "block", &world.dir, "block", false)),
            "nodes",
            "use",
            "it is a directory, and must be a block device",
        ),
        (
            one(device("vda", "block", "/dev/null", "block", false)),
            "nodes",
            "use",
            "it is a character device, and must be a block device",
        ),
        (
            one(device("x", "char", &held.0, "block", false)),
            "nodes",
            "use",
            "it is a block device, and must be a character device",
        ),
        (one(device("x", "block", &world.dir, "loop", false)), "nodes", "use", "and must be an image"),
        (
            one(device("x", "block", &ext, "nbd", false)),
            "nodes",
            "serve by qemu-nbd",
            "qemu-nbd is not installed",
        ),
        (one(device("null", "block", &empty, "loop", false)), "nodes", "make the device file", ""),
        (one(device("../x", "block", &empty, "loop", false)), "plan", "check", "not a name below /dev"),
        (fs_of(filesystem(&empty, "loop", "/x", false)), "sources", "mount", "no file system is found on it"),
        (fs_of(filesystem(&swapped, "loop", "/x", false)), "sources", "mount", "it is swap space"),
        (
            fs_of(filesystem(Path::new(&held.0), "block", "/x", true)),
            "sources",
            "mount",
            "it is held by something else",
        ),
        (fs_of(filesystem(&world.dir, "block", "/x", false)), "sources", "use", "must be a block device"),
    ];
    for (change, step, operation, detail) in cases {
        let mut plan = world.plan();
        for (key, value) in change.as_object().expect("object") {
            plan[key] = value.clone();
        }
        let mut controller = world.controller();
        let reply = controller.launch(&plan);
        let failure = &reply["parameters"]["failure"];
        assert_eq!(failure["step"], step, "{change}: {reply}");
        assert_eq!(failure["operation"], operation, "{change}: {reply}");
        let said = failure["detail"].as_str().unwrap_or_default();
        assert!(said.contains(detail), "{change}: {reply}");
        controller.wait();
        no_loops_but(&world, &held);
    }
    host(&["umount", point.to_str().expect("utf-8")]);
    drop(held);
    world.check_clean();
}

/// A kernel with one nbd device, which is a loop device in truth, and a qemu-nbd that only says that it serves.
fn pretend_nbd(world: &World, device: &Loop, program: &str) -> String {
    let dir = world.dir.to_str().expect("utf-8");
    let path = world.dir.join("qemu-nbd");
    fs::write(&path, format!("#!/bin/sh\ncd {dir}\necho \"$@\" > arguments\n{program}\n")).expect("write");
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    fs::create_dir_all(world.dir.join("block/nbd0")).expect("mkdir");
    fs::create_dir_all(world.dir.join("newdev")).expect("mkdir");
    fs::write(world.dir.join("block/nbd0/size"), "0\n").expect("write");
    format!(
        "cd {dir}; mount --make-rprivate /; mount -t tmpfs none newdev; mkdir newdev/pts
        cp -a /dev/null /dev/loop-control newdev; cp -a {} newdev/nbd0; ln -s pts/ptmx newdev/ptmx
        mount --rbind /dev/pts newdev/pts; mount --rbind newdev /dev; mount --bind block /sys/block",
        device.0
    )
}

const SERVES: &str = "trap \"echo 0 > block/nbd0/size; echo asked > ended; exit 0\" TERM
    sleep 0.1; echo 2048 > block/nbd0/size; while :; do sleep 0.05; done";

#[test]
fn images_of_other_formats_are_served() {
    if skip() || lacks(&["losetup", "unshare"]) {
        return;
    }
    let world = World::new();
    let file = image(&world, "disk.qcow2", 1);
    fs::write(&file, vec![b'q'; 1 << 20]).expect("write");
    let real = Loop::of(&file);
    let mut plan = world.plan();
    let mut disk = device("vda", "block", &file, "nbd", true);
    disk["format"] = json!("qcow2");
    plan["devices"] = json!([disk]);
    plan["qemuNbd"] = json!(world.dir.join("qemu-nbd"));
    world.script("head -c 3 /dev/vda; exec sleep 1000");
    let ended = world.dir.join("ended");
    for killed in [false, true] {
        let mut controller = world.controller_in(&pretend_nbd(&world, &real, SERVES));
        let reply = controller.launch(&plan);
        assert!(reply.get("error").is_none(), "{reply}");
        let arguments = fs::read_to_string(world.dir.join("arguments")).expect("arguments");
        let expected =
            format!("--verbose --connect=/dev/nbd0 --format=qcow2 --read-only -- {}\n", file.display());
        assert_eq!(arguments, expected);
        let (mut viewer, _) = controller.client.attach("shared");
        viewer.expect("qqq");
        assert!(!ended.exists());
        if killed {
            controller.child.kill().expect("kill");
        } else {
            assert_eq!(controller.client.call("Destroy", json!({}))["error"], Value::Null);
        }
        controller.wait();
        let end = Instant::now() + Duration::from_secs(5);
        while !ended.exists() {
            assert!(Instant::now() < end, "the server was not ended");
            std::thread::sleep(Duration::from_millis(10));
        }
        fs::remove_file(&ended).expect("rm");
    }
    // One that ends at once, one that is not there, and a device that another one serves.
    for (program, qemu, detail) in [
        (
            "echo no such format >&2; exit 1",
            "qemu-nbd",
            "qemu-nbd has ended; what it said is in the controller's log",
        ),
        ("", "no-qemu-nbd", "qemu-nbd has ended"),
        ("exit 0", "qemu-nbd", "all devices '/dev/nbdN' are in use"),
    ] {
        let script = pretend_nbd(&world, &real, program);
        plan["qemuNbd"] = json!(world.dir.join(qemu));
        if detail.contains("in use") {
            fs::write(world.dir.join("block/nbd0/pid"), "1\n").expect("write");
        }
        let mut controller = world.controller_in(&script);
        let failure = controller.launch(&plan)["parameters"]["failure"].clone();
        assert!(failure["detail"].as_str().is_some_and(|d| d.contains(detail)), "{program}: {failure}");
        controller.wait();
    }
    assert!(world.log().contains("no such format"), "{}", world.log());
    assert!(world.log().contains("no-qemu-nbd': No such file"), "{}", world.log());
}
