//! Points out of a hundred: safety 40, RTO 20, RPO 15, switch back 10, observability 10,
//! deviation 5. Any overlap: zero overall.
//!
//! A part that does not apply (a service without numbered writes has no RPO that could be seen)
//! gives no points away: its weight is spread over the parts that do, and the score says so. What
//! applies and was not seen gives no points.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::phase::PhaseReport;

/// One part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) name: String,
    /// Points reached, of its weight after the spreading.
    pub(crate) points: f64,
    /// Its weight after the spreading; 0: it does not apply.
    pub(crate) of: f64,
    pub(crate) why: String,
}

/// The score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Score {
    /// Of a hundred.
    pub(crate) total: u32,
    pub(crate) parts: Vec<Part>,
}

/// What is scored.
#[derive(Clone, Debug)]
pub(crate) struct Grounds<'a> {
    /// Times in which the service ran twice, or was answered for by an overruled site.
    pub(crate) ran_twice: bool,
    /// Answers on which the judgement rests.
    pub(crate) answers: u64,
    pub(crate) phases: &'a [PhaseReport],
    /// Share of acknowledged writes that were kept; none: there are no numbered writes.
    pub(crate) writes_kept: Option<f64>,
    /// Whether it went back as predicted; none: going back is no part of it.
    pub(crate) switched_back: Option<bool>,
    /// Places that can see something of it, and whether each was looked from.
    pub(crate) places: &'a [(String, bool)],
}

impl Score {
    /// Adds it up.
    pub(crate) fn new(g: &Grounds<'_>) -> Self {
        let safe = !g.ran_twice && g.answers > 0;
        let safety = match (g.ran_twice, g.answers) {
            (true, _) => "the service ran twice: nothing else counts".to_owned(),
            (false, 0) => "nothing was seen, and silence proves nothing".to_owned(),
            (false, n) => format!("no two sites ran it at once in {n} answers"),
        };
        let kept = g.phases.iter().filter(|p| p.in_time()).count();
        let rto = format!("{kept} of {} phases within prediction and allowance", g.phases.len());
        let rpo = match g.writes_kept {
            Some(share) => (Some(share), format!("{:.2} % of the writes kept", share * 100.0)),
            None => (None, "no numbered writes: its weight is spread".to_owned()),
        };
        let back = match g.switched_back {
            Some(true) => (Some(1.0), "it went back as predicted".to_owned()),
            Some(false) => (Some(0.0), "it did not go back as predicted".to_owned()),
            None => (None, "going back is no part of it: its weight is spread".to_owned()),
        };
        let blind: Vec<&str> =
            g.places.iter().filter(|(_, seen)| !seen).map(|(p, _)| p.as_str()).collect();
        let observed = match blind.as_slice() {
            [] => format!("looked from all {} places", g.places.len()),
            blind => format!("not looked from: {}", blind.join(", ")),
        };
        let shares: [(&str, f64, Option<f64>, String); 6] = [
            ("safety", 40.0, Some(f64::from(u8::from(safe))), safety),
            ("RTO", 20.0, Some(share(kept, g.phases.len())), rto),
            ("RPO", 15.0, rpo.0, rpo.1),
            ("switch back", 10.0, back.0, back.1),
            (
                "observability",
                10.0,
                Some(share(g.places.len() - blind.len(), g.places.len())),
                observed,
            ),
            ("deviation", 5.0, Some(exactness(g.phases)), deviation_words(g.phases)),
        ];
        let weight: f64 = shares.iter().filter(|s| s.2.is_some()).map(|s| s.1).sum();
        let parts: Vec<Part> = shares
            .into_iter()
            .map(|(name, of, share, why)| {
                let of = share.map_or(0.0, |_| of * 100.0 / weight);
                let points = share.unwrap_or(0.0).clamp(0.0, 1.0) * of;
                Part { name: name.to_owned(), points: tenth(points), of: tenth(of), why }
            })
            .collect();
        let sum: f64 = parts.iter().map(|p| p.points).sum();
        // Below a hundred unless everything was reached: rounding is no merit.
        let whole = parts.iter().all(|p| p.points >= p.of);
        let rounded = sum.round().clamp(0.0, 100.0) as u32;
        let total = match (g.ran_twice, whole) {
            (true, _) => 0,
            (false, true) => 100,
            (false, false) => rounded.min(99),
        };
        Self { total, parts }
    }

    /// On one line.
    pub(crate) fn line(&self) -> String {
        let mut out = format!("score: {} of 100", self.total);
        for (i, p) in self.parts.iter().enumerate() {
            let start = if i == 0 { ": " } else { ", " };
            let _ = if p.of > 0.0 {
                write!(out, "{start}{} {:.0}/{:.0}", p.name, p.points, p.of)
            } else {
                write!(out, "{start}{} n/a", p.name)
            };
        }
        out
    }
}

fn share(part: usize, of: usize) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 }
}

fn tenth(x: f64) -> f64 {
    (x * 10.0).round() / 10.0
}

/// How far a phase went beyond its prediction, as a share of its allowance. To be faster than
/// predicted is no fault: the prediction of a loss is its worst case.
fn beyond(p: &PhaseReport) -> f64 {
    let late = (p.rto_ms - p.predicted_ms).max(0.0);
    if late == 0.0 { 0.0 } else { (late / p.allowance_ms.max(1.0)).min(1.0) }
}

fn exactness(phases: &[PhaseReport]) -> f64 {
    if phases.is_empty() {
        return 0.0;
    }
    1.0 - phases.iter().map(beyond).sum::<f64>() / phases.len() as f64
}

fn deviation_words(phases: &[PhaseReport]) -> String {
    let most = phases
        .iter()
        .max_by(|a, b| (a.rto_ms - a.predicted_ms).total_cmp(&(b.rto_ms - b.predicted_ms)));
    match most {
        Some(p) if p.rto_ms > p.predicted_ms => {
            format!("{}: {:.0} ms later than predicted", p.name, p.rto_ms - p.predicted_ms)
        }
        Some(_) => "no phase was later than predicted".to_owned(),
        None => "there were no phases".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(rto_ms: f64) -> PhaseReport {
        let (predicted_ms, allowance_ms) = (100.0, 100.0);
        PhaseReport { rto_ms, predicted_ms, allowance_ms, ..PhaseReport::default() }
    }

    fn grounds<'a>(phases: &'a [PhaseReport], places: &'a [(String, bool)]) -> Grounds<'a> {
        Grounds {
            ran_twice: false,
            answers: 10,
            phases,
            writes_kept: Some(1.0),
            switched_back: Some(true),
            places,
        }
    }

    fn places(seen: [bool; 2]) -> [(String, bool); 2] {
        [("paris".to_owned(), seen[0]), ("rome".to_owned(), seen[1])]
    }

    #[test]
    fn all_that_is_asked_for_is_a_hundred_with_the_weights_of_the_design() {
        let (phases, places) = ([phase(90.0)], places([true; 2]));
        let score = Score::new(&grounds(&phases, &places));
        assert_eq!(score.total, 100);
        let weights: Vec<f64> = score.parts.iter().map(|p| p.of).collect();
        assert_eq!(weights, [40.0, 20.0, 15.0, 10.0, 10.0, 5.0]);
    }

    #[test]
    fn any_overlap_is_zero_overall() {
        let (phases, places) = ([phase(0.0)], places([true; 2]));
        let score = Score::new(&Grounds { ran_twice: true, ..grounds(&phases, &places) });
        assert_eq!(score.total, 0);
        assert!(score.parts[0].points < 0.1);
    }

    #[test]
    fn silence_proves_nothing() {
        let (phases, places) = ([phase(0.0)], places([true; 2]));
        let score = Score::new(&Grounds { answers: 0, ..grounds(&phases, &places) });
        assert_eq!((score.parts[0].points, score.total), (0.0, 60));
    }

    #[test]
    fn what_does_not_apply_is_spread_and_said() {
        let (phases, places) = ([phase(90.0)], places([true; 2]));
        let score = Score::new(&Grounds { writes_kept: None, ..grounds(&phases, &places) });
        assert_eq!(score.total, 100);
        assert_eq!((score.parts[2].of, score.parts[0].of), (0.0, 47.1));
        let sum: f64 = score.parts.iter().map(|p| p.of).sum();
        assert!((sum - 100.0).abs() < 0.3, "{sum}");
        assert!(score.line().contains("RPO n/a"), "{}", score.line());
        assert!(score.parts[2].why.contains("spread"));
    }

    #[test]
    fn lateness_and_blindness_cost_their_parts_and_never_round_up_to_a_hundred() {
        let (phases, all) = ([phase(150.0), phase(300.0)], places([true, false]));
        let score = Score::new(&grounds(&phases, &all));
        let points: Vec<f64> = score.parts.iter().map(|p| p.points).collect();
        // One of two in time; half blind; half and wholly late: a quarter is left of deviation.
        assert_eq!(points, [40.0, 10.0, 15.0, 10.0, 5.0, 1.3]);
        assert_eq!(score.total, 81);
        let (phases, blind) = ([phase(110.0)], [("a".to_owned(), true)]);
        assert_eq!(Score::new(&grounds(&phases, &blind)).total, 99);
    }
}
