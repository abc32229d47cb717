//! What open files say: made at the first read, and the same until it is read from its beginning again.
//!
//! There are only so many of them, however many files are open: who opens more gets a text that is made anew for each
//! part of it. Does not know what is in them.

use std::collections::VecDeque;
use std::rc::Rc;

/// The most texts.
const MOST: usize = 128;

/// The most bytes of all of them. One alone may be longer.
const MOST_BYTES: usize = 1 << 20;

/// Texts by the number of the open file, oldest first.
#[derive(Debug, Default)]
pub struct Snapshots {
    texts: VecDeque<(u64, Rc<str>)>,
    bytes: usize,
}

impl Snapshots {
    /// The text of an open file.
    pub fn get(&self, handle: u64) -> Option<Rc<str>> {
        self.texts.iter().rev().find(|(h, _)| *h == handle).map(|(_, text)| text.clone())
    }

    /// Keeps a text.
    pub fn put(&mut self, handle: u64, text: &Rc<str>) {
        self.remove(handle);
        self.bytes += text.len();
        self.texts.push_back((handle, text.clone()));
        while self.texts.len() > MOST || (self.bytes > MOST_BYTES && self.texts.len() > 1) {
            if let Some((_, old)) = self.texts.pop_front() {
                self.bytes -= old.len();
            }
        }
    }

    /// Drops the text of a file that is closed.
    pub fn remove(&mut self, handle: u64) {
        if let Some(at) = self.texts.iter().position(|(h, _)| *h == handle)
            && let Some((_, old)) = self.texts.remove(at)
        {
            self.bytes -= old.len();
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn there_are_only_so_many() {
        let mut all = Snapshots::default();
        for handle in 0..10_000 {
            all.put(handle, &"text".into());
        }
        assert_eq!((all.texts.len(), all.bytes), (MOST, 4 * MOST));
        assert_eq!((all.get(0), all.get(9_999).as_deref()), (None, Some("text")));
        all.remove(9_999);
        assert_eq!((all.get(9_999), all.bytes), (None, 4 * (MOST - 1)));
        let long: Rc<str> = "x".repeat(MOST_BYTES + 1).into();
        all.put(1, &long);
        assert_eq!((all.texts.len(), all.bytes), (1, MOST_BYTES + 1));
        all.put(1, &"short".into());
        assert_eq!(all.bytes, 5);
    }
}
