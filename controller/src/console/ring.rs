//! The last 64 KiB that a console printed, addressed by the number of the byte since the start.
//!
//! This module does not know who reads.

/// How much is kept.
pub const SIZE: usize = 64 * 1024;

/// The ring. It takes no memory before the first byte.
#[derive(Debug, Default)]
pub struct Ring {
    buffer: Box<[u8]>,
    head: u64,
}

impl Ring {
    /// Number of the next byte, which is how many there were.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Number of the oldest byte that is still there.
    pub fn tail(&self) -> u64 {
        self.head.saturating_sub(SIZE as u64)
    }

    /// Room for the next bytes, in one piece of at most `most`; what was there goes with [`Ring::advance`].
    pub fn spare(&mut self, most: usize) -> &mut [u8] {
        if self.buffer.is_empty() {
            self.buffer = vec![0; SIZE].into_boxed_slice();
        }
        let at = (self.head % SIZE as u64) as usize;
        let end = SIZE.min(at + most);
        &mut self.buffer[at..end]
    }

    /// The first `n` bytes of what [`Ring::spare`] gave are filled.
    pub fn advance(&mut self, n: usize) {
        self.head += n as u64;
    }

    /// The bytes from number `from` on, as far as they are in one piece. Empty at the head and for what is gone.
    pub fn since(&self, from: u64) -> &[u8] {
        if from < self.tail() || from >= self.head {
            return &[];
        }
        let at = (from % SIZE as u64) as usize;
        let length = (self.head - from) as usize;
        &self.buffer[at..SIZE.min(at + length)]
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    fn put(ring: &mut Ring, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let spare = ring.spare(bytes.len());
            let n = spare.len();
            spare.copy_from_slice(&bytes[..n]);
            ring.advance(n);
            bytes = &bytes[n..];
        }
    }

    fn all_since(ring: &Ring, mut from: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while from < ring.head() {
            let part = ring.since(from);
            out.extend_from_slice(part);
            from += part.len() as u64;
        }
        out
    }

    #[test]
    fn an_empty_ring_has_no_memory() {
        let ring = Ring::default();
        assert!(ring.buffer.is_empty());
        assert_eq!(ring.since(0), b"");
    }

    proptest! {
        #[test]
        fn the_last_bytes_come_back(sizes in proptest::collection::vec(0_usize..40_000, 0..12)) {
            let mut ring = Ring::default();
            let mut model = Vec::new();
            for (i, size) in sizes.into_iter().enumerate() {
                let bytes: Vec<u8> = (0..size).map(|n| (n * 7 + i) as u8).collect();
                put(&mut ring, &bytes);
                model.extend_from_slice(&bytes);
                prop_assert_eq!(ring.head(), model.len() as u64);
                prop_assert_eq!(all_since(&ring, ring.tail()), &model[ring.tail() as usize..]);
            }
        }
    }
}
