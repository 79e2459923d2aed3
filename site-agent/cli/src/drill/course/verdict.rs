//! What is so after a move, what is left at the end, and the verdict on all of it.

use tierce_wire::control::{PolicyView, TicketView};

use super::super::switch::say;
use super::{Course, Ended, Why};
use crate::evidence::clock::ms;
use crate::evidence::report::{Check, Verdict};
use crate::evidence::score::{Grounds, Score};

impl Course<'_> {
    /// What is so after a move.
    pub(super) fn validate(
        &self,
        before: &TicketView,
        after: &TicketView,
        from: &str,
        to: &str,
    ) -> Vec<Check> {
        let book = self.watch.book();
        let place = |name: &str| self.sites.iter().position(|s| s == name);
        let runs = book.last().map(|h| h.site) == place(to) && after.site.as_deref() == Some(to);
        let (term, was) = (after.term.unwrap_or(0), before.term.unwrap_or(0));
        let proof = after.proof.as_deref().unwrap_or("unknown");
        let released = proof == "released";
        let own = place(from).is_some_and(|p| book.is_watched(p));
        let end = book.lanes().into_iter().rev().find(|l| Some(l.site) == place(from));
        let start = book.shown().into_iter().rev().find(|l| Some(l.site) == place(to));
        let stopped = match (own, end, start) {
            (true, Some(end), Some(start)) => end.to < start.from,
            (true, ..) => true,
            (false, ..) => released,
        };
        let basis = match (own, released) {
            (true, _) => format!("{from} itself said so before {to} ran"),
            (false, true) => format!("the ledger has its release by {from}, which means stopped"),
            (false, false) => format!("{from} was not watched and has not released it"),
        };
        vec![
            Check::new(&format!("runs at {to}"), runs, format!("{} by {to}", after.state)),
            Check::new(&format!("stopped at {from}"), stopped, basis),
            Check::new("term grew", term > was, format!("{was} to {term}")),
            Check::new("proof", released, format!("granted on proof `{proof}`")),
        ]
    }

    /// Nothing is left that was not there before.
    pub(super) async fn cleanup(&mut self) -> Result<(), Why> {
        let after = self.ticket().await?;
        let (state, hold) = (after.state.as_str(), after.hold.as_deref());
        let here = after.site.as_deref() == Some(self.home.as_str());
        let same = |a: &PolicyView, b: &PolicyView| a == b;
        let found = vec![
            Check::new(
                "back at home",
                here && state == "held",
                format!("{state} by {}", after.site.as_deref().unwrap_or("nobody")),
            ),
            Check::new("nothing holds it", hold.is_none(), hold.unwrap_or("no hold").to_owned()),
            Check::new(
                "policy",
                same(&after.policy, &self.first.policy),
                if same(&after.policy, &self.first.policy) { "as before" } else { "it differs" },
            ),
        ];
        say(&found, self.timeline);
        self.report.validation.extend(found);
        Ok(())
    }

    pub(super) fn judge(&mut self, ended: Ended, names: &[String]) -> Ended {
        let book = self.watch.book();
        let (overlap, stale) = book.ran_twice();
        let r = &mut *self.report;
        (r.overlap_ms, r.stale_answers) = (ms(overlap), stale);
        r.put_lanes(&book.shown(), self.timeline);
        r.answers_ms = book.answers().into_iter().map(|at| self.timeline.at(at)).collect();
        let (are, period) = book.answers_are();
        (r.answers_are, r.period_ms) = (are, ms(period));
        r.probes = book.tallies(names);
        if ended == Ended::Refused {
            return ended;
        }
        let mut places: Vec<(String, bool)> = (0..self.sites.len())
            .filter(|i| [&self.home, &self.away].contains(&&self.sites[*i]))
            .map(|i| (format!("{}'s own agent", self.sites[i]), book.is_watched(i)))
            .collect();
        let probed = self.args.probes.iter().any(|p| p.site.is_none());
        places.push(("the service itself (--probe)".to_owned(), probed));
        let back = r.phases.iter().find(|p| p.name.starts_with("switch back")).map(|p| p.passed);
        let twice = !overlap.is_zero() || stale > 0;
        let answers = book.evidence();
        r.score = Some(Score::new(&Grounds {
            ran_twice: twice,
            answers,
            phases: &r.phases,
            writes_kept: None,
            switched_back: Some(back == Some(true)),
            places: &places,
        }));
        let kept = r.phases.iter().filter(|p| p.passed).count();
        let sound = r.validation.iter().filter(|c| !c.passed).count() == 0;
        let well = ended == Ended::Passed && kept == r.phases.len() && sound && answers > 0;
        let ended = match ended {
            Ended::Passed if !well || twice => Ended::Failed,
            other => other,
        };
        r.verdict = match ended {
            Ended::Passed => Verdict::Passed,
            Ended::Code(_) => Verdict::Aborted,
            _ => Verdict::Failed,
        };
        let safety = match (twice, answers) {
            (true, _) => format!("it ran twice: overlap {} ms", r.overlap_ms),
            (false, 0) => "no site's own word was heard".to_owned(),
            (false, n) => format!("it never ran twice (overlap 0 ms, {n} answers)"),
        };
        let phases = r.phases.len();
        r.summary = format!(
            "{}: {safety}; {kept} of {phases} phases as predicted{}",
            r.verdict.word(),
            if sound { "" } else { "; the validation found something" }
        );
        ended
    }
}
