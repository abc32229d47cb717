//! Rules to a program for the kernel's filter: seccomp(2), linux/bpf_common.h.
//!
//! The program finds the call by halves, so that none costs more than a few steps; and as most calls are allowed
//! whatever their arguments are, the kernel remembers that and does not run it at all. This module does not know why
//! a call is refused.

use std::collections::BTreeMap;

use berth_domain::syscalls::{self, Abi, Syscall};

use super::rules::{Condition, Rule, Test};

/// One instruction as the kernel has it: code, the two distances of a jump, and a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// Instructions to leave out if the test holds.
    pub jt: u8,
    /// And if it does not.
    pub jf: u8,
    /// The constant.
    pub k: u32,
}

impl Instruction {
    /// As one number: code, both distances, constant, from the top. Never negative.
    pub fn packed(self) -> i64 {
        i64::from(self.code & 0xff) << 48
            | i64::from(self.jt) << 40
            | i64::from(self.jf) << 32
            | i64::from(self.k)
    }
}

/// `BPF_LD | BPF_W | BPF_ABS`: loads 32 bits of `struct seccomp_data`.
pub const LOAD: u16 = 0x20;
/// `BPF_JMP | BPF_JA`.
pub const JUMP: u16 = 0x05;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
pub const EQUAL: u16 = 0x15;
/// `BPF_JMP | BPF_JGE | BPF_K`.
pub const AT_LEAST: u16 = 0x35;
/// `BPF_JMP | BPF_JSET | BPF_K`.
pub const ANY_BIT: u16 = 0x45;
/// `BPF_RET | BPF_K`.
pub const RETURN: u16 = 0x06;

/// `SECCOMP_RET_ALLOW`.
pub const ALLOW: u32 = 0x7fff_0000;
/// `SECCOMP_RET_ERRNO`; the error is in the lower half.
pub const ERRNO: u32 = 0x0005_0000;
/// `SECCOMP_RET_USER_NOTIF`: who listens to the filter answers.
pub const ASK: u32 = 0x7fc0_0000;
/// Function not implemented: to what we have no table for.
const ENOSYS: u32 = 38;

/// `BPF_MAXINSNS`.
const MOST: usize = 4096;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The ways to call the kernel of a machine, by the names of uname(2), with the `AUDIT_ARCH` of each.
pub fn ways(machine: &str) -> Option<&'static [(u32, Abi)]> {
    match machine {
        "x86_64" => Some(&[(0xc000_003e, Abi::X86_64), (0x4000_0003, Abi::I386)]),
        // 32-bit programs are refused: their calls are in no table of ours.
        "aarch64" => Some(&[(0xc000_00b7, Abi::Aarch64)]),
        _ => None,
    }
}

/// Makes the program; none if it would be larger than the kernel takes. `asked`: calls that the controller answers, where no
/// rule refuses them.
pub fn compile(rules: &[Rule], ways: &[(u32, Abi)], asked: &[Syscall]) -> Option<Vec<Instruction>> {
    let none = vec![refuse(ENOSYS)];
    let tree =
        ways.iter().fold(none, |others, (arch, abi)| branch(EQUAL, *arch, calls(rules, *abi, asked), others));
    let mut program = vec![step(LOAD, ARCH)];
    program.extend(tree);
    (program.len() <= MOST).then_some(program)
}

/// All calls of one way.
fn calls(rules: &[Rule], abi: Abi, asked: &[Syscall]) -> Vec<Instruction> {
    let asked: Vec<u32> = asked.iter().filter_map(|call| call.number(abi)).collect();
    let mut by_number: BTreeMap<u32, Vec<&Rule>> = asked.iter().map(|number| (*number, Vec::new())).collect();
    for rule in rules {
        if let Some(number) = rule.call.number(abi) {
            by_number.entry(number).or_default().push(rule);
        }
    }
    let otherwise = |number: &u32| if asked.contains(number) { ASK } else { ALLOW };
    let found: Vec<_> =
        by_number.into_iter().map(|(number, rules)| (number, one_call(&rules, otherwise(&number)))).collect();
    let mut program = vec![step(LOAD, NUMBER)];
    // x32 calls are x86_64 calls with a bit that makes them larger than all.
    program.extend(branch(AT_LEAST, syscalls::newest(abi) + 1, vec![refuse(ENOSYS)], find(&found)));
    program
}

/// Finds the number among sorted ones; what is not there is allowed.
fn find(calls: &[(u32, Vec<Instruction>)]) -> Vec<Instruction> {
    if calls.len() > 3 {
        let (low, high) = calls.split_at(calls.len() / 2);
        return branch(AT_LEAST, high[0].0, find(high), find(low));
    }
    let allowed = vec![step(RETURN, ALLOW)];
    calls.iter().rev().fold(allowed, |others, (number, then)| branch(EQUAL, *number, then.clone(), others))
}

/// The rules of one call: the first that fits counts.
fn one_call(rules: &[&Rule], otherwise: u32) -> Vec<Instruction> {
    let mut program = Vec::new();
    for rule in rules {
        program.extend(one_rule(rule));
        if rule.conditions.is_empty() {
            return program;
        }
    }
    program.push(step(RETURN, otherwise));
    program
}

/// Refuses if all conditions hold, else runs on behind its end.
fn one_rule(rule: &Rule) -> Vec<Instruction> {
    let mut backwards = vec![refuse(rule.errno)];
    for Condition { argument, test, value } in rule.conditions.iter().rev() {
        // A line has few conditions: the way to its end is short.
        let to_end = u8::try_from(backwards.len()).unwrap_or(u8::MAX);
        let (code, jt, jf) = match test {
            Test::Is => (EQUAL, 0, to_end),
            Test::IsNot => (EQUAL, to_end, 0),
            Test::AnyOf => (ANY_BIT, 0, to_end),
        };
        backwards.push(Instruction { code, jt, jf, k: *value });
        // Both machines are little-endian: the lower half comes first.
        backwards.push(step(LOAD, ARGUMENTS + 8 * argument));
    }
    backwards.reverse();
    backwards
}

fn step(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

fn refuse(errno: u32) -> Instruction {
    step(RETURN, ERRNO | errno)
}

/// If the test holds `then`, else `others`; both end with a return.
fn branch(code: u16, k: u32, then: Vec<Instruction>, others: Vec<Instruction>) -> Vec<Instruction> {
    let mut program = match u8::try_from(others.len()) {
        Ok(jt) => vec![Instruction { code, jt, jf: 0, k }],
        Err(_) => {
            let far = u32::try_from(others.len()).unwrap_or(u32::MAX);
            vec![Instruction { code, jt: 0, jf: 1, k }, step(JUMP, far)]
        }
    };
    program.extend(others);
    program.extend(then);
    program
}
