//! Limits in control groups: put into new ones, and changed in those of a domain that runs, all or nothing.
//!
//! Does not know documents, nor what a limit is in which file: for that see [`super::limits`]. All functions block.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::cgroups::{Groups, PAYLOAD};
use super::freezer;
use super::limits::{IoLimits, Limits, Setting, cpus, v1, v2};
use super::shares::{self, Lowered, NONE, PERIOD_FILE, QUOTA_FILE, Share};

/// How long groups below are asked to make room.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often they are, the last times while nobody inside can make others.
const ROUNDS: usize = 3;

/// The limits of version 2 that programs inside look up in the topmost group that they see. That is the container's own,
/// below the one with the limits: its controller says them there when it makes it, and each change says them again.
const MIRRORED: [&str; 3] = ["memory.max", "memory.swap.max", CPU_MAX];
const CPU_MAX: &str = "cpu.max";
/// What a group may use of a quota later than in its period.
const BURST: &str = "cpu.max.burst";

/// A limit that the host cannot set, or that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot set <{element}>: write '{value}' to '{}': {cause}", path.display())]
pub struct LimitError {
    /// The element of the document that wants it.
    pub element: &'static str,
    /// The file of the kernel.
    pub path: PathBuf,
    /// What was to be written.
    pub value: String,
    /// Why it could not be.
    pub cause: io::Error,
}

/// What was changed in groups of a domain that runs, and how it was before.
#[derive(Debug, Default)]
pub struct Change {
    done: Vec<(Step, Vec<Lowered>)>,
    /// What was said in the container's own group before.
    said: Vec<(PathBuf, String)>,
    place: Place,
}

/// Where a change is made.
#[derive(Debug, Default, Clone)]
struct Place {
    /// The group to hold still if need be.
    limited: PathBuf,
    pretend: bool,
}

/// One value that was or will be written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    element: &'static str,
    path: PathBuf,
    new: String,
    old: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One write.
    Plain,
    /// A set of a v1 cpuset: the groups below have it too.
    Tree,
    /// Memory of v2: the kernel kills where v1 refuses, so it is asked to free some first.
    Memory,
    /// The end of a limit of one device.
    Release,
    /// A quota of CPU time of v1 whose period changes with it, from and to this many microseconds.
    Quota(u64, u64),
}

impl Groups {
    /// The settings of the controllers that this host has in each version.
    fn settings(&self, limits: &Limits) -> Vec<(&Path, bool, Setting)> {
        let old =
            v1::settings(limits).into_iter().filter_map(|s| Some((self.legacy_of(s.controller)?, true, s)));
        // What version 2 calls "io" is "blkio" in version 1: it is in one of them.
        let legacy_name = |name: &'static str| if name == "io" { "blkio" } else { name };
        let new = v2::settings(limits).into_iter();
        let new = new.filter(|s| self.legacy_of(legacy_name(s.controller)).is_none());
        old.chain(new.map(|s| (self.limited.as_path(), false, s))).collect()
    }

    /// Puts the limits into new groups. Answers remarks about what the host does not have.
    pub fn limit(&self, limits: &Limits, pretend: bool) -> Result<Vec<String>, LimitError> {
        self.check_nodes(limits)?;
        let mut remarks = Vec::new();
        for (group, _, setting) in self.settings(limits) {
            if setting.is_neutral() {
                continue;
            }
            let path = file_of(group, setting.files, pretend);
            match write(&path, &setting.text(), pretend) {
                Ok(()) => {}
                Err(e) if setting.lenient && e.kind() == io::ErrorKind::NotFound => {
                    remarks.push(format!(
                        "<{}> has no effect: there is no '{}'",
                        setting.element,
                        path.display()
                    ));
                }
                Err(cause) => {
                    let wanted = share_of(&path, &setting.text());
                    let cause = explained(cause, path.parent(), wanted, Instant::now());
                    return Err(refused(setting.element, path, setting.text(), cause));
                }
            }
        }
        Ok(remarks)
    }

    /// Gives a new domain its CPUs.
    pub fn limit_cpus(&self, set: &[u32], pretend: bool) -> Result<(), LimitError> {
        let (group, _) = self.cpuset();
        let path = group.join("cpuset.cpus");
        let value = cpus::show(set);
        write(&path, &value, pretend).map_err(|cause| refused("vcpu", path, value, cause))
    }

    /// The CPUs of the domain; none where it has all.
    pub fn cpus(&self) -> Option<Vec<u32>> {
        let (group, _) = self.cpuset();
        let own = cpus::parse(&fs::read_to_string(group.join("cpuset.cpus")).ok()?);
        (!own.is_empty() && own != self.online()).then_some(own)
    }

    /// The CPUs that a domain can have.
    pub fn online(&self) -> Vec<u32> {
        let names = ["cpuset.effective_cpus", "cpuset.cpus.effective", "cpuset.cpus"];
        self.above(names, "/sys/devices/system/cpu/online")
    }

    /// The nodes that memory of a domain can come from; none where nobody says.
    pub fn nodes(&self) -> Vec<u32> {
        let names = ["cpuset.effective_mems", "cpuset.mems.effective", "cpuset.mems"];
        self.above(names, "/sys/devices/system/node/has_memory")
    }

    /// What is wrong with a set of nodes, if something is. The kernel refuses a set of a group without a reason, and leaves
    /// out of a policy what it has not.
    pub fn missing_nodes(&self, wanted: &str) -> Option<String> {
        missing_nodes(&cpus::parse(wanted), &self.nodes())
    }

    /// The first set that is said above the group with the CPUs, or else by the host.
    fn above(&self, names: [&str; 3], host: &str) -> Vec<u32> {
        let (group, _) = self.cpuset();
        let parent = group.parent().unwrap_or(group);
        let files = names.iter().map(|name| parent.join(name)).chain([PathBuf::from(host)]);
        let mut sets = files.filter_map(|f| fs::read_to_string(f).ok()).map(|text| cpus::parse(&text));
        sets.find(|set| !set.is_empty()).unwrap_or_default()
    }

    /// Refuses nodes that are not there.
    fn check_nodes(&self, limits: &Limits) -> Result<(), LimitError> {
        let Some(wanted) = &limits.nodes else { return Ok(()) };
        let Some(missing) = self.missing_nodes(wanted) else { return Ok(()) };
        let path = self.cpuset().0.join("cpuset.mems");
        Err(refused("numatune", path, wanted.clone(), io::Error::other(missing)))
    }

    /// The group with the CPUs, and whether that is one of version 1.
    pub(super) fn cpuset(&self) -> (&Path, bool) {
        match self.legacy_of("cpuset") {
            Some(group) => (group, true),
            None => (&self.limited, false),
        }
    }

    /// Changes the limits of a domain that runs: all of what differs, or nothing.
    /// `cpus`: the CPUs that it gets; none to leave them.
    pub fn change(
        &self,
        old: &Limits,
        new: &Limits,
        cpus: Option<&[u32]>,
        pretend: bool,
    ) -> Result<Change, LimitError> {
        if old.nodes != new.nodes {
            self.check_nodes(new)?;
        }
        let mut change = Change { place: self.place(pretend), ..Change::default() };
        for step in self.steps(old, new, cpus, pretend) {
            match step.take(&change.place) {
                Ok(lowered) => change.done.push((step, lowered)),
                Err(cause) => {
                    let error = refused(step.element, step.path, step.new, cause);
                    change.undo();
                    return Err(error);
                }
            }
        }
        change.mirror(self);
        Ok(change)
    }

    /// The file in the container's own group that says what one of the domain's group limits.
    fn mirror_of(&self, path: &Path) -> Option<PathBuf> {
        let file = path.file_name()?.to_str().filter(|f| MIRRORED.contains(f))?;
        (path.parent()? == self.limited).then(|| self.limited.join(PAYLOAD).join(file))
    }

    /// Has the container's own group say the limits of the domain's. `all`: also what it says otherwise; else only where
    /// it says nothing, as that of a controller that did not do this.
    pub fn mirror(&self, all: bool, pretend: bool) {
        for path in MIRRORED.map(|file| self.limited.join(file)) {
            let (Some(limit), Some(mirror)) = (first_line(&path), self.mirror_of(&path)) else { continue };
            let Some(said) = first_line(&mirror) else { continue };
            if said != limit && (all || said.starts_with("max")) {
                say(&mirror, &limit, pretend);
            }
        }
    }

    fn place(&self, pretend: bool) -> Place {
        Place { limited: self.limited.clone(), pretend }
    }

    /// Writes every limit that is not as it should be, whatever it is now. Goes on after a failure and answers all.
    pub fn enforce(&self, limits: &Limits, pretend: bool) -> Vec<LimitError> {
        let mut left = Vec::new();
        let mut limits = limits.clone();
        // What a change that was cut off has limited.
        let more = self.limited_devices(pretend).into_iter();
        let more = more.filter(|key| !limits.io_devices.iter().any(|d| d.number == *key)).collect::<Vec<_>>();
        limits.io_devices.extend(more.into_iter().map(|number| IoLimits { number, ..IoLimits::default() }));
        // Twice: memory, and memory and swap, can be written in one order only.
        for _ in 0..2 {
            left.clear();
            for (group, _, setting) in self.settings(&limits) {
                let (path, text) = (file_of(group, setting.files, pretend), setting.text());
                let there = match &setting.key {
                    None => first_line(&path),
                    Some(key) => line_of(&path, key, || setting.neutral_text()),
                };
                let unset = setting.is_neutral() && (setting.controller == "cpuset" || there.is_none());
                if unset || there.as_ref() == Some(&text) {
                    continue;
                }
                let release = setting.key.is_some() && setting.is_neutral();
                let written = if release {
                    release_device(&path, &text, pretend)
                } else {
                    let put = || write(&path, &text, pretend);
                    self.place(pretend).with_room(&path, share_of(&path, &text), &put).map(drop)
                };
                if let Err(cause) = written {
                    left.push(refused(setting.element, path, text, cause));
                }
            }
        }
        left
    }

    /// The numbers of all devices that the kernel limits for the domain.
    fn limited_devices(&self, pretend: bool) -> Vec<String> {
        let any = Limits { io_devices: vec![IoLimits::default()], ..Limits::default() };
        let files = self.settings(&any).into_iter().filter(|(.., s)| s.key.is_some());
        let texts =
            files.filter_map(|(group, _, s)| fs::read_to_string(file_of(group, s.files, pretend)).ok());
        let mut all = Vec::new();
        for text in texts {
            let keys = text.lines().filter_map(|line| line.split_whitespace().next());
            all.extend(keys.filter(|key| key.contains(':')).map(str::to_owned));
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    fn steps(&self, old: &Limits, new: &Limits, cpus: Option<&[u32]>, pretend: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        let (before, after) = (self.settings(old), self.settings(new));
        let same = |a: &Setting, b: &Setting| a.files == b.files && a.key == b.key;
        // Devices that are limited no more.
        let gone = before.iter().filter(|(_, _, b)| !after.iter().any(|(_, _, a)| same(a, b)));
        let gone = gone.map(|(group, legacy, s)| (*group, *legacy, s, s.text(), s.neutral_text()));
        let there = after.iter().map(|(group, legacy, s)| {
            let was = before.iter().find(|(_, _, b)| same(s, b));
            (*group, *legacy, s, was.map_or_else(|| s.neutral_text(), |(_, _, b)| b.text()), s.text())
        });
        for (group, legacy, setting, was, wanted) in
            gone.chain(there).filter(|(.., was, wanted)| was != wanted)
        {
            let path = file_of(group, setting.files, pretend);
            let kind = match (setting.controller, legacy) {
                ("cpuset", true) => Kind::Tree,
                ("memory", false) if setting.files == ["memory.max"] => Kind::Memory,
                _ if setting.key.is_some() && wanted == setting.neutral_text() => Kind::Release,
                _ => Kind::Plain,
            };
            let now = if setting.key.is_some() { None } else { first_line(&path) };
            let wanted = if setting.controller == "cpuset" { set_or_all(&path, &wanted) } else { wanted };
            let old = now.unwrap_or(was);
            let old = if setting.controller == "cpuset" { set_or_all(&path, &old) } else { old };
            steps.push(Step { element: setting.element, path, new: wanted, old, kind });
        }
        if let Some(set) = cpus {
            let (group, legacy) = self.cpuset();
            let path = group.join("cpuset.cpus");
            let new = cpus::show(set);
            let kind = if legacy { Kind::Tree } else { Kind::Plain };
            let step = Step {
                element: "vcpu",
                old: set_or_all(&path, &first_line(&path).unwrap_or_default()),
                path,
                new,
                kind,
            };
            if step.old != step.new {
                steps.push(step);
            }
        }
        in_order(&mut steps);
        join_quota(&mut steps);
        steps
    }
}

/// What is written for a set: without limit, all that the group above has. A v1 cpuset is never empty, and up to Linux
/// 6.1 at least one of v2 cannot be emptied again while somebody is in it.
fn set_or_all(path: &Path, wanted: &str) -> String {
    let (Some(parent), Some(file)) = (path.parent().and_then(Path::parent), path.file_name()) else {
        return wanted.to_owned();
    };
    let mut effective = file.to_owned();
    effective.push(".effective");
    let above = || first_line(&parent.join(effective)).or_else(|| first_line(&parent.join(file)));
    if wanted.is_empty() { above().unwrap_or_default() } else { wanted.to_owned() }
}

/// v1 wants memory never to be more than memory and swap together: what grows, grows from the outside.
fn in_order(steps: &mut [Step]) {
    let at = |steps: &[Step], file: &str| steps.iter().position(|s| s.path.ends_with(file));
    let memory = at(steps, "memory.limit_in_bytes");
    let both = at(steps, "memory.memsw.limit_in_bytes");
    if let (Some(memory), Some(both)) = (memory, both) {
        let number = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
        if number(&steps[memory].new) > number(&steps[memory].old) {
            steps.swap(memory, both);
        }
    }
}

/// The kernel of v1 compares the share of time with those of the groups above and below at each write, so a period and
/// its quota are one step.
fn join_quota(steps: &mut Vec<Step>) {
    let at = |steps: &[Step], file: &str| steps.iter().position(|s| s.path.ends_with(file));
    if let (Some(period), Some(quota)) = (at(steps, PERIOD_FILE), at(steps, QUOTA_FILE))
        && let (Ok(from), Ok(to)) = (steps[period].old.parse(), steps[period].new.parse())
    {
        steps[quota].kind = Kind::Quota(from, to);
        steps.remove(period);
    }
}

/// Writes to a file of the container's own group. Root with the host's ids can write it too, and nothing hangs on it.
fn say(mirror: &Path, limit: &str, pretend: bool) {
    let burst = mirror.with_file_name(BURST);
    let save = |text: &str| {
        if mirror.ends_with(CPU_MAX) {
            drop(write(&burst, text, false))
        }
    };
    // The kernel refuses a quota that is less than that.
    save("0");
    if let Err(e) = write(mirror, limit, pretend) {
        tracing::debug!("cannot write '{limit}' to '{}': {e}", mirror.display());
    }
    // Of two groups with one quota either may be the first to be out of time, and only the upper one's is counted.
    save(limit.split(' ').next().unwrap_or_default());
}

impl Change {
    /// Has the container's own group say what was changed.
    fn mirror(&mut self, groups: &Groups) {
        for (step, _) in &self.done {
            if let Some(mirror) = groups.mirror_of(&step.path)
                && let Some(said) = first_line(&mirror)
            {
                say(&mirror, &step.new, self.place.pretend);
                self.said.push((mirror, said));
            }
        }
    }

    /// Writes back what was before, the last first. What fails here was the kernel's own value a moment ago.
    pub fn undo(self) {
        for (step, lowered) in self.done.iter().rev() {
            if let Err(e) = step.take_back(&self.place) {
                tracing::warn!("cannot write '{}' back to '{}': {e}", step.old, step.path.display());
            }
            shares::restore(lowered);
        }
        for (mirror, said) in &self.said {
            say(mirror, said, self.place.pretend);
        }
    }
}

impl Step {
    fn take(&self, place: &Place) -> io::Result<Vec<Lowered>> {
        self.put(&self.new, &self.old, self.kind, place)
    }

    fn take_back(&self, place: &Place) -> io::Result<Vec<Lowered>> {
        let kind = match self.kind {
            Kind::Quota(from, to) => Kind::Quota(to, from),
            // Only the end of a limit may be in vain.
            Kind::Release => Kind::Plain,
            other => other,
        };
        self.put(&self.old, &self.new, kind, place)
    }

    /// Answers which groups below have less now.
    fn put(&self, new: &str, old: &str, kind: Kind, place: &Place) -> io::Result<Vec<Lowered>> {
        let (path, pretend) = (&self.path, place.pretend);
        let done = match kind {
            Kind::Plain => {
                return place.with_room(path, share_of(path, new), &|| write(path, new, pretend));
            }
            Kind::Quota(from, to) => {
                let wanted = Share::of(new, &to.to_string());
                return place.with_room(path, wanted, &|| set_quota(path, (old, from), (new, to), pretend));
            }
            Kind::Tree => place.insist(&|| set_tree(path, new, old)),
            Kind::Memory => set_memory(path, new, pretend),
            Kind::Release => release_device(path, new, pretend),
        };
        done.map(|()| Vec::new())
    }
}

impl Place {
    /// Makes an attempt; where a group below has more CPU time than what is wanted, that goes first. What is inside has no
    /// veto: if it makes others meanwhile, it is held still.
    fn with_room(
        &self,
        path: &Path,
        wanted: Option<Share>,
        attempt: &dyn Fn() -> io::Result<()>,
    ) -> io::Result<Vec<Lowered>> {
        let mut refusal = match attempt() {
            Ok(()) => return Ok(Vec::new()),
            Err(e) => e,
        };
        let (Some(group), Some(share)) = (path.parent(), wanted) else { return Err(refusal) };
        let end = Instant::now() + PATIENCE;
        let in_vain = refusal.kind() != io::ErrorKind::InvalidInput || shares::above(group, share).is_some();
        if self.pretend || in_vain {
            return Err(explained(refusal, Some(group), wanted, end));
        }
        let (mut lowered, mut held) = (Vec::new(), None);
        for round in 0..ROUNDS {
            if round > 0 {
                held.get_or_insert_with(|| freezer::hold(&self.limited));
            }
            let walked = shares::lower(group, share, end, &mut lowered);
            match attempt() {
                Ok(()) => return Ok(lowered),
                Err(e) => refusal = e,
            }
            if walked.is_err() || refusal.kind() != io::ErrorKind::InvalidInput {
                break;
            }
        }
        let error = explained(refusal, Some(group), wanted, end);
        shares::restore(&lowered);
        Err(error)
    }

    /// Makes an attempt at groups that the container may change too; a second one while it is held still.
    fn insist(&self, attempt: &dyn Fn() -> io::Result<()>) -> io::Result<()> {
        let first = attempt();
        if first.is_ok() || self.pretend {
            return first;
        }
        let _held = freezer::hold(&self.limited);
        attempt()
    }
}

/// The share of CPU time of version 1 that a group has once `text` is written to one of its two files.
fn share_of(path: &Path, text: &str) -> Option<Share> {
    let other = |file| fs::read_to_string(path.with_file_name(file)).ok();
    match path.file_name()?.to_str()? {
        QUOTA_FILE => Share::of(text, &other(PERIOD_FILE)?),
        PERIOD_FILE => Share::of(&other(QUOTA_FILE)?, text),
        _ => None,
    }
}

/// What the kernel calls an invalid argument, and the group that makes it one.
fn explained(e: io::Error, group: Option<&Path>, wanted: Option<Share>, until: Instant) -> io::Error {
    let (Some(group), Some(wanted)) = (group, wanted) else { return e };
    if e.kind() != io::ErrorKind::InvalidInput {
        return e;
    }
    match shares::above(group, wanted).or_else(|| shares::below(group, wanted, until)) {
        Some(who) => io::Error::new(e.kind(), format!("{e}: {who}")),
        None => e,
    }
}

fn refused(element: &'static str, path: PathBuf, value: String, cause: io::Error) -> LimitError {
    LimitError { element, path, value, cause }
}

fn missing_nodes(wanted: &[u32], there: &[u32]) -> Option<String> {
    let missing: Vec<u32> = wanted.iter().copied().filter(|node| !there.contains(node)).collect();
    (!there.is_empty() && !missing.is_empty()).then(|| {
        let (missing, there) = (cpus::show(&missing), cpus::show(there));
        format!("the host or the control group has no such node as {missing}, there are the nodes {there}")
    })
}

/// The first of the files that is there; the first of all if none is.
fn file_of(group: &Path, files: &[&str], pretend: bool) -> PathBuf {
    let there = files.iter().map(|f| group.join(f)).find(|p| !pretend && p.exists());
    there.unwrap_or_else(|| group.join(files.first().copied().unwrap_or_default()))
}

fn first_line(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.lines().next().unwrap_or_default().to_owned())
}

/// The line of a file about one device; what no limit looks like if there is none. None without the file.
fn line_of(path: &Path, key: &str, neutral: impl Fn() -> String) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let found = text.lines().find(|line| line.split_whitespace().next() == Some(key));
    Some(found.map_or_else(neutral, str::to_owned))
}

/// Takes a limit of a device away. The limit of one that was removed from the host has gone with it.
fn release_device(path: &Path, text: &str, pretend: bool) -> io::Result<()> {
    match write(path, text, pretend) {
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => Ok(()),
        other => other,
    }
}

/// Writes to a file that the kernel made; only in a pretended group it may be missing.
fn write(path: &Path, text: &str, pretend: bool) -> io::Result<()> {
    use io::Write;
    let mut file = fs::OpenOptions::new().write(true).create(pretend).truncate(pretend).open(path)?;
    // An empty write would not reach the kernel's file.
    if text.is_empty() { file.write_all(b"\n") } else { file.write_all(text.as_bytes()) }
}

/// A v1 cpuset has everything that those below it have: it grows from the top and shrinks from the bottom.
fn set_tree(path: &Path, new: &str, old: &str) -> io::Result<()> {
    let (Some(group), Some(file)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let both = cpus::parse(&format!("{old},{new}"));
    write(path, &cpus::show(&both), false)?;
    let below = descendants(group);
    let result = below.iter().try_for_each(|child| {
        let own = first_line(&child.join(file)).unwrap_or_default();
        // What the container has narrowed itself stays narrow, if anything of it is left.
        let set = narrowed(&own, old, new);
        write_there(&child.join(file), &cpus::show(&cpus::parse(&format!("{own},{set}"))))
    });
    let result = result.and_then(|()| {
        below.iter().rev().try_for_each(|child| {
            let own = first_line(&child.join(file)).unwrap_or_default();
            let set = narrowed(&own, &cpus::show(&cpus::parse(&format!("{old},{new}"))), new);
            write_there(&child.join(file), &set)
        })
    });
    result.and_then(|()| write(path, new, false))
}

/// Writes to the file of a group that the container may have removed meanwhile.
fn write_there(path: &Path, text: &str) -> io::Result<()> {
    let gone = [rustix::io::Errno::NOENT, rustix::io::Errno::NODEV].map(|e| Some(e.raw_os_error()));
    write(path, text, false).or_else(|e| if gone.contains(&e.raw_os_error()) { Ok(()) } else { Err(e) })
}

/// What a group below gets when its domain's set becomes `new`: the same, unless it had less than `old`.
fn narrowed(own: &str, old: &str, new: &str) -> String {
    let (own, old, new) = (cpus::parse(own), cpus::parse(old), cpus::parse(new));
    let kept: Vec<u32> = own.iter().copied().filter(|c| new.contains(c)).collect();
    if kept.is_empty() || old.iter().all(|c| own.contains(c)) { cpus::show(&new) } else { cpus::show(&kept) }
}

/// All groups below, each before its own.
fn descendants(group: &Path) -> Vec<PathBuf> {
    let mut all = super::cgroups::children(group);
    let mut at = 0;
    while let Some(next) = all.get(at) {
        let below = super::cgroups::children(next);
        all.extend(below);
        at += 1;
    }
    all
}

/// Sets a quota of v1 and its period, or neither. The share of time between the two writes must not be larger than one
/// that the groups above have, nor, if that can be had, smaller than what those below have.
fn set_quota(path: &Path, old: (&str, u64), new: (&str, u64), pretend: bool) -> io::Result<()> {
    let period_path = path.with_file_name(PERIOD_FILE);
    let period = |value: u64| write(&period_path, &value.to_string(), pretend);
    let quota = |value: &str| write(path, value, pretend);
    let both = |first: &dyn Fn() -> io::Result<()>, then: &dyn Fn() -> io::Result<()>, back: &dyn Fn()| {
        first()?;
        then().inspect_err(|_| back())
    };
    // What cannot be written back was the kernel's own a moment ago.
    let quota_first = || both(&|| quota(new.0), &|| period(new.1), &|| drop(quota(old.0)));
    let period_first = || both(&|| period(new.1), &|| quota(new.0), &|| drop(period(old.1)));
    let without_between = || {
        quota(NONE)?;
        let done = period(new.1).and_then(|()| quota(new.0));
        done.inspect_err(|_| {
            drop(quota(NONE));
            drop(period(old.1));
            drop(quota(old.0));
        })
    };
    // No quota of its own is within that of every group above, whatever the period.
    let shrinks = new.0 == NONE || (old.0 != NONE && new.1 < old.1);
    let done = if shrinks { quota_first() } else { period_first() };
    match done {
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => without_between(),
        other => other,
    }
}

/// Sets memory.max without making the kernel kill: it frees what it can first, and what is used then decides.
fn set_memory(path: &Path, new: &str, pretend: bool) -> io::Result<()> {
    let group = path.parent().unwrap_or(path);
    let usage = || first_line(&group.join("memory.current")).and_then(|t| t.trim().parse::<u64>().ok());
    let limit = new.parse::<u64>().unwrap_or(u64::MAX);
    if !pretend && usage().is_some_and(|used| used > limit) {
        let high = group.join("memory.high");
        let before = first_line(&high).unwrap_or_else(|| "max".into());
        // Above this the kernel takes memory back at once, as far as it can.
        let reclaimed = write(&high, new, false);
        let used = usage();
        write(&high, &before, false)?;
        reclaimed?;
        if used.is_some_and(|used| used > limit) {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::BUSY.raw_os_error()));
        }
    }
    write(path, new, pretend)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_quota_and_its_period_are_one_step() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let group = dir.path().join("cpu");
        fs::create_dir(&group).expect("made");
        let groups = Groups {
            unified: dir.path().into(),
            limited: dir.path().into(),
            legacy: vec![group.clone()],
            controllers: vec![vec!["cpu".into()]],
            memory: None,
        };
        let limits = |quota, period| Limits { quota, period, ..Limits::default() };
        let old = limits(Some(150_000), Some(100_000));
        fs::write(group.join(PERIOD_FILE), "100000").expect("written");
        fs::write(group.join(QUOTA_FILE), "150000").expect("written");
        let steps = groups.steps(&old, &limits(Some(15_000), Some(10_000)), None, false);
        assert_eq!(steps.len(), 1, "{steps:?}");
        assert_eq!((steps[0].new.as_str(), steps[0].kind), ("15000", Kind::Quota(100_000, 10_000)));
        let steps = groups.steps(&old, &limits(Some(15_000), Some(100_000)), None, false);
        assert_eq!((steps.len(), steps[0].kind), (1, Kind::Plain), "{steps:?}");
        let change = groups.change(&old, &limits(Some(15_000), Some(10_000)), None, true).expect("changed");
        let read = |file: &str| fs::read_to_string(group.join(file)).expect("read");
        assert_eq!((read(PERIOD_FILE), read(QUOTA_FILE)), ("10000".into(), "15000".into()));
        change.undo();
        assert_eq!((read(PERIOD_FILE), read(QUOTA_FILE)), ("100000".into(), "150000".into()));
    }

    #[test]
    fn nodes_that_are_not_there_are_refused() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let group = dir.path().join("web");
        fs::create_dir(&group).expect("made");
        fs::write(dir.path().join("cpuset.mems.effective"), "0,2\n").expect("written");
        let groups = Groups {
            unified: group.clone(),
            limited: group.clone(),
            legacy: Vec::new(),
            controllers: Vec::new(),
            memory: None,
        };
        let limits = |set: &str| Limits { nodes: Some(set.into()), ..Limits::default() };
        assert_eq!(groups.missing_nodes("2"), None);
        let why = "the host or the control group has no such node as 1,3, there are the nodes 0,2";
        assert_eq!(groups.missing_nodes("0-3").as_deref(), Some(why));
        let failed =
            format!("cannot set <numatune>: write '0-3' to '{}/cpuset.mems': {why}", group.display());
        assert_eq!(groups.limit(&limits("0-3"), true).expect_err("refused").to_string(), failed);
        let changed = |old, new| groups.change(&limits(old), &limits(new), None, true);
        assert_eq!(changed("0", "0-3").expect_err("refused").to_string(), failed);
        // What was there once is not in the way of another change.
        fs::write(group.join("cpuset.mems"), "0-3").expect("written");
        assert!(changed("0-3", "0-3").is_ok() && changed("0-3", "0").is_ok());
        // Where nobody says, the kernel has the last word.
        assert_eq!(missing_nodes(&[7], &[]), None);
    }
}
