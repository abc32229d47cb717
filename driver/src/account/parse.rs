//! The texts of the kernel's files, as numbers: pure, and of nothing that does not fit.
//!
//! Sources: cgroup-v2.rst, cgroup-v1/{memory,cpuacct,blkio-controller}.rst, accounting/psi.rst of the kernel's
//! documentation, proc_net_dev(5). Does not know where the files are.

use berth_schemas::domain::{BlockStats, InterfaceStats, PressureResource, PressureStats};

/// More is "no limit": cgroup v1 writes the largest multiple of a page, v2 the word "max".
const UNLIMITED: i64 = i64::MAX - (1 << 20);

/// One number.
pub fn number(text: &str) -> Option<i64> {
    text.trim().parse().ok().filter(|n| *n >= 0)
}

/// A limit; none if there is none.
pub fn limit(text: &str) -> Option<i64> {
    number(text).filter(|n| *n < UNLIMITED)
}

/// A number in a file of lines "name number".
pub fn field(text: &str, name: &str) -> Option<i64> {
    text.lines().find_map(|l| number(l.strip_prefix(name)?.strip_prefix(' ')?))
}

/// A limit in a file of lines "name number".
pub fn limit_field(text: &str, name: &str) -> Option<i64> {
    field(text, name).filter(|n| *n < UNLIMITED)
}

/// Numbers between blanks: one for each processor.
pub fn numbers(text: &str) -> Option<Vec<i64>> {
    let all: Option<Vec<i64>> = text.split_whitespace().map(number).collect();
    all.filter(|a| !a.is_empty())
}

fn device(word: &str) -> Option<&str> {
    let (major, minor) = word.split_once(':')?;
    let digits = |t: &str| !t.is_empty() && t.len() < 11 && t.bytes().all(|b| b.is_ascii_digit());
    (digits(major) && digits(minor)).then_some(word)
}

/// A device that nobody has used.
pub fn unused(device: &str, name: String) -> BlockStats {
    BlockStats {
        device: device.to_owned(),
        name,
        target: None,
        source: None,
        read_bytes: 0,
        read_requests: 0,
        write_bytes: 0,
        write_requests: 0,
    }
}

fn entry<'a>(all: &'a mut Vec<BlockStats>, device: &str) -> &'a mut BlockStats {
    let at = all.iter().position(|b| b.device == device).unwrap_or_else(|| {
        all.push(unused(device, device.to_owned()));
        all.len() - 1
    });
    &mut all[at]
}

/// `io.stat` of cgroup v2: "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0".
pub fn io_stat(text: &str) -> Vec<BlockStats> {
    let mut all = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(device) = words.next().and_then(device) else { continue };
        let block = entry(&mut all, device);
        for (name, value) in words.filter_map(|w| w.split_once('=')) {
            let Some(value) = number(value) else { continue };
            match name {
                "rbytes" => block.read_bytes = value,
                "wbytes" => block.write_bytes = value,
                "rios" => block.read_requests = value,
                "wios" => block.write_requests = value,
                _ => {}
            }
        }
    }
    all
}

/// `blkio.throttle.io_service_bytes_recursive` and `io_serviced_recursive` of cgroup v1: "8:0 Read 4096".
pub fn blkio(bytes: &str, requests: &str) -> Vec<BlockStats> {
    let mut all = Vec::new();
    for (text, is_bytes) in [(bytes, true), (requests, false)] {
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(device), Some(kind), Some(value)) =
                (words.next().and_then(device), words.next(), words.next().and_then(number))
            else {
                continue;
            };
            let block = entry(&mut all, device);
            match (kind, is_bytes) {
                ("Read", true) => block.read_bytes = value,
                ("Write", true) => block.write_bytes = value,
                ("Read", false) => block.read_requests = value,
                ("Write", false) => block.write_requests = value,
                _ => {}
            }
        }
    }
    all
}

/// `/proc/net/dev`. A name may be anything but a slash or a blank: the numbers are behind the last colon. The last line
/// counts only if it is whole.
pub fn net_dev(text: &str) -> impl Iterator<Item = InterfaceStats> {
    let one = |line: &str| {
        let (name, rest) = line.rsplit_once(':')?;
        let n = numbers(rest).filter(|n| n.len() >= 12)?;
        Some(InterfaceStats {
            // The kernel fills up with blanks. What else looks like one is part of the name.
            name: name.trim_start_matches(' ').to_owned(),
            received_bytes: n[0],
            received_packets: n[1],
            receive_errors: n[2],
            receive_drops: n[3],
            sent_bytes: n[8],
            sent_packets: n[9],
            send_errors: n[10],
            send_drops: n[11],
        })
    };
    text.split_inclusive('\n').filter(|l| l.ends_with('\n')).filter_map(one)
}

/// The same interface as who is at the other end of the pair sees it.
pub fn other_end(one: InterfaceStats) -> InterfaceStats {
    InterfaceStats {
        name: one.name,
        received_bytes: one.sent_bytes,
        received_packets: one.sent_packets,
        receive_errors: one.send_errors,
        receive_drops: one.send_drops,
        sent_bytes: one.received_bytes,
        sent_packets: one.received_packets,
        send_errors: one.receive_errors,
        send_drops: one.receive_drops,
    }
}

/// `cpu.pressure` and its like: "some avg10=0.00 avg60=0.00 avg300=0.00 total=0", and the same with "full".
pub fn pressure(resource: PressureResource, text: &str) -> Option<PressureStats> {
    let line = |kind: &str| {
        let words = text.lines().find_map(|l| l.strip_prefix(kind)?.strip_prefix(' '))?;
        let value = |name: &str| words.split(' ').find_map(|w| w.strip_prefix(name)?.strip_prefix('='));
        let share = |name: &str| value(name)?.parse::<f64>().ok().filter(|s| s.is_finite());
        Some((share("avg10")?, share("avg60")?, share("avg300")?, number(value("total")?)?))
    };
    let (some_avg10, some_avg60, some_avg300, some_u_sec) = line("some")?;
    let full = line("full");
    Some(PressureStats {
        resource,
        some_avg10,
        some_avg60,
        some_avg300,
        some_u_sec,
        full_avg10: full.map(|f| f.0),
        full_avg60: full.map(|f| f.1),
        full_avg300: full.map(|f| f.2),
        full_u_sec: full.map(|f| f.3),
    })
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_and_limits() {
        assert_eq!(number("42\n"), Some(42));
        assert_eq!((number("-1"), number("x"), number("")), (None, None, None));
        assert_eq!(number("99999999999999999999"), None);
        assert_eq!((limit("max\n"), limit("9223372036854771712\n"), limit("4096")), (None, None, Some(4096)));
        assert_eq!(numbers("1 2 \n"), Some(vec![1, 2]));
        assert_eq!((numbers(""), numbers("1 x")), (None, None));
        let stat = "cache 1\ntotal_cache 5\nhierarchical_memory_limit 9223372036854771712\n";
        assert_eq!((field(stat, "total_cache"), field(stat, "ache")), (Some(5), None));
        assert_eq!(limit_field(stat, "hierarchical_memory_limit"), None);
    }

    #[test]
    fn block_devices_of_both_versions() {
        let v2 = io_stat("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n253:1\nbad rbytes=1\n");
        assert_eq!(v2.len(), 2);
        assert_eq!(
            (v2[0].read_bytes, v2[0].write_bytes, v2[0].read_requests, v2[0].write_requests),
            (1, 2, 3, 4)
        );
        assert_eq!((v2[1].device.as_str(), v2[1].read_bytes), ("253:1", 0));
        let v1 = blkio(
            "8:0 Read 1\n8:0 Write 2\n8:0 Sync 9\n8:0 Total 3\nTotal 3\n",
            "8:0 Read 3\n8:0 Write 4\n8:0 Discard 0\nTotal 7\n",
        );
        assert_eq!(v1, v2[..1]);
    }

    #[test]
    fn interfaces_with_odd_names() {
        let text = "Inter-|   Receive\n face |bytes packets\n    lo:  10 1 2 3 0 0 0 0  20 4 5 6 0 0 0 0\n \
                    eth0:1: 7 0 0 0 0 0 0 0 8 0 0 0 0 0 0 0\n";
        let all: Vec<_> = net_dev(text).collect();
        assert_eq!(all.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["lo", "eth0:1"]);
        let blank = format!("\u{2003}x: {0}\n     x: {0}\n", "0 ".repeat(16));
        assert_eq!(net_dev(&blank).map(|i| i.name).collect::<Vec<_>>(), ["\u{2003}x", "x"]);
        let lo = &all[0];
        assert_eq!((lo.received_bytes, lo.receive_errors, lo.receive_drops), (10, 2, 3));
        assert_eq!((lo.sent_bytes, lo.sent_packets, lo.send_errors, lo.send_drops), (20, 4, 5, 6));
        let other = other_end(lo.clone());
        assert_eq!((other.received_bytes, other.received_packets), (20, 4));
        assert_eq!(other_end(other), *lo);
        // How many are told is the business of who asks: a host may have thousands.
        let many: String = (0..2000).map(|n| format!("v{n}: {}\n", "0 ".repeat(16))).collect();
        assert_eq!(net_dev(&many).count(), 2000);
    }

    #[test]
    fn pressure_with_and_without_full() {
        let some = "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\n";
        let one = pressure(PressureResource::Cpu, some).expect("good");
        assert_eq!((one.some_avg10, one.some_u_sec, one.full_u_sec), (1.5, 77, None));
        let both = format!("{some}full avg10=0.10 avg60=0.00 avg300=0.00 total=5\n");
        assert_eq!(pressure(PressureResource::Io, &both).expect("good").full_u_sec, Some(5));
        assert_eq!(pressure(PressureResource::Io, "some avg10=NaN avg60=0 avg300=0 total=1\n"), None);
        assert_eq!(pressure(PressureResource::Io, ""), None);
    }

    proptest! {
        #[test]
        fn nothing_makes_a_parser_fail(text in "\\PC*|([0-9: =a-zA-Z.\n-]{0,200})") {
            let blocks = [io_stat(&text), blkio(&text, &text)].concat();
            prop_assert!(blocks.iter().all(|b| b.read_bytes >= 0 && b.write_requests >= 0));
            prop_assert!(net_dev(&text).all(|i| i.received_bytes >= 0 && i.send_drops >= 0));
            prop_assert!(numbers(&text).is_none_or(|n| !n.is_empty()));
            prop_assert!(limit(&text).is_none_or(|n| n >= 0));
            prop_assert!(pressure(PressureResource::Cpu, &text).is_none_or(|p| p.some_u_sec >= 0));
        }
    }
}
