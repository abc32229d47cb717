//! What the machine starts from: an initial file system with the modules, and a disk with our programs.
//!
//! It knows how to put programs and their libraries into a root, and how to make a file system of a folder without
//! mounting anything. It does not know what the tests do with it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::kernel::{Kernel, MODULES};
use super::machine::NIC;
use super::remove;
use crate::run;

/// Where our programs are inside the machine.
const PROGRAMS: &str = "/usr/libexec/berth";

const FIRST: &str = include_str!("first.sh");
const SECOND: &str = include_str!("second.sh");

/// Programs of this machine that the tests call in there (those of busybox cannot do what they need), where they are
/// put, and their packages.
pub const TOOLS: &[(&str, &str, &str)] = &[
    ("setsid", "/usr/bin", "util-linux"),
    ("nsenter", "/usr/bin", "util-linux"),
    ("unshare", "/usr/bin", "util-linux"),
    ("setpriv", "/usr/bin", "util-linux"),
    ("ip", "/usr/sbin", "iproute2"),
    ("bridge", "/usr/sbin", "iproute2"),
    ("tc", "/usr/sbin", "iproute2"),
    ("ping", "/usr/bin", "iputils-ping"),
    ("iperf3", "/usr/bin", "iperf3"),
    ("dnsmasq", "/usr/sbin", "dnsmasq-base"),
    ("nft", "/usr/sbin", "nftables"),
    ("apparmor_parser", "/usr/sbin", "apparmor"),
    ("aa-exec", "/usr/bin", "apparmor"),
    ("losetup", "/usr/sbin", "mount"),
    ("debugfs", "/usr/sbin", "e2fsprogs"),
    ("mke2fs", "/usr/sbin", "e2fsprogs"),
    ("mkfs.xfs", "/usr/sbin", "xfsprogs"),
    ("mksquashfs", "/usr/bin", "squashfs-tools"),
    ("qemu-img", "/usr/bin", "qemu-utils"),
    ("qemu-nbd", "/usr/bin", "qemu-utils"),
];

/// What AppArmor's profiles include.
const APPARMOR: &[&str] = &["abi", "abstractions", "tunables"];

/// What goes onto the disk.
pub struct Contents<'a> {
    /// The folder of the release builds.
    pub dist: &'a Path,
    /// The program of the privileged tests.
    pub tests: &'a Path,
    /// The words for that program.
    pub words: &'a [String],
    /// The folders into which the further disks are mounted, in their order.
    pub roots: &'a [String],
    /// Whether a shell comes after it.
    pub keep: bool,
    /// By how much its deadlines are longer.
    pub patience: u32,
}

/// Makes the initial file system: busybox, modules, and the script that goes on to the disk.
pub fn initial(place: &Path, kernel: &Kernel) -> Result<PathBuf, String> {
    let root = place.join("initial");
    remove(&root)?;
    for dir in ["bin", "dev", "newroot"] {
        make_dir(&root.join(dir))?;
    }
    copy(&busybox()?, &root.join("bin/busybox"))?;
    write(&root.join("init"), FIRST)?;
    let modules = root.join("modules");
    let order = kernel.copy_modules(MODULES, &modules)?;
    write(&modules.join("order"), &(order.join("\n") + "\n"))?;
    pack(&root, &place.join("initial.cpio"))
}

/// Makes the disk that becomes the machine's root.
pub fn disk(place: &Path, contents: &Contents) -> Result<PathBuf, String> {
    let root = place.join("root");
    remove(&root)?;
    for dir in
        ["bin", "dev", "etc", "proc", "root", "run", "srv/roots", "sys", "tmp", "usr/bin", "usr/sbin", "var"]
    {
        make_dir(&root.join(dir))?;
    }
    let inside = |path: &str| root.join(path.trim_start_matches('/'));
    copy(&busybox()?, &inside("/bin/busybox"))?;
    let mut needed = BTreeSet::new();
    let mut put = |from: &Path, dir: &str| -> Result<(), String> {
        needed.extend(libraries(from)?);
        copy(from, &inside(dir).join(from.file_name().unwrap_or_default()))
    };
    for program in run::entries(contents.dist)?.iter().filter(|p| p.is_file()) {
        put(program, PROGRAMS)?;
    }
    for (name, dir, _) in TOOLS {
        put(&program(name)?, dir)?;
    }
    needed.extend(libraries(contents.tests)?);
    copy(contents.tests, &inside(PROGRAMS).join("privileged"))?;
    for library in needed {
        copy(Path::new(&library), &inside(&library))?;
    }
    for folder in APPARMOR {
        let folder = Path::new("/etc/apparmor.d").join(folder);
        copy_tree(&folder, &root.join("etc/apparmor.d").join(folder.file_name().unwrap_or_default()))?;
    }
    // What tells ext4 from xfs when a file system is made.
    copy(Path::new("/etc/mke2fs.conf"), &inside("/etc/mke2fs.conf"))?;
    let words: Vec<String> = contents.words.iter().map(|w| quote(w)).collect();
    let settings = format!(
        "PROGRAMS={PROGRAMS}\nNIC={NIC}\nPATIENCE={}\nROOTS={}\nKEEP={}\nWORDS={}\n",
        contents.patience,
        quote(&contents.roots.join(" ")),
        if contents.keep { "yes" } else { "no" },
        quote(&words.join(" "))
    );
    write(&root.join("init"), SECOND)?;
    write(&inside("/etc/berth-vm"), &settings)?;
    write(&inside("/etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")?;
    write(&inside("/etc/group"), "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n")?;
    write(&inside("/etc/hostname"), "berth-vm\n")?;
    file_system(&root, &place.join("root.ext4"), "4G")
}

/// Makes an ext4 of a folder. The file has holes: it is as large as what is in it.
pub fn file_system(root: &Path, disk: &Path, size: &str) -> Result<PathBuf, String> {
    match fs::remove_file(disk) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(format!("error: cannot remove '{}': {e}", disk.display()));
        }
        _ => {}
    }
    // The machine's disk does not outlive it, so nothing needs a journal.
    run::output(
        Command::new(program("mke2fs")?)
            .args(["-q", "-F", "-t", "ext4", "-m", "0", "-O", "^has_journal", "-E", "root_owner=0:0", "-d"])
            .args([root, disk])
            .arg(size),
    )?;
    Ok(disk.to_owned())
}

/// A static busybox: it runs before there are libraries.
fn busybox() -> Result<PathBuf, String> {
    let busybox = program("busybox")?;
    if libraries(&busybox)?.is_empty() {
        Ok(busybox)
    } else {
        Err(format!("error: '{}' is not static; install busybox-static", busybox.display()))
    }
}

/// Where a program is, looking it up on PATH.
fn program(name: &str) -> Result<PathBuf, String> {
    run::find(name).ok_or_else(|| format!("error: there is no program '{name}'"))
}

fn make_dir(dir: &Path) -> Result<(), String> {
    fs::create_dir_all(dir).map_err(|e| format!("error: cannot make '{}': {e}", dir.display()))
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    to.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::copy(from, to))
        .map(drop)
        .map_err(|e| format!("error: cannot copy '{}' to '{}': {e}", from.display(), to.display()))
}

fn copy_tree(from: &Path, to: &Path) -> Result<(), String> {
    make_dir(to)?;
    for path in run::entries(from)? {
        let to = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() { copy_tree(&path, &to)? } else { copy(&path, &to)? }
    }
    Ok(())
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
    let mut inside = run::entries(dir)?;
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

/// A word for a shell, as it is.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod test {
    use super::*;

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
    fn words_reach_the_program_as_they_are() -> Result<(), Box<dyn std::error::Error>> {
        let words = ["life::a_$HOME", "it's", "a  b"];
        let quoted: Vec<String> = words.iter().map(|w| quote(w)).collect();
        // As /init does it.
        let script = format!("WORDS={}; eval \"printf '<%s>' $WORDS\"", quote(&quoted.join(" ")));
        let output = Command::new("sh").args(["-c", &script]).output()?;
        assert_eq!(String::from_utf8(output.stdout)?, "<life::a_$HOME><it's><a  b>");
        Ok(())
    }

    #[test]
    fn scripts_are_shell() -> Result<(), Box<dyn std::error::Error>> {
        for script in [FIRST, SECOND] {
            assert!(Command::new("sh").args(["-n", "-c", script]).status()?.success(), "{script}");
        }
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
