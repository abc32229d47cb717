//! /proc/swaps.

/// The text: one area of a size and use in KiB, if there is any swap. The host's areas are nobody's business inside.
pub fn text(total: u64, used: u64) -> String {
    let mut out = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_owned();
    if total > 0 {
        out.push_str(&format!("{:<40}virtual\t\t{total}\t\t{used}\t\t0\n", "none"));
    }
    out
}

#[cfg(test)]
mod test {
    #[test]
    fn there_is_swap_or_not() {
        assert_eq!(super::text(0, 0).lines().count(), 1);
        let text = super::text(4096, 12);
        let fields: Vec<&str> = text.lines().nth(1).expect("a line").split_whitespace().collect();
        assert_eq!(fields, ["none", "virtual", "4096", "12", "0"]);
    }
}
