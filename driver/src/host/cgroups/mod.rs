//! Control groups: one in the v2 tree and one in each v1 hierarchy for every running domain.
//!
//! Does not know what runs in them. All functions block; callers put them on a thread for that.

mod hierarchies;
mod removal;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use berth_domain::PressureSettings;

use super::limits::{Limits, cpus};
use super::pressure::{self, Trigger};
use super::resources::{Change, LimitError};
use hierarchies::mount_unified;
pub use hierarchies::{Legacy, parse_mountinfo};
use removal::{kill, remove_tree};

/// The folder of groups in each hierarchy where nothing else is said: libvirt's default partition.
const PARENT: &str = "machine";

/// The group with the limits in a domain's v2 group.
const LIMITED: &str = "container";

/// The container's own group in that, the topmost that it sees, and in its groups of version 1. Its controller makes it.
pub const PAYLOAD: &str = "payload";

/// The group of the controller itself beside it. It is made by the controller, which moves there when it has time,
/// unless the domain is in a scope.
const CONTROLLER: &str = "controller";

/// Controllers of version 2 that the groups below one of ours should have.
const GIVEN_ON: &[&str] = &["cpu", "cpuset", "io", "memory", "pids"];

/// The hierarchies of this host, and how groups are called in them.
#[derive(Debug, Clone)]
pub struct Cgroups {
    unified: PathBuf,
    legacy: Vec<Legacy>,
    suffix: String,
    /// Where it is noted that the parents were made here.
    note: PathBuf,
    /// Where the partitions are noted that were ever used.
    partitions: PathBuf,
    /// Held while a partition is noted and made, and while the note is removed.
    noting: Arc<Mutex<()>>,
    /// Which CPUs were given to which groups; none until it was looked up.
    given: Arc<Mutex<Option<Given>>>,
    /// They are plain folders.
    pretend: bool,
}

/// CPUs by group.
type Given = BTreeMap<PathBuf, Vec<u32>>;

/// The groups of one domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    /// In the v2 tree: all that belongs to the domain, its controller too.
    pub unified: PathBuf,
    /// In there, the one with the limits, and in that the container. The controller is beside it: in a group that is
    /// out of memory the kernel kills whom it likes.
    pub limited: PathBuf,
    /// In the v1 hierarchies.
    pub legacy: Vec<PathBuf>,
    /// The controllers of each of those.
    pub controllers: Vec<Vec<String>>,
    /// The one of the v1 memory controller, if there is one.
    pub memory: Option<PathBuf>,
}

/// What could not be done to which group.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} '{}': {cause}", path.display())]
pub struct CgroupError {
    /// What was tried.
    pub operation: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why not.
    pub cause: io::Error,
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    let path = path.to_owned();
    move |cause| CgroupError { operation, path, cause }
}

impl Cgroups {
    /// Finds the hierarchies; on a host without a v2 tree one is mounted in the run directory.
    pub fn find(run: &Path, tag: &str) -> Result<Self, CgroupError> {
        let mountinfo = Path::new("/proc/self/mountinfo");
        // Users may mount (fuse), on paths that need not be UTF-8: those of control groups are ours to expect.
        let text = fs::read(mountinfo).map_err(failed("read", mountinfo))?;
        let (unified, legacy) = parse_mountinfo(&String::from_utf8_lossy(&text));
        let unified = match unified {
            Some(path) => path,
            None => mount_unified(&run.join("cgroup"))?,
        };
        Ok(Self::of_hierarchies(unified, legacy, run, tag))
    }

    /// Plain folders in place of groups, for tests without the right to make groups.
    pub fn pretend(run: &Path, tag: &str) -> Result<Self, CgroupError> {
        let unified = run.join("cgroup");
        fs::create_dir_all(&unified).map_err(failed("make", &unified))?;
        Ok(Self { pretend: true, ..Self::of_hierarchies(unified, Vec::new(), run, tag) })
    }

    fn of_hierarchies(unified: PathBuf, legacy: Vec<Legacy>, run: &Path, tag: &str) -> Self {
        Self {
            unified,
            legacy,
            suffix: format!(".berth{tag}"),
            note: run.join("cgroup-parents"),
            partitions: run.join("cgroup-partitions"),
            noting: Arc::default(),
            given: Arc::default(),
            pretend: false,
        }
    }

    /// How the groups of a domain in a partition (an absolute path, or none for the usual one) are called.
    /// Makes nothing.
    pub fn of(&self, name: &str, partition: Option<&str>) -> Groups {
        let parent = partition.unwrap_or(PARENT).trim_matches('/');
        let group = |mount: &Path| mount.join(parent).join(format!("{name}{}", self.suffix));
        let with = |controller: &str| {
            let found = self.legacy.iter().find(|l| l.controllers.iter().any(|c| c == controller));
            found.map(|l| group(&l.mount))
        };
        let unified = group(&self.unified);
        Groups {
            limited: unified.join(LIMITED),
            unified,
            legacy: self.legacy.iter().map(|l| group(&l.mount)).collect(),
            controllers: self.legacy.iter().map(|l| l.controllers.clone()).collect(),
            memory: with("memory"),
        }
    }

    /// The group of a domain in the v1 hierarchy of a controller, if there is one.
    pub fn legacy_of(&self, name: &str, controller: &str) -> Option<PathBuf> {
        let found = self.legacy.iter().find(|l| l.controllers.iter().any(|c| c == controller));
        found.map(|l| l.mount.join(PARENT).join(format!("{name}{}", self.suffix)))
    }

    /// Makes the groups of a domain, empty ones: what a dead run left behind goes first. In a scope `member`, the
    /// process that the scope was made with, goes into one of them: controllers cannot be given on while it is in the
    /// scope's own group.
    pub fn create(&self, groups: &Groups, member: Option<i32>) -> Result<(), CgroupError> {
        if groups.exist() {
            let residue = self.remove(groups);
            if let Some(first) = residue.into_iter().next() {
                return Err(first);
            }
        }
        let made = {
            let _held = self.noting.lock().unwrap_or_else(|e| e.into_inner());
            self.note_partition(groups).and_then(|()| self.create_unified(groups, member))
        };
        let made = made.and_then(|()| self.create_legacy(groups));
        if made.is_err() {
            // The cause is what counts; what cannot be removed is met again by the next start and by the next sweep.
            drop(self.remove(groups));
        }
        made
    }

    fn create_unified(&self, groups: &Groups, member: Option<i32>) -> Result<(), CgroupError> {
        match member {
            None => {
                give_on(&self.unified);
                self.create_in(&self.unified, &groups.unified, |level| {
                    give_on(level);
                    Ok(())
                })?;
            }
            Some(pid) => {
                self.create_in_scope(groups, pid)?;
                groups.unified.parent().into_iter().for_each(give_on);
            }
        }
        give_on(&groups.unified);
        fs::create_dir(&groups.limited).map_err(failed("make", &groups.limited))?;
        // What the container may divide among its own groups is what it was given itself.
        give_on(&groups.limited);
        Ok(())
    }

    /// What is above the scope is its maker's.
    fn create_in_scope(&self, groups: &Groups, pid: i32) -> Result<(), CgroupError> {
        let own = groups.unified.join(CONTROLLER);
        if self.pretend {
            return fs::create_dir_all(&own).map_err(failed("make", &own));
        }
        for path in [&groups.unified, &own] {
            fs::create_dir(path).map_err(failed("make", path))?;
        }
        let procs = own.join("cgroup.procs");
        write(&procs, &pid.to_string()).map_err(failed("write", &procs))
    }

    fn create_legacy(&self, groups: &Groups) -> Result<(), CgroupError> {
        for (legacy, path) in self.legacy.iter().zip(&groups.legacy) {
            let cpuset = legacy.controllers.iter().any(|c| c == "cpuset");
            self.create_in(
                &legacy.mount,
                path,
                |parent| if cpuset { inherit_cpuset(parent) } else { Ok(()) },
            )?;
            if cpuset {
                inherit_cpuset(path)?;
            }
        }
        Ok(())
    }

    /// Makes one group and, where they are missing, its parents, which another daemon may remove at any moment.
    fn create_in(
        &self,
        mount: &Path,
        path: &Path,
        prepare: impl Fn(&Path) -> Result<(), CgroupError>,
    ) -> Result<(), CgroupError> {
        let mut parents: Vec<&Path> = path.ancestors().skip(1).take_while(|p| *p != mount).collect();
        parents.reverse();
        'again: for _ in 0..10 {
            for parent in &parents {
                match fs::create_dir(parent) {
                    Ok(()) => self.note_parent(parent)?,
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(e) if e.kind() == io::ErrorKind::NotFound => continue 'again,
                    Err(e) => return Err(failed("make", parent)(e)),
                }
                match prepare(parent) {
                    Err(e) if e.cause.kind() == io::ErrorKind::NotFound => continue 'again,
                    other => other?,
                }
            }
            match fs::create_dir(path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => return other.map_err(failed("make", path)),
            }
        }
        Err(failed("make", path)(io::ErrorKind::NotFound.into()))
    }

    /// Notes a partition that a sweep would not look into.
    fn note_partition(&self, groups: &Groups) -> Result<(), CgroupError> {
        use io::Write;
        let Some(shown) = self.partition_of(groups) else { return Ok(()) };
        let known = crate::files::read_text(&self.partitions).unwrap_or_default();
        if known.lines().any(|l| l == shown) {
            return Ok(());
        }
        let mut file = crate::files::append(&self.partitions).map_err(failed("open", &self.partitions))?;
        file.write_all(format!("{shown}\n").as_bytes()).map_err(failed("write", &self.partitions))
    }

    /// Puts the limits of a domain into its new groups. Answers remarks.
    pub fn limit(&self, groups: &Groups, limits: &Limits) -> Result<Vec<String>, LimitError> {
        let remarks = groups.limit(limits, self.pretend)?;
        if let Some(set) = self.choose_cpus(groups, limits)?
            && (set != groups.online() || limits.cpus.is_some())
        {
            groups.limit_cpus(&set, self.pretend)?;
        }
        Ok(remarks)
    }

    /// Arms the triggers that tell of pressure in a domain.
    pub fn arm_pressure(
        &self,
        groups: &Groups,
        settings: PressureSettings,
    ) -> Result<Vec<Trigger>, LimitError> {
        if self.pretend { Ok(Vec::new()) } else { pressure::arm(&groups.limited, settings) }
    }

    /// Changes the limits of a domain that runs, all or none.
    pub fn change(&self, groups: &Groups, old: &Limits, new: &Limits) -> Result<Change, LimitError> {
        let moved = (old.cpu_count, &old.cpus) != (new.cpu_count, &new.cpus);
        let cpus = if moved { self.choose_cpus(groups, new)? } else { None };
        let changed = groups.change(old, new, cpus.as_deref(), self.pretend);
        if moved && changed.is_err() {
            drop(self.choose_cpus(groups, old));
        }
        changed
    }

    /// Brings the groups of a domain that runs to its limits. Answers what cannot be.
    pub fn enforce(&self, groups: &Groups, limits: &Limits) -> Vec<LimitError> {
        let mut left = groups.enforce(limits, self.pretend);
        let online = groups.online();
        let now = groups.cpus().unwrap_or_else(|| online.clone());
        let count = usize::try_from(limits.cpu_count).unwrap_or(usize::MAX).min(online.len());
        let wanted = limits.cpus.as_deref().map_or(online, cpus::parse);
        if now.len() != count.min(wanted.len()) || now.iter().any(|c| !wanted.contains(c)) {
            let set = self.choose_cpus(groups, limits);
            let moved = set.and_then(|set| groups.change(limits, limits, set.as_deref(), self.pretend));
            left.extend(moved.err());
        }
        left
    }

    /// Has the container's own group say the limits: see [`Groups::mirror`].
    pub fn mirror(&self, groups: &Groups, all: bool) {
        groups.mirror(all, self.pretend);
    }

    /// Chooses the CPUs of a domain and notes them. None where the host does not say which it has.
    fn choose_cpus(&self, groups: &Groups, limits: &Limits) -> Result<Option<Vec<u32>>, LimitError> {
        let online = groups.online();
        if online.is_empty() {
            return Ok(None);
        }
        let mut given = self.given.lock().unwrap_or_else(|e| e.into_inner());
        let given = given.get_or_insert_with(|| self.cpus_in_use());
        let others = given.iter().filter(|(group, _)| **group != groups.unified);
        let used = others.flat_map(|(_, set)| set.iter().copied());
        let wanted = limits.cpus.as_deref().map(cpus::parse);
        let Some(set) = cpus::choose(&online, wanted.as_deref(), limits.cpu_count, used) else {
            return Err(LimitError {
                element: "vcpu",
                path: groups.cpuset().0.join("cpuset.cpus"),
                value: limits.cpus.clone().unwrap_or_default(),
                cause: io::Error::other(format!("the host has the CPUs {}", cpus::show(&online))),
            });
        };
        if set == online {
            given.remove(&groups.unified);
        } else {
            given.insert(groups.unified.clone(), set.clone());
        }
        Ok(Some(set))
    }

    /// The CPUs of all domains that are there.
    fn cpus_in_use(&self) -> Given {
        let all = self.ours().into_iter().map(|(name, partition)| self.of(&name, Some(&partition)));
        all.filter_map(|groups| Some((groups.unified.clone(), groups.cpus()?))).collect()
    }

    /// All groups that are called like ours: name and partition.
    fn ours(&self) -> std::collections::BTreeSet<(String, String)> {
        let noted = crate::files::read_text(&self.partitions).unwrap_or_default();
        let partitions = std::iter::once(PARENT).chain(noted.lines());
        partitions.flat_map(|p| self.ours_in(p).into_iter().map(|name| (name, p.to_owned()))).collect()
    }

    /// The names of all groups in a partition that are called like ours.
    fn ours_in(&self, partition: &str) -> std::collections::BTreeSet<String> {
        let mounts = std::iter::once(&self.unified).chain(self.legacy.iter().map(|l| &l.mount));
        let folders = mounts.filter_map(|mount| fs::read_dir(mount.join(partition)).ok());
        let files = folders.flat_map(|f| f.flatten()).filter_map(|e| e.file_name().into_string().ok());
        files.filter_map(|file| file.strip_suffix(&self.suffix).map(str::to_owned)).collect()
    }

    fn note_parent(&self, parent: &Path) -> Result<(), CgroupError> {
        use io::Write;
        let mut file = crate::files::append(&self.note).map_err(failed("open", &self.note))?;
        let line = format!("{}\n", parent.display());
        file.write_all(line.as_bytes()).map_err(failed("write", &self.note))
    }

    /// Kills what is in the groups and removes them. Goes on after a failure and answers all of them.
    pub fn remove(&self, groups: &Groups) -> Vec<CgroupError> {
        let mut residue = Vec::new();
        if let Some(given) = self.given.lock().unwrap_or_else(|e| e.into_inner()).as_mut() {
            given.remove(&groups.unified);
        }
        if self.pretend {
            drop(fs::remove_dir_all(&groups.unified));
        }
        if groups.unified.exists()
            && let Err(e) = kill(&groups.unified, groups.legacy_of("freezer"))
        {
            residue.push(e);
        }
        for path in std::iter::once(&groups.unified).chain(&groups.legacy) {
            if let Err(e) = remove_tree(path) {
                residue.push(e);
            }
        }
        self.remove_parents();
        self.forget_partition(groups);
        residue
    }

    /// Takes a partition off the note once nothing of ours is in it.
    fn forget_partition(&self, groups: &Groups) {
        let Some(partition) = self.partition_of(groups) else { return };
        let _held = self.noting.lock().unwrap_or_else(|e| e.into_inner());
        let Ok(noted) = crate::files::read_text(&self.partitions) else { return };
        if !self.ours_in(&partition).is_empty() {
            return;
        }
        let left: String = noted.lines().filter(|l| *l != partition).map(|l| format!("{l}\n")).collect();
        // One that stays on the note is looked into in vain.
        drop(if left.is_empty() {
            fs::remove_file(&self.partitions)
        } else {
            // Whole or not at all: a daemon that is killed here must find the others.
            crate::files::replace(&self.partitions, &left)
        });
    }

    /// The partition of a domain, unless it is the usual one.
    fn partition_of(&self, groups: &Groups) -> Option<String> {
        let partition = groups.unified.parent()?.strip_prefix(&self.unified).ok()?;
        Some(partition.display().to_string()).filter(|p| p != PARENT)
    }

    /// Removes the parents that were made here, once they are empty.
    fn remove_parents(&self) {
        let Ok(noted) = crate::files::read_text(&self.note) else { return };
        let mut all_gone = true;
        // Those that were made last are the innermost.
        for parent in noted.lines().rev() {
            match fs::remove_dir(parent) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(_) => all_gone = false,
            }
        }
        if all_gone {
            drop(fs::remove_file(&self.note));
        }
    }

    /// Kills and removes all groups that are called like ours and belong to none of `owners`. Answers their names.
    pub fn sweep(&self, owners: &dyn Fn(&str) -> bool) -> Vec<String> {
        let mut all = self.ours();
        all.retain(|(name, _)| !owners(name));
        for (name, partition) in &all {
            drop(self.remove(&self.of(name, Some(partition))));
        }
        all.into_iter().map(|(name, _)| name).collect()
    }
}

impl Groups {
    /// The group of a v1 controller.
    pub fn legacy_of(&self, controller: &str) -> Option<&Path> {
        let all = self.legacy.iter().zip(&self.controllers);
        all.into_iter()
            .find(|(_, names)| names.iter().any(|n| n == controller))
            .map(|(path, _)| path.as_path())
    }

    /// Whether any of them is there.
    pub fn exist(&self) -> bool {
        self.unified.exists() || self.legacy.iter().any(|p| p.exists())
    }

    /// Number of processes in the container.
    pub fn processes(&self) -> Option<i64> {
        let mut count = 0;
        let mut folders = vec![self.limited.join(PAYLOAD)];
        while let Some(folder) = folders.pop() {
            let Ok(text) = fs::read_to_string(folder.join("cgroup.procs")) else {
                return if count == 0 { None } else { Some(count) };
            };
            count += i64::try_from(text.lines().count()).unwrap_or(i64::MAX);
            folders.extend(children(&folder));
        }
        Some(count)
    }
}

/// Gives the controllers of a group on to those below it (cgroups(7), `cgroup.subtree_control`), as far as they are there:
/// on hybrid hosts none is, and where less is delegated to us a limit that needs one of them misses its file, and says so.
///
/// Nothing is written that need not be: for each write, also for one that it refuses, the kernel walks through all groups
/// of the host, which takes longer with each container that runs.
fn give_on(group: &Path) {
    let read = |file: &str| fs::read_to_string(group.join(file)).unwrap_or_default();
    let (there, given) = (read("cgroup.controllers"), read("cgroup.subtree_control"));
    let has = |list: &str, controller: &str| list.split_whitespace().any(|c| c == controller);
    let missing = GIVEN_ON.iter().filter(|c| has(&there, c) && !has(&given, c));
    let missing: Vec<String> = missing.map(|c| format!("+{c}")).collect();
    let file = group.join("cgroup.subtree_control");
    if missing.is_empty() || write(&file, &missing.join(" ")).is_ok() {
        return;
    }
    // One that is refused takes the others with it when they are written together.
    for controller in &missing {
        drop(write(&file, controller));
    }
}

/// Writes to a file that the kernel made; never makes one.
fn write(path: &Path, text: &str) -> io::Result<()> {
    use io::Write;
    fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

/// The groups directly below one.
pub fn children(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

/// A new v1 cpuset has no processors and no memory, and nothing can join it.
fn inherit_cpuset(group: &Path) -> Result<(), CgroupError> {
    let Some(parent) = group.parent() else { return Ok(()) };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = fs::read_to_string(group.join(file)).map_err(failed("read", &group.join(file)))?;
        if own.trim().is_empty() {
            let value = fs::read_to_string(parent.join(file)).map_err(failed("read", &parent.join(file)))?;
            write(&group.join(file), value.trim()).map_err(failed("write", &group.join(file)))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod test {
    use super::*;

    fn fake(dir: &Path) -> Cgroups {
        let legacy = ["memory", "freezer"].map(|c| {
            fs::create_dir(dir.join(c)).expect("made");
            Legacy { mount: dir.join(c), controllers: vec![c.into()] }
        });
        fs::create_dir(dir.join("unified")).expect("made");
        let mut cgroups = Cgroups::of_hierarchies(dir.join("unified"), legacy.to_vec(), dir, "-1234abcd");
        cgroups.note = dir.join("note");
        cgroups
    }

    #[test]
    fn only_missing_controllers_are_given_on() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let [there, given] = ["cgroup.controllers", "cgroup.subtree_control"].map(|f| dir.path().join(f));
        let after = |controllers: &str, before: &str| {
            fs::write(&there, controllers).expect("written");
            fs::write(&given, before).expect("written");
            give_on(dir.path());
            fs::read_to_string(&given).expect("read")
        };
        // The kernel answers with all that are given on; this file shows what was written.
        assert_eq!(after("cpuset cpu io memory hugetlb pids\n", "memory\n"), "+cpu +cpuset +io +pids");
        assert_eq!(after("cpu memory\n", "memory cpu\n"), "memory cpu\n");
        assert_eq!(after("", "\n"), "\n");
    }

    #[test]
    fn groups_come_and_go_with_their_parents() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let cgroups = fake(dir.path());
        let groups = cgroups.of("web", None);
        assert_eq!(groups.memory, Some(dir.path().join("memory/machine/web.berth-1234abcd")));
        cgroups.create_legacy(&groups).expect("made");
        assert!(groups.exist());
        for path in &groups.legacy {
            remove_tree(path).expect("removed");
        }
        cgroups.remove_parents();
        assert!(!dir.path().join("memory/machine").exists());
        assert!(!dir.path().join("note").exists());
    }

    #[test]
    fn partitions_are_made_found_and_removed() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let cgroups = fake(dir.path());
        let groups = cgroups.of("web", Some("/a/b"));
        assert_eq!(groups.unified, dir.path().join("unified/a/b/web.berth-1234abcd"));
        cgroups.create(&groups, None).expect("made");
        assert!(groups.exist() && dir.path().join("memory/a/b/web.berth-1234abcd").exists());
        // Another daemon looks there, as it was noted.
        assert_eq!(cgroups.sweep(&|name| name == "web"), Vec::<String>::new());
        assert!(groups.exist());
        assert_eq!(cgroups.sweep(&|_| false), ["web"]);
        for gone in ["unified/a", "memory/a", "freezer/a", "note", "cgroup-partitions"] {
            assert!(!dir.path().join(gone).exists(), "{gone}");
        }
    }

    #[test]
    fn refused_changes_are_undone() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let cgroups = fake(dir.path());
        let groups = cgroups.of("web", None);
        cgroups.create(&groups, None).expect("made");
        let memory = groups.legacy_of("memory").expect("a group").to_owned();
        for (path, text) in [
            (memory.join("memory.limit_in_bytes"), "100"),
            (memory.join("memory.memsw.limit_in_bytes"), "100"),
            (groups.limited.join("pids.max"), "max"),
        ] {
            fs::write(path, text).expect("written");
        }
        let read = |path: &Path| fs::read_to_string(path).expect("read");
        let old = Limits { memory: Some(100), memory_and_swap: Some(100), cpu_count: 1, ..Limits::default() };
        let new = Limits { memory: Some(200), memory_and_swap: Some(300), pids: Some(5), ..old.clone() };
        let change = cgroups.change(&groups, &old, &new).expect("changed");
        assert_eq!(read(&memory.join("memory.limit_in_bytes")), "200");
        assert_eq!(read(&memory.join("memory.memsw.limit_in_bytes")), "300");
        assert!(read(&groups.limited.join("pids.max")).starts_with('5'));
        change.undo();
        assert_eq!(read(&memory.join("memory.limit_in_bytes")), "100");
        assert_eq!(read(&groups.limited.join("pids.max")), "max");
        // There is no file for the last one.
        let bad = Limits { shares: Some(7), ..new };
        let error = cgroups.change(&groups, &old, &bad).expect_err("refused").to_string();
        assert!(error.starts_with("cannot set <cputune/shares>: write '1' to '"), "{error}");
        assert!(error.contains("cpu.weight"), "{error}");
        assert_eq!(read(&memory.join("memory.limit_in_bytes")), "100");
        assert_eq!(read(&memory.join("memory.memsw.limit_in_bytes")), "100");
        assert_eq!(read(&groups.limited.join("pids.max")), "max");
    }

    /// A domain of which all limits are files of version 2, with those of a new container's group: neutral ones.
    fn unified(dir: &Path) -> (Cgroups, Groups) {
        let cgroups = Cgroups::pretend(dir, "").expect("a folder");
        let groups = cgroups.of("web", None);
        cgroups.create(&groups, None).expect("made");
        let payload = groups.limited.join(PAYLOAD);
        fs::create_dir(&payload).expect("made");
        for (file, text) in [
            ("memory.max", "max"),
            ("memory.high", "max"),
            ("memory.swap.max", "max"),
            ("cpu.max", "max 100000"),
            ("cpu.max.burst", "0"),
            ("pids.max", "max"),
        ] {
            for folder in [&groups.limited, &payload] {
                fs::write(folder.join(file), text).expect("written");
            }
        }
        (cgroups, groups)
    }

    fn said(groups: &Groups) -> [String; 4] {
        let read = |file| fs::read_to_string(groups.limited.join(PAYLOAD).join(file)).expect("read");
        ["memory.max", "memory.swap.max", "cpu.max", "memory.high"].map(read)
    }

    #[test]
    fn what_a_change_limits_is_said_in_the_containers_own_group() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (cgroups, groups) = unified(dir.path());
        let old = Limits { cpu_count: 1, ..Limits::default() };
        let new = Limits {
            memory: Some(4096),
            memory_soft: Some(2048),
            memory_and_swap: Some(8192),
            quota: Some(50_000),
            pids: Some(5),
            ..old.clone()
        };
        let change = cgroups.change(&groups, &old, &new).expect("changed");
        assert_eq!(said(&groups), ["4096", "4096", "50000 100000", "max"]);
        let pids = fs::read_to_string(groups.limited.join("payload/pids.max")).expect("read");
        assert_eq!(pids, "max", "what nobody looks up");
        let burst = fs::read_to_string(groups.limited.join("payload/cpu.max.burst")).expect("read");
        assert!(burst.starts_with("50000"), "{burst}");
        change.undo();
        assert_eq!(said(&groups), ["max", "max", "max 100000", "max"]);
        // What root inside has made of it is in the way of nothing, and put right where that limit changes.
        let own = groups.limited.join("payload/memory.max");
        fs::write(&own, "1").expect("written");
        drop(cgroups.change(&groups, &old, &Limits { quota: Some(2000), ..old.clone() }).expect("changed"));
        assert_eq!(said(&groups)[0], "1");
        drop(cgroups.change(&groups, &old, &new).expect("changed"));
        assert_eq!(said(&groups)[0], "4096");
        // A change that is refused says nothing: here the limit of swap is no file.
        fs::remove_file(groups.limited.join("memory.swap.max")).expect("removed");
        fs::create_dir(groups.limited.join("memory.swap.max")).expect("made");
        let worse = Limits { memory: Some(2048), memory_and_swap: Some(9000), ..new.clone() };
        cgroups.change(&groups, &new, &worse).expect_err("refused");
        assert_eq!(said(&groups)[0], "4096");
        // Nor is a container that has no such group refused one.
        fs::remove_dir_all(groups.limited.join(PAYLOAD)).expect("removed");
        drop(cgroups.change(&groups, &new, &Limits { quota: Some(2000), ..new.clone() }).expect("changed"));
    }

    #[test]
    fn a_new_daemon_says_what_was_not_said() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (cgroups, groups) = unified(dir.path());
        for (file, text) in [("memory.max", "4096\n"), ("cpu.max", "50000 100000\n")] {
            fs::write(groups.limited.join(file), text).expect("written");
        }
        fs::write(groups.limited.join("payload/cpu.max"), "1000 100000\n").expect("written");
        cgroups.mirror(&groups, false);
        assert_eq!(said(&groups), ["4096", "max", "1000 100000\n", "max"]);
        // After a change that was cut off.
        cgroups.mirror(&groups, true);
        assert_eq!(said(&groups), ["4096", "max", "50000 100000", "max"]);
    }

    #[test]
    fn parents_of_others_stay() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let cgroups = fake(dir.path());
        fs::create_dir(dir.path().join("memory/machine")).expect("made");
        cgroups.create_legacy(&cgroups.of("web", None)).expect("made");
        assert_eq!(cgroups.sweep(&|name| name == "web"), Vec::<String>::new());
        assert_eq!(cgroups.sweep(&|_| false), ["web"]);
        assert!(dir.path().join("memory/machine").exists());
        assert!(!dir.path().join("freezer/machine").exists());
    }
}
