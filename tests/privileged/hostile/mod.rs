//! Roots whose owner means ill: each goes through a start, its console, requests to shut down and an end, and neither
//! a canary outside nor the host nor the root itself may be different afterwards.

mod racer;
mod roots;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use berth_tests::canary::Canary;
use berth_tests::daemon::{Daemon, Printed};
use berth_tests::host::Traces;
use berth_tests::picture::{Detail, Picture};
use berth_tests::suite::Test;
use berth_tests::terminal::Terminal;
use berth_tests::{Outcome, ensure, ensure_eq, wait_for};

use roots::{Expected, Hostile, Places};

pub const TESTS: &[Test] = &[
    ("hostile::the_canary_notices", canary),
    ("hostile::roots_with_ids_of_their_own", own_ids),
    ("hostile::roots_with_the_hosts_ids", host_ids),
    ("hostile::a_racer_swaps_what_is_mounted_on", racer::swapped),
];

/// Longest time for any single command.
const DEADLINE: Duration = Duration::from_secs(10);

/// Something that a canary has to notice.
type Touch = fn(&Path);

/// A canary that never sings would prove nothing.
fn canary() -> Outcome {
    let mut quiet = Canary::new()?;
    quiet.check()?;
    quiet.check().map_err(|e| format!("its own look is taken for a touch: {e}"))?;
    let cases: [(&str, Touch); 6] = [
        ("opened", |top| drop(std::fs::read(top.join("secret")))),
        ("opened", |top| drop(std::fs::create_dir(top.join("sub/new")))),
        ("opened", |top| drop(std::fs::read_dir(top.join("sub")))),
        ("connected", |top| drop(std::os::unix::net::UnixStream::connect(top.join("socket")))),
        ("opened", |top| drop(std::fs::write(top.join("initctl"), "x"))),
        ("opened", |top| drop(std::os::unix::fs::chown(top.join("file"), Some(1), Some(1)))),
    ];
    for (index, (word, touch)) in cases.into_iter().enumerate() {
        let mut canary = Canary::new()?;
        touch(canary.path());
        let told = canary.check().err().unwrap_or_default();
        ensure!(told.contains(word), "touch {index} is not noticed: '{told}'");
    }
    Ok(())
}

fn own_ids() -> Outcome {
    all(true)
}

fn host_ids() -> Outcome {
    all(false)
}

/// Every root of the table. All that is wrong is told, not only the first.
fn all(own_ids: bool) -> Outcome {
    let table = Hostile::all()?;
    ensure!(table.len() >= 60, "only {} hostile roots", table.len());
    let only = std::env::var("BERTH_HOSTILE").ok();
    let daemon = Daemon::start()?;
    let mut canary = Canary::new()?;
    let data = tempfile::tempdir().map_err(|e| e.to_string())?;
    std::fs::write(data.path().join("file"), "from the host\n").map_err(|e| e.to_string())?;
    let programs = berth_tests::daemon::dist()?;
    let before = Picture::of(&programs, Detail::Contents)?;
    let mut wrong = Vec::new();
    let mut counts = [0; 2];
    for hostile in table.iter().filter(|h| only.as_ref().is_none_or(|o| h.name.contains(o.as_str()))) {
        let name = format!("t-h{}-{}", if own_ids { "own" } else { "host" }, hostile.name);
        let canary_path = canary.path().to_owned();
        let places = Places { canary: &canary_path, data: data.path() };
        let one = One { daemon: &daemon, hostile, name, own_ids, places };
        counts[usize::from(*hostile.expected(own_ids) == Expected::Runs)] += 1;
        let result = one.go().and_then(|()| canary.check());
        wrong.extend(result.err().map(|e| format!("{}: {e}", hostile.name)));
    }
    println!("{} hostile roots were refused and {} ran; {} were wrong", counts[0], counts[1], wrong.len());
    ensure_eq!(
        Picture::of(&programs, Detail::Contents)?.difference(&before),
        Vec::<String>::new(),
        "our programs"
    );
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// One root's way.
struct One<'a> {
    daemon: &'a Daemon,
    hostile: &'a Hostile,
    name: String,
    own_ids: bool,
    places: Places<'a>,
}

impl One<'_> {
    fn go(&self) -> Outcome {
        let root = self.daemon.work().join(format!("{}.root", self.name));
        self.hostile.make(&root, &self.places)?;
        let xml = self.hostile.document(&self.name, &root, &self.places, self.own_ids)?;
        if let Expected::Rejected(word) = self.hostile.expected(self.own_ids) {
            let file = self.daemon.file(&format!("{}.xml", self.name), &xml)?;
            let error = self.command(&["define", &file])?.fails()?;
            ensure!(error.contains(word.as_str()), "'{word}' is not in the error: {error}");
            return self.hostile.unmake(&root);
        }
        self.daemon.define(&self.name, &xml)?;
        let result = self.live(&root);
        // Also after a failure, as the next one begins where this one ended.
        let _ = self.daemon.virsh(&["destroy", &self.name]);
        self.daemon.ok(&["undefine", &self.name])?;
        let unmade = self.hostile.unmake(&root);
        result.and(unmade)
    }

    /// From the start to the end, and what it has left.
    fn live(&self, root: &Path) -> Outcome {
        let host = Traces::of(&self.name, self.daemon.work());
        let picture = Picture::of(root, Detail::Contents)?;
        let data = Picture::of(self.places.data, Detail::Contents)?;
        let devices = self.hostile.watch_devices(root)?;
        let started = self.command(&["start", &self.name])?;
        match self.hostile.expected(self.own_ids) {
            Expected::Refused(word) => {
                let error = started.fails()?;
                ensure!(error.contains(word.as_str()), "'{word}' is not in the error: {error}");
                ensure!(error.contains('\''), "the error names no path: {error}");
            }
            expected => {
                started.ok()?;
                let running = *expected == Expected::Runs;
                let lived = self.use_it(running);
                self.end(running)?;
                lived?;
            }
        }
        let left = Traces::of(&self.name, self.daemon.work()).difference(&host);
        ensure_eq!(left, Vec::<String>::new(), "left on the host");
        if let Ok(events) = devices.read_events() {
            return Err(format!("a device of the root was opened: {:?}", events.first().map(|e| e.mask)));
        }
        let changed = Picture::of(root, Detail::Contents)?.difference(&picture);
        ensure_eq!(changed, Vec::<String>::new(), "changed in the root");
        let changed = Picture::of(self.places.data, Detail::Contents)?.difference(&data);
        ensure_eq!(changed, Vec::<String>::new(), "changed in the mounted folder");
        Ok(())
    }

    /// While it runs.
    fn use_it(&self, running: bool) -> Outcome {
        if !running {
            return Ok(());
        }
        self.look_at_mounts()?;
        self.console()?;
        self.hotplug()
    }

    /// No mount of the container shows anything of the canary.
    fn look_at_mounts(&self) -> Outcome {
        let init = self.daemon.pid_of(&self.name, "initPid")?;
        let text = std::fs::read_to_string(format!("/proc/{init}/mountinfo")).map_err(|e| e.to_string())?;
        let folder = self.places.canary.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for line in text.lines() {
            ensure!(!line.contains(&folder), "the canary is mounted inside: {line}");
        }
        ensure!(text.lines().count() > 5, "there are no mounts: {text}");
        Ok(())
    }

    fn console(&self) -> Outcome {
        let mut command = self.daemon.command()?;
        command.args(["console", &self.name]);
        let mut terminal = Terminal::run(&command)?;
        terminal.expect("ready", 10)?;
        terminal.say("hello\r")?;
        terminal.expect("heard hello", 10)?;
        terminal.say("\x1d")?;
        ensure_eq!(terminal.wait(5)?, 0, "the status of the console");
        Ok(())
    }

    /// Attaches a folder of the host at each place that is hostile, and below it, and takes it off again.
    fn hotplug(&self) -> Outcome {
        let places: Vec<String> =
            self.hostile.changed_paths().into_iter().chain(["/hot/plug".to_owned()]).collect();
        for place in places.iter().flat_map(|p| [p.clone(), format!("{p}/plugged")]) {
            let element =
                roots::filesystem("mount", &format!("dir='{}'", self.places.data.display()), &place);
            let file = self.daemon.file(&format!("{}.hot.xml", self.name), &element)?;
            let attached = self.command(&["attach-device", &self.name, &file, "--live"])?;
            self.look_at_mounts().map_err(|e| format!("attached at {place}: {e}"))?;
            if attached.status == 0 {
                self.command(&["detach-device", &self.name, &file, "--live"])?
                    .ok()
                    .map_err(|e| format!("{place}: {e}"))?;
            } else {
                ensure!(attached.err.contains('\''), "{place}: the error names no path: {attached:?}");
            }
            std::fs::remove_file(&file).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Asks it to end, in each way; then ends it.
    fn end(&self, running: bool) -> Outcome {
        if running {
            // No init here reads the fifo: nobody can have been asked, and nobody outside was.
            let error = self.command(&["shutdown", &self.name, "--mode", "initctl"])?.fails()?;
            ensure!(error.contains("initctl"), "what was asked: {error}");
            self.command(&["shutdown", &self.name])?.ok()?;
            self.daemon.wait_state(&self.name, "shut off (shutdown)", 10)?;
        } else {
            let _ = self.command(&["shutdown", &self.name])?;
            let _ = self.command(&["destroy", &self.name])?;
        }
        wait_for("the end", 10, || self.daemon.state(&self.name).ok().filter(|s| s.starts_with("shut off")))
            .map(drop)
    }

    /// Runs a command, which must end in time.
    fn command(&self, words: &[&str]) -> Result<Printed, String> {
        let begin = Instant::now();
        let plain = self.daemon.command()?;
        let mut command = Command::new("timeout");
        command.arg(DEADLINE.as_secs().to_string()).arg(plain.get_program()).args(words);
        for (key, value) in plain.get_envs() {
            command.env(key, value.unwrap_or_default());
        }
        let output = command.output().map_err(|e| format!("cannot run timeout: {e}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let took = begin.elapsed();
        ensure!(took < DEADLINE, "{words:?} hangs: {}", self.daemon.log());
        Ok(Printed {
            status: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        })
    }
}
