//! Random and broken documents: never a panic, and what is accepted is written so that it reads the same.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;

use berth_domain::parse;
use common::{corpus, document, documents, host, shared_corpus};
use proptest::prelude::*;

/// What was accepted must come back as the same model and the same text.
fn check(text: &str) {
    let first = match parse(text, &host()) {
        Ok(first) => first,
        Err(error) => return calm(&error.diagnostics),
    };
    calm(&first.warnings);
    calm(&first.domain.start_problems());
    let written = first.domain.to_xml();
    let second = parse(&written, &host())
        .unwrap_or_else(|e| panic!("own output refused: {e}\n{text}\n---\n{written}"));
    assert_eq!(second.domain.to_xml(), written, "not a fixed point:\n{text}");
    assert_eq!(second.domain, first.domain, "another model:\n{text}\n---\n{written}");
}

/// What is said about a document can be printed on a terminal.
fn calm(said: &[berth_domain::Diagnostic]) {
    for d in said {
        let all = [d.to_string(), d.element.clone(), d.hint.clone().unwrap_or_default()].concat();
        assert!(!all.contains(char::is_control), "{all:?}");
    }
}

fn corpus_texts() -> Vec<String> {
    let mut paths = documents(&corpus());
    paths.extend(documents(&corpus().join("bad")));
    paths.extend(shared_corpus().iter().flat_map(|folder| documents(folder)));
    let texts = paths.into_iter().map(|p| fs::read_to_string(p).unwrap());
    texts.filter(|t| t.len() < 10_000).collect()
}

/// A piece of XML that means something somewhere.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "<filesystem type='ram'><source usage='1'/><target dir='/a'/></filesystem>",
        "<interface type='ethernet'/>",
        "<console type='pty'/>",
        "<vcpu>2</vcpu>",
        "<x:y xmlns:x='u'>t</x:y>",
        "<!-- c -->",
        "<![CDATA[<&]]>",
        "&lt;",
        "&#10;",
        "&#0;",
        "&x;",
        "<a",
        "/>",
        "</",
        "'",
        "\"",
        " a='1'",
        " xmlns='u'",
        " xmlns:lxc='v'",
        "<?p?>",
        "--",
        "<!DOCTYPE d>",
        "]]>",
        "<metadata>",
        "</metadata>",
        "<alias name='ua-1'/>",
        "<readonly/>",
        "<idmap/>",
        "\r\n",
        "<os>",
        "<link/>",
        "<model/>",
        "<driver/>",
        "<features/>",
        "<title/>",
        " ",
        "text",
        "\u{feff}",
        "\u{1f600}",
        "-1",
        "99999999999999999999",
        "..",
        "/",
        ":",
        "<lxc:namespace xmlns:lxc='http://libvirt.org/schemas/domain/lxc/1.0'/>",
    ];
    prop_oneof![3 => prop::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => "\\PC{0,4}"]
}

fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_documents(which in 0usize..1000, edits in prop::collection::vec((0usize..4000, 0usize..30, piece()), 1..4)) {
        thread_local!(static TEXTS: Vec<String> = corpus_texts());
        let mut text = TEXTS.with(|texts| texts[which % texts.len()].clone());
        for (at, length, insert) in edits {
            let from = boundary(&text, at % (text.len() + 1));
            let to = boundary(&text, from + length).max(from);
            text.replace_range(from..to, &insert);
        }
        check(&text);
    }

    #[test]
    fn inserted_elements(which in 0usize..1000, at in 0usize..200, insert in piece()) {
        thread_local!(static TEXTS: Vec<String> = corpus_texts());
        let mut text = TEXTS.with(|texts| texts[which % texts.len()].clone());
        let places: Vec<usize> = text.match_indices('>').map(|(i, _)| i + 1).collect();
        if let Some(place) = places.get(at % places.len().max(1)) {
            text.insert_str(*place, &insert);
        }
        check(&text);
    }

    #[test]
    fn random_text(text in "\\PC{0,200}") {
        check(&text);
    }

    #[test]
    fn random_values(
        title in "[^\\p{Cc}\u{fffe}\u{ffff}]{1,20}", arg in "[^\\x00-\\x08\\x0b-\\x1f\u{fffe}\u{ffff}]{1,20}", memory in 1u64..(1 << 50),
        current in 0u64..(1 << 50), env in "[A-Za-z_][A-Za-z0-9_]{0,8}", dir in "/[a-zA-Z0-9 '\"&<>]{1,20}",
    ) {
        let mut domain = parse(&document("", ""), &host()).unwrap().domain;
        domain.title = Some(title);
        domain.description = Some(arg.clone());
        domain.os.initargs = vec![arg.clone(), "x".into()];
        domain.os.initenv = vec![berth_domain::model::InitEnv { name: env, value: arg }];
        domain.memory_kib = memory;
        domain.current_memory_kib = current.clamp(1, memory);
        domain.devices.filesystems[0].source = berth_domain::model::FsSource::Mount { dir };
        let again = parse(&domain.to_xml(), &host()).unwrap().domain;
        prop_assert_eq!(again, domain);
    }
}

#[test]
fn every_prefix_of_every_document() {
    for text in corpus_texts() {
        for end in (0..text.len()).step_by(7) {
            check(&text[..boundary(&text, end)]);
        }
    }
}

#[test]
fn many_elements_are_read_in_good_time() {
    let wide = document("", &"<x a='1'/>".repeat(19_000));
    assert_eq!(parse(&wide, &host()).unwrap().warnings.len(), 100);
    let long = document("", &format!("<x>{}</x>", "&amp;".repeat(200_000)));
    check(&long);
}

#[test]
fn what_would_grow_over_the_limit_is_refused() {
    let quotes = document(&format!("<description>{}</description>", "'".repeat(200_000)), "");
    let error = parse(&quotes, &host()).unwrap_err();
    assert!(error.to_string().contains("as it would be kept"), "{error}");
    let deep = format!("{}{}{}", "<x>".repeat(60), "<a/>".repeat(15_000), "</x>".repeat(60));
    assert!(parse(&document(&deep, ""), &host()).is_err());
    let small = document(&format!("<description>{}</description>", "'".repeat(150_000)), "");
    check(&small);
}
