//! How domains ended: a bad line spoils no other.

use berth_driver::engine::history::parse;

/// Reads `data` as the file.
pub fn run(data: &[u8]) {
    let all = parse(data);
    let lines = data.split(|b| *b == b'\n').count();
    assert!(all.len() <= lines);
    // A line behind all others is read whatever those are.
    let uuid = "5d7bd62d-2f5c-4f2a-9c3a-0e5a4bb1a3a1";
    let line = format!("\n{{\"uuid\":\"{uuid}\",\"past\":null}}\n");
    let mut longer = data.to_vec();
    longer.extend_from_slice(line.as_bytes());
    let again = parse(&longer);
    assert!(again.keys().all(|k| k.to_string() != uuid));
    assert_eq!(again.len(), all.keys().filter(|k| k.to_string() != uuid).count());
}
