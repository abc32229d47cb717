//! `<berth:settings>` in a document, and the filter of system calls that comes of it: whatever is accepted, the program
//! is one that the kernel takes, and does what the document says.

use berth_domain::parse;
use berth_domain::syscalls;
use berth_driver::seccomp::compile::{
    ALLOW, ANY_BIT, AT_LEAST, EQUAL, ERRNO, Instruction, JUMP, LOAD, RETURN, compile, ways,
};
use berth_driver::seccomp::rules::resolve;

use crate::domain_xml::{calm, host};

/// Reads `data` as the inside of the settings.
pub fn run(data: &[u8]) {
    let Ok(inside) = std::str::from_utf8(data) else { return };
    let text = format!(
        "<domain type='lxc'><name>t</name><uuid>8369f1ac-7e46-e869-4ca5-759d51478066</uuid><memory>1</memory>\
         <metadata><berth:settings xmlns:berth='urn:berth:domain:1'>{inside}</berth:settings></metadata>\
         <os><type>exe</type><init>/sbin/init</init></os><devices>\
         <filesystem><source dir='/srv/t'/><target dir='/'/></filesystem></devices></domain>"
    );
    let domain = match parse(&text, &host()) {
        Ok(parsed) => parsed.domain,
        Err(error) => return calm(&error.diagnostics),
    };
    let again = parse(&domain.to_xml(), &host()).unwrap_or_else(|e| panic!("own output refused: {e}")).domain;
    assert_eq!(again.id_map_mode(), domain.id_map_mode());
    let wanted = domain.seccomp().unwrap_or_else(|e| panic!("accepted and refused: {e:?}"));
    assert_eq!(again.seccomp().as_ref(), Ok(&wanted));
    if wanted.allow.is_empty() && wanted.deny.is_empty() {
        return;
    }
    let rules = resolve(&wanted, true, |_| false).unwrap_or_else(|e| panic!("no rules: {e}"));
    let ways = ways("x86_64").expect("a machine");
    let Some(program) = compile(&rules, ways, &[]) else { return };
    sound(&program);
    for (arch, abi) in ways {
        for (names, expected) in [(&wanted.deny, ERRNO | 1), (&wanted.allow, ALLOW)] {
            for name in names {
                let call = syscalls::find(name).expect("it was accepted");
                if let Some(number) = call.number(*abi) {
                    assert_eq!(answer(&program, *arch, number), expected, "{name} {:?}", wanted.profile);
                }
            }
        }
    }
}

/// What the kernel checks before it takes a program: its size, and that every way ends in an answer.
fn sound(program: &[Instruction]) {
    assert!(program.len() <= 4096);
    for (at, i) in program.iter().enumerate() {
        let behind = program.len() - at - 1;
        match i.code {
            LOAD => assert!(i.k % 4 == 0 && i.k < 64 && behind > 0),
            JUMP => assert!((i.k as usize) < behind),
            EQUAL | AT_LEAST | ANY_BIT => assert!(usize::from(i.jt.max(i.jf)) < behind),
            RETURN => {}
            code => panic!("code {code}"),
        }
    }
}

/// Runs the program for a call whose arguments are all zero.
fn answer(program: &[Instruction], arch: u32, number: u32) -> u32 {
    let (mut a, mut at) = (0, 0);
    loop {
        let i = program[at];
        let holds = match i.code {
            LOAD => {
                a = [number, arch].get(i.k as usize / 4).copied().unwrap_or(0);
                at += 1;
                continue;
            }
            JUMP => {
                at += 1 + i.k as usize;
                continue;
            }
            RETURN => return i.k,
            EQUAL => a == i.k,
            AT_LEAST => a >= i.k,
            _ => a & i.k != 0,
        };
        at += 1 + usize::from(if holds { i.jt } else { i.jf });
    }
}
