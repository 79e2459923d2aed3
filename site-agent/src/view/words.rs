//! Times and durations as an operator reads them.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// RFC 3339 in UTC, whole milliseconds, from milliseconds since 1970; empty for 0 (never).
pub(crate) fn utc(wall_ms: u64) -> String {
    if wall_ms == 0 {
        return String::new();
    }
    let nanos = i128::from(wall_ms) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(|t| t.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{wall_ms} ms since 1970"))
}

/// A duration with two significant units at the most: "0.35 s", "12 s", "3 min", "1 h 5 min".
pub(crate) fn about(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0 => format!("{} ms", d.as_millis()),
        1..=9 => format!("{:.1} s", d.as_secs_f64()),
        10..=119 => format!("{s} s"),
        120..=3_599 => format!("{} min", s / 60),
        3_600..=172_799 if s % 3_600 < 60 => format!("{} h", s / 3_600),
        3_600..=172_799 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        _ => format!("{} days", s / 86_400),
    }
}

/// Milliseconds of a duration as a whole number.
pub(crate) fn ms(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_and_never_is_empty() {
        assert_eq!(utc(0), "");
        assert_eq!(utc(1_700_000_000_250), "2023-11-14T22:13:20.25Z");
    }

    #[test]
    fn durations_are_rounded_for_reading() {
        let s = Duration::from_secs;
        for (d, text) in [
            (Duration::from_millis(350), "350 ms"),
            (Duration::from_millis(1_500), "1.5 s"),
            (s(42), "42 s"),
            (s(600), "10 min"),
            (s(3_600), "1 h"),
            (s(3_900), "1 h 5 min"),
            (s(200_000), "2 days"),
        ] {
            assert_eq!(about(d), text);
        }
    }
}
