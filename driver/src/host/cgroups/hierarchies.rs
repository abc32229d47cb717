//! The hierarchies of control groups that the host has mounted. Does not know what groups are in them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{CgroupError, failed};

/// One v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Legacy {
    pub(super) mount: PathBuf,
    /// Controllers, and `name=...` of a hierarchy without one.
    pub(super) controllers: Vec<String>,
}

/// The v2 tree and the v1 hierarchies among the mounts. Of several mounts of one hierarchy the first is taken.
pub fn parse_mountinfo(text: &str) -> (Option<PathBuf>, Vec<Legacy>) {
    let (mut unified, mut legacy) = (None, Vec::<Legacy>::new());
    for line in text.lines() {
        let Some((front, back)) = line.split_once(" - ") else { continue };
        let Some(mount) = front.split(' ').nth(4).map(unescape) else { continue };
        let mut back = back.split(' ');
        match back.next() {
            Some("cgroup2") if unified.is_none() => unified = Some(mount),
            Some("cgroup") => {
                let options = back.nth(1).unwrap_or_default();
                let skip = ["rw", "ro", "xattr", "clone_children", "noprefix"];
                let controllers: Vec<String> = options
                    .split(',')
                    .filter(|o| !skip.contains(o) && !o.starts_with("release_agent="))
                    .map(str::to_owned)
                    .collect();
                if !legacy.iter().any(|l| l.controllers == controllers) {
                    legacy.push(Legacy { mount, controllers });
                }
            }
            _ => {}
        }
    }
    (unified, legacy)
}

/// Undoes the octal escapes of proc(5)'s mountinfo.
fn unescape(path: &str) -> PathBuf {
    let mut out = path.to_owned();
    for (code, text) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        out = out.replace(code, text);
    }
    out.into()
}

/// Mounts the v2 tree on a folder of ours, where the host has not.
pub(super) fn mount_unified(path: &Path) -> Result<PathBuf, CgroupError> {
    use rustix::mount::MountFlags;
    match fs::create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(failed("make", path)(e)),
        _ => {}
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("cgroup2", path, "cgroup2", flags, None)
        .map_err(|e| failed("mount a cgroup2 tree on", path)(e.into()))?;
    Ok(path.to_owned())
}

#[cfg(test)]
mod test {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset,clone_children
35 31 0:32 / /sys/fs/cgroup/me\\040mory rw shared:9 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
42 31 0:32 / /mnt/again rw - cgroup cgroup rw,memory
";

    #[test]
    fn hierarchies_are_found_once() {
        let (unified, legacy) = parse_mountinfo(HYBRID);
        assert_eq!(unified.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
        let names: Vec<_> = legacy.iter().map(|l| l.controllers.join("+")).collect();
        assert_eq!(names, ["cpu+cpuacct", "cpuset", "memory", "name=systemd"]);
        assert_eq!(legacy[2].mount, Path::new("/sys/fs/cgroup/me mory"));
        assert_eq!(parse_mountinfo("x\n"), (None, vec![]));
    }
}
