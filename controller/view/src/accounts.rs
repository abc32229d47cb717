//! What has to outlive this program: the sums of processor time, the load averages and where requests to block devices are
//! counted from, as text in a memory that the controller holds, another one for each life of init.
//!
//! Whenever it is written it is right: what comes later is the difference to what the kernel has counted by then. A
//! text that is none, or is of another version, means to begin anew. Where counting began is in front, and always the same: a
//! program that is killed while it writes leaves that as it was.

use std::fmt::Write;
use std::os::fd::BorrowedFd;

use rustix::fs::ftruncate;
use rustix::io::{pread, pwrite};

use crate::load::{Load, Moment};
use crate::text::diskstats::{Devices, Done};
use crate::usage::{Sample, Spent, Usage};

/// The longest text.
const LONGEST: usize = 1 << 20;

const TITLE: &str = "berth-view 1";

/// All of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Accounts {
    /// Processor time.
    pub usage: Usage,
    /// Load averages.
    pub load: Load,
    /// What the kernel had counted of block devices when init was started. None: nobody has looked yet.
    pub blocks: Option<Devices>,
}

/// Behind where counting began.
const BEGUN: &str = "\nbegun\n";

impl Accounts {
    /// Reads it.
    pub fn load(from: BorrowedFd<'_>) -> Self {
        let mut bytes = vec![0; 4096];
        let mut length = 0;
        while let Ok(got) = pread(from, &mut bytes[length..], length as u64)
            && got > 0
        {
            length += got;
            if length == bytes.len() && length < LONGEST {
                bytes.resize(length * 2, 0);
            }
        }
        std::str::from_utf8(&bytes[..length]).map(Self::read_what_is_whole).unwrap_or_default()
    }

    /// All of it, or at least where counting began.
    fn read_what_is_whole(text: &str) -> Self {
        let beginning = || text.split_once(BEGUN).and_then(|(b, _)| Self::read(&format!("{b}{BEGUN}end\n")));
        Self::read(text).or_else(beginning).unwrap_or_default()
    }

    /// Writes it.
    pub fn save(&self, to: BorrowedFd<'_>) {
        let text = self.show();
        // Whatever cannot be written is missing in the averages of later.
        if pwrite(to, text.as_bytes(), 0) == Ok(text.len()) {
            let _ = ftruncate(to, text.len() as u64);
        }
    }

    fn show(&self) -> String {
        let mut out = TITLE.to_owned();
        for (device, d) in self.blocks.iter().flatten() {
            let _ = write!(out, "\nblocks {} {} {}", d.reads, d.read_bytes, d.writes);
            let _ = write!(out, " {} {} {} {device}", d.written_bytes, d.discards, d.discarded_bytes);
        }
        out.push_str(if self.blocks.is_some() { BEGUN } else { "\n" });
        let [one, five, fifteen] = self.load.averages;
        if let Some(m) = self.load.last {
            let _ = writeln!(out, "load {one} {five} {fifteen}");
            let active = m.active.map_or(-1, i64::from);
            let _ =
                writeln!(out, "moment {} {} {} {} {active} {}", m.at, m.used, m.waited, m.blocked, m.cpus);
        }
        for c in &self.usage.cpus {
            let _ = writeln!(out, "cpu {} {} {}", c.user, c.system, c.idle);
        }
        if let Some(last) = &self.usage.last {
            let _ = writeln!(out, "last {} {} {}", last.at, last.user, last.system);
            for (cpu, user, system) in &last.by_cpu {
                let _ = writeln!(out, "host {cpu} {user} {system}");
            }
        }
        out.push_str("end\n");
        out
    }

    fn read(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != TITLE {
            return None;
        }
        let mut all = Self::default();
        for line in lines {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let mut words = rest.split(' ');
            let mut number = || words.next()?.parse::<u64>().ok();
            match word {
                "blocks" => {
                    let done = Done {
                        reads: number()?,
                        read_bytes: number()?,
                        writes: number()?,
                        written_bytes: number()?,
                        discards: number()?,
                        discarded_bytes: number()?,
                    };
                    all.blocks.get_or_insert_default().insert(words.next()?.to_owned(), done);
                }
                "begun" => {
                    all.blocks.get_or_insert_default();
                }
                "load" => {
                    let mut words = rest.split(' ').map(str::parse::<f64>);
                    for average in &mut all.load.averages {
                        *average = words.next()?.ok().filter(|a| a.is_finite() && *a >= 0.0)?;
                    }
                }
                "moment" => {
                    let (at, used, waited, blocked) = (number()?, number()?, number()?, number()?);
                    let mut last = rest.split(' ').skip(4);
                    let (active, cpus) = (last.next()?.parse().ok(), last.next()?.parse().ok()?);
                    all.load.last = Some(Moment { at, used, waited, blocked, active, cpus });
                }
                "cpu" => {
                    all.usage.cpus.push(Spent { user: number()?, system: number()?, idle: number()? });
                }
                "last" => {
                    let (at, user, system) = (number()?, number()?, number()?);
                    all.usage.last = Some(Sample { at, user, system, by_cpu: Vec::new() });
                }
                "host" => {
                    let cpu = u32::try_from(number()?).ok()?;
                    all.usage.last.as_mut()?.by_cpu.push((cpu, number()?, number()?));
                }
                "end" => return Some(all),
                _ => return None,
            }
        }
        // It was cut off.
        None
    }
}

#[cfg(test)]
mod test {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let memory = rustix::fs::memfd_create(c"accounts", rustix::fs::MemfdFlags::CLOEXEC).expect("memory");
        assert_eq!(Accounts::load(memory.as_fd()), Accounts::default());
        let mut accounts = Accounts::default();
        accounts.load.averages = [0.25, 1.5, 3.0e-7];
        accounts.load.last = Some(Moment { at: 1, used: 2, waited: 3, blocked: 4, active: Some(5), cpus: 6 });
        accounts.usage.cpus = vec![Spent { user: 7, system: 8, idle: 9 }; 200];
        accounts.usage.last = Some(Sample { at: 1, user: 2, system: 3, by_cpu: vec![(4, 5, 6); 200] });
        accounts.save(memory.as_fd());
        assert_eq!(Accounts::load(memory.as_fd()), accounts);
        // A shorter one behind it.
        accounts.usage.cpus.truncate(1);
        accounts.load.last = Some(Moment::default());
        accounts.save(memory.as_fd());
        assert_eq!(Accounts::load(memory.as_fd()), accounts);
        let text = accounts.show();
        assert_eq!(accounts.blocks, None);
        for cut in 0..text.len() - 1 {
            assert_eq!(Accounts::read(&text[..cut]), None, "{cut}");
        }
    }
    #[test]
    fn where_counting_began_stays_whatever_is_behind_it() {
        let done =
            Done { reads: 1, read_bytes: 2, writes: 3, written_bytes: 4, discards: 5, discarded_bytes: 6 };
        for blocks in
            [Devices::new(), Devices::from([("8:0".into(), done), ("254:16".into(), Done::default())])]
        {
            let mut accounts = Accounts { blocks: Some(blocks.clone()), ..Accounts::default() };
            accounts.usage.cpus = vec![Spent { user: 7, system: 8, idle: 9 }; 3];
            let text = accounts.show();
            assert_eq!(Accounts::read(&text), Some(accounts));
            let begun = text.find(BEGUN).expect("there") + BEGUN.len();
            for cut in begun..text.len() {
                let only = Accounts { blocks: Some(blocks.clone()), ..Accounts::default() };
                assert_eq!(Accounts::read_what_is_whole(&text[..cut]).blocks, only.blocks, "{cut}");
                let mixed = format!("{}5 8\ncpu 9{}", &text[..cut], &text[cut..]);
                assert_eq!(Accounts::read_what_is_whole(&mixed).blocks, only.blocks, "{mixed}");
            }
            assert_eq!(Accounts::read_what_is_whole(&text[..begun - 1]), Accounts::default());
        }
    }
}
