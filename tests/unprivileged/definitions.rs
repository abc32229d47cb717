//! Definitions: kept, replaced, refused, and never lost.

use std::fs;

use berth_tests::daemon::{Daemon, domain_xml};
use berth_tests::host::Traces;
use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure, ensure_eq};

pub const TESTS: &[Test] = &[
    ("definitions::survive_the_daemon", survive),
    ("definitions::same_name_or_uuid_follow_libvirts_rules", redefine),
    ("definitions::bad_documents_change_nothing", bad_documents),
    ("definitions::bad_names_are_refused", bad_names),
    ("definitions::unreadable_files_are_set_aside", set_aside),
    ("definitions::leftovers_of_a_crash_are_swept", leftovers),
    ("definitions::killed_while_defining_leaves_old_or_new", killed),
    ("definitions::metadata_title_and_description", metadata),
    ("definitions::unknown_elements_are_kept_and_reported", unknown_elements),
    ("definitions::a_second_daemon_is_refused", second_daemon),
    ("definitions::corpus_goes_through_the_daemon", corpus),
];

fn plain(name: &str) -> String {
    domain_xml(name, std::path::Path::new("/nonexistent"), &["/bin/sh"], "")
}

fn survive() -> Outcome {
    let mut daemon = Daemon::start()?;
    for n in 0..20 {
        daemon.define(&format!("keep{n}"), &plain(&format!("keep{n}")))?;
    }
    daemon.ok(&["autostart", "keep3"])?;
    daemon.ok(&["undefine", "keep4"])?;
    let list = daemon.ok(&["list", "--all"])?;
    let xml = daemon.ok(&["dumpxml", "keep7"])?;
    daemon.restart()?;
    ensure_eq!(daemon.ok(&["list", "--all"])?, list, "the list after a kill");
    ensure_eq!(daemon.ok(&["dumpxml", "keep7"])?, xml, "a document after a kill");
    ensure!(daemon.ok(&["dominfo", "keep3"])?.contains("enable"), "autostart was lost");
    ensure!(daemon.virsh(&["dominfo", "keep4"])?.status == 1, "what was undefined came back");
    Ok(())
}

fn redefine() -> Outcome {
    let daemon = Daemon::start()?;
    let with_uuid =
        |name: &str, uuid: &str| plain(name).replace("</name>", &format!("</name><uuid>{uuid}</uuid>"));
    let (a, b) = ("11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222");
    daemon.define("one", &with_uuid("one", a))?;
    daemon.define("one again", &with_uuid("one", a).replace("256", "512"))?;
    ensure!(daemon.ok(&["dumpxml", "one"])?.contains("524288"), "the new document was not taken");
    let other_uuid = daemon.file("o.xml", &with_uuid("one", b))?;
    let error = daemon.virsh(&["define", &other_uuid])?.fails()?;
    ensure!(error.contains(&format!("domain 'one' already exists with uuid {a}")), "{error}");
    let other_name = daemon.file("n.xml", &with_uuid("two", a))?;
    let error = daemon.virsh(&["define", &other_name])?.fails()?;
    ensure!(error.contains(&format!("domain 'one' is already defined with uuid {a}")), "{error}");
    ensure_eq!(daemon.ok(&["domuuid", "one"])?.trim(), a, "the uuid");
    ensure_eq!(daemon.ok(&["domname", a])?.trim(), "one", "the name");
    Ok(())
}

fn bad_documents() -> Outcome {
    let daemon = Daemon::start()?;
    daemon.define("good", &plain("good"))?;
    let before = Traces::of("good", &daemon.root());
    let good = plain("good");
    for (what, text, says) in [
        ("empty", String::new(), ""),
        ("not XML", "hello".into(), ""),
        ("cut short", good[..good.len() / 2].into(), ""),
        ("other type", good.replace("'lxc'", "'kvm'"), "kvm"),
        ("doctype", format!("<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>{good}"), "DOCTYPE"),
        ("no init", good.replace("<init>/bin/sh</init>", ""), "init"),
        ("relative init", good.replace("<init>/bin/sh", "<init>bin/sh"), "init"),
        ("no memory", good.replace("<memory unit='MiB'>256</memory>", ""), "memory"),
        ("no root", good.replace("<target dir='/'/>", "<target dir='/x'/>"), "root"),
        (
            "many consoles",
            good.replace("<console type='pty'/>", &"<console type='pty'/>".repeat(1000)),
            "console",
        ),
        ("deep", good.replace("</os>", &format!("</os>{}{}", "<a>".repeat(100), "</a>".repeat(100))), "deep"),
        ("long", format!("{good}<!--{}-->", "x".repeat(1 << 20)), ""),
        ("bad uuid", good.replace("</name>", "</name><uuid>nope</uuid>"), "uuid"),
        ("bad on_crash", good.replace("</os>", "</os><on_crash>explode</on_crash>"), "explode"),
    ] {
        let file = daemon.file("bad.xml", &text)?;
        let printed = daemon.virsh(&["define", &file])?;
        let error = printed.clone().fails().map_err(|e| format!("{what}: {e}"))?;
        ensure!(error.starts_with("error: Failed to define domain from"), "{what}: {error}");
        ensure!(error.contains(says), "{what}: '{says}' is not in {error}");
        ensure!(!error.contains("root:x:0"), "{what}: a file of the host was read");
    }
    ensure_eq!(Traces::of("good", &daemon.root()).difference(&before), Vec::<String>::new(), "files");
    ensure_eq!(daemon.ok(&["list", "--all", "--name"])?.trim(), "good", "the list");
    Ok(())
}

fn bad_names() -> Outcome {
    let daemon = Daemon::start()?;
    let before = Traces::of("none", &daemon.root());
    for name in ["a/b", "../x", "..", ".", "", "a\nb", "ä", "-c", "x\u{202e}y", &"n".repeat(300)] {
        let file = daemon.file("name.xml", &plain(name))?;
        let error = daemon.virsh(&["define", &file])?.fails().map_err(|e| format!("{name:?}: {e}"))?;
        ensure!(error.contains("name"), "{name:?}: {error}");
        // A name that is not there has no place of its own.
        ensure!(
            name.is_empty() || error.contains(":2:") || error.contains("line 2"),
            "{name:?}: the place is missing: {error}"
        );
    }
    ensure_eq!(Traces::of("none", &daemon.root()).difference(&before), Vec::<String>::new(), "files");
    Ok(())
}

fn set_aside() -> Outcome {
    let mut daemon = Daemon::start()?;
    daemon.define("fine", &plain("fine"))?;
    daemon.kill();
    let dir = daemon.root().join("etc/berth/domains");
    fs::write(dir.join("broken.xml"), "<domain type='lxc'><name>bro").map_err(|e| e.to_string())?;
    fs::write(dir.join("liar.xml"), plain("other")).map_err(|e| e.to_string())?;
    fs::write(dir.join("binary.xml"), [0xff, 0xfe, 0]).map_err(|e| e.to_string())?;
    daemon.launch()?;
    ensure_eq!(daemon.ok(&["list", "--all", "--name"])?.trim(), "fine", "the list");
    let log = daemon.log();
    for name in ["broken.xml", "liar.xml", "binary.xml"] {
        ensure!(log.contains(name), "the log does not tell about {name}: {log}");
        let kept = fs::read_dir(&dir).map_err(|e| e.to_string())?.flatten();
        let stem = name.trim_end_matches(".xml");
        ensure!(
            kept.into_iter().any(|e| e.file_name().to_string_lossy().starts_with(stem)),
            "{name} is gone instead of set aside"
        );
    }
    // A good document of that name is taken again.
    daemon.define("broken", &plain("broken"))
}

fn leftovers() -> Outcome {
    let mut daemon = Daemon::start()?;
    daemon.define("fine", &plain("fine"))?;
    daemon.kill();
    let dir = daemon.root().join("etc/berth/domains");
    let names = |dir: &std::path::Path| -> Vec<String> {
        fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect()
    };
    ensure_eq!(names(&dir), vec!["fine.xml".to_owned()], "files before");
    // A dangling autostart link, as an interrupted undefine leaves it.
    let link = daemon.root().join("etc/berth/autostart/gone.xml");
    let _ = fs::create_dir_all(daemon.root().join("etc/berth/autostart"));
    std::os::unix::fs::symlink("../domains/gone.xml", &link).map_err(|e| e.to_string())?;
    daemon.launch()?;
    ensure_eq!(daemon.ok(&["list", "--all", "--name"])?.trim(), "fine", "the list");
    Ok(())
}

fn killed() -> Outcome {
    let mut daemon = Daemon::start()?;
    daemon.define("atom", &plain("atom"))?;
    let old = daemon.ok(&["dumpxml", "atom"])?;
    let uuid = daemon.ok(&["domuuid", "atom"])?;
    let bigger = plain("atom")
        .replace("256", "512")
        .replace("</name>", &format!("</name><uuid>{}</uuid>", uuid.trim()));
    let new = old.replace("262144", "524288");
    for step in ["define-written", "define-renamed"] {
        let kill = format!("daemon:{step}");
        daemon.kill();
        daemon.set_environment(&[("BERTH_KILL_AT", &kill)]);
        daemon.launch()?;
        let file = daemon.file("bigger.xml", &bigger)?;
        ensure!(daemon.virsh(&["define", &file])?.status != 0, "the daemon was not killed at {step}");
        daemon.wait_dead(5)?;
        daemon.set_environment(&[]);
        daemon.launch()?;
        let now = daemon.ok(&["dumpxml", "atom"])?;
        ensure!(now == old || now == new, "killed at {step}, the document is neither old nor new: {now}");
        ensure_eq!(
            daemon.ok(&["list", "--all", "--name"])?.trim(),
            "atom",
            "the list after a kill at {step}"
        );
    }
    Ok(())
}

fn metadata() -> Outcome {
    let mut daemon = Daemon::start()?;
    daemon.define("meta", &plain("meta"))?;
    daemon.ok(&["desc", "meta", "A quiet", "container"])?;
    daemon.ok(&["desc", "meta", "--title", "Quiet"])?;
    let error = daemon.virsh(&["desc", "meta", "--title", "--new-desc", "two\nlines"])?.fails()?;
    ensure!(error.contains("invalid argument: metadata title can't contain newlines"), "{error}");
    let (uri, xml) = ("http://example.org/app/1.0", "<tag colour='blue'>42</tag>");
    daemon.ok(&["metadata", "meta", "--uri", uri, "--key", "app", "--set", xml])?;
    daemon.restart()?;
    ensure_eq!(daemon.ok(&["desc", "meta"])?.trim(), "A quiet container", "the description");
    ensure_eq!(daemon.ok(&["desc", "meta", "--title"])?.trim(), "Quiet", "the title");
    let text = daemon.ok(&["metadata", "meta", uri])?;
    ensure!(text.contains("colour") && text.contains("42"), "the metadata: {text}");
    daemon.ok(&["metadata", "meta", "--uri", uri, "--remove"])?;
    let error = daemon.virsh(&["metadata", "meta", uri])?.fails()?;
    ensure!(error.contains("metadata not found"), "{error}");
    Ok(())
}

fn unknown_elements() -> Outcome {
    let daemon = Daemon::start()?;
    // What a domain of another driver lacks, is not what is wrong with it.
    let file = daemon.file("kvm.xml", "<domain type='kvm'><name>k</name></domain>")?;
    let error = daemon.virsh(&["define", &file])?.fails()?;
    let first = error.lines().find(|l| l.starts_with("error: ") && !l.contains("Failed to define"));
    ensure!(first.is_some_and(|l| l.contains("type 'kvm' is not 'lxc'")), "{error}");
    let xml = plain("odd")
        .replace("</os>", "</os>\n  <flux capacity='3'/>")
        .replace("<console type='pty'/>", "<console type='pty'/>\n    <memballoon model='none'/>");
    let file = daemon.file("odd.xml", &xml)?;
    let printed = daemon.virsh(&["define", &file])?;
    ensure_eq!(printed.status, 0, "define");
    for element in ["flux", "memballoon"] {
        ensure!(printed.err.contains(element), "no warning about <{element}>: {}", printed.err);
        ensure!(daemon.ok(&["dumpxml", "odd"])?.contains(&format!("<{element}")), "<{element}> was lost");
    }
    Ok(())
}

fn second_daemon() -> Outcome {
    let daemon = Daemon::start()?;
    let output = std::process::Command::new(berth_tests::daemon::dist()?.join("berthd"))
        .arg("--root")
        .arg(daemon.root())
        .output()
        .map_err(|e| e.to_string())?;
    ensure!(!output.status.success(), "two daemons on one folder");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(error.contains("another berthd") || error.contains("already running"), "{error}");
    daemon.ok(&["list"]).map(drop)
}

fn corpus() -> Outcome {
    let daemon = Daemon::start()?;
    let own = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/domains");
    let mut count = 0;
    for entry in fs::read_dir(&own).map_err(|e| format!("cannot read the corpus: {e}"))?.flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|e| e != "xml") {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(|e| e.to_string())?;
        let file = path.to_str().ok_or("the corpus has a name that is not UTF-8")?;
        daemon.ok(&["define", file])?;
        let name = text.split("<name>").nth(1).and_then(|t| t.split("</name>").next()).ok_or("no name")?;
        let first = daemon.ok(&["dumpxml", "--inactive", "--domain", name])?;
        let again = daemon.file("again.xml", &first)?;
        daemon.ok(&["define", &again])?;
        ensure_eq!(daemon.ok(&["dumpxml", "--inactive", "--domain", name])?, first, "{file}, defined again");
        daemon.ok(&["undefine", "--domain", name])?;
        count += 1;
    }
    ensure!(count >= 10, "only {count} documents in the corpus");
    Ok(())
}
