//! Points in time as text.
//!
//! Does not know what happened then.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A time in microseconds as virsh stamps events: UTC with milliseconds.
pub fn utc(micros: i64) -> String {
    format(micros, &TimeZone::UTC, "%Y-%m-%d %H:%M:%S.%3f+0000")
}

/// Now, in the same form.
pub fn utc_now() -> String {
    utc(Timestamp::now().as_microsecond())
}

/// A time in microseconds for people: local, with its offset.
pub fn local(micros: i64) -> String {
    format(micros, &TimeZone::system(), "%Y-%m-%d %H:%M:%S %z")
}

/// The same without the offset.
pub fn plain_local(micros: i64) -> String {
    format(micros, &TimeZone::system(), "%Y-%m-%d %H:%M:%S")
}

fn format(micros: i64, zone: &TimeZone, form: &str) -> String {
    match Timestamp::from_microsecond(micros) {
        Ok(time) => time.to_zoned(zone.clone()).strftime(form).to_string(),
        Err(_) => micros.to_string(),
    }
}

#[cfg(test)]
mod test {
    #[test]
    fn stamps() {
        assert_eq!(super::utc(1_700_000_000_123_456), "2023-11-14 22:13:20.123+0000");
    }
}
