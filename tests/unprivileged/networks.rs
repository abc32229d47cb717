//! The `net-*` commands against the real daemon: definitions, their literal output and errors. Nothing is started.

use berth_tests::daemon::{Daemon, Printed};
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq};

pub const TESTS: &[Test] = &[
    ("networks::prints_what_virsh_prints", literal),
    ("networks::errors_are_virshs", errors),
    ("networks::parts_of_a_definition_change", update),
    ("networks::edit_and_events", edit_and_events),
    ("networks::a_default_that_was_undefined_stays_away", default_once),
];

const LAB: &str = "<network>
  <name>lab</name>
  <uuid>5d2e7b0a-6f5b-4b36-9d3b-3c1f0a7e4c11</uuid>
  <forward mode='nat'/>
  <bridge name='lab0' stp='on' delay='0'/>
  <mac address='52:54:00:0a:0b:0c'/>
  <ip address='10.20.0.1' netmask='255.255.255.0'>
    <dhcp>
      <range start='10.20.0.100' end='10.20.0.199'/>
    </dhcp>
  </ip>
</network>
";

fn printed(status: i32, out: &str, err: &str) -> Printed {
    Printed { status, out: out.into(), err: err.into() }
}

fn good(out: &str) -> Printed {
    printed(0, out, "")
}

fn literal() -> Outcome {
    let daemon = Daemon::start()?;
    daemon.ok(&["net-undefine", "default"])?;
    let none = " Name   State   Autostart   Persistent\n----------------------------------------\n\n";
    ensure_eq!(daemon.virsh(&["net-list", "--all"])?, good(none), "no network");
    let file = daemon.file("lab.xml", LAB)?;
    let text = format!("Network lab defined from {file}\n\n");
    ensure_eq!(daemon.virsh(&["net-define", &file])?, good(&text), "define");
    ensure_eq!(daemon.virsh(&["net-list"])?, good(none), "the active");
    let table = " Name   State      Autostart   Persistent\n-------------------------------------------\n";
    let rows = format!("{table} lab    inactive   no          yes\n\n");
    ensure_eq!(daemon.virsh(&["net-list", "--all"])?, good(&rows), "list");
    ensure_eq!(daemon.virsh(&["net-list", "--all", "--name"])?, good("lab\n\n"), "names");
    ensure_eq!(daemon.virsh(&["net-dumpxml", "lab"])?, good(&format!("{LAB}\n")), "dumpxml");
    let text = "Network lab marked as autostarted\n\n";
    ensure_eq!(daemon.virsh(&["net-autostart", "lab"])?, good(text), "autostart");
    let info = "Name:           lab
UUID:           5d2e7b0a-6f5b-4b36-9d3b-3c1f0a7e4c11
Active:         no
Persistent:     yes
Autostart:      yes
Bridge:         lab0

";
    ensure_eq!(daemon.virsh(&["net-info", "5d2e7b0a-6f5b-4b36-9d3b-3c1f0a7e4c11"])?, good(info), "info");
    let text = "Network lab unmarked as autostarted\n\n";
    ensure_eq!(daemon.virsh(&["net-autostart", "lab", "--disable"])?, good(text), "no autostart");
    let uuid = "5d2e7b0a-6f5b-4b36-9d3b-3c1f0a7e4c11";
    ensure_eq!(daemon.virsh(&["net-uuid", "lab"])?, good(&format!("{uuid}\n\n")), "uuid");
    ensure_eq!(daemon.virsh(&["net-name", uuid])?, good("lab\n\n"), "name");
    let none = " Expiry Time   MAC address   Protocol   IP address   Hostname   Client ID or DUID\n\
                -----------------------------------------------------------------------------------\n\n";
    ensure_eq!(daemon.virsh(&["net-dhcp-leases", "lab"])?, good(none), "leases");
    ensure_eq!(daemon.virsh(&["net-dhcp-leases", "lab", "52:54:0:0:0:1"])?, good(none), "leases of one");
    for bad in ["zz", "52:54:00:00:00", "52:54:00:00:00:00:00", ""] {
        let text = format!("error: Failed to get leases info for lab\nerror: invalid MAC address: {bad}\n");
        ensure_eq!(
            daemon.virsh(&["net-dhcp-leases", "lab", "--mac", bad])?,
            printed(1, "\n", &text),
            "'{bad}'"
        );
    }
    let json: serde_json::Value =
        serde_json::from_str(&daemon.ok(&["--json", "net-list", "--all"])?).map_err(|e| e.to_string())?;
    let row = serde_json::json!([{ "name": "lab", "uuid": uuid, "active": false, "persistent": true,
        "autostart": false, "bridge": "lab0", "forward": "nat", "ports": 0 }]);
    ensure_eq!(json, row, "json");
    ensure_eq!(
        daemon.virsh(&["net-undefine", "lab"])?,
        good("Network lab has been undefined\n\n"),
        "undefine"
    );
    Ok(())
}

fn errors() -> Outcome {
    let daemon = Daemon::start()?;
    let error = daemon.virsh(&["net-start", "nosuch"])?.fails()?;
    let text = "error: failed to get network 'nosuch'\n\
                error: Network not found: no network with matching name 'nosuch'\n";
    ensure_eq!(error, text.to_owned(), "unknown");
    let error = daemon.virsh(&["net-destroy", "default"])?.fails()?;
    let text = "error: Failed to destroy network default\n\
                error: Requested operation is not valid: network 'default' is not active\n";
    ensure_eq!(error, text.to_owned(), "not active");
    let bad = daemon.file("bad.xml", &LAB.replace("end='10.20.0.199'", "end='10.21.0.199'"))?;
    let error = daemon.virsh(&["net-define", &bad])?.fails()?;
    ensure!(error.starts_with(&format!("error: Failed to define network from {bad}\n")), "{error}");
    ensure!(error.contains("bad.xml:9:"), "the place is missing: {error}");
    ensure!(error.contains("<range start='10.20.0.100' end='10.21.0.199'/>"), "the line is missing: {error}");
    daemon.virsh(&["net-info", "lab"])?.fails()?;
    // What only a start refuses is said before.
    let boots = "<network><name>boots</name><bridge name='boots0'/>\n<ip address='10.21.0.1' prefix='24'><tftp root='/srv'/></ip></network>";
    let defined = daemon.virsh(&["net-define", &daemon.file("boots.xml", boots)?])?;
    ensure!(defined.err.contains("a network with a TFTP server cannot be started"), "{}", defined.err);
    let first = daemon.file("lab.xml", LAB)?;
    daemon.ok(&["net-define", &first])?;
    let other = LAB.replace(">lab<", ">other<").replace("5d2e7b0a", "5d2e7b0b");
    let other = daemon.file("other.xml", &other)?;
    let error = daemon.virsh(&["net-define", &other])?.fails()?;
    ensure!(error.contains("bridge name 'lab0' already in use by network 'lab'"), "{error}");
    let same = daemon.file("same.xml", &LAB.replace("5d2e7b0a", "5d2e7b0b"))?;
    let error = daemon.virsh(&["net-define", &same])?.fails()?;
    let text =
        "operation failed: network 'lab' already exists with uuid 5d2e7b0a-6f5b-4b36-9d3b-3c1f0a7e4c11";
    ensure!(error.contains(text), "{error}");
    let error = daemon.virsh(&["-r", "net-undefine", "lab"])?.fails()?;
    let text = "error: Failed to undefine network lab\n\
                error: operation forbidden: read only access prevents virNetworkUndefine\n";
    ensure_eq!(error, text.to_owned(), "read only");
    Ok(())
}

fn update() -> Outcome {
    let daemon = Daemon::start()?;
    let file = daemon.file("lab.xml", LAB)?;
    daemon.ok(&["net-define", &file])?;
    let host = "<host mac='52:54:00:00:00:01' name='web' ip='10.20.0.5'/>";
    let words = ["net-update", "lab", "add", "ip-dhcp-host", host, "--config"];
    ensure_eq!(daemon.virsh(&words)?, good("Updated network lab persistent config\n"), "add");
    let expected = LAB.replace("    </dhcp>", &format!("      {host}\n    </dhcp>"));
    ensure_eq!(daemon.ok(&["net-dumpxml", "lab"])?, format!("{expected}\n"), "the definition");
    let error = daemon.virsh(&words)?.fails()?;
    let text = "error: Failed to update network lab\nerror: Requested operation is not valid: \
                there is an existing dhcp host entry in network 'lab' that matches\n";
    ensure_eq!(error, text.to_owned(), "twice");
    // What is wrong with the network as it would be has no place in the element.
    let own = "<host mac='52:54:00:00:00:07' ip='10.20.0.1'/>";
    let error = daemon.virsh(&["net-update", "lab", "add", "ip-dhcp-host", own])?.fails()?;
    let text =
        "error: Failed to update network lab\nerror: <host>: the address '10.20.0.1' is the host's own\n";
    ensure_eq!(error, text.to_owned(), "the host's own address");
    let live = ["net-update", "lab", "add", "ip-dhcp-host", host, "--live"];
    let error = daemon.virsh(&live)?.fails()?;
    ensure!(error.contains("network 'lab' is not active"), "{error}");
    let words = ["net-update", "lab", "delete", "ip-dhcp-host", "<host mac='52:54:00:00:00:01'/>"];
    daemon.ok(&words)?;
    ensure_eq!(daemon.ok(&["net-dumpxml", "lab"])?, format!("{LAB}\n"), "without it");
    let words =
        ["net-update", "lab", "modify", "ip-dhcp-range", "<range start='10.20.0.2' end='10.20.0.3'/>"];
    let error = daemon.virsh(&words)?.fails()?;
    ensure!(error.contains("cannot be modified, only added or deleted"), "{error}");
    Ok(())
}

fn edit_and_events() -> Outcome {
    let daemon = Daemon::start()?;
    let mut events = daemon.command()?;
    events.args(["net-event", "--event", "lifecycle", "--loop", "--timeout", "4"]);
    let events =
        events.stdout(std::process::Stdio::piped()).spawn().map_err(|e| format!("cannot run it: {e}"))?;
    std::thread::sleep(std::time::Duration::from_millis(500));
    let file = daemon.file("lab.xml", LAB)?;
    daemon.ok(&["net-define", &file])?;
    let editor = daemon.file("editor", "sed -i s/10.20.0.199/10.20.0.150/ \"$1\"\n")?;
    let mut command = daemon.command()?;
    command.env("EDITOR", format!("sh {editor}")).env_remove("VISUAL").args(["net-edit", "lab"]);
    let output = command.output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure_eq!(text, "Network lab XML configuration edited.\n\n".to_owned(), "edit");
    ensure!(daemon.ok(&["net-dumpxml", "lab"])?.contains("10.20.0.150"), "the change was lost");
    // A part that is changed is no event, as with libvirt.
    let part = "<host mac='52:54:00:00:00:07' ip='10.20.0.7'/>";
    daemon.ok(&["net-update", "lab", "add", "ip-dhcp-host", part, "--config"])?;
    daemon.ok(&["net-undefine", "lab"])?;
    let output = events.wait_with_output().map_err(|e| e.to_string())?;
    let expected = "event 'lifecycle' for network lab: Defined
event 'lifecycle' for network lab: Defined
event 'lifecycle' for network lab: Undefined
event loop timed out
events received: 3

";
    ensure_eq!(String::from_utf8_lossy(&output.stdout).into_owned(), expected.to_owned(), "events");
    Ok(())
}

fn default_once() -> Outcome {
    let mut daemon = Daemon::start()?;
    let before = daemon.ok(&["net-dumpxml", "default"])?;
    daemon.restart()?;
    ensure_eq!(daemon.ok(&["net-dumpxml", "default"])?, before, "after a restart");
    daemon.ok(&["net-undefine", "default"])?;
    daemon.restart()?;
    daemon.virsh(&["net-info", "default"])?.fails().map(drop)
}
