//! Durations as people write them: a number and its unit, `300ms`, `1.5s`, `10s`, `5m`, `1h`, `2d`.
//!
//! A bare number is refused: a file that says `10` leaves the reader to guess, and a lease time
//! that is a thousand times too long looks like a working one until a site dies.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::types::Span;

/// Longest duration that a file may name: a year. Everything beyond is a slip.
const MAX: Duration = Duration::from_hours(366 * 24);

/// Units with their nanoseconds, longest first, as they are printed.
const UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
];

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a duration: {why}; write a number and a unit: 300ms, 1.5s, 10s, 5m, 1h, 2d"
)]
pub struct SpanError {
    /// The text, cut to a printable length.
    pub text: String,
    /// The first rule that it breaks.
    pub why: &'static str,
}

impl Span {
    /// Milliseconds, rounded down.
    pub fn as_millis(self) -> u64 {
        self.0.as_millis() as u64
    }
}

impl From<Duration> for Span {
    fn from(d: Duration) -> Self {
        Self(d)
    }
}

impl From<Span> for Duration {
    fn from(s: Span) -> Self {
        s.0
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let bad = |why| SpanError { text: text.chars().take(40).collect(), why };
        let text_ = text.trim();
        let digits = text_.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text_.len());
        let (number, unit) = (&text_[..digits], text_[digits..].trim_start());
        if number.is_empty() {
            return Err(bad("it does not begin with a number"));
        }
        let Some((_, nanos)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            let none = unit.is_empty();
            return Err(bad(if none { "the unit is missing" } else { "the unit is unknown" }));
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let broken = whole.is_empty() || fraction.is_empty() || fraction.contains('.');
        if broken || fraction.len() > 9 {
            return Err(bad("the number is malformed"));
        }
        let malformed = |_| bad("the number is malformed");
        let whole: u64 = whole.parse().map_err(malformed)?;
        let part: u128 = fraction.parse().map_err(|_| bad("the number is malformed"))?;
        let part = part * u128::from(*nanos) / 10u128.pow(fraction.len() as u32);
        let total = u128::from(whole) * u128::from(*nanos) + part;
        if total > MAX.as_nanos() {
            return Err(bad("it is longer than a year"));
        }
        Ok(Self(Duration::from_nanos(total as u64)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.pad("0s");
        }
        let whole = UNITS.iter().find(|(_, unit)| nanos.is_multiple_of(u128::from(*unit)));
        match whole {
            Some((name, unit)) => f.pad(&format!("{}{name}", nanos / u128::from(*unit))),
            None => f.pad(&format!("{}us", nanos / 1_000)),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration in quotes, with its unit, such as \"10s\"")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Span, E> {
                v.parse().map_err(E::custom)
            }
        }
        d.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(text: &str) -> Duration {
        text.parse::<Span>().expect(text).0
    }

    #[test]
    fn each_unit_is_read_and_printed_as_its_largest_whole_unit() {
        for (text, ms, printed) in [
            ("300ms", 300, "300ms"),
            ("1.5s", 1_500, "1500ms"),
            ("10s", 10_000, "10s"),
            ("5m", 300_000, "5m"),
            ("1h", 3_600_000, "1h"),
            ("2d", 172_800_000, "2d"),
            ("60 s", 60_000, "1m"),
            ("0s", 0, "0s"),
        ] {
            assert_eq!(span(text), Duration::from_millis(ms), "{text}");
            assert_eq!(Span(span(text)).to_string(), printed, "{text}");
        }
    }

    #[test]
    fn what_leaves_the_reader_guessing_is_refused_with_the_reason() {
        for (text, why) in [
            ("10", "unit is missing"),
            ("", "does not begin with a number"),
            ("ten s", "does not begin"),
            ("-1s", "does not begin"),
            ("1 fortnight", "unit is unknown"),
            ("1.2.3s", "malformed"),
            (".5s", "malformed"),
            ("1.s", "malformed"),
            ("99999999999999999999s", "malformed"),
            ("400d", "longer than a year"),
        ] {
            let e = text.parse::<Span>().expect_err(text).to_string();
            assert!(e.contains(why), "{text}: {e}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back_unchanged(us in 0u64..31_000_000_000_000) {
            let s = Span(Duration::from_micros(us));
            prop_assert_eq!(s.to_string().parse::<Span>().unwrap(), s);
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,30}") {
            let _ = text.parse::<Span>();
        }
    }
}
