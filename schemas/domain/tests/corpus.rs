//! Whole documents: our own corpus, and those of others where they are at hand.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;

use berth_domain::parse;
use common::{corpus, documents, host, libvirts_host, shared_corpus};

/// `NAME.xml` comes back as `NAME.out.xml`, or as itself; `NAME.warnings` lists its warnings, if it has any.
#[test]
fn our_corpus_comes_back() {
    let folder = corpus();
    let documents = documents(&folder);
    assert!(documents.len() >= 25, "only {} documents in {}", documents.len(), folder.display());
    for path in documents {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let parsed = parse(&text, &host()).unwrap_or_else(|e| panic!("{name}: {e}: {:#?}", e.diagnostics));
        let expected = fs::read_to_string(path.with_extension("out.xml")).unwrap_or_else(|_| text.clone());
        assert_eq!(parsed.domain.to_xml(), expected, "{name}");
        let warnings: String = parsed.warnings.iter().map(|w| format!("{w}\n")).collect();
        let listed = fs::read_to_string(path.with_extension("warnings")).unwrap_or_default();
        assert_eq!(warnings, listed, "{name}");
        let again = parse(&expected, &host()).unwrap_or_else(|e| panic!("{name}, read again: {e}"));
        assert_eq!(again.domain.to_xml(), expected, "{name}, read again");
    }
}

/// `bad/NAME.xml` is refused, and the first thing said about it is `bad/NAME.txt`.
#[test]
fn bad_documents_are_refused_with_a_place() {
    let folder = corpus().join("bad");
    let documents = documents(&folder);
    assert!(documents.len() >= 25, "only {} documents in {}", documents.len(), folder.display());
    for path in documents {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let error = match parse(&text, &host()) {
            Ok(_) => panic!("{name} was accepted"),
            Err(error) => error,
        };
        let expected = fs::read_to_string(path.with_extension("txt")).unwrap_or_default();
        let first = &error.diagnostics[0];
        let mut said = format!("{first}\n");
        if let Some(hint) = &first.hint {
            said.push_str(&format!("hint: {hint}\n"));
        }
        assert_eq!(said, expected, "{name}");
        assert_eq!(error.to_string(), first.to_string(), "{name}");
    }
}

/// The test data of libvirt's own driver, which is not part of this project.
#[test]
fn documents_of_others_come_back() {
    let Some(folder) = shared_corpus() else { return };
    let mut count = 0;
    for path in documents(&folder) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == "announcement-2008.xml" {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let expected = fs::read_to_string(path.with_extension("out.xml")).unwrap_or_else(|_| text.clone());
        let parsed =
            parse(&text, &libvirts_host()).unwrap_or_else(|e| panic!("{name}: {:#?}", e.diagnostics));
        assert_eq!(parsed.domain.to_xml(), expected, "{name}");
        assert_eq!(parsed.warnings, [], "{name}");
        count += 1;
    }
    assert!(count > 0, "no document in {}", folder.display());
}

/// The example of 2008 names a network where it means a bridge.
#[test]
fn the_announcement_is_refused_with_a_hint() {
    let Some(folder) = shared_corpus() else { return };
    let Ok(text) = fs::read_to_string(folder.join("announcement-2008.xml")) else { return };
    let error = parse(&text, &libvirts_host()).unwrap_err();
    let first = &error.diagnostics[0];
    assert_eq!((first.line, first.column), (14, 11));
    assert_eq!(first.element, "domain/devices/interface/source");
    assert!(first.message.contains("'bridge'"), "{first}");
    assert_eq!(first.hint.as_deref(), Some("did you mean <source bridge='br0'/>?"));
    assert_eq!(error.diagnostics.len(), 1, "{error:?}");
    let fixed = text.replace("network='br0'", "bridge='br0'");
    parse(&fixed, &libvirts_host()).unwrap();
}
