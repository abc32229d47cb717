//! Which files there are, and which number is whose.
//!
//! A number says by itself what it is of, so that every run of this program means the same by it: nothing has to be
//! remembered, and nothing be forgotten. Does not know what is in the files.

use crate::sysfs::{OF_ALL, OF_EACH};

/// A file of /proc.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcFile {
    /// meminfo
    Memory,
    /// cpuinfo
    Processors,
    /// stat
    Stat,
    /// uptime
    Uptime,
    /// loadavg
    Load,
    /// swaps
    Swaps,
    /// diskstats
    Blocks,
    /// pressure/cpu
    CpuPressure,
    /// pressure/memory
    MemoryPressure,
    /// pressure/io
    IoPressure,
}

/// Their names here: flat, as the controller mounts each by itself. Keep `controller/src/setup/view.rs` in step.
pub const PROC: &[(&str, ProcFile)] = &[
    ("meminfo", ProcFile::Memory),
    ("cpuinfo", ProcFile::Processors),
    ("stat", ProcFile::Stat),
    ("uptime", ProcFile::Uptime),
    ("loadavg", ProcFile::Load),
    ("swaps", ProcFile::Swaps),
    ("diskstats", ProcFile::Blocks),
    ("pressure.cpu", ProcFile::CpuPressure),
    ("pressure.memory", ProcFile::MemoryPressure),
    ("pressure.io", ProcFile::IoPressure),
];

/// The name of the folder that is mounted as /sys/devices/system/cpu.
pub const CPUS: &str = "cpu";

/// A file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// The top.
    Top,
    /// A file of /proc, by its place in [`PROC`].
    Proc(u8),
    /// A folder for all processors, by its place in [`OF_ALL`]; 0 is /sys/devices/system/cpu itself.
    Folder(u8),
    /// A file in that.
    File(u8, u8),
    /// A folder of one processor, by the number inside and its place in [`OF_EACH`]; 0 is the processor's own.
    CpuFolder(u16, u8),
    /// A file in that.
    CpuFile(u16, u8, u8),
}

impl Node {
    /// The number of it.
    pub fn number(self) -> u64 {
        let pack = |kind: u64, cpu: u16, folder: u8, file: u8| {
            kind << 32 | u64::from(cpu) << 16 | u64::from(folder) << 8 | u64::from(file)
        };
        match self {
            // FUSE_ROOT_ID
            Self::Top => 1,
            Self::Proc(file) => pack(1, 0, 0, file),
            Self::Folder(folder) => pack(2, 0, folder, 0),
            Self::File(folder, file) => pack(3, 0, folder, file),
            Self::CpuFolder(cpu, folder) => pack(4, cpu, folder, 0),
            Self::CpuFile(cpu, folder, file) => pack(5, cpu, folder, file),
        }
    }

    /// What a number is of. None of none.
    pub fn of(number: u64) -> Option<Self> {
        let (cpu, folder, file) = ((number >> 16) as u16, (number >> 8) as u8, number as u8);
        let known = |list: &[(&str, &[&str])]| list.get(usize::from(folder)).is_some();
        let has = |list: &[(&str, &[&str])]| {
            list.get(usize::from(folder)).is_some_and(|(_, files)| files.len() > usize::from(file))
        };
        let node = match number >> 32 {
            0 if number == 1 => Self::Top,
            1 if usize::from(file) < PROC.len() => Self::Proc(file),
            2 if known(OF_ALL) => Self::Folder(folder),
            3 if has(OF_ALL) => Self::File(folder, file),
            4 if known(OF_EACH) => Self::CpuFolder(cpu, folder),
            5 if has(OF_EACH) => Self::CpuFile(cpu, folder, file),
            _ => return None,
        };
        (node.number() == number).then_some(node)
    }

    /// Whether it is a folder.
    pub fn is_directory(self) -> bool {
        matches!(self, Self::Top | Self::Folder(_) | Self::CpuFolder(..))
    }
}

/// What is in a folder, as far as it is fixed: names with numbers. Processors are not among them.
pub fn children(node: Node) -> Vec<(&'static str, Node)> {
    let inside = |list: &'static [(&'static str, &'static [&'static str])], folder: u8| {
        let (path, files) = list.get(usize::from(folder)).copied().unwrap_or_default();
        let files = files.iter().enumerate().map(|(i, name)| (*name, i as u8, false));
        let folders = list.iter().enumerate().filter_map(move |(i, (other, _))| {
            let (parent, name) = other.rsplit_once('/').unwrap_or(("", other));
            (parent == path && !name.is_empty()).then_some((name, i as u8, true))
        });
        files.chain(folders).collect::<Vec<_>>()
    };
    match node {
        Node::Top => {
            let files = PROC.iter().enumerate().map(|(i, (name, _))| (*name, Node::Proc(i as u8)));
            files.chain([(CPUS, Node::Folder(0))]).collect()
        }
        Node::Folder(folder) => inside(OF_ALL, folder)
            .into_iter()
            .map(|(name, i, is_folder)| {
                (name, if is_folder { Node::Folder(i) } else { Node::File(folder, i) })
            })
            .collect(),
        Node::CpuFolder(cpu, folder) => inside(OF_EACH, folder)
            .into_iter()
            .map(|(name, i, is_folder)| {
                (name, if is_folder { Node::CpuFolder(cpu, i) } else { Node::CpuFile(cpu, folder, i) })
            })
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn walk(node: Node, found: &mut Vec<Node>) {
        assert_eq!(Node::of(node.number()), Some(node));
        found.push(node);
        for (name, child) in children(node) {
            assert!(!name.contains('/') && !name.is_empty());
            walk(child, found);
        }
    }

    #[test]
    fn every_file_has_a_number_of_its_own() {
        let mut found = Vec::new();
        walk(Node::Top, &mut found);
        walk(Node::CpuFolder(0, 0), &mut found);
        walk(Node::CpuFolder(511, 0), &mut found);
        let mut numbers: Vec<u64> = found.iter().map(|n| n.number()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), found.len());
        for bad in [0, 2, 1 << 32 | 99, 5 << 32 | 0xff00, u64::MAX, 1 << 32 | 1 << 16] {
            assert_eq!(Node::of(bad), None, "{bad:x}");
        }
    }
}
