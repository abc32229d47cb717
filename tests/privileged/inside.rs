//! What a container sees: its namespaces, file systems, environment, user, and descriptors.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;

use berth_tests::daemon::{Daemon, domain_xml};
use berth_tests::host::Traces;
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, roots, wait_for};

pub const TESTS: &[Test] = &[
    ("inside::namespaces_are_private", namespaces),
    ("inside::mounts_are_what_the_design_says", mounts),
    ("inside::dev_is_an_exact_list", dev),
    ("inside::environment_is_an_exact_list", environment),
    ("inside::filesystems_of_every_kind", filesystems),
    ("inside::readonly_is_readonly", readonly),
    ("inside::user_group_and_directory", user),
    ("inside::descriptors_are_an_exact_list", descriptors),
    ("inside::passed_descriptors_arrive", passed),
    ("inside::consoles_have_ttys", ttys),
    ("inside::i686_says_so", personality),
    ("inside::capabilities_are_dropped", capabilities),
    ("inside::shared_namespaces", shared),
    ("inside::symlinks_in_the_root_stay_inside", symlinks),
    ("inside::nothing_is_left_in_the_root", nothing_left),
];

/// Runs a script as init of a fresh domain and returns what it wrote to `/tmp/out`.
pub fn report(daemon: &Daemon, name: &str, xml: impl Fn(&Path) -> String) -> Result<String, String> {
    let root = daemon.work().join(format!("{name}.root"));
    if !root.exists() {
        roots::make_busybox(&root)?;
    }
    let out = root.join("tmp/out");
    let _ = fs::remove_file(&out);
    daemon.define(name, &xml(&root))?;
    let before = Traces::of(name, daemon.work());
    daemon.ok(&["start", name]).map_err(|e| {
        let log = daemon.root().join(format!("var/log/berth/{name}.log"));
        format!("{e}\nlog: {}", fs::read_to_string(log).unwrap_or_default())
    })?;
    daemon.wait_state(name, "shut off (shutdown)", 20).map_err(|e| {
        format!("{e}\nconsole: {}", daemon.ok(&["console", name, "--log"]).unwrap_or_default())
    })?;
    let text = fs::read_to_string(&out).unwrap_or_default();
    let _ = fs::remove_file(&out);
    let left: Vec<String> = Traces::of(name, daemon.work()).difference(&before);
    ensure_eq!(left, Vec::<String>::new(), "residue of {name}");
    Ok(text)
}

/// A document whose init is a script that writes to `/tmp/out`.
pub fn script(name: &str, text: &str, devices: &str) -> impl Fn(&Path) -> String {
    let (name, text, devices) =
        (name.to_owned(), format!("{{ {text}\n}} > /tmp/out 2>&1; exit 0"), devices.to_owned());
    move |root: &Path| domain_xml(&name, root, &["/bin/sh", "-c", &text], &devices)
}

fn namespaces() -> Outcome {
    let daemon = Daemon::start()?;
    let text = report(
        &daemon,
        "t-ns",
        script(
            "t-ns",
            "for n in mnt pid uts ipc net cgroup; do readlink /proc/self/ns/$n; done; hostname; echo $$; ip -o link; cat /proc/self/cgroup",
            "",
        ),
    )?;
    for kind in ["mnt", "pid", "uts", "ipc", "net", "cgroup"] {
        let host = fs::read_link(format!("/proc/self/ns/{kind}")).map_err(|e| e.to_string())?;
        ensure!(text.contains(&format!("{kind}:[")), "no {kind} namespace in {text}");
        ensure!(
            !text.contains(&host.to_string_lossy().into_owned()),
            "the {kind} namespace is the host's: {text}"
        );
    }
    ensure!(text.lines().any(|l| l == "t-ns"), "the hostname: {text}");
    ensure!(text.lines().any(|l| l == "1"), "the pid of init: {text}");
    let links: Vec<&str> = text.lines().filter(|l| l.contains(": <") || l.contains("mtu")).collect();
    ensure_eq!(links.len(), 1, "links: {links:?}");
    ensure!(links[0].contains("lo") && links[0].contains("UP"), "lo is not up: {links:?}");
    for line in text.lines().filter(|l| l.split(':').count() == 3 && l.contains(":/")) {
        ensure!(line.ends_with(":/"), "a control group outside is visible: {line}");
    }
    Ok(())
}

fn mounts() -> Outcome {
    let daemon = Daemon::start()?;
    let text = report(&daemon, "t-mnt", script("t-mnt", "cat /proc/self/mountinfo", ""))?;
    let mounted: Vec<(String, String, String)> = text
        .lines()
        .filter_map(|l| {
            let words: Vec<&str> = l.split(' ').collect();
            let dash = words.iter().position(|w| *w == "-")?;
            Some((words[4].to_owned(), words[5].to_owned(), words[dash + 1].to_owned()))
        })
        .collect();
    let find = |path: &str| {
        mounted
            .iter()
            .rev()
            .find(|(p, _, _)| p == path)
            .cloned()
            .ok_or(format!("{path} is not mounted: {text}"))
    };
    for (path, kind) in [
        ("/proc", "proc"),
        ("/sys", "sysfs"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
        ("/run", "tmpfs"),
        ("/sys/fs/cgroup", "cgroup2"),
    ] {
        ensure_eq!(find(path)?.2, kind.to_owned(), "the kind of {path}");
    }
    for path in ["/sys", "/proc/sys"] {
        ensure!(find(path)?.1.split(',').any(|o| o == "ro"), "{path} is writable");
    }
    for (path, option) in [
        ("/proc", "nosuid"),
        ("/proc", "nodev"),
        ("/proc", "noexec"),
        ("/dev/shm", "nosuid"),
        ("/sys", "nosuid"),
    ] {
        ensure!(find(path)?.1.split(',').any(|o| o == option), "{path} is not {option}");
    }
    let work = daemon.work().to_string_lossy().into_owned();
    for (path, _, _) in &mounted {
        ensure!(!path.contains("oldroot") && !path.contains(&work), "a mount of the host is visible: {path}");
    }
    // Shared with what is made inside, as systemd expects it, and with nobody else: nothing comes from the host, nothing
    // goes there. The numbers of groups are the kernel's, one count for all namespaces.
    ensure!(!text.contains("master:"), "a mount hears of the host: {text}");
    let own = groups(&text);
    ensure_eq!(own.len(), mounted.len(), "mounts that are shared inside: {text}");
    for host in ["/proc/1/mountinfo", "/proc/self/mountinfo"] {
        let host = groups(&fs::read_to_string(host).map_err(|e| e.to_string())?);
        ensure!(own.is_disjoint(&host), "a mount is shared with the host: {text}");
    }
    Ok(())
}

/// The groups in which mounts are shared: proc_pid_mountinfo(5).
fn groups(mountinfo: &str) -> BTreeSet<String> {
    let words = mountinfo.lines().flat_map(|l| l.split(' ').take_while(|w| *w != "-"));
    words.filter_map(|w| w.strip_prefix("shared:")).map(str::to_owned).collect()
}

fn dev() -> Outcome {
    let daemon = Daemon::start()?;
    let text = report(
        &daemon,
        "t-dev",
        script(
            "t-dev",
            "cd /dev; ls -1 | sort; for f in null zero full random urandom tty; do stat -c '%n %t:%T %a' $f; done; echo x > /dev/null && head -c1 /dev/zero | wc -c; ",
            "",
        ),
    )?;
    let listed: Vec<&str> =
        text.lines().take_while(|l| !l.contains(' ')).filter(|l| *l != "1" && *l != "ptmx!").collect();
    let mut expected = vec![
        "console", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
        "stdout", "tty", "tty1", "urandom", "zero",
    ];
    expected.sort_unstable();
    let listed: Vec<&str> = listed.into_iter().filter(|n| *n != "core").collect();
    ensure_eq!(listed, expected, "/dev");
    for line in
        ["null 1:3 666", "zero 1:5 666", "full 1:7 666", "random 1:8 666", "urandom 1:9 666", "tty 5:0 666"]
    {
        ensure!(text.contains(line), "'{line}' is not in {text}");
    }
    Ok(())
}

fn environment() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-env")?;
    roots::script(&root, "bin/report", "/bin/busybox env > /tmp/out; exit 0")?;
    let text = report(&daemon, "t-env", |root| {
        domain_xml("t-env", root, &["/bin/report"], "    <console type='pty'/>\n    <console type='pty'/>\n")
            .replace(
                "</init>",
                "</init>\n    <initenv name='FOO'>b a r</initenv>\n    <initenv name='TERM'>vt100</initenv>",
            )
    })?;
    let mut names: Vec<&str> = text
        .lines()
        .filter_map(|l| l.split('=').next())
        .filter(|n| !["PWD", "SHLVL", "_", "OLDPWD"].contains(n))
        .collect();
    names.sort_unstable();
    let mut expected = vec![
        "PATH",
        "TERM",
        "container",
        "container_uuid",
        "container_ttys",
        "HOME",
        "LIBVIRT_LXC_UUID",
        "LIBVIRT_LXC_NAME",
        "NOTIFY_SOCKET",
        "FOO",
    ];
    expected.sort_unstable();
    ensure_eq!(names, expected, "the environment: {text}");
    let uuid = daemon.ok(&["domuuid", "t-env"])?;
    for line in [
        "container=lxc-libvirt",
        "LIBVIRT_LXC_NAME=t-env",
        "FOO=b a r",
        "TERM=vt100",
        "container_ttys=pts/1 pts/2",
        &format!("container_uuid={}", uuid.trim()),
    ] {
        ensure!(text.lines().any(|l| l == line), "'{line}' is not in {text}");
    }
    Ok(())
}

fn filesystems() -> Outcome {
    let daemon = Daemon::start()?;
    // What is written here is meant to stay: it must not be found by the comparison of the test's own folder.
    let data = tempfile::tempdir().map_err(|e| e.to_string())?;
    let data = data.path();
    let below = tempfile::tempdir().map_err(|e| e.to_string())?;
    fs::create_dir_all(data.join("sub")).map_err(|e| e.to_string())?;
    fs::write(data.join("file"), "from the host").map_err(|e| e.to_string())?;
    // A mount below the source comes along: `mount` is recursive.
    let none: Option<&str> = None;
    nix::mount::mount(Some(below.path()), &data.join("sub"), none, nix::mount::MsFlags::MS_BIND, none)
        .map_err(|e| e.to_string())?;
    fs::write(data.join("sub/deep"), "deep").map_err(|e| e.to_string())?;
    let devices = format!(
        "    <filesystem type='mount'><source dir='{0}'/><target dir='/mnt/data'/></filesystem>
    <filesystem type='mount'><source dir='{0}'/><target dir='/mnt/ro'/><readonly/></filesystem>
    <filesystem type='mount'><source dir='{0}/file'/><target dir='/mnt/one file'/></filesystem>
    <filesystem type='ram'><source usage='1024' units='KiB'/><target dir='/mnt/ram'/></filesystem>
    <filesystem type='bind'><source dir='/mnt/data'/><target dir='/mnt/bound'/></filesystem>\n",
        data.display()
    );
    let result = report(
        &daemon,
        "t-fs",
        script("t-fs", "cat /mnt/data/file; echo; cat /mnt/data/sub/deep; echo; cat '/mnt/one file'; echo; echo new > /mnt/data/new && echo written
            echo x > /mnt/ro/x || echo ro; echo x > /mnt/ro/sub/x || echo ro-below; cat /mnt/bound/new; head -c 2000000 /dev/zero > /mnt/ram/big || echo full; grep -c /mnt/ram /proc/mounts", &devices),
    );
    let unmounted = nix::mount::umount(&data.join("sub"));
    let text = result?;
    unmounted.map_err(|e| format!("the mount of the host is still busy: {e}"))?;
    for line in ["from the host", "deep", "written", "ro", "ro-below", "new", "full", "1"] {
        ensure!(text.lines().any(|l| l == line), "'{line}' is not in {text}");
    }
    ensure_eq!(
        fs::read_to_string(data.join("new")).unwrap_or_default(),
        "new\n".to_owned(),
        "what was written"
    );
    ensure!(!data.join("x").exists(), "something was written through a read-only mount");
    Ok(())
}

fn readonly() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-ro")?;
    let data = daemon.work().join("out");
    fs::create_dir_all(&data).map_err(|e| e.to_string())?;
    fs::create_dir_all(root.join("out")).map_err(|e| e.to_string())?;
    let script = "{ touch /x || echo root-ro; touch /etc/x || echo etc-ro; mount -o remount,rw / ; echo ok > /dev/shm/x && echo shm; echo ok > /run/x && echo run; echo 1 > /dev/null && echo null; } > /out/out 2>&1; exit 0";
    let xml = domain_xml(
        "t-ro",
        &root,
        &["/bin/sh", "-c", script],
        &format!(
            "    <filesystem type='mount'><source dir='{}'/><target dir='/out'/></filesystem>\n",
            data.display()
        ),
    )
    .replacen("<target dir='/'/>", "<target dir='/'/>\n      <readonly/>", 1);
    daemon.define("t-ro", &xml)?;
    daemon.ok(&["start", "t-ro"])?;
    daemon.wait_state("t-ro", "shut off (shutdown)", 10)?;
    let text = fs::read_to_string(data.join("out")).map_err(|e| e.to_string())?;
    for line in ["root-ro", "etc-ro", "shm", "run", "null"] {
        ensure!(text.lines().any(|l| l == line), "'{line}' is not in {text}");
    }
    Ok(())
}

fn user() -> Outcome {
    let daemon = Daemon::start()?;
    let with = |extra: &str| {
        let extra = extra.to_owned();
        move |root: &Path| {
            domain_xml("t-usr", root, &["/bin/sh", "-c", "{ id; pwd; tty; } > /tmp/out 2>&1; exit 0"], "")
                .replace("</init>", &format!("</init>\n{extra}"))
        }
    };
    let root = daemon.busybox("t-usr")?;
    fs::set_permissions(root.join("tmp"), std::os::unix::fs::PermissionsExt::from_mode(0o1777))
        .map_err(|e| e.to_string())?;
    let text = report(
        &daemon,
        "t-usr",
        with("<initdir>/home/guest</initdir><inituser>guest</inituser><initgroup>guest</initgroup>"),
    )?;
    ensure!(
        text.contains("uid=1000(guest) gid=1000(guest)") && text.contains("1001(extra)"),
        "by name: {text}"
    );
    ensure!(text.contains("/home/guest"), "the directory: {text}");
    let text = report(&daemon, "t-usr", with("<inituser>+1234</inituser><initgroup>+77</initgroup>"))?;
    ensure!(text.contains("uid=1234 gid=77"), "by number: {text}");
    daemon.define("t-usr", &with("<inituser>nobody-here</inituser><initgroup>guest</initgroup>")(&root))?;
    let error = daemon.virsh(&["start", "t-usr"])?.fails()?;
    ensure!(error.contains("nobody-here") && error.contains("/etc/passwd"), "{error}");
    daemon.define("t-usr", &with("<initdir>/nowhere</initdir>")(&root))?;
    let error = daemon.virsh(&["start", "t-usr"])?.fails()?;
    ensure!(error.contains("/nowhere"), "{error}");
    Ok(())
}

fn descriptors() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-fd")?;
    daemon.define("t-fd", &domain_xml("t-fd", &root, &["/bin/sleep", "1000"], ""))?;
    daemon.ok(&["start", "t-fd"])?;
    let init = daemon.pid_of("t-fd", "initPid")?;
    let open: Vec<String> = fs::read_dir(format!("/proc/{init}/fd"))
        .map_err(|e| e.to_string())?
        .flatten()
        .map(|e| {
            format!(
                "{} {}",
                e.file_name().to_string_lossy(),
                fs::read_link(e.path()).unwrap_or_default().display()
            )
        })
        .collect();
    ensure_eq!(open.len(), 3, "descriptors of init: {open:?}");
    for fd in &open {
        ensure!(
            fd.contains("/dev/pts/0") || fd.contains("/0") || fd.contains("/dev/console"),
            "descriptor {fd}"
        );
    }
    let status = fs::read_to_string(format!("/proc/{init}/status")).map_err(|e| e.to_string())?;
    for set in ["CapInh", "CapAmb"] {
        ensure!(status.contains(&format!("{set}:\t0000000000000000")), "{set} is not empty: {status}");
    }
    daemon.ok(&["destroy", "t-fd"]).map(drop)
}

fn passed() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-pass")?;
    daemon.define(
        "t-pass",
        &domain_xml("t-pass", &root, &["/bin/sh", "-c", "read line <&3; echo got $line >&4; exit 0"], ""),
    )?;
    let (read, write) = nix::unistd::pipe().map_err(|e| e.to_string())?;
    let (answer, back) = nix::unistd::pipe().map_err(|e| e.to_string())?;
    nix::unistd::write(&write, b"hello\n").map_err(|e| e.to_string())?;
    let (three, four) = (read.as_raw_fd(), back.as_raw_fd());
    let list = format!("{three},{four}");
    let printed = daemon
        .command()?
        .args(["start", "t-pass", "--pass-fds", &list])
        .output()
        .map_err(|e| e.to_string())?;
    ensure!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));
    drop(back);
    let mut text = [0_u8; 64];
    let n = nix::unistd::read(&answer, &mut text).map_err(|e| e.to_string())?;
    ensure_eq!(String::from_utf8_lossy(&text[..n]).into_owned(), "got hello\n".to_owned(), "the answer");
    daemon.wait_state("t-pass", "shut off (shutdown)", 10)
}

fn ttys() -> Outcome {
    let daemon = Daemon::start()?;
    let text = report(
        &daemon,
        "t-tty",
        script(
            "t-tty",
            "exec < /dev/console; tty; ls -l /dev/console /dev/tty1 /dev/tty2 /dev/pts; ps -o tty,pid; readlink /proc/self/fd/0; echo yes > /dev/tty && echo controlling",
            "    <console type='pty'/>\n",
        ),
    )?;
    ensure!(text.contains("/dev/tty2"), "{text}");
    ensure!(text.contains("controlling"), "init has no controlling terminal: {text}");
    Ok(())
}

fn personality() -> Outcome {
    let daemon = Daemon::start()?;
    let text = report(&daemon, "t-32", |root| {
        domain_xml("t-32", root, &["/bin/sh", "-c", "uname -m > /tmp/out; exit 0"], "")
            .replace("<type>exe</type>", "<type arch='i686'>exe</type>")
    })?;
    ensure_eq!(text.trim(), "i686", "uname -m");
    Ok(())
}

fn capabilities() -> Outcome {
    let daemon = Daemon::start()?;
    let bounding = |text: &str| -> Result<u64, String> {
        let line = text.lines().find(|l| l.starts_with("CapBnd")).ok_or("no CapBnd")?;
        u64::from_str_radix(line.split_whitespace().nth(1).unwrap_or("x"), 16).map_err(|e| e.to_string())
    };
    let text = report(&daemon, "t-cap", script("t-cap", "cat /proc/self/status", ""))?;
    let default = bounding(&text)?;
    for (bit, name) in [(16, "sys_module"), (25, "sys_time"), (30, "audit_control"), (33, "mac_admin")] {
        ensure!(default & (1 << bit) == 0, "{name} is not dropped: {default:x}");
    }
    ensure!(default & 1 != 0, "chown is dropped: {default:x}");
    let text = report(&daemon, "t-cap", |root| {
        script("t-cap", "cat /proc/self/status", "")(root).replace("</os>", "</os>\n  <features><capabilities policy='deny'><chown state='on'/><kill state='on'/></capabilities></features>")
    })?;
    ensure_eq!(bounding(&text)?, (1 << 0) | (1 << 5), "the bounding set under deny");
    Ok(())
}

fn shared() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-shA")?;
    daemon.define("t-shA", &domain_xml("t-shA", &root, &["/bin/sleep", "1000"], ""))?;
    daemon.ok(&["start", "t-shA"])?;
    let init = daemon.pid_of("t-shA", "initPid")?;
    let text = report(&daemon, "t-shB", |root| {
        script("t-shB", "for n in net ipc uts; do readlink /proc/self/ns/$n; done; hostname", "")(root)
            .replace("<domain type='lxc'>", "<domain type='lxc' xmlns:lxc='http://libvirt.org/schemas/domain/lxc/1.0'>")
            .replace("</domain>", "  <lxc:namespace><lxc:sharenet type='name' value='t-shA'/><lxc:shareuts type='name' value='t-shA'/></lxc:namespace>\n</domain>")
    })?;
    let of = |kind: &str| {
        fs::read_link(format!("/proc/{init}/ns/{kind}")).map(|l| l.display().to_string()).unwrap_or_default()
    };
    ensure!(text.contains(&of("net")), "the network namespace is not shared: {text}");
    ensure!(text.contains(&of("uts")), "the UTS namespace is not shared: {text}");
    ensure!(!text.contains(&of("ipc")), "the IPC namespace is shared: {text}");
    // libvirt renames the one it shares with.
    ensure!(text.lines().last() == Some("t-shA"), "the sharer was renamed: {text}");
    daemon.ok(&["destroy", "t-shA"])?;
    let error = daemon.virsh(&["start", "t-shB"])?.fails()?;
    ensure!(error.contains("t-shA"), "{error}");
    Ok(())
}

fn symlinks() -> Outcome {
    let daemon = Daemon::start()?;
    let canary = daemon.work().join("canary");
    fs::create_dir_all(&canary).map_err(|e| e.to_string())?;
    fs::write(canary.join("file"), "untouched").map_err(|e| e.to_string())?;
    let data = daemon.work().join("data");
    fs::create_dir_all(&data).map_err(|e| e.to_string())?;
    for (n, (path, to)) in [
        ("mnt", canary.display().to_string()),
        ("mnt", format!("../../../../../../../..{}", canary.display())),
        ("dev", canary.display().to_string()),
        ("proc", canary.display().to_string()),
        ("sys", canary.display().to_string()),
        ("run", canary.display().to_string()),
        ("mnt", "mnt".to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("t-sym{n}");
        let root = daemon.busybox(&name)?;
        let link = root.join(path);
        let _ = fs::remove_dir(&link);
        std::os::unix::fs::symlink(&to, &link).map_err(|e| e.to_string())?;
        let before = Traces::of("t-sym", &canary);
        let devices = format!(
            "    <filesystem type='mount'><source dir='{}'/><target dir='/mnt/made/by/us'/></filesystem>\n",
            data.display()
        );
        daemon.define(&name, &domain_xml(&name, &root, &["/bin/sh", "-c", "exit 0"], &devices))?;
        let printed = daemon.virsh(&["start", &name])?;
        if printed.status == 0 {
            daemon.wait_state(&name, "shut off (shutdown)", 10)?;
        }
        ensure_eq!(Traces::of("t-sym", &canary).difference(&before), Vec::<String>::new(), "{path} -> {to}");
        ensure_eq!(
            fs::read_to_string(canary.join("file")).unwrap_or_default(),
            "untouched".to_owned(),
            "{path} -> {to}"
        );
    }
    Ok(())
}

fn nothing_left() -> Outcome {
    let daemon = Daemon::start()?;
    // A root with as little as possible: every mount point has to be made, and to be gone afterwards.
    let root = daemon.work().join("bare.root");
    fs::create_dir_all(root.join("bin")).map_err(|e| e.to_string())?;
    fs::copy(roots::busybox().ok_or("no busybox")?, root.join("bin/busybox")).map_err(|e| e.to_string())?;
    let devices = "    <filesystem type='ram'><source usage='64'/><target dir='/a/b/c'/></filesystem>\n";
    daemon.define("t-bare", &domain_xml("t-bare", &root, &["/bin/busybox", "sleep", "1000"], devices))?;
    let before = Traces::of("t-bare", daemon.work());
    daemon.ok(&["start", "t-bare"])?;
    wait_for("a start", 5, || daemon.pid_of("t-bare", "initPid").ok())?;
    daemon.ok(&["destroy", "t-bare"])?;
    ensure_eq!(Traces::of("t-bare", daemon.work()).difference(&before), Vec::<String>::new(), "residue");
    Ok(())
}
