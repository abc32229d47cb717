//! libvirt's typed parameters as libvirt-dbus has them: `a{sv}`, in answers with each value in a variant in a variant.
//!
//! Pure. Does not know what any parameter means.

use std::collections::{BTreeMap, HashMap};

use zbus::{OwnedVariant, Variant};

use crate::api::dbus::error::Refusal;

/// Parameters of an answer.
#[derive(Debug, Default)]
pub struct Out(BTreeMap<String, Variant<'static>>);

impl Out {
    /// Adds one.
    pub fn put(&mut self, name: impl Into<String>, value: impl Into<Variant<'static>>) {
        // Clients of libvirt-dbus take two wrappers off; it has always been like that there.
        self.0.insert(name.into(), Variant::Variant(Box::new(value.into())));
    }

    /// Adds one where there is one. Figures are never negative.
    pub fn figure(&mut self, name: impl Into<String>, value: Option<i64>) {
        if let Some(value) = value {
            self.put(name, u64::try_from(value).unwrap_or(0));
        }
    }

    /// What goes into an answer.
    pub fn map(&self) -> &BTreeMap<String, Variant<'static>> {
        &self.0
    }

    /// What goes into an answer.
    pub fn into_map(self) -> BTreeMap<String, Variant<'static>> {
        self.0
    }
}

/// Parameters of a call: each is taken once, and what is left over is refused.
#[derive(Debug)]
pub struct In(HashMap<String, OwnedVariant>);

fn bare(value: &Variant<'_>) -> Variant<'static> {
    match value {
        Variant::Variant(inner) => bare(inner),
        Variant::I32(n) => Variant::I64((*n).into()),
        Variant::U32(n) => Variant::I64((*n).into()),
        Variant::I64(n) => Variant::I64(*n),
        // See `number`.
        Variant::U64(n) => Variant::I64(i64::try_from(*n).unwrap_or(i64::MAX)),
        Variant::Str(text) => Variant::from(text.as_str().to_owned()),
        _ => Variant::Bool(false),
    }
}

/// A number that is larger than any of ours.
fn beyond(value: &Variant<'_>) -> Option<u64> {
    match value {
        Variant::Variant(inner) => beyond(inner),
        Variant::U64(n) if i64::try_from(*n).is_err() => Some(*n),
        _ => None,
    }
}

impl In {
    /// Those of a call; libvirt refuses to be given none. `function`: its name of what is asked.
    pub fn of_call(map: HashMap<String, OwnedVariant>, function: &str) -> Result<Self, Refusal> {
        match map.is_empty() {
            true => Err(Refusal::invalid(format!("params in {function} must not be NULL"))),
            false => Ok(Self(map)),
        }
    }

    /// A number of any type of libvirt's. What is larger than any number of ours is our largest.
    fn number(&mut self, name: &str) -> Result<Option<i64>, Refusal> {
        match self.0.remove(name).map(|v| bare(&v)) {
            None => Ok(None),
            Some(Variant::I64(n)) => Ok(Some(n)),
            Some(_) => Err(Refusal::invalid(format!("parameter '{name}' must be a number"))),
        }
    }

    /// The same where no number may stand for another.
    pub fn exact(&mut self, name: &str) -> Result<Option<i64>, Refusal> {
        match self.0.get(name).and_then(|v| beyond(v)) {
            Some(n) => Err(Refusal::invalid(format!("parameter '{name}' is out of range: {n}"))),
            None => self.number(name),
        }
    }

    /// The same where libvirt's type has no negative numbers: -1, which stands for "no limit" elsewhere, means nothing here.
    pub fn amount(&mut self, name: &str) -> Result<Option<i64>, Refusal> {
        unless_negative(name, self.exact(name)?)
    }

    /// The same where very large numbers all stand for "no limit".
    pub fn limit(&mut self, name: &str) -> Result<Option<i64>, Refusal> {
        unless_negative(name, self.number(name)?)
    }

    /// A text.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.0.remove(name).map(|v| bare(&v)) {
            None => Ok(None),
            Some(Variant::Str(text)) => Ok(Some(text.as_str().to_owned())),
            Some(_) => Err(Refusal::invalid(format!("parameter '{name}' must be a string"))),
        }
    }

    /// Nothing may be left.
    pub fn finish(self) -> Result<(), Refusal> {
        match self.0.keys().min() {
            None => Ok(()),
            Some(name) => Err(Refusal::invalid(format!("parameter '{name}' not supported"))),
        }
    }
}

fn unless_negative(name: &str, number: Option<i64>) -> Result<Option<i64>, Refusal> {
    match number {
        Some(n) if n < 0 => Err(Refusal::invalid(format!("parameter '{name}' must not be negative"))),
        number => Ok(number),
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn values_are_taken_once_and_none_is_left() {
        let value = |v: Variant<'static>| v.try_into_owned().expect("owned");
        let given = HashMap::from([
            ("a".to_owned(), value(Variant::U64(u64::MAX))),
            ("b".to_owned(), value(Variant::Variant(Box::new(Variant::from("x"))))),
            ("c".to_owned(), value(Variant::F64(1.0))),
            ("d".to_owned(), value(Variant::I32(-1))),
        ]);
        let mut given = In::of_call(given, "f").expect("some");
        assert_eq!(given.number("a"), Ok(Some(i64::MAX)));
        assert_eq!(given.number("a"), Ok(None));
        assert_eq!(given.text("b"), Ok(Some("x".into())));
        assert!(given.number("c").is_err());
        let below = In::of_call(HashMap::from([("e".to_owned(), value(Variant::I64(-1)))]), "f");
        let below = below.and_then(|mut given| given.amount("e")).expect_err("negative").reply().1;
        assert_eq!(below, "invalid argument: parameter 'e' must not be negative");
        assert_eq!(given.finish().expect_err("d").reply().1, "invalid argument: parameter 'd' not supported");
    }

    #[test]
    fn what_is_too_large_is_told_as_it_was_said() {
        let value = |n: u64| Variant::Variant(Box::new(Variant::U64(n))).try_into_owned().expect("owned");
        let given = |n: u64| In::of_call(HashMap::from([("x".to_owned(), value(n))]), "f").expect("some");
        let says = "invalid argument: parameter 'x' is out of range: 9223372036854775808";
        assert_eq!(given(1 << 63).amount("x").expect_err("too large").reply().1, says);
        assert_eq!(given(1 << 63).exact("x").expect_err("too large").reply().1, says);
        assert_eq!(given(i64::MAX.unsigned_abs()).exact("x"), Ok(Some(i64::MAX)));
        assert_eq!(given(u64::MAX).limit("x"), Ok(Some(i64::MAX)));
    }

    #[test]
    fn nothing_at_all_is_refused_as_libvirt_does() {
        let refused = In::of_call(HashMap::new(), "virDomainSetX").expect_err("nothing").reply().1;
        assert_eq!(refused, "invalid argument: params in virDomainSetX must not be NULL");
    }

    #[test]
    fn answers_have_two_wrappers() {
        let mut out = Out::default();
        out.figure("x", Some(3));
        out.figure("y", None);
        assert_eq!(out.map().get("x"), Some(&Variant::Variant(Box::new(Variant::U64(3)))));
        assert_eq!(out.map().len(), 1);
    }
}
