//! Messages that people read, with words of others in them: a name or a value that a caller chose.
//!
//! Pure. Does not know who says what to whom.

use std::borrow::Cow;

/// Characters of a message whose words are left as they are.
const SHORT: usize = 1000;

/// Characters of a word that are shown of a longer message: nobody reads more of a name.
const WORD: usize = 200;

/// Characters of the longest message: so many of its beginning and of its end, where the reason may be.
const BEGIN: usize = 3000;
const END: usize = 999;

/// A message as it is shown: see [`escaped`] and [`shortened`].
pub fn shown(message: &str) -> Cow<'_, str> {
    match escaped(message) {
        Cow::Borrowed(message) => shortened(message),
        Cow::Owned(message) => Cow::Owned(shortened(&message).into_owned()),
    }
}

/// Whether a terminal obeys a character instead of showing it: control characters, at some of which a line of a log ends,
/// and those that say in which direction text runs, which show it in another order than it has.
pub fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Without characters that are obeyed.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    text.chars().flat_map(|c| if is_obeyed(c) { c.escape_debug().collect() } else { vec![c] }).collect()
}

/// A long message with its long words cut, and the middle left out if it is long even so.
pub fn shortened(message: &str) -> Cow<'_, str> {
    // A character has one byte at least.
    if message.len() <= SHORT || message.chars().nth(SHORT).is_none() {
        return Cow::Borrowed(message);
    }
    let mut short = String::new();
    let mut length = 0;
    for c in message.chars() {
        length = if c.is_whitespace() || c == '\'' { 0 } else { length + 1 };
        match length {
            0..=WORD => short.push(c),
            _ if length == WORD + 1 => short.push('…'),
            _ => {}
        }
    }
    let count = short.chars().count();
    if count > BEGIN + 1 + END {
        let begin: String = short.chars().take(BEGIN).collect();
        let end = short.chars().skip(count - END);
        short = begin.chars().chain(['…']).chain(end).collect();
    }
    Cow::Owned(short)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_long_word_is_cut_and_the_rest_stays() {
        let message = |word: &str| format!("no domain with matching name '{word}' of this host");
        assert_eq!(shown(&message("web")), message("web"));
        // A path is whole where nothing else is long.
        let path = "/ä".repeat(300);
        assert_eq!(shown(&message(&path)), message(&path));
        let cut = message(&format!("{}…", "ä".repeat(WORD)));
        assert_eq!(shown(&message(&"ä".repeat(100_000))), cut);
        assert_eq!(shown(&cut), cut);
        let whole = "ä".repeat(SHORT);
        assert_eq!(shown(&whole), whole);
    }

    #[test]
    fn a_message_has_an_end() {
        let long = format!("cannot: {}: no such file", "a ".repeat(50_000));
        let short = shown(&long).into_owned();
        assert_eq!(short.chars().count(), BEGIN + 1 + END);
        assert!(short.starts_with("cannot: a a") && short.ends_with("a a : no such file"), "{short}");
        assert_eq!(shown(&short), short, "once more");
    }

    #[test]
    fn nothing_is_left_that_a_terminal_obeys() {
        assert_eq!(shown("a\nb\u{1b}[2Jä\u{85}"), "a\\nb\\u{1b}[2Jä\\u{85}");
        assert_eq!(shown("a\u{202e}b\u{2069}c\u{200f}"), "a\\u{202e}b\\u{2069}c\\u{200f}");
        for c in "\u{61c}\u{200e}\u{200f}\u{202a}\u{202e}\u{2066}\u{2069}".chars() {
            assert_eq!(escaped(&c.to_string()), format!("\\u{{{:x}}}", u32::from(c)));
        }
        assert_eq!(shown("שלום\u{200d}\u{2010}"), "שלום\u{200d}\u{2010}");
        let long = "\u{1b}".repeat(2000);
        assert!(shown(&long).chars().all(|c| !c.is_control()));
    }
}
