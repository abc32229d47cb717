//! Which devices may be opened, as a program of the kernel's: instructions of eBPF, assembled here.
//!
//! Pure. Sources: BPF instruction set (kernel documentation, bpf/standardization), and linux/bpf.h for what a program
//! for devices gets (`struct bpf_cgroup_dev_ctx`). This module does not know where a program is attached.

use super::rules::Rule;

/// Operations: class, source and size in one byte, as the instruction set has them.
mod op {
    /// `dst = *(u32 *)(src + offset)`.
    pub const LOAD: u8 = 0x61;
    /// `dst = constant`.
    pub const SET: u8 = 0xb7;
    /// `dst = src`.
    pub const COPY: u8 = 0xbf;
    /// `dst &= constant`.
    pub const AND: u8 = 0x57;
    /// `dst >>= constant`.
    pub const SHIFT: u8 = 0x77;
    /// Skips `offset` instructions unless `dst` equals the constant.
    pub const IF_NOT: u8 = 0x55;
    /// Ends with the value of register 0.
    pub const EXIT: u8 = 0x95;
}

/// What is tried, in the upper half of the first word.
const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;

/// Kinds of devices, in its lower half.
const BLOCK: i32 = 1;
const CHAR: i32 = 2;

fn instruction(code: u8, dst: u8, src: u8, offset: i16, constant: i32) -> u64 {
    let [a, b] = offset.to_ne_bytes();
    let [c, d, e, f] = constant.to_ne_bytes();
    // Two fields of four bits, of which the first is the low half where the machine is little-endian.
    let registers = if cfg!(target_endian = "little") { dst | src << 4 } else { dst << 4 | src };
    u64::from_ne_bytes([code, registers, a, b, c, d, e, f])
}

/// A program that lets a device be opened if a rule says so. Making a device file is always let through: the file opens
/// nothing more than the rules say, and whether one may be made is a matter of capabilities.
pub fn assemble(rules: &[Rule]) -> Vec<u64> {
    // Register 1 comes with the address of: access and kind, major, minor, each of 32 bits.
    let (access, kind, major, minor, rest) = (2, 3, 4, 5, 6);
    let mut program = vec![
        instruction(op::LOAD, access, 1, 0, 0),
        instruction(op::COPY, kind, access, 0, 0),
        instruction(op::AND, kind, 0, 0, 0xffff),
        instruction(op::SHIFT, access, 0, 0, 16),
        instruction(op::LOAD, major, 1, 4, 0),
        instruction(op::LOAD, minor, 1, 8, 0),
        instruction(op::SET, 0, 0, 0, 1),
        instruction(op::IF_NOT, access, 0, 1, MKNOD),
        instruction(op::EXIT, 0, 0, 0, 0),
    ];
    for rule in rules {
        let allowed = MKNOD | READ | if rule.write { WRITE } else { 0 };
        let beyond = !allowed & (MKNOD | READ | WRITE);
        let wanted = if rule.block { BLOCK } else { CHAR };
        // From the last instruction back: what does not fit goes behind them.
        let mut tests = vec![(kind, wanted), (major, rule.major as i32)];
        tests.extend(rule.minor.map(|m| (minor, m as i32)));
        let mut lines = Vec::new();
        if beyond != 0 {
            lines.push((op::COPY, rest, access, 0));
            lines.push((op::AND, rest, 0, beyond));
            lines.push((op::IF_NOT, rest, 0, 0));
        }
        lines.extend(tests.into_iter().map(|(register, value)| (op::IF_NOT, register, 0, value)));
        let count = lines.len();
        for (index, (code, dst, src, constant)) in lines.into_iter().enumerate() {
            let offset = if code == op::IF_NOT { (count - index) as i16 } else { 0 };
            program.push(instruction(code, dst, src, offset, constant));
        }
        program.push(instruction(op::EXIT, 0, 0, 0, 0));
    }
    program.push(instruction(op::SET, 0, 0, 0, 0));
    program.push(instruction(op::EXIT, 0, 0, 0, 0));
    program
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::setup::rules;

    /// Runs a program of the few operations that are used, as the instruction set describes them.
    fn interpret(program: &[u64], context: [u32; 3]) -> u64 {
        let mut registers = [0_u64; 11];
        let mut at = 0;
        for _ in 0..10_000 {
            let bytes = program[at].to_ne_bytes();
            let (dst, src) = if cfg!(target_endian = "little") {
                (usize::from(bytes[1] & 15), usize::from(bytes[1] >> 4))
            } else {
                (usize::from(bytes[1] >> 4), usize::from(bytes[1] & 15))
            };
            let offset = i16::from_ne_bytes([bytes[2], bytes[3]]);
            let constant = i32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            // Sign-extended to 64 bits by the instruction set.
            let wide = constant as i64 as u64;
            at += 1;
            match bytes[0] {
                op::LOAD => {
                    assert_eq!(src, 1, "only the context may be read");
                    registers[dst] = u64::from(context[offset as usize / 4]);
                }
                op::SET => registers[dst] = wide,
                op::COPY => registers[dst] = registers[src],
                op::AND => registers[dst] &= wide,
                op::SHIFT => registers[dst] >>= constant,
                op::IF_NOT if registers[dst] != wide => at = at.wrapping_add_signed(offset.into()),
                op::IF_NOT => {}
                op::EXIT => return registers[0],
                other => panic!("operation {other:#x}"),
            }
        }
        panic!("it does not end");
    }

    fn allows(program: &[u64], kind: i32, major: u32, minor: u32, access: i32) -> bool {
        interpret(program, [(kind | access << 16) as u32, major, minor]) == 1
    }

    /// The rules' meaning, written again from their words.
    fn expected(rules: &[Rule], kind: i32, major: u32, minor: u32, access: i32) -> bool {
        access == MKNOD
            || rules.iter().any(|r| {
                r.block == (kind == BLOCK)
                    && r.major == major
                    && r.minor.is_none_or(|m| m == minor)
                    && (r.write || access & WRITE == 0)
            })
    }

    #[test]
    fn the_program_says_what_the_rules_say() {
        let mut list = rules::standard();
        list.push(Rule { block: true, major: 7, minor: Some(3), write: true });
        list.push(Rule { block: true, major: 7, minor: Some(4), write: false });
        list.push(Rule { block: false, major: 10, minor: Some(229), write: true });
        list.push(Rule { block: true, major: 259, minor: Some(0xf_ffff), write: false });
        let program = assemble(&list);
        let minors = [0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 228, 229, 255, 256, 0xf_ffff];
        for kind in [BLOCK, CHAR] {
            for major in (0..300).chain([511, 0xfff]) {
                for minor in minors {
                    for access in 1..8 {
                        let got = allows(&program, kind, major, minor, access);
                        let want = expected(&list, kind, major, minor, access);
                        assert_eq!(got, want, "kind {kind}, {major}:{minor}, access {access}");
                    }
                }
            }
        }
        // Spelt out, so that the two cannot be wrong together.
        assert!(allows(&program, CHAR, 1, 3, READ | WRITE));
        assert!(allows(&program, CHAR, 136, 4000, READ | WRITE));
        assert!(allows(&program, BLOCK, 7, 4, READ));
        assert!(!allows(&program, BLOCK, 7, 4, WRITE));
        assert!(!allows(&program, BLOCK, 7, 4, READ | WRITE));
        assert!(!allows(&program, CHAR, 1, 1, READ));
        assert!(!allows(&program, BLOCK, 8, 0, READ));
        assert!(allows(&program, BLOCK, 8, 0, MKNOD));
        assert!(!allows(&program, BLOCK, 1, 3, READ));
    }

    #[test]
    fn without_rules_nothing_is_opened() {
        let program = assemble(&[]);
        assert!(!allows(&program, CHAR, 1, 3, READ));
        assert!(allows(&program, CHAR, 1, 3, MKNOD));
    }
}
