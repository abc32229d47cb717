//! The tree back into text, in the two forms that libvirt's output mixes.
//!
//! Elements of a domain have two spaces per level, single quotes, and all five characters escaped. What is inside
//! `<metadata>` has double quotes. This module does not know which element is which.

use crate::model::Extra;
use crate::tree::{Attr, Element, Node, Pos, is_xml_char};

/// Which of libvirt's two writers to imitate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// That for domains.
    Canonical,
    /// That of its XML library, used for metadata.
    Metadata,
}

/// Writes an element at a level of indentation, without a newline at the end.
pub(crate) fn write(out: &mut String, element: &Element, level: usize, style: Style) {
    out.push('<');
    out.push_str(&element.name);
    let quote = if style == Style::Canonical { '\'' } else { '"' };
    for attr in &element.attrs {
        out.push(' ');
        out.push_str(&attr.name);
        out.push('=');
        out.push(quote);
        escape(out, &attr.value, style, true);
        out.push(quote);
    }
    if element.children.is_empty() {
        out.push_str("/>");
        return;
    }
    out.push('>');
    let flat = element.children.iter().any(|n| matches!(n, Node::Text(_)));
    for node in &element.children {
        if !flat {
            newline(out, level + 1);
        }
        match node {
            Node::Element(child) if level == 0 && child.name == "metadata" => {
                write(out, child, level + 1, Style::Metadata);
            }
            Node::Element(child) => write(out, child, level + 1, style),
            Node::Text(text) => escape(out, text, style, false),
            Node::Comment(text) => {
                out.push_str("<!--");
                out.push_str(text);
                out.push_str("-->");
            }
        }
    }
    if !flat {
        newline(out, level);
    }
    out.push_str("</");
    out.push_str(&element.name);
    out.push('>');
}

fn newline(out: &mut String, level: usize) {
    out.push('\n');
    for _ in 0..level {
        out.push_str("  ");
    }
}

fn escape(out: &mut String, text: &str, style: Style, attribute: bool) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' if style == Style::Canonical => out.push_str("&apos;"),
            '"' if style == Style::Canonical || attribute => out.push_str("&quot;"),
            '\r' => out.push_str("&#13;"),
            '\n' if attribute => out.push_str("&#10;"),
            '\t' if attribute => out.push_str("&#9;"),
            c if is_xml_char(c) => out.push(c),
            // As libvirt: a document that could not be read again is worse.
            _ => {}
        }
    }
}

impl Element {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), attrs: Vec::new(), children: Vec::new(), pos: Pos::default() }
    }

    pub(crate) fn attr(mut self, name: &str, value: impl ToString) -> Self {
        self.attrs.push(Attr { name: name.to_owned(), value: value.to_string(), pos: Pos::default() });
        self
    }

    pub(crate) fn opt(self, name: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.attr(name, value),
            None => self,
        }
    }

    pub(crate) fn body(mut self, text: impl ToString) -> Self {
        self.children.push(Node::Text(text.to_string()));
        self
    }

    pub(crate) fn child(mut self, child: Element) -> Self {
        self.children.push(Node::Element(child));
        self
    }

    pub(crate) fn maybe(self, child: Option<Element>) -> Self {
        match child {
            Some(child) => self.child(child),
            None => self,
        }
    }

    pub(crate) fn each(mut self, children: impl IntoIterator<Item = Element>) -> Self {
        self.children.extend(children.into_iter().map(Node::Element));
        self
    }

    /// A child with text, and with whatever unknown things `extra` holds for the first child of that name;
    /// empty text is no text.
    pub(crate) fn leaf(self, name: &str, text: Option<impl ToString>, extra: &Extra) -> Self {
        match text.map(|t| t.to_string()).filter(|t| !t.is_empty()) {
            Some(text) => self.child(Element::new(name).body(text).extra_of(extra, name, 0)),
            None => self.maybe(extra.of(name, 0).map(|of| Element::new(name).extra(of))),
        }
    }

    /// A child with one attribute, otherwise like [`Element::leaf`].
    pub(crate) fn with(
        self,
        name: &str,
        attribute: &str,
        value: Option<impl ToString>,
        extra: &Extra,
    ) -> Self {
        let of = extra.of(name, 0);
        if value.is_none() && of.is_none() {
            return self;
        }
        self.child(Element::new(name).opt(attribute, value).extra_of(extra, name, 0))
    }

    /// A child that only says something by being there.
    pub(crate) fn flag(self, name: &str, set: bool, extra: &Extra) -> Self {
        if set { self.child(Element::new(name).extra_of(extra, name, 0)) } else { self }
    }

    /// Appends what was unknown inside this element.
    pub(crate) fn extra(mut self, extra: &Extra) -> Self {
        self.attrs.extend(extra.attrs.iter().cloned());
        self.children.extend(extra.children.iter().cloned().map(Node::Element));
        self
    }

    /// Appends what `parent` holds for its known child `name` number `index`.
    pub(crate) fn extra_of(self, parent: &Extra, name: &str, index: usize) -> Self {
        match parent.of(name, index) {
            Some(extra) => self.extra(extra),
            None => self,
        }
    }

    pub(crate) fn is_bare(&self) -> bool {
        self.attrs.is_empty() && self.children.is_empty()
    }
}
