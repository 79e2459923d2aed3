//! Aligned tables. Columns that nobody filled are left out; colour never changes the width.

use crate::words::plain;

/// The colour of a cell: a hint for the eye, never the only carrier of a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    Plain,
    Good,
    Warn,
    Bad,
}

impl Paint {
    fn code(self) -> Option<&'static str> {
        match self {
            Paint::Plain => None,
            Paint::Good => Some("32"),
            Paint::Warn => Some("33"),
            Paint::Bad => Some("31"),
        }
    }

    /// The colour of a ticket's state.
    pub(crate) fn of_state(state: &str) -> Self {
        match state {
            "held" => Paint::Good,
            "free" | "hold" | "handover" | "stopping" => Paint::Plain,
            "suspect" => Paint::Warn,
            _ => Paint::Bad,
        }
    }

    /// The colour of a verdict.
    pub(crate) fn of_verdict(verdict: &str) -> Self {
        match verdict {
            "ok" => Paint::Good,
            "degraded" => Paint::Warn,
            _ => Paint::Bad,
        }
    }

    /// The text in this colour.
    pub(crate) fn put(self, text: &str, colour: bool) -> String {
        match self.code().filter(|_| colour) {
            Some(code) => format!("\x1b[{code}m{text}\x1b[0m"),
            None => text.to_owned(),
        }
    }
}

/// One cell.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    paint: Paint,
}

impl Cell {
    /// A cell in colour.
    pub(crate) fn painted(text: &str, paint: Paint) -> Self {
        Self { text: plain(text), paint }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::painted(text, Paint::Plain)
    }
}

impl From<&String> for Cell {
    fn from(text: &String) -> Self {
        Self::painted(text, Paint::Plain)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::painted(&text, Paint::Plain)
    }
}

impl<T: ToString> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or_else(|| Self::from(""), |v| Self::from(v.to_string()))
    }
}

/// Rows under a heading.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; what is missing at its end is empty.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// The table as text; empty if it has no rows.
    pub(crate) fn text(&self, colour: bool) -> String {
        let cell =
            |row: &'_ [Cell], i: usize| row.get(i).map_or("", |c| c.text.as_str()).to_owned();
        let used: Vec<usize> = (0..self.head.len())
            .filter(|&i| self.rows.iter().any(|r| !cell(r, i).is_empty()))
            .collect();
        if used.is_empty() {
            return String::new();
        }
        let width = |i: usize| {
            let cells = self.rows.iter().map(|r| cell(r, i).chars().count());
            cells.max().unwrap_or(0).max(self.head[i].chars().count())
        };
        let widths: Vec<usize> = used.iter().map(|&i| width(i)).collect();
        let mut out = String::new();
        let head: Vec<Cell> = self.head.iter().map(|h| Cell::from(*h)).collect();
        for row in std::iter::once(&head).chain(&self.rows) {
            let mut line = String::new();
            for (&i, width) in used.iter().zip(&widths) {
                let (text, paint) =
                    row.get(i).map_or(("", Paint::Plain), |c| (c.text.as_str(), c.paint));
                let text = if text.is_empty() { "-" } else { text };
                line.push_str(&paint.put(text, colour));
                line.extend(std::iter::repeat_n(' ', width - text.chars().count() + 2));
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut t = Table::new(&["NAME", "STATE", "NOTE", "TERM"]);
        t.row(vec!["web".into(), Cell::painted("held", Paint::Good), "".into(), Some(12).into()]);
        t.row(vec!["münchen-db".into(), Cell::painted("blocked", Paint::Bad)]);
        t
    }

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        let text = sample().text(false);
        assert_eq!(
            text,
            "NAME        STATE    TERM\n\
             web         held     12\n\
             münchen-db  blocked  -\n"
        );
    }

    #[test]
    fn colour_does_not_move_anything() {
        let plain = sample().text(false);
        let coloured = sample().text(true);
        assert!(coloured.contains("\x1b[32mheld\x1b[0m"), "{coloured:?}");
        let stripped =
            coloured.replace("\x1b[32m", "").replace("\x1b[31m", "").replace("\x1b[0m", "");
        assert_eq!(stripped, plain);
    }

    #[test]
    fn a_cell_cannot_steer_the_terminal() {
        let mut t = Table::new(&["A"]);
        t.row(vec!["x\x1b[2J\ny".into()]);
        let text = t.text(true);
        assert!(!text.contains('\x1b') && text.lines().count() == 2, "{text:?}");
    }

    #[test]
    fn a_table_without_rows_is_nothing() {
        assert_eq!(Table::new(&["A", "B"]).text(false), "");
    }
}
