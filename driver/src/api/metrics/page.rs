//! What is on the page: the figures of all domains under the names that exporters for libvirt have made known.
//!
//! Does not know HTTP, nor where figures come from.

use std::fmt;

use berth_schemas::domain::{DomainStats, InterfaceStats, MemoryStats, State, StatsGroup};
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;

use crate::engine::Engine;
use crate::engine::stats::Reading;

/// The form of the page: OpenMetrics 1.0.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The page. For a thread that may block.
pub fn text(engine: &Engine) -> Result<String, fmt::Error> {
    let mut reading = Reading::exact();
    let all = engine.registry.all();
    // What the host's ends say is in the containers' interfaces already.
    let groups: Vec<StatsGroup> =
        StatsGroup::ALL.iter().copied().filter(|group| *group != StatsGroup::HostEnd).collect();
    encode(all.iter().map(|s| engine.stats(s, &groups, &mut reading)).collect())
}

/// All samples of one name: labels besides the domain, and the value.
type Samples = Vec<(Vec<(&'static str, String)>, f64)>;

/// One name with what it means, and how it is taken from the figures of a domain.
struct Metric {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    take: fn(&DomainStats) -> Samples,
}

const fn gauge(name: &'static str, help: &'static str, take: fn(&DomainStats) -> Samples) -> Metric {
    Metric { name, help, kind: MetricType::Gauge, take }
}

/// The encoder puts "_total" behind the name.
const fn counter(name: &'static str, help: &'static str, take: fn(&DomainStats) -> Samples) -> Metric {
    Metric { name, help, kind: MetricType::Counter, take }
}

fn one(value: Option<i64>, unit: f64) -> Samples {
    value.into_iter().map(|v| (Vec::new(), v as f64 * unit)).collect()
}

fn memory(stats: &DomainStats, take: fn(&MemoryStats) -> Option<i64>) -> Samples {
    one(stats.memory.as_ref().and_then(take), 1.0)
}

/// Two that look the same here would make the whole page invalid.
fn by_device<'a>(all: impl Iterator<Item = (&'a String, i64)>) -> Samples {
    let mut seen = std::collections::HashSet::new();
    let all = all.map(|(name, value)| (label(name), value)).filter(|(name, _)| seen.insert(name.clone()));
    all.map(|(name, value)| (vec![("target_device", name)], value as f64)).collect()
}

fn blocks(stats: &DomainStats, take: fn(&berth_schemas::domain::BlockStats) -> i64) -> Samples {
    by_device(stats.blocks.iter().flatten().map(|b| (b.target.as_ref().unwrap_or(&b.name), take(b))))
}

fn interfaces(stats: &DomainStats) -> impl Iterator<Item = &InterfaceStats> {
    stats.interfaces.iter().flatten().filter(|i| i.name != "lo")
}

fn nets(stats: &DomainStats, take: fn(&InterfaceStats) -> i64) -> Samples {
    by_device(interfaces(stats).map(|i| (&i.name, take(i))))
}

/// How many interfaces there are beyond those on the page.
fn left_out(stats: &DomainStats) -> Option<i64> {
    let hidden = interfaces(stats).count() - nets(stats, |_| 0).len();
    let hidden = i64::try_from(hidden).ok().filter(|n| *n > 0);
    stats.more_interfaces.map(|more| more + hidden.unwrap_or(0)).or(hidden)
}

/// Inside a container an interface may be called almost anything but white space, and each has to have a label of its own.
/// White space is in names of disks at most. The encoder escapes what the format wants escaped.
fn label(text: &str) -> String {
    let mut label = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t'..='\r' => label.push('?'),
            c if c.is_control() => label.extend(c.escape_unicode()),
            c => label.push(c),
        }
    }
    label
}

/// virDomainState.
fn state(stats: &DomainStats) -> i64 {
    match stats.state {
        State::Running => 1,
        State::Paused => 3,
        State::Shutdown => 4,
        State::Shutoff => 5,
    }
}

/// What is left below the limit, or below what the definition says.
fn unused(stats: &DomainStats) -> Option<i64> {
    let memory = stats.memory.as_ref()?;
    let limit = memory.limit_bytes.unwrap_or(stats.max_memory_ki_b.saturating_mul(1024));
    Some((limit - memory.usage_bytes?).max(0))
}

const NANO: f64 = 1e-9;
const MICRO: f64 = 1e-6;
const KIB: f64 = 1024.0;

#[rustfmt::skip]
const METRICS: &[Metric] = &[
    gauge("libvirt_domain_info_vstate", "State: 1 running, 3 paused, 4 in shutdown, 5 shut off", |s| one(Some(state(s)), 1.0)),
    gauge("libvirt_domain_info_virtual_cpus", "Virtual processors", |s| one(Some(s.vcpus), 1.0)),
    gauge("libvirt_domain_info_maximum_memory_bytes", "Memory it may have", |s| one(Some(s.max_memory_ki_b), KIB)),
    gauge("libvirt_domain_info_memory_usage_bytes", "Memory in use", |s| memory(s, |m| m.usage_bytes)),
    counter("libvirt_domain_info_cpu_time_seconds", "Processor time used", |s| one(s.cpu.as_ref().and_then(|c| c.total_n_sec), NANO)),
    gauge("libvirt_domain_memory_stats_actual_balloon_bytes", "Memory of the definition", |s| one(s.memory.as_ref().map(|_| s.current_memory_ki_b), KIB)),
    gauge("libvirt_domain_memory_stats_rss_bytes", "What libvirt calls rss of a container, as dommemstat does: all memory in use, page cache included; see berth_domain_anonymous_memory_bytes", |s| memory(s, |m| m.usage_bytes)),
    gauge("berth_domain_anonymous_memory_bytes", "Memory of processes that is no content of a file", |s| memory(s, |m| m.anon_bytes)),
    gauge("berth_domain_memory_peak_bytes", "The most memory that was in use since the start", |s| memory(s, |m| m.peak_bytes)),
    gauge("libvirt_domain_memory_stats_disk_cache_bytes", "Contents of files in memory", |s| memory(s, |m| m.cache_bytes)),
    gauge("libvirt_domain_memory_stats_available_bytes", "Memory that there is for it", |s| one(s.memory.as_ref().map(|m| m.limit_bytes.unwrap_or(s.max_memory_ki_b.saturating_mul(1024))), 1.0)),
    gauge("libvirt_domain_memory_stats_unused_bytes", "Memory that is left", |s| one(unused(s), 1.0)),
    counter("libvirt_domain_memory_stats_major_fault", "Page faults that needed a disk", |s| memory(s, |m| m.major_page_faults)),
    counter("libvirt_domain_memory_stats_minor_fault", "Other page faults", |s| memory(s, |m| Some((m.page_faults? - m.major_page_faults.unwrap_or(0)).max(0)))),
    counter("libvirt_domain_block_stats_read_bytes", "Bytes read", |s| blocks(s, |b| b.read_bytes)),
    counter("libvirt_domain_block_stats_read_requests", "Read requests", |s| blocks(s, |b| b.read_requests)),
    counter("libvirt_domain_block_stats_write_bytes", "Bytes written", |s| blocks(s, |b| b.write_bytes)),
    counter("libvirt_domain_block_stats_write_requests", "Write requests", |s| blocks(s, |b| b.write_requests)),
    counter("libvirt_domain_interface_stats_receive_bytes", "Bytes that came to the container", |s| nets(s, |n| n.received_bytes)),
    counter("libvirt_domain_interface_stats_receive_packets", "Packets that came to the container", |s| nets(s, |n| n.received_packets)),
    counter("libvirt_domain_interface_stats_receive_errors", "Errors in receiving", |s| nets(s, |n| n.receive_errors)),
    counter("libvirt_domain_interface_stats_receive_drops", "Packets dropped in receiving", |s| nets(s, |n| n.receive_drops)),
    counter("libvirt_domain_interface_stats_transmit_bytes", "Bytes that the container sent", |s| nets(s, |n| n.sent_bytes)),
    counter("libvirt_domain_interface_stats_transmit_packets", "Packets that the container sent", |s| nets(s, |n| n.sent_packets)),
    counter("libvirt_domain_interface_stats_transmit_errors", "Errors in sending", |s| nets(s, |n| n.send_errors)),
    counter("libvirt_domain_interface_stats_transmit_drops", "Packets dropped in sending", |s| nets(s, |n| n.send_drops)),
    counter("berth_domain_oom_kills", "Processes killed for want of memory", |s| memory(s, |m| m.oom_kills)),
    gauge("berth_domain_swap_bytes", "Memory that was swapped out", |s| memory(s, |m| m.swap_bytes)),
    gauge("berth_domain_interfaces_left_out", "Interfaces that the container has beyond those that are shown", |s| one(left_out(s), 1.0)),
    gauge("berth_domain_tasks", "Processes and threads", |s| one(s.tasks.as_ref().and_then(|t| t.current), 1.0)),
    gauge("berth_domain_uptime_seconds", "Time since init was started", |s| one(s.uptime_u_sec, MICRO)),
    counter("berth_domain_throttled_seconds", "Time that the processor quota took", |s| one(s.cpu.as_ref().and_then(|c| c.throttled_n_sec), NANO)),
    counter("berth_domain_pressure_waiting_seconds", "Time in which some task waited for a resource", |s| {
        s.pressure.iter().flatten().map(|p| (vec![("resource", p.resource.as_str().to_owned())], p.some_u_sec as f64 * MICRO)).collect()
    }),
];

fn sample(mut encoder: MetricEncoder<'_>, kind: MetricType, value: f64) -> fmt::Result {
    match kind {
        MetricType::Counter => encoder.encode_counter::<[(String, String); 0], _, f64>(&value, None),
        _ => encoder.encode_gauge(&value),
    }
}

#[derive(Debug)]
struct All(Vec<DomainStats>);

impl prometheus_client::collector::Collector for All {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, value) in [
            ("libvirt_up", "The daemon answers", 1),
            ("libvirt_domains", "Domains, active or not", self.0.len()),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            sample(metric, MetricType::Gauge, value as f64)?;
        }
        for Metric { name, help, kind, take } in METRICS {
            let mut family = encoder.encode_descriptor(name, help, None, *kind)?;
            for stats in &self.0 {
                for (mut labels, value) in take(stats) {
                    labels.insert(0, ("domain", stats.name.clone()));
                    sample(family.encode_family(&labels)?, *kind, value)?;
                }
            }
        }
        Ok(())
    }
}

fn encode(all: Vec<DomainStats>) -> Result<String, fmt::Error> {
    let mut registry = prometheus_client::registry::Registry::default();
    registry.register_collector(Box::new(All(all)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

#[cfg(test)]
mod test {
    use super::*;
    use berth_schemas::domain::{BlockStats, CpuStats, Reason};

    fn web() -> DomainStats {
        let cpu = CpuStats {
            total_n_sec: Some(1_500_000_000),
            user_n_sec: None,
            system_n_sec: None,
            per_cpu_n_sec: None,
            periods: None,
            throttled_periods: None,
            throttled_n_sec: None,
        };
        let net = |name: &str| InterfaceStats {
            name: name.into(),
            received_bytes: 7,
            received_packets: 1,
            receive_errors: 0,
            receive_drops: 0,
            sent_bytes: 8,
            sent_packets: 1,
            send_errors: 0,
            send_drops: 0,
        };
        let block = |name: &str, target: Option<&str>| BlockStats {
            device: "8:0".into(),
            name: name.into(),
            target: target.map(str::to_owned),
            source: None,
            read_bytes: 9,
            read_requests: 1,
            write_bytes: 0,
            write_requests: 0,
        };
        DomainStats {
            name: "web".into(),
            uuid: String::new(),
            id: Some(1),
            state: State::Paused,
            reason: Reason::User,
            vcpus: 2,
            max_vcpus: 4,
            max_memory_ki_b: 4,
            current_memory_ki_b: 4,
            uptime_u_sec: Some(2_500_000),
            cpu: Some(cpu),
            memory: None,
            blocks: Some(vec![
                block("vda", Some("a\nb")),
                block("vda", Some("a?b")),
                block("/dev/vda", None),
            ]),
            interfaces: Some(vec![net("lo"), net("e\"th\n0"), net("e\"th?0")]),
            more_interfaces: None,
            host_ends: None,
            tasks: None,
            pressure: None,
        }
    }

    #[test]
    fn rss_is_what_libvirt_calls_so_and_says_what_is_in_it() {
        let memory = MemoryStats {
            usage_bytes: Some(30),
            peak_bytes: None,
            anon_bytes: Some(10),
            cache_bytes: Some(20),
            inactive_file_bytes: None,
            swap_bytes: None,
            limit_bytes: None,
            swap_limit_bytes: None,
            high_bytes: None,
            page_faults: None,
            major_page_faults: None,
            oom_kills: None,
        };
        let text = encode(vec![DomainStats { memory: Some(memory), ..web() }]).expect("encoded");
        for line in [
            "libvirt_domain_memory_stats_rss_bytes{domain=\"web\"} 30.0",
            "berth_domain_anonymous_memory_bytes{domain=\"web\"} 10.0",
        ] {
            assert!(text.lines().any(|l| l == line), "no '{line}' in {text}");
        }
        let help = text.lines().find(|l| l.starts_with("# HELP libvirt_domain_memory_stats_rss_bytes "));
        let help = help.unwrap_or_default();
        assert!(help.contains("page cache included") && help.contains("berth_domain_anonymous"), "{help}");
    }

    #[test]
    fn names_stay_apart_and_whatever_does_not_is_counted() {
        let named = |names: &[&str], more_interfaces| {
            let mut all = web();
            let one = all.interfaces.iter().flatten().next().expect("one").clone();
            let of = |name: &&str| InterfaceStats { name: (*name).into(), ..one.clone() };
            all.interfaces = Some(names.iter().map(of).collect());
            encode(vec![DomainStats { more_interfaces, ..all }]).expect("encoded")
        };
        let text = named(&["lo", "\u{1}x", "\u{2}x", "?x", "\u{85}x", r"\xfex"], None);
        for device in [r"\\u{1}x", r"\\u{2}x", "?x", r"\\u{85}x", r"\\xfex"] {
            let start = "libvirt_domain_interface_stats_receive_bytes_total{domain=\"web\",target_device=";
            assert!(text.contains(&format!("{start}\"{device}\"}} 7.0\n")), "no {device} in {text}");
        }
        let left_out = |text: &str| {
            let line = text
                .lines()
                .find_map(|l| l.strip_prefix("berth_domain_interfaces_left_out{domain=\"web\"} "));
            line.map(str::to_owned)
        };
        assert_eq!(left_out(&text), None);
        assert_eq!(left_out(&named(&["lo", "x"], Some(3))).as_deref(), Some("3.0"));
        // Which the kernel does not let be.
        assert_eq!(left_out(&named(&["x", "x", "y"], None)).as_deref(), Some("1.0"));
        assert_eq!(left_out(&named(&["x", "x", "y"], Some(3))).as_deref(), Some("4.0"));
    }

    #[test]
    fn names_of_the_exporters() {
        let text = encode(vec![web()]).expect("encoded");
        for line in [
            "libvirt_up 1.0",
            "libvirt_domains 1.0",
            "# TYPE libvirt_domain_info_vstate gauge",
            "libvirt_domain_info_vstate{domain=\"web\"} 3.0",
            "libvirt_domain_info_virtual_cpus{domain=\"web\"} 2.0",
            "libvirt_domain_info_maximum_memory_bytes{domain=\"web\"} 4096.0",
            "# TYPE libvirt_domain_info_cpu_time_seconds counter",
            "libvirt_domain_info_cpu_time_seconds_total{domain=\"web\"} 1.5",
            "libvirt_domain_interface_stats_receive_bytes_total{domain=\"web\",target_device=\"e\\\"th?0\"} 7.0",
            "libvirt_domain_block_stats_read_bytes_total{domain=\"web\",target_device=\"a?b\"} 9.0",
            "libvirt_domain_block_stats_read_bytes_total{domain=\"web\",target_device=\"/dev/vda\"} 9.0",
            "berth_domain_uptime_seconds{domain=\"web\"} 2.5",
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l == line), "no '{line}' in {text}");
        }
        assert_eq!(text.matches("stats_receive_bytes_total{").count(), 1, "{text}");
        assert_eq!(text.matches("block_stats_read_bytes_total{").count(), 2, "{text}");
        assert!(!text.contains("\"lo\"") && !text.contains("memory_usage_bytes{"), "{text}");
    }
}
