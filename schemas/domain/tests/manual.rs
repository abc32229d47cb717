//! The examples of berth-domain(5) are documents that can be defined and started.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use berth_domain::parse;
use common::host;

#[test]
fn examples_of_the_manual_are_good() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/man/berth-domain.5.md");
    let manual = std::fs::read_to_string(path).unwrap();
    let mut examples: Vec<String> = Vec::new();
    for line in manual.lines().filter_map(|l| l.strip_prefix("    ")) {
        if line.starts_with("<domain") {
            examples.push(String::new());
        }
        if let Some(example) = examples.last_mut() {
            example.push_str(line);
            example.push('\n');
        }
    }
    assert_eq!(examples.len(), 2);
    for example in examples {
        let parsed = parse(&example, &host()).unwrap_or_else(|e| panic!("{e}\n{example}"));
        assert_eq!(parsed.warnings, []);
        assert_eq!(parsed.domain.start_problems(), []);
    }
}
