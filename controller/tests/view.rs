//! What is to be seen from inside: mounts, devices, groups, environment; and what the plan's filesystems become.

mod support;

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use support::{World, run, skip};

#[test]
fn the_container_sees_its_own_world_and_nothing_else() {
    if skip() {
        return;
    }
    let world = World::new();
    world.script(
        "read go; echo dev: $(ls /dev); echo pts: $(ls /dev/pts); echo group: $(cat /proc/self/cgroup | head -1 >/dev/null; grep ^0: /proc/self/cgroup)
         echo legacy: $(grep -c ':/$' /proc/self/cgroup) of $(grep -c . /proc/self/cgroup)
         echo points: $(while read a b c d e f; do echo $e; done < /proc/self/mountinfo | sort)
         echo tty: $(stat -c %t /dev/console) $(test -t 0 && echo yes); echo host: $(cat /proc/sys/kernel/hostname)
         echo env: $(cat /proc/1/environ | tr '\\0' ' '); (ls /proc/1/fd > /run/fds); echo fds: $(cat /run/fds)
         echo manager: $(cat /run/host/container-manager)
         (echo 1 > /proc/sys/kernel/panic) 2>/dev/null && echo WRITABLE
         (echo 0 > /proc/sys/net/ipv4/ip_forward) && echo net-writable
         (mkdir /sys/x) 2>/dev/null && echo WRITABLE; mkdir /sys/fs/cgroup/x && echo cg-writable
         (echo x > /proc/meminfo) && echo masked $(stat -c %t:%T /proc/meminfo); ls /sys/firmware | head -1
         (echo 1 > /proc/irq/default_smp_affinity) 2>/dev/null && echo WRITABLE
         cat /proc/net/dev | grep -c lo: ; grep -E 'Cap(Inh|Amb)' /proc/1/status; id; sleep 0.1; exit 0",
    );
    for applet in ["tr", "sort"] {
        std::os::unix::fs::symlink("busybox", world.root.join("bin").join(applet)).expect("symlink");
    }
    let mut plan = world.plan();
    plan["maskedPaths"] = json!(["/proc/meminfo", "/sys/firmware", "/nowhere"]);
    plan["readonlyPaths"] = json!(["/proc/irq", "/proc/bus", "/nowhere/else"]);
    let second = json!({"device": "console1", "logPath": world.dir.join("console1.log"), "logMaxBytes": 0, "logKeep": 0});
    plan["consoles"].as_array_mut().expect("consoles").push(second);
    let (output, exit) = run(&world, &plan);
    let output = output.replace('\r', "");
    let has = |text: &str| assert!(output.contains(text), "no {text:?} in:\n{output}");
    assert_eq!(exit["status"], 0, "{output}");
    has(
        "dev: console core fd full mqueue null ptmx pts random shm stderr stdin stdout tty tty1 tty2 urandom zero",
    );
    has("pts: 0 1 ptmx");
    has("group: 0::/\n");
    has(&format!(
        "legacy: {n} of {n}",
        n = fs::read_to_string("/proc/self/cgroup").expect("cgroup").lines().count()
    ));
    has(
        "points: / /dev /dev/console /dev/mqueue /dev/pts /dev/shm /dev/tty1 /dev/tty2 /proc /proc/bus /proc/irq /proc/meminfo /proc/sys /proc/sys/net /run /sys /sys/firmware /sys/fs/cgroup\n",
    );
    has("tty: 88 yes");
    has("host: inside");
    has("env: PATH=/bin container=lxc-libvirt container_ttys=pts/1 NOTIFY_SOCKET=/run/host/notify");
    // 10 is the shell's script. Not through a pipe: how long the shell has its ends beside the child is chance.
    has("fds: 0 1 10 2\n");
    has("manager: lxc-libvirt");
    has("net-writable");
    has("cg-writable");
    has("masked 1:3");
    has("CapInh:\t0000000000000000\nCapAmb:\t0000000000000000");
    has("uid=0 gid=0\n");
    assert!(!output.contains("WRITABLE"), "{output}");
    world.check_clean();
}

#[test]
fn filesystems_are_mounted_in_order_and_their_points_removed() {
    if skip() {
        return;
    }
    let world = World::new();
    let volume = world.dir.join("volume");
    fs::create_dir_all(volume.join("sub")).expect("mkdir");
    fs::write(volume.join("file"), "from the host\n").expect("write");
    world.script(
        "read go; cat /mnt/v/file /mnt/one; (echo x > /mnt/v/new) 2>/dev/null || echo volume-readonly
         echo y > /mnt/ram/y && cat /mnt/ram/y; ls /mnt/b; cat /mnt/link/file
         (echo x > /rootfile) 2>/dev/null || echo root-readonly; echo x > /run/x && echo run-writable
         echo x > /dev/shm/x && echo shm-writable; sleep 0.1; exit 0",
    );
    std::os::unix::fs::symlink("/../../../../tmp", world.root.join("away")).expect("symlink");
    let mut plan = world.plan();
    plan["root"]["readonly"] = json!(true);
    plan["filesystems"] = json!([
        {"kind": "mount", "source": volume, "target": "/mnt/v", "readonly": true},
        {"kind": "mount", "source": volume.join("file"), "target": "/mnt/one", "readonly": false},
        {"kind": "ram", "target": "/mnt/ram", "readonly": false, "sizeBytes": 65536},
        {"kind": "bind", "source": "/mnt/v", "target": "/mnt/b", "readonly": true},
        {"kind": "mount", "source": volume, "target": "/away/in", "readonly": false},
        {"kind": "bind", "source": "/tmp/in", "target": "/mnt/link", "readonly": false},
    ]);
    let (output, exit) = run(&world, &plan);
    assert_eq!(exit["status"], 0, "{output}");
    for text in
        ["from the host", "volume-readonly", "y\r\n", "sub", "root-readonly", "run-writable", "shm-writable"]
    {
        assert!(output.contains(text), "no {text:?} in:\n{output}");
    }
    assert!(!world.root.join("mnt").exists(), "mount points are left");
    assert!(!world.root.join("tmp/in").exists(), "mount points are left");
    assert!(!std::path::Path::new("/tmp/in").exists(), "a mount point was made on the host");
    world.check_clean();
}

#[test]
fn init_can_be_a_user_with_groups_and_descriptors() {
    if skip() {
        return;
    }
    let world = World::new();
    fs::write(world.root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nweb:x:1000:1001::/:/bin/sh\n")
        .expect("write");
    fs::write(world.root.join("etc/group"), "web:x:1001:\naudio:x:29:web\n").expect("write");
    world.script("id; grep CapEff /proc/self/status; cat <&3; echo out > /dev/console; sleep 0.1");
    fs::set_permissions(&world.dir, fs::Permissions::from_mode(0o755)).expect("chmod");
    fs::set_permissions(&world.root, fs::Permissions::from_mode(0o755)).expect("chmod");
    let mut plan = world.plan();
    plan["init"]["user"] = json!("web");
    plan["initFileDescriptors"] = json!([1]);
    let mut controller = world.controller();
    let (mine, theirs) = std::os::unix::net::UnixStream::pair().expect("pair");
    std::io::Write::write_all(&mut &mine, b"passed\n").expect("write");
    drop(mine);
    let reply = controller.launch_with(&plan, &[theirs.as_fd()]);
    drop(theirs);
    assert!(reply.get("error").is_none(), "{reply}");
    let (mut viewer, _) = controller.client.attach("view");
    let output = viewer.rest();
    for text in ["uid=1000(web) gid=1001(web) groups=29(audio)", "CapEff:\t0000000000000000", "passed", "out"]
    {
        assert!(output.contains(text), "no {text:?} in:\n{output}");
    }
    assert_eq!(controller.wait(), Some(0));
    world.check_clean();
}

#[test]
fn a_network_can_be_shared_and_a_host_root_stays_untouched() {
    if skip() {
        return;
    }
    let world = World::new();
    world.script(
        "stat -Lc net=%i= /proc/self/ns/net
         (echo 1 > /proc/sys/net/ipv4/ip_forward) 2>/dev/null && echo WRITABLE
         (echo x > /tmp/x) 2>/dev/null && echo WRITABLE
         (stty raw && mkdir /dev/mine && mkdir /run/mine) && echo private-writable; echo over; read x",
    );
    let mut plan = world.plan();
    plan["root"]["host"] = json!(true);
    plan["sharedNamespaces"] =
        json!([{"kind": "net", "fileDescriptor": 1}, {"kind": "uts", "fileDescriptor": 2}]);
    let open = |name: &str| fs::File::open(format!("/proc/self/ns/{name}")).expect("namespace");
    let (net, uts) = (open("net"), open("uts"));
    let name = rustix::system::uname().nodename().to_owned();
    let mut controller = world.controller();
    let reply = controller.launch_with(&plan, &[net.as_fd(), uts.as_fd()]);
    assert!(reply.get("error").is_none(), "{reply}");
    let (mut viewer, _) = controller.client.attach("shared");
    viewer.expect("over");
    viewer.type_in("\n");
    assert_eq!(controller.wait(), Some(0));
    let log = fs::read_to_string(world.dir.join("console0.log")).expect("log");
    let number = std::os::unix::fs::MetadataExt::ino(&net.metadata().expect("stat"));
    assert!(log.contains(&format!("net={number}=")), "{log}");
    assert!(log.contains("private-writable") && !log.contains("WRITABLE\r"), "{log}");
    assert_eq!(rustix::system::uname().nodename(), &*name, "the host's name was changed");
    world.check_clean();
}
