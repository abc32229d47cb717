//! Status files and exit records, which a daemon finds when it starts.

use berth_driver::engine::record::{Record, parse_exit};

/// Reads `data` as either.
pub fn run(data: &[u8]) {
    if let Some(record) = Record::parse(data) {
        assert!(berth_schemas::name::DomainName::parse(&record.name).is_ok());
        assert!(record.process.is_none_or(|p| p.pid >= 0));
        let bytes = serde_json::to_vec(&record).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(Record::parse(&bytes), Some(record));
    }
    if let Some(record) = parse_exit(data) {
        let bytes = serde_json::to_vec(&record).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(parse_exit(&bytes), Some(record));
    }
}
