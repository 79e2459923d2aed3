//! Small words of the CIB: booleans, scores, intervals, and how names are compared.
//!
//! Everything here is total: a word that means nothing gives `None` or the documented default, never an error.

use std::cmp::Ordering;

/// The score that stands for "must" (and, negated, for "must not").
pub(crate) const INFINITY: i32 = 1_000_000;

/// Adds two scores: `-INFINITY` dominates, then `INFINITY`, else the sum saturates.
pub(crate) fn add_scores(a: i32, b: i32) -> i32 {
    if a <= -INFINITY || b <= -INFINITY {
        -INFINITY
    } else if a >= INFINITY || b >= INFINITY {
        INFINITY
    } else {
        (a + b).clamp(-INFINITY, INFINITY)
    }
}

/// A score as it is written: a number, `INFINITY`, `+INFINITY`, `-INFINITY`, or a health colour.
pub(crate) fn score(word: &str) -> Option<i32> {
    let word = word.trim();
    let bare = word.strip_prefix(['+', '-']).unwrap_or(word);
    if bare.eq_ignore_ascii_case("INFINITY") {
        return Some(if word.starts_with('-') { -INFINITY } else { INFINITY });
    }
    let number = leading_integer(word)?;
    Some(number.clamp(i64::from(-INFINITY), i64::from(INFINITY)) as i32)
}

/// A score as the tools print it.
pub(crate) fn show_score(score: i32) -> String {
    if score >= INFINITY {
        "INFINITY".to_owned()
    } else if score <= -INFINITY {
        "-INFINITY".to_owned()
    } else {
        score.to_string()
    }
}

/// The integer at the start of a word, as `strtoll` reads it.
pub(crate) fn leading_integer(word: &str) -> Option<i64> {
    let word = word.trim_start();
    let (sign, digits) = match word.as_bytes().first()? {
        b'-' => (-1, &word[1..]),
        b'+' => (1, &word[1..]),
        _ => (1, word),
    };
    let end = digits.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(digits.len());
    if end == 0 {
        return None;
    }
    Some(sign * digits[..end].parse::<i64>().unwrap_or(i64::MAX))
}

/// A boolean as Pacemaker reads it.
pub(crate) fn boolean(word: &str) -> Option<bool> {
    let is = |list: &[&str]| list.iter().any(|w| word.eq_ignore_ascii_case(w));
    if is(&["true", "on", "yes", "y", "1"]) {
        Some(true)
    } else if is(&["false", "off", "no", "n", "0"]) {
        Some(false)
    } else {
        None
    }
}

/// True exactly for the words that mean true.
pub(crate) fn is_true(word: Option<&str>) -> bool {
    word.and_then(boolean) == Some(true)
}

/// A duration in milliseconds: `10`, `10s`, `500ms`, `2min`, `1h`, or ISO 8601 (`PT5M`).
pub(crate) fn milliseconds(word: &str) -> Option<u64> {
    let word = word.trim();
    if word.starts_with('P') {
        return super::unpack::time::duration_seconds(word).map(|s| s.max(0) as u64 * 1000);
    }
    let number = leading_integer(word)?;
    let unit = word.trim_start_matches(['+', '-']).trim_start_matches(|c: char| c.is_ascii_digit());
    let unit = unit.trim().to_ascii_lowercase();
    let scale = match unit.as_str() {
        "" | "s" | "sec" | "seconds" => 1_000.0,
        "ms" | "msec" => 1.0,
        "us" | "usec" => 0.001,
        "m" | "min" | "minutes" => 60_000.0,
        "h" | "hr" | "hours" => 3_600_000.0,
        _ => return None,
    };
    (number >= 0).then_some((number as f64 * scale) as u64)
}

/// Compares names so that numbers inside of them count as numbers, letters without case.
pub(crate) fn natural(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    loop {
        let order = match (left.first(), right.first()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(one), Some(other)) if one.is_ascii_digit() && other.is_ascii_digit() => {
                let (number, rest) = split_number(left);
                let (number2, rest2) = split_number(right);
                (left, right) = (rest, rest2);
                number.len().cmp(&number2.len()).then_with(|| number.cmp(number2))
            }
            (Some(one), Some(other)) => {
                let order = one.to_ascii_lowercase().cmp(&other.to_ascii_lowercase());
                (left, right) = (&left[1..], &right[1..]);
                order
            }
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// The digits at the start without leading zeros, and what follows them.
fn split_number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let start = text[..end].iter().position(|b| *b != b'0').unwrap_or(end);
    (&text[start..end], &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minus_infinity_wins_over_everything() {
        assert_eq!(add_scores(-INFINITY, INFINITY), -INFINITY);
        assert_eq!(add_scores(INFINITY, -5), INFINITY);
        assert_eq!(add_scores(999_999, 5), INFINITY);
    }

    #[test]
    fn intervals_have_units() {
        assert_eq!(milliseconds("10"), Some(10_000));
        assert_eq!(milliseconds("10s"), Some(10_000));
        assert_eq!(milliseconds("500ms"), Some(500));
        assert_eq!(milliseconds("2min"), Some(120_000));
        assert_eq!(milliseconds("PT5M"), Some(300_000));
        assert_eq!(milliseconds("soon"), None);
    }

    #[test]
    fn names_sort_with_their_numbers() {
        let mut names = vec!["node10", "node2", "Node1"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["Node1", "node2", "node10"]);
    }
}
