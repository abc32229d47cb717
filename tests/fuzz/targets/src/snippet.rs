//! Remarks of a daemon about a document, shown with the line they are about.

use berth_schemas::domain::Diagnostic;
use virsh_lite::snippet::{Severity, relocate, render};

use crate::texts;

/// Shows one remark: line and column, element, message, hint, and the document, with NUL bytes between them.
pub fn run(data: &[u8]) {
    let Some(parts) = texts(data, 5) else { return };
    let [place, element, message, hint, source] = parts[..] else { return };
    let number = |text: Option<&str>| text.and_then(|t| t.parse().ok()).unwrap_or_default();
    let mut place = place.split(' ');
    let remark = Diagnostic {
        line: number(place.next()),
        column: number(place.next()),
        element: element.to_owned(),
        message: message.to_owned(),
        hint: Some(hint.to_owned()).filter(|h| !h.is_empty()),
    };
    let remarks = [remark];
    let shown = render(Severity::Error, "f.xml", source, &remarks, false);
    assert!(!shown.is_empty());
    crate::client_reply::calm(&shown);
    let moved = relocate(source, &remarks);
    assert_eq!(moved.len(), 1);
    assert_eq!(relocate(source, &moved), moved, "moved twice");
    drop(render(Severity::Warning, "f.xml", source, &moved, true));
}
