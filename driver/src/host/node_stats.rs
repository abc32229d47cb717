//! What the host does: time of its processors, and its memory.
//!
//! Does not know domains. All functions block for as long as it takes to read a file of the kernel.

use std::collections::HashMap;
use std::fs;

/// Nanoseconds in a tick of `/proc/stat`: USER_HZ is 100 on every architecture that Linux still has.
const TICK_NSEC: u64 = 10_000_000;

/// Names and values.
pub type Figures = HashMap<&'static str, u64>;

/// Time of a processor, or of all, in nanoseconds since the host started; none if it is not there.
pub fn cpu(number: Option<u32>) -> Option<Figures> {
    parse_stat(&fs::read_to_string("/proc/stat").ok()?, number)
}

fn parse_stat(text: &str, number: Option<u32>) -> Option<Figures> {
    let name = number.map_or_else(|| "cpu".to_owned(), |n| format!("cpu{n}"));
    let mut words = text
        .lines()
        .map(str::split_ascii_whitespace)
        .find_map(|mut words| (words.next() == Some(name.as_str())).then_some(words))?;
    // proc_stat(5): user, nice, system, idle, iowait, irq, softirq.
    let mut next = || words.next().and_then(|w| w.parse::<u64>().ok()).unwrap_or(0);
    let [user, nice, system, idle, iowait, irq, softirq] = std::array::from_fn(|_| next());
    let nsec = |ticks: u64| ticks.saturating_mul(TICK_NSEC);
    Some(HashMap::from([
        ("kernel", nsec(system + irq + softirq)),
        ("user", nsec(user + nice)),
        ("idle", nsec(idle)),
        ("iowait", nsec(iowait)),
    ]))
}

/// Memory of a NUMA node, or of the host, in KiB; none if it is not there.
pub fn memory(node: Option<u32>) -> Option<Figures> {
    let path = match node {
        None => "/proc/meminfo".to_owned(),
        Some(n) => format!("/sys/devices/system/node/node{n}/meminfo"),
    };
    Some(parse_meminfo(&fs::read_to_string(path).ok()?, node.is_none()))
}

/// Lines are `MemTotal: 1 kB`, for a node with `Node 0 ` before. Caches are told of the whole host only.
fn parse_meminfo(text: &str, is_host: bool) -> Figures {
    let names = [("MemTotal", "total"), ("MemFree", "free"), ("Buffers", "buffers"), ("Cached", "cached")];
    let shown = names.iter().take(if is_host { 4 } else { 2 });
    let value = |wanted: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            let is_it = key.split_ascii_whitespace().next_back() == Some(wanted);
            is_it.then(|| value.split_ascii_whitespace().next()?.parse().ok()).flatten()
        })
    };
    shown.filter_map(|(kernel, name)| Some((*name, value(kernel)?))).collect()
}

/// Which processors are online, by their numbers.
pub fn cpu_map() -> Vec<bool> {
    let read = |file: &str| {
        let text = fs::read_to_string(format!("/sys/devices/system/cpu/{file}")).unwrap_or_default();
        super::node::list(text.trim())
    };
    let (present, online) = (read("present"), read("online"));
    let count = present.iter().max().map_or(0, |n| n + 1);
    (0..count).map(|n| online.contains(&n)).collect()
}

/// The numbers of the NUMA nodes; just 0 where the kernel knows none.
pub fn cells() -> Vec<u32> {
    let text = fs::read_to_string("/sys/devices/system/node/online").unwrap_or_default();
    let found = super::node::list(text.trim());
    if found.is_empty() { vec![0] } else { found }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_kernels_forms_are_read() {
        let stat = "cpu  10 1 5 100 7 1 2 0 0 0\ncpu0 4 0 2 50 3 0 0 0 0 0\nintr 1 2\n";
        let all = parse_stat(stat, None).expect("there");
        assert_eq!((all["user"], all["kernel"], all["iowait"]), (110_000_000, 80_000_000, 70_000_000));
        assert_eq!(parse_stat(stat, Some(0)).expect("there")["idle"], 500_000_000);
        assert_eq!(parse_stat(stat, Some(1)), None);
        let host = parse_meminfo(
            "MemTotal:  100 kB\nMemFree: 7 kB\nBuffers: 1 kB\nSwapCached: 9 kB\nCached: 2 kB\n",
            true,
        );
        assert_eq!(host, HashMap::from([("total", 100), ("free", 7), ("buffers", 1), ("cached", 2)]));
        let node = parse_meminfo("Node 0 MemTotal:  100 kB\nNode 0 MemFree: 7 kB\n", false);
        assert_eq!(node, HashMap::from([("total", 100), ("free", 7)]));
    }

    #[test]
    fn this_machine_has_a_processor_and_memory() {
        assert!(cpu_map().contains(&true));
        assert!(!cells().is_empty());
        assert!(cpu(None).is_some() && memory(None).is_some_and(|m| m["total"] > 0));
    }
}
