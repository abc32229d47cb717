//! Elements below `<metadata>`, as an application reads and writes them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use berth_domain::{Domain, IdMapMode, SETTINGS_NAMESPACE, parse};
use common::{document, host};

const APP: &str = "urn:example:app:1";

fn domain(rest: &str) -> Domain {
    parse(&document(rest, ""), &host()).unwrap().domain
}

#[test]
fn an_element_comes_without_its_prefix() {
    let d = domain(
        "<metadata><a:x xmlns:a='urn:example:app:1' k='v'><a:y/>text &amp; <z xmlns='u'/></a:x><b xmlns='urn:b'/></metadata>",
    );
    let expected = "<x k=\"v\"><y/>text &amp; <z xmlns=\"u\"/></x>";
    assert_eq!(d.metadata_element(APP).as_deref(), Some(expected));
    assert_eq!(d.metadata_element("urn:b").as_deref(), Some("<b/>"));
    assert_eq!(d.metadata_element("urn:other"), None);
    assert_eq!(domain("").metadata_element(APP), None);
}

#[test]
fn a_borrowed_declaration_comes_along() {
    let text = document("<metadata><a:x><o:y/></a:x></metadata>", "")
        .replace("type='lxc'", "type='lxc' xmlns:a='urn:example:app:1' xmlns:o='urn:o'");
    let d = parse(&text, &host()).unwrap().domain;
    assert_eq!(d.metadata_element(APP).as_deref(), Some("<x xmlns:o=\"urn:o\">\n  <o:y/>\n</x>"));
    assert_eq!(parse(&d.to_xml(), &host()).unwrap().domain, d);
}

#[test]
fn set_replace_and_remove() {
    let mut d = domain("<metadata><b xmlns='urn:b'/></metadata>");
    assert_eq!(d.set_metadata_element(APP, "app", Some("<conf><item n='1'/></conf>")), Ok(true));
    assert_eq!(d.metadata_element(APP).as_deref(), Some("<conf>\n  <item n=\"1\"/>\n</conf>"));
    let shown = d.to_xml();
    let expected = "  <metadata>\n    <b xmlns=\"urn:b\"/>\n    <app:conf xmlns:app=\"urn:example:app:1\">\n      <app:item n=\"1\"/>\n    </app:conf>\n  </metadata>\n";
    assert!(shown.contains(expected), "{shown}");
    assert_eq!(parse(&shown, &host()).unwrap().domain, d);

    assert_eq!(d.set_metadata_element(APP, "app", Some("<conf><item n='1'/></conf>")), Ok(false));
    assert_eq!(d.set_metadata_element(APP, "p", Some("<other/>")), Ok(true));
    assert_eq!(d.metadata_element(APP).as_deref(), Some("<other/>"));
    assert_eq!(d.set_metadata_element(APP, "p", None), Ok(true));
    assert_eq!(d.set_metadata_element(APP, "p", None), Ok(false));
    assert_eq!(d.set_metadata_element("urn:b", "p", None), Ok(true));
    assert!(!d.to_xml().contains("metadata"));
}

#[test]
fn what_is_not_an_element_changes_nothing() {
    let mut d = domain("<metadata><b xmlns='urn:b'/></metadata>");
    let before = d.clone();
    for (uri, prefix, xml) in [
        (APP, "app", "no element"),
        (APP, "app", "<a>"),
        (APP, "app", "<!DOCTYPE a><a/>"),
        (APP, "app", "<a xmlns:app='urn:z'/>"),
        (APP, "1bad", "<a/>"),
        (APP, "a:b", "<a/>"),
        (APP, "xmlfoo", "<a/>"),
        (APP, "", "<a/>"),
        ("", "app", "<a/>"),
    ] {
        assert!(d.set_metadata_element(uri, prefix, Some(xml)).is_err(), "{uri} {prefix} {xml}");
        assert_eq!(d, before);
    }
}

#[test]
fn what_could_not_be_read_again_is_refused() {
    let mut d = domain("");
    let deep = "<a>".repeat(63) + &"</a>".repeat(63);
    let error = d.set_metadata_element(APP, "app", Some(&deep)).unwrap_err();
    assert!(error.to_string().contains("as it would be kept: elements are nested deeper"), "{error}");
    assert_eq!(d.metadata, None);
    let long = format!("<a>{}</a>", "&amp;".repeat(200_000));
    assert_eq!(d.set_metadata_element(APP, "app", Some(&long)), Ok(true));
    d.description = Some("'".repeat(10_000));
    assert!(d.check_output().is_err());
}

fn settings(inside: &str) -> String {
    document(
        &format!("<metadata><b:settings xmlns:b='{SETTINGS_NAMESPACE}'>{inside}</b:settings></metadata>"),
        "",
    )
}

#[test]
fn our_own_settings_are_read_and_checked() {
    assert_eq!(domain("").id_map_mode(), None);
    for (value, mode) in [("none", IdMapMode::None), ("auto", IdMapMode::Auto)] {
        let parsed = parse(&settings(&format!("<b:idmap mode='{value}'/>")), &host()).unwrap();
        assert_eq!(parsed.domain.id_map_mode(), Some(mode));
        assert_eq!(parsed.warnings, []);
    }
    assert!(!domain("").counts_cpu_times());
    for (value, counted) in [("none", false), ("counted", true)] {
        let parsed = parse(&settings(&format!("<b:cpu-times mode='{value}'/>")), &host()).unwrap();
        assert_eq!((parsed.domain.counts_cpu_times(), parsed.warnings), (counted, vec![]));
    }
    assert!(domain("").has_own_sysinfo());
    for (inside, view, sysinfo) in [
        ("<b:view mode='own'/>", true, true),
        ("<b:view mode='none'/>", false, false),
        ("<b:view mode='none' sysinfo='host'/>", false, false),
        ("<b:view sysinfo='own'/>", true, true),
        ("<b:view sysinfo='host'/>", true, false),
        ("<b:view mode='own' sysinfo='host'/>", true, false),
    ] {
        let parsed = parse(&settings(inside), &host()).unwrap();
        assert_eq!((parsed.domain.has_view(), parsed.domain.has_own_sysinfo()), (view, sysinfo), "{inside}");
        assert_eq!(parsed.warnings, [], "{inside}");
    }
    let other = "<metadata><settings xmlns='urn:other'><idmap mode='none'/></settings></metadata>";
    assert_eq!(domain(other).id_map_mode(), None);
    for (inside, word) in [
        ("<b:idmap mode='some'/>", "'some'"),
        ("<b:idmap/>", "'mode' is missing"),
        ("<b:cpu-times mode='yes'/>", "neither 'counted' nor 'none'"),
        ("<b:idmap mode='auto'/><b:idmap mode='auto'/>", "second"),
        ("<b:view/>", "'mode' is missing"),
        ("<b:view mode='own' sysinfo='none'/>", "'sysinfo' 'none' is neither 'own' nor 'host'"),
        ("<b:view mode='host' sysinfo='host'/>", "the mode 'host' is neither 'own' nor 'none'"),
        ("<b:view mode='none' sysinfo='own'/>", "without a view"),
    ] {
        let error = parse(&settings(inside), &host()).unwrap_err();
        assert_eq!(error.diagnostics.len(), 1, "{error}");
        assert!(error.to_string().contains(word) && error.diagnostics[0].line > 0, "{error}");
    }
    for (inside, word) in [
        ("<b:other/>", "'other'"),
        ("<b:idmap mode='none' x='1'/>", "'x' of 'idmap'"),
        ("<b:idmap mode='none' sysinfo='host'/>", "'sysinfo' of 'idmap'"),
    ] {
        let warnings = parse(&settings(inside), &host()).unwrap().warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].message.contains(word), "{}", warnings[0]);
    }
}

#[test]
fn bad_settings_cannot_be_set_either() {
    let mut d = domain("");
    let set = |d: &mut Domain, mode: &str| {
        let xml = format!("<settings><idmap mode='{mode}'/></settings>");
        d.set_metadata_element(SETTINGS_NAMESPACE, "berth", Some(&xml))
    };
    assert!(set(&mut d, "some").is_err());
    assert_eq!(d.metadata, None);
    assert_eq!(set(&mut d, "none"), Ok(true));
    assert_eq!(d.id_map_mode(), Some(IdMapMode::None));
}
