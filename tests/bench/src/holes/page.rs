//! The table as it is published: markdown between two markers of a page that people write.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Outcome;
use super::lab::Figure;
use super::list::Peer;
use crate::facts::Facts;
use crate::row::ms;

const BEGIN: &str = "<!-- generated: begin -->";
const END: &str = "<!-- generated: end -->";

/// A page with the markers in it.
#[derive(Debug)]
pub(crate) struct Page {
    path: PathBuf,
    before: String,
    after: String,
}

impl Page {
    /// Found before anything is measured: a run for nothing takes minutes.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let what = || format!("{}: the page is written by hand, the table put in", path.display());
        let text = std::fs::read_to_string(path).with_context(what)?;
        let (before, after) = split(&text)
            .with_context(|| format!("{}: needs the lines {BEGIN} and {END}", path.display()))?;
        Ok(Self { path: path.to_owned(), before: before.to_owned(), after: after.to_owned() })
    }

    pub(crate) fn write(&self, facts: &Facts, outcomes: &[Outcome]) -> anyhow::Result<()> {
        let table = table(outcomes);
        let text = format!("{}\n`{facts}`\n\n{table}{}", self.before, self.after);
        std::fs::write(&self.path, text).with_context(|| self.path.display().to_string())
    }
}

/// What stands up to the first marker and from the second on, both included.
fn split(text: &str) -> Option<(&str, &str)> {
    let begin = text.find(BEGIN)? + BEGIN.len();
    let end = begin + text[begin..].find(END)?;
    Some((&text[..begin], &text[end..]))
}

fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::from(
        "| hole | what happens | booth, ms | Tierce, ms | gap, booth / Tierce, ms | what protects Tierce |\n\
         |---|---|---|---|---|---|\n",
    );
    for Outcome { hole, ours, peer } in outcomes {
        let theirs = match (hole.peer, peer) {
            (Peer::Not(why), _) => format!("not shown here: {why}"),
            (Peer::Do(..), Some(p)) if p.overlap.is_none() => format!("broken: {}", p.said),
            (Peer::Do(..), Some(p)) => overlap(p),
            (Peer::Do(..), None) => "not tried".to_owned(),
        };
        let gaps = [peer.as_ref(), Some(ours)].map(|f| {
            let gap = f.and_then(|f| f.gap).filter(|g| *g >= 0.0);
            gap.map_or("-".to_owned(), |g| format!("{g:.0}"))
        });
        let _ = writeln!(
            text,
            "| {} {} | {} | {theirs} | {} | {} / {} | {} |",
            hole.number,
            hole.name,
            hole.words,
            match ours.overlap {
                Some(d) if !d.is_zero() => format!("{}, **missed**", overlap(ours)),
                _ => overlap(ours),
            },
            gaps[0],
            gaps[1],
            hole.guard
        );
    }
    text
}

fn overlap(figure: &Figure) -> String {
    let show = |n: f64| if n == 0.0 { "**0**".to_owned() } else { format!("{n:.0}") };
    figure.overlap.map(ms).map_or(format!("broken: {}", figure.said), show)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_is_replaced() {
        let text = format!("head\n{BEGIN}\nold\n{END}\nfoot\n");
        let (before, after) = split(&text).unwrap();
        assert_eq!(before, format!("head\n{BEGIN}"));
        assert_eq!(after, format!("{END}\nfoot\n"));
        assert_eq!(split("no markers"), None);
        assert_eq!(split(&format!("{END}{BEGIN}")), None);
    }
}
