//! The door on D-Bus, without any container: a bus of one's own, and `busctl` as the client.

use std::fs;
use std::path::Path;
use std::time::Instant;

use berth_tests::bus::{Bus, HOST, Watch, run};
use berth_tests::daemon::{Daemon, domain_xml};
use berth_tests::peer::Authority;
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq, patient, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub const TESTS: &[Test] = &[
    ("dbus::introspection_is_what_is_committed", introspection),
    ("dbus::clients_of_libvirt_dbus_find_what_they_know", client),
    ("dbus::networks_are_there_too", networks),
    ("dbus::errors_have_one_name", errors),
    ("dbus::limits_of_one_interface", interface_limits),
    ("dbus::cpus_are_pinned_together", pinned),
    ("dbus::signals_and_properties_announce_changes", signals),
    ("dbus::a_bus_that_goes_and_comes_hurts_nobody", bus_restarts),
    ("dbus::the_desktop_tool_says_that_the_bus_has_ended", tool_ends),
    ("dbus::changes_that_a_slow_bus_missed_are_told", missed),
    ("dbus::a_bus_that_was_away_is_told_what_happened", told_late),
    ("dbus::a_bus_that_was_away_is_told_of_networks", networks_late),
    ("dbus::what_is_forgotten_before_the_bus_comes_is_counted", told_too_late),
    ("dbus::events_wait_for_the_name", told_by_name),
    ("dbus::a_name_that_is_somebody_elses_is_waited_for", name_waits),
    ("dbus::a_bus_that_refuses_the_name_is_told_of_once", name_refused),
    ("dbus::a_client_that_does_not_read_stops_nobody", slow_client),
    ("dbus::a_thousand_domains", thousand),
    ("dbus::a_daemon_of_a_folder_stays_off_the_bus", off),
    ("dbus::an_empty_address_is_none", empty_address),
];

fn plain(name: &str) -> String {
    domain_xml(name, Path::new("/nonexistent"), &["/bin/sh"], "")
}

/// The interfaces of introspection data, each with its lines.
fn interfaces(xml: &str) -> Vec<&str> {
    xml.split("  <interface ").skip(1).filter_map(|part| Some(part.split_once("  </interface>")?.0)).collect()
}

fn introspection() -> Outcome {
    let (daemon, bus) = Bus::with_daemon()?;
    daemon.define("dom", &plain("dom"))?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/dbus");
    for (path, names) in [
        (HOST.to_owned(), &["org.libvirt.Connect"][..]),
        (bus.domain("dom")?, &["org.libvirt.Domain", "io.berth.Domain"][..]),
        (bus.network("default")?, &["org.libvirt.Network"][..]),
    ] {
        let shown = bus.run(&["introspect", "--xml-interface", "org.libvirt", &path])?;
        let standard = ["Introspectable", "Peer", "Properties"].map(|n| format!("org.freedesktop.DBus.{n}"));
        let mut committed = Vec::new();
        for name in names.iter().map(|n| (*n).to_owned()).chain(standard) {
            committed
                .push(fs::read_to_string(folder.join(format!("{name}.xml"))).map_err(|e| e.to_string())?);
        }
        let committed: Vec<&str> = committed.iter().flat_map(|text| interfaces(text)).collect();
        ensure_eq!(interfaces(&shown), committed, "the interfaces of '{path}'");
    }
    // The host's name can be another tomorrow: a client must not keep it for ever.
    let shown = bus.run(&["introspect", "--xml-interface", "org.libvirt", HOST])?;
    let hostname =
        shown.split_once("<property name=\"Hostname\"").and_then(|(_, rest)| rest.split_once("</property>"));
    ensure!(
        hostname.is_some_and(|(of_it, _)| of_it.contains("EmitsChangedSignal\" value=\"false\"")),
        "how Hostname changes: {shown}"
    );
    let tree = bus.run(&["tree", "--list", "org.libvirt"])?;
    ensure!(tree.lines().any(|l| Ok(l.to_owned()) == bus.domain("dom")), "no way to the domain: {tree}");
    Ok(())
}

fn client() -> Outcome {
    let (daemon, bus) = Bus::with_daemon()?;
    let defined = bus.call(HOST, "Connect", "DomainDefineXML", &["s", &plain("dom")])?;
    let path = defined[0].as_str().ok_or("no path")?.to_owned();
    let uuid = daemon.ok(&["domuuid", "dom"])?.trim().to_owned();
    ensure_eq!(path, format!("{HOST}/domain/_{}", uuid.replace('-', "_")), "the path");
    ensure_eq!(bus.domain("dom")?, path, "by name");
    let by_uuid = bus.call(HOST, "Connect", "DomainLookupByUUID", &["s", &uuid])?;
    ensure_eq!(by_uuid[0], path.as_str(), "by uuid");
    for (flags, count) in [("0", 1), ("1", 0), ("2", 1), ("4", 1), ("8", 0), ("64", 1)] {
        let listed = bus.call(HOST, "Connect", "ListDomains", &["u", flags])?;
        ensure_eq!(listed[0].as_array().map(Vec::len), Some(count), "with flags {flags}");
    }
    for (interface, object, name, value) in [
        ("Connect", HOST, "Encrypted", "b false"),
        ("Connect", HOST, "Secure", "b true"),
        ("Connect", HOST, "LibVersion", "t 9000000"),
        ("Domain", &path, "Active", "b false"),
        ("Domain", &path, "Autostart", "b false"),
        ("Domain", &path, "Id", "u 0"),
        ("Domain", &path, "Name", "s \"dom\""),
        ("Domain", &path, "OSType", "s \"exe\""),
        ("Domain", &path, "Persistent", "b true"),
        ("Domain", &path, "SchedulerType", "(si) \"posix\" 3"),
        ("Domain", &path, "Updated", "b false"),
        ("Domain", &path, "UUID", &format!("s \"{uuid}\"")),
    ] {
        ensure_eq!(bus.property(object, interface, name)?, value, "{name}");
    }
    let domain = |method: &str, words: &[&str]| bus.call(&path, "Domain", method, words);
    ensure_eq!(domain("GetState", &["u", "0"])?, serde_json::json!([[5, 0]]), "state");
    let xml = domain("GetXMLDesc", &["u", "2"])?;
    let (xml, printed) = (xml[0].as_str().unwrap_or_default(), daemon.ok(&["dumpxml", "--inactive", "dom"])?);
    ensure_eq!(xml.trim_end(), printed.trim_end(), "XML");
    // SECURE, INACTIVE, UPDATE_CPU and MIGRATABLE; the others are nobody's.
    ensure_eq!(domain("GetXMLDesc", &["u", "15"])?[0], xml, "XML with all flags");
    let other = domain("GetXMLDesc", &["u", "16"]);
    ensure!(other.clone().is_err_and(|e| e.contains("unsupported flags (0x10)")), "another flag: {other:?}");
    domain("SetMemory", &["tu", "131072", "2"])?;
    ensure!(daemon.ok(&["dumpxml", "dom"])?.contains("131072"), "the memory was not set");
    domain("SetMemoryParameters", &["a{sv}u", "1", "soft_limit", "t", "65536", "2"])?;
    let limits = domain("GetMemoryParameters", &["u", "2"])?;
    // Two wrappers, as libvirt-dbus has them.
    ensure_eq!(limits[0]["soft_limit"]["data"]["data"], 65536, "soft_limit in {limits}");
    domain("SetSchedulerParameters", &["a{sv}u", "1", "cpu_shares", "t", "512", "2"])?;
    let shares = domain("GetSchedulerParameters", &["u", "2"])?;
    ensure_eq!(shares[0]["cpu_shares"]["data"]["data"], 512, "cpu_shares");
    // VIR_DOMAIN_VCPU_HOTPLUGGABLE changes nothing.
    domain("SetVcpus", &["uu", "1", "18"])?;
    domain("SetMetadata", &["isssu", "1", "A title", "", "", "2"])?;
    ensure_eq!(domain("GetMetadata", &["isu", "1", "", "2"])?[0], "A title", "the title");
    let stats = domain("GetStats", &["uu", "1", "0"])?;
    ensure_eq!(stats[0]["state.state"]["data"]["data"], 5, "state in {stats}");
    bus.run(&["set-property", "org.libvirt", &path, "org.libvirt.Domain", "Autostart", "b", "true"])?;
    ensure!(daemon.ok(&["dominfo", "dom"])?.contains("enable"), "autostart was not set");
    for method in ["GetCapabilities", "NodeGetFreeMemory", "NodeGetSecurityModel"] {
        bus.call(HOST, "Connect", method, &[]).map_err(|e| format!("{method}: {e}"))?;
    }
    let memory = bus.call(HOST, "Connect", "NodeGetMemoryStats", &["iu", "-1", "0"])?;
    ensure!(memory[0]["total"].as_u64() > Some(0), "memory of the host: {memory}");
    // Hosts without the one or the other say so.
    match bus.call(HOST, "Connect", "NodeGetMemoryParameters", &["u", "0"]) {
        Ok(now) => ensure!(now[0]["shm_pages_to_scan"]["data"]["data"].is_u64(), "KSM: {now}"),
        Err(e) => ensure!(e.contains("this kernel does not merge equal pages"), "KSM: {e}"),
    }
    match bus.call(HOST, "Connect", "GetSysinfo", &["u", "0"]) {
        Ok(xml) => {
            ensure!(xml[0].as_str().is_some_and(|x| x.starts_with("<sysinfo type='smbios'>")), "{xml}")
        }
        Err(e) => ensure!(e.contains("Host SMBIOS information is not available"), "SMBIOS: {e}"),
    }
    // Nobody writes lines of their own.
    domain("SetMetadata", &["isssu", "2", "<a/>", "k", "urn:x\nforged", "2"])?;
    ensure!(daemon.log().contains("urn:x\\nforged"), "the change is not told: {}", daemon.log());
    domain("Undefine", &["u", "0"])?;
    ensure_eq!(daemon.ok(&["list", "--all", "--name"])?.trim(), "", "the list");
    // What is made has no name before, and what is removed has none afterwards.
    for operation in ["Define", "SetMetadata", "Undefine"] {
        let line = format!("by D-Bus: io.berth.Domain.{operation} of 'dom': done");
        ensure!(daemon.log().contains(&line), "no '{line}' in {}", daemon.log());
    }
    // The same by another client's library.
    let gdbus = ["call", "--address", &bus.address(), "--dest", "org.libvirt", "--object-path", HOST];
    let listed = run(std::process::Command::new("gdbus").args(gdbus).args([
        "--method",
        "org.libvirt.Connect.ListDomains",
        "0",
    ]))?;
    ensure_eq!(listed.trim(), "(@ao [],)", "gdbus");
    Ok(())
}

const LAB: &str = "<network><name>lab</name><uuid>5d2e7b0a-6f5b-4b36-9d3b-3c1f0a7e4c11</uuid><bridge name='lab0'/>\
                   <ip address='10.20.0.1' prefix='24'><dhcp><range start='10.20.0.10' end='10.20.0.20'/></dhcp>\
                   </ip></network>";

fn networks() -> Outcome {
    let (daemon, bus) = Bus::with_daemon()?;
    daemon.ok(&["net-undefine", "default"])?;
    let watch = bus.watch()?;
    let defined = bus.call(HOST, "Connect", "NetworkDefineXML", &["s", LAB])?;
    let path = format!("{HOST}/network/_5d2e7b0a_6f5b_4b36_9d3b_3c1f0a7e4c11");
    ensure_eq!(defined[0], path.as_str(), "the path");
    ensure_eq!(watch.signal("NetworkEvent", |_| true)?.1, serde_json::json!([path, 0]), "the event");
    ensure_eq!(bus.network("lab")?, path, "by name");
    let uuid = "5d2e7b0a-6f5b-4b36-9d3b-3c1f0a7e4c11";
    let by_uuid = bus.call(HOST, "Connect", "NetworkLookupByUUID", &["s", uuid])?;
    ensure_eq!(by_uuid[0], path.as_str(), "by uuid");
    for (flags, count) in [("0", 1), ("1", 1), ("2", 0), ("4", 1), ("8", 0), ("16", 0), ("32", 1), ("34", 0)]
    {
        let listed = bus.call(HOST, "Connect", "ListNetworks", &["u", flags])?;
        ensure_eq!(listed[0].as_array().map(Vec::len), Some(count), "with flags {flags}");
    }
    for (name, value) in [
        ("Active", "b false".to_owned()),
        ("Autostart", "b false".into()),
        ("Name", "s \"lab\"".into()),
        ("Persistent", "b true".into()),
        ("UUID", format!("s \"{uuid}\"")),
    ] {
        ensure_eq!(bus.property(&path, "Network", name)?, value, "{name}");
    }
    bus.run(&["set-property", "org.libvirt", &path, "org.libvirt.Network", "Autostart", "b", "true"])?;
    let (whose, changed) = watch.signal("PropertiesChanged", |d| d[0] == "org.libvirt.Network")?;
    ensure_eq!((whose, &changed[1]["Autostart"]["data"]), (path.clone(), &true.into()), "what changed");
    ensure!(daemon.ok(&["net-info", "lab"])?.contains("Autostart:      yes"), "autostart was not set");
    let network = |method: &str, words: &[&str]| bus.call(&path, "Network", method, words);
    let host = "<host mac='52:54:00:00:00:07' ip='10.20.0.7'/>";
    network("Update", &["uuisu", "3", "4", "-1", host, "2"])?;
    let xml = network("GetXMLDesc", &["u", "0"])?;
    ensure!(xml[0].as_str().is_some_and(|x| x.contains("52:54:00:00:00:07")), "the host is not in {xml}");
    ensure_eq!(xml[0].as_str().map(str::trim), Some(daemon.ok(&["net-dumpxml", "lab"])?.trim()), "XML");
    ensure_eq!(network("GetDHCPLeases", &["su", "", "0"])?, serde_json::json!([[]]), "leases");
    network("Undefine", &[])?;
    for operation in ["Define", "Undefine"] {
        let line = format!("by D-Bus: io.berth.Network.{operation} of 'lab': done");
        ensure!(daemon.log().contains(&line), "no '{line}' in {}", daemon.log());
    }
    // That a part was changed is no event.
    let told = watch.signals("NetworkEvent", |d| d[1] == 1)?;
    ensure_eq!(told, [serde_json::json!([path, 1])], "events");
    ensure_eq!(bus.call(HOST, "Connect", "ListNetworks", &["u", "0"])?, serde_json::json!([[]]), "the list");
    Ok(())
}

/// Name and message of an error, as `gdbus` prints them.
fn refused(bus: &Bus, path: &str, method: &str, words: &[&str]) -> Result<String, String> {
    let mut command = std::process::Command::new("gdbus");
    command.args(["call", "--address", &bus.address(), "--dest", "org.libvirt", "--object-path", path]);
    match run(command.args(["--method", method]).args(words)) {
        Ok(text) => Err(format!("{method} {words:?} was not refused: {text}")),
        Err(message) => Ok(message),
    }
}

fn errors() -> Outcome {
    let (daemon, bus) = Bus::with_daemon()?;
    daemon.define("dom", &plain("dom"))?;
    let path = bus.domain("dom")?;
    let network = bus.network("default")?;
    let gone = format!("{HOST}/domain/_00000000_0000_0000_0000_000000000001");
    for (path, method, words, says) in [
        (
            HOST,
            "org.libvirt.Connect.DomainLookupByName",
            &["no"][..],
            "org.libvirt.Error: Domain not found: ",
        ),
        (
            HOST,
            "org.libvirt.Connect.DomainLookupByUUID",
            &["xx"],
            "org.libvirt.Error: invalid argument: uuidstr in virDomainLookupByUUIDString must be a valid UUID",
        ),
        (
            HOST,
            "org.libvirt.Connect.DomainLookupByUUID",
            &["00000000-0000-0000-0000-000000000001"],
            "org.libvirt.Error: Domain not found: no domain with matching uuid '00000000-",
        ),
        (
            HOST,
            "org.libvirt.Connect.NetworkLookupByUUID",
            &["xx"],
            "org.libvirt.Error: invalid argument: uuidstr in virNetworkLookupByUUIDString must be a valid UUID",
        ),
        (
            HOST,
            "org.libvirt.Connect.DomainDefineXML",
            &["<domain type='kvm'><name>k</name></domain>"],
            "org.libvirt.Error: XML error: line 1, column 9: <domain>: type 'kvm' is not 'lxc' (and 3 more)",
        ),
        (HOST, "org.libvirt.Connect.DomainDefineXML", &["<x/>"], "org.libvirt.Error: XML error: "),
        (
            HOST,
            "org.libvirt.Connect.ListDomains",
            &["65536"],
            "org.libvirt.Error: unsupported flags (0x10000)",
        ),
        (&gone, "org.libvirt.Domain.GetState", &["0"], "org.libvirt.Error: Domain not found: "),
        (
            &path,
            "org.libvirt.Domain.Destroy",
            &["0"],
            "org.libvirt.Error: Requested operation is not valid: ",
        ),
        (&path, "org.libvirt.Domain.Create", &["1"], "org.libvirt.Error: unsupported flags (0x1)"),
        (
            &path,
            "org.libvirt.Domain.SetMemory",
            &["0", "0"],
            "org.libvirt.Error: invalid argument: memory must be more than 0",
        ),
        (
            &path,
            "org.libvirt.Domain.SetVcpus",
            &["0", "2"],
            "org.libvirt.Error: invalid argument: number of virtual CPUs must be more than 0",
        ),
        (
            &path,
            "org.libvirt.Domain.SetBlockIOParameters",
            &["{'weight': <uint32 5>}", "2"],
            "org.libvirt.Error: invalid argument: weight '5' is not a number from 10 to 1000",
        ),
        (
            &path,
            "org.libvirt.Domain.SetSchedulerParameters",
            &["{'vcpu_period': <uint64 5>}", "2"],
            "org.libvirt.Error: invalid argument: vcpu_period '5' is not a number from 1000 to 1000000",
        ),
        (
            &path,
            "org.libvirt.Domain.SetMetadata",
            &["2", "<a/>", "", "", "2"],
            "org.libvirt.Error: invalid argument: parameter 'uri' is missing",
        ),
        (
            &path,
            "org.libvirt.Domain.SetMetadata",
            &["2", "<a/>", "", "urn:x", "2"],
            "org.libvirt.Error: invalid argument: parameter 'key' is missing",
        ),
        (
            &path,
            "org.libvirt.Domain.SetMetadata",
            &["1", "two\nlines", "", "", "2"],
            "org.libvirt.Error: invalid argument: metadata title can't contain newlines",
        ),
        (
            &path,
            "org.libvirt.Domain.SetMetadata",
            &["0", "text", "k", "urn:x", "0"],
            "org.libvirt.Error: invalid argument: uri in virDomainSetMetadata must be NULL",
        ),
        (
            &path,
            "org.libvirt.Domain.SetMetadata",
            &["1", "text", "k", "", "0"],
            "org.libvirt.Error: invalid argument: key in virDomainSetMetadata must be NULL",
        ),
        (
            &path,
            "org.libvirt.Domain.GetMetadata",
            &["0", "urn:x", "2"],
            "org.libvirt.Error: invalid argument: uri in virDomainGetMetadata must be NULL",
        ),
        (
            &path,
            "org.libvirt.Domain.SetMemory",
            &["999999999", "2"],
            "org.libvirt.Error: invalid argument: cannot set memory higher than max memory",
        ),
        (
            &path,
            "org.libvirt.Domain.SetMemoryParameters",
            &["{'hard_limit': <uint64 65536>, 'swap_hard_limit': <uint64 65535>}", "2"],
            "org.libvirt.Error: invalid argument: memory hard_limit tunable value must be lower than or equal to \
             swap_hard_limit",
        ),
        (
            &path,
            "org.libvirt.Domain.SetSchedulerParameters",
            &["{'cpu_shares': <uint64 18446744073709551615>}", "2"],
            "org.libvirt.Error: invalid argument: parameter 'cpu_shares' is out of range: 18446744073709551615",
        ),
        (&path, "org.libvirt.Domain.OpenGraphicsFD", &[], "UnknownMethod"),
        (
            HOST,
            "org.libvirt.Connect.DomainLookupByID",
            &["--", "-1"],
            "org.libvirt.Error: invalid argument: id in virDomainLookupByID must be zero or greater",
        ),
        (
            &path,
            "org.libvirt.Domain.SetSchedulerParameters",
            &["{'cpu_shares': <int64 -1>}", "2"],
            "org.libvirt.Error: invalid argument: parameter 'cpu_shares' must not be negative",
        ),
        (
            &path,
            "org.libvirt.Domain.SetMemoryParameters",
            &["{'hard_limit': <int64 -1>}", "2"],
            "org.libvirt.Error: invalid argument: parameter 'hard_limit' must not be negative",
        ),
        (
            &path,
            "org.libvirt.Domain.SetMemoryParameters",
            &["@a{sv} {}", "2"],
            "org.libvirt.Error: invalid argument: params in virDomainSetMemoryParameters must not be NULL",
        ),
        (
            HOST,
            "org.libvirt.Connect.NodeSetMemoryParameters",
            &["{'shm_full_scans': <uint64 1>}", "0"],
            "org.libvirt.Error: invalid argument: parameter 'shm_full_scans' not supported",
        ),
        (
            HOST,
            "org.libvirt.Connect.NodeSetMemoryParameters",
            &["{'shm_merge_across_nodes': <uint32 2>}", "0"],
            "org.libvirt.Error: invalid argument: parameter 'shm_merge_across_nodes' must be 0 or 1",
        ),
        (
            &network,
            "org.libvirt.Network.GetDHCPLeases",
            &["zz", "0"],
            "org.libvirt.Error: invalid MAC address: zz",
        ),
        (&path, "org.libvirt.Network.Create", &[], "UnknownInterface"),
        (
            HOST,
            "org.libvirt.Connect.NetworkLookupByName",
            &["no"],
            "org.libvirt.Error: Network not found: no network with matching name 'no'",
        ),
        (
            &network,
            "org.libvirt.Network.Destroy",
            &[],
            "org.libvirt.Error: Requested operation is not valid: network 'default' is not active",
        ),
        (&network, "org.libvirt.Network.GetXMLDesc", &["2"], "org.libvirt.Error: unsupported flags (0x2)"),
        ("/org/libvirt/QEMU", "org.libvirt.Connect.ListDomains", &["0"], "UnknownObject"),
    ] {
        let message = refused(&bus, path, method, words)?;
        ensure!(message.contains(says), "{method} {words:?}: '{says}' is not in '{message}'");
    }
    // Nobody reads a hundred thousand letters, and a line of a log ends at a control character.
    let long = "x".repeat(100_000);
    for (path, method, words) in [
        (HOST, "org.libvirt.Connect.DomainLookupByName", &[long.as_str()][..]),
        (HOST, "org.libvirt.Connect.DomainDefineXML", &[&format!("<domain type='{long}'/>")]),
        (HOST, "org.libvirt.Connect.NetworkLookupByName", &[&long]),
        (&path, "org.libvirt.Domain.GetInterfaceParameters", &[&long, "0"]),
        (&path, "org.libvirt.Domain.SetMemoryParameters", &[&format!("{{'{long}': <1>}}"), "2"]),
        (&path, "org.libvirt.Domain.AttachDevice", &[&format!("<{long}/>"), "2"]),
        (&network, "org.libvirt.Network.GetDHCPLeases", &[&long, "0"]),
        (HOST, "org.freedesktop.DBus.Properties.Get", &["org.libvirt.Connect", &long]),
    ] {
        let message = refused(&bus, path, method, words)?;
        ensure!(message.contains("xxxx…"), "{method}: {message}");
        ensure!(message.len() < 1000, "{method} says {} bytes", message.len());
    }
    let lines = refused(&bus, HOST, "org.libvirt.Connect.DomainLookupByName", &["a\nforged\u{1b}[2J"])?;
    ensure!(lines.contains("'a\\nforged\\u{1b}[2J'"), "a name of two lines: {lines}");
    let longest = daemon.log().lines().map(str::len).max();
    ensure!(longest < Some(1500), "a line of the log has {longest:?} bytes");
    // Who asked for what, and what became of it; not who looked.
    let told = format!(
        "user {}, process {{}}, by D-Bus: io.berth.Domain.Destroy of 'dom': Requested operation is not valid: ",
        nix::unistd::geteuid()
    );
    let (before, after) = told.split_once("{}").unwrap_or_default();
    let log = daemon.log();
    let is_told = |l: &str| l.split_once(before).is_some_and(|(_, rest)| rest.contains(after));
    ensure!(log.lines().any(is_told), "the log does not tell of it: {log}");
    ensure!(!log.contains("by D-Bus: io.berth.Domain.List"), "the log tells who looked: {log}");
    never_set(&daemon, &bus, &path)?;
    let wrong = bus.call(&path, "Domain", "GetState", &["s", "x"]);
    ensure!(wrong.clone().is_err_and(|e| e.contains("'u'")), "a parameter of another type: {wrong:?}");
    let read_only = bus.run(&["set-property", "org.libvirt", &path, "org.libvirt.Domain", "Name", "s", "x"]);
    ensure!(read_only.is_err_and(|e| e.contains("cannot be set")), "a property that cannot be set");
    Ok(())
}

const NIC: &str = "<interface type='bridge'><source bridge='br0'/><mac address='52:54:00:00:00:01'/><target dev='a0'/>\
                   <bandwidth><outbound average='7' burst='9'/></bandwidth></interface>";

fn interface_limits() -> Outcome {
    let (daemon, bus) = Bus::with_daemon()?;
    daemon.define("dom", &plain("dom").replace("</devices>", &format!("{NIC}</devices>")))?;
    let path = bus.domain("dom")?;
    let get = |device: &str, flags: &str| {
        let answer = bus.call(&path, "Domain", "GetInterfaceParameters", &["su", device, flags])?;
        let of = |name: &str| {
            // Two wrappers, and libvirt's type.
            ensure_eq!(answer[0][name]["data"]["type"], "u", "the type of {name} in {answer}");
            Ok::<_, String>(answer[0][name]["data"]["data"].as_i64().unwrap_or(-1))
        };
        let names = ["inbound.average", "inbound.peak", "inbound.burst", "inbound.floor"];
        let all: Result<Vec<i64>, String> = names
            .into_iter()
            .chain(["outbound.average", "outbound.peak", "outbound.burst"])
            .map(of)
            .collect();
        ensure_eq!(answer[0].as_object().map(serde_json::Map::len), Some(7), "the parameters of {answer}");
        all
    };
    // By its name and by its hardware address, of what is meant and of the definition.
    for (device, flags) in [("a0", "0"), ("52:54:00:00:00:01", "0"), ("a0", "2"), ("a0", "4")] {
        ensure_eq!(get(device, flags)?, [0, 0, 0, 0, 7, 0, 9], "of {device} with flags {flags}");
    }
    let set = |words: &[&str]| {
        let all = [&["sa{sv}u", "a0"][..], words].concat();
        bus.call(&path, "Domain", "SetInterfaceParameters", &all).map(drop)
    };
    set(&["2", "inbound.average", "u", "100", "inbound.peak", "u", "200", "0"])?;
    ensure_eq!(get("a0", "0")?, [100, 200, 0, 0, 7, 0, 9], "after a change of one direction");
    // Neither an average nor a floor: nothing is said of the direction.
    set(&["1", "inbound.peak", "u", "0", "0"])?;
    ensure_eq!(get("a0", "0")?, [100, 200, 0, 0, 7, 0, 9], "after a peak of nothing");
    set(&["2", "outbound.average", "u", "0", "inbound.floor", "t", "5", "2"])?;
    ensure_eq!(get("a0", "2")?, [0, 0, 0, 5, 0, 0, 0], "after a floor alone and no limit");
    let xml = daemon.ok(&["dumpxml", "dom"])?;
    ensure!(xml.contains("<inbound floor='5'/>") && !xml.contains("<outbound"), "the document: {xml}");
    let done = "by D-Bus: io.berth.Domain.TuneInterface of 'dom': done";
    ensure_eq!(daemon.log().matches(done).count(), 3, "changes that the log tells");
    let get = |device: &'static str, flags: &'static str| ("Get", vec![device, flags]);
    let set =
        |device: &'static str, given: &'static str, flags: &'static str| ("Set", vec![device, given, flags]);
    for ((method, words), says) in [
        (get("a1", "0"), "invalid argument: Can't find device a1"),
        (get("", "0"), "invalid argument: Can't find device"),
        (get("a0", "1"), "Requested operation is not valid: domain is not running"),
        (get("a0", "3"), "in virDomainGetInterfaceParameters are mutually exclusive"),
        (get("a0", "8"), "unsupported flags (0x8) in function virDomainGetInterfaceParameters"),
        (
            set("a0", "@a{sv} {}", "2"),
            "invalid argument: params in virDomainSetInterfaceParameters must not be NULL",
        ),
        (set("a1", "{'inbound.average': <uint32 1>}", "2"), "invalid argument: Can't find device a1"),
        (set("a0", "{'inbound.average': <uint32 1>}", "1"), "Requested operation is not valid: "),
        (set("a0", "{'inbound.average': <uint32 1>}", "3"), "Requested operation is not valid: "),
        (set("a0", "{'inbound.average': <uint32 1>}", "4"), "unsupported flags (0x4)"),
        (set("a0", "{'outbound.floor': <uint32 1>}", "2"), "parameter 'outbound.floor' not supported"),
        (set("a0", "{'inbound.average': <'x'>}", "2"), "parameter 'inbound.average' must be a number"),
        (set("a0", "{'inbound.average': <1.5>}", "2"), "parameter 'inbound.average' must be a number"),
        (
            set("a0", "{'inbound.average': <-1>}", "2"),
            "invalid argument: inbound.average is not a number from 0 to 4294967295",
        ),
        (
            set("a0", "{'inbound.average': <uint64 4294967296>}", "2"),
            "invalid argument: inbound.average is not a number from 0 to 4294967295",
        ),
        (set("a0", "{'inbound.burst': <uint32 1>}", "2"), "is mandatory with a peak or a burst"),
    ] {
        let method = format!("org.libvirt.Domain.{method}InterfaceParameters");
        let message = refused(&bus, &path, &method, &words)?;
        ensure!(message.contains(says), "{method} {words:?}: '{says}' is not in '{message}'");
        ensure!(message.contains("org.libvirt.Error: "), "the name of the error in '{message}'");
    }
    Ok(())
}

fn pinned() -> Outcome {
    let (daemon, bus) = Bus::with_daemon()?;
    daemon.define("dom", &plain("dom").replace("<memory", "<vcpu current='2'>3</vcpu><memory"))?;
    let path = bus.domain("dom")?;
    let host = bus.call(HOST, "Connect", "NodeGetCPUMap", &["u", "0"])?;
    let count = host[0].as_array().map_or(0, Vec::len);
    let get = |flags: &str| bus.call(&path, "Domain", "GetVcpuPinInfo", &["u", flags]);
    let all = vec![true; count];
    ensure_eq!(get("0")?, serde_json::json!([[all, all]]), "before");
    let pin = |vcpu: &str, map: &[&str], flags: &str| {
        let places = map.len().to_string();
        let words = [&["uabu", vcpu, &places][..], map, &[flags]].concat();
        bus.call(&path, "Domain", "PinVcpu", &words).map(drop)
    };
    // One that is not used yet counts, as with libvirt; the set is that of all.
    pin("2", &["true"], "2")?;
    let mut one = vec![false; count];
    one[0] = true;
    ensure_eq!(get("2")?, serde_json::json!([[one, one]]), "pinned");
    ensure!(daemon.ok(&["dumpxml", "dom"])?.contains("cpuset='0'"), "the document");
    let (more, whole) = (vec!["true"; count + 1], vec!["true"; count]);
    pin("0", &more, "0")?;
    ensure!(!daemon.ok(&["dumpxml", "dom"])?.contains("cpuset"), "all of the host's are no set");
    pin("0", &whole, "0")?;
    ensure_eq!(get("0")?, serde_json::json!([[all, all]]), "afterwards");
    for (words, says) in [
        (["0", "@ab []", "2"], "invalid argument: cpumap in virDomainPinVcpuFlags must not be NULL"),
        (["0", "[false]", "2"], "invalid argument: Empty cpu list for pinning"),
        (["3", "[true]", "2"], "invalid argument: vcpu 3 is out of range of persistent cpu count 3"),
        (["0", "[true]", "1"], "Requested operation is not valid: domain is not running"),
        (["0", "[true]", "4"], "unsupported flags (0x4) in function virDomainPinVcpuFlags"),
    ] {
        let message = refused(&bus, &path, "org.libvirt.Domain.PinVcpu", &words)?;
        ensure!(message.contains(says), "{words:?}: '{says}' is not in '{message}'");
    }
    for (flags, says) in [("1", "domain is not running"), ("3", "mutually exclusive"), ("8", "(0x8)")] {
        let message = refused(&bus, &path, "org.libvirt.Domain.GetVcpuPinInfo", &[flags])?;
        ensure!(message.contains(says), "flags {flags}: '{says}' is not in '{message}'");
    }
    Ok(())
}

/// What cannot be set is refused, and told as what was called.
fn never_set(daemon: &Daemon, bus: &Bus, domain: &str) -> Outcome {
    let set = |path: &str, interface: &str, property: &[&str]| {
        bus.run(&[&["set-property", "org.libvirt", path, interface], property].concat()).err()
    };
    let connect = "org.libvirt.Connect";
    let read_only = set(HOST, connect, &["Hostname", "s", "x"]).unwrap_or_default();
    ensure!(read_only.contains("property 'Hostname' cannot be set"), "a property of the host: {read_only}");
    set(domain, "org.libvirt.Domain", &["Name", "s", "x"]);
    set(domain, "io.berth.Domain", &["Autostart", "b", "true"]);
    set(domain, "org.libvirt.Domain", &["Autostart", "s", "x"]);
    let log = daemon.log();
    for line in [
        "by D-Bus: org.freedesktop.DBus.Properties.Set: property 'Hostname' cannot be set",
        "by D-Bus: org.freedesktop.DBus.Properties.Set of 'dom': property 'Name' cannot be set",
        "by D-Bus: org.freedesktop.DBus.Properties.Set of 'dom': no such property 'Autostart' in 'io.berth.Domain'",
        "by D-Bus: io.berth.Domain.SetAutostart of 'dom': property 'Autostart' is a boolean",
    ] {
        ensure!(log.contains(line), "no '{line}' in {log}");
    }
    ensure_eq!(log.matches("SetAutostart").count(), 1, "as what it was told in {log}");
    Ok(())
}

fn signals() -> Outcome {
    let (daemon, bus) = Bus::with_daemon()?;
    let watch = bus.watch()?;
    daemon.define("dom", &plain("dom"))?;
    let domain = bus.domain("dom")?;
    let about = |number: i64, detail: i64| serde_json::json!([domain, number, detail]);
    let (path, _) = watch.signal("DomainEvent", |d| *d == about(0, 0))?;
    ensure_eq!(path, HOST, "where an event comes from");
    daemon.ok(&["autostart", "dom"])?;
    let (path, changed) = watch.signal("PropertiesChanged", |d| d[0] == "org.libvirt.Domain")?;
    ensure_eq!(path, domain, "whose properties");
    ensure_eq!(changed[1]["Autostart"]["data"], true, "Autostart in {changed}");
    for (change, told) in [
        (&["desc", "dom", "--config", "new"][..], serde_json::json!([0, ""])),
        (&["desc", "dom", "--config", "--title", "new"], serde_json::json!([1, ""])),
        // The same once more is a change too, as it is with libvirt.
        (&["desc", "dom", "--config", "--title", "new"], serde_json::json!([1, ""])),
        (
            &["metadata", "dom", "--config", "urn:a", "--key", "a", "--set", "<b/>"],
            serde_json::json!([2, "urn:a"]),
        ),
    ] {
        daemon.ok(change)?;
        watch.signal("MetadataChange", |d| *d == told)?;
        let part = ["description", "title", "element"].into_iter().zip(0..).find(|(_, n)| told[0] == *n);
        let part = part.map(|(word, _)| word);
        watch.signal("Event", |d| d[2] == "metadata" && d[4]["metadata"]["data"].as_str() == part)?;
    }
    daemon.define("dom", &plain("dom").replace("256", "128"))?;
    watch.signal("DomainEvent", |d| *d == about(0, 1))?;
    let (path, event) = watch.signal("Event", |d| d[2] == "defined")?;
    ensure_eq!((path, event[4]["name"]["data"].as_str()), (domain.clone(), Some("dom")), "an event of ours");
    daemon.ok(&["undefine", "dom"])?;
    watch.signal("DomainEvent", |d| *d == about(1, 0)).map(drop)
}

fn bus_restarts() -> Outcome {
    let (daemon, mut bus) = Bus::with_daemon()?;
    daemon.define("dom", &plain("dom"))?;
    bus.domain("dom")?;
    for _ in 0..2 {
        bus.kill();
        ensure!(daemon.ok(&["list", "--all"])?.contains("dom"), "without a bus the daemon does not answer");
        bus.launch()?;
        bus.daemon_there()?;
        bus.domain("dom")?;
    }
    // One that hangs.
    kill(Pid::from_raw(bus.pid()), Signal::SIGSTOP).map_err(|e| e.to_string())?;
    for n in 0..300 {
        daemon.ok(&[if n % 2 == 0 { "autostart" } else { "autostart --disable" }, "dom"]
            .join(" ")
            .split(' ')
            .collect::<Vec<_>>())?;
    }
    ensure!(
        daemon.ok(&["list", "--all"])?.contains("dom"),
        "with a bus that hangs the daemon does not answer"
    );
    kill(Pid::from_raw(bus.pid()), Signal::SIGCONT).map_err(|e| e.to_string())?;
    bus.daemon_there()
}

/// And does not go by a signal.
fn tool_ends() -> Outcome {
    let (daemon, mut bus) = Bus::with_daemon()?;
    daemon.define("dom", &plain("dom"))?;
    // Debian's own interpreter, whatever else is first on PATH.
    let mut tool = std::process::Command::new("/usr/bin/python3");
    tool.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/desktop.py")).arg("--watch");
    tool.env("DBUS_SYSTEM_BUS_ADDRESS", bus.address());
    tool.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = tool.spawn().map_err(|e| format!("cannot run the desktop tool: {e}"))?;
    let out = child.stdout.as_mut().ok_or("no output")?;
    let mut line = String::new();
    let listed = std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line);
    bus.kill();
    let ended = child.wait_with_output().map_err(|e| format!("the desktop tool: {e}"))?;
    listed.map_err(|e| format!("the list: {e}"))?;
    ensure_eq!(line, "dom: shut off\n", "the list");
    ensure_eq!(ended.status.code(), Some(1), "how it ended");
    ensure_eq!(String::from_utf8_lossy(&ended.stderr), "the bus has ended\n", "what it says");
    Ok(())
}

/// More changes than are remembered, while the bus takes nothing.
fn missed() -> Outcome {
    let (mut daemon, bus) = Bus::with_daemon()?;
    daemon.define("dom", &plain("dom"))?;
    daemon.define("other", &plain("other"))?;
    let other = bus.domain("other")?;
    let watch = bus.watch()?;
    kill(Pid::from_raw(bus.pid()), Signal::SIGSTOP).map_err(|e| e.to_string())?;
    let many = |count: usize| {
        let both = ["autostart dom", "autostart --disable dom"];
        daemon.ok(&[&both.repeat(count / 2).join("; ")]).map(drop)
    };
    // These fill the way to the bus, and the later ones make that the one in between is forgotten.
    let changed =
        many(1500).and_then(|()| daemon.ok(&["autostart", "other"]).map(drop)).and_then(|()| many(1500));
    kill(Pid::from_raw(bus.pid()), Signal::SIGCONT).map_err(|e| e.to_string())?;
    changed?;
    let told = std::cell::Cell::new(0);
    let is_on = |d: &serde_json::Value| {
        told.set(told.get() + 1);
        d[1]["Autostart"]["data"] == true
    };
    while watch.signal("PropertiesChanged", is_on).map_err(|e| format!("the other domain's: {e}"))?.0 != other
    {
    }
    ensure!(told.get() < 3000, "nothing was missed: {} changes were told", told.get());
    daemon.stop()
}

/// Another bus, to which the daemon comes when somebody looks there.
fn looked_at_again(daemon: &Daemon, bus: &mut Bus) -> Result<Watch, String> {
    let pid = Pid::from_raw(daemon.pid());
    kill(pid, Signal::SIGSTOP).map_err(|e| e.to_string())?;
    let watch = bus.launch().and_then(|()| bus.watch());
    kill(pid, Signal::SIGCONT).map_err(|e| e.to_string())?;
    let watch = watch?;
    bus.daemon_there()?;
    Ok(watch)
}

fn told_late() -> Outcome {
    let (daemon, mut bus) = Bus::with_daemon()?;
    daemon.define("before", &plain("before"))?;
    let watch = bus.watch()?;
    daemon.define("mark", &plain("mark"))?;
    let is_of = |name: &'static str| move |d: &serde_json::Value| d[4]["name"]["data"] == name;
    let (_, last) = watch.signal("Event", is_of("mark"))?;
    drop(watch);
    bus.kill();
    daemon.define("meanwhile", &plain("meanwhile"))?;
    daemon.ok(&["undefine", "meanwhile"])?;
    let watch = looked_at_again(&daemon, &mut bus)?;
    daemon.define("after", &plain("after"))?;
    let told = watch.signals("Event", is_of("after"))?;
    let said: Vec<_> =
        told.iter().map(|d| (d[4]["name"]["data"].as_str().unwrap_or_default(), d[2].clone())).collect();
    ensure_eq!(
        said,
        [("meanwhile", "defined".into()), ("meanwhile", "undefined".into()), ("after", "defined".into())],
        "what was told"
    );
    let numbers: Vec<_> = told.iter().map(|d| d[0].as_i64()).collect();
    let wanted: Vec<_> = (1..=3).map(|n| last[0].as_i64().map(|l| l + n)).collect();
    ensure_eq!(numbers, wanted, "the numbers");
    Ok(())
}

/// The same of networks.
fn networks_late() -> Outcome {
    let (daemon, mut bus) = Bus::with_daemon()?;
    let path = format!("{HOST}/network/_5d2e7b0a_6f5b_4b36_9d3b_3c1f0a7e4c11");
    let watch = bus.watch()?;
    let file = daemon.file("lab.xml", LAB)?;
    daemon.ok(&["net-define", &file])?;
    watch.signal("NetworkEvent", |d| *d == serde_json::json!([path, 0]))?;
    drop(watch);
    bus.kill();
    daemon.ok(&["net-undefine", "lab"])?;
    daemon.ok(&["net-undefine", "default"])?;
    let watch = looked_at_again(&daemon, &mut bus)?;
    daemon.ok(&["net-define", &file])?;
    let told = watch.signals("NetworkEvent", |d| d[1] == 0)?;
    let numbers: Vec<_> = told.iter().map(|d| (d[0] == path.as_str(), d[1].clone())).collect();
    // What the first bus has taken is not told again.
    ensure_eq!(numbers, [(true, 1.into()), (false, 1.into()), (true, 0.into())], "what was told: {told:?}");
    Ok(())
}

/// More than are remembered.
fn told_too_late() -> Outcome {
    let (daemon, mut bus) = Bus::with_daemon()?;
    bus.kill();
    let file = daemon.file("dom.xml", &plain("dom"))?;
    let both = format!("define {file}; undefine dom");
    daemon.ok(&[&vec![both; 600].join("; ")])?;
    bus.launch()?;
    let warning = "the bus was away: 176 events are not remembered and not told";
    wait_for("a warning", 15, || daemon.log().contains(warning).then_some(()))?;
    bus.daemon_there()
}

/// Whoever has the name until then, and whatever happened meanwhile.
fn told_by_name() -> Outcome {
    let mut daemon = Daemon::start()?;
    let bus = Bus::start(daemon.work())?;
    daemon.define("old", &plain("old"))?;
    daemon.kill();
    let other = Authority::start_as(&bus.address(), "org.libvirt")?;
    daemon.set_environment(&[("DBUS_SYSTEM_BUS_ADDRESS", &bus.address())]);
    daemon.launch()?;
    wait_for("a warning", 10, || daemon.log().contains("has another owner").then_some(()))?;
    let watch = bus.watch()?;
    daemon.define("dom", &plain("dom"))?;
    daemon.ok(&["undefine", "dom"])?;
    drop(other);
    // What came before the name became the daemon's would not be seen any more.
    watch.signal("NameOwnerChanged", |d| d[0] == "org.libvirt" && d[2] != "")?;
    for (number, name) in [(0, "defined"), (1, "undefined")] {
        let (_, about) = watch.signal("DomainEvent", |_| true)?;
        ensure_eq!(about[1], number, "the event {name}");
        let (_, event) = watch.signal("Event", |_| true)?;
        ensure_eq!((&event[2], &event[4]["name"]["data"]), (&name.into(), &"dom".into()), "an event");
    }
    Ok(())
}

/// The log ends with how it is.
fn name_waits() -> Outcome {
    let mut daemon = Daemon::start()?;
    let bus = Bus::start(daemon.work())?;
    daemon.kill();
    let other = Authority::start_as(&bus.address(), "org.libvirt")?;
    daemon.set_environment(&[("DBUS_SYSTEM_BUS_ADDRESS", &bus.address())]);
    daemon.launch()?;
    let warning = "the name 'org.libvirt' on the bus has another owner";
    let news = "on the bus as 'org.libvirt'";
    wait_for("a warning", 10, || daemon.log().contains(warning).then_some(()))?;
    ensure!(!daemon.log().contains(news), "two have the name: {}", daemon.log());
    drop(other);
    wait_for("the name", 10, || daemon.log().contains(news).then_some(()))?;
    bus.daemon_there()?;
    ensure!(daemon.log().rfind(warning) < daemon.log().rfind(news), "{}", daemon.log());
    Ok(())
}

/// However often it is asked; and when it has given the name, a next time begins anew.
fn name_refused() -> Outcome {
    let mut daemon = Daemon::start()?;
    let mut bus = Bus::start(daemon.work())?;
    daemon.kill();
    bus.kill();
    bus.set_policy("<deny own=\"org.libvirt\"/>")?;
    bus.launch()?;
    daemon.set_environment(&[("DBUS_SYSTEM_BUS_ADDRESS", &bus.address())]);
    daemon.launch()?;
    let told = || {
        let is_it = |l: &&str| l.contains("no D-Bus: cannot take the name 'org.libvirt'");
        daemon.log().lines().filter(is_it).map(str::to_owned).collect::<Vec<_>>()
    };
    wait_for("a warning", 10, || (!told().is_empty()).then_some(()))?;
    // Time for four attempts more.
    std::thread::sleep(std::time::Duration::from_millis(1700));
    let lines = told();
    ensure!(lines.len() == 1 && lines[0].contains("WARN"), "what the log tells: {lines:#?}");
    bus.kill();
    bus.set_policy("")?;
    bus.launch()?;
    bus.daemon_there()?;
    let ended = || daemon.log().matches("no D-Bus: the connection to the bus ended").count();
    // After the attempts so far the pauses were of seconds.
    let (before, begin) = (ended(), Instant::now());
    for n in 1..=2 {
        bus.kill();
        wait_for("the end of the connection", 10, || (ended() == before + n).then_some(()))?;
        bus.launch()?;
        bus.daemon_there()?;
    }
    ensure!(begin.elapsed() < patient(3), "it came back after {:?}", begin.elapsed());
    Ok(())
}

fn slow_client() -> Outcome {
    let (daemon, bus) = Bus::with_daemon()?;
    // Large answers, so that what nobody reads fills every buffer.
    let long = "x".repeat(200_000);
    daemon.define(
        "dom",
        &plain("dom").replace("</name>", &format!("</name><description>{long}</description>")),
    )?;
    let path = bus.domain("dom")?;
    let mut stuck = Vec::new();
    for _ in 0..8 {
        let mut command = bus.busctl();
        command.args(["call", "org.libvirt", &path, "org.libvirt.Domain", "GetXMLDesc", "u", "0"]);
        // The pipe is never read.
        stuck.push(command.stdout(std::process::Stdio::piped()).spawn().map_err(|e| e.to_string())?);
    }
    let watch = bus.watch()?;
    let stopped = bus.busctl().arg("monitor").stdout(std::process::Stdio::piped()).spawn();
    stuck.push(stopped.map_err(|e| e.to_string())?);
    for child in &stuck {
        let pid = i32::try_from(child.id()).map_err(|e| e.to_string())?;
        kill(Pid::from_raw(pid), Signal::SIGSTOP).map_err(|e| e.to_string())?;
    }
    let begin = Instant::now();
    for _ in 0..50 {
        bus.call(&path, "Domain", "GetXMLDesc", &["u", "0"])?;
    }
    daemon.ok(&["autostart", "dom"])?;
    let told = watch.signal("PropertiesChanged", |d| d[1]["Autostart"]["data"] == true).map(drop);
    for mut child in stuck {
        let _ = child.kill();
        let _ = child.wait();
    }
    ensure!(begin.elapsed() < patient(30), "calls took {:?}", begin.elapsed());
    told
}

fn thousand() -> Outcome {
    let (mut daemon, bus) = Bus::with_daemon()?;
    daemon.stop()?;
    let folder = daemon.root().join("etc/berth/domains");
    for n in 0..1000 {
        let name = format!("dom{n}");
        let uuid = format!("<uuid>00000000-0000-4000-8000-{n:012}</uuid></name>").replace("</name>", "");
        let xml = plain(&name).replace("</name>", &format!("</name>{uuid}"));
        fs::write(folder.join(format!("{name}.xml")), xml).map_err(|e| e.to_string())?;
    }
    daemon.launch()?;
    bus.daemon_there()?;
    let begin = Instant::now();
    let listed = bus.call(HOST, "Connect", "ListDomains", &["u", "0"])?;
    ensure_eq!(listed[0].as_array().map(Vec::len), Some(1000), "the list");
    let stats = bus.call(HOST, "Connect", "GetAllDomainStats", &["uu", "0", "0"])?;
    ensure_eq!(stats[0].as_array().map(Vec::len), Some(1000), "the figures");
    let shown = bus.run(&[
        "call",
        "org.libvirt",
        &format!("{HOST}/domain"),
        "org.freedesktop.DBus.Introspectable",
        "Introspect",
    ])?;
    ensure_eq!(shown.matches("<node name=").count(), 1000, "the folder of the domains");
    ensure!(begin.elapsed() < patient(5), "it took {:?}", begin.elapsed());
    Ok(())
}

fn off() -> Outcome {
    let mut daemon = Daemon::start()?;
    let bus = Bus::start(daemon.work())?;
    daemon.kill();
    daemon.set_environment(&[("DBUS_SYSTEM_BUS_ADDRESS", &bus.address())]);
    let file = daemon.file("none.toml", "[dbus]\nbus = \"none\"\n")?;
    daemon.set_arguments(&["--config", &file]);
    daemon.launch()?;
    std::thread::sleep(std::time::Duration::from_millis(500));
    let names = bus.run(&["list", "--no-legend"])?;
    ensure!(!names.contains("org.libvirt"), "it is on the bus: {names}");
    Ok(())
}

fn empty_address() -> Outcome {
    let mut daemon = Daemon::start_with(&[("DBUS_SYSTEM_BUS_ADDRESS", "")])?;
    std::thread::sleep(std::time::Duration::from_millis(500));
    daemon.stop()?;
    ensure!(!daemon.log().contains("D-Bus"), "it looks for a bus: {}", daemon.log());
    Ok(())
}
