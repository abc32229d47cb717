//! Containers that say when they are up, and those who wait for it.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use berth_tests::daemon::{Daemon, dist, domain_xml};
use berth_tests::host::processor_time;
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use nix::unistd::Pid;

pub const TESTS: &[Test] = &[
    ("ready::init_says_so_and_waiters_hear_it", heard),
    ("ready::who_is_ready_at_once_is_heard", at_once),
    ("ready::a_wait_ends_without_an_answer", unheard),
    ("ready::a_wait_outlives_the_daemon", outlived),
    ("ready::only_its_owner_reaches_the_socket", owner),
    ("ready::a_talkative_container_gets_nowhere", talkative),
    ("ready::credentials_are_for_root_inside_alone", credentials),
];

/// An init that does nothing, until it is told to go.
const WAIT: &str = "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done";

/// The socket as the host sees it.
fn socket(daemon: &Daemon, name: &str) -> Result<PathBuf, String> {
    Ok(PathBuf::from(format!("/proc/{}/root/run/host/notify", daemon.pid_of(name, "initPid")?)))
}

fn say(daemon: &Daemon, name: &str, message: &str) -> Outcome {
    say_at(message, &socket(daemon, name)?)
}

fn say_at(message: &str, place: &Path) -> Outcome {
    let sender = UnixDatagram::unbound().map_err(|e| e.to_string())?;
    sender.send_to(message.as_bytes(), place).map(drop).map_err(|e| format!("send: {e}"))
}

fn wait_ready(daemon: &Daemon, name: &str, ready: bool) -> Outcome {
    wait_for(&format!("'ready' to be {ready}"), 5, || {
        (daemon.status(name).ok()?["ready"] == serde_json::json!(ready)).then_some(())
    })
}

/// Before the daemon has asked for events, if it is fast enough.
fn at_once() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-fast")?;
    fs::copy(dist()?.join("berth-probe"), root.join("bin/berth-probe")).map_err(|e| e.to_string())?;
    daemon.define("t-fast", &domain_xml("t-fast", &root, &["/bin/berth-probe", "--ready"], ""))?;
    for _ in 0..30 {
        let text = daemon.ok(&["start", "t-fast", "--wait", "ready", "--timeout", "20"])?;
        ensure!(text.contains("Domain 't-fast' is ready"), "the wait: {text}");
        daemon.ok(&["destroy", "t-fast"])?;
    }
    Ok(())
}

fn heard() -> Outcome {
    let mut daemon = Daemon::start()?;
    let root = daemon.busybox("t-ready")?;
    let script = format!("trap 'reboot -f' USR1; {WAIT}");
    daemon.define("t-ready", &domain_xml("t-ready", &root, &["/bin/sh", "-c", &script], ""))?;
    ensure!(!daemon.ok(&["dominfo", "t-ready"])?.contains("Ready:"), "one that is shut off says it");
    let mut events = daemon.command()?;
    events.args(["event", "t-ready", "--event", "ready"]).stdout(std::process::Stdio::piped());
    let events = events.spawn().map_err(|e| e.to_string())?;
    let mut start = daemon.command()?;
    start.args(["start", "t-ready", "--wait", "ready"]).stdout(std::process::Stdio::piped());
    let mut start = start.spawn().map_err(|e| e.to_string())?;
    daemon.wait_state("t-ready", "running (booted)", 10)?;
    ensure!(daemon.ok(&["dominfo", "t-ready"])?.contains("Ready:          no\n"), "it is ready at once");
    // What is not the word itself is not it.
    say(&daemon, "t-ready", "STATUS=READY=1")?;
    say(&daemon, "t-ready", "READY=0")?;
    ensure!(start.try_wait().map_err(|e| e.to_string())?.is_none(), "the wait has ended");
    say(&daemon, "t-ready", "STATUS=Up.\nREADY=1\n")?;
    let output = start.wait_with_output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure_eq!(text, "Domain 't-ready' started\nDomain 't-ready' is ready\n\n".to_owned(), "the wait");
    ensure!(output.status.success(), "the wait: {}", output.status);
    let output = events.wait_with_output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure_eq!(text, "event 'ready' for domain 't-ready'\nevents received: 1\n\n".to_owned(), "the event");
    ensure!(daemon.ok(&["dominfo", "t-ready"])?.contains("Ready:          yes\n"), "the row of dominfo");
    // It stays so with another daemon; it is told once, and not listened to any more.
    daemon.kill();
    daemon.launch()?;
    wait_ready(&daemon, "t-ready", true)?;
    // To the container nothing has changed: services go on telling their state, more than the socket has room for.
    for _ in 0..1000 {
        say(&daemon, "t-ready", "READY=1\nSTATUS=Reloaded.")?;
    }
    // A reboot is another life: what was said before does not count.
    let init = Pid::from_raw(daemon.pid_of("t-ready", "initPid")?);
    kill(init, Signal::SIGUSR1).map_err(|e| e.to_string())?;
    daemon.wait_state("t-ready", "running (rebooted)", 10)?;
    wait_ready(&daemon, "t-ready", false)?;
    // Said while no daemon is there, heard by the next one.
    let place = socket(&daemon, "t-ready")?;
    daemon.kill();
    say_at("READY=1", &place)?;
    daemon.launch()?;
    wait_ready(&daemon, "t-ready", true)?;
    daemon.ok(&["destroy", "t-ready"]).map(drop)
}

fn unheard() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-mute")?;
    daemon.define("t-mute", &domain_xml("t-mute", &root, &["/bin/sh", "-c", WAIT], ""))?;
    let said = daemon.virsh(&["start", "t-mute", "--wait", "ready", "--timeout", "1"])?;
    ensure_eq!(said.out, "Domain 't-mute' started\n\n".to_owned(), "what was done");
    let error = said.fails()?;
    ensure!(error.contains("domain 't-mute' runs, but has not said within 1 s that it is ready"), "{error}");
    ensure_eq!(daemon.state("t-mute")?, "running (booted)".to_owned(), "the state");
    daemon.ok(&["destroy", "t-mute"])?;
    // One that ends instead.
    daemon.define("t-mute", &domain_xml("t-mute", &root, &["/bin/sleep", "0.2"], ""))?;
    let error = daemon.virsh(&["start", "t-mute", "--wait", "ready"])?.fails()?;
    ensure!(error.contains("domain 't-mute' ended before it was ready"), "{error}");
    // One that is gone with its end.
    let file = daemon.file("t-gone.xml", &domain_xml("t-gone", &root, &["/bin/true"], ""))?;
    let error = daemon.virsh(&["create", &file, "--wait", "ready"])?.fails()?;
    ensure!(error.contains("domain 't-gone' ended before it was ready"), "{error}");
    // One that has nowhere to say it.
    fs::remove_dir(root.join("run")).map_err(|e| e.to_string())?;
    daemon.define("t-mute", &domain_xml("t-mute", &root, &["/bin/sh", "-c", WAIT], ""))?;
    let error = daemon.virsh(&["start", "t-mute", "--wait", "ready"])?.fails()?;
    ensure!(error.contains("cannot say that it is ready: its root has no directory /run"), "{error}");
    ensure!(!daemon.ok(&["dominfo", "t-mute"])?.contains("Ready:"), "dominfo says it");
    daemon.ok(&["destroy", "t-mute"]).map(drop)
}

/// Restarts of the daemon while a command waits: after one of them init says so, after another one it ends.
fn outlived() -> Outcome {
    let mut daemon = Daemon::start()?;
    let root = daemon.busybox("t-wait")?;
    daemon.define("t-wait", &domain_xml("t-wait", &root, &["/bin/sh", "-c", WAIT], ""))?;
    let end: fn(&mut Daemon) -> Outcome = Daemon::stop;
    let killed: fn(&mut Daemon) -> Outcome = |daemon| {
        daemon.kill();
        Ok(())
    };
    for (end, ready) in [(end, true), (killed, true), (end, false)] {
        let mut start = daemon.command()?;
        start.args(["start", "t-wait", "--wait", "ready", "--timeout", "60"]);
        start.stdout(Stdio::piped()).stderr(Stdio::piped());
        let start = start.spawn().map_err(|e| e.to_string())?;
        daemon.wait_state("t-wait", "running (booted)", 10)?;
        let (init, place) = (Pid::from_raw(daemon.pid_of("t-wait", "initPid")?), socket(&daemon, "t-wait")?);
        std::thread::sleep(Duration::from_millis(300));
        end(&mut daemon)?;
        std::thread::sleep(Duration::from_millis(500));
        if ready {
            daemon.launch()?;
            std::thread::sleep(Duration::from_millis(500));
            say_at("READY=1", &place)?;
        } else {
            kill(init, Signal::SIGTERM).map_err(|e| e.to_string())?;
            daemon.launch()?;
        }
        let output = start.wait_with_output().map_err(|e| e.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = (text(&output.stdout), text(&output.stderr));
        let started = "Domain 't-wait' started\n";
        let want = if ready {
            (format!("{started}Domain 't-wait' is ready\n\n"), String::new())
        } else {
            (format!("{started}\n"), "error: domain 't-wait' ended before it was ready\n".to_owned())
        };
        ensure_eq!(said, want, "the wait");
        if ready {
            daemon.ok(&["destroy", "t-wait"])?;
        }
    }
    Ok(())
}

/// Seen from inside: who owns the socket, and what init is told about it.
fn owner() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-own")?;
    let out = root.join("tmp/out");
    let script = "{ stat -c '%F %u %a' /run/host/notify; echo $NOTIFY_SOCKET; cat /run/host/os-release; } > /tmp/out; exit 0";
    fs::set_permissions(root.join("tmp"), std::os::unix::fs::PermissionsExt::from_mode(0o1777))
        .map_err(|e| e.to_string())?;
    // The virtual machine has none.
    let release = fs::read_to_string("/usr/lib/os-release").unwrap_or_default();
    for map in ["none", "auto"] {
        for (user, uid) in [("", 0), ("<inituser>+1000</inituser><initgroup>+1000</initgroup>", 1000)] {
            let _ = fs::remove_file(&out);
            let xml = domain_xml("t-own", &root, &["/bin/sh", "-c", script], "")
                .replace("</os>", &format!("{user}</os>"))
                .replace("</domain>", &settings(map, ""));
            daemon.define("t-own", &xml)?;
            daemon.ok(&["start", "t-own"])?;
            daemon.wait_state("t-own", "shut off (shutdown)", 10)?;
            let text = fs::read_to_string(&out).map_err(|e| format!("{map} {uid}: {e}"))?;
            let want = format!("socket {uid} 755\n/run/host/notify\n{release}");
            ensure_eq!(text, want, "{map} {uid}");
        }
    }
    Ok(())
}

fn settings(map: &str, more: &str) -> String {
    format!(
        "<metadata><berth:settings xmlns:berth='urn:berth:domain:1'><berth:idmap mode='{map}'/>{more}</berth:settings></metadata></domain>"
    )
}

/// Messages without a meaning, with descriptors in them and as long as they can be: nothing of it stays.
fn talkative() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-talk")?;
    daemon.define("t-talk", &domain_xml("t-talk", &root, &["/bin/sh", "-c", WAIT], ""))?;
    daemon.ok(&["start", "t-talk"])?;
    let controller = daemon.pid_of("t-talk", "id")?;
    let open =
        || fs::read_dir(format!("/proc/{controller}/fd")).map(Iterator::count).map_err(|e| e.to_string());
    let before = open()?;
    let sender = UnixDatagram::unbound().map_err(|e| e.to_string())?;
    let address = UnixAddr::new(&socket(&daemon, "t-talk")?).map_err(|e| e.to_string())?;
    let long = vec![b'R'; 100_000];
    let null = fs::File::open("/dev/null").map_err(|e| e.to_string())?;
    let descriptors = [null.as_fd().as_raw_fd(); 16];
    let (begin, before_time) = (std::time::Instant::now(), processor_time(controller));
    for n in 0..2000 {
        let text = [&b""[..], &long, b"READY=", b"\n\n\0"][n % 4];
        let control = [ControlMessage::ScmRights(&descriptors)];
        sendmsg(
            sender.as_raw_fd(),
            &[std::io::IoSlice::new(text)],
            &control,
            MsgFlags::empty(),
            Some(&address),
        )
        .map_err(|e| format!("message {n}: {e}"))?;
    }
    // It takes its time over it, and that of others.
    let (taken, time) = (begin.elapsed(), processor_time(controller) - before_time);
    ensure!(u128::from(time) * 5 < taken.as_nanos(), "{time} ns of the controller in {taken:?}");
    // It still answers, and has kept nothing.
    wait_ready(&daemon, "t-talk", false)?;
    ensure_eq!(open()?, before, "descriptors of the controller");
    say(&daemon, "t-talk", "READY=1")?;
    wait_ready(&daemon, "t-talk", true)?;
    ensure_eq!(open()?, before, "descriptors of the controller, with the socket");
    daemon.ok(&["destroy", "t-talk"]).map(drop)
}

fn credentials() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-cred")?;
    let out = root.join("tmp/out");
    let secret = daemon.work().join("secret");
    let of_file = format!("<berth:credential name='db.password' file='{}'/>", secret.display());
    let both = format!("{of_file}<berth:credential name='greeting' value='hi'/>");
    // Seen by root, then tried by somebody else; once more after a reboot, for which the host's file does not matter.
    let script = "{ echo $CREDENTIALS_DIRECTORY; cd $CREDENTIALS_DIRECTORY; stat -c '%n %u %a' . *; cat *; echo
        echo x > new || echo no new; echo x >> greeting || echo no change; rm -f greeting || echo no removal
        su nobody -s /bin/sh -c 'cat /run/host/credentials/greeting' || echo not for nobody; } > /tmp/out 2>/dev/null
        [ -e /tmp/again ] && exit 0; touch /tmp/again; reboot -f";
    fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nnobody:x:99:99::/:/bin/sh\n")
        .map_err(|e| e.to_string())?;
    for map in ["none", "auto"] {
        let _ = fs::remove_file(root.join("tmp/again"));
        let _ = fs::remove_file(&out);
        fs::write(&secret, "pass word").map_err(|e| e.to_string())?;
        let xml = domain_xml("t-cred", &root, &["/bin/sh", "-c", script], "");
        let with = |more: &str| xml.replace("</domain>", &settings(map, more));
        daemon.define("t-cred", &with(&both))?;
        daemon.ok(&["start", "t-cred"])?;
        daemon.wait_state("t-cred", "shut off (shutdown)", 10)?;
        ensure!(root.join("tmp/again").exists(), "{map}: there was no second life");
        let text = fs::read_to_string(&out).map_err(|e| e.to_string())?;
        let want = "/run/host/credentials\n. 0 500\ndb.password 0 400\ngreeting 0 400\npass wordhi\n\
            no new\nno change\nno removal\nnot for nobody\n";
        ensure_eq!(text, want.to_owned(), "{map}");
        fs::remove_file(&secret).map_err(|e| e.to_string())?;
        let error = daemon.virsh(&["start", "t-cred"])?.fails()?;
        for word in ["credential 'db.password'", &secret.display().to_string(), "No such file"] {
            ensure!(error.contains(word), "'{word}' is not in: {error}");
        }
    }
    fs::remove_dir(root.join("run")).map_err(|e| e.to_string())?;
    let xml = domain_xml("t-cred", &root, &["/bin/sh", "-c", script], "");
    let value = "<berth:credential name='greeting' value='hi'/>";
    daemon.define("t-cred", &xml.replace("</domain>", &settings("auto", value)))?;
    let error = daemon.virsh(&["start", "t-cred"])?.fails()?;
    ensure!(error.contains("credentials need such a directory"), "{error}");
    Ok(())
}
