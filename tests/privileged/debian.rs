//! Whole Debian systems, made by mmdebstrap, with a password for root and no other change.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use berth_tests::daemon::{Daemon, domain_xml};
use berth_tests::host::Traces;
use berth_tests::suite::Test;
use berth_tests::terminal::Terminal;
use berth_tests::{Outcome, ensure, ensure_eq, roots};

pub const TESTS: &[Test] = &[
    ("debian::bookworm_boots", || alone(&BOOKWORM, "bookworm", boots)),
    ("debian::trixie_boots", || alone(&TRIXIE, "trixie", boots)),
    ("debian::bookworm_is_used", || alone(&BOOKWORM, "bookworm", is_used)),
    ("debian::trixie_is_used", || alone(&TRIXIE, "trixie", is_used)),
];

/// Two tests boot the same root, and each wants it for itself.
static BOOKWORM: Mutex<()> = Mutex::new(());
static TRIXIE: Mutex<()> = Mutex::new(());

/// Makes the roots while there still is a network, if a test of this file is going to run. Whether it worked is seen by
/// the tests.
pub fn make_roots() {
    let filters: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let skipped = std::env::args().any(|a| a == "--list" || a == "--skip=debian::");
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|f| name.contains(f.as_str()));
    for suite in ["bookworm", "trixie"] {
        let wanted = TESTS.iter().any(|(name, _)| name.contains(suite) && wanted(name));
        if !skipped && wanted && nix::unistd::geteuid().is_root() {
            let _ = roots::debian(suite);
        }
    }
}

fn login(terminal: &mut Terminal) -> Outcome {
    terminal.expect("login:", 60)?;
    terminal.say("root\r")?;
    terminal.expect("Password:", 20)?;
    terminal.say("berth\r")?;
    terminal.expect("#", 20).map(drop)
}

/// Types a line and returns what it prints.
fn run(terminal: &mut Terminal, line: &str) -> Result<String, String> {
    // Split where they are typed, so that the echo is not taken for them.
    terminal.say(&format!("echo be''gin; {line}; echo en''d\r"))?;
    terminal.expect("begin\r\n", 60)?;
    let text = terminal.expect("end\r\n", 60)?;
    terminal.expect("#", 10)?;
    Ok(text.trim_end_matches("end\r\n").replace('\r', ""))
}

/// What is put before `<os>` in the documents here.
const ONE_PROCESSOR_AND_A_SECRET: &str = "  <metadata><berth:settings xmlns:berth='urn:berth:domain:1'><berth:credential \
    name='berth.test' value='in confidence'/></berth:settings></metadata>\n  <vcpu>1</vcpu>\n  <os>";

/// What is done with a domain that runs and has its console on a terminal; it is off afterwards.
type Session = fn(&Daemon, &str, &str, &mut Terminal) -> Outcome;

fn alone(root: &Mutex<()>, suite: &str, session: Session) -> Outcome {
    // A test that failed leaves nothing behind that the next one would stumble over.
    let _alone = root.lock().unwrap_or_else(PoisonError::into_inner);
    let root = roots::debian(suite)?;
    let daemon = Daemon::start()?;
    let name = format!("t-{suite}");
    // Boots write into the root's journal and caches; what must not change is what others would see of it.
    let before = Traces::of(&name, &daemon.root());
    let one = domain_xml(&name, &root, &["/sbin/init"], "").replace("  <os>", ONE_PROCESSOR_AND_A_SECRET);
    daemon.define(&name, &one)?;
    let defined = Traces::of(&name, &daemon.root());
    let mut terminal = start(&daemon, &name)?;
    if let Err(error) = session(&daemon, &name, suite, &mut terminal) {
        return Err(format!("{error}\n--- console:\n{}", terminal.transcript));
    }
    ensure_eq!(Traces::of(&name, &daemon.root()).difference(&defined), Vec::<String>::new(), "residue");
    daemon.ok(&["undefine", &name])?;
    ensure_eq!(
        Traces::of(&name, &daemon.root()).difference(&before),
        Vec::<String>::new(),
        "residue of the definition"
    );
    ensure!(!Path::new(&root).join(".oldroot").exists(), "something was left in the root");
    Ok(())
}

fn start(daemon: &Daemon, name: &str) -> Result<Terminal, String> {
    daemon.ok(&["start", name])?;
    let mut command = daemon.command()?;
    command.args(["console", name]);
    Terminal::run(&command)
}

/// Everything that systemd starts does start, and it can be told from outside to end.
fn boots(daemon: &Daemon, name: &str, suite: &str, terminal: &mut Terminal) -> Outcome {
    login(terminal)?;
    run(terminal, "stty -echo; PS1='#'; export SYSTEMD_PAGER= SYSTEMD_COLORS=0")?;
    let release = run(terminal, "grep VERSION_CODENAME /etc/os-release")?;
    ensure!(release.contains(suite), "another system: {release}");
    let state = run(terminal, "systemctl is-system-running --wait")?;
    let failed = run(terminal, "systemctl --failed --no-legend --plain | cut -d' ' -f1")?;
    println!(
        "{suite}: is-system-running {}, failed units: {}",
        state.trim(),
        failed.trim().replace('\n', " ")
    );
    ensure!(
        state.contains("running") || !failed.trim().is_empty(),
        "degraded without a failed unit: {state}"
    );
    ensure!(
        daemon.ok(&["dominfo", name])?.contains("Ready:          yes\n"),
        "systemd has not said that it is up"
    );
    // Units that no container of this kind can run; anything else is our fault.
    let possible = [
        "modprobe",
        "systemd-modules-load",
        "kmod",
        "sys-kernel",
        "dev-hugepages",
        "systemd-udev",
        "getty@",
        "e2scrub",
    ];
    for unit in failed.split_whitespace() {
        ensure!(
            possible.iter().any(|p| unit.contains(p)),
            "{unit} failed: {}",
            run(terminal, &format!("systemctl status {unit}; journalctl -b -n 30 -u {unit}"))?
        );
    }
    ensure!(run(terminal, "cat /proc/1/comm")?.contains("systemd"), "init is not systemd");
    ensure_eq!(run(terminal, "systemd-detect-virt")?.trim(), "lxc-libvirt", "the virtualisation");
    ensure!(
        run(terminal, "systemctl start dbus 2>&1; systemctl list-units --no-legend | head -3")?
            .contains("loaded"),
        "no units"
    );
    daemon.ok(&["shutdown", name])?;
    daemon.wait_state(name, "shut off (shutdown)", 60)
}

/// What people do in a system: add users and packages, reboot it, turn it off; and it starts again after that.
fn is_used(daemon: &Daemon, name: &str, _suite: &str, terminal: &mut Terminal) -> Outcome {
    login(terminal)?;
    run(terminal, "stty -echo; PS1='#'")?;
    sees_its_limits(terminal)?;
    // As its services would get it.
    let secret = run(
        terminal,
        "printf '[Service]\\nType=oneshot\\nLoadCredential=berth.test\\nExecStart=/bin/cp %%d/berth.test /run/told\\n' > /run/systemd/system/told.service; systemctl start told || journalctl -u told --no-pager | tail; cat /run/told; echo; systemd-creds --system list --no-legend",
    )?;
    ensure!(
        secret.starts_with("in confidence\n") && secret.contains("berth.test"),
        "the credential: {secret}"
    );
    // A user and a package, with the tools of the distribution.
    let user = run(
        terminal,
        "useradd -m t && su t -c 'id -un; touch /tmp/mine' && stat -c %U /tmp/mine; userdel -r t 2>&1; rm /tmp/mine",
    )?;
    ensure!(user.starts_with("t\nt\n"), "a user of the container: {user}");
    run(
        terminal,
        "mkdir -p /tmp/p/DEBIAN; printf 'Package: berth-t\\nVersion: 1\\nArchitecture: all\\nMaintainer: t <t@t>\\nDescription: t\\n' > /tmp/p/DEBIAN/control; dpkg-deb -b /tmp/p /tmp/t.deb",
    )?;
    let package = run(
        terminal,
        "apt-get install -y /tmp/t.deb 2>&1; dpkg -s berth-t | grep ^Status; apt-get purge -y berth-t 2>&1 | tail -1; rm -r /tmp/p /tmp/t.deb",
    )?;
    ensure!(package.contains("Status: install ok installed"), "a package: {package}");
    // Reboot from inside: the console stays.
    terminal.say("reboot\r")?;
    login(terminal).map_err(|e| format!("after the reboot: {e}"))?;
    ensure_eq!(daemon.state(name)?, "running (rebooted)".to_owned(), "the state after the reboot");
    terminal.say("poweroff\r")?;
    daemon.wait_state(name, "shut off (shutdown)", 60)?;
    ensure_eq!(terminal.wait(10)?, 0, "the console after poweroff");
    let said = daemon.ok(&["start", name, "--wait", "ready", "--timeout", "60"])?;
    ensure!(said.ends_with(&format!("Domain '{name}' is ready\n\n")), "the wait for systemd: {said}");
    daemon.ok(&["shutdown", name])?;
    daemon.wait_state(name, "shut off (shutdown)", 60)
}

/// The tools of the distribution tell of the container's machine, not of the host's.
fn sees_its_limits(terminal: &mut Terminal) -> Outcome {
    let free = run(terminal, "free -m")?;
    let total = free.lines().find_map(|l| l.strip_prefix("Mem:")?.split_whitespace().next());
    ensure_eq!(total, Some("256"), "memory by free -m: {free}");
    ensure_eq!(run(terminal, "nproc")?.trim(), "1", "processors by nproc");
    let uptime = run(terminal, "uptime; cut -d. -f1 /proc/uptime")?;
    let seconds: Option<u64> = uptime.lines().last().and_then(|l| l.trim().parse().ok());
    ensure!(seconds.is_some_and(|s| s < 300) && uptime.contains(" min"), "uptime: {uptime}");
    let top = run(terminal, "TERM=dumb top -bn1")?;
    ensure!(top.contains("MiB Mem :    256.0 total"), "memory by top: {top}");
    let processes: Vec<&str> = top.lines().skip_while(|l| !l.contains("PID USER")).skip(1).collect();
    ensure!((1..60).contains(&processes.len()), "{} processes by top: {top}", processes.len());
    println!(
        "{}",
        [free.trim(), uptime.trim(), top.lines().take(5).collect::<Vec<_>>().join("\n").trim()].join("\n")
    );
    Ok(())
}
