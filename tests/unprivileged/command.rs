//! The literal output of `virsh-lite` against the real daemon.

use berth_tests::daemon::{Daemon, Printed, domain_xml};
use berth_tests::suite::Test;
use berth_tests::terminal::Terminal;
use berth_tests::{Outcome, ensure, ensure_eq};

pub const TESTS: &[Test] = &[
    ("command::prints_what_virsh_prints", literal),
    ("command::limits_are_printed_as_virsh_does", limits),
    ("command::errors_are_virshs", errors),
    ("command::long_words_are_cut_in_what_it_says", long_words),
    ("command::define_shows_the_offending_line", snippet),
    ("command::without_a_daemon_says_so", no_daemon),
    ("command::read_only_cannot_change", read_only),
    ("command::globs_and_several_names", globs),
    ("command::json_is_json", json),
    ("command::the_shell_works", shell),
    ("command::completion_knows_live_names", completion),
    ("command::edit_changes_and_refuses", edit),
    ("command::events_are_printed", events),
];

fn plain(name: &str) -> String {
    domain_xml(name, std::path::Path::new("/nonexistent"), &["/bin/sh"], "")
}

fn printed(status: i32, out: &str, err: &str) -> Printed {
    Printed { status, out: out.into(), err: err.into() }
}

fn literal() -> Outcome {
    let daemon = Daemon::start()?;
    ensure_eq!(
        daemon.virsh(&["list", "--all"])?,
        printed(0, " Id   Name   State\n--------------------\n\n", ""),
        "empty list"
    );
    let file = daemon.file("deb12.xml", &plain("deb12"))?;
    ensure_eq!(
        daemon.virsh(&["define", &file])?,
        printed(0, &format!("Domain 'deb12' defined from {file}\n\n"), ""),
        "define"
    );
    daemon.define("bb", &plain("bb"))?;
    ensure_eq!(
        daemon.virsh(&["list", "--all"])?,
        printed(
            0,
            " Id   Name    State\n------------------------\n -    bb      shut off\n -    deb12   shut off\n\n",
            ""
        ),
        "list"
    );
    ensure_eq!(
        daemon.virsh(&["list"])?,
        printed(0, " Id   Name   State\n--------------------\n\n", ""),
        "list of the running"
    );
    ensure_eq!(daemon.virsh(&["list", "--all", "--name"])?, printed(0, "bb\ndeb12\n\n", ""), "names");
    ensure_eq!(
        daemon.virsh(&["-q", "list", "--all"])?.out,
        " -   bb      shut off\n -   deb12   shut off\n".to_owned(),
        "quiet"
    );
    ensure_eq!(daemon.virsh(&["domstate", "bb"])?, printed(0, "shut off\n\n", ""), "domstate");
    ensure_eq!(daemon.virsh(&["domid", "bb"])?, printed(0, "-\n\n", ""), "domid");
    ensure_eq!(
        daemon.virsh(&["autostart", "bb"])?,
        printed(0, "Domain 'bb' marked as autostarted\n\n", ""),
        "autostart"
    );
    ensure_eq!(
        daemon.virsh(&["autostart", "--disable", "bb"])?,
        printed(0, "Domain 'bb' unmarked as autostarted\n\n", ""),
        "no autostart"
    );
    ensure_eq!(
        daemon.virsh(&["undefine", "bb"])?,
        printed(0, "Domain 'bb' has been undefined\n\n", ""),
        "undefine"
    );
    let info = daemon.ok(&["dominfo", "deb12"])?;
    for line in [
        "Id:             -",
        "Name:           deb12",
        "OS Type:        exe",
        "State:          shut off",
        // The document says nothing about them.
        &format!("CPU(s):         {}", host_cpus(&daemon)?),
        "Max memory:     262144 KiB",
        "Used memory:    262144 KiB",
        "Persistent:     yes",
        "Autostart:      disable",
    ] {
        ensure!(info.lines().any(|l| l.trim_end() == line), "'{line}' is not in dominfo:\n{info}");
    }
    ensure_eq!(daemon.ok(&["uri"])?.trim(), daemon.uri(), "uri");
    Ok(())
}

/// How many CPUs the daemon's host has.
fn host_cpus(daemon: &Daemon) -> Result<i64, String> {
    let answer = daemon.client()?.call("io.berth.Node.GetInfo", &serde_json::json!({}))?;
    answer["info"]["cpus"].as_i64().ok_or_else(|| format!("no CPUs in {answer}"))
}

fn limits() -> Outcome {
    let daemon = Daemon::start()?;
    daemon.define("web", &plain("web").replace("  <os>", "  <vcpu>4</vcpu>\n  <os>"))?;
    let all = match host_cpus(&daemon)? {
        1 => "0".to_owned(),
        count => format!("0-{}", count - 1),
    };
    let affinity = format!(" VCPU   CPU Affinity\n----------------------\n 0      {all}\n 1      {all}\n\n");
    for (words, out) in [
        (
            &["memtune", "web"][..],
            "hard_limit     : unlimited\nsoft_limit     : unlimited\nswap_hard_limit: unlimited\n\n",
        ),
        (&["memtune", "web", "--hard-limit", "1G", "--swap-hard-limit=2097152", "--config"], "\n"),
        (&["memtune", "web", "--hard-limit", "-1"], "\n"),
        (
            &["memtune", "web", "--config"],
            "hard_limit     : unlimited\nsoft_limit     : unlimited\nswap_hard_limit: 2097152\n\n",
        ),
        (
            &["schedinfo", "web"],
            "Scheduler      : posix\ncpu_shares     : 1024\nvcpu_period    : 100000\nvcpu_quota     : -1\n\n",
        ),
        (
            &["schedinfo", "web", "--set", "cpu_shares=512", "--config"],
            "Scheduler      : posix\ncpu_shares     : 512\nvcpu_period    : 100000\nvcpu_quota     : -1\n\n",
        ),
        (&["vcpucount", "web"], "maximum      config         4\ncurrent      config         4\n\n"),
        (&["setvcpus", "web", "2", "--config"], "\n"),
        (&["vcpucount", "web"], "maximum      config         4\ncurrent      config         2\n\n"),
        (&["vcpucount", "web", "--active", "--config"], "2\n\n"),
        (&["setvcpus", "web", "8", "--maximum", "--config"], "\n"),
        (&["vcpucount", "web", "--maximum", "--config"], "8\n\n"),
        (&["vcpupin", "web"], &affinity),
        (&["vcpupin", "web", "0", "0-3,^2", "--config"], "\n"),
        (
            &["vcpupin", "web"],
            " VCPU   CPU Affinity\n----------------------\n 0      0-1,3\n 1      0-1,3\n\n",
        ),
        (&["numatune", "web"], "numa_mode      : strict\nnuma_nodeset   : \n\n"),
        (&["numatune", "web", "--nodeset", "0-1"], "\n"),
        (&["numatune", "web"], "numa_mode      : strict\nnuma_nodeset   : 0-1\n\n"),
        (
            &[
                "blkiotune",
                "web",
                "--weight",
                "500",
                "--device-read-bytes-sec",
                "/dev/sda,1000,/dev/sdb,2000",
            ],
            "\n",
        ),
        (
            &["blkiotune", "web"],
            "weight         : 500\ndevice_weight  : \ndevice_read_iops_sec: \ndevice_write_iops_sec: \n\
             device_read_bytes_sec: /dev/sda,1000,/dev/sdb,2000\ndevice_write_bytes_sec: \n\n",
        ),
        (&["limits", "web"], "pids           : unlimited\ncpu_allowance  : unlimited\n\n"),
        (&["limits", "web", "--pids", "500", "--config"], "\n"),
        (&["limits", "web"], "pids           : 500\ncpu_allowance  : unlimited\n\n"),
        (&["limits", "web", "--cpu-allowance", "150%", "--pids", "unlimited"], "\n"),
        (&["limits", "web"], "pids           : unlimited\ncpu_allowance  : 150%\n\n"),
        (
            &["schedinfo", "web"],
            "Scheduler      : posix\ncpu_shares     : 512\nvcpu_period    : 100000\nvcpu_quota     : 150000\n\n",
        ),
        (&["limits", "web", "--cpu-allowance", "none", "--pids", "500"], "\n"),
        (&["limits", "web"], "pids           : 500\ncpu_allowance  : unlimited\n\n"),
        (&["setmaxmem", "web", "128M"], "\n"),
        (&["setmem", "web", "65536", "--config"], "\n"),
        // The name that these options had in older versions of virsh.
        (&["setmaxmem", "web", "--kilobytes", "131072"], "\n"),
        (&["setmem", "web", "--kilobytes=65536", "--config"], "\n"),
    ] {
        ensure_eq!(daemon.virsh(words)?, printed(0, out, ""), "{words:?}");
    }
    let xml = daemon.ok(&["dumpxml", "web"])?;
    for line in [
        "<memory unit='KiB'>131072</memory>",
        "<currentMemory unit='KiB'>65536</currentMemory>",
        "<swap_hard_limit unit='KiB'>2097152</swap_hard_limit>",
        "<vcpu placement='static' cpuset='0-1,3' current='2'>8</vcpu>",
        "<shares>512</shares>",
        "<memory mode='strict' nodeset='0-1'/>",
        "<read_bytes_sec>2000</read_bytes_sec>",
    ] {
        ensure!(xml.contains(line), "no {line} in {xml}");
    }
    for (words, err) in [
        (&["setmem", "web", "65536"][..], "error: Requested operation is not valid: domain is not running\n"),
        (
            &["setmem", "web", "1x"],
            "error: Scaled numeric value '1x' for <--size> option is malformed or out of range\n",
        ),
        (
            &["setmem", "web", "129M", "--config"],
            "error: invalid argument: cannot set memory higher than max memory\n",
        ),
        (&["schedinfo", "web", "--set", "cap=1"], "error: invalid scheduler option: cap\n"),
        (
            &["schedinfo", "web", "--set", "cpu_shares=1"],
            "error: invalid argument: cpu_shares '1' is not a number from 2 to 262144\n",
        ),
        (
            &["blkiotune", "web", "--weight", "5", "--config"],
            "error: Unable to change blkio parameters\n\
             error: invalid argument: weight '5' is not a number from 10 to 1000\n",
        ),
        (
            &["blkiotune", "web", "--device-read-bytes-sec", "/dev/sda,5,/dev/sdb,-1", "--config"],
            "error: Unable to change blkio parameters\nerror: invalid argument: invalid value '-1' for parameter \
             'device_read_bytes_sec' of device '/dev/sdb'\n",
        ),
        (&["blkiotune", "web", "--weight", "-1", "--config"], "error: Invalid value of -1 for I/O weight\n"),
        (&["setmem", "web", "0", "--config"], "error: invalid argument: memory must be more than 0\n"),
        (&["setvcpus", "web", "0", "--config"], "error: Invalid value '0' for number of virtual CPUs\n"),
        (
            &["limits", "web", "--pids", "-5", "--config"],
            "error: Unable to change limits\nerror: invalid argument: pids cannot be -5\n",
        ),
        (
            &["setvcpus", "web", "9", "--config"],
            "error: requested vcpus is greater than max allowable vcpus for the persistent domain: 9 > 8\n",
        ),
        (
            &["memtune", "web", "--live", "--soft-limit", "1"],
            "error: Unable to change memory parameters\n\
             error: Requested operation is not valid: domain is not running\n",
        ),
        (&["vcpupin", "web", "5", "0"], "error: vcpu 5 is out of range of cpu count 2\n"),
        // An empty variable of a script takes away neither processors nor nodes.
        (&["vcpupin", "web", "0", ""], "error: Invalid cpulist ''\n"),
        (&["vcpupin", "web", "0", " ", "--config"], "error: Invalid cpulist ' '\n"),
        (
            &["numatune", "web", "--nodeset", ""],
            "error: Failed to get option 'nodeset': Option argument is empty\n",
        ),
        (
            &["numatune", "web", "--nodeset=", "--mode", "strict"],
            "error: Failed to get option 'nodeset': Option argument is empty\n",
        ),
        (
            &["limits", "web", "--cpu-allowance", "half"],
            "error: Numeric value 'half' for <cpu-allowance> option is malformed or out of range\n",
        ),
        (
            &["limits", "web", "--pids", "many"],
            "error: Numeric value 'many' for <pids> option is malformed or out of range\n",
        ),
        (&["memtune", "nosuch"], "error: failed to get domain 'nosuch'\n"),
    ] {
        ensure_eq!(daemon.virsh(words)?, printed(1, "\n", err), "{words:?}");
    }
    // Hosts without the one or the other say so.
    let tune = daemon.virsh(&["node-memory-tune"])?;
    let none = "error: Unable to get memory parameters\nerror: this kernel does not merge equal pages";
    let is_table = tune.out.starts_with("Shared memory:\n\tshm_pages_to_scan ");
    ensure!(is_table || tune.err.starts_with(none), "node-memory-tune: {tune:?}");
    let sysinfo = daemon.virsh(&["sysinfo"])?;
    let none = "error: failed to get sysinfo\nerror: Host SMBIOS information is not available\n";
    ensure!(
        sysinfo.out.starts_with("<sysinfo type='smbios'>\n") || sysinfo.err == none,
        "sysinfo: {sysinfo:?}"
    );
    figures_of_the_host(&daemon)?;
    let bad = daemon.virsh(&["node-memory-tune", "--shm-merge-across-nodes", "2"])?.fails()?;
    ensure_eq!(bad, "error: shm_merge_across_nodes must be 0 or 1, not 2\n", "a bad value");
    // A document that says nothing about CPUs has all of the host's.
    daemon.define("all", &plain("all"))?;
    let count = host_cpus(&daemon)?;
    let text = daemon.ok(&["dumpxml", "all"])?;
    ensure!(text.contains(&format!("<vcpu placement='static'>{count}</vcpu>")), "{text}");
    daemon.ok(&["undefine", "all"])?;
    daemon.ok(&["undefine", "web"]).map(drop)
}

/// The kernel's, through the daemon, for those who may only read as well.
fn figures_of_the_host(daemon: &Daemon) -> Outcome {
    let get = |words: &[&str]| -> Result<serde_json::Value, String> {
        let out = daemon.ok(&[&["-r", "--json"], words].concat())?;
        serde_json::from_str(&out).map_err(|e| format!("{words:?}: {e}: {out}"))
    };
    ensure_eq!(
        get(&["nodecpumap"])?["online"].as_i64(),
        Some(host_cpus(daemon)?),
        "processors that are online"
    );
    let total = get(&["nodeinfo"])?["memoryKiB"].clone();
    ensure_eq!(get(&["nodememstats"])?["totalKiB"], total, "memory of the host");
    let cells = get(&["freecell", "--all"])?;
    ensure!(cells["cells"][0]["freeKiB"].as_i64() > Some(0), "{cells}");
    let spent = |value: &serde_json::Value| {
        ["userNSec", "kernelNSec", "idleNSec", "ioWaitNSec"]
            .iter()
            .filter_map(|k| value[*k].as_i64())
            .sum::<i64>()
    };
    let (one, all) = (get(&["nodecpustats", "--cpu", "0"])?, get(&["nodecpustats"])?);
    ensure!(spent(&one) > 0 && spent(&all) >= spent(&one), "{all} {one}");
    for (words, err) in [
        (
            &["nodecpustats", "--cpu", "65000"][..],
            "error: Unable to get number of cpu stats\nerror: the host has no CPU 65000 that is online\n",
        ),
        (
            &["nodememstats", "--cell", "65000"],
            "error: Unable to get number of memory stats\nerror: the host has no NUMA node 65000\n",
        ),
    ] {
        ensure_eq!(daemon.virsh(words)?, printed(1, "\n", err), "{words:?}");
    }
    Ok(())
}

fn errors() -> Outcome {
    let daemon = Daemon::start()?;
    daemon.define("off", &plain("off"))?;
    for (words, says) in [
        (&["dominfo", "nosuch"][..], "error: failed to get domain 'nosuch'\n"),
        (&["frobnicate"], "error: unknown command: 'frobnicate'\n"),
        (&["list", "--bogus"], "error: command 'list' doesn't support option --bogus\n"),
        (&["dominfo"], "error: command 'dominfo' requires <domain> option\n"),
        (&["console", "off"], "error: The domain is not running\n"),
        (
            &["destroy", "off"],
            "error: Failed to destroy domain 'off'\nerror: Requested operation is not valid: domain is not running\n",
        ),
        (
            &["metadata", "off", "urn:x"],
            "error: metadata not found: Requested metadata element is not present\n",
        ),
        (&["start", "nosuch"], "error: failed to get domain 'nosuch'\n"),
        (
            &["define", "/nonexistent/x.xml"],
            "error: Failed to open file '/nonexistent/x.xml': No such file or directory\n",
        ),
    ] {
        let printed = daemon.virsh(words)?;
        ensure_eq!(printed.status, 1, "the exit status of {words:?}");
        ensure!(printed.err.starts_with(says), "{words:?} printed {:?} instead of {says:?}", printed.err);
    }
    let start = daemon.virsh(&["start", "off"])?;
    ensure_eq!(start.status, 1, "start without a root");
    ensure!(start.err.starts_with("error: Failed to start domain 'off'\nerror: "), "{}", start.err);
    ensure!(
        start.err.contains("/nonexistent") && start.err.contains("No such file or directory"),
        "{}",
        start.err
    );
    Ok(())
}

/// Nobody reads a hundred thousand letters of a name or a value.
fn long_words() -> Outcome {
    let daemon = Daemon::start()?;
    daemon.define("off", &plain("off"))?;
    let long = "x".repeat(100_000);
    let document = plain("typo").replace("<init>/bin/sh</init>", &format!("<init>{long}</init>"));
    let (document, option) = (daemon.file("long.xml", &document)?, format!("--{long}"));
    for words in [
        &["dominfo", &long][..],
        &[&long],
        &["list", &option],
        &["define", &long],
        &["define", &document],
        &["net-info", &long],
        &["net-update", "default", "add", "ip-dhcp-host", &long, "--config"],
        &["domiftune", "off", &long],
        &["domiftune", "off", &long, "--inbound", "1"],
        &["domiftune", "off", "a0", "--inbound", &long],
        &["domif-setlink", "off", &long, "up"],
        &["setmem", "off", &long],
        &["memtune", "off", "--hard-limit", &long],
        &["schedinfo", "off", "--set", &format!("{long}=1")],
        &["vcpupin", "off", "0", &long],
        &["numatune", "off", "--nodeset", &long],
        &["blkiotune", "off", "--device-weights", &format!("/{long},x")],
        &["metadata", "off", &long],
        &["desc", "off", "--title", &format!("{long}\n"), "--config"],
        &["detach-disk", "off", &long],
        &["send-process-signal", "off", "1", &long],
        &["domstats", &long],
        &["domiflist", &long],
        &["console", "off", &long],
        &["event", "--event", &long],
        &["shutdown", "off", "--mode", &long],
    ] {
        let printed = daemon.virsh(words)?;
        let begin: String = words.join(" ").chars().take(40).collect();
        ensure_eq!(printed.status, 1, "the exit status of {begin}");
        ensure!(printed.err.len() < 2500, "'{begin}' says {} bytes", printed.err.len());
    }
    let longest = daemon.log().lines().map(str::len).max();
    ensure!(longest < Some(1500), "a line of the log has {longest:?} bytes");
    Ok(())
}

fn snippet() -> Outcome {
    let daemon = Daemon::start()?;
    let file =
        daemon.file("typo.xml", &plain("typo").replace("<init>/bin/sh</init>", "<init>bin/sh</init>"))?;
    let error = daemon.virsh(&["define", &file])?.fails()?;
    ensure!(error.contains("<init>bin/sh</init>"), "the line is not shown: {error}");
    ensure!(error.contains('^'), "the place is not marked: {error}");
    ensure!(error.contains(&format!("{file}:6:")), "file, line and column are not named: {error}");
    let announcement = plain("old").replace(
        "<console type='pty'/>",
        "<interface type='bridge'>\n      <source network='br0'/>\n    </interface>\n    <console type='pty'/>",
    );
    let file = daemon.file("old.xml", &announcement)?;
    let error = daemon.virsh(&["define", &file])?.fails()?;
    ensure!(error.contains("bridge='br0'"), "no help for the announcement's interface: {error}");
    Ok(())
}

fn no_daemon() -> Outcome {
    let mut daemon = Daemon::start()?;
    daemon.stop()?;
    let error = daemon.virsh(&["list"])?.fails()?;
    ensure!(error.starts_with("error: failed to connect to the hypervisor\nerror: "), "{error}");
    ensure!(error.contains("io.berth"), "the socket is not named: {error}");
    Ok(())
}

fn read_only() -> Outcome {
    let daemon = Daemon::start()?;
    daemon.define("ro", &plain("ro"))?;
    ensure!(daemon.ok(&["-r", "list", "--all"])?.contains("ro"), "reading");
    for words in [&["-r", "undefine", "ro"][..], &["-r", "start", "ro"], &["-r", "autostart", "ro"]] {
        let error = daemon.virsh(words)?.fails()?;
        ensure!(error.contains("read only access"), "{words:?}: {error}");
    }
    ensure!(daemon.ok(&["list", "--all"])?.contains("ro"), "it was undefined");
    Ok(())
}

fn globs() -> Outcome {
    let daemon = Daemon::start()?;
    for name in ["web1", "web2", "db1"] {
        daemon.define(name, &plain(name))?;
    }
    let out = daemon.ok(&["autostart", "web*"])?;
    ensure!(out.contains("'web1'") && out.contains("'web2'") && !out.contains("db1"), "{out}");
    let printed = daemon.virsh(&["undefine", "web1", "nosuch", "db1"])?;
    ensure_eq!(printed.status, 1, "one of three is missing");
    ensure_eq!(daemon.ok(&["list", "--all", "--name"])?.trim(), "web2", "the others must be done");
    ensure!(daemon.virsh(&["undefine", "zz*"])?.status == 1, "a pattern that fits nothing");
    Ok(())
}

fn json() -> Outcome {
    let daemon = Daemon::start()?;
    daemon.define("js", &plain("js"))?;
    for words in [
        &["list", "--all"][..],
        &["dominfo", "js"],
        &["domstate", "js"],
        &["nodeinfo"],
        &["version"],
        &["domuuid", "js"],
    ] {
        let mut with = vec!["--json"];
        with.extend_from_slice(words);
        let out = daemon.ok(&with)?;
        serde_json::from_str::<serde_json::Value>(&out).map_err(|e| format!("{words:?}: {e}: {out}"))?;
    }
    let list: serde_json::Value =
        serde_json::from_str(&daemon.ok(&["--json", "list", "--all"])?).map_err(|e| e.to_string())?;
    ensure_eq!(list[0]["name"].as_str(), Some("js"), "the name in JSON");
    ensure_eq!(list[0]["state"].as_str(), Some("shutoff"), "the state in JSON");
    Ok(())
}

fn shell() -> Outcome {
    let daemon = Daemon::start()?;
    daemon.define("sh1", &plain("sh1"))?;
    let mut terminal = Terminal::run(&daemon.command()?)?;
    terminal.expect("virsh-lite # ", 10)?;
    terminal.say("domstate sh\t\r")?;
    terminal.expect("shut off", 10)?;
    terminal.say("nonsense\r")?;
    terminal.expect("unknown command: 'nonsense'", 10)?;
    terminal.say("quit\r")?;
    ensure_eq!(terminal.wait(10)?, 0, "the exit status");
    let printed = daemon.virsh(&["domstate sh1; domid sh1"])?;
    ensure_eq!(printed.out, "shut off\n\n-\n\n".to_owned(), "several commands in one word");
    Ok(())
}

fn completion() -> Outcome {
    let daemon = Daemon::start()?;
    daemon.define("alpha", &plain("alpha"))?;
    let out = daemon.ok(&["complete", "--", "start", "al"])?;
    ensure!(out.lines().any(|l| l.trim() == "alpha"), "{out}");
    // What the host has is not known here, but that no bridge is offered that is none.
    let out = daemon.ok(&["complete", "--", "attach-interface", "alpha", "bridge", ""])?;
    for name in out.lines().map(str::trim) {
        let is_bridge = std::path::Path::new("/sys/class/net").join(name).join("bridge").exists();
        ensure!(is_bridge, "'{name}' is no bridge");
    }
    let out = daemon.ok(&["complete", "--", "autos"])?;
    ensure!(out.lines().any(|l| l.trim() == "autostart"), "{out}");
    Ok(())
}

fn edit() -> Outcome {
    let daemon = Daemon::start()?;
    daemon.define("ed", &plain("ed"))?;
    let edit = |script: &str| -> Result<Printed, String> {
        let editor = daemon.work().join("editor");
        std::fs::write(&editor, format!("#!/bin/sh\n{script}\n")).map_err(|e| e.to_string())?;
        let output = daemon
            .command()?
            .env("EDITOR", format!("sh {}", editor.display()))
            .env_remove("VISUAL")
            .args(["edit", "ed"])
            .output()
            .map_err(|e| e.to_string())?;
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        Ok(Printed {
            status: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        })
    };
    ensure!(edit("true")?.out.contains("Domain 'ed' XML configuration not changed."), "unchanged");
    let changed = edit("sed -i 's/262144/524288/g' \"$1\"")?;
    ensure!(changed.out.contains("Domain 'ed' XML configuration edited."), "{changed:?}");
    ensure!(daemon.ok(&["dumpxml", "ed"])?.contains("524288"), "the change was lost");
    let before = daemon.ok(&["dumpxml", "ed"])?;
    ensure!(edit("echo broken > \"$1\"")?.status == 1, "a broken document");
    ensure_eq!(daemon.ok(&["dumpxml", "ed"])?, before, "the document after a broken edit");
    Ok(())
}

fn events() -> Outcome {
    let daemon = Daemon::start()?;
    let child = daemon
        .command()?
        .args(["event", "--all", "--loop", "--timeout", "3"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    std::thread::sleep(std::time::Duration::from_millis(500));
    daemon.define("ev", &plain("ev"))?;
    daemon.ok(&["undefine", "ev"])?;
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(out.contains("event 'lifecycle' for domain 'ev': Defined Added"), "{out}");
    ensure!(out.contains("event 'lifecycle' for domain 'ev': Undefined Removed"), "{out}");
    ensure!(out.contains("events received: 2"), "{out}");
    Ok(())
}
