//! /proc/uptime.

/// The text: both in hundredths of a second.
pub fn text(up: u64, idle: u64) -> String {
    format!("{}.{:02} {}.{:02}\n", up / 100, up % 100, idle / 100, idle % 100)
}

#[cfg(test)]
mod test {
    #[test]
    fn seconds_have_two_digits_behind_the_point() {
        assert_eq!(super::text(123_405, 7), "1234.05 0.07\n");
    }
}
