//! A whole Debian in the virtual machine, with systemd as its first process and Berth's package installed by dpkg: what
//! only such a host can show.
//!
//! It knows what is on the machine's disks. What is looked at in there is `systemd.sh`.

use std::fs;
use std::io::IsTerminal;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::kernel::Kernel;
use super::machine::Machine;
use super::{VERDICT, image, remove};
use crate::{dist, package, run};

/// How long everything in the machine may take together.
const DEADLINE: Duration = Duration::from_secs(15 * 60);

/// The release: that of the libraries which our programs are linked with at the earliest.
const SUITE: &str = "bookworm";

/// What is installed on the machine beside what every Debian has.
const PACKAGES: &[&str] = &[
    "apparmor",
    "busybox-static",
    "dbus",
    "iproute2",
    "kmod",
    "libnss-mymachines",
    "libpam-systemd",
    "polkitd",
    "procps",
    "python3-minimal",
    "systemd",
    "systemd-container",
    "systemd-sysv",
    "util-linux",
];

/// What is looked at.
const TEST: &str = include_str!("systemd.sh");

/// Runs it when the machine is up, and turns the machine off.
const UNIT: &str = "[Unit]
Description=The tests in the machine
After=berthd.service berth-guests.service dbus.service systemd-logind.service
[Service]
Type=oneshot
ExecStart=/root/test
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
TimeoutStartSec=infinity
[Install]
WantedBy=multi-user.target
";

/// Units that wait for what the machine does not have.
const MASKED: &[&str] = &["serial-getty@ttyS0.service", "getty@tty1.service", "apt-daily.timer"];

/// What is asked for.
#[derive(Debug, Default)]
pub struct Request {
    /// A folder with release builds; they are made if none is given.
    pub dist: Option<PathBuf>,
    /// The package that is upgraded; else one of the same builds with a lower version.
    pub from: Option<PathBuf>,
    /// Whether the machine stays on, with a shell on the terminal.
    pub keep: bool,
}

/// Boots it and judges by what it says.
pub fn run(request: &Request) -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("error: making a Debian disk needs root".into());
    }
    if request.keep && !std::io::stdin().is_terminal() {
        return Err("error: --keep ends in a shell and needs a terminal".into());
    }
    run::need(&[
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("busybox", "busybox-static"),
        ("cpio", "cpio"),
        ("mke2fs", "e2fsprogs"),
        ("mmdebstrap", "mmdebstrap"),
    ])?;
    let place = run::target().join("vm/systemd");
    fs::create_dir_all(&place).map_err(|e| format!("error: cannot make '{}': {e}", place.display()))?;
    let kernel = Kernel::get(&run::target().join("vm"))?;
    let dist = request.dist.clone().map_or_else(dist::build, Ok)?;
    let old = match &request.from {
        Some(old) => old.clone(),
        // The tilde sorts before everything.
        None => keep(&package::make(&dist, concat!(env!("CARGO_PKG_VERSION"), "~before"))?, &place)?,
    };
    let new = keep(&package::make(&dist, env!("CARGO_PKG_VERSION"))?, &place)?;
    let base = base(&place)?;
    let machine = Machine {
        kernel: &kernel.image()?,
        initial: &image::initial(&place, &kernel)?,
        disk: &disk(&place, &base, &old, &new, request.keep)?,
        // The same system once more, as the root of a container.
        roots: vec![image::file_system(&base, &place.join("container.ext4"), "2G")?],
        log: &place.join("console.log"),
        keep: request.keep,
        deadline: DEADLINE,
    };
    println!("booting Debian; the console is kept in '{}'", machine.log.display());
    let begin = Instant::now();
    judge(&machine.run()?)?;
    println!("passed with systemd in a virtual machine in {} s", begin.elapsed().as_secs());
    Ok(())
}

/// A package is made in the same file again.
fn keep(package: &Path, place: &Path) -> Result<PathBuf, String> {
    let to = place.join(package.file_name().unwrap_or_default());
    fs::copy(package, &to).map_err(|e| format!("error: cannot copy '{}': {e}", package.display()))?;
    Ok(to)
}

/// A Debian without us, made once for each list of packages.
fn base(place: &Path) -> Result<PathBuf, String> {
    let (base, key) = (place.join("base"), place.join("base.packages"));
    let wanted = PACKAGES.join(",");
    if base.is_dir() && fs::read_to_string(&key).is_ok_and(|k| k == wanted) {
        return Ok(base);
    }
    println!("making a Debian of {} packages and what they need", PACKAGES.len());
    remove(&base)?;
    let making = place.join("base.making");
    remove(&making)?;
    run::output(
        Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase"])
            .arg(format!("--include={wanted}"))
            .arg("--dpkgopt=path-exclude=/usr/share/{locale,doc,man}/*")
            .arg(SUITE)
            .arg(&making),
    )?;
    fs::rename(&making, &base)
        .and_then(|()| fs::write(&key, wanted))
        .map_err(|e| format!("error: cannot keep '{}': {e}", base.display()))?;
    Ok(base)
}

/// The machine's disk: that Debian, the older package installed, a domain that starts with the host, and the test.
fn disk(place: &Path, base: &Path, old: &Path, new: &Path, keep: bool) -> Result<PathBuf, String> {
    let root = place.join("root");
    remove(&root)?;
    run::output(Command::new("cp").arg("-a").arg(base).arg(&root))?;
    let at = |path: &str| root.join(path);
    let write = |path: &str, text: &str, mode: u32| {
        let path = at(path);
        path.parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&path, text))
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
            .map_err(|e| format!("error: cannot write '{}': {e}", path.display()))
    };
    for (package, name) in [(old, "root/old.deb"), (new, "root/new.deb")] {
        fs::copy(package, at(name))
            .map_err(|e| format!("error: cannot copy '{}': {e}", package.display()))?;
    }
    // Recommended packages are not there, and need not be. The chroot has no service manager, as an image has none.
    run::output(
        Command::new("chroot")
            .arg(&root)
            .args(["dpkg", "--install", "/root/old.deb"])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )?;
    write("root/test", TEST, 0o755)?;
    write("root/keep", if keep { "yes\n" } else { "no\n" }, 0o644)?;
    write("etc/systemd/system/berth-test.service", UNIT, 0o644)?;
    write("etc/hostname", "berth-vm\n", 0o644)?;
    write("etc/fstab", "/dev/vda / ext4 rw 0 0\n", 0o644)?;
    let link = |to: &str, from: &str| {
        let from = at(from);
        from.parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| symlink(to, &from))
            .map_err(|e| format!("error: cannot link '{}': {e}", from.display()))
    };
    link(
        "/etc/systemd/system/berth-test.service",
        "etc/systemd/system/multi-user.target.wants/berth-test.service",
    )?;
    for unit in MASKED {
        link("/dev/null", &format!("etc/systemd/system/{unit}"))?;
    }
    // Where the initial file system goes on to.
    link("lib/systemd/systemd", "init")?;
    busybox(&root)?;
    write("etc/berth/domains/auto.xml", &domain("auto"), 0o600)?;
    write("root/deb.xml", &domain("deb").replace("/srv/box", "/srv/deb").replace(">64<", ">512<"), 0o600)?;
    fs::create_dir_all(at("srv/deb")).map_err(|e| format!("error: cannot make a folder: {e}"))?;
    link("../domains/auto.xml", "etc/berth/autostart/auto.xml")?;
    image::file_system(&root, &place.join("root.ext4"), "4G")
}

/// The root of the small containers.
fn busybox(root: &Path) -> Result<(), String> {
    let script = "cd /srv && mkdir -p box && cd box && \
        mkdir -p bin sbin dev etc proc root run sys tmp && cp /bin/busybox bin/busybox && \
        for name in $(bin/busybox --list | grep -vx busybox); do ln -s busybox bin/$name; done && ln -s ../bin/busybox sbin/init && \
        printf 'root:x:0:0:root:/root:/bin/sh\\n' > etc/passwd && printf '::shutdown:/bin/true\\n' > etc/inittab";
    run::output(Command::new("chroot").arg(root).args(["/bin/sh", "-c", script])).map(drop)
}

fn domain(name: &str) -> String {
    format!(
        "<domain type='lxc'>\n  <name>{name}</name>\n  <memory unit='MiB'>64</memory>\n  <os>\n    <type>exe</type>\n    \
         <init>/sbin/init</init>\n  </os>\n  <devices>\n    <filesystem type='mount'>\n      <source dir='/srv/box'/>\n      \
         <target dir='/'/>\n    </filesystem>\n    <console type='pty'/>\n  </devices>\n</domain>\n"
    )
}

/// Success is a verdict of zero.
fn judge(console: &str) -> Result<(), String> {
    match console.lines().rev().find_map(|l| l.split_once(VERDICT)) {
        Some((_, "0")) => Ok(()),
        Some((_, status)) if status.trim() == "0" => Ok(()),
        Some((_, status)) => Err(format!("error: in the machine {} checks failed", status.trim())),
        None => Err("error: the machine ended before the checks did".into()),
    }
}
