//! The table in docs/safety.md.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::Planted;
use crate::finder::Found;

const BEGIN: &str =
    "<!-- planted bugs: begin; written by tests/run mutants --page docs/safety.md -->\n";
const END: &str = "<!-- planted bugs: end -->\n";

/// Replaces what is between the markers.
pub(crate) fn write(path: &Path, rows: &[(Planted, Option<Found>)]) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
    let marked = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) = marked.with_context(|| format!("{} has no markers", path.display()))?;
    let mut table =
        String::from("| rule | planted bug | found by | as | after |\n|---|---|---|---|---|\n");
    for (p, found) in rows {
        let (by, what, after) = match found {
            Some(f) => (
                f.by.clone(),
                f.what.replace('|', "/"),
                format!("{}, {:.1} s", f.effort, f.took.as_secs_f64()),
            ),
            None => ("nobody".to_owned(), String::new(), String::new()),
        };
        let words = p.words().trim_end_matches('.');
        let _ = writeln!(
            table,
            "| {} | {words} (`{}`) | {by} | {what} | {after} |",
            p.rule(),
            p.word()
        );
    }
    std::fs::write(path, format!("{before}{BEGIN}{table}{END}{after}"))
        .with_context(|| format!("{}", path.display()))
}
