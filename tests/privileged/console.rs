//! The console: relayed, replayed, shared, logged, and never in the way of init.

use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use berth_schemas::wire::CallKind;
use berth_tests::daemon::{Daemon, domain_xml};
use berth_tests::host;
use berth_tests::suite::Test;
use berth_tests::terminal::Terminal;
use berth_tests::{Outcome, ensure, ensure_eq, patient, wait_for};
use serde_json::json;

pub const TESTS: &[Test] = &[
    ("console::a_person_can_use_it", person),
    ("console::escape_leaves_and_the_container_goes_on", escape),
    ("console::replays_what_was_printed", replay),
    ("console::one_writer_and_force_takes_over", writer),
    ("console::window_size_reaches_the_program", window),
    ("console::signals_of_the_terminal_work", signals),
    ("console::several_consoles", several),
    ("console::everything_is_logged_and_rotated", log),
    ("console::a_stuck_reader_costs_only_itself", stuck),
    ("console::a_vanished_reader_costs_nothing", vanished),
    ("console::early_bytes_are_kept", early),
    ("console::the_host_tty_works", host_tty),
    ("console::survives_daemon_and_reboot", survives),
    ("console::memory_stays_after_a_gigabyte", memory),
    ("console::start_with_console", start_console),
    ("console::open_console_gives_a_terminal", open_console),
];

fn shell(daemon: &Daemon, name: &str) -> Outcome {
    let root = daemon.busybox(name)?;
    daemon.define(name, &domain_xml(name, &root, &["/bin/sh"], ""))?;
    daemon.ok(&["start", name]).map(drop)
}

pub fn open(daemon: &Daemon, words: &[&str]) -> Result<Terminal, String> {
    let mut command = daemon.command()?;
    command.arg("console").args(words);
    let mut terminal = Terminal::run(&command)?;
    terminal.expect("Escape character is ^] (Ctrl + ])", 10)?;
    Ok(terminal)
}

/// Types a line and waits for what it prints. The marks are split where they are typed, so that the echo is not taken
/// for them, and numbered, so that what is replayed is not either.
pub fn run(terminal: &mut Terminal, line: &str) -> Result<String, String> {
    static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let n = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    terminal.say(&format!("echo be''gin{n}; {line}; echo en''d{n}\r"))?;
    terminal.expect(&format!("begin{n}\r\n"), 10)?;
    let text = terminal.expect(&format!("end{n}\r\n"), 10)?;
    Ok(text.trim_end_matches(&format!("end{n}\r\n")).replace('\r', ""))
}

fn person() -> Outcome {
    let daemon = Daemon::start()?;
    shell(&daemon, "t-con")?;
    let mut terminal = open(&daemon, &["t-con"])?;
    ensure!(terminal.transcript.contains("Connected to domain 't-con'"), "{}", terminal.transcript);
    terminal.say("\r")?;
    ensure_eq!(run(&mut terminal, "echo $$")?, "1\n".to_owned(), "the shell is init");
    ensure!(run(&mut terminal, "tty")?.starts_with("/dev/"), "the shell has no terminal");
    ensure_eq!(run(&mut terminal, "printf '\\303\\244'")?, "ä".to_owned(), "bytes that are not ASCII");
    // The shell ends, so the container ends, so the console ends.
    terminal.say("exit\r")?;
    ensure_eq!(terminal.wait(10)?, 0, "the exit status of the console");
    daemon.wait_state("t-con", "shut off (shutdown)", 5)
}

fn escape() -> Outcome {
    let daemon = Daemon::start()?;
    shell(&daemon, "t-esc")?;
    let mut terminal = open(&daemon, &["t-esc"])?;
    terminal.say("\u{1d}")?;
    ensure_eq!(terminal.wait(5)?, 0, "after ^]");
    let mut command = daemon.command()?;
    command.args(["-e", "^A", "console", "t-esc"]);
    let mut terminal = Terminal::run(&command)?;
    terminal.expect("Escape character is ^A", 10)?;
    terminal.say("\u{1}")?;
    ensure_eq!(terminal.wait(5)?, 0, "after ^A");
    ensure_eq!(daemon.state("t-esc")?, "running (booted)".to_owned(), "the state");
    daemon.ok(&["destroy", "t-esc"]).map(drop)
}

fn replay() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-rep")?;
    let script =
        "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; echo all printed; exec sleep 1000";
    daemon.define("t-rep", &domain_xml("t-rep", &root, &["/bin/sh", "-c", script], ""))?;
    daemon.ok(&["start", "t-rep"])?;
    wait_for("the output", 30, || {
        daemon.ok(&["console", "t-rep", "--log"]).ok().filter(|t| t.contains("all printed"))
    })?;
    let mut terminal = open(&daemon, &["t-rep"])?;
    let text = terminal.expect("all printed", 5)?;
    ensure!((60_000..=66_000).contains(&text.len()), "{} bytes were replayed", text.len());
    ensure!(text.contains("line 19999"), "the last line is not replayed");
    daemon.ok(&["destroy", "t-rep"]).map(drop)
}

fn writer() -> Outcome {
    let daemon = Daemon::start()?;
    shell(&daemon, "t-two")?;
    let mut first = open(&daemon, &["t-two"])?;
    first.say("\r")?;
    run(&mut first, "true")?;
    let mut second = open(&daemon, &["t-two"])?;
    second.expect("--force", 5)?;
    second.say("echo from-sec''ond\r")?;
    ensure!(!first.drain(Duration::from_millis(500)).contains("from-second"), "a second writer was let in");
    // Both see what is printed.
    ensure_eq!(run(&mut first, "echo bo''th")?, "both\n".to_owned(), "the writer");
    second.expect("both", 5)?;
    let mut third = open(&daemon, &["--force", "t-two"])?;
    third.say("\r")?;
    ensure_eq!(run(&mut third, "echo tak''en")?, "taken\n".to_owned(), "after --force");
    first.expect("taken", 5)?;
    first.drain(Duration::from_millis(100));
    first.say("echo fr''om-first\r")?;
    ensure!(!third.drain(Duration::from_millis(500)).contains("from-first"), "the old writer still writes");
    daemon.ok(&["destroy", "t-two"])?;
    for terminal in [&mut first, &mut second, &mut third] {
        ensure_eq!(terminal.wait(5)?, 0, "a console after the end");
    }
    Ok(())
}

fn window() -> Outcome {
    let daemon = Daemon::start()?;
    shell(&daemon, "t-win")?;
    let mut terminal = open(&daemon, &["t-win"])?;
    terminal.say("\r")?;
    ensure_eq!(run(&mut terminal, "stty size")?, "24 80\n".to_owned(), "the size at first");
    terminal.say("trap 'echo WIN''CH' WINCH\r")?;
    run(&mut terminal, "true")?;
    terminal.resize(132, 50)?;
    wait_for("the new size", 5, || run(&mut terminal, "stty size").ok().filter(|s| s.contains("50 132")))?;
    ensure!(terminal.transcript.contains("WINCH"), "no SIGWINCH: {}", terminal.transcript);
    daemon.ok(&["destroy", "t-win"]).map(drop)
}

fn signals() -> Outcome {
    let daemon = Daemon::start()?;
    shell(&daemon, "t-sig")?;
    let mut terminal = open(&daemon, &["t-sig"])?;
    terminal.say("\r")?;
    run(&mut terminal, "true")?;
    terminal.say("sleep 1000\r")?;
    std::thread::sleep(Duration::from_millis(300));
    terminal.say("\u{3}")?;
    std::thread::sleep(Duration::from_millis(300));
    terminal.say("echo status''$?\r")?;
    terminal.expect("status130", 5)?;
    // Job control: ^Z stops the job and fg brings it back.
    terminal.say("sleep 1000\r")?;
    std::thread::sleep(Duration::from_millis(300));
    terminal.say("\u{1a}")?;
    terminal.expect("Stopped", 5)?;
    ensure!(run(&mut terminal, "jobs")?.contains("sleep 1000"), "no job");
    daemon.ok(&["destroy", "t-sig"]).map(drop)
}

fn several() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-sev")?;
    let script = "while :; do read line < /dev/tty2 && echo second got $line > /dev/tty2; done";
    daemon.define(
        "t-sev",
        &domain_xml("t-sev", &root, &["/bin/sh", "-c", script], "    <console type='pty'/>\n"),
    )?;
    daemon.ok(&["start", "t-sev"])?;
    let mut terminal = open(&daemon, &["--devname", "console1", "t-sev"])?;
    std::thread::sleep(Duration::from_millis(200));
    terminal.say("hello\r")?;
    terminal.expect("second got hello", 5)?;
    let mut command = daemon.command()?;
    command.args(["console", "t-sev", "--devname", "console7"]);
    let mut wrong = Terminal::run(&command)?;
    wrong.expect("console7", 5)?;
    ensure_eq!(wrong.wait(5)?, 1, "a console that is not there");
    daemon.ok(&["destroy", "t-sev"]).map(drop)
}

fn log() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-log")?;
    daemon.define(
        "t-log",
        &domain_xml("t-log", &root, &["/bin/sh", "-c", "echo this boot failed; exit 1"], ""),
    )?;
    daemon.ok(&["start", "t-log"])?;
    daemon.wait_state("t-log", "shut off (crashed)", 10)?;
    ensure!(
        daemon.ok(&["console", "t-log", "--log"])?.contains("this boot failed"),
        "the log of a domain that is off"
    );
    let file = daemon.root().join("var/log/berth/t-log.console.log");
    ensure!(
        std::fs::read_to_string(&file).unwrap_or_default().contains("this boot failed"),
        "{}",
        file.display()
    );
    daemon.define(
        "t-log",
        &domain_xml(
            "t-log",
            &root,
            &["/bin/sh", "-c", "head -c 30000000 /dev/zero | tr '\\0' x; echo; echo the end; exit 0"],
            "",
        ),
    )?;
    daemon.ok(&["start", "t-log"])?;
    daemon.wait_state("t-log", "shut off (shutdown)", 60)?;
    let mut total = 0;
    for entry in std::fs::read_dir(daemon.root().join("var/log/berth")).map_err(|e| e.to_string())?.flatten()
    {
        if entry.file_name().to_string_lossy().starts_with("t-log.console.log") {
            total += entry.metadata().map_err(|e| e.to_string())?.len();
        }
    }
    ensure!((1_000_000..16_000_000).contains(&total), "the logs of 30 MB have {total} bytes");
    ensure!(
        daemon.ok(&["console", "t-log", "--log"])?.trim_end().ends_with("the end"),
        "the end is not in the log"
    );
    Ok(())
}

/// Attaches at the level of bytes.
fn attach(daemon: &Daemon, name: &str, mode: &str) -> Result<std::os::unix::net::UnixStream, String> {
    let mut client = daemon.client()?;
    client.send_call(
        "io.berth.Domain.AttachConsole",
        &json!({ "name": name, "mode": mode }),
        CallKind::Upgrade,
    )?;
    let reply = client.reply()?;
    ensure!(reply.error.is_none(), "{reply:?}");
    Ok(client.stream)
}

fn stuck() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-stk")?;
    // Init counts how far its output has come.
    let script =
        "i=0; while :; do head -c 1000000 /dev/zero | tr '\\0' y; i=$((i+1)); echo $i > /tmp/count; done";
    daemon.define("t-stk", &domain_xml("t-stk", &root, &["/bin/sh", "-c", script], ""))?;
    daemon.ok(&["start", "t-stk"])?;
    // The file is empty for a moment each time it is written.
    let count = |root: &Path| {
        let read = || std::fs::read_to_string(root.join("tmp/count")).ok()?.trim().parse::<u64>().ok();
        wait_for("the count", 5, read)
    };
    let stuck = attach(&daemon, "t-stk", "shared")?;
    std::thread::sleep(Duration::from_secs(1));
    let before = count(&root)?;
    wait_for("2 MB of init while a reader is stuck", 2, || {
        count(&root).is_ok_and(|now| now > before + 2).then_some(())
    })?;
    // Another reader is served at the same time.
    let mut good = attach(&daemon, "t-stk", "view")?;
    good.set_read_timeout(Some(patient(2))).map_err(|e| e.to_string())?;
    let (mut buffer, mut read, begin) = (vec![0; 65536], 0, Instant::now());
    while read < 1_000_000 {
        read += good.read(&mut buffer).map_err(|e| format!("the other reader got {read} bytes: {e}"))?;
        ensure!(begin.elapsed() < patient(2), "the other reader got {read} bytes in {:?}", begin.elapsed());
    }
    drop(stuck);
    let begin = Instant::now();
    daemon.ok(&["destroy", "t-stk"])?;
    ensure!(begin.elapsed() < patient(2), "destroy took {:?}", begin.elapsed());
    Ok(())
}

fn vanished() -> Outcome {
    let daemon = Daemon::start()?;
    shell(&daemon, "t-van")?;
    let controller = daemon.pid_of("t-van", "id")?;
    let before = host::descriptors(controller);
    for _ in 0..50 {
        let mut stream = attach(&daemon, "t-van", "shared")?;
        stream.write_all(b"echo x\n").map_err(|e| e.to_string())?;
    }
    wait_for("the viewers to be gone", 5, || (host::descriptors(controller) <= before + 1).then_some(()))?;
    ensure_eq!(daemon.state("t-van")?, "running (booted)".to_owned(), "the state");
    daemon.ok(&["destroy", "t-van"]).map(drop)
}

fn early() -> Outcome {
    let daemon = Daemon::start()?;
    shell(&daemon, "t-ear")?;
    let mut client = daemon.client()?;
    let mut bytes = berth_schemas::wire::call_bytes(
        "io.berth.Domain.AttachConsole",
        &json!({ "name": "t-ear" }),
        CallKind::Upgrade,
    );
    bytes.extend(b"echo ear''ly\n");
    client.send(&bytes)?;
    let reply = client.reply()?;
    ensure!(reply.error.is_none(), "{reply:?}");
    let mut text = String::from_utf8_lossy(&client.rest()).into_owned();
    client.stream.set_read_timeout(Some(patient(5))).map_err(|e| e.to_string())?;
    let mut buffer = [0; 4096];
    while !text.contains("early") {
        let n = client.stream.read(&mut buffer).map_err(|e| format!("{e}: {text}"))?;
        ensure!(n > 0, "the console ended: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    daemon.ok(&["destroy", "t-ear"]).map(drop)
}

fn host_tty() -> Outcome {
    let daemon = Daemon::start()?;
    shell(&daemon, "t-hst")?;
    let tty = daemon.ok(&["ttyconsole", "t-hst"])?.trim().to_owned();
    ensure!(tty.starts_with("/dev/pts/"), "ttyconsole: {tty}");
    ensure!(daemon.ok(&["dumpxml", "t-hst"])?.contains(&format!("tty='{tty}'")), "the tty in the document");
    for _ in 0..3 {
        let mut file =
            std::fs::File::options().read(true).write(true).open(&tty).map_err(|e| format!("{tty}: {e}"))?;
        file.write_all(b"echo to''ken\n").map_err(|e| e.to_string())?;
        let (mut text, mut buffer, begin) = (String::new(), [0; 4096], Instant::now());
        while !text.contains("token") {
            ensure!(begin.elapsed() < patient(5), "nothing came back: {text}");
            let n = file.read(&mut buffer).map_err(|e| e.to_string())?;
            text.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    }
    // Nobody holds it open: the controller must not spin.
    let controller = daemon.pid_of("t-hst", "id")?;
    let ticks = |pid: i32| -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')').map_or(0, |(_, r)| {
            r.split_whitespace().skip(11).take(2).filter_map(|w| w.parse::<u64>().ok()).sum()
        })
    };
    let before = ticks(controller);
    std::thread::sleep(Duration::from_secs(1));
    ensure!(ticks(controller) <= before + 2, "the controller is busy with nothing to do");
    daemon.ok(&["destroy", "t-hst"]).map(drop)
}

fn survives() -> Outcome {
    let mut daemon = Daemon::start()?;
    shell(&daemon, "t-srv")?;
    let mut terminal = open(&daemon, &["t-srv"])?;
    terminal.say("\r")?;
    run(&mut terminal, "true")?;
    daemon.kill();
    ensure_eq!(run(&mut terminal, "echo st''ill")?, "still\n".to_owned(), "without the daemon");
    terminal.say("reboot -f\r")?;
    terminal.expect("built-in shell", 10).map_err(|e| format!("after the reboot: {e}"))?;
    ensure_eq!(run(&mut terminal, "echo ag''ain")?, "again\n".to_owned(), "after the reboot");
    daemon.launch()?;
    ensure_eq!(run(&mut terminal, "echo ad''opted")?, "adopted\n".to_owned(), "after the daemon's restart");
    daemon.ok(&["destroy", "t-srv"]).map(drop)
}

fn memory() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-gig")?;
    let script = "read go; head -c 1000000000 /dev/zero; touch /tmp/done; exec sleep 1000";
    daemon.define("t-gig", &domain_xml("t-gig", &root, &["/bin/sh", "-c", script], ""))?;
    daemon.ok(&["start", "t-gig"])?;
    let controller = daemon.pid_of("t-gig", "id")?;
    let mut console = attach(&daemon, "t-gig", "shared")?;
    // A controller that has nothing to do for a second gives its code back; what has grown for good stays.
    let settle = || std::thread::sleep(Duration::from_millis(2500));
    settle();
    // What is its own: pages of the program are shared, and how many of them are in memory is the page cache's choice.
    // The whole PSS is a row of the benchmark.
    let idle = host::memory(controller, "Pss_Anon").ok_or("no memory figures")?;
    ensure!(idle <= 200, "an idle controller has {idle} KiB of its own");
    console.write_all(b"go\n").map_err(|e| e.to_string())?;
    // This reader is stuck from now on.
    wait_for("a gigabyte", 240, || root.join("tmp/done").exists().then_some(()))?;
    settle();
    let after = host::memory(controller, "Pss_Anon").ok_or("no memory figures")?;
    // The ring that is replayed to viewers, 64 KiB, is made with the first output.
    ensure!(after <= idle + 80, "its own memory grew from {idle} to {after} KiB");
    daemon.ok(&["destroy", "t-gig"]).map(drop)
}

fn start_console() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-sc")?;
    daemon.define(
        "t-sc",
        &domain_xml("t-sc", &root, &["/bin/sh", "-c", "echo first words; read x; exit 0"], ""),
    )?;
    let mut command = daemon.command()?;
    command.args(["start", "--console", "t-sc"]);
    let mut terminal = Terminal::run(&command)?;
    terminal.expect("first words", 10)?;
    terminal.say("\r")?;
    ensure_eq!(terminal.wait(10)?, 0, "the exit status");
    Ok(())
}

fn open_console() -> Outcome {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let daemon = Daemon::start()?;
    shell(&daemon, "t-open")?;
    let mut client = daemon.client()?;
    client.send_call("io.berth.Domain.OpenConsole", &json!({ "name": "t-open" }), CallKind::Once)?;
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0; 4096];
    let mut iov = [std::io::IoSliceMut::new(&mut bytes)];
    recvmsg(&client.stream, &mut iov, &mut control, RecvFlags::CMSG_CLOEXEC).map_err(|e| e.to_string())?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            descriptors.extend(fds);
        }
    }
    ensure_eq!(descriptors.len(), 1, "descriptors that came along");
    let mut file = std::fs::File::from(descriptors.remove(0));
    file.write_all(b"echo o''pened\n").map_err(|e| e.to_string())?;
    let (mut text, mut buffer, begin) = (String::new(), [0; 4096], Instant::now());
    while !text.contains("opened") {
        ensure!(begin.elapsed() < patient(5), "nothing came back: {text}");
        let n = file.read(&mut buffer).map_err(|e| e.to_string())?;
        text.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    daemon.ok(&["destroy", "t-open"]).map(drop)
}
