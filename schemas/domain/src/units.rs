//! Amounts of memory and sets of numbers as libvirt writes them.
//!
//! This module does not know which element it reads for.

/// Largest amount of memory in KiB: its number of bytes still is a signed 64-bit number.
pub const MAX_KIB: u64 = (i64::MAX as u64) >> 10;
/// Highest CPU or node number plus one.
const MAX_SET: usize = 4096;

/// How many bytes a unit has: `b`, `k` or `KiB` for 1024, `KB` for 1000, and so on up to `EiB`, in any case of letters.
fn factor(unit: &str) -> Option<u64> {
    let lower = unit.to_ascii_lowercase();
    if ["b", "byte", "bytes"].contains(&lower.as_str()) {
        return Some(1);
    }
    let mut letters = lower.chars();
    let first = letters.next()?;
    let power = "kmgtpe".find(first).and_then(|i| u32::try_from(i).ok())? + 1;
    match letters.as_str() {
        "" | "ib" => 1024u64.checked_pow(power),
        "b" => 1000u64.checked_pow(power),
        _ => None,
    }
}

/// Bytes of an amount with a unit. The error says what is wrong with it.
pub(crate) fn bytes(amount: &str, unit: &str) -> Result<u64, String> {
    let factor = factor(unit).ok_or_else(|| format!("unit '{}' is not known", unit.escape_debug()))?;
    let shown = amount.trim();
    if shown.is_empty() || !shown.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("'{}' is not an amount", shown.escape_debug()));
    }
    shown
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(factor))
        .ok_or_else(|| format!("{shown} {unit} is too much"))
}

/// KiB of an amount with a unit, rounded up.
pub(crate) fn kib(amount: &str, unit: &str) -> Result<u64, String> {
    let rounded = bytes(amount, unit)?.div_ceil(1024);
    if rounded > MAX_KIB { Err(format!("{} {unit} is too much", amount.trim())) } else { Ok(rounded) }
}

/// Reads a set such as `0-3,^2,8` and returns it sorted, without exclusions, as libvirt writes it.
pub(crate) fn set(text: &str) -> Result<String, String> {
    let bad = || format!("'{}' is not a set of numbers like '0-3,^2,8'", text.escape_debug());
    let mut members = vec![false; MAX_SET];
    for part in text.split(',') {
        let part = part.trim();
        let (value, range) = match part.strip_prefix('^') {
            Some(rest) => (false, rest),
            None => (true, part),
        };
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        let number = |s: &str| {
            let digits = !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
            if digits { s.parse::<usize>().ok() } else { None }
        };
        let (Some(low), Some(high)) = (number(low), number(high)) else { return Err(bad()) };
        if high >= MAX_SET {
            return Err(format!("'{}' has a number over {}", text.escape_debug(), MAX_SET - 1));
        }
        if low > high {
            return Err(bad());
        }
        members[low..=high].fill(value);
    }
    let shown = ranges(&members);
    if shown.is_empty() { Err(format!("the set '{}' is empty", text.escape_debug())) } else { Ok(shown) }
}

fn ranges(members: &[bool]) -> String {
    let mut parts = Vec::new();
    let mut at = 0;
    while at < members.len() {
        if !members[at] {
            at += 1;
            continue;
        }
        let length = members[at..].iter().take_while(|m| **m).count();
        let last = at + length - 1;
        parts.push(if length == 1 { at.to_string() } else { format!("{at}-{last}") });
        at += length;
    }
    parts.join(",")
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn units_are_libvirts() {
        for (amount, unit, expected) in [
            ("1", "KiB", 1),
            ("1", "k", 1),
            ("1", "KB", 1),
            ("1000", "kb", 977),
            ("1048576", "bytes", 1024),
            ("1025", "b", 2),
            ("2", "MiB", 2048),
            ("1", "M", 1024),
            ("1", "MB", 977),
            ("1", "G", 1 << 20),
            ("1", "tib", 1 << 30),
        ] {
            assert_eq!(kib(amount, unit), Ok(expected), "{amount} {unit}");
        }
    }

    #[test]
    fn nonsense_and_overflow_are_errors() {
        for (amount, unit) in
            [("", "k"), ("-1", "k"), ("+1", "k"), ("1", "X"), ("1", "Kx"), ("1", ""), ("16", "E")]
        {
            assert!(kib(amount, unit).is_err(), "{amount} {unit}");
        }
        assert!(kib("18446744073709551616", "b").is_err());
    }

    #[test]
    fn sets_are_normalised() {
        assert_eq!(set("0-3,^2,8"), Ok("0-1,3,8".into()));
        assert_eq!(set("5,1-2"), Ok("1-2,5".into()));
        for bad in ["", "a", "3-1", "1-", "-1", "^1", "5000", "1,,2", "1-2-3"] {
            assert!(set(bad).is_err(), "{bad}");
        }
    }
}
