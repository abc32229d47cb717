//! `berthd.toml`: what is accepted is within bounds, and errors name a line of the file.

use berth_driver::config::Config;

/// Reads `data` as the file.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Config::parse(text) {
        Ok(config) => {
            assert!(config.autostart_parallel > 0);
            assert!(config.idmap.pool.is_none_or(|p| p.is_possible() && p.count >= 65_536));
        }
        Err((line, message)) => {
            assert!((1..=text.split('\n').count()).contains(&line), "line {line}");
            assert!(!message.is_empty());
        }
    }
}
