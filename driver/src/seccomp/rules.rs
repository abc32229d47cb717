//! Rules about system calls as text: a profile is a file of lines, each with its reason.
//!
//! This module does not know machines, numbers or programs: see `compile`.

use berth_domain::seccomp::{Seccomp, SeccompProfile};
use berth_domain::syscalls::{self, Syscall};

/// Profile for whole systems, which is also the ground of the other one.
const DEFAULT: &str = include_str!("default.rules");
/// What comes on top for single services.
const APPLICATION: &str = include_str!("application.rules");
/// What comes on top where root inside is root outside.
const HOST_IDS: &str = include_str!("host-ids.rules");

/// Errors that a rule can answer: errno(3), the same numbers on all machines that have a table of calls.
const ERRORS: &[(&str, u32)] =
    &[("EPERM", EPERM), ("ENOSYS", 38), ("EPROTONOSUPPORT", 93), ("EAFNOSUPPORT", 97)];

/// Operation not permitted: what a call gives that a document denies.
const EPERM: u32 = 1;

/// How a condition compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// The same number.
    Is,
    /// Another number.
    IsNot,
    /// At least one of these bits.
    AnyOf,
}

/// What must be true about one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The argument, from 0.
    pub argument: u32,
    /// How.
    pub test: Test,
    /// With what.
    pub value: u32,
}

/// One rule: a call that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The call.
    pub call: Syscall,
    /// When; always, if empty.
    pub conditions: Vec<Condition>,
    /// The error that it answers.
    pub errno: u32,
    /// The capability that lifts the rule.
    pub unless: Option<&'static str>,
    /// Why.
    pub reason: &'static str,
}

/// What is wrong with a line of a profile.
pub type Wrong = String;

/// The rules that hold for a domain. `own_ids`: whether it has ids of its own; `given`: whether the document gives a
/// capability by name.
pub fn resolve(wanted: &Seccomp, own_ids: bool, given: impl Fn(&str) -> bool) -> Result<Vec<Rule>, Wrong> {
    let mut texts = match wanted.profile {
        SeccompProfile::System => vec![DEFAULT],
        SeccompProfile::Application => vec![APPLICATION, DEFAULT],
    };
    if !own_ids {
        texts.push(HOST_IDS);
    }
    let mut rules = Vec::new();
    for name in &wanted.deny {
        let call = syscalls::find(name).ok_or_else(|| format!("'{name}' is no system call"))?;
        rules.push(Rule {
            call,
            conditions: Vec::new(),
            errno: EPERM,
            unless: None,
            reason: "the document denies it",
        });
    }
    for text in texts {
        rules.extend(parse(text)?);
    }
    rules.retain(|rule| {
        !wanted.allow.iter().any(|name| name == rule.call.name) && !rule.unless.is_some_and(&given)
    });
    Ok(rules)
}

/// Reads a profile.
pub fn parse(text: &'static str) -> Result<Vec<Rule>, Wrong> {
    let lines = text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#'));
    lines.map(|(n, l)| line(l).map_err(|e| format!("line {} of a profile: {e}", n + 1))).collect()
}

fn line(line: &'static str) -> Result<Rule, Wrong> {
    let (rule, reason) = line.split_once('#').ok_or("there is no reason")?;
    let mut words = rule.split_whitespace().peekable();
    let name = words.next().ok_or("there is no call")?;
    let call = syscalls::find(name).ok_or_else(|| format!("no call '{name}'"))?;
    let mut conditions = Vec::new();
    while let Some(word) = words.next_if(|w| w.starts_with(|c: char| c.is_ascii_digit())) {
        conditions.push(condition(word).ok_or_else(|| format!("no condition '{word}'"))?);
    }
    let error = words.next().ok_or("there is no error")?;
    let errno = ERRORS.iter().find(|(name, _)| *name == error).map(|(_, number)| *number);
    let unless = match (words.next(), words.next(), words.next()) {
        (None, ..) => None,
        (Some("unless"), Some(capability), None) => Some(capability),
        _ => return Err("what follows the error is not understood".into()),
    };
    Ok(Rule {
        call,
        conditions,
        errno: errno.ok_or_else(|| format!("no error '{error}'"))?,
        unless,
        reason: reason.trim(),
    })
}

fn condition(word: &str) -> Option<Condition> {
    let (argument, test, value) = [("==", Test::Is), ("!=", Test::IsNot), ("&", Test::AnyOf)]
        .into_iter()
        .find_map(|(sign, test)| word.split_once(sign).map(|(argument, value)| (argument, test, value)))?;
    let value = match value.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok()?,
        None => value.parse().ok()?,
    };
    let argument = argument.parse().ok().filter(|a| *a < 6)?;
    Some(Condition { argument, test, value })
}
