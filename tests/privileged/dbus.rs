//! The door on D-Bus with real containers, and callers who are not root: polkit decides about those.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use berth_tests::bus::{Bus, HOST, run};
use berth_tests::daemon::domain_xml;
use berth_tests::host::{Traces, in_own_network, ip};
use berth_tests::peer::{Asked, Authority, Burst, Guest, Verdict, open_console};
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, patient, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

pub const TESTS: &[Test] = &[
    ("dbus::a_container_from_its_start_to_its_end", container),
    ("dbus::autodestroy_follows_the_caller", autodestroy),
    ("dbus::what_happened_without_a_daemon_is_told", meanwhile),
    ("dbus::the_desktop_tool_of_the_examples_works", desktop),
    ("dbus::an_interface_that_runs_is_limited", || in_own_network(interface_limits)),
    ("dbus::a_network_starts_and_ends", || in_own_network(network)),
    ("dbus::polkit_decides_about_others", polkit),
    ("dbus::a_polkit_that_hangs_holds_up_nobody_else", hanging),
    ("dbus::kept_cpus_are_those_of_the_document", kept_cpus),
    ("dbus::who_has_left_is_known_or_refused", leavers),
    ("dbus::many_calls_at_once_are_answered", many),
    ("dbus::users_with_many_calls_keep_nobody_else_out", crowd),
    ("dbus::who_is_refused_in_a_crowd_is_told", refusals),
];

/// The user `nobody`.
const NOBODY: &[&str] = &["--reuid", "65534", "--regid", "65534", "--clear-groups", "--", "busctl"];

const CONNECT: &str = "org.libvirt.Connect";

/// A domain's init: it says a word for each line that it reads, and ends when it is asked to.
const INIT: &str = "trap 'exit 0' TERM; echo up; while :; do if read line; then echo \"got $line\"; fi; done";

fn container() -> Outcome {
    let (daemon, bus) = Bus::with_daemon()?;
    let root = daemon.busybox("t-bus")?;
    let xml = domain_xml("t-bus", &root, &["/bin/sh", "-c", INIT], "");
    let defined = bus.call(HOST, "Connect", "DomainDefineXML", &["s", &xml])?;
    let path = defined[0].as_str().ok_or("no path")?.to_owned();
    let data = tempfile::tempdir().map_err(|e| e.to_string())?;
    let before = Traces::of("t-bus", daemon.work());
    let watch = bus.watch()?;
    let domain = |method: &str, words: &[&str]| bus.call(&path, "Domain", method, words);
    domain("Create", &["u", "0"])?;
    watch.signal("DomainEvent", |d| *d == json!([path, 2, 0]))?;
    let (_, started) = watch.signal("Event", |d| d[2] == "started")?;
    ensure_eq!(domain("GetState", &["u", "0"])?, json!([[1, 1]]), "the state");
    let id = daemon.pid_of("t-bus", "id")?;
    ensure_eq!(bus.property(&path, "Domain", "Id")?, format!("u {id}"), "the id");
    let by_id = bus.call(HOST, "Connect", "DomainLookupByID", &["i", &id.to_string()])?;
    ensure_eq!(by_id[0], path.as_str(), "by id");
    // Its keys are numbers, which this busctl cannot write as JSON.
    let used = bus.run(&["call", "org.libvirt", &path, "org.libvirt.Domain", "MemoryStats", "u", "0"])?;
    ensure!(used.starts_with("a{it} "), "memory in use: {used}");
    let inside = domain("InterfaceAddresses", &["uu", "1", "0"])?;
    ensure!(inside.to_string().contains(r#"["lo","#), "addresses inside: {inside}");

    ensure_eq!(domain("GetHostname", &["u", "0"])?, json!(["t-bus"]), "the host name");
    domain("SendProcessSignal", &["xuu", "1", "0", "0"])?;
    let other = domain("SendProcessSignal", &["xuu", "2", "15", "0"]);
    ensure!(
        other.clone().is_err_and(|e| e.contains("argument unsupported: Only the init process may be killed")),
        "a signal to another process: {other:?}"
    );

    console(&bus, &path)?;

    // Devices and shares that change while it runs.
    let source = data.path().display();
    let device =
        format!("<filesystem type='mount'><source dir='{source}'/><target dir='/mnt'/></filesystem>");
    domain("AttachDevice", &["su", &device, "1"])?;
    watch.signal("DeviceAdded", |d| *d == json!(["/mnt"]))?;
    domain("DetachDevice", &["su", &device, "1"])?;
    watch.signal("DeviceRemoved", |d| *d == json!(["/mnt"]))?;
    domain("SetSchedulerParameters", &["a{sv}u", "1", "cpu_shares", "t", "512", "1"])?;
    let (_, tuned) = watch.signal("Tunable", |_| true)?;
    ensure_eq!(tuned[0]["cputune.cpu_shares"]["data"]["data"], 512, "what was tuned in {tuned}");

    domain("Suspend", &[])?;
    let (_, suspended) = watch.signal("Event", |d| d[2] == "suspended")?;
    domain("Resume", &[])?;
    domain("Shutdown", &["u", "0"])?;
    let (_, stopped) = watch.signal("Event", |d| d[2] == "stopped")?;
    ensure_eq!(stopped[3], "shutdown", "how it ended");
    ensure_eq!(stopped[4]["exit"]["data"], "exited", "how init ended");
    let numbers: Vec<i64> = [started, suspended, stopped].iter().filter_map(|e| e[0].as_i64()).collect();
    ensure!(numbers.len() == 3 && numbers.is_sorted(), "the numbers of events: {numbers:?}");
    // Resumed is between suspended and stopped, and nothing else.
    ensure_eq!(numbers[2] - numbers[1], 2, "no number is left out of {numbers:?}");
    wait_for("the end", 10, || (domain("GetState", &["u", "0"]).ok()? == json!([[5, 1]])).then_some(()))?;
    ensure_eq!(Traces::of("t-bus", daemon.work()).difference(&before), Vec::<String>::new(), "residue");
    transient(&bus, &xml.replace("<name>t-bus", "<name>t-bus2"))
}

/// Started without being defined, and checked before, as every document is.
fn transient(bus: &Bus, xml: &str) -> Outcome {
    let create = |xml: &str, flags: &str| bus.call(HOST, "Connect", "DomainCreateXML", &["su", xml, flags]);
    let bad = create(&xml.replace("MiB", "furlong"), "16");
    ensure!(bad.clone().is_err_and(|e| e.contains("furlong")), "a bad document: {bad:?}");
    let other = create(xml, "32");
    ensure!(other.clone().is_err_and(|e| e.contains("unsupported flags (0x20)")), "another flag: {other:?}");
    // VIR_DOMAIN_START_VALIDATE
    let created = create(xml, "16")?;
    let path = created[0].as_str().ok_or("no path")?;
    ensure_eq!(bus.property(path, "Domain", "Persistent")?, "b false", "persistent");
    bus.call(path, "Domain", "Destroy", &["u", "0"])?;
    let gone = bus.domain("t-bus2");
    ensure!(gone.is_err(), "a transient domain that was destroyed: {gone:?}");
    Ok(())
}

/// VIR_DOMAIN_START_AUTODESTROY: what a caller has started ends when it leaves the bus, and when the bus ends.
fn autodestroy() -> Outcome {
    let (daemon, mut bus) = Bus::with_daemon()?;
    let root = daemon.busybox("t-bad")?;
    let xml = |name: &str| domain_xml(name, &root, &["/bin/sleep", "1000"], "");
    for name in ["t-bad", "t-bad2"] {
        daemon.define(name, &xml(name))?;
    }
    let path = bus.domain("t-bad")?;
    let (guest, other) = (Guest::connect(&bus.address())?, Guest::connect(&bus.address())?);
    guest.call(&path, "Domain", "Create", &2u32)?;
    guest.call(HOST, "Connect", "DomainCreateXML", &(xml("t-bad3"), 2u32 | 16))?;
    let none: Vec<zbus::OwnedFd> = Vec::new();
    other.call(&bus.domain("t-bad2")?, "Domain", "CreateWithFiles", &(none, 2u32))?;
    for name in ["t-bad", "t-bad2", "t-bad3"] {
        ensure_eq!(daemon.state(name)?, "running (booted)".to_owned(), "the state of '{name}'");
    }
    drop(guest);
    daemon.wait_state("t-bad", "shut off (destroyed)", 10)?;
    wait_for("the end of the transient one", 10, || bus.domain("t-bad3").err())?;
    ensure_eq!(daemon.state("t-bad2")?, "running (booted)".to_owned(), "what another has started");
    // A run after that is nobody's.
    bus.call(&path, "Domain", "Create", &["u", "0"])?;
    // One that does not wait for what it asks for.
    let created = || daemon.log().matches("by D-Bus: io.berth.Domain.Create").count();
    let (before, hasty) = (created(), Guest::connect(&bus.address())?);
    hasty.send(HOST, "Connect", "DomainCreateXML", &(xml("t-bad4"), 2u32))?;
    drop(hasty);
    // Refused or granted, it is one more of its kind.
    wait_for("what became of it", 10, || (created() > before).then_some(()))?;
    wait_for("its end", 10, || bus.domain("t-bad4").err())?;
    bus.kill();
    daemon.wait_state("t-bad2", "shut off (destroyed)", 10)?;
    ensure_eq!(daemon.state("t-bad")?, "running (booted)".to_owned(), "what is nobody's");
    drop(other);
    daemon.ok(&["destroy", "t-bad"])?;
    let (log, pid) = (daemon.log(), std::process::id());
    for (name, why) in
        [("t-bad", "which has left the bus"), ("t-bad2", "of which nothing is known without the bus")]
    {
        let told = format!("'{name}': ends with its client (user 0, process {pid}, by D-Bus), {why}");
        ensure_eq!(log.matches(&told).count(), 1, "'{told}' in {log}");
    }
    Ok(())
}

/// A descriptor that the bus has carried is a terminal of the container's console.
fn console(bus: &Bus, path: &str) -> Outcome {
    let odd = open_console(&bus.address(), path, "odd").err().unwrap_or_default();
    ensure!(odd.contains("mode is 'shared', 'force' or 'view'"), "another mode: {odd}");
    // Nothing said is the first of them.
    let (_, device, writer) = open_console(&bus.address(), path, "")?;
    ensure_eq!((device.as_str(), writer), ("console0", true), "the console without a mode");
    let (pty, device, writer) = open_console(&bus.address(), path, "shared")?;
    ensure_eq!((device.as_str(), writer), ("console0", true), "the console");
    let mut terminal = File::from(pty);
    terminal.write_all(b"hello\n").map_err(|e| e.to_string())?;
    let (mut seen, mut buffer) = (String::new(), [0; 4096]);
    let deadline = Instant::now() + patient(10);
    while !seen.contains("got hello") {
        ensure!(Instant::now() < deadline, "the console shows only {seen:?}");
        let count = terminal.read(&mut buffer).map_err(|e| format!("the console: {e}"))?;
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    Ok(())
}

/// A container that ends while no daemon runs: the next one tells the bus, and who watches there sees it.
fn meanwhile() -> Outcome {
    let (mut daemon, bus) = Bus::with_daemon()?;
    let root = daemon.busybox("t-mean")?;
    daemon.define("t-mean", &domain_xml("t-mean", &root, &["/bin/sh", "-c", INIT], ""))?;
    daemon.ok(&["start", "t-mean"])?;
    let (path, init) = (bus.domain("t-mean")?, daemon.pid_of("t-mean", "initPid")?);
    let watch = bus.watch()?;
    let out = daemon.work().join("desktop.out");
    let log = File::create(&out).map_err(|e| e.to_string())?;
    let mut tool = Command::new("/usr/bin/python3");
    tool.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/desktop.py")).arg("--watch");
    tool.env("DBUS_SYSTEM_BUS_ADDRESS", bus.address()).stdin(Stdio::null()).stdout(log);
    let tool = Waiting(tool.spawn().map_err(|e| format!("cannot run the desktop tool: {e}"))?);
    let shown = || std::fs::read_to_string(&out).unwrap_or_default();
    wait_for("the list", 10, || shown().contains("t-mean: running\n").then_some(()))?;
    daemon.stop()?;
    // More than once: it may not listen yet.
    wait_for("the end of init", 10, || kill(Pid::from_raw(init), Signal::SIGTERM).err())?;
    daemon.launch()?;
    watch.signal("NameOwnerChanged", |d| d[0] == "org.libvirt" && d[2] != "")?;
    watch.signal("DomainEvent", |d| d[0] == path.as_str() && d[1] == 5)?;
    let (whose, event) = watch.signal("Event", |_| true)?;
    ensure_eq!((whose.as_str(), &event[2]), (path.as_str(), &json!("stopped")), "the event");
    // None twice.
    daemon.ok(&["autostart", "t-mean"])?;
    daemon.ok(&["undefine", "t-mean"])?;
    let told = watch.signals("DomainEvent", |d| d[1] == 1)?;
    ensure_eq!(told, [json!([path, 1, 0])], "what is told afterwards");
    let wanted = "t-mean: running\norg.libvirt: away\norg.libvirt: here\nt-mean: shut off\nt-mean: stopped\n\
                  t-mean: undefined\n";
    let seen = wait_for("what the tool shows", 10, || (shown() == wanted).then_some(()));
    drop(tool);
    seen.map_err(|e| format!("{e}: {}", shown()))
}

fn desktop() -> Outcome {
    let (daemon, bus) = Bus::with_daemon()?;
    let root = daemon.busybox("t-desk")?;
    // Its init does not listen at once, which whoever is quick has to live with.
    let init = format!("sleep 1; {INIT}");
    for name in ["other", "t-desk"] {
        daemon.define(name, &domain_xml(name, &root, &["/bin/sh", "-c", &init], ""))?;
    }
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/desktop.py");
    let tool = |words: &[&str]| {
        // Debian's own interpreter, whatever else is first on PATH.
        let mut command = Command::new("/usr/bin/python3");
        run(command.arg(&program).args(words).env("DBUS_SYSTEM_BUS_ADDRESS", bus.address()))
    };
    ensure_eq!(tool(&[])?, "other: shut off\nt-desk: shut off\n", "the list");
    let printed = tool(&["t-desk"])?;
    let wanted = "other: shut off\nt-desk: shut off\nt-desk: started\nt-desk: stopped\n";
    ensure_eq!(printed, wanted, "what it tells");
    let unknown = tool(&["nosuch"]).err().unwrap_or_default();
    ensure!(unknown.contains("org.libvirt.Error: Domain not found: "), "what it says: {unknown}");
    Ok(())
}

/// What runs has more names for an interface, and what holds of it is not what is kept.
fn interface_limits() -> Outcome {
    let (daemon, bus) = Bus::with_daemon()?;
    ip("link add br0 type bridge")?;
    ip("link set br0 up")?;
    let root = daemon.busybox("t-rate")?;
    let nic = "<interface type='bridge'><source bridge='br0'/><mac address='52:54:00:00:00:01'/></interface>";
    let xml = domain_xml("t-rate", &root, &["/bin/sleep", "1000"], nic);
    daemon.define("t-rate", &xml)?;
    daemon.ok(&["start", "t-rate"])?;
    let path = bus.domain("t-rate")?;
    let domain = |method: &str, words: &[&str]| bus.call(&path, "Domain", method, words);
    let average = |device: &str, flags: &str| {
        let answer = domain("GetInterfaceParameters", &["su", device, flags])?;
        Ok::<_, String>(answer[0]["inbound.average"]["data"]["data"].clone())
    };
    let one = ["1", "inbound.average", "u", "100"];
    let set = |device: &str, flags: &str| {
        domain("SetInterfaceParameters", &[&["sa{sv}u", device][..], &one, &[flags]].concat())
    };
    set("eth0", "1")?;
    for (device, flags, found) in [("eth0", "0", 100), ("52:54:00:00:00:01", "1", 100)] {
        ensure_eq!(average(device, flags)?, found, "of {device} with flags {flags}");
    }
    ensure_eq!(average("52:54:00:00:00:01", "2")?, 0, "what is kept");
    ensure!(average("eth0", "2").is_err_and(|e| e.contains("Can't find device eth0")), "a name of what runs");
    let list = daemon.ok(&["domiflist", "t-rate"])?;
    let target = list.lines().find_map(|l| l.split_whitespace().next().filter(|w| w.starts_with("vnet")));
    let target = target.ok_or_else(|| format!("no end on the host in {list}"))?;
    ensure_eq!(average(target, "1")?, 100, "by its name on the host");
    set(target, "3")?;
    ensure_eq!(average("52:54:00:00:00:01", "2")?, 100, "what is kept afterwards");
    domain("SetVcpus", &["uu", "1", "1"])?;
    let map = domain("GetVcpuPinInfo", &["u", "1"])?;
    let used = map[0][0].as_array().map(|m| m.iter().filter(|used| **used == json!(true)).count());
    ensure_eq!(used, Some(1), "the CPUs of one vcpu in {map}");
    domain("PinVcpu", &["uabu", "0", "1", "true", "1"])?;
    ensure_eq!(domain("GetVcpuPinInfo", &["u", "1"])?[0][0][0], true, "the CPU that it was given");
    domain("Destroy", &["u", "0"]).map(drop)
}

/// What runs is also what is kept, and was given one CPU of the host's.
fn kept_cpus() -> Outcome {
    let (daemon, bus) = Bus::with_daemon()?;
    let root = daemon.busybox("t-kept")?;
    let xml = domain_xml("t-kept", &root, &["/bin/sleep", "1000"], "");
    daemon.define("t-kept", &xml.replace("<memory", "<vcpu>1</vcpu><memory"))?;
    let path = bus.domain("t-kept")?;
    let get = |flags: &str| bus.call(&path, "Domain", "GetVcpuPinInfo", &["u", flags]);
    let shown = || daemon.ok(&["vcpupin", "t-kept", "--config"]);
    let (all, before) = (get("2")?, shown()?);
    daemon.ok(&["start", "t-kept"])?;
    let used = get("1")?;
    let count = used[0][0].as_array().map(|m| m.iter().filter(|used| **used == json!(true)).count());
    ensure_eq!(count, Some(1), "the CPUs of one vcpu in {used}");
    ensure_eq!(get("2")?, all, "what is kept");
    ensure_eq!(shown()?, before, "what is kept, as it is printed");
    daemon.ok(&["destroy", "t-kept"]).map(drop)
}

fn network() -> Outcome {
    let (_daemon, bus) = Bus::with_daemon()?;
    let xml = "<network><name>t-bus</name><bridge name='tbus0'/><ip address='10.77.5.1' prefix='24'><dhcp>\
               <range start='10.77.5.10' end='10.77.5.20'/></dhcp></ip></network>";
    let watch = bus.watch()?;
    let created = bus.call(HOST, "Connect", "NetworkCreateXML", &["s", xml])?;
    let path = created[0].as_str().ok_or("no path")?.to_owned();
    watch.signal("NetworkEvent", |d| *d == json!([path, 2]))?;
    ensure_eq!(bus.property(&path, "Network", "Active")?, "b true", "Active");
    ensure_eq!(bus.property(&path, "Network", "Persistent")?, "b false", "Persistent");
    ensure_eq!(bus.call(HOST, "Connect", "ListNetworks", &["u", "2"])?, json!([[path]]), "the active");
    ensure_eq!(bus.call(&path, "Network", "GetDHCPLeases", &["su", "", "0"])?, json!([[]]), "leases");
    bus.call(HOST, "Connect", "NetworkDefineXML", &["s", xml])?;
    let (whose, changed) = watch.signal("PropertiesChanged", |d| d[0] == "org.libvirt.Network")?;
    ensure_eq!((whose, &changed[1]["Persistent"]["data"]), (path.clone(), &json!(true)), "what changed");
    bus.call(&path, "Network", "Destroy", &[])?;
    watch.signal("NetworkEvent", |d| *d == json!([path, 3]))?;
    ensure_eq!(bus.property(&path, "Network", "Active")?, "b false", "Active");
    bus.call(&path, "Network", "Create", &[])?;
    bus.call(&path, "Network", "Destroy", &[])?;
    bus.call(&path, "Network", "Undefine", &[])?;
    ensure_eq!(bus.call(HOST, "Connect", "ListNetworks", &["u", "2"])?, json!([[]]), "the active");
    Ok(())
}

/// `busctl` as another user. `interactive`: a person may be asked.
fn nobody(bus: &Bus, interactive: bool, path: &str, interface: &str, words: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(NOBODY).arg(format!("--address={}", bus.address()));
    command.arg(format!("--allow-interactive-authorization={interactive}"));
    command.args(["call", "org.libvirt", path, interface]).args(words).stdin(Stdio::null());
    command
}

fn reading(bus: &Bus) -> Result<String, String> {
    run(&mut nobody(bus, false, HOST, CONNECT, &["ListDomains", "u", "0"]))
}

fn polkit() -> Outcome {
    let (daemon, bus) = Bus::with_daemon()?;
    let xml = domain_xml("dom", Path::new("/nonexistent"), &["/bin/sh"], "");
    daemon.define("dom", &xml)?;
    let path = bus.domain("dom")?;
    let titled = |interactive: bool, title: &str| {
        let words = ["SetMetadata", "isssu", "1", title, "", "", "2"];
        run(&mut nobody(&bus, interactive, &path, "org.libvirt.Domain", &words))
    };
    let refused = |answer: Result<String, String>, says: &str| match answer {
        Err(message) if message.contains(says) => Ok(()),
        other => Err(format!("'{says}' is not in {other:?}")),
    };
    let monitor = "org.libvirt.unix.monitor";
    let manage = "org.libvirt.unix.manage";
    let away = || {
        reading(&bus).map_err(|e| format!("others may not read without polkit: {e}"))?;
        refused(titled(true, "x"), "access denied, and there is no polkit to ask")
    };
    away()?;
    let authority = Authority::start(&bus.address())?;
    let asked = |action: &str, interactive: bool| -> Outcome {
        let all = authority.asked();
        let [Asked { subject, action: about, interactive: may }] = all.as_slice() else {
            return Err(format!("polkit was asked {all:?}"));
        };
        ensure!(subject.starts_with("system-bus-name :"), "asked about {subject}");
        ensure_eq!((about.as_str(), *may), (action, interactive), "what polkit was asked");
        Ok(())
    };
    refused(reading(&bus), "access denied by policy")?;
    asked(monitor, false)?;
    refused(titled(false, "x"), "access denied by policy")?;
    asked(manage, false)?;
    // Before its parameters are looked at.
    let wrong = ["SetMetadata", "s", "x"];
    refused(run(&mut nobody(&bus, false, &path, "org.libvirt.Domain", &wrong)), "access denied by policy")?;
    asked(manage, false)?;
    authority.decide(Verdict::Yes);
    titled(false, "one")?;
    asked(manage, false)?;
    authority.decide(Verdict::Challenge);
    refused(titled(false, "two"), "no polkit agent available to authenticate action")?;
    asked(manage, false)?;
    titled(true, "three")?;
    asked(manage, true)?;
    ensure_eq!(daemon.ok(&["desc", "dom", "--title"])?.trim(), "three", "the title");
    // root is not asked about.
    authority.decide(Verdict::No);
    bus.call(&path, "Domain", "SetMetadata", &["isssu", "1", "four", "", "", "2"])?;
    ensure_eq!(authority.asked(), vec![], "what polkit was asked about root");
    drop(authority);
    away()
}

/// Ends what a test has started, however it ends.
struct Waiting(Child);

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn hanging() -> Outcome {
    let (_daemon, bus) = Bus::with_daemon()?;
    let authority = Authority::start(&bus.address())?;
    authority.decide(Verdict::Silence);
    let begin = Instant::now();
    let list = ["ListDomains", "u", "0"];
    let mut waits = nobody(&bus, false, HOST, CONNECT, &list);
    waits.args(["--timeout=60"]);
    let mut waiting =
        Waiting(waits.stderr(Stdio::piped()).spawn().map_err(|e| format!("cannot run busctl: {e}"))?);
    wait_for("the question", 10, || (!authority.asked().is_empty()).then_some(()))?;
    // It answers again; the first question stays open.
    authority.decide(Verdict::Yes);
    let begun = Instant::now();
    for _ in 0..10 {
        bus.call(HOST, "Connect", "ListDomains", &["u", "0"])?;
        reading(&bus)?;
    }
    ensure!(begun.elapsed() < patient(10), "others were held up for {:?}", begun.elapsed());
    let still = waiting.0.try_wait().map_err(|e| e.to_string())?;
    ensure!(still.is_none(), "the call without an answer has ended: {still:?}");
    let mut message = String::new();
    let mut errors = waiting.0.stderr.take().ok_or("no errors")?;
    errors.read_to_string(&mut message).map_err(|e| e.to_string())?;
    ensure!(message.contains("no answer after 20 s"), "what the caller was told: {message}");
    let took = begin.elapsed();
    ensure!(took > Duration::from_secs(19) && took < patient(40), "it took {took:?}");
    Ok(())
}

/// Callers that do not wait for the answer.
fn leavers() -> Outcome {
    let (daemon, bus) = Bus::with_daemon()?;
    let root = daemon.busybox("t-left")?;
    daemon.define("t-left", &domain_xml("t-left", &root, &["/bin/sleep", "1000"], ""))?;
    let path = bus.domain("t-left")?;
    let lines = |method: &str, count: usize| {
        let lines = || {
            let log = daemon.log();
            let told = format!("by D-Bus: io.berth.Domain.{method} of 't-left': ");
            let found: Vec<String> = log.lines().filter(|l| l.contains(&told)).map(str::to_owned).collect();
            (found.len() == count).then_some(found)
        };
        wait_for(&format!("{count} lines of {method}"), 20, lines)
    };
    let pid = std::process::id();

    // One whom nobody needs to be asked about, while a controller does not answer.
    daemon.ok(&["start", "t-left"])?;
    let controller = Pid::from_raw(daemon.pid_of("t-left", "id")?);
    let guest = Guest::connect(&bus.address())?;
    guest.call(&path, "Domain", "GetState", &0u32)?;
    kill(controller, Signal::SIGSTOP).map_err(|e| e.to_string())?;
    guest.send(&path, "Domain", "Destroy", &0u32)?;
    drop(guest);
    let destroyed = lines("Destroy", 1)?.remove(0);
    ensure!(destroyed.contains(&format!("user 0, process {pid}, by")), "who it was: {destroyed}");
    daemon.wait_state("t-left", "shut off (destroyed)", 10)?;

    // Those who wait for polkit, and others for whom there is room only when these have left.
    let authority = Authority::start(&bus.address())?;
    authority.decide(Verdict::Silence);
    let call = (path.as_str(), "org.libvirt.Domain", "Undefine", 0);
    let burst = Burst::send_deaf(&bus.address(), 65534, call, 40)?;
    let mut asked = 0;
    wait_for("questions", 20, || {
        asked += authority.asked().len();
        (asked == 32).then_some(())
    })?;
    authority.decide(Verdict::Yes);
    drop(burst);
    for line in lines("Undefine", 40)? {
        ensure!(line.contains(&format!("user 65534, process {pid}, by")), "who it was: {line}");
        ensure!(line.contains("the caller has left the bus"), "what became of it: {line}");
    }
    wait_for("questions that are taken back", 10, || (authority.cancelled() == 32).then_some(()))?;
    bus.domain("t-left").map(drop)
}

/// As programs do that were written for libvirt-dbus. More than 128 that wait for an answer are refused by the bus.
fn many() -> Outcome {
    let (_daemon, bus) = Bus::with_daemon()?;
    let burst = Burst::send(&bus.address(), 0, (HOST, CONNECT, "ListDomains", 0), 120)?;
    let refused: Vec<_> = burst.answers(120)?.into_iter().filter_map(Result::err).collect();
    ensure_eq!(refused, Vec::<String>::new(), "of root");
    let authority = Authority::start(&bus.address())?;
    authority.decide(Verdict::Yes);
    let burst = Burst::send(&bus.address(), 65534, (HOST, CONNECT, "ListDomains", 0), 120)?;
    let refused: Vec<_> = burst.answers(120)?.into_iter().filter_map(Result::err).collect();
    ensure_eq!(refused, Vec::<String>::new(), "of another");
    Ok(())
}

/// Calls that wait for a password are under way for as long as their senders like, and they can have many connections.
fn crowd() -> Outcome {
    let (_daemon, bus) = Bus::with_daemon()?;
    let authority = Authority::start(&bus.address())?;
    authority.decide(Verdict::Silence);
    let call = (HOST, CONNECT, "ListDomains", 0);
    let mut crowd = Vec::new();
    for _ in 0..6 {
        crowd.push(Burst::send_deaf(&bus.address(), 65534, call, 1100)?);
    }
    let mut asked = 0;
    wait_for("questions", 20, || {
        asked += authority.asked().len();
        (asked >= 32).then_some(())
    })?;
    std::thread::sleep(Duration::from_millis(500));
    authority.decide(Verdict::Yes);
    // The same user has had its share, and others are as ever.
    let answer = Burst::send(&bus.address(), 65534, call, 1)?.answers(1)?.remove(0);
    ensure!(answer.clone().is_err_and(|e| e.contains("LimitsExceeded")), "one more of the same: {answer:?}");
    // The bus takes only users that the system knows: here daemon, and below bin, sys, sync and games.
    for uid in [0, 1] {
        let begun = Instant::now();
        let answer = Burst::send(&bus.address(), uid, call, 1)?.answers(1)?.remove(0);
        ensure_eq!(answer, Ok(()), "user {uid}");
        ensure!(begun.elapsed() < patient(5), "user {uid} was held up for {:?}", begun.elapsed());
    }
    // Those of many users together: not root.
    authority.decide(Verdict::Silence);
    for uid in 2..6 {
        crowd.push(Burst::send_deaf(&bus.address(), uid, call, 1100)?);
    }
    std::thread::sleep(Duration::from_millis(500));
    let answer = Burst::send(&bus.address(), 0, call, 1)?.answers(1)?.remove(0);
    ensure_eq!(answer, Ok(()), "root");
    Ok(())
}

/// More at once than are let in, and than there is room for in what goes out: each has one answer.
fn refusals() -> Outcome {
    const CLIENTS: usize = 60;
    const CALLS: usize = 120;
    let (daemon, bus) = Bus::with_daemon()?;
    let root = daemon.busybox("t-crowd")?;
    let xml = domain_xml("t-crowd", &root, &["/bin/true"], "");
    let defined = bus.call(HOST, "Connect", "DomainDefineXML", &["s", &xml])?;
    let path = defined[0].as_str().ok_or("no path")?;
    let call = (path, "org.libvirt.Domain", "GetXMLDesc", 0);
    let address = bus.address();
    let mut refused = 0;
    // How many are refused is chance, and so was what became of them.
    for _ in 0..3 {
        let answers: Vec<_> = std::thread::scope(|scope| {
            let send = || Burst::send(&address, 0, call, CALLS)?.answers(CALLS);
            let senders: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(send)).collect();
            senders.into_iter().map(|s| s.join().unwrap_or_else(|_| Err("panicked".into()))).collect()
        });
        for answers in answers {
            for error in answers?.into_iter().filter_map(Result::err) {
                ensure!(error.contains("LimitsExceeded"), "{error}");
                refused += 1;
            }
        }
    }
    println!("{refused} of {} were refused", 3 * CLIENTS * CALLS);
    Ok(())
}
