//! Domain documents: what is accepted is written so that it reads the same, and what is said about a document can be
//! printed on a terminal.

use berth_domain::{Diagnostic, Host, ParseError, parse};

/// The host that the documents are for.
pub fn host() -> Host {
    Host { arch: "x86_64".into(), emulator: "/usr/libexec/berth-controller".into() }
}

/// Reads `data` as a document.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let first = match parse(text, &host()) {
        Ok(first) => first,
        Err(error) => return refused(&error),
    };
    calm(&first.warnings);
    let domain = first.domain;
    calm(&domain.start_problems());
    bounded(&domain);
    let written = domain.to_xml();
    let second = match parse(&written, &host()) {
        Ok(second) => second.domain,
        Err(e) => panic!("own output refused: {e}\n{written}"),
    };
    assert_eq!(second, domain, "another model");
    assert_eq!(second.to_xml(), written, "not a fixed point");
}

/// What the rest of the programs relies on.
fn bounded(domain: &berth_domain::Domain) {
    assert!(berth_schemas::name::DomainName::parse(domain.name.as_str()).is_ok());
    assert!(domain.memory_kib <= berth_domain::MAX_KIB && domain.current_memory_kib <= domain.memory_kib);
    let devices = &domain.devices;
    assert!(devices.filesystems.len() <= 256 && devices.disks.len() <= 256 && devices.hostdevs.len() <= 256);
    assert!(devices.interfaces.len() <= 64 && devices.consoles.len() <= 64);
    let limits = domain.seccomp().unwrap_or_else(|e| panic!("accepted with a filter that is none: {e:?}"));
    assert!(limits.allow.len() <= 512 && limits.deny.len() <= 512);
}

/// A document is refused with at least one reason, and not with more than anybody reads.
pub fn refused(error: &ParseError) {
    assert!((1..=20).contains(&error.diagnostics.len()), "{}", error.diagnostics.len());
    calm(&error.diagnostics);
}

/// What is said about a document has no control characters in it.
pub fn calm(said: &[Diagnostic]) {
    for d in said {
        let all = [d.to_string(), d.element.clone(), d.hint.clone().unwrap_or_default()].concat();
        assert!(!all.contains(char::is_control), "{all:?}");
    }
}
