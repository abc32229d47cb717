//! The life of a domain: defined, started, stopped, in every way that it can end.

use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use berth_schemas::wire::CallKind;
use berth_tests::daemon::{Daemon, NOBODY, domain_xml};
use berth_tests::host::{Traces, alive};
use berth_tests::suite::Test;
use berth_tests::varlink::Client;
use berth_tests::{Outcome, ensure, ensure_eq, patience, patient, wait_for};
use serde_json::json;

pub const TESTS: &[Test] = &[
    ("life::start_and_destroy_leave_nothing", start_destroy),
    ("life::every_way_to_end_has_its_reason", reasons),
    ("life::policies_are_honoured", policies),
    ("life::reboot_from_inside", reboot),
    ("life::shutdown_and_reboot_from_outside", shutdown),
    ("life::shutdown_of_a_deaf_init_says_so", deaf),
    ("life::the_service_manager_asks_by_a_signal", service_manager),
    ("life::stop_all_outlives_the_daemon", stop_all),
    ("life::transient_domains_vanish", transient),
    ("life::undefine_while_running", undefine_running),
    ("life::live_and_next_definition", live_and_next),
    ("life::destroy_is_fast_and_does_not_ask", destroy_is_fast),
    ("life::autostart_once_per_boot", autostart),
    ("life::events_tell_the_story", events),
    ("life::autodestroy_follows_the_connection", autodestroy),
    ("life::crash_loops_are_slowed_down", crash_loop),
    ("life::a_user_with_many_connections_keeps_nobody_out", crowd),
    ("life::signals_reach_init_and_it_tells_its_name", signals),
];

/// A script as init that does its own small job; `sleep` is a child, so signals are handled at once.
const WAIT: &str = "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done";

/// Everybody may connect: one who does it all the time must not be in the way of root, nor of other users.
fn crowd() -> Outcome {
    let daemon = Daemon::start()?;
    let fine = daemon.virsh_by(NOBODY, &["list", "--all"])?;
    ensure_eq!(fine.status, 0, "one connection: {fine:?}");
    let listener =
        format!("'{}' event --all --loop >/dev/null & ", daemon.work().join("virsh-lite").display());
    let script = format!("n=0; while [ $n -lt 600 ]; do n=$((n+1)); {listener} done; wait");
    let mut crowd = std::process::Command::new(NOBODY[0]);
    crowd
        .args(&NOBODY[1..])
        .args(["sh", "-c", &script])
        .env("LIBVIRT_DEFAULT_URI", daemon.uri())
        .env("HOME", "/");
    crowd.process_group(0).stdin(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut crowd = crowd.spawn().map_err(|e| format!("cannot run a crowd: {e}"))?;
    let group = nix::unistd::Pid::from_raw(i32::try_from(crowd.id()).unwrap_or(0));
    let seen = (|| {
        let refusal = wait_for("a refusal", 60, || {
            daemon.virsh_by(NOBODY, &["list"]).ok().filter(|p| p.status != 0).map(|p| p.err)
        })?;
        let why = "the daemon takes no more connections: user 65534 has 128 connections already\n";
        ensure!(refusal.ends_with(why), "{refusal}");
        daemon.ok(&["list", "--all"])?;
        let other: Vec<String> = NOBODY.iter().map(|w| w.replace("65534", "65533")).collect();
        let other: Vec<&str> = other.iter().map(String::as_str).collect();
        let other = daemon.virsh_by(&other, &["list"])?;
        ensure_eq!(other.status, 0, "another user: {other:?}");
        ensure_eq!(daemon.log().matches("refusing a connection").count(), 1, "lines in the log");
        ensure!(daemon.log().contains("refusing a connection of user 65534: "), "{}", daemon.log());
        Ok(())
    })();
    nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL)
        .map_err(|e| format!("the crowd: {e}"))?;
    crowd.wait().map_err(|e| e.to_string())?;
    seen?;
    wait_for("a place again", 20, || {
        daemon.virsh_by(NOBODY, &["list"]).ok().filter(|p| p.status == 0).map(drop)
    })
}

fn start_destroy() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-sd")?;
    daemon.define("t-sd", &domain_xml("t-sd", &root, &["/bin/sh", "-c", WAIT], ""))?;
    let before = Traces::of("t-sd", daemon.work());
    ensure_eq!(daemon.ok(&["start", "t-sd"])?, "Domain 't-sd' started\n\n".to_owned(), "start");
    ensure_eq!(daemon.state("t-sd")?, "running (booted)".to_owned(), "the state");
    let (id, init) = (daemon.pid_of("t-sd", "id")?, daemon.pid_of("t-sd", "initPid")?);
    ensure!(daemon.ok(&["list"])?.contains(&format!(" {id}")), "the id is the controller's pid");
    ensure!(alive(id) && alive(init), "the processes");
    let again = daemon.virsh(&["start", "t-sd"])?.fails()?;
    ensure!(again.contains("Domain is already active"), "{again}");
    ensure_eq!(daemon.ok(&["destroy", "t-sd"])?, "Domain 't-sd' destroyed\n\n".to_owned(), "destroy");
    ensure_eq!(daemon.state("t-sd")?, "shut off (destroyed)".to_owned(), "the state");
    ensure_eq!(Traces::of("t-sd", daemon.work()).difference(&before), Vec::<String>::new(), "residue");
    Ok(())
}

fn reasons() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-why")?;
    for (what, script, state, kind) in [
        ("poweroff", "poweroff -f", "shut off (shutdown)", "poweroff"),
        ("halt", "halt -f", "shut off (shutdown)", "poweroff"),
        ("exit 0", "exit 0", "shut off (shutdown)", "exited"),
        ("exit 7", "exit 7", "shut off (crashed)", "exited"),
    ] {
        daemon.define(
            "t-why",
            &domain_xml("t-why", &root, &["/bin/sh", "-c", &format!("sleep 0.2; {script}")], ""),
        )?;
        let before = Traces::of("t-why", daemon.work());
        daemon.ok(&["start", "t-why"])?;
        daemon.wait_state("t-why", state, 10).map_err(|e| format!("{what}: {e}"))?;
        let exit = daemon.status("t-why")?["lastExit"].clone();
        ensure_eq!(exit["kind"], json!(kind), "{what}: the kind");
        if what == "exit 7" {
            ensure_eq!(exit["status"], json!(7), "the exit status");
        }
        ensure_eq!(
            Traces::of("t-why", daemon.work()).difference(&before),
            Vec::<String>::new(),
            "{what}: residue"
        );
    }
    // A signal that init cannot handle, sent from outside.
    daemon.define("t-why", &domain_xml("t-why", &root, &["/bin/sh", "-c", WAIT], ""))?;
    daemon.ok(&["start", "t-why"])?;
    kill(daemon.pid_of("t-why", "initPid")?)?;
    daemon.wait_state("t-why", "shut off (crashed)", 10)?;
    let exit = daemon.status("t-why")?["lastExit"].clone();
    ensure_eq!((&exit["kind"], &exit["signal"]), (&json!("signaled"), &json!(9)), "a killed init");
    // The controller itself.
    daemon.ok(&["start", "t-why"])?;
    let init = daemon.pid_of("t-why", "initPid")?;
    let begin = Instant::now();
    kill(daemon.pid_of("t-why", "id")?)?;
    daemon.wait_state("t-why", "shut off (crashed)", 5)?;
    ensure!(begin.elapsed() < patient(1), "it took {:?}", begin.elapsed());
    ensure!(!alive(init), "init outlived its controller");
    ensure_eq!(daemon.status("t-why")?["lastExit"]["kind"], json!("controllerLost"), "a killed controller");
    Ok(())
}

fn kill(pid: i32) -> Outcome {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
        .map_err(|e| format!("cannot kill {pid}: {e}"))
}

fn policies() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-pol")?;
    let with = |script: &str, policy: &str| {
        domain_xml("t-pol", &root, &["/bin/sh", "-c", script], "")
            .replace("</os>", &format!("</os>\n  {policy}"))
    };
    // The first run ends in some way, the next ones stay.
    let once =
        |end: &str| format!("if [ -e /tmp/again ]; then {WAIT}; fi; touch /tmp/again; sleep 0.3; {end}");
    for (end, policy, state) in [
        ("poweroff -f", "<on_poweroff>restart</on_poweroff>", "running (restarted)"),
        ("exit 3", "<on_crash>restart</on_crash>", "running (restarted)"),
        ("reboot -f", "<on_reboot>restart</on_reboot>", "running (rebooted)"),
        ("reboot -f", "<on_reboot>destroy</on_reboot>", "shut off (shutdown)"),
    ] {
        let _ = std::fs::remove_file(root.join("tmp/again"));
        daemon.define("t-pol", &with(&once(end), policy))?;
        daemon.ok(&["start", "t-pol"])?;
        daemon.wait_state("t-pol", state, 15).map_err(|e| format!("{end} with {policy}: {e}"))?;
        if state.starts_with("running") {
            ensure_eq!(daemon.status("t-pol")?["restarts"], json!(1), "{policy}: restarts");
            daemon.ok(&["destroy", "t-pol"])?;
        }
    }
    Ok(())
}

fn reboot() -> Outcome {
    let mut daemon = Daemon::start()?;
    let root = daemon.busybox("t-rb")?;
    let script = format!("if [ -e /tmp/again ]; then {WAIT}; fi; sleep 1; touch /tmp/again; reboot -f");
    daemon.define("t-rb", &domain_xml("t-rb", &root, &["/bin/sh", "-c", &script], ""))?;
    daemon.ok(&["start", "t-rb"])?;
    let id = daemon.pid_of("t-rb", "id")?;
    // The definition that is running must be the one that runs after the reboot, even if another is waiting.
    let uuid = daemon.ok(&["domuuid", "t-rb"])?;
    let next = domain_xml("t-rb", &root, &["/bin/false"], "")
        .replace("</name>", &format!("</name><uuid>{}</uuid>", uuid.trim()));
    daemon.define("t-rb", &next)?;
    // And it must not need the daemon.
    daemon.kill();
    wait_for("the reboot", 10, || root.join("tmp/again").exists().then_some(()))?;
    std::thread::sleep(Duration::from_millis(500));
    daemon.launch()?;
    ensure_eq!(daemon.state("t-rb")?, "running (rebooted)".to_owned(), "the state");
    ensure_eq!(daemon.pid_of("t-rb", "id")?, id, "the id");
    ensure!(daemon.ok(&["dumpxml", "t-rb"])?.contains("/bin/sh"), "the live definition was lost");
    ensure!(
        daemon.ok(&["dumpxml", "--inactive", "t-rb"])?.contains("/bin/false"),
        "the next definition was lost"
    );
    let mut client = daemon.client()?;
    client.send_call("io.berth.Domain.Subscribe", &json!({ "since": 0 }), CallKind::More)?;
    let mut kinds = Vec::new();
    let last = loop {
        let parameters = client.reply()?.parameters.unwrap_or_default();
        kinds.push(parameters["event"]["kind"].clone());
        if parameters["event"]["kind"] == json!("rebooted") {
            break parameters;
        }
    };
    ensure_eq!(last["event"]["name"], json!("t-rb"), "the event: {kinds:?}");
    daemon.ok(&["destroy", "t-rb"]).map(drop)
}

fn shutdown() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-shut")?;
    std::fs::write(
        root.join("etc/inittab"),
        "::sysinit:/bin/true\n::respawn:/bin/sleep 1000\n::shutdown:/bin/touch /tmp/clean\n",
    )
    .map_err(|e| e.to_string())?;
    daemon.define("t-shut", &domain_xml("t-shut", &root, &["/sbin/init"], ""))?;
    daemon.ok(&["start", "t-shut"])?;
    wait_for("init to be ready", 5, || ready(&daemon, "t-shut", "sleep"))?;
    ensure_eq!(
        daemon.ok(&["reboot", "t-shut"])?,
        "Domain 't-shut' is being rebooted\n\n".to_owned(),
        "reboot"
    );
    daemon.wait_state("t-shut", "running (rebooted)", 15)?;
    ensure!(root.join("tmp/clean").exists(), "the reboot was not clean");
    std::fs::remove_file(root.join("tmp/clean")).map_err(|e| e.to_string())?;
    wait_for("init to be ready", 5, || ready(&daemon, "t-shut", "sleep"))?;
    ensure_eq!(
        daemon.ok(&["shutdown", "t-shut"])?,
        "Domain 't-shut' is being shutdown\n\n".to_owned(),
        "shutdown"
    );
    daemon.wait_state("t-shut", "shut off (shutdown)", 15)?;
    ensure!(root.join("tmp/clean").exists(), "the shutdown was not clean");
    // A plain program that handles SIGTERM.
    daemon.define("t-term", &domain_xml("t-term", &root, &["/bin/sh", "-c", WAIT], ""))?;
    daemon.ok(&["start", "t-term"])?;
    wait_for("init to be ready", 5, || ready(&daemon, "t-term", "sleep"))?;
    daemon.ok(&["shutdown", "t-term"])?;
    daemon.wait_state("t-term", "shut off (shutdown)", 10)
}

/// One domain takes its time to shut down and one never does it; the daemon is restarted meanwhile, by order and by force.
fn stop_all() -> Outcome {
    let mut daemon = Daemon::start()?;
    let root = daemon.busybox("t-stop")?;
    let init = |traps: &str| format!("trap '{traps}' TERM; while :; do sleep 1000 & wait $!; done");
    for (name, traps) in [("t-slow", "sleep 4; exit 0"), ("t-never", ":")] {
        daemon.define(name, &domain_xml(name, &root, &["/bin/sh", "-c", &init(traps)], ""))?;
    }
    for forced in [false, true] {
        for name in ["t-slow", "t-never"] {
            daemon.ok(&["start", name])?;
            wait_for("init to be ready", 5, || ready(&daemon, name, "sleep"))?;
        }
        let mut stop = daemon.command()?;
        stop.args(["stop-all", "--timeout", "10"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let begin = Instant::now();
        let stop = stop.spawn().map_err(|e| e.to_string())?;
        std::thread::sleep(Duration::from_millis(800));
        if forced {
            daemon.kill();
        } else {
            daemon.stop()?;
        }
        std::thread::sleep(Duration::from_millis(500));
        daemon.launch()?;
        let output = stop.wait_with_output().map_err(|e| e.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = (output.status.code(), text(&output.stdout), text(&output.stderr));
        let out = "Domain 't-never' is being shutdown\nDomain 't-slow' is being shutdown\nDomain 't-never' destroyed\n";
        ensure_eq!(said, (Some(0), out.to_owned(), String::new()), "stop-all, forced: {forced}");
        let took = begin.elapsed();
        ensure!((Duration::from_secs(10)..patient(15)).contains(&took), "it took {took:?}");
        ensure_eq!(daemon.state("t-slow")?, "shut off (shutdown)".to_owned(), "the slow one");
        ensure_eq!(daemon.state("t-never")?, "shut off (destroyed)".to_owned(), "the deaf one");
    }
    Ok(())
}

/// Whether a domain's init has a child with this name.
fn ready(daemon: &Daemon, name: &str, child: &str) -> Option<()> {
    let init = daemon.pid_of(name, "initPid").ok()?;
    let children = std::fs::read_to_string(format!("/proc/{init}/task/{init}/children")).ok()?;
    children
        .split_whitespace()
        .filter_map(|p| p.parse().ok())
        .any(|p| berth_tests::host::command_line(p).first().is_some_and(|w| w.ends_with(child)))
        .then_some(())
}

fn deaf() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-deaf")?;
    daemon.define("t-deaf", &domain_xml("t-deaf", &root, &["/bin/sleep", "1000"], ""))?;
    daemon.ok(&["start", "t-deaf"])?;
    for words in
        [&["shutdown", "t-deaf"][..], &["reboot", "t-deaf"], &["shutdown", "t-deaf", "--mode", "initctl"]]
    {
        let error = daemon.virsh(words)?.fails()?;
        ensure!(error.contains("destroy"), "{words:?}: no way out is named: {error}");
    }
    ensure_eq!(daemon.state("t-deaf")?, "running (booted)".to_owned(), "the state");
    daemon.ok(&["destroy", "t-deaf"]).map(drop)
}

/// What systemd sends to everything in a scope that it stops.
fn service_manager() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-urg")?;
    std::fs::write(
        root.join("etc/inittab"),
        "::sysinit:/bin/true\n::respawn:/bin/sleep 1000\n::shutdown:/bin/touch /tmp/clean\n",
    )
    .map_err(|e| e.to_string())?;
    let urge = |name: &str| -> Outcome {
        for which in ["initPid", "id"] {
            let pid = nix::unistd::Pid::from_raw(daemon.pid_of(name, which)?);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGURG)
                .map_err(|e| format!("cannot signal {pid}: {e}"))?;
        }
        Ok(())
    };
    daemon.define("t-urg", &domain_xml("t-urg", &root, &["/sbin/init"], ""))?;
    daemon.ok(&["start", "t-urg"])?;
    wait_for("init to be ready", 5, || ready(&daemon, "t-urg", "sleep"))?;
    urge("t-urg")?;
    daemon.wait_state("t-urg", "shut off (shutdown)", 15)?;
    ensure!(root.join("tmp/clean").exists(), "the end was not clean");
    // One that cannot be asked keeps nobody waiting.
    daemon.define("t-urg2", &domain_xml("t-urg2", &root, &["/bin/sleep", "1000"], ""))?;
    daemon.ok(&["start", "t-urg2"])?;
    urge("t-urg2")?;
    daemon.wait_state("t-urg2", "shut off (destroyed)", 15)
}

fn transient() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-tr")?;
    let file = daemon.file("t-tr.xml", &domain_xml("t-tr", &root, &["/bin/sh", "-c", WAIT], ""))?;
    ensure_eq!(daemon.ok(&["create", &file])?, format!("Domain 't-tr' created from {file}\n\n"), "create");
    ensure!(daemon.ok(&["dominfo", "t-tr"])?.contains("Persistent:     no"), "persistent");
    let again = daemon.virsh(&["create", &file])?.fails()?;
    ensure!(again.contains("domain 't-tr' is already active"), "{again}");
    for words in [&["undefine", "t-tr"][..], &["autostart", "t-tr"]] {
        let error = daemon.virsh(words)?.fails()?;
        ensure!(error.contains("transient"), "{words:?}: {error}");
    }
    daemon.ok(&["destroy", "t-tr"])?;
    ensure_eq!(daemon.virsh(&["dominfo", "t-tr"])?.status, 1, "it is still there");
    // Ending by itself takes it away too.
    let file = daemon.file("t-tr.xml", &domain_xml("t-tr", &root, &["/bin/sh", "-c", "sleep 0.2"], ""))?;
    daemon.ok(&["create", &file])?;
    wait_for("the end of it", 10, || daemon.virsh(&["dominfo", "t-tr"]).ok().filter(|p| p.status == 1))?;
    Ok(())
}

fn undefine_running() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-ur")?;
    let xml = domain_xml("t-ur", &root, &["/bin/sh", "-c", WAIT], "");
    daemon.define("t-ur", &xml)?;
    daemon.ok(&["start", "t-ur"])?;
    daemon.ok(&["undefine", "t-ur"])?;
    ensure!(daemon.ok(&["dominfo", "t-ur"])?.contains("Persistent:     no"), "it is still persistent");
    // Defining it again makes it persistent again, without a stop.
    let init = daemon.pid_of("t-ur", "initPid")?;
    let uuid = daemon.ok(&["domuuid", "t-ur"])?;
    daemon.define("t-ur", &xml.replace("</name>", &format!("</name><uuid>{}</uuid>", uuid.trim())))?;
    ensure!(daemon.ok(&["dominfo", "t-ur"])?.contains("Persistent:     yes"), "it is not persistent again");
    ensure_eq!(daemon.pid_of("t-ur", "initPid")?, init, "it was restarted");
    daemon.ok(&["undefine", "t-ur"])?;
    daemon.ok(&["destroy", "t-ur"])?;
    ensure_eq!(daemon.virsh(&["dominfo", "t-ur"])?.status, 1, "it is still there");
    Ok(())
}

fn live_and_next() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-ln")?;
    daemon.define("t-ln", &domain_xml("t-ln", &root, &["/bin/sh", "-c", WAIT], ""))?;
    daemon.ok(&["start", "t-ln"])?;
    let live = daemon.ok(&["dumpxml", "t-ln"])?;
    let id = daemon.pid_of("t-ln", "id")?;
    ensure!(
        live.starts_with(&format!("<domain type='lxc' id='{id}'>")),
        "the id is not in the live document: {live}"
    );
    ensure!(live.contains("tty='/dev/pts/"), "the tty is not in the live document: {live}");
    let inactive = daemon.ok(&["dumpxml", "--inactive", "t-ln"])?;
    ensure!(
        !inactive.contains("tty=") && !inactive.contains(" id='"),
        "the definition has live data: {inactive}"
    );
    let file = daemon.file("next.xml", &inactive.replace("262144", "131072"))?;
    daemon.ok(&["define", &file])?;
    ensure!(daemon.ok(&["dumpxml", "t-ln"])?.contains("262144"), "the live document changed");
    ensure!(
        daemon.ok(&["dumpxml", "--inactive", "t-ln"])?.contains("131072"),
        "the next document did not change"
    );
    daemon.ok(&["destroy", "t-ln"])?;
    ensure!(daemon.ok(&["dumpxml", "t-ln"])?.contains("131072"), "the next document did not take over");
    Ok(())
}

fn destroy_is_fast() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-df")?;
    // A tree of processes, all of which ignore SIGTERM.
    let script = "trap '' TERM; for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; wait";
    daemon.define("t-df", &domain_xml("t-df", &root, &["/bin/sh", "-c", script], ""))?;
    let mut times = Vec::new();
    for _ in 0..5 {
        daemon.ok(&["start", "t-df"])?;
        let begin = Instant::now();
        daemon.ok(&["destroy", "t-df"])?;
        times.push(begin.elapsed());
    }
    times.sort();
    ensure!(times[2] < Duration::from_millis(150) * patience(), "destroy takes {times:?}");
    Ok(())
}

fn autostart() -> Outcome {
    let mut daemon = Daemon::start()?;
    let root = daemon.busybox("t-as")?;
    for name in ["t-as1", "t-as2"] {
        daemon.define(name, &domain_xml(name, &root, &["/bin/sh", "-c", WAIT], ""))?;
    }
    daemon.ok(&["autostart", "t-as1"])?;
    // This boot has had its autostart: a daemon that is only restarted must not start what somebody stopped.
    daemon.restart()?;
    std::thread::sleep(Duration::from_millis(300));
    ensure_eq!(daemon.state("t-as1")?, "shut off (unknown)".to_owned(), "after a restart in the same boot");
    daemon.stop()?;
    std::fs::write(daemon.root().join("run/berth/autostarted"), "another-boot\n")
        .map_err(|e| e.to_string())?;
    daemon.launch()?;
    daemon.wait_state("t-as1", "running (booted)", 10)?;
    ensure_eq!(daemon.state("t-as2")?, "shut off (unknown)".to_owned(), "the one that was not marked");
    daemon.ok(&["destroy", "t-as1"]).map(drop)
}

fn next_event(client: &mut Client) -> Result<serde_json::Value, String> {
    Ok(client.reply()?.parameters.unwrap_or_default()["event"].clone())
}

fn events() -> Outcome {
    let mut daemon = Daemon::start()?;
    let root = daemon.busybox("t-ev")?;
    let mut client = daemon.client()?;
    client.send_call("io.berth.Domain.Subscribe", &json!({}), CallKind::More)?;
    ensure!(next_event(&mut client)?.is_null(), "the first answer has no event");
    daemon.define("t-ev", &domain_xml("t-ev", &root, &["/bin/sh", "-c", WAIT], ""))?;
    daemon.ok(&["start", "t-ev"])?;
    daemon.ok(&["destroy", "t-ev"])?;
    daemon.ok(&["start", "t-ev"])?;
    kill(daemon.pid_of("t-ev", "initPid")?)?;
    daemon.wait_state("t-ev", "shut off (crashed)", 5)?;
    daemon.ok(&["undefine", "t-ev"])?;
    let mut story = Vec::new();
    let mut sequence = None;
    loop {
        let event = next_event(&mut client)?;
        let number = event["sequence"].as_i64().ok_or("no sequence number")?;
        ensure!(sequence.is_none_or(|s| s + 1 == number), "a gap before {event}");
        sequence = Some(number);
        story.push(format!(
            "{} {}",
            event["kind"].as_str().unwrap_or("?"),
            event["detail"].as_str().unwrap_or("")
        ));
        if event["kind"] == json!("undefined") {
            break;
        }
    }
    for expected in
        ["defined added", "started booted", "stopped destroyed", "stopped crashed", "undefined removed"]
    {
        ensure!(story.iter().any(|s| s == expected), "'{expected}' is not in {story:?}");
    }
    ensure!(story.iter().any(|s| s.starts_with("crashed")), "no crash in {story:?}");
    // The numbers go on after the daemon.
    daemon.restart()?;
    daemon.define("t-ev", &domain_xml("t-ev", &root, &["/bin/sh"], ""))?;
    let mut client = daemon.client()?;
    client.send_call("io.berth.Domain.Subscribe", &json!({}), CallKind::More)?;
    let now = client.reply()?.parameters.unwrap_or_default()["sequence"].as_i64();
    ensure!(now > sequence, "the sequence went back from {sequence:?} to {now:?}");
    Ok(())
}

fn autodestroy() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-ad")?;
    daemon.define("t-ad", &domain_xml("t-ad", &root, &["/bin/sh", "-c", WAIT], ""))?;
    let mut client = daemon.client()?;
    client.call("io.berth.Domain.Start", &json!({ "name": "t-ad", "autodestroy": true }))?;
    ensure_eq!(daemon.state("t-ad")?, "running (booted)".to_owned(), "the state");
    drop(client);
    daemon.wait_state("t-ad", "shut off (destroyed)", 5)?;
    let (log, pid) = (daemon.log(), std::process::id());
    let told = format!(
        "'t-ad': ends with its client (user 0, process {pid}, by varlink), whose connection has ended"
    );
    ensure!(log.contains(&told), "'{told}' is not in {log}");
    Ok(())
}

fn crash_loop() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-cl")?;
    let xml = domain_xml("t-cl", &root, &["/bin/sh", "-c", "echo x >> /tmp/count; exit 1"], "")
        .replace("</os>", "</os>\n  <on_crash>restart</on_crash>");
    daemon.define("t-cl", &xml)?;
    daemon.ok(&["start", "t-cl"])?;
    std::thread::sleep(Duration::from_secs(3));
    let runs = std::fs::read_to_string(root.join("tmp/count")).unwrap_or_default().lines().count();
    ensure!((1..20).contains(&runs), "{runs} starts in 3 s");
    // It can be ended while it waits.
    let begin = Instant::now();
    daemon.ok(&["destroy", "t-cl"])?;
    ensure!(begin.elapsed() < patient(1), "destroy took {:?}", begin.elapsed());
    Ok(())
}

fn signals() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-sig")?;
    let script = "hostname chosen; trap 'echo usr1 >> /tmp/got' USR1; trap 'echo hup >> /tmp/got' HUP; \
                  trap 'echo 40 >> /tmp/got' 40; echo > /tmp/up; while :; do sleep 0.05; done";
    daemon.define("t-sig", &domain_xml("t-sig", &root, &["/bin/sh", "-c", script], ""))?;
    let not_running = "error: Requested operation is not valid: domain is not running\n";
    ensure_eq!(
        daemon.virsh(&["send-process-signal", "t-sig", "1", "term"])?.fails()?,
        not_running,
        "a domain that does not run"
    );
    let refused = daemon.virsh(&["domhostname", "t-sig"])?.fails()?;
    ensure_eq!(refused, format!("error: failed to get hostname\n{not_running}"), "its host name");
    daemon.ok(&["start", "t-sig"])?;
    wait_for("init to listen", 10, || root.join("tmp/up").exists().then_some(()))?;
    let got = || std::fs::read_to_string(root.join("tmp/got")).unwrap_or_default();
    let mut expected = String::new();
    for (signal, word) in [("SIGUSR1", "usr1"), ("1", "hup"), ("rt8", "40")] {
        ensure_eq!(daemon.ok(&["send-process-signal", "t-sig", "1", signal])?, "\n", "{signal}");
        expected.push_str(&format!("{word}\n"));
        wait_for(word, 5, || (got() == expected).then_some(()))?;
    }
    daemon.ok(&["send-process-signal", "t-sig", "1", "nop"])?;
    for (pid, signal, says) in [
        ("2", "term", "error: argument unsupported: Only the init process may be killed\n"),
        ("1", "frob", "error: malformed signal name: frob\n"),
        ("1", "65", "error: invalid argument: signum value 65 is out of range\n"),
    ] {
        ensure_eq!(
            daemon.virsh(&["send-process-signal", "t-sig", pid, signal])?.fails()?,
            says,
            "{pid} {signal}"
        );
    }
    for words in [&["domhostname", "t-sig"][..], &["domhostname", "t-sig", "--source", "agent"]] {
        ensure_eq!(daemon.ok(words)?, "chosen\n\n", "{words:?}");
    }
    let refused = daemon.virsh(&["domhostname", "t-sig", "--source", "lease"])?.fails()?;
    ensure!(refused.contains("no hostname found for domain 't-sig'"), "{refused}");
    daemon.ok(&["suspend", "t-sig"])?;
    let refused = daemon.virsh(&["send-process-signal", "t-sig", "1", "usr1"])?.fails()?;
    ensure!(refused.contains("domain is paused"), "{refused}");
    daemon.ok(&["resume", "t-sig"])?;
    daemon.ok(&["send-process-signal", "t-sig", "1", "sigkill"])?;
    daemon.wait_state("t-sig", "shut off (crashed)", 5)?;
    ensure_eq!(got(), expected, "what a paused init got");
    Ok(())
}
