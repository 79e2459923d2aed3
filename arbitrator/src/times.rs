//! Times for people.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// RFC 3339, UTC, whole seconds.
pub(crate) fn utc(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    let whole = at.replace_nanosecond(0).unwrap_or(at);
    whole.format(&Rfc3339).unwrap_or_else(|_| "unknown time".to_owned())
}

/// The same, fit for a file name.
pub(crate) fn stamp(at: SystemTime) -> String {
    utc(at).replace([':', '-'], "")
}

/// A time span in the one unit that matters.
pub(crate) fn span(d: Duration) -> String {
    match d.as_secs() {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7_200 => format!("{} min", s / 60),
        s @ 7_200..172_800 => format!("{} h", s / 3_600),
        s => format!("{} d", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn times_are_utc_and_spans_have_one_unit() {
        let at = UNIX_EPOCH + Duration::from_millis(86_400_500);
        assert_eq!(utc(at), "1970-01-02T00:00:00Z");
        assert_eq!(stamp(at), "19700102T000000Z");
        assert_eq!(span(Duration::from_secs(119)), "119 s");
        assert_eq!(span(Duration::from_secs(7_199)), "119 min");
        assert_eq!(span(Duration::from_hours(90 * 24)), "90 d");
    }
}
