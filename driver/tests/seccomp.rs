//! The filters of system calls: every rule tried on an interpreter of the kernel's filter programs, for every way of
//! calling a kernel. `BERTH_UPDATE_GOLDEN=1` writes the listings anew.

#![allow(clippy::expect_used)]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use berth_domain::seccomp::{Seccomp, SeccompProfile};
use berth_domain::syscalls::{self, Abi};
use berth_driver::seccomp::compile::{
    ALLOW, ANY_BIT, ASK, AT_LEAST, EQUAL, ERRNO, Instruction, JUMP, LOAD, RETURN, compile, ways,
};
use berth_driver::seccomp::filter;
use berth_driver::seccomp::rules::{Condition, Rule, Test, resolve};

const MACHINES: [&str; 2] = ["x86_64", "aarch64"];
const PROFILES: [SeccompProfile; 2] = [SeccompProfile::System, SeccompProfile::Application];
const ENOSYS: u32 = ERRNO | 38;
const EPERM: u32 = ERRNO | 1;

/// `struct seccomp_data` of linux/seccomp.h.
#[derive(Clone, Copy, Debug)]
struct Call {
    arch: u32,
    number: u32,
    arguments: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(self.arch.to_le_bytes());
        bytes.extend([0xee; 8]);
        self.arguments.iter().for_each(|a| bytes.extend(a.to_le_bytes()));
        let at = offset as usize;
        u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
    }
}

/// Runs a program; what it returns and how many steps that took.
fn run(program: &[Instruction], call: &Call) -> (u32, usize) {
    let (mut a, mut at, mut steps) = (0, 0, 0);
    loop {
        let i = program.get(at).expect("the program runs beyond its end");
        (at, steps) = (at + 1, steps + 1);
        let mut test = |holds: bool| at += usize::from(if holds { i.jt } else { i.jf });
        match i.code {
            LOAD => a = call.word(i.k),
            JUMP => at += i.k as usize,
            EQUAL => test(a == i.k),
            AT_LEAST => test(a >= i.k),
            ANY_BIT => test(a & i.k != 0),
            RETURN => return (i.k, steps),
            other => panic!("code {other}"),
        }
    }
}

fn of(profile: SeccompProfile) -> Seccomp {
    Seccomp { profile, ..Seccomp::default() }
}

fn rules(wanted: &Seccomp) -> Vec<Rule> {
    resolve(wanted, true, |_| false).expect("good profiles")
}

fn program(rules: &[Rule], machine: &str) -> Vec<Instruction> {
    compile(rules, ways(machine).expect("a machine"), &[]).expect("small enough")
}

/// What the rules say about a call: the slow way, straight from the data.
fn expected(rules: &[Rule], abi: Abi, call: &Call) -> u32 {
    if call.number > syscalls::newest(abi) {
        return ENOSYS;
    }
    let holds = |c: &Condition| {
        let argument = call.arguments[c.argument as usize] as u32;
        match c.test {
            Test::Is => argument == c.value,
            Test::IsNot => argument != c.value,
            Test::AnyOf => argument & c.value != 0,
        }
    };
    let fits = |r: &&Rule| r.call.number(abi) == Some(call.number) && r.conditions.iter().all(holds);
    rules.iter().find(fits).map_or(ALLOW, |r| ERRNO | r.errno)
}

/// Arguments on both sides of each condition of a call's rules.
fn samples(rules: &[&Rule]) -> Vec<[u64; 6]> {
    let mut all: Vec<[u64; 6]> = vec![[0; 6], [u64::MAX; 6], [1; 6]];
    let conditions: Vec<Condition> = rules.iter().flat_map(|r| r.conditions.clone()).collect();
    for c in &conditions {
        for base in all.clone().into_iter().take(24) {
            for value in [c.value, c.value.wrapping_add(1), !c.value, 0x4000] {
                // The upper half is for the caller to choose, and must not count.
                for upper in [0, 0xdead_beef_u64 << 32] {
                    let mut arguments = base;
                    arguments[c.argument as usize] = u64::from(value) | upper;
                    all.push(arguments);
                }
            }
        }
    }
    all
}

#[test]
fn programs_do_what_the_rules_say() {
    let additions = Seccomp {
        profile: SeccompProfile::Application,
        allow: vec!["ptrace".into(), "socket".into()],
        deny: vec!["mseal".into(), "ioctl".into()],
    };
    let everything = Seccomp {
        profile: SeccompProfile::System,
        allow: Vec::new(),
        deny: syscalls::all().map(|s| s.name.to_owned()).collect(),
    };
    for wanted in PROFILES.map(of).into_iter().chain([additions, everything]) {
        let rules = rules(&wanted);
        for machine in MACHINES {
            let program = program(&rules, machine);
            for (arch, abi) in ways(machine).expect("a machine") {
                for number in (0..=syscalls::newest(*abi) + 2).chain([0x4000_0000, 0x4000_003b, u32::MAX]) {
                    let of_call: Vec<&Rule> =
                        rules.iter().filter(|r| r.call.number(*abi) == Some(number)).collect();
                    for arguments in samples(&of_call) {
                        let call = Call { arch: *arch, number, arguments };
                        let (got, steps) = run(&program, &call);
                        let want = expected(&rules, *abi, &call);
                        assert_eq!(got, want, "{machine} {abi:?} {call:x?} {of_call:?}");
                        assert!(steps < 60, "{steps} steps for {call:x?}");
                    }
                }
            }
            // A way that this machine does not have: big-endian 32-bit ARM.
            let call = Call { arch: 0x28, number: 0, arguments: [0; 6] };
            assert_eq!(run(&program, &call).0, ENOSYS);
        }
    }
}

#[test]
fn what_must_be_refused_is_refused() {
    let x86_64 = program(&rules(&of(SeccompProfile::System)), "x86_64");
    let ask = |arch, number, arguments| run(&x86_64, &Call { arch, number, arguments }).0;
    let (long, short) = (0xc000_003e, 0x4000_0003);
    // By number, so that a mistake in the table shows: kexec_load, bpf, open_by_handle_at, keyctl.
    for (number, number32, want) in
        [(246, 283, EPERM), (321, 357, EPERM), (304, 342, EPERM), (250, 288, ENOSYS), (59, 11, ALLOW)]
    {
        assert_eq!(ask(long, number, [0; 6]), want, "{number}");
        assert_eq!(ask(short, number32, [0; 6]), want, "{number32} of i386");
    }
    // TIOCSTI, also with something in the half that the kernel does not read.
    assert_eq!(ask(long, 16, [0, 0x5412, 0, 0, 0, 0]), EPERM);
    assert_eq!(ask(long, 16, [0, 0x1_0000_5412, 0, 0, 0, 0]), EPERM);
    assert_eq!(ask(long, 16, [0, 0x5413, 0, 0, 0, 0]), ALLOW);
    // x32, and a call of the future.
    assert_eq!(ask(long, 0x4000_0000 + 59, [0; 6]), ENOSYS);
    assert_eq!(ask(long, 470, [0; 6]), ENOSYS);
}

/// Calls that the controller answers are asked about by every way, where no rule refuses them.
#[test]
fn calls_that_are_answered_are_asked_about() {
    let asked = [syscalls::find("sysinfo").expect("a call"), syscalls::find("ptrace").expect("a call")];
    let denying = |name: &str| Seccomp { deny: vec![name.into()], ..of(SeccompProfile::Application) };
    for (wanted, refused) in [(of(SeccompProfile::System), None), (denying("sysinfo"), Some("sysinfo"))] {
        let rules = rules(&wanted);
        for machine in MACHINES {
            let ways = ways(machine).expect("a machine");
            let program = compile(&rules, ways, &asked).expect("small enough");
            for (arch, abi) in ways {
                for number in 0..=syscalls::newest(*abi) {
                    let call = Call { arch: *arch, number, arguments: [0; 6] };
                    let without = expected(&rules, *abi, &call);
                    let is_asked = asked.iter().any(|a| a.number(*abi) == Some(number));
                    let want = if is_asked && without == ALLOW { ASK } else { without };
                    assert_eq!(run(&program, &call).0, want, "{machine} {abi:?} {number}");
                    assert!(!(refused.is_some() && want == ASK), "{number} is denied");
                }
            }
        }
    }
    // What a plan says.
    let plan = |own| filter(&Seccomp::default(), "x86_64", true, |_| false, own).expect("a filter");
    let asks = |program: Vec<i64>| program.iter().filter(|i| **i as u32 == ASK).count();
    assert_eq!((asks(plan(true)), asks(plan(false))), (2, 0));
}

#[test]
fn enough_is_blocked() {
    // The old calls of x86 are not on other machines.
    for (profile, x86, arm) in [(SeccompProfile::System, 44, 25), (SeccompProfile::Application, 85, 60)] {
        let rules = rules(&of(profile));
        for (_, abi) in MACHINES.iter().flat_map(|m| ways(m).expect("a machine")) {
            let always: BTreeSet<&str> = rules
                .iter()
                .filter(|r| r.conditions.is_empty() && r.call.number(*abi).is_some())
                .map(|r| r.call.name)
                .collect();
            println!("{profile} {abi:?}: {} calls refused whatever their arguments", always.len());
            let least = if *abi == Abi::Aarch64 { arm } else { x86 };
            assert!(always.len() >= least, "{profile} {abi:?}: {}", always.len());
        }
        assert!(rules.iter().all(|r| r.reason.len() > 5), "a rule without a reason");
    }
}

#[test]
fn documents_change_the_rules() {
    let names = |wanted: &Seccomp, given: &[&str]| -> BTreeSet<&str> {
        let rules = resolve(wanted, true, |name| given.contains(&name)).expect("good profiles");
        rules.iter().map(|r| r.call.name).collect()
    };
    let plain = of(SeccompProfile::System);
    assert!(names(&plain, &[]).contains("clock_settime"));
    assert!(!names(&plain, &["sys_time"]).contains("clock_settime"));
    assert!(names(&of(SeccompProfile::Application), &["sys_time"]).contains("clock_settime"));
    let wanted = Seccomp { allow: vec!["bpf".into()], deny: vec!["mseal".into()], ..plain };
    assert!(!names(&wanted, &[]).contains("bpf") && names(&wanted, &[]).contains("mseal"));
}

#[test]
fn listings_are_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (profile, machine) in PROFILES.into_iter().flat_map(|p| MACHINES.map(|m| (p, m))) {
        let mut got = String::new();
        for (n, i) in program(&rules(&of(profile)), machine).iter().enumerate() {
            let (yes, no) = (n + 1 + usize::from(i.jt), n + 1 + usize::from(i.jf));
            let _ = match i.code {
                LOAD => writeln!(got, "{n:4}: load {}", i.k),
                JUMP => writeln!(got, "{n:4}: goto {}", n + 1 + i.k as usize),
                EQUAL => writeln!(got, "{n:4}: == {:#x} ? {yes} : {no}", i.k),
                AT_LEAST => writeln!(got, "{n:4}: >= {} ? {yes} : {no}", i.k),
                ANY_BIT => writeln!(got, "{n:4}: & {:#x} ? {yes} : {no}", i.k),
                _ if i.k == ALLOW => writeln!(got, "{n:4}: allow"),
                _ => writeln!(got, "{n:4}: errno {}", i.k & 0xffff),
            };
        }
        let golden = folder.join(format!("seccomp-{profile}.{machine}.txt"));
        if std::env::var_os("BERTH_UPDATE_GOLDEN").is_some() {
            std::fs::write(&golden, &got).expect("written");
        }
        assert_eq!(got, std::fs::read_to_string(&golden).unwrap_or_default(), "{}", golden.display());
    }
}

/// Where root inside is root outside, the ways to mount that AppArmor does not see are missing.
#[test]
fn with_the_hosts_ids_only_mount_mounts() {
    let own = resolve(&Seccomp::default(), true, |_| false).expect("good profiles");
    let host = resolve(&Seccomp::default(), false, |_| false).expect("good profiles");
    let more: Vec<_> = host.iter().filter(|r| !own.contains(r)).map(|r| (r.call.name, r.errno)).collect();
    assert!(more.contains(&("fsopen", 38)) && more.contains(&("mount_setattr", 38)), "{more:?}");
    assert!(!host.iter().any(|r| r.call.name == "mount"));
    assert_eq!(host.len(), own.len() + more.len());
}
