//! Devices of definitions: the literal output of the commands that attach, detach, update and list them.

use berth_tests::daemon::{Daemon, Printed, domain_xml};
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq};

pub const TESTS: &[Test] = &[
    ("devices::print_what_virsh_prints", literal),
    ("devices::errors_are_virshs", errors),
    ("devices::disks_by_source_and_target", disks),
    ("devices::options_mean_definitions", options),
];

fn start() -> Result<Daemon, String> {
    let daemon = Daemon::start()?;
    daemon.define("dom", &domain_xml("dom", std::path::Path::new("/nonexistent"), &["/bin/sh"], ""))?;
    Ok(daemon)
}

fn printed(status: i32, out: &str, err: &str) -> Printed {
    Printed { status, out: out.into(), err: err.into() }
}

const DATA: &str = "<filesystem type='mount'><source dir='/srv/d'/><target dir='/data'/></filesystem>\n";

fn literal() -> Outcome {
    let daemon = start()?;
    let file = daemon.file("data.xml", DATA)?;
    let good = |text: &str| printed(0, &format!("{text}\n\n"), "");
    let run = |command: &str| daemon.virsh(&[command, "dom", &file, "--config"]);
    ensure_eq!(run("attach-device")?, good("Device attached successfully"), "attach-device");
    ensure!(daemon.ok(&["dumpxml", "dom"])?.contains("<target dir='/data'/>"), "it is not in the definition");
    let other = DATA.replace("</filesystem>", "<readonly/></filesystem>");
    daemon.file("data.xml", &other)?;
    ensure_eq!(run("update-device")?, good("Device updated successfully"), "update-device");
    ensure!(daemon.ok(&["dumpxml", "dom"])?.contains("<readonly/>"), "it was not updated");
    ensure_eq!(run("detach-device")?, good("Device detached successfully"), "detach-device");
    ensure!(!daemon.ok(&["dumpxml", "dom"])?.contains("/data"), "it is still in the definition");
    ensure_eq!(
        daemon.virsh(&["-q", "attach-device", "dom", &file, "--config"])?,
        printed(0, "", ""),
        "quiet"
    );
    Ok(())
}

fn errors() -> Outcome {
    let daemon = start()?;
    let file = daemon.file("data.xml", DATA)?;
    let run = |words: &[&str]| daemon.virsh(words);
    let failed = |verb: &str, why: &str| {
        printed(1, "\n", &format!("error: Failed to {verb} device from {file}\nerror: {why}\n"))
    };
    let off = "Requested operation is not valid: domain is not running";
    ensure_eq!(run(&["attach-device", "dom", &file])?, failed("attach", off), "without a word of what");
    ensure_eq!(
        run(&["attach-device", "dom", &file, "--live", "--config"])?,
        failed("attach", off),
        "--live --config"
    );
    ensure_eq!(run(&["detach-device", "dom", &file, "--live"])?, failed("detach", off), "--live");
    ensure_eq!(
        run(&["detach-device", "dom", &file, "--config"])?,
        failed("detach", "device not found: no filesystem with target /data"),
        "missing"
    );
    ensure_eq!(
        run(&["update-device", "dom", &file])?,
        failed("update", "device not found: no filesystem with target /data"),
        "missing"
    );
    run(&["attach-device", "dom", &file, "--config"])?.ok()?;
    ensure_eq!(
        run(&["attach-device", "dom", &file, "--config"])?,
        failed("attach", "Requested operation is not valid: target /data already exists"),
        "there"
    );
    ensure_eq!(
        run(&["attach-device", "dom", &file, "--live", "--current"])?.err,
        "error: Options --current and --live are mutually exclusive\n".to_owned(),
        "options"
    );
    ensure_eq!(
        run(&["attach-device", "nobody", &file, "--config"])?.err,
        "error: failed to get domain 'nobody'\n".to_owned(),
        "nobody"
    );
    let mouse = daemon.file("mouse.xml", "<input type='mouse'/>\n")?;
    let error = run(&["attach-device", "dom", &mouse, "--config"])?.fails()?;
    ensure!(error.starts_with(&format!("error: Failed to attach device from {mouse}\n")), "{error}");
    ensure!(
        error.contains("a device of this kind cannot be attached") && error.contains("mouse.xml:1:1"),
        "{error}"
    );
    let error = run(&["attach-device", "dom", "/no/such/file", "--config"])?.fails()?;
    ensure_eq!(
        error,
        "error: Failed to open file '/no/such/file': No such file or directory\n".to_owned(),
        "no file"
    );
    let error = run(&["-r", "attach-device", "dom", &file, "--config"])?.fails()?;
    ensure!(error.contains("read only access prevents virDomainAttachDeviceFlags"), "{error}");
    Ok(())
}

fn disks() -> Outcome {
    let daemon = start()?;
    let good = |text: &str| printed(0, &format!("{text}\n\n"), "");
    let words = [
        "attach-disk",
        "dom",
        "/srv/a&b.img",
        "vda",
        "--driver",
        "nbd",
        "--subdriver",
        "qcow2",
        "--mode",
        "readonly",
    ];
    let print: Vec<&str> = words.iter().copied().chain(["--print-xml", "--config"]).collect();
    ensure_eq!(
        daemon.virsh(&print)?.out,
        "<disk type='file'>\n  <driver name='nbd' type='qcow2'/>\n  <source file='/srv/a&amp;b.img'/>\n  <target dev='vda'/>\n  <readonly/>\n</disk>\n\n".to_owned(),
        "the element"
    );
    ensure_eq!(
        daemon.ok(&["domblklist", "dom"])?,
        " Target   Source\n------------------\n\n".to_owned(),
        "no disks"
    );
    let config: Vec<&str> = words.iter().copied().chain(["--config"]).collect();
    ensure_eq!(daemon.virsh(&config)?, good("Disk attached successfully"), "attach-disk");
    daemon.ok(&[
        "attach-disk",
        "dom",
        "/dev/sdx",
        "sdb",
        "--sourcetype",
        "block",
        "--targetbus",
        "scsi",
        "--config",
    ])?;
    ensure_eq!(
        daemon.ok(&["domblklist", "dom", "--details"])?,
        " Type    Device   Target   Source\n-----------------------------------------\n file    disk     vda      /srv/a&b.img\n block   disk     sdb      /dev/sdx\n\n".to_owned(),
        "the disks"
    );
    let json: serde_json::Value =
        serde_json::from_str(&daemon.ok(&["domblklist", "dom", "--json"])?).map_err(|e| e.to_string())?;
    ensure_eq!(json[0]["source"], serde_json::json!("/srv/a&b.img"), "JSON");
    let error = daemon.virsh(&["attach-disk", "dom", "/x", "vda", "--config"])?.fails()?;
    ensure_eq!(
        error,
        "error: Failed to attach disk\nerror: Requested operation is not valid: target vda already exists\n"
            .to_owned(),
        "there"
    );
    let error = daemon.virsh(&["attach-disk", "dom", "/x", "vdz", "--mode", "odd", "--config"])?.fails()?;
    ensure_eq!(error, "error: No support for odd in command 'attach-disk'\n".to_owned(), "an odd mode");
    let shown = daemon.ok(&["detach-disk", "dom", "sdb", "--config", "--print-xml"])?;
    ensure!(shown.starts_with("<disk type='block' device='disk'>\n  <source dev='/dev/sdx'/>\n"), "{shown}");
    ensure_eq!(
        daemon.virsh(&["detach-disk", "dom", "/dev/sdx", "--config"])?,
        good("Disk detached successfully"),
        "by source"
    );
    ensure_eq!(
        daemon.virsh(&["detach-disk", "dom", "vda", "--config"])?,
        good("Disk detached successfully"),
        "by target"
    );
    ensure_eq!(
        daemon.virsh(&["detach-disk", "dom", "vda", "--config"])?,
        printed(1, "\n", "error: No disk found whose source path or target is vda\n"),
        "gone"
    );
    Ok(())
}

fn options() -> Outcome {
    let daemon = start()?;
    let file = daemon.file("data.xml", DATA)?;
    for option in ["--config", "--current", "--persistent"] {
        daemon.ok(&["attach-device", "dom", &file, option])?;
        ensure!(daemon.ok(&["dumpxml", "dom"])?.contains("/data"), "{option} did not change the definition");
        daemon.ok(&["detach-device", "dom", &file, option])?;
    }
    daemon.ok(&["attach-device", "dom", &file, "--config"])?;
    daemon.ok(&["update-device", "dom", &file, "--force"]).map(drop)
}
