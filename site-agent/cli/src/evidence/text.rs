//! The report on a terminal.

use std::fmt::Write as _;

use super::report::{Check, Report};
use crate::table::{Cell, Paint, Table};
use crate::words::{ms, plain};

/// What is below the timeline when it has ended.
pub(crate) fn scorecard(r: &Report) -> String {
    let mut out = String::new();
    phases(&mut out, r);
    checks(&mut out, "\nvalidation", &r.validation, false);
    losses(&mut out, r, false);
    out.push('\n');
    if let Some(records) = r.records {
        let _ = write!(
            out,
            "records: {} due, {} sent, {} answered; ",
            records.wanted, records.sent, records.answered
        );
    }
    if !r.phases.is_empty() {
        let (overlap, stale) = (r.overlap_ms, r.stale_answers);
        let _ = writeln!(out, "overlap {overlap} ms; stale answers {stale}");
    }
    if let Some(score) = &r.score {
        let _ = writeln!(out, "{}", plain(&score.line()));
    }
    for (word, text) in [("ended early", &r.stopped_early), ("left", &r.left)] {
        if let Some(text) = text {
            let _ = writeln!(out, "{word}: {}", plain(text));
        }
    }
    let _ = writeln!(out, "{}", plain(&r.summary));
    if !r.again.is_empty() {
        let again = plain(&r.again);
        let _ = writeln!(out, "took {:.1} s; once more: {again}", r.took_ms / 1e3);
    }
    out
}

/// All of it, from a file.
pub(crate) fn whole(r: &Report, colour: bool) -> String {
    let mut out = String::new();
    let level = format!("drill {} (L{})", r.drill, r.level);
    let title = if r.kind == super::report::DEMO { "demo".to_owned() } else { level };
    let _ = writeln!(out, "{}: {}", plain(&title), r.verdict.word());
    let version = r.versions.get("tierce").map_or("", String::as_str);
    let about = format!("{}, {}, tierce {version}", r.finished, r.operator);
    let _ = writeln!(out, "{}", plain(&about));
    if let Some(s) = &r.scope {
        let _ = writeln!(out, "{}", plain(&s.hypothesis));
    }
    checks(&mut out, "\npreflight", &r.preflight, colour);
    for p in &r.probes {
        let target = plain(&p.target);
        let _ = write!(
            out,
            "\nprobe {target}: {} of {} answered, {:.0} ms without an answer at the most",
            p.answered, p.sent, p.longest_gap_ms
        );
    }
    if !r.probes.is_empty() {
        out.push('\n');
    }
    out + &scorecard(r)
}

fn phases(out: &mut String, r: &Report) {
    if r.phases.is_empty() {
        return;
    }
    let width = r.phases.iter().map(|p| p.name.chars().count()).max().unwrap_or(0).max(16);
    let _ = writeln!(
        out,
        "\n{:<width$}  {:<15}  {:>15}  {:>12}  {:>9}  result",
        "phase", "served by", "without service", "predicted", "allowance"
    );
    for p in &r.phases {
        let place = plain(&format!("{}, term {}", p.site, p.term));
        let _ = writeln!(
            out,
            "{:<width$}  {place:<15}  {:>12.0} ms  {:>9.0} ms  {:>6.0} ms  {}",
            plain(&p.name),
            p.rto_ms,
            p.predicted_ms,
            p.allowance_ms,
            if p.passed { "ok" } else { "FAILED" }
        );
    }
}

/// Checks, one a line.
pub(crate) fn checks(out: &mut String, title: &str, checks: &[Check], colour: bool) {
    if checks.is_empty() {
        return;
    }
    let mut table = Table::new(&["CHECK", "RESULT", "FOUND"]);
    for c in checks {
        let (word, paint) = if c.passed { ("ok", Paint::Good) } else { ("FAILED", Paint::Bad) };
        table.row(vec![(&c.name).into(), Cell::painted(word, paint), (&c.reason).into()]);
    }
    let _ = write!(out, "{title}\n{}", table.text(colour));
}

/// What losses would do.
pub(crate) fn losses(out: &mut String, r: &Report, colour: bool) {
    let mut table = Table::new(&["WITHOUT", "TICKET", "GOES TO", "BY ITSELF", "OUTAGE", "BECAUSE"]);
    for l in &r.losses {
        let by_itself = if l.unattended {
            Cell::painted("yes", Paint::Good)
        } else {
            Cell::painted("no", Paint::Warn)
        };
        let outage = l.predicted_ms.map_or("until a person acts".to_owned(), ms);
        table.row(vec![
            (&l.site).into(),
            (&l.ticket).into(),
            l.to.as_ref().into(),
            by_itself,
            outage.into(),
            (&l.why).into(),
        ]);
    }
    let _ = write!(out, "{}", table.text(colour));
}
