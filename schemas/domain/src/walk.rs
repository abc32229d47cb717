//! A typed walk over the tree that marks what it consumed.
//!
//! Whatever no parser asked for is unknown: [`Walk::finish`] warns about it once and hands it to the model to keep.
//! This module does not know the names of elements.

use std::cell::RefCell;
use std::fmt::Display;
use std::str::FromStr;

use crate::model::{Closed, Extra};
use crate::tree::{Attr, Element, Node, Pos, is_blank};
use crate::{Diagnostic, Host, printable};

/// Most errors that one document yields.
pub(crate) const MAX_ERRORS: usize = 20;
/// Most warnings that one document yields.
pub(crate) const MAX_WARNINGS: usize = 100;

/// What one parse collects.
pub(crate) struct Context<'a> {
    pub host: &'a Host,
    errors: RefCell<Vec<Diagnostic>>,
    warnings: RefCell<Vec<Diagnostic>>,
}

impl<'a> Context<'a> {
    pub fn new(host: &'a Host) -> Self {
        Self { host, errors: RefCell::default(), warnings: RefCell::default() }
    }

    pub fn error(&self, diagnostic: Diagnostic) {
        let mut errors = self.errors.borrow_mut();
        if errors.len() < MAX_ERRORS {
            errors.push(diagnostic);
        }
    }

    fn warn(&self, diagnostic: Diagnostic) {
        let mut warnings = self.warnings.borrow_mut();
        if warnings.len() < MAX_WARNINGS {
            warnings.push(diagnostic);
        }
    }

    /// Errors and warnings.
    pub fn finish(self) -> (Vec<Diagnostic>, Vec<Diagnostic>) {
        (self.errors.into_inner(), self.warnings.into_inner())
    }
}

/// The text of a child that has nothing else.
pub(crate) struct Leaf {
    pub text: String,
    pub pos: Pos,
    path: String,
}

/// One element under examination.
pub(crate) struct Walk<'a> {
    pub el: &'a Element,
    pub cx: &'a Context<'a>,
    path: String,
    /// One bit per attribute: there are at most 64.
    attrs: u64,
    kids: Vec<bool>,
    kept: Vec<(String, usize, Extra)>,
    text_taken: bool,
}

impl<'a> Walk<'a> {
    pub fn root(el: &'a Element, cx: &'a Context<'a>) -> Self {
        Self::at(el, cx, el.name.clone())
    }

    fn at(el: &'a Element, cx: &'a Context<'a>, path: String) -> Self {
        let kids = vec![false; el.children.len()];
        Self { el, cx, path, attrs: 0, kids, kept: Vec::new(), text_taken: false }
    }

    pub fn pos(&self) -> Pos {
        self.el.pos
    }

    /// An error about this element.
    pub fn error(&self, message: impl Into<String>) {
        self.cx.error(Diagnostic::new(self.el.pos, self.path.clone(), message));
    }

    /// An error about this element with a hint.
    pub fn error_hint(&self, message: impl Into<String>, hint: impl Into<String>) {
        let mut diagnostic = Diagnostic::new(self.el.pos, self.path.clone(), message);
        diagnostic.hint = Some(printable(hint.into()));
        self.cx.error(diagnostic);
    }

    /// An error at an attribute of this element, or at the element where it has no such attribute.
    pub fn error_at(&self, name: &str, message: impl Into<String>) {
        let pos = self.el.attrs.iter().find(|a| a.name == name).map_or(self.el.pos, |a| a.pos);
        self.cx.error(Diagnostic::new(pos, self.path.clone(), message));
    }

    /// A warning at an attribute of this element.
    pub fn warn_at(&self, name: &str, message: impl Into<String>) {
        let pos = self.el.attrs.iter().find(|a| a.name == name).map_or(self.el.pos, |a| a.pos);
        self.cx.warn(Diagnostic::new(pos, self.path.clone(), message));
    }

    /// An error about a child with text.
    pub fn error_leaf(&self, leaf: &Leaf, message: impl Into<String>) {
        self.cx.error(Diagnostic::new(leaf.pos, leaf.path.clone(), message));
    }

    fn raw(&mut self, name: &str) -> Option<&'a Attr> {
        let index = self.el.attrs.iter().position(|a| a.name == name)?;
        self.attrs |= 1u64.checked_shl(u32::try_from(index).unwrap_or(u32::MAX)).unwrap_or(0);
        self.el.attrs.get(index)
    }

    /// The value of an attribute.
    pub fn get(&mut self, name: &str) -> Option<String> {
        self.raw(name).map(|a| a.value.clone())
    }

    /// The value of an attribute that must be there and not be empty.
    pub fn need(&mut self, name: &str) -> Option<String> {
        match self.get(name) {
            Some(value) if !value.is_empty() => Some(value),
            Some(_) => {
                self.error_at(name, format!("the attribute '{name}' is empty"));
                None
            }
            None => {
                self.error(format!("the attribute '{name}' is missing"));
                None
            }
        }
    }

    /// An attribute out of a closed set.
    pub fn closed<T: Closed>(&mut self, name: &str) -> Option<T> {
        let value = self.get(name)?;
        let found = T::find(&value);
        if found.is_none() {
            self.error_at(name, format!("{name} '{}' is not one of {}", value.escape_debug(), T::names()));
        }
        found
    }

    /// An attribute that is a number or something else that can be read from a string.
    pub fn number<T: FromStr>(&mut self, name: &str) -> Option<T> {
        let value = self.get(name)?;
        let found = plain_number(&value);
        if found.is_none() {
            self.error_at(name, format!("{name} '{}' is not a number in range", value.escape_debug()));
        }
        found
    }

    /// An attribute that is `yes` or `no`.
    pub fn yes_no(&mut self, name: &str) -> Option<bool> {
        self.switch(name, "yes", "no")
    }

    /// An attribute of two values.
    pub fn switch(&mut self, name: &str, yes: &str, no: &str) -> Option<bool> {
        let value = self.get(name)?;
        if value != yes && value != no {
            self.error_at(name, format!("{name} '{}' is not one of {yes}, {no}", value.escape_debug()));
            return None;
        }
        Some(value == yes)
    }

    /// The one child element of that name; a second one is an error.
    pub fn one(&mut self, name: &str) -> Option<Walk<'a>> {
        let mut found = self.all(name, usize::MAX).into_iter();
        let first = found.next()?;
        if let Some(second) = found.next() {
            second.error("this element may stand here only once");
        }
        Some(first)
    }

    /// All child elements of that name; more than `cap` of them are an error.
    pub fn all(&mut self, name: &str, cap: usize) -> Vec<Walk<'a>> {
        let mut found = Vec::new();
        for (index, node) in self.el.children.iter().enumerate() {
            if let Node::Element(child) = node
                && child.name == name
            {
                if let Some(mark) = self.kids.get_mut(index) {
                    *mark = true;
                }
                found.push(Walk::at(child, self.cx, format!("{}/{}", self.path, child.name)));
            }
        }
        if let Some(over) = found.get(cap) {
            over.error(format!("there are {} elements '{name}', at most {cap} are possible", found.len()));
            found.truncate(cap);
        }
        found
    }

    /// A child that only says something by being there.
    pub fn flag(&mut self, name: &str) -> bool {
        let Some(child) = self.one(name) else { return false };
        let extra = child.finish();
        self.keep(name, 0, extra);
        true
    }

    /// The text inside this element, as it is.
    pub fn text(&mut self) -> String {
        self.text_taken = true;
        let text = self
            .el
            .children
            .iter()
            .filter_map(|n| if let Node::Text(t) = n { Some(t.as_str()) } else { None });
        text.collect()
    }

    /// The one child of that name that has text; empty text counts as nothing.
    pub fn leaf(&mut self, name: &str) -> Option<Leaf> {
        let child = self.one(name)?;
        self.take_leaf(name, 0, child)
    }

    /// Finishes a child that has only text, and keeps what is unknown in it for child `index` of that name.
    pub fn take_leaf(&mut self, name: &str, index: usize, mut child: Walk<'a>) -> Option<Leaf> {
        let leaf = Leaf { text: child.text(), pos: child.pos(), path: child.path.clone() };
        let extra = child.finish();
        self.keep(name, index, extra);
        (!leaf.text.is_empty()).then_some(leaf)
    }

    /// The text of a child out of a closed set.
    pub fn leaf_closed<T: Closed>(&mut self, name: &str) -> Option<T> {
        let leaf = self.leaf(name)?;
        let found = T::find(leaf.text.trim());
        if found.is_none() {
            let message = format!("'{}' is not one of {}", leaf.text.trim().escape_debug(), T::names());
            self.error_leaf(&leaf, message);
        }
        found
    }

    /// The text of a child as a number within limits.
    pub fn leaf_number<T: FromStr + PartialOrd + Display>(
        &mut self,
        name: &str,
        low: T,
        high: T,
    ) -> Option<T> {
        let leaf = self.leaf(name)?;
        match plain_number::<T>(leaf.text.trim()) {
            Some(n) if low <= n && n <= high => Some(n),
            _ => {
                let shown = leaf.text.trim().escape_debug();
                self.error_leaf(&leaf, format!("'{shown}' is not a number from {low} to {high}"));
                None
            }
        }
    }

    /// The same where 0 is as good as no element.
    pub fn leaf_number_or_0<T: FromStr + PartialOrd + Display + Default>(
        &mut self,
        name: &str,
        low: T,
        high: T,
    ) -> Option<T> {
        let leaf = self.leaf(name)?;
        match plain_number::<T>(leaf.text.trim()) {
            Some(n) if n == T::default() => None,
            Some(n) if low <= n && n <= high => Some(n),
            _ => {
                let shown = leaf.text.trim().escape_debug();
                self.error_leaf(&leaf, format!("'{shown}' is not a number from {low} to {high}"));
                None
            }
        }
    }

    /// Keeps what was unknown in a child that has no place of its own in the model.
    pub fn keep(&mut self, name: &str, index: usize, extra: Extra) {
        if !extra.is_empty() {
            self.kept.push((name.to_owned(), index, extra));
        }
    }

    /// Warns about what nobody asked for, and returns it.
    pub fn finish(self) -> Extra {
        let mut extra = Extra { leaves: self.kept, ..Extra::default() };
        for (index, attr) in self.el.attrs.iter().enumerate() {
            if self.attrs >> index & 1 == 1 {
                continue;
            }
            if attr.name != "xmlns" && !attr.name.starts_with("xmlns:") {
                let message = format!("unknown attribute '{}': kept and otherwise ignored", attr.name);
                self.cx.warn(Diagnostic::new(attr.pos, self.path.clone(), message));
            }
            extra.attrs.push(attr.clone());
        }
        for (node, taken) in self.el.children.iter().zip(self.kids) {
            match node {
                Node::Element(child) if !taken => {
                    let path = format!("{}/{}", self.path, child.name);
                    let message = format!("unknown element '{}': kept and otherwise ignored", child.name);
                    self.cx.warn(Diagnostic::new(child.pos, path, message));
                    extra.children.push(child.clone());
                }
                Node::Text(text) if !self.text_taken && !is_blank(text) => {
                    let message =
                        format!("text '{}' has no meaning here and is dropped", text.trim().escape_debug());
                    self.cx.warn(Diagnostic::new(self.el.pos, self.path.clone(), message));
                }
                _ => {}
            }
        }
        extra
    }
}

/// A number without a plus sign or white space.
fn plain_number<T: FromStr>(text: &str) -> Option<T> {
    if text.starts_with('+') { None } else { text.parse().ok() }
}
