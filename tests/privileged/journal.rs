//! The daemon's log where that is the journal: what fields its entries have. The journal is a socket of the test's own.

use std::collections::BTreeMap;
use std::fs;
use std::os::linux::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use berth_tests::daemon::{Daemon, domain_xml};
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, patient};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

pub const TESTS: &[Test] = &[
    ("journal::a_domain_has_a_story_with_who_wanted_what", story),
    ("journal::one_that_does_not_read_stops_nobody", deaf),
];

/// The fields of an entry; one can be there more than once.
type Entry = BTreeMap<String, Vec<String>>;

/// The socket of a journal that there is as long as this thread.
fn socket() -> Result<UnixDatagram, String> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| format!("unshare: {e}"))?;
    let folder = "/run/systemd";
    fs::create_dir_all(folder).map_err(|e| format!("cannot make '{folder}': {e}"))?;
    mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .map_err(|e| format!("cannot mount on '{folder}': {e}"))?;
    fs::create_dir(format!("{folder}/journal")).map_err(|e| format!("cannot make a folder: {e}"))?;
    let socket = UnixDatagram::bind(format!("{folder}/journal/socket"));
    socket.map_err(|e| format!("cannot listen: {e}"))
}

/// The entries that come from now on.
fn entries(socket: UnixDatagram) -> Receiver<Entry> {
    let (sender, entries) = channel();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count) = socket.recv(&mut buffer) {
            if let Some(entry) = fields(&buffer[..count])
                && sender.send(entry).is_err()
            {
                return;
            }
        }
    });
    entries
}

/// Starts it again with its log in the journal.
fn launch(daemon: &mut Daemon) -> Outcome {
    daemon.stop()?;
    let log = fs::metadata(daemon.work().join("berthd.log")).map_err(|e| format!("the log: {e}"))?;
    let stream = format!("{}:{}", log.st_dev(), log.st_ino());
    daemon.set_environment(&[("JOURNAL_STREAM", &stream)]);
    daemon.launch()
}

/// Each field is `NAME=VALUE` and a new line, or its name, a new line, the length of its value in eight bytes, the value,
/// and a new line.
fn fields(mut bytes: &[u8]) -> Option<Entry> {
    let mut entry = Entry::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|b| *b == b'\n')?;
        let name = String::from_utf8_lossy(&bytes[..end]).into_owned();
        if let Some((name, value)) = name.split_once('=') {
            entry.entry(name.to_owned()).or_default().push(value.to_owned());
            bytes = &bytes[end + 1..];
            continue;
        }
        let (length, rest) = bytes[end + 1..].split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let value = String::from_utf8_lossy(rest.get(..length)?).into_owned();
        entry.entry(name).or_default().push(value);
        bytes = rest.get(length + 1..)?;
    }
    Some(entry)
}

fn story() -> Outcome {
    std::thread::spawn(told).join().map_err(|_| "the test panicked".to_owned())?
}

fn told() -> Outcome {
    let entries = entries(socket()?);
    let mut daemon = Daemon::start()?;
    launch(&mut daemon)?;
    let root = daemon.busybox("t-story")?;
    daemon.define("t-story", &domain_xml("t-story", &root, &["/bin/sleep", "1000"], ""))?;
    let uuid = daemon.ok(&["domuuid", "t-story"])?.trim().to_owned();
    daemon.ok(&["start", "t-story"])?;
    let device = |source: &Path| {
        let source = source.display();
        format!("<filesystem type='mount'><source dir='{source}'/><target dir='/mnt'/></filesystem>")
    };
    let missing = daemon.file("missing.xml", &device(&daemon.work().join("missing")))?;
    daemon.virsh(&["attach-device", "t-story", &missing])?.fails()?;
    let there = daemon.file("there.xml", &device(daemon.work()))?;
    daemon.ok(&["attach-device", "t-story", &there])?;
    daemon.ok(&["detach-device", "t-story", &there])?;
    daemon.ok(&["destroy", "t-story"])?;
    daemon.ok(&["undefine", "t-story"])?;
    daemon.virsh(&["destroy", "t-story"])?.fails()?;
    let mut seen: Vec<Entry> = Vec::new();
    let deadline = Instant::now() + patient(10);
    let mut find = |message: &str| -> Result<Entry, String> {
        let is_it = |e: &&Entry| e.get("MESSAGE").is_some_and(|m| m[0].ends_with(message));
        loop {
            if let Some(entry) = seen.iter().find(is_it) {
                return Ok(entry.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let entry = entries.recv_timeout(left);
            seen.push(entry.map_err(|_| format!("no '{message}' in {seen:?}"))?);
        }
    };
    let field = |entry: &Entry, name: &str| entry.get(name).map(|values| values.join(", "));
    let said = |word: &str| Some(word.to_owned());
    for (message, operation, method) in [
        ("io.berth.Domain.Define of 't-story': done", None, said("io.berth.Domain.Define")),
        ("domain 't-story': defined (added)", None, None),
        ("io.berth.Domain.Start of 't-story': done", None, said("io.berth.Domain.Start")),
        ("domain 't-story': started (booted)", said("start"), None),
        ("domain 't-story': deviceAdded (/mnt)", said("change"), None),
        ("domain 't-story': deviceRemoved (/mnt)", said("change"), None),
        ("io.berth.Domain.Destroy of 't-story': done", None, said("io.berth.Domain.Destroy")),
        ("domain 't-story': stopped (destroyed): destroyed", said("stop"), None),
        ("io.berth.Domain.Undefine of 't-story': done", None, said("io.berth.Domain.Undefine")),
    ] {
        let entry = find(message)?;
        ensure_eq!(field(&entry, "BERTH_DOMAIN"), said("t-story"), "the domain of '{message}'");
        ensure_eq!(field(&entry, "BERTH_UUID"), said(&uuid), "the uuid of '{message}'");
        ensure_eq!(field(&entry, "BERTH_OPERATION"), operation, "the operation of '{message}'");
        ensure_eq!(field(&entry, "BERTH_METHOD"), method, "the method of '{message}'");
    }
    let failed =
        |e: &&Entry| e.get("MESSAGE").is_some_and(|m| m[0].contains("a change of its devices failed: "));
    let failed = seen.iter().find(failed).ok_or_else(|| format!("no failure in {seen:?}"))?;
    ensure_eq!(field(failed, "BERTH_OPERATION"), said("change"), "the operation of a change that failed");
    ensure_eq!(field(failed, "BERTH_DOMAIN"), said("t-story"), "the domain of a change that failed");
    ensure!(!daemon.log().contains("started (booted)"), "the log is in the journal and in lines");
    Ok(())
}

fn deaf() -> Outcome {
    std::thread::spawn(unread).join().map_err(|_| "the test panicked".to_owned())?
}

/// As many calls as the journal's queue and the daemon's have no room for, and then a reader.
fn unread() -> Outcome {
    let socket = socket()?;
    let mut daemon = Daemon::start()?;
    launch(&mut daemon)?;
    let mut client = daemon.client()?;
    let nobody = serde_json::json!({ "name": "x".repeat(150) });
    for _ in 0..5000 {
        let failed = client.call("io.berth.Domain.Destroy", &nobody).err();
        ensure!(failed.is_some_and(|e| e.starts_with("io.berth.")), "a call is not answered as it should be");
    }
    daemon.ok(&["list", "--all"])?;
    let entries = entries(socket);
    let deadline = Instant::now() + patient(20);
    let lost = loop {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let entry = entries.recv_timeout(left).map_err(|_| "no loss is told")?;
        if let Some(lost) = entry.get("BERTH_LOST") {
            let message = entry.get("MESSAGE").map(|m| m.join(", "));
            ensure_eq!(message, Some(format!("{} log entries were lost", lost[0])), "the message");
            ensure_eq!(entry.get("PRIORITY").map(|p| p.join(", ")), Some("4".to_owned()), "its priority");
            break lost[0].parse::<u32>().map_err(|e| format!("'{}': {e}", lost[0]))?;
        }
    };
    ensure!((1..5000).contains(&lost), "{lost} of 5000 were lost");
    daemon.stop()
}
