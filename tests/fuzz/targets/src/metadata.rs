//! Elements of applications below `<metadata>`: what is set is there, is kept, and can be taken away again.

use std::sync::LazyLock;

use berth_domain::{Domain, parse};

use crate::domain_xml::{calm, host};
use crate::texts;

static DOMAIN: LazyLock<Domain> = LazyLock::new(|| {
    let text =
        "<domain type='lxc'><name>t</name><uuid>8369f1ac-7e46-e869-4ca5-759d51478066</uuid><memory>1</memory>
        <metadata xmlns:o='urn:outer'><a:b xmlns:a='urn:a' o:c='d'>e</a:b></metadata>
        <os><type>exe</type><init>/sbin/init</init></os><devices>
        <filesystem><source dir='/srv/t'/><target dir='/'/></filesystem></devices></domain>";
    parse(text, &host()).unwrap_or_else(|e| panic!("{e}")).domain
});

/// Sets an element: uri, prefix and text, with NUL bytes between them.
pub fn run(data: &[u8]) {
    let Some(parts) = texts(data, 3) else { return };
    let [uri, prefix, xml] = parts[..] else { return };
    let mut domain = DOMAIN.clone();
    match domain.set_metadata_element(uri, prefix, Some(xml)) {
        Ok(_) => {}
        Err(e) => {
            calm(&e.diagnostics);
            assert_eq!(domain, *DOMAIN, "a refused change is none");
            return;
        }
    }
    let found = domain.metadata_element(uri);
    assert!(found.is_some(), "it is not there");
    let written = domain.to_xml();
    match parse(&written, &host()) {
        Ok(again) => {
            assert_eq!(again.domain, domain, "another model:\n{written}");
            assert_eq!(again.domain.metadata_element(uri), found);
        }
        Err(e) => panic!("own output refused: {e}\n{written}"),
    }
    match domain.set_metadata_element(uri, prefix, None) {
        Ok(changed) => assert!(changed),
        Err(e) => panic!("it cannot be removed: {e}"),
    }
    assert_eq!(domain.metadata_element(uri), None);
}
