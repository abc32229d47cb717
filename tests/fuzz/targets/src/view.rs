//! Requests of the kernel's FUSE, with names and numbers that whoever asks inside has chosen; and the texts that the view
//! of a container is made from.

use berth_view::readers::{
    Cpus, Operation, Request, cpuinfo, diskstats, meminfo, parse_list, parse_mask, show_list, show_mask,
};

/// Reads `data` as each.
pub fn run(data: &[u8]) {
    if let Some(request) = Request::read(data) {
        assert_eq!(data.get(8..16), Some(&request.unique.to_ne_bytes()[..]));
        if let Operation::Lookup { name } = request.operation {
            assert!(!name.is_empty() && name.len() < data.len());
            assert!(!name.as_encoded_bytes().contains(&0));
        }
    }
    let text = String::from_utf8_lossy(data);
    let set = parse_list(&text);
    assert_eq!(parse_list(&show_list(&set)), set);
    let mask = parse_mask(&text);
    let count = mask.last().map_or(1, |last| *last as usize + 1);
    assert_eq!(parse_mask(&show_mask(&mask, count)), mask);
    let cpus = Cpus::new(set, Some(2));
    assert!((1..=2).contains(&cpus.count()));
    let shown = cpuinfo::text(&text, &cpus);
    assert!(shown.len() <= text.len() * 2 + 64, "{} of {}", shown.len(), text.len());
    let memory =
        meminfo::Memory { limit: Some(1 << 20), used: 4096, stat: text.to_string(), ..Default::default() };
    for legacy in [false, true] {
        meminfo::text(&text, &meminfo::Memory { legacy, ..memory.clone() });
    }
    let devices = diskstats::of_version_2(&text);
    assert!(diskstats::text(&text, &devices).lines().count() <= text.lines().count());
    diskstats::text(&text, &diskstats::of_version_1(&text, &text));
}
