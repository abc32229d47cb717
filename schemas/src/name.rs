//! Names of domains.
//!
//! A name becomes a file, a control group, a varlink reference and later an AppArmor profile and a D-Bus path, so it
//! is parsed once, at the edge, and is ASCII only. This module does not know where a name comes from.

use std::fmt;

/// Longest name in bytes: with our longest suffix it still is a file name (255 bytes, limits.h).
pub const MAX_NAME: usize = 128;

/// A valid name of a domain: 1 to [`MAX_NAME`] bytes of ASCII letters, digits, space and `_.+:@,=~#%-`, of which the
/// first is a letter, a digit or `_` and the last is not a space.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainName(String);

/// Why a string is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("the name is empty")]
    Empty,
    /// Too long.
    #[error("the name has {0} bytes, at most {MAX_NAME} are possible")]
    TooLong(usize),
    /// A character that a name cannot have.
    #[error("the name '{}' has {}, but may only have ASCII letters, digits, spaces and _.+:@,=~#%-", name.escape_debug(), describe(*character))]
    Character {
        /// The string.
        name: String,
        /// The character.
        character: char,
    },
    /// Wrong first or last character.
    #[error("the name '{0}' must begin with a letter, a digit or '_' and must not end with a space")]
    Edge(String),
}

fn describe(c: char) -> String {
    match c {
        '/' => "a '/'".into(),
        '\n' => "a newline".into(),
        c if c.is_ascii_control() => format!("the control character {:#04x}", u32::from(c)),
        c if !c.is_ascii() => format!("the non-ASCII character '{c}'"),
        c => format!("the character '{c}'"),
    }
}

impl DomainName {
    /// Checks a name.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > MAX_NAME {
            return Err(NameError::TooLong(name.len()));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || " _.+:@,=~#%-".contains(c);
        if let Some(character) = name.chars().find(|c| !allowed(*c)) {
            return Err(NameError::Character { name: name.to_owned(), character });
        }
        let first = name.as_bytes()[0];
        if !(first.is_ascii_alphanumeric() || first == b'_') || name.ends_with(' ') {
            return Err(NameError::Edge(name.to_owned()));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the container is called on its network: letters, digits and inner hyphens only, at most 64 bytes
    /// (sethostname(2)); other characters become hyphens. "localhost" if nothing is left.
    pub fn hostname(&self) -> String {
        let mapped: String =
            self.0.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let trimmed: String = mapped.trim_matches('-').chars().take(64).collect();
        let trimmed = trimmed.trim_end_matches('-');
        if trimmed.is_empty() { "localhost".into() } else { trimmed.into() }
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for DomainName {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        Self::parse(s)
    }
}

impl std::borrow::Borrow<str> for DomainName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn accepts_what_people_use() {
        for name in ["web", "8675309", "deb12.example.org", "a b", "_x", "A+b:c@d,e=f~g#h%i-j"] {
            assert_eq!(DomainName::parse(name).map(|n| n.to_string()), Ok(name.to_owned()));
        }
    }

    #[test]
    fn refuses_what_cannot_be_a_file_everywhere() {
        for name in [
            "",
            "a/b",
            "..",
            ".",
            ".hidden",
            "-x",
            "a\nb",
            "ä",
            "web\u{430}",
            "x ",
            " x",
            "a\0",
            "a'b",
            "a\tb",
        ] {
            assert!(DomainName::parse(name).is_err(), "{name:?}");
        }
        assert!(DomainName::parse(&"x".repeat(MAX_NAME)).is_ok());
        assert_eq!(DomainName::parse(&"x".repeat(129)), Err(NameError::TooLong(129)));
    }

    #[test]
    fn says_what_is_wrong() {
        let text = |name: &str| DomainName::parse(name).map_or_else(|e| e.to_string(), |_| String::new());
        assert!(text("a/b").contains("a '/'"));
        assert!(text("a\nb").contains("'a\\nb' has a newline"));
        assert!(text("nö").contains("non-ASCII character 'ö'"));
        assert!(text("..").contains("must begin with"));
    }

    #[test]
    fn hostnames_are_hostnames() {
        let host = |name: &str| DomainName::parse(name).map(|n| n.hostname());
        assert_eq!(host("web").as_deref(), Ok("web"));
        assert_eq!(host("web_1.example").as_deref(), Ok("web-1-example"));
        assert_eq!(host("___").as_deref(), Ok("localhost"));
        assert_eq!(host(&"x".repeat(100)).map(|h| h.len()), Ok(64));
    }
}
