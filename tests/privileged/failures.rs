//! Starts that cannot succeed: each says what failed, on which path, with which error, and leaves nothing.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use berth_tests::daemon::{Daemon, domain_xml};
use berth_tests::host::Traces;
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq};

pub const TESTS: &[Test] = &[
    ("failures::each_says_what_and_where", each),
    ("failures::later_features_are_refused_by_name", later),
    ("failures::a_full_disk_loses_nothing", full_disk),
    ("failures::what_started_on_a_full_disk_is_found_again", full_state),
    ("failures::the_controller_is_missing", no_controller),
];

fn each() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-fail")?;
    fs::write(root.join("bin/text"), "no program").map_err(|e| e.to_string())?;
    fs::set_permissions(root.join("bin/text"), fs::Permissions::from_mode(0o755))
        .map_err(|e| e.to_string())?;
    fs::write(root.join("bin/foreign"), b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xf3\0\x01\0\0\0")
        .map_err(|e| e.to_string())?;
    fs::set_permissions(root.join("bin/foreign"), fs::Permissions::from_mode(0o755))
        .map_err(|e| e.to_string())?;
    fs::write(root.join("bin/plain"), "#!/bin/sh\n").map_err(|e| e.to_string())?;
    fs::write(root.join("bin/lost"), "#!/no/such/interpreter\n").map_err(|e| e.to_string())?;
    fs::set_permissions(root.join("bin/lost"), fs::Permissions::from_mode(0o755))
        .map_err(|e| e.to_string())?;
    let xml = |root: &Path, init: &str, devices: &str| domain_xml("t-fail", root, &[init], devices);
    let mount = |source: &str, target: &str| {
        format!(
            "    <filesystem type='mount'><source dir='{source}'/><target dir='{target}'/></filesystem>\n"
        )
    };
    let file = root.join("etc/passwd");
    for (what, document, says) in [
        (
            "no root",
            xml(Path::new("/nonexistent/root"), "/bin/sh", ""),
            &["/nonexistent/root", "No such file or directory"][..],
        ),
        ("a root that is a file", xml(&file, "/bin/sh", ""), &["etc/passwd", "ot a directory"]),
        ("no init", xml(&root, "/sbin/nothing", ""), &["/sbin/nothing", "No such file or directory"]),
        ("init is a folder", xml(&root, "/etc", ""), &["/etc", "directory"]),
        ("init is not executable", xml(&root, "/bin/plain", ""), &["/bin/plain", "Permission denied"]),
        ("init is a text", xml(&root, "/bin/foreign", ""), &["/bin/foreign", "machine"]),
        ("no interpreter", xml(&root, "/bin/lost", ""), &["/bin/lost", "interpreter"]),
        (
            "no source",
            xml(&root, "/bin/sh", &mount("/nonexistent/data", "/mnt")),
            &["/nonexistent/data", "No such file or directory"],
        ),
        ("a folder on a file", xml(&root, "/bin/sh", &mount("/etc", "/etc/passwd")), &["/etc/passwd"]),
        (
            "below a file",
            xml(&root, "/bin/sh", &mount("/etc", "/etc/passwd/x")),
            &["/etc/passwd/x", "Not a directory"],
        ),
        (
            "no bind source",
            xml(
                &root,
                "/bin/sh",
                "    <filesystem type='bind'><source dir='/gone'/><target dir='/mnt'/></filesystem>\n",
            ),
            &["/gone", "No such file or directory"],
        ),
    ] {
        daemon.define("t-fail", &document).map_err(|e| format!("{what}: {e}"))?;
        let before = Traces::of("t-fail", daemon.work());
        let error = daemon.virsh(&["start", "t-fail"])?.fails().map_err(|e| format!("{what}: {e}"))?;
        ensure!(error.starts_with("error: Failed to start domain 't-fail'\nerror: "), "{what}: {error}");
        for part in says {
            ensure!(error.contains(part), "{what}: '{part}' is not in {error}");
        }
        ensure_eq!(
            Traces::of("t-fail", daemon.work()).difference(&before),
            Vec::<String>::new(),
            "{what}: residue"
        );
        ensure!(
            daemon.state("t-fail")?.starts_with("shut off"),
            "{what}: the state is {}",
            daemon.state("t-fail")?
        );
    }
    // And after all that it still starts.
    daemon.define("t-fail", &domain_xml("t-fail", &root, &["/bin/sleep", "1000"], ""))?;
    daemon.ok(&["start", "t-fail"])?;
    daemon.ok(&["destroy", "t-fail"]).map(drop)
}

fn later() -> Outcome {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("t-later")?;
    for (element, document) in [
        (
            "interface",
            domain_xml(
                "t-later",
                &root,
                &["/bin/sh"],
                "    <interface type='bridge'><source bridge='nosuch0'/></interface>\n",
            ),
        ),
        (
            "numatune",
            domain_xml("t-later", &root, &["/bin/sh"], "")
                .replace("</os>", "</os>\n  <numatune><memory mode='preferred' nodeset='0-1'/></numatune>"),
        ),
    ] {
        daemon.define("t-later", &document)?;
        ensure!(
            daemon.ok(&["dumpxml", "t-later"])?.contains(&format!("<{element}")),
            "<{element}> was not kept"
        );
        let error = daemon.virsh(&["start", "t-later"])?.fails()?;
        ensure!(error.contains(element), "<{element}> is not named: {error}");
    }
    Ok(())
}

fn full_disk() -> Outcome {
    let mut daemon = Daemon::start()?;
    let root = daemon.busybox("t-full")?;
    daemon.define("t-full", &domain_xml("t-full", &root, &["/bin/sleep", "1000"], ""))?;
    let definition = daemon.ok(&["dumpxml", "t-full"])?;
    daemon.stop()?;
    // The whole of etc/berth and var on a tiny file system.
    let etc = daemon.root().join("etc/berth");
    let text = fs::read(etc.join("domains/t-full.xml")).map_err(|e| e.to_string())?;
    let none: Option<&str> = None;
    nix::mount::mount(
        Some("tmpfs"),
        &etc,
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        Some("size=64k,mode=755"),
    )
    .map_err(|e| e.to_string())?;
    let _ = none;
    let result = on_full_disk(&mut daemon, &etc, &text, &definition, &root);
    daemon.kill();
    nix::mount::umount(&etc).map_err(|e| e.to_string())?;
    result
}

fn on_full_disk(daemon: &mut Daemon, etc: &Path, text: &[u8], definition: &str, root: &Path) -> Outcome {
    fs::create_dir_all(etc.join("domains"))
        .and_then(|()| fs::write(etc.join("domains/t-full.xml"), text))
        .map_err(|e| e.to_string())?;
    daemon.launch()?;
    // Fill it to the last byte.
    let _ = fs::write(etc.join("filler"), vec![0; 1 << 20]);
    let uuid = daemon.ok(&["domuuid", "t-full"])?;
    let bigger = domain_xml("t-full", root, &["/bin/sleep", "1000"], "").replace(
        "</name>",
        &format!("</name><uuid>{}</uuid><description>{}</description>", uuid.trim(), "x".repeat(20_000)),
    );
    for (name, document) in [("bigger", bigger), ("other", domain_xml("t-other", root, &["/bin/sh"], ""))] {
        let file = daemon.file(&format!("{name}.xml"), &document)?;
        let error = daemon.virsh(&["define", &file])?.fails()?;
        ensure!(error.contains("No space left on device"), "{name}: {error}");
    }
    ensure_eq!(daemon.ok(&["dumpxml", "t-full"])?, definition.to_owned(), "the definition in memory");
    daemon.restart()?;
    ensure_eq!(daemon.ok(&["dumpxml", "t-full"])?, definition.to_owned(), "the definition on disk");
    ensure_eq!(daemon.ok(&["list", "--all", "--name"])?.trim(), "t-full", "the list");
    daemon.ok(&["start", "t-full"])?;
    daemon.ok(&["destroy", "t-full"]).map(drop)
}

/// Fills a file system but for so many pages of 4 KiB. Answers the file that does.
fn fill(folder: &Path, left: u64) -> Result<PathBuf, String> {
    let filler = folder.join("filler");
    let mut file = File::create(&filler).map_err(|e| e.to_string())?;
    while file.write_all(&[1; 4096]).is_ok() {}
    let length = file.metadata().map_err(|e| e.to_string())?.len();
    file.set_len((length / 4096).saturating_sub(left) * 4096).map_err(|e| e.to_string())?;
    Ok(filler)
}

/// However little room there is for what the daemon notes: what was said to run goes on under the next daemon, and of
/// what was refused nothing is left.
fn full_state() -> Outcome {
    let mut daemon = Daemon::start()?;
    let root = daemon.busybox("t-page")?;
    daemon.define("t-page", &domain_xml("t-page", &root, &["/bin/sleep", "1000"], ""))?;
    daemon.stop()?;
    let run = daemon.root().join("run/berth");
    nix::mount::mount(
        Some("tmpfs"),
        &run,
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        Some("size=1m,mode=755"),
    )
    .map_err(|e| e.to_string())?;
    let result = on_full_state(&mut daemon, &run);
    let _ = daemon.virsh(&["destroy", "t-page"]);
    daemon.kill();
    nix::mount::umount2(&run, nix::mount::MntFlags::MNT_DETACH).map_err(|e| e.to_string())?;
    result
}

fn on_full_state(daemon: &mut Daemon, run: &Path) -> Outcome {
    daemon.launch()?;
    let (mut started, mut refused) = (0, Vec::new());
    for pages in 0..8 {
        let filler = fill(run, pages)?;
        let before = Traces::of("t-page", daemon.work());
        let start = daemon.virsh(&["start", "t-page"])?;
        if start.status == 0 {
            started += 1;
            let init = daemon.pid_of("t-page", "initPid")?;
            fs::remove_file(&filler).map_err(|e| e.to_string())?;
            daemon.kill();
            daemon.launch()?;
            ensure_eq!(daemon.pid_of("t-page", "initPid")?, init, "init with {pages} pages left");
            daemon.ok(&["destroy", "t-page"])?;
        } else {
            ensure!(start.err.contains("No space left on device"), "with {pages} pages: {start:?}");
            ensure_eq!(
                Traces::of("t-page", daemon.work()).difference(&before),
                Vec::<String>::new(),
                "what a start with {pages} pages left leaves"
            );
            refused.push(start.err);
            fs::remove_file(&filler).map_err(|e| e.to_string())?;
        }
        ensure!(daemon.ok(&["domstate", "t-page"])?.starts_with("shut off"), "the state");
    }
    ensure!(started > 0, "no start went well: {refused:?}");
    let late = "cannot write its status";
    ensure!(refused.iter().any(|e| e.contains(late)), "no start failed at its end: {refused:?}");
    Ok(())
}

fn no_controller() -> Outcome {
    let mut daemon = Daemon::start()?;
    let root = daemon.busybox("t-nc")?;
    daemon.define("t-nc", &domain_xml("t-nc", &root, &["/bin/sh"], ""))?;
    daemon.stop()?;
    let alone = daemon.work().join("alone");
    fs::create_dir_all(&alone).map_err(|e| e.to_string())?;
    fs::copy(berth_tests::daemon::dist()?.join("berthd"), alone.join("berthd")).map_err(|e| e.to_string())?;
    let mut child = std::process::Command::new(alone.join("berthd"))
        .arg("--root")
        .arg(daemon.root())
        .args(["--controller", "/nonexistent/berth-controller"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .map_err(|e| e.to_string())?;
    let started = berth_tests::wait_for("an answer", 10, || daemon.ok(&["list"]).ok());
    let result = started.and_then(|_| daemon.virsh(&["start", "t-nc"])?.fails());
    let _ = child.kill();
    let _ = child.wait();
    let error = result?;
    ensure!(error.contains("/nonexistent/berth-controller"), "{error}");
    Ok(())
}
