//! Commands of interfaces on a definition, without any container: what they print, and which one they mean.

use std::path::Path;

use berth_tests::daemon::{Daemon, domain_xml};
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq};

pub const TESTS: &[Test] = &[
    ("interfaces::print_what_virsh_prints", printed),
    ("interfaces::errors_are_virshs", errors),
    ("interfaces::of_a_namespace_are_for_those_who_may", namespaces),
];

/// A daemon with the domain "web".
fn start() -> Result<Daemon, String> {
    let daemon = Daemon::start()?;
    daemon.define("web", &domain_xml("web", Path::new("/nonexistent"), &["/bin/sh"], ""))?;
    Ok(daemon)
}

fn attach(daemon: &Daemon) -> Outcome {
    let one = ["web", "bridge", "br0", "--mac", "52:54:00:00:00:01", "--target", "web0", "--model", "virtio"];
    let two = [
        "web",
        "network",
        "default",
        "--mac",
        "52:54:00:00:00:02",
        "--inbound",
        "1000,2000",
        "--outbound",
        "100",
    ];
    for words in [&one[..], &two] {
        let all = [&["attach-interface"], words, &["--config"]].concat();
        ensure_eq!(daemon.ok(&all)?, "Interface attached successfully\n\n", "{all:?}");
    }
    Ok(())
}

fn printed() -> Outcome {
    let daemon = start()?;
    let empty = " Interface   Type   Source   Model   MAC\n------------------------------------------\n\n";
    ensure_eq!(daemon.ok(&["domiflist", "web"])?, empty, "none");
    attach(&daemon)?;
    let list = " Interface   Type      Source    Model    MAC\n\
        -------------------------------------------------------------\n \
        web0        bridge    br0       virtio   52:54:00:00:00:01\n \
        -           network   default   -        52:54:00:00:00:02\n\n";
    let xml = daemon.ok(&["attach-interface", "web", "direct", "eth0", "--config", "--print-xml"])?;
    ensure_eq!(xml, "<interface type='direct'>\n  <source dev='eth0'/>\n</interface>\n\n", "--print-xml");
    ensure_eq!(daemon.ok(&["domiflist", "web"])?, list, "two");
    for (words, expected) in [
        (&["domif-getlink", "web", "web0", "--config"][..], "web0 default\n\n"),
        (&["domif-setlink", "web", "web0", "down", "--config"], "Device updated successfully\n\n"),
        (&["domif-getlink", "web", "52:54:00:00:00:01", "--config"], "52:54:00:00:00:01 down\n\n"),
        (&["domif-setlink", "web", "web0", "up", "--config"], "Device updated successfully\n\n"),
        (&["domif-getlink", "web", "web0", "--config"], "web0 up\n\n"),
        (&["domiftune", "web", "52:54:00:00:00:02", "--inbound", "5,6,7", "--config"], "\n"),
        (
            &["domiftune", "web", "52:54:00:00:00:02", "--config"],
            "inbound.average: 5\ninbound.peak   : 6\ninbound.burst  : 7\ninbound.floor  : 0\n\
             outbound.average: 100\noutbound.peak  : 0\noutbound.burst : 0\n\n",
        ),
        (
            &[
                "domiftune",
                "web",
                "52:54:00:00:00:02",
                "--inbound",
                "0,0,0",
                "--outbound",
                "4294967295",
                "--config",
            ],
            "\n",
        ),
        (
            &["domiftune", "web", "52:54:00:00:00:02", "--config"],
            "inbound.average: 0\ninbound.peak   : 0\ninbound.burst  : 0\ninbound.floor  : 0\n\
             outbound.average: 4294967295\noutbound.peak  : 0\noutbound.burst : 0\n\n",
        ),
        (&["domif-setlink", "web", "web0", "down", "--persistent"], "Device updated successfully\n\n"),
        (&["domif-getlink", "web", "web0", "--persistent"], "web0 down\n\n"),
        (&["detach-interface", "web", "bridge", "--config"], "Interface detached successfully\n\n"),
        (&["detach-interface", "web", "network", "--config"], "Interface detached successfully\n\n"),
        (&["domiflist", "web", "--inactive"], empty),
    ] {
        ensure_eq!(daemon.ok(words)?, expected, "{words:?}");
    }
    Ok(())
}

fn errors() -> Outcome {
    let daemon = start()?;
    attach(&daemon)?;
    for (words, expected) in [
        (
            &["attach-interface", "web", "odd", "x", "--config"][..],
            "error: No support for odd in command 'attach-interface'\n",
        ),
        (
            &["attach-interface", "web", "bridge", "br0", "--mac", "52:54:00:00:00:01", "--config"],
            "error: Failed to attach interface\n\
             error: Requested operation is not valid: network device with mac 52:54:00:00:00:01 already exists\n",
        ),
        (&["domif-getlink", "web", "nosuch", "--config"], "error: Interface (dev: nosuch) not found.\n"),
        (
            &["domiftune", "web", "52:54:00:00:00:02", "--inbound", "x", "--config"],
            "error: inbound format is incorrect\n",
        ),
        (
            &["domiftune", "web", "52:54:00:00:00:02", "--outbound", "18446744073709551615", "--config"],
            "error: outbound rate larger than maximum 4294967295\n",
        ),
        (
            &["domiftune", "web", "52:54:00:00:00:02", "--outbound", "200,100", "--config"],
            "error: Unable to set interface parameters\n\
             error: invalid argument: outbound.peak 100 is below the average 200\n",
        ),
        (
            &["domiftune", "web", "nosuch", "--outbound", "200", "--config"],
            "error: Unable to set interface parameters\nerror: invalid argument: Can't find device nosuch\n",
        ),
        (
            &["domif-setlink", "web", "nosuch", "up", "--config"],
            "error: interface (dev: nosuch) not found.\n",
        ),
        (
            &["domif-setlink", "web", "52:54:00:00:00:09", "up", "--persistent"],
            "error: interface (mac: 52:54:00:00:00:09) not found.\n",
        ),
        (
            &["detach-interface", "web", "bridge", "--mac", "52:54:00:00:00:09", "--config"],
            "error: No interface with MAC address 52:54:00:00:00:09 was found\n",
        ),
        (
            &["domifaddr", "web"],
            "error: Failed to query for interfaces addresses\n\
             error: Requested operation is not valid: domain is not running\n",
        ),
    ] {
        ensure_eq!(daemon.virsh(words)?.fails()?, expected, "{words:?}");
    }
    Ok(())
}

fn namespaces() -> Outcome {
    let daemon = Daemon::start()?;
    let own = daemon.virsh(&["net-plug", "default"])?.fails()?;
    let expected = "error: Failed to add an interface of network default\n\
                    error: the namespace is the host's own\n";
    ensure_eq!(own, expected, "the host's namespace");
    let none = daemon.virsh(&["net-plug", "default", "--pid", "x"])?.fails()?;
    ensure_eq!(none, "error: 'x' is not the number of a process\n", "no number");
    let nobody = daemon.virsh(&["net-plug", "nonet"])?.fails()?;
    ensure!(nobody.starts_with("error: failed to get network 'nonet'\n"), "{nobody}");
    let gone = daemon.virsh(&["net-unplug", "vnet9"])?.fails()?;
    let expected = "error: Failed to remove interface vnet9\n\
                    error: Requested operation is not valid: no interface 'vnet9' was added to a network\n";
    ensure_eq!(gone, expected, "no such interface");
    let name = daemon.virsh(&["net-plug", "default", "--interface", "a/b"])?.fails()?;
    let expected = "error: Failed to add an interface of network default\n\
                    error: 'a/b' is not a name for an interface: 1 to 15 letters, digits, dots, '-' and '_', and not 'lo'\n";
    ensure_eq!(name, expected, "a bad name");
    let many = daemon.virsh(&["net-plug", "default", "--mac", "01:00:00:00:00:01"])?.fails()?;
    ensure!(!many.contains("io.berth") && many.contains("01:00:00:00:00:01"), "a bad address: {many}");
    Ok(())
}
