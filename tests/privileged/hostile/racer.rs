//! Somebody swaps what is mounted on with a link to the canary, all the time, while a container is started again and
//! again (CVE-2021-30465, CVE-2024-45310): each start works or is refused, and the canary sees nothing of it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use berth_tests::canary::Canary;
use berth_tests::daemon::{Daemon, domain_xml};
use berth_tests::host::Traces;
use berth_tests::picture::{Detail, Picture};
use berth_tests::{Outcome, ensure, ensure_eq};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;

/// Starts altogether, all of them in CI.
const STARTS: usize = 2000;

/// What is swapped: path in the root, and what it is swapped with, a link to that in the canary.
struct Race {
    name: &'static str,
    path: &'static str,
    with: &'static str,
    /// Folders to make.
    folders: &'static [&'static str],
    /// Where a folder of the host is to be mounted.
    mount: &'static str,
    /// Whether init is a user that has to be looked up.
    user: bool,
    /// Whether a mount point has to be made below what is swapped. It is looked for by its path again when it is to be
    /// removed, and stays in the root if that leads elsewhere at that moment.
    makes: bool,
}

const RACES: &[Race] = &[
    Race {
        name: "target",
        path: "mnt/here",
        with: "sub",
        folders: &["mnt/here"],
        mount: "/mnt/here",
        user: false,
        makes: false,
    },
    Race {
        name: "missing",
        path: "mnt",
        with: "sub",
        folders: &["mnt"],
        mount: "/mnt/a/b",
        user: false,
        makes: true,
    },
    Race {
        name: "parent",
        path: "a/b/c",
        with: "",
        folders: &["a/b/c/d/e"],
        mount: "/a/b/c/d/e",
        user: false,
        makes: false,
    },
    Race { name: "dev", path: "dev", with: "", folders: &[], mount: "/mnt", user: false, makes: false },
    Race { name: "proc", path: "proc", with: "proc", folders: &[], mount: "/mnt", user: false, makes: false },
    Race {
        name: "run",
        path: "run",
        with: "",
        folders: &["run"],
        mount: "/run/here",
        user: false,
        makes: true,
    },
    Race { name: "etc", path: "etc", with: "", folders: &[], mount: "/etc/here", user: true, makes: true },
    Race {
        name: "passwd",
        path: "etc/passwd",
        with: "passwd",
        folders: &[],
        mount: "/mnt",
        user: true,
        makes: false,
    },
];

/// How it went.
#[derive(Default)]
struct Score {
    started: usize,
    refused: usize,
    swaps: u64,
    took: Duration,
}

pub fn swapped() -> Outcome {
    let daemon = Daemon::start()?;
    let mut canary = Canary::new()?;
    let data = tempfile::tempdir().map_err(|e| e.to_string())?;
    let begin = Instant::now();
    let (mut started, mut refused) = (0, 0);
    for race in RACES {
        for own_ids in [true, false] {
            let score = run(&daemon, race, own_ids, &canary, data.path())
                .map_err(|e| format!("{}, own ids: {own_ids}: {e}", race.name))?;
            canary.check().map_err(|e| format!("{}, own ids: {own_ids}: {e}", race.name))?;
            println!(
                "race of {:<8} {:>3} started, {:>3} refused, {} swaps in {:?}",
                race.name, score.started, score.refused, score.swaps, score.took
            );
            started += score.started;
            refused += score.refused;
        }
    }
    println!(
        "{} starts in {:?}: {started} went well, {refused} were refused",
        started + refused,
        begin.elapsed()
    );
    ensure!(started + refused >= STARTS, "only {} starts", started + refused);
    ensure!(started > STARTS / 20, "nearly no start went well: there was no race but a wall");
    ensure!(refused > STARTS / 20, "nearly no start met the link: there was no race");
    Ok(())
}

fn run(daemon: &Daemon, race: &Race, own_ids: bool, canary: &Canary, data: &Path) -> Result<Score, String> {
    let name = format!("t-race-{}{}", race.name, u8::from(own_ids));
    let root = daemon.busybox(&name)?;
    for folder in race.folders {
        std::fs::create_dir_all(root.join(folder)).map_err(|e| e.to_string())?;
    }
    let link = root.join("link");
    std::os::unix::fs::symlink(canary.path().join(race.with), &link).map_err(|e| e.to_string())?;
    let devices = format!(
        "    <filesystem type='mount'><source dir='{}'/><target dir='{}'/></filesystem>\n",
        data.display(),
        race.mount
    );
    let mut xml = domain_xml(&name, &root, &["/bin/sleep", "1000"], &devices);
    if race.user {
        xml = xml.replace("</os>", "<inituser>guest</inituser><initgroup>guest</initgroup></os>");
    }
    if !own_ids {
        let none = "<metadata><berth:settings xmlns:berth='urn:berth:domain:1'><berth:idmap mode='none'/></berth:settings></metadata><os>";
        xml = xml.replacen("<os>", none, 1);
    }
    daemon.define(&name, &xml)?;
    let before = Traces::of(&name, daemon.work());
    let picture = Picture::of(&root, Detail::Contents)?;
    let swapper = Swapper::new(root.join(race.path), link);
    let begin = Instant::now();
    let mut score = std::thread::scope(|scope| {
        scope.spawn(|| swapper.swap());
        let score = starts(daemon, &name, canary.path(), STARTS.div_ceil(RACES.len() * 2));
        swapper.stop.store(true, Ordering::Relaxed);
        score
    })?;
    swapper.put_back()?;
    score.swaps = swapper.count.load(Ordering::Relaxed);
    score.took = begin.elapsed();
    ensure!(score.swaps > 1000, "there were few swaps");
    let top = root.join(race.path);
    let made = root.join(race.mount.trim_start_matches('/'));
    for left in made.ancestors().take_while(|p| race.makes && *p != top) {
        // Only what is empty: anything else is found below.
        let _ = std::fs::remove_dir(left);
    }
    ensure_eq!(
        Traces::of(&name, daemon.work()).difference(&before),
        Vec::<String>::new(),
        "left on the host"
    );
    let changed = Picture::of(&root, Detail::Contents)?.difference(&picture);
    ensure_eq!(changed, Vec::<String>::new(), "changed in the root");
    daemon.ok(&["undefine", &name])?;
    Ok(score)
}

/// Starts and destroys.
fn starts(daemon: &Daemon, name: &str, canary: &Path, count: usize) -> Result<Score, String> {
    let mut client = daemon.client()?;
    let folder = canary.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut score = Score::default();
    for _ in 0..count {
        match client.call("io.berth.Domain.Start", &json!({ "name": name })) {
            Ok(_) => {
                score.started += 1;
                let init = daemon.pid_of(name, "initPid")?;
                let text = std::fs::read_to_string(format!("/proc/{init}/mountinfo")).unwrap_or_default();
                ensure!(text.lines().count() > 5, "there are no mounts: {text}");
                for line in text.lines() {
                    ensure!(!line.contains(&folder), "the canary is mounted inside: {line}");
                }
                let status = std::fs::read_to_string(format!("/proc/{init}/status")).unwrap_or_default();
                let ids =
                    status.lines().filter(|l| ["Uid:", "Gid:", "Groups:"].iter().any(|w| l.starts_with(w)));
                let found = ids.flat_map(str::split_whitespace).any(|word| word == "4242");
                ensure!(!found, "init is the canary's user: {status}");
                client.call("io.berth.Domain.Destroy", &json!({ "name": name }))?;
            }
            Err(e) => {
                score.refused += 1;
                ensure!(e.contains('\'') && e.contains("StartFailed"), "not an error of the set-up: {e}");
            }
        }
    }
    Ok(score)
}

/// Swaps two paths.
struct Swapper {
    path: PathBuf,
    link: PathBuf,
    stop: AtomicBool,
    count: AtomicU64,
}

impl Swapper {
    fn new(path: PathBuf, link: PathBuf) -> Self {
        Self { path, link, stop: AtomicBool::new(false), count: AtomicU64::new(0) }
    }

    fn exchange(&self) {
        if renameat_with(CWD, &self.path, CWD, &self.link, RenameFlags::EXCHANGE).is_ok() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn swap(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            self.exchange();
            // Some hundred swaps in each start, at no place that is known. Without a pause, the kernel's lock of all
            // renames is all that there is to see: every lookup waits for it.
            std::thread::sleep(Duration::from_micros(20));
        }
    }

    /// The link at the place of the link again.
    fn put_back(&self) -> Outcome {
        if self.path.is_symlink() {
            self.exchange();
        }
        ensure!(self.link.is_symlink(), "the swapped are not there any more");
        Ok(())
    }
}
