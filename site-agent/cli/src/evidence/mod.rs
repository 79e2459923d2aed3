//! What demo and drills have in common: what was seen, what it proves, and how it is shown.
//!
//! A drill that judged itself by another yardstick than the demo would prove nothing about either.
//! So there is one clock, one judge of overlaps and gaps, one phase with a prediction made
//! beforehand, one score, and one report; demo and drills only differ in what they do.
//!
//! | module | what it does |
//! |---|---|
//! | `clock` | one clock for everything that is compared |
//! | `judge` | overlap, stale answers, gaps: pure |
//! | `phase` | a prediction, and whether it was kept: pure |
//! | `score` | points out of a hundred: pure |
//! | `timeline` | what happened, printed and kept |
//! | `report` | all of it, written to report.json and read back |
//! | `html`, `junit` | the report in other forms |
//! | `ask` | questions to daemons while other things go on |
//!
//! Invariants:
//! - a verdict is `passed` only when there is evidence: silence proves nothing;
//! - any overlap makes the score zero;
//! - what is read from a file is bounded and never reaches a page or a terminal as anything but
//!   text.

pub(crate) mod ask;
pub(crate) mod clock;
pub(crate) mod html;
pub(crate) mod judge;
pub(crate) mod junit;
pub(crate) mod phase;
pub(crate) mod report;
pub(crate) mod score;
pub(crate) mod text;
pub(crate) mod timeline;

/// Events kept for a report.
pub(crate) const MAX_EVENTS: usize = 10_000;
/// Longest report that is read back: a demo of ten minutes stays below a tenth of it.
pub(crate) const MAX_REPORT_BYTES: u64 = 64 * 1024 * 1024;
