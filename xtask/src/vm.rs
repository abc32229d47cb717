//! The privileged tests in a virtual machine: Debian's kernel, control groups v2 alone, and nothing but our programs.
//!
//! It knows how to get a kernel, how to put programs and their libraries into a root file system, and how to read
//! the verdict off a serial console. It does not know what the tests do, except which of them cannot hold their
//! deadlines on a processor that is emulated, and it changes nothing on this machine outside the target folder.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::{dist, run};

const USAGE: &str = "usage: cargo xtask vm [--only PATTERN] [--keep]";

/// Always Debian's newest kernel without drivers for real hardware.
const KERNEL: &str = "linux-image-cloud-amd64";

/// How long everything in the machine may take together.
const DEADLINE: Duration = Duration::from_secs(20 * 60);

/// What the machine prints after the tests, followed by their exit status.
const VERDICT: &str = "berth-vm: exit status ";

/// Where the programs are inside the machine.
const PROGRAMS: &str = "/usr/libexec/berth";

/// Tests (or, with `::` at the end, modules) that are left out, and why.
const SKIPS: &[(&str, &str)] = &[
    ("debian::", "there is no network to make a Debian root from, and systemd takes minutes to boot here"),
    (
        "life::destroy_is_fast_and_does_not_ask",
        "its 150 ms are what an emulated processor needs, give or take",
    ),
    ("soak::", "the repetitions take minutes on an emulated processor"),
    ("adoption::two_hundred_within_a_second", "a second of an emulated processor is a tenth of a real one"),
    (
        "console::memory_stays_after_a_gigabyte",
        "an emulated processor needs more than its 240 s for a gigabyte",
    ),
];

/// What is asked for on the command line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    /// Part of the names of the tests to run.
    only: Option<String>,
    /// Whether the machine stays on after the tests, with a shell on the terminal.
    keep: bool,
}

/// `vm [--only PATTERN] [--keep]`.
pub fn run(words: &[&str]) -> Result<(), String> {
    let request = parse(words)?;
    if std::env::consts::ARCH != "x86_64" {
        return Err("error: the virtual machine is an x86_64 and needs programs for it".into());
    }
    if request.keep && !std::io::stdin().is_terminal() {
        return Err("error: --keep ends in a shell and needs a terminal".into());
    }
    run::need(&[
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("busybox", "busybox-static"),
        ("cpio", "cpio"),
        ("setsid", "util-linux"),
    ])?;
    let place = run::target().join("vm");
    fs::create_dir_all(&place).map_err(|e| format!("error: cannot make '{}': {e}", place.display()))?;
    let kernel = kernel(&place)?;
    println!("building");
    let dist = dist::binaries()?;
    let tests = test_program()?;
    let image = image(&place, &dist, &tests, &request)?;
    let log = place.join("console.log");
    println!("booting '{}'; the console is kept in '{}'", kernel.display(), log.display());
    for (test, reason) in skips(request.only.as_deref()) {
        println!("left out: {test}: {reason}");
    }
    let begin = Instant::now();
    let text = boot(&kernel, &image, &log, request.keep)?;
    judge(&text)?;
    println!("passed in a virtual machine in {} s", begin.elapsed().as_secs());
    Ok(())
}

fn parse(words: &[&str]) -> Result<Request, String> {
    let mut request = Request::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--keep" => request.keep = true,
            "--only" => {
                // The harness would take a word with a dash for an option.
                let pattern = words.next().filter(|p| !p.is_empty() && !p.starts_with('-')).ok_or(USAGE)?;
                request.only = Some((*pattern).to_owned());
            }
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(request)
}

/// The tests to leave out. Who asks for one of them by its name gets it.
fn skips(only: Option<&str>) -> Vec<(&'static str, &'static str)> {
    SKIPS.iter().copied().filter(|(test, _)| !only.is_some_and(|o| o.starts_with(test))).collect()
}

/// The words for the test program.
fn arguments(only: Option<&str>) -> Vec<String> {
    // One at a time: the deadlines in the tests are for real processors.
    let mut words = vec!["--test-threads=1".to_owned(), "--color=never".to_owned()];
    for (test, _) in skips(only) {
        words.extend(["--skip".to_owned(), test.to_owned()]);
    }
    words.extend(only.map(str::to_owned));
    words
}

/// Gets and unpacks the kernel, unless it is there from the last time.
fn kernel(place: &Path) -> Result<PathBuf, String> {
    let unpacked = place.join("kernel");
    if let Some(kernel) = find_kernel(&unpacked) {
        return Ok(kernel);
    }
    for program in ["apt-get", "apt-cache", "dpkg-deb"] {
        if !run::has(program) {
            return Err(format!("error: the kernel comes from a Debian package, and there is no {program}"));
        }
    }
    let found = || -> Result<String, String> {
        let text = run::output(Command::new("apt-cache").args(["show", "--no-all-versions", KERNEL]))?;
        real_package(&text).ok_or_else(|| format!("error: the package {KERNEL} depends on no kernel"))
    };
    let fetch = || -> Result<PathBuf, String> {
        let package = found()?;
        println!("getting {package}");
        let fresh = place.join("package");
        remove(&fresh)?;
        fs::create_dir_all(&fresh).map_err(|e| format!("error: cannot make '{}': {e}", fresh.display()))?;
        run::output(Command::new("apt-get").current_dir(&fresh).args(["download", "-qq"]).arg(&package))?;
        entries(&fresh)?.pop().ok_or_else(|| format!("error: {package} was not downloaded"))
    };
    // The package lists of a fresh machine are empty or old.
    let package = fetch().or_else(|first| {
        if !nix::unistd::geteuid().is_root() {
            return Err(first);
        }
        run::check(Command::new("apt-get").args(["update", "-qq"]))?;
        fetch()
    })?;
    let beside = place.join("kernel.new");
    remove(&beside)?;
    run::check(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&beside))?;
    remove(&unpacked)?;
    remove(&place.join("package"))?;
    fs::rename(&beside, &unpacked)
        .map_err(|e| format!("error: cannot rename '{}': {e}", beside.display()))?;
    find_kernel(&unpacked).ok_or_else(|| format!("error: there is no kernel in '{}'", package.display()))
}

fn find_kernel(unpacked: &Path) -> Option<PathBuf> {
    let is_kernel = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("vmlinuz-"));
    entries(&unpacked.join("boot")).ok()?.into_iter().find(is_kernel)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let fail = |e| format!("error: cannot list '{}': {e}", dir.display());
    fs::read_dir(dir).map_err(fail)?.map(|e| e.map(|e| e.path()).map_err(fail)).collect()
}

fn remove(dir: &Path) -> Result<(), String> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("error: cannot remove '{}': {e}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// The package with the kernel in it, of which `KERNEL` is only another name, from what `apt-cache show` prints.
fn real_package(shown: &str) -> Option<String> {
    let depends = shown.lines().find_map(|l| l.strip_prefix("Depends:"))?;
    let names = depends.split([',', '|']).filter_map(|d| d.split_whitespace().next());
    names.into_iter().find(|n| n.starts_with("linux-image-")).map(str::to_owned)
}

/// Builds the privileged tests and tells where they are.
fn test_program() -> Result<PathBuf, String> {
    // The same build as that of `cargo xtask test`, so it is often there already.
    let messages = run::output(
        run::cargo()
            .args(["test", "--no-run", "--quiet", "--message-format=json"])
            .args(["--package", "berth-tests", "--test", "privileged"])
            .stderr(Stdio::inherit()),
    )?;
    executable(&messages, "privileged").ok_or_else(|| "error: cargo built no tests".into())
}

/// The program that belongs to a target, from the messages of cargo.
fn executable(messages: &str, target: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == target)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

/// Makes the initial file system of the machine.
fn image(place: &Path, dist: &Path, tests: &Path, request: &Request) -> Result<PathBuf, String> {
    let root = place.join("root");
    remove(&root)?;
    let busybox = program("busybox")?;
    if !libraries(&busybox)?.is_empty() {
        return Err(format!("error: '{}' is not static; install busybox-static", busybox.display()));
    }
    let real = root.join("real");
    for dir in ["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr/bin", "var"] {
        let dir = real.join(dir);
        fs::create_dir_all(&dir).map_err(|e| format!("error: cannot make '{}': {e}", dir.display()))?;
    }
    copy(&busybox, &root.join("bin/busybox"))?;
    copy(&busybox, &real.join("bin/busybox"))?;
    let inside = |path: &str| real.join(path.trim_start_matches('/'));
    let programs = inside(PROGRAMS);
    for name in ["berthd", "berth-controller", "virsh-lite"] {
        copy(&dist.join(name), &programs.join(name))?;
    }
    copy(tests, &programs.join("privileged"))?;
    // That of busybox cannot do what the tests need.
    copy(&program("setsid")?, &real.join("usr/bin/setsid"))?;
    let mut needed = BTreeSet::new();
    for program in [tests, &dist.join("berthd"), &dist.join("virsh-lite"), &program("setsid")?] {
        needed.extend(libraries(program)?);
    }
    for library in needed {
        copy(Path::new(&library), &inside(&library))?;
    }
    write(&root.join("init"), FIRST_SCRIPT)?;
    write(&real.join("init"), &second_script(&arguments(request.only.as_deref()), request.keep))?;
    write(&real.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    write(&real.join("etc/group"), "root:x:0:\n")?;
    write(&real.join("etc/hostname"), "berth-vm\n")?;
    pack(&root, &place.join("image.cpio"))
}

/// Where a program is, looking it up on PATH.
fn program(name: &str) -> Result<PathBuf, String> {
    std::env::var_os("PATH")
        .iter()
        .flat_map(std::env::split_paths)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| format!("error: there is no program '{name}'"))
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    to.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::copy(from, to))
        .map(drop)
        .map_err(|e| format!("error: cannot copy '{}' to '{}': {e}", from.display(), to.display()))
}

/// Writes a file, executable, since most of ours are.
fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
        .map_err(|e| format!("error: cannot write '{}': {e}", path.display()))
}

/// The shared libraries of a program and its loader; none if it is static.
fn libraries(program: &Path) -> Result<BTreeSet<String>, String> {
    let output = Command::new("ldd")
        .arg(program)
        .env("LC_ALL", "C")
        .output()
        .map_err(|e| format!("error: cannot run ldd: {e}"))?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() || format!("{out}{err}").contains("not a dynamic executable") {
        parse_ldd(&out).map_err(|name| format!("error: {} needs {name}, which is missing", program.display()))
    } else {
        Err(format!("error: `ldd {}` failed: {}\n{err}", program.display(), output.status))
    }
}

/// The paths in the output of ldd, or the name of a library that it did not find.
fn parse_ldd(text: &str) -> Result<BTreeSet<String>, String> {
    let mut paths = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        // `NAME => PATH (ADDRESS)`, or `PATH (ADDRESS)` for the loader, or `NAME (ADDRESS)` for what the kernel maps.
        let (name, path) = line.split_once(" => ").unwrap_or((line, line));
        if path.starts_with("not found") {
            return Err(name.to_owned());
        }
        paths.extend(path.split(" (").next().filter(|p| p.starts_with('/')).map(str::to_owned));
    }
    Ok(paths)
}

/// Packs a folder into a cpio archive, everything owned by root.
fn pack(root: &Path, archive: &Path) -> Result<PathBuf, String> {
    let fail = |e: std::io::Error| format!("error: cannot make '{}': {e}", archive.display());
    let file = File::create(archive).map_err(fail)?;
    let mut cpio = Command::new("cpio")
        .current_dir(root)
        .args(["--quiet", "--null", "--create", "--format=newc", "--owner=0:0"])
        .stdin(Stdio::piped())
        .stdout(file)
        .spawn()
        .map_err(|e| format!("error: cannot run cpio: {e}"))?;
    let mut names = Vec::new();
    list(root, root, &mut names)?;
    let told = match cpio.stdin.take() {
        Some(mut stdin) => stdin.write_all(&names),
        None => Ok(()),
    };
    let status = cpio.wait().map_err(fail)?;
    told.map_err(fail)?;
    if status.success() { Ok(archive.to_owned()) } else { Err(format!("error: cpio failed: {status}")) }
}

/// Lists what is in a folder, each name with a zero byte after it, folders before what is in them.
fn list(root: &Path, dir: &Path, names: &mut Vec<u8>) -> Result<(), String> {
    use std::os::unix::ffi::OsStrExt;
    let mut inside = entries(dir)?;
    inside.sort();
    for path in inside {
        let name = path.strip_prefix(root).unwrap_or(&path);
        names.extend(name.as_os_str().as_bytes());
        names.push(0);
        if path.is_dir() && !path.is_symlink() {
            list(root, &path, names)?;
        }
    }
    Ok(())
}

/// The first process, on the initial file system. No container can be made from there: `pivot_root` refuses to move
/// the root that the kernel unpacks into, so everything moves to a tmpfs.
const FIRST_SCRIPT: &str = "#!/bin/busybox sh
/bin/busybox mkdir /newroot
/bin/busybox mount -t tmpfs -o mode=755,size=75% root /newroot
/bin/busybox cp -a /real/. /newroot/
exec /bin/busybox switch_root /newroot /init
";

/// The first process after that: makes a host as systemd would, runs the tests, and turns the machine off.
fn second_script(arguments: &[String], keep: bool) -> String {
    let words: Vec<String> = arguments.iter().map(|w| quote(w)).collect();
    let end = if keep {
        // The shell would take its own setsid for one without a path.
        "echo 'This shell is inside the machine; its end is that of the machine.'
cd /root
/usr/bin/setsid --ctty --wait sh -l < /dev/ttyS0 > /dev/ttyS0 2>&1
"
    } else {
        ""
    };
    format!(
        "#!/bin/busybox sh
export PATH={PROGRAMS}:/usr/bin:/bin HOME=/root TERM=linux BERTH_DIST={PROGRAMS} RUST_BACKTRACE=1
/bin/busybox --install -s /bin
mount --make-rshared /
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t devtmpfs -o nosuid,mode=755 devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o nosuid,noexec,gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs /dev/shm
mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs /run
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs /tmp
mount -t securityfs -o nosuid,nodev,noexec securityfs /sys/kernel/security
mount -t cgroup2 -o nosuid,nodev,noexec,nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup
exec < /dev/console > /dev/console 2>&1
hostname -F /etc/hostname
ip link set lo up
mkdir /sys/fs/cgroup/system.slice
echo $$ > /sys/fs/cgroup/system.slice/cgroup.procs
echo \"$(uname -sr), $(nproc) processors, control groups: $(cat /sys/fs/cgroup/cgroup.controllers), security: $(cat /sys/kernel/security/lsm)\"
{PROGRAMS}/privileged {}
echo '{VERDICT}'$?
{end}poweroff -f
",
        words.join(" ")
    )
}

/// A word for a shell, as it is.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Runs the machine to its end and returns what it printed.
fn boot(kernel: &Path, image: &Path, log: &Path, keep: bool) -> Result<String, String> {
    let file = File::create(log).map_err(|e| format!("error: cannot make '{}': {e}", log.display()))?;
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048"])
        .args(["-chardev", if keep { "stdio,id=console,signal=off" } else { "stdio,id=console" }])
        .args(["-serial", "chardev:console"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(image)
        // Errors of the kernel are shown, and a panic ends the machine.
        .args([
            "-append",
            "console=ttyS0 quiet panic=-1 lsm=landlock,lockdown,yama,integrity,apparmor,bpf rdinit=/init",
        ])
        .stdin(if keep { Stdio::inherit() } else { Stdio::null() })
        .stdout(Stdio::piped());
    let mut child = qemu.spawn().map_err(|e| format!("error: cannot run qemu-system-x86_64: {e}"))?;
    let reader = child.stdout.take().map(|out| thread::spawn(move || copy_console(out, file)));
    let ended = wait(&mut child, if keep { None } else { Some(DEADLINE) });
    let text = reader.map_or(Ok(String::new()), |r| {
        JoinHandle::join(r).unwrap_or_else(|_| Err("error: reading the console failed".into()))
    });
    match ended? {
        Some(status) if status.success() => text,
        Some(status) => Err(format!("error: qemu-system-x86_64 failed: {status}")),
        None => Err(format!("error: the machine was not done after {} s and was killed", DEADLINE.as_secs())),
    }
}

/// Shows what the machine prints and keeps it.
fn copy_console(mut from: ChildStdout, mut log: File) -> Result<String, String> {
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let n = from.read(&mut buffer).map_err(|e| format!("error: cannot read the console: {e}"))?;
        let Some(bytes) = buffer.get(..n).filter(|b| !b.is_empty()) else { break };
        all.extend(bytes);
        log.write_all(bytes).map_err(|e| format!("error: cannot write the console's log: {e}"))?;
        // Nobody has to watch.
        let mut out = std::io::stdout();
        let _ = out.write_all(bytes).and_then(|()| out.flush());
    }
    Ok(String::from_utf8_lossy(&all).into_owned())
}

/// Waits for the end of a program; after the deadline kills it, and then there is no status.
fn wait(child: &mut Child, deadline: Option<Duration>) -> Result<Option<ExitStatus>, String> {
    let fail = |e| format!("error: cannot wait for qemu-system-x86_64: {e}");
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(fail)? {
            return Ok(Some(status));
        }
        if deadline.is_some_and(|d| begin.elapsed() > d) {
            child.kill().map_err(fail)?;
            return child.wait().map(|_| None).map_err(fail);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Success is a verdict of zero, and tests that ran: a machine in which nothing can run leaves all of them out.
fn judge(console: &str) -> Result<(), String> {
    let status = console
        .lines()
        .rev()
        .find_map(|l| l.split_once(VERDICT))
        .ok_or("error: the machine ended before the tests did")?
        .1
        .trim();
    if status != "0" {
        return Err(format!("error: the tests in the machine failed with status {status}"));
    }
    let passed = console
        .lines()
        .rev()
        .find_map(|l| l.trim().strip_prefix("test result: ok. "))
        .and_then(|l| l.split_whitespace().next()?.parse::<u32>().ok());
    match passed {
        Some(0) | None => Err("error: no test ran in the machine".into()),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn words_of_the_command() {
        let request = |only: Option<&str>, keep| Request { only: only.map(str::to_owned), keep };
        assert_eq!(parse(&[]), Ok(request(None, false)));
        assert_eq!(parse(&["--keep", "--only", "life::"]), Ok(request(Some("life::"), true)));
        for wrong in [&["--only"][..], &["--only", ""], &["--only", "--list"], &["life::"]] {
            assert_eq!(parse(wrong), Err(USAGE.to_owned()), "{wrong:?}");
        }
    }

    #[test]
    fn skips_what_nobody_asked_for() {
        let skipped = |only: Option<&str>| skips(only).into_iter().map(|(t, _)| t).collect::<Vec<_>>();
        let all = skipped(None);
        assert_eq!(all.len(), SKIPS.len());
        assert_eq!(skipped(Some("life::")), all);
        assert_eq!(skipped(Some("console::")), all);
        assert!(!skipped(Some("soak::calls")).contains(&"soak::"));
        assert!(
            !skipped(Some("console::memory_stays_after_a_gigabyte")).iter().any(|t| t.starts_with("con"))
        );
        assert!(SKIPS.iter().all(|(_, reason)| !reason.is_empty()));
    }

    #[test]
    fn words_for_the_tests() {
        let words = arguments(Some("life::"));
        assert_eq!(words.first().map(String::as_str), Some("--test-threads=1"));
        assert_eq!(words.last().map(String::as_str), Some("life::"));
        assert_eq!(words.iter().filter(|w| *w == "--skip").count(), SKIPS.len());
        assert_eq!(arguments(None).len(), 2 + 2 * SKIPS.len());
    }

    #[test]
    fn finds_the_kernel_behind_the_name() {
        let shown = "Package: linux-image-cloud-amd64\nProvides: linux-image-none\n\
                     Depends: linux-base (>= 4), linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)\n";
        assert_eq!(real_package(shown).as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        let alternatives =
            "Depends: linux-image-6.12.1-cloud-amd64|linux-image-6.12.1-cloud-amd64-unsigned\n";
        assert_eq!(real_package(alternatives).as_deref(), Some("linux-image-6.12.1-cloud-amd64"));
        assert_eq!(real_package("Package: linux-image-cloud-amd64\n"), None);
    }

    #[test]
    fn finds_the_program_in_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"berth_tests"},"executable":null}
Compiling something
{"reason":"compiler-artifact","target":{"name":"privileged"},"executable":"/t/debug/deps/privileged-1"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "privileged"), Some(PathBuf::from("/t/debug/deps/privileged-1")));
        assert_eq!(executable(messages, "berth_tests"), None);
        assert_eq!(executable("", "privileged"), None);
    }

    #[test]
    fn reads_ldd() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(parse_ldd(text), Ok(expected.map(str::to_owned).into()));
        assert_eq!(parse_ldd("\tlibx.so.1 => not found\n"), Err("libx.so.1".to_owned()));
        assert_eq!(parse_ldd("\tstatically linked\n"), Ok(BTreeSet::new()));
    }

    #[test]
    fn words_reach_the_shell_as_they_are() {
        assert_eq!(quote("life::a_$HOME"), "'life::a_$HOME'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        let script = second_script(&["--skip".into(), "a b".into()], false);
        assert!(script.contains("/privileged '--skip' 'a b'\n"), "{script}");
        assert!(script.ends_with("echo 'berth-vm: exit status '$?\npoweroff -f\n"), "{script}");
        assert!(!script.contains("inside the machine") && second_script(&[], true).contains("setsid --ctty"));
    }

    #[test]
    fn scripts_are_shell() -> Result<(), Box<dyn std::error::Error>> {
        for script in [FIRST_SCRIPT.to_owned(), second_script(&arguments(Some("it's")), true)] {
            assert!(Command::new("sh").args(["-n", "-c", &script]).status()?.success(), "{script}");
        }
        Ok(())
    }

    #[test]
    fn judges_by_the_last_word() {
        let passed = "test result: ok. 54 passed; 0 failed; 0 ignored; 0 measured; 7 filtered out\r\n";
        let failed = "test result: FAILED. 50 passed; 4 failed; 0 ignored\r\n";
        assert_eq!(judge(&format!("{passed}\r\nberth-vm: exit status 0\r\n")), Ok(()));
        let error = |text: &str| judge(text).err().unwrap_or_default();
        assert!(error(&format!("{failed}berth-vm: exit status 101\r\n")).contains("101"));
        assert!(error(passed).contains("before the tests did"));
        assert!(error("berth-vm: exit status 0\r\n").contains("no test ran"));
        let ignored = "test result: ok. 0 passed; 0 failed; 61 ignored\r\nberth-vm: exit status 0\r\n";
        assert!(error(ignored).contains("no test ran"));
    }

    #[test]
    fn a_program_that_goes_on_is_killed() -> Result<(), Box<dyn std::error::Error>> {
        let mut child = Command::new("sleep").arg("1000").spawn()?;
        assert_eq!(wait(&mut child, Some(Duration::from_millis(50))), Ok(None));
        let mut child = Command::new("true").spawn()?;
        assert!(wait(&mut child, Some(Duration::from_secs(10)))?.is_some_and(|s| s.success()));
        Ok(())
    }

    #[test]
    fn packs_folders_before_their_files() -> Result<(), Box<dyn std::error::Error>> {
        let root = tempfile::tempdir()?;
        fs::create_dir(root.path().join("bin"))?;
        fs::write(root.path().join("bin/b"), "")?;
        std::os::unix::fs::symlink("bin", root.path().join("link"))?;
        let mut names = Vec::new();
        list(root.path(), root.path(), &mut names)?;
        assert_eq!(names, b"bin\0bin/b\0link\0");
        Ok(())
    }
}
