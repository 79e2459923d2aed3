//! Values as Pacemaker reads them in attributes: scores, booleans, durations.
//!
//! Each function says `None` for what is no such value; what then counts (a default, an error) is for
//! the caller to say, because it differs from place to place.

use crate::time::Span;

/// The score that no sum exceeds.
pub const INFINITY: i32 = 1_000_000;

/// A score: `INFINITY` with or without a sign, or an integer, which is cut to ±[`INFINITY`].
pub fn score(text: &str) -> Option<i32> {
    match text {
        "INFINITY" | "+INFINITY" => Some(INFINITY),
        "-INFINITY" => Some(-INFINITY),
        _ => {
            let number = leading_integer(text)?;
            Some(number.clamp(i64::from(-INFINITY), i64::from(INFINITY)) as i32)
        }
    }
}

/// Adds scores: -INFINITY wins over everything, then +INFINITY; others saturate.
pub fn add_scores(a: i32, b: i32) -> i32 {
    if a <= -INFINITY || b <= -INFINITY {
        -INFINITY
    } else if a >= INFINITY || b >= INFINITY {
        INFINITY
    } else {
        (a + b).clamp(-INFINITY, INFINITY)
    }
}

/// A score as the tools print it.
pub fn show_score(score: i32) -> String {
    match score {
        INFINITY.. => "INFINITY".to_owned(),
        ..=-1_000_000 => "-INFINITY".to_owned(),
        finite => finite.to_string(),
    }
}

/// Whether there is a value and it means true.
pub fn is_true(text: Option<&str>) -> bool {
    text.and_then(boolean) == Some(true)
}

/// A boolean in one of the spellings that Pacemaker takes, in any case.
pub fn boolean(text: &str) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(&["true", "on", "yes", "y", "1"]) {
        Some(true)
    } else if is(&["false", "off", "no", "n", "0"]) {
        Some(false)
    } else {
        None
    }
}

/// A duration in milliseconds: "10s", "1min", "2h", "500ms", "10" (seconds) or "PT5M".
///
/// A fraction is read over, and so is what follows the unit. A result is at most `u32::MAX`, because
/// Pacemaker keeps intervals in 32 bits. Days and longer exist only in the ISO form; a month counts
/// as the first of 1970 and a year as 1970 itself.
pub fn duration_ms(text: &str) -> Option<u64> {
    let text = text.trim_start();
    let limit = |ms: u64| ms.min(u64::from(u32::MAX));
    if text.starts_with('P') {
        let seconds = Span::parse(text)?.nominal_seconds();
        return u64::try_from(seconds).ok().map(|seconds| limit(seconds.saturating_mul(1000)));
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return None;
    }
    // More digits than fit: more than the limit.
    let number: u64 = text[..digits].parse().unwrap_or(u64::MAX);
    let rest = &text[digits..];
    let rest = rest
        .strip_prefix('.')
        .map_or(rest, |rest| rest.trim_start_matches(|digit: char| digit.is_ascii_digit()));
    let unit = rest.trim_start().to_ascii_lowercase();
    let ms = match unit.as_str() {
        "" => number.saturating_mul(1000),
        unit if unit.starts_with("ms") => number,
        unit if unit.starts_with("us") => number / 1000,
        unit if unit.starts_with('s') => number.saturating_mul(1000),
        unit if unit.starts_with('m') => number.saturating_mul(60_000),
        unit if unit.starts_with('h') => number.saturating_mul(3_600_000),
        _ => return None,
    };
    Some(limit(ms))
}

/// The integer that a text begins with, after blanks; what follows it does not matter.
pub fn leading_integer(text: &str) -> Option<i64> {
    let text = text.trim_start();
    let sign = usize::from(text.starts_with(['-', '+']));
    let digits = text[sign..].bytes().take_while(u8::is_ascii_digit).count();
    text[..sign + digits].parse().ok()
}

/// The floating-point number that a text begins with, after blanks.
pub fn leading_number(text: &str) -> Option<f64> {
    let text = text.trim_start();
    let sign = usize::from(text.starts_with(['-', '+']));
    let rest = &text[sign..];
    let lower = rest.to_ascii_lowercase();
    let negative = text.starts_with('-');
    if lower.starts_with("inf") {
        return Some(if negative { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    if let Some(hex) = lower.strip_prefix("0x") {
        let digits = hex.bytes().take_while(u8::is_ascii_hexdigit).count();
        let value = u64::from_str_radix(&hex[..digits], 16).ok()? as f64;
        return Some(if negative { -value } else { value });
    }
    let bytes = rest.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let whole = digits(0);
    let mut end = whole;
    if bytes.get(end) == Some(&b'.') {
        let fraction = digits(end + 1);
        if whole + fraction == 0 {
            return None;
        }
        end += 1 + fraction;
    }
    if end == 0 {
        return None;
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        let signed = usize::from(matches!(bytes.get(end + 1), Some(b'-' | b'+')));
        let exponent = digits((end + 1 + signed).min(bytes.len()));
        if exponent > 0 {
            end += 1 + signed + exponent;
        }
    }
    text[..sign + end].parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_cut_and_infinity_wins() {
        assert_eq!(score("INFINITY"), Some(1_000_000));
        assert_eq!(score("-99999999999"), Some(-INFINITY));
        assert_eq!(score("+5"), Some(5));
        assert_eq!(score("x"), None);
        assert_eq!(add_scores(INFINITY, -INFINITY), -INFINITY);
        assert_eq!(add_scores(INFINITY, -5), INFINITY);
        assert_eq!(add_scores(999_999, 5), INFINITY);
        assert_eq!(add_scores(3, -5), -2);
        assert_eq!(show_score(INFINITY), "INFINITY");
        assert_eq!(show_score(-INFINITY), "-INFINITY");
        assert_eq!(show_score(-7), "-7");
    }

    #[test]
    fn durations_have_units_and_a_limit() {
        let cases = [
            ("10", 10_000),
            ("10 sec", 10_000),
            ("1M", 60_000),
            ("1min", 60_000),
            ("2h", 7_200_000),
            ("1500us", 1),
            ("1500msec", 1500),
            ("1.5s", 1000),
            ("PT5M", 300_000),
            ("P1W", 604_800_000),
            ("99999999999999999999", 4_294_967_295),
        ];
        for (text, ms) in cases {
            assert_eq!(duration_ms(text), Some(ms), "{text}");
        }
        for text in ["", "abc", "-5s", "+5", "1d", "0x10", "P", "pt5m"] {
            assert_eq!(duration_ms(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_read_as_far_as_they_go() {
        assert_eq!(leading_integer(" 10x"), Some(10));
        assert_eq!(leading_integer("x"), None);
        assert_eq!(leading_number("1.5.2"), Some(1.5));
        assert_eq!(leading_number("1e1"), Some(10.0));
        assert_eq!(leading_number("1e"), Some(1.0));
        assert_eq!(leading_number("0x10"), Some(16.0));
        assert_eq!(leading_number(".5"), Some(0.5));
        assert_eq!(leading_number("."), None);
        assert_eq!(leading_number("1e400"), None);
        assert_eq!(boolean("YES"), Some(true));
        assert_eq!(boolean("maybe"), None);
    }
}
