//! A real network card that a container has for a while: not even the kernel removes it, but it may come back by itself,
//! under another name and as root inside has left it.
//!
//! Whoever runs the tests has to say which one may be taken, by its hardware address in `BERTH_NIC`; that is done in the
//! virtual machine, whose card is made for this and leads nowhere. The kernel gives a card to the first network
//! namespace of all, so that these tests run in there, one at a time.

use std::fs;
use std::sync::{Mutex, PoisonError};

use berth_tests::daemon::Daemon;
use berth_tests::host::{alive, ip, run};
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, wait_for};
use nix::sched::{CloneFlags, setns};

use super::Lan;
use super::lent::{addressing_of, settings_of};

pub const TESTS: &[Test] = &[
    ("nic::comes_back_as_it_was_from_every_end", || with_card(ends)),
    ("nic::comes_back_beside_who_has_its_name", || with_card(names)),
];

/// Its name on the host while it is tested.
const NAME: &str = "card0";
/// What answers at the other end of it.
const GATEWAY: &str = "10.0.2.2";
/// Only one test at a time has it.
static CARD: Mutex<()> = Mutex::new(());

/// Runs a test in the first network namespace, if that has a card that may be taken.
fn with_card(test: fn() -> Outcome) -> Outcome {
    let Ok(address) = std::env::var("BERTH_NIC") else {
        println!("not tried: BERTH_NIC names no network card that may be taken");
        return Ok(());
    };
    let _alone = CARD.lock().unwrap_or_else(PoisonError::into_inner);
    let run = move || {
        let first = fs::File::open("/proc/1/ns/net").map_err(|e| format!("the first network: {e}"))?;
        setns(first, CloneFlags::CLONE_NEWNET).map_err(|e| format!("the first network: {e}"))?;
        let name = find(&address)?;
        let in_use = ip(&format!("-o addr show dev {name} scope global"))?;
        ensure!(in_use.is_empty(), "somebody uses the interface of BERTH_NIC: {in_use}");
        furnish(&name)?;
        let done = test();
        // The next test finds it as this one did.
        let name = find(&address)?;
        ip(&format!("link set {name} down"))?;
        ip(&format!("addr flush dev {name}"))?;
        done
    };
    std::thread::spawn(run).join().map_err(|_| "the test panicked".to_owned())?
}

/// The name of the interface with that address of its own, whatever it has now, that belongs to a device.
fn find(address: &str) -> Result<String, String> {
    let all = ip("-d -o link show")?;
    let mut found = all.lines().filter(|line| line.contains(" parentdev ")).filter(|line| {
        let permanent = line.split_once(" permaddr ").or_else(|| line.split_once(" link/ether "));
        permanent.is_some_and(|(_, rest)| rest.starts_with(address))
    });
    let line = found.next().ok_or_else(|| format!("no interface has the address of BERTH_NIC: {all}"))?;
    line.split(": ").nth(1).map(str::to_owned).ok_or_else(|| line.to_owned())
}

/// Gives it what a host has on an interface.
fn furnish(name: &str) -> Outcome {
    ip(&format!("link set {name} down"))?;
    // Addresses that have seen a change of name have other labels.
    ip(&format!("addr flush dev {name}"))?;
    if name != NAME {
        ip(&format!("link set {name} name {NAME}"))?;
    }
    if !ip(&format!("-o link show dev {NAME}"))?.contains("card-of-the-host") {
        ip(&format!("link property add dev {NAME} altname card-of-the-host"))?;
    }
    for line in [
        "link set card0 mtu 1400 txqueuelen 777 address 52:54:00:77:77:77 alias mycard group 5",
        "link set card0 up",
        "addr replace 10.0.2.15/24 dev card0",
        "addr replace 10.9.9.1 peer 10.9.9.2 dev card0",
        "addr replace 2001:db8:7::7/64 dev card0 nodad",
        "route replace default via 10.0.2.2 dev card0 metric 50",
        "route replace 192.0.2.0/24 via 10.0.2.2 dev card0 metric 77 mtu 1300",
        "-6 route replace 2001:db8:8::/48 via 2001:db8:7::1 dev card0",
    ] {
        ip(line)?;
    }
    run("sysctl -qw net.ipv4.conf.card0.arp_ignore=2 net.ipv6.conf.card0.accept_ra=0")?;
    wait_for("the other end", 10, || run(&format!("ping -c 1 -W 1 {GATEWAY}")).ok()).map(drop)
}

fn element() -> String {
    format!(
        "<hostdev mode='capabilities' type='net'><source><interface>{NAME}</interface></source>
         <ip address='10.0.2.16' family='ipv4' prefix='24'/>
         <route family='ipv4' address='0.0.0.0' prefix='0' gateway='{GATEWAY}'/></hostdev>"
    )
}

/// What it is on the host, once it has a carrier again.
fn told(name: &str) -> Result<String, String> {
    let link = wait_for("the carrier", 10, || settings_of(name).ok().filter(|l| l.contains("LOWER_UP")))?;
    Ok(format!("{link}\n{}", addressing_of(name)?))
}

/// Whether it works inside as the document says; then root inside does its worst to it.
fn use_and_spoil(lan: &Lan, name: &str) -> Outcome {
    let inside = |line: &str| lan.inside(name, line);
    let has = inside(&format!("ip -o addr show dev {NAME}"))?;
    ensure!(has.contains("10.0.2.16/24") && !has.contains("10.0.2.15"), "the addresses inside: {has}");
    let routes = inside("ip route")?;
    ensure!(routes.contains("default via 10.0.2.2"), "the routes inside: {routes}");
    ensure!(lan.reaches(name, GATEWAY), "the container does not reach the other end");
    ensure!(ip(&format!("link show dev {NAME}")).is_err(), "the host still has it");
    for line in [
        "link add top link card0 type macvlan",
        "link set card0 mtu 1300 address 02:00:00:00:00:66 txqueuelen 5 alias bad group 7",
        "link set card0 promisc on multicast off arp off",
        "link property del dev card0 altname card-of-the-host",
        "link property add dev card0 altname card-of-the-container",
        "link set card0 down",
        "link set card0 name innocent",
    ] {
        inside(&format!("ip {line}"))?;
    }
    Ok(())
}

/// How a container ends, or loses it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Destroyed,
    PoweredOff,
    Unplugged,
    ControllerKilled,
    /// The controller and the daemon; the next daemon ends the container.
    BothKilled,
    /// Init as well: nobody but the kernel is there to give it back.
    AllKilled,
}

fn end(lan: &mut Lan, name: &str, how: End) -> Outcome {
    let (controller, init) = (lan.daemon.pid_of(name, "id")?, lan.daemon.pid_of(name, "initPid")?);
    match how {
        End::Destroyed => lan.daemon.ok(&["destroy", name]).map(drop),
        End::PoweredOff => {
            run(&format!("nsenter -t {init} -a -S 0 -G 0 /bin/busybox touch /tmp/end"))?;
            lan.daemon.wait_state(name, "shut off (shutdown)", 10)
        }
        End::Unplugged => {
            lan.plug("detach-device", name, &element(), &["--live"])?.ok()?;
            lan.daemon.ok(&["destroy", name]).map(drop)
        }
        End::ControllerKilled => {
            run(&format!("kill -9 {controller}"))?;
            lan.daemon.wait_state(name, "shut off (crashed)", 10)
        }
        End::BothKilled | End::AllKilled => {
            lan.daemon.kill();
            run(&format!("kill -9 {controller}"))?;
            if how == End::AllKilled {
                // It may have died with its controller.
                let _ = run(&format!("kill -9 {init}"));
                wait_for("the end of init", 10, || (!alive(init)).then_some(()))?;
                wait_for("the kernel", 10, || {
                    let links = ip("-o link show").ok()?;
                    links.contains("innocent").then_some(())
                })?;
            }
            lan.daemon.launch()?;
            lan.daemon.wait_state(name, "shut off (crashed)", 10)
        }
    }
}

fn warnings(lan: &Lan) -> Vec<String> {
    lan.daemon.log().lines().filter(|l| l.contains("interface 'card0")).map(str::to_owned).collect()
}

fn lan() -> Result<Lan, String> {
    Ok(Lan { daemon: Daemon::start()? })
}

const INIT: &str = "rm -f /tmp/end; while ! test -e /tmp/end; do sleep 0.1; done; poweroff -f";

fn ends() -> Outcome {
    let mut lan = lan()?;
    let before = told(NAME)?;
    lan.define_with("t-nic", &["/bin/sh", "-c", INIT], &element())?;
    for how in [
        End::Destroyed,
        End::PoweredOff,
        End::Unplugged,
        End::ControllerKilled,
        End::BothKilled,
        End::AllKilled,
    ] {
        lan.daemon.ok(&["start", "t-nic"])?;
        if how == End::Unplugged {
            lan.plug("detach-device", "t-nic", &element(), &["--live"])?.ok()?;
            ensure_eq!(told(NAME)?, before, "unplugged for the first time");
            lan.plug("attach-device", "t-nic", &element(), &["--live"])?.ok()?;
        }
        use_and_spoil(&lan, "t-nic").map_err(|e| format!("{how:?}: {e}"))?;
        end(&mut lan, "t-nic", how).map_err(|e| format!("{how:?}: {e}"))?;
        ensure_eq!(told(NAME)?, before, "{how:?}: {:?}", warnings(&lan));
        run(&format!("ping -c 1 -W 5 {GATEWAY}")).map_err(|e| format!("{how:?}: {e}"))?;
    }
    ensure_eq!(warnings(&lan), Vec::<String>::new(), "the log");
    Ok(())
}

fn names() -> Outcome {
    let mut lan = lan()?;
    let before = told(NAME)?;
    lan.define_with("t-nicname", &["/bin/sh", "-c", INIT], &element())?;
    for how in [End::Destroyed, End::AllKilled] {
        lan.daemon.ok(&["start", "t-nicname"])?;
        use_and_spoil(&lan, "t-nicname")?;
        ip("link add card0 type dummy")?;
        ip("link add innocent type dummy")?;
        if how == End::AllKilled {
            // Then the kernel makes a name up.
            lan.inside("t-nicname", "ip link set innocent name card0")?;
        }
        let ended = end(&mut lan, "t-nicname", how).map_err(|e| format!("{how:?}: {e}"));
        let now = told("card0-1");
        ip("link del card0")?;
        ip("link del innocent")?;
        ended?;
        ensure_eq!(now?.replace("card0-1", NAME), before, "{how:?}: {:?}", warnings(&lan));
        let said = warnings(&lan).join("\n")
            + &fs::read_to_string(lan.daemon.root().join("var/log/berth/t-nicname.log")).unwrap_or_default();
        ensure!(said.contains("the interface 'card0' is the host's again as 'card0-1'"), "{how:?}: {said}");
        ip("link set card0-1 down")?;
        furnish("card0-1")?;
    }
    Ok(())
}
