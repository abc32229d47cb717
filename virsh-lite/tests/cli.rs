//! The real program against a daemon with canned data: literal output, literal errors, exit codes.

mod fake;

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use fake::{Away, Fake, State};

/// Runs the program with the fake daemon as its default, in the fake's folder.
fn command(fake: &Fake, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_virsh-lite"));
    command.args(words).current_dir(fake.dir.path()).stdin(Stdio::null());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("LIBVIRT_DEFAULT_URI", fake.uri()).env("TZ", "UTC");
    command
}

fn text(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn run(fake: &Fake, words: &[&str]) -> (i32, String, String) {
    text(&command(fake, words).output().expect("virsh-lite runs"))
}

/// A command that succeeds and says nothing on standard error.
#[track_caller]
fn good(fake: &Fake, words: &[&str], stdout: &str) {
    assert_eq!(run(fake, words), (0, stdout.into(), String::new()), "{words:?}");
}

/// A command that fails after it was understood.
#[track_caller]
fn bad(fake: &Fake, words: &[&str], stderr: &str) {
    assert_eq!(run(fake, words), (1, "\n".into(), stderr.into()), "{words:?}");
}

#[test]
fn list() {
    let f = Fake::start();
    good(
        &f,
        &["list", "--all"],
        " Id     Name     State\n---------------------------\n 4711   web      running\n 4800   web2     running\n \
         -      db       shut off\n -      locked   shut off\n -      old      shut off\n\n",
    );
    good(
        &f,
        &["list"],
        " Id     Name   State\n------------------------\n 4711   web    running\n 4800   web2   running\n\n",
    );
    good(&f, &["-q", "list"], " 4711   web    running\n 4800   web2   running\n");
    good(&f, &["list", "--name"], "web\nweb2\n\n");
    good(&f, &["-q", "list", "--inactive", "--name"], "db\nlocked\nold\n");
    good(&f, &["list", "--all", "--id"], "4711\n4800\n\n");
    good(
        &f,
        &["-q", "list", "--uuid", "--id", "--name"],
        "00000000-0000-4000-8000-000000004711 4711 web\n00000000-0000-4000-8000-000000004800 4800 web2\n",
    );
    good(
        &f,
        &["list", "--title", "--state-shutoff", "--autostart"],
        " Id   Name     State      Title\n-------------------------------------\n -    db       shut off   the title\n \
         -    locked   shut off   the title\n -    old      shut off   the title\n\n",
    );
    bad(&f, &["list", "--table", "--name"], "error: Options --table and --name are mutually exclusive\n");
}

#[test]
fn documents() {
    let f = Fake::start();
    let file = |name: &str, text: &str| std::fs::write(f.dir.path().join(name), text).expect("file");
    file("good.xml", "<domain>\n  <name>x</name>\n</domain>\n");
    file("bad.xml", "<domain>\n  <bad attribute='1'/>\n</domain>\n");
    file("odd.xml", "<domain>\n  <odd/>\n</domain>\n");
    file("latin.xml", "");
    std::fs::write(f.dir.path().join("latin.xml"), b"<domain>\n\xe4").expect("file");
    good(&f, &["define", "good.xml"], "Domain 'fresh' defined from good.xml\n\n");
    good(&f, &["-q", "define", "good.xml"], "");
    bad(
        &f,
        &["define", "nosuch.xml"],
        "error: Failed to open file 'nosuch.xml': No such file or directory\n",
    );
    let snippet = "error: unknown element 'bad'\n --> bad.xml:2:3\n  |\n2 |   <bad attribute='1'/>\n  |   ^^^^\n  |\n  = hint: remove it\n";
    bad(&f, &["define", "bad.xml"], &format!("error: Failed to define domain from bad.xml\n{snippet}"));
    bad(&f, &["create", "bad.xml"], &format!("error: Failed to create domain from bad.xml\n{snippet}"));
    let odd = |word: &str| {
        format!(
            "{word}: element 'odd' has no meaning here\n --> odd.xml:2:3\n  |\n2 |   <odd/>\n  |   ^^^^\n"
        )
    };
    let warned = run(&f, &["define", "odd.xml"]);
    assert_eq!(warned, (0, "Domain 'fresh' defined from odd.xml\n\n".into(), odd("warning")));
    let what = "error: Failed to define domain from odd.xml\n";
    bad(&f, &["define", "odd.xml", "--validate"], &format!("{what}{}", odd("error")));
    bad(
        &f,
        &["define", "latin.xml"],
        "error: Failed to read domain from latin.xml\nerror: latin.xml:2: the text is not UTF-8\n",
    );
    good(&f, &["create", "good.xml", "--autodestroy"], "Domain 'fresh' created from good.xml\n\n");
    assert_eq!(f.last("Create")["autodestroy"], true);
    good(&f, &["undefine", "db", "--managed-save", "--nvram"], "Domain 'db' has been undefined\n\n");
    bad(
        &f,
        &["undefine", "db", "--remove-all-storage"],
        "error: option --remove-all-storage of command 'undefine' is not supported: storage is never removed\n",
    );
    let mut child = command(&f, &["define", "-"]);
    let mut child =
        child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spawn");
    std::io::Write::write_all(&mut child.stdin.take().expect("stdin"), b"<domain/>").expect("write");
    let output = child.wait_with_output().expect("output");
    assert_eq!(text(&output), (0, "Domain 'fresh' defined from -\n\n".into(), String::new()));
    assert_eq!(f.last("Define")["xml"], "<domain/>");
}

#[test]
fn dumpxml() {
    let f = Fake::start();
    good(&f, &["dumpxml", "web"], &format!("{}\n", fake::DOCUMENT));
    good(&f, &["-q", "dumpxml", "web", "--inactive"], fake::DOCUMENT);
    assert_eq!(f.last("GetXML")["inactive"], true);
    good(&f, &["dumpxml", "web", "db"], &format!("{0}\n{0}\n", fake::DOCUMENT));
    bad(&f, &["dumpxml", "nosuch"], "error: failed to get domain 'nosuch'\n");
}

#[test]
fn life_cycle() {
    let f = Fake::start();
    good(&f, &["start", "db"], "Domain 'db' started\n\n");
    bad(&f, &["start", "web"], "error: Domain is already active\n");
    bad(&f, &["start", "nosuch"], "error: failed to get domain 'nosuch'\n");
    bad(&f, &["start", ""], "error: Failed to get option 'domain': Option argument is empty\n");
    bad(
        &f,
        &["start", "locked"],
        "error: Failed to start domain 'locked'\nerror: cannot mount '/srv': no such file\nhint: create the folder\n",
    );
    bad(
        &f,
        &["start", "old"],
        "error: Failed to start domain 'old'\nerror: this console is not supported\n --> definition of 'old':4:5\n  \
         |\n4 |     <console type='pty' tty='/dev/pts/9'/>\n  |     ^^^^^^^^\n",
    );
    bad(
        &f,
        &["start", "db", "--paused"],
        "error: option --paused of command 'start' is not supported: a container cannot be started paused\n",
    );
    good(&f, &["shutdown", "web"], "Domain 'web' is being shutdown\n\n");
    good(&f, &["shutdown", "web", "--mode", "initctl,signal"], "Domain 'web' is being shutdown\n\n");
    assert_eq!(f.last("Shutdown")["modes"], serde_json::json!(["initctl", "signal"]));
    bad(
        &f,
        &["shutdown", "web", "--mode", "foo"],
        "error: Unknown mode foo value, expecting 'acpi', 'agent', 'initctl', 'signal', or 'paravirt'\n",
    );
    bad(&f, &["reboot", "web2"], "error: Failed to reboot domain 'web2'\nerror: init does not answer\n");
    good(&f, &["reboot", "web"], "Domain 'web' is being rebooted\n\n");
    good(&f, &["destroy", "4711"], "Domain 'web' destroyed\n\n");
    bad(
        &f,
        &["destroy", "db"],
        "error: Failed to destroy domain 'db'\nerror: Requested operation is not valid: domain is not running\n",
    );
    good(&f, &["autostart", "db"], "Domain 'db' marked as autostarted\n\n");
    good(&f, &["autostart", "db", "--disable"], "Domain 'db' unmarked as autostarted\n\n");
    good(&f, &["suspend", "web"], "Domain 'web' suspended\n\n");
    good(&f, &["domstate", "web", "--reason"], "paused (user)\n\n");
    good(&f, &["-q", "list", "--state-paused"], " 4711   web   paused\n");
    bad(
        &f,
        &["shutdown", "web"],
        "error: Failed to shutdown domain 'web'\nerror: Requested operation is not valid: domain is paused\n",
    );
    good(&f, &["resume", "4711"], "Domain 'web' resumed\n\n");
    bad(
        &f,
        &["resume", "web"],
        "error: Failed to resume domain 'web'\nerror: Requested operation is not valid: domain is already running\n",
    );
    bad(
        &f,
        &["suspend", "db"],
        "error: Failed to suspend domain 'db'\nerror: Requested operation is not valid: domain is not running\n",
    );
    bad(
        &f,
        &["-r", "resume", "web"],
        "error: Failed to resume domain 'web'\nerror: operation forbidden: read only access prevents virDomainResume\n",
    );
}

#[test]
fn several_domains_and_patterns() {
    let f = Fake::start();
    good(&f, &["destroy", "web*"], "Domain 'web' destroyed\nDomain 'web2' destroyed\n\n");
    assert_eq!(
        run(&f, &["shutdown", "web2", "nosuch", "web"]),
        (
            1,
            "Domain 'web' is being shutdown\n\n".into(),
            "error: Failed to shutdown domain 'web2'\nerror: init does not answer\nerror: failed to get domain 'nosuch'\n".into()
        )
    );
    bad(&f, &["start", "x*"], "error: no domain matches 'x*'\n");
    bad(&f, &["start", "db", "--timeout", "5"], "error: --timeout goes with --wait only\n");
    bad(&f, &["start", "db", "--wait", "login"], "error: cannot wait for 'login', only for 'ready'\n");
    bad(
        &f,
        &["start", "db", "--wait", "ready", "--timeout", "0"],
        "error: Numeric value '0' for <timeout> option is malformed or out of range\n",
    );
    bad(
        &f,
        &["start", "db", "--wait", "ready", "--console"],
        "error: Options --wait and --console are mutually exclusive\n",
    );
    good(&f, &["domstate", "web", "db"], "running\nshut off\n\n");
}

#[test]
fn information() {
    let f = Fake::start();
    let web = "Id:             4711\nName:           web\nUUID:           00000000-0000-4000-8000-000000004711\n\
        OS Type:        exe\nState:          running\nCPU(s):         1\nCPU time:       1.2s\nMax memory:     65536 KiB\n\
        Used memory:    1024 KiB\nPersistent:     yes\nAutostart:      disable\nManaged save:   no\nInit PID:       4712\n\
        Processes:      3\nStarted:        2023-11-14 22:13:20 +0000\nRestarts:       2\n\
        Ready:          yes\n";
    let db = "Id:             -\nName:           db\nUUID:           00000000-0000-4000-8000-000000000001\n\
        OS Type:        exe\nState:          shut off\nCPU(s):         1\nMax memory:     65536 KiB\n\
        Used memory:    1024 KiB\nPersistent:     yes\nAutostart:      enable\nManaged save:   no\n\
        Last exit:      killed by signal 11 (SIGSEGV), 2023-11-14 22:13:20 +0000\n";
    good(&f, &["dominfo", "web"], &format!("{web}\n"));
    good(&f, &["dominfo", "--domain", "4711"], &format!("{web}\n"));
    good(&f, &["dominfo", "00000000-0000-4000-8000-000000004711"], &format!("{web}\n"));
    good(&f, &["dominfo", "web", "db"], &format!("{web}\n{db}\n"));
    good(&f, &["domstate", "db", "--reason"], "shut off (crashed)\n\n");
    good(&f, &["domstate", "web", "--reason"], "running (booted)\n\n");
    good(&f, &["-q", "domid", "web"], "4711\n");
    good(&f, &["domid", "db"], "-\n\n");
    good(&f, &["domname", "4711"], "web\n\n");
    bad(&f, &["domname", "web"], "error: failed to get domain 'web'\n");
    good(&f, &["domuuid", "db"], "00000000-0000-4000-8000-000000000001\n\n");
    good(&f, &["ttyconsole", "web"], "/dev/pts/9\n\n");
    good(
        &f,
        &["nodeinfo"],
        "CPU model:           x86_64\nCPU(s):              2\nCPU frequency:       2000 MHz\nCPU socket(s):       1\n\
         Core(s) per socket:  2\nThread(s) per core:  1\nNUMA cell(s):        1\nMemory size:         2048 KiB\n\n",
    );
    good(&f, &["hostname"], "host\n\n");
    good(&f, &["uri"], &format!("{}\n\n", f.uri()));
    good(&f, &["capabilities"], "<capabilities/>\n\n");
    good(
        &f,
        &["version", "--daemon"],
        "Compiled against library: berth 0.1.0\nUsing library: berth 0.1.0\nUsing API: LXC 0.1.0\n\
         Running hypervisor: LXC 6.1.0\nRunning against daemon: 0.1.0\n\n",
    );
}

#[test]
fn the_host_in_figures() {
    let f = Fake::start();
    // As virsh's test driver has them.
    good(
        &f,
        &["nodecpustats"],
        "user:                     9797400000\nsystem:               34678723400000\n\
         idle:                    87264900000\niowait:                    763600000\n\n",
    );
    bad(
        &f,
        &["nodecpustats", "--cpu", "2"],
        "error: Unable to get number of cpu stats\nerror: the host has no CPU 2 that is online\n",
    );
    bad(
        &f,
        &["nodecpustats", "--cpu", "x"],
        "error: Numeric value 'x' for <cpu> option is malformed or out of range\n",
    );
    f.state.lock().expect("state").looks = 0;
    good(
        &f,
        &["nodecpustats", "--percent", "--cpu=1"],
        "usage:           42.9%\nuser:            42.9%\nsystem:           0.0%\nidle:            57.1%\n\
         iowait:           0.0%\n\n",
    );
    assert_eq!(f.last("GetCpuTimes")["cpu"], 1);
    good(&f, &["nodecpumap"], "CPUs present:   4\nCPUs online:    3\nCPU map:        y-yy\n\n");
    good(&f, &["nodecpumap", "--pretty"], "CPUs present:   4\nCPUs online:    3\nCPU map:        0,2-3\n\n");
    good(
        &f,
        &["nodememstats"],
        "total  :                 3072 KiB\nfree   :                 2048 KiB\nbuffers:                    1 KiB\n\
         cached :                   20 KiB\n\n",
    );
    good(
        &f,
        &["nodememstats", "--cell", "1"],
        "total  :                 1536 KiB\nfree   :                 2048 KiB\n\n",
    );
    bad(
        &f,
        &["nodememstats", "2"],
        "error: Unable to get number of memory stats\nerror: the host has no NUMA node 2\n",
    );
    good(&f, &["freecell"], "Total: 2048 KiB\n\n");
    good(&f, &["freecell", "1"], "1: 2048 KiB\n\n");
    good(
        &f,
        &["freecell", "--all"],
        "    0:       1024 KiB\n    1:       2048 KiB\n--------------------\nTotal:       3072 KiB\n\n",
    );
    bad(&f, &["freecell", "--all", "0"], "error: Options --all and --cellno are mutually exclusive\n");
    good(&f, &["-r", "-q", "freecell", "0"], "0: 1024 KiB\n");
}

#[test]
fn sources_of_interfaces_are_completed() {
    let f = Fake::start();
    let of = |kind: &str| {
        let (_, out, _) = run(&f, &["complete", "--", "attach-interface", "web", kind, ""]);
        out
    };
    assert_eq!(of("bridge"), "br0\n");
    assert_eq!(of("direct"), "br0\neth1\n");
    assert_eq!(of("ethernet"), "");
}

#[test]
fn json() {
    let f = Fake::start();
    let get = |words: &[&str]| -> serde_json::Value {
        let (code, stdout, stderr) = run(&f, words);
        assert_eq!((code, stderr.as_str()), (0, ""), "{words:?}");
        serde_json::from_str(&stdout).expect("JSON")
    };
    let list = get(&["list", "--all", "--json"]);
    assert_eq!(list.as_array().map(Vec::len), Some(5));
    assert_eq!(list[0]["id"], 4711);
    assert_eq!(list[2]["id"], serde_json::Value::Null);
    assert_eq!(list[2]["lastExit"]["signal"], 11);
    let keys: Vec<&String> = list[0].as_object().expect("object").keys().collect();
    assert_eq!(keys.len(), 15, "{keys:?}");
    assert_eq!(get(&["--json", "domstate", "web"])["state"], "running");
    assert_eq!(get(&["--json", "domstate", "web*"]).as_array().map(Vec::len), Some(2));
    let info = get(&["dominfo", "web", "--json"]);
    assert_eq!((&info["name"], &info["cpuTimeNSec"]), (&"web".into(), &1_260_000_000_i64.into()));
    assert_eq!(get(&["domid", "db", "--json"]), serde_json::json!({ "id": null }));
    assert_eq!(get(&["dumpxml", "web", "--json"])["xml"], fake::DOCUMENT);
    assert_eq!(get(&["dumpxml", "d*", "--json"])[0]["name"], "db");
    assert_eq!(get(&["desc", "web", "--json"]), serde_json::json!({ "description": null }));
    assert_eq!(get(&["nodeinfo", "--json"])["memoryKiB"], 2048);
    assert_eq!(get(&["version", "--json"])["kernel"], "6.1.0-18-amd64");
    assert_eq!(get(&["uri", "--json"])["uri"], f.uri());
    bad_json(&f);
}

fn bad_json(f: &Fake) {
    let (code, stdout, stderr) = run(f, &["dominfo", "nosuch", "--json"]);
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (1, "", "error: failed to get domain 'nosuch'\n"));
}

#[test]
fn metadata_and_descriptions() {
    let f = Fake::start();
    good(&f, &["desc", "web"], "No description for domain: web\n");
    good(&f, &["desc", "web", "hello", "world"], "Domain description updated successfully\n");
    good(&f, &["desc", "web"], "hello world\n");
    good(&f, &["desc", "web", "--title", "--config", "T"], "Domain title updated successfully\n");
    assert_eq!(f.last("SetMetadata")["affect"], serde_json::json!(["config"]));
    good(&f, &["desc", "web", "--title"], "T\n");
    good(&f, &["desc", "web", ""], "Domain description updated successfully\n");
    good(&f, &["desc", "web"], "No description for domain: web\n");
    bad(
        &f,
        &["desc", "web", "--current", "--live", "x"],
        "error: Options --current and --live are mutually exclusive\n",
    );
    let missing = "error: metadata not found: Requested metadata element is not present\n";
    bad(&f, &["metadata", "web", "urn:x"], missing);
    bad(
        &f,
        &["metadata", "web", "urn:x", "--set", "<a/>"],
        "error: namespace key is required when modifying metadata\n",
    );
    good(&f, &["metadata", "web", "urn:x", "--key", "k", "--set", "<a/>"], "Metadata modified\n\n");
    good(&f, &["metadata", "web", "--uri", "urn:x"], "<a/>\n\n");
    good(&f, &["metadata", "web", "urn:x", "--remove"], "Metadata removed\n\n");
    bad(&f, &["metadata", "web", "urn:x"], missing);
}

#[test]
fn edit() {
    let f = Fake::start();
    let with = |editor: &str, words: &[&str]| {
        text(&command(&f, words).env("EDITOR", editor).output().expect("virsh-lite runs"))
    };
    let same = "Domain 'web' XML configuration not changed.\n\n";
    assert_eq!(with("true", &["edit", "web"]), (0, same.into(), String::new()));
    let edited = with("sed -i s/web/fresh/", &["edit", "web"]);
    assert_eq!(edited, (0, "Domain 'fresh' XML configuration edited.\n\n".into(), String::new()));
    assert!(f.last("Define")["xml"].as_str().is_some_and(|x| x.contains("<name>fresh</name>")));
    let (code, stdout, stderr) = with("sed -i 's/<name>/<bad>/'", &["edit", "web"]);
    assert_eq!((code, stdout.as_str()), (1, "\n"));
    assert!(stderr.contains("unknown element 'bad'\n --> web.xml:2:3\n"), "{stderr}");
    let (code, _, stderr) = with("false", &["edit", "web"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("ended with exit status: 1"), "{stderr}");
    assert_eq!(
        with("echo text >", &["desc", "web", "--edit"]),
        (0, "Domain description updated successfully\n".into(), String::new())
    );
    assert_eq!(f.last("SetMetadata")["value"], "text");
}

#[test]
fn events() {
    let f = Fake::start();
    good(
        &f,
        &["event", "--list"],
        "lifecycle\nreboot\nmetadata-change\noom-kill\npressure\nready\ndevice-added\ndevice-removed\ntunable\n\n",
    );
    bad(&f, &["event"], "error: one of --list, --all, or --event <type> is required\n");
    bad(&f, &["event", "--event", "foo"], "error: unknown event type foo\n");
    bad(
        &f,
        &["event", "--all", "--timeout", "x"],
        "error: Numeric value 'x' for <timeout> option is malformed or out of range\n",
    );
    good(&f, &["event", "--all"], "event 'reboot' for domain 'web'\nevents received: 1\n\n");
    good(
        &f,
        &["event", "--event", "lifecycle", "--timestamp"],
        "2023-11-14 22:13:20.123+0000: event 'lifecycle' for domain 'web': Stopped Destroyed\nevents received: 1\n\n",
    );
    good(
        &f,
        &["event", "web", "--all", "--loop", "--timeout", "1"],
        "event 'reboot' for domain 'web'\nevent 'lifecycle' for domain 'web': Stopped Destroyed\n\
         event 'lifecycle' for domain 'web': Suspended Paused\n\
         event 'oom-kill' for domain 'web': processes killed for want of memory: 3\n\
         event 'pressure' for domain 'web': memory: tasks waited for 12.50 % of the last 10 s, all of them for 4.25 %\n\
         event 'ready' for domain 'web'\nevent 'device-added' for domain 'web': sdb\n\
         event 'tunable' for domain 'web':\n\tcputune.cpu_shares: 2048\n\tcputune.vcpu_quota: -1\n\
         event loop timed out\nevents received: 8\n\n",
    );
    assert_eq!(f.last("Subscribe")["name"], "web");
    let (_, stdout, _) = run(&f, &["event", "--event", "oom-kill", "--json"]);
    let event: serde_json::Value = serde_json::from_str(&stdout).expect("one line of JSON");
    assert_eq!((&event["kind"], &event["count"]), (&"oomKilled".into(), &3.into()));
    let (code, stdout, _) = run(&f, &["event", "--all", "--json"]);
    let event: serde_json::Value = serde_json::from_str(&stdout).expect("one line of JSON");
    assert_eq!((code, &event["type"], &event["sequence"]), (0, &"reboot".into(), &7.into()));
}

#[test]
fn lines_of_commands() {
    let f = Fake::start();
    good(&f, &["domid web; domid db"], "4711\n\n-\n\n");
    let (code, stdout, stderr) = run(&f, &["domid nosuch; domid db"]);
    assert_eq!(
        (code, stdout.as_str(), stderr.as_str()),
        (0, "\n-\n\n", "error: failed to get domain 'nosuch'\n")
    );
    let (code, stdout, stderr) = run(&f, &["domid web; frob"]);
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (1, "", "error: unknown command: 'frob'\n"));
    good(&f, &["echo", "a", "b"], "a b\n");
    good(&f, &["-q", "echo", "a"], "a");
    good(&f, &["echo", "--shell", "a b", "c"], "'a b' c\n");
    good(&f, &["echo", "--xml", "<a>"], "&lt;a&gt;\n");
    good(&f, &["echo", "--", "--shell"], "--shell\n");
    bad(&f, &["cd"], "error: cd: command valid only in interactive mode\n");
    let mut child = command(&f, &[]);
    let mut child =
        child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spawn");
    let lines = b"domid web\nfoo\n\n# nothing\ncd /\npwd\nquit\ndomid db\n";
    std::io::Write::write_all(&mut child.stdin.take().expect("stdin"), lines).expect("write");
    let output = child.wait_with_output().expect("output");
    assert_eq!(text(&output), (0, "4711\n\n\n/\n\n".into(), "error: unknown command: 'foo'\n".into()));
}

#[test]
fn connections() {
    let f = Fake::start();
    let missing = "lxc+unix:///system?socket=/nosuch/io.berth";
    assert_eq!(
        run(&f, &["-c", missing, "list"]),
        (
            1,
            String::new(),
            "error: failed to connect to the hypervisor\nerror: Failed to connect socket to '/nosuch/io.berth': No such \
             file or directory\nhint: is berthd running, and with this socket? (/nosuch/io.berth)\n"
                .into()
        )
    );
    bad(
        &f,
        &["-r", "destroy", "web"],
        "error: Failed to destroy domain 'web'\nerror: operation forbidden: read only access prevents virDomainDestroy\n",
    );
    good(&f, &["-r", "domid", "web"], "4711\n\n");
    let output = command(&f, &["-q", "domid", "web"])
        .env("VIRSH_DEFAULT_CONNECT_URI", missing)
        .output()
        .expect("virsh-lite runs");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn help_and_version() {
    let f = Fake::start();
    good(&f, &["-v"], "0.1.0\n");
    good(
        &f,
        &["help", "autostart"],
        "  NAME\n    autostart - autostart a domain\n\n  SYNOPSIS\n    autostart <domain>... [--disable]\n\n  DESCRIPTION\n    \
         Has each domain start together with the host, or no longer.\n\n  OPTIONS\n    \
         [--domain] <string>...  domain names, ids, uuids or patterns such as 'web*'\n    \
         --disable        no longer start it together with the host\n\n\n",
    );
    good(
        &f,
        &["help", "events"],
        " Domain Events (help keyword 'events'):\n    event                          Domain Events\n\n",
    );
    bad(&f, &["help", "frob"], "error: command or command group 'frob' doesn't exist\n");
    let (code, stdout, _) = run(&f, &["help"]);
    assert!(
        code == 0 && stdout.starts_with("Grouped commands:\n\n Domain Management (help keyword 'domain'):\n")
    );
    assert!(!stdout.contains("serve-stdio"));
    assert_eq!(run(&f, &["--bogus"]).2, "error: unsupported option '--bogus'. See --help.\n");
}

#[test]
fn generated_texts() {
    let f = Fake::start();
    let get = |words: &[&str]| run(&f, words).1;
    assert!(get(&["generate", "man-commands"]).contains("### dominfo\n"));
    let man = get(&["generate", "man"]);
    assert!(man.contains("# EXIT STATUS") && man.contains("### undefine\n") && !man.contains("@COMMANDS@"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(get(&["generate", "completions", shell]).contains("virsh-lite"));
    }
    assert_eq!(get(&["complete", "--", "start", "l"]), "locked\n");
    assert_eq!(get(&["complete", "--", "-c", &f.uri(), "dominfo", "web"]), "web\nweb2\n");
    assert_eq!(get(&["complete", "--", "list", "--na"]), "--name\n");
    let line = format!("virsh-lite -c '{}' destroy ", f.uri());
    assert_eq!(get(&["complete", "--line", &line]), "web\nweb2\n");
}

#[test]
fn words_with_an_open_quote() {
    let f = Fake::start();
    std::fs::create_dir_all(f.dir.path().join("d1/a b/sub")).expect("folder");
    std::fs::write(f.dir.path().join("d1/a b/one.xml"), "").expect("file");
    f.state.lock().expect("state").domains[0]["name"] = "my db".into();
    let get = |rest: &str| run(&f, &["complete", "--line", &format!("virsh-lite {rest}")]);
    let words = |text: &str| (0, text.to_owned(), String::new());
    assert_eq!(get("dominfo \"web"), words("web\nweb2\n"));
    assert_eq!(get("dominfo 'my "), words("my db\n"));
    assert_eq!(get("dominfo my\\ "), words("my db\n"));
    assert_eq!(get("dominfo \""), words("my db\nlocked\nold\nweb\nweb2\n"));
    assert_eq!(get("define 'd1/a b/"), words("d1/a b/one.xml\nd1/a b/sub/\n"));
    // As bash wants it. The function is called as bash does, though nothing is typed.
    let script =
        "source completion; COMP_LINE=$1 COMP_POINT=${#1} COMP_WORDS=(\"$0\") COMP_CWORD=0; _virsh_lite
        printf '%s\\n' \"${COMPREPLY[@]}\"";
    let completion = run(&f, &["generate", "completions", "bash"]).1;
    std::fs::write(f.dir.path().join("completion"), completion).expect("file");
    let bash = |rest: &str| {
        let line = format!("virsh-lite {rest}");
        let words = ["-c", script, env!("CARGO_BIN_EXE_virsh-lite"), &line];
        let mut command = Command::new("bash");
        command.args(words).current_dir(f.dir.path()).env("LIBVIRT_DEFAULT_URI", f.uri());
        text(&command.output().expect("bash runs")).1
    };
    assert_eq!(bash("dominfo m"), "my\\ db\n");
    assert_eq!(bash("dominfo \"m"), "my db\n");
    assert_eq!(bash("dominfo 'my d"), "my db\n");
    assert_eq!(bash("dominfo --domain=my\\ "), "my\\ db\n");
    assert_eq!(bash("dominfo --domain='m"), "my db\n");
    assert_eq!(bash("define d1/"), "d1/a\\ b/\n");
    assert_eq!(bash("define 'd1/a b/o"), "d1/a b/one.xml\n");
}

#[test]
fn completion_does_not_wait_for_a_daemon_that_hangs() {
    let dir = tempfile::tempdir().expect("folder");
    let socket = dir.path().join("s");
    // Connections wait in there, and nobody takes them.
    let listener = std::os::unix::net::UnixListener::bind(&socket).expect("socket");
    let uri = format!("lxc+unix:///system?socket={}", socket.display());
    for words in [&["dominfo", ""][..], &["-r", "domifstat", "web", ""], &["net-info", ""]] {
        let begin = std::time::Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_virsh-lite"));
        let output = command.args(["complete", "--", "-c", &uri]).args(words).output().expect("it runs");
        assert_eq!(text(&output), (0, String::new(), String::new()), "{words:?}");
        assert!(begin.elapsed() < Duration::from_secs(20), "{words:?}: {:?}", begin.elapsed());
    }
    drop(listener);
}

#[test]
fn options_of_virsh_about_what_containers_do_not_have() {
    let f = Fake::start();
    let all = run(&f, &["list", "--all"]);
    for without in ["--without-snapshot", "--without-checkpoint", "--without-managed-save", "--managed-save"]
    {
        assert_eq!(run(&f, &["list", "--all", without]), all, "{without}");
    }
    for with in ["--with-snapshot", "--with-checkpoint", "--with-managed-save"] {
        good(&f, &["list", "--all", "--name", with], "\n");
    }
    let alias = ["attach-disk", "web", "/srv/d.img", "vda", "--alias", "ua-data", "--print-xml"];
    let (code, printed, _) = run(&f, &alias);
    assert_eq!(code, 0);
    assert!(printed.contains("  <target dev='vda'/>\n  <alias name='ua-data'/>\n</disk>\n"), "{printed}");
    for shareable in [&["--shareable"][..], &["--mode", "shareable"]] {
        let words = [&["attach-disk", "web", "/srv/d.img", "vda", "--print-xml"], shareable].concat();
        let (code, printed, _) = run(&f, &words);
        assert!(code == 0 && printed.contains("  <shareable/>\n</disk>\n"), "{shareable:?}: {printed}");
    }
    for (words, reason) in [
        (&["attach-disk", "web", "v", "vda", "--mode", "readonly", "--shareable"][..], "mutually exclusive"),
        (&["capabilities", "--xpath", "//arch"], "xmllint"),
        (&["dommemstat", "web", "--period", "1"], "read when they are asked for"),
        (&["attach-disk", "web", "v", "vda", "--source-protocol", "nbd"], "file of the host"),
        (&["domstats", "--vm", "--enforce"], "Stats type 'vm' is not supported"),
    ] {
        let (code, _, stderr) = run(&f, words);
        assert!(code == 1 && stderr.contains(reason), "{words:?}: {stderr}");
    }
}

/// Has the daemon be away once, at a call.
fn away(fake: &Fake, at: &'static str, milliseconds: u64, then: fn(&mut State)) {
    let time = Duration::from_millis(milliseconds);
    fake.state.lock().expect("state").away = Some(Away { at, time, then });
}

#[test]
fn a_wait_for_readiness_outlives_the_daemon() {
    const CREATED: &str = "Domain 'fresh' created from good.xml\n";
    let create = |seconds: &str, at: &'static str, away_for: u64, then: fn(&mut State)| {
        let f = Fake::start();
        std::fs::write(f.dir.path().join("good.xml"), "<domain>\n</domain>\n").expect("file");
        f.state.lock().expect("state").unready = true;
        away(&f, at, away_for, then);
        run(&f, &["create", "good.xml", "--wait", "ready", "--timeout", seconds])
    };
    for call in ["Subscribe", "List"] {
        let (code, stdout, stderr) = create("20", call, 400, |state| {
            let fresh = state.domains.iter_mut().find(|d| d["name"] == "fresh").expect("fresh");
            fresh["ready"] = true.into();
        });
        let out = format!("{CREATED}Domain 'fresh' is ready\n\n");
        assert_eq!((code, stdout, stderr), (0, out, String::new()), "{call}");
    }
    // Only the daemon says that it has ended.
    let ended = "error: domain 'fresh' ended before it was ready\n".to_owned();
    let ends: [fn(&mut State); 2] = [
        |state| state.domains.retain(|d| d["name"] != "fresh"),
        |state| {
            let fresh = state.domains.iter_mut().find(|d| d["name"] == "fresh").expect("fresh");
            fresh["id"] = serde_json::Value::Null;
        },
    ];
    for end in ends {
        assert_eq!(create("20", "List", 100, end), (1, format!("{CREATED}\n"), ended.clone()));
    }
    let (code, _, stderr) = create("1", "List", 60_000, |_| {});
    let lost = "error: the connection to the daemon was lost, and 1 s were not enough to hear from 'fresh' again, which may still run\n\
        error: Failed to connect socket to '";
    assert!(code == 1 && stderr.starts_with(lost), "{stderr}");
}

#[test]
fn stop_all_outlives_the_daemon() {
    // web obeys, web2 cannot be asked.
    let stderr = "error: Failed to shutdown domain 'web2'\nerror: init does not answer\n";
    let stdout = "Domain 'web' is being shutdown\nDomain 'web2' destroyed\n";
    for (call, asked) in [("List", 2), ("Shutdown", 3), ("Destroy", 2)] {
        let f = Fake::start();
        f.state.lock().expect("state").obedient = true;
        away(&f, call, 400, |_| {});
        let result = run(&f, &["stop-all", "--timeout", "20"]);
        assert_eq!(result, (0, stdout.into(), stderr.into()), "{call}");
        let state = f.state.lock().expect("state");
        let asks = state.calls.iter().filter(|(m, _)| m.ends_with(".Shutdown")).count();
        assert_eq!(asks, asked, "{call}");
    }
    // What has ended meanwhile is neither asked nor destroyed.
    for call in ["Shutdown", "Destroy"] {
        let f = Fake::start();
        f.state.lock().expect("state").obedient = true;
        away(&f, call, 100, |state| state.domains.retain(|d| d["id"].is_null()));
        let (code, stdout, _) = run(&f, &["stop-all", "--timeout", "20"]);
        assert!(code == 0 && !stdout.contains("destroyed"), "{call}: {stdout}");
    }
    // The time is over while the daemon is away: what is left is destroyed all the same.
    let f = Fake::start();
    away(&f, "List", 1500, |_| {});
    good(&f, &["stop-all", "--timeout", "1"], "Domain 'web' destroyed\nDomain 'web2' destroyed\n");
}

#[test]
fn a_line_of_commands_connects_anew() {
    let f = Fake::start();
    away(&f, "List", 0, |_| {});
    let mut child = command(&f, &[]);
    let mut child =
        child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spawn");
    let mut stdin = child.stdin.take().expect("stdin");
    std::io::Write::write_all(&mut stdin, b"list --name\n").expect("write");
    while f.state.lock().expect("state").away.is_some() || !f.socket().exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::io::Write::write_all(&mut stdin, b"list --name\nquit\n").expect("write");
    drop(stdin);
    let (_, stdout, stderr) = text(&child.wait_with_output().expect("output"));
    assert_eq!(stdout, "\nweb\nweb2\n\n");
    assert!(stderr.contains("Failed to list domains"), "{stderr}");
}

#[test]
fn a_reader_that_goes_away() {
    let f = Fake::start();
    let mut child = command(&f, &["list", "--all"]);
    let (reader, writer) = std::io::pipe().expect("pipe");
    drop(reader);
    let output =
        child.stdout(writer).stderr(Stdio::piped()).spawn().expect("spawn").wait_with_output().expect("wait");
    assert_eq!((output.status.code(), output.stderr.len()), (Some(141), 0));
}

#[test]
fn domstats() {
    let f = Fake::start();
    let web = "Domain: 'web'\n  state.state=1\n  state.reason=1\n  cpu.time=3000000007\n  cpu.user=2000000000\n  \
        cpu.system=1000000000\n  balloon.current=32768\n  balloon.maximum=65536\n  balloon.major_fault=1\n  \
        balloon.minor_fault=99\n  balloon.unused=57344\n  balloon.available=65536\n  balloon.usable=58368\n  \
        balloon.disk_caches=4096\n  balloon.rss=8192\n  vcpu.current=2\n  vcpu.maximum=4\n  net.count=1\n  \
        net.0.name=eth0\n  net.0.rx.bytes=1\n  net.0.rx.pkts=2\n  net.0.rx.errs=3\n  net.0.rx.drop=4\n  \
        net.0.tx.bytes=5\n  net.0.tx.pkts=6\n  net.0.tx.errs=7\n  net.0.tx.drop=8\n  block.count=2\n  \
        block.0.name=sda\n  block.0.rd.reqs=1\n  block.0.rd.bytes=4096\n  block.0.wr.reqs=2\n  \
        block.0.wr.bytes=8192\n  block.1.name=sdb\n  block.1.rd.reqs=2\n  block.1.rd.bytes=8192\n  \
        block.1.wr.reqs=4\n  block.1.wr.bytes=16384\n";
    good(&f, &["domstats", "web"], &format!("{web}\n"));
    assert_eq!(f.last("GetStats")["groups"], serde_json::json!(["cpu", "memory", "interface", "block"]));
    good(
        &f,
        &["domstats", "--state", "--vcpu", "--list-shutoff"],
        "Domain: 'db'\n  state.state=5\n  state.reason=3\n  vcpu.current=2\n  vcpu.maximum=4\n\n\
         Domain: 'locked'\n  state.state=5\n  state.reason=3\n  vcpu.current=2\n  vcpu.maximum=4\n\n\
         Domain: 'old'\n  state.state=5\n  state.reason=3\n  vcpu.current=2\n  vcpu.maximum=4\n\n",
    );
    good(
        &f,
        &["domstats", "--cpu-total", "--list-active", "--raw", "--nowait", "--backing", "--perf"],
        "Domain: 'web'\n  cpu.time=3000000007\n  cpu.user=2000000000\n  cpu.system=1000000000\n\n\
         Domain: 'web2'\n  cpu.time=3000000007\n  cpu.user=2000000000\n  cpu.system=1000000000\n\n",
    );
    assert_eq!(f.last("GetStats")["active"], true);
    good(&f, &["domstats", "web", "--pressure"], "Domain: 'web'\n  pressure.cpu.some=77\n\n");
    good(&f, &["domstats", "web2", "--interface"], "Domain: 'web2'\n\n");
    good(&f, &["domstats", "--list-paused"], "\n");
    good(
        &f,
        &["domstats", "web", "--vcpu", "--json"],
        "[{\"name\":\"web\",\"stats\":{\"vcpu.current\":2,\"vcpu.maximum\":4}}]\n",
    );
    bad(
        &f,
        &["domstats", "web", "--perf", "--enforce"],
        "error: Stats type 'perf' is not supported for containers\n",
    );
    bad(&f, &["domstats", "nosuch"], "error: failed to get domain 'nosuch'\n");
}

#[test]
fn figures() {
    let f = Fake::start();
    good(
        &f,
        &["dommemstat", "web"],
        "actual 32768\nmajor_fault 1\nminor_fault 99\nunused 57344\navailable 65536\nusable 58368\ndisk_caches 4096\n\
         rss 8192\n\n",
    );
    let down = |what: &str| {
        format!("error: {what} 'db'\nerror: Requested operation is not valid: domain is not running\n")
    };
    bad(&f, &["dommemstat", "db"], &down("Failed to get memory statistics for domain"));
    good(
        &f,
        &["domblkstat", "web", "sdb"],
        "sdb rd_req 2\nsdb rd_bytes 8192\nsdb wr_req 4\nsdb wr_bytes 16384\n\n",
    );
    good(&f, &["domblkstat", "web"], " rd_req 3\n rd_bytes 12288\n wr_req 6\n wr_bytes 24576\n\n");
    good(
        &f,
        &["domblkstat", "web", "sda", "--json"],
        "{\"device\":\"sda\",\"rd_bytes\":4096,\"rd_req\":1,\"wr_bytes\":8192,\"wr_req\":2}\n",
    );
    bad(
        &f,
        &["domblkstat", "web", "sdz"],
        "error: Failed to get block stats for domain 'web' device 'sdz'\nerror: the domain has no disk of that name, and has used no device of that name\n",
    );
    good(
        &f,
        &["domifstat", "web", "lo"],
        "lo rx_bytes 1\nlo rx_packets 2\nlo rx_errs 3\nlo rx_drop 4\nlo tx_bytes 5\nlo tx_packets 6\nlo tx_errs 7\n\
         lo tx_drop 8\n\n",
    );
    // By its end on the host, whatever it is called inside.
    good(
        &f,
        &["domifstat", "web", "vnet7"],
        "vnet7 rx_bytes 1\nvnet7 rx_packets 2\nvnet7 rx_errs 3\nvnet7 rx_drop 4\nvnet7 tx_bytes 5\nvnet7 tx_packets 6\n\
         vnet7 tx_errs 7\nvnet7 tx_drop 8\n\n",
    );
    bad(
        &f,
        &["domifstat", "web2", "eth0"],
        "error: Failed to get interface stats web2 eth0\nerror: invalid argument: the domain has no interface 'eth0'\n",
    );
    let total = "Total:\n\tcpu_time             3.000000007 seconds\n\tuser_time            2.000000000 seconds\n\
        \tsystem_time          1.000000000 seconds\n\n";
    let cpus = "CPU0:\n\tcpu_time             1.000000000 seconds\nCPU1:\n\tcpu_time             2.000000007 seconds\n";
    good(&f, &["cpu-stats", "web"], &format!("{cpus}{total}"));
    good(&f, &["cpu-stats", "web", "--total"], total);
    good(&f, &["cpu-stats", "web2"], total);
    good(
        &f,
        &["cpu-stats", "web", "--start", "1", "--count", "2"],
        "Only 1 CPUs available to show\nCPU1:\n\tcpu_time             2.000000007 seconds\n\n",
    );
    bad(&f, &["cpu-stats", "web", "--start", "-1"], "error: Invalid value for start CPU\n");
    bad(
        &f,
        &["cpu-stats", "web2", "--count", "1"],
        "error: Failed to retrieve CPU statistics for domain 'web2'\nerror: cgroup v2 of this host does not count processor \
         time by processor\nhint: --total has the sum; <berth:cpu-times mode='counted'/> in <berth:settings> has it counted, see docs/resources.md\n",
    );
    bad(&f, &["cpu-stats", "db"], &down("Failed to retrieve CPU statistics for domain"));
}
