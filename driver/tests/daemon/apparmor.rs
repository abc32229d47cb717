//! Profiles of containers, with a kernel's interface made of files and a parser that is a script: when they come and go.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::harness::{Daemon, alive, kill, wait, xml, xml_with};

pub const TESTS: &[crate::Test] = &[
    ("apparmor::a_profile_comes_and_goes_with_its_container", comes_and_goes),
    ("apparmor::documents_choose", documents_choose),
    ("apparmor::what_cannot_be_used_is_named", named),
    ("apparmor::nothing_stays_after_a_crash", crashes),
    ("apparmor::without_it_nothing_is_confined", absent),
];

const UUID: &str = "3f0c6b0e-7d1d-4c5b-9a53-0d5a1f6e2c11";

/// A daemon whose kernel is `kernel` in its folder. The parser notes what it got and what it was told.
fn confined() -> Daemon {
    let mut daemon = Daemon::start();
    daemon.kill();
    let kernel = daemon.path("kernel");
    std::fs::create_dir(&kernel).expect("folder");
    let parser = Path::new(env!("CARGO_MANIFEST_DIR")).join("../apparmor/tests/parser");
    symlink(parser, kernel.join("parser")).expect("parser");
    let script = "cat > text\n[ ! -e broken ] || { echo 'no such rule' >&2; exit 1; }\n\
         name=$(sed -n 's/^profile \"\\(.*\\)\" .*/\\1/p' text)\necho \"$name (enforce)\" >> profiles\n";
    std::fs::write(kernel.join("script"), script).expect("script");
    std::fs::write(kernel.join("profiles"), "custom (enforce)\nlenient (complain)\n").expect("profiles");
    std::fs::write(kernel.join(".remove"), "").expect("remove");
    daemon.environment = vec![("BERTH_TEST_PRETEND_APPARMOR".into(), kernel.display().to_string())];
    daemon.launch();
    daemon
}

fn file(daemon: &Daemon, name: &str) -> String {
    std::fs::read_to_string(daemon.path("kernel").join(name)).unwrap_or_default()
}

/// What was removed since the last look.
fn removed(daemon: &Daemon) -> String {
    let text = file(daemon, ".remove");
    std::fs::write(daemon.path("kernel/.remove"), "").expect("emptied");
    text
}

/// The name that the profile of a running domain has.
fn label(daemon: &Daemon, name: &str) -> String {
    daemon.status(name)["security"]["label"].as_str().expect("a label").to_owned()
}

fn comes_and_goes() {
    let daemon = confined();
    daemon.client().good("Define", &json!({ "xml": xml_with("a", UUID) }));
    assert_eq!(
        daemon.status("a")["security"],
        json!({ "model": "apparmor", "enforcing": false }),
        "not active"
    );
    daemon.client().good("Start", &json!({ "name": "a" }));
    let name = label(&daemon, "a");
    assert!(name.starts_with("berth-") && name.ends_with(UUID) && name.len() > 42, "{name}");
    assert_eq!(daemon.status("a")["security"]["enforcing"], json!(true));
    assert!(file(&daemon, "text").contains(&format!("profile \"{name}\" flags=")));
    assert!(file(&daemon, "profiles").contains(&format!("{name} (enforce)\n")));
    let live = daemon.client().good("GetXML", &json!({ "name": "a", "inactive": false }))["xml"].to_string();
    assert!(live.contains(&format!("<label>{name}</label>")), "{live}");
    let next = daemon.client().good("GetXML", &json!({ "name": "a", "inactive": true }))["xml"].to_string();
    assert!(!next.contains("seclabel"), "{next}");
    assert_eq!(removed(&daemon), "");
    daemon.client().good("Destroy", &json!({ "name": "a" }));
    assert_eq!(removed(&daemon), name);
    // A start that fails takes it away again, wherever it fails.
    daemon.define("refuse");
    daemon.client().bad("Start", &json!({ "name": "refuse" }));
    assert!(removed(&daemon).starts_with("berth-"));
}

fn documents_choose() {
    let daemon = confined();
    let start = |name: &str, more: &str| {
        let xml = xml(name).replace("</name>", &format!("</name>{more}"));
        daemon.client().good("Create", &json!({ "xml": xml }));
        let security = daemon.status(name)["security"].clone();
        daemon.client().good("Destroy", &json!({ "name": name }));
        (security, removed(&daemon))
    };
    let setting = |profile: &str| {
        format!(
            "<metadata><b:settings xmlns:b='urn:berth:domain:1'><b:apparmor profile='{profile}'/></b:settings></metadata>"
        )
    };
    for (more, name, enforcing) in [
        (
            "<seclabel type='static' model='apparmor'><label>custom</label></seclabel>".to_owned(),
            "custom",
            true,
        ),
        (
            "<seclabel type='static' model='apparmor'><label>lenient</label></seclabel>".into(),
            "lenient",
            false,
        ),
        ("<seclabel type='none' model='apparmor'/>".into(), "unconfined", false),
        (setting("unconfined"), "unconfined", false),
    ] {
        let (security, removed) = start("x", &more);
        assert_eq!(security, json!({ "model": "apparmor", "label": name, "enforcing": enforcing }), "{more}");
        assert_eq!((removed.as_str(), file(&daemon, "text").as_str()), ("", ""), "{more}: nothing of ours");
    }
    for variant in ["default", "nesting", "mounting"] {
        let (security, removed) = start(variant, &setting(variant));
        assert_eq!(security["label"], json!(removed));
        assert!(file(&daemon, "text").starts_with(&format!("# The '{variant}' profile")), "{variant}");
    }
}

fn named() {
    let daemon = confined();
    let fixed = xml("x").replace(
        "</name>",
        "</name><seclabel type='static' model='apparmor'><label>nowhere</label></seclabel>",
    );
    let (error, message) = daemon.client().bad("Create", &json!({ "xml": fixed }));
    assert_eq!(error, "StartFailed", "{message}");
    let expected = "cannot start domain 'x': step 'profile': cannot use the AppArmor profile 'nowhere': no such profile is loaded";
    assert_eq!(message, expected);
    std::fs::write(daemon.path("kernel/broken"), "").expect("broken");
    let (_, message) = daemon.client().bad("Create", &json!({ "xml": xml("y") }));
    assert!(message.contains("cannot load the AppArmor profile 'berth-"), "{message}");
    assert!(message.ends_with(": no such rule"), "{message}");
    assert_eq!(daemon.residue(), Vec::<String>::new());
    std::fs::remove_file(daemon.path("kernel/parser")).expect("removed");
    let mut daemon = daemon;
    daemon.restart();
    let (_, message) = daemon.client().bad("Create", &json!({ "xml": xml("y") }));
    assert!(message.ends_with("there is no apparmor_parser on this host; install 'apparmor'"), "{message}");
    let other = xml("z").replace("</name>", "</name><seclabel type='dynamic' model='selinux'/>");
    let (error, message) = daemon.client().bad("Create", &json!({ "xml": other }));
    assert_eq!(error, "Unsupported");
    assert!(message.contains("model 'selinux'"), "{message}");
}

fn crashes() {
    let mut daemon = confined();
    let domain = daemon.begin("a");
    let name = label(&daemon, "a");
    // The daemon's end is not the container's.
    daemon.restart();
    assert_eq!((label(&daemon, "a"), removed(&daemon)), (name.clone(), String::new()));
    // The controller's end is.
    kill(domain["id"].as_i64().expect("id"));
    daemon.wait_state("a", "shutoff", "crashed");
    assert_eq!(removed(&daemon), name);
    // Both ends.
    let domain = daemon.client().good("Start", &json!({ "name": "a" }))["domain"].clone();
    daemon.kill();
    let pid = domain["id"].as_i64().expect("id");
    kill(pid);
    wait("the end", || (!alive(pid)).then_some(()));
    // The real kernel's list would lose it with the first removal.
    std::fs::write(daemon.path("kernel/profiles"), format!("{name} (enforce)\n")).expect("profiles");
    daemon.launch();
    assert!(removed(&daemon).starts_with(&name));
    // A daemon that dies in the middle of a start, and one whose record was lost, leave one behind.
    std::fs::write(daemon.path("kernel/profiles"), "").expect("profiles");
    daemon.kill();
    daemon.environment.push(("BERTH_KILL_AT".into(), "daemon:profile".into()));
    daemon.launch();
    let mut client = daemon.client();
    client.send_call("Start", &json!({ "name": "a" }), "");
    assert_eq!(client.try_reply(), None);
    daemon.wait_dead();
    daemon.environment.pop();
    assert_eq!(file(&daemon, "profiles"), format!("{name} (enforce)\n"));
    std::fs::write(daemon.path("kernel/profiles"), "").expect("profiles");
    daemon.launch();
    assert_eq!(removed(&daemon), name);
    let tag = name.split('-').nth(1).expect("a tag");
    let (ours, theirs) = (format!("berth-{tag}-{UUID}"), format!("berth-{UUID}"));
    let list =
        format!("{ours} (enforce)\n{theirs} (enforce)\nberth-controller (enforce)\ncustom (enforce)\n");
    std::fs::write(daemon.path("kernel/profiles"), list).expect("profiles");
    daemon.restart();
    assert_eq!(removed(&daemon), ours);
}

fn absent() {
    let daemon = Daemon::start();
    daemon.begin("a");
    let status = daemon.status("a");
    assert_eq!((&status["security"], &status["state"]), (&json!(null), &json!("running")));
    let live = daemon.client().good("GetXML", &json!({ "name": "a", "inactive": false }))["xml"].to_string();
    assert!(!live.contains("seclabel"), "{live}");
    let fixed = xml("x").replace(
        "</name>",
        "</name><seclabel type='static' model='apparmor'><label>custom</label></seclabel>",
    );
    let (_, message) = daemon.client().bad("Create", &json!({ "xml": fixed }));
    assert!(
        message.ends_with("profile 'custom': the host has no AppArmor, or it is switched off"),
        "{message}"
    );
    for kind in ["dynamic", "none"] {
        let xml = xml(kind).replace("</name>", &format!("</name><seclabel type='{kind}' model='apparmor'/>"));
        daemon.client().good("Create", &json!({ "xml": xml }));
    }
}
