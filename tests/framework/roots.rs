//! Roots for containers.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Outcome;

/// Where this machine has a static busybox.
pub fn busybox() -> Option<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox"].into_iter().map(PathBuf::from).find(|p| p.exists())
}

/// Makes a root with busybox, the usual folders, and a passwd file with `root` and `guest` (1000).
pub fn make_busybox(root: &Path) -> Outcome {
    let fail = |e: std::io::Error| format!("cannot make a root in '{}': {e}", root.display());
    for dir in ["bin", "sbin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "home/guest"] {
        fs::create_dir_all(root.join(dir)).map_err(fail)?;
    }
    let busybox = busybox().ok_or("no busybox in /bin or /usr/bin")?;
    fs::copy(&busybox, root.join("bin/busybox")).map_err(fail)?;
    // Not the copy: another thread that forks right now could still have it open for writing (ETXTBSY).
    let list = Command::new(&busybox).arg("--list").output().map_err(fail)?;
    for name in String::from_utf8_lossy(&list.stdout).lines().filter(|n| *n != "busybox") {
        symlink("busybox", root.join("bin").join(name)).map_err(fail)?;
    }
    symlink("../bin/busybox", root.join("sbin/init")).map_err(fail)?;
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1000::/home/guest:/bin/sh\n",
    )
    .map_err(fail)?;
    fs::write(root.join("etc/group"), "root:x:0:\nguest:x:1000:\nextra:x:1001:guest\n").map_err(fail)
}

/// Writes a shell script into a root, executable.
pub fn script(root: &Path, path: &str, text: &str) -> Outcome {
    let path = root.join(path);
    fs::write(&path, format!("#!/bin/sh\n{text}\n"))
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
        .map_err(|e| format!("cannot write '{}': {e}", path.display()))
}

/// A Debian root made by mmdebstrap, with the password `berth` for root, made once and kept in the target folder.
/// The tests boot it and leave nothing in it that would change another boot. Making it needs a network.
pub fn debian(suite: &str) -> Result<PathBuf, String> {
    let folder = match std::env::var_os("BERTH_ROOTS") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/roots"),
    };
    let root = folder.join(suite);
    if root.join("etc/shadow").exists() {
        return Ok(root);
    }
    fs::create_dir_all(&folder).map_err(|e| format!("cannot make '{}': {e}", folder.display()))?;
    let making = folder.join(format!("{suite}.making"));
    if making.exists() {
        fs::remove_dir_all(&making).map_err(|e| format!("cannot remove '{}': {e}", making.display()))?;
    }
    let output = Command::new("mmdebstrap")
        .args(["--quiet", "--include=vim-tiny", suite])
        .arg(&making)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot run mmdebstrap: {e}"))?;
    if !output.status.success() {
        return Err(format!("mmdebstrap failed: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let password = Command::new("chroot")
        .arg(&making)
        .args(["sh", "-c", "echo root:berth | chpasswd"])
        .status()
        .map_err(|e| format!("cannot run chroot: {e}"))?;
    if !password.success() {
        return Err("cannot set the password of root".into());
    }
    fs::rename(&making, &root).map_err(|e| format!("cannot rename '{}': {e}", making.display()))?;
    Ok(root)
}
