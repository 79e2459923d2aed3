//! Where in the file something is wrong, and what was probably meant.

/// A place in a text, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// The place of a byte of the text.
pub(super) fn place_of(text: &str, at: usize) -> Place {
    let before = text.get(..at.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |n| n + 1);
    Place { line, column: before[start..].chars().count() + 1 }
}

/// The table header above a line, as written (`[[ticket]]`, `[guard]`); nothing at the top.
pub(super) fn table_above(text: &str, line: usize) -> Option<&str> {
    let lines: Vec<&str> = text.lines().take(line.saturating_sub(1)).collect();
    lines.into_iter().rev().find_map(header)
}

fn header(line: &str) -> Option<&str> {
    let line = line.split('#').next().unwrap_or(line).trim();
    let inner = line.strip_prefix('[')?.strip_suffix(']')?;
    let inner = inner.strip_prefix('[').and_then(|i| i.strip_suffix(']')).unwrap_or(inner).trim();
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (!inner.is_empty() && inner.chars().all(bare)).then_some(line)
}

/// The allowed word that is nearest to what was written, if one is near enough to be meant: the
/// same beginning ("prefered"), or few letters off.
pub(super) fn nearest<'a>(written: &str, allowed: &[&'a str]) -> Option<&'a str> {
    let best = allowed
        .iter()
        .map(|a| (strsim::jaro_winkler(written, &a.replace('_', "-")), *a))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(score, _)| *score >= 0.75).map(|(_, word)| word)
}

/// An unknown key or word in serde's message: what was written, and what would be allowed.
pub(super) fn unknown(message: &str) -> Option<(&'static str, String, Vec<&str>)> {
    let (kind, rest) = message
        .strip_prefix("unknown field `")
        .map(|r| ("unknown key", r))
        .or_else(|| message.strip_prefix("unknown variant `").map(|r| ("unknown word", r)))?;
    let (written, rest) = rest.split_once('`')?;
    let allowed = rest.split('`').skip(1).step_by(2).collect();
    Some((kind, written.to_owned(), allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_counted_in_lines_and_characters_from_one() {
        let text = "a = 1\nü = 2\n";
        assert_eq!(place_of(text, 0), Place { line: 1, column: 1 });
        assert_eq!(place_of(text, 6), Place { line: 2, column: 1 });
        assert_eq!(place_of(text, 9), Place { line: 2, column: 3 });
        assert_eq!(place_of(text, 999), Place { line: 3, column: 1 });
    }

    #[test]
    fn the_table_above_is_the_last_header_and_no_array_of_words() {
        let text = "x = 1\n[[ticket]] # the web\nprefer = [\n  \"a\"\n]\nmode = 2\n[guard]\n";
        assert_eq!(table_above(text, 1), None);
        assert_eq!(table_above(text, 6), Some("[[ticket]]"));
        assert_eq!(table_above(text, 8), Some("[guard]"));
    }

    #[test]
    fn a_slip_finds_its_word_and_nonsense_finds_none() {
        let allowed = ["name", "mode", "prefer", "one-move-per"];
        assert_eq!(nearest("prefered", &allowed), Some("prefer"));
        assert_eq!(nearest("one_move_per", &allowed), Some("one-move-per"));
        assert_eq!(nearest("nmae", &allowed), Some("name"));
        assert_eq!(nearest("zzz", &allowed), None);
    }
}
