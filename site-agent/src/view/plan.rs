//! What a move, grant or revoke would do: steps with predicted times, the outage, the loss window
//! and the way back. Times come from what was measured here and told by the other site; where
//! nothing was measured, the bound stands in and the step says so.

use std::time::Duration;

use tierce_ticket::docket::Ticket;
use tierce_ticket::ids::MemberName;
use tierce_ticket::message::Readiness;
use tierce_ticket::timing::show;
use tierce_wire::control::{PlanStep, PlanView};

use super::Scene;
use super::words::{about, ms};
use crate::told::{ATTRIBUTE, Told};

impl Scene {
    /// The plan for a ticket; `to`: nobody for a revoke. `lag`: as the successor reported it.
    pub(crate) fn plan_view(
        &self,
        t: &Ticket,
        to: Option<&MemberName>,
        readiness: Option<&Readiness>,
    ) -> PlanView {
        let from = t.holder().map(|(_, site, _)| site.clone());
        let mut steps = Vec::new();
        let mut outage = Duration::ZERO;
        let (decide, basis) = self.decision_time();
        let leader = self.facts.leader.as_ref().map_or("the leader", MemberName::as_str).to_owned();
        let mut step = |site: &str, what: String, time: Duration, basis: &str, down: bool| {
            outage += if down { time } else { Duration::ZERO };
            let (site, basis) = (site.to_owned(), basis.to_owned());
            steps.push(PlanStep { site, what, predicted_ms: ms(time), basis });
        };
        if let Some(from) = &from {
            let goal = to.map_or("revoke it".to_owned(), |to| format!("hand it over to {to}"));
            step(&leader, format!("decide to {goal}"), decide, &basis, false);
            let (stop, how) = self.stop_time(t, from);
            step(from.as_str(), "stop its resources".to_owned(), stop, &how, true);
            let what = match to {
                Some(to) => format!("release it and grant it to {to} in one batch"),
                None => "release it".to_owned(),
            };
            step(&leader, what, decide, &basis, true);
        } else if let Some(to) = to {
            step(&leader, format!("decide to grant it to {to}"), decide, &basis, false);
        }
        if let Some(to) = to {
            let (start, how) = self.start_time(t, to);
            step(to.as_str(), "start its resources".to_owned(), start, &how, true);
        }
        PlanView {
            ticket: t.name.to_string(),
            refused: self.refusal(t, from.as_ref(), to),
            steps,
            outage_ms: ms(outage),
            loss_window: loss_window(t, from.as_ref(), to, readiness),
            undo: undo(t, from.as_ref(), to),
            from: from.map(|f| f.to_string()),
            to: to.map(ToString::to_string),
        }
    }

    /// One decision of the ledger: to the leader, to a majority's disks, and back.
    fn decision_time(&self) -> (Duration, String) {
        let timing = self.facts.timing().unwrap_or_else(|| self.config.timing());
        let measured = self.facts.majority_rtt();
        let rtt = measured.unwrap_or(timing.rtt_max);
        let to_leader = if self.facts.leads { Duration::ZERO } else { rtt };
        let basis = match (measured, self.local.fsync_measured) {
            (Some(_), true) => "measured round trip and disk".to_owned(),
            (Some(_), false) => "measured round trip, assumed disk".to_owned(),
            (None, _) => "greatest round trip of the lease times".to_owned(),
        };
        (rtt + to_leader + self.local.fsync, basis)
    }

    fn stop_time(&self, t: &Ticket, from: &MemberName) -> (Duration, String) {
        let here = *from == self.facts.me;
        let last = self.local.measured.get(&t.id).and_then(|m| m.stop).filter(|_| here);
        match last {
            Some(d) => (d, "the last stop at this site".to_owned()),
            None => (t.policy.stop_budget, "the stop budget; no stop was measured here".to_owned()),
        }
    }

    fn start_time(&self, t: &Ticket, to: &MemberName) -> (Duration, String) {
        let here = *to == self.facts.me;
        if let Some(d) = self.local.measured.get(&t.id).and_then(|m| m.start).filter(|_| here) {
            return (d, "the last start at this site".to_owned());
        }
        let told = t.attributes.iter().find(|((s, n), _)| s == to && n.as_str() == ATTRIBUTE);
        if let Some(Ok(d)) = told.and_then(|(_, v)| Told::read(v)).map(|t| t.result) {
            return (d, format!("the last start that {to} told of"));
        }
        let resources = self.config.ticket(t.name.as_str()).map_or(0, |c| c.resources.len());
        if resources == 0 && here {
            return (Duration::ZERO, "nothing runs under it here".to_owned());
        }
        (Duration::ZERO, format!("unknown: no start at {to} was measured yet"))
    }

    fn refusal(
        &self,
        t: &Ticket,
        from: Option<&MemberName>,
        to: Option<&MemberName>,
    ) -> Option<String> {
        if !self.facts.quorate() {
            return Some(format!("no majority is reached: {}", self.facts.why_not_quorate()));
        }
        match (from, to) {
            (None, None) => Some("it is not held by any site".to_owned()),
            (Some(from), Some(to)) if from == to => Some(format!("{to} holds it already")),
            (_, None) => None,
            (from, Some(to)) => {
                if from.is_none() && t.proof_missing().is_some() {
                    return Some("it waits for proof that its old holder is down".to_owned());
                }
                match self.facts.eligible.get(&t.id).and_then(|s| s.get(to)) {
                    Some(Ok(_)) => None,
                    Some(Err(why)) => Some(why.clone()),
                    None => Some(format!("{to} is not a site")),
                }
            }
        }
    }
}

fn loss_window(
    t: &Ticket,
    from: Option<&MemberName>,
    to: Option<&MemberName>,
    readiness: Option<&Readiness>,
) -> String {
    let lag = readiness
        .and_then(|r| r.tickets.iter().find(|(id, _)| *id == t.id))
        .and_then(|(_, own)| own.lag);
    match (from, to, lag) {
        (_, None, _) => "none: nothing takes over".to_owned(),
        (Some(from), Some(to), Some(lag)) => {
            format!("none if {to} catches up before {from} has stopped; its lag is {}", show(lag))
        }
        (None, Some(to), Some(lag)) => {
            format!("what {to} had not received: its lag is {}", about(lag))
        }
        (Some(_), Some(_), None) => {
            "none by the ticket itself; no replication lag is measured here".to_owned()
        }
        (None, Some(_), None) => {
            "what the last holder wrote and did not replicate; no lag is measured".to_owned()
        }
    }
}

fn undo(t: &Ticket, from: Option<&MemberName>, to: Option<&MemberName>) -> String {
    let name = &t.name;
    match (from, to) {
        (Some(from), Some(_)) => format!("tierce tickets move {name} --to {from}"),
        (Some(from), None) => format!("tierce tickets grant {name} --to {from}"),
        (None, Some(_)) => format!("tierce tickets revoke {name}"),
        (None, None) => String::new(),
    }
}
