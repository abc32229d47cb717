//! Everything but: patterns for all texts that begin with none of a few words.
//!
//! AppArmor has no exceptions to a denial, so that "deny all knobs but these" has to be said in patterns: for each
//! beginning of an allowed word, every way to go on that leads to no allowed word. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// The patterns, in order. A text that is itself a beginning of an allowed word fits none of them: it is a folder on the
/// way to what is allowed, or nothing.
pub(crate) fn patterns(allowed: &[&str]) -> Vec<String> {
    let mut ways: BTreeMap<&str, BTreeSet<char>> = BTreeMap::new();
    for word in allowed {
        for (at, next) in word.char_indices() {
            ways.entry(&word[..at]).or_default().insert(next);
        }
    }
    // Behind a whole allowed word everything is allowed, also where a longer one goes on.
    ways.retain(|start, _| !allowed.iter().any(|word| start.starts_with(word)));
    let pattern = |(start, next): (&str, BTreeSet<char>)| {
        let next: String = next.into_iter().collect();
        format!("{start}[^{next}]**")
    };
    ways.into_iter().map(pattern).collect()
}

#[cfg(test)]
mod test {
    use super::*;

    /// Whether a text fits one of the patterns, which have one class and one `**` each.
    fn fits(patterns: &[String], text: &str) -> bool {
        patterns.iter().any(|p| {
            let (start, rest) = p.split_once("[^").expect("a class");
            let class = rest.strip_suffix("]**").expect("an end");
            let next = text.strip_prefix(start).and_then(|rest| rest.chars().next());
            next.is_some_and(|c| !class.contains(c))
        })
    }

    #[test]
    fn nothing_allowed_fits_and_everything_else_does() {
        let patterns = patterns(&["kernel/hostname", "kernel/shm", "net/"]);
        for allowed in ["kernel/hostname", "kernel/shmmax", "net/ipv4/ip_forward", "kernel/", "net"] {
            assert!(!fits(&patterns, allowed), "{allowed}");
        }
        for denied in
            ["kernel/core_pattern", "kernel/sysrq", "vm/swappiness", "kernel/hostnam_", "netx", "k/x"]
        {
            assert!(fits(&patterns, denied), "{denied}");
        }
        assert_eq!(super::patterns(&["ab", "abc"]), ["[^a]**", "a[^b]**"]);
    }
}
