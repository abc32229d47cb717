//! Text of the kernel with names in it that others chose: mounts and processes.

use berth_driver::host::{cgroups::parse_mountinfo, process::parse_start_time};

/// Reads `data` as each.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (unified, legacy) = parse_mountinfo(&text);
    assert!(unified.is_none() || text.contains("cgroup2"));
    assert!(legacy.len() <= text.lines().count());
    // The name in parentheses cannot say when its process started.
    let rest = "S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0";
    assert_eq!(parse_start_time(&format!("7 ({text}) {rest}")), Some(4711));
    let _ = parse_start_time(&text);
}
