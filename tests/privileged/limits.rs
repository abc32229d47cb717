//! Limits: each one met by a workload inside, changed while it runs, refused as a whole, and kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use berth_tests::daemon::{Daemon, domain_xml};
use berth_tests::host::Traces;
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, wait_for};
use serde_json::json;

pub const TESTS: &[Test] = &[
    ("limits::a_memory_hog_is_killed_and_domstate_tells", hog),
    ("limits::whoever_fills_the_memory_the_controller_stays", full),
    ("limits::a_busy_loop_gets_its_quota", quota),
    ("limits::a_quota_and_its_period_change_below_another_quota", nested_quota),
    ("limits::a_container_has_no_veto_of_its_quota", no_veto),
    ("limits::a_fork_bomb_stops", bomb),
    ("limits::dd_meets_its_throttle", throttle),
    ("limits::a_container_gets_its_number_of_cpus", cpus),
    ("limits::processes_have_theirs", processes),
    ("limits::too_little_to_start_is_named", little),
    ("limits::memory_comes_from_nodes_as_the_document_says", policies),
    ("limits::live_changes_are_made_refused_and_kept", live),
    ("limits::its_own_group_says_what_a_container_may_use", said_inside),
    ("limits::devices_are_known_by_what_they_were_at_the_start", devices),
    ("limits::a_partition_is_made_and_removed", partition),
    ("limits::what_the_host_cannot_is_named", missing),
];

const WAIT: &str = "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done";
/// Of linux/capability.h.
const CAP_SYS_RESOURCE: u32 = 24;
const HOST_IDS: &str = "<b:idmap xmlns:b='urn:berth:domain:1' mode='none'/>";

/// Whether the kernel mounts a tmpfs, on which the tests may be, with ids of its own: Linux 6.3.
pub fn maps_tmpfs() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split('.').map_while(|n| n.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(3))
}

/// A document with `inside` before its `<os>` and settings.
fn document(
    daemon: &Daemon,
    name: &str,
    script: &str,
    inside: &str,
    settings: &str,
) -> Result<String, String> {
    let root = daemon.work().join(format!("{name}.root"));
    if !root.exists() {
        daemon.busybox(name)?;
    }
    let ids = if maps_tmpfs() || settings.contains("idmap") { "" } else { HOST_IDS };
    let xml = domain_xml(name, &root, &["/bin/sh", "-c", script], "");
    let settings =
        format!("<metadata><b:settings xmlns:b='urn:berth:domain:1'>{ids}{settings}</b:settings></metadata>");
    let xml = xml.replace("  <os>", &format!("  {settings}{inside}<os>"));
    Ok(if inside.contains("<memory>") { xml.replace("  <memory unit='MiB'>256</memory>\n", "") } else { xml })
}

fn start(daemon: &Daemon, name: &str, script: &str, inside: &str, settings: &str) -> Outcome {
    daemon.define(name, &document(daemon, name, script, inside, settings)?)?;
    daemon.ok(&["start", name]).map(drop)
}

/// A file of the domain's group, by the name that it has in version 1 or else in version 2.
fn file(daemon: &Daemon, name: &str, controller: &str, v1: &str, v2: &str) -> Result<PathBuf, String> {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", daemon.pid_of(name, "initPid")?))
        .map_err(|e| e.to_string())?;
    let (mut old, mut new) = (None, None);
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (number, names, path) = (parts.next(), parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let path = path.trim_start_matches('/').to_owned();
        // The groups inside are the container's own matter.
        let path = path.split_once("/payload").map_or(path.clone(), |(front, _)| front.to_owned());
        if names.split(',').any(|n| n == controller) {
            old = Some(PathBuf::from("/sys/fs/cgroup").join(controller).join(path));
        } else if number == Some("0") {
            let hybrid = PathBuf::from("/sys/fs/cgroup/unified");
            new = Some(if hybrid.exists() { hybrid } else { "/sys/fs/cgroup".into() }.join(path));
        }
    }
    let found = old.map(|group| group.join(v1)).or(new.map(|group| group.join(v2)));
    found.ok_or_else(|| format!("no group in {text}"))
}

fn value(daemon: &Daemon, name: &str, controller: &str, v1: &str, v2: &str) -> Result<String, String> {
    let path = file(daemon, name, controller, v1, v2)?;
    let text = fs::read_to_string(&path).map_err(|e| format!("cannot read '{}': {e}", path.display()))?;
    Ok(text.trim().to_owned())
}

fn memory(daemon: &Daemon, name: &str) -> Result<String, String> {
    value(daemon, name, "memory", "memory.limit_in_bytes", "memory.max")
}

/// The CPUs that init may use.
fn allowed(daemon: &Daemon, name: &str) -> Result<String, String> {
    let path = format!("/proc/{}/status", daemon.pid_of(name, "initPid")?);
    let text = fs::read_to_string(path).map_err(|e| e.to_string())?;
    let line = text.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:"));
    line.map(|l| l.trim().to_owned()).ok_or_else(|| "no line about CPUs".into())
}

fn cpu_time(daemon: &Daemon, name: &str) -> Result<i64, String> {
    let answer = daemon.client()?.call("io.berth.Domain.GetUsage", &json!({ "name": name }))?;
    answer["usage"]["cpuTimeNSec"].as_i64().ok_or_else(|| format!("no time in {answer}"))
}

fn hog() -> Outcome {
    let daemon = Daemon::start()?;
    let script =
        "dd if=/dev/zero of=/dev/null bs=16M count=1 2>/dev/null; exec dd if=/dev/zero of=/dev/null bs=200M";
    let limit = "<memtune><hard_limit unit='MiB'>48</hard_limit><swap_hard_limit unit='MiB'>48</swap_hard_limit></memtune>";
    start(&daemon, "t-hog", script, limit, "")?;
    daemon.wait_state("t-hog", "shut off (crashed)", 30)?;
    ensure_eq!(daemon.status("t-hog")?["lastExit"]["kind"], json!("oom"), "how it ended");
    ensure_eq!(
        daemon.ok(&["domstate", "t-hog", "--reason"])?,
        "shut off (crashed)\n\n".to_owned(),
        "domstate"
    );
    Ok(())
}

/// What fills a tmpfs is no process's: the kernel takes the largest one, and beside a small one that is the controller.
fn full() -> Outcome {
    let daemon = Daemon::start()?;
    let script =
        "while [ ! -e /go ]; do sleep 0.1; done; exec dd if=/dev/zero of=/run/full bs=4k count=16000";
    let limit = "<memtune><hard_limit unit='MiB'>24</hard_limit><swap_hard_limit unit='MiB'>24</swap_hard_limit>\
                 </memtune>";
    // A profile takes long to compile in the virtual machine, and is not what this is about.
    let xml = document(&daemon, "t-full", script, limit, "")?;
    daemon
        .define("t-full", &xml.replace("</devices>", "</devices><seclabel type='none' model='apparmor'/>"))?;
    let go = daemon.work().join("t-full.root/go");
    for round in 0..20 {
        let _ = fs::remove_file(&go);
        daemon.ok(&["start", "t-full"])?;
        let controller = daemon.pid_of("t-full", "id")?;
        if round < 4 {
            // Soon it is in a group of its own, which is in none that is limited.
            let groups = || fs::read_to_string(format!("/proc/{controller}/cgroup")).unwrap_or_default();
            wait_for("the controller to settle", 10, || {
                groups().lines().any(|l| l.starts_with("0::") && l.ends_with("/controller")).then_some(())
            })?;
            ensure!(!groups().contains("/container"), "{}", groups());
        }
        fs::write(&go, "").map_err(|e| e.to_string())?;
        daemon.wait_state("t-full", "shut off (crashed)", 30)?;
        // With the controller gone nobody would know that.
        ensure_eq!(daemon.status("t-full")?["lastExit"]["kind"], json!("oom"), "end {round}");
    }
    Ok(())
}

fn quota() -> Outcome {
    let daemon = Daemon::start()?;
    start(&daemon, "t-quota", "while :; do :; done", "", "<b:limits cpu-allowance='50%'/>")?;
    let stat = file(&daemon, "t-quota", "cpu", "cpu.stat", "cpu.stat")?;
    let counter = |name: &str| -> Result<f64, String> {
        let text = fs::read_to_string(&stat).map_err(|e| e.to_string())?;
        let found = text.lines().find_map(|l| l.strip_prefix(name)?.trim().parse().ok());
        found.ok_or_else(|| format!("no {name} in {text}"))
    };
    let measure = |share: f64| -> Outcome {
        std::thread::sleep(Duration::from_millis(300));
        let before =
            (cpu_time(&daemon, "t-quota")?, Instant::now(), counter("nr_periods")?, counter("nr_throttled")?);
        std::thread::sleep(Duration::from_secs(6));
        let used = (cpu_time(&daemon, "t-quota")? - before.0) as f64 / before.1.elapsed().as_nanos() as f64;
        let throttled = (counter("nr_throttled")? - before.3) / (counter("nr_periods")? - before.2).max(1.0);
        println!("share {share}: used {used:.4}, throttled in {:.0} % of the periods", throttled * 100.0);
        ensure!(used <= share * 1.05, "used {used} of {share}");
        // On a machine that others keep busy it is the machine that gives less, not the limit.
        ensure!(used >= share * 0.95 || throttled < 0.95, "used only {used} of {share}");
        // What the container's own group says is not what stops it: that would be missing in the figures.
        let own = fs::read_to_string(stat.with_file_name("payload").join("cpu.stat")).unwrap_or_default();
        let own: f64 = own.lines().find_map(|l| l.strip_prefix("nr_throttled ")?.parse().ok()).unwrap_or(0.0);
        println!("throttled in its own group {own} times, of {}", counter("nr_throttled")?);
        ensure!(own <= counter("nr_throttled")? * 0.2 + 2.0, "throttled {own} times in its own group");
        Ok(())
    };
    measure(0.5)?;
    let shown = daemon.ok(&["schedinfo", "t-quota"])?;
    ensure!(shown.contains("vcpu_quota     : 50000\n"), "{shown}");
    let refused = daemon.virsh(&["schedinfo", "t-quota", "--set", "vcpu_quota=30000"])?.fails()?;
    ensure!(refused.contains("exclude each other"), "{refused}");
    ensure!(refused.contains("'limits --cpu-allowance none'"), "{refused}");
    daemon.ok(&["limits", "t-quota", "--cpu-allowance", "30%"])?;
    measure(0.3)?;
    daemon.ok(&["limits", "t-quota", "--cpu-allowance", "none"])?;
    let shown = daemon.ok(&["schedinfo", "t-quota"])?;
    ensure!(shown.contains("vcpu_quota     : -1\n"), "{shown}");
    daemon.ok(&["destroy", "t-quota"])?;
    start(&daemon, "t-quota", "while :; do :; done", "<cputune><quota>80000</quota></cputune>", "")?;
    let shown = daemon.ok(&[
        "schedinfo",
        "t-quota",
        "--live",
        "--set",
        "vcpu_period=50000",
        "--set",
        "vcpu_quota=15000",
    ])?;
    ensure!(shown.contains("vcpu_quota     : 15000\n"), "{shown}");
    let stat = file(&daemon, "t-quota", "cpu", "cpu.cfs_quota_us", "cpu.max")?;
    let text = fs::read_to_string(stat).map_err(|e| e.to_string())?;
    ensure!(text.starts_with("15000"), "the quota: {text}");
    let before = (cpu_time(&daemon, "t-quota")?, Instant::now());
    std::thread::sleep(Duration::from_secs(5));
    let used = (cpu_time(&daemon, "t-quota")? - before.0) as f64 / before.1.elapsed().as_nanos() as f64;
    ensure!(used <= 0.3 * 1.05, "used {used} of 0.3");
    daemon.ok(&["destroy", "t-quota"]).map(drop)
}

/// The kernel of version 1 refuses, at each single write, more than the groups above have and less than those below.
fn nested_quota() -> Outcome {
    let daemon = Daemon::start()?;
    let name = "t-nestq";
    let inside = "<resource><partition>/machine/t-nestq</partition></resource>\
                  <cputune><period>100000</period><quota>150000</quota></cputune>";
    start(&daemon, name, WAIT, inside, "")?;
    let max = file(&daemon, name, "cpu", "cpu.cfs_quota_us", "cpu.max")?;
    let v1 = max.ends_with("cpu.cfs_quota_us");
    let own = max.parent().ok_or("no group")?.to_owned();
    let above = own.parent().ok_or("no partition")?.to_owned();
    let limit = |group: &Path, quota: u32, period: u32| {
        let (file, text) = if v1 {
            ("cpu.cfs_quota_us", quota.to_string())
        } else {
            ("cpu.max", format!("{quota} {period}"))
        };
        if v1 {
            fs::write(group.join("cpu.cfs_period_us"), period.to_string()).map_err(|e| e.to_string())?;
        }
        fs::write(group.join(file), text).map_err(|e| format!("{}: {e}", group.display()))
    };
    let now = || {
        let read = |file: &str| fs::read_to_string(own.join(file)).unwrap_or_default().trim().to_owned();
        if v1 {
            format!("{} {}", read("cpu.cfs_quota_us"), read("cpu.cfs_period_us"))
        } else {
            read("cpu.max")
        }
    };
    limit(&above, 200_000, 100_000)?;
    let set = |quota: i64, period: u64| {
        let words = format!("vcpu_period={period} vcpu_quota={quota}");
        daemon.ok(&["schedinfo", name, "--set", &words])?;
        let quota = if quota < 0 && !v1 { "max".to_owned() } else { quota.to_string() };
        ensure_eq!(now(), format!("{quota} {period}"), "the quota and the period");
        Ok::<(), String>(())
    };
    for (quota, period) in
        [(15_000, 10_000), (150_000, 100_000), (-1, 20_000), (30_000, 15_000), (-1, 100_000), (2000, 1000)]
    {
        set(quota, period)?;
    }
    // With a group of the container that has nearly as much, neither can be written first.
    set(150_000, 100_000)?;
    let below = fs::read_dir(&own).map_err(|e| e.to_string())?.flatten();
    let below =
        below.map(|e| e.path()).find(|p| p.is_dir() && p.join(max.file_name().unwrap_or_default()).exists());
    if let Some(group) = below {
        // The container's own may save up as much as its quota, and no more.
        let burst = group.join("cpu.max.burst");
        if burst.exists() {
            fs::write(&burst, "0").map_err(|e| format!("{}: {e}", burst.display()))?;
        }
        limit(&group, 140_000, 100_000)?;
        set(15_000, 10_000)?;
        set(150_000, 100_000)?;
    }
    if v1 {
        // More than the partition has is refused, and nothing is left of the attempt.
        let refused =
            daemon.virsh(&["schedinfo", name, "--set", "vcpu_period=10000 vcpu_quota=50000"])?.fails()?;
        ensure!(refused.contains("cannot set <cputune/quota>: write '50000' to '"), "{refused}");
        let who =
            format!("the group above, '{}', has only 200000 of each 100000 microseconds", above.display());
        ensure!(refused.contains(&who), "{refused}");
        ensure_eq!(now(), "150000 100000".to_owned(), "the quota and the period after a refusal");
    }
    daemon.ok(&["destroy", name]).map(drop)
}

/// Root with the host's ids mounts the hierarchy of version 1 from its own group on, gives itself more than it gets, and
/// goes on doing so.
fn no_veto() -> Outcome {
    const SCRIPT: &str = "mkdir -p /tmp/m; mount -t cgroup -o cpu none /tmp/m || { touch /none; exec sleep 100000; }; \
        cd /tmp/m; n=0; while [ $n -lt 300 ]; do mkdir k$n; echo 300000 > k$n/cpu.cfs_quota_us; n=$((n+1)); done; \
        mkdir -p k0/a/b; echo 300000 > k0/a/b/cpu.cfs_quota_us; echo 10000 > k1/cpu.cfs_quota_us; touch /ready; \
        while [ ! -e /go ]; do sleep 0.1; done; touch /going; \
        while :; do for k in k7 k8 k9; do echo 300000 > $k/cpu.cfs_quota_us; done 2>/dev/null; done";
    let mut daemon = Daemon::start()?;
    let name = "t-veto";
    let limit = "<cputune><quota>400000</quota></cputune>";
    start(&daemon, name, SCRIPT, limit, HOST_IDS)?;
    let root = daemon.work().join(format!("{name}.root"));
    let made = wait_for("the groups inside", 20, || {
        let there = |file: &str| root.join(file).exists();
        (there("ready") || there("none")).then(|| there("ready"))
    })?;
    let quota_file = file(&daemon, name, "cpu", "cpu.cfs_quota_us", "cpu.max")?;
    if !made || !quota_file.ends_with("cpu.cfs_quota_us") {
        println!("the host has no controller 'cpu' of version 1");
        return Ok(());
    }
    let own = quota_file.parent().ok_or("no group")?;
    let inside = |group: &str| {
        let path = own.join("payload").join(group).join("cpu.cfs_quota_us");
        fs::read_to_string(path).unwrap_or_default().trim().to_owned()
    };
    let now = || fs::read_to_string(&quota_file).unwrap_or_default().trim().to_owned();
    // A change that is refused in the end leaves what the container had.
    let change = json!({ "name": name, "change": { "cpuQuota": 200_000, "nodeset": "99" } });
    let answer = daemon.client()?.call("io.berth.Domain.SetResources", &change);
    ensure!(answer.is_err(), "a node that is not there: {answer:?}");
    ensure_eq!((now(), inside("k0/a/b")), ("400000".to_owned(), "300000".to_owned()), "after a refusal");
    daemon.ok(&["schedinfo", name, "--live", "vcpu_quota=200000"])?;
    ensure_eq!(now(), "200000".to_owned(), "the quota");
    ensure_eq!([inside("k0/a/b"), inside("k1")], ["-1", "10000"].map(str::to_owned), "the groups inside");
    // Again, while somebody inside gives itself more at every moment.
    daemon.ok(&["schedinfo", name, "--live", "vcpu_quota=400000"])?;
    fs::write(root.join("go"), "").map_err(|e| e.to_string())?;
    wait_for("somebody who goes on", 10, || root.join("going").exists().then_some(()))?;
    wait_for("its quota", 10, || (inside("k7") == "300000").then_some(()))?;
    let begin = Instant::now();
    for quota in ["50000", "400000", "60000"] {
        daemon.ok(&["schedinfo", name, "--live", &format!("vcpu_quota={quota}")])?;
        ensure_eq!(now(), quota.to_owned(), "the quota");
    }
    println!("three changes against a container that fights took {:?}", begin.elapsed());
    ensure_eq!(daemon.ok(&["domstate", name])?, "running\n\n".to_owned(), "the state");
    // A daemon that is killed while it holds a container still, in the middle of a change, suspends nothing.
    daemon.ok(&["schedinfo", name, "--live", "vcpu_quota=400000"])?;
    let held = limited(&daemon, name)?.join("cgroup.freeze");
    daemon.set_environment(&[("BERTH_KILL_AT", "daemon:tuned")]);
    daemon.restart()?;
    daemon.virsh(&["schedinfo", name, "--live", "vcpu_quota=70000"])?.fails()?;
    daemon.wait_dead(10)?;
    fs::write(&held, "1").map_err(|e| e.to_string())?;
    daemon.set_environment(&[]);
    daemon.launch()?;
    ensure_eq!(daemon.ok(&["domstate", name])?, "running\n\n".to_owned(), "the state after the restart");
    let frozen = fs::read_to_string(&held).unwrap_or_default();
    ensure_eq!(frozen.trim(), "0", "cgroup.freeze");
    // The document says what it was before: the change had not come to it.
    ensure_eq!(now(), "400000".to_owned(), "the quota after the restart");
    daemon.ok(&["destroy", name]).map(drop)
}

/// The domain's group in the v2 tree that has the limits.
pub fn limited(daemon: &Daemon, name: &str) -> Result<PathBuf, String> {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", daemon.pid_of(name, "initPid")?))
        .map_err(|e| e.to_string())?;
    let path =
        text.lines().find_map(|l| l.strip_prefix("0::/")?.split_once("/payload")).map(|(path, _)| path);
    let hybrid = PathBuf::from("/sys/fs/cgroup/unified");
    let top = if hybrid.exists() { hybrid } else { "/sys/fs/cgroup".into() };
    path.map(|path| top.join(path)).ok_or_else(|| format!("no group of the v2 tree in {text}"))
}

fn bomb() -> Outcome {
    let daemon = Daemon::start()?;
    let script = "sh -c 'n=0; while [ $n -lt 200 ]; do sleep 1000 & n=$((n+1)); done'; touch /over; \
                  while :; do sleep 1000; done";
    start(&daemon, "t-bomb", script, "", "<b:limits pids='30'/>")?;
    let over = daemon.work().join("t-bomb.root/over");
    wait_for("the end of the bomb", 20, || over.exists().then_some(()))?;
    ensure_eq!(value(&daemon, "t-bomb", "pids", "pids.max", "pids.max")?, "30".to_owned(), "the limit");
    let number = value(&daemon, "t-bomb", "pids", "pids.current", "pids.current")?;
    let number: u32 = number.parse().map_err(|e| format!("{number}: {e}"))?;
    ensure!((25..=30).contains(&number), "{number} processes");
    daemon.ok(&["destroy", "t-bomb"]).map(drop)
}

/// The block device of a file, with its path: the whole disk if it is on a partition.
fn disk_of(path: &std::path::Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let device = fs::metadata(path).ok()?.dev();
    let number = format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let mut sysfs = fs::canonicalize(format!("/sys/dev/block/{number}")).ok()?;
    if sysfs.join("partition").exists() {
        sysfs.pop();
    }
    let node = format!("/dev/{}", sysfs.file_name()?.to_str()?);
    fs::metadata(&node).is_ok().then_some(node)
}

fn throttle() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-dd")?;
    let Some(disk) = disk_of(&root) else {
        println!("the folder of the test is on no block device: nothing was limited");
        return Ok(());
    };
    fs::write(root.join("data"), vec![7; 12 << 20]).map_err(|e| e.to_string())?;
    nix::unistd::sync();
    let limit = format!(
        "<blkiotune><device><path>{disk}</path><read_bytes_sec>2097152</read_bytes_sec></device></blkiotune>"
    );
    let script = "while [ ! -e /go ]; do sleep 0.1; done; dd if=/data of=/dev/null bs=256k iflag=direct 2>/err; \
                  touch /done; sleep 1000";
    start(&daemon, "t-dd", script, &limit, "")?;
    let shown = daemon.ok(&["blkiotune", "t-dd"])?;
    ensure!(shown.contains(&format!("device_read_bytes_sec: {disk},2097152\n")), "{shown}");
    let begin = Instant::now();
    fs::write(root.join("go"), "").map_err(|e| e.to_string())?;
    wait_for("the end of dd", 60, || root.join("done").exists().then_some(()))?;
    let took = begin.elapsed().as_secs_f64();
    let said = fs::read_to_string(root.join("err")).unwrap_or_default();
    ensure!(said.contains("48+0 records in"), "dd said: {said}");
    // 12 MiB at 2 MiB in each second; the first moment is free.
    println!("12 MiB took {took:.2} s");
    ensure!((5.0..12.0).contains(&took), "it took {took} s");
    daemon.ok(&["blkiotune", "t-dd", "--live", "--device-read-bytes-sec", &format!("{disk},0")])?;
    let left = value(&daemon, "t-dd", "blkio", "blkio.throttle.read_bps_device", "io.max")?;
    ensure_eq!(left, String::new(), "the limits that are left");
    daemon.ok(&["destroy", "t-dd"]).map(drop)
}

fn cpus() -> Outcome {
    let daemon = Daemon::start()?;
    let all =
        fs::read_to_string("/sys/devices/system/cpu/online").map_err(|e| e.to_string())?.trim().to_owned();
    for (name, ids) in [("t-cpu", ""), ("t-cpuhost", HOST_IDS)] {
        start(&daemon, name, WAIT, "", ids)?;
        ensure_eq!(allowed(&daemon, name)?, all, "the CPUs of a document that says nothing");
        daemon.ok(&["destroy", name])?;
        start(&daemon, name, WAIT, "<vcpu>1</vcpu>", ids)?;
        start(&daemon, "t-other", WAIT, "<vcpu>1</vcpu>", ids)?;
        let (one, other) = (allowed(&daemon, name)?, allowed(&daemon, "t-other")?);
        ensure!(
            one.parse::<u32>().is_ok() && other.parse::<u32>().is_ok(),
            "one CPU each: {one} and {other}"
        );
        ensure!(one != other || all == "0", "both have the CPU {one}");
        daemon.ok(&["destroy", "t-other"])?;
        daemon.ok(&["destroy", name])?;
        if all == "0" {
            continue;
        }
        start(&daemon, name, WAIT, "<vcpu>2</vcpu>", ids)?;
        daemon.ok(&["setvcpus", name, "1"])?;
        ensure!(allowed(&daemon, name)?.parse::<u32>().is_ok(), "one CPU: {}", allowed(&daemon, name)?);
        daemon.ok(&["vcpupin", name, "0", "1"])?;
        ensure_eq!(allowed(&daemon, name)?, "1".to_owned(), "the CPU");
        daemon.ok(&["vcpupin", name, "0", "0"])?;
        ensure_eq!(allowed(&daemon, name)?, "0".to_owned(), "the CPU");
        let refused = daemon.virsh(&["vcpupin", name, "0", "4000"])?.fails()?;
        ensure!(
            refused.contains("cannot set <vcpu>") && refused.contains("the host has the CPUs"),
            "{refused}"
        );
        let set = file(&daemon, name, "cpuset", "cpuset.cpus", "cpuset.cpus")?;
        ensure!(refused.contains(&format!("write '4000' to '{}'", set.display())), "{refused}");
        ensure_eq!(allowed(&daemon, name)?, "0".to_owned(), "the CPU after a refusal");
        daemon.ok(&["vcpupin", name, "0", "r"])?;
        daemon.ok(&["setvcpus", name, "2", "--live"])?;
        let now = allowed(&daemon, name)?;
        ensure_eq!(now.split([',', '-']).count(), 2, "the number of CPUs");
        daemon.ok(&["destroy", name])?;
    }
    Ok(())
}

fn processes() -> Outcome {
    let daemon = Daemon::start()?;
    for (name, ids) in [("t-rl", ""), ("t-rlhost", HOST_IDS)] {
        let settings = format!(
            "{ids}<b:limits oom-score='500'/><b:rlimit name='nofile' soft='100' hard='200'/><b:rlimit name='core' hard='0'/>"
        );
        start(&daemon, name, WAIT, "", &settings)?;
        let pid = daemon.pid_of(name, "initPid")?;
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).map_err(|e| e.to_string())?;
        let row = |what: &str| {
            limits
                .lines()
                .find(|l| l.starts_with(what))
                .unwrap_or("")
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        };
        ensure_eq!(row("Max open files"), "Max open files 100 200 files".to_owned(), "open files");
        ensure_eq!(row("Max core file size"), "Max core file size 0 0 bytes".to_owned(), "core files");
        let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).map_err(|e| e.to_string())?;
        ensure_eq!(score.trim(), "500", "the score");
        daemon.ok(&["destroy", name])?;
    }
    Ok(())
}

/// The errors that a document's limits of processes can lead to name them.
fn little() -> Outcome {
    let daemon = Daemon::start()?;
    // One process is enough where no other one has to hold the ids meanwhile.
    start(&daemon, "t-one", WAIT, "", &format!("{HOST_IDS}<b:limits pids='1'/>"))?;
    daemon.ok(&["destroy", "t-one"])?;
    if maps_tmpfs() {
        daemon.define("t-one", &document(&daemon, "t-one", WAIT, "", "<b:limits pids='1'/>")?)?;
        let error = daemon.virsh(&["start", "t-one"])?.fails()?;
        let why = "step 'limits': cannot set <berth:limits pids>: a container with ids of its own needs 2 to start, and it \
                   may have 1";
        ensure!(error.contains(why), "{error}");
        start(&daemon, "t-one", WAIT, "", "<b:limits pids='2'/>")?;
        // What runs goes on.
        daemon.ok(&["limits", "t-one", "--pids", "1", "--live"])?;
        daemon.ok(&["destroy", "t-one"])?;
    }
    let status = fs::read_to_string("/proc/self/status").map_err(|e| e.to_string())?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or_default();
    let effective = u64::from_str_radix(effective.trim(), 16).map_err(|e| e.to_string())?;
    if effective & (1 << CAP_SYS_RESOURCE) != 0 {
        println!("we may lower scores");
        return Ok(());
    }
    daemon.define("t-one", &document(&daemon, "t-one", WAIT, "", "<b:limits oom-score='-1000'/>")?)?;
    let error = daemon.virsh(&["start", "t-one"])?.fails()?;
    ensure!(error.contains("step 'limits': cannot write <berth:limits oom-score> to '/proc/"), "{error}");
    ensure!(error.contains("that needs CAP_SYS_RESOURCE"), "{error}");
    let limit = "<b:rlimit name='nproc' hard='unlimited'/>";
    let ours = fs::read_to_string("/proc/self/limits").map_err(|e| e.to_string())?;
    if ours.lines().any(|line| line.starts_with("Max processes") && line.matches("unlimited").count() < 2) {
        daemon.define("t-one", &document(&daemon, "t-one", WAIT, "", limit)?)?;
        let error = daemon.virsh(&["start", "t-one"])?.fails()?;
        ensure!(error.contains("cannot raise the hard limit 'nproc'"), "{error}");
        ensure!(error.contains("that needs CAP_SYS_RESOURCE"), "{error}");
    }
    Ok(())
}

fn policies() -> Outcome {
    if !Path::new("/proc/self/numa_maps").exists() {
        println!("a kernel without CONFIG_NUMA has no policies");
        return Ok(());
    }
    let daemon = Daemon::start()?;
    for (name, mode, seen) in [
        ("t-npr", "preferred", "prefer"),
        ("t-nin", "interleave", "interleave"),
        ("t-nst", "strict", "default"),
    ] {
        let inside = format!("<numatune><memory mode='{mode}' nodeset='0'/></numatune>");
        start(&daemon, name, WAIT, &inside, "")?;
        let pid = daemon.pid_of(name, "initPid")?;
        let maps = fs::read_to_string(format!("/proc/{pid}/numa_maps")).map_err(|e| e.to_string())?;
        ensure!(!maps.is_empty(), "no memory");
        for line in maps.lines() {
            // Of shared memory of the kernel it says "default" whatever the policy.
            let policy = line.split_whitespace().nth(1).unwrap_or_default();
            let fits = policy.starts_with(seen) || line.contains("[vvar") || line.contains("[vdso");
            ensure!(fits, "{mode}: '{line}'");
        }
        daemon.ok(&["destroy", name])?;
    }
    let absent = document(
        &daemon,
        "t-nno",
        WAIT,
        "<numatune><memory mode='interleave' nodeset='0,1023'/></numatune>",
        "",
    )?;
    daemon.define("t-nno", &absent)?;
    let nodes = Path::new("/sys/devices/system/node/node1023").exists();
    ensure!(!nodes, "this host has a thousand nodes");
    // The kernel would leave it out, and nobody would know. Which node memory comes from is said in either case.
    let there = fs::read_to_string("/sys/devices/system/node/has_memory").map_err(|e| e.to_string())?;
    let there = format!(
        "the host or the control group has no such node as 1023, there are the nodes {}",
        there.trim()
    );
    let error = daemon.virsh(&["start", "t-nno"])?.fails()?;
    ensure!(error.contains("set the memory policy for the nodes '0,1023' of <numatune>"), "{error}");
    ensure!(error.contains(&there), "{error}");
    let strict = "<numatune><memory mode='strict' nodeset='0,1023'/></numatune>";
    daemon.define("t-nno", &document(&daemon, "t-nno", WAIT, strict, "")?)?;
    let error = daemon.virsh(&["start", "t-nno"])?.fails()?;
    ensure!(error.contains("cannot set <numatune>: write '0,1023' to '/sys/fs/cgroup"), "{error}");
    ensure!(error.contains(&there), "{error}");
    start(&daemon, "t-nno", WAIT, "<numatune><memory mode='strict' nodeset='0'/></numatune>", "")?;
    let error = daemon.virsh(&["numatune", "t-nno", "--nodeset", "0,1023", "--live"])?.fails()?;
    ensure!(error.contains("cannot set <numatune>: write '0,1023' to") && error.contains(&there), "{error}");
    ensure!(daemon.ok(&["numatune", "t-nno", "--live"])?.contains("numa_nodeset   : 0\n"), "the nodes");
    daemon.ok(&["destroy", "t-nno"])?;
    let only = document(
        &daemon,
        "t-nnone",
        WAIT,
        "<numatune><memory mode='preferred' nodeset='1023'/></numatune>",
        "",
    )?;
    daemon.define("t-nnone", &only)?;
    let error = daemon.virsh(&["start", "t-nnone"])?.fails()?;
    ensure!(error.contains("set the memory policy for the nodes '1023'"), "{error}");
    ensure!(error.contains("the host or the control group has no such node"), "{error}");
    Ok(())
}

fn live() -> Outcome {
    let mut daemon = Daemon::start()?;
    // What is in a tmpfs cannot be taken back, and with that limit not swapped out either.
    let script = format!(
        "mkdir -p /run/t && dd if=/dev/zero of=/run/t/x bs=1M count=40 2>/dev/null; touch /ready; {WAIT}"
    );
    let limit = "<memtune><swap_hard_limit unit='MiB'>256</swap_hard_limit></memtune>";
    start(&daemon, "t-live", &script, limit, "")?;
    let ready = daemon.work().join("t-live.root/ready");
    wait_for("the memory to be used", 20, || ready.exists().then_some(()))?;
    daemon.ok(&["setmem", "t-live", "128M"])?;
    ensure_eq!(memory(&daemon, "t-live")?, (128 << 20).to_string(), "the limit");
    let documents = |daemon: &Daemon| {
        Ok::<_, String>((
            daemon.ok(&["dumpxml", "t-live"])?,
            daemon.ok(&["dumpxml", "t-live", "--inactive"])?,
        ))
    };
    let before = documents(&daemon)?;
    ensure!(before.0.contains("<currentMemory unit='KiB'>131072</currentMemory>"), "{}", before.0);
    ensure!(before.1.contains("<currentMemory unit='KiB'>262144</currentMemory>"), "{}", before.1);
    daemon.ok(&["memtune", "t-live", "--swap-hard-limit", "128M"])?;
    daemon.ok(&["schedinfo", "t-live", "--set", "cpu_shares=512"])?;
    let before = documents(&daemon)?;
    let refused = daemon.virsh(&["setmem", "t-live", "16M", "--live", "--config"])?.fails()?;
    ensure!(refused.contains("cannot set <memory>: write '16777216' to '/"), "{refused}");
    ensure!(refused.contains("busy"), "{refused}");
    ensure_eq!(memory(&daemon, "t-live")?, (128 << 20).to_string(), "the limit after a refusal");
    ensure_eq!(documents(&daemon)?, before, "the documents after a refusal");
    let above = daemon.virsh(&["setmem", "t-live", "257M"])?.fails()?;
    ensure!(above.contains("cannot set memory higher than max memory"), "{above}");
    // Of several changes the first was made before the second was refused.
    let change = json!({ "name": "t-live", "change": { "pids": 77, "cpuShares": 300, "nodeset": "99" } });
    let answer = daemon.client()?.call("io.berth.Domain.SetResources", &change);
    ensure!(answer.is_err(), "a node that is not there: {answer:?}");
    ensure_eq!(
        value(&daemon, "t-live", "cpu", "cpu.shares", "cpu.weight")?.as_str() == "512"
            || value(&daemon, "t-live", "cpu", "cpu.shares", "cpu.weight")?.as_str() == "50",
        true,
        "the share"
    );
    ensure_eq!(value(&daemon, "t-live", "pids", "pids.max", "pids.max")?, "max".to_owned(), "the processes");
    ensure_eq!(documents(&daemon)?, before, "the documents after a refusal");
    daemon.restart()?;
    ensure_eq!(documents(&daemon)?, before, "the documents of the next daemon");
    ensure_eq!(memory(&daemon, "t-live")?, (128 << 20).to_string(), "the limit under the next daemon");
    let refused = daemon.virsh(&["setmem", "t-live", "200M"])?.fails()?;
    ensure!(refused.contains("must be lower than or equal to swap_hard_limit"), "{refused}");
    // The kernel takes them in one order only: the larger one first when they grow, the smaller one when they shrink.
    for size in ["200M", "150M"] {
        let change = ["memtune", "t-live", "--hard-limit", size, "--swap-hard-limit", size];
        daemon.ok(&change)?;
        let shown = daemon.ok(&["memtune", "t-live"])?;
        let kib = size.trim_end_matches('M').parse::<u64>().unwrap_or(0) * 1024;
        let expected =
            format!("hard_limit     : {kib}\nsoft_limit     : unlimited\nswap_hard_limit: {kib}\n\n");
        ensure_eq!(shown, expected, "memtune");
        ensure_eq!(memory(&daemon, "t-live")?, (kib * 1024).to_string(), "the limit");
    }
    let refused = daemon.virsh(&["setmem", "t-live", "100M"])?.fails()?;
    ensure!(refused.contains("the domain has a hard limit of memory"), "{refused}");
    daemon.ok(&["destroy", "t-live"])?;
    daemon.ok(&["setmem", "t-live", "100M", "--config"])?;
    daemon.ok(&["start", "t-live"])?;
    ensure_eq!(memory(&daemon, "t-live")?, (100 << 20).to_string(), "the limit of the next start");
    daemon.ok(&["destroy", "t-live"]).map(drop)
}

/// What a program inside reads in the topmost group that it sees, as a JVM does. With controllers of version 1 there is no
/// such file: inside, only the v2 tree is mounted.
fn said_inside() -> Outcome {
    for ids in ["", HOST_IDS].into_iter().skip(usize::from(!maps_tmpfs())) {
        let mut daemon = Daemon::start()?;
        let script = format!(
            "if [ -e /go ]; then touch /back; {WAIT}; fi; while [ ! -e /go ]; do sleep 0.1; done; reboot -f"
        );
        let inside = "<currentMemory unit='MiB'>96</currentMemory>\
                      <memtune><swap_hard_limit unit='MiB'>128</swap_hard_limit></memtune>";
        start(&daemon, "t-own", &script, inside, &format!("{ids}<b:limits cpu-allowance='50%'/>"))?;
        let of = |daemon: &Daemon, controller: &str, file_name: &str| {
            let limit = file(daemon, "t-own", controller, "cgroup.procs", file_name)?;
            let own = format!("/proc/{}/root/sys/fs/cgroup/{file_name}", daemon.pid_of("t-own", "initPid")?);
            let v2 = limit.ends_with(file_name);
            let own = fs::read_to_string(own).ok();
            // A kernel may do without counting swap.
            ensure_eq!(own.is_some(), v2 && limit.exists(), "whether {file_name} is there");
            Ok::<_, String>(own.map(|text| text.trim().to_owned()))
        };
        let says = |daemon: &Daemon, when: &str, memory: u64, swap: &str, cpu: &str| -> Outcome {
            let expected = [("memory", "memory.max", (memory << 20).to_string())]
                .into_iter()
                .chain([("memory", "memory.swap.max", swap.to_owned()), ("cpu", "cpu.max", cpu.to_owned())]);
            for (controller, file_name, wanted) in expected {
                if let Some(said) = of(daemon, controller, file_name)? {
                    ensure_eq!(said, wanted, "{file_name} {when} with '{ids}'");
                }
            }
            Ok(())
        };
        let swap = |mib: u64| (mib << 20).to_string();
        says(&daemon, "at the start", 96, &swap(32), "50000 100000")?;
        daemon.ok(&["setmem", "t-own", "80M"])?;
        daemon.ok(&["limits", "t-own", "--cpu-allowance", "150%"])?;
        says(&daemon, "after a change", 80, &swap(48), "150000 100000")?;
        // Root with the host's ids can write its own; what counts is not there, and it is in the way of nothing.
        let own = file(&daemon, "t-own", "memory", "payload/none", "payload/memory.max")?;
        if own.ends_with("memory.max") {
            fs::write(&own, "max").map_err(|e| e.to_string())?;
            ensure_eq!(memory(&daemon, "t-own")?, (80 << 20).to_string(), "the limit itself");
            daemon.restart()?;
            says(&daemon, "after a restart of the daemon", 80, &swap(48), "150000 100000")?;
        }
        let root = daemon.work().join("t-own.root");
        fs::write(root.join("go"), "").map_err(|e| e.to_string())?;
        wait_for("the reboot", 20, || root.join("back").exists().then_some(()))?;
        daemon.wait_state("t-own", "running (rebooted)", 10)?;
        says(&daemon, "after a reboot", 80, &swap(48), "150000 100000")?;
        // Of two changes the first was made before the second was refused.
        let change = json!({ "name": "t-own", "change": { "memoryKiB": 65536, "nodeset": "99" } });
        let answer = daemon.client()?.call("io.berth.Domain.SetResources", &change);
        ensure!(answer.is_err(), "a node that is not there: {answer:?}");
        says(&daemon, "after a refusal", 80, &swap(48), "150000 100000")?;
        daemon.ok(&["memtune", "t-own", "--hard-limit", "64M", "--swap-hard-limit", "-1"])?;
        daemon.ok(&["limits", "t-own", "--cpu-allowance", "none"])?;
        says(&daemon, "without limits", 64, "max", "max 100000")?;
        daemon.ok(&["destroy", "t-own"])?;
    }
    Ok(())
}

/// Two block devices of the host whose requests a control group can limit. None where it has not so many.
fn disks() -> Option<[(String, String); 2]> {
    let entries = fs::read_dir("/sys/block").ok()?.flatten();
    let mut all: Vec<(String, String)> = entries
        .filter_map(|e| {
            let path = format!("/dev/{}", e.file_name().to_str()?);
            let number = fs::read_to_string(e.path().join("dev")).ok()?.trim().to_owned();
            fs::metadata(&path).is_ok().then_some((path, number))
        })
        .collect();
    all.sort_unstable();
    all.dedup();
    all.truncate(2);
    all.try_into().ok()
}

fn devices() -> Outcome {
    let mut daemon = Daemon::start()?;
    let Some([(first, number), (second, other)]) = disks() else {
        println!("the host has less than two block devices: nothing was limited");
        return Ok(());
    };
    let name = "t-dev";
    let link = |path: &Path, to: &str| std::os::unix::fs::symlink(to, path).map_err(|e| e.to_string());
    let gone = daemon.work().join("disk");
    let shown = gone.display().to_string();
    let entry = |path: &str, n: u32| {
        format!("<device><path>{path}</path><read_bytes_sec>{n}</read_bytes_sec></device>")
    };
    // Both names of one device at once would leave one entry without effect.
    link(&gone, &first)?;
    let twice = format!("<blkiotune>{}{}</blkiotune>", entry(&first, 1000), entry(&shown, 2000));
    daemon.define(name, &document(&daemon, name, WAIT, &twice, "")?)?;
    let refused = daemon.virsh(&["start", name])?.fails()?;
    ensure!(refused.contains("<blkiotune> has two entries for the device"), "{refused}");
    let limit = format!("<blkiotune>{}</blkiotune>", entry(&shown, 3000));
    start(&daemon, name, WAIT, &limit, "")?;
    let refused = daemon.virsh(&["blkiotune", name, "--device-read-bytes-sec", &format!("{first},1000")])?;
    ensure!(refused.fails()?.contains("<blkiotune> has two entries for the device"), "a second entry");
    let read = |daemon: &Daemon| value(daemon, name, "blkio", "blkio.throttle.read_bps_device", "io.max");
    let write = |daemon: &Daemon| value(daemon, name, "blkio", "blkio.throttle.write_bps_device", "io.max");
    let has = |text: &str, number: &str, n: u32| {
        text.lines().any(|l| l.starts_with(&format!("{number} ")) && l.contains(&n.to_string()))
    };
    ensure!(has(&read(&daemon)?, &number, 3000), "{}", read(&daemon)?);

    // The limit is taken away by the other name of the device, in both definitions.
    let zero = format!("{first},0");
    daemon.ok(&["blkiotune", name, "--live", "--config", "--device-read-bytes-sec", &zero])?;
    ensure!(!read(&daemon)?.contains(&format!("{number} ")), "{}", read(&daemon)?);
    for which in ["--live", "--config"] {
        let left = daemon.ok(&["blkiotune", name, which])?;
        ensure!(left.contains("device_read_bytes_sec: \n"), "{which}: {left}");
    }
    daemon.ok(&["blkiotune", name, "--live", "--device-read-bytes-sec", &format!("{shown},3000")])?;
    ensure!(has(&read(&daemon)?, &number, 3000), "{}", read(&daemon)?);

    fs::remove_file(&gone).map_err(|e| e.to_string())?;
    // A path that is gone is in the way of nothing else.
    daemon.ok(&["setmem", name, "128M"])?;
    ensure_eq!(memory(&daemon, name)?, (128 << 20).to_string(), "the limit of memory");
    daemon.ok(&["schedinfo", name, "--set", "cpu_shares=512"])?;
    daemon.restart()?;
    // Its limit is changed and taken away by the number that the device had, after a restart too.
    daemon.ok(&["blkiotune", name, "--live", "--device-read-bytes-sec", &format!("{shown},4000")])?;
    ensure!(has(&read(&daemon)?, &number, 4000), "{}", read(&daemon)?);
    daemon.ok(&[
        "blkiotune",
        name,
        "--live",
        "--device-read-bytes-sec",
        &format!("{shown},0"),
        "--device-write-bytes-sec",
        &format!("{second},5000"),
    ])?;
    ensure!(!read(&daemon)?.contains(&format!("{number} ")), "{}", read(&daemon)?);
    ensure!(has(&write(&daemon)?, &other, 5000), "{}", write(&daemon)?);
    // Now nobody knows which device it would be.
    let refused =
        daemon.virsh(&["blkiotune", name, "--live", "--device-read-bytes-sec", &format!("{shown},9")])?;
    ensure!(refused.fails()?.contains(&format!("<blkiotune> names '{shown}'")), "an unknown device");

    // A change of devices that is cut off is undone by the next daemon.
    daemon.set_environment(&[("BERTH_KILL_AT", "daemon:tuned")]);
    daemon.restart()?;
    let cut = daemon.virsh(&[
        "blkiotune",
        name,
        "--live",
        "--device-read-bytes-sec",
        &format!("{first},6000"),
        "--device-write-iops-sec",
        &format!("{second},7"),
    ])?;
    cut.fails()?;
    daemon.wait_dead(10)?;
    daemon.set_environment(&[]);
    daemon.launch()?;
    ensure!(!read(&daemon)?.contains(&format!("{number} ")), "{}", read(&daemon)?);
    ensure!(has(&write(&daemon)?, &other, 5000), "{}", write(&daemon)?);
    let iops = value(&daemon, name, "blkio", "blkio.throttle.write_iops_device", "io.max")?;
    ensure!(!iops.contains(&format!("{other} 7")) && !iops.contains("wiops=7"), "{iops}");
    daemon.ok(&["destroy", name]).map(drop)
}

fn partition() -> Outcome {
    let daemon = Daemon::start()?;
    let before = Traces::of("t-part", daemon.work());
    start(&daemon, "t-part", WAIT, "<resource><partition>/machine/t-part/deep</partition></resource>", "")?;
    let group = file(&daemon, "t-part", "memory", "", "")?;
    ensure!(group.display().to_string().contains("/machine/t-part/deep/t-part.berth"), "{}", group.display());
    ensure_eq!(memory(&daemon, "t-part")?, (256 << 20).to_string(), "the limit");
    daemon.ok(&["destroy", "t-part"])?;
    ensure!(!group.exists(), "the group is left");
    ensure!(!group.ancestors().nth(2).is_some_and(|p| p.exists()), "the partition is left");
    daemon.ok(&["undefine", "t-part"])?;
    let _ = fs::remove_dir_all(daemon.work().join("t-part.root"));
    let _ = fs::remove_file(daemon.work().join("t-part.xml"));
    ensure_eq!(Traces::of("t-part", daemon.work()).difference(&before), Vec::<String>::new(), "residue");
    Ok(())
}

fn missing() -> Outcome {
    let daemon = Daemon::start()?;
    let node = "<numatune><memory mode='strict' nodeset='99'/></numatune>";
    daemon.define("t-none", &document(&daemon, "t-none", WAIT, node, "")?)?;
    let before = Traces::of("t-none", daemon.work());
    let error = daemon.virsh(&["start", "t-none"])?.fails()?;
    ensure!(error.contains("step 'limits': cannot set <numatune>: write '99' to '/sys/fs/cgroup"), "{error}");
    ensure!(error.contains("cpuset.mems"), "{error}");
    ensure_eq!(Traces::of("t-none", daemon.work()).difference(&before), Vec::<String>::new(), "residue");
    let device = "<blkiotune><device><path>/dev/null</path><weight>100</weight></device></blkiotune>";
    daemon.define("t-none", &document(&daemon, "t-none", WAIT, device, "")?)?;
    let error = daemon.virsh(&["start", "t-none"])?.fails()?;
    ensure!(error.contains("<blkiotune> names '/dev/null': it is not a block device"), "{error}");
    Ok(())
}
