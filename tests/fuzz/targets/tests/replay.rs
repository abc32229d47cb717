//! Without libFuzzer: all seeds, all past findings, and a short run of random changes to them, the same in each run.
//!
//! `cargo xtask test` runs this on the stable toolchain.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_fuzz::{TARGETS, Target};
use rustix::time::{ClockId, clock_gettime};

/// Changed inputs for each target.
const CHANGED: usize = 3000;

/// Inputs of [`LONG`] bytes for each target, and how long one may take of the processor's time.
const LONG_INPUTS: usize = 40;
const LONG: usize = 64 << 10;
const MOST: Duration = Duration::from_millis(100);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> =
        entries.map(|e| e.expect("an entry").path()).filter(|p| p.is_file()).collect();
    paths.sort();
    let named = |p: PathBuf| (p.display().to_string(), fs::read(&p).expect("readable"));
    paths.into_iter().map(named).collect()
}

fn findings(target: &str) -> Vec<(String, Vec<u8>)> {
    files(&root().join("tests/corpus/fuzz").join(target).join("findings"))
}

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let mut seeds = files(&root().join("tests/corpus/fuzz").join(target).join("seeds"));
    let documents: &[&str] = match target {
        "domain_xml" => &["tests/corpus/domains", "tests/corpus/domains/bad", "driver/tests/golden"],
        "network_xml" => &["tests/corpus/networks", "tests/corpus/networks/bad"],
        _ => &[],
    };
    for folder in documents {
        seeds.extend(files(&root().join(folder)).into_iter().filter(|(name, _)| name.ends_with(".xml")));
    }
    assert!(!seeds.is_empty(), "{target} has no seeds");
    seeds
}

/// xorshift64*: enough to choose places.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end.max(1)
    }

    /// A piece of some seed.
    fn piece<'a>(&mut self, seeds: &'a [(String, Vec<u8>)], most: usize) -> &'a [u8] {
        let text = &seeds[self.below(seeds.len())].1;
        let from = self.below(text.len());
        let length = self.below(most) + 1;
        &text[from..text.len().min(from + length)]
    }
}

/// One seed with some changes.
fn changed(dice: &mut Dice, seeds: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = seeds[dice.below(seeds.len())].1.clone();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len() + 1);
        let to = (at + dice.below(16)).min(bytes.len());
        match dice.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            1 if at < bytes.len() => bytes[at] = b"\0 '\"<>&/:{}[],-+0159\n\xff"[dice.below(22)],
            2 => drop(bytes.drain(at..to)),
            3 => bytes.truncate(at),
            4 => drop(bytes.splice(at..at, bytes[at..to].to_vec())),
            _ => drop(bytes.splice(at..to, dice.piece(seeds, 40).iter().copied())),
        }
    }
    bytes
}

/// One seed with a piece in it that is there again and again, up to [`LONG`] bytes.
fn long(dice: &mut Dice, seeds: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = seeds[dice.below(seeds.len())].1.clone();
    bytes.truncate(LONG);
    // Whole lines, elements and members are more often understood.
    let all = &seeds[dice.below(seeds.len())].1;
    let lines: Vec<&[u8]> = all.split_inclusive(|b| b"\n>,;".contains(b)).collect();
    let line = dice.below(lines.len());
    let piece = if dice.below(3) == 0 { dice.piece(seeds, 60) } else { lines[line] };
    let at = dice.below(bytes.len() + 1);
    let repeated: Vec<u8> = piece.iter().copied().cycle().take(LONG - bytes.len()).collect();
    drop(bytes.splice(at..at, repeated));
    bytes
}

fn time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Runs one input; what is wrong with it, if anything.
fn check((target, run): Target, name: &str, data: &[u8]) -> Option<String> {
    if catch_unwind(|| run(data)).is_ok() {
        return None;
    }
    let kept = std::env::temp_dir().join(format!("berth-fuzz-{target}-{}", std::process::id()));
    fs::write(&kept, data).expect("written");
    Some(format!("{target}: {name} is a finding, kept as '{}'", kept.display()))
}

fn all(inputs: impl Fn(&'static str) -> Vec<(String, Vec<u8>)>) {
    for target in TARGETS {
        for (name, data) in inputs(target.0) {
            if let Some(wrong) = check(*target, &name, &data) {
                panic!("{wrong}");
            }
        }
    }
}

#[test]
fn seeds_and_past_findings_are_fine() {
    all(|target| [seeds(target), findings(target)].concat());
}

#[test]
fn every_folder_has_a_target() {
    for entry in fs::read_dir(root().join("tests/corpus/fuzz")).expect("the corpus") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name");
        assert!(TARGETS.iter().any(|(target, _)| *target == name), "there is no target '{name}'");
    }
    for (target, _) in TARGETS {
        let program = root().join("tests/fuzz/libfuzzer/src/bin").join(format!("{target}.rs"));
        let text = fs::read_to_string(&program).expect("each target has a program");
        assert!(text.contains(&format!("berth_fuzz::{target}::run(")), "{}", program.display());
    }
}

#[test]
fn changed_seeds_are_fine() {
    all(|target| {
        let (seeds, mut dice) = ([seeds(target), findings(target)].concat(), Dice(0x9e37_79b9_7f4a_7c15));
        (0..CHANGED).map(|n| (format!("changed seed {n}"), changed(&mut dice, &seeds))).collect()
    });
}

#[test]
fn long_inputs_take_little_time() {
    for target in TARGETS {
        let (seeds, mut dice) = (seeds(target.0), Dice(0x2545_f491_4f6c_dd1d));
        for n in 0..LONG_INPUTS {
            let data = long(&mut dice, &seeds);
            // A page fault or a cold cache is no fault of the parser: the best of some counts.
            let mut best = Duration::MAX;
            for _ in 0..3 {
                let begin = time();
                if let Some(wrong) = check(*target, &format!("long input {n}"), &data) {
                    panic!("{wrong}");
                }
                best = best.min(time() - begin);
                if best < MOST {
                    break;
                }
            }
            if best >= MOST {
                let kept = std::env::temp_dir().join(format!("berth-fuzz-slow-{}-{n}", target.0));
                fs::write(&kept, &data).expect("written");
                panic!("{}: '{}' takes {best:?}", target.0, kept.display());
            }
        }
    }
}
