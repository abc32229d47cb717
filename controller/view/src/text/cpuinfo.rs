//! /proc/cpuinfo.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::cpus::Cpus;

/// The value of a line of a block.
fn value<'a>(block: &'a str, name: &str) -> Option<&'a str> {
    block.lines().find_map(|l| l.split_once(':').filter(|(n, _)| n.trim_end() == name)).map(|(_, v)| v.trim())
}

/// The text: the host's blocks of the container's processors with numbers of their own, and what belongs to no block.
/// A form that is not known stays as it is.
pub fn text(host_text: &str, cpus: &Cpus) -> String {
    let blocks: Vec<&str> = host_text.split("\n\n").collect();
    let number = |block: &str| value(block, "processor").and_then(|v| v.parse::<u32>().ok());
    if !blocks.iter().any(|b| number(b).is_some()) {
        return host_text.to_owned();
    }
    let mine: Vec<(u32, &str)> = blocks.iter().filter_map(|b| Some((cpus.number(number(b)?)?, *b))).collect();
    let package = |block| value(block, "physical id");
    let mut out = String::with_capacity(host_text.len() / blocks.len().max(1) * (mine.len() + 1));
    for (inside, block) in &mine {
        let beside = mine.iter().filter(|(_, b)| package(b) == package(block));
        for line in block.trim_matches('\n').lines() {
            let name = line.split(':').next().unwrap_or_default();
            let _ = match name.trim_end() {
                "processor" => writeln!(out, "{name}: {inside}"),
                "siblings" => writeln!(out, "{name}: {}", beside.clone().count()),
                "cpu cores" => {
                    let cores: BTreeSet<_> = beside.clone().map(|(_, b)| value(b, "core id")).collect();
                    writeln!(out, "{name}: {}", cores.len())
                }
                _ => writeln!(out, "{line}"),
            };
        }
        out.push('\n');
    }
    for block in blocks.iter().filter(|b| number(b).is_none() && !b.trim().is_empty()) {
        let _ = write!(out, "{}\n\n", block.trim_matches('\n'));
    }
    out
}

#[cfg(test)]
mod test {
    use super::*;

    fn host() -> String {
        let block = |cpu: u32| {
            format!(
                "processor\t: {cpu}\nmodel name\t: Some CPU : fast\nphysical id\t: 0\nsiblings\t: 4\ncore id\t\t: {}\n\
                 cpu cores\t: 2\npower management:\n\n",
                cpu / 2
            )
        };
        (0..4).map(block).collect()
    }

    #[test]
    fn processors_are_renumbered() {
        let text = text(&host(), &Cpus::new(vec![2, 3], None));
        assert_eq!(
            text,
            "processor\t: 0\nmodel name\t: Some CPU : fast\nphysical id\t: 0\nsiblings\t: 2\ncore id\t\t: 1\n\
             cpu cores\t: 1\npower management:\n\n\
             processor\t: 1\nmodel name\t: Some CPU : fast\nphysical id\t: 0\nsiblings\t: 2\ncore id\t\t: 1\n\
             cpu cores\t: 1\npower management:\n\n"
        );
    }

    #[test]
    fn all_of_them_are_the_hosts() {
        assert_eq!(text(&host(), &Cpus::new(vec![0, 1, 2, 3], None)), host());
    }

    #[test]
    fn other_forms() {
        let arm =
            "processor\t: 0\nBogoMIPS\t: 50.00\n\nprocessor\t: 1\nBogoMIPS\t: 50.00\n\nHardware\t: Board\n";
        assert_eq!(
            text(arm, &Cpus::new(vec![1], None)),
            "processor\t: 0\nBogoMIPS\t: 50.00\n\nHardware\t: Board\n\n"
        );
        let mainframe = "vendor_id       : IBM/S390\n# processors    : 2\nprocessor 0: version = 00\n";
        assert_eq!(text(mainframe, &Cpus::new(vec![1], None)), mainframe);
    }
}
