//! /sys/devices/system/cpu: what programs read there to find out about processors and their caches.
//!
//! The files are the host's; processors and sets of them get the container's numbers. What is not listed here is not
//! there: most of it is for those who run the machine. Does not know who asks.

use std::path::PathBuf;

use crate::cpus::Cpus;

/// Where it is.
const HOST: &str = "/sys/devices/system/cpu";

/// Folders and files that are about all processors, by their paths. The first is the top.
pub const OF_ALL: &[(&str, &[&str])] = &[
    ("", &["online", "offline", "possible", "present", "isolated", "nohz_full", "kernel_max", "modalias"]),
    ("smt", &["active", "control"]),
    (
        "vulnerabilities",
        &[
            "gather_data_sampling",
            "ghostwrite",
            "indirect_target_selection",
            "itlb_multihit",
            "l1tf",
            "mds",
            "meltdown",
            "mmio_stale_data",
            "old_microcode",
            "reg_file_data_sampling",
            "retbleed",
            "spec_rstack_overflow",
            "spec_store_bypass",
            "spectre_v1",
            "spectre_v2",
            "srbds",
            "tsa",
            "tsx_async_abort",
            "vmscape",
        ],
    ),
];

const CACHE: &[&str] = &[
    "coherency_line_size",
    "id",
    "level",
    "number_of_sets",
    "physical_line_partition",
    "shared_cpu_list",
    "shared_cpu_map",
    "size",
    "type",
    "ways_of_associativity",
];

/// Folders and files of each processor, by their paths below it. The first is its own.
pub const OF_EACH: &[(&str, &[&str])] = &[
    ("", &["online", "cpu_capacity"]),
    (
        "topology",
        &[
            "book_id",
            "book_siblings",
            "book_siblings_list",
            "cluster_cpus",
            "cluster_cpus_list",
            "cluster_id",
            "core_cpus",
            "core_cpus_list",
            "core_id",
            "core_siblings",
            "core_siblings_list",
            "die_cpus",
            "die_cpus_list",
            "die_id",
            "drawer_id",
            "drawer_siblings",
            "drawer_siblings_list",
            "package_cpus",
            "package_cpus_list",
            "physical_package_id",
            "thread_siblings",
            "thread_siblings_list",
        ],
    ),
    ("cache", &[]),
    ("cache/index0", CACHE),
    ("cache/index1", CACHE),
    ("cache/index2", CACHE),
    ("cache/index3", CACHE),
    ("cache/index4", CACHE),
    (
        "cpufreq",
        &[
            "base_frequency",
            "cpuinfo_max_freq",
            "cpuinfo_min_freq",
            "scaling_cur_freq",
            "scaling_driver",
            "scaling_governor",
            "scaling_max_freq",
            "scaling_min_freq",
        ],
    ),
    ("regs", &[]),
    ("regs/identification", &["midr_el1", "revidr_el1"]),
];

/// The host's path of a file or folder about all processors.
pub fn of_all(folder: &str, file: &str) -> PathBuf {
    // An empty part of a path adds a slash, which does no harm.
    [HOST, folder, file].iter().filter(|p| !p.is_empty()).collect()
}

/// The same of one processor, by the host's number.
pub fn of_one(cpu: u32, folder: &str, file: &str) -> PathBuf {
    [HOST, &format!("cpu{cpu}"), folder, file].iter().filter(|p| !p.is_empty()).collect()
}

/// What a file about all processors says inside, or none: what the host's says.
pub fn own_text(folder: &str, file: &str, cpus: &Cpus) -> Option<String> {
    match (folder, file) {
        ("", "online" | "possible" | "present") => Some(cpus.show() + "\n"),
        ("", "offline" | "isolated" | "nohz_full") => Some("\n".to_owned()),
        _ => None,
    }
}

/// What a file of one processor says inside, from what it says on the host.
pub fn translate(folder: &str, file: &str, text: &str, cpus: &Cpus) -> String {
    let is_set = folder == "topology" && !file.ends_with("_id") || file.starts_with("shared_cpu");
    match (is_set, file.ends_with("_list")) {
        (true, true) => cpus.translate_list(text) + "\n",
        (true, false) => cpus.translate_mask(text) + "\n",
        (false, _) => text.to_owned(),
    }
}

/// The number in a name such as `cpu3`, as the kernel writes it.
pub fn cpu_number(name: &str) -> Option<u16> {
    let digits = name.strip_prefix("cpu")?;
    let number = digits.parse().ok()?;
    (format!("{number}") == digits).then_some(number)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn sets_have_the_numbers_inside() {
        let cpus = Cpus::new(vec![2, 3], None);
        assert_eq!(own_text("", "online", &cpus).as_deref(), Some("0-1\n"));
        assert_eq!(own_text("smt", "active", &cpus), None);
        assert_eq!(translate("topology", "core_cpus_list", "2-3\n", &cpus), "0-1\n");
        assert_eq!(translate("topology", "core_cpus", "c\n", &cpus), "3\n");
        assert_eq!(translate("topology", "core_id", "1\n", &cpus), "1\n");
        assert_eq!(translate("topology", "physical_package_id", "0\n", &cpus), "0\n");
        assert_eq!(translate("cache/index0", "shared_cpu_map", "4\n", &cpus), "1\n");
        assert_eq!(translate("cache/index0", "size", "32K\n", &cpus), "32K\n");
    }

    #[test]
    fn paths_and_names() {
        assert_eq!(of_all("", "online").to_str(), Some("/sys/devices/system/cpu/online"));
        assert_eq!(of_one(3, "cache/index0", "").to_str(), Some("/sys/devices/system/cpu/cpu3/cache/index0"));
        assert_eq!((cpu_number("cpu0"), cpu_number("cpu12")), (Some(0), Some(12)));
        for bad in ["cpu", "cpu01", "cpu+1", "cpuidle", "0", "cpu99999"] {
            assert_eq!(cpu_number(bad), None, "{bad}");
        }
    }
}
