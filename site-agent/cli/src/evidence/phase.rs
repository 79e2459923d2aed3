//! One phase: a prediction that is made before anything is done, and whether it was kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tierce_wire::control::PlanView;

use super::clock::{At, ms};
use super::timeline::{Kind, Timeline};

/// How long the start at the end of a plan takes, if it is known.
pub(crate) fn known_start(plan: &PlanView) -> Option<Duration> {
    let last = plan.steps.last()?;
    let known = last.what.starts_with("start") && !last.basis.starts_with("unknown");
    known.then(|| Duration::from_millis(last.predicted_ms))
}

/// A phase that has begun.
#[derive(Clone, Debug)]
pub(crate) struct Begun {
    pub(crate) name: String,
    pub(crate) from: At,
    /// Who served under which term when it began.
    pub(crate) site: String,
    pub(crate) term: u64,
    /// Where the service is expected at the end. The same site: the same term; another: a greater.
    pub(crate) expected: String,
    pub(crate) predicted: Duration,
    /// What the prediction is made of.
    pub(crate) why: String,
    /// Allowed on top.
    pub(crate) allowance: Duration,
}

/// What was found at its end.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) to: At,
    /// The longest time without service.
    pub(crate) gap: Duration,
    pub(crate) site: String,
    pub(crate) term: u64,
    /// What else went wrong.
    pub(crate) wrong: Vec<String>,
}

/// One phase, as it is reported.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct PhaseReport {
    pub(crate) name: String,
    pub(crate) start_ms: f64,
    pub(crate) end_ms: f64,
    /// Longest time without service, as it was seen from outside.
    pub(crate) rto_ms: f64,
    /// Predicted before anything was done.
    pub(crate) predicted_ms: f64,
    /// Allowed on top: processes share machines, and observers look from time to time.
    pub(crate) allowance_ms: f64,
    /// What the prediction is made of.
    pub(crate) prediction: String,
    pub(crate) expected_site: String,
    pub(crate) site: String,
    pub(crate) term: u64,
    pub(crate) passed: bool,
    /// Why not.
    pub(crate) wrong: Vec<String>,
}

impl Begun {
    /// Whether the phase is to leave the service where it is.
    pub(crate) fn stays(&self) -> bool {
        self.expected == self.site
    }

    /// Judges.
    pub(crate) fn end(self, found: Found, timeline: &Timeline) -> PhaseReport {
        let mut wrong = found.wrong;
        if found.site != self.expected {
            wrong.push(format!("it is served by {}, not by {}", found.site, self.expected));
        }
        if self.stays() && found.term != self.term {
            let (was, is) = (self.term, found.term);
            wrong.push(format!("it was granted anew: term {is} after {was}"));
        }
        if !self.stays() && found.term <= self.term {
            wrong.push("there was no new grant".to_owned());
        }
        let limit = self.predicted + self.allowance;
        if found.gap > limit {
            let (gap, limit) = (ms(found.gap), ms(limit));
            wrong.push(format!("{gap:.0} ms without service, {limit:.0} ms allowed"));
        }
        PhaseReport {
            name: self.name,
            start_ms: timeline.at(self.from),
            end_ms: timeline.at(found.to),
            rto_ms: ms(found.gap),
            predicted_ms: ms(self.predicted),
            allowance_ms: ms(self.allowance),
            prediction: self.why,
            expected_site: self.expected,
            site: found.site,
            term: found.term,
            passed: wrong.is_empty(),
            wrong,
        }
    }
}

impl PhaseReport {
    /// Says on the timeline how it ended.
    pub(crate) fn say(&self, timeline: &Timeline) {
        let mark = if self.passed { "ok" } else { "FAILED" };
        let mut text = format!(
            "{mark}: {:.0} ms without service (predicted {:.0}), {} serves, term {}",
            self.rto_ms, self.predicted_ms, self.site, self.term
        );
        for why in &self.wrong {
            text += "; ";
            text += why;
        }
        timeline.say(Kind::Phase, text);
    }

    /// Whether the time without service was as predicted, whatever else went wrong.
    pub(crate) fn in_time(&self) -> bool {
        self.rto_ms <= self.predicted_ms + self.allowance_ms
    }
}

#[cfg(test)]
mod tests {
    use super::super::timeline::Show;
    use super::*;

    fn judged(expected: &str, site: &str, term: u64, gap_ms: u64) -> PhaseReport {
        let begun = Begun {
            name: "move".to_owned(),
            from: At::now(),
            site: "paris".to_owned(),
            term: 7,
            expected: expected.to_owned(),
            predicted: Duration::from_millis(100),
            why: "the plan".to_owned(),
            allowance: Duration::from_millis(50),
        };
        let (gap, site) = (Duration::from_millis(gap_ms), site.to_owned());
        let found = Found { to: At::now(), gap, site, term, wrong: Vec::new() };
        begun.end(found, &Timeline::new(Show::Nothing))
    }

    #[test]
    fn a_move_passes_at_the_other_site_under_a_greater_term_in_time() {
        assert!(judged("rome", "rome", 8, 150).passed);
        for (site, term, gap) in [("paris", 8, 10), ("rome", 7, 10), ("rome", 8, 151)] {
            let p = judged("rome", site, term, gap);
            assert!(!p.passed && p.wrong.len() == 1, "{p:?}");
        }
    }

    #[test]
    fn what_is_to_stay_stays_under_its_term() {
        assert!(judged("paris", "paris", 7, 0).passed);
        let p = judged("paris", "paris", 9, 0);
        assert_eq!(p.wrong, ["it was granted anew: term 9 after 7"]);
        assert!(p.in_time());
        assert!(!judged("paris", "paris", 7, 151).in_time());
    }
}
