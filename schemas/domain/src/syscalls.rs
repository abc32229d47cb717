//! Names and numbers of the system calls, from one table (`syscalls.txt`).
//!
//! This module does not know which of them a container may use.

use std::sync::LazyLock;

/// A machine, or a way of calling the kernel of one, that has numbers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abi {
    /// 64-bit programs on x86.
    X86_64,
    /// 32-bit programs on x86; a 64-bit program can make these calls too, with `int 0x80`.
    I386,
    /// 64-bit programs on ARM.
    Aarch64,
}

/// One system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syscall {
    /// Name, as in the manual.
    pub name: &'static str,
    numbers: [Option<u32>; 3],
}

impl Syscall {
    /// Its number; none where the machine has no such call.
    pub fn number(&self, abi: Abi) -> Option<u32> {
        match abi {
            Abi::X86_64 => self.numbers[0],
            Abi::I386 => self.numbers[1],
            Abi::Aarch64 => self.numbers[2],
        }
    }
}

/// Sorted by name, which the test sees to.
static TABLE: LazyLock<Vec<Syscall>> = LazyLock::new(|| {
    let lines = include_str!("syscalls.txt").lines().filter(|l| !l.starts_with('#'));
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next()?;
            let mut number = || words.next().and_then(|w| w.parse().ok());
            Some(Syscall { name, numbers: [number(), number(), number()] })
        })
        .collect()
});

/// All of them, by name.
pub fn all() -> impl Iterator<Item = &'static Syscall> {
    TABLE.iter()
}

/// The one with this name.
pub fn find(name: &str) -> Option<Syscall> {
    TABLE.binary_search_by(|s| s.name.cmp(name)).ok().map(|at| TABLE[at])
}

/// The largest number that the table has for a machine: what is above came with a later kernel.
pub fn newest(abi: Abi) -> u32 {
    all().filter_map(|s| s.number(abi)).max().unwrap_or_default()
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_kernel() {
        let numbers = |name: &str| find(name).map(|s| s.numbers);
        assert_eq!(numbers("execve"), Some([Some(59), Some(11), Some(221)]));
        assert_eq!(numbers("socketcall"), Some([None, Some(102), None]));
        assert_eq!(numbers("clone3"), Some([Some(435); 3]));
        assert_eq!(numbers("no_such_call"), None);
        for abi in [Abi::X86_64, Abi::I386, Abi::Aarch64] {
            assert_eq!(newest(abi), 469);
            let mut seen: Vec<u32> = all().filter_map(|s| s.number(abi)).collect();
            let count = seen.len();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), count, "{abi:?} has a number twice");
        }
        assert!(all().map(|s| s.name).is_sorted());
    }
}
