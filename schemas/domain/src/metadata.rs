//! Elements below `<metadata>`, which belong to whoever owns their namespace.
//!
//! This module does not know what any of them means, our own included.

use crate::model::Domain;
use crate::tree::{Attr, Element, Node, Pos, is_plain_name, is_xml_char, parse_tree};
use crate::write::{Style, write};
use crate::{Diagnostic, ParseError};

/// The namespace of an element directly below `<metadata>`; `outer` are the attributes of the element around that.
pub(crate) fn namespace_of<'a>(
    element: &'a Element,
    metadata: Option<&'a Element>,
    outer: &'a [Attr],
) -> Option<&'a str> {
    let key = match element.name.split_once(':') {
        Some((prefix, _)) => format!("xmlns:{prefix}"),
        None => "xmlns".to_owned(),
    };
    let metadata = metadata.into_iter().flat_map(|m| &m.attrs);
    let mut attrs = element.attrs.iter().chain(metadata).chain(outer);
    attrs.find(|a| a.name == key).map(|a| a.value.as_str())
}

impl Domain {
    /// The element of a namespace, as XML text without that namespace's prefix, as `virsh metadata` prints it.
    pub fn metadata_element(&self, uri: &str) -> Option<String> {
        let metadata = self.metadata.as_ref()?;
        let outer = self.outer_declarations();
        let mut element = metadata.elements().find(|e| self.namespace_of(e) == Some(uri))?.clone();
        let own: Vec<String> = prefixes_of(&element, uri)
            .chain(outer.iter().filter(|a| a.value == uri).filter_map(|a| declared(a).map(str::to_owned)))
            .collect();
        strip(&mut element, &own);
        element.attrs.retain(|a| declared(a).is_none() || a.value != uri);
        // Prefixes that the element borrows from around it must stay declared.
        for attr in outer {
            if attr.value != uri && uses(&element, &attr.name) && element.value(&attr.name).is_none() {
                element.attrs.push(attr);
            }
        }
        let mut out = String::new();
        write(&mut out, &element, 0, Style::Metadata);
        Some(out)
    }

    /// Replaces the element of a namespace, or removes it where `xml` is none. The prefix is declared on it and given
    /// to each element inside that has none. Returns whether something changed.
    pub fn set_metadata_element(
        &mut self,
        uri: &str,
        prefix: &str,
        xml: Option<&str>,
    ) -> Result<bool, ParseError> {
        let refuse = |message: String| ParseError::one(Diagnostic::new(Pos::default(), "metadata", message));
        let fresh = match xml {
            None => None,
            Some(xml) => {
                if uri.is_empty() {
                    return Err(refuse("the namespace of a metadata element is empty".into()));
                }
                if !uri.chars().all(is_xml_char) {
                    return Err(refuse(format!(
                        "'{}' has a character that cannot be in a document",
                        uri.escape_debug()
                    )));
                }
                if !is_plain_name(prefix) || prefix.starts_with("xml") {
                    return Err(refuse(format!(
                        "'{}' is not a prefix of a namespace",
                        prefix.escape_debug()
                    )));
                }
                let mut element = parse_tree(xml).map_err(ParseError::one)?;
                let key = format!("xmlns:{prefix}");
                if element.value(&key).is_some() {
                    return Err(refuse(format!("the element declares the prefix '{prefix}' itself")));
                }
                qualify(&mut element, prefix, false);
                element.attrs.insert(0, Attr { name: key, value: uri.to_owned(), pos: Pos::default() });
                Some(element)
            }
        };
        let before = self.metadata.clone();
        let mut metadata = before.clone().unwrap_or_else(|| Element::new("metadata"));
        metadata.children.retain(|n| !matches!(n, Node::Element(e) if self.namespace_of(e) == Some(uri)));
        metadata.children.extend(fresh.map(Node::Element));
        self.metadata = (!metadata.is_bare()).then_some(metadata);
        let bad = self.settings_remarks().errors.into_iter().next().map(ParseError::one);
        if let Some(error) = bad.or_else(|| self.check_output().err()) {
            self.metadata = before;
            return Err(error);
        }
        Ok(self.metadata != before)
    }

    /// Puts an element of ours in the place of the one with its namespace.
    pub(crate) fn replace_metadata(&mut self, uri: &str, element: Element) -> Result<(), ParseError> {
        let before = self.metadata.clone();
        let mut metadata = before.clone().unwrap_or_else(|| Element::new("metadata"));
        metadata.children.retain(|n| !matches!(n, Node::Element(e) if self.namespace_of(e) == Some(uri)));
        metadata.children.push(Node::Element(element));
        self.metadata = Some(metadata);
        let bad = self.settings_remarks().errors.into_iter().next().map(ParseError::one);
        if let Some(error) = bad.or_else(|| self.check_output().err()) {
            self.metadata = before;
            return Err(error);
        }
        Ok(())
    }

    /// Whether [`Domain::to_xml`] can be read again: to be asked before a changed definition is kept. What one change
    /// adds may be small enough by itself, and too large, too many or too deep where it stands.
    pub fn check_output(&self) -> Result<(), ParseError> {
        self.seccomp().map_err(|diagnostics| ParseError { diagnostics })?;
        parse_tree(&self.to_xml()).map(drop).map_err(|mut problem| {
            // The place is in no document that anyone has seen.
            (problem.line, problem.column) = (0, 0);
            problem.message = format!("as it would be kept: {}", problem.message);
            ParseError::one(problem)
        })
    }

    /// The element of a namespace.
    pub(crate) fn metadata_of(&self, uri: &str) -> Option<&Element> {
        self.metadata.as_ref()?.elements().find(|e| self.namespace_of(e) == Some(uri))
    }

    /// Namespace declarations around the children of `<metadata>`, the nearest first.
    fn outer_declarations(&self) -> Vec<Attr> {
        let metadata = self.metadata.iter().flat_map(|m| &m.attrs);
        metadata.chain(&self.extra.attrs).filter(|a| declared(a).is_some()).cloned().collect()
    }

    fn namespace_of<'a>(&'a self, element: &'a Element) -> Option<&'a str> {
        namespace_of(element, self.metadata.as_ref(), &self.extra.attrs)
    }

    /// The elements of a namespace directly below `<metadata>`.
    pub(crate) fn metadata_elements<'a>(&'a self, uri: &'a str) -> impl Iterator<Item = &'a Element> {
        let all = self.metadata.iter().flat_map(Element::elements);
        all.filter(move |e| self.namespace_of(e) == Some(uri))
    }
}

/// The prefix that an attribute declares; the empty one for `xmlns`.
fn declared(attr: &Attr) -> Option<&str> {
    if attr.name == "xmlns" { Some("") } else { attr.name.strip_prefix("xmlns:") }
}

fn prefixes_of<'a>(element: &'a Element, uri: &'a str) -> impl Iterator<Item = String> + 'a {
    element.attrs.iter().filter(move |a| a.value == uri).filter_map(declared).map(str::to_owned)
}

/// Takes the prefixes off all names of elements.
fn strip(element: &mut Element, prefixes: &[String]) {
    if let Some((prefix, local)) = element.name.split_once(':')
        && prefixes.iter().any(|p| p == prefix)
    {
        element.name = local.to_owned();
    }
    for node in &mut element.children {
        if let Node::Element(child) = node {
            strip(child, prefixes);
        }
    }
}

/// Gives the prefix to all elements that are in no namespace.
fn qualify(element: &mut Element, prefix: &str, inside_default: bool) {
    let inside_default = match element.value("xmlns") {
        Some(uri) => !uri.is_empty(),
        None => inside_default,
    };
    if !inside_default && !element.name.contains(':') {
        element.name = format!("{prefix}:{}", element.name);
    }
    for node in &mut element.children {
        if let Node::Element(child) = node {
            qualify(child, prefix, inside_default);
        }
    }
}

/// Whether a declaration such as `xmlns:x` is needed by an element or anything in it.
fn uses(element: &Element, declaration: &str) -> bool {
    let Some(prefix) = declaration.strip_prefix("xmlns:") else { return declaration == "xmlns" };
    let has = |name: &str| name.split_once(':').is_some_and(|(p, _)| p == prefix);
    has(&element.name)
        || element.attrs.iter().any(|a| has(&a.name))
        || element.elements().any(|child| uses(child, declaration))
}
