//! Which profile a document asks for, and how a running domain shows the one it has.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use berth_domain::apparmor::{ApparmorProfile, Confinement};
use berth_domain::{Domain, Live, parse};
use common::{document, host};

fn settings(inside: &str) -> String {
    format!("<metadata><b:settings xmlns:b='urn:berth:domain:1'>{inside}</b:settings></metadata>")
}

fn domain(rest: &str) -> Domain {
    let parsed = parse(&document(rest, ""), &host()).unwrap();
    assert_eq!(parsed.warnings, [], "{rest}");
    parsed.domain
}

#[test]
fn documents_choose() {
    use ApparmorProfile::{Default, Mounting, Nesting, Unconfined};
    let ours = Confinement::Profile;
    for (rest, wanted) in [
        (String::new(), ours(Default)),
        ("<seclabel type='dynamic' model='apparmor'/>".into(), ours(Default)),
        ("<seclabel type='none'/>".into(), ours(Unconfined)),
        ("<seclabel type='none' model='apparmor'/>".into(), ours(Unconfined)),
        ("<seclabel type='none' model='selinux'/>".into(), ours(Default)),
        (
            "<seclabel type='static' model='apparmor'><label>x-y</label></seclabel>".into(),
            Confinement::Label("x-y".into()),
        ),
        ("<seclabel type='static'><label>x-y</label></seclabel>".into(), Confinement::Label("x-y".into())),
        ("<seclabel type='static'><label>unconfined</label></seclabel>".into(), ours(Unconfined)),
        (settings("<b:apparmor profile='nesting'/>"), ours(Nesting)),
        (settings("<b:apparmor profile='mounting'/><b:idmap mode='none'/>"), ours(Mounting)),
        (
            settings("<b:apparmor profile='default'/>") + "<seclabel type='dynamic' model='apparmor'/>",
            ours(Default),
        ),
        (settings("<b:apparmor profile='unconfined'/>"), ours(Unconfined)),
    ] {
        let found = domain(&rest);
        assert_eq!(found.confinement(), wanted, "{rest}");
        assert_eq!(found.start_problems(), [], "{rest}");
        let again = parse(&found.to_xml(), &host()).unwrap();
        assert_eq!((again.domain, again.warnings), (found, vec![]), "{rest}");
    }
}

#[test]
fn what_cannot_be_chosen_is_named() {
    for (rest, what) in [
        (
            settings("<b:apparmor profile='x'/>"),
            "'x' is no profile, the profiles are default, nesting, mounting, unconfined",
        ),
        (settings("<b:apparmor/>"), "the attribute 'profile' is missing"),
        (settings("<b:apparmor profile='default' mode='x'/>"), "the attribute 'mode' is unknown"),
        (settings("<b:apparmor profile='default'><x/></b:apparmor>"), "'x' has no meaning in here"),
        (
            settings("<b:apparmor profile='default'/><b:apparmor profile='default'/>"),
            "there already is such an element",
        ),
        (
            "<seclabel type='static' model='apparmor'><label>a b</label></seclabel>".into(),
            "'a b' cannot be the name of a profile",
        ),
        (
            settings("<b:apparmor profile='nesting'/>") + "<seclabel type='none'/>",
            "a security label of type 'none' leaves nothing for <berth:apparmor> to choose",
        ),
    ] {
        let error = parse(&document(&rest, ""), &host()).unwrap_err();
        assert_eq!(error.diagnostics.len(), 1, "{error:?}");
        assert_eq!(error.diagnostics[0].message, what);
        assert!(error.diagnostics[0].line > 0);
    }
}

#[test]
fn a_running_domain_shows_its_label() {
    let live = |rest: &str| {
        let label = Some("berth-x".to_owned());
        domain(rest).to_live_xml(&Live {
            id: 1,
            consoles: Vec::new(),
            ids: None,
            label,
            interfaces: Vec::new(),
        })
    };
    let dynamic = "  <seclabel type='dynamic' model='apparmor' relabel='yes'>
    <label>berth-x</label>
    <imagelabel>berth-x</imagelabel>
  </seclabel>
</domain>
";
    for rest in ["", "<seclabel type='dynamic' model='apparmor'/>", "<seclabel/>"] {
        let shown = live(rest);
        assert!(shown.ends_with(dynamic), "{rest}: {shown}");
        // A dump of what runs is a definition again.
        assert_eq!(parse(&shown, &host()).unwrap().warnings, [], "{rest}");
    }
    let none = live("<seclabel type='none' model='apparmor'/>");
    assert!(none.ends_with("  <seclabel type='none' model='apparmor'/>\n</domain>\n"), "{none}");
    let fixed =
        live("<seclabel type='static' model='apparmor' relabel='no'><label>berth-x</label></seclabel>");
    assert!(
        fixed.ends_with("relabel='no'>\n    <label>berth-x</label>\n  </seclabel>\n</domain>\n"),
        "{fixed}"
    );
    let both = live("<seclabel type='none' model='selinux'/>");
    assert!(both.contains("<seclabel type='none' model='selinux'/>\n") && both.ends_with(dynamic), "{both}");
    assert!(!domain("").to_xml().contains("seclabel"));
}
