//! Patterns for names: `*`, `?` and `[a-z]`, `[!a-z]`. None of these characters can be in a name of a domain.
//!
//! Does not know where names come from.

/// Whether a word is a pattern.
pub fn is_glob(word: &str) -> bool {
    word.contains(['*', '?', '['])
}

/// Whether a pattern matches a whole name.
pub fn matches(pattern: &str, name: &str) -> bool {
    go(pattern.as_bytes(), name.as_bytes())
}

/// Goes on from the last star where it does not match: linear in both lengths per star.
fn go(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, n));
            p += 1;
        } else if let Some(width) = one(&pattern[p..], name[n]) {
            p += width;
            n += 1;
        } else if let Some((after, from)) = star {
            p = after;
            n = from + 1;
            star = Some((after, n));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

/// How much of the pattern takes this one byte.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern.first()? {
        b'?' => Some(1),
        b'[' => set(pattern, byte),
        first => (*first == byte).then_some(1),
    }
}

/// A set in brackets; without its end, a bracket like any character.
fn set(pattern: &[u8], byte: u8) -> Option<usize> {
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let start = if negated { 2 } else { 1 };
    let Some(end) = pattern.iter().skip(start + 1).position(|b| *b == b']').map(|i| i + start + 1) else {
        return (byte == b'[').then_some(1);
    };
    let members = &pattern[start..end];
    let mut found = false;
    let mut i = 0;
    while i < members.len() {
        if members.get(i + 1) == Some(&b'-') && i + 2 < members.len() {
            found |= (members[i]..=members[i + 2]).contains(&byte);
            i += 3;
        } else {
            found |= members[i] == byte;
            i += 1;
        }
    }
    (found != negated).then_some(end + 1)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("web*", "web", true),
            ("web*", "web12", true),
            ("web*", "we", false),
            ("*b*", "abc", true),
            ("w?b", "web", true),
            ("w?b", "wb", false),
            ("web[0-9]", "web7", true),
            ("web[!0-9]", "web7", false),
            ("[a", "[a", true),
            ("*a*b*c", "xaxbxbxc", true),
            ("*a*b*c", "xaxbxbx", false),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        assert!(matches(&"*a".repeat(40), &"a".repeat(60)));
        assert!(!matches(&format!("{}b", "*a".repeat(40)), &"a".repeat(60)));
    }

    #[test]
    fn words_that_are_patterns() {
        assert!(is_glob("a*") && is_glob("?") && is_glob("[x]") && !is_glob("a.b-c"));
    }
}
