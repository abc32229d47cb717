//! The container's processors: some of the host's, with numbers of their own from 0 on.
//!
//! Pure. Sets come in the kernel's two forms, lists (`0-3,8`) and masks (`1,0000000f`); see cpuset(7), "FORMATS". Does not
//! know where they are read.

/// The highest number that is believed (NR_CPUS is 8192 at most).
const MOST: u32 = 8192;

/// Reads a list; nothing of it that is no number.
pub fn parse_list(text: &str) -> Vec<u32> {
    let mut all = Vec::new();
    for part in text.trim().split(',') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(low), Ok(high)) = (low.trim().parse::<u32>(), high.trim().parse::<u32>()) {
            all.extend(low..=high.min(MOST));
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// Writes a list.
pub fn show_list(set: &[u32]) -> String {
    let mut parts: Vec<(u32, u32)> = Vec::new();
    for &cpu in set {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => parts.push((cpu, cpu)),
        }
    }
    let shown = parts.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") });
    shown.collect::<Vec<_>>().join(",")
}

/// Reads a mask.
pub fn parse_mask(text: &str) -> Vec<u32> {
    let mut all = Vec::new();
    let words =
        text.trim().rsplit(',').take(MOST as usize / 32).filter_map(|w| u32::from_str_radix(w, 16).ok());
    for (index, word) in words.enumerate() {
        all.extend((0..32).filter(|bit| word & (1 << bit) != 0).map(|bit| index as u32 * 32 + bit));
    }
    all
}

/// Writes a mask of a machine with `count` processors.
pub fn show_mask(set: &[u32], count: usize) -> String {
    let mut words = vec![0_u32; count.div_ceil(32).max(1)];
    for cpu in set {
        if let Some(word) = words.get_mut(*cpu as usize / 32) {
            *word |= 1 << (cpu % 32);
        }
    }
    // The first group has as many digits as it needs for the number of processors, all others have eight.
    let first = (count - (words.len() - 1) * 32).div_ceil(4).max(1);
    let shown = words.iter().rev().enumerate();
    shown
        .map(|(i, w)| format!("{w:0width$x}", width = if i == 0 { first } else { 8 }))
        .collect::<Vec<_>>()
        .join(",")
}

/// The processors of the container: the host's number of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpus(Vec<u32>);

impl Cpus {
    /// The first `most` of those that it may run on; one in any case.
    pub fn new(mut allowed: Vec<u32>, most: Option<usize>) -> Self {
        if allowed.is_empty() {
            allowed.push(0);
        }
        allowed.truncate(most.unwrap_or(usize::MAX).max(1));
        Self(allowed)
    }

    /// The host's numbers.
    pub fn on_host(&self) -> &[u32] {
        &self.0
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The host's number of one.
    pub fn host_number(&self, inside: usize) -> Option<u32> {
        self.0.get(inside).copied()
    }

    /// The number inside of one of the host's.
    pub fn number(&self, host: u32) -> Option<u32> {
        self.0.iter().position(|c| *c == host).map(|i| i as u32)
    }

    /// All of them as a list.
    pub fn show(&self) -> String {
        match self.count() {
            1 => "0".to_owned(),
            n => format!("0-{}", n - 1),
        }
    }

    fn translate(&self, set: &[u32]) -> Vec<u32> {
        let mut inside: Vec<u32> = set.iter().filter_map(|c| self.number(*c)).collect();
        inside.sort_unstable();
        inside
    }

    /// A list of the host's, with the container's numbers.
    pub fn translate_list(&self, text: &str) -> String {
        show_list(&self.translate(&parse_list(text)))
    }

    /// The same for a mask.
    pub fn translate_mask(&self, text: &str) -> String {
        show_mask(&self.translate(&parse_mask(text)), self.count())
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn lists_and_masks_are_read_and_written() {
        for text in ["0", "0-3", "0-1,3,8-9", ""] {
            assert_eq!(show_list(&parse_list(text)), text);
        }
        assert_eq!(parse_list("0-4294967295").len(), MOST as usize + 1);
        assert_eq!(parse_mask("1,0000000f\n"), [0, 1, 2, 3, 32]);
        assert_eq!(show_mask(&[0, 1, 2, 3, 32], 34), "1,0000000f");
        assert_eq!(
            (show_mask(&[1], 2), show_mask(&[0], 8), show_mask(&[], 1)),
            ("2".into(), "01".into(), "0".into())
        );
    }

    #[test]
    fn numbers_inside_begin_at_0() {
        let cpus = Cpus::new(vec![2, 5, 7], Some(2));
        assert_eq!((cpus.on_host(), cpus.show().as_str()), (&[2, 5][..], "0-1"));
        assert_eq!((cpus.number(5), cpus.number(7), cpus.host_number(0)), (Some(1), None, Some(2)));
        assert_eq!(cpus.translate_list("0-5\n"), "0-1");
        assert_eq!(cpus.translate_mask("20"), "2");
        assert_eq!(Cpus::new(Vec::new(), None).show(), "0");
        assert_eq!(Cpus::new(vec![3, 4], Some(0)).show(), "0");
    }
}
