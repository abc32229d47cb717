//! Sets of CPUs, and the choice of some of them.
//!
//! Pure. Does not know which CPUs the host has, nor who uses them.

use std::collections::BTreeMap;

/// Reads a set such as `0-3,8`; nothing of it that is no number.
pub fn parse(text: &str) -> Vec<u32> {
    let mut all = Vec::new();
    for part in text.trim().split(',').filter(|p| !p.is_empty()) {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(low), Ok(high)) = (low.trim().parse::<u32>(), high.trim().parse::<u32>()) {
            all.extend(low..=high.min(low.saturating_add(65_535)));
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// Writes a set as the kernel does.
pub fn show(set: &[u32]) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for &cpu in set {
        match parts.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(cpu) => *last = cpu,
            _ => parts.push((cpu, cpu)),
        }
    }
    let shown = parts.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") });
    shown.collect::<Vec<_>>().join(",")
}

/// `count` CPUs of those that are `online` and `wanted`, those first that the fewest domains have been given; all of
/// them if that is not more. `used` has the CPUs of every other domain that does not have all.
/// None where none of the wanted ones is online.
pub fn choose(
    online: &[u32],
    wanted: Option<&[u32]>,
    count: u32,
    used: impl Iterator<Item = u32>,
) -> Option<Vec<u32>> {
    let mut load: BTreeMap<u32, u32> = BTreeMap::new();
    for cpu in used {
        *load.entry(cpu).or_default() += 1;
    }
    let mut fitting: Vec<u32> =
        online.iter().copied().filter(|c| wanted.is_none_or(|w| w.contains(c))).collect();
    fitting.sort_by_key(|c| (load.get(c).copied().unwrap_or(0), *c));
    fitting.truncate(usize::try_from(count).unwrap_or(usize::MAX).max(1));
    fitting.sort_unstable();
    (!fitting.is_empty()).then_some(fitting)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn sets_are_read_and_written() {
        for text in ["0", "0-3", "0-1,3,8-9", ""] {
            assert_eq!(show(&parse(text)), text);
        }
        assert_eq!(parse("3,0-1\n"), [0, 1, 3]);
    }

    #[test]
    fn the_least_used_are_chosen() {
        let online = [0, 1, 2, 3];
        let choose = |wanted, count, used: &[u32]| choose(&online, wanted, count, used.iter().copied());
        assert_eq!(choose(None, 1, &[]), Some(vec![0]));
        assert_eq!(choose(None, 1, &[0, 1, 3]), Some(vec![2]));
        assert_eq!(choose(None, 2, &[0, 0, 1, 2, 3]), Some(vec![1, 2]));
        assert_eq!(choose(None, 9, &[0]), Some(vec![0, 1, 2, 3]));
        assert_eq!(choose(Some(&[1, 3]), 1, &[1]), Some(vec![3]));
        assert_eq!(choose(Some(&[1, 3, 7]), 3, &[]), Some(vec![1, 3]));
        assert_eq!(choose(Some(&[9]), 1, &[]), None);
    }
}
