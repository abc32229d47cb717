//! The text of a container's profile. Pure: the same input gives the same text.
//!
//! Does not know which domains want which variant.

use crate::Variant;
use crate::complement::patterns;
use crate::template::{self, Rule, Section};

/// The rules, with their reasons.
pub const CONTAINER: &str = include_str!("templates/container.rules");

/// What a profile depends on. Nothing in it is a path of the host: a container sees none, and what is mounted into it is
/// its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile<'a> {
    /// Its name; see [`crate::name::of_container`].
    pub name: &'a str,
    /// Which one.
    pub variant: Variant,
    /// Root inside is root outside.
    pub host_ids: bool,
}

/// Renders it. An error is one of the template, or a name that is no word.
pub fn container(profile: &Profile<'_>) -> Result<String, String> {
    if !crate::name::is_label(profile.name) || profile.name.contains(['"', '\\', '@', '{', '[', '*', '?']) {
        return Err(format!("'{}' is no name for a profile", profile.name.escape_debug()));
    }
    let mut text = format!(
        "# The '{}' profile of a container of Berth; see docs/apparmor.md.\n\
         # What this version of the rules does not know is not mediated: later parsers and kernels deny nothing more.\n\
         abi <abi/3.0>,\n\n\
         # Paths: consoles are opened before the root is changed, and files may be removed while they are open.\n\
         profile \"{}\" flags=(attach_disconnected, mediate_deleted) {{\n",
        profile.variant.as_str(),
        profile.name
    );
    for line in template::read(CONTAINER)? {
        if !is_for(line.section, profile) {
            continue;
        }
        text.push_str(&format!("  # {}\n", line.reason));
        match line.rule {
            Rule::Plain(rule) => text.push_str(&format!("  {},\n", named(rule, profile.name))),
            Rule::AllBut { before, prefix, behind, allowed } => {
                for pattern in patterns(&allowed) {
                    let rule = format!("{before} {prefix}{pattern} {behind}");
                    text.push_str(&format!("  {},\n", rule.trim_end()));
                }
            }
        }
    }
    text.push_str("}\n");
    Ok(text)
}

fn is_for(section: Section, profile: &Profile<'_>) -> bool {
    match section {
        Section::Always => true,
        Section::HostIds => profile.host_ids,
        Section::UnlessNesting => profile.variant != Variant::Nesting,
        Section::UnlessMounting => profile.variant != Variant::Mounting,
    }
}

fn named(rule: &str, name: &str) -> String {
    rule.replace("peer=NAME", &format!("peer=\"{name}\""))
}
