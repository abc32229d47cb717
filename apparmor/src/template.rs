//! Templates: lines with a rule and its reason, under headings that say for whom they are.
//!
//! Does not know what any rule means.

/// For whom lines are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Always,
    HostIds,
    UnlessNesting,
    UnlessMounting,
}

/// What a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rule<'t> {
    /// A rule as it is.
    Plain(&'t str),
    /// Rules for all below a prefix but what is allowed. The prefix stands between what comes before and behind it.
    AllBut { before: &'t str, prefix: &'t str, behind: &'t str, allowed: Vec<&'t str> },
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line<'t> {
    pub section: Section,
    pub rule: Rule<'t>,
    pub reason: &'t str,
}

/// Reads a template; the error names the line.
pub(crate) fn read(text: &str) -> Result<Vec<Line<'_>>, String> {
    let mut section = None;
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let bad = |what: &str| format!("line {}: {what}", number + 1);
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(heading) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = Some(heading_of(heading).ok_or_else(|| bad("unknown heading"))?);
            continue;
        }
        let section = section.ok_or_else(|| bad("a rule above the first heading"))?;
        let (rule, reason) = line.split_once(" # ").ok_or_else(|| bad("a rule without a reason"))?;
        let (rule, reason) = (rule.trim(), reason.trim());
        if reason.is_empty() {
            return Err(bad("an empty reason"));
        }
        let rule = match rule.strip_prefix("all-but ") {
            None => Rule::Plain(rule),
            Some(rest) => all_but(rest).ok_or_else(|| bad("an exception without a prefix or words"))?,
        };
        lines.push(Line { section, rule, reason });
    }
    Ok(lines)
}

fn heading_of(text: &str) -> Option<Section> {
    Some(match text {
        "always" => Section::Always,
        "host ids" => Section::HostIds,
        "unless nesting" => Section::UnlessNesting,
        "unless mounting" => Section::UnlessMounting,
        _ => return None,
    })
}

/// The prefix is the only word that begins with a slash.
fn all_but(rest: &str) -> Option<Rule<'_>> {
    let (rule, allowed) = rest.split_once(" : ")?;
    let allowed: Vec<&str> = allowed.split_whitespace().collect();
    let start = rule.find(" /")? + 1;
    let (before, prefix) = rule.split_at(start);
    let (prefix, behind) = prefix.split_once(' ').unwrap_or((prefix, ""));
    (!allowed.is_empty()).then_some(Rule::AllBut { before: before.trim(), prefix, behind, allowed })
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn lines_are_read() {
        let lines =
            read("# x\n[host ids]\nmount # why\nall-but deny /a/ w : b c # so\n").expect("a template");
        assert_eq!(lines[0], Line { section: Section::HostIds, rule: Rule::Plain("mount"), reason: "why" });
        let rule = Rule::AllBut { before: "deny", prefix: "/a/", behind: "w", allowed: vec!["b", "c"] };
        assert_eq!((&lines[1].rule, lines[1].reason), (&rule, "so"));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (text, why) in [
            ("mount # why", "line 1: a rule above the first heading"),
            ("[always]\nmount", "line 2: a rule without a reason"),
            ("[always]\nmount # ", "line 2: a rule without a reason"),
            ("[never]", "line 1: unknown heading"),
            ("[always]\nall-but deny w : a # b", "line 2: an exception without a prefix or words"),
        ] {
            assert_eq!(read(text).expect_err(text), why);
        }
    }
}
