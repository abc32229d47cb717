//! `/etc/subuid` and `/etc/subgid`: ranges are disjoint, possible, and given by both files.

use berth_driver::host::idmap::{BUILT_IN, COUNT, Pool, Range};
use uuid::Uuid;

use crate::texts;

/// Reads `data` as both files and a setting, with NUL bytes between them.
pub fn run(data: &[u8]) {
    let Some(parts) = texts(data, 3) else { return };
    let part = |n: usize| parts.get(n).copied().unwrap_or_default();
    let configured = Range::parse(part(2)).ok();
    assert!(configured.is_none_or(|r| r.is_possible() && r.count >= COUNT));
    let pool = Pool::new(part(0), part(1), configured);
    let areas = pool.areas();
    assert!(!areas.is_empty() && areas.iter().all(|a| a.is_possible() && a.count >= COUNT));
    assert!(areas.windows(2).all(|two| two[0].first < two[1].first && !two[0].meets(two[1])), "{areas:?}");
    let in_text = |text: &str, id: u64| {
        let ranges =
            text.lines().filter_map(|l| l.strip_prefix("berth:")).filter_map(|r| Range::parse(r).ok());
        let mut ranges = ranges.map(|r| u64::from(r.first)..u64::from(r.first) + u64::from(r.count));
        ranges.any(|r| r.contains(&id))
    };
    let ours = *areas != [configured.unwrap_or(BUILT_IN)];
    for area in areas.iter().filter(|_| ours) {
        for id in [area.first, area.first + area.count - 1, area.first + area.count / 2] {
            let id = u64::from(id);
            assert!(in_text(part(0), id) && in_text(part(1), id), "{id} is not given: {areas:?}");
        }
    }
    // Choosing takes as long as there are ranges: not each time among all that there can be.
    if areas.iter().map(|a| u64::from(a.count)).sum::<u64>() > 256 * u64::from(COUNT) {
        return;
    }
    let mut taken = Vec::new();
    for n in 0..4 {
        let Some(first) = pool.choose(Uuid::from_u128(n), &taken) else { break };
        let range = Range::of_domain(first);
        assert!(!taken.iter().any(|t| range.meets(*t)), "{range:?} {taken:?}");
        let inside = |a: &Range| {
            a.first <= first && u64::from(first) + u64::from(COUNT) <= u64::from(a.first) + u64::from(a.count)
        };
        assert!(areas.iter().any(inside), "{range:?} {areas:?}");
        taken.push(range);
    }
}
