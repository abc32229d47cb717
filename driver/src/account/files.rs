//! Files of the kernel that are opened once and read often.
//!
//! Opening one takes ten times as long as reading it again, so they stay open, as long as there are descriptors left
//! and somebody asks. Does not know what is in them.

use std::fmt::Write;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much of a file is read at first: `memory.stat` has about 4 KiB.
const USUAL: usize = 64 << 10;

/// The longest file: one line for an interface has at most 370 bytes, and there may be many.
const LONGEST: usize = 512 << 10;

/// How many files may stay open: a part of what the process may have.
#[derive(Debug)]
pub struct Allowance {
    most: usize,
    taken: AtomicUsize,
}

impl Allowance {
    /// Three quarters of the limit of this process (RLIMIT_NOFILE); the rest is for clients and controllers.
    pub fn of_this_process() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1 << 20);
        Self::new(usize::try_from(limit).unwrap_or(usize::MAX) / 4 * 3)
    }

    /// So many.
    pub fn new(most: usize) -> Self {
        Self { most, taken: AtomicUsize::new(0) }
    }

    fn take(&self) -> bool {
        let within = self.taken.fetch_add(1, Ordering::Relaxed) < self.most;
        if !within {
            self.taken.fetch_sub(1, Ordering::Relaxed);
        }
        within
    }

    fn give(&self, count: usize) {
        self.taken.fetch_sub(count, Ordering::Relaxed);
    }
}

/// Several files that stay open. Which one is which is the owner's business: they have numbers.
#[derive(Debug)]
pub struct Files {
    open: Mutex<Vec<Option<File>>>,
}

impl Files {
    /// Room for so many, none of them open.
    pub fn new(count: usize) -> Self {
        Self { open: Mutex::new((0..count).map(|_| None).collect()) }
    }

    /// What file number `number` says now; it is opened by `open` if it is not yet. None if it cannot be read: it is
    /// not there on this kernel, or what it was about has gone.
    pub fn read<'b>(
        &self,
        number: usize,
        allowance: &Allowance,
        buffer: &'b mut Buffer,
        open: impl FnOnce() -> Option<File>,
    ) -> Option<&'b str> {
        let mut all = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = all.get_mut(number)?;
        if let Some(file) = slot {
            return buffer.fill(file);
        }
        let file = open()?;
        let text = buffer.fill(&file);
        if text.is_some() && allowance.take() {
            *slot = Some(file);
        }
        text
    }

    /// Closes all of them.
    pub fn close(&self, allowance: &Allowance) {
        let mut all = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        allowance.give(all.iter_mut().filter_map(Option::take).count());
    }
}

/// Where texts are read to; one for each thread.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    /// Whether different names have to be different texts.
    exact: bool,
    shown: String,
}

impl Default for Buffer {
    fn default() -> Self {
        Self { bytes: vec![0; USUAL], exact: false, shown: String::new() }
    }
}

impl Buffer {
    /// One that shows what is no UTF-8 as `\xff`, and not as question marks that look alike.
    pub fn exact() -> Self {
        Self { exact: true, ..Self::default() }
    }

    /// The whole file from its beginning. What is no UTF-8 in it is shown as question marks: names of interfaces are
    /// the container's choice.
    fn fill(&mut self, file: &File) -> Option<&str> {
        let mut length = 0;
        loop {
            let got = file.read_at(&mut self.bytes[length..], length as u64).ok()?;
            length += got;
            // The kernel gives a short file in one piece; only what nearly fills a page may go on.
            if got == 0 || length < 3000 || length == LONGEST {
                break;
            }
            if length == self.bytes.len() {
                self.bytes.resize((length * 2).min(LONGEST), 0);
            }
        }
        if self.exact {
            self.shown.clear();
            show(&self.bytes[..length], &mut self.shown);
            return Some(&self.shown);
        }
        // Looked at once, whatever is in it: after a bad place on from there, not again from the beginning.
        let mut from = 0;
        while let Err(e) = std::str::from_utf8(&self.bytes[from..length]) {
            let at = from + e.valid_up_to();
            let bad = e.error_len().unwrap_or(length - at);
            self.bytes[at..][..bad].fill(b'?');
            from = at + bad;
        }
        std::str::from_utf8(&self.bytes[..length]).ok()
    }
}

/// Bytes that are no UTF-8 as `\xff`. Where a text has a backslash that looks like the beginning of such a thing, or of `\u{1}`,
/// that is one itself: so no two texts look the same.
fn show(bytes: &[u8], to: &mut String) {
    for chunk in bytes.utf8_chunks() {
        match chunk.valid() {
            text if text.contains('\\') => {
                to.push_str(&text.replace(r"\x", r"\x5cx").replace(r"\u", r"\x5cu"))
            }
            text => to.push_str(text),
        }
        for byte in chunk.invalid() {
            let _ = write!(to, "\\x{byte:02x}");
        }
    }
}

/// Opens a file that may not be there.
pub fn open(folder: &Path, name: &str) -> Option<File> {
    File::open(folder.join(name)).ok()
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn files_are_read_again_and_kept_open_while_there_is_room() {
        let dir = tempfile::tempdir().expect("folder");
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("written");
        let (allowance, files, mut buffer) = (Allowance::new(1), Files::new(2), Buffer::default());
        let mut read = |n: usize, name: &str| {
            files.read(n, &allowance, &mut buffer, || open(dir.path(), name)).map(str::to_owned)
        };
        write("a", "1");
        write("b", "2");
        assert_eq!(
            (read(0, "a").as_deref(), read(1, "b").as_deref(), read(1, "nosuch")),
            (Some("1"), Some("2"), None)
        );
        write("a", "3");
        // The first one is open, the second one would be too many.
        assert_eq!(read(0, "nosuch").as_deref(), Some("3"));
        assert_eq!(allowance.taken.load(Ordering::Relaxed), 1);
        files.close(&allowance);
        assert_eq!(allowance.taken.load(Ordering::Relaxed), 0);
        assert_eq!(files.read(7, &allowance, &mut buffer, || open(dir.path(), "a")), None);
    }

    #[test]
    fn long_files_are_read_whole_and_bad_text_is_replaced() {
        let dir = tempfile::tempdir().expect("folder");
        let long = "x".repeat(9000);
        std::fs::write(dir.path().join("long"), &long).expect("written");
        std::fs::write(dir.path().join("longest"), "y".repeat(LONGEST + 5)).expect("written");
        std::fs::write(dir.path().join("bad"), b"a\xff\xfeb \xe2\x82").expect("written");
        let mut buffer = Buffer::default();
        assert_eq!(buffer.fill(&open(dir.path(), "long").expect("there")), Some(long.as_str()));
        assert_eq!(buffer.fill(&open(dir.path(), "longest").expect("there")).map(str::len), Some(LONGEST));
        assert_eq!(buffer.fill(&open(dir.path(), "bad").expect("there")), Some("a??b ??"));
        let mut exact = Buffer::exact();
        for (bytes, shown) in [
            (&b"a\xff\xfeb \xe2\x82"[..], r"a\xff\xfeb \xe2\x82"),
            (br"a\xff\\xff\u{1}\y", r"a\x5cxff\\x5cxff\x5cu{1}\y"),
            (b"\\\xff", r"\\xff"),
            ("\u{e4}\u{1}".as_bytes(), "\u{e4}\u{1}"),
        ] {
            std::fs::write(dir.path().join("names"), bytes).expect("written");
            assert_eq!(exact.fill(&open(dir.path(), "names").expect("there")), Some(shown));
        }
        // The worst that fits: looked at from the beginning each time this would take minutes.
        std::fs::write(dir.path().join("worst"), vec![0xff; LONGEST]).expect("written");
        let begin = std::time::Instant::now();
        let text = buffer.fill(&open(dir.path(), "worst").expect("there")).expect("text");
        assert!(text.len() == LONGEST && text.bytes().all(|b| b == b'?'));
        assert!(begin.elapsed() < std::time::Duration::from_secs(5), "{:?}", begin.elapsed());
    }
}
