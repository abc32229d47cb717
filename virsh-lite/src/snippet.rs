//! Remarks about a document, shown with the line they are about and a caret under the column.
//!
//! Does not know XML: it gets positions and the text.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use berth_schemas::domain::Diagnostic;

use crate::error::printable;

/// How bad a remark is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The document is refused.
    Error,
    /// The document is taken all the same.
    Warning,
}

/// The remarks, one after the other. `file` is where the user finds the text.
pub fn render(severity: Severity, file: &str, source: &str, remarks: &[Diagnostic], colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let level = match severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let source = &without_c1(source);
    let mut text = String::new();
    for remark in remarks {
        let remark = &without_controls(remark);
        let Some(span) = span(source, remark) else {
            text.push_str(&without_source(severity, file, remark));
            continue;
        };
        let snippet = Snippet::source(source).path(file).annotation(AnnotationKind::Primary.span(span));
        let mut group = level.clone().primary_title(remark.message.as_str()).element(snippet);
        if let Some(hint) = &remark.hint {
            group = group.element(Level::HELP.with_name("hint").message(hint.as_str()));
        }
        text.push_str(&renderer.render(&[group]));
        text.push('\n');
    }
    text
}

/// The document without the controls U+0080 to U+009F, which XML allows, and with which a terminal is told what to do; the
/// library shows those below U+0020 by signs of its own. What stands for them is as long, so that places stay.
fn without_c1(source: &str) -> String {
    source.chars().map(|c| if ('\u{80}'..='\u{9f}').contains(&c) { '\u{bf}' } else { c }).collect()
}

/// The remark as it can be shown: it may come from another host.
fn without_controls(remark: &Diagnostic) -> Diagnostic {
    let clean = |text: &str| printable(text).into_owned();
    Diagnostic {
        element: clean(&remark.element),
        message: clean(&remark.message),
        hint: remark.hint.as_deref().map(clean),
        ..remark.clone()
    }
}

/// A remark whose position is not in the text.
fn without_source(severity: Severity, file: &str, remark: &Diagnostic) -> String {
    let word = if severity == Severity::Error { "error" } else { "warning" };
    let mut place = match remark.line {
        ..=0 => file.to_owned(),
        line => format!("{file}:{line}:{}", remark.column),
    };
    if !remark.element.is_empty() {
        place.push_str(&format!(": {}", remark.element));
    }
    let mut text = format!("{word}: {place}: {}\n", remark.message);
    if let Some(hint) = &remark.hint {
        text.push_str(&format!("hint: {hint}\n"));
    }
    text
}

/// Remarks with their positions in a text that has been written anew since: where a remark does not stand at its element,
/// it is moved to the first element of that name, and loses its position where there is none.
pub fn relocate(source: &str, remarks: &[Diagnostic]) -> Vec<Diagnostic> {
    let moved = |remark: &Diagnostic| {
        let name = remark.element.rsplit('/').next().unwrap_or_default();
        let is_element = |at: usize| {
            let rest = source[at..].strip_prefix('<').and_then(|r| r.strip_prefix(name));
            rest.is_some_and(|r| r.starts_with([' ', '>', '/', '\n']))
        };
        let mut remark = remark.clone();
        if span(source, &remark).is_some_and(|s| is_element(s.start)) {
            return remark;
        }
        (remark.line, remark.column) =
            match source.match_indices('<').map(|(i, _)| i).find(|i| is_element(*i)) {
                Some(at) => {
                    let before = &source[..at];
                    let line = before.matches('\n').count() + 1;
                    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
                    (i64::try_from(line).unwrap_or_default(), i64::try_from(column).unwrap_or_default())
                }
                None => (0, 0),
            };
        remark
    };
    remarks.iter().map(moved).collect()
}

/// The bytes to mark: the name or the value that begins at the position, at least one character.
fn span(source: &str, remark: &Diagnostic) -> Option<std::ops::Range<usize>> {
    let line = usize::try_from(remark.line).ok()?.checked_sub(1)?;
    let column = usize::try_from(remark.column).ok()?.checked_sub(1)?;
    let start: usize = source.split_inclusive('\n').take(line).map(str::len).sum();
    let text = source.split_inclusive('\n').nth(line)?.trim_end_matches(['\n', '\r']);
    let at = text.char_indices().map(|(i, _)| i).chain([text.len()]).nth(column)?;
    let rest = &text[at..];
    let name = |c: char| c.is_alphanumeric() || "_-:.".contains(c);
    let length = match rest.chars().next() {
        Some('<') => {
            let slash = usize::from(rest[1..].starts_with('/'));
            1 + slash + rest[1 + slash..].find(|c| !name(c)).unwrap_or(rest.len() - 1 - slash)
        }
        Some(c) if name(c) => rest.find(|c| !name(c)).unwrap_or(rest.len()),
        Some(c) => c.len_utf8(),
        None => 0,
    };
    Some(start + at..start + at + length)
}

#[cfg(test)]
mod test {
    use super::*;

    fn remark(line: i64, column: i64, hint: Option<&str>) -> Diagnostic {
        Diagnostic {
            line,
            column,
            element: "domain/os".into(),
            message: "no such type".into(),
            hint: hint.map(str::to_owned),
        }
    }

    const SOURCE: &str = "<domain>\n  <os>\n    <type>hvm</type>\n  </os>\n</domain>\n";

    #[test]
    fn the_line_and_a_caret() {
        let text = render(Severity::Error, "f.xml", SOURCE, &[remark(3, 5, Some("use exe"))], false);
        assert_eq!(
            text,
            "error: no such type\n --> f.xml:3:5\n  |\n3 |     <type>hvm</type>\n  |     ^^^^^\n  |\n  = hint: use exe\n"
        );
    }

    #[test]
    fn positions_outside_the_text_are_told_in_words() {
        let text = render(Severity::Warning, "f.xml", SOURCE, &[remark(99, 5, None)], false);
        assert_eq!(text, "warning: f.xml:99:5: domain/os: no such type\n");
        let text = render(Severity::Warning, "f.xml", SOURCE, &[remark(0, 0, None)], false);
        assert_eq!(text, "warning: f.xml: domain/os: no such type\n");
        let nowhere = Diagnostic { element: String::new(), ..remark(2, 1, None) };
        assert_eq!(
            render(Severity::Error, "f.xml", "\n", &[nowhere], false),
            "error: f.xml:2:1: no such type\n"
        );
        for (line, column) in [(0, 0), (1, 0), (1, 9), (1, 10), (5, 10), (6, 1), (-1, 3)] {
            assert!(
                render(Severity::Error, "f", SOURCE, &[remark(line, column, None)], false)
                    .contains("no such")
            );
        }
    }

    #[test]
    fn remarks_move_to_their_element() {
        let at = |line, column, element: &str| {
            let remark = Diagnostic { element: element.into(), ..remark(line, column, None) };
            relocate(SOURCE, &[remark]).into_iter().map(|r| (r.line, r.column)).next()
        };
        assert_eq!(at(1, 1, "domain/os/type"), Some((3, 5)));
        assert_eq!(at(2, 3, "domain/os"), Some((2, 3)));
        assert_eq!(at(2, 3, "domain/nosuch"), Some((0, 0)));
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(span("<ä ö='1'/>\n", &remark(1, 4, None)), Some(4..6));
    }
}
