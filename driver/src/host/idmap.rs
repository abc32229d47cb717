//! Ranges of ids: which domain has which, so that no two have the same (invariant I14).
//!
//! A range is found by a hash of the domain's uuid, as systemd-nspawn does it, and by looking further if another has
//! it; what was found is kept in a file as long as the domain is defined. Does not know documents beyond the ranges
//! they name. Functions of [`IdRanges`] block.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::files;

/// Ids of a domain: enough for every id that a distribution uses, "nobody" (65534) included.
pub const COUNT: u32 = 65_536;

/// Ranges where neither `/etc/subuid` nor `berthd.toml` names some: within what systemd keeps for containers
/// (524288 to 1879048191, see systemd.io/UIDS-GIDS), above what useradd gives out (SUB_UID_MAX, 600100000).
pub const BUILT_IN: Range = Range { first: 0x4000_0000, count: 0x3000_0000 };

/// Longest table: more than the 65,535 ranges that there can be at once, of some 50 bytes.
const MAX_TABLE: u64 = 8 << 20;

/// Most lines of a file of subordinate ids that count: those of one kind are compared with all of the other.
const MAX_LINES: usize = 64;

/// Ids from `first` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Range {
    /// The first.
    pub first: u32,
    /// How many.
    pub count: u32,
}

impl Range {
    /// A domain's range.
    pub fn of_domain(first: u32) -> Self {
        Self { first, count: COUNT }
    }

    /// Whether all of it can be ids of domains: not the host's root, and not -1, which means "no id".
    pub fn is_possible(self) -> bool {
        self.first > 0 && self.count > 0 && self.end() <= u64::from(u32::MAX)
    }

    fn end(self) -> u64 {
        u64::from(self.first) + u64::from(self.count)
    }

    /// Whether they have an id in common.
    pub fn meets(self, other: Self) -> bool {
        u64::from(self.first) < other.end() && u64::from(other.first) < self.end()
    }

    fn both(self, other: Self) -> Option<Self> {
        let first = self.first.max(other.first);
        let count = self.end().min(other.end()).checked_sub(u64::from(first))?;
        u32::try_from(count).ok().filter(|c| *c > 0).map(|count| Self { first, count })
    }

    /// From `START:COUNT`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (first, count) = text.split_once(':').ok_or("it is not of the form START:COUNT")?;
        let number =
            |s: &str| s.trim().parse::<u32>().map_err(|e| format!("'{s}' is not a number of ids: {e}"));
        let range = Self { first: number(first)?, count: number(count)? };
        if range.first == 0 || range.end() > u64::from(u32::MAX) {
            return Err("it must begin above 0 and end below 4294967295".into());
        }
        if range.count < COUNT {
            return Err(format!("it has less than {COUNT} ids, which one domain needs"));
        }
        Ok(range)
    }
}

/// Where ranges are taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool(Vec<Range>);

impl Pool {
    /// What the host's files give to the user `berth`, ids of both kinds; else what is configured; else the built-in.
    pub fn new(subuid: &str, subgid: &str, configured: Option<Range>) -> Self {
        let (uids, gids) = (of_berth(subuid), of_berth(subgid));
        let both = uids.iter().flat_map(|u| gids.iter().filter_map(|g| u.both(*g)));
        let mut areas: Vec<Range> = both.filter(|r| r.count >= COUNT).collect();
        areas.sort_unstable();
        // An id is one id, however often the files name it.
        let mut merged: Vec<Range> = Vec::new();
        for area in areas {
            match merged.last_mut().filter(|last| last.meets(area)) {
                Some(last) => last.count = last.count.max(area.first - last.first + area.count),
                None => merged.push(area),
            }
        }
        if merged.is_empty() {
            merged.push(configured.unwrap_or(BUILT_IN));
        }
        Self(merged)
    }

    /// The areas, in order and disjoint.
    pub fn areas(&self) -> &[Range] {
        &self.0
    }

    fn starts(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(|area| (0..area.count / COUNT).map(|n| area.first + n * COUNT))
    }

    /// Whether a domain's range is one of those that are given out.
    fn has(&self, first: u32) -> bool {
        let inside = |a: &Range| first >= a.first && Range::of_domain(first).end() <= a.end();
        self.0.iter().any(|a| inside(a) && (first - a.first).is_multiple_of(COUNT))
    }

    /// The first range from the uuid's own on that meets none of `taken`.
    pub fn choose(&self, uuid: Uuid, taken: &[Range]) -> Option<u32> {
        let starts: Vec<u32> = self.starts().collect();
        let from = usize::try_from(hash(uuid) % (starts.len().max(1) as u64)).unwrap_or(0);
        // Ends of what lies before are looked at in order, so that ten thousand domains are no trouble.
        let mut sorted: Vec<Range> = taken.iter().copied().filter(|r| r.count > 0).collect();
        sorted.sort_unstable();
        let mut furthest = 0;
        let reach: Vec<u64> = sorted
            .iter()
            .map(|r| {
                furthest = r.end().max(furthest);
                furthest
            })
            .collect();
        let is_free = |first: &u32| {
            let range = Range::of_domain(*first);
            let before = sorted.partition_point(|r| u64::from(r.first) < range.end());
            before == 0 || reach[before - 1] <= u64::from(*first)
        };
        starts[from..].iter().chain(&starts[..from]).copied().find(is_free)
    }
}

/// Lines `berth:START:COUNT` of subuid(5).
fn of_berth(text: &str) -> Vec<Range> {
    let ours = text.lines().filter_map(|l| l.strip_prefix("berth:"));
    ours.filter_map(|r| Range::parse(r).ok()).take(MAX_LINES).collect()
}

/// FNV-1a of 64 bits.
fn hash(uuid: Uuid) -> u64 {
    let step = |hash: u64, b: &u8| (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
    let hash = uuid.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step);
    // Its low bits alone are not even enough.
    hash ^ (hash >> 32)
}

/// Why a domain gets no range.
#[derive(Debug, thiserror::Error)]
pub enum IdError {
    /// All are taken.
    #[error("all {0} ranges of {COUNT} ids are taken")]
    Exhausted(usize),
    /// An explicit map meets the range that was chosen for another.
    #[error("its ids {0} to {1} are those of the running domain {2}")]
    InUse(u32, u64, Uuid),
    /// What was chosen cannot be kept.
    #[error("cannot write '{}': {cause}", path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
}

#[derive(Debug, Default)]
struct Books {
    /// First id of every domain that ever got a range and is still known.
    kept: BTreeMap<Uuid, u32>,
    /// Those that run on a chosen range.
    running: HashMap<Uuid, u32>,
    /// Those that run on ranges of their own choice.
    explicit: HashMap<Uuid, Vec<Range>>,
}

/// All ranges of one daemon.
#[derive(Debug)]
pub struct IdRanges {
    path: PathBuf,
    pool: Pool,
    books: Mutex<Books>,
}

#[derive(Serialize, Deserialize)]
struct Document {
    ranges: BTreeMap<Uuid, u32>,
}

impl IdRanges {
    /// Reads what was kept. A file that is none is set aside, and named with the reason: running domains tell theirs
    /// again, and others get new ones, as nothing on disk depends on them.
    pub fn open(path: PathBuf, pool: Pool) -> (Self, Option<String>) {
        let (kept, remark) = match read(&path) {
            Ok(kept) => (kept, None),
            Err(e) => {
                let aside = path.with_extension("json.bad");
                let moved = fs::rename(&path, &aside).map_or_else(
                    |e| format!("it cannot be moved: {e}"),
                    |()| format!("set aside as '{}'", aside.display()),
                );
                (BTreeMap::new(), Some(format!("'{}' is not readable, {moved}: {e}", path.display())))
            }
        };
        let books = Mutex::new(Books { kept, ..Books::default() });
        (Self { path, pool, books }, remark)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The range of a domain that starts: the one it had, unless a document has asked for that meanwhile.
    /// `asked`: what the documents of all other domains ask for.
    pub fn take(&self, uuid: Uuid, asked: &[Range]) -> Result<Range, IdError> {
        let mut books = self.books();
        let mut taken: Vec<Range> = asked.to_vec();
        taken.extend(books.explicit.iter().filter(|(u, _)| **u != uuid).flat_map(|(_, r)| r.iter().copied()));
        let others = books.kept.iter().chain(&books.running).filter(|(u, _)| **u != uuid);
        let chosen: BTreeSet<u32> = others.map(|(_, first)| *first).collect();
        let meets = |first: u32| taken.iter().any(|r| r.meets(Range::of_domain(first)));
        let before = books.kept.get(&uuid).copied();
        if let Some(first) = before.filter(|f| self.pool.has(*f) && !chosen.contains(f) && !meets(*f)) {
            books.running.insert(uuid, first);
            return Ok(Range::of_domain(first));
        }
        taken.extend(chosen.into_iter().map(Range::of_domain));
        let first =
            self.pool.choose(uuid, &taken).ok_or_else(|| IdError::Exhausted(self.pool.starts().count()))?;
        books.kept.insert(uuid, first);
        if let Err(e) = self.write(&books.kept) {
            books.kept.remove(&uuid);
            return Err(e);
        }
        books.running.insert(uuid, first);
        Ok(Range::of_domain(first))
    }

    /// Notes that a domain starts on ranges that its document asks for. Others that were chosen and do not run make
    /// way at their next start; two documents that ask for the same get it.
    pub fn claim(&self, uuid: Uuid, ranges: &[Range]) -> Result<(), IdError> {
        let mut books = self.books();
        let others = || books.running.iter().filter(|(u, _)| **u != uuid);
        for range in ranges {
            if let Some((other, _)) = others().find(|(_, first)| range.meets(Range::of_domain(**first))) {
                return Err(IdError::InUse(range.first, range.end().saturating_sub(1), *other));
            }
        }
        books.explicit.insert(uuid, ranges.to_vec());
        Ok(())
    }

    /// A domain was found running on a chosen range.
    pub fn adopt(&self, uuid: Uuid, first: u32) -> Result<(), IdError> {
        let mut books = self.books();
        books.running.insert(uuid, first);
        if books.kept.insert(uuid, first) == Some(first) {
            return Ok(());
        }
        self.write(&books.kept)
    }

    /// A domain runs no more.
    pub fn release(&self, uuid: Uuid) {
        let mut books = self.books();
        books.running.remove(&uuid);
        books.explicit.remove(&uuid);
    }

    /// A domain is not known any more.
    pub fn forget(&self, uuid: Uuid) -> Result<(), IdError> {
        self.release(uuid);
        let mut books = self.books();
        if books.kept.remove(&uuid).is_none() {
            return Ok(());
        }
        self.write(&books.kept)
    }

    /// Forgets all others, of which nobody told the end.
    pub fn keep(&self, known: impl Fn(Uuid) -> bool) -> Result<(), IdError> {
        let mut books = self.books();
        let before = books.kept.len();
        books.kept.retain(|uuid, _| known(*uuid));
        if books.kept.len() == before { Ok(()) } else { self.write(&books.kept) }
    }

    fn write(&self, kept: &BTreeMap<Uuid, u32>) -> Result<(), IdError> {
        write(&self.path, kept).map_err(|cause| IdError::Store { path: self.path.clone(), cause })
    }
}

fn read(path: &Path) -> io::Result<BTreeMap<Uuid, u32>> {
    match files::read(path, MAX_TABLE) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        read => parse_table(&read?),
    }
}

/// Reads the text of a table. What is in it may not fit the pool, and two domains may have the same range there:
/// [`IdRanges::take`] looks for another then.
pub fn parse_table(bytes: &[u8]) -> io::Result<BTreeMap<Uuid, u32>> {
    let document: Document = serde_json::from_slice(bytes)?;
    match document.ranges.iter().find(|(_, first)| !Range::of_domain(**first).is_possible()) {
        Some((uuid, first)) => {
            let message = format!("the ids of {uuid} cannot begin at {first}");
            Err(io::Error::new(io::ErrorKind::InvalidData, message))
        }
        None => Ok(document.ranges),
    }
}

/// Whole or not at all, and on the disk when it comes back.
fn write(path: &Path, kept: &BTreeMap<Uuid, u32>) -> io::Result<()> {
    let new = path.with_extension("json.new");
    let bytes = serde_json::to_vec(&Document { ranges: kept.clone() })?;
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(flags)
        .open(&new)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_pool_is_what_both_files_give() {
        let configured = Range { first: 1 << 20, count: COUNT };
        let none = Pool::new("root:1:65536\n", "", None);
        assert_eq!(none, Pool(vec![BUILT_IN]));
        assert_eq!(Pool::new("", "", Some(configured)), Pool(vec![configured]));
        let uids = "berth:100000:131072\nberth:bad\nberth:0:99999\nberther:5:65536\nberth:900000:10\n";
        let gids = "berth:100000:65536\n";
        assert_eq!(
            Pool::new(uids, gids, Some(configured)),
            Pool(vec![Range { first: 100_000, count: COUNT }])
        );
        assert_eq!(Pool::new(uids, "berth:5000000:65536", Some(configured)), Pool(vec![configured]));
        let overlapping = "berth:100000:131072\nberth:165536:131072\nberth:100000:65536\n".repeat(40);
        assert_eq!(
            Pool::new(&overlapping, &overlapping, None).areas(),
            [Range { first: 100_000, count: 196_608 }]
        );
        for bad in ["", "5", "0:65536", "5:65535", "4294901760:65536", "x:65536", "1:1:1"] {
            assert!(Range::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_range_is_kept_over_restarts_until_it_is_forgotten() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("idmap.json");
        let pool = || Pool::new("", "", None);
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let (ranges, remark) = IdRanges::open(path.clone(), pool());
        assert_eq!(remark, None);
        let first = ranges.take(a, &[]).expect("taken");
        let (again, _) = IdRanges::open(path.clone(), pool());
        assert_eq!(again.take(a, &[]).expect("taken"), first);
        // A document asks for it: the next start gets another.
        again.release(a);
        again.claim(b, &[first]).expect("not running");
        assert!(!again.take(a, &[]).expect("another").meets(first));
        let running = again.take(a, &[]).expect("the same");
        assert!(matches!(again.claim(b, &[running]), Err(IdError::InUse(..))));
        again.forget(a).expect("forgotten");
        assert_eq!(read(&path).expect("readable").len(), 0);
        fs::write(&path, "{").expect("spoilt");
        let (spoilt, remark) = IdRanges::open(path.clone(), pool());
        assert!(remark.is_some_and(|r| r.contains("set aside")));
        spoilt.adopt(a, running.first).expect("adopted");
        assert!(!spoilt.take(b, &[]).expect("taken").meets(running));
    }

    #[test]
    fn a_pool_has_an_end() {
        let pool = Pool(vec![Range { first: 1 << 20, count: 2 * COUNT }]);
        let dir = tempfile::tempdir().expect("temporary folder");
        let (ranges, _) = IdRanges::open(dir.path().join("idmap.json"), pool);
        for n in 1..3 {
            ranges.take(Uuid::from_u128(n), &[]).expect("free");
        }
        let error = ranges.take(Uuid::from_u128(3), &[]).expect_err("full");
        assert_eq!(error.to_string(), "all 2 ranges of 65536 ids are taken");
        ranges.forget(Uuid::from_u128(1)).expect("forgotten");
        ranges.take(Uuid::from_u128(3), &[]).expect("free again");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whatever_happens_ranges_are_disjoint(
            steps in proptest::collection::vec((0_u8..5, 0_u128..12, 0_u32..16), 1..60)
        ) {
            let dir = tempfile::tempdir().expect("temporary folder");
            let path = dir.path().join("idmap.json");
            let area = Range { first: 1 << 20, count: 8 * COUNT };
            let pool = || Pool(vec![area]);
            let (mut ranges, _) = IdRanges::open(path.clone(), pool());
            // What runs, and whether its document asked for its range.
            let mut running: HashMap<Uuid, (Range, bool)> = HashMap::new();
            for (what, who, slot) in steps {
                let uuid = Uuid::from_u128(who);
                match what {
                    0 if !running.contains_key(&uuid) => {
                        if let Ok(range) = ranges.take(uuid, &[]) {
                            running.insert(uuid, (range, false));
                        }
                    }
                    1 if !running.contains_key(&uuid) => {
                        let asked = Range { first: area.first + slot * COUNT / 2, count: COUNT };
                        if ranges.claim(uuid, &[asked]).is_ok() {
                            running.insert(uuid, (asked, true));
                        }
                    }
                    2 => {
                        ranges.release(uuid);
                        running.remove(&uuid);
                    }
                    3 => {
                        ranges.forget(uuid).expect("forgotten");
                        running.remove(&uuid);
                    }
                    4 => {
                        // The daemon is started again, once in a while without its file.
                        if slot == 0 {
                            drop(fs::remove_file(&path));
                        }
                        ranges = IdRanges::open(path.clone(), pool()).0;
                        for (uuid, (range, asked)) in &running {
                            if *asked {
                                ranges.claim(*uuid, &[*range]).expect("nobody was adopted on it");
                            } else {
                                ranges.adopt(*uuid, range.first).expect("adopted");
                            }
                        }
                    }
                    _ => {}
                }
                for (a, (mine, asked)) in &running {
                    for (b, (other, too)) in &running {
                        prop_assert!(a == b || (*asked && *too) || !mine.meets(*other), "{mine:?} {other:?}");
                    }
                }
            }
        }

        #[test]
        fn no_text_makes_the_pool_panic(text in "(berth:[0-9:]{0,30}\n|.){0,20}") {
            let _ = Pool::new(&text, &text, None).choose(Uuid::from_u128(7), &[]);
        }
    }
}
