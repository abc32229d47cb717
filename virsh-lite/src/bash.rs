//! What bash is to put in the place of the word that it completes.
//!
//! Does not know what fits. Knows that bash asks about the whole line but replaces only a part of it: what comes after an
//! open quote, which it closes itself, or else after the last of `COMP_WORDBREAKS`.

use crate::parse::Typed;

/// Characters that need no backslash.
const SAFE: &str = "_-+=:,./@%^";

/// The characters behind which bash begins a word. An `@` is one too, but belongs to the word that it begins.
pub fn breaks(variable: &str) -> String {
    variable.replace('@', "")
}

/// The text for a candidate; none if it cannot be written on one line.
pub fn replacement(candidate: &str, typed: &Typed) -> Option<String> {
    let fixed = typed.words.last()?.get(..typed.fixed)?;
    let rest = candidate.strip_prefix(fixed).filter(|rest| !rest.contains('\n'))?;
    Some(match typed.quote {
        Some('"') => escaped(rest, |c| !"\"\\$`".contains(c)),
        Some(_) => rest.replace('\'', "'\\''"),
        None => escaped(rest, |c| c.is_alphanumeric() || SAFE.contains(c)),
    })
}

/// With a backslash before what is not safe.
fn escaped(text: &str, safe: impl Fn(char) -> bool) -> String {
    text.chars().flat_map(|c| (!safe(c)).then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::parse::typed;

    fn get(line: &str, candidate: &str) -> Option<String> {
        replacement(candidate, &typed(line, &breaks(" \t\n\"'@><=;|&(:")))
    }

    #[test]
    fn quotes_are_left_to_bash() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(get("v dominfo w", "we b$"), some("we\\ b\\$"));
        assert_eq!(get("v dominfo ", "ü~"), some("ü\\~"));
        assert_eq!(get("v dominfo \"w", "we b$"), some("we b\\$"));
        assert_eq!(get("v dominfo 'w", "we b$'s"), some("we b$'\\''s"));
        assert_eq!(get("v dominfo \"we b", "we b:1"), some("we b:1"));
    }

    #[test]
    fn only_what_bash_replaces_is_given() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(get("v console --domain=w", "--domain=we b"), some("we\\ b"));
        assert_eq!(get("v console --domain=we\\ b", "--domain=we b:1"), some("we\\ b:1"));
        assert_eq!(get("v console --domain=\"w", "--domain=we b"), some("we b"));
        assert_eq!(get("v dominfo we:b", "we:b1"), some("b1"));
        assert_eq!(get("v dominfo \"we:b", "we:b1"), some("we:b1"));
        assert_eq!(get("v dominfo 'w'e", "we b"), some("we\\ b"));
    }

    #[test]
    fn what_cannot_be_written_is_left_out() {
        assert_eq!(get("v define ", "a\nb"), None);
    }
}
