//! Times and texts as people read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The text without anything that could steer a terminal. It comes from peers, files and handlers.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' {
            out.push(' ');
        } else if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// A duration in the unit that fits it: "12 ms", "1.5 s", "3 min", "2 h", "5 days".
pub(crate) fn span(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0 => format!("{} ms", d.as_millis()),
        1..10 => format!("{:.1} s", d.as_secs_f64()),
        10..120 => format!("{s} s"),
        120..7_200 => format!("{} min", s / 60),
        7_200..172_800 => format!("{} h", s / 3_600),
        _ => format!("{} days", s / 86_400),
    }
}

/// Milliseconds likewise.
pub(crate) fn ms(ms: u64) -> String {
    span(Duration::from_millis(ms))
}

/// A moment in UTC, to the second.
pub(crate) fn utc(t: SystemTime) -> String {
    let seconds = t.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    match i64::try_from(seconds).map(OffsetDateTime::from_unix_timestamp) {
        Ok(Ok(t)) => stamp(t),
        _ => "unknown".to_owned(),
    }
}

/// RFC 3339 with what it is from here: "2026-11-22 14:53:07Z (3 min ago)".
pub(crate) fn when(text: &str, now: SystemTime) -> String {
    let Ok(t) = OffsetDateTime::parse(text, &Rfc3339) else { return plain(text) };
    let t = t.to_offset(time::UtcOffset::UTC);
    let now = OffsetDateTime::from(now);
    let apart = (now - t).unsigned_abs();
    let relative = match apart {
        a if a < Duration::from_secs(1) => "now".to_owned(),
        a if t <= now => format!("{} ago", span(a)),
        a => format!("in {}", span(a)),
    };
    format!("{} ({relative})", stamp(t))
}

/// A moment with what it is from here.
pub(crate) fn moment(t: SystemTime, now: SystemTime) -> String {
    let relative = match (t.duration_since(now), now.duration_since(t)) {
        (Ok(ahead), _) => format!("in {}", span(ahead)),
        (_, Ok(ago)) => format!("{} ago", span(ago)),
        _ => String::new(),
    };
    format!("{} ({relative})", utc(t))
}

fn stamp(t: OffsetDateTime) -> String {
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}Z",
        t.year(),
        u8::from(t.month()),
        t.day(),
        t.hour(),
        t.minute(),
        t.second()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_shown_in_the_unit_that_fits() {
        for (ms_, text) in [
            (12, "12 ms"),
            (1_500, "1.5 s"),
            (45_000, "45 s"),
            (180_000, "3 min"),
            (7_200_000, "2 h"),
            (432_000_000, "5 days"),
        ] {
            assert_eq!(ms(ms_), text);
        }
    }

    #[test]
    fn a_moment_is_in_utc_with_its_distance_from_now() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        assert_eq!(utc(now), "2001-09-09 01:46:40Z");
        let text = "2001-09-09T03:43:40.25+02:00";
        assert_eq!(when(text, now), "2001-09-09 01:43:40Z (2 min ago)");
        assert_eq!(when("2001-09-09T01:46:40Z", now), "2001-09-09 01:46:40Z (now)");
        assert_eq!(when("2001-09-09T01:46:45Z", now), "2001-09-09 01:46:45Z (in 5.0 s)");
        assert_eq!(when("some day", now), "some day");
        assert_eq!(moment(now + Duration::from_secs(30), now), "2001-09-09 01:47:10Z (in 30 s)");
    }

    #[test]
    fn control_characters_are_spelt_out() {
        assert_eq!(plain("a\x1b[2Jb\nc\td"), "a\\u{1b}[2Jb c\\td");
    }
}
