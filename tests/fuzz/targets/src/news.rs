//! Packets of the future init.

use berth_controller::readers::News;

/// Reads `data` as a packet.
pub fn run(data: &[u8]) {
    match News::read(data) {
        Some(News::Created(created)) => assert!(data.len() > created.path.len()),
        Some(_) => assert!(!data.is_empty()),
        None => {}
    }
}
