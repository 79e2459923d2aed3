//! Rows: a figure of ours, the peer's, and the bar.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::Serialize;

use crate::facts::Facts;

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    /// Nothing when it could not be had.
    pub(crate) ours: Option<f64>,
    pub(crate) peer: Option<f64>,
    /// Ours over the peer's.
    pub(crate) ratio: Option<f64>,
    /// At most this.
    pub(crate) bar: Option<f64>,
    pub(crate) ok: Option<bool>,
    /// What has to be known to read it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) note: String,
}

/// All rows.
#[derive(Debug)]
pub(crate) struct Table {
    peer: &'static str,
    rows: Vec<Row>,
}

impl Default for Table {
    fn default() -> Self {
        Self::beside("booth")
    }
}

impl Table {
    /// Rows beside this peer.
    pub(crate) fn beside(peer: &'static str) -> Self {
        Self { peer, rows: Vec::new() }
    }

    /// A figure, smaller is better.
    pub(crate) fn row(
        &mut self,
        name: impl Into<String>,
        unit: &'static str,
        ours: impl Into<Option<f64>>,
        peer: impl Into<Option<f64>>,
    ) -> &mut Row {
        let (name, ours, peer) = (name.into(), ours.into(), peer.into());
        let ratio = ours.zip(peer).filter(|(_, p)| *p > 0.0).map(|(o, p)| o / p);
        let row = Row { name, unit, ours, peer, ratio, bar: None, ok: None, note: String::new() };
        eprintln!("  {}", row.line(0));
        self.rows.push(row);
        let last = self.rows.len() - 1;
        &mut self.rows[last]
    }

    /// Least, median and greatest of both; the bar is the median's.
    pub(crate) fn spread(&mut self, name: &str, ours: &[f64], peer: &[f64], bar: Option<f64>) {
        for (word, q) in [("min", 0.0), ("median", 0.5), ("max", 1.0)] {
            let bar = bar.filter(|_| word == "median");
            let (ours, peer) = (quantile(ours, q), quantile(peer, q));
            self.row(format!("{name}.{word}"), "ms", ours, peer).bar(bar);
        }
    }

    /// Whether no bar was missed.
    pub(crate) fn all_met(&self) -> bool {
        self.rows.iter().all(|r| r.ok != Some(false))
    }

    /// Facts and rows as JSON lines.
    pub(crate) fn json(&self, facts: &Facts) -> anyhow::Result<String> {
        Ok(serde_json::to_string(facts)? + "\n" + &self.lines()?)
    }

    /// Rows as JSON lines.
    pub(crate) fn lines(&self) -> anyhow::Result<String> {
        let mut text = String::new();
        for row in &self.rows {
            text += &serde_json::to_string(row)?;
            text.push('\n');
        }
        Ok(text)
    }
}

impl Row {
    /// At most this; without a figure it is missed.
    pub(crate) fn bar(&mut self, bar: impl Into<Option<f64>>) -> &mut Self {
        self.bar = bar.into();
        self.ok = self.bar.map(|bar| self.ours.is_some_and(|ours| ours <= bar));
        self
    }

    /// What has to be known.
    pub(crate) fn note(&mut self, note: impl Into<String>) -> &mut Self {
        self.note = note.into();
        self
    }

    fn line(&self, width: usize) -> String {
        let number = |n: Option<f64>| n.map_or("-".to_owned(), show);
        let mut line = format!(
            "{:<width$}  {:<9} {:>10} {:>12} {:>7} {:>9}",
            self.name,
            self.unit,
            number(self.ours),
            number(self.peer),
            self.ratio.map_or("-".to_owned(), |r| format!("{r:.3}")),
            number(self.bar),
        );
        let word = match self.ok {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        let _ = write!(line, "  {word:<6}  {}", self.note);
        line.trim_end().to_owned()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|r| r.name.len()).max().unwrap_or(4);
        writeln!(
            f,
            "{:<width$}  {:<9} {:>10} {:>12} {:>7} {:>9}",
            "figure", "unit", "tierce", self.peer, "ratio", "bar"
        )?;
        for row in &self.rows {
            writeln!(f, "{}", row.line(width))?;
        }
        Ok(())
    }
}

fn show(n: f64) -> String {
    match n.abs() {
        0.0 => "0".to_owned(),
        a if a >= 1_000.0 => format!("{n:.0}"),
        a if a >= 10.0 => format!("{n:.1}"),
        _ => format!("{n:.3}"),
    }
}

/// The value below which this share of all values lies; nothing without values.
pub(crate) fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last as f64 * q).round() as usize).copied()
}

/// A duration in milliseconds.
pub(crate) fn ms(d: Duration) -> f64 {
    d.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_met_up_to_its_value_and_missed_without_a_figure() {
        let mut table = Table::default();
        assert_eq!(table.row("a", "ms", 5.0, 10.0).bar(5.0).ok, Some(true));
        assert!(table.all_met());
        assert_eq!(table.row("b", "ms", 5.1, None).bar(5.0).ok, Some(false));
        assert_eq!(table.row("c", "ms", None, 1.0).bar(5.0).ok, Some(false));
        assert_eq!(table.row("d", "ms", 1.0, None).bar(None).ok, None);
        assert!(!table.all_met());
        assert_eq!(table.rows[0].ratio, Some(0.5));
    }

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let v = [3.0, 1.0, 2.0, 10.0];
        assert_eq!(quantile(&v, 0.0), Some(1.0));
        assert_eq!(quantile(&v, 1.0), Some(10.0));
        assert_eq!(quantile(&v, 0.5), Some(3.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
