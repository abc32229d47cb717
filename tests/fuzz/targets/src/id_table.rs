//! `idmap.json`: ids that are accepted are possible ones, and a domain gets none that another has.

use berth_driver::host::idmap::{COUNT, Pool, Range, parse_table};
use uuid::Uuid;

/// Reads `data` as the file, and chooses a range besides all that it names.
pub fn run(data: &[u8]) {
    let Ok(table) = parse_table(data) else { return };
    let taken: Vec<Range> = table.values().map(|first| Range::of_domain(*first)).collect();
    assert!(taken.iter().all(|r| r.is_possible()));
    // Small, so that a table can exhaust it.
    let area = Range { first: 1 << 20, count: 8 * COUNT };
    let pool = Pool::new("", "", Some(area));
    let free = (0..8)
        .map(|n| Range::of_domain(area.first + n * COUNT))
        .filter(|r| !taken.iter().any(|t| t.meets(*r)));
    let free: Vec<u32> = free.map(|r| r.first).collect();
    for uuid in table.keys().copied().chain([Uuid::from_u128(1)]).take(16) {
        match pool.choose(uuid, &taken) {
            Some(first) => assert!(free.contains(&first), "{first}"),
            None => assert!(free.is_empty(), "{free:?}"),
        }
    }
}
