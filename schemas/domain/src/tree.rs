//! XML text into a small tree with positions.
//!
//! Refuses document types and entities, and caps size, depth and counts, before anything looks at the meaning. This
//! module does not know what a domain is.

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use crate::Diagnostic;

/// Largest document in bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// Deepest nesting of elements.
pub const MAX_DEPTH: usize = 64;
/// Most elements in one document.
pub const MAX_ELEMENTS: usize = 20_000;
/// Most attributes of one element.
pub const MAX_ATTRIBUTES: usize = 64;

/// Where something stood in the document, both counted from 1; 0 means that it came from no document.
///
/// Two positions always compare equal: two models are the same when they mean the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pos {
    /// Line.
    pub line: u32,
    /// Column, in characters.
    pub column: u32,
}

impl PartialEq for Pos {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Pos {}

/// An attribute; namespace declarations are attributes too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Name with its prefix.
    pub name: String,
    /// Value, unescaped.
    pub value: String,
    /// Where its name began.
    pub pos: Pos,
}

/// An element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Name with its prefix.
    pub name: String,
    /// Attributes in document order.
    pub attrs: Vec<Attr>,
    /// What is inside, in document order; white space between elements is left out.
    pub children: Vec<Node>,
    /// Where its `<` stood.
    pub pos: Pos,
}

/// What an element contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// An element.
    Element(Element),
    /// Text, unescaped; a CDATA section becomes text.
    Text(String),
    /// A comment.
    Comment(String),
}

impl Element {
    /// The child elements.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.children.iter().filter_map(|n| if let Node::Element(e) = n { Some(e) } else { None })
    }

    /// The value of an attribute.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.attrs.iter().find(|a| a.name == name).map(|a| a.value.as_str())
    }
}

/// Turns offsets, asked for in rising order, into positions in one pass.
struct Locator<'a> {
    bytes: &'a [u8],
    offset: usize,
    pos: Pos,
}

impl<'a> Locator<'a> {
    fn new(text: &'a str) -> Self {
        Self { bytes: text.as_bytes(), offset: 0, pos: Pos { line: 1, column: 1 } }
    }

    fn at(&mut self, offset: usize) -> Pos {
        let end = offset.min(self.bytes.len());
        if end < self.offset {
            // Only an error can point back: start over.
            (self.offset, self.pos) = (0, Pos { line: 1, column: 1 });
        }
        for byte in &self.bytes[self.offset..end] {
            if *byte == b'\n' {
                self.pos.line = self.pos.line.saturating_add(1);
                self.pos.column = 1;
            } else if byte & 0xc0 != 0x80 {
                self.pos.column = self.pos.column.saturating_add(1);
            }
        }
        self.offset = end;
        self.pos
    }
}

/// A character that XML 1.0 allows.
pub fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// A name with at most one prefix.
pub(crate) fn is_qualified_name(name: &str) -> bool {
    let mut parts = name.split(':');
    parts.next().is_some_and(is_plain_name)
        && parts.next().is_none_or(is_plain_name)
        && parts.next().is_none()
}

/// A name without a colon.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let start = |c: char| c.is_alphabetic() || c == '_';
    name.chars().next().is_some_and(start)
        && name.chars().all(|c| start(c) || c.is_alphanumeric() || matches!(c, '-' | '.' | '\u{b7}'))
}

struct Builder<'a> {
    locator: Locator<'a>,
    stack: Vec<Element>,
    /// Prefixes in scope with the depth that declared them.
    prefixes: Vec<(String, usize)>,
    pending: String,
    root: Option<Element>,
    elements: usize,
}

type Outcome<T> = Result<T, Box<Diagnostic>>;

/// Reads one document. The error names the first thing wrong with the text itself.
pub fn parse_tree(xml: &str) -> Result<Element, Diagnostic> {
    build(xml).map_err(|d| *d)
}

fn build(xml: &str) -> Outcome<Element> {
    let xml = xml.strip_prefix('\u{feff}').unwrap_or(xml);
    let mut builder = Builder {
        locator: Locator::new(xml),
        stack: Vec::new(),
        prefixes: vec![("xml".into(), 0)],
        pending: String::new(),
        root: None,
        elements: 0,
    };
    if xml.len() > MAX_BYTES {
        let message = format!("the document has {} bytes, at most {MAX_BYTES} are possible", xml.len());
        return Err(builder.fail(0, message));
    }
    if let Some((at, c)) = xml.char_indices().find(|(_, c)| !is_xml_char(*c)) {
        return Err(builder.fail(at, format!("the character U+{:04X} cannot be in a document", u32::from(c))));
    }
    let mut reader = Reader::from_str(xml);
    let config = reader.config_mut();
    config.expand_empty_elements = true;
    config.check_comments = true;
    loop {
        let at = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
        let event = match reader.read_event() {
            Ok(event) => event,
            Err(e) => {
                let at = usize::try_from(reader.error_position()).unwrap_or(usize::MAX);
                return Err(builder.fail(at, format!("not well-formed: {e}")));
            }
        };
        match event {
            Event::Eof => break,
            event => builder.event(at, event)?,
        }
    }
    if let Some(open) = builder.stack.last() {
        let message = format!("the element '{}' is not closed", open.name);
        let at = xml.len();
        return Err(builder.fail(at, message));
    }
    match builder.root.take() {
        Some(root) => Ok(root),
        None => Err(builder.fail(xml.len(), "the document has no element")),
    }
}

impl Builder<'_> {
    fn fail(&mut self, at: usize, message: impl Into<String>) -> Box<Diagnostic> {
        let pos = self.locator.at(at);
        let path: Vec<&str> = self.stack.iter().map(|e| e.name.as_str()).collect();
        Box::new(Diagnostic::new(pos, path.join("/"), message))
    }

    /// The same inside an element that is not open yet.
    fn fail_in(&mut self, at: usize, element: &str, message: impl Into<String>) -> Box<Diagnostic> {
        let mut problem = self.fail(at, message);
        if !problem.element.is_empty() {
            problem.element.push('/');
        }
        problem.element.push_str(element);
        problem
    }

    fn event(&mut self, at: usize, event: Event<'_>) -> Outcome<()> {
        match event {
            // Empty elements come expanded, as a start and an end.
            Event::Start(start) | Event::Empty(start) => self.start(at, &start),
            Event::End(_) => self.end(),
            Event::Text(text) => self.text(at, &text.xml10_content(), false),
            Event::CData(text) => self.text(at, &text.xml10_content(), true),
            Event::GeneralRef(reference) => {
                let name: &str = &reference.into_inner();
                let Some(c) = resolve(name) else {
                    let message = format!("the entity '&{name};' is not one of XML's own five");
                    return Err(self.fail(at, message));
                };
                self.text(at, c.encode_utf8(&mut [0; 4]), true)
            }
            Event::Comment(text) => {
                if self.stack.is_empty() {
                    return Ok(());
                }
                self.flush(false);
                let text = text.xml10_content().into_owned();
                self.add(Node::Comment(text));
                Ok(())
            }
            Event::DocType(_) => Err(self.fail(at, "a document type ('<!DOCTYPE') is not allowed")),
            Event::Decl(_) if at > 0 => {
                Err(self.fail(at, "an XML declaration is only possible at the very start"))
            }
            Event::PI(_) if !self.stack.is_empty() => {
                Err(self.fail(at, "a processing instruction is only possible outside of the root element"))
            }
            Event::Decl(_) | Event::PI(_) | Event::Eof => Ok(()),
        }
    }

    fn start(&mut self, at: usize, start: &BytesStart<'_>) -> Outcome<()> {
        if self.stack.is_empty() && self.root.is_some() {
            return Err(self.fail(at, "there is a second root element"));
        }
        if self.stack.len() >= MAX_DEPTH {
            return Err(self.fail(at, format!("elements are nested deeper than {MAX_DEPTH} levels")));
        }
        self.elements += 1;
        if self.elements > MAX_ELEMENTS {
            return Err(self.fail(at, format!("there are more than {MAX_ELEMENTS} elements")));
        }
        self.flush(false);
        let name = start.name().0.to_owned();
        if !is_qualified_name(&name) {
            return Err(self.fail(at, format!("'{}' is not a name of an element", name.escape_debug())));
        }
        let pos = self.locator.at(at);
        let attrs = self.attributes(at + 1 + name.len(), start)?;
        self.stack.push(Element { name, attrs, children: Vec::new(), pos });
        self.check_prefixes(at)
    }

    /// `at` is where the text behind the element's name begins.
    fn attributes(&mut self, at: usize, start: &BytesStart<'_>) -> Outcome<Vec<Attr>> {
        let element = start.name().0;
        let raw = start.attributes_raw().as_ptr() as usize;
        let mut attrs: Vec<Attr> = Vec::new();
        for attribute in start.attributes() {
            let attribute = match attribute {
                Ok(attribute) => attribute,
                Err(e) => {
                    let (offset, what) = describe(&e);
                    // Counted from the element's name on.
                    let here = (at - element.len()).saturating_add(offset);
                    return Err(self.fail_in(here, element, format!("bad attribute: {what}")));
                }
            };
            let name = attribute.key.0;
            let here = at + (name.as_ptr() as usize).saturating_sub(raw);
            if attrs.len() == MAX_ATTRIBUTES {
                return Err(self.fail_in(
                    here,
                    element,
                    format!("an element has more than {MAX_ATTRIBUTES} attributes"),
                ));
            }
            if !is_qualified_name(name) {
                return Err(self.fail_in(
                    here,
                    element,
                    format!("'{}' is not a name of an attribute", name.escape_debug()),
                ));
            }
            if attribute.value.contains('<') {
                return Err(self.fail_in(here, element, format!("the attribute '{name}' contains a '<'")));
            }
            let value = match attribute.normalized_value(XmlVersion::Implicit1_0) {
                Ok(value) if value.chars().all(is_xml_char) => value.into_owned(),
                Ok(_) => {
                    return Err(self.fail_in(
                        here,
                        element,
                        format!("the attribute '{name}' contains a control character"),
                    ));
                }
                Err(e) => {
                    return Err(self.fail_in(
                        here,
                        element,
                        format!("the attribute '{name}' cannot be read: {e}"),
                    ));
                }
            };
            let pos = self.locator.at(here);
            attrs.push(Attr { name: name.to_owned(), value, pos });
        }
        Ok(attrs)
    }

    /// Enters the declarations of the innermost element and looks for names whose prefix nobody declared.
    fn check_prefixes(&mut self, at: usize) -> Outcome<()> {
        let depth = self.stack.len();
        let Some(element) = self.stack.last() else { return Ok(()) };
        for attr in &element.attrs {
            if let Some(prefix) = attr.name.strip_prefix("xmlns:") {
                self.prefixes.push((prefix.to_owned(), depth));
            }
        }
        let names = element.attrs.iter().map(|a| &a.name).chain([&element.name]);
        let known =
            |prefix: &str| prefix == "xmlns" || self.prefixes.iter().any(|(known, _)| known == prefix);
        let unknown = names.filter_map(|n| n.split_once(':')).find(|(prefix, _)| !known(prefix));
        if let Some((prefix, _)) = unknown {
            let message = format!("the namespace prefix '{prefix}' is not declared");
            let mut problem = self.fail(at, message);
            problem.hint = Some("declare it with xmlns:PREFIX='URI'".into());
            return Err(problem);
        }
        Ok(())
    }

    fn end(&mut self) -> Outcome<()> {
        self.flush(true);
        let depth = self.stack.len();
        while self.prefixes.last().is_some_and(|(_, d)| *d >= depth && *d > 0) {
            self.prefixes.pop();
        }
        if let Some(element) = self.stack.pop() {
            if self.stack.is_empty() {
                self.root = Some(element);
            } else {
                self.add(Node::Element(element));
            }
        }
        Ok(())
    }

    fn text(&mut self, at: usize, text: &str, data: bool) -> Outcome<()> {
        if self.stack.is_empty() {
            if data || !is_blank(text) {
                return Err(self.fail(at, "there is text outside of the root element"));
            }
            return Ok(());
        }
        self.pending.push_str(text);
        Ok(())
    }

    /// Ends a run of text. White space between elements is dropped, as libvirt's XML library does.
    fn flush(&mut self, closing: bool) {
        let text = std::mem::take(&mut self.pending);
        let Some(parent) = self.stack.last_mut() else { return };
        if text.is_empty() {
            return;
        }
        let is_text = |n: Option<&Node>| matches!(n, Some(Node::Text(_)));
        let mixed = is_text(parent.children.first()) || is_text(parent.children.last());
        let only_content = closing && parent.children.is_empty();
        if !is_blank(&text) || mixed || only_content {
            parent.children.push(Node::Text(text));
        }
    }

    fn add(&mut self, node: Node) {
        if let Some(parent) = self.stack.last_mut() {
            parent.children.push(node);
        }
    }
}

/// Only what XML counts as white space.
pub(crate) fn is_blank(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r'))
}

fn resolve(reference: &str) -> Option<char> {
    let c = match reference {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "apos" => '\'',
        "quot" => '"',
        other => {
            let digits = other.strip_prefix('#')?;
            let (digits, radix) = digits.strip_prefix('x').map_or((digits, 10), |hex| (hex, 16));
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            char::from_u32(u32::from_str_radix(digits, radix).ok()?)?
        }
    };
    is_xml_char(c).then_some(c)
}

/// Where in the element, and what.
fn describe(e: &quick_xml::events::attributes::AttrError) -> (usize, &'static str) {
    use quick_xml::events::attributes::AttrError as E;
    match e {
        E::ExpectedEq(at) => (*at, "a name must be followed by '='"),
        E::ExpectedValue(at) => (*at, "'=' must be followed by a value"),
        E::UnquotedValue(at) => (*at, "a value must be in quotes"),
        E::ExpectedQuote(at, _) => (*at, "a closing quote is missing"),
        E::Duplicated(at, _) => (*at, "the same attribute is given twice"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod test {
    use super::*;

    fn message(xml: &str) -> String {
        parse_tree(xml).expect_err("must be refused").to_string()
    }

    #[test]
    fn positions_count_lines_and_characters() {
        let root = parse_tree("<?xml version='1.0'?>\n<a>\n  <ü ö='1'\n    x='2'/></a>").unwrap();
        let inner = root.elements().next().unwrap();
        assert_eq!((inner.pos.line, inner.pos.column), (3, 3));
        assert_eq!((inner.attrs[0].pos.line, inner.attrs[0].pos.column), (3, 6));
        assert_eq!((inner.attrs[1].pos.line, inner.attrs[1].pos.column), (4, 5));
    }

    #[test]
    fn document_types_and_entities_are_refused() {
        let bomb = "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>";
        assert!(message(bomb).contains("<!DOCTYPE"), "{}", message(bomb));
        assert!(message("<a>&x;</a>").contains("'&x;'"));
        assert!(message("<a b='&x;'/>").contains("attribute 'b'"));
        assert!(message("<a>&#0;</a>").contains("'&#0;'"));
        assert!(message("<a b='&#1;'/>").contains("attribute 'b'"));
    }

    #[test]
    fn caps() {
        let deep = "<a>".repeat(MAX_DEPTH + 1) + &"</a>".repeat(MAX_DEPTH + 1);
        assert!(message(&deep).contains("64 levels"));
        let deepest = "<a>".repeat(MAX_DEPTH) + &"</a>".repeat(MAX_DEPTH);
        assert!(parse_tree(&deepest).is_ok());
        let many = format!("<a>{}</a>", "<b/>".repeat(MAX_ELEMENTS));
        assert!(message(&many).contains("20000 elements"));
        let attrs: String = (0..=MAX_ATTRIBUTES).map(|i| format!(" a{i}=''")).collect();
        assert!(message(&format!("<a{attrs}/>")).contains("64 attributes"));
        assert!(message(&format!("<a>{}</a>", " ".repeat(MAX_BYTES))).contains("1048576"));
    }

    #[test]
    fn what_is_not_xml_is_refused() {
        for xml in
            ["", "  ", "text", "<a>", "<a></b>", "<a/><b/>", "<a/>x", "<a b='1' b='2'/>", "<a b=1/>", "<1/>"]
        {
            assert!(parse_tree(xml).is_err(), "{xml:?} was accepted");
        }
        for xml in
            ["<a b='<'/>", "<a>\u{1}</a>", "<x:a/>", "<a x:b='1'/>", "<a><?pi?></a>", "<a:b:c/>", "<a>&</a>"]
        {
            assert!(parse_tree(xml).is_err(), "{xml:?} was accepted");
        }
    }

    #[test]
    fn a_prefix_ends_with_its_element() {
        assert!(parse_tree("<a><x:b xmlns:x='u'><x:c/></x:b></a>").is_ok());
        assert!(parse_tree("<a><x:b xmlns:x='u'/><x:c/></a>").is_err());
    }
}
